"""The services themselves, asked for a cent at most: `./run test --live`, with credentials. Otherwise skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from drawn import KINDS, draw_dataset
from servers.anthropic import KEY, Anthropic
from workbench.approaches.base import APPROACHES, Service, Setting, approach_class, build_approach
from workbench.config.prices import packaged_prices
from workbench.dataset.images import Dataset
from workbench.records import OK, Taxonomy
from workbench.runs.cache import AnswerCache
from workbench.runs.limits import Limits
from workbench.runs.runner import classify

CENT = 0.01
TAXONOMY = Taxonomy(KINDS)
LABELS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "rekognition-labels": {"disc": ("Sphere", "Ball"), "stripes": ("Pattern",), "checks": ("Chess",)},
    "rekognition-moderation": {"disc": ("Gambling",), "stripes": ("Alcohol",), "checks": ("Pills",)},
    "google-vision": {"disc": ("Circle",), "stripes": ("Pattern",), "checks": ("Square",)},
}
OWN_PRICES = {"google-vision": ("google/vision/label-detection", "GOOGLE_VISION_USD")}
"""Approach → name of a price that the packaged table lacks, and the variable that tells it (USD per image)."""
BY_THE_HOUR = ("rekognition-custom",)
"""Must be trained, and cost more than a cent to switch on."""
SERVICES = [name for name in APPROACHES if hasattr(approach_class(name), "lacks") and name not in BY_THE_HOUR]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A disc and stripes."""
    return draw_dataset(tmp_path / "drawn", [("tune", (kind,)) for kind in KINDS[:2]], TAXONOMY)


def setting_of(name: str, folder: Path) -> Setting:
    price, variable = OWN_PRICES.get(name, ("", ""))
    told = {price: float(os.environ[variable])} if variable in os.environ else {}
    return Setting(TAXONOMY, LABELS.get(name, {}), folder / "store", prices=packaged_prices().override(told, variable))


@pytest.mark.enable_socket
@pytest.mark.parametrize("name", SERVICES)
def test_the_service_answers_about_two_pictures(
    name: str, dataset: Dataset, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--live"):
        pytest.skip("real calls cost money: ./run test --live")
    service, setting = cast("type[Service]", approach_class(name)), setting_of(name, tmp_path)
    if missing := service.lacks(setting):
        pytest.skip(missing)
    approach: Any = build_approach(name, dataset, setting)
    if approach.estimate(*approach.preparation.size(60, 60)).high_usd is None:
        pytest.skip(f"a cent cannot be kept without a price: {OWN_PRICES[name][1]} tells it (USD per image)")
    limits = Limits(budget_usd=CENT, max_in_flight=1, seconds_per_image=60)
    with closing(approach), AnswerCache(tmp_path / "answers.sqlite") as cache:
        first = classify(dataset, approach, cache, limits=limits)
        again = classify(dataset, approach, cache, limits=Limits(budget_usd=0))
    assert [OK, OK] == list(first.frame["outcome"]), first.frame["detail"].to_list()
    assert 0 < first.frame["cost_usd"].sum() <= CENT
    assert "unobserved" != first.info.origin.model_version
    assert [True, True] == list(again.frame["cached"])
    assert first.info.origin == again.info.origin
    columns = [column for column in first.frame if column.startswith("score:")]
    pd.testing.assert_frame_equal(first.frame[["image_id", *columns]], again.frame[["image_id", *columns]])


@pytest.mark.parametrize("name", SERVICES)
def test_two_pictures_fit_into_a_cent(
    name: str, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("GOOGLE_VISION_USD", "0.002")
    approach: Any = build_approach(name, dataset, setting_of(name, tmp_path))
    with closing(approach):
        worst = approach.estimate(*approach.preparation.size(60, 60)).high_usd
    assert 0 < 2 * worst * approach.parts <= CENT


def test_a_live_test_asks_and_pays_what_it_says(tmp_path: Path) -> None:
    with Anthropic(keys=(KEY,)) as server:
        environment = {**os.environ, "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": server.url, "HOME": str(tmp_path)}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", "--live", __file__]
        tests = ["-k", "two_pictures and answers and claude"]
        ran = subprocess.run([*command, *tests], env=environment, capture_output=True, text=True, check=False)
        assert "1 passed" in ran.stdout, ran.stdout
        assert 2 == len(server.charges)
        assert 0 < server.bill <= CENT
