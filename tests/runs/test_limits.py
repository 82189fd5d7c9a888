"""What is no limit is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from workbench.errors import ConfigError
from workbench.runs.limits import Limits


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"max_rate": 0.0}, "max_rate: more than 0"),
        ({"max_rate": math.nan}, "max_rate"),
        ({"max_rate": math.inf}, "max_rate"),
        ({"max_in_flight": 0}, "max_in_flight: at least 1"),
        ({"budget_usd": -0.01}, "budget_usd: 0 USD or more"),
        ({"budget_usd": math.nan}, "budget_usd"),
        ({"seconds_per_image": 0.0}, "seconds_per_image: more than 0"),
    ],
)
def test_what_is_no_limit_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=f"limits: {told}"):
        Limits(**wrong)


def test_what_is_one_is_taken() -> None:
    assert Limits(0.1, 1, 0.0, 0.1).budget_usd == 0.0
