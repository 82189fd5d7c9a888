"""What a run would ask and cost, found out without asking anybody: neither network nor credentials are needed."""

from __future__ import annotations

import html
import math
import os
import time
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, replace

from workbench.approaches.base import Approach, Batched, Estimate, Service
from workbench.config.prices import packaged_prices
from workbench.dataset.images import Dataset
from workbench.errors import RunError
from workbench.prepare.decode import Unprepared
from workbench.records import QUALITY_OUTCOMES
from workbench.runs.cache import AnswerCache
from workbench.runs.limits import USUAL, Limits
from workbench.runs.pipeline import Look, Pipeline
from workbench.runs.progress import shown
from workbench.runs.threads import work_through


@dataclass(frozen=True)
class Charge:
    """What the calls of a run to a service take. USD are None where a price is not known."""

    calls: int
    input_tokens: int
    output_tokens: tuple[int, int]
    """What is usual, and the most that is allowed."""
    low_usd: float | None
    high_usd: float | None
    """No call can cost more than its part of this; attempts that fail after they were billed come on top."""
    hourly_usd: float | None
    """What it costs per hour that the service is switched on; 0 where nothing stands, None if it is not known."""
    minutes: float | None
    """At the rate limit; None where there is none."""
    prices: str
    """The day (ISO 8601) on which the packaged price table was gathered; a project's own prices come before it."""
    note: str
    """Which price is missing, or what else is to be known; "" for nothing."""
    saved_calls: int
    """What is not asked because an image is unreadable or set aside for its quality."""
    in_batches: bool = False
    """At the prices of batches."""
    under_way: int = 0
    """Calls that the service has in batches already, and that are no part of the others."""


@dataclass(frozen=True)
class Plan:
    """What a run would ask. Nothing was asked to make it."""

    approach: str
    images: int
    unreadable: int
    """Images that cannot be prepared; each becomes a row with its reason."""
    set_aside: int
    """Images that nothing is asked about because of their quality; each becomes a row with its reason."""
    pictures: int
    """Different pictures among the others: the same pixels under two names are one."""
    cached: int
    """Pictures whose answer is kept."""
    to_ask: int
    """Pictures that the run would ask about."""
    decoded: int
    """Files that had to be decoded to tell; a second plan decodes none of them."""
    seconds: float
    """How long making the plan took."""
    charge: Charge | None = None
    """None for an approach of this machine."""

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in self._rows()
        )
        return f"<table>{cells}</table>"

    def _rows(self) -> tuple[tuple[str, str], ...]:
        share = f" ({self.cached / self.pictures:.0%})" if self.charge and self.pictures else ""
        return (
            ("approach", self.approach),
            ("images", f"{self.images:,}"),
            ("unreadable", f"{self.unreadable:,}"),
            *((("set aside for quality", f"{self.set_aside:,}"),) if self.set_aside else ()),
            ("different pictures", f"{self.pictures:,}"),
            ("answered before", f"{self.cached:,}{share}"),
            ("to ask", f"{self.to_ask:,}"),
            *(_charge_rows(self.charge) if self.charge else ()),
            ("decoded for this plan", f"{self.decoded:,} in {self.seconds:.1f} s"),
        )


def plan_run(
    dataset: Dataset,
    approach: Approach,
    cache: AnswerCache,
    progress: bool = False,
    limits: Limits = USUAL,
    under_way: Collection[tuple[str, int]] | None = None,
) -> Plan:
    """What `classify` would ask now. Files the cache has not seen are decoded, because answers are kept by pixels.

    under_way  not None for a run in batches: what the service has already, by pixels' digest and part

    Raises RunError if data set and approach differ in their taxonomy, if the cache cannot be used, or if it knows
    answers of several model versions and nothing says which one counts.
    """
    started = time.perf_counter()
    check_taxonomy(dataset, approach)
    pipeline = Pipeline(approach, cache)
    service = approach if isinstance(approach, Service) else None
    threads = (os.cpu_count() or 1) + 1 if service else approach.parallel
    found: dict[bytes, Look] = {}
    unreadable = set_aside = decoded = 0
    files = (dataset.file(path) for path in dataset.frame["path"])
    with closing(work_through(pipeline.look, files, threads)) as looks:
        for _, look in shown(looks, len(dataset), progress):
            decoded += look.decoded
            if isinstance(look.found, Unprepared):
                set_aside += look.found.outcome in QUALITY_OUTCOMES
                unreadable += look.found.outcome not in QUALITY_OUTCOMES
            else:
                found.setdefault(bytes.fromhex(look.found), look)
    unanswered = [look for look in found.values() if look.missing]
    to_ask = [look for look in (_without(look, under_way or ()) for look in unanswered) if look.missing]
    return Plan(
        approach=approach.name,
        images=len(dataset),
        unreadable=unreadable,
        set_aside=set_aside,
        pictures=len(found),
        cached=len(found) - len(unanswered),
        to_ask=len(to_ask),
        decoded=decoded,
        seconds=time.perf_counter() - started,
        charge=None
        if service is None
        else replace(
            _charge(service, to_ask, unreadable + set_aside, limits, under_way is not None),
            under_way=sum(len(look.missing) for look in unanswered) - sum(len(look.missing) for look in to_ask),
        ),
    )


