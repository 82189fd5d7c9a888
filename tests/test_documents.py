from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError, validators

from workbench.canonical import binary32
from workbench.documents import (
    Range,
    Text,
    escape_pointer,
    from_document,
    json_schema,
    parse_json,
    to_document,
    write_whole,
)
from workbench.errors import DocumentError
from workbench.records import Digest, Name, Policy

HEX = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Part:
    name: Annotated[str, Text(r"^[a-z]+$")]
    weight: Annotated[float, Range(0.0, 1.0, binary32=True)] = 0.5


@dataclass(frozen=True)
class Thing:
    """Every kind of field at once."""

    text: str
    flag: bool
    count: Annotated[int, Range(-3, 3)]
    whole: int
    number: float
    open: Annotated[float, Range(0.0, 1.0, open_ends=True)]
    kind: Literal["a", "b"]
    part: Part
    parts: tuple[Part, ...]
    by_name: Mapping[str, Annotated[int, Range(0, 9)]]
    maybe: Annotated[float, Range(0.0, 1.0, binary32=True)] | None
    perhaps: Part | None = None
    tags: tuple[str, ...] = ()
    extra: Mapping[str, Part] = field(default_factory=dict)


THING = Thing(
    text="é\n",
    flag=True,
    count=-2,
    whole=7,
    number=2.5,
    open=0.25,
    kind="b",
    part=Part("x"),
    parts=(Part("y", binary32(0.72)), Part("z", 1.0)),
    by_name={"a/b": 1, "~": 9},
    maybe=None,
    perhaps=Part("w", 0.0),
    tags=("", "t"),
)


CHEAP = {
    get_args(Digest)[1]: st.binary(min_size=32, max_size=32).map(bytes.hex),
    get_args(Name)[1]: st.text(min_size=1, max_size=3),
}
"""What a regular expression could draw too, but slowly."""


def valid(hint: Any) -> st.SearchStrategy[Any]:
    """Whatever a field of this type may hold."""
    hint, rule = get_args(hint) if get_origin(hint) is Annotated else (hint, None)
    inner = [part for part in get_args(hint) if part is not type(None)]
    origin = get_origin(hint)
    if is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        return st.builds(hint, **{name: valid(kind) for name, kind in hints.items()})
    if origin is tuple:
        return st.lists(valid(inner[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(st.text(max_size=2), valid(inner[1]), max_size=2)
    if origin is Literal:
        return st.sampled_from(inner)
    if len(inner) == 1:
        return st.none() | valid(inner[0])
    if hint is str and rule in CHEAP:
        return CHEAP[rule]
    if isinstance(rule, Text):
        return st.from_regex(rule.pattern, fullmatch=True)
    if isinstance(rule, Range) and hint is float:
        return st.floats(
            rule.low,
            rule.high,
            exclude_min=rule.open_ends,
            exclude_max=rule.open_ends,
            width=32 if rule.binary32 else 64,
        )
    if isinstance(rule, Range):
        return st.integers(int(rule.low), int(rule.high))
    return {
        str: st.text(max_size=5),
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(allow_nan=False, allow_infinity=False),
    }[hint]


def ecma_pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    # in ECMA-262, which JSON Schema names, "$" is the end of the text; in Python also the place before a last newline
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


Validator = validators.extend(Draft202012Validator, {"pattern": ecma_pattern})
VALIDATORS = {kind: Validator(json_schema(kind, kind.__name__)) for kind in (Thing, Policy)}


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def at(document: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


ODD_VALUES = [
    *(None, True, False, 0, 1, -1, 2, 3, 4, -3, -4, 9, 10, 0.0, -0.0, 1.0, 0.5, 1.5, 3.0, 1e-45, 1.0000001, 0.9999999),
    *(1000, 1001, 1e6, 1000001, 2**53 - 1, 2**53, 10**300, 1e300),
    *("", "0.5", "true", "a", "b", "A", "x\n", "é", HEX, HEX.upper(), HEX + "\n", HEX[1:], "1.0", "1.01", "1.7", "2.0"),
    *("top", "human", "2026-11-23T17:00:00Z", "2026-11-23T17:00:00", "precision", "any", "ok", "unknown"),
    *([], {}, [[]], [{}], [1], ["x"], [None], {"name": "x"}, {"name": "x", "weight": 1}, {"": 0}, {"a": None}),
]
odd_values = st.one_of(
    st.sampled_from(ODD_VALUES),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
)


@st.composite
def mutated(draw: st.DrawFn, kind: type[Any]) -> Any:
    document = to_document(draw(valid(kind)))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(list(places(document))))
        if not path:
            continue
        parent, key = at(document, path[:-1]), path[-1]
        match draw(st.sampled_from(["replace", "replace", "drop", "add", "repeat"])):
            case "replace":
                parent[key] = draw(odd_values)
            case "drop":
                del parent[key]
            case "add" if isinstance(parent, dict):
                parent[draw(st.sampled_from(["more", "name", "weight", "", "a/b", "corrupt"]))] = draw(odd_values)
            case _ if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[key]))
    return document


def refusal(kind: type[Any], document: Any) -> DocumentError | None:
    try:
        from_document(kind, document)
    except DocumentError as error:
        return error
    return None


def check_agreement(kind: type[Any], document: Any) -> None:
    refused = refusal(kind, document)
    assert VALIDATORS[kind].is_valid(document) == (refused is None)
    if refused is None:
        record = from_document(kind, document)
        assert record == from_document(kind, parse_json(json.dumps(to_document(record))))
    elif refused.pointer:
        *parents, last = (token.replace("~1", "/").replace("~0", "~") for token in refused.pointer.split("/")[1:])
        holder = document
        for token in parents:
            holder = holder[int(token)] if isinstance(holder, list) else holder[token]
        assert "missing" in refused.message or (int(last) < len(holder) if isinstance(holder, list) else last in holder)


def test_every_odd_value_in_every_place_is_judged_alike() -> None:
    for path in places(to_document(THING)):
        for value in ODD_VALUES:
            document = to_document(THING)
            if path:
                at(document, path[:-1])[path[-1]] = value
            check_agreement(Thing, document if path else value)


def check_round_trip(kind: type[Any], record: Any) -> None:
    document = parse_json(json.dumps(to_document(record)))
    VALIDATORS[kind].validate(document)
    assert record == from_document(kind, document)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(Thing))
