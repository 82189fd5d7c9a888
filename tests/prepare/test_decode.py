"""Bytes in, honest pixels out, or the exact reason why not. All inputs are made here."""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from workbench.prepare import decode
from workbench.prepare.decode import (
    MAX_BYTES,
    MAX_PIXELS,
    Description,
    Preparation,
    Prepared,
    Unprepared,
    describe_bytes,
    prepare_bytes,
    read_image_file,
)
from workbench.records import PREPARATION_OUTCOMES

SQUARE = Preparation(64, 64, "pad")
WHITE = (255, 255, 255)


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """No two corners alike, smooth enough for lossy formats; four colours lie flat for GIF."""
    pixels = np.full((height, width, 3), (40, 90, 160), np.uint8)
    pixels[: height // 2, : width // 3] = (230, 30, 30)
    pixels[height // 2 :, width // 2 :] = (20, 200, 60)
    pixels[-height // 4 :, : width // 4] = (240, 220, 20)
    return Image.fromarray(pixels)


ENCODINGS = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "AVIF": {"quality": 95},
}
LOSSLESS = ("PNG", "WEBP", "GIF", "BMP", "TIFF")


def encoded(form: str) -> bytes:
    return encode(scene(), form, **ENCODINGS[form])


def prepared(data: bytes, preparation: Preparation = SQUARE) -> np.ndarray:
    result = prepare_bytes(data, preparation)
    assert isinstance(result, Prepared), result
    return result.pixels.astype(int)


def refusal(data: bytes, preparation: Preparation = SQUARE) -> Unprepared:
    result = prepare_bytes(data, preparation)
    assert isinstance(result, Unprepared)
    assert result.outcome in PREPARATION_OUTCOMES
    assert result.detail
    return result


def flat(image: Image.Image, preparation: Preparation = SQUARE, form: str = "PNG", **options: object) -> list[int]:
    """The colour in the middle of the prepared image."""
    return prepared(encode(image, form, **options), preparation)[32, 32].tolist()


class TestReadImageFile:
    def test_gives_the_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"abc")
        (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
        assert [b"abc", b"abc"] == [read_image_file(tmp_path / name) for name in ("a.jpg", "b.jpg")]

    def test_names_the_cause(self, tmp_path: Path) -> None:
        (tmp_path / "directory.jpg").mkdir()
        (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
        (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
        (tmp_path / "empty.jpg").touch()
        os.mkfifo(tmp_path / "pipe.jpg")
        causes = {
            "missing.jpg": "no such file",
            "directory.jpg": "a directory",
            "dangling.jpg": "a link to a file that does not exist",
            "loop.jpg": "symbolic links",
            "empty.jpg": "empty",
            "pipe.jpg": "pipe",
            "x" * 300: "too long",
            "nul\0.jpg": "null",
        }
        for name, cause in causes.items():
            result = read_image_file(tmp_path / name)
            assert isinstance(result, Unprepared), name
            assert "unreadable" == result.outcome
            assert cause in result.detail

    def test_does_not_read_a_file_above_the_limit(self, tmp_path: Path) -> None:
        with (tmp_path / "huge.jpg").open("wb") as file:
            file.truncate(MAX_BYTES + 1)
        assert Unprepared("too_large", f"{MAX_BYTES + 1} bytes; the limit is {MAX_BYTES}") == read_image_file(
            tmp_path / "huge.jpg"
        )


class TestFormats:
    @pytest.mark.parametrize("form", ENCODINGS)
    def test_are_told_by_their_bytes(self, form: str) -> None:
        assert Description(form, 96, 64) == describe_bytes(encoded(form))

    @pytest.mark.parametrize("form", ENCODINGS)
    def test_hold_the_same_picture(self, form: str) -> None:
        expected = prepared(encoded("PNG"))
        difference = np.abs(expected - prepared(encoded(form)))
        assert difference.mean() <= (0 if form in LOSSLESS else 3)

    def test_lossless_twins_have_one_digest(self) -> None:
        assert 1 == len({prepare_bytes(encoded(form), SQUARE).digest for form in LOSSLESS})  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("data", "what"),
        [
            (b"just some words\n" * 10, "text"),
            (b"\xef\xbb\xbfpath,label\n", "text"),
            (b"BMW and Audi are makers of cars, and this is a text about them", "text"),
            (b"<!DOCTYPE html><html></html>", "markup"),
            (b"  <svg xmlns='http://www.w3.org/2000/svg'/>", "markup"),
            (b"%PDF-1.7\n...", "PDF"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
            (b"\x1f\x8b\x08\0" + bytes(40), "gzip"),
            (b"SIMPLE  =                    T" + bytes(99), "FITS"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "heic"),
            (b"PK\x03\x04" + bytes(40), "ZIP"),
            (bytes(range(128, 256)), "unknown data"),
        ],
    )
    def test_others_are_refused_and_reach_no_parser(
        self, data: bytes, what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("was parsed"))
        result = refusal(data)
        assert "unsupported_format" == result.outcome
        assert what in result.detail
        assert result == describe_bytes(data)

    def test_only_the_parser_of_the_magic_bytes_is_run(self) -> None:
        disguised = b"\xff\xd8\xff" + encode(scene(), "PNG")
        assert refusal(disguised).outcome in ("corrupt", "truncated")

    def test_samples_without_an_agreed_range_are_refused(self) -> None:
        for image in (Image.new("F", (8, 8), 0.5), Image.new("I", (8, 8), 70_000), Image.new("LAB", (8, 8))):
            assert "unsupported_format" == refusal(encode(image, "TIFF")).outcome


class TestLimits:
    def test_a_tiny_file_of_many_pixels_is_not_decoded(self) -> None:
        data = encode(Image.new("1", (20_000, 20_000)), "PNG")
        assert len(data) < 100_000
        assert Unprepared("too_large", f"more pixels; the limit is {MAX_PIXELS} pixels") == refusal(data)
        assert "too_large" == describe_bytes(data).outcome  # type: ignore[union-attr]

    def test_the_limit_is_ours_where_pillow_only_warns(self) -> None:
        just_above, just_below = (encode(Image.new("1", (12_000, height)), "PNG") for height in (10_001, 10_000))
        assert "12000 × 10001 pixels" in refusal(just_above).detail
        assert Description("PNG", 12_000, 10_000) == describe_bytes(just_below)

    @pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
    def test_text_that_unpacks_to_very_much_is_refused(self, kind: bytes) -> None:
        head = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0", b"iCCP": b"profile\0\0"}[kind]
        chunk = png_chunk(kind, head + zlib.compress(bytes(100 * 2**20), 1))
        assert "too_large" == refusal(with_chunks(chunk)).outcome

    def test_many_texts_that_unpack_to_very_much_together_are_refused(self) -> None:
        chunk = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**20)))
        assert Prepared is type(prepare_bytes(with_chunks(chunk * 10), SQUARE))
        assert "too_large" == refusal(with_chunks(chunk * 100)).outcome

    def test_more_bytes_than_allowed_are_refused(self) -> None:
        assert f"{MAX_BYTES + 1} bytes" in refusal(encoded("PNG") + bytes(MAX_BYTES + 1 - len(encoded("PNG")))).detail

    def test_of_a_long_animation_one_frame_is_decoded(self) -> None:
        first, second = Image.new("L", (20, 20), 10), Image.new("L", (20, 20), 200)
        data = encode(first, "GIF", save_all=True, append_images=[second, first] * 1_000)
        assert [10, 10, 10] == prepared(data)[32, 32].tolist()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(chunks: bytes) -> bytes:
    """A PNG with more chunks behind its header."""
    png = encoded("PNG")
    return png[:33] + chunks + png[33:]


class TestDamage:
    @pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9])
    @pytest.mark.parametrize("form", ENCODINGS)
    def test_a_cut_file_is_truncated(self, form: str, share: float) -> None:
        data = encoded(form)
        assert "truncated" == refusal(data[: max(20, int(len(data) * share))]).outcome

    def test_a_whole_container_with_broken_content_is_corrupt(self) -> None:
        data = bytearray(encoded("PNG"))
        place = data.index(b"IDAT") + 8
        data[place : place + 20] = bytes(20)
        result = refusal(bytes(data))
        assert "corrupt" == result.outcome
        assert "PNG" in result.detail

    def test_an_empty_input_is_unreadable(self) -> None:
        assert "unreadable" == refusal(b"").outcome

    @given(st.sampled_from(sorted(set(ENCODINGS) - {"TIFF"})), st.data())
    def test_no_damage_raises(self, form: str, data: st.DataObject) -> None:
        """Not TIFF: libtiff writes to the terminal."""
        broken = bytearray(encoded(form))
        for place in data.draw(st.lists(st.integers(0, len(broken) - 1), max_size=6)):
            broken[place] = data.draw(st.integers(0, 255))
        cut = bytes(broken[: data.draw(st.integers(0, len(broken)))])
        assert isinstance(prepare_bytes(cut, SQUARE), Prepared | Unprepared)
        assert isinstance(describe_bytes(cut), Description | Unprepared)

    def test_reasons_do_not_change_from_call_to_call(self) -> None:
        data = encoded("AVIF")[:200]
        assert refusal(data) == refusal(data)


