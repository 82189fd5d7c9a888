"""Bounds for losses that are not just 0 or 1: weighted images, and mixtures of several kinds of images.

`hoeffding_bentkus` takes sums of independent losses that need not be alike, as where each kind of image has its own
rate. `betting_p_value` and `betting_upper_bound` take losses that are draws of one population, as where images were
sampled with known probabilities; they are sharper there. For plain counts `intervals` is exact, and sharper still.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

_HALVINGS = 60


def hoeffding_bentkus(mean: ArrayLike, trials: ArrayLike, at_most: ArrayLike) -> np.ndarray:
    """p-value of "the expected mean loss exceeds `at_most`"; arguments broadcast.

    mean     observed mean of `trials` independent losses in [0, 1], which may have different distributions
    at_most  the mean that is to be excluded, in [0, 1]

    The smaller of Hoeffding's bound (1963, theorem 1) and e times the binomial tail (Bentkus 2004, theorem 1.2). A
    sum that is a whole number but for rounding counts as that number: nothing is decided by a float's last digit.
    """
    from scipy.special import betainc, rel_entr

    seen, n, limit = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (mean, trials, at_most)))
    if not ((seen >= 0) & (seen <= 1 + 1e-12) & (limit >= 0)).all():
        raise ValueError(f"a mean loss must lie in [0, 1], and its limit must not be negative: {seen}, {limit}")
    low = np.minimum(seen, limit)
    hoeffding = np.exp(-n * (rel_entr(low, limit) + rel_entr(1 - low, 1 - limit)))
    total = n * seen
    nearest = np.round(total)
    errors = np.where(np.abs(total - nearest) <= 1e-9 * np.maximum(nearest, 1), nearest, np.ceil(total))
    inside = (errors < n) & (limit > 0) & (limit < 1)
    tail = np.ones(seen.shape)
    tail[inside] = betainc(n[inside] - errors[inside], errors[inside] + 1, 1 - limit[inside])
    return np.where(limit >= 1, 0.0, np.minimum(1.0, np.minimum(hoeffding, np.e * tail)))


def betting_p_value(losses: np.ndarray, at_most: float, delta: float) -> float:
    """p-value of "the mean loss is at least `at_most`", from independent draws of one population.

    losses  (n,) in [0, 1], in an order that does not depend on them
    delta   the level that the bets are sized for; the p-value is valid at every level

    The capital of a bettor against the hypothesis: ∏ (1 − ν_j (L_j − at_most)), ν_j fixed before L_j is seen. It is a
    supermartingale if the hypothesis is true, so by Ville's inequality its maximum exceeds 1/p with probability at most
    p (Waudby-Smith and Ramdas, arXiv 2010.09686; Bates et al., arXiv 2101.02703).
    """
    if not 0 < delta < 1 or not (np.isfinite(losses) & (losses >= 0) & (losses <= 1)).all():
        raise ValueError(f"losses must lie in [0, 1], and delta {delta} in (0, 1)")
    bets = _bets(losses, delta)
    capital = np.log1p(np.maximum(-bets * (losses - at_most), -1 + 1e-15)).cumsum()
    return float(np.exp(-capital.max(initial=0.0)))


def betting_upper_bound(losses: np.ndarray, delta: float) -> float:
    """The least mean that `betting_p_value` excludes at `delta`; 1 if it excludes none. Arguments as there."""
    if betting_p_value(losses, 1.0, delta) > delta:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if betting_p_value(losses, middle, delta) < delta else (middle, high)
    return high


def _bets(losses: np.ndarray, delta: float) -> np.ndarray:
    """ν_i = min(1, √(2 ln(1/δ) / (n s²_{i−1}))), from the running variance of what came before."""
    count = len(losses)
    if not count:
        return np.zeros(0)
    place = np.arange(1, count + 1)
    means = (0.5 + losses.cumsum()) / (1 + place)
    variances = (0.25 + np.square(losses - means).cumsum()) / (1 + place)
    before = np.concatenate(([0.25], variances[:-1]))
    return np.asarray(np.minimum(1.0, np.sqrt(2 * np.log(1 / delta) / (count * before))))
