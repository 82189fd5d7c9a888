"""What the answer cache holds and what it cost; letting go of some of it; writing it out.

All of it may be done while a run is going on: each step is one transaction, and a run that misses an answer asks again.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

from workbench.errors import RunError
from workbench.runs.cache import AnswerCache
from workbench.runs.cachefile import damaged

UNNAMED = "(unnamed)"
"""Stands for the approach of answers of which the cache has no name: those kept by the first version of its file."""

_NOTES = {
    "versions": "question, version, approach, seen",
    "keys": '"key", question, version, part, approach',
}
_NAMED = f"coalesce(k.approach, '{UNNAMED}')"
_JOINS = {
    "answers": 'answers a LEFT JOIN keys k ON k."key" = a.fingerprint',
    "unusable": 'unusable a LEFT JOIN keys k ON k."key" = a."key"',
}
_FIELDS = "a.raw, a.model_version, a.latency_ms, a.cost_usd, a.answered, a.checksum"
_COLUMNS = {
    "answers": f"a.pixels, a.fingerprint, {_FIELDS}",
    "unusable": f'a.pixels, a."key", a.outcome, {_FIELDS}',
}
_OUTCOMES = {"answers": "'ok'", "unusable": "a.outcome"}
Table = Literal["answers", "unusable"]


@dataclass(frozen=True)
class Holding:
    """Answers of one approach and model version that are alike in their outcome."""

    approach: str
    model_version: str
    """As observed in the answers."""
    outcome: str
    """`ok`, or why they could not be used."""
    answers: int
    cost_usd: float
    """What they cost to get."""
    first: str
    """When the oldest was answered, in UTC."""
    last: str


@dataclass(frozen=True)
class Stock:
    """What a cache file holds."""

    path: Path
    size: int
    """Bytes on disk, with the log beside the file."""
    files: int
    """Image files whose preparation is known, each counted once per preparation."""
    holdings: tuple[Holding, ...]
    damaged: int
    """Records whose checksum does not match; each counts as absent and is replaced when it is asked again."""

    @property
    def cost_usd(self) -> float:
        """What all of it cost to get."""
        return sum(holding.cost_usd for holding in self.holdings)


@dataclass(frozen=True)
class Selection:
    """Which answers to let go; what is None or False does not restrict."""

    approach: str | None = None
    model_version: str | None = None
    older_than_days: float | None = None
    """Answered earlier than this many days ago."""
    unusable: bool = False
    """Only answers that could not be used."""

    def __bool__(self) -> bool:
        return self != Selection()

    @property
    def tables(self) -> tuple[Table, ...]:
        """Where the selected answers stand."""
        return ("unusable",) if self.unusable else ("answers", "unusable")

    def condition(self) -> tuple[str, tuple[str, ...]]:
        """As SQL over answers `a` with their keys `k`, and the values in it."""
        parts: list[tuple[str, str]] = []
        if self.approach is not None:
            parts.append((f"{_NAMED} = ?", self.approach))
        if self.model_version is not None:
            parts.append(("a.model_version = ?", self.model_version))
        if self.older_than_days is not None:
            parts.append(("a.answered < ?", _days_ago(self.older_than_days)))
        return " AND ".join(part for part, _ in parts) or "1", tuple(value for _, value in parts)


class Forgotten(NamedTuple):
    """What is no longer kept about an image."""

    preparations: int
    answers: int
    unusable: int
    cost_usd: float
    """What those answers had cost."""
    pixels: tuple[str, ...]
    """The digest that was given, and those of the pixels that the file had been prepared to."""


def take_stock(cache: AnswerCache) -> Stock:
    """Everything in the file, read once from end to end."""
    broken = files = 0
    tallies: dict[tuple[str, str, str], _Tally] = defaultdict(_Tally)
    with cache.file.snapshot() as connection:
        for kept in _kept(connection):
            if kept is None:
                broken += 1
            else:
                tallies[kept.approach, kept.model_version, kept.outcome].add(kept)
        for name, columns in (("preparations", "file, preparation, pixels, outcome, detail"), *_NOTES.items()):
            for row in connection.execute(f"SELECT {columns}, checksum FROM {name}"):  # noqa: S608  fixed names
                broken += (bad := damaged(row))
                files += name == "preparations" and not bad
    holdings = (
        Holding(*names, tally.answers, tally.cost_usd, tally.first, tally.last)
        for names, tally in sorted(tallies.items())
    )
    return Stock(cache.path, _size(cache.path), files, tuple(holdings), broken)


def select_answers(cache: AnswerCache, selection: Selection) -> tuple[Holding, ...]:
    """What `drop_answers` would drop."""
    with cache.file.reading() as connection:
        return _selected(connection, selection)


def drop_answers(cache: AnswerCache, selection: Selection) -> tuple[Holding, ...]:
    """Delete the selected answers, and say which they were. They were paid for: asking again costs again.

    Which versions were seen, and how files are prepared, stays on record. Raises ValueError for an empty selection.
    """
    if not selection:
        raise ValueError("a selection that restricts nothing")
    condition, values = selection.condition()
    with cache.file.writing() as connection:
        dropped = _selected(connection, selection)
        for table in selection.tables:
            connection.execute(
                f"DELETE FROM {table} WHERE rowid IN (SELECT a.rowid FROM {_JOINS[table]} WHERE {condition})",  # noqa: S608
                values,
            )
    cache.file.rewrite()
    return dropped


def export_answers(cache: AnswerCache, out: Path) -> tuple[int, int]:
    """Write every intact answer, usable or not, as a line of JSON; (lines written, damaged records left out).

    The file is readable by its owner only, and is there whole or not at all.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.{os.getpid()}.part")
    part.touch(mode=0o600)
    written = broken = 0
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file, cache.file.snapshot() as connection:
            for kept in _kept(connection):
                if kept is None:
                    broken += 1
                else:
                    file.write(json.dumps(kept._asdict()) + "\n")
                    written += 1
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return written, broken


