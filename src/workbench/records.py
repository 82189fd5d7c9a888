"""The nouns, on one page. Frozen, standard library only.

`Taxonomy`, `Image`, `Origin`, `Prediction`: what is known of images and of answers about them.
`Action` … `Policy`: the policy file; these classes are its one description (`documents` generates the JSON
Schema from them and checks a document against them).
`Mark`, `Decision`: what `decision.decide` answers.

A score is a binary32 in [0, 1], CENSORED (the provider answered, the category was below its floor)
or MISSING (no answer for that category).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

from workbench.canonical import digest
from workbench.documents import Range, Text, to_document

CENSORED = -math.inf
MISSING = math.nan

OK = "ok"
REVIEW = "review"
"""The action that every policy declares, of kind human: the place to which doubt goes."""

PREPARATION_OUTCOMES = ("unreadable", "unsupported_format", "corrupt", "truncated", "too_large", "decoder_crash")
QUALITY_OUTCOMES = ("low_information", "low_quality")
PROVIDER_OUTCOMES = (
    "provider_error",
    "refusal",
    "incomplete_answer",
    "label_outside",
    "bad_probability",
    "unstructured_answer",
    "malformed_answer",
)
OUTCOMES = (OK, *PREPARATION_OUTCOMES, *QUALITY_OUTCOMES, *PROVIDER_OUTCOMES)

Mode = Literal["single-label", "multi-label"]
Scope = Literal["assigned", "any"]
Metric = Literal["precision", "recall"]
Signal = Literal["none", "top", "margin", "entropy"]
Budget = Literal["policy", "family", "category"]
Method = Literal["counts", "prevalence", "weights"]


Name = Annotated[str, Text(r"^[\s\S]+$")]
Digest = Annotated[str, Text(r"^[0-9a-f]{64}$")]
Share = Annotated[float, Range(0.0, 1.0)]
Goal = Annotated[float, Range(0.0, 1.0, open_ends=True)]
Score = Annotated[float, Range(0.0, 1.0, binary32=True)]
SignalLimit = Annotated[float, Range(0.0, 1e6, binary32=True)]
Count = Annotated[int, Range(0, 2**53 - 1)]


@dataclass(frozen=True)
class Taxonomy:
    """What an image can be."""

    categories: tuple[Name, ...]
    """The known categories, in the order in which every table and file lists them."""
    mode: Mode = "single-label"
    unknown: Name = "unknown"
    """What an image of none of the categories is called; never a category itself."""
    outside: Literal["refuse", "unknown"] = "refuse"
    """What a label in the data that is not in the taxonomy means."""

    @cached_property
    def digest(self) -> str:
        """Names the categories, the mode and the word for unknown (not how outside labels are read)."""
        return digest({"categories": self.categories, "mode": self.mode, "unknown": self.unknown})


@dataclass(frozen=True)
class Image:
    """One labelled image of a data set."""

    id: str
    labels: tuple[str, ...] | None
    """Known categories it shows; empty means unknown; None means not labelled."""
    group: str
    """Images that are not independent of each other (a burst, an upload, near-duplicates) share it."""
    split: str


@dataclass(frozen=True)
class Origin:
    """Which classifier, exactly, an answer comes from."""

    approach: Name
    model_version: Name
    """Exact, as observed in the answers."""
    fingerprint: Digest
    """Of everything that shapes the answer: endpoint, version, prompt, label map, parameters, preparation."""
    preparation: Name
    taxonomy: Digest


@dataclass(frozen=True)
class Prediction:
    """What one approach answered about one image."""

    image_id: str
    origin: Origin | None
    """None where the caller cannot say; no policy acts on such a prediction."""
    outcome: str = OK
    """`ok`, or why there are no scores: one of OUTCOMES."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """By category, and by `Taxonomy.unknown` where the approach scores "none of these"; an absent key is MISSING."""
    detail: str = ""
    """The reason in words where the outcome is not `ok`."""


@dataclass(frozen=True)
class Action:
    """Something production can do with an image."""

    name: Name
    rank: Annotated[int, Range(0, 1000)]
    """Unique; 0 is the action that does nothing; where several apply, the highest rank wins."""
    kind: Literal["human", "automatic"]


@dataclass(frozen=True)
class Tier:
    """One threshold of one category: what happens at or above it, and what was promised about that."""

    action: Name
    metric: Metric
    at_least: Goal
    scope: Scope
    """`assigned`: only where the category is the one highest and the image is not rejected; `any`: everywhere."""
    threshold: Score | None
    """The tier fires iff the score is at or above it; null means refused: it never fires."""


@dataclass(frozen=True)
class CategoryRule:
    """The tiers of one category, by strictly rising rank of their actions."""

    category: Name
    tiers: tuple[Tier, ...]


@dataclass(frozen=True)
class Rejection:
    """When an image counts as unknown although some category scores highest."""

    signal: Signal
    """Over the known raw scores; `none` leaves the rule out."""
    threshold: SignalLimit | None
    """top, margin: rejected iff the signal is below it; entropy (in nats): iff it is above."""
    unknown_label: bool
    """The approach has a score of its own for "none of these"; the image is rejected iff it reaches the top score."""
    action: Name = REVIEW


@dataclass(frozen=True)
class Routing:
    """What happens where no tier speaks."""

    below: Name
    """Nothing fired and the image is not rejected."""
    on_quality: Name = REVIEW
    """The image was set aside for its quality."""
    on_outcome: Mapping[str, Name] = field(default_factory=dict)
    """By outcome code; an outcome that is not listed goes to review."""


@dataclass(frozen=True)
class Prevalence:
    """Of what production consists: shares of all images that arrive, before anything is rejected or set aside."""

    shares: Mapping[Name, Share]
    """By category, and under the taxonomy's word for unknown. single-label: they sum to one."""
    sample: Mapping[Name, Count] = field(default_factory=dict)
    """Images of each kind in the labelled production sample that the shares were estimated from; empty if given."""


