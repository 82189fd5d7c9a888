"""The ledger of looks: which choice was tested on which certify images, and what is left of their error budget.

A look is a draft, tested on certify images. Testing the same look again is free. Another look that counts an image
which an earlier one counted needs a part of their error budget: a look whose goals said `looks = m` spends 1/m, and
what looks at shared images spend never exceeds 1. Where no room is left, the images that were counted before are set
aside, and the fresh ones stand for the whole if there are at least as many of them. A look spends the budget of
the images that it counted and of all that share a group or their bytes with one of them.

A look is on file before any certify label judges a prediction, so a process that is killed has spent it all the same.
It is kept twice, beside the images, so that it travels with them, and in the user's store, so that two folders with
the same images are one set; what either remembers counts.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.canonical import digest
from workbench.config.store import store_folder
from workbench.dataset.images import LEDGER_FILE, Dataset
from workbench.documents import to_document
from workbench.errors import InputError
from workbench.evaluation.simulate import gate_scores
from workbench.records import Draft
from workbench.release.examination import Certify, look_digest, unread_key

STARTED = "started"
REFUSED = "refused"
NOT_ALLOWED = "not allowed"

_VERSION = 1
_BUSY_SECONDS = 60.0
_TABLE = """CREATE TABLE looks (
    digest TEXT NOT NULL PRIMARY KEY, begun TEXT NOT NULL, dataset TEXT NOT NULL, approach TEXT NOT NULL,
    model_version TEXT NOT NULL, fingerprint TEXT NOT NULL, draft TEXT NOT NULL, seed INTEGER NOT NULL,
    planned INTEGER NOT NULL, number INTEGER NOT NULL, verdict TEXT NOT NULL, contents BLOB NOT NULL,
    checksum TEXT NOT NULL)"""
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)
_DANGLING = "it is a link to a file that is not there"
_SHORT = 12


@dataclass(frozen=True)
class Look:
    """A draft that was tested on certify images, or that was not allowed to be."""

    digest: str
    """Names the choice and the images; see `examination.look_digest`."""
    begun: str
    """When, in UTC: 2026-11-23T17:00:00Z. Of an attempt, the latest time."""
    dataset: str
    """What the data set was called."""
    approach: str
    model_version: str
    fingerprint: str
    draft: str
    """The digest of the draft."""
    seed: int
    planned: int
    """How many looks its goals planned."""
    number: int
    """Which of the planned looks this was, from 1; 0: an attempt that was not allowed and has spent nothing."""
    verdict: str
    """`started`, `refused`, `not allowed`, or the digest of the policy that came of it."""
    contents: frozenset[str]
    """SHA-256, in hex, of the files of the certify images that counted, and of those of their groups."""

    @property
    def part(self) -> Fraction:
        """What it has spent of the error budget of its images."""
        return Fraction(1, self.planned) if self.number else Fraction(0)

    @property
    def place(self) -> str:
        """`look 1 of 2`; `attempt` for one that was not allowed."""
        return f"look {self.number} of {self.planned}" if self.number else "attempt"

    def __str__(self) -> str:
        came = f"policy {self.verdict[:_SHORT]}…" if len(self.verdict) == len(self.digest) else self.verdict
        return f"{self.begun} {self.approach} {self.model_version} (draft {self.draft[:_SHORT]}…, {self.place}, {came})"


@dataclass(frozen=True, eq=False)
class Claim:
    """What the ledger says to a draft that wants to be tested."""

    look: Look
    """As recorded; number 0 if it is not allowed."""
    certify: Certify
    """The rows that may count."""
    replayed: bool
    """The same look was recorded before: it is free."""
    left_out: int
    """Images that would have counted, had earlier looks not spent them."""
    refusal: str
    """Why it is not allowed and what would help; empty if it is."""
    remarks: tuple[str, ...]
    """Where it could not be recorded."""


@dataclass(frozen=True)
class Budget:
    """What was looked at of the certify images of one data set."""

    images: int
    """Labelled certify images that can be read, each content once."""
    fresh: int
    """Of those, how many no look has counted."""
    looks: tuple[Look, ...]
    """Recorded looks and attempts that share an image with the set, oldest first."""

    @property
    def left(self) -> Fraction:
        """What another look at all of the images may spend: it needs 1/m, where its goals plan m looks."""
        return max(Fraction(0), 1 - spent(self.looks))

    def frame(self) -> pd.DataFrame:
        """One row per look or attempt, oldest first."""
        columns = ["begun", "data set", "approach", "model", "images", "look", "draft", "verdict"]
        rows = [
            (
                look.begun,
                look.dataset,
                look.approach,
                look.model_version,
                len(look.contents),
                look.place,
                look.draft[:_SHORT],
                look.verdict,
            )
            for look in self.looks
        ]
        return pd.DataFrame(rows, columns=columns)


class Ledger:
    """The looks that some files remember; usable by several processes at once.

    The first file has to be writable; one of the others that is not is read and left as it is. Files are made when
    something is first recorded, and open only while they are read or written. Every method raises InputError where a
    file cannot be used or is damaged; nothing in it is deleted.
    """

    def __init__(self, *files: Path) -> None:
        self.files = files
        self._memory: sqlite3.Connection | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> Ledger:
        """The one in the user's store, together with the one beside the images."""
        return cls(store_folder() / "ledger.sqlite", dataset.root / LEDGER_FILE)

    @classmethod
    def in_memory(cls) -> Ledger:
        """One that remembers nothing from before and is forgotten with the object."""
        ledger = cls()
        ledger._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _make_table(ledger._memory)
        return ledger

    def looks(self) -> tuple[Look, ...]:
        """Every look and attempt that any of the files remembers, oldest first."""
        with ExitStack() as stack:
            return _united([_read(name, connection) for name, connection in self._reading(stack)])

    def find(self, look: str) -> Look | None:
        """The look with this digest; None if it is not known."""
        return next((known for known in self.looks() if known.digest == look and known.number), None)

    def conclude(self, look: str, verdict: str) -> None:
        """Record what came of a look; a verdict that is there already stays."""
        with self.writing() as book:
            for known in book.looks:
                if (known.digest, known.verdict) == (look, STARTED):
                    book.keep(replace(known, verdict=verdict))

    @contextmanager
    def writing(self) -> Iterator[Book]:
        """What is known, locked: until the end of the block no other process reads or writes these files."""
        with ExitStack() as stack:
            places, remarks = self._writing(stack)
            book = Book(_united([_read(place.name, place.connection) for place in places]), places, tuple(remarks))
            try:
                yield book
                for place in places:
                    with _explained(place.name):
                        place.connection.execute("COMMIT")
            finally:
                for place in places:
                    if place.connection.in_transaction:
                        place.connection.execute("ROLLBACK")

    def _reading(self, stack: ExitStack) -> Iterator[tuple[str, sqlite3.Connection]]:
        if self._memory is not None:
            yield "the ledger in memory", self._memory
        for file in self.files:
            if file == self.files[0] and _dangles(file):
                raise InputError(f"{file}: the ledger of looks cannot be read: {_DANGLING}")
            if file.exists():
                yield str(file), _connect(file, "rw" if _writable(file) else "ro", stack)

    def _writing(self, stack: ExitStack) -> tuple[list[_Place], list[str]]:
        if self._memory is not None:
            self._memory.execute("BEGIN IMMEDIATE")
            return [_Place("the ledger in memory", self._memory, writable=True)], []
        places, remarks = [], []
        for file in self.files:  # always in this order: two processes never wait for each other
            needed = file == self.files[0]
            with _explained(str(file)):
                writable, why = _make(file, private=needed)
            if why and needed:
                raise InputError(
                    f"{file}: the ledger of looks cannot be written: {why}; give yourself that right, or name another "
                    "folder in WORKBENCH_STORE"
                )
            if why:
                remarks.append(f"{file} cannot be written ({why}): this look is recorded in {self.files[0]} alone")
            if not file.exists():
                continue
            connection = _connect(file, "rw" if writable else "ro", stack)
            with _explained(str(file)):
                connection.execute("BEGIN IMMEDIATE" if writable else "BEGIN")
            places.append(_Place(str(file), connection, writable))
        if not any(place.writable for place in places):
            raise InputError("no ledger of looks can be written, so nothing may be looked at")
        return places, remarks


