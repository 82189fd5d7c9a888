"""What to label next: which further images, and how many, give refused promises a chance.

Images are drawn at random among all unlabelled certify images of the run, one of each group, by a seeded hash: the
first so many of one order serve a promise, the first so many more another, so nothing is labelled twice. Nothing looks
at scores, least of all at how unsure they are: a sample by score would be no sample of production, and precision,
recall and rejection counted on it would be wrong for every promise of the policy. So after labelling the certify images
are what they were before, only more.

Only labels that a recorded look has judged are counted here; a plan is no look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from workbench.dataset.images import Dataset
from workbench.errors import InputError
from workbench.evaluation.certify import precision_steps
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.prevalence import Mix, count_kinds
from workbench.evaluation.production import category_mix, kinds_of
from workbench.evaluation.sample_size import (
    POWER,
    PowerCurve,
    is_out_of_reach,
    least_events,
    likely_rate,
    power_at_mix,
    power_of_rate,
)
from workbench.evaluation.simulate import Gated, gate_scores
from workbench.evaluation.thresholds import accepted
from workbench.predictions import PredictionTable
from workbench.records import (
    OK,
    PREPARATION_OUTCOMES,
    Draft,
    DraftTier,
    Evidence,
    Policy,
    Promise,
    RejectionPromise,
)
from workbench.release.examination import Certify, certify_rows, content_keys, link_images, look_digest
from workbench.release.gate import Release
from workbench.release.ledger import Ledger, Look, counted_rows, rows_left

LOWEST_POWER, HIGHEST_POWER = 0.5, 0.99
POWERS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""The table that `LabelPlan.frame` shows."""

QUEUE_COLUMNS = (
    "image_id",
    "path",
    "label",
    "promises",
    "why",
    "stratum",
    "sampling_probability",
    "split",
    "group",
)

STRATUM = "all unlabelled certify images of the run, one of each group"

Outlook = Literal["labels help", "too few to tell", "rate below the goal", "out of reach", "not told"]
"""labels help: a number can be given. too few to tell: so little was counted that no rate can be reckoned with, or more
than the plan can reckon would be needed. rate below the goal: at the counted rate no number does, but that rate may be
bad luck. out of reach: it is likely no luck; another threshold, model or goal is due. not told: see the remark."""

_MOST_POINTS = 8
_UNTOLD_NESTED = "its own test passes; what stands in its way is the higher action, whose images count for it too"


@dataclass(frozen=True, eq=False)
class Wanted:
    """What one refused promise would take."""

    name: str
    """As in "shoe: accept, precision ≥ 0.9"."""
    reason: str
    """Why it was refused, in the words of the release."""
    outlook: Outlook
    remark: str
    """What stands behind the outlook, in words."""
    successes: int
    trials: int
    """What was counted at the point that the plan reckons with."""
    at_least: float
    """The goal for successes; of a limit, one minus the limit."""
    threshold: float | None
    """Where the plan reckons that the walk certifies; None for recall and rejection."""
    kinds: Mapping[str, float]
    """Kind of image → the share that further random images have of it; the first is what the test counts."""
    curve: PowerCurve | None
    """By further images; None unless labels help."""
    least: int
    """Further images below which the ledger allows no look, whatever the power."""
    power: float
    fixed: int | None = None
    """The number at 80 % where there is no curve (weighted images)."""

    @property
    def needed(self) -> int | None:
        """Further images, drawn at random, that give the power; None where that cannot be told or no number does."""
        found = self.fixed if self.curve is None else self.curve.images_for(self.power)
        return None if found is None else max(found, self.least, 1)

    @property
    def expected(self) -> Mapping[str, int]:
        """Of them, how many of each kind will come, on average; empty without a number."""
        return {} if self.needed is None else {kind: round(self.needed * share) for kind, share in self.kinds.items()}


