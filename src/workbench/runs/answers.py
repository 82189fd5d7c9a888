"""The kept answers to one approach's question: which model version counts, what is there of an image, what is missing.

An image may take several answers (`parts`). Each is kept by itself as soon as it is there, under the question, the
version that it named and its part; so neither a new label map nor a better `parse` nor more parts cost anything twice.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from workbench.approaches.base import Answer, Approach, Service, question_of, run_fingerprint
from workbench.errors import ProviderError, RunError
from workbench.records import OK, Origin
from workbench.runs.cache import AnswerCache, KeptAnswer, answer_key
from workbench.runs.rows import Reader, Row

UNOBSERVED = "unobserved"
"""The model version of a run in which nothing answered."""


@dataclass(frozen=True)
class Found:
    """What is kept about one picture."""

    row: Row | None
    """None where something has to be asked first."""
    kept: Mapping[int, KeptAnswer]
    """By part: what need not be asked again."""
    missing: tuple[int, ...]
    """The parts that have to be asked; empty if there is a row."""


class Answers:
    """The kept answers to an approach's question, of one model version; usable from several threads.

    The version is what the approach states, else what it was told to expect, else the only one that the cache knows,
    else that of the first answer. Raises RunError where the cache knows several and nothing says which.
    """

    def __init__(self, approach: Approach, cache: AnswerCache | None) -> None:
        self._approach = approach
        self._cache = cache
        self._reader = Reader(approach)
        self._question = question_of(approach)
        self._serves = isinstance(approach, Service)
        self.parts = approach.parts if isinstance(approach, Service) else 1
        self._pinned = approach.model_version or str(getattr(approach, "expects", ""))
        self._version = self._pinned or self._only_version()
        self._observed = False
        self._noted: set[str] = set()
        self._keys: dict[tuple[str, int], str] = {}
        self._lock = threading.Lock()

    @property
    def origin(self) -> Origin:
        """Which classifier the answers so far come from."""
        return describe_origin(self._approach, self._version if self._observed else "")

    def find(self, pixels: str) -> Found:
        """What is kept about these pixels. Raises RunError for a kept answer of another version."""
        if self._cache is not None and self._serves and not self._version:
            self._learn_version()
        if self._cache is None or not self._version:
            return Found(None, {}, tuple(range(self.parts)))
        if self.parts == 1 and (sole := self._usable(pixels, 0)) is not None:
            return Found(self.read({0: sole}), {0: sole}, ())
        usable = {part: found for part in range(self.parts) if (found := self._usable(pixels, part)) is not None}
        spoilt = {part: found for part in range(self.parts) if (found := self._spoilt(pixels, part, usable))}
        everything = {**usable, **spoilt}
        row = self.read(everything) if len(everything) == self.parts else None
        if row is not None and (row.outcome == OK or not spoilt):
            self._keep_readable(pixels, spoilt)
            return Found(row, everything, ())
        mended = {part: found for part, found in spoilt.items() if self._alone(found.raw).outcome == OK}
        self._keep_readable(pixels, mended)
        kept = {**usable, **mended}
        missing = tuple(part for part in range(self.parts) if part not in kept)
        return Found(None if missing else row, kept, missing)

    def keep(self, pixels: str, part: int, answer: Answer, latency_ms: float) -> tuple[KeptAnswer, Row]:
        """Put an answer on file, under the version that it names; back come what is on file, and how it reads alone.

        An answer that cannot be read is kept, too, but never served as one. Raises ProviderError if it is not JSON,
        RunError (it is on file then) if it comes from another version.
        """
        if not self._serves:  # an answer of this machine costs nothing: one of another version need not be kept
            self._check_version(answer.model_version, "a live answer")
        try:
            # read as it will be read from the cache
            raw = json.loads(json.dumps(answer.raw, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise ProviderError("malformed_answer", f"not JSON: {error}") from None
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        kept = KeptAnswer(raw, answer.model_version, latency_ms, answer.cost_usd, now)
        row = self._alone(raw, latency_ms)
        if self._cache:
            self._store(self._cache, pixels, part, kept, row.outcome)
        self._check_version(answer.model_version, "a live answer")
        return kept, row

    def read(self, answers: Mapping[int, KeptAnswer]) -> Row:
        """The row that the answers to all parts make."""
        if self.parts == 1:
            return self._reader.read(answers[0].raw, answers[0].latency_ms)
        raws = [answers[part].raw for part in range(self.parts)]
        return self._reader.read({"parts": raws}, sum(answer.latency_ms for answer in answers.values()))

    def _alone(self, raw: Mapping[str, Any], latency_ms: float = math.nan) -> Row:
        """How an answer reads by itself: as if every part had been answered so."""
        return self._reader.read(raw if self.parts == 1 else {"parts": [raw] * self.parts}, latency_ms)

    def _store(self, cache: AnswerCache, pixels: str, part: int, kept: KeptAnswer, outcome: str) -> None:
        key = self._key(kept.model_version, part)
        self._note(cache, kept.model_version, part, key)
        if outcome == OK:
            cache.keep_answer(pixels, key, kept)
        elif self._serves:
            cache.keep_unusable(pixels, key, outcome, kept)

    def _note(self, cache: AnswerCache, version: str, part: int, key: str) -> None:
        """On file before any answer under this key is: an answer of a version that is not known is not found again."""
        if key in self._noted:
            return
        if self._serves:
            cache.note_version(self._question, version, self._approach.name)
        cache.note_key(key, self._question, version, part, self._approach.name)
        self._noted.add(key)

    def _keep_readable(self, pixels: str, answers: Mapping[int, KeptAnswer]) -> None:
        """Answers that could not be read once, and now can."""
        for part, kept in answers.items():
            if self._cache and self._alone(kept.raw).outcome == OK:
                self._cache.keep_answer(pixels, self._key(self._version, part), kept)

    def _usable(self, pixels: str, part: int) -> KeptAnswer | None:
        kept = self._cache.answer(pixels, self._key(self._version, part)) if self._cache else None
        if kept is not None:
            self._check_version(kept.model_version, "an answer in the cache")
            if self._cache:  # what the first version of the file kept has no name
                self._note(self._cache, self._version, part, self._key(self._version, part))
        return kept

    def _spoilt(self, pixels: str, part: int, usable: Mapping[int, KeptAnswer]) -> KeptAnswer | None:
        if self._cache is None or part in usable or not self._serves:
            return None
        kept = self._cache.unusable(pixels, self._key(self._version, part))
        return kept if kept is not None and kept.model_version == self._version else None

    def _key(self, version: str, part: int) -> str:
        if not self._serves:
            return self._approach.fingerprint
        if (version, part) not in self._keys:
            self._keys[version, part] = answer_key(self._question, version, part)
        return self._keys[version, part]

    def _only_version(self) -> str:
        known = self._cache.versions(self._question) if self._cache else []
        if len(known) > 1:
            raise RunError(
                f"{self._approach.name}: answers to this very question are kept from model versions"
                f" {', '.join(map(repr, known))}; a run does not mix versions: set `--model-version` (or"
                " `model_version` in workbench.toml) to one of them"
            )
        return known[0] if known else ""

    def _learn_version(self) -> None:
        """Another run may have been the first to learn it."""
        known = self._only_version()
        with self._lock:
            self._version = self._version or known

    def _check_version(self, observed: str, where: str) -> None:
        with self._lock:
            if not self._version:
                self._version = observed
            expected = self._version
            self._observed = True
        if observed == expected:
            return
        if not self._serves:
            raise RunError(
                f"{self._approach.name}: {where} comes from model version {observed!r}, but this approach, and with it"
                f" the answers kept under its fingerprint, is of {expected!r}; a run does not mix versions: update the"
                " approach's model version and run again"
            )
        source = "is what this run was told to expect" if self._pinned else "is what its other answers come from"
        raise RunError(
            f"{self._approach.name}: {where} comes from model version {observed!r}, but {expected!r} {source}; a run"
            f" does not mix versions. Nothing that was paid for is lost: run again with `--model-version {observed}` to"
            f" ask everything of that one (the answers of {expected} stay), or with `--model-version {expected}` for"
            " as long as the service still answers with it, or every answer is kept"
        )


def describe_origin(approach: Approach, observed: str = "") -> Origin:
    """Which classifier, exactly, the answers come from, given the model version that they named."""
    version = approach.model_version or observed or UNOBSERVED
    return Origin(
        approach=approach.name,
        model_version=version,
        fingerprint=run_fingerprint(approach, version),
        preparation=approach.preparation.id,
        taxonomy=approach.taxonomy.digest,
    )
