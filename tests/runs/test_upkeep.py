from __future__ import annotations

import json
import sqlite3
import stat
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.errors import RunError
from workbench.prepare.decode import Unprepared
from workbench.runs.cache import AnswerCache, KeptAnswer, answer_key
from workbench.runs.upkeep import (
    UNNAMED,
    Holding,
    Selection,
    drop_answers,
    export_answers,
    forget_image,
    select_answers,
    take_stock,
)

OLD, NEW = "2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z"
QUESTIONS = {"claude": "c" * 64, "google-vision": "e" * 64}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.sqlite"


def digest(number: int) -> str:
    return f"{number:064x}"


def keep(
    cache: AnswerCache,
    number: int,
    approach: str = "claude",
    version: str = "m-1",
    answered: str = OLD,
    outcome: str = "ok",
    part: int = 0,
    text: str = "",
) -> KeptAnswer:
    """An answer about the picture with this number, which cost a quarter of a dollar."""
    question = QUESTIONS[approach]
    key = answer_key(question, version, part)
    kept = KeptAnswer({"text": text or f"answer {number}"}, version, 1.0, 0.25, answered)
    cache.note_version(question, version, approach)
    cache.note_key(key, question, version, part, approach)
    cache.keep_preparation(digest(1000 + number), "p", digest(number))
    if outcome == "ok":
        cache.keep_answer(digest(number), key, kept)
    else:
        cache.keep_unusable(digest(number), key, outcome, kept)
    return kept


def fill(cache: AnswerCache) -> None:
    keep(cache, 1)
    keep(cache, 2, version="m-2", answered=NEW)
    keep(cache, 3, outcome="refusal", answered=NEW)
    keep(cache, 4, "google-vision")
    keep(cache, 5, "google-vision", answered=NEW)
    cache.keep_answer(digest(6), "of the first version", KeptAnswer({}, "m-0", 1.0, 0.5, OLD))
    cache.keep_preparation(digest(1006), "p", Unprepared("corrupt", "cut"))


def edit(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert 1 == connection.execute(statement).rowcount


def test_stock_names_approaches_versions_and_outcomes(path: Path) -> None:
    with AnswerCache(path) as cache:
        fill(cache)
        stock = take_stock(cache)
    assert (
        Holding(UNNAMED, "m-0", "ok", 1, 0.5, OLD, OLD),
        Holding("claude", "m-1", "ok", 1, 0.25, OLD, OLD),
        Holding("claude", "m-1", "refusal", 1, 0.25, NEW, NEW),
        Holding("claude", "m-2", "ok", 1, 0.25, NEW, NEW),
        Holding("google-vision", "m-1", "ok", 2, 0.5, OLD, NEW),
    ) == stock.holdings
    assert (1.75, 6, 0) == (stock.cost_usd, stock.files, stock.damaged)
    assert stock.size > path.stat().st_size  # the log counts, too


def test_stock_counts_damaged_records_of_every_kind_and_nothing_else_of_them(path: Path) -> None:
    with AnswerCache(path) as cache:
        fill(cache)
        for statement in (
            "UPDATE answers SET cost_usd = 1000 WHERE model_version = 'm-2'",
            "UPDATE unusable SET raw = '{}'",
            "UPDATE versions SET approach = 'x' WHERE version = 'm-2'",
            "UPDATE keys SET part = 7 WHERE version = 'm-2'",
            "UPDATE preparations SET detail = 'x' WHERE outcome = 'corrupt'",
        ):
            edit(path, statement)
        stock = take_stock(cache)
    assert (5, 1.25, 5) == (stock.damaged, stock.cost_usd, stock.files)


def test_an_empty_cache_holds_nothing(path: Path) -> None:
    with AnswerCache(path) as cache:
        assert () == take_stock(cache).holdings
        assert () == select_answers(cache, Selection(unusable=True))
        assert (0, 0) == export_answers(cache, path.with_name("out.jsonl"))


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(approach="google-vision"), {4, 5}),
        (Selection(approach="claude"), {1, 2, 3}),
        (Selection(approach=UNNAMED), {6}),
        (Selection(approach="nobody"), set()),
        (Selection(model_version="m-1"), {1, 3, 4, 5}),
        (Selection(older_than_days=0), {1, 4, 6}),
        (Selection(unusable=True), {3}),
        (Selection("claude", "m-1"), {1, 3}),
        (Selection("claude", "m-1", 0), {1}),
        (Selection("claude", unusable=True, older_than_days=0), set()),
        (Selection(older_than_days=700_000), set()),
    ],
)
def test_exactly_what_was_selected_goes_and_was_shown_before(
    path: Path, selection: Selection, expected: set[int]
) -> None:
    with AnswerCache(path) as cache:
        fill(cache)
        shown = select_answers(cache, selection)
        assert {1, 2, 3, 4, 5, 6} == pictures(path)
        assert shown == drop_answers(cache, selection)
        assert {1, 2, 3, 4, 5, 6} - expected == pictures(path)
        assert len(expected) == sum(holding.answers for holding in shown)
        assert ["m-1", "m-2"] == cache.versions(QUESTIONS["claude"])
        assert digest(1) == cache.preparation(digest(1001), "p")
        assert 0 == take_stock(cache).damaged


