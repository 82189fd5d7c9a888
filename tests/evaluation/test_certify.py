from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from workbench.evaluation.certify import (
    Certificate,
    Refusal,
    certify_precision,
    certify_recall,
    precision_steps,
    tolerance_rank,
)
from workbench.evaluation.sample_size import events_needed, least_events

GRID = (0.95, 0.9, 0.8, 0.6)


def block(score: float, right: int, wrong: int) -> tuple[list[float], list[bool]]:
    return [score] * (right + wrong), [True] * right + [False] * wrong


def example() -> tuple[np.ndarray, np.ndarray]:
    """30/30 right at .97, 29/30 at .90, 27/30 at .80, 18/30 at .60."""
    blocks = [block(0.97, 30, 0), block(0.90, 29, 1), block(0.80, 27, 3), block(0.60, 18, 12)]
    scores = np.array([score for part, _ in blocks for score in part], dtype=np.float32)
    return scores, np.array([right for _, part in blocks for right in part])


# Published numbers


def test_the_walk_stops_at_the_first_failure_and_keeps_the_last_success() -> None:
    found = certify_precision(*example(), 0.9, 0.9, grid=GRID)
    assert isinstance(found, Certificate)
    assert [0.04239, 0.01378, 0.04655, 0.91013] == [round(step.p_value, 5) for step in found.steps]
    assert (np.float32(0.8), 90, 4, 120) == (found.threshold, found.k, found.errors, found.n)
    assert 0.9131 == round(found.lower_bound, 4)


def test_the_bound_at_half_the_error_is_the_published_one() -> None:
    found = certify_precision(*example(), 0.9, 0.95, grid=GRID)
    assert isinstance(found, Certificate)
    assert 0.9012 == round(found.lower_bound, 4)


@pytest.mark.parametrize(
    ("at_least", "confidence", "first"),
    [(0.95, 0.95, [59, 93, 124, 153, 181, 208]), (0.9, 0.9, [22, 38, 52, 65]), (0.99, 0.95, [299, 473, 628])],
)
def test_the_tolerance_rank_is_that_of_wilks(at_least: float, confidence: float, first: list[int]) -> None:
    for rank, count in enumerate(first, start=1):
        assert rank == tolerance_rank(count, at_least, confidence)
        assert rank - 1 == tolerance_rank(count - 1, at_least, confidence)


def test_the_tolerance_rank_of_many_images() -> None:
    assert [9, 39] == [tolerance_rank(count, 0.95, 0.95) for count in (300, 1000)]


def test_a_goal_close_to_one_is_answered_at_once() -> None:
    assert 299_573_226 == pytest.approx(least_events(1 - 1e-8, 0.95), rel=1e-4)


@pytest.mark.parametrize(
    ("at_least", "delta", "counts"),
    [
        (0.80, 0.05, [14, 22, 30, 37, 44, 50]),
        (0.90, 0.10, [22, 38, 52, 65, 78, 91]),
        (0.90, 0.05, [29, 46, 61, 76, 89, 103]),
        (0.95, 0.10, [45, 77, 105, 132, 158, 184]),
        (0.95, 0.05, [59, 93, 124, 153, 181, 208]),
        (0.95, 0.005, [104, 146, 182, 216]),
        (0.98, 0.05, [149, 236, 313, 386, 456, 523]),
        (0.99, 0.05, [299, 473, 628, 773, 913, 1049]),
        (0.99, 0.01, [459, 662, 838, 1001, 1157, 1307]),
    ],
)
def test_how_many_images_pass_with_so_many_errors(at_least: float, delta: float, counts: list[int]) -> None:
    assert counts == [least_events(at_least, 1 - delta, errors) for errors in range(len(counts))]


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


@pytest.mark.parametrize(
    ("errors", "trials", "p_value"),
    [
        (1, 20, 0.39175),
        (2, 50, 0.11173),
        (3, 100, 0.007836),
        (13, 203, 0.049482),
        (0, 22, 0.098477),
        (1, 38, 0.095295),
    ],
)
def test_p_values_are_those_of_whole_counts(errors: int, trials: int, p_value: float) -> None:
    scores, truth = block(0.7, trials - errors, errors)
    steps = precision_steps(np.array(scores, dtype=np.float32), np.array(truth), 0.9, np.array([0.5], dtype=np.float32))
    assert pytest.approx(p_value, rel=1e-4) == steps[0].p_value


# Refusals


def test_too_few_images_are_said_to_be_so() -> None:
    scores, truth = block(0.97, 10, 0)
    found = certify_precision(np.array(scores, dtype=np.float32), np.array(truth), 0.9, 0.9, grid=[0.95])
    assert isinstance(found, Refusal)
    assert "only 10 images at or above 0.95; 22 are needed" in found.reason
    assert found.needed is not None
    assert 12 <= found.needed <= 200  # a perfect record counts as half an error


def test_a_precision_out_of_reach_needs_no_number_of_labels() -> None:
    scores, truth = block(0.97, 300, 300)
    found = certify_precision(np.array(scores, dtype=np.float32), np.array(truth), 0.9, 0.9, grid=[0.95])
    assert isinstance(found, Refusal)
    assert found.needed is None
    assert "300 of 600 images" in found.reason


def test_what_a_refusal_asks_for_gives_the_chance_it_names() -> None:
    scores, truth = block(0.97, 57, 3)
    found = certify_precision(np.array(scores, dtype=np.float32), np.array(truth), 0.9, 0.95, grid=[0.95])
    assert isinstance(found, Refusal)
    assert found.needed is not None
    trials = 60 + found.needed
    assert binom.sf(binom.isf(0.05, trials, 0.9), trials, 0.95) >= 0.8


