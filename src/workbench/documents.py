"""Frozen dataclasses as JSON documents: one description, from which reader, writer and JSON Schema follow.

A record's fields may be str, bool, int, float, Literal, another record, `tuple[X, ...]`, `Mapping[str, X]`,
`X | None`, and Annotated forms of these with `Range` or `Text`. Standard library only.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import sys
import types
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from workbench.canonical import binary32, shortest_binary32
from workbench.errors import DocumentError

Record = TypeVar("Record")


@dataclass(frozen=True)
class Range:
    """The values a number may take, ends included unless `open_ends`."""

    low: float
    high: float
    open_ends: bool = False
    binary32: bool = False
    """The number is a binary32, written with the fewest digits that give it back."""

    def __contains__(self, value: float) -> bool:
        return self.low < value < self.high if self.open_ends else self.low <= value <= self.high


@dataclass(frozen=True)
class Text:
    """The pattern that the whole text must match, anchored, in what ECMA-262 and Python read alike."""

    pattern: str


def parse_json(text: str) -> Any:
    """The value of a JSON text; raises DocumentError, with the place, for what JSON lets slip through.

    Refused: NaN and infinities, numbers beyond a double (1e400), a key given twice, lone surrogates, and text that is
    not JSON.
    """
    try:
        value = json.loads(text, object_pairs_hook=_pairs, parse_constant=_Constant)
        _refuse_slips(value, "")
    except json.JSONDecodeError as error:
        raise DocumentError("", f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise DocumentError("", "nested too deeply") from None
    except DocumentError:
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise DocumentError("", f"not JSON: {error}") from None
    return value


def to_document(record: Any) -> Any:
    """The record as what `json` writes: dict, list, str, int, float, bool, None."""
    return _write(type(record), record)


def write_document(document: Any, path: Path) -> None:
    """Write a document as a JSON file, whole or not at all."""
    write_whole((json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode(), path)


def write_whole(content: bytes, path: Path) -> None:
    """Write a file, and the folders above it, whole or not at all; through no link that lies in the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def from_document(record_type: type[Record], document: Any, pointer: str = "") -> Record:
    """The record that `document` describes. Raises DocumentError with the place of the first fault.

    Unknown and missing fields, wrong types (`true` for 1, "0.5" for 0.5) and values out of range are refused.
    """
    record: Record = _read(record_type, document, pointer)
    return record


def json_schema(record_type: type[Any], title: str) -> dict[str, Any]:
    """JSON Schema (2020-12) that accepts exactly the documents `from_document` accepts."""
    definitions: dict[str, Any] = {}
    root = _schema(record_type, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **root, "$defs": definitions}


