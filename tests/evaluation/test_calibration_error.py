from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from sharpened_runs import drawn
from workbench.evaluation.calibration_error import (
    binned_error,
    brier_score,
    classwise_error,
    log_loss,
    null_errors,
    rank_area,
    smooth_error,
)
from workbench.evaluation.reliability import measure_calibration
from workbench.records import CENSORED, MISSING

STAIRS, SEVEN_OF_TEN = np.arange(100) / 100 + 0.005, np.arange(100) % 10 < 7
pairs = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=40)


def test_published_check_numbers() -> None:
    assert 0.29 == pytest.approx(binned_error(STAIRS, SEVEN_OF_TEN, 10), abs=1e-12)
    assert 0.29 == pytest.approx(binned_error(STAIRS, SEVEN_OF_TEN, 10, "width"), abs=1e-12)
    random = np.random.default_rng(0)
    null = np.mean([null_errors(random.beta(8, 2, 200), 15, 50, seed).ece_width.mean for seed in range(40)])
    assert 0.0612 == pytest.approx(null, abs=0.003)


def test_the_smooth_error_of_the_stairs() -> None:
    """What relplot 1.0.3 gives; it is not installed here."""
    assert 0.25873 == pytest.approx(smooth_error(STAIRS, SEVEN_OF_TEN), abs=5e-6)


@pytest.mark.parametrize(
    ("images", "power", "truly", "expected"),
    [
        (20, 1, 1, 0.13056),
        (50, 1, 2, 0.1794),
        (100, 0.5, 1.5, 0.08733),
        (100, 2, 0.4, 0.23914),
        (200, 1, 0.2, 0.33753),
        (200, 3, 1, 0.03802),
        (400, 0.3, 3, 0.23769),
        (500, 0.7, 0.7, 0.08408),
        (1000, 1, 1.1, 0.02741),
        (1000, 2, 2, 0.13319),
        (2000, 0.2, 8, 0.4489),
        (3000, 4, 0.3, 0.271),
    ],
)
def test_the_smooth_error_is_that_of_relplot(images: int, power: float, truly: float, expected: float) -> None:
    place = np.arange(1, images + 1)
    p = (place * 0.618034 % 1) ** power
    assert expected == pytest.approx(smooth_error(p, place * 0.414214 % 1 < p**truly), abs=1e-4)


def smooth_by_definition(p: np.ndarray, y: np.ndarray, width: float) -> float:
    """The two sums over the mesh, image by image: each score, and its reflections at 0 and 1, within 0.5 of a point."""
    t = np.linspace(0, 1, max(200, round(10 / width)))
    away = np.abs(t[:, None, None] - np.stack([p, -p, 2 - p]))
    kernel = np.where(away <= 0.5, np.exp(-((away / width) ** 2) / 2), 0).sum(axis=1)
    return float(np.abs(kernel @ (y - p)).sum() / kernel.sum())


@pytest.mark.parametrize("case", range(5))
def test_the_smooth_error_has_the_least_bandwidth_that_it_does_not_exceed(case: int) -> None:
    random = np.random.default_rng(case)
    p = STAIRS if case == 0 else random.beta(2, 2 + 2 * case, 60)
    y = SEVEN_OF_TEN if case == 0 else random.random(60) < p**1.5
    steps = np.arange(2, 1025) / 1024
    width = next(step for step in steps if smooth_by_definition(p, y, step) <= step)
    assert smooth_by_definition(p, y, width) == pytest.approx(smooth_error(p, y), rel=1e-3)


def test_the_smooth_error_of_sure_scores_is_none_or_all() -> None:
    assert 0.0 == smooth_error(np.array([0.0, 1.0, 1.0]), np.array([False, True, True]))
    assert 1.0 == pytest.approx(smooth_error(np.ones(3), np.zeros(3)))


@given(pairs)
def test_measures_stay_in_their_range(rows: list[tuple[float, bool]]) -> None:
    p, y = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    mean_gap = abs(float((y - p).mean()))
    assert 0 <= brier_score(p, y) <= 1
    assert 0 <= log_loss(p, y) <= -math.log(1e-6) + 1e-9
    for edges in ("mass", "width"):
        assert mean_gap - 1e-9 <= binned_error(p, y, edges=edges) <= 1 + 1e-9  # type: ignore[arg-type]
    assert 0 <= smooth_error(p, y) <= float(np.abs(y - p).max()) + 1e-9
    if 0 < y.sum() < len(y):
        assert rank_area(p, y) == pytest.approx(roc_auc_score(y, p))
    assert brier_score(p, y) == pytest.approx(brier_score_loss(y, p))


@given(pairs)
def test_the_brier_score_decomposes_where_scores_are_few(rows: list[tuple[float, bool]]) -> None:
    """Murphy 1973: reliability − resolution + uncertainty, by distinct score."""
    p, y = np.round([row[0] for row in rows], 1), np.array([row[1] for row in rows], dtype=float)
    levels, place, counts = np.unique(p, return_inverse=True, return_counts=True)
    rates = np.bincount(place, y) / counts
    share = counts / len(p)
    reliability = (share * (levels - rates) ** 2).sum()
    resolution = (share * (rates - y.mean()) ** 2).sum()
    assert brier_score(p, y) == pytest.approx(reliability - resolution + y.mean() * (1 - y.mean()))


@given(pairs, st.randoms(use_true_random=False))
def test_equal_mass_bins_do_not_depend_on_the_order_of_ties(rows: list[tuple[float, bool]], shuffle: object) -> None:
    rounded = [(round(p, 1), y) for p, y in rows]
    other = list(rounded)
    shuffle.shuffle(other)  # type: ignore[attr-defined]
    found = [binned_error(np.array([p for p, _ in part]), np.array([y for _, y in part])) for part in (rounded, other)]
    assert found[0] == pytest.approx(found[1])


def test_classwise_is_the_mean_over_columns() -> None:
    labelled = drawn(200)
    p = labelled.scores.astype(float)
    expected = np.mean([binned_error(p[:, k], labelled.truth[:, k]) for k in range(3)])
    assert expected == pytest.approx(classwise_error(p, labelled.truth))
    assert expected == pytest.approx(measure_calibration(labelled, resamples=0).frame()["classwise_ece"].iloc[-1])


@pytest.mark.parametrize(
    ("p", "y", "fault"),
    [
        ([0.5, 1.5], [0, 1], r"lie in \[0, 1\]"),
        ([0.5, CENSORED], [0, 1], "what CENSORED and MISSING mean"),
        ([0.5, MISSING], [0, 1], "what CENSORED and MISSING mean"),
        ([0.5, 0.5], [0, 2], "true or false"),
        ([0.5], [0, 1], "one shape"),
        ([[0.5]], [[1]], "one shape"),
    ],
)
def test_measures_refuse_what_is_no_probability(p: list[float], y: list[int], fault: str) -> None:
    for measure in (brier_score, log_loss, binned_error, smooth_error, rank_area):
        with pytest.raises(ValueError, match=fault):
            measure(np.array(p), np.array(y))


def test_no_images_give_no_number() -> None:
    nothing = np.zeros(0)
    for measure in (brier_score, log_loss, binned_error, smooth_error, rank_area):
        assert math.isnan(measure(nothing, nothing))
