"""Runs of a paid service: nothing is paid for twice, whatever happens; one model version; one row per image."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import toy_service
from servers.base import Reply
from toy_service import PRICE, ToyServer, ToyService, ToyStanding, dataset_of, paint
from workbench.approaches.base import run_fingerprint
from workbench.errors import BudgetError, CredentialsError, PrerequisiteError, ProviderError, RunError
from workbench.predictions import PredictionTable
from workbench.records import OK
from workbench.runs import asking
from workbench.runs.cache import AnswerCache, answer_key
from workbench.runs.claims import Claim
from workbench.runs.limits import Limits
from workbench.runs.pipeline import Pipeline
from workbench.runs.runner import STANDING_USD, classify, classify_one


@pytest.fixture
def server() -> Iterator[ToyServer]:
    with ToyServer() as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[AnswerCache]:
    with AnswerCache(tmp_path / "store" / "answers.sqlite") as cache:
        yield cache


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rests of milliseconds."""
    monkeypatch.setattr(asking, "FIRST_REST_SECONDS", 0.002)
    monkeypatch.setattr(asking, "LONGEST_REST_SECONDS", 0.02)


def outcomes(table: PredictionTable) -> dict[str, int]:
    return dict(Counter(table.frame["outcome"]))


def test_a_second_run_asks_nothing_and_says_the_same(tmp_path: Path, server: ToyServer, cache: AnswerCache) -> None:
    dataset, toy = paint(tmp_path / "images", 30), ToyService(server.url)
    first = classify(dataset, toy, cache)
    second = classify(dataset, toy, cache)
    assert 30 == len(server.seen)
    assert {OK: 30} == outcomes(first)
    assert list(first.predictions()) == list(second.predictions())
    assert [PRICE] * 30 == list(first.frame["cost_usd"])
    assert 0 == second.frame["cost_usd"].sum()
    assert second.frame["cached"].all()
    assert list(first.frame["latency_ms"]) == list(second.frame["latency_ms"])
    assert ("toy-1", run_fingerprint(toy, "toy-1")) == (
        first.info.origin.model_version,
        first.info.origin.fingerprint,
    )
    assert first.info.origin == second.info.origin
    assert {} == dict(first.info.settings)


def test_one_image_is_told_as_in_the_run(tmp_path: Path, server: ToyServer, cache: AnswerCache) -> None:
    dataset, toy = paint(tmp_path / "images", 3), ToyService(server.url, parts=2)
    one = [classify_one(dataset.file(name).read_bytes(), name, toy) for name in dataset.frame["path"]]
    assert list(classify(dataset, toy, cache).predictions()) == one
    assert 12 == len(server.seen)


def test_where_nothing_answers_the_version_is_unobserved(tmp_path: Path, server: ToyServer, cache: AnswerCache) -> None:
    server.fault = lambda seen: Reply(400, b"")
    toy = ToyService(server.url)
    origin = classify(paint(tmp_path / "images", 2), toy, cache).info.origin
    assert ("unobserved", run_fingerprint(toy, "unobserved")) == (origin.model_version, origin.fingerprint)


def test_a_changed_reading_costs_nothing(tmp_path: Path, server: ToyServer, cache: AnswerCache) -> None:
    dataset, toy = paint(tmp_path / "images", 5), ToyService(server.url)
    classify(dataset, toy, cache)
    table = classify(dataset, replace(toy, read=lambda raw: {"dark": 0.5, "bright": 0.25}), cache)
    assert 5 == len(server.seen)
    assert [[0.5, 0.25]] * 5 == table.scores.tolist()


# Answers that cannot be read


def refuse(raw: Mapping[str, Any]) -> Mapping[str, float]:
    raise ProviderError("refusal", "I would rather not")


def test_an_unusable_answer_is_on_record_and_no_answer(tmp_path: Path, server: ToyServer, cache: AnswerCache) -> None:
    dataset, toy = paint(tmp_path / "images", 2), ToyService(server.url)
    table = classify(dataset, replace(toy, read=refuse), cache)
    assert {"refusal": 2} == outcomes(table)
    assert [PRICE] * 2 == list(table.frame["cost_usd"])
    assert "toy-1" == table.info.origin.model_version
    key, pixels = answer_key(toy.question, "toy-1", 0), server.asked[0][0]
    assert cache.answer(pixels, key) is None
    kept = cache.unusable(pixels, key)
    assert kept is not None
    assert ("toy-1", PRICE) == (kept.model_version, kept.cost_usd)
    classify(dataset, replace(toy, read=refuse), cache)
    assert 4 == len(server.seen)  # it may answer another time


