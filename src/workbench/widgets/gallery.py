"""The gallery: any rows with an image each as a grid of pictures, to filter, sort, select, label and export."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import traitlets
from PIL import Image

from workbench.dataset.images import Dataset
from workbench.errors import InputError, RunError
from workbench.evaluation import figures
from workbench.evaluation.labelled import Labelled, join
from workbench.evaluation.metrics import told
from workbench.evaluation.results import as_html, describe_splits
from workbench.predictions import PredictionTable
from workbench.records import OK, Taxonomy
from workbench.widgets.history import History
from workbench.widgets.panel import Panel, asset
from workbench.widgets.pictures import Pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABEL, NOTE = "gallery_label", "gallery_note"
"""The columns that `frame` and exports add."""

EXPORT_SUFFIXES = (".csv", ".jsonl")

MOST_CHOICES = 24
"""A column of texts with at most so many different ones is filtered by choice."""

_MOST_COLUMNS = 40
"""That the browser shows and filters; Python filters all."""
_MOST_ASKED = 60
_MOST_NOTE = 2000
_MOST_CELL = 300
_MOST_LISTED = 40
_MOST_DRAWN = 24
_NAMED = 3

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
            self._texts[name] = [_unicode(_text(value)) for value in self._frame[name]]
        return self._texts[name]

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
        self.query = query
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
        number = name != "image_id" and self.columns[name].kind == "number"
        keys = self._frame[name] if number else pd.Series([cell or None for cell in self.texts(name)], dtype=object)
        keys = keys.reset_index(drop=True)
        return keys.sort_values(ascending=ascending, kind="stable", na_position="last").index.to_numpy()

    def _show(self) -> None:
        kept = np.ones(len(self), dtype=bool)
        if self.query:
            wanted = self.query.casefold()
            kept &= np.fromiter((wanted in cells for cells in self._searched), dtype=bool, count=len(self))
        for name, values in self.choices.items():
            kept &= np.fromiter((cell in values for cell in self.texts(name)), dtype=bool, count=len(self))
        for name, (low, high) in self.ranges.items():
            numbers = _numbers(self._frame[name])
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
        if note is not None and len(note) > _MOST_NOTE:
            raise InputError(f"a note has at most {_MOST_NOTE} characters, not {len(note)}")
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
                _write(path, content)
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


class Gallery(Panel):
    """Look at the pictures of any rows, filter, sort, select and label them, and export what is found.

    rows     image_id and any further columns, which are shown under the pictures
    dataset  where the images are; its categories and word for unknown are the labels
    title    what the rows are
    note     what to bear in mind about them, such as the split they come from
    out      where "Export" writes: .csv or .jsonl

    Labels stay in the gallery (`labels`, `frame`, `export`): the data set never changes. Raises InputError for rows
    whose image_id is missing, no text, there twice or not one of the data set's, and as `Rows` does.
    """

    _esm = asset("shared.js", "pictures.js", "gallery.js")
    _css = asset("shared.css", "pictures.css", "gallery.css")
    _spec = traitlets.Dict().tag(sync=True)
    """What never changes: title, columns, labels to choose from."""
    _state = traitlets.Dict().tag(sync=True)
    """Filters, order, how many are shown, selected and labelled, and what was written."""

    def __init__(
        self,
        rows: pd.DataFrame,
        dataset: Dataset,
        *,
        title: str = "Gallery",
        note: str = "",
        out: Path | str = "gallery.csv",
    ) -> None:
        found = Rows(rows, dataset.taxonomy)
        known = set(dataset.frame["image_id"])
        strange = [image_id for image_id in found.ids if image_id not in known]
        if strange:
            more = f" and {len(strange) - _NAMED} more" if len(strange) > _NAMED else ""
            named = ", ".join(repr(image_id) for image_id in strange[:_NAMED])
            raise InputError(f"rows of images that data set {dataset.name!r} does not have: {named}{more}")
        super().__init__()
        self.rows, self.dataset, self.title, self.note, self.out = found, dataset, title, note, Path(out)
        self._marked = 0
        self._saved: dict[str, Any] | None = None
        self._named = list(found.columns)[:_MOST_COLUMNS]
        self._spec = {
            "title": _line(title),
            "note": _line(note),
            "out": str(out),
            "columns": [_column_document(found.columns[name]) for name in self._named],
            "columns_left_out": len(found.columns) - len(self._named),
            "labels": [*dataset.taxonomy.categories, dataset.taxonomy.unknown],
            "most_note": _MOST_NOTE,
        }
        self._mirror()
        self.answer(
            rows=self._answer_rows,
            view=self._answer_view,
            select=self._answer_select,
            label=self._answer_label,
            undo=lambda _: self.undo(),
            redo=lambda _: self.redo(),
            export=self._answer_export,
            **Pictures(dataset).handlers(),
        )

    @classmethod
    def mistakes(
        cls,
        run: PredictionTable | Labelled,
        dataset: Dataset,
        *,
        splits: Sequence[str] = ("tune",),
        out: Path | str = "mistakes.csv",
    ) -> Gallery:
        """Images with an answer of which other categories are told than they show, before any threshold.

        `taken for` are the categories told falsely (no value: only missed), `score` is the highest of theirs; the
        highest come first. Raises InputError for certify, whose labels only a release looks at, RunError without a
        labelled image on these splits.
        """
        part = _on(run, dataset, splits)
        names, assigned = part.taxonomy.categories, told(part)
        false = assigned & ~part.truth
        kept = part.usable & (assigned != part.truth).any(axis=1)
        highest = np.where(false, part.usable_scores(), -np.inf).max(axis=1, initial=-np.inf)
        rows = pd.DataFrame(
            {
                "image_id": part.frame["image_id"],
                "shows": _in_words(part.truth, names, part.taxonomy.unknown),
                "taken for": _in_words(false, names, None),
                "score": np.where(false.any(axis=1), highest, np.nan).astype(np.float64),
                "split": part.frame["split"],
            }
        )
        title = f"Mistakes of {part.info.origin.approach} on {dataset.name}"
        gallery = cls(rows[kept], dataset, title=title, note=describe_splits(part.splits), out=out)
        gallery.sort("score", ascending=False)
        return gallery

    @classmethod
    def outcomes(cls, run: PredictionTable, dataset: Dataset, *, out: Path | str = "outcomes.csv") -> Gallery:
        """Images of every split that have no answer, or one in which a score is missing, and why. Uses no label.

        Raises RunError if the run is not of this data set.
        """
        join(run, dataset)
        frame = run.frame
        missing = np.isnan(run.scores).any(axis=1)
        if run.unknown_scores is not None:
            missing |= np.isnan(run.unknown_scores)
        answered = (frame["outcome"] == OK).to_numpy(dtype=bool)
        reason = frame["detail"].mask(answered, "a score is missing")
        splits = dataset.frame.set_index("image_id")["split"].reindex(frame["image_id"]).to_numpy(dtype=object)
        rows = pd.DataFrame(
            {"image_id": frame["image_id"], "outcome": frame["outcome"], "reason": reason, "split": splits}
        )
        title = f"No answer by {run.info.origin.approach} on {dataset.name}"
        return cls(rows[~answered | missing], dataset, title=title, out=out)

    @classmethod
    def flips(
        cls,
        before: PredictionTable | Labelled,
        after: PredictionTable | Labelled,
        dataset: Dataset,
        *,
        splits: Sequence[str] = ("tune",),
        out: Path | str = "flips.csv",
    ) -> Gallery:
        """Images of which two runs tell different categories, before any threshold; those that became wrong come first.

        Right means that exactly the shown categories are told, as `compare_runs` has it; it counts flips among images
        of a known category alone, here those of none are shown as well. Raises as `mistakes` does, and RunError if the
        two are not of the same images.
        """
        old, new = _on(before, dataset, splits), _on(after, dataset, splits)
        if list(old.frame["image_id"]) != list(new.frame["image_id"]):
            raise RunError("the two runs are not of the same images in the same order")
        names, was, now = old.taxonomy.categories, told(old), told(new)
        was_right, is_right = ((version == old.truth).all(axis=1) for version in (was, now))
        kinds = ["became wrong", "became right"]
        change = np.select([was_right & ~is_right, ~was_right & is_right], kinds, "wrong in another way")
        rows = pd.DataFrame(
            {
                "image_id": old.frame["image_id"],
                "change": pd.Series(change, dtype=object),
                "shows": _in_words(old.truth, names, old.taxonomy.unknown),
                "before": _in_words(was, names, None),
                "after": _in_words(now, names, None),
                "split": old.frame["split"],
            }
        )
        rows = rows[(was != now).any(axis=1)]
        rank = rows["change"].map({name: place for place, name in enumerate(kinds)}).fillna(len(kinds))
        rows = rows.loc[rank.sort_values(kind="stable").index]
        title = f"Flips from {old.info.origin.approach} to {new.info.origin.approach} on {dataset.name}"
        return cls(rows, dataset, title=title, note=describe_splits(old.splits), out=out)

    @property
    def selected(self) -> list[str]:
        """The images that are selected, shown or not, in order."""
        return self.rows.selected

    @property
    def labels(self) -> dict[str, Mark]:
        """Image → the label and note that it was given here."""
        return self.rows.labels

    def frame(self, which: Which = "shown") -> pd.DataFrame:
        """The rows shown, selected or all, in order, with `gallery_label` and `gallery_note`."""
        return self.rows.frame(which)

    def filter(
        self,
        query: str = "",
        choices: Mapping[str, Iterable[str]] | None = None,
        ranges: Mapping[str, tuple[float | None, float | None]] | None = None,
    ) -> None:
        """Show the rows that pass; see `Rows.filter`."""
        with self.changing():
            self.rows.filter(query, choices, ranges)

    def sort(self, column: str | None, *, ascending: bool = True) -> None:
        """Order the rows; see `Rows.sort`."""
        with self.changing():
            self.rows.sort(column, ascending=ascending)

    def select(self, image_ids: Iterable[str]) -> None:
        """Select these images and no others. Raises InputError for one that is not there."""
        with self.changing():
            self.rows.select(image_ids)

    def label(self, label: str | None = None, note: str | None = None) -> int:
        """Give the selected images a label, a note or both; see `Rows.label`."""
        with self.changing():
            return self.rows.label(label, note)

    def undo(self) -> None:
        """Take back the last labelling."""
        with self.changing():
            self.rows.undo()

    def redo(self) -> None:
        """Do again what was taken back."""
        with self.changing():
            self.rows.redo()

    def export(self, path: Path | str | None = None, which: Which = "selected") -> Path:
        """Write the rows, by default to `out`, and say where they are; see `Rows.export`."""
        target = self.out if path is None else Path(path)
        with self.changing():
            self.rows.export(target, which)
            self._saved = {"path": str(target), "images": len(self.rows.rows(which)), "which": which}
        return target

    def describe(self) -> str:
        """The title and how many rows are shown, selected and labelled."""
        rows = self.rows
        note = f" of {self.note}" if self.note else ""
        return (
            f"{self.title}: {len(rows.shown)} of {len(rows)} images{note} shown, "
            f"{int(rows.is_selected.sum())} selected, {len(rows.labels)} labelled here"
        )

    def table(self) -> str:
        """The first rows shown, as HTML."""
        found = self.rows.frame().head(_MOST_LISTED)
        return as_html(pd.DataFrame({name: [_line(_text(cell)) for cell in found[name]] for name in found}))

    def figure(self) -> Figure:
        """A contact sheet of the first pictures shown; those of a sensitive data set are blurred, revealed or not."""
        ids = [str(image_id) for image_id in self.rows.ids[self.rows.shown[:_MOST_DRAWN]]]
        # What was revealed here must not end up in a saved notebook.
        pictures = Pictures(self.dataset)
        axes = figures.new_grid(len(ids), 8, row_height=1.35)
        for ax in axes:
            ax.set_axis_off()
        for ax, image_id in zip(axes, ids, strict=False):
            made = pictures.picture(image_id, 96)
            if isinstance(made, str):
                words = figures.printable(made, 22)
                ax.text(0.5, 0.5, words, ha="center", va="center", fontsize=6, transform=ax.transAxes)
            else:
                ax.imshow(np.asarray(Image.open(io.BytesIO(made)).convert("RGB")))
            ax.set_title(figures.printable(image_id, 18), fontsize=6)
        if not ids:
            axes[0].text(0.5, 0.5, "no image is shown", ha="center", va="center", transform=axes[0].transAxes)
        return figures.figure_of(axes[0])

    def _mirror(self) -> None:
        rows = self.rows
        self._marked += 1
        self._state = {
            "view": rows.view,
            "marked": self._marked,
            "query": rows.query,
            "choices": [[name, sorted(values)] for name, values in rows.choices.items()],
            "ranges": [[name, [_finite(bound) for bound in pair]] for name, pair in rows.ranges.items()],
            "sorted_by": None if rows.sorted_by is None else list(rows.sorted_by),
            "rows": len(rows),
            "shown": len(rows.shown),
            "selected": int(rows.is_selected.sum()),
            "hidden": rows.hidden,
            "labelled": len(rows.labels),
            "can_undo": rows.history.can_undo,
            "can_redo": rows.history.can_redo,
            "written": self._saved,
        }

    def _answer_rows(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        start, count = _whole(content, "start"), _whole(content, "count")
        if start < 0 or not 0 < count <= _MOST_ASKED:
            raise InputError(f"at most {_MOST_ASKED} rows from 0 on, not {count} from {start}")
        asked = self.rows.shown[start : start + count].tolist()
        return {"view": self.rows.view, "marked": self._marked, "items": [self._item(row) for row in asked]}

    def _item(self, row: int) -> dict[str, Any]:
        mark = self.rows.mark(row)
        return {
            "id": self.rows.ids[row],
            "cells": [_line(self.rows.texts(name)[row]) for name in self._named],
            "selected": bool(self.rows.is_selected[row]),
            "label": mark.label,
            "note": _line(mark.note),
        }

    def _answer_view(self, content: Mapping[str, Any]) -> None:
        """Filters and order as the browser has them; filters of columns that it does not show stay.

        Columns come as [name, ...] and not as keys: a name such as __proto__ is no key in a browser.
        """
        choices, ranges = _pairs(content, "choices"), _pairs(content, "ranges")
        by = content.get("sorted_by")
        if not all(len(pair) == 2 for pair in ranges.values()):
            raise InputError("a range must be the least and the most")
        if not (by is None or (isinstance(by, list) and len(by) == 2)):
            raise InputError("sorted_by must be a column and whether it rises")
        own = set(self._named)
        picked = {name: values for name, values in self.rows.choices.items() if name not in own}
        bounds = {name: pair for name, pair in self.rows.ranges.items() if name not in own}
        ranged = {name: (pair[0], pair[1]) for name, pair in ranges.items()}
        self.rows.filter(str(content.get("query", "")), {**picked, **choices}, {**bounds, **ranged})
        wanted = None if by is None else (str(by[0]), bool(by[1]))
        if wanted is None:
            self.rows.sort(None)
        elif wanted != self.rows.sorted_by:
            self.rows.sort(wanted[0], ascending=wanted[1])
        self._mirror()

    def _answer_select(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Select as was clicked; a place of an order that is no longer shown selects nothing."""
        how, rows = content.get("how"), self.rows
        if content.get("view") != rows.view:
            return {"stale": True}
        if how == "one":
            rows.select_place(_whole(content, "place"))
        elif how == "toggle":
            rows.toggle_place(_whole(content, "place"))
        elif how == "range":
            rows.select_range(_whole(content, "first"), _whole(content, "place"))
        elif how == "shown":
            rows.select_shown()
        elif how == "invert":
            rows.invert()
        elif how == "none":
            rows.clear()
        else:
            raise InputError(f"{how!r} is no way to select")
        self._mirror()
        return {}

    def _answer_label(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        label, note = content.get("label"), content.get("note")
        if not all(value is None or isinstance(value, str) for value in (label, note)):
            raise InputError("a label and a note are texts")
        return {"changed": self.label(label, note)}

    def _answer_export(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        which = content.get("which")
        if which not in ("shown", "selected"):
            raise InputError(f"{which!r} is neither shown nor selected")
        return {"path": str(self.export(str(content.get("path") or self.out), which))}


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
        if len(counts) > MOST_CHOICES or len(cell) > _MOST_CELL:
            return Column(name, "text", {}, None, None)
    return Column(name, "choice", dict(sorted(counts.items())), None, None)


def _holds_numbers(column: pd.Series) -> bool:
    kinds = pd.api.types
    return kinds.is_numeric_dtype(column) and not kinds.is_bool_dtype(column) and not kinds.is_complex_dtype(column)


def _numbers(column: pd.Series) -> np.ndarray:
    """(n,) float64, NaN for no value."""
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))


