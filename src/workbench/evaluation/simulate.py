"""The decision rule over a whole table at once; equal to `decision.decide` on every row.

`reach` is the piece that drafting and certification share with the rule: the score of each category as far as a tier's
scope lets it count, so that "the tier fires" is `reach >= threshold` everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from workbench.canonical import binary32
from workbench.decision import signal_value
from workbench.errors import RunError
from workbench.predictions import PredictionTable, RunInfo
from workbench.records import OK, QUALITY_OUTCOMES, REVIEW, Mode, Policy, Rejection, Scope, Taxonomy, Tier

BLOCKED = np.float32(-np.inf)
"""The reach of a score that cannot make a tier fire."""


@dataclass(frozen=True, eq=False)
class Gated:
    """Scores and what the frozen rejection rule says of each row. n rows, K categories."""

    scores: np.ndarray
    """(n, K) float32; −inf is CENSORED."""
    usable: np.ndarray
    """(n,) bool: the outcome is ok and no score is MISSING."""
    rejected: np.ndarray
    """(n,) bool: usable, and counted as unknown."""
    top: np.ndarray
    """(n,) int: the column of the one highest score; −1 if there is none or the row is not usable."""
    taxonomy: Taxonomy

    @property
    def mode(self) -> Mode:
        """Single- or multi-label."""
        return self.taxonomy.mode

    def reach(self, column: int, scope: Scope, *, automatic: bool) -> np.ndarray:
        """(n,) float32: the category's score where a tier of this scope may fire, BLOCKED elsewhere."""
        allowed = self.usable.copy()
        if self.mode == "single-label" and scope == "assigned":
            allowed &= ~self.rejected & (self.top == column)
        if self.mode == "multi-label" and automatic:
            allowed &= ~self.rejected
        return np.where(allowed, self.scores[:, column], BLOCKED)


def gate_scores(
    scores: np.ndarray,
    unknown_scores: np.ndarray | None,
    answered: np.ndarray,
    rejection: Rejection,
    taxonomy: Taxonomy,
) -> Gated:
    """Apply the rejection rule to (n, K) float32 scores; `answered` (n,): the outcome is ok.

    Raises RunError if the rule wants a score for "none of these" and there is none, or the other way round.
    """
    if rejection.unknown_label != (unknown_scores is not None):
        raise RunError('the run scores "none of these" and the rejection rule does not use it, or the other way round')
    usable = answered & ~np.isnan(scores).any(axis=1)
    if unknown_scores is not None:
        usable &= ~np.isnan(unknown_scores)
    best = np.where(usable, np.max(scores, axis=1, initial=BLOCKED, where=~np.isnan(scores)), BLOCKED)
    single = (scores == best[:, None]).sum(axis=1) == 1
    has_top = usable & single & (best > BLOCKED)
    rejected = _signal_rejects(scores, best, usable, rejection)
    if unknown_scores is not None:
        rejected |= usable & (unknown_scores >= best)
    if taxonomy.mode == "single-label":
        rejected |= usable & ~has_top
    top = np.where(has_top, np.argmax(scores == best[:, None], axis=1), -1)
    return Gated(scores, usable, rejected, top, taxonomy)


def signals(scores: np.ndarray, signal: str) -> np.ndarray:
    """(n,) float32: `decision.signal_value` of each row of (n, K) scores without NaN.

    top and margin are exactly equal to it; entropy may differ in its last digits (see `_signal_rejects`).
    """
    if signal == "top":
        return np.asarray(scores.max(axis=1))
    wide = scores.astype(np.float64)
    if signal == "margin":
        ranked = np.sort(wide, axis=1)
        second = ranked[:, -2] if scores.shape[1] > 1 else np.zeros(len(scores))
        return np.asarray(ranked[:, -1] - np.maximum(second, 0.0), dtype=np.float32)
    if signal != "entropy":
        raise ValueError(f"there is no signal {signal!r}")
    positive = np.where(wide > 0, wide, 1.0)
    return np.asarray(-(positive * np.log(positive)).sum(axis=1), dtype=np.float32)


def _signal_rejects(scores: np.ndarray, best: np.ndarray, usable: np.ndarray, rejection: Rejection) -> np.ndarray:
    rejected = np.zeros(len(scores), dtype=bool)
    if rejection.signal == "none" or rejection.threshold is None:
        return rejected
    limit = rejection.threshold
    if rejection.signal == "top":
        return usable & (best < np.float32(limit))
    rows = np.flatnonzero(usable)
    values = signals(scores[rows], rejection.signal)
    if rejection.signal == "margin":
        rejected[rows] = values < np.float32(limit)
        return rejected
    rejected[rows] = values > np.float32(limit)
    # NumPy's logarithm and sum may differ from the rule's in the last digits: near the limit the rule itself is asked.
    for row in rows[np.abs(values - limit) <= 1e-4 * (1 + limit)]:
        rejected[row] = signal_value(scores[row].astype(float).tolist(), "entropy") > binary32(limit)
    return rejected