def test_a_better_reading_takes_what_was_unusable_for_free(
    tmp_path: Path, server: ToyServer, cache: AnswerCache
) -> None:
    dataset, toy = paint(tmp_path / "images", 2), ToyService(server.url)
    classify(dataset, replace(toy, read=refuse), cache)
    table = classify(dataset, toy, cache)
    assert 2 == len(server.seen)
    assert {OK: 2} == outcomes(table)
    assert table.frame["cached"].all()
    assert cache.answer(server.asked[0][0], answer_key(toy.question, "toy-1", 0)) is not None


# Parts


def test_every_part_is_kept_by_itself_and_more_parts_ask_only_what_is_new(
    tmp_path: Path, server: ToyServer, cache: AnswerCache
) -> None:
    dataset, toy = paint(tmp_path / "images", 4), ToyService(server.url)
    seen: list[Any] = []

    def read(raw: Mapping[str, Any]) -> Mapping[str, float]:
        seen.append(raw)
        return toy_service._read(raw)

    classify(dataset, toy, cache)
    table = classify(dataset, replace(toy, parts=3, read=read), cache)
    assert {0: 4, 1: 4, 2: 4} == Counter(part for _, part in server.asked)
    assert [2 * PRICE] * 4 == list(table.frame["cost_usd"])
    assert {3} == {len(raw["parts"]) for raw in seen}
    assert classify(dataset, replace(toy, parts=3), cache).frame["cached"].all()
    assert 12 == len(server.seen)


def test_what_fails_between_parts_repays_nothing(tmp_path: Path, server: ToyServer, cache: AnswerCache) -> None:
    dataset, toy = paint(tmp_path / "images", 6), ToyService(server.url, parts=4)
    broken = [True]
    server.fault = lambda seen: Reply(401, b"") if broken[0] and seen.json["part"] == 2 else None
    with pytest.raises(CredentialsError, match="what was answered is kept"):
        classify(dataset, toy, cache)
    paid = {(pixels, part) for pixels, part in server.asked if part < 2}
    assert paid
    broken[0] = False
    before = len(server.seen)
    table = classify(dataset, toy, cache)
    assert paid.isdisjoint(server.asked[before:])
    assert 24 - len(paid) == len(server.seen) - before
    assert {OK: 6} == outcomes(table)
    assert PRICE * (24 - len(paid)) == table.frame["cost_usd"].sum()


def test_an_unusable_part_alone_is_asked_again(tmp_path: Path, server: ToyServer, cache: AnswerCache) -> None:
    def strict(raw: Mapping[str, Any]) -> Mapping[str, float]:
        if any(one["mean"] > 900 for one in raw["parts"]):
            raise ProviderError("bad_probability", "too bright")
        return {"dark": 0.5, "bright": 0.5}

    wrong = [True]

    def answer(seen: Any) -> Reply | None:
        if not wrong[0] or seen.json["part"] != 1:
            return None
        return Reply(200, json.dumps({"mean": 999, "version": "toy-1", "cost": PRICE}).encode())

    server.fault = answer
    dataset, toy = paint(tmp_path / "images", 3), ToyService(server.url, parts=3, read=strict)
    assert {"bad_probability": 3} == outcomes(classify(dataset, toy, cache))
    wrong[0] = False
    assert {OK: 3} == outcomes(classify(dataset, toy, cache))
    assert {0: 3, 1: 6, 2: 3} == Counter(part for _, part in server.asked)


def test_a_reading_that_does_without_an_unusable_part_does_without_it_next_time(
    tmp_path: Path, server: ToyServer, cache: AnswerCache
) -> None:
    def lenient(raw: Mapping[str, Any]) -> Mapping[str, float]:
        if all(one["mean"] == 999 for one in raw["parts"]):
            raise ProviderError("bad_probability", "all too bright")
        return {"dark": 0.5, "bright": 0.5}

    wrong = Reply(200, json.dumps({"mean": 999, "version": "toy-1", "cost": PRICE}).encode())
    server.fault = lambda seen: wrong if seen.json["part"] == 1 else None
    dataset, toy = paint(tmp_path / "images", 3), ToyService(server.url, parts=3, read=lenient)
    assert {OK: 3} == outcomes(classify(dataset, toy, cache))
    assert {OK: 3} == outcomes(classify(dataset, toy, cache))
    assert 9 == len(server.seen)