@dataclass(frozen=True, eq=False)
class _Place:
    """One of a ledger's files, in a transaction."""

    name: str
    connection: sqlite3.Connection
    writable: bool


@dataclass(frozen=True, eq=False)
class Book:
    """A ledger while it is locked."""

    looks: tuple[Look, ...]
    """What was known when it was locked, oldest first."""
    places: Sequence[_Place]
    remarks: tuple[str, ...]
    """Which file could not be opened for writing, and why."""

    def keep(self, look: Look) -> None:
        """Record a look, in place of what is recorded under its digest; on file when the lock is given back."""
        row = _row(look)
        for place in self.places:
            if place.writable:
                with _explained(place.name):
                    statement = f"INSERT OR REPLACE INTO looks VALUES ({', '.join('?' * len(row))})"  # noqa: S608  no text of others
                    place.connection.execute(statement, row)


def spent(looks: Iterable[Look]) -> Fraction:
    """The part of an error budget that these looks have spent together."""
    return sum((look.part for look in looks), Fraction(0))


def claim_look(
    ledger: Ledger, draft: Draft, certify: Certify, dataset: Dataset, seed: int, stated: int | None = None
) -> Claim:
    """Ask for a look and record it, before any label is judged: replayed, allowed, or not allowed.

    `certify` holds the rows that would count. If earlier looks have spent too much of their budget, the rows that those
    counted are set aside, look by look until there is room: first what spent most, then what is oldest. The rest may
    stand for the whole if it is at least as large as what was set aside. An image whose group holds one that was
    counted goes with that one.

    `stated` is the number that a policy made elsewhere gives for a look at just these rows: then none is set aside, and
    the look keeps that number unless another one has it here.
    """
    with ledger.writing() as book:
        looks = [look for look in book.looks if look.number]
        again = find_replay(looks, draft, certify, seed)
        families = _families(certify)
        earlier = _sharing(looks, families)
        for look in earlier:
            book.keep(look)  # a place that does not know it yet learns it
        if again is not None:
            known, rows = again
            return Claim(known, rows, True, len(certify.rows) - len(rows.rows), "", book.remarks)
        kept, unspent = _room(earlier, families, certify, dataset, draft.looks)
        left_out = int((~kept).sum())
        if left_out > (int(kept.sum()) if stated is None else 0):
            attempt = _record(draft, certify, dataset, seed, number=0)
            book.keep(attempt)
            refusal = _refusal(earlier, kept, draft.looks) + (_remedy(kept) if stated is None else "")
            return Claim(attempt, certify, False, 0, refusal, book.remarks)
        rows = restrict_rows(certify, draft, kept) if left_out else certify
        number = ceil(spent(unspent) * draft.looks) + 1
        if stated and stated <= draft.looks and (stated, draft.looks) not in {(o.number, o.planned) for o in unspent}:
            number = stated
        look = _record(draft, rows, dataset, seed, number=number)
        book.keep(look)
        return Claim(look, rows, False, left_out, "", book.remarks)


