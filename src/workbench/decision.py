"""The one rule: `decide(prediction, policy) -> Decision`. Pure, standard library only.

What is evaluated (`evaluation.simulate`, the same rule over a whole table) and what production runs is this. It fails
towards people: whatever is not exactly what the policy was tested on goes to review.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from workbench.canonical import binary32, shortest_binary32
from workbench.errors import IdentityError
from workbench.records import (
    CENSORED,
    OK,
    QUALITY_OUTCOMES,
    REVIEW,
    Decision,
    Mark,
    Origin,
    Policy,
    Prediction,
    Rejection,
)


def decide(prediction: Prediction, policy: Policy, *, strict: bool = False) -> Decision:
    """What to do with one image.

    Scores are rounded to binary32 first. With `strict`, a prediction of another approach, model version, preparation
    or taxonomy raises IdentityError; otherwise it goes to review.
    """
    difference = origin_difference(prediction.origin, policy.origin)
    if difference and strict:
        raise IdentityError(f"image {prediction.image_id!r}: {difference}")
    if difference:
        return _unmarked(prediction, policy, REVIEW, "origin", difference)
    if prediction.outcome in QUALITY_OUTCOMES:
        return _unmarked(prediction, policy, policy.routing.on_quality, "quality", _told(prediction))
    if prediction.outcome != OK:
        action = policy.routing.on_outcome.get(prediction.outcome, REVIEW)
        return _unmarked(prediction, policy, action, "outcome", _told(prediction))
    return _decide_scores(prediction, policy)


def _decide_scores(prediction: Prediction, policy: Policy) -> Decision:
    taxonomy, rejection = policy.taxonomy, policy.rejection
    expected = (*taxonomy.categories, taxonomy.unknown) if rejection.unknown_label else taxonomy.categories
    scores = {name: _rounded(score) for name, score in prediction.scores.items() if not math.isnan(score)}
    for name in expected:
        if name not in scores:
            return _unmarked(prediction, policy, REVIEW, "missing", f"no score for {name!r}")
        if not (0 <= scores[name] <= 1 or scores[name] == CENSORED):
            return _unmarked(
                prediction, policy, REVIEW, "missing", f"score {scores[name]} of {name!r} is not in [0, 1]"
            )
    if len(prediction.scores) > len(expected):
        name = next(name for name in prediction.scores if name not in expected)
        return _unmarked(
            prediction, policy, REVIEW, "unlisted", f"a score for {name!r}, which the policy does not list"
        )

    unknown_score = scores[taxonomy.unknown] if rejection.unknown_label else None
    known = [scores[name] for name in taxonomy.categories]
    single = taxonomy.mode == "single-label"
    best = max(known)
    top = taxonomy.categories[known.index(best)] if single and best != CENSORED and known.count(best) == 1 else None
    why_rejected = _why_rejected(known, top, unknown_score, rejection, single)
    marks = _marks(scores, top, why_rejected is not None, policy)
    return _conclude(prediction, policy, scores, top, why_rejected, marks)


def _why_rejected(
    known: list[float], top: str | None, unknown_score: float | None, rejection: Rejection, single: bool
) -> str | None:
    best = max(known)
    if single and top is None:
        return "no category is the one highest"
    if unknown_score is not None and unknown_score >= best:
        return f"{_shown(unknown_score)} for none of the categories ≥ {_shown(best)}"
    if rejection.threshold is None or rejection.signal == "none":
        return None
    value = signal_value(known, rejection.signal)
    limit = rejection.threshold
    if rejection.signal == "entropy":
        return f"entropy {value:.6g} > {_shown(limit)}" if value > limit else None
    return f"{rejection.signal} {_shown(value)} < {_shown(limit)}" if value < limit else None


def signal_value(known: list[float], signal: str) -> float:
    """The rejection signal over the known scores (binary32), itself a binary32.

    top: the highest. margin: the highest minus the second highest; a CENSORED runner-up counts as 0, and so does one
    that does not exist. entropy: −Σ p·ln p in nats, in taxonomy order, where 0 and CENSORED contribute nothing.
    """
    if signal == "entropy":
        return binary32(-math.fsum(score * math.log(score) for score in known if score > 0))
    ranked = sorted(known, reverse=True)
    if signal == "top":
        return ranked[0]
    if signal != "margin":
        raise ValueError(f"there is no signal {signal!r}")
    second = ranked[1] if len(ranked) > 1 else 0.0
    return binary32(ranked[0] - max(second, 0.0))


def _marks(scores: Mapping[str, float], top: str | None, rejected: bool, policy: Policy) -> list[Mark]:
    """Every tier that fired, by rank (falling), score (falling), then the policy's order."""
    return sorted(_fired(scores, top, rejected, policy), key=lambda mark: (-mark.rank, -mark.score))