def forget_image(cache: AnswerCache, digest: str) -> Forgotten:
    """Delete all that is kept about an image, given the SHA-256 (in hex) of its file or of its pixels.

    That is: the preparations of the file, the answers about its pixels under every approach, and what leads from other
    files of the same picture to these pixels. What is deleted is overwritten on disk.
    """
    with cache.file.writing() as connection:
        found = connection.execute("SELECT pixels FROM preparations WHERE file = ? AND pixels != ''", (digest,))
        pixels = tuple(sorted({digest, *(row[0] for row in found)}))
        places = ", ".join("?" * len(pixels))
        preparations = connection.execute(
            f"DELETE FROM preparations WHERE file = ? OR pixels IN ({places})",  # noqa: S608
            (digest, *pixels),
        ).rowcount
        answers, unusable = (
            connection.execute(
                f"SELECT count(*), total(cost_usd) FROM {table} WHERE pixels IN ({places})",  # noqa: S608
                pixels,
            ).fetchone()
            for table in ("answers", "unusable")
        )
        for table in ("answers", "unusable"):
            connection.execute(f"DELETE FROM {table} WHERE pixels IN ({places})", pixels)  # noqa: S608
    cache.file.rewrite()
    return Forgotten(preparations, answers[0], unusable[0], answers[1] + unusable[1], pixels)


class _Kept(NamedTuple):
    """A record of the cache, whole and named, as it is written out."""

    pixels: str
    approach: str
    question: str | None
    part: int | None
    model_version: str
    outcome: str
    raw: Any
    latency_ms: float
    cost_usd: float
    answered: str


@dataclass
class _Tally:
    answers: int = 0
    cost_usd: float = 0.0
    first: str = ""
    last: str = ""

    def add(self, kept: _Kept) -> None:
        self.answers += 1
        self.cost_usd += kept.cost_usd
        self.first = min(self.first or kept.answered, kept.answered)
        self.last = max(self.last, kept.answered)


def _kept(connection: sqlite3.Connection) -> Iterator[_Kept | None]:
    """All answers, then all unusable ones; None for each damaged record."""
    for table, joins in _JOINS.items():
        query = f"SELECT {_NAMED}, k.question, k.part, {_COLUMNS[table]} FROM {joins} ORDER BY a.rowid"  # noqa: S608
        for approach, question, part, *row in connection.execute(query):
            raw, model_version, latency, cost, answered = row[-6:-1]
            outcome = row[2] if table == "unusable" else "ok"
            try:
                value = None if damaged(tuple(row)) else json.loads(raw)
            except ValueError:
                value = None
            if value is None:
                yield None
            else:
                named = (row[0], approach, question, part, model_version, outcome)
                yield _Kept(*named, value, latency, cost, answered)


def _selected(connection: sqlite3.Connection, selection: Selection) -> tuple[Holding, ...]:
    condition, values = selection.condition()
    found = []
    for table in selection.tables:
        query = (
            f"SELECT {_NAMED}, a.model_version, {_OUTCOMES[table]},"  # noqa: S608  the values are bound
            " count(*), total(a.cost_usd), min(a.answered), max(a.answered)"
            f" FROM {_JOINS[table]} WHERE {condition} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        found += [Holding(*row) for row in connection.execute(query, values)]
    return tuple(found)


def _days_ago(days: float) -> str:
    try:
        then = datetime.now(UTC) - timedelta(days=days)
    except OverflowError:
        raise RunError(f"{days} days: before the calendar begins; name fewer") from None
    return then.isoformat(timespec="seconds").replace("+00:00", "Z")


def _size(path: Path) -> int:
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
