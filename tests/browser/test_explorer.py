"""The rejection explorer in a real JupyterLab: dragged, typed, stepped with keys, and its figures."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

from browser.lab import KEYS, Lab, drag
from browser.things import CATEGORIES, GOALS, HOSTILE, run_of, things
from workbench.canonical import binary32
from workbench.evaluation.intervals import upper_bound
from workbench.evaluation.labelled import join
from workbench.evaluation.thresholds import choose_rejection
from workbench.widgets.exploration import Exploration

OPEN = """
from pathlib import Path
from browser.things import GOALS, run_of, things
from workbench.widgets.explorer import RejectionExplorer

dataset = things(Path("things"))
explorer = RejectionExplorer(run_of(dataset), dataset, GOALS)
explorer
"""


@pytest.fixture
def explorer(lab: Lab) -> Lab:
    lab.open("explorer", [OPEN, "x = 1"])
    lab.run_all()
    lab.page.wait_for_selector(".wb-explorer .wb-picture img[src]")
    return lab


@cache
def exploration(root: Path) -> Exploration:
    """What the notebook's explorer is opened on."""
    dataset = things(root / "things")
    return Exploration(join(run_of(dataset), dataset), GOALS)


def rule(lab: Lab) -> tuple[str, float | None]:
    signal, threshold = lab.kernel("[explorer.rule.signal, explorer.rule.threshold]")
    return str(signal), threshold


def settled(page: Page) -> None:
    """The kernel has answered all, and its exact figures stand."""
    page.wait_for_function(
        """() => !document.querySelector(".wb-explorer-stale") &&
           !document.querySelector(".wb-explorer-figures").textContent.includes("…")"""
    )


