"""What Claude may say, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from workbench.approaches.claude_answers import FLOORS, TOLERANCE, answer_of, read_guesses, read_scores
from workbench.approaches.claude_cost import Tariff
from workbench.approaches.claude_prompt import Form, Protocol
from workbench.canonical import binary32
from workbench.config.prices import packaged_prices
from workbench.errors import ProviderError
from workbench.records import CENSORED, Mode, Taxonomy

CATEGORIES = ("Cat", "dog", "bird")


def form(mode: Mode = "single-label", protocol: Protocol = "top-k", guesses: int = 2) -> Form:
    return Form(Taxonomy(CATEGORIES, mode), protocol, guesses, {}, 0, False)


def said(text: str | None, stop_reason: str = "end_turn", **more: Any) -> dict[str, Any]:
    return {"text": text, "stop_reason": stop_reason, "stop_details": None, **more}


def guesses(*named: tuple[Any, Any]) -> dict[str, Any]:
    return said(json.dumps({f"guess_{n}": {"label": a, "probability": p} for n, (a, p) in enumerate(named, 1)}))


def outcome(raw: Mapping[str, Any], asked: Form | None = None) -> str:
    with pytest.raises(ProviderError) as caught:
        read_scores(raw, asked or form(), 1)
    return caught.value.outcome


GOOD = '{"guess_1":{"label":"dog","probability":0.9},"guess_2":{"label":"unknown","probability":0.1}}'

BAD = {
    "label outside": (guesses(("wolf", 0.9), ("dog", 0.1)), "label_outside"),
    "nearly a label": (guesses(("dogs", 0.9), ("Cat", 0.1)), "label_outside"),
    "an instruction that was followed": (guesses(("SAFE", 0.9), ("dog", 0.1)), "label_outside"),
    "SAFE": (said("SAFE"), "unstructured_answer"),
    "prose": (said("The image shows a dog."), "unstructured_answer"),
    "prose before": (said("Here you are: " + GOOD), "unstructured_answer"),
    "prose behind": (said(GOOD + "\nI hope this helps."), "unstructured_answer"),
    "fenced": (said(f"```json\n{GOOD}\n```"), "unstructured_answer"),
    "1.7": (guesses(("dog", 1.7), ("Cat", 0.0)), "bad_probability"),
    "negative": (guesses(("dog", 1.1), ("Cat", -0.1)), "bad_probability"),
    "a word": (guesses(("dog", "high"), ("Cat", 0.1)), "bad_probability"),
    "a number as text": (guesses(("dog", "0.9"), ("Cat", 0.1)), "bad_probability"),
    "true": (guesses(("dog", True), ("Cat", 0)), "bad_probability"),
    "null": (guesses(("dog", None), ("Cat", 0)), "bad_probability"),
    "NaN": (said(GOOD.replace("0.9", "NaN")), "bad_probability"),
    "infinite": (said(GOOD.replace("0.9", "1e999")), "bad_probability"),
    "not one": (guesses(("dog", 0.6), ("Cat", 0.3)), "bad_probability"),
    "half": (said(GOOD[: len(GOOD) // 2]), "incomplete_answer"),
    "without its end": (said(GOOD[:-1]), "incomplete_answer"),
    "within a word": (said(GOOD[:25]), "incomplete_answer"),
    "cut off": (said(GOOD[:40], "max_tokens"), "incomplete_answer"),
    "cut off behind the end": (said(GOOD, "max_tokens"), "incomplete_answer"),
    "no room": (said("", "model_context_window_exceeded"), "incomplete_answer"),
    "declined": (said("", "refusal"), "refusal"),
    "declined in the middle": (said(GOOD[:10], "refusal", stop_details={"category": "bio"}), "refusal"),
    "twice": (guesses(("dog", 0.5), ("DOG", 0.5)), "malformed_answer"),
    "a key twice": (said('{"guess_1":{},"guess_1":{}}'), "malformed_answer"),
    "broken in the middle": (said(GOOD.replace(":0.9", ":0.9 oops")), "malformed_answer"),
    "a list": (said("[1]"), "malformed_answer"),
    "too few": (guesses(("dog", 1.0)), "malformed_answer"),
    "too many": (guesses(("dog", 0.5), ("Cat", 0.3), ("bird", 0.2)), "malformed_answer"),
    "a field too many": (said(GOOD.replace("0.9}", '0.9,"x":1}')), "malformed_answer"),
    "label as number": (guesses((3, 0.9), ("Cat", 0.1)), "malformed_answer"),
    "nothing": (said(""), "malformed_answer"),
    "no text": (said(None), "malformed_answer"),
    "tool": (said(GOOD, "tool_use"), "malformed_answer"),
    "deep": (said("[" * 200_000), "malformed_answer"),
}


@pytest.mark.parametrize("case", BAD)
def test_each_fault_has_its_own_outcome(case: str) -> None:
    raw, code = BAD[case]
    assert code == outcome(raw)


def test_a_long_answer_is_quoted_in_short() -> None:
    with pytest.raises(ProviderError) as caught:
        read_guesses(said("x" * 10_000), form())
    assert len(str(caught.value)) < 200


def test_capitals_do_not_matter_where_they_decide_nothing() -> None:
    assert {"Cat": 0.75, "dog": 0.25} == read_guesses(guesses(("cat", 0.75), ("DOG", 0.25)), form())
    alike = Form(Taxonomy(("Cat", "cat")), "top-k", 2, {}, 0, False)
    assert {"cat": 0.75, "Cat": 0.25} == read_guesses(guesses(("cat", 0.75), ("Cat", 0.25)), alike)
    assert "label_outside" == outcome(guesses(("CAT", 0.9), ("cat", 0.1)), alike)


def test_named_labels_have_scores_and_the_others_are_below_the_floor() -> None:
    scores = read_scores(guesses(("dog", 0.99), ("unknown", 0.01)), form(), 1)
    assert {"Cat": CENSORED, "dog": binary32(0.99), "bird": CENSORED, "unknown": CENSORED} == scores


@given(st.lists(st.integers(0, 100), min_size=4, max_size=4))
def test_what_is_not_named_is_below_the_floor(hundredths: list[int]) -> None:
    """Whatever the model holds of four labels: if it may name two, and is believed, the others are below the floor."""
    total = sum(hundredths)
    held = sorted(((value / total if total else 0.25) for value in hundredths), reverse=True)
    named = guesses(*zip(("dog", "Cat"), held[:2], strict=True))
    try:
        scores = read_scores(named, form(), 1)
    except ProviderError as error:
        assert "bad_probability" == error.outcome  # noqa: PT017  both ways are asserted
        assert abs(sum(held[:2]) - 1) > TOLERANCE
    else:
        floor = FLOORS["top-k"]
        assert max(held[2:]) <= floor + 1e-6
        assert all(score == CENSORED or floor <= score <= 1 for score in scores.values())


def test_an_average_counts_what_is_not_named_as_nothing() -> None:
    parts = {"parts": [guesses(("dog", 0.9), ("Cat", 0.1)), guesses(("dog", 0.5), ("bird", 0.5))]}
    scores = read_scores(parts, form(), 2)
    assert {"Cat": binary32(0.05), "dog": binary32(0.7), "bird": 0.25, "unknown": CENSORED} == scores


def test_one_bad_sample_spoils_the_average() -> None:
    good = guesses(("dog", 0.9), ("Cat", 0.1))
    with pytest.raises(ProviderError) as caught:
        read_scores({"parts": [good, said("no")]}, form(), 2)
    assert "unstructured_answer" == caught.value.outcome
    for odd in ({}, {"parts": [good]}, {"parts": [good, 3]}, {"parts": "ab"}):
        with pytest.raises(ProviderError, match="2 answers were to be kept together"):
            read_scores(odd, form(), 2)


class TestMultiLabel:
    def test_probabilities_stand_for_themselves(self) -> None:
        named = guesses(("dog", 0.9), ("Cat", 0.8), ("bird", 0.01), ("unknown", 0))
        expected = {"Cat": binary32(0.8), "dog": binary32(0.9), "bird": CENSORED, "unknown": CENSORED}
        assert expected == read_scores(named, form("multi-label", guesses=4), 1)

    def test_what_could_be_above_the_floor_and_was_not_named_is_missing(self) -> None:
        asked = form("multi-label")
        assert {"Cat", "dog"} == set(read_scores(guesses(("dog", 0.9), ("Cat", 0.8)), asked, 1))
        certain = read_scores(guesses(("dog", 0.9), ("Cat", 0.01)), asked, 1)
        assert {"Cat": CENSORED, "dog": binary32(0.9), "bird": CENSORED, "unknown": CENSORED} == certain


class TestSingle:
    def test_one_label_and_its_confidence(self) -> None:
        asked = form(protocol="single", guesses=1)
        scores = read_scores(said('{"label":"cat","confidence":0.75}'), asked, 1)
        assert {"Cat": 0.75, "dog": CENSORED, "bird": CENSORED, "unknown": CENSORED} == scores
        assert {CENSORED} == {*read_scores(said('{"label":"cat","confidence":0.4}'), asked, 1).values()}
        assert "bad_probability" == outcome(said('{"label":"cat","confidence":1.7}'), asked)
        assert "label_outside" == outcome(said('{"label":"cow","confidence":0.7}'), asked)


class TestMessages:
    USAGE: Mapping[str, Any] = {
        "input_tokens": 1000,
        "output_tokens": 100,
        "cache_creation_input_tokens": 300,
        "cache_read_input_tokens": 4000,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
        "service_tier": "standard",
    }

    def message(self, **changes: Any) -> Message:
        return Message.model_validate(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude-haiku-5-5",
                "content": [
                    {"type": "thinking", "thinking": "", "signature": "x"},
                    {"type": "text", "text": GOOD},
                ],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": self.USAGE,
                **changes,
            }
        )

    @pytest.fixture
    def tariff(self) -> Tariff:
        return Tariff(packaged_prices(), "anthropic/claude-haiku-5-5")

    def test_text_and_cost_are_kept_thoughts_are_not(self, tariff: Tariff) -> None:
        answer = answer_of(self.message(), tariff)
        assert answer is not None
        assert (GOOD, "end_turn", "claude-haiku-5-5") == (
            answer.raw["text"],
            answer.raw["stop_reason"],
            answer.model_version,
        )
        assert answer.raw == json.loads(json.dumps(answer.raw, allow_nan=False))
        assert {"text", "stop_reason", "stop_details", "usage", "model", "id", "service_tier"} == set(answer.raw)
        expected = (1000 * 0.1 + 100 * 0.5 + 200 * 0.125 + 100 * 0.2 + 4000 * 0.01) / 1e6
        assert pytest.approx(expected) == answer.cost_usd

    def test_batches_cost_half_and_long_prompts_more(self, tariff: Tariff) -> None:
        plain = {"input_tokens": 1000, "output_tokens": 100}
        message = self.message(usage=plain)
        answers = [answer_of(message, tariff), answer_of(message, tariff, batch=True)]
        assert [0.00015, 0.000075] == pytest.approx([answer.cost_usd for answer in answers if answer])
        long = answer_of(self.message(usage={**plain, "input_tokens": 100_001}), tariff)
        assert long is not None
        assert pytest.approx((100_001 * 0.5 + 100 * 2.5) / 1e6) == long.cost_usd

    def test_a_refusal_before_the_first_word_is_free(self, tariff: Tariff) -> None:
        details = {"type": "refusal", "category": None, "explanation": None}
        answer = answer_of(self.message(content=[], stop_reason="refusal", stop_details=details), tariff)
        assert answer is not None
        assert 0.0 == answer.cost_usd
        assert "refusal" == outcome(answer.raw)

    @pytest.mark.parametrize("gap", ["usage", "content", "model"])
    def test_what_is_no_message_is_no_answer(self, tariff: Tariff, gap: str) -> None:
        whole = self.message().model_dump()
        assert answer_of(Message.model_construct(**{**whole, gap: None}), tariff) is None
        assert answer_of("<html>", tariff) is None  # type: ignore[arg-type]

    @pytest.mark.parametrize("model", ["", " ", "claude\ud800", "claude\0"])
    def test_an_answer_that_names_no_model_is_no_message(self, model: str) -> None:
        assert answer_of(self.message(model=model), Tariff(packaged_prices(), "anthropic/claude-haiku-5-5")) is None

    @pytest.mark.parametrize("tokens", [10**400, 10**18, -1])
    def test_a_number_of_tokens_that_cannot_be_is_no_message(self, tokens: int) -> None:
        tariff = Tariff(packaged_prices(), "anthropic/claude-haiku-5-5")
        assert answer_of(self.message(usage={"input_tokens": tokens, "output_tokens": 5}), tariff) is None

    def test_other_numbers_of_tokens_that_cannot_be_count_nothing(self) -> None:
        tariff = Tariff(packaged_prices(), "anthropic/claude-haiku-5-5")
        plain = {"input_tokens": 100, "output_tokens": 10}
        odd = {**plain, "cache_read_input_tokens": 10**400}
        costs = [answer.cost_usd for usage in (plain, odd) if (answer := answer_of(self.message(usage=usage), tariff))]
        assert 2 == len(costs)
        assert costs[0] == costs[1]
