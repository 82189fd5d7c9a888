"""Exact binomial tails and bounds (Clopper and Pearson 1934): the one place that computes them.

A one-sided bound carries the whole error probability `delta`; the two-sided interval puts half of it on each side. All
take whole numbers or arrays of them that broadcast, and are conservative: the true rate lies outside with probability
at most `delta`, whatever it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

_NEAR = 6
"""How far the normal approximation is trusted to miss; beyond it, the whole range is searched."""

Bound = Any
"""A float where all arguments are numbers, else a float64 array of their common shape."""


def lower_bound(successes: ArrayLike, trials: ArrayLike, delta: ArrayLike) -> Bound:
    """The rate at which `successes` of `trials` or more have probability `delta`; 0 where there is no success.

    The `delta` quantile of Beta(successes, trials − successes + 1), bit for bit what `scipy.stats.beta.ppf` gives.
    Raises ValueError for counts outside 0 ≤ successes ≤ trials and for `delta` outside (0, 1).
    """
    from scipy.special import betaincinv

    x, n, share = _checked(successes, trials, delta)
    hit = np.maximum(x, 1)
    return np.where(x == 0, 0.0, betaincinv(hit, np.maximum(n, hit) - hit + 1, share))[()]


def upper_bound(successes: ArrayLike, trials: ArrayLike, delta: ArrayLike) -> Bound:
    """The rate at which `successes` of `trials` or fewer have probability `delta`; 1 where there is no failure.

    The `1 − delta` quantile of Beta(successes + 1, trials − successes), bit for bit what `scipy.stats.beta.ppf` gives.
    Raises ValueError as `lower_bound` does.
    """
    from scipy.special import betaincinv

    x, n, share = _checked(successes, trials, delta)
    return np.where(x == n, 1.0, betaincinv(x + 1, np.maximum(n - x, 1), 1 - share))[()]


def clopper_pearson(successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95) -> tuple[Bound, Bound]:
    """(low, high) of the two-sided exact interval; (0, 1) where there are no trials. Raises as `lower_bound` does."""
    tail = (1 - confidence) / 2
    return lower_bound(successes, trials, tail), upper_bound(successes, trials, tail)


def _checked(successes: ArrayLike, trials: ArrayLike, delta: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, n, share = np.asarray(successes), np.asarray(trials), np.asarray(delta, dtype=np.float64)
    if x.dtype.kind not in "iu" or n.dtype.kind not in "iu":
        raise ValueError(f"counts must be whole numbers, not {x.dtype} of {n.dtype}")
    x, n = x.astype(np.int64), n.astype(np.int64)
    if ((x < 0) | (x > n)).any():
        raise ValueError(f"successes must lie between 0 and trials: {x} of {n}")
    if not ((share > 0) & (share < 1)).all():
        raise ValueError(f"delta must lie strictly between 0 and 1: {share}")
    return x, n, share


def upper_tail(successes: ArrayLike, trials: ArrayLike, rate: ArrayLike) -> np.ndarray:
    """P[Bin(trials, rate) >= successes]; 1 where successes is 0, 0 where it exceeds the trials."""
    from scipy.special import betainc

    x, n, p = np.broadcast_arrays(np.asarray(successes, float), np.asarray(trials, float), np.asarray(rate, float))
    inner = (x >= 1) & (x <= n)
    tail = betainc(np.where(inner, x, 1.0), np.where(inner, n - x + 1, 1.0), p)
    return np.where(inner, tail, np.where(x < 1, 1.0, 0.0))


def critical_successes(trials: ArrayLike, rate: float, delta: float) -> np.ndarray:
    """The fewest successes x with P[Bin(trials, rate) >= x] <= delta; trials + 1 where none are enough."""
    from scipy.special import ndtri

    n = np.asarray(trials, float)
    guess = np.round(n * rate - ndtri(delta) * np.sqrt(n * rate * (1 - rate)))
    low, high = np.clip(guess - _NEAR, 0, n + 1), np.clip(guess + _NEAR, 0, n + 1)
    low = np.where(upper_tail(low - 1, n, rate) > delta, low, 0)
    high = np.where(upper_tail(high, n, rate) <= delta, high, n + 1)
    while (low < high).any():
        middle = np.floor((low + high) / 2)
        enough = upper_tail(middle, n, rate) <= delta
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return low.astype(np.int64)
