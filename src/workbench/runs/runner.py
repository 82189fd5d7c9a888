"""Ask an approach about every image of a data set: the plan, the run, and the same for one image.

All three go the same way (`pipeline`). Whatever happens to an image, it gets one row. An answer is on file before its
row exists, so a run that ends early, however hard, goes on where it stopped.
"""

from __future__ import annotations

import html
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd

from workbench.approaches.base import Approach
from workbench.canonical import binary32
from workbench.dataset.images import Dataset
from workbench.errors import RunError
from workbench.predictions import SCORE, PredictionTable, RunInfo
from workbench.prepare.decode import Unprepared
from workbench.records import Prediction
from workbench.runs.cache import AnswerCache
from workbench.runs.pipeline import RESUMES, Pipeline, describe_origin

Item = TypeVar("Item")
Result = TypeVar("Result")

_WAITING_PER_THREAD = 16


@dataclass(frozen=True)
class Plan:
    """What a run would ask. Nothing was asked to make it."""

    approach: str
    images: int
    unreadable: int
    """Images that cannot be prepared; each becomes a row with its reason."""
    pictures: int
    """Different pictures among the others: the same pixels under two names are one."""
    cached: int
    """Pictures whose answer is kept."""
    to_ask: int
    """Pictures that the run would ask about."""
    decoded: int
    """Files that had to be decoded to tell; a second plan decodes none of them."""
    seconds: float
    """How long making the plan took."""

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in self._rows()
        )
        return f"<table>{cells}</table>"

    def _rows(self) -> tuple[tuple[str, str], ...]:
        return (
            ("approach", self.approach),
            ("images", f"{self.images:,}"),
            ("unreadable", f"{self.unreadable:,}"),
            ("different pictures", f"{self.pictures:,}"),
            ("answered before", f"{self.cached:,}"),
            ("to ask", f"{self.to_ask:,}"),
            ("decoded for this plan", f"{self.decoded:,} in {self.seconds:.1f} s"),
        )


def plan_run(dataset: Dataset, approach: Approach, cache: AnswerCache, progress: bool = False) -> Plan:
    """What `classify` would ask now. Files the cache has not seen are decoded, because answers are kept by pixels.

    Raises RunError if data set and approach differ in their taxonomy, or the cache cannot be used.
    """
    started = time.perf_counter()
    _check_taxonomy(dataset, approach)
    pipeline = Pipeline(approach, cache)
    pictures: set[bytes] = set()
    unreadable = decoded = cached = 0
    files = (dataset.file(path) for path in dataset.frame["path"])
    with closing(_in_order(pipeline.locate, files, approach.parallel)) as places:
        for found, fresh in _shown(places, len(dataset), progress):
            decoded += fresh
            if isinstance(found, Unprepared):
                unreadable += 1
            elif (picture := bytes.fromhex(found)) not in pictures:
                pictures.add(picture)
                cached += cache.answer(found, pipeline.fingerprint) is not None
    return Plan(
        approach=approach.name,
        images=len(dataset),
        unreadable=unreadable,
        pictures=len(pictures),
        cached=cached,
        to_ask=len(pictures) - cached,
        decoded=decoded,
        seconds=time.perf_counter() - started,
    )


