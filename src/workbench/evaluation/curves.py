"""Precision and recall at every threshold, for every category at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from workbench.canonical import binary32
from workbench.records import CENSORED

_WORTH_THREADS = 1 << 20
"""From so many scores on, two threads pay for themselves (the sort runs without the interpreter's lock)."""


@dataclass(frozen=True)
class Point:
    """What a threshold gives: an image is predicted positive iff its score is at or above it."""

    threshold: float
    true_positives: float
    predicted_positives: float
    positives: float
    """All that show the category, CENSORED ones included."""

    @property
    def precision(self) -> float:
        """NaN where nothing is predicted positive."""
        return self.true_positives / self.predicted_positives if self.predicted_positives else math.nan

    @property
    def recall(self) -> float:
        """NaN where no image shows the category."""
        return self.true_positives / self.positives if self.positives else math.nan


@dataclass(frozen=True, eq=False)
class Curve:
    """One category's counts at each of its m distinct scores. Counts are whole numbers, or sums of weights."""

    thresholds: np.ndarray
    """(m,) float32, rising: every distinct score; CENSORED is none."""
    true_positives: np.ndarray
    """(m,) int32, or float64 with weights: images at or above the threshold that show the category."""
    predicted_positives: np.ndarray
    """(m,) of the same kind: images at or above the threshold."""
    positives: float
    """All that show the category, CENSORED ones included."""
    images: float
    """All images."""

    @cached_property
    def precision(self) -> np.ndarray:
        """(m,) float64."""
        return np.asarray(self.true_positives / self.predicted_positives)

    @cached_property
    def recall(self) -> np.ndarray:
        """(m,) float64; NaN where no image shows the category."""
        if not self.positives:
            return np.full(len(self.thresholds), np.nan)
        return self.true_positives / self.positives

    @property
    def average_precision(self) -> float:
        """Σ (recall gained at a threshold) × (precision there), from the highest threshold down, not interpolated.

        As `sklearn.metrics.average_precision_score`, with CENSORED images as one tie below every score.
        NaN where no image shows the category.
        """
        if not self.positives:
            return math.nan
        gained = self.true_positives - np.append(self.true_positives[1:], 0)
        censored = self.positives - (self.true_positives[0] if len(self.thresholds) else 0)
        return float((gained * self.precision).sum() / self.positives + censored / self.images)

    def at(self, threshold: float) -> Point:
        """The counts at any threshold, by binary search; the threshold counts as the binary32 nearest to it.

        Raises ValueError if it is not finite.
        """
        if not math.isfinite(threshold):
            raise ValueError(f"{threshold} is no threshold")
        limit = np.float32(binary32(threshold))
        place = int(np.searchsorted(self.thresholds, limit))
        if place == len(self.thresholds):
            return Point(float(limit), 0, 0, self.positives)
        true, predicted = self.true_positives[place].item(), self.predicted_positives[place].item()
        return Point(float(limit), true, predicted, self.positives)


@dataclass(frozen=True, eq=False)
class Curves:
    """One curve per category, in the order of the columns."""

    columns: tuple[Curve, ...]

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, column: int) -> Curve:
        return self.columns[column]

    def __iter__(self) -> Iterator[Curve]:
        return iter(self.columns)

    @property
    def average_precision(self) -> np.ndarray:
        """(K,) float64."""
        return np.array([curve.average_precision for curve in self.columns])


def precision_recall_curves(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> Curves:
    """Curves of all categories. Ties are exact: images with one score pass a threshold together.

    scores   (n, K) float32 in [0, 1], or −inf for CENSORED, which no threshold reaches
    truth    (n, K) bool
    weights  (n,) > 0 and finite, or None for one each

    Raises ValueError for NaN (the caller decides what MISSING means), for scores outside [0, 1], and for shapes that
    do not fit.
    """
    scores, truth = np.asarray(scores, dtype=np.float32), np.asarray(truth, dtype=bool)
    if scores.ndim != 2 or scores.shape != truth.shape:
        raise ValueError(f"scores {scores.shape} and truth {truth.shape} must have one shape (images, categories)")
    weights = None if weights is None else _checked_weights(weights, len(scores))

    def trace(column: int) -> Curve:
        return _trace(scores[:, column], truth[:, column], weights, column)

    columns = range(scores.shape[1])
    if scores.size < _WORTH_THREADS:
        return Curves(tuple(map(trace, columns)))
    with ThreadPoolExecutor(max_workers=2) as threads:
        return Curves(tuple(threads.map(trace, columns)))


def _checked_weights(weights: np.ndarray, images: int) -> np.ndarray:
    checked = np.asarray(weights, dtype=np.float64)
    if checked.shape != (images,) or not (np.isfinite(checked) & (checked > 0)).all():
        raise ValueError(f"weights must be {images} finite numbers above 0")
    return checked


def _trace(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray | None, column: int) -> Curve:
    found = np.ascontiguousarray(scores)
    images = len(truth) if weights is None else float(weights.sum())
    positives = int(np.count_nonzero(truth)) if weights is None else float(weights[truth].sum())
    if not _within(found):
        answered = found != CENSORED
        found, truth = found[answered], truth[answered]
        weights = None if weights is None else weights[answered]
        _refuse_outside(found, column)
    if not len(found):
        nothing = np.zeros(0, dtype=np.int32)
        return Curve(np.zeros(0, dtype=np.float32), nothing, nothing, positives, images)
    counts = _count(found, truth) if weights is None else _weigh(found, truth, weights)
    return Curve(*counts, positives, images)


def _within(scores: np.ndarray) -> bool:
    return bool(len(scores) and scores.min() >= 0 and scores.max() <= 1)


def _refuse_outside(scores: np.ndarray, column: int) -> None:
    if np.isnan(scores).any():
        raise ValueError(f"column {column} has NaN scores: decide first what a MISSING score means")
    if len(scores) and not _within(scores):
        raise ValueError(f"column {column} has scores outside [0, 1]: from {scores.min()} to {scores.max()}")


def _count(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(thresholds, true positives, predicted positives) by one sort of 32-bit integers.

    The bits of binary32 numbers in [0, 1] rise with the numbers and stay at or below 0x3F800000, so bits and label fit
    one integer. The shift drops the sign of −0.0.
    """
    keys = scores.view(np.uint32) << np.uint32(1)
    keys |= truth
    keys.sort()
    bits = keys >> np.uint32(1)
    starts = _starts(bits)
    shows = (keys & np.uint32(1)).view(np.int32)
    whole = np.int32 if len(keys) <= np.iinfo(np.int32).max else np.int64
    so_far = np.cumsum(shows, dtype=whole)
    true_positives = so_far[-1] - so_far[starts] + shows[starts]
    return bits[starts].view(np.float32), true_positives, (len(keys) - starts).astype(whole)


def _weigh(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same with sums of weights, added up from the highest score down."""
    order = np.argsort(scores, kind="stable")
    rising, shows, weight = scores[order], truth[order], weights[order]
    starts = _starts(rising)
    return rising[starts], _sum_from_end(weight * shows)[starts], _sum_from_end(weight)[starts]


def _starts(rising: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins."""
    return np.concatenate(([0], 1 + np.flatnonzero(rising[1:] != rising[:-1])))


def _sum_from_end(values: np.ndarray) -> np.ndarray:
    return np.cumsum(values[::-1])[::-1]
