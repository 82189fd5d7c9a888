"""Asking AWS by the real client, over loopback: one request per call, what errors mean, what is missing to ask."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from servers.aws_json import KEY, SECRET, failure, only_these, with_keys
from servers.base import Reply
from servers.rekognition import Rekognition
from workbench.approaches import aws
from workbench.approaches.aws import AwsOptions, Connection, lacks_aws
from workbench.approaches.base import Setting, read_options
from workbench.errors import ConfigError, CredentialsError, PrerequisiteError, ProviderError, ServiceBusyError
from workbench.records import Taxonomy

TOKEN = "FwoGZXIvYXdzEXAMPLE//session+token=="  # noqa: S105  nobody's


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    with_keys(monkeypatch, tmp_path)
    return monkeypatch


@pytest.fixture
def service(environment: pytest.MonkeyPatch) -> Iterator[Rekognition]:
    with Rekognition() as server:
        yield server


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rekognition, Connection]]:
    """A service and a client for all that only answers differ in; `asked` clears what it saw."""
    with pytest.MonkeyPatch.context() as environment, Rekognition() as server:
        with_keys(environment, tmp_path_factory.mktemp("aws"))
        options = AwsOptions(region="eu-west-1", endpoint_url=server.url)
        with Connection("rekognition", options, read_seconds=10.0) as connection:
            assert connection.client
            yield server, connection


@pytest.fixture
def asked(standing: tuple[Rekognition, Connection]) -> tuple[Rekognition, Connection]:
    standing[0].seen.clear()
    return standing


@pytest.fixture
def connect() -> Iterator[Callable[..., Connection]]:
    opened: list[Connection] = []

    def make(url: str, read_seconds: float = 10.0, **options: str) -> Connection:
        chosen = AwsOptions(**({"region": "eu-west-1", "endpoint_url": url} | options))
        opened.append(Connection("rekognition", chosen, connect_seconds=2.0, read_seconds=read_seconds))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


def refused(connection: Connection, **more: Any) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  each test says which
        connection.call("detect_labels", Image={"Bytes": b"no image"}, **more)
    return caught.value


def meaning(error: Exception) -> tuple[type[Exception], bool | None, bool | None]:
    """Its class; of a busy service, whether it was asked too fast, and whether it may charge."""
    return type(error), getattr(error, "throttled", None), getattr(error, "billed", None)


THROTTLED = (ServiceBusyError, True, False)
BUSY = (ServiceBusyError, False, False)
LOST = (ServiceBusyError, False, True)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("ThrottlingException", 400, THROTTLED),
        ("ThrottlingException", 500, THROTTLED),
        ("ProvisionedThroughputExceededException", 400, THROTTLED),
        ("TooManyRequestsException", 429, THROTTLED),
        ("InternalServerError", 500, BUSY),
        ("ServiceUnavailableException", 503, BUSY),
        ("LimitExceededException", 400, (ProviderError, None, None)),
        ("ImageTooLargeException", 400, (ProviderError, None, None)),
        ("InvalidImageFormatException", 400, (ProviderError, None, None)),
        ("InvalidParameterException", 400, (ProviderError, None, None)),
        ("ResourceNotReadyException", 400, (ProviderError, None, None)),
        ("ResourceNotFoundException", 400, (PrerequisiteError, None, None)),
        ("AccessDeniedException", 400, (CredentialsError, None, None)),
        ("UnrecognizedClientException", 400, (CredentialsError, None, None)),
        ("ExpiredTokenException", 400, (CredentialsError, None, None)),
        ("MissingAuthenticationTokenException", 403, (CredentialsError, None, None)),
    ],
)
def test_a_refusal_is_sent_once_and_means(
    asked: tuple[Rekognition, Connection], code: str, status: int, expected: object
) -> None:
    service, connection = asked
    service.faults.append(failure(code, "As documented.", status))
    error = refused(connection)
    assert expected == meaning(error)
    assert f"{code}: As documented." in str(error)
    assert 1 == len(service.seen)


def test_an_empty_503_is_a_busy_service(asked: tuple[Rekognition, Connection]) -> None:
    service, connection = asked
    service.faults.append(Reply(503, b""))
    assert BUSY == meaning(refused(connection))
    assert 1 == len(service.seen)


def test_whoever_asks_may_say_what_passes(asked: tuple[Rekognition, Connection]) -> None:
    service, connection = asked
    service.faults.append(failure("ResourceNotReadyException", "Starting."))
    assert BUSY == meaning(refused(connection, later={"ResourceNotReadyException"}))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"x-amz-retry-after": "250", "Retry-After": "7"}, 0.25),
        ({"Retry-After": "soon"}, None),
        ({"x-amz-retry-after": "soon"}, None),
        ({"Retry-After": format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)}, 0.0),
    ],
)
def test_the_service_says_when_to_come_again(
    asked: tuple[Rekognition, Connection], headers: dict[str, str], expected: float | None
) -> None:
    service, connection = asked
    service.faults.append(failure("ThrottlingException", "Slow down", headers=headers))
    error = refused(connection)
    assert isinstance(error, ServiceBusyError)
    assert expected == error.retry_after


def test_a_date_to_come_again_is_counted_from_now(asked: tuple[Rekognition, Connection]) -> None:
    service, connection = asked
    then = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    service.faults.append(failure("ThrottlingException", "Slow down", headers={"Retry-After": then}))
    error = refused(connection)
    assert isinstance(error, ServiceBusyError)
    assert error.retry_after is not None
    assert 3000 < error.retry_after <= 3600


def test_no_answer_in_time_may_cost(service: Rekognition, connect: Callable[..., Connection]) -> None:
    service.faults.append(Reply(200, b"{}", delay=0.4))
    assert LOST == meaning(refused(connect(service.url, read_seconds=0.05)))
    assert 1 == len(service.seen)


@pytest.mark.parametrize("body", [b"", b'{"Labels": [], "LabelModelVersion": "3.0"}'])
def test_a_connection_that_breaks_may_cost(asked: tuple[Rekognition, Connection], body: bytes) -> None:
    service, connection = asked
    service.faults.append(Reply(200, body, dropped=True))
    assert LOST == meaning(refused(connection))
    assert 1 == len(service.seen)


def test_who_is_not_reached_charges_nothing(
    environment: pytest.MonkeyPatch, connect: Callable[..., Connection]
) -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        assert BUSY == meaning(refused(connect(f"http://127.0.0.1:{taken.getsockname()[1]}")))


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'{"Labels": [', b"null", b"\xff\xfe"])
def test_an_answer_that_is_no_json_has_its_price(asked: tuple[Rekognition, Connection], body: bytes) -> None:
    service, connection = asked
    service.faults.append(Reply(200, body, {"Content-Type": "application/x-amz-json-1.1"}))
    error = refused(connection, price_usd=0.001)
    assert isinstance(error, ProviderError)
    assert ("malformed_answer", 0.001) == (error.outcome, error.cost_usd)


@pytest.mark.parametrize("labels", [["Disc"], [1], "Disc", 5, True, {"Name": "Disc"}])
def test_an_answer_whose_parts_are_of_another_kind_has_its_price(
    asked: tuple[Rekognition, Connection], labels: Any
) -> None:
    service, connection = asked
    body = json.dumps({"LabelModelVersion": "3.0", "Labels": labels}).encode()
    service.faults.append(Reply(200, body, {"Content-Type": "application/x-amz-json-1.1"}))
    error = refused(connection, price_usd=0.001)
    assert isinstance(error, ProviderError)
    assert ("malformed_answer", 0.001) == (error.outcome, error.cost_usd)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
def test_credentials_that_cannot_be_sent_are_told_without_them(
    environment: pytest.MonkeyPatch,
    asked: tuple[Rekognition, Connection],
    connect: Callable[..., Connection],
    name: str,
) -> None:
    service, _ = asked
    environment.setenv(name, "s3same/s3same\n")
    error = refused(connect(service.url), price_usd=0.001)
    assert isinstance(error, CredentialsError)
    assert "such as a line break" in str(error)
    assert "s3same" not in str(error)
    assert [] == service.seen


def test_the_right_keys_are_taken(service: Rekognition, connect: Callable[..., Connection]) -> None:
    service.keys = {KEY: SECRET}
    assert "InvalidImageFormatException" in str(refused(connect(service.url)))


def everything(error: Exception) -> str:
    return str(error) + repr(error) + "".join(traceback.format_exception(error))


def test_no_refusal_shows_a_secret(
    service: Rekognition,
    connect: Callable[..., Connection],
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment.setenv("AWS_SESSION_TOKEN", TOKEN)
    connection = connect(service.url)
    service.keys = {KEY: "another secret"}
    wrong = refused(connection)
    sent = service.seen[-1].headers
    assert sent["x-amz-security-token"] == TOKEN
    service.keys = {}
    unknown = refused(connection)
    service.keys, service.expired = None, {KEY}
    ended = refused(connection)
    service.expired = set()
    echo = f"{KEY} {SECRET} Authorization: {sent['authorization']}"
    service.faults.append(failure("AccessDeniedException", echo))
    denied = refused(connection)
    service.faults.append(Reply(403, echo.encode(), {"Content-Type": "application/x-amz-json-1.1"}))
    odd = refused(connection)
    signature = sent["authorization"].rpartition("=")[2]
    for error in (wrong, unknown, ended, denied, odd):
        assert isinstance(error, CredentialsError | ProviderError)
        for secret in (SECRET, TOKEN, signature, "AWS4-HMAC"):
            assert secret not in everything(error)
    assert "does not match the signature" in str(wrong)
    assert "renew them" in str(ended)
    assert SECRET not in repr(vars(connection))
    assert ("", "") == tuple(capsys.readouterr())


def test_a_denial_says_what_is_not_allowed(service: Rekognition, connect: Callable[..., Connection]) -> None:
    service.denied = {"DetectLabels"}
    error = refused(connect(service.url))
    assert isinstance(error, CredentialsError)
    assert "not authorized to perform: rekognition:DetectLabels" in str(error)


def test_without_credentials_nothing_is_sent(
    service: Rekognition, connect: Callable[..., Connection], environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    only_these(environment, tmp_path)
    error = refused(connect(service.url))
    assert isinstance(error, CredentialsError)
    assert "aws configure" in str(error)
    assert [] == service.seen


def test_a_sign_on_that_has_ended_is_named(
    service: Rekognition, connect: Callable[..., Connection], environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signed_on = "[profile work]\nsso_start_url = https://example.invalid/start\nsso_region = eu-west-1\n"
    only_these(environment, tmp_path, signed_on + "sso_account_id = 123456789012\nsso_role_name = Reader\n")
    assert "" == lacks_aws(AwsOptions(region="eu-west-1", profile="work"), "x")
    error = refused(connect(service.url, profile="work"))
    assert isinstance(error, CredentialsError)
    assert "aws sso login --profile work" in str(error)
    assert [] == service.seen


def test_a_profile_that_does_not_exist_ends_the_run(service: Rekognition, connect: Callable[..., Connection]) -> None:
    error = refused(connect(service.url, profile="nobody"))
    assert isinstance(error, CredentialsError)
    assert "nobody" in str(error)


def test_fifty_threads_share_a_client(service: Rekognition, connect: Callable[..., Connection]) -> None:
    connection = connect(service.url)
    service.latency = 0.02
    service.fault = lambda _: Reply(200, b'{"Labels": [], "LabelModelVersion": "3.0"}')
    ready = threading.Barrier(50)

    def call(_: int) -> tuple[int, dict[str, Any]]:
        ready.wait()
        return id(connection.client), connection.call("detect_labels", Image={"Bytes": b"image"})

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(call, range(50)))
    assert 1 == len({client for client, _ in answers})
    assert [{"Labels": [], "LabelModelVersion": "3.0"}] * 50 == [answer for _, answer in answers]
    assert 50 == len(service.seen)


class TestWhatIsMissing:
    """Said without asking anybody, not even the machine's metadata service."""

    NEVER = "http://127.0.0.1:9"

    @pytest.fixture
    def clean(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
        return lambda config="", **variables: only_these(monkeypatch, tmp_path, config, **variables)

    @pytest.mark.parametrize(
        ("config", "variables", "options", "expected"),
        [
            ("", {}, {}, "no AWS region: set `region` in [approaches.x]"),
            ("", {}, {"region": "eu-west-1"}, "no AWS credentials: `aws configure`"),
            ("", {"AWS_DEFAULT_REGION": "eu-west-1"}, {}, "no AWS credentials"),
            ("[default]\nregion = eu-west-1\n", {}, {}, "no AWS credentials"),
            ("", {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": KEY}, {}, "AWS_SECRET_ACCESS_KEY is not"),
            ("", {"AWS_REGION": "eu-west-1", "AWS_PROFILE": "nobody"}, {}, "(nobody)"),
            ("", {}, {"region": "eu-west-1", "profile": "nobody"}, "(nobody)"),
            ("[nonsense", {}, {"region": "eu-west-1"}, "the AWS configuration cannot be used"),
            (
                "[profile empty]\n",
                {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET},
                {"region": "eu-west-1", "profile": "empty"},
                "no AWS credentials",
            ),
        ],
    )
    def test_it_is_named(
        self,
        clean: Callable[..., None],
        config: str,
        variables: dict[str, str],
        options: dict[str, str],
        expected: str,
    ) -> None:
        clean(config, **variables)
        assert expected in lacks_aws(AwsOptions(**options), "x")

    @pytest.mark.parametrize(
        ("config", "variables", "profile"),
        [
            ("", {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}, ""),
            ("", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/role"}, ""),
            ("", {"AWS_WEB_IDENTITY_TOKEN_FILE": "token", "AWS_ROLE_ARN": "arn"}, ""),
            (f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n", {}, ""),
            ("[profile a]\ncredential_process = false\n", {}, "a"),
            ("[profile a]\nrole_arn = arn\ncredential_source = Ec2InstanceMetadata\n", {}, "a"),
        ],
    )
    def test_nothing_is(self, clean: Callable[..., None], config: str, variables: dict[str, str], profile: str) -> None:
        clean(config, **variables)
        assert "" == lacks_aws(AwsOptions(region="eu-west-1", profile=profile), "x")

    def test_nobody_is_asked(self, clean: Callable[..., None]) -> None:
        with Rekognition() as metadata:
            variables = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url}
            clean("", AWS_DEFAULT_REGION="eu-west-1", AWS_CONTAINER_CREDENTIALS_FULL_URI=metadata.url, **variables)
            assert "" == lacks_aws(AwsOptions(), "x")
            clean("", AWS_DEFAULT_REGION="eu-west-1", **variables)
            lacks_aws(AwsOptions(), "x")
            assert [] == metadata.seen


class TestWhereIsAsked:
    @pytest.fixture(autouse=True)
    def _clean(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        only_these(monkeypatch, tmp_path, "[profile far]\nregion = ap-southeast-2\n")

    @pytest.mark.parametrize(
        ("variables", "options", "region", "endpoint"),
        [
            ({}, {}, "", ""),
            ({}, {"region": "eu-west-1"}, "eu-west-1", "https://rekognition.eu-west-1.amazonaws.com"),
            ({}, {"profile": "far"}, "ap-southeast-2", "https://rekognition.ap-southeast-2.amazonaws.com"),
            ({"AWS_REGION": "us-west-2"}, {}, "us-west-2", "https://rekognition.us-west-2.amazonaws.com"),
            ({"AWS_DEFAULT_REGION": "us-west-2"}, {"region": "eu-west-1"}, "eu-west-1", None),
            ({"AWS_ENDPOINT_URL": "http://here"}, {"region": "eu-west-1"}, "eu-west-1", "http://here"),
            ({"AWS_ENDPOINT_URL_REKOGNITION": "http://here"}, {"region": "eu-west-1"}, "eu-west-1", "http://here"),
            ({"AWS_ENDPOINT_URL": "http://there"}, {"endpoint_url": "http://here"}, "", "http://here"),
            ({}, {"region": "no region!"}, "no region!", ""),
        ],
    )
    def test_options_come_first(
        self,
        monkeypatch: pytest.MonkeyPatch,
        variables: dict[str, str],
        options: dict[str, str],
        region: str,
        endpoint: str | None,
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        connection = Connection("rekognition", AwsOptions(**options))
        assert region == connection.region
        assert endpoint in (None, connection.endpoint)

    @pytest.mark.parametrize(
        "url",
        [
            "https://me:s3same@host/", "https://host/?key=s3same", "ftp://s3same", "s3same", "http://[s3same",
            "http://[s3same]/", "https://me:s3same@ho\u2100st/", "https://host:s3same/", "https://host/#s3same",
            "https://ho st/s3same", "https://host/s3same\n",
        ],
    )  # fmt: skip
    def test_an_address_holds_no_secret(self, url: str) -> None:
        setting = Setting(Taxonomy(("a",)), {}, Path(), options={"endpoint_url": url})
        with pytest.raises(ConfigError, match=r"approaches\.x\.endpoint_url") as caught:
            read_options(AwsOptions, "x", setting)
        assert "s3same" not in everything(caught.value)


def test_the_client_of_aws_is_imported_only_to_ask() -> None:
    code = f"import sys, {aws.__name__} as used; print(sorted({{'boto3', 'botocore'}} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == ran.stdout.strip()
