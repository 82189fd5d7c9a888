"""Where to test once, learned from the labels below: a part of `certify_precision` without a grid.

Labels are uncovered from the lowest score upwards, images of one score together. At every moment the images that are
still covered are independent draws of "scores above the last uncovered one", however the labels below turned out. So
the number of right ones among them is binomial with the true precision above that score, and *where to stop may depend
on everything below*. At the stop one exact binomial test is made.

Proof. Let F_i be what is known once all images with score at or below the i-th distinct score s_i are uncovered: their
scores and labels, and how many images are left. Given F_i the k_i images left are k_i independent draws with score
above s_i (the Markov property of order statistics). The stop J is decided by F_J alone. If the precision above s_J is
below the goal, P(p-value ≤ δ | F_J) ≤ δ, because the p-value is that of an exact binomial test; averaging over J keeps
this. No shape of the precision curve is assumed, and how well the stop was chosen only decides how often the test
succeeds.

The stop is chosen by a small model of the labels just below: log-odds of a label being right, linear in the logarithm
of the number of images above, fitted by its posterior mode. It predicts the test's chance here and further up;
uncovering stops where going on promises no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from workbench.evaluation.intervals import critical_successes, upper_tail
from workbench.evaluation.sample_size import least_events

_RATIO = 1.08
"""Between one possible stop and the next."""
_WINDOW = 3.0
"""The model is fitted to the images between here and this many times as many images from the top."""
_SLOPE, _SLOPE_WEIGHT, _LEVEL_WEIGHT = -0.8, 10.0, 0.05
"""Prior of the model, which a few dozen labels outweigh."""
_HIGHEST = 0.998
"""No more precision than this is predicted."""
_INDIFFERENT, _HOPELESS = 0.01, 0.02
"""Chances: so much less is as good, since it keeps more images; below the other nothing is tested yet."""
_DEPTHS = (np.arange(8) + 0.5) / 8
_NODES, _NODE_WEIGHTS = np.array([[-1.7320508], [0.0], [1.7320508]]), np.array([1 / 6, 2 / 3, 1 / 6])
"""Gauss–Hermite, over the model's uncertainty about the log-odds here."""
_STEPS_AHEAD = 3
"""Of the stops further up, every third is looked at."""


@dataclass(frozen=True)
class Stop:
    """Where uncovering stopped."""

    threshold: float
    """Just above the last uncovered score: a binary32 for binary32 scores."""
    events: int
    """Images above it."""
    successes: int
    """Of those, right ones."""


def uncover(scores: np.ndarray, truth: np.ndarray, at_least: float, delta: float) -> Stop | None:
    """The stop for a test of "precision is at least `at_least`" at level `delta`; None if no test could pass.

    scores  (n,) float32, ascending, none −inf
    truth   (n,) bool
    """
    fewest = least_events(at_least, 1 - delta)
    count = len(scores)
    if count < fewest:
        return None
    planned, wanted = _plan(count, fewest, at_least, delta)
    places = _possible_stops(scores, planned, fewest)
    left = count - places
    right = np.add.reduceat(truth, places, dtype=np.int64)[:-1]
    together = places - np.searchsorted(scores, scores[np.maximum(places - 1, 0)], side="left")
    as_planned = np.array_equal(left, planned[: len(left)])
    own = wanted[: len(left)] if as_planned else critical_successes(left, at_least, delta)
    place = _choose(left, together, np.diff(places), right, planned, (wanted, own), at_least)
    if place is None:
        return None
    edge = scores[places[place] - 1]
    threshold = float(np.nextafter(edge, np.array(np.inf, dtype=edge.dtype)))
    return Stop(threshold, int(left[place]), int(np.count_nonzero(truth[places[place] :])))


