"""The SQLite file under the answer cache: made for its owner only, brought up to date, shared by threads and processes.

Reading takes no lock: each reader has a connection for itself. Every write is its own transaction: in WAL mode that
costs some 30 µs, and a process that is killed loses only what was in flight. What is deleted is overwritten with zeros.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from workbench.errors import RunError

_VERSION = 2
_BUSY_SECONDS = 60.0
_READERS = 8
_TABLES: dict[int, tuple[str, ...]] = {
    1: (
        """CREATE TABLE preparations (
        file TEXT NOT NULL, preparation TEXT NOT NULL,
        pixels TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL,
        checksum TEXT NOT NULL, PRIMARY KEY (file, preparation)) WITHOUT ROWID""",
        # `fingerprint` is what is called the key by now; programs of the first version may have the file open
        """CREATE TABLE answers (
        pixels TEXT NOT NULL, fingerprint TEXT NOT NULL,
        raw TEXT NOT NULL, model_version TEXT NOT NULL, latency_ms REAL NOT NULL, cost_usd REAL NOT NULL,
        answered TEXT NOT NULL, checksum TEXT NOT NULL, PRIMARY KEY (pixels, fingerprint))""",
    ),
    2: (
        """CREATE TABLE unusable (
        number INTEGER PRIMARY KEY, pixels TEXT NOT NULL, "key" TEXT NOT NULL, outcome TEXT NOT NULL,
        raw TEXT NOT NULL, model_version TEXT NOT NULL, latency_ms REAL NOT NULL, cost_usd REAL NOT NULL,
        answered TEXT NOT NULL, checksum TEXT NOT NULL)""",
        """CREATE INDEX unusable_by_key ON unusable (pixels, "key")""",
        """CREATE TABLE versions (
        number INTEGER PRIMARY KEY, question TEXT NOT NULL, version TEXT NOT NULL, approach TEXT NOT NULL,
        seen TEXT NOT NULL, checksum TEXT NOT NULL, UNIQUE (question, version))""",
        """CREATE TABLE keys (
        "key" TEXT NOT NULL PRIMARY KEY, question TEXT NOT NULL, version TEXT NOT NULL, part INTEGER NOT NULL,
        approach TEXT NOT NULL, checksum TEXT NOT NULL) WITHOUT ROWID""",
    ),
}
"""What each version of the file added to the one before."""
_CREATING = threading.Lock()
_WRITABLE = "it and its folder must be writable: give yourself that right or choose another folder"


class CacheFile:
    """Records of text and numbers, each with a checksum as its last field.

    Every method raises RunError where the file cannot be used; the message says what to do, and nothing is deleted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.discarded = 0
        """Damaged records met so far."""
        self._lock = threading.Lock()
        self._closed = False
        self._readers: deque[sqlite3.Connection] = deque()
        with _explained(path):
            _create_private(path)
            self._writer = _connect(path)
            self._which = _which(path)
        try:
            self._open_tables()
        except BaseException:
            self._writer.close()
            raise

    def fetch(self, query: str, *key: str) -> tuple[Any, ...] | None:
        """The record of this key without its checksum; None where there is none or it is damaged."""
        # asked twice per image of every run: the plain form of `reading`, which takes a third of the time
        try:
            connection = self._take_reader()
            try:
                row = connection.execute(query, key).fetchone()
            finally:
                self._give_back(connection)
        except (OSError, sqlite3.Error) as error:
            raise _in_words(self.path, error) from None
        return None if row is None else self.intact(row, key)

    def intact(self, row: tuple[Any, ...], key: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
        """A row without its checksum (which is over the key and the rest); None, and counted, where it is damaged."""
        if damaged(row, key):
            self.count_discarded()
            return None
        return row[:-1]

    def store(self, table: str, columns: str, *fields: str | float) -> None:
        """Put a record in place of the one with the same key."""
        with self.writing() as connection:
            insert(connection, table, columns, *fields)

    def check_there(self) -> None:
        """Raises RunError where the file was deleted: what is put into it is lost then. To be asked before paying."""
        if not self._closed and _which(self.path) != self._which:
            raise RunError(
                f"{self.path}: the answer cache was deleted, moved or replaced while it was in use, so that nothing"
                " more can be kept in it; put it back, if it still is somewhere, and run again"
            )

    def count_discarded(self) -> None:
        """One more damaged record was met."""
        with self._lock:
            self.discarded += 1

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for one reader; it sees whatever was committed before each statement."""
        with _explained(self.path):
            connection = self._take_reader()
            try:
                yield connection
            finally:
                self._give_back(connection)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection for one reader that sees the file as it was at its first statement, whatever happens."""
        with self.reading() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is committed whole or not at all."""
        with _explained(self.path), self._lock:
            self.check_there()
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def rewrite(self) -> None:
        """Write the file anew without what was deleted, and empty the log beside it; who writes waits meanwhile."""
        with _explained(self.path), self._lock:
            self._writer.execute("VACUUM")
            (busy, *_) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise RunError(
                f"{self.path}: what was to go is deleted, but another process has been reading the file for"
                f" {_BUSY_SECONDS:.0f} s, so that the bytes still stand in {self.path.name}-wal; once that process has"
                " ended, do the same again"
            )

    def close(self) -> None:
        """Let go of the file; everything is in it already."""
        self._closed = True
        self._close_readers(0)
        with self._lock:
            self._writer.close()

    def _take_reader(self) -> sqlite3.Connection:
        try:
            return self._readers.pop()
        except IndexError:
            return self._reader()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        self._readers.append(connection)
        if self._closed or len(self._readers) > _READERS:
            self._close_readers(0 if self._closed else _READERS)

    def _reader(self) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("it is closed")
        self.check_there()  # or SQLite would make another
        connection = _connect(self.path)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _close_readers(self, but: int) -> None:
        while len(self._readers) > but:
            try:
                self._readers.pop().close()
            except IndexError:
                return

    def _open_tables(self) -> None:
        with _explained(self.path):
            _switch_to_wal(self._writer)
            self._writer.execute("PRAGMA synchronous = NORMAL")
            self._writer.execute("PRAGMA secure_delete = ON")
        with self.writing() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if not (version == tables == 0 or 1 <= version <= _VERSION):
                raise RunError(f"{self.path}: not an answer cache of this version; name another file or move it aside")
            for later in range(version + 1, _VERSION + 1):
                for statement in _TABLES[later]:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")


def insert(connection: sqlite3.Connection, table: str, columns: str, *fields: str | float) -> None:
    """Write a record with its checksum; `table` and `columns` are never what a user wrote."""
    places = ", ".join("?" * (len(fields) + 1))
    connection.execute(
        f"INSERT OR REPLACE INTO {table} ({columns}, checksum) VALUES ({places})",  # noqa: S608  fixed names
        (*fields, checksum_of(*fields)),
    )


def damaged(row: tuple[Any, ...], key: tuple[Any, ...] = ()) -> bool:
    """Whether the checksum, which is a row's last field, is not that of its key and the rest."""
    return bool(row[-1] != checksum_of(*key, *row[:-1]))


def checksum_of(*fields: str | float) -> str:
    """SHA-256, in hex, over the fields of a record."""
    return hashlib.sha256(ascii(fields).encode()).hexdigest()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    # a damaged byte must not hide the record behind a decoding error: the checksum tells
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    return connection


def _which(path: Path) -> tuple[int, int] | None:
    """Tells a file from every other one; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


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
    except (OSError, sqlite3.Error) as error:
        raise _in_words(path, error) from None


def _in_words(path: Path, error: OSError | sqlite3.Error) -> RunError:
    if isinstance(error, OSError):
        return RunError(f"{path}: the answer cache cannot be made: {error.strerror}; {_WRITABLE}")
    return RunError(f"{path}: answer cache: {error}; {_advice(path, error)}")


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
