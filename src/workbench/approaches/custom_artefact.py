"""What is kept of a training at Amazon Rekognition Custom Labels: one JSON file for its owner alone."""

from __future__ import annotations

import json
import os
import secrets
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from workbench.approaches.custom_calls import Calls
from workbench.canonical import canonical_json
from workbench.documents import Text, from_document, parse_json, to_document
from workbench.errors import ConfigError, DocumentError, PrerequisiteError
from workbench.records import Count, Digest, Name, Taxonomy


@dataclass(frozen=True)
class Rating:
    """What the service measured for a label on the images that it set aside, at a threshold that it chose there."""

    f1: float
    precision: float
    recall: float
    assumed_threshold: float
    """0 to 1. Asking with MinConfidence=0 switches it off."""
    images: Count


@dataclass(frozen=True)
class Trained:
    """The artefact: which version was trained, on what, and how the service rates it."""

    schema_version: Annotated[str, Text(r"^1\.(0|[1-9][0-9]*)$")]
    approach: Name
    taxonomy: Taxonomy
    labels: tuple[Name, ...]
    """What an answer names: the categories, and the word for unknown where that was learnt."""
    preparation: Name
    train: Digest
    """Of the training images: content and labels."""
    images: Count
    """How many different pictures it was trained (and tested) on."""
    by_label: Mapping[str, Count]
    left_out: Mapping[str, Count]
    """Rows of the train split it was not trained on: unlabelled, unknown, conflicting, or a preparation outcome."""
    version: Name
    """The ARN."""
    endpoint: str
    billable_seconds: Count
    usd: float | None
    """What training cost; None where `[prices]` does not say."""
    f1: float | None
    """Over all labels; None where the service did not tell."""
    ratings: Mapping[str, Rating]
    """By label; empty where the service's evaluation could not be read."""


def read_ratings(description: Mapping[str, Any], s3: Calls) -> Mapping[str, Rating]:
    """By label, from the evaluation that the service writes to S3; a warning and nothing where it cannot be read."""
    summary = description.get("EvaluationResult", {}).get("Summary", {}).get("S3Object")
    if not summary:
        return {}
    from botocore.exceptions import BotoCoreError

    try:
        text = s3("get_object", Bucket=summary["Bucket"], Key=summary["Name"])["Body"].read()
        return {item["Label"]: _rating(item) for item in json.loads(text)["LabelEvaluationResults"]}
    except (PrerequisiteError, BotoCoreError, OSError, ValueError, KeyError, TypeError) as error:
        where = f"s3://{summary.get('Bucket')}/{summary.get('Name')}"
        warnings.warn(f"the service's evaluation cannot be read ({where}): {error}", stacklevel=2)
        return {}


def _rating(item: Mapping[str, Any]) -> Rating:
    metrics = item["Metrics"]
    f1, precision, recall, threshold = (
        float(metrics[name]) for name in ("F1Score", "Precision", "Recall", "Threshold")
    )
    return Rating(f1, precision, recall, threshold, int(item["NumberOfTestingImages"]))


def write_trained(path: Path, trained: Trained) -> None:
    """Store the artefact for its owner alone, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(canonical_json(to_document(trained)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_trained(path: Path) -> Trained:
    """Raises ConfigError if the file is damaged or no such artefact."""
    try:
        return from_document(Trained, parse_json(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, DocumentError) as error:
        raise ConfigError(f"{path}: not a sound Custom Labels artefact: {error}; delete it and train again") from None
