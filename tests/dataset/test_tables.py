from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from laid_out import lay_out
from workbench.dataset.rows import FIXED, Rows
from workbench.dataset.tables import find_column, read_json_records, read_table, read_text, records_table, table_rows
from workbench.errors import DatasetError


def read(folder: Path, name: str, content: str | bytes) -> Rows:
    return table_rows(read_table(lay_out(folder, {name: content}) / name, name), name)


def told(rows: Rows) -> list[tuple[str, str, int | None]]:
    return [(problem.place, problem.code, problem.row) for problem in rows.problems]


def test_every_cell_of_a_csv_is_text(tmp_path: Path) -> None:
    rows = read(tmp_path, "m.csv", "image,label,shop\nNA,null,001\n1.0,True,\n")

    assert ["NA", "1.0"] == rows.frame["path"].tolist()
    assert [("null",), ("True",)] == rows.frame["labels"].tolist()
    assert ["001", ""] == rows.frame["shop"].tolist()
    assert [] == rows.problems


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_belongs_to_no_header(tmp_path: Path, encoding: str) -> None:
    rows = read(tmp_path, "m.csv", "image,label\né.jpg,café\n".encode(encoding))

    assert [["é.jpg"], [("café",)]] == [rows.frame["path"].tolist(), rows.frame["labels"].tolist()]


def test_text_in_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"m\.csv:3: not UTF-8"):
        read(tmp_path, "m.csv", b"image,label\na.jpg,cat\nb.jpg,caf\xe9\n")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", "image;label\na,b.jpg;cat|dog\n"),
        ("m.tsv", "image\tlabel\na,b.jpg\tcat|dog\n"),
        ("m.CSV", "label;image\ncat|dog;a,b.jpg"),
    ],
)
def test_the_delimiter_is_what_shows_the_image_column(tmp_path: Path, name: str, content: str) -> None:
    rows = read(tmp_path, name, content)

    assert ["a,b.jpg"] == rows.frame["path"].tolist()
    assert [("cat", "dog")] == rows.frame["labels"].tolist()


def test_rows_keep_the_line_they_start_on(tmp_path: Path) -> None:
    content = (
        'image,label,note\r\n\r\na.jpg,cat,"two\nlines"\r\nb.jpg,dog,\r\nc.jpg,cat\r\nd.jpg,cat,"x"y\r\ne.jpg,cat,z\r\n'
    )

    rows = read(tmp_path, "m.csv", content)

    assert ["m.csv:3", "m.csv:5", "m.csv:6", "m.csv:7", "m.csv:8"] == rows.frame["place"].tolist()
    assert [("m.csv:6", "row_unreadable", 2), ("m.csv:7", "row_unreadable", 3)] == told(rows)
    assert "2 fields where the header has 3" == rows.problems[0].message
    assert "two\nlines" == rows.frame["note"].iloc[0]


def test_a_quote_that_is_never_closed_stops_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"m\.csv:3: a quote is opened here"):
        read(tmp_path, "m.csv", 'image,label\na.jpg,cat\nb.jpg,"dog\nc.jpg,cat\n')


@pytest.mark.parametrize(
    ("header", "message"),
    [("image,label,label", "'label' stands twice"), ("id,label", "no column for the image"), ("", "no column")],
)
def test_a_header_that_does_not_say_enough_is_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, "m.csv", f"{header}\na,b,c\n")


@pytest.mark.parametrize(
    ("role", "headers", "found"),
    [
        ("path", ["label", "Image"], "Image"),
        ("path", ["image_id", "path"], "path"),
        ("path", ["File Name"], "File Name"),
        ("path", ["front_file_name"], "front_file_name"),
        ("labels", ["class", "label"], "label"),
        ("labels", [" Category "], " Category "),
        ("split", ["label"], None),
    ],
)
def test_columns_are_found_by_their_usual_names(role: str, headers: list[str], found: str | None) -> None:
    assert found == find_column(role, headers)


