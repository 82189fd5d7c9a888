"""The stand-in for the Messages API, asked by the SDK and by hand."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic as Client
from PIL import Image

from drawn import draw
from servers.anthropic import KEY, VERSION, Anthropic, Ending, error, fill, image_tokens, spend_limit, text_tokens
from servers.base import Reply
from workbench.config.prices import packaged_prices

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["cat", "dog"]}, "confidence": {"type": "number"}},
    "required": ["label", "confidence"],
    "additionalProperties": False,
}


@pytest.fixture
def service() -> Iterator[Anthropic]:
    with Anthropic(keys=(KEY,)) as server:
        yield server


@pytest.fixture
def client(service: Anthropic) -> Iterator[Client]:
    with Client(api_key=KEY, base_url=service.url, max_retries=0) as made:
        yield made


def image_block(image: Image.Image, kind: str = "PNG") -> dict[str, Any]:
    file = BytesIO()
    image.save(file, kind)
    data = base64.b64encode(file.getvalue()).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": f"image/{kind.lower()}", "data": data}}


def question(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = [*(blocks or (image_block(draw(("disc",), 1)),)), {"type": "text", "text": "Which?"}]
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": 256,
        "messages": [{"role": "user", "content": content}],
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        **more,
    }


def test_request_and_response_are_those_of_the_reference(service: Anthropic, client: Client) -> None:
    told = {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": '{"label":"dog","confidence":0.93}'}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 1500,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 20,
            "output_tokens_details": {"thinking_tokens": 0},
            "service_tier": "standard",
            "inference_geo": "global",
        },
    }
    reply = {"content-type": "application/json", "request-id": "req_011CSHoEeqs5C35K2UUqR7Fy"}
    service.faults.append(Reply(200, json.dumps(told).encode(), reply))
    source = {"type": "base64", "media_type": "image/png", "data": "iVBOR2Zha2U="}
    message = client.messages.create(
        model="claude-haiku-5-5",
        max_tokens=256,
        system=[{"type": "text", "text": "Classify.", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": "Which?"}]}
        ],  # type: ignore[list-item]
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
    )
    (seen,) = service.seen
    assert (
        '{"max_tokens":256,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64",'
        '"media_type":"image/png","data":"iVBOR2Zha2U="}},{"type":"text","text":"Which?"}]}],'
        '"model":"claude-haiku-5-5","output_config":{"format":{"type":"json_schema","schema":{"type":"object",'
        '"properties":{"label":{"type":"string","enum":["cat","dog"]},"confidence":{"type":"number"}},'
        '"required":["label","confidence"],"additionalProperties":false}}},"system":[{"type":"text",'
        '"text":"Classify.","cache_control":{"type":"ephemeral"}}]}'
    ) == seen.body.decode()
    assert ("POST", "/v1/messages") == (seen.method, seen.path)
    expected = {
        "accept": "application/json",
        "content-type": "application/json",
        "user-agent": f"Anthropic/Python {anthropic.__version__}",
        "x-stainless-lang": "python",
        "x-stainless-package-version": anthropic.__version__,
        "x-stainless-retry-count": "0",
        "x-stainless-async": "false",
        "authorization": f"Bearer {KEY}",
        "anthropic-version": VERSION,
    }
    assert expected == {name: seen.headers[name] for name in expected}
    assert told == message.model_dump(mode="json", exclude_unset=True)
    assert "req_011CSHoEeqs5C35K2UUqR7Fy" == message._request_id


def test_an_answer_keeps_the_schema_and_is_on_the_bill(service: Anthropic, client: Client) -> None:
    service.classify = lambda image: {"disc": image.width / 100}
    message = client.messages.create(**question(output_config=form({"disc", "none"})))
    assert {"label": "disc", "confidence": 0.6} == json.loads(message.content[0].text)  # type: ignore[union-attr]
    usage, usd = message.usage, packaged_prices().usd
    assert [
        usage.input_tokens * usd["anthropic/claude-haiku-5-5/input"] / 1e6
        + usage.output_tokens * usd["anthropic/claude-haiku-5-5/output"] / 1e6
    ] == pytest.approx([service.bill])


def form(labels: set[str]) -> dict[str, Any]:
    properties = {"label": {"type": "string", "enum": sorted(labels)}, "confidence": {"type": "number"}}
    return {"format": {"type": "json_schema", "schema": {**SCHEMA, "properties": properties}}}


def test_guesses_come_in_the_order_of_their_confidence() -> None:
    guess = {"type": "object", "properties": SCHEMA["properties"]}
    schema = {"properties": {"first": {"$ref": "#/$defs/guess"}, "second": {"$ref": "#/$defs/guess"}}, "type": "object"}
    told = json.loads(fill({**schema, "$defs": {"guess": guess}}, {"dog": 0.7}))
    assert [{"label": "dog", "confidence": 0.7}, {"label": "cat", "confidence": 0.3}] == [*told.values()]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "temperature": ({"extra_body": {"temperature": 0}}, "temperature: Extra inputs are not permitted"),
    "top_p": ({"extra_body": {"top_p": 1}}, "top_p: Extra inputs are not permitted"),
    "top_k": ({"extra_body": {"top_k": 5}}, "top_k: Extra inputs are not permitted"),
    "thinking": ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type.enabled"),
    "sonnet": ({"model": "claude-sonnet-5-5", "thinking": {"type": "disabled"}}, "thinking.type.disabled"),
    "opus": ({"model": "claude-opus-5-5", "thinking": {"type": "disabled"}}, "thinking.type.disabled"),
    "tool": ({"model": "claude-sonnet-5-5", "tool_choice": {"type": "any"}}, "forced tool use"),
    "maximum": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "number", "maximum": 1}}}},
        "property 'maximum' is not supported",
    ),
    "open": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {}}}}},
        "'additionalProperties' must be explicitly set to false",
    ),
    "no image": (
        {"messages": [{"role": "user", "content": [{**image_block(draw((), 1)), "source": {
            "type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}]}]},
        "Could not process image",
    ),
    "media type": (
        {"messages": [{"role": "user", "content": [{**image_block(draw((), 1)), "source": {
            **image_block(draw((), 1))["source"], "media_type": "image/jpeg"}}]}]},
        "specified using the image/jpeg media type",
    ),
    "large": (
        {"messages": [{"role": "user", "content": [image_block(Image.new("1", (8001, 10)))]}]},
        "exceed max allowed size: 8000 pixels",
    ),
    "many": (
        {"messages": [{"role": "user", "content": [image_block(Image.new("1", (10, 10)))] * 20
                       + [image_block(Image.new("1", (2001, 10)))]}]},
        "for many-image requests: 2000 pixels",
    ),
    "prefill": (
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "{"}]},
        "must end with a user message",
    ),
    "empty": ({"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "non-whitespace"),
}  # fmt: skip


@pytest.mark.parametrize("change", REFUSED)
def test_what_the_service_refuses_is_refused(service: Anthropic, client: Client, change: str) -> None:
    changes, words = REFUSED[change]
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**{**question(), **changes})
    assert words in str(caught.value.api_message)
    assert "invalid_request_error" == caught.value.type
    assert 0 == service.bill


def test_a_side_that_is_too_long_has_an_error_of_its_own(client: Client) -> None:
    with pytest.raises(anthropic.types.ImageDimensionsTooLargeError) as caught:
        client.messages.create(**question(image_block(Image.new("1", (10, 8001)))))
    assert 8000 == caught.value.details.max_side_length_pixels  # type: ignore[union-attr]


def test_who_asks_without_a_key_or_for_another_model_gets_no_answer(service: Anthropic) -> None:
    with Client(api_key="another", base_url=service.url, max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError):
            client.messages.create(**question())
        with pytest.raises(anthropic.NotFoundError):
            client.with_options(api_key=KEY).messages.create(**question(model="claude-2"))
        with pytest.raises(anthropic.BadRequestError):
            client.with_options(api_key=KEY, default_headers={"anthropic-version": "2023-06-01"}).messages.create(
                **question()
            )
    request = urllib.request.Request(  # noqa: S310  a loopback address
        f"{service.url}/v1/models", headers={"x-api-key": KEY, "anthropic-version": VERSION}
    )
    with urllib.request.urlopen(request) as reply:  # noqa: S310
        assert "claude-haiku-5-5" == json.load(reply)["data"][0]["id"]


def test_a_body_over_32_megabytes_is_too_large(client: Client) -> None:
    with pytest.raises(anthropic.ContentTooLargeError):
        client.messages.create(**question({"type": "text", "text": "x" * 2**25}))


def test_faults_are_the_sdks_errors(service: Anthropic, client: Client) -> None:
    faults = {
        anthropic.RateLimitError: service.throttled(None),  # type: ignore[arg-type]
        anthropic.OverloadedError: error(529, "overloaded_error"),
        anthropic.InternalServerError: error(500, "api_error"),
        anthropic.PaymentRequiredError: error(402, "billing_error"),
        anthropic.APIConnectionError: Reply(200, b"", dropped=True),
    }
    for kind, fault in faults.items():
        service.faults.append(fault)
        with pytest.raises(kind):
            client.messages.create(**question())
    service.faults.append(spend_limit())
    with pytest.raises(anthropic.RateLimitError) as caught:
        client.messages.create(**question())
    assert "enforced_spend_limit_reached" == caught.value.error_code


@pytest.mark.parametrize(
    ("size", "standard", "high"),
    [
        ((200, 200), 64, 64),
        ((1000, 1000), 1296, 1296),
        ((1092, 1092), 1521, 1521),
        ((1920, 1080), 1560, 2691),
        ((2000, 1500), 1564, 3888),
        ((3840, 2160), 1560, 4784),
    ],
)
def test_images_are_counted_as_the_documentation_has_it(size: tuple[int, int], standard: int, high: int) -> None:
    assert (standard, high) == (image_tokens(*size, 1568, 1568), image_tokens(*size, 2576, 4784))


def test_counting_beforehand_agrees_with_the_bill(client: Client) -> None:
    asked = question()
    message = client.messages.create(**asked)
    counted = client.messages.count_tokens(**{name: value for name, value in asked.items() if name != "max_tokens"})
    assert counted.input_tokens == message.usage.input_tokens


def test_a_prefix_is_written_to_the_cache_once_and_then_read(client: Client) -> None:
    system = [{"type": "text", "text": "word " * 800, "cache_control": {"type": "ephemeral"}}]
    first, second = (client.messages.create(**question(system=system)).usage for _ in range(2))
    written = first.cache_creation_input_tokens or 0
    assert written > text_tokens("word " * 800)
    assert (0, written) == (second.cache_creation_input_tokens, second.cache_read_input_tokens)
    assert first.input_tokens == second.input_tokens < 100


def test_a_short_prefix_is_not_cached(client: Client) -> None:
    system = [{"type": "text", "text": "word", "cache_control": {"type": "ephemeral"}}]
    usage = [client.messages.create(**question(system=system)).usage for _ in range(2)]
    assert [(0, 0)] * 2 == [(one.cache_creation_input_tokens, one.cache_read_input_tokens) for one in usage]


def test_endings(service: Anthropic, client: Client) -> None:
    service.endings += [Ending("", "refusal", "cyber"), Ending("I would say", "refusal"), Ending(thinking=20), Ending()]
    declined, broken_off, thoughtful = (client.messages.create(**question()) for _ in range(3))
    assert ([], "refusal", "cyber") == (declined.content, declined.stop_reason, declined.stop_details.category)  # type: ignore[union-attr]
    assert [0.0, True] == [service.charges[0].usd, service.charges[1].usd > 0]
    assert "I would say" == broken_off.content[0].text  # type: ignore[union-attr]
    assert ["thinking", "text"] == [block.type for block in thoughtful.content]
    cut = client.messages.create(**question(max_tokens=5))
    assert ("max_tokens", 5) == (cut.stop_reason, cut.usage.output_tokens)


class TestBedrock:
    @pytest.fixture
    def bedrock(self, service: Anthropic) -> Iterator[anthropic.AnthropicBedrock]:
        with anthropic.AnthropicBedrock(
            aws_access_key="AKIAIOSFODNN7EXAMPLE",
            aws_secret_key="secret",  # noqa: S106
            aws_region="us-east-1",
            base_url=service.url,
            max_retries=0,
        ) as client:
            yield client

    def test_answers_what_is_signed(self, service: Anthropic, bedrock: anthropic.AnthropicBedrock) -> None:
        message = bedrock.messages.create(**question(model="us.anthropic.claude-haiku-5-5"))
        (seen,) = service.seen
        assert "/model/us.anthropic.claude-haiku-5-5/invoke" == seen.path
        assert VERSION == seen.json["anthropic_version"]
        assert "anthropic-version" not in seen.headers
        assert "claude-haiku-5-5" == message.model
        assert 0 < service.bill

    def test_refuses_what_is_not_signed_or_too_large(
        self, service: Anthropic, bedrock: anthropic.AnthropicBedrock
    ) -> None:
        request = urllib.request.Request(f"{service.url}/model/anthropic.claude-haiku-5-5/invoke", b"{}")  # noqa: S310
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request).close()  # noqa: S310
        noise = Image.frombytes("RGB", (1400, 1400), os.urandom(1400 * 1400 * 3))
        with pytest.raises(anthropic.BadRequestError, match="image exceeds 5 MB maximum"):
            bedrock.messages.create(**question(image_block(noise), model="global.anthropic.claude-haiku-5-5"))


def test_runs_as_a_program() -> None:
    folder = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-m", "servers.anthropic"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        with Client(api_key="any", base_url=url, max_retries=0) as client:
            assert "end_turn" == client.messages.create(**question()).stop_reason
        told, _ = program.communicate()
    assert {"replies": {"200": 1}} == json.loads(told)
