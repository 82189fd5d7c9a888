from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelled_runs import make_labelled
from workbench.errors import RunError
from workbench.evaluation.costs import Costs, cheapest, cheapest_thresholds
from workbench.records import CENSORED, MISSING, Rejection, Taxonomy

PRICES = Costs(false_positive=10, false_negative=5, review=1)
prices = st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0])
any_costs = st.builds(Costs, prices, prices, prices)
levels = st.sampled_from([CENSORED, 0.0, 0.25, 0.5, 0.75, 1.0])
rows_of_one = st.lists(st.tuples(levels, st.booleans(), st.booleans()), min_size=1, max_size=9)


def price(
    reach: np.ndarray,
    acting: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray,
    costs: Costs,
    share: float,
    pair: tuple,
) -> float:
    """The cost of two thresholds, image by image."""
    flag, act = pair
    totals = {True: weights[truth].sum(), False: weights[~truth].sum()}
    cost = 0.0
    for score, can_act, shows, weight in zip(reach, acting, truth, weights, strict=True):
        counts = (share if shows else 1 - share) * weight / totals[bool(shows)]
        if can_act and score > CENSORED and score >= act:
            cost += counts * (0 if shows else costs.false_positive)
        elif score > CENSORED and score >= flag:
            cost += counts * costs.review
        else:
            cost += counts * (costs.false_negative if shows else 0)
    return cost


@settings(max_examples=300)
@given(rows_of_one, any_costs, st.sampled_from([None, 0.01, 0.3, 0.9]), st.data())
def test_no_pair_of_thresholds_is_cheaper(
    rows: list[tuple[float, bool, bool]], costs: Costs, share: float | None, data: st.DataObject
) -> None:
    reach, truth, acting = (np.array(column) for column in zip(*rows, strict=True))
    weights = np.array(data.draw(st.lists(st.sampled_from([1.0, 2.5]), min_size=len(rows), max_size=len(rows))))
    if share is not None and truth.all() | ~truth.any():
        with pytest.raises(ValueError, match=r"no row (shows|lacks) the category"):
            cheapest(reach, truth, costs, share, weights)
        return
    found = cheapest(reach, truth, costs, share, weights, act_reach=np.where(acting, reach, CENSORED))
    pi = float(weights[truth].sum() / weights.sum()) if share is None else share
    points = [*sorted({score for score in reach if score > CENSORED}), math.inf]
    pairs = [(flag, act) for flag in points for act in points if flag <= act]
    known = {pair: price(reach, acting, truth, weights, costs, pi, pair) for pair in pairs}
    chosen = tuple(math.inf if threshold is None else threshold for threshold in (found.flag, found.act))
    assert min(known.values()) == pytest.approx(found.expected_cost)
    assert known[chosen] == pytest.approx(found.expected_cost)
    equal = [(act, flag) for (flag, act), cost in known.items() if cost <= min(known.values()) + 1e-9]
    assert max(equal) == (chosen[1], chosen[0])
    assert 1 == pytest.approx(found.passed + found.reviewed + found.acted)
    assert found.band_empty == (abs(found.reviewed) < 1e-12)


@given(rows_of_one, any_costs)
def test_the_curves_touch_the_least_cost(rows: list[tuple[float, bool, bool]], costs: Costs) -> None:
    reach, truth, _ = (np.array(column) for column in zip(*rows, strict=True))
    found = cheapest(reach, truth, costs)
    for curve, threshold in ((found.cost_by_flag, found.flag), (found.cost_by_act, found.act)):
        assert (curve >= found.expected_cost - 1e-9).all()
        if threshold is not None:
            assert found.expected_cost == pytest.approx(curve[found.thresholds == np.float32(threshold)][0])
    assert found.expected_cost <= min(found.pass_all, 1e9) + 1e-9
    if (reach > CENSORED).all():
        assert found.expected_cost <= min(found.review_all, found.act_all) + 1e-9


