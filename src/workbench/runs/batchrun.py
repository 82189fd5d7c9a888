"""The steps of a run in batches: what is missing, handing it in, waiting for it, and the rows that come of it."""

from __future__ import annotations

import math
import os
import sqlite3
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.approaches.base import Answer, Approach, Batched
from workbench.dataset.images import Dataset
from workbench.errors import (
    BudgetError,
    ConfigError,
    InputError,
    PrerequisiteError,
    ProviderError,
    RunError,
)
from workbench.prepare.decode import Prepared, Unprepared
from workbench.records import OK
from workbench.runs.asking import price_advice
from workbench.runs.cache import AnswerCache, KeptAnswer, answer_key
from workbench.runs.claims import WAITS, Claim
from workbench.runs.handover import SAME_COMMAND, Clock, Handover
from workbench.runs.limits import Limits
from workbench.runs.pipeline import RESUMES, Pipeline
from workbench.runs.progress import say, shown
from workbench.runs.rows import Row, failed, unprepared
from workbench.runs.spending import exact_usd
from workbench.runs.submissions import Place, Submission, Submissions
from workbench.runs.threads import work_through

_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 1.0, 1.3, 120.0
"""Seconds between two looks at what is under way: at first, growing by, at most."""
_WAITING = 0.2
_ELSEWHERE = "another run collected its batch, and no answer was kept; run again to ask again"
_NOT_YET = Unprepared("unreadable", "not looked at")


@dataclass(frozen=True)
class Waiting:
    """What is still with the service, where nobody wanted to wait for it."""

    approach: str
    batches: tuple[str, ...]
    questions: int
    high_usd: float | None
    """What they cost at most; None where a price is not known."""

    def __str__(self) -> str:
        batches = "1 batch" if len(self.batches) == 1 else f"{len(self.batches)} batches"
        cost = "" if self.high_usd is None else f", for ${self.high_usd:.4f} at most"
        return (
            f"{self.approach}: {self.questions:,} questions are with the service in {batches}{cost}. They are answered"
            f" within a day, most of them much sooner: {SAME_COMMAND} to collect the answers; nothing is asked twice"
        )


@dataclass(frozen=True)
class _Question:
    """What is asked in one part about a picture, ready to be handed in."""

    place: Place
    request: Any
    bytes: int
    high_usd: float | None


@dataclass(frozen=True)
class _Picture:
    """An image as it was found, and what has to be asked about it."""

    found: str | Unprepared
    questions: tuple[_Question, ...] = ()


