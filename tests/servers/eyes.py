"""What stand-ins see: which kinds of `drawn.py` an image shows. Not a model: it measures shapes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from PIL import Image

_LONGEST = 360
"""Pixels; a larger image is measured at this size."""
_DARK = 165
"""Grounds are lighter than 200, shapes darker than 130."""


def kinds_in(image: Image.Image) -> dict[str, float]:
    """Confidence in [0, 1] that there is a disc, are stripes, are checks; 0 where nothing speaks for it.

    Deterministic. Takes any size and mode, the noise of JPEG, shrinking (to 25 pixels per cell) and light grounds
    around the picture. What is there gets 0.6 to 1, by how well its shape and contrast are seen.
    """
    grey = image.convert("L")
    grey.thumbnail((_LONGEST, _LONGEST))
    values = np.asarray(grey).astype(np.float64)
    dark = values < _DARK
    if dark.sum() < 16:
        return {"disc": 0.0, "stripes": 0.0, "checks": 0.0}
    rows = np.flatnonzero(dark.any(axis=1))
    height = int(rows[-1] - rows[0] + 1)
    runs = _runs(dark)
    contrast = float(np.clip((values[~dark].mean() if (~dark).any() else 255) - values[dark].mean(), 0, 255)) / 255
    stripes = sum(
        dark[:, left:right].mean() > 0.93 * height / len(dark) and 0.06 * height < right - left < 0.4 * height
        for left, right in _spans(runs == 1)
    )
    rounds = [
        _roundness(dark[:, left:right].sum(axis=0)) for left, right in _spans(runs >= 1) if right - left > 0.3 * height
    ]
    checked = float((runs >= 2).sum()) / height
    return {
        "disc": _confidence(max(rounds, default=0.0), contrast),
        "stripes": _confidence(min(1.0, int(stripes) / 2), contrast),
        "checks": _confidence(min(1.0, checked) if checked > 0.4 else 0.0, contrast),
    }


def _runs(dark: np.ndarray) -> np.ndarray:
    """By column, how many dark stretches of two pixels or more it has."""
    longer = (dark[1:] & dark[:-1]).astype(np.int8)
    return (np.diff(longer, axis=0, prepend=0) == 1).sum(axis=0)


def _spans(flags: np.ndarray) -> list[tuple[int, int]]:
    """Where stretches of True begin and end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in list(pairwise(edges))[::2]]


def _roundness(tall: np.ndarray) -> float:
    """How well the heights of neighbouring columns are those of a disc as wide as they are many."""
    radius = len(tall) / 2
    disc = 2 * np.sqrt(np.maximum(radius**2 - (np.arange(len(tall)) + 0.5 - radius) ** 2, 0))
    return max(0.0, 1 - 4 * float(np.abs(tall - disc).mean() / (2 * radius)))


def _confidence(evidence: float, contrast: float) -> float:
    return 0.0 if evidence < 0.3 else round(0.6 + 0.4 * evidence * min(1.0, 0.4 + contrast), 6)
