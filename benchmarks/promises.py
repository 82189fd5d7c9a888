"""Do certified thresholds keep their promise, and what do they cost? Measured on populations whose truth is known.

Every population is a finite table from which images are drawn with replacement, so the true precision and recall at any
threshold are counted and not estimated. A certificate is *violated* where the true rate at its threshold lies below the
goal; at confidence 1 − δ that may happen in a share δ of all draws. A cell (population, images, goal, δ, method) fails
if P[Bin(draws, δ) >= violations seen] < 0.001 / cells: over all cells together a valid method fails in one run of a
thousand at most. The verdict is on our methods alone; the others stand beside them, on the same draws.

Populations: the whole table of the demonstration (`reports/demo/fashion`, both runs, each category where it is the top
one, −inf elsewhere), and made ones, some of them the worst there are. In parts: precision from plain draws, recall,
enriched sets at the prevalence of production, bursts of near-copies, and draws with design weights.

Peers: *naive*, the lowest threshold whose observed precision reaches the goal with 10 images or more, and the modes of
MAPIE's `BinaryClassificationController`. MAPIE counts threshold by threshold, which takes a second per draw; here a
subclass hands it the same counts at once, and its answers are compared with those of the plain class on the way.

Two planted mutants, which count one success more or one image less, have to be caught by the same test.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workbench.evaluation.certify import DEFAULT_GRID, Refusal, certify_precision, certify_recall
from workbench.evaluation.prevalence import Mix

ROOT = Path(__file__).parents[1]
DRAWS, QUICK, CHUNK = 2000, 200, 200
SIGNIFICANCE = 0.001
ROWS = 200_000
GOALS, DELTAS = (0.8, 0.9, 0.95), (0.05, 0.1)
MAIN = (0.9, 0.1, 2500)
"""Goal, δ and images of the cells in which MAPIE sees the first 1,000 draws; in the others it sees the first 200."""
MAPIE_CHUNKS = 5
SHARE = 0.028
"""Of the category in production, where the labelled set is enriched."""
LEAST_SEEN = 10
BETTER, WORSE = 0.03, 0.01

FIXED, DEFAULT = "ours, fixed grid", "ours, default"
NAIVE, REWEIGHTED = "naive", "re-weighted point estimate"
GIVEN, IGNORED = "given", "ignored"


@dataclass(frozen=True, eq=False)
class Population:
    """A table from which images are drawn with replacement."""

    name: str
    scores: np.ndarray
    """(N,) float32, −inf where the tier cannot fire."""
    truth: np.ndarray
    """(N,) bool."""
    weights: np.ndarray | None = None
    """(N,) how often production sees each row; all alike if None."""
    edges: tuple[float, ...] = ()
    """Rising borders of the score bands from which weighted images are drawn."""
    ascending: np.ndarray = field(init=False)
    above: np.ndarray = field(init=False)
    """(N + 1,) mass from each place of `ascending` upwards; `right`: of that, mass that shows the category."""
    right: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        order = np.argsort(self.scores, kind="stable")
        mass = np.ones(len(order)) if self.weights is None else self.weights[order]
        object.__setattr__(self, "ascending", self.scores[order])
        object.__setattr__(self, "above", _from_top(mass))
        object.__setattr__(self, "right", _from_top(mass * self.truth[order]))

    def masses(self, threshold: float) -> tuple[float, float]:
        """(at or above the threshold, of that the category)."""
        place = int(np.searchsorted(self.ascending, np.float32(threshold)))
        return float(self.above[place]), float(self.right[place])

    def keeps_precision(self, threshold: float, at_least: float) -> bool:
        above, right = self.masses(threshold)
        return right >= at_least * above - 1e-9 * self.above[0]

    def recall(self, threshold: float) -> float:
        return self.masses(threshold)[1] / float(self.right[0])

    def oracle(self, at_least: float) -> float:
        """Recall at the lowest threshold whose true precision reaches the goal; 0 if none does."""
        places = np.flatnonzero(self.ascending > np.append(np.float32(-np.inf), self.ascending[:-1]))
        good = places[self.right[places] >= at_least * self.above[places]]
        return float(self.right[good[0]] / self.right[0]) if len(good) else 0.0


def _from_top(mass: np.ndarray) -> np.ndarray:
    return np.append(np.cumsum(mass[::-1])[::-1], 0.0)


def spread(rate: np.ndarray) -> np.ndarray:
    """Labels, from the highest score down, of which never more are right than `rate` summed so far."""
    return np.diff(np.floor(np.cumsum(rate) + 1e-9), prepend=0.0) > 0.5


def from_curve(name: str, scores: np.ndarray, rate: Callable[[np.ndarray], np.ndarray]) -> Population:
    falling = np.sort(scores.astype(np.float32))[::-1]
    return Population(name, falling, spread(np.clip(rate(falling.astype(np.float64)), 0, 1)))


def least_favourable(at_least: float, share: float) -> Population:
    """At the grid's first point precision is just below the goal, and nothing below it is right."""
    top = round(ROWS * share)
    scores = np.concatenate([np.linspace(0.9995, 0.9905, top), np.linspace(0.98, 0.001, ROWS - top)])
    rate = np.where(np.arange(ROWS) < top, at_least - 1.5 / top, 0.0)
    return Population(f"least favourable {share:.0%}", scores.astype(np.float32), spread(rate))


def oscillating(at_least: float) -> Population:
    """Precision swings around the goal, evenly in the logarithm of the number of images above."""
    place = np.log(np.arange(1, ROWS + 1))
    rate = at_least + 0.015 * (np.sin(3 * place) + 3 * np.cos(3 * place))
    scores = np.linspace(0.99999, 0.00001, ROWS).astype(np.float32) ** np.float32(0.3)
    return Population("oscillating around the goal", scores, spread(np.clip(rate, 0, 1)))


def noise_at_the_top(score: np.ndarray) -> np.ndarray:
    return np.where(score >= 0.985, 0.75, np.where(score >= 0.6, 0.99, score / 2))


