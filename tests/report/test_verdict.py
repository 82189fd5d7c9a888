from __future__ import annotations

import math
from dataclasses import replace

import pytest

from samples import T, make_policy
from workbench.records import Evidence, Prevalence, Promise, Rejection, RejectionPromise, Step
from workbench.report import verdict

POLICY = make_policy(
    {
        "shoe": [T("review", 0.3, "any", "recall"), T("accept", 0.7)],
        "boot": [T("accept", 0.8)],
        "bag": [T("accept", None)],
    }
)
LIMIT = RejectionPromise("unknown_accepted", "web", 0.1, 0.99, "certified", 300, 9, 0.0612, "")


def test_the_headline_counts_what_is_certified() -> None:
    assert "3 of 4 promises are certified, all at once with 95\u202f% confidence." == (
        verdict.headline(POLICY, POLICY.evidence)
    )


def test_the_headline_says_when_nothing_may_be_believed() -> None:
    assert verdict.headline(None, None).startswith("Measured, not certified")
    assert "No policy was exported. 3 of 4 promises could be certified." == (
        verdict.headline(None, POLICY.evidence, ["recall of shoe is refused"])
    )
    refused = make_policy({"shoe": [T("accept", None)]})
    assert "The policy acts on nothing by itself: no promise could be certified." == (
        verdict.headline(refused, refused.evidence)
    )


def test_alike_promises_share_a_sentence() -> None:
    assert [
        "Certified: at least 90\u202f% of all images of shoe get “review” or more.",
        "Certified: at least 90\u202f% of the images that “accept” takes as shoe and boot are what it says.",
        "Not certified: precision of 90\u202f% for “accept” on bag. It never fires there.",
        "Precision is promised for images that come as the certify images do.",
        "This is look 1 of 1 planned at these certify images.",
    ] == verdict.sentences(POLICY, POLICY.evidence)[:-1]
    assert verdict.sentences(POLICY, POLICY.evidence)[-1].startswith("Where no threshold is reached: “pass”.")


def test_without_a_policy_nothing_is_said_to_fire() -> None:
    found = verdict.sentences(None, POLICY.evidence)
    assert found[0].startswith("Could be certified: ")
    assert "Not certified: precision of 90\u202f% for “accept” on bag." in found
    assert not [
        sentence for sentence in found if "It never fires there" in sentence or "Where no threshold" in sentence
    ]


def test_a_waived_promise_is_called_so() -> None:
    promises = tuple(replace(promise, verdict="waived") for promise in POLICY.evidence.promises[-1:])
    evidence = replace(POLICY.evidence, promises=promises)
    assert verdict.sentences(None, evidence)[0].endswith("on bag; the goals had waived it.")


