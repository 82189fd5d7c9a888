"""Flips on tables whose truth is known, and the promises of a policy among them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from labelled_runs import make_dataset, make_run
from samples import T, make_policy
from workbench.errors import RunError
from workbench.evaluation.flips import Flips, StressMeasures, measure_flips
from workbench.evaluation.intervals import clopper_pearson
from workbench.predictions import PredictionTable
from workbench.records import Policy, Taxonomy

SHOES = Taxonomy(("shoe", "boot", "bag"))
ROW = {"shoe": [0.8, 0.1, 0.1], "boot": [0.1, 0.8, 0.1], "bag": [0.1, 0.1, 0.8], "tie": [0.4, 0.4, 0.2]}


def world(
    told: dict[str, list[str]],
    labels: list[str],
    targets: list[str] | None = None,
    *,
    taxonomy: Taxonomy = SHOES,
    scores: dict[str, list[float]] | None = None,
    unknown: Any = None,
) -> tuple[PredictionTable, pd.DataFrame]:
    """By attack (`clean` first), what is told of the copy of each image; "" where there is no answer."""
    targets = targets or ["bag"] * len(labels)
    rows = [
        {
            "image_id": f"{image}.png" if attack == "clean" else f"{image}.png + {attack}",
            "of": f"{image}.png",
            "attack": attack,
            "target": "" if attack == "clean" else "unknown" if attack == "unknown" else targets[image],
            "position": "" if attack == "clean" else ("top", "bottom")[image % 2],
            "size": "" if attack == "clean" else "large",
            "contrast": "" if attack == "clean" else "strong",
            "labels": () if labels[image] == "unknown" else (labels[image],),
            "told": name,
        }
        for attack, names in told.items()
        for image, name in enumerate(names)
    ]
    copies = pd.DataFrame(rows)
    dataset = make_dataset(list(copies["labels"]), taxonomy, ids=list(copies["image_id"]))
    known = ROW | (scores or {})
    matrix = [known[name] if name else [np.nan] * 3 for name in copies["told"]]
    outcomes = ["ok" if name else "refusal" for name in copies["told"]]
    run = make_run(dataset, matrix, outcomes=outcomes, unknown=unknown, complete=True, digest="0" * 64)
    return run, copies.drop(columns="told")


def only(measures: StressMeasures, attack: str, by: str = "", value: str = "") -> Flips:
    (found,) = [row for row in measures.flips if (row.attack, row.by, row.value) == (attack, by, value)]
    return found


def test_flips_are_counted_beside_the_control() -> None:
    table, copies = world(
        {
            "clean": ["shoe", "shoe", "boot", "bag", "shoe"],
            "blank": ["shoe", "boot", "boot", "bag", "shoe"],
            "name": ["bag", "bag", "boot", "shoe", ""],
        },
        ["shoe", "shoe", "shoe", "bag", "boot"],
    )
    measures = measure_flips(table, copies)
    name, blank = only(measures, "name"), only(measures, "blank")
    assert (5, 4, 1) == (name.images, name.flipped, name.lost)
    assert (4, 2, 0) == (name.open_to, name.towards, name.towards_control)
    assert (2, 0) == (name.towards_beyond, name.towards_undone)
    assert (3, 0) == (name.beyond, name.undone)
    assert (3, 0) == (name.right, name.right_copies)
    assert (1, 0, 0) == (blank.flipped, blank.towards, blank.lost)
    assert (3, 2) == (blank.right, blank.right_copies)
    assert name.actions is None


def test_the_chance_of_the_target_is_that_of_the_control() -> None:
    table, copies = world({"clean": ["shoe"] * 4, "blank": ["bag"] * 3 + ["shoe"], "name": ["bag"] * 4}, ["shoe"] * 4)
    name = only(measure_flips(table, copies), "name")
    assert (4, 3, 1, 0) == (name.towards, name.towards_control, name.towards_beyond, name.towards_undone)
    frame = measure_flips(table, copies).frame().set_index(["attack", "by"])
    assert 0.5 == frame.loc[("name", ""), "p_reading"]
    assert np.isnan(frame.loc[("blank", ""), "p_reading"])


def test_p_values_are_those_of_a_sign_test() -> None:
    told = {
        "clean": ["shoe"] * 12,
        "blank": ["boot"] * 2 + ["shoe"] * 10,
        "name": ["shoe"] * 2 + ["boot"] * 8 + ["shoe"] * 2,
    }
    table, copies = world(told, ["shoe"] * 12)
    frame = measure_flips(table, copies).frame()
    (p_value,) = frame.loc[(frame["attack"] == "name") & (frame["by"] == ""), "p_words"]
    assert pytest.approx(56 / 1024) == p_value  # P[Bin(10, 1/2) >= 8]


def test_intervals_are_exact() -> None:
    table, copies = world({"clean": ["shoe"] * 9, "name": ["bag"] * 4 + ["shoe"] * 5}, ["shoe"] * 9)
    frame = measure_flips(table, copies, confidence=0.9).frame()
    row = frame[frame["by"] == ""].iloc[0]
    assert (4 / 9, *clopper_pearson(4, 9, 0.9)) == (row["flip_rate"], row["flip_rate_low"], row["flip_rate_high"])


def test_slices_add_up() -> None:
    labels = ["shoe", "boot", "unknown", "bag"] * 3
    told = {"clean": ["shoe", "boot", "bag", "tie"] * 3, "blank": ["shoe"] * 12, "name": ["bag"] * 12}
    measures = measure_flips(*world(told, labels))
    for attack in ("blank", "name"):
        whole = only(measures, attack)
        for by in ("position", "size", "contrast", "category"):
            parts = [row for row in measures.flips if (row.attack, row.by) == (attack, by)]
            assert whole.flipped == sum(row.flipped for row in parts)
            assert whole.images == sum(row.images for row in parts)
    assert ["bag", "boot", "shoe", "unknown"] == [
        row.value for row in measures.flips if (row.attack, row.by) == ("name", "category")
    ]


def test_an_image_without_an_answer_is_left_out_and_a_tie_is_unknown() -> None:
    table, copies = world(
        {"clean": ["", "tie"], "name": ["bag", "shoe"], "unknown": ["shoe", "tie"]}, ["shoe", "unknown"]
    )
    measures = measure_flips(table, copies)
    assert (1, 1) == (measures.left_out, only(measures, "name").images)
    assert (1, 0) == (only(measures, "name").flipped, only(measures, "unknown").flipped)
    assert 0 == only(measures, "unknown").open_to
    assert 1 == only(measures, "unknown").right_copies


def test_a_score_for_none_of_these_counts() -> None:
    table, copies = world(
        {"clean": ["shoe", "shoe"], "unknown": ["shoe", "shoe"]}, ["shoe", "shoe"], unknown=[0.1, 0.1, 0.9, 0.1]
    )
    assert (1, 1) == (
        only(measure_flips(table, copies), "unknown").flipped,
        only(measure_flips(table, copies), "unknown").towards,
    )


def test_multi_label_sets_are_compared_as_sets() -> None:
    taxonomy = replace(SHOES, mode="multi-label")
    scores = {"both": [0.9, 0.9, 0.1], "none": [0.1, 0.1, 0.1]}
    told = {"clean": ["both", "shoe", "none"], "name": ["shoe", "shoe", "bag"]}
    table, copies = world(told, ["shoe", "shoe", "unknown"], taxonomy=taxonomy, scores=scores)
    name = only(measure_flips(table, copies), "name")
    assert (2, 1, 3) == (name.flipped, name.towards, name.open_to)


class TestPolicy:
    @staticmethod
    def policy(table: PredictionTable) -> Policy:
        tiers = {
            "shoe": [T("review", 0.3, "any", "recall"), T("accept", 0.75)],
            "bag": [T("accept", 0.75)],
            "boot": [T("accept", None)],
        }
        policy = make_policy(tiers)
        assert policy.origin == table.info.origin
        return policy

    def test_actions_that_words_cause(self) -> None:
        scores = {"weak": [0.5, 0.3, 0.2]}
        told = {"clean": ["shoe", "weak", "weak", "boot", "bag"], "name": ["bag", "bag", "boot", "bag", "bag"]}
        table, copies = world(told, ["shoe", "shoe", "shoe", "bag", "bag"], scores=scores)
        name = only(measure_flips(table, copies, self.policy(table)), "name")
        # accept bag (was accept shoe), accept bag (was review), passes (was review), accept bag (passed), as before
        assert (3, 2, 1, 1) == (name.actions, name.automatic, name.wrongly, name.dropped)

    def test_promises_hold_break_or_cannot_tell(self) -> None:
        told = {
            "clean": ["bag"] * 60 + ["shoe"] * 40,
            "name": ["bag"] * 70 + ["shoe"] * 30,
            "unknown": ["bag"] * 60 + ["tie"] * 38 + ["shoe"] * 2,
        }
        table, copies = world(told, ["bag"] * 60 + ["shoe"] * 40)
        found = {
            (row.attack, row.category, row.action): row
            for row in measure_flips(table, copies, self.policy(table)).survivals
        }
        assert (60, 60, "holds") == verdict(found["clean", "bag", "accept"])
        assert (60, 70, "cannot tell") == verdict(found["name", "bag", "accept"])
        assert (40, 40, "holds") == verdict(found["clean", "shoe", "review"])
        assert (30, 40, "broken") == verdict(found["name", "shoe", "review"])
        assert (2, 2, "cannot tell") == verdict(found["unknown", "shoe", "accept"])
        assert {"shoe", "bag"} == {category for _, category, _ in found}  # boot has no threshold
        row = found["name", "bag", "accept"]
        assert clopper_pearson(60, 70) == (row.low, row.high)

    def test_a_higher_tier_counts_for_the_lower_one(self) -> None:
        policy = make_policy({"shoe": [T("review", 0.75), T("accept", 0.5, "any")]}, categories=SHOES.categories)
        scores = {"weak": [0.6, 0.2, 0.2]}
        table, copies = world({"clean": ["weak"], "name": ["weak"]}, ["shoe"], scores=scores)
        found = {row.action: row for row in measure_flips(table, copies, policy).survivals if row.attack == "name"}
        assert (1, 1) == (found["review"].trials, found["accept"].trials)

    def test_images_without_an_answer_are_misses(self) -> None:
        table, copies = world({"clean": ["shoe", ""], "name": ["shoe", ""]}, ["shoe", "shoe"])
        recall = [row for row in measure_flips(table, copies, self.policy(table)).survivals if row.metric == "recall"]
        assert [(1, 2), (1, 2)] == [(row.successes, row.trials) for row in recall]

    def test_a_policy_of_another_run_is_refused(self) -> None:
        table, copies = world({"clean": ["shoe"], "name": ["shoe"]}, ["shoe"])
        other = replace(table, info=replace(table.info, origin=replace(table.info.origin, model_version="v2")))
        with pytest.raises(RunError, match="another approach"):
            measure_flips(other, copies, self.policy(table))


def verdict(row: Any) -> tuple[int, int, str]:
    return row.successes, row.trials, row.verdict


def test_missing_rows_are_refused() -> None:
    table, copies = world({"clean": ["shoe"], "name": ["shoe"]}, ["shoe"])
    more = pd.concat([copies, copies.tail(1).assign(image_id="else.png")])
    with pytest.raises(RunError, match="no row"):
        measure_flips(table, more)


def test_a_run_without_any_answer_says_nothing_of_words() -> None:
    table, copies = world({"clean": ["", ""], "name": ["", "shoe"]}, ["shoe", "bag"])
    with pytest.raises(RunError, match="none of the 2 images has an answer as it is: refusal"):
        measure_flips(table, copies)


def test_the_figure_shows_examples_above_one_row_per_attack() -> None:
    told = {"clean": ["shoe"] * 4, "blank": ["shoe"] * 4, "name": ["bag"] * 4}
    measures = measure_flips(*world(told, ["shoe"] * 4), measured_on="tune")
    picture = np.zeros((8, 8, 3), np.uint8)
    ax = measures.draw({"clean": [picture], "name": [picture]})
    assert 3 == len(ax.figure.axes)
    assert ["blank  (4)", "name  (4)"] == [label.get_text() for label in ax.get_yticklabels()]
    assert 1 == len(measures.draw({}).figure.axes)
