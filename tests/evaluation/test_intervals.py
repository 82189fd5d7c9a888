from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from workbench.evaluation.intervals import clopper_pearson, critical_successes, lower_bound, upper_bound, upper_tail

counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
deltas = st.sampled_from([0.5, 0.1, 0.05, 0.025, 0.005, 0.0031, 1e-6])


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 5.
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
        (10, 10, 0.6915, 1.0),
    ],
)
def test_two_sided_intervals_are_the_published_ones(successes: int, trials: int, low: float, high: float) -> None:
    assert (low, high) == tuple(round(bound, 4) for bound in clopper_pearson(successes, trials, 0.95))


@pytest.mark.parametrize(
    ("successes", "trials", "bound", "digits"),
    [(59, 59, 0.95049, 5), (92, 93, 0.950006, 6), (95, 100, 0.8977, 4), (190, 200, 0.9167, 4)],
)
def test_one_sided_lower_bounds_are_the_published_ones(successes: int, trials: int, bound: float, digits: int) -> None:
    assert bound == round(lower_bound(successes, trials, 0.05), digits)


@given(counts, deltas)
def test_bounds_are_those_of_scipy_to_the_last_bit(count: tuple[int, int], delta: float) -> None:
    x, n = count
    assert (beta.ppf(delta, x, n - x + 1) if x else 0.0) == lower_bound(x, n, delta)
    assert (beta.ppf(1 - delta, x + 1, n - x) if x < n else 1.0) == upper_bound(x, n, delta)


@given(counts, deltas)
def test_at_its_bounds_a_count_has_probability_delta(count: tuple[int, int], delta: float) -> None:
    x, n = count
    if x:
        assert delta == pytest.approx(binom.sf(x - 1, n, lower_bound(x, n, delta)), rel=1e-6)
    if x < n:
        assert delta == pytest.approx(binom.cdf(x, n, upper_bound(x, n, delta)), rel=1e-6)


def test_without_trials_nothing_is_known() -> None:
    assert (0.0, 1.0) == clopper_pearson(0, 0, 0.95)


def test_no_success_and_no_failure_reach_the_ends_exactly() -> None:
    assert 0.0 == lower_bound(0, 7, 0.05)
    assert 1.0 == upper_bound(7, 7, 0.05)


def test_arrays_broadcast_and_numbers_give_a_number() -> None:
    together = lower_bound(np.array([0, 3, 5]), 5, np.array([[0.05], [0.1]]))
    assert (2, 3) == together.shape
    assert [lower_bound(x, 5, 0.1) for x in (0, 3, 5)] == together[1].tolist()
    assert isinstance(lower_bound(3, 5, 0.05), float)


@pytest.mark.parametrize(("successes", "trials"), [(6, 5), (-1, 5), (1, -1), (2.0, 5), (True, 5)])
def test_impossible_counts_are_refused(successes: float, trials: int) -> None:
    with pytest.raises(ValueError, match=r"counts must be whole|between 0 and trials"):
        lower_bound(successes, trials, 0.05)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, float("nan")])
def test_an_impossible_delta_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        upper_bound(1, 2, delta)


@given(st.integers(0, 4000), st.integers(-2, 4002), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.123456]))
def test_the_upper_tail_is_that_of_scipy(trials: int, successes: int, rate: float) -> None:
    assert binom.sf(successes - 1, trials, rate) == pytest.approx(float(upper_tail(successes, trials, rate)), rel=1e-12)


@given(st.integers(0, 3000), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]), st.sampled_from([0.1, 0.05, 0.005, 1e-6]))
def test_critical_successes_are_the_fewest_that_pass(trials: int, rate: float, delta: float) -> None:
    fewest = int(critical_successes(trials, rate, delta))
    assert upper_tail(fewest, trials, rate) <= delta
    assert fewest == 0 or upper_tail(fewest - 1, trials, rate) > delta
