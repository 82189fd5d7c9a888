"""A budget holds whatever calls cost, however many are under way."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import BudgetError
from workbench.runs.spending import ENDING_SECONDS, Spending

cents = st.integers(0, 500).map(lambda cents: cents / 100)


@given(cents, st.lists(st.tuples(cents, st.floats(0, 1)), max_size=40), st.data())
def test_spent_and_set_aside_never_exceed_the_budget(
    budget: float, calls: list[tuple[float, float]], data: st.DataObject
) -> None:
    spending = Spending(budget, 0.0, lambda: 0.0)
    under_way: list[tuple[Decimal, float]] = []
    for worst, share in calls:
        while under_way and data.draw(st.booleans()):
            spending.book(*under_way.pop())
        needed = Decimal(repr(spending.usd)) + sum(reserved for reserved, _ in under_way) + Decimal(repr(worst))
        if needed > Decimal(repr(budget)):
            while under_way:
                spending.book(*under_way.pop())
        try:
            under_way.append((spending.reserve(worst), worst * share))
        except BudgetError:
            assert Decimal(repr(spending.usd)) + Decimal(repr(worst)) > Decimal(repr(budget)) - Decimal("1e-12")
        assert spending.usd + float(sum(reserved for reserved, _ in under_way)) <= budget + 1e-9
    for reserved, cost in under_way:
        spending.book(reserved, cost)
    assert spending.usd <= budget + 1e-9


def test_threads_keep_to_the_budget_and_use_it_up() -> None:
    spending = Spending(1.0, 0.0, time.monotonic)
    lock = threading.Lock()
    ended = []

    def call(number: int) -> None:
        try:
            reserved = spending.reserve(0.1)
        except BudgetError as error:
            with lock:
                ended.append(str(error))
            return
        time.sleep(0.002)
        spending.book(reserved, 0.05 if number % 2 else 0.1)
        assert spending.usd <= 1.0

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(100)))
    assert 0.9 < spending.usd <= 1.0
    assert ended
    assert "the budget of $1.0000 does not hold another call" in ended[0]
    assert "the next one could cost $0.1000" in ended[0]


def test_three_dimes_fit_into_thirty_cents() -> None:
    spending = Spending(0.3, 0.0, time.monotonic)
    for _ in range(3):
        spending.book(spending.reserve(0.1), 0.1)
    assert 0.3 == spending.usd
    with pytest.raises(BudgetError):
        spending.reserve(0.0001)
    spending.book(spending.reserve(0.0), 0.0)


def test_without_a_budget_everything_fits_and_is_counted() -> None:
    spending = Spending(None, 0.0, time.monotonic)
    first, second = spending.reserve(1e6), spending.reserve(1e6)
    spending.book(first, 12.5)
    spending.book(second, 0.25)
    assert 12.75 == spending.usd
    assert 1e6 == spending.mean_worst_usd


def test_what_may_fit_later_waits_for_it() -> None:
    spending = Spending(1.0, 0.0, time.monotonic)
    first = spending.reserve(0.9)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(spending.reserve, 0.5)
        time.sleep(0.02)
        assert not second.done()
        spending.book(first, 0.1)
        assert Decimal("0.5") == second.result(60)


def test_stop_wakes_who_waits() -> None:
    spending = Spending(1.0, 0.0, time.monotonic)
    spending.reserve(0.9)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(spending.reserve, 0.5)
        time.sleep(0.02)
        spending.stop()
        with pytest.raises(CancelledError):
            second.result(60)


def test_hours_count_while_it_is_on_and_what_switching_off_takes_is_kept_back() -> None:
    now = [0.0]
    spending = Spending(3.0, 4.0, lambda: now[0])
    assert 0.0 == spending.usd
    spending.switch_on(0.1, 300)
    now[0] += 900  # a quarter of an hour
    assert 1.0 == spending.usd == spending.standing_usd
    spending.check()
    first = spending.reserve(0.1)
    spending.book(first, 0.1)
    now[0] += 3600 * (3.0 - 1.1) / 4 - ENDING_SECONDS  # nothing is left but what switching off may take
    spending.check()
    now[0] += 1
    with pytest.raises(BudgetError, match="kept back for switching off"):
        spending.check()
    with pytest.raises(BudgetError):
        spending.reserve(0.0)
    now[0] += ENDING_SECONDS - 1
    spending.switch_off()
    assert 3.0 == pytest.approx(spending.usd, abs=1e-9)
    now[0] += 10_000
    assert 3.0 == pytest.approx(spending.usd, abs=1e-9)


def test_it_is_not_switched_on_where_that_alone_could_exceed_the_budget() -> None:
    least = 4.0 * (1800 + ENDING_SECONDS) / 3600
    with pytest.raises(BudgetError):
        Spending(least + 0.09, 4.0, time.monotonic).switch_on(0.1, 1800)
    spending = Spending(least + 0.1, 4.0, lambda: 0.0)
    spending.switch_on(0.1, 1800)
    assert 0.0 == spending.usd
