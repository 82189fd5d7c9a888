"""`claude`: a multimodal model that names labels of a closed list, with the probabilities that it states.

Nothing is trained. What it says of an image is data: an answer that is not one of the labels it was given, in the form
it was given, is an outcome of its own and goes to people.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from workbench.approaches.base import Answer, Estimate, Setting, read_options
from workbench.approaches.claude_answers import FLOORS, READING, answer_of, read_scores
from workbench.approaches.claude_batches import ClaudeBatches
from workbench.approaches.claude_cost import INJECTED, Span, Tariff, estimate_cost, image_tokens, text_tokens
from workbench.approaches.claude_examples import choose_examples
from workbench.approaches.claude_models import MOST_IMAGES, family, find_model
from workbench.approaches.claude_options import PLACE, ClaudeOptions, choose_thinking, find_prompt, make_form
from workbench.approaches.claude_prompt import (
    Form,
    answer_schema,
    example_text,
    question_text,
    read_prompt,
    sample_answer,
    system_text,
)
from workbench.approaches.claude_service import (
    failure,
    garbled,
    missing_aws,
    missing_key,
    open_bedrock_client,
    open_client,
)
from workbench.canonical import digest
from workbench.errors import ConfigError
from workbench.prepare.decode import Prepared
from workbench.prepare.encode import ENCODING, Encoded, encode_pixels

if TYPE_CHECKING:
    from anthropic import Anthropic, AnthropicBedrock

_THINKING_ROOM = 4096
"""Tokens beside the answer, for a model that may think first."""
_FRAME = 16
"""Tokens that mark where a message begins and ends, at most."""
_IMAGE_BYTES = {False: 7_500_000, True: 5 * 2**20 // 4 * 3}
"""Of an image file, on the Claude API and on Bedrock: base64 makes 10 MB and 5 MiB of it."""
_EXAMPLES_BYTES = {False: 15_000_000, True: 7_500_000}
"""Of all example files together: they share the request's limit (32 MB, less on Bedrock) with the image."""
_CACHE_PRICES = ("cache-write-5m", "cache-read")
_QUESTION = "question-1"
"""Names how a question is put together here."""


