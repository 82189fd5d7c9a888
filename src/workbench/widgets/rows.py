"""The gallery's rows, without a browser: filtered, sorted, selected, labelled, exported."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from workbench.canonical import shortest_binary32
from workbench.documents import write_whole
from workbench.errors import InputError
from workbench.records import Taxonomy
from workbench.spreadsheets import as_csv
from workbench.widgets.history import History

LABEL, NOTE = "gallery_label", "gallery_note"
"""The columns that `frame` and exports add."""

EXPORT_SUFFIXES = (".csv", ".jsonl")

MOST_CHOICES = 24
"""A column of texts with at most so many different ones is filtered by choice."""

MOST_NOTE = 2000
"""Characters."""

MOST_CELL = 300
"""Characters that a tile is given of a cell; a column of longer texts is found by the query alone."""

Kind = Literal["number", "choice", "text"]
Which = Literal["shown", "selected", "all"]


@dataclass(frozen=True)
class Mark:
    """What somebody said about one image, looking at it; "" where they said nothing."""

    label: str = ""
    note: str = ""


_BLANK = Mark()


@dataclass(frozen=True)
class Column:
    """How one column is filtered."""

    name: str
    kind: Kind
    choices: Mapping[str, int]
    """Of a choice: each text and how many rows hold it, in order of spelling; "" is no value."""
    low: float | None
    """Of a number: the least finite one, None if there is none."""
    high: float | None


class Rows:
    """Rows that are filtered, sorted, selected and labelled; neither the frame nor any data set ever changes.

    rows      image_id (text, unique) and any further columns
    taxonomy  whose categories, and word for unknown, are the labels

    A place is a row's number among the rows shown, from 0. What is selected stays so when a filter hides it.
    Raises InputError for rows without an image_id, for one that is no text or stands twice, and for two columns of one
    name.
    """

    def __init__(self, rows: pd.DataFrame, taxonomy: Taxonomy) -> None:
        self._frame = _checked(rows)
        self.taxonomy = taxonomy
        self.columns: Mapping[str, Column] = {
            str(name): _describe_column(str(name), column, self.texts(str(name)))
            for name, column in self._frame.items()
            if name != "image_id"
        }
        self.query = ""
        self.choices: dict[str, frozenset[str]] = {}
        self.ranges: dict[str, tuple[float | None, float | None]] = {}
        self.sorted_by: tuple[str, bool] | None = None
        """The column, and whether upwards; None: as the rows came."""
        self.view = 0
        """Counts every change of the rows shown or of their order, so that a place of an older one is known as such."""
        self.is_selected = np.zeros(len(self), dtype=bool)
        self._marks: dict[int, Mark] = {}
        self.history = History[Mapping[int, tuple[Mark, Mark]]]()
        """Of labellings: row → (before, after)."""
        self._written: dict[Path, str] = {}
        self._sorted = np.arange(len(self))
        self.shown = self._sorted
        """(m,) int: the rows that pass the filters, in order."""

    def __len__(self) -> int:
        return len(self._frame)

    @cached_property
    def ids(self) -> np.ndarray:
        """(n,) str objects: the image of each row."""
        return self._frame["image_id"].to_numpy(dtype=object)

    def texts(self, name: str) -> list[str]:
        """Every row's cell as text; "" for no value."""
        if name not in self._texts:
            self._texts[name] = [_unicode(cell_text(value)) for value in self._frame[name]]
        return self._texts[name]

    def numbers(self, name: str) -> np.ndarray:
        """(n,) float64: every row's cell of a column of numbers; NaN for no value."""
        if name not in self._numbers:
            self._numbers[name] = _numbers(self._frame[name])
        return self._numbers[name]

    @cached_property
    def _numbers(self) -> dict[str, np.ndarray]:
        return {}

    @cached_property
    def _texts(self) -> dict[str, list[str]]:
        return {}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self.ids)}

    @cached_property
    def _searched(self) -> list[str]:
        """Per row all that a query is looked for in, folded; a NUL keeps it from matching across two cells."""
        names = ["image_id", *(name for name, column in self.columns.items() if column.kind != "number")]
        return ["\0".join(cells).casefold() for cells in zip(*map(self.texts, names), strict=True)]

    # Filter and sort

    def filter(
        self,
        query: str = "",
        choices: Mapping[str, Iterable[str]] | None = None,
        ranges: Mapping[str, tuple[float | None, float | None]] | None = None,
    ) -> None:
        """Show the rows that pass all of these; without any, every row.

        query    stands, whatever its case, in the image_id or in a cell of a column that is no number
        choices  per column the texts that pass; none passes all
        ranges   per column of numbers the least and the most that pass, None where it is open; no value passes no bound

        Raises InputError for a column that is not there or not of numbers, and for bounds that are none.
        """
        picked = {name: frozenset(map(str, values)) for name, values in (choices or {}).items()}
        for name in picked:
            self._column(name)
        bounds = {name: self._checked_range(name, *pair) for name, pair in (ranges or {}).items()}
        self.query = _unicode(query)
        self.choices = {name: values for name, values in picked.items() if values}
        self.ranges = {name: pair for name, pair in bounds.items() if pair != (None, None)}
        self._show()

    def sort(self, column: str | None, *, ascending: bool = True) -> None:
        """Order by a column, `image_id` included, or as the rows came; equal cells keep that order, none is last."""
        if column is not None and column != "image_id":
            self._column(column)
        self.sorted_by = None if column is None else (column, ascending)
        self._sorted = np.arange(len(self)) if column is None else self._order(column, ascending)
        self._show()

    def _order(self, name: str, ascending: bool) -> np.ndarray:
        """Numbers, dates, durations and ordered categories by their value, all else by its text."""
        column = self._frame[name].reset_index(drop=True)
        if name != "image_id" and self.columns[name].kind == "number":
            if not pd.api.types.is_numeric_dtype(column):
                column = pd.Series(self.numbers(name))
        elif not (isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.ordered):
            kinds = pd.api.types
            if not (kinds.is_datetime64_any_dtype(column) or kinds.is_timedelta64_dtype(column)):
                column = pd.Series([cell or None for cell in self.texts(name)], dtype=object)
        return column.sort_values(ascending=ascending, kind="stable", na_position="last").index.to_numpy()

    def _show(self) -> None:
        kept = np.ones(len(self), dtype=bool)
        if self.query:
            wanted = self.query.casefold()
            kept &= np.fromiter((wanted in cells for cells in self._searched), dtype=bool, count=len(self))
        for name, values in self.choices.items():
            kept &= np.fromiter((cell in values for cell in self.texts(name)), dtype=bool, count=len(self))
        for name, (low, high) in self.ranges.items():
            numbers = self.numbers(name)
            kept &= (numbers >= (-math.inf if low is None else low)) & (numbers <= (math.inf if high is None else high))
        self.shown = self._sorted[kept[self._sorted]]
        self.view += 1

    def _column(self, name: str) -> Column:
        if name not in self.columns:
            raise InputError(f"there is no column {name!r} to filter or sort by")
        return self.columns[name]

    def _checked_range(self, name: str, low: float | None, high: float | None) -> tuple[float | None, float | None]:
        if self._column(name).kind != "number":
            raise InputError(f"column {name!r} does not hold numbers, so it has no range")
        for bound in (low, high):
            if bound is not None and (not isinstance(bound, Real) or math.isnan(bound)):
                raise InputError(f"column {name!r}: {bound!r} is no bound of a range")
        if low is not None and high is not None and low > high:
            raise InputError(f"column {name!r}: no number is both {low:g} or more and {high:g} or less")
        return low, high

    # Select

    @property
    def selected(self) -> list[str]:
        """The images that are selected, shown or not, in the order of the rows as sorted."""
        return list(self.ids[self.rows("selected")])

    @property
    def hidden(self) -> int:
        """How many are selected that the filters hide."""
        return int(self.is_selected.sum() - self.is_selected[self.shown].sum())

    def select(self, image_ids: Iterable[str]) -> None:
        """Select these and no others. Raises InputError for one that is not there."""
        wanted = np.zeros(len(self), dtype=bool)
        for image_id in image_ids:
            if image_id not in self._places:
                raise InputError(f"there is no row of image {image_id!r}")
            wanted[self._places[image_id]] = True
        self.is_selected = wanted

    def select_place(self, place: int) -> None:
        """Select the row at this place alone."""
        row = self._at(place)
        self.is_selected[:] = False
        self.is_selected[row] = True

    def toggle_place(self, place: int) -> None:
        """Select the row at this place as well, or no longer."""
        self.is_selected[self._at(place)] ^= True

    def select_range(self, first: int, last: int) -> None:
        """Select the rows from one place to the other, both included and in whichever order, and no others."""
        self._at(first), self._at(last)
        low, high = sorted((first, last))
        self.is_selected[:] = False
        self.is_selected[self.shown[low : high + 1]] = True

    def select_shown(self) -> None:
        """Select all rows shown, besides those that are selected."""
        self.is_selected[self.shown] = True

    def invert(self) -> None:
        """Of the rows shown, select those that are not selected, and no longer those that are."""
        self.is_selected[self.shown] ^= True

    def clear(self) -> None:
        """Select nothing."""
        self.is_selected[:] = False

    def _at(self, place: int) -> int:
        if not 0 <= place < len(self.shown):
            raise InputError(f"there is no place {place} among {len(self.shown)} rows shown")
        return int(self.shown[place])

    # Label

    @property
    def labels(self) -> dict[str, Mark]:
        """Image → what was said about it, in the order of the rows as they came."""
        return {self.ids[row]: self._marks[row] for row in sorted(self._marks)}

    def mark(self, row: int) -> Mark:
        """What was said about a row."""
        return self._marks.get(row, _BLANK)

    def label(self, label: str | None = None, note: str | None = None) -> int:
        """Say this about every selected row, in one step that can be undone; how many rows that changes.

        None leaves the label, or the note, as it is; "" removes it. Raises InputError if nothing is selected, for a
        label that is neither a category nor the word for unknown, and for a note of more than 2000 characters.
        """
        allowed = (*self.taxonomy.categories, self.taxonomy.unknown)
        if label and label not in allowed:
            raise InputError(f"{label!r} is no label here; known: {', '.join(allowed)}")
        if note is not None and len(note) > MOST_NOTE:
            raise InputError(f"a note has at most {MOST_NOTE} characters, not {len(note)}")
        rows = np.flatnonzero(self.is_selected).tolist()
        if not rows:
            raise InputError("nothing is selected, so there is nothing to label")
        step = {}
        for row in rows:
            before = self.mark(row)
            after = Mark(before.label if label is None else label, before.note if note is None else note)
            if after != before:
                step[row] = (before, after)
        if step:
            self._apply({row: after for row, (_, after) in step.items()})
            self.history.did(step)
        return len(step)

    def undo(self) -> None:
        """Take back the last labelling; nothing where there is none."""
        if step := self.history.undo():
            self._apply({row: before for row, (before, _) in step.items()})

    def redo(self) -> None:
        """Label again as was taken back last; nothing where there is none."""
        if step := self.history.redo():
            self._apply({row: after for row, (_, after) in step.items()})

    def _apply(self, marks: Mapping[int, Mark]) -> None:
        for row, mark in marks.items():
            if mark == _BLANK:
                self._marks.pop(row, None)
            else:
                self._marks[row] = mark

    # Take along

    def rows(self, which: Which) -> np.ndarray:
        """(m,) int: the rows shown, those selected (shown or not), or all, in the order they are sorted in."""
        if which == "shown":
            return self.shown
        if which == "selected":
            return self._sorted[self.is_selected[self._sorted]]
        if which == "all":
            return self._sorted
        raise InputError(f"{which!r} is none of shown, selected and all")

    def frame(self, which: Which = "shown") -> pd.DataFrame:
        """These rows, with `gallery_label` and `gallery_note` beside their columns."""
        rows = self.rows(which)
        marks = [self.mark(row) for row in rows.tolist()]
        further = {LABEL: [mark.label for mark in marks], NOTE: [mark.note for mark in marks]}
        found = self._frame.iloc[rows].reset_index(drop=True)
        return found.assign(**{name: pd.Series(values, dtype=object) for name, values in further.items()})

    def export(self, path: Path, which: Which = "selected") -> bool:
        """Write `frame` as CSV or JSON lines, whole or not at all; False if the file holds just this already.

        In CSV an apostrophe stands before each text that a spreadsheet would run as a formula; JSON lines hold the
        texts as they are. Raises InputError for another suffix, if there is no row, if a text is no Unicode, and for a
        file that cannot be written, or is there and not as this gallery wrote it.
        """
        suffix = path.suffix.lower()
        if suffix not in EXPORT_SUFFIXES:
            raise InputError(f"{path}: an export ends in {' or '.join(EXPORT_SUFFIXES)}")
        found = self.frame(which)
        if not len(found):
            raise InputError(f"there is nothing to export: no row is {which}")
        try:
            content = (_as_csv(found) if suffix == ".csv" else _as_json_lines(found)).encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{path}: {error.object[error.start]!r} is no Unicode text; write .jsonl") from None
        try:
            new = self._may_write(path, content)
            if new:
                write_whole(content, path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
        self._written[path.absolute()] = hashlib.sha256(content).hexdigest()
        return new

    def _may_write(self, path: Path, content: bytes) -> bool:
        """False if the file holds this content already; raises InputError if it holds what is not this gallery's."""
        if not (path.exists() or path.is_symlink()):
            return True
        if path.is_symlink() or not path.is_file():
            raise InputError(f"{path}: is no ordinary file; name another one to write")
        there = path.read_bytes()
        if there == content:
            return False
        if self._written.get(path.absolute()) != hashlib.sha256(there).hexdigest():
            raise InputError(f"{path}: is there already, and not as this gallery wrote it; name another file to write")
        return True


def _checked(rows: pd.DataFrame) -> pd.DataFrame:
    """A copy with texts as column names and rows numbered from 0."""
    if not isinstance(rows, pd.DataFrame):
        raise InputError(f"rows must be a pandas DataFrame, not {type(rows).__name__}")
    names = [_unicode(str(name)) for name in rows.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"rows have more than one column called {twice[0]!r}")
    if "image_id" not in names:
        raise InputError(f"rows have no column 'image_id'; theirs are {', '.join(map(repr, names[:8])) or 'none'}")
    for name in (LABEL, NOTE):
        if name in names:
            raise InputError(f"rows have a column {name!r}, which the gallery itself adds; rename it")
    found = rows.reset_index(drop=True)
    found.columns = pd.Index(names, dtype=object)
    first: dict[str, int] = {}
    for row, image_id in enumerate(found["image_id"], start=1):
        if not isinstance(image_id, str) or not image_id:
            raise InputError(f"row {row}: image_id must be text, not {image_id!r}")
        if _unicode(image_id) != image_id:
            raise InputError(f"row {row}: image_id {image_id!r} is no Unicode text")
        if image_id in first:
            raise InputError(f"row {row}: image {image_id!r} stands twice, first in row {first[image_id]}")
        first[image_id] = row
    return found


def _describe_column(name: str, column: pd.Series, texts: Sequence[str]) -> Column:
    if _holds_numbers(column):
        numbers = _numbers(column)
        finite = numbers[np.isfinite(numbers)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
        return Column(name, "number", {}, low, high)
    counts: dict[str, int] = {}
    for cell in texts:
        counts[cell] = counts.get(cell, 0) + 1
        if len(counts) > MOST_CHOICES or len(cell) > MOST_CELL:
            return Column(name, "text", {}, None, None)
    return Column(name, "choice", dict(sorted(counts.items())), None, None)


def _holds_numbers(column: pd.Series) -> bool:
    """All cells with a value are real numbers, whatever the column's type says."""
    kinds = pd.api.types
    if column.dtype == object or isinstance(column.dtype, pd.CategoricalDtype):
        cells = [value for value in column if not (pd.api.types.is_scalar(value) and pd.isna(value))]
        return bool(cells) and all(isinstance(value, Real | Decimal) and not isinstance(value, bool) for value in cells)
    return kinds.is_numeric_dtype(column) and not kinds.is_bool_dtype(column) and not kinds.is_complex_dtype(column)


def _numbers(column: pd.Series) -> np.ndarray:
    """(n,) float64, NaN for no value; a binary32 as its shortest decimal, so that "0.7" in the page is 0.7."""
    if column.dtype == np.float32:
        return column.to_numpy().astype(str).astype(np.float64)
    if column.dtype == object or isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
        return np.array([math.nan if pd.isna(value) else float(value) for value in column], dtype=np.float64)
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))


