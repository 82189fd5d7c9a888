"""Predictions and decisions as JSON lines, for programs that have neither pandas nor Parquet. Standard library only.

A prediction is `{"image_id": …, "origin": {…}, "outcome": "ok", "scores": {"shoe": 0.61, "boot": null}}`: null is
CENSORED, an absent category is MISSING; `outcome` and `detail` may be left out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from workbench.canonical import shortest_binary32
from workbench.documents import from_document, parse_json, to_document
from workbench.errors import DocumentError
from workbench.records import CENSORED, OK, OUTCOMES, Decision, Origin, Prediction

_FIELDS = ("image_id", "origin", "outcome", "scores", "detail")


def read_prediction(line: str) -> Prediction:
    """The prediction in one line; raises DocumentError with the place of the fault."""
    document = parse_json(line)
    if not isinstance(document, dict):
        raise DocumentError("", "a prediction is a JSON object")
    for key in document:
        if key not in _FIELDS:
            raise DocumentError(f"/{key}", f"unknown field; known here: {', '.join(_FIELDS)}")
    image_id, outcome = document.get("image_id"), document.get("outcome", OK)
    detail = document.get("detail", "")
    if not isinstance(image_id, str) or not image_id:
        raise DocumentError("/image_id", "expected text")
    if outcome not in OUTCOMES:
        raise DocumentError("/outcome", f"expected one of {', '.join(OUTCOMES)}")
    if not isinstance(detail, str):
        raise DocumentError("/detail", "expected text")
    origin = document.get("origin")
    known = None if origin is None else from_document(Origin, origin, "/origin")
    return Prediction(image_id, known, outcome, _read_scores(document.get("scores", {})), detail)


def image_id_of(line: str) -> str | None:
    """The image that a faulty line is about, if that much can be read."""
    try:
        found = json.loads(line)["image_id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if isinstance(found, str) and found else None


def broken_prediction(image_id: str, origin: Origin, fault: str) -> Prediction:
    """What stands for a line that cannot be read: no score, and the reason."""
    return Prediction(image_id, origin, "malformed_answer", {}, fault)


def write_prediction(prediction: Prediction) -> str:
    """The line that `read_prediction` reads back."""
    scores = {
        name: None if score == CENSORED else shortest_binary32(score) for name, score in prediction.scores.items()
    }
    origin = None if prediction.origin is None else to_document(prediction.origin)
    return _line({**asdict(replace(prediction, origin=None, scores={})), "origin": origin, "scores": scores})


def write_decision(decision: Decision) -> str:
    """One line per decision."""
    marks = [
        {**asdict(mark), "score": shortest_binary32(mark.score), "threshold": shortest_binary32(mark.threshold)}
        for mark in decision.marks
    ]
    return _line({**asdict(decision), "marks": marks})


def _read_scores(document: Any) -> dict[str, float]:
    if not isinstance(document, dict):
        raise DocumentError("/scores", "expected an object of category and score")
    scores = {}
    for name, score in document.items():
        if score is None:
            scores[name] = CENSORED
        elif isinstance(score, bool) or not isinstance(score, int | float):
            raise DocumentError(f"/scores/{name}", "expected a number, or null for a category below its floor")
        else:
            scores[name] = float(score)
    return scores


def _line(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
