"""The prediction table: one row per image and run, one score per category, one outcome per row.

The waist of the package: approaches write it, everything after reads it. Parquet with columns `image_id`, `outcome`,
`detail`, `latency_ms`, `cost_usd`, `cached` and one float32 `score:<category>` per category (and one for the
taxonomy's word for unknown, where the approach scores "none of these"). −inf is CENSORED, NaN is MISSING. What the run
was stands in the file's metadata, as JSON under the key `workbench`. Reading it needs pandas and pyarrow only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from workbench.documents import Text, from_document, parse_json, to_document
from workbench.errors import DocumentError, RunError
from workbench.records import OK, OUTCOMES, Digest, Origin, Prediction, Score, Taxonomy

SCORE = "score:"
_KEY = b"workbench"
_FIXED = {
    "image_id": pa.string(),
    "outcome": pa.string(),
    "detail": pa.string(),
    "latency_ms": pa.float64(),
    "cost_usd": pa.float64(),
    "cached": pa.bool_(),
}


@dataclass(frozen=True)
class RunInfo:
    """What the metadata of a prediction table says of its run."""

    schema_version: Annotated[str, Text(r"^1\.(0|[1-9][0-9]*)$")]
    origin: Origin
    taxonomy: Taxonomy
    complete: bool
    """The approach declares that its known scores are a whole distribution (they sum to one)."""
    scores_unknown: bool
    """There is a score column for "none of these"."""
    floors: Mapping[str, Score]
    """By score column: a category below it is CENSORED; a column that is absent has no floor."""
    dataset: Digest
    """Content hash of the data set that was classified."""
    dataset_name: str
    created: Annotated[str, Text(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
    settings: Mapping[str, str] = field(default_factory=dict)
    """What a reader may want to know beside the fingerprint: label map file, model file."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names that have a score: the categories, then unknown if it has one."""
        extra = (self.taxonomy.unknown,) if self.scores_unknown else ()
        return (*self.taxonomy.categories, *extra)


@dataclass(frozen=True)
class PredictionTable:
    """A run: `frame` with the columns above, one row per image, and what the run was."""

    frame: pd.DataFrame
    info: RunInfo

    @cached_property
    def scores(self) -> np.ndarray:
        """(n, K) float32, the known categories in taxonomy order."""
        return self._columns(self.info.taxonomy.categories)

    @cached_property
    def unknown_scores(self) -> np.ndarray | None:
        """(n,) float32, or None where the approach does not score "none of these"."""
        return self._columns((self.info.taxonomy.unknown,))[:, 0] if self.info.scores_unknown else None

    def _columns(self, names: tuple[str, ...]) -> np.ndarray:
        return self.frame[[SCORE + name for name in names]].to_numpy(dtype=np.float32)

    def predictions(self) -> Iterator[Prediction]:
        """Every row as the record that `decide` takes."""
        names = self.info.columns
        rows = self._columns(names).astype(float).tolist()
        for image_id, outcome, detail, scores in zip(
            self.frame["image_id"], self.frame["outcome"], self.frame["detail"], rows, strict=True
        ):
            found = {name: score for name, score in zip(names, scores, strict=True) if not math.isnan(score)}
            yield Prediction(image_id, self.info.origin, outcome, found if outcome == OK else {}, detail)

    def __len__(self) -> int:
        return len(self.frame)


def write_predictions(table: PredictionTable, path: Path) -> None:
    """Write the table, whole or not at all."""
    kinds = _kinds(table.info)
    metadata = {_KEY: json.dumps(to_document(table.info), ensure_ascii=False).encode()}
    arrow = pa.Table.from_arrays(
        [pa.array(table.frame[name].to_numpy(), type=kind, from_pandas=False) for name, kind in kinds.items()],
        schema=pa.schema(list(kinds.items()), metadata=metadata),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    pq.write_table(arrow, part)
    part.replace(path)


def read_predictions(path: Path) -> PredictionTable:
    """Read and check a prediction table. Raises RunError that names the file and the fault."""
    if path.is_dir():
        raise RunError(f"{path}: is a folder; a prediction table is a file")
    try:
        arrow = pq.read_table(path)
    except FileNotFoundError:
        raise RunError(f"{path}: there is no such file; `workbench classify … -o {path}` writes it") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise RunError(f"{path}: cannot be read as a prediction table: {error}") from None
    stored = (arrow.schema.metadata or {}).get(_KEY)
    if stored is None:
        raise RunError(f"{path}: no run metadata; a prediction table is written by `workbench classify`")
    try:
        info = from_document(RunInfo, parse_json(stored.decode()))
    except (DocumentError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: run metadata: {error}") from None
    if info.origin.taxonomy != info.taxonomy.digest:
        raise RunError(f"{path}: run metadata: /origin/taxonomy is not the digest of /taxonomy")
    _check_columns(arrow, _kinds(info), path)
    table = PredictionTable(arrow.select(list(_kinds(info))).to_pandas(), info)
    _check_rows(table, path)
    _check_scores(table, path)
    return table


def _kinds(info: RunInfo) -> dict[str, pa.DataType]:
    """The columns of a run's table, in order."""
    return _FIXED | {SCORE + name: pa.float32() for name in info.columns}


def _check_columns(arrow: pa.Table, kinds: Mapping[str, pa.DataType], path: Path) -> None:
    if sorted(arrow.column_names) != sorted(kinds):
        missing, extra = set(kinds) - set(arrow.column_names), set(arrow.column_names) - set(kinds)
        raise RunError(
            f"{path}: columns differ from the run's taxonomy: missing {sorted(missing)}, extra {sorted(extra)}"
        )
    for name, kind in kinds.items():
        if arrow.schema.field(name).type != kind:
            raise RunError(f"{path}: column {name!r} holds {arrow.schema.field(name).type}, not {kind}")
        if arrow[name].null_count:
            raise RunError(f"{path}: column {name!r} has cells without a value")


def _check_rows(table: PredictionTable, path: Path) -> None:
    repeated = table.frame["image_id"][table.frame["image_id"].duplicated()]
    if len(repeated):
        raise RunError(f"{path}: image {repeated.iloc[0]!r} has more than one row")
    for row, outcome in enumerate(table.frame["outcome"], start=1):
        if outcome not in OUTCOMES:
            raise RunError(f"{path}: row {row}: no outcome is called {outcome!r}; known: {', '.join(OUTCOMES)}")


def _check_scores(table: PredictionTable, path: Path) -> None:
    answered = (table.frame["outcome"] == OK).to_numpy(dtype=bool)
    for name in table.info.columns:
        scores = table.frame[SCORE + name].to_numpy(dtype=np.float32)
        wrong = ~((scores >= 0) & (scores <= 1) | np.isnan(scores) | np.isneginf(scores))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise RunError(f"{path}: row {row + 1}: score {scores[row]} of {name!r} is outside [0, 1]")
        stray = ~np.isnan(scores) & ~answered
        if stray.any():
            raise RunError(f"{path}: row {int(np.argmax(stray)) + 1}: a score of {name!r}, but the outcome is not ok")
        below = scores < np.float32(table.info.floors.get(name, 0.0))
        if (below & ~np.isneginf(scores)).any():
            row = int(np.argmax(below & ~np.isneginf(scores)))
            raise RunError(f"{path}: row {row + 1}: score {scores[row]} of {name!r} is below the column's floor")
