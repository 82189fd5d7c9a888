"""What each tier does at any threshold: exact counts and rates, what it mistakes and misses, and its whole curve.

A tier is seen as drafting and the rule see it: through its scope and the rejection rule (`simulate.Gated.reach`). The
recall of a precision tier may therefore end below 1, where its category is not the highest or is rejected.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from workbench.canonical import binary32
from workbench.config.goals import Goals, TierGoal
from workbench.evaluation.grids import count_falling, roundest_each
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.prevalence import Counts
from workbench.evaluation.production import image_weights, kinds_of, kinds_shown, precision_interval
from workbench.evaluation.results import describe_splits
from workbench.evaluation.simulate import BLOCKED, Gated, gate_scores
from workbench.records import Prevalence, Rejection, Scope

CONFIDENCE = 0.95
"""Of every interval here, each on its own, two-sided."""


@dataclass(frozen=True)
class Rate:
    """A share in [0, 1] with its two-sided interval; the value is NaN where nothing was counted."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OperatingPoint:
    """What one tier does at one threshold on the rows that thresholds are chosen on."""

    category: str
    action: str
    threshold: float
    """In [0, 1], a binary32: the tier fires iff what it sees of the score is at or above it."""
    fired: int
    """Images on which it fires."""
    true_positives: int
    """Of those, images that show the category."""
    positives: int
    """All labelled images that show the category, those without an answer included."""
    answered: int
    """Of those, the ones whose outcome is `ok`."""
    precision: Rate
    """Of the images on which it fires: by count with the exact interval, or by what images weigh where they have design
    weights, with that of as many equally weighted images as would tell as much (Kish 1965)."""
    in_production: Rate | None
    """The same at the mix of images that the goals state; None where they state none."""
    recall: Rate
    """Of all `positives`. A mix of categories does not change it."""
    mistaken: Mapping[str, int]
    """What the false positives show, the most frequent first: categories, and unknown images by source."""
    missed: Mapping[str, int]
    """Why the tier does not fire on the images that show the category, the most frequent first."""

    @property
    def false_positives(self) -> int:
        """Images on which it fires and that do not show the category."""
        return self.fired - self.true_positives

    @property
    def false_negatives(self) -> int:
        """Images that show the category and on which it does not fire."""
        return self.positives - self.true_positives

    @property
    def recall_answered(self) -> float:
        """Recall among the images that were answered; NaN where there are none."""
        return self.true_positives / self.answered if self.answered else math.nan


@dataclass(frozen=True, eq=False)
class TierCurve:
    """Counts of one tier at m of the distinct scores that it sees."""

    thresholds: np.ndarray
    """(m,) float32, rising: the roundest number at which the same images pass as at the score itself."""
    true_positives: np.ndarray
    """(m,) int32."""
    false_positives: np.ndarray
    """(m,) int32."""
    precision: np.ndarray
    """(m,) float32: as counted, or in production where a mix is stated or images have weights."""
    recall: np.ndarray
    """(m,) float32: of all images of the category, by weight where images have design weights; NaN without any."""
    positives: int
    complete: bool
    """Every distinct score is here."""