def escape_pointer(key: str) -> str:
    """One token of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


class _Constant(str):
    """NaN, Infinity or -Infinity, as found in the text."""


class _Repeated(dict[str, Any]):
    """An object in which a key stands twice."""

    key: str


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    repeated = _Repeated(result)
    counts = Counter(name for name, _ in pairs)
    repeated.key = next(name for name in counts if counts[name] > 1)
    return repeated


def _refuse_slips(value: Any, pointer: str) -> None:
    if isinstance(value, _Repeated):
        raise DocumentError(f"{pointer}/{escape_pointer(value.key)}", "this key stands twice")
    if isinstance(value, _Constant) or (isinstance(value, float) and not math.isfinite(value)):
        raise DocumentError(pointer, f"{value} is not a number that JSON knows")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise DocumentError(pointer, "a number beyond the range of a double")
    if isinstance(value, str):
        _refuse_surrogates(value, pointer)
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_surrogates(key, pointer)
            _refuse_slips(item, f"{pointer}/{escape_pointer(key)}")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _refuse_slips(item, f"{pointer}/{position}")


def _refuse_surrogates(text: str, pointer: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DocumentError(pointer, "text with a lone surrogate") from None


@cache
def _hints(record_type: type[Any]) -> dict[str, Any]:
    return get_type_hints(record_type, include_extras=True)


@cache
def _required(record_type: type[Any]) -> frozenset[str]:
    return frozenset(
        field.name for field in fields(record_type) if field.default is MISSING and field.default_factory is MISSING
    )


def _split(hint: Any) -> tuple[Any, Any]:
    """(type, Range or Text or None) of a possibly Annotated hint."""
    if get_origin(hint) is Annotated:
        base, rule = get_args(hint)
        return base, rule
    return hint, None


def _optional(hint: Any) -> Any:
    """X of `X | None`, or None."""
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = (part for part in get_args(hint) if part is not type(None))
        return inner
    return None


def _write(hint: Any, value: Any) -> Any:
    hint, rule = _split(hint)
    inner = _optional(hint)
    if inner is not None:
        return None if value is None else _write(inner, value)
    if is_dataclass(hint):
        kinds = _hints(hint)  # type: ignore[arg-type]
        return {field.name: _write(kinds[field.name], getattr(value, field.name)) for field in fields(hint)}
    if get_origin(hint) is tuple:
        return [_write(get_args(hint)[0], item) for item in value]
    if get_origin(hint) is Mapping:
        return {str(key): _write(get_args(hint)[1], item) for key, item in value.items()}
    if hint is float:
        return shortest_binary32(value) if isinstance(rule, Range) and rule.binary32 else float(value)
    return value


def _read(hint: Any, value: Any, pointer: str) -> Any:
    hint, rule = _split(hint)
    inner = _optional(hint)
    if inner is not None:
        return None if value is None else _read(inner, value, pointer)
    if is_dataclass(hint):
        return _read_record(hint, value, pointer)
    origin = get_origin(hint)
    if origin is tuple:
        _expect(isinstance(value, list), pointer, "a list", value)
        return tuple(_read(get_args(hint)[0], item, f"{pointer}/{place}") for place, item in enumerate(value))
    if origin is Mapping:
        _expect(isinstance(value, dict), pointer, "an object", value)
        kind = get_args(hint)[1]
        return {key: _read(kind, item, f"{pointer}/{escape_pointer(key)}") for key, item in value.items()}
    if origin is Literal:
        choices = get_args(hint)
        _expect(isinstance(value, str) and value in choices, pointer, "one of " + ", ".join(choices), value)
        return value
    if hint is str:
        _expect(isinstance(value, str), pointer, "text", value)
        if isinstance(rule, Text):
            _expect(re.fullmatch(rule.pattern, value) is not None, pointer, f"text like {rule.pattern}", value)
        return value
    if hint is bool:
        _expect(isinstance(value, bool), pointer, "true or false", value)
        return value
    return _read_number(hint, rule, value, pointer)


def _read_number(hint: Any, rule: Range | None, value: Any, pointer: str) -> float:
    _expect(isinstance(value, int | float) and not isinstance(value, bool), pointer, "a number", value)
    if rule is not None:
        ends = "between" if rule.open_ends else "from"
        _expect(
            value in rule,
            pointer,
            f"a number {ends} {rule.low:g} {'and' if rule.open_ends else 'to'} {rule.high:g}",
            value,
        )
    if hint is int:
        _expect(isinstance(value, int) or value.is_integer(), pointer, "a whole number", value)
        return int(value)
    return binary32(value) if rule is not None and rule.binary32 else float(value)


def _read_record(record_type: Any, value: Any, pointer: str) -> Any:
    _expect(isinstance(value, dict), pointer, "an object", value)
    hints = _hints(record_type)
    for key in value:
        if key not in hints:
            known = ", ".join(hints)
            raise DocumentError(f"{pointer}/{escape_pointer(key)}", f"unknown field; known here: {known}")
    for key in hints:
        if key not in value and key in _required(record_type):
            raise DocumentError(f"{pointer}/{key}", "this field is missing")
    return record_type(**{key: _read(hints[key], item, f"{pointer}/{key}") for key, item in value.items()})


def _expect(holds: bool, pointer: str, wanted: str, value: Any) -> None:
    if not holds:
        shown = json.dumps(value, ensure_ascii=False)
        raise DocumentError(pointer, f"expected {wanted}, found {shown if len(shown) <= 60 else shown[:57] + '...'}")


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hint, rule = _split(hint)
    inner = _optional(hint)
    if inner is not None:
        return {"anyOf": [_schema(inner, definitions), {"type": "null"}]}
    if is_dataclass(hint):
        return _schema_record(hint, definitions)
    origin = get_origin(hint)
    if origin is tuple:
        return {"type": "array", "items": _schema(get_args(hint)[0], definitions)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _schema(get_args(hint)[1], definitions)}
    if origin is Literal:
        return {"enum": list(get_args(hint))}
    if hint is str:
        return {"type": "string", **({"pattern": rule.pattern} if isinstance(rule, Text) else {})}
    if hint is bool:
        return {"type": "boolean"}
    kind: dict[str, Any] = {"type": "integer" if hint is int else "number"}
    if isinstance(rule, Range):
        low, high = ("exclusiveMinimum", "exclusiveMaximum") if rule.open_ends else ("minimum", "maximum")
        kind |= {low: rule.low, high: rule.high}
    return kind


def _schema_record(record_type: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    name = record_type.__name__
    if name not in definitions:
        definitions[name] = {}
        definitions[name] |= {
            "type": "object",
            "properties": {key: _schema(hint, definitions) for key, hint in _hints(record_type).items()},
            "required": sorted(_required(record_type)),
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}
