"""How fast, how many at once and for how much a service is asked."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """What a run keeps to. The defaults hold for a run that says nothing. Raises ConfigError for what is no limit."""

    max_rate: float | None = None
    """Calls per second; None for what the approach knows its service to admit (`Service.rate`)."""
    max_in_flight: int = 100
    """Calls under way at once, however well the service takes them."""
    budget_usd: float | None = None
    """Never exceeded: a call starts only where its worst case still fits. None: no limit."""
    seconds_per_image: float = 300.0
    """All attempts at one image together."""

    def __post_init__(self) -> None:
        for what, fine in (
            ("max_rate: more than 0 calls per second", self.max_rate is None or 0 < self.max_rate < float("inf")),
            ("max_in_flight: at least 1", self.max_in_flight >= 1),
            ("budget_usd: 0 USD or more", self.budget_usd is None or 0 <= self.budget_usd < float("inf")),
            ("seconds_per_image: more than 0", self.seconds_per_image > 0),
        ):
            if not fine:
                raise ConfigError(f"limits: {what} is wanted")


USUAL = Limits()
"""What a run keeps to that says nothing."""
