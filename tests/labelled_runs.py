"""Small labelled data sets, runs of them, and the two joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from samples import ZEROS, make_origin
from workbench.dataset.images import PROBLEM_COLUMNS, Dataset, truth_matrix
from workbench.evaluation.labelled import Labelled
from workbench.predictions import SCORE, PredictionTable, RunInfo
from workbench.records import OK, Origin, Taxonomy

NOWHERE = Path("nowhere")


def make_dataset(
    labels: Sequence[tuple[str, ...] | None],
    taxonomy: Taxonomy,
    *,
    root: Path = NOWHERE,
    ids: Sequence[str] | None = None,
    splits: Sequence[str] | str = "tune",
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> Dataset:
    """A data set of these labels; without `ids` the images are called 0.png, 1.png, …"""
    names = list(ids or (f"{row}.png" for row in range(len(labels))))
    fixed = {"image_id": names, "path": names, "labels": pd.Series(list(labels), dtype=object), "split": splits}
    frame = pd.DataFrame({**fixed, "group": names, "weight": 1.0, "source": "", **(columns or {})})
    return Dataset("things", root, taxonomy, frame, pd.DataFrame(columns=PROBLEM_COLUMNS))


def make_run(
    dataset: Dataset,
    scores: Any,
    *,
    unknown: Any = None,
    outcomes: Sequence[str] | None = None,
    origin: Origin | None = None,
    complete: bool = False,
    digest: str | None = None,
) -> PredictionTable:
    """A run of the data set with these (n, K) scores."""
    taxonomy, matrix = dataset.taxonomy, np.asarray(scores, dtype=np.float32)
    fixed = {"image_id": dataset.frame["image_id"], "outcome": list(outcomes or [OK] * len(dataset))}
    known = {SCORE + name: matrix[:, column] for column, name in enumerate(taxonomy.categories)}
    none_of_these = {} if unknown is None else {SCORE + taxonomy.unknown: np.asarray(unknown, dtype=np.float32)}
    rest = {"detail": "", "latency_ms": 1.0, "cost_usd": 0.0, "cached": False}
    info = RunInfo(
        schema_version="1.0",
        origin=origin or make_origin(taxonomy),
        taxonomy=taxonomy,
        complete=complete,
        scores_unknown=unknown is not None,
        floors={},
        dataset=digest or dataset.digest,
        dataset_name=dataset.name,
        created="2026-11-23T16:32:00Z",
    )
    return PredictionTable(pd.DataFrame({**fixed, **rest, **known, **none_of_these}), info)


def make_labelled(
    labels: Sequence[tuple[str, ...]],
    scores: Any,
    *,
    taxonomy: Taxonomy,
    unknown: Any = None,
    outcomes: Sequence[str] | None = None,
    complete: bool = False,
    splits: Sequence[str] | str = "tune",
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> Labelled:
    """What `join` gives for such a data set and run, without any file."""
    dataset = make_dataset(labels, taxonomy, splits=splits, columns=columns)
    run = make_run(dataset, scores, unknown=unknown, outcomes=outcomes, complete=complete, digest=ZEROS)
    truth = truth_matrix(list(labels), taxonomy.categories)
    outcome = run.frame["outcome"].to_numpy(dtype=object)
    return Labelled(
        taxonomy=taxonomy,
        info=run.info,
        frame=dataset.frame.drop(columns="path").assign(outcome=outcome),
        scores=run.scores,
        unknown_scores=run.unknown_scores,
        truth=truth,
        answered=outcome == OK,
        unknown=np.asarray(~truth.any(axis=1)),
    )