def drafted(**change: object) -> Evidence:
    return replace(POLICY.evidence, draft=replace(POLICY.evidence.draft, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("budget", ["policy", "family"])
def test_one_budget_for_all_means_all_at_once(budget: str) -> None:
    evidence = drafted(budget=budget)
    assert verdict.headline(POLICY, evidence).endswith("all at once with 95\u202f% confidence.")
    assert verdict.budget_in_words(evidence.draft).startswith("95\u202f% for all promises at once")


def test_a_budget_by_category_counts_the_tested_categories_that_may_be_wrong() -> None:
    """`bag` was not asked for anything, so of two categories 0.1 may be wrong."""
    evidence = replace(drafted(budget="category"), rejection=(LIMIT,))
    headline = verdict.headline(POLICY, evidence)
    assert headline.endswith(
        "each category's by themselves with 95\u202f% confidence: of 2 tested categories about 0.1 may be wrong."
    )
    assert "at once" not in headline
    together = "What is certified about unknown images holds together with 95\u202f% confidence."
    assert together in verdict.sentences(POLICY, evidence)
    assert together not in verdict.sentences(POLICY, replace(POLICY.evidence, rejection=(LIMIT,)))
    assert verdict.budget_in_words(evidence.draft).startswith("95\u202f% for each category's promises by themselves")


def test_a_later_look_says_that_the_confidence_covers_all_planned_ones() -> None:
    evidence = replace(drafted(looks=3), look_number=2)
    assert "This is look 2 of 3 planned at these certify images; the confidence covers all 3." in (
        verdict.sentences(POLICY, evidence)
    )


GIVEN = Prevalence({"shoe": 0.13, "boot": 0.005, "bag": 0.745, "unknown": 0.12})
COUNTED = Prevalence(
    {"shoe": 1 / 3, "boot": 1 / 6, "bag": 1 / 4, "unknown": 1 / 4},
    {"shoe": 400, "boot": 200, "bag": 300, "unknown": 300},
)


def test_the_mix_of_production_is_named_and_where_it_comes_from() -> None:
    assert (
        "Precision is promised for this mix of arriving images: shoe 13\u202f%, boot 0.5\u202f%, bag 74.5\u202f%, "
        "unknown 12\u202f% (given, not measured)."
    ) in verdict.sentences(POLICY, drafted(prevalence=GIVEN))
    assert (
        "Precision is promised for this mix of arriving images: shoe 33.3\u202f%, boot 16.7\u202f%, bag 25.0\u202f%, "
        "unknown 25.0\u202f% (estimated from a labelled sample of 1,200 images, whose error is allowed for)."
    ) in verdict.sentences(POLICY, drafted(prevalence=COUNTED))
    assert "–" == verdict.share_in_words(GIVEN, "hat")


def test_of_many_kinds_the_most_common_are_named() -> None:
    names = [f"c{number}" for number in range(20)]
    made = make_policy({}, categories=names)
    shares = dict.fromkeys(names, 0.01) | {"c19": 0.5, "unknown": 0.31}
    sentence = verdict.mix_sentence(replace(made.evidence.draft, prevalence=Prevalence(shares)))
    assert "images: c19 50\u202f%, unknown 31\u202f%, c0 1\u202f%" in sentence
    assert sentence.endswith("c8 1\u202f%, 10 more 10.0\u202f% together (given, not measured).")


def test_weighted_images_count_for_what_they_stand_for() -> None:
    promises = tuple(replace(promise, method="weights") for promise in POLICY.evidence.promises)
    assert (
        "Precision is promised for images that come as the certify images do, where each counts for what it stands for."
    ) in verdict.sentences(POLICY, replace(POLICY.evidence, promises=promises))


def refused(**change: object) -> Promise:
    """83 of 100 right, at a goal of 90 %."""
    tested = {"asked": 0.5, "certified": None, "needed": None, "walk": (Step(0.5, 100, 83, 0.99),)}
    return replace(POLICY.evidence.promises[-1], **(tested | change))  # type: ignore[arg-type]


KINDS = {"bag": 100, "shoe": 100, "boot": 0, "unknown": 50}


@pytest.mark.parametrize(
    ("promise", "words"),
    [
        (POLICY.evidence.promises[0], ""),
        (
            refused(needed=7464, needed_from="images of other kinds, in the mix that production sees"),
            (
                "About 7,464 more labelled images, drawn from images of other kinds, in the mix that production sees, "
                "for an 80 % chance."
            ),
        ),
        (refused(needed=12), "About 12 more labelled images, drawn from images like these, for an 80 % chance."),
        (
            refused(needed=12, metric="recall", walk=()),
            "About 12 more labelled images, drawn from images of the category, for an 80 % chance.",
        ),
        (refused(), "No number of labels would do at these rates."),
        (refused(metric="recall", walk=()), "No number of labels would do at these rates."),
        (
            refused(walk=(Step(0.5, 2, 2, 0.81),)),
            "How many more labelled images it would take cannot be told from so few.",
        ),
        (
            refused(method="prevalence", kinds=KINDS),
            "Labelled images of every kind that production sees are needed first.",
        ),
        (refused(walk=(Step(0.5, 100, 99, 0.0003),)), ""),
        (refused(asked=None, walk=()), ""),
    ],
)
def test_the_price_of_a_promise_that_was_refused(promise: Promise, words: str) -> None:
    assert words == verdict.price(promise, GIVEN).replace("\u202f", " ")


def test_a_kind_that_production_never_sees_needs_no_labels() -> None:
    shares = Prevalence({"shoe": 0.3, "boot": 0.0, "bag": 0.5, "unknown": 0.2})
    assert "No number of labels would do at these rates." == (
        verdict.price(refused(method="prevalence", kinds=KINDS), shares)
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "At most 10 % of unknown images from web are taken for a category: certified, the bound is 6.2 %."),
        (
            {"verdict": "refused", "upper_bound": 0.1401},
            "That at most 10 % of unknown images from web are taken for a category was refused: it may be 14.1 %.",
        ),
        (
            {"verdict": "stress-test", "trials": 4},
            (
                "Whether at most 10 % of unknown images from web are taken for a category could not be told "
                "from 4 images: a stress test, no promise."
            ),
        ),
        (
            {"rate": "known_rejected", "source": ""},
            "At most 10 % of known images are rejected as unknown: certified, the bound is 6.2 %.",
        ),
    ],
)
def test_promises_about_unknown_images_in_words(change: dict[str, object], sentence: str) -> None:
    assert sentence == verdict.limit_sentence(replace(LIMIT, **change)).replace("\u202f", " ")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rejection", "words"),
    [
        (Rejection("none", None, unknown_label=False), "No rule of its own rejects images as unknown."),
        (Rejection("top", 0.5, unknown_label=False), "if its highest score is below 0.5; it then goes to review."),
        (
            Rejection("margin", 0.1, unknown_label=False),
            "if the lead of its highest score over the second is below 0.1;",
        ),
        (Rejection("entropy", 1.2, unknown_label=False), "if the entropy of its scores is above 1.2 nats;"),
        (
            Rejection("top", 0.5, unknown_label=True),
            "is below 0.5, or if the approach's own score for “none of these” reaches the highest; it",
        ),
    ],
)
def test_the_rejection_rule_in_words(rejection: Rejection, words: str) -> None:
    assert words in verdict.rejection_rule(rejection)


def test_bounds_are_rounded_to_the_side_that_promises_less() -> None:
    assert ("89.9\u202f%", "90.0\u202f%") == (verdict.percent_down(0.89999), verdict.percent_down(0.9))
    assert ("9.1\u202f%", "9.0\u202f%") == (verdict.percent_up(0.09001), verdict.percent_up(0.09))
    assert "57.0\u202f%" == verdict.percent_down(0.57)
    assert "n/a" == verdict.percent(math.nan)
    assert ("90\u202f%", "99.95\u202f%") == (verdict.in_percent(0.9), verdict.in_percent(0.9995))


def test_names_are_listed_shortened_and_set_apart() -> None:
    assert "none" == verdict.names_in_words([])
    assert "a" == verdict.names_in_words(["a"])
    assert "a, b and c" == verdict.names_in_words("abc")
    assert "a, b, c, d, e, f, g, h, i, j, k and 5 more" == verdict.names_in_words("abcdefghijklmnop")
    assert 40 == len(verdict.name_in_words("L" * 500))
    assert "\u2068مرحبا\u2069" == verdict.name_in_words("مرحبا")
