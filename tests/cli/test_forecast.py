from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from samples import T, make_policy, make_table
from workbench.cli.main import app
from workbench.evaluation.intervals import clopper_pearson
from workbench.policy import read_policy, write_policy
from workbench.predictions import write_predictions
from workbench.records import Routing


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, str]:
    """A policy file, and a run of 150 images: 100 to accept, 30 to review, 20 to pass."""
    policy = make_policy({"shoe": [T("review", 0.25, "any", "recall"), T("accept", 0.75)]}, routing=Routing("pass"))
    scores = np.zeros((150, 3))
    scores[:100, 0], scores[100:130, 0], scores[130:, 1] = 0.875, 0.5, 0.5
    write_policy(policy, tmp_path / "policy.json")
    write_predictions(make_table(read_policy(tmp_path / "policy.json"), scores), tmp_path / "run.parquet")
    return str(tmp_path / "policy.json"), str(tmp_path / "run.parquet")


def test_forecast_gives_shares_hours_and_wrong_actions(paths: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["forecast", *paths, "--per-day", "3000", "--seconds", "12", "--json"])
    assert 0 == result.exit_code, result.output
    found = json.loads(result.stdout)
    assert {"pass": 20, "review": 30, "escalate": 0, "accept": 100} == {
        row["action"]: row["images"] for row in found["actions"]
    }
    assert 1 == pytest.approx(sum(row["share"] for row in found["actions"]))
    assert 600 * 12 / 3600 == pytest.approx(found["hours_per_day"]["expected"])
    assert (1 - 0.9) * 3000 * clopper_pearson(100, 150)[1] == pytest.approx(found["wrong_per_day_at_most"])


def test_forecast_in_words(paths: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["forecast", *paths, "--per-day", "3000", "--seconds", "12"])
    assert 0 == result.exit_code, result.output
    assert "people: 2.0 hours each day (1.4 to 2.7)" in result.stdout
    assert "shoe accept: 66.67% of images, precision at least 0.900, at most 222.4 wrong ones expected each day" in (
        result.stdout
    )


def test_without_a_volume_no_day_is_told(paths: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["forecast", *paths])
    assert 0 == result.exit_code, result.output
    assert "each day" not in result.stdout
    found = json.loads(CliRunner().invoke(app, ["forecast", *paths, "--json"]).stdout)
    assert found["wrong_per_day_at_most"] is None
    assert found["hours_per_day"] == {"low": None, "expected": None, "high": None}


def test_a_run_of_another_model_is_refused(paths: tuple[str, str], tmp_path: Path) -> None:
    policy = read_policy(Path(paths[0]))
    other = make_table(policy, np.full((3, 3), 0.5), origin=replace(policy.origin, model_version="v2"))
    write_predictions(other, tmp_path / "other.parquet")
    result = CliRunner().invoke(app, ["forecast", paths[0], str(tmp_path / "other.parquet")])
    assert 2 == result.exit_code
    assert "does not belong to the policy" in result.output


@pytest.mark.parametrize("option", ["--per-day", "--seconds", "--confidence"])
@pytest.mark.parametrize("value", ["-1", "inf", "nan", "1e308"])
def test_numbers_that_cannot_be_are_a_usage_error(paths: tuple[str, str], option: str, value: str) -> None:
    assert 2 == CliRunner().invoke(app, ["forecast", *paths, option, value]).exit_code
