"""Thresholds as tune offers them: counts at each, round ones, and the grid that certification will walk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.canonical import binary32
from workbench.evaluation.intervals import critical_successes, upper_tail
from workbench.evaluation.prevalence import Counts, Mix, count_kinds, precision_p_values
from workbench.evaluation.sample_size import least_events
from workbench.records import CENSORED

STEP = 1.08
"""From one grid point to the next the expected number of certify images grows by this factor."""
_SAME_CHANCE = 0.005


@dataclass(frozen=True, eq=False)
class FallingCounts:
    """What passes each distinct score, the highest first."""

    points: np.ndarray
    """(m,) float32, falling; CENSORED is none."""
    events: np.ndarray
    """(m,) int: images at or above."""
    successes: np.ndarray
    """(m,) int: of those, images that show the category."""
    precision: np.ndarray
    """(m,) float64: by weight, where images have weights."""
    effective: np.ndarray
    """(m,) float64: images of equal weight that would tell as much, (Σw)² / Σw² (Kish 1965)."""


def count_falling(reach: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> FallingCounts:
    """Counts at each distinct score of (n,) `reach` that is not CENSORED."""
    possible = np.flatnonzero(reach > CENSORED)
    points, place = np.unique(-reach[possible], return_inverse=True)
    shows = truth[possible]

    def total(values: np.ndarray | None) -> np.ndarray:
        return np.cumsum(np.bincount(place, weights=values, minlength=len(points)))

    events, successes = total(None), total(shows).astype(np.int64)
    if weights is None:
        return FallingCounts(-points, events, successes, successes / np.maximum(events, 1), events.astype(float))
    own = weights[possible]
    mass = np.maximum(total(own), 1e-300)
    return FallingCounts(
        -points, events, successes, total(own * shows) / mass, mass**2 / np.maximum(total(own**2), 1e-300)
    )


def precision_grid(
    reach: np.ndarray,
    truth: np.ndarray,
    asked: float,
    at_least: float,
    delta: float,
    growth: float,
    *,
    weights: np.ndarray | None = None,
    mix: Mix | None = None,
) -> tuple[float, ...]:
    """Falling thresholds that end at `asked`, chosen from tune scores (n,) and labels (n,) alone.

    A walk that fails at its first point certifies nothing, so it starts where tune, scaled by `growth` certify images
    per tune image, gives the test its best chance; among starts of nearly the same chance, at the lowest. From there
    each point expects STEP times as many images as the one before, until the asked threshold is reached. Any grid is
    valid that does not look at certify labels; this one only decides how often the test succeeds. `weights` and `mix`
    say what the test will take into account; see `certify.certify_precision`. No score on tune reaches `asked`: the
    grid is that one point.
    """
    counts = count_falling(np.where(reach >= np.float32(asked), reach, np.float32(CENSORED)), truth, weights)
    if not len(counts.points):
        return (asked,)
    if mix is None:
        chance = _chance(counts, at_least, delta, growth)
    else:
        chance = _chance_at(counts.points, reach, truth, mix, at_least, delta, growth)
    points, events = counts.points, counts.events
    place = int(np.flatnonzero(chance >= chance.max() - _SAME_CHANCE)[-1])
    grid: list[float] = []
    while place < len(points):
        below = float(points[place + 1]) if place + 1 < len(points) else asked
        point = max(roundest(below, float(points[place])), asked)
        if not grid or point < grid[-1]:
            grid.append(point)
        place = max(int(np.searchsorted(events, events[place] * STEP)), place + 1)
    return (*grid, asked) if grid[-1] > asked else tuple(grid)


def roundest(above: float, up_to: float) -> float:
    """The binary32 with the fewest decimals in (above, up_to]; `up_to` itself if nothing shorter lies there."""
    for digits in range(1, 9):
        scale = 10**digits
        candidate = binary32(np.floor(up_to * scale) / scale)
        if above < candidate <= up_to:
            return candidate
    return up_to


def roundest_each(above: np.ndarray, up_to: np.ndarray) -> np.ndarray:
    """`roundest` of each pair of (m,) arrays, as float32."""
    high = up_to.astype(np.float64)
    found, open_ = up_to.astype(np.float32), np.ones(len(up_to), dtype=bool)
    for digits in range(1, 9):
        candidate = (np.floor(high * 10**digits) / 10**digits).astype(np.float32)
        fits = open_ & (above < candidate) & (candidate <= high)
        found[fits] = candidate[fits]
        open_ &= ~fits
    return found


def _chance(counts: FallingCounts, at_least: float, delta: float, growth: float) -> np.ndarray:
    """(m,): the chance of the exact binomial test at each point."""
    expected = np.maximum(np.round(counts.effective * growth), 1)
    critical = critical_successes(expected, at_least, delta)
    right = counts.precision * counts.effective
    return upper_tail(critical, expected, (right + 0.5) / (counts.effective + 1))


def _chance_at(
    points: np.ndarray,
    reach: np.ndarray,
    truth: np.ndarray,
    mix: Mix,
    at_least: float,
    delta: float,
    growth: float,
) -> np.ndarray:
    """(m,): how far below `delta` the p-value lies, as a share of it, if certify counts are what tune lets expect.

    A start at which not even plain counts could pass is the last choice.
    """
    seen = count_kinds(reach, truth, mix.kinds, len(mix.others), points)

    def grown(values: np.ndarray) -> np.ndarray:
        return np.round(np.asarray(values) * growth).astype(np.int64)

    expected = Counts(
        grown(seen.true_positives),
        int(grown(np.array(seen.positives))),
        grown(seen.false_positives),
        grown(seen.negatives),
    )
    margin = 1 - precision_p_values(expected, mix, at_least) / delta
    few = expected.true_positives < least_events(at_least, 1 - delta)
    return np.where(few, margin.min() - 1, margin)
