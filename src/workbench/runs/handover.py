"""Batches on their way to a service and back: handed in once, found again if that broke off, collected."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeVar

from workbench.approaches.base import Answer, Batch, Batched
from workbench.errors import ProviderError, RunError, ServiceBusyError
from workbench.runs.submissions import Place, Submission, Submissions

Result = TypeVar("Result")

SAME_COMMAND = "run the same command again"

_SETTLING = 60.0
"""Seconds of looking for a batch after which the service has not taken it."""
_LONG_AGO = 3600.0
"""Seconds after which one look tells."""
_ATTEMPTS = 12
"""So many failures in a row, and the run ends."""
_LONGEST_PAUSE = 120.0
_DAY = 86_400.0


@dataclass(frozen=True)
class Clock:
    """Time on this machine."""

    now: Callable[[], float] = time.time
    """Seconds since 1970."""
    sleep: Callable[[float], None] = time.sleep


USUAL_CLOCK = Clock()


class Handover:
    """What one approach's service is handed and gives back. Not for two threads at once.

    keep  takes each answer, with the milliseconds that its batch took, and puts it on file
    sync  sees that what is on file survives a power cut, before a batch is off the list
    say   takes remarks for whoever waits
    """

    def __init__(
        self,
        approach: Batched,
        submissions: Submissions,
        keep: Callable[[Place, Answer, float], None],
        sync: Callable[[], None],
        say: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.approach = approach
        self.submissions = submissions
        self.failed: dict[Place, ProviderError] = {}
        """What came back without an answer."""
        self.costs: dict[Place, float] = {}
        """USD for what came back."""
        self._keep = keep
        self._sync = sync
        self._say = say
        self._clock = clock

    def open(self) -> list[Submission]:
        """What is with the service."""
        return self.submissions.open_of(self.approach.question)

    def find_lost(self) -> None:
        """Find out about each submission whether the service took it, where that is not known.

        Raises RunError where it cannot be told.
        """
        for submission in self.open():
            if not submission.batch:
                self._find(submission)

    def hand_in(self, requests: Mapping[Place, Any], high_usd: float | None) -> str:
        """Hand in questions as one batch, once; back comes its nonce. Raises RunError if the service refuses them.

        Where it is not known whether the service took them, they are handed in again only if it did not.
        """
        attempt = 0
        while True:
            newest = self._patiently(lambda: next(self.approach.batches(), None))
            submission = self.submissions.note(self.approach.question, self.approach.name, requests, newest, high_usd)
            try:
                batch = self.approach.submit({submission.id_of(place): what for place, what in requests.items()})
            except ServiceBusyError as busy:
                if busy.billed and self._find(submission):
                    return submission.nonce
                if not busy.billed:
                    self.submissions.close_as(submission, "void")
                self._pause(attempt, busy)
                attempt += 1
            except ProviderError as error:
                self.submissions.close_as(submission, "void")
                raise RunError(
                    f"{self.approach.name}: the service refused a batch of {len(requests):,} questions, and asked none"
                    f" of them: {error.detail}"
                ) from None
            else:
                self.submissions.confirm(submission, batch)
                return submission.nonce

    def collect_ended(self) -> None:
        """Collect every batch that has ended. To be called by one process at a time; see `Submissions.alone`."""
        for submission in self.open():
            batch = self.look(submission)
            if batch is not None and batch.ended:
                self.collect(submission, batch)

    def look(self, submission: Submission) -> Batch | None:
        """How its batch stands now; None while nobody knows which it is.

        Raises RunError, once, if its answers are kept no longer.
        """
        if not submission.batch:
            return None
        batch = self._patiently(lambda: self.approach.poll(submission.batch))
        if batch is not None and not batch.gone:
            return batch
        if batch is None and not self._too_old(submission):
            raise RunError(
                f"{self.approach.name}: the service does not know batch {submission.batch} of {submission.created} (any"
                f" more). Use the credentials that it was handed in with, and {SAME_COMMAND}; if it was deleted there,"
                " ask without batches"
            )
        self.submissions.close_as(submission, "gone")
        raise RunError(
            f"{self.approach.name}: the answers of batch {submission.batch} ({submission.count:,} questions of"
            f" {submission.created}) are gone: the service keeps them for {self.approach.kept_days} days. The batch is"
            f" off the list now; if you {SAME_COMMAND}, its questions are asked and paid for again"
        )

    def collect(self, submission: Submission, batch: Batch) -> None:
        """Keep every answer of a batch that has ended, and note what has none."""
        self._patiently(lambda: self._collect(submission, batch))

    def _collect(self, submission: Submission, batch: Batch) -> None:
        places = {submission.id_of(place): place for place in self.submissions.places(submission)}
        for name, found in self.approach.collect(batch.id):
            if name not in places:
                if len(places) < submission.count:
                    continue  # nobody else could have known the ids that were found before
                self.submissions.disown(submission)
                return
            place = places.pop(name)
            if place in self.costs:
                continue  # it came before the connection broke
            self.costs[place] = found.cost_usd
            if isinstance(found, ProviderError):
                self.failed[place] = found
            else:
                self._keep(place, found, batch.seconds * 1000)
        for place in places.values():
            self.failed[place] = ProviderError("provider_error", f"batch {batch.id} came back without an answer to it")
            self.costs[place] = 0.0
        self._sync()
        self.submissions.close_as(submission, "collected")

    def _find(self, submission: Submission) -> bool:
        """Whether the service has it; it is on file then."""
        candidates = self._candidates(submission)
        if not candidates and self._clock.now() - submission.noted < _LONG_AGO:
            self._say("it is not known whether the service took a batch; looking for it for a minute")
            waited = 0.0
            while not candidates and waited < _SETTLING:
                self._clock.sleep(_SETTLING / 4)
                waited += _SETTLING / 4
                candidates = self._candidates(submission)
        if not candidates:
            self.submissions.close_as(submission, "void")
            return False
        if len(candidates) > 1:
            raise RunError(
                f"{self.approach.name}: a run broke off while it handed in {submission.count:,} questions, and any of"
                f" the batches {', '.join(batch.id for batch in candidates)} may be these. Their answers will tell:"
                f" wait until they have ended, within a day, and {SAME_COMMAND}. Nothing was handed in again"
            )
        self.submissions.confirm(submission, candidates[0])
        return True

    def _candidates(self, submission: Submission) -> list[Batch]:
        """The batches that may be this submission, by what can be told from outside."""

        def list_later() -> list[Batch]:
            later = takewhile(lambda batch: batch.created >= submission.after, self.approach.batches())
            return [batch for batch in later if batch.id != submission.after_id]

        claimed = self.submissions.claimed()
        found = [
            batch
            for batch in self._patiently(list_later)
            if batch.questions == submission.count and batch.id not in claimed
        ]
        ours = [batch for batch in found if batch.ended and self._holds(batch, submission)]
        return ours or [batch for batch in found if not batch.ended]

    def _holds(self, batch: Batch, submission: Submission) -> bool:
        ids = {submission.id_of(place) for place in self.submissions.places(submission)}
        if batch.gone:
            return False
        first = self._patiently(lambda: next(self.approach.collect(batch.id), None))
        return first is not None and first[0] in ids

    def _too_old(self, submission: Submission) -> bool:
        return self._clock.now() - submission.noted > self.approach.kept_days * _DAY

    def _patiently(self, ask: Callable[[], Result]) -> Result:
        """What `ask` says, however often the service must be asked; to be used for what costs nothing."""
        attempt = 0
        while True:
            try:
                return ask()
            except ServiceBusyError as busy:
                self._pause(attempt, busy)
                attempt += 1

    def _pause(self, attempt: int, busy: ServiceBusyError) -> None:
        if attempt + 1 >= _ATTEMPTS:
            raise RunError(
                f"{self.approach.name}: the service did not answer {_ATTEMPTS} times in a row, last: {busy.detail}."
                f" What it has stays there: {SAME_COMMAND} later"
            ) from busy
        self._clock.sleep(min(_LONGEST_PAUSE, busy.retry_after or 2.0**attempt))
