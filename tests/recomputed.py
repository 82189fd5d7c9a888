"""The evidence of a single-label policy, recomputed with pandas, SciPy and scikit-learn alone.

Nothing of the package is used: a policy is the JSON document of its file, a run the columns of its table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import beta, binom
from sklearn.metrics import confusion_matrix


@dataclass(frozen=True, eq=False)
class Rows:
    """The certify rows that count, under the policy's rejection rule (signal `top`)."""

    table: pd.DataFrame
    """`label` (text, the word for unknown included), `source`, and `score:<category>`."""
    categories: list[str]
    top: np.ndarray
    """(n,) text: the category with the highest score."""
    rejected: np.ndarray
    """(n,) bool"""
    known: np.ndarray
    """(n,) bool"""

    def reach(self, promise: Mapping[str, Any]) -> np.ndarray:
        """(n,) the score with which a row counts for this promise; −1 where it never does."""
        own = self.table[f"score:{promise['category']}"].to_numpy()
        here = (self.top == promise["category"]) & ~self.rejected
        return np.where(here, own, np.float32(-1)) if promise["scope"] == "assigned" else own

    def shows(self, promise: Mapping[str, Any]) -> np.ndarray:
        """(n,) bool: the row is labelled with the promise's category."""
        return (self.table["label"] == promise["category"]).to_numpy()


def check_evidence(table: pd.DataFrame, policy: Mapping[str, Any]) -> None:
    """Assert that every figure of the policy's evidence is what these certify rows give."""
    assert ("single-label", "top") == (policy["taxonomy"]["mode"], policy["rejection"]["signal"])
    rows = _rows(table, policy)
    evidence = policy["evidence"]
    prevalence = evidence["draft"]["prevalence"]
    shares = prevalence["shares"] if prevalence else None
    for promise in evidence["promises"]:
        check = _check_precision if promise["metric"] == "precision" else _check_recall
        check(promise, rows, shares)
        if promise["verdict"] == "certified" and promise["method"] == "counts":
            successes, trials = promise["successes"], promise["trials"]
            bound = beta.ppf(1 - promise["confidence"], successes, trials - successes + 1)
            assert bound == promise["lower_bound"]
        if promise["verdict"] == "certified":
            assert promise["at_least"] <= promise["lower_bound"]
    for limit in evidence["rejection"]:
        _check_limit(limit, rows, evidence["draft"])
    _check_summary(evidence["summary"], rows)


def _rows(table: pd.DataFrame, policy: Mapping[str, Any]) -> Rows:
    categories = policy["taxonomy"]["categories"]
    scores = table[[f"score:{name}" for name in categories]].to_numpy(dtype=np.float32)
    return Rows(
        table,
        categories,
        np.array(categories)[scores.argmax(axis=1)],
        scores.max(axis=1) < np.float32(policy["rejection"]["threshold"]),
        (table["label"] != policy["taxonomy"]["unknown"]).to_numpy(),
    )


@dataclass(frozen=True, eq=False)
class Mixed:
    """One category's images at or above a threshold, in a world where each label has a share of its own."""

    share: float
    hits: int
    positives: int
    others: np.ndarray
    """(m,) the share of each other label"""
    false: np.ndarray
    negatives: np.ndarray

    def false_excluded(self, rate: float) -> float:
        """How improbable so few false ones are if all together came to `rate` of arriving images."""
        each = self.others / self.negatives
        largest, count = each.max(), self.negatives.sum()
        mean, limit = (each * self.false).sum() / largest / count, rate / largest / count
        if limit >= 1:
            return 0.0
        low = min(mean, limit)
        exponent = (low * np.log(low / limit) if low else 0.0) + (1 - low) * np.log((1 - low) / (1 - limit))
        errors = np.ceil(np.round(mean * count, 6))
        return float(min(1.0, np.exp(-count * exponent), np.e * binom.cdf(errors, count, limit)))

    def proves(self, goal: float, delta: float) -> bool:
        """Whether precision is at least the goal: recall and the false ones each at half of delta."""
        recall = beta.ppf(delta / 2, self.hits, self.positives - self.hits + 1) if self.hits else 0.0
        return recall > 0 and self.false_excluded(self.share * recall * (1 - goal) / goal) <= delta / 2

    def bound(self, delta: float) -> float:
        """The lowest precision that is not excluded."""
        recall = beta.ppf(delta / 2, self.hits, self.positives - self.hits + 1)
        false = brentq(lambda rate: self.false_excluded(rate) - delta / 2, 1e-9, self.others.sum(), xtol=1e-14)
        return float(self.share * recall / (self.share * recall + false))


