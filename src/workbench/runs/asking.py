"""Asking: one owner of pace, budget and repeated attempts, so that none of them is multiplied.

An approach of this machine is asked as it is (`DirectAsker`). A service (`ServiceAsker`) is asked at its rate, within
the budget, again where it was busy, and is switched on before the first question and off at the end if it has to be.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

from workbench.approaches.base import Answer, Approach, Estimate, Service, Standing
from workbench.errors import (
    ConfigError,
    CredentialsError,
    InputError,
    PrerequisiteError,
    ProviderError,
    RunError,
    ServiceBusyError,
)
from workbench.runs.claims import Claim
from workbench.runs.limits import USUAL, Limits
from workbench.runs.pace import USUAL_CLOCK, Clock, Pace
from workbench.runs.spending import Spending

RESUMES = "what was answered is kept, and running again asks only the rest"

FIRST_REST_SECONDS = 0.5
LONGEST_REST_SECONDS = 30.0
GIVEN_UP_IN_A_ROW = 20
"""After so many images without any answer in between the service is out of order, and each image gets one attempt."""
LONGEST_ATTEMPT_SECONDS = 900.0
"""An answer that comes byte by byte would be waited for without end: clients limit the time for a byte, not for all."""
LONGEST_LEAVE_SECONDS = 60.0
"""How long what is under way may take once nothing new is asked."""
_AHEAD = 8
"""Images that are read, looked up and prepared at once, or wait prepared for their call: memory is bounded by them."""
_LOOKING_SECONDS = 0.5
"""Between two looks at an attempt that takes long."""
_HANDOVERS = 4
"""Threads for images that are not called about at the moment, beyond one for each call that may be under way."""


@dataclass(frozen=True)
class Asked:
    """An answer, and what it took."""

    answer: Answer
    latency_ms: float
    """Of the attempt that was answered."""
    cost_usd: float
    """Of all attempts together."""


class DirectAsker:
    """Asks an approach of this machine; waits for nothing and costs nothing."""

    ends_run: tuple[type[Exception], ...] = ()
    """Exceptions that are told as they are; any other means that the approach broke down."""

    def __init__(self, approach: Approach) -> None:
        self._approach = approach
        self.threads = self.ahead = approach.parallel

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def place(self, begun: Callable[[], None]) -> AbstractContextManager[None]:
        """Everything has a place; see `ServiceAsker.place`."""
        return nullcontext()

    def ask(self, request: Any, size: tuple[int, int]) -> Asked:
        """Ask; see `ServiceAsker.ask`."""
        started = time.perf_counter()
        answer = self._approach.ask(request)
        return Asked(answer, (time.perf_counter() - started) * 1000, answer.cost_usd)

    def open(self) -> None:
        """There is nothing to switch on."""

    def get_ready(self) -> None:
        """Nothing is missing."""

    def is_under_way(self, pixels: str, part: int) -> bool:
        """Nothing is asked anywhere else."""
        return False

    def stop(self) -> None:
        """Nobody waits."""

    def remark(self) -> str:
        """Nothing to say beside the progress."""
        return ""

    @property
    def standing_usd(self) -> float:
        """Nothing stands."""
        return 0.0

    @property
    def worst_usd(self) -> float:
        """No call costs anything."""
        return 0.0


class ServiceAsker:
    """Asks a service; a context manager, usable from several threads, that leaves nothing switched on.

    lacks  What is missing to ask, in words; asked before the first question.
    say    Takes remarks for whoever waits.
    claim  What keeps another run from asking the same at the same time; None: nothing does.
    """

    ends_run: tuple[type[Exception], ...] = (InputError, PrerequisiteError, CancelledError)

    def __init__(
        self,
        service: Service,
        limits: Limits = USUAL,
        lacks: Callable[[], str] = str,
        say: Callable[[str], None] | None = None,
        clock: Clock = USUAL_CLOCK,
        claim: Claim | None = None,
    ) -> None:
        self._service = service
        self._claim = claim
        self._limits = limits
        self._lacks = lacks
        self._say = say or _say_on_stderr
        self._clock = clock
        rate = limits.max_rate if limits.max_rate is not None else service.rate
        self._pace = Pace(rate, limits.max_in_flight, clock)
        self.spending = Spending(limits.budget_usd, service.hourly_usd or 0.0, clock.now)
        self._given_up = 0
        """Images in a row that no attempt was answered for."""
        self._answering = False
        """Something was answered in this run."""
        self._trouble = ""
        """Why the service did not answer last, where it has not answered since."""
        self._opening = threading.Lock()
        self._opened = self._switched_on = False
        self._shut: Exception | None = None
        """Why nothing is switched on (any more): that it failed, or that all is over."""
        self.ahead = _AHEAD
        self.threads = limits.max_in_flight + _HANDOVERS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        try:
            self._end()
        finally:
            if self._claim is not None:
                self._claim.release()

    def _end(self) -> None:
        with self._opening:  # what another thread is just switching on is switched off after that
            self._shut = self._shut or CancelledError()
            self._opened = False
            if self._switched_on and isinstance(self._service, Standing):
                try:
                    self._service.stop(self._say)
                except Exception as problem:  # the rows are there, and what still runs is on record
                    self._say(f"{self._service.name}: COULD NOT BE SWITCHED OFF AND COSTS MONEY UNTIL IT IS: {problem}")
                self.spending.switch_off()
                self._switched_on = False

    def get_ready(self) -> None:
        """See that the service can be asked, and wait until no other run asks the same.

        Raises PrerequisiteError for what is missing, ConfigError for a budget without prices.
        """
        if missing := self._lacks():
            raise PrerequisiteError(f"{self._service.name}: {missing}")
        self._check_prices()
        if self._claim is not None:
            self._claim.wait(lambda text: self._say(f"{self._service.name}: {text}"), self._pace.rest)

    def is_under_way(self, pixels: str, part: int) -> bool:
        """Whether a batch that was handed in before asks this already."""
        return self._claim is not None and (pixels, part) in self._claim.under_way

    def open(self) -> None:
        """Get ready, and switch the service on if it has to be; does something the first time only.

        Raises what `get_ready` raises, and BudgetError. What could
        not be switched on is not tried again: whoever comes later gets the same error.
        """
        with self._opening:
            if self._opened:
                return
            if self._shut is not None:
                raise self._shut
            self.get_ready()
            if isinstance(self._service, Standing):
                self._switch_on(self._service)
            self._opened = True

    @contextmanager
    def place(self, begun: Callable[[], None]) -> Iterator[None]:
        """A place among the calls that are under way; to be held until the answer is on file, so that a process that is
        killed loses no more than these. `begun` is called once it is there.

        Raises CancelledError once `stop` was called.
        """
        with self._pace.slot():
            begun()
            yield

    def ask(self, request: Any, size: tuple[int, int]) -> Asked:
        """Ask, again and again where the service is busy, until it answers or the time for one image is over.

        size  width and height of the prepared pixels, for the worst case of the cost

        Raises ProviderError for this image (with what all attempts cost); for the run CredentialsError, BudgetError,
        and RunError where nothing at all was answered about many images; CancelledError once `stop` was called.
        """
        if not self._opened:
            self.open()
        return self._attempts(request, self._worst(self._service.estimate(*size)))

    def stop(self) -> None:
        """Nothing new is asked, and who waits is woken; what is under way is finished."""
        self._pace.stop()
        self.spending.stop()

    def remark(self) -> str:
        """What was spent so far, and how many calls are under way."""
        in_flight = f"${self.spending.usd:.4f}, {self._pace.in_flight} of {self._pace.limit} in flight"
        return in_flight if not self._trouble else f"{in_flight}, {self._trouble}"

    @property
    def standing_usd(self) -> float:
        """What it cost that the service was switched on."""
        return self.spending.standing_usd

    @property
    def worst_usd(self) -> float:
        """The worst case of a call, as the mean over those so far."""
        return self.spending.mean_worst_usd

    def _switch_on(self, service: Standing) -> None:
        preparation = service.preparation
        worst = self._worst(service.estimate(preparation.width, preparation.height))
        self.spending.switch_on(worst, service.start_seconds)
        self._switched_on = True
        try:
            service.start(self._say)
        except BaseException as error:
            self._shut = error if isinstance(error, Exception) else CancelledError()
            raise

    def _attempts(self, request: Any, worst: float) -> Asked:
        spent, attempt = 0.0, 0
        deadline: float | None = None

        def check() -> None:
            self.spending.check()
            now, quiet = self._clock.now(), self._pace.quiet()
            if quiet and now + quiet > (now + self._limits.seconds_per_image if deadline is None else deadline):
                reason = f"the service wants to be left alone for {quiet:.0f} s, longer than one image may take"
                raise ProviderError("provider_error", f"{reason} ({self._limits.seconds_per_image:g} s)", spent)

        while True:
            reserved = self.spending.reserve(worst)
            try:
                held_up = self._pace.turn(check)
            except BaseException:
                self.spending.book(reserved, 0.0)
                raise
            if deadline is None:
                deadline = self._clock.now() + self._limits.seconds_per_image
            try:
                asked = self._once(request, reserved, worst)
            except ServiceBusyError as busy:
                spent += worst if busy.billed else 0.0
                self._pace.busy(busy.throttled, busy.retry_after)
                self._note_trouble(busy.detail)
                rest = max(_rest(attempt), busy.retry_after or 0.0, self._pace.quiet())
                if self._clock.now() + rest > deadline or self._given_up >= GIVEN_UP_IN_A_ROW:
                    self._give_up(busy.detail)
                    reason = f"{busy.detail}; given up after {attempt + 1} attempt{'s' if attempt else ''}"
                    raise ProviderError("provider_error", reason, spent) from None
                attempt += 1
                self._pace.rest(rest, self.spending.check if self._service.hourly_usd else None)
            except ProviderError as error:
                self._note_answer()
                error.cost_usd += spent
                raise
            else:
                self._note_answer()
                self._pace.answered(held_up)
                return Asked(asked.answer, asked.latency_ms, asked.cost_usd + spent)

    def _note_answer(self) -> None:
        self._given_up, self._answering, self._trouble = 0, True, ""

    def _note_trouble(self, detail: str) -> None:
        if not self._trouble and not self._answering:
            patience = f"{self._limits.seconds_per_image:g}"
            self._say(f"{self._service.name}: no answer yet ({detail}); each image is tried for {patience} s")
        self._trouble = detail

    def _give_up(self, detail: str) -> None:
        self._given_up += 1
        if not self._answering and self._given_up >= GIVEN_UP_IN_A_ROW:
            raise RunError(
                f"{self._service.name}: not one answer about the first {self._given_up} images: {detail}. Is the"
                f" address right, and the service there? {RESUMES}"
            )

    def _once(self, request: Any, reserved: Decimal, worst: float) -> Asked:
        """One attempt, booked whatever becomes of it."""
        cost = worst  # of an attempt that breaks down in a way nobody foresaw
        started = time.perf_counter()
        try:
            answer = self._answer(request)
            cost = answer.cost_usd
            return Asked(answer, (time.perf_counter() - started) * 1000, cost)
        except ServiceBusyError as busy:
            cost = worst if busy.billed else 0.0
            raise
        except ProviderError as error:
            cost = error.cost_usd
            raise
        except CredentialsError as error:
            cost = 0.0
            raise CredentialsError(f"{self._service.name}: {error}; {RESUMES}") from None
        finally:
            self.spending.book(reserved, cost)

    def _answer(self, request: Any) -> Answer:
        """One attempt, in a thread that is left to itself where it does not come to an end.

        Raises what `Service.ask` raises, and BudgetError where the hours have eaten the budget meanwhile.
        """
        attempt: Future[Answer] = Future()

        def ask() -> None:
            try:
                attempt.set_result(self._service.ask(request))
            except BaseException as error:
                attempt.set_exception(error)

        threading.Thread(target=ask, name="attempt", daemon=True).start()
        begun = time.monotonic()
        leaving: float | None = None
        while True:
            now = time.monotonic()
            if leaving is None and self._pace.stopped:
                leaving = now
            if now - begun >= LONGEST_ATTEMPT_SECONDS:
                raise ServiceBusyError(f"no whole answer within {LONGEST_ATTEMPT_SECONDS:.0f} s", billed=True)
            if leaving is not None and now - leaving >= LONGEST_LEAVE_SECONDS:
                raise CancelledError
            try:
                return attempt.result(_LOOKING_SECONDS)
            except TimeoutError:
                if attempt.done():  # it is the attempt that says so
                    raise
            if self._service.hourly_usd:
                self.spending.check()

    def _worst(self, estimate: Estimate) -> float:
        return estimate.high_usd or 0.0

    def _check_prices(self) -> None:
        if self._limits.budget_usd is None:
            return
        preparation = self._service.preparation
        estimate = self._service.estimate(preparation.width, preparation.height)
        if estimate.high_usd is None or self._service.hourly_usd is None:
            raise ConfigError(
                f"{self._service.name}: a budget cannot be kept without prices: {price_advice(self._service)}"
            )


def price_advice(service: Service) -> str:
    """Which price is missing, and where to put it."""
    note = service.price_note or "they are not known"
    return note if "[prices]" in note else f"{note}; [prices] in workbench.toml sets them"


Asker = DirectAsker | ServiceAsker


def asker_for(
    approach: Approach,
    limits: Limits = USUAL,
    lacks: Callable[[], str] = str,
    say: Callable[[str], None] | None = None,
    claim: Claim | None = None,
) -> AbstractContextManager[Asker]:
    """Who asks this approach."""
    if isinstance(approach, Service):
        return ServiceAsker(approach, limits, lacks, say, claim=claim)
    return DirectAsker(approach)


def _rest(attempt: int) -> float:
    """Seconds before another attempt: twice as long each time, and never the same for two threads."""
    longest = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2.0**attempt)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  spreads attempts, protects nothing


def _say_on_stderr(remark: str) -> None:
    sys.stderr.write(remark + "\n")
