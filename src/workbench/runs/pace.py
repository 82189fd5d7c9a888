"""How fast a service is asked, and how many calls are under way at once: as many as it takes, no faster than told.

The number of calls at once follows the rules that Inspect has for adaptive connections: start at 20, grow while all is
well, take a fifth off when the service says "too fast", once per episode; errors and timeouts only hold up growth.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass

SAVED_SECONDS = 0.75
"""After a rest, what was not asked in so many seconds may be asked at once; services save up a second's worth."""
START = 20
SHRINK = 0.8
COOLDOWN_SECONDS = 15.0


@dataclass(frozen=True)
class Clock:
    """Where time comes from and goes to; a test may bring its own."""

    now: Callable[[], float] = time.monotonic
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait
    """Until the event is set, or so many seconds; True if it is set."""


USUAL_CLOCK = Clock()


class Rate:
    """Admits calls evenly; not for several threads at once."""

    def __init__(self, per_second: float, now: float) -> None:
        """per_second  0 admits every call at once."""
        self._step = 1 / per_second if per_second else 0.0
        self._saved = max(SAVED_SECONDS - self._step, 0.0)
        self._due = now - self._saved

    def wait(self, now: float) -> float:
        """Seconds until the next call may start."""
        return max(0.0, self._due - now)

    def take(self, now: float) -> None:
        """A call starts."""
        self._due = max(self._due, now - self._saved) + self._step


class Concurrency:
    """How many calls may be under way at once (`limit`); not for several threads at once."""

    def __init__(self, most: int) -> None:
        self.limit = min(START, most)
        self._most = most
        self._sound = 0
        """Answers since the limit last changed or something went wrong."""
        self._cut_at: float | None = None

    def answered(self, now: float) -> None:
        """A call came back well while all of the limit was in use: a whole round of these, and the limit grows.

        To twice as many until the service first says "too fast", by one from then on.
        """
        if self._cut_at is not None and now < self._cut_at + COOLDOWN_SECONDS:
            return
        self._sound += 1
        if self._sound >= self.limit:
            self._sound = 0
            self.limit = min(self._most, self.limit * 2 if self._cut_at is None else self.limit + 1)

    def throttled(self, now: float) -> None:
        """The service said "too fast"; what it says within the cooldown belongs to the same episode."""
        self._sound = 0
        if self._cut_at is None or now >= self._cut_at + COOLDOWN_SECONDS:
            self.limit = max(1, int(self.limit * SHRINK))
            self._cut_at = now

    def troubled(self) -> None:
        """An error or a timeout: the round begins anew."""
        self._sound = 0


class Pace:
    """Both together, for the threads of one run; `stop` wakes all that wait, with CancelledError."""

    def __init__(self, per_second: float, most: int, clock: Clock = USUAL_CLOCK) -> None:
        self._clock = clock
        self._rate = Rate(per_second, clock.now())
        self._concurrency = Concurrency(most)
        self._in_flight = 0
        self._quiet_until = clock.now()
        self._stopped = threading.Event()
        self._free = threading.Condition()
        self._turn = threading.Lock()
        """Held by the one thread that waits for the next turn; the others stand in line behind it."""

    @property
    def limit(self) -> int:
        """Calls that may be under way at once, now."""
        return self._concurrency.limit

    @property
    def in_flight(self) -> int:
        """Calls under way, those that wait for another attempt included."""
        return self._in_flight

    @property
    def stopped(self) -> bool:
        """Nothing new starts."""
        return self._stopped.is_set()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A place among the calls that are under way at once."""
        with self._free:
            while self._in_flight >= self.limit and not self._stopped.is_set():
                self._free.wait()
            self._check()
            self._in_flight += 1
        try:
            yield
        finally:
            with self._free:
                self._in_flight -= 1
                self._free.notify(max(0, self.limit - self._in_flight))

    def turn(self, check: Callable[[], None] = lambda: None) -> bool:
        """Wait until a call may start. True where the rate, and not the number of calls at once, held it up.

        `check` is asked at least every second meanwhile, and may raise.
        """
        held_up = False
        with self._turn:
            while True:
                self._check()
                check()
                now = self._clock.now()
                with self._free:
                    quiet, due = self._quiet_until - now, self._rate.wait(now)
                if max(quiet, due) <= 0:
                    self._rate.take(now)
                    return held_up
                held_up = True
                self._clock.wait(self._stopped, min(1.0, max(quiet, due)))

    def answered(self, held_up: bool) -> None:
        """A call came back well; only one that needed all of the limit speaks for a larger one."""
        with self._free:
            if not held_up and self._in_flight >= self.limit:
                self._concurrency.answered(self._clock.now())
                self._free.notify(max(0, self.limit - self._in_flight))

    def busy(self, throttled: bool, retry_after: float | None) -> None:
        """A call came back without an answer. Where the service says how long it wants to be left alone, all wait."""
        with self._free:
            now = self._clock.now()
            if throttled:
                self._concurrency.throttled(now)
            else:
                self._concurrency.troubled()
            self._quiet_until = max(self._quiet_until, now + (retry_after or 0.0))

    def quiet(self) -> float:
        """Seconds for which the service still wants to be left alone."""
        return max(0.0, self._quiet_until - self._clock.now())

    def rest(self, seconds: float, check: Callable[[], None] | None = None) -> None:
        """Wait before another attempt; `check`, if there is one, is asked every second meanwhile, and may raise."""
        until = self._clock.now() + seconds
        while (left := until - self._clock.now()) > 0:
            if check is not None:
                check()
            self._clock.wait(self._stopped, left if check is None else min(1.0, left))
            self._check()

    def stop(self) -> None:
        """Nothing new starts."""
        self._stopped.set()
        with self._free:
            self._free.notify_all()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise CancelledError
