from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from labelled_runs import make_dataset, make_labelled, make_run
from workbench.config.goals import Goals, Limit, RejectionGoal, TierGoal
from workbench.errors import ConfigError, InputError
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.rejection import measure_rejection
from workbench.evaluation.simulate import gate_scores
from workbench.evaluation.thresholds import choose_rejection, draft_thresholds
from workbench.records import CENSORED, MISSING, Rejection, Taxonomy
from workbench.widgets.exploration import BINS, MOST_POINTS, SEVERAL, Exploration
from workbench.widgets.explorer import RejectionExplorer
from workbench.widgets.tuner import ThresholdTuner

CATEGORIES = ("shoe", "boot", "<b>bag")
TAXONOMY = Taxonomy(CATEGORIES)
GOALS = Goals(
    below="pass",
    tiers=(TierGoal(action="accept", metric="precision", at_least=0.8),),
    rejection=RejectionGoal(signal="margin", known_rejected=Limit(at_most=0.3)),
)
SIGNALS = ("top", "margin", "entropy")


@cache
def make_parts(n: int = 400) -> dict[str, Any]:
    """Two sources of unknown images; some exact ties, and one answer that is missing."""
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 5, n)
    logits = rng.normal(size=(n, 3)) + 2.5 * (kind[:, None] == np.arange(3))
    scores = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    scores[::17] = np.float32([0.4, 0.4, 0.2])
    scores[1] = MISSING
    return {
        "labels": [(CATEGORIES[k],) if k < 3 else () for k in kind],
        "scores": scores,
        "splits": ["certify" if row % 3 == 0 else "tune" for row in range(n)],
        "columns": {"source": [("near" if k == 3 else "<i>far") if k > 2 else "" for k in kind]},
    }


@cache
def make_rows(n: int = 400, none_of_these: bool = False) -> Labelled:
    parts = dict(make_parts(n))
    unknown = np.random.default_rng(2).uniform(0, 0.7, n) if none_of_these else None
    return make_labelled(
        parts["labels"],
        parts["scores"],
        taxonomy=TAXONOMY,
        unknown=unknown,
        complete=True,
        splits=parts["splits"],
        columns=parts["columns"],
    )


def make_exploration(*, none_of_these: bool = False) -> Exploration:
    return Exploration(make_rows(none_of_these=none_of_these), GOALS)


def make_explorer(goals: Goals | None = GOALS) -> RejectionExplorer:
    parts = make_parts()
    dataset = make_dataset(parts["labels"], TAXONOMY, splits=parts["splits"], columns=parts["columns"])
    return RejectionExplorer(make_run(dataset, parts["scores"], complete=True), dataset, goals)


class Steps(RuleBasedStateMachine):
    """Whatever one does, undo and redo lead back and forth."""

    def __init__(self) -> None:
        super().__init__()
        self.exploration = make_exploration()
        self.past, self.future = [self._step()], list[object]()

    def _step(self) -> object:
        return self.exploration.signal, self.exploration.threshold

    def _stepped(self) -> None:
        if self._step() != self.past[-1]:
            self.past.append(self._step())
            self.future.clear()

    @rule(threshold=st.one_of(st.none(), st.floats(0, 1, width=32)), drags=st.integers(0, 2))
    def move(self, threshold: float | None, drags: int) -> None:
        for step in range(drags):
            self.exploration.move(step / 3, keep=False)
        self.exploration.move(threshold)
        self._stepped()

    @rule(signal=st.sampled_from(SIGNALS))
    def choose(self, signal: str) -> None:
        self.exploration.choose(signal)
        self._stepped()

    @rule()
    def undo(self) -> None:
        self.exploration.undo()
        if len(self.past) > 1:
            self.future.append(self.past.pop())

    @rule()
    def redo(self) -> None:
        self.exploration.redo()
        if self.future:
            self.past.append(self.future.pop())

    @invariant()
    def stands_where_the_steps_lead(self) -> None:
        assert self.past[-1] == self._step()
        assert (len(self.past) > 1) == self.exploration.history.can_undo
        assert bool(self.future) == self.exploration.history.can_redo


