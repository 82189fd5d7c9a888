"""A draft's promises, tested on the certify rows: the evidence.

Here alone do certify labels decide anything; `calibrated` describes with them, `cli.noise` asks for second ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from workbench.canonical import digest
from workbench.dataset.images import Dataset
from workbench.documents import to_document
from workbench.evaluation.certify import (
    Certificate,
    Refusal,
    certify_precision,
    certify_recall,
    weighted_rate_bound,
)
from workbench.evaluation.intervals import lower_bound, upper_bound
from workbench.evaluation.labelled import Labelled, join
from workbench.evaluation.prevalence import mixed_rate_bound
from workbench.evaluation.production import category_mix, kinds_of
from workbench.evaluation.simulate import Gated, gate_scores
from workbench.evaluation.thresholds import accepted
from workbench.predictions import PredictionTable
from workbench.records import (
    Draft,
    DraftLimit,
    DraftTier,
    Evidence,
    Method,
    Prevalence,
    Promise,
    RejectionPromise,
    Summary,
)
from workbench.release.calibrated import describe_calibration

_LimitVerdict = Literal["certified", "refused", "stress-test", "waived"]


@dataclass(frozen=True, eq=False)
class Certify:
    """The certify rows that count, under the draft's frozen rejection rule."""

    rows: Labelled
    contents: pd.Series
    """SHA-256 of each row's file; where it cannot be read, `unread_key`. No two rows have the same."""
    families: tuple[frozenset[str], ...]
    """For each row, the same of every image that shares its group or bytes, labelled or not, its own included."""
    gated: Gated
    set_aside: int
    """Labelled certify images that do not count."""
    tune: Labelled
    """The tune rows, on which calibration is fitted."""


def certify_rows(draft: Draft, table: PredictionTable, dataset: Dataset, seed: int) -> Certify:
    """The labelled certify images that count: one of each group, and none of a group that reaches into train or tune.

    Images with the same bytes are of one group. Which image of a group counts is drawn by a seeded hash of its bytes.
    """
    labelled = join(table, dataset)
    keys = content_keys(dataset)
    components = pd.Series(link_images(dataset, keys), index=dataset.frame["image_id"])
    contents = labelled.frame["image_id"].map(dict(zip(dataset.frame["image_id"], keys, strict=True)))
    on_certify = (labelled.frame["split"] == "certify").to_numpy()
    drawn = _draw_rows(labelled, contents, components, dataset, seed)
    rows = labelled.rows(drawn)
    gated = gate_scores(rows.scores, rows.unknown_scores, rows.answered, draft.rejection, rows.taxonomy)
    set_aside = int(on_certify.sum() - drawn.sum())
    members: dict[int, set[str]] = {}
    for component, key in zip(components, keys, strict=True):
        members.setdefault(component, set()).add(key)
    families = tuple(frozenset(members[component]) for component in components[rows.frame["image_id"]])
    return Certify(rows, contents[drawn].reset_index(drop=True), families, gated, set_aside, labelled.on("tune"))


def unread_key(image_id: str, labels: Sequence[str] | None) -> str:
    """What stands for the bytes of a file that cannot be read: hex, and as long as a SHA-256."""
    return _hash(json.dumps(["unread", image_id, labels]).encode())


def examine(draft: Draft, certify: Certify, seed: int, look_number: int = 1) -> Evidence:
    """Every promise of the draft, tested; `look_number` is which of the planned looks at these images this is."""
    automatic = frozenset(action.name for action in draft.actions if action.kind == "automatic")
    promises = [_test_tier(tier, draft, certify, seed, tier.action in automatic) for tier in draft.tiers]
    return Evidence(
        draft=draft,
        look=look_digest(draft, certify, seed),
        look_number=look_number,
        seed=seed,
        summary=_summary(certify),
        promises=tuple(_nest(promises, draft, certify, seed, automatic)),
        rejection=tuple(_test_limit(limit, draft, certify, seed, automatic) for limit in draft.limits),
        calibration=describe_calibration(certify.tune, certify.rows),
    )


def look_digest(draft: Draft, certify: Certify, seed: int) -> str:
    """Names this look: the certify images that count, by content, their labels, outcomes and scores, draft and seed.

    The order of the rows does not matter.
    """
    order = np.argsort(certify.contents.to_numpy(dtype=str), kind="stable")
    frame = certify.rows.frame
    columns = (certify.contents.iloc[order], frame["outcome"].iloc[order], frame["labels"].iloc[order])
    images = [[content, outcome, *labels] for content, outcome, labels in zip(*columns, strict=True)]
    fixed = {"draft": to_document(draft), "seed": seed}
    return digest({**fixed, "certify": _hash(json.dumps(images).encode()), "scores": _score_digest(certify, order)})


