from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workbench.evaluation import selective, tallies
from workbench.evaluation.tallies import Tally

row = st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6]), st.sampled_from(["right", "wrong", "unknown"]))
drawn = st.tuples(row, st.integers(0, 3), st.integers(0, 3))


@given(st.lists(drawn, min_size=1, max_size=20))
def test_a_row_counted_twice_is_two_rows(found: list[tuple[tuple[float, str], int, int]]) -> None:
    values = np.array([value for (value, _), _, _ in found])
    kind = np.array([name for (_, name), _, _ in found])
    counts = np.array([[first, second] for _, first, second in found], dtype=float).T
    known, right, wrong, unknown = (
        Tally(values, counts, kept) for kept in (kind != "unknown", kind == "right", kind == "wrong", kind == "unknown")
    )
    by_tally = [
        tallies.auroc(known, unknown),
        tallies.fpr_at_95_tpr(known, unknown),
        tallies.oscr(known, right, unknown),
        tallies.aurc([known], [wrong]),
        tallies.aurc([known, unknown], [wrong, unknown]),
        tallies.augrc([known], [wrong]),
        tallies.augrc([known, unknown], [wrong, unknown]),
    ]
    for resample in range(2):
        times = counts[resample].astype(int)
        value, name = np.repeat(values, times), np.repeat(kind, times)
        is_known = name != "unknown"
        low, high = value[~is_known], value[is_known]
        by_row = [
            selective.auroc(high, low),
            selective.fpr_at_95_tpr(high, low),
            selective.oscr(high, name[is_known] == "right", low),
            selective.aurc(high, name[is_known] == "wrong"),
            selective.aurc(value, name != "right"),
            selective.augrc(high, name[is_known] == "wrong"),
            selective.augrc(value, name != "right"),
        ]
        np.testing.assert_allclose([figure[resample] for figure in by_tally], by_row, atol=1e-12)


def test_counts_at_any_point() -> None:
    tally = Tally(np.array([0.5, 0.1, 0.5]), np.array([[1.0, 2.0, 3.0]]))
    points = np.array([0.0, 0.1, 0.5, 0.9])
    assert [[0, 0, 2, 6]] == tally.below(points).tolist()
    assert [[0, 2, 6, 6]] == tally.up_to(points).tolist()
    assert [[6, 5, 2, 0]] == tally.above_or_half(points).tolist()
    assert [6] == tally.total.tolist()
