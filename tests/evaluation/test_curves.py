from __future__ import annotations

import math
import warnings
from contextlib import AbstractContextManager
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import average_precision_score, precision_recall_curve

from samples import near_levels
from workbench.canonical import binary32
from workbench.evaluation import curves
from workbench.evaluation.curves import Curve, Curves, precision_recall_curves
from workbench.records import CENSORED, MISSING

LOWEST = -1.0
"""Stands for CENSORED where scikit-learn takes only finite scores."""

score = st.one_of(near_levels, st.floats(0, 1, width=32), st.just(-0.0), st.just(2.0**-149))


@st.composite
def problems(draw: st.DrawFn, elements: st.SearchStrategy[float]) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 3)))
    scores = draw(npst.arrays(np.float32, shape, elements=elements))
    return scores, draw(npst.arrays(bool, shape))


def reference(
    scores: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no positives: recall is n/a here and 1 there
        precision, recall, thresholds = precision_recall_curve(truth, scores, sample_weight=weights)
    return precision[:-1], recall[:-1], thresholds


@given(problems(score))
def test_equal_to_scikit_learn_at_every_threshold(problem: tuple[np.ndarray, np.ndarray]) -> None:
    scores, truth = problem
    for column, curve in enumerate(precision_recall_curves(scores, truth)):
        precision, recall, thresholds = reference(scores[:, column], truth[:, column])
        assert thresholds.tolist() == curve.thresholds.tolist()
        assert precision.tolist() == curve.precision.tolist()
        if truth[:, column].any():
            assert recall.tolist() == curve.recall.tolist()
            expected = average_precision_score(truth[:, column], scores[:, column])
            assert expected == pytest.approx(curve.average_precision, abs=1e-12)
        else:
            assert np.isnan(curve.recall).all()
            assert math.isnan(curve.average_precision)


@given(problems(st.one_of(score, st.just(CENSORED))))
def test_censored_scores_are_one_tie_below_every_threshold(problem: tuple[np.ndarray, np.ndarray]) -> None:
    scores, truth = problem
    finite = np.where(np.isneginf(scores), LOWEST, scores)
    for column, curve in enumerate(precision_recall_curves(scores, truth)):
        precision, recall, thresholds = reference(finite[:, column], truth[:, column])
        seen = thresholds >= 0
        assert thresholds[seen].tolist() == curve.thresholds.tolist()
        assert precision[seen].tolist() == curve.precision.tolist()
        if truth[:, column].any():
            assert recall[seen].tolist() == curve.recall.tolist()
            expected = average_precision_score(truth[:, column], finite[:, column])
            assert expected == pytest.approx(curve.average_precision, abs=1e-12)


@given(problems(st.one_of(score, st.just(CENSORED))), st.data())
def test_weights_count_as_in_scikit_learn(problem: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    scores, truth = problem
    weights = data.draw(npst.arrays(np.float64, len(scores), elements=st.floats(0.01, 1000)))
    finite = np.where(np.isneginf(scores), LOWEST, scores)
    for column, curve in enumerate(precision_recall_curves(scores, truth, weights)):
        precision, recall, thresholds = reference(finite[:, column], truth[:, column], weights)
        seen = thresholds >= 0
        assert thresholds[seen].tolist() == curve.thresholds.tolist()
        assert precision[seen] == pytest.approx(curve.precision, rel=1e-9, abs=1e-12)
        if truth[:, column].any():
            assert recall[seen] == pytest.approx(curve.recall, rel=1e-9, abs=1e-12)
            expected = average_precision_score(truth[:, column], finite[:, column], sample_weight=weights)
            assert expected == pytest.approx(curve.average_precision, rel=1e-9, abs=1e-12)


@given(problems(st.one_of(score, st.just(CENSORED))), st.one_of(near_levels, st.floats(0, 1)))
def test_a_threshold_query_counts_what_is_at_or_above_it(
    problem: tuple[np.ndarray, np.ndarray], threshold: float
) -> None:
    scores, truth = problem
    above = scores >= np.float32(threshold)
    for column, curve in enumerate(precision_recall_curves(scores, truth)):
        point = curve.at(threshold)
        assert binary32(threshold) == point.threshold
        assert above[:, column].sum() == point.predicted_positives
        assert (above & truth)[:, column].sum() == point.true_positives
        assert truth[:, column].sum() == point.positives


def one(scores: list[float], truth: list[bool]) -> Curve:
    return precision_recall_curves(np.array([scores], dtype=np.float32).T, np.array([truth]).T)[0]


def test_counts_by_hand() -> None:
    curve = one([0.2, 0.9, 0.9, CENSORED, 1.0], [True, False, True, True, True])
    assert [0.2, 0.9, 1.0] == [round(float(threshold), 6) for threshold in curve.thresholds]
    assert [3, 2, 1] == curve.true_positives.tolist()
    assert [4, 3, 1] == curve.predicted_positives.tolist()
    assert (4, 5) == (curve.positives, curve.images)


def test_above_the_highest_score_precision_is_not_a_number_and_recall_zero() -> None:
    point = one([0.2, 0.4], [True, False]).at(0.5)
    assert (0, 0) == (point.true_positives, point.predicted_positives)
    assert math.isnan(point.precision)
    assert 0.0 == point.recall


@pytest.mark.parametrize("threshold", [CENSORED, math.inf, math.nan])
def test_a_threshold_that_is_not_finite_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="no threshold"):
        one([0.2], [True]).at(threshold)


def test_no_images_and_no_scores_give_empty_curves() -> None:
    assert 0 == len(precision_recall_curves(np.zeros((0, 1)), np.zeros((0, 1), dtype=bool))[0].thresholds)
    curve = one([CENSORED, CENSORED], [True, False])
    assert (0, 1, 2) == (len(curve.thresholds), curve.positives, curve.images)
    assert 0.0 == curve.at(0.0).recall
    assert 0.5 == curve.average_precision


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[0.5, MISSING]], "column 1 has NaN scores: decide first what a MISSING score means"),
        ([[0.5, 1.5]], r"column 1 has scores outside \[0, 1\]"),
        ([[-0.1, 0.5]], r"column 0 has scores outside \[0, 1\]"),
        ([[0.5, math.inf]], "column 1 has scores outside"),
        ([[0.5]], "must have one shape"),
        ([0.5, 0.5], "must have one shape"),
    ],
)
def test_scores_that_cannot_be_are_refused(scores: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        precision_recall_curves(np.array(scores), np.array([[True, False]]))


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf]])
def test_weights_that_cannot_be_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights must be 2 finite numbers above 0"):
        precision_recall_curves(np.zeros((2, 1)), np.zeros((2, 1), dtype=bool), np.array(weights))