def restrict_rows(certify: Certify, draft: Draft, kept: np.ndarray) -> Certify:
    """The certify rows where `kept`, an (n,) bool array, is true; the others are set aside."""
    rows = certify.rows.rows(kept)
    return replace(
        certify,
        rows=rows,
        contents=certify.contents[kept].reset_index(drop=True),
        families=tuple(family for family, stays in zip(certify.families, kept, strict=True) if stays),
        gated=gate_scores(rows.scores, rows.unknown_scores, rows.answered, draft.rejection, rows.taxonomy),
        set_aside=certify.set_aside + int((~kept).sum()),
    )


def counted_rows(look: Look, certify: Certify, draft: Draft) -> Certify:
    """Of the rows that would count, those that a recorded look has counted."""
    return restrict_rows(certify, draft, certify.contents.isin(look.contents).to_numpy(dtype=bool))


def rows_left(looks: Iterable[Look], certify: Certify, draft: Draft, dataset: Dataset) -> np.ndarray:
    """(n,) bool: the rows that another look, after these, may count if its goals plan as many looks as the draft's.

    The others would be set aside, and it is allowed if no more are set aside than are left; see `claim_look`.
    """
    families = _families(certify)
    earlier = _sharing([look for look in looks if look.number], families)
    return _room(earlier, families, certify, dataset, draft.looks)[0]


