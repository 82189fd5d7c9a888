"""What is kept, what it cost, what goes and what comes out, as the command tells it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from drawn import draw_dataset
from workbench.cli.main import app
from workbench.features.converter import CLASSES, FEATURES, NetworkAnswer
from workbench.features.store import FeatureStore
from workbench.records import Taxonomy
from workbench.runs.cache import AnswerCache, KeptAnswer, answer_key

QUESTION, PIXELS = "c" * 64, "a" * 64
KEY = answer_key(QUESTION, "claude-test-1", 0)


def workbench(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def told(*arguments: object) -> object:
    result = workbench(*arguments, "--json")
    assert 0 == result.exit_code, result.output
    return json.loads(result.stdout)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "0007.png"
    path.write_bytes(b"bytes of a picture")
    return path


@pytest.fixture
def path(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An answer about the image, a refusal about it, and an answer about another one."""
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    path = tmp_path / "store" / "answers.sqlite"
    with AnswerCache(path) as cache:
        cache.keep_preparation(hashlib.sha256(image.read_bytes()).hexdigest(), "p", PIXELS)
        cache.note_version(QUESTION, "claude-test-1", "claude")
        cache.note_key(KEY, QUESTION, "claude-test-1", 0, "claude")
        for pixels, cost in ((PIXELS, 0.25), ("b" * 64, 1.5)):
            raw = {"text": f"about {pixels}"}
            cache.keep_answer(pixels, KEY, KeptAnswer(raw, "claude-test-1", 900.0, cost, "2026-01-01T00:00:00Z"))
        refused = KeptAnswer({"refusal": True}, "claude-test-1", 900.0, 0.0625, "2026-01-02T00:00:00Z")
        cache.keep_unusable(PIXELS, KEY, "refusal", refused)
    return path


def test_stats_say_what_is_kept_and_what_it_cost(path: Path) -> None:
    shown = workbench("cache", "stats")
    assert 0 == shown.exit_code
    for words in (str(path), "claude-test-1", "refusal", "$0.0625", "3 answers, which cost $1.81; 1 preparation."):
        assert words in shown.stdout
    assert "damaged" not in shown.stdout
    document = told("cache", "stats")
    assert isinstance(document, dict)
    assert (1.8125, 1, 0) == (document["cost_usd"], document["files"], document["damaged"])
    assert [("ok", 2), ("refusal", 1)] == [(each["outcome"], each["answers"]) for each in document["holdings"]]


def test_nothing_is_deleted_before_one_says_yes(path: Path) -> None:
    shown = workbench("cache", "prune", "--approach", "claude")
    assert "Would go: 3 answers, which cost $1.81. Nothing was deleted; --yes does it." in shown.stdout
    assert 3 == counted(told("cache", "stats"))
    assert {"deleted": False, "answers": 1, "cost_usd": 0.0625} == {
        name: value
        for name, value in dict(told("cache", "prune", "--unusable")).items()  # type: ignore[call-overload]
        if name != "holdings"
    }
    assert "Deleted: 1 answer, which cost $0.0625." in workbench("cache", "prune", "--unusable", "--yes").stdout
    assert 2 == counted(told("cache", "stats"))
    assert "No kept answer is like that" in workbench("cache", "prune", "--approach", "nobody", "--yes").stdout
    assert 0 == workbench("cache", "prune", "--older-than", 1, "--model-version", "claude-test-1", "--yes").exit_code
    assert 0 == counted(told("cache", "stats"))


def counted(stats: object) -> int:
    assert isinstance(stats, dict)
    return sum(each["answers"] for each in stats["holdings"])


@pytest.mark.parametrize("options", [(), ("--yes",), ("--older-than", "nan", "--yes"), ("--older-than", "-1", "--yes")])
def test_pruning_asks_which_answers(path: Path, options: tuple[str, ...]) -> None:
    assert 2 == workbench("cache", "prune", *options).exit_code
    assert 3 == counted(told("cache", "stats"))


def test_export_writes_lines_and_never_over_the_cache(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    assert {"out": str(out), "answers": 3, "damaged": 0} == told("cache", "export", "-o", out)
    assert 3 == len(out.read_text().splitlines())
    assert f"{out}: 3 answers" in workbench("cache", "export", "-o", out).stdout
    for target in (path, tmp_path / "0007.png"):
        before = target.read_bytes()
        assert 2 == workbench("cache", "export", "-o", target).exit_code
        assert before == target.read_bytes()


def test_an_image_is_forgotten_with_its_features(path: Path, image: Path) -> None:
    store = FeatureStore(path.with_name("features.sqlite"))
    answer = NetworkAnswer(np.ones(CLASSES, "<f4"), np.ones(FEATURES, "<f4"))
    for pixels in (PIXELS, "b" * 64):
        store.write(pixels, "network-1", answer)
    shown = workbench("cache", "forget", image)
    assert 0 == shown.exit_code
    told_words = "1 preparation; 2 answers (1 unusable), which cost $0.3125; features of 1 network."
    assert f"{image}: forgotten: {told_words}" in shown.stdout.replace("\n", " ")
    assert store.read(PIXELS, "network-1") is None
    assert store.read("b" * 64, "network-1") is not None
    assert 1 == counted(told("cache", "stats"))
    for name in ("answers.sqlite", "features.sqlite"):
        for file in path.parent.glob(name + "*"):
            assert PIXELS.encode() not in file.read_bytes()
    assert "nothing was kept about it" in workbench("cache", "forget", image).stdout
    assert 0 == workbench("cache", "forget", "B" * 64).exit_code
    assert 0 == counted(told("cache", "stats"))


def test_what_is_no_image_and_no_digest_is_told(path: Path) -> None:
    for image in ("missing.png", "abc"):
        result = workbench("cache", "forget", image)
        assert 2 == result.exit_code
        assert f"{image}: neither an image file nor a SHA-256" in result.stderr
    assert 3 == counted(told("cache", "stats"))


@pytest.mark.parametrize(
    "command", [("stats",), ("prune", "--unusable"), ("export", "-o", "x.jsonl"), ("forget", "a" * 64)]
)
def test_no_cache_is_made_only_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    result = workbench("cache", *command)
    assert 2 == result.exit_code
    assert "no answers are kept there" in result.stderr
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["stats", "prune", "export", "forget"])
def test_each_command_explains_itself_by_example(command: str) -> None:
    shown = workbench("cache", command, "--help").stdout
    assert "Example" in shown
    assert f"workbench cache {command}" in " ".join(shown.split())


PROJECT = """
[taxonomy]
categories = ["disc", "stripes"]

[approaches.local-moderation.labels]
disc = ["nsfw"]
stripes = ["sfw"]
"""


def test_answers_are_named_by_who_gave_them_also_those_that_were_kept_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    draw_dataset(tmp_path / "images", [("tune", ("disc",)), ("tune", ("stripes",))], Taxonomy(("disc", "stripes")))
    (tmp_path / "images" / "workbench.toml").write_text(PROJECT)
    run = ("classify", tmp_path / "images", "--approach", "local-moderation", "-o", tmp_path / "run.parquet")
    for _ in range(2):
        assert 0 == workbench(*run).exit_code
        stats = told("cache", "stats")
        assert isinstance(stats, dict)
        assert [("local-moderation", 2)] == [(each["approach"], each["answers"]) for each in stats["holdings"]]
        with closing(sqlite3.connect(tmp_path / "store" / "answers.sqlite")) as connection, connection:
            connection.execute("DELETE FROM keys")  # as in a file of the first version
