from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.errors import RunError
from workbench.prepare.decode import Unprepared
from workbench.runs.cache import AnswerCache, KeptAnswer, answer_key

FILE, PIXELS, FINGERPRINT = "f" * 64, "a" * 64, "b" * 64
ANSWER = KeptAnswer(
    {"scores": [0.1, 1e-45, 1], "label": "é\ud800", "none": None}, "m-1", 12.5, 0.003, "2026-11-23T17:00:00Z"
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "answers.sqlite"


def edit(path: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert 1 == connection.execute(statement, values).rowcount


def test_what_is_kept_comes_back_also_to_the_next_process(path: Path) -> None:
    with AnswerCache(path) as cache:
        assert cache.answer(PIXELS, FINGERPRINT) is None
        cache.keep_answer(PIXELS, FINGERPRINT, ANSWER)
        assert ANSWER == cache.answer(PIXELS, FINGERPRINT)
    code = "import sys; from pathlib import Path; from workbench.runs.cache import AnswerCache\n"
    code += "print(ascii(AnswerCache(Path(sys.argv[1])).answer(sys.argv[2], sys.argv[3])))"
    told = subprocess.run(
        [sys.executable, "-c", code, path, PIXELS, FINGERPRINT], capture_output=True, text=True, check=True
    )
    assert ascii(ANSWER) == told.stdout.strip()


def test_an_answer_belongs_to_its_pixels_and_its_fingerprint(path: Path) -> None:
    with AnswerCache(path) as cache:
        cache.keep_answer(PIXELS, FINGERPRINT, ANSWER)
        assert cache.answer("c" * 64, FINGERPRINT) is None
        assert cache.answer(PIXELS, "c" * 64) is None


def test_preparations_come_back(path: Path) -> None:
    refused = Unprepared("corrupt", "a damaged JPEG")
    with AnswerCache(path) as cache:
        assert cache.preparation(FILE, "pixels-1:8x8") is None
        cache.keep_preparation(FILE, "pixels-1:8x8", PIXELS)
        cache.keep_preparation(FILE, "pixels-1:9x9", refused)
    with AnswerCache(path) as cache:
        assert PIXELS == cache.preparation(FILE, "pixels-1:8x8")
        assert refused == cache.preparation(FILE, "pixels-1:9x9")
        assert cache.preparation("0" * 64, "pixels-1:8x8") is None


def test_a_later_answer_takes_the_place_of_the_first(path: Path) -> None:
    later = KeptAnswer({}, "m-2", 1.0, 0.0, "2026-11-24T17:00:00Z")
    with AnswerCache(path) as cache:
        cache.keep_answer(PIXELS, FINGERPRINT, ANSWER)
        cache.keep_answer(PIXELS, FINGERPRINT, later)
        assert later == cache.answer(PIXELS, FINGERPRINT)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.dictionaries(st.text(), json_values), numbers=st.tuples(*[st.floats(0, 1e9)] * 2))
def test_any_json_comes_back_to_the_last_bit(path: Path, raw: dict[str, Any], numbers: tuple[float, float]) -> None:
    answer = KeptAnswer(raw, "m", *numbers, "2026-11-23T17:00:00Z")
    with AnswerCache(path) as cache:
        cache.keep_answer(PIXELS, FINGERPRINT, answer)
        assert repr(answer) == repr(cache.answer(PIXELS, FINGERPRINT))
        assert 0 == cache.discarded


def test_only_its_owner_may_read_it(path: Path) -> None:
    with AnswerCache(path) as cache:
        cache.keep_answer(PIXELS, FINGERPRINT, ANSWER)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert {"answers.sqlite": 0o600, "answers.sqlite-wal": 0o600, "answers.sqlite-shm": 0o600} == modes
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)


def test_it_is_text_that_any_sqlite_reads(path: Path) -> None:
    with AnswerCache(path) as cache:
        cache.keep_answer(PIXELS, FINGERPRINT, ANSWER)
    with closing(sqlite3.connect(path)) as connection:
        (raw,) = connection.execute("SELECT raw FROM answers").fetchone()
        assert "wal" == connection.execute("PRAGMA journal_mode").fetchone()[0]
    assert ANSWER.raw == json.loads(raw)


