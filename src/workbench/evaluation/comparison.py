"""Two versions of an approach on the same images, and one day against what is usual.

Everything counts whole images. Of a category, an image is *gained* if the new version assigns it and the old one did
not, *lost* if it is the other way round; what both or neither assign tells nothing about a change. Labels are needed
for right and wrong alone, so thousands of unlabelled images of production serve as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.errors import RunError
from workbench.evaluation import figures
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.metrics import told
from workbench.evaluation.results import Result, describe_splits, share
from workbench.predictions import PredictionTable
from workbench.records import OK, Mode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ERROR = 0.05
"""Over all categories together, that a change is told where there is none."""
_MOST_PAIRS = 2**16


@dataclass(frozen=True)
class ChangeTest:
    """A χ² test of a square table, in which rows are told by the old version and columns by the new one."""

    name: str
    statistic: float
    df: int
    """0 where no image changed: there is nothing to test."""
    p_value: float


@dataclass(frozen=True)
class Flips(Result):
    """Labelled images that went from right to wrong and from wrong to right."""

    images: int
    negative: int
    """Right before, wrong now."""
    positive: int
    """Wrong before, right now."""
    old_errors: int
    new_errors: int
    confidence: float
    """Of the exact interval on the rate."""
    measured_on: str

    @property
    def rate(self) -> float:
        """The negative flip rate: `negative / images`; NaN without images."""
        return self.negative / self.images if self.images else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Exact interval on the negative flip rate."""
        low, high = clopper_pearson(self.negative, self.images, self.confidence)
        return float(low), float(high)

    @property
    def relative(self) -> float:
        """The rate against that of two versions that err independently of each other, (1 − ER_old) · ER_new.

        1 means independent, 0 no negative flip at all; NaN where independent versions would have none either (Yan et
        al., "Positive-congruent training", arXiv 2011.09161).
        """
        independent = (self.images - self.old_errors) * self.new_errors
        return self.negative * self.images / independent if independent else math.nan

    def frame(self) -> pd.DataFrame:
        """One row."""
        low, high = self.interval
        row = {
            "images": self.images,
            "old_errors": self.old_errors,
            "new_errors": self.new_errors,
            "negative_flips": self.negative,
            "positive_flips": self.positive,
            "negative_flip_rate": self.rate,
            "negative_flip_rate_low": low,
            "negative_flip_rate_high": high,
            "relative_negative_flip_rate": self.relative,
            "measured_on": self.measured_on,
        }
        return pd.DataFrame([row])


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """What a new version assigns against what the old one did, in each of K categories."""

    categories: tuple[str, ...]
    images: int
    old: np.ndarray
    """(K,) int: images that the old version assigns to the category."""
    gained: np.ndarray
    """(K,) int: images that the new version alone assigns."""
    lost: np.ndarray
    """(K,) int: images that the old version alone assigns."""
    p_values: np.ndarray
    """(K,) float64: exact McNemar, two-sided."""
    holm: np.ndarray
    """(K,) float64: the p-values adjusted over all categories (Holm 1979)."""
    margin: float
    """How far a rate may move, relative to the old one, and still count as unchanged."""
    confidence: float
    """Of the intervals on shift and ratio; 0.9 makes the equivalence test one at 5 %."""
    tests: tuple[ChangeTest, ...]
    """single-label: Bowker, Stuart–Maxwell; multi-label: none."""
    flips: Flips | None
    """None without labels."""
    measured_on: str

    @property
    def shift(self) -> np.ndarray:
        """(K,) float64: new rate less old rate, as a share of all images; NaN without images."""
        return share(self.gained - self.lost, np.full(len(self.gained), self.images))

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) of the shift, (K,) float64 each: normal, with the variance of paired rates.

        It has no width where no image changed; `unchanged` does not rest on it alone.
        """
        if not self.images:
            return np.full(len(self.old), np.nan), np.full(len(self.old), np.nan)
        changes = self.gained, self.lost
        low, high = (
            sign * _highest_sum(changes, (sign, -sign), self.images, self.confidence) / self.images for sign in (-1, 1)
        )
        return low, high

    @property
    def ratio(self) -> np.ndarray:
        """(K,) float64: gained for each one that was lost; ∞ where none was, NaN where there is neither."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.divide(self.gained, self.lost))

    @property
    def ratio_interval(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) of the ratio, (K,) float64 each: exact, from the share of gained among changed images."""
        low, high = clopper_pearson(self.gained, self.gained + self.lost, self.confidence)
        with np.errstate(divide="ignore"):
            return np.divide(low, 1 - low), np.divide(high, 1 - high)

    @property
    def changed(self) -> np.ndarray:
        """(K,) bool: told as a change, with at most 5 % probability that any of them is none."""
        return np.asarray(self.holm <= ERROR)

    @property
    def unchanged(self) -> np.ndarray:
        """(K,) bool: shown to have stayed: the interval of the shift lies within ± margin · old rate.

        And so does gained − lost ± margin · old once the margin counts as what it is, an estimate from the same images,
        and half an image more stands in each cell of the 2×2 table (Agresti and Min 2005): otherwise two versions would
        count as unchanged wherever ten images show no change. A rate that moved by just the margin is called unchanged
        in about 5 % of comparisons at confidence 0.9, in up to 8 % where no more than ten images changed. A category
        may be neither changed nor unchanged, and with very many images both: a small change that is sure.
        """
        if not self.images:
            return np.zeros(len(self.old), dtype=bool)
        allowed = self.margin * self.old / self.images
        low, high = self.interval
        kept, images = self.old - self.lost + 0.5, self.images + 2
        within = (low >= -allowed) & (high <= allowed)
        for sign in (1, -1):
            weights = (sign, -sign - self.margin, -self.margin)
            within &= _highest_sum((self.gained + 0.5, self.lost + 0.5, kept), weights, images, self.confidence) <= 0
        return np.asarray(within)

    def frame(self) -> pd.DataFrame:
        """One row per category."""
        (low, high), (ratio_low, ratio_high) = self.interval, self.ratio_interval
        columns = {
            "category": self.categories,
            "images": self.images,
            "old": self.old,
            "new": self.old + self.gained - self.lost,
            "gained": self.gained,
            "lost": self.lost,
            "p_value": self.p_values,
            "p_value_holm": self.holm,
            "shift": self.shift,
            "shift_low": low,
            "shift_high": high,
            "ratio": self.ratio,
            "ratio_low": ratio_low,
            "ratio_high": ratio_high,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "measured_on": self.measured_on,
        }
        return pd.DataFrame(columns)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The shift of each category with its interval; the bar behind it is what counts as unchanged."""
        rows = len(self.categories)
        ax = ax or figures.new_axes(height=1.5 + 0.3 * rows)
        theme, place = figures.theme_of(ax), np.arange(rows)
        allowed = 100 * self.margin * share(self.old, np.full(rows, self.images))
        low, high = self.interval
        band = ax.barh(place, 2 * allowed, left=-allowed, height=0.7, color=theme.line)
        ax.hlines(place, 100 * low, 100 * high, color=theme.first, linewidth=1.4)
        dots = [
            ax.scatter(100 * self.shift[chosen], place[chosen], s=26, color=theme.first, facecolor=face, zorder=3)
            for chosen, face in ((self.changed, theme.first), (~self.changed, theme.ground))
        ]
        ax.set_yticks(place, [figures.printable(name) for name in self.categories])
        ax.set(ylim=(rows - 0.4, -0.6), xlabel="shift of the rate, percentage points")
        figures.dress(ax, f"New against old on {self.images} images", self.measured_on, grid="x")
        words = ["changed", "not shown to have changed", f"within {100 * self.margin:g} % of the old rate"]
        figures.add_legend(ax, [*dots, band], words, **figures.BELOW)
        return ax


