"""Read, check, seal and write a policy file. Standard library only.

The file is the JSON document of `records.Policy` and two more fields: `digests`, SHA-256 over the RFC 8785 canonical
form of each top-level part, and `digest`, the same over all parts together. A file that was edited by hand is refused,
and the part that changed is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from workbench.canonical import binary32, digest
from workbench.documents import escape_pointer, from_document, json_schema, parse_json, to_document, write_document
from workbench.errors import DocumentError
from workbench.records import (
    OUTCOMES,
    REVIEW,
    CategoryRule,
    Draft,
    DraftTier,
    Policy,
    Promise,
    RejectionPromise,
    Tier,
)

SCHEMA_VERSION = "1.0"
_SEAL = ("digests", "digest")

Fault = tuple[str, str]
"""(JSON pointer, what is wrong there)."""


def policy_document(policy: Policy) -> dict[str, Any]:
    """The sealed document of a policy."""
    parts: dict[str, Any] = to_document(policy)
    return {**parts, "digests": {name: digest(part) for name, part in parts.items()}, "digest": digest(parts)}


def write_policy(policy: Policy, path: Path) -> None:
    """Write the policy file, whole or not at all. Raises DocumentError if the policy breaks a rule."""
    for pointer, fault in policy_faults(policy):
        raise DocumentError(pointer, fault)
    write_document(policy_document(policy), path)


def read_policy(path: Path) -> Policy:
    """The policy in a file; every fault is a DocumentError that names the file and the place."""
    try:
        return parse_policy(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DocumentError("", f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DocumentError("", f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
    except DocumentError as error:
        raise DocumentError(error.pointer, f"{error.message} ({path})") from None


def parse_policy(text: str) -> Policy:
    """The policy in a JSON text. Raises DocumentError with the place of the first fault."""
    document = parse_json(text)
    policy, seal = read_shape(document)
    for pointer, fault in [*_seal_faults(document, seal), *policy_faults(policy)]:
        raise DocumentError(pointer, fault)
    if to_document(policy) != {name: part for name, part in document.items() if name not in _SEAL}:
        raise DocumentError("", "a number is not written in its shortest binary32 form")
    return policy


def read_shape(document: Any) -> tuple[Policy, Mapping[str, Any]]:
    """The policy and its seal, checked against the JSON Schema and nothing more."""
    if not isinstance(document, dict):
        raise DocumentError("", "a policy is a JSON object")
    _refuse_newer(document)
    for name in _SEAL:
        if name not in document:
            hint = "; this is a draft: `workbench release` makes a policy of it" if "limits" in document else ""
            raise DocumentError(f"/{name}", f"this field is missing{hint}")
    seal = {name: document[name] for name in _SEAL}
    parts = {name: part for name, part in document.items() if name not in _SEAL}
    policy = from_document(Policy, parts)
    _check_seal_shape(seal, parts)
    return policy, seal


def policy_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a policy file."""
    schema = json_schema(Policy, "workbench policy")
    body = schema["$defs"]["Policy"]
    sha256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    parts = list(body["properties"])
    of_parts = {
        "type": "object",
        "properties": dict.fromkeys(parts, sha256),
        "required": sorted(parts),
        "additionalProperties": False,
    }
    body["properties"] |= {"digests": of_parts, "digest": sha256}
    body["required"] = sorted([*body["required"], *_SEAL])
    return schema


def policy_faults(policy: Policy) -> Iterator[Fault]:
    """The rules that hold between the fields of a policy, each broken one with its place."""
    yield from _action_faults(policy)
    yield from _taxonomy_faults(policy)
    yield from _routing_faults(policy)
    yield from _rejection_faults(policy)
    if len(policy.categories) == len(policy.taxonomy.categories):
        for place, rule in enumerate(policy.categories):
            yield from _tier_faults(policy, rule, f"/categories/{place}")
    yield from _evidence_faults(policy)


def draft_faults(draft: Draft) -> Iterator[str]:
    """What a draft that `tune` wrote never has: more error than its budget, a grid that leads elsewhere, twins."""
    yield from _budget_faults(draft)
    yield from _prevalence_faults(draft)
    places = [(tier.category, tier.action) for tier in draft.tiers]
    if len(set(places)) < len(places) or len({(x.rate, x.source) for x in draft.limits}) < len(draft.limits):
        yield "a promise stands twice"
    for tier in draft.tiers:
        place = f"{tier.category} {tier.action}"
        if tier.category not in draft.taxonomy.categories or all(tier.action != a.name for a in draft.actions):
            yield f"{place}: no such category or action"
        leads = () if tier.metric == "recall" or tier.asked is None else (tier.asked,)
        if tier.grid[-1:] != leads or any(lower >= higher for higher, lower in pairwise(tier.grid)):
            yield f"{place}: its grid must fall strictly and end at the asked threshold"