@lru_cache(maxsize=8)
def made_populations(at_least: float) -> dict[str, Population]:
    from scipy.stats import beta

    ranks = (np.arange(ROWS) + 0.5) / ROWS
    two_peaks, high = beta.ppf(ranks, 0.6, 0.6), beta.ppf(ranks, 1.2, 0.5)
    steps = np.rint(20 * high) / 20
    rare = np.where(ranks < 0.96, -np.inf, beta.ppf(np.clip((ranks - 0.96) / 0.04, 0, 1), 2, 0.6))
    found = [
        least_favourable(at_least, 0.05),
        least_favourable(at_least, 0.2),
        from_curve("flat, just below the goal", ranks, lambda s: np.full(len(s), at_least - 1e-5)),
        oscillating(at_least),
        from_curve("calibrated", two_peaks, lambda s: s),
        from_curve("over-confident", high, lambda s: 1 / (1 + (1 / np.clip(s, 1e-9, 1 - 1e-9) - 1) ** 0.6)),
        from_curve("noise at the very top", two_peaks, noise_at_the_top),
        from_curve("never above 0.95", 0.95 * two_peaks, lambda s: 0.5 + 0.5 * (s / 0.95) ** 2),
        from_curve("steps of 0.05", steps, lambda s: 0.995 * s**0.5),
        from_curve("good", two_peaks, lambda s: np.where(s >= 0.5, 0.99, 0.02)),
        from_curve("rare", rare, lambda s: np.where(np.isfinite(s), np.clip(0.6 + 0.4 * s, 0, 1), 0.01)),
    ]
    return {population.name: population for population in found}


@lru_cache(maxsize=1)
def demo_populations() -> dict[str, Population]:
    """Of both runs, each category: its score where it is the top one, −inf elsewhere."""
    from workbench.dataset.opening import open_dataset
    from workbench.evaluation.labelled import join
    from workbench.predictions import read_predictions

    opened = open_dataset("fashion", datasets=ROOT / "datasets", progress=False)
    found = {}
    for approach in ("local-trained", "local-cnn"):
        path = ROOT / "reports" / "demo" / "fashion" / f"{approach}.parquet"
        table = read_predictions(path) if path.exists() else _classify(opened, approach)
        labelled = join(table, opened.dataset)
        top = labelled.top()
        for column, category in enumerate(labelled.taxonomy.categories):
            scores = np.where(top == column, labelled.usable_scores()[:, column], np.float32(-np.inf))
            name = f"{approach}: {category}"
            found[name] = Population(name, scores, labelled.truth[:, column])
    return found


def _classify(opened: Any, approach: str) -> Any:
    from workbench.approaches.base import build_approach, learner_class
    from workbench.cli.classify import setting_for
    from workbench.cli.console import answers_path
    from workbench.runs.cache import AnswerCache
    from workbench.runs.runner import classify

    setting = setting_for(opened, approach)
    if approach == "local-trained" and not learner_class(approach).artefact(opened.dataset, setting).exists():
        learner_class(approach).fit(opened.dataset, setting, progress=False)
    with AnswerCache(answers_path()) as cache:
        return classify(opened.dataset, build_approach(approach, opened.dataset, setting), cache, progress=False)


def population_of(name: str, at_least: float) -> Population:
    return demo_populations()[name] if ": " in name else made_populations(at_least)[name]


# The enriched sets: tables of scores per kind of image.


@dataclass(frozen=True, eq=False)
class Kinds:
    """What production consists of, kind by kind."""

    positives: np.ndarray
    """(P,) float32 scores of the category's own images."""
    others: tuple[np.ndarray, ...]
    """Scores of each other kind."""
    shares: np.ndarray
    """(m,) of all arriving images; together 1 − SHARE."""

    def population(self, name: str) -> Population:
        """All kinds in one table, weighted as production sees them."""
        tables = [self.positives, *self.others]
        weights = [np.full(len(t), w / len(t)) for t, w in zip(tables, [SHARE, *self.shares], strict=True)]
        truth = np.arange(sum(map(len, tables))) < len(self.positives)
        return Population(name, np.concatenate(tables), truth, np.concatenate(weights) * ROWS)


def logit_normal(mean: float, spread_: float, rows: int = ROWS) -> np.ndarray:
    from scipy.special import expit, ndtri

    return expit(mean + spread_ * ndtri((np.arange(rows) + 0.5) / rows)).astype(np.float32)


def at_the_border(at_least: float, hits: float, shares: Sequence[float], tilt: Sequence[float]) -> Kinds:
    """Precision just below the goal at every grid point; kind j has `tilt[j]` of the mean false-positive rate."""
    found = np.where(np.arange(1000) < round(1000 * hits), 0.995, 0.001).astype(np.float32)
    allowed = SHARE * hits * (1 - at_least) / (at_least * np.dot(shares, tilt))
    others = [np.where(np.arange(ROWS) < np.ceil(ROWS * allowed * t + 1), 0.995, 0.001) for t in tilt]
    return Kinds(found, tuple(other.astype(np.float32) for other in others), np.array(shares))


SIX_SHARES = np.array([0.45, 0.25, 0.13, 0.09, 0.05, 0.03]) * (1 - SHARE)


