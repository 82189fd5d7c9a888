"""The stand-in for Rekognition keeps to the documented protocol, limits and meaning of answers."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from PIL import Image

from drawn import KINDS, draw
from servers.aws_json import KEY, SECRET, failure, faults, operation_model
from servers.eyes import kinds_in
from servers.rekognition import Known, Rekognition

ADAPTER = "arn:aws:rekognition:eu-west-1:123456789012:project/mine/version/mine.1/1700000000000"


@pytest.fixture
def service() -> Iterator[Rekognition]:
    with Rekognition() as server:
        yield server


@pytest.fixture
def client(service: Rekognition) -> Iterator[Any]:
    made = make_client(service, SECRET)
    yield made
    made.close()


def make_client(service: Rekognition, secret: str) -> Any:
    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": secret}
    config = Config(retries={"total_max_attempts": 1})
    return boto3.client("rekognition", region_name="eu-west-1", endpoint_url=service.url, config=config, **keys)


def picture(*size: int, kind: str = "PNG", **how: Any) -> bytes:
    file = BytesIO()
    draw(("disc",), 3).resize(size or (100, 100)).save(file, kind, **how)
    return file.getvalue()


def code_of(client: Any, operation: str = "detect_labels", **given: Any) -> str:
    with pytest.raises(ClientError) as caught:
        getattr(client, operation)(**given)
    return str(caught.value.response["Error"]["Code"])


class TestProtocol:
    """The example request and the error body of the documentation, byte by byte."""

    REQUEST = b'{"Image": {"Bytes": "/9hhYmM="}, "MaxLabels": 10, "MinConfidence": 0}'
    HEADERS = {  # noqa: RUF012  never written to
        "Accept-Encoding": "identity",
        "X-Amz-Target": "RekognitionService.DetectLabels",
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Date": "20261123T122156Z",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/us-east-1/rekognition/aws4_request,"
        f" SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={'0' * 64}",
        "amz-sdk-request": "attempt=1; max=3",
    }

    def send(
        self, service: Rekognition, body: bytes = REQUEST, path: str = "/", **changed: str | None
    ) -> tuple[int, dict[str, str], Any]:
        names = {name.replace("-", "_").lower(): name for name in self.HEADERS}
        headers = self.HEADERS | {names[name]: value for name, value in changed.items()}
        connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=10)
        try:
            connection.request(
                "POST", path, body, {name: value for name, value in headers.items() if value is not None}
            )
            reply = connection.getresponse()
            return reply.status, {name.lower(): value for name, value in reply.getheaders()}, json.loads(reply.read())
        finally:
            connection.close()

    def test_the_example_is_read_up_to_its_image(self, service: Rekognition) -> None:
        status, headers, answer = self.send(service)
        assert 400 == status
        assert "application/x-amz-json-1.1" == headers["content-type"]
        assert 36 == len(headers["x-amzn-requestid"])
        assert {"__type", "Code", "Logref", "Message"} == set(answer)
        assert "InvalidImageFormatException" == answer["__type"] == answer["Code"]
        assert "Request has invalid image format" == answer["Message"]
        assert [b"\xff\xd8abc"] == service.arrived

    def test_the_example_with_a_picture_is_answered(self, service: Rekognition) -> None:
        body = self.REQUEST.replace(b"/9hhYmM=", base64.b64encode(picture()))
        status, headers, answer = self.send(service, body)
        assert (200, "application/x-amz-json-1.1") == (status, headers["content-type"])
        assert {"Labels", "LabelModelVersion"} == set(answer)
        assert [] == list(faults(operation_model("rekognition", "DetectLabels").output_shape, answer))

    @pytest.mark.parametrize(
        ("changed", "status", "code"),
        [
            ({"authorization": None}, 403, "MissingAuthenticationTokenException"),
            ({"authorization": "Bearer token"}, 400, "IncompleteSignatureException"),
            ({"authorization": HEADERS["Authorization"].replace("0" * 64, "0")}, 400, "IncompleteSignatureException"),
            ({"authorization": HEADERS["Authorization"].replace("host;", "")}, 400, "IncompleteSignatureException"),
            (
                {"authorization": HEADERS["Authorization"].replace("/rekognition/", "/s3/")},
                400,
                "InvalidSignatureException",
            ),
            ({"x_amz_target": "RekognitionService.Nothing"}, 400, "UnknownOperationException"),
            ({"x_amz_target": "Other.DetectLabels"}, 400, "UnknownOperationException"),
            ({"x_amz_target": None}, 400, "UnknownOperationException"),
            ({"path": "/other"}, 400, "UnknownOperationException"),
            ({"content_type": "application/json"}, 400, "SerializationException"),
            ({"body": b"{"}, 400, "SerializationException"),
            ({"body": b"[]"}, 400, "InvalidParameterException"),
            ({"body": b"{}"}, 400, "InvalidParameterException"),
            ({"body": b'{"Image": {"Bytes": "no base64!"}}'}, 400, "InvalidParameterException"),
            ({"body": b'{"Image": {"Bytes": "/9hhYmM="}, "Other": 1}'}, 400, "InvalidParameterException"),
        ],
    )
    def test_another_request_is_refused(
        self, service: Rekognition, changed: dict[str, Any], status: int, code: str
    ) -> None:
        answered, _, answer = self.send(service, **changed)
        assert (status, code) == (answered, answer["Code"])

    def test_signatures_are_checked_where_keys_are_known(self, service: Rekognition, client: Any) -> None:
        service.keys = {KEY: SECRET}
        assert client.detect_labels(Image={"Bytes": picture()})["Labels"]
        wrong = make_client(service, "another")
        assert "InvalidSignatureException" == code_of(wrong, Image={"Bytes": picture()})
        wrong.close()
        service.keys = {}
        assert "UnrecognizedClientException" == code_of(client, Image={"Bytes": picture()})
        service.keys, service.expired = None, {KEY}
        assert "ExpiredTokenException" == code_of(client, Image={"Bytes": picture()})

    def test_an_old_signature_is_refused(self, service: Rekognition) -> None:
        service.keys = {"AKIDEXAMPLE": SECRET}
        assert "Signature expired" in self.send(service)[2]["Message"]
        now = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        assert "does not match" in self.send(service, x_amz_date=now)[2]["Message"]

    def test_who_is_not_allowed_is_told(self, service: Rekognition, client: Any) -> None:
        service.denied = {"DetectLabels"}
        assert "AccessDeniedException" == code_of(client, Image={"Bytes": picture()})
        assert client.detect_moderation_labels(Image={"Bytes": picture()})

    @pytest.mark.parametrize(("code", "status"), [("ThrottlingException", 400), ("InternalServerError", 500)])
    def test_faults_come_as_the_client_knows_them(
        self, service: Rekognition, client: Any, code: str, status: int
    ) -> None:
        service.faults.append(failure(code, "As documented", status))
        with pytest.raises(getattr(client.exceptions, code)) as caught:
            client.detect_labels(Image={"Bytes": picture()})
        assert ("As documented", status) == (
            caught.value.response["Error"]["Message"],
            caught.value.response["ResponseMetadata"]["HTTPStatusCode"],
        )

    def test_an_answer_that_breaks_the_shape_is_never_sent(
        self, service: Rekognition, client: Any, capfd: pytest.CaptureFixture[str]
    ) -> None:
        service.content_types = {"Animated": 170.0}
        with pytest.raises(Exception, match="Connection was closed"):
            client.detect_moderation_labels(Image={"Bytes": picture()})
        assert "Confidence is not within 0..100" in capfd.readouterr().err


class TestLimits:
    """Those that botocore does not check."""

    @pytest.mark.parametrize(
        ("image", "expected"),
        [
            ({}, "InvalidParameterException"),
            ({"Bytes": b""}, "InvalidParameterException"),
            ({"Bytes": picture(), "S3Object": {"Bucket": "bucket", "Name": "a"}}, "InvalidParameterException"),
            ({"S3Object": {"Bucket": "bucket", "Name": "a"}}, "InvalidS3ObjectException"),
            ({"Bytes": bytes(5_242_881)}, "ImageTooLargeException"),
            ({"Bytes": bytes(5_242_880)}, "InvalidImageFormatException"),
            ({"Bytes": picture(kind="GIF")}, "InvalidImageFormatException"),
            ({"Bytes": picture(kind="WEBP")}, "InvalidImageFormatException"),
            ({"Bytes": picture(kind="PNG")[:200]}, "InvalidImageFormatException"),
            ({"Bytes": picture(79, 100)}, "InvalidParameterException"),
            ({"Bytes": picture(100, 79)}, "InvalidParameterException"),
            ({"Bytes": picture(10_001, 80)}, "ImageTooLargeException"),
        ],
    )
    def test_an_image_beyond_them_is_refused_and_free(
        self, service: Rekognition, client: Any, image: dict[str, Any], expected: str
    ) -> None:
        assert expected == code_of(client, Image=image)
        assert expected == code_of(client, "detect_moderation_labels", Image=image)
        assert 0 == service.billed.total()

    @pytest.mark.parametrize("data", [picture(80, 80), picture(10_000, 80), picture(kind="JPEG")])
    def test_an_image_at_them_is_taken(self, service: Rekognition, client: Any, data: bytes) -> None:
        assert "3.0" == client.detect_labels(Image={"Bytes": data})["LabelModelVersion"]
        assert 1 == service.billed["DetectLabels"]

    @pytest.mark.parametrize(
        "given",
        [
            {"MinConfidence": 101},
            {"Features": ["NOPE"]},
            {"Features": ["GENERAL_LABELS"] * 3},
            {"Features": ["IMAGE_PROPERTIES"], "MinConfidence": 5},
            {"Features": ["IMAGE_PROPERTIES"], "MaxLabels": 5},
        ],
    )
    def test_other_parameters_are_checked(self, client: Any, given: dict[str, Any]) -> None:
        assert "InvalidParameterException" == code_of(client, Image={"Bytes": picture()}, **given)

    def test_an_object_in_the_bucket_is_read(self, service: Rekognition, client: Any) -> None:
        service.objects["bucket", "a"] = picture()
        assert client.detect_labels(Image={"S3Object": {"Bucket": "bucket", "Name": "a"}})["Labels"]

    def test_the_rate_of_the_account(self, client: Any) -> None:
        with Rekognition(rate=2) as slow:
            asking = make_client(slow, SECRET)
            with ThreadPoolExecutor(10) as pool:
                codes = list(pool.map(lambda _: code_of(asking, Image={"Bytes": b"no image"}), range(60)))
            asking.close()
        assert {"InvalidImageFormatException", "ProvisionedThroughputExceededException"} == set(codes)


class TestLabels:
    @pytest.fixture(autouse=True)
    def _animals(self, service: Rekognition) -> None:
        service.labels = lambda image: {"Dog": 90.0, "Cat": 60.0, "Stone": 20.0}
        service.vocabulary = {
            "Dog": Known(("Animal", "Canine"), ("Hound",), ("Animals and Pets",)),
            "Cat": Known(("Animal",), (), ("Animals and Pets",)),
            "Animal": Known(categories=("Animals and Pets",)),
        }

    def found(self, client: Any, **given: Any) -> list[tuple[str, float]]:
        answer = client.detect_labels(Image={"Bytes": picture()}, **given)
        return [(label["Name"], label["Confidence"]) for label in answer["Labels"]]

    def test_ancestors_are_labels_too_and_all_are_sorted(self, client: Any) -> None:
        expected = [("Animal", 90.0), ("Canine", 90.0), ("Dog", 90.0), ("Cat", 60.0), ("Stone", 20.0)]
        assert expected == self.found(client, MinConfidence=0)
        assert expected[:4] == self.found(client)  # 55 where nothing is said
        assert expected[:2] == self.found(client, MaxLabels=2)

    def test_a_label_has_all_its_relations(self, client: Any) -> None:
        labels = client.detect_labels(Image={"Bytes": picture()})["Labels"]
        dog = next(label for label in labels if label["Name"] == "Dog")
        assert [{"Name": "Animal"}, {"Name": "Canine"}] == dog["Parents"]
        assert ([{"Name": "Hound"}], [{"Name": "Animals and Pets"}]) == (dog["Aliases"], dog["Categories"])
        assert 1 == len(dog["Instances"])

    def test_filters_choose_among_them(self, client: Any) -> None:
        def chosen(**filters: list[str]) -> list[str]:
            return [name for name, _ in self.found(client, MinConfidence=0, Settings={"GeneralLabels": filters})]

        assert ["Cat"] == chosen(LabelInclusionFilters=["Cat"])
        assert ["Canine", "Stone"] == chosen(LabelCategoryExclusionFilters=["Animals and Pets"])
        assert ["Dog", "Cat"] == chosen(
            LabelCategoryInclusionFilters=["Animals and Pets"], LabelExclusionFilters=["Animal"]
        )

    def test_the_model_changes_while_it_runs(self, service: Rekognition, client: Any) -> None:
        service.label_model_version = "3.1"
        assert "3.1" == client.detect_labels(Image={"Bytes": picture()})["LabelModelVersion"]

    def test_an_image_is_turned_as_its_tag_says(self, service: Rekognition, client: Any) -> None:
        sizes: list[tuple[int, int]] = []
        service.labels = lambda image: sizes.append(image.size) or {}  # type: ignore[func-returns-value]
        exif = Image.Exif()
        exif[0x0112] = 6
        client.detect_labels(Image={"Bytes": picture(200, 100, kind="JPEG", exif=exif.tobytes())})
        client.detect_labels(Image={"Bytes": picture(200, 100, kind="JPEG")})
        assert [(100, 200), (200, 100)] == sizes


class TestModeration:
    def test_levels_and_their_parents(self, service: Rekognition, client: Any) -> None:
        service.moderation = lambda image: {"Exposed Male Genitalia": 80.0, "Gambling": 49.0}
        answer = client.detect_moderation_labels(Image={"Bytes": picture()})
        rows = {
            row["Name"]: (row["ParentName"], row["TaxonomyLevel"], row["Confidence"])
            for row in answer["ModerationLabels"]
        }
        assert {
            "Explicit": ("", 1, 80.0),
            "Explicit Nudity": ("Explicit", 2, 80.0),
            "Exposed Male Genitalia": ("Explicit Nudity", 3, 80.0),
        } == rows
        assert ("7.0", []) == (answer["ModerationModelVersion"], answer["ContentTypes"])

    def test_an_adapter_answers_until_it_expires(self, service: Rekognition, client: Any) -> None:
        service.adapters = {ADAPTER: lambda image: {"Weapons": 90.0}}
        asked = {"Image": {"Bytes": picture()}, "ProjectVersion": ADAPTER, "MinConfidence": 0}
        answer = client.detect_moderation_labels(**asked)
        assert (ADAPTER, "Violence") == (answer["ProjectVersion"], answer["ModerationLabels"][0]["Name"])
        service.adapters[ADAPTER] = None
        answer = client.detect_moderation_labels(**asked)
        assert "ProjectVersion" not in answer
        assert "Gambling" == answer["ModerationLabels"][0]["Name"]
        service.adapters = {}
        assert "ResourceNotFoundException" == code_of(client, "detect_moderation_labels", **asked)


def test_what_was_answered_is_on_the_bill(service: Rekognition, client: Any) -> None:
    client.detect_labels(Image={"Bytes": picture()})
    client.detect_moderation_labels(Image={"Bytes": picture()})
    code_of(client, Image={"Bytes": b"no image"})
    assert {"DetectLabels": 1, "DetectModerationLabels": 1} == service.billed
    assert pytest.approx(0.002) == service.bill_usd


def test_it_runs_as_a_program() -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "servers.rekognition", "--rate", "1"],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    url = program.stdout.readline().strip()
    asking = boto3.client(
        "rekognition",
        region_name="eu-west-1",
        endpoint_url=url,
        config=Config(retries={"total_max_attempts": 1}),
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )
    assert asking.detect_labels(Image={"Bytes": picture()})["Labels"]
    with pytest.raises(asking.exceptions.ProvisionedThroughputExceededException):
        [asking.detect_labels(Image={"Bytes": picture()}) for _ in range(100)]
    asking.close()
    said, _ = program.communicate()
    counts = json.loads(said)["replies"]
    assert ({"200", "400"}, 1) == (set(counts), counts["400"])


class TestEyes:
    @pytest.mark.parametrize("kinds", [kinds for count in range(4) for kinds in combinations(KINDS, count)])
    def test_they_tell_what_is_drawn(self, kinds: tuple[str, ...]) -> None:
        for seed in range(10):
            drawn = draw(kinds, seed)
            noisy = BytesIO()
            drawn.save(noisy, "JPEG", quality=40)
            grounded = Image.new("RGB", (max(80, drawn.width), 80), "white")
            grounded.paste(drawn, ((grounded.width - drawn.width) // 2, 10))
            half = drawn.resize((drawn.width // 2, 30), Image.Resampling.BICUBIC)
            for image in (drawn, Image.open(noisy), grounded, half, drawn.resize((drawn.width * 4, 240))):
                seen = kinds_in(image)
                assert set(kinds) == {kind for kind, confidence in seen.items() if confidence > 0.5}
                assert all(0 <= confidence <= 1 for confidence in seen.values())
                assert seen == kinds_in(image)
