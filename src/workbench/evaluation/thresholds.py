"""Draft thresholds on the tune split, and the grids that lead to them.

A draft is a proposal: its figures are optimistic, because the thresholds were chosen on the images that they are
counted on. `release.gate` tests it on the certify split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from workbench.canonical import binary32
from workbench.config.goals import Goals, Limit, TierGoal
from workbench.documents import from_document, parse_json, to_document, write_document
from workbench.errors import ConfigError, DocumentError
from workbench.evaluation.costs import Costs, cheapest
from workbench.evaluation.grids import count_falling, precision_grid, roundest
from workbench.evaluation.intervals import upper_bound
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.production import category_mix, image_weights
from workbench.evaluation.sample_size import least_events
from workbench.evaluation.simulate import Gated, gate_scores, signals
from workbench.records import CENSORED, Draft, DraftLimit, DraftTier, Prevalence, Rejection, Routing, Scope

SCHEMA_VERSION = "1.0"
_MOST_LIMITS = 400


@dataclass(frozen=True, eq=False)
class Tuning:
    """What drafting looks at: tune rows under a frozen rejection rule, and how many certify images await."""

    labelled: Labelled
    gated: Gated
    growth: float
    """Certify images per tune image."""
    prevalence: Prevalence | None = None

    def weights(self, column: int) -> np.ndarray | None:
        """`image_weights` for a category; in single-label mode the same for each."""
        if self.labelled.taxonomy.mode == "multi-label":
            return image_weights(self.labelled, self.prevalence, column)
        return self._weights_of_all

    @cached_property
    def _weights_of_all(self) -> np.ndarray | None:
        return image_weights(self.labelled, self.prevalence, 0)


Asked = Mapping[tuple[str, str], float | None]
"""(category, action) → the threshold that a person chose, or None where the tier shall not fire."""


def draft_thresholds(
    labelled: Labelled,
    goals: Goals,
    certify_images: int,
    *,
    asked: Asked | None = None,
    rejection: Rejection | None = None,
) -> Draft:
    """A draft from the tune rows of `labelled`; `certify_images` is how many images await on certify, labels unseen.

    asked      thresholds chosen by hand, in [0, 1]; every other tier asks for what reaches its goal on tune
    rejection  a rule chosen by hand; None: the one that keeps the goals' limits on tune (`choose_rejection`)

    The error budget is shared, by weight, among the promises that something is asked for. Raises ConfigError if there
    is nothing to draft on, a rejection signal does not fit the approach, or what was chosen by hand cannot be.
    """
    tune = labelled.on("tune")
    if len(tune) == 0 or certify_images == 0:
        raise ConfigError("drafting needs labelled images on the tune split, and others on certify to test it with")
    wanted = _wanted(goals, tune)
    growth = certify_images / len(tune)
    rule = _checked_rule(rejection, tune, goals) if rejection else choose_rejection(tune, goals)
    chosen = _checked_thresholds(asked or {}, wanted, tune)
    tuning = _tuning(tune, goals, rule, growth)
    hopeful = [_ask(tuning, goals, category, tier, chosen) for category, tier in wanted]
    limits = list(_limits(goals, tune))
    promised = [place for place, ask in zip(wanted, hopeful, strict=True) if ask.asked is not None]
    share = _budget_shares(goals, promised, [limit for _, _, limit in limits])
    tiers = [
        _with_grid(ask, tuning, share(tier, category), _automatic(goals, tier))
        for (category, tier), ask in zip(wanted, hopeful, strict=True)
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
        rule,
        Routing(goals.below, goals.on_quality, dict(goals.on_outcome)),
        tuple(tiers),
        tuple(
            DraftLimit(rate, source, limit.at_most, limit.waived, 1 - share(limit, None))  # type: ignore[arg-type]
            for rate, source, limit in limits
        ),
        goals.budget,
        tuning.prevalence,
    )


def _budget_shares(
    goals: Goals, asked: Sequence[tuple[str, TierGoal]], limits: Sequence[Limit]
) -> Callable[[TierGoal | Limit, str | None], float]:
    """The error probability of each promise: (its goal, its category or None for a limit) → delta."""
    budget = (1 - goals.confidence) / goals.looks
    total: Counter[str | None] = Counter()

    def own(goal: TierGoal | Limit) -> float:
        return 1.0 if goals.budget == "family" else goal.weight

    def pot(category: str | None) -> str | None:
        return category if goals.budget == "category" else None

    for category, tier in asked:
        total[pot(category)] += own(tier)  # type: ignore[assignment]  # weights are no whole numbers
    for limit in limits:
        total[pot(None)] += own(limit)  # type: ignore[assignment]
    return lambda goal, category: budget * own(goal) / (total[pot(category)] or 1.0)


def propose_tiers(
    tune: Labelled, goals: Goals, rejection: Rejection | None = None
) -> tuple[Rejection, tuple[DraftTier, ...]]:
    """The rule and the tiers of a draft on tune rows, before grids are laid out and the error budget is shared.

    Raises ConfigError as `draft_thresholds` does.
    """
    rule = _checked_rule(rejection, tune, goals) if rejection else choose_rejection(tune, goals)
    tuning = _tuning(tune, goals, rule, 1.0)
    return rule, tuple(_ask(tuning, goals, category, tier, {}) for category, tier in _wanted(goals, tune))


def propose_tier(tune: Labelled, goals: Goals, rejection: Rejection, category: str, tier: TierGoal) -> DraftTier:
    """What drafting asks for on tune rows to reach this goal of a category, under a frozen rule; without a grid."""
    return _ask(_tuning(tune, goals, rejection, 1.0), goals, category, tier, {})


def _tuning(tune: Labelled, goals: Goals, rule: Rejection, growth: float) -> Tuning:
    return Tuning(tune, _gate(tune, rule), growth, None if goals.prevalence is None else goals.prevalence.record())


def accepted(gated: Gated, tiers: Sequence[DraftTier], automatic: frozenset[str]) -> np.ndarray:
    """(n,) bool: rows that would be told as a category if every tier stood at its asked threshold.

    Single-label: an `assigned` tier fires; multi-label: a tier of an automatic action does. A recall tier counts from
    the lowest score on, because its exported threshold may lie below the asked one; a precision tier's only where a
    higher one of its category stands there, whose images these then are. So the event is fixed by tune alone and holds
    whatever certify makes of the thresholds.
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


