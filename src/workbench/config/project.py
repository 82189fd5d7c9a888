"""`workbench.toml`: one file beside a data set that says what it is and what is wanted of it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from workbench.config.goals import Goals, check_goals
from workbench.errors import ConfigError
from workbench.records import Mode, Taxonomy

FILE = "workbench.toml"

Model = TypeVar("Model", bound=BaseModel)

LabelMap = Mapping[str, tuple[str, ...]]
"""Category → the approach's own labels that mean it."""


@dataclass(frozen=True)
class Project:
    """What a `workbench.toml` says."""

    path: Path
    """The file itself."""
    dataset: Path
    """Folder or manifest of the images."""
    root: Path | None
    """Folder that no image path may leave; None for the default of the source."""
    name: str
    sensitive: bool
    """Pictures are blurred or left out where they would be shown."""
    sampling: str
    """How the images to label were chosen: `random` or `by score`."""
    collected: str
    """The day (ISO 8601) up to which the images were collected; "" if it is not said."""
    taxonomy: Taxonomy | None
    label_maps: Mapping[str, LabelMap]
    """By approach."""
    made: Mapping[str, str]
    """By approach: the day (ISO 8601) on which its model was made."""
    options: Mapping[str, Mapping[str, Any]]
    """By approach: its own fields, which the approach checks."""
    prices: Mapping[str, float]
    """The user's own prices in USD, by the names of `config/prices.json`."""
    goals: Goals | None


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _day(value: Any) -> Any:
    """TOML has days of its own; a text has to be one."""
    if not isinstance(value, str):
        return value.isoformat() if type(value) is date else value
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise ValueError("a day like 2026-01-31 is wanted") from None


_Day = Annotated[str, BeforeValidator(_day)]


class _Dataset(_Strict):
    path: str = "."
    root: str | None = None
    name: str | None = Field(default=None, pattern=r"^[^/\\\x00-\x1f]+$")
    """Files are named after it."""
    sensitive: bool = False
    sampling: Literal["random", "by score"] = "random"
    collected: _Day | None = None


class _Taxonomy(_Strict):
    categories: list[str] = Field(min_length=1)
    mode: Mode = "single-label"
    unknown: str = "unknown"
    outside: Literal["refuse", "unknown"] = "refuse"


class _Approach(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    labels: dict[str, list[str]] = Field(default_factory=dict)
    made: _Day | None = None


class _File(_Strict):
    dataset: _Dataset = _Dataset()
    taxonomy: _Taxonomy | None = None
    approaches: dict[str, _Approach] = Field(default_factory=dict)
    prices: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    goals: Goals | None = None


def read_project(path: Path) -> Project:
    """Read and check a project file; ConfigError names the file and every faulty field."""
    content = _validated(_File, _toml(path), path)
    folder = path.parent
    taxonomy = None if content.taxonomy is None else _taxonomy(content.taxonomy, path)
    if content.goals is not None and taxonomy is not None:
        check_goals(content.goals, taxonomy, f"{path}: goals")
    return Project(
        path=path,
        dataset=folder / content.dataset.path,
        root=None if content.dataset.root is None else folder / content.dataset.root,
        name=content.dataset.name or folder.resolve().name,
        sensitive=content.dataset.sensitive,
        sampling=content.dataset.sampling,
        collected=content.dataset.collected or "",
        taxonomy=taxonomy,
        label_maps={
            name: {category: tuple(labels) for category, labels in item.labels.items()}
            for name, item in content.approaches.items()
        },
        made={name: item.made for name, item in content.approaches.items() if item.made},
        options={name: item.model_extra or {} for name, item in content.approaches.items()},
        prices=content.prices,
        goals=content.goals,
    )


def read_goals(path: Path) -> Goals:
    """The goals of a project file, or of a file that holds nothing but goals."""
    content = _toml(path)
    if "goals" in content or "taxonomy" in content or "dataset" in content:
        goals = _validated(_File, content, path).goals
        if goals is None:
            raise ConfigError(f"{path}: there is no [goals] table; `workbench init` writes one to start from")
        return goals
    return _validated(Goals, content, path)


def find_project(dataset: Path) -> Path | None:
    """The project file of a data set: itself, within the folder, or beside the manifest. None if there is none."""
    places = [dataset] if dataset.name == FILE else [dataset / FILE, dataset.parent / FILE]
    return next((place for place in places if place.is_file()), None)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def _validated(model: type[Model], content: dict[str, Any], path: Path) -> Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_words(fault)}" for fault in error.errors())) from None


def _words(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"]) or "the file"
    # where a key of a service might have been written by mistake, nothing is repeated
    hidden = fault["type"] in ("missing", "extra_forbidden") or fault["loc"][:1] in (("approaches",), ("prices",))
    shown = "" if hidden else f", found {fault['input']!r}"[:80]
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}{shown}"


def _taxonomy(content: _Taxonomy, path: Path) -> Taxonomy:
    taxonomy = Taxonomy(tuple(content.categories), content.mode, content.unknown, content.outside)
    for fault in taxonomy_faults(taxonomy):
        raise ConfigError(f"{path}: taxonomy: {fault}")
    return taxonomy


def taxonomy_faults(taxonomy: Taxonomy) -> list[str]:
    """What is wrong with the names of a taxonomy; empty if nothing is."""
    names = taxonomy.categories
    faults = [f"category {name!r} stands twice" for name in sorted({name for name in names if names.count(name) > 1})]
    faults += [
        f"category {name!r} is empty or has blanks around it" for name in names if name != name.strip() or not name
    ]
    if taxonomy.unknown in names:
        faults.append(f"{taxonomy.unknown!r} is the word for unknown and cannot be a category")
    return faults