def _mixed(promise: Mapping[str, Any], step: Mapping[str, Any], rows: Rows, shares: Mapping[str, float]) -> Mixed:
    at = rows.reach(promise) >= np.float32(step["threshold"])
    labels = rows.table["label"].to_numpy()
    names = [name for name in promise["kinds"] if name != promise["category"]]
    assert {name: int((labels == name).sum()) for name in promise["kinds"]} == promise["kinds"]
    false = np.array([(at & (labels == name)).sum() for name in names])
    assert false.tolist() == step["false_by_kind"]
    return Mixed(
        shares[promise["category"]],
        int((at & (labels == promise["category"])).sum()),
        int((labels == promise["category"]).sum()),
        np.array([shares[name] for name in names]),
        false,
        np.array([(labels == name).sum() for name in names]),
    )


def _check_precision(promise: Mapping[str, Any], rows: Rows, shares: Mapping[str, float] | None) -> None:
    """The walk, step by step; it goes on while a step passes, and the last that passed is what was certified."""
    reach, shows, delta = rows.reach(promise), rows.shows(promise), 1 - promise["confidence"]
    assert ("counts" if shares is None else "prevalence") == promise["method"]
    for step in promise["walk"]:
        at = reach >= np.float32(step["threshold"])
        assert (at.sum(), (at & shows).sum()) == (step["events"], step["successes"])
        if shares is None:
            assert step["p_value"] == binom.sf(step["successes"] - 1, step["events"], promise["at_least"])
            continue
        mixed, p_value = _mixed(promise, step, rows, shares), step["p_value"]
        assert p_value > 0.99 or mixed.proves(promise["at_least"], p_value * (1 + 1e-6))
        assert p_value < 1e-10 or not mixed.proves(promise["at_least"], p_value * (1 - 1e-6))
        if step["threshold"] == promise["certified"]:
            assert abs(mixed.bound(delta) - promise["lower_bound"]) < 1e-9
    passed = [step for step in promise["walk"] if step["p_value"] <= delta]
    assert passed == promise["walk"][: len(passed)]
    assert len(promise["walk"]) - len(passed) <= 1
    assert promise["certified"] == (passed[-1]["threshold"] if passed else None)
    counted = passed[-1] if passed else promise["walk"][0]
    assert (counted["events"], counted["successes"]) == (promise["trials"], promise["successes"])


def _check_recall(promise: Mapping[str, Any], rows: Rows, _: Mapping[str, float] | None) -> None:
    """The highest score at which so many images of the category are found that the bound holds, or the asked one."""
    positives = np.sort(rows.reach(promise)[rows.shows(promise)])[::-1]
    found = np.arange(1, len(positives) + 1)
    bounds = beta.ppf(1 - promise["confidence"], found, len(positives) - found + 1)
    highest = positives[bounds >= promise["at_least"]][0]
    assert np.float32(promise["certified"]) == min(highest, np.float32(promise["asked"]))
    fires = positives >= np.float32(promise["certified"])
    assert (len(positives), fires.sum()) == (promise["trials"], promise["successes"])


def _check_limit(limit: Mapping[str, Any], rows: Rows, draft: Mapping[str, Any]) -> None:
    among, event = rows.known, rows.rejected
    if limit["rate"] == "unknown_accepted":
        among = ~rows.known & (rows.table["source"] == limit["source"]).to_numpy()
        tiers = [tier for tier in draft["tiers"] if tier["scope"] == "assigned" and tier["asked"] is not None]
        event = np.any([rows.reach(tier) >= np.float32(tier["asked"]) for tier in tiers], axis=0)
    events, trials = int((among & event).sum()), int(among.sum())
    assert (events, trials) == (limit["events"], limit["trials"])
    if limit["method"] == "prevalence":
        shares = draft["prevalence"]["shares"]
        labels = rows.table["label"].to_numpy()
        assert {name: int((labels == name).sum()) for name in limit["kinds"]} == limit["kinds"]
        rejected = np.array([(event & (labels == name)).sum() for name in limit["kinds"]])
        assert rejected.tolist() == limit["events_by_kind"]
        weights = np.array([shares[name] for name in limit["kinds"]])
        mixed = Mixed(0.0, 0, 0, weights, rejected, np.array(list(limit["kinds"].values())))
        delta = 1 - limit["confidence"]
        highest = brentq(lambda rate: mixed.false_excluded(rate) - delta, 1e-9, weights.sum(), xtol=1e-14)
        assert abs(highest / weights.sum() - limit["upper_bound"]) < 1e-9
    else:
        assert limit["upper_bound"] == beta.ppf(limit["confidence"], events + 1, trials - events)
    assert (limit["verdict"] == "certified") == (limit["upper_bound"] <= limit["at_most"])


def _check_summary(summary: Mapping[str, Any], rows: Rows) -> None:
    truth, told = rows.table["label"][rows.known], rows.top[rows.known]
    matrix = confusion_matrix(truth, told, labels=rows.categories)
    counted = (matrix.sum(), np.trace(matrix), matrix.sum(axis=1).max())
    assert counted == (summary["known"], summary["correct"], summary["majority"])
    assert rows.table["label"].value_counts().to_dict() == {k: n for k, n in summary["by_category"].items() if n}
