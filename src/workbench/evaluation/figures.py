"""The look that every figure shares, light and dark: calm, colour-blind safe, never telling by colour alone.

Figures are plain `Figure` objects, never registered with pyplot: nothing stays open, and no display is needed. Labels
come from data: `printable` makes any text safe to draw, `add_legend` shows it even where it starts with "_".
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE, TEXT, SMALL = 10.0, 8.5, 7.5
"""Font sizes, in points."""


@dataclass(frozen=True)
class Theme:
    """The colours of one look; its two series stay apart in the common colour blindnesses (Okabe and Ito 2008)."""

    ground: str
    ink: str
    soft: str
    """Second-rank text; contrast against the ground at least 4.5."""
    line: str
    first: str
    second: str


LIGHT = Theme("#ffffff", "#1f2328", "#59636e", "#d8dee4", "#0067a3", "#b84a00")
DARK = Theme("#171c22", "#e6edf3", "#9fabb7", "#343d47", "#66b8ee", "#ff9d57")


def new_axes(width: float = 6.4, height: float = 3.6) -> Axes:
    """Empty axes on a figure of their own, in inches."""
    return new_grid(1, columns=1, width=width, row_height=height)[0]


def new_grid(count: int, columns: int = 4, width: float = 9.6, row_height: float = 2.5) -> list[Axes]:
    """`count` axes, row by row, at least one, on one figure that is `width` inches wide."""
    from matplotlib.figure import Figure

    columns = max(1, min(columns, count))
    rows = max(1, ceil(count / columns))
    figure = Figure(figsize=(width, row_height * rows), layout="constrained", facecolor=LIGHT.ground)
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[max(1, count) :]:
        unused.remove()
    return axes[: max(1, count)]


def figure_of(ax: Axes) -> Figure:
    """The whole figure on which `ax` stands."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("these axes were removed from their figure")
    return figure


def theme_of(ax: Axes) -> Theme:
    """The theme that suits the ground of `ax`, whoever made it."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(ax.get_facecolor())
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else LIGHT


def dress(ax: Axes, title: str = "", note: str = "", grid: Literal["both", "x", "y"] | None = "both") -> None:
    """Quiet spines, ticks and grid; the title at the left, under it the note (which split the figures come from)."""
    theme = theme_of(ax)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.line)
    ax.tick_params(colors=theme.line, labelcolor=theme.soft, labelsize=SMALL, length=2.5)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set(color=theme.soft, fontsize=TEXT)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(axis=grid, color=theme.line, linewidth=0.6)
    ax.set_title(title, loc="left", color=theme.ink, fontsize=TITLE, pad=16 if note else 6)
    if note:
        ax.annotate(
            note,
            (0, 1),
            (0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            color=theme.soft,
            fontsize=SMALL,
            annotation_clip=False,
        )


def add_legend(ax: Axes, handles: Sequence[Any], labels: Sequence[str], **place: Any) -> None:
    """A legend of `labels` as they are: one that starts with "_" is shown, one with a "$" is not mathematics."""
    theme = theme_of(ax)
    blank = [str(number) for number in range(len(labels))]
    look: dict[str, Any] = {"facecolor": theme.ground, "edgecolor": "none", "framealpha": 0.85, "fancybox": False}
    legend = ax.legend(list(handles), blank, fontsize=SMALL, **look, **place)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set(text=printable(label, 40), color=theme.ink)


BELOW: Mapping[str, Any] = {"loc": "upper right", "bbox_to_anchor": (1, 0), "borderaxespad": 4.4, "ncols": 3}
"""A legend's place under the axis label."""


def shorten(text: str, width: int = 24) -> str:
    """`text` on one line of at most `width` characters, "…" for the rest; control characters become spaces."""
    whole = text.encode("utf-8", "replace").decode()
    line = " ".join("".join(" " if unicodedata.category(sign) == "Cc" else sign for sign in whole).split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def printable(text: str, width: int = 24) -> str:
    """`text` shortened for a figure; a "$" in it stays a "$" and begins no mathematics."""
    return shorten(text, width).replace("$", r"\$")


def to_png(figure: Figure, dpi: int = 144) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with _missing_glyphs_allowed():
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def to_svg(figure: Figure) -> bytes:
    """The figure as an SVG file, text kept as text, the same bytes for the same figure."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    # Printing from the canvas draws once; `savefig` draws everything twice.
    with _missing_glyphs_allowed(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "workbench"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def to_dark(svg: bytes) -> bytes:
    """An SVG from `to_svg` that was drawn in LIGHT, in DARK."""
    swap = {getattr(LIGHT, field.name): getattr(DARK, field.name) for field in fields(Theme)}
    pattern = r"(?<=(?:fill|roke): )#[0-9a-f]{6}"
    return re.sub(pattern, lambda found: swap.get(found[0], found[0]), svg.decode()).encode()


@contextmanager
def _missing_glyphs_allowed() -> Iterator[None]:
    """A label in a script that no font here has is drawn as boxes; that is no reason to warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+", category=UserWarning)
        yield
