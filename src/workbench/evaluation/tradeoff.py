"""The curve of precision against recall of each category, drawn and as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.evaluation import figures
from workbench.evaluation.curves import Curve, Curves, precision_recall_curves
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.results import Result, describe_splits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS = 240
_TICKS = (0, 0.25, 0.5, 0.75, 1)


@dataclass(frozen=True, eq=False)
class CategoryCurve(Result):
    """Precision and recall of one category at every threshold on its own score, whatever the others score."""

    category: str
    curve: Curve
    measured_on: str

    def frame(self) -> pd.DataFrame:
        """One row per distinct score, falling."""
        curve = self.curve
        columns = {
            "threshold": curve.thresholds,
            "precision": curve.precision,
            "recall": curve.recall,
            "true_positives": curve.true_positives,
            "predicted_positives": curve.predicted_positives,
        }
        frame = pd.DataFrame(columns)[::-1].reset_index(drop=True)
        frame.insert(0, "category", self.category)
        return frame.assign(positives=curve.positives, measured_on=self.measured_on)

    def plot(self, ax: Axes | None = None, marks: Mapping[str, float] | None = None, *, titled: bool = True) -> Axes:
        """The curve as steps with its pointwise 95 % band; `marks` are thresholds to point out, by name."""
        ax = ax or figures.new_axes(4.6, 3.8)
        _draw_curve(ax, self.curve)
        _draw_marks(ax, self.curve, marks or {})
        ax.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
        ax.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        ax.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        figures.dress(ax, self._title() if titled else "", self.measured_on if titled else "")
        return ax

    def _title(self) -> str:
        reached = self.curve.average_precision
        shown = "n/a" if math.isnan(reached) else f"{reached:.2f}"
        return f"{figures.printable(self.category, 20)}   AP {shown}, n {self.curve.positives:g}"


@dataclass(frozen=True, eq=False)
class PrecisionRecall(Result):
    """The curves of all categories."""

    categories: tuple[str, ...]
    curves: Curves
    measured_on: str

    def __getitem__(self, category: str) -> CategoryCurve:
        if category not in self.categories:
            raise KeyError(f"no category is called {category!r}")
        return CategoryCurve(category, self.curves[self.categories.index(category)], self.measured_on)

    def frame(self) -> pd.DataFrame:
        """One row per category and distinct score."""
        return pd.concat([self[category].frame() for category in self.categories], ignore_index=True)

    def plot(
        self, axes: Sequence[Axes] | None = None, marks: Mapping[str, Mapping[str, float]] | None = None
    ) -> list[Axes]:
        """Small multiples, one per category; `marks` are thresholds by category and name."""
        drawn = list(axes) if axes is not None else figures.new_grid(len(self.categories))
        for number, (ax, category) in enumerate(zip(drawn, self.categories, strict=True)):
            CategoryCurve(category, self.curves[number], "").plot(ax, (marks or {}).get(category))
            ax.label_outer()
        theme = figures.theme_of(drawn[0])
        title = f"Precision and recall at every threshold, {self.measured_on}"
        drawn[0].figure.suptitle(title, x=0.01, ha="left", fontsize=figures.TITLE, color=theme.ink)
        return drawn


def trace_curves(labelled: Labelled) -> PrecisionRecall:
    """Each category's own score against all other images; a row that may not act counts as CENSORED."""
    curves = precision_recall_curves(labelled.usable_scores(), labelled.truth)
    return PrecisionRecall(labelled.taxonomy.categories, curves, describe_splits(labelled.splits))


def _draw_curve(ax: Axes, curve: Curve) -> None:
    theme = figures.theme_of(ax)
    if not curve.positives:
        ax.text(0.5, 0.5, "no image shows it", ha="center", va="center", fontsize=figures.TEXT, color=theme.soft)
        return
    share = curve.positives / curve.images
    ax.axhline(share, color=theme.soft, linewidth=0.9, linestyle=(0, (4, 3)))
    kept = _thinned(curve)
    true, predicted = curve.true_positives[kept], curve.predicted_positives[kept]
    recall, precision = curve.recall[kept], curve.precision[kept]
    low, high = clopper_pearson(true, predicted)
    ax.fill_between(recall, low, high, step="post", color=theme.first, alpha=0.16, linewidth=0)
    # Towards recall 0 the highest score's precision holds: nothing is interpolated.
    ax.step(np.append(recall, 0), np.append(precision, precision[-1:]), where="post", color=theme.first, linewidth=1.6)


def _draw_marks(ax: Axes, curve: Curve, marks: Mapping[str, float]) -> None:
    theme = figures.theme_of(ax)
    handles, labels = [], []
    for number, (name, threshold) in enumerate(marks.items()):
        point = curve.at(threshold)
        if not math.isnan(point.precision) and not math.isnan(point.recall):
            place = ([point.recall], [point.precision])
            marker = "oDs^v"[number % 5]
            handles.append(
                ax.scatter(*place, s=44, zorder=4, marker=marker, color=theme.second, edgecolor=theme.ground)
            )
            labels.append(f"{name} ≥ {threshold:.3g}")
    if handles:
        figures.add_legend(ax, handles, labels, loc="lower left", handletextpad=0.1, borderaxespad=0.1)


def _thinned(curve: Curve) -> np.ndarray:
    """The places of at most a few hundred points, spread evenly over both thresholds and recall."""
    count = len(curve.thresholds)
    if count <= _MOST_POINTS:
        return np.arange(count)
    even = np.linspace(0, count - 1, _MOST_POINTS // 2).round().astype(int)
    by_recall = count - 1 - np.searchsorted(curve.recall[::-1], np.linspace(0, 1, _MOST_POINTS // 2))
    return np.unique(np.concatenate([even, by_recall.clip(0)]))
