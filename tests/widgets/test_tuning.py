from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from labelled_runs import make_labelled
from workbench.config.goals import CostGoal, Goals, Limit, PrevalenceGoal, RejectionGoal, TierGoal
from workbench.errors import ConfigError, InputError
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.operating import OperatingCurves
from workbench.evaluation.routing import Routing
from workbench.evaluation.thresholds import draft_thresholds, read_draft, write_draft
from workbench.records import Rejection, Taxonomy
from workbench.widgets.tuning import Tuning, other_curves

CATEGORIES = ("shoe", "boot", "bag")
GOALS = Goals(
    below="pass",
    tiers=(
        TierGoal(action="review", metric="recall", at_least=0.9),
        TierGoal(action="accept", metric="precision", at_least=0.8),
    ),
    rejection=RejectionGoal(signal="top", known_rejected=Limit(at_most=0.3)),
    prevalence=PrevalenceGoal(shares={"shoe": 0.1, "boot": 0.2, "bag": 0.3, "unknown": 0.4}),
    costs=CostGoal(false_positive=5, false_negative=1, review=0.2),
)


@cache
def make_rows(n: int = 400) -> Labelled:
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, 3)) + 2.5 * (kind[:, None] == np.arange(3))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = [(CATEGORIES[k],) if k < 3 else () for k in kind]
    splits = ["certify" if row % 3 == 0 else "tune" for row in range(n)]
    return make_labelled(labels, scores, taxonomy=Taxonomy(CATEGORIES), splits=splits, complete=True)


def make_tuning() -> Tuning:
    return Tuning(make_rows(), GOALS)


def drafted() -> object:
    return draft_thresholds(make_rows(), GOALS, len(make_rows().on("certify")))


class Steps(RuleBasedStateMachine):
    """Whatever one does, undo and redo lead back and forth."""

    def __init__(self) -> None:
        super().__init__()
        self.tuning = make_tuning()
        self.past, self.future = [self.tuning.thresholds], list[object]()

    @rule(number=st.integers(0, 5), threshold=st.one_of(st.none(), st.floats(0, 1, width=32)), drags=st.integers(0, 2))
    def move(self, number: int, threshold: float | None, drags: int) -> None:
        for step in range(drags):
            self.tuning.move(number, step / 3, keep=False)
        self.tuning.move(number, threshold)
        if self.tuning.thresholds != self.past[-1]:
            self.past.append(self.tuning.thresholds)
            self.future.clear()

    @rule()
    def undo(self) -> None:
        self.tuning.undo()
        if len(self.past) > 1:
            self.future.append(self.past.pop())

    @rule()
    def redo(self) -> None:
        self.tuning.redo()
        if self.future:
            self.past.append(self.future.pop())

    @rule()
    def propose_all(self) -> None:
        self.tuning.propose_all()
        if self.tuning.thresholds != self.past[-1]:
            self.past.append(self.tuning.thresholds)
            self.future.clear()

    @invariant()
    def thresholds_are_what_was_kept_last(self) -> None:
        assert self.past[-1] == self.tuning.thresholds
        assert (len(self.past) > 1, bool(self.future)) == (self.tuning.history.can_undo, self.tuning.history.can_redo)

    def teardown(self) -> None:
        """In the end all figures are those of the thresholds that stand."""
        fresh = OperatingCurves(make_rows().on("tune"), GOALS, self.tuning.curves.rejection)
        assert Routing(fresh, self.tuning.thresholds).load() == self.tuning.load()
        for number, limit in enumerate(self.tuning.thresholds):
            point = self.tuning.point(number)
            assert (point is None) == (limit is None)
            if limit is not None and point is not None:
                assert fresh.at(number, limit) == point or np.isnan(point.precision.value)
                assert (point.true_positives, point.false_positives, point.positives) == self.tuning.counts(number)


test_steps = Steps.TestCase


def test_a_drag_that_was_left_is_a_step_of_its_own() -> None:
    tuning = make_tuning()
    start = tuning.thresholds
    tuning.move(0, 0.1, keep=False)
    assert tuning.can_undo
    tuning.undo()
    assert start == tuning.thresholds
    tuning.move(0, 0.1, keep=False)
    left = tuning.thresholds
    tuning.move(1, 0.5)
    tuning.undo()
    assert left == tuning.thresholds
    tuning.undo()
    assert start == tuning.thresholds
    assert not tuning.can_undo


