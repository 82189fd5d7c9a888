"""Data sets that come with the workbench: fetched on first use, written as ordinary files, then left alone."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.canonical import digest
from workbench.dataset.demo import fashion, mosaics, stamps
from workbench.errors import DatasetError

_MARKER = ".workbench.json"
_PROJECT = "workbench.toml"
_ABANDONED_SECONDS = 3600
"""A half-written folder of that age belongs to a process that is no more."""


@dataclass(frozen=True)
class _Embedded:
    """One of the data sets."""

    recipe: Callable[[], Mapping[str, Any]]
    write: Callable[[Path, Path, bool], Path | None]
    """Writes into an empty folder, given the cache; returns the folder elsewhere that holds the images, if any."""


_SETS: Mapping[str, _Embedded] = {
    "fashion": _Embedded(fashion.recipe, fashion.write_fashion),
    "mosaics": _Embedded(mosaics.recipe, mosaics.write_mosaics),
    "stamps": _Embedded(stamps.recipe, stamps.write_stamps),
}

EMBEDDED = tuple(_SETS)
"""Their names."""


def embedded(name: str, folder: Path, cache: Path, progress: bool = False) -> Path:
    """The folder `folder/name` with images, `manifest.csv` and a commented `workbench.toml`; made on the first call.

    Downloads are kept in `cache`. The folder appears whole or not at all. One that an older version of this package
    made is replaced; a `workbench.toml` that was changed in it is kept as `workbench.previous.toml`. Raises
    PrerequisiteError if what it takes cannot be had, DatasetError if the name is not known or the place is taken.
    """
    if name not in _SETS:
        raise DatasetError(f"no embedded data set is called {name!r}; there are {', '.join(EMBEDDED)}")
    target, chosen = folder / name, _SETS[name]
    wanted = digest({"name": name, **chosen.recipe()})
    if _is_complete(target, wanted):
        return target
    if target.exists() and not _marker(target):
        raise DatasetError(
            f"{target} is there already and was not made by the workbench; move it, or choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(name, folder)
    part = folder / f".{name}-{secrets.token_hex(8)}.part"
    part.mkdir()
    try:
        root = chosen.write(part, cache.absolute(), progress)
        marker = {"recipe": wanted, "project": _sha256(part / _PROJECT), "root": None if root is None else str(root)}
        (part / _MARKER).write_text(json.dumps(marker), encoding="utf-8")
        _put_in_place(part, target, wanted)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _marker(folder: Path) -> dict[str, Any]:
    """What is known of a folder that `embedded` made; empty for any other."""
    try:
        return dict(json.loads((folder / _MARKER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _is_complete(folder: Path, wanted: str) -> bool:
    marker = _marker(folder)
    root = marker.get("root")
    return marker.get("recipe") == wanted and (root is None or Path(root).is_dir())


def _remove_abandoned(name: str, folder: Path) -> None:
    for part in folder.glob(f".{name}-*.part"):
        if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(part, ignore_errors=True)


def _put_in_place(part: Path, target: Path, wanted: str) -> None:
    """Rename the finished folder; what stood there before goes, but for a project file that was changed."""
    if _is_complete(target, wanted):  # another process was quicker
        return
    before = _marker(target)
    if before and _sha256(target / _PROJECT) not in ("", before.get("project")):
        shutil.copyfile(target / _PROJECT, part / "workbench.previous.toml")
    if before:
        shutil.rmtree(target)
    part.rename(target)


def _sha256(file: Path) -> str:
    """Of the file's bytes, in hex; empty if there is no such file."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
