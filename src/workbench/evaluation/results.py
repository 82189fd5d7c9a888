"""What every result of an evaluation has in common: it names its split, and shows itself as its table.

`.frame()` gives the numbers as pandas; where a picture helps, `.plot(ax=None)` draws and returns what it drew on. A
figure that no image stands behind is NaN, printed "n/a", and always stands beside the number of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

_OPTIMISM = {
    "tune": "optimistic: the tune split chose thresholds",
    "train": "optimistic: the train split taught the approach",
}
_MOST_ROWS = 40
NO_MATHEMATICS = "tex2jax_ignore mathjax_ignore"
"""Classes that keep MathJax from reading "$5 or $10" in a label as a formula."""


class Result:
    """Shows itself in a notebook as its table."""

    def frame(self) -> pd.DataFrame:
        """The numbers."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return as_html(self.frame())


def describe_splits(splits: Sequence[str]) -> str:
    """Which splits the figures come from, and in which way that flatters: "tune (optimistic: …)"."""
    remarks = [_OPTIMISM[split] for split in splits if split in _OPTIMISM]
    return ", ".join(splits) + (f" ({'; '.join(remarks)})" if remarks else "")


def as_html(frame: pd.DataFrame) -> str:
    """The table as HTML, every text in it escaped; NaN reads "n/a"; long tables are cut in the middle."""
    look: Any = {"classes": NO_MATHEMATICS.split(), "float_format": "{:.3f}".format}
    return str(frame.to_html(escape=True, na_rep="n/a", index=False, max_rows=_MOST_ROWS, **look))


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, NaN where the whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole != 0))