def _checked_thresholds(asked: Asked, wanted: Sequence[tuple[str, TierGoal]], tune: Labelled) -> Asked:
    """As binary32. Raises ConfigError for a tier that the goals do not have, and a threshold that no score can tell."""
    tiers = {(category, tier.action) for category, tier in wanted}
    for (category, action), threshold in asked.items():
        if (category, action) not in tiers:
            raise ConfigError(f"{category!r}, {action!r}: the goals have no such tier")
        floor = tune.info.floors.get(category, 0.0)
        if threshold is not None and not floor <= threshold <= 1:
            raise ConfigError(f"{category!r}, {action!r}: a threshold must lie in [{floor:g}, 1], not {threshold}")
    return {place: None if threshold is None else binary32(threshold) for place, threshold in asked.items()}


def _checked_rule(rule: Rejection, tune: Labelled, goals: Goals) -> Rejection:
    if rule.signal == "entropy" and not tune.info.complete:
        raise ConfigError(_NO_ENTROPY.format(tune.info.origin.approach))
    if rule.unknown_label != tune.info.scores_unknown or rule.action != goals.rejection.action:
        raise ConfigError(
            f"this rejection rule is not one for the run and the goals: it must say unknown_label ="
            f" {tune.info.scores_unknown} and action = {goals.rejection.action!r}"
        )
    if (rule.signal == "none") != (rule.threshold is None):
        raise ConfigError("a rejection rule has a threshold exactly where it has a signal")
    return replace(rule, threshold=None if rule.threshold is None else binary32(rule.threshold))


_NO_ENTROPY = 'rejection.signal: entropy needs scores that sum to one, {!r} has none; use "top" or "margin"'


