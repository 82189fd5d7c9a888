"""The language of label maps for services with labels of their own, and how confidences become scores.

A category lists terms. A plain term is the name of a label; `parent:X`, `alias:X` and `category:X` are all labels with
that ancestor, alias or category; `name:X` is for a name that has a colon in it. Case and spacing do not matter. The
score of a category is the highest confidence of a label that any of its terms means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from workbench.canonical import binary32
from workbench.errors import ConfigError, ProviderError
from workbench.records import CENSORED, Taxonomy

NAME = "name"
_ABOVE_ALL = 100.001
"""Confidences are binary32 of 0 to 100; the last bit may lie above."""
_NO_NUMBERS = ("nan", "inf", "-inf")


@dataclass(frozen=True)
class Label:
    """One label of an answer."""

    name: str
    score: float
    """binary32 in [0, 1]."""
    relations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By prefix (`parent`, `alias`, `category`): the names that such terms are compared with."""


@dataclass(frozen=True)
class Term:
    """What a label map says of a category."""

    relation: str
    """`name`, or a prefix that the service's labels have relations for."""
    text: str
    """Case folded, single spaces."""

    def __str__(self) -> str:
        return f"{self.relation}:{self.text}"


@dataclass(frozen=True)
class LabelMap:
    """Which labels mean which category."""

    terms: Mapping[str, tuple[Term, ...]]
    """By column: the categories in the taxonomy's order, and its word for unknown where that is mapped too."""

    @property
    def document(self) -> dict[str, list[str]]:
        """The same map in another order or spelling has the same document."""
        return {column: sorted(map(str, terms)) for column, terms in self.terms.items()}

    @property
    def shared(self) -> dict[str, list[str]]:
        """Term → the columns that it stands in, where it stands in several: they tie where it is the surest label."""
        columns: dict[str, list[str]] = {}
        for column, terms in self.terms.items():
            for term in dict.fromkeys(terms):
                columns.setdefault(str(term), []).append(column)
        return {term: named for term, named in columns.items() if len(named) > 1}

    def scores(self, labels: Iterable[Label]) -> dict[str, float]:
        """By column, the highest score of a label that its terms mean; CENSORED where there is no such label."""
        best: dict[tuple[str, str], float] = {}
        for label in labels:
            for relation, texts in ((NAME, (label.name,)), *label.relations.items()):
                for text in texts:
                    key = relation, folded(text)
                    best[key] = max(label.score, best.get(key, CENSORED))
        return {
            column: max(best.get((term.relation, term.text), CENSORED) for term in terms)
            for column, terms in self.terms.items()
        }


def read_label_map(
    written: Mapping[str, tuple[str, ...]], taxonomy: Taxonomy, approach: str, relations: tuple[str, ...]
) -> LabelMap:
    """A label map as `workbench.toml` has it, for a service whose labels have these relations.

    Raises ConfigError for a category without terms, one that the taxonomy does not have, an empty term and a prefix
    that the service has no relation for.
    """
    place = f"label map [approaches.{approach}.labels]"
    columns = (*taxonomy.categories, taxonomy.unknown)
    for name in written:
        if name not in columns:
            raise ConfigError(f"{place}: {name!r} is no category of the taxonomy{_hint(name, columns)}")
    missing = [name for name in taxonomy.categories if not written.get(name)]
    if missing:
        raise ConfigError(
            f"{place}: no terms for {', '.join(map(repr, missing))}; list labels of the service that mean it"
        )
    return LabelMap(
        {
            column: tuple(_term(text, relations, f"{place}, {column!r}") for text in written[column])
            for column in columns
            if written.get(column)
        }
    )


def percent(value: Any, place: str) -> float:
    """A confidence of 0 to 100, as `jsonable` keeps it, as a score; ProviderError where it is none."""
    if isinstance(value, str) and value in _NO_NUMBERS:
        raise ProviderError("bad_probability", f"{place}: a confidence of {value} is not within 0 to 100")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ProviderError("malformed_answer", f"{place}: the confidence is {value!r}, not a number")
    if not 0 <= value <= _ABOVE_ALL:
        raise ProviderError("bad_probability", f"{place}: a confidence of {value!r} is not within 0 to 100")
    return binary32(min(float(value) / 100, 1.0))


def jsonable(value: Any) -> Any:
    """A number of an answer as it is kept: one that is not finite as text, so that JSON can hold it."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def folded(text: str) -> str:
    """What two spellings of a name have in common."""
    return " ".join(text.split()).casefold()


def _term(written: str, relations: tuple[str, ...], place: str) -> Term:
    found = re.fullmatch(r"\s*(?:([^\s:]+)\s*:)?(.*)", written, re.DOTALL)
    relation, text = (found[1] or NAME, found[2]) if found else (NAME, written)
    known = (NAME, *relations)
    if relation not in known:
        words = ", ".join(f"`{name}:`" for name in known)
        raise ConfigError(
            f"{place}: {written!r} begins with {relation!r}:, which is none of {words}{_hint(relation, known)}"
        )
    if not text.strip():
        raise ConfigError(f"{place}: {written!r} names no label")
    return Term(relation, folded(text))


def _hint(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