@dataclass(frozen=True, eq=False)
class LabelPlan:
    """The refused promises of a release and the images to label for them."""

    power: float
    promises: tuple[Wanted, ...]
    """The one that needs the fewest first; those without a number last."""
    pool: pd.DataFrame
    """`image_id, path, group` of every image that may be drawn, in the order of the draw."""
    left_out: Mapping[str, int]
    """Unlabelled images of the run that may not be drawn, by reason."""
    ledger: str
    """When the ledger will allow the next look."""
    no_queue: str
    """Why nothing is drawn although labels may help; empty where it is."""
    dataset: Dataset
    seed: int

    def at(self, power: float) -> LabelPlan:
        """The same for another power. Raises InputError outside [0.5, 0.99]."""
        return replace(self, power=power, promises=_ordered([replace(p, power=power) for p in self.promises], power))

    @property
    def images(self) -> int:
        """How many images the promise that needs most asks for, whether the run holds them or not."""
        return max((promise.needed or 0 for promise in self.promises), default=0)

    @property
    def missing(self) -> int:
        """How many of them the run does not hold."""
        return max(0, self.images - len(self.pool))

    @property
    def hopeful(self) -> bool:
        """Labels help some refused promise."""
        return any(promise.needed is not None for promise in self.promises)

    @cached_property
    def queue(self) -> pd.DataFrame:
        """QUEUE_COLUMNS, in the order in which to label: after the first so many rows the first promise has its chance.

        `label` is blank. `sampling_probability` is that of each image to be in this queue, the same for all.
        """
        count = 0 if self.no_queue else min(self.images, len(self.pool))
        drawn = self.pool.iloc[:count].reset_index(drop=True)
        served = [(p.needed, p.name) for p in self.promises if p.needed is not None]
        shown = [[name for needed, name in served if place < needed] for place in range(count)]
        return pd.DataFrame(
            {
                "image_id": drawn["image_id"],
                "path": drawn["path"],
                "label": [""] * count,
                "promises": ["; ".join(names) for names in shown],
                "why": [
                    f"drawn at random for {len(names)} of {len(self.promises)} refused promises" for names in shown
                ],
                "stratum": [STRATUM] * count,
                "sampling_probability": [count / max(len(self.pool), 1)] * count,
                "split": ["certify"] * count,
                "group": drawn["group"],
            },
            columns=list(QUEUE_COLUMNS),
        )

    def frame(self) -> pd.DataFrame:
        """One row per refused promise: outlook, further images for the power, and for each power of a table."""
        rows = [
            {
                "promise": p.name,
                "outlook": p.outlook,
                "counted": f"{p.successes} of {p.trials}",
                "more labels": p.needed,
                "of which": ", ".join(f"{count} {kind}" for kind, count in p.expected.items()),
                **{f"{power:.0%}": replace(p, power=power).needed if p.curve else None for power in POWERS},
            }
            for p in self.promises
        ]
        names = ["promise", "outlook", "counted", "more labels", "of which", *(f"{power:.0%}" for power in POWERS)]
        return pd.DataFrame(rows, columns=names, dtype=object)

    def remarks(self) -> tuple[str, ...]:
        """What to know before labelling, one sentence or two each."""
        found = []
        if not self.promises:
            return ("no promise was refused: there is nothing to label for",)
        if not self.hopeful:
            found.append("no number of labels helps any of these promises: lower the goal or improve the approach")
        if self.no_queue:
            found.append(self.no_queue)
        elif self.missing:
            found.append(
                f"the run holds {len(self.pool)} images that may be drawn, {self.images} are needed: collect and "
                f"classify {self.missing} more, drawn as production sees them"
            )
        if self.left_out:
            told = "; ".join(f"{count} {reason}" for reason, count in self.left_out.items())
            found.append(f"unlabelled certify images that may not be drawn: {told}")
        found.append(self.ledger)
        return tuple(found)


