"""Images whose labels are known, shown with every question; from the train split and no other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.approaches.claude_models import PATCH
from workbench.errors import PrerequisiteError
from workbench.prepare.decode import Preparation, Prepared, Unprepared, prepare_bytes, read_image_file

if TYPE_CHECKING:
    from workbench.dataset.images import Dataset

_SIDE = 784
PREPARATION = Preparation(_SIDE, _SIDE, "within", patch=PATCH, patches=(_SIDE // PATCH) ** 2)
"""An example costs at most 784 tokens."""


@dataclass(frozen=True)
class Example:
    """An image with its labels."""

    prepared: Prepared
    labels: tuple[str, ...]
    """The word for unknown where it shows no category."""


def choose_examples(dataset: Dataset | None, per_label: int, seed: int) -> tuple[Example, ...]:
    """Of each category, and of unknown, so many readable images of *train* (all, where there are fewer).

    Drawn by a hash of seed and image id, and shown in that order. In multi-label sets an image that shows two
    categories counts for both. Raises PrerequisiteError without a data set, or if a category has no image.
    """
    if not per_label:
        return ()
    if dataset is None:
        raise PrerequisiteError("claude: examples are shown from a data set's train split; name the data set")
    unknown = dataset.taxonomy.unknown
    frame = dataset.on("train").frame
    rows = [
        (_drawn(seed, image_id), path, tuple(labels) or (unknown,))
        for image_id, path, labels in zip(frame["image_id"], frame["path"], frame["labels"], strict=True)
        if labels is not None
    ]
    found: dict[str, Example | None] = {}
    for label in (*dataset.taxonomy.categories, unknown):
        wanted = per_label
        for _, path, labels in sorted(row for row in rows if label in row[2]):
            if wanted == 0:
                break
            if path not in found:
                found[path] = _example(dataset, path, labels)
            wanted -= found[path] is not None
        if wanted == per_label and label != unknown:
            raise PrerequisiteError(f"claude: examples: no readable image of {label!r} on train; label some, or set 0")
    chosen = [(place, found.get(path)) for place, path, _ in sorted(rows)]
    return tuple(example for _, example in chosen if example is not None)


def _example(dataset: Dataset, path: str, labels: tuple[str, ...]) -> Example | None:
    data = read_image_file(dataset.file(path))
    prepared = data if isinstance(data, Unprepared) else prepare_bytes(data, PREPARATION)
    return None if isinstance(prepared, Unprepared) else Example(prepared, labels)


def _drawn(seed: int, image_id: str) -> str:
    return hashlib.sha256(json.dumps([seed, image_id]).encode()).hexdigest()
