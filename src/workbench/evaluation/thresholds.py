"""Draft thresholds on the tune split, and the grids that lead to them.

A draft is a proposal: its figures are optimistic, because the thresholds were chosen on the images that they are
counted on. `release.gate` tests it on the certify split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from workbench.canonical import binary32
from workbench.config.goals import Goals, Limit, TierGoal
from workbench.documents import from_document, parse_json, to_document, write_document
from workbench.errors import ConfigError, DocumentError
from workbench.evaluation.intervals import critical_successes, upper_bound, upper_tail
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.sample_size import least_events
from workbench.evaluation.simulate import Gated, gate_scores, signals
from workbench.records import CENSORED, Draft, DraftLimit, DraftTier, Rejection, Routing, Scope

SCHEMA_VERSION = "1.0"
STEP = 1.08
"""From one grid point to the next the expected number of certify images grows by this factor."""
_SAME_CHANCE = 0.005
_MOST_LIMITS = 400


@dataclass(frozen=True, eq=False)
class Tuning:
    """What drafting looks at: tune rows under a frozen rejection rule, and how many certify images await."""

    labelled: Labelled
    gated: Gated
    growth: float
    """Certify images per tune image."""


def draft_thresholds(labelled: Labelled, goals: Goals, certify_images: int) -> Draft:
    """A draft from the tune rows of `labelled`; `certify_images` is how many images await on certify, labels unseen.

    The error budget is shared, by weight, among the promises that tune gives hope for. Raises ConfigError if there is
    nothing to draft on or a rejection signal does not fit the approach.
    """
    tune = labelled.on("tune")
    if len(tune) == 0 or certify_images == 0:
        raise ConfigError("drafting needs labelled images on the tune split, and others on certify to test it with")
    wanted = _wanted(goals, tune)
    growth = certify_images / len(tune)
    rejection = choose_rejection(tune, goals, _delta_if_all(goals, wanted, tune))
    tuning = Tuning(tune, _gate(tune, rejection), growth)
    hopeful = [_ask(tuning, goals, category, tier) for category, tier in wanted]
    limits = list(_limits(goals, tune))
    budget = (1 - goals.confidence) / goals.looks
    total = sum(tier.weight for (_, tier), ask in zip(wanted, hopeful, strict=True) if ask.asked is not None)
    total = total + sum(limit.weight for _, _, limit in limits) or 1.0  # nothing is asked: nothing is shared out
    tiers = [
        _with_grid(ask, tuning, budget * tier.weight / total, _automatic(goals, tier))
        for (_, tier), ask in zip(wanted, hopeful, strict=True)
    ]
    return Draft(
        SCHEMA_VERSION,
        labelled.info.origin,
        labelled.info.complete,
        labelled.info.dataset,
        labelled.taxonomy,
        goals.confidence,
        goals.looks,
        goals.records(),
        rejection,
        Routing(goals.below, goals.on_quality, dict(goals.on_outcome)),
        tuple(tiers),
        tuple(
            DraftLimit(rate, source, limit.at_most, limit.waived, 1 - budget * limit.weight / total)  # type: ignore[arg-type]
            for rate, source, limit in limits
        ),
    )


def accepted(gated: Gated, tiers: Sequence[DraftTier], automatic: frozenset[str]) -> np.ndarray:
    """(n,) bool: rows that would be told as a category if every tier stood at its asked threshold.

    Single-label: an `assigned` tier fires; multi-label: a tier of an automatic action does. A recall tier counts from
    the lowest score on, because its exported threshold may lie below the asked one; a precision tier's never does. So
    the event is fixed by tune alone and holds whatever certify makes of the thresholds.
    """
    place = {name: column for column, name in enumerate(gated.taxonomy.categories)}
    told = np.zeros(len(gated.scores), dtype=bool)
    for tier in tiers:
        acts = tier.action in automatic
        if tier.asked is None or not (tier.scope == "assigned" or (gated.mode == "multi-label" and acts)):
            continue
        reach = gated.reach(place[tier.category], tier.scope, automatic=acts)
        told |= reach >= np.float32(tier.asked) if tier.metric == "precision" else reach > np.float32(CENSORED)
    return told


def choose_rejection(tune: Labelled, goals: Goals, delta: float) -> Rejection:
    """The rejection rule, frozen on tune.

    The threshold lies midway between the loosest one that keeps `unknown_accepted` (per source, with the tiers as they
    stand without the rule) and the strictest one that keeps `known_rejected`, each by an upper bound on tune; if they
    cross, the known images win and the gate will tell.
    """
    goal = goals.rejection
    none = Rejection("none", None, tune.info.scores_unknown, goal.action)
    if goal.signal == "none":
        return none
    if goal.signal == "entropy" and not tune.info.complete:
        raise ConfigError(
            f"rejection.signal: entropy needs scores that sum to one, {tune.info.origin.approach!r} has none;"
            ' use "top" or "margin"'
        )
    gated = _gate(tune, none)
    values = np.where(gated.usable, _signal(tune, gated, goal.signal), np.float32(np.nan))
    candidates = _candidates(values, rising=goal.signal != "entropy")
    rejected = [_rejects(gated, values, candidate, goal.signal) for candidate in candidates]
    told = _told_without_rule(tune, gated, goals)
    strictest = loosest = None
    if goal.known_rejected is not None:
        most = goal.known_rejected.at_most
        kept = [_keeps_known(tune, rows, most, delta) for rows in rejected]
        strictest = candidates[max(np.flatnonzero(kept), default=0)]
    if goal.unknown_accepted is not None:
        most = goal.unknown_accepted.at_most
        kept = [_keeps_unknown(tune, told & ~rows, most, delta) for rows in rejected]
        loosest = candidates[min(np.flatnonzero(kept), default=len(kept) - 1)]
    chosen = _between(loosest, strictest, candidates)
    return Rejection(goal.signal, binary32(round(chosen, 4)), tune.info.scores_unknown, goal.action)


def _between(loosest: float | None, strictest: float | None, candidates: list[float]) -> float:
    """Midway if both promises can be kept, else the one that was asked for; known images first."""
    if loosest is None or strictest is None:
        return strictest if loosest is None else loosest  # type: ignore[return-value]  # one of them was asked for
    if candidates.index(loosest) > candidates.index(strictest):
        return strictest
    return (loosest + strictest) / 2


def roundest(above: float, up_to: float) -> float:
    """The binary32 with the fewest decimals in (above, up_to]; `up_to` itself if nothing shorter lies there."""
    for digits in range(1, 9):
        scale = 10**digits
        candidate = binary32(np.floor(up_to * scale) / scale)
        if above < candidate <= up_to:
            return candidate
    return up_to


def _gate(labelled: Labelled, rejection: Rejection) -> Gated:
    return gate_scores(
        labelled.scores,
        labelled.unknown_scores,
        labelled.answered,
        rejection,
        labelled.taxonomy,
    )


def _automatic(goals: Goals, tier: TierGoal) -> bool:
    return any(action.name == tier.action and action.kind == "automatic" for action in goals.actions)


def _wanted(goals: Goals, tune: Labelled) -> list[tuple[str, TierGoal]]:
    return [(category, tier) for category in tune.taxonomy.categories for tier in goals.tiers_of(category)]


def _limits(goals: Goals, tune: Labelled) -> Iterator[tuple[str, str, Limit]]:
    """(rate, source, limit): one per source of unknown images on tune, one for the known."""
    if goals.rejection.unknown_accepted is not None:
        for source in sorted(tune.frame["source"][tune.unknown].unique()):
            yield "unknown_accepted", source, goals.rejection.unknown_accepted
    if goals.rejection.known_rejected is not None:
        yield "known_rejected", "", goals.rejection.known_rejected


def _delta_if_all(goals: Goals, wanted: list[tuple[str, TierGoal]], tune: Labelled) -> float:
    """One promise's error budget if all were promised equally; the choice of the rejection rule reckons with it."""
    return (1 - goals.confidence) / goals.looks / (len(wanted) + len(list(_limits(goals, tune))))