@pytest.mark.parametrize(
    "damage",
    [
        ("UPDATE answers SET raw = substr(raw, 1, 5)",),
        ("UPDATE answers SET raw = replace(raw, '12', '13')",),
        ("UPDATE answers SET model_version = 'm-9'",),
        ("UPDATE answers SET latency_ms = latency_ms + 1",),
        ("UPDATE answers SET cost_usd = 'free'",),
        ("UPDATE answers SET checksum = ''",),
        ("UPDATE answers SET raw = ?", b"\xff\xfe"),
        ("UPDATE answers SET raw = CAST(? AS TEXT)", b"\xff\xfe"),
        ("UPDATE answers SET pixels = ?", PIXELS),
    ],
)
def test_a_damaged_answer_counts_as_absent_and_is_replaced(path: Path, damage: tuple[Any, ...]) -> None:
    stored_under = "c" * 64 if "pixels" in damage[0] else PIXELS
    with AnswerCache(path) as cache:
        cache.keep_answer(stored_under, FINGERPRINT, KeptAnswer({"n": 12}, "m-1", 1.0, 0.0, "2026-11-23T17:00:00Z"))
        edit(path, *damage)
        assert cache.answer(PIXELS, FINGERPRINT) is None
        assert 1 == cache.discarded
        cache.keep_answer(PIXELS, FINGERPRINT, ANSWER)
        assert ANSWER == cache.answer(PIXELS, FINGERPRINT)
        assert 1 == cache.discarded


def test_bad_json_under_a_right_checksum_counts_as_absent(path: Path) -> None:
    from workbench.runs.cachefile import checksum_of

    fields = (PIXELS, FINGERPRINT, "{torn", "m-1", 1.0, 0.0, "2026-11-23T17:00:00Z")
    with AnswerCache(path) as cache:
        edit(path, "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *fields, checksum_of(*fields))
        assert cache.answer(PIXELS, FINGERPRINT) is None
        assert 1 == cache.discarded


def test_a_record_of_an_earlier_release_is_still_read(path: Path) -> None:
    fields = (PIXELS, FINGERPRINT, '{"label": "\\u00e9"}', "modèle-1 😀", 12.5, 0.1, "2026-11-23T17:00:00Z")
    checksum = "82adcd5b5b8eeb871d91d90556f188d410b8cd2eab88433e7670d73637ccfba3"
    with AnswerCache(path) as cache:
        edit(path, "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *fields, checksum)
        assert KeptAnswer({"label": "é"}, *fields[3:]) == cache.answer(PIXELS, FINGERPRINT)


def test_a_damaged_preparation_counts_as_absent(path: Path) -> None:
    with AnswerCache(path) as cache:
        cache.keep_preparation(FILE, "p", PIXELS)
        edit(path, "UPDATE preparations SET pixels = ?", "e" * 64)
        assert cache.preparation(FILE, "p") is None
        assert 1 == cache.discarded


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_file_that_is_no_database_is_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"answers\.sqlite: .*move it aside"):
        AnswerCache(path)
    assert content == path.read_bytes()


def test_a_damaged_page_is_told_and_the_file_is_left_alone(path: Path) -> None:
    with AnswerCache(path) as cache:
        for number in range(200):
            cache.keep_answer(f"{number:064}", FINGERPRINT, ANSWER)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x5a" * (len(content) - 4096)
    path.write_bytes(content)
    with AnswerCache(path) as cache, pytest.raises(RunError, match=r"move it aside .* nothing in it was deleted"):
        cache.answer(f"{7:064}", FINGERPRINT)
    assert bytes(content[4096:]) == path.read_bytes()[4096:]


def test_another_programs_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE places (url TEXT)")
    with pytest.raises(RunError, match="not an answer cache"):
        AnswerCache(path)


def test_a_newer_cache_is_refused(path: Path) -> None:
    with AnswerCache(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
    with pytest.raises(RunError, match="not an answer cache of this version"):
        AnswerCache(path)


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user who owns nothing (root may write everywhere)."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_folder_is_told() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        with (
            without_rights(),
            pytest.raises(RunError, match=r"answers\.sqlite: .*Permission denied; it and its folder must be writable"),
        ):
            AnswerCache(folder / "answers.sqlite")
        with without_rights(), pytest.raises(RunError, match="Permission denied"):
            AnswerCache(folder / "deep" / "answers.sqlite")
        assert [] == list(folder.iterdir())
        folder.chmod(0o755)


def test_a_read_only_file_is_told() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with AnswerCache(folder / "answers.sqlite"):
            pass
        (folder / "answers.sqlite").chmod(0o444)
        folder.chmod(0o555)
        with without_rights(), pytest.raises(RunError, match="must be writable"):
            AnswerCache(folder / "answers.sqlite")
        folder.chmod(0o755)


def test_a_folder_in_the_way_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=str(tmp_path)):
        AnswerCache(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="choose another folder"):
        AnswerCache(tmp_path / "file" / "answers.sqlite")


