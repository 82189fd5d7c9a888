"""Ways to ask the same model, compared on the same labelled images: whose confidences tell right from wrong?

Single-label. What is told of an image is what the decision rule would say without thresholds: the one highest category,
or unknown; its confidence is that score, or the score of "none of these". An image without an answer is told wrongly,
below every confidence. Images count one each; intervals resample groups, the same ones for every way of asking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.errors import RunError
from workbench.evaluation import figures, tallies
from workbench.evaluation.calibration_error import (
    BINS,
    NO_NULL,
    NOTHING,
    Estimate,
    Null,
    Sampling,
    estimate_measures,
    null_errors,
)
from workbench.evaluation.certify import Certificate, certify_precision
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.resampling import draw_counts
from workbench.evaluation.results import Result, describe_splits, share
from workbench.evaluation.simulate import Gated, gate_scores
from workbench.evaluation.tallies import Tally
from workbench.records import OK, Rejection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST_GROUPS = 30
"""With fewer groups of images no way of asking is ranked before another: the bootstrap would claim too much."""

RANKED: Mapping[str, int] = {"augrc": -1, "auroc": 1, "accuracy": 1}
"""Measures by which is ranked, the first before all; 1: high is good."""

_RESAMPLED = ("accuracy", "auroc", "augrc", "cost_per_image", "certified_recall", "cost_per_point")
_MOST_COUNTS = 1 << 19
_CALIBRATION_RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class Trial:
    """One way of asking, and what came of it."""

    name: str
    labelled: Labelled
    """n images."""
    costs: np.ndarray
    """(n,) float64: USD that all answers about an image cost, whenever they were asked."""


@dataclass(frozen=True)
class Protocol:
    """One way of asking, measured."""

    name: str
    images: int
    refused: int
    """Images that the model declined."""
    invalid: int
    """Images whose answer could not be read, was cut off, or never came."""
    points: int
    """Distinct confidences: at so many places a threshold can lie."""
    accuracy: Estimate
    """Share of all images told rightly."""
    auroc: Estimate
    """Of the confidence, right against wrong: the chance that a right answer is more confident than a wrong one."""
    augrc: Estimate
    """See `selective.augrc`; low is good. It falls with better ranking and with fewer mistakes."""
    ece: Estimate
    """Of the answers that state a confidence, as the probability of being right; equal-mass bins."""
    ece_null: Null
    """What it would show if every confidence were exactly right."""
    smece: Estimate
    smece_null: Null
    cost_per_image: Estimate
    """USD."""
    certified_recall: Estimate
    """Percentage points, 0 to 100: the mean over categories of the recall at the threshold at which `certify_precision`
    proves the goal on these images, 0 where it proves none. A yardstick, no promise. The interval takes the thresholds
    as they are."""
    cost_per_point: Estimate
    """USD for 1,000 images per point of `certified_recall`; NaN where there is none."""
    ranks: Mapping[str, int]
    """By measure of RANKED: one more than the ways of asking that are better beyond chance; equal ranks are ties."""


@dataclass(frozen=True)
class Pair:
    """Two ways of asking on the same images."""

    measure: str
    first: str
    second: str
    difference: float
    """First less second."""
    low: float
    """Of the interval, whose error is shared among all pairs (Bonferroni); NaN where nothing can be told."""
    high: float
    better: str
    """The one that is better beyond chance; "" for neither."""


@dataclass(frozen=True, eq=False)
class ProtocolMeasures(Result):
    """All ways of asking, and all pairs of them."""

    protocols: tuple[Protocol, ...]
    pairs: tuple[Pair, ...]
    at_least: float
    """The precision that is certified."""
    certified_at: float
    """The confidence at which it is."""
    confidence: float
    """Of the intervals."""
    measured_on: str

    @property
    def winner(self) -> str:
        """The one way that is better than every other by AUGRC, beyond chance; "" if there is none."""
        (headline, *_) = RANKED
        first = [protocol.name for protocol in self.protocols if protocol.ranks[headline] == 1]
        return first[0] if len(first) == 1 and len(self.protocols) > 1 else ""

    def frame(self) -> pd.DataFrame:
        """One row per way of asking, the best by AUGRC first."""
        rows = []
        for protocol in sorted(self.protocols, key=lambda one: (one.ranks["augrc"], one.augrc.value)):
            row: dict[str, Any] = {}
            for name, value in vars(protocol).items():
                if isinstance(value, Estimate):
                    row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
                elif isinstance(value, Null):
                    row |= {name: value.mean, f"{name}_high": value.high}
                elif name == "ranks":
                    row |= {f"rank_{measure}": rank for measure, rank in value.items()}
                else:
                    row[name] = value
            rows.append(row)
        return pd.DataFrame(rows).assign(
            at_least=self.at_least, certified_at=self.certified_at, measured_on=self.measured_on
        )

    def pairs_frame(self) -> pd.DataFrame:
        """One row per measure and pair."""
        return pd.DataFrame([vars(pair) for pair in self.pairs], columns=list(Pair.__dataclass_fields__))

    def plot(self) -> list[Axes]:
        """One panel for each of the main measures, one row for each way of asking."""
        frame = self.frame()
        panels = {
            "augrc": "AUGRC (low is good)",
            "auroc": "AUROC, right against wrong",
            "accuracy": "accuracy",
            "smece": "smooth calibration error",
            "certified_recall": f"certified recall at precision ≥ {self.at_least:g}, %",
            "cost_per_image": "USD per 1,000 images",
        }
        axes = figures.new_grid(len(panels), columns=3, width=9.6, row_height=1.3 + 0.34 * len(frame))
        place = np.arange(len(frame))
        for ax, (name, title) in zip(axes, panels.items(), strict=True):
            theme = figures.theme_of(ax)
            low, value, high = (frame[f"{name}{end}"] for end in ("_low", "", "_high"))
            times = 1000 if name == "cost_per_image" else 1
            ax.hlines(place, times * low, times * high, color=theme.first, linewidth=1.4)
            ax.scatter(times * value, place, s=30, color=theme.first, zorder=3)
            if name in ("certified_recall", "cost_per_image"):
                most = 100 if name == "certified_recall" else max(1e-9, float(times * high.max()))
                ax.set_xlim(-0.03 * most, 1.05 * most)
            if name == "smece":
                look: dict[str, Any] = {"marker": "|", "s": 90, "color": theme.second, "zorder": 4}
                handle = ax.scatter(frame["smece_null"], place, **look)
                figures.add_legend(ax, [handle], ["if every confidence were right"], loc="best")
            ax.set_yticks(place, [figures.printable(protocol) for protocol in frame["name"]])
            ax.set_ylim(len(frame) - 0.5, -0.5)
            figures.dress(ax, title, grid="x")
        figures.figure_of(axes[0]).supxlabel(self.measured_on, fontsize=figures.SMALL, color=figures.LIGHT.soft)
        return axes


def measure_protocols(
    trials: Sequence[Trial],
    *,
    at_least: float = 0.9,
    certified_at: float = 0.9,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> ProtocolMeasures:
    """Measure each way of asking and compare all pairs by a paired bootstrap over groups.

    at_least, certified_at  precision goal and confidence of `certified_recall`

    Raises RunError unless all trials are of the same single-label images, in one order.
    """
    _refuse_differences(trials)
    first = trials[0].labelled
    groups = pd.factorize(first.frame["group"])[0]
    readings = [_read(trial) for trial in trials]
    hits = [
        _certified_hits(reading, trial.labelled, at_least, certified_at, seed)
        for reading, trial in zip(readings, trials, strict=True)
    ]

    def measure(counts: np.ndarray) -> np.ndarray:
        """(trials, measures, R)."""
        triples = zip(trials, readings, hits, strict=True)
        return np.stack([_measure(reading, trial, hit, counts) for trial, reading, hit in triples])

    value = measure(np.ones((1, len(first))))[:, :, 0]
    drawn = _resampled(measure, groups, resamples, seed)
    tail = (1 - confidence) / 2
    low, high = _quantiles(drawn, tail)
    by_name = {trial.name: reading for trial, reading in zip(trials, readings, strict=True)}
    pairs = _compare(by_name, groups, value, drawn, confidence)
    protocols = []
    for number, (trial, reading) in enumerate(zip(trials, readings, strict=True)):
        figures_of = {
            name: Estimate(float(value[number, at]), float(low[number, at]), float(high[number, at]))
            for at, name in enumerate(_RESAMPLED)
        }
        calibrated = _calibration(
            reading, groups, Sampling(BINS, min(resamples, _CALIBRATION_RESAMPLES), confidence, seed)
        )
        protocols.append(_protocol(trial, reading, figures_of, calibrated, _ranks(trial.name, pairs)))
    return ProtocolMeasures(tuple(protocols), pairs, at_least, certified_at, confidence, describe_splits(first.splits))


@dataclass(frozen=True, eq=False)
class _Reading:
    """What is told of n images."""

    right: np.ndarray
    """(n,) bool."""
    confidence: np.ndarray
    """(n,) float64; −inf where none is stated."""
    gated: Gated


def _refuse_differences(trials: Sequence[Trial]) -> None:
    if not trials:
        raise RunError("there is nothing to compare: name at least one way of asking")
    first = trials[0].labelled
    for trial in trials:
        rows = trial.labelled
        if rows.taxonomy.mode != "single-label":
            raise RunError("ways of asking are compared on single-label sets: one answer, one confidence")
        if list(rows.frame["image_id"]) != list(first.frame["image_id"]) or len(trial.costs) != len(rows):
            raise RunError(f"{trial.name!r} is not of the same images as {trials[0].name!r}, in the same order")
        if not np.array_equal(rows.truth, first.truth):
            raise RunError(f"{trial.name!r} has other labels than {trials[0].name!r}")
    if len({trial.name for trial in trials}) != len(trials):
        raise RunError("two ways of asking have one name")
    if not len(first):
        raise RunError("there is no labelled image to compare on")


def _read(trial: Trial) -> _Reading:
    rows = trial.labelled
    rule = Rejection("none", None, unknown_label=rows.unknown_scores is not None)
    gated = gate_scores(rows.scores, rows.unknown_scores, rows.answered, rule, rows.taxonomy)
    told = gated.usable & ~gated.rejected
    top = rows.truth[np.arange(len(rows)), gated.top]
    right = np.where(told, top, gated.rejected & rows.unknown)
    best = np.where(told, rows.scores.max(axis=1, initial=-np.inf, where=~np.isnan(rows.scores)), -np.inf)
    if rows.unknown_scores is not None:
        best = np.where(gated.rejected, rows.unknown_scores, best)
    return _Reading(right.astype(bool), np.where(gated.usable, best, -np.inf).astype(np.float64), gated)


def _certified_hits(reading: _Reading, rows: Labelled, at_least: float, certified_at: float, seed: int) -> np.ndarray:
    """(n, K) bool: images on which a tier of the category would fire at the threshold that is certified."""
    categories = len(rows.taxonomy.categories)
    hits = np.zeros((len(rows), categories), dtype=bool)
    groups = rows.frame["group"].to_numpy(dtype=object)
    for column in range(categories):
        reach = reading.gated.reach(column, "assigned", automatic=True)
        found = certify_precision(reach, rows.truth[:, column], at_least, certified_at, groups=groups, seed=seed)
        if isinstance(found, Certificate):
            hits[:, column] = reach >= np.float32(found.threshold)
    return hits


def _measure(reading: _Reading, trial: Trial, hits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(measures, R), in the order of _RESAMPLED."""
    right, confidence, truth = reading.right, reading.confidence, trial.labelled.truth
    total = counts.sum(axis=1)
    everything, correct, wrong = (Tally(confidence, counts, kept) for kept in (None, right, ~right))
    cost = counts @ trial.costs / total
    shown = truth.any(axis=0)
    recall = share(counts @ (hits & truth)[:, shown], counts @ truth[:, shown].astype(np.float64))
    with np.errstate(invalid="ignore"):
        points = 100 * (_mean(recall) if shown.any() else np.full(len(counts), np.nan))
    return np.stack(
        [
            counts @ right / total,
            tallies.auroc(correct, wrong),
            tallies.augrc([everything], [wrong]),
            cost,
            points,
            share(1000 * cost, points),
        ]
    )


