from __future__ import annotations

import numpy as np
import pytest

from workbench.evaluation.acceptance import WorkingPoint
from workbench.evaluation.intervals import upper_bound
from workbench.records import Rejection


def point(rule: Rejection) -> WorkingPoint:
    return WorkingPoint(rule, ("far", "near"), 200, 10, np.array([40, 0]), np.array([0, 0]), 0.95, "certify")


def test_counts_stand_beside_their_bounds() -> None:
    frame = point(Rejection("top", 0.5, False)).frame()
    assert ["known rejected", "unknown accepted", "unknown accepted"] == frame["rate"].tolist()
    assert ["", "far", "near"] == frame["source"].tolist()
    np.testing.assert_array_equal([0.05, 0.0, np.nan], frame["share"])
    assert [upper_bound(10, 200, 0.05), 1 - 0.05 ** (1 / 40), 1.0] == pytest.approx(frame["upper"].tolist())


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rejection("top", 0.5, False), "frozen rule: top < 0.5"),
        (Rejection("entropy", 1.25, False), "frozen rule: entropy > 1.25"),
        (Rejection("margin", 0.125, True), "frozen rule: margin < 0.125 or told unknown"),
        (Rejection("none", None, True), "frozen rule: told unknown"),
        (Rejection("none", None, False), "frozen rule: none"),
    ],
)
def test_a_rule_in_words(rule: Rejection, words: str) -> None:
    assert words == point(rule).words
