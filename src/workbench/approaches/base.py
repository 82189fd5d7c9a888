"""What every classification approach promises, and the dictionary of their names.

An approach splits a question in three, so that an old answer can be read again for free:
`request` (pure) says what would be asked about prepared pixels, `ask` asks (the only place that costs time or money),
`parse` (pure) reads the answer as scores. One that learns also has `fit`; one that asks a paid service also says what
that costs (`Service`), and one whose service must be switched on has `start` and `stop` (`Standing`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from workbench.canonical import digest
from workbench.config.prices import Prices, packaged_prices
from workbench.errors import ConfigError, ProviderError
from workbench.prepare.decode import Preparation, Prepared
from workbench.records import Taxonomy

if TYPE_CHECKING:
    from workbench.dataset.images import Dataset

APPROACHES: Mapping[str, str] = {
    "local-cnn": "workbench.approaches.local_cnn:LocalCnn",
    "local-trained": "workbench.approaches.local_trained:LocalTrained",
    "local-moderation": "workbench.approaches.local_moderation:LocalModeration",
    "rekognition-labels": "workbench.approaches.rekognition_labels:RekognitionLabels",
    "rekognition-moderation": "workbench.approaches.rekognition_moderation:RekognitionModeration",
    "rekognition-custom": "workbench.approaches.rekognition_custom:RekognitionCustom",
    "claude": "workbench.approaches.claude:Claude",
    "google-vision": "workbench.approaches.google_vision:GoogleVision",
}
"""Name → `module:class`, imported when first asked for. To add one: write the file, add the line."""


@dataclass(frozen=True)
class Setting:
    """What an approach is built from, beside its own defaults."""

    taxonomy: Taxonomy
    label_map: Mapping[str, tuple[str, ...]]
    """Category → the approach's own labels that mean it; empty where the approach needs none."""
    store: Path
    """Folder of this user's features, answers and models."""
    model: Path | None = None
    """The trained artefact, for an approach that learns."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The approach's own fields of `[approaches.NAME]`; `read_options` checks them."""
    prices: Prices = field(default_factory=packaged_prices)
    dataset: Dataset | None = None
    """What will be asked about; an approach may show images of its *train* split as examples, and no others."""


class Options(BaseModel):
    """The base of what an approach may be told in `[approaches.NAME]`: a class of fields with their defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


_KEY = re.compile(r"\bsk-[A-Za-z0-9_-]{8,}|\b(AKIA|ASIA)[A-Z0-9]{12,}\b|-----BEGIN [A-Z ]*PRIVATE KEY")

AnyOptions = TypeVar("AnyOptions", bound=Options)


def check_address(address: str) -> None:
    """Raises ValueError, in words that do not repeat it, for what is no address of a service, or holds a credential."""
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        known = known and address.isprintable() and " " not in address
    except ValueError:
        known = False
    if not known:
        raise ValueError("an address like https://… is wanted")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an address without user, password and query is wanted")


def read_options(kind: type[AnyOptions], name: str, setting: Setting) -> AnyOptions:
    """The options of an approach, checked; ConfigError names every faulty field."""
    for place in _credentials(setting.options, f"approaches.{name}"):
        raise ConfigError(
            f"workbench.toml: {place}: this looks like a credential; credentials are never written here: they come"
            " from the environment and the services' own files"
        )
    try:
        return kind.model_validate(dict(setting.options))
    except ValidationError as error:
        faults = [
            (".".join(("approaches", name, *map(str, fault["loc"]))), _fault_words(fault)) for fault in error.errors()
        ]
        raise ConfigError("\n".join(f"workbench.toml: {place}: {words}" for place, words in faults)) from None


def _credentials(value: Any, place: str) -> Iterator[str]:
    """Where in these fields something stands that looks like a key of a service."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _credentials(item, f"{place}.{name}")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _credentials(item, place)
    elif isinstance(value, str) and _KEY.search(value):
        yield place


