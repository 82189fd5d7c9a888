"""Decode one image file and fit it to what an approach takes.

`read_image_file` (a path) → bytes → `prepare_bytes` → `Prepared` pixels, or `Unprepared` with the reason. Nothing
here raises for a bad image. The format is told by magic bytes, never by the file's name, and only that one
format's parser is run.
"""

from __future__ import annotations

import hashlib
import math
import stat
import struct
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

MAX_BYTES = 64 * 2**20
"""A larger file is not read."""
MAX_PIXELS = 120_000_000
"""An image of more pixels is not decoded. The largest phone pictures (108 million) pass."""

_ROOM_FOR_RESAMPLING = 2
"""A JPEG may be decoded at a half, quarter or eighth, but to no less than this many times the final size."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Preparation:
    """How an approach wants its pixels. The id is stored with every score and threshold."""

    width: int
    height: int
    fit: Literal["pad", "crop", "stretch", "within"]
    """pad: whole image on a ground of `background`; crop: the centre fills the frame; stretch: aspect ignored;
    within: the whole image in its own shape, shrunk where it is larger than width × height and never enlarged."""
    background: tuple[int, int, int] = (255, 255, 255)
    """sRGB; also what transparent pixels are laid on."""
    least: int = 0
    """`within` only: pixels per side; a smaller image stands on a ground of this size."""
    slimmest: float = 0.0
    """`within` only: longer side over shorter side; a slimmer image stands on a ground of this shape. 0: any shape."""
    patch: int = 0
    """`within` only: side of the squares that the image is read in; 0: not in squares."""
    patches: int = 0
    """`within` only: how many squares it may fill, begun ones counted; both sides are then measured in squares.

    The ground keeps to `width`, `height` and `patches` as well, unless `least` alone asks for more."""

    @property
    def id(self) -> str:
        """Names everything that shapes the pixels; changes whenever this module's pixels change."""
        ground = "".join(f"{value:02x}" for value in self.background)
        limits = f":{self.least}:{self.slimmest:g}:{self.patch}:{self.patches}" if self.fit == "within" else ""
        return f"pixels-1:{self.width}x{self.height}:{self.fit}:{ground}{limits}"

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the prepared pixels of an upright image of this size."""
        if self.fit != "within":
            return self.width, self.height
        return self._on_ground(*self.shrunk(width, height))

    def shrunk(self, width: int, height: int) -> tuple[int, int]:
        """`within`: the size of the picture itself, without ground; the largest that keeps the shape and the limits."""
        longer = max(width, height)
        low, high = 1, min(longer, max(self.width, self.height))
        while low < high:  # the largest longer side that fits
            middle = (low + high + 1) // 2
            ground = self._on_ground(*_with_longer(middle, width, height))
            low, high = (middle, high) if self._fits(*ground) else (low, middle - 1)
        return _with_longer(low, width, height)

    def _on_ground(self, width: int, height: int) -> tuple[int, int]:
        longest = max(width, height)
        shortest = max(self.least, math.ceil(longest / self.slimmest) if self.slimmest else 0)
        return max(width, shortest), max(height, shortest)

    def _fits(self, width: int, height: int) -> bool:
        if not self.patch:
            return width <= self.width and height <= self.height
        columns, rows = math.ceil(width / self.patch), math.ceil(height / self.patch)
        inside = columns * self.patch <= self.width and rows * self.patch <= self.height
        return inside and (not self.patches or columns * rows <= self.patches)


def _with_longer(longer: int, width: int, height: int) -> tuple[int, int]:
    """The shape of width × height with its longer side that long."""
    scale = longer / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True)
class Prepared:
    """Pixels that an approach may be asked about."""

    pixels: np.ndarray
    """(height, width, 3) uint8, sRGB."""
    digest: str
    """SHA-256, in hex, of shape and pixels: the same picture under two names has one digest."""


@dataclass(frozen=True)
class Unprepared:
    """Why an image has no pixels; becomes its row."""

    outcome: str
    """One of `records.PREPARATION_OUTCOMES`."""
    detail: str


class Description(NamedTuple):
    """What the header of an image file says."""

    format: str
    """JPEG, PNG, WEBP, GIF, BMP, TIFF or AVIF."""
    width: int
    """Pixels as stored, before any orientation tag."""
    height: int


def read_image_file(path: Path) -> bytes | Unprepared:
    """The bytes of an image file, or `unreadable` with the exact cause, or `too_large` (over MAX_BYTES)."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
            return Unprepared("unreadable", f"{what}, not a file")
        if status.st_size > MAX_BYTES:
            return _too_many_bytes(status.st_size)
        data = path.read_bytes()
    except FileNotFoundError:
        return Unprepared("unreadable", "a link to a file that does not exist" if path.is_symlink() else "no such file")
    except (OSError, ValueError) as error:
        return Unprepared("unreadable", getattr(error, "strerror", None) or str(error))
    return data or Unprepared("unreadable", "an empty file (0 bytes)")


