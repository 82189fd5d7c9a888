"""What a source lists, before anything is judged: the common form of folders, tables and manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.dataset.problems import Problem

RawLabels = tuple[str, ...] | None
"""Labels as written; () is "none of the categories", None is "not labelled"."""

FIXED = ("place", "path", "labels", "split", "group", "weight", "inclusion_probability", "source")


@dataclass(frozen=True)
class Rows:
    """One row per listed image."""

    frame: pd.DataFrame
    """The columns FIXED, then every other column of the source; text as written, "" where the source says nothing.

    place   `file:line`, or the path where there is no manifest
    path    relative to the root
    labels  RawLabels
    """
    problems: list[Problem]
    """What was found while reading; `row` is the position in the frame."""
    manifests: tuple[tuple[Path, list[int]], ...] = ()
    """Each manifest and the lines of its rows, in the frame's order; empty where there is none."""

    def __len__(self) -> int:
        return len(self.frame)


def rows_frame(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """The frame of `Rows` from one list per column; absent columns of FIXED (but place, path, labels) are ""."""
    count = len(columns["path"])
    fixed = {name: columns.get(name, [""] * count) for name in FIXED}
    slices = {name: values for name, values in columns.items() if name not in FIXED}
    kinds = {"labels": object}
    return pd.DataFrame(
        {name: pd.Series(list(values), dtype=kinds.get(name, "str")) for name, values in (fixed | slices).items()}
    )


def join_rows(parts: Sequence[Rows]) -> Rows:
    """The rows of several manifests, one after the other."""
    frame = pd.concat([part.frame for part in parts], ignore_index=True)
    slices = [name for name in frame.columns if name not in FIXED]
    frame[slices] = frame[slices].fillna("")
    problems, offset = [], 0
    for part in parts:
        problems += [p if p.row is None else replace(p, row=p.row + offset) for p in part.problems]
        offset += len(part)
    return Rows(frame, problems, tuple(manifest for part in parts for manifest in part.manifests))