def test_other_columns_are_kept_and_give_way_to_the_workbench(tmp_path: Path) -> None:
    rows = read(tmp_path, "m.csv", ",image,label,image_id,workbench_error,colour\n0,a.jpg,cat,17,old,red\n")

    assert {"column 1": "0", "image_id (column)": "17", "colour": "red"} == rows.frame.drop(columns=list(FIXED)).iloc[
        0
    ].to_dict()
    assert [("m.csv:1", "column_renamed", None)] == told(rows)


def test_a_table_without_labels_says_so(tmp_path: Path) -> None:
    rows = read(tmp_path, "m.csv", "image,lable\na.jpg,cat\n")

    assert [None] == rows.frame["labels"].tolist()
    assert [("m.csv:1", "no_labels", None)] == told(rows)


def test_parquet_values_become_text_and_lists_become_labels(tmp_path: Path) -> None:
    columns = {
        "path": ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"],
        "labels": [["cat", "dog"], [], None, [3], [1.5]],
        "weight": [1.0, 2.5, 1.0, 1.0, 1.0],
        "shots": [1, 2, 3, 4, 5],
    }
    pd.DataFrame(columns).astype({"labels": object}).iloc[:3].to_parquet(tmp_path / "m.parquet")
    numbers = pd.DataFrame({"path": ["d.jpg"], "label": [3]})
    numbers.to_parquet(tmp_path / "numbers.parquet")
    rows = table_rows(read_table(tmp_path / "m.parquet", "m.parquet"), "m.parquet")
    numbered = table_rows(read_table(tmp_path / "numbers.parquet", "numbers.parquet"), "numbers.parquet")

    assert [("cat", "dog"), (), None] == rows.frame["labels"].tolist()
    assert ["m.parquet:1", "m.parquet:2", "m.parquet:3"] == rows.frame["place"].tolist()
    assert ["1.0", "2.5", "1.0"] == rows.frame["weight"].tolist()
    assert ["1", "2", "3"] == rows.frame["shots"].tolist()
    assert [("3",)] == numbered.frame["labels"].tolist()


def test_parquet_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read as Parquet"):
        read(tmp_path, "m.parquet", b"image,label\n")


def test_json_lines_with_their_faults(tmp_path: Path) -> None:
    lines = [
        '{"image": "a.jpg", "label": "cat|dog", "shop": 1}',
        "",
        '{"image": "b.jpg", "label": ["cat", "dog"], "shop": {"x": 1}}',
        '{"image": "c.jpg", "label": true}',
        '{"image": "d.jpg", "label": "cat", "label": "dog"}',
        '{"image": "e.jpg", "label": "cat"',
        '["f.jpg", "cat"]',
        '{"image": {"bytes": "x"}, "label": 7}',
        '{"image": "g.jpg\u2028", "label": null, "weight": NaN}',
    ]  # fmt: skip
    file = lay_out(tmp_path, {"m.jsonl": "\n".join(lines)}) / "m.jsonl"
    records, numbers, problems = read_json_records(file, "m.jsonl")
    rows = table_rows(records_table(file, records, numbers, problems), "m.jsonl")

    assert [1, 3, 4, 5, 6, 7, 8, 9] == numbers
    assert [("cat|dog",), ("cat", "dog"), None, None, None, None, ("7",), None] == rows.frame["labels"].tolist()
    assert ["1", '{"x": 1}'] == rows.frame["shop"].tolist()[:2]
    assert [
        ("m.jsonl:4", "labels_type", 2),
        ("m.jsonl:5", "row_unreadable", 3),
        ("m.jsonl:6", "row_unreadable", 4),
        ("m.jsonl:7", "row_unreadable", 5),
        ("m.jsonl:8", "path_type", 6),
        ("m.jsonl:9", "row_unreadable", 7),
    ] == sorted(told(rows))


def test_a_file_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_text(tmp_path)