test_steps.settings = settings(max_examples=settings().max_examples // 4, stateful_step_count=12)


def test_untouched_it_is_the_draft_of_the_command() -> None:
    assert drafted() == make_tuning().draft()


def test_moved_and_moved_back_it_is_the_draft_of_the_command(tmp_path: Path) -> None:
    tuning = make_tuning()
    tuning.move(1, 0.99)
    assert drafted() != tuning.draft()
    tuning.undo()
    tuning.write(tmp_path / "tuner.json")
    write_draft(drafted(), tmp_path / "command.json")  # type: ignore[arg-type]
    assert (tmp_path / "command.json").read_bytes() == (tmp_path / "tuner.json").read_bytes()


def test_the_draft_asks_for_what_was_moved_and_promises_the_same() -> None:
    tuning = make_tuning()
    tuning.move(1, 0.625)
    tuning.move(2, None)
    before, draft = tuning.proposed, tuning.draft()
    assert [0.625, None] == [draft.tiers[1].asked, draft.tiers[2].asked]
    assert [tier.at_least for tier in before] == [tier.at_least for tier in draft.tiers]
    untouched = [place for place in range(6) if place not in {1, 2}]
    assert [before[place].asked for place in untouched] == [draft.tiers[place].asked for place in untouched]


def test_a_rule_by_hand_reaches_the_draft() -> None:
    rule = Rejection("margin", 0.25, unknown_label=False)
    tuning = Tuning(make_rows(), GOALS, rule)
    assert rule == tuning.curves.rejection == tuning.draft().rejection


def test_another_goal_may_be_tried_and_one_that_is_out_of_reach_says_so() -> None:
    tuning = make_tuning()
    proposed = tuning.thresholds[1]
    assert "" == tuning.propose(1, 0.95)
    assert tuning.thresholds[1] is not None
    assert proposed is not None
    assert tuning.thresholds[1] > proposed
    assert "it is scarcely ever predicted on tune" == tuning.propose(1, 0.99999)
    assert "" == tuning.propose(1)
    assert proposed == tuning.thresholds[1]


@given(st.integers(0, 5), st.one_of(st.none(), st.floats(0, 1, width=32)), st.integers(1, 30))
def test_pictures_stand_on_their_side_mistakes_first_then_the_nearest(
    number: int, threshold: float | None, most: int
) -> None:
    tuning = make_tuning()
    tuning.move(number, threshold)
    above, below = tuning.near(number, most)
    limit = np.inf if threshold is None else np.float32(threshold)
    point = tuning.point(number)
    assert min(most, 0 if point is None else point.fired) == len(above)
    assert len(below) <= most
    assert all(seen.score >= limit for seen in above)
    assert all(seen.score < limit for seen in below)
    for side, first, sign in ((above, "false positive", 1), (below, "false negative", -1)):
        wrong = [seen.verdict == first for seen in side]
        assert sorted(wrong, reverse=True) == wrong
        for part in (True, False):
            scores = [sign * seen.score for seen, found in zip(side, wrong, strict=True) if found == part]
            assert sorted(scores) == scores
    if point is not None:
        assert min(most, point.false_positives) == sum(seen.verdict == "false positive" for seen in above)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_threshold_that_cannot_be_is_refused_and_nothing_moves(threshold: float) -> None:
    tuning = make_tuning()
    with pytest.raises(ConfigError, match="a threshold must lie between 0 and 1"):
        tuning.move(0, threshold)
    assert tuning.proposed[0].asked == tuning.thresholds[0]
    assert not tuning.history.can_undo


def test_a_draft_replaces_drafts_alone(tmp_path: Path) -> None:
    tuning, path = make_tuning(), tmp_path / "notes.json"
    path.write_text('{"mine": 1}')
    with pytest.raises(InputError, match=r"notes\.json: stands there already and is no draft"):
        tuning.write(path)
    assert '{"mine": 1}' == path.read_text()
    with pytest.raises(InputError, match=r"a draft is a \.json file"):
        tuning.write(tmp_path / "draft.txt")
    with pytest.raises(InputError, match="there is no such folder"):
        tuning.write(tmp_path / "nowhere" / "draft.json")
    tuning.write(tmp_path / "draft.json")
    tuning.move(1, 0.5)
    tuning.write(tmp_path / "draft.json")
    assert 0.5 == read_draft(tmp_path / "draft.json").tiers[1].asked


def test_without_certify_images_one_may_look_and_not_draft() -> None:
    tuning = Tuning(make_rows().on("tune"), GOALS)
    tuning.move(0, 0.5)
    with pytest.raises(ConfigError, match="no labelled images on certify"):
        tuning.draft()


def test_another_approach_keeps_its_own_rule() -> None:
    goals = GOALS.model_copy(update={"rejection": RejectionGoal(signal="entropy", known_rejected=Limit(at_most=0.3))})
    own = other_curves(make_rows(), goals)
    assert "entropy" == own.rejection.signal
    assert len(own.tiers) == 6


def test_the_table_has_a_row_per_tier() -> None:
    tuning = make_tuning()
    tuning.move(0, None)
    frame = tuning.frame()
    assert 6 == len(frame)
    assert np.isnan(frame["threshold"][0])
    assert 0 == frame["fired"][0]
    assert frame["measured_on"].str.contains("optimistic").all()
