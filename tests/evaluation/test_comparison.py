"""Two versions on the same images, against published tables and against what must hold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar

from labelled_runs import make_dataset, make_labelled, make_run
from workbench.errors import RunError
from workbench.evaluation.comparison import (
    Comparison,
    Flips,
    adjust_holm,
    compare_assignments,
    compare_day,
    compare_runs,
    compare_tables,
    count_flips,
    mcnemar_p_value,
    pairs_needed,
)
from workbench.records import CENSORED, MISSING, Taxonomy

TAXONOMY = Taxonomy(("shoe", "boot", "bag"))
VISION = [[1520, 266, 124, 66], [234, 1512, 432, 78], [117, 362, 1772, 205], [36, 82, 179, 492]]
"""Stuart (Biometrika 40, 1953): the right and the left eye of 7,477 women, by grade."""

small_tables = st.integers(2, 5).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, 6), min_size=size, max_size=size), min_size=size, max_size=size)
)


def of_table(counts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Two single-label assignments whose square table is `counts`."""
    size = len(counts)
    rows, columns = np.divmod(np.repeat(np.arange(size**2), np.ravel(counts)), size)
    return rows[:, None] == np.arange(size), columns[:, None] == np.arange(size)


def of_changes(n: int, old: int, gained: int, lost: int, margin: float = 0.1) -> Comparison:
    """One category: `old` of n images had it."""
    before, after = np.zeros((n, 1), dtype=bool), np.zeros((n, 1), dtype=bool)
    before[:old] = True
    after[lost : old + gained] = True
    return compare_assignments(before, after, ("shoe",), margin=margin)


# Published numbers


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"), [(86, 150, "3.716e-05"), (25, 15, "0.1539"), (60, 20, "8.581e-06")]
)
def test_mcnemar_is_the_published_one(gained: int, lost: int, p_value: str) -> None:
    assert p_value == f"{mcnemar_p_value(gained, lost):.4g}"


@pytest.mark.parametrize(
    ("gained", "lost", "statistic", "p_value"), [(86, 150, 16.818, "4.115e-05"), (25, 15, 2.025, "0.1547")]
)
def test_the_exact_p_value_is_near_the_corrected_approximation(
    gained: int, lost: int, statistic: float, p_value: str
) -> None:
    peer = mcnemar([[0, gained], [lost, 0]], exact=False, correction=True)
    assert (statistic, p_value) == (round(peer.statistic, 3), f"{peer.pvalue:.4g}")
    assert peer.pvalue == pytest.approx(mcnemar_p_value(gained, lost), rel=0.15)


@pytest.mark.parametrize(("counts", "statistic"), [([[794, 86], [150, 570]], 17.356), ([[520, 86], [150, 1]], 17.356)])
def test_of_two_categories_both_tests_are_mcnemar_s_without_correction(
    counts: list[list[int]], statistic: float
) -> None:
    for test in compare_tables(np.array(counts)):
        assert (statistic, 1) == (round(test.statistic, 3), test.df)
        assert "3.1e-05" == f"{test.p_value:.2g}"


def test_the_eyes_of_7477_women() -> None:
    found = compare_assignments(*of_table(VISION), categories=("1", "2", "3", "4"))
    tests = [(test.name, round(test.statistic, 3), test.df, round(test.p_value, 5)) for test in found.tests]
    assert [("Bowker", 19.107, 6, 0.00399), ("Stuart–Maxwell", 11.957, 3, 0.00753)] == tests
    assert [0.0191, 0.387, 0.184, 0.0447] == [float(f"{p:.3g}") for p in found.p_values]
    assert (found.holm >= 0.05).all()
    assert not found.changed.any()
    assert [387, 710, 735, 349] == found.gained.tolist()
    assert [456, 744, 684, 297] == found.lost.tolist()


def test_a_shift_carries_its_interval() -> None:
    found = of_changes(5000, old=1000, gained=60, lost=20)
    low, high = found.interval
    assert (0.80, 0.51, 1.09) == tuple(round(100 * float(x[0]), 2) for x in (found.shift, low, high))
    assert "8.6e-06" == f"{found.p_values[0]:.1e}"
    assert 3 == found.ratio[0]
    ratio_low, ratio_high = found.ratio_interval
    for gained_share, tail in ((ratio_low / (1 + ratio_low), "sf"), (ratio_high / (1 + ratio_high), "cdf")):
        count = 59 if tail == "sf" else 60
        assert 0.05 == pytest.approx(float(getattr(binom, tail)(count, 80, gained_share[0])), rel=1e-9)


