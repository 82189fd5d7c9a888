"""Conformance vectors: cases that any program which applies the policy must decide alike. They travel in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from workbench.decision import decide
from workbench.records import CENSORED, OK, QUALITY_OUTCOMES, Policy, Prediction, Vector

_Case = tuple[str, str, Mapping[str, float | None]]
"""(name, outcome, scores with None for CENSORED; an absent category is MISSING)."""


def conformance_vectors(policy: Policy) -> tuple[Vector, ...]:
    """Every threshold at, above and below; ties, absences, rejection, quality; decided by `decide`."""
    return tuple(_vector(policy, *case) for case in _cases(policy))


def vector_prediction(policy: Policy, vector: Vector) -> Prediction:
    """The prediction that a vector stands for."""
    scores = {name: CENSORED if score is None else score for name, score in vector.scores.items()}
    return Prediction(vector.name, policy.origin, vector.outcome, scores)


def _vector(policy: Policy, name: str, outcome: str, scores: Mapping[str, float | None]) -> Vector:
    vector = Vector(name, outcome, dict(scores), "", ())
    decision = decide(vector_prediction(policy, vector), policy)
    return Vector(name, outcome, dict(scores), decision.action, decision.labels)


def _cases(policy: Policy) -> Iterator[_Case]:
    nothing: dict[str, float | None] = dict.fromkeys(policy.taxonomy.categories)
    if policy.rejection.unknown_label:
        nothing[policy.taxonomy.unknown] = None
    yield "all censored", OK, nothing
    first, *others = policy.taxonomy.categories
    yield f"{first} missing", OK, {name: score for name, score in nothing.items() if name != first}
    yield f"{first} certain", OK, nothing | {first: 1.0}
    for other in others[:1]:
        yield f"{first} and {other} tied", OK, nothing | {first: 1.0, other: 1.0}
        yield f"{first} and {other} both high", OK, nothing | {first: 1.0, other: _next(1.0, -1)}
    if policy.rejection.unknown_label:
        yield "unknown equal to the top", OK, nothing | {first: 1.0, policy.taxonomy.unknown: 1.0}
    for code in QUALITY_OUTCOMES:
        yield f"set aside: {code}", code, {}
    yield "unreadable", "unreadable", {}
    yield from _threshold_cases(policy, nothing)
    yield from _rejection_cases(policy, nothing)


def _threshold_cases(policy: Policy, nothing: dict[str, float | None]) -> Iterator[_Case]:
    for rule in policy.categories:
        for tier in rule.tiers:
            name = f"{rule.category} {tier.action}"
            if tier.threshold is None:
                yield f"{name} refused", OK, nothing | {rule.category: 1.0}
                continue
            for words, steps in (("below", -1), ("at", 0), ("above", 1)):
                score = _next(tier.threshold, steps)
                if 0 <= score <= 1:
                    yield f"{name} {words} threshold", OK, nothing | {rule.category: score}
    for rule in policy.categories:
        flags = [tier.threshold for tier in rule.tiers if tier.scope == "any" and tier.threshold is not None]
        other = next((name for name in policy.taxonomy.categories if name != rule.category), None)
        if flags and other is not None:
            yield f"{rule.category} flagged but tied", OK, nothing | {rule.category: max(flags), other: max(flags)}


def _rejection_cases(policy: Policy, nothing: dict[str, float | None]) -> Iterator[_Case]:
    limit = policy.rejection.threshold
    if policy.rejection.signal == "top" and limit is not None:
        first = policy.taxonomy.categories[0]
        for words, steps in (("below", -1), ("at", 0), ("above", 1)):
            score = _next(limit, steps)
            if 0 <= score <= 1:
                yield f"top {words} rejection threshold", OK, nothing | {first: score}
    if policy.rejection.signal == "entropy":
        share = float(np.float32(1 / len(policy.taxonomy.categories)))
        even: dict[str, float | None] = dict.fromkeys(policy.taxonomy.categories, share)
        yield "evenly spread", OK, nothing | even | {policy.taxonomy.categories[0]: _next(share, 1)}
    if policy.rejection.signal == "margin" and limit is not None and len(policy.taxonomy.categories) > 1:
        first, second = policy.taxonomy.categories[:2]
        yield "margin too small", OK, nothing | {first: 1.0, second: float(np.float32(1 - limit / 2))}


def _next(score: float, steps: int) -> float:
    """The binary32 that many steps (−1, 0 or 1) away."""
    return score if steps == 0 else float(np.nextafter(np.float32(score), np.float32(score + steps)))