@lru_cache(maxsize=8)
def made_kinds(at_least: float) -> dict[str, tuple[Kinds, Population]]:
    rest = np.array([1 - SHARE])
    six = tuple(logit_normal(mean, 1.8, ROWS // 4) for mean in (-5.5, -5.0, -4.5, -4.0, -3.0, -2.0))
    found = {
        "one kind": Kinds(logit_normal(3.0, 1.6), (logit_normal(-4.0, 2.0),), rest),
        "one kind, at the border": at_the_border(at_least, 0.9, rest, [1.0]),
        "six kinds": Kinds(logit_normal(3.0, 1.6), six, SIX_SHARES),
        "six kinds, at the border": at_the_border(at_least, 0.9, SIX_SHARES, [2.0, 0.1, 0.2, 0.5, 0.0, 0.0]),
    }
    return {name: (kinds, kinds.population(name)) for name, kinds in found.items()}


@lru_cache(maxsize=8)
def made_bands(at_least: float) -> dict[str, Population]:
    """For weighted draws: score bands of different precision, of which the better ones are drawn more often."""
    made = made_populations(at_least)
    top = ROWS // 5
    scores = np.concatenate([np.linspace(0.9995, 0.9905, top), np.linspace(0.98, 0.001, ROWS - top)])
    gap = min(0.04, 1 - at_least)
    halves = np.where(np.arange(top) < top // 2, at_least + gap, at_least - gap - 4 / top)
    border = spread(np.concatenate([halves, np.zeros(ROWS - top)]))
    found = [
        Population("two halves, just below the goal", scores.astype(np.float32), border, edges=(0.99, 0.995)),
        *(
            Population(name, made[name].scores, made[name].truth, edges=(0.5, 0.9))
            for name in ("calibrated", "over-confident")
        ),
    ]
    return {population.name: population for population in found}


# The peers.


def naive_threshold(scores: np.ndarray, right: np.ndarray, total: np.ndarray, at_least: float) -> float | None:
    """The lowest of the falling `scores` at which right ≥ at_least · total; `right` and `total` count so far."""
    last = np.append(scores[:-1] != scores[1:], True) & np.isfinite(scores)
    good = np.flatnonzero(last & (right >= at_least * total - 1e-9) & (np.arange(1, len(scores) + 1) >= LEAST_SEEN))
    return float(scores[good[-1]]) if len(good) else None


def naive(scores: np.ndarray, truth: np.ndarray, at_least: float) -> float | None:
    order = np.argsort(-scores)
    return naive_threshold(scores[order], np.cumsum(truth[order]), np.arange(1, len(order) + 1), at_least)


def reweighted(scores: np.ndarray, truth: np.ndarray, each: np.ndarray, at_least: float) -> float | None:
    """As `naive`, of images that stand for `each` images of production."""
    order = np.argsort(-scores)
    return naive_threshold(
        scores[order], np.cumsum((truth * each)[order]), np.cumsum(each[order]), at_least
    )  # fmt: skip


MAPIE_GRID = np.array([*DEFAULT_GRID, 0.0])
MAPIE_MODES = (
    "bonferroni",
    "bonferroni_holm",
    "fixed_sequence",
    "fixed_sequence, 5 starts",
    "fixed_sequence, 10 starts",
    "split_fixed_sequence",
)


@lru_cache(maxsize=1)
def counted_controller() -> type[Any]:
    """MAPIE's controller, with the counts of all thresholds made at once; everything else is its own."""
    from mapie.risk_control import BinaryClassificationController, precision
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value

    class Counted(BinaryClassificationController):  # type: ignore[misc]
        def _get_predictions_per_param(self, X: Any, params: Any, is_calibration_step: bool = False) -> Any:  # noqa: N803
            self._drawn = X
            return np.asarray(params, dtype=np.float64)

        def _get_risk_values_and_eff_sample_sizes(self, y_true: Any, predictions_per_param: Any, risks: Any) -> Any:
            ascending, positives = np.sort(self._drawn), np.sort(self._drawn[y_true == 1])
            hits = len(positives) - np.searchsorted(positives, predictions_per_param)
            if risks[0] is precision:
                sizes = len(ascending) - np.searchsorted(ascending, predictions_per_param)
            else:
                sizes = np.full(len(hits), len(positives))
            values = np.where(sizes > 0, 1 - hits / np.maximum(sizes, 1), 1.0)
            return values[None, :], np.where(sizes > 0, sizes, -1).astype(float)[None, :]

        def learn_fixed_sequence_order(self, X_learn: Any, y_learn: Any, **_: Any) -> Any:  # noqa: N803
            params = self._get_predictions_per_param(X_learn, self._predict_params)
            risk, sizes = self._get_risk_values_and_eff_sample_sizes(np.asarray(y_learn), params, self._risk)
            p_values = compute_hoeffding_bentkus_p_value(risk[0], sizes[0], self._alpha[:, None][0], False)[:, 0]
            nearest = np.abs(p_values[None, :] - np.logspace(-25, 0, 1000)[:, None]).argmin(axis=1)
            _, first = np.unique(nearest, return_index=True)
            self._learned_fixed_sequence = np.array(self._predict_params[nearest[np.sort(first)]], dtype=object)
            return self

    return Counted


def ask_mapie(
    kind: type[Any], mode: str, scores: np.ndarray, truth: np.ndarray, at_least: float, delta: float
) -> float | None:
    """The threshold that a mode of MAPIE says is best, None if it has none."""
    from mapie.risk_control import precision
    from mapie.risk_control.fwer_control import FWERFixedSequenceTesting

    starts = mode.partition(", ")[2].partition(" ")[0]
    controller = kind(
        predict_function=lambda drawn: np.column_stack([1 - drawn, drawn]),
        risk=precision,
        target_level=at_least,
        confidence_level=1 - delta,
        list_predict_params=MAPIE_GRID,
        fwer_method=FWERFixedSequenceTesting(n_starts=int(starts)) if starts else mode,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if mode == "split_fixed_sequence":
            half = len(scores) // 2
            controller.learn_fixed_sequence_order(scores[:half], truth[:half].astype(int))
            scores, truth = scores[half:], truth[half:]
        controller.calibrate(scores, truth.astype(int))
    return None if controller.best_predict_param is None else float(controller.best_predict_param)


def mapie_thresholds(
    scores: np.ndarray, truth: np.ndarray, at_least: float, delta: float, check: bool
) -> dict[str, float | None]:
    found = {mode: ask_mapie(counted_controller(), mode, scores, truth, at_least, delta) for mode in MAPIE_MODES}
    if check:
        from mapie.risk_control import BinaryClassificationController

        for mode, threshold in found.items():
            plain = ask_mapie(BinaryClassificationController, mode, scores, truth, at_least, delta)
            if threshold != plain:
                raise AssertionError(f"MAPIE's {mode} says {plain}, with the counts made at once {threshold}")
    return found


# Cells, draws and what came of them.


class Cell(NamedTuple):
    part: str
    population: str
    images: int
    at_least: float
    delta: float
    method: str

    @property
    def judged(self) -> bool:
        """Whether the method claims validity and is ours."""
        return self.method in (FIXED, DEFAULT) or self.method.startswith(GIVEN)


@dataclass(frozen=True)
class Job:
    """Some draws from one population, on which all methods are tried."""

    part: str
    population: str
    images: int
    at_least: float
    deltas: tuple[float, ...]
    chunk: int
    draws: int
    mutant: str = ""
    peers: bool = True

    def generator(self) -> np.random.Generator:
        name = zlib.crc32(f"{self.part}/{self.population}/{self.at_least}".encode())
        return np.random.default_rng([name, self.images, self.chunk])


class Outcomes(NamedTuple):
    """Of each draw."""

    certified: np.ndarray
    """bool."""
    violated: np.ndarray
    """bool: certified, and the true rate lies below the goal."""
    recall: np.ndarray
    """Recall as a multiple of the oracle's, 0 where refused; NaN where no threshold reaches the goal."""


class Tally:
    """Thresholds of one job, cell by cell, measured against the truth."""

    def __init__(
        self, job: Job, population: Population, *, of_recall: bool = False, oracle: float | None = None
    ) -> None:
        self._job, self._population, self._of_recall = job, population, of_recall
        self._oracle = population.oracle(job.at_least) if oracle is None else oracle
        self.rows: dict[Cell, list[tuple[bool, bool, float]]] = {}

    def add(self, method: str, delta: float, threshold: float | None) -> None:
        job, population = self._job, self._population
        cell = Cell(job.part, job.population, job.images, job.at_least, delta, method)
        row = (False, False, 0.0)
        if threshold is not None:
            recall = population.recall(threshold)
            kept = (
                recall >= job.at_least - 1e-12
                if self._of_recall
                else population.keeps_precision(threshold, job.at_least)
            )
            row = (True, not kept, recall / self._oracle if self._oracle else np.nan)
        self.rows.setdefault(cell, []).append(row)

    def outcomes(self) -> dict[Cell, Outcomes]:
        found = {}
        for cell, rows in self.rows.items():
            certified, violated, recall = map(np.array, zip(*rows, strict=True))
            found[cell] = Outcomes(certified, violated, recall if self._oracle else np.full(len(recall), np.nan))
        return found


def threshold_of(result: Any) -> float | None:
    return None if isinstance(result, Refusal) else result.threshold


def run_plain(job: Job) -> dict[Cell, Outcomes]:
    population, rng = population_of(job.population, job.at_least), job.generator()
    tally = Tally(job, population)
    for draw in range(job.draws):
        rows = rng.integers(0, len(population.scores), job.images)
        scores, truth = population.scores[rows], population.truth[rows]
        lowest = naive(scores, truth, job.at_least) if job.peers else None
        for delta in job.deltas:
            main = (job.at_least, delta, job.images) == MAIN
            tally.add(
                FIXED, delta, threshold_of(certify_precision(scores, truth, job.at_least, 1 - delta, DEFAULT_GRID))
            )
            tally.add(DEFAULT, delta, threshold_of(certify_precision(scores, truth, job.at_least, 1 - delta)))
            if job.peers:
                tally.add(NAIVE, delta, lowest)
            if job.peers and job.chunk < (MAPIE_CHUNKS if main else 1):
                check = main and job.chunk == 0 and draw == 0
                for mode, threshold in mapie_thresholds(scores, truth, job.at_least, delta, check).items():
                    tally.add(mode, delta, threshold)
    return tally.outcomes()


def run_recall(job: Job) -> dict[Cell, Outcomes]:
    population, rng = population_of(job.population, job.at_least), job.generator()
    tally = Tally(job, population, of_recall=True, oracle=1.0)
    for _ in range(job.draws):
        rows = rng.integers(0, len(population.scores), job.images)
        scores, truth = population.scores[rows], population.truth[rows]
        found = np.sort(scores[truth])
        allowed = int((1 - job.at_least) * len(found) + 1e-9)
        observed = float(found[allowed]) if allowed < len(found) and np.isfinite(found[allowed]) else None
        for delta in job.deltas:
            tally.add(DEFAULT, delta, threshold_of(certify_recall(scores, truth, job.at_least, 1 - delta)))
            tally.add(NAIVE, delta, observed)
    return tally.outcomes()


POSITIVES = 200


def run_enriched(job: Job) -> dict[Cell, Outcomes]:
    """200 images of the category and `images` others, as many of each kind; production sees 2.8 % and other shares."""
    kinds, population = made_kinds(job.at_least)[job.population]
    rng, tally = job.generator(), Tally(job, population)
    count = len(kinds.others)
    of_kind = np.concatenate([np.zeros(POSITIVES, dtype=np.int64), np.arange(job.images) % count])
    truth = np.arange(POSITIVES + job.images) < POSITIVES
    sizes = np.bincount(of_kind[~truth], minlength=count)
    each = np.where(truth, SHARE / POSITIVES, (kinds.shares / sizes)[of_kind])
    mix = Mix(SHARE, kinds.shares, of_kind)
    for _ in range(job.draws):
        scores = np.empty(len(truth), dtype=np.float32)
        scores[truth] = rng.choice(kinds.positives, POSITIVES)
        for kind, table in enumerate(kinds.others):
            scores[~truth & (of_kind == kind)] = rng.choice(table, sizes[kind])
        for delta in job.deltas:
            prevalence = SHARE if count == 1 else mix
            result = certify_precision(scores, truth, job.at_least, 1 - delta, prevalence=prevalence)
            tally.add(f"{GIVEN}: prevalence", delta, threshold_of(result))
            tally.add(NAIVE, delta, naive(scores, truth, job.at_least))
            tally.add(REWEIGHTED, delta, reweighted(scores, truth, each, job.at_least))
    return tally.outcomes()


COPIES = 8
_JITTER = 2e-6


@lru_cache(maxsize=16)
def with_copies(name: str, at_least: float) -> tuple[np.ndarray, Population]:
    """(N, 8) scores of near-copies, and the population of one image of each group, of 1 to 8 copies alike."""
    base = population_of(name, at_least)
    noise = np.random.default_rng(8).uniform(-_JITTER, _JITTER, (len(base.scores), COPIES))
    scores = np.clip(base.scores[:, None] + noise, None, 1.0).astype(np.float32)
    chosen = np.array([sum(1 / size for size in range(copy, COPIES + 1)) / COPIES for copy in range(1, COPIES + 1)])
    weights = np.broadcast_to(chosen, scores.shape).ravel()
    return scores, Population(name, scores.ravel(), np.repeat(base.truth, COPIES), weights)


def run_groups(job: Job) -> dict[Cell, Outcomes]:
    base = population_of(job.population, job.at_least)
    copies, population = with_copies(job.population, job.at_least)
    rng, tally = job.generator(), Tally(job, population, oracle=base.oracle(job.at_least))
    for draw in range(job.draws):
        sizes = rng.integers(1, COPIES + 1, job.images)
        sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), job.images)) + 1]
        rows = np.repeat(rng.integers(0, len(base.scores), len(sizes)), sizes)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        scores, truth, groups = copies[rows, within], base.truth[rows], np.repeat(np.arange(len(sizes)), sizes)
        for delta in job.deltas:
            for how, named in ((GIVEN, groups), (IGNORED, None)):
                for grid, label in ((DEFAULT_GRID, "fixed grid"), (None, "default")):
                    result = certify_precision(
                        scores, truth, job.at_least, 1 - delta, grid, groups=named, seed=job.chunk * CHUNK + draw
                    )
                    tally.add(f"{how}: groups, {label}", delta, threshold_of(result))
    return tally.outcomes()


