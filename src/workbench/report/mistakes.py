"""The most confident mistakes, with thumbnails: where an approach is sure and wrong."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from workbench.dataset.images import Dataset
from workbench.evaluation.metrics import told
from workbench.evaluation.summary import Evaluation
from workbench.prepare.decode import Preparation, Unprepared, describe_bytes, prepare_bytes, read_image_file
from workbench.report.plots import data_uri

SIDE = 112
"""Of a thumbnail, in pixels of the page."""
_SHARP_BELOW = SIDE // 2


@dataclass(frozen=True)
class Mistake:
    """One image about which a category is told that it does not show."""

    image_id: str
    shown: tuple[str, ...]
    """What the label says; empty for unknown."""
    told: str
    score: float
    thumbnail: str
    """A data URI; empty where pictures are left out or the file cannot be decoded."""
    small: bool
    """The picture has so few pixels that they are best shown as squares."""


def find_mistakes(evaluation: Evaluation, dataset: Dataset | None, most: int = 4) -> dict[str, list[Mistake]]:
    """For each category at most `most` images told as it, falsely, the highest scores first; pictures from `dataset`.

    Without a data set there are no pictures.
    """
    labelled = evaluation.labelled
    scores = labelled.usable_scores()
    wrong = told(labelled) & ~labelled.truth
    names = labelled.frame["image_id"]
    paths = {} if dataset is None else dict(zip(dataset.frame["image_id"], dataset.frame["path"], strict=True))
    found = {}
    for column, category in enumerate(labelled.taxonomy.categories):
        rows = np.flatnonzero(wrong[:, column])
        ranked = sorted(rows, key=lambda row: (-scores[row, column], names[row]))[:most]
        shown = [
            dataset.file(paths[names[row]]) if dataset is not None and names[row] in paths else None for row in ranked
        ]
        found[category] = [
            _mistake(evaluation, int(row), column, path) for row, path in zip(ranked, shown, strict=True)
        ]
    return {category: mistakes for category, mistakes in found.items() if mistakes}


def encode_thumbnail(path: Path) -> tuple[str, bool]:
    """(data URI, whether it is to be shown as squares); ("", False) where the file cannot be decoded.

    A picture smaller than half a thumbnail keeps its own pixels and is enlarged by the page.
    """
    data = read_image_file(path)
    size = data if isinstance(data, Unprepared) else describe_bytes(data)
    if isinstance(data, Unprepared) or isinstance(size, Unprepared):
        return "", False
    small = max(size.width, size.height) <= _SHARP_BELOW
    side = max(size.width, size.height) if small else 2 * SIDE
    prepared = prepare_bytes(data, Preparation(side, side, "pad"))
    if isinstance(prepared, Unprepared):
        return "", False
    buffer = io.BytesIO()
    kind, options = ("png", {"optimize": True}) if small else ("jpeg", {"quality": 78})
    Image.fromarray(prepared.pixels).save(buffer, kind, **options)
    return data_uri(buffer.getvalue(), f"image/{kind}"), small


def _mistake(evaluation: Evaluation, row: int, column: int, path: Path | None) -> Mistake:
    labelled = evaluation.labelled
    image_id = labelled.frame["image_id"][row]
    thumbnail, small = encode_thumbnail(path) if path is not None else ("", False)
    told_as, score = labelled.taxonomy.categories[column], float(labelled.scores[row, column])
    return Mistake(image_id, labelled.frame["labels"][row], told_as, score, thumbnail, small)