def figures(page: Page) -> dict[str, str]:
    found: dict[str, str] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".wb-explorer-figures [data-figure]")]
           .map((cell) => [cell.dataset.figure, cell.textContent]))"""
    )
    return found


def test_the_cut_is_dragged_typed_stepped_undone_and_proposed(explorer: Lab) -> None:
    page = explorer.page
    proposed = choose_rejection(exploration(explorer.root).tune, GOALS)
    assert (proposed.signal, proposed.threshold) == rule(explorer)
    drag(page, ".wb-explorer-histogram", (0.4, 0.5), (0.6, 0.5))
    settled(page)
    _, dragged = rule(explorer)
    assert dragged is not None
    assert dragged > 0.5
    drag(page, ".wb-explorer-curve", (0.9, 0.8), (0.3, 0.5))
    settled(page)
    _, on_curve = rule(explorer)
    assert on_curve is not None
    assert on_curve < dragged
    explorer.screenshot("explorer-dragged", ".wb-explorer")
    field = page.locator(".wb-explorer-threshold")
    field.fill("0,345678")
    field.press("Enter")
    settled(page)
    assert ("top", binary32(0.345678)) == rule(explorer)
    page.locator(".wb-explorer-histogram").press("ArrowRight")
    settled(page)
    _, stepped = rule(explorer)
    assert stepped is not None
    assert stepped > 0.3456
    page.locator(".wb-explorer-looser").click()
    settled(page)
    assert stepped > (rule(explorer)[1] or 1)
    for _ in range(5):
        page.locator(".wb-explorer-undo").click()
        settled(page)
    assert (proposed.signal, proposed.threshold) == rule(explorer)
    assert "true" == page.locator(".wb-explorer-undo").get_attribute("aria-disabled")
    page.locator(".wb-explorer-redo").click()
    settled(page)
    assert ("top", dragged) == rule(explorer)
    page.locator(".wb-explorer-propose").click()
    page.wait_for_function("() => document.querySelector('.wb-explorer-redo').ariaDisabled === 'true'")
    settled(page)
    assert (proposed.signal, proposed.threshold) == rule(explorer)


def test_keys_step_undo_propose_switch_off_and_walk_the_signals(explorer: Lab) -> None:
    page, proposed = explorer.page, rule(explorer)
    page.locator(".wb-explorer-curve").press("Shift+ArrowRight")
    settled(page)
    assert rule(explorer)[1] != proposed[1]
    page.keyboard.press("z")
    settled(page)
    assert proposed == rule(explorer)
    page.keyboard.press("o")
    page.wait_for_function("() => document.querySelector('.wb-explorer-threshold').value === 'none'")
    settled(page)
    assert "none" == rule(explorer)[0]
    page.keyboard.press("p")
    page.wait_for_function("() => document.querySelector('.wb-explorer-threshold').value !== 'none'")
    settled(page)
    assert proposed == rule(explorer)
    page.keyboard.press("s")
    page.wait_for_function(
        "() => document.querySelector('.wb-explorer-signal[aria-pressed=true]').textContent === 'margin'"
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    signal=st.sampled_from(["top", "margin", "entropy"]), limit=st.none() | st.floats(0, 1, width=32), data=st.data()
)
def check_figures(lab: Lab, signal: str, limit: float | None, data: st.DataObject) -> None:
    page, state = lab.page, exploration(lab.root)
    source = data.draw(st.integers(-1, 1))
    page.locator(".wb-explorer-signal").nth(["top", "margin", "entropy"].index(signal)).click()
    page.wait_for_function(
        "(name) => document.querySelector('.wb-explorer-signal[aria-pressed=true]').textContent === name", arg=signal
    )
    page.locator(".wb-explorer-source").nth(1 + source).click()
    field = page.locator(".wb-explorer-threshold")
    field.fill("none" if limit is None else repr(limit))
    field.press("Enter")
    settled(page)
    state.choose(signal)
    state.move(limit)
    page.wait_for_function(
        "(words) => document.querySelector('.wb-explorer-rule').textContent === words",
        arg="nothing is rejected" if limit is None else lab.kernel("explorer._state['rule']"),
    )
    assert expected(state) == figures(page)
    table = state.accepted()
    shown = page.locator(".wb-explorer-told button").all_inner_texts()
    assert [f"{count:,}" for count in table.to_numpy().ravel() if count] == shown


def expected(state: Exploration) -> dict[str, str]:
    """Each figure of the page, from the measures of `evaluation`."""
    point, told = state.point(), state.unknown_told()
    assert told is not None
    sides: list[tuple[str, int, int, float | None]] = [("known", point.known_rejected, point.known, 0.3)]
    groups: list[tuple[str, Any, float | None]] = [("accepted", point.unknown_accepted, None), ("told", told, 0.5)]
    for name, counts, goal in groups:
        sides.append((f"{name} -1", int(counts.sum()), int(point.unknown.sum()), None))
        sides += [
            (f"{name} {place}", int(count), int(whole), goal)
            for place, (count, whole) in enumerate(zip(counts, point.unknown, strict=True))
        ]
    found = dict[str, str]()
    for name, count, whole, goal in sides:
        bound = f"{100 * float(upper_bound(count, whole, 0.05)):.1f} %"
        found |= {
            f"count {name}": f"{count:,} of {whole:,}",
            f"share {name}": f"{100 * (count / whole):.1f} %",
            f"upper {name}": "" if name.endswith("-1") else bound,
            f"verdict {name}": "" if goal is None else f"{'✓' if count / whole <= goal else '✕'} ≤ {100 * goal:.1f} %",
        }
    return found


def test_every_number_on_the_page_is_that_of_evaluation(explorer: Lab) -> None:
    check_figures(explorer)


def test_no_key_changes_a_cell(explorer: Lab) -> None:
    page, before = explorer.page, explorer.cells()
    places = (
        "curve",
        "histogram",
        "threshold",
        "signal",
        "undo",
        "source",
        "told button",
        "accepted .wb-picture-frame",
    )
    for where in (f".wb-explorer-{place}" for place in places):
        for key in KEYS:
            if not page.locator(where).count():  # a key switched off what made it
                page.locator(".wb-explorer-off").focus()
                page.keyboard.press("o")
                page.wait_for_selector(where)
            page.locator(where).first.press(key)
            if key not in {"Tab", "Escape"}:
                page.keyboard.press("a")  # wherever that key took the focus, the widget has it
            assert before == explorer.cells(), (where, key)


def test_a_number_shows_its_pictures_labels_are_text_and_errors_are_seen(explorer: Lab) -> None:
    page = explorer.page
    assert 0 == page.locator(".wb-explorer img[src='x']").count()
    assert HOSTILE in page.locator(".wb-explorer-told").inner_text()
    page.locator(".wb-explorer-told button").first.click()
    page.wait_for_selector(".wb-explorer-cell .wb-picture img[src]")
    source, category = explorer.kernel("[explorer.accepted().index[0], explorer.accepted().columns[0]]")
    assert category in CATEGORIES
    shown = page.eval_on_selector_all(".wb-explorer-cell .wb-picture", "found => found.map((x) => x.dataset.id)")
    asked = f"[x.image_id for x in explorer.exploration.cell({source!r}, {category!r}, 24)]"
    assert explorer.kernel(asked) == shown
    field = page.locator(".wb-explorer-threshold")
    field.fill("1.7")
    field.press("Enter")
    page.wait_for_function("() => document.querySelector('.wb-error').textContent.includes('between 0 and 1')")
    assert "1.7" == field.input_value()
    field.press("Escape")
    assert page.locator(".wb-error").is_hidden()
    explorer.screenshot_themes("explorer", ".wb-explorer")


def test_what_python_moves_the_page_shows(explorer: Lab) -> None:
    explorer.kernel("explorer.move(0.5)")
    explorer.page.wait_for_function("() => document.querySelector('.wb-explorer-threshold').value === '0.5'")
    explorer.page.wait_for_function(
        "(ids) => ids.join() === [...document.querySelectorAll('.wb-explorer-accepted .wb-picture')]"
        ".map((picture) => picture.dataset.id).join()",
        arg=explorer.kernel("[image.image_id for image in explorer.exploration.near()[0]]"),
    )
    explorer.kernel("explorer.choose('entropy')")
    explorer.page.wait_for_function(
        "() => document.querySelector('.wb-explorer-rule').textContent.includes('entropy >')"
    )
