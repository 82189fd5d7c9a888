from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from workbench.canonical import binary32
from workbench.evaluation.certify import (
    DEFAULT_GRID,
    FALLBACK,
    FIRST_SHARE,
    FURTHER_SHARE,
    PREVALENCE,
    TOLERANCE,
    UNCOVERED,
    UNCOVERING_SHARE,
    WEIGHTED,
    Certificate,
    Refusal,
    certify_precision,
    certify_recall,
    certify_selective_error,
    precision_steps,
    tolerance_rank,
    weighted_rate_bound,
)
from workbench.evaluation.prevalence import Mix, count_kinds, ppv_lower_bound, precision_bound, precision_p_values
from workbench.evaluation.sample_size import events_needed, trials_needed
from workbench.records import Step

FEW = settings(max_examples=settings().max_examples * 2 // 5)
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
    wanted = int(binom.isf(0.1, 600, 0.9)) + 1
    assert f"300 of 600 images at or above 0.95 are right; {wanted} would have to be" == found.reason
    assert (600, 600, 300) == (found.n, found.k, found.errors)


def test_as_many_images_as_are_needed_are_not_too_few() -> None:
    scores, truth = block(0.97, 21, 1)
    found = certify_precision(np.array(scores, dtype=np.float32), np.array(truth), 0.9, 0.9, grid=[0.95])
    assert isinstance(found, Refusal)
    assert "21 of 22 images at or above 0.95 are right; 22 would have to be" == found.reason


def test_what_a_refusal_asks_for_gives_the_chance_it_names() -> None:
    scores, truth = block(0.97, 57, 3)
    found = certify_precision(np.array(scores, dtype=np.float32), np.array(truth), 0.9, 0.95, grid=[0.95])
    assert isinstance(found, Refusal)
    assert found.needed is not None
    trials = 60 + found.needed
    assert binom.sf(binom.isf(0.05, trials, 0.9), trials, 0.95) >= 0.8


def needed(
    scores: Sequence[float], truth: Sequence[bool], at_least: float, confidence: float, grid: list[float]
) -> int | None:
    arrays_ = np.array(scores, dtype=np.float32), np.array(truth)
    found = certify_precision(*arrays_, at_least, confidence, grid=grid)
    assert isinstance(found, Refusal)
    return found.needed


def test_the_images_asked_for_are_those_of_the_band_by_its_share_of_all() -> None:
    """203 in the band for 95 against 90 per cent; 60 of 100 images are in it."""
    band, rest = block(0.97, 57, 3), block(0.3, 0, 40)
    assert -(-203 * 100 // 60) - 100 == needed(band[0] + rest[0], band[1] + rest[1], 0.9, 0.95, [0.95])


@pytest.mark.parametrize("right", [7, 10, 20])
def test_a_perfect_record_counts_as_half_an_error(right: int) -> None:
    wanted = events_needed(0.9, 1 - 1 / (2 * right + 2), 0.9)
    assert wanted is not None
    assert wanted - right == needed(*block(0.97, right, 0), 0.9, 0.9, [0.95])


def test_too_few_images_to_say_more_ask_for_no_number() -> None:
    """A test that 90 per cent pass by chance half of the time takes seven."""
    assert needed(*block(0.97, 6, 0), 0.9, 0.9, [0.95]) is None


def test_where_the_first_point_is_hopeless_the_best_of_the_others_counts() -> None:
    first, second, third = block(0.97, 5, 5), block(0.9, 60, 0), block(0.8, 30, 0)
    points = [0.95, 0.85, 0.75]
    wanted = [events_needed(0.9, right / (right + 5), 0.9) for right in (65, 95)]
    assert wanted[0] is not None
    assert wanted[1] is not None
    best = min(-(-wanted[0] * 100 // 70), wanted[1])
    scores, truth = first[0] + second[0] + third[0], first[1] + second[1] + third[1]
    assert max(1, best - 100) == needed(scores, truth, 0.9, 0.9, points)
    more = block(0.8, 2000, 0)
    assert 1 == needed(scores + more[0], truth + more[1], 0.9, 0.9, points)
    only = block(0.9, 0, 60)
    assert needed(first[0] + only[0], first[1] + only[1], 0.9, 0.9, points) is None


def test_where_the_first_point_has_hope_it_counts_though_others_need_less() -> None:
    first, second = block(0.97, 57, 3), block(0.9, 500, 0)
    wanted = -(-203 * 560 // 60)
    assert wanted - 560 == needed(first[0] + second[0], first[1] + second[1], 0.9, 0.95, [0.95, 0.85])


def test_a_long_grid_is_asked_at_every_so_many_points() -> None:
    """Twenty points: the first and every third one after it. The only hope lies at the second, which is passed over."""
    points = [0.99 - place / 100 for place in range(20)]
    first, second, rest = block(1.0, 5, 5), block(0.985, 150, 0), block(0.975, 0, 200)
    scores, truth = first[0] + second[0] + rest[0], first[1] + second[1] + rest[1]
    assert needed(scores, truth, 0.9, 0.9, points[:8]) == 1
    assert needed(scores, truth, 0.9, 0.9, points) is None


def test_recall_is_refused_where_images_are_out_of_reach() -> None:
    scores = np.array([-np.inf] * 30 + [0.9] * 70, dtype=np.float32)
    found = certify_recall(scores, np.ones(100, dtype=bool), 0.9, 0.95)
    assert isinstance(found, Refusal)
    assert "30 of 100 images of the category are out of any threshold's reach; 4 may be" == found.reason
    assert (100, 100, 30, (), "images of the category") == (
        found.n,
        found.k,
        found.errors,
        found.steps,
        found.drawn_from,
    )
    assert found.needed is None


def test_as_many_images_may_be_out_of_reach_as_the_rank_uses_up() -> None:
    scores = np.array([-np.inf] + [0.9] * 92, dtype=np.float32)
    found = certify_recall(scores, np.ones(93, dtype=bool), 0.95, 0.95)
    assert isinstance(found, Certificate)
    assert (TOLERANCE, (), (), 93, 93, 1) == (found.method, found.grid, found.steps, found.n, found.k, found.errors)
    scores[1] = -np.inf
    refused = certify_recall(scores, np.ones(93, dtype=bool), 0.95, 0.95)
    assert isinstance(refused, Refusal)
    assert (93, 2) == (refused.n, refused.errors)


def test_recall_that_is_nearly_reached_asks_for_images_of_the_category() -> None:
    scores = np.array([-np.inf] * 5 + [0.9] * 95 + [0.1] * 20, dtype=np.float32)
    found = certify_recall(scores, np.arange(120) < 100, 0.9, 0.95)
    assert isinstance(found, Refusal)
    assert (120, 100, 5) == (found.n, found.k, found.errors)
    assert 203 - 100 == found.needed
    fewer = certify_recall(scores[:29], np.ones(29, dtype=bool), 0.9, 0.95)
    assert isinstance(fewer, Refusal)
    assert "5 of 29 images of the category are out of any threshold's reach; 0 may be" == fewer.reason
    few = certify_recall(scores[:28], np.ones(28, dtype=bool), 0.9, 0.95)
    assert isinstance(few, Refusal)
    assert "only 28 images of the category; 29 are needed even if every one is reached" == few.reason
    none = certify_recall(scores[:0], np.zeros(0, dtype=bool), 0.9, 0.95)
    assert isinstance(none, Refusal)
    assert events_needed(0.9, 1.0, 0.95) == none.needed


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


@given(rows, st.integers(0, 20))
def test_one_more_right_image_raises_no_p_value_at_or_below_its_score(drawn: list[tuple[int, bool]], step: int) -> None:
    grid = np.array(GRID, dtype=np.float32)
    before = precision_steps(*arrays(drawn), 0.9, grid)
    after = precision_steps(*arrays([*drawn, (step, True)]), 0.9, grid)
    for one, other in zip(before, after, strict=True):
        if one.threshold <= np.float32(step / 20):
            assert other.p_value <= one.p_value + 1e-12


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


@given(rows)
def test_a_rising_map_of_scores_and_grid_changes_no_certificate(drawn: list[tuple[int, bool]]) -> None:
    scores, truth = arrays(drawn)
    plain = certify_precision(scores, truth, 0.5, 0.9, grid=GRID)
    mapped = certify_precision(scores**2, truth, 0.5, 0.9, grid=np.square(np.array(GRID, dtype=np.float32)).tolist())
    assert type(plain) is type(mapped)
    assert (plain.k, plain.errors, plain.n) == (mapped.k, mapped.errors, mapped.n)


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


# Without a grid


def drawn_scores(seed: int, images: int = 400) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = random.random(images).astype(np.float32)
    return scores, random.random(images) < scores ** random.uniform(0.1, 1.5)


def test_the_default_grid_falls_from_99_to_1_per_cent() -> None:
    assert [np.float32(percent / 100) for percent in range(99, 0, -1)] == list(DEFAULT_GRID)


def fall_back(scores: np.ndarray, truth: np.ndarray, at_least: float, delta: float) -> list[tuple[float, float]]:
    """(threshold, level) of every point of the default grid that passes, by the letter of Wiens's procedure."""
    passed, handed_on = [], 0.0
    for place, point in enumerate(DEFAULT_GRID):
        above = scores >= np.float32(point)
        own = FIRST_SHARE if place == 0 else FURTHER_SHARE / 9 if place % 10 == 0 else 0.0
        level = handed_on + delta * own
        p_value = binom.sf(int((above & truth).sum()) - 1, int(above.sum()), at_least) if above.any() else 1.0
        handed_on = level if p_value <= level else 0.0
        passed += [(point, level)] if handed_on else []
    return passed


def test_the_parts_of_the_error_probability_make_a_whole() -> None:
    assert 1.0 == pytest.approx(FIRST_SHARE + FURTHER_SHARE + UNCOVERING_SHARE, abs=1e-15)


@pytest.mark.parametrize("seed", range(24))
def test_without_a_grid_the_lowest_of_what_passes_counts(seed: int) -> None:
    scores, truth = drawn_scores(seed)
    found, passed = certify_precision(scores, truth, 0.7, 0.9), fall_back(scores, truth, 0.7, 1 - 0.9)
    if passed:
        assert isinstance(found, Certificate)
        assert found.threshold <= passed[-1][0]
    if isinstance(found, Refusal):
        return
    above = scores >= np.float32(found.threshold)
    assert (int(above.sum()), int((above & ~truth).sum()), 400) == (found.k, found.errors, found.n)
    level = (1 - 0.9) * UNCOVERING_SHARE
    if found.method == UNCOVERED:
        step = Step(found.threshold, found.k, found.k - found.errors, found.steps[0].p_value)
        assert ((found.threshold,), (step,)) == (found.grid, found.steps)
        assert step.p_value <= level
    else:
        assert (FALLBACK, DEFAULT_GRID) == (found.method, found.grid)
        threshold, level = passed[-1]
        assert threshold == found.threshold
    assert float(beta.ppf(level, found.k - found.errors, found.errors + 1)) == pytest.approx(found.lower_bound)


def test_noise_at_the_very_top_does_not_end_the_walk() -> None:
    random = np.random.default_rng(2)
    scores = np.linspace(0.5, 1, 4000, dtype=np.float32)
    truth = random.random(4000) < np.where(scores > 0.985, 0.5, 0.99)
    assert isinstance(certify_precision(scores, truth, 0.9, 0.9, grid=DEFAULT_GRID), Refusal)
    found = certify_precision(scores, truth, 0.9, 0.9)
    assert isinstance(found, Certificate)
    assert found.k > 3000


def test_the_walk_wins_where_one_score_is_all_there_is_and_uncovering_where_few_are_good() -> None:
    good = certify_precision(np.full(200, 0.995, dtype=np.float32), np.ones(200, dtype=bool), 0.9, 0.9)
    random = np.random.default_rng(3)
    scores = (0.3 + 0.0001 * np.arange(300)).astype(np.float32)
    hard = certify_precision(scores, random.random(300) < np.where(scores > 0.323, 1.0, 0.2), 0.9, 0.9)
    assert isinstance(good, Certificate)
    assert isinstance(hard, Certificate)
    assert (FALLBACK, np.float32(0.01), 200, 0) == (good.method, np.float32(good.threshold), good.k, good.errors)
    assert (UNCOVERED, True) == (hard.method, hard.threshold not in DEFAULT_GRID)


def test_the_walk_wins_where_precision_is_high_down_to_the_lowest_score() -> None:
    random = np.random.default_rng(8)
    scores = (random.random(500) ** 0.1).astype(np.float32)
    truth = random.random(500) < 0.95
    found = certify_precision(scores, truth, 0.7, 0.9)
    assert isinstance(found, Certificate)
    assert (FALLBACK, np.float32(0.01), 99, 99) == (found.method, found.threshold, len(found.grid), len(found.steps))
    above = scores >= np.float32(0.01)
    assert (int(above.sum()), int((above & ~truth).sum())) == (found.k, found.errors)
    # every part that was handed on is there at the end
    level = (1 - 0.9) * (FIRST_SHARE + FURTHER_SHARE)
    assert float(beta.ppf(level, found.k - found.errors, found.errors + 1)) == pytest.approx(found.lower_bound)


def test_scores_of_other_kinds_are_sorted_as_well() -> None:
    for seed in range(4):
        scores, truth = drawn_scores(seed)
        plain = certify_precision(scores, truth, 0.7, 0.9, grid=GRID)
        assert plain == certify_precision(scores.astype(np.float64), truth, 0.7, 0.9, grid=GRID)
        lowered = certify_precision(scores - 2, truth, 0.7, 0.9, grid=[float(np.float32(point) - 2) for point in GRID])
        assert (type(plain), plain.k, plain.errors) == (type(lowered), lowered.k, lowered.errors)


def test_a_p_value_of_just_the_error_probability_passes() -> None:
    found = certify_precision(np.array([0.9], np.float32), np.array([True]), 0.5, 0.5, grid=[0.8, 0.5])
    assert isinstance(found, Certificate)
    assert (np.float32(0.5), 2, (np.float32(0.8), 0.5)) == (found.threshold, len(found.steps), found.grid)


def test_the_default_seed_is_0() -> None:
    scores, truth = drawn_scores(2)
    groups = np.arange(400) // 8
    for certify in (certify_precision, certify_recall):
        found = [certify(scores, truth, 0.3, 0.9, groups=groups, **seed) for seed in ({}, {"seed": 0}, {"seed": 1})]  # type: ignore[arg-type]
        assert found[0] == found[1] != found[2]


def test_a_refusal_without_a_grid_asks_for_images_by_both_tries() -> None:
    random = np.random.default_rng(3)
    scores = random.random(300).astype(np.float32)
    found = certify_precision(scores, random.random(300) < 0.6 + 0.35 * scores, 0.9, 0.9)
    assert isinstance(found, Refusal)
    assert len(found.steps) == 2
    assert found.needed is None or 0 < found.needed


def test_a_refusal_without_a_grid_shows_both_tries() -> None:
    random = np.random.default_rng(0)
    scores = random.random(300).astype(np.float32)
    found = certify_precision(scores, random.random(300) < 0.5 + 0.3 * scores, 0.9, 0.9)
    assert isinstance(found, Refusal)
    assert [np.float32(0.99)] == [np.float32(step.threshold) for step in found.steps[:1]]
    assert found.k == found.steps[-1].events
    assert (found.n, found.drawn_from) == (300, "images like these")


def test_images_that_no_threshold_reaches_change_nothing_but_their_number() -> None:
    for seed in range(5):
        scores, truth = drawn_scores(seed)
        plain = certify_precision(scores, truth, 0.7, 0.9)
        more = np.concatenate([scores, np.full(50, -np.inf, dtype=np.float32)])
        other = certify_precision(more, np.concatenate([truth, np.ones(50, dtype=bool)]), 0.7, 0.9)
        assert type(plain) is type(other)
        assert (plain.k, plain.errors, plain.n + 50) == (other.k, other.errors, other.n)


def test_no_images_are_refused_in_words() -> None:
    nothing, none = np.zeros(0, dtype=np.float32), np.zeros(0, dtype=bool)
    for options in ({}, {"grid": [0.5]}, {"prevalence": 0.1}, {"weights": np.zeros(0)}):
        found = certify_precision(nothing, none, 0.9, 0.9, **options)  # type: ignore[arg-type]
        assert isinstance(found, Refusal)
        assert found.needed is None
        assert (0, 0, 0) == (found.n, found.k, found.errors)
    assert isinstance(certify_recall(nothing, none, 0.9, 0.9), Refusal)


# A prevalence


def test_the_bound_at_a_share_is_that_of_the_two_rates() -> None:
    scores = np.repeat(np.array([0.9, 0.1, 0.9, 0.1], dtype=np.float32), [180, 20, 4, 1796])
    truth = np.arange(2000) < 200
    found = certify_precision(scores, truth, 0.6, 0.95, grid=[0.5], prevalence=0.01)
    assert isinstance(found, Certificate)
    assert (PREVALENCE, 184, 4, 2000) == (found.method, found.k, found.errors, found.n)
    assert ppv_lower_bound(180, 200, 4, 1800, 0.01, 0.05) == pytest.approx(found.lower_bound)
    assert 0.602 == round(found.lower_bound, 3)
    assert ((4,), 180) == (found.steps[0].false_by_kind, found.steps[0].successes)
    refused = certify_precision(scores, truth, 0.61, 0.95, grid=[0.5], prevalence=0.01)
    assert isinstance(refused, Refusal)
    assert (
        "at a share of 0.01, precision at 0.5 may be as low as 0.602 (4 false among 1800 other images)"
        in refused.reason
    )
    assert "images of other kinds, in the mix that production sees" == refused.drawn_from


def test_what_is_missing_at_a_share_is_said() -> None:
    scores = np.repeat(np.array([0.9, 0.1], dtype=np.float32), [30, 300])
    truth = np.arange(330) < 30
    found = certify_precision(scores, truth, 0.9, 0.9, grid=[0.95], prevalence=0.1)
    assert isinstance(found, Refusal)
    assert "none of 30 images of the category scores 0.95 or more" in found.reason
    mix = Mix(0.1, np.array([0.8, 0.1]), np.zeros(330, dtype=np.int64))
    found = certify_precision(scores, truth, 0.9, 0.9, grid=[0.5], prevalence=mix)
    assert isinstance(found, Refusal)
    assert "1 kinds of other images have a share in production and no image here" == found.reason
    assert found.needed is None


def test_the_negatives_that_a_refusal_asks_for_are_enough() -> None:
    def set_of(negatives: int) -> tuple[np.ndarray, np.ndarray]:
        scores = np.repeat(np.array([0.9, 0.1], dtype=np.float32), [200, negatives])
        return scores, np.arange(200 + negatives) < 200

    found = certify_precision(*set_of(300), 0.9, 0.9, grid=[0.5], prevalence=0.01)
    assert isinstance(found, Refusal)
    assert found.needed is not None
    assert isinstance(
        certify_precision(*set_of(300 + found.needed), 0.9, 0.9, grid=[0.5], prevalence=0.01), Certificate
    )
    assert isinstance(certify_precision(*set_of(299 + found.needed), 0.9, 0.9, grid=[0.5], prevalence=0.01), Refusal)


def test_the_negatives_asked_for_follow_the_rates_seen() -> None:
    """30 false among 3,000 at a share of 5 per cent; the goal allows one in forty or so."""
    scores = np.repeat(np.array([0.9, 0.1, 0.9, 0.1], dtype=np.float32), [90, 10, 9, 291])
    truth = np.arange(400) < 100
    found = certify_precision(scores, truth, 0.5, 0.9, grid=[0.95, 0.5, 0.05], prevalence=0.05)
    assert isinstance(found, Refusal)
    recall = float(beta.ppf(0.05, 90, 11))
    wanted = trials_needed(0.05 * recall * 0.5 / (0.5 * 0.95), 0.03, 0.95)
    assert wanted is not None
    assert wanted - 300 == found.needed
    first = certify_precision(scores, truth, 0.5, 0.9, grid=[0.5, 0.05], prevalence=0.05)
    assert isinstance(first, Refusal)
    assert found.needed == first.needed
    assert isinstance(certify_precision(scores, truth, 0.3, 0.9, grid=[0.5], prevalence=0.05), Certificate)
    mixed = certify_precision(
        scores, truth, 0.5, 0.9, grid=[0.5], prevalence=Mix(0.05, np.array([0.35, 0.6]), np.arange(400) % 2)
    )
    assert isinstance(mixed, Refusal)
    assert mixed.needed is not None


def test_a_share_that_no_number_of_negatives_proves_asks_for_none() -> None:
    scores = np.repeat(np.array([0.9, 0.9, 0.1], dtype=np.float32), [100, 150, 150])
    found = certify_precision(scores, np.arange(400) < 100, 0.5, 0.9, grid=[0.5], prevalence=0.05)
    assert isinstance(found, Refusal)
    assert found.needed is None


def test_selective_error_is_precision_of_right_answers() -> None:
    for seed in range(4):
        accepted, right = drawn_scores(seed)
        for options in ({}, {"grid": GRID}, {"groups": np.arange(400) // 2, "seed": 3}):
            found = certify_selective_error(accepted, ~right, 0.25, 0.9, **options)  # type: ignore[arg-type]
            assert found == certify_precision(accepted, right, 0.75, 0.9, **options)  # type: ignore[arg-type]


def test_the_walk_at_a_mix_stops_at_the_first_failure_and_keeps_the_last_success() -> None:
    """Two kinds of others; of the second, 2 of 600 score .8 and 60 more .7."""
    scores = np.repeat(np.array([0.9, 0.8, 0.1, 0.8, 0.7, 0.1], dtype=np.float32), [150, 50, 600, 2, 60, 538])
    truth, kinds = np.arange(1400) < 200, np.repeat([0, 0, 1], [200, 600, 600])
    grid = np.array([0.9, 0.8, 0.7, 0.6], dtype=np.float32)
    for spent in (0.0, 0.02):
        mix = Mix(0.2, np.array([0.3, 0.5]), kinds, spent)
        found = certify_precision(scores, truth, 0.8, 0.9, grid=grid.tolist(), prevalence=mix)
        counts = count_kinds(scores, truth, kinds, 2, grid)
        assert isinstance(found, Certificate)
        assert [150, 200, 200] == [step.successes for step in found.steps]
        assert [(0, 0), (0, 2), (0, 62)] == [step.false_by_kind for step in found.steps]
        assert [150, 202, 262] == [step.events for step in found.steps]
        assert grid[:3].tolist() == [step.threshold for step in found.steps]
        assert precision_p_values(counts, mix, 0.8)[:3].tolist() == [step.p_value for step in found.steps]
        assert (grid[1], grid.tolist()) == (found.threshold, list(found.grid))
        assert (202, 2, 1400) == (found.k, found.errors, found.n)
        assert float(precision_bound(counts, mix, 1 - 0.9)[1]) == pytest.approx(found.lower_bound)
        first = certify_precision(scores, truth, 0.8, 0.9, grid=[0.9, 0.7, 0.6], prevalence=mix)
        assert isinstance(first, Certificate)
        assert (grid[0], 2, 150) == (first.threshold, len(first.steps), first.k)
        assert float(precision_bound(counts, mix, 1 - 0.9)[0]) == pytest.approx(first.lower_bound)
        whole = certify_precision(scores, truth, 0.5, 0.9, grid=[0.9, 0.8, 0.7], prevalence=mix)
        assert isinstance(whole, Certificate)
        assert (grid[2], 3, 262) == (whole.threshold, len(whole.steps), whole.k)
        refused = certify_precision(scores, truth, 0.8, 0.9, grid=[0.7, 0.6], prevalence=mix)
        assert isinstance(refused, Refusal)
        assert (262, 62, 1400, 1) == (refused.k, refused.errors, refused.n, len(refused.steps))
        assert f"may be as low as {precision_bound(counts, mix, 1 - 0.9)[2]:.3f} (62 false among 1200" in refused.reason


def test_a_kind_without_a_share_needs_no_images() -> None:
    scores, truth = np.repeat(np.array([0.9, 0.1], np.float32), [30, 30]), np.arange(60) < 30
    mix = Mix(0.1, np.array([0.9, 0.0]), np.zeros(60, dtype=np.int64))
    found = certify_precision(scores, truth, 0.9, 0.9, grid=[0.5], prevalence=mix)
    assert isinstance(found, Refusal)
    assert "(0 false among 30 other images)" in found.reason
    assert found.needed is not None


# Weights


def test_equal_weights_are_no_weights() -> None:
    for seed in range(8):
        scores, truth = drawn_scores(seed)
        for certify in (certify_precision, certify_recall):
            plain = certify(scores, truth, 0.7, 0.9)
            for weight in (1.0, 0.25):
                assert plain == certify(scores, truth, 0.7, 0.9, weights=np.full(400, weight))


def test_weighted_images_are_tested_by_betting() -> None:
    random = np.random.default_rng(1)
    scores = random.random(600).astype(np.float32)
    truth, weights = random.random(600) < 0.7 + 0.3 * scores, np.where(scores > 0.5, 1.0, 4.0)
    precision = certify_precision(scores, truth, 0.6, 0.9, grid=DEFAULT_GRID[20:], weights=weights)
    recall = certify_recall(scores, truth, 0.6, 0.9, weights=weights)
    assert isinstance(precision, Certificate)
    assert isinstance(recall, Certificate)
    assert (WEIGHTED, WEIGHTED) == (precision.method, recall.method)
    above = scores >= np.float32(precision.threshold)
    assert (int(above.sum()), int((above & ~truth).sum()), 600) == (precision.k, precision.errors, precision.n)
    assert (int(truth.sum()), 600) == (recall.k, recall.n)
    assert int((scores[truth] < np.float32(recall.threshold)).sum()) == recall.errors
    assert list(DEFAULT_GRID[::-1][: len(recall.steps)]) == [step.threshold for step in recall.steps]


def weighted_example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """200 right at .9; 190 of 200 at .8; 40 of 200 at .7. Every other image stands for two."""
    blocks = [block(0.9, 200, 0), block(0.8, 190, 10), block(0.7, 40, 160)]
    scores = np.array([score for part, _ in blocks for score in part], dtype=np.float32)
    return scores, np.array([right for _, part in blocks for right in part]), 1.0 + np.arange(600) % 2


def test_the_weighted_walk_stops_at_the_first_failure_and_keeps_the_last_success() -> None:
    scores, truth, weights = weighted_example()
    found = certify_precision(scores, truth, 0.9, 0.9, grid=[0.9, 0.8, 0.7, 0.6], weights=weights)
    assert isinstance(found, Certificate)
    assert [(200, 200), (400, 390), (600, 430)] == [(step.events, step.successes) for step in found.steps]
    assert [True, True, False] == [step.p_value <= 0.1 for step in found.steps]
    assert [0 < step.p_value <= 1 for step in found.steps] == [True] * 3
    assert (np.float32(0.8), 400, 10, 600) == (np.float32(found.threshold), found.k, found.errors, found.n)
    assert [np.float32(point) for point in (0.9, 0.8, 0.7, 0.6)] == list(found.grid)
    assert 0.9 <= found.lower_bound <= 0.975
    assert 0.05 > 0.975 - found.lower_bound
    whole = certify_precision(scores, truth, 0.5, 0.9, grid=[0.9, 0.8, 0.7], weights=weights)
    assert isinstance(whole, Certificate)
    assert (np.float32(0.7), 3, 600) == (np.float32(whole.threshold), len(whole.steps), whole.k)
    one = certify_precision(scores, truth, 0.9, 0.9, grid=[0.9, 0.7], weights=weights)
    assert isinstance(one, Certificate)
    assert (np.float32(0.9), 2, 200) == (np.float32(one.threshold), len(one.steps), one.k)
    alone = certify_precision(scores, truth, 0.9, 0.9, grid=[0.9], weights=weights)
    assert isinstance(alone, Certificate)
    assert (np.float32(0.9), 1) == (np.float32(alone.threshold), len(alone.steps))
    order = np.arange(600)[::-1]
    again = certify_precision(
        scores[order], truth[order], 0.9, 0.9, [0.9, 0.8, 0.7, 0.6], groups=order, weights=weights[order]
    )
    assert again == certify_precision(
        scores, truth, 0.9, 0.9, [0.9, 0.8, 0.7, 0.6], groups=np.arange(600), weights=weights
    )


def test_the_weighted_walk_of_recall_rises_until_it_fails() -> None:
    scores, truth, weights = weighted_example()
    found = certify_recall(scores, truth, 0.8, 0.9, grid=[0.95, 0.9, 0.8, 0.7], weights=weights)
    assert isinstance(found, Certificate)
    assert [0.7, 0.8, 0.9] == [round(step.threshold, 6) for step in found.steps]
    assert [(430, 430), (430, 390), (430, 200)] == [(step.events, step.successes) for step in found.steps]
    assert [True, True, False] == [step.p_value <= 0.1 for step in found.steps]
    assert (np.float32(0.8), 430, 40, 600) == (np.float32(found.threshold), found.k, found.errors, found.n)
    assert [np.float32(point) for point in (0.95, 0.9, 0.8, 0.7)] == list(found.grid)
    assert 0.8 <= found.lower_bound <= 390 / 430
    assert 0.06 > 390 / 430 - found.lower_bound
    whole = certify_recall(scores, truth, 0.3, 0.9, grid=[0.9, 0.8, 0.7], weights=weights)
    assert isinstance(whole, Certificate)
    assert (np.float32(0.9), 3, 230) == (np.float32(whole.threshold), len(whole.steps), whole.errors)
    alone = certify_recall(scores, truth, 0.8, 0.9, grid=[0.8], weights=weights)
    assert isinstance(alone, Certificate)
    assert (np.float32(0.8), 1) == (np.float32(alone.threshold), len(alone.steps))
    order = np.arange(600)[::-1]
    again = certify_recall(scores[order], truth[order], 0.8, 0.9, [0.9, 0.8], groups=order, weights=weights[order])
    assert again == certify_recall(scores, truth, 0.8, 0.9, [0.9, 0.8], groups=np.arange(600), weights=weights)


def test_a_weighted_point_that_no_image_reaches_proves_nothing() -> None:
    scores, truth, weights = weighted_example()
    found = certify_precision(scores, truth, 0.9, 0.9, grid=[0.95, 0.9], weights=weights)
    assert isinstance(found, Refusal)
    assert ((Step(binary32(0.95), 0, 0, 1.0),), 0, 600) == (found.steps, found.k, found.n)
    assert "images drawn with the same weights" == found.drawn_from
    assert found.needed is None
    wrong = certify_recall(scores, np.zeros(600, dtype=bool), 0.9, 0.9, weights=weights)
    assert isinstance(wrong, Refusal)
    assert (0, 600) == (wrong.k, wrong.n)


def test_the_image_of_a_group_is_drawn_by_its_name() -> None:
    """The first eight bytes of SHA-256 of seed and name, over the images by score."""
    scores = np.arange(40, dtype=np.float32) / 40
    names = np.array([f"shoot {row % 10}" for row in range(40)])
    for seed in (0, 5):
        chosen = set()
        for group in range(10):
            drawn = hashlib.sha256(f"{seed}:shoot {group}".encode()).digest()[:8]
            chosen.add(float(scores[group + 10 * (int.from_bytes(drawn, "big") % 4)]))
        found = certify_recall(scores, np.ones(40, dtype=bool), 0.1, 0.9, groups=names, seed=seed)
        assert isinstance(found, Certificate)
        assert sorted(chosen)[found.errors] == found.threshold
        steps = certify_precision(
            scores, np.ones(40, bool), 0.1, 0.9, grid=sorted(scores.tolist())[::-1], groups=names, seed=seed
        ).steps
        counts = [step.events for step in steps]
        assert [sum(one >= point for one in chosen) for point in sorted(scores.tolist())[::-1]][: len(counts)] == counts


def test_weighted_refusals_say_where_images_have_to_come_from() -> None:
    scores, truth = drawn_scores(3, 60)
    weights = np.where(scores > 0.5, 1.0, 3.0)
    found = certify_precision(scores, truth, 0.95, 0.95, weights=weights)
    assert isinstance(found, Refusal)
    assert "images drawn with the same weights" == found.drawn_from
    missed = certify_recall(np.full(60, -np.inf, dtype=np.float32), truth, 0.95, 0.95, weights=weights)
    assert isinstance(missed, Refusal)
    assert (int(truth.sum()), int(truth.sum())) == (missed.k, missed.errors)


# Refused arguments


@pytest.mark.parametrize("certify", [certify_precision, certify_recall])
@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"scores": np.array([0.5, np.nan], dtype=np.float32)}, "a score is NaN"),
        (
            {"scores": np.array([0.5], dtype=np.float32)},
            r"scores \(1,\) and truth \(2,\) must be two vectors of one length",
        ),
        ({"scores": np.zeros((2, 1), np.float32), "truth": np.zeros((2, 1), bool)}, "two vectors of one length"),
        ({"truth": np.array([0, 1])}, "truth must be an array of bool, not of int64"),
        ({"at_least": 1.0}, "must lie between 0 and 1"),
        ({"at_least": 0.0}, "must lie between 0 and 1"),
        ({"confidence": 1.0}, "must lie between 0 and 1"),
        ({"confidence": 0.0}, "must lie between 0 and 1"),
        ({"weights": np.ones(3)}, "weights must be 2 finite numbers above 0"),
        ({"weights": np.array([1.0, 0.0])}, "weights must be 2 finite numbers above 0"),
        ({"weights": np.array([1.0, -1.0])}, "weights must be 2 finite numbers above 0"),
        ({"weights": np.array([1.0, np.nan])}, "weights must be 2 finite numbers above 0"),
        ({"weights": np.array([1.0, np.inf])}, "weights must be 2 finite numbers above 0"),
        ({"prevalence": 1.2}, "a prevalence must lie between 0 and 1"),
        ({"prevalence": Mix(0.1, np.array([0.5]), np.zeros(2, int))}, r"sum to 0\.6, not to 1"),
    ],
)
def test_what_cannot_be_is_refused(certify: Callable[..., object], changed: dict[str, object], fault: str) -> None:
    fine = {"scores": np.array([0.5, 0.6], np.float32), "truth": np.array([True, False]), "at_least": 0.9}
    with pytest.raises(ValueError, match=fault):
        certify(**{**fine, "confidence": 0.9, **changed})


def test_weights_and_a_prevalence_together_are_refused() -> None:
    scores, truth = drawn_scores(1, 20)
    with pytest.raises(ValueError, match="give weights, or a prevalence"):
        certify_precision(scores, truth, 0.9, 0.9, prevalence=0.1, weights=scores.astype(float) + 1)


# Laws of everything that is certified

kinds_of_test = st.sampled_from(["grid", "none", "prevalence", "mix", "weights"])


def options_for(kind: str, drawn: list[tuple[int, bool]], marks: list[int]) -> dict[str, object]:
    """Arguments of `certify_precision`; `marks` give each image a kind or a weight."""
    own = np.array(marks[: len(drawn)])
    if kind == "prevalence":
        return {"prevalence": 0.3, "grid": GRID}
    if kind == "mix":
        return {"prevalence": Mix(0.3, np.array([0.5, 0.2]), own % 2), "grid": GRID}
    if kind == "weights":
        return {"weights": 1.0 + own % 3, "grid": GRID}
    return {"grid": GRID} if kind == "grid" else {}


many_rows = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from([True, True, True, False])), min_size=1, max_size=200
)
many_marks = st.lists(st.integers(0, 5), min_size=200, max_size=200)


def shuffled(options: dict[str, object], order: np.ndarray) -> dict[str, object]:
    mix = options.get("prevalence")
    if isinstance(mix, Mix):
        return {**options, "prevalence": Mix(mix.share, mix.others, mix.kinds[order])}
    if isinstance(options.get("weights"), np.ndarray):
        return {**options, "weights": options["weights"][order]}  # type: ignore[index]
    return options


@FEW
@given(many_rows, many_marks, st.randoms(use_true_random=False), kinds_of_test)
def test_the_order_of_images_changes_nothing_for_any_test(
    drawn: list[tuple[int, bool]], marks: list[int], random: object, kind: str
) -> None:
    scores, truth = arrays(drawn)
    names, options = np.arange(len(drawn)), options_for(kind, drawn, marks)
    order = names.tolist()
    random.shuffle(order)  # type: ignore[attr-defined]
    for certify in (certify_precision, certify_recall):
        found = certify(scores, truth, 0.5, 0.8, groups=names, **options)  # type: ignore[operator]
        again = certify(scores[order], truth[order], 0.5, 0.8, groups=names[order], **shuffled(options, order))  # type: ignore[operator]
        assert found == again


@FEW
@given(many_rows, many_marks, kinds_of_test, st.sampled_from([0.5, 0.7, 0.9]), st.sampled_from([0.5, 0.8, 0.9]))
def test_the_bound_of_a_certificate_reaches_its_goal(
    drawn: list[tuple[int, bool]], marks: list[int], kind: str, at_least: float, confidence: float
) -> None:
    scores, truth = arrays(drawn)
    for certify in (certify_precision, certify_recall):
        found = certify(scores, truth, at_least, confidence, **options_for(kind, drawn, marks))  # type: ignore[operator]
        if isinstance(found, Certificate):
            assert found.lower_bound >= at_least - 1e-9
            assert 0 <= found.errors <= found.k <= found.n == len(drawn)
            assert np.float32(found.threshold) == found.threshold


@FEW
@given(many_rows, many_marks, st.sampled_from(["none", "prevalence", "mix", "weights"]))
def test_a_rising_map_changes_no_certificate_of_any_test(
    drawn: list[tuple[int, bool]], marks: list[int], kind: str
) -> None:
    scores, truth = arrays(drawn)
    options = options_for(kind, drawn, marks)
    plain = certify_precision(scores, truth, 0.5, 0.8, **options)  # type: ignore[arg-type]
    points = options.get("grid", DEFAULT_GRID)
    mapped = {**options, "grid": np.sqrt(np.array(points, dtype=np.float32))} if "grid" in options else options
    if kind == "none":
        # lifting by 0.004 takes no score over a point of the default grid
        lifted = certify_precision(scores + np.float32(0.004), truth, 0.5, 0.8)
        assert (plain.k, plain.errors) == (lifted.k, lifted.errors)
        return
    other = certify_precision(np.sqrt(scores), truth, 0.5, 0.8, **mapped)  # type: ignore[arg-type]
    assert type(plain) is type(other)
    assert (plain.k, plain.errors, plain.n) == (other.k, other.errors, other.n)
    assert [step.p_value for step in plain.steps] == [step.p_value for step in other.steps]


@FEW
@given(many_rows, st.integers(0, 20), st.sampled_from([0.05, 0.3]))
def test_one_more_right_image_raises_no_p_value_at_a_prevalence(
    drawn: list[tuple[int, bool]], step: int, share: float
) -> None:
    grid, mix = np.array(GRID, dtype=np.float32), Mix(share, np.array([1 - share]), np.zeros(0, dtype=np.int64))

    def p_values(rows_: list[tuple[int, bool]]) -> np.ndarray:
        scores, truth = arrays(rows_)
        return precision_p_values(count_kinds(scores, truth, np.zeros(len(rows_), dtype=int), 1, grid), mix, 0.5)

    before, after = p_values(drawn), p_values([*drawn, (step, True)])
    below = grid <= np.float32(step / 20)
    assert (after[below] <= before[below] + 1e-9).all()


@FEW
@given(many_rows, st.sampled_from([0.5, 0.8]))
def test_the_labelled_set_s_own_share_is_more_careful_than_no_prevalence(
    drawn: list[tuple[int, bool]], at_least: float
) -> None:
    scores, truth = arrays(drawn)
    if not 0 < truth.mean() < 1:
        return
    plain = precision_steps(scores, truth, at_least, np.array(GRID, dtype=np.float32))
    found = certify_precision(scores, truth, at_least, 0.9, grid=GRID, prevalence=float(truth.mean()))
    for one, other in zip(plain, found.steps, strict=False):
        assert (one.threshold, one.events, one.successes) == (other.threshold, other.events, other.successes)
    if isinstance(found, Certificate):
        observed = (found.k - found.errors) / found.k
        assert found.lower_bound <= observed
        assert at_least <= observed


# Promises


def test_the_default_errs_no_oftener_than_said_though_precision_oscillates() -> None:
    """Of all above a score, precision is goal − .004 + .02·sin(6 ln(share above))."""
    random, runs, delta, goal = np.random.default_rng(21), 400, 0.2, 0.8
    wrong = 0
    for _ in range(runs):
        above = random.random(300)
        turn = 6 * np.log(above)
        truth = random.random(300) < goal - 0.004 + 0.02 * np.sin(turn) + 0.12 * np.cos(turn)
        found = certify_precision((1 - above).astype(np.float32), truth, goal, 1 - delta)
        if isinstance(found, Certificate):
            wrong += 0.02 * np.sin(6 * np.log(1 - found.threshold)) < 0.004
    assert 0 < wrong
    assert binom.sf(wrong - 1, runs, delta) > 1e-3


@pytest.mark.parametrize("certify", [certify_precision, certify_recall])
def test_weighted_tests_err_no_oftener_than_said(certify: Callable[..., object]) -> None:
    """Half of the images stand for three each; the weighted rate is just below the goal at the one point."""
    random, runs, delta = np.random.default_rng(22), 400, 0.2
    rates, wrong = np.array([0.95, 0.7]), 0
    truly = (0.95 + 3 * 0.7) / 4
    for run in range(runs):
        heavy = random.integers(0, 2, 150)
        right = random.random(150) < rates[heavy]
        weights = 1.0 + 2 * heavy
        if certify is certify_precision:
            found = certify(
                np.full(150, 0.9, np.float32), right, truly + 1e-9, 1 - delta, [0.5], weights=weights, seed=run
            )
        else:
            scores = np.where(right, 0.9, 0.1).astype(np.float32)
            found = certify(scores, np.ones(150, bool), truly + 1e-9, 1 - delta, [0.5], weights=weights, seed=run)
        wrong += isinstance(found, Certificate)
    assert 0 < wrong
    assert binom.sf(wrong - 1, runs, delta) > 1e-3


def test_precision_at_a_mix_errs_no_oftener_than_said() -> None:
    random, runs, delta = np.random.default_rng(23), 150, 0.3
    shares, rates, recall = np.array([0.5, 0.4]), np.array([0.04, 0.005]), 0.9
    truly = 0.1 * recall / (0.1 * recall + float(shares @ rates))
    kinds = np.repeat([0, 0, 1], [60, 200, 160])
    truth = np.arange(420) < 60
    rate = np.where(truth, recall, rates[kinds])
    wrong = 0
    for _ in range(runs):
        scores = np.where(random.random(420) < rate, 0.9, 0.1).astype(np.float32)
        found = certify_precision(scores, truth, truly + 1e-9, 1 - delta, [0.5], prevalence=Mix(0.1, shares, kinds))
        wrong += isinstance(found, Certificate)
    assert binom.sf(wrong - 1, runs, delta) > 1e-3


def test_selective_error_errs_no_oftener_than_said() -> None:
    random, runs, delta = np.random.default_rng(24), 400, 0.2
    wrong = 0
    for _ in range(runs):
        accepted = random.random(200).astype(np.float32)
        errors = random.random(200) < np.where(accepted > 0.6, 0.2 + 1e-9, 0.5)
        wrong += isinstance(certify_selective_error(accepted, errors, 0.2, 1 - delta, grid=GRID), Certificate)
    assert 0 < wrong
    assert binom.sf(wrong - 1, runs, delta) > 1e-3


def test_a_weighted_rate_is_bounded_and_one_without_images_is_not() -> None:
    assert 1.0 == weighted_rate_bound(np.zeros(0, bool), np.zeros(0), 0.1)
    random, runs, delta, wrong = np.random.default_rng(25), 150, 0.2, 0
    for run in range(runs):
        heavy = random.integers(0, 2, 120)
        events = random.random(120) < np.array([0.1, 0.3])[heavy]
        bound = weighted_rate_bound(events, 1.0 + 2 * heavy, delta, seed=run)
        assert bound < 0.6
        assert bound == weighted_rate_bound(events, 1.0 + 2 * heavy, delta, seed=run)
        wrong += bound < (0.1 + 0.9) / 4
    assert binom.sf(wrong - 1, runs, delta) > 1e-3


# Arrays that cannot be


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"grid": [0.5, -np.inf]}, "finite"),
        ({"grid": [np.nan]}, "finite"),
        ({"scores": np.array([1, 0])}, "float32"),
        ({"scores": [0.5, 0.4]}, "float32"),
        ({"scores": np.array([np.inf, 0.4], dtype=np.float32)}, "infinite"),
        ({"groups": np.array(["a"])}, "each of 2 images"),
        ({"groups": np.array(["a", None], dtype=object)}, "each of 2 images"),
        ({"confidence": 1e-17}, "between 0 and 1"),
    ],
)
@pytest.mark.parametrize("certify", [certify_precision, certify_recall])
def test_what_no_test_can_take_is_refused(certify: object, change: dict[str, object], fault: str) -> None:
    given = {"scores": np.array([0.5, 0.4], dtype=np.float32), "truth": np.array([True, False]), "at_least": 0.9}
    given |= {"confidence": 0.9, "weights": np.array([1.0, 2.0])} | change
    with pytest.raises(ValueError, match=fault):
        certify(**given)  # type: ignore[operator]


def test_the_order_of_bets_does_not_depend_on_labels() -> None:
    """With one seed, over many draws: the order may not be made from what is to be tested."""
    rng, wrong = np.random.default_rng(5), 0
    scores, weights = np.full(60, 0.9, dtype=np.float32), np.tile([1.0, 1.5], 30)
    for _ in range(1500):
        truth = rng.random(60) < 0.9 - 1e-9
        found = certify_precision(scores, truth, 0.9, 0.9, grid=[0.5], weights=weights, seed=3)
        wrong += isinstance(found, Certificate)
    assert binom.sf(wrong - 1, 1500, 0.1) > 1e-4


def test_names_order_weighted_images_wherever_they_stand() -> None:
    rng = np.random.default_rng(6)
    scores, truth = np.full(300, 0.9, dtype=np.float32), rng.random(300) < 0.97
    weights, names = rng.choice([1.0, 2.0, 3.0], 300), np.array([f"{n}.png" for n in range(300)])
    order = rng.permutation(300)
    one = certify_precision(scores, truth, 0.9, 0.9, [0.5], names, weights=weights)
    other = certify_precision(scores[order], truth[order], 0.9, 0.9, [0.5], names[order], weights=weights[order])
    assert one == other
