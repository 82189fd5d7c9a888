"""The Messages API (version 2026-10-21) on the loopback interface, and Bedrock's way to it. Not a model.

It is strict where the service is: headers, parameters, schema keywords, thinking by model, image limits. It counts
tokens by rules of its own and keeps its own bill, so that an estimate has something independent to be held against.
What it answers is decided by the test; every answer is checked against the SDK's types before it is sent.

As a program, from the folder `tests`: `python -m servers.anthropic --latency 0.05 --rate 20`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image

from servers.base import Reply, Seen, StandIn, serve
from servers.eyes import kinds_in
from workbench.config.prices import packaged_prices

VERSION = "2026-10-21"
KEY = "sk-ant-stand-in"
"""A key that it takes; with `keys=None` it takes any."""

_MIB = 2**20
_SPEND_LIMITS = ("enforced_spend_limit_reached", "contract_spend_limit_reached")


@dataclass(frozen=True)
class Facts:
    """What is known of a model."""

    long_edge: int
    patches: int
    thinking: tuple[str, ...]
    """The types that it takes."""
    forced_tools: bool
    prefill: bool
    least_cached: int
    context: int = 1_000_000


_HIGH, _STANDARD = (2576, 4784), (1568, 1568)
MODELS: Mapping[str, Facts] = {
    "claude-haiku-5-5": Facts(*_HIGH, ("adaptive", "disabled"), True, False, 512),
    "claude-sonnet-5-5": Facts(*_HIGH, ("adaptive", "between_tools"), False, False, 512),
    "claude-opus-5-5": Facts(*_HIGH, ("adaptive",), False, False, 512),
    "claude-fable-5-1": Facts(*_HIGH, ("adaptive",), False, False, 512),
    "claude-sonnet-5": Facts(*_HIGH, ("adaptive", "disabled"), True, False, 1024),
    "claude-haiku-4-5": Facts(*_STANDARD, ("enabled", "disabled"), True, True, 4096, 200_000),
    "claude-sonnet-4-6": Facts(*_STANDARD, ("enabled", "adaptive", "disabled"), True, True, 1024),
}


@dataclass(frozen=True)
class Ending:
    """How an answer ends, where a test does not want the usual one."""

    text: str | None = None
    """None: what is usual; "" with a refusal: nothing was said."""
    stop_reason: str = "end_turn"
    category: str | None = None
    """Of a refusal."""
    thinking: int = 0
    """Tokens thought before the text; a block of type `thinking` then comes first."""
    model: str = ""
    """Instead of the model that was asked for."""


@dataclass(frozen=True)
class Charge:
    """What one answer costs."""

    model: str
    tier: str
    usage: Mapping[str, Any]
    usd: float


@dataclass
class RefusedError(Exception):
    """A request that gets an error instead of an answer."""

    status: int
    type: str
    message: str
    details: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Writer = Callable[[Mapping[str, Any], Mapping[str, float]], str]
"""Schema and what was seen → the text of the answer."""


def drawn_kinds(image: Image.Image) -> Mapping[str, float]:
    """What is seen by default. A picture with one cell shows one kind at most: its confidences make no more than 1."""
    seen = kinds_in(image)
    one_cell = image.width < 1.5 * image.height
    total = sum(seen.values())
    return {name: value / total for name, value in seen.items()} if one_cell and total > 1 else seen


class Anthropic(StandIn):
    """POST /v1/messages, /v1/messages/count_tokens, GET /v1/models, and POST /model/ID/invoke as Bedrock has it."""

    def __init__(
        self,
        classify: Callable[[Image.Image], Mapping[str, float]] = drawn_kinds,
        *,
        write: Writer | None = None,
        keys: tuple[str, ...] | None = None,
        latency: float = 0.0,
        rate: float | None = None,
    ) -> None:
        super().__init__(latency=latency, rate=rate)
        self.classify = classify
        self.write = write or fill
        self.keys = keys
        self.endings: deque[Ending] = deque()
        """Of the next answers, one each; then they end as usual."""
        self.ending: Callable[[Mapping[str, Any]], Ending | None] = lambda params: None
        """Asked about every request's parameters."""
        self.charges: list[Charge] = []
        self.images: list[Image.Image] = []
        """The last image of every question that was answered."""
        self._cached: set[str] = set()

    @property
    def bill(self) -> float:
        """USD, of all answers so far."""
        return math.fsum(charge.usd for charge in self.charges)

    def answer(self, seen: Seen) -> Reply:
        try:
            return self.route(seen)
        except RefusedError as refused:
            return error_reply(refused)

    def throttled(self, seen: Seen) -> Reply:
        headers = {"retry-after": "1", "x-should-retry": "true"}
        return error_reply(
            RefusedError(429, "rate_limit_error", "Number of requests has exceeded your rate limit", None, headers)
        )

    def route(self, seen: Seen) -> Reply:
        """Where a request leads. Raises RefusedError."""
        path = urlsplit(seen.path).path
        invoked = re.fullmatch(r"/model/([^/]+)/invoke", path)
        if invoked and seen.method == "POST":
            return self._invoke(seen, unquote(invoked[1]))
        self.admit(seen)
        match seen.method, path:
            case "POST", "/v1/messages":
                return self.send(self.create(read_body(seen)))
            case "POST", "/v1/messages/count_tokens":
                return self.send({"input_tokens": self._counted(read_body(seen))})
            case "GET", "/v1/models":
                return self.send(_models())
        raise RefusedError(404, "not_found_error", f"{seen.method} {path}")

    def admit(self, seen: Seen) -> None:
        """The headers: who asks, and in which version."""
        key = seen.headers.get("x-api-key") or seen.headers.get("authorization", "").removeprefix("Bearer ")
        if not key or (self.keys is not None and key not in self.keys):
            raise RefusedError(401, "authentication_error", "invalid x-api-key")
        if seen.headers.get("anthropic-version") != VERSION:
            raise RefusedError(400, "invalid_request_error", "anthropic-version: header is required")

    def send(self, body: Mapping[str, Any]) -> Reply:
        return Reply(200, json.dumps(body).encode(), {"content-type": "application/json", **self._headers()})

    def create(self, params: Mapping[str, Any], tier: str = "standard", platform: str = "anthropic") -> dict[str, Any]:
        """The message that answers these parameters, on the bill. Raises RefusedError."""
        model = str(params.get("model", ""))
        facts = facts_of(model)
        check_params(params, facts, 5 * _MIB if platform == "bedrock" else 10 * _MIB)
        with self.lock:
            ending = (self.endings.popleft() if self.endings else None) or self.ending(params) or Ending()
        images = list(_images(params))
        schema = params.get("output_config", {}).get("format", {}).get("schema", {})
        text = ending.text
        if text is None:
            text = self.write(schema, self.classify(images[-1]) if images else {})
        text, stop_reason, spoken = _cut(text, ending, params["max_tokens"])
        usage = self._usage(params, facts, spoken, ending, tier)
        message = {
            "id": f"msg_{_digest([params, len(self.charges)])[:24]}",
            "type": "message",
            "role": "assistant",
            "model": ending.model or model.rpartition("anthropic.")[2],
            "content": [
                *([{"type": "thinking", "thinking": "", "signature": "c2lnbmVk"}] if ending.thinking else []),
                *([{"type": "text", "text": text}] if text else []),
            ],
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "stop_details": (
                {"type": "refusal", "category": ending.category, "explanation": "declined"}
                if stop_reason == "refusal"
                else None
            ),
            "usage": usage,
        }
        checked(message)
        free = stop_reason == "refusal" and not text
        with self.lock:
            if images:
                self.images.append(images[-1])
            self.charges.append(Charge(model, tier, usage, 0.0 if free else usd(usage, model, tier, platform)))
        return message

    def _invoke(self, seen: Seen, model: str) -> Reply:
        signed = seen.headers.get("authorization", "")
        scope = re.match(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/[a-z0-9-]+/bedrock/aws4_request, ", signed)
        if not scope and not signed.startswith("Bearer "):
            return _bedrock_error(403, "Missing Authentication Token")
        body = read_body(seen)
        if body.pop("anthropic_version", None) != VERSION or "model" in body:
            return _bedrock_error(400, "anthropic_version: is required, and model stands in the path")
        try:
            return self.send(self.create({"model": model, **body}, platform="bedrock"))
        except RefusedError as refused:
            return _bedrock_error(refused.status, refused.message)

    def _counted(self, params: Mapping[str, Any]) -> int:
        facts = facts_of(str(params.get("model", "")))
        return sum(tokens for tokens, _, _ in _pieces(params, facts))

    def _usage(self, params: Mapping[str, Any], facts: Facts, spoken: int, ending: Ending, tier: str) -> dict[str, Any]:
        fresh, written, read = self._input(params, facts)
        thought = min(ending.thinking, params["max_tokens"])
        return {
            "input_tokens": fresh,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
            "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
            "output_tokens": spoken + thought,
            "output_tokens_details": {"thinking_tokens": thought},
            "service_tier": tier,
            "inference_geo": "global",
        }

    def _input(self, params: Mapping[str, Any], facts: Facts) -> tuple[int, int, int]:
        """Input tokens: plain, written to the prompt cache, read from it."""
        pieces = _pieces(params, facts)
        total = sum(tokens for tokens, _, _ in pieces)
        ends = [place + 1 for place, (_, _, marked) in enumerate(pieces) if marked]
        prefixes = [
            (sum(p[0] for p in pieces[:end]), _digest([params["model"], [p[1] for p in pieces[:end]]])) for end in ends
        ]
        prefixes = [(tokens, name) for tokens, name in prefixes if tokens >= facts.least_cached]
        with self.lock:
            read = max((tokens for tokens, name in prefixes if name in self._cached), default=0)
            self._cached.update(name for _, name in prefixes)
        longest = max((tokens for tokens, _ in prefixes), default=0)
        return total - max(longest, read), max(0, longest - read), read

    def _headers(self) -> dict[str, str]:
        number = len(self.replies)
        return {
            "request-id": f"req_{number:024d}",
            "anthropic-organization-id": "00000000-0000-0000-0000-000000000000",
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "49",
            "anthropic-ratelimit-requests-reset": "2026-11-23T12:00:00Z",
        }


# -- what is refused ---------------------------------------------------------------------------------------------------

_PARAMETERS = {
    "max_tokens", "messages", "model", "cache_control", "container", "diagnostics", "inference_geo", "metadata",
    "output_config", "service_tier", "speed", "stop_sequences", "stream", "system", "thinking", "tool_choice", "tools",
}  # fmt: skip
_KEYWORDS = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "allOf", "$ref",
    "$defs", "format", "description", "title", "default",
}  # fmt: skip


