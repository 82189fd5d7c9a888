"""What services charge: a dated table in the package, and what users put in its place.

Nothing here is guessed: a price that the table does not hold is None, and a run with a budget is refused for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from workbench.errors import ConfigError


@dataclass(frozen=True)
class Prices:
    """USD by name, such as `anthropic/claude-haiku-5-5/input` (per million tokens)."""

    dated: str
    """The day (ISO 8601) on which the packaged table was gathered."""
    usd: Mapping[str, float]
    per: Mapping[str, str]
    """What a price is for: an image, a million tokens, an inference unit and hour. Also where the table has none."""
    overridden: Mapping[str, float] = field(default_factory=dict)

    def of(self, name: str) -> float | None:
        """The price, the user's own before the packaged one; None where neither is known."""
        return self.overridden.get(name, self.usd.get(name))

    def override(self, own: Mapping[str, float], where: str) -> Prices:
        """With the user's own prices (contract, currency of the day, a service that the table lacks).

        `where` opens the message of the ConfigError that a price gets that is no finite number from 0 up, or whose name
        is of a kind that is never asked for: it would silently not count.
        """
        for name, usd in own.items():
            if not self._may_count(name):
                kinds = sorted({known.rpartition("/")[2] for known in self.per})
                close = get_close_matches(name.rpartition("/")[2], kinds, n=1)
                hint = f"; did you mean …/{close[0]}?" if close else ""
                raise ConfigError(f"{where}: {name!r}: no price is called so{hint}")
            if not (math.isfinite(usd) and usd >= 0):
                raise ConfigError(f"{where}: {name!r}: a price is a number of USD from 0 up, not {usd!r}")
        return Prices(self.dated, self.usd, self.per, {**self.overridden, **own})

    def _may_count(self, name: str) -> bool:
        """Of a model that the table lacks, the kinds of tokens are known all the same."""
        service = name.partition("/")[0]
        if service in ("anthropic", "bedrock"):
            kinds = {known.split("/", 2)[2] for known in self.usd if known.startswith("anthropic/")}
            return any(name.endswith(f"/{kind}") for kind in kinds)
        return name in self.per


@cache
def packaged_prices() -> Prices:
    """The table that comes with the package; its file names the source of every price."""
    table = json.loads(files("workbench.config").joinpath("prices.json").read_text(encoding="utf-8"))
    rows = table["prices"]
    known = {row["name"]: row["usd"] for row in rows if row["usd"] is not None}
    return Prices(table["dated"], known, {row["name"]: row["per"] for row in rows})
