from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from workbench.evaluation.sample_size import least_events
from workbench.evaluation.uncovering import uncover


def world(seed: int, images: int, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores in steps of 10^-decimals, the more often right the higher they are."""
    random = np.random.default_rng(seed)
    scores = np.sort(np.round(random.random(images), decimals)).astype(np.float32)
    steep, level = random.uniform(0.1, 1), random.uniform(0, 0.3)
    return scores, random.random(images) < np.clip(scores**steep + level, 0, 1)


worlds = st.tuples(st.integers(0, 10_000), st.integers(30, 500), st.integers(1, 6))
goals = st.sampled_from([0.6, 0.8, 0.9])


@settings(max_examples=150)
@given(worlds, goals, st.integers(0, 10_000), st.integers(1, 6))
def test_what_is_covered_does_not_say_where_to_stop(
    drawn: tuple[int, int, int], at_least: float, other: int, decimals: int
) -> None:
    """Other scores and other labels above the stop, as many as there were, and uncovering stops at the same place."""
    scores, truth = world(*drawn)
    stop = uncover(scores, truth, at_least, 0.1)
    assume(stop is not None)
    assert stop is not None
    random, below = np.random.default_rng(other), len(scores) - stop.events
    lifted = stop.threshold + np.sort(np.round(random.random(stop.events), decimals))
    above = lifted.astype(np.float32), random.random(stop.events) < random.random()
    again = uncover(
        *(np.concatenate([one[:below], two]) for one, two in zip((scores, truth), above, strict=True)), at_least, 0.1
    )
    assert again is not None
    assert (stop.threshold, stop.events) == (again.threshold, again.events)
    assert int(above[1].sum()) == again.successes


@settings(max_examples=60)
@given(worlds, goals, st.sampled_from([0.05, 0.2]))
def test_the_stop_counts_what_lies_above_it(drawn: tuple[int, int, int], at_least: float, delta: float) -> None:
    scores, truth = world(*drawn)
    stop = uncover(scores, truth, at_least, delta)
    assume(stop is not None)
    assert stop is not None
    above = scores >= np.float32(stop.threshold)
    assert (int(above.sum()), int(truth[above].sum())) == (stop.events, stop.successes)
    assert least_events(at_least, 1 - delta) <= stop.events < len(scores)
    edge = scores[len(scores) - stop.events - 1]
    assert np.nextafter(edge, np.float32(2)) == np.float32(stop.threshold) == stop.threshold


def test_too_few_images_have_no_stop() -> None:
    fewest = least_events(0.9, 0.9)
    scores = np.linspace(0, 1, fewest - 1, dtype=np.float32)
    assert uncover(scores, np.ones(fewest - 1, dtype=bool), 0.9, 0.1) is None
    assert uncover(scores[:0], np.zeros(0, dtype=bool), 0.9, 0.1) is None


def test_one_score_for_all_is_never_parted() -> None:
    assert uncover(np.full(500, 0.5, dtype=np.float32), np.ones(500, dtype=bool), 0.9, 0.1) is None


def test_where_labels_are_right_uncovering_stops_soon_and_where_none_is_it_finds_no_stop_of_promise() -> None:
    scores = np.linspace(0, 1, 400, dtype=np.float32)
    right = uncover(scores, np.ones(400, dtype=bool), 0.9, 0.1)
    assert right is not None
    assert 250 < right.events == right.successes
    wrong = uncover(scores, np.zeros(400, dtype=bool), 0.9, 0.1)
    assert wrong is None or wrong.events < 60


def test_a_step_in_precision_is_found() -> None:
    random = np.random.default_rng(2)
    scores = np.sort(random.random(600)).astype(np.float32)
    truth = random.random(600) < np.where(scores > 0.5, 0.98, 0.3)
    stop = uncover(scores, truth, 0.9, 0.1)
    assert stop is not None
    assert 0.4 < stop.threshold < 0.9
    assert binom.sf(stop.successes - 1, stop.events, 0.9) <= 0.1


def oscillating(above: np.ndarray, goal: float) -> np.ndarray:
    """Precision at the score with the share `above` above it; of all these, goal + 0.02·sin(6 ln above) are right."""
    turn = 6 * np.log(above)
    return np.asarray(goal + 0.02 * np.sin(turn) + 0.12 * np.cos(turn))


@pytest.mark.parametrize("decimals", [2, 7])
def test_the_test_at_the_stop_errs_no_oftener_than_said_though_precision_oscillates(decimals: int) -> None:
    random, runs, delta, goal = np.random.default_rng(9), 600, 0.2, 0.8
    wrong = 0
    for _ in range(runs):
        above = np.sort(random.random(300))[::-1]
        truth = random.random(300) < oscillating(above, goal - 0.004)
        scores = (np.ceil((1 - above) * 10**decimals) / 10**decimals).astype(np.float32)
        stop = uncover(scores, truth, goal, delta)
        if stop is not None and binom.sf(stop.successes - 1, stop.events, goal) <= delta:
            # the step that the threshold lies in is above it as a whole
            edge = float(scores[300 - stop.events - 1])
            wrong += 0.02 * np.sin(6 * np.log(1 - edge)) - 0.004 < 0
    assert 0 < wrong
    assert binom.sf(wrong - 1, runs, delta) > 1e-3


def test_the_test_at_the_stop_is_exact_where_precision_is_just_below_the_goal_everywhere() -> None:
    random, runs, delta = np.random.default_rng(10), 400, 0.2
    wrong = 0
    for _ in range(runs):
        scores = np.sort(random.random(200)).astype(np.float32)
        stop = uncover(scores, random.random(200) < 0.7 - 1e-9, 0.7, delta)
        wrong += stop is not None and binom.sf(stop.successes - 1, stop.events, 0.7) <= delta
    assert 0 < wrong
    assert binom.sf(wrong - 1, runs, delta) > 1e-3