def choose_rejection(tune: Labelled, goals: Goals) -> Rejection:
    """The rejection rule, frozen on tune; each bound has the error budget of one of equally shared promises.

    The threshold lies midway between the loosest one that keeps `unknown_accepted` (per source, with the tiers as they
    stand without the rule) and the strictest one that keeps `known_rejected`, each by an upper bound on tune; if they
    cross, the known images win and the gate will tell.
    """
    goal = goals.rejection
    none = Rejection("none", None, tune.info.scores_unknown, goal.action)
    if goal.signal == "none":
        return none
    if goal.signal == "entropy" and not tune.info.complete:
        raise ConfigError(_NO_ENTROPY.format(tune.info.origin.approach))
    delta = _delta_if_all(goals, _wanted(goals, tune), tune)
    gated = _gate(tune, none)
    values = np.where(gated.usable, _signal(tune, gated, goal.signal), np.float32(np.nan))
    candidates = _candidates(values, rising=goal.signal != "entropy")
    rejected = [_rejects(gated, values, candidate, goal.signal) for candidate in candidates]
    told = _told(tune, gated, goals)
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


def told_without_rule(tune: Labelled, goals: Goals) -> np.ndarray:
    """(n,) bool: images told as a category by the tiers that drafting gives where no rule rejects.

    Those of them that a rule does not reject are what `choose_rejection` counts as accepted; see `accepted`.
    """
    return _told(tune, _gate(tune, Rejection("none", None, tune.info.scores_unknown, goals.rejection.action)), goals)


def _between(loosest: float | None, strictest: float | None, candidates: list[float]) -> float:
    """Midway if both promises can be kept, else the one that was asked for; known images first."""
    if loosest is None or strictest is None:
        return strictest if loosest is None else loosest  # type: ignore[return-value]  # one of them was asked for
    if candidates.index(loosest) > candidates.index(strictest):
        return strictest
    return (loosest + strictest) / 2


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


def _told(tune: Labelled, gated: Gated, goals: Goals) -> np.ndarray:
    tuning = Tuning(tune, gated, 1.0)
    tiers = [_ask(tuning, goals, category, tier, {}) for category, tier in _wanted(goals, tune)]
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


def _ask(tuning: Tuning, goals: Goals, category: str, tier: TierGoal, chosen: Asked) -> DraftTier:
    """The tier with the threshold chosen by hand, or else the one that reaches the goal on tune; no grid yet."""
    tune = tuning.labelled
    scope: Scope = goals.scope_of(tier, tune.taxonomy)
    column = tune.taxonomy.categories.index(category)
    floor = np.float32(tune.info.floors.get(category, 0.0))
    rows = _Rows(
        tuning.gated.reach(column, scope, automatic=_automatic(goals, tier)),
        tune.truth[:, column],
        tuning.weights(column),
        float(np.nextafter(floor, np.float32(-1))),
    )
    if (category, tier.action) in chosen:
        found = _counted(rows, chosen[category, tier.action], tier)
    elif tier.ask == "cost":
        found = _cheapest(rows, tuning, goals, column, tier)
    else:
        find = _lowest_precise if tier.metric == "precision" else _highest_recalling
        found = find(rows, tier.at_least)
    asked, trials, successes, reason = found
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


@dataclass(frozen=True, eq=False)
class _Rows:
    """The tune rows as one tier sees them."""

    reach: np.ndarray
    truth: np.ndarray
    weights: np.ndarray | None
    least: float
    """Thresholds lie above it."""


_Found = tuple[float | None, int, int, str]
"""(threshold, trials, successes, why there is none)."""


def _lowest_precise(rows: _Rows, at_least: float) -> _Found:
    """The lowest threshold, above `least`, with that precision, where as many images count as could ever pass."""
    counts = count_falling(rows.reach, rows.truth, rows.weights)
    enough = counts.events >= least_events(at_least, 0.5)
    good = enough & (counts.precision >= at_least)
    if not good.any():
        best = float(np.max(counts.precision[enough], initial=0.0))
        reason = f"precision on tune is at most {best:.3f}" if enough.any() else "it is scarcely ever predicted on tune"
        return None, 0, 0, reason
    place = int(np.flatnonzero(good)[-1])
    below = float(counts.points[place + 1]) if place + 1 < len(counts.points) else rows.least
    threshold = roundest(below, float(counts.points[place]))
    return threshold, int(counts.events[place]), int(counts.successes[place]), ""


