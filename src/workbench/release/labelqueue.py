"""The queue of images to label as a file, and the filled file as a manifest of the whole data set.

The file holds neither scores nor guesses: whoever labels must not see what the approach said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.dataset.images import COLUMNS, Dataset
from workbench.dataset.labels import Labels, list_labels, read_labels
from workbench.dataset.rows import RawLabels
from workbench.dataset.tables import read_json_records, read_table
from workbench.documents import write_whole
from workbench.errors import InputError
from workbench.release.labelling import QUEUE_COLUMNS, LabelPlan
from workbench.spreadsheets import as_csv

QUEUE_SUFFIXES = (".csv", ".jsonl")


def write_queue(plan: LabelPlan, path: Path) -> bool:
    """Write the queue as CSV or JSON lines, by suffix, whole or not at all; False if the file holds just this already.

    Raises InputError for another suffix, for a file that is there and no queue, for a queue in which somebody has begun
    to label, and if there is nothing to label.
    """
    if path.suffix.lower() not in QUEUE_SUFFIXES:
        raise InputError(f"{path}: a queue ends in {' or '.join(QUEUE_SUFFIXES)}")
    if not len(plan.queue):
        raise InputError(f"nothing to label: {'; '.join(plan.remarks())}")
    content = _text(path, plan.queue[list(QUEUE_COLUMNS)].to_dict("records"), QUEUE_COLUMNS).encode()
    if path.exists() or path.is_symlink():
        if not path.is_file():
            raise InputError(f"{path}: is no ordinary file; name another one to write")
        if path.read_bytes() == content:
            return False
        records = _read(path)
        if any(record["label"] not in ("", None, []) for record in records):
            raise InputError(f"{path}: is a queue in which labels are filled in; name another file to write")
        if any({*record} - {*QUEUE_COLUMNS, "place"} for record in records):
            raise InputError(f"{path}: is a queue to which columns were added; name another file to write")
    write_whole(content, path)
    return True


def read_queue(path: Path, dataset: Dataset) -> dict[str, Labels]:
    """Image id → labels, of the rows that are filled in.

    Raises InputError, naming the row, for what is no queue, an image that the data set has not or has labelled already,
    one that stands twice, one that is not of certify, and a label that its taxonomy does not allow.
    """
    records = _read(path)
    rows = dict(
        zip(dataset.frame["image_id"], zip(dataset.frame["split"], dataset.frame["labels"], strict=True), strict=True)
    )
    told: dict[str, RawLabels] = {}
    places: dict[str, str] = {}
    for record in records:
        image_id, place = str(record["image_id"]), record["place"]
        if image_id in places:
            raise InputError(f"{place}: {image_id!r} stands twice ({places[image_id]})")
        places[image_id] = place
        if image_id not in rows:
            raise InputError(f"{place}: data set {dataset.name!r} has no image {image_id!r}")
        split, labels = rows[image_id]
        shown = _labels(record["label"], place)
        if shown is None:
            continue
        if labels is not None:
            raise InputError(f"{place}: {image_id!r} is labelled already")
        if split != "certify":
            raise InputError(f"{place}: {image_id!r} is of {split}, the queue is for certify")
        told[image_id] = shown
    reading = read_labels(list(told.values()), [places[name] for name in told], dataset.taxonomy)
    refused = [problem for problem in reading.problems if problem.refused]
    if refused:
        shown_first = "; ".join(f"{problem.place}: {problem.message}" for problem in refused[:3])
        raise InputError(shown_first + (f" and {len(refused) - 3} more" if len(refused) > 3 else ""))
    return dict(zip(told, reading.labels, strict=True))


def write_manifest(dataset: Dataset, labels: Mapping[str, Labels], path: Path) -> int:
    """Write a manifest of the whole data set, with these labels added; how many there are.

    Every image keeps its split, group, weight and source, so nothing moves because of the new labels. Paths are
    relative, so the file has to stand in the folder of the images. Raises InputError if it does not, or if it is there.
    """
    if path.suffix.lower() not in QUEUE_SUFFIXES:
        raise InputError(f"{path}: the manifest ends in {' or '.join(QUEUE_SUFFIXES)}")
    if path.resolve().parent != dataset.root.resolve():
        raise InputError(f"{path}: paths in a manifest start at its folder, so it has to stand in {dataset.root}")
    if path.exists() or path.is_symlink():
        raise InputError(f"{path}: is there already; name another file to write")
    frame = dataset.frame
    further = [str(name) for name in frame if name not in COLUMNS]
    shown = [labels.get(name, own) for name, own in zip(frame["image_id"], frame["labels"], strict=True)]
    written = frame[["path", "split", "group", "source", *further]].assign(
        label=pd.Series([_written(labels, path, dataset.taxonomy.unknown) for labels in shown], dtype=object),
        weight=[repr(float(weight)) for weight in frame["weight"]],
    )
    names = ["path", "label", "split", "group", "weight", "source", *further]
    write_whole(_text(path, written[names].to_dict("records"), names).encode(), path)
    return len(labels)


def next_steps(plan: LabelPlan, path: Path | str) -> str:
    """What to do with the queue, in words."""
    return (
        f"Fill in `label` from the top, without looking at scores{list_labels(plan.dataset.taxonomy)}. "
        "Skip none because it is difficult: blanks are not counted, and the rest is no random sample any more. "
        f"Then: workbench add-labels {path} DATASET -o MANIFEST, classify, tune and release with that manifest."
    )


def _written(labels: Labels, path: Path, unknown: str) -> Any:
    if path.suffix.lower() != ".csv":
        return None if labels is None else list(labels)
    if labels and any("|" in name for name in labels):
        raise InputError(f"{path}: a category with | in its name cannot stand in a CSV file; write .jsonl")
    return "" if labels is None else "|".join(labels) or unknown


def _labels(value: Any, place: str) -> RawLabels:
    """As manifests read them: text with | between several, or a list; blank is not labelled."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        return tuple(value.split("|")) if place.partition(":")[0].lower().endswith(".csv") else (value,)
    raise InputError(f"{place}: label must be text or a list of texts, not {json.dumps(value)[:80]}")


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows of a queue, each with its `place`. Raises InputError if it is none."""
    if path.suffix.lower() not in QUEUE_SUFFIXES:
        raise InputError(f"{path}: a queue ends in {' or '.join(QUEUE_SUFFIXES)}")
    if path.suffix.lower() == ".csv":
        table = read_table(path, path.name)
        names, lines, problems = list(table.columns), table.lines, table.problems
        records = [dict(zip(names, row, strict=True)) for row in zip(*table.columns.values(), strict=True)]
    else:
        records, lines, problems = read_json_records(path, path.name)
        names = list(dict.fromkeys(name for record in records for name in record))
    if problems:
        raise InputError(f"{path}: {problems[0].place}: {problems[0].message}")
    missing = [name for name in ("image_id", "label", "sampling_probability", "stratum") if name not in names]
    if missing:
        raise InputError(f"{path}: is no queue of `workbench label-next`: it has no column {missing[0]!r}")
    return [
        {"label": None, **record, "image_id": record.get("image_id", ""), "place": f"{path.name}:{line}"}
        for record, line in zip(records, lines, strict=True)
    ]


def _text(path: Path, records: Sequence[Mapping[Any, Any]], names: Sequence[str]) -> str:
    if path.suffix.lower() != ".csv":
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return as_csv([names, *([record[name] for name in names] for record in records)], defused=False)
