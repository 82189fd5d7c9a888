"""What is wrong with a data set, row by row, as it is found while loading.

A row that cannot be used is *refused*: it has no place in the frame. A row with a flaw that the rest of the package
can bear (its file is missing, its label was trimmed) is kept and only reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from workbench.dataset.images import PROBLEM_COLUMNS

MISSING_FILE = "missing_file"
"""The one code of a kept row that still counts as bad: nothing can be answered about that image."""


@dataclass(frozen=True)
class Problem:
    """One finding."""

    place: str
    """`file:line` of a manifest (Parquet: `file:row`), or a path below the root."""
    code: str
    message: str
    refused: bool = True
    row: int | None = None
    """Position among the rows that the source lists, from 0; None where it is about no single row."""

    @property
    def spoils_row(self) -> bool:
        """The row is lost, or nothing can be answered about it."""
        return self.row is not None and (self.refused or self.code == MISSING_FILE)


def tabulate(problems: Iterable[Problem]) -> pd.DataFrame:
    """The findings as `Dataset.problems` holds them."""
    rows = [(problem.place, problem.code, problem.message, problem.refused) for problem in problems]
    return pd.DataFrame(rows, columns=list(PROBLEM_COLUMNS)).astype({"refused": bool})
