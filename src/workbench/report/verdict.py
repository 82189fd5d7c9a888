"""What was certified and what was not, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from workbench.evaluation.figures import shorten
from workbench.evaluation.sample_size import least_events
from workbench.records import Draft, Evidence, Policy, Prevalence, Promise, Rejection, RejectionPromise, Taxonomy

_MOST_NAMES = 12
_ROUNDING = 1e-9
_RIGHT_TO_LEFT = ("R", "AL", "RLE", "RLO", "RLI")


def headline(policy: Policy | None, evidence: Evidence | None, blocked: Sequence[str] = ()) -> str:
    """The outcome in one sentence."""
    if evidence is None:
        return "Measured, not certified: nothing on this page is a promise."
    certified = sum(promise.verdict == "certified" for promise in evidence.promises)
    counted = f"{certified} of {len(evidence.promises)} promises"
    if policy is None or blocked:
        return f"No policy was exported. {counted} could be certified."
    if not certified:
        return "The policy acts on nothing by itself: no promise could be certified."
    return f"{counted} are certified, {_held(evidence)}."


def _held(evidence: Evidence) -> str:
    """What the confidence is about: everything at once, or each category by itself."""
    sure = f"with {in_percent(evidence.draft.confidence)} confidence"
    if evidence.draft.budget != "category":
        return f"all at once {sure}"
    tested = len({promise.category for promise in evidence.promises if promise.asked is not None})
    wrong = f"{(1 - evidence.draft.confidence) * tested:.2g}"
    return f"each category's by themselves {sure}: of {tested} tested categories about {wrong} may be wrong"


def sentences(policy: Policy | None, evidence: Evidence | None) -> list[str]:
    """What the promises come to, the certified first, then the refused, then unknown images and everything else."""
    if evidence is None:
        return [
            "The figures below were counted on labelled images that had a part in choosing; new images may do worse."
        ]
    certified = [promise for promise in evidence.promises if promise.verdict == "certified"]
    other = [promise for promise in evidence.promises if promise.verdict != "certified"]
    return [
        *(_promised(group, "Certified" if policy else "Could be certified") for group in _alike(certified)),
        *(_refused(group) + (" It never fires there." if policy else "") for group in _alike(other)),
        *map(limit_sentence, evidence.rejection),
        *_terms(evidence),
        *([_elsewhere(policy)] if policy else []),
    ]


def _terms(evidence: Evidence) -> Iterator[str]:
    """What every promise rests on: how certified ones hold together, of which images, and which look this was."""
    draft = evidence.draft
    if draft.budget == "category" and any(limit.verdict == "certified" for limit in evidence.rejection):
        yield f"What is certified about unknown images holds together with {in_percent(draft.confidence)} confidence."
    weighted = any(promise.method == "weights" for promise in evidence.promises)
    if evidence.promises:
        yield mix_sentence(draft, weighted=weighted)
    look = f"This is look {evidence.look_number} of {draft.looks} planned at these certify images"
    yield look + ("." if draft.looks == 1 else f"; the confidence covers all {draft.looks}.")


def mix_sentence(draft: Draft, *, weighted: bool = False) -> str:
    """Which images precision is promised for."""
    if draft.prevalence is None:
        counted = ", where each counts for what it stands for" if weighted else ""
        return f"Precision is promised for images that come as the certify images do{counted}."
    mix = _mix_in_words(draft.prevalence, draft.taxonomy)
    return f"Precision is promised for this mix of arriving images: {mix} ({prevalence_source(draft.prevalence)})."


def prevalence_source(prevalence: Prevalence) -> str:
    """Whether the shares were given or estimated."""
    if not prevalence.sample:
        return "given, not measured"
    return f"estimated from a labelled sample of {sum(prevalence.sample.values()):,} images, whose error is allowed for"


def share_in_words(prevalence: Prevalence, name: str) -> str:
    """The share of one kind as it was given, or estimated with one decimal; "–" where nothing is said of it."""
    share = prevalence.shares.get(name)
    return "–" if share is None else percent(share) if prevalence.sample else in_percent(share)


def budget_in_words(draft: Draft) -> str:
    """What one minus the confidence is the error probability of."""
    sure = in_percent(draft.confidence)
    return {
        "policy": f"{sure} for all promises at once; the error budget is shared among them by weight",
        "family": f"{sure} for all promises at once; the error budget is shared among them equally",
        "category": f"{sure} for each category's promises by themselves, and for those about unknown images together",
    }[draft.budget]


def price(promise: Promise, prevalence: Prevalence | None = None) -> str:
    """What a promise that is not certified would take; empty where labels are not what is missing."""
    if promise.verdict == "certified":
        return ""
    if promise.needed is not None:
        source = promise.needed_from or (
            "images of the category" if promise.metric == "recall" else "images like these"
        )
        return f"About {promise.needed:,} more labelled images, drawn from {source}, for an 80\u202f% chance."
    if promise.asked is None or promise.confidence is None:
        return ""
    first = promise.walk[0] if promise.walk else None
    if first is not None and first.p_value <= 1 - promise.confidence:
        return ""
    shares = {} if prevalence is None else prevalence.shares
    if any(not count and shares.get(kind, 1) for kind, count in promise.kinds.items()):
        return "Labelled images of every kind that production sees are needed first."
    if first is not None and promise.method != "prevalence" and first.events < least_events(promise.at_least, 0.5):
        return "How many more labelled images it would take cannot be told from so few."
    return "No number of labels would do at these rates."


def limit_sentence(limit: RejectionPromise) -> str:
    """One promise about unknown images."""
    what = "known images are rejected as unknown"
    if limit.rate == "unknown_accepted":
        source = f" from {name_in_words(limit.source)}" if limit.source else ""
        what = f"unknown images{source} are taken for a category"
    goal, bound = in_percent(limit.at_most), percent_up(limit.upper_bound)
    if limit.verdict == "certified":
        return f"At most {goal} of {what}: certified, the bound is {bound}."
    if limit.verdict == "stress-test":
        return (
            f"Whether at most {goal} of {what} could not be told from {limit.trials} images: a stress test, no promise."
        )
    return f"That at most {goal} of {what} was {limit.verdict}: it may be {bound}."


def rejection_rule(rejection: Rejection) -> str:
    """When an image counts as unknown, in words."""
    rules = []
    if rejection.signal in ("top", "margin"):
        word = "its highest score" if rejection.signal == "top" else "the lead of its highest score over the second"
        rules.append(f"{word} is below {rejection.threshold:.3g}")
    if rejection.signal == "entropy":
        rules.append(f"the entropy of its scores is above {rejection.threshold:.3g} nats")
    if rejection.unknown_label:
        rules.append("the approach's own score for “none of these” reaches the highest")
    if not rules:
        return "No rule of its own rejects images as unknown."
    return f"An image counts as unknown if {', or if '.join(rules)}; it then goes to {name_in_words(rejection.action)}."


def names_in_words(names: Iterable[str]) -> str:
    """A list in a sentence, cut after a dozen."""
    shown = [name_in_words(name) for name in names]
    if len(shown) > _MOST_NAMES:
        shown = [*shown[: _MOST_NAMES - 1], f"{len(shown) - _MOST_NAMES + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "none"


def name_in_words(name: str) -> str:
    """A name within a sentence: short, and set apart where it runs from right to left."""
    from unicodedata import bidirectional

    short = shorten(name, 40)
    return f"\u2068{short}\u2069" if any(bidirectional(sign) in _RIGHT_TO_LEFT for sign in short) else short


def percent(share: float) -> str:
    """A share in percent with one decimal, "n/a" for NaN."""
    return "n/a" if math.isnan(share) else f"{100 * share:.1f}\u202f%"


def percent_down(share: float) -> str:
    """As `percent`, rounded down: for what is at least so much."""
    return percent(math.floor(1000 * share + _ROUNDING) / 1000)


def percent_up(share: float) -> str:
    """As `percent`, rounded up: for what is at most so much."""
    return percent(math.ceil(1000 * share - _ROUNDING) / 1000)


def in_percent(share: float) -> str:
    """A share that was written by a person: "90 %", "99.95 %"."""
    return f"{100 * share:.6g}\u202f%"


def _mix_in_words(prevalence: Prevalence, taxonomy: Taxonomy) -> str:
    """Every kind with its share in the taxonomy's order; of more than a dozen the most common ones."""
    names = [name for name in (*taxonomy.categories, taxonomy.unknown) if name in prevalence.shares]
    rest: list[str] = []
    if len(names) > _MOST_NAMES:
        ranked = sorted(names, key=lambda name: -prevalence.shares[name])
        names, others = ranked[: _MOST_NAMES - 1], ranked[_MOST_NAMES - 1 :]
        together = percent(math.fsum(prevalence.shares[name] for name in others))
        rest = [f"{len(others)} more" + (f" {together} together" if taxonomy.mode == "single-label" else "")]
    return ", ".join([*(f"{name_in_words(name)} {share_in_words(prevalence, name)}" for name in names), *rest])