def test_reader_and_schema_agree_and_faults_have_a_place(document: Any) -> None:
    check_agreement(Thing, document)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(Policy))
def test_reader_and_schema_of_a_policy_agree(document: Any) -> None:
    check_agreement(Policy, document)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(valid(Thing))
def test_a_record_comes_back_and_its_document_is_valid(record: Thing) -> None:
    check_round_trip(Thing, record)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(valid(Policy))
def test_a_policy_comes_back_and_its_document_is_valid(record: Policy) -> None:
    check_round_trip(Policy, record)


def test_a_document_is_plain_json() -> None:
    document = to_document(THING)
    assert {"name": "y", "weight": 0.72} == document["parts"][0]
    assert {"a/b": 1, "~": 9} == document["by_name"]
    assert ["", "t"] == document["tags"]
    assert document["maybe"] is None


def test_defaults_fill_what_is_absent() -> None:
    document = to_document(THING)
    for key in ("perhaps", "tags", "extra"):
        del document[key]
    read = from_document(Thing, document)
    assert (None, (), {}) == (read.perhaps, read.tags, read.extra)


def test_binary32_fields_are_rounded_on_reading() -> None:
    assert binary32(0.72) == from_document(Part, {"name": "a", "weight": 0.72}).weight


def test_a_whole_number_may_be_written_as_a_float() -> None:
    read = from_document(Thing, to_document(THING) | {"count": 2.0, "number": 3})
    assert (2, int, 3.0, float) == (read.count, type(read.count), read.number, type(read.number))


@pytest.mark.parametrize(
    ("path", "value", "pointer", "message"),
    [
        (("parts", 1, "weight"), 1.5, "/parts/1/weight", "a number from 0 to 1"),
        (("parts", 1, "weight"), True, "/parts/1/weight", "a number"),
        (("parts", 1, "weight"), "0.5", "/parts/1/weight", 'a number, found "0.5"'),
        (("parts", 1, "weight"), math.nan, "/parts/1/weight", "NaN"),
        (("parts", 1, "nmae"), "x", "/parts/1/nmae", "unknown field; known here: name, weight"),
        (("parts",), {}, "/parts", "a list"),
        (("parts", 0), None, "/parts/0", "an object"),
        (("part", "name"), "x\n", "/part/name", "text like"),
        (("open",), 1, "/open", "a number between 0 and 1"),
        (("whole",), 0.5, "/whole", "a whole number"),
        (("count",), 4, "/count", "from -3 to 3"),
        (("flag",), 1, "/flag", "true or false"),
        (("kind",), "c", "/kind", "one of a, b"),
        (("kind",), ["a"], "/kind", "one of a, b"),
        (("maybe",), 2, "/maybe", "a number from 0 to 1"),
        (("tags", 1), 1, "/tags/1", "text"),
        (("by_name", "a/b"), "x", "/by_name/a~1b", "a number"),
        (("by_name", "~"), 10, "/by_name/~0", "from 0 to 9"),
        (("extra",), [], "/extra", "an object"),
    ],
)
def test_a_fault_is_told_with_its_place(path: tuple[str | int, ...], value: Any, pointer: str, message: str) -> None:
    document = to_document(THING)
    at(document, path[:-1])[path[-1]] = value
    with pytest.raises(DocumentError, match=re.escape(message)) as caught:
        from_document(Thing, document)
    assert pointer == caught.value.pointer


