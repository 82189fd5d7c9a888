"""How fast, how many at once and for how much a service is asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a run keeps to. The defaults hold for a run that says nothing."""

    max_rate: float | None = None
    """Calls per second; None for what the approach knows its service to admit (`Service.rate`)."""
    max_in_flight: int = 100
    """Calls under way at once, however well the service takes them."""
    budget_usd: float | None = None
    """Never exceeded: a call starts only where its worst case still fits. None: no limit."""
    seconds_per_image: float = 300.0
    """All attempts at one image together."""
