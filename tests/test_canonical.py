from __future__ import annotations

import hashlib
import math
import struct

import numpy as np
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.canonical import binary32, canonical_json, digest, shortest_binary32

EXACT = 2**53 - 1

doubles = st.floats(allow_nan=False, allow_infinity=False)
scores_and_limits = st.floats(0, 1e6, width=32)
scalars = st.none() | st.booleans() | st.integers(-EXACT, EXACT) | doubles | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@settings(deadline=None)
@given(values)
def test_equals_the_reference_on_any_value(value: object) -> None:
    assert rfc8785.dumps(value) == canonical_json(value)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.binary(min_size=8, max_size=8))
def test_equals_the_reference_on_every_double(data: bytes) -> None:
    (value,) = struct.unpack("<d", data)
    if math.isfinite(value):
        assert rfc8785.dumps(value) == canonical_json(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [  # RFC 8785, appendix B
        (0.0, "0"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (-1.7976931348623157e308, "-1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (1e23, "1e+23"),
        (999999999999999700000.0, "999999999999999700000"),
        (999999999999999900000.0, "999999999999999900000"),
        (1e21, "1e+21"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (0.000001, "0.000001"),
        (333333333.3333332, "333333333.3333332"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"),
        (1424953923781206.2, "1424953923781206.2"),
    ],
)
def test_numbers_of_the_standard(value: float, expected: str) -> None:
    assert expected == canonical_json(value).decode()


def test_keys_are_sorted_by_utf16_units() -> None:
    # as in RFC 8785, section 3.2.3: the emoji's surrogates sort below U+FB33, its code point above
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\u00f6"]
    expected = '{"\\r":0,"1":0,"\x80":0,"\u00f6":0,"\u20ac":0,"\U0001f600":0,"\ufb33":0}'
    assert expected == canonical_json(dict.fromkeys(keys, 0)).decode()


def test_tuples_are_lists() -> None:
    assert b'[[1],"a"]' == canonical_json(((1,), "a"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**53, -(2**53), "\ud800", {"\udfff": 1}, ["\ud800"]])
def test_what_has_no_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"canonical form|exact in JSON"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: 2}, {1, 2}, b"bytes", object(), [np.float32(0.5)]])
def test_what_is_not_json_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_digest_is_sha256_of_the_form_whatever_the_order() -> None:
    expected = hashlib.sha256(b'{"a":[1,true,null],"b":0.5}').hexdigest()
    assert expected == digest({"b": 0.5, "a": (1, True, None)})
    assert expected == digest({"a": [1, True, None], "b": 0.5})


@settings(deadline=None)
@given(doubles.filter(lambda value: abs(value) <= 3.4e38))
def test_binary32_rounds_as_numpy(value: float) -> None:
    assert float(np.float32(value)) == binary32(value)


def test_binary32_keeps_what_is_not_finite() -> None:
    assert -math.inf == binary32(-math.inf)
    assert math.isnan(binary32(math.nan))
    with pytest.raises(OverflowError):
        binary32(1e39)


@settings(deadline=None)
@given(scores_and_limits)
def test_the_shortest_decimal_gives_the_score_back(value: float) -> None:
    assert value == binary32(shortest_binary32(value))


@settings(deadline=None)
@given(scores_and_limits.filter(lambda value: math.frexp(value)[0] != 0.5))
def test_the_shortest_decimal_is_numpys(value: float) -> None:
    # a power of two has a narrower gap below it, where numpy may take a digit less that is further off
    assert float(np.format_float_scientific(np.float32(value))) == shortest_binary32(value)


def test_a_threshold_is_written_as_it_was_meant() -> None:
    assert "0.72" == repr(shortest_binary32(binary32(0.72)))
    with pytest.raises(ValueError, match="no decimal form"):
        shortest_binary32(-math.inf)
