"""Precision at the mix of images that production sees, where the labelled set has another mix.

Assumed is label shift: the scores of each kind of image are in production as in the labelled set, only the shares
differ. Then with share π_c of the category, its true-positive rate, and for every other kind j its share π_j and
false-positive rate,

    precision = π_c·TPR / (π_c·TPR + Σ_j π_j·FPR_j).

The certificate takes a lower bound on TPR and an upper bound on the whole sum, each at half of the error probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from workbench.evaluation.betting import hoeffding_bentkus
from workbench.evaluation.intervals import lower_bound, upper_bound, upper_tail

_HALVINGS = 50


@dataclass(frozen=True, eq=False)
class Mix:
    """Of what production consists, as far as one category is concerned."""

    share: float
    """Of all arriving images, those of the category; a lower bound where it was estimated."""
    others: np.ndarray
    """(m,) float64: the share of each other kind of image, all of them together 1 − share; upper bounds where they were
    estimated, which may sum to more."""
    kinds: np.ndarray
    """(n,) int: for each labelled image the position of its kind in `others`; of the category's own it is ignored."""
    spent: float = 0.0
    """Error probability that went into estimating the shares; what is left proves the rates."""


@dataclass(frozen=True, eq=False)
class Counts:
    """What was counted at g thresholds."""

    true_positives: np.ndarray
    """(g,) int: images of the category at or above each threshold."""
    positives: int
    """All labelled images of the category."""
    false_positives: np.ndarray
    """(g, m) int: images of each other kind at or above each threshold."""
    negatives: np.ndarray
    """(m,) int: all labelled images of each other kind."""

    def at(self, rows: slice) -> Counts:
        """The same at some of the thresholds."""
        return replace(self, true_positives=self.true_positives[rows], false_positives=self.false_positives[rows])