def read_body(seen: Seen) -> dict[str, Any]:
    if len(seen.body) > 32 * _MIB:
        raise RefusedError(413, "request_too_large", "Request exceeds the maximum size")
    try:
        body = seen.json
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _invalid("The request body is not valid JSON")
    return body


def facts_of(model: str) -> Facts:
    """Of an id as either platform writes it; 404 for a model that is not there."""
    name = re.sub(r"-\d{8}$", "", model.rpartition("anthropic.")[2])
    if name not in MODELS:
        raise RefusedError(404, "not_found_error", f"model: {model}")
    return MODELS[name]


def check_params(params: Mapping[str, Any], facts: Facts, image_bytes: int) -> None:
    """Raises RefusedError for what the service would not take."""
    for name in params:
        if name not in _PARAMETERS:
            raise _invalid(f"{name}: Extra inputs are not permitted")
    most = params.get("max_tokens")
    if not isinstance(most, int) or not 1 <= most <= 128_000:
        raise _invalid("max_tokens: Field required, at least 1 and at most 128000")
    thinking = params.get("thinking", {}).get("type")
    if thinking is not None and thinking not in facts.thinking:
        raise _invalid(f'"thinking.type.{thinking}" is not supported for this model')
    if params.get("tool_choice", {}).get("type") in ("any", "tool") and not facts.forced_tools:
        raise _invalid("tool_choice: forced tool use is not supported for this model")
    output = params.get("output_config", {})
    if output.get("effort", "low") not in ("low", "medium", "high", "xhigh", "max"):
        raise _invalid("output_config.effort: Input should be low, medium, high, xhigh or max")
    if output.get("format") is not None:
        if output["format"].get("type") != "json_schema":
            raise _invalid("output_config.format.type: Input should be json_schema")
        _check_schema(output["format"].get("schema"), "output_config.format.schema")
    _check_messages(params, facts, image_bytes)


