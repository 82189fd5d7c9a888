"""`ThresholdTuner` without a browser: what travels to it, and what its questions do."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelled_runs import make_dataset, make_run
from panels import ask
from samples import T, make_origin, make_policy
from workbench.canonical import binary32
from workbench.config.goals import Goals, Limit, PrevalenceGoal, RejectionGoal, TierGoal
from workbench.dataset.images import Dataset
from workbench.errors import InputError
from workbench.evaluation.labelled import join
from workbench.evaluation.operating import OperatingCurves
from workbench.evaluation.thresholds import draft_thresholds
from workbench.predictions import PredictionTable
from workbench.records import Policy, Taxonomy
from workbench.widgets.tuner import BINS, ThresholdTuner
from workbench.widgets.tuning import MOST_POINTS

CATEGORIES = ("shoe", "<b>boot", "bag")
TAXONOMY = Taxonomy(CATEGORIES)
GOALS = Goals(
    below="pass",
    tiers=(
        TierGoal(action="review", metric="recall", at_least=0.9),
        TierGoal(action="accept", metric="precision", at_least=0.8),
    ),
    rejection=RejectionGoal(signal="top", known_rejected=Limit(at_most=0.3)),
    prevalence=PrevalenceGoal(shares={"shoe": 0.1, "<b>boot": 0.2, "bag": 0.3, "unknown": 0.4}),
)


def make_data(n: int = 300, seed: int = 1) -> tuple[PredictionTable, Dataset]:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, 3)) + 2.5 * (kind[:, None] == np.arange(3))
    scores = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).round(3)
    labels = [(CATEGORIES[k],) if k < 3 else () for k in kind]
    splits = ["certify" if row % 3 == 0 else "tune" for row in range(n)]
    dataset = make_dataset(labels, TAXONOMY, splits=splits)
    return make_run(dataset, scores, complete=False, origin=make_origin(TAXONOMY)), dataset


def make_tuner(n: int = 300, seed: int = 1, **options: Any) -> ThresholdTuner:
    return ThresholdTuner(*make_data(n, seed), GOALS, **options)


@cache
def kept() -> ThresholdTuner:
    """One tuner for many examples; each sets all that it reads."""
    return make_tuner()


def curves_of(tuner: ThresholdTuner) -> OperatingCurves:
    """The same curves, made anew."""
    labelled = tuner.tuning.labelled
    draft = draft_thresholds(labelled, GOALS, len(labelled.on("certify")))
    return OperatingCurves(labelled.on("tune"), GOALS, draft.rejection)


@settings(max_examples=10)
@given(n=st.integers(30, 400), seed=st.integers(0, 99))
def test_the_bytes_are_exact_points_and_the_histograms(n: int, seed: int) -> None:
    tuner = make_tuner(n, seed)
    curves = curves_of(tuner)
    for number, tier in enumerate(tuner._spec["tiers"]):
        place = tuner._spec["curves"][tier["curve"]]
        start, count = 4 * place["start"], place["count"]
        assert count <= MOST_POINTS

        def column(kind: str, at: int, start: int = start, count: int = count) -> np.ndarray:
            return np.frombuffer(tuner._points, kind, count, start + 4 * count * at)

        thresholds, right, wrong = column("<f4", 0), column("<i4", 1), column("<i4", 2)
        assert (np.diff(thresholds) > 0).all()
        for point in range(0, count, max(1, count // 12)):
            exact = curves.at(number, float(thresholds[point]))
            assert (exact.true_positives, exact.false_positives) == (right[point], wrong[point])
            assert exact.in_production is not None
            assert np.float32(exact.in_production.value) == pytest.approx(column("<f4", 3)[point], nan_ok=True)
            assert np.float32(exact.recall.value) == pytest.approx(column("<f4", 4)[point], nan_ok=True)
        bars = np.frombuffer(tuner._points, "<u4", 3 * BINS, start + 20 * count).reshape(3, BINS)
        assert curves.histogram(number, BINS).tolist() == bars.tolist()


@given(number=st.integers(0, 5), threshold=st.floats(0, 1, width=32))
def test_the_state_is_what_evaluation_says_at_the_threshold(number: int, threshold: float) -> None:
    tuner = kept()
    assert "error" not in ask(tuner, "move", tier=number, threshold=threshold)
    assert number == tuner._state["looked_at"]
    shown, exact = tuner._state["points"][number], tuner.tuning.curves.at(number, threshold)
    assert binary32(shown["threshold"]) == threshold
    for name in ("fired", "true_positives", "false_positives", "false_negatives", "positives", "answered"):
        assert getattr(exact, name) == shown[name]
    for name in ("precision", "recall", "in_production"):
        rate = getattr(exact, name)
        expected = [None if math.isnan(value) else value for value in (rate.value, rate.low, rate.high)]
        assert expected == pytest.approx(shown[name], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("move", {"tier": 0, "threshold": "0.5"}),
        ("move", {"tier": 0, "threshold": True}),
        ("move", {"tier": 0, "threshold": math.nan}),
        ("move", {"tier": 0, "threshold": math.inf}),
        ("move", {"tier": 0, "threshold": 1.5}),
        ("move", {"tier": 0, "threshold": -0.1}),
        ("move", {"tier": 0, "threshold": [0.5]}),
        ("move", {"tier": 6, "threshold": 0.5}),
        ("move", {"tier": -1, "threshold": 0.5}),
        ("move", {"tier": "0", "threshold": 0.5}),
        ("move", {"tier": True, "threshold": 0.5}),
        ("move", {"tier": 0.5, "threshold": 0.5}),
        ("move", {"threshold": 0.5}),
        ("select", {"tier": 99}),
        ("propose", {"tier": 0, "at_least": 7}),
        ("propose", {"tier": 0, "at_least": "a"}),
        ("near", {"tier": None}),
        ("write", {"path": "../draft.txt"}),
        ("write", {"path": "/nowhere/at/all/draft.json"}),
    ],
)
def test_a_question_that_makes_no_sense_changes_nothing(name: str, content: dict[str, Any]) -> None:
    tuner = make_tuner(60)
    before, history = dict(tuner._state), tuner.tuning.history.can_undo
    answer = ask(tuner, name, **content)
    assert answer["error"] == tuner._error
    assert answer["error"]
    assert (before, history) == (tuner._state, tuner.tuning.history.can_undo)


def test_undo_redo_and_propose_are_mirrored() -> None:
    tuner = make_tuner()
    start = tuner._state["thresholds"]
    ask(tuner, "move", tier=1, threshold=0.25)
    moved = tuner._state["thresholds"]
    assert [0.25, True, False] == [moved[1], tuner._state["undo"], tuner._state["redo"]]
    ask(tuner, "undo")
    assert [start, False, True] == [tuner._state[name] for name in ("thresholds", "undo", "redo")]
    ask(tuner, "redo")
    assert moved == tuner._state["thresholds"]
    ask(tuner, "propose", tier=1, at_least=None)
    assert start == tuner._state["thresholds"]
    ask(tuner, "move", tier=1, threshold=None)
    assert [None, None] == [tuner._state["thresholds"][1], tuner._state["points"][1]]
    ask(tuner, "propose_all")
    assert start == tuner._state["thresholds"]
    assert ask(tuner, "propose", tier=1, at_least=0.999999)["reason"]
    assert start == tuner._state["thresholds"]


def test_the_table_shows_the_precision_that_the_goal_is_judged_by() -> None:
    run, dataset = make_data()
    rng = np.random.default_rng(7)
    weighted = replace(dataset, frame=dataset.frame.assign(weight=rng.choice([1.0, 9.0], len(dataset))))
    for goals, images, name in (
        (GOALS, dataset, "precision_in_production"),
        (GOALS.model_copy(update={"prevalence": None}), weighted, "precision"),
    ):
        tuner = ThresholdTuner(make_run(images, run.scores, origin=run.info.origin), images, goals)
        for number, row in enumerate(tuner.frame().to_dict("records")):
            point = tuner.tuning.point(number)
            if point is None:
                assert math.isnan(row[name])
                continue
            rate = point.in_production if name == "precision_in_production" else point.precision
            assert rate is not None
            assert rate.value == pytest.approx(row[name], rel=1e-6)
            assert point.recall.value == pytest.approx(row["recall"], rel=1e-6)


def test_pictures_near_a_threshold_are_those_of_the_state() -> None:
    tuner = make_tuner()
    told = ask(tuner, "near", tier=1, most=5)
    above, below = tuner.tuning.near(1, 5)
    assert [[seen.image_id for seen in side] for side in (above, below)] == [
        [item["id"] for item in told[side]] for side in ("above", "below")
    ]
    assert all(item["wrong"] == item["mark"].startswith("false") for side in ("above", "below") for item in told[side])


def policy_of(tuner: ThresholdTuner) -> Policy:
    """Certified: shoes from 0.6 up; nothing of the others."""
    made = make_policy({"shoe": [T("accept", 0.6)]}, categories=CATEGORIES)
    return replace(made, origin=tuner.tuning.labelled.info.origin)


def test_certificates_are_those_of_the_policy_and_of_no_other_model() -> None:
    run, dataset = make_data()
    policy = policy_of(make_tuner())
    tuner = make_tuner(certified=policy)
    promised = [
        promise
        for promise in policy.evidence.promises
        if (promise.metric, promise.category, promise.action) == ("precision", "shoe", "accept")
    ]
    shown = tuner._spec["certified"]
    assert [promise.certified for promise in promised if promise.certified is not None] == [
        binary32(found["threshold"]) for found in shown
    ]
    for found in shown:
        assert ("shoe", "accept") == tuple(tuner._spec["tiers"][found["tier"]][name] for name in ("category", "action"))
        exact = tuner.tuning.curves.at(found["tier"], binary32(found["threshold"]))
        assert exact.recall.value == pytest.approx(found["recall"])
    other = replace(policy, origin=replace(policy.origin, model_version="v2"))
    with pytest.raises(InputError, match="'v2', this run is of"):
        ThresholdTuner(run, dataset, GOALS, certified=other)


def test_a_saved_notebook_shows_every_tier_and_runs_nothing() -> None:
    data, _ = make_tuner()._repr_mimebundle_()
    assert "3 categories, 200 images" in data["text/plain"]
    assert "<b>boot" not in data["text/html"]
    assert 2 == data["text/html"].count("&lt;b&gt;boot")
    assert data["text/html"].count("accept") == data["text/html"].count("review") == 3


def test_another_approach_is_seen_at_the_same_goals() -> None:
    run, dataset = make_data()
    other, _ = make_data(seed=1)
    tuner = ThresholdTuner(run, dataset, GOALS, against=join(other, dataset), per_day=100)
    assert len(tuner._spec["curves"]) == len(tuner._spec["other_curves"])
    assert 100 == tuner._spec["per_day"]
    with pytest.raises(InputError, match="per_day"):
        ThresholdTuner(run, dataset, GOALS, per_day=math.nan)
