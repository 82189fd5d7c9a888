"""How often a run is right: by category, overall, and within the values of any column.

Images count one each: the data set's weights are not applied here. What an approach tells about an image, before any
threshold: single-label, the one highest category (`Labelled.top`); multi-label, every category at 0.5 or above. An
image without an answer tells nothing and counts as a miss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.evaluation import figures
from workbench.evaluation.curves import precision_recall_curves
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.results import Result, describe_splits, share
from workbench.records import Mode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOLD_AT = 0.5
"""Multi-label: an approach tells a category from this score on."""

_MOST_VALUES = 20


@dataclass(frozen=True, eq=False)
class CategoryMetrics(Result):
    """Counts and rates of each of the K categories."""

    categories: tuple[str, ...]
    images: int
    """All labelled images, those of no known category among them."""
    support: np.ndarray
    """(K,) int: images that show the category."""
    answered: np.ndarray
    """(K,) int: of those, images with an answer."""
    predicted: np.ndarray
    """(K,) int: images about which the approach tells the category."""
    correct: np.ndarray
    """(K,) int: images that show the category and about which it is told."""
    average_precision: np.ndarray
    """(K,) float64, of the category's own score against all other images; NaN without support."""
    confidence: float
    """Of each exact interval, on its own."""
    measured_on: str

    @property
    def precision(self) -> np.ndarray:
        """(K,) float64; NaN where the category is never told."""
        return share(self.correct, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """(K,) float64, images without an answer counted as misses; NaN without support."""
        return share(self.correct, self.support)

    @property
    def f1(self) -> np.ndarray:
        """(K,) float64: harmonic mean of precision and recall; NaN without support."""
        return np.where(self.support > 0, share(2 * self.correct, self.predicted + self.support), np.nan)

    def frame(self) -> pd.DataFrame:
        """One row per category."""
        precision_low, precision_high = clopper_pearson(self.correct, self.predicted, self.confidence)
        recall_low, recall_high = clopper_pearson(self.correct, self.support, self.confidence)
        columns = {
            "category": self.categories,
            "support": self.support,
            "answered": self.answered,
            "predicted": self.predicted,
            "correct": self.correct,
            "precision": self.precision,
            "precision_low": precision_low,
            "precision_high": precision_high,
            "recall": self.recall,
            "recall_low": recall_low,
            "recall_high": recall_high,
            "recall_of_answered": share(self.correct, self.answered),
            "f1": self.f1,
            "average_precision": self.average_precision,
        }
        return pd.DataFrame({**columns, "measured_on": self.measured_on})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Precision and recall of each category with their intervals."""
        rows = len(self.categories)
        ax = ax or figures.new_axes(height=1.5 + 0.32 * rows)
        theme = figures.theme_of(ax)
        frame = self.frame()
        place = np.arange(rows)
        dots = [
            _dots(ax, place - 0.14, frame, "precision", "o", theme.first, theme.first),
            _dots(ax, place + 0.14, frame, "recall", "s", theme.second, theme.ground),
        ]
        labels = [
            f"{figures.printable(name)}  ({count})" for name, count in zip(self.categories, self.support, strict=True)
        ]
        ax.set_yticks(place, labels)
        ax.set(xlim=(-0.01, 1.01), ylim=(rows - 0.4, -0.6))
        ax.set_xlabel(f"share, with {self.confidence:.0%} intervals (images of the category in brackets)")
        figures.dress(ax, "Precision and recall by category", self.measured_on, grid="x")
        figures.add_legend(ax, dots, ["precision", "recall"], **figures.BELOW)
        return ax


@dataclass(frozen=True)
class Accuracy(Result):
    """Share of images told rightly, beside what always giving the most common answer would reach."""

    mode: Mode
    images: int
    """Labelled images that show a known category."""
    answered: int
    """Of those, images with an answer."""
    correct: int
    """single-label: the one highest category is the labelled one; multi-label: all categories are right at 0.5."""
    majority: int
    """How many of the images have the most common label (multi-label: the most common set of labels)."""
    majority_answer: str
    confidence: float
    measured_on: str

    @property
    def accuracy(self) -> float:
        """Of all images, those without an answer counted as wrong; NaN without images."""
        return self.correct / self.images if self.images else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Exact interval on the accuracy."""
        low, high = clopper_pearson(self.correct, self.images, self.confidence)
        return float(low), float(high)

    @property
    def baseline(self) -> float:
        """What always answering `majority_answer` reaches; NaN without images."""
        return self.majority / self.images if self.images else math.nan

    @property
    def answered_share(self) -> float:
        """NaN without images."""
        return self.answered / self.images if self.images else math.nan

    def frame(self) -> pd.DataFrame:
        """One row."""
        low, high = self.interval
        row = {
            "images": self.images,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "majority_baseline": self.baseline,
            "majority_answer": self.majority_answer,
            "answered": self.answered,
            "answered_share": self.answered_share,
            "accuracy_of_answered": self.correct / self.answered if self.answered else math.nan,
            "measured_on": self.measured_on,
        }
        return pd.DataFrame([row])


@dataclass(frozen=True, eq=False)
class Slices(Result):
    """Accuracy within each value of one column."""

    column: str
    values: tuple[str, ...]
    accuracies: tuple[Accuracy, ...]
    measured_on: str

    def frame(self) -> pd.DataFrame:
        """One row per value."""
        frame = pd.concat([accuracy.frame() for accuracy in self.accuracies], ignore_index=True)
        frame.insert(0, "value", list(self.values))
        frame.insert(0, "column", self.column)
        return frame

    def plot(self, ax: Axes | None = None) -> Axes:
        """Accuracy of each value with its interval, the majority baseline beside it."""
        rows = len(self.values)
        ax = ax or figures.new_axes(height=1.5 + 0.3 * rows)
        theme = figures.theme_of(ax)
        place = np.arange(rows)
        frame = self.frame()
        dots = _dots(ax, place, frame, "accuracy", "o", theme.first, theme.first)
        bars = ax.scatter(frame["majority_baseline"], place, marker="|", s=90, color=theme.second, zorder=3)
        labels = [
            f"{figures.printable(value)}  ({count})" for value, count in zip(self.values, frame["images"], strict=True)
        ]
        ax.set_yticks(place, labels)
        ax.set(xlim=(-0.01, 1.01), ylim=(rows - 0.4, -0.6), xlabel="share of images (their number in brackets)")
        figures.dress(ax, f"Accuracy by {figures.printable(self.column)}", self.measured_on, grid="x")
        figures.add_legend(ax, [dots, bars], ["accuracy", "majority baseline"], **figures.BELOW)
        return ax


def measure_categories(labelled: Labelled, confidence: float = 0.95) -> CategoryMetrics:
    """Precision, recall, F1 and average precision of each category."""
    answer, truth = told(labelled), labelled.truth
    return CategoryMetrics(
        categories=labelled.taxonomy.categories,
        images=len(labelled),
        support=truth.sum(axis=0),
        answered=(truth & labelled.answered[:, None]).sum(axis=0),
        predicted=answer.sum(axis=0),
        correct=(answer & truth).sum(axis=0),
        average_precision=precision_recall_curves(labelled.usable_scores(), truth).average_precision,
        confidence=confidence,
        measured_on=describe_splits(labelled.splits),
    )


def measure_accuracy(labelled: Labelled, confidence: float = 0.95) -> Accuracy:
    """Accuracy over the images of a known category; in multi-label, exact matches at 0.5."""
    known = labelled.rows(~labelled.unknown)
    right = (told(known) == known.truth).all(axis=1)
    majority, answer = _most_common(known)
    return Accuracy(
        mode=labelled.taxonomy.mode,
        images=len(known),
        answered=int(known.answered.sum()),
        correct=int(right.sum()),
        majority=majority,
        majority_answer=answer,
        confidence=confidence,
        measured_on=describe_splits(labelled.splits),
    )


def slice_by(labelled: Labelled, column: str, confidence: float = 0.95) -> Slices:
    """Accuracy within each value of a column of the frame; numbers with many values are cut into five equal shares.

    Raises KeyError that lists the columns if there is none of this name.
    """
    if column not in labelled.frame.columns:
        raise KeyError(f"no column {column!r}; there are {', '.join(map(str, labelled.frame.columns))}")
    texts, values = _slice_values(labelled.frame[column])
    accuracies = tuple(measure_accuracy(labelled.rows(texts == value), confidence) for value in values)
    return Slices(column, values, accuracies, describe_splits(labelled.splits))


def told(labelled: Labelled) -> np.ndarray:
    """(n, K) bool: what the approach tells about each image, before any threshold."""
    if labelled.taxonomy.mode == "multi-label":
        return np.asarray(labelled.usable_scores() >= TOLD_AT)
    return np.asarray(labelled.top()[:, None] == np.arange(len(labelled.taxonomy.categories)))


def _most_common(labelled: Labelled) -> tuple[int, str]:
    """(images, words) of the most common set of labels; the first in taxonomy order where several are."""
    if not len(labelled):
        return 0, ""
    sets, counts = np.unique(labelled.truth, axis=0, return_counts=True)
    most, columns = min(
        (-int(count), np.flatnonzero(shown).tolist()) for shown, count in zip(sets, counts, strict=True)
    )
    return -most, " + ".join(labelled.taxonomy.categories[column] for column in columns)


def _slice_values(column: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
    """(the text of each row's value, the distinct texts in order: numbers by size, all else by spelling)."""
    if not pd.api.types.is_numeric_dtype(column):
        texts = column.map(_slice_text).to_numpy(dtype=object)
        return texts, tuple(sorted(set(texts)))
    if column.nunique() > _MOST_VALUES:
        column = _fifths(column)
    texts = column.map(_slice_text, na_action=None).to_numpy(dtype=object)
    return texts, tuple(dict.fromkeys(texts[column.argsort().to_numpy()]))


def _fifths(numbers: pd.Series) -> pd.Series:
    """Each number's fifth of the distribution, as an ordered category such as "0.2 to 0.41"."""
    edges = sorted(set(numbers.quantile(np.linspace(0, 1, 6))))
    texts = next(texts for texts in _spelled(edges) if len(set(texts)) == len(edges))
    names = [f"{low} to {high}" for low, high in pairwise(texts)]
    return pd.cut(numbers, edges, labels=names, include_lowest=True, ordered=True)


def _spelled(numbers: Sequence[float]) -> Iterator[list[str]]:
    """The numbers with three digits, then with more and more, until no two that differ look alike."""
    for digits in range(3, 18):
        yield [f"{number:.{digits}g}" for number in numbers]


def _slice_text(value: object) -> str:
    if isinstance(value, tuple):
        return " + ".join(value)
    return "" if pd.isna(value) else str(value)  # type: ignore[call-overload]


def _dots(ax: Axes, place: np.ndarray, frame: pd.DataFrame, name: str, marker: str, colour: str, face: str) -> Any:
    """One dot with its interval per row; no dot where there is no figure."""
    there = frame[name].notna().to_numpy()
    low, high = frame[f"{name}_low"].to_numpy(), frame[f"{name}_high"].to_numpy()
    ax.hlines(place[there], low[there], high[there], color=colour, linewidth=1.4)
    return ax.scatter(frame[name][there], place[there], marker=marker, s=26, color=colour, facecolor=face, zorder=3)