def small_limits(block: int, threads: bool) -> AbstractContextManager[object]:
    """So few scores in a block that a small example has many, on two threads or on one."""
    return mock.patch.dict(vars(curves), {"_IN_CACHE": block, "_WORTH_THREADS": 0 if threads else math.inf})


def assert_same(expected: Curves, actual: Curves) -> None:
    for one, other in zip(expected, actual, strict=True):
        for field in ("thresholds", "true_positives", "predicted_positives"):
            assert getattr(one, field).tolist() == getattr(other, field).tolist()
        assert (one.positives, one.images) == (other.positives, other.images)


@given(problems(st.one_of(score, st.just(CENSORED))), st.integers(1, 20), st.booleans(), st.booleans())
def test_blocks_threads_and_memory_order_change_nothing(
    problem: tuple[np.ndarray, np.ndarray], block: int, threads: bool, fortran: bool
) -> None:
    scores, truth = problem
    expected = precision_recall_curves(scores, truth)
    if fortran:
        scores, truth = np.asfortranarray(scores), np.asfortranarray(truth)
    with small_limits(block, threads):
        assert_same(expected, precision_recall_curves(scores, truth))


@given(st.integers(0, 2**32 - 1), st.integers(-1, 1), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_all_distinct_scores_around_whole_blocks(
    seed: int, over: int, blocks: int, columns: int, threads: bool
) -> None:
    random = np.random.default_rng(seed)
    images = blocks * 8 + over
    scores = random.permuted(np.tile(np.arange(images, dtype=np.float32)[:, None] / images, columns), axis=0)
    truth = random.random(scores.shape) < 0.4
    with small_limits(8 * columns, threads):
        traced = precision_recall_curves(scores, truth)
    for column, curve in enumerate(traced):
        precision, recall, thresholds = reference(scores[:, column], truth[:, column])
        assert list(range(images, 0, -1)) == curve.predicted_positives.tolist()
        assert thresholds.tolist() == curve.thresholds.tolist()
        assert precision.tolist() == curve.precision.tolist()
        if truth[:, column].any():
            assert recall.tolist() == curve.recall.tolist()


@pytest.mark.parametrize("value", [0.0, -0.0, 2.0**-149, 0.5, 1.0])
@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0]])
def test_constant_scores_are_one_threshold(value: float, weights: list[float] | None) -> None:
    scores, truth = np.full((3, 1), value, dtype=np.float32), np.array([[True], [False], [False]])
    curve = precision_recall_curves(scores, truth, None if weights is None else np.array(weights))[0]
    assert [value] == curve.thresholds.tolist()
    assert ([1], [3]) == (curve.true_positives.tolist(), curve.predicted_positives.tolist())
    assert ([1 / 3], [1.0]) == (curve.precision.tolist(), curve.recall.tolist())


