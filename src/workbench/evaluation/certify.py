"""Certification: thresholds whose precision or recall holds in production with stated confidence.

All tests are exact-binomial, on integer counts. They assume that the certify images are independent draws of what
production sees, that nothing about the thresholds offered here was chosen with their labels, and that the scorer stays
as it is. The guarantee is P(a threshold is certified and its true rate is below the goal) <= 1 - confidence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from workbench.canonical import binary32
from workbench.evaluation.intervals import critical_successes, lower_bound, upper_tail
from workbench.records import Step

DEFAULT_GRID = tuple(binary32(percent / 100) for percent in range(99, 0, -1))
"""Fixed in advance: 0.99, 0.98, … 0.01."""

POWER = 0.8
_SAWTOOTH = 40
_MOST_TRIALS = 2**14
_MOST_FORECASTS = 8


@dataclass(frozen=True)
class Certificate:
    """A threshold that passed."""

    threshold: float
    """A binary32; the event is `score >= threshold`."""
    lower_bound: float
    """Clopper–Pearson, one-sided at the certificate's confidence, on the rate at `threshold`."""
    n: int
    """Images that were tested, one per group."""
    k: int
    """precision: images at or above the threshold; recall: images that show the category."""
    errors: int
    """precision: of those, images of something else; recall: of those, images below the threshold."""
    method: str
    grid: tuple[float, ...]
    """What was offered; recall: empty."""
    steps: tuple[Step, ...]
    """Every grid point that was tested, in order; recall: empty."""


@dataclass(frozen=True)
class Refusal:
    """No threshold passed."""

    reason: str
    needed: int | None
    """Further labelled images that give an 80 % chance if the rates seen here are the true ones (a perfect record
    counts as half an error); None if no number would. precision: drawn as these were; recall: of the category."""
    n: int
    k: int
    errors: int
    steps: tuple[Step, ...]


