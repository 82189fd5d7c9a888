"""Labelled images as people bring them, read into one `Dataset`."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.dataset.folders import read_folder
from workbench.dataset.images import COLUMNS, SPLITS, Dataset
from workbench.dataset.labels import Labels, read_labels
from workbench.dataset.manifests import annotate_manifest, read_manifest
from workbench.dataset.paths import Refusal, Tree, relative_path
from workbench.dataset.problems import MISSING_FILE, Problem, tabulate
from workbench.dataset.rows import Rows
from workbench.dataset.splits import SPLIT_NAMES, assign_splits, split_problems
from workbench.dataset.tables import SUFFIXES
from workbench.errors import DatasetError
from workbench.records import Taxonomy

MANIFESTS = (*(f"manifest{suffix}" for suffix in SUFFIXES), "output.manifest")
"""Files that, in a folder, say what the data set is."""

_WEIGHT_TOLERANCE = 0.01
"""Both may have been rounded when they were written."""

MOST_BAD = 0.20
"""The share of bad rows above which a data set is not loaded."""


def load_dataset(
    path: Path,
    taxonomy: Taxonomy | None = None,
    root: Path | None = None,
    name: str | None = None,
    seed: int = 0,
    annotated: Path | None = None,
) -> Dataset:
    """The labelled images of a folder or manifest; the formats are described in `datasets/README.md`.

    Image paths are relative to `root`, by default the folder itself or the one that the manifest lies in, and may not
    leave it. Without a taxonomy, the categories are those that occur. Rows without a split get one by a hash seeded
    with `seed`. No image is opened: a file that is damaged, empty or no image at all is a row like any other.

    Every row that is refused, and everything else worth knowing, stands in `problems`. Raises DatasetError if the
    source cannot be read or has no images; and if more than a fifth of its rows are refused or lack their file, after
    leaving a copy of the manifest with the reason on each such line, in the folder `annotated` or beside the original.
    """
    rows, tree = _read(path, root)
    if not len(rows):
        raise DatasetError(f"{path}: no images found{_first_messages(rows.problems)}")
    places = rows.frame["place"].tolist()
    reading = read_labels(rows.frame["labels"].tolist(), places, taxonomy)
    paths, path_problems = _find_images(rows, tree)
    fields, field_problems = _read_fields(rows.frame)
    problems = [*rows.problems, *path_problems, *reading.problems, *field_problems]
    frame = rows.frame.assign(**paths, **fields, labels=pd.Series(reading.labels, dtype=object))
    frame["group"] = frame["group"].where(frame["group"] != "", frame["image_id"])
    merged, repeat_problems = _merge_repeated(frame.drop(index=_refused(problems)), reading.taxonomy)
    problems += repeat_problems
    _stop_if_spoilt(path, rows, problems, annotated)
    ready = merged.drop(columns=["place", "inclusion_probability"]).reset_index(drop=True)
    problems += split_problems(ready, _name(path))
    ready["split"] = assign_splits(ready, seed)
    problems += _gaps(ready, reading.taxonomy, _name(path))
    slices = [column for column in ready.columns if column not in COLUMNS]
    frame = ready[[*COLUMNS, *slices]]
    return Dataset(name or _name(path), tree.root, reading.taxonomy, frame, tabulate(problems))


def _read(path: Path, root: Path | None) -> tuple[Rows, Tree]:
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder")
    if root is not None and not root.is_dir():
        raise DatasetError(f"{root}: the root of the images is no folder")
    manifests = [path] if path.is_file() else [path / name for name in MANIFESTS if (path / name).is_file()]
    if len(manifests) > 1:
        raise DatasetError(f"{path} holds {' and '.join(file.name for file in manifests)}; name the one to read")
    if manifests:
        tree = Tree((root or manifests[0].parent).resolve())
        return read_manifest(manifests[0], manifests[0].name, tree), tree
    tree = Tree((root or path).resolve())
    if not path.resolve().is_relative_to(tree.root):
        raise DatasetError(f"{path} does not lie below the root {root}")
    return read_folder(path, tree), tree


def _name(path: Path) -> str:
    resolved = path.resolve()
    named_after_folder = path.is_file() and resolved.stem in {"manifest", "metadata", "output"}
    return resolved.parent.name if named_after_folder else resolved.stem if path.is_file() else resolved.name


def _refused(problems: Iterable[Problem]) -> list[int]:
    return sorted({problem.row for problem in problems if problem.row is not None and problem.refused})


def _find_images(rows: Rows, tree: Tree) -> tuple[dict[str, list[str]], list[Problem]]:
    """`image_id` and `path` of every row; "" where the row is refused."""
    problems = []
    ids, paths = [], []
    unread = set(_refused(rows.problems))
    for row, (place, text) in enumerate(zip(rows.frame["place"].tolist(), rows.frame["path"].tolist(), strict=True)):
        plain = relative_path(text) if row not in unread else ""
        found = tree.locate(plain) if isinstance(plain, str) and plain else plain
        if isinstance(found, Refusal):
            problems.append(Problem(place, found.code, found.message, row=row))
        elif found is None:
            problems.append(
                Problem(place, MISSING_FILE, f"no file {text!r} below the root{_hint(text)}", refused=False, row=row)
            )
        elif found != plain:
            told = f"the file {found!r} is meant, whose name is the same in Unicode NFC"
            problems.append(Problem(place, "path_unicode", told, refused=False, row=row))
        clean = "" if isinstance(plain, Refusal) else plain
        ids.append(unicodedata.normalize("NFC", clean))
        paths.append(found if isinstance(found, str) else clean)
    return {"image_id": ids, "path": paths}, problems


def _hint(path: str) -> str:
    if "\\" in path:
        return "; write / instead of \\"
    return "; it begins or ends with a blank" if path != path.strip() else ""


def _read_fields(frame: pd.DataFrame) -> tuple[dict[str, Sequence[str] | pd.Series], list[Problem]]:
    """`split` ("" where the row has none), `weight` (1 / inclusion_probability where that is given) and `source`."""
    splits = {
        text: SPLIT_NAMES.get(text.strip().lower(), "" if not text.strip() else None)
        for text in frame["split"].unique()
    }
    weights = {text: _weight(text) for text in frame["weight"].unique()}
    inclusions = {text: _inclusion(text) for text in frame["inclusion_probability"].unique()}
    problems = []
    for column, read, told in (
        ("split", splits, f"is none of {', '.join(SPLIT_NAMES)}"),
        ("weight", weights, "is not a number above 0"),
        ("inclusion_probability", inclusions, "is not a number above 0 and up to 1"),
    ):
        wrong = frame[column].isin([text for text, value in read.items() if value is None])
        for row, place, text in frame.loc[wrong, ["place", column]].itertuples():
            problems.append(Problem(place, f"{column}_not_read", f"{column} {text!r} {told}", row=row))
    weight = frame["weight"].map(weights).fillna(1.0).astype(np.float64)
    inverse = 1 / frame["inclusion_probability"].map(inclusions).fillna(1.0).astype(np.float64)
    says, also = (frame[name].str.strip() != "" for name in ("inclusion_probability", "weight"))
    wrong = says & also & ((weight - inverse).abs() > _WEIGHT_TOLERANCE * inverse)
    for row, place, own, text in frame.loc[wrong, ["place", "weight", "inclusion_probability"]].itertuples():
        told = f"weight {own!r} is not 1 / inclusion_probability {text!r}; give one of them"
        problems.append(Problem(place, "weight_contradicted", told, row=row))
    return {
        "split": [splits[text] or "" for text in frame["split"].tolist()],
        "weight": inverse.where(says, weight),
        "source": frame["source"].str.strip(),
        "group": frame["group"].str.strip(),
    }, problems


def _weight(text: str) -> float | None:
    if not text.strip():
        return 1.0
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if math.isfinite(weight) and weight > 0 else None


def _inclusion(text: str) -> float | None:
    share = _weight(text)
    return share if share is not None and share <= 1 and math.isfinite(1 / share) else None


def _merge_repeated(frame: pd.DataFrame, taxonomy: Taxonomy) -> tuple[pd.DataFrame, list[Problem]]:
    """One row per image. In multi-label mode the rows of an image are one row with the labels of all of them.

    In single-label mode the first of equal rows is kept. Rows of one image that contradict each other are all refused.
    """
    repeated = frame[frame["image_id"].duplicated(keep=False)]
    if repeated.empty:
        return frame, []
    problems: list[Problem] = []
    dropped: set[int] = set()
    merged = frame["labels"].to_dict()
    for image_id, rows in repeated.groupby("image_id", sort=False):
        why = _contradiction(rows, taxonomy)
        numbers, places = rows.index.tolist(), rows["place"].tolist()
        if why:
            told = f"image {image_id!r} stands in {', '.join(places)} with {why}"
            problems += [Problem(place, "conflict", told, row=row) for row, place in zip(numbers, places, strict=True)]
            dropped.update(numbers)
            continue
        if taxonomy.mode == "single-label":
            told = f"image {image_id!r} stands already in {places[0]}"
            later = zip(numbers[1:], places[1:], strict=True)
            problems += [Problem(place, "duplicate", told, row=row) for row, place in later]
        merged[numbers[0]] = _union(rows["labels"], taxonomy)
        dropped.update(numbers[1:])
    united = frame.assign(labels=pd.Series(list(merged.values()), frame.index, dtype=object))
    return united.drop(index=sorted(dropped)), problems


def _contradiction(rows: pd.DataFrame, taxonomy: Taxonomy) -> str:
    """In what the rows of one image contradict each other; "" if they do not."""
    labels = set(rows["labels"])
    if taxonomy.mode == "single-label" and len(labels) > 1:
        return f"labels {' and '.join(sorted(_told(shown, taxonomy) for shown in labels))}"
    if () in labels and any(labels):
        return f"{taxonomy.unknown!r} and with categories"
    for column in ("split", "group", "weight"):
        values = rows[column].unique().tolist()
        if len(values) > 1:
            return f"{column} {' and '.join(repr(value) for value in values)}"
    return ""


def _told(shown: Labels, taxonomy: Taxonomy) -> str:
    return "none" if shown is None else repr(" | ".join(shown) or taxonomy.unknown)


def _union(labels: Iterable[Labels], taxonomy: Taxonomy) -> Labels:
    given = [shown for shown in labels if shown is not None]
    every = {category for shown in given for category in shown}
    return tuple(category for category in taxonomy.categories if category in every) if given else None


def _stop_if_spoilt(path: Path, rows: Rows, problems: Sequence[Problem], annotated: Path | None) -> None:
    spoilt = [problem for problem in problems if problem.spoils_row]
    bad = len({problem.row for problem in spoilt})
    if bad <= MOST_BAD * len(rows):
        return
    faults: dict[int, str] = {}
    for problem in spoilt:
        said = f"{problem.code}: {problem.message}"
        faults[problem.row or 0] = f"{faults[problem.row or 0]}; {said}" if problem.row in faults else said
    copies = []
    start = 0
    for file, lines in rows.manifests:
        here = {line: faults[row] for row, line in enumerate(lines, start) if row in faults}
        if here:
            copies.append(str(annotate_manifest(file, here, annotated)))
        start += len(lines)
    told = f"; each is marked in {' and '.join(copies)}" if copies else ""
    raise DatasetError(
        f"{path}: {bad} of {len(rows)} rows cannot be used, more than {MOST_BAD:.0%}{told}{_first_messages(spoilt)}"
    )


def _first_messages(problems: Sequence[Problem]) -> str:
    """For each kind of problem how often it occurs, and the first of it."""
    counts = Counter(problem.code for problem in problems)
    first = {problem.code: problem for problem in reversed(problems)}
    lines = [
        f"\n  {count} × {code}, first {first[code].place}: {first[code].message}"
        for code, count in counts.most_common()
    ]
    return "".join(lines)


def _gaps(frame: pd.DataFrame, taxonomy: Taxonomy, place: str) -> Iterable[Problem]:
    """Categories without images, at all or in a split that others have images in."""
    shown = zip(frame["labels"].tolist(), frame["split"].tolist(), strict=True)
    counts = Counter((category, split) for labels, split in shown for category in labels or ())
    present = frame["split"].unique().tolist()
    for category in taxonomy.categories:
        total = sum(counts[category, split] for split in SPLITS)
        lacking = [split for split in SPLITS if split in present and not counts[category, split]]
        if lacking:
            told = f"of its {total} images none is in {' or '.join(lacking)}" if total else "no image shows it"
            yield Problem(place, "category_gap", f"category {category!r}: {told}", refused=False)
