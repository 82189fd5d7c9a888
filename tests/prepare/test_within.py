"""The fit `within`: the whole picture in its own shape, inside what a service takes, whatever comes."""

from __future__ import annotations

from io import BytesIO
from math import ceil

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image

from workbench.prepare.decode import Preparation, Prepared, prepare_bytes

STANDARD = Preparation(1568, 1568, "within", patch=28, patches=1568)
HIGH = Preparation(2576, 2576, "within", patch=28, patches=4784)
PIXELS = Preparation(640, 480, "within")
GROUND = Preparation(300, 200, "within", least=40, slimmest=4)
FEW = Preparation(280, 280, "within", slimmest=3, patch=28, patches=12)
MANY = (STANDARD, HIGH, PIXELS, GROUND, FEW)

sides = st.integers(1, 12_000)


def prepared(image: Image.Image, preparation: Preparation, form: str = "PNG", **options: object) -> Prepared:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    result = prepare_bytes(buffer.getvalue(), preparation)
    assert isinstance(result, Prepared), result
    return result


def size_of(found: Prepared) -> tuple[int, int]:
    height, width, _ = found.pixels.shape
    return width, height


class TestSize:
    @pytest.mark.parametrize(
        ("preparation", "image", "size"),
        [
            (STANDARD, (1920, 1080), (1456, 819)),
            (STANDARD, (1080, 1920), (819, 1456)),
            (STANDARD, (1075, 1520), (924, 1307)),
            (STANDARD, (1000, 1000), (1000, 1000)),
            (STANDARD, (1568, 784), (1568, 784)),
            (STANDARD, (3136, 1), (1568, 1)),
            (HIGH, (3840, 2160), (2576, 1449)),
            (HIGH, (1920, 1080), (1920, 1080)),
            (PIXELS, (1280, 960), (640, 480)),
            (PIXELS, (480, 640), (360, 480)),
            (PIXELS, (8001, 8001), (480, 480)),
            (GROUND, (1, 1), (40, 40)),
            (GROUND, (1, 10_000), (50, 200)),
        ],
    )
    def test_known_sizes(self, preparation: Preparation, image: tuple[int, int], size: tuple[int, int]) -> None:
        assert size == preparation.size(*image)

    @given(sides, sides, st.sampled_from(MANY))
    @example(1, 1, FEW)
    @example(1, 10_000, FEW)
    @example(10_000, 1, FEW)
    @example(8001, 8001, HIGH)
    def test_limits_are_kept(self, width: int, height: int, preparation: Preparation) -> None:
        across, down = preparation.size(width, height)
        assert across <= preparation.width
        assert down <= preparation.height
        assert min(across, down) >= preparation.least
        if preparation.slimmest:
            assert max(across, down) <= preparation.slimmest * min(across, down)
        if preparation.patch:
            columns, rows = ceil(across / preparation.patch), ceil(down / preparation.patch)
            assert columns * preparation.patch <= preparation.width
            assert rows * preparation.patch <= preparation.height
            assert columns * rows <= preparation.patches

    @given(sides, sides, st.sampled_from(MANY))
    def test_the_picture_is_never_enlarged_and_keeps_its_shape(
        self, width: int, height: int, preparation: Preparation
    ) -> None:
        across, down = preparation.shrunk(width, height)
        assert across <= width
        assert down <= height
        scale = max(across, down) / max(width, height)
        assert abs(across - width * scale) <= 0.5 or across == 1
        assert abs(down - height * scale) <= 0.5 or down == 1

    @given(sides, sides, st.sampled_from(MANY))
    def test_one_pixel_more_would_not_fit(self, width: int, height: int, preparation: Preparation) -> None:
        across, down = preparation.shrunk(width, height)
        longer = max(across, down) + 1
        assume(longer <= max(width, height))
        scale = longer / max(width, height)
        larger = max(1, round(width * scale)), max(1, round(height * scale))
        assert larger != preparation.shrunk(*larger)

    @given(sides, sides, st.sampled_from(MANY))
    def test_what_fits_stays_as_it_is(self, width: int, height: int, preparation: Preparation) -> None:
        once = preparation.shrunk(width, height)
        assert once == preparation.shrunk(*once)

    @given(sides, sides, st.sampled_from(MANY))
    def test_turning_the_image_turns_the_size(self, width: int, height: int, preparation: Preparation) -> None:
        turned = Preparation(
            preparation.height,
            preparation.width,
            "within",
            least=preparation.least,
            slimmest=preparation.slimmest,
            patch=preparation.patch,
            patches=preparation.patches,
        )
        assert preparation.size(width, height)[::-1] == turned.size(height, width)