BAND_DRAWS = (0.1, 0.3, 0.6)
"""Of the labelled images, from the lowest score band to the highest."""


def run_weighted(job: Job) -> dict[Cell, Outcomes]:
    """A fixed number of images from each score band, weighted by 1 / its inclusion probability."""
    of_recall = job.part == "weighted recall"
    population, rng = made_bands(job.at_least)[job.population], job.generator()
    tally = Tally(job, population, of_recall=of_recall, oracle=1.0 if of_recall else None)
    certify = certify_recall if of_recall else certify_precision
    bands = np.searchsorted(np.float32(population.edges), population.scores, side="right")
    members = [np.flatnonzero(bands == band) for band in range(len(BAND_DRAWS))]
    sizes = [round(share * job.images) for share in BAND_DRAWS]
    weights = np.repeat([len(rows) / size for rows, size in zip(members, sizes, strict=True)], sizes)
    for draw in range(job.draws):
        rows = np.concatenate([rng.choice(of, size) for of, size in zip(members, sizes, strict=True)])
        scores, truth = population.scores[rows], population.truth[rows]
        for delta in job.deltas:
            for how, known in ((GIVEN, weights), (IGNORED, None)):
                result = certify(
                    scores, truth, job.at_least, 1 - delta, weights=known, seed=job.chunk * CHUNK + draw
                )  # fmt: skip
                tally.add(f"{how}: weights", delta, threshold_of(result))
    return tally.outcomes()


