from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from workbench.evaluation import figures

HOSTILE = ["_x", "$a^{", "a$b", "a\nb\tc\x01", "L" * 500, "مرحبا", "👩‍👩‍👧 family", "标签", "\ud800", "", "<b>&"]


def test_text_becomes_one_short_line() -> None:
    assert "a b c" == figures.shorten("a\nb\t \x01c ")
    assert "abc…" == figures.shorten("abcdefgh", 4)
    assert "abcd" == figures.shorten("abcd", 4)
    assert "?" == figures.shorten("\ud800")


@given(st.text(), st.integers(1, 30))
def test_text_is_never_longer_than_asked_nor_on_two_lines(text: str, width: int) -> None:
    short = figures.shorten(text, width)
    assert len(short) <= width
    assert not set(short) & {"\n", "\r", "\t", "\x00"}


@pytest.mark.parametrize("label", HOSTILE)
def test_any_label_is_drawn_as_it_is_and_without_a_warning(label: str) -> None:
    ax = figures.new_axes(3, 2)
    (line,) = ax.plot([0, 1])
    figures.add_legend(ax, [line], [label])
    ax.set_xticks([0], [figures.printable(label)])
    figures.dress(ax, figures.printable(label), figures.printable(label))
    legend = ax.get_legend()
    assert legend is not None
    assert [figures.printable(label, 40)] == [text.get_text() for text in legend.get_texts()]
    assert figures.to_png(figures.figure_of(ax), dpi=40).startswith(b"\x89PNG")
    assert b"</svg>" in figures.to_svg(figures.figure_of(ax))


def test_a_dollar_sign_is_drawn_and_begins_no_mathematics() -> None:
    ax = figures.new_axes(3, 2)
    ax.set_title(figures.printable("$x_1$ & <b>"))
    assert ">$x_1$ &amp; &lt;b&gt;<" in figures.to_svg(figures.figure_of(ax)).decode()


def test_the_same_figure_gives_the_same_bytes() -> None:
    def drawn() -> bytes:
        ax = figures.new_axes(3, 2)
        ax.plot([0, 1, 0])
        return figures.to_svg(figures.figure_of(ax))

    assert drawn() == drawn()


def test_a_dark_copy_swaps_the_colours_and_leaves_texts_alone() -> None:
    ax = figures.new_axes(3, 2)
    ax.plot([0, 1], color=figures.LIGHT.first)
    ax.set_title("fill #0067a3")
    dark = figures.to_dark(figures.to_svg(figures.figure_of(ax))).decode()
    assert f"stroke: {figures.DARK.first}" in dark
    assert f"fill: {figures.DARK.ground}" in dark
    assert f"stroke: {figures.LIGHT.first}" not in dark
    assert "fill #0067a3" in dark


def test_the_theme_follows_the_ground_of_the_axes() -> None:
    ax = figures.new_axes()
    assert figures.LIGHT == figures.theme_of(ax)
    ax.set_facecolor("#101418")
    assert figures.DARK == figures.theme_of(ax)


def test_no_figure_is_registered() -> None:
    for _ in range(30):
        figures.new_axes()
    assert [] == plt.get_fignums()


@pytest.mark.parametrize(("count", "axes"), [(0, 1), (1, 1), (4, 4), (6, 6)])
def test_a_grid_has_the_axes_that_are_asked_for(count: int, axes: int) -> None:
    grid = figures.new_grid(count)
    assert axes == len(grid) == len(figures.figure_of(grid[0]).axes)


def test_removed_axes_have_no_figure() -> None:
    ax = figures.new_axes()
    ax.remove()
    with pytest.raises(ValueError, match="removed"):
        figures.figure_of(ax)


@pytest.mark.parametrize("theme", [figures.LIGHT, figures.DARK])
def test_text_has_enough_contrast(theme: figures.Theme) -> None:
    """WCAG 2.2, 1.4.3: 4.5 for text; 1.4.11: 3 for what a figure draws."""
    for name, least in (("ink", 4.5), ("soft", 4.5), ("first", 3.0), ("second", 3.0)):
        assert contrast(getattr(theme, name), theme.ground) >= least, name


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
