"""Scores as probabilities: maps fitted on *tune*, and how far a score is from the share of images it stands for.

Calibration serves costs, forecasts and the comparison of approaches. It never moves a decision or a certificate: those
are made on raw scores, so a policy holds none of this.

CENSORED counts as 0 among raw scores: what is not named is taken to be absent. A fitted map gives all CENSORED scores
of a category one probability, the smoothed share of them that show it. MISSING becomes the category's share on tune;
measures leave its image out and count it. No map answers NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
import pandas as pd

from workbench.documents import Range, from_document, to_document
from workbench.errors import RunError
from workbench.evaluation import figures
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.results import Result, describe_splits, share
from workbench.records import CENSORED, Count, Name, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Method = Literal["none", "temperature", "platt", "beta", "isotonic"]
Of = Literal["category", "top label", "all categories"]
METHODS: tuple[Method, ...] = get_args(Method)

ISOTONIC_LABELS = 10_000
"""Isotonic maps need about so many labelled images; fewer give steps that only follow the sample."""
PLATT_FROM, BETA_FROM = 50, 1_000
"""`auto`: images that show a category, on average over the categories."""
BINS = 15
LOG_CLIP = 1e-6
"""The log loss takes probabilities no nearer to 0 and 1 than this, so that one sure mistake costs 13.8."""

_NODES = 1001
"""The smooth error stands on these points of [0, 1], both ends among them."""
_WIDTHS = 1024
"""Its bandwidth is a multiple of one over this, the second at least."""
_MESH = 200
_STRIP = 25
_EDGE = 2.0**-25
"""Logits are of scores clipped to this from 0 and 1: half the step of binary32 below 1, so scores there stay apart."""
_TO_IDENTITY, _TO_POOLED = 1.0, 4.0
"""Precisions (one over variance) of the normal priors of the parameters: pooled fit, fit of one category."""
_COLDEST, _HOTTEST = 0.05, 20.0
_AT_ONCE = 1 << 23
"""Numbers of a block of resamples that are held at once."""

Probability = Annotated[float, Range(0.0, 1.0)]
Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Calibrator:
    """A frozen map from raw scores to probabilities.

    For each category it never falls as the score rises, over all images. The one exception is a temperature over whole
    distributions, which rescales the scores of an image together and keeps their order within the image.
    """

    method: Method
    whole: bool
    """temperature: softmax(ln p / T) over the categories of an image; else ln(p / (1 − p)) / T for each by itself."""
    categories: tuple[Name, ...]
    parameters: tuple[Numbers, ...]
    """By category. temperature: T; platt: a, c of a·logit(p) + c; beta: a, b, c of a·ln p − b·ln(1 − p) + c; isotonic:
    the scores at which the map bends, then as many probabilities; none: nothing."""
    censored: tuple[Probability, ...]
    """By category: the probability of a CENSORED score; no score above the floor gets less."""
    missing: tuple[Probability, ...]
    """By category: the probability where the score is MISSING, the smoothed share of tune images that show it."""
    floors: tuple[Score, ...]
    """By category: what stands in for CENSORED in a whole distribution."""
    images: Count
    """Labelled tune images that it was fitted on."""

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities, float64 in [0, 1], of the shape of `scores`: (n, K), or (n,) if there is one category.

        Raises ValueError for another number of columns and for scores that are neither in [0, 1] nor CENSORED (−inf)
        nor MISSING (NaN).
        """
        given = np.asarray(scores, dtype=np.float64)
        table = given[:, None] if given.ndim == 1 else given
        if table.ndim != 2 or table.shape[1] != len(self.categories):
            raise ValueError(f"scores {given.shape} must have one column for each of {len(self.categories)} categories")
        if not (np.isnan(table) | (table == CENSORED) | ((table >= 0) & (table <= 1))).all():
            raise ValueError("scores must lie in [0, 1], or be −inf (CENSORED) or NaN (MISSING)")
        if self.method == "temperature" and self.whole:
            return self._apply_whole(table).reshape(given.shape)
        found = np.empty(table.shape)
        for column, (parameters, censored, missing) in enumerate(
            zip(self.parameters, self.censored, self.missing, strict=True)
        ):
            raw = table[:, column]
            mapped = np.maximum(_map(self.method, parameters, np.where(raw >= 0, raw, 0.0)), censored)
            found[:, column] = np.where(np.isnan(raw), missing, np.where(raw == CENSORED, censored, mapped))
        return found.reshape(given.shape)

    def _apply_whole(self, table: np.ndarray) -> np.ndarray:
        from scipy.special import softmax

        filled = np.where(table == CENSORED, np.asarray(self.floors), table)
        there = ~np.isnan(table).any(axis=1)
        found = np.tile(np.asarray(self.missing), (len(table), 1))
        temperature = self.parameters[0][0]
        found[there] = softmax(np.log(np.maximum(filled[there], _EDGE)) / temperature, axis=1)
        return found

    def document(self) -> dict[str, Any]:
        """The calibrator as what `json` writes."""
        written: dict[str, Any] = to_document(self)
        return written

    @classmethod
    def from_document(cls, document: Any) -> Calibrator:
        """The calibrator that `document` describes; DocumentError names the place of the first fault."""
        return from_document(cls, document)