# Versions


def test_a_new_version_in_the_middle_stops_the_run_and_nothing_is_lost(
    tmp_path: Path, server: ToyServer, cache: AnswerCache
) -> None:
    server.version = lambda _: "toy-1" if len(server.seen) <= 20 else "toy-2"
    dataset, toy = paint(tmp_path / "images", 60), ToyService(server.url)
    with pytest.raises(
        RunError, match=r"'toy-2', but 'toy-1'.*does not mix versions.*--model-version toy-2.*--model-version toy-1"
    ):
        classify(dataset, toy, cache, limits=Limits(max_in_flight=4))
    paid = len(server.seen)
    assert 20 < paid <= 28  # a few are under way until the first of the other version is on file
    assert ["toy-1", "toy-2"] == cache.versions(toy.question)
    kept = {
        version: {pixels for pixels, _ in server.asked if cache.answer(pixels, answer_key(toy.question, version, 0))}
        for version in ("toy-1", "toy-2")
    }
    assert paid == len(kept["toy-1"]) + len(kept["toy-2"])

    with pytest.raises(RunError, match=r"kept from model versions 'toy-1', 'toy-2'.*`--model-version`"):
        classify(dataset, toy, cache)
    assert paid == len(server.seen)

    pinned = replace(toy, model_version="toy-2")
    table = classify(dataset, pinned, cache)
    assert {OK: 60} == outcomes(table)
    assert 60 - len(kept["toy-2"]) == len(server.seen) - paid
    assert "toy-2" == table.info.origin.model_version
    assert pinned.fingerprint == table.info.origin.fingerprint == run_fingerprint(toy, "toy-2")


def test_a_live_answer_that_differs_from_the_kept_ones_stops_the_run(
    tmp_path: Path, server: ToyServer, cache: AnswerCache
) -> None:
    dataset, toy = paint(tmp_path / "images", 20), ToyService(server.url)
    classify(dataset, toy, cache)
    server.version = lambda _: "toy-2"
    assert classify(dataset, toy, cache).frame["cached"].all()  # nothing was asked, nothing disagrees
    more = paint(tmp_path / "images", 21)
    with pytest.raises(RunError, match="a live answer comes from model version 'toy-2', but 'toy-1' is what its other"):
        classify(more, toy, cache)
    old = classify(dataset, replace(toy, model_version="toy-1"), cache)
    assert old.frame["cached"].all()
    with pytest.raises(RunError, match="'toy-1' is what this run was told to expect"):
        classify(more, replace(toy, model_version="toy-1"), cache)


# Rows, whatever happens


def test_errors_and_a_storm_leave_one_row_for_every_image(
    tmp_path: Path, server: ToyServer, cache: AnswerCache, quick: None
) -> None:
    def fault(seen: Any) -> Reply | None:
        number = len(server.seen)
        if 200 <= number < 240:
            return Reply(429, b"")
        return Reply(503, b"") if number % 33 == 0 else None

    server.fault = fault
    dataset = paint(tmp_path / "images", 300)
    table = classify(dataset, ToyService(server.url), cache)
    assert list(dataset.frame["image_id"]) == list(table.frame["image_id"])
    assert {OK: 300} == outcomes(table)
    assert 300 == server.replies.count(200)
    assert PRICE * 300 == table.frame["cost_usd"].sum() == server.charged


def test_an_image_that_never_gets_an_answer_is_a_row_with_the_reason(
    tmp_path: Path, server: ToyServer, cache: AnswerCache, quick: None
) -> None:
    dataset = paint(tmp_path / "images", 20)
    server.fault = lambda seen: Reply(503, b"") if seen.json["mean"] < 3 else None
    table = classify(dataset, ToyService(server.url), cache, limits=Limits(seconds_per_image=0.05))
    failed = table.frame[table.frame["outcome"] != OK]
    assert set(failed["outcome"]) == {"provider_error"}
    assert failed["detail"].str.match(r"status 503; given up after \d+ attempts").all()
    assert len(failed) == 3
    server.fault = lambda seen: None
    before = len(server.seen)
    assert {OK: 20} == outcomes(classify(dataset, ToyService(server.url), cache))
    assert 3 == len(server.seen) - before