def _score_digest(certify: Certify, order: np.ndarray) -> str:
    """SHA-256 of the scores, little-endian binary32, row by row; that of "none of these" last, where there is one."""
    known, unknown = certify.rows.scores, certify.rows.unknown_scores
    scores = (known if unknown is None else np.column_stack([known, unknown])).astype("<f4")[order]
    scores[np.isnan(scores)] = np.nan  # MISSING has one form
    return _hash(scores.tobytes())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def content_keys(dataset: Dataset) -> list[str]:
    """The SHA-256 of each image's file, or `unread_key`."""
    rows = zip(dataset.contents, dataset.frame["image_id"], dataset.frame["labels"], strict=True)
    return [content or unread_key(image_id, labels) for content, image_id, labels in rows]


def _draw_rows(
    labelled: Labelled, contents: pd.Series, components: pd.Series, dataset: Dataset, seed: int
) -> np.ndarray:
    """(n,) bool: the labelled certify rows that count."""
    own = labelled.frame["image_id"].map(components).to_numpy()
    seen = set(components[(dataset.frame["split"] != "certify").to_numpy()])
    on_certify = (labelled.frame["split"] == "certify").to_numpy()
    rows = [int(row) for row in np.flatnonzero(on_certify) if own[row] not in seen]
    draws = {row: hashlib.sha256(f"{seed}:{contents.iloc[row]}".encode()).digest() for row in rows}
    first: dict[int, int] = {}
    for row in sorted(rows, key=draws.__getitem__):
        first.setdefault(own[row], row)
    chosen = np.zeros(len(labelled), dtype=bool)
    chosen[list(first.values())] = True
    return chosen


def link_images(dataset: Dataset, keys: Sequence[str]) -> np.ndarray:
    """(n,) int: images that share a group or their bytes, directly or through others, have one number."""
    groups, pictures = pd.factorize(dataset.frame["group"])[0], pd.factorize(np.array(keys, dtype=object))[0]
    size = int(groups.max(initial=-1) + pictures.max(initial=-1) + 2)
    links = coo_array((np.ones(len(groups)), (groups, pictures + groups.max(initial=-1) + 1)), shape=(size, size))
    return np.asarray(connected_components(links, directed=False)[1][groups])


def _test_tier(tier: DraftTier, draft: Draft, certify: Certify, seed: int, automatic: bool) -> Promise:
    if tier.asked is None or tier.confidence is None:
        return _promise(tier, None, None, 0, 0, 0, reason=f"nothing was asked: {tier.reason}")
    column = certify.rows.taxonomy.categories.index(tier.category)
    reach = certify.gated.reach(column, tier.scope, automatic=automatic)
    truth = certify.rows.truth[:, column]
    if tier.metric == "precision":
        return _test_precision(tier, draft, certify, seed, reach, truth)
    missed = int((truth & ~certify.gated.usable).sum())
    return _test_recall(tier, certify, seed, reach, truth, missed)


def _test_precision(
    tier: DraftTier, draft: Draft, certify: Certify, seed: int, reach: np.ndarray, truth: np.ndarray
) -> Promise:
    assert tier.confidence is not None  # noqa: S101 -- `_test_tier` has seen to it
    mix, kinds, method, weights = None, dict[str, int](), _method(certify), certify.rows.weights
    if draft.prevalence is not None:
        column = certify.rows.taxonomy.categories.index(tier.category)
        mix = category_mix(certify.rows, draft.prevalence, column, 1 - tier.confidence)
        counts = (int(truth.sum()), *np.bincount(mix.kinds[~truth], minlength=len(mix.others)).tolist())
        kinds = dict(zip(kinds_of(certify.rows.taxonomy, column), counts, strict=True))
        method, weights = "prevalence", None
    names = None if weights is None else certify.contents.to_numpy(dtype=object)
    found = certify_precision(reach, truth, tier.at_least, tier.confidence, tier.grid, names, mix, weights, seed)
    if isinstance(found, Refusal):
        return replace(_refused(tier, found, found.k, found.k - found.errors, 0), method=method, kinds=kinds)
    reason = "" if found.threshold == tier.asked else _stopped(found)
    return replace(
        _promise(tier, found.threshold, found.lower_bound, found.k, found.k - found.errors, 0, reason),
        walk=found.steps,
        method=method,
        kinds=kinds,
    )


def _method(certify: Certify) -> Method:
    return "counts" if certify.rows.weights is None else "weights"


