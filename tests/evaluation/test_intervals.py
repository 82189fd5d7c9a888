from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom
from statsmodels.stats.proportion import proportion_confint

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


def test_wilson_s_interval_of_a_small_count_lies_within_the_exact_one() -> None:
    # No bound here is Wilson's; statsmodels gives the published figures, and the exact interval contains them.
    low, high = proportion_confint(3, 8, alpha=0.05, method="wilson")
    assert (0.1368, 0.6943) == (round(low, 4), round(high, 4))
    exact_low, exact_high = clopper_pearson(3, 8, 0.95)
    assert exact_low < low < high < exact_high


@given(counts, st.sampled_from([0.8, 0.9, 0.95]))
def test_two_sided_intervals_are_those_of_statsmodels(count: tuple[int, int], confidence: float) -> None:
    peer = proportion_confint(*count, alpha=1 - confidence, method="beta")
    assert tuple(map(float, peer)) == pytest.approx(clopper_pearson(*count, confidence))


@pytest.mark.parametrize(
    ("coverage", "train_risk", "bound"), [(0.7822, 0.0079, 0.0148), (0.8482, 0.0160, 0.0246), (0.9610, 0.0454, 0.0578)]
)
def test_the_exact_bounds_on_published_selective_risks(coverage: float, train_risk: float, bound: float) -> None:
    # arXiv 1705.08500, table 1, CIFAR-10: of 5,000 images a share is answered; delta .001 over 13 thresholds. The
    # bounds printed there (.0099, .0199, .0491) do not follow from these counts.
    answered = round(5000 * coverage)
    assert bound == round(upper_bound(round(answered * train_risk), answered, 0.001 / 13), 4)


def test_the_exact_bound_of_an_independent_implementation() -> None:
    assert 0.01986 == round(upper_bound(51, 4205, 0.001 / 13), 5)


def test_a_rate_does_not_give_its_count_back() -> None:
    # Why bounds take counts: 14 errors of 3,522 become 13, and the bound that follows is too good.
    assert 13 == int(3522 * (14 / 3522))
    assert upper_bound(13, 3522, 0.001 / 13) < upper_bound(14, 3522, 0.001 / 13)
    with pytest.raises(ValueError, match="counts must be whole numbers, not float64"):
        upper_bound(3522 * (14 / 3522), 3522, 0.001 / 13)


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


@pytest.mark.parametrize(
    ("rate", "delta", "trials"),
    [
        (0.80, 0.05, {0: 14, 1: 22, 2: 30, 3: 37, 4: 44, 5: 50, 10: 82}),
        (0.90, 0.10, {0: 22, 1: 38, 2: 52, 3: 65, 4: 78, 5: 91, 10: 152}),
        (0.90, 0.05, {0: 29, 1: 46, 2: 61, 3: 76, 4: 89, 5: 103, 10: 167}),
        (0.95, 0.10, {0: 45, 1: 77, 2: 105, 3: 132, 4: 158, 5: 184, 10: 306}),
        (0.95, 0.05, {0: 59, 1: 93, 2: 124, 3: 153, 4: 181, 5: 208, 10: 336}),
        (0.95, 0.005, {0: 104, 1: 146, 2: 182, 3: 216}),
        (0.98, 0.05, {0: 149, 1: 236, 2: 313, 3: 386, 4: 456, 5: 523, 10: 845}),
        (0.99, 0.05, {0: 299, 1: 473, 2: 628, 3: 773, 4: 913, 5: 1049, 10: 1693}),
        (0.99, 0.01, {0: 459, 1: 662, 2: 838, 3: 1001, 4: 1157, 5: 1307, 10: 2010}),
    ],
)
def test_so_many_errors_are_allowed_from_so_many_trials_on(rate: float, delta: float, trials: dict[int, int]) -> None:
    # Published for .95 / .05 (Wilks); the others follow from the same tail.
    for errors, fewest in trials.items():
        assert fewest - errors == critical_successes(fewest, rate, delta)
        assert fewest - 1 - errors < critical_successes(fewest - 1, rate, delta)
        assert lower_bound(fewest - 1 - errors, fewest - 1, delta) < rate <= lower_bound(fewest - errors, fewest, delta)