def prepare_bytes(data: bytes, preparation: Preparation) -> Prepared | Unprepared:
    """The image upright, in sRGB, on the background, fitted to width × height; or why that cannot be.

    Of an animation the first frame counts. 16-bit grey is scaled to 8 bits; colour profiles are applied; pixels
    that are transparent show the background. Deterministic; may be called from several threads at once.
    """
    return _open(data, lambda image: _prepare(image, preparation))


def describe_bytes(data: bytes) -> Description | Unprepared:
    """Format and stored size, from the header alone; or why it cannot be told."""
    return _open(data, lambda image: Description(str(_format(data)), *image.size))


def _open(data: bytes, use: Callable[[Image.Image], _Result]) -> _Result | Unprepared:
    """What `use` makes of the opened, not yet decoded image."""
    if len(data) > MAX_BYTES:
        return _too_many_bytes(len(data))
    if not data:
        return Unprepared("unreadable", "an empty file (0 bytes)")
    name = _format(data)
    if name is None:
        return Unprepared("unsupported_format", f"{_guess(data)}, not one of {', '.join(_SIGNS)}")
    try:
        with _PILLOW_IS_QUIET, Image.open(BytesIO(data), formats=[name]) as image:
            if image.width * image.height > MAX_PIXELS:
                return _too_many_pixels(f"{image.width} × {image.height} pixels")
            return use(image)
    except Exception as error:  # damaged files make decoders raise nearly anything
        return _reason(name, data, error)


def _prepare(image: Image.Image, preparation: Preparation) -> Prepared:
    stored = image.size
    if image.format in ("JPEG", "MPO"):
        _decode_reduced(image, preparation)
    decoded = image.size
    exchanged = _turn_upright(image)
    whole = stored[::-1] if exchanged else stored
    # where nothing was skipped, the pixels tell: a TIFF is turned while it is decoded, and shows no tag any more
    upright = image.size if decoded == stored else whole
    fitted, corner = _fit(_plain(image), preparation, upright)
    canvas = Image.new("RGB", preparation.size(*upright), preparation.background)
    alpha = fitted.getchannel("A") if fitted.mode.endswith("A") else None
    canvas.paste(_srgb(fitted, image.info.get("icc_profile")), corner, alpha)
    pixels = np.array(canvas)
    pixels.flags.writeable = False
    return Prepared(pixels, hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest())


def _decode_reduced(image: Image.Image, preparation: Preparation) -> None:
    """Let the JPEG decoder skip detail that fitting would throw away. Either orientation leaves enough."""
    sizes = (image.size, image.size[::-1])
    scale = _ROOM_FOR_RESAMPLING * max(_scale(size, preparation) for size in sizes)
    image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))


def _scale(size: tuple[int, int], preparation: Preparation) -> float:
    factors = preparation.width / size[0], preparation.height / size[1]
    if preparation.fit == "within":
        return max(preparation.shrunk(*size)) / max(size)
    return min(factors) if preparation.fit == "pad" else max(factors)


def _turn_upright(image: Image.Image) -> bool:
    """Turn as the orientation tag says; True if that exchanges the sides.

    TIFF is turned while it loads, and `exif_transpose` then finds no tag.
    """
    image.load()
    try:
        exchanged = image.getexif().get(_ORIENTATION) in _ON_THEIR_SIDE
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged metadata, in as many ways, is no reason to lose sound pixels
        return False
    return exchanged


_ORIENTATION = 0x0112
_ON_THEIR_SIDE = (5, 6, 7, 8)

_WORKING_MODES = {
    "1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA",
    "RGBa": "RGBA", "YCbCr": "RGB", "CMYK": "CMYK",
}  # fmt: skip


def _plain(image: Image.Image) -> Image.Image:
    """The same picture in a mode that can be resampled: L, RGB or CMYK, or LA or RGBA where anything is transparent."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(((np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    mode = _WORKING_MODES.get(image.mode)
    if mode is None:
        raise _UnsupportedModeError(image.mode)
    if image.has_transparency_data and not mode.endswith("A"):
        mode += "A"
    return image if image.mode == mode else image.convert(mode)


def _fit(image: Image.Image, preparation: Preparation, upright: tuple[int, int]) -> tuple[Image.Image, tuple[int, int]]:
    """The resampled picture and where its top left corner goes; `upright`: its size before detail was skipped."""
    width, height = preparation.width, preparation.height
    if preparation.fit == "stretch":
        return image.resize((width, height), Image.Resampling.BICUBIC), (0, 0)
    if preparation.fit == "within":
        size, ground = preparation.shrunk(*upright), preparation.size(*upright)
        fitted = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
        return fitted, ((ground[0] - size[0]) // 2, (ground[1] - size[1]) // 2)
    scale = _scale(image.size, preparation)
    if preparation.fit == "crop":
        left, top = max(image.width - width / scale, 0) / 2, max(image.height - height / scale, 0) / 2
        box = (left, top, image.width - left, image.height - top)
        return image.resize((width, height), Image.Resampling.BICUBIC, box=box), (0, 0)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC), ((width - size[0]) // 2, (height - size[1]) // 2)


def _srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB without alpha, through the colour profile if there is one that fits the picture."""
    base = image.convert(image.mode[:-1]) if image.mode.endswith("A") else image
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            mode = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(source.profile.xcolor_space)
            if (base.mode, mode) == ("L", "RGB"):
                base = base.convert("RGB")
            if base.mode == mode:
                return _converted(base, source)
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a damaged profile is damaged metadata: the picture is read as if it had none
    return base.convert("RGB")