def _budget_faults(draft: Draft) -> Iterator[str]:
    budget = (1 - draft.confidence) / draft.looks
    spent: dict[str, float] = {}
    for tier in draft.tiers:
        if tier.asked is not None and tier.confidence is None:
            yield "a threshold is asked for without a confidence"
        elif tier.asked is not None and tier.confidence is not None:
            pot = f"those of {tier.category!r}" if draft.budget == "category" else "its promises"
            spent[pot] = spent.get(pot, 0.0) + 1 - tier.confidence
    for limit in draft.limits:
        pot = "those about unknown images" if draft.budget == "category" else "its promises"
        spent[pot] = spent.get(pot, 0.0) + 1 - limit.confidence
    for pot, probability in spent.items():
        if probability > budget * (1 + 1e-9):
            yield f"{pot} may fail with probability {probability:.4g} together; the goals allow {budget:.4g}"


def _prevalence_faults(draft: Draft) -> Iterator[str]:
    if draft.prevalence is None:
        return
    shares, sample = draft.prevalence.shares, draft.prevalence.sample
    single = draft.taxonomy.mode == "single-label"
    needed = (*draft.taxonomy.categories, draft.taxonomy.unknown) if single else draft.taxonomy.categories
    if not set(needed) <= set(shares) or not set(shares) <= {*needed, draft.taxonomy.unknown}:
        yield f"its prevalence must give a share of each of {', '.join(needed)}"
    elif single and abs(math.fsum(shares.values()) - 1) > 1e-6:
        yield f"the shares of its prevalence sum to {math.fsum(shares.values()):.6g}, not to 1"
    total = sum(sample.values())
    if sample and (not total or any(abs(shares.get(name, 0) - n / total) > 1e-9 for name, n in sample.items())):
        yield "the shares of its prevalence are not those of its sample"


def _promise_faults(policy: Policy) -> Iterator[Fault]:
    """Each promise is about a tier of the draft, and its verdict follows from its figures."""
    promises, tiers = policy.evidence.promises, policy.evidence.draft.tiers
    if len(promises) != len(tiers):
        yield "/evidence/promises", "there must be one promise per tier of the draft, in its order"
        return
    for number, (promise, tier) in enumerate(zip(promises, tiers, strict=True)):
        at = f"/evidence/promises/{number}"
        for name in ("category", "action", "metric", "at_least", "scope", "confidence", "asked"):
            if getattr(promise, name) != getattr(tier, name):
                yield f"{at}/{name}", f"is not what the draft asked for (/evidence/draft/tiers/{number}/{name})"
        if promise.successes > promise.trials:
            yield f"{at}/successes", "there are more of them than trials"
        yield from _count_faults(policy, promise, at)
        if promise.verdict == "certified":
            yield from _certified_faults(policy, promise, tier, at)
        elif promise.certified is not None or (promise.verdict == "waived") != tier.waived:
            yield f"{at}/verdict", "does not follow from the figures"


def _count_faults(policy: Policy, promise: Promise, at: str) -> Iterator[Fault]:
    """What was counted fits the certify split as the evidence sums it up, and the method fits the draft."""
    draft, summary = policy.evidence.draft, policy.evidence.summary
    mixed = draft.prevalence is not None and promise.metric == "precision" and promise.asked is not None
    if (promise.method == "prevalence") != mixed or (promise.method == "weights" and draft.prevalence is not None):
        yield f"{at}/method", "does not fit the draft's prevalence"
        return
    if promise.metric == "recall" and promise.asked is not None:
        if promise.trials != summary.by_category.get(promise.category, 0):
            yield f"{at}/trials", "are not the images of the category in /evidence/summary/by_category"
    elif promise.trials > summary.images:
        yield f"{at}/trials", "there are more of them than certify images"
    yield from _kind_faults(policy, promise, at)
    for place, step in enumerate(promise.walk):
        before = promise.walk[place - 1] if place else None
        if not step.successes <= step.events <= summary.images:
            yield f"{at}/walk/{place}", "its counts do not fit each other"
        if before is not None and (step.events < before.events or step.successes < before.successes):
            yield f"{at}/walk/{place}", "counts fewer images than a higher threshold did"