FULL_DISK = """
import resource, sys
from pathlib import Path
from workbench.errors import RunError
from workbench.runs.cache import AnswerCache, KeptAnswer
with AnswerCache(Path(sys.argv[1])) as cache:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    kept = 0
    try:
        for number in range(1000):
            cache.keep_answer(f"{number:064}", "f", KeptAnswer({"text": "x" * 1000}, "m", 1.0, 0.0, ""))
            kept += 1
    except RunError as error:
        print(kept, error, sep="|")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    cache.keep_answer("after", "f", KeptAnswer({}, "m", 1.0, 0.0, ""))
"""


def test_a_full_disk_loses_nothing_that_was_kept(path: Path) -> None:
    # a limit on the size of files makes writing fail as a full disk does
    run = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    kept, message = run.stdout.strip().split("|")
    assert "run again: what was answered before is kept" in message
    assert int(kept) > 5
    with AnswerCache(path) as cache:
        assert all(cache.answer(f"{number:064}", "f") for number in range(int(kept)))
        assert cache.answer(f"{int(kept):064}", "f") is None
        assert cache.answer("after", "f") is not None


def test_several_threads_share_one_cache(path: Path) -> None:
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(50):
                cache.keep_answer(f"{thread}-{number}", FINGERPRINT, ANSWER)
                assert ANSWER == cache.answer(f"{thread}-{number}", FINGERPRINT)
        except BaseException as error:
            failures.append(error)

    with AnswerCache(path) as cache:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [] == failures
        assert all(cache.answer(f"{thread}-{number}", FINGERPRINT) for thread in range(4) for number in range(50))


WRITER = """
import sys
from pathlib import Path
from workbench.runs.cache import AnswerCache, KeptAnswer
print("ready", flush=True)
sys.stdin.readline()
with AnswerCache(Path(sys.argv[1])) as cache:
    for number in range(200):
        cache.keep_answer(f"{sys.argv[2]}-{number}", "f", KeptAnswer({"n": number}, "m", 1.0, 0.0, ""))
"""


def test_several_processes_make_and_fill_one_cache_at_once(path: Path) -> None:
    command = [sys.executable, "-c", WRITER, path]
    writers = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert "ready\n" == writer.stdout.readline()
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert 0 == writer.returncode
    with AnswerCache(path) as cache:
        for number in range(200):
            for writer in range(3):
                kept = cache.answer(f"{writer}-{number}", "f")
                assert kept is not None
                assert {"n": number} == kept.raw


def test_a_file_that_another_process_is_just_making_is_waited_for(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, other.execute, ["COMMIT"])
        release.start()
        with AnswerCache(path) as cache:
            cache.keep_answer(PIXELS, FINGERPRINT, ANSWER)
            assert ANSWER == cache.answer(PIXELS, FINGERPRINT)
        release.join()


def test_two_caches_of_one_file_in_one_process_see_each_other(path: Path) -> None:
    with AnswerCache(path) as one, AnswerCache(path) as other:
        one.keep_answer(PIXELS, FINGERPRINT, ANSWER)
        assert ANSWER == other.answer(PIXELS, FINGERPRINT)


def test_a_write_that_fails_midway_leaves_the_cache_usable(path: Path) -> None:
    with AnswerCache(path) as cache, AnswerCache(path) as other:
        with pytest.raises(UnicodeEncodeError):
            cache.keep_answer(PIXELS, FINGERPRINT, replace(ANSWER, model_version="\ud800"))
        for writer in (other, cache):
            assert writer.answer(PIXELS, FINGERPRINT) is None
        for writer in (other, cache):
            writer.keep_answer(PIXELS, FINGERPRINT, ANSWER)
            assert ANSWER == writer.answer(PIXELS, FINGERPRINT)


