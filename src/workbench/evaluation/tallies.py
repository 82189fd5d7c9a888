"""Measures of "known or unknown", for every resample at once; `selective` says what each means and where it is from.

All follow from whole counts of images below and at a value, so ties are exact and the order of rows never matters.
Nothing is sorted again for a resample: a `Tally` sorts its values once and only counts differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from workbench.evaluation.results import share


class Tally:
    """Values of n images in rising order, each counted as often as each of R resamples drew its image."""

    values: np.ndarray
    """(n,) float64, rising; infinite where an image is accepted always or never."""
    counts: np.ndarray
    """(R, n) float64, whole numbers."""

    def __init__(self, values: np.ndarray, counts: np.ndarray, kept: np.ndarray | None = None) -> None:
        rows = np.arange(len(values)) if kept is None else np.flatnonzero(kept)
        rows = rows[np.argsort(values[rows], kind="stable")]
        self.values, self.counts = values[rows], np.take(counts, rows, axis=1)

    @cached_property
    def total(self) -> np.ndarray:
        """(R,) images."""
        return np.asarray(self._sums[:, -1])

    @cached_property
    def _sums(self) -> np.ndarray:
        """(R, n + 1) images before each place."""
        sums = np.zeros((len(self.counts), len(self.values) + 1))
        np.cumsum(self.counts, axis=1, out=sums[:, 1:])
        return sums

    def below(self, points: np.ndarray) -> np.ndarray:
        """(R, m) images with a value below each of m points."""
        return np.take(self._sums, np.searchsorted(self.values, points, "left"), axis=1)

    def up_to(self, points: np.ndarray) -> np.ndarray:
        """(R, m) images with a value at or below each of m points."""
        return np.take(self._sums, np.searchsorted(self.values, points, "right"), axis=1)

    def up_to_each(self, points: np.ndarray) -> np.ndarray:
        """(R,) images with a value at or below the resample's own point, (R,) of them."""
        return np.asarray(self._sums[np.arange(len(points)), np.searchsorted(self.values, points, "right")])

    def above_or_half(self, points: np.ndarray) -> np.ndarray:
        """(R, m) images above each of m points, those at the point counted half."""
        return np.asarray(self.total[:, None] - (self.below(points) + self.up_to(points)) / 2)

    def sum(self, figures: np.ndarray) -> np.ndarray:
        """(R,) sum of (R, n) figures over the images."""
        return np.asarray(np.einsum("rn,rn->r", self.counts, figures))


def auroc(known: Tally, unknown: Tally) -> np.ndarray:
    """(R,) `selective.auroc`; NaN where a side is empty."""
    return oscr(known, known, unknown)


def oscr(known: Tally, correct: Tally, unknown: Tally) -> np.ndarray:
    """(R,) `selective.oscr`; NaN where a side is empty."""
    return share(unknown.sum(correct.above_or_half(unknown.values)), known.total * unknown.total)


def fpr_at_95_tpr(known: Tally, unknown: Tally) -> np.ndarray:
    """(R,) `selective.fpr_at_95_tpr`; NaN where a side is empty."""
    if not len(unknown.values):
        return np.full(len(unknown.counts), np.nan)
    reached = 20 * np.cumsum(unknown.counts, axis=1) >= 19 * unknown.total[:, None]
    place = reached.argmax(axis=1)
    rejected = known.up_to_each(unknown.values[place])
    return np.where(unknown.total > 0, share(rejected, known.total), np.nan)


def aurc(population: Sequence[Tally], errors: Sequence[Tally]) -> np.ndarray:
    """(R,) `selective.aurc` of the images of all tallies of the population; NaN where there are none.

    Σ over errors of what one adds: an error in a block of ties at ranks a + 1 … b, each rank as likely as the other,
    adds Σ_k P(rank ≤ k) / k = 1 − a (H_b − H_a) / (b − a) + H_N − H_b, H the harmonic numbers.
    """
    total = _total(population)
    harmonic = np.concatenate(([0.0], np.cumsum(1 / np.arange(1, total.max(initial=0) + 1))))
    area = np.zeros(len(total))
    for tally in errors:
        above = total[:, None] - sum(part.up_to(tally.values) for part in population)
        reached = total[:, None] - sum(part.below(tally.values) for part in population)
        to_above, to_reached = harmonic[above.astype(np.int64)], harmonic[reached.astype(np.int64)]
        inside = above * (to_reached - to_above) / np.maximum(reached - above, 1)
        area += tally.sum(1 - inside + harmonic[total.astype(np.int64)][:, None] - to_reached)
    return share(area, total)


def augrc(population: Sequence[Tally], errors: Sequence[Tally]) -> np.ndarray:
    """(R,) `selective.augrc` of the images of all tallies of the population; NaN where there are none.

    An error adds the images that are rejected no later than it, those at its own value counted half.
    """
    total = _total(population)
    area = np.zeros(len(total))
    for tally in errors:
        area += tally.sum(total[:, None] - sum(part.above_or_half(tally.values) for part in population))
    return share(area, total**2)


def _total(population: Sequence[Tally]) -> np.ndarray:
    return np.asarray(np.sum([part.total for part in population], axis=0))