def test_a_worked_example() -> None:
    """Reviewing pays between 1/5 and 9/10: below, passing is cheaper; above, acting is."""
    scores = np.repeat([0.1, 0.5, 0.95], 20)
    truth = np.concatenate([np.arange(20) < shown for shown in (2, 10, 19)])
    found = cheapest(scores, truth, PRICES)
    assert (0.5, float(np.float32(0.95))) == (found.flag, found.act)
    assert (2 * 5 + 20 * 1 + 1 * 10) / 60 == pytest.approx(found.expected_cost)
    assert [1 / 3] * 3 == pytest.approx([found.passed, found.reviewed, found.acted])
    assert (5 * 31 / 60, 1, 10 * 29 / 60) == pytest.approx((found.pass_all, found.review_all, found.act_all))
    assert (float(np.float32(0.1)), 0.5) == (found.flag_above, found.act_above)


def test_prevalence_moves_the_thresholds() -> None:
    """A set that is half positives, for a production of 1 in 100: the act threshold goes up, and so does the flag."""
    random = np.random.default_rng(3)
    truth = np.arange(4_000) < 2_000
    scores = np.where(truth, random.beta(5, 2, 4_000), random.beta(2, 5, 4_000)).astype(np.float32)
    half, rare = (cheapest(scores, truth, PRICES, share) for share in (None, 0.01))
    assert half.act is not None
    assert half.flag is not None
    assert rare.flag is not None
    assert half.flag < rare.flag
    assert rare.act is None or half.act < rare.act
    assert 0.5 == half.share
    assert rare.expected_cost < 0.05 == rare.pass_all


def test_the_band_collapses_where_review_is_dear() -> None:
    scores = np.repeat([0.1, 0.5, 0.95], 20)
    truth = np.concatenate([np.arange(20) < shown for shown in (2, 10, 19)])
    found = cheapest(scores, truth, Costs(1, 1, 100))
    assert found.band_empty
    assert found.flag == found.act == float(np.float32(0.95))
    assert 0 == pytest.approx(found.reviewed)


def test_where_nothing_pays_everything_passes() -> None:
    found = cheapest(np.array([0.2, 0.9, CENSORED]), np.array([False, False, True]), PRICES)
    assert (None, None) == (found.flag, found.act)
    assert found.pass_all == found.expected_cost
    assert found.band_empty
    blocked = cheapest(np.full(2, CENSORED), np.array([False, True]), PRICES)
    assert (None, 0) == (blocked.flag, len(blocked.thresholds))


def test_fresh_images_cost_more_than_told_and_lie_in_the_interval() -> None:
    random = np.random.default_rng(7)

    def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
        truth = random.random(n) < 0.3
        return np.where(truth, random.beta(4, 2, n), random.beta(2, 4, n)).astype(np.float32), truth

    fresh, shown = sample(100_000)
    gaps, told, covered, unmoved = [], [], 0, 0
    for seed in range(40):
        found = cheapest(*sample(150), PRICES, 0.3, resamples=100, seed=seed)
        flag, act = (math.inf if threshold is None else threshold for threshold in (found.flag, found.act))
        acted, flagged = fresh >= act, fresh >= flag
        cost = np.where(acted, 10.0 * ~shown, np.where(flagged, 1.0, 5.0 * shown))
        real = 0.3 * cost[shown].mean() + 0.7 * cost[~shown].mean()
        gaps.append(real - found.expected_cost)
        told.append(found.optimism)
        covered += found.interval[0] <= real <= found.interval[1]
        unmoved += found.interval[0] <= real + found.optimism <= found.interval[1]
    assert 0 < np.mean(gaps)
    assert 0.4 < np.mean(told) / np.mean(gaps) < 2.5
    assert max(28, unmoved + 5) <= covered


