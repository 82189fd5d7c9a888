"""The state of the rejection explorer, without a browser: a signal, a cut that moves, what it does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.canonical import binary32
from workbench.config.goals import Goals, RejectionGoal
from workbench.decision import signal_value
from workbench.errors import ConfigError, InputError
from workbench.evaluation.acceptance import AcceptanceCurve, WorkingPoint
from workbench.evaluation.intervals import upper_bound
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.rejection import measure_signals
from workbench.evaluation.results import share
from workbench.evaluation.simulate import Gated, gate_scores
from workbench.evaluation.thresholds import choose_rejection, told_without_rule
from workbench.records import REVIEW, Rejection, Signal
from workbench.widgets.history import History

BINS = 64
"""Of the histograms of a signal."""

MOST_POINTS = 4096
"""Of one curve."""

SEVERAL = ""
"""In place of a category: several share the highest score (an accepted image of a multi-label approach)."""

_MOST_NUMBERS = 1_200_000
"""Of all curves together, which bounds what is sent."""
_FAR = 1e6
"""Far outside of what any threshold is, and far inside of what binary32 can hold."""
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
            if not (abs(threshold) < _FAR and 0 <= binary32(threshold) <= most):
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

    @property
    def can_undo(self) -> bool:
        """There is a step to take back, or a drag that was left."""
        return self.history.can_undo or self._step != self._kept

    def undo(self) -> None:
        """Back to the step before, or to before a drag that was left; nothing where there is none."""
        self._set(self._step, True)
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
