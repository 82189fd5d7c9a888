"""Policies, predictions and runs that tests start from, and hypothesis strategies that draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from workbench.canonical import binary32
from workbench.predictions import SCORE, PredictionTable, RunInfo
from workbench.records import (
    CENSORED,
    MISSING,
    OK,
    OUTCOMES,
    Action,
    CategoryRule,
    Draft,
    DraftTier,
    Evidence,
    Origin,
    Policy,
    Prediction,
    Promise,
    Rejection,
    Routing,
    Signal,
    Step,
    Summary,
    Taxonomy,
    Tier,
)

ZEROS = "0" * 64
ACTIONS = (
    Action("pass", 0, "automatic"),
    Action("review", 1, "human"),
    Action("escalate", 2, "human"),
    Action("accept", 3, "automatic"),
)
NO_RULE = Rejection("none", None, unknown_label=False)


@dataclass(frozen=True)
class T:
    """A tier in short: action, threshold, scope."""

    action: str
    threshold: float | None
    scope: str = "assigned"
    metric: str = "precision"


def make_origin(taxonomy: Taxonomy) -> Origin:
    return Origin("test-approach", "v1", "f" * 64, "pixels", taxonomy.digest)


def make_policy(
    tiers: Mapping[str, Sequence[T]],
    *,
    categories: Sequence[str] = ("shoe", "boot", "bag"),
    mode: str = "single-label",
    rejection: Rejection = NO_RULE,
    routing: Routing | None = None,
    actions: tuple[Action, ...] = ACTIONS,
    complete: bool = True,
) -> Policy:
    """A policy that keeps every rule, with evidence that says so of itself."""
    taxonomy = Taxonomy(tuple(categories), mode)  # type: ignore[arg-type]
    rules = tuple(
        CategoryRule(name, tuple(_tier(tier) for tier in tiers.get(name, ()))) for name in taxonomy.categories
    )
    promises = tuple(_promise(rule.category, tier) for rule in rules for tier in rule.tiers)
    routing = routing or Routing("pass")
    draft = Draft(
        schema_version="1.0",
        origin=make_origin(taxonomy),
        complete=complete,
        dataset=ZEROS,
        taxonomy=taxonomy,
        confidence=0.95,
        looks=1,
        actions=actions,
        rejection=rejection,
        routing=routing,
        tiers=tuple(_draft_tier(promise) for promise in promises),
        limits=(),
    )
    kinds = dict.fromkeys((*taxonomy.categories, taxonomy.unknown), 100)
    images = sum(kinds.values())
    summary = Summary(images, 0, images, images - 100, 90, 80, kinds)
    return Policy(
        schema_version="1.0",
        created="2026-01-01T00:00:00Z",
        origin=draft.origin,
        complete=complete,
        taxonomy=taxonomy,
        actions=actions,
        categories=rules,
        rejection=rejection,
        routing=routing,
        evidence=Evidence(draft, ZEROS, 1, 0, summary, promises, ()),
        vectors=(),
    )


def _tier(tier: T) -> Tier:
    threshold = None if tier.threshold is None else binary32(tier.threshold)
    return Tier(tier.action, tier.metric, 0.9, tier.scope, threshold)  # type: ignore[arg-type]


def _promise(category: str, tier: Tier) -> Promise:
    found = tier.threshold is not None
    return Promise(
        category=category,
        action=tier.action,
        metric=tier.metric,
        at_least=tier.at_least,
        scope=tier.scope,
        confidence=0.999,
        verdict="certified" if found else "refused",
        asked=tier.threshold,
        certified=tier.threshold,
        lower_bound=0.91 if found else None,
        trials=100,
        successes=97,
        unanswered=0,
        walk=(Step(tier.threshold, 100, 97, 0.0001),)
        if tier.threshold is not None and tier.metric == "precision"
        else (),
        reason="" if found else "too few",
        needed=None if found else 10,
    )


def _draft_tier(promise: Promise) -> DraftTier:
    return DraftTier(
        category=promise.category,
        action=promise.action,
        metric=promise.metric,
        at_least=promise.at_least,
        scope=promise.scope,
        waived=False,
        confidence=promise.confidence,
        asked=promise.asked,
        grid=() if promise.asked is None or promise.metric == "recall" else (promise.asked,),
        tune_trials=10,
        tune_successes=9,
        reason="",
    )


def ask(policy: Policy, outcome: str = OK, image_id: str = "image", **scores: float) -> Prediction:
    """A prediction of the policy's own origin; categories that are not named are CENSORED."""
    filled = dict.fromkeys(policy.taxonomy.categories, CENSORED) | scores
    return Prediction(image_id, policy.origin, outcome, filled if outcome == OK else {})


