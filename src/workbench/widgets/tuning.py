"""The state of the threshold tuner, without a browser: a threshold per tier, what it does, undo and redo, the draft."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.canonical import binary32
from workbench.config.goals import Goals
from workbench.errors import ConfigError, DocumentError, InputError
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.operating import OperatingCurves, OperatingPoint, TierCurve
from workbench.evaluation.routing import Load, Routing
from workbench.evaluation.simulate import BLOCKED
from workbench.evaluation.thresholds import (
    choose_rejection,
    draft_thresholds,
    propose_tier,
    propose_tiers,
    read_draft,
    write_draft,
)
from workbench.records import Draft, Rejection
from workbench.widgets.history import History

MOST_POINTS = 4096
"""Of one curve, beyond the points that are asked for."""

_MOST_POINTS_IN_ALL = 1_200_000
_MOST_CACHED = 256
_FAR = 1e6
"""Far outside of what any threshold is, and far inside of what binary32 can hold."""
_QUIET_S = 3
"""Work that takes longer shows a bar."""

Thresholds = tuple[float | None, ...]
"""One per tier, in the order of `OperatingCurves.tiers`; None: it never fires."""

Verdict = Literal["false positive", "true positive", "false negative", "true negative"]


@dataclass(frozen=True)
class Seen:
    """One image near a threshold."""

    image_id: str
    score: float
    """What the tier sees of the score; −inf where its scope keeps it from firing."""
    shows: tuple[str, ...]
    verdict: Verdict


class Tuning:
    """Thresholds that start where `draft_thresholds` puts them, and move.

    labelled   images with answers; thresholds are tuned on *tune*
    goals      tiers, and what each must reach
    rejection  a rule chosen by hand; None: the one that drafting chooses
    """

    def __init__(self, labelled: Labelled, goals: Goals, rejection: Rejection | None = None) -> None:
        self.labelled, self.goals, self._rule = labelled, goals, rejection
        self._certify = len(labelled.on("certify"))
        tune = labelled.on("tune")
        if not len(tune):
            raise ConfigError("thresholds are tuned on labelled images of the tune split, and there are none")
        rule, self.proposed = propose_tiers(tune, goals, rejection)
        self.curves = OperatingCurves(tune, goals, rule)
        self.thresholds: Thresholds = tuple(tier.asked for tier in self.proposed)
        self.routing = Routing(self.curves, self.thresholds)
        self.history = History[tuple[Thresholds, Thresholds]]()
        """Of (before, after)."""
        self._kept: Thresholds = self.thresholds
        self._dragged: int | None = None
        self._points: dict[tuple[int, float], OperatingPoint] = {}

    def move(self, number: int, threshold: float | None, *, keep: bool = True) -> None:
        """Set the threshold of one tier, as a step that can be undone; `keep=False` while it is still being dragged.

        Raises ValueError unless it is None or lies between the floor of the scores and 1.
        """
        if threshold is not None:
            floor = self.curves.floor(number)
            if not (abs(threshold) < _FAR and floor <= binary32(threshold) <= 1):
                raise ConfigError(f"a threshold must lie between {floor:g} and 1, not at {threshold:g}")
            threshold = binary32(threshold)
        if number != self._dragged:
            self._keep()  # where a drag of another tier was left
        self._dragged = None if keep else number
        self._set(tuple(threshold if place == number else limit for place, limit in enumerate(self.thresholds)))
        if keep:
            self._keep()

    @property
    def can_undo(self) -> bool:
        """There is a step to take back, or a drag that was left."""
        return self.history.can_undo or self.thresholds != self._kept

    def undo(self) -> None:
        """Back to the thresholds before the last step, or before a drag that was left; nothing where there is none."""
        self._keep()
        if step := self.history.undo():
            self._restore(step[0])

    def redo(self) -> None:
        """The step that was taken back last, again; nothing where there is none."""
        if step := self.history.redo():
            self._restore(step[1])

    def propose(self, number: int, at_least: float | None = None) -> str:
        """Move one tier to where it reaches its goal, or `at_least` in its place, on tune.

        Gives the reason in words where no threshold reaches it; the tier then stays. What is promised stays the goal.
        """
        category, tier = self.curves.tiers[number]
        if at_least is not None:
            if not 0 < at_least < 1:
                raise ConfigError(f"what a tier must reach lies between 0 and 1, not at {at_least:g}")
            tier = tier.model_copy(update={"at_least": at_least, "ask": "goal"})
        found = propose_tier(self.curves.rows, self.goals, self.curves.rejection, category, tier)
        if found.asked is None:
            return found.reason
        self.move(number, found.asked)
        return ""

    def propose_all(self) -> None:
        """Every tier back to where drafting puts it."""
        self._set(tuple(tier.asked for tier in self.proposed))
        self._keep()

    def draft(self) -> Draft:
        """The draft of these thresholds: where none was moved, the one that `workbench tune` writes, byte for byte."""
        if not self._certify:
            raise ConfigError("there are no labelled images on certify to test a draft with")
        places = zip(self.proposed, self.thresholds, strict=True)
        moved = {(tier.category, tier.action): limit for tier, limit in places if tier.asked != limit}
        return draft_thresholds(self.labelled, self.goals, self._certify, asked=moved, rejection=self._rule)

    def write(self, path: Path) -> Draft:
        """Write the draft; raises InputError where `path` is no `.json` or another document stands there."""
        if path.suffix != ".json":
            raise InputError(f"{path}: a draft is a .json file")
        if path.is_symlink():
            raise InputError(f"{path}: is a link; name another file to write")
        if path.exists():
            try:
                read_draft(path)
            except DocumentError:
                raise InputError(f"{path}: stands there already and is no draft; choose another name") from None
        if not path.parent.is_dir():
            raise InputError(f"{path.parent}: there is no such folder")
        draft = self.draft()
        try:
            write_draft(draft, path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
        return draft

    def point(self, number: int) -> OperatingPoint | None:
        """What a tier does at its threshold; None where it never fires."""
        limit = self.thresholds[number]
        if limit is None:
            return None
        if (number, limit) not in self._points:
            if len(self._points) >= _MOST_CACHED:
                self._points.pop(next(iter(self._points)))
            self._points[number, limit] = self.curves.at(number, limit)
        return self._points[number, limit]

    def load(self) -> Load:
        """What becomes of arriving images at these thresholds."""
        return self.routing.load()

    @cached_property
    def curve_of(self) -> tuple[int, ...]:
        """For each tier its place in `traced`: tiers that fire alike share a curve."""
        places: list[int] = []
        for number in range(len(self.curves.tiers)):
            same = [place for place in range(number) if self.curves.same_curve(place, number)]
            places.append(places[same[0]] if same else max(places, default=-1) + 1)
        return tuple(places)

    @cached_property
    def traced(self) -> tuple[TierCurve, ...]:
        """The distinct curves, each with the thresholds that were proposed."""
        return trace(self.curves, self.curve_of, self.thresholds)

    def counts(self, number: int) -> tuple[int, int, int] | None:
        """(true positives, false positives, positives) at a tier's threshold; quick where it is a point of a curve."""
        limit = self.thresholds[number]
        if limit is None:
            return None
        curve = self.traced[self.curve_of[number]]
        place = int(np.searchsorted(curve.thresholds, np.float32(limit)))
        if place < len(curve.thresholds) and curve.thresholds[place] == np.float32(limit):
            return int(curve.true_positives[place]), int(curve.false_positives[place]), curve.positives
        point = self.curves.at(number, limit)
        return point.true_positives, point.false_positives, point.positives

    def rates(self, number: int) -> tuple[float, float]:
        """Precision, in production where the goals state a mix, and recall at a tier's threshold, weighted as they are
        judged; NaN where it never fires. Quick where the threshold is a point of a curve.
        """
        limit = self.thresholds[number]
        if limit is None:
            return math.nan, math.nan
        curve = self.traced[self.curve_of[number]]
        place = int(np.searchsorted(curve.thresholds, np.float32(limit)))
        if place < len(curve.thresholds) and curve.thresholds[place] == np.float32(limit):
            return float(curve.precision[place]), float(curve.recall[place])
        point = self.curves.at(number, limit)
        return (point.in_production or point.precision).value, point.recall.value

    def near(self, number: int, most: int = 12) -> tuple[tuple[Seen, ...], tuple[Seen, ...]]:
        """Images on which a tier fires, and on which it does not: mistakes first, then the nearest to its threshold.

        Among those on which it does not fire, ones that its scope keeps from firing come last.
        """
        limit = self.thresholds[number]
        reach, truth = self.curves.reach(number), self.curves.rows.truth[:, self.curves.column(number)]
        fires = reach >= np.float32(np.inf if limit is None else limit)
        above = _nearest(fires, truth, reach, -1, most)
        seen = _nearest(~fires & (reach > BLOCKED), ~truth, reach, 1, most)
        blocked = np.flatnonzero((reach == BLOCKED) & truth & self.curves.rows.answered)[: most - len(seen)]
        order = [*seen[truth[seen]], *blocked, *seen[~truth[seen]]]
        return self._seen(above, reach, truth, fires), self._seen(np.array(order, dtype=np.int64), reach, truth, fires)

    def frame(self, most: int | None = None) -> pd.DataFrame:
        """One row per tier (the first `most`): its goal, its threshold, and what it does on tune."""
        return pd.DataFrame([self._row(number) for number in range(len(self.curves.tiers))[:most]])

    def _row(self, number: int) -> Mapping[str, Any]:
        category, tier = self.curves.tiers[number]
        hits, wrong, _ = self.counts(number) or (0, 0, 0)
        precision, recall = self.rates(number)
        return {
            "category": category,
            "action": tier.action,
            "goal": f"{tier.metric} ≥ {tier.at_least:g}",
            "threshold": math.nan if self.thresholds[number] is None else self.thresholds[number],
            "proposed": math.nan if (asked := self.proposed[number].asked) is None else asked,
            "fired": hits + wrong,
            "true_positives": hits,
            "precision" if self.curves.prevalence is None else "precision_in_production": precision,
            "recall": recall,
            "measured_on": self.curves.measured_on,
        }

    def _seen(self, places: Sequence[int] | np.ndarray, reach: Any, truth: Any, fires: Any) -> tuple[Seen, ...]:
        frame = self.curves.rows.frame
        ids, labels = frame["image_id"].to_numpy(dtype=object), frame["labels"].to_numpy(dtype=object)
        unknown = (self.labelled.taxonomy.unknown,)
        return tuple(
            Seen(str(ids[row]), float(reach[row]), labels[row] or unknown, _verdict(bool(fires[row]), bool(truth[row])))
            for row in places
        )

    def _set(self, thresholds: Thresholds) -> None:
        changed = {n: new for n, (old, new) in enumerate(zip(self.thresholds, thresholds, strict=True)) if old != new}
        self.routing.move(changed)
        self.thresholds = thresholds

    def _keep(self) -> None:
        if self._kept != self.thresholds:
            self.history.did((self._kept, self.thresholds))
            self._kept = self.thresholds

    def _restore(self, thresholds: Thresholds) -> None:
        self._set(thresholds)
        self._kept = thresholds