def test_what_is_not_json_is_not_kept(path: Path) -> None:
    with AnswerCache(path) as cache:
        with pytest.raises(ValueError, match="JSON"):
            cache.keep_answer(PIXELS, FINGERPRINT, KeptAnswer({"x": float("nan")}, "m", 1.0, 0.0, ""))
        assert cache.answer(PIXELS, FINGERPRINT) is None


QUESTION = "d" * 64


def test_a_key_tells_question_version_and_part_apart() -> None:
    places = [(QUESTION, "m-1", 0), (QUESTION, "m-1", 1), (QUESTION, "m-2", 0), ("e" * 64, "m-1", 0)]
    assert 4 == len({answer_key(*place) for place in places})
    assert hashlib.sha256(b'{"part":1,"question":"q","version":"m"}').hexdigest() == answer_key("q", "m", 1)


def test_versions_come_back_in_the_order_in_which_they_were_first_seen(path: Path) -> None:
    with AnswerCache(path) as cache:
        assert [] == cache.versions(QUESTION)
        for version in ("m-9", "m-1", "m-5", "m-9"):
            cache.note_version(QUESTION, version, "claude")
        cache.note_version("e" * 64, "m-7", "claude")
    with AnswerCache(path) as cache:
        assert ["m-9", "m-1", "m-5"] == cache.versions(QUESTION)


def test_a_damaged_version_counts_as_unseen_and_is_noted_anew(path: Path) -> None:
    with AnswerCache(path) as cache:
        cache.note_version(QUESTION, "m-1", "claude")
        edit(path, "UPDATE versions SET approach = 'other'")
        assert [] == cache.versions(QUESTION)
        cache.note_version(QUESTION, "m-1", "claude")
        assert ["m-1"] == cache.versions(QUESTION)


def test_an_unusable_answer_never_comes_back_as_an_answer(path: Path) -> None:
    refusals = [replace(ANSWER, raw={"refusal": number}, cost_usd=number / 8) for number in range(3)]
    with AnswerCache(path) as cache:
        assert cache.unusable(PIXELS, FINGERPRINT) is None
        for refusal in refusals:
            cache.keep_unusable(PIXELS, FINGERPRINT, "refusal", refusal)
        assert cache.answer(PIXELS, FINGERPRINT) is None
        assert cache.unusable(PIXELS, "c" * 64) is None
        assert refusals[-1] == cache.unusable(PIXELS, FINGERPRINT)
        edit(path, "UPDATE unusable SET raw = '{}' WHERE number = 3")
        assert refusals[-2] == cache.unusable(PIXELS, FINGERPRINT)
        assert 1 == cache.discarded


def test_what_was_unusable_and_can_be_read_by_now_is_counted_once(path: Path) -> None:
    other = replace(ANSWER, answered="2026-11-24T17:00:00Z")
    with AnswerCache(path) as cache:
        cache.keep_unusable(PIXELS, FINGERPRINT, "malformed_answer", other)
        cache.keep_unusable(PIXELS, FINGERPRINT, "malformed_answer", ANSWER)
        cache.keep_unusable("c" * 64, FINGERPRINT, "malformed_answer", ANSWER)
        cache.keep_answer(PIXELS, FINGERPRINT, ANSWER)
        assert ANSWER == cache.answer(PIXELS, FINGERPRINT)
        assert other == cache.unusable(PIXELS, FINGERPRINT)
        assert ANSWER == cache.unusable("c" * 64, FINGERPRINT)


FIRST_VERSION = """
PRAGMA journal_mode = WAL;
CREATE TABLE preparations (
    file TEXT NOT NULL, preparation TEXT NOT NULL,
    pixels TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL,
    checksum TEXT NOT NULL, PRIMARY KEY (file, preparation)) WITHOUT ROWID;
CREATE TABLE answers (
    pixels TEXT NOT NULL, fingerprint TEXT NOT NULL,
    raw TEXT NOT NULL, model_version TEXT NOT NULL, latency_ms REAL NOT NULL, cost_usd REAL NOT NULL,
    answered TEXT NOT NULL, checksum TEXT NOT NULL, PRIMARY KEY (pixels, fingerprint));
INSERT INTO answers VALUES ('{pixels}', '{fingerprint}', '{{"label": "x"}}', 'm-1', 12.5, 0.1, '2026-11-23T17:00:00Z',
    '786212bef7d6e62a23d0f2d7fb94f82417edf96086525c18a4db1d77407a707d');
PRAGMA user_version = 1;
"""
KEPT_BEFORE = KeptAnswer({"label": "x"}, "m-1", 12.5, 0.1, "2026-11-23T17:00:00Z")


