"""What headers of an HTTP answer say, alike for every service."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def read_retry_after(value: str) -> float | None:
    """Seconds that a `Retry-After` (RFC 9110, section 10.2.3) asks for: a number, or the time until a date (0 if it has
    passed). None for anything else.
    """
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError):
            return None
    return seconds if 0 <= seconds < math.inf else None
