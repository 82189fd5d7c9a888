from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples import T, ask, make_policy, scores
from workbench.canonical import binary32
from workbench.decision import decide
from workbench.errors import DocumentError
from workbench.jsonlines import broken_prediction, read_prediction, write_decision, write_prediction
from workbench.records import CENSORED

POLICY = make_policy({"shoe": [T("review", 0.3, "any"), T("accept", 0.72)]})


@given(st.dictionaries(st.sampled_from(["shoe", "boot", "bag"]), scores))
def test_a_prediction_comes_back_from_its_line(drawn: dict[str, float]) -> None:
    prediction = ask(POLICY, **drawn)
    found = read_prediction(write_prediction(prediction))
    rounded = {name: binary32(score) for name, score in found.scores.items()}
    assert prediction == replace(found, scores=rounded)


def test_null_is_censored_and_an_absent_category_is_missing() -> None:
    found = read_prediction('{"image_id": "a", "scores": {"shoe": null, "boot": 1}}')
    assert {"shoe": CENSORED, "boot": 1.0} == found.scores
    assert found.origin is None


@pytest.mark.parametrize(
    ("line", "pointer"),
    [
        ("[]", ""),
        ("{", ""),
        ('{"image_id": 7}', "/image_id"),
        ("{}", "/image_id"),
        ('{"image_id": "a", "outcome": "fine"}', "/outcome"),
        ('{"image_id": "a", "scores": []}', "/scores"),
        ('{"image_id": "a", "scores": {"shoe": "0.5"}}', "/scores/shoe"),
        ('{"image_id": "a", "scores": {"shoe": true}}', "/scores/shoe"),
        ('{"image_id": "a", "scores": {"shoe": NaN}}', "/scores/shoe"),
        ('{"image_id": "a", "scores": {"shoe": 0.1, "shoe": 0.9}}', "/scores/shoe"),
        ('{"image_id": "a", "origin": {"approach": "x"}}', "/origin/model_version"),
        ('{"image_id": "a", "label": "shoe"}', "/label"),
        ('{"image_id": "a", "detail": 3}', "/detail"),
    ],
)
def test_a_line_that_is_no_prediction_says_where_it_is_wrong(line: str, pointer: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_prediction(line)
    assert pointer == caught.value.pointer


def test_what_cannot_be_read_goes_to_review() -> None:
    decision = decide(broken_prediction("line 3", POLICY.origin, "/scores: expected an object"), POLICY)
    assert ("review", "outcome") == (decision.action, decision.code)
    assert "/scores: expected an object" in decision.reason


def test_a_decision_is_one_line_with_its_reason() -> None:
    line = write_decision(decide(ask(POLICY, shoe=0.8), POLICY))
    found = json.loads(line)
    assert "\n" not in line
    assert ("accept", ["shoe"], "shoe 0.8 ≥ 0.72") == (found["action"], found["labels"], found["reason"])
    assert 0.72 == found["marks"][0]["threshold"]