def test_a_network_trained_twice() -> None:
    # Table 2a of arXiv 2011.09161: ResNet-18 against itself, on the 50,000 images of ImageNet's validation set.
    twice = Flips(
        50_000, negative=3220, positive=3195, old_errors=15_120, new_errors=15_145, confidence=0.95, measured_on=""
    )
    assert (6.44, 30.48) == (round(100 * twice.rate, 2), round(100 * twice.relative, 2))


@pytest.mark.parametrize(("ratio", "pairs"), [(1.25, 641), (1.5, 199), (2, 72), (3, 30)])
def test_so_many_changes_show_a_ratio(ratio: float, pairs: int) -> None:
    assert pairs == pairs_needed(ratio) == pairs_needed(1 / ratio)


def test_a_busy_day_is_no_alarm_where_such_days_are_usual() -> None:
    # Coop: 182 of 8,000 at a base rate of .017752; "more" is the tail that the authors state.
    assert "0.00064" == f"{compare_day(182, 8000, 0.017752).more:.2g}"
    assert "0.021" == f"{compare_day(182, 8000, 0.017752, variation=0.1).more:.2g}"


# What must hold


@settings(max_examples=25)  # as below
@given(small_tables)
def test_each_category_is_a_mcnemar_test_of_its_own(counts: list[list[int]]) -> None:
    table = np.array(counts)
    found = compare_assignments(*of_table(counts), categories=tuple(map(str, range(len(counts)))))
    both = np.diag(table)
    assert (table.sum(axis=0) - both).tolist() == found.gained.tolist()
    assert (table.sum(axis=1) - both).tolist() == found.lost.tolist()
    for b, d, p in zip(found.gained, found.lost, found.p_values, strict=True):
        assert min(1, 2 * binom.cdf(min(b, d), b + d, 0.5)) == pytest.approx(p)


@given(small_tables)
def test_margins_are_tested_without_the_categories_that_nothing_left_or_entered(counts: list[list[int]]) -> None:
    size = len(counts)
    padded = np.zeros((size + 2, size + 2), dtype=int)
    padded[:size, :size] = counts
    padded[-1, -1] = 9
    for plain, wide in zip(compare_tables(np.array(counts)), compare_tables(padded), strict=True):
        assert (plain.df, pytest.approx(plain.statistic)) == (wide.df, wide.statistic)
        assert 0 <= plain.p_value <= 1


def test_two_separate_sets_of_changes_add_up() -> None:
    one, other = np.array([[5, 8], [2, 5]]), np.array([[5, 1, 4], [3, 5, 0], [0, 6, 5]])
    both = np.zeros((5, 5), dtype=int)
    both[:2, :2], both[2:, 2:] = one, other
    for a, b, together in zip(compare_tables(one), compare_tables(other), compare_tables(both), strict=True):
        assert (a.df + b.df, a.statistic + b.statistic) == (together.df, pytest.approx(together.statistic))


def test_without_any_change_there_is_nothing_to_test() -> None:
    for test in compare_tables(np.diag([3, 0, 4])):
        assert (0.0, 0, 1.0) == (test.statistic, test.df, test.p_value)


@settings(max_examples=25)  # statsmodels collects garbage in every call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_multiplies_by_the_number_of_hypotheses_left(p_values: list[float]) -> None:
    order, worst, expected = np.argsort(p_values), 0.0, np.zeros(len(p_values))
    for place, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[index]))
        expected[index] = worst
    assert expected.tolist() == pytest.approx(adjust_holm(np.array(p_values)).tolist())


def test_no_significance_is_no_proof_of_sameness() -> None:
    few, many = of_changes(50, old=10, gained=1, lost=1), of_changes(50_000, old=10_000, gained=200, lost=200)
    assert [False, False, True] == [bool(x[0]) for x in (few.changed, few.unchanged, many.unchanged)]


@pytest.mark.parametrize(("old", "unchanged"), [(0, False), (10, False), (17, False), (25, True)])
def test_no_change_at_all_proves_sameness_only_with_enough_images(old: int, unchanged: bool) -> None:
    assert unchanged == bool(of_changes(1000, old=old, gained=0, lost=0).unchanged[0])


def test_a_small_change_can_be_sure_and_within_the_margin() -> None:
    found = of_changes(100_000, old=20_000, gained=900, lost=600)
    assert found.changed[0]
    assert found.unchanged[0]


