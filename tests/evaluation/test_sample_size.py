from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from workbench.evaluation.sample_size import events_needed, least_events, negatives_needed, trials_needed

rates = st.floats(0.05, 0.99)


def test_a_goal_close_to_one_is_answered_at_once() -> None:
    assert 299_573_226 == pytest.approx(least_events(1 - 1e-8, 0.95), rel=1e-4)


@pytest.mark.parametrize(
    ("at_least", "delta", "counts"),
    [
        (0.80, 0.05, [14, 22, 30, 37, 44, 50, 82]),
        (0.90, 0.10, [22, 38, 52, 65, 78, 91, 152]),
        (0.90, 0.05, [29, 46, 61, 76, 89, 103, 167]),
        (0.95, 0.10, [45, 77, 105, 132, 158, 184, 306]),
        (0.95, 0.05, [59, 93, 124, 153, 181, 208, 336]),
        (0.95, 0.005, [104, 146, 182, 216]),
        (0.98, 0.05, [149, 236, 313, 386, 456, 523, 845]),
        (0.99, 0.05, [299, 473, 628, 773, 913, 1049, 1693]),
        (0.99, 0.01, [459, 662, 838, 1001, 1157, 1307, 2010]),
    ],
)
def test_how_many_images_pass_with_so_many_errors(at_least: float, delta: float, counts: list[int]) -> None:
    assert counts == [least_events(at_least, 1 - delta, errors) for errors in (0, 1, 2, 3, 4, 5, 10)[: len(counts)]]


@pytest.mark.parametrize(
    ("at_least", "truly", "trials"),
    [
        (0.8, 0.85, 398),
        (0.8, 0.9, 94),
        (0.9, 0.92, 1365),
        (0.9, 0.93, 593),
        (0.9, 0.95, 203),
        (0.9, 0.98, 61),
        (0.95, 0.96, 2869),
        (0.95, 0.97, 694),
        (0.95, 0.98, 286),
        (0.95, 0.99, 124),
        (0.99, 0.995, 1941),
        (0.99, 0.999, 473),
    ],
)
def test_how_many_images_give_an_eighty_per_cent_chance(at_least: float, truly: float, trials: int) -> None:
    assert trials == events_needed(at_least, truly, 0.95)


def test_no_number_of_images_certifies_what_is_not_so() -> None:
    assert events_needed(0.9, 0.9, 0.95) is None
    assert events_needed(0.9, 0.89, 0.95) is None


def test_what_would_need_too_many_images_is_none() -> None:
    assert events_needed(0.9, 0.9001, 0.95) is None


@settings(max_examples=40)
@given(rates, st.floats(0.01, 0.99), st.integers(0, 30))
def test_the_fewest_trials_pass_and_one_fewer_does_not(at_least: float, confidence: float, errors: int) -> None:
    found = least_events(at_least, confidence, errors)
    assert binom.cdf(errors, found, 1 - at_least) <= (1 - confidence) * (1 + 1e-9)
    if found > errors + 1:
        assert binom.cdf(errors, found - 1, 1 - at_least) > (1 - confidence) * (1 - 1e-9)


@settings(max_examples=20)
@given(st.sampled_from([0.5, 0.8, 0.9]), st.sampled_from([0.02, 0.05, 0.09]), st.sampled_from([0.5, 0.8, 0.95]))
def test_the_power_holds_from_the_number_on(at_least: float, above: float, power: float) -> None:
    truly, found = at_least + above, events_needed(at_least, at_least + above, 0.9, power)
    assert found is not None

    def chance(trials: int) -> float:
        return float(binom.sf(binom.isf(0.1, trials, at_least), trials, truly))

    assert min(map(chance, range(found, found + 40))) >= power - 1e-12
    assert found == 1 or chance(found - 1) < power


@pytest.mark.parametrize(
    ("at_least", "share", "images"),
    [(0.9, 0.1, 269), (0.9, 0.01, 2_965), (0.95, 0.01, 6_260), (0.95, 0.001, 63_179)],
)
def test_how_many_images_without_a_false_positive_prove_precision(at_least: float, share: float, images: int) -> None:
    """Recall .9, error probability .05."""
    assert images == negatives_needed(at_least, share, 0.9, 0.05)
    highest = 0.9 * share * (1 - at_least) / (at_least * (1 - share))
    assert (1 - highest) ** images <= 0.05 < (1 - highest) ** (images - 1)


def test_one_image_is_enough_where_the_goal_allows_every_mistake() -> None:
    assert 1 == negatives_needed(0.5, 0.6, 1.0, 0.05)


@pytest.mark.parametrize(
    ("at_least", "share", "recall", "delta"),
    [
        (0, 0.1, 0.9, 0.1),
        (1, 0.1, 0.9, 0.1),
        (0.9, 0, 0.9, 0.1),
        (0.9, 1, 0.9, 0.1),
        (0.9, 0.1, 0, 0.1),
        (0.9, 0.1, 1.1, 0.1),
        (0.9, 0.1, 0.9, 0),
        (0.9, 0.1, 0.9, 1),
    ],
)
def test_numbers_that_are_no_shares_are_refused(at_least: float, share: float, recall: float, delta: float) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        negatives_needed(at_least, share, recall, delta)


@pytest.mark.parametrize(("at_most", "truly"), [(0.01, 0.002), (0.001, 0.0005), (0.0001, 0.0)])
def test_so_many_trials_prove_that_an_event_is_rare(at_most: float, truly: float) -> None:
    trials = trials_needed(at_most, truly, 0.95)
    assert trials is not None
    allowed = int(binom.ppf(0.05, trials, at_most))
    allowed -= binom.cdf(allowed, trials, at_most) > 0.05
    assert binom.cdf(allowed, trials, at_most) <= 0.05
    assert binom.cdf(allowed, trials, truly) >= 0.8


def test_no_number_proves_rare_what_is_not() -> None:
    assert trials_needed(0.01, 0.01, 0.95) is None
    assert trials_needed(0.01, 0.00999, 0.95) is None
