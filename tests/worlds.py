"""Data sets of files whose bytes stand for pictures, runs that know their labels to some degree, and the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.config.goals import Goals, Limit, RejectionGoal, TierGoal
from workbench.dataset.images import PROBLEM_COLUMNS, Dataset
from workbench.evaluation.labelled import join
from workbench.evaluation.thresholds import draft_thresholds
from workbench.predictions import SCORE, PredictionTable, RunInfo
from workbench.records import Draft, Origin, Taxonomy
from workbench.release.gate import Release, release_draft
from workbench.release.ledger import Ledger

CATEGORIES = ("shoe", "boot", "bag")
ACCEPT = TierGoal(action="accept", metric="precision", at_least=0.9)
FLAG = TierGoal(action="review", metric="recall", at_least=0.9)
GOALS = Goals(
    below="pass",
    tiers=(ACCEPT,),
    category={"shoe": (ACCEPT, FLAG)},
    rejection=RejectionGoal(signal="top", unknown_accepted=Limit(at_most=0.5), known_rejected=Limit(at_most=0.2)),
)


def make_world(
    folder: Path, n: int = 2400, seed: int = 1, skill: float = 3.0, groups: Sequence[str] | None = None
) -> tuple[Dataset, PredictionTable]:
    """A data set of n files (their bytes stand for pictures) and a run whose scores know the truth to some degree."""
    rng = np.random.default_rng(seed)
    taxonomy = Taxonomy(CATEGORIES, outside="unknown")
    truth = rng.integers(0, 4, n)
    names = [f"{row}.png" for row in range(n)]
    for row, name in enumerate(names):
        if not (folder / name).exists():  # another process may be reading it
            (folder / name).write_bytes(f"{seed} {row}".encode())
    frame = pd.DataFrame(
        {
            "image_id": names,
            "path": names,
            "labels": [(CATEGORIES[place],) if place < 3 else () for place in truth],
            "split": rng.choice(["tune", "certify"], n, p=[0.35, 0.65]),
            "group": list(groups or names),
            "weight": 1.0,
            "source": np.where(truth == 3, np.where(rng.random(n) < 0.6, "hats", "gloves"), ""),
        }
    )
    dataset = Dataset("world", folder, taxonomy, frame, pd.DataFrame(columns=list(PROBLEM_COLUMNS)))
    logits = rng.normal(size=(n, 3))
    logits[np.flatnonzero(truth < 3), truth[truth < 3]] += skill
    scores = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    return dataset, make_run(dataset, scores)


def make_run(dataset: Dataset, scores: np.ndarray, **changes: object) -> PredictionTable:
    origin = Origin("test-approach", "v1", "f" * 64, "pixels", dataset.taxonomy.digest)
    fixed = {"image_id": dataset.frame["image_id"], "outcome": "ok", "detail": ""}
    frame = pd.DataFrame({**fixed, "latency_ms": 1.0, "cost_usd": 0.0, "cached": False})
    for column, name in enumerate(dataset.taxonomy.categories):
        frame[SCORE + name] = scores[:, column].astype(np.float32)
    info = RunInfo(
        schema_version="1.0",
        origin=origin,
        taxonomy=dataset.taxonomy,
        complete=True,
        scores_unknown=False,
        floors={},
        dataset=dataset.digest,
        dataset_name="world",
        created="2026-01-01T00:00:00Z",
    )
    return PredictionTable(frame, replace(info, **changes))  # type: ignore[arg-type]


def make_draft(dataset: Dataset, table: PredictionTable, goals: Goals = GOALS) -> Draft:
    return draft_thresholds(join(table, dataset), goals, int((dataset.frame["split"] == "certify").sum()))


def run_gate(dataset: Dataset, table: PredictionTable, goals: Goals = GOALS) -> tuple[Draft, Release]:
    """Drafted, and tested as if nobody had looked before."""
    draft = make_draft(dataset, table, goals)
    return draft, release_draft(draft, table, dataset, ledger=Ledger.in_memory())