@dataclass(frozen=True)
class DayComparison(Result):
    """The events of one day against a usual rate that itself goes up and down."""

    events: int
    images: int
    rate: float
    """The usual one."""
    variation: float
    """Standard deviation of the rate from one time to the next, as a share of it."""
    more: float
    """P[at least so many events]."""
    fewer: float
    """P[at most so many events]."""

    @property
    def p_value(self) -> float:
        """Two-sided: twice the smaller tail, at most 1."""
        return min(1.0, 2 * min(self.more, self.fewer))

    def frame(self) -> pd.DataFrame:
        """One row."""
        return pd.DataFrame([{**asdict(self), "p_value": self.p_value}])


def compare_runs(
    old: PredictionTable | Labelled,
    new: PredictionTable | Labelled,
    margin: float = 0.1,
    confidence: float = 0.9,
) -> Comparison:
    """Two runs of the same images, before any threshold (`metrics.told`).

    An image without an answer is assigned to nothing. Two `Labelled` also give the flips, over the images of a known
    category; right means that exactly the shown categories are told. Raises RunError unless both are of one data set,
    with one taxonomy and the same images.
    """
    _refuse_differences(old, new)
    place = pd.Index(new.frame["image_id"]).get_indexer(old.frame["image_id"])
    assigned = _told(old), _told(new)[place]
    known, measured_on = None, f"all images of {old.info.dataset_name}, labels not used"
    if isinstance(old, Labelled) and isinstance(new, Labelled):
        known, measured_on = ~old.unknown, describe_splits(old.splits)
    return compare_assignments(
        *assigned,
        categories=old.info.taxonomy.categories,
        mode=old.info.taxonomy.mode,
        truth=old.truth if isinstance(old, Labelled) and known is not None else None,
        counted=known,
        margin=margin,
        confidence=confidence,
        measured_on=measured_on,
    )


