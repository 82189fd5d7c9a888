"""Verify a policy: its own cases, and every figure of its evidence against the run and the data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose
from typing import Any

from workbench.dataset.images import Dataset
from workbench.documents import escape_pointer, to_document
from workbench.evaluation.intervals import lower_bound, upper_bound, upper_tail
from workbench.evaluation.prevalence import precision_bound, precision_p_values
from workbench.evaluation.production import promise_counts
from workbench.predictions import PredictionTable
from workbench.records import Policy, Promise, RejectionPromise
from workbench.release.examination import Certify, certify_rows, examine, known_rejected_bound, look_digest
from workbench.release.ledger import Ledger, Look, claim_look, counted_rows
from workbench.release.vectors import conformance_vectors


@dataclass(frozen=True)
class Difference:
    """A place where a policy does not say what is so."""

    pointer: str
    stated: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.pointer}: states {self.stated!r}, found {self.found!r}"


def verify_vectors(policy: Policy) -> list[Difference]:
    """Every conformance vector that is not what the policy's own rule makes of it, missing ones included."""
    expected = conformance_vectors(policy)
    return list(_differences(to_document(policy)["vectors"], [to_document(vector) for vector in expected], "/vectors"))


def verify_counts(policy: Policy) -> list[Difference]:
    """Every p-value and bound of the evidence that does not follow from its counts."""
    stated: list[tuple[str, float | None, float]] = []
    for number, promise in enumerate(policy.evidence.promises):
        at = f"/evidence/promises/{number}"
        if promise.method == "weights" or promise.confidence is None:
            continue  # betting looks at each image: only `verify_evidence` has them
        for place, p_value in enumerate(_p_values(policy, promise)):
            stated.append((f"{at}/walk/{place}/p_value", promise.walk[place].p_value, p_value))
        if promise.verdict == "certified" and not _inherits(promise):
            stated.append((f"{at}/lower_bound", promise.lower_bound, _bound(policy, promise)))
    for number, limit in enumerate(policy.evidence.rejection):
        if limit.method != "weights":
            at = f"/evidence/rejection/{number}/upper_bound"
            stated.append((at, limit.upper_bound, _limit_bound(policy, limit)))
    return [Difference(at, said, found) for at, said, found in stated if said is None or not isclose(said, found)]


def _p_values(policy: Policy, promise: Promise) -> list[float]:
    if promise.method == "prevalence" and promise.walk:
        counts, mix = promise_counts(policy.evidence.draft, promise)
        return list(map(float, precision_p_values(counts, mix, promise.at_least)))
    return [
        float(upper_tail(step.successes, step.events, promise.at_least)) if step.events else 1.0
        for step in promise.walk
    ]


def _bound(policy: Policy, promise: Promise) -> float:
    delta = 1 - (promise.confidence or 0)
    if promise.method == "prevalence":
        counts, mix = promise_counts(policy.evidence.draft, promise)
        place = [step.threshold for step in promise.walk].index(promise.certified or 0)
        return float(precision_bound(counts.at(slice(place, place + 1)), mix, delta)[0])
    return float(lower_bound(promise.successes, promise.trials, delta))


def _limit_bound(policy: Policy, limit: RejectionPromise) -> float:
    delta, draft = 1 - limit.confidence, policy.evidence.draft
    if limit.method == "prevalence" and draft.prevalence is not None:
        unknown = draft.taxonomy.unknown
        return known_rejected_bound(draft.prevalence, limit.kinds, limit.events_by_kind, unknown, delta)
    return float(upper_bound(limit.events, limit.trials, delta))


def _inherits(promise: Promise) -> bool:
    """A precision tier that was lowered to the next one's threshold carries that one's counts and bound."""
    passed = [step.threshold for step in promise.walk if step.p_value <= 1 - (promise.confidence or 0)]
    return promise.metric == "precision" and promise.certified not in passed


def verify_evidence(
    policy: Policy, table: PredictionTable, dataset: Dataset, ledger: Ledger | None = None
) -> list[Difference]:
    """Every figure of the evidence that the run and the data set do not give again.

    Nothing is shown of a look but the policy's own. If `ledger`, by default that of the data set, does not know it, as
    in another place than that of the release, it is a look like any other: it is recorded, or not allowed where earlier
    looks have spent too much, and then no figure is shown either. A look that left out what earlier looks had counted
    is repeated with what the ledger remembers of it. Raises RunError if the run is not of this data set, InputError if
    that ledger cannot be used.
    """
    identity = [
        *_differences(to_document(policy.origin), to_document(table.info.origin), "/origin"),
        *_differences(policy.evidence.draft.dataset, dataset.digest, "/evidence/draft/dataset"),
    ]
    if identity:
        return identity
    draft, seed = policy.evidence.draft, policy.evidence.seed
    book = ledger or Ledger.of(dataset)
    look = book.find(policy.evidence.look)
    certify = counted_then(policy, certify_rows(draft, table, dataset, seed), look)
    if look_digest(draft, certify, seed) != policy.evidence.look:
        return [Difference("/evidence/look", policy.evidence.look, _another_look(policy, certify))]
    if look is None:
        claim = claim_look(book, draft, certify, dataset, seed, policy.evidence.look_number)
        if claim.refusal:
            told = f"a look that is not on file here, and is not allowed: {claim.refusal}"
            return [Difference("/evidence/look", policy.evidence.look, told)]
        look = claim.look
        book.conclude(look.digest, policy.digest)
    evidence = examine(draft, certify, seed, look.number)
    return list(_differences(to_document(policy.evidence), to_document(evidence), "/evidence"))


def _another_look(policy: Policy, certify: Certify) -> str:
    stated = policy.evidence.summary
    if len(certify.rows) != stated.images and len(certify.rows) + certify.set_aside == stated.images + stated.set_aside:
        return (
            f"{len(certify.rows)} images count here, {stated.images} did then: earlier looks had counted the others. "
            "Which those are stands in the ledger of the place of the release; it is not here"
        )
    return "another look: nothing of it is shown"


def counted_then(policy: Policy, certify: Certify, look: Look | None) -> Certify:
    """The rows that the policy's look counted: all of `certify`, or those that its record in the ledger names."""
    draft, seed = policy.evidence.draft, policy.evidence.seed
    if look is None or look_digest(draft, certify, seed) == look.digest:
        return certify
    return counted_rows(look, certify, draft)


def _differences(stated: Any, found: Any, pointer: str) -> Iterator[Difference]:
    if isinstance(stated, dict) and isinstance(found, dict):
        for key in [*stated, *(key for key in found if key not in stated)]:
            yield from _differences(stated.get(key), found.get(key), f"{pointer}/{escape_pointer(key)}")
    elif isinstance(stated, list) and isinstance(found, list) and len(stated) == len(found):
        for place, (one, other) in enumerate(zip(stated, found, strict=True)):
            yield from _differences(one, other, f"{pointer}/{place}")
    elif stated != found:
        yield Difference(pointer, stated, found)
