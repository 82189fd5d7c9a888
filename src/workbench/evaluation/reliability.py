"""Reliability of scores read as probabilities: by category and overall, raw and as a calibrator maps them.

CENSORED counts as 0 among raw scores: what is not named is taken to be absent. MISSING leaves its image out, and is
counted.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from workbench.evaluation import figures
from workbench.evaluation.calibration import Calibrator
from workbench.evaluation.calibration_error import (
    BINS,
    NOTHING,
    Estimate,
    NullErrors,
    Sampling,
    bins_of,
    estimate_measures,
    null_errors,
)
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.results import Result, describe_splits
from workbench.records import CENSORED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Of = Literal["category", "top label", "all categories"]

_STRIP = 25


@dataclass(frozen=True, eq=False)
class Reliability(Result):
    """How one series of probabilities fits one kind of outcome."""

    category: str
    of: Of
    """top label: the one highest category against whether it is the labelled one."""
    scores: str
    """`raw`, or the method that calibrated them."""
    images: int
    """Pairs of probability and outcome; all categories: one pair for each image and category."""
    positives: int
    brier: Estimate
    log_loss: Estimate
    """Probabilities clipped to [1e-6, 1 − 1e-6]."""
    auroc: Estimate
    """Calibration alone can be had without any skill; this is the skill."""
    ece: Estimate
    """Equal-mass bins."""
    ece_width: Estimate
    """Bins of equal width."""
    smece: Estimate
    null: NullErrors
    bin_images: np.ndarray
    """(bins,) int, equal-mass; empty bins are left out."""
    bin_positives: np.ndarray
    bin_means: np.ndarray
    """(bins,) float64: the mean probability."""
    strip: np.ndarray
    """(25,) int: images by probability, bins of equal width."""

    def frame(self) -> pd.DataFrame:
        """One row."""
        row: dict[str, Any] = {
            name: getattr(self, name) for name in ("category", "of", "scores", "images", "positives")
        }
        for name in ("brier", "log_loss", "auroc", "ece", "ece_width", "smece"):
            estimate: Estimate = getattr(self, name)
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            if name in ("ece", "ece_width", "smece"):
                null = asdict(getattr(self.null, name))
                row |= {f"{name}_null": null["mean"], f"{name}_null_high": null["high"]}
        return pd.DataFrame([row])


@dataclass(frozen=True, eq=False)
class CalibrationMeasures(Result):
    """Reliability by category and overall, of raw scores and, with a calibrator, of its probabilities."""

    raw: tuple[Reliability, ...]
    """One per category, then the overall one."""
    calibrated: tuple[Reliability, ...]
    """The same again; empty without a calibrator."""
    left_out: int
    """Images without an answer or with a MISSING score."""
    confidence: float
    measured_on: str

    @property
    def overall(self) -> Reliability:
        """Of the raw scores: top label (single-label) or all categories (multi-label)."""
        return self.raw[-1]

    def frame(self) -> pd.DataFrame:
        """One row per category and one overall, for each series; `classwise_ece` stands in the overall rows."""
        parts = []
        for series in filter(None, (self.raw, self.calibrated)):
            part = pd.concat([row.frame() for row in series], ignore_index=True)
            classwise = float(part["ece"][:-1].mean())
            parts.append(part.assign(classwise_ece=[math.nan] * (len(part) - 1) + [classwise]))
        return pd.concat(parts, ignore_index=True).assign(measured_on=self.measured_on)

    def plot(self, ax: Axes | None = None, category: str | None = None) -> Axes:
        """Reliability diagram of one category, or overall: share of images by mean probability, in equal-mass bins.

        Exact 95 % interval on each share, pointwise; below, where the probabilities lie. Raises KeyError for an unknown
        category.
        """
        ax = ax or figures.new_axes(4.8, 4.9)
        theme = figures.theme_of(ax)
        place = self._place(category)
        first = self.raw[place]
        ax.plot([0, 1], [0, 1], color=theme.soft, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        handles, labels = [], []
        looks = [("o", theme.first, theme.first, 0.0), ("s", theme.second, theme.ground, 0.5)]
        for series, look in zip((self.raw, self.calibrated), looks, strict=True):
            if series and series[place].images:
                handles.append(_draw_reliability(ax, series[place], *look, halves=2 if self.calibrated else 1))
                labels.append(_words(series[place]))
        if not handles:
            ax.text(0.5, 0.5, "no image with scores", ha="center", fontsize=figures.TEXT, color=theme.soft)
        named = figures.printable(first.category) if category is not None else first.of
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.19, 1.02), xlabel="score, read as a probability")
        ax.set_ylabel("share that is right" if first.of == "top label" else "share that shows the category")
        ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
        figures.dress(ax, f"Reliability, {named}", self.measured_on)
        figures.add_legend(ax, handles, labels, loc="upper left", handletextpad=0.2) if handles else None
        return ax

    def _place(self, category: str | None) -> int:
        names = [row.category for row in self.raw[:-1]]
        if category is not None and category not in names:
            raise KeyError(f"no category is called {category!r}; there are {', '.join(names)}")
        return -1 if category is None else names.index(category)


def measure_calibration(
    labelled: Labelled,
    calibrator: Calibrator | None = None,
    *,
    bins: int = BINS,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> CalibrationMeasures:
    """Measure raw scores and, with a calibrator, its probabilities on the rows of `labelled`, whatever their split.

    Images count one each. Overall, single-label: the raw scores' one highest category (images without one are left out
    there); multi-label: all categories together. Bootstrap intervals resample groups, the same ones for every measure.
    Raises ValueError if the calibrator is of other categories or `bins` < 1.
    """
    names = labelled.taxonomy.categories
    if calibrator is not None and calibrator.categories != names:
        raise ValueError(f"the calibrator is for {', '.join(calibrator.categories)}, the run for {', '.join(names)}")
    if bins < 1:
        raise ValueError(f"there must be at least one bin, not {bins}")
    part = labelled.rows(labelled.usable)
    groups = pd.factorize(part.frame["group"])[0]
    sampling = Sampling(bins, resamples, confidence, seed)

    def series(probabilities: np.ndarray, word: str) -> tuple[Reliability, ...]:
        found = [
            _measure(probabilities[:, column], part.truth[:, column], groups, sampling, (name, "category", word))
            for column, name in enumerate(names)
        ]
        p, truth, rows, of = _overall(part, probabilities)
        return (*found, _measure(p, truth, groups[rows], sampling, ("", of, word)))

    raw = np.where(part.scores == CENSORED, 0.0, part.scores.astype(np.float64))
    return CalibrationMeasures(
        raw=series(raw, "raw"),
        calibrated=() if calibrator is None else series(calibrator.apply(part.scores), calibrator.method),
        left_out=len(labelled) - len(part),
        confidence=confidence,
        measured_on=describe_splits(labelled.splits),
    )


def _overall(part: Labelled, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, Of]:
    """(probabilities, outcomes, the row of each, what they are of)."""
    if part.taxonomy.mode == "multi-label":
        rows = np.repeat(np.arange(len(part)), probabilities.shape[1])
        return probabilities.ravel(), part.truth.ravel(), rows, "all categories"
    top = part.top()
    rows = np.flatnonzero(top >= 0)
    return probabilities[rows, top[rows]], part.truth[rows, top[rows]], rows, "top label"


def _measure(
    p: np.ndarray, truth: np.ndarray, groups: np.ndarray, sampling: Sampling, named: tuple[str, Of, str]
) -> Reliability:
    bins, y = sampling.bins, truth.astype(np.float64)
    place = bins_of(p, bins, "mass")
    counts = np.bincount(place, minlength=bins)
    filled = counts > 0
    brier, loss, auroc, ece, ece_width, smece = estimate_measures(p, y, groups, sampling) if len(p) else [NOTHING] * 6
    category, of, scores = named
    return Reliability(
        category=category,
        of=of,
        scores=scores,
        images=len(p),
        positives=int(truth.sum()),
        brier=brier,
        log_loss=loss,
        auroc=auroc,
        ece=ece,
        ece_width=ece_width,
        smece=smece,
        null=null_errors(p, bins, sampling.resamples, sampling.seed),
        bin_images=counts[filled],
        bin_positives=np.bincount(place, y, bins)[filled].astype(np.int64),
        bin_means=np.bincount(place, p, bins)[filled] / counts[filled],
        strip=np.histogram(p, _STRIP, (0, 1))[0],
    )


def _draw_reliability(
    ax: Axes, shown: Reliability, marker: str, colour: str, face: str, shift: float, *, halves: int
) -> Any:
    low, high = clopper_pearson(shown.bin_positives, shown.bin_images)
    ax.vlines(shown.bin_means, low, high, color=colour, linewidth=1.2)
    edges = np.linspace(0, 1, _STRIP + 1)
    heights = 0.15 * shown.strip / shown.strip.max()
    width = 0.9 * (edges[1] - edges[0]) / halves
    style: dict[str, Any] = {"facecolor": face, "edgecolor": colour, "linewidth": 0.7}
    ax.bar(edges[:-1] + shift / _STRIP, heights, width, bottom=-0.18, align="edge", **style)
    rates = shown.bin_positives / shown.bin_images
    return ax.scatter(shown.bin_means, rates, marker=marker, s=28, color=colour, facecolor=face, zorder=3)


def _words(shown: Reliability) -> str:
    return f"{shown.scores}: ECE {shown.ece.value:.3f} (null {shown.null.ece.mean:.3f})"