def certify_precision(
    scores: np.ndarray,
    truth: np.ndarray,
    at_least: float,
    confidence: float,
    grid: Sequence[float] | None = None,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Certificate | Refusal:
    """The lowest threshold of the grid down to which precision is proven to be `at_least`.

    `scores` (n,) float32, −inf where the tier cannot fire; `truth` (n,) bool: the image shows the category. `grid`
    strictly falling, chosen without these labels (default DEFAULT_GRID). `groups` (n,): one image of each counts.

    Fixed-sequence testing: H_j "precision at t_j is below the goal" has p-value P[Bin(k_j, goal) >= x_j]; the grid is
    walked downwards while it is at most 1 - confidence and the walk ends at the first failure. If some H_j is true, the
    first true one in the order is rejected with probability at most 1 - confidence, and nothing after it can be
    reached otherwise; so no correction for the length of the grid is due (Angelopoulos et al., "Learn then Test",
    arXiv 2110.01052; Bauer 1991). Raises ValueError for NaN, unequal lengths, or a grid that does not fall.
    """
    _check_arrays(scores, truth, at_least, confidence)
    scores, truth = _one_per_group(scores, truth, groups, seed)
    points = np.array(DEFAULT_GRID if grid is None else grid, dtype=np.float32)
    if len(points) == 0 or (np.diff(points) >= 0).any():
        raise ValueError("a grid must hold at least one threshold and fall strictly")
    steps = precision_steps(scores, truth, at_least, points)
    passed = np.array([step.p_value <= 1 - confidence for step in steps])
    walked = len(steps) if passed.all() else int(np.argmin(passed)) + 1
    offered = tuple(float(point) for point in points)
    if not passed[0]:
        return _refuse_precision(steps, len(scores), at_least, confidence)
    last = steps[(walked if passed.all() else walked - 1) - 1]
    bound = float(lower_bound(last.successes, last.events, 1 - confidence))
    errors = last.events - last.successes
    method = "exact-binomial fixed-sequence test"
    return Certificate(last.threshold, bound, len(scores), last.events, errors, method, offered, tuple(steps[:walked]))


def certify_recall(
    scores: np.ndarray,
    truth: np.ndarray,
    at_least: float,
    confidence: float,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Certificate | Refusal:
    """The highest threshold at which recall is proven to be `at_least`.

    `scores` (n,) float32, −inf for an image that the tier can never reach; `truth` (n,) bool. With the P scores of the
    images that show the category sorted upwards, the threshold is the j-th, j the largest number with
    P[Bin(P, 1 - goal) <= j - 1] <= 1 - confidence: a one-sided tolerance limit (Wilks 1941), exact and without a
    grid. Raises ValueError for NaN or unequal lengths.
    """
    _check_arrays(scores, truth, at_least, confidence)
    scores, truth = _one_per_group(scores, truth, groups, seed)
    positives = np.sort(scores[truth])
    count = len(positives)
    place = tolerance_rank(count, at_least, confidence)
    if place == 0 or np.isneginf(positives[place - 1]):
        return _refuse_recall(positives, len(scores), at_least, confidence)
    threshold = float(positives[place - 1])
    found = int((positives >= np.float32(threshold)).sum())
    bound = float(lower_bound(found, count, 1 - confidence))
    method = "one-sided tolerance limit (Wilks)"
    return Certificate(threshold, bound, len(scores), count, count - found, method, (), ())


def tolerance_rank(positives: int, at_least: float, confidence: float) -> int:
    """J of `certify_recall`: how many of the lowest scores may be used up; 0 if there are too few positives."""
    return positives + 1 - int(critical_successes(positives, at_least, 1 - confidence))


def precision_steps(scores: np.ndarray, truth: np.ndarray, at_least: float, grid: np.ndarray) -> list[Step]:
    """Counts and p-value of each grid point: p = P[Bin(events, goal) >= successes], 1 where there is no event."""
    events = _count_from(np.sort(scores), grid)
    successes = _count_from(np.sort(scores[truth]), grid)
    p_values = upper_tail(successes, events, at_least)
    return [
        Step(float(point), int(k), int(x), float(p))
        for point, k, x, p in zip(grid, events, successes, p_values, strict=True)
    ]


@lru_cache(maxsize=4096)
def events_needed(at_least: float, truly: float, confidence: float, power: float = POWER) -> int | None:
    """Trials from which on the exact binomial test passes with this power if the true rate is `truly`.

    Holds from there for 40 numbers on, because of the test's sawtooth. None if `truly` does not exceed the goal or
    more than 16,384 would be needed.
    """
    if truly <= at_least:
        return None
    fewest, most = 1, 256
    while most <= _MOST_TRIALS:
        trials = np.arange(fewest, most + _SAWTOOTH)
        holds = upper_tail(critical_successes(trials, at_least, 1 - confidence), trials, truly) >= power
        run = np.convolve(holds, np.ones(_SAWTOOTH, dtype=int), mode="valid") == _SAWTOOTH
        if run.any():
            return int(trials[np.argmax(run)])
        fewest, most = most + 1, most * 4
    return None


def least_events(at_least: float, confidence: float, errors: int = 0) -> int:
    """The fewest trials that pass with so many errors: least k with P[Bin(k, 1 - goal) <= errors] <= 1 - confidence."""
    fewest, most = errors + 1, 2 * (errors + 1)
    while upper_tail(most - errors, most, at_least) > 1 - confidence:
        fewest, most = most + 1, most * 2
    while fewest < most:
        middle = (fewest + most) // 2
        passes = upper_tail(middle - errors, middle, at_least) <= 1 - confidence
        fewest, most = (fewest, middle) if passes else (middle + 1, most)
    return most


def _count_from(ascending: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """How many scores are at or above each grid point."""
    return len(ascending) - np.searchsorted(ascending, grid, side="left")


def _check_arrays(scores: np.ndarray, truth: np.ndarray, at_least: float, confidence: float) -> None:
    if scores.shape != truth.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and truth {truth.shape} must be two vectors of one length")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN (MISSING): it has to be −inf, so that the tier does not fire")
    if not (0 < at_least < 1 and 0 < confidence < 1):
        raise ValueError(f"goal {at_least} and confidence {confidence} must lie between 0 and 1")


def _one_per_group(
    scores: np.ndarray, truth: np.ndarray, groups: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """One image of each group, chosen by a seeded hash of the group's name and not by its labels or the row order."""
    if groups is None:
        return scores, truth
    members: dict[str, list[int]] = {}
    for row in np.lexsort((truth, scores)):
        members.setdefault(str(groups[row]), []).append(int(row))
    kept = [rows[_draw(name, seed) % len(rows)] for name, rows in members.items()]
    return scores[kept], truth[kept]


def _draw(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")


def _refuse_precision(steps: list[Step], n: int, at_least: float, confidence: float) -> Refusal:
    first = steps[0]
    fewest = least_events(at_least, confidence)
    if first.events < fewest:
        reason = (
            f"only {first.events} images at or above {first.threshold:.4g}; "
            f"{fewest} are needed even if none of them is wrong"
        )
    else:
        wanted = int(critical_successes(first.events, at_least, 1 - confidence))
        reason = (
            f"{first.successes} of {first.events} images at or above {first.threshold:.4g} are right; "
            f"{wanted} would have to be"
        )
    needed = _further_images(steps, n, at_least, confidence)
    return Refusal(reason, needed, n, first.events, first.events - first.successes, (first,))


def _further_images(steps: list[Step], n: int, at_least: float, confidence: float) -> int | None:
    """Further images for the point at which the walk begins; if its rate is hopeless, for the best of the others."""
    spread = steps[:: -(-len(steps) // _MOST_FORECASTS)]
    totals = [_images_for(step, n, at_least, confidence) for step in spread]
    possible = [total for total in totals if total is not None]
    if not possible:
        return None
    return max(1, (totals[0] or min(possible)) - n)


def _images_for(step: Step, n: int, at_least: float, confidence: float) -> int | None:
    """Images, of which `n` gave the counts of this point, that give the test its chance there."""
    if step.events < least_events(at_least, 0.5):
        return None
    truly = min(step.successes / step.events, 1 - 1 / (2 * step.events + 2))
    needed = events_needed(at_least, truly, confidence)
    return None if needed is None else -(-needed * n // step.events)


def _refuse_recall(positives: np.ndarray, n: int, at_least: float, confidence: float) -> Refusal:
    count = len(positives)
    lost = int(np.isneginf(positives).sum())
    fewest = least_events(at_least, confidence)
    if count < fewest:
        reason = f"only {count} images of the category; {fewest} are needed even if every one is reached"
    else:
        allowed = tolerance_rank(count, at_least, confidence) - 1
        reason = f"{lost} of {count} images of the category are out of any threshold's reach; {allowed} may be"
    reachable = 1.0 if count == 0 else (count - lost) / count
    needed = events_needed(at_least, reachable, confidence)
    return Refusal(reason, None if needed is None else max(1, needed - count), n, count, lost, ())