def _signal(tune: Labelled, gated: Gated, signal: str) -> np.ndarray:
    filled = np.where(gated.usable[:, None], tune.scores, np.float32(0))
    return signals(filled, signal)


def _candidates(values: np.ndarray, *, rising: bool) -> list[float]:
    """Thresholds to choose from, the one that rejects least first."""
    finite = np.unique(values[np.isfinite(values)])
    if len(finite) > _MOST_LIMITS:
        finite = np.quantile(finite, np.linspace(0, 1, _MOST_LIMITS))
    points = [float(value) for value in finite]
    return [0.0, *points] if rising else [*points[::-1]]


def _rejects(gated: Gated, values: np.ndarray, threshold: float, signal: str) -> np.ndarray:
    beyond = values > threshold if signal == "entropy" else values < threshold
    return np.asarray(gated.rejected | (gated.usable & beyond))


def _told_without_rule(tune: Labelled, gated: Gated, goals: Goals) -> np.ndarray:
    tuning = Tuning(tune, gated, 1.0)
    tiers = [_ask(tuning, goals, category, tier) for category, tier in _wanted(goals, tune)]
    return accepted(gated, tiers, frozenset(action.name for action in goals.actions if action.kind == "automatic"))


def _keeps_known(tune: Labelled, rejected: np.ndarray, at_most: float, delta: float) -> bool:
    known = ~tune.unknown
    return bool(upper_bound(int((rejected & known).sum()), int(known.sum()), delta) <= at_most)


