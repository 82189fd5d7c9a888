"""The curve of precision against recall of each category, drawn and as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from workbench.evaluation import figures
from workbench.evaluation.curves import Curve, Curves, precision_recall_curves
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.results import Result, describe_splits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

_MOST_POINTS = 240
_TICKS = (0, 0.25, 0.5, 0.75, 1)
_FLOOR = 0.08
"""How deep a floor is hatched, in precision."""
_HATCHES = ("//////", "\\\\\\\\\\\\", "....")
_OPTIMISTIC = "optimistic"


@dataclass(frozen=True)
class CertifiedRegion:
    """A promise of precision that the certify split bore out: from this threshold up, at least so much."""

    threshold: float
    """In [0, 1]: what was certified, not what was asked for."""
    at_least: float
    """Precision in (0, 1]: the goal, or the lower bound that was proved."""
    confidence: float
    """In (0, 1), of this promise alone."""

    def __post_init__(self) -> None:
        if not (0 <= self.threshold <= 1 and 0 < self.at_least <= 1 and 0 < self.confidence < 1):
            raise ValueError(f"{self} is no promise: threshold in [0, 1], at_least in (0, 1], confidence in (0, 1)")


Certified = CertifiedRegion | Sequence[CertifiedRegion]


@dataclass(frozen=True, eq=False)
class CategoryCurve(Result):
    """Precision and recall of one category at every threshold on its own score, whatever the others score."""

    category: str
    curve: Curve
    measured_on: str
    worth: float = 1.0
    """How many equally weighted images one unit of the counts tells as much as; 1 where images have no weights."""

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

    def points(self, most: int = _MOST_POINTS, keep: Sequence[float] = ()) -> pd.DataFrame:
        """At most `most` of the rows of `frame`, thresholds rising, evenly spread over thresholds and over recall.

        Besides these, for each threshold of `keep` the row of the lowest score at or above it, with its counts.
        Each rate with its pointwise 95 % interval (Clopper and Pearson 1934; with weights, of so many equally weighted
        images as tell as much): `precision`, `precision_low`, `precision_high`, and so for recall.
        """
        curve = self.curve
        if not curve.positives:
            return self.frame().iloc[:0].assign(precision_low=[], precision_high=[], recall_low=[], recall_high=[])
        wanted = np.searchsorted(curve.thresholds, np.array(keep, dtype=np.float32))
        kept = np.union1d(_thinned(curve.recall, most), wanted[wanted < len(curve.thresholds)])
        true, predicted = curve.true_positives[kept], curve.predicted_positives[kept]
        low, high = _interval(true, predicted, self.worth)
        least, largest = _interval(true, np.full(len(true), curve.positives), self.worth)
        frame = self.frame()[::-1].iloc[kept].reset_index(drop=True)
        return frame.assign(precision_low=low, precision_high=high, recall_low=least, recall_high=largest)

    def plot(
        self,
        ax: Axes | None = None,
        marks: Mapping[str, float] | None = None,
        certified: Certified | None = None,
        *,
        titled: bool = True,
    ) -> Axes:
        """The curve as steps with its pointwise 95 % band; `marks` are thresholds to point out, by name.

        Each of `certified` is a hatched floor at the promised precision, which ends at the recall that its threshold
        reaches on this split. The curve is what was counted here, on the category's own score; the promise was tested
        on certify, for the tier that makes it. Figures that flatter are marked "optimistic", titled or not.
        """
        ax = ax or figures.new_axes(4.6, 3.8)
        note = self.measured_on if titled else ""
        return self._draw(ax, marks or {}, _as_regions(certified), self._title() if titled else "", note)

    def _draw(
        self, ax: Axes, marks: Mapping[str, float], certified: Sequence[CertifiedRegion], title: str, note: str
    ) -> Axes:
        _draw_curve(ax, self)
        points = _draw_marks(ax, self.curve, marks)
        ax.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
        ax.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        ax.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        figures.dress(ax, title, note)
        warned = _OPTIMISTIC in self.measured_on and _OPTIMISTIC not in note
        warning = f"{self.measured_on.split(' (')[0]}, {_OPTIMISTIC}" if warned else ""
        _add_legend(ax, points, _draw_floors(ax, self.curve, certified), warning)
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
    worth: float = 1.0
    """As `CategoryCurve.worth`."""

    def __getitem__(self, category: str) -> CategoryCurve:
        if category not in self.categories:
            raise KeyError(f"no category is called {category!r}")
        return CategoryCurve(category, self.curves[self.categories.index(category)], self.measured_on, self.worth)

    def frame(self) -> pd.DataFrame:
        """One row per category and distinct score."""
        return pd.concat([self[category].frame() for category in self.categories], ignore_index=True)

    def plot(
        self,
        axes: Sequence[Axes] | None = None,
        marks: Mapping[str, Mapping[str, float]] | None = None,
        certified: Mapping[str, Certified] | None = None,
    ) -> list[Axes]:
        """Small multiples, one per category; `marks` are thresholds by category and name, `certified` by category."""
        drawn = list(axes) if axes is not None else figures.new_grid(len(self.categories))
        for ax, category in zip(drawn, self.categories, strict=True):
            own, regions = (marks or {}).get(category, {}), _as_regions((certified or {}).get(category))
            curve = self[category]
            curve._draw(ax, own, regions, curve._title(), "")
            ax.label_outer()
        theme = figures.theme_of(drawn[0])
        title = f"Precision and recall at every threshold, {self.measured_on}"
        drawn[0].figure.suptitle(title, x=0.01, ha="left", fontsize=figures.TITLE, color=theme.ink)
        return drawn


def trace_curves(labelled: Labelled) -> PrecisionRecall:
    """Each category's own score against all other images; a row that may not act counts as CENSORED.

    Where the data set's weights differ (images were sampled with known probabilities), each image counts for what it
    stands for, and the band is that of so many equally weighted images as would tell as much (Kish 1965).
    """
    weights = labelled.weights
    curves = precision_recall_curves(labelled.usable_scores(), labelled.truth, weights)
    worth = 1.0 if weights is None else float(weights.sum() / np.square(weights).sum())
    return PrecisionRecall(labelled.taxonomy.categories, curves, describe_splits(labelled.splits), worth)


def _interval(successes: np.ndarray, trials: np.ndarray, worth: float) -> tuple[np.ndarray, np.ndarray]:
    counted = np.round(trials * worth).astype(np.int64)
    low, high = clopper_pearson(np.minimum(np.round(successes * worth).astype(np.int64), counted), counted)
    return low, high


def _draw_curve(ax: Axes, of: CategoryCurve) -> None:
    theme, curve = figures.theme_of(ax), of.curve
    if not curve.positives or not len(curve.thresholds):
        why = "no image has a score" if curve.positives else "no image shows it"
        ax.text(0.5, 0.5, why, ha="center", va="center", fontsize=figures.TEXT, color=theme.soft)
        return
    share = curve.positives / curve.images
    ax.axhline(share, color=theme.soft, linewidth=0.9, linestyle=(0, (4, 3)))
    points = of.points()
    recall, precision = points["recall"].to_numpy(), points["precision"].to_numpy()
    low, high = points["precision_low"], points["precision_high"]
    ax.fill_between(recall, low, high, step="post", color=theme.first, alpha=0.16, linewidth=0)
    # Towards recall 0 the highest score's precision holds: nothing is interpolated.
    ax.step(np.append(recall, 0), np.append(precision, precision[-1:]), where="post", color=theme.first, linewidth=1.6)


def _draw_marks(ax: Axes, curve: Curve, marks: Mapping[str, float]) -> dict[str, Any]:
    """Legend entry → what was drawn for it."""
    theme = figures.theme_of(ax)
    drawn = {}
    for number, (name, threshold) in enumerate(marks.items()):
        point = curve.at(threshold)
        if not math.isnan(point.precision) and not math.isnan(point.recall):
            look: dict[str, Any] = {"marker": "oDs^v"[number % 5], "color": theme.second, "edgecolor": theme.ground}
            drawn[f"{name} ≥ {threshold:.3g}"] = ax.scatter([point.recall], [point.precision], s=44, zorder=4, **look)
    return drawn


def _as_regions(certified: Certified | None) -> Sequence[CertifiedRegion]:
    if certified is None:
        return ()
    return (certified,) if isinstance(certified, CertifiedRegion) else certified


def _draw_floors(ax: Axes, curve: Curve, certified: Sequence[CertifiedRegion]) -> dict[str, Any]:
    """Legend entry → what was drawn for it; a threshold above every score here is told, but its floor has no width."""
    from matplotlib.patches import Rectangle

    theme = figures.theme_of(ax)
    drawn = {}
    for number, region in enumerate(certified):
        reached = curve.at(region.threshold).recall
        width, top = 0.0 if math.isnan(reached) else reached, region.at_least
        depth = min(_FLOOR, top)
        look: dict[str, Any] = {"facecolor": "none", "edgecolor": theme.soft, "hatch": _HATCHES[number % 3]}
        floor = ax.add_patch(Rectangle((0, top - depth), width, depth, linewidth=0, zorder=2.5, **look))
        ax.plot([0, width, width], [top, top, top - depth], color=theme.ink, linewidth=1.3, zorder=2.6)
        promised, sure = (f"{100 * share:.6g} %" for share in (region.at_least, region.confidence))
        drawn[f"from {region.threshold:.6g} up at least {promised},\ncertified at {sure}"] = floor
    return drawn


def _add_legend(ax: Axes, points: Mapping[str, Any], floors: Mapping[str, Any], warning: str) -> None:
    """The marks, the floors in two lines each, so that they fit a small figure, and over both the warning."""
    look: dict[str, Any] = {"color": figures.theme_of(ax).soft, "fontsize": figures.SMALL, "style": "italic"}
    if not (points or floors):
        if warning:
            ax.text(0.02, 0.03, warning, transform=ax.transAxes, **look)
        return
    place: dict[str, Any] = {"loc": "lower left", "borderaxespad": 0.1, "title": warning or None, "alignment": "left"}
    place["handletextpad"] = 0.6 if floors else 0.1
    figures.add_legend(ax, [*points.values(), *floors.values()], [*points, *floors], **place)
    legend = cast("Legend", ax.get_legend())
    legend.get_title().set(**look)
    for text, words in zip(legend.get_texts()[len(points) :], floors, strict=True):
        text.set_text(words)


def _thinned(recall: np.ndarray, most: int) -> np.ndarray:
    """The places of at most `most` points, spread evenly over both thresholds and (falling) recall."""
    count = len(recall)
    if count <= most:
        return np.arange(count)
    even = np.linspace(0, count - 1, most // 2).round().astype(int)
    by_recall = count - 1 - np.searchsorted(recall[::-1], np.linspace(0, 1, most // 2))
    return np.unique(np.concatenate([even, by_recall.clip(0)]))
