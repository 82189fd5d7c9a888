"""What was handed in to services in batches, kept in one SQLite file, so that nothing is handed in twice.

A submission is on file, down to the disk, before the service sees it, and its batch's id as soon as the service has
told it. What lies between (a process that was killed, a connection that broke) is found out by asking the service for
its batches. Digests and times only: no image bytes, no credentials.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from workbench.approaches.base import Batch
from workbench.errors import RunError

State = Literal["open", "collected", "void", "gone"]
"""open: handed in, or perhaps; collected: its answers are kept; void: the service never took it; gone: too old."""

FILE = "batches.sqlite"
"""In the store: what was handed in."""

_VERSION = 1
_BUSY_SECONDS = 60.0
_TABLES = (
    """CREATE TABLE submissions (
        nonce TEXT NOT NULL PRIMARY KEY, question TEXT NOT NULL, approach TEXT NOT NULL, noted REAL NOT NULL,
        after TEXT NOT NULL, after_id TEXT NOT NULL, count INTEGER NOT NULL, high_usd REAL,
        batch TEXT NOT NULL DEFAULT '', created TEXT NOT NULL DEFAULT '', state TEXT NOT NULL DEFAULT 'open')""",
    """CREATE TABLE questions (
        nonce TEXT NOT NULL, pixels BLOB NOT NULL, part INTEGER NOT NULL,
        PRIMARY KEY (nonce, pixels, part)) WITHOUT ROWID""",
    "CREATE TABLE strangers (batch TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID",
)
_FIELDS = "nonce, question, approach, noted, after, after_id, count, high_usd, batch, created"
_WAITING = 0.1


class Place(NamedTuple):
    """What is asked: one part of the question about some pixels."""

    pixels: str
    """SHA-256, in hex."""
    part: int


@dataclass(frozen=True)
class Submission:
    """Questions that were handed in together, or were about to be."""

    nonce: str
    """Makes the question ids unguessable, so that a batch that holds them is this one."""
    question: str
    """What was asked; see `Service.question`."""
    approach: str
    noted: float
    """When it was put on file, before it was handed in; seconds since 1970 by this machine's clock."""
    after: str
    """When the newest batch had been made that the service had before this one, by its clock; "" for none."""
    after_id: str
    """That batch."""
    count: int
    high_usd: float | None
    """What it cannot exceed."""
    batch: str = ""
    """Its id at the service; "" while nobody knows whether the service took it."""
    created: str = ""
    """When, by the service's clock."""

    def id_of(self, place: Place) -> str:
        """The id of a question in this batch: 40 characters from 0-9 and a-f."""
        return hashlib.sha256(f"{self.nonce} {place.pixels} {place.part}".encode()).hexdigest()[:40]


def begin_exclusive(lock: sqlite3.Connection) -> bool:
    """Whether nobody else has the file of this connection; it is ours then, until a rollback, or the process ends."""
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise
        return False
    return True


class Submissions:
    """The submissions of one file; a context manager. Several processes may use the file at once.

    Makes the file (readable by its owner only) and its folder where they are not there yet. Every method raises
    RunError where the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = path.with_suffix(".lock")
        with self._explained():
            for file in (path, self._lock_path):
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not file.exists():
                    file.touch(mode=0o600)
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            self._open_tables()
        except BaseException:
            self._connection.close()
            raise

    def note(
        self, question: str, approach: str, places: Iterable[Place], newest: Batch | None, high_usd: float | None
    ) -> Submission:
        """Put on file what is about to be handed in. It is on the disk when this returns.

        `newest` is the newest batch that the service has now.
        """
        nonce, noted = secrets.token_hex(16), time.time()
        rows = [(nonce, bytes.fromhex(place.pixels), place.part) for place in places]
        after = (newest.created, newest.id) if newest else ("", "")
        submission = Submission(nonce, question, approach, noted, *after, len(rows), high_usd)
        with self._writing() as connection:
            connection.execute(
                f"INSERT INTO submissions ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  fixed names
                (nonce, question, approach, noted, *after, len(rows), high_usd, "", ""),
            )
            connection.executemany("INSERT INTO questions VALUES (?, ?, ?)", rows)
        return submission

    def confirm(self, submission: Submission, batch: Batch) -> None:
        """The service has it as this batch."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE submissions SET batch = ?, created = ? WHERE nonce = ?",
                (batch.id, batch.created, submission.nonce),
            )

    def disown(self, submission: Submission) -> None:
        """The batch that was taken for this submission holds other questions."""
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO strangers VALUES (?)", (submission.batch,))
            connection.execute("UPDATE submissions SET batch = '', created = '' WHERE nonce = ?", (submission.nonce,))

    def close_as(self, submission: Submission, state: State) -> None:
        """Nothing is to be waited for any more."""
        with self._writing() as connection:
            connection.execute("UPDATE submissions SET state = ? WHERE nonce = ?", (state, submission.nonce))
            connection.execute("DELETE FROM questions WHERE nonce = ?", (submission.nonce,))

    def open_of(self, question: str) -> list[Submission]:
        """What is, or may be, at the service for this question, oldest first."""
        rows = self._rows(
            f"SELECT {_FIELDS} FROM submissions WHERE question = ? AND state = 'open' ORDER BY rowid",  # noqa: S608
            question,
        )
        return [Submission(*row) for row in rows]

    def is_open(self, submission: Submission) -> bool:
        """Whether no other process has closed it meanwhile."""
        rows = self._rows("SELECT 1 FROM submissions WHERE nonce = ? AND state = 'open'", submission.nonce)
        return bool(rows)

    def places(self, submission: Submission) -> Iterator[Place]:
        """What was asked; nothing once it is closed."""
        for pixels, part in self._rows("SELECT pixels, part FROM questions WHERE nonce = ?", submission.nonce):
            yield Place(pixels.hex(), part)

    def claimed(self) -> set[str]:
        """The batches that are known to be some submission's, or nobody's here."""
        rows = self._rows("SELECT batch FROM submissions WHERE batch != '' UNION SELECT batch FROM strangers")
        return {batch for (batch,) in rows}

    @contextmanager
    def alone(self, say: Callable[[str], None], pause: Callable[[float], None]) -> Iterator[None]:
        """No other process that uses this file is in here at the same time. Ends with the process, however it ends."""
        with closing(sqlite3.connect(self._lock_path, timeout=0, isolation_level=None)) as lock:
            told = False
            while not self._taken(lock):
                if not told:
                    say("another process is handing in or collecting batches; waiting for it")
                told = True
                pause(_WAITING)
            try:
                yield
            finally:
                lock.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of the file; everything is in it already."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        with self._explained():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _taken(self, lock: sqlite3.Connection) -> bool:
        with self._explained():
            return begin_exclusive(lock)

    def _open_tables(self) -> None:
        with self._explained():
            # the default journal, synced at each commit: what is handed in must survive a power cut
            self._connection.execute("PRAGMA synchronous = FULL")
        with self._writing() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if version == tables == 0:
                for statement in _TABLES:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise RunError(f"{self.path}: not a list of submissions of this version; use the program that wrote it")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"{self.path}: cannot be made: {error.strerror}; choose a folder that is writable") from None
        except sqlite3.Error as error:
            raise RunError(
                f"{self.path}: {error}; it says which batches a service has: without it, asking again may cost twice."
                " Free its disk, give yourself the right to write it, or bring it back from a backup"
            ) from None