def _text(value: Any) -> str:
    """A cell as it is read: numbers in four digits, several things with commas between, "" for no value."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple | list | set | frozenset | np.ndarray):
        parts = [_text(part) for part in value]
        return ", ".join(sorted(parts) if isinstance(value, set | frozenset) else parts)
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.4g}"
    missing = pd.isna(value) if pd.api.types.is_scalar(value) else False
    return "" if missing else str(value)


def _unicode(text: str) -> str:
    """Without halves of surrogate pairs, which neither a browser nor a file can be told; each becomes a "?"."""
    return text.encode("utf-8", "replace").decode()


def _line(text: str) -> str:
    return figures.shorten(text, _MOST_CELL)


def _column_document(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "kind": column.kind,
        "choices": [[cell, count] for cell, count in column.choices.items()],
        "low": column.low,
        "high": column.high,
    }


def _on(run: PredictionTable | Labelled, dataset: Dataset, splits: Sequence[str]) -> Labelled:
    if "certify" in splits:
        raise InputError("labels of certify are looked at by a release alone; choose from tune and train")
    if isinstance(run, Labelled) and run.taxonomy.digest != dataset.taxonomy.digest:
        raise InputError("the labelled images have other categories than the data set")
    labelled = run if isinstance(run, Labelled) else join(run, dataset)
    part = labelled.on(*splits)
    if not len(part):
        raise RunError(f"no labelled image on {', '.join(splits)}; there is {', '.join(labelled.splits) or 'none'}")
    return part


def _in_words(matrix: np.ndarray, names: Sequence[str], nothing: str | None) -> pd.Series:
    """Per row of an (n, K) bool the categories, with commas between, or `nothing`."""
    shown = [", ".join(names[column] for column in np.flatnonzero(row).tolist()) or nothing for row in matrix]
    return pd.Series(shown, dtype=object)


def _whole(content: Mapping[str, Any], name: str) -> int:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} must be a whole number, not {value!r}")
    return value


def _pairs(content: Mapping[str, Any], name: str) -> dict[str, list[Any]]:
    value = content.get(name)
    fine = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], list)
        for pair in value
    )
    if not fine:
        raise InputError(f"{name} must be a list of columns, each with its list")
    return dict(content[name])


def _finite(bound: float | None) -> float | None:
    return bound if bound is not None and math.isfinite(bound) else None


def _as_csv(frame: pd.DataFrame) -> str:
    safe = pd.DataFrame({name: [_defused(_cell(value)) for value in frame[name]] for name in frame}, dtype=object)
    buffer = io.StringIO()
    # Every text is quoted: the module leaves a lone carriage return bare, after which a spreadsheet begins a new cell.
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow([_defused(str(name)) for name in safe])
    writer.writerows(safe.itertuples(index=False, name=None))
    return buffer.getvalue()


def _defused(value: object) -> object:
    """As `Evaluation.save` has it for spreadsheets: an apostrophe before a text that begins like a formula."""
    return "'" + value if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value


def _cell(value: object) -> object:
    """A number or truth as it is, all else as text."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float):
        return "" if math.isnan(plain) else plain
    return plain if isinstance(plain, str | bool | int) else _text(plain)


def _as_json_lines(frame: pd.DataFrame) -> str:
    names = [str(name) for name in frame]
    columns = [[_plain(value) for value in frame[name]] for name in names]
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in zip(*columns, strict=True))


def _plain(value: object) -> Any:
    """What JSON can hold: no value is None, an infinite number and anything unusual its text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(part) for part in value]
    return _text(value) or None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
