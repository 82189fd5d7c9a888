"""`rekognition-labels`: Amazon Rekognition's DetectLabels; a label map says which of its labels mean which category."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.approaches.base import Setting, read_options
from workbench.approaches.rekognition import Detection, DetectionOptions, objects
from workbench.approaches.vocabulary import Label, jsonable, percent

_MOST_LABELS = 1000
"""The service's limit: whatever it sees, the answer holds."""


class RekognitionLabels(Detection):
    """The score of a category is the confidence of its surest label.

    The service answers with the labels that it sees and leaves out the others, so a category without a label is
    CENSORED however low `min_confidence` is. The vocabulary is the service's, and changes with its model version.
    """

    name = "rekognition-labels"
    operation = "detect_labels"
    price = "rekognition/detect-labels"
    relations = ("parent", "alias", "category")

    @classmethod
    def build(cls, setting: Setting) -> RekognitionLabels:
        """Raises ConfigError for options or a label map that cannot be used. Needs no credentials."""
        options = read_options(DetectionOptions, cls.name, setting)
        parameters = {
            "MaxLabels": _MOST_LABELS,
            "MinConfidence": options.min_confidence,
            "Features": ["GENERAL_LABELS"],
        }
        return cls(setting, options, parameters)

    def kept(self, answer: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """Names, confidences and relations: enough for any label map."""
        version = self.version_of(answer, "LabelModelVersion")
        labels = [
            {
                "name": label.get("Name"),
                "confidence": jsonable(label.get("Confidence")),
                "parents": [item.get("Name") for item in objects(label.get("Parents"))],
                "aliases": [item.get("Name") for item in objects(label.get("Aliases"))],
                "categories": [item.get("Name") for item in objects(label.get("Categories"))],
            }
            for label in objects(answer.get("Labels"))
        ]
        return {"labels": labels if "Labels" in answer else None, "model_version": version}, version

    def labels(self, raw: Mapping[str, Any]) -> list[Label]:
        """The labels of a kept answer."""
        return [
            Label(
                label["name"],
                percent(label["confidence"], f"label {label['name']!r}"),
                {
                    "parent": tuple(label["parents"]),
                    "alias": tuple(label["aliases"]),
                    "category": tuple(label["categories"]),
                },
            )
            for label in raw["labels"]
        ]