def _converted(base: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    target = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(base, source, target, outputMode="RGB")
    if converted is None:
        raise ValueError("the profile made no image")
    return converted


_BMP_HEADERS = tuple(struct.pack("<I", size) for size in (12, 40, 52, 56, 64, 108, 124))


def _is_avif(data: bytes) -> bool:
    brands = data[8:12] + data[16 : min(int.from_bytes(data[:4], "big"), 64)]
    return data[4:8] == b"ftyp" and (b"avif" in brands or b"avis" in brands)


_SIGNS: dict[str, Callable[[bytes], bool]] = {
    "JPEG": lambda data: data.startswith(b"\xff\xd8\xff"),
    "PNG": lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"),
    "WEBP": lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP",
    "GIF": lambda data: data[:6] in (b"GIF87a", b"GIF89a"),
    "BMP": lambda data: data[:2] == b"BM" and data[14:18] in _BMP_HEADERS,
    "TIFF": lambda data: data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "AVIF": _is_avif,
}
"""Pillow's name of each allowed format → is this how it begins?"""

_OTHERS = {
    b"%PDF": "a PDF", b"%!PS": "PostScript", b"\xc5\xd0\xd3\xc6": "PostScript", b"<": "HTML, SVG or other markup",
    b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "gzip data", b"SIMPLE  =": "FITS", b"8BPS": "a Photoshop file",
}  # fmt: skip


def _format(data: bytes) -> str | None:
    return next((name for name, begins in _SIGNS.items() if begins(data)), None)


def _guess(data: bytes) -> str:
    head = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[4:8] == b"ftyp":
        return f"a file of brand {head[8:12].decode('ascii', 'replace').strip()!r}"
    found = next((name for sign, name in _OTHERS.items() if head.startswith(sign)), None)
    return found or ("text" if all(32 <= byte < 127 or byte in b"\t\r\n\f" for byte in head) else "unknown data")


class _UnsupportedModeError(Exception):
    """Samples that no range is agreed for, such as 32-bit floating point."""


def _reason(name: str, data: bytes, error: Exception) -> Unprepared:
    message = "the header cannot be read" if isinstance(error, UnidentifiedImageError) else str(error)[:200]
    if isinstance(error, _UnsupportedModeError):
        return Unprepared("unsupported_format", f"a {name} whose samples are of kind {message!r}")
    if isinstance(error, Image.DecompressionBombError):
        return _too_many_pixels("more pixels")
    if isinstance(error, MemoryError) or message.startswith(("Decompressed data too large", "Too much memory used")):
        return Unprepared("too_large", f"a {name} that unpacks to more than is safe: {message or 'out of memory'}")
    if "truncat" in message.lower() or isinstance(error, EOFError) or _stops_early(name, data):
        return Unprepared("truncated", f"a {name} that stops early: {message}")
    return Unprepared("corrupt", f"a damaged {name}: {message}")


def _stops_early(name: str, data: bytes) -> bool:
    """For formats where Pillow does not say so itself: does the container announce more than there is?"""
    match name:
        case "JPEG":
            return b"\xff\xd9" not in data[-4096:]
        case "PNG":
            return b"IEND" not in data
        case "GIF":
            return not data.rstrip(b"\0").endswith(b";")
        case "WEBP":
            return len(data) < 12 or int.from_bytes(data[4:8], "little") + 8 > len(data)
        case "TIFF":
            return _directory_end(data) > len(data)
        case "AVIF":
            return _boxes_end(data) > len(data)
    return False


def _directory_end(data: bytes) -> int:
    """Where the first directory of a TIFF or BigTIFF ends, as it announces it."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    big = 43 in data[2:4]
    place = int.from_bytes(data[8:16] if big else data[4:8], order)
    entries = int.from_bytes(data[place : place + (8 if big else 2)], order)
    return place + (16 + 20 * entries if big else 6 + 12 * entries)


def _boxes_end(data: bytes) -> int:
    """Where the top-level boxes of an ISO base media file (ISO/IEC 14496-12) end, as they announce it."""
    place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if size == 1:
            size = int.from_bytes(data[place + 8 : place + 16], "big")
        if size < 8:  # 0: to the end of the file
            return len(data)
        place += size
    return place


def _too_many_bytes(count: int) -> Unprepared:
    return Unprepared("too_large", f"{count} bytes; the limit is {MAX_BYTES}")


def _too_many_pixels(what: str) -> Unprepared:
    return Unprepared("too_large", f"{what}; the limit is {MAX_PIXELS} pixels")


class _PillowQuiet:
    """Keeps in what Pillow would warn of (bombs, odd metadata): the outcome says it, and a warning may be an error.

    `warnings.catch_warnings` swaps state of the whole process, so of the threads that are inside together the first
    swaps and the last restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


_PILLOW_IS_QUIET = _PillowQuiet()
