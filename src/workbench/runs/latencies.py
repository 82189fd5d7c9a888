"""How long answering took: percentiles of any number of answers in bounded memory."""

from __future__ import annotations

import html
import math
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

STEP = 1.02
"""Latencies are counted in classes, each this many times as wide as the one below: a percentile is within 1 %."""
_LEAST_MS = 1e-3
_MOST_MS = 1e9
_SHARES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Latency:
    """Of some answers."""

    count: int
    cached: int
    """For how many of them nothing was asked."""
    p50_ms: float
    """Half of them took no longer; NaN where there are none, and so on."""
    p90_ms: float
    p95_ms: float
    p99_ms: float
    most_ms: float

    @property
    def cached_share(self) -> float:
        """NaN where there are none."""
        return self.cached / self.count if self.count else math.nan


@dataclass(frozen=True)
class Latencies:
    """Of everything that was answered so far, from the bytes of an image to its prediction."""

    overall: Latency
    asked: Latency
    """Of those for which something was asked."""
    outcomes: Mapping[str, Latency]
    """By outcome, the most frequent first."""

    def __str__(self) -> str:
        rows = [_HEADER, *self._rows()]
        widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADER))]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in _HEADER)
        body = "".join(
            f"<tr><th>{html.escape(name)}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
            for name, *cells in self._rows()
        )
        return f"<table><tr>{head}</tr>{body}</table>"

    def _rows(self) -> list[tuple[str, ...]]:
        named = [("all", self.overall), ("asked", self.asked), *self.outcomes.items()]
        return [_row(name, latency) for name, latency in named]


class LatencyCounts:
    """Counts latencies; usable from several threads. Its memory grows with the number of outcomes, not of answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._classes: dict[tuple[str, bool], Counter[int]] = {}
        self._most: dict[tuple[str, bool], float] = {}

    def add(self, outcome: str, cached: bool, milliseconds: float) -> None:
        """One answer."""
        group = outcome, cached
        with self._lock:
            self._classes.setdefault(group, Counter())[_class(milliseconds)] += 1
            self._most[group] = max(self._most.get(group, 0.0), milliseconds)

    def read(self) -> Latencies:
        """What was counted so far."""
        with self._lock:
            classes = {group: counts.copy() for group, counts in self._classes.items()}
            most = dict(self._most)

        def latency(*groups: tuple[str, bool]) -> Latency:
            counts: Counter[int] = Counter()
            for group in groups:
                counts.update(classes[group])
            count, longest = counts.total(), max((most[group] for group in groups), default=math.nan)
            cached = sum(classes[group].total() for group in groups if group[1])
            p50, p90, p95, p99 = (_percentile(counts, count, share, longest) for share in _SHARES)
            return Latency(count, cached, p50, p90, p95, p99, longest)

        by_outcome = {name: latency(*(group for group in classes if group[0] == name)) for name, _ in classes}
        ordered = sorted(by_outcome.items(), key=lambda item: (-item[1].count, item[0]))
        return Latencies(latency(*classes), latency(*(group for group in classes if not group[1])), dict(ordered))


_HEADER = ("answers", "count", "cached", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "most ms")


def _class(milliseconds: float) -> int:
    return round(math.log(min(max(milliseconds, _LEAST_MS), _MOST_MS)) / math.log(STEP))


def _percentile(counts: Counter[int], count: int, share: float, longest: float) -> float:
    """The middle of the class that holds the answer of this rank, but not more than the longest."""
    wanted = math.ceil(share * count)
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= wanted:
            return float(min(STEP**number, longest))
    return math.nan


def _row(name: str, latency: Latency) -> tuple[str, ...]:
    figures = (latency.p50_ms, latency.p90_ms, latency.p95_ms, latency.p99_ms, latency.most_ms)
    share = "–" if math.isnan(latency.cached_share) else f"{latency.cached_share:.1%}"
    return (name, f"{latency.count:,}", share, *("–" if math.isnan(figure) else _ms(figure) for figure in figures))


def _ms(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
