"""One manifest file of any form as rows, and its annotated copy when too much of it is wrong."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.dataset.groundtruth import bucket_of, is_groundtruth, plain_record
from workbench.dataset.paths import Refusal, Tree
from workbench.dataset.problems import Problem
from workbench.dataset.rows import Rows
from workbench.dataset.tables import (
    ERROR_COLUMN,
    JSON_LINES,
    PARQUET,
    SUFFIXES,
    TEXT_TABLES,
    csv_delimiter,
    csv_lines,
    csv_records,
    read_json_records,
    read_table,
    read_text,
    records_table,
    table_rows,
)
from workbench.errors import DatasetError
from workbench.spreadsheets import as_csv


def read_manifest(file: Path, shown: str, tree: Tree) -> Rows:
    """The rows of a CSV, TSV, Parquet, JSON lines or Ground Truth file; `shown` is what its problems call it.

    Raises DatasetError if the file cannot be read at all or has no image column.
    """
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise DatasetError(f"{file}: not a manifest this reads; wanted {', '.join(SUFFIXES)}, or a folder")
    if suffix not in JSON_LINES:
        return table_rows(read_table(file, shown), shown)
    records, lines, problems = read_json_records(file, shown)
    if is_groundtruth(records):
        records, refused = _plain_records(records, [f"{shown}:{line}" for line in lines], tree)
        problems += refused
    return table_rows(records_table(file, records, lines, problems), shown)


def annotate_manifest(file: Path, faults: Mapping[int, str], folder: Path | None = None) -> Path:
    """Write a copy of the manifest in which each line of `faults` carries its message, and say where it is.

    The copy stands beside the original, or in `folder`, or in a temporary folder where neither can be written.
    No file that is already there is touched. The added column or field is ERROR_COLUMN; it is not read back.
    """
    suffix = file.suffix.lower()
    if suffix == PARQUET:
        content = _annotated_parquet(file, faults)
    else:
        text = read_text(file)
        content = (
            _annotated_csv(text, faults, file) if suffix in TEXT_TABLES else _annotated_json(text, faults)
        ).encode()
    return _write_beside(file, folder or file.parent, content)


def _plain_records(
    records: list[dict[str, Any]], places: list[str], tree: Tree
) -> tuple[list[dict[str, Any]], list[Problem]]:
    bucket = bucket_of(records)
    plain: list[dict[str, Any]] = []
    problems = []
    for row, record in enumerate(records):
        read = plain_record(record, tree, bucket) if record else {}
        if isinstance(read, Refusal):
            problems.append(Problem(places[row], read.code, read.message, row=row))
        plain.append({"image": ""} if isinstance(read, Refusal) else read)
    return plain, problems


def _annotated_csv(text: str, faults: Mapping[int, str], file: Path) -> str:
    lines = csv_lines(text)
    header = next((line for line in lines if line.strip()), "")
    delimiter = csv_delimiter(header, TEXT_TABLES[file.suffix.lower()])
    pieces, done = [], 0
    for number, record in enumerate(csv_records(lines, delimiter, file)):
        addition = faults.get(record.first, "") if number else _free_name(header)
        body = "".join(lines[done : record.last])
        bare = body.rstrip("\r\n")
        pieces.append(bare + delimiter + _csv_field(addition) + body[len(bare) :])
        done = record.last
    return "".join(pieces)


def _csv_field(text: str) -> str:
    """In quotes, so that it holds whatever the delimiter."""
    return as_csv([[text]], defused=False).removesuffix("\n") if text else ""


def _free_name(present: str) -> str:
    """A name for the added column that the header or line does not hold yet (a copy may be annotated again)."""
    name, number = ERROR_COLUMN, 1
    while name in present:
        number += 1
        name = f"{ERROR_COLUMN}_{number}"
    return name


def _annotated_json(text: str, faults: Mapping[int, str]) -> str:
    lines = text.split("\n")
    for number, message in faults.items():
        line = lines[number - 1].rstrip()
        key, told = json.dumps(_free_name(line)), json.dumps(message, ensure_ascii=False)
        if line.startswith("{") and line.endswith("}"):
            comma = "" if line[1:-1].strip() == "" else ", "
            lines[number - 1] = f"{line[:-1]}{comma}{key}: {told}}}"
        else:
            lines[number - 1] = f'{{{key}: {told}, "line": {json.dumps(line, ensure_ascii=False)}}}'
    return "\n".join(lines)


def _annotated_parquet(file: Path, faults: Mapping[int, str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    errors = pa.array([faults.get(row) for row in range(1, table.num_rows + 1)], type=pa.string())
    sink = pa.BufferOutputStream()
    pq.write_table(table.append_column(_free_name(" ".join(table.column_names)), errors), sink)
    return bytes(sink.getvalue().to_pybytes())


def _write_beside(file: Path, folder: Path, content: bytes) -> Path:
    try:
        return _write_new(_free_paths(folder, file), content)
    except OSError:
        return _write_new(_free_paths(Path(tempfile.mkdtemp(prefix="workbench-")), file), content)


def _free_paths(folder: Path, file: Path) -> Iterator[Path]:
    yield folder / f"{file.stem}.errors{file.suffix}"
    number = 1
    while True:
        number += 1
        yield folder / f"{file.stem}.errors-{number}{file.suffix}"


def _write_new(paths: Iterator[Path], content: bytes) -> Path:
    """Write to the first path that is free, or that already holds just this."""
    for path in paths:
        try:
            with path.open("xb") as stream:
                stream.write(content)
        except FileExistsError:
            if path.is_file() and path.read_bytes() == content:
                return path
        else:
            return path
    raise AssertionError("there is always another path")
