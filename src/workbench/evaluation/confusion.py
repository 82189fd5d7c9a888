"""What is shown against what is told, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.evaluation import figures
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.results import Result, describe_splits, share
from workbench.records import CENSORED

if TYPE_CHECKING:
    from matplotlib.axes import Axes


NO_ANSWER = "no answer"
"""In a confusion matrix: no single highest category, because of a tie, a missing score or a failed image."""


_MOST_NUMBERS = 16


@dataclass(frozen=True, eq=False)
class Confusion(Result):
    """What is shown against what is told, in images. Single-label only."""

    shown: tuple[str, ...]
    """The rows: the categories, then the word for unknown."""
    told: tuple[str, ...]
    """The columns: the categories, the word for unknown if the approach scores it, then "no answer"."""
    counts: np.ndarray
    """(rows, columns) int."""
    measured_on: str

    def frame(self) -> pd.DataFrame:
        """One row per shown category, one column per told one (`told: …`)."""
        columns = {f"told: {name}": self.counts[:, place] for place, name in enumerate(self.told[:-1])}
        images = self.counts.sum(axis=1)
        last = {NO_ANSWER: self.counts[:, -1], "images": images, "measured_on": self.measured_on}
        return pd.DataFrame({"shown": self.shown, **columns, **last})

    def plot(self, ax: Axes | None = None) -> Axes:
        """A heat map of row shares; the counts stand in the cells while they fit."""
        ax = ax or figures.new_axes(2.4 + 0.48 * len(self.told), 1.8 + 0.36 * len(self.shown))
        theme = figures.theme_of(ax)
        shares = share(self.counts, np.maximum(self.counts.sum(axis=1, keepdims=True), 1))
        _fill(ax, shares, theme.first)
        ax.set_xticks(
            range(len(self.told)), [figures.printable(name, 16) for name in self.told], rotation=45, ha="right"
        )
        ax.set_yticks(range(len(self.shown)), [figures.printable(name) for name in self.shown])
        if len(self.shown) <= _MOST_NUMBERS:
            _write_counts(ax, self.counts, shares, theme)
        ax.set(xlabel="told", ylabel="shown")
        figures.dress(ax, "What was shown, and what was told", self.measured_on, grid=None)
        for spine in ax.spines.values():
            spine.set_visible(False)
        return ax


def count_confusions(labelled: Labelled) -> Confusion:
    """Every labelled image in one cell.

    Where the approach scores "none of these", that column has the images whose score of it reaches the highest
    category's; elsewhere the column is left out. Raises ValueError for a multi-label taxonomy.
    """
    if labelled.taxonomy.mode == "multi-label":
        raise ValueError("a confusion matrix needs one label per image; this taxonomy is multi-label")
    names, unknown = labelled.taxonomy.categories, (labelled.taxonomy.unknown,)
    columns = (*names, *(unknown if labelled.unknown_scores is not None else ()), NO_ANSWER)
    top = labelled.top()
    column = np.where(top < 0, len(columns) - 1, top)
    if labelled.unknown_scores is not None:
        highest = labelled.usable_scores().max(axis=1)
        column[(highest > CENSORED) & (labelled.unknown_scores >= highest)] = len(names)
    row = np.where(labelled.unknown, len(names), labelled.truth.argmax(axis=1))
    counts = np.zeros((len(names) + 1, len(columns)), dtype=np.int64)
    np.add.at(counts, (row, column), 1)
    return Confusion((*names, *unknown), columns, counts, describe_splits(labelled.splits))


def _fill(ax: Axes, shares: np.ndarray, colour: str) -> None:
    """One square per cell, the more opaque the larger its share."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    cells = [(row, column) for row, column in np.ndindex(shares.shape) if shares[row, column] > 0]
    squares = PatchCollection([Rectangle((column - 0.5, row - 0.5), 1, 1) for row, column in cells])
    squares.set(facecolor=[(colour, shares[cell]) for cell in cells], edgecolor="none")
    ax.add_collection(squares)
    ax.set(xlim=(-0.5, shares.shape[1] - 0.5), ylim=(shares.shape[0] - 0.5, -0.5))


def _write_counts(ax: Axes, counts: np.ndarray, shares: np.ndarray, theme: figures.Theme) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = theme.ground if shares[row, column] > 0.5 else theme.ink
            ax.text(column, row, f"{count}", ha="center", va="center", fontsize=figures.SMALL, color=colour)
