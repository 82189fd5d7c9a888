"""A stand-in for Google Cloud Vision's `images:annotate` over REST. Not a model: it tells what the test lets it see.

Requests and answers are held against the types of the installed client, strictly, in both directions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from google.cloud import vision
from PIL import Image

from servers.base import Reply, Seen, StandIn, serve
from servers.eyes import kinds_in

ACCOUNT = "tester@stand-in.iam.gserviceaccount.com"
KINDS = {"disc": ("/m/0d1sc", "Disc"), "stripes": ("/m/0str1p", "Stripes"), "checks": ("/m/0ch3ck", "Check pattern")}
"""By kind of drawn picture: id and description of its label."""
CUT_OFF = 0.5
"""The least score that is told."""
SAFE_SEARCH = {"adult": "disc", "violence": "stripes", "racy": "checks"}
"""By term, the kind of drawn picture that it is graded by; `spoof` is always very unlikely, `medical` unknown."""
_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED",
           500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}  # fmt: skip
_FORM = {"Content-Type": "application/json; charset=UTF-8"}


class GoogleVision(StandIn):
    """Labels and safe search. `classify` says what an image shows: by kind, a confidence in [0, 1]."""

    def __init__(
        self,
        *,
        classify: Callable[[Image.Image], Mapping[str, float]] = kinds_in,
        latency: float = 0.0,
        rate: float | None = None,
    ) -> None:
        super().__init__(latency=latency, rate=rate)
        self.classify = classify

    def answer(self, seen: Seen) -> Reply:
        address = urlsplit(seen.path)
        if (seen.method, address.path) != ("POST", "/v1/images:annotate"):
            return refused(404, "no such method")
        if _issuer(seen) != ACCOUNT:
            return refused(401, "Request had invalid authentication credentials.")
        try:
            asked = vision.BatchAnnotateImagesRequest.from_json(seen.body)
        except Exception as error:
            return refused(400, f"Invalid JSON payload received. {error}")
        numbers = parse_qs(address.query).get("$alt") == ["json;enum-encoding=int"]
        return annotated(*(self._annotate(request) for request in asked.requests), numbers=numbers)

    def throttled(self, seen: Seen) -> Reply:
        return refused(429, "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute'.")

    def _annotate(self, request: vision.AnnotateImageRequest) -> dict[str, Any]:
        try:
            image = Image.open(BytesIO(request.image.content))
            image.load()
        except OSError:
            return {"error": {"code": 3, "message": "Bad image data."}}
        found = self.classify(image)
        response: dict[str, Any] = {}
        for feature in request.features:
            if feature.type_ == vision.Feature.Type.LABEL_DETECTION:
                response["labelAnnotations"] = _labels(found)[: feature.max_results or 10]
            if feature.type_ == vision.Feature.Type.SAFE_SEARCH_DETECTION:
                grades = {term: 1 + round(4 * found.get(kind, 0.0)) for term, kind in SAFE_SEARCH.items()}
                response["safeSearchAnnotation"] = {**grades, "spoof": 1}
        return response


def annotated(*responses: Mapping[str, Any], numbers: bool = True) -> Reply:
    """HTTP 200 with these responses, after the client's own types have taken them and written them again."""
    body = vision.BatchAnnotateImagesResponse.from_json(json.dumps({"responses": responses}))
    text = vision.BatchAnnotateImagesResponse.to_json(
        body, use_integers_for_enums=numbers, always_print_fields_with_no_presence=False
    )
    return Reply(200, text.encode(), _FORM)


def refused(code: int, message: str, headers: Mapping[str, str] | None = None, delay: str = "") -> Reply:
    """An HTTP error in Google's form; `delay` ("7s") is sent as google.rpc.RetryInfo."""
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    error = {"code": code, "message": message, "status": _STATUS.get(code, "NOT_FOUND")}
    details = {"details": [retry]} if delay else {}
    return Reply(code, json.dumps({"error": {**error, **details}}).encode(), {**_FORM, **(headers or {})})


def _labels(found: Mapping[str, float]) -> list[dict[str, Any]]:
    told = [(score, *KINDS[kind]) for kind, score in found.items() if kind in KINDS and score >= CUT_OFF]
    told.append((0.52, "/m/0p1ctr", "Picture"))
    return [
        {"mid": mid, "description": name, "score": score, "topicality": score}
        for score, mid, name in sorted(told, reverse=True)
    ]


def _issuer(seen: Seen) -> str:
    """Who signed the token; "" for none. The signature itself is not checked."""
    kind, _, token = seen.headers.get("authorization", "").partition(" ")
    try:
        return str(jwt.decode(token, verify=False)["iss"]) if kind == "Bearer" else ""
    except ValueError:
        return ""


@cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


def key_file(folder: Path, account: str = ACCOUNT) -> Path:
    """A service account's key, made for this run; where tokens are fetched nobody listens, as none must be."""
    content = {
        "type": "service_account",
        "project_id": "stand-in",
        "private_key_id": "1",
        "private_key": _private_key(),
        "client_email": account,
        "client_id": "1",
        "token_uri": "http://127.0.0.1:9/token",
    }
    file = folder / "google-key.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


if __name__ == "__main__":
    serve(GoogleVision)
