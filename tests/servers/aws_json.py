"""A stand-in for an AWS service of the JSON 1.1 protocol: signatures, shapes and errors as botocore describes them."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import OperationModel, ServiceModel, Shape

from servers.base import Reply, Seen, StandIn

Operation = Callable[[dict[str, Any]], dict[str, Any]]
"""Parameters (blobs as bytes) → answer (blobs in base64, times as epoch seconds)."""

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/\s]+)/(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)"
    r"/aws4_request, SignedHeaders=(?P<signed>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)
_MOST_SKEW = 300
"""Seconds that a client's clock may be off."""


class RefusedError(Exception):
    """What the service answers instead of a result."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


def failure(code: str, message: str, status: int = 400, headers: Mapping[str, str] | None = None) -> Reply:
    """An error in the documented form."""
    body = {"__type": code, "Code": code, "Logref": str(uuid4()), "Message": message}
    return Reply(status, json.dumps(body).encode(), {**_headers(), **(headers or {})})


def _headers() -> dict[str, str]:
    return {"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": str(uuid4())}


class AwsJson(StandIn):
    """A subclass fills `operations`. Requests are held to the model's constraints, answers to its shapes."""

    service = ""
    """Its name in botocore."""

    def __init__(self, *, latency: float = 0.0, rate: float | None = None) -> None:
        super().__init__(latency=latency, rate=rate)
        self.operations: dict[str, Operation] = {}
        self.keys: dict[str, str] | None = None
        """Access key → secret. None: any well-formed signature is taken."""
        self.expired: set[str] = set()
        """Access keys whose session has ended."""
        self.denied: set[str] = set()
        """Operations that nobody may call."""

    def warm_up(self) -> None:
        for name in self.operations:
            operation = operation_model(self.service, name)
            _ = operation.input_shape, operation.output_shape and list(faults(operation.output_shape, {}))

    def throttled(self, seen: Seen) -> Reply:
        return failure("ProvisionedThroughputExceededException", "Provisioned Rate exceeded")

    def answer(self, seen: Seen) -> Reply:
        try:
            key = self._signed_by(seen)
            operation = self._operation(seen)
            if operation.name in self.denied:
                raise RefusedError("AccessDeniedException", _denial(key, self.service, operation.name))
            answer = self.operations[operation.name](_parameters(seen.body, operation))
        except RefusedError as refused:
            return failure(refused.code, refused.message, refused.status)
        wrong = list(faults(operation.output_shape, answer)) if operation.output_shape else []
        assert not wrong, f"{operation.name} would answer what its service never does: {wrong}"
        return Reply(200, json.dumps(answer).encode(), _headers())

    def _operation(self, seen: Seen) -> OperationModel:
        model = service_model(self.service)
        prefix, _, name = seen.headers.get("x-amz-target", "").partition(".")
        known = seen.method == "POST" and seen.path == "/" and prefix == model.metadata["targetPrefix"]
        if not known or name not in self.operations:
            raise RefusedError("UnknownOperationException", "")
        if seen.headers.get("content-type") != "application/x-amz-json-1.1":
            raise RefusedError("SerializationException", "")
        return operation_model(self.service, name)

    def _signed_by(self, seen: Seen) -> str:
        """The access key, whose signature holds."""
        given = seen.headers.get("authorization")
        if not given:
            raise RefusedError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
        found = _AUTHORIZATION.fullmatch(given)
        if not found or not {"host", "x-amz-date"} <= set(found["signed"].split(";")):
            raise RefusedError("IncompleteSignatureException", "Authorization header is not a complete signature")
        if found["service"] != self.service:
            raise RefusedError(
                "InvalidSignatureException", f"Credential should be scoped to service: {self.service!r}."
            )
        if found["key"] in self.expired:
            raise RefusedError("ExpiredTokenException", "The security token included in the request is expired")
        if self.keys is not None:
            self._check_signature(seen, found)
        return found["key"]

    def _check_signature(self, seen: Seen, found: re.Match[str]) -> None:
        assert self.keys is not None
        if found["key"] not in self.keys:
            raise RefusedError("UnrecognizedClientException", "The security token included in the request is invalid.")
        date = seen.headers["x-amz-date"]
        signed_at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs((datetime.now(UTC) - signed_at).total_seconds()) > _MOST_SKEW:
            raise RefusedError("InvalidSignatureException", f"Signature expired: {date} is too long ago")
        auth = SigV4Auth(Credentials(found["key"], self.keys[found["key"]]), self.service, found["region"])
        headers = {name: seen.headers[name] for name in found["signed"].split(";") if name in seen.headers}
        request = AWSRequest("POST", f"http://{seen.headers['host']}{seen.path}", headers, seen.body)
        request.context["timestamp"] = date
        canonical = auth.canonical_request(request)
        if auth.signature(auth.string_to_sign(request, canonical), request) != found["signature"]:
            # the real message shows the canonical request too, with all headers that were signed
            said = "The request signature we calculated does not match the signature you provided."
            raise RefusedError(
                "InvalidSignatureException", f"{said}\n\nThe Canonical String should have been\n{canonical}"
            )


