"""One spelling for every value: canonical JSON (RFC 8785), SHA-256 digests, binary32 scores.

Two programs that hold the same value write the same bytes, so a digest names the value.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any

_MAX_EXACT_INTEGER = 2**53 - 1
_MAX_BINARY32_DIGITS = 9


def canonical_json(value: Any) -> bytes:
    """The RFC 8785 canonical form of `value`, as UTF-8.

    `value` is built from dict (text keys), list, tuple, str, int, float, bool and None.
    Raises ValueError for NaN, infinities, integers beyond 2**53 - 1 and lone surrogates,
    TypeError for anything else.
    """
    try:
        return "".join(_pieces(value)).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"text with a lone surrogate has no canonical form: {error.object!r}") from None


def digest(value: Any) -> str:
    """SHA-256, in hex, of the canonical form of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def binary32(value: float) -> float:
    """`value` rounded to the nearest binary32 (ties to even); infinities and NaN stay what they are.

    Raises OverflowError beyond the range of binary32.
    """
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@lru_cache(maxsize=65_536)
def shortest_binary32(value: float) -> float:
    """The decimal with the fewest digits that rounds to the same binary32, as a float that prints so.

    0.7200000286102295 (binary32 of 0.72) becomes 0.72. Raises ValueError if not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} has no decimal form")
    target = binary32(value)
    for digits in range(1, _MAX_BINARY32_DIGITS + 1):
        candidate = float(f"{target:.{digits}g}")
        if binary32(candidate) == target:
            return candidate
    raise AssertionError("nine digits always suffice for a binary32")


def _pieces(value: Any) -> Iterable[str]:
    if value is None or isinstance(value, bool):
        yield {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, str):
        yield encode_basestring(value)
    elif isinstance(value, int):
        if abs(value) > _MAX_EXACT_INTEGER:
            raise ValueError(f"integer {value} is not exact in JSON")
        yield str(value)
    elif isinstance(value, float):
        yield _number(value)
    elif isinstance(value, Mapping):
        yield "{"
        for position, key in enumerate(sorted(value, key=_utf16)):
            yield "," if position else ""
            yield encode_basestring(key) + ":"
            yield from _pieces(value[key])
        yield "}"
    elif isinstance(value, list | tuple):
        yield "["
        for position, item in enumerate(value):
            yield "," if position else ""
            yield from _pieces(item)
        yield "]"
    else:
        raise TypeError(f"{type(value).__name__} has no canonical form")


def _utf16(key: Any) -> bytes:
    if not isinstance(key, str):
        raise TypeError(f"a key must be text, not {type(key).__name__}")
    return key.encode("utf-16-be")


@lru_cache(maxsize=4096)
def _number(value: float) -> str:
    """ECMAScript's Number-to-string for a finite double (RFC 8785, section 3.2.2.3)."""
    if not math.isfinite(value):
        raise ValueError(f"{value} has no canonical form")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent_text = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent_text or 0)
    if whole == "0":
        point = int(exponent_text or 0) - (len(fraction) - len(fraction.lstrip("0")))
    stripped = digits.rstrip("0")
    count = len(stripped)
    if count <= point <= 21:
        return sign + stripped + "0" * (point - count)
    if 0 < point <= 21:
        return sign + stripped[:point] + "." + stripped[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + stripped
    exponent = point - 1
    head = stripped[0] + ("." + stripped[1:] if count > 1 else "")
    return f"{sign}{head}e{'+' if exponent > 0 else '-'}{abs(exponent)}"