@dataclass(frozen=True)
class DraftTier:
    """A tier as the tune split suggests it, ready to be tested on the certify split."""

    category: Name
    action: Name
    metric: Metric
    at_least: Goal
    scope: Scope
    waived: bool
    """The policy may be exported although this promise is refused."""
    confidence: Goal | None
    """Of this promise alone: one minus its part of the error budget; None where nothing is asked."""
    asked: Score | None
    """The threshold that reaches the goal on tune; None where there is none."""
    grid: tuple[Score, ...]
    """precision: falling thresholds that lead to the asked one, fixed without certify labels; recall: empty."""
    tune_trials: Count
    """Optimistic, because the threshold was chosen on them: as `Promise.trials`, on tune, at the asked threshold."""
    tune_successes: Count
    reason: str
    """Why nothing is asked; empty otherwise."""


@dataclass(frozen=True)
class DraftLimit:
    """A limit on what may go wrong about unknown images, ready to be tested."""

    rate: Literal["unknown_accepted", "known_rejected"]
    source: str
    """unknown_accepted: where these unknown images come from; known_rejected: empty."""
    at_most: Goal
    waived: bool
    confidence: Goal


@dataclass(frozen=True)
class Draft:
    """What `tune` proposes and `release` tests: everything is fixed but which thresholds the test allows."""

    schema_version: Annotated[str, Text(r"^1\.(0|[1-9][0-9]*)$")]
    origin: Origin
    complete: bool
    """The approach declares that its scores are a whole distribution."""
    dataset: Digest
    taxonomy: Taxonomy
    confidence: Goal
    """That every certified promise of the policy holds at once, over all planned looks."""
    looks: Annotated[int, Range(1, 100)]
    """How many different drafts may be tested on the same certify images; each gets that part of the budget."""
    actions: tuple[Action, ...]
    rejection: Rejection
    """Frozen on tune."""
    routing: Routing
    tiers: tuple[DraftTier, ...]
    limits: tuple[DraftLimit, ...]
    budget: Budget = "policy"
    """What one minus the confidence is the error probability of: all promises together, shared by weight (`policy`) or
    equally (`family`), or each category's promises by themselves (`category`)."""
    prevalence: Prevalence | None = None
    """What precision is promised for; None: for images that come as the certify images do."""


@dataclass(frozen=True)
class Step:
    """One point of a walk: what was counted at one threshold."""

    threshold: Score
    events: Count
    """Certify images on which the tier, or a higher one of its category, would fire."""
    successes: Count
    p_value: Share
    false_by_kind: tuple[Count, ...] = ()
    """At a production prevalence: events of each other kind of image, in the order of `Promise.kinds`."""


@dataclass(frozen=True)
class Promise:
    """A tier's goal as it was tested on the certify split."""

    category: Name
    action: Name
    metric: Metric
    at_least: Goal
    scope: Scope
    confidence: Goal | None
    """Of this promise alone: one minus its part of the policy's error budget; None where nothing was asked."""
    verdict: Literal["certified", "refused", "waived"]
    asked: Score | None
    """The threshold that the draft chose on the tune split."""
    certified: Score | None
    """The threshold that the test allows; the policy's tier carries it."""
    lower_bound: Share | None
    """One-sided bound at the promise's confidence on the metric at the certified threshold; exact for plain counts."""
    trials: Count
    """precision: images on which the tier would fire; recall: certify images that show the category."""
    successes: Count
    """precision: of those, images that show the category; recall: of those, images on which it fires."""
    unanswered: Count
    """recall: images of the category that failed or were set aside, counted as misses; precision: 0."""
    walk: tuple[Step, ...]
    """precision: every grid point that was tested, in order; recall: empty."""
    reason: str
    """Why it was refused or lowered, and what more it would take; empty where there is nothing to say."""
    needed: Count | None
    """Refused: further labelled certify images that give an 80 % chance, where that can be told."""
    needed_from: str = ""
    """Where they would have to come from."""
    method: Method = "counts"
    """What the test took into account: plain counts, the production prevalence, or design weights."""
    kinds: Mapping[Name, Count] = field(default_factory=dict)
    """At a prevalence: certify images of the category, then of each other kind."""


