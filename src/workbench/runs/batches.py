"""A run in batches: the same questions and the same table as `runner.classify`, for less money, within a day.

prepare → hand in → wait → collect → table. What was handed in is on file (`submissions`), so whoever runs the same
command again, after a crash, on purpose or at the same time, goes on with the batches that the service has. Answers are
kept under the keys of the live run: what one has asked the other does not ask again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from workbench.approaches.base import Approach
from workbench.dataset.images import Dataset
from workbench.errors import BudgetError, CredentialsError
from workbench.predictions import PredictionTable
from workbench.runs.asking import RESUMES
from workbench.runs.batchrun import BatchRun, Waiting, check_batches
from workbench.runs.cache import AnswerCache
from workbench.runs.handover import USUAL_CLOCK, Clock
from workbench.runs.limits import USUAL, Limits
from workbench.runs.plan import Plan, check_taxonomy, plan_run
from workbench.runs.runner import table_of
from workbench.runs.submissions import FILE, Submissions
from workbench.runs.threads import ended_politely

__all__ = ["FILE", "classify_in_batches", "plan_batches"]


def classify_in_batches(
    dataset: Dataset,
    approach: Approach,
    cache: AnswerCache,
    store: Path,
    progress: bool = False,
    limits: Limits = USUAL,
    wait: bool = True,
    lacks: Callable[[], str] = str,
    clock: Clock = USUAL_CLOCK,
) -> PredictionTable | Waiting:
    """The table that `classify` makes, of answers that the service gave in batches; all but cost and latency is alike.

    store   folder that remembers what was handed in
    limits  the budget alone counts here: the worst case of a whole batch must fit before it is handed in
    wait    False: hand in what is missing and collect what is there; `Waiting` where something is still to come
    lacks   says what is missing to ask (`Service.lacks`); asked before the service is

    `cost_usd` is what a row's questions, collected in this run, cost; `latency_ms` how long their batch took.
    Questions that came back without an answer (failed, expired, canceled) are rows, and are asked again next time.

    Raises ConfigError for an approach that takes no batches, and whatever else `classify` raises; RunError also where
    answers are gone or nobody can tell which batch is whose. What the service has stays there, and is not asked twice.
    """
    check_taxonomy(dataset, approach)
    created = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    with ended_politely(), Submissions(store / FILE) as submissions:
        run = BatchRun(dataset, approach, cache, submissions, limits, lacks, clock)
        with _explained(run):
            run.hand_in(progress)
            while (waiting := run.waiting()) is not None:
                if not wait:
                    return waiting
                if not run.wait(progress):
                    run.hand_in(progress)
        return table_of(dataset, approach, list(run.rows()), run.answers.origin, created)


def plan_batches(dataset: Dataset, approach: Approach, cache: AnswerCache, store: Path, progress: bool = False) -> Plan:
    """What `classify_in_batches` would hand in now, at the prices of batches, and what the service has already.

    Nobody is asked. Raises ConfigError for an approach that takes no batches, and whatever else `plan_run` raises.
    """
    batched = check_batches(approach)
    with Submissions(store / FILE) as submissions:
        under_way = {place for one in submissions.open_of(batched.question) for place in submissions.places(one)}
    return plan_run(dataset, approach, cache, progress, under_way=under_way)


@contextmanager
def _explained(run: BatchRun) -> Iterator[None]:
    """Whatever ends the run early says what is with the service."""
    try:
        yield
    except (BudgetError, CredentialsError) as error:
        left = run.waiting(every=True)
        raise type(error)(f"{error}. {left}" if left else str(error)) from None
    except (KeyboardInterrupt, SystemExit) as stop:
        stop.add_note(f"stopped; {run.waiting(every=True) or RESUMES}")
        raise
