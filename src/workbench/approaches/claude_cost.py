"""What a call costs: tokens from usage afterwards, bounds on them before.

Nobody outside the service has its tokenizer, so text is bounded by its characters. Images are exact: a token per begun
square of 28 pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from workbench.approaches.base import Estimate
from workbench.approaches.claude_models import PATCH
from workbench.config.prices import Prices

_STEP = 100_000
"""Input tokens above which some models cost more per token, for input and output alike."""
_MOST_TOKENS = 10**9
"""Of one answer; what says more is no bill."""
_BYTES_PER_TOKEN = 3.7
"""Of text, at most; at Claude 4.7 and later English has about 3.3, and JSON less."""
_RUNS = re.compile(r"[A-Za-z]+|[0-9]|\n+|[^\S\n]+|[!-/:-@\[-`{-~]+|[^\x00-\x7f]+|.")


class Span(NamedTuple):
    """A number of tokens that is not known exactly."""

    low: int
    high: int

    def __add__(self, other: object) -> Span:
        return Span(self.low + other[0], self.high + other[1]) if isinstance(other, Span) else NotImplemented


INJECTED = Span(120, 240)
"""What the service adds to a question with a schema, beside the schema itself. It gives no figure."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer, by what is charged for them."""

    input: int = 0
    output: int = 0
    write_5m: int = 0
    write_1h: int = 0
    read: int = 0

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> Usage:
        """From an answer's `usage`; what is absent or no count is 0. Thinking is part of the output."""
        created = usage.get("cache_creation") or {}
        hour = _count(created.get("ephemeral_1h_input_tokens")) if isinstance(created, Mapping) else 0
        written = _count(usage.get("cache_creation_input_tokens"))
        return cls(
            input=_count(usage.get("input_tokens")),
            output=_count(usage.get("output_tokens")),
            write_5m=max(0, written - hour),
            write_1h=hour,
            read=_count(usage.get("cache_read_input_tokens")),
        )


@dataclass(frozen=True)
class Tariff:
    """The prices of one model on one platform."""

    prices: Prices
    prefix: str
    """Of their names, such as `anthropic/claude-haiku-5-5`."""

    def usd(self, usage: Usage, *, batch: bool = False) -> float | None:
        """What so many tokens cost; None where a price that is needed is not known."""
        step = usage.input + usage.write_5m + usage.write_1h + usage.read > _STEP
        kinds = {
            "input": usage.input,
            "output": usage.output,
            "cache-write-5m": usage.write_5m,
            "cache-write-1h": usage.write_1h,
            "cache-read": usage.read,
        }
        charges = [(self._price(kind, batch, step), tokens) for kind, tokens in kinds.items() if tokens]
        if any(price is None for price, _ in charges):
            return None
        return math.fsum((price or 0.0) * tokens for price, tokens in charges) / 1e6

    def missing(self, *kinds: str) -> list[str]:
        """The names of the prices, of these kinds, that the table does not hold."""
        return [f"{self.prefix}/{kind}" for kind in kinds if self._price(kind, False, False) is None]

    def _price(self, kind: str, batch: bool, step: bool) -> float | None:
        name = f"{self.prefix}/{'batch-' if batch else ''}{kind}"
        stepped = self.prices.of(f"{name}/over-100k") if step else None
        return self.prices.of(name) if stepped is None else stepped


def estimate_cost(
    tariff: Tariff, *, prefix: Span, asked: Span, told: Span, cached: bool = False, batch: bool = False
) -> Estimate:
    """What a call may cost.

    prefix  tokens of what all questions share, which the service keeps if `cached`: read at best, written at worst
    asked   tokens of the rest
    told    tokens of the answer
    """

    def usd(kept: Usage) -> float | None:
        return tariff.usd(kept, batch=batch)

    lows = [usd(Usage(prefix.low + asked.low, told.low))]
    highs = [usd(Usage(prefix.high + asked.high, told.high))]
    if cached:
        lows.append(usd(Usage(asked.low, told.low, read=prefix.low)))
        highs.append(usd(Usage(asked.high, told.high, write_5m=prefix.high)))
    low = None if None in lows else min(price for price in lows if price is not None)
    high = None if None in highs else max(price for price in highs if price is not None)
    sent = prefix + asked
    return Estimate(low, high, (sent.low + sent.high) // 2, (told.low, told.high))


def image_tokens(width: int, height: int) -> int:
    """Of an image of this size, which must lie within the model's limits."""
    return math.ceil(width / PATCH) * math.ceil(height / PATCH)


def text_tokens(text: str, names: Iterable[str] = ()) -> Span:
    """At least and at most so many tokens, of English or JSON.

    At most: a token per three letters begun, per two punctuation marks begun, per digit, per line break, per further
    space, and per byte of all else. `names` are the stretches of it that may be no English words: per two letters.
    """
    most = _most(text, 3) + sum(_most(name, 2) - _most(name, 3) for name in names)
    return Span(min(most, int(len(text.encode()) / _BYTES_PER_TOKEN)), most)


def _most(text: str, letters: int) -> int:
    return sum(_most_of_run(run, letters) for run in _RUNS.findall(text))


def _most_of_run(run: str, letters: int) -> int:
    if run == " ":
        return 0  # a token takes the space before it along
    if run[0].isascii() and run[0].isalpha():
        return math.ceil(len(run) / letters)
    if run.isspace():
        return 1
    return math.ceil(len(run) / 2) if run.isascii() else len(run.encode())


def is_count(value: Any) -> bool:
    """A number of tokens that one answer may have."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS


def _count(value: Any) -> int:
    return value if is_count(value) else 0
