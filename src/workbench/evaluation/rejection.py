"""How well unknown images are told from known ones, signal by signal and source by source of unknown images.

Signals are turned so that high means accepted; what is measured does not depend on any threshold. An image that the
rule can never accept, because no category is the single highest or all are CENSORED, lies below every threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.evaluation import figures, tallies
from workbench.evaluation.acceptance import AcceptanceCurve, Lines, WorkingPoint
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.resampling import bootstrap_interval
from workbench.evaluation.results import Result, describe_splits, share
from workbench.evaluation.simulate import gate_scores, signals
from workbench.evaluation.tallies import Tally
from workbench.records import CENSORED, Rejection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNKNOWN_LABEL = "unknown_label"
"""The signal of an approach that scores "none of these": the highest known score minus that score."""

FEWEST_GROUPS = 10
"""A bootstrap interval is given from so many groups of images on each side on."""

_SIGNAL_WORDS = {
    "top": "highest score",
    "margin": "lead over the second score",
    "entropy": "entropy",
    UNKNOWN_LABEL: 'lead over "none of these"',
}
_NONE, _EVERY, _ONE = "no source", "every source", "one source"
_MOST_INTERVALS = 20
_MOST_DRAWN = 2_000_000


@dataclass(frozen=True)
class Estimate:
    """One measure of one signal, on one population of images."""

    signal: str
    measure: str
    """AUROC, FPR@95TPR (unknown positive), OSCR, AURC or AUGRC: see `selective`."""
    population: str
    """Known against unknown; AURC and AUGRC: known alone, or known + unknown, where each unknown one is an error."""
    unknown_from: str
    """Whose unknown images: "no source", "every source" or "one source"."""
    source: str
    """Empty unless they are of one source."""
    known: int
    unknown: int
    value: float
    low: float
    """NaN with fewer than FEWEST_GROUPS groups of images on a side, and for all but the 20 largest sources."""
    high: float


@dataclass(frozen=True, eq=False)
class RejectionMeasures(Result):
    """Every measure of every signal that fits the approach, over all unknown images and for each of S sources."""

    labelled: Labelled
    """The images that have scores; the others never reach the rule."""
    sources: tuple[str, ...]
    """Where the unknown images come from, sorted."""
    signals: Mapping[str, np.ndarray]
    """(n,) float64 each, high where accepted (entropy negated); −inf where the rule can never accept."""
    estimates: tuple[Estimate, ...]
    left_out: int
    """Labelled images without an answer or with a MISSING score."""
    confidence: float
    resamples: int
    """Of the bootstrap over groups from which the intervals come."""
    seed: int
    measured_on: str

    def frame(self) -> pd.DataFrame:
        """One row per estimate."""
        rest: dict[str, Any] = {
            "confidence": self.confidence,
            "resamples": self.resamples,
            "measured_on": self.measured_on,
        }
        return pd.DataFrame([vars(estimate) for estimate in self.estimates]).assign(**rest)

    @property
    def unknown_of_source(self) -> np.ndarray:
        """(S, n) bool."""
        return _of_source(self.labelled, self.sources)

    def curve(self, signal: str) -> AcceptanceCurve:
        """Unknown images accepted against known images rejected. Raises KeyError that lists the signals."""
        if signal not in self.signals:
            raise KeyError(f"no signal {signal!r}; there are {', '.join(self.signals)}")
        values, unknown = self.signals[signal], self.labelled.unknown
        points = np.unique(values[values > -np.inf])
        accepted = [
            part.sum() - np.searchsorted(np.sort(values[part]), points, "left") for part in self.unknown_of_source
        ]
        return AcceptanceCurve(
            thresholds=np.abs(points) if signal == "entropy" else points,
            known_rejected=np.searchsorted(np.sort(values[~unknown]), points, "left"),
            unknown_accepted=np.array(accepted),
        )

    def curves_frame(self) -> pd.DataFrame:
        """One row per signal and threshold; of several sources, `unknown accepted: …` gives each one's count."""
        return pd.concat([self._curve_frame(signal) for signal in self.signals], ignore_index=True)

    def _curve_frame(self, signal: str) -> pd.DataFrame:
        curve, unknown = self.curve(signal), int(self.labelled.unknown.sum())
        columns = {
            "signal": signal,
            "threshold": curve.thresholds,
            "known": len(self.labelled) - unknown,
            "known_rejected": curve.known_rejected,
            "unknown": unknown,
            "unknown_accepted": curve.unknown_accepted.sum(axis=0),
        }
        by_source = zip(self.sources, curve.unknown_accepted, strict=True) if len(self.sources) > 1 else ()
        each = {f"unknown accepted: {source}": accepted for source, accepted in by_source}
        return pd.DataFrame({**columns, **each, "measured_on": self.measured_on})

    def at(self, rule: Rejection) -> WorkingPoint:
        """Counts under a frozen rule. Raises RunError if the rule and the run disagree on "none of these"."""
        rows = self.labelled
        gated = gate_scores(rows.scores, rows.unknown_scores, rows.answered, rule, rows.taxonomy)
        parts = self.unknown_of_source
        return WorkingPoint(
            rule=rule,
            sources=self.sources,
            known=int((~rows.unknown).sum()),
            known_rejected=int((gated.rejected & ~rows.unknown).sum()),
            unknown=parts.sum(axis=1),
            unknown_accepted=(parts & ~gated.rejected).sum(axis=1),
            confidence=self.confidence,
            measured_on=self.measured_on,
        )

    def plot(self, ax: Axes | None = None, signal: str = "top", working_point: Rejection | None = None) -> Axes:
        """One line per source, the worst first (the sixth and later ones unnamed), and all unknown images quietly.

        Lines are stairs: nothing between two thresholds is promised. A working point lies off its line where the rule
        reads another signal, or a score for "none of these" as well.
        """
        curve = self.curve(signal)
        ax = ax or figures.new_axes(height=3.8)
        known, unknown = int((~self.labelled.unknown).sum()), self.unknown_of_source.sum(axis=1)
        lines = Lines(ax, share(curve.known_rejected, np.array(known)))
        worst = [int(place) for place in np.argsort([self._auroc(signal, source) for source in self.sources])]
        for place in worst:
            lines.add(self._named(place), share(curve.unknown_accepted[place], unknown[place]))
        if len(self.sources) > 1:
            lines.add_mean(f"all unknown ({unknown.sum()})", share(curve.unknown_accepted.sum(axis=0), unknown.sum()))
        if working_point is not None:
            lines.mark(self.at(working_point))
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        ax.set(xlabel=f"known images rejected, of {known}", ylabel="unknown images accepted")
        figures.dress(ax, f"What rejecting by {_SIGNAL_WORDS[signal]} costs", self.measured_on)
        figures.add_legend(ax, lines.handles, lines.labels, loc="upper right")
        return ax

    def _auroc(self, signal: str, source: str) -> float:
        return next(
            found.value
            for found in self.estimates
            if (found.signal, found.measure, found.unknown_from, found.source) == (signal, "AUROC", _ONE, source)
        )

    def _named(self, place: int) -> str:
        return f"{self.sources[place] or self.labelled.taxonomy.unknown} ({self.unknown_of_source[place].sum()})"