def compare_assignments(
    old: np.ndarray,
    new: np.ndarray,
    categories: Sequence[str],
    mode: Mode = "single-label",
    truth: np.ndarray | None = None,
    counted: np.ndarray | None = None,
    margin: float = 0.1,
    confidence: float = 0.9,
    measured_on: str = "",
) -> Comparison:
    """Two (n, K) bool matrices of the same images, row by row: which categories each version assigns.

    `truth` (n, K) bool: what the images show; `counted` (n,) bool: the labelled rows among which flips are counted, all
    by default. `margin` > 0. Raises ValueError for shapes that differ, what is not bool, and a single-label row with
    two categories.
    """
    old, new = _checked(old, "old", categories, mode), _checked(new, "new", categories, mode)
    if old.shape != new.shape:
        raise ValueError(f"old {old.shape} and new {new.shape} must be of the same images")
    if not (margin > 0 and 0 < confidence < 1):
        raise ValueError(f"margin {margin} must be above 0, and confidence {confidence} between 0 and 1")
    gained, lost = (new & ~old).sum(axis=0), (old & ~new).sum(axis=0)
    p_values = np.array([mcnemar_p_value(int(b), int(d)) for b, d in zip(gained, lost, strict=True)])
    flips = None
    if truth is not None:
        shown = _checked(truth, "truth", categories, mode)
        if shown.shape != old.shape:
            raise ValueError(f"truth {shown.shape} and old {old.shape} must be of the same images")
        rows = np.ones(len(old), dtype=bool) if counted is None else counted
        old_right, new_right = ((version == shown).all(axis=1)[rows] for version in (old, new))
        flips = count_flips(old_right, new_right, measured_on=measured_on)
    return Comparison(
        categories=tuple(categories),
        images=len(old),
        old=old.sum(axis=0),
        gained=gained,
        lost=lost,
        p_values=p_values,
        holm=adjust_holm(p_values),
        margin=margin,
        confidence=confidence,
        tests=compare_tables(_square(old, new)) if mode == "single-label" else (),
        flips=flips,
        measured_on=measured_on,
    )


