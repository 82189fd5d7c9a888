"""The load that a policy, or a choice of thresholds, will bring: how many of the arriving images each action takes.

Needs scores alone and no labels. What automatic actions may get wrong follows from the policy's certificates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from workbench.decision import origin_difference
from workbench.errors import RunError
from workbench.evaluation import figures
from workbench.evaluation.costs import CostChoice
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.results import Result
from workbench.evaluation.simulate import BLOCKED, Simulated, simulate
from workbench.predictions import PredictionTable
from workbench.records import Policy, Promise

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["human", "automatic"]


@dataclass(frozen=True)
class Automatic:
    """One automatic tier, and what its certificate allows to be wrong."""

    category: str
    action: str
    images: int
    """On which it, or a higher tier of its category, fires."""
    precision: float
    """What is promised; 0 where the policy promises no precision."""
    confidence: float
    """Of that promise alone; NaN where there is none."""


@dataclass(frozen=True, eq=False)
class LoadForecast(Result):
    """How many of the arriving images each action will take, from unlabelled scores."""

    actions: tuple[str, ...]
    kinds: tuple[Kind, ...]
    counts: np.ndarray
    """(actions,) int: images of the sample."""
    images: int
    automatic: tuple[Automatic, ...]
    """By category: the lowest automatic tier that can fire and does more than nothing."""
    per_day: float | None
    seconds: float | None
    """Of a person's time for each image that goes to one."""
    confidence: float
    """Of each exact interval, on its own."""
    measured_on: str

    @property
    def hours(self) -> tuple[float, float, float]:
        """(low, expected, high) hours of people's time each day; NaN without a volume or a time."""
        human = int(self.counts[[kind == "human" for kind in self.kinds]].sum())
        factor = (self.per_day if self.per_day is not None else math.nan) * (
            self.seconds if self.seconds is not None else math.nan
        )
        low, high = clopper_pearson(human, self.images, self.confidence)
        return float(low * factor / 3600), human / self.images * factor / 3600, float(high * factor / 3600)

    @property
    def wrong_per_day(self) -> float:
        """At most so many wrong automatic actions are expected each day; NaN without a volume.

        Σ (1 − p)·volume·share, p what is promised and each share at the upper end of its interval. Holds together with
        the certificates, for images of the same mix as those certified.
        """
        frame = self.automatic_frame()
        return float(frame["wrong_per_day_high"].sum()) if self.per_day is not None else math.nan

    def frame(self) -> pd.DataFrame:
        """One row per action."""
        low, high = clopper_pearson(self.counts, self.images, self.confidence)
        day = math.nan if self.per_day is None else self.per_day
        hour = np.array([kind == "human" for kind in self.kinds]) * (
            math.nan if self.seconds is None else self.seconds / 3600
        )
        share = self.counts / self.images
        columns: dict[str, Any] = {"action": self.actions, "kind": self.kinds, "images": self.counts, "share": share}
        columns |= {"share_low": low, "share_high": high}
        columns |= {"per_day": day * share, "per_day_low": day * low, "per_day_high": day * high}
        columns |= {"hours": day * share * hour, "hours_low": day * low * hour, "hours_high": day * high * hour}
        return pd.DataFrame({**columns, "measured_on": self.measured_on})

    def automatic_frame(self) -> pd.DataFrame:
        """One row per automatic tier: where it fires, and at most how many wrong actions that means each day."""
        images = np.array([tier.images for tier in self.automatic], dtype=np.int64)
        wrong = 1 - np.array([tier.precision for tier in self.automatic], dtype=np.float64)
        low, high = clopper_pearson(images, self.images, self.confidence)
        day = math.nan if self.per_day is None else self.per_day
        columns: dict[str, Any] = {
            "category": [tier.category for tier in self.automatic],
            "action": [tier.action for tier in self.automatic],
            "images": images,
            "share": images / self.images,
            "share_low": low,
            "share_high": high,
            "precision_at_least": 1 - wrong,
            "confidence": [tier.confidence for tier in self.automatic],
            "wrong_per_day": wrong * day * images / self.images,
            "wrong_per_day_high": wrong * day * high,
        }
        return pd.DataFrame(columns)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The share of each action with its interval."""
        rows = len(self.actions)
        ax = ax or figures.new_axes(height=1.4 + 0.4 * rows)
        theme = figures.theme_of(ax)
        frame, place = self.frame(), np.arange(rows)
        human = np.array([kind == "human" for kind in self.kinds])
        handles = []
        for chosen, colour, hatch in ((human, theme.second, "////"), (~human, theme.first, "")):
            style: dict[str, Any] = {
                "facecolor": theme.ground if hatch else colour,
                "edgecolor": colour,
                "hatch": hatch,
            }
            handles.append(ax.barh(place[chosen], frame["share"][chosen], 0.6, **style))
        ax.hlines(place, frame["share_low"], frame["share_high"], color=theme.ink, linewidth=1.4)
        day = [f"  ({count:,.0f} a day)" if self.per_day is not None else "" for count in frame["per_day"]]
        names = [figures.printable(name) + text for name, text in zip(self.actions, day, strict=True)]
        ax.set_yticks(place, names)
        ax.set(xlim=(0, 1.01), ylim=(rows - 0.4, -0.6))
        ax.set_xlabel(f"share of arriving images, with {self.confidence:.0%} intervals")
        figures.dress(ax, "What will happen to arriving images", self.measured_on, grid="x")
        figures.add_legend(ax, handles, ["by a person", "automatic"], **figures.BELOW)
        return ax


def forecast_load(
    rule: Policy | CostChoice,
    arriving: PredictionTable | np.ndarray,
    per_day: float | None = None,
    seconds: float | None = None,
    confidence: float = 0.95,
) -> LoadForecast:
    """What a policy will do with images like those of an unlabelled run, taken to be a random sample of what arrives.

    A `CostChoice` takes the (n,) scores of its category instead: NaN goes to review, −inf passes. Raises RunError if
    the run is empty or not of the policy's approach, ValueError for a negative volume or time and for other scores.
    """
    for name, value in (("per_day", per_day), ("seconds", seconds)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number, 0 or more, not {value}")
    if not len(arriving):
        raise RunError("a forecast needs the scores of at least one image")
    actions: tuple[str, ...] = ("pass", "review", "act")
    kinds: tuple[Kind, ...] = ("automatic", "human", "automatic")
    automatic: tuple[Automatic, ...] = ()
    if isinstance(rule, CostChoice) and isinstance(arriving, np.ndarray):
        counts, on = _count_by_thresholds(rule, arriving), f"{len(arriving)} scores"
    elif isinstance(rule, Policy) and isinstance(arriving, PredictionTable):
        difference = origin_difference(arriving.info.origin, rule.origin)
        if difference:
            raise RunError(f"this run does not belong to the policy: {difference}")
        simulated = simulate(arriving, rule)
        actions = tuple(action.name for action in rule.actions)
        kinds = tuple(action.kind for action in rule.actions)
        counts = np.array([(simulated.action == name).sum() for name in actions], dtype=np.int64)
        automatic, on = tuple(_automatic_tiers(simulated)), f"{len(arriving)} images of {arriving.info.dataset_name}"
    else:
        raise TypeError("a policy takes a prediction table, a choice of thresholds takes an array of scores")
    return LoadForecast(actions, kinds, counts, len(arriving), automatic, per_day, seconds, confidence, on)


def _count_by_thresholds(choice: CostChoice, scores: np.ndarray) -> np.ndarray:
    raw = np.asarray(scores, dtype=np.float32)
    if raw.ndim != 1 or not (np.isnan(raw) | (raw == BLOCKED) | ((raw >= 0) & (raw <= 1))).all():
        raise ValueError("scores must be one row of numbers in [0, 1], −inf (CENSORED) or NaN (MISSING)")
    acted = raw >= np.float32(math.inf if choice.act is None else choice.act)
    passed = raw < np.float32(math.inf if choice.flag is None else choice.flag)
    return np.array([passed.sum(), (~passed & ~acted).sum(), acted.sum()], dtype=np.int64)


def _automatic_tiers(simulated: Simulated) -> Iterator[Automatic]:
    policy = simulated.policy
    promises = {(promise.category, promise.action): promise for promise in policy.evidence.promises}
    done = set()
    for number, (category, tier) in enumerate(simulated.tiers):
        idle = tier.threshold is None or tier.action not in policy.automatic or not policy.rank[tier.action]
        if idle or category in done:
            continue
        done.add(category)
        within = [at for at, (name, _) in enumerate(simulated.tiers) if name == category and at >= number]
        fired = int(simulated.fired[:, within].any(axis=1).sum())
        yield Automatic(category, tier.action, fired, *_certified_precision(promises.get((category, tier.action))))


def _certified_precision(promise: Promise | None) -> tuple[float, float]:
    if promise is None or promise.metric != "precision" or promise.certified is None or promise.confidence is None:
        return 0.0, math.nan
    return promise.at_least, promise.confidence