def test_the_same_picture_under_many_names_is_paid_once(tmp_path: Path, server: ToyServer, cache: AnswerCache) -> None:
    server.latency = 0.02
    paint(tmp_path / "images", 3)
    for number in range(3):
        for copy in range(10):
            data = (tmp_path / "images" / f"{number:04}.png").read_bytes()
            (tmp_path / "images" / f"copy-{copy}-{number}.png").write_bytes(data)
    dataset = dataset_of(tmp_path / "images", sorted(path.name for path in (tmp_path / "images").iterdir()))
    table = classify(dataset, ToyService(server.url), cache)
    assert 33 == len(table)
    assert 3 == len(server.seen)
    assert 3 * PRICE == table.frame["cost_usd"].sum()


# Money and credentials


def test_a_budget_stops_the_run_and_the_next_one_goes_on(tmp_path: Path, server: ToyServer, cache: AnswerCache) -> None:
    dataset, toy = paint(tmp_path / "images", 30), ToyService(server.url)
    with pytest.raises(
        BudgetError, match=r"toy: the budget of \$2\.6000 .* \$2\.5000 spent.* 10 of 30 images .* other 20 .* \$5\.0000"
    ):
        classify(dataset, toy, cache, limits=Limits(budget_usd=2.6))
    assert 10 == len(server.seen)
    table = classify(dataset, toy, cache, limits=Limits(budget_usd=5))
    assert 30 == len(server.seen)
    assert 20 * PRICE == table.frame["cost_usd"].sum()
    assert classify(dataset, toy, cache, limits=Limits(budget_usd=0)).frame["cached"].all()


def test_missing_credentials_are_told_before_the_first_call_and_only_then(
    tmp_path: Path, server: ToyServer, cache: AnswerCache
) -> None:
    dataset, toy = paint(tmp_path / "images", 3), ToyService(server.url)
    with pytest.raises(PrerequisiteError, match="toy: no key"):
        classify(dataset, toy, cache, lacks=lambda: "no key")
    assert [] == server.seen
    classify(dataset, toy, cache)
    assert classify(dataset, toy, cache, lacks=lambda: "no key").frame["cached"].all()


def test_credentials_that_expire_end_the_run_and_answers_are_kept(
    tmp_path: Path, server: ToyServer, cache: AnswerCache
) -> None:
    dataset, toy = paint(tmp_path / "images", 40), ToyService(server.url)
    server.fault = lambda seen: Reply(401, b"") if len(server.seen) > 15 else None
    with pytest.raises(CredentialsError, match=r"toy: the key is not taken.*what was answered is kept"):
        classify(dataset, toy, cache, limits=Limits(max_in_flight=3))
    server.fault = lambda seen: None
    before = len(server.seen)
    classify(dataset, toy, cache)
    assert 25 == len(server.seen) - before


# What stands


