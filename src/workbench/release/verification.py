"""Verify a policy: its own cases, and every figure of its evidence against the run and the data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workbench.dataset.images import Dataset
from workbench.decision import decide
from workbench.documents import escape_pointer, to_document
from workbench.predictions import PredictionTable
from workbench.records import Policy
from workbench.release.examination import certify_rows, examine
from workbench.release.vectors import vector_prediction


@dataclass(frozen=True)
class Difference:
    """A place where a policy does not say what is so."""

    pointer: str
    stated: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.pointer}: states {self.stated!r}, found {self.found!r}"


def verify_vectors(policy: Policy) -> list[Difference]:
    """Every conformance vector that `decide` decides otherwise."""
    differences = []
    for place, vector in enumerate(policy.vectors):
        decision = decide(vector_prediction(policy, vector), policy)
        stated, found = (vector.action, vector.labels), (decision.action, decision.labels)
        if stated != found:
            differences.append(Difference(f"/vectors/{place}", stated, found))
    return differences


def verify_evidence(policy: Policy, table: PredictionTable, dataset: Dataset) -> list[Difference]:
    """Every figure of the evidence that the run and the data set do not give again.

    Raises RunError if the run is not of this data set.
    """
    identity = [
        *_differences(to_document(policy.origin), to_document(table.info.origin), "/origin"),
        *_differences(policy.evidence.draft.dataset, dataset.digest, "/evidence/draft/dataset"),
    ]
    if identity:
        return identity
    draft, seed = policy.evidence.draft, policy.evidence.seed
    evidence = examine(draft, certify_rows(draft, table, dataset, seed), seed)
    return list(_differences(to_document(policy.evidence), to_document(evidence), "/evidence"))


def _differences(stated: Any, found: Any, pointer: str) -> Iterator[Difference]:
    if isinstance(stated, dict) and isinstance(found, dict):
        for key in [*stated, *(key for key in found if key not in stated)]:
            yield from _differences(stated.get(key), found.get(key), f"{pointer}/{escape_pointer(key)}")
    elif isinstance(stated, list) and isinstance(found, list) and len(stated) == len(found):
        for place, (one, other) in enumerate(zip(stated, found, strict=True)):
            yield from _differences(one, other, f"{pointer}/{place}")
    elif stated != found:
        yield Difference(pointer, stated, found)