class BatchRun:
    """One run in batches; its steps in order are `hand_in`, `wait`, `rows`.

    Raises ConfigError for an approach that takes no batches.
    """

    def __init__(
        self,
        dataset: Dataset,
        approach: Approach,
        cache: AnswerCache,
        submissions: Submissions,
        limits: Limits,
        lacks: Callable[[], str],
        clock: Clock,
    ) -> None:
        self.approach = check_batches(approach)
        self.desk = Handover(self.approach, submissions, self._keep, self._sync, say, clock)
        self._images = [dataset.file(path) for path in dataset.frame["path"]]
        self._cache = cache
        self._look_up_anew()
        self._submissions = submissions
        self._claim = Claim(submissions.path.parent, self.approach.question)
        self._limits = limits
        self._lacks = lacks
        self._clock = clock
        self._found: list[str | Unprepared] = []
        """Of each image: its pixels' digest, or why it has none."""
        self._unusable: dict[str, dict[int, KeptAnswer]] = defaultdict(dict)
        self._begun: set[str] = set()
        self._under_way: dict[Place, str] = {}
        self._awaited: set[str] = set()
        self._learnt = False
        self._other_version: RunError | None = None
        self._lock = threading.Lock()

    def hand_in(self, progress: bool = False) -> None:
        """Find what earlier runs left with the service, collect what has ended, hand in what nobody has asked yet.

        Raises BudgetError before a batch whose worst case does not fit; the batches before it stay with the service.
        """
        self._check_prices()
        told = False
        while True:
            with self._alone():
                if self._claim.take():
                    try:
                        self._hand_in_alone(progress)
                    finally:
                        self._claim.release()
                    return
            if not told:
                say(f"{self.approach.name}: {WAITS}")
            told = True
            self._clock.sleep(_WAITING)

    def _hand_in_alone(self, progress: bool) -> None:
        self._look_up_anew()
        if self.desk.open():
            self._check_ready()
            self.desk.find_lost()
            self.desk.collect_ended()
            self._check_version()
        self._under_way = {
            place: submission.nonce for submission in self.desk.open() for place in self._submissions.places(submission)
        }
        self._begun.clear()
        self._awaited.clear()
        self._hand_in_missing(progress)

    def waiting(self, every: bool = False) -> Waiting | None:
        """What this run waits for, or every batch of this question; None where nothing is with the service."""
        awaited = self.desk.open() if every else self._open()
        if not awaited:
            return None
        highs = [submission.high_usd for submission in awaited]
        return Waiting(
            self.approach.name,
            tuple(submission.batch or "?" for submission in awaited),
            sum(submission.count for submission in awaited),
            None if None in highs else math.fsum(high or 0.0 for high in highs),
        )

    def wait(self, progress: bool = False) -> bool:
        """Wait for what was handed in, and collect it. False where a batch turned out not to be ours: hand in again."""
        pause, awaited = _FIRST_PAUSE, self._open()
        with _bar(sum(submission.count for submission in awaited), progress) as count:
            while awaited:
                self._clock.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * _GROWTH)
                for submission in awaited:
                    if not submission.batch:
                        return False
                    count(self._collect_if_ended(submission))
                awaited = self._open()
        return True

    def rows(self) -> Iterator[Row]:
        """The row of each image, in the data set's order."""
        if not self._learnt:
            self._look_up_anew()
        told: set[str] = set()
        for found in self._found:
            if isinstance(found, Unprepared):
                yield unprepared(found)
                continue
            costs = [
                self.desk.costs[place]
                for part in range(self.answers.parts)
                if (place := Place(found, part)) in self.desk.costs
            ]
            asked = bool(costs) and found not in told
            told.add(found)
            yield replace(self._row(found), cost_usd=math.fsum(costs) if asked else 0.0, cached=not asked)

    def _row(self, pixels: str) -> Row:
        found = self.answers.find(pixels)
        if found.row is not None:
            return found.row
        kept = {**found.kept, **self._unusable.get(pixels, {})}
        for part in found.missing:
            if part not in kept:
                return failed(self.desk.failed.get(Place(pixels, part), ProviderError("provider_error", _ELSEWHERE)))
        return self.answers.read(kept)

    def _hand_in_missing(self, progress: bool) -> None:
        self._found = [_NOT_YET] * len(self._images)
        load: dict[Place, _Question] = {}
        size = 0
        with closing(work_through(self._look, self._images, os.cpu_count() or 1)) as pictures:
            for place, picture in shown(pictures, len(self._images), progress):
                self._found[place] = picture.found
                for question in picture.questions:
                    full = len(load) >= self.approach.most_questions
                    if load and (full or size + question.bytes > self.approach.most_bytes):
                        self._hand_in(load)
                        load, size = {}, 0
                    load[question.place] = question
                    size += question.bytes
        if load:
            self._hand_in(load)

    def _hand_in(self, load: Mapping[Place, _Question]) -> None:
        self._check_ready()
        highs = [question.high_usd for question in load.values()]
        high = None if None in highs else math.fsum(usd or 0.0 for usd in highs)
        self._check_budget(len(load), high)
        requests = {place: question.request for place, question in load.items()}
        self._awaited.add(self.desk.hand_in(requests, high))

    def _look(self, path: Path) -> _Picture:
        """An image: its pixels, and what is to be asked about them, unless another image has the same."""
        look = self._pipeline.look(path)
        if isinstance(look.found, Unprepared):
            return _Picture(look.found)
        with self._lock:
            first = look.found not in self._begun
            self._begun.add(look.found)
        places = [Place(look.found, part) for part in look.missing if first]
        missing = [place for place in places if not self._is_known(place)]
        prepared = self._pipeline.prepared(path) if missing else None
        if prepared is None or isinstance(prepared, Unprepared):
            return _Picture(look.found)
        questions = (self._question(prepared, place, path) for place in missing)
        return _Picture(look.found, tuple(question for question in questions if question is not None))

    def _look_up_anew(self) -> None:
        """Another run may have collected meanwhile, and been the first to learn which model version answers."""
        self._pipeline = Pipeline(self.approach, self._cache)
        self.answers = self._pipeline.answers

    def _is_known(self, place: Place) -> bool:
        """Whether this question was answered in this run, or is with the service."""
        if place not in self._under_way:
            return place in self.desk.costs
        with self._lock:
            self._awaited.add(self._under_way[place])
        return True

    def _question(self, prepared: Prepared, place: Place, path: Path) -> _Question | None:
        """None where nothing can be asked; the reason is on record for the row then."""
        try:
            request = self._pipeline.request(prepared, place.part)
            weight = self.approach.weight(request)
            if weight > self.approach.most_bytes:
                raise ProviderError("provider_error", f"{weight:,} bytes are too many for a batch")
        except ProviderError as error:
            self.desk.failed[place] = error
            return None
        except (InputError, PrerequisiteError):
            raise
        except Exception as error:
            reason = f"asking about {path.name!r} broke down: {type(error).__name__}: {error}"
            raise RunError(f"{self.approach.name}: {reason}; {RESUMES}") from error
        height, width = prepared.pixels.shape[:2]
        return _Question(place, request, weight, self.approach.batch_estimate(width, height).high_usd)

    def _keep(self, place: Place, answer: Answer, latency_ms: float) -> None:
        """Put an answer on file; one of another version, too, and the run ends once all of its batch are."""
        self._learnt = True
        try:
            kept, row = self.answers.keep(place.pixels, place.part, answer, latency_ms)
        except ProviderError as error:
            self.desk.failed[place] = error
        except RunError as error:
            key = answer_key(self.approach.question, answer.model_version, place.part)
            on_file = self._cache.answer(place.pixels, key) or self._cache.unusable(place.pixels, key)
            if on_file is None:
                raise
            self._other_version = error
        else:
            if row.outcome != OK:
                self._unusable[place.pixels][place.part] = kept

    def _sync(self) -> None:
        """Bring the answers so far down to the disk, as a checkpoint of the cache's log does."""
        with closing(sqlite3.connect(self._cache.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _collect_if_ended(self, submission: Submission) -> int:
        """How many questions have come back."""
        batch = self.desk.look(submission)
        if batch is None or not batch.ended:
            return 0
        with self._alone():
            if self._submissions.is_open(submission):
                self.desk.collect(submission, batch)
        self._check_version()
        return submission.count

    def _open(self) -> list[Submission]:
        return [submission for submission in self.desk.open() if submission.nonce in self._awaited]

    def _alone(self) -> AbstractContextManager[None]:
        return self._submissions.alone(say, self._clock.sleep)

    def _check_version(self) -> None:
        if self._other_version is not None:
            raise self._other_version

    def _check_ready(self) -> None:
        if missing := self._lacks():
            raise PrerequisiteError(f"{self.approach.name}: {missing}")

    def _check_prices(self) -> None:
        preparation = self.approach.preparation
        high = self.approach.batch_estimate(preparation.width, preparation.height).high_usd
        if self._limits.budget_usd is not None and high is None:
            raise ConfigError(
                f"{self.approach.name}: a budget cannot be kept without prices: {price_advice(self.approach)}"
            )

    def _check_budget(self, questions: int, high_usd: float | None) -> None:
        """What came back, what is with the service at its worst, and these questions at theirs must fit together."""
        if self._limits.budget_usd is None:
            return
        under_way = self.desk.open()
        for submission in under_way:
            if submission.high_usd is None:
                raise BudgetError(
                    f"{self.approach.name}: batch {submission.batch} was handed in without a price, so nobody knows"
                    f" what is left of the budget: {SAME_COMMAND} once it has ended, within a day, to collect it first"
                )
        spent = [*self.desk.costs.values(), *(submission.high_usd or 0.0 for submission in under_way)]
        left = exact_usd(self._limits.budget_usd) - sum(map(exact_usd, spent), exact_usd(0.0))
        if exact_usd(high_usd or 0.0) > left:
            raise BudgetError(
                f"{self.approach.name}: the budget of ${self._limits.budget_usd:.4f} does not hold the next batch:"
                f" ${max(left, exact_usd(0.0)):.4f} are left, and its {questions:,} questions could cost"
                f" ${high_usd:.4f}; they were not handed in"
            )


def check_batches(approach: Approach) -> Batched:
    """The approach, if it takes batches; raises ConfigError otherwise."""
    if not isinstance(approach, Batched):
        raise ConfigError(f"{approach.name}: takes no batches; ask it without `--batch`")
    return approach


@contextmanager
def _bar(questions: int, progress: bool) -> Iterator[Callable[[int], object]]:
    """Takes how many more have come back."""
    if not progress or not questions:
        yield lambda more: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=questions, unit="question", desc="answered", file=sys.stderr) as bar:
        yield bar.update
