"""A small data set of drawn pictures: discs, stripes and checks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from workbench.dataset.images import Dataset
from workbench.records import Mode, Taxonomy

KINDS = ("disc", "stripes", "checks")
Row = tuple[str, tuple[str, ...] | None]
"""Split and labels of an image to draw."""


def draw(kinds: tuple[str, ...], seed: int) -> Image.Image:
    """One cell per kind, in colours and sizes that the seed chooses; no kind is a plain ground."""
    rng = np.random.default_rng(seed)
    pixels = np.empty((60, 60 * max(1, len(kinds)), 3), np.uint8)
    pixels[:] = rng.integers(200, 256, 3)
    y, x = np.mgrid[:60, :60]
    for place, kind in enumerate(kinds):
        size = int(rng.integers(6, 12))
        shapes = {
            "disc": (x - 30) ** 2 + (y - 30) ** 2 < (30 - size) ** 2,
            "stripes": x // size % 2 == 0,
            "checks": (x // size + y // size) % 2 == 0,
        }
        pixels[:, 60 * place : 60 * place + 60][shapes[kind]] = rng.integers(0, 130, 3)
    return Image.fromarray(pixels)


def rows_of(mode: Mode) -> list[Row]:
    """On train and on tune: each kind and none; in multi-label mode also two and three at once."""
    shown: list[tuple[str, ...]] = [(), *((kind,) for kind in KINDS)]
    if mode == "multi-label":
        shown += [KINDS[:2], KINDS[1:], KINDS]
    return [(split, kinds) for split, count in (("train", 8), ("tune", 4)) for kinds in shown for _ in range(count)]


def draw_dataset(root: Path, rows: list[Row], taxonomy: Taxonomy) -> Dataset:
    """One picture per row, below `root`."""
    root.mkdir()
    names = [f"{number:03}.png" for number in range(len(rows))]
    for number, (name, (_, labels)) in enumerate(zip(names, rows, strict=True)):
        draw(labels or (), number).save(root / name)
    columns = {
        "image_id": names,
        "path": names,
        "labels": pd.Series([labels for _, labels in rows], dtype=object),
        "split": [split for split, _ in rows],
        "group": names,
        "weight": 1.0,
        "source": "",
    }
    return Dataset("drawn", root, taxonomy, pd.DataFrame(columns), pd.DataFrame())