def _test_recall(
    tier: DraftTier, certify: Certify, seed: int, reach: np.ndarray, truth: np.ndarray, missed: int
) -> Promise:
    assert tier.confidence is not None and tier.asked is not None  # noqa: S101, PT018 -- `_test_tier` has seen to it
    weights = certify.rows.weights
    names = None if weights is None else certify.contents.to_numpy(dtype=object)
    found = certify_recall(reach, truth, tier.at_least, tier.confidence, None, names, None, weights, seed)
    method = _method(certify)
    if isinstance(found, Refusal):
        return replace(_refused(tier, found, found.k, found.k - found.errors, missed), method=method)
    promise = _promise(tier, min(tier.asked, found.threshold), found.lower_bound, 0, 0, missed)
    return _count_recall(replace(promise, method=method), certify, seed, reach, truth)


def _count_recall(promise: Promise, certify: Certify, seed: int, reach: np.ndarray, truth: np.ndarray) -> Promise:
    """The figures of a recall promise at the threshold it is exported with."""
    assert promise.certified is not None  # noqa: S101 -- only certified promises come here
    assert promise.confidence is not None  # noqa: S101 -- as above
    found = reach[truth] >= np.float32(promise.certified)
    successes, delta = int(found.sum()), 1 - promise.confidence
    if certify.rows.weights is None:
        bound = float(lower_bound(successes, len(found), delta))
    else:
        # A lower threshold finds no less than the one that was tested, so that one's bound holds for it, too.
        tested = promise.lower_bound or 0.0
        missed = weighted_rate_bound(
            ~found, certify.rows.weights[truth], delta, seed, certify.contents.to_numpy(dtype=object)[truth]
        )
        bound = max(tested, 1 - missed)
    return replace(promise, trials=len(found), successes=successes, lower_bound=bound)


def _stopped(found: Certificate) -> str:
    failed = found.steps[-1]
    return (
        f"the walk ended at {failed.threshold:.4g}: {failed.successes} of {failed.events} right, "
        f"p = {failed.p_value:.3g}"
    )


def _refused(tier: DraftTier, found: Refusal, trials: int, successes: int, missed: int) -> Promise:
    promise = _promise(tier, None, None, trials, successes, missed, found.reason)
    needed = found.needed
    return replace(promise, walk=found.steps, needed=needed, needed_from="" if needed is None else found.drawn_from)


def _promise(
    tier: DraftTier,
    certified: float | None,
    bound: float | None,
    trials: int,
    successes: int,
    missed: int,
    reason: str = "",
) -> Promise:
    verdict = "certified" if certified is not None else "waived" if tier.waived else "refused"
    return Promise(
        category=tier.category,
        action=tier.action,
        metric=tier.metric,
        at_least=tier.at_least,
        scope=tier.scope,
        confidence=tier.confidence,
        verdict=verdict,  # type: ignore[arg-type]  # one of its literals
        asked=tier.asked,
        certified=certified,
        lower_bound=bound,
        trials=trials,
        successes=successes,
        unanswered=missed,
        walk=(),
        reason=reason,
        needed=None,
    )


def _nest(
    promises: list[Promise], draft: Draft, certify: Certify, seed: int, automatic: frozenset[str]
) -> Iterator[Promise]:
    """Within a category thresholds never fall with rank: a flag above an act threshold is lowered to it."""
    waived = {(tier.category, tier.action) for tier in draft.tiers if tier.waived}
    for category in draft.taxonomy.categories:
        higher: Promise | None = None
        nested: list[Promise] = []
        for promise in reversed([promise for promise in promises if promise.category == category]):
            lowered = _lower(promise, higher, certify, seed, automatic) if higher is not None else promise
            if lowered.verdict == "refused" and (promise.category, promise.action) in waived:
                lowered = replace(lowered, verdict="waived")
            higher = lowered if lowered.verdict == "certified" else higher
            nested.append(lowered)
        yield from reversed(nested)


def _lower(promise: Promise, higher: Promise, certify: Certify, seed: int, automatic: frozenset[str]) -> Promise:
    if promise.certified is None or higher.certified is None or promise.certified <= higher.certified:
        return promise
    words = f"lowered from {promise.certified:.4g} to the threshold of {higher.action!r}; the band between is empty"
    column = certify.rows.taxonomy.categories.index(promise.category)
    truth = certify.rows.truth[:, column]
    if promise.metric == "recall":
        reach = certify.gated.reach(column, promise.scope, automatic=promise.action in automatic)
        return _count_recall(replace(promise, certified=higher.certified, reason=words), certify, seed, reach, truth)
    one_event = promise.scope == higher.scope and _same_reach(promise, higher, certify, automatic)
    if one_event and promise.at_least <= higher.at_least and higher.metric == "precision":
        return replace(
            promise,
            certified=higher.certified,
            lower_bound=higher.lower_bound,
            trials=higher.trials,
            successes=higher.successes,
            reason=words,
        )
    reason = f"it certifies only above the threshold of {higher.action!r}, whose images count for it too"
    return replace(promise, certified=None, lower_bound=None, verdict="refused", reason=reason)


