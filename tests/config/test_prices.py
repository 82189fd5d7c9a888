"""The table of prices, and what users put in its place."""

from __future__ import annotations

import math

import pytest

from workbench.config.prices import packaged_prices
from workbench.errors import ConfigError


@pytest.mark.parametrize(
    "name",
    [
        "rekognition/detect-labels",
        "anthropic/claude-of-tomorrow/batch-input",
        "anthropic/claude-haiku-5-5/output/over-100k",
        "bedrock/eu.anthropic.claude-haiku-5-5/cache-read",
        "bedrock/arn:aws:bedrock:eu-west-1:123456789012:inference-profile/mine/input",
        "google/vision/label-detection",
        "rekognition/custom-labels-training",
    ],
)
def test_a_price_of_ones_own_goes_before_the_table(name: str) -> None:
    assert 0.25 == packaged_prices().override({name: 0.25}, "here").of(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("anthropic/claude-haiku-5-5/inptu", "did you mean …/input?"),
        ("bedrock/eu.anthropic.claude-haiku-5-5", "no price is called so"),
        ("rekognition/detect-label", "did you mean …/detect-labels?"),
    ],
)
def test_a_name_that_would_never_be_asked_for_is_refused(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"here: '{name}'") as caught:
        packaged_prices().override({name: 0.25}, "here")
    assert hint in str(caught.value)


@pytest.mark.parametrize("usd", [-1.0, math.nan, math.inf])
def test_what_is_no_price_is_refused(usd: float) -> None:
    with pytest.raises(ConfigError, match="from 0 up"):
        packaged_prices().override({"rekognition/detect-labels": usd}, "here")