def _kind_faults(policy: Policy, promise: Promise, at: str) -> Iterator[Fault]:
    """At a prevalence, each kind of image is counted as often as the evidence says that there are."""
    taxonomy, summary = policy.taxonomy, policy.evidence.summary
    false = [step.false_by_kind for step in promise.walk]
    if promise.method != "prevalence":
        if promise.kinds or any(false):
            yield f"{at}/kinds", "kinds of images are told apart at a prevalence alone"
        return
    own = summary.by_category.get(promise.category, 0)
    others = {name: summary.by_category.get(name, 0) for name in (*taxonomy.categories, taxonomy.unknown)}
    if taxonomy.mode == "multi-label":
        others = {"other images": summary.images - own}
    others.pop(promise.category, None)
    if list(promise.kinds.items()) != [(promise.category, own), *others.items()]:
        yield f"{at}/kinds", "are not the images of each kind in /evidence/summary/by_category"
        return
    for place, step in enumerate(promise.walk):
        fits = _fit(step.false_by_kind, tuple(others.values()), step.events - step.successes)
        if not fits or step.successes > own:
            yield f"{at}/walk/{place}/false_by_kind", "does not fit the counts"


def _certified_faults(policy: Policy, promise: Promise, tier: DraftTier, at: str) -> Iterator[Fault]:
    if promise.certified is None or promise.confidence is None or promise.lower_bound is None:
        yield f"{at}/certified", "a certified promise has a threshold, a confidence and a bound"
        return
    if promise.lower_bound < promise.at_least - 1e-9:
        yield f"{at}/lower_bound", "lies below the goal that it is said to prove"
    if promise.metric == "precision":
        passed = [step.threshold for step in promise.walk if step.p_value <= 1 - promise.confidence]
        counted = {step.threshold: (step.events, step.successes) for step in promise.walk}
        if [step.threshold for step in promise.walk] != list(tier.grid[: len(promise.walk)]):
            yield f"{at}/walk", "is not the draft's grid"
        if not passed or promise.certified > passed[-1]:
            yield f"{at}/certified", "is no threshold that passed"
        elif promise.certified < passed[-1] and not _inherits(policy, promise):
            yield f"{at}/certified", "lies below the last threshold that passed, and no higher tier stands there"
        elif counted.get(promise.certified) != (promise.trials, promise.successes) and not _inherits(policy, promise):
            yield f"{at}/trials", "are not what the walk counted at the certified threshold"
    elif tier.asked is not None and promise.certified > tier.asked:
        yield f"{at}/certified", "lies above the asked threshold"


def _inherits(policy: Policy, promise: Promise) -> bool:
    """A higher tier of the category stands at the same threshold, with the same figures."""

    def figures(one: Promise) -> tuple[object, ...]:
        return one.metric, one.verdict, one.certified, one.lower_bound, one.trials, one.successes

    rank = policy.rank
    return any(
        figures(other) == figures(promise) and rank.get(other.action, 0) > rank.get(promise.action, 0)
        for other in policy.evidence.promises
        if other.category == promise.category
    )


def _summary_faults(policy: Policy) -> Iterator[Fault]:
    evidence, at = policy.evidence, "/evidence/summary"
    summary, names = evidence.summary, (*policy.taxonomy.categories, policy.taxonomy.unknown)
    if max(summary.answered, summary.known) > summary.images or max(summary.correct, summary.majority) > summary.known:
        yield at, "its counts do not fit each other"
    if set(summary.by_category) != set(names):
        yield f"{at}/by_category", "must count each category, and unknown images"
    elif policy.taxonomy.mode == "single-label" and sum(summary.by_category.values()) != summary.images:
        yield f"{at}/by_category", "does not sum to the images"
    if evidence.look_number > evidence.draft.looks:
        yield "/evidence/look_number", f"no more than {evidence.draft.looks} were planned"


def _limit_faults(policy: Policy) -> Iterator[Fault]:
    found, limits = policy.evidence.rejection, policy.evidence.draft.limits
    if len(found) != len(limits):
        yield "/evidence/rejection", "there must be one promise per limit of the draft, in its order"
        return
    for number, (promise, limit) in enumerate(zip(found, limits, strict=True)):
        at = f"/evidence/rejection/{number}"
        for name in ("rate", "source", "at_most", "confidence"):
            if getattr(promise, name) != getattr(limit, name):
                yield f"{at}/{name}", f"is not what the draft asked for (/evidence/draft/limits/{number}/{name})"
        if promise.events > promise.trials:
            yield f"{at}/events", "there are more of them than trials"
        yield from _limit_count_faults(policy, promise, at)
        if (promise.verdict == "certified") != (promise.upper_bound <= promise.at_most):
            yield f"{at}/verdict", "does not follow from the bound"


