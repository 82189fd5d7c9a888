"""What Claude is told, and in which form it must answer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Literal

from workbench.errors import ConfigError
from workbench.records import Taxonomy

Protocol = Literal["top-k", "single"]

_PACKAGED = "claude-1.md"
_MOST_BYTES = 1_000_000
_SECTIONS = (
    "system",
    "single-label",
    "multi-label",
    "caution",
    "top-k single-label",
    "top-k multi-label",
    "single",
    "unknown",
    "example",
    "question",
)
_SYSTEM_ORDER = ("system", "mode", "caution", "answer")


@dataclass(frozen=True)
class Prompt:
    """A prompt file."""

    version: str
    """What its first line calls it."""
    sections: Mapping[str, str]
    """Its texts by name; words such as `$labels` are still to be filled in."""


@dataclass(frozen=True)
class Form:
    """What is asked of the model, whatever the image."""

    taxonomy: Taxonomy
    protocol: Protocol
    guesses: int
    """How many labels an answer names."""
    definitions: Mapping[str, str]
    """By label: what it means, in a sentence; the others speak for themselves."""
    seed: int
    shuffle: bool
    """The order of labels is drawn in the first part, too; it is in all others."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What an answer may name: the categories and the word for none of them."""
        return (*self.taxonomy.categories, self.taxonomy.unknown)

    def order(self, part: int) -> tuple[str, ...]:
        """The labels as a part lists them; depends on seed and part alone."""
        if part == 0 and not self.shuffle:
            return self.labels
        return tuple(sorted(self.labels, key=lambda label: _drawn(self.seed, part, label)))


def read_prompt(path: Path | None) -> Prompt:
    """The packaged prompt file, or another one. Raises ConfigError that names what is wrong with it."""
    place = "approaches.claude.prompt"
    try:
        if path is not None and path.exists() and not path.is_file():
            raise ConfigError(f"workbench.toml: {place}: {path}: not an ordinary file")
        if path is not None and path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"workbench.toml: {place}: {path}: a prompt file has at most {_MOST_BYTES:,} bytes")
        text = (
            files("workbench.approaches").joinpath("prompts", _PACKAGED).read_text(encoding="utf-8")
            if path is None
            else path.read_text(encoding="utf-8-sig")
        )
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"workbench.toml: {place}: {path}: {reason}") from None
    title, *parts = re.split(r"^## +", text.strip(), flags=re.MULTILINE)
    version = title.partition("\n")[0].removeprefix("#").strip()
    pairs = [(name.strip(), body.strip()) for name, _, body in (part.partition("\n") for part in parts)]
    sections = dict(pairs)
    if not title.startswith("# ") or not version:
        raise ConfigError(f"workbench.toml: {place}: {path}: the first line must name the version, as in '# mine-1'")
    odd = [f"no section '## {name}'" for name in _SECTIONS if not sections.get(name)]
    odd += [f"'## {name}' is no section" for name in sections if name not in _SECTIONS]
    odd += [f"'## {name}' stands twice" for name in sections if [one for one, _ in pairs].count(name) > 1]
    if odd:
        raise ConfigError(f"workbench.toml: {place}: {path}: {'; '.join(odd)}")
    return Prompt(version, sections)


def system_text(prompt: Prompt, form: Form, part: int) -> str:
    """The instructions of a part: the labels in its order, what they mean, how to answer."""
    unknown = form.taxonomy.unknown
    meanings = {unknown: prompt.sections["unknown"], **form.definitions}
    lines = [_quoted(label) + (f": {meanings[label]}" if label in meanings else "") for label in form.order(part)]
    mode = form.taxonomy.mode
    chosen = {
        "system": "system",
        "mode": mode,
        "caution": "caution",
        "answer": f"top-k {mode}" if form.protocol == "top-k" else "single",
    }
    values = {
        "labels": "\n".join(f"- {line}" for line in lines),
        "unknown": _quoted(unknown),
        "guesses": str(form.guesses),
    }
    return "\n\n".join(_filled(prompt, chosen[place], values) for place in _SYSTEM_ORDER)


def example_text(prompt: Prompt, labels: Sequence[str]) -> str:
    """What stands below an image whose labels are known."""
    return _filled(prompt, "example", {"label": " and ".join(map(_quoted, labels))})


def question_text(prompt: Prompt) -> str:
    """What stands below the image that is asked about."""
    return _filled(prompt, "question", {})


def answer_schema(form: Form, part: int) -> dict[str, Any]:
    """JSON Schema of an answer: a closed list of labels, and as many guesses as are asked for, no more and no fewer.

    Keywords that the service does not know (limits of numbers and lists) are checked when the answer is read.
    """
    label = {"type": "string", "enum": list(form.order(part))}
    if form.protocol == "single":
        return _object({"label": label, "confidence": {"type": "number"}})
    guess = _object({"label": label, "probability": {"type": "number"}})
    names = guess_names(form.guesses)
    return {**_object({name: {"$ref": "#/$defs/guess"} for name in names}), "$defs": {"guess": guess}}


def guess_names(guesses: int) -> list[str]:
    """What the guesses of an answer are called, in order."""
    return [f"guess_{number}" for number in range(1, guesses + 1)]


def sample_answer(form: Form, labels: Sequence[str], probability: float, spaced: bool) -> str:
    """An answer that names these labels, written with or without spaces."""
    if form.protocol == "single":
        answer: dict[str, Any] = {"label": labels[0], "confidence": probability}
    else:
        named = zip(guess_names(form.guesses), labels, strict=True)
        answer = {name: {"label": label, "probability": probability} for name, label in named}
    return json.dumps(answer, ensure_ascii=False, separators=None if spaced else (",", ":"))


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _filled(prompt: Prompt, section: str, values: Mapping[str, str]) -> str:
    try:
        return Template(prompt.sections[section]).substitute(values)
    except (KeyError, ValueError) as error:
        known = ", ".join(f"${name}" for name in values) or "no words to fill in"
        raise ConfigError(
            f"workbench.toml: approaches.claude.prompt: {prompt.version}, '## {section}': cannot fill in {error};"
            f" it may hold {known}, and $$ for a dollar sign"
        ) from None


def _quoted(label: str) -> str:
    return json.dumps(label, ensure_ascii=False)


def _drawn(seed: int, part: int, label: str) -> str:
    return hashlib.sha256(json.dumps([seed, part, label]).encode()).hexdigest()
