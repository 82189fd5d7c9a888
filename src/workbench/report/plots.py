"""Figures about promises, and every figure as a picture that suits a light and a dark page.

What shows one result alone is drawn by the result itself (`.plot` in `evaluation`).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.evaluation import figures
from workbench.evaluation.summary import Evaluation
from workbench.evaluation.tradeoff import CategoryCurve, CertifiedRegion
from workbench.records import Evidence, Policy, Promise

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_SVG = "image/svg+xml"


@dataclass(frozen=True)
class Picture:
    """A figure as SVG data URIs, and what it shows in words."""

    light: str
    dark: str
    alt: str


def picture(draw: Callable[[Axes], object], alt: str, width: float = 6.4, height: float = 3.6) -> Picture:
    """What `draw` puts on the axes it is given, for a light and for a dark page; the size is in inches."""
    ax = figures.new_axes(width, height)
    draw(ax)
    light = figures.to_svg(figures.figure_of(ax))
    return Picture(data_uri(light, _SVG), data_uri(figures.to_dark(light), _SVG), alt)


CURVE_FRAME = (0.19, 0.2, 0.78, 0.77)
"""Left, bottom, width and height of the axes of `curve_picture`, as shares of the picture."""
_RIGHT, _TOP = 1.01, 1.03
"""Where its axes of recall and precision end."""


def unit_square() -> tuple[float, float, float, float]:
    """Where recall and precision from 0 to 1 lie in `curve_picture`: left, top, width, height, as shares from above."""
    left, bottom, width, height = CURVE_FRAME
    return left, 1 - bottom - height / _TOP, width / _RIGHT, height / _TOP


def curve_picture(
    curve: CategoryCurve, marks: Mapping[str, float], certified: Sequence[CertifiedRegion] = ()
) -> Picture:
    """A small multiple without a title."""

    def draw(ax: Axes) -> None:
        curve.plot(ax, marks, certified, titled=False)
        # Laying out dozens of small figures would take longer than drawing them.
        figures.figure_of(ax).set_layout_engine("none")
        ax.set_position(CURVE_FRAME)
        ax.set(xlim=(0, _RIGHT), ylim=(0, _TOP))

    reached, images = curve.curve.average_precision, curve.curve.positives
    alt = f"Precision against recall for {curve.category}: average precision {reached:.3f} over {images} images"
    return picture(draw, alt, 2.5, 2.2)


def data_uri(data: bytes, kind: str) -> str:
    """The bytes as a `data:` URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def marks_of(policy: Policy) -> dict[str, dict[str, float]]:
    """Category → action → threshold, for the tiers that can fire."""
    return {
        rule.category: {tier.action: tier.threshold for tier in rule.tiers if tier.threshold is not None}
        for rule in policy.categories
    }


def regions_of(evidence: Evidence) -> dict[str, list[CertifiedRegion]]:
    """Category → what is certified of its precision, in the order of the promises."""
    found: dict[str, list[CertifiedRegion]] = {}
    for promise in evidence.promises:
        if promise.metric == "precision" and promise.certified is not None and promise.confidence is not None:
            region = CertifiedRegion(promise.certified, promise.at_least, promise.confidence)
            found.setdefault(promise.category, []).append(region)
    return found


def plot_curves(evaluation: Evaluation, policy: Policy | None = None, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Small multiples of the precision–recall curves, the policy's thresholds and certified floors marked."""
    marks, certified = (marks_of(policy), regions_of(policy.evidence)) if policy else (None, None)
    return evaluation.curves.plot(axes, marks, certified)


def plot_thresholds(promises: Sequence[Promise], ax: Axes | None = None) -> Axes:
    """For each promise the threshold that was asked for on tune, and the one that the certify split allowed."""
    ax = ax or figures.new_axes(height=height_of(promises))
    theme = figures.theme_of(ax)
    asked = _rows_with(promises, lambda promise: promise.asked)
    certified = _rows_with(promises, lambda promise: promise.certified)
    for row in asked.keys() & certified.keys():
        ax.plot([asked[row], certified[row]], [row, row], color=theme.soft, linewidth=1)
    handles = [_dots(ax, asked, "D", theme.second, theme.ground), _dots(ax, certified, "o", theme.first, theme.first)]
    _name_rows(ax, promises, 0.0)
    ax.set(xlim=(-0.02, 1.02), xlabel="threshold on the score")
    figures.dress(ax, "Thresholds", grid="x")
    figures.add_legend(ax, handles, ["asked (tune)", "certified"], **figures.BELOW)
    return ax


def plot_bounds(promises: Sequence[Promise], ax: Axes | None = None) -> Axes:
    """For each promise its goal and, where certified, what was counted on certify and the bound that is promised."""
    ax = ax or figures.new_axes(height=height_of(promises))
    theme = figures.theme_of(ax)
    goals = _rows_with(promises, lambda promise: promise.at_least)
    bounds = _rows_with(promises, lambda promise: promise.lower_bound)
    counted = {row: promises[row].successes / max(1, promises[row].trials) for row in bounds}
    lowest = min([*goals.values(), *bounds.values()], default=0.0)
    left = max(0.0, lowest - 0.35 * (1 - lowest))
    for row in bounds:
        ax.plot([bounds[row], counted[row]], [row, row], color=theme.first, linewidth=1.4)
    handles = [
        ax.scatter(list(goals.values()), list(goals), marker="|", s=160, color=theme.second, linewidth=2),
        _dots(ax, bounds, "o", theme.first, theme.first),
        _dots(ax, counted, "o", theme.first, theme.ground),
    ]
    _name_rows(ax, promises, left)
    ax.set(xlim=(left - 0.01 * (1 - left), 1.01), xlabel="precision or recall on certify")
    figures.dress(ax, "Promises", grid="x")
    figures.add_legend(ax, handles, ["goal", "promised bound", "counted"], **figures.BELOW)
    return ax


def height_of(promises: Sequence[Promise]) -> float:
    """Inches that a chart of these promises wants."""
    return 1.5 + 0.28 * max(2, len(promises))


def _rows_with(promises: Sequence[Promise], figure: Callable[[Promise], float | None]) -> dict[int, float]:
    """Row → its figure, where it has one."""
    figures_by_row = ((row, figure(promise)) for row, promise in enumerate(promises))
    return {row: value for row, value in figures_by_row if value is not None}


def _dots(ax: Axes, values: Mapping[int, float], marker: str, colour: str, face: str) -> Any:
    look: dict[str, Any] = {"marker": marker, "edgecolor": colour, "facecolor": face, "linewidth": 1.3}
    return ax.scatter(list(values.values()), list(values), s=34, zorder=3, **look)


def _name_rows(ax: Axes, promises: Sequence[Promise], left: float) -> None:
    """Category and action on the axis; the verdict at the left where it is not `certified`."""
    names = [f"{figures.printable(p.category)} · {figures.printable(p.action, 12)}" for p in promises]
    ax.set_yticks(range(len(promises)), names)
    ax.set_ylim(len(promises) - 0.4, -0.6)
    soft = figures.theme_of(ax).soft
    for row, promise in enumerate(promises):
        if promise.verdict != "certified":
            ax.text(left, row, f"✕ {promise.verdict}", va="center", fontsize=figures.SMALL, color=soft)
