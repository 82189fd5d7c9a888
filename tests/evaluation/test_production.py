from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from samples import T, make_policy
from workbench.evaluation.certify import Certificate, certify_precision
from workbench.evaluation.prevalence import Counts, Mix, precision_bound, shares_from_sample
from workbench.evaluation.production import bounds_by_share
from workbench.records import Draft, Prevalence, Promise

GIVEN = Prevalence({"shoe": 0.2, "boot": 0.5, "bag": 0.1, "unknown": 0.2})
SAMPLE = Prevalence(GIVEN.shares, {"shoe": 200, "boot": 500, "bag": 100, "unknown": 200})
KINDS = np.repeat([0, 1, 2], [500, 300, 200])
"""Of the images that are not shoes: boot, bag, unknown."""


def examined(prevalence: Prevalence, mix: Mix, at_least: float = 0.8) -> tuple[Draft, Promise]:
    """400 shoes, all at 0.9 but 20 at 0.6; of the 1,000 others 5 at 0.9 and 60 at 0.6, the walk going down to 0.5."""
    policy = make_policy({"shoe": [T("accept", 0.5)]})
    scores = np.concatenate([np.repeat([0.9, 0.6], [380, 20]), np.where(np.arange(1000) % 200 == 0, 0.9, 0.1)])
    scores[400 + np.arange(1, 1000, 16)[:60]] = 0.6
    truth = np.arange(1400) < 400
    found = certify_precision(scores.astype(np.float32), truth, at_least, 0.99, (0.8, 0.5), prevalence=mix)
    kinds = {"shoe": 400, "boot": 500, "bag": 300, "unknown": 200}
    promise = replace(
        policy.evidence.promises[0],
        at_least=at_least,
        confidence=0.99,
        verdict="certified" if isinstance(found, Certificate) else "refused",
        certified=found.threshold if isinstance(found, Certificate) else None,
        lower_bound=found.lower_bound if isinstance(found, Certificate) else None,
        walk=found.steps,
        method="prevalence",
        kinds=kinds,
    )
    return replace(policy.evidence.draft, prevalence=prevalence), promise


def rows(*, share: float, others: list[float], spent: float = 0.0) -> Mix:
    return Mix(share, np.array(others), np.concatenate([np.zeros(400, dtype=np.int64), KINDS]), spent)


def bound(share: float, others: list[float], false: list[int], true: int = 380) -> float:
    counts = Counts(np.array([true]), 400, np.array([false]), np.array([500, 300, 200]))
    return float(precision_bound(counts, Mix(share, np.array(others), np.zeros(0, dtype=np.int64)), 0.01)[0])


def test_the_stated_share_gives_the_promised_bound_and_a_rarer_category_a_lower_one() -> None:
    draft, promise = examined(GIVEN, rows(share=0.2, others=[0.5, 0.1, 0.2]))
    assert promise.certified == pytest.approx(0.8)
    rare, stated, common = bounds_by_share(draft, promise)
    assert promise.lower_bound == stated
    false = list(promise.walk[0].false_by_kind)
    assert bound(0.2 / 3, [0.5 * 7 / 6, 0.1 * 7 / 6, 0.2 * 7 / 6], false) == pytest.approx(rare)
    assert bound(0.6, [0.25, 0.05, 0.1], false) == pytest.approx(common)
    assert rare is not None
    assert common is not None
    assert rare < promise.lower_bound < common


def test_a_share_that_would_reach_one_has_no_bound() -> None:
    draft, promise = examined(GIVEN, rows(share=0.2, others=[0.5, 0.1, 0.2]))
    assert bounds_by_share(draft, promise, (5, 6)) == (None, None)
    (close,) = bounds_by_share(draft, promise, (4.99,))
    assert close == pytest.approx(1, abs=0.01)


def test_a_refused_promise_is_bounded_at_the_first_tested_point() -> None:
    draft, promise = examined(GIVEN, rows(share=0.2, others=[0.5, 0.1, 0.2]), at_least=0.995)
    assert promise.certified is None
    false = list(promise.walk[0].false_by_kind)
    assert bounds_by_share(draft, promise, (1,)) == (pytest.approx(bound(0.2, [0.5, 0.1, 0.2], false)),)


def test_shares_from_a_sample_stay_bounds_when_they_are_scaled() -> None:
    low, high = shares_from_sample([200, 500, 100, 200], 0, 0.01 / 3)
    draft, promise = examined(SAMPLE, rows(share=low, others=high.tolist(), spent=0.01 / 3))
    rare, stated, common = bounds_by_share(draft, promise)
    assert promise.lower_bound == stated
    given_draft, given = examined(GIVEN, rows(share=0.2, others=[0.5, 0.1, 0.2]))
    assert [True] * 3 == [
        known is not None and estimated is not None and estimated < known
        for estimated, known in zip((rare, stated, common), bounds_by_share(given_draft, given), strict=True)
    ]


@pytest.mark.parametrize("change", [{"method": "counts"}, {"walk": ()}, {"certified": 0.3}, {"confidence": None}])
def test_where_nothing_was_tested_at_that_threshold_there_is_no_bound(change: dict[str, object]) -> None:
    draft, promise = examined(GIVEN, rows(share=0.2, others=[0.5, 0.1, 0.2]))
    assert bounds_by_share(draft, replace(promise, **change)) == (None, None, None)  # type: ignore[arg-type]
