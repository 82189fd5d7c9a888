"""The gate: a draft is tested on the certify split and becomes a policy, or is refused with reasons.

A check is a value to show, not an exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd

from workbench.dataset.images import Dataset
from workbench.decision import origin_difference
from workbench.policy import SCHEMA_VERSION, draft_faults
from workbench.predictions import PredictionTable
from workbench.records import OK, CategoryRule, Draft, Evidence, Policy, Promise, RejectionPromise, Tier
from workbench.release.examination import Certify, certify_rows, examine
from workbench.release.ledger import REFUSED, Claim, Ledger, Look, claim_look
from workbench.release.vectors import conformance_vectors

_LEAST_COMPARED = 50
"""Labelled, and unlabelled, images below which their scores are not compared."""

_SCORE_SAMPLED = 1e-3
"""The p-value below which the labelled images were not chosen at random."""


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
    look: Look | None = None
    """As the ledger has it; None if the draft never came to be tested."""
    replayed: bool = False
    """The same look was recorded before, so this one was free."""

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why there is no policy; empty if there is one."""
        return tuple(f"{check.name}: {check.text}" for check in self.checks if check.passed is False)

    def frame(self) -> pd.DataFrame:
        """One row per promise, rejection promises last."""
        return promise_frame(self.evidence)


def release_draft(
    draft: Draft,
    table: PredictionTable,
    dataset: Dataset,
    *,
    seed: int = 0,
    created: datetime | None = None,
    ledger: Ledger | None = None,
    made: str = "",
) -> Release:
    """Test the draft on the certify split of `dataset`, as classified in `table`.

    The look is recorded in `ledger`, by default the one of the data set, before any label is judged. `made` is the day
    (ISO 8601) on which the model was made, where that is known.

    Raises RunError if the run does not belong to the data set, InputError if the ledger cannot be used. A recall
    promise that is refused blocks the policy unless the goals waived it; so does a draft of which nothing could be
    certified.
    """
    checks = [*_entry_checks(draft, table, dataset), *_set_checks(table, dataset.on("certify"), made)]
    if any(check.passed is False for check in checks):
        return Release(None, None, tuple(checks))
    book = ledger or Ledger.of(dataset)
    claim = claim_look(book, draft, certify_rows(draft, table, dataset, seed), dataset, seed)
    checks += _look_checks(claim)
    if claim.refusal:
        return Release(None, None, tuple(checks), claim.look)
    evidence = examine(draft, claim.certify, seed, claim.look.number)
    checks += [*_row_checks(draft, claim.certify), *_promise_checks(evidence)]
    passed = all(check.passed is not False for check in checks)
    policy = _policy(draft, evidence, created or datetime.now(UTC)) if passed else None
    book.conclude(claim.look.digest, policy.digest if policy else REFUSED)
    return Release(policy, evidence, tuple(checks), claim.look, claim.replayed)


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
    whole = pd.Series([row[columns.index("more labels")] for row in rows], dtype=object)
    return pd.DataFrame(rows, columns=columns).assign(**{"more labels": whole})


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
    if not even and draft.prevalence is not None:
        words = "they differ, and the goals give a prevalence: weighted images have the mix of production already"
        yield Check("weights", False, words)
    elif not even:
        words = "they differ, so each image counts for what it stands for; bounds are wider than for plain counts"
        yield Check("weights", None, words)
    conflicts = _conflicts(certify)
    shown = (
        "none" if not conflicts else f"{len(conflicts)} pictures carry two different labels: {', '.join(conflicts[:3])}"
    )
    yield Check("label conflicts", not conflicts, shown)


def _set_checks(table: PredictionTable, certify: Dataset, made: str) -> Iterator[Check]:
    """How the certify images came to be labelled, and when."""
    labelled = certify.frame["labels"].notna()
    even = certify.frame["weight"][labelled].nunique() <= 1
    if certify.sampling != "random":
        lacking = (
            "sampled by score and carries no weights: give `inclusion_probability` (or `weight`) of every image in the "
            "manifest, or label a random sample"
        )
        yield Check("sampling", False if even else None, lacking if even else "by score; each image has its weight")
    else:
        yield from _score_checks(table, certify, labelled.to_numpy(dtype=bool), even=even)
    collected = _newest(certify) or certify.collected
    if collected and made and date.fromisoformat(collected) < date.fromisoformat(made):
        words = (
            f"the certify images end on {collected}, the model was made on {made}: it may have learnt from them, and "
            "production may have moved on since; label images that are newer than the model"
        )
        yield Check("age", None, words)


def _score_checks(table: PredictionTable, certify: Dataset, labelled: np.ndarray, *, even: bool) -> Iterator[Check]:
    """Whether the images that were labelled score like those that were not (two-sample Kolmogorov-Smirnov test)."""
    from scipy.stats import ks_2samp

    place = pd.Index(table.frame["image_id"]).get_indexer(certify.frame["image_id"])
    answered = (place >= 0) & (table.frame["outcome"].to_numpy(dtype=object)[place] == OK)
    tops = table.scores[place].max(axis=1, initial=-np.inf)
    usable = answered & ~np.isnan(tops)
    one, other = tops[usable & labelled], tops[usable & ~labelled]
    if min(len(one), len(other)) < _LEAST_COMPARED:
        return
    found = ks_2samp(one, other, method="asymp")
    figures = (
        f"top scores of {len(one)} labelled and {len(other)} unlabelled certify images: Kolmogorov-Smirnov distance "
        f"{found.statistic:.3f}, p = {found.pvalue:.2g}"
    )
    differ = found.pvalue < _SCORE_SAMPLED
    if differ and even:
        figures += (
            "; they were not labelled at random, and every count would be off: give `inclusion_probability` of every "
            'image and say sampling = "by score", or label a random sample of the rest'
        )
    yield Check("sampling", False if differ and even else None, figures)


def _newest(certify: Dataset) -> str:
    """The newest day in the column `date`; "" where there is none that can be read."""
    column = next((name for name in certify.frame if str(name).strip().lower() == "date"), None)
    days = [] if column is None else [_day(text) for text in certify.frame[column].unique()]
    return max(days, default="")


def _day(text: str) -> str:
    try:
        return datetime.fromisoformat(str(text).strip()).date().isoformat()
    except ValueError:
        return ""


def _look_checks(claim: Claim) -> Iterator[Check]:
    if claim.refusal:
        yield Check("ledger", False, claim.refusal)
    else:
        yield Check("ledger", True, claim.look.place + (", replayed: free" if claim.replayed else ""))
        if claim.left_out:
            words = (
                f"{claim.left_out} images are set aside because earlier looks counted them; the test counts the "
                f"{len(claim.certify.rows)} others alone, and `workbench verify` needs the ledger to repeat it"
            )
            yield Check("fresh images", None, words)
    for remark in claim.remarks:
        yield Check("ledger", None, remark)


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
