"""What approaches that ask AWS share: where to ask and as whom, a client that asks once, and what its errors mean."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Collection
from functools import cache, cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from pydantic import field_validator

from workbench.approaches.aws_errors import plain, remember_token, translated
from workbench.approaches.base import Options, check_address

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""Without a byte of an answer; by then the call may have been billed."""

_MOST_CONNECTIONS = 100

_IN_PROFILE = (
    "aws_access_key_id", "role_arn", "credential_process", "sso_session", "sso_start_url", "sso_account_id",
    "login_session", "web_identity_token_file",
)  # fmt: skip
_IN_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip


class AwsOptions(Options):
    """Where AWS is asked, and as whom; what is left out is taken from the environment and the AWS configuration."""

    region: str = ""
    """Such as "eu-west-1"."""
    profile: str = ""
    """Of the AWS configuration files."""
    endpoint_url: str = ""
    """Of a private or dual-stack endpoint."""
    model_version: str = ""
    """What the answers must say; "" for whatever they say first."""

    @field_validator("endpoint_url")
    @classmethod
    def _no_secret(cls, url: str) -> str:
        if url:
            check_address(url)
        return url


class Connection:
    """One service of AWS in one region. Nothing is asked, and no credential looked for, before the first `call`.

    May be used from many threads at once. SDK retries are off: whoever runs an approach decides when to ask again.
    """

    def __init__(
        self,
        service: str,
        options: AwsOptions,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self.service = service
        self._options = options
        self._seconds = connect_seconds, read_seconds
        self._lock = threading.Lock()
        self._client: Any = None

    @cached_property
    def region(self) -> str:
        """As the options, the environment or the profile say; "" where none does."""
        return _region(self._options)

    @cached_property
    def endpoint(self) -> str:
        """The address that will be asked; "" without a region."""
        if self._options.endpoint_url:
            return self._options.endpoint_url
        if not self.region:
            return ""
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        try:  # environment and configuration may name another address: a client that signs nothing knows it
            client = _client(self._options, self.service, self.region, config=Config(signature_version=UNSIGNED))
        except (BotoCoreError, ValueError):
            return ""
        address = str(client.meta.endpoint_url)
        client.close()
        return address

    def call(
        self, operation: str, /, *, price_usd: float = 0.0, later: Collection[str] = (), **parameters: Any
    ) -> dict[str, Any]:
        """What the service answers, without the metadata of HTTP; exactly one request.

        operation  as boto3 names it, such as `detect_labels`
        price_usd  what an answer costs that cannot be read
        later      error codes that pass if one waits, beside those that always do

        Raises ServiceBusyError, CredentialsError, PrerequisiteError (settings that no call can succeed with),
        ProviderError.
        """
        failed: Exception | None = None
        try:
            answer: dict[str, Any] = getattr(self.client, operation)(**parameters)
        except Exception as error:
            failed = translated(error, self._options.profile, price_usd, later)
            if failed is error:
                raise
        if failed is not None:
            raise failed  # not within the handler: the original may hold what was signed
        answer.pop("ResponseMetadata", None)
        return answer

    @property
    def client(self) -> Any:
        """The boto3 client, made once."""
        with self._lock:
            if self._client is None:
                self._client = self._made()
            return self._client

    def close(self) -> None:
        """Let go of the connections that are open."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _made(self) -> Any:
        from botocore.config import Config

        connect, read = self._seconds
        config = Config(
            retries={"total_max_attempts": 1},
            connect_timeout=connect,
            read_timeout=read,
            max_pool_connections=_MOST_CONNECTIONS,
            user_agent_extra="workbench",
        )
        url = self._options.endpoint_url or None
        client = _client(self._options, self.service, self.region or None, endpoint_url=url, config=config)
        client.meta.events.register("before-parse", _check_whole)
        client.meta.events.register("before-send", remember_token)
        return client


def lacks_aws(options: AwsOptions, name: str) -> str:
    """What is missing to ask AWS for the approach of this name, in words; "" if nothing.

    Looks at files and the environment, and starts nothing. A role of the machine (EC2) is taken on trust, because only
    the network could tell.
    """
    from botocore.exceptions import BotoCoreError

    where = f"`profile` in [approaches.{name}] of workbench.toml"
    try:
        own = _session(options).get_scoped_config()
    except BotoCoreError as error:
        return f"the AWS configuration cannot be used ({plain(str(error))}); see {where}"
    if not _region(options):
        return f"no AWS region: set `region` in [approaches.{name}] of workbench.toml, or AWS_DEFAULT_REGION"
    environment = {} if options.profile else os.environ
    if environment.get("AWS_ACCESS_KEY_ID") and not environment.get("AWS_SECRET_ACCESS_KEY"):
        return "AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not"
    if any(environment.get(key) for key in _IN_ENVIRONMENT) or any(own.get(key) for key in _IN_PROFILE):
        return ""
    if not options.profile and _on_ec2():
        return ""
    return f"no AWS credentials: `aws configure` or `aws sso login` sets them up; {where} picks among them"


def _check_whole(operation_model: Any, response_dict: Any, **_: Any) -> None:
    """Refuse half an answer and what is no JSON: botocore would take either for an answer without content."""
    from botocore.exceptions import IncompleteReadError
    from botocore.parsers import ResponseParserError

    if operation_model.service_model.metadata["protocol"] != "json":
        return
    body, headers = response_dict["body"], response_dict["headers"]
    expected = headers.get("Content-Length", "")
    if expected.isdigit() and len(body) != int(expected):
        raise IncompleteReadError(actual_bytes=len(body), expected_bytes=int(expected))
    if response_dict["status_code"] == HTTPStatus.OK:
        shape = operation_model.output_shape
        try:
            content = json.loads(body) if body or (shape and shape.members) else {}
        except ValueError as error:
            raise ResponseParserError(f"{len(body)} bytes: {error}") from None
        if not isinstance(content, dict):
            raise ResponseParserError(f"{len(body)} bytes of JSON that are no object")


def keep_log_quiet() -> None:
    """At DEBUG botocore logs what it signs, session token included: who asks for everybody's log gets none of that.

    Who asks for botocore's own by its name (`logging.getLogger("botocore").setLevel`) still gets it.
    """
    logger = logging.getLogger("botocore")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def _session(options: AwsOptions) -> Any:
    import botocore.session

    keep_log_quiet()
    session = botocore.session.Session(profile=options.profile or None)
    session.register_component("data_loader", _loader(os.environ.get("AWS_DATA_PATH")))
    return session


@cache
def _loader(path: str | None) -> Any:
    """What reads botocore's descriptions of services; it remembers them, and they are most of the work of a client."""
    import botocore.loaders

    return botocore.loaders.create_loader(path)


def _client(options: AwsOptions, service: str, region: str | None, **more: Any) -> Any:
    import boto3

    return boto3.session.Session(botocore_session=_session(options)).client(service, region_name=region, **more)


def _region(options: AwsOptions) -> str:
    from botocore.exceptions import BotoCoreError

    try:
        return options.region or _session(options).get_config_variable("region") or os.environ.get("AWS_REGION", "")
    except BotoCoreError:
        return options.region


def _on_ec2() -> bool:
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return False
    try:
        return "amazon" in Path("/sys/class/dmi/id/sys_vendor").read_text(encoding="utf-8").lower()
    except OSError:
        return False