def fit_calibrator(labelled: Labelled, method: Method | Literal["auto"] = "auto") -> Calibrator:
    """A calibrator from the tune rows of `labelled` that have every score; images count one each.

    `auto` takes one temperature below 50 images per category (on average), platt below 1,000, beta from there; never
    isotonic, which merges scores and so destroys operating points. Platt and beta are fitted to all categories pooled,
    then to each with a normal prior around the pooled fit, so that a rare category borrows from the others; the pooled
    fit has a weak prior around the identity, so that parted classes give no infinite slope. Slopes are never negative.
    The temperature of a whole distribution minimises the log loss of each category against the rest, in which an image
    of no known category has its part. Sources: Guo et al. 2017 (temperature), Platt 1999, Kull et al. 2017 (beta),
    Zadrozny and Elkan 2002 (isotonic).

    Raises RunError if tune has no such row, or fewer than 10,000 for isotonic; ValueError for an unknown method.
    """
    tune = labelled.on("tune")
    tune = tune.rows(tune.usable)
    if not len(tune):
        raise RunError("calibration is fitted on tune, and no labelled image there has all its scores")
    chosen = choose_method(tune.truth) if method == "auto" else method
    if chosen not in METHODS:
        raise ValueError(f"no calibration method is called {method!r}; known: auto, {', '.join(METHODS)}")
    if chosen == "isotonic" and len(tune) < ISOTONIC_LABELS:
        raise RunError(
            f"isotonic calibration needs about {ISOTONIC_LABELS:,} labelled images on tune, not {len(tune):,}; "
            "take platt or beta"
        )
    names = tune.taxonomy.categories
    floors = tuple(float(tune.info.floors.get(name, 0.0)) for name in names)
    whole = chosen == "temperature" and tune.info.complete and tune.taxonomy.mode == "single-label"
    scores = tune.scores.astype(np.float64)
    parameters = _fit_whole(scores, tune.truth, floors) if whole else _fit(chosen, scores, tune.truth)
    return Calibrator(
        method=chosen,
        whole=whole,
        categories=names,
        parameters=parameters,
        censored=tuple(_censored(chosen, parameters, scores, tune.truth, floors)),
        missing=tuple(((tune.truth.sum(axis=0) + 0.5) / (len(tune) + 1)).tolist()),
        floors=floors,
        images=len(tune),
    )


def choose_method(truth: np.ndarray) -> Method:
    """What `auto` takes for (n, K) labels: by the average number of images that show a category."""
    shown = float(truth.sum(axis=0).mean())
    if shown < PLATT_FROM:
        return "temperature"
    return "platt" if shown < BETA_FROM else "beta"


def _fit(method: Method, scores: np.ndarray, truth: np.ndarray) -> tuple[Numbers, ...]:
    answered = scores >= 0
    columns = range(scores.shape[1])
    if method == "none":
        return tuple(() for _ in columns)
    if method == "isotonic":
        return tuple(_fit_steps(scores[answered[:, k], k], truth[answered[:, k], k]) for k in columns)
    identity = np.array({"temperature": [1.0], "platt": [1.0, 0.0], "beta": [1.0, 1.0, 0.0]}[method])
    pooled = _fit_logistic(_features(method, scores[answered]), truth[answered], identity, _TO_IDENTITY)
    if method == "temperature":
        return tuple((float(1 / pooled[0]),) for _ in columns)
    return tuple(
        tuple(
            _fit_logistic(
                _features(method, scores[answered[:, k], k]), truth[answered[:, k], k], pooled, _TO_POOLED
            ).tolist()
        )
        for k in columns
    )