def cell_text(value: Any) -> str:
    """A cell as it is read: numbers in four digits, several things with commas between, "" for no value."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, tuple | list | set | frozenset):
        parts = [cell_text(part) for part in value]
        return ", ".join(sorted(parts) if isinstance(value, set | frozenset) else parts)
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.4g}"
    missing = pd.isna(value) if pd.api.types.is_scalar(value) else False
    return "" if missing else str(value)


def _unicode(text: str) -> str:
    """Without halves of surrogate pairs, which neither a browser nor a file can be told; each becomes a "?"."""
    return text.encode("utf-8", "replace").decode()


def _as_csv(frame: pd.DataFrame) -> str:
    columns = [[_cell(value) for value in frame[name].array] for name in frame]
    return as_csv([map(str, frame.columns), *zip(*columns, strict=True)], defused=True)


def _cell(value: object) -> object:
    """A number or truth as it is, all else as text."""
    plain = _unboxed(value)
    if isinstance(plain, float):
        return "" if math.isnan(plain) else plain
    return plain if isinstance(plain, str | bool | int) else cell_text(plain)


def _unboxed(value: object) -> Any:
    """NumPy's scalar as Python's; a binary32 as its shortest decimal."""
    if isinstance(value, np.float32) and np.isfinite(value):
        return shortest_binary32(float(value))
    return value.item() if isinstance(value, np.generic) else value


def _as_json_lines(frame: pd.DataFrame) -> str:
    names = [str(name) for name in frame]
    columns = [[_plain(value) for value in frame[name].array] for name in names]
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in zip(*columns, strict=True))


def _plain(value: object) -> Any:
    """What JSON can hold: no value is None, an infinite number and anything unusual its text."""
    value = _unboxed(value)
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(part) for part in value]
    return cell_text(value) or None