def plan_labels(
    release: Release | Policy,
    table: PredictionTable,
    dataset: Dataset,
    power: float = POWER,
    *,
    seed: int = 0,
    ledger: Ledger | None = None,
) -> LabelPlan:
    """What to label so that each refused promise has this chance, in [0.5, 0.99], to be certified by the next look.

    release  what the gate said, or a policy some of whose tiers were refused; its look has to be on file
    table    the run that was released, of which unlabelled images are drawn
    seed     of the draw: the same seed gives the same images, and a smaller number of them their beginning

    The chance is that of the test at the point where the walk begins (if too little was counted there, at the most
    promising point of the grid), if further images have the rates that were counted. Where the ledger lets the next
    look count what this one counted, that is counted again; otherwise only fresh images are.

    Raises InputError if the draft was not tested, its look is not on file, run or data set are not those of the
    release, or the power is outside its range; RunError as `labelled.join` does.
    """
    evidence, looks = _evidence(release), list((ledger or Ledger.of(dataset)).looks())
    if isinstance(release, Release) and release.look is not None:
        looks = [look for look in looks if look.digest != release.look.digest] + [release.look]
    look = next((known for known in looks if known.digest == evidence.look and known.number), None)
    if look is None:
        raise InputError("this look at the certify images is not on file; run `workbench release` (or `verify`) first")
    draft = evidence.draft
    whole = certify_rows(draft, table, dataset, evidence.seed)
    counted = counted_rows(look, whole, draft)
    if look_digest(draft, counted, evidence.seed) != evidence.look:
        raise InputError(f"the release is not of this run and data set {dataset.name!r}; classify and release again")
    kept, before = rows_left(looks, whole, draft, dataset), whole.contents.isin(look.contents).to_numpy(dtype=bool)
    again = kept & before
    pool, left_out = _draw_pool(dataset, table, looks, seed)
    basis = _Basis(draft, counted, again[before], _gate(table, pool, draft))
    unseen, aside = int(kept.sum() - again.sum()), int((~kept).sum())
    least = max(0, aside - int(kept.sum()))
    wanted = [_shifted(found, unseen, least) for found in basis.refused(evidence)]
    uneven = counted.rows.weights is not None
    no_queue = (
        "the certify images carry weights: draw further ones by the design that gave those, and write their "
        "inclusion probability beside them"
        if uneven
        else ""
    )
    plan = LabelPlan(POWER, tuple(wanted), pool, left_out, _rule(draft, kept, again), no_queue, dataset, seed)
    return plan.at(power)


def _evidence(release: Release | Policy) -> Evidence:
    if release.evidence is None:
        assert isinstance(release, Release)  # noqa: S101 -- a policy always has evidence
        raise InputError(f"the draft was not tested, so no promise was refused: {'; '.join(release.refusals)}")
    return release.evidence


def _ordered(promises: Sequence[Wanted], power: float) -> tuple[Wanted, ...]:
    if not LOWEST_POWER <= power <= HIGHEST_POWER:
        raise InputError(f"a power lies between {LOWEST_POWER} and {HIGHEST_POWER}, {power} does not")
    return tuple(sorted(promises, key=lambda p: (p.needed is None, p.needed or 0, p.name)))


def _shifted(wanted: Wanted, unseen: int, least: int) -> Wanted:
    """`unseen` images are labelled already and will count, but no look has judged their labels."""
    curve = wanted.curve
    if curve is not None and unseen:
        curve = PowerCurve(np.maximum(curve.images - unseen, 0), curve.power)
    return replace(wanted, curve=curve, least=least)


def _rule(draft: Draft, kept: np.ndarray, again: np.ndarray) -> str:
    """What the ledger does with the next look; see `release.ledger`."""
    begin = (
        "Labelled, these images are fresh to the ledger of looks: no look has counted them. They change the data set, "
        "so classify (answers come from the cache), tune and release again; that is a new look, planned as one of "
        f"{draft.looks}. "
    )
    if kept.all():
        return begin + (
            f"The error budget of the {len(kept)} certify images has room for it: it counts those {int(again.sum())} "
            "that this look counted together with the fresh ones."
        )
    aside, fresh = int((~kept).sum()), int(kept.sum())
    return begin + (
        f"Nothing is left of the error budget of {aside} certify images, so it sets them aside and counts fresh images "
        f"alone, and is allowed only if at least {aside} fresh ones are labelled (there are {fresh} by now). The plan "
        f"reckons with that. With `looks = m` in the goals before the first look, old images would count again."
    )


