"""The benchmark of the promises on a few cells: certificates hold, and a wrong count is noticed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from workbench.evaluation import certify

FILE = Path(__file__).parents[2] / "benchmarks" / "promises.py"
DRAWS = 500


@pytest.fixture(scope="module")
def promises() -> ModuleType:
    spec = importlib.util.spec_from_file_location("promises", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["promises"] = module
    spec.loader.exec_module(module)
    return module


def judged(promises: ModuleType, mutant: str = "") -> list[Any]:
    jobs = promises.jobs_for(
        "precision", ["least favourable 5%"], [500], [0.9], [0.1], DRAWS, mutant=mutant, peers=False
    )
    return list(promises.judge(promises.run_jobs(jobs, workers=1)))


def test_precision_holds_where_it_is_hardest(promises: ModuleType) -> None:
    verdicts = judged(promises)
    assert {promises.FIXED, promises.DEFAULT} == {verdict.cell.method for verdict in verdicts}
    assert [] == [str(verdict) for verdict in verdicts if verdict.fails]


@pytest.mark.parametrize("mutant", ["x+1", "k-1"])
def test_a_wrong_count_is_caught(promises: ModuleType, mutant: str) -> None:
    honest = certify.upper_tail
    assert any(verdict.fails for verdict in judged(promises, mutant))
    assert honest is certify.upper_tail


def test_the_fixed_grid_violates_as_often_as_computed(promises: ModuleType) -> None:
    jobs = promises.jobs_for("precision", ["least favourable 20%"], [500], [0.9], [0.1], DRAWS, peers=False)
    rows = promises.compare_exact(promises.run_jobs(jobs, workers=1))
    assert 1 == len(rows)
    for cell, _, exact, p_value in rows:
        assert 0.5 * cell.delta < exact <= cell.delta
        assert p_value > 0.001


@pytest.mark.parametrize(
    ("part", "population", "images", "goal"),
    [
        ("groups", "flat, just below the goal", 500, 0.9),
        ("weights", "two halves, just below the goal", 2500, 0.9),
        ("enriched", "one kind", 800, 0.9),
    ],
)
def test_what_is_told_of_the_draw_makes_the_difference(
    promises: ModuleType, part: str, population: str, images: int, goal: float
) -> None:
    jobs = promises.jobs_for(part, [population], [images], [goal], [0.1], 100)
    found = promises.run_jobs(jobs, workers=1)
    assert [] == [str(verdict) for verdict in promises.judge(found) if verdict.fails]
    careless = [outcomes for cell, outcomes in found.items() if not cell.judged]
    assert max(outcomes.violated.mean() for outcomes in careless) > 0.2


def test_recall_holds(promises: ModuleType) -> None:
    found = promises.run_jobs(promises.jobs_for("recall", ["calibrated"], [500], [0.9], [0.1], DRAWS), workers=1)
    assert [] == [str(verdict) for verdict in promises.judge(found) if verdict.fails]


def test_truth_is_counted(promises: ModuleType) -> None:
    scores = np.array([0.9, 0.9, 0.5, 0.2, -np.inf], dtype=np.float32)
    population = promises.Population("five", scores, np.array([True, False, True, True, True]))
    assert (2, 1) == population.masses(0.9)
    assert (2, 1) == population.masses(0.6)
    assert [False, True, True] == [population.keeps_precision(0.5, goal) for goal in (0.7, 0.6, 2 / 3)]
    assert 0.75 == population.recall(0.2)
    assert 0.75 == population.oracle(0.7)
    assert 0.0 == population.oracle(0.8)


def test_the_peer_has_its_own_answers(promises: ModuleType) -> None:
    """The counts that are handed to MAPIE at once give what its plain class gives; a difference raises."""
    rng = np.random.default_rng(3)
    scores = rng.beta(0.6, 0.6, 400).astype(np.float32)
    truth = rng.random(400) < scores
    found = promises.mapie_thresholds(scores, truth, 0.8, 0.1, check=True)
    assert set(promises.MAPIE_MODES) == set(found)
    assert found["fixed_sequence"] is not None
