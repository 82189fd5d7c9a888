"""How many labelled images a test needs: before there are any, and after it refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from workbench.evaluation.intervals import critical_successes, upper_tail
from workbench.evaluation.prevalence import Counts, Mix, proves

POWER = 0.8
_SAWTOOTH = 40
_MOST_TRIALS = 2**14
_MOST_EVENTS = 512
_EACH_SIZE, _GROWTH = 200, 1.03
"""Every number of images up to the first has its own point on a curve; from there on each is so many times the last."""
_MIX_GROWTH, _MIX_IMAGES, _DRAWS = 1.12, 2**4, 1000
_TAIL = 7.0
_LIKELY_WRONG = 0.05


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


@lru_cache(maxsize=4096)
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


@lru_cache(maxsize=4096)
def trials_needed(at_most: float, truly: float, confidence: float, power: float = POWER) -> int | None:
    """Trials that prove a rare event's rate to be at most `at_most` with this power if it is `truly`.

    Found by halving among the fewest trials that pass with 0, 1, 2, … events, where the test is at its best; for rates
    far below those of `events_needed`. None if `truly` is not below the goal, or more than 512 events would have to be
    allowed.
    """
    if truly >= at_most:
        return None
    fewest, most = 0, _MOST_EVENTS
    while fewest < most:
        events = (fewest + most) // 2
        trials = least_events(1 - at_most, confidence, events)
        enough = upper_tail(trials - events, trials, 1 - truly) >= power
        fewest, most = (fewest, events) if enough else (events + 1, most)
    return least_events(1 - at_most, confidence, fewest) if fewest < _MOST_EVENTS else None


def negatives_needed(at_least: float, share: float, recall: float, delta: float) -> int:
    """Production-like images of other kinds, none of them taken for the category, that prove its precision.

    share   of all arriving images that are of the category, in (0, 1)
    recall  of the category at the threshold, in (0, 1]
    delta   error probability of the bound on the false-positive rate

    The largest false-positive rate that the goal allows is recall·share·(1 − goal) / (goal·(1 − share)); so many
    images without an error bound the rate by that. Raises ValueError outside these ranges.
    """
    if not (0 < at_least < 1 and 0 < share < 1 and 0 < recall <= 1 and 0 < delta < 1):
        raise ValueError(f"goal {at_least}, share {share}, recall {recall} and delta {delta} must lie between 0 and 1")
    highest = recall * share * (1 - at_least) / (at_least * (1 - share))
    return 1 if highest >= 1 else math.ceil(math.log(delta) / math.log1p(-highest))


@dataclass(frozen=True, eq=False)
class PowerCurve:
    """The chance that a test passes, by how many further images are labelled at random."""

    images: np.ndarray
    """(m,) int, rising from 0: every number up to 200, then in steps of 3 % (at a prevalence: of 12 %)."""
    power: np.ndarray
    """(m,) float64, never falling: the chance from that number on."""

    def images_for(self, power: float) -> int | None:
        """The fewest images that give this power; None if the curve does not reach it."""
        place = int(np.searchsorted(self.power, power))
        return int(self.images[place]) if place < len(self.images) else None


def likely_rate(successes: int, trials: int) -> float:
    """The rate that plans reckon with: the one counted, a perfect record counting as half an error."""
    return min(successes / trials, 1 - 1 / (2 * trials + 2)) if trials else math.nan


def is_out_of_reach(successes: int, trials: int, at_least: float) -> bool:
    """So few successes would be rare (5 %) if the rate were the goal: it is likely below it."""
    return bool(trials and 1 - upper_tail(successes + 1, trials, at_least) <= _LIKELY_WRONG)


def power_of_rate(
    successes: int, trials: int, at_least: float, truly: float, confidence: float, share: float
) -> PowerCurve | None:
    """The chance that the exact binomial test passes once further images are labelled.

    successes, trials  what was counted and will be counted again; 0, 0 where only further images will count
    truly              the rate among further trials
    share              of the further images, those that are trials, in (0, 1]

    P[x + Bin(m, truly) >= critical(k + m)], averaged over m from Bin(images, share). The test's sawtooth is taken at
    its low points: the chance is at least this from that number of images on. None if `truly` does not exceed the goal
    or no image is a trial.
    """
    if not (truly > at_least and share > 0):
        return None
    from scipy.stats import binom

    further = np.arange(_MOST_TRIALS + 1)
    wanted = critical_successes(trials + further, at_least, 1 - confidence) - successes
    chance = _from_there_on(upper_tail(wanted, further, truly))
    sizes = _sizes(int((_MOST_TRIALS - _TAIL * math.sqrt(_MOST_TRIALS)) / share), _GROWTH)
    powers = np.empty(len(sizes))
    for place, images in enumerate(sizes.tolist()):
        middle, spread = images * share, _TAIL * math.sqrt(images * share * (1 - share)) + _TAIL
        hits = np.arange(max(0, int(middle - spread)), min(images, int(middle + spread)) + 1)
        powers[place] = binom.pmf(hits, images, share) @ chance[hits]
    return PowerCurve(sizes, _from_there_on(np.clip(powers, 0.0, 1.0)))


def power_at_mix(
    counts: Counts, mix: Mix, shares: np.ndarray, at_least: float, confidence: float, rates: Counts, seed: int = 0
) -> PowerCurve | None:
    """The chance that precision at a prevalence is proven, once further images of production's mix are labelled.

    counts  at one threshold, those that will be counted again
    shares  (1 + m,) of the category and of each other kind among arriving images, as the best guess has them
    rates   at the same threshold, the counts whose rates further images have: a perfect record of the category counts
            as half an error, and where no image of another kind was taken for the category, all of them together do

    Simulated: 1,000 draws of what is counted, with a fixed seed; each kind comes as often as its share says. None if
    the category has no share, or none of its images reaches the threshold.
    """
    if not (mix.share and rates.positives and rates.true_positives[0]):
        return None
    rng = np.random.default_rng(seed)
    recall = likely_rate(int(rates.true_positives[0]), rates.positives)
    seen, false = rates.negatives, rates.false_positives[0]
    pooled = max(float(false.sum()), 0.5) / (float(seen.sum()) + 1)
    wrong = np.where((seen > 0) & false.any(), false / np.maximum(seen, 1), pooled)
    sizes = _sizes(_MOST_TRIALS * _MIX_IMAGES, _MIX_GROWTH)
    powers = np.empty(len(sizes))
    for place, images in enumerate(sizes.tolist()):
        own, *others = np.round(images * shares).astype(np.int64).tolist()
        grown = replace(
            counts,
            true_positives=counts.true_positives[0] + rng.binomial(own, recall, _DRAWS),
            positives=counts.positives + own,
            false_positives=counts.false_positives[0] + rng.binomial(others, wrong, (_DRAWS, len(others))),
            negatives=counts.negatives + np.array(others),
        )
        powers[place] = proves(grown, mix, at_least, 1 - confidence).mean()
    return PowerCurve(sizes, _from_there_on(powers))


def _from_there_on(powers: np.ndarray) -> np.ndarray:
    return np.minimum.accumulate(powers[::-1])[::-1]


def _sizes(most: int, growth: float) -> np.ndarray:
    """Whole numbers from 0 to `most`: each one up to 200, at a growth above 3 % each tenth one, then growing ones."""
    step = 1 if growth <= _GROWTH else 10
    sizes = list(range(0, min(most, _EACH_SIZE) + 1, step))
    while sizes[-1] < most:
        sizes.append(min(most, math.ceil(sizes[-1] * growth) if sizes[-1] >= step else step))
    return np.array(sizes)