def test_what_stands_is_switched_on_for_the_first_question_and_then_off(
    tmp_path: Path, server: ToyServer, cache: AnswerCache, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, standing = paint(tmp_path / "images", 12), ToyStanding(server.url, hourly_usd=3600.0)
    table = classify(dataset, standing, cache)
    assert ["start", "stop"] == standing.said
    assert {OK: 12} == outcomes(table)
    assert "toy: switching on" in capsys.readouterr().err
    assert float(table.info.settings[STANDING_USD]) > 0
    classify(dataset, standing, cache)
    assert ["start", "stop"] == standing.said  # everything was kept


def test_what_stands_is_switched_off_when_the_run_breaks_down(
    tmp_path: Path, server: ToyServer, cache: AnswerCache
) -> None:
    server.fault = lambda seen: Reply(401, b"") if len(server.seen) > 5 else None
    standing = ToyStanding(server.url)
    with pytest.raises(CredentialsError):
        classify(paint(tmp_path / "images", 12), standing, cache)
    assert ["start", "stop"] == standing.said


# Processes


class Process:
    """A run in a process of its own, against a stand-in in this one."""

    def __init__(self, folder: Path, server: ToyServer, journal: Path | None = None, in_flight: int = 8) -> None:
        paint(folder / "images", 120)
        self.store = folder / "store" / "answers.sqlite"
        arguments = (server.url, folder / "images", self.store, journal or "-", in_flight)
        command = [sys.executable, toy_service.__file__, "classify", *map(str, arguments)]
        self.running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def end(self, server: ToyServer, after: int, number: signal.Signals) -> str:
        """Send a signal once so many questions have arrived; what it says then."""
        deadline = time.monotonic() + 60
        while len(server.seen) < after:
            assert self.running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(self.running.pid, number)
        return self.running.communicate()[1]


def test_killed_at_half_and_run_again_it_pays_for_what_was_in_flight_at_most(tmp_path: Path, server: ToyServer) -> None:
    server.latency = 0.05
    process = Process(tmp_path, server, in_flight=8)
    process.end(server, 60, signal.SIGKILL)
    time.sleep(0.1)  # the stand-in may still answer those in flight, to nobody
    server.latency = 0
    dataset = dataset_of(tmp_path / "images", sorted(path.name for path in (tmp_path / "images").iterdir()))
    with AnswerCache(process.store) as cache:
        table = classify(dataset, ToyService(server.url), cache)
        assert 0 == cache.discarded
    assert {OK: 120} == outcomes(table)
    assert 120 <= len(server.seen) <= 120 + 8
    with closing(sqlite3.connect(process.store)) as connection:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_termination_switch_off_and_keep_every_answer(
    tmp_path: Path, server: ToyServer, number: signal.Signals
) -> None:
    server.latency = 0.05
    journal = tmp_path / "journal"
    process = Process(tmp_path, server, journal)
    told = process.end(server, 40, number)
    assert ["start", "stop"] == journal.read_text().split()
    assert {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 143}[number] == process.running.returncode
    if number == signal.SIGINT:
        assert "toy: stopped; what was answered is kept, and running again asks only the rest" in told
    answered = len(server.seen)
    assert 40 <= answered < 120
    with AnswerCache(process.store) as cache:
        dataset = dataset_of(tmp_path / "images", sorted(path.name for path in (tmp_path / "images").iterdir()))
        classify(dataset, ToyService(server.url), cache)
    assert 120 == len(server.seen)


def test_two_processes_at_once_pay_once(tmp_path: Path, server: ToyServer) -> None:
    server.latency = 0.005
    first, second = (Process(tmp_path, server) for _ in range(2))
    told = [process.running.communicate(timeout=60)[1] for process in (first, second)]
    assert [0, 0] == [first.running.returncode, second.running.returncode]
    assert Counter(server.asked).most_common(1)[0][1] == 1
    assert 120 == len(server.seen)
    assert not any("Error" in text for text in told)


def test_who_waits_for_another_run_asks_what_that_one_left(
    tmp_path: Path, server: ToyServer, cache: AnswerCache, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset, standing = paint(tmp_path / "images", 5), ToyStanding(server.url)
    other = Claim(cache.path.parent, standing.question)
    assert other.take()
    ends: list[dict[str, int]] = []
    with AnswerCache(cache.path) as own:
        waiting = threading.Thread(target=lambda: ends.append(outcomes(classify(dataset, standing, own))))
        waiting.start()
        while "another run is asking the same" not in capfd.readouterr().err:
            time.sleep(0.005)
        assert ([], []) == (server.seen, standing.said)
        with asking.ServiceAsker(ToyService(server.url)) as asker:
            pipeline = Pipeline(ToyService(server.url), cache, asker)
            for name in dataset.frame["image_id"]:
                pipeline.classify_file((name, dataset.file(name)))
        other.release()
        waiting.join(60)
    assert [{OK: 5}] == ends
    assert (5, []) == (len(server.seen), standing.said)  # nothing was left, so nothing was switched on


def test_a_cache_that_is_deleted_ends_the_run_before_more_is_paid(
    tmp_path: Path, server: ToyServer, cache: AnswerCache
) -> None:
    def fault(seen: Any) -> None:
        if len(server.seen) == 10:
            cache.path.unlink()

    server.fault = fault
    with pytest.raises(RunError, match="deleted, moved or replaced while it was in use"):
        classify(paint(tmp_path / "images", 60), ToyService(server.url), cache, limits=Limits(max_in_flight=2))
    assert 10 <= len(server.seen) <= 12
    assert not cache.path.exists()


def test_ctrl_c_ends_waiting_for_another_run(tmp_path: Path, server: ToyServer) -> None:
    other = Claim(tmp_path / "store", ToyService(server.url).question)
    assert other.take()
    process = Process(tmp_path, server)
    assert process.running.stderr is not None
    assert "another run is asking the same" in process.running.stderr.readline()
    process.end(server, 0, signal.SIGINT)
    assert -signal.SIGINT == process.running.returncode
    other.release()
    assert [] == server.seen


def test_ctrl_c_wakes_who_waits(tmp_path: Path, server: ToyServer) -> None:
    server.fault = lambda seen: Reply(429, b"", {"Retry-After": "100"})
    process = Process(tmp_path, server)
    process.end(server, 1, signal.SIGINT)
    assert -signal.SIGINT == process.running.returncode
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("classify")]
