"""A folder of images: one per category, splits above them, a flat heap, or Hugging Face's imagefolder."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from workbench.dataset.images import LEDGER_FILE
from workbench.dataset.manifests import read_manifest
from workbench.dataset.paths import Tree, looks_like_image, relative_path
from workbench.dataset.problems import Problem
from workbench.dataset.rows import Rows, join_rows, rows_frame
from workbench.dataset.splits import SPLIT_NAMES

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_OWN_FILES = ("workbench.toml", LEDGER_FILE, f"{LEDGER_FILE}-journal")


@dataclass(frozen=True)
class _Contents:
    """Everything below a folder that is not hidden, by its path below that folder, sorted."""

    images: list[str] = field(default_factory=list)
    """Entries of any kind whose name ends as an image's does."""
    folders: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def has_splits(self) -> bool:
        """The topmost folders are splits: all that hold images are named so, or one named so holds folders."""
        tops = {path.split("/")[0] for path in self.images if "/" in path}
        named = {name for name in tops if name.casefold() in SPLIT_NAMES}
        return bool(named) and (
            tops == named or any(path.split("/")[0] in named for path in self.folders if "/" in path)
        )


@dataclass(frozen=True)
class _Position:
    """What the folders above an image say of it."""

    split: str
    """"" where they say nothing."""
    category: str | None


def read_folder(folder: Path, tree: Tree) -> Rows:
    """Every image below `folder`, which lies at or below the tree's root. Paths are relative to that root.

    With a `metadata.csv`, `.jsonl` or `.parquet` anywhere below (Hugging Face's imagefolder), what those list.
    """
    base = folder.resolve().relative_to(tree.root).as_posix()
    contents = _walk(folder)
    if contents.metadata:
        return _listed_rows(folder, contents, tree, "" if base == "." else base + "/")
    return _found_rows(contents, "" if base == "." else base + "/")


def _walk(folder: Path) -> _Contents:
    contents = _Contents()
    waiting = [""]
    while waiting:
        parent = waiting.pop()
        try:
            with os.scandir(folder / parent) as listing:
                entries = sorted((entry for entry in listing if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            contents.problems.append(
                Problem(_shown(parent), "folder_unreadable", f"cannot be listed: {error.strerror}")
            )
            continue
        for entry in entries:
            _sort_entry(entry, f"{parent}/{entry.name}" if parent else entry.name, contents, waiting)
    contents.images.sort()
    return contents


def _sort_entry(entry: os.DirEntry[str], path: str, contents: _Contents, waiting: list[str]) -> None:
    if looks_like_image(entry.name):
        contents.images.append(path)
    elif entry.is_dir(follow_symlinks=False):
        contents.folders.append(path)
        waiting.append(path)
    elif entry.is_dir():
        told = "a link to a folder is not followed; name the folder itself as the data set or its root"
        contents.problems.append(Problem(_shown(path), "linked_folder", told))
    elif entry.name in METADATA:
        contents.metadata.append(path)
    elif entry.name not in _OWN_FILES:
        contents.problems.append(Problem(_shown(path), "not_an_image", "skipped: its name is not that of an image"))


def _found_rows(contents: _Contents, prefix: str) -> Rows:
    splits = contents.has_splits
    positions = [_position(path, splits) for path in contents.images]
    problems = [*contents.problems, *_empty_categories(contents, splits)]
    labelled = any(position.category for position in positions)
    for row, (path, position) in enumerate(zip(contents.images, positions, strict=True)):
        problems += _position_problems(row, path, position, splits, labelled)
    frame = rows_frame(
        {
            "place": [prefix + _shown(path) for path in contents.images],
            "path": [prefix + path if _is_text(path) else "" for path in contents.images],
            "labels": [(position.category,) if position.category else None for position in positions],
            "split": [position.split for position in positions],
        }
    )
    return Rows(frame, problems)


def _position(path: str, splits: bool) -> _Position:
    above = path.split("/")[:-1]
    split = SPLIT_NAMES.get(above[0].casefold(), "") if splits and above else ""
    below = above[1:] if splits else above
    return _Position(split, _shown(below[0]) if below else None)


def _position_problems(row: int, path: str, position: _Position, splits: bool, labelled: bool) -> Iterable[Problem]:
    if not _is_text(path):
        yield Problem(_shown(path), "path_not_text", "the file name is not UTF-8; rename the file", row=row)
    elif splits and not position.split:
        told = "lies outside the folders of the splits; move it into one"
        yield Problem(path, "outside_splits", told, row=row)
    elif labelled and position.category is None:
        told = "lies beside the category folders: not labelled"
        yield Problem(path, "outside_categories", told, refused=False, row=row)


def _empty_categories(contents: _Contents, splits: bool) -> Iterable[Problem]:
    filled = {path.rsplit("/", depth)[0] for path in contents.images for depth in range(1, path.count("/") + 1)}
    for folder in contents.folders:
        parts = folder.split("/")
        if splits and parts[0].casefold() not in SPLIT_NAMES:
            continue
        if len(parts) == (2 if splits else 1) and folder not in filled:
            told = f"category {_shown(parts[-1])!r}: its folder holds no image"
            yield Problem(_shown(folder), "empty_category", told, refused=False)


def _listed_rows(folder: Path, contents: _Contents, tree: Tree, prefix: str) -> Rows:
    """What the metadata files list; splits and categories they do not name come from the folders."""
    splits = contents.has_splits
    parts = []
    for metadata in contents.metadata:
        parent = metadata.rpartition("/")[0]
        rows = read_manifest(folder / metadata, prefix + metadata, tree)
        parts.append(_placed(rows, f"{parent}/" if parent else "", splits, prefix))
    listed = {unicodedata.normalize("NFC", path) for part in parts for path in part.frame["path"].tolist()}
    unlisted = [path for path in contents.images if unicodedata.normalize("NFC", prefix + path) not in listed]
    told = "no metadata file lists this image; skipped"
    problems = [*contents.problems, *(Problem(prefix + _shown(path), "not_listed", told) for path in unlisted)]
    rows = join_rows(parts)
    return replace(rows, problems=rows.problems + problems)


def _placed(rows: Rows, parent: str, splits: bool, prefix: str) -> Rows:
    """Rows whose paths start at their metadata file, as rows whose paths start at the root."""
    written = rows.frame["path"].tolist()
    below = [parent + plain if isinstance(plain := relative_path(path), str) else None for path in written]
    positions = [_position(path, splits) if path is not None else _Position("", None) for path in below]
    frame = rows.frame.assign(
        path=[path if found is None else prefix + found for path, found in zip(written, below, strict=True)],
        split=[own or position.split for own, position in zip(rows.frame["split"].tolist(), positions, strict=True)],
    )
    categories = [(position.category,) if position.category else None for position in positions]
    problems = rows.problems
    if any(problem.code == "no_labels" for problem in problems) and any(categories):
        frame["labels"] = pd.Series(categories, dtype=object)
        problems = [problem for problem in problems if problem.code != "no_labels"]
    return replace(rows, frame=frame, problems=problems)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(path: str) -> str:
    return path if _is_text(path) else os.fsencode(path).decode(errors="backslashreplace")