@pytest.mark.parametrize(("n", "old", "both_ways"), [(2000, 100, 6), (5000, 1000, 100), (500, 250, 20)])
def test_a_change_of_the_margin_is_seldom_called_none(n: int, old: int, both_ways: int) -> None:
    rng = np.random.default_rng(11)
    gain, loss = (both_ways + old * 0.1) / n, both_ways / n
    draws = rng.multinomial(n, [old / n - loss, loss, gain, 1 - old / n - gain], size=4000)
    called = Comparison(
        categories=("",) * len(draws),
        images=n,
        old=draws[:, 0] + draws[:, 1],
        gained=draws[:, 2],
        lost=draws[:, 1],
        p_values=np.ones(len(draws)),
        holm=np.ones(len(draws)),
        margin=0.1,
        confidence=0.9,
        tests=(),
        flips=None,
        measured_on="",
    ).unchanged.mean()
    assert 0.02 < called < 0.055 + 3 * math.sqrt(0.05 * 0.95 / 4000)


@given(st.integers(0, 300), st.floats(0.001, 0.5), st.floats(0.01, 0.9))
def test_variation_never_makes_a_day_more_alarming_at_the_far_tail(events: int, rate: float, variation: float) -> None:
    plain, varied = compare_day(events, 300, rate), compare_day(events, 300, rate, variation)
    for day in (plain, varied):
        chance = day.more + day.fewer
        assert 1 <= chance + 1e-7  # SciPy sums logarithms of gamma functions, which cancel where variation is small
        assert 0 <= day.p_value <= 1
    far = rate * 300 * (1 + 5 * variation) + 6 * math.sqrt(rate * 300) + 2
    if events > far:
        assert plain.more <= varied.more + 1e-12


def test_a_day_varies_as_much_as_is_said() -> None:
    tails = np.array([compare_day(events, 400, 0.1, 0.3).more for events in range(402) if events <= 400])
    mass = tails - np.append(tails[1:], 0)
    mean = float((np.arange(401) * mass).sum())
    variance = float((np.arange(401) ** 2 * mass).sum()) - mean**2
    assert 40 == pytest.approx(mean)
    # Var = E[n p (1 − p)] + Var[n p]
    spread = (0.3 * 0.1) ** 2
    assert 400 * (0.1 * 0.9 - spread) + 400**2 * spread == pytest.approx(variance)


# Runs


def test_runs_are_compared_by_what_they_tell() -> None:
    labels: list[tuple[str, ...]] = [("shoe",), ("boot",), ("bag",), (), ("shoe",)]
    old = make_labelled(labels, np.eye(3)[[0, 1, 2, 2, 0]], taxonomy=TAXONOMY)
    missing, tie = [MISSING, 0.9, 0.1], [0.5, 0.5, CENSORED]
    new = make_labelled(labels, [[0.2, 0.8, 0], [0, 1, 0], tie, [1, 0, 0], missing], taxonomy=TAXONOMY)
    found = compare_runs(old, new)
    assert ([1, 1, 0], [2, 0, 2]) == (found.gained.tolist(), found.lost.tolist())
    assert found.flips is not None
    assert (4, 3, 0) == (found.flips.images, found.flips.negative, found.flips.positive)
    assert [0, 3, 4, 4] == [found.flips.old_errors, found.flips.new_errors, found.flips.images, found.tests[0].df]
    assert found.measured_on == found.flips.measured_on == "tune (optimistic: the tune split chose thresholds)"


def test_tables_without_labels_are_compared_alike_in_any_order() -> None:
    dataset = make_dataset([None] * 4, TAXONOMY)
    scores = np.eye(3)[[0, 1, 2, 0]]
    old = make_run(dataset, scores, outcomes=["ok", "ok", "ok", "corrupt"], digest="a" * 64)
    new = make_run(dataset, np.eye(3)[[0, 2, 2, 0]], digest="a" * 64)
    turned = type(new)(new.frame.iloc[::-1].reset_index(drop=True), new.info)
    one, other = compare_runs(old, new), compare_runs(old, turned)
    assert one.frame().equals(other.frame())
    assert ([1, 0, 1], [0, 1, 0], None) == (one.gained.tolist(), one.lost.tolist(), one.flips)
    assert "all images of things, labels not used" == one.measured_on


def test_several_labels_per_image_have_no_square_table() -> None:
    taxonomy = Taxonomy(("shoe", "boot"), mode="multi-label")
    labels: list[tuple[str, ...]] = [("shoe", "boot"), ("shoe",)]
    old = make_labelled(labels, [[0.9, 0.9], [0.9, 0.1]], taxonomy=taxonomy)
    new = make_labelled(labels, [[0.9, 0.4], [0.9, 0.1]], taxonomy=taxonomy)
    found = compare_runs(old, new)
    assert ((), [0, 1]) == (found.tests, found.lost.tolist())
    assert found.flips is not None
    assert 1 == found.flips.negative