def _features(method: Method, scores: np.ndarray) -> np.ndarray:
    """(n, d): what the parameters multiply; every column but the constant rises with the score."""
    inner = np.clip(scores, _EDGE, 1 - _EDGE)
    up, down = np.log(inner), -np.log1p(-inner)
    if method == "beta":
        return np.stack([up, down, np.ones_like(up)], axis=1)
    return np.stack([up + down, np.ones_like(up)], axis=1)[:, : 1 if method == "temperature" else 2]


def _fit_logistic(features: np.ndarray, truth: np.ndarray, centre: np.ndarray, precision: float) -> np.ndarray:
    """The parameters (d,) of greatest posterior probability under a normal prior around `centre`; slopes ≥ 0."""
    from scipy.optimize import minimize
    from scipy.special import expit

    shown = truth.astype(np.float64)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logits, away = features @ parameters, parameters - centre
        value = (np.logaddexp(0, logits) - shown * logits).sum() + precision / 2 * (away**2).sum()
        slope = features.T @ (expit(logits) - shown) + precision * away
        return float(value) / (len(shown) + 1), slope / (len(shown) + 1)

    ranges = {1: [(1 / _HOTTEST, 1 / _COLDEST)], 2: [(0, None), (None, None)], 3: [(0, None), (0, None), (None, None)]}
    found = minimize(
        loss,
        centre,
        jac=True,
        method="L-BFGS-B",
        bounds=ranges[features.shape[1]],
        options={"ftol": 1e-13, "gtol": 1e-8, "maxiter": 500},
    )
    return np.asarray(found.x)


def _fit_steps(scores: np.ndarray, truth: np.ndarray) -> Numbers:
    from sklearn.isotonic import IsotonicRegression

    if not len(scores):
        return (0.0, 1.0, 0.0, 1.0)
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(scores, truth.astype(np.float64))
    return (*map(float, fitted.X_thresholds_), *map(float, fitted.y_thresholds_))


