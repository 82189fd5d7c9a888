from __future__ import annotations

import numpy as np
import pytest

from workbench.evaluation.resampling import bootstrap_interval, draw_counts

GROUPS = np.array(["a", "a", "b", "c", "d", "d", "e"])
KINDS = np.array([False, False, False, True, False, True, True])


def test_groups_are_drawn_together_and_each_kind_keeps_its_number() -> None:
    code = np.array([0, 0, 1, 2, 3, 3, 4])
    counts = draw_counts(code, KINDS, 300, np.random.default_rng(1))
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 4] == counts[:, 5]).all()
    assert {2.0} == set(counts[:, 0] + counts[:, 2])  # groups a, b: known images alone
    assert {2.0} == set(counts[:, 3] + counts[:, 6])  # groups c, e: unknown images alone
    assert {1.0} == set(counts[:, 4])  # group d: both
    assert 1.0 == pytest.approx(counts[:, 0].mean(), abs=0.1)


def mean(counts: np.ndarray) -> np.ndarray:
    return (counts @ np.arange(counts.shape[1]) / counts.sum(axis=1))[None]


def interval(groups: np.ndarray, seed: int = 0, confidence: float = 0.95) -> tuple[float, float]:
    kinds = np.zeros(len(groups), dtype=bool)
    low, high = bootstrap_interval(mean, groups, kinds, resamples=2000, confidence=confidence, seed=seed)
    return float(low[0]), float(high[0])


def test_the_interval_of_a_mean_is_that_of_the_textbook() -> None:
    low, high = interval(np.arange(400))
    error = np.arange(400).std() / 20
    assert 199.5 - 1.96 * error == pytest.approx(low, abs=0.2 * error)
    assert 199.5 + 1.96 * error == pytest.approx(high, abs=0.2 * error)
    narrow_low, narrow_high = interval(np.arange(400), confidence=0.5)
    assert 199.5 + 0.674 * error == pytest.approx(narrow_high, abs=0.2 * error)
    assert low < narrow_low


def test_larger_groups_make_a_wider_interval() -> None:
    alone, together = interval(np.arange(400)), interval(np.arange(400) // 40)
    assert together[1] - together[0] > 4 * (alone[1] - alone[0])


def test_a_seed_says_it_all() -> None:
    assert interval(np.arange(50), seed=3) == interval(np.arange(50), seed=3)
    assert interval(np.arange(50), seed=3) != interval(np.arange(50), seed=4)


def test_resamples_without_the_figure_do_not_count() -> None:
    def measure(counts: np.ndarray) -> np.ndarray:
        return np.stack([np.where(counts[:, 0] > 0, 0.25, np.nan), np.full(len(counts), np.nan)])

    low, high = bootstrap_interval(measure, GROUPS, KINDS, resamples=50, confidence=0.95, seed=0)
    np.testing.assert_array_equal([0.25, np.nan], low)
    np.testing.assert_array_equal([0.25, np.nan], high)
