from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samples import T, make_policy, make_table, policies, tables
from workbench.decision import decide, signal_value
from workbench.errors import RunError
from workbench.evaluation.simulate import gate_scores, signals, simulate
from workbench.records import CENSORED, Decision, Rejection, Taxonomy


@settings(max_examples=settings().max_examples * 3)
@given(st.data())
def test_simulate_equals_decide_on_every_row(data: st.DataObject) -> None:
    policy = data.draw(policies())
    table = data.draw(tables(policy))
    simulated = simulate(table, policy)
    decisions = [decide(prediction, policy) for prediction in table.predictions()]
    assert [decision.action for decision in decisions] == list(simulated.action)
    assert [decision.code for decision in decisions] == list(simulated.code)
    assert [decision.labels for decision in decisions] == simulated.labels()
    assert [_fired(decision) for decision in decisions] == [
        {(simulated.tiers[tier][0], simulated.tiers[tier][1].action) for tier in np.flatnonzero(row)}
        for row in simulated.fired
    ]


def _fired(decision: Decision) -> set[tuple[str, str]]:
    return {(mark.category, mark.action) for mark in decision.marks}


@settings(max_examples=settings().max_examples * 3)
@given(
    st.lists(st.one_of(st.floats(0, 1, width=32), st.just(CENSORED)), min_size=1, max_size=6),
    st.sampled_from(["top", "margin"]),
)
def test_top_and_margin_are_exactly_those_of_the_rule(known: list[float], signal: str) -> None:
    assert signal_value(known, signal) == signals(np.array([known], dtype=np.float32), signal)[0]


def test_a_signal_that_is_none_is_no_other_one() -> None:
    with pytest.raises(ValueError, match="no signal 'energy'"):
        signal_value([0.75, 0.25], "energy")
    with pytest.raises(ValueError, match="no signal 'energy'"):
        signals(np.array([[0.75, 0.25]], dtype=np.float32), "energy")


def test_entropy_at_its_limit_is_decided_by_the_rule_itself() -> None:
    rng = np.random.default_rng(5)
    rows = rng.dirichlet([0.7] * 5, 400).astype(np.float32)
    taxonomy = Taxonomy(tuple("abcde"))
    for row in rows[:60]:
        exact = signal_value(row.astype(float).tolist(), "entropy")
        rejection = Rejection("entropy", exact, unknown_label=False)
        gated = gate_scores(rows, None, np.ones(len(rows), dtype=bool), rejection, taxonomy)
        expected = np.array([signal_value(other.astype(float).tolist(), "entropy") > exact for other in rows])
        ties = (rows == rows.max(axis=1, keepdims=True)).sum(axis=1) > 1
        assert list(expected | ties) == list(gated.rejected)


def test_a_threshold_below_the_floor_is_refused_on_reading_a_run() -> None:
    policy = make_policy({"shoe": [T("accept", 0.04)]})
    table = make_table(policy, np.full((2, 3), 0.5), floors={"shoe": 0.05})
    with pytest.raises(RunError, match=r"threshold 0\.04 of 'shoe' \(accept\) lies below the floor 0\.05"):
        simulate(table, policy)


def test_a_rule_that_wants_an_unknown_score_refuses_scores_without_one() -> None:
    rule = Rejection("none", None, unknown_label=True)
    with pytest.raises(RunError, match="none of these"):
        gate_scores(np.zeros((1, 1), dtype=np.float32), None, np.ones(1, dtype=bool), rule, Taxonomy(("a",)))
