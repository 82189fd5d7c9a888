"""How far probabilities are from the share of images that they stand for: measures on plain arrays.

Each measure takes probabilities in [0, 1] and outcomes, image by image; `estimate_measures` adds the bootstrap over
groups, `null_errors` what the errors of calibration show where every probability is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from workbench.evaluation.results import share

BINS = 15
LOG_CLIP = 1e-6
"""The log loss takes probabilities no nearer to 0 and 1 than this, so that one sure mistake costs 13.8."""

_NODES = 1001
"""The smooth error stands on these points of [0, 1], both ends among them."""
_WIDTHS = 1024
"""Its bandwidth is a multiple of one over this, the second at least."""
_MESH = 200
_AT_ONCE = 1 << 23
"""Numbers of a block of resamples that are held at once."""


@dataclass(frozen=True)
class Estimate:
    """A measure and its basic bootstrap interval.

    Resampling adds to an error of calibration what sampling added before; the basic interval mirrors that at the value
    and so takes it off. Where little error is left, the whole interval may lie below the value.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Null:
    """What a measure of calibration shows if every probability is exactly right and only labels vary."""

    mean: float
    high: float
    """The 95 % quantile."""


NOTHING, NO_NULL = Estimate(math.nan, math.nan, math.nan), Null(math.nan, math.nan)