TestSteps = Steps.TestCase


def test_a_drag_that_was_left_can_be_undone() -> None:
    exploration = make_exploration()
    start = exploration.rule
    exploration.move(0.125, keep=False)
    assert exploration.can_undo
    exploration.undo()
    assert start == exploration.rule
    assert not exploration.can_undo


def test_it_starts_with_the_rule_that_drafting_chooses() -> None:
    assert choose_rejection(make_rows().on("tune"), GOALS) == make_exploration().rule


def test_without_goals_nothing_is_rejected_and_nothing_proposed() -> None:
    exploration = Exploration(make_rows())
    assert Rejection("none", None, False) == exploration.rule
    assert "there are no goals to choose a rule for" == exploration.propose()
    assert not exploration.history.can_undo


def test_goals_without_limits_have_nothing_to_propose() -> None:
    goals = GOALS.model_copy(update={"rejection": RejectionGoal(signal="none")})
    assert "limit neither" in Exploration(make_rows(), goals).propose()


@pytest.mark.parametrize("none_of_these", [False, True])
@pytest.mark.parametrize("signal", SIGNALS)
def test_every_point_of_a_curve_is_what_the_rule_does(signal: str, none_of_these: bool) -> None:
    exploration = make_exploration(none_of_these=none_of_these)
    exploration.choose(signal)
    curve = exploration.curves[exploration.signal]
    assert len(curve.thresholds) > 50
    for place, limit in enumerate(curve.thresholds.tolist()):
        exploration.move(limit)
        point = exploration.point()
        assert curve.known_rejected[place] == point.known_rejected
        assert curve.unknown_accepted[:, place].tolist() == point.unknown_accepted.tolist()
        told = exploration.unknown_told()
        assert told is not None
        assert exploration.told_curves[exploration.signal][:, place].tolist() == told.tolist()


@given(st.sampled_from(SIGNALS), st.one_of(st.none(), st.floats(0, 1, width=32)))
def test_told_is_what_the_tiers_drafted_without_a_rule_fire_on_and_the_rule_leaves(
    signal: str, threshold: float | None
) -> None:
    exploration = make_exploration()
    exploration.choose(signal)
    exploration.move(threshold)
    rows, tiers = exploration.rows, drafted_without_rule()
    top = rows.scores.argmax(axis=1)
    single = (rows.scores == rows.scores.max(axis=1, keepdims=True)).sum(axis=1) == 1
    fires = single & (rows.scores.max(axis=1) >= np.array([tiers[name] for name in CATEGORIES], dtype=np.float32)[top])
    left = fires & rows.unknown & ~exploration.gated().rejected
    sources = rows.frame["source"].to_numpy()
    expected = [int((left & (sources == source)).sum()) for source in exploration.sources]
    told = exploration.unknown_told()
    assert told is not None
    assert expected == told.tolist()
    frame = exploration.frame()
    assert expected == frame["count"][frame["rate"] == "unknown told"].tolist()


@cache
def drafted_without_rule() -> dict[str, float]:
    draft = draft_thresholds(make_rows(), GOALS, 100, rejection=Rejection("none", None, False, GOALS.rejection.action))
    return {tier.category: np.inf if tier.asked is None else tier.asked for tier in draft.tiers}


def test_without_goals_nothing_is_told() -> None:
    exploration = Exploration(make_rows())
    assert exploration.unknown_told() is None
    assert {"known rejected", "unknown accepted"} == set(exploration.frame()["rate"])


@given(st.sampled_from(SIGNALS), st.one_of(st.none(), st.floats(0, 1, width=32)), st.booleans())
def test_the_working_point_is_that_of_the_whole_measurement_and_of_the_gate(
    signal: str, threshold: float | None, none_of_these: bool
) -> None:
    exploration = make_exploration(none_of_these=none_of_these)
    exploration.choose(signal)
    exploration.move(threshold)
    tune = make_rows(none_of_these=none_of_these).on("tune")
    expected = measured(none_of_these).at(exploration.rule).frame()
    assert expected.equals(exploration.frame().iloc[: len(expected)])
    gated = gate_scores(tune.scores, tune.unknown_scores, tune.answered, exploration.rule, TAXONOMY)
    accepted = tune.unknown & gated.usable & ~gated.rejected
    assert int(accepted.sum()) == int(exploration.accepted().to_numpy().sum())


