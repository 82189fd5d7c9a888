from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from workbench.evaluation.intervals import lower_bound, upper_bound
from workbench.evaluation.prevalence import (
    Counts,
    Mix,
    count_kinds,
    mix_of,
    mixed_rate_bound,
    ppv_lower_bound,
    precision_bound,
    precision_p_values,
    proves,
    shares_from_sample,
)

NO_KINDS = np.zeros(0, dtype=np.int64)
UNLIKE = Mix(0.1, np.array([0.6, 0.3]), NO_KINDS)


def counted(true: list[int], positives: int, false: list[list[int]], negatives: list[int]) -> Counts:
    return Counts(np.array(true), positives, np.array(false), np.array(negatives))


# Published numbers


def test_precision_at_a_share_is_that_of_the_screening_table() -> None:
    """Sensitivity 20/30, specificity 1,820/2,000, a share of 30/2,030: precision .10, if seen without end."""
    assert 0.1 == pytest.approx(
        ppv_lower_bound(20 * 10**6, 30 * 10**6, 180 * 10**6, 2000 * 10**6, 30 / 2030, 0.05), abs=1e-3
    )
    assert ppv_lower_bound(20, 30, 180, 2000, 30 / 2030, 0.05) < 0.1


@pytest.mark.parametrize(("share", "bound"), [(0.1, 0.943), (0.01, 0.602), (0.001, 0.130)])
def test_lower_bounds_on_precision_at_a_share(share: float, bound: float) -> None:
    assert bound == round(ppv_lower_bound(180, 200, 4, 1800, share, 0.05), 3)
    mix = Mix(share, np.array([1 - share]), NO_KINDS)
    assert bound == round(float(precision_bound(counted([180], 200, [[4]], [1800]), mix, 0.05)[0]), 3)


def test_nothing_above_a_threshold_proves_nothing() -> None:
    assert 0.0 == ppv_lower_bound(0, 20, 0, 100, 0.5, 0.1)
    assert [0.0] == precision_bound(counted([0], 20, [[0]], [100]), Mix(0.5, np.array([0.5]), NO_KINDS), 0.1).tolist()


# Kinds


def test_kinds_are_counted_apart_and_the_category_s_own_kind_is_ignored() -> None:
    scores = np.array([0.9, 0.8, 0.8, 0.7, 0.2, -np.inf], dtype=np.float32)
    truth = np.array([True, False, True, False, False, False])
    found = count_kinds(scores, truth, np.array([7, 0, -1, 1, 1, 0]), 3, np.array([0.8, 0.5], dtype=np.float32))
    assert ([2, 2], 2) == (found.true_positives.tolist(), found.positives)
    assert [[1, 0, 0], [1, 1, 0]] == found.false_positives.tolist()
    assert [2, 2, 0] == found.negatives.tolist()
    assert [[1, 1, 0]] == found.at(slice(1, 2)).false_positives.tolist()


def test_one_kind_has_the_exact_bound() -> None:
    for events, trials in ((0, 50), (3, 200), (200, 200)):
        expected = 0.7 * float(upper_bound(events, trials, 0.05))
        assert expected == pytest.approx(
            mixed_rate_bound(np.array([events]), np.array([trials]), np.array([0.7]), 0.05)
        )


def test_a_kind_without_images_counts_in_full_and_one_without_a_share_not_at_all() -> None:
    assert 0.9 == pytest.approx(mixed_rate_bound(np.array([0, 0]), np.array([500, 0]), np.array([0.6, 0.3]), 0.05))
    both = mixed_rate_bound(np.array([1, 9]), np.array([500, 10]), np.array([0.6, 0.0]), 0.05)
    assert both == pytest.approx(mixed_rate_bound(np.array([1]), np.array([500]), np.array([0.6]), 0.05))
    assert 0.0 == mixed_rate_bound(np.array([1]), np.array([1]), np.array([0.0]), 0.05)


