"""Scores as probabilities: maps fitted on *tune*; how far off they are is measured in `evaluation.reliability`.

Calibration serves costs, forecasts and the comparison of approaches. It never moves a decision or a certificate: those
are made on raw scores, so no threshold of a policy rests on it.

A fitted map gives all CENSORED scores of a category one probability, the smoothed share of them that show it. MISSING
becomes the category's share on tune. No map answers NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np

from workbench.documents import Range, from_document, to_document
from workbench.errors import RunError
from workbench.evaluation.calibration_error import log_loss
from workbench.evaluation.labelled import Labelled
from workbench.records import CENSORED, Count, Name, Score

Method = Literal["none", "temperature", "platt", "beta", "isotonic"]
METHODS: tuple[Method, ...] = get_args(Method)

ISOTONIC_LABELS = 10_000
"""Isotonic maps need about so many labelled images; fewer give steps that only follow the sample."""
PLATT_FROM, BETA_FROM = 50, 1_000
"""`auto`: images that show a category, on average over the categories."""

_EDGE = 2.0**-25
"""Logits are of scores clipped to this from 0 and 1: half the step of binary32 below 1, so scores there stay apart."""
_TO_IDENTITY, _TO_POOLED = 1.0, 4.0
"""Precisions (one over variance) of the normal priors of the parameters: pooled fit, fit of one category."""
_COLDEST, _HOTTEST = 0.05, 20.0

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
