"""A budget that is never exceeded: the worst case of a call is set aside before it starts, its real cost booked after.

Sums are kept in decimal: three calls at 0.10 fit into 0.30.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from decimal import Decimal

from workbench.errors import BudgetError

ENDING_SECONDS = 900.0
"""How long the last calls and switching off may take: set aside as long as it is on."""
_NOTHING = Decimal(0)


class Spending:
    """What a run has spent, and whether the next call fits; usable from several threads.

    budget_usd  None: nothing is held up, and spending is only counted
    hourly_usd  of a service that stands: runs from `switch_on` to `switch_off`
    now         seconds, by a clock that never goes back
    """

    def __init__(self, budget_usd: float | None, hourly_usd: float, now: Callable[[], float]) -> None:
        self._budget = None if budget_usd is None else exact_usd(budget_usd)
        self._hourly = exact_usd(hourly_usd)
        self._now = now
        self._booked = _NOTHING
        self._reserved = _NOTHING
        self._worst_cases: tuple[Decimal, int] = (_NOTHING, 0)
        self._stood = _NOTHING
        self._on_since: float | None = None
        self._stopped = False
        self._change = threading.Condition()

    @property
    def usd(self) -> float:
        """Spent so far; what stands counts by the second."""
        with self._change:
            return float(self._booked + self._standing())

    @property
    def standing_usd(self) -> float:
        """The part of it that is for standing, used or not."""
        with self._change:
            return float(self._standing())

    @property
    def mean_worst_usd(self) -> float:
        """The worst case of a call, as the mean over those that were asked for."""
        total, count = self._worst_cases
        return float(total / count) if count else 0.0

    def reserve(self, worst_usd: float) -> Decimal:
        """Set a call's worst case aside; waits where it may fit once others have come back.

        Raises BudgetError where it does not fit although no other call is under way.
        """
        worst = exact_usd(worst_usd)
        with self._change:
            self._count(worst)
            while not self._fits(worst):
                if self._reserved == _NOTHING:
                    raise self._too_much(worst)
                self._change.wait()
                if self._stopped:
                    raise CancelledError
            self._reserved += worst
        return worst

    def check(self) -> None:
        """Raises BudgetError where time alone has eaten what was set aside."""
        with self._change:
            if not self._fits(_NOTHING):
                raise self._too_much(_NOTHING)

    def book(self, reserved: Decimal, cost_usd: float) -> None:
        """A call is over: what was set aside for it is free again, what it cost is spent."""
        with self._change:
            self._reserved -= reserved
            self._booked += exact_usd(cost_usd)
            self._change.notify_all()

    def switch_on(self, worst_usd: float, starting_seconds: float) -> None:
        """The hours begin. Raises BudgetError where not even switching on, one call and switching off would fit.

        starting_seconds  How long switching on may take.
        """
        with self._change:
            self._count(exact_usd(worst_usd))
            whole = exact_usd(worst_usd) + self._for(starting_seconds + ENDING_SECONDS)
            if not self._fits(whole):
                raise self._too_much(whole)
            self._on_since = self._now()

    def switch_off(self) -> None:
        """The hours end."""
        with self._change:
            self._stood, self._on_since = self._standing(), None

    def stop(self) -> None:
        """Whoever waits for a place in the budget waits no more."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def _count(self, worst: Decimal) -> None:
        total, count = self._worst_cases
        self._worst_cases = total + worst, count + 1

    def _fits(self, more: Decimal) -> bool:
        return self._budget is None or self._needed() + more <= self._budget

    def _needed(self) -> Decimal:
        """Spent, set aside, and what switching off will take."""
        ending = _NOTHING if self._on_since is None else self._for(ENDING_SECONDS)
        return self._booked + self._reserved + self._standing() + ending

    def _standing(self) -> Decimal:
        return self._stood + (_NOTHING if self._on_since is None else self._for(self._now() - self._on_since))

    def _for(self, seconds: float) -> Decimal:
        return self._hourly * exact_usd(seconds) / 3600 if self._hourly else _NOTHING

    def _too_much(self, more: Decimal) -> BudgetError:
        spent = self._booked + self._standing()
        ending = self._needed() - spent - self._reserved
        aside = f" and ${ending:.4f} kept back for switching off" if ending else ""
        return BudgetError(
            f"the budget of ${self._budget or _NOTHING:.4f} does not hold another call: ${spent:.4f} spent{aside}, and"
            f" the next one could cost ${more:.4f}"
        )


def exact_usd(usd: float) -> Decimal:
    """The decimal number that people mean by a double."""
    return Decimal(repr(float(usd)))