@lru_cache(maxsize=256)
def _plan(count: int, fewest: int, at_least: float, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """How many images should be left at each stop, falling from `count` to `fewest`, and how many must be right."""
    steps = int(np.log(count / fewest) / np.log(_RATIO)) + 1
    planned = np.unique((count / _RATIO ** np.arange(steps)).astype(np.int64))[::-1]
    return planned, critical_successes(planned, at_least, delta)


def _possible_stops(scores: np.ndarray, planned: np.ndarray, fewest: int) -> np.ndarray:
    """How many images are uncovered at each stop, rising from 0: as planned, and what has the last one's score."""
    places = len(scores) - planned
    ends = np.searchsorted(scores, scores[np.maximum(places - 1, 0)], side="right")
    places = np.unique(np.where(places > 0, ends, 0))
    return places[len(scores) - places >= fewest]


def _choose(
    left: np.ndarray,
    together: np.ndarray,
    images: np.ndarray,
    right: np.ndarray,
    planned: np.ndarray,
    critical: tuple[np.ndarray, np.ndarray],
    at_least: float,
) -> int | None:
    """The place in `left` to stop at; None if uncovering goes on to the end.

    A decision at place i looks at `left` and `together` up to i, at `images` and `right` before i, and at what was
    planned: never at what is still covered, not even at which of its scores are equal. So where scores come in steps,
    a further step is taken to be as large as the last one was (`together`).
    """
    model = _fit(left, images, right)
    worth = _precision(model, np.zeros(len(left)))[-1] >= at_least
    last = left - together < planned[-1]
    for place in 1 + np.flatnonzero((last | worth)[1:]):
        if last[place]:
            return int(place)
        ahead = np.flatnonzero(planned <= left[place] - together[place])[::_STEPS_AHEAD]
        counts = np.append(left[place], planned[ahead])
        wanted = np.append(critical[1][place], critical[0][ahead])
        precision = np.minimum(_precision(model[:, [place]], np.log(counts / left[place])), _HIGHEST)
        chance = _NODE_WEIGHTS @ upper_tail(wanted, counts, precision)
        if chance[0] >= max(chance.max() - _INDIFFERENT, _HOPELESS):
            return int(place)
    return None


def _precision(model: np.ndarray, lead: np.ndarray) -> np.ndarray:
    """(3, m): the share of right ones that the model, cautious to bold, predicts among the images on top.

    `model` (3, m) or (3, 1) is that of `_fit`, `lead` (m,) ln(images on top / images above the model's place).
    """
    level, slope, spread = model
    odds = level + spread * _NODES + slope * lead
    return np.asarray(_logistic(odds[:, :, None] + slope[:, None] * np.log(_DEPTHS)).mean(axis=2))


def _fit(left: np.ndarray, images: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(3, m) at each place: log-odds, their slope in ln(images above), and the standard error of the former.

    Block b lies between places b and b + 1; place i is fitted to the blocks below it, as far as the window reaches, by
    Newton's method.
    """
    reach = int(np.log(_WINDOW) / np.log(_RATIO)) + 1
    blocks = np.arange(len(left))[:, None] - 1 - np.arange(reach)
    inside = np.maximum(blocks, 0)
    middle = (np.log(left[:-1]) + np.log(left[1:])) / 2 if len(images) else np.zeros(1)
    offset = middle[inside] - np.log(left)[:, None]
    below = (blocks >= 0) & (offset <= np.log(_WINDOW))
    counts = np.where(below, (images if len(images) else np.zeros(1))[inside], 0)
    hits = np.where(below, (right if len(right) else np.zeros(1))[inside], 0)
    slope = np.full(len(left), _SLOPE)
    some, all_ = hits.sum(axis=1) + 0.5, counts.sum(axis=1) + 1
    level = np.log(some / (all_ - some)) - slope * (counts * offset).sum(axis=1) / all_
    for _ in range(4):
        rate = _logistic(level[:, None] + slope[:, None] * offset)
        residual = hits - counts * rate
        weight = counts * rate * (1 - rate)
        tilted = weight * offset
        up = residual.sum(axis=1) - _LEVEL_WEIGHT * level
        tilt = (residual * offset).sum(axis=1) - _SLOPE_WEIGHT * (slope - _SLOPE)
        aa, ab = weight.sum(axis=1) + _LEVEL_WEIGHT, tilted.sum(axis=1)
        bb = (tilted * offset).sum(axis=1) + _SLOPE_WEIGHT
        scale = aa * bb - ab * ab
        level = level + np.clip((bb * up - ab * tilt) / scale, -2, 2)
        slope = slope + np.clip((aa * tilt - ab * up) / scale, -2, 2)
    return np.stack([level, np.minimum(slope, 0.0), np.sqrt(bb / scale)])


def _logistic(odds: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))))
