"""The bootstrap over groups of images: how far a figure would move if other groups had been collected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

_MOST_COUNTS = 1 << 19
"""So many counts are held at once: resamples × images."""


def bootstrap_interval(
    measure: Callable[[np.ndarray], np.ndarray],
    groups: np.ndarray | pd.Series,
    kinds: np.ndarray,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of M figures, (M,) each: the percentile interval of a bootstrap over groups (Efron 1979).

    measure  gives (M, R) figures for (R, n) float64 counts, how often each of R resamples draws each image
    groups   (n,) the group of each image: images of one group are drawn together
    kinds    (n,) bool: groups are drawn among those that hold the same of the two kinds of images (true, false, both),
             so that every resample has as many groups of each as there are

    Resamples where a figure is NaN do not count for it. Approximate, unlike the exact intervals on rates, and blind to
    what the sample lacks: where every image is told rightly, the interval has no width.
    """
    code = pd.factorize(groups)[0]
    random, at_once = np.random.default_rng(seed), max(1, _MOST_COUNTS // max(1, len(code)))
    sizes = (min(at_once, resamples - start) for start in range(0, resamples, at_once))
    figures = np.concatenate([measure(draw_counts(code, kinds, size, random)) for size in sizes], axis=1)
    low, high = np.full(len(figures), np.nan), np.full(len(figures), np.nan)
    stands = ~np.isnan(figures).all(axis=1)
    tail = (1 - confidence) / 2
    low[stands], high[stands] = np.nanquantile(figures[stands], [tail, 1 - tail], axis=1)
    return low, high


def draw_counts(code: np.ndarray, kinds: np.ndarray, resamples: int, random: np.random.Generator) -> np.ndarray:
    """(resamples, n) float64: how often each image is drawn; `code` (n,) numbers the groups from 0."""
    size = code.max(initial=-1) + 1
    holds = np.bincount(code, ~kinds, size) > 0, np.bincount(code, kinds, size) > 0
    stratum = holds[0] + 2 * holds[1]
    counts = np.zeros((resamples, size))
    for number in np.unique(stratum):
        members = np.flatnonzero(stratum == number)
        drawn = random.integers(0, len(members), (resamples, len(members)))
        drawn += len(members) * np.arange(resamples)[:, None]
        counts[:, members] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    return np.take(counts, code, axis=1)