def test_recall_is_refused_where_images_are_out_of_reach() -> None:
    scores = np.array([-np.inf] * 30 + [0.9] * 70, dtype=np.float32)
    found = certify_recall(scores, np.ones(100, dtype=bool), 0.9, 0.95)
    assert isinstance(found, Refusal)
    assert "30 of 100 images of the category are out of any threshold's reach" in found.reason
    assert found.needed is None


def test_recall_says_how_many_images_it_needs() -> None:
    found = certify_recall(np.full(58, 0.9, dtype=np.float32), np.ones(58, dtype=bool), 0.95, 0.95)
    assert isinstance(found, Refusal)
    assert 1 == found.needed
    assert isinstance(
        certify_recall(np.full(59, 0.9, dtype=np.float32), np.ones(59, dtype=bool), 0.95, 0.95), Certificate
    )


@pytest.mark.parametrize(
    ("scores", "truth", "grid", "fault"),
    [
        ([0.5, np.nan], [True, True], [0.5], "NaN"),
        ([0.5], [True, True], [0.5], "one length"),
        ([0.5], [True], [], "at least one"),
        ([0.5], [True], [0.5, 0.5], "fall strictly"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    scores: list[float], truth: list[bool], grid: list[float], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        certify_precision(np.array(scores, dtype=np.float32), np.array(truth), 0.9, 0.9, grid=grid)


# Laws

rows = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=200)


def arrays(drawn: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([step / 20 for step, _ in drawn], dtype=np.float32), np.array([right for _, right in drawn])


@settings(deadline=None)
@given(rows, st.integers(0, 20))
def test_one_more_right_image_raises_no_p_value_at_or_below_its_score(drawn: list[tuple[int, bool]], step: int) -> None:
    grid = np.array(GRID, dtype=np.float32)
    before = precision_steps(*arrays(drawn), 0.9, grid)
    after = precision_steps(*arrays([*drawn, (step, True)]), 0.9, grid)
    for one, other in zip(before, after, strict=True):
        if one.threshold <= np.float32(step / 20):
            assert other.p_value <= one.p_value + 1e-12


@settings(deadline=None)
@given(rows, st.randoms(use_true_random=False), st.lists(st.integers(0, 5), min_size=200, max_size=200))
def test_the_order_of_rows_changes_nothing(drawn: list[tuple[int, bool]], random: object, groups: list[int]) -> None:
    tagged = list(zip(drawn, groups, strict=False))
    shuffled = tagged.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = [
        certify_precision(
            *arrays([row for row, _ in rows_]), 0.5, 0.9, grid=GRID, groups=np.array([g for _, g in rows_])
        )
        for rows_ in (tagged, shuffled)
    ]
    assert found[0] == found[1]


@settings(deadline=None)
@given(rows)
def test_a_rising_map_of_scores_and_grid_changes_no_certificate(drawn: list[tuple[int, bool]]) -> None:
    scores, truth = arrays(drawn)
    plain = certify_precision(scores, truth, 0.5, 0.9, grid=GRID)
    mapped = certify_precision(scores**2, truth, 0.5, 0.9, grid=np.square(np.array(GRID, dtype=np.float32)).tolist())
    assert type(plain) is type(mapped)
    assert (plain.k, plain.errors, plain.n) == (mapped.k, mapped.errors, mapped.n)


@settings(deadline=None)
@given(rows, st.sampled_from([0.5, 0.8, 0.9]))
def test_the_recall_threshold_is_the_highest_that_passes_exactly(
    drawn: list[tuple[int, bool]], at_least: float
) -> None:
    scores, truth = arrays(drawn)
    found = certify_recall(scores, truth, at_least, 0.9)
    positives = np.sort(scores[truth])

    def passes(missed: int) -> bool:
        return bool(binom.cdf(missed, len(positives), 1 - at_least) <= 0.1 + 1e-15)

    allowed = [place for place in range(len(positives)) if passes(place)]
    if isinstance(found, Refusal):
        assert not allowed
    else:
        assert positives[max(allowed)] == np.float32(found.threshold)
        hit = len(positives) - found.errors
        assert beta.ppf(0.1, hit, found.errors + 1) == pytest.approx(found.lower_bound)


def test_one_image_of_each_group_counts() -> None:
    scores, truth = block(0.97, 40, 0)
    groups = np.repeat(np.arange(10), 4)
    found = certify_precision(np.array(scores, dtype=np.float32), np.array(truth), 0.9, 0.9, grid=[0.95], groups=groups)
    assert isinstance(found, Refusal)
    assert (10, 10) == (found.n, found.k)


def test_the_promise_holds_in_the_least_favourable_population() -> None:
    """Precision just below the goal at the first grid point: the exact violation rate is P[p-value <= delta]."""
    trials, at_least, delta = 400, 0.9, 0.1
    critical = binom.isf(delta, trials, at_least) + 1
    exact = binom.sf(critical - 1, trials, at_least - 1e-9)
    rng = np.random.default_rng(7)
    scores = np.full(trials, 0.97, dtype=np.float32)
    draws = [rng.random(trials) < at_least - 1e-9 for _ in range(2000)]
    wrong = sum(
        isinstance(certify_precision(scores, truth, at_least, 1 - delta, grid=[0.95]), Certificate) for truth in draws
    )
    assert exact <= delta
    assert binom.cdf(wrong, 2000, exact) > 1e-4
    assert binom.sf(wrong - 1, 2000, exact) > 1e-4
