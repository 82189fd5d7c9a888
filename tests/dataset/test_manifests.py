from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from laid_out import lay_out
from workbench.dataset.manifests import annotate_manifest, read_manifest
from workbench.dataset.paths import Tree
from workbench.dataset.rows import FIXED
from workbench.dataset.tables import read_table
from workbench.errors import DatasetError

CSV = 'image,label,note\r\na.jpg,cat,"two\nlines"\r\n\r\nb.jpg,dog,x\r\nc.jpg,dog'


def test_a_csv_copy_has_the_same_lines_and_a_column(tmp_path: Path) -> None:
    file = lay_out(tmp_path, {"m.csv": CSV}) / "m.csv"
    copy = annotate_manifest(file, {5: "label: 'a', \"b\"", 6: "fields"})

    assert tmp_path / "m.errors.csv" == copy
    expected = (
        'image,label,note,"workbench_error"\r\na.jpg,cat,"two\nlines",\r\n\r\n'
        'b.jpg,dog,x,"label: \'a\', ""b"""\r\nc.jpg,dog,"fields"'
    )
    assert expected.encode() == copy.read_bytes()
    assert CSV.encode() == file.read_bytes()


@pytest.mark.parametrize("message", ["a\nb", "a\rb", "a\r\nb", 'a,"b"'])
def test_a_message_adds_no_row(tmp_path: Path, message: str) -> None:
    for name, delimiter in (("m.csv", ","), ("n.csv", ";"), ("m.tsv", "\t")):
        file = lay_out(tmp_path, {name: delimiter.join(["image", "label\na.jpg", "cat\n"])}) / name
        table = read_table(annotate_manifest(file, {2: message}), name)
        assert ([message], []) == (table.columns["workbench_error"], table.problems)


def test_a_copy_can_be_mended_and_read_and_annotated_again(tmp_path: Path) -> None:
    file = lay_out(tmp_path, {"m.csv": "image,label\na.jpg,cat\n"}) / "m.csv"
    once = annotate_manifest(file, {2: "bad"})
    rows = read_manifest(once, once.name, Tree(tmp_path))
    twice = annotate_manifest(once, {2: "still bad"})

    assert [*FIXED] == list(rows.frame)
    expected = 'image,label,"workbench_error","workbench_error_2"\na.jpg,cat,"bad","still bad"\n'
    assert expected == twice.read_text()


def test_a_json_copy_has_the_same_lines_and_a_field(tmp_path: Path) -> None:
    lines = ['{"image": "a.jpg",  "label": "cat"}', '{"image": "b.jpg", "label": "é"} ', "", "{}", '{"image": ']
    file = lay_out(tmp_path, {"m.jsonl": "\n".join(lines)}) / "m.jsonl"
    copy = annotate_manifest(file, {2: "bad é", 4: "empty", 5: "cut"}).read_text(encoding="utf-8").split("\n")

    assert [lines[0], '{"image": "b.jpg", "label": "é", "workbench_error": "bad é"}', ""] == copy[:3]
    assert '{"workbench_error": "empty"}' == copy[3]
    assert {"workbench_error": "cut", "line": '{"image":'} == json.loads(copy[4])


def test_a_parquet_copy_has_a_column(tmp_path: Path) -> None:
    file = tmp_path / "m.parquet"
    pd.DataFrame({"image": ["a.jpg", "b.jpg"], "label": ["cat", "dog"]}).to_parquet(file)
    copy = annotate_manifest(file, {2: "bad"})

    assert [None, "bad"] == pd.read_parquet(copy)["workbench_error"].astype(object).where(
        lambda text: text.notna(), None
    ).tolist()


def test_no_file_that_is_there_is_touched(tmp_path: Path) -> None:
    file = lay_out(tmp_path, {"m.csv": "image,label\na.jpg,cat\n", "m.errors.csv": "mine"}) / "m.csv"
    first = annotate_manifest(file, {2: "bad"})
    again = annotate_manifest(file, {2: "bad"})
    other = annotate_manifest(file, {2: "worse"})

    assert ["m.errors-2.csv", "m.errors-2.csv", "m.errors-3.csv"] == [first.name, again.name, other.name]
    assert "mine" == (tmp_path / "m.errors.csv").read_text()


def test_the_copy_goes_where_it_is_wanted(tmp_path: Path) -> None:
    file = lay_out(tmp_path, {"data/m.csv": "image,label\na.jpg,cat\n", "out/": b""}) / "data/m.csv"

    assert tmp_path / "out" / "m.errors.csv" == annotate_manifest(file, {2: "bad"}, tmp_path / "out")
    assert [file] == list((tmp_path / "data").iterdir())


def test_where_nothing_can_be_written_it_goes_to_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = lay_out(tmp_path, {"m.csv": "image,label\na.jpg,cat\n", "tmp/": b""}) / "m.csv"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    copy = annotate_manifest(file, {2: "bad"}, Path("/proc/self"))  # no one, not even root, writes there

    assert copy.is_relative_to(tmp_path / "tmp")
    assert 'image,label,"workbench_error"\na.jpg,cat,"bad"\n' == copy.read_text()


def test_other_files_are_no_manifest(tmp_path: Path) -> None:
    file = lay_out(tmp_path, {"m.xlsx": b"PK"}) / "m.xlsx"

    with pytest.raises(DatasetError, match=r"\.csv, \.tsv, \.jsonl, \.ndjson, \.manifest, \.parquet, or a folder"):
        read_manifest(file, "m.xlsx", Tree(tmp_path))
