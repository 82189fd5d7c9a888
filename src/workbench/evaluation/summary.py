"""Everything measured of one run, in one object that shows and saves itself."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pandas.api.types import is_numeric_dtype

from workbench.errors import RunError
from workbench.evaluation import figures
from workbench.evaluation.confusion import Confusion, count_confusions
from workbench.evaluation.distribution import ScoreDistribution, describe_scores
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.left_out import LeftOut, leave_one_category_out
from workbench.evaluation.metrics import (
    Accuracy,
    CategoryMetrics,
    Slices,
    measure_accuracy,
    measure_categories,
    slice_by,
)
from workbench.evaluation.rejection import RejectionMeasures, measure_rejection
from workbench.evaluation.reliability import CalibrationMeasures, measure_calibration
from workbench.evaluation.results import as_html, describe_splits
from workbench.evaluation.tradeoff import PrecisionRecall, trace_curves
from workbench.spreadsheets import as_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_VALUES = 20
_RESAMPLES = 100
"""Of calibration, whose measures are the slowest."""
_NO_SLICE = ("image_id", "outcome", "split", "group", "weight", "labels")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one run is worth on the labelled images of some splits."""

    labelled: Labelled
    splits: tuple[str, ...]
    confidence: float
    """Of each exact interval, on its own."""
    accuracy: Accuracy
    categories: CategoryMetrics
    curves: PrecisionRecall
    confusion: Confusion | None
    """None in multi-label mode."""
    scores: ScoreDistribution
    calibration: CalibrationMeasures
    """Of the raw scores."""
    slices: Mapping[str, Slices]
    """By column: the source and the data set's own columns, where they are numbers or have 2 to 20 values."""
    rejection: RejectionMeasures | None
    """None unless both known and unknown images have scores."""
    left_out: LeftOut | None
    """None in multi-label mode and with fewer than 3 categories."""

    @property
    def approach(self) -> str:
        """The name of the approach."""
        return self.labelled.info.origin.approach

    @property
    def measured_on(self) -> str:
        """Which splits the figures come from, and in which way that flatters."""
        return describe_splits(self.splits)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know before believing the figures, in sentences."""
        return tuple(_notes(self))

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table, by the name under which `save` writes it."""
        found = {
            "accuracy": self.accuracy.frame(),
            "categories": self.categories.frame(),
            "curves": self.curves.frame(),
            "scores": self.scores.frame(),
            "calibration": self.calibration.frame(),
        }
        if self.confusion is not None:
            found["confusion"] = self.confusion.frame()
        if self.rejection is not None:
            found["rejection"] = self.rejection.frame()
            found["rejection_curves"] = self.rejection.curves_frame()
        if self.left_out is not None:
            found["left_out"] = self.left_out.frame()
        if self.slices:
            found["slices"] = pd.concat([part.frame() for part in self.slices.values()], ignore_index=True)
        return found

    def plots(self) -> dict[str, Axes]:
        """One of the freshly drawn axes of every figure, by the name under which `save` writes it."""
        found = {
            "categories": self.categories.plot(),
            "curves": self.curves.plot()[0],
            **{f"scores-{signal}": self.scores.plot(signal=signal) for signal in self.scores.signals},  # type: ignore[arg-type]
            "calibration": self.calibration.plot(),
        }
        if self.confusion is not None:
            found["confusion"] = self.confusion.plot()
        if self.rejection is not None:
            found["rejection"] = self.rejection.plot()
        for number, part in enumerate(self.slices.values(), start=1):
            found[f"slices-{number}"] = part.plot()
        return found

    def save(self, folder: Path, *, figures_too: bool = True, spreadsheet_safe: bool = False) -> list[Path]:
        """Write every table as CSV and Parquet and, with `figures_too`, every figure as PNG; returns the paths.

        `spreadsheet_safe` puts an apostrophe before CSV texts that a spreadsheet would run as a formula; the
        Parquet files always hold the texts as they are.
        """
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name, table in self.tables().items():
            text = as_csv(_rows(table), defused=spreadsheet_safe)
            (folder / f"{name}.csv").write_bytes(text.encode())
            table.to_parquet(folder / f"{name}.parquet", index=False)
            written += [folder / f"{name}.csv", folder / f"{name}.parquet"]
        for name, ax in (self.plots() if figures_too else {}).items():
            path = folder / f"{name}.png"
            path.write_bytes(figures.to_png(figures.figure_of(ax)))
            written.append(path)
        return written

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return (
            f"<h3>{html.escape(self.approach)} on {html.escape(self.measured_on)}</h3><ul>{notes}</ul>"
            f"{as_html(self.accuracy.frame())}{as_html(self.categories.frame())}"
        )