def _limit_count_faults(policy: Policy, promise: RejectionPromise, at: str) -> Iterator[Fault]:
    draft, summary, known = policy.evidence.draft, policy.evidence.summary, promise.rate == "known_rejected"
    mixed = draft.prevalence is not None and known and policy.taxonomy.mode == "single-label"
    if (promise.method == "prevalence") != mixed or (promise.method == "weights" and draft.prevalence is not None):
        yield f"{at}/method", "does not fit the draft's prevalence"
    elif promise.trials > summary.images or (known and promise.trials != summary.known):
        yield f"{at}/trials", "are not the images that /evidence/summary counts"
    elif mixed:
        kinds = {name: summary.by_category.get(name, 0) for name in policy.taxonomy.categories}
        if list(promise.kinds.items()) != list(kinds.items()):
            yield f"{at}/kinds", "are not the images of each kind in /evidence/summary/by_category"
        elif not _fit(promise.events_by_kind, tuple(kinds.values()), promise.events):
            yield f"{at}/events_by_kind", "does not fit the counts"
    elif promise.kinds or promise.events_by_kind:
        yield f"{at}/kinds", "kinds of images are told apart at a prevalence alone"


def _fit(counts: tuple[int, ...], most: tuple[int, ...], total: int) -> bool:
    """So many of each kind, none more than there are, and together the total."""
    within = all(count <= limit for count, limit in zip(counts, most, strict=False))
    return len(counts) == len(most) and within and sum(counts) == total


def _refuse_newer(document: dict[str, Any]) -> None:
    version = document.get("schema_version")
    if isinstance(version, str) and version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
        raise DocumentError("/schema_version", f"this program reads version 1 of the policy form, not {version}")