def read_budget(ledger: Ledger, dataset: Dataset) -> Budget:
    """What the ledger knows about the labelled certify images of a data set."""
    frame = dataset.frame
    labelled = (frame["split"] == "certify") & frame["labels"].notna()
    own = frozenset(dataset.contents[labelled]) - {""}
    looks = tuple(look for look in ledger.looks() if look.contents & own)
    seen = frozenset[str]().union(*(look.contents for look in looks if look.number))
    return Budget(len(own), len(own - seen), looks)


def _record(draft: Draft, certify: Certify, dataset: Dataset, seed: int, *, number: int) -> Look:
    return Look(
        digest=look_digest(draft, certify, seed),
        begun=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        dataset=dataset.name,
        approach=draft.origin.approach,
        model_version=draft.origin.model_version,
        fingerprint=draft.origin.fingerprint,
        draft=digest(to_document(draft)),
        seed=seed,
        planned=draft.looks,
        number=number,
        verdict=STARTED if number else NOT_ALLOWED,
        contents=frozenset[str]().union(*certify.families),
    )


def find_replay(looks: Iterable[Look], draft: Draft, certify: Certify, seed: int) -> tuple[Look, Certify] | None:
    """Of recorded looks (attempts have no number), the one that this draft repeats, and the rows that it counted."""
    same = digest(to_document(draft))
    for look in looks:
        if (look.draft, look.seed) == (same, seed):
            for rows in (certify, counted_rows(look, certify, draft)):
                if look_digest(draft, rows, seed) == look.digest:
                    return look, rows
    return None


def _families(certify: Certify) -> list[frozenset[str]]:
    """For each row what an earlier look may know it by: its family, and what it was if it could not be read then."""
    frame = certify.rows.frame
    return [
        family | {unread_key(image_id, labels)}
        for family, image_id, labels in zip(certify.families, frame["image_id"], frame["labels"], strict=True)
    ]


def _sharing(looks: Iterable[Look], families: Iterable[frozenset[str]]) -> list[Look]:
    touched = frozenset[str]().union(*families)
    return [look for look in looks if look.contents & touched]


def _room(
    earlier: Sequence[Look], families: Sequence[frozenset[str]], certify: Certify, dataset: Dataset, planned: int
) -> tuple[np.ndarray, list[Look]]:
    """(n,) bool: the rows that another look may count; and the looks that they share, whose budget still has room."""
    kept = np.ones(len(families), dtype=bool)
    sharing = list(earlier)
    while spent(sharing) + Fraction(1, planned) > 1:
        dearest = max(sharing, key=lambda look: look.part).contents
        kept &= np.array([not family & dearest for family in families], dtype=bool)
        sharing = _sharing(sharing, [family for family, stays in zip(families, kept, strict=True) if stays])
    if not kept.all():
        unread = dataset.frame["image_id"][dataset.contents == ""]
        kept &= ~certify.rows.frame["image_id"].isin(unread).to_numpy()  # nobody can tell whether these were counted
    return kept, sharing


def _refusal(earlier: Sequence[Look], kept: np.ndarray, planned: int) -> str:
    told = "; ".join(map(str, earlier))
    again = f"{int((~kept).sum())} of {len(kept)} certify images were counted before, by {told}"
    spend = f"spent {spent(earlier)}, this look would take {Fraction(1, planned)}"
    return f"{again}. Nothing is left of their error budget for another choice ({spend} of 1)"


def _remedy(kept: np.ndarray) -> str:
    seen, fresh = int((~kept).sum()), int(kept.sum())
    return (
        ", and raising `looks` "
        f"afterwards does not help: say `looks = m` in the goals before the first look at a set, or add {seen - fresh} "
        f"labelled certify images that no look has counted (there are {fresh}; at least {seen} would have to be)"
    )


def _united(copies: Iterable[Iterable[Look]]) -> tuple[Look, ...]:
    """Of every look what its fullest record says, oldest first."""
    known: dict[str, Look] = {}
    for look in (look for copy in copies for look in copy):
        known[look.digest] = max(known.get(look.digest, look), look, key=_fullness)
    return tuple(sorted(known.values(), key=lambda look: (look.begun, look.number == 0, look.number, look.digest)))


