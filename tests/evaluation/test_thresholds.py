from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples import NO_RULE, make_policy, make_table
from workbench.canonical import binary32, shortest_binary32
from workbench.config.goals import Goals, Limit, RejectionGoal, TierGoal
from workbench.errors import ConfigError, DocumentError
from workbench.evaluation.certify import precision_steps
from workbench.evaluation.intervals import lower_bound
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.thresholds import (
    draft_thresholds,
    out_of_reach,
    precision_grid,
    read_draft,
    roundest,
    write_draft,
)
from workbench.records import Rejection

CATEGORIES = ("shoe", "boot", "bag")
ACCEPT = TierGoal(action="accept", metric="precision", at_least=0.9)


def make_labelled(n: int = 900, seed: int = 0, **changes: object) -> Labelled:
    """Tune rows whose scores know the truth to some degree; a quarter is unknown."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, 3))
    logits[np.flatnonzero(truth < 3), truth[truth < 3]] += 3
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = make_table(make_policy({}, categories=CATEGORIES), scores)
    frame = table.frame[["image_id", "outcome"]].assign(
        split="tune", group=table.frame["image_id"], weight=1.0, source=np.where(truth == 3, "hats", "")
    )
    frame["labels"] = [(CATEGORIES[place],) if place < 3 else () for place in truth]
    return Labelled(
        taxonomy=table.info.taxonomy,
        info=table.info,
        frame=frame,
        scores=table.scores,
        unknown_scores=None,
        truth=truth[:, None] == np.arange(3),
        answered=np.ones(n, dtype=bool),
        unknown=truth == 3,
    )


@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_the_roundest_threshold_lies_above_the_next_lower_score(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if low == high:
        return
    found = roundest(low, high)
    assert low < found <= high
    assert binary32(found) == found
    assert len(repr(shortest_binary32(found))) <= max(len(repr(shortest_binary32(high))), 12)


def test_a_round_threshold_is_preferred() -> None:
    assert 0.7 == pytest.approx(roundest(0.6923, 0.7131), abs=1e-7)


def test_the_asked_threshold_reaches_the_goal_on_tune_and_a_lower_score_does_not() -> None:
    labelled = make_labelled()
    draft = draft_thresholds(labelled, Goals(below="review", tiers=(ACCEPT,)), 2000)
    top = labelled.scores.argmax(axis=1)
    for column, tier in enumerate(draft.tiers):
        assert tier.asked is not None
        mine = labelled.scores[:, column][top == column]
        right = labelled.truth[:, column][top == column]
        fires = mine >= np.float32(tier.asked)
        assert (fires.sum(), (fires & right).sum()) == (tier.tune_trials, tier.tune_successes)
        assert tier.tune_successes >= 0.9 * tier.tune_trials
        for lower in np.unique(mine[~fires]):
            assert right[mine >= lower].mean() < 0.9


def test_a_grid_falls_strictly_to_the_asked_threshold() -> None:
    draft = draft_thresholds(make_labelled(), Goals(below="review", tiers=(ACCEPT,)), 2000)
    for tier in draft.tiers:
        assert tier.asked == tier.grid[-1]
        assert sorted(set(tier.grid), reverse=True) == list(tier.grid)


def test_a_grid_looks_at_tune_alone() -> None:
    labelled = make_labelled()
    reach, truth = labelled.scores[:, 0], labelled.truth[:, 0]
    order = np.random.default_rng(1).permutation(len(reach))
    assert precision_grid(reach, truth, 0.5, 0.9, 0.01, 2.0) == precision_grid(
        reach[order], truth[order], 0.5, 0.9, 0.01, 2.0
    )


def test_drafts_of_the_same_goals_are_the_same_bytes(tmp_path: Path) -> None:
    goals = Goals(below="review", tiers=(ACCEPT,))
    for name in ("one", "other"):
        write_draft(draft_thresholds(make_labelled(), goals, 2000), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert draft_thresholds(make_labelled(), goals, 2000) == read_draft(tmp_path / "one")


def test_the_rejection_rule_keeps_both_limits_on_tune_where_it_can() -> None:
    labelled = make_labelled()
    rejection = RejectionGoal(signal="top", unknown_accepted=Limit(at_most=0.6), known_rejected=Limit(at_most=0.3))
    draft = draft_thresholds(labelled, Goals(below="review", tiers=(ACCEPT,), rejection=rejection), 2000)
    rejected = labelled.scores.max(axis=1) < np.float32(draft.rejection.threshold)
    assert rejected[~labelled.unknown].mean() <= 0.3
    assert {("unknown_accepted", "hats"), ("known_rejected", "")} == {(x.rate, x.source) for x in draft.limits}


def test_the_best_of_many_thresholds_looks_better_than_it_is() -> None:
    """Why figures of tune are called optimistic: precision is .90 at every threshold, and the best of 91 shows .94.

    The mean of 1,500 draws has a standard error of .0006; the tolerance is five of them.
    """
    rng, grid = np.random.default_rng(13), np.linspace(0.95, 0.05, 91, dtype=np.float32)
    best = []
    for _ in range(1500):
        scores, truth = rng.random(200).astype(np.float32), rng.random(200) < 0.9
        steps = precision_steps(scores, truth, 0.9, grid)
        best.append(max(step.successes / step.events for step in steps if step.events >= 20))
    assert 0.940 == pytest.approx(np.mean(best), abs=0.003)
    assert 1.0 == np.quantile(best, 0.95)


def test_without_a_signal_there_is_no_rule() -> None:
    assert NO_RULE == draft_thresholds(make_labelled(), Goals(below="review", tiers=(ACCEPT,)), 2000).rejection


def test_what_no_threshold_reaches_is_not_asked_and_costs_no_budget() -> None:
    hopeless = TierGoal(action="accept", metric="precision", at_least=0.9999)
    draft = draft_thresholds(
        make_labelled(), Goals(below="review", tiers=(ACCEPT,), category={"bag": (hopeless,)}), 2000
    )
    bag = draft.tiers[2]
    assert (None, None, ()) == (bag.asked, bag.confidence, bag.grid)
    assert bag.reason
    assert [0.975, 0.975] == [tier.confidence for tier in draft.tiers[:2]]


@pytest.mark.parametrize("certify", [30, 3000])
def test_promises_that_certify_has_too_few_images_for_are_told_before_a_look_is_spent(certify: int) -> None:
    labelled = make_labelled()
    draft = draft_thresholds(labelled, Goals(below="review", tiers=(ACCEPT,)), certify)
    told = out_of_reach(draft, certify / len(labelled))
    if certify == 3000:
        assert [] == told
        return
    assert len(draft.tiers) == len(told)
    for tier, words in zip(draft.tiers, told, strict=True):
        assert words.startswith(f"{tier.category}, accept: about ")
        assert tier.confidence is not None
        few, needed = (int(number) for number in re.findall(r"\b[0-9]+\b", words))
        delta = 1 - tier.confidence
        assert lower_bound(few, few, delta) < tier.at_least <= lower_bound(needed, needed, delta)


def test_nothing_to_tune_on_is_an_error() -> None:
    with pytest.raises(ConfigError, match="tune split"):
        draft_thresholds(make_labelled(), Goals(below="review", tiers=(ACCEPT,)), 0)


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": "1.0"}'])
def test_a_damaged_draft_names_its_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "draft.json").write_text(text)
    with pytest.raises(DocumentError, match=r"draft\.json"):
        read_draft(tmp_path / "draft.json")


def test_choosing_by_hand_what_tune_chose_gives_the_same_draft() -> None:
    goals = Goals(
        below="review",
        tiers=(TierGoal(action="review", metric="recall", at_least=0.9), ACCEPT),
        rejection=RejectionGoal(signal="top", known_rejected=Limit(at_most=0.3)),
    )
    draft = draft_thresholds(make_labelled(), goals, 2000)
    chosen = {(tier.category, tier.action): tier.asked for tier in draft.tiers}
    assert draft == draft_thresholds(make_labelled(), goals, 2000, asked=chosen, rejection=draft.rejection)


@given(st.floats(0, 1, width=32))
def test_a_threshold_by_hand_is_asked_and_counted(threshold: float) -> None:
    labelled = make_labelled()
    draft = draft_thresholds(
        labelled, Goals(below="review", tiers=(ACCEPT,)), 2000, asked={("boot", "accept"): threshold}
    )
    boot = draft.tiers[1]
    fires = (labelled.scores.argmax(axis=1) == 1) & (labelled.scores[:, 1] >= np.float32(threshold))
    assert (threshold, int(fires.sum())) == (boot.asked, boot.tune_trials)
    assert int((fires & labelled.truth[:, 1]).sum()) == boot.tune_successes
    assert boot.grid[-1] == threshold


def test_a_tier_set_aside_by_hand_asks_for_nothing_and_costs_no_budget() -> None:
    goals = Goals(below="review", tiers=(ACCEPT,))
    whole = draft_thresholds(make_labelled(), goals, 2000)
    draft = draft_thresholds(make_labelled(), goals, 2000, asked={("boot", "accept"): None})
    assert (None, "set aside by hand", ()) == (draft.tiers[1].asked, draft.tiers[1].reason, draft.tiers[1].grid)
    assert draft.tiers[0].confidence < whole.tiers[0].confidence


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({("hat", "accept"): 0.5}, "'hat', 'accept': the goals have no such tier"),
        ({("boot", "accept"): 1.5}, r"'boot', 'accept': a threshold must lie in \[0, 1\], not 1.5"),
        ({("boot", "accept"): float("nan")}, "not nan"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(chosen: dict[tuple[str, str], float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        draft_thresholds(make_labelled(), Goals(below="review", tiers=(ACCEPT,)), 2000, asked=chosen)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rejection("top", 0.4, unknown_label=True), "unknown_label = False"),
        (Rejection("top", 0.4, unknown_label=False, action="pass"), "action = 'review'"),
        (Rejection("top", None, unknown_label=False), "exactly where it has a signal"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(rule: Rejection, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        draft_thresholds(make_labelled(), Goals(below="review", tiers=(ACCEPT,)), 2000, rejection=rule)


def test_a_rule_by_hand_is_frozen_as_it_is() -> None:
    rule = Rejection("margin", binary32(0.25), unknown_label=False)
    assert (
        rule
        == draft_thresholds(make_labelled(), Goals(below="review", tiers=(ACCEPT,)), 2000, rejection=rule).rejection
    )
