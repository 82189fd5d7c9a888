"""`rekognition-moderation`: Amazon Rekognition's DetectModerationLabels, with or without an adapter of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from workbench.approaches.base import Setting, read_options
from workbench.approaches.rekognition import Detection, DetectionOptions, objects
from workbench.approaches.vocabulary import Label, jsonable, percent
from workbench.errors import ConfigError, PrerequisiteError

_ARN = (
    r"^(arn:[a-z\d-]+:rekognition:[a-z\d-]+:\d{12}:project/[a-zA-Z0-9_.-]{1,255}/version/[a-zA-Z0-9_.-]{1,255}/\d+)?$"
)
_REGION = 3
"""Which part of an ARN it is."""


class ModerationOptions(DetectionOptions):
    """What moderation may be told in `[approaches.rekognition-moderation]`."""

    project_version: str = Field("", pattern=_ARN)
    """ARN of an adapter; "" for the service's own model."""


class RekognitionModeration(Detection):
    """The score of a category is the confidence of its surest moderation label.

    The labels form three levels. A plain term is one label of whatever level, which the service answers with whenever
    it answers with one below; `parent:X` is every label below X without X itself.
    """

    name = "rekognition-moderation"
    operation = "detect_moderation_labels"
    price = "rekognition/detect-moderation-labels"
    relations = ("parent",)
    options = ModerationOptions

    def __init__(self, setting: Setting, options: ModerationOptions, parameters: Mapping[str, Any]) -> None:
        super().__init__(setting, options, parameters)
        self._adapter = options.project_version
        home = self._adapter.split(":")[_REGION] if self._adapter else ""
        if home and self.connection.region and home != self.connection.region:
            raise ConfigError(
                f"workbench.toml: approaches.{self.name}.project_version: an adapter of {home} cannot be asked in"
                f" {self.connection.region}; set `region`"
            )

    @classmethod
    def build(cls, setting: Setting) -> RekognitionModeration:
        """Raises ConfigError for options or a label map that cannot be used. Needs no credentials."""
        options = read_options(ModerationOptions, cls.name, setting)
        parameters: dict[str, Any] = {"MinConfidence": options.min_confidence}
        if options.project_version:
            parameters["ProjectVersion"] = options.project_version
        return cls(setting, options, parameters)

    def kept(self, answer: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """Names, confidences and levels; kinds of content (animated, illustrated) too.

        Raises PrerequisiteError where the adapter did not answer: the service then silently asks its own model.
        """
        version = self.version_of(answer, "ModerationModelVersion")
        if answer.get("ProjectVersion") and not self._adapter:
            raise self.malformed("an adapter that was not asked for answered")
        if answer.get("ProjectVersion", "") != self._adapter:
            raise PrerequisiteError(
                f"approaches.{self.name}: the adapter {self._adapter!r} has expired: model {version} answered without"
                " it; train a new version of it, or leave out `project_version`"
            )
        labels = [
            {
                "name": label.get("Name"),
                "confidence": jsonable(label.get("Confidence")),
                "parent": label.get("ParentName", ""),
                "level": jsonable(label.get("TaxonomyLevel")),
            }
            for label in objects(answer.get("ModerationLabels"))
        ]
        raw = {
            "labels": labels if "ModerationLabels" in answer else None,
            "content_types": [
                {"name": kind.get("Name"), "confidence": jsonable(kind.get("Confidence"))}
                for kind in objects(answer.get("ContentTypes"))
            ],
            "model_version": version,
            "adapter": self._adapter,
        }
        return raw, f"{version} {self._adapter}" if self._adapter else version

    def labels(self, raw: Mapping[str, Any]) -> list[Label]:
        """The labels of a kept answer, each with all that stands above it."""
        parents = {label["name"]: label["parent"] for label in raw["labels"]}
        return [
            Label(
                label["name"],
                percent(label["confidence"], f"label {label['name']!r}"),
                {"parent": _above(label["name"], parents)},
            )
            for label in raw["labels"]
        ]


def _above(name: str, parents: Mapping[str, str]) -> tuple[str, ...]:
    found: list[str] = []
    while (name := parents.get(name, "")) and name not in found:
        found.append(name)
    return tuple(found)
