from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from workbench.approaches.headers import read_retry_after


@pytest.mark.parametrize(("value", "seconds"), [("7", 7.0), ("0", 0.0), ("0.25", 0.25)])
def test_a_number_is_seconds(value: str, seconds: float) -> None:
    assert seconds == read_retry_after(value)


def test_a_date_is_the_time_until_then() -> None:
    now = datetime.now(UTC)
    until = read_retry_after(format_datetime(now + timedelta(hours=1), usegmt=True))
    assert until is not None
    assert 3500 < until <= 3600
    assert 0.0 == read_retry_after(format_datetime(now - timedelta(hours=1), usegmt=True))


@pytest.mark.parametrize("value", ["", "soon", "-3", "nan", "inf", "None", "Mon, 99 Xyz 2026"])
def test_anything_else_says_nothing(value: str) -> None:
    assert read_retry_after(value) is None
