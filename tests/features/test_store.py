"""Answers are kept, damage is found, and two processes share one file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workbench.features.converter import NetworkAnswer
from workbench.features.store import FeatureStore

RNG = np.random.default_rng(0)
ANSWER = NetworkAnswer(RNG.random(1000, np.float32), RNG.random(1280, np.float32))
OTHER = NetworkAnswer(RNG.random(1000, np.float32), RNG.random(1280, np.float32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "features.sqlite"


def same(expected: NetworkAnswer, actual: NetworkAnswer | None) -> bool:
    return actual is not None and all(map(np.array_equal, expected, actual))


def change(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        assert 1 == connection.execute(statement, values).rowcount
    connection.close()


def test_gives_back_every_bit(path: Path) -> None:
    FeatureStore(path).write("a", "v1", ANSWER)
    kept = FeatureStore(path).read("a", "v1")
    assert same(ANSWER, kept)
    assert kept is not None
    assert [np.dtype("<f4")] * 2 == [values.dtype for values in kept]


def test_pixels_and_network_are_the_key(path: Path) -> None:
    store = FeatureStore(path)
    store.write("a", "v1", ANSWER)
    store.write("a", "v2", OTHER)
    assert same(ANSWER, store.read("a", "v1"))
    assert same(OTHER, store.read("a", "v2"))
    assert store.read("b", "v1") is None


def test_the_last_answer_wins(path: Path) -> None:
    store = FeatureStore(path)
    store.write("a", "v1", ANSWER)
    store.write("a", "v1", OTHER)
    assert same(OTHER, store.read("a", "v1"))


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("UPDATE answers SET features = ?", np.zeros(1280, "<f4").tobytes()),
        ("UPDATE answers SET features = ?", bytes(17)),
        ("UPDATE answers SET probabilities = ?", "text"),
        ("UPDATE answers SET checksum = ?", b"wrong"),
        ("UPDATE answers SET pixels = 'b' WHERE pixels <> ?", "b"),
    ],
)
def test_a_damaged_row_is_discarded(statement: str, value: object, path: Path) -> None:
    store = FeatureStore(path)
    store.write("a", "v1", ANSWER)
    change(path, statement, value)
    key = "b" if "pixels =" in statement else "a"
    assert (None, 1) == (store.read(key, "v1"), store.discarded)
    assert (None, 1) == (store.read(key, "v1"), store.discarded)
    store.write("a", "v1", ANSWER)
    assert same(ANSWER, store.read("a", "v1"))


def test_a_file_that_is_no_database_is_put_aside(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is not a database" * 100)
    store = FeatureStore(path)
    store.write("a", "v1", ANSWER)
    assert same(ANSWER, store.read("a", "v1"))
    assert b"this is not" == (path.parent / "features.sqlite.damaged").read_bytes()[:11]


def overwrite_pages(path: Path) -> None:
    """Every page but the first, as a bad disk would."""
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(bytes(data))


def test_a_broken_page_fails_nothing_and_is_told_once(path: Path) -> None:
    FeatureStore(path).write("a", "v1", ANSWER)
    overwrite_pages(path)
    store = FeatureStore(path)
    with pytest.warns(UserWarning, match="features are not kept"):
        assert store.read("a", "v1") is None
    store.write("a", "v1", ANSWER)
    assert store.read("a", "v1") is None


@pytest.mark.parametrize("name", ["features.sqlite", "features.sqlite-wal", "features.sqlite-shm"])
def test_only_the_owner_may_read(name: str, path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o644)
    path.chmod(0o644)
    store = FeatureStore(path)
    store.write("a", "v1", ANSWER)
    assert 0o600 == (path.parent / name).stat().st_mode & 0o777


WRITER = """
import sys, numpy as np
from pathlib import Path
from workbench.features.converter import NetworkAnswer
from workbench.features.store import FeatureStore

path, name = Path(sys.argv[1]), sys.argv[2]
sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
store = FeatureStore(path)
for number in range(100):
    store.write(f"{name}{number}", "v1", NetworkAnswer(np.full(1000, number, "f4"), np.full(1280, number, "f4")))
    store.write("shared", "v1", NetworkAnswer(np.full(1000, number, "f4"), np.full(1280, number, "f4")))
"""


def test_two_processes_share_it(path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", WRITER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, name], **pipes) for name in "ab"]  # type: ignore[call-overload]
    for writer in writers:
        assert "ready\n" == writer.stdout.readline()
    for writer in writers:
        writer.communicate("go\n", timeout=60)
    assert [0, 0] == [writer.returncode for writer in writers]
    store = FeatureStore(path)
    for name in "ab":
        for number in range(100):
            kept = store.read(f"{name}{number}", "v1")
            assert kept is not None
            assert {number} == set(kept.features.tolist())
    assert 0 == store.discarded
