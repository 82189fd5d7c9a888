"""Labelled images as production sees them: what each one stands for, and of which kind it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workbench.evaluation.labelled import Labelled
from workbench.evaluation.prevalence import (
    Counts,
    Mix,
    highest_precision,
    highest_shares_from_sample,
    precision_bound,
    shares_from_sample,
)
from workbench.records import Draft, Prevalence, Promise, Taxonomy


def kinds_of(taxonomy: Taxonomy, column: int) -> tuple[str, ...]:
    """The category, then every other kind of image; in multi-label mode all others are one kind, "other images"."""
    category = taxonomy.categories[column]
    if taxonomy.mode == "multi-label":
        return (category, "other images")
    others = (name for name in (*taxonomy.categories, taxonomy.unknown) if name != category)
    return (category, *others)


def category_mix(labelled: Labelled, prevalence: Prevalence, column: int, delta: float) -> Mix:
    """The mix of production for one category, on these rows, for a promise with error probability `delta`.

    Shares from a sample are Clopper–Pearson bounds, which take a third of `delta` together.
    """
    return _mix(labelled.taxonomy, prevalence, column, delta, kinds_shown(labelled, column))


def promise_counts(draft: Draft, promise: Promise) -> tuple[Counts, Mix]:
    """What a promise at a prevalence was tested on, at each step of its walk, and the mix, from the evidence alone."""
    assert draft.prevalence is not None  # noqa: S101 -- the caller has looked at promise.method
    column = draft.taxonomy.categories.index(promise.category)
    positives, *negatives = promise.kinds.values()
    successes = np.array([step.successes for step in promise.walk], dtype=np.int64)
    false = np.array([step.false_by_kind for step in promise.walk], dtype=np.int64)
    counts = Counts(successes, positives, false.reshape(len(successes), len(negatives)), np.array(negatives))
    delta = 1 - (promise.confidence or 0)
    return counts, _mix(draft.taxonomy, draft.prevalence, column, delta, np.zeros(0, dtype=np.int64))


def bounds_by_share(
    draft: Draft, promise: Promise, factors: Sequence[float] = (1 / 3, 1, 3)
) -> tuple[float | None, ...]:
    """Lower bounds on precision if the category's share were so many times what the prevalence says.

    The other shares are scaled alike, so that all still sum to one. At the certified threshold, for a refused promise
    at the first tested one, and at the promise's own error probability, which holds for one of the bounds, not for all
    at once. None where the share would reach 1, and where the walk never stood at that threshold (nothing was tested,
    or a higher action lowered it).
    """
    place = next(
        (row for row, step in enumerate(promise.walk) if promise.certified in (None, step.threshold)),
        None,
    )
    if promise.method != "prevalence" or place is None or draft.prevalence is None or promise.confidence is None:
        return (None,) * len(factors)
    counts, mix = promise_counts(draft, promise)
    here, share = counts.at(slice(place, place + 1)), draft.prevalence.shares[promise.category]
    bounds = list[float | None]()
    for factor in factors:
        if factor * share >= 1 or share >= 1:
            bounds.append(None)
            continue
        rest = (1 - factor * share) / (1 - share)
        scaled = replace(mix, share=factor * mix.share, others=rest * mix.others)
        bounds.append(float(precision_bound(here, scaled, 1 - promise.confidence)[0]))
    return tuple(bounds)


def _mix(
    taxonomy: Taxonomy, prevalence: Prevalence, column: int, delta: float, kinds: np.ndarray, *, highest: bool = False
) -> Mix:
    """`highest`: shares that were estimated are bounded from the other side, where precision is highest."""
    names, shares = kinds_of(taxonomy, column), _shares(taxonomy, prevalence, column)
    if prevalence.sample and taxonomy.mode == "single-label":
        find = highest_shares_from_sample if highest else shares_from_sample
        share, others = find([prevalence.sample.get(name, 0) for name in names], 0, delta / 3)
        return Mix(share, others, kinds, delta / 3)
    return Mix(float(shares[0]), shares[1:], kinds)


def _shares(taxonomy: Taxonomy, prevalence: Prevalence, column: int) -> np.ndarray:
    """Of each of `kinds_of`."""
    names = kinds_of(taxonomy, column)
    shares = np.array([prevalence.shares.get(name, 0.0) for name in names])
    if taxonomy.mode == "multi-label":
        shares[1] = 1 - shares[0]
    return shares


def precision_interval(
    taxonomy: Taxonomy, prevalence: Prevalence, column: int, counts: Counts, confidence: float
) -> tuple[float, float, float]:
    """(estimate, low, high) of a category's precision in production from counts at one threshold.

    counts  of each kind in the order of `kinds_of`, at one threshold

    Each end is the bound that a promise has, at half of the error probability; the upper end bounds each rate, and each
    share that was estimated, from its other side. A kind that has a share and no labelled images counts as never
    mistaken in the estimate (as in drafting) and as anything in the interval. NaN where nothing of a share fires.
    """
    delta, none = (1 - confidence) / 2, np.zeros(0, dtype=np.int64)
    low = float(precision_bound(counts, _mix(taxonomy, prevalence, column, delta, none), delta)[0])
    high = float(highest_precision(counts, _mix(taxonomy, prevalence, column, delta, none, highest=True), delta)[0])
    shares = _shares(taxonomy, prevalence, column)
    true = shares[0] * counts.true_positives[0] / max(counts.positives, 1)
    false = float((shares[1:] * counts.false_positives[0] / np.maximum(counts.negatives, 1)).sum())
    return (float(true / (true + false)) if true + false > 0 else math.nan), low, high


def image_weights(labelled: Labelled, prevalence: Prevalence | None, column: int) -> np.ndarray | None:
    """(n,) float64: how many images of production each row stands for, relative to the others; None if all are alike.

    At a prevalence an image stands for its kind's share divided by the number of its kind here; otherwise for what the
    data set says.
    """
    if prevalence is None:
        return labelled.weights
    place = np.where(labelled.truth[:, column], 0, 1 + kinds_shown(labelled, column))
    shares = _shares(labelled.taxonomy, prevalence, column)
    weights = (shares / np.maximum(np.bincount(place, minlength=len(shares)), 1))[place]
    return weights if len(weights) and (weights != weights[0]).any() else None


def kinds_shown(labelled: Labelled, column: int) -> np.ndarray:
    """(n,) int: the position of each row's kind among the others of `kinds_of`; 0 for the category's own."""
    if labelled.taxonomy.mode == "multi-label":
        return np.zeros(len(labelled), dtype=np.int64)
    shown = np.where(labelled.unknown, labelled.truth.shape[1], labelled.truth.argmax(axis=1))
    return np.where(shown == column, 0, shown - (shown > column))
