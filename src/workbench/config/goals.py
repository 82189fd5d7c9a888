"""Goals: what each tier of each category must reach, how sure that must be, and what happens elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.errors import ConfigError
from workbench.records import OUTCOMES, REVIEW, Action, Budget, Metric, Prevalence, Scope, Signal, Taxonomy


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ActionGoal(_Strict):
    """One of the things production can do; see `records.Action`."""

    name: str = Field(min_length=1)
    rank: int = Field(ge=0, le=1000)
    kind: Literal["human", "automatic"]


class TierGoal(_Strict):
    """What one tier must reach."""

    action: str
    metric: Metric
    at_least: float = Field(ge=0.01, le=0.9999)
    scope: Scope | None = None
    """None: `assigned` for precision, `any` for recall; single-label: always `assigned` for an automatic action."""
    waived: bool = False
    """The policy may be exported although this promise is refused."""
    weight: float = Field(default=1.0, ge=0.001, le=1000)
    """Share of the error budget, relative to the other promises."""
    ask: Literal["goal", "cost"] = "goal"
    """What chooses the threshold on tune: the goal itself, or the least expected cost (see `CostGoal`). `at_least` is
    promised either way."""


class Limit(_Strict):
    """A rate that must not be exceeded."""

    at_most: float = Field(ge=0.0001, le=0.99)
    waived: bool = False
    weight: float = Field(default=1.0, ge=0.001, le=1000)


class PrevalenceGoal(_Strict):
    """Of what production consists: by category and under the word for unknown, either shares or counted images."""

    shares: Mapping[str, float] = Field(default_factory=dict)
    """Known shares of all arriving images."""
    counts: Mapping[str, int] = Field(default_factory=dict)
    """Images of each kind in a labelled random sample of production; what that leaves open costs error budget."""

    def record(self) -> Prevalence:
        """As the draft and the policy hold it."""
        total = sum(self.counts.values())
        shares = {name: count / total for name, count in self.counts.items()} if self.counts else dict(self.shares)
        return Prevalence(shares, dict(self.counts))


class CostGoal(_Strict):
    """What mistakes and reviews cost, in one unit; tiers with `ask = "cost"` get the cheapest thresholds."""

    false_positive: float = Field(ge=0)
    """An automatic action on an image that does not show the category."""
    false_negative: float = Field(ge=0)
    """An image of the category on which nothing fires."""
    review: float = Field(ge=0)
    """An image that a person looks at."""


class RejectionGoal(_Strict):
    """When an image counts as unknown, and what may go wrong about that."""

    signal: Signal = "top"
    action: str = REVIEW
    unknown_accepted: Limit | None = None
    """Of the unknown images of each source: how many may be told as a category."""
    known_rejected: Limit | None = None
    """Of the known images: how many may be rejected."""


Tiers = Annotated[tuple[TierGoal, ...], Field(strict=False)]  # TOML has lists, a frozen model holds tuples

_MOST_COUNTED = 10**9
"""Images of one kind in a sample of production."""

DEFAULT_ACTIONS = (
    ActionGoal(name="pass", rank=0, kind="automatic"),
    ActionGoal(name=REVIEW, rank=1, kind="human"),
    ActionGoal(name="accept", rank=2, kind="automatic"),
)


class Goals(_Strict):
    """All that a policy is to promise."""

    confidence: float = Field(default=0.95, ge=0.5, le=0.9999)
    """That all certified promises hold at once."""
    below: str
    """What happens where no tier fires and the image is not rejected."""
    on_quality: str = REVIEW
    on_outcome: Mapping[str, str] = Field(default_factory=dict)
    budget: Budget = "policy"
    """What the confidence is about: all promises together, sharing the error budget by weight (`policy`) or equally
    (`family`), or the promises of each category by themselves (`category`)."""
    looks: int = Field(default=1, ge=1, le=100)
    """How many different choices may be tested on the same certify images; each gets that part of the budget."""
    actions: tuple[ActionGoal, ...] = Field(default=DEFAULT_ACTIONS, strict=False)
    tiers: Tiers = ()
    """For every category that `category` does not name."""
    category: Mapping[str, Tiers] = Field(default_factory=dict)
    rejection: RejectionGoal = RejectionGoal(signal="none")
    prevalence: PrevalenceGoal | None = None
    """None: precision is promised for images that come as the certify images do."""
    costs: CostGoal | None = None

    def tiers_of(self, category: str) -> tuple[TierGoal, ...]:
        """The tiers of one category, by rising rank."""
        rank = {action.name: action.rank for action in self.actions}
        return tuple(sorted(self.category.get(category, self.tiers), key=lambda tier: rank[tier.action]))

    def scope_of(self, tier: TierGoal, taxonomy: Taxonomy) -> Scope:
        """The scope that was written, or the default."""
        if taxonomy.mode == "multi-label":
            return "any"
        if tier.scope is not None:
            return tier.scope
        automatic = any(action.name == tier.action and action.kind == "automatic" for action in self.actions)
        return "assigned" if automatic or tier.metric == "precision" else "any"

    def records(self) -> tuple[Action, ...]:
        """The actions as the policy holds them, by rank."""
        return tuple(Action(a.name, a.rank, a.kind) for a in sorted(self.actions, key=lambda action: action.rank))


def check_goals(goals: Goals, taxonomy: Taxonomy, where: str) -> None:
    """Refuse goals that no policy could hold; ConfigError lists every fault, each with its field."""
    faults = [*_action_faults(goals), *_category_faults(goals, taxonomy)]
    if not faults:
        faults = [
            *_tier_faults(goals, taxonomy),
            *_rejection_faults(goals, taxonomy),
            *_prevalence_faults(goals, taxonomy),
            *_cost_faults(goals),
        ]
    if faults:
        raise ConfigError("\n".join(f"{where}: {fault}" for fault in faults))


def _action_faults(goals: Goals) -> Iterator[str]:
    kinds = {action.name: action for action in goals.actions}
    ranks = [action.rank for action in goals.actions]
    if len(kinds) < len(goals.actions):
        yield "actions: two actions have the same name"
    if len(set(ranks)) < len(ranks):
        yield "actions: two actions have the same rank"
    if ranks.count(0) != 1:
        yield "actions: exactly one action must have rank 0, the one that does nothing"
    if REVIEW not in kinds or kinds[REVIEW].kind != "human":
        yield f'actions: one must be {{name = "{REVIEW}", kind = "human"}}; doubt goes there'
    used = {"below": goals.below, "on_quality": goals.on_quality, "rejection.action": goals.rejection.action}
    used |= {f"on_outcome.{code}": name for code, name in goals.on_outcome.items()}
    for field, name in used.items():
        action = kinds.get(name)
        if action is None:
            yield f"{field}: no action is called {name!r}; declared: {', '.join(kinds)}"
        elif action.kind == "automatic" and (field.startswith("on_") or action.rank > 0):
            yield f"{field}: {name!r} is automatic, and no promise covers it there; name a human action"
    for code in goals.on_outcome:
        if code not in OUTCOMES[1:]:
            yield f"on_outcome.{code}: no such outcome; known: {', '.join(OUTCOMES[1:])}"


def _category_faults(goals: Goals, taxonomy: Taxonomy) -> Iterator[str]:
    for category in goals.category:
        if category not in taxonomy.categories:
            yield f"category.{category}: not in the taxonomy; its categories: {', '.join(taxonomy.categories)}"
    names = {action.name for action in goals.actions}
    for place, tiers in [
        ("tiers", goals.tiers),
        *((f"category.{name}", tiers) for name, tiers in goals.category.items()),
    ]:
        for tier in tiers:
            if tier.action not in names:
                yield f"{place}: no action is called {tier.action!r}; declared: {', '.join(sorted(names))}"
    if not goals.tiers and not any(goals.category.values()):
        yield "tiers: there is no tier at all; say what some action must reach"


def _tier_faults(goals: Goals, taxonomy: Taxonomy) -> Iterator[str]:
    actions = {action.name: action for action in goals.actions}
    for category in taxonomy.categories:
        tiers = goals.tiers_of(category)
        place = f"category.{category}" if category in goals.category else "tiers"
        names = [tier.action for tier in tiers]
        if len(set(names)) < len(names):
            yield f"{place}: two tiers lead to the same action"
        scopes = [goals.scope_of(tier, taxonomy) for tier in tiers]
        if "assigned" in scopes and "any" in scopes[scopes.index("assigned") :]:
            yield f'{place}: a tier of scope "any" stands above one of scope "assigned"; its event would not lie within'
        precisions = [tier.at_least for tier in tiers if tier.metric == "precision"]
        if precisions != sorted(precisions):
            yield f"{place}: a higher tier asks for less precision than a lower one, whose images it is part of"
        for tier, scope in zip(tiers, scopes, strict=True):
            action = actions[tier.action]
            if action.rank == 0:
                yield f"{place}: {tier.action!r} does nothing (rank 0); a tier must lead to something"
            if taxonomy.mode == "single-label" and action.kind == "automatic" and scope == "any":
                yield f'{place}: {tier.action!r} is automatic; in single-label mode its scope is "assigned"'
            if taxonomy.mode == "multi-label" and tier.scope == "assigned":
                yield f'{place}: multi-label images are not assigned to one category; every scope is "any"'


def _rejection_faults(goals: Goals, taxonomy: Taxonomy) -> Iterator[str]:
    limits = (goals.rejection.unknown_accepted, goals.rejection.known_rejected)
    if goals.rejection.signal != "none" and limits == (None, None):
        yield "rejection: say unknown_accepted or known_rejected, so that there is a threshold to choose"
    if taxonomy.mode == "multi-label" and goals.rejection.signal not in ("none", "top"):
        yield f"rejection.signal: {goals.rejection.signal!r} needs one category per image; multi-label knows top"


def _prevalence_faults(goals: Goals, taxonomy: Taxonomy) -> Iterator[str]:
    given = goals.prevalence
    if given is None:
        return
    if bool(given.shares) == bool(given.counts):
        yield "prevalence: give either shares or counts"
        return
    field = "shares" if given.shares else "counts"
    named: Mapping[str, float] = given.shares or given.counts
    kinds = (*taxonomy.categories, taxonomy.unknown)
    for name in named:
        if name not in kinds:
            yield f"prevalence.{field}.{name}: no such category; known: {', '.join(kinds)}"
    for name in kinds:
        if name not in named and not (name == taxonomy.unknown and taxonomy.mode == "multi-label"):
            yield f"prevalence.{field}: {name!r} is missing (0 where production has none)"
    for name, value in named.items():
        if value < 0 or value > (1 if given.shares else _MOST_COUNTED):
            yield (
                f"prevalence.{field}.{name}: {value} is no share" if given.shares else f"prevalence.{field}.{name}: < 0"
            )
    total = math.fsum(named.values())
    if given.counts and not total:
        yield "prevalence.counts: the sample is empty"
    if given.shares and taxonomy.mode == "single-label" and abs(total - 1) > 1e-6:
        yield f"prevalence.shares: they sum to {total:.6g}; in single-label mode they are shares of all images, so 1"
    if given.counts and taxonomy.mode == "multi-label":
        yield "prevalence.counts: in multi-label mode an image counts several times; give shares"


def _cost_faults(goals: Goals) -> Iterator[str]:
    tiers = [*goals.tiers, *(tier for tiers in goals.category.values() for tier in tiers)]
    if goals.costs is None and any(tier.ask == "cost" for tier in tiers):
        yield 'costs: a tier says ask = "cost", so say what a false_positive, a false_negative and a review cost'
