from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelled_runs import make_labelled
from workbench.canonical import binary32
from workbench.config.goals import Goals, Limit, PrevalenceGoal, RejectionGoal, TierGoal
from workbench.evaluation.grids import count_falling, roundest
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.operating import OperatingCurves
from workbench.evaluation.production import image_weights
from workbench.evaluation.thresholds import draft_thresholds
from workbench.records import MISSING, Rejection, Taxonomy

CATEGORIES = ("shoe", "boot", "bag")
TIERS = (
    TierGoal(action="review", metric="recall", at_least=0.9),
    TierGoal(action="accept", metric="precision", at_least=0.8),
)
MIX = PrevalenceGoal(shares={"shoe": 0.1, "boot": 0.2, "bag": 0.3, "unknown": 0.4})
COUNTED = PrevalenceGoal(counts={"shoe": 10, "boot": 20, "bag": 30, "unknown": 40})
RULE = Rejection("top", 0.45, unknown_label=False)


@cache
def make_rows(seed: int = 0, n: int = 400, weights: bool = False, mode: str = "single-label") -> Labelled:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, 3)) + 2 * (kind[:, None] == np.arange(3))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores[:3] = MISSING
    labels: list[tuple[str, ...]] = [(CATEGORIES[k],) if k < 3 else () for k in kind]
    if mode == "multi-label":
        labels = [
            (*shown, "bag") if "bag" not in shown and extra < 0.2 else shown
            for shown, extra in zip(labels, rng.random(n), strict=True)
        ]
    columns: dict[str, list[object]] = {
        "source": ["hats" if k == 3 and e < 0.5 else "" for k, e in zip(kind, rng.random(n), strict=True)]
    }
    if weights:
        columns["weight"] = list(rng.choice([1.0, 3.0], n))
    outcomes = ["ok"] * (n - 5) + ["corrupt"] * 5
    scores[-5:] = MISSING
    return make_labelled(
        labels,
        scores,
        taxonomy=Taxonomy(CATEGORIES, mode),  # type: ignore[arg-type]
        outcomes=outcomes,
        columns=columns,
    )


def curves_of(rows: Labelled, rule: Rejection = RULE, prevalence: PrevalenceGoal | None = None) -> OperatingCurves:
    return OperatingCurves(rows, Goals(below="pass", tiers=TIERS, prevalence=prevalence), rule)


thresholds = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.5, 1.0]))


@given(thresholds, st.integers(0, 5))
def test_counts_are_those_of_what_the_tier_sees(threshold: float, number: int) -> None:
    rows = make_rows()
    curves = curves_of(rows)
    point, column = curves.at(number, threshold), curves.column(number)
    usable = ~np.isnan(rows.scores).any(axis=1)
    scores = np.where(np.isnan(rows.scores), -1, rows.scores)
    sees = usable.copy()
    if number % 2:  # accept: assigned
        sees &= (scores.argmax(axis=1) == column) & (scores.max(axis=1) >= np.float32(0.45))
    fires, truth = sees & (scores[:, column] >= np.float32(threshold)), rows.truth[:, column]
    assert int(fires.sum()) == point.fired
    assert int((fires & truth).sum()) == point.true_positives
    assert int(truth.sum()) == point.positives
    assert point.false_negatives == int((truth & ~fires).sum())
    assert clopper_pearson(point.true_positives, point.positives) == (point.recall.low, point.recall.high)
    assert clopper_pearson(point.true_positives, point.fired) == (point.precision.low, point.precision.high)
    assert point.false_positives == sum(point.mistaken.values())
    assert point.false_negatives == sum(point.missed.values())
    assert int((truth & rows.answered).sum()) == point.answered


@given(st.integers(0, 5), st.integers(4, 40), st.booleans())
def test_every_point_of_a_curve_is_exact_and_its_round_threshold_lets_the_same_images_pass(
    number: int, most: int, mixed: bool
) -> None:
    curves = curves_of(make_rows(), prevalence=MIX if mixed else None)
    curve = curves.curve(number, most)
    whole = curves.curve(number)
    assert whole.complete
    assert len(curve.thresholds) <= most
    assert set(curve.thresholds) <= set(whole.thresholds)
    assert {whole.thresholds[0], whole.thresholds[-1]} <= set(curve.thresholds)
    for place, threshold in enumerate(curve.thresholds):
        point = curves.at(number, float(threshold))
        assert (point.true_positives, point.false_positives) == (
            curve.true_positives[place],
            curve.false_positives[place],
        )
        shown = point.in_production if mixed else point.precision
        assert shown is not None
        assert shown.value == pytest.approx(float(curve.precision[place]), abs=1e-6)
        assert point.recall.value == pytest.approx(float(curve.recall[place]), abs=1e-6)


def test_round_thresholds_are_the_roundest() -> None:
    curves = curves_of(make_rows())
    counts = count_falling(curves.reach(1), curves.rows.truth[:, 0])
    points = [*counts.points.tolist(), float(np.nextafter(np.float32(0), np.float32(-1)))]
    expected = [roundest(low, high) for high, low in pairwise(points)][::-1]
    assert expected == curves.curve(1).thresholds.tolist()