def _keeps_unknown(tune: Labelled, told: np.ndarray, at_most: float, delta: float) -> bool:
    for source in tune.frame["source"][tune.unknown].unique():
        rows = tune.unknown & (tune.frame["source"] == source).to_numpy()
        if upper_bound(int((told & rows).sum()), int(rows.sum()), delta) > at_most:
            return False
    return True


def _ask(tuning: Tuning, goals: Goals, category: str, tier: TierGoal) -> DraftTier:
    """The tier with the threshold that reaches the goal on tune, no grid yet."""
    tune = tuning.labelled
    scope: Scope = goals.scope_of(tier, tune.taxonomy)
    column = tune.taxonomy.categories.index(category)
    reach = tuning.gated.reach(column, scope, automatic=_automatic(goals, tier))
    truth = tune.truth[:, column]
    find = _lowest_precise if tier.metric == "precision" else _highest_recalling
    floor = np.float32(tune.info.floors.get(category, 0.0))
    least = float(np.nextafter(floor, np.float32(-1)))
    asked, trials, successes, reason = find(reach, truth, tier.at_least, least)
    return DraftTier(
        category,
        tier.action,
        tier.metric,
        tier.at_least,
        scope,
        tier.waived,
        None,
        asked,
        (),
        trials,
        successes,
        reason,
    )


_Found = tuple[float | None, int, int, str]
"""(threshold, trials, successes, why there is none)."""


def _lowest_precise(reach: np.ndarray, truth: np.ndarray, at_least: float, least: float) -> _Found:
    """The lowest threshold, above `least`, with that precision, where as many images count as could ever pass."""
    points, events, successes = _counts(reach, truth)
    enough = events >= least_events(at_least, 0.5)
    good = enough & (successes / np.maximum(events, 1) >= at_least)
    if not good.any():
        best = float(np.max(successes[enough] / events[enough], initial=0.0))
        reason = f"precision on tune is at most {best:.3f}" if enough.any() else "it is scarcely ever predicted on tune"
        return None, 0, 0, reason
    place = int(np.flatnonzero(good)[-1])
    below = float(points[place + 1]) if place + 1 < len(points) else least
    return roundest(below, float(points[place])), int(events[place]), int(successes[place]), ""