def test_runs_of_other_images_contents_or_categories_are_refused() -> None:
    dataset = make_dataset([None] * 2, TAXONOMY)
    run = make_run(dataset, np.eye(3)[:2], digest="a" * 64)
    fewer = make_run(make_dataset([None], TAXONOMY), np.eye(3)[:1], digest="a" * 64)
    with pytest.raises(RunError, match=r"1 are in one alone, such as '1\.png'"):
        compare_runs(run, fewer)
    with pytest.raises(RunError, match="contents, labels or splits differ"):
        compare_runs(run, make_run(dataset, np.eye(3)[:2], digest="b" * 64))
    other = make_dataset([None] * 2, Taxonomy(("shoe", "boot", "hat")))
    with pytest.raises(RunError, match="different taxonomies"):
        compare_runs(run, make_run(other, np.eye(3)[:2], digest="a" * 64))


# Shapes and faults


def test_a_comparison_is_a_table_and_a_picture() -> None:
    found = compare_assignments(*of_table(VISION), categories=("one", "two $", "three", "four"), measured_on="eyes")
    frame = found.frame()
    assert [1907, 2222, 2507, 841] == frame["new"].tolist()
    assert (frame["shift_low"] < frame["shift"]).all()
    assert (frame["ratio_high"] > frame["ratio"]).all()
    ax = found.plot()
    assert ["one", r"two \$", "three", "four"] == [text.get_text() for text in ax.get_yticklabels()]
    assert "New against old on 7477 images" == ax.get_title(loc="left")


def test_a_ratio_without_losses_has_no_upper_end() -> None:
    found = of_changes(100, old=10, gained=4, lost=0)
    low, high = found.ratio_interval
    assert (math.inf, math.inf) == (found.ratio[0], high[0])
    assert 0.05 ** (1 / 4) == pytest.approx(low[0] / (1 + low[0]))


def test_no_images_give_no_figures() -> None:
    nothing = np.zeros((0, 2), dtype=bool)
    found = compare_assignments(nothing, nothing, ("shoe", "boot"), truth=nothing)
    assert found.frame()[["shift", "shift_low", "ratio"]].isna().all(axis=None)
    assert not found.unchanged.any()
    assert found.flips is not None
    assert math.isnan(found.flips.rate)
    assert math.isnan(found.flips.relative)


def test_flips_of_a_version_that_cannot_be_beaten_are_relative_to_nothing() -> None:
    perfect = count_flips(np.array([True, False]), np.array([True, True]))
    assert (0, 1) == (perfect.negative, perfect.positive)
    assert math.isnan(perfect.relative)
    assert 0.5 == count_flips(np.array([True, True]), np.array([True, False])).frame()["negative_flip_rate"][0]


def test_arrays_that_do_not_fit_are_refused() -> None:
    one, two = np.zeros((3, 2), dtype=bool), np.zeros((2, 2), dtype=bool)
    with pytest.raises(ValueError, match="of the same images"):
        compare_assignments(one, two, ("a", "b"))
    with pytest.raises(ValueError, match=r"old must be \(n, 1\) bool, not \(3, 2\) bool"):
        compare_assignments(one, one, ("a",))
    with pytest.raises(ValueError, match=r"new must be .* int64"):
        compare_assignments(one, one.astype(int), ("a", "b"))
    with pytest.raises(ValueError, match="row 0 has several categories"):
        compare_assignments(~one, one, ("a", "b"))
    with pytest.raises(ValueError, match="truth"):
        compare_assignments(one, one, ("a", "b"), truth=two)
    with pytest.raises(ValueError, match="margin 0"):
        compare_assignments(one, one, ("a", "b"), margin=0)
    with pytest.raises(ValueError, match="one length"):
        count_flips(one[:, 0], two[:, 0])
    with pytest.raises(ValueError, match="must be bool"):
        count_flips(one[:, 0].astype(int), one[:, 0])
    with pytest.raises(ValueError, match="square table"):
        compare_tables(np.array([[1, 2, 3], [1, 2, 3]]))


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1.0, 1.0001])
def test_a_ratio_that_no_number_of_images_shows_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        pairs_needed(ratio)


@pytest.mark.parametrize(
    ("events", "rate", "variation"), [(-1, 0.1, 0), (101, 0.1, 0), (1, 0.0, 0), (1, 0.5, 1.0), (1, 0.1, -0.1)]
)
def test_an_impossible_day_is_refused(events: int, rate: float, variation: float) -> None:
    with pytest.raises(ValueError, match=r"events must lie|varies by"):
        compare_day(events, 100, rate, variation)