def brier_score(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """Mean of (p − y)²; NaN without images. Raises ValueError as `smooth_error` does."""
    p, y = _checked(probabilities, outcomes)
    return float(((p - y) ** 2).mean()) if len(p) else math.nan


def log_loss(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """Mean of −ln of the probability of what happened, clipped to [1e-6, 1 − 1e-6]; NaN without images."""
    p, y = _checked(probabilities, outcomes)
    return float(_log_losses(p, y).mean()) if len(p) else math.nan


def binned_error(
    probabilities: np.ndarray, outcomes: np.ndarray, bins: int = BINS, edges: Literal["mass", "width"] = "mass"
) -> float:
    """ECE: Σ over bins of |Σ (y − p)| / n; NaN without images. Raises ValueError as `smooth_error` does.

    mass: bins of equal numbers of images, equal probabilities never parted; width: bins of equal width on [0, 1].
    Both are biased upwards: read them beside `null_errors`.
    """
    p, y = _checked(probabilities, outcomes)
    place = bins_of(p, bins, edges)
    return float(np.abs(np.bincount(place, y - p, bins)).sum() / len(p)) if len(p) else math.nan


def classwise_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = BINS) -> float:
    """The mean over the K columns of the equal-mass `binned_error`; both arrays are (n, K)."""
    p, y = np.asarray(probabilities), np.asarray(truth)
    if p.ndim != 2 or p.shape != y.shape:
        raise ValueError(f"probabilities {p.shape} and truth {y.shape} must have one shape (images, categories)")
    return float(np.mean([binned_error(p[:, column], y[:, column], bins) for column in range(p.shape[1])]))


def smooth_error(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """The smooth calibration error, smECE (arXiv 2309.12236), by the conventions of its authors' package relplot 1.0.3.

    Residuals y − p and images are smoothed alike by a Gaussian that is reflected at 0 and 1 and cut at ±0.5; the error
    is Σ |smoothed residuals| / Σ smoothed images over an even mesh with both ends, of 200 points or ten to a bandwidth
    if that is more. The bandwidth is the least multiple of 1/1024, from 2/1024 on, that the error does not exceed.
    Nodes 0.001 apart carry what lies between them, shared linearly; reflection is about the first and the last node, so
    what these carry counts half: an image at exactly 0 or 1 has half the weight of one further in. The two packages
    agree to about 1e-5.

    `probabilities` (n,) in [0, 1], `outcomes` (n,) bool or 0 and 1; NaN without images. Raises ValueError for other
    values or shapes.
    """
    p, y = _checked(probabilities, outcomes)
    if not len(p):
        return math.nan
    sums = _sums(p, BINS)[:_NODES]
    return float(_smooth((sums @ (y - p))[None], (sums @ np.ones(len(p)))[None])[0])


def rank_area(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """AUROC: the chance that an image with the outcome ranks above one without, ties half; NaN if either is absent."""
    p, y = _checked(probabilities, outcomes)
    return float(_areas(p, y, np.ones((len(p), 1)))[0])


@dataclass(frozen=True)
class NullErrors:
    """The measures of calibration where every probability is right."""

    ece: Null
    ece_width: Null
    smece: Null


def null_errors(probabilities: np.ndarray, bins: int = BINS, resamples: int = 200, seed: int = 0) -> NullErrors:
    """Draw labels from the probabilities (n,) themselves, `resamples` times, and measure them."""
    p, _ = _checked(probabilities, np.zeros(len(probabilities)))
    if not len(p) or not resamples:
        return NullErrors(NO_NULL, NO_NULL, NO_NULL)
    random = np.random.default_rng(seed)
    sums = _sums(p, bins)
    right, images = (sums @ p)[:, None], sums[:_NODES] @ np.ones(len(p))
    found = []
    for size in _blocks(len(p), resamples):
        drawn = random.random((len(p), size), dtype=np.float32) < p[:, None]
        found.append(_errors((sums @ drawn.astype(np.float64) - right).T, bins, np.tile(images, (size, 1))))
    return NullErrors(*(Null(float(row.mean()), float(np.quantile(row, 0.95))) for row in np.concatenate(found).T))


@dataclass(frozen=True)
class Sampling:
    """How errors are binned and resampled."""

    bins: int
    resamples: int
    confidence: float
    seed: int


def estimate_measures(p: np.ndarray, y: np.ndarray, groups: np.ndarray, sampling: Sampling) -> list[Estimate]:
    """Brier score, log loss, AUROC, then the equal-mass, equal-width and smooth error; all arrays are (n,), n ≥ 1."""
    from scipy.sparse import csr_array, vstack

    losses = csr_array(np.stack([(p - y) ** 2, _log_losses(p, y)]))
    places = _sums(p, sampling.bins)
    rows = vstack([places.multiply(y - p), losses, places[:_NODES]], format="csr")

    def measured(counts: np.ndarray) -> np.ndarray:
        sums, lost, images = np.split((rows @ counts).T, [-_NODES - 2, -_NODES], axis=1)
        means = lost / counts.sum(axis=0)[:, None]
        return np.column_stack([means, _areas(p, y, counts), _errors(sums, sampling.bins, images)])

    value = measured(np.ones((len(p), 1)))[0]
    if not sampling.resamples:
        return [Estimate(float(one), math.nan, math.nan) for one in value]
    random = np.random.default_rng(sampling.seed)
    sizes = _blocks(len(p), sampling.resamples)
    drawn = np.concatenate([measured(_draw_groups(groups, size, random)) for size in sizes])
    most = (1, math.inf, 1, 1, 1, 1)
    return [_mirrored(float(value[at]), drawn[:, at], sampling.confidence, most[at]) for at in range(len(most))]


def _mirrored(value: float, drawn: np.ndarray, confidence: float, most: float) -> Estimate:
    there = drawn[~np.isnan(drawn)]  # AUROC: a resample may lack one side
    if not len(there):
        return Estimate(value, math.nan, math.nan)
    low, high = np.quantile(there, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(np.clip(2 * value - high, 0, most)), float(np.clip(2 * value - low, 0, most)))


def _draw_groups(groups: np.ndarray, resamples: int, random: np.random.Generator) -> np.ndarray:
    """(n, resamples): how often each row counts when as many groups are drawn, with replacement, as there are."""
    codes, size = np.unique(groups, return_inverse=True)
    drawn = random.integers(0, len(codes), (resamples, len(codes))) + np.arange(resamples)[:, None] * len(codes)
    counts = np.bincount(drawn.ravel(), minlength=resamples * len(codes)).reshape(resamples, len(codes))
    return np.ascontiguousarray(counts.T[size], dtype=np.float64)


def _blocks(images: int, resamples: int) -> Iterator[int]:
    """Sizes of blocks of resamples that fit the memory set aside for them."""
    most = max(1, _AT_ONCE // max(images, 1))
    for done in range(0, resamples, most):
        yield min(most, resamples - done)


def _sums(p: np.ndarray, bins: int) -> Any:
    """Sparse (1001 + bins + bins, n): adds up rows by node (shared between two), equal-mass and equal-width bin."""
    from scipy.sparse import csr_array

    rows = np.arange(len(p))
    at = p * (_NODES - 1)
    left = np.minimum(at.astype(np.int64), _NODES - 2)
    places = [left, left + 1, _NODES + bins_of(p, bins, "mass"), _NODES + bins + bins_of(p, bins, "width")]
    whole = np.ones(len(p))
    values = [1 - (at - left), at - left, whole, whole]
    shape = (_NODES + 2 * bins, len(p))
    return csr_array((np.concatenate(values), (np.concatenate(places), np.tile(rows, 4))), shape=shape)


def _errors(sums: np.ndarray, bins: int, images: np.ndarray) -> np.ndarray:
    """(r, 3): the equal-mass, equal-width and smooth error, of residuals and images (r, 1001) as `_sums` adds them."""
    sides = np.abs(sums[:, _NODES:]).reshape(len(sums), 2, bins).sum(axis=2) / images.sum(axis=1)[:, None]
    return np.column_stack([sides, _smooth(sums[:, :_NODES], images)])


def _smooth(residuals: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(r,): smECE of residuals and images by node, both (r, 1001); see `smooth_error`."""
    from scipy.fft import dct

    waves, loads = dct(residuals, type=1), dct(images, type=1)
    low, high = np.ones(len(waves), dtype=np.int64), np.full(len(waves), _WIDTHS)
    for _ in range(_WIDTHS.bit_length() - 1):
        middle = np.maximum((low + high) // 2, 2)
        wide = _smoothed(waves, loads, middle) <= middle / _WIDTHS
        low, high = np.where(wide, low, middle), np.where(wide, middle, high)
    return _smoothed(waves, loads, high)


def _smoothed(waves: np.ndarray, loads: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """(r,): the error at bandwidths `widths` / 1024, of residuals and images as cosines (r, 1001)."""
    from scipy.fft import idct

    smooth = idct(np.stack([waves, loads]) * _kernels()[widths], type=1)
    last, points = _NODES - 1, np.maximum(_MESH, np.round(10 * _WIDTHS / widths))
    at = np.linspace(0, last, _MESH)
    left = np.minimum(at.astype(np.int64), last - 1)
    coarse = np.abs(smooth[..., left] * (left + 1 - at) + smooth[..., left + 1] * (at - left)).sum(axis=2)
    # A finer mesh: as many steps as its points have between them, by the trapezoid rule, and half of each end.
    heights = np.abs(smooth)
    ends = (heights[..., 0] + heights[..., -1]) / 2
    fine = (heights.sum(axis=2) - ends) * (points - 1) / last + ends
    error, images = np.where(points == _MESH, coarse, fine)
    return np.asarray(error / images)


@lru_cache(maxsize=1)
def _kernels() -> np.ndarray:
    """(1025, 1001): for each bandwidth the cosine transform of the Gaussian that is cut at ±0.5; none for 0."""
    from scipy.fft import dct

    away = np.arange(_NODES) / (_NODES - 1)
    widths = np.arange(1, _WIDTHS + 1)[:, None] / _WIDTHS
    kernels = dct((away <= 0.5) * np.exp(-((away / widths) ** 2) / 2) / widths, type=1)
    return np.concatenate([np.zeros((1, _NODES)), kernels])


def _areas(p: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(r,): AUROC with each row counted as often as `counts` (n, r) says; NaN where one side is absent."""
    if not len(p):
        return np.full(counts.shape[1], np.nan)
    from scipy.sparse import csr_array

    levels, place = np.unique(p, return_inverse=True)
    at, shape = (place, np.arange(len(p))), (len(levels), len(p))
    positives, negatives = csr_array((y, at), shape=shape) @ counts, csr_array((1 - y, at), shape=shape) @ counts
    won = (positives * (np.cumsum(negatives, axis=0) - negatives / 2)).sum(axis=0)
    pairs = positives.sum(axis=0) * negatives.sum(axis=0)
    return share(won, pairs)


def bins_of(p: np.ndarray, bins: int, edges: Literal["mass", "width"]) -> np.ndarray:
    """(n,) int: the bin of each image, as `binned_error` parts them."""
    if edges == "width":
        return np.minimum((p * bins).astype(np.int64), bins - 1)
    return np.searchsorted(np.sort(p), p) * bins // max(len(p), 1)


def _log_losses(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    inner = np.clip(p, LOG_CLIP, 1 - LOG_CLIP)
    return np.asarray(-np.log(np.where(y > 0, inner, 1 - inner)))


def _checked(probabilities: np.ndarray, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape:
        raise ValueError(f"probabilities {p.shape} and outcomes {y.shape} must have one shape (images,)")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities must lie in [0, 1]; decide first what CENSORED and MISSING mean")
    if not ((y == 0) | (y == 1)).all():
        raise ValueError("outcomes must be true or false")
    return p, y
