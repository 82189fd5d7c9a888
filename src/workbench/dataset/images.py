"""One `Dataset`: labelled images, with a pandas frame behind them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.canonical import digest
from workbench.records import Image, Taxonomy

SPLITS = ("train", "tune", "certify")

COLUMNS = ("image_id", "path", "labels", "split", "group", "weight", "source")
"""The columns that every frame has; more may follow and serve as slices.

image_id  text, unique: the path as the data set writes it, in Unicode NFC
path      text: below the root, with forward slashes, as the file system spells it
labels    tuple of known categories, () for unknown, None for an image that is not labelled
split     train, tune or certify
group     text: images that share it are not independent; the image_id where the data names none
weight    float64 > 0: how many images of production this one stands for; 1.0 where the data gives none
source    text: where the image comes from; "" where the data does not say
"""

LEDGER_FILE = "workbench-ledger.sqlite"
"""The file beside the images that remembers who looked at their certify labels; see `release.ledger`."""

PROBLEM_COLUMNS = ("place", "code", "message", "refused")
"""place: `file:line` or a path; refused: True if there is no row for it, False if the row is kept as it is."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images below one folder."""

    name: str
    root: Path
    taxonomy: Taxonomy
    frame: pd.DataFrame
    problems: pd.DataFrame
    sampling: str = "random"
    """How the images to label were chosen: `random`, or `by score`, which needs weights."""
    collected: str = ""
    """The day (ISO 8601) up to which the images were collected; "" where the data does not say."""
    sensitive: bool = False
    """Nobody should see these pictures unasked: reports leave them out, widgets blur them until they are revealed."""

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[Image]:
        columns = (self.frame[name] for name in ("image_id", "labels", "group", "split"))
        return (Image(*row) for row in zip(*columns, strict=True))

    def on(self, *splits: str) -> Dataset:
        """The images of these splits alone."""
        return replace(self, frame=self.frame[self.frame["split"].isin(splits)].reset_index(drop=True))

    def file(self, path: str) -> Path:
        """Where the image of a row lies."""
        return self.root / path

    @property
    def truth(self) -> np.ndarray:
        """(n, K) bool: which categories each image shows, in taxonomy order. Unlabelled images show none."""
        return truth_matrix(self.frame["labels"], self.taxonomy.categories)

    def counts(self) -> pd.DataFrame:
        """Images by category (rows; unknown and not labelled last, where there are any) and split, and all together."""
        shown = pd.DataFrame(self.truth, columns=list(self.taxonomy.categories))
        unlabelled = self.frame["labels"].isna().to_numpy()
        shown[self.taxonomy.unknown] = ~shown.any(axis=1) & ~unlabelled
        if unlabelled.any():
            shown["(not labelled)"] = unlabelled
        counts = (
            shown.groupby(self.frame["split"])
            .sum()
            .T.reindex(columns=[s for s in SPLITS if s in set(self.frame["split"])])
        )
        return counts.assign(all=counts.sum(axis=1)).rename_axis("category").rename_axis(None, axis=1)

    @cached_property
    def contents(self) -> pd.Series:
        """SHA-256, in hex, of each file's bytes; "" where it cannot be read. In the frame's order."""
        return pd.Series(
            [_content(self.file(path)) for path in self.frame["path"]], index=self.frame.index, dtype=object
        )

    @cached_property
    def digest(self) -> str:
        """Names images (by content, not by path), labels, splits, groups, weights, sources, taxonomy and sampling."""
        groups = self.frame["group"].where(self.frame["group"] != self.frame["image_id"], "")
        columns = (
            self.contents,
            self.frame["labels"],
            self.frame["split"],
            groups,
            self.frame["weight"],
            self.frame["source"],
        )
        lines = sorted(digest(list(row)) for row in zip(*columns, strict=True))
        sampling = {} if self.sampling == "random" else {"sampling": self.sampling}
        return digest({"taxonomy": self.taxonomy.digest, "images": lines, **sampling})


def truth_matrix(labels: Sequence[tuple[str, ...] | None] | pd.Series, categories: Sequence[str]) -> np.ndarray:
    """(n, K) bool from one tuple of categories per image."""
    place = {category: column for column, category in enumerate(categories)}
    truth = np.zeros((len(labels), len(categories)), dtype=bool)
    for row, shown in enumerate(labels):
        for category in shown or ():
            truth[row, place[category]] = True
    return truth


def _content(path: Path) -> str:
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