def _fired(scores: Mapping[str, float], top: str | None, rejected: bool, policy: Policy) -> Iterator[Mark]:
    single = policy.taxonomy.mode == "single-label"
    for rule in policy.categories:
        score = scores[rule.category]
        for tier in rule.tiers:
            if tier.threshold is None or score < tier.threshold:
                continue
            if single and tier.scope == "assigned" and (rejected or rule.category != top):
                continue
            if rejected and not single and tier.action in policy.automatic:
                continue
            yield Mark(rule.category, tier.action, policy.rank[tier.action], tier.scope, score, tier.threshold)


def _conclude(
    prediction: Prediction,
    policy: Policy,
    scores: Mapping[str, float],
    top: str | None,
    why_rejected: str | None,
    marks: list[Mark],
) -> Decision:
    labels = _labels(policy, why_rejected is not None, marks)
    first = marks[0] if marks else None
    if why_rejected is not None and (first is None or first.rank <= policy.rank[policy.rejection.action]):
        reason = f"rejected: {why_rejected}"
        return _decision(prediction, policy, policy.rejection.action, labels, marks, "rejected", reason)
    if first is not None:
        reason = f"{first.category} {_shown(first.score)} ≥ {_shown(first.threshold)}"
        return _decision(prediction, policy, first.action, labels, marks, "fired", reason)
    reason = _why_below(policy, scores, top)
    return _decision(prediction, policy, policy.routing.below, labels, marks, "below", reason)


def _labels(policy: Policy, rejected: bool, marks: list[Mark]) -> tuple[str, ...]:
    multi = policy.taxonomy.mode == "multi-label"
    told = {mark.category for mark in marks if multi or mark.scope == "assigned"}
    labels = tuple(name for name in policy.taxonomy.categories if name in told)
    return labels or ((policy.taxonomy.unknown,) if rejected else ())


def _why_below(policy: Policy, scores: Mapping[str, float], top: str | None) -> str:
    name = top or max(policy.taxonomy.categories, key=lambda category: scores[category])
    rule = next(rule for rule in policy.categories if rule.category == name)
    thresholds = [tier.threshold for tier in rule.tiers if tier.threshold is not None]
    if not thresholds:
        return f"{name} {_shown(scores[name])}: no certified threshold"
    return f"{name} {_shown(scores[name])} < {_shown(min(thresholds))}"


def origin_difference(found: Origin | None, expected: Origin, made_for: str = "the policy was tested on") -> str | None:
    """In words, where two origins differ first; None if they are the same."""
    if found == expected:
        return None
    if found is None:
        return "the prediction does not say where it comes from"
    for field, words in (
        ("approach", "approach"),
        ("model_version", "model version"),
        ("preparation", "preparation"),
        ("taxonomy", "taxonomy"),
        ("fingerprint", "approach settings (fingerprint)"),
    ):
        is_, wanted = getattr(found, field), getattr(expected, field)
        if is_ != wanted:
            return f"{words} is {is_}, {made_for} {wanted}"
    raise AssertionError("two origins that differ differ in a field")


def _unmarked(prediction: Prediction, policy: Policy, action: str, code: str, reason: str) -> Decision:
    return _decision(prediction, policy, action, (), [], code, reason)


def _decision(
    prediction: Prediction,
    policy: Policy,
    action: str,
    labels: tuple[str, ...],
    marks: list[Mark],
    code: str,
    reason: str,
) -> Decision:
    return Decision(prediction.image_id, action, labels, tuple(marks), code, reason, policy.digest)  # type: ignore[arg-type]


def _told(prediction: Prediction) -> str:
    return f"{prediction.outcome}: {prediction.detail}" if prediction.detail else prediction.outcome


def _rounded(score: float) -> float:
    return binary32(score) if abs(score) <= 1e6 else score  # far outside [0, 1]; refused as it is


def _shown(score: float) -> str:
    return "below its floor" if score == CENSORED else f"{shortest_binary32(score):.9g}"
