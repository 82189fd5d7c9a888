"""Unknown images accepted against known images rejected: at every threshold, and under one frozen rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.canonical import shortest_binary32
from workbench.evaluation import figures
from workbench.evaluation.intervals import upper_bound
from workbench.evaluation.results import Result, share
from workbench.records import Rejection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LINES, _MOST_POINTS = 5, 400


def rejected_where(rule: Rejection) -> str:
    """The condition, such as "top < 0.61 or told unknown", in the fewest digits that say the threshold; "" for none."""
    sign = ">" if rule.signal == "entropy" else "<"
    limit = "" if rule.threshold is None else f"{rule.signal} {sign} {shortest_binary32(rule.threshold):g}"
    return " or ".join(filter(None, (limit, "told unknown" * rule.unknown_label)))


def rejection_in_words(rule: Rejection) -> str:
    """Such as "rejected where top < 0.61"."""
    condition = rejected_where(rule)
    return f"rejected where {condition}" if condition else "nothing is rejected"


@dataclass(frozen=True, eq=False)
class AcceptanceCurve:
    """Exact counts at each of the m distinct values of one signal, the threshold that rejects least first."""

    thresholds: np.ndarray
    """(m,) float64: an image is accepted iff its signal is at or above it (entropy: at or below it)."""
    known_rejected: np.ndarray
    """(m,) int."""
    unknown_accepted: np.ndarray
    """(S, m) int, by source."""


@dataclass(frozen=True, eq=False)
class WorkingPoint(Result):
    """What one rejection rule does to the images, exactly as `decide` applies it."""

    rule: Rejection
    sources: tuple[str, ...]
    known: int
    known_rejected: int
    unknown: np.ndarray
    """(S,) int: unknown images of each source."""
    unknown_accepted: np.ndarray
    """(S,) int: of those, the ones not rejected (a tier may still not fire)."""
    confidence: float
    measured_on: str

    @property
    def words(self) -> str:
        """The rule, as a legend shows it: "frozen rule: top < 0.61"."""
        return f"frozen rule: {rejected_where(self.rule) or 'none'}"

    def frame(self) -> pd.DataFrame:
        """One row for the known images and one per source; `upper` is a one-sided exact bound, each on its own."""
        count, images = np.append(self.known_rejected, self.unknown_accepted), np.append(self.known, self.unknown)
        columns: dict[str, Any] = {
            "rate": ["known rejected", *["unknown accepted"] * len(self.sources)],
            "source": ["", *self.sources],
            "images": images,
            "count": count,
            "share": share(count, images),
            "upper": upper_bound(count, images, 1 - self.confidence),
        }
        return pd.DataFrame({**columns, "measured_on": self.measured_on})


class Lines:
    """Lines over one x, told apart by colour, dash and width, with what their legend needs."""

    def __init__(self, ax: Axes, x: np.ndarray) -> None:
        self.ax, self.theme, self.handles, self.labels = ax, figures.theme_of(ax), list[Any](), list[str]()
        kept = np.unique(np.linspace(0, max(len(x) - 1, 0), min(len(x), _MOST_POINTS)).astype(int))
        self.x, self.kept = np.append(x[kept], 1), kept

    def add(self, label: str, y: np.ndarray) -> None:
        """One source: the first five are told apart and named."""
        number = len(self.handles)
        named = number < _MOST_LINES
        colour = (self.theme.first, self.theme.second)[number % 2] if named else self.theme.soft
        dashes = ("-", (0, (6, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (1, 3)))[number] if named else "-"
        line = self._draw(y, color=colour, linestyle=dashes, linewidth=1.6 if named else 0.5)
        if named:
            self.handles.append(line)
            self.labels.append(label)

    def add_mean(self, label: str, y: np.ndarray) -> None:
        """All sources together."""
        self.handles.append(self._draw(y, color=self.theme.soft, linestyle=(0, (2, 2)), linewidth=1.0))
        self.labels.append(label)

    def mark(self, point: WorkingPoint) -> None:
        """One mark per source."""
        y = share(point.unknown_accepted, point.unknown)
        look: dict[str, Any] = {"s": 40, "zorder": 4, "color": self.theme.ink, "edgecolor": self.theme.ground}
        self.handles.append(self.ax.scatter(np.full(len(y), point.known_rejected / point.known), y, **look))
        self.labels.append(point.words)

    def _draw(self, y: np.ndarray, **look: Any) -> Any:
        return self.ax.step(self.x, np.append(y[self.kept], 0), where="post", **look)[0]