def evaluate(labelled: Labelled, splits: Sequence[str] = ("tune",), confidence: float = 0.95) -> Evaluation:
    """Measure everything on these splits alone; by default on *tune*, so that *certify* is not looked at.

    Raises RunError if they hold no labelled image.
    """
    part = labelled.on(*splits)
    if not len(part):
        raise RunError(f"no labelled image on {', '.join(splits)}; the run has {', '.join(labelled.splits) or 'none'}")
    return Evaluation(
        labelled=part,
        splits=part.splits,
        confidence=confidence,
        accuracy=measure_accuracy(part, confidence),
        categories=measure_categories(part, confidence),
        curves=trace_curves(part),
        confusion=None if part.taxonomy.mode == "multi-label" else count_confusions(part),
        scores=describe_scores(part),
        calibration=measure_calibration(part, resamples=_RESAMPLES, confidence=confidence),
        slices={column: slice_by(part, column, confidence) for column in _slice_columns(part.frame)},
        rejection=_rejection(part, confidence),
        left_out=_left_out(part),
    )


def _rejection(part: Labelled, confidence: float) -> RejectionMeasures | None:
    both = (part.usable & part.unknown).any() and (part.usable & ~part.unknown).any()
    return measure_rejection(part, confidence) if both else None


def _left_out(part: Labelled) -> LeftOut | None:
    possible = part.taxonomy.mode == "single-label" and len(part.taxonomy.categories) > 2
    return leave_one_category_out(part) if possible else None


def _slice_columns(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name, column in frame.items() if name not in _NO_SLICE and _makes_slices(column)]


def _makes_slices(column: pd.Series) -> bool:
    values = column.nunique(dropna=False)
    return bool(values > 1 and (values <= _MOST_VALUES or is_numeric_dtype(column)))


def _notes(evaluation: Evaluation) -> list[str]:
    labelled, categories = evaluation.labelled, evaluation.categories
    notes = [f"Measured on {len(labelled)} labelled images of {evaluation.measured_on}."]
    failed = int((~labelled.answered).sum())
    if failed:
        reasons = labelled.frame["outcome"][~labelled.answered].value_counts()
        listed = ", ".join(f"{outcome} {count}" for outcome, count in reasons.items())
        notes.append(f"Without an answer, counted as misses: {listed}.")
    absent = [name for name, count in zip(categories.categories, categories.support, strict=True) if not count]
    if absent:
        notes.append(f"No image here shows {', '.join(absent)}: recall and average precision are n/a.")
    if (labelled.frame["weight"] != 1).any():
        notes.append("The data set weighs its images: the curves honour that, the tables count each image once.")
    return notes


def _rows(table: pd.DataFrame) -> Iterator[Iterable[object]]:
    """The names, then the rows, with "n/a" for what is missing."""
    yield table.columns
    # numpy's own scalars: as a Python float, a float32 would show digits that it does not have
    columns = (
        ["n/a" if missing else value for value, missing in zip(column.array, column.isna(), strict=True)]
        for _, column in table.items()
    )
    yield from zip(*columns, strict=True)
