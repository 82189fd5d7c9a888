from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from workbench.evaluation.betting import betting_p_value, betting_upper_bound, hoeffding_bentkus

losses = st.lists(st.floats(0, 1), max_size=60).map(np.array)
inner = st.floats(0.02, 0.98)


@pytest.mark.parametrize(
    ("mean", "trials", "at_most", "bentkus", "exact"),
    [
        (0.05, 100, 0.1, 0.15651, 0.05758),
        (0.05, 500, 0.1, 9.623e-5, 3.540e-5),
        (0.08, 1000, 0.1, 0.04787, 0.01761),
        (0.0, 50, 0.1, 0.0051538, 0.0051538),
    ],
)
def test_hoeffding_bentkus_numbers(mean: float, trials: int, at_most: float, bentkus: float, exact: float) -> None:
    assert bentkus == pytest.approx(float(hoeffding_bentkus(mean, trials, at_most)), rel=1e-4)
    assert exact == pytest.approx(binom.cdf(round(mean * trials), trials, at_most), rel=1e-3)


def test_betting_bounds_of_published_patterns() -> None:
    assert 0.11442 == pytest.approx(betting_upper_bound(np.tile([0.0] * 19 + [1.0], 10), 0.05), abs=5e-6)
    assert 0.07845 == pytest.approx(betting_upper_bound(np.tile([0, 0.1, 0, 0.2, 0], 40), 0.05), abs=5e-6)


def test_a_sum_that_rounding_moved_counts_as_the_whole_number() -> None:
    exact, above, below = hoeffding_bentkus([0.1, 0.1 + 1e-13, 0.1 - 1e-13], 30, 0.2)
    assert exact == pytest.approx(above) == pytest.approx(below)
    assert hoeffding_bentkus(0.11, 30, 0.2) > exact


def test_bounds_at_the_ends() -> None:
    assert [1.0, 0.0, 0.0] == hoeffding_bentkus([0.0, 1.0, 0.5], 20, [0.0, 1.0, 1.0]).tolist()
    assert 1.0 == hoeffding_bentkus(1.0, 20, 0.5)
    assert 1.0 == betting_upper_bound(np.zeros(0), 0.05) == betting_upper_bound(np.ones(50), 0.05)
    assert 1.0 == betting_p_value(np.zeros(0), 0.3, 0.05)


@given(st.integers(1, 400), inner, st.integers(0, 400))
def test_hoeffding_bentkus_is_above_the_exact_tail_and_rises_with_what_was_seen(
    trials: int, at_most: float, errors: int
) -> None:
    errors = min(errors, trials - 1)
    fewer, more = hoeffding_bentkus(np.array([errors, errors + 1]) / trials, trials, at_most)
    assert binom.cdf(errors, trials, at_most) * (1 - 1e-9) <= fewer <= more <= 1


@given(st.integers(1, 200), st.integers(0, 200), inner, inner)
def test_hoeffding_bentkus_falls_with_what_is_to_be_excluded(trials: int, errors: int, one: float, two: float) -> None:
    low, high = hoeffding_bentkus(min(errors, trials) / trials, trials, [min(one, two), max(one, two)])
    assert high <= low * (1 + 1e-9)


@given(losses, inner, st.sampled_from([0.05, 0.2]))
def test_the_betting_p_value_is_the_best_moment_of_the_game(drawn: np.ndarray, at_most: float, delta: float) -> None:
    """The recursion as published (arXiv 2101.02703), one loss at a time."""
    capital = best = 1.0
    total, squares, variance = 0.5, 0.25, 0.25
    for place, loss in enumerate(drawn, start=1):
        bet = min(1.0, np.sqrt(2 * np.log(1 / delta) / (len(drawn) * variance)))
        capital *= 1 - bet * (loss - at_most)
        best = max(best, capital)
        total += loss
        squares += (loss - total / (1 + place)) ** 2
        variance = squares / (1 + place)
    assert 1 / best == pytest.approx(betting_p_value(drawn, at_most, delta), rel=1e-6)


@settings(max_examples=40)
@given(losses, st.sampled_from([0.05, 0.2]))
def test_the_betting_bound_is_where_the_p_value_passes(drawn: np.ndarray, delta: float) -> None:
    bound = betting_upper_bound(
        drawn, delta
    )  # not always above the sample's mean: the best moment may come before its end
    if bound < 1:
        assert betting_p_value(drawn, bound + 1e-6, delta) <= delta * (1 + 1e-6)
        assert betting_p_value(drawn, bound - 1e-6, delta) >= delta * (1 - 1e-6)


def test_betting_errs_no_oftener_than_said() -> None:
    """Means of fractional losses that are exactly what is to be excluded."""
    random, runs, delta = np.random.default_rng(3), 3000, 0.1
    wrong = sum(
        betting_p_value(random.choice([0.0, 0.2, 1.0], 80, p=[0.75, 0.2, 0.05]), 0.09, delta) <= delta
        for _ in range(runs)
    )
    assert binom.sf(wrong - 1, runs, delta) > 1e-3
    assert 0 < wrong


def test_hoeffding_bentkus_errs_no_oftener_than_said_where_losses_are_unlike() -> None:
    random, runs, delta = np.random.default_rng(4), 20_000, 0.1
    sizes, rates, weights = np.array([60, 140]), np.array([0.3, 0.02]), np.array([1.0, 0.4])
    mean = float((sizes * rates * weights).sum() / sizes.sum())
    seen = (random.binomial(sizes, rates, (runs, 2)) * weights).sum(axis=1) / sizes.sum()
    wrong = int((hoeffding_bentkus(seen, sizes.sum(), mean) <= delta).sum())
    assert 0 < wrong < runs * delta