@dataclass(frozen=True)
class RejectionPromise:
    """A promise about unknown images, tested on the certify split at the thresholds that the draft asked for."""

    rate: Literal["unknown_accepted", "known_rejected"]
    source: str
    """unknown_accepted: where these unknown images come from; known_rejected: empty."""
    at_most: Goal
    confidence: Goal
    verdict: Literal["certified", "refused", "stress-test", "waived"]
    """`stress-test`: too few images of this source for any verdict; the figures only describe."""
    trials: Count
    events: Count
    upper_bound: Share
    reason: str
    method: Method = "counts"
    kinds: Mapping[Name, Count] = field(default_factory=dict)
    """At a prevalence: certify images of each known category."""
    events_by_kind: tuple[Count, ...] = ()
    """At a prevalence: how many of each were rejected, in that order."""


@dataclass(frozen=True)
class Calibration:
    """How well scores tell probabilities on the certify split. It describes; no decision and no promise rests on it."""

    method: Name
    """`raw`, or what was fitted on tune."""
    images: Count
    """Certify images that count and have scores."""
    brier: Share
    """Mean squared error of the probability of the highest category (multi-label: of every category)."""
    log_loss: Annotated[float, Range(0.0, 1e6)]
    """In nats."""
    ece: Share
    """Expected calibration error over 15 bins of equal mass."""
    ece_null: Share
    """What it would be on average if every probability were true."""
    smooth_ece: Share
    smooth_ece_null: Share


@dataclass(frozen=True)
class Summary:
    """What the certify split looked like; described, not promised."""

    images: Count
    """Labelled images that count: one of each group, none that also stands in train or tune."""
    set_aside: Count
    """Labelled images that do not count."""
    answered: Count
    known: Count
    correct: Count
    """single-label: known images whose one highest category is the labelled one; multi-label: known images whose every
    category would be told rightly at a score of 0.5."""
    majority: Count
    """The same count for always answering what is most common."""
    by_category: Mapping[str, Count]
    """Images that show each category; and, under the taxonomy's word for unknown, none of them."""


@dataclass(frozen=True)
class Evidence:
    """Why the thresholds may be believed."""

    draft: Draft
    """What was tested."""
    look: Digest
    """Of all that a different choice could change: certify images and labels, run, goals, grids, gates, budget."""
    look_number: Annotated[int, Range(1, 100)]
    """Which of the planned looks at these certify images this was."""
    seed: Count
    """Chooses the one image that counts of each group."""
    summary: Summary
    promises: tuple[Promise, ...]
    rejection: tuple[RejectionPromise, ...]
    calibration: tuple[Calibration, ...] = ()


@dataclass(frozen=True)
class Vector:
    """A conformance case: any program that applies this policy must decide so."""

    name: Name
    outcome: Name
    scores: Mapping[str, Score | None]
    """null is CENSORED; an absent category is MISSING."""
    action: Name
    labels: tuple[Name, ...]


@dataclass(frozen=True)
class Policy:
    """What production applies."""

    schema_version: Annotated[str, Text(r"^1\.(0|[1-9][0-9]*)$")]
    created: Annotated[str, Text(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
    origin: Origin
    complete: bool
    """The approach declares that its scores are a whole distribution (they sum to one)."""
    taxonomy: Taxonomy
    actions: tuple[Action, ...]
    categories: tuple[CategoryRule, ...]
    """One per category of the taxonomy, in its order; a category without tiers never fires."""
    rejection: Rejection
    routing: Routing
    evidence: Evidence
    vectors: tuple[Vector, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical form of all of the above."""
        return digest(to_document(self))

    @cached_property
    def rank(self) -> Mapping[str, int]:
        """Action name → rank."""
        return {action.name: action.rank for action in self.actions}

    @cached_property
    def automatic(self) -> frozenset[str]:
        """The names of the automatic actions."""
        return frozenset(action.name for action in self.actions if action.kind == "automatic")


@dataclass(frozen=True)
class Mark:
    """A tier that fired."""

    category: str
    action: str
    rank: int
    scope: Scope
    score: float
    threshold: float


@dataclass(frozen=True)
class Decision:
    """What to do with one image, and why."""

    image_id: str
    action: str
    labels: tuple[str, ...]
    """Categories told: those whose `assigned` tier fired (multi-label: any tier); unknown if rejected and none did."""
    marks: tuple[Mark, ...]
    """Every tier that fired, by rank (falling), score (falling), then the policy's order."""
    code: Literal["origin", "outcome", "quality", "missing", "unlisted", "fired", "rejected", "below"]
    """What decided."""
    reason: str
    """The same in words."""
    policy: str
    """The digest of the policy that decided."""