def _invalid(message: str, details: Mapping[str, Any] | None = None) -> RefusedError:
    return RefusedError(400, "invalid_request_error", message, details)


def _check_schema(schema: Any, place: str) -> None:
    if not isinstance(schema, dict):
        raise _invalid(f"{place}: Input should be an object")
    for keyword in schema:
        if keyword not in _KEYWORDS:
            raise _invalid(f"{place}: For '{schema.get('type')}' type, property '{keyword}' is not supported")
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            raise _invalid(f"{place}: For 'object' type, 'additionalProperties' must be explicitly set to false")
        if sum(name not in schema.get("required", ()) for name in schema.get("properties", {})) > 24:
            raise _invalid("Schema is too complex for compilation.")
    for group in ("properties", "$defs"):
        for name, inner in schema.get(group, {}).items():
            _check_schema(inner, f"{place}.{group}.{name}")
    if "items" in schema:
        _check_schema(schema["items"], f"{place}.items")


def _check_messages(params: Mapping[str, Any], facts: Facts, image_bytes: int) -> None:
    messages = params.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _invalid("messages: at least one message is required")
    if messages[-1].get("role") != "user" and not facts.prefill:
        raise _invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    blocks = [
        (f"messages.{number}.content.{place}", block)
        for number, message in enumerate(messages)
        for place, block in enumerate(_blocks(message["content"]))
    ]
    images = [(place, block) for place, block in blocks if block.get("type") == "image"]
    if len(images) > (100 if facts.context <= 200_000 else 600):
        raise _invalid("messages: too many images")
    for place, block in blocks:
        if block.get("type") not in ("text", "image"):
            raise _invalid(f"{place}: Input tag {block.get('type')!r} is not expected here")
        if block["type"] == "text" and not block.get("text", "").strip():
            raise _invalid(f"{place}.text: text content blocks must contain non-whitespace text")
    for place, block in images:
        _check_image(place, block["source"], image_bytes, 2000 if len(images) > 20 else 8000)
    if sum("cache_control" in block for block in [*_blocks(params.get("system", [])), *(b for _, b in blocks)]) > 4:
        raise _invalid("A maximum of 4 blocks with cache_control may be provided.")


