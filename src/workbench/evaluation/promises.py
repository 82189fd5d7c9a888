"""What a threshold that was simply picked promises and keeps, beside one that was certified.

A labelled table is taken for the whole population: what any threshold does there is counted, so a promise that was
made on a set drawn from it is kept or broken, and no one has to guess. An experiment about methods, not about a policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.evaluation import figures
from workbench.evaluation.certify import Certificate, certify_precision
from workbench.evaluation.grids import count_falling
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.results import Result, share
from workbench.evaluation.simulate import gate_scores
from workbench.records import CENSORED, Rejection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_PICKED = 10
"""A naive threshold rests on so many images at least."""

_WORST = 0.05


@dataclass(frozen=True, eq=False)
class PickComparison(Result):
    """Of K categories in R labelled sets: the naive threshold and the certified one, and what each keeps."""

    categories: tuple[str, ...]
    at_least: float
    """The precision that is promised."""
    confidence: float
    """Of each certificate by itself."""
    images: int
    """Of each set that was drawn."""
    positives: np.ndarray
    """(K,) int: images of the population that show the category."""
    naive: np.ndarray
    """(R, K) float64: the lowest threshold with observed precision `at_least`, on LEAST_PICKED images; NaN: none."""
    naive_kept: np.ndarray
    """(R, K) float64: precision in the population at `naive`; NaN where there is none."""
    naive_recall: np.ndarray
    """(R, K) float64: recall in the population at `naive`; 0 where there is none."""
    certified: np.ndarray
    """(R, K) float64: what `certify_precision` allows; NaN where it refuses."""
    certified_kept: np.ndarray
    certified_recall: np.ndarray
    measured_on: str

    def broken(self, kept: np.ndarray) -> np.ndarray:
        """(K,) share of all sets whose threshold has less precision in the population than was promised."""
        return np.asarray((kept < self.at_least).mean(axis=0))

    def frame(self) -> pd.DataFrame:
        """Two rows per category, `naive` and `certified`.

        `promised` and `broken` are shares of all sets; `worst` is the precision that is kept in all but the worst 5 %
        of those that promised, NaN if none did; `recall` is the mean, 0 where nothing is promised.
        """
        return pd.concat([self._rows("naive"), self._rows("certified")]).sort_index(kind="stable", ignore_index=True)

    def _rows(self, pick: str) -> pd.DataFrame:
        kept, recall = getattr(self, f"{pick}_kept"), getattr(self, f"{pick}_recall")
        columns = {
            "category": self.categories,
            "pick": pick,
            "promised": (~np.isnan(kept)).mean(axis=0),
            "broken": self.broken(kept),
            "worst": [_worst(column[~np.isnan(column)]) for column in kept.T],
            "recall": recall.mean(axis=0),
            "sets": len(kept),
            "images": self.images,
            "measured_on": self.measured_on,
        }
        return pd.DataFrame(columns)

    def plot(self, ax: Axes | None = None) -> Axes:
        """By category: in what share of the sets a promise was broken, naive and certified, and how many certified."""
        rows = len(self.categories)
        ax = ax or figures.new_axes(height=1.7 + 0.34 * rows)
        theme, place = figures.theme_of(ax), np.arange(rows)
        most = 1 - self.confidence
        ax.axvline(most, color=theme.soft, linewidth=0.9, linestyle=(0, (4, 3)))
        naive, certified = self.broken(self.naive_kept), self.broken(self.certified_kept)
        ax.hlines(place, certified, naive, color=theme.line, linewidth=1.6, zorder=1)
        looks = [
            ("naive, broken", naive, "s", theme.second, theme.second),
            ("certified, broken", certified, "o", theme.first, theme.first),
            ("certified at all", (~np.isnan(self.certified)).mean(axis=0), "o", theme.first, theme.ground),
        ]
        dots = [
            ax.scatter(values, place, marker=marker, edgecolor=edge, color=face, s=34, zorder=3)
            for _, values, marker, edge, face in looks
        ]
        ax.set_yticks(place, [figures.printable(name) for name in self.categories])
        ax.set(xlim=(-0.02, 1.02), ylim=(rows - 0.4, -0.6))
        ax.set_xlabel(f"share of {len(self.naive)} sets of {self.images} images; dashed: {most:.0%}")
        figures.dress(ax, f'Promises of "precision ≥ {self.at_least:g}"', self.measured_on, grid="x")
        figures.add_legend(ax, dots, [name for name, *_ in looks], **figures.BELOW)
        return ax


def compare_picks(
    labelled: Labelled,
    at_least: float = 0.9,
    confidence: float = 0.95,
    *,
    images: int | None = None,
    draws: int = 400,
    seed: int = 0,
) -> PickComparison:
    """Draw labelled sets from the rows of `labelled`, pick and certify a threshold on each, and count what they keep.

    Sets hold `images` rows (by default as many as there are), drawn with replacement, so the rows are the population
    that the sets are independent draws of. An automatic tier without a rejection rule is looked at: in single-label
    mode it fires where its category is the one highest. Categories are certified each by itself, without a grid.

    Raises ValueError without rows, for fewer than one image or draw, and for goals that `certify_precision` refuses.
    """
    count = len(labelled) if images is None else images
    if not len(labelled) or count < 1 or draws < 1:
        raise ValueError(f"{draws} sets of {count} images cannot be drawn from {len(labelled)} labelled ones")
    reach, truth = _reach(labelled), labelled.truth
    random = np.random.default_rng(seed)
    rows = random.integers(0, len(labelled), (draws, count))
    columns = range(truth.shape[1])
    found = [[_picks(reach[drawn, k], truth[drawn, k], at_least, confidence) for k in columns] for drawn in rows]
    naive, certified = np.moveaxis(np.array(found), 2, 0)
    naive_kept, naive_recall = _keep(naive, reach, truth)
    certified_kept, certified_recall = _keep(certified, reach, truth)
    return PickComparison(
        categories=labelled.taxonomy.categories,
        at_least=at_least,
        confidence=confidence,
        images=count,
        positives=truth.sum(axis=0),
        naive=naive,
        naive_kept=naive_kept,
        naive_recall=naive_recall,
        certified=certified,
        certified_kept=certified_kept,
        certified_recall=certified_recall,
        measured_on=f"{', '.join(labelled.splits)}, taken for the whole population",
    )


def _reach(labelled: Labelled) -> np.ndarray:
    """(n, K) float32: −inf where the tier cannot fire."""
    rule = Rejection("none", None, unknown_label=labelled.unknown_scores is not None)
    gated = gate_scores(labelled.scores, labelled.unknown_scores, labelled.answered, rule, labelled.taxonomy)
    columns = range(labelled.truth.shape[1])
    return np.stack([gated.reach(column, "assigned", automatic=True) for column in columns], axis=1)


def _picks(reach: np.ndarray, truth: np.ndarray, at_least: float, confidence: float) -> tuple[float, float]:
    """The naive and the certified threshold; NaN where there is none."""
    fires = reach > CENSORED
    reach, truth = reach[fires], truth[fires]
    seen = count_falling(reach, truth)
    good = np.flatnonzero((seen.precision >= at_least) & (seen.events >= LEAST_PICKED))
    naive = float(seen.points[good[-1]]) if len(good) else np.nan
    found = certify_precision(reach, truth, at_least, confidence)
    return naive, found.threshold if isinstance(found, Certificate) else np.nan


def _keep(picked: np.ndarray, reach: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, K) each: precision (NaN where nothing is picked or fires) and recall (0 where nothing is picked)."""
    precision, recall = np.full(picked.shape, np.nan), np.zeros(picked.shape)
    for column, thresholds in enumerate(picked.T):
        there = ~np.isnan(thresholds)
        points = thresholds[there].astype(np.float32)
        events, right = (
            len(scores) - np.searchsorted(scores, points, side="left")
            for scores in (np.sort(reach[:, column]), np.sort(reach[truth[:, column], column]))
        )
        precision[there, column] = share(right, events)
        recall[there, column] = right / max(1, int(truth[:, column].sum()))
    return precision, recall


def _worst(kept: np.ndarray) -> float:
    return float(np.quantile(kept, _WORST)) if len(kept) else np.nan
