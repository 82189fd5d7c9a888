"""Precision and recall at every threshold, for every category at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from workbench.canonical import binary32
from workbench.records import CENSORED

_THREADS, _WORTH_THREADS = 2, 1 << 20
"""From so many scores on, two threads pay for themselves (the sort runs without the interpreter's lock)."""

_IN_CACHE = 1 << 16
"""So many scores and what is made of them stay in a core's own cache."""

_MOST_IMAGES = 2**31 - 1
"""Counts are int32."""


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

    @property
    def precision(self) -> np.ndarray:
        """(m,) float64, computed anew when asked for: kept, the rates of all categories would outweigh all else."""
        return np.asarray(self.true_positives / self.predicted_positives)

    @property
    def recall(self) -> np.ndarray:
        """(m,) float64, computed anew when asked for; NaN where no image shows the category."""
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

    scores   (n, K) float32 in [0, 1], or −inf for CENSORED, which no threshold reaches; n < 2³¹
    truth    (n, K) bool
    weights  (n,) > 0 and finite, or None for one each

    Raises ValueError for NaN (the caller decides what MISSING means), for scores outside [0, 1], and for shapes that
    do not fit.
    """
    scores, truth = np.asarray(scores, dtype=np.float32), np.asarray(truth, dtype=bool)
    if scores.ndim != 2 or scores.shape != truth.shape:
        raise ValueError(f"scores {scores.shape} and truth {truth.shape} must have one shape (images, categories)")
    if len(scores) > _MOST_IMAGES:
        raise ValueError(f"{len(scores)} images are more than the {_MOST_IMAGES} that can be counted")
    weights = None if weights is None else _checked_weights(weights, len(scores))
    with ThreadPoolExecutor(max_workers=_THREADS) as threads:
        each = threads.map if scores.size >= _WORTH_THREADS else map
        if weights is None:
            return Curves(_count_all(_keys(scores, truth, each), each))
        _refuse_outside(scores)
        return Curves(tuple(each(_weigh, scores.T, truth.T, repeat(weights))))


def _checked_weights(weights: np.ndarray, images: int) -> np.ndarray:
    checked = np.asarray(weights, dtype=np.float64)
    if checked.shape != (images,) or not (np.isfinite(checked) & (checked > 0)).all():
        raise ValueError(f"weights must be {images} finite numbers above 0")
    return checked


def _within(scores: np.ndarray) -> bool:
    return not scores.size or bool(scores.min() >= 0 and scores.max() <= 1)


def _refuse_outside(scores: np.ndarray) -> None:
    for column, found in enumerate(scores.T):
        answered = found[found != CENSORED]
        if np.isnan(answered).any():
            raise ValueError(f"column {column} has NaN scores: decide first what a MISSING score means")
        if not _within(answered):
            raise ValueError(f"column {column} has scores outside [0, 1]: from {answered.min()} to {answered.max()}")


def _keys(scores: np.ndarray, truth: np.ndarray, each: Callable[..., Iterable[None]]) -> np.ndarray:
    """(K, n) int32: score and label of an image in one number, which sorts as the score does; CENSORED is below 0.

    The bits of binary32 numbers in [0, 1] rise with the numbers and stay at or below 0x3F800000, which leaves room for
    the label. The shift drops the sign of −0.0. Blocks of rows are turned into columns while they are in the cache.
    """
    images, categories = scores.shape
    bits, keys = scores.view(np.uint32), np.empty((categories, images), dtype=np.uint32)
    height = max(1, _IN_CACHE // max(1, categories))

    def fill(blocks: range) -> None:
        for first in blocks:
            rows = slice(first, first + height)
            block = scores[rows]
            if not _within(block) and not _within(np.where(block == CENSORED, np.float32(0), block)):
                _refuse_outside(scores)
            mixed = bits[rows] << 1
            mixed |= truth[rows]
            keys[:, rows] = mixed.T

    blocks = range(0, images, height)
    for _ in each(fill, (blocks[::2], blocks[1::2])):
        pass
    return keys.view(np.int32)


def _count_all(keys: np.ndarray, each: Callable[..., Iterable[Curve]]) -> tuple[Curve, ...]:
    """The curves of (K, n) keys, which are used up: long curves are written where the keys were.

    Fresh pages cost more than the counting. So what is kept are parts of three large arrays, which come in large pages,
    and what is not kept is written to the same place again, one for each thread.
    """
    categories, images = keys.shape
    true, predicted = np.empty((2, categories, images), dtype=np.int32)
    spare = [np.zeros(images + 1, dtype=np.int32) for _ in range(_THREADS)]

    def count(column: int) -> Curve:
        below = spare.pop()
        curve = _count(keys[column], true[column], predicted[column], below)
        spare.append(below)
        return curve

    return tuple(each(count, range(categories)))


def _count(keys: np.ndarray, true: np.ndarray, predicted: np.ndarray, below: np.ndarray) -> Curve:
    """One category's curve, of (n,) keys and room; `below` is room for n + 1 numbers, the first of them 0."""
    keys.sort()
    images = len(keys)
    np.bitwise_and(keys, 1, out=below[1:])
    below.cumsum(out=below)
    positives = int(below[-1])
    keys >>= 1
    censored = int(keys.searchsorted(np.int32(0)))
    answered = keys[censored:]
    starts = _starts(answered)
    count = len(starts)
    if count > images // 2:
        thresholds, true, predicted = answered[:count], true[:count], predicted[:count]
    else:  # a short curve lets go of the large arrays
        thresholds, true, predicted = np.empty((3, count), dtype=np.int32)
    # "clip" is the one mode that writes to `out` without a copy; no start is out of range.
    below[censored:].take(starts, out=true, mode="clip")
    np.subtract(positives, true, out=true)
    answered.take(starts, out=predicted, mode="clip")
    thresholds[:] = predicted
    predicted[:] = starts
    np.subtract(len(answered), predicted, out=predicted)
    return Curve(thresholds.view(np.float32), true, predicted, positives, images)


def _weigh(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> Curve:
    """The same with sums of weights, added up from the highest score down."""
    images, positives = float(weights.sum()), float(weights[truth].sum())
    order = np.argsort(scores, kind="stable")
    order = order[np.count_nonzero(scores == CENSORED) :]
    rising, shows, weight = scores[order], truth[order], weights[order]
    starts = _starts(rising)
    true, predicted = _sum_from_end(weight * shows)[starts], _sum_from_end(weight)[starts]
    return Curve(rising[starts], true, predicted, positives, images)


def _starts(rising: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins."""
    differs = np.ones(len(rising), dtype=bool)
    np.not_equal(rising[1:], rising[:-1], out=differs[1:])
    return np.flatnonzero(differs)


def _sum_from_end(values: np.ndarray) -> np.ndarray:
    return np.cumsum(values[::-1])[::-1]