class Claude(ClaudeBatches):
    """One question per image and sample; the scores are the probabilities that the model states."""

    name = "claude"
    complete = False
    scores_unknown = True
    model_version = ""
    parallel = 8
    rate = 0.0
    hourly_usd = 0.0

    def __init__(self, setting: Setting, options: ClaudeOptions) -> None:
        self.options = options
        self.taxonomy = setting.taxonomy
        self.model = options.asked_model
        self.parts = options.samples
        self.expects = options.model_version
        self.prompt = read_prompt(find_prompt(options, setting))
        self.form = make_form(options, setting.taxonomy)
        self.floors: Mapping[str, float] = dict.fromkeys(self.form.labels, FLOORS[options.protocol])
        self._examples = choose_examples(setting.dataset, options.examples, options.seed)
        images = 1 + len(self._examples)
        if images > MOST_IMAGES:
            raise ConfigError(f"{PLACE}.examples: {images} images in one question; the limit is {MOST_IMAGES}")
        facts = find_model(self.model)
        self.preparation = facts.preparation(images)
        self.thinking, may_think = choose_thinking(options, facts)
        self._told = _answer_tokens(self.form)
        self.max_tokens = options.max_tokens or self._told.high + (_THINKING_ROOM if may_think else 0)
        platform = f"bedrock/{self.model}" if options.bedrock else f"anthropic/{family(self.model)}"
        self.tariff = Tariff(setting.prices, platform)
        missing = self.tariff.missing("input", "output", *(_CACHE_PRICES if options.cache_prompt else ()))
        self.price_note = f"no price for {', '.join(missing)}" if missing else ""
        self._client: Anthropic | AnthropicBedrock | None = None
        self._lock = threading.Lock()
        self.question = digest(self._asked())
        self.fingerprint = digest([self.name, self.question, self.taxonomy.digest, self.parts, READING])

    @classmethod
    def build(cls, setting: Setting) -> Claude:
        """Raises ConfigError for faulty options, PrerequisiteError where there are no images for the examples."""
        if setting.label_map:
            raise ConfigError(f"{PLACE}.labels: Claude is asked for the categories themselves; use definitions")
        return cls(setting, read_options(ClaudeOptions, cls.name, setting))

    @classmethod
    def lacks(cls, setting: Setting) -> str:
        """Credentials, where none are found on this machine."""
        options = read_options(ClaudeOptions, cls.name, setting)
        return missing_aws(options.region, options.profile) if options.bedrock else missing_key()

    def request(self, prepared: Prepared, part: int = 0) -> dict[str, Any]:
        """The parameters of a Messages call: the same for a call of its own and for one in a batch."""
        system: dict[str, Any] = {"type": "text", "text": system_text(self.prompt, self.form, part)}
        examples = [dict(block) for block in self._example_blocks]
        if self.options.cache_prompt:
            (examples[-1] if examples else system)["cache_control"] = {"type": "ephemeral"}
        content = [
            *examples,
            _image_block(encode_pixels(prepared.pixels, _IMAGE_BYTES[self.options.bedrock])),
            {"type": "text", "text": question_text(self.prompt)},
        ]
        output: dict[str, Any] = {"format": {"type": "json_schema", "schema": answer_schema(self.form, part)}}
        if self.options.effort:
            output["effort"] = self.options.effort
        thinking = {"thinking": {"type": self.thinking}} if self.thinking else {}
        return {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "system": [system],
            "messages": [{"role": "user", "content": content}],
            "output_config": output,
            **thinking,
        }

    def ask(self, request: Mapping[str, Any]) -> Answer:
        """One call. Raises as the contract says; what the model says, whatever it is, comes back."""
        failed: Exception | None = None
        try:
            answer = answer_of(self.client.messages.create(**request), self.tariff)
        except Exception as error:
            failed = failure(error, self.model, self.options.profile)
            if failed is error:
                raise
        if failed is not None:
            raise failed  # not within the handler: the original holds the headers that were sent
        if answer is None:
            raise garbled()
        return answer

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        """The probabilities that were stated; a label that no answer names is CENSORED."""
        return read_scores(raw, self.form, self.parts)

    def estimate(self, width: int, height: int) -> Estimate:
        """From the size of the image and the length of all text."""
        return self.estimate_call(width, height)

    def estimate_call(self, width: int, height: int, *, batch: bool = False) -> Estimate:
        """The same at the prices of single calls, or of calls in a batch."""
        tokens = image_tokens(width, height)
        asked = Span(tokens, tokens) + text_tokens(question_text(self.prompt)) + Span(0, _FRAME)
        told = Span(min(self._told.low, self.max_tokens), self.max_tokens)
        return estimate_cost(
            self.tariff, prefix=self._prefix, asked=asked, told=told, cached=self.options.cache_prompt, batch=batch
        )

    @property
    def client(self) -> Anthropic | AnthropicBedrock:
        """The one client of all threads, made when it is first needed."""
        with self._lock:
            if self._client is None:
                options = self.options
                self._client = (
                    open_bedrock_client(options.base_url, options.timeout, options.region, options.profile)
                    if options.bedrock
                    else open_client(options.base_url, options.timeout)
                )
            return self._client

    def close(self) -> None:
        """Let go of all connections; the next question opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __repr__(self) -> str:
        return f"Claude({self.model!r}, prompt={self.prompt.version!r}, samples={self.parts})"

    @cached_property
    def _example_blocks(self) -> list[dict[str, Any]]:
        most = _EXAMPLES_BYTES[self.options.bedrock] // max(1, len(self._examples))
        blocks: list[dict[str, Any]] = []
        for example in self._examples:
            image = encode_pixels(example.prepared.pixels, most)
            blocks += [_image_block(image), {"type": "text", "text": example_text(self.prompt, example.labels)}]
        return blocks

    @cached_property
    def _prefix(self) -> Span:
        """Tokens of what every question begins with; other parts have the same labels in another order."""
        labels = self.form.labels
        total = text_tokens(system_text(self.prompt, self.form, 0), (*labels, *self.form.definitions.values()))
        total += text_tokens(json.dumps(answer_schema(self.form, 0), ensure_ascii=False), labels) + INJECTED
        for example in self._examples:
            height, width = example.prepared.pixels.shape[:2]
            tokens = image_tokens(width, height)
            total += Span(tokens, tokens) + text_tokens(example_text(self.prompt, example.labels), example.labels)
        return total

    def _asked(self) -> dict[str, Any]:
        """All that shapes an answer, whatever the part; not how many parts there are, nor what only saves money."""
        options = self.options
        return {
            "question": _QUESTION,
            "endpoint": _endpoint(options),
            "model": self.model,
            "system": system_text(self.prompt, self.form, 0),
            "labels": [self.form.labels, options.seed, options.shuffle],
            "text": question_text(self.prompt),
            "examples": [[example.prepared.digest, example.labels] for example in self._examples],
            "schema": answer_schema(self.form, 0),
            "max_tokens": self.max_tokens,
            "thinking": self.thinking,
            "effort": options.effort,
            "preparation": self.preparation.id,
            "encoding": ENCODING,
        }


def _answer_tokens(form: Form) -> Span:
    """Of the shortest and the longest answer that the schema admits, with numbers of up to three decimals."""
    by_length = sorted(form.labels, key=lambda label: len(label.encode()))
    shortest, longest = by_length[: form.guesses], by_length[-form.guesses :]
    least = text_tokens(sample_answer(form, shortest, 0.05, spaced=False)).low
    return Span(least, text_tokens(sample_answer(form, longest, 0.125, spaced=True), longest).high)


def _endpoint(options: ClaudeOptions) -> list[str]:
    """Whom the question goes to: answers of a gateway or a stand-in are never taken for the service's own."""
    if options.bedrock:
        region = options.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        return ["bedrock", region, options.base_url or os.environ.get("ANTHROPIC_BEDROCK_BASE_URL", "")]
    return ["anthropic", options.base_url or os.environ.get("ANTHROPIC_BASE_URL", "")]


def _image_block(image: Encoded) -> dict[str, Any]:
    data = base64.b64encode(image.data).decode("ascii")
    return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": data}}
