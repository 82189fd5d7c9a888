from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samples import T, make_origin, make_policy, make_table, policies, tables
from workbench.errors import RunError
from workbench.evaluation.costs import CostChoice, Costs, cheapest
from workbench.evaluation.forecast import forecast_load
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.simulate import simulate
from workbench.records import CENSORED, MISSING, Routing

PRICES = Costs(false_positive=10, false_negative=5, review=1)


@settings(max_examples=100)
@given(st.data())
def test_shares_are_those_of_the_rule_and_sum_to_one(data: st.DataObject) -> None:
    policy = data.draw(policies())
    table = data.draw(tables(policy))
    if table.info.origin != policy.origin:
        with pytest.raises(RunError, match="does not belong to the policy"):
            forecast_load(policy, table)
        return
    found = forecast_load(policy, table, per_day=1_000, seconds=10)
    frame = found.frame()
    assert len(table) == int(frame["images"].sum())
    assert 1 == pytest.approx(frame["share"].sum())
    assert 1_000 == pytest.approx(frame["per_day"].sum())
    simulated = simulate(table, policy)
    for row in frame.itertuples():
        assert row.images == (simulated.action == row.action).sum()
        assert row.share_low <= row.share <= row.share_high
    low, expected, high = found.hours
    assert low <= expected <= high
    assert frame["hours"].sum() == pytest.approx(expected)


def example_policy() -> tuple[object, object]:
    tiers = {"shoe": [T("review", 0.3, "any", "recall"), T("accept", 0.8)], "boot": [T("accept", 0.9)]}
    policy = make_policy(tiers, routing=Routing("pass"))
    scores = np.full((200, 3), 0.05)
    scores[:40, 0], scores[40:60, 0], scores[60:70, 1] = 0.85, 0.5, 0.95
    return policy, make_table(policy, scores)


def test_wrong_actions_are_bounded_by_the_certificates() -> None:
    policy, table = example_policy()
    found = forecast_load(policy, table, per_day=10_000, seconds=9)  # type: ignore[arg-type]
    frame = found.automatic_frame()
    assert ["shoe", "boot"] == frame["category"].tolist()
    assert [40, 10] == frame["images"].tolist()
    assert [0.9, 0.9] == pytest.approx(frame["precision_at_least"].tolist())
    assert (1 - 0.9) * 10_000 * 50 / 200 == pytest.approx(frame["wrong_per_day"].sum())
    highest = sum(clopper_pearson(images, 200)[1] for images in (40, 10))
    assert (1 - 0.9) * 10_000 * highest == pytest.approx(found.wrong_per_day)
    assert (frame["wrong_per_day_high"] > frame["wrong_per_day"]).all()
    share = 150 / 200  # 20 flagged, and 130 without one highest category
    assert [share] == [found.frame().set_index("action")["share"]["review"]]
    assert 10_000 * share * 9 / 3600 == pytest.approx(found.hours[1])


def test_an_automatic_tier_without_a_precision_promise_is_not_bounded() -> None:
    policy = make_policy({"shoe": [T("accept", 0.5, "assigned", "recall")]})
    table = make_table(policy, np.array([[0.9, 0.1, 0.0]] * 10))
    found = forecast_load(policy, table, per_day=100)
    assert [0.0] == found.automatic_frame()["precision_at_least"].tolist()
    assert 100 == pytest.approx(found.wrong_per_day)


def test_without_a_volume_there_are_shares_alone() -> None:
    policy, table = example_policy()
    found = forecast_load(policy, table)  # type: ignore[arg-type]
    assert math.isnan(found.wrong_per_day)
    assert found.frame()["per_day"].isna().all()
    assert all(math.isnan(hours) for hours in found.hours)


def test_thresholds_are_forecast_from_scores() -> None:
    choice = cheapest(np.repeat([0.1, 0.5, 0.95], 20), np.arange(60) % 20 < np.repeat([2, 10, 19], 20), PRICES)
    scores = np.array([0.1, 0.5, 0.94, 0.95, 1.0, CENSORED, MISSING])
    found = forecast_load(choice, scores)
    assert ("pass", "review", "act") == found.actions
    assert [2, 3, 2] == found.counts.tolist()
    everything_passes: CostChoice = replace(choice, flag=None, act=None)
    assert [6, 1, 0] == forecast_load(everything_passes, scores).counts.tolist()


def test_forecasts_refuse_what_does_not_fit() -> None:
    policy, table = example_policy()
    with pytest.raises(ValueError, match="per_day must be a finite number, 0 or more, not -1"):
        forecast_load(policy, table, per_day=-1)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="at least one image"):
        forecast_load(policy, replace(table, frame=table.frame[:0]))  # type: ignore[arg-type, type-var, attr-defined]
    with pytest.raises(TypeError, match="a policy takes a prediction table"):
        forecast_load(policy, np.array([0.5]))  # type: ignore[arg-type]
    choice = cheapest(np.array([0.2, 0.9]), np.array([False, True]), PRICES)
    with pytest.raises(ValueError, match=r"numbers in \[0, 1\]"):
        forecast_load(choice, np.array([2.0]))
    other = replace(make_origin(policy.taxonomy), model_version="v2")  # type: ignore[attr-defined]
    foreign = make_table(policy, np.full((2, 3), 0.5), origin=other)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"this run does not belong to the policy: .*v2"):
        forecast_load(policy, foreign)  # type: ignore[arg-type]


def test_the_forecast_plot_tells_people_from_machines() -> None:
    policy, table = example_policy()
    ax = forecast_load(policy, table, per_day=1_000).plot()  # type: ignore[arg-type]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert ["pass  (0 a day)", "review  (750 a day)", "escalate  (0 a day)", "accept  (250 a day)"] == labels
    assert {"", "////"} == {bar.get_hatch() or "" for bar in ax.patches}