@pytest.mark.parametrize("path", [("text",), ("part", "name"), ("parts", 1, "name"), ("maybe",)])
def test_a_missing_field_is_named(path: tuple[str | int, ...]) -> None:
    document = to_document(THING)
    del at(document, path[:-1])[path[-1]]
    with pytest.raises(DocumentError, match="missing") as caught:
        from_document(Thing, document)
    assert "/" + "/".join(map(str, path)) == caught.value.pointer


def test_a_pointer_starts_where_the_reader_was_told() -> None:
    with pytest.raises(DocumentError, match="missing") as caught:
        from_document(Part, {}, "/items/3")
    assert "/items/3/name" == caught.value.pointer


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(DocumentError) as caught:
        from_document(Part, {"name": "A" * 10_000})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "pointer", "message"),
    [
        ('{"a": [1, NaN]}', "/a/1", "NaN is not a number"),
        ('{"a": {"b": -Infinity}}', "/a/b", "-Infinity is not a number"),
        ("Infinity", "", "Infinity is not a number"),
        ('[0, {"x": 1e400}]', "/1/x", "not a number that JSON knows"),
        ('{"a": -1e400}', "/a", "not a number that JSON knows"),
        (f'{{"a": 1{"0" * 400}}}', "/a", "beyond the range of a double"),
        ('{"a": 1, "b": 2, "a": 3}', "/a", "stands twice"),
        ('{"x": [{"p/q": 1, "p/q": 1}]}', "/x/0/p~1q", "stands twice"),
        ('{"a": {"b": ["\\ud800"]}}', "/a/b/0", "lone surrogate"),
        ('{"a": {"\\udfff": 1}}', "/a", "lone surrogate"),
        ('{"a": 1,}', "", "line 1, column"),
        ("", "", "not JSON"),
        ("\ufeff{}", "", "not JSON"),
        ("[" * 100_000, "", "nested too deeply"),
        ("1" * 10_000, "", "not JSON"),
    ],
)
def test_what_json_lets_slip_through_is_refused(text: str, pointer: str, message: str) -> None:
    with pytest.raises(DocumentError, match=re.escape(message)) as caught:
        parse_json(text)
    assert pointer == caught.value.pointer


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_sound_json_is_read_as_json_reads_it(value: Any) -> None:
    text = json.dumps(value)
    assert repr(json.loads(text)) == repr(parse_json(text))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(DocumentError):
        parse_json(text)


@pytest.mark.parametrize(("key", "token"), [("a", "a"), ("a/b", "a~1b"), ("~", "~0"), ("~1", "~01"), ("", "")])
def test_pointer_tokens_are_escaped(key: str, token: str) -> None:
    assert token == escape_pointer(key)


def test_each_record_is_defined_once() -> None:
    definitions = json_schema(Thing, "thing")["$defs"]
    assert {"Thing", "Part"} == set(definitions)
    assert definitions["Thing"]["additionalProperties"] is False


def test_a_file_is_written_whole_and_through_no_link_that_lies_in_its_folder(tmp_path: Path) -> None:
    other, target = tmp_path / "other.txt", tmp_path / "new" / "folder" / "out.json"
    other.write_text("precious")
    target.parent.mkdir(parents=True)
    (target.parent / "out.json.part").symlink_to(other)
    target.symlink_to(other)
    write_whole(b"content", target)
    assert ("precious", b"content") == (other.read_text(), target.read_bytes())
    assert not target.is_symlink()
    with pytest.raises(IsADirectoryError):
        write_whole(b"content", target.parent)
    assert {"out.json", "out.json.part"} == {path.name for path in target.parent.iterdir()}
    assert {"other.txt", "new"} == {path.name for path in tmp_path.iterdir()}
    assert {"folder"} == {path.name for path in target.parent.parent.iterdir()}