class TestPixels:
    def test_a_smaller_image_is_left_as_it_is(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
        assert np.array_equal(pixels, prepared(Image.fromarray(pixels), PIXELS).pixels)

    def test_a_tiny_image_stands_in_the_middle_of_its_ground(self) -> None:
        found = prepared(Image.new("RGB", (2, 2), (9, 8, 7)), GROUND).pixels
        assert (40, 40, 3) == found.shape
        assert [[9, 8, 7]] * 4 == found[19:21, 19:21].reshape(-1, 3).tolist()
        assert 4 == (found != 255).any(axis=2).sum()

    @pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (8001, 20), (8001, 4000)])
    @pytest.mark.parametrize("form", ["PNG", "JPEG"])
    def test_any_size_comes_out_as_announced(self, size: tuple[int, int], form: str) -> None:
        for preparation in (STANDARD, GROUND):
            assert preparation.size(*size) == size_of(prepared(Image.new("L", size, 90), preparation, form))

    @given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 8), st.sampled_from((GROUND, FEW)))
    @example(641, 643, 6, GROUND)
    @example(699, 400, 5, FEW)
    def test_a_jpeg_comes_out_as_announced_however_it_is_stored(
        self, width: int, height: int, orientation: int, preparation: Preparation
    ) -> None:
        """The decoder may halve a JPEG, and half of an odd side is no whole number."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = (height, width) if orientation > 4 else (width, height)
        found = prepared(Image.new("L", stored, 90), preparation, "JPEG", exif=exif.tobytes())
        assert preparation.size(width, height) == size_of(found)

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_all_stand_upright(self, form: str, orientation: int) -> None:
        scene = np.full((90, 150, 3), (40, 90, 160), np.uint8)
        scene[:45, :50] = (230, 30, 30)
        undo = {
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }
        upright = Image.fromarray(scene)
        stored = upright.transpose(undo[orientation]) if orientation in undo else upright
        exif = Image.Exif()
        exif[0x0112] = orientation
        small = Preparation(75, 75, "within")
        found = prepared(stored, small, form, exif=exif.tobytes())
        assert (75, 45) == size_of(found)
        expected = prepared(upright, small).pixels.astype(int)
        assert np.abs(expected - found.pixels).mean() < 3

    def test_what_is_transparent_shows_the_background(self) -> None:
        clear = Image.new("RGBA", (900, 900), (255, 0, 0, 0))
        found = prepared(clear, Preparation(30, 30, "within", (10, 20, 30))).pixels
        assert [10, 20, 30] == np.unique(found.reshape(-1, 3), axis=0).ravel().tolist()


class TestId:
    def test_ids_that_stand_in_policies_stay(self) -> None:
        ids = [
            Preparation(64, 32, "pad").id,
            Preparation(64, 32, "crop", (0, 0, 0)).id,
            Preparation(8, 8, "stretch").id,
        ]
        assert [
            "pixels-1:64x32:pad:ffffff",
            "pixels-1:64x32:crop:000000",
            "pixels-1:8x8:stretch:ffffff",
        ] == ids

    def test_every_limit_is_in_the_id(self) -> None:
        assert 5 == len({preparation.id for preparation in MANY})
        assert "pixels-1:1568x1568:within:ffffff:0:0:28:1568" == STANDARD.id