def make_first_version(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST_VERSION.format(pixels=PIXELS, fingerprint=FINGERPRINT))


def test_a_file_of_the_first_version_is_brought_up_to_date_in_place(path: Path) -> None:
    make_first_version(path)
    with AnswerCache(path) as cache:
        assert KEPT_BEFORE == cache.answer(PIXELS, FINGERPRINT)
        cache.note_version(QUESTION, "m-1", "claude")
        cache.keep_unusable(PIXELS, FINGERPRINT, "refusal", ANSWER)
    with AnswerCache(path) as cache:
        assert KEPT_BEFORE == cache.answer(PIXELS, FINGERPRINT)
        assert ["m-1"] == cache.versions(QUESTION)
        assert ANSWER == cache.unusable(PIXELS, FINGERPRINT)


def test_a_file_of_the_first_version_is_brought_up_to_date_by_one_of_several_processes(path: Path) -> None:
    make_first_version(path)
    command = [sys.executable, "-c", WRITER, path]
    writers = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(2)
    ]
    # who has opened the file before goes on with the tables it knows
    with closing(sqlite3.connect(path)) as earlier:
        for writer in writers:
            assert writer.stdout is not None
            assert "ready\n" == writer.stdout.readline()
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        for writer in writers:
            writer.communicate()
            assert 0 == writer.returncode
        assert (401,) == earlier.execute("SELECT count(*) FROM answers").fetchone()
    with AnswerCache(path) as cache:
        assert KEPT_BEFORE == cache.answer(PIXELS, FINGERPRINT)


def test_a_migration_that_fails_midway_changes_nothing(path: Path) -> None:
    make_first_version(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE keys (in_the_way)")
    with pytest.raises(RunError, match="keys already exists"):
        AnswerCache(path)
    with closing(sqlite3.connect(path)) as connection:
        assert (1,) == connection.execute("PRAGMA user_version").fetchone()
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert {"answers", "preparations", "keys"} == names


def test_who_reads_waits_for_no_writer(path: Path) -> None:
    with AnswerCache(path) as cache:
        cache.keep_answer(PIXELS, FINGERPRINT, ANSWER)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("DELETE FROM answers")
            assert ANSWER == cache.answer(PIXELS, FINGERPRINT)
            other.execute("COMMIT")
        assert cache.answer(PIXELS, FINGERPRINT) is None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed on Linux only")
def test_connections_of_readers_do_not_pile_up(path: Path) -> None:
    with AnswerCache(path) as cache:
        cache.keep_answer(PIXELS, FINGERPRINT, ANSWER)
        for _ in range(5):
            with ThreadPoolExecutor(20) as pool:
                assert [ANSWER] * 200 == list(pool.map(lambda _: cache.answer(PIXELS, FINGERPRINT), range(200)))
        opened = [target for target in open_files() if target == str(path)]
        # SQLite keeps what a thread closed while others read, and uses it again: one each, and the writer
        assert len(opened) <= 20 + 1
    assert str(path) not in open_files()


def open_files() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(link.readlink()))
    return found


def test_a_closed_cache_says_so(path: Path) -> None:
    cache = AnswerCache(path)
    cache.close()
    with pytest.raises(RunError, match="closed"):
        cache.answer(PIXELS, FINGERPRINT)
    with pytest.raises(RunError, match="closed"):
        cache.keep_answer(PIXELS, FINGERPRINT, ANSWER)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_deleted_while_it_is_used_is_told(path: Path, replaced: bool) -> None:
    with AnswerCache(path) as cache:
        cache.keep_answer(PIXELS, FINGERPRINT, ANSWER)
        cache.check_there()
        for file in path.parent.iterdir():
            file.unlink()
        if replaced:
            AnswerCache(path).close()
        for use in (
            cache.check_there,
            lambda: cache.keep_answer(PIXELS, FINGERPRINT, ANSWER),
        ):
            with pytest.raises(RunError, match=r"deleted, moved or replaced while it was in use.*run again"):
                use()
        assert replaced == path.exists()