def test_kinds_in_production_s_proportions_cost_no_factor() -> None:
    """Hoeffding 1956: the binomial bound of all together, where it lies at least one event above the count."""
    together = 0.9 * float(upper_bound(6, 900, 0.05))
    found = mixed_rate_bound(np.array([2, 4]), np.array([600, 300]), np.array([0.6, 0.3]), 0.05)
    assert together == pytest.approx(found)
    limited = mixed_rate_bound(np.array([2, 4]), np.array([600, 300]), np.array([0.6, 0.3]), 0.45)
    assert 7 / 900 * 0.9 == pytest.approx(limited)
    assert limited > 0.9 * float(upper_bound(6, 900, 0.45))


# Laws

deltas = st.sampled_from([0.05, 0.1, 0.3])


@st.composite
def tables(draw: st.DrawFn) -> tuple[Counts, Mix]:
    kinds = draw(st.integers(1, 3))
    negatives = draw(st.lists(st.integers(0, 400), min_size=kinds, max_size=kinds))
    false = [[draw(st.integers(0, min(size, 12))) for size in negatives] for _ in range(3)]
    positives = draw(st.integers(0, 80))
    parts = draw(st.lists(st.integers(0, 5), min_size=kinds, max_size=kinds))
    share = draw(st.sampled_from([0.02, 0.2, 0.5]))
    others = (1 - share) * np.array(parts) / sum(parts) if sum(parts) else np.full(kinds, (1 - share) / kinds)
    true = draw(st.lists(st.integers(0, positives), min_size=3, max_size=3))
    return counted(true, positives, false, negatives), Mix(share, others, NO_KINDS, draw(st.sampled_from([0.0, 0.01])))


@settings(max_examples=25)
@given(tables(), deltas, st.sampled_from([0.3, 0.6, 0.9]))
def test_p_values_bounds_and_proofs_agree(table: tuple[Counts, Mix], delta: float, at_least: float) -> None:
    counts, mix = table
    passed = proves(counts, mix, at_least, delta)
    assert ((precision_p_values(counts, mix, at_least) <= delta) == passed).all()
    assert ((precision_bound(counts, mix, delta) >= at_least) == passed).all()


@settings(max_examples=25)
@given(tables(), deltas)
def test_bounds_rise_with_right_images_and_fall_with_false_ones(table: tuple[Counts, Mix], delta: float) -> None:
    counts, mix = table
    bound = precision_bound(counts, mix, delta)
    more = replace(counts, true_positives=np.minimum(counts.true_positives + 1, counts.positives))
    assert (precision_bound(more, mix, delta) >= bound - 1e-9).all()
    assert (precision_p_values(more, mix, 0.7) <= precision_p_values(counts, mix, 0.7) + 1e-9).all()
    more = replace(counts, false_positives=np.minimum(counts.false_positives + 1, counts.negatives))
    assert (precision_bound(more, mix, delta) <= bound + 1e-9).all()
    assert (precision_bound(counts, replace(mix, spent=mix.spent + 0.01), delta) <= bound + 1e-9).all()
    assert (precision_bound(counts, mix, delta + 0.1) >= bound - 1e-9).all()


def test_what_was_spent_on_shares_leaves_less_for_rates() -> None:
    counts, plain = counted([180], 200, [[4]], [1800]), Mix(0.1, np.array([0.9]), NO_KINDS)
    spent = replace(plain, spent=0.02)
    assert precision_bound(counts, plain, 0.03) == pytest.approx(precision_bound(counts, spent, 0.05))
    assert float(precision_p_values(counts, spent, 0.95)[0]) == pytest.approx(
        float(precision_p_values(counts, plain, 0.95)[0]) + 0.02
    )
    assert [False] == proves(counts, replace(plain, spent=0.05), 0.01, 0.05).tolist()


def test_no_positives_prove_nothing() -> None:
    counts = counted([0], 0, [[0]], [1800])
    mix = Mix(0.1, np.array([0.9]), NO_KINDS)
    assert [False] == proves(counts, mix, 0.1, 0.5).tolist()
    assert [1.0] == precision_p_values(counts, mix, 0.1).tolist()


# Promises