def _check_seal_shape(seal: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    def is_sha256(value: Any) -> bool:
        return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")

    if not is_sha256(seal["digest"]):
        raise DocumentError("/digest", "expected a SHA-256 in hex")
    digests = seal["digests"]
    if not isinstance(digests, dict):
        raise DocumentError("/digests", "expected an object")
    for name in sorted(digests.keys() ^ parts.keys()):
        raise DocumentError(f"/digests/{escape_pointer(name)}", "there must be one digest per top-level part")
    for name, value in digests.items():
        if not is_sha256(value):
            raise DocumentError(f"/digests/{escape_pointer(name)}", "expected a SHA-256 in hex")


def _seal_faults(document: Mapping[str, Any], seal: Mapping[str, Any]) -> Iterator[Fault]:
    parts = {name: part for name, part in document.items() if name not in _SEAL}
    intact = digest(parts) == seal["digest"]
    for name, part in parts.items():
        if digest(part) != seal["digests"][name]:
            where = f"/digests/{name}" if intact else f"/{name}"
            yield where, "changed after the policy was sealed: its digest differs"
    if not intact:
        yield "/digest", "the digest of the whole differs"


def _action_faults(policy: Policy) -> Iterator[Fault]:
    names = [action.name for action in policy.actions]
    ranks = [action.rank for action in policy.actions]
    for place, action in enumerate(policy.actions):
        if action.name in names[:place]:
            yield f"/actions/{place}/name", f"{action.name!r} is declared twice"
        if action.rank in ranks[:place]:
            yield f"/actions/{place}/rank", f"rank {action.rank} is taken"
    if 0 not in ranks:
        yield "/actions", "one action must have rank 0, the one that does nothing"
    if not any(action.name == REVIEW and action.kind == "human" for action in policy.actions):
        yield "/actions", f"there must be a human action called {REVIEW!r}"


def _taxonomy_faults(policy: Policy) -> Iterator[Fault]:
    names = policy.taxonomy.categories
    if not names:
        yield "/taxonomy/categories", "there must be a category"
    for place, name in enumerate(names):
        if name in names[:place]:
            yield f"/taxonomy/categories/{place}", f"{name!r} stands twice"
    if policy.taxonomy.unknown in names:
        yield "/taxonomy/unknown", "the word for unknown cannot be a category"
    if policy.origin.taxonomy != policy.taxonomy.digest:
        yield "/origin/taxonomy", "is not the digest of /taxonomy"
    if tuple(rule.category for rule in policy.categories) != names:
        yield "/categories", "there must be one entry per category of the taxonomy, in its order"


def _routing_faults(policy: Policy) -> Iterator[Fault]:
    routing = policy.routing
    yield from _quiet_faults(policy, routing.below, "/routing/below", silent=True)
    yield from _quiet_faults(policy, routing.on_quality, "/routing/on_quality", silent=False)
    for code, name in routing.on_outcome.items():
        place = f"/routing/on_outcome/{escape_pointer(code)}"
        if code not in OUTCOMES[1:]:
            yield place, f"no such outcome; known: {', '.join(OUTCOMES[1:])}"
        yield from _quiet_faults(policy, name, place, silent=False)


def _quiet_faults(policy: Policy, name: str, place: str, *, silent: bool) -> Iterator[Fault]:
    """No promise covers this place: a human action, or (`silent`) the one that does nothing."""
    action = next((action for action in policy.actions if action.name == name), None)
    if action is None:
        yield place, f"no action is called {name!r}"
    elif action.kind == "automatic" and not (silent and action.rank == 0):
        yield place, f"{name!r} is automatic, and no promise covers it here"


def _rejection_faults(policy: Policy) -> Iterator[Fault]:
    rejection = policy.rejection
    yield from _quiet_faults(policy, rejection.action, "/rejection/action", silent=True)
    if (rejection.signal == "none") != (rejection.threshold is None):
        yield "/rejection/threshold", "a signal has a threshold, and only a signal has one"
    if policy.taxonomy.mode == "multi-label" and rejection.signal in ("margin", "entropy"):
        yield "/rejection/signal", "multi-label images are rejected by their top score only"
    if rejection.signal == "entropy" and not policy.complete:
        yield "/rejection/signal", "entropy needs scores that are a whole distribution"
    if rejection.signal in ("top", "margin") and rejection.threshold is not None and rejection.threshold > 1:
        yield "/rejection/threshold", f"a {rejection.signal} is never above 1"


def _tier_faults(policy: Policy, rule: CategoryRule, where: str) -> Iterator[Fault]:
    below: Tier | None = None
    for place, tier in enumerate(rule.tiers):
        at = f"{where}/tiers/{place}"
        if tier.action not in policy.rank:
            yield f"{at}/action", f"no action is called {tier.action!r}"
            return
        yield from _scope_faults(policy, tier, at)
        if below is not None and policy.rank[tier.action] <= policy.rank[below.action]:
            yield f"{at}/action", "tiers must rise strictly in rank"
        if below is not None and below.scope == "assigned" and tier.scope == "any":
            yield f"{at}/scope", "a higher tier may not have the wider scope"
        below = tier
    thresholds = [(place, tier.threshold) for place, tier in enumerate(rule.tiers) if tier.threshold is not None]
    for (_, lower), (place, higher) in pairwise(thresholds):
        if higher < lower:
            yield f"{where}/tiers/{place}/threshold", "a higher tier's threshold may not be the lower one"


def _scope_faults(policy: Policy, tier: Tier, at: str) -> Iterator[Fault]:
    if policy.rank[tier.action] == 0:
        yield f"{at}/action", "a tier must lead to something; this action has rank 0"
    if policy.taxonomy.mode == "multi-label" and tier.scope == "assigned":
        yield f"{at}/scope", "in multi-label mode every scope is any"
    if policy.taxonomy.mode == "single-label" and tier.scope == "any" and tier.action in policy.automatic:
        yield f"{at}/scope", "an automatic action's scope is assigned"


def _evidence_faults(policy: Policy) -> Iterator[Fault]:
    """Each tier that fires has a certified promise of its own form behind it."""
    for place, rule in enumerate(policy.categories):
        for number, tier in enumerate(rule.tiers):
            at = f"/categories/{place}/tiers/{number}/threshold"
            promises = [p for p in policy.evidence.promises if (p.category, p.action) == (rule.category, tier.action)]
            if len(promises) != 1:
                yield at, "there must be exactly one promise about this tier in the evidence"
                continue
            promise = promises[0]
            if (promise.metric, promise.at_least, promise.scope) != (tier.metric, tier.at_least, tier.scope):
                yield at, "the tier's goal is not the one that the evidence tested"
            if tier.threshold != (promise.certified if promise.verdict == "certified" else None):
                yield at, "the threshold is not the one that the evidence certifies"
    draft = policy.evidence.draft
    for name in ("origin", "complete", "taxonomy", "actions", "rejection", "routing"):
        if getattr(policy, name) != getattr(draft, name):
            yield f"/{name}", f"is not what was tested (/evidence/draft/{name})"
    for fault in draft_faults(draft):
        yield "/evidence/draft", fault
    yield from _summary_faults(policy)
    yield from _promise_faults(policy)
    yield from _limit_faults(policy)
    for number, vector in enumerate(policy.vectors):
        for name, score in vector.scores.items():
            if score is not None and binary32(score) != score:
                yield f"/vectors/{number}/scores/{escape_pointer(name)}", "not a binary32"
