"""Manifests as tables: CSV, TSV, Parquet and JSON lines. Everything text is text; no type is guessed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.dataset.images import COLUMNS
from workbench.dataset.problems import Problem
from workbench.dataset.rows import FIXED, RawLabels, Rows, rows_frame
from workbench.documents import parse_json
from workbench.errors import DatasetError, DocumentError

ALIASES: Mapping[str, tuple[str, ...]] = {
    "path": ("image", "path", "file_name", "filename", "file_path", "filepath", "image_path", "file", "image_id"),
    "labels": ("label", "labels", "category", "categories", "class", "classes", "class_name"),
    "split": ("split",),
    "group": ("group",),
    "weight": ("weight",),
    "inclusion_probability": ("inclusion_probability", "inclusion"),
    "source": ("source",),
}
"""What a column may be called, first match wins; case, blanks around it, `-` and blanks for `_` do not matter."""

ERROR_COLUMN = "workbench_error"
"""The column of annotated copies; not read back."""

TEXT_TABLES = {".csv": ",;\t", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".manifest")
PARQUET = ".parquet"
SUFFIXES = (*TEXT_TABLES, *JSON_LINES, PARQUET)

csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Table:
    """The rows of one manifest, as written."""

    file: Path
    columns: dict[str, list[Any]]
    """Header → one value per row: text in CSV, JSON values elsewhere; None where a row could not be read."""
    lines: list[int]
    """Where each row starts, from 1; in Parquet the number of the row."""
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class CsvRecord:
    """One record of a CSV file."""

    first: int
    """Line it starts on, from 1."""
    last: int
    fields: list[str]
    fault: str = ""
    """Why it cannot be read; empty if it can."""


def read_table(file: Path, shown: str) -> Table:
    """The CSV, TSV or Parquet file as a table; `shown` is what its problems call it.

    Raises DatasetError if it cannot be read at all: no such file, no text, an open quote, a header that stands twice.
    """
    return _read_parquet(file) if file.suffix.lower() == PARQUET else _read_csv(file, shown)


def read_text(file: Path) -> str:
    """The file as text: UTF-8, with or without a byte order mark, or UTF-16 with one. Raises DatasetError."""
    try:
        data = file.read_bytes()
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"{file}:{line}: not UTF-8; save the file as UTF-8") from None


def csv_lines(text: str) -> list[str]:
    """The physical lines, each with its end."""
    return list(io.StringIO(text, newline=""))


def csv_delimiter(header: str, allowed: str) -> str:
    """The one that makes out an image column in the header line; the first of `allowed` if none does."""
    for delimiter in allowed:
        names = next(csv.reader([header], delimiter=delimiter), [])
        if find_column("path", names) is not None:
            return delimiter
    return allowed[0]


def csv_records(lines: Sequence[str], delimiter: str, file: Path) -> Iterator[CsvRecord]:
    """The records with the lines they stand on; blank lines are left out. Raises DatasetError for an open quote."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise DatasetError(f"{file}:{first}: a quote is opened here and never closed") from None
            yield CsvRecord(first, reader.line_num, [], str(error))
        else:
            if fields:
                yield CsvRecord(first, reader.line_num, fields)


def find_column(role: str, headers: Iterable[str]) -> str | None:
    """The header that plays this role (a key of ALIASES), or None."""
    spelled: dict[str, str] = {}
    for header in headers:
        spelled.setdefault(header.strip().lower().replace("-", "_").replace(" ", "_"), header)
    aliases = [*ALIASES[role], *(name for name in spelled if role == "path" and name.endswith("_file_name"))]
    return next((spelled[alias] for alias in aliases if alias in spelled), None)


def table_rows(table: Table, shown: str) -> Rows:
    """The table in the common form. Raises DatasetError if it has no image column."""
    roles = {role: find_column(role, table.columns) for role in ALIASES}
    if roles["path"] is None:
        found = ", ".join(map(repr, table.columns)) or "none"
        wanted = ", ".join(ALIASES["path"])
        raise DatasetError(f"{table.file}: no column for the image ({wanted}); its columns: {found}")
    places = [f"{shown}:{line}" for line in table.lines]
    problems = list(table.problems)
    columns: dict[str, list[Any]] = {"place": places}
    for role, header in roles.items():
        values = table.columns[header] if header else [None] * len(places)
        convert = _LABELS[table.file.suffix.lower()] if role == "labels" else _text
        columns[role], wrong = _converted(values, convert)
        problems += [Problem(places[row], f"{role}_type", f"{header}: {why}", row=row) for row, why in wrong]
    if roles["labels"] is None:
        told = f"no column for labels ({', '.join(ALIASES['labels'])}): every image counts as not labelled"
        problems.append(Problem(f"{shown}:1", "no_labels", told, refused=False))
    for header in table.columns:
        if header in roles.values() or header.startswith(ERROR_COLUMN):
            continue
        name = f"{header.strip()} (column)" if header.strip() in _TAKEN else header.strip()
        if name != header.strip():
            told = f"column {header!r} is called {name!r}, since the workbench has a column of that name"
            problems.append(Problem(f"{shown}:1", "column_renamed", told, refused=False))
        columns[name] = [value if isinstance(value, str) else _written(value) for value in table.columns[header]]
    return Rows(rows_frame(columns), problems, ((table.file, table.lines),))