def _same_reach(promise: Promise, higher: Promise, certify: Certify, automatic: frozenset[str]) -> bool:
    """At one threshold the two tiers fire on the same images: rejection silences both of them or neither."""
    return certify.gated.mode == "single-label" or (promise.action in automatic) == (higher.action in automatic)


def _test_limit(
    limit: DraftLimit, draft: Draft, certify: Certify, seed: int, automatic: frozenset[str]
) -> RejectionPromise:
    unknown = certify.rows.unknown
    if limit.rate == "unknown_accepted":
        rows = unknown & (certify.rows.frame["source"] == limit.source).to_numpy()
        event = accepted(certify.gated, draft.tiers, automatic)
    else:
        rows, event = ~unknown, certify.gated.rejected
    trials, events, delta = int(rows.sum()), int((rows & event).sum()), 1 - limit.confidence
    method, kinds, by_kind = _method(certify), dict[str, int](), tuple[int, ...]()
    if limit.rate == "known_rejected" and draft.prevalence is not None and certify.gated.mode == "single-label":
        names, shown = certify.rows.taxonomy.categories, certify.rows.truth
        kinds = dict(zip(names, shown.sum(axis=0).tolist(), strict=True))
        method, by_kind = "prevalence", tuple((shown & event[:, None]).sum(axis=0).tolist())
        bound = known_rejected_bound(draft.prevalence, kinds, by_kind, certify.rows.taxonomy.unknown, delta)
    elif certify.rows.weights is None:
        bound = float(upper_bound(events, trials, delta))
    else:
        bound = weighted_rate_bound(
            event[rows], certify.rows.weights[rows], delta, seed, certify.contents.to_numpy(dtype=object)[rows]
        )
    verdict, reason = _judge_limit(limit, trials, bound, float(upper_bound(0, trials, delta)))
    return RejectionPromise(
        limit.rate,
        limit.source,
        limit.at_most,
        limit.confidence,
        verdict,
        trials,
        events,
        bound,
        reason,
        method,
        kinds,
        by_kind,
    )


def known_rejected_bound(
    prevalence: Prevalence, kinds: Mapping[str, int], events: Sequence[int], unknown: str, delta: float
) -> float:
    """Upper bound on the share of known images that are rejected, at a prevalence; 1 where there are none.

    Shares from a sample are bounds, at a third of `delta`: each known kind's from above, that of all known from below.
    """
    trials = np.array(list(kinds.values()))
    if prevalence.sample:
        total, names = sum(prevalence.sample.values()), list(kinds)
        each = delta / 3 / (len(names) + 1)
        shares = np.array([float(upper_bound(prevalence.sample.get(name, 0), total, each)) for name in names])
        known = float(lower_bound(total - prevalence.sample.get(unknown, 0), total, each))
        delta *= 2 / 3
    else:
        shares = np.array([prevalence.shares[name] for name in kinds])
        known = float(shares.sum())
    if not known:
        return 1.0
    return min(1.0, mixed_rate_bound(np.array(events), trials, shares, delta) / known)


def _judge_limit(limit: DraftLimit, trials: int, bound: float, best: float) -> tuple[_LimitVerdict, str]:
    if bound <= limit.at_most:
        return "certified", ""
    if best > limit.at_most:
        return "stress-test", f"{trials} images are too few for any verdict"
    return "waived" if limit.waived else "refused", f"the rate may be as high as {bound:.3f}"


def _summary(certify: Certify) -> Summary:
    rows, known = certify.rows, ~certify.rows.unknown
    truth = rows.truth[known]
    if rows.taxonomy.mode == "single-label":
        top = certify.gated.top[known]
        correct = int(((top >= 0) & truth[np.arange(len(truth)), top]).sum())
        majority = int(truth.sum(axis=0).max(initial=0))
    else:
        told = (rows.usable_scores()[known] >= np.float32(0.5)) == truth
        correct = int((told.all(axis=1) & certify.gated.usable[known]).sum())
        majority = int(pd.Series([tuple(row) for row in truth]).value_counts().max()) if len(truth) else 0
    by_category = dict(zip(rows.taxonomy.categories, rows.truth.sum(axis=0).tolist(), strict=True))
    return Summary(
        images=len(rows),
        set_aside=certify.set_aside,
        answered=int(rows.answered.sum()),
        known=int(known.sum()),
        correct=correct,
        majority=majority,
        by_category={**by_category, rows.taxonomy.unknown: int(rows.unknown.sum())},
    )
