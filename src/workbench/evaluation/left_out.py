"""A stress test of "unknown": each known category plays unknown in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.evaluation import figures, tallies
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.rejection import UNKNOWN_LABEL
from workbench.evaluation.results import Result, describe_splits
from workbench.evaluation.tallies import Tally
from workbench.records import CENSORED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRESS_TEST = "a stress test, no promise: the approach was made with the category that plays unknown"


@dataclass(frozen=True, eq=False)
class LeftOut(Result):
    """What each of S signals tells of each of K categories whose score column was taken out.

    A stress test and no promise: the approach was taught or told about the category, and the scores that are left stay
    as they were, not renormalised as if it had never been there, which flatters top and margin. What it finds is the
    category that passes for another one; how an image of something new fares only real unknown images tell.
    """

    signals: tuple[str, ...]
    categories: tuple[str, ...]
    unknown: np.ndarray
    """(K,) int: images of the category, which play unknown; the measures are NaN where there are none."""
    known: np.ndarray
    """(K,) int: images of the other categories."""
    auroc: np.ndarray
    """(S, K) float64; these three as in `selective`, unknown positive."""
    fpr_at_95_tpr: np.ndarray
    oscr: np.ndarray
    measured_on: str

    def frame(self) -> pd.DataFrame:
        """One row per signal and category."""
        columns = {
            "signal": np.repeat(np.array(self.signals, dtype=object), len(self.categories)),
            "plays_unknown": list(self.categories) * len(self.signals),
            "unknown": np.tile(self.unknown, len(self.signals)),
            "known": np.tile(self.known, len(self.signals)),
            "auroc": self.auroc.ravel(),
            "fpr_at_95_tpr": self.fpr_at_95_tpr.ravel(),
            "oscr": self.oscr.ravel(),
        }
        return pd.DataFrame({**columns, "measured_on": self.measured_on})

    def plot(self, ax: Axes | None = None) -> Axes:
        """AUROC of each category by signal, beside 0.5, which is chance."""
        rows = len(self.categories)
        ax = ax or figures.new_axes(height=1.5 + 0.32 * rows)
        theme = figures.theme_of(ax)
        place = np.arange(rows)
        ax.axvline(0.5, color=theme.soft, linewidth=0.9, linestyle=(0, (4, 3)))
        looks = [("o", theme.first, theme.first), ("s", theme.second, theme.ground), ("D", theme.ink, theme.ground)]
        dots = [
            ax.scatter(values, place, marker=marker, edgecolor=edge, color=face, s=30, zorder=3)
            for values, (marker, edge, face) in zip(self.auroc, looks, strict=False)
        ]
        names = zip(self.categories, self.unknown, strict=True)
        ax.set_yticks(place, [f"{figures.printable(name)}  ({count})" for name, count in names])
        ax.set(xlim=(min(0.4, np.nanmin(self.auroc, initial=1) - 0.03), 1.01), ylim=(rows - 0.4, -0.6))
        ax.set_xlabel("AUROC against the other categories (images of the category in brackets)")
        figures.dress(
            ax, "Each category as if it were unknown: a stress test", self.measured_on.split(";")[0], grid="x"
        )
        figures.add_legend(ax, dots, self.signals, **figures.BELOW)
        return ax


def leave_one_category_out(labelled: Labelled) -> LeftOut:
    """Take out each category's score column: its images are unknown, those of the other categories keep their labels.

    Images labelled unknown and images without scores are left out. Signals are top, margin and, where the approach
    scores "none of these", unknown_label; entropy says nothing of scores that no longer sum to one.

    Raises ValueError for a multi-label taxonomy (an image of two categories would be both) and for fewer than three
    categories.
    """
    if labelled.taxonomy.mode == "multi-label":
        raise ValueError("leaving a category out needs one label per image; this taxonomy is multi-label")
    if len(labelled.taxonomy.categories) < 3:
        raise ValueError("leaving a category out needs at least 3 categories, so that 2 are left to tell apart")
    rows = labelled.rows(labelled.usable & ~labelled.unknown)
    shown = rows.truth.argmax(axis=1)
    size = len(rows.taxonomy.categories)
    order = np.argsort(-rows.scores, axis=1, kind="stable")[:, :3]
    found = [_measure(rows, order, shown, column) for column in range(size)]
    unknown = np.bincount(shown, minlength=size)
    return LeftOut(
        signals=("top", "margin", *((UNKNOWN_LABEL,) if rows.unknown_scores is not None else ())),
        categories=rows.taxonomy.categories,
        unknown=unknown,
        known=len(rows) - unknown,
        auroc=np.array([part[0] for part in found]).T,
        fpr_at_95_tpr=np.array([part[1] for part in found]).T,
        oscr=np.array([part[2] for part in found]).T,
        measured_on=f"{describe_splits(labelled.splits)}; {STRESS_TEST}",
    )


def _measure(rows: Labelled, order: np.ndarray, shown: np.ndarray, column: int) -> np.ndarray:
    """(3, S): AUROC, FPR at 95 % TPR and OSCR by signal, with this column taken out.

    order  (n, 3): the columns of the three highest scores, of which two are left in any case
    """
    out = order[:, 0] == column
    first = np.where(out, order[:, 1], order[:, 0])
    second = np.where(out | (order[:, 1] == column), order[:, 2], order[:, 1])
    every = np.arange(len(rows))
    best, next_best = (rows.scores[every, place].astype(np.float64) for place in (first, second))
    never = (best == CENSORED) | (best == next_best)
    best = np.where(never, 0, best)
    signals: list[np.ndarray] = [best, (best - np.maximum(next_best, 0)).astype(np.float32)]
    if rows.unknown_scores is not None:
        signals.append(best - rows.unknown_scores)
    unknown, right, once = shown == column, ~never & (first == shown), np.ones((1, len(rows)))
    found = []
    for signal in signals:
        values = np.where(never, -np.inf, signal)
        known, correct, played = (Tally(values, once, kept) for kept in (~unknown, right & ~unknown, unknown))
        by_measure = (
            tallies.auroc(known, played),
            tallies.fpr_at_95_tpr(known, played),
            tallies.oscr(known, correct, played),
        )
        found.append(np.concatenate(by_measure))
    return np.array(found).T
