from __future__ import annotations

import math
from dataclasses import replace

import pytest

from samples import T, make_policy
from workbench.records import Rejection, RejectionPromise
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
    ] == verdict.sentences(POLICY, POLICY.evidence)[:-1]
    assert verdict.sentences(POLICY, POLICY.evidence)[-1].startswith("Where no threshold is reached: “pass”.")


def test_without_a_policy_nothing_is_said_to_fire() -> None:
    found = verdict.sentences(None, POLICY.evidence)
    assert found[0].startswith("Could be certified: ")
    assert "Not certified: precision of 90\u202f% for “accept” on bag." == found[-1]


def test_a_waived_promise_is_called_so() -> None:
    promises = tuple(replace(promise, verdict="waived") for promise in POLICY.evidence.promises[-1:])
    evidence = replace(POLICY.evidence, promises=promises)
    assert verdict.sentences(None, evidence)[0].endswith("on bag; the goals had waived it.")


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
