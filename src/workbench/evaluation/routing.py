"""Where images go, and what that costs, while thresholds move: the decision rule, one category at a time.

`simulate` applies a finished policy to a table; here one category's thresholds change and only what hangs on them is
counted anew. Both give the same action for every row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from workbench.evaluation.operating import CONFIDENCE, OperatingCurves, Rate, rate_of
from workbench.evaluation.prevalence import mixed_rate_bound
from workbench.records import OK, QUALITY_OUTCOMES, REVIEW

Basis = Literal["as counted", "by weight", "in production"]


@dataclass(frozen=True)
class Load:
    """What becomes of arriving images."""

    actions: Mapping[str, Rate]
    """By action, by rising rank: the share of images, each with its own interval."""
    human: Rate
    """Images that a person looks at."""
    counts: Mapping[str, int]
    """By action: images of the split."""
    images: int
    cost: float
    """Expected for each arriving image, in the unit of the goals; NaN where they state no costs."""
    basis: Basis
    """What the shares and the cost stand for: the rows as they are, by their weights, or in the mix of production."""


class Routing:
    """The action of each of n rows under thresholds that may move.

    thresholds  one per tier of `curves.tiers`; None never fires

    An image costs a review where a person looks at it. Elsewhere it costs a false positive for each category that an
    automatic tier wrongly tells, and a false negative for each category it shows of which no tier fires.
    """

    def __init__(self, curves: OperatingCurves, thresholds: Sequence[float | None]) -> None:
        self.curves, self._n = curves, len(curves.rows)
        self._actions = curves.goals.records()
        self._level = {action.name: level for level, action in enumerate(self._actions)}
        self._acting = np.array([action.kind == "automatic" and action.rank > 0 for action in self._actions])
        self._human = np.array([action.kind == "human" for action in self._actions])
        self._fired = np.zeros((len(self._actions), self._n), dtype=np.int16)
        self._wrong = np.zeros(self._n, dtype=np.int16)
        self._missing = curves.rows.truth.sum(axis=1, dtype=np.int16)
        self._tiers_of: dict[int, list[int]] = {}
        for number in range(len(curves.tiers)):
            self._tiers_of.setdefault(curves.column(number), []).append(number)
        self._thresholds: list[float | None] = [None] * len(curves.tiers)
        self._routed = self._route_outcomes()
        self.move(dict(enumerate(thresholds)))

    def move(self, changed: Mapping[int, float | None]) -> None:
        """Set the thresholds of some tiers, by their place in `curves.tiers`."""
        moved = {number: limit for number, limit in changed.items() if self._thresholds[number] != limit}
        for column in sorted({self.curves.column(number) for number in moved}):
            self._add(column, -1)
            for number in self._tiers_of[column]:
                self._thresholds[number] = moved.get(number, self._thresholds[number])
            self._add(column, 1)

    def _add(self, column: int, sign: int) -> None:
        truth = self.curves.rows.truth[:, column]
        acted, any_fired = np.zeros(self._n, dtype=bool), np.zeros(self._n, dtype=bool)
        for number in self._tiers_of[column]:
            limit = self._thresholds[number]
            if limit is None:
                continue
            fires, level = (
                self.curves.reach(number) >= np.float32(limit),
                self._level[self.curves.tiers[number][1].action],
            )
            self._fired[level] += sign * fires.astype(np.int16)
            any_fired |= fires
            if self._acting[level]:
                acted |= fires
        self._wrong += sign * (acted & ~truth).astype(np.int16)
        self._missing -= sign * (any_fired & truth).astype(np.int16)

    def _route_outcomes(self) -> np.ndarray:
        """(n,) int8: the level of the action that a row gets for having no usable scores; −1 where it has them."""
        goals, gated = self.curves.goals, self.curves.gated
        routed = np.where(gated.usable, -1, self._level[REVIEW]).astype(np.int8)
        outcome = self.curves.rows.frame["outcome"].to_numpy(dtype=object)
        for code in set(outcome) - {OK}:
            action = goals.on_quality if code in QUALITY_OUTCOMES else goals.on_outcome.get(code, REVIEW)
            routed[outcome == code] = self._level[action]
        return routed

    def levels(self) -> np.ndarray:
        """(n,) int8: the place, by rising rank, of the action that each row gets."""
        fired = np.full(self._n, -1, dtype=np.int8)
        for place, counts in enumerate(self._fired):
            fired[counts > 0] = place
        level = np.asarray(np.where(fired < 0, np.int8(self._level[self.curves.goals.below]), fired))
        rejection = self._level[self.curves.rejection.action]
        level[self.curves.gated.rejected & (fired <= rejection)] = rejection
        return np.asarray(np.where(self._routed >= 0, self._routed, level))

    def load(self) -> Load:
        """The share of each action and the expected cost, at the mix of production where it can be."""
        level = self.levels()
        rows, kinds = self.curves.rows, self._kinds()
        basis: Basis = (
            "in production" if kinds is not None else ("by weight" if rows.weights is not None else "as counted")
        )
        shares = {action.name: self._share(level == place, kinds) for place, action in enumerate(self._actions)}
        counts = {action.name: int((level == place).sum()) for place, action in enumerate(self._actions)}
        return Load(shares, self._share(self._human[level], kinds), counts, self._n, self._cost(level, kinds), basis)

    def _kinds(self) -> np.ndarray | None:
        """(n,) int: the category that each row shows, K for unknown; None without a mix, or where labels combine."""
        rows = self.curves.rows
        if self.curves.prevalence is None or rows.taxonomy.mode == "multi-label":
            return None
        return np.asarray(np.where(rows.unknown, rows.truth.shape[1], rows.truth.argmax(axis=1)))

    def _share(self, here: np.ndarray, kinds: np.ndarray | None) -> Rate:
        if kinds is None:
            return rate_of(here, np.ones(self._n, dtype=bool), self.curves.rows.weights)
        shares = self._shares_of_kinds()
        trials = np.bincount(kinds, minlength=len(shares))
        events = np.bincount(kinds[here], minlength=len(shares))
        delta = (1 - CONFIDENCE) / 2
        high = mixed_rate_bound(events, trials, shares, delta)
        low = max(0.0, float(shares.sum()) - mixed_rate_bound(trials - events, trials, shares, delta))
        weights = self.curves.weights(0)
        value = float(weights[here].sum() / weights.sum()) if weights is not None else float(here.mean())
        return Rate(value, low, min(1.0, high))

    def _shares_of_kinds(self) -> np.ndarray:
        assert self.curves.prevalence is not None  # noqa: S101 -- the caller has kinds
        taxonomy, shares = self.curves.rows.taxonomy, self.curves.prevalence.shares
        return np.array([shares.get(name, 0.0) for name in (*taxonomy.categories, taxonomy.unknown)])

    def _cost(self, level: np.ndarray, kinds: np.ndarray | None) -> float:
        costs = self.curves.goals.costs
        if costs is None:
            return math.nan
        human = self._human[level]
        mistakes = (
            costs.false_positive * np.where(self._acting[level], self._wrong, 0) + costs.false_negative * self._missing
        )
        each = np.where(human, costs.review, mistakes)
        weights = self.curves.weights(0) if kinds is not None else self.curves.rows.weights
        return float(each.mean() if weights is None else (each * weights).sum() / weights.sum())
