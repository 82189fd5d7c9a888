"""How the rejection signals of known and of unknown images lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from workbench.evaluation import figures
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.results import Result, describe_splits
from workbench.evaluation.simulate import signals
from workbench.records import CENSORED

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_SIGNAL_WORDS = {"top": "highest score", "margin": "lead over the second score", "entropy": "entropy in nats"}


@dataclass(frozen=True, eq=False)
class ScoreDistribution(Result):
    """The rejection signals of every image that has scores to speak of."""

    image_ids: np.ndarray
    unknown: np.ndarray
    """(m,) bool: the image shows no known category."""
    signals: Mapping[str, np.ndarray]
    """top, margin and, where the scores are a whole distribution, entropy (nats): (m,) float32 each."""
    left_out: int
    """Images without an answer, with a MISSING score, or CENSORED throughout."""
    unknown_word: str
    measured_on: str

    def frame(self) -> pd.DataFrame:
        """One row per image."""
        columns: dict[str, Any] = {"image_id": self.image_ids, "unknown": self.unknown, **self.signals}
        return pd.DataFrame({**columns, "measured_on": self.measured_on})

    def plot(self, ax: Axes | None = None, signal: Literal["top", "margin", "entropy"] = "top") -> Axes:
        """Histograms of one signal for known and unknown images, each as a share of its own group."""
        ax = ax or figures.new_axes(height=2.9)
        theme = figures.theme_of(ax)
        values = self.signals[signal]
        bins = np.linspace(0, max(1.0, float(values.max(initial=1.0))), 26)
        known = {"fill": True, "color": theme.first, "alpha": 0.55}
        unknown = {"edgecolor": theme.second, "hatch": "////", "linewidth": 1.4}
        groups = [("known", ~self.unknown, known), (self.unknown_word, self.unknown, unknown)]
        drawn = [
            (_histogram(ax, values[chosen], bins, style), f"{name} ({int(chosen.sum())})")
            for name, chosen, style in groups
            if chosen.any()
        ]
        ax.set(xlim=(0, bins[-1]), xlabel=_SIGNAL_WORDS[signal], ylabel="share of the group")
        figures.dress(ax, f"{_SIGNAL_WORDS[signal].capitalize()}, known and unknown images", self.measured_on, grid="y")
        figures.add_legend(ax, *zip(*drawn, strict=True), loc="best") if drawn else None
        return ax


def describe_scores(labelled: Labelled) -> ScoreDistribution:
    """Top score, margin and (for approaches whose scores are a whole distribution) entropy, known and unknown apart."""
    scores = labelled.usable_scores()
    usable = scores.max(axis=1, initial=CENSORED) > CENSORED
    names = ("top", "margin", "entropy") if labelled.info.complete else ("top", "margin")
    return ScoreDistribution(
        image_ids=labelled.frame["image_id"].to_numpy(dtype=object)[usable],
        unknown=labelled.unknown[usable],
        signals={name: signals(scores[usable], name) for name in names},
        left_out=int((~usable).sum()),
        unknown_word=labelled.taxonomy.unknown,
        measured_on=describe_splits(labelled.splits),
    )


def _histogram(ax: Axes, values: np.ndarray, bins: np.ndarray, style: Mapping[str, Any]) -> Any:
    counts, _ = np.histogram(values, bins)
    return ax.stairs(counts / len(values), bins, **style)
