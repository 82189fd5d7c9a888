"""Words drawn into pixels: what someone might stick on a picture to mislead whoever classifies it.

Drawn with the font that comes with Pillow, so the same pixels and words give the same picture on every machine with the
same Pillow. That font knows ASCII; accents are dropped, and words in other scripts cannot be drawn.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import ceil
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Position = Literal["top", "middle", "bottom"]
Size = Literal["small", "large"]
Contrast = Literal["strong", "faint"]

LEGIBLE_SIDE = 256
"""Pixels: a picture with a shorter side than this is enlarged before words are drawn on it."""

_LONGEST_SIDE = 2048
_BANDS = {"small": 0.18, "large": 0.34}
_SMALLEST_LETTERS = 8
_FAINT = 0.45
_INK, _GROUND = 0, 255


@dataclass(frozen=True)
class Look:
    """Where and how words stand on a picture."""

    position: Position
    size: Size
    """The band that the words fill is 18 % or 34 % of the picture's height, over its whole width."""
    contrast: Contrast
    """strong: black on a white band; faint: letters that are half see-through, without a band."""


_POSITIONS: tuple[Position, ...] = ("top", "middle", "bottom")
_SIZES: tuple[Size, ...] = ("small", "large")
_CONTRASTS: tuple[Contrast, ...] = ("strong", "faint")

LOOKS = tuple(Look(*look) for look in product(_POSITIONS, _SIZES, _CONTRASTS))
"""Every look there is."""


def writable(text: str) -> str:
    """The text as the font can draw it, accents dropped; "" if something in it cannot be drawn."""
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    return plain if plain.isascii() and plain.isprintable() and plain.strip() else ""


def enlarge(pixels: np.ndarray, least: int = LEGIBLE_SIDE) -> np.ndarray:
    """(h, w, 3) uint8 a whole number of times as large, so that its shorter side has `least` pixels.

    No side becomes longer than 2,048 pixels for it; a picture that is large enough is given back as it is.
    """
    height, width, _ = pixels.shape
    times = max(1, min(ceil(least / min(height, width)), _LONGEST_SIDE // max(height, width)))
    if times == 1:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width * times, height * times), Image.Resampling.BICUBIC))


def draw_words(pixels: np.ndarray, words: str, look: Look) -> np.ndarray:
    """A copy of (h, w, 3) uint8 with words on it, wrapped and as large as their band allows.

    Without words a strong look still draws its band: what that alone changes is the control for what words change.
    Raises ValueError for words that `writable` cannot draw.
    """
    text = writable(words)
    if words and not text:
        raise ValueError(f"{words!r} has letters that the built-in font cannot draw")
    image = Image.fromarray(pixels)
    top, bottom = band(image.height, look)
    ink = _INK
    if look.contrast == "strong":
        image.paste((_GROUND,) * 3, (0, top, image.width, bottom))
    elif np.asarray(image.crop((0, top, image.width, bottom)).convert("L")).mean() < 128:
        ink = _GROUND
    if text:
        alpha = _letters(text, image.width, bottom - top)
        opacity = _FAINT if look.contrast == "faint" else 1.0
        image.paste((ink,) * 3, (0, top), alpha.point([round(level * opacity) for level in range(256)]))
    return np.asarray(image)


def band(height: int, look: Look) -> tuple[int, int]:
    """The first row of the words' band, and the row after its last."""
    rows = max(1, round(_BANDS[look.size] * height))
    edge = round(0.02 * height)
    top = {"top": edge, "middle": (height - rows) // 2, "bottom": height - rows - edge}[look.position]
    return top, top + rows


def _letters(text: str, width: int, height: int) -> Image.Image:
    """How much ink stands where: mode L, 255 is full."""
    margin = max(1, height // 12)
    lines, size = _fitted(text, width - 2 * margin, height - 2 * margin)
    font, step = _font(size), _step(size)
    alpha = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(alpha)
    top = (height - step * len(lines)) / 2
    for number, line in enumerate(lines):
        place = (width - font.getlength(line)) / 2, top + step * number
        draw.text(place, line, fill=255, font=font)
    return alpha


def _fitted(text: str, width: int, height: int) -> tuple[list[str], int]:
    """The lines and the largest size at which they fit; at the smallest, whatever does not fit is cut off."""
    low, high = _SMALLEST_LETTERS, max(_SMALLEST_LETTERS, height)
    while low < high:
        middle = (low + high + 1) // 2
        lines = _wrapped(text, middle, width)
        widest = max(_font(middle).getlength(line) for line in lines)
        fits = widest <= width and _step(middle) * len(lines) <= height
        low, high = (middle, high) if fits else (low, middle - 1)
    return _wrapped(text, low, width), low


def _wrapped(text: str, size: int, width: int) -> list[str]:
    font = _font(size)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _step(size: int) -> int:
    """Pixels from line to line."""
    return ceil(1.25 * size)


@lru_cache(maxsize=512)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("this Pillow was built without FreeType, which draws letters")
    return font
