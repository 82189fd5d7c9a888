"""What `[approaches.claude]` may say, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from workbench.approaches.base import Options, Setting, check_address
from workbench.approaches.claude_models import Model
from workbench.approaches.claude_prompt import Form, Protocol
from workbench.errors import ConfigError
from workbench.records import Taxonomy

PLACE = "workbench.toml: approaches.claude"

_DEFAULT_MODEL = "claude-haiku-5-5"
_GUESSES = 5


class ClaudeOptions(Options):
    """The fields of `[approaches.claude]`."""

    model: str = ""
    """As the platform calls it; left out: claude-haiku-5-5, on Bedrock global.anthropic.claude-haiku-5-5."""
    bedrock: bool = False
    """Ask through Amazon Bedrock, with AWS credentials; there are no batches there."""
    region: str = ""
    """Of Bedrock; left out: what the environment or the profile says."""
    profile: str = ""
    """AWS profile for Bedrock."""
    base_url: str = ""
    """Another address than the service's own, such as a gateway's; ANTHROPIC_BASE_URL does the same."""
    prompt: str = ""
    """Path of a prompt file of your own, seen from the current folder or from the data set's."""
    definitions: Mapping[str, str] = Field(default_factory=dict)
    """Category → what it means, in a sentence; the word for unknown may be defined, too."""
    protocol: Protocol = "top-k"
    """top-k: the likeliest labels with a probability each. single: one label and one confidence (not multi-label)."""
    guesses: int = Field(default=0, ge=0)
    """Labels that an answer of top-k names; 0: five, and in multi-label sets all. Never more than there are labels.
    At least two in single-label sets."""
    samples: int = Field(default=1, ge=1, le=20)
    """How often each image is asked about, each time paid, with the labels in another order; scores are averages."""
    shuffle: bool = False
    """Draw the order of labels in the first question, too; in further samples it always is."""
    seed: int = 0
    """Of the orders of labels and of the choice of examples."""
    examples: int = Field(default=0, ge=0)
    """Labelled images of the train split shown with each question, per category and for unknown."""
    thinking: Literal["", "adaptive", "disabled", "between_tools"] = ""
    """As the API has it; left out: none where the model can be asked without."""
    effort: Literal["", "low", "medium", "high", "xhigh", "max"] = ""
    """As the API has it; left out: the model's default."""
    max_tokens: int = Field(default=0, ge=0, le=128_000)
    """Of an answer; 0: what the longest one takes, and 4,096 for thoughts where the model may think."""
    cache_prompt: bool = False
    """Let the service keep instructions and examples for five minutes: writing costs more, reading a tenth."""
    timeout: float = Field(default=60.0, gt=0, le=3600)
    """Seconds to wait for an answer."""
    model_version: str = ""
    """What answers must give as their model; left out: what the first one gives."""

    @field_validator("base_url")
    @classmethod
    def _no_secret(cls, url: str) -> str:
        if url:
            check_address(url)
        return url

    @property
    def asked_model(self) -> str:
        """The model's name on its platform."""
        return self.model or ("global.anthropic." if self.bedrock else "") + _DEFAULT_MODEL


def find_prompt(options: ClaudeOptions, setting: Setting) -> Path | None:
    """The user's own prompt file; None for the packaged one."""
    if not options.prompt:
        return None
    beside = setting.dataset.root / options.prompt if setting.dataset else None
    here = Path(options.prompt)
    return beside if beside and beside.is_file() and not here.is_file() else here


def make_form(options: ClaudeOptions, taxonomy: Taxonomy) -> Form:
    """What is asked of the model. Raises ConfigError for definitions of no label, and one label for many."""
    labels = (*taxonomy.categories, taxonomy.unknown)
    for name, text in options.definitions.items():
        if name not in labels:
            raise ConfigError(f"{PLACE}.definitions: {name!r} is no category of the taxonomy, nor its word for unknown")
        if not text.strip():
            raise ConfigError(f"{PLACE}.definitions: {name!r}: write a sentence, or leave it out")
    if options.protocol == "single" and taxonomy.mode == "multi-label":
        raise ConfigError(f'{PLACE}.protocol: "single" names one label; a multi-label set needs "top-k"')
    if options.protocol == "top-k" and taxonomy.mode == "single-label" and options.guesses == 1:
        raise ConfigError(
            f'{PLACE}.guesses: of one guess alone the probability is always 1; take 2, or protocol "single"'
        )
    usual = len(labels) if taxonomy.mode == "multi-label" else _GUESSES
    guesses = 1 if options.protocol == "single" else min(options.guesses or usual, len(labels))
    meanings = {name: text.strip() for name, text in options.definitions.items()}
    return Form(taxonomy, options.protocol, guesses, meanings, options.seed, options.shuffle)


def choose_thinking(options: ClaudeOptions, model: Model) -> tuple[str, bool]:
    """The type of thinking to ask for ("" for none), and whether the model may think then.

    Raises ConfigError for a type that the model is known to refuse.
    """
    if options.thinking:
        if model.thinking and options.thinking not in model.thinking:
            raise ConfigError(f"{PLACE}.thinking: {options.asked_model} takes {' or '.join(model.thinking)}")
        return options.thinking, options.thinking == "adaptive"
    return model.quiet or "", model.quiet is None