def check_taxonomy(dataset: Dataset, approach: Approach) -> None:
    """Raises RunError for an approach that was built for another taxonomy than the data set has."""
    ours, theirs = dataset.taxonomy, approach.taxonomy
    if ours.digest != theirs.digest:
        raise RunError(
            f"{approach.name} was built for {theirs.mode} {list(theirs.categories)} and {theirs.unknown!r}, data set"
            f" {dataset.name!r} is {ours.mode} {list(ours.categories)} and {ours.unknown!r}; build it for that taxonomy"
        )


def _without(look: Look, under_way: Collection[tuple[str, int]]) -> Look:
    return replace(look, missing=tuple(part for part in look.missing if (look.found, part) not in under_way))


def _charge(service: Service, looks: list[Look], spared: int, limits: Limits, in_batches: bool) -> Charge:
    estimate = service.batch_estimate if in_batches and isinstance(service, Batched) else service.estimate
    calls = sum(len(look.missing) for look in looks)
    rate = limits.max_rate if limits.max_rate is not None else service.rate
    known: dict[tuple[tuple[int, int], ...], Estimate] = {}
    total = Estimate(0.0, 0.0)
    for look in looks:
        if look.sizes not in known:
            known[look.sizes] = _widest(estimate(*size) for size in look.sizes)
        total = _plus(total, known[look.sizes], len(look.missing))
    return Charge(
        calls=calls,
        input_tokens=total.input_tokens,
        output_tokens=total.output_tokens,
        low_usd=total.low_usd,
        high_usd=total.high_usd,
        hourly_usd=service.hourly_usd,
        minutes=calls / rate / 60 if rate and not in_batches else None,
        prices=packaged_prices().dated,
        note=service.price_note,
        saved_calls=spared * service.parts,
        in_batches=in_batches,
    )


def _widest(estimates: Iterable[Estimate]) -> Estimate:
    """What holds for each of them."""
    every = list(estimates)
    lows = [estimate.low_usd for estimate in every]
    highs = [estimate.high_usd for estimate in every]
    return Estimate(
        None if None in lows else min(low for low in lows if low is not None),
        None if None in highs else max(high for high in highs if high is not None),
        max(estimate.input_tokens for estimate in every),
        (min(estimate.output_tokens[0] for estimate in every), max(estimate.output_tokens[1] for estimate in every)),
    )


def _plus(total: Estimate, one: Estimate, times: int) -> Estimate:
    return Estimate(
        None if total.low_usd is None or one.low_usd is None else total.low_usd + times * one.low_usd,
        None if total.high_usd is None or one.high_usd is None else total.high_usd + times * one.high_usd,
        total.input_tokens + times * one.input_tokens,
        (
            total.output_tokens[0] + times * one.output_tokens[0],
            total.output_tokens[1] + times * one.output_tokens[1],
        ),
    )


def _charge_rows(charge: Charge) -> list[tuple[str, str]]:
    rows = [("calls", f"{charge.calls:,}{' in batches' if charge.in_batches else ''}")]
    if charge.under_way:
        rows.append(("with the service", f"{charge.under_way:,} calls, handed in before; not counted here"))
    if charge.saved_calls:
        rows.append(("calls spared", f"{charge.saved_calls:,} (unreadable or set aside)"))
    if charge.input_tokens:
        usual, most = charge.output_tokens
        rows += [
            ("input tokens", f"about {charge.input_tokens:,}"),
            ("output tokens", f"{usual:,} as usual, {most:,} at most"),
        ]
    rows.append(("cost of calls" if charge.hourly_usd != 0 else "cost", f"{_cost(charge)} (prices of {charge.prices})"))
    if charge.hourly_usd is None:
        rows.append(("while switched on", "a price per hour that is not known"))
    elif charge.hourly_usd:
        least = (
            ", used or not, from start to stop"
            if charge.minutes is None
            else f", {_usd(charge.hourly_usd * charge.minutes / 60)} at the rate limit"
        )
        rows.append(("while switched on", f"{_usd(charge.hourly_usd)} per hour{least}"))
    rows.append(
        ("time", "within a day") if charge.in_batches else ("time at the rate limit", _duration(charge.minutes))
    )
    if charge.note:
        rows.append(("note", charge.note))
    return rows


def _cost(charge: Charge) -> str:
    if charge.low_usd is None or charge.high_usd is None:
        return "not known: [prices] in workbench.toml sets what is missing"
    if math.isclose(charge.low_usd, charge.high_usd):
        return _usd(charge.high_usd)
    return f"{_usd(charge.low_usd)} to {_usd(charge.high_usd)}"


def _usd(amount: float) -> str:
    return f"{amount:,.2f} USD" if amount >= 1 or amount == 0 else f"{amount:.3g} USD"


def _duration(minutes: float | None) -> str:
    if minutes is None:
        return "not known: nobody says how fast the service may be asked"
    return f"{minutes:,.1f} minutes" if minutes >= 1 else f"{minutes * 60:.0f} seconds"
