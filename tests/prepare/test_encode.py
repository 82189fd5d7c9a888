"""Pixels as the file that is sent: nothing but pixels in it, within its limit, the same each time."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workbench.prepare.encode import Encoded, encode_pixels

PLENTY = 5 * 2**20


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=2).astype(np.uint8)


def poorest_jpeg(pixels: np.ndarray) -> int:
    """Bytes at the poorest quality."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=30)
    return len(buffer.getvalue())


LEAST_OF_NOISE = poorest_jpeg(noise(420, 400))


def read(encoded: Encoded) -> np.ndarray:
    with Image.open(BytesIO(encoded.data)) as image:
        assert encoded.media_type == {"PNG": "image/png", "JPEG": "image/jpeg"}[str(image.format)]
        return np.asarray(image.convert("RGB"))


def png_chunks(data: bytes) -> list[bytes]:
    kinds, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kinds.append(data[place + 4 : place + 8])
        place += 12 + length
    return kinds


def jpeg_segments(data: bytes) -> list[int]:
    """The markers up to the first scan."""
    markers, place = [], 2
    while data[place] == 0xFF and data[place + 1] != 0xDA:
        markers.append(data[place + 1])
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return markers


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
def test_a_small_image_loses_nothing(height: int, width: int, seed: int) -> None:
    pixels = noise(height, width, seed)
    encoded = encode_pixels(pixels, PLENTY)
    assert "image/png" == encoded.media_type
    assert np.array_equal(pixels, read(encoded))


def test_a_large_image_is_a_good_jpeg() -> None:
    pixels = smooth(700, 900)
    encoded = encode_pixels(pixels, PLENTY)
    assert "image/jpeg" == encoded.media_type
    assert np.abs(pixels.astype(int) - read(encoded)).mean() < 1


def test_there_is_nothing_but_pixels_in_it() -> None:
    assert {b"IHDR", b"IDAT", b"IEND"} == set(png_chunks(encode_pixels(noise(80, 90), PLENTY).data))
    segments = jpeg_segments(encode_pixels(smooth(700, 900), PLENTY).data)
    application, comment = [marker for marker in segments if 0xE0 <= marker <= 0xEF], 0xFE
    assert [0xE0] == application  # JFIF: version and density
    assert comment not in segments


@pytest.mark.parametrize("pixels", [noise(80, 90), smooth(700, 900)], ids=["png", "jpeg"])
def test_the_same_pixels_give_the_same_bytes(pixels: np.ndarray) -> None:
    turned = np.asfortranarray(pixels)
    fixed = pixels.copy()
    fixed.flags.writeable = False
    assert 1 == len({encode_pixels(same, PLENTY).data for same in (pixels, turned, fixed)})


@settings(max_examples=15)
@given(st.integers(30_000, 400_000))
def test_it_fits_or_says_that_it_cannot(most_bytes: int) -> None:
    pixels = noise(420, 400)
    if most_bytes < LEAST_OF_NOISE:
        with pytest.raises(ValueError, match=f"{most_bytes} bytes"):
            encode_pixels(pixels, most_bytes)
    else:
        assert LEAST_OF_NOISE <= len(encode_pixels(pixels, most_bytes).data) <= most_bytes


def test_less_room_costs_quality_step_by_step() -> None:
    pixels = noise(420, 400)
    sizes, most_bytes = [], PLENTY
    while True:
        try:
            encoded = encode_pixels(pixels, most_bytes)
        except ValueError:
            break
        sizes.append(len(encoded.data))
        most_bytes = sizes[-1] - 1
    assert len(sizes) == 6
    assert sorted(sizes, reverse=True) == sizes


def test_a_small_image_that_is_too_large_as_png_becomes_a_jpeg() -> None:
    pixels = noise(300, 300)
    whole = len(encode_pixels(pixels, PLENTY).data)
    encoded = encode_pixels(pixels, whole - 1)
    assert "image/jpeg" == encoded.media_type
    assert len(encoded.data) < whole


@pytest.mark.parametrize("shape", [(1, 1), (300, 300), (500, 500)])
def test_what_cannot_fit_is_refused(shape: tuple[int, int]) -> None:
    height, width = shape
    with pytest.raises(ValueError, match=f"{width} × {height} pixels do not fit into 20 bytes at any quality"):
        encode_pixels(noise(height, width), 20)


def test_a_side_longer_than_a_jpeg_has() -> None:
    pixels = np.zeros((3, 66_000, 3), np.uint8)
    encoded = encode_pixels(pixels, PLENTY)
    assert "image/png" == encoded.media_type
    with pytest.raises(ValueError, match="do not fit"):
        encode_pixels(pixels, 20)