def _draw_pool(
    dataset: Dataset, table: PredictionTable, looks: Sequence[Look], seed: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The images that may be drawn, in the order of the draw, and how many may not, by reason."""
    keys, frame = content_keys(dataset), dataset.frame
    component = pd.Series(link_images(dataset, keys))
    split, labelled = frame["split"].to_numpy(dtype=object), frame["labels"].notna().to_numpy()
    place = pd.Index(table.frame["image_id"]).get_indexer(frame["image_id"])
    outcome = table.frame["outcome"].to_numpy(dtype=object)[place]
    seen = frozenset[str]().union(*(look.contents for look in looks if look.number))
    counted = np.array([key in seen for key in keys], dtype=bool)

    def touches(rows: np.ndarray) -> np.ndarray:
        return component.isin(set(component[rows])).to_numpy()

    candidates = ~labelled & (split == "certify")
    unread = (dataset.contents == "").to_numpy() | np.isin(outcome, PREPARATION_OUTCOMES)
    reasons = {
        "are linked (group or bytes) with an image of train or tune": touches(split != "certify"),
        "are linked with an image that is labelled already": touches(labelled),
        "were counted by an earlier look, here or in another folder": touches(counted),
        "cannot be read": unread,
    }
    free, left_out = candidates.copy(), dict[str, int]()
    for reason, rows in reasons.items():
        left_out[reason] = int((free & rows).sum())
        free &= ~rows
    rows = np.flatnonzero(free)
    first: dict[int, str] = {}
    for row in rows:
        key = keys[row]
        first[component[row]] = min(first.get(component[row], key), key)
    drawn = {row: _hash(seed, "image", keys[row]) for row in rows}
    chosen: dict[int, int] = {}
    for row in sorted(rows, key=lambda row: (drawn[row], frame["image_id"].iloc[row])):
        chosen.setdefault(component[row], int(row))
    left_out["share a group with one that may"] = len(rows) - len(chosen)
    order = [chosen[group] for group in sorted(chosen, key=lambda group: _hash(seed, "group", first[group]))]
    pool = frame.iloc[order][["image_id", "path", "group"]].reset_index(drop=True)
    return pool, {reason: count for reason, count in left_out.items() if count}


def _hash(seed: int, what: str, key: str) -> str:
    """The place of a group among all, and of an image in its group, are drawn apart: large groups get no preference."""
    return hashlib.sha256(f"{seed}:label next:{what}:{key}".encode()).hexdigest()


def _gate(table: PredictionTable, pool: pd.DataFrame, draft: Draft) -> Gated:
    place = pd.Index(table.frame["image_id"]).get_indexer(pool["image_id"])
    unknown = None if table.unknown_scores is None else table.unknown_scores[place]
    answered = table.frame["outcome"].to_numpy(dtype=object)[place] == OK
    return gate_scores(table.scores[place], unknown, answered, draft.rejection, draft.taxonomy)


@dataclass(frozen=True, eq=False)
class _Basis:
    """What plans reckon with: rows whose labels this look has judged, and the scores of images that may be drawn."""

    draft: Draft
    counted: Certify
    again: np.ndarray
    """(n,) bool: which of the counted rows the next look counts again."""
    gated: Gated
    """Of the images that may be drawn."""

    @property
    def rows(self) -> Labelled:
        return self.counted.rows

    @cached_property
    def automatic(self) -> frozenset[str]:
        return frozenset(action.name for action in self.draft.actions if action.kind == "automatic")

    def refused(self, evidence: Evidence) -> list[Wanted]:
        tiers = {(tier.category, tier.action): tier for tier in self.draft.tiers}
        found = [
            self.tier(promise, tiers[promise.category, promise.action])
            for promise in evidence.promises
            if promise.verdict != "certified"
        ]
        return found + [self.limit(limit) for limit in evidence.rejection if limit.verdict != "certified"]

    def tier(self, promise: Promise, tier: DraftTier) -> Wanted:
        name = f"{promise.category}: {promise.action}, {promise.metric} ≥ {promise.at_least:g}"
        start = _blank(name, promise.reason, promise.at_least)
        if tier.asked is None or tier.confidence is None:
            return replace(
                start, outlook="out of reach", remark="on tune no threshold reaches the goal, so none is tested"
            )
        if promise.method == "weights":
            told = "as the release reckons for 80 %, for images drawn with the same weights"
            fixed = promise.needed
            outlook: Outlook = "not told" if fixed is None else "labels help"
            remark = "" if fixed is None else told
            counts = {"successes": promise.successes, "trials": promise.trials}
            return replace(start, outlook=outlook, remark=remark, fixed=fixed, **counts)  # type: ignore[arg-type]
        column = self.rows.taxonomy.categories.index(promise.category)
        automatic = promise.action in self.automatic
        reach = self.counted.gated.reach(column, tier.scope, automatic=automatic)
        truth = self.rows.truth[:, column]
        if promise.metric == "recall":
            return self._rate(
                start, reach[truth] > -np.inf, truth, tier.confidence, self._share(column), "of the category"
            )
        own = self.gated.reach(column, tier.scope, automatic=automatic)
        if promise.method == "prevalence":
            return self._at_prevalence(start, tier, column, reach, truth)
        return self._precision(start, tier, reach, truth, own)

    def limit(self, limit: RejectionPromise) -> Wanted:
        words = limit.rate.replace("_", " ")
        source = f" from {limit.source or '(no source named)'}" if limit.rate == "unknown_accepted" else ""
        start = _blank(f"{words}{source} ≤ {limit.at_most:g}", limit.reason, 1 - limit.at_most)
        counts = {"successes": limit.trials - limit.events, "trials": limit.trials}
        if limit.method != "counts":
            told = "how many images would prove it is not reckoned for weighted images or at a prevalence"
            return replace(start, outlook="not told", remark=told, **counts)  # type: ignore[arg-type]
        unknown = self.rows.unknown
        if limit.rate == "unknown_accepted":
            rows = unknown & (self.rows.frame["source"] == limit.source).to_numpy()
            event, kind = accepted(self.counted.gated, self.draft.tiers, self.automatic), f"unknown{source}"
        else:
            rows, event, kind = ~unknown, self.counted.gated.rejected, "known"
        shares = self.draft.prevalence
        share = float(rows.mean()) if len(rows) else 0.0
        if shares is not None and unknown.any() and self.rows.taxonomy.mode == "single-label":
            arriving = shares.shares.get(self.rows.taxonomy.unknown, 0.0)
            share = arriving * float(rows[unknown].mean()) if limit.rate == "unknown_accepted" else 1 - arriving
        return self._rate(start, ~event[rows], rows, limit.confidence, share, kind)

    def _share(self, column: int) -> float:
        """Of arriving images, those of the category."""
        if self.draft.prevalence is not None:
            return self.draft.prevalence.shares.get(self.rows.taxonomy.categories[column], 0.0)
        return float(self.rows.truth[:, column].mean()) if len(self.rows) else 0.0

    def _rate(
        self, start: Wanted, success: np.ndarray, rows: np.ndarray, confidence: float, share: float, kind: str
    ) -> Wanted:
        """A plain rate: `success` of each of the counted rows that are trials (`rows`, (n,) bool)."""
        trials, hits = len(success), int(success.sum())
        again = self.again[rows]
        truly = likely_rate(hits, trials)
        wanted = replace(start, successes=hits, trials=trials, kinds={kind: share, "others": 1 - share})
        if trials < least_events(start.at_least, 0.5):
            return replace(wanted, outlook="too few to tell", remark=_few(trials))
        curve = power_of_rate(
            int(success[again].sum()), int(again.sum()), start.at_least, truly, confidence, min(share, 1.0)
        )
        return _judged(wanted, curve)

    def _precision(
        self, start: Wanted, tier: DraftTier, reach: np.ndarray, truth: np.ndarray, own: np.ndarray
    ) -> Wanted:
        assert tier.confidence is not None  # noqa: S101 -- `tier` has seen to it
        steps = precision_steps(reach, truth, tier.at_least, np.array(tier.grid, dtype=np.float32))
        if steps[0].p_value <= 1 - tier.confidence:
            return replace(start, outlook="not told", remark=_UNTOLD_NESTED)
        found = []
        for step in [steps[0], *steps[1 :: -(-len(steps) // _MOST_POINTS)]]:
            fires = reach >= np.float32(step.threshold)
            pool = own >= np.float32(step.threshold)
            share = float(pool.mean()) if len(pool) else float(fires.mean())
            at = replace(start, threshold=step.threshold)
            found.append(self._rate(at, truth[fires], fires, tier.confidence, share, "on which it fires"))
            if found[0].curve is not None:
                break
        return _best(found)

    def _at_prevalence(
        self, start: Wanted, tier: DraftTier, column: int, reach: np.ndarray, truth: np.ndarray
    ) -> Wanted:
        assert tier.confidence is not None and self.draft.prevalence is not None  # noqa: S101, PT018 -- as above
        mix = category_mix(self.rows, self.draft.prevalence, column, 1 - tier.confidence)
        names, given = kinds_of(self.rows.taxonomy, column), self.draft.prevalence.shares
        shares = np.array([given.get(name, 0.0) for name in names])
        if self.rows.taxonomy.mode == "multi-label":
            shares[1] = 1 - shares[0]
        grid, many = np.array(tier.grid, dtype=np.float32), len(mix.others)
        whole = count_kinds(reach, truth, mix.kinds, many, grid)
        base = count_kinds(reach[self.again], truth[self.again], mix.kinds[self.again], many, grid)
        bare = Mix(mix.share, mix.others, np.zeros(0, dtype=np.int64), mix.spent)
        found = []
        for place in [0, *range(1, len(grid), -(-len(grid) // _MOST_POINTS))]:
            here = slice(place, place + 1)
            rates = whole.at(here)
            right, false = int(rates.true_positives[0]), int(rates.false_positives[0].sum())
            curve = power_at_mix(base.at(here), bare, shares, tier.at_least, tier.confidence, rates)
            wanted = replace(
                start,
                threshold=float(grid[place]),
                successes=right,
                trials=right + false,
                kinds={"of the category": float(shares[0])}
                | {f"of {name}": float(share) for name, share in zip(names[1:], shares[1:], strict=True) if share},
            )
            if curve is None:
                told = "too few images of the category reach the threshold"
                found.append(replace(wanted, outlook="too few to tell", remark=told))
            elif curve.images_for(LOWEST_POWER) is None:
                told = "at the counted rates of mistakes the mix of production does not reach the goal"
                found.append(replace(wanted, outlook="rate below the goal", remark=told))
            else:
                told = "if each kind of image has the rates counted here, and comes as often as the goals say"
                found.append(replace(wanted, outlook="labels help", remark=told, curve=curve))
            if found[0].curve is not None:
                break
        return _best(found)


def _blank(name: str, reason: str, at_least: float) -> Wanted:
    return Wanted(
        name=name,
        reason=reason,
        outlook="not told",
        remark="",
        successes=0,
        trials=0,
        at_least=at_least,
        threshold=None,
        kinds={},
        curve=None,
        least=0,
        power=POWER,
    )


def _few(trials: int) -> str:
    return f"{trials} were counted, too few to reckon with a rate: label a first random sample"


def _judged(wanted: Wanted, curve: PowerCurve | None) -> Wanted:
    rate = f"{wanted.successes} of {wanted.trials}"
    if curve is not None and curve.images_for(LOWEST_POWER) is not None:
        return replace(
            wanted, outlook="labels help", remark=f"if the rate counted, {rate}, is the true one", curve=curve
        )
    if is_out_of_reach(wanted.successes, wanted.trials, wanted.at_least):
        told = f"{rate} is below {wanted.at_least:g}, and not by chance: no number of labels certifies what is not so"
        return replace(wanted, outlook="out of reach", remark=told)
    if wanted.successes < wanted.at_least * wanted.trials:
        told = f"{rate} is below {wanted.at_least:g}; it may be bad luck, but at that rate no number of labels helps"
        return replace(wanted, outlook="rate below the goal", remark=told)
    told = f"{rate} is so close to {wanted.at_least:g}, or so rare, that more images are needed than can be reckoned"
    return replace(wanted, outlook="too few to tell", remark=told)


def _best(found: Sequence[Wanted]) -> Wanted:
    """The point where the walk begins, if labels help there; else the one where they help soonest."""
    hopeful = [wanted for wanted in found if wanted.curve is not None]
    if found[0].curve is not None or not hopeful:
        return found[0]
    best = min(hopeful, key=lambda wanted: (wanted.needed is None, wanted.needed or 0))
    remark = (
        f"{best.remark}; reckoned at {best.threshold:.4g}, since of {found[0].threshold:.4g}, where the walk begins, "
        "it cannot be told: it helps if tuning lets the next walk begin here"
    )
    return replace(best, remark=remark)
