"""Ask an approach about every image of a data set, or about one.

Both go the same way (`pipeline`). Whatever happens to an image, it gets one row. An answer is on file before its
row exists, so a run that ends early, however hard, goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd

from workbench.approaches.base import Approach, Standing, question_of
from workbench.canonical import binary32
from workbench.dataset.images import Dataset
from workbench.errors import BudgetError
from workbench.predictions import SCORE, PredictionTable, RunInfo
from workbench.records import Origin, Prediction
from workbench.runs.asking import RESUMES, Asker, asker_for
from workbench.runs.cache import AnswerCache
from workbench.runs.claims import Claim
from workbench.runs.limits import USUAL, Limits
from workbench.runs.pipeline import Pipeline
from workbench.runs.plan import Plan, check_taxonomy, plan_run
from workbench.runs.progress import say, shown
from workbench.runs.rows import Row
from workbench.runs.threads import ended_politely, work_through

__all__ = ["Plan", "classify", "classify_one", "plan_run"]

STANDING_USD = "standing_usd"
"""In `RunInfo.settings`: what it cost that the service was switched on; no row bears it."""


def spent_usd(table: PredictionTable) -> float:
    """What making this table cost: its rows, and that the service was switched on."""
    return float(table.frame["cost_usd"].sum()) + float(table.info.settings.get(STANDING_USD, 0.0))


_Image = tuple[str, Path]


def classify(
    dataset: Dataset,
    approach: Approach,
    cache: AnswerCache,
    progress: bool = False,
    limits: Limits = USUAL,
    lacks: Callable[[], str] = str,
) -> PredictionTable:
    """One row per image, in the data set's order; asks only what the cache does not hold.

    `cached` is True where nothing was asked for the row: the answer was kept, the image cannot be prepared, or the same
    picture was asked under another name. `latency_ms` is that of the answer whenever it was asked, NaN where there is
    none; `cost_usd` what this run spent. Provider failures are rows, are not kept, and are asked again next time.

    limits  hold for a service; an approach of this machine runs in as many threads as it says
    lacks   says what is missing to ask (`Service.lacks`); asked before the first question, if there is one

    Raises RunError if data set and approach differ in their taxonomy, if the cache cannot be used, if an answer comes
    from another model version, or if the approach breaks down; BudgetError where the next call might not fit into the
    budget; PrerequisiteError where something is missing, CredentialsError where the service does not take the
    credentials. What was answered by then is kept.
    """
    check_taxonomy(dataset, approach)
    created = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    images = list(zip(dataset.frame["image_id"], map(dataset.file, dataset.frame["path"]), strict=True))
    rows: list[Row | None] = [None] * len(images)
    naming = Thread(target=lambda: dataset.digest, name="digest", daemon=True)  # reads every file: not at the end
    naming.start()
    claim = Claim(cache.path.parent, question_of(approach))
    with ended_politely(), asker_for(approach, limits, lacks, say, claim) as asker:
        pipeline = Pipeline(approach, cache, asker)
        with _explained(pipeline, asker, len(images)):
            if isinstance(approach, Standing) and _must_ask(pipeline, images):
                asker.get_ready()
                if _must_ask(pipeline, images):  # still: another run may have been waited for
                    asker.open()  # here, because Ctrl-C reaches this thread and no other
            with closing(_worked(pipeline, asker, images)) as results:
                for place, row in shown(results, len(images), progress, asker.remark):
                    rows[place] = row
    naming.join()
    done = [row for row in rows if row is not None]
    return table_of(dataset, approach, done, pipeline.origin, created, asker.standing_usd)


def classify_one(data: bytes, image_id: str, approach: Approach, cache: AnswerCache | None = None) -> Prediction:
    """What `classify` says of one image file's bytes.

    Raises RunError as `classify` does.
    """
    with asker_for(approach, say=say) as asker:
        pipeline = Pipeline(approach, cache, asker)
        row = pipeline.classify_bytes(image_id, data)
    return Prediction(image_id, pipeline.origin, row.outcome, row.scores, row.detail)


def _worked(pipeline: Pipeline, asker: Asker, images: list[_Image]) -> Generator[tuple[int, Row]]:
    return work_through(pipeline.classify_file, images, asker.threads, asker.stop, pipeline.settled)


def _must_ask(pipeline: Pipeline, images: list[_Image]) -> bool:
    return any(pipeline.look(path).missing for _, path in images)


@contextmanager
def _explained(pipeline: Pipeline, asker: Asker, images: int) -> Iterator[None]:
    """Whatever ends the run early says what is kept, and what it takes to go on."""
    name = pipeline.approach.name
    try:
        yield
    except BudgetError as error:
        rest = images - pipeline.answered
        raise BudgetError(
            f"{name}: {error}. {pipeline.answered} of {images} images are answered and kept; the other {rest} may take"
            f" up to about ${rest * pipeline.answers.parts * asker.worst_usd:.4f} more (`--plan` says it exactly):"
            " run again with that budget, and only they are asked"
        ) from None
    except (KeyboardInterrupt, SystemExit) as stop:
        stop.add_note(f"{name}: stopped; {RESUMES}")
        raise


def table_of(
    dataset: Dataset, approach: Approach, rows: list[Row], origin: Origin, created: str, standing_usd: float = 0.0
) -> PredictionTable:
    """The table of a run's rows, one per image in the data set's order.

    created       when the run began, in UTC: 2026-11-23T17:00:00Z
    standing_usd  what it cost that the service was switched on
    """
    info = _run_info(dataset, approach, origin, created, standing_usd)
    scores = np.full((len(rows), len(info.columns)), np.nan, dtype=np.float32)
    for place, row in enumerate(rows):
        scores[place] = [row.scores.get(name, math.nan) for name in info.columns]
    return PredictionTable(_frame(dataset, rows, scores, info.columns), info)


def _run_info(dataset: Dataset, approach: Approach, origin: Origin, created: str, standing_usd: float) -> RunInfo:
    return RunInfo(
        schema_version="1.0",
        origin=origin,
        taxonomy=dataset.taxonomy,
        complete=approach.complete,
        scores_unknown=approach.scores_unknown,
        floors={name: binary32(floor) for name, floor in approach.floors.items()},
        dataset=dataset.digest,
        dataset_name=dataset.name,
        created=created,
        settings={STANDING_USD: f"{standing_usd:.6f}"} if standing_usd else {},
    )


def _frame(dataset: Dataset, rows: list[Row], scores: np.ndarray, columns: tuple[str, ...]) -> pd.DataFrame:
    text = partial(pd.Series, dtype="str")
    fixed = {
        "image_id": text(dataset.frame["image_id"].to_list()),
        "outcome": text([row.outcome for row in rows]),
        "detail": text([row.detail for row in rows]),
        "latency_ms": pd.Series([row.latency_ms for row in rows], dtype="float64"),
        "cost_usd": pd.Series([row.cost_usd for row in rows], dtype="float64"),
        "cached": pd.Series([row.cached for row in rows], dtype="bool"),
    }
    return pd.DataFrame(fixed | {SCORE + name: scores[:, place] for place, name in enumerate(columns)})
