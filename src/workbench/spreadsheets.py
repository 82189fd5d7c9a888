"""Tables as CSV files in which every text stays in its cell, in spreadsheets too."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from numbers import Real

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a text begins with that a spreadsheet may run as a formula."""


def as_csv(rows: Iterable[Iterable[object]], *, defused: bool) -> str:
    r"""The rows, header first, with commas between cells and `\n` after each row; None is an empty text.

    Numbers stand as they are. All else stands as text in quotes: without them the `csv` module leaves a lone carriage
    return bare, after which spreadsheets and universal newlines begin a new row. `defused` puts an apostrophe before
    each text that begins like a formula; a file that is read back keeps its texts as they are.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerows([_cell(value, defused) for value in row] for row in rows)
    return buffer.getvalue()


def _cell(value: object, defused: bool) -> object:
    if isinstance(value, Real):
        return value
    text = "" if value is None else str(value)
    return "'" + text if defused and text.startswith(FORMULA_STARTS) else text