def measure_rejection(
    labelled: Labelled, confidence: float = 0.95, *, resamples: int | None = None, seed: int = 0
) -> RejectionMeasures:
    """Measure every signal that fits: top, margin, entropy where the scores are a whole distribution, unknown_label.

    An image is told rightly if its single highest category is among its labels; an unknown one never is. Intervals are
    percentiles of a seeded bootstrap over groups, drawn among known and among unknown ones (see `resampling`); by
    default of 500 resamples, from 4,000 images on of fewer, at least 100.

    Raises ValueError unless both known and unknown images have scores.
    """
    rows = labelled.rows(labelled.usable)
    if rows.unknown.all() or not rows.unknown.any():
        raise ValueError("telling unknown from known needs labelled images of both that have scores")
    values, right = acceptance_signals(rows), told_rightly(rows)
    sources = tuple(sorted(rows.frame["source"][rows.unknown].unique()))
    parts = [rows.unknown, *_of_source(rows, sources)]
    enough = _worth_intervals(rows, parts)
    times = resamples or min(500, max(100, _MOST_DRAWN // len(rows)))

    def measure(counts: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
        found = (_measure(signal, ~rows.unknown, right, parts, counts) for signal in values.values())
        return np.stack([figure for figures_of_signal in found for figure in figures_of_signal])

    cases = [(signal, *case) for signal in values for case in _cases(sources, parts)]
    once = measure(np.ones((1, len(rows))), parts)[:, 0]
    bounds = np.full((2, len(cases)), np.nan)
    if enough.any():
        drawn = [part for part, worth in zip(parts, enough[1:], strict=True) if worth]
        places = np.tile(np.concatenate([enough[:1].repeat(2), enough[1:].repeat(5)]), len(values))
        bounds[:, places] = bootstrap_interval(
            lambda counts: measure(counts, drawn),
            rows.frame["group"],
            rows.unknown,
            resamples=times,
            confidence=confidence,
            seed=seed,
        )
    known = int((~rows.unknown).sum())
    numbers = zip(cases, once.tolist(), *bounds.tolist(), strict=True)
    filled = ([*case, known, unknown, *found] for (*case, unknown), *found in numbers)
    return RejectionMeasures(
        labelled=rows,
        sources=sources,
        signals=values,
        estimates=tuple(Estimate(*fields) for fields in filled),
        left_out=len(labelled) - len(rows),
        confidence=confidence,
        resamples=times,
        seed=seed,
        measured_on=describe_splits(labelled.splits),
    )


def measure_signals(labelled: Labelled, confidence: float = 0.95) -> RejectionMeasures:
    """Signals, curves and working points alone, as `measure_rejection` has them: no estimates, and so no bootstrap.

    Quick enough to be asked again and again; `plot`, which orders its lines by AUROC, needs `measure_rejection`.
    Raises ValueError unless both known and unknown images have scores.
    """
    rows = labelled.rows(labelled.usable)
    if rows.unknown.all() or not rows.unknown.any():
        raise ValueError("telling unknown from known needs labelled images of both that have scores")
    return RejectionMeasures(
        labelled=rows,
        sources=tuple(sorted(rows.frame["source"][rows.unknown].unique())),
        signals=acceptance_signals(rows),
        estimates=(),
        left_out=len(labelled) - len(rows),
        confidence=confidence,
        resamples=0,
        seed=0,
        measured_on=describe_splits(labelled.splits),
    )


def acceptance_signals(rows: Labelled) -> dict[str, np.ndarray]:
    """(n,) float64 by signal, high where accepted, −inf where never; every row must be usable."""
    names = ("top", "margin", "entropy") if rows.info.complete else ("top", "margin")
    found = {name: signals(rows.scores, name).astype(np.float64) for name in names}
    best = rows.scores.max(axis=1).astype(np.float64)
    never = best == CENSORED
    if rows.taxonomy.mode == "single-label":
        never |= rows.top() < 0
    if rows.unknown_scores is not None:
        found[UNKNOWN_LABEL] = np.where(never, 0, best) - rows.unknown_scores
    return {name: np.where(never, -np.inf, -value if name == "entropy" else value) for name, value in found.items()}


def told_rightly(rows: Labelled) -> np.ndarray:
    """(n,) bool: the single highest category is among the labels."""
    top = rows.top()
    return np.asarray((top >= 0) & rows.truth[np.arange(len(rows)), top])


def _of_source(rows: Labelled, sources: tuple[str, ...]) -> np.ndarray:
    column = rows.frame["source"].to_numpy(dtype=object)
    return np.array([rows.unknown & (column == source) for source in sources])


def _measure(
    values: np.ndarray, known_rows: np.ndarray, right: np.ndarray, parts: Sequence[np.ndarray], counts: np.ndarray
) -> Iterator[np.ndarray]:
    """(R,) figures of one signal, in the order of `_cases`."""
    known, correct, wrong = (Tally(values, counts, kept) for kept in (known_rows, right, known_rows & ~right))
    yield tallies.aurc([known], [wrong])
    yield tallies.augrc([known], [wrong])
    for unknown in (Tally(values, counts, part) for part in parts):
        yield tallies.auroc(known, unknown)
        yield tallies.fpr_at_95_tpr(known, unknown)
        yield tallies.oscr(known, correct, unknown)
        yield tallies.aurc([known, unknown], [wrong, unknown])
        yield tallies.augrc([known, unknown], [wrong, unknown])


def _cases(sources: tuple[str, ...], parts: Sequence[np.ndarray]) -> Iterator[tuple[Any, ...]]:
    """measure, population, unknown_from, source, and the number of unknown images."""
    yield "AURC", "known", _NONE, "", 0
    yield "AUGRC", "known", _NONE, "", 0
    for number, (source, part) in enumerate(zip(("", *sources), parts, strict=True)):
        for measure in ("AUROC", "FPR@95TPR", "OSCR", "AURC", "AUGRC"):
            population = "known + unknown" if measure in ("AURC", "AUGRC") else "known against unknown"
            yield measure, population, _ONE if number else _EVERY, source, int(part.sum())


def _worth_intervals(rows: Labelled, parts: Sequence[np.ndarray]) -> np.ndarray:
    """(1 + parts,) bool: the known images alone, then with each part, have groups enough."""
    groups = [rows.frame["group"][kept].nunique() for kept in (~rows.unknown, *parts)]
    enough = np.array(groups) >= FEWEST_GROUPS
    by_size = np.argsort([-part.sum() for part in parts[1:]], kind="stable")
    enough[2 + by_size[_MOST_INTERVALS:]] = False
    return np.asarray(enough & enough[0])
