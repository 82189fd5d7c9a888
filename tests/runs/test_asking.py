"""One owner of retries, against a service that throttles, errs and hangs up, on a real socket."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servers.base import Reply
from toy_service import PRICE, ToyServer, ToyService, ToyStanding
from workbench.approaches.base import Service, Standing
from workbench.errors import BudgetError, ConfigError, CredentialsError, PrerequisiteError, ProviderError, RunError
from workbench.runs import asking
from workbench.runs.asking import DirectAsker, ServiceAsker, asker_for
from workbench.runs.limits import Limits
from workbench.runs.pace import Clock
from workbench.runs.spending import ENDING_SECONDS

SIZE = (8, 8)


class Leaping:
    """A clock that leaps over every wait."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.waits: list[float] = []
        self.clock = Clock(lambda: time.monotonic() + self.ahead, self.wait)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.ahead += seconds
        return event.is_set()


@pytest.fixture
def server() -> Iterator[ToyServer]:
    with ToyServer() as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rests of milliseconds."""
    monkeypatch.setattr(asking, "FIRST_REST_SECONDS", 0.002)
    monkeypatch.setattr(asking, "LONGEST_REST_SECONDS", 0.02)


def question(number: int = 0, part: int = 0) -> dict[str, Any]:
    return {"pixels": f"{number:064x}", "mean": float(number % 256), "part": part}


def ask(asker: ServiceAsker, number: int = 0) -> asking.Asked:
    with asker.place(lambda: None):
        return asker.ask(question(number), SIZE)


def test_the_toys_keep_the_contract() -> None:
    assert isinstance(ToyService(""), Service)
    assert isinstance(ToyStanding(""), Standing)
    assert not isinstance(ToyService(""), Standing)


def test_an_answer_is_booked_and_timed(server: ToyServer) -> None:
    server.latency = 0.02
    with asker_for(ToyService(server.url)) as asker:
        assert isinstance(asker, ServiceAsker)
        begun: list[bool] = []
        with asker.place(lambda: begun.append(True)):
            asked = asker.ask(question(7), SIZE)
        assert ({"mean": 7.0}, "toy-1", PRICE) == (asked.answer.raw, asked.answer.model_version, asked.cost_usd)
        assert asked.latency_ms >= 20
        assert [True] == begun
        assert PRICE == asker.spending.usd
        assert "$0.2500, 0 of 20 in flight" == asker.remark()


def test_a_busy_service_is_asked_again_after_longer_and_longer_rests(server: ToyServer) -> None:
    server.faults.extend([Reply(503, b""), Reply(500, b""), Reply(429, b""), Reply(0, b"", dropped=True)])
    leaping = Leaping()
    with ServiceAsker(ToyService(server.url), clock=leaping.clock) as asker:
        asked = ask(asker, 3)
    assert {"mean": 3.0} == asked.answer.raw
    assert 5 == len(server.seen)
    for rest, longest in zip(leaping.waits, (0.5, 1.0, 2.0, 4.0), strict=True):
        assert longest / 2 <= rest <= longest
    assert 2 * PRICE == asked.cost_usd == asker.spending.usd  # the one that hung up may have been billed


def test_it_gives_up_when_the_time_for_one_image_is_over(server: ToyServer) -> None:
    server.fault = lambda seen: Reply(503, b"")
    leaping = Leaping()
    service = ToyService(server.url)
    with ServiceAsker(service, Limits(seconds_per_image=120), clock=leaping.clock) as asker:
        with pytest.raises(ProviderError, match=r"status 503; given up after \d+ attempts") as caught:
            ask(asker)
        assert ("provider_error", 0.0) == (caught.value.outcome, caught.value.cost_usd)
        assert 90 <= sum(leaping.waits) <= 120
        assert max(leaping.waits) <= asking.LONGEST_REST_SECONDS
        assert len(leaping.waits) + 1 == len(server.seen)
        server.fault = lambda seen: None
        assert {"mean": 1.0} == ask(asker, 1).answer.raw


def test_attempts_that_may_have_been_billed_are_part_of_the_failure(server: ToyServer) -> None:
    server.fault = lambda seen: Reply(0, b"", dropped=True)
    leaping = Leaping()
    service = ToyService(server.url)
    with ServiceAsker(service, Limits(seconds_per_image=2), clock=leaping.clock) as asker:
        with pytest.raises(ProviderError) as caught:
            ask(asker)
        assert len(server.seen) * PRICE == caught.value.cost_usd == asker.spending.usd


def test_a_service_that_is_out_of_order_holds_nobody_up_for_long(
    server: ToyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "GIVEN_UP_IN_A_ROW", 3)
    leaping = Leaping()
    with ServiceAsker(ToyService(server.url), clock=leaping.clock) as asker:
        ask(asker, 12)
        server.fault = lambda seen: Reply(503, b"")
        for number in range(10):
            with pytest.raises(ProviderError):
                ask(asker, number)
        attempts = Counter(seen.json["pixels"] for seen in server.seen)
        assert all(attempts[question(number)["pixels"]] > 5 for number in range(3))
        assert all(attempts[question(number)["pixels"]] == 1 for number in range(3, 10))
        server.fault = lambda seen: None
        assert {"mean": 10.0} == ask(asker, 10).answer.raw
        server.faults.append(Reply(503, b""))
        assert {"mean": 11.0} == ask(asker, 11).answer.raw  # it is patient again


def test_a_service_that_never_answers_ends_the_run_in_words(server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "GIVEN_UP_IN_A_ROW", 3)
    server.fault = lambda seen: Reply(503, b"")
    leaping, told = Leaping(), list[str]()
    with ServiceAsker(
        ToyService(server.url), Limits(seconds_per_image=9), say=told.append, clock=leaping.clock
    ) as asker:
        for number in range(2):
            with pytest.raises(ProviderError):
                ask(asker, number)
        assert asker.remark().endswith("in flight, status 503")
        with pytest.raises(RunError, match="toy: not one answer about the first 3 images: status 503"):
            ask(asker, 2)
    assert ["toy: no answer yet (status 503); each image is tried for 9 s"] == told


@pytest.mark.parametrize("status", [400, 404, 413])
def test_what_concerns_one_image_is_not_asked_again(server: ToyServer, status: int) -> None:
    server.faults.append(Reply(status, b""))
    with ServiceAsker(ToyService(server.url)) as asker, pytest.raises(ProviderError, match=f"status {status}"):
        ask(asker)
    assert 1 == len(server.seen)


def test_wrong_credentials_end_the_run_and_say_that_answers_are_kept(server: ToyServer) -> None:
    server.faults.append(Reply(401, b""))
    with ServiceAsker(ToyService(server.url)) as asker:
        with pytest.raises(CredentialsError, match=r"toy: the key is not taken.*what was answered is kept") as caught:
            ask(asker)
        assert isinstance(caught.value, asker.ends_run)
    assert 1 == len(server.seen)


def test_everyone_leaves_the_service_alone_for_as_long_as_it_says(server: ToyServer, quick: None) -> None:
    server.faults.append(Reply(429, b"", {"Retry-After": "0.3"}))
    with ServiceAsker(ToyService(server.url)) as asker, ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, asker, 0)
        while not server.replies:
            time.sleep(0.001)
        time.sleep(0.02)
        others = [pool.submit(ask, asker, number) for number in range(1, 8)]
        assert [float(number) for number in range(8)] == [one.result(60).answer.raw["mean"] for one in [first, *others]]
    begun = server.seen[0].at
    assert 9 == len(server.seen)
    assert all(seen.at - begun >= 0.3 for seen in server.seen[1:])


def test_told_the_rate_of_the_service_it_is_never_throttled() -> None:
    with ToyServer(rate=200) as server, ServiceAsker(ToyService(server.url, rate=200)) as asker:
        with ThreadPoolExecutor(30) as pool:
            list(pool.map(lambda number: ask(asker, number), range(250)))
        assert [200] * 250 == server.replies


def test_a_service_that_throttles_is_asked_by_fewer_and_answers_everyone(quick: None) -> None:
    with ToyServer(latency=0.01, rate=150) as server, ServiceAsker(ToyService(server.url)) as asker:
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda number: ask(asker, number).answer.raw["mean"], range(400)))
        assert [float(number % 256) for number in range(400)] == answers
        assert 400 == server.replies.count(200)
        assert server.replies.count(429) > 0
        assert 400 * PRICE == asker.spending.usd
        # it doubled until the first throttling, then a fifth went off, once
        assert asker._pace.limit in (16, 32, 64)
        assert server.most_at_once <= 80


def test_a_storm_and_errors_leave_nobody_behind(quick: None) -> None:
    with ToyServer(latency=0.002) as server:
        storm = threading.Event()

        def fault(seen: Any) -> Reply | None:
            number = len(server.seen)
            if 100 <= number < 160:
                storm.set()
                return Reply(429, b"")
            return Reply(503, b"") if number % 33 == 0 else None

        server.fault = fault
        with ServiceAsker(ToyService(server.url)) as asker, ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(lambda number: ask(asker, number).answer.raw["mean"], range(300)))
        assert storm.is_set()
        assert [float(number % 256) for number in range(300)] == answers
        assert 300 == server.replies.count(200)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    budget=st.integers(0, 40).map(lambda dimes: dimes / 10),
    costs=st.lists(st.integers(1, 10).map(lambda cents: cents / 40), min_size=1, max_size=30),
    faults=st.lists(st.sampled_from([200, 200, 429, 503, 400, 0]), min_size=1, max_size=30),
    threads=st.integers(1, 8),
)
def test_the_budget_is_never_exceeded(
    quick: None, budget: float, costs: list[float], faults: list[int], threads: int
) -> None:
    with ToyServer() as server:
        server.cost = lambda asked: costs[int(asked["pixels"], 16) % len(costs)]

        def fault(seen: Any) -> Reply | None:
            with server.lock:
                status = faults[len(server.seen) % len(faults)]
            return None if status == 200 else Reply(status, b"", dropped=status == 0)

        server.fault = fault
        limits = Limits(budget_usd=budget, seconds_per_image=0.05)
        with ServiceAsker(ToyService(server.url, high_usd=0.25), limits) as asker:

            def one(number: int) -> str:
                try:
                    ask(asker, number)
                except BudgetError:
                    asker.stop()
                    return "budget"
                except CancelledError:
                    return "stopped"
                except RunError:  # nothing at all was answered
                    return "provider_error"
                except ProviderError as error:
                    return error.outcome
                return "ok"

            with ThreadPoolExecutor(threads) as pool:
                ends = list(pool.map(one, range(30)))
            hung_up = server.replies.count(0) * 0.25
            assert server.charged + hung_up == pytest.approx(asker.spending.usd)
            assert asker.spending.usd <= budget
            assert ("budget" in ends) or set(ends) <= {"ok", "provider_error"}


def test_a_budget_without_prices_is_refused_before_anything_is_asked(server: ToyServer) -> None:
    for service in (
        ToyService(server.url, high_usd=None, price_note="no price for toy/call"),
        ToyStanding(server.url, hourly_usd=None, price_note="no price for toy/call"),
    ):
        with (
            ServiceAsker(service, Limits(budget_usd=5)) as asker,
            pytest.raises(ConfigError, match=r"without prices: no price for toy/call; \[prices\] in workbench.toml"),
        ):
            ask(asker)
    assert [] == server.seen
    with ServiceAsker(ToyService(server.url, high_usd=None)) as asker:
        assert PRICE == ask(asker).cost_usd


def test_what_is_missing_is_told_before_anything_is_asked(server: ToyServer) -> None:
    with (
        ServiceAsker(ToyService(server.url), lacks=lambda: "no key") as asker,
        pytest.raises(PrerequisiteError, match="toy: no key"),
    ):
        ask(asker)
    assert [] == server.seen


def test_what_stands_is_switched_on_once_before_the_first_question_and_off_at_the_end(server: ToyServer) -> None:
    standing, remarks = ToyStanding(server.url, hourly_usd=3600.0), list[str]()
    with ServiceAsker(standing, say=remarks.append) as asker:
        assert [] == standing.said
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: ask(asker, number), range(20)))
        assert ["start"] == standing.said
        assert asker.standing_usd > 0
        assert asker.spending.usd > 20 * PRICE
    assert ["start", "stop"] == standing.said
    assert ["toy: switching on"] == remarks
    assert asker.standing_usd == asker.standing_usd  # it counts no longer


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_what_stands_is_switched_off_whatever_ends_the_run(server: ToyServer, error: type[BaseException]) -> None:
    standing = ToyStanding(server.url)

    def ended_early() -> None:
        with ServiceAsker(standing, say=lambda _: None) as asker:
            ask(asker)
            raise error

    with pytest.raises(error):
        ended_early()
    assert ["start", "stop"] == standing.said


def test_what_does_not_start_is_switched_off_too(server: ToyServer) -> None:
    standing = ToyStanding(server.url, broken=True)
    with pytest.raises(ProviderError), ServiceAsker(standing, say=lambda _: None) as asker:
        asker.open()
    assert ["start", "stop"] == standing.said


def test_what_is_not_asked_is_not_switched_on(server: ToyServer) -> None:
    standing = ToyStanding(server.url, hourly_usd=4.0)
    with ServiceAsker(standing):
        pass
    with ServiceAsker(standing, Limits(budget_usd=0.5)) as asker, pytest.raises(BudgetError):
        ask(asker)
    assert [] == standing.said


def test_a_service_that_cannot_be_switched_off_is_told_loudly_and_rows_are_kept(server: ToyServer) -> None:
    class Stuck(ToyStanding):
        def stop(self, say: Any) -> None:
            raise ConnectionError("no line")

    remarks: list[str] = []
    with ServiceAsker(Stuck(server.url), say=remarks.append) as asker:
        ask(asker)
    assert "toy: COULD NOT BE SWITCHED OFF AND COSTS MONEY UNTIL IT IS: no line" == remarks[-1]


def test_an_approach_of_this_machine_is_asked_as_it_is(server: ToyServer) -> None:
    asker = DirectAsker(ToyService(server.url))
    assert 4 == asker.threads == asker.ahead
    assert {"mean": 0.0} == asker.ask(question(), SIZE).answer.raw
    assert ("", 0.0) == (asker.remark(), asker.standing_usd)


def test_a_service_that_wants_to_be_left_alone_for_years_is_left_alone_and_nobody_waits(server: ToyServer) -> None:
    server.faults.append(Reply(429, b"", {"Retry-After": "1000000000"}))
    leaping = Leaping()
    with ServiceAsker(ToyService(server.url), clock=leaping.clock) as asker:
        for number, reason in (
            (0, "too fast; given up"),
            (1, r"left alone for 1000000000 s.*one image may take \(300 s"),
        ):
            with pytest.raises(ProviderError, match=reason) as caught:
                ask(asker, number)
            assert ("provider_error", 0.0) == (caught.value.outcome, caught.value.cost_usd)
    assert (1, []) == (len(server.seen), leaping.waits)


def test_a_long_rest_ends_when_the_hours_have_eaten_the_budget(server: ToyServer) -> None:
    server.fault = lambda seen: Reply(503, b"", {"Retry-After": "7200"})
    leaping = Leaping()
    standing = ToyStanding(server.url, hourly_usd=3.6)  # a tenth of a cent per second
    limits = Limits(budget_usd=3.0, seconds_per_image=1e6)
    with ServiceAsker(standing, limits, say=lambda _: None, clock=leaping.clock) as asker:
        with pytest.raises(BudgetError, match="kept back for switching off"):
            ask(asker)
        assert 2.0 < asker.spending.usd <= 3.0 - ENDING_SECONDS / 1000 + 0.01


def test_as_much_is_set_aside_as_switching_on_may_take(server: ToyServer) -> None:
    standing = ToyStanding(server.url, hourly_usd=3.6, start_seconds=7200.0)
    with ServiceAsker(standing, Limits(budget_usd=8.0)) as asker, pytest.raises(BudgetError):
        asker.open()
    assert [] == standing.said


def test_what_does_not_start_is_not_started_again_by_those_who_waited(server: ToyServer) -> None:
    class Slow(ToyStanding):
        def start(self, say: Any) -> None:
            self._note("start")
            time.sleep(0.05)
            raise PrerequisiteError("it does not start")

    standing = Slow(server.url, hourly_usd=4.0)
    with ServiceAsker(standing, say=lambda _: None) as asker:

        def one(number: int) -> str:
            with pytest.raises(PrerequisiteError) as caught:
                ask(asker, number)
            return str(caught.value)

        with ThreadPoolExecutor(4) as pool:
            assert ["it does not start"] * 4 == list(pool.map(one, range(4)))
        assert "it does not start" == one(4)
    assert ["start", "stop"] == standing.said


def test_what_is_just_starting_when_all_ends_is_switched_off_after_that(server: ToyServer) -> None:
    starting = threading.Event()

    class Slow(ToyStanding):
        def start(self, say: Any) -> None:
            starting.set()
            time.sleep(0.05)
            super().start(say)

    standing = Slow(server.url)
    asker = ServiceAsker(standing, say=lambda _: None)
    with ThreadPoolExecutor(1) as pool:
        with asker:
            asked = pool.submit(ask, asker)
            starting.wait(60)
        with pytest.raises(CancelledError):
            asked.result(60)
    assert (["start", "stop"], False) == (standing.said, standing.on)
    with pytest.raises(CancelledError):
        asker.open()
    assert ["start", "stop"] == standing.said


@pytest.fixture
def endless(server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> ToyServer:
    """A service that takes longer over half an answer than anybody in these tests waits."""
    monkeypatch.setattr(asking, "_LOOKING_SECONDS", 0.01)
    server.fault = lambda seen: Reply(200, b"{" + b" " * 99, trickle=0.3)
    return server


def test_an_answer_that_never_ends_is_given_up(endless: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LONGEST_ATTEMPT_SECONDS", 0.05)
    with ServiceAsker(ToyService(endless.url), Limits(seconds_per_image=0.01)) as asker:
        with pytest.raises(ProviderError, match="no whole answer within 0 s; given up after 1 attempt") as caught:
            ask(asker)
        assert PRICE == caught.value.cost_usd == asker.spending.usd  # it may be on the bill
    assert 1 == len(endless.seen)


def test_who_leaves_does_not_wait_for_an_answer_that_never_ends(
    endless: ToyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "LONGEST_LEAVE_SECONDS", 0.05)
    with ServiceAsker(ToyService(endless.url)) as asker, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, asker)
        while not endless.seen:
            time.sleep(0.005)
        asker.stop()
        with pytest.raises(CancelledError):
            asked.result(60)
        assert PRICE == asker.spending.usd


def test_the_hours_of_an_answer_that_never_ends_stay_within_the_budget(endless: ToyServer) -> None:
    standing = ToyStanding(endless.url, hourly_usd=3600.0, high_usd=0.0, start_seconds=0.0)
    budget = ENDING_SECONDS + 0.1  # a tenth of a second, and what switching off may take
    with (
        ServiceAsker(standing, Limits(budget_usd=budget), say=lambda _: None) as asker,
        pytest.raises(BudgetError, match="kept back for switching off"),
    ):
        ask(asker)
    assert ["start", "stop"] == standing.said