def count_flips(old_right: np.ndarray, new_right: np.ndarray, confidence: float = 0.95, measured_on: str = "") -> Flips:
    """From two (n,) bool: whether each version is right about each image. Raises ValueError for other arrays."""
    if old_right.shape != new_right.shape or old_right.ndim != 1:
        raise ValueError(f"old {old_right.shape} and new {new_right.shape} must be two vectors of one length")
    if old_right.dtype != bool or new_right.dtype != bool:
        raise ValueError(f"right or wrong must be bool, not {old_right.dtype} and {new_right.dtype}")
    return Flips(
        images=len(old_right),
        negative=int((old_right & ~new_right).sum()),
        positive=int((~old_right & new_right).sum()),
        old_errors=int((~old_right).sum()),
        new_errors=int((~new_right).sum()),
        confidence=confidence,
        measured_on=measured_on,
    )


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Exact, two-sided: min(1, 2 · P[Bin(gained + lost, ½) ≤ the smaller]) (McNemar 1947)."""
    from statsmodels.stats.contingency_tables import mcnemar

    return float(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue)


def adjust_holm(p_values: np.ndarray) -> np.ndarray:
    """(K,) p-values, each compared with the error probability that all K share (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p_values, method="holm")[1]) if len(p_values) else np.asarray(p_values, float)


def compare_tables(counts: np.ndarray) -> tuple[ChangeTest, ChangeTest]:
    """Bowker's test of any asymmetry and Stuart and Maxwell's of unequal margins, of (K, K) counts, rows old.

    Categories and pairs without a changed image carry no information and no degree of freedom: Bowker's df is the
    number of pairs with changes, and the margins are tested within each set of categories that changes connect, the
    statistics and df being added up. Where every pair has changes that is the textbook's K(K − 1)/2 and K − 1. Raises
    ValueError for a table that is not square or holds a negative count.
    """
    from scipy.sparse.csgraph import connected_components
    from scipy.stats import chi2
    from statsmodels.stats.contingency_tables import SquareTable

    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or (counts < 0).any():
        raise ValueError(f"counts {counts.shape} must be a square table without negative numbers")
    changes = counts + counts.T
    np.fill_diagonal(changes, 0)
    pairs = int((np.triu(changes) > 0).sum())
    symmetry = float(SquareTable(counts, shift_zeros=False).symmetry().statistic) if pairs else 0.0
    _, part = connected_components(changes > 0, directed=False)
    parts = [np.flatnonzero(part == number) for number in np.unique(part)]
    tables = [SquareTable(counts[np.ix_(rows, rows)], shift_zeros=False) for rows in parts if len(rows) > 1]
    margins = [table.homogeneity() for table in tables]
    found = (
        ("Bowker", symmetry, pairs),
        ("Stuart–Maxwell", sum(float(one.statistic) for one in margins), sum(int(one.df) for one in margins)),
    )
    bowker, stuart = (ChangeTest(name, x, df, float(chi2.sf(x, df)) if df else 1.0) for name, x, df in found)
    return bowker, stuart


def pairs_needed(ratio: float, confidence: float = 0.95, power: float = 0.8) -> int:
    """Changed images (gained and lost) at which the exact McNemar test first has this power at such a gained : lost.

    The power of an exact test is a sawtooth: with a few more images it may fall just short again. `ratio` and its
    inverse need the same. Raises ValueError for a ratio that is not positive, or so close to 1 that more than 65,536
    would be needed.
    """
    from scipy.stats import binom

    if not (ratio > 0 and 0 < confidence < 1 and 0 < power < 1):
        raise ValueError(f"ratio {ratio} must be above 0, confidence {confidence} and power {power} between 0 and 1")
    gained = max(ratio, 1 / ratio) / (1 + max(ratio, 1 / ratio))
    fewest, most = 1, 256
    while fewest < _MOST_PAIRS:
        pairs = np.arange(fewest, most)
        tail = binom.ppf((1 - confidence) / 2, pairs, 0.5)
        tail -= 2 * binom.cdf(tail, pairs, 0.5) > 1 - confidence
        rejects = binom.cdf(tail, pairs, gained) + binom.sf(pairs - tail - 1, pairs, gained)
        enough = (tail >= 0) & (rejects >= power)
        if enough.any():
            return int(pairs[np.argmax(enough)])
        fewest, most = most, most * 4
    raise ValueError(f"ratio {ratio} is so close to 1 that more than {_MOST_PAIRS} changed images would be needed")


