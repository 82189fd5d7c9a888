"""Certification: thresholds whose precision or recall holds in production with stated confidence.

The guarantee is P(a threshold is certified and its true rate is below the goal) <= 1 - confidence. It assumes that the
certify images are independent draws of what production sees (or of each kind of image, where a prevalence is given; or
draws with known weights), that nothing about the thresholds offered here was chosen with their labels, and that the
scorer stays as it is. Plain counts are tested by exact binomial tests; `prevalence` and `betting` hold the other two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from workbench.canonical import binary32
from workbench.evaluation.betting import betting_p_value
from workbench.evaluation.intervals import critical_successes, lower_bound, upper_tail
from workbench.evaluation.prevalence import (
    Counts,
    Mix,
    count_from,
    count_kinds,
    mix_of,
    precision_bound,
    precision_p_values,
    proves,
)
from workbench.evaluation.sample_size import events_needed, least_events, negatives_needed, trials_needed
from workbench.evaluation.uncovering import uncover
from workbench.records import Step

DEFAULT_GRID = tuple(binary32(percent / 100) for percent in range(99, 0, -1))
"""Fixed in advance: 0.99, 0.98, … 0.01."""

FIRST_SHARE, FURTHER_SHARE, UNCOVERING_SHARE = 0.25, 0.35, 0.40
"""Without a grid: how the error probability is divided between the first point of DEFAULT_GRID, every tenth point
after it (in equal parts), and the test where uncovering stops."""

EXACT = "exact-binomial fixed-sequence test"
FALLBACK = "exact-binomial fallback test"
UNCOVERED = "exact binomial test where uncovering from below stopped"
PREVALENCE = "fixed-sequence test of precision at a prevalence"
WEIGHTED = "fixed-sequence test by betting on weighted images"
TOLERANCE = "one-sided tolerance limit (Wilks)"

_MOST_FORECASTS = 8
_STARTS_EVERY = 10


@dataclass(frozen=True)
class Certificate:
    """A threshold that passed."""

    threshold: float
    """A binary32; the event is `score >= threshold`."""
    lower_bound: float
    """One-sided bound on the rate at `threshold`, at the error probability of the test that passed; Clopper–Pearson
    for plain counts. It tells how much room there is: what is proven is the goal. Where the walk ended depends on the
    counts, so a bound above the goal may fail a little more often than that."""
    n: int
    """Images that were tested, one per group."""
    k: int
    """precision: images at or above the threshold; recall: images that show the category."""
    errors: int
    """precision: of those, images of something else; recall: of those, images below the threshold."""
    method: str
    grid: tuple[float, ...]
    """What was offered; recall without weights: empty."""
    steps: tuple[Step, ...]
    """Every grid point that was tested, in order; recall without weights: empty."""


@dataclass(frozen=True)
class Refusal:
    """No threshold passed."""

    reason: str
    n: int
    k: int
    errors: int
    steps: tuple[Step, ...]
    """What was tested, the failure last."""
    drawn_from: str
    """Where further labelled images would have to come from."""
    _ask: Callable[[], int | None] = field(repr=False, compare=False)

    @cached_property
    def needed(self) -> int | None:
        """Further labelled images that give an 80 % chance if the rates seen here are the true ones.

        A perfect record counts as half an error. None if no number would do.
        """
        return self._ask()


def certify_precision(
    scores: np.ndarray,
    truth: np.ndarray,
    at_least: float,
    confidence: float,
    grid: Sequence[float] | None = None,
    groups: np.ndarray | None = None,
    prevalence: float | Mix | None = None,
    weights: np.ndarray | None = None,
    seed: int = 0,
) -> Certificate | Refusal:
    """A low threshold at which precision is proven to be `at_least`.

    scores      (n,) float32 (others are rounded to it), −inf where the tier cannot fire
    truth       (n,) bool: the image shows the category
    grid        strictly falling thresholds, chosen without these labels; None for the default below
    groups      (n,): one image of each counts; their names also order weighted images
    prevalence  share of the category in production (0, 1), or a `Mix` with the share of every other kind; None if the
                images are drawn as production sees them
    weights     (n,) > 0: how many images of production each one stands for, 1 / its inclusion probability

    **A grid** is walked downwards by fixed-sequence testing: H_j "precision at t_j is below the goal" has p-value
    P[Bin(k_j, goal) >= x_j]; the walk goes on while it is at most 1 - confidence and ends at the first failure. If some
    H_j is true, the first true one in the order is rejected with probability at most 1 - confidence, and nothing after
    it can be reached otherwise; so no correction for the length of the grid is due (Angelopoulos et al., "Learn then
    Test", arXiv 2110.01052; Bauer 1991).

    **Without a grid** the procedure, fixed in advance, divides the error probability among tries, and of what passes
    the lowest threshold counts. 40 % go to one test where `uncovering` says that the chance is best. The rest walks
    DEFAULT_GRID by the fallback procedure (Wiens 2003): its first point has 25 %, every tenth point after it an equal
    part of 35 %, all others nothing; each point is tested at its own part and, if the point before it passed, at what
    that one was tested with. So one failure does not end it all. Let t_1, t_2, … be the points whose precision is below
    the goal: while none of them has passed, what t_r is tested with comes from the points after t_{r−1}, since nothing
    is handed on by a point that failed; so the chance that one of them passes is at most the sum of all parts. The walk
    finds low thresholds for good scores, uncovering finds some threshold for difficult ones; together they certify
    more than either (`benchmarks/promises.py`).

    **With a prevalence** the same walk tests precision at that mix of images (see `prevalence`). **With weights** that
    differ, each step tests E[w·(goal − right)] > 0 among the images above it by betting, the largest weight there taken
    as the largest that the design gives; equal weights are no weights.

    Raises ValueError for NaN, unequal lengths, a grid that does not fall, and prevalence together with weights.
    """
    _check_arrays(scores, truth, at_least, confidence)
    weights = _uneven(weights, len(scores))
    mix = None if prevalence is None else mix_of(prevalence, truth)
    if mix is not None and weights is not None:
        raise ValueError("give weights, or a prevalence: weighted images have the mix of production already")
    rows = _one_per_group(scores, truth, groups, seed)
    names = None if groups is None else np.asarray(groups, dtype=object)[rows]
    scores, truth = scores[rows].astype(np.float32), truth[rows]
    points = _falling(grid)
    delta = 1 - confidence
    if mix is not None:
        kinds = mix.kinds[rows]
        return _certify_mixed(scores, truth, points, at_least, delta, Mix(mix.share, mix.others, kinds, mix.spent))
    if weights is not None:
        return _certify_weighted(scores, truth, weights[rows], points, at_least, delta, seed, names)
    if grid is not None:
        return _walk_plain(scores, truth, points, at_least, delta)
    return _certify_default(scores, truth, points, at_least, delta)


def certify_recall(
    scores: np.ndarray,
    truth: np.ndarray,
    at_least: float,
    confidence: float,
    grid: Sequence[float] | None = None,
    groups: np.ndarray | None = None,
    prevalence: float | Mix | None = None,
    weights: np.ndarray | None = None,
    seed: int = 0,
) -> Certificate | Refusal:
    """The highest threshold at which recall is proven to be `at_least`.

    `scores` (n,) float32, −inf for an image that the tier can never reach; `truth` (n,) bool. With the P scores of the
    images that show the category sorted upwards, the threshold is the j-th, j the largest number with
    P[Bin(P, 1 - goal) <= j - 1] <= 1 - confidence: a one-sided tolerance limit (Wilks 1941), exact and without a
    grid; one that is given is not used. Recall looks at one category alone, so a prevalence changes nothing: it is
    checked, and that is all. With uneven `weights` the grid (default DEFAULT_GRID) is walked from its low end upwards,
    each step tested by betting; recall only falls on the way, so the last success is the highest threshold.

    Raises ValueError for NaN, unequal lengths, and what `certify_precision` refuses.
    """
    _check_arrays(scores, truth, at_least, confidence)
    weights = _uneven(weights, len(scores))
    if prevalence is not None:
        mix_of(prevalence, truth)
    rows = _one_per_group(scores, truth, groups, seed)
    names = None if groups is None else np.asarray(groups, dtype=object)[rows]
    scores, truth = scores[rows].astype(np.float32), truth[rows]
    if weights is not None:
        return _certify_weighted_recall(
            scores, truth, weights[rows], _falling(grid), at_least, 1 - confidence, seed, names
        )
    positives = np.sort(scores[truth])
    count = len(positives)
    place = tolerance_rank(count, at_least, confidence)
    if place == 0 or np.isneginf(positives[place - 1]):
        return _refuse_recall(positives, len(scores), at_least, confidence)
    threshold = float(positives[place - 1])
    found = count - int(np.searchsorted(positives, positives[place - 1]))
    bound = float(lower_bound(found, count, 1 - confidence))
    return Certificate(threshold, bound, len(scores), count, count - found, TOLERANCE, (), ())


def certify_selective_error(
    accepted: np.ndarray,
    wrong: np.ndarray,
    at_most: float,
    confidence: float,
    grid: Sequence[float] | None = None,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Certificate | Refusal:
    """A low threshold on a confidence at which P(wrong | accepted) is proven to be at most `at_most`.

    `accepted` (n,) float32: the confidence with which each image's answer would be accepted; `wrong` (n,) bool. It is
    `certify_precision` of right answers; `lower_bound` and the steps speak of their share (Geifman and El-Yaniv 2017).
    """
    if np.asarray(wrong).dtype != bool:
        raise ValueError("wrong must be an array of bool")
    return certify_precision(accepted, ~np.asarray(wrong), 1 - at_most, confidence, grid, groups, seed=seed)


def weighted_rate_bound(
    events: np.ndarray, weights: np.ndarray, delta: float, seed: int = 0, names: np.ndarray | None = None
) -> float:
    """Upper bound on the weighted share of events among images with known weights; 1 if there are none.

    `events` (k,) bool, `weights` (k,) > 0, the largest of them taken as the largest that the design gives; `names` (k,)
    of the images, so that the order of the rows does not matter.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != events.shape or not (np.isfinite(weights) & (weights > 0)).all() or not 0 < delta < 1:
        raise ValueError(f"{len(events)} events need as many finite weights above 0, and delta {delta} in (0, 1)")
    if not len(events):
        return 1.0
    order = _draw_order(names, np.zeros(len(events)), weights, seed)
    return 1 - _weighted_bound(events[order], weights[order], delta)


def tolerance_rank(positives: int, at_least: float, confidence: float) -> int:
    """J of `certify_recall`: how many of the lowest scores may be used up; 0 if there are too few positives."""
    return positives + 1 - int(critical_successes(positives, at_least, 1 - confidence))


def precision_steps(scores: np.ndarray, truth: np.ndarray, at_least: float, grid: np.ndarray) -> list[Step]:
    """Counts and p-value of each grid point: p = P[Bin(events, goal) >= successes], 1 where there is no event."""
    events, successes = count_from(np.sort(scores), grid), count_from(np.sort(scores[truth]), grid)
    return _steps(grid, events, successes, upper_tail(successes, events, at_least))


def _steps(grid: np.ndarray, events: np.ndarray, successes: np.ndarray, p_values: np.ndarray) -> list[Step]:
    return list(map(Step, grid.tolist(), events.tolist(), successes.tolist(), p_values.tolist()))


def _certify_default(
    scores: np.ndarray, truth: np.ndarray, grid: np.ndarray, at_least: float, delta: float
) -> Certificate | Refusal:
    ascending, right = _sorted_together(scores, truth)
    parts = np.zeros(len(grid))
    starts = range(_STARTS_EVERY, len(grid), _STARTS_EVERY)
    parts[0], parts[starts] = delta * FIRST_SHARE, delta * FURTHER_SHARE / len(starts)
    walk = _walk_sorted(ascending, right, len(scores), grid, at_least, parts)
    level = delta * UNCOVERING_SHARE
    stop = uncover(ascending, right, at_least, level)
    found: Certificate | None = walk if isinstance(walk, Certificate) else None
    if stop is not None:
        p_value = float(upper_tail(stop.successes, stop.events, at_least))
        step = Step(stop.threshold, stop.events, stop.successes, p_value)
        if p_value <= level and (found is None or stop.threshold < found.threshold):
            bound = float(lower_bound(stop.successes, stop.events, level))
            errors = stop.events - stop.successes
            return Certificate(
                stop.threshold, bound, len(scores), stop.events, errors, UNCOVERED, (stop.threshold,), (step,)
            )
        if found is None:
            return _refuse_precision((*walk.steps, step), [*walk.steps, step], len(scores), at_least, 1 - level)
    return walk if found is None else found


def _walk_plain(
    scores: np.ndarray, truth: np.ndarray, grid: np.ndarray, at_least: float, delta: float
) -> Certificate | Refusal:
    parts = np.zeros(len(grid))
    parts[0] = delta
    return _walk_sorted(*_sorted_together(scores, truth), len(scores), grid, at_least, parts)


def _sorted_together(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k,) the scores that are not CENSORED, ascending, and bool: which images they belong to show the category.

    Bits of binary32 numbers that are not negative rise with the numbers, so score and label fit one integer and one
    sort does both; other numbers take the longer way.
    """
    low = scores.min(initial=np.inf)
    if np.isneginf(low):
        answered = scores > low
        scores, truth = scores[answered], truth[answered]
        low = scores.min(initial=np.inf)
    if scores.dtype != np.float32 or low < 0:
        order = np.argsort(scores, kind="stable")
        return scores[order], truth[order]
    keys = np.ascontiguousarray(scores).view(np.uint32) << np.uint32(1)
    keys |= truth
    keys.sort()
    return (keys >> np.uint32(1)).view(np.float32), (keys & np.uint32(1)).astype(bool)


def _walk_sorted(
    ascending: np.ndarray, right: np.ndarray, count: int, grid: np.ndarray, at_least: float, parts: np.ndarray
) -> Certificate | Refusal:
    """The fallback procedure on scores that are sorted upwards, and whether each is right; `count` images in all.

    `parts` (g,) is each grid point's own error probability, the first one's above 0; all on the first is fixed-sequence
    testing.
    """
    places = np.searchsorted(ascending, grid, side="left")
    events, successes = len(ascending) - places, _count_right(right, places)
    steps = _steps(grid, events, successes, upper_tail(successes, events, at_least))
    tested: list[Step] = []
    passed: list[tuple[Step, float]] = []
    level = 0.0
    for step, part in zip(steps, parts.tolist(), strict=True):
        level += part
        if level:
            tested.append(step)
        if level and step.p_value <= level:
            passed.append((step, level))
        else:
            level = 0.0
    if not passed:
        return _refuse_precision((steps[0],), steps, count, at_least, 1 - float(parts[0]))
    last, level = passed[-1]
    bound = float(lower_bound(last.successes, last.events, level))
    errors = last.events - last.successes
    method = EXACT if len(parts.nonzero()[0]) == 1 else FALLBACK
    return Certificate(last.threshold, bound, count, last.events, errors, method, _offered(grid), tuple(tested))


def _count_right(right: np.ndarray, places: np.ndarray) -> np.ndarray:
    """How many are true from each of the falling `places` on."""
    rising = places[::-1]
    between = np.add.reduceat(np.append(right, False), rising, dtype=np.int64)
    between[:-1][rising[:-1] == rising[1:]] = 0  # an empty stretch, for which reduceat gives its first value
    return np.cumsum(between[::-1])


def _offered(grid: np.ndarray) -> tuple[float, ...]:
    return tuple(grid.tolist())


def _certify_mixed(
    scores: np.ndarray, truth: np.ndarray, grid: np.ndarray, at_least: float, delta: float, mix: Mix
) -> Certificate | Refusal:
    counts = count_kinds(scores, truth, mix.kinds, len(mix.others), grid)
    passed = proves(counts, mix, at_least, delta)
    walked = len(grid) if passed.all() else int(np.argmin(passed)) + 1
    tested = counts.at(slice(walked))
    p_values = precision_p_values(tested, mix, at_least)
    steps = [
        Step(point, true + sum(false), true, p, tuple(false))
        for point, true, false, p in zip(
            grid.tolist(),
            tested.true_positives.tolist(),
            tested.false_positives.tolist(),
            p_values.tolist(),
            strict=False,
        )
    ]
    if not passed[0]:
        return _refuse_mixed(counts, mix, steps, len(scores), at_least, delta)
    place = walked - 1 if passed[walked - 1] else walked - 2
    last = steps[place]
    bound = float(precision_bound(counts.at(slice(place, place + 1)), mix, delta)[0])
    errors = last.events - last.successes
    return Certificate(
        last.threshold, bound, len(scores), last.events, errors, PREVALENCE, _offered(grid), tuple(steps)
    )


def _certify_weighted(
    scores: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray,
    grid: np.ndarray,
    at_least: float,
    delta: float,
    seed: int,
    names: np.ndarray | None,
) -> Certificate | Refusal:
    """Precision: the images at or above each point, of which those are wrong that show something else."""
    order = _draw_order(names, scores, weights, seed)
    scores, truth, weights = scores[order], truth[order], weights[order]

    def above(point: np.float32) -> tuple[np.ndarray, np.ndarray]:
        rows = scores >= point
        return ~truth[rows], weights[rows]

    found = _walk_weighted(grid, above, grid, len(scores), at_least, delta)
    if isinstance(found, Certificate):
        return found
    first, here = found[0], above(grid[0])
    bound = _weighted_bound(*here, delta) if len(here[0]) else 0.0
    reason = (
        f"by weight, precision at or above {first.threshold:.4g} may be as low as {bound:.3f} "
        f"({first.events - first.successes} of {first.events} images wrong)"
    )
    worth = float(here[1].sum() ** 2 / np.square(here[1]).sum() / len(here[0])) if len(here[0]) else 1.0
    return Refusal(
        reason,
        len(scores),
        first.events,
        first.events - first.successes,
        (first,),
        "images drawn with the same weights",
        lambda: _further_weighted(found, len(scores), at_least, 1 - delta, worth),
    )


def _further_weighted(steps: Sequence[Step], n: int, at_least: float, confidence: float, worth: float) -> int | None:
    """As `_further_images`, for images of which each tells as much as `worth` of one with equal weights (Kish 1965)."""
    plain = _further_images(steps, n, at_least, confidence)
    return None if plain is None else max(1, round((plain + n) / worth) - n)


def _certify_weighted_recall(
    scores: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray,
    grid: np.ndarray,
    at_least: float,
    delta: float,
    seed: int,
    names: np.ndarray | None,
) -> Certificate | Refusal:
    """Recall: all images of the category, of which those are wrong that lie below each point."""
    positives, own = scores[truth], weights[truth]
    order = _draw_order(None if names is None else names[truth], positives, own, seed)
    positives, own = positives[order], own[order]
    found = _walk_weighted(grid[::-1], lambda point: (positives < point, own), grid, len(scores), at_least, delta)
    if isinstance(found, Certificate):
        return found
    return _refuse_recall(np.sort(positives), len(scores), at_least, 1 - delta)


def _walk_weighted(
    points: np.ndarray,
    event: Callable[[np.float32], tuple[np.ndarray, np.ndarray]],
    grid: np.ndarray,
    count: int,
    at_least: float,
    delta: float,
) -> Certificate | list[Step]:
    """Fixed-sequence testing along `points` by betting; what was tested if the first point fails.

    `event` gives for a point which images are wrong, and their weights, in an order that was drawn.
    """
    steps: list[Step] = []
    for point in points:
        wrong, weights = event(point)
        p_value = betting_p_value(_weighted_losses(wrong, weights, 1 - at_least), 1 - at_least, delta)
        steps.append(Step(float(point), len(wrong), int((~wrong).sum()), min(1.0, p_value)))
        if p_value > delta:
            break
    passed = [step for step in steps if step.p_value <= delta]
    if not passed:
        return steps
    last = passed[-1]
    bound = max(at_least, _weighted_bound(*event(np.float32(last.threshold)), delta))
    errors = last.events - last.successes
    return Certificate(last.threshold, bound, count, last.events, errors, WEIGHTED, _offered(grid), tuple(steps))


def _weighted_losses(wrong: np.ndarray, weights: np.ndarray, at_most: float) -> np.ndarray:
    """(k,) in [0, 1]: their mean exceeds `at_most` where the weighted share of wrong ones does."""
    losses = at_most + (wrong - at_most) * weights / weights.max(initial=1e-300)
    return np.asarray(np.clip(losses, 0.0, 1.0))  # rounding leaves them by a last digit


def _weighted_bound(wrong: np.ndarray, weights: np.ndarray, delta: float) -> float:
    """Lower bound on the weighted share of right ones: the least share that betting excludes, found by halving."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        p_value = betting_p_value(_weighted_losses(wrong, weights, middle), middle, delta)
        low, high = (low, middle) if p_value <= delta else (middle, high)
    return 1 - high


def _draw_order(names: np.ndarray | None, scores: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    """A seeded order of the images that does not depend on their labels.

    By a hash of their names, so that the order of the rows does not matter; without names, images of one score and one
    weight are told apart by their rows.
    """
    if names is not None:
        return np.argsort([_draw(str(name), seed) for name in names], kind="stable")
    return np.lexsort((weights, scores))[np.random.default_rng(seed).permutation(len(scores))]


def _falling(grid: Sequence[float] | None) -> np.ndarray:
    points = np.array(DEFAULT_GRID if grid is None else grid, dtype=np.float32)
    if points.ndim != 1 or len(points) == 0 or not np.isfinite(points).all() or not (np.diff(points) < 0).all():
        raise ValueError("a grid must hold at least one threshold, finite ones, and fall strictly")
    return points


def _uneven(weights: np.ndarray | None, images: int) -> np.ndarray | None:
    """The weights, or None if they are all the same."""
    if weights is None:
        return None
    checked = np.asarray(weights, dtype=np.float64)
    if checked.shape != (images,) or not (np.isfinite(checked) & (checked > 0)).all():
        raise ValueError(f"weights must be {images} finite numbers above 0")
    return checked if len(checked) and (checked != checked[0]).any() else None


def _check_arrays(scores: np.ndarray, truth: np.ndarray, at_least: float, confidence: float) -> None:
    if not isinstance(scores, np.ndarray) or not isinstance(truth, np.ndarray) or scores.dtype.kind != "f":
        raise ValueError("scores must be an array of float32, truth an array of bool")
    if scores.shape != truth.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and truth {truth.shape} must be two vectors of one length")
    if truth.dtype != bool:
        raise ValueError(f"truth must be an array of bool, not of {truth.dtype}")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN (MISSING): it has to be −inf, so that the tier does not fire")
    if np.isposinf(scores).any():
        raise ValueError("a score is infinite")
    if not (0 < at_least < 1 and 0 < confidence < 1 and 1 - confidence < 1):
        raise ValueError(f"goal {at_least} and confidence {confidence} must lie between 0 and 1")


def _one_per_group(scores: np.ndarray, truth: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray | slice:
    """One image of each group, chosen by a seeded hash of the group's name and not by its labels or the row order."""
    if groups is None:
        return slice(None)
    if len(groups) != len(scores) or any(name is None or name != name for name in groups):  # noqa: PLR0124 -- NaN
        raise ValueError(f"groups must name a group for each of {len(scores)} images")
    members: dict[str, list[int]] = {}
    for row in np.lexsort((truth, scores)):
        members.setdefault(str(groups[row]), []).append(int(row))
    return np.array([rows[_draw(name, seed) % len(rows)] for name, rows in members.items()], dtype=np.int64)


def _draw(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")


def _refuse_precision(
    tested: tuple[Step, ...],
    steps: Sequence[Step],
    n: int,
    at_least: float,
    confidence: float,
    drawn_from: str = "images like these",
) -> Refusal:
    failed = tested[-1]
    fewest = least_events(at_least, confidence)
    seen = f"{failed.events} images at or above {failed.threshold:.4g}"
    if failed.events < fewest:
        reason = f"only {seen}; {fewest} are needed even if none of them is wrong"
    else:
        wanted = int(critical_successes(failed.events, at_least, 1 - confidence))
        reason = f"{failed.successes} of {seen} are right; {wanted} would have to be"
    errors = failed.events - failed.successes
    return Refusal(
        reason, n, failed.events, errors, tested, drawn_from, lambda: _further_images(steps, n, at_least, confidence)
    )


def _refuse_mixed(counts: Counts, mix: Mix, steps: list[Step], n: int, at_least: float, delta: float) -> Refusal:
    """Precision at a prevalence stands or falls with images of other kinds: their number is what is asked for."""
    first = steps[0]
    bound = float(precision_bound(counts.at(slice(1)), mix, delta)[0])
    empty = int(((counts.negatives == 0) & (mix.others > 0)).sum())
    if not mix.share:
        reason = "production may have no image of the category at all"
    elif not counts.true_positives[0]:
        reason = f"none of {counts.positives} images of the category scores {first.threshold:.4g} or more"
    elif empty:
        reason = f"{empty} kinds of other images have a share in production and no image here"
    else:
        false = first.events - first.successes
        reason = (
            f"at a share of {mix.share:.4g}, precision at {first.threshold:.4g} may be as low as {bound:.3f} "
            f"({false} false among {int(counts.negatives.sum())} other images)"
        )
    errors = first.events - first.successes
    drawn_from = "images of other kinds, in the mix that production sees"
    level = (delta - mix.spent) / 2
    return Refusal(
        reason,
        n,
        first.events,
        errors,
        (first,),
        drawn_from,
        lambda: None if empty else _further_negatives(counts, mix, at_least, level),
    )


def _further_negatives(counts: Counts, mix: Mix, at_least: float, level: float) -> int | None:
    """Further images of other kinds, drawn in production's mix, for an 80 % chance: at the first point, or the best.

    If their false-positive rates are those seen here and recall is proven as here. Where no image of another kind was
    taken for the category, so many that none of them may be.
    """
    here = int(counts.negatives.sum())
    spread = range(0, len(counts.true_positives), -(-len(counts.true_positives) // _MOST_FORECASTS))
    totals = [_negatives_for(counts.at(slice(place, place + 1)), mix, at_least, level) for place in spread]
    possible = [total for total in totals if total is not None]
    return max(1, (totals[0] or min(possible)) - here) if possible else None


def _negatives_for(counts: Counts, mix: Mix, at_least: float, level: float) -> int | None:
    recall = float(lower_bound(int(counts.true_positives[0]), counts.positives, level)) if counts.positives else 0.0
    if not recall or not mix.share:
        return None
    highest = mix.share * recall * (1 - at_least) / (at_least * (1 - mix.share))
    if highest >= 1 or not counts.false_positives[0].any():
        return negatives_needed(at_least, mix.share, recall, level)
    rates = counts.false_positives[0] / np.maximum(counts.negatives, 1)
    return trials_needed(highest, float((mix.others * rates).sum() / mix.others.sum()), 1 - level)


def _further_images(steps: Sequence[Step], n: int, at_least: float, confidence: float) -> int | None:
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

    def ask() -> int | None:
        needed = events_needed(at_least, reachable, confidence)
        return None if needed is None else max(1, needed - count)

    return Refusal(reason, n, count, lost, (), "images of the category", ask)