@cache
def measured(none_of_these: bool) -> Any:
    return measure_rejection(make_rows(none_of_these=none_of_these).on("tune"), resamples=5)


def test_a_cell_holds_the_images_it_counts() -> None:
    exploration = make_exploration()
    exploration.move(0.2)
    table = exploration.accepted()
    assert table.to_numpy().sum() > 0
    for source in table.index:
        for category in table.columns:
            found = exploration.cell(source, category, 1000)
            assert table.loc[source, category] == len(found)
            assert {source} >= {image.source for image in found}
            assert {category} >= {image.told for image in found}
            assert all(image.unknown and not image.rejected and image.wrong for image in found)
            values = [image.value for image in found]
            assert sorted(values, reverse=True) == values
    assert int(table.to_numpy().sum()) == len(exploration.cell(None, None, 1000))
    with pytest.raises(InputError, match="no unknown image is of source 'nowhere'"):
        exploration.cell("nowhere", None)
    with pytest.raises(InputError, match="there is no category 'sock'"):
        exploration.cell(None, "sock")


@given(st.sampled_from(SIGNALS), st.floats(0, 1, width=32), st.integers(0, 30))
def test_pictures_stand_on_their_side_the_nearest_first(signal: str, threshold: float, most: int) -> None:
    exploration = make_exploration()
    exploration.choose(signal)
    exploration.move(threshold)
    accepted, rejected = exploration.near(most)
    high = signal != "entropy"
    assert all((image.value >= threshold) == high or image.value == threshold for image in accepted)
    assert [image.value for image in accepted] == sorted((image.value for image in accepted), reverse=not high)
    seen = [image.value for image in rejected if not np.isnan(image.value)]
    assert seen == sorted(seen, reverse=high)
    assert all(np.isnan(image.value) for image in rejected[len(seen) :])
    assert all(image.wrong == (image.unknown != image.rejected) for image in (*accepted, *rejected))


def test_another_signal_is_looked_at_at_no_higher_cost() -> None:
    exploration = make_exploration()
    exploration.move(0.4)
    before = exploration.point().known_rejected
    exploration.choose("entropy")
    after = exploration.point().known_rejected
    assert before >= after > 0
    curve = exploration.curves["entropy"]
    assert not ((curve.known_rejected > after) & (curve.known_rejected <= before)).any()
    with pytest.raises(ConfigError, match="no signal 'none' fits"):
        exploration.choose("none")


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_threshold_that_cannot_be_is_refused_and_nothing_moves(threshold: float) -> None:
    exploration = make_exploration()
    before = exploration.rule
    with pytest.raises(ConfigError, match="a threshold of margin lies between 0 and 1"):
        exploration.move(threshold)
    assert before == exploration.rule
    assert not exploration.history.can_undo


def test_histograms_count_every_image_once() -> None:
    exploration = make_exploration(none_of_these=True)
    sizes = [exploration.point().known, *exploration.point().unknown]
    for signal in exploration.signals:
        counts, never = exploration.histogram(signal)
        assert (3, BINS) == counts.shape
        assert never.sum() > 0
        assert sizes == (counts.sum(axis=1) + never).tolist()


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    rows = make_rows(20_000)
    exploration = Exploration(rows)
    values = exploration.values["top"]
    curve = exploration.curves["top"]
    assert MOST_POINTS == len(curve.thresholds)
    assert values[values > -np.inf].min() == curve.thresholds[0]
    assert values.max() == curve.thresholds[-1]
    exploration.move(float(curve.thresholds[1000]))
    assert curve.known_rejected[1000] == exploration.point().known_rejected


