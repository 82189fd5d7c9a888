"""Promises about production: at a prevalence, from weighted images, with each way of sharing the error budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.config.goals import CostGoal, Goals, Limit, PrevalenceGoal, RejectionGoal, TierGoal
from workbench.dataset.images import Dataset
from workbench.policy import draft_faults, parse_policy, policy_document, policy_faults, write_policy
from workbench.predictions import PredictionTable
from workbench.records import Draft, Policy, Prevalence
from workbench.release.examination import known_rejected_bound
from workbench.release.gate import release_draft
from workbench.release.ledger import Ledger
from workbench.release.verification import verify_counts, verify_evidence
from worlds import make_run, make_world, run_gate

SHARES = {"shoe": 0.4, "boot": 0.2, "bag": 0.2, "unknown": 0.2}
RARE = {"shoe": 0.03, "boot": 0.2, "bag": 0.2, "unknown": 0.57}
ACCEPT = TierGoal(action="accept", metric="precision", at_least=0.8)
FLAG = TierGoal(action="review", metric="recall", at_least=0.8)
LIMITS = RejectionGoal(signal="top", unknown_accepted=Limit(at_most=0.5), known_rejected=Limit(at_most=0.3))


def goals_at(prevalence: PrevalenceGoal | None, **changes: object) -> Goals:
    fixed: dict[str, object] = {"below": "pass", "tiers": (ACCEPT,), "category": {"shoe": (FLAG, ACCEPT)}}
    return Goals(**(fixed | {"rejection": LIMITS, "prevalence": prevalence} | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, PredictionTable]:
    return make_world(tmp_path_factory.mktemp("world"), n=6000, skill=4.0)


def released(world: tuple[Dataset, PredictionTable], goals: Goals) -> Policy:
    _, release = run_gate(*world, goals)
    assert release.policy is not None, release.refusals
    return release.policy


# At a prevalence


@pytest.mark.parametrize(
    "given",
    [PrevalenceGoal(shares=SHARES), PrevalenceGoal(counts={"shoe": 800, "boot": 400, "bag": 400, "unknown": 400})],
    ids=["given", "estimated"],
)
def test_a_policy_at_a_prevalence_verifies_and_can_be_recomputed_from_its_counts(
    world: tuple[Dataset, PredictionTable], given: PrevalenceGoal, tmp_path: Path
) -> None:
    policy = released(world, goals_at(given))
    write_policy(policy, tmp_path / "policy.json")
    assert policy == parse_policy((tmp_path / "policy.json").read_text())
    assert [] == verify_counts(policy)
    assert [] == verify_evidence(policy, world[1], world[0], Ledger.in_memory())
    methods = {(promise.metric, promise.method) for promise in policy.evidence.promises}
    assert {("precision", "prevalence"), ("recall", "counts")} == methods


@pytest.mark.parametrize("pointer", ["p_value", "lower_bound", "upper_bound", "false_by_kind"])
def test_a_changed_figure_at_a_prevalence_is_found(world: tuple[Dataset, PredictionTable], pointer: str) -> None:
    policy = released(world, goals_at(PrevalenceGoal(shares=SHARES)))
    evidence = policy.evidence
    number = next(n for n, p in enumerate(evidence.promises) if p.metric == "precision" and p.verdict == "certified")
    promise = evidence.promises[number]
    step = promise.walk[-1]
    changes: Mapping[str, object] = {
        "p_value": replace(promise, walk=(*promise.walk[:-1], replace(step, p_value=step.p_value / 2 + 1e-6))),
        "lower_bound": replace(promise, lower_bound=(promise.lower_bound or 0) + 0.01),
        "false_by_kind": replace(
            promise, walk=(*promise.walk[:-1], replace(step, false_by_kind=(step.false_by_kind[0] + 9, 0, 0)))
        ),
    }
    if pointer == "upper_bound":
        known = evidence.rejection[-1]
        bent = replace(
            evidence, rejection=(*evidence.rejection[:-1], replace(known, upper_bound=known.upper_bound / 2))
        )
    else:
        promises = [*evidence.promises]
        promises[number] = changes[pointer]  # type: ignore[call-overload]
        bent = replace(evidence, promises=tuple(promises))
    assert verify_counts(replace(policy, evidence=bent))


def test_a_rare_category_needs_a_stricter_threshold_or_is_refused_with_a_price(
    world: tuple[Dataset, PredictionTable],
) -> None:
    _, common = run_gate(*world, goals_at(PrevalenceGoal(shares=SHARES)))
    _, rare = run_gate(*world, goals_at(PrevalenceGoal(shares=RARE), category={}))
    assert common.evidence is not None
    assert rare.evidence is not None
    often = next(p for p in common.evidence.promises if (p.category, p.action) == ("shoe", "accept"))
    seldom = next(p for p in rare.evidence.promises if (p.category, p.action) == ("shoe", "accept"))
    assert "certified" == often.verdict

    assert "refused" == seldom.verdict
    assert "at a share of 0.03" in seldom.reason
    assert (seldom.needed or 0) > 100
    assert seldom.needed_from == "images of other kinds, in the mix that production sees"


def test_counts_of_a_walk_add_up_by_kind(world: tuple[Dataset, PredictionTable]) -> None:
    policy = released(world, goals_at(PrevalenceGoal(shares=SHARES)))
    for promise in policy.evidence.promises:
        if promise.method == "prevalence":
            assert ["shoe", "boot", "bag", "unknown"] == sorted(
                promise.kinds, key=["shoe", "boot", "bag", "unknown"].index
            )
            assert promise.category == next(iter(promise.kinds))
            for step in promise.walk:
                assert step.events == step.successes + sum(step.false_by_kind)


@pytest.mark.parametrize(
    "given", [{"shares": SHARES | {"shoe": 0.0, "boot": 0.6}}, {"counts": {"shoe": 0, "boot": 60}}]
)
def test_a_category_that_production_lacks_is_refused(
    world: tuple[Dataset, PredictionTable], given: Mapping[str, Mapping[str, float]]
) -> None:
    filled = {kind: {"bag": 0, "unknown": 0} | dict(named) for kind, named in given.items()}
    draft, release = run_gate(*world, goals_at(PrevalenceGoal(**filled), category={}))  # type: ignore[arg-type]
    assert release.evidence is not None
    shoe = release.evidence.promises[0]
    assert ("refused", None) == (shoe.verdict, shoe.needed)
    if draft.tiers[0].asked is not None:
        assert "production may have no image of the category at all" == shoe.reason
    assert release.policy is None or [] == verify_counts(release.policy)


def test_the_bound_on_rejected_known_images_follows_the_mix() -> None:
    kinds, events = {"a": 500, "b": 500}, (5, 150)
    mostly_a = known_rejected_bound(Prevalence({"a": 0.8, "b": 0.1, "u": 0.1}), kinds, events, "u", 0.01)
    mostly_b = known_rejected_bound(Prevalence({"a": 0.1, "b": 0.8, "u": 0.1}), kinds, events, "u", 0.01)
    assert (0.8 * 0.01 + 0.1 * 0.3) / 0.9 < mostly_a < 0.1
    assert 0.25 < mostly_b < 0.35
    sampled = Prevalence({"a": 0.8, "b": 0.1, "u": 0.1}, {"a": 800, "b": 100, "u": 100})
    assert mostly_a < known_rejected_bound(sampled, kinds, events, "u", 0.01) < 0.2
    assert 1.0 == known_rejected_bound(Prevalence({"a": 0.0, "b": 0.0, "u": 1.0}), kinds, events, "u", 0.01)


def test_multi_label_images_have_one_kind_of_others(tmp_path: Path) -> None:
    dataset, _ = make_world(tmp_path, n=3000)
    taxonomy = replace(dataset.taxonomy, mode="multi-label")
    multi = replace(dataset, taxonomy=taxonomy)
    rng = np.random.default_rng(5)
    scores = np.clip(0.75 * dataset.truth + 0.25 * rng.random(dataset.truth.shape), 0, 1)
    shares = PrevalenceGoal(shares={"shoe": 0.3, "boot": 0.3, "bag": 0.3})
    goals = Goals(below="pass", tiers=(ACCEPT,), prevalence=shares)
    _, release = run_gate(multi, make_run(multi, scores, complete=False), goals)
    assert release.policy is not None, release.refusals
    assert [] == verify_counts(release.policy)
    assert {"shoe", "other images"} == set(release.policy.evidence.promises[0].kinds)


# With weights


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, PredictionTable]:
    dataset, table = make_world(tmp_path_factory.mktemp("weighted"), n=8000, skill=4.0)
    weight = np.where(table.scores.max(axis=1) > 0.8, 1.0, 3.0)
    heavy = replace(dataset, frame=dataset.frame.assign(weight=weight), sampling="by score")
    return heavy, replace(table, info=replace(table.info, dataset=heavy.digest))


def test_weighted_images_are_tested_by_betting(weighted: tuple[Dataset, PredictionTable]) -> None:
    policy = released(weighted, goals_at(None))
    assert {"weights"} == {promise.method for promise in (*policy.evidence.promises, *policy.evidence.rejection)}
    assert [] == verify_counts(policy)
    assert [] == verify_evidence(policy, weighted[1], weighted[0], Ledger.in_memory())


def test_weights_and_a_prevalence_contradict_each_other(weighted: tuple[Dataset, PredictionTable]) -> None:
    _, release = run_gate(*weighted, goals_at(PrevalenceGoal(shares=SHARES)))
    assert release.policy is None
    assert any("a prevalence: weighted images" in refusal for refusal in release.refusals)


# The error budget


def spent(draft: Draft) -> dict[str, float]:
    found: dict[str, float] = {}
    for tier in draft.tiers:
        found[tier.category] = found.get(tier.category, 0.0) + 1 - (tier.confidence or 1)
    return found | {"limits": sum(1 - limit.confidence for limit in draft.limits)}


def test_each_category_may_have_the_whole_budget(world: tuple[Dataset, PredictionTable]) -> None:
    draft, _ = run_gate(*world, goals_at(None, budget="category"))
    assert pytest.approx(dict.fromkeys(("shoe", "boot", "bag", "limits"), 0.05)) == spent(draft)
    assert [] == list(draft_faults(draft))
    assert list(draft_faults(replace(draft, budget="policy")))


def test_a_family_shares_equally_whatever_the_weights(world: tuple[Dataset, PredictionTable]) -> None:
    heavy = ACCEPT.model_copy(update={"weight": 10.0})
    draft, _ = run_gate(*world, goals_at(None, budget="family", category={"boot": (heavy,)}))
    deltas = {1 - (tier.confidence or 1) for tier in draft.tiers} | {1 - limit.confidence for limit in draft.limits}
    assert [pytest.approx(0.05 / 6)] * len(deltas) == sorted(deltas)


# Costs


def test_a_tier_may_ask_for_the_cheapest_threshold(world: tuple[Dataset, PredictionTable]) -> None:
    by_cost = ACCEPT.model_copy(update={"ask": "cost"})

    def asked(false_positive: float) -> float:
        costs = CostGoal(false_positive=false_positive, false_negative=1.0, review=0.2)
        draft, _ = run_gate(*world, goals_at(None, tiers=(by_cost,), category={}, costs=costs))
        return draft.tiers[0].asked or 1.0

    assert asked(0.3) < asked(20.0)


# Calibration


def test_calibration_is_fitted_on_tune_and_described_on_certify(world: tuple[Dataset, PredictionTable]) -> None:
    policy = released(world, goals_at(None))
    raw, fitted = policy.evidence.calibration
    assert "raw" == raw.method
    assert fitted.method in ("temperature", "platt", "beta")
    assert raw.images == fitted.images == policy.evidence.summary.answered
    assert fitted.log_loss <= raw.log_loss + 0.01


def test_a_policy_of_the_first_form_is_still_read(world: tuple[Dataset, PredictionTable]) -> None:
    document = policy_document(released(world, goals_at(None)))
    assert "prevalence" in document["evidence"]["draft"]


def test_release_of_a_bent_prevalence_is_refused(world: tuple[Dataset, PredictionTable]) -> None:
    draft, _ = run_gate(*world, goals_at(PrevalenceGoal(shares=SHARES)))
    for bent in (Prevalence({"shoe": 1.0}), Prevalence(SHARES | {"shoe": 0.9}), Prevalence(SHARES, {"shoe": 3})):
        release = release_draft(replace(draft, prevalence=bent), world[1], world[0], ledger=Ledger.in_memory())
        assert any("prevalence" in refusal for refusal in release.refusals)


# What a sealed policy may not say of itself


def bend(policy: Policy, number: int, **changes: object) -> Policy:
    promises = list(policy.evidence.promises)
    promises[number] = replace(promises[number], **changes)  # type: ignore[arg-type]
    return replace(policy, evidence=replace(policy.evidence, promises=tuple(promises)))


def test_figures_that_contradict_each_other_are_faults(world: tuple[Dataset, PredictionTable]) -> None:
    policy = released(world, goals_at(PrevalenceGoal(shares=SHARES)))
    evidence, summary = policy.evidence, policy.evidence.summary
    number = next(n for n, p in enumerate(evidence.promises) if p.method == "prevalence" and p.verdict == "certified")
    recall = next(n for n, p in enumerate(evidence.promises) if p.metric == "recall")
    promise, limit = evidence.promises[number], evidence.rejection[-1]
    step = promise.walk[0]
    bent_step = replace(step, false_by_kind=(step.false_by_kind[0] + 1, *step.false_by_kind[1:]))
    bent_limit = (*evidence.rejection[:-1], replace(limit, events_by_kind=(0, 0, 0)))
    images = replace(summary, by_category={**summary.by_category, "bag": summary.by_category["bag"] + 1})
    cases = {
        "method": bend(policy, number, method="counts", kinds={}),
        "weights": bend(policy, number, method="weights"),
        "kinds": bend(policy, number, kinds={name: 100 * count for name, count in promise.kinds.items()}),
        "order": bend(policy, number, kinds=dict(reversed(promise.kinds.items()))),
        "false": bend(policy, number, walk=(bent_step, *promise.walk[1:])),
        "trials": bend(policy, number, trials=10**6, successes=10**6),
        "lowered": bend(policy, number, certified=0.015625, reason="lowered to something"),
        "recall": bend(policy, recall, trials=10**6, successes=10**6),
        "limit": replace(policy, evidence=replace(evidence, rejection=bent_limit)),
        "summary": replace(policy, evidence=replace(evidence, summary=images)),
        "look": replace(policy, evidence=replace(evidence, look_number=2)),
    }
    assert [] == list(policy_faults(policy))
    assert [] == [name for name, bent in cases.items() if not list(policy_faults(bent))]
