"""The rejection explorer: known against unknown images by signal, and a working point that moves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import traitlets

from workbench.canonical import binary32, shortest_binary32
from workbench.config.goals import Goals, Limit, RejectionGoal, check_goals
from workbench.dataset.images import Dataset
from workbench.decision import signal_value
from workbench.errors import ConfigError, InputError
from workbench.evaluation import figures
from workbench.evaluation.acceptance import AcceptanceCurve, WorkingPoint
from workbench.evaluation.intervals import upper_bound
from workbench.evaluation.labelled import Labelled, join
from workbench.evaluation.rejection import measure_signals
from workbench.evaluation.results import as_html, share
from workbench.evaluation.simulate import Gated, gate_scores
from workbench.evaluation.thresholds import choose_rejection, told_without_rule
from workbench.predictions import PredictionTable
from workbench.records import REVIEW, Rejection, Signal
from workbench.widgets.history import History
from workbench.widgets.panel import Panel, asset
from workbench.widgets.pictures import Pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 64
"""Of the histograms of a signal."""

MOST_POINTS = 4096
"""Of one curve."""

SEVERAL = ""
"""In place of a category: several share the highest score (an accepted image of a multi-label approach)."""

_MOST_NUMBERS = 1_200_000
"""Of all curves together, which bounds what is sent."""
_MOST_CATEGORIES = 40
_MOST_SOURCES = 200
_MOST_DRAWN = 5
_UNSURE = 1e-9
"""An entropy of float64 is nearer than this to the exact one."""

Step = tuple[Signal, float | None]
"""The signal that is looked at, and its threshold; None: nothing is rejected by it."""


@dataclass(frozen=True)
class Judged:
    """One image, and what the rule makes of it."""

    image_id: str
    source: str
    value: float
    """The signal; NaN where every threshold rejects the image."""
    shows: tuple[str, ...]
    told: str
    """The category of the single highest score; SEVERAL where there is none."""
    rejected: bool
    unknown: bool

    @property
    def wrong(self) -> bool:
        """A known image rejected, or an unknown one accepted."""
        return self.rejected != self.unknown

    @property
    def verdict(self) -> str:
        """Such as "unknown accepted"."""
        return f"{'unknown' if self.unknown else 'known'} {'rejected' if self.rejected else 'accepted'}"


class Exploration:
    """A rejection rule that starts where `choose_rejection` puts it, and moves; no browser needed.

    labelled  images with answers; the rule is chosen on *tune*
    goals     what may go wrong; None: the rule starts with rejecting nothing, and nothing can be proposed

    Raises ConfigError unless *tune* has known and unknown images with scores.
    """

    def __init__(self, labelled: Labelled, goals: Goals | None = None) -> None:
        tune = labelled.on("tune")
        self.tune, self.goals = tune, goals
        try:
            self.measures = measure_signals(tune, 0.95 if goals is None else goals.confidence)
        except ValueError:
            raise ConfigError(
                "a rejection rule is explored on known and unknown labelled images of the tune split that have scores; "
                f"there are {int((tune.usable & ~tune.unknown).sum())} known and "
                f"{int((tune.usable & tune.unknown).sum())} unknown ones"
            ) from None
        self.rows, self.sources = self.measures.labelled, self.measures.sources
        self._parts = self.measures.unknown_of_source
        told = None if goals is None else told_without_rule(tune, goals)
        self.told = None if told is None else told[tune.usable]
        """(n,) bool by row: told as a category where nothing rejects it, by the tiers of the goals as drafted without a
        rule; None without goals. Of unknown images, those told and not rejected are what the goals limit."""
        self.goal = RejectionGoal(signal="none", action=REVIEW) if goals is None else goals.rejection
        self.values = _values(self.measures.signals, self.rows, self._gate(self._none).rejected)
        self.signals: tuple[Signal, ...] = tuple(self.values)
        self.curves = {signal: self._curve(signal) for signal in self.signals}
        self.told_curves = {signal: self._told_curve(signal) for signal in self.signals}
        """By signal (S, m) int: at each point of its curve, unknown images told as a category; (0, m) without goals."""
        self.proposed: Step = self._first()
        self._step = self._kept = self.proposed
        self.history = History[tuple[Step, Step]]()
        """Of (before, after)."""
        self._gated: tuple[Step, Gated] | None = None

    @property
    def signal(self) -> Signal:
        """The signal that is looked at."""
        return self._step[0]

    @property
    def threshold(self) -> float | None:
        """Rejected iff the signal is below it (entropy: above it); None: nothing is rejected by the signal."""
        return self._step[1]

    @property
    def rule(self) -> Rejection:
        """The rule as it stands, for `ThresholdTuner(rejection=...)`."""
        signal, limit = self._step
        return self._none if limit is None else Rejection(signal, limit, self._none.unknown_label, self.goal.action)

    def most(self, signal: Signal) -> float:
        """The highest threshold that makes sense: 1, for entropy ln K nats (K categories)."""
        return binary32(math.log(max(len(self.rows.taxonomy.categories), 2))) if signal == "entropy" else 1.0

    def move(self, threshold: float | None, *, keep: bool = True) -> None:
        """Set the threshold, as a step that can be undone; `keep=False` while it is still being dragged.

        Raises ConfigError unless it is None or lies between 0 and `most`.
        """
        if threshold is not None:
            most = self.most(self.signal)
            if not (math.isfinite(threshold) and 0 <= binary32(threshold) <= most):
                raise ConfigError(f"a threshold of {self.signal} lies between 0 and {most:.4g}, not at {threshold:g}")
            threshold = binary32(threshold)
        self._set((self.signal, threshold), keep)

    def choose(self, signal: str) -> None:
        """Look at another signal, at its strictest threshold that rejects no more known images than now.

        So signals compare at the same cost; where even the loosest threshold costs more, it rejects nothing.
        """
        found = self._checked(signal)
        if found == self.signal:
            return
        limit = None
        if self.threshold is not None:
            curve = self.curves[found]
            place = int(np.searchsorted(curve.known_rejected, self.point().known_rejected, "right")) - 1
            limit = None if place < 0 else float(curve.thresholds[place])
        self._set((found, limit), True)

    def propose(self) -> str:
        """Move to what `choose_rejection` gives for the goals by this signal; the reason in words where it cannot."""
        if self.goals is None:
            return "there are no goals to choose a rule for"
        if self.goal.unknown_accepted is None and self.goal.known_rejected is None:
            return "the goals limit neither unknown images accepted nor known images rejected"
        self._set((self.signal, self._chosen(self.goals, self.signal)), True)
        return ""

    def undo(self) -> None:
        """Back to the step before; nothing where there is none."""
        if step := self.history.undo():
            self._step = self._kept = step[0]

    def redo(self) -> None:
        """The step that was taken back last, again; nothing where there is none."""
        if step := self.history.redo():
            self._step = self._kept = step[1]

    def point(self) -> WorkingPoint:
        """Exact counts of the rule as it stands, by source."""
        return self.measures.at(self.rule)

    def unknown_told(self) -> np.ndarray | None:
        """(S,) int by source: unknown images told as a category, as the goals count them; None without goals."""
        if self.told is None:
            return None
        found: np.ndarray = (self._parts & (self.told & ~self.gated().rejected)).sum(axis=1)
        return found

    def gated(self) -> Gated:
        """What the rule makes of each of `rows`."""
        if self._gated is None or self._gated[0] != self._step:
            self._gated = self._step, self._gate(self.rule)
        return self._gated[1]

    def accepted(self) -> pd.DataFrame:
        """Accepted unknown images: one row per source, one column per category as which some are accepted."""
        gated = self.gated()
        names = np.array([*self.rows.taxonomy.categories, SEVERAL], dtype=object)
        counts = np.array([np.bincount(gated.top[part & ~gated.rejected] % len(names), minlength=len(names))
                           for part in self._parts])  # fmt: skip
        order = [place for place in np.argsort(-counts.sum(axis=0), kind="stable") if counts[:, place].any()]
        return pd.DataFrame(counts[:, order], index=pd.Index(self.sources, name="source"), columns=names[order])

    def cell(self, source: str | None, category: str | None, most: int = 24) -> tuple[Judged, ...]:
        """Unknown images of a source (None: any) accepted as a category (None: any), the most surely accepted first."""
        gated = self.gated()
        kept = self.rows.unknown & ~gated.rejected
        if source is not None:
            if source not in self.sources:
                raise InputError(f"no unknown image is of source {source!r}")
            kept &= self._parts[self.sources.index(source)]
        if category is not None:
            names = (*self.rows.taxonomy.categories, SEVERAL)
            if category not in names:
                raise InputError(f"there is no category {category!r}")
            kept &= gated.top % len(names) == names.index(category)
        places = np.flatnonzero(kept)
        return self._judged(places[np.argsort(-self.values[self.signal][places], kind="stable")][:most])

    def near(self, most: int = 12) -> tuple[tuple[Judged, ...], tuple[Judged, ...]]:
        """Images accepted, and rejected, nearest to the working point; of equally near ones mistakes first.

        Rejected images that every threshold rejects come last.
        """
        rejected, values = self.gated().rejected, self.values[self.signal]
        sides = []
        for side, sign in ((~rejected, 1), (rejected, -1)):
            places = np.flatnonzero(side)
            right = self.rows.unknown[places] == rejected[places]
            sides.append(self._judged(places[np.lexsort((right, sign * values[places]))][:most]))
        return sides[0], sides[1]

    def histogram(self, signal: Signal) -> tuple[np.ndarray, np.ndarray]:
        """Of known images and of each source: (1 + S, BINS) counts of 0 … `most`, (1 + S,) of those never accepted."""
        values, sides = self.values[signal], np.concatenate([~self.rows.unknown[None], self._parts])
        never = values == -np.inf
        shown = np.clip(np.abs(values[~never]), 0, self.most(signal))
        bins = np.minimum((shown / self.most(signal) * BINS).astype(np.int64), BINS - 1)
        counts = [np.bincount(bins[side[~never]], minlength=BINS) for side in sides]
        return np.array(counts), (sides & never).sum(axis=1)

    def frame(self) -> pd.DataFrame:
        """The working point: one row for the known images, one per source, and with goals one more for those told."""
        found, told, unknown = self.point().frame(), self.unknown_told(), self.point().unknown
        if told is None:
            return found
        further = found.iloc[1:].assign(
            rate="unknown told",
            count=told,
            share=share(told, unknown),
            upper=upper_bound(told, unknown, 1 - self.measures.confidence),
        )
        return pd.concat([found, further], ignore_index=True)

    @property
    def _none(self) -> Rejection:
        return Rejection("none", None, self.rows.info.scores_unknown, self.goal.action)

    def _first(self) -> Step:
        wanted = self.goal.signal
        if self.goals is None or wanted == "none":
            return self.signals[0], None
        return self._checked(wanted), self._chosen(self.goals, wanted)

    def _chosen(self, goals: Goals, signal: Signal) -> float | None:
        asked = goals.rejection.model_copy(update={"signal": signal})
        return choose_rejection(self.tune, goals.model_copy(update={"rejection": asked})).threshold

    def _checked(self, signal: str) -> Signal:
        for known in self.signals:
            if known == signal:
                return known
        raise ConfigError(f"no signal {signal!r} fits this approach; there are {', '.join(self.signals)}")

    def _gate(self, rule: Rejection) -> Gated:
        rows = self.rows
        return gate_scores(rows.scores, rows.unknown_scores, rows.answered, rule, rows.taxonomy)

    def _curve(self, signal: Signal) -> AcceptanceCurve:
        """At most MOST_POINTS of the exact points, evenly among the distinct values, the ends with them."""
        values = self.values[signal]
        points = np.unique(values[values > -np.inf])
        limits = np.abs(points) if signal == "entropy" else points
        points, limits = points[limits <= self.most(signal)], limits[limits <= self.most(signal)]
        columns = len(self.signals) * (2 + 2 * len(self.sources))
        most = max(2, min(MOST_POINTS, _MOST_NUMBERS // columns))
        kept = np.unique(np.linspace(0, max(len(points) - 1, 0), min(len(points), most)).round().astype(np.int64))
        below = [np.searchsorted(np.sort(values[side]), points[kept], "left") for side in self._parts]
        return AcceptanceCurve(
            thresholds=limits[kept],
            known_rejected=np.searchsorted(np.sort(values[~self.rows.unknown]), points[kept], "left"),
            unknown_accepted=np.array([side.sum() - of for side, of in zip(self._parts, below, strict=True)]),
        )

    def _told_curve(self, signal: Signal) -> np.ndarray:
        values, limits = self.values[signal], self.curves[signal].thresholds
        points = -limits if signal == "entropy" else limits
        parts = [] if self.told is None else [np.sort(values[part & self.told]) for part in self._parts]
        counts = [len(part) - np.searchsorted(part, points, "left") for part in parts]
        return np.array(counts, dtype=np.int64).reshape(-1, len(points))

    def _judged(self, places: np.ndarray) -> tuple[Judged, ...]:
        frame, gated, values = self.rows.frame, self.gated(), self.values[self.signal]
        names, unknown = (*self.rows.taxonomy.categories, SEVERAL), (self.rows.taxonomy.unknown,)
        return tuple(
            Judged(
                image_id=str(frame["image_id"].iloc[row]),
                source=str(frame["source"].iloc[row]),
                value=math.nan if values[row] == -np.inf else abs(float(values[row])),
                shows=frame["labels"].iloc[row] or unknown,
                told=names[gated.top[row]],
                rejected=bool(gated.rejected[row]),
                unknown=bool(self.rows.unknown[row]),
            )
            for row in places.tolist()
        )

    def _set(self, step: Step, keep: bool) -> None:
        self._step = step
        if keep and self._kept != step:
            self.history.did((self._kept, step))
            self._kept = step


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
            f"Rejection by {state.signal} for {info.origin.approach} on {info.dataset_name}: {_in_words(state.rule)}; "
            f"{point.known_rejected} of {point.known} known images rejected, {accepted} of {unknown} unknown ones "
            f"accepted, on {point.measured_on}"
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
        labels.append(_in_words(state.rule))
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
            "unknown_label": state.rule.unknown_label,
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
            [_number(bound) for bound in state.frame()["upper"]],
        )
        last = 1 + len(state.sources)
        names = [str(name) for name in table.columns[:_MOST_CATEGORIES]]
        self._state = {
            "signal": state.signal,
            "threshold": _number(state.threshold),
            "rule": _in_words(state.rule),
            "known_rejected": point.known_rejected,
            "unknown_accepted": point.unknown_accepted.tolist(),
            "upper": upper[:last],
            "unknown_told": None if told is None else told.tolist(),
            "told_upper": upper[last:],
            "undo": state.history.can_undo,
            "redo": state.history.can_redo,
            "categories": names,
            "accepted": table.iloc[:_MOST_SOURCES, : len(names)].to_numpy().tolist(),
            "more": [max(0, len(table) - _MOST_SOURCES), len(table.columns) - len(names)],
        }

    def _move(self, content: Mapping[str, Any]) -> None:
        limit, signal = content.get("threshold"), content.get("signal")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float)):
            raise InputError(f"{limit!r} is no threshold")
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


def _values(found: Mapping[str, np.ndarray], rows: Labelled, always: np.ndarray) -> dict[Signal, np.ndarray]:
    """By signal that a rule may read, exactly as it reads it: high where accepted, −inf where `always` rejected."""
    names: tuple[Signal, ...] = ("top",) if rows.taxonomy.mode == "multi-label" else ("top", "margin", "entropy")
    values: dict[Signal, np.ndarray] = {name: np.where(always, -np.inf, found[name]) for name in names if name in found}
    if "entropy" in values:
        # NumPy's sum may differ from the rule's in its last digits: where that changes the binary32, the rule is asked.
        wide = np.where(rows.scores > 0, rows.scores, np.float32(1)).astype(np.float64)
        exact = -(wide * np.log(wide)).sum(axis=1)
        unsure = (exact - _UNSURE).astype(np.float32) != (exact + _UNSURE).astype(np.float32)
        for row in np.flatnonzero(unsure & ~always):
            values["entropy"][row] = -signal_value(rows.scores[row].astype(float).tolist(), "entropy")
    return values


def _limits(goal: RejectionGoal) -> dict[str, float | None]:
    def at_most(limit: Limit | None) -> float | None:
        return None if limit is None else limit.at_most

    return {"unknown_accepted": at_most(goal.unknown_accepted), "known_rejected": at_most(goal.known_rejected)}


def _most(content: Mapping[str, Any]) -> int:
    return max(0, min(int(content.get("most", 12)), 60))


def _number(value: float | None) -> float | None:
    """JSON has no NaN; a binary32 in the fewest digits that say the same one."""
    if value is None or math.isnan(value):
        return None
    return shortest_binary32(value) if value == np.float32(value) else float(value)


def _value(value: float) -> str:
    return "below every threshold" if math.isnan(value) else f"{shortest_binary32(value):.4g}"


def _in_words(rule: Rejection) -> str:
    sign = ">" if rule.signal == "entropy" else "<"
    limit = "" if rule.threshold is None else f"{rule.signal} {sign} {shortest_binary32(rule.threshold):g}"
    parts = [part for part in (limit, "told unknown" * rule.unknown_label) if part]
    return f"rejected where {' or '.join(parts)}" if parts else "nothing is rejected"
