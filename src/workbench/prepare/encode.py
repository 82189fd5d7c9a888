"""Prepared pixels as the file that a service is sent: no metadata, within its limit of bytes, the same each time."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image

ENCODING = "encoding-1"
"""Names what this module makes of pixels; goes into what an approach asks."""

_LOSSLESS_PIXELS = 160_000
"""Up to this many, PNG: small enough, and nothing is lost."""
_LONGEST_JPEG = 65_500
"""Pixels of a side that libjpeg writes; what is longer is PNG."""
_QUALITIES = (95, 90, 80, 65, 50, 30)


@dataclass(frozen=True)
class Encoded:
    """An image file."""

    data: bytes
    media_type: Literal["image/png", "image/jpeg"]


def encode_pixels(pixels: np.ndarray, most_bytes: int) -> Encoded:
    """PNG for small images, else JPEG at the best quality that fits.

    pixels      (height, width, 3) uint8, sRGB
    most_bytes  of the file itself; base64 makes a third more of it

    Raises ValueError where even the poorest quality does not fit.
    """
    image = Image.fromarray(pixels)
    longest = max(image.size)
    if image.width * image.height <= _LOSSLESS_PIXELS or longest > _LONGEST_JPEG:
        data = _saved(image, "PNG", optimize=False, compress_level=6)
        if len(data) <= most_bytes:
            return Encoded(data, "image/png")
    for quality in _QUALITIES if longest <= _LONGEST_JPEG else ():
        data = _saved(image, "JPEG", quality=quality, subsampling=0 if quality >= _QUALITIES[1] else 2)
        if len(data) <= most_bytes:
            return Encoded(data, "image/jpeg")
    raise ValueError(f"{image.width} × {image.height} pixels do not fit into {most_bytes} bytes at any quality")


def _saved(image: Image.Image, kind: str, **options: int | bool) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
