"""What decisions cost, and the cheapest thresholds.

`cheapest` proposes thresholds on the rows that it is given, and is optimistic about them; whether a promise holds at
them is tested elsewhere (`evaluation.certify`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.errors import RunError
from workbench.evaluation import figures
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.resampling import draw_counts
from workbench.evaluation.results import Result, describe_splits
from workbench.evaluation.simulate import BLOCKED, gate_scores
from workbench.records import Rejection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EQUAL = 1e-12
"""Costs that differ by less than this part of the highest price are equal; rounding is smaller."""
_AT_ONCE = 1 << 21
"""Counts of a block of resamples that are held at once."""


@dataclass(frozen=True)
class Costs:
    """What each outcome of one category costs, in one unit; a right decision without review costs nothing."""

    false_positive: float
    """The image was acted on and does not show the category."""
    false_negative: float
    """The image was passed and shows the category."""
    review: float
    """A person looked at the image, and is taken to be right."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"the cost {name} must be a finite number, 0 or more, not {value}")


@dataclass(frozen=True, eq=False)
class CostChoice(Result):
    """The two cheapest thresholds of one category: pass below `flag`, review from there, act from `act` on."""

    flag: float | None
    """Nothing below it is reviewed or acted on; None: everything passes. Equal to `act`: nothing is reviewed."""
    act: float | None
    """None: nothing is acted on."""
    flag_above: float
    """The next lower score, −inf if there is none: every threshold above it and up to `flag` costs the same."""
    act_above: float
    expected_cost: float
    """For each arriving image, at the prevalence `share`."""
    interval: tuple[float, float]
    """Of what these thresholds cost on fresh images: bootstrap over groups, moved by the optimism (Noma et al. 2021).
    Somewhat narrow: where 95 % was asked it held in 79, 84 and 91 % of 200 simulations with 150, 600 and 2,400 images
    (unmoved: 55, 67 and 76 %). NaN without resamples."""
    optimism: float
    """By how much `expected_cost` is likely too low, being chosen on the same rows: over resamples, the
    mean of what their choice costs here less what it cost there (Efron 1983). NaN without resamples."""
    passed: float
    """Shares of arriving images."""
    reviewed: float
    acted: float
    band_empty: bool
    """No image is reviewed; the two thresholds coincide, or there are none."""
    pass_all: float
    """What it would cost to pass, review or act on every image."""
    review_all: float
    act_all: float
    costs: Costs
    share: float
    """Of arriving images that show the category."""
    images: int
    positives: int
    thresholds: np.ndarray
    """(m,) float32, rising: every distinct score."""
    cost_by_flag: np.ndarray
    """(m,) expected cost with this flag threshold and the best act threshold at or above it."""
    cost_by_act: np.ndarray
    """(m,) expected cost with this act threshold and the best flag threshold at or below it."""
    category: str = ""
    measured_on: str = ""

    @property
    def likely_cost(self) -> float:
        """The expected cost, corrected for its optimism."""
        return self.expected_cost + self.optimism

    def frame(self) -> pd.DataFrame:
        """One row."""
        names = ("category", "flag", "act", "expected_cost", "likely_cost", "passed", "reviewed", "acted")
        fixed = ("pass_all", "review_all", "act_all", "share", "images", "positives")
        row = {name: getattr(self, name) for name in (*names, *fixed)}
        low, high = self.interval
        shown = {**row, "likely_cost_low": low, "likely_cost_high": high, **asdict(self.costs)}
        return pd.DataFrame([{**shown, "measured_on": self.measured_on}])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Expected cost by flag and by act threshold, the other at its best; what the fixed rules cost, dashed."""
        ax = ax or figures.new_axes()
        theme = figures.theme_of(ax)
        lines: list[Any] = []
        for curve, colour, style in ((self.cost_by_flag, theme.first, "-"), (self.cost_by_act, theme.second, "-.")):
            lines += ax.step(self.thresholds, curve, where="pre", color=colour, linestyle=style, linewidth=1.6)
        highest = 1.3 * max(self.pass_all, self.review_all, self.expected_cost) or 1.0
        text: dict[str, Any] = {"textcoords": "offset points", "color": theme.soft, "fontsize": figures.SMALL}
        for name, cost in (("pass all", self.pass_all), ("review all", self.review_all), ("act on all", self.act_all)):
            if cost <= highest:
                ax.axhline(cost, color=theme.soft, linewidth=0.9, linestyle=(0, (4, 3)))
                ax.annotate(name, (0, cost), (2, 2), **text)
        for threshold, marker, colour in ((self.flag, "o", theme.first), (self.act, "s", theme.second)):
            if threshold is not None:
                ax.scatter([threshold], [self.expected_cost], marker=marker, s=34, color=colour, zorder=3)
        ax.set(xlim=(-0.01, 1.01), xlabel="threshold", ylabel="expected cost per image")
        ax.set_ylim(0, highest)
        named = f", {figures.printable(self.category)}" if self.category else ""
        figures.dress(ax, f"Cost by threshold{named}", self.measured_on)
        figures.add_legend(ax, lines, ["flag from here", "act from here"], **figures.BELOW)
        return ax


def cheapest(
    reach: np.ndarray,
    truth: np.ndarray,
    costs: Costs,
    share: float | None = None,
    weights: np.ndarray | None = None,
    *,
    act_reach: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> CostChoice:
    """The thresholds flag ≤ act that cost least for each arriving image, exact over all distinct scores.

    reach      (n,) float32 in [0, 1]; −inf where no tier can fire, so that the image passes
    truth      (n,) bool
    share      of arriving images that show the category; None: as among the (weighted) rows
    weights    (n,) > 0, how many images a row stands for, or None for one each
    act_reach  (n,) where acting has a narrower scope than flagging: −inf where only a flag can fire, else `reach`
    groups     (n,) rows that are resampled together; None: each by itself

    Rows of the category are weighted to sum to π = `share`, all others to 1 − π (scores within a class are taken to be
    those of production). The cost is then a sum over images,

        Σ_{s ≥ act} (fp·w·[negative] − r·w) + Σ_{s ≥ flag} (r·w − fn·w·[positive]) + fn·π,

    one term for each threshold, minimised together under flag ≤ act by a running minimum. Among equal costs the highest
    act threshold is taken, then the highest flag threshold. Raises ValueError for shapes and values that do not fit,
    and where `share` needs rows of a class that has none.
    """
    sample = _Sample.checked(reach, truth, share, weights, act_reach, costs)
    ones = np.ones((1, len(sample.weights)))
    table = _tabulate(sample, ones)
    flag, act = (int(place[0]) for place in _choose(table, _EQUAL * max(asdict(costs).values())))
    cost = table.cost(0, flag, act)
    interval, optimism = (math.nan, math.nan), math.nan
    if resamples:
        interval, optimism = _bootstrap(sample, table, (flag, act), groups, resamples, confidence, seed)
    points, place, by_act, by_flag = table.points, sample.place, *_curves(table)
    held = (place >= flag) & (place < len(points)) & ~(sample.acting & (place >= act))
    reviewed_or_acted, acted = table.share_flagged[0, flag], table.share_acted[0, act]
    return CostChoice(
        flag=_threshold(points, flag),
        act=_threshold(points, act),
        flag_above=float(points[flag - 1]) if 0 < flag < len(points) else -math.inf,
        act_above=float(points[act - 1]) if 0 < act < len(points) else -math.inf,
        expected_cost=cost,
        interval=interval,
        optimism=optimism,
        passed=float(1 - reviewed_or_acted),
        reviewed=float(reviewed_or_acted - acted),
        acted=float(acted),
        band_empty=not held.any(),
        pass_all=costs.false_negative * sample.share,
        review_all=costs.review,
        act_all=costs.false_positive * (1 - sample.share),
        costs=costs,
        share=sample.share,
        images=len(sample.truth),
        positives=int(sample.truth.sum()),
        thresholds=points,
        cost_by_flag=by_flag,
        cost_by_act=by_act,
    )


def cheapest_thresholds(
    labelled: Labelled,
    category: str,
    costs: Costs,
    share: float | None = None,
    *,
    rejection: Rejection | None = None,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> CostChoice:
    """`cheapest` for one category on the tune rows of `labelled` that have every score, weighted as the data set says.

    A flag may fire everywhere; acting is automatic, so it follows the rejection rule and, in single-label mode, needs
    the category to be the one highest. Rows without all scores are left out: they go to review whatever the thresholds
    are. Raises RunError if tune has no usable row, KeyError for an unknown category.
    """
    names = labelled.taxonomy.categories
    if category not in names:
        raise KeyError(f"no category is called {category!r}; there are {', '.join(names)}")
    tune = labelled.on("tune")
    tune = tune.rows(tune.usable)
    if not len(tune):
        raise RunError("thresholds are proposed on tune, and no labelled image there has all its scores")
    rule = rejection or Rejection("none", None, unknown_label=tune.unknown_scores is not None)
    gated = gate_scores(tune.scores, tune.unknown_scores, tune.answered, rule, tune.taxonomy)
    column = names.index(category)
    choice = cheapest(
        gated.reach(column, "any", automatic=False),
        tune.truth[:, column],
        costs,
        share,
        tune.frame["weight"].to_numpy(dtype=np.float64),
        act_reach=gated.reach(column, "assigned", automatic=True),
        groups=pd.factorize(tune.frame["group"])[0],
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )
    return replace(choice, category=category, measured_on=describe_splits(tune.splits))


@dataclass(frozen=True, eq=False)
class _Sample:
    """Rows checked against each other."""

    truth: np.ndarray
    weights: np.ndarray
    share: float
    costs: Costs
    points: np.ndarray
    """(m,) float32, rising: the distinct scores within reach."""
    place: np.ndarray
    """(n,) int: which of them a row has; m where it is BLOCKED."""
    acting: np.ndarray
    """(n,) bool: an act tier can fire."""

    @classmethod
    def checked(
        cls,
        reach: np.ndarray,
        truth: np.ndarray,
        share: float | None,
        weights: np.ndarray | None,
        act_reach: np.ndarray | None,
        costs: Costs,
    ) -> _Sample:
        reach, truth = np.asarray(reach, dtype=np.float32), np.asarray(truth, dtype=bool)
        acted = reach if act_reach is None else np.asarray(act_reach, dtype=np.float32)
        weight = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64)
        if reach.ndim != 1 or not reach.shape == truth.shape == acted.shape == weight.shape or not len(reach):
            raise ValueError(
                f"reach {reach.shape}, truth {truth.shape}, act_reach {acted.shape} and weights {weight.shape} must "
                "have one shape (images,), with at least one image"
            )
        if not ((reach == BLOCKED) | ((reach >= 0) & (reach <= 1))).all():
            raise ValueError("reach must lie in [0, 1], or be −inf where no tier can fire")
        if not ((acted == BLOCKED) | (acted == reach)).all():
            raise ValueError("act_reach must be −inf or equal reach")
        if not (np.isfinite(weight) & (weight > 0)).all():
            raise ValueError("weights must be finite numbers above 0")
        found = float(weight[truth].sum() / weight.sum()) if share is None else float(share)
        if not 0 <= found <= 1:
            raise ValueError(f"the share of images that show the category must lie in [0, 1], not {share}")
        if (found > 0 and not truth.any()) or (found < 1 and truth.all()):
            lacking = "shows" if found > 0 and not truth.any() else "lacks"
            raise ValueError(f"no row {lacking} the category, so a share of {found:g} says nothing of what it costs")
        points, place = np.unique(reach, return_inverse=True)
        blocked = int(len(points) > 0 and points[0] == BLOCKED)
        points = points[blocked:]
        place = np.where(reach == BLOCKED, len(points), place - blocked)
        return cls(truth, weight, found, costs, points, place, acted > BLOCKED)


@dataclass(frozen=True, eq=False)
class _Table:
    """For R weightings, what flagging and acting from each threshold on (the last one: never) adds to the cost."""

    points: np.ndarray
    by_flag: np.ndarray
    """(R, m + 1)."""
    by_act: np.ndarray
    share_flagged: np.ndarray
    share_acted: np.ndarray
    base: float
    """What passing everything costs."""

    def cost(self, row: int, flag: int, act: int) -> float:
        return float(self.by_flag[row, flag] + self.by_act[row, act] + self.base)


def _tabulate(sample: _Sample, counts: np.ndarray) -> _Table:
    """`counts` (R, n): how often each row counts."""
    positive = _shares_from(sample, counts, sample.truth, sample.share)
    negative = _shares_from(sample, counts, ~sample.truth, 1 - sample.share)
    costs, flagged, acted = sample.costs, positive[0] + negative[0], positive[1] + negative[1]
    return _Table(
        points=sample.points,
        by_flag=costs.review * flagged - costs.false_negative * positive[0],
        by_act=costs.false_positive * negative[1] - costs.review * acted,
        share_flagged=flagged,
        share_acted=acted,
        base=costs.false_negative * sample.share,
    )


def _shares_from(sample: _Sample, counts: np.ndarray, kind: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """(R, m + 1) twice: the share of arriving images that are of this kind and within reach at or above a threshold.

    First for flagging, then for acting.
    """
    from scipy.sparse import csr_array

    weight = np.where(kind, sample.weights, 0.0)
    total = counts @ weight
    found = []
    for allowed in (np.ones(len(kind), dtype=bool), sample.acting):
        rows = np.flatnonzero(kind & allowed & (sample.place < len(sample.points)))
        shape = (len(sample.points) + 1, len(kind))
        at_score = csr_array((weight[rows], (sample.place[rows], rows)), shape=shape) @ counts.T
        found.append(np.cumsum(at_score[::-1], axis=0)[::-1].T * share / np.where(total > 0, total, 1.0)[:, None])
    return found[0], found[1]


def _choose(table: _Table, equal: float) -> tuple[np.ndarray, np.ndarray]:
    """(R,) and (R,): the places of the flag and of the act threshold."""
    best_flag = np.minimum.accumulate(table.by_flag, axis=1)
    total = table.by_act + best_flag
    least = total.min(axis=1, keepdims=True) + equal
    last = total.shape[1] - 1
    act = last - np.argmax((total <= least)[:, ::-1], axis=1)
    rest = least - np.take_along_axis(table.by_act, act[:, None], axis=1)
    fits = (table.by_flag <= rest) & (np.arange(last + 1) <= act[:, None])
    return last - np.argmax(fits[:, ::-1], axis=1), act


def _curves(table: _Table) -> tuple[np.ndarray, np.ndarray]:
    """(m,) and (m,): the least cost by act and by flag threshold."""
    best_flag = np.minimum.accumulate(table.by_flag[0])
    best_act = np.minimum.accumulate(table.by_act[0][::-1])[::-1]
    return (table.by_act[0] + best_flag + table.base)[:-1], (table.by_flag[0] + best_act + table.base)[:-1]


def _threshold(points: np.ndarray, place: int) -> float | None:
    return float(points[place]) if place < len(points) else None


def _bootstrap(
    sample: _Sample,
    table: _Table,
    chosen: tuple[int, int],
    groups: np.ndarray | None,
    resamples: int,
    confidence: float,
    seed: int,
) -> tuple[tuple[float, float], float]:
    code = np.arange(len(sample.truth)) if groups is None else pd.factorize(np.asarray(groups))[0]
    if code.shape != sample.truth.shape:
        raise ValueError(f"groups {code.shape} must have the shape of truth {sample.truth.shape}")
    random, at_once = np.random.default_rng(seed), max(1, _AT_ONCE // len(code))
    equal = _EQUAL * max(asdict(sample.costs).values())
    costs, gaps = [], []
    for start in range(0, resamples, at_once):
        drawn = _tabulate(sample, draw_counts(code, sample.truth, min(at_once, resamples - start), random))
        costs.append(drawn.by_flag[:, chosen[0]] + drawn.by_act[:, chosen[1]] + table.base)
        flag, act = _choose(drawn, equal)
        rows = np.arange(len(flag))
        here = table.by_flag[0, flag] + table.by_act[0, act]
        gaps.append(here - drawn.by_flag[rows, flag] - drawn.by_act[rows, act])
    low, high = np.quantile(np.concatenate(costs), [(1 - confidence) / 2, (1 + confidence) / 2])
    optimism = float(np.concatenate(gaps).mean())
    return (float(low) + optimism, float(high) + optimism), optimism