def pictures(path: Path) -> set[int]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT pixels FROM answers UNION SELECT pixels FROM unusable").fetchall()
    return {int(pixels, 16) for (pixels,) in rows}


def test_nothing_goes_without_a_selection(path: Path) -> None:
    with AnswerCache(path) as cache:
        fill(cache)
        with pytest.raises(ValueError, match="restricts nothing"):
            drop_answers(cache, Selection())
        assert {1, 2, 3, 4, 5, 6} == pictures(path)


def test_days_before_the_calendar_are_refused(path: Path) -> None:
    with AnswerCache(path) as cache, pytest.raises(RunError, match="before the calendar begins"):
        select_answers(cache, Selection(older_than_days=1e9))


def test_a_day_is_a_day(path: Path) -> None:
    now = datetime.now(UTC)
    with AnswerCache(path) as cache:
        for number, hours in ((1, 47), (2, 49)):
            keep(cache, number, answered=f"{now - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}")
        drop_answers(cache, Selection(older_than_days=2))
    assert {1} == pictures(path)


def test_the_file_shrinks(path: Path) -> None:
    with AnswerCache(path) as cache:
        for number in range(100):
            keep(cache, number, text="x" * 5000)
        before = take_stock(cache).size
        drop_answers(cache, Selection("claude"))
        assert take_stock(cache).size < before / 5


