"""Contact sheets: look at the pictures of a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from workbench.dataset.images import Dataset
from workbench.evaluation import figures
from workbench.prepare.decode import Preparation, Prepared, Unprepared, prepare_bytes, read_image_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THUMBNAIL = Preparation(96, 96, "pad")
_BLURRED = 5
"""Pixels per side that are left of a blurred picture, whatever size it is shown at."""


def plot_images(dataset: Dataset, each: int = 8) -> Figure:
    """A row of pictures per category, and one of unknown images: the first `each` of the data set.

    The pictures of a sensitive data set are blurred.
    """
    rows = _rows(dataset)
    axes = figures.new_grid(len(rows) * each, each, row_height=1.15)
    for ax in axes:
        ax.set_axis_off()
    for line, (name, paths) in enumerate(rows.items()):
        for place, path in enumerate(paths[:each]):
            _draw(axes[line * each + place], _thumbnail(dataset, path))
        axes[line * each].set_title(f"{figures.printable(name)} · {len(paths)}", loc="left", fontsize=9)
    return figures.figure_of(axes[0])


def _rows(dataset: Dataset) -> dict[str, list[str]]:
    paths = dataset.frame["path"].to_numpy()
    shown = dataset.truth
    rows = {name: list(paths[shown[:, place]]) for place, name in enumerate(dataset.taxonomy.categories)}
    rows[dataset.taxonomy.unknown] = list(paths[~shown.any(axis=1)])
    return {name: found for name, found in rows.items() if found}


def _thumbnail(dataset: Dataset, path: str) -> np.ndarray | None:
    data = read_image_file(dataset.file(path))
    prepared = data if isinstance(data, Unprepared) else prepare_bytes(data, THUMBNAIL)
    if not isinstance(prepared, Prepared):
        return None
    return blur(prepared.pixels) if dataset.sensitive else prepared.pixels


def blur(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 of which the mean colours of 5 × 5 fields are left."""
    image = Image.fromarray(pixels)
    few = image.resize((_BLURRED, _BLURRED), Image.Resampling.BOX)
    return np.asarray(few.resize(image.size, Image.Resampling.BICUBIC))


def _draw(ax: Axes, pixels: np.ndarray | None) -> None:
    if pixels is None:
        ax.text(0.5, 0.5, "unreadable", ha="center", va="center", fontsize=7, transform=ax.transAxes)
    else:
        ax.imshow(pixels)