@dataclass(frozen=True, eq=False)
class OperatingCurves:
    """Every tier of the goals on the rows of one split, under one rejection rule."""

    rows: Labelled
    """n images, K categories."""
    goals: Goals
    rejection: Rejection

    @cached_property
    def tiers(self) -> tuple[tuple[str, TierGoal], ...]:
        """(category, goal), category by category, by rising rank: the order in which a draft lists them."""
        return tuple((name, tier) for name in self.rows.taxonomy.categories for tier in self.goals.tiers_of(name))

    @cached_property
    def gated(self) -> Gated:
        """The rows under the rejection rule."""
        rows = self.rows
        return gate_scores(rows.scores, rows.unknown_scores, rows.answered, self.rejection, rows.taxonomy)

    @cached_property
    def prevalence(self) -> Prevalence | None:
        """The mix of production that the goals state."""
        return None if self.goals.prevalence is None else self.goals.prevalence.record()

    @property
    def measured_on(self) -> str:
        """The split, and in which way it flatters."""
        return describe_splits(self.rows.splits)

    @cached_property
    def automatic(self) -> frozenset[str]:
        """Names of the actions that no person takes."""
        return frozenset(action.name for action in self.goals.actions if action.kind == "automatic")

    def number(self, category: str, action: str) -> int:
        """The place of a tier in `tiers`; KeyError if the goals have none such."""
        for number, (name, tier) in enumerate(self.tiers):
            if (name, tier.action) == (category, action):
                return number
        raise KeyError(f"the goals have no tier {action!r} of {category!r}")

    def column(self, number: int) -> int:
        """The column of a tier's category."""
        return self._columns[self.tiers[number][0]]

    @cached_property
    def _columns(self) -> Mapping[str, int]:
        return {name: column for column, name in enumerate(self.rows.taxonomy.categories)}

    def scope(self, number: int) -> Scope:
        """What the tier's score must be to count: `assigned` or `any`."""
        return self.goals.scope_of(self.tiers[number][1], self.rows.taxonomy)

    def reach(self, number: int) -> np.ndarray:
        """(n,) float32: the score as far as the tier's scope lets it count, −inf elsewhere."""
        action = self.tiers[number][1].action
        return self.gated.reach(self.column(number), self.scope(number), automatic=action in self.automatic)

    def same_curve(self, number: int, other: int) -> bool:
        """The two tiers fire on the same images at every threshold."""
        if self.column(number) != self.column(other) or self.scope(number) != self.scope(other):
            return False
        acts, others = (self.tiers[place][1].action in self.automatic for place in (number, other))
        return self.rows.taxonomy.mode == "single-label" or acts == others

    def curve(self, number: int, most: int = 4096, including: Iterable[float] = ()) -> TierCurve:
        """Exact points of the tier's curve, spread evenly over both scores and recall.

        most       of them at most so many (4 or more)
        including  thresholds whose points are among them, beyond `most` if need be
        """
        column, reach = self.column(number), self.reach(number)
        truth = self.rows.truth[:, column]
        counts = count_falling(reach, truth, self.weights(column))
        wanted = np.searchsorted(-counts.points, -np.array([*including], dtype=np.float32), side="right") - 1
        kept = np.union1d(_spread(counts.successes, most), wanted[wanted >= 0])[::-1]
        recall = counts.successes / max(int(truth.sum()), 1) if truth.any() else np.full(len(counts.points), np.nan)
        if self.prevalence is None and self.rows.weights is not None and truth.any():
            recall = counts.precision * _mass(reach, counts.points, self.rows.weights) / self.rows.weights[truth].sum()
        points = np.append(counts.points, np.float32(_just_below(self.floor(number))))
        return TierCurve(
            thresholds=roundest_each(points[kept + 1], points[kept]),
            true_positives=counts.successes[kept].astype(np.int32),
            false_positives=(counts.events - counts.successes)[kept].astype(np.int32),
            precision=counts.precision[kept].astype(np.float32),
            recall=recall[kept].astype(np.float32),
            positives=int(truth.sum()),
            complete=len(kept) == len(counts.points),
        )

    def floor(self, number: int) -> float:
        """The lowest threshold that the tier may have: below it the approach gives no scores."""
        return float(self.rows.info.floors.get(self.tiers[number][0], 0.0))

    def histogram(self, number: int, bins: int = 64) -> np.ndarray:
        """(3, bins) uint32: how many images of the category, of other categories, and unknown ones lie in each bin.

        Bins are of equal width over [0, 1], of what the tier sees of the score; a score of 1 is in the last one.
        """
        reach, column = self.reach(number), self.column(number)
        seen = reach > BLOCKED
        place = np.minimum((reach[seen] * bins).astype(np.int64), bins - 1)
        kind = np.where(self.rows.truth[seen, column], 0, np.where(self.rows.unknown[seen], 2, 1))
        counted = np.bincount(kind * bins + place, minlength=3 * bins)
        return np.asarray(counted.reshape(3, bins), dtype=np.uint32)

    def at(self, number: int, threshold: float) -> OperatingPoint:
        """Exact counts and rates of a tier at any threshold. Raises ValueError outside [floor of the scores, 1]."""
        floor = self.floor(number)
        if not floor <= threshold <= 1:
            raise ValueError(f"a threshold must lie in [{floor:g}, 1], not {threshold}")
        limit = np.float32(binary32(threshold))
        (category, tier), column = self.tiers[number], self.column(number)
        truth, fires = self.rows.truth[:, column], self.reach(number) >= limit
        hits, fired, positives = int((fires & truth).sum()), int(fires.sum()), int(truth.sum())
        weights = None if self.prevalence else self.rows.weights
        return OperatingPoint(
            category=category,
            action=tier.action,
            threshold=float(limit),
            fired=fired,
            true_positives=hits,
            positives=positives,
            answered=int((truth & self.rows.answered).sum()),
            precision=rate_of(fires & truth, fires, weights),
            in_production=self._in_production(column, fires),
            recall=rate_of(fires & truth, truth, weights),
            mistaken=self._mistaken(fires & ~truth),
            missed=self._missed(truth & ~fires, column, self.scope(number)),
        )

    def weights(self, column: int) -> np.ndarray | None:
        """(n,) how many images of production each row stands for; in single-label mode the same for every category."""
        if self.rows.taxonomy.mode == "single-label":
            return self._weights_of_all
        return image_weights(self.rows, self.prevalence, column)

    @cached_property
    def _weights_of_all(self) -> np.ndarray | None:
        return image_weights(self.rows, self.prevalence, 0)

    def _in_production(self, column: int, fires: np.ndarray) -> Rate | None:
        if self.prevalence is None:
            return None
        truth, kinds = self.rows.truth[:, column], kinds_shown(self.rows, column)
        many = len(kinds_of(self.rows.taxonomy, column)) - 1
        counts = Counts(
            np.array([(fires & truth).sum()]),
            int(truth.sum()),
            np.bincount(kinds[fires & ~truth], minlength=many)[None, :],
            np.bincount(kinds[~truth], minlength=many),
        )
        return Rate(*precision_interval(self.rows.taxonomy, self.prevalence, column, counts, CONFIDENCE))

    def _mistaken(self, wrong: np.ndarray) -> Mapping[str, int]:
        names, found = self.rows.taxonomy.categories, Counter[str]()
        for column in np.flatnonzero(shown := self.rows.truth[wrong].sum(axis=0)):
            found[names[column]] = int(shown[column])
        for source, count in self.rows.frame["source"][wrong & self.rows.unknown].value_counts().items():
            found[unknown_of(self.rows.taxonomy.unknown, str(source))] = int(count)
        return dict(found.most_common())

    def _missed(self, missed: np.ndarray, column: int, scope: Scope) -> Mapping[str, int]:
        gated, names = self.gated, self.rows.taxonomy.categories
        found = Counter({"no usable answer": int((missed & ~gated.usable).sum())})
        left = missed & gated.usable
        if scope == "assigned" and gated.mode == "single-label":
            other = left & (gated.top >= 0) & (gated.top != column)
            for place, count in enumerate(np.bincount(gated.top[other], minlength=len(names))):
                found[f"{names[place]} scores higher"] += int(count)
            found["no single highest"] = int((left & (gated.top < 0)).sum())
            rejected = left & gated.rejected & (gated.top == column)
            found["rejected as unknown"] = int(rejected.sum())
            left = left & (gated.top == column) & ~rejected
        found["below the threshold"] = int(left.sum())
        return {reason: count for reason, count in found.most_common() if count}


