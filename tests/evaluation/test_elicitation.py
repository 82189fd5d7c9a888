"""Ways of asking whose accuracy, ranking and calibration are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from labelled_runs import make_labelled
from workbench.errors import RunError
from workbench.evaluation.certify import Certificate, certify_precision
from workbench.evaluation.elicitation import (
    Protocol,
    ProtocolMeasures,
    Trial,
    measure_protocols,
)
from workbench.evaluation.selective import augrc, auroc
from workbench.records import Taxonomy

PETS = Taxonomy(("cat", "dog"))


def trial(
    name: str,
    told: Sequence[int],
    confidence: Sequence[float],
    truth: Sequence[int],
    *,
    costs: Sequence[float] | float = 0.001,
    outcomes: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> Trial:
    """told and truth: 0 cat, 1 dog, 2 unknown."""
    stated = np.full((len(told), 3), -np.inf)
    stated[np.arange(len(told)), list(told)] = confidence
    if outcomes:
        stated[[outcome != "ok" for outcome in outcomes]] = np.nan
    labelled = make_labelled(
        [(PETS.categories[place],) if place < 2 else () for place in truth],
        stated[:, :2],
        taxonomy=PETS,
        unknown=stated[:, 2],
        outcomes=outcomes,
        columns={"group": groups} if groups else None,
    )
    return Trial(name, labelled, np.broadcast_to(np.asarray(costs, dtype=np.float64), (len(told),)).copy())


def world(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, what is told, and the exact chance of being right of each image: two thirds are sure, one third is not."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    chance = np.where(rng.random(n) < 2 / 3, 0.97, 0.55)
    told = np.where(rng.random(n) < chance, truth, (truth + rng.integers(1, 3, n)) % 3)
    return truth, told, chance


def named(measures: ProtocolMeasures, name: str) -> Protocol:
    (found,) = [protocol for protocol in measures.protocols if protocol.name == name]
    return found


class TestMeasures:
    def test_are_those_of_plain_arrays(self) -> None:
        truth, told, chance = world(300, 0)
        found = named(measure_protocols([trial("honest", told, chance, truth)], resamples=200), "honest")
        right = told == truth
        assert right.mean() == pytest.approx(found.accuracy.value)
        stated = chance.astype(np.float32)
        assert auroc(stated[right], stated[~right]) == pytest.approx(found.auroc.value)
        assert augrc(stated, ~right) == pytest.approx(found.augrc.value)
        assert 2 == found.points
        for estimate in (found.accuracy, found.auroc, found.augrc):
            assert estimate.low < estimate.value < estimate.high

    def test_an_image_without_an_answer_is_wrong_and_below_all(self) -> None:
        outcomes = ["ok", "ok", "ok", "refusal", "malformed_answer", "incomplete_answer"]
        one = trial("one", [0, 1, 0, 0, 0, 0], [0.9, 0.8, 0.7, 0.99, 0.99, 0.99], [0, 1, 1, 0, 0, 0], outcomes=outcomes)
        found = measure_protocols([one], resamples=50).protocols[0]
        assert (6, 1, 2, 3) == (found.images, found.refused, found.invalid, found.points)
        assert 2 / 6 == pytest.approx(found.accuracy.value)
        assert auroc([0.9, 0.8], [0.7, -np.inf, -np.inf, -np.inf]) == found.auroc.value == 1
        assert augrc([0.9, 0.8, 0.7, -1, -1, -1], [0, 0, 1, 1, 1, 1]) == pytest.approx(found.augrc.value)

    def test_unknown_can_be_told_rightly(self) -> None:
        found = measure_protocols([trial("one", [2, 2, 0, 0], [0.9, 0.8, 0.7, 0.6], [2, 0, 2, 0])], resamples=50)
        assert 0.5 == found.protocols[0].accuracy.value
        assert 4 == found.protocols[0].points

    def test_calibration_stands_beside_what_chance_shows(self) -> None:
        truth, told, chance = world(900, 1)
        sure = trial("sure", told, [0.99] * 900, truth)
        measures = measure_protocols([trial("honest", told, chance, truth), sure], resamples=50)
        honest, boastful = named(measures, "honest"), named(measures, "sure")
        assert honest.smece.value < 2 * honest.smece_null.high
        assert abs((told == truth).mean() - 0.99) == pytest.approx(boastful.ece.value, abs=1e-6)
        assert boastful.smece.value > 3 * boastful.smece_null.high
        assert boastful.ece.low > boastful.ece_null.high

    def test_cost_per_point_is_cost_over_certified_recall(self) -> None:
        truth, told, chance = world(1200, 2)
        costs = np.random.default_rng(0).random(1200) / 100
        found = measure_protocols([trial("one", told, chance, truth, costs=costs)], resamples=200).protocols[0]
        recalls = []
        for category in (0, 1):
            reach = np.where(told == category, chance.astype(np.float32), -np.inf).astype(np.float32)
            certificate = certify_precision(reach, truth == category, 0.9, 0.9)
            assert isinstance(certificate, Certificate)
            recalls.append((reach[truth == category] >= certificate.threshold).mean())
        assert 100 * np.mean(recalls) == pytest.approx(found.certified_recall.value)
        assert costs.mean() == pytest.approx(found.cost_per_image.value)
        assert 1000 * costs.mean() / (100 * np.mean(recalls)) == pytest.approx(found.cost_per_point.value)
        assert found.certified_recall.low < found.certified_recall.value < found.certified_recall.high
        assert found.cost_per_point.low < found.cost_per_point.value < found.cost_per_point.high

    def test_where_nothing_is_certified_a_point_has_no_price(self) -> None:
        truth, told, _ = world(60, 3)
        found = measure_protocols([trial("one", told, [0.9] * 60, truth)], at_least=0.99, resamples=50).protocols[0]
        assert 0 == found.certified_recall.value
        assert np.isnan(found.cost_per_point.value)


class TestRanking:
    def test_informative_confidences_beat_sure_ones(self) -> None:
        truth, told, chance = world(400, 4)
        sure = trial("sure", told, [0.99] * 400, truth)
        honest = trial("honest", told, chance, truth)
        for order in ((sure, honest), (honest, sure)):
            measures = measure_protocols(order, resamples=500)
            assert "honest" == measures.winner
            assert {"augrc": 1, "auroc": 1, "accuracy": 1} == named(measures, "honest").ranks
            assert {"augrc": 2, "auroc": 2, "accuracy": 1} == named(measures, "sure").ranks
            assert ["honest", "sure"] == list(measures.frame()["name"])

    def test_more_mistakes_lose_though_ranked_alike(self) -> None:
        truth, told, chance = world(600, 5)
        worse = np.where(np.arange(600) % 4 == 0, (truth + 1) % 3, told)
        measures = measure_protocols([trial("one", told, chance, truth), trial("worse", worse, chance, truth)])
        assert "one" == measures.winner
        assert (1, 2) == (named(measures, "one").ranks["accuracy"], named(measures, "worse").ranks["accuracy"])

    def test_the_same_answers_tie(self) -> None:
        truth, told, chance = world(400, 6)
        measures = measure_protocols([trial(name, told, chance, truth) for name in "abc"], resamples=300)
        assert "" == measures.winner
        assert {1} == {rank for protocol in measures.protocols for rank in protocol.ranks.values()}
        assert {""} == {pair.better for pair in measures.pairs}

    def test_equal_ways_with_chance_of_their_own_tie(self) -> None:
        """Three pairs and 12 worlds: an error of 5 % for all pairs of a world together lets a few through."""
        won = 0
        for seed in range(12):
            truth, *_ = world(200, seed)
            ways = []
            for name in "abc":
                rng = np.random.default_rng([seed, ord(name)])
                chance = np.where(rng.random(200) < 2 / 3, 0.97, 0.55)
                told = np.where(rng.random(200) < chance, truth, (truth + 1) % 3)
                ways.append(trial(name, told, chance, truth))
            won += any(pair.better for pair in measure_protocols(ways, resamples=200).pairs if pair.measure == "augrc")
        assert won <= 3  # P[Bin(12, 0.05) > 3] < 0.003

    def test_few_images_rank_nobody(self) -> None:
        truth = [0, 1] * 14
        right, wrong = trial("right", truth, [0.9] * 28, truth), trial("wrong", truth[::-1], [0.9] * 28, truth)
        assert "" == measure_protocols([right, wrong], resamples=100).winner

    def test_images_of_one_group_count_together(self) -> None:
        truth, told, chance = world(400, 7)
        groups = [f"{row % 29}" for row in range(400)]
        ways = [trial(name, told, p, truth, groups=groups) for name, p in (("one", chance), ("sure", [0.99] * 400))]
        assert "" == measure_protocols(ways, resamples=100).winner

    def test_one_way_has_no_winner(self) -> None:
        assert "" == measure_protocols([trial("one", [0, 1], [0.9, 0.8], [0, 0])], resamples=20).winner


class TestRefusals:
    def test_other_images_labels_or_modes(self) -> None:
        one, other = trial("one", [0, 1], [0.9, 0.8], [0, 1]), trial("other", [0, 1], [0.9, 0.8], [1, 1])
        with pytest.raises(RunError, match="other labels"):
            measure_protocols([one, other])
        with pytest.raises(RunError, match="same images"):
            measure_protocols([one, trial("short", [0], [0.9], [0])])
        with pytest.raises(RunError, match="one name"):
            measure_protocols([one, one])
        with pytest.raises(RunError, match="nothing to compare"):
            measure_protocols([])
        multi = replace(one.labelled, taxonomy=replace(PETS, mode="multi-label"))
        with pytest.raises(RunError, match="single-label"):
            measure_protocols([replace(one, labelled=multi)])


def test_tables_and_figure_hold_every_way() -> None:
    truth, told, chance = world(120, 8)
    ways = [trial("top-k", told, chance, truth), trial("$x_$", told, [0.9] * 120, truth)]
    measures = measure_protocols(ways, resamples=50)
    frame = measures.frame()
    assert {"augrc", "augrc_low", "augrc_high", "smece_null", "cost_per_point", "rank_augrc"} <= set(frame.columns)
    assert "tune (optimistic: the tune split chose thresholds)" == frame["measured_on"][0]
    assert 3 == len(measures.pairs_frame())
    axes = measures.plot()
    assert [r"\$x_\$", "top-k"] == sorted(label.get_text() for label in axes[0].get_yticklabels())
    assert isinstance(frame, pd.DataFrame)
