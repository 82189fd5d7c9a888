"""Answers read as rows: scores that are checked, or the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from workbench.approaches.base import Approach
from workbench.canonical import binary32
from workbench.errors import ProviderError
from workbench.prepare.decode import Unprepared
from workbench.records import CENSORED, OK, PROVIDER_OUTCOMES

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


class Reader:
    """Reads an approach's answers as rows."""

    def __init__(self, approach: Approach) -> None:
        self._parse = approach.parse
        taxonomy = approach.taxonomy
        self._columns = (*taxonomy.categories, *((taxonomy.unknown,) if approach.scores_unknown else ()))
        self._floors = {name: binary32(floor) for name, floor in approach.floors.items()}

    def read(self, raw: Mapping[str, Any], latency_ms: float = math.nan) -> Row:
        """The row of an answer that took so long; one that cannot be read is a row with the reason."""
        try:
            return Row(OK, "", self._checked(self._parse(raw)), latency_ms)
        except ProviderError as error:
            return failed(error, latency_ms)
        except Exception as error:  # an answer of a form that nobody foresaw is this image's row, not the run's end
            return failed(ProviderError("malformed_answer", f"{type(error).__name__}: {error}"), latency_ms)

    def _checked(self, scores: Mapping[str, float]) -> dict[str, float]:
        for name in scores:
            if name not in self._columns:
                raise ProviderError("malformed_answer", f"a score for {name!r}, which is not in the taxonomy")
        return {name: self._score(name, scores[name]) for name in self._columns if name in scores}

    def _score(self, name: str, value: Any) -> float:
        if type(value) is not float and (not isinstance(value, Real) or isinstance(value, bool)):
            raise ProviderError("malformed_answer", f"score of {name!r} is {value!r}, not a number")
        score = float(value)
        if score == CENSORED:
            return score
        if not 0 <= score <= 1 or binary32(score) != score:
            raise ProviderError("malformed_answer", f"score {score!r} of {name!r} is not a binary32 from 0 to 1")
        if score < self._floors.get(name, 0.0):
            raise ProviderError(
                "malformed_answer", f"score {score!r} of {name!r} is below its floor {self._floors[name]!r}"
            )
        return score


def failed(error: ProviderError, latency_ms: float = math.nan) -> Row:
    """The row of an image that the approach could not answer."""
    if error.outcome in PROVIDER_OUTCOMES:
        return Row(error.outcome, _plain(error.detail), {}, latency_ms)
    return Row("provider_error", _plain(str(error)), {}, latency_ms)


def unprepared(found: Unprepared) -> Row:
    """The row of an image that has no pixels."""
    return Row(found.outcome, _plain(found.detail), {})


def _plain(detail: str) -> str:
    """What every file format can hold: no lone surrogates, not without end."""
    text = detail.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= _LONGEST_DETAIL else text[: _LONGEST_DETAIL - 1] + "…"