def _fault_words(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "there is no such field; what an approach understands stands in datasets/README.md"
    return str(fault["msg"]).removeprefix(
        "Value error, "
    )  # the value is left out: it may be a secret in the wrong place


@dataclass(frozen=True)
class Answer:
    """What came back, before it is read as scores."""

    raw: Mapping[str, Any]
    """JSON values only; numbers are doubles, so a binary32 survives. Never a credential, never image bytes."""
    model_version: str
    """As observed in the answer."""
    cost_usd: float = 0.0


@runtime_checkable
class Approach(Protocol):
    """One way to classify an image.

    `ask` may be called from `parallel` threads at once. It raises ProviderError for one image that cannot be
    answered; any other exception ends the run (what is already answered is kept).
    """

    name: str
    taxonomy: Taxonomy
    """What it was built for; a data set with another one is refused."""
    preparation: Preparation
    model_version: str
    """Exact: two versions that could answer differently have different names. "" where only the answers tell it."""
    fingerprint: str
    """SHA-256, in hex, of all that shapes a prediction: version, label map, parameters, preparation, taxonomy.

    Where only the answers tell the version, the fingerprint is of all the rest; `run_fingerprint` adds it."""
    complete: bool
    """The known scores are a whole distribution: they sum to one."""
    scores_unknown: bool
    """There is a score of its own for "none of these"."""
    floors: Mapping[str, float]
    """By score column: what is below is CENSORED; no entry, no floor."""
    parallel: int
    """How many `ask` calls pay off at once."""

    @classmethod
    def build(cls, setting: Setting) -> Approach:
        """The approach, ready to be asked. Raises PrerequisiteError if it must be trained first, else ConfigError."""
        ...

    def request(self, prepared: Prepared) -> Any:
        """What would be asked. Pure."""
        ...

    def ask(self, request: Any) -> Answer:
        """Ask. Time and money are spent here and nowhere else."""
        ...

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        """Scores by category: binary32 in [0, 1] or CENSORED; an absent key is MISSING.

        Pure. Raises ProviderError with the outcome code if the answer cannot be read.
        """
        ...


@dataclass(frozen=True)
class Estimate:
    """What one call may cost. None where the price table does not say."""

    low_usd: float | None
    """What it probably costs at least."""
    high_usd: float | None
    """What it cannot exceed: what a budget sets aside."""
    input_tokens: int = 0
    """Estimated; 0 where the service does not count tokens."""
    output_tokens: tuple[int, int] = (0, 0)
    """What is usual, and the most that is allowed."""


@runtime_checkable
class Service(Approach, Protocol):
    """An approach that asks a service over the network, once or several times (`parts`) per image.

    Its `ask` sends one request and never repeats it: it raises ServiceBusyError, and whoever runs it decides when to
    ask again. It raises CredentialsError where the service does not take the credentials, ProviderError for one
    image, and lets nothing that holds a credential into a message.
    """

    question: str
    """SHA-256, in hex, of all that shapes an answer: endpoint, model, prompt, parameters, preparation.

    Not how it is read (label map, taxonomy where the service never sees it): a change of that costs nothing."""
    parts: int
    """Calls per image; each is paid, limited and kept by itself."""
    rate: float
    """Calls per second that the service admits by default; 0 where nobody knows."""
    hourly_usd: float | None
    """What it costs per hour while it is switched on, used or not; 0 where nothing stands, None if it is not known."""
    price_note: str
    """Which price is missing in the table, or whatever else a reader of the plan should know; "" for nothing."""

    @classmethod
    def lacks(cls, setting: Setting) -> str:
        """What is missing to ask (credentials, an extra package), in words; "" if nothing. Asks nobody."""
        ...

    def estimate(self, width: int, height: int) -> Estimate:
        """What one call about pixels of this size may cost."""
        ...

    def request(self, prepared: Prepared, part: int = 0) -> Any:
        """What would be asked in this part. Pure."""
        ...


@runtime_checkable
class Standing(Service, Protocol):
    """A service that must be switched on before it answers, and costs money until it is switched off."""

    start_seconds: float
    """How long `start` may take, at most, once it costs."""

    def start(self, say: Callable[[str], None]) -> None:
        """Switch it on and wait until it answers; `say` takes remarks for whoever waits. On record before it costs.

        Called at most once, just before the first question that no kept answer settles.
        """
        ...

    def stop(self, say: Callable[[str], None]) -> None:
        """Switch it off and take it off the record; harmless where it is off."""
        ...


@dataclass(frozen=True)
class Batch:
    """A batch of questions at a service, as the service lists it."""

    id: str
    created: str
    """By the service's clock, UTC: 2026-11-23T17:00:00.000000Z."""
    questions: int
    ended: bool
    """Every question has an answer, or a reason why not."""
    seconds: float = 0.0
    """How long it took to end, by the service's clock; 0 before."""
    gone: bool = False
    """It has ended, and its answers are kept no longer."""


@runtime_checkable
class Batched(Service, Protocol):
    """A service that also takes many questions at once and answers within a day, for less money.

    Every method raises ServiceBusyError where it may be tried later, CredentialsError where the service does not take
    the credentials, PrerequisiteError where there are no batches.
    """

    most_questions: int
    """Per batch."""
    most_bytes: int
    """Per batch, of all its questions as they are sent."""
    kept_days: int
    """How long after a batch was made its answers can be collected."""

    def batch_estimate(self, width: int, height: int) -> Estimate:
        """As `estimate`, for a call within a batch."""
        ...

    def weight(self, request: Any) -> int:
        """The bytes that a question takes in a batch, its id (64 characters at most) and punctuation included."""
        ...

    def submit(self, requests: Mapping[str, Any]) -> Batch:
        """Hand in questions by their ids ([a-zA-Z0-9_-], at most 64 characters). Sent once, never repeated.

        Raises ServiceBusyError, with `billed` where the service may have taken the batch all the same; ProviderError
        where it refused the batch as a whole. Nothing of a refused batch is asked.
        """
        ...

    def batches(self) -> Iterator[Batch]:
        """Every batch that was handed in with these credentials, by anyone, the newest first."""
        ...

    def poll(self, batch: str) -> Batch | None:
        """How a batch stands now; None where the service does not know it, or not with these credentials."""
        ...

    def collect(self, batch: str) -> Iterator[tuple[str, Answer | ProviderError]]:
        """Question id and answer, in any order, of a batch that has ended. Costs nothing and may be repeated."""
        ...


@runtime_checkable
class Learner(Approach, Protocol):
    """An approach that is trained on a data set before it can be asked."""

    @classmethod
    def fit(cls, dataset: Dataset, setting: Setting, progress: bool = False) -> Path:
        """Train on the *train* split alone and store the artefact; `Setting.model` takes the path that comes back.

        Raises DatasetError if there is too little to learn from.
        """
        ...

    @classmethod
    def artefact(cls, dataset: Dataset, setting: Setting) -> Path:
        """Where `fit` stores what it learns from this data set; the file need not exist yet."""
        ...


def approach_class(name: str) -> type[Approach]:
    """The class behind a name of the dictionary; raises ConfigError that lists the names."""
    if name not in APPROACHES:
        raise ConfigError(f"no approach is called {name!r}; known: {', '.join(APPROACHES)}")
    module, _, attribute = APPROACHES[name].partition(":")
    found: type[Approach] = getattr(import_module(module), attribute)
    return found


def learner_class(name: str) -> type[Learner]:
    """The class behind a name that learns; raises ConfigError for one that does not."""
    found = approach_class(name)
    if not hasattr(found, "fit"):
        raise ConfigError(f"{name} does not learn; `workbench classify` can ask it as it is")
    return cast("type[Learner]", found)


def question_of(approach: Approach) -> str:
    """Names what shapes an answer, without the version where only the answers tell it."""
    return str(getattr(approach, "question", approach.fingerprint))


def run_fingerprint(approach: Approach, observed: str) -> str:
    """The fingerprint of predictions whose answers named this model version."""
    if approach.model_version:
        return approach.fingerprint
    return digest({"fingerprint": approach.fingerprint, "model_version": observed})


def build_approach(name: str, dataset: Dataset, setting: Setting) -> Approach:
    """The approach, ready for this data set; one that learns is taken from what was trained on it, if anything was."""
    found = approach_class(name)
    setting = replace(setting, dataset=dataset)
    if setting.model is None and hasattr(found, "fit"):
        trained = learner_class(name).artefact(dataset, setting)
        setting = replace(setting, model=trained if trained.exists() else None)
    return found.build(setting)
