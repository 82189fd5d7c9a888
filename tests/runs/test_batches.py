"""Batches of a small approach: a service that may be interrupted anywhere, processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import batch_toy
from batch_toy import BULK, LIVE, WORST, Toy, greys
from servers.anthropic import RefusedError, error_reply
from servers.anthropic_batches import PATH, BatchDesk, Fate
from servers.base import Reply, Seen, StandIn
from workbench.approaches.base import Batch, Batched
from workbench.canonical import binary32
from workbench.dataset.images import Dataset
from workbench.errors import (
    BudgetError,
    ConfigError,
    CredentialsError,
    PrerequisiteError,
    RunError,
)
from workbench.predictions import PredictionTable, read_predictions
from workbench.records import OK
from workbench.runs.batches import FILE, classify_in_batches, plan_batches
from workbench.runs.batchrun import Waiting
from workbench.runs.cache import AnswerCache
from workbench.runs.claims import Claim
from workbench.runs.handover import Clock
from workbench.runs.limits import Limits
from workbench.runs.plan import plan_run
from workbench.runs.runner import classify
from workbench.runs.submissions import Submissions


class Service(StandIn):
    """Says how bright a picture is, one question at a time (POST /ask) or in batches."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.version: Callable[[Mapping[str, Any]], str] = lambda params: "toy-1"
        self.text: Callable[[Mapping[str, Any]], str] = lambda params: json.dumps({"mean": params["mean"]})
        self.desk = BatchDesk(self.create)
        self.answered = 0

    def create(self, params: Mapping[str, Any]) -> dict[str, Any]:
        self.answered += 1
        return {
            "id": f"msg_{self.answered}",
            "type": "message",
            "role": "assistant",
            "model": self.version(params),
            "content": [{"type": "text", "text": self.text(params)}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }

    def answer(self, seen: Seen) -> Reply:
        try:
            with self.lock:
                if seen.path.startswith(PATH):
                    return self.desk.route(seen)
                return Reply(200, json.dumps(self.create(seen.json)).encode())
        except RefusedError as refused:
            return error_reply(refused)

    def throttled(self, seen: Seen) -> Reply:
        return error_reply(RefusedError(429, "rate_limit_error", "slower, please"))

    @property
    def handed_in(self) -> int:
        """Questions that were taken in batches, each as often as it was."""
        return sum(self.desk.asked.values())


class Hours:
    """Waiting moves the service's clock, and this machine's, and takes no time."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.slept: list[float] = []
        self.begun = time.time()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.service.desk.advance(seconds)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.begun + sum(self.slept), self.sleep)


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture
def toy(service: Service) -> Toy:
    return Toy(service.url)


@pytest.fixture
def hours(service: Service) -> Hours:
    return Hours(service)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def in_batches(dataset: Dataset, toy: Toy, store: Path, hours: Hours, **options: Any) -> PredictionTable:
    table = in_batches_or_not(dataset, toy, store, hours, **options)
    assert isinstance(table, PredictionTable)
    return table


def in_batches_or_not(
    dataset: Dataset, toy: Toy, store: Path, hours: Hours, **options: Any
) -> PredictionTable | Waiting:
    with AnswerCache(store / "answers.sqlite") as cache:
        return classify_in_batches(dataset, toy, cache, store, clock=hours.clock, **options)


def live(dataset: Dataset, toy: Toy, store: Path) -> PredictionTable:
    with AnswerCache(store / "answers.sqlite") as cache:
        return classify(dataset, toy, cache)


def alike(table: PredictionTable) -> tuple[Any, ...]:
    """All that a table says, but for cost, latency and when."""
    return list(table.predictions()), replace(table.info, created="")


def expected_scores(values: Sequence[int]) -> list[list[float]]:
    return [[binary32(1 - grey / 255), binary32(grey / 255)] for grey in values]


def test_the_toy_takes_batches(toy: Toy) -> None:
    assert isinstance(toy, Batched)


def test_the_table_is_that_of_a_live_run_for_half_the_money(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    values = [(7 * place) % 90 for place in range(40)] + [13, 14, 14, 99]
    dataset = greys(tmp_path / "images", values)
    (dataset.root / "001.png").write_bytes(b"no image")
    table = in_batches(dataset, toy, store, hours)
    assert 1 == len(service.desk.held)
    assert {1} == set(service.desk.asked.values())
    assert alike(live(dataset, toy, tmp_path / "another")) == alike(table)
    assert expected_scores(values[2:40]) == table.scores[2:40].astype(float).tolist()
    rows = table.frame.set_index("image_id")
    assert ["unsupported_format", "provider_error", "refusal"] == [
        rows["outcome"][name] for name in ("001.png", "040.png", "043.png")
    ]
    assert BULK * service.handed_in == rows["cost_usd"].sum()
    assert [True, False, True, True] == [bool(rows["cached"][f"0{place}.png"]) for place in ("01", "02", "40", "41")]
    assert {3_600_000.0} == set(rows["latency_ms"].dropna())


def test_live_and_batch_share_their_answers(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    values = range(30)
    live(greys(tmp_path / "some", values[:10]), toy, store)
    dataset = greys(tmp_path / "images", [value for value in values if value != 13])
    table = in_batches(dataset, toy, store, hours)
    assert (19, 29) == (service.handed_in, service.answered)
    assert 19 * BULK == table.frame["cost_usd"].sum()
    again = live(dataset, toy, store)
    assert (19, 29) == (service.handed_in, service.answered)
    assert again.frame["cached"].all()
    assert alike(table) == alike(again)


def test_what_is_in_a_batch_is_not_asked_live_as_well(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(5))
    assert isinstance(in_batches_or_not(dataset, toy, store, hours, wait=False), Waiting)
    with pytest.raises(
        RunError, match=r"handed in in a batch; asking it now would pay for it twice.*`classify --batch`"
    ):
        live(dataset, toy, store)
    assert (5, 0) == (service.handed_in, service.answered)
    in_batches(dataset, toy, store, hours)
    assert live(dataset, toy, store).frame["cached"].all()
    assert 5 == service.answered


def test_a_batch_waits_for_the_live_run_that_asks_the_same(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = greys(tmp_path / "images", range(5))
    other = Claim(store, toy.question)
    assert other.take()

    def nap(seconds: float) -> None:
        """Meanwhile, the live run ends."""
        other.release()
        live(dataset, toy, store)

    with AnswerCache(store / "answers.sqlite") as cache:
        table = classify_in_batches(dataset, toy, cache, store, clock=replace(hours.clock, sleep=nap))
    assert isinstance(table, PredictionTable)
    assert (True, 0, 5) == (table.frame["cached"].all(), service.handed_in, service.answered)
    assert "another run is asking the same at the moment; waiting for it" in capsys.readouterr().err


def test_a_second_run_asks_nothing_and_says_the_same(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(5))
    first = in_batches(dataset, toy, store, hours)
    seen = len(service.seen)
    second = in_batches(dataset, toy, store, hours, lacks=lambda: "everything")
    assert seen == len(service.seen)
    assert alike(first) == alike(second)
    assert second.frame["cached"].all()
    assert 0 == second.frame["cost_usd"].sum()


def test_several_parts_are_questions_of_their_own(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(5))
    service.text = lambda params: json.dumps({"mean": params["mean"] + params["part"]})
    in_batches(dataset, toy, store, hours)
    table = in_batches(dataset, replace(toy, parts=3), store, hours)
    assert 15 == service.handed_in
    assert 10 * BULK == table.frame["cost_usd"].sum()
    assert expected_scores(range(1, 6)) == table.scores.astype(float).tolist()
    assert alike(live(dataset, replace(toy, parts=3), tmp_path / "another")) == alike(table)


def test_batches_are_no_larger_than_the_service_takes(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(12))
    service.desk.most_questions = 5
    table = in_batches(dataset, replace(toy, most_questions=5), store, hours)
    assert [5, 5, 2] == [len(held.requests) for held in service.desk.held.values()]
    assert expected_scores(range(12)) == table.scores.astype(float).tolist()
    service.desk.most_questions, service.desk.most_bytes = 100, 1000
    in_batches(greys(tmp_path / "more", range(20, 30)), replace(toy, most_bytes=1000), store, hours)
    assert all(len(seen.body) <= 1000 for seen in service.seen[-20:])
    assert 22 == service.handed_in


def test_what_fits_into_no_batch_is_a_row(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(2))
    table = in_batches(dataset, replace(toy, most_bytes=100), store, hours)
    assert ["provider_error"] * 2 == list(table.frame["outcome"])
    assert "are too many for a batch" in table.frame["detail"][0]
    assert 0 == service.handed_in


def test_questions_without_an_answer_are_rows_and_are_asked_again_next_time(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    fates: list[Fate] = ["answered", "errored", "canceled", "expired"]
    dataset = greys(tmp_path / "images", range(12))
    service.desk.fate = lambda params: fates[int(params["mean"]) % 4]
    table = in_batches(dataset, toy, store, hours)
    assert [OK, "provider_error", "provider_error", "provider_error"] * 3 == list(table.frame["outcome"])
    assert ["", *fates[1:]] * 3 == list(table.frame["detail"])
    assert 3 * BULK == table.frame["cost_usd"].sum()
    service.desk.fate = lambda params: "answered"
    second = in_batches(dataset, toy, store, hours)
    assert 12 + 9 == service.handed_in
    assert expected_scores(range(12)) == second.scores.astype(float).tolist()


def test_a_batch_that_expires_or_is_canceled_costs_nothing(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(4))
    service.desk.takes = 90_000
    table = in_batches(dataset, toy, store, hours)
    assert ["expired"] * 4 == list(table.frame["detail"])
    assert 0 == table.frame["cost_usd"].sum() == service.answered
    service.desk.takes = 600
    assert isinstance(in_batches_or_not(dataset, toy, store, hours, wait=False), Waiting)
    toy._call("POST", f"{PATH}/{list(service.desk.held)[1]}/cancel", {})
    assert ["canceled"] * 4 == list(in_batches(dataset, toy, store, hours).frame["detail"])
    assert 8 == service.handed_in


def test_who_does_not_wait_comes_back_for_the_answers(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(6))
    waiting = in_batches_or_not(dataset, toy, store, hours, wait=False)
    assert waiting == in_batches_or_not(dataset, toy, store, hours, wait=False)
    (batch,) = service.desk.held
    assert Waiting("toy", (batch,), 6, 6 * WORST) == waiting
    assert (
        "toy: 6 questions are with the service in 1 batch, for $4.5000 at most. They are answered within a day, most of"
        " them much sooner: run the same command again to collect the answers; nothing is asked twice"
    ) == str(waiting)
    assert [] == hours.slept
    service.desk.advance(3600)
    table = in_batches_or_not(dataset, toy, store, hours, wait=False)
    assert isinstance(table, PredictionTable)
    assert (6, 6 * BULK) == (service.handed_in, table.frame["cost_usd"].sum())


def test_only_what_is_neither_kept_nor_under_way_is_handed_in(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    live(greys(tmp_path / "kept", range(3)), toy, store)
    in_batches_or_not(greys(tmp_path / "sent", range(3, 6)), toy, store, hours, wait=False)
    table = in_batches(greys(tmp_path / "images", range(9)), toy, store, hours)
    assert [3, 3] == [len(held.requests) for held in service.desk.held.values()]
    assert expected_scores(range(9)) == table.scores.astype(float).tolist()
    assert 6 * BULK == table.frame["cost_usd"].sum()


# Money


def test_a_plan_tells_the_price_of_batches_and_what_is_under_way(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    in_batches_or_not(greys(tmp_path / "sent", range(3)), toy, store, hours, wait=False)
    dataset = greys(tmp_path / "images", range(9))
    seen = len(service.seen)
    with AnswerCache(store / "answers.sqlite") as cache:
        plan = plan_batches(dataset, toy, cache, store)
        single = plan_run(dataset, toy, cache)
    assert seen == len(service.seen)
    assert (9, 0, 6) == (plan.pictures, plan.cached, plan.to_ask)
    assert plan.charge is not None
    assert single.charge is not None
    assert (6, 3, 6 * BULK, 6 * WORST) == (
        plan.charge.calls,
        plan.charge.under_way,
        plan.charge.low_usd,
        plan.charge.high_usd,
    )
    assert (9, 0, 9 * LIVE) == (single.charge.calls, single.charge.under_way, single.charge.high_usd)
    told = dict(line.split("  ", maxsplit=1) for line in str(plan).splitlines())
    assert {
        "calls": "6 in batches",
        "with the service": "3 calls, handed in before; not counted here",
        "time": "within a day",
    }.items() <= {name: words.strip() for name, words in told.items()}.items()
    in_batches(dataset, toy, store, hours)
    assert 9 == service.handed_in


def test_a_budget_holds_whole_batches_at_their_worst(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(4))
    with pytest.raises(
        BudgetError, match=r"toy: the budget of \$2.9900 does not hold the next batch: .* not handed in"
    ):
        in_batches(dataset, toy, store, hours, limits=Limits(budget_usd=2.99))
    assert (0, []) == (service.handed_in, service.seen)
    in_batches(dataset, toy, store, hours, limits=Limits(budget_usd=3.0))
    assert 4 == service.handed_in


def test_a_budget_that_holds_one_batch_says_what_is_under_way(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(4))
    pairs = replace(toy, most_questions=2)
    with pytest.raises(BudgetError, match=r"\$0.5000 are left.* toy: 2 questions are with the service in 1 batch"):
        in_batches(dataset, pairs, store, hours, limits=Limits(budget_usd=2.0))
    assert 2 == service.handed_in
    with pytest.raises(BudgetError, match=r"\$0.5000 are left"):  # what is under way still counts at its worst
        in_batches(dataset, pairs, store, hours, limits=Limits(budget_usd=2.0))
    service.desk.advance(3600)
    with pytest.raises(BudgetError, match=r"\$1.0000 are left"):  # what came back counts at its price
        in_batches(dataset, pairs, store, hours, limits=Limits(budget_usd=2.0))
    assert 2 == service.handed_in
    in_batches(dataset, pairs, store, hours, limits=Limits(budget_usd=2.0))  # another run, another budget
    assert 4 == service.handed_in


def test_a_budget_is_not_kept_beside_a_batch_whose_price_was_not_known(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    in_batches_or_not(greys(tmp_path / "some", range(5)), replace(toy, worst=None), store, hours, wait=False)
    dataset = greys(tmp_path / "images", range(8))
    with pytest.raises(BudgetError, match=r"msgbatch_\w+ was handed in without a price.*collect it first"):
        in_batches_or_not(dataset, toy, store, hours, wait=False, limits=Limits(budget_usd=3 * WORST))
    assert 5 == service.handed_in


def test_a_budget_needs_prices(tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours) -> None:
    dataset = greys(tmp_path / "images", range(2))
    unpriced = replace(toy, worst=None)
    with pytest.raises(ConfigError, match="toy: a budget cannot be kept without prices"):
        in_batches(dataset, unpriced, store, hours, limits=Limits(budget_usd=100.0))
    assert [] == service.seen
    waiting = in_batches_or_not(dataset, unpriced, store, hours, wait=False)
    assert isinstance(waiting, Waiting)
    assert waiting.high_usd is None
    assert "in 1 batch. They are" in str(waiting)


def test_what_is_missing_is_said_before_the_service_is_asked(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(2))
    with pytest.raises(PrerequisiteError, match="toy: no credentials"):
        in_batches(dataset, toy, store, hours, lacks=lambda: "no credentials")
    assert [] == service.seen


# Interruptions


def refuse_to_create(*replies: Reply) -> Callable[[Seen], Reply | None]:
    """These in place of an answer to the next attempts to hand in."""
    left = list(replies)
    return lambda seen: left.pop(0) if left and (seen.method, seen.path) == ("POST", PATH) else None


def test_an_answer_that_gets_lost_is_found_in_the_services_list(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(6))
    service.desk.drop_answers = 1
    table = in_batches(dataset, toy, store, hours)
    assert 6 == service.handed_in
    assert expected_scores(range(6)) == table.scores.astype(float).tolist()


def test_what_the_service_never_took_is_handed_in_again(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(6))
    service.fault = refuse_to_create(Reply(503, b"{}"), Reply(429, b"{}"), Reply(200, b"", dropped=True))
    table = in_batches(dataset, toy, store, hours)
    assert 6 == service.handed_in
    assert expected_scores(range(6)) == table.scores.astype(float).tolist()
    assert 2 == hours.slept.count(15.0) / 4  # a minute of looking, where it was not known


def test_a_batch_that_is_refused_ends_the_run_with_the_reason(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(6))
    service.desk.most_questions = 5
    with pytest.raises(RunError, match=r"toy: the service refused a batch of 6 questions, .* at most 5 items"):
        in_batches(dataset, toy, store, hours)
    service.desk.most_questions = 6
    in_batches(dataset, toy, store, hours)
    assert 6 == service.handed_in


def test_a_service_that_stays_away_is_given_up_and_left_what_it_has(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(3))
    in_batches_or_not(dataset, toy, store, hours, wait=False)
    service.fault = lambda seen: Reply(500, b"{}")
    with pytest.raises(RunError, match=r"did not answer 12 times in a row, last: 500. What it has stays there"):
        in_batches(dataset, toy, store, hours)
    service.fault = lambda seen: None
    assert [OK] * 3 == list(in_batches(dataset, toy, store, hours).frame["outcome"])
    assert 3 == service.handed_in


def test_results_that_break_off_are_collected_again(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    torn = [Reply(200, b'{"custom_id":"', dropped=True), Reply(502, b"{}")]
    service.fault = lambda seen: torn.pop() if torn and seen.path.endswith("results") else None
    table = in_batches(greys(tmp_path / "images", range(3)), toy, store, hours)
    assert [OK] * 3 == list(table.frame["outcome"])
    assert 3 * BULK == table.frame["cost_usd"].sum()


def test_credentials_that_run_out_leave_the_batch_with_the_service(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(3))
    service.fault = lambda seen: Reply(401, b"{}") if "msgbatch" in seen.path else None
    with pytest.raises(CredentialsError, match=r"who are you\?. toy: 3 questions are with the service"):
        in_batches(dataset, toy, store, hours)
    service.fault = lambda seen: None
    assert [OK] * 3 == list(in_batches(dataset, toy, store, hours).frame["outcome"])
    assert 3 == service.handed_in


def lose_a_batch(dataset: Dataset, toy: Toy, store: Path, hours: Hours) -> None:
    """The service takes it, and the run ends before it is on file which one it is."""

    class Interrupted(Toy):
        def submit(self, requests: Mapping[str, Any]) -> Batch:
            super().submit(requests)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_batches(dataset, Interrupted(toy.url), store, hours)


def other_batch(toy: Toy, count: int) -> Batch:
    """Somebody else, with the same credentials, hands in as many questions."""
    return toy.submit({f"theirs-{place}": {"mean": 1.0, "part": place} for place in range(count)})


def test_of_several_batches_the_one_that_has_ended_with_our_ids_is_ours(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(3))
    other_batch(toy, 3)
    lose_a_batch(dataset, toy, store, hours)
    other_batch(toy, 3)
    other_batch(toy, 4)
    with pytest.raises(
        RunError, match=r"any of the batches msgbatch_03.*, msgbatch_02.* may be these.*Nothing was handed"
    ):
        in_batches(dataset, toy, store, hours)
    service.desk.advance(3600)
    table = in_batches(dataset, toy, store, hours)
    assert expected_scores(range(3)) == table.scores.astype(float).tolist()
    assert 4 == len(service.desk.held)


def test_a_batch_that_turns_out_to_be_anothers_is_not_taken_for_ours(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(3))

    def somebody_else(seen: Seen) -> Reply | None:
        if (seen.method, seen.path) == ("POST", PATH) and "theirs" not in seen.body.decode():
            service.fault = lambda seen: None
            other_batch(toy, 3)
            return Reply(200, b"", dropped=True)
        return None

    service.fault = somebody_else
    table = in_batches(dataset, toy, store, hours)
    assert expected_scores(range(3)) == table.scores.astype(float).tolist()
    assert 6 == service.handed_in


def test_answers_that_are_kept_no_longer_are_told_before_anything_is_asked_again(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(3))
    in_batches_or_not(dataset, toy, store, hours, wait=False)
    service.desk.advance(30 * 86_400)
    with pytest.raises(RunError, match=r"\(3 questions of 20.*\) are gone: the service keeps them for 29 days"):
        in_batches(dataset, toy, store, hours)
    assert 3 == service.handed_in
    in_batches(dataset, toy, store, hours)
    assert 6 == service.handed_in


def test_a_batch_that_the_service_does_not_know_is_not_asked_again(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(3))
    in_batches_or_not(dataset, toy, store, hours, wait=False)
    service.desk.held.clear()
    for _ in range(2):
        with pytest.raises(RunError, match=r"does not know batch msgbatch_01.* Use the credentials"):
            in_batches(dataset, toy, store, hours)
    assert 3 == service.handed_in
    hours.sleep(30 * 86_400)
    with pytest.raises(RunError, match="are gone"):
        in_batches(dataset, toy, store, hours)


# Versions


def test_answers_of_two_versions_end_the_run_once_all_are_kept(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(6))
    service.version = lambda params: "toy-1" if params["mean"] < 4 else "toy-2"
    with pytest.raises(RunError, match="`--model-version toy-2`"):
        in_batches(dataset, toy, store, hours)
    assert 6 == service.handed_in
    service.version = lambda params: "toy-2"
    table = in_batches(dataset, replace(toy, expects="toy-2"), store, hours)
    assert 6 + 4 == service.handed_in
    assert "toy-2" == table.info.origin.model_version
    assert 4 == (~table.frame["cached"]).sum()


# Several processes


def start(dataset: Dataset, store: Path, service: Service, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, batch_toy.__file__, *map(str, (dataset.root, store, service.url, out))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def is_polled(service: Service) -> bool:
    return any("msgbatch" in seen.path for seen in list(service.seen))


def test_after_kill_9_while_it_waits_nothing_is_handed_in_again(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(20))
    process = start(dataset, store, service, tmp_path / "run.parquet")
    until(lambda: is_polled(service), process)
    kill(process)
    table = in_batches(dataset, toy, store, hours)
    assert expected_scores([0, 1]) == table.scores[:2].astype(float).tolist()
    assert 19 == service.handed_in  # 13 cannot be asked


def test_after_kill_9_between_taken_and_told_nothing_is_handed_in_again(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(12))
    service.desk.answer_delay = 30
    process = start(dataset, store, service, tmp_path / "run.parquet")
    until(lambda: service.desk.held, process)
    kill(process)
    with closing(sqlite3.connect(store / FILE)) as connection:
        assert [("", "open", 12)] == connection.execute("SELECT batch, state, count FROM submissions").fetchall()
    service.desk.answer_delay = 0
    table = in_batches(dataset, toy, store, hours)
    assert expected_scores(range(12)) == table.scores.astype(float).tolist()
    assert (12, 1) == (service.handed_in, len(service.desk.held))


def test_after_kill_9_before_it_was_taken_it_is_handed_in_once(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(12))
    service.fault = lambda seen: Reply(503, b"", delay=30) if (seen.method, seen.path) == ("POST", PATH) else None
    process = start(dataset, store, service, tmp_path / "run.parquet")
    until(lambda: any(seen.method == "POST" for seen in list(service.seen)), process)
    kill(process)
    service.fault = lambda seen: None
    table = in_batches(dataset, toy, store, hours)
    assert expected_scores(range(12)) == table.scores.astype(float).tolist()
    assert (12, 1) == (service.handed_in, len(service.desk.held))


def test_after_kill_9_while_it_collects_every_answer_is_there(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(12))
    service.desk.takes = 0

    def slow(seen: Seen) -> Reply | None:
        return replace(service.answer(seen), trickle=30) if seen.path.endswith("results") else None

    service.fault = slow
    process = start(dataset, store, service, tmp_path / "run.parquet")
    until(lambda: any(seen.path.endswith("results") for seen in list(service.seen)), process)
    kill(process)
    service.fault = lambda seen: None
    table = in_batches(dataset, toy, store, hours)
    assert expected_scores(range(12)) == table.scores.astype(float).tolist()
    assert 12 == service.handed_in


def test_ctrl_c_leaves_the_batch_with_the_service_and_says_how_to_go_on(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(5))
    process = start(dataset, store, service, tmp_path / "run.parquet")
    until(lambda: is_polled(service), process)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate()
    assert "KeyboardInterrupt" in told
    assert "stopped; toy: 5 questions are with the service in 1 batch, for $3.7500 at most." in told
    assert "run the same command again" in told
    assert [OK] * 5 == list(in_batches(dataset, toy, store, hours).frame["outcome"])
    assert 5 == service.handed_in


def test_two_processes_at_once_hand_in_once(tmp_path: Path, store: Path, service: Service) -> None:
    dataset = greys(tmp_path / "images", range(12))
    runs = [tmp_path / "one.parquet", tmp_path / "other.parquet"]
    processes = [start(dataset, store, service, run) for run in runs]
    until(lambda: service.desk.held, processes[0])
    service.desk.advance(3600)
    for process in processes:
        assert ("", 0) == (process.communicate()[0], process.returncode)
    assert (12, 1) == (service.handed_in, len(service.desk.held))
    for run in runs:
        assert expected_scores(range(12)) == read_predictions(run).scores.astype(float).tolist()


def test_who_waited_for_another_run_sees_what_it_did(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = greys(tmp_path / "images", range(3))
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with Submissions(store / FILE) as submissions, submissions.alone(lambda _: None, time.sleep):
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def nap(seconds: float) -> None:
        """Meanwhile, another run begins and ends."""
        if not release.is_set():
            release.set()
            thread.join()
            in_batches(dataset, toy, store, hours)

    with AnswerCache(store / "answers.sqlite") as cache:
        table = classify_in_batches(dataset, toy, cache, store, clock=replace(hours.clock, sleep=nap))
    assert isinstance(table, PredictionTable)
    assert expected_scores(range(3)) == table.scores.astype(float).tolist()
    assert table.frame["cached"].all()
    assert 3 == service.handed_in
    assert "another process is handing in or collecting batches; waiting for it" in capsys.readouterr().err


# What is on file


def test_what_is_on_file_is_for_its_owner_and_holds_no_image(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(3))
    in_batches_or_not(dataset, toy, store, hours, wait=False)
    assert {0o600} == {path.stat().st_mode & 0o777 for path in store.glob("batches*")}
    assert 0o700 == store.stat().st_mode & 0o777
    (held,) = service.desk.held.values()
    ids = [request["custom_id"] for request in held.requests]
    content = (store / FILE).read_bytes()
    assert not any(name.encode() in content for name in ids)
    assert b"mean" not in content


def test_a_damaged_file_stops_the_run_before_it_asks(
    tmp_path: Path, store: Path, toy: Toy, service: Service, hours: Hours
) -> None:
    dataset = greys(tmp_path / "images", range(3))
    store.mkdir()
    (store / FILE).write_bytes(b"\x5a" * 5000)
    with pytest.raises(RunError, match=r"batches.sqlite: .*without it, asking again may cost twice"):
        in_batches(dataset, toy, store, hours)
    assert [] == service.seen


def test_an_approach_without_batches_is_refused(tmp_path: Path, store: Path, hours: Hours) -> None:
    class Single(Toy):
        submit = None  # type: ignore[assignment]

    dataset = greys(tmp_path / "images", range(1))
    approach = Single("")
    assert timedelta(days=approach.kept_days) == BatchDesk.kept
    with pytest.raises(ConfigError, match="toy: takes no batches; ask it without `--batch`"):
        in_batches(dataset, approach, store, hours)
