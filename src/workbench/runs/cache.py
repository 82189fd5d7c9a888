"""Answers that were paid for, kept in one SQLite file.

Two tables. `preparations` leads from a file's bytes to its pixels, so that a hit decodes nothing; `answers` leads from
pixels and an approach's fingerprint to what the approach answered, so that a hit asks nothing. Text and numbers only:
no image bytes, no pickle. Each record carries a checksum; a damaged one counts as absent.

Every write is its own transaction: in WAL mode that costs some 30 µs, and a process that is killed loses only what was
in flight.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from workbench.errors import RunError
from workbench.prepare.decode import Unprepared

_VERSION = 1
_BUSY_SECONDS = 60.0
_TABLES = (
    """CREATE TABLE preparations (
        file TEXT NOT NULL, preparation TEXT NOT NULL,
        pixels TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL,
        checksum TEXT NOT NULL, PRIMARY KEY (file, preparation)) WITHOUT ROWID""",
    """CREATE TABLE answers (
        pixels TEXT NOT NULL, fingerprint TEXT NOT NULL,
        raw TEXT NOT NULL, model_version TEXT NOT NULL, latency_ms REAL NOT NULL, cost_usd REAL NOT NULL,
        answered TEXT NOT NULL, checksum TEXT NOT NULL, PRIMARY KEY (pixels, fingerprint))""",
)
_CREATING = threading.Lock()
_WRITABLE = "it and its folder must be writable: give yourself that right or choose another folder"


@dataclass(frozen=True)
class KeptAnswer:
    """What an approach once answered about some pixels."""

    raw: Mapping[str, Any]
    """As the approach gave it; JSON values only."""
    model_version: str
    """As observed in the answer."""
    latency_ms: float
    """How long asking took, then."""
    cost_usd: float
    """What asking cost, then."""
    answered: str
    """When, in UTC: 2026-11-23T17:00:00Z."""


class AnswerCache:
    """The kept answers of one file; a context manager, usable from several threads, and by several processes at once.

    Makes the file (readable by its owner only) and its folder where they are not there yet. Every method raises
    RunError where the file cannot be used; the message says what to do, and nothing in the file is deleted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.discarded = 0
        """Damaged records met so far; each counts as absent and is replaced by the next answer."""
        self._lock = threading.Lock()
        with _explained(path):
            _create_private(path)
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            self._open_tables()
        except BaseException:
            self._connection.close()
            raise

    def preparation(self, file: str, preparation: str) -> str | Unprepared | None:
        """What became of the file with this SHA-256 under this preparation id: its pixels' digest, or why it has none.

        None where that is not known yet.
        """
        query = "SELECT pixels, outcome, detail, checksum FROM preparations WHERE file = ? AND preparation = ?"
        found = self._fetch(query, file, preparation)
        if found is None:
            return None
        pixels, outcome, detail = found
        return pixels or Unprepared(outcome, detail)

    def keep_preparation(self, file: str, preparation: str, found: str | Unprepared) -> None:
        """Remember what `preparation` will answer."""
        fields = (found, "", "") if isinstance(found, str) else ("", found.outcome, found.detail)
        self._store("preparations", file, preparation, *fields)

    def answer(self, pixels: str, fingerprint: str) -> KeptAnswer | None:
        """What the approach with this fingerprint answered about these pixels; None where nothing usable is kept."""
        query = (
            "SELECT raw, model_version, latency_ms, cost_usd, answered, checksum FROM answers"
            " WHERE pixels = ? AND fingerprint = ?"
        )
        found = self._fetch(query, pixels, fingerprint)
        if found is None:
            return None
        raw, *rest = found
        try:
            return KeptAnswer(json.loads(raw), *rest)
        except ValueError:
            self._count_discarded()
            return None

    def keep_answer(self, pixels: str, fingerprint: str, answer: KeptAnswer) -> None:
        """Remember an answer, in place of any before it. It is on file when this returns."""
        raw = json.dumps(answer.raw, allow_nan=False)
        costs = (float(answer.latency_ms), float(answer.cost_usd))
        self._store("answers", pixels, fingerprint, raw, answer.model_version, *costs, answer.answered)

    def close(self) -> None:
        """Let go of the file; everything is in it already."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fetch(self, query: str, *key: str) -> tuple[Any, ...] | None:
        """The record without its checksum; None where there is none or it is damaged."""
        with _explained(self.path), self._lock:
            row = self._connection.execute(query, key).fetchone()
        if row is None:
            return None
        *fields, checksum = row
        if checksum != _checksum(*key, *fields):
            self._count_discarded()
            return None
        return tuple(fields)

    def _store(self, table: str, *fields: str | float) -> None:
        places = ", ".join("?" * (len(fields) + 1))
        with self._writing() as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO {table} VALUES ({places})",  # noqa: S608  two fixed table names
                (*fields, _checksum(*fields)),
            )

    def _count_discarded(self) -> None:
        with self._lock:
            self.discarded += 1

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is committed whole or not at all."""
        with _explained(self.path), self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _open_tables(self) -> None:
        # a damaged byte must not hide the record behind a decoding error: the checksum tells
        self._connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        with _explained(self.path):
            _switch_to_wal(self._connection)
            self._connection.execute("PRAGMA synchronous = NORMAL")
        with self._writing() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if version == tables == 0:
                for statement in _TABLES:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise RunError(f"{self.path}: not an answer cache of this version; name another file or move it aside")


def _checksum(*fields: str | float) -> str:
    return hashlib.sha256(ascii(fields).encode()).hexdigest()


def _create_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # closing a file drops the locks that this process holds on it: never open one that SQLite may have open
    with _CREATING:
        if not path.exists():
            path.touch(mode=0o600)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for its turn here when several processes open a new file at once."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _primary(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: the answer cache cannot be made: {error.strerror}; {_WRITABLE}") from None
    except sqlite3.Error as error:
        raise RunError(f"{path}: answer cache: {error}; {_advice(path, error)}") from None


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _advice(path: Path, error: sqlite3.Error) -> str:
    match _primary(error):
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return (
                f"the file is damaged: move it aside (with {path.name}-wal and {path.name}-shm, if they are there) and"
                " run again with a new one; nothing in it was deleted"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return _WRITABLE
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return "free some disk space and run again: what was answered before is kept"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"another process has held it for {_BUSY_SECONDS:.0f} s: end that one or wait, and run again"
        case _:
            return "what was answered before is kept"
