"""From scores with known truth to a policy: what the gate certifies, refuses and records."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recomputed import check_evidence
from workbench.config.goals import DEFAULT_ACTIONS, ActionGoal, Goals, Limit, RejectionGoal, TierGoal
from workbench.dataset.images import Dataset
from workbench.documents import to_document
from workbench.errors import DocumentError
from workbench.evaluation.simulate import gate_scores, simulate
from workbench.policy import parse_policy, policy_document, read_policy, write_policy
from workbench.predictions import SCORE, PredictionTable
from workbench.records import DraftTier, Evidence, Policy, Promise, Taxonomy
from workbench.release.gate import release_draft
from workbench.release.ledger import Ledger
from workbench.release.verification import verify_counts, verify_evidence, verify_vectors
from worlds import ACCEPT, CATEGORIES, FLAG, make_run, make_world, run_gate


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, PredictionTable]:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def released(world: tuple[Dataset, PredictionTable]) -> Policy:
    _, release = run_gate(*world)
    assert release.policy is not None, release.refusals
    return release.policy


def promise_of(evidence: Evidence | None, category: str, action: str) -> Promise:
    assert evidence is not None
    return next(p for p in evidence.promises if (p.category, p.action) == (category, action))


# What a release says


def test_a_policy_carries_what_certify_allowed(released: Policy) -> None:
    assert {"certified"} == {promise.verdict for promise in released.evidence.promises}
    shoe = released.categories[0]
    assert ["review", "accept"] == [tier.action for tier in shoe.tiers]
    accept = promise_of(released.evidence, "shoe", "accept")
    assert accept.certified == shoe.tiers[1].threshold
    assert accept.asked is not None
    assert accept.certified is not None
    assert accept.certified >= accept.asked


def test_the_error_budget_is_shared_among_all_promises(released: Policy) -> None:
    confidences = [p.confidence for p in (*released.evidence.promises, *released.evidence.rejection)]
    assert 7 == len(confidences)
    assert 0.05 == pytest.approx(sum(1 - confidence for confidence in confidences if confidence is not None))


def test_weights_and_planned_looks_divide_the_budget(world: tuple[Dataset, PredictionTable]) -> None:
    heavy = TierGoal(action="accept", metric="precision", at_least=0.9, weight=3.0)
    goals = Goals(below="pass", looks=2, tiers=(ACCEPT,), category={"boot": (heavy,)})
    draft, _ = run_gate(*world, goals)
    deltas = {tier.category: 1 - (tier.confidence or 0) for tier in draft.tiers}
    assert pytest.approx({"shoe": 0.005, "boot": 0.015, "bag": 0.005}) == deltas


def test_every_figure_is_what_pandas_scipy_and_sklearn_make_of_the_table(
    world: tuple[Dataset, PredictionTable], released: Policy
) -> None:
    dataset, table = world
    rows = dataset.frame.merge(table.frame, on="image_id")
    rows = rows[rows["split"] == "certify"]
    labels = rows["labels"].map(lambda labels: labels[0] if labels else "unknown")
    check_evidence(rows.assign(label=labels), policy_document(released))


def test_the_released_thresholds_decide_what_the_evidence_counted(
    world: tuple[Dataset, PredictionTable], released: Policy
) -> None:
    dataset, table = world
    simulated = simulate(table, released)
    certify = (dataset.frame["split"] == "certify").to_numpy()
    for number, (category, tier) in enumerate(simulated.tiers):
        promise = promise_of(released.evidence, category, tier.action)
        fired = simulated.fired[:, number] & certify
        shows = dataset.truth[:, CATEGORIES.index(category)]
        counted = fired if promise.metric == "precision" else certify & shows
        assert (promise.trials, promise.successes) == (counted.sum(), (fired & shows).sum())


# What is refused


def test_a_precision_that_certify_does_not_bear_out_is_refused_and_never_fires(tmp_path: Path) -> None:
    dataset, table = make_world(tmp_path)
    broken = (dataset.frame["split"] == "certify").to_numpy()
    rng = np.random.default_rng(3)
    frame = table.frame.copy()
    frame.loc[broken, SCORE + "boot"] = rng.permutation(frame.loc[broken, SCORE + "boot"].to_numpy())
    _, release = run_gate(dataset, replace(table, frame=frame))
    boot = promise_of(release.evidence, "boot", "accept")
    assert ("refused", None) == (boot.verdict, boot.certified)
    assert "would have to be" in boot.reason
    assert release.policy is not None
    assert release.policy.categories[1].tiers[0].threshold is None


def test_a_refused_recall_blocks_the_policy_unless_it_is_waived(world: tuple[Dataset, PredictionTable]) -> None:
    dataset, table = world
    outcome = table.frame["outcome"].where(np.arange(len(table)) % 4 > 0, "corrupt")
    frame = table.frame.assign(outcome=outcome)
    frame.loc[outcome == "corrupt", [SCORE + name for name in CATEGORIES]] = np.nan
    draft, release = run_gate(dataset, replace(table, frame=frame))
    assert release.policy is None
    assert any("recall of shoe" in refusal for refusal in release.refusals)
    waived = replace(draft, tiers=tuple(replace(tier, waived=True) for tier in draft.tiers))
    again = release_draft(waived, replace(table, frame=frame), dataset, ledger=Ledger.in_memory())
    assert again.policy is not None


def test_images_without_an_answer_count_as_misses_of_recall(world: tuple[Dataset, PredictionTable]) -> None:
    dataset, table = world
    lost = np.flatnonzero(dataset.truth[:, 0] & (dataset.frame["split"] == "certify").to_numpy())[:9]
    frame = table.frame.copy()
    frame.loc[lost, "outcome"] = "corrupt"
    frame.loc[lost, [SCORE + name for name in CATEGORIES]] = np.nan
    _, release = run_gate(dataset, replace(table, frame=frame))
    before = promise_of(run_gate(dataset, table)[1].evidence, "shoe", "review")
    after = promise_of(release.evidence, "shoe", "review")
    assert 9 == after.unanswered
    assert before.trials == after.trials


def test_a_draft_of_which_nothing_certifies_is_refused(tmp_path: Path) -> None:
    dataset, table = make_world(tmp_path, n=160)
    draft, _ = run_gate(dataset, table)
    scores = np.random.default_rng(4).dirichlet([1, 1, 1], len(dataset))
    noise = make_run(dataset, scores)
    release = release_draft(draft, noise, dataset, ledger=Ledger.in_memory())
    assert release.policy is None
    assert release.evidence is not None
    assert any("0 of 4 thresholds certified" in refusal for refusal in release.refusals)
    assert 4 == (release.frame()["verdict"][:4] == "refused").sum()


def test_a_run_or_data_set_that_the_draft_does_not_know_is_refused(world: tuple[Dataset, PredictionTable]) -> None:
    dataset, table = world
    draft, _ = run_gate(dataset, table)
    other = replace(table, info=replace(table.info, origin=replace(table.info.origin, model_version="v2")))
    release = release_draft(draft, other, dataset, ledger=Ledger.in_memory())
    assert release.policy is None
    assert release.evidence is None
    assert "approach" in release.refusals[0]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda tier: replace(tier, confidence=0.9), "may fail with probability"),
        (lambda tier: replace(tier, grid=tier.grid[:-1]), "end at the asked threshold"),
        (lambda tier: replace(tier, grid=(tier.grid[-1], *tier.grid[:-1], tier.grid[-1])), "fall strictly"),
        (lambda tier: replace(tier, category="hat", action="burn"), "no such category or action"),
        (lambda tier: replace(tier, confidence=None), "without a confidence"),
    ],
)
def test_a_draft_that_was_bent_by_hand_is_refused(
    world: tuple[Dataset, PredictionTable], change: Callable[[DraftTier], DraftTier], fault: str
) -> None:
    draft, _ = run_gate(*world)
    bent = replace(draft, tiers=(*draft.tiers[:-1], change(draft.tiers[-1])))
    release = release_draft(bent, world[1], world[0], ledger=Ledger.in_memory())
    assert release.policy is None
    assert any(fault in refusal for refusal in release.refusals), release.refusals


def test_another_draw_within_groups_is_another_look(world: tuple[Dataset, PredictionTable]) -> None:
    draft, release = run_gate(*world)
    other = release_draft(draft, world[1], world[0], seed=1, ledger=Ledger.in_memory())
    assert release.evidence is not None
    assert other.evidence is not None
    assert release.evidence.look != other.evidence.look


def test_one_picture_with_two_labels_is_refused(tmp_path: Path) -> None:
    dataset, table = make_world(tmp_path, n=400)
    certify = np.flatnonzero((dataset.frame["split"] == "certify").to_numpy())
    labels = dataset.frame["labels"]
    first, second = next((a, b) for a in certify for b in certify if labels[a] != labels[b])
    (tmp_path / f"{second}.png").write_bytes((tmp_path / f"{first}.png").read_bytes())
    again = Dataset(dataset.name, dataset.root, dataset.taxonomy, dataset.frame, dataset.problems)
    release = run_gate(again, replace(table, info=replace(table.info, dataset=again.digest)))[1]
    assert any("two different labels" in refusal for refusal in release.refusals)


# What counts


def test_one_image_of_each_group_counts(tmp_path: Path) -> None:
    groups = [str(row // 3) for row in range(2400)]
    dataset, table = make_world(tmp_path, groups=groups)
    splits = np.random.default_rng(2).choice(["tune", "certify"], 800, p=[0.35, 0.65])
    dataset = replace(dataset, frame=dataset.frame.assign(split=np.repeat(splits, 3)))
    table = replace(table, info=replace(table.info, dataset=dataset.digest))
    _, release = run_gate(dataset, table)
    assert release.evidence is not None
    certify = dataset.frame[dataset.frame["split"] == "certify"]
    assert certify["group"].nunique() == release.evidence.summary.images
    assert len(certify) - certify["group"].nunique() == release.evidence.summary.set_aside


def test_a_picture_that_stands_in_train_or_tune_does_not_count(tmp_path: Path) -> None:
    dataset, table = make_world(tmp_path)
    splits = dataset.frame["split"]
    tune, certify = (np.flatnonzero((splits == name).to_numpy()) for name in ("tune", "certify"))
    for one, other in zip(tune[:20], certify[:20], strict=True):
        (tmp_path / f"{other}.png").write_bytes((tmp_path / f"{one}.png").read_bytes())
    again = Dataset(dataset.name, dataset.root, dataset.taxonomy, dataset.frame, dataset.problems)
    _, release = run_gate(again, replace(table, info=replace(table.info, dataset=again.digest)))
    assert release.evidence is not None
    assert 20 == release.evidence.summary.set_aside


def test_a_group_that_reaches_into_train_or_tune_does_not_count(tmp_path: Path) -> None:
    dataset, _ = make_world(tmp_path)
    splits = dataset.frame["split"].to_numpy()
    tune, certify = (np.flatnonzero(splits == name) for name in ("tune", "certify"))
    groups = dataset.frame["group"].to_numpy(dtype=object).copy()
    groups[certify[:30]] = groups[tune[0]]
    # a copy of a picture of that group takes its own group with it
    groups[certify[30:40]] = "burst"
    (tmp_path / f"{certify[30]}.png").write_bytes((tmp_path / f"{certify[0]}.png").read_bytes())
    labels = dataset.frame["labels"].copy()
    labels[certify[30]] = labels[certify[0]]
    crossed = replace(dataset, frame=dataset.frame.assign(group=groups, labels=labels))
    table = make_run(crossed, np.random.default_rng(0).dirichlet([1, 1, 1], len(crossed)))
    _, release = run_gate(crossed, table)
    assert release.evidence is not None
    assert 40 == release.evidence.summary.set_aside


def test_the_same_bytes_twice_count_once(tmp_path: Path) -> None:
    dataset, table = make_world(tmp_path)
    certify = np.flatnonzero((dataset.frame["split"] == "certify").to_numpy() & dataset.truth[:, 0])
    for row in certify[1:11]:
        (tmp_path / f"{row}.png").write_bytes((tmp_path / f"{certify[0]}.png").read_bytes())
    again = Dataset(dataset.name, dataset.root, dataset.taxonomy, dataset.frame, dataset.problems)
    _, release = run_gate(again, replace(table, info=replace(table.info, dataset=again.digest)))
    assert release.evidence is not None
    assert 10 == release.evidence.summary.set_aside


def test_the_order_of_rows_and_the_paths_of_files_change_nothing(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    dataset, table = make_world(one)
    moved, moved_table = make_world(other)
    order = np.random.default_rng(5).permutation(len(moved))
    frame = moved.frame.iloc[order].reset_index(drop=True)
    shuffled = replace(moved, frame=frame)
    first, second = run_gate(dataset, table)[1], run_gate(shuffled, moved_table)[1]
    assert first.evidence is not None
    assert second.evidence is not None
    assert to_document(first.evidence) == to_document(second.evidence)


# Tiers of one category


def test_a_flag_above_the_act_threshold_is_lowered_to_it_and_the_empty_band_is_told(tmp_path: Path) -> None:
    dataset, table = make_world(tmp_path, skill=6.0)
    flag = TierGoal(action="review", metric="recall", at_least=0.3)
    goals = Goals(below="pass", tiers=(ACCEPT,), category={"shoe": (flag, ACCEPT)})
    _, release = run_gate(dataset, table, goals)
    low, high = promise_of(release.evidence, "shoe", "review"), promise_of(release.evidence, "shoe", "accept")
    assert low.certified == high.certified
    assert "the band between is empty" in low.reason
    assert release.policy is not None
    assert parse_policy(json.dumps(policy_document(release.policy))) == release.policy


def test_two_precision_tiers_promise_their_cumulative_events(tmp_path: Path) -> None:
    dataset, table = make_world(tmp_path, n=4000)
    actions = (*DEFAULT_ACTIONS, ActionGoal(name="publish", rank=3, kind="automatic"))
    sure = TierGoal(action="publish", metric="precision", at_least=0.95)
    goals = Goals(below="pass", actions=actions, tiers=(ACCEPT, sure))
    _, release = run_gate(dataset, table, goals)
    assert release.policy is not None
    for rule in release.policy.categories:
        thresholds = [tier.threshold for tier in rule.tiers if tier.threshold is not None]
        assert sorted(thresholds) == thresholds


def test_multi_label_promises_are_tested_without_an_argmax(tmp_path: Path) -> None:
    dataset, _ = make_world(tmp_path)
    rng = np.random.default_rng(8)
    truth = rng.random((len(dataset), 3)) < 0.4
    taxonomy = Taxonomy(CATEGORIES, "multi-label")
    labels = [tuple(np.array(CATEGORIES)[row]) for row in truth]
    multi = replace(dataset, taxonomy=taxonomy, frame=dataset.frame.assign(labels=labels, source=""))
    scores = 1 / (1 + np.exp(-(rng.normal(size=truth.shape) + 4 * truth - 2)))
    table = make_run(multi, scores, complete=False)
    _, release = run_gate(multi, table, Goals(below="pass", tiers=(FLAG, ACCEPT)))
    assert release.policy is not None, release.refusals
    simulated = simulate(table, release.policy)
    assert (simulated.told.sum(axis=1) > 1).any()


def lowered_world(folder: Path, seed: int, *, waived: bool = False) -> tuple[Dataset, PredictionTable, Goals]:
    """Multi-label: half of the images are unclear, rejected, and would be flagged below the act threshold."""
    dataset, _ = make_world(folder, n=3000, seed=seed)
    rng = np.random.default_rng(seed)
    clear = rng.random(3000) < 0.5
    truth = rng.random((3000, 3)) < np.where(clear, 0.6, 0.25)[:, None]
    taxonomy = Taxonomy(CATEGORIES, "multi-label")
    labels = pd.Series([tuple(np.array(CATEGORIES)[row]) for row in truth], dtype=object)
    multi = replace(dataset, taxonomy=taxonomy, frame=dataset.frame.assign(labels=labels, source=""))
    scores = np.where(clear[:, None], np.where(truth, 0.9, 0.05), 0.6) + rng.random((3000, 3)) * 0.05
    table = make_run(multi, scores, complete=False)
    flag = TierGoal(action="review", metric="precision", at_least=0.6, waived=waived)
    goals = Goals(
        below="pass", tiers=(flag, ACCEPT), rejection=RejectionGoal(signal="top", known_rejected=Limit(at_most=0.5))
    )
    return multi, table, goals


@pytest.mark.parametrize("seed", range(6))
def test_a_human_tier_does_not_inherit_what_rejection_withholds_from_an_automatic_one(
    tmp_path: Path, seed: int
) -> None:
    """Rejected images keep their flags: lowered to the act threshold, a flag would fire on more than was counted."""
    multi, table, goals = lowered_world(tmp_path, seed)
    truth = multi.truth
    draft, release = run_gate(multi, table, goals)
    assert release.evidence is not None
    gated = gate_scores(table.scores, None, np.ones(3000, dtype=bool), draft.rejection, multi.taxonomy)
    certify = (multi.frame["split"] == "certify").to_numpy()
    for promise in release.evidence.promises:
        if promise.verdict != "certified":
            continue
        column = CATEGORIES.index(promise.category)
        fires = gated.reach(column, promise.scope, automatic=promise.action == "accept") >= np.float32(
            promise.certified
        )
        assert (fires & certify).sum() == promise.trials
        assert (fires & certify & truth[:, column]).sum() == promise.successes


def test_a_waived_tier_that_cannot_be_lowered_does_not_stop_the_policy(tmp_path: Path) -> None:
    found = []
    for seed in range(6):
        (tmp_path / str(seed)).mkdir()
        _, release = run_gate(*lowered_world(tmp_path / str(seed), seed, waived=True))
        assert release.policy is not None, release.refusals
        assert release.policy == parse_policy(json.dumps(policy_document(release.policy)))
        found += [p.verdict for p in release.policy.evidence.promises if "whose images count" in p.reason]
    assert found
    assert {"waived"} == set(found)


# Verification


def test_a_policy_verifies_against_its_run_and_data_set(
    world: tuple[Dataset, PredictionTable], released: Policy, tmp_path: Path
) -> None:
    write_policy(released, tmp_path / "policy.json")
    found = read_policy(tmp_path / "policy.json")
    assert [] == verify_vectors(found)
    assert [] == verify_evidence(found, world[1], world[0], Ledger.in_memory())


def test_verification_names_the_figure_that_does_not_hold(
    world: tuple[Dataset, PredictionTable], released: Policy
) -> None:
    promise = released.evidence.promises[0]
    forged = replace(promise, successes=promise.successes + 1)
    evidence = replace(released.evidence, promises=(forged, *released.evidence.promises[1:]))
    differences = verify_evidence(replace(released, evidence=evidence), world[1], world[0], Ledger.in_memory())
    assert ["/evidence/promises/0/successes"] == [difference.pointer for difference in differences]
    assert promise.successes == differences[0].found


def test_verification_names_a_label_that_changed(world: tuple[Dataset, PredictionTable], released: Policy) -> None:
    dataset, table = world
    labels = list(dataset.frame["labels"])
    labels[0] = () if labels[0] else ("shoe",)
    changed = replace(dataset, frame=dataset.frame.assign(labels=pd.Series(labels, dtype=object)))
    differences = verify_evidence(released, table, changed)
    assert ["/evidence/draft/dataset"] == [difference.pointer for difference in differences]


def test_a_vector_that_decides_otherwise_is_named(released: Policy) -> None:
    forged = replace(released.vectors[2], action="escalate")
    policy = replace(released, vectors=(*released.vectors[:2], forged, *released.vectors[3:]))
    assert ["/vectors/2/action"] == [difference.pointer for difference in verify_vectors(policy)]
    assert ["/vectors"] == [difference.pointer for difference in verify_vectors(replace(released, vectors=()))]


def test_a_bound_that_does_not_follow_from_its_counts_is_named(released: Policy) -> None:
    assert [] == verify_counts(released)
    promise = replace(released.evidence.promises[0], lower_bound=0.95)
    evidence = replace(released.evidence, promises=(promise, *released.evidence.promises[1:]))
    forged = verify_counts(replace(released, evidence=evidence))
    assert ["/evidence/promises/0/lower_bound"] == [difference.pointer for difference in forged]


def _promise(**changes: object) -> Callable[[Evidence], Evidence]:
    def change(evidence: Evidence) -> Evidence:
        place = next(n for n, p in enumerate(evidence.promises) if p.metric == "precision")
        promises = list(evidence.promises)
        promises[place] = replace(promises[place], **changes)  # type: ignore[arg-type]
        return replace(evidence, promises=tuple(promises))

    return change


def _limit(**changes: object) -> Callable[[Evidence], Evidence]:
    def change(evidence: Evidence) -> Evidence:
        return replace(evidence, rejection=(replace(evidence.rejection[0], **changes), *evidence.rejection[1:]))  # type: ignore[arg-type]

    return change


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_promise(successes=10_000), "more of them than trials"),
        (_promise(lower_bound=0.5), "below the goal"),
        (_promise(at_least=0.5), "not the one that the evidence tested"),
        (_promise(confidence=0.5), "is not what the draft asked for"),
        (_promise(walk=()), "no threshold that passed"),
        (_promise(verdict="refused"), "not the one that the evidence certifies"),
        (_limit(upper_bound=0.9), "does not follow from the bound"),
        (_limit(events=100_000), "more of them than trials"),
        (lambda evidence: replace(evidence, rejection=()), "one promise per limit"),
        (
            lambda evidence: replace(evidence, draft=replace(evidence.draft, confidence=0.9999)),
            "may fail with probability",
        ),
    ],
)
def test_a_policy_that_contradicts_its_own_evidence_is_refused_though_it_is_sealed(
    released: Policy, change: Callable[[Evidence], Evidence], fault: str
) -> None:
    forged = replace(released, evidence=change(released.evidence))
    with pytest.raises(DocumentError, match=fault):
        parse_policy(json.dumps(policy_document(forged)))


def test_the_vectors_cover_every_threshold_on_both_sides(released: Policy) -> None:
    names = {vector.name for vector in released.vectors}
    for rule in released.categories:
        for tier in rule.tiers:
            for words in ("below", "at", "above"):
                assert f"{rule.category} {tier.action} {words} threshold" in names
