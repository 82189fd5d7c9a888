"""What every classification approach promises, and the dictionary of their names.

An approach splits a question in three, so that an old answer can be read again for free:
`request` (pure) says what would be asked about prepared pixels, `ask` asks (the only place that costs time or money),
`parse` (pure) reads the answer as scores. One that learns also has `fit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from workbench.errors import ConfigError
from workbench.prepare.decode import Preparation, Prepared
from workbench.records import Taxonomy

if TYPE_CHECKING:
    from workbench.dataset.images import Dataset

APPROACHES: Mapping[str, str] = {
    "local-cnn": "workbench.approaches.local_cnn:LocalCnn",
    "local-trained": "workbench.approaches.local_trained:LocalTrained",
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


@dataclass(frozen=True)
class Answer:
    """What came back, before it is read as scores."""

    raw: Mapping[str, Any]
    """JSON values only; numbers are doubles, so a binary32 survives."""
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
    """Exact: two versions that could answer differently have different names."""
    fingerprint: str
    """SHA-256, in hex, of all that shapes a prediction: version, label map, parameters, preparation, taxonomy."""
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


def build_approach(name: str, dataset: Dataset, setting: Setting) -> Approach:
    """The approach, ready for this data set; one that learns is taken from what was trained on it, if anything was."""
    found = approach_class(name)
    if setting.model is None and hasattr(found, "fit"):
        trained = learner_class(name).artefact(dataset, setting)
        setting = replace(setting, model=trained if trained.exists() else None)
    return found.build(setting)