def _fit_whole(scores: np.ndarray, truth: np.ndarray, floors: Sequence[float]) -> tuple[Numbers, ...]:
    from scipy.optimize import minimize_scalar
    from scipy.special import softmax

    logs = np.log(np.maximum(np.where(scores == CENSORED, np.asarray(floors), scores), _EDGE))

    def loss(log_temperature: float) -> float:
        return log_loss(softmax(logs / math.exp(log_temperature), axis=1).ravel(), truth.ravel())

    bounds = (math.log(_COLDEST), math.log(_HOTTEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return tuple((math.exp(found.x),) for _ in range(scores.shape[1]))


def _map(method: Method, parameters: Numbers, scores: np.ndarray) -> np.ndarray:
    """The probabilities of scores (n,) in [0, 1]."""
    from scipy.special import expit

    if method == "none":
        return scores
    if method == "isotonic":
        half = len(parameters) // 2
        return _interpolate(scores, np.array(parameters[:half]), np.array(parameters[half:]))
    factors = [1 / parameters[0]] if method == "temperature" else parameters
    return np.asarray(expit(_features(method, scores) @ np.asarray(factors)))


def _interpolate(scores: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """As `numpy.interp`, kept between the neighbouring knots, so that rounding never makes it fall."""
    right = np.clip(np.searchsorted(x, scores), 1, len(x) - 1) if len(x) > 1 else np.zeros(len(scores), dtype=int)
    return np.asarray(np.clip(np.interp(scores, x, y), y[np.maximum(right - 1, 0)], y[right]))


def _censored(
    method: Method, parameters: tuple[Numbers, ...], scores: np.ndarray, truth: np.ndarray, floors: Sequence[float]
) -> Iterator[float]:
    """By category: the share of CENSORED images that show it, one image's worth drawn to the floor's probability.

    It is never above the probability of the lowest score that tune has.
    """
    for column, floor in enumerate(floors):
        if method == "none":
            yield 0.0
            continue
        raw, shown = scores[:, column], truth[:, column]
        lowest = raw[raw >= 0].min(initial=1.0)
        at_floor, at_lowest = _map(method, parameters[column], np.array([floor, max(floor, lowest)]))
        cut = raw == CENSORED
        yield min(float((shown[cut].sum() + at_floor) / (cut.sum() + 1)), float(at_lowest))


@dataclass(frozen=True)
class Estimate:
    """A measure and its basic bootstrap interval.

    Resampling adds to an error of calibration what sampling added before; the basic interval mirrors that at the value
    and so takes it off. Where little error is left, the whole interval may lie below the value.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Null:
    """What a measure of calibration shows if every probability is exactly right and only labels vary."""

    mean: float
    high: float
    """The 95 % quantile."""


NOTHING, NO_NULL = Estimate(math.nan, math.nan, math.nan), Null(math.nan, math.nan)


def brier_score(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """Mean of (p − y)²; NaN without images. Raises ValueError as `smooth_error` does."""
    p, y = _checked(probabilities, outcomes)
    return float(((p - y) ** 2).mean()) if len(p) else math.nan


def log_loss(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """Mean of −ln of the probability of what happened, clipped to [1e-6, 1 − 1e-6]; NaN without images."""
    p, y = _checked(probabilities, outcomes)
    return float(_log_losses(p, y).mean()) if len(p) else math.nan


def binned_error(
    probabilities: np.ndarray, outcomes: np.ndarray, bins: int = BINS, edges: Literal["mass", "width"] = "mass"
) -> float:
    """ECE: Σ over bins of |Σ (y − p)| / n; NaN without images. Raises ValueError as `smooth_error` does.

    mass: bins of equal numbers of images, equal probabilities never parted; width: bins of equal width on [0, 1].
    Both are biased upwards: read them beside `null_errors`.
    """
    p, y = _checked(probabilities, outcomes)
    place = _bins_of(p, bins, edges)
    return float(np.abs(np.bincount(place, y - p, bins)).sum() / len(p)) if len(p) else math.nan


def classwise_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = BINS) -> float:
    """The mean over the K columns of the equal-mass `binned_error`; both arrays are (n, K)."""
    p, y = np.asarray(probabilities), np.asarray(truth)
    if p.ndim != 2 or p.shape != y.shape:
        raise ValueError(f"probabilities {p.shape} and truth {y.shape} must have one shape (images, categories)")
    return float(np.mean([binned_error(p[:, column], y[:, column], bins) for column in range(p.shape[1])]))


def smooth_error(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """The smooth calibration error, smECE (arXiv 2309.12236), by the conventions of its authors' package relplot 1.0.3.

    Residuals y − p and images are smoothed alike by a Gaussian that is reflected at 0 and 1 and cut at ±0.5; the error
    is Σ |smoothed residuals| / Σ smoothed images over an even mesh with both ends, of 200 points or ten to a bandwidth
    if that is more. The bandwidth is the least multiple of 1/1024, from 2/1024 on, that the error does not exceed.
    Nodes 0.001 apart carry what lies between them, shared linearly; reflection is about the first and the last node, so
    what these carry counts half: an image at exactly 0 or 1 has half the weight of one further in. The two packages
    agree to about 1e-5.

    `probabilities` (n,) in [0, 1], `outcomes` (n,) bool or 0 and 1; NaN without images. Raises ValueError for other
    values or shapes.
    """
    p, y = _checked(probabilities, outcomes)
    if not len(p):
        return math.nan
    sums = _sums(p, BINS)[:_NODES]
    return float(_smooth((sums @ (y - p))[None], (sums @ np.ones(len(p)))[None])[0])


def rank_area(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """AUROC: the chance that an image with the outcome ranks above one without, ties half; NaN if either is absent."""
    p, y = _checked(probabilities, outcomes)
    return float(_areas(p, y, np.ones((len(p), 1)))[0])


@dataclass(frozen=True)
class NullErrors:
    """The measures of calibration where every probability is right."""

    ece: Null
    ece_width: Null
    smece: Null


def null_errors(probabilities: np.ndarray, bins: int = BINS, resamples: int = 200, seed: int = 0) -> NullErrors:
    """Draw labels from the probabilities (n,) themselves, `resamples` times, and measure them."""
    p, _ = _checked(probabilities, np.zeros(len(probabilities)))
    if not len(p) or not resamples:
        return NullErrors(NO_NULL, NO_NULL, NO_NULL)
    random = np.random.default_rng(seed)
    sums = _sums(p, bins)
    right, images = (sums @ p)[:, None], sums[:_NODES] @ np.ones(len(p))
    found = []
    for size in _blocks(len(p), resamples):
        drawn = random.random((len(p), size), dtype=np.float32) < p[:, None]
        found.append(_errors((sums @ drawn.astype(np.float64) - right).T, bins, np.tile(images, (size, 1))))
    return NullErrors(*(Null(float(row.mean()), float(np.quantile(row, 0.95))) for row in np.concatenate(found).T))


@dataclass(frozen=True, eq=False)
class Reliability(Result):
    """How one series of probabilities fits one kind of outcome."""

    category: str
    of: Of
    """top label: the one highest category against whether it is the labelled one."""
    scores: str
    """`raw`, or the method that calibrated them."""
    images: int
    """Pairs of probability and outcome; all categories: one pair for each image and category."""
    positives: int
    brier: Estimate
    log_loss: Estimate
    """Probabilities clipped to [1e-6, 1 − 1e-6]."""
    auroc: Estimate
    """Calibration alone can be had without any skill; this is the skill."""
    ece: Estimate
    """Equal-mass bins."""
    ece_width: Estimate
    """Bins of equal width."""
    smece: Estimate
    null: NullErrors
    bin_images: np.ndarray
    """(bins,) int, equal-mass; empty bins are left out."""
    bin_positives: np.ndarray
    bin_means: np.ndarray
    """(bins,) float64: the mean probability."""
    strip: np.ndarray
    """(25,) int: images by probability, bins of equal width."""

    def frame(self) -> pd.DataFrame:
        """One row."""
        row: dict[str, Any] = {
            name: getattr(self, name) for name in ("category", "of", "scores", "images", "positives")
        }
        for name in ("brier", "log_loss", "auroc", "ece", "ece_width", "smece"):
            estimate: Estimate = getattr(self, name)
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            if name in ("ece", "ece_width", "smece"):
                null = asdict(getattr(self.null, name))
                row |= {f"{name}_null": null["mean"], f"{name}_null_high": null["high"]}
        return pd.DataFrame([row])


@dataclass(frozen=True, eq=False)
class CalibrationMeasures(Result):
    """Reliability by category and overall, of raw scores and, with a calibrator, of its probabilities."""

    raw: tuple[Reliability, ...]
    """One per category, then the overall one."""
    calibrated: tuple[Reliability, ...]
    """The same again; empty without a calibrator."""
    left_out: int
    """Images without an answer or with a MISSING score."""
    confidence: float
    measured_on: str

    @property
    def overall(self) -> Reliability:
        """Of the raw scores: top label (single-label) or all categories (multi-label)."""
        return self.raw[-1]

    def frame(self) -> pd.DataFrame:
        """One row per category and one overall, for each series; `classwise_ece` stands in the overall rows."""
        parts = []
        for series in filter(None, (self.raw, self.calibrated)):
            part = pd.concat([row.frame() for row in series], ignore_index=True)
            classwise = float(part["ece"][:-1].mean())
            parts.append(part.assign(classwise_ece=[math.nan] * (len(part) - 1) + [classwise]))
        return pd.concat(parts, ignore_index=True).assign(measured_on=self.measured_on)

    def plot(self, ax: Axes | None = None, category: str | None = None) -> Axes:
        """Reliability diagram of one category, or overall: share of images by mean probability, in equal-mass bins.

        Exact 95 % interval on each share, pointwise; below, where the probabilities lie. Raises KeyError for an unknown
        category.
        """
        ax = ax or figures.new_axes(4.8, 4.9)
        theme = figures.theme_of(ax)
        place = self._place(category)
        first = self.raw[place]
        ax.plot([0, 1], [0, 1], color=theme.soft, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        handles, labels = [], []
        looks = [("o", theme.first, theme.first, 0.0), ("s", theme.second, theme.ground, 0.5)]
        for series, look in zip((self.raw, self.calibrated), looks, strict=True):
            if series and series[place].images:
                handles.append(_draw_reliability(ax, series[place], *look, halves=2 if self.calibrated else 1))
                labels.append(_words(series[place]))
        if not handles:
            ax.text(0.5, 0.5, "no image with scores", ha="center", fontsize=figures.TEXT, color=theme.soft)
        named = figures.printable(first.category) if category is not None else first.of
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.19, 1.02), xlabel="score, read as a probability")
        ax.set_ylabel("share that is right" if first.of == "top label" else "share that shows the category")
        ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
        figures.dress(ax, f"Reliability, {named}", self.measured_on)
        figures.add_legend(ax, handles, labels, loc="upper left", handletextpad=0.2) if handles else None
        return ax

    def _place(self, category: str | None) -> int:
        names = [row.category for row in self.raw[:-1]]
        if category is not None and category not in names:
            raise KeyError(f"no category is called {category!r}; there are {', '.join(names)}")
        return -1 if category is None else names.index(category)


def measure_calibration(
    labelled: Labelled,
    calibrator: Calibrator | None = None,
    *,
    bins: int = BINS,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> CalibrationMeasures:
    """Measure raw scores and, with a calibrator, its probabilities on the rows of `labelled`, whatever their split.

    Images count one each. Overall, single-label: the raw scores' one highest category (images without one are left out
    there); multi-label: all categories together. Bootstrap intervals resample groups, the same ones for every measure.
    Raises ValueError if the calibrator is of other categories or `bins` < 1.
    """
    names = labelled.taxonomy.categories
    if calibrator is not None and calibrator.categories != names:
        raise ValueError(f"the calibrator is for {', '.join(calibrator.categories)}, the run for {', '.join(names)}")
    if bins < 1:
        raise ValueError(f"there must be at least one bin, not {bins}")
    part = labelled.rows(labelled.usable)
    groups = pd.factorize(part.frame["group"])[0]
    sampling = _Sampling(bins, resamples, confidence, seed)

    def series(probabilities: np.ndarray, word: str) -> tuple[Reliability, ...]:
        found = [
            _measure(probabilities[:, column], part.truth[:, column], groups, sampling, (name, "category", word))
            for column, name in enumerate(names)
        ]
        p, truth, rows, of = _overall(part, probabilities)
        return (*found, _measure(p, truth, groups[rows], sampling, ("", of, word)))

    raw = np.where(part.scores == CENSORED, 0.0, part.scores.astype(np.float64))
    return CalibrationMeasures(
        raw=series(raw, "raw"),
        calibrated=() if calibrator is None else series(calibrator.apply(part.scores), calibrator.method),
        left_out=len(labelled) - len(part),
        confidence=confidence,
        measured_on=describe_splits(labelled.splits),
    )


def _overall(part: Labelled, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, Of]:
    """(probabilities, outcomes, the row of each, what they are of)."""
    if part.taxonomy.mode == "multi-label":
        rows = np.repeat(np.arange(len(part)), probabilities.shape[1])
        return probabilities.ravel(), part.truth.ravel(), rows, "all categories"
    top = part.top()
    rows = np.flatnonzero(top >= 0)
    return probabilities[rows, top[rows]], part.truth[rows, top[rows]], rows, "top label"


@dataclass(frozen=True)
class _Sampling:
    bins: int
    resamples: int
    confidence: float
    seed: int


def _measure(
    p: np.ndarray, truth: np.ndarray, groups: np.ndarray, sampling: _Sampling, named: tuple[str, Of, str]
) -> Reliability:
    bins, y = sampling.bins, truth.astype(np.float64)
    place = _bins_of(p, bins, "mass")
    counts = np.bincount(place, minlength=bins)
    filled = counts > 0
    brier, loss, auroc, ece, ece_width, smece = _estimate(p, y, groups, sampling) if len(p) else [NOTHING] * 6
    category, of, scores = named
    return Reliability(
        category=category,
        of=of,
        scores=scores,
        images=len(p),
        positives=int(truth.sum()),
        brier=brier,
        log_loss=loss,
        auroc=auroc,
        ece=ece,
        ece_width=ece_width,
        smece=smece,
        null=null_errors(p, bins, sampling.resamples, sampling.seed),
        bin_images=counts[filled],
        bin_positives=np.bincount(place, y, bins)[filled].astype(np.int64),
        bin_means=np.bincount(place, p, bins)[filled] / counts[filled],
        strip=np.histogram(p, _STRIP, (0, 1))[0],
    )


def _estimate(p: np.ndarray, y: np.ndarray, groups: np.ndarray, sampling: _Sampling) -> list[Estimate]:
    """Brier score, log loss, AUROC and the three errors."""
    from scipy.sparse import csr_array, vstack

    losses = csr_array(np.stack([(p - y) ** 2, _log_losses(p, y)]))
    places = _sums(p, sampling.bins)
    rows = vstack([places.multiply(y - p), losses, places[:_NODES]], format="csr")

    def measured(counts: np.ndarray) -> np.ndarray:
        sums, lost, images = np.split((rows @ counts).T, [-_NODES - 2, -_NODES], axis=1)
        means = lost / counts.sum(axis=0)[:, None]
        return np.column_stack([means, _areas(p, y, counts), _errors(sums, sampling.bins, images)])

    value = measured(np.ones((len(p), 1)))[0]
    if not sampling.resamples:
        return [Estimate(float(one), math.nan, math.nan) for one in value]
    random = np.random.default_rng(sampling.seed)
    sizes = _blocks(len(p), sampling.resamples)
    drawn = np.concatenate([measured(_draw_groups(groups, size, random)) for size in sizes])
    most = (1, math.inf, 1, 1, 1, 1)
    return [_mirrored(float(value[at]), drawn[:, at], sampling.confidence, most[at]) for at in range(len(most))]


def _mirrored(value: float, drawn: np.ndarray, confidence: float, most: float) -> Estimate:
    there = drawn[~np.isnan(drawn)]  # AUROC: a resample may lack one side
    if not len(there):
        return Estimate(value, math.nan, math.nan)
    low, high = np.quantile(there, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(np.clip(2 * value - high, 0, most)), float(np.clip(2 * value - low, 0, most)))


def _draw_groups(groups: np.ndarray, resamples: int, random: np.random.Generator) -> np.ndarray:
    """(n, resamples): how often each row counts when as many groups are drawn, with replacement, as there are."""
    codes, size = np.unique(groups, return_inverse=True)
    drawn = random.integers(0, len(codes), (resamples, len(codes))) + np.arange(resamples)[:, None] * len(codes)
    counts = np.bincount(drawn.ravel(), minlength=resamples * len(codes)).reshape(resamples, len(codes))
    return np.ascontiguousarray(counts.T[size], dtype=np.float64)


def _blocks(images: int, resamples: int) -> Iterator[int]:
    """Sizes of blocks of resamples that fit the memory set aside for them."""
    most = max(1, _AT_ONCE // max(images, 1))
    for done in range(0, resamples, most):
        yield min(most, resamples - done)


def _sums(p: np.ndarray, bins: int) -> Any:
    """Sparse (1001 + bins + bins, n): adds up rows by node (shared between two), equal-mass and equal-width bin."""
    from scipy.sparse import csr_array

    rows = np.arange(len(p))
    at = p * (_NODES - 1)
    left = np.minimum(at.astype(np.int64), _NODES - 2)
    places = [left, left + 1, _NODES + _bins_of(p, bins, "mass"), _NODES + bins + _bins_of(p, bins, "width")]
    whole = np.ones(len(p))
    values = [1 - (at - left), at - left, whole, whole]
    shape = (_NODES + 2 * bins, len(p))
    return csr_array((np.concatenate(values), (np.concatenate(places), np.tile(rows, 4))), shape=shape)


def _errors(sums: np.ndarray, bins: int, images: np.ndarray) -> np.ndarray:
    """(r, 3): the equal-mass, equal-width and smooth error, of residuals and images (r, 1001) as `_sums` adds them."""
    sides = np.abs(sums[:, _NODES:]).reshape(len(sums), 2, bins).sum(axis=2) / images.sum(axis=1)[:, None]
    return np.column_stack([sides, _smooth(sums[:, :_NODES], images)])


def _smooth(residuals: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(r,): smECE of residuals and images by node, both (r, 1001); see `smooth_error`."""
    from scipy.fft import dct

    waves, loads = dct(residuals, type=1), dct(images, type=1)
    low, high = np.ones(len(waves), dtype=np.int64), np.full(len(waves), _WIDTHS)
    for _ in range(_WIDTHS.bit_length() - 1):
        middle = np.maximum((low + high) // 2, 2)
        wide = _smoothed(waves, loads, middle) <= middle / _WIDTHS
        low, high = np.where(wide, low, middle), np.where(wide, middle, high)
    return _smoothed(waves, loads, high)


def _smoothed(waves: np.ndarray, loads: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """(r,): the error at bandwidths `widths` / 1024, of residuals and images as cosines (r, 1001)."""
    from scipy.fft import idct

    smooth = idct(np.stack([waves, loads]) * _kernels()[widths], type=1)
    last, points = _NODES - 1, np.maximum(_MESH, np.round(10 * _WIDTHS / widths))
    at = np.linspace(0, last, _MESH)
    left = np.minimum(at.astype(np.int64), last - 1)
    coarse = np.abs(smooth[..., left] * (left + 1 - at) + smooth[..., left + 1] * (at - left)).sum(axis=2)
    # A finer mesh: as many steps as its points have between them, by the trapezoid rule, and half of each end.
    heights = np.abs(smooth)
    ends = (heights[..., 0] + heights[..., -1]) / 2
    fine = (heights.sum(axis=2) - ends) * (points - 1) / last + ends
    error, images = np.where(points == _MESH, coarse, fine)
    return np.asarray(error / images)


@lru_cache(maxsize=1)
def _kernels() -> np.ndarray:
    """(1025, 1001): for each bandwidth the cosine transform of the Gaussian that is cut at ±0.5; none for 0."""
    from scipy.fft import dct

    away = np.arange(_NODES) / (_NODES - 1)
    widths = np.arange(1, _WIDTHS + 1)[:, None] / _WIDTHS
    kernels = dct((away <= 0.5) * np.exp(-((away / widths) ** 2) / 2) / widths, type=1)
    return np.concatenate([np.zeros((1, _NODES)), kernels])


def _areas(p: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(r,): AUROC with each row counted as often as `counts` (n, r) says; NaN where one side is absent."""
    if not len(p):
        return np.full(counts.shape[1], np.nan)
    from scipy.sparse import csr_array

    levels, place = np.unique(p, return_inverse=True)
    at, shape = (place, np.arange(len(p))), (len(levels), len(p))
    positives, negatives = csr_array((y, at), shape=shape) @ counts, csr_array((1 - y, at), shape=shape) @ counts
    won = (positives * (np.cumsum(negatives, axis=0) - negatives / 2)).sum(axis=0)
    pairs = positives.sum(axis=0) * negatives.sum(axis=0)
    return share(won, pairs)


def _bins_of(p: np.ndarray, bins: int, edges: Literal["mass", "width"]) -> np.ndarray:
    if edges == "width":
        return np.minimum((p * bins).astype(np.int64), bins - 1)
    return np.searchsorted(np.sort(p), p) * bins // max(len(p), 1)


def _log_losses(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    inner = np.clip(p, LOG_CLIP, 1 - LOG_CLIP)
    return np.asarray(-np.log(np.where(y > 0, inner, 1 - inner)))


def _checked(probabilities: np.ndarray, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape:
        raise ValueError(f"probabilities {p.shape} and outcomes {y.shape} must have one shape (images,)")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities must lie in [0, 1]; decide first what CENSORED and MISSING mean")
    if not ((y == 0) | (y == 1)).all():
        raise ValueError("outcomes must be true or false")
    return p, y


def _draw_reliability(
    ax: Axes, shown: Reliability, marker: str, colour: str, face: str, shift: float, *, halves: int
) -> Any:
    low, high = clopper_pearson(shown.bin_positives, shown.bin_images)
    ax.vlines(shown.bin_means, low, high, color=colour, linewidth=1.2)
    edges = np.linspace(0, 1, _STRIP + 1)
    heights = 0.15 * shown.strip / shown.strip.max()
    width = 0.9 * (edges[1] - edges[0]) / halves
    style: dict[str, Any] = {"facecolor": face, "edgecolor": colour, "linewidth": 0.7}
    ax.bar(edges[:-1] + shift / _STRIP, heights, width, bottom=-0.18, align="edge", **style)
    rates = shown.bin_positives / shown.bin_images
    return ax.scatter(shown.bin_means, rates, marker=marker, s=28, color=colour, facecolor=face, zorder=3)


def _words(shown: Reliability) -> str:
    return f"{shown.scores}: ECE {shown.ece.value:.3f} (null {shown.null.ece.mean:.3f})"
