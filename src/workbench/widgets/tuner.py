"""The threshold tuner: every category's curve, thresholds that are dragged, typed or stepped, and then the draft."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import traitlets

from workbench.canonical import shortest_binary32
from workbench.config.goals import Goals, check_goals
from workbench.dataset.images import Dataset
from workbench.errors import InputError
from workbench.evaluation import figures
from workbench.evaluation.acceptance import rejection_in_words
from workbench.evaluation.labelled import Labelled, join
from workbench.evaluation.operating import OperatingPoint, TierCurve
from workbench.evaluation.results import as_html
from workbench.evaluation.routing import Load
from workbench.predictions import PredictionTable
from workbench.records import Draft, Policy, Rejection
from workbench.widgets.panel import Answer, Panel, asset, json_number, read_threshold
from workbench.widgets.pictures import Pictures
from workbench.widgets.tuning import Seen, Tuning, other_curves, trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 64
"""Of the score histograms."""

_MOST_ROWS = 40
_MOST_LISTED = 8


class ThresholdTuner(Panel):
    """Tune thresholds by looking; show it in a notebook cell, and take `draft()` when done.

    run        a run of the approach, or its labelled images
    dataset    its images
    goals      what each tier must reach; the draft promises these, wherever thresholds are moved
    against    a run of another approach on the same images, drawn on the same axes
    certified  a policy of this approach, whose certificates are shaded
    rejection  a rejection rule chosen by hand (`RejectionExplorer.rule`); None: the one that drafting chooses
    per_day    arriving images a day, for the load in images
    out        where "Write draft" writes

    All figures are of *tune*, the split that thresholds are chosen on, and so are optimistic: nothing here is a look at
    certify. Raises ConfigError and RunError as `workbench tune` does.
    """

    _esm = asset("shared.js", "pictures.js", "moving.js", "tuner.js")
    _css = asset("shared.css", "pictures.css", "tuner.css")
    _spec = traitlets.Dict().tag(sync=True)
    """What never changes: names, goals, where in `_points` each curve stands."""
    _points = traitlets.Bytes().tag(sync=True)
    """Per curve, little-endian: thresholds float32, true and false positives int32, precision and recall float32; then
    its histogram, 3 × BINS uint32."""
    _state = traitlets.Dict().tag(sync=True)
    """What moves: thresholds, and the exact figures of the tier that is looked at."""

    def __init__(
        self,
        run: PredictionTable | Labelled,
        dataset: Dataset,
        goals: Goals,
        *,
        against: PredictionTable | Labelled | None = None,
        certified: Policy | None = None,
        rejection: Rejection | None = None,
        per_day: float | None = None,
        out: Path | str = "draft.json",
    ) -> None:
        check_goals(goals, dataset.taxonomy, "goals")
        if per_day is not None and not (math.isfinite(per_day) and per_day >= 0):
            raise InputError(f"per_day must be a finite number, 0 or more, not {per_day}")
        labelled = _labelled(run, dataset)
        if certified is not None and certified.origin != labelled.info.origin:
            raise InputError(
                f"the policy's certificates are of {certified.origin.approach!r} {certified.origin.model_version!r}, "
                f"this run is of {labelled.info.origin.approach!r} {labelled.info.origin.model_version!r}"
            )
        super().__init__()
        self.tuning = Tuning(labelled, goals, rejection)
        self.per_day, self.out = per_day, Path(out)
        self._certified = () if certified is None else certified.evidence.promises
        self._looked_at = 0
        other = None if against is None else _labelled(against, dataset)
        self._publish(dataset, other)
        self.answer(
            move=self._move,
            select=self._select,
            undo=lambda _: self.undo(),
            redo=lambda _: self.redo(),
            propose=self._propose,
            propose_all=lambda _: self.propose_all(),
            near=self._near,
            write=self._write,
            **Pictures(dataset).handlers(),
        )

    @property
    def thresholds(self) -> Mapping[tuple[str, str], float | None]:
        """(category, action) → threshold; None where the tier never fires."""
        places = zip(self.tuning.curves.tiers, self.tuning.thresholds, strict=True)
        return {(name, tier.action): limit for (name, tier), limit in places}

    def move(self, category: str, action: str, threshold: float | None) -> None:
        """Set one threshold in [0, 1], or None for never. Raises KeyError for the tier, ConfigError for the value."""
        number = self.tuning.curves.number(category, action)
        with self.changing():
            self.tuning.move(number, threshold)
            self._looked_at = number

    def undo(self) -> None:
        """Take back the last step."""
        with self.changing():
            self.tuning.undo()

    def redo(self) -> None:
        """Do again what was taken back."""
        with self.changing():
            self.tuning.redo()

    def propose(self, category: str, action: str, at_least: float | None = None) -> str:
        """Move one tier to where it reaches its goal (or `at_least`) on tune; the reason in words where it cannot."""
        number = self.tuning.curves.number(category, action)
        with self.changing():
            reason = self.tuning.propose(number, at_least)
            self._looked_at = number
        return reason

    def propose_all(self) -> None:
        """Move every tier back to where drafting puts it."""
        with self.changing():
            self.tuning.propose_all()

    def draft(self) -> Draft:
        """The draft of the thresholds as they stand; where none was moved, the one that `workbench tune` writes."""
        with self.lock:
            return self.tuning.draft()

    def write(self, path: Path | str | None = None) -> Path:
        """Write the draft, by default to `out`; `workbench release` tests it. Refuses to replace what is no draft."""
        target = self.out if path is None else Path(path)
        with self.lock:
            self.tuning.write(target)
        return target

    def point(self, category: str, action: str) -> OperatingPoint | None:
        """What one tier does at its threshold; None where it never fires."""
        return self.tuning.point(self.tuning.curves.number(category, action))

    def load(self) -> Load:
        """What becomes of arriving images."""
        with self.lock:
            return self.tuning.load()

    def frame(self) -> pd.DataFrame:
        """One row per tier."""
        return self.tuning.frame()

    def describe(self) -> str:
        """The approach, how many categories and images, and that the figures flatter."""
        info, rows = self.tuning.labelled.info, self.tuning.curves.rows
        moved = sum(a != b.asked for a, b in zip(self.tuning.thresholds, self.tuning.proposed, strict=True))
        return (
            f"Thresholds of {info.origin.approach} on {info.dataset_name}: {len(rows.taxonomy.categories)} categories, "
            f"{len(rows)} images of {self.tuning.curves.measured_on}; {moved} of {len(self.tuning.thresholds)} moved"
        )

    def table(self) -> str:
        """The first tiers as HTML."""
        return as_html(self.tuning.frame(_MOST_ROWS))

    def figure(self) -> Figure:
        """The curve and the scores of the category that is looked at, its thresholds marked."""
        curve_ax, score_ax = figures.new_grid(2, columns=2, width=9.6, row_height=3.6)
        category = self.tuning.curves.tiers[self._looked_at][0]
        self._draw_curve(curve_ax, category)
        self._draw_scores(score_ax, category)
        return figures.figure_of(curve_ax)

    def _draw_curve(self, ax: Axes, category: str) -> None:
        theme, drawn = figures.theme_of(ax), set[int]()
        handles, labels = list[Any](), list[str]()
        for number in self._tiers_of(category):
            place = self.tuning.curve_of[number]
            curve = self.tuning.traced[place]
            if place not in drawn and len(curve.thresholds):
                style: dict[str, Any] = {"color": theme.first, "linestyle": "--" if drawn else "-", "linewidth": 1.6}
                ax.step(curve.recall, curve.precision, where="post", **style)
                drawn.add(place)
            point = self.tuning.point(number)
            if point is not None and not math.isnan(shown(point)):
                look: dict[str, Any] = {
                    "marker": "oDs^v"[len(handles) % 5],
                    "color": theme.second,
                    "s": 44,
                    "zorder": 4,
                }
                handles.append(ax.scatter([point.recall.value], [shown(point)], edgecolor=theme.ground, **look))
                labels.append(f"{self.tuning.curves.tiers[number][1].action} ≥ {shortest_binary32(point.threshold):g}")
        words = "precision in production" if self.tuning.curves.prevalence else "precision"
        ax.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel=words)
        figures.dress(ax, figures.printable(category), self.tuning.curves.measured_on)
        figures.add_legend(ax, handles, labels, loc="lower left")

    def _draw_scores(self, ax: Axes, category: str) -> None:
        theme = figures.theme_of(ax)
        counts = self.tuning.curves.histogram(self._tiers_of(category)[0], BINS)
        edges = np.linspace(0, 1, BINS + 1)
        look: dict[str, Any] = {"facecolor": theme.ground, "edgecolor": theme.soft, "linewidth": 0.7}
        styles: list[dict[str, Any]] = [{"color": theme.first}, {**look, "hatch": "////"}, {**look, "hatch": "...."}]
        bottom, handles = np.zeros(BINS), []
        for row, style in zip(counts, styles, strict=True):
            handles.append(ax.stairs(bottom + row, edges, baseline=bottom, fill=True, **style))
            bottom += row
        for number in self._tiers_of(category):
            limit = self.tuning.thresholds[number]
            if limit is not None:
                ax.axvline(limit, color=theme.second, linewidth=1.6)
        ax.set(xlim=(0, 1), yscale="symlog", xlabel="score", ylabel="images")
        figures.dress(ax, "Scores", self.tuning.curves.measured_on, grid="y")
        names = [category, "other categories", self.tuning.labelled.taxonomy.unknown]
        figures.add_legend(ax, handles, names, loc="upper center")

    def _tiers_of(self, category: str) -> list[int]:
        return [number for number, (name, _) in enumerate(self.tuning.curves.tiers) if name == category]

    def _publish(self, dataset: Dataset, other: Labelled | None) -> None:
        tuning = self.tuning
        traced = [
            (curve, tuning.curves.histogram(tuning.curve_of.index(place), BINS))
            for place, curve in enumerate(tuning.traced)
        ]
        others: list[TierCurve] = []
        if other is not None:
            beside = other_curves(other, tuning.goals)
            others = list(trace(beside, tuning.curve_of, (None,) * len(tuning.thresholds)))
            traced += [
                (curve, beside.histogram(tuning.curve_of.index(place), BINS)) for place, curve in enumerate(others)
            ]
        self._points, starts = _packed(traced)
        places = [
            {"start": start, "count": len(curve.thresholds), "positives": curve.positives, "complete": curve.complete}
            for start, (curve, _) in zip(starts, traced, strict=True)
        ]
        info, goals = tuning.labelled.info, tuning.goals
        kinds = {action.name: action.kind for action in goals.actions}
        self._spec = {
            "title": f"Thresholds of {info.origin.approach} on {info.dataset_name}",
            "measured_on": tuning.curves.measured_on,
            "images": len(tuning.curves.rows),
            "categories": list(tuning.labelled.taxonomy.categories),
            "unknown": tuning.labelled.taxonomy.unknown,
            "bins": BINS,
            "in_production": tuning.curves.prevalence is not None,
            "approach": info.origin.approach,
            "against": None if other is None else other.info.origin.approach,
            "rejection": rejection_in_words(tuning.curves.rejection),
            "curves": places[: len(tuning.traced)],
            "other_curves": places[len(tuning.traced) :],
            "tiers": [
                {
                    "category": name,
                    "action": tier.action,
                    "kind": kinds[tier.action],
                    "metric": tier.metric,
                    "at_least": tier.at_least,
                    "scope": tuning.curves.scope(number),
                    "curve": tuning.curve_of[number],
                    "floor": tuning.curves.floor(number),
                    "why_not": tuning.proposed[number].reason,
                }
                for number, (name, tier) in enumerate(tuning.curves.tiers)
            ],
            "certified": self._certificates(),
            "per_day": self.per_day,
            "out": str(self.out),
        }
        self._mirror()

    def _certificates(self) -> list[dict[str, Any]]:
        """What is certified of precision, and up to which recall it reaches on tune."""
        curves, found = self.tuning.curves, []
        for promise in self._certified:
            if promise.metric == "precision" and promise.certified is not None and promise.confidence is not None:
                try:
                    number = curves.number(promise.category, promise.action)
                except KeyError:  # the goals have no such tier any more
                    continue
                reached = curves.at(number, promise.certified).recall.value
                terms = {"threshold": shortest_binary32(promise.certified), "at_least": promise.at_least}
                found.append(
                    {**terms, "tier": number, "confidence": promise.confidence, "recall": json_number(reached)}
                )
        return found

    def _mirror(self) -> None:
        """Tell the browser how things stand."""
        tuning, number = self.tuning, self._looked_at
        category = tuning.curves.tiers[number][0]
        self._state = {
            "thresholds": [json_number(limit) for limit in tuning.thresholds],
            "looked_at": number,
            "undo": tuning.can_undo,
            "redo": tuning.history.can_redo,
            "points": {place: _point_document(tuning.point(place)) for place in self._tiers_of(category)},
            "load": _load_document(tuning.load()),
        }

    def _move(self, content: Mapping[str, Any]) -> None:
        number, limit = self._checked(content), read_threshold(content)
        with self.changing():
            self.tuning.move(number, limit, keep=bool(content.get("keep", True)))
            self._looked_at = number

    def _select(self, content: Mapping[str, Any]) -> None:
        with self.changing():
            self._looked_at = self._checked(content)

    def _propose(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        category, tier = self.tuning.curves.tiers[self._checked(content)]
        at_least = content.get("at_least")
        if at_least is not None and (isinstance(at_least, bool) or not isinstance(at_least, int | float)):
            raise InputError(f"{at_least!r} is nothing that a tier could reach")
        return {"reason": self.propose(category, tier.action, at_least)}

    def _near(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        above, below = self.tuning.near(self._checked(content), max(0, min(int(content.get("most", 12)), 60)))
        return {"above": [_item(seen) for seen in above], "below": [_item(seen) for seen in below]}

    def _write(self, content: Mapping[str, Any]) -> Answer | Mapping[str, Any]:
        path = self.write(str(content.get("path") or self.out))
        tiers = self.tuning.proposed
        moved = sum(limit != tier.asked for limit, tier in zip(self.tuning.thresholds, tiers, strict=True))
        return {"path": str(path), "moved": moved, "tiers": len(tiers)}

    def _checked(self, content: Mapping[str, Any]) -> int:
        number = content.get("tier")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(self.tuning.thresholds):
            raise InputError(f"there is no tier {number!r}")
        return number


def shown(point: OperatingPoint) -> float:
    """The precision that the curve shows: in production where the goals state a mix."""
    return point.precision.value if point.in_production is None else point.in_production.value


def _labelled(run: PredictionTable | Labelled, dataset: Dataset) -> Labelled:
    if isinstance(run, PredictionTable):
        return join(run, dataset)
    if run.taxonomy.digest != dataset.taxonomy.digest:
        raise InputError("the labelled images have other categories than the data set")
    return run


def _packed(traced: Iterable[tuple[TierCurve, np.ndarray]]) -> tuple[bytes, list[int]]:
    """All curves as bytes, and where each begins, in units of four bytes."""
    parts: list[bytes] = []
    starts, place = [], 0
    for curve, histogram in traced:
        starts.append(place)
        columns = (curve.thresholds, curve.true_positives, curve.false_positives, curve.precision, curve.recall)
        own = [*(np.ascontiguousarray(column).tobytes() for column in columns), histogram.astype("<u4").tobytes()]
        place += sum(map(len, own)) // 4
        parts += own
    return b"".join(parts), starts


def _point_document(point: OperatingPoint | None) -> dict[str, Any] | None:
    """The exact figures of a tier, as JSON; NaN becomes None."""
    if point is None:
        return None
    mistaken, missed = list(point.mistaken.items()), list(point.missed.items())
    return {
        "threshold": json_number(point.threshold),
        "fired": point.fired,
        "true_positives": point.true_positives,
        "false_positives": point.false_positives,
        "false_negatives": point.false_negatives,
        "positives": point.positives,
        "answered": point.answered,
        "precision": _rate(point.precision),
        "in_production": None if point.in_production is None else _rate(point.in_production),
        "recall": _rate(point.recall),
        "recall_answered": json_number(point.recall_answered),
        "mistaken": mistaken[:_MOST_LISTED],
        "mistaken_more": len(mistaken[_MOST_LISTED:]),
        "missed": missed[:_MOST_LISTED],
        "missed_more": len(missed[_MOST_LISTED:]),
    }


def _load_document(load: Load) -> dict[str, Any]:
    return {
        "actions": [[name, _rate(rate), load.counts[name]] for name, rate in load.actions.items()],
        "human": _rate(load.human),
        "images": load.images,
        "cost": json_number(load.cost),
        "basis": load.basis,
    }


def _rate(rate: Any) -> list[float | None]:
    return [json_number(rate.value), json_number(rate.low), json_number(rate.high)]


def _item(seen: Seen) -> dict[str, Any]:
    score = "cannot fire" if seen.score == -math.inf else f"{shortest_binary32(seen.score):.4g}"
    return {
        "id": seen.image_id,
        "title": f"{score} · shows {', '.join(seen.shows)}",
        "mark": seen.verdict,
        "wrong": seen.verdict.startswith("false"),
    }
