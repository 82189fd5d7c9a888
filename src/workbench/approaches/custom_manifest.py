"""What Amazon Rekognition Custom Labels learns from: images of the *train* split and the manifest that labels them.

Every label of an image is an attribute of its line, so one form serves both modes. The service knows no "none of these"
and takes no image without a label: unknown images are left out, unless they are to be learnt as a label of their own.
Nothing here asks anybody.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from workbench.canonical import canonical_json, digest
from workbench.dataset.images import Dataset
from workbench.errors import DatasetError
from workbench.prepare.decode import Preparation, Unprepared, prepare_bytes, read_image_file
from workbench.prepare.encode import ENCODING, Encoded, encode_pixels

PREPARATION = Preparation(4096, 4096, "within", least=64, slimmest=20)
"""What the service takes, learning or asked: 64 to 4,096 pixels a side, at most 20 : 1."""
MOST_BYTES = 4_000_000
"""The limit of what is asked; images to learn from may have 15 MB in S3, but are sent in the form that is asked."""

_LABELS = (2, 250)
_LABELS_PER_IMAGE = 50
_MOST_IMAGES = 250_000
_LONGEST_LABEL = 255
_LEAST_IMAGES = 2
"""Of a label: one to learn from and one that the service sets aside to test with."""
_ADVISED_IMAGES = 10
_METHOD = "manifest-1"
"""Counted up whenever the same images could be labelled or tested with in another way."""


@dataclass(frozen=True)
class TrainingImage:
    """A row of the train split that has something to teach."""

    image_id: str
    file: Path
    labels: tuple[str, ...]
    """In the order of the taxonomy."""


@dataclass(frozen=True)
class Lesson:
    """What there is to learn from, before any image was decoded."""

    images: tuple[TrainingImage, ...]
    labels: tuple[str, ...]
    """What an answer will name."""
    left_out: Mapping[str, int]
    """Rows of the train split by reason: `unlabelled`, `unknown`."""
    digest: str
    """Of content and labels, preparation and method: the same digest, the same model."""


def lesson_of(dataset: Dataset, learn_unknown: bool) -> Lesson:
    """The *train* split as a lesson; `learn_unknown`: images of no category teach the label of the unknown."""
    train = dataset.on("train")
    taxonomy = dataset.taxonomy
    labels = (*taxonomy.categories, *((taxonomy.unknown,) if learn_unknown else ()))
    place = {label: number for number, label in enumerate(labels)}
    images, lines, left_out = [], [], Counter[str]()
    columns = (train.frame[name] for name in ("image_id", "path", "labels"))
    for content, image_id, path, shown in zip(train.contents, *columns, strict=True):
        if shown is None:
            left_out["unlabelled"] += 1
        elif not shown and not learn_unknown:
            left_out["unknown"] += 1
        else:
            taught = tuple(sorted(shown, key=place.__getitem__)) or (taxonomy.unknown,)
            images.append(TrainingImage(image_id, dataset.file(path), taught))
            lines.append(canonical_json([content, taught]).decode())
    named = {
        "method": _METHOD,
        "labels": labels,
        "preparation": PREPARATION.id,
        "encoding": ENCODING,
        "images": sorted(lines),
    }
    return Lesson(tuple(images), labels, left_out, digest(named))


def check_counts(shown: Iterable[tuple[str, ...]], labels: tuple[str, ...], name: str) -> dict[str, int]:
    """Images by label. Raises DatasetError below 2."""
    counts = Counter(label for taught in shown for label in taught)
    few = {label: counts[label] for label in labels if counts[label] < _LEAST_IMAGES}
    if few:
        listed = ", ".join(f"{label} {count}" for label, count in few.items())
        raise DatasetError(
            f"{name}: at least {_LEAST_IMAGES} images of each label are needed on the train split, found: {listed}"
        )
    return {label: counts[label] for label in labels}


def check_lesson(lesson: Lesson, name: str) -> None:
    """Warns below 10 images of a label. Raises DatasetError below 2, and where the service's limits are exceeded."""
    images, labels = lesson.images, lesson.labels
    least, most = _LABELS
    if not least <= len(labels) <= most:
        raise DatasetError(f"{name}: Custom Labels learns {least} to {most} labels, here {len(labels)}")
    for label in labels:
        if len(label) > _LONGEST_LABEL:
            raise DatasetError(f"{name}: the category {label[:40]!r}… has more than {_LONGEST_LABEL} characters")
    if len(images) > _MOST_IMAGES:
        raise DatasetError(f"{name}: {len(images):,} images to learn from; Custom Labels takes {_MOST_IMAGES:,}")
    for image in images:
        if len(image.labels) > _LABELS_PER_IMAGE:
            raise DatasetError(f"{name}: {image.image_id} has more than {_LABELS_PER_IMAGE} labels")
    counts = check_counts((image.labels for image in images), labels, name)
    few = [f"{label} {count}" for label, count in counts.items() if count < _ADVISED_IMAGES]
    if few:
        warnings.warn(
            f"{name}: below {_ADVISED_IMAGES} training images, expect poor scores: {', '.join(few)}", stacklevel=3
        )


# ---------------------------------------------------------------- images and lines


def encode_image(file: Path) -> Encoded | Unprepared:
    """The file as the service gets it: upright, sRGB, without metadata, within its limits; or why that cannot be."""
    data = read_image_file(file)
    prepared = data if isinstance(data, Unprepared) else prepare_bytes(data, PREPARATION)
    return prepared if isinstance(prepared, Unprepared) else encode_pixels(prepared.pixels, MOST_BYTES)


def key_of(encoded: Encoded) -> str:
    """The name of an image by its content: the same picture has it wherever it lies."""
    ending = "png" if encoded.media_type == "image/png" else "jpg"
    return f"{hashlib.sha256(encoded.data).hexdigest()}.{ending}"


def merge_twins(found: Iterable[tuple[str, tuple[str, ...]]], single: bool) -> tuple[dict[str, tuple[str, ...]], int]:
    """Labels by key, one line per picture, and how many images are left out because twins of theirs disagree.

    single  an image has one label; else twins teach what they show together
    """
    together: dict[str, list[tuple[str, ...]]] = {}
    for key, labels in found:
        together.setdefault(key, []).append(labels)
    merged, conflicting = {}, 0
    for key, twins in sorted(together.items()):
        labels = tuple(dict.fromkeys(label for shown in twins for label in shown))
        if single and len(labels) > 1:
            conflicting += len(twins)
        else:
            merged[key] = labels
    return merged, conflicting


def manifest_of(labels_by_key: Mapping[str, tuple[str, ...]], base: str, job: str) -> bytes:
    """JSON lines in the form of SageMaker Ground Truth; `base` + key is the image's address in S3."""
    made = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"
    lines = [_line(base + key, labels, job, made) for key, labels in labels_by_key.items()]
    return "".join(line + "\n" for line in lines).encode()


def _line(source: str, labels: tuple[str, ...], job: str, made: str) -> str:
    line: dict[str, object] = {"source-ref": source}
    for number, label in enumerate(labels):
        line[f"label-{number}"] = 1
        line[f"label-{number}-metadata"] = {
            "class-name": label,
            "confidence": 1,
            "type": "groundtruth/image-classification",
            "job-name": job,
            "human-annotated": "yes",
            "creation-date": made,
        }
    return json.dumps(line, ensure_ascii=False)