@pytest.mark.parametrize("prevalence", [MIX, COUNTED])
@given(thresholds, st.integers(0, 5))
def test_precision_in_production_is_that_of_drafting_and_lies_in_its_interval(
    prevalence: PrevalenceGoal, threshold: float, number: int
) -> None:
    rows = make_rows()
    curves = curves_of(rows, prevalence=prevalence)
    found = curves.at(number, threshold).in_production
    assert found is not None
    counts = count_falling(
        curves.reach(number),
        rows.truth[:, curves.column(number)],
        image_weights(rows, prevalence.record(), curves.column(number)),
    )
    fired = np.flatnonzero(counts.points >= np.float32(threshold))
    if len(fired):
        assert found.value == pytest.approx(counts.precision[fired[-1]])
        assert found.low <= found.value <= found.high
    else:
        assert math.isnan(found.value)
    assert 0 <= found.low <= found.high <= 1


def test_the_interval_in_production_holds_the_truth_as_often_as_it_says() -> None:
    """400 labelled sets from a population with known rates; the two-sided interval is conservative."""
    rng, held = np.random.default_rng(3), 0
    rates, shares = np.array([0.7, 0.1, 0.05, 0.02]), np.array([0.1, 0.2, 0.3, 0.4])
    true = shares[0] * rates[0] / (shares @ rates)
    for _ in range(400):
        kind = rng.integers(0, 4, 300)
        fires = rng.random(300) < rates[kind]
        scores = np.zeros((300, 3), dtype=np.float32)
        scores[:, 0] = np.where(fires, 0.9, 0.1)
        labels: list[tuple[str, ...]] = [(CATEGORIES[k],) if k < 3 else () for k in kind]
        rows = make_labelled(labels, scores, taxonomy=Taxonomy(CATEGORIES))
        found = curves_of(rows, Rejection("none", None, unknown_label=False), prevalence=MIX).at(0, 0.5).in_production
        assert found is not None
        held += found.low <= true <= found.high
    assert held >= 380


def test_a_draft_counts_what_the_curves_count() -> None:
    rows = make_rows()
    goals = Goals(
        below="pass",
        tiers=TIERS,
        prevalence=MIX,
        rejection=RejectionGoal(signal="top", known_rejected=Limit(at_most=0.3)),
    )
    draft = draft_thresholds(rows, goals, 400)
    curves = OperatingCurves(rows, goals, draft.rejection)
    assert [(tier.category, tier.action) for tier in draft.tiers] == [
        (name, tier.action) for name, tier in curves.tiers
    ]
    for number, tier in enumerate(draft.tiers):
        if tier.asked is not None:
            point = curves.at(number, tier.asked)
            trials = point.fired if tier.metric == "precision" else point.positives
            assert (tier.tune_trials, tier.tune_successes) == (trials, point.true_positives)
            assert tier.asked in curves.curve(number).thresholds


def test_weights_count_in_rates_and_not_in_counts() -> None:
    rows = make_rows(weights=True)
    point = curves_of(rows).at(0, 0.5)
    fires = rows.scores[:, 0] >= np.float32(0.5)
    weights = rows.frame["weight"].to_numpy()
    assert point.fired == fires.sum()
    assert point.precision.value == pytest.approx(weights[fires & rows.truth[:, 0]].sum() / weights[fires].sum())
    assert point.recall.value == pytest.approx(
        weights[fires & rows.truth[:, 0]].sum() / weights[rows.truth[:, 0]].sum()
    )


@pytest.mark.parametrize("number", range(6))
def test_a_curve_of_weighted_images_has_their_rates(number: int) -> None:
    curves = curves_of(make_rows(weights=True))
    curve = curves.curve(number, 8, including=[0.5, 0.77])
    for threshold, precision, recall in zip(curve.thresholds, curve.precision, curve.recall, strict=True):
        point = curves.at(number, float(threshold))
        assert (point.precision.value, point.recall.value) == (
            pytest.approx(float(precision), abs=1e-6),
            pytest.approx(float(recall), abs=1e-6),
        )


@given(thresholds, st.integers(0, 5))
def test_a_curve_includes_the_point_of_a_threshold_where_some_image_passes_it(threshold: float, number: int) -> None:
    curves = curves_of(make_rows())
    curve, point = curves.curve(number, 4, including=[threshold]), curves.at(number, threshold)
    fired = curve.true_positives + curve.false_positives
    assert not point.fired or point.fired in fired


def test_several_labels_are_each_told_as_mistaken() -> None:
    curves = curves_of(make_rows(mode="multi-label"))
    point = curves.at(0, 0.2)
    assert {"boot", "bag", "unknown", "unknown (hats)"} >= set(point.mistaken)
    assert point.false_negatives == sum(point.missed.values())


def test_the_histogram_holds_every_image_that_is_seen() -> None:
    curves = curves_of(make_rows())
    assert int((curves.reach(0) >= 0).sum()) == curves.histogram(0).sum()
    assert int(((curves.reach(1) >= 0) & curves.rows.truth[:, 0]).sum()) == curves.histogram(1)[0].sum()


def test_a_tier_that_is_not_there_and_a_threshold_that_cannot_be_are_refused() -> None:
    curves = curves_of(make_rows())
    with pytest.raises(KeyError, match="no tier 'accept' of 'hat'"):
        curves.number("hat", "accept")
    with pytest.raises(ValueError, match=r"\[0, 1\], not 1\.5"):
        curves.at(0, 1.5)
    assert binary32(0.3) == curves.at(curves.number("boot", "accept"), 0.3).threshold