def _mean(recall: np.ndarray) -> np.ndarray:
    """(R,): over the categories of which the resample has an image."""
    there = ~np.isnan(recall)
    return share(np.where(there, recall, 0).sum(axis=1), there.sum(axis=1))


def _resampled(measure: Any, groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    alike = np.zeros(len(groups), dtype=bool)
    at_once = max(1, _MOST_COUNTS // len(groups))
    sizes = (min(at_once, resamples - start) for start in range(0, resamples, at_once))
    return np.concatenate([measure(draw_counts(groups, alike, size, random)) for size in sizes], axis=2)


def _quantiles(drawn: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Along the last axis; NaN where no resample has a figure."""
    low, high = np.full(drawn.shape[:-1], np.nan), np.full(drawn.shape[:-1], np.nan)
    there = ~np.isnan(drawn).all(axis=-1)
    if there.any():
        low[there], high[there] = np.nanquantile(drawn[there], [tail, 1 - tail], axis=-1)
    return low, high


def _compare(
    readings: Mapping[str, _Reading], groups: np.ndarray, value: np.ndarray, drawn: np.ndarray, confidence: float
) -> tuple[Pair, ...]:
    """All pairs, by a t interval around the difference with the bootstrap's standard error.

    Its degrees of freedom are one less than the groups in which either way is wrong, or right if these are fewer: where
    few images tell, percentiles of the bootstrap err more often than they say (measured: 10 % instead of 5 %).
    """
    from scipy.stats import t as student

    both = list(combinations(enumerate(readings), 2))
    tail = (1 - confidence) / 2 / max(1, len(both))
    enough = len(np.unique(groups)) >= FEWEST_GROUPS
    pairs = []
    for measure, sign in RANKED.items():
        at = _RESAMPLED.index(measure)
        for (one, name), (other, rival) in both:
            right, right_too = readings[name].right, readings[rival].right
            told = min(len(np.unique(groups[rows])) for rows in (right | right_too, ~(right & right_too)))
            spread = drawn[one, at] - drawn[other, at]
            difference = float(value[one, at] - value[other, at])
            low = high = np.nan
            if told > 1 and np.isfinite(spread).sum() > 1:
                reach = float(student.isf(tail, told - 1)) * float(np.nanstd(spread, ddof=1))
                low, high = difference - reach, difference + reach
            better = ""
            if enough and (low > 0 or high < 0):
                better = name if (low > 0) == (sign > 0) else rival
            pairs.append(Pair(measure, name, rival, difference, low, high, better))
    return tuple(pairs)


def _ranks(name: str, pairs: Sequence[Pair]) -> dict[str, int]:
    beaten = dict.fromkeys(RANKED, 1)
    for pair in pairs:
        if name in (pair.first, pair.second) and pair.better not in ("", name):
            beaten[pair.measure] += 1
    return beaten


def _calibration(reading: _Reading, groups: np.ndarray, sampling: Sampling) -> tuple[Estimate, Null, Estimate, Null]:
    stated = np.isfinite(reading.confidence)
    if not stated.any():
        return NOTHING, NO_NULL, NOTHING, NO_NULL
    p, right = reading.confidence[stated], reading.right[stated].astype(np.float64)
    *_, ece, _, smece = estimate_measures(p, right, groups[stated], sampling)
    null = null_errors(p, sampling.bins, sampling.resamples, sampling.seed)
    return ece, null.ece, smece, null.smece


def _protocol(
    trial: Trial,
    reading: _Reading,
    found: Mapping[str, Estimate],
    calibrated: tuple[Estimate, Null, Estimate, Null],
    ranks: Mapping[str, int],
) -> Protocol:
    outcome = trial.labelled.frame["outcome"]
    ece, ece_null, smece, smece_null = calibrated
    return Protocol(
        name=trial.name,
        images=len(outcome),
        refused=int((outcome == "refusal").sum()),
        invalid=int((~outcome.isin([OK, "refusal"])).sum()),
        points=len(np.unique(reading.confidence[np.isfinite(reading.confidence)])),
        ece=ece,
        ece_null=ece_null,
        smece=smece,
        smece_null=smece_null,
        ranks=ranks,
        **found,
    )