def _converted(values: Sequence[Any], convert: Callable[[Any], Any]) -> tuple[list[Any], list[tuple[int, str]]]:
    """The converted values, that of None where it fails, and the rows that failed with the reason."""
    result, wrong = [], []
    for row, value in enumerate(values):
        try:
            result.append(convert(value))
        except TypeError as error:
            result.append(convert(None))
            wrong.append((row, str(error)))
    return result, wrong


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"must be text, not {_written(value)[:80]}")


def _name(value: Any) -> str:
    """One label: text, or a whole number as its digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"a label must be text, not {_written(value)[:80]}")


@lru_cache(maxsize=65_536)
def _cell_labels(cell: str | None) -> RawLabels:
    """Of a text cell, where `|` stands between several labels and nothing means not labelled."""
    return tuple(cell.split("|")) if cell and cell.strip() else None


def _value_labels(value: Any) -> RawLabels:
    """Of a JSON or Parquet value: text, a whole number, or a list of them; an empty list is none of the categories."""
    if value is None or value == "":
        return None
    return tuple(_name(item) for item in value) if isinstance(value, list) else (_name(value),)


def _written(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)


_LABELS: Mapping[str, Callable[[Any], RawLabels]] = {
    **dict.fromkeys(TEXT_TABLES, _cell_labels),
    **dict.fromkeys((*JSON_LINES, PARQUET), _value_labels),
}
_TAKEN = frozenset((*COLUMNS, *FIXED))


def _read_csv(file: Path, shown: str) -> Table:
    lines = csv_lines(read_text(file))
    header_line = next((line for line in lines if line.strip()), "")
    records = csv_records(lines, csv_delimiter(header_line, TEXT_TABLES[file.suffix.lower()]), file)
    header = next(records, CsvRecord(1, 1, []))
    names = _headers(header.fields, file)
    starts, problems, cells = [], [], []
    blank = [""] * len(names)
    for row, record in enumerate(records):
        fault = record.fault
        if not fault and len(record.fields) != len(names):
            fault = f"{len(record.fields)} fields where the header has {len(names)}"
        if fault:
            problems.append(Problem(f"{shown}:{record.first}", "row_unreadable", fault, row=row))
        starts.append(record.first)
        cells.append(blank if fault else record.fields)
    columns = [list(column) for column in zip(*cells, strict=True)] or [[] for _ in names]
    return Table(file, dict(zip(names, columns, strict=True)), starts, problems)


def _headers(fields: Sequence[str], file: Path) -> list[str]:
    """The header's names; a nameless one, as an exported index has, is called after its place."""
    names = [name if name.strip() else f"column {place}" for place, name in enumerate(fields, start=1)]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise DatasetError(f"{file}:1: the column {repeated!r} stands twice; rename one")
    return names


def read_json_records(file: Path, shown: str) -> tuple[list[dict[str, Any]], list[int], list[Problem]]:
    """One object per line that is not blank, empty where it cannot be read; the lines; what was wrong with them."""
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    problems = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
            fault = "" if isinstance(record, dict) else "a JSON object is wanted"
        except DocumentError as error:
            fault = error.message if not error.pointer else str(error)
        if fault:
            problems.append(Problem(f"{shown}:{number}", "row_unreadable", fault, row=len(records)))
        records.append({} if fault else record)
        lines.append(number)
    return records, lines, problems


def records_table(file: Path, records: Sequence[Mapping[str, Any]], lines: list[int], problems: list[Problem]) -> Table:
    """Records as a table whose columns are all the keys that occur."""
    keys = dict.fromkeys(key for record in records for key in record)
    return Table(file, {key: [record.get(key) for record in records] for key in keys}, lines, problems)


def _read_parquet(file: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{file}: cannot be read as Parquet: {error}") from None
    _headers(arrow.column_names, file)
    columns = {name: arrow.column(name).to_pylist() for name in arrow.column_names}
    return Table(file, columns, list(range(1, arrow.num_rows + 1)))
