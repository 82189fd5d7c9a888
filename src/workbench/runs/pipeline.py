"""The way of one image: read → prepare → cache → ask → parse, and a row whatever happens."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path
from typing import Any

from workbench.approaches.base import Answer, Approach
from workbench.canonical import binary32
from workbench.errors import ProviderError, RunError
from workbench.prepare.decode import Prepared, Unprepared, prepare_bytes, read_image_file
from workbench.records import CENSORED, OK, PROVIDER_OUTCOMES, Origin
from workbench.runs.cache import AnswerCache, KeptAnswer

RESUMES = "what was answered is kept, and running again asks only the rest"

_LONGEST_DETAIL = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one image."""

    outcome: str
    detail: str
    scores: Mapping[str, float]
    latency_ms: float = math.nan
    """Of the answer, whenever it was asked; NaN where there is none."""
    cost_usd: float = 0.0
    """What was spent for this row, now."""
    cached: bool = True
    """Nothing was asked for this row."""


class Pipeline:
    """The way of one image, for one approach and one run; usable from several threads."""

    def __init__(self, approach: Approach, cache: AnswerCache | None) -> None:
        self.approach = approach
        self.cache = cache
        self.preparation_id = approach.preparation.id
        self.fingerprint = approach.fingerprint
        taxonomy = approach.taxonomy
        self.columns = (*taxonomy.categories, *((taxonomy.unknown,) if approach.scores_unknown else ()))
        self.floors = {name: binary32(floor) for name, floor in approach.floors.items()}
        self._lock = threading.Lock()
        self._asked: dict[str, Future[Row] | Row] = {}
        """By pixels: what is being asked, and what failed in this run; what succeeded is in the cache."""

    def locate(self, path: Path) -> tuple[str | Unprepared, bool]:
        """The digest of a file's pixels, or why it has none; and whether it had to be decoded to tell."""
        data = read_image_file(path)
        if isinstance(data, Unprepared):
            return data, False
        file = _digest(data)
        known = self._known(file)
        if known is not None:
            return known, False
        prepared = self._prepare(file, data)
        return prepared if isinstance(prepared, Unprepared) else prepared.digest, True

    def classify_file(self, image: tuple[str, Path]) -> Row:
        """The row of an image, given its id and its file."""
        image_id, path = image
        data = read_image_file(path)
        return _unprepared(data) if isinstance(data, Unprepared) else self.classify_bytes(image_id, data)

    def classify_bytes(self, image_id: str, data: bytes) -> Row:
        """The row of an image, given its id and the bytes of its file. Raises RunError where the run must end."""
        file = _digest(data)
        known = self._known(file)
        if isinstance(known, Unprepared):
            return _unprepared(known)
        kept = self._kept(known) if known else None
        if kept is not None:
            return kept
        prepared = self._prepare(file, data)
        return _unprepared(prepared) if isinstance(prepared, Unprepared) else self._ask_once(image_id, prepared)

    def _known(self, file: str) -> str | Unprepared | None:
        return self.cache.preparation(file, self.preparation_id) if self.cache else None

    def _prepare(self, file: str, data: bytes) -> Prepared | Unprepared:
        prepared = prepare_bytes(data, self.approach.preparation)
        found = prepared if isinstance(prepared, Unprepared) else prepared.digest
        # a decoder that was killed may have been short of time or memory: that is no property of the file
        crashed = isinstance(found, Unprepared) and found.outcome == "decoder_crash"
        if self.cache and not crashed:
            self.cache.keep_preparation(file, self.preparation_id, found)
        return prepared

    def _kept(self, pixels: str) -> Row | None:
        kept = self.cache.answer(pixels, self.fingerprint) if self.cache else None
        if kept is None:
            return None
        self._check_version(kept.model_version, "an answer in the cache")
        return replace(self._read(kept.raw), latency_ms=kept.latency_ms)

    def _ask_once(self, image_id: str, prepared: Prepared) -> Row:
        """The row of these pixels. The same picture in several threads at once is asked by one, the others wait."""
        with self._lock:
            earlier = self._asked.get(prepared.digest)
            if earlier is None:
                mine = self._asked[prepared.digest] = Future()
        if earlier is not None:
            row = earlier if isinstance(earlier, Row) else earlier.result()
            return replace(row, cost_usd=0.0, cached=True)
        try:
            row = self._kept(prepared.digest) or self._ask(image_id, prepared)
        except BaseException as error:
            mine.set_exception(error)
            raise
        with self._lock:
            if row.outcome == OK:
                del self._asked[prepared.digest]
            else:
                self._asked[prepared.digest] = row
        mine.set_result(row)
        return row

    def _ask(self, image_id: str, prepared: Prepared) -> Row:
        started = time.perf_counter()
        try:
            answer = self.approach.ask(self.approach.request(prepared))
        except ProviderError as error:
            return replace(_failure(error), cached=False)
        except Exception as error:
            reason = f"asking about {image_id!r} broke down: {type(error).__name__}: {error}"
            raise RunError(f"{self.approach.name}: {reason}; {RESUMES}") from error
        latency = (time.perf_counter() - started) * 1000
        self._check_version(answer.model_version, "a live answer")
        return self._keep(prepared.digest, answer, latency)

    def _keep(self, pixels: str, answer: Answer, latency: float) -> Row:
        try:
            # read as it will be read from the cache
            raw = json.loads(json.dumps(answer.raw, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            row = _failure(ProviderError("malformed_answer", f"not JSON: {error}"))
            return replace(row, cost_usd=answer.cost_usd, cached=False)
        row = self._read(raw)
        if row.outcome == OK and self.cache:
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            kept = KeptAnswer(raw, answer.model_version, latency, answer.cost_usd, now)
            self.cache.keep_answer(pixels, self.fingerprint, kept)
        return replace(row, latency_ms=latency, cost_usd=answer.cost_usd, cached=False)

    def _read(self, raw: Mapping[str, Any]) -> Row:
        try:
            return Row(OK, "", self._checked(self.approach.parse(raw)))
        except ProviderError as error:
            return _failure(error)
        except Exception as error:  # an answer of a form that nobody foresaw is this image's row, not the run's end
            return _failure(ProviderError("malformed_answer", f"{type(error).__name__}: {error}"))

    def _checked(self, scores: Mapping[str, float]) -> dict[str, float]:
        for name in scores:
            if name not in self.columns:
                raise ProviderError("malformed_answer", f"a score for {name!r}, which is not in the taxonomy")
        return {name: self._score(name, scores[name]) for name in self.columns if name in scores}

    def _score(self, name: str, value: Any) -> float:
        if not isinstance(value, Real) or isinstance(value, bool):
            raise ProviderError("malformed_answer", f"score of {name!r} is {value!r}, not a number")
        score = float(value)
        if score == CENSORED:
            return score
        if not 0 <= score <= 1 or binary32(score) != score:
            raise ProviderError("malformed_answer", f"score {score!r} of {name!r} is not a binary32 from 0 to 1")
        if score < self.floors.get(name, 0.0):
            raise ProviderError(
                "malformed_answer", f"score {score!r} of {name!r} is below its floor {self.floors[name]!r}"
            )
        return score

    def _check_version(self, observed: str, where: str) -> None:
        stated = self.approach.model_version
        if observed != stated:
            raise RunError(
                f"{self.approach.name}: {where} comes from model version {observed!r}, but this approach, and with it"
                f" the answers kept under its fingerprint, is of {stated!r}; a run does not mix versions: update the"
                " approach's model version and run again"
            )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _unprepared(found: Unprepared) -> Row:
    return Row(found.outcome, _plain(found.detail), {})


def _failure(error: ProviderError) -> Row:
    if error.outcome in PROVIDER_OUTCOMES:
        return Row(error.outcome, _plain(error.detail), {})
    return Row("provider_error", _plain(str(error)), {})


def _plain(detail: str) -> str:
    """What every file format can hold: no lone surrogates, not without end."""
    text = detail.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= _LONGEST_DETAIL else text[: _LONGEST_DETAIL - 1] + "…"


def describe_origin(approach: Approach) -> Origin:
    """Which classifier, exactly, the answers of this approach come from."""
    return Origin(
        approach=approach.name,
        model_version=approach.model_version,
        fingerprint=approach.fingerprint,
        preparation=approach.preparation.id,
        taxonomy=approach.taxonomy.digest,
    )
