"""The rejection explorer: known against unknown images by signal, and a working point that moves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import traitlets

from workbench.canonical import shortest_binary32
from workbench.config.goals import Goals, Limit, RejectionGoal, check_goals
from workbench.dataset.images import Dataset
from workbench.errors import InputError
from workbench.evaluation import figures
from workbench.evaluation.acceptance import WorkingPoint, rejection_in_words
from workbench.evaluation.labelled import Labelled, join
from workbench.evaluation.results import as_html, share
from workbench.predictions import PredictionTable
from workbench.records import Rejection
from workbench.widgets.exploration import BINS, Exploration, Judged
from workbench.widgets.panel import Panel, asset, json_number, read_threshold
from workbench.widgets.pictures import Pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_CATEGORIES = 40
_MOST_SOURCES = 200
_MOST_DRAWN = 5


class RejectionExplorer(Panel):
    """See what a rejection rule costs and what slips through; show it in a notebook cell, and take `rule` when done.

    run      a run of the approach, or its labelled images
    dataset  its images
    goals    limits on unknown images accepted and known images rejected; None: look without goals

    All figures are of *tune*, the split that the rule is chosen on, and so are optimistic: nothing here is a look at
    certify. "Accepted" means not rejected: a tier may still not fire. Raises ConfigError as `choose_rejection` does,
    and unless tune has known and unknown images with scores.
    """

    _esm = asset("shared.js", "pictures.js", "moving.js", "explorer.js")
    _css = asset("shared.css", "pictures.css", "explorer.css")
    _spec = traitlets.Dict().tag(sync=True)
    """What never changes: signals, sources, goals, where in `_points` each curve stands."""
    _points = traitlets.Bytes().tag(sync=True)
    """Per signal with m points, of S sources, little-endian: thresholds float32, known rejected int32, unknown accepted
    S × m int32, with goals unknown told S × m int32; then its histogram, (1 + S) × BINS uint32, known images first."""
    _state = traitlets.Dict().tag(sync=True)
    """What moves: signal, threshold, and the exact figures of the rule."""

    def __init__(self, run: PredictionTable | Labelled, dataset: Dataset, goals: Goals | None = None) -> None:
        if goals is not None:
            check_goals(goals, dataset.taxonomy, "goals")
        if isinstance(run, PredictionTable):
            run = join(run, dataset)
        elif run.taxonomy.digest != dataset.taxonomy.digest:
            raise InputError("the labelled images have other categories than the data set")
        super().__init__()
        self.exploration = Exploration(run, goals)
        self._publish()
        self.answer(
            move=self._move,
            choose=lambda content: self.choose(str(content.get("signal"))),
            undo=lambda _: self.undo(),
            redo=lambda _: self.redo(),
            propose=lambda _: {"reason": self.propose()},
            near=self._near,
            cell=self._cell,
            **Pictures(dataset).handlers(),
        )

    @property
    def rule(self) -> Rejection:
        """The rule as it stands, for `ThresholdTuner(rejection=...)`."""
        return self.exploration.rule

    def move(self, threshold: float | None) -> None:
        """Set the threshold, or None for rejecting nothing by the signal. Raises ConfigError for the value."""
        with self.changing():
            self.exploration.move(threshold)

    def choose(self, signal: str) -> None:
        """Look at another signal, at no more known images rejected than now. Raises ConfigError for the signal."""
        with self.changing():
            self.exploration.choose(signal)

    def propose(self) -> str:
        """Move to where the goals are reached on tune; the reason in words where nothing can be proposed."""
        with self.changing():
            return self.exploration.propose()

    def undo(self) -> None:
        """Take back the last step."""
        with self.changing():
            self.exploration.undo()

    def redo(self) -> None:
        """Do again what was taken back."""
        with self.changing():
            self.exploration.redo()

    def point(self) -> WorkingPoint:
        """Exact counts of the rule as it stands."""
        return self.exploration.point()

    def accepted(self) -> pd.DataFrame:
        """Accepted unknown images, source × category."""
        return self.exploration.accepted()

    def frame(self) -> pd.DataFrame:
        """One row for the known images and one per source of unknown ones."""
        return self.exploration.frame()

    def describe(self) -> str:
        """The approach, the rule, and what it does to how many images."""
        state, info, point = self.exploration, self.exploration.rows.info, self.exploration.point()
        accepted, unknown = int(point.unknown_accepted.sum()), int(point.unknown.sum())
        return (
            f"Rejection by {state.signal} for {info.origin.approach} on {info.dataset_name}: "
            f"{rejection_in_words(state.rule)}; {point.known_rejected} of {point.known} known images rejected, "
            f"{accepted} of {unknown} unknown ones accepted, on {point.measured_on}"
        )

    def table(self) -> str:
        """The working point as HTML."""
        return as_html(self.frame())

    def figure(self) -> Figure:
        """The curve and the signal, known against unknown, the working point marked."""
        curve_ax, value_ax = figures.new_grid(2, columns=2, width=9.6, row_height=3.6)
        self._draw_curve(curve_ax)
        self._draw_values(value_ax)
        return figures.figure_of(curve_ax)

    def _draw_curve(self, ax: Axes) -> None:
        state, theme, point = self.exploration, figures.theme_of(ax), self.exploration.point()
        curve = state.curves[state.signal]
        x = share(curve.known_rejected, np.array(point.known))
        handles, labels = list[Any](), list[str]()
        worst = np.argsort(-share(point.unknown_accepted, point.unknown), kind="stable")[:_MOST_DRAWN]
        for number, place in enumerate(worst.tolist()):
            dashes: Any = ("-", (0, (6, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (1, 3)))[number]
            colour = (theme.first, theme.second)[number % 2]
            y = share(curve.unknown_accepted[place], point.unknown[place])
            handles += ax.step(x, y, where="post", color=colour, linestyle=dashes, linewidth=1.6)
            labels.append(f"{self._named(place)} ({point.unknown[place]})")
        marks: dict[str, Any] = {"s": 40, "zorder": 4, "color": theme.ink, "edgecolor": theme.ground}
        shown = share(point.unknown_accepted[worst], point.unknown[worst])
        handles.append(ax.scatter(np.full(len(worst), point.known_rejected / point.known), shown, **marks))
        labels.append(rejection_in_words(state.rule))
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), xlabel=f"known images rejected, of {point.known}")
        ax.set(ylabel="unknown images accepted")
        figures.dress(ax, f"Rejecting by {state.signal}", point.measured_on)
        figures.add_legend(ax, handles, labels, loc="upper right")

    def _draw_values(self, ax: Axes) -> None:
        state, theme = self.exploration, figures.theme_of(ax)
        counts, _ = state.histogram(state.signal)
        edges = np.linspace(0, state.most(state.signal), BINS + 1)
        known, unknown = counts[0], counts[1:].sum(axis=0)
        look: dict[str, Any] = {"facecolor": theme.ground, "edgecolor": theme.soft, "linewidth": 0.7, "hatch": "////"}
        handles: list[Any] = [
            ax.stairs(known, edges, fill=True, color=theme.first),
            ax.stairs(known + unknown, edges, baseline=known, fill=True, **look),
        ]
        if state.threshold is not None:
            ax.axvline(state.threshold, color=theme.second, linewidth=1.6)
        ax.set(xlim=(0, edges[-1]), yscale="symlog", xlabel=state.signal, ylabel="images")
        figures.dress(ax, "Known and unknown", state.measures.measured_on, grid="y")
        figures.add_legend(ax, handles, ["known", "unknown"], loc="upper center")

    def _named(self, place: int) -> str:
        return self.exploration.sources[place] or self.exploration.rows.taxonomy.unknown

    def _publish(self) -> None:
        state = self.exploration
        parts, places, start = list[bytes](), list[dict[str, Any]](), 0
        for signal, curve in state.curves.items():
            counts, never = state.histogram(signal)
            own = [
                curve.thresholds.astype("<f4").tobytes(),
                curve.known_rejected.astype("<i4").tobytes(),
                curve.unknown_accepted.astype("<i4").tobytes(),
                state.told_curves[signal].astype("<i4").tobytes(),
                counts.astype("<u4").tobytes(),
            ]
            more = {"count": len(curve.thresholds), "most": state.most(signal), "never": never.tolist()}
            places.append({"signal": signal, "start": start, **more})
            start += sum(map(len, own)) // 4
            parts += own
        self._points = b"".join(parts)
        info, point = state.rows.info, state.point()
        self._spec = {
            "title": f"Rejection for {info.origin.approach} on {info.dataset_name}",
            "measured_on": point.measured_on,
            "images": len(state.rows),
            "left_out": state.measures.left_out,
            "known": point.known,
            "unknown": point.unknown.tolist(),
            "sources": list(state.sources),
            "names": [self._named(place) for place in range(len(state.sources))],
            "signals": places,
            "bins": BINS,
            "goals": None if state.goals is None else _limits(state.goal),
            "confidence": state.measures.confidence,
        }
        self._mirror()

    def _mirror(self) -> None:
        """Tell the browser how things stand."""
        state, point = self.exploration, self.exploration.point()
        table, told, upper = (
            state.accepted(),
            state.unknown_told(),
            [json_number(bound) for bound in state.frame()["upper"]],
        )
        last = 1 + len(state.sources)
        names = [str(name) for name in table.columns[:_MOST_CATEGORIES]]
        self._state = {
            "signal": state.signal,
            "threshold": json_number(state.threshold),
            "rule": rejection_in_words(state.rule),
            "known_rejected": point.known_rejected,
            "unknown_accepted": point.unknown_accepted.tolist(),
            "upper": upper[:last],
            "unknown_told": None if told is None else told.tolist(),
            "told_upper": upper[last:],
            "undo": state.can_undo,
            "redo": state.history.can_redo,
            "categories": names,
            "accepted": table.iloc[:_MOST_SOURCES, : len(names)].to_numpy().tolist(),
            "more": [max(0, len(table) - _MOST_SOURCES), len(table.columns) - len(names)],
        }

    def _move(self, content: Mapping[str, Any]) -> None:
        limit, signal = read_threshold(content), content.get("signal")
        if signal == self.exploration.signal:  # else it was asked before the signal changed
            with self.changing():
                self.exploration.move(limit, keep=bool(content.get("keep", True)))

    def _near(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        accepted, rejected = self.exploration.near(_most(content))
        return {"accepted": self._items(accepted), "rejected": self._items(rejected)}

    def _cell(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        source, category = content.get("source"), content.get("category")
        if not isinstance(source, str | None) or not isinstance(category, str | None):
            raise InputError("a cell is named by a source and a category")
        return {"items": self._items(self.exploration.cell(source, category, _most(content)))}

    def _items(self, judged: tuple[Judged, ...]) -> list[dict[str, Any]]:
        return [
            {
                "id": found.image_id,
                "title": f"{_value(found.value)} · shows {', '.join(found.shows)}"
                + (f" · {found.source}" if found.source else "")
                + (f" · told {found.told or 'several'}" if not found.rejected else ""),
                "mark": found.verdict,
                "wrong": found.wrong,
            }
            for found in judged
        ]


def _limits(goal: RejectionGoal) -> dict[str, float | None]:
    def at_most(limit: Limit | None) -> float | None:
        return None if limit is None else limit.at_most

    return {"unknown_accepted": at_most(goal.unknown_accepted), "known_rejected": at_most(goal.known_rejected)}


def _most(content: Mapping[str, Any]) -> int:
    return max(0, min(int(content.get("most", 12)), 60))


def _value(value: float) -> str:
    return "below every threshold" if math.isnan(value) else f"{shortest_binary32(value):.4g}"