STORED = {  # what undoes what each orientation tag asks for
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def tagged(form: str, orientation: int) -> bytes:
    """The scene, stored turned, with the tag that turns it upright."""
    method = STORED[orientation]
    stored = scene() if method is None else scene().transpose(method)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(stored, form, exif=exif.tobytes(), **ENCODINGS[form])


class TestOrientation:
    @pytest.mark.parametrize("orientation", STORED)
    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    def test_all_stand_upright(self, form: str, orientation: int) -> None:
        difference = np.abs(prepared(tagged(form, 1)) - prepared(tagged(form, orientation)))
        assert difference.mean() < 2.5
        assert difference.max() == 0 or form not in LOSSLESS

    def test_the_test_can_tell(self) -> None:
        turned = prepared(encode(scene().transpose(Image.Transpose.ROTATE_90), "PNG"))
        assert np.abs(prepared(encoded("PNG")) - turned).mean() > 20

    @pytest.mark.parametrize("form", ["JPEG", "TIFF"])
    def test_a_second_pass_changes_nothing(self, form: str) -> None:
        once = prepare_bytes(tagged(form, 6), SQUARE)
        assert isinstance(once, Prepared)
        assert once.digest == prepare_bytes(encode(Image.fromarray(once.pixels), "PNG"), SQUARE).digest  # type: ignore[union-attr]

    def test_xmp_alone_is_heeded(self) -> None:
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
        stored = scene().transpose(Image.Transpose.ROTATE_90)
        difference = np.abs(prepared(tagged("JPEG", 6)) - prepared(encode(stored, "JPEG", xmp=xmp, quality=95)))
        assert difference.max() == 0

    @pytest.mark.parametrize(
        "exif",
        [
            b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0" + bytes(8),
            b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x09" + bytes(7),
            b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\xff" + bytes(7),
            b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\4\0\0\0six\0\0\0\0\0",
            b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1",
            b"Exif\0\0II*\0\xff\xff\xff\xff",
            b"Exif\0\0garbage, and nothing but garbage",
            b"Exif\0\0",
        ],
        ids=["0", "9", "255", "text", "cut", "far offset", "garbage", "empty"],
    )  # fmt: skip
    def test_garbage_tags_are_left_alone(self, exif: bytes) -> None:
        assert np.array_equal(prepared(encoded("JPEG")), prepared(encode(scene(), "JPEG", quality=95, exif=exif)))


class TestTransparency:
    def test_what_is_transparent_shows_the_background(self) -> None:
        clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
        assert [255, 255, 255] == flat(clear)
        assert [10, 20, 30] == flat(clear, Preparation(64, 64, "pad", (10, 20, 30)))

    def test_half_transparent_is_half_way(self) -> None:
        assert [127, 127, 127] == pytest.approx(flat(Image.new("RGBA", (20, 20), (0, 0, 0, 128))), abs=1)
        assert [127, 127, 127] == pytest.approx(flat(Image.new("LA", (20, 20), (0, 128))), abs=1)

    def test_hidden_colour_does_not_bleed_at_the_edge(self) -> None:
        pixels = np.zeros((9, 9, 4), np.uint8)
        pixels[:, :5] = (0, 0, 0, 255)
        pixels[:, 5:] = (255, 0, 0, 0)
        red, green, blue = np.moveaxis(prepared(encode(Image.fromarray(pixels), "PNG")), -1, 0)
        assert np.abs(red - green).max() <= 1
        assert np.array_equal(green, blue)

    def test_a_palette_may_hold_transparent_colours(self) -> None:
        image = Image.new("P", (20, 20), 1)
        image.putpalette([0, 0, 255, 0, 255, 0, 255, 0, 0])
        assert [0, 255, 0] == flat(image)
        assert [255, 255, 255] == flat(image, transparency=1)
        assert [0, 255, 0] == flat(image, transparency=bytes([0, 255]))
        assert [0, 255, 0] == flat(image, form="GIF", transparency=2)

    @pytest.mark.parametrize(("mode", "colour"), [("RGB", (255, 0, 0)), ("L", 77), ("1", 1)])
    def test_one_colour_may_mean_transparent(self, mode: str, colour: int | tuple[int, int, int]) -> None:
        ground = Preparation(64, 64, "pad", (9, 9, 9))
        assert [9, 9, 9] == flat(Image.new(mode, (20, 20), colour), ground, transparency=colour)


class TestColour:
    def test_grey_kinds(self) -> None:
        assert [77, 77, 77] == flat(Image.new("L", (20, 20), 77))
        assert [255, 255, 255] == flat(Image.new("1", (20, 20), 1))
        assert [0, 0, 0] == flat(Image.new("1", (20, 20), 0))

    @pytest.mark.parametrize(("form", "kind"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2")])
    @pytest.mark.parametrize(("value", "expected"), [(0, 0), (32768, 128), (257 * 77, 77), (65535, 255)])
    def test_16_bit_grey_is_scaled(self, form: str, kind: str, value: int, expected: int) -> None:
        image = Image.fromarray(np.full((20, 20), value, kind))
        assert [expected] * 3 == flat(image, form=form)

    def test_cmyk_jpeg_as_adobe_stores_it(self) -> None:
        cyan = Image.new("CMYK", (40, 40), (255, 0, 0, 0))
        data = encode(cyan, "JPEG", quality=100)
        assert b"Adobe" in data
        assert [0, 255, 255] == pytest.approx(prepared(data)[32, 32].tolist(), abs=3)
        assert [128, 128, 128] == pytest.approx(flat(Image.new("CMYK", (40, 40), (0, 0, 0, 127)), form="TIFF"), abs=1)

    def test_a_colour_profile_is_applied(self) -> None:
        shown = flat(Image.new("RGB", (20, 20), (200, 100, 90)), icc_profile=DISPLAY_P3)
        assert p3_as_srgb(200, 100, 90) == pytest.approx(shown, abs=1)
        assert abs(shown[0] - 200) > 10

    def test_a_profile_is_applied_under_transparency_and_to_grey(self) -> None:
        image = Image.new("RGBA", (20, 20), (200, 100, 90, 255))
        assert p3_as_srgb(200, 100, 90) == pytest.approx(flat(image, icc_profile=DISPLAY_P3), abs=1)
        assert p3_as_srgb(99, 99, 99) == pytest.approx(
            flat(Image.new("L", (20, 20), 99), icc_profile=DISPLAY_P3), abs=1
        )

    def test_an_srgb_profile_changes_nothing_that_shows(self) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        assert [200, 100, 90] == pytest.approx(
            flat(Image.new("RGB", (9, 9), (200, 100, 90)), icc_profile=profile), abs=1
        )

    @pytest.mark.parametrize("profile", [b"nonsense", bytes(200)])
    def test_a_damaged_profile_is_as_none(self, profile: bytes) -> None:
        assert [200, 100, 90] == flat(Image.new("RGB", (20, 20), (200, 100, 90)), icc_profile=profile)

    @pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
    def test_of_an_animation_the_first_frame_counts(self, form: str) -> None:
        red, green = (Image.new("RGB", (20, 20), colour) for colour in ((255, 0, 0), (0, 255, 0)))
        options = {"lossless": True} if form == "WEBP" else {}
        assert [255, 0, 0] == flat(red, form=form, save_all=True, append_images=[green], **options)

    def test_one_colour_is_an_image_too(self) -> None:
        assert {0} == set(prepared(encode(Image.new("RGB", (9, 9)), "PNG")).ravel().tolist())


def p3_as_srgb(*colour: int) -> list[int]:
    """Display P3 → sRGB by its definition (both share curve and white)."""
    encoded_p3 = np.array(colour) / 255
    linear = np.where(encoded_p3 <= 0.04045, encoded_p3 / 12.92, ((encoded_p3 + 0.055) / 1.055) ** 2.4)
    matrix = [
        [1.2249401763, -0.2249401763, 0],
        [-0.0420569547, 1.0420569547, 0],
        [-0.0196375546, -0.0786360456, 1.0982736],
    ]
    linear = np.clip(matrix @ linear, 0, 1)
    shown = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(shown * 255).astype(int).tolist()


def p3_profile() -> bytes:
    """A minimal matrix profile (ICC.1): P3 primaries adapted to D50, sRGB curve as a table."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    steps = np.linspace(0, 1, 1024)
    curve = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    table = b"curv" + bytes(4) + struct.pack(">I", 1024) + np.rint(curve * 65535).astype(">u2").tobytes()
    text = b"desc" + bytes(4) + struct.pack(">I", 3) + b"P3\0" + bytes(78) + b"\0"
    tags = {
        b"desc": text,
        b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249),
        b"rXYZ": b"XYZ " + bytes(4) + fixed(0.51512, 0.24120, -0.00105),
        b"gXYZ": b"XYZ " + bytes(4) + fixed(0.29198, 0.69225, 0.04189),
        b"bXYZ": b"XYZ " + bytes(4) + fixed(0.15710, 0.06657, 0.78407),
        b"rTRC": table, b"gTRC": table, b"bTRC": table,
    }  # fmt: skip
    place, directory, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        directory += name + struct.pack(">II", place + len(body), len(data))
        body += padded
    header = struct.pack(">I4sI4s4s4s", place + len(body), b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + directory + body


DISPLAY_P3 = p3_profile()


class TestFit:
    def test_pad_keeps_all_on_the_background(self) -> None:
        pixels = prepared(encode(Image.new("RGB", (40, 20), (0, 0, 0)), "PNG"))
        assert (64, 64, 3) == pixels.shape
        assert pixels[:16].min() == pixels[48:].min() == 255
        assert 0 == pixels[16:48].max()

    def test_crop_fills_the_frame_from_the_centre(self) -> None:
        image = Image.new("RGB", (90, 30), (255, 0, 0))
        image.paste((0, 0, 255), (30, 0, 60, 30))
        pixels = prepared(encode(image, "PNG"), Preparation(30, 30, "crop"))
        assert [0, 0, 255] == pixels.reshape(-1, 3).min(axis=0).tolist() == pixels.reshape(-1, 3).max(axis=0).tolist()

    def test_stretch_ignores_the_aspect(self) -> None:
        image = Image.new("RGB", (80, 20), (255, 0, 0))
        image.paste((0, 0, 255), (40, 0, 80, 20))
        pixels = prepared(encode(image, "PNG"), Preparation(20, 40, "stretch"))
        assert (40, 20, 3) == pixels.shape
        assert [[255, 0, 0], [0, 0, 255]] == pixels[0, [0, -1]].tolist() == pixels[-1, [0, -1]].tolist()

    @pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
    @pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (8001, 3), (63, 64), (7, 5)])
    @pytest.mark.parametrize("frame", [(64, 64), (50, 30)])
    def test_any_size_fits_any_frame(self, size: tuple[int, int], frame: tuple[int, int], fit: str) -> None:
        preparation = Preparation(*frame, fit, background=(255, 0, 0))  # type: ignore[arg-type]
        pixels = prepared(encode(Image.new("RGB", size, (255, 0, 0)), "PNG"), preparation)
        assert (frame[1], frame[0], 3) == pixels.shape
        assert [255, 0, 0] == pixels.reshape(-1, 3).min(axis=0).tolist() == pixels.reshape(-1, 3).max(axis=0).tolist()

    @pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
    @pytest.mark.parametrize("size", [(1600, 1200), (1200, 1600), (2000, 300)])
    def test_a_large_jpeg_is_decoded_reduced_and_looks_the_same(self, size: tuple[int, int], fit: str) -> None:
        preparation = Preparation(64, 48, fit)  # type: ignore[arg-type]
        smooth = ImageOps.pad(scene(12, 8), size).resize(size, Image.Resampling.BICUBIC)
        data = encode(smooth, "JPEG", quality=95)
        with Image.open(BytesIO(data)) as image:
            decode._decode_reduced(image, preparation)
            assert size[0] > image.width
        assert np.abs(prepared(encode(smooth, "PNG"), preparation) - prepared(data, preparation)).mean() < 2

    def test_reduced_decoding_keeps_enough_for_any_orientation(self) -> None:
        wide = Preparation(640, 64, "stretch")
        with Image.open(BytesIO(encode(Image.new("RGB", (800, 3000)), "JPEG"))) as image:
            decode._decode_reduced(image, wide)
            assert image.width >= 640
            assert image.height >= 640


class TestIdentity:
    def test_the_digest_is_of_shape_and_pixels(self) -> None:
        result = prepare_bytes(encoded("PNG"), Preparation(32, 16, "stretch"))
        assert isinstance(result, Prepared)
        assert hashlib.sha256(b"(16, 32, 3)" + result.pixels.tobytes()).hexdigest() == result.digest
        black = encode(Image.new("RGB", (8, 8)), "PNG")
        shapes = (Preparation(32, 16, "stretch"), Preparation(16, 32, "stretch"))
        assert 2 == len({prepare_bytes(black, shape).digest for shape in shapes})  # type: ignore[union-attr]

    def test_metadata_does_not_reach_the_pixels(self) -> None:
        exif = Image.Exif()
        exif[0x010E], exif[0x0132] = "a secret description", "2026:01:01 00:00:00"
        dressed = encode(scene(), "JPEG", quality=95, exif=exif.tobytes(), comment=b"a secret", xmp=b"<x:xmpmeta/>")
        assert b"secret" in dressed
        assert prepare_bytes(encoded("JPEG"), SQUARE).digest == prepare_bytes(dressed, SQUARE).digest  # type: ignore[union-attr]

    def test_pixels_cannot_be_changed_behind_the_digest(self) -> None:
        result = prepare_bytes(encoded("PNG"), SQUARE)
        assert isinstance(result, Prepared)
        with pytest.raises(ValueError, match="read-only"):
            result.pixels[0, 0, 0] = 1

    def test_the_id_names_what_shapes_the_pixels(self) -> None:
        assert "pixels-1:224x160:crop:0aff00" == Preparation(224, 160, "crop", (10, 255, 0)).id


class TestManners:
    def test_threads_share_the_silence_and_warnings_come_back(self) -> None:
        noisy = encode(Image.new("1", (12_000, 9_000)), "PNG")
        odd = encode(scene(), "TIFF")[:-40]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            before = list(warnings.filters)
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(describe_bytes, [noisy, odd, encoded("PNG"), b"text"] * 25))
            assert before == list(warnings.filters)
            with pytest.raises(Image.DecompressionBombWarning):
                Image.open(BytesIO(noisy))
        assert answers[:4] * 25 == answers
        assert Description("PNG", 12_000, 9_000) == answers[0]

    def test_threads_prepare_what_one_prepares(self) -> None:
        inputs = [encoded(form) for form in ENCODINGS] * 6
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda data: prepare_bytes(data, SQUARE), inputs))
        assert [prepare_bytes(data, SQUARE).digest for data in inputs] == [item.digest for item in together]  # type: ignore[union-attr]

    @pytest.mark.skipif(sys.platform != "linux", reason="counts /proc/self/fd")
    def test_no_file_stays_open(self, tmp_path: Path) -> None:
        (tmp_path / "cut.jpg").write_bytes(encoded("JPEG")[:300])
        (tmp_path / "whole.tif").write_bytes(encoded("TIFF"))
        before = len(list(Path("/proc/self/fd").iterdir()))
        for path in [*tmp_path.iterdir(), tmp_path] * 5:
            data = read_image_file(path)
            if isinstance(data, bytes):
                prepare_bytes(data, SQUARE)
        assert before == len(list(Path("/proc/self/fd").iterdir()))