def test_every_answer_is_written_out_as_it_came(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "answers.jsonl"
    with AnswerCache(path) as cache:
        first = keep(cache, 1, part=2, text="é\n\ud800")
        refused = keep(cache, 2, outcome="refusal")
        keep(cache, 3)
        edit(path, "UPDATE answers SET raw = '{}' WHERE raw LIKE '%answer 3%'")
        assert (2, 1) == export_answers(cache, out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    shared = {"approach": "claude", "question": QUESTIONS["claude"], "model_version": "m-1", "latency_ms": 1.0}
    shared |= {"cost_usd": 0.25, "answered": OLD}
    assert [
        {**shared, "pixels": digest(1), "part": 2, "outcome": "ok", "raw": first.raw},
        {**shared, "pixels": digest(2), "part": 0, "outcome": "refusal", "raw": refused.raw},
    ] == lines
    assert 0o600 == stat.S_IMODE(out.stat().st_mode)
    assert [out] == list(out.parent.iterdir())


def test_an_export_that_fails_leaves_the_file_before_it(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    out.write_text("before")
    with AnswerCache(path) as cache:
        keep(cache, 1)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("ALTER TABLE unusable RENAME TO elsewhere")
        with pytest.raises(RunError, match="no such table"):
            export_answers(cache, out)
    assert "before" == out.read_text()
    assert {out.name, path.name} == {file.name for file in tmp_path.iterdir()}


WORDS = "unmistakable words about one picture"


def stored(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(path.name + "*")))


@pytest.mark.parametrize("by", [digest(1007), digest(7)])
def test_what_is_forgotten_stands_nowhere_in_the_file(path: Path, by: str) -> None:
    with AnswerCache(path) as cache, AnswerCache(path) as run:
        for number in range(60):
            keep(cache, number, text=f"{WORDS} {number:03}" if number in (7, 8) else "x" * 700)
        keep(cache, 7, "google-vision", text=f"{WORDS} 007")
        keep(cache, 7, outcome="refusal", text=f"{WORDS} 007")
        cache.keep_preparation(digest(2007), "p", digest(7))
        cache.keep_preparation(digest(1007), "q", Unprepared("too_large", "for q"))
        assert f"{WORDS} 007".encode() in stored(path)
        gone = forget_image(cache, by)
        assert (2, 1, 0.75) == (gone.answers, gone.unusable, gone.cost_usd)
        assert digest(7) in gone.pixels
        left = stored(path)
        for words in (f"{WORDS} 007", digest(7)):
            assert words.encode() not in left
        assert f"{WORDS} 008".encode() in left
        assert run.answer(digest(7), answer_key(QUESTIONS["claude"], "m-1", 0)) is None
        assert run.answer(digest(8), answer_key(QUESTIONS["claude"], "m-1", 0)) is not None
        assert run.preparation(digest(1007), "p") is run.preparation(digest(2007), "p") is None
        if by == digest(1007):
            assert digest(1007).encode() not in left
            assert 3 == gone.preparations
        assert (0, 0, 0, 0.0) == forget_image(cache, by)[:4]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_forgetting_some_keeps_all_others(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = tmp_path_factory.mktemp("cache") / "answers.sqlite"
    numbers = data.draw(st.sets(st.integers(0, 15), min_size=1))
    forgotten = data.draw(st.sets(st.sampled_from(sorted(numbers))))
    with AnswerCache(path) as cache:
        answers = {number: keep(cache, number) for number in numbers}
        for number in forgotten:
            forget_image(cache, digest(1000 + number))
        key = answer_key(QUESTIONS["claude"], "m-1", 0)
        kept = {number: answers[number] for number in numbers - forgotten}
        found = {number: answer for number in numbers if (answer := cache.answer(digest(number), key))}
        assert kept == found


def test_a_run_goes_on_while_the_cache_is_tidied(path: Path) -> None:
    failures: list[BaseException] = []
    going = threading.Event()

    def run() -> None:
        try:
            with AnswerCache(path) as cache:
                for number in range(100, 220):
                    kept = keep(cache, number, "google-vision")
                    assert kept == cache.answer(digest(number), answer_key(QUESTIONS["google-vision"], "m-1", 0))
                    going.set()
        except BaseException as error:
            failures.append(error)
            going.set()

    with AnswerCache(path) as cache:
        for number in range(50):
            keep(cache, number)
        thread = threading.Thread(target=run)
        thread.start()
        going.wait()
        dropped = drop_answers(cache, Selection("claude"))
        forget_image(cache, digest(1000))
        take_stock(cache)
        export_answers(cache, path.with_name("out.jsonl"))
        thread.join()
    assert [] == failures
    assert [50] == [holding.answers for holding in dropped]
    assert set(range(100, 220)) == pictures(path)


def test_bytes_that_another_process_still_reads_are_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AnswerCache(path) as cache:
        keep(cache, 1)
        cache.file._writer.execute("PRAGMA busy_timeout = 20")
        monkeypatch.setattr("workbench.runs.cachefile._BUSY_SECONDS", 0.02)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM answers").fetchone()
            with pytest.raises(RunError, match="do the same again"):
                forget_image(cache, digest(1))
            other.execute("COMMIT")
        assert set() == pictures(path)
        forget_image(cache, digest(1))
        assert digest(1).encode() not in stored(path)


def test_an_answer_replaced_is_gone_from_the_counts(path: Path) -> None:
    with AnswerCache(path) as cache:
        kept = keep(cache, 1)
        cache.keep_answer(digest(1), answer_key(QUESTIONS["claude"], "m-1", 0), replace(kept, cost_usd=1.0))
        assert 1.0 == take_stock(cache).cost_usd