def _check_image(place: str, source: Mapping[str, Any], most_bytes: int, most_pixels: int) -> None:
    if source.get("type") != "base64":
        raise _invalid(f"{place}.source: only base64 is understood here")
    if len(source["data"]) > most_bytes:
        raise _invalid(
            f"{place}.image.source.base64: image exceeds {most_bytes // _MIB} MB maximum:"
            f" {len(source['data'])} bytes > {most_bytes} bytes"
        )
    image = _opened(source, place)
    if max(image.size) > most_pixels:
        many = " for many-image requests" if most_pixels == 2000 else ""
        raise _invalid(
            f"{place}.image.source.base64.data: At least one of the image dimensions exceed max allowed size{many}:"
            f" {most_pixels} pixels",
            {"error_code": "image_dimensions_too_large", "max_side_length_pixels": most_pixels, "paths": [place]},
        )


def _opened(source: Mapping[str, Any], place: str = "image") -> Image.Image:
    try:
        return _decoded(source["data"], source.get("media_type", ""))
    except ValueError as error:
        raise _invalid(f"{place}.source.base64: {error}") from error


@lru_cache(maxsize=64)
def _decoded(data: str, media_type: str) -> Image.Image:
    try:
        image = Image.open(BytesIO(base64.b64decode(data, validate=True)))
        image.load()
    except (binascii.Error, OSError) as error:
        raise ValueError("Could not process image") from error
    if Image.MIME[image.format or ""] != media_type:
        raise ValueError(f"The image was specified using the {media_type} media type")
    return image


