"""What Claude answered: kept as JSON, read strictly, never guessed at.

A model may say anything. What is no label of the list, no probability, or no JSON has an outcome of its own and goes
to people, whatever the text was meant to say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from workbench.approaches.base import Answer
from workbench.approaches.claude_cost import Tariff, Usage, is_count
from workbench.approaches.claude_prompt import Form, guess_names
from workbench.canonical import binary32
from workbench.errors import ProviderError
from workbench.records import CENSORED

if TYPE_CHECKING:
    from anthropic.types import Message

TOLERANCE = 0.02
"""How far from one the probabilities of a single-label answer may sum: each is rounded to hundredths."""
FLOORS: Mapping[str, float] = {"top-k": binary32(0.02), "single": 0.5}
"""By protocol: what is below counts as not told. top-k: what the named labels leave of one, at most, for all others.
single: what a label may have at most that is not the one named."""

_LONGEST_QUOTE = 80
READING = "answer-1"
"""Names how answers are read; changes with this module's scores."""


def answer_of(message: Message, tariff: Tariff, *, batch: bool = False) -> Answer | None:
    """An answer with its cost, as it is kept; None where this is no message (the service sent something else).

    The thinking, if any, is left out, and so is whatever else holds no text.
    """
    told = message.model_dump(mode="json", warnings=False) if hasattr(message, "model_dump") else {}
    usage, content = told.get("usage"), told.get("content")
    if not (isinstance(usage, dict) and isinstance(content, list) and isinstance(told.get("model"), str)):
        return None
    if not (told["model"].strip() and told["model"].isprintable()):
        return None
    if not all(is_count(usage.get(name)) for name in ("input_tokens", "output_tokens")):
        return None
    texts = [block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text"]
    raw = {
        "text": "".join(text for text in texts if isinstance(text, str)),
        "stop_reason": told.get("stop_reason"),
        "stop_details": told.get("stop_details"),
        "usage": usage,
        "model": told["model"],
        "id": told.get("id"),
        "service_tier": usage.get("service_tier"),
    }
    unsaid = raw["stop_reason"] == "refusal" and not content
    cost = 0.0 if unsaid else tariff.usd(Usage.of(usage), batch=batch)
    return Answer(raw, told["model"], cost or 0.0)


def read_scores(raw: Mapping[str, Any], form: Form, parts: int) -> dict[str, float]:
    """Scores by label, of the one answer or of the average of several: binary32, CENSORED below the protocol's floor.

    A label that an answer with room for it does not name counts as nothing in an average. Multi-label: where not
    even the least probable guess is below the floor, a label that is not named may be above it, too: it is MISSING.
    Raises ProviderError with the outcome code of the first answer that cannot be read.
    """
    answers = [raw]
    if parts > 1:
        answers = raw["parts"] if isinstance(raw.get("parts"), list) else []
        if len(answers) != parts or not all(isinstance(one, Mapping) for one in answers):
            raise ProviderError("malformed_answer", f"{parts} answers were to be kept together")
    named = [read_guesses(one, form) for one in answers]
    floor = FLOORS[form.protocol]
    scores = {}
    for label in form.labels:
        if form.taxonomy.mode == "multi-label" and any(_may_exceed(floor, label, guesses) for guesses in named):
            continue
        mean = binary32(math.fsum(guesses.get(label, 0.0) for guesses in named) / parts)
        scores[label] = mean if mean >= floor else CENSORED
    return scores


def read_guesses(raw: Mapping[str, Any], form: Form) -> dict[str, float]:
    """Probabilities in [0, 1] by label, of the labels that one answer names. Raises ProviderError otherwise."""
    answer = _object(_finished_text(raw))
    if form.protocol == "single":
        label, confidence = _fields(answer, "label", "confidence")
        return {_label(label, form.labels): _probability(confidence)}
    guesses: dict[str, float] = {}
    for guess in _fields(answer, *guess_names(form.guesses)):
        label, probability = _fields(guess, "label", "probability")
        name = _label(label, form.labels)
        if name in guesses:
            raise ProviderError("malformed_answer", f"{name!r} is named twice")
        guesses[name] = _probability(probability)
    total = math.fsum(guesses.values())
    if form.taxonomy.mode == "single-label" and abs(total - 1) > TOLERANCE + 1e-9:
        raise ProviderError("bad_probability", f"probabilities sum to {total:.4g}, not to 1")
    return guesses


def _may_exceed(floor: float, label: str, guesses: Mapping[str, float]) -> bool:
    return label not in guesses and min(guesses.values()) >= floor


def _finished_text(raw: Mapping[str, Any]) -> str:
    """The text of an answer that was neither declined nor cut off."""
    reason, text = raw.get("stop_reason"), raw.get("text")
    if reason == "refusal":
        details = raw.get("stop_details")
        category = details.get("category") if isinstance(details, Mapping) else None
        raise ProviderError("refusal", f"declined{f' ({category})' if isinstance(category, str) else ''}")
    if reason in ("max_tokens", "model_context_window_exceeded"):
        raise ProviderError("incomplete_answer", f"cut off ({reason}): {_quote(text)}")
    if reason not in ("end_turn", "stop_sequence") or not isinstance(text, str):
        raise ProviderError("malformed_answer", f"no finished answer: stop_reason is {_quote(reason)}")
    if not text.strip():
        raise ProviderError("malformed_answer", "no text")
    return text.strip()


def _object(text: str) -> Mapping[str, Any]:
    if not text.startswith(("{", "[")):
        raise ProviderError("unstructured_answer", f"no JSON: {_quote(text)}")
    try:
        answer = json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise ProviderError("unstructured_answer", f"more than JSON: {_quote(text)}") from None
        if _ends_early(text, error):
            raise ProviderError("incomplete_answer", f"cut off: {_quote(text)}") from None
        _malformed(text)
    except (ValueError, RecursionError):
        _malformed(text)
    if not isinstance(answer, dict):
        _malformed(text)
    return answer


def _ends_early(text: str, error: json.JSONDecodeError) -> bool:
    """Is it the end that is missing, not something in the middle that is wrong?"""
    return error.msg.startswith("Unterminated string") or not text[error.pos :].strip(" \n\r\t,:-.")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _fields(answer: Any, *names: str) -> Sequence[Any]:
    """The values of exactly these fields."""
    if not isinstance(answer, Mapping) or set(answer) != set(names):
        raise ProviderError("malformed_answer", f"not the fields {', '.join(names)}: {_quote(answer)}")
    return [answer[name] for name in names]


def _label(label: Any, labels: Sequence[str]) -> str:
    """The label of the list that is meant: the same text, or the only one that differs in capitals alone."""
    if label in labels:
        return str(label)
    if isinstance(label, str):
        # structured output keeps to the list, but not always to its capitals
        alike = [known for known in labels if known.casefold() == label.casefold()]
        if len(alike) == 1:
            return alike[0]
        raise ProviderError("label_outside", f"no label of the list: {_quote(label)}")
    raise ProviderError("malformed_answer", f"a label that is no text: {_quote(label)}")


def _probability(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ProviderError("bad_probability", f"no number from 0 to 1: {_quote(value)}")
    return float(value)


def _malformed(text: str) -> NoReturn:
    raise ProviderError("malformed_answer", f"not the JSON that was asked for: {_quote(text)}")


def _quote(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_QUOTE else f"{shown[:_LONGEST_QUOTE]}…"