def mix_of(prevalence: float | Mix, truth: np.ndarray) -> Mix:
    """A share alone stands for one kind of other images. Raises ValueError for shares that cannot be.

    The category's share in a `Mix` may be 0, as where a sample of production had none of it: nothing is proven then.
    """
    if not isinstance(prevalence, Mix):
        if not 0 < prevalence < 1:
            raise ValueError(f"a prevalence must lie between 0 and 1, both excluded: {prevalence}")
        prevalence = Mix(float(prevalence), np.array([1 - float(prevalence)]), np.zeros(len(truth), dtype=np.int64))
    mix = prevalence
    shares = np.append(mix.others, mix.share)
    if not (np.isfinite(shares) & (shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"shares must lie between 0 and 1: {mix.share}, others {mix.others}")
    if mix.kinds.dtype.kind not in "iu" or not 0 <= mix.spent < 1:
        raise ValueError(f"kinds must be whole numbers, and spent {mix.spent} a probability below 1")
    if mix.share + mix.others.sum() < 1 - 1e-6:
        raise ValueError(f"the shares of all kinds of images sum to {mix.share + mix.others.sum():.6g}, not to 1")
    if mix.kinds.shape != truth.shape or (len(mix.kinds) and (mix.kinds[~truth] < 0).any()):
        raise ValueError(f"kinds {mix.kinds.shape} must name a kind for each of {len(truth)} images")
    if not truth.all() and mix.kinds[~truth].max(initial=0) >= len(mix.others):
        raise ValueError(f"there are {len(mix.others)} kinds of other images, and an image of kind {mix.kinds.max()}")
    return mix


def count_kinds(scores: np.ndarray, truth: np.ndarray, kinds: np.ndarray, kind_count: int, grid: np.ndarray) -> Counts:
    """What (n,) scores give at each point of a grid."""
    above = [count_from(np.sort(scores[~truth & (kinds == kind)]), grid) for kind in range(kind_count)]
    negatives = np.bincount(kinds[~truth], minlength=kind_count)
    return Counts(count_from(np.sort(scores[truth]), grid), int(truth.sum()), np.stack(above, axis=1), negatives)


def count_from(ascending: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """How many of the ascending scores are at or above each grid point."""
    return np.asarray(len(ascending) - np.searchsorted(ascending, grid, side="left"))


def ppv_lower_bound(
    true_positives: int, positives: int, false_positives: int, negatives: int, prevalence: float, delta: float
) -> float:
    """Lower bound on precision at a prevalence, from a lower bound on TPR and an upper bound on FPR, each at delta / 2.

    Both rates by Clopper and Pearson. Raises ValueError as `intervals.lower_bound` does.
    """
    recall = float(lower_bound(true_positives, positives, delta / 2))
    false = float(upper_bound(false_positives, negatives, delta / 2))
    return recall * prevalence / (recall * prevalence + false * (1 - prevalence)) if recall else 0.0


def precision_bound(counts: Counts, mix: Mix, delta: float) -> np.ndarray:
    """(g,) lower bounds on precision in production, each at error probability `delta`, what was spent included."""
    level = (delta - mix.spent) / 2
    if level <= 0:
        return np.zeros(len(counts.true_positives))
    recall = lower_bound(counts.true_positives, counts.positives, level) if counts.positives else 0.0
    false = _false_share_bound(counts, mix, level)
    true = mix.share * np.asarray(recall)
    return np.asarray(np.divide(true, true + false, out=np.zeros(len(false)), where=true > 0))


def highest_precision(counts: Counts, mix: Mix, delta: float) -> np.ndarray:
    """(g,) upper bounds on precision in production, each at error probability `delta`; `precision_bound`, mirrored.

    mix  its share an upper bound and its others lower ones, where they were estimated
    """
    level = (delta - mix.spent) / 2
    if level <= 0:
        return np.ones(len(counts.true_positives))
    recall = upper_bound(counts.true_positives, counts.positives, level) if counts.positives else 1.0
    passed = replace(counts, false_positives=counts.negatives - counts.false_positives)
    false = np.maximum(mix.others.sum() - _false_share_bound(passed, mix, level), 0.0)
    true = mix.share * np.asarray(recall)
    return np.asarray(np.divide(true, true + false, out=np.zeros(len(false)), where=true > 0))


def precision_p_values(counts: Counts, mix: Mix, at_least: float) -> np.ndarray:
    """(g,): the least error probability at which `precision_bound` reaches the goal; what was spent is included."""
    low, high = np.full(len(counts.true_positives), 1e-12), np.ones(len(counts.true_positives))
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        passes = _proves(counts, mix, at_least, middle / 2)
        low, high = np.where(passes, low, middle), np.where(passes, middle, high)
    return np.minimum(1.0, high + mix.spent)


def proves(counts: Counts, mix: Mix, at_least: float, delta: float) -> np.ndarray:
    """(g,) bool: whether precision in production is at least the goal, at error probability `delta` in all."""
    return _proves(counts, mix, at_least, np.full(len(counts.true_positives), (delta - mix.spent) / 2))


def mixed_rate_bound(events: np.ndarray, trials: np.ndarray, shares: np.ndarray, delta: float) -> float:
    """Upper bound on Σ_j share_j·rate_j from counts of each kind; Σ shares where a kind has no images.

    events, trials  (m,) int
    shares          (m,) float64, not negative
    """
    counts = Counts(np.zeros(1, dtype=np.int64), 0, events[None, :], trials)
    return float(_false_share_bound(counts, Mix(0.5, shares, np.zeros(0)), delta)[0])


def _proves(counts: Counts, mix: Mix, at_least: float, level: np.ndarray) -> np.ndarray:
    """TPR by Clopper and Pearson at `level` (g,); then "Σ π_j·FPR_j exceeds what the goal allows" is tested at it."""
    if not counts.positives or (level <= 0).any():
        return np.zeros(len(counts.true_positives), dtype=bool)
    recall = lower_bound(counts.true_positives, counts.positives, np.minimum(level, 0.5))
    allowed = mix.share * np.asarray(recall) * (1 - at_least) / at_least
    return np.asarray((allowed > 0) & (_false_share_p_value(counts, mix, allowed) <= level))


def _false_share_p_value(counts: Counts, mix: Mix, at_most: np.ndarray) -> np.ndarray:
    """p-value of "Σ_j π_j·FPR_j exceeds `at_most`" (g,).

    An image of kind j counts a_j = π_j / n_j if it is a false positive, so the sum is the mean of N = Σ n_j independent
    losses in [0, 1], scaled by N·max a. Where all a_j are equal the losses are 0 or 1, and the binomial tail holds
    without a factor: with one kind exactly, with several by Hoeffding's theorem (1956) on sums of unequal indicators,
    as long as the count lies at least one below its expectation. A kind with a share and no images proves nothing.
    """
    here = mix.others > 0
    sizes, shares = counts.negatives[here], mix.others[here]
    if not here.any():
        return np.zeros(len(at_most))
    if (sizes == 0).any():
        return np.ones(len(at_most))
    each = shares / sizes
    largest, total = each.max(), int(sizes.sum())
    rate = np.minimum(at_most / (largest * total), 1.0)
    events = counts.false_positives[:, here]
    if np.allclose(each, largest, rtol=1e-12, atol=0):
        errors = events.sum(axis=1)
        tail = upper_tail(total - errors, total, 1 - rate)
        if len(sizes) > 1:
            tail = np.where(errors <= rate * total - 1, tail, 1.0)
        return np.where(rate >= 1, 0.0, tail)
    return hoeffding_bentkus((events @ each) / (largest * total), total, rate)


def _false_share_bound(counts: Counts, mix: Mix, level: float) -> np.ndarray:
    """(g,) upper bounds on Σ_j π_j·FPR_j: the least value that the test excludes at `level`."""
    low = np.zeros(len(counts.true_positives))
    high = np.full(len(low), float(mix.others.sum()))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        excluded = _false_share_p_value(counts, mix, middle) <= level
        low, high = np.where(excluded, low, middle), np.where(excluded, middle, high)
    return high


def shares_from_sample(counts: Sequence[int], category: int, delta: float) -> tuple[float, np.ndarray]:
    """(lower bound on the category's share, upper bounds on the others) from a labelled production sample.

    counts    images of each kind in the sample, the category's own among them
    category  its position
    delta     error probability of all these bounds together

    Each is a Clopper–Pearson bound; the category's has half of delta, the others share the other half.
    """
    numbers = np.asarray(counts, dtype=np.int64)
    total, others = int(numbers.sum()), np.delete(numbers, category)
    low = float(lower_bound(int(numbers[category]), total, delta / 2))
    return low, np.atleast_1d(upper_bound(others, total, delta / 2 / max(1, len(others))))


def highest_shares_from_sample(counts: Sequence[int], category: int, delta: float) -> tuple[float, np.ndarray]:
    """`shares_from_sample`, mirrored: (upper bound on the category's share, lower bounds on the others)."""
    numbers = np.asarray(counts, dtype=np.int64)
    total, others = int(numbers.sum()), np.delete(numbers, category)
    high = float(upper_bound(int(numbers[category]), total, delta / 2))
    return high, np.atleast_1d(lower_bound(others, total, delta / 2 / max(1, len(others))))
