"""The decision rule, clause by clause."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samples import ACTIONS, NO_RULE, T, ask, make_policy, policies, tables
from workbench.canonical import binary32
from workbench.decision import decide, origin_difference, signal_value
from workbench.errors import IdentityError
from workbench.records import (
    CENSORED,
    MISSING,
    OUTCOMES,
    PREPARATION_OUTCOMES,
    PROVIDER_OUTCOMES,
    Action,
    Rejection,
    Routing,
)

ACT = make_policy({"shoe": [T("review", 0.3, "any", "recall"), T("accept", 0.72)], "boot": [T("accept", 0.5)]})
TOP = Rejection("top", binary32(0.4), unknown_label=False)


def beside(threshold: float, end: float) -> float:
    return float(np.nextafter(np.float32(threshold), np.float32(end)))


# Scores


@pytest.mark.parametrize(
    ("score", "action"), [(beside(0.72, 0), "review"), (binary32(0.72), "accept"), (beside(0.72, 1), "accept")]
)
def test_a_tier_fires_at_its_threshold_and_not_one_step_below(score: float, action: str) -> None:
    assert action == decide(ask(ACT, shoe=score), ACT).action


def test_scores_are_rounded_to_binary32_before_anything_else_sees_them() -> None:
    assert binary32(0.72) > 0.72
    assert "accept" == decide(ask(ACT, shoe=0.72), ACT).action
    just_below_in_double = binary32(0.72) - 1e-12
    assert "accept" == decide(ask(ACT, shoe=just_below_in_double), ACT).action


@pytest.mark.parametrize("score", [1.7, -0.1, float("inf"), 1e300])
def test_a_score_outside_its_range_goes_to_review(score: float) -> None:
    decision = decide(ask(ACT, shoe=score), ACT)
    assert ("review", "missing", ()) == (decision.action, decision.code, decision.marks)


def test_a_censored_score_fires_nothing_even_at_threshold_zero() -> None:
    policy = make_policy({"shoe": [T("accept", 0.0)]})
    assert "accept" == decide(ask(policy, shoe=0.0), policy).action
    decision = decide(ask(policy, boot=0.9), policy)
    assert "pass" == decision.action


@pytest.mark.parametrize("shoe", [MISSING, None])
def test_a_missing_category_sends_the_image_to_review_and_no_tier_fires(shoe: float | None) -> None:
    prediction = ask(ACT, boot=0.9)
    scores = {name: score for name, score in prediction.scores.items() if name != "shoe"}
    scores |= {} if shoe is None else {"shoe": shoe}
    decision = decide(replace(prediction, scores=scores), ACT)
    assert ("review", "missing", (), ()) == (decision.action, decision.code, decision.marks, decision.labels)
    assert "'shoe'" in decision.reason


def test_a_score_for_an_unlisted_category_sends_the_image_to_review() -> None:
    decision = decide(ask(ACT, shoe=0.9, sandal=0.1), ACT)
    assert ("review", "unlisted", ()) == (decision.action, decision.code, decision.marks)
    assert "'sandal'" in decision.reason


# Where a prediction comes from, and what came of it


@pytest.mark.parametrize("field", ["approach", "model_version", "preparation", "taxonomy", "fingerprint"])
def test_a_prediction_of_another_origin_goes_to_review_or_raises_in_strict_mode(field: str) -> None:
    other = replace(ACT.origin, **{field: "e" * 64})
    prediction = replace(ask(ACT, shoe=0.99), origin=other)
    decision = decide(prediction, ACT)
    assert ("review", "origin", ()) == (decision.action, decision.code, decision.marks)
    assert "e" * 64 in decision.reason
    with pytest.raises(IdentityError, match="'image'"):
        decide(prediction, ACT, strict=True)


def test_a_prediction_that_does_not_say_where_it_comes_from_goes_to_review() -> None:
    decision = decide(replace(ask(ACT, shoe=0.99), origin=None), ACT)
    assert ("review", "origin") == (decision.action, decision.code)


@pytest.mark.parametrize("outcome", [*PREPARATION_OUTCOMES, *PROVIDER_OUTCOMES])
def test_an_image_without_an_answer_is_routed_by_its_outcome(outcome: str) -> None:
    assert ("review", "outcome") == _action(decide(ask(ACT, outcome), ACT))
    routed = replace(ACT, routing=Routing("pass", on_outcome={outcome: "escalate"}))
    assert ("escalate", "outcome") == _action(decide(ask(ACT, outcome), routed))


def test_an_image_set_aside_for_its_quality_has_a_route_of_its_own() -> None:
    routing = Routing("pass", on_quality="escalate", on_outcome={"low_quality": "review"})
    decision = decide(ask(ACT, "low_quality"), replace(ACT, routing=routing))
    assert ("escalate", "quality") == _action(decision)


def _action(decision: object) -> tuple[str, str]:
    return decision.action, decision.code  # type: ignore[attr-defined]


# Unknown


def test_single_label_a_tie_for_the_top_is_rejected_and_silences_assigned_tiers() -> None:
    decision = decide(ask(ACT, shoe=0.9, boot=0.9), ACT)
    assert ("review", "rejected", ("unknown",)) == (decision.action, decision.code, decision.labels)
    assert [("shoe", "review")] == [(mark.category, mark.action) for mark in decision.marks]


def test_single_label_all_censored_is_rejected() -> None:
    assert ("review", "rejected") == _action(decide(ask(ACT), ACT))


def test_a_category_that_is_not_the_top_fires_any_tiers_only() -> None:
    decision = decide(ask(ACT, shoe=0.8, boot=0.85), ACT)
    assert [("boot", "accept"), ("shoe", "review")] == [(mark.category, mark.action) for mark in decision.marks]
    assert ("boot",) == decision.labels


def test_top_below_the_limit_is_rejected_and_does_not_silence_a_flag() -> None:
    policy = replace(ACT, rejection=TOP)
    assert ("review", "rejected") == _action(decide(ask(policy, boot=beside(0.4, 0)), policy))
    at = decide(ask(policy, boot=binary32(0.4)), policy)
    assert ("pass", "below") == _action(at)
    flagged = decide(ask(policy, shoe=0.35), policy)
    assert ["shoe"] == [mark.category for mark in flagged.marks]
    assert ("unknown",) == flagged.labels


def test_margin_counts_a_censored_runner_up_as_zero() -> None:
    policy = replace(ACT, rejection=Rejection("margin", 0.25, unknown_label=False))
    assert "rejected" == decide(ask(policy, shoe=0.75, boot=beside(0.5, 1)), policy).code
    assert "fired" == decide(ask(policy, shoe=0.75, boot=0.5), policy).code
    assert "rejected" == decide(ask(policy, shoe=0.2), policy).code


def test_entropy_rejects_above_its_limit() -> None:
    policy = replace(ACT, rejection=Rejection("entropy", 0.5, unknown_label=False))
    assert 0.5 < signal_value([0.75, 0.25, 0.0], "entropy")
    assert "rejected" == decide(ask(policy, shoe=0.75, boot=0.25, bag=0.0), policy).code
    assert 0.5 > signal_value([0.9, 0.1, 0.0], "entropy")
    assert "fired" == decide(ask(policy, shoe=0.9, boot=0.1, bag=0.0), policy).code


def test_a_score_for_none_of_these_that_reaches_the_top_rejects() -> None:
    policy = replace(ACT, rejection=Rejection("none", None, unknown_label=True))
    assert "rejected" == decide(ask(policy, shoe=0.9, unknown=0.9), policy).code
    assert "fired" == decide(ask(policy, shoe=0.9, unknown=beside(0.9, 0)), policy).code
    assert "missing" == decide(ask(policy, shoe=0.9), policy).code


def test_rejection_takes_the_higher_of_what_fired_and_its_own_action() -> None:
    silent = replace(ACT, rejection=replace(TOP, action="pass"))
    flagged = decide(ask(silent, shoe=0.35), silent)
    assert ("review", "fired", ("unknown",)) == (flagged.action, flagged.code, flagged.labels)
    loud = replace(ACT, rejection=replace(TOP, action="escalate"))
    assert ("escalate", "rejected") == _action(decide(ask(loud, shoe=0.35), loud))


# What fires


def test_the_highest_rank_wins_and_marks_are_sorted_by_rank_score_and_order() -> None:
    tiers = [T("review", 0.1, "any"), T("escalate", 0.2, "any")]
    policy = make_policy({"shoe": tiers, "boot": tiers, "bag": [*tiers, T("accept", 0.9)]})
    decision = decide(ask(policy, shoe=0.3, boot=0.3, bag=0.4), policy)
    assert "escalate" == decision.action
    expected = [("bag", 2), ("shoe", 2), ("boot", 2), ("bag", 1), ("shoe", 1), ("boot", 1)]
    assert expected == [(mark.category, mark.rank) for mark in decision.marks]


def test_where_nothing_fires_the_policy_says_what_happens() -> None:
    assert ("pass", "below") == _action(decide(ask(ACT, bag=0.9), ACT))
    careful = replace(ACT, routing=Routing("review"))
    assert ("review", "below") == _action(decide(ask(careful, bag=0.9), careful))


def test_a_refused_tier_never_fires() -> None:
    policy = make_policy({"shoe": [T("accept", None)]})
    assert ("pass", "below") == _action(decide(ask(policy, shoe=1.0), policy))


def test_the_reason_says_what_was_compared() -> None:
    policy = make_policy({"shoe": [T("accept", 0.72)]})
    assert "shoe 0.61 < 0.72" == decide(ask(policy, shoe=0.61), policy).reason
    assert "shoe 0.8 ≥ 0.72" == decide(ask(ACT, shoe=0.8), ACT).reason


def test_the_reason_of_a_rejection_says_what_was_compared() -> None:
    policy = make_policy({"shoe": [T("accept", 0.72)]}, rejection=TOP)
    assert "rejected: top 0.3 < 0.4" == decide(ask(policy, shoe=0.3), policy).reason
    assert "rejected: no category is the one highest" == decide(ask(policy, shoe=0.9, boot=0.9), policy).reason
    unknown = make_policy({}, rejection=Rejection("none", None, unknown_label=True), mode="multi-label")
    labelled = {unknown.taxonomy.unknown: 0.5}
    assert (
        "rejected: 0.5 for none of the categories ≥ 0.25" == decide(ask(unknown, bag=0.25, **labelled), unknown).reason
    )
    found = decide(ask(unknown, **labelled), unknown)
    assert "rejected: 0.5 for none of the categories ≥ below its floor" == found.reason
    entropy = make_policy({}, rejection=Rejection("entropy", binary32(0.5), unknown_label=False))
    assert "rejected: entropy 0.562335 > 0.5" == decide(ask(entropy, shoe=0.75, boot=0.25, bag=0.0), entropy).reason


def test_an_entropy_of_just_the_limit_is_not_rejected() -> None:
    limit = signal_value([0.75, 0.25, 0.0], "entropy")
    policy = make_policy({}, rejection=Rejection("entropy", limit, unknown_label=False))
    assert "below" == decide(ask(policy, shoe=0.75, boot=0.25, bag=0.0), policy).code


def test_the_reason_of_what_falls_below_names_the_highest_category() -> None:
    single = make_policy({"shoe": [T("accept", 0.72)], "boot": [T("accept", 0.8)]})
    assert "boot 0.6 < 0.8" == decide(ask(single, shoe=0.3, boot=0.6), single).reason
    multi = make_policy({"shoe": [T("accept", 0.72)], "boot": [T("accept", 0.8)]}, mode="multi-label")
    assert "boot 0.6 < 0.8" == decide(ask(multi, shoe=0.3, boot=0.6), multi).reason


def test_the_reason_of_an_outcome_tells_its_detail() -> None:
    failed = ask(ACT, PROVIDER_OUTCOMES[0])
    assert PROVIDER_OUTCOMES[0] == decide(failed, ACT).reason
    told = replace(failed, detail="the service was busy")
    assert f"{PROVIDER_OUTCOMES[0]}: the service was busy" == decide(told, ACT).reason


def test_the_reason_of_a_score_outside_its_range_gives_it() -> None:
    assert "score 1.5 of 'shoe' is not in [0, 1]" == decide(ask(ACT, shoe=1.5), ACT).reason


def test_a_tier_that_does_not_fire_does_not_silence_the_next() -> None:
    refused = make_policy({"shoe": [T("review", None, "any", "recall"), T("accept", 0.72)]})
    assert "accept" == decide(ask(refused, shoe=0.8), refused).action
    other = make_policy({"shoe": [T("review", 0.2), T("escalate", 0.3, "any")]})
    assert "escalate" == decide(ask(other, shoe=0.5, boot=0.6), other).action


def test_the_one_highest_category_is_named_below_though_another_has_more_tiers() -> None:
    policy = make_policy({"shoe": [T("accept", 0.9)]}, rejection=Rejection("none", None, unknown_label=True))
    scores = {policy.taxonomy.unknown: 0.1, "boot": 0.5, "shoe": 0.3}
    assert "boot 0.5: no certified threshold" == decide(ask(policy, **scores), policy).reason


def test_a_silenced_tier_does_not_silence_the_next() -> None:
    """Two labels and a rejection: the automatic tier is silent, the human one after it is not."""
    actions = (Action("pass", 0, "automatic"), Action("accept", 1, "automatic"), Action("review", 2, "human"))
    policy = make_policy(
        {"shoe": [T("accept", 0.2, "any"), T("review", 0.3, "any")]}, mode="multi-label", rejection=TOP, actions=actions
    )
    found = decide(ask(policy, shoe=0.35), policy)
    assert ("review", ["review"]) == (found.action, [mark.action for mark in found.marks])


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("approach", "approach"),
        ("model_version", "model version"),
        ("preparation", "preparation"),
        ("taxonomy", "taxonomy"),
        ("fingerprint", "approach settings (fingerprint)"),
    ],
)
def test_origins_that_differ_are_told_apart_in_words(field: str, words: str) -> None:
    expected = ACT.origin
    other = replace(expected, **{field: "another"})
    assert f"{words} is another, the policy was tested on {getattr(expected, field)}" == origin_difference(
        other, expected
    )
    assert f"{words} is another, made for {getattr(expected, field)}" == origin_difference(other, expected, "made for")
    assert origin_difference(expected, expected) is None
    assert "the prediction does not say where it comes from" == origin_difference(None, expected)


def test_a_decision_names_the_policy_that_made_it() -> None:
    assert ACT.digest == decide(ask(ACT, shoe=0.8), ACT).policy


# Multi-label

MULTI = make_policy(
    {"shoe": [T("review", 0.3, "any"), T("accept", 0.7, "any")], "boot": [T("accept", 0.7, "any")]},
    mode="multi-label",
)


def test_multi_label_two_categories_at_one_score_both_fire() -> None:
    decision = decide(ask(MULTI, shoe=0.8, boot=0.8), MULTI)
    assert ("accept", ("shoe", "boot")) == (decision.action, decision.labels)


def test_multi_label_rejected_images_keep_their_flags_and_lose_their_automatic_tiers() -> None:
    policy = replace(MULTI, rejection=Rejection("top", binary32(0.9), unknown_label=False))
    decision = decide(ask(policy, shoe=0.8, boot=0.8), policy)
    assert ("review", ("shoe",)) == (decision.action, decision.labels)
    assert ["review"] == [mark.action for mark in decision.marks]
    nothing = decide(ask(policy, boot=0.8), policy)
    assert ("review", ("unknown",)) == (nothing.action, nothing.labels)


def test_multi_label_none_of_these_rejects_where_it_reaches_the_highest() -> None:
    policy = replace(MULTI, rejection=Rejection("none", None, unknown_label=True))
    assert ("unknown",) == decide(ask(policy, boot=0.8, unknown=0.8), policy).labels
    assert ("boot",) == decide(ask(policy, boot=0.8, unknown=0.7), policy).labels


def test_multi_label_all_censored_is_not_rejected_without_a_rule() -> None:
    assert ("pass", "below") == _action(decide(ask(MULTI), MULTI))


# Laws


@settings(max_examples=settings().max_examples * 3 // 2)
@given(st.data())
def test_no_automatic_action_without_an_ok_answer_of_this_origin(data: st.DataObject) -> None:
    policy = data.draw(policies())
    table = data.draw(tables(policy))
    for prediction in table.predictions():
        decision = decide(prediction, policy)
        if prediction.outcome != "ok" or prediction.origin != policy.origin or decision.code == "missing":
            assert not decision.marks
            assert "human" == next(action.kind for action in ACTIONS if action.name == decision.action)
        assert decision.action in policy.rank


@settings(max_examples=settings().max_examples * 3 // 2)
@given(st.data())
def test_raising_the_top_score_never_lowers_the_rank_without_a_rule(data: st.DataObject) -> None:
    policy = replace(data.draw(policies()), rejection=NO_RULE, routing=Routing("pass"))
    table = data.draw(tables(policy))
    names = policy.taxonomy.categories
    for prediction in table.predictions():
        if not prediction.scores.keys() >= set(names):
            continue
        best = max(names, key=lambda name: prediction.scores[name])
        if prediction.scores[best] == CENSORED or [*prediction.scores.values()].count(prediction.scores[best]) > 1:
            continue
        raised = replace(prediction, scores={**prediction.scores, best: 1.0})
        before, after = decide(prediction, policy), decide(raised, policy)
        assert policy.rank[after.action] >= policy.rank[before.action]


def test_deciding_loads_no_third_party_package() -> None:
    code = (
        "import sys; before = set(sys.modules); import workbench.policy, workbench.decision, workbench.jsonlines\n"
        "roots = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(roots - set(sys.stdlib_module_names) - {'workbench'}))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {_source()!r}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "[]" == done.stdout.strip()


def _source() -> list[str]:
    import workbench

    return [str(next(iter(workbench.__path__)) + "/..")]


def test_every_outcome_is_decided() -> None:
    for outcome in OUTCOMES[1:]:
        assert "review" == decide(ask(ACT, outcome), ACT).action