@pytest.mark.parametrize(
    ("positives", "recall", "negatives", "rates", "shares"),
    [
        (60, 0.8, [300], [0.02], [0.9]),
        (60, 0.8, [200, 100], [0.03, 0.001], [0.6, 0.3]),
        (60, 0.8, [150, 150], [0.001, 0.06], [0.7, 0.2]),
        (400, 0.95, [90, 30, 500], [0.3, 0.2, 0.0], [0.1, 0.3, 0.5]),
    ],
)
@pytest.mark.parametrize("delta", [0.05, 0.4])
def test_precision_just_below_the_goal_is_proven_no_oftener_than_said(
    positives: int, recall: float, negatives: list[int], rates: list[float], shares: list[float], delta: float
) -> None:
    share, runs, random = 1 - sum(shares), 20_000, np.random.default_rng(6)
    false = float(np.dot(shares, rates))
    truly = share * recall / (share * recall + false)
    counts = Counts(
        random.binomial(positives, recall, runs),
        positives,
        random.binomial(negatives, rates, (runs, len(rates))),
        np.array(negatives),
    )
    wrong = int(proves(counts, Mix(share, np.array(shares), NO_KINDS), truly + 1e-9, delta).sum())
    assert binom.sf(wrong - 1, runs, delta) > 1e-3
    bounds = precision_bound(counts.at(slice(2000)), Mix(share, np.array(shares), NO_KINDS), delta)
    assert binom.sf(int((bounds > truly).sum()) - 1, 2000, delta) > 1e-3


def test_the_bound_on_a_mixed_rate_holds_as_often_as_said() -> None:
    random, runs, delta = np.random.default_rng(8), 200, 0.2
    sizes, rates, shares = np.array([40, 80]), np.array([0.2, 0.05]), np.array([0.3, 0.6])
    drawn = random.binomial(sizes, rates, (runs, 2))
    wrong = sum(mixed_rate_bound(events, sizes, shares, delta) < float(shares @ rates) for events in drawn)
    assert binom.sf(wrong - 1, runs, delta) > 1e-3
    assert 0 < wrong


def test_shares_from_a_sample_hold_together_as_often_as_said() -> None:
    random, runs, delta = np.random.default_rng(5), 500, 0.2
    truly = np.array([0.1, 0.6, 0.3])
    wrong = 0
    for counts in random.multinomial(300, truly, runs):
        low, others = shares_from_sample(counts.tolist(), 0, delta)
        wrong += low > truly[0] or bool((others < truly[1:]).any())
    assert 0 < wrong
    assert binom.sf(wrong - 1, runs, delta) > 1e-3


def test_shares_from_a_sample_are_exact_bounds() -> None:
    low, others = shares_from_sample([30, 5, 65], 1, 0.1)
    assert float(lower_bound(5, 100, 0.05)) == low
    assert upper_bound(np.array([30, 65]), 100, 0.025).tolist() == others.tolist()


# Refusals


@pytest.mark.parametrize(
    ("mix", "fault"),
    [
        (0.0, "must lie between 0 and 1"),
        (1.0, "must lie between 0 and 1"),
        (float("nan"), "must lie between 0 and 1"),
        (Mix(0.1, np.array([np.nan]), np.zeros(3, dtype=int)), "must lie between 0 and 1"),
        (Mix(0.1, np.array([-0.1, 1.0]), np.zeros(3, dtype=int)), "must lie between 0 and 1"),
        (Mix(0.1, np.array([1.1]), np.zeros(3, dtype=int)), "must lie between 0 and 1"),
        (Mix(0.1, np.array([0.5, 0.3]), np.zeros(3, dtype=int)), r"sum to 0\.9, not to 1"),
        (Mix(0.1, np.array([0.9]), np.zeros(2, dtype=int)), r"kinds \(2,\) must name a kind for each of 3 images"),
        (Mix(0.1, np.array([0.9]), np.array([0, -1, 0])), r"must name a kind for each of 3 images"),
        (Mix(0.1, np.array([0.9]), np.array([0, 1, 0])), "there are 1 kinds of other images, and an image of kind 1"),
    ],
)
def test_mixes_that_cannot_be_are_refused(mix: float | Mix, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        mix_of(mix, np.array([True, False, False]))


def test_a_share_alone_is_a_mix_of_one_other_kind() -> None:
    found = mix_of(0.2, np.array([True, False]))
    assert (0.2, [0.8], [0, 0], 0.0) == (found.share, found.others.tolist(), found.kinds.tolist(), found.spent)
    whole = Mix(0.1, np.array([0.6, 0.3]), np.array([-1, 1]))
    assert whole is mix_of(whole, np.array([True, False]))