def _highest_recalling(rows: _Rows, at_least: float) -> _Found:
    """The highest threshold, above `least`, that finds that share of the images of the category."""
    order = np.argsort(-rows.reach[rows.truth], kind="stable")
    positives = rows.reach[rows.truth][order]
    if len(positives) == 0:
        return None, 0, 0, "tune has no image of the category"
    weights = np.ones(len(positives)) if rows.weights is None else rows.weights[rows.truth][order]
    found = np.cumsum(weights) / max(weights.sum(), 1e-300)
    place = min(int(np.argmax(found >= at_least - 1e-12)), len(positives) - 1)
    threshold = float(positives[place])
    if threshold == CENSORED:
        reachable = float(found[positives > CENSORED].max(initial=0.0))
        return None, len(positives), 0, f"only {reachable:.3f} of the category's images on tune are within reach"
    threshold = _rounded_down(rows, threshold)
    return threshold, len(positives), int((positives >= threshold).sum()), ""


def _rounded_down(rows: _Rows, threshold: float) -> float:
    """The roundest threshold that lets the same images pass."""
    below = rows.reach[rows.reach < threshold]
    return roundest(float(below.max(initial=np.float32(rows.least))), threshold)


def _cheapest(rows: _Rows, tuning: Tuning, goals: Goals, column: int, tier: TierGoal) -> _Found:
    """The threshold of this tier where flagging, acting and mistakes together cost least on tune."""
    assert goals.costs is not None  # noqa: S101 -- `check_goals` has seen to it
    if not rows.truth.any():
        return None, 0, 0, "tune has no image of the category"
    scope: Scope = "any" if tuning.gated.mode == "multi-label" else "assigned"
    choice = cheapest(
        tuning.gated.reach(column, "any", automatic=False),
        rows.truth,
        Costs(goals.costs.false_positive, goals.costs.false_negative, goals.costs.review),
        None if tuning.prevalence is None else tuning.prevalence.shares.get(tuning.gated.taxonomy.categories[column]),
        rows.weights,
        act_reach=tuning.gated.reach(column, scope, automatic=True),
    )
    chosen = choice.act if _automatic(goals, tier) else choice.flag
    if chosen is None:
        return None, 0, 0, "at these costs it is cheapest never to do it"
    return _counted(rows, _rounded_down(rows, max(chosen, rows.least)), tier)


def _counted(rows: _Rows, threshold: float | None, tier: TierGoal) -> _Found:
    """What a threshold from elsewhere gives."""
    if threshold is None:
        return None, 0, 0, "set aside by hand"
    fires = rows.reach >= np.float32(threshold)
    trials = fires if tier.metric == "precision" else rows.truth
    return threshold, int(trials.sum()), int((fires & rows.truth).sum()), ""


def _with_grid(tier: DraftTier, tuning: Tuning, delta: float, automatic: bool) -> DraftTier:
    if tier.asked is None:
        return tier
    if tier.metric == "recall":
        return replace(tier, confidence=1 - delta)
    column = tuning.labelled.taxonomy.categories.index(tier.category)
    reach = tuning.gated.reach(column, tier.scope, automatic=automatic)
    truth = tuning.labelled.truth[:, column]
    weights = tuning.weights(column)
    mix = None
    if tuning.prevalence is not None:
        mix = category_mix(tuning.labelled, tuning.prevalence, column, delta)
    grid = precision_grid(reach, truth, tier.asked, tier.at_least, delta, tuning.growth, weights=weights, mix=mix)
    return replace(tier, confidence=1 - delta, grid=grid)


def out_of_reach(draft: Draft, growth: float) -> list[str]:
    """Promises that certify will hardly have the images for, even if the classifier makes no mistake; in words.

    growth  certify images per tune image

    What counts on certify is foreseen from tune, so nothing is spent to tell. Plain counts alone are judged: with a
    prevalence the mix decides, too.
    """
    if draft.prevalence is not None:
        return []
    found = []
    for tier in draft.tiers:
        if tier.asked is None or tier.confidence is None:
            continue
        foreseen, needed = tier.tune_trials * growth, least_events(tier.at_least, tier.confidence)
        if foreseen < needed:
            found.append(
                f"{tier.category}, {tier.action}: about {foreseen:.0f} images will count on certify, and {needed} are"
                " needed even if none is wrong"
            )
    return found


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
