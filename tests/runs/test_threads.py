"""Threads end as their work does: every result once, the first failure told, nothing left behind."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from workbench.runs.threads import ended_politely, work_through


def classifying() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("classify")]


def test_every_result_comes_once_with_its_place_and_work_does_not_run_ahead() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.001 * (number % 3))
        return number * 10

    results = work_through(work, iter(range(10_000)), 2)
    found = [next(results) for _ in range(50)]
    assert 50 == len({place for place, _ in found})
    assert all(place * 10 == result for place, result in found)
    assert len(begun) <= 50 + 2 * 16
    results.close()
    assert len(begun) <= 50 + 2 * 16
    assert [] == classifying()
    assert {(place, place) for place in range(100)} == set(work_through(lambda item: item, range(100), 3))


def test_a_slow_one_holds_up_nobody() -> None:
    release = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert release.wait(60)
        return number

    results = work_through(work, range(1000), 2)
    assert list(range(1, 1000)) == sorted(next(results)[1] for _ in range(999))
    release.set()
    assert [(0, 0)] == list(results)


def test_what_is_settled_at_once_needs_no_thread() -> None:
    worked: list[int] = []

    def work(number: int) -> int:
        worked.append(number)
        return number

    results = work_through(work, range(100), 2, at_once=lambda number: -number if number % 10 else None)
    assert {(number, -number if number % 10 else number) for number in range(100)} == set(results)
    assert list(range(0, 100, 10)) == sorted(worked)


def test_the_first_failure_ends_the_work() -> None:
    begun: list[int] = []
    halted: list[bool] = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 5:
            raise ZeroDivisionError
        time.sleep(0.2 if number == 0 else 0)
        return number

    with pytest.raises(ZeroDivisionError):
        list(work_through(work, range(1000), 2, lambda: halted.append(True)))
    assert list(range(6)) == sorted(begun)
    assert halted
    assert [] == classifying()


def test_what_follows_from_the_first_failure_is_not_told_instead_of_it() -> None:
    halted = threading.Event()

    def work(number: int) -> int:
        if number == 3:
            time.sleep(0.05)
            raise ZeroDivisionError
        assert halted.wait(60)
        raise KeyError(number)

    with pytest.raises(ZeroDivisionError):
        list(work_through(work, range(4), 4, halted.set))


def test_a_termination_signal_ends_as_an_exception_and_the_handler_is_put_back() -> None:
    put_back: list[bool] = []
    before = signal.getsignal(signal.SIGTERM)

    def ended() -> None:
        with ended_politely():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            finally:
                put_back.append(True)

    with pytest.raises(SystemExit) as caught:
        ended()
    assert [True] == put_back
    assert 143 == caught.value.code
    assert before == signal.getsignal(signal.SIGTERM)


def test_a_handler_of_the_program_stays() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with ended_politely():
            assert signal.SIG_IGN == signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