def test_multi_label_knows_the_top_score_alone_and_may_tell_several() -> None:
    taxonomy = Taxonomy(("cat", "dog"), mode="multi-label")
    scores = [[0.9, 0.2], [0.6, 0.6], [0.3, 0.8], [CENSORED, CENSORED]]
    exploration = Exploration(make_labelled([("cat",), (), (), ()], scores, taxonomy=taxonomy))
    assert ("top",) == exploration.signals
    exploration.move(0.5)
    assert {SEVERAL: 1, "dog": 1} == exploration.accepted().loc[""].to_dict()
    assert ["1.png"] == [image.image_id for image in exploration.cell("", SEVERAL)]
    exploration.move(None)
    assert 3 == exploration.point().unknown_accepted.sum()


def test_tune_needs_both_known_and_unknown_images() -> None:
    rows = make_rows()
    with pytest.raises(ConfigError, match="there are 0 known and"):
        Exploration(rows.rows(rows.unknown))
    with pytest.raises(ConfigError, match="and 0 unknown ones"):
        Exploration(rows.rows(~rows.unknown))


def test_the_bytes_are_the_curves_and_the_histograms() -> None:
    explorer = make_explorer()
    state = explorer.exploration
    for place in explorer._spec["signals"]:
        start, count, curve = 4 * place["start"], place["count"], state.curves[place["signal"]]
        limits = np.frombuffer(explorer._points, "<f4", count, start)
        counts = np.frombuffer(explorer._points, "<i4", 3 * count, start + 4 * count).reshape(3, count)
        told = np.frombuffer(explorer._points, "<i4", 2 * count, start + 16 * count).reshape(2, count)
        bars = np.frombuffer(explorer._points, "<u4", 3 * BINS, start + 24 * count).reshape(3, BINS)
        assert state.told_curves[place["signal"]].tolist() == told.tolist()
        assert curve.thresholds.tolist() == limits.tolist()
        assert curve.known_rejected.tolist() == counts[0].tolist()
        assert curve.unknown_accepted.tolist() == counts[1:].tolist()
        assert state.histogram(place["signal"])[0].tolist() == bars.tolist()


def test_what_stands_in_the_widget_is_the_exact_working_point() -> None:
    explorer = make_explorer()
    explorer.move(0.25)
    point = explorer.point()
    assert 0.25 == explorer._state["threshold"]
    assert point.known_rejected == explorer._state["known_rejected"]
    assert point.unknown_accepted.tolist() == explorer._state["unknown_accepted"]
    assert explorer.accepted().to_numpy().tolist() == explorer._state["accepted"]
    explorer.undo()
    assert choose_rejection(make_rows().on("tune"), GOALS) == explorer.rule


def test_questions_of_the_browser_are_checked() -> None:
    explorer = make_explorer()
    before = explorer.rule
    for threshold in ("high", True, [0.5]):
        with pytest.raises(InputError, match="is no threshold"):
            explorer._move({"threshold": threshold, "signal": "margin"})
    explorer._move({"threshold": 0.9, "signal": "top"})  # asked before the signal changed
    assert before == explorer.rule
    with pytest.raises(InputError, match="a cell is named by"):
        explorer._cell({"source": 3})
    items = explorer._cell({"source": "near", "category": None, "most": 5})["items"]
    assert 0 < len(items) <= 5
    assert {"unknown accepted"} == {item["mark"] for item in items}


def test_the_rule_is_what_the_tuner_takes(tmp_path: Path) -> None:
    explorer, parts = make_explorer(), make_parts()
    explorer.move(0.3)
    dataset = make_dataset(parts["labels"], TAXONOMY, splits=parts["splits"], columns=parts["columns"])
    tuner = ThresholdTuner(
        make_run(dataset, parts["scores"], complete=True),
        dataset,
        GOALS,
        rejection=explorer.rule,
        out=tmp_path / "a.json",
    )
    assert explorer.rule == tuner.tuning.curves.rejection


def test_the_still_picture_is_marked_optimistic_and_escaped() -> None:
    explorer = make_explorer()
    data, _ = explorer._repr_mimebundle_()
    assert "optimistic" in data["text/plain"]
    assert "rejected where margin <" in data["text/plain"]
    assert "<i>far" not in data["text/html"]
    assert "&lt;i&gt;far" in data["text/html"]
    assert data["image/png"]
