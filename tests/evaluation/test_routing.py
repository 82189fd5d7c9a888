from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelled_runs import make_labelled
from samples import policies, tables
from workbench.config.goals import ActionGoal, CostGoal, Goals, PrevalenceGoal, RejectionGoal, TierGoal
from workbench.evaluation.costs import Costs, cheapest
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.operating import OperatingCurves
from workbench.evaluation.production import image_weights
from workbench.evaluation.routing import Routing
from workbench.evaluation.simulate import simulate
from workbench.predictions import PredictionTable
from workbench.records import OK, Policy, Rejection, Taxonomy

NO_RULE = Rejection("none", None, unknown_label=False)


def goals_of(policy: Policy, **further: object) -> Goals:
    """Goals whose tiers, scopes, actions and routing are the policy's."""
    category = {
        rule.category: tuple(
            TierGoal(action=tier.action, metric=tier.metric, at_least=tier.at_least, scope=tier.scope)
            for tier in rule.tiers
        )
        for rule in policy.categories
    }
    return Goals(
        below=policy.routing.below,
        on_quality=policy.routing.on_quality,
        on_outcome=dict(policy.routing.on_outcome),
        actions=tuple(ActionGoal(name=a.name, rank=a.rank, kind=a.kind) for a in policy.actions),
        category=category,
        rejection=RejectionGoal(signal=policy.rejection.signal, action=policy.rejection.action),
        **further,  # type: ignore[arg-type]
    )


def labelled_of(table: PredictionTable, truth: np.ndarray) -> Labelled:
    """The rows of a run with these (n, K) labels."""
    frame = table.frame[["image_id", "outcome"]].assign(
        split="tune", group=table.frame["image_id"], weight=1.0, source=""
    )
    outcome = frame["outcome"].to_numpy(dtype=object)
    return Labelled(
        table.info.taxonomy,
        table.info,
        frame,
        table.scores,
        table.unknown_scores,
        truth,
        outcome == OK,
        ~truth.any(axis=1),
    )


@settings(max_examples=settings().max_examples * 3)
@given(st.data())
def test_every_row_gets_the_action_that_the_policy_gives_it_however_thresholds_moved(data: st.DataObject) -> None:
    policy = data.draw(policies())
    table = data.draw(tables(policy).filter(lambda t: t.info.origin == policy.origin and _fits(t, policy)))
    rows = labelled_of(table, np.zeros(table.scores.shape, dtype=bool))
    curves = OperatingCurves(rows, goals_of(policy), policy.rejection)
    wanted = [tier.threshold for rule in policy.categories for tier in rule.tiers]
    start = data.draw(st.lists(st.sampled_from([None, 0.0, 0.3, 1.0]), min_size=len(wanted), max_size=len(wanted)))
    routing = Routing(curves, start)
    for number in data.draw(st.permutations(range(len(wanted)))):
        routing.move({number: wanted[number]})
    names = np.array([action.name for action in curves.goals.records()], dtype=object)
    assert list(simulate(table, policy).action) == list(names[routing.levels()])


def _fits(table: PredictionTable, policy: Policy) -> bool:
    return policy.rejection.unknown_label == (table.unknown_scores is not None)


SHOES = Taxonomy(("shoe", "boot"))
TIERS = (
    TierGoal(action="review", metric="recall", at_least=0.9),
    TierGoal(action="accept", metric="precision", at_least=0.9),
)
MIX = PrevalenceGoal(shares={"shoe": 0.2, "boot": 0.3, "unknown": 0.5})


def some_rows(seed: int = 0, n: int = 300) -> Labelled:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    scores = rng.dirichlet([1, 1, 1], n)[:, :2].astype(np.float32)
    labels = [((("shoe",), ("boot",), ())[place]) for place in kind]
    return make_labelled(labels, scores, taxonomy=SHOES)


def test_the_cost_is_that_of_the_cheapest_thresholds_where_these_stand() -> None:
    rows, costs = some_rows(), CostGoal(false_positive=4, false_negative=1, review=0.2)
    goals = Goals(below="pass", category={"shoe": TIERS}, costs=costs, prevalence=MIX)
    curves = OperatingCurves(rows, goals, NO_RULE)
    choice = cheapest(
        curves.gated.reach(0, "any", automatic=False),
        rows.truth[:, 0],
        Costs(4, 1, 0.2),
        0.2,
        image_weights(rows, curves.prevalence, 0),
        act_reach=curves.gated.reach(0, "assigned", automatic=True),
    )
    boots = float(MIX.record().shares["boot"])  # nothing is done for boots: those not reviewed are missed
    routing = Routing(curves, [choice.flag, choice.act])
    weights, human = curves.weights(0), routing.levels() == 1
    assert weights is not None
    missed = float(weights[rows.truth[:, 1] & ~human].sum() / weights.sum())
    assert choice.expected_cost + missed == pytest.approx(routing.load().cost)
    assert 0 < missed <= boots


def test_shares_are_those_of_production_and_their_intervals_hold_them() -> None:
    curves = OperatingCurves(some_rows(), Goals(below="pass", tiers=TIERS, prevalence=MIX), NO_RULE)
    load = Routing(curves, [0.4, 0.8, 0.4, 0.8]).load()
    assert "in production" == load.basis
    assert 1 == pytest.approx(sum(rate.value for rate in load.actions.values()))
    for rate in (*load.actions.values(), load.human):
        assert 0 <= rate.low <= rate.value <= rate.high <= 1
    assert load.human.value == load.actions["review"].value
    assert 300 == sum(load.counts.values())


def test_moving_back_gives_what_there_was() -> None:
    curves = OperatingCurves(some_rows(), Goals(below="pass", tiers=TIERS), NO_RULE)
    routing = Routing(curves, [0.4, 0.8, None, 0.8])
    before = routing.load()
    routing.move({0: None, 3: 0.1})
    assert before != routing.load()
    routing.move({0: 0.4, 3: 0.8})
    assert before == routing.load() or np.isnan(before.cost)
    assert before.counts == routing.load().counts