def _images(params: Mapping[str, Any]) -> Iterator[Image.Image]:
    for message in params["messages"]:
        for block in _blocks(message["content"]):
            if block["type"] == "image":
                yield _opened(block["source"])


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


# -- what is counted ---------------------------------------------------------------------------------------------------


def text_tokens(text: str) -> int:
    """Some three bytes and a third make a token: English at about 1.8 tokens a word."""
    return math.ceil(len(text.encode()) / 3.3)


def image_tokens(width: int, height: int, long_edge: int, patches: int) -> int:
    """Squares of 28 pixels, begun ones counted, after the service has shrunk what is over its limits."""

    def squares(w: int, h: int) -> tuple[int, int]:
        return math.ceil(w / 28), math.ceil(h / 28)

    def fits(w: int, h: int) -> bool:
        columns, rows = squares(w, h)
        return max(columns, rows) * 28 <= long_edge and columns * rows <= patches

    longer, shorter = max(width, height), min(width, height)
    while not fits(longer, shorter):
        longer, shorter = longer - 1, max(1, round((longer - 1) * min(width, height) / max(width, height)))
    columns, rows = squares(longer, shorter)
    return columns * rows


def _pieces(params: Mapping[str, Any], facts: Facts) -> list[tuple[int, str, bool]]:
    """What the input consists of, in the order in which it is cached: tokens, a name, whether a cache ends there."""
    pieces = []
    schema = params.get("output_config", {}).get("format")
    if schema:
        pieces.append((180 + text_tokens(json.dumps(schema["schema"])), _digest(schema), False))
    blocks = _blocks(params.get("system", []))
    for message in params["messages"]:
        blocks += _blocks(message["content"])
    for block in blocks:
        if block["type"] == "image":
            tokens = image_tokens(*_opened(block["source"]).size, facts.long_edge, facts.patches)
        else:
            tokens = text_tokens(block["text"])
        pieces.append((tokens, _digest(block), "cache_control" in block))
    return [*pieces, (4 * len(params["messages"]), "", False)]


def usd(usage: Mapping[str, Any], model: str, tier: str, platform: str) -> float:
    """Usage times prices, from the table, in its own arithmetic."""
    kinds = {
        "input": usage["input_tokens"],
        "cache-write-5m": usage["cache_creation_input_tokens"],
        "cache-read": usage["cache_read_input_tokens"],
    }
    step = sum(kinds.values()) > 100_000
    kinds["output"] = usage["output_tokens"]
    total = 0.0
    for kind, tokens in kinds.items():
        name = f"{platform}/{model}/{'batch-' if tier == 'batch' else ''}{kind}"
        price = (packaged_prices().of(f"{name}/over-100k") if step else None) or packaged_prices().of(name)
        total += tokens * (price or 0.0) / 1e6
    return total


def _cut(text: str, ending: Ending, most: int) -> tuple[str, str, int]:
    """The text as far as it may be long, why it stops, and its tokens."""
    room = most - min(ending.thinking, most)
    if text_tokens(text) <= room:
        return text, ending.stop_reason, text_tokens(text)
    return text.encode()[: int(room * 3.3)].decode(errors="ignore"), "max_tokens", room


# -- what is answered --------------------------------------------------------------------------------------------------