def _denial(key: str, service: str, operation: str) -> str:
    return f"User: arn:aws:iam::123456789012:user/{key[-4:]} is not authorized to perform: {service}:{operation}"


@cache
def service_model(service: str) -> ServiceModel:
    return botocore.session.Session().get_service_model(service)


@cache
def operation_model(service: str, name: str) -> OperationModel:
    return service_model(service).operation_model(name)


def _parameters(body: bytes, operation: OperationModel) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except ValueError:
        raise RefusedError("SerializationException", "") from None
    shape = operation.input_shape
    if shape is None:
        return {}
    for fault in faults(shape, given):
        raise RefusedError("InvalidParameterException", f"Request has invalid parameters: {fault}")
    read: dict[str, Any] = _decoded(shape, given)
    return read


def _decoded(shape: Shape, value: Any) -> Any:
    if shape.type_name == "blob":
        return base64.b64decode(value)
    if shape.type_name == "structure":
        return {name: _decoded(shape.members[name], item) for name, item in value.items()}
    if shape.type_name == "list":
        return [_decoded(shape.member, item) for item in value]
    return value


_JSON_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "structure": dict, "map": dict, "list": list, "string": str, "character": str, "blob": str, "boolean": bool,
    "integer": int, "long": int, "float": (int, float), "double": (int, float), "timestamp": (int, float),
}  # fmt: skip
_NUMBERS = ("integer", "long", "float", "double")


def faults(shape: Shape, value: Any, place: str = "") -> Iterator[str]:
    """What in a JSON value breaks the shape: types, unknown or missing members, ranges, lengths, patterns, enums."""
    kind = shape.type_name
    if not isinstance(value, _JSON_TYPES[kind]) or (kind != "boolean" and isinstance(value, bool)):
        yield f"{place} is no {kind}"
        return
    match kind:
        case "structure":
            yield from (f"{place}.{name} is missing" for name in shape.required_members if name not in value)
            yield from (f"{place}.{name} is no member" for name in value if name not in shape.members)
            for name in value.keys() & shape.members.keys():
                yield from faults(shape.members[name], value[name], f"{place}.{name}")
        case "map":
            for name, item in value.items():
                yield from faults(shape.key, name, f"{place} key")
                yield from faults(shape.value, item, f"{place}[{name!r}]")
        case "list":
            for index, item in enumerate(value):
                yield from faults(shape.member, item, f"{place}[{index}]")
        case "blob":
            try:
                base64.b64decode(value, validate=True)
            except binascii.Error:
                yield f"{place} is not base64"
    yield from _limit_faults(shape, value, place)


def _limit_faults(shape: Shape, value: Any, place: str) -> Iterator[str]:
    limits = shape.metadata
    if shape.type_name in ("structure", "boolean", "timestamp", "blob"):
        return  # an image says with its own exceptions that it is too large
    size = value if shape.type_name in _NUMBERS else len(value)
    if not limits.get("min", size) <= size <= limits.get("max", size):
        yield f"{place} is not within {limits.get('min', '')}..{limits.get('max', '')}"
    if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
        yield f"{place} is not of the pattern {limits['pattern']}"
    if "enum" in limits and value not in limits["enum"]:
        yield f"{place} is none of {limits['enum']}"


KEY, SECRET = "AKIDEXAMPLE0000", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
"""Nobody's."""


def only_these(environment: pytest.MonkeyPatch, folder: Path, config: str = "", **variables: str) -> None:
    """Nothing of the machine's AWS settings: this text of a configuration file and these variables, no role of EC2."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        environment.delenv(name)
    (folder / "aws-config").write_text(config, encoding="utf-8")
    environment.setenv("AWS_CONFIG_FILE", str(folder / "aws-config"))
    environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "aws-credentials"))
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    environment.setenv("HOME", str(folder))
    for name, value in variables.items():
        environment.setenv(name, value)


def with_keys(environment: pytest.MonkeyPatch, folder: Path) -> None:
    """KEY and SECRET in the environment, and nothing else of the machine's AWS settings."""
    only_these(environment, folder, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
