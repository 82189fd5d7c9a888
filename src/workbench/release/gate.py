"""The gate: a draft is tested on the certify split and becomes a policy, or is refused with reasons.

A check is a value to show, not an exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pandas as pd

from workbench.dataset.images import Dataset
from workbench.decision import origin_difference
from workbench.policy import SCHEMA_VERSION, draft_faults
from workbench.predictions import PredictionTable
from workbench.records import CategoryRule, Draft, Evidence, Policy, Promise, RejectionPromise, Tier
from workbench.release.examination import Certify, certify_rows, examine
from workbench.release.vectors import conformance_vectors


@dataclass(frozen=True)
class Check:
    """One thing the gate looked at."""

    name: str
    passed: bool | None
    """None: for information only."""
    text: str


@dataclass(frozen=True)
class Release:
    """What came of a draft."""

    policy: Policy | None
    """None if the gate refused."""
    evidence: Evidence | None
    """What the test showed; None if it could not be made."""
    checks: tuple[Check, ...]

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why there is no policy; empty if there is one."""
        return tuple(f"{check.name}: {check.text}" for check in self.checks if check.passed is False)

    def frame(self) -> pd.DataFrame:
        """One row per promise, rejection promises last."""
        return promise_frame(self.evidence)


def release_draft(
    draft: Draft, table: PredictionTable, dataset: Dataset, *, seed: int = 0, created: datetime | None = None
) -> Release:
    """Test the draft on the certify split of `dataset`, as classified in `table`.

    Raises RunError if the run does not belong to the data set. A recall promise that is refused blocks the policy
    unless the goals waived it; so does a draft of which nothing could be certified.
    """
    checks = list(_entry_checks(draft, table, dataset))
    if any(check.passed is False for check in checks):
        return Release(None, None, tuple(checks))
    certify = certify_rows(draft, table, dataset, seed)
    evidence = examine(draft, certify, seed)
    checks += [*_row_checks(draft, certify), *_promise_checks(evidence)]
    if any(check.passed is False for check in checks):
        return Release(None, evidence, tuple(checks))
    return Release(_policy(draft, evidence, created or datetime.now(UTC)), evidence, tuple(checks))


def promise_frame(evidence: Evidence | None) -> pd.DataFrame:
    """The promises of an evidence as a table; empty with the same columns if there is none."""
    columns = [
        "category",
        "action",
        "goal",
        "asked",
        "certified",
        "bound",
        "counted",
        "confidence",
        "verdict",
        "more labels",
        "reason",
    ]
    rows = [] if evidence is None else [*map(_tier_row, evidence.promises), *map(_limit_row, evidence.rejection)]
    return pd.DataFrame(rows, columns=columns)


def _tier_row(promise: Promise) -> tuple[object, ...]:
    return (
        promise.category,
        promise.action,
        f"{promise.metric} ≥ {promise.at_least:g}",
        promise.asked,
        promise.certified,
        promise.lower_bound,
        f"{promise.successes} of {promise.trials}",
        promise.confidence,
        promise.verdict,
        promise.needed,
        promise.reason,
    )


def _limit_row(promise: RejectionPromise) -> tuple[object, ...]:
    words = promise.rate.replace("_", " ")
    return (
        f"(source {promise.source or 'not named'})" if promise.rate == "unknown_accepted" else "(all known)",
        "reject",
        f"{words} ≤ {promise.at_most:g}",
        None,
        None,
        promise.upper_bound,
        f"{promise.events} of {promise.trials}",
        promise.confidence,
        promise.verdict,
        None,
        promise.reason,
    )


def _entry_checks(draft: Draft, table: PredictionTable, dataset: Dataset) -> Iterator[Check]:
    faults = list(draft_faults(draft))
    yield Check("draft", not faults, "; ".join(faults) or "keeps its rules")
    again = "; run `workbench tune` again"
    difference = origin_difference(table.info.origin, draft.origin, "the draft was made for")
    yield Check(
        "approach", not difference, f"{difference}{again}" if difference else "the one that the draft was made for"
    )
    same = draft.dataset == dataset.digest
    changed = f"images, labels or splits have changed since the draft was made{again}"
    yield Check("data set", same, "images and labels are those the draft was made on" if same else changed)
    certify = dataset.on("certify")
    yield Check("certify split", len(certify) > 0, f"{len(certify)} images")
    unlabelled = int(certify.frame["labels"].isna().sum())
    if unlabelled:
        words = (
            f"{unlabelled} certify images have no label and do not count; if the hard ones were left out, nothing holds"
        )
        yield Check("labels", None, words)
    weights = certify.frame["weight"]
    even = bool((weights == weights.iloc[0]).all()) if len(weights) else True
    words = (
        "all the same"
        if even
        else "they differ: the set was not sampled evenly, and exact-binomial tests would not hold"
    )
    yield Check("weights", even, words)
    conflicts = _conflicts(certify)
    shown = (
        "none" if not conflicts else f"{len(conflicts)} pictures carry two different labels: {', '.join(conflicts[:3])}"
    )
    yield Check("label conflicts", not conflicts, shown)


def _conflicts(certify: Dataset) -> list[str]:
    """Image ids of pictures that stand in the certify split twice, byte for byte, with different labels."""
    frame = pd.DataFrame(
        {"content": certify.contents, "labels": certify.frame["labels"], "id": certify.frame["image_id"]}
    )
    frame = frame[(frame["content"] != "") & frame["labels"].notna()]
    differing = frame.groupby("content")["labels"].nunique()
    repeated = frame[frame["content"].isin(differing.index[differing > 1])]
    return [str(image_id) for image_id in repeated.drop_duplicates("content")["id"]]


def _row_checks(draft: Draft, certify: Certify) -> Iterator[Check]:
    yield Check(
        "independence",
        None,
        f"{len(certify.rows)} images count; {certify.set_aside} set aside (same group, or seen before)",
    )
    foreseen = {limit.source for limit in draft.limits if limit.rate == "unknown_accepted"}
    found = set(certify.rows.frame["source"][certify.rows.unknown])
    if foreseen and found - foreseen:
        names = ", ".join(repr(name) for name in sorted(found - foreseen))
        yield Check("unknown sources", None, f"no promise covers unknown images of source {names}: tune has none")


def _promise_checks(evidence: Evidence) -> Iterator[Check]:
    for promise in evidence.promises:
        if promise.metric == "recall" and promise.verdict == "refused":
            words = f"recall ≥ {promise.at_least:g} is refused: {promise.reason}; waive it in the goals to export"
            yield Check(f"recall of {promise.category}", False, words)
    certified = sum(promise.verdict == "certified" for promise in evidence.promises)
    yield Check("promises", certified > 0, f"{certified} of {len(evidence.promises)} thresholds certified")


def _policy(draft: Draft, evidence: Evidence, created: datetime) -> Policy:
    thresholds = {(promise.category, promise.action): promise.certified for promise in evidence.promises}
    rules = [
        CategoryRule(
            category,
            tuple(
                Tier(tier.action, tier.metric, tier.at_least, tier.scope, thresholds[category, tier.action])
                for tier in draft.tiers
                if tier.category == category
            ),
        )
        for category in draft.taxonomy.categories
    ]
    policy = Policy(
        schema_version=SCHEMA_VERSION,
        created=created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        origin=draft.origin,
        complete=draft.complete,
        taxonomy=draft.taxonomy,
        actions=draft.actions,
        categories=tuple(rules),
        rejection=draft.rejection,
        routing=draft.routing,
        evidence=evidence,
        vectors=(),
    )
    return replace(policy, vectors=conformance_vectors(policy))
