"""Rate and concurrency by a scripted clock, and both together in real threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.runs.pace import COOLDOWN_SECONDS, SAVED_SECONDS, Clock, Concurrency, Pace, Rate


class Script:
    """A clock that moves when somebody waits."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.clock = Clock(lambda: self.time, self.wait)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.time += seconds
        return event.is_set()


@given(st.floats(0.1, 500), st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_no_stretch_of_time_sees_more_calls_than_the_rate_and_what_was_saved(
    per_second: float, rests: list[float]
) -> None:
    now = 50.0
    rate = Rate(per_second, now)
    starts = []
    for rest in rests:
        now += rest
        now += rate.wait(now)
        assert 0 == pytest.approx(rate.wait(now), abs=1e-9)
        rate.take(now)
        starts.append(now)
    for first, begin in enumerate(starts):
        for last in range(first, len(starts)):
            calls = last - first + 1
            assert calls <= per_second * (starts[last] - begin + SAVED_SECONDS) + 1 + 1e-6


def test_calls_that_are_always_ready_go_at_the_rate() -> None:
    script = Script()
    rate = Rate(100, script.time)
    for _ in range(1000):
        script.time += rate.wait(script.time)
        rate.take(script.time)
    assert (1000 - 1 - SAVED_SECONDS * 100) / 100 == pytest.approx(script.time - 1000, abs=0.011)


def test_a_slow_rate_saves_up_one_call_at_most() -> None:
    rate = Rate(0.5, 0.0)
    assert 0 == rate.wait(100.0)
    rate.take(100.0)
    assert 2.0 == rate.wait(100.0)


def test_no_rate_admits_everything() -> None:
    rate = Rate(0, 5.0)
    for _ in range(100):
        assert 0 == rate.wait(5.0)
        rate.take(5.0)


def answered(concurrency: Concurrency, times: int, now: float) -> None:
    for _ in range(times):
        concurrency.answered(now)


def test_it_starts_at_twenty_and_doubles_with_every_sound_round_until_the_first_throttling() -> None:
    concurrency = Concurrency(100)
    limits = [concurrency.limit]
    for _ in range(4):
        answered(concurrency, concurrency.limit, 0.0)
        limits.append(concurrency.limit)
    assert [20, 40, 80, 100, 100] == limits
    assert 3 == Concurrency(3).limit


def test_an_episode_of_throttling_takes_a_fifth_off_once() -> None:
    concurrency = Concurrency(100)
    for at in (0.0, 1.0, COOLDOWN_SECONDS - 0.1):
        concurrency.throttled(at)
        assert 16 == concurrency.limit
    concurrency.throttled(COOLDOWN_SECONDS)
    assert 12 == concurrency.limit
    for episode in range(2, 40):
        concurrency.throttled(episode * COOLDOWN_SECONDS)
    assert 1 == concurrency.limit


def test_it_does_not_grow_in_the_cooldown_and_by_one_a_round_after_it() -> None:
    concurrency = Concurrency(100)
    concurrency.throttled(0.0)
    answered(concurrency, 200, COOLDOWN_SECONDS - 0.1)
    assert 16 == concurrency.limit
    answered(concurrency, 16, COOLDOWN_SECONDS)
    assert 17 == concurrency.limit
    answered(concurrency, 16, COOLDOWN_SECONDS)
    assert 17 == concurrency.limit
    answered(concurrency, 1, COOLDOWN_SECONDS)
    assert 18 == concurrency.limit


def test_errors_hold_up_growth_and_shrink_nothing() -> None:
    concurrency = Concurrency(100)
    for _ in range(50):
        answered(concurrency, 19, 0.0)
        concurrency.troubled()
    assert 20 == concurrency.limit
    answered(concurrency, 20, 0.0)
    assert 40 == concurrency.limit


def test_everyone_waits_where_the_service_says_for_how_long() -> None:
    script = Script()
    pace = Pace(0, 10, script.clock)
    assert not pace.turn()
    pace.busy(throttled=True, retry_after=7.5)
    pace.busy(throttled=False, retry_after=2.0)
    assert 7.5 == pace.quiet()
    assert pace.turn()
    assert 1007.5 == script.time
    assert not pace.turn()


def test_a_turn_waits_for_the_rate_and_says_so() -> None:
    script = Script()
    pace = Pace(8, 10, script.clock)
    held_up = [pace.turn() for _ in range(20)]
    assert [False] * 6 + [True] * 14 == held_up
    assert 1.75 == pytest.approx(script.time - 1000)


def test_who_waits_for_a_turn_asks_every_second_whether_to_go_on() -> None:
    script = Script()
    pace = Pace(0, 10, script.clock)
    pace.busy(throttled=True, retry_after=1000)

    def check() -> None:
        if script.time >= 1003:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pace.turn(check)
    assert 1003 == script.time


def test_only_calls_that_needed_every_slot_speak_for_more_of_them() -> None:
    pace = Pace(0, 100)
    with pace.slot():
        for _ in range(100):
            pace.answered(held_up=False)
    assert 20 == pace.limit
    slots = [pace.slot() for _ in range(20)]
    for slot in slots:
        slot.__enter__()
    for _ in range(100):
        pace.answered(held_up=True)
    assert 20 == pace.limit
    for _ in range(20):
        pace.answered(held_up=False)
    assert 40 == pace.limit
    for slot in slots:
        slot.__exit__(None, None, None)
    assert 0 == pace.in_flight


def test_never_more_are_under_way_than_the_limit_says() -> None:
    pace = Pace(0, 3)
    lock = threading.Lock()
    now, most = 0, 0

    def call(_: int) -> None:
        nonlocal now, most
        with pace.slot():
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.001)
            with lock:
                now -= 1

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(call, range(200)))
    assert 3 == most


def test_stop_wakes_everyone() -> None:
    pace = Pace(0, 1)
    pace.busy(throttled=True, retry_after=1000)
    waiting = threading.Barrier(4)

    def in_slot() -> None:
        with pace.slot():
            waiting.wait()
            pace.turn()

    def for_slot() -> None:
        waiting.wait()
        with pace.slot():
            pass

    def resting() -> None:
        waiting.wait()
        pace.rest(1000)

    with ThreadPoolExecutor(3) as pool:
        ends = [pool.submit(work) for work in (in_slot, for_slot, resting)]
        waiting.wait()
        pace.stop()
        for end in ends:
            with pytest.raises(CancelledError):
                end.result(60)