def classify(dataset: Dataset, approach: Approach, cache: AnswerCache, progress: bool = False) -> PredictionTable:
    """One row per image, in the data set's order; asks only what the cache does not hold.

    `cached` is True where nothing was asked for the row: the answer was kept, the image cannot be prepared, or the same
    picture was asked under another name. `latency_ms` is that of the answer whenever it was asked, NaN where there is
    none; `cost_usd` what this run spent. Provider failures are rows, are not kept, and are asked again next time.

    Raises RunError if data set and approach differ in their taxonomy, if the cache cannot be used, if an answer comes
    from another model version, or if the approach breaks down; what was answered by then is kept.
    """
    _check_taxonomy(dataset, approach)
    info = _run_info(dataset, approach)
    pipeline = Pipeline(approach, cache)
    scores = np.full((len(dataset), len(info.columns)), np.nan, dtype=np.float32)
    rows = []
    images = zip(dataset.frame["image_id"], dataset.frame["path"], strict=True)
    files = ((image_id, dataset.file(path)) for image_id, path in images)
    try:
        with closing(_in_order(pipeline.classify_file, files, approach.parallel)) as results:
            for place, row in enumerate(_shown(results, len(dataset), progress)):
                rows.append((row.outcome, row.detail, row.latency_ms, row.cost_usd, row.cached))
                scores[place] = [row.scores.get(name, math.nan) for name in info.columns]
    except KeyboardInterrupt as stop:
        stop.add_note(f"{approach.name}: stopped; {RESUMES}")
        raise
    return PredictionTable(_frame(dataset, rows, scores, info.columns), info)


def classify_one(data: bytes, image_id: str, approach: Approach, cache: AnswerCache | None = None) -> Prediction:
    """What `classify` says of one image file's bytes.

    Raises RunError as `classify` does.
    """
    row = Pipeline(approach, cache).classify_bytes(image_id, data)
    return Prediction(image_id, describe_origin(approach), row.outcome, row.scores, row.detail)


def _in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result]:
    """`work` of every item, in their order, in `threads` threads; never far ahead of who takes the results.

    The first exception ends it: nothing new is begun, what is under way is finished.
    """
    failures: list[BaseException] = []

    def attempt(item: Item) -> Result:
        if failures:
            raise CancelledError
        try:
            return work(item)
        except BaseException as error:
            failures.append(error)
            raise

    pool = ThreadPoolExecutor(threads, thread_name_prefix="classify")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(attempt, item))
            if len(waiting) >= threads * _WAITING_PER_THREAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except CancelledError:
        raise failures[0] from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _shown(results: Iterable[Result], total: int, progress: bool) -> Iterable[Result]:
    if not progress:
        return results
    from tqdm.auto import tqdm

    shown: Iterable[Result] = tqdm(results, total=total, unit="image", file=sys.stderr)
    return shown


def _check_taxonomy(dataset: Dataset, approach: Approach) -> None:
    ours, theirs = dataset.taxonomy, approach.taxonomy
    if ours.digest != theirs.digest:
        raise RunError(
            f"{approach.name} was built for {theirs.mode} {list(theirs.categories)} and {theirs.unknown!r}, data set"
            f" {dataset.name!r} is {ours.mode} {list(ours.categories)} and {ours.unknown!r}; build it for that taxonomy"
        )


def _run_info(dataset: Dataset, approach: Approach) -> RunInfo:
    return RunInfo(
        schema_version="1.0",
        origin=describe_origin(approach),
        taxonomy=dataset.taxonomy,
        complete=approach.complete,
        scores_unknown=approach.scores_unknown,
        floors={name: binary32(floor) for name, floor in approach.floors.items()},
        dataset=dataset.digest,
        dataset_name=dataset.name,
        created=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    )


def _frame(
    dataset: Dataset, rows: list[tuple[str, str, float, float, bool]], scores: np.ndarray, columns: tuple[str, ...]
) -> pd.DataFrame:
    outcome, detail, latency, cost, cached = zip(*rows, strict=True) if rows else ((),) * 5
    text = partial(pd.Series, dtype="str")
    fixed = {
        "image_id": text(dataset.frame["image_id"].to_list()),
        "outcome": text(outcome),
        "detail": text(detail),
        "latency_ms": pd.Series(latency, dtype="float64"),
        "cost_usd": pd.Series(cost, dtype="float64"),
        "cached": pd.Series(cached, dtype="bool"),
    }
    return pd.DataFrame(fixed | {SCORE + name: scores[:, place] for place, name in enumerate(columns)})