def fill(schema: Mapping[str, Any], seen: Mapping[str, float]) -> str:
    """An answer that keeps the schema: the labels of its enum by confidence; what was not seen goes to other labels.

    An object with an enum and a number is one guess, and guesses come in the order of their confidence.
    """
    guesses = iter(ranked(_labels(schema), seen))
    definitions = schema.get("$defs", {})

    def make(part: Mapping[str, Any]) -> Any:
        if "$ref" in part:
            return make(definitions[part["$ref"].rpartition("/")[2]])
        match part.get("type"):
            case "object" if any("enum" in inner for inner in part["properties"].values()):
                label, confidence = next(guesses, ("", 0.0))
                return {n: label if "enum" in inner else confidence for n, inner in part["properties"].items()}
            case "object":
                return {name: make(inner) for name, inner in part["properties"].items()}
            case "array":
                return [make(part["items"]) for _ in _labels(schema)]
            case "number" | "integer":
                return 0
        return part.get("enum", [""])[0]

    return json.dumps(make(schema), separators=(",", ":"), ensure_ascii=False)


def ranked(labels: list[str], seen: Mapping[str, float]) -> list[tuple[str, float]]:
    """Labels with confidences in hundredths, highest first; what the seen ones leave of 1 is the others'."""
    others = [label for label in labels if label not in seen]
    hundredths = {label: round(100 * seen[label]) for label in labels if label in seen}
    rest = max(0, 100 - sum(hundredths.values()))
    for place, label in enumerate(others):
        hundredths[label] = rest // len(others) + (place < rest % len(others))
    order = sorted(hundredths, key=lambda label: (-hundredths[label], labels.index(label)))
    return [(label, hundredths[label] / 100) for label in order]


def _labels(schema: Any) -> list[str]:
    """The first enum that a schema holds."""
    if isinstance(schema, dict):
        if isinstance(schema.get("enum"), list):
            return list(schema["enum"])
        return next((found for inner in schema.values() if (found := _labels(inner))), [])
    return []


def checked(message: Mapping[str, Any]) -> None:
    """As the SDK's types have it: nothing missing, nothing of another type, nothing that they do not know."""
    from anthropic.types import Message

    read = Message.model_validate(message)
    for part in (read, read.usage, *read.content):
        assert not part.model_extra, part.model_extra
    assert message["stop_reason"] is not None
    assert {"id", "content", "model", "role", "type", "usage"} <= message.keys()


def error_reply(refused: RefusedError) -> Reply:
    """As the service words it."""
    error = {"type": refused.type, "message": refused.message}
    if refused.details:
        error["details"] = refused.details  # type: ignore[assignment]
    body = {"type": "error", "error": error, "request_id": "req_0"}
    headers = {"content-type": "application/json", "request-id": "req_0", **refused.headers}
    return Reply(refused.status, json.dumps(body).encode(), headers)


def error(status: int, type: str, message: str = "", **headers: str) -> Reply:  # noqa: A002  the service's word
    """A fault for `faults`; header names with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_reply(RefusedError(status, type, message or type, None, named))


def spend_limit(code: str = _SPEND_LIMITS[0]) -> Reply:
    """A 429 that no waiting helps against."""
    return error_reply(RefusedError(429, "rate_limit_error", "spend limit reached", {"error_code": code}))


def _bedrock_error(status: int, message: str) -> Reply:
    headers = {"content-type": "application/json", "x-amzn-requestid": "0", "x-amzn-errortype": "Error"}
    return Reply(status, json.dumps({"message": message}).encode(), headers)


def _models() -> dict[str, Any]:
    from anthropic.types import ModelInfo

    rows = [
        {
            "id": name,
            "type": "model",
            "display_name": name,
            "created_at": "2026-10-07T00:00:00Z",
            "lifecycle": "active",
            "max_input_tokens": facts.context,
            "max_tokens": 128_000,
        }
        for name, facts in MODELS.items()
    ]
    for row in rows:
        assert not ModelInfo.model_validate(row).model_extra
    return {"data": rows, "has_more": False, "first_id": rows[0]["id"], "last_id": rows[-1]["id"]}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    serve(Anthropic)