def make_table(
    policy: Policy,
    scores: np.ndarray,
    *,
    unknown: np.ndarray | None = None,
    outcomes: Sequence[str] | None = None,
    floors: Mapping[str, float] | None = None,
    origin: Origin | None = None,
) -> PredictionTable:
    """A run of the policy's approach with these (n, K) scores."""
    n = len(scores)
    fixed = {"image_id": [f"{row}.png" for row in range(n)], "outcome": list(outcomes or [OK] * n)}
    frame = pd.DataFrame({**fixed, "detail": "", "latency_ms": 1.0, "cost_usd": 0.0, "cached": False})
    for column, name in enumerate(policy.taxonomy.categories):
        frame[SCORE + name] = scores[:, column].astype(np.float32)
    if unknown is not None:
        frame[SCORE + policy.taxonomy.unknown] = unknown.astype(np.float32)
    info = RunInfo(
        schema_version="1.0",
        origin=origin or policy.origin,
        taxonomy=policy.taxonomy,
        complete=policy.complete,
        scores_unknown=unknown is not None,
        floors=floors or {},
        dataset=ZEROS,
        dataset_name="test",
        created="2026-01-01T00:00:00Z",
    )
    return PredictionTable(frame, info)


# Few distinct values, so that ties and hits of a threshold are common.
levels = st.sampled_from([binary32(step / 10) for step in range(11)])
near_levels = levels.flatmap(
    lambda level: st.sampled_from(
        [level, *(float(np.clip(np.nextafter(np.float32(level), np.float32(end)), 0, 1)) for end in (0, 1))]
    )
)
any_scores = st.floats(0, 1, width=32)
scores = st.one_of(near_levels, any_scores, st.just(CENSORED))
scores_or_missing = st.one_of(scores, scores, scores, st.just(MISSING))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Any policy that keeps the rules."""
    categories = draw(st.sampled_from([("shoe",), ("shoe", "boot"), ("shoe", "boot", "bag", "hat")]))
    mode = draw(st.sampled_from(["single-label", "multi-label"]))
    tiers = {name: draw(tier_lists(mode)) for name in categories}
    quiet = st.sampled_from(["pass", "review", "escalate"])
    human = st.sampled_from(["review", "escalate"])
    on_outcome = draw(st.dictionaries(st.sampled_from(OUTCOMES[1:]), human, max_size=2))
    routing = Routing(draw(quiet), draw(human), on_outcome)
    rejection = draw(rejections(mode, draw(quiet)))
    return make_policy(tiers, categories=categories, mode=mode, rejection=rejection, routing=routing)


@st.composite
def tier_lists(draw: st.DrawFn, mode: str) -> list[T]:
    names = [action.name for action in ACTIONS[1:] if draw(st.booleans())]
    rising = sorted(draw(st.lists(levels, min_size=len(names), max_size=len(names))))
    wide = draw(st.integers(0, len(names)))
    tiers = []
    for place, (name, level) in enumerate(zip(names, rising, strict=True)):
        scope = "any" if mode == "multi-label" or (place < wide and name != "accept") else "assigned"
        tiers.append(T(name, draw(st.sampled_from([level, level, None])), scope))
    return tiers


@st.composite
def rejections(draw: st.DrawFn, mode: str, action: str) -> Rejection:
    signal = draw(st.sampled_from(["none", "top"] if mode == "multi-label" else get_args(Signal)))
    limit = draw(st.one_of(near_levels, any_scores)) if signal != "none" else None
    return Rejection(signal, limit, draw(st.booleans()), action)  # type: ignore[arg-type]


@st.composite
def tables(draw: st.DrawFn, policy: Policy) -> PredictionTable:
    """A run that the policy may or may not have been made for."""
    n, k = draw(st.integers(1, 12)), len(policy.taxonomy.categories)
    rows = draw(st.lists(st.lists(scores_or_missing, min_size=k, max_size=k), min_size=n, max_size=n))
    has_unknown = policy.rejection.unknown_label if draw(st.integers(0, 9)) else not policy.rejection.unknown_label
    unknown = draw(st.lists(scores_or_missing, min_size=n, max_size=n)) if has_unknown else None
    outcomes = draw(st.lists(st.sampled_from([OK, OK, OK, OK, *OUTCOMES]), min_size=n, max_size=n))
    origin = policy.origin
    if not draw(st.integers(0, 9)):
        origin = replace(origin, **{draw(st.sampled_from(["approach", "model_version", "preparation"])): "other"})
    return make_table(
        policy,
        np.array(rows, dtype=np.float32),
        unknown=None if unknown is None else np.array(unknown, dtype=np.float32),
        outcomes=outcomes,
        origin=origin,
    )