@pytest.mark.parametrize("bad", [MISSING, -0.5, 1.5, math.inf])
@pytest.mark.parametrize("row", [0, 4, 5, 10])
@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("beside", [0.5, CENSORED])
def test_what_no_score_can_be_is_refused_in_every_block(bad: float, row: int, threads: bool, beside: float) -> None:
    scores = np.full((11, 2), beside, dtype=np.float32)
    scores[row, 1] = bad
    for weights in (None, np.ones(11)):
        with small_limits(10, threads), pytest.raises(ValueError, match="column 1 has"):
            precision_recall_curves(scores, np.zeros(scores.shape, dtype=bool), weights)


def test_no_categories_give_no_curves() -> None:
    assert 0 == len(precision_recall_curves(np.zeros((3, 0)), np.zeros((3, 0), dtype=bool)))


def test_more_images_than_can_be_counted_are_refused() -> None:
    shape = (2**31, 1)
    with pytest.raises(ValueError, match="2147483648 images are more than the 2147483647"):
        precision_recall_curves(np.broadcast_to(np.float32(0), shape), np.broadcast_to(np.False_, shape))


def test_what_was_given_is_not_written_to() -> None:
    scores, truth = np.array([[0.5], [-0.0], [CENSORED]], dtype=np.float32), np.array([[True], [False], [True]])
    before = scores.tobytes(), truth.tobytes()
    precision_recall_curves(scores, truth)
    assert before == (scores.tobytes(), truth.tobytes())


def test_many_scores_on_two_threads_give_the_same_curves() -> None:
    random = np.random.default_rng(5)
    scores = random.random((1 << 17, 8), dtype=np.float32).round(4)
    scores[random.random(scores.shape) < 0.1] = CENSORED
    truth = random.random(scores.shape) < 0.2
    together = precision_recall_curves(scores, truth)
    for column in range(8):
        alone = precision_recall_curves(scores[:, [column]], truth[:, [column]])[0]
        assert alone.thresholds.tolist() == together[column].thresholds.tolist()
        assert alone.true_positives.tolist() == together[column].true_positives.tolist()
        assert alone.predicted_positives.tolist() == together[column].predicted_positives.tolist()


def test_a_nan_is_refused_on_two_threads_too() -> None:
    scores = np.zeros((1 << 18, 4), dtype=np.float32)
    scores[-1, 3] = MISSING
    with pytest.raises(ValueError, match="column 3 has NaN"):
        precision_recall_curves(scores, np.zeros(scores.shape, dtype=bool))