def _alike(promises: Sequence[Promise]) -> Iterator[list[Promise]]:
    """Promises with one action, metric, goal and verdict together, in their order."""
    groups: dict[tuple[object, ...], list[Promise]] = {}
    for promise in promises:
        key = (promise.action, promise.metric, promise.at_least, promise.verdict)
        groups.setdefault(key, []).append(promise)
    yield from groups.values()


def _promised(group: list[Promise], verdict: str) -> str:
    action, goal = name_in_words(group[0].action), in_percent(group[0].at_least)
    names = names_in_words(promise.category for promise in group)
    if group[0].metric == "precision":
        return f"{verdict}: at least {goal} of the images that “{action}” takes as {names} are what it says."
    return f"{verdict}: at least {goal} of all images of {names} get “{action}” or more."


def _refused(group: list[Promise]) -> str:
    action, goal = name_in_words(group[0].action), in_percent(group[0].at_least)
    names = names_in_words(promise.category for promise in group)
    ending = "; the goals had waived it" if group[0].verdict == "waived" else ""
    return f"Not certified: {group[0].metric} of {goal} for “{action}” on {names}{ending}."


def _elsewhere(policy: Policy) -> str:
    below, quality = name_in_words(policy.routing.below), name_in_words(policy.routing.on_quality)
    return (
        f"Where no threshold is reached: “{below}”. Images set aside for quality: “{quality}”. "
        "Images that fail, or lack a score: “review” unless the policy names another action."
    )
