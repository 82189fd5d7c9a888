"""The stand-in for Google Vision, asked by Google's own client and by hand."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPICallError, NotFound, TooManyRequests, Unauthorized
from google.auth import jwt
from google.cloud import vision
from google.oauth2 import service_account
from google.protobuf.json_format import ParseError

from drawn import draw
from servers.google import KINDS, GoogleVision, annotated, key_file, refused

LABELS, SAFE_SEARCH = vision.Feature.Type.LABEL_DETECTION, vision.Feature.Type.SAFE_SEARCH_DETECTION


@pytest.fixture
def service() -> Iterator[GoogleVision]:
    with GoogleVision() as server:
        yield server


def client(url: str, keys: Path) -> vision.ImageAnnotatorClient:
    credentials = service_account.Credentials.from_service_account_file(
        str(keys), scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    return vision.ImageAnnotatorClient(
        credentials=credentials, transport="rest", client_options=ClientOptions(api_endpoint=url)
    )


def picture(*kinds: str) -> bytes:
    file = BytesIO()
    draw(kinds, 1).save(file, "PNG")
    return file.getvalue()


def annotate(service: GoogleVision, keys: Path, content: bytes, *features: vision.Feature) -> Any:
    with client(service.url, keys) as asking:
        request = {"requests": [{"image": {"content": content}, "features": list(features)}]}
        return asking.batch_annotate_images(request=request, retry=None, timeout=10).responses[0]


def post(url: str, body: object, token: str) -> int:
    """The status of the answer, by hand."""
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310  the stand-in's address
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


class TestAnswers:
    def test_labels_are_what_is_seen_best_first_and_no_more_than_asked_for(
        self, service: GoogleVision, tmp_path: Path
    ) -> None:
        keys = key_file(tmp_path)
        found = annotate(service, keys, picture("stripes"), vision.Feature(type_=LABELS)).label_annotations
        assert KINDS["stripes"] == (found[0].mid, found[0].description)
        assert 0.6 <= found[0].score <= 1
        assert ["Stripes", "Picture"] == [label.description for label in found]
        fewer = annotate(service, keys, picture("stripes"), vision.Feature(type_=LABELS, max_results=1))
        assert ["Stripes"] == [label.description for label in fewer.label_annotations]

    def test_safe_search_grades_five_terms(self, service: GoogleVision, tmp_path: Path) -> None:
        found = annotate(service, key_file(tmp_path), picture("disc"), vision.Feature(type_=SAFE_SEARCH))
        grades = found.safe_search_annotation
        assert grades.adult >= vision.Likelihood.LIKELY
        assert [vision.Likelihood.VERY_UNLIKELY] * 3 == [grades.violence, grades.racy, grades.spoof]
        assert vision.Likelihood.UNKNOWN == grades.medical
        assert "label_annotations" not in found

    def test_what_is_no_image_is_an_error_within_the_answer(self, service: GoogleVision, tmp_path: Path) -> None:
        found = annotate(service, key_file(tmp_path), b"no image", vision.Feature(type_=LABELS))
        assert (3, "Bad image data.") == (found.error.code, found.error.message)
        assert [200] == service.replies


class TestRefusals:
    def test_a_stranger_is_not_let_in(self, service: GoogleVision, tmp_path: Path) -> None:
        with pytest.raises(Unauthorized):
            annotate(service, key_file(tmp_path, "stranger@x"), picture("disc"), vision.Feature(type_=LABELS))

    def test_who_asks_too_fast_is_told(self, tmp_path: Path) -> None:
        keys = key_file(tmp_path)
        with GoogleVision(rate=1) as service:
            annotate(service, keys, picture("disc"), vision.Feature(type_=LABELS))
            with pytest.raises(TooManyRequests, match="Quota exceeded"):
                annotate(service, keys, picture("disc"), vision.Feature(type_=LABELS))

    def test_another_method_is_not_there(self, service: GoogleVision, tmp_path: Path) -> None:
        with client(service.url, key_file(tmp_path)) as asking, pytest.raises(NotFound):
            asking.batch_annotate_files(request={"requests": []}, retry=None, timeout=10)

    def test_fields_that_the_client_does_not_know_are_refused_on_the_way_in(
        self, service: GoogleVision, tmp_path: Path
    ) -> None:
        signed = jwt.Credentials.from_service_account_file(str(key_file(tmp_path)), audience="x")
        signed.refresh(None)
        token = signed.token.decode()
        for body, status in (({"requests": []}, 200), ({"requests": [{"picture": ""}]}, 400), ({"images": []}, 400)):
            assert status == post(f"{service.url}/v1/images:annotate", body, token)
        assert 401 == post(f"{service.url}/v1/images:annotate", {"requests": []}, "no token")

    def test_and_never_sent(self) -> None:
        with pytest.raises(ParseError, match="labels"):
            annotated({"labels": []})

    def test_an_error_carries_when_to_come_back(self, service: GoogleVision, tmp_path: Path) -> None:
        service.faults.append(refused(503, "later", delay="7s"))
        with pytest.raises(GoogleAPICallError, match="later") as caught:
            annotate(service, key_file(tmp_path), picture("disc"), vision.Feature(type_=LABELS))
        assert ["7s"] == [detail["retryDelay"] for detail in caught.value.details]