def unknown_of(word: str, source: str) -> str:
    """How unknown images of a source are called beside categories."""
    return f"{word} ({source})" if source else word


def rate_of(hits: np.ndarray, trials: np.ndarray, weights: np.ndarray | None) -> Rate:
    """(n,) bool twice: the share with its interval, by weight where there are weights."""
    good, many = int(hits.sum()), int(trials.sum())
    if weights is None:
        low, high = clopper_pearson(good, many, CONFIDENCE)
        return Rate(good / many if many else math.nan, float(low), float(high))
    total = float(weights[trials].sum())
    share = float(weights[hits].sum()) / total if many else math.nan
    effective = round(total**2 / float((weights[trials] ** 2).sum())) if many else 0
    low, high = clopper_pearson(min(round(share * effective), effective) if many else 0, effective, CONFIDENCE)
    return Rate(share, float(low), float(high))


def _mass(reach: np.ndarray, falling: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(m,): the weight of the images at or above each of (m,) falling scores."""
    seen = reach > BLOCKED
    place = np.searchsorted(-falling, -reach[seen])
    return np.cumsum(np.bincount(place, weights=weights[seen], minlength=len(falling)))


def _just_below(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(-1)))


def _spread(hits: np.ndarray, most: int) -> np.ndarray:
    """The places, rising, of at most `most` of (m,) points whose `hits` rise; the ends are among them."""
    count = len(hits)
    if count <= most:
        return np.arange(count)
    half = most // 2
    even = np.linspace(0, count - 1, half).round().astype(np.int64)
    by_recall = np.searchsorted(hits, np.linspace(0, hits[-1], half))
    return np.unique(np.concatenate([even, by_recall]))
