"""What to label next: how many, which, and that the stated chance is the one that labels then have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from part_labelled import ONE_PRECISION, make_part, planned, released
from workbench.config.goals import Goals, PrevalenceGoal
from workbench.errors import InputError
from workbench.evaluation.certify import Refusal, certify_precision
from workbench.release.examination import certify_rows
from workbench.release.labelling import plan_labels
from workbench.release.ledger import claim_look
from worlds import ACCEPT, make_draft, make_run, make_world


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 5]), st.sampled_from([0.5, 0.8, 0.99]))
def test_the_queue_holds_unlabelled_certify_images_one_of_each_group(
    tmp_path_factory: pytest.TempPathFactory, seed: int, group_size: int, power: float
) -> None:
    dataset, table = make_part(tmp_path_factory.mktemp("images"), n=1500, seed=seed % 7, group_size=group_size)
    frame = dataset.frame
    plan = planned(dataset, table, power=power, seed=seed)
    queue = frame.set_index("image_id").loc[plan.queue["image_id"]]
    assert queue["labels"].isna().all()
    assert set(queue["split"]) <= {"certify"}
    assert queue["group"].is_unique
    taken = set(frame["group"][(frame["split"] != "certify") | frame["labels"].notna()])
    assert not taken & set(queue["group"])
    free = set(frame["group"][frame["labels"].isna()]) - taken
    assert free == set(plan.pool["group"])
    assert min(plan.images, len(free)) == len(plan.queue)
    again = planned(dataset, table, power=power, seed=seed)
    pd.testing.assert_frame_equal(plan.queue, again.queue)
    for promise in plan.promises:
        if promise.curve is not None:
            assert (np.diff(promise.curve.power) >= 0).all()
            numbers = [promise.curve.images_for(p) for p in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)]
            assert sorted(n for n in numbers if n is not None) == [n for n in numbers if n is not None]


def test_a_larger_power_begins_with_the_queue_of_a_smaller_one(tmp_path: Path) -> None:
    dataset, table = make_part(tmp_path / "images", n=4800)
    plan = planned(dataset, table, ONE_PRECISION)
    small, large = plan.at(0.5).queue["image_id"], plan.at(0.95).queue["image_id"]
    assert 0 < len(small) < len(large)
    assert list(small) == list(large[: len(small)])
    assert (
        list(plan.queue["image_id"])
        != list(planned(dataset, table, ONE_PRECISION, seed=1).queue["image_id"])[: len(plan.queue)]
    )


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    dataset, table = make_part(tmp_path / "images")
    order = np.random.default_rng(3).permutation(len(dataset))
    shuffled = replace(dataset, frame=dataset.frame.iloc[order].reset_index(drop=True))
    assert list(planned(dataset, table).queue["image_id"]) == list(
        planned(shuffled, make_run(shuffled, table.scores[order])).queue["image_id"]
    )


def test_the_promise_that_needs_the_fewest_comes_first_and_rows_say_whom_they_serve(tmp_path: Path) -> None:
    plan = planned(*make_part(tmp_path / "images"))
    numbers = [promise.needed for promise in plan.promises if promise.needed is not None]
    assert len(numbers) > 1
    assert sorted(numbers) == numbers
    assert [None] * (len(plan.promises) - len(numbers)) == [p.needed for p in plan.promises[len(numbers) :]]
    served = plan.queue["promises"].str.split("; ")
    for promise in plan.promises:
        rows = np.array([promise.name in names for names in served])
        expected = min(promise.needed or 0, len(plan.queue))
        assert [True] * expected + [False] * (len(rows) - expected) == rows.tolist()


def test_a_queue_is_a_random_sample_of_what_may_be_drawn(tmp_path: Path) -> None:
    """Over seeds every image comes as often as the sampling probability says, whatever its score."""
    dataset, table = make_part(tmp_path / "images", n=1200)
    release, ledger = released(dataset, table)
    top = pd.Series(table.scores.max(axis=1), index=dataset.frame["image_id"])
    shares, times = [], 30
    for seed in range(times):
        plan = plan_labels(release, table, dataset, 0.5, seed=seed, ledger=ledger)
        count = min(100, len(plan.queue))
        shares.append((top[plan.queue["image_id"][:count]] > top[plan.pool["image_id"]].median()).mean())
    assert abs(np.mean(shares) - 0.5) < 4 * 0.5 / np.sqrt(100 * times)


@pytest.mark.parametrize("looks", [1, 2])
def test_what_the_ledger_lets_the_next_look_count_decides_how_many_are_needed(tmp_path: Path, looks: int) -> None:
    dataset, table = make_part(tmp_path / "images", n=4800)
    goals = ONE_PRECISION.model_copy(update={"looks": looks})
    release, ledger = released(dataset, table, goals)
    plan = plan_labels(release, table, dataset, 0.6, ledger=ledger)
    assert release.evidence is not None
    counted = release.evidence.summary.images
    assert ("together with the fresh ones" in plan.ledger) == (looks == 2)
    assert {counted if looks == 1 else 0} == {promise.least for promise in plan.promises}
    assert not plan.missing
    truth = make_world(tmp_path / "images", n=4800, skill=4.0)[0].frame["labels"]
    fresh = dataset.frame["image_id"].isin(plan.queue["image_id"])
    labels = pd.Series(
        [own if new else old for own, new, old in zip(truth, fresh, dataset.frame["labels"], strict=True)], dtype=object
    )
    grown = replace(dataset, frame=dataset.frame.assign(labels=labels))
    run = make_run(grown, table.scores)
    draft = make_draft(grown, run, goals)
    claim = claim_look(ledger, draft, certify_rows(draft, run, grown, 0), grown, 0)
    assert "" == claim.refusal
    assert (len(plan.queue) + (counted if looks == 2 else 0)) == len(claim.certify.rows)


def test_the_stated_chance_is_the_one_that_fresh_labels_have(tmp_path: Path) -> None:
    """Draw what the counted rates give; among images that score as those that may be drawn."""
    dataset, table = make_part(tmp_path / "images", n=4800)
    plan = planned(dataset, table)
    promise = next(p for p in plan.promises if "precision" in p.name and p.curve is not None)
    assert promise.curve is not None
    release, _ = released(dataset, table)
    assert release.evidence is not None
    confidence = next(
        p.confidence for p in release.evidence.promises if f"{p.category}: {p.action}, precision" in promise.name
    )
    assert confidence is not None
    truly, rng, times = promise.successes / promise.trials, np.random.default_rng(1), 3000
    truly = min(truly, 1 - 1 / (2 * promise.trials + 2))
    for power in (0.5, 0.8, 0.95):
        images = promise.curve.images_for(power)
        assert images is not None
        passed = 0
        for _ in range(times):
            hits = int(rng.binomial(images, promise.kinds["on which it fires"]))
            truth = rng.random(hits) < truly
            found = certify_precision(np.full(hits, 0.9, dtype=np.float32), truth, promise.at_least, confidence, (0.5,))
            passed += not isinstance(found, Refusal)
        noise = 3 * np.sqrt(power * (1 - power) / times)
        assert power - noise < passed / times < power + noise + 0.06  # the test's sawtooth lies above


def test_what_cannot_be_is_said_plainly(tmp_path: Path) -> None:
    """A run that was good on tune and knows nothing on certify."""
    dataset, table = make_part(tmp_path / "images", labelled=0.6)
    certify = np.flatnonzero(dataset.frame["split"] == "certify")
    scores = table.scores.copy()
    scores[certify] = scores[np.random.default_rng(1).permutation(certify)]
    plan = planned(dataset, make_run(dataset, scores), Goals(below="pass", tiers=(ACCEPT,)))
    assert ["out of reach"] * 3 == [p.outlook for p in plan.promises]
    assert [None] * 3 == [p.needed for p in plan.promises]
    assert 0 == len(plan.at(0.99).queue)
    assert "no number of labels helps" in plan.remarks()[0]


def test_a_run_that_holds_too_few_says_how_many_are_missing(tmp_path: Path) -> None:
    plan = planned(*make_part(tmp_path / "images", labelled=0.5, n=1000))
    assert plan.missing == plan.images - len(plan.pool) > 0
    assert len(plan.queue) == len(plan.pool)
    assert any(f"collect and classify {plan.missing} more" in remark for remark in plan.remarks())


def test_at_a_prevalence_further_images_come_in_the_mix_of_production(tmp_path: Path) -> None:
    shares = {"shoe": 0.2, "boot": 0.2, "bag": 0.2, "unknown": 0.4}
    goals = Goals(below="pass", tiers=(ACCEPT,), prevalence=PrevalenceGoal(shares=shares))
    plan = planned(*make_part(tmp_path / "images", labelled=0.06), goals)
    promise = next(p for p in plan.promises if p.curve is not None)
    assert promise.needed is not None
    category = promise.name.partition(":")[0]
    assert {"of the category", *(f"of {name}" for name in shares if name != category)} == set(promise.kinds)
    assert 1 == pytest.approx(sum(promise.kinds.values()))


def test_weighted_certify_images_give_numbers_and_no_queue(tmp_path: Path) -> None:
    dataset, table = make_part(tmp_path / "images")
    weights = np.where(np.arange(len(dataset)) % 2, 1.0, 3.0)
    dataset = replace(dataset, sampling="by score", frame=dataset.frame.assign(weight=weights))
    plan = planned(dataset, make_run(dataset, table.scores))
    assert 0 == len(plan.queue)
    assert "carry weights" in plan.no_queue


def test_an_image_that_an_earlier_look_counted_is_not_fresh(tmp_path: Path) -> None:
    dataset, table = make_part(tmp_path / "images")
    release, ledger = released(dataset, table)
    plan = plan_labels(release, table, dataset, ledger=ledger)
    seen = plan.queue["image_id"][:5]
    contents = frozenset(dataset.contents[dataset.frame["image_id"].isin(seen)])
    assert release.look is not None
    with ledger.writing() as book:
        book.keep(replace(release.look, digest="e" * 64, contents=contents))
    again = plan_labels(release, table, dataset, ledger=ledger)
    assert not set(seen) & set(again.pool["image_id"])
    assert 5 == again.left_out["were counted by an earlier look, here or in another folder"]


def test_what_was_never_tested_is_refused(tmp_path: Path) -> None:
    dataset, table = make_part(tmp_path / "images")
    release, ledger = released(dataset, table)
    with pytest.raises(InputError, match="was not tested"):
        plan_labels(replace(release, evidence=None), table, dataset, ledger=ledger)
    with pytest.raises(InputError, match="not on file"):
        plan_labels(replace(release, look=None), table, dataset)
    with pytest.raises(InputError, match=r"between 0\.5 and 0\.99"):
        plan_labels(release, table, dataset, 0.4, ledger=ledger)
    other = make_run(dataset, np.roll(table.scores, 1, axis=0))
    with pytest.raises(InputError, match="not of this run"):
        plan_labels(release, other, dataset, ledger=ledger)


def test_where_all_is_labelled_already_the_plan_says_so_and_queues_nothing(tmp_path: Path) -> None:
    plan = planned(*make_part(tmp_path / "images", labelled=1.0), power=0.8)
    assert 0 == len(plan.pool) == len(plan.queue)
    assert plan.missing == plan.images > 0
