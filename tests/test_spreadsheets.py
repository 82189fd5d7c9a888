from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.spreadsheets import FORMULA_STARTS, as_csv

SPECIAL = ("\r", "\n", "\r\n", '"', "'", ",", ";", "\t", *FORMULA_STARTS, " ", "a", "")
TEXT = st.lists(st.one_of(st.sampled_from(SPECIAL), st.text(st.characters(codec="utf-8")))).map("".join)
TABLE = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(TEXT, min_size=width, max_size=width), min_size=1))


def read(text: str, newline: str | None = "") -> list[list[str]]:
    """As a program does that opens the file: `newline=None` makes every kind of line end a line feed."""
    stream = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", newline=newline)
    return list(csv.reader(stream, strict=True))


def with_line_feeds(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row] for row in rows]


@pytest.mark.parametrize(
    "cell", ["a\r=1+1", "a\r\n=1+1", "a\n=1+1", "\r", 'a"b', 'a",=1+1,"', "a,b", "a;=1+1", "a\tb", ""]
)
def test_no_text_leaves_its_cell(cell: str) -> None:
    rows = [[cell, "b"], ["c", cell], [cell, cell]]
    text = as_csv(rows, defused=False)
    assert rows == read(text)
    assert with_line_feeds(rows) == read(text, newline=None)


@given(rows=TABLE)
def test_every_text_reads_back_whatever_counts_as_a_line_end(rows: list[list[str]]) -> None:
    text = as_csv(rows, defused=False)
    assert rows == read(text)
    assert with_line_feeds(rows) == read(text, newline=None)


@given(rows=TABLE)
def test_defused_texts_begin_like_no_formula_and_differ_by_an_apostrophe_alone(rows: list[list[str]]) -> None:
    text = as_csv(rows, defused=True)
    assert with_line_feeds(read(text)) == read(text, newline=None)
    for row, written in zip(rows, read(text), strict=True):
        for cell, found in zip(row, written, strict=True):
            assert not found.startswith(FORMULA_STARTS)
            assert ("'" + cell if cell.startswith(FORMULA_STARTS) else cell) == found


@given(cells=st.lists(st.lists(TEXT.filter(lambda text: "\0" not in text), min_size=2, max_size=2)))
def test_pandas_reads_the_same_texts(cells: list[list[str]]) -> None:
    file = io.BytesIO(as_csv([["first", "second"], *cells], defused=False).encode())
    found = pd.read_csv(file, dtype=str, keep_default_na=False)
    assert ["first", "second"] == list(found)
    assert cells == found.to_numpy().tolist()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_an_apostrophe_stands_before_a_formula_when_asked_for(start: str) -> None:
    assert [["'" + start + "1", "a" + start]] == read(as_csv([[start + "1", "a" + start]], defused=True))
    assert [[start + "1", "a" + start]] == read(as_csv([[start + "1", "a" + start]], defused=False))


def test_texts_are_quoted_and_numbers_are_not() -> None:
    rows: list[list[object]] = [
        ["name", "n"],
        ["a", -1],
        ["1", 0.25],
        ["", True],
        [None, np.float32(0.1)],
        [np.str_("=\r"), np.int64(-2)],
    ]
    expected = '"name","n"\n"a",-1\n"1",0.25\n"",True\n"",0.1\n"\'=\r",-2\n'
    assert expected == as_csv(rows, defused=True)


def test_any_other_thing_is_its_text(tmp_path: Path) -> None:
    thing = tmp_path / "a\r=1+1"
    assert [[str(thing), "(1, 2)"]] == read(as_csv([[thing, (1, 2)]], defused=True))


def test_an_empty_table_is_an_empty_file() -> None:
    assert "" == as_csv([], defused=True)