def compare_day(events: int, images: int, rate: float, variation: float = 0.0) -> DayComparison:
    """`events` among `images` of one day where `rate` is usual and varies from day to day by `variation` · rate.

    The rate of the day is drawn from the Beta distribution with mean `rate` and that standard deviation, so the count
    is beta-binomial; without variation it is binomial, which raises an alarm on ordinary days. Raises ValueError for
    impossible counts, a rate outside (0, 1), and a variation that no Beta distribution has.
    """
    from scipy.stats import betabinom, binom

    if not 0 <= events <= images:
        raise ValueError(f"events must lie between 0 and images: {events} of {images}")
    if not 0 < rate < 1 or not 0 <= variation < math.sqrt((1 - rate) / rate):
        raise ValueError(f"no rate of {rate} varies by {variation} of itself within 0 and 1")
    if not variation:
        more, fewer = binom.sf(events - 1, images, rate), binom.cdf(events, images, rate)
    else:
        size = (1 - rate) / (rate * variation**2) - 1
        chances = betabinom.pmf(np.arange(images + 1), images, rate * size, (1 - rate) * size)
        more, fewer = chances[events:].sum(), chances[: events + 1].sum()
    return DayComparison(events, images, rate, variation, min(1.0, float(more)), min(1.0, float(fewer)))


def _highest_sum(
    counts: Sequence[np.ndarray], weights: Sequence[float], images: float, confidence: float
) -> np.ndarray:
    """(K,) upper end of the normal interval on Σ weight · count, of images of which each is in at most one count."""
    from scipy.special import ndtri

    total = sum(weight * count for weight, count in zip(weights, counts, strict=True))
    squares = sum(weight**2 * count for weight, count in zip(weights, counts, strict=True))
    return np.asarray(total + ndtri((1 + confidence) / 2) * np.sqrt(squares - total**2 / images))


def _square(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """(K + 1, K + 1) int: images by what the old and the new version tell; the last row and column are nothing."""
    size = old.shape[1] + 1
    one, other = (np.where(run.any(axis=1), run.argmax(axis=1), size - 1) for run in (old, new))
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (one, other), 1)
    return counts


def _checked(matrix: np.ndarray, name: str, categories: Sequence[str], mode: Mode) -> np.ndarray:
    if matrix.ndim != 2 or matrix.shape[1] != len(categories) or matrix.dtype != bool:
        raise ValueError(f"{name} must be (n, {len(categories)}) bool, not {matrix.shape} {matrix.dtype}")
    if mode == "single-label" and (matrix.sum(axis=1) > 1).any():
        row = int(np.argmax(matrix.sum(axis=1) > 1))
        raise ValueError(f"{name}: row {row} has several categories in a single-label comparison")
    return matrix


def _told(run: PredictionTable | Labelled) -> np.ndarray:
    if isinstance(run, Labelled):
        return told(run)
    nothing = np.zeros((len(run), len(run.info.taxonomy.categories)), dtype=bool)
    answered = (run.frame["outcome"] == OK).to_numpy(dtype=bool)
    return told(
        Labelled(
            taxonomy=run.info.taxonomy,
            info=run.info,
            frame=run.frame,
            scores=run.scores,
            unknown_scores=run.unknown_scores,
            truth=nothing,
            answered=answered,
            unknown=np.zeros(len(run), dtype=bool),
        )
    )


def _refuse_differences(old: PredictionTable | Labelled, new: PredictionTable | Labelled) -> None:
    if old.info.taxonomy.digest != new.info.taxonomy.digest:
        raise RunError("the two runs have different taxonomies: categories, mode or the word for unknown differ")
    apart = sorted(set(old.frame["image_id"]) ^ set(new.frame["image_id"]))
    if apart:
        raise RunError(f"the two runs are not of the same images: {len(apart)} are in one alone, such as {apart[0]!r}")
    if old.info.dataset != new.info.dataset:
        raise RunError(
            "the two runs are of data sets whose contents, labels or splits differ. Classify the data set again with "
            "both: answers that still hold are taken from the cache."
        )
