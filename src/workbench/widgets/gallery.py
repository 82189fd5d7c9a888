"""The gallery: any rows with an image each as a grid of pictures, to filter, sort, select, label and export."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from workbench.records import OK
from workbench.widgets.panel import Panel, asset
from workbench.widgets.pictures import Pictures
from workbench.widgets.rows import MOST_CELL, MOST_NOTE, Column, Mark, Rows, Which, cell_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_COLUMNS = 40
"""That the browser shows and filters; Python filters all."""
_MOST_ASKED = 60
_MOST_LISTED = 40
_MOST_DRAWN = 24
_NAMED = 3


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
            "most_note": MOST_NOTE,
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
                "score": np.where(false.any(axis=1), highest, np.float32(np.nan)).astype(np.float32),
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
        return as_html(pd.DataFrame({name: [_line(cell_text(cell)) for cell in found[name]] for name in found}))

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
        query = content.get("query", "")
        if not isinstance(query, str):
            raise InputError("what is looked for is a text")
        if by is not None and by[0] != "image_id" and by[0] not in self.rows.columns:
            raise InputError(f"there is no column {by[0]!r} to sort by")
        own = set(self._named)
        picked = {name: values for name, values in self.rows.choices.items() if name not in own}
        bounds = {name: pair for name, pair in self.rows.ranges.items() if name not in own}
        ranged = {name: (pair[0], pair[1]) for name, pair in ranges.items()}
        self.rows.filter(query, {**picked, **choices}, {**bounds, **ranged})
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
        if which == "shown" and content.get("view") != self.rows.view:
            raise InputError("the rows shown changed meanwhile; look at them, then export again")
        return {"path": str(self.export(str(content.get("path") or self.out), which))}


def _line(text: str) -> str:
    return figures.shorten(text, MOST_CELL)


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
