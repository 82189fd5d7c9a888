"""Write small folders of files that tests load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from workbench.dataset.images import Dataset


def lay_out(folder: Path, files: Iterable[str] | Mapping[str, str | bytes]) -> Path:
    """Write files by their path below `folder`; a name that ends in `/` is a folder; bare names are empty files."""
    contents = files if isinstance(files, Mapping) else dict.fromkeys(files, b"")
    for name, content in contents.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def labels_of(dataset: Dataset) -> dict[str, tuple[str, ...] | None]:
    """Image id → labels."""
    return dict(zip(dataset.frame["image_id"], dataset.frame["labels"], strict=True))


def codes_of(problems: pd.DataFrame) -> list[tuple[str, str, bool]]:
    """(place, code, refused) of every problem, sorted."""
    return sorted(problems[["place", "code", "refused"]].itertuples(index=False, name=None))
