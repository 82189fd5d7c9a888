"""How many labelled images a test needs: before there are any, and after it refused."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from workbench.evaluation.intervals import critical_successes, upper_tail

POWER = 0.8
_SAWTOOTH = 40
_MOST_TRIALS = 2**14
_MOST_EVENTS = 512


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
