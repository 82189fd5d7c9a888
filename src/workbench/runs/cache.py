"""Answers that were paid for, kept in one SQLite file.

`preparations` leads from a file's bytes to its pixels, so that a hit decodes nothing; `answers` leads from pixels and a
key (question, model version, part) to what was answered, so that a hit asks nothing. Answers that could not be used are
kept beside them, because they were paid for, too; they never come back as answers. Text and numbers only: no image
bytes, no credentials, no pickle. Each record carries a checksum; a damaged one counts as absent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from workbench.canonical import digest
from workbench.prepare.decode import Unprepared
from workbench.runs.cachefile import CacheFile, damaged, insert

_FIELDS = "raw, model_version, latency_ms, cost_usd, answered"
_PREPARATION = "SELECT pixels, outcome, detail, checksum FROM preparations WHERE file = ? AND preparation = ?"
_ANSWER = f"SELECT {_FIELDS}, checksum FROM answers WHERE pixels = ? AND fingerprint = ?"  # noqa: S608  fixed names
_UNUSABLE = (
    f'SELECT pixels, "key", outcome, {_FIELDS}, checksum FROM unusable'  # noqa: S608  fixed names
    ' WHERE pixels = ? AND "key" = ? ORDER BY number DESC'
)


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


def answer_key(question: str, version: str, part: int) -> str:
    """SHA-256, in hex: under which an answer to this question by this model version, in this part, is kept."""
    return digest({"question": question, "version": version, "part": part})


class AnswerCache:
    """The kept answers of one file; a context manager, usable from several threads, and by several processes at once.

    Makes the file (readable by its owner only) and its folder where they are not there yet; a file of the first version
    is brought up to date in place. Every method raises RunError where the file cannot be used; the message says what
    to do, and nothing in the file is deleted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = CacheFile(path)

    @property
    def discarded(self) -> int:
        """Damaged records met so far; each counts as absent and is replaced by the next answer."""
        return self.file.discarded

    def check_there(self) -> None:
        """Raises RunError where the file was deleted, so that nothing more can be kept; asked before paying."""
        self.file.check_there()

    def preparation(self, file: str, preparation: str) -> str | Unprepared | None:
        """What became of the file with this SHA-256 under this preparation id: its pixels' digest, or why it has none.

        None where that is not known yet.
        """
        found = self.file.fetch(_PREPARATION, file, preparation)
        if found is None:
            return None
        pixels, outcome, detail = found
        return pixels or Unprepared(outcome, detail)

    def keep_preparation(self, file: str, preparation: str, found: str | Unprepared) -> None:
        """Remember what `preparation` will answer."""
        fields = (found, "", "") if isinstance(found, str) else ("", found.outcome, found.detail)
        self.file.store("preparations", "file, preparation, pixels, outcome, detail", file, preparation, *fields)

    def answer(self, pixels: str, key: str) -> KeptAnswer | None:
        """What was answered about these pixels under this key; None where nothing usable is kept."""
        found = self.file.fetch(_ANSWER, pixels, key)
        return None if found is None else self._as_kept(found)

    def keep_answer(self, pixels: str, key: str, answer: KeptAnswer) -> None:
        """Remember an answer, in place of any before it. It is on file when this returns.

        Where the very same answer had been kept as unusable, it no longer is.
        """
        fields = _as_fields(answer)
        with self.file.writing() as connection:
            insert(connection, "answers", f"pixels, fingerprint, {_FIELDS}", pixels, key, *fields)
            connection.execute(
                'DELETE FROM unusable WHERE pixels = ? AND "key" = ? AND raw = ? AND answered = ?',
                (pixels, key, fields[0], answer.answered),
            )

    def unusable(self, pixels: str, key: str) -> KeptAnswer | None:
        """The last answer about these pixels under this key that could not be used; None where there is none."""
        with self.file.reading() as connection:
            rows = connection.execute(_UNUSABLE, (pixels, key)).fetchall()
        for row in rows:
            found = self.file.intact(row)
            kept = None if found is None else self._as_kept(found[3:])
            if kept is not None:
                return kept
        return None

    def keep_unusable(self, pixels: str, key: str, outcome: str, answer: KeptAnswer) -> None:
        """Put on record an answer that was paid for and could not be used; each one stays, beside those before it."""
        columns = f'pixels, "key", outcome, {_FIELDS}'
        self.file.store("unusable", columns, pixels, key, outcome, *_as_fields(answer))

    def versions(self, question: str) -> list[str]:
        """The model versions that answers to this question have named, the first one seen first."""
        query = "SELECT question, version, approach, seen, checksum FROM versions WHERE question = ? ORDER BY number"
        with self.file.reading() as connection:
            rows = connection.execute(query, (question,)).fetchall()
        return [found[1] for row in rows if (found := self.file.intact(row)) is not None]

    def note_version(self, question: str, version: str, approach: str) -> None:
        """Remember that an answer to this question named this version. Once noted, it keeps its place."""
        if version in self.versions(question):
            return
        with self.file.writing() as connection:
            known = connection.execute(
                "SELECT question, version, approach, seen, checksum FROM versions WHERE question = ? AND version = ?",
                (question, version),
            ).fetchone()
            if known is None or damaged(known):
                seen = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
                insert(connection, "versions", "question, version, approach, seen", question, version, approach, seen)

    def note_key(self, key: str, question: str, version: str, part: int, approach: str) -> None:
        """Remember what is kept under a key, so that it can be told by name."""
        self.file.store("keys", '"key", question, version, part, approach', key, question, version, part, approach)

    def close(self) -> None:
        """Let go of the file; everything is in it already."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _as_kept(self, fields: tuple[Any, ...]) -> KeptAnswer | None:
        raw, *rest = fields
        try:
            return KeptAnswer(json.loads(raw), *rest)
        except ValueError:
            self.file.count_discarded()
            return None


def _as_fields(answer: KeptAnswer) -> tuple[str, str, float, float, str]:
    raw = json.dumps(answer.raw, allow_nan=False)
    return raw, answer.model_version, float(answer.latency_ms), float(answer.cost_usd), answer.answered