def trace(curves: OperatingCurves, curve_of: Sequence[int], asked: Thresholds) -> tuple[TierCurve, ...]:
    """The distinct curves of all tiers, so thinned that all together still travel quickly."""
    many = max(curve_of, default=-1) + 1
    most = min(MOST_POINTS, _MOST_POINTS_IN_ALL // max(many, 1))
    tiers: dict[int, list[int]] = {}
    for number, place in enumerate(curve_of):
        tiers.setdefault(place, []).append(number)
    return tuple(
        curves.curve(numbers[0], most, [limit for n in numbers if (limit := asked[n]) is not None])
        for _, numbers in tqdm(sorted(tiers.items()), "curves", unit="curve", leave=False, delay=_QUIET_S)
    )


def other_curves(labelled: Labelled, goals: Goals) -> OperatingCurves:
    """Another approach's tiers for the same goals, under the rule that drafting would freeze for it."""
    tune = labelled.on("tune")
    fits = goals.rejection.signal != "entropy" or labelled.info.complete
    usual = (
        goals if fits else goals.model_copy(update={"rejection": goals.rejection.model_copy(update={"signal": "top"})})
    )
    return OperatingCurves(tune, goals, choose_rejection(tune, usual))


def _nearest(rows: np.ndarray, right: np.ndarray, reach: np.ndarray, sign: int, most: int) -> np.ndarray:
    """At most `most` places of `rows`: those that are not `right` first, then by falling `sign` × reach."""
    places = np.flatnonzero(rows)
    found: list[np.ndarray] = []
    for group in (places[~right[places]], places[right[places]]):
        left = most - sum(map(len, found))
        key = -sign * reach[group]
        near = (
            np.argpartition(key, left - 1)[:left] if len(group) > left > 0 else np.arange(min(len(group), max(left, 0)))
        )
        found.append(group[near[np.argsort(key[near], kind="stable")]])
    return np.concatenate(found)


def _verdict(fires: bool, shows: bool) -> Verdict:
    if fires:
        return "true positive" if shows else "false positive"
    return "false negative" if shows else "true negative"