def _highest_recalling(reach: np.ndarray, truth: np.ndarray, at_least: float, least: float) -> _Found:
    """The highest threshold, above `least`, that finds that share of the images of the category."""
    positives = np.sort(reach[truth])[::-1]
    if len(positives) == 0:
        return None, 0, 0, "tune has no image of the category"
    found = np.arange(1, len(positives) + 1)
    place = int(np.argmax(found / len(positives) >= at_least))
    threshold = float(positives[place])
    if threshold == CENSORED:
        reachable = float((positives > CENSORED).mean())
        return None, len(positives), 0, f"only {reachable:.3f} of the category's images on tune are within reach"
    below = reach[reach < threshold]
    threshold = roundest(float(below.max(initial=np.float32(least))), threshold)
    return threshold, len(positives), int((positives >= threshold).sum()), ""


def _counts(reach: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(falling distinct scores, images at or above each, those that show the category)."""
    possible = reach > CENSORED
    points, inverse = np.unique(-reach[possible], return_inverse=True)
    events = np.cumsum(np.bincount(inverse, minlength=len(points)))
    successes = np.cumsum(np.bincount(inverse, weights=truth[possible], minlength=len(points))).astype(int)
    return -points, events, successes


def _with_grid(tier: DraftTier, tuning: Tuning, delta: float, automatic: bool) -> DraftTier:
    if tier.asked is None:
        return tier
    if tier.metric == "recall":
        return replace(tier, confidence=1 - delta)
    column = tuning.labelled.taxonomy.categories.index(tier.category)
    reach = tuning.gated.reach(column, tier.scope, automatic=automatic)
    truth = tuning.labelled.truth[:, column]
    grid = precision_grid(reach, truth, tier.asked, tier.at_least, delta, tuning.growth)
    return replace(tier, confidence=1 - delta, grid=grid)


def precision_grid(
    reach: np.ndarray, truth: np.ndarray, asked: float, at_least: float, delta: float, growth: float
) -> tuple[float, ...]:
    """Falling thresholds that end at `asked`, chosen from tune scores (n,) and labels (n,) alone.

    A walk that fails at its first point certifies nothing, so it starts where tune, scaled by `growth` certify images
    per tune image, gives the test its best chance; among starts of nearly the same chance, at the lowest. From there
    each point expects STEP times as many images as the one before, until the asked threshold is reached. Any grid is
    valid that does not look at certify labels; this one only decides how often the test succeeds.
    """
    points, events, successes = _counts(np.where(reach >= np.float32(asked), reach, np.float32(CENSORED)), truth)
    expected = np.maximum(np.round(events * growth), 1)
    critical = critical_successes(expected, at_least, delta)
    chance = upper_tail(critical, expected, (successes + 0.5) / (events + 1))
    place = int(np.flatnonzero(chance >= chance.max() - _SAME_CHANCE)[-1])
    grid: list[float] = []
    while place < len(points):
        below = float(points[place + 1]) if place + 1 < len(points) else asked
        point = max(roundest(below, float(points[place])), asked)
        if not grid or point < grid[-1]:
            grid.append(point)
        place = max(int(np.searchsorted(events, events[place] * STEP)), place + 1)
    return (*grid, asked) if grid[-1] > asked else tuple(grid)


def write_draft(draft: Draft, path: Path) -> None:
    """Write a draft as JSON, whole or not at all."""
    write_document(to_document(draft), path)


def read_draft(path: Path) -> Draft:
    """Read and check a draft; DocumentError names the file and the place."""
    try:
        return from_document(Draft, parse_json(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError("", f"{path}: cannot be read: {error}") from None
    except DocumentError as error:
        raise DocumentError(error.pointer, f"{error.message} ({path})") from None