def test_groups_are_resampled_together() -> None:
    scores, truth = np.tile([0.1, 0.4, 0.6, 0.9], 30), np.tile([False, True, False, True], 30)
    truth[7] = True
    alone = cheapest(scores, truth, PRICES, resamples=200)
    grouped = cheapest(scores, truth, PRICES, resamples=200, groups=np.arange(120) // 40)
    assert alone.expected_cost == grouped.expected_cost
    assert alone.interval == cheapest(scores, truth, PRICES, resamples=200).interval
    assert alone.interval != grouped.interval


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"reach": [0.5, 1.5]}, r"reach must lie in \[0, 1\]"),
        ({"reach": [0.5, MISSING]}, r"reach must lie in \[0, 1\]"),
        ({"reach": [0.5]}, "must have one shape"),
        ({"reach": [], "truth": []}, "at least one image"),
        ({"weights": [1.0, 0.0]}, "weights must be finite numbers above 0"),
        ({"share": 1.5}, r"must lie in \[0, 1\], not 1.5"),
        ({"act_reach": [0.4, 0.5]}, "act_reach must be −inf or equal reach"),
        ({"truth": [True, True], "share": 0.5}, "no row lacks the category, so a share of 0.5"),
        ({"truth": [False, False], "share": 0.5}, "no row shows the category, so a share of 0.5"),
        ({"groups": [1], "resamples": 5}, r"groups \(1,\) must have the shape of truth \(2,\)"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], fault: str) -> None:
    given = {"reach": [0.5, 0.9], "truth": [False, True], **change}
    arrays = {name: np.array(value) if isinstance(value, list) else value for name, value in given.items()}
    with pytest.raises(ValueError, match=fault):
        cheapest(costs=PRICES, **arrays)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_costs_are_finite_and_not_negative(value: float) -> None:
    with pytest.raises(ValueError, match="the cost review must be a finite number, 0 or more"):
        Costs(1, 1, value)


def test_thresholds_of_a_category_are_proposed_on_tune_alone() -> None:
    random = np.random.default_rng(1)
    taxonomy = Taxonomy(("shoe", "boot"))
    labels: list[tuple[str, ...]] = [("shoe",) if shown else ("boot",) for shown in random.random(600) < 0.4]
    shoe = np.where([shown == ("shoe",) for shown in labels], random.beta(5, 2, 600), random.beta(2, 5, 600))
    scores = np.stack([shoe, 1 - shoe], axis=1)
    scores[3] = MISSING
    labelled = make_labelled(labels, scores, taxonomy=taxonomy, splits=["tune", "certify"] * 300)
    found = cheapest_thresholds(labelled, "shoe", PRICES, 0.2, resamples=20)
    tune = labelled.on("tune").usable
    assert int(tune.sum()) == found.images
    assert "tune (optimistic: the tune split chose thresholds)" == found.measured_on
    assert found.act is not None
    assert 0.5 < found.act
    assert found.frame()["likely_cost_low"][0] <= found.likely_cost <= found.frame()["likely_cost_high"][0]
    again = cheapest_thresholds(labelled.on("tune"), "shoe", PRICES, 0.2, resamples=20)
    assert found.frame().equals(again.frame())
    with pytest.raises(KeyError, match="no category is called 'hat'"):
        cheapest_thresholds(labelled, "hat", PRICES)
    with pytest.raises(RunError, match="proposed on tune"):
        cheapest_thresholds(labelled.on("certify"), "shoe", PRICES)


def test_a_flag_reaches_where_acting_does_not() -> None:
    """A rejected image is never acted on, but it can be flagged."""
    labels: list[tuple[str, ...]] = [("shoe",), ("shoe",), ("boot",), ("boot",)] * 10
    scores = [[0.45, 0.55], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8]] * 10
    labelled = make_labelled(labels, scores, taxonomy=Taxonomy(("shoe", "boot")))
    found = cheapest_thresholds(labelled, "shoe", PRICES, rejection=Rejection("top", 0.6, unknown_label=False))
    assert (0.25, 0.25, 0.5) == pytest.approx((found.acted, found.reviewed, found.passed))
    assert 0.25 == pytest.approx(found.expected_cost)


def test_the_cost_plot_marks_the_choice() -> None:
    found = replace(cheapest(np.linspace(0, 1, 50), np.arange(50) > 20, PRICES), category="shoe")
    ax = found.plot()
    assert "Cost by threshold, shoe" == ax.get_title(loc="left")
    legend = ax.get_legend()
    assert legend is not None
    assert ["flag from here", "act from here"] == [text.get_text() for text in legend.get_texts()]