@dataclass(frozen=True, eq=False)
class Simulated:
    """What the policy decides for every row of a table, in the table's order."""

    policy: Policy
    image_ids: np.ndarray
    action: np.ndarray
    """(n,) text."""
    code: np.ndarray
    """(n,) text: `Decision.code`."""
    rejected: np.ndarray
    """(n,) bool."""
    fired: np.ndarray
    """(n, T) bool: which of `tiers` fired."""
    tiers: tuple[tuple[str, Tier], ...]
    """(category, tier), in the policy's order."""

    @cached_property
    def told(self) -> np.ndarray:
        """(n, K) bool: which categories are among the decision's labels."""
        multi = self.policy.taxonomy.mode == "multi-label"
        told = np.zeros((len(self.action), len(self.policy.taxonomy.categories)), dtype=bool)
        place = {name: column for column, name in enumerate(self.policy.taxonomy.categories)}
        for number, (category, tier) in enumerate(self.tiers):
            if multi or tier.scope == "assigned":
                told[:, place[category]] |= self.fired[:, number]
        return told

    def labels(self) -> list[tuple[str, ...]]:
        """`Decision.labels` of each row."""
        names = np.array(self.policy.taxonomy.categories, dtype=object)
        unknown = (self.policy.taxonomy.unknown,)
        return [
            tuple(names[row]) or (unknown if rejected else ())
            for row, rejected in zip(self.told, self.rejected, strict=True)
        ]

    def frame(self) -> pd.DataFrame:
        """One row per image: image_id, action, code, labels."""
        columns = {"image_id": self.image_ids, "action": self.action, "code": self.code}
        return pd.DataFrame({**columns, "labels": self.labels()})


def simulate(table: PredictionTable, policy: Policy) -> Simulated:
    """Apply a policy to every row. Raises RunError if a threshold lies below a score column's floor."""
    check_floors(policy, table.info)
    tiers = tuple((rule.category, tier) for rule in policy.categories for tier in rule.tiers)
    outcome = table.frame["outcome"].to_numpy(dtype=object)
    action = np.full(len(table), REVIEW, dtype=object)
    code = np.full(len(table), "origin", dtype=object)
    fired = np.zeros((len(table), len(tiers)), dtype=bool)
    rejected = np.zeros(len(table), dtype=bool)
    if table.info.origin == policy.origin:
        _apply(table, policy, tiers, action, code, fired, rejected)
        _route_outcomes(outcome, policy, action, code)
    return Simulated(policy, table.frame["image_id"].to_numpy(dtype=object), action, code, rejected, fired, tiers)


def check_floors(policy: Policy, info: RunInfo) -> None:
    """RunError if some threshold lies below the floor of its score column: what it promises cannot be seen."""
    for rule in policy.categories:
        floor = info.floors.get(rule.category, 0.0)
        for tier in rule.tiers:
            if tier.threshold is not None and tier.threshold < floor:
                raise RunError(
                    f"threshold {tier.threshold:g} of {rule.category!r} ({tier.action}) lies below the floor {floor:g} "
                    "under which this run has no scores; classify again with a lower floor"
                )


def _apply(
    table: PredictionTable,
    policy: Policy,
    tiers: tuple[tuple[str, Tier], ...],
    action: np.ndarray,
    code: np.ndarray,
    fired: np.ndarray,
    rejected: np.ndarray,
) -> None:
    answered = (table.frame["outcome"] == OK).to_numpy()
    unlisted = _unlisted(table, policy) & answered
    unknown_scores = _unknown_scores(table, policy)
    gated = gate_scores(table.scores, unknown_scores, answered & ~unlisted, policy.rejection, policy.taxonomy)
    rejected |= gated.rejected
    code[~gated.usable] = "missing"
    code[unlisted] = "unlisted"
    code[gated.usable] = "below"
    action[gated.usable] = policy.routing.below
    place = {name: column for column, name in enumerate(policy.taxonomy.categories)}
    by_rank = sorted(range(len(tiers)), key=lambda number: policy.rank[tiers[number][1].action])
    highest = np.full(len(table), -1)
    for number in by_rank:
        category, tier = tiers[number]
        if tier.threshold is None:
            continue
        reach = gated.reach(place[category], tier.scope, automatic=tier.action in policy.automatic)
        fired[:, number] = reach >= np.float32(tier.threshold)
        rows = fired[:, number]
        action[rows], code[rows], highest[rows] = tier.action, "fired", policy.rank[tier.action]
    outranked = gated.rejected & (highest <= policy.rank[policy.rejection.action])
    action[outranked], code[outranked] = policy.rejection.action, "rejected"


def _unlisted(table: PredictionTable, policy: Policy) -> np.ndarray:
    """(n,) bool: a score for "none of these" of which the policy knows nothing, and every other score there."""
    if table.unknown_scores is None or policy.rejection.unknown_label:
        return np.zeros(len(table), dtype=bool)
    return np.asarray(~np.isnan(table.unknown_scores) & ~np.isnan(table.scores).any(axis=1))


def _unknown_scores(table: PredictionTable, policy: Policy) -> np.ndarray | None:
    if not policy.rejection.unknown_label:
        return None
    absent = np.full(len(table), np.nan, dtype=np.float32)
    return absent if table.unknown_scores is None else table.unknown_scores


def _route_outcomes(outcome: np.ndarray, policy: Policy, action: np.ndarray, code: np.ndarray) -> None:
    for value in set(outcome) - {OK}:
        rows = outcome == value
        quality = value in QUALITY_OUTCOMES
        routed = policy.routing.on_quality if quality else policy.routing.on_outcome.get(value, REVIEW)
        action[rows], code[rows] = routed, "quality" if quality else "outcome"