def _fullness(look: Look) -> tuple[bool, bool, str]:
    return look.number > 0, look.verdict != STARTED, look.begun


def _row(look: Look) -> tuple[Any, ...]:
    contents = b"".join(sorted(map(bytes.fromhex, look.contents)))
    values = (*(getattr(look, field.name) for field in fields(look)[:-1]), contents)
    return (*values, _checksum(values))


def _look(row: Sequence[Any]) -> Look | None:
    """The look that a row holds; None if it is not what was written."""
    *values, checksum = row
    if _checksum(values) != checksum:
        return None
    contents = values[-1]
    values[-1] = frozenset(contents[place : place + 32].hex() for place in range(0, len(contents), 32))
    return Look(*values)


def _checksum(values: Iterable[Any]) -> str:
    return hashlib.sha256(ascii(tuple(values)).encode()).hexdigest()


def _read(name: str, connection: sqlite3.Connection) -> list[Look]:
    with _explained(name):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'looks'").fetchone()
        if version > _VERSION:
            raise InputError(f"{name}: a ledger of looks of a newer workbench; use that one")
        if version != _VERSION or not tables:
            raise _damaged(name, "it holds no ledger of looks")
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise _damaged(name, found)
        looks = [_look(row) for row in connection.execute("SELECT * FROM looks")]
    if None in looks:
        raise _damaged(name, "a record is not what was written")
    return [look for look in looks if look is not None]


def _make(file: Path, *, private: bool) -> tuple[bool, str]:
    """Make the file if it is not there: whether it can be written, and why not."""
    if _dangles(file):
        return False, _DANGLING
    if file.exists():
        return (True, "") if _writable(file) else (False, os.strerror(errno.EACCES))
    part = file.with_name(f".{file.name}-{secrets.token_hex(8)}.part")
    try:
        if private:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.touch(mode=0o600 if private else 0o666)
        with closing(sqlite3.connect(part, isolation_level=None)) as connection:
            _make_table(connection)
        _put_in_place(part, file)
    except OSError as error:
        if error.errno in _NOT_WRITABLE:
            return False, str(error.strerror)
        raise
    finally:
        if part.exists():
            part.unlink()
    return (True, "") if file.exists() else (False, os.strerror(errno.ENOENT))


def _dangles(file: Path) -> bool:
    return file.is_symlink() and not file.exists()


def _writable(file: Path) -> bool:
    effective = os.access in os.supports_effective_ids
    return all(os.access(path, os.W_OK, effective_ids=effective) for path in (file, file.parent))


def _put_in_place(part: Path, file: Path) -> None:
    """The whole file appears at once, so that an empty one is always a damaged one; the first process wins."""
    try:
        os.link(part, file)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not file.exists():
            part.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _make_table(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def _connect(file: Path, mode: str, stack: ExitStack) -> sqlite3.Connection:
    with _explained(str(file)):
        connection = stack.enter_context(
            closing(
                sqlite3.connect(
                    f"{file.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
                )
            )
        )
        # A rollback journal, not WAL: the file is whole after every commit and can be copied or read without rights.
        connection.execute("PRAGMA synchronous = EXTRA")
        # a damaged byte must not hide the record behind a decoding error: the checksum tells
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        return connection


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{name}: the ledger of looks cannot be used: {error.strerror}") from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _damaged(name, str(error)) from None
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise InputError(f"{name}: ledger of looks: {error}; free some disk space and run again") from None
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise InputError(
                f"{name}: another process has held the ledger of looks for {_BUSY_SECONDS:.0f} s: end it or wait, and "
                "run again"
            ) from None
        raise InputError(f"{name}: ledger of looks: {error}; it and its folder must be readable and writable") from None


def _damaged(name: str, why: str) -> InputError:
    return InputError(
        f"{name}: the ledger of looks is damaged: {why}. Put back a copy of the file; if there is none, move it aside "
        "and run again: looks that it alone remembered are lost then, and no certificate on these images holds that "
        "does not count them"
    )
