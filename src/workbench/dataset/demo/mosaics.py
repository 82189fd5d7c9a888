"""Mosaics: canvases with one to three garments, as a small multi-label set in the manner of content moderation.

Five of the ten classes are categories; a canvas may show several of them, or only garments that are none. Every
Fashion-MNIST picture is used once at most, none that the set "fashion" uses, and none of another split.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from workbench.dataset.demo.fashion import CLASSES, IMAGENET_LABELS, OFFICIAL, RESERVED, Originals, load_originals
from workbench.dataset.demo.writing import toml_list, toml_table, toml_text, write_manifest

CATEGORIES = ("trouser", "dress", "sneaker", "bag", "ankle boot")
FLAGGED = "bag"
"""The category that is to be flagged early and acted on alone."""

COUNTS: Mapping[str, int] = {"train": 450, "tune": 350, "certify": 700}
"""Canvases per split."""

CANVAS = 96
"""Width and height, in pixels."""
CELL = 48
"""The canvas is four cells of this size; each holds one garment or none."""
SMALLEST, LARGEST = 36, 48
"""Width and height of a garment on the canvas."""

_SEED = "mosaics-1"


@dataclass(frozen=True)
class _Garment:
    """One picture on a canvas."""

    label: int
    position: int
    """In the official file."""
    size: int
    left: int
    top: int


def write_mosaics(folder: Path, cache: Path, progress: bool) -> None:
    """Write images, manifest and workbench.toml into an empty folder; the official files are kept in `cache`."""
    originals = load_originals(cache)
    rows = []
    chosen = list(_chosen(originals))
    for split, number, garments in tqdm(chosen, desc="mosaics", unit=" images", disable=not progress):
        path = Path("images") / split / f"{number:04d}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        _canvas(originals.pictures[OFFICIAL[split]], garments).save(folder / path)
        label = "|".join(CLASSES[garment.label] for garment in garments)
        rows.append((path.as_posix(), label, split, f"{split}-{number:04d}", str(len(garments))))
    write_manifest(folder, ("image", "label", "split", "group", "garments"), rows)
    (folder / "workbench.toml").write_text(_project(), encoding="utf-8")


def recipe() -> dict[str, Any]:
    """Everything that shapes the data set."""
    sizes = [CANVAS, CELL, SMALLEST, LARGEST, RESERVED]
    return {"seed": _SEED, "classes": CLASSES, "counts": dict(COUNTS), "sizes": sizes, "project": _project()}


def _chosen(originals: Originals) -> Iterator[tuple[str, int, list[_Garment]]]:
    """(split, number, garments); of each class the pictures are taken in the seeded order, each once."""
    draw = random.Random(_SEED)  # noqa: S311, a data set, not a secret
    stocks = {
        (part, label): iter(originals.ordered(part, label)[RESERVED:])
        for part in originals.labels
        for label in range(len(CLASSES))
    }
    for split, count in COUNTS.items():
        for number in range(count):
            labels = _first(range(len(CLASSES)), 1 + int(3 * draw.random()), draw)
            cells = _first(range((CANVAS // CELL) ** 2), len(labels), draw)
            yield (
                split,
                number,
                [
                    _garment(label, next(stocks[OFFICIAL[split], label]), cell, draw)
                    for label, cell in zip(labels, cells, strict=True)
                ],
            )


def _first(items: range, count: int, draw: random.Random) -> list[int]:
    """`count` of the items in random order. Only `random()` is promised to stay the same in every Python."""
    return sorted(items, key=lambda _: draw.random())[:count]


def _garment(label: int, position: int, cell: int, draw: random.Random) -> _Garment:
    size = SMALLEST + int((LARGEST - SMALLEST + 1) * draw.random())
    down, across = divmod(cell, CANVAS // CELL)
    left, top = (int((CELL - size + 1) * draw.random()) for _ in range(2))
    return _Garment(label, position, size, across * CELL + left, down * CELL + top)


def _canvas(pictures: np.ndarray, garments: list[_Garment]) -> Image.Image:
    canvas = Image.new("L", (CANVAS, CANVAS), 255)
    for garment in garments:
        picture = Image.fromarray(pictures[garment.position])
        large = picture.resize((garment.size, garment.size), Image.Resampling.BICUBIC)
        canvas.paste(large, (garment.left, garment.top))
    return canvas


def _project() -> str:
    others = [name for name in CLASSES if name not in CATEGORIES]
    return _PROJECT.format(
        categories=toml_list(CATEGORIES),
        others=", ".join(others),
        labels=toml_table({name: IMAGENET_LABELS[name] for name in CATEGORIES}),
        flagged=toml_text(FLAGGED),
        name=FLAGGED,
    )


_PROJECT = """\
# A project file for a multi-label set in the manner of content moderation: an image may show several of the categories.
# Suppose that a picture with a {name} in it may not be shown.

[dataset]
path = "manifest.csv"             # in the column `label`, "|" stands between the labels of an image
name = "mosaics"
sensitive = false                 # true keeps pictures out of reports

[taxonomy]
mode = "multi-label"
categories = {categories}
unknown = "unknown"               # what an image with none of them is called
outside = "unknown"               # other labels ({others}) do not count

# local-cnn asks an ImageNet network; this says which of its labels mean which category.
[approaches.local-cnn.labels]
{labels}

[goals]
confidence = 0.95                 # that every certified promise holds at once
below = "pass"                    # what happens where no tier fires
actions = [                       # rank 0 does nothing; the highest rank that fires wins
    {{ name = "pass", rank = 0, kind = "automatic" }},
    {{ name = "review", rank = 1, kind = "human" }},
    {{ name = "block", rank = 2, kind = "automatic" }},
]

# Every category that is not named below: worth a look if at least 80 % of what is looked at shows it.
[[goals.tiers]]
action = "review"
metric = "precision"
at_least = 0.80

# Flag early: at least 90 % of the images that show it reach a person, or are blocked.
[[goals.category.{flagged}]]
action = "review"
metric = "recall"
at_least = 0.90

# Act alone: of the images that are blocked, at least 90 % show it.
[[goals.category.{flagged}]]
action = "block"
metric = "precision"
at_least = 0.90
"""