PARTS: dict[str, Callable[[Job], dict[Cell, Outcomes]]] = {
    "precision": run_plain,
    "recall": run_recall,
    "enriched": run_enriched,
    "groups": run_groups,
    "weights": run_weighted,
    "weighted recall": run_weighted,
}


# Mutants: a benchmark that cannot fail shows nothing.


def one_success_more(tail: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda successes, trials, rate: tail(np.minimum(np.asarray(successes) + 1, trials), trials, rate)


def one_image_less(tail: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda successes, trials, rate: tail(successes, np.maximum(np.asarray(trials) - 1, successes), rate)


MUTANTS = {"x+1": one_success_more, "k-1": one_image_less}


@contextmanager
def planted(mutant: str) -> Iterator[None]:
    """Counts wrongly inside `certify` for as long as it lasts."""
    module: Any = importlib.import_module("workbench.evaluation.certify")
    honest = module.upper_tail
    module.upper_tail = MUTANTS[mutant](honest)
    try:
        yield
    finally:
        module.upper_tail = honest


def run_job(job: Job) -> dict[Cell, Outcomes]:
    with planted(job.mutant) if job.mutant else nullcontext():
        return PARTS[job.part](job)


def jobs_for(
    part: str,
    names: Sequence[str],
    images: Sequence[int],
    goals: Sequence[float],
    deltas: Sequence[float],
    draws: int,
    **more: Any,
) -> list[Job]:
    pieces = [(chunk, min(CHUNK, draws - chunk * CHUNK)) for chunk in range(-(-draws // CHUNK))]
    return [
        Job(part, name, n, goal, tuple(deltas), chunk, size, **more)
        for n in images
        for goal in goals
        for name in names
        for chunk, size in pieces
    ]


HARD = (
    "least favourable 5%",
    "least favourable 20%",
    "flat, just below the goal",
    "oscillating around the goal",
    "over-confident",
)
"""Populations that are near to a violation everywhere, or look better than they are: with every goal, δ and n."""


def plan(draws: int) -> list[Job]:
    made, demo = list(made_populations(0.9)), list(demo_populations())
    other = [name for name in made if name not in HARD]
    trained = [name for name in demo if name.startswith("local-trained")]
    some = ["local-trained: coat", "local-trained: t-shirt", "local-cnn: t-shirt", "local-cnn: ankle boot"]
    return [
        *jobs_for("enriched", ["one kind"], [800, 5000, 20_000], [0.9], [0.1], draws),
        *jobs_for("enriched", ["one kind"], [20_000], [0.8], [0.05], draws),
        *jobs_for("enriched", ["one kind, at the border"], [5000, 20_000], [0.9], [0.1], draws),
        *jobs_for("enriched", ["six kinds"], [4800, 19_800], [0.9], [0.1], draws),
        *jobs_for("enriched", ["six kinds, at the border"], [19_800], [0.9], [0.1], draws),
        *jobs_for("groups", ["least favourable 20%"], [500, 2500], [0.9], [0.1], draws),
        *jobs_for("groups", ["flat, just below the goal", "over-confident", some[0]], [2500], [0.9], [0.1], draws),
        *jobs_for("weights", list(made_bands(0.9)), [500, 2500], [0.9], [0.1], draws),
        *jobs_for("weights", list(made_bands(0.9)), [2500], [0.8], [0.05], draws),
        *jobs_for("weighted recall", list(made_bands(0.9)), [2500], [0.9], [0.1], draws),
        *jobs_for("precision", [*other, *some], [10_000], [0.9], [0.1], draws),
        *jobs_for("precision", HARD, [500, 2500, 10_000], GOALS, DELTAS, draws),
        *jobs_for("precision", other, [500, 2500], [0.8, 0.9], [0.1], draws),
        *jobs_for("precision", other, [500, 2500], [0.95], [0.05], draws),
        *jobs_for("precision", demo, [2500], [0.9], [0.1], draws),
        *jobs_for("precision", trained, [500], [0.9], [0.1], draws),
        *jobs_for("precision", some, [2500], [0.8], [0.1], draws),
        *jobs_for("precision", some, [2500], [0.95], [0.05], draws),
        *jobs_for("recall", made, [500, 2500], GOALS, [0.1], draws),
        *jobs_for("recall", [*made, *some], [2500], [0.9], [0.05], draws),
        *jobs_for("recall", demo, [500, 2500], [0.9], [0.1], draws),
        *jobs_for("recall", made, [10_000], [0.9], [0.1], draws),
    ]


def mutant_plan(mutant: str, draws: int) -> list[Job]:
    names = ["least favourable 5%", "least favourable 20%"]
    return jobs_for("precision", names, [500], [0.9], [0.1], draws, mutant=mutant, peers=False)


def whole_mutant_plan(mutant: str, draws: int) -> list[Job]:
    return jobs_for(
        "precision", list(made_populations(0.9)), [500, 2500], GOALS, DELTAS, draws, mutant=mutant, peers=False
    )


def run_jobs(jobs: Sequence[Job], workers: int, what: str = "") -> dict[Cell, Outcomes]:
    """All outcomes, cell by cell, in the order of the draws."""
    from tqdm import tqdm

    pieces: dict[Cell, list[tuple[int, Outcomes]]] = {}
    shown = tqdm(total=len(jobs), desc=what, disable=None, file=sys.stderr)

    def keep(job: Job, outcomes: dict[Cell, Outcomes]) -> None:
        shown.update()
        for cell, found in outcomes.items():
            pieces.setdefault(cell, []).append((job.chunk, found))

    if workers == 1:
        for job in jobs:
            keep(job, run_job(job))
    else:
        with ProcessPoolExecutor(workers) as pool:
            waiting = {pool.submit(run_job, job): job for job in jobs}
            for done in as_completed(waiting):
                keep(waiting[done], done.result())
    shown.close()
    joined = {}
    for cell, parts in pieces.items():
        parts.sort(key=lambda part: part[0])
        joined[cell] = Outcomes(*map(np.concatenate, zip(*(part[1] for part in parts), strict=True)))
    return joined


# The verdict.


@dataclass(frozen=True)
class Verdict:
    """What the test of one cell says."""

    cell: Cell
    draws: int
    violations: int
    p_value: float
    """P[Bin(draws, δ) >= violations]."""
    limit: float

    @property
    def fails(self) -> bool:
        return self.p_value < self.limit

    def __str__(self) -> str:
        cell = self.cell
        return (
            f"{cell.part}, {cell.population}, n {cell.images}, p {cell.at_least}, δ {cell.delta}, {cell.method}: "
            f"{self.violations} of {self.draws} violate ({self.violations / self.draws:.3f}), P {self.p_value:.1e}"
        )


def judge(found: dict[Cell, Outcomes]) -> list[Verdict]:
    """One verdict for each cell whose method is ours."""
    from scipy.stats import binom

    cells = [cell for cell in found if cell.judged]
    verdicts = []
    for cell in cells:
        violated = found[cell].violated
        seen = int(violated.sum())
        p_value = float(binom.sf(seen - 1, len(violated), cell.delta))
        verdicts.append(Verdict(cell, len(violated), seen, p_value, SIGNIFICANCE / len(cells)))
    return verdicts


def exact_rate(images: int, share: float, at_least: float, delta: float, truly: float) -> float:
    """Of the least favourable population: P(the test at the grid's first point passes), from scipy's tails alone."""
    from scipy.stats import binom

    events = np.arange(images + 1)
    most_errors = binom.ppf(delta, events, 1 - at_least).astype(int)
    most_errors -= binom.cdf(most_errors, events, 1 - at_least) > delta
    chance = np.where(most_errors >= 0, binom.cdf(most_errors, events, 1 - truly), 0.0)
    return float(binom.pmf(events, images, share) @ chance)


def compare_exact(found: dict[Cell, Outcomes]) -> list[tuple[Cell, float, float, float]]:
    """(cell, measured, exact, two-sided p-value) where the exact violation rate of the fixed grid is known."""
    from scipy.stats import binomtest

    rows = []
    for cell, outcomes in found.items():
        if cell.method == FIXED and cell.population.startswith("least favourable"):
            population = population_of(cell.population, cell.at_least)
            above, right = population.masses(0.99)
            exact = exact_rate(cell.images, above / ROWS, cell.at_least, 1 - (1 - cell.delta), right / above)
            test = binomtest(int(outcomes.violated.sum()), len(outcomes.violated), exact)
            rows.append((cell, float(outcomes.violated.mean()), exact, float(test.pvalue)))
    return rows


# What is shown.


class Gain(NamedTuple):
    population: str
    mode: str
    difference: float
    error: float
    """Monte-Carlo standard error of the difference, which is between the same draws."""


def gains(found: dict[Cell, Outcomes], wanted: Callable[[Cell], bool]) -> dict[Cell, list[Gain]]:
    """Of each cell of ours by default whose goal can be reached: certified more often than each mode of MAPIE."""
    rows: dict[Cell, list[Gain]] = {}
    for cell, ours in found.items():
        if cell.method != DEFAULT or cell.part != "precision" or not wanted(cell) or np.isnan(ours.recall).all():
            continue
        for mode in MAPIE_MODES:
            theirs = found[cell._replace(method=mode)]
            shared = len(theirs.certified)
            gained = ours.certified[:shared].astype(float) - theirs.certified
            error = float(gained.std() / np.sqrt(shared))
            rows.setdefault(cell, []).append(Gain(cell.population, mode, float(gained.mean()), error))
    return rows


def show_gains(found: dict[Cell, Outcomes]) -> None:
    main = gains(found, lambda cell: (cell.at_least, cell.delta, cell.images) == MAIN)
    if not main:
        return
    print(f"\nCertified, p {MAIN[0]}, δ {MAIN[1]}, n {MAIN[2]:,} (in brackets: violations); — the goal is out of reach")
    columns = [NAIVE, *MAPIE_MODES, FIXED, DEFAULT]
    short = ["naive", "bonf.", "holm", "fixed", "5 starts", "10 starts", "split", "ours fixed", "ours"]
    print(f"  {'':28}" + "".join(f"{name:>13}" for name in short) + f"{'ours − best':>20}")
    for cell in found:
        if cell.method != DEFAULT or cell.part != "precision" or cell[2:5] != (MAIN[2], *MAIN[:2]):
            continue
        shown = [found[cell._replace(method=name)] for name in columns]
        values = "".join(f"{o.certified.mean():7.3f} ({o.violated.mean():.2f})".rjust(13) for o in shown)
        best = min(main[cell], key=lambda gain: gain.difference) if cell in main else None
        told = f"{best.difference:+8.3f} ± {best.error:.3f}" if best else "—"
        print(f"  {cell.population[:28]:28}{values}{told:>20}")
    show_recalls(found, columns, short)
    print(
        "\nOurs by default against each mode of MAPIE, mean over the populations whose goal can be reached, same draws:"
    )
    means = []
    for place, mode in enumerate(MAPIE_MODES):
        differences = [rows[place] for rows in main.values()]
        mean = float(np.mean([gain.difference for gain in differences]))
        error = float(np.sqrt(np.sum([gain.error**2 for gain in differences])) / len(differences))
        means.append((mean, error, mode))
        print(f"  {mode:28} {mean:+.3f} ± {error:.3f}")
    bests = [min(rows, key=lambda gain: gain.difference) for rows in main.values()]
    mean, error, mode = min(means)
    tell(f"certified more than MAPIE's best mode ({mode}): {mean:+.3f} ± {error:.3f}", mean >= BETTER, f"≥ {BETTER}")
    chosen = float(np.mean([gain.difference for gain in bests]))
    print(f"  against the mode that is best for each population: {chosen:+.3f}")
    tell_worst(bests, f"these {len(bests)} populations")
    everywhere = gains(found, lambda cell: True)
    worst = [min(rows, key=lambda gain: gain.difference) for rows in everywhere.values()]
    tell_worst(worst, f"all {len(worst)} cells with a reachable goal")
    below = [(cell, min(rows, key=lambda g: g.difference)) for cell, rows in everywhere.items()]
    for cell, gain in sorted(below, key=lambda pair: pair[1].difference)[:12]:
        if gain.difference < -WORSE:
            where = f"n {cell.images}, p {cell.at_least}, δ {cell.delta}"
            print(f"    {gain.population}, {where}: {gain.difference:+.3f} ± {gain.error:.3f} against {gain.mode}")


def show_recalls(found: dict[Cell, Outcomes], columns: Sequence[str], short: Sequence[str]) -> None:
    print("\nThe same cells: recall as a share of the oracle's, refused counted as 0 (in brackets: where certified)")
    print(f"  {'':28}" + "".join(f"{name:>13}" for name in short))
    for cell, outcomes in found.items():
        if cell.method == DEFAULT and cell.part == "precision" and cell[2:5] == (MAIN[2], *MAIN[:2]):
            if np.isnan(outcomes.recall).all():
                continue
            shown = [found[cell._replace(method=name)] for name in columns]
            values = [f"{o.recall.mean():7.3f} ({_if_certified(o):.2f})".rjust(13) for o in shown]
            print(f"  {cell.population[:28]:28}{''.join(values)}")


def _if_certified(outcomes: Outcomes) -> float:
    return float(outcomes.recall[outcomes.certified].mean()) if outcomes.certified.any() else np.nan


def tell_worst(worst: Sequence[Gain], where: str) -> None:
    least = min(worst, key=lambda gain: gain.difference)
    text = f"least gain over {where}: {least.difference:+.3f} ± {least.error:.3f} ({least.population}, {least.mode})"
    tell(text, least.difference >= -WORSE, f"≥ −{WORSE}")


def tell(what: str, holds: bool, bound: str) -> None:
    print(f"  {what}   {bound}: {'holds' if holds else 'DOES NOT HOLD'}")


def show_parts(found: dict[Cell, Outcomes]) -> None:
    """Each method of each part over its cells."""
    print(f"\n{'part':16} {'method':30} {'cells':>5} {'draws':>8} {'certified':>9} {'violate: mean':>13} {'worst':>6} "
          f"{'recall':>7} {'if certified':>12}")  # fmt: skip
    rows: dict[tuple[str, str], list[Outcomes]] = {}
    for cell, outcomes in found.items():
        rows.setdefault((cell.part, cell.method), []).append(outcomes)
    for (part, method), many in rows.items():
        rates = [outcomes.violated.mean() for outcomes in many]
        known = [outcomes for outcomes in many if not np.isnan(outcomes.recall).any()]
        recall = np.mean([o.recall.mean() for o in known]) if known else np.nan
        given = [o.recall[o.certified].mean() for o in known if o.certified.any()]
        print(
            f"{part:16} {method:30} {len(many):5} {sum(len(o.certified) for o in many):8,} "
            f"{np.mean([o.certified.mean() for o in many]):9.3f} {np.mean(rates):13.3f} {max(rates):6.3f} "
            f"{recall:7.3f} {np.mean(given) if given else np.nan:12.3f}"
        )


def show_special(found: dict[Cell, Outcomes]) -> None:
    """The parts with few cells, one by one: certified (violated)."""
    for part in ("enriched", "groups", "weights", "weighted recall"):
        print(f"\n{part}: certified (violated) of all draws")
        cells = [cell for cell in found if cell.part == part]
        for place in dict.fromkeys(cell._replace(method="") for cell in cells):
            text = "; ".join(
                f"{cell.method} {found[cell].certified.mean():.3f} ({found[cell].violated.mean():.3f})"
                for cell in cells
                if cell._replace(method="") == place
            )
            print(f"  {place.population}, n {place.images}, p {place.at_least}, δ {place.delta}: {text}")


def write_table(found: dict[Cell, Outcomes], verdicts: Sequence[Verdict], path: Path) -> None:
    judged = {verdict.cell: verdict for verdict in verdicts}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [*Cell._fields, "draws", "certified", "violations", "recall", "recall_if_certified", "p_value", "fails"]
        )
        for cell, o in found.items():
            verdict = judged.get(cell)
            given = _if_certified(o)
            told = [f"{verdict.p_value:.3g}", verdict.fails] if verdict else ["", ""]
            rates = [f"{o.certified.mean():.4f}", int(o.violated.sum()), f"{o.recall.mean():.4f}", f"{given:.4f}"]
            writer.writerow([*cell, len(o.certified), *rates, *told])


def show_verdicts(found: dict[Cell, Outcomes], verdicts: Sequence[Verdict]) -> bool:
    """Prints them; whether all is well."""
    print(
        f"\nThe {len(verdicts)} cells of our methods; "
        f"one fails if P[Bin(draws, δ) >= seen] < {SIGNIFICANCE / len(verdicts):.1e}"
    )
    closest = sorted(verdicts, key=lambda verdict: verdict.p_value)
    for verdict in closest[:5]:
        print(f"  {'FAILS' if verdict.fails else 'closest'}  {verdict}")
    failed = [verdict for verdict in verdicts if verdict.fails]
    exact = compare_exact(found)
    apart = [row for row in exact if row[3] < SIGNIFICANCE / len(exact)]
    print("Least favourable, fixed grid: measured violations against the exact rate")
    for cell, measured, rate, p_value in exact:
        where = f"{cell.population}, n {cell.images}, p {cell.at_least}, δ {cell.delta}"
        print(f"  {where:52} {measured:.4f}  exact {rate:.4f}  two-sided P {p_value:.3f}")
    print(f"  {'all agree' if not apart else f'{len(apart)} DIFFER'}")
    for verdict in failed[5:]:
        print(f"  FAILS  {verdict}")
    return not failed and not apart


def show_mutants(draws: int, workers: int, whole: bool) -> bool:
    """Whether every planted mutant is caught."""
    caught = True
    for mutant in MUTANTS:
        jobs = whole_mutant_plan(mutant, draws) if whole else mutant_plan(mutant, draws)
        verdicts = judge(run_jobs(jobs, workers, f"mutant {mutant}"))
        failed = [verdict for verdict in verdicts if verdict.fails]
        caught &= bool(failed)
        print(f"mutant {mutant}: {'caught' if failed else 'NOT CAUGHT'} ({len(failed)} of {len(verdicts)} cells fail)")
        for verdict in sorted(failed, key=lambda v: v.p_value)[: 20 if whole else 2]:
            print(f"    {verdict}")
    return caught


def main() -> None:
    parser = argparse.ArgumentParser(description="Whether certified thresholds keep their promise.")
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws per cell")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} draws per cell")
    parser.add_argument("--mutants", action="store_true", help="the mutants alone, on all made populations")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "promises.csv")
    given = parser.parse_args()
    start = time.perf_counter()
    draws = QUICK if given.quick else given.draws
    if given.mutants:
        raise SystemExit(0 if show_mutants(draws, given.workers, whole=True) else 1)
    jobs = plan(draws)
    found = run_jobs(jobs, given.workers, "draws")
    found = {cell: found[cell] for cell in sorted(found, key=lambda cell: (list(PARTS).index(cell.part), *cell[1:5]))}
    verdicts = judge(found)
    write_table(found, verdicts, given.out)
    show_parts(found)
    show_special(found)
    show_gains(found)
    well = show_verdicts(found, verdicts)
    caught = show_mutants(DRAWS, given.workers, whole=False)
    most = min(draws, MAPIE_CHUNKS * CHUNK)
    shared = f"MAPIE on {most:,} at p {MAIN[0]}, δ {MAIN[1]}, n {MAIN[2]:,}, on {min(draws, CHUNK)} elsewhere"
    print(f"{draws:,} draws per cell, {shared}; table in {given.out}; {time.perf_counter() - start:.0f} s")
    print(f"promises: {'KEPT' if well else 'BROKEN'}; mutants: {'caught' if caught else 'NOT CAUGHT'}")
    raise SystemExit(0 if well and caught else 1)


if __name__ == "__main__":
    main()
