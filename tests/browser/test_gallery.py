"""The gallery in a real JupyterLab: scrolled, filtered, sorted, selected, labelled and exported."""

from __future__ import annotations

import csv

import pytest
from playwright.sync_api import Page

from browser.lab import KEYS, Lab
from browser.things import HOSTILE

OPEN = """
from pathlib import Path
from browser.things import GOALS, run_of, things
from workbench.widgets.gallery import Gallery

dataset = things(Path("things"), sensitive=SENSITIVE)
gallery = Gallery.mistakes(run_of(dataset), dataset)
gallery
"""
MANY = """
import pandas as pd
from pathlib import Path
from browser.things import things
from workbench.widgets.gallery import Gallery

dataset = things(Path("things"))
frame = dataset.frame
frame = pd.concat([frame.assign(image_id=frame["image_id"] + f"#{turn}") for turn in range(100)], ignore_index=True)
from dataclasses import replace
gallery = Gallery(frame[["image_id", "split"]], replace(dataset, frame=frame), title="many")
gallery
"""


def open_gallery(lab: Lab, source: str, name: str) -> Page:
    page = lab.open(name, [source, "x = 1"])
    lab.run_all()
    page.wait_for_selector(".wb-gallery .wb-gallery-tile .wb-gallery-cell")
    return page


@pytest.fixture
def gallery(lab: Lab) -> Lab:
    page = open_gallery(lab, OPEN.replace("SENSITIVE", "False"), "gallery")
    page.wait_for_selector(".wb-gallery .wb-gallery-tile img[src]")
    return lab


def counted(page: Page, words: str) -> None:
    """The line above the grid says so, and the tiles show it."""
    page.wait_for_function(
        "(words) => document.querySelector('.wb-gallery-count').textContent.includes(words)", arg=words
    )


SHOWN = """() => Object.fromEntries([...document.querySelectorAll(".wb-gallery-tile")]
  .map((tile) => [tile.dataset.place, tile.querySelector(".wb-gallery-cell")?.textContent ?? ""]))"""
"""By place the id that a tile shows; while a row is on its way, a tile shows none."""


def shows_what_the_kernel_has(lab: Lab) -> None:
    """Soon each tile shows the id of the kernel's row at its place; what the page asked may not have arrived yet."""
    for _ in range(100):
        shown = lab.page.evaluate(SHOWN)
        ids = lab.kernel("list(gallery.frame()['image_id'])")
        if shown and all(ids[int(place) : int(place) + 1] == [image_id] for place, image_id in shown.items()):
            return
        lab.page.wait_for_timeout(100)
    raise AssertionError(shown)


def test_rows_are_filtered_sorted_selected_labelled_taken_back_and_exported(gallery: Lab) -> None:
    page, cells = gallery.page, gallery.cells()
    rows = gallery.kernel("len(gallery.rows)")
    counted(page, f"{rows:,} of {rows:,} shown")
    gallery.screenshot("gallery-light", ".wb-gallery")
    page.locator(".wb-gallery-panel summary").click()
    page.locator("fieldset[data-column='1'] label", has_text="square").locator("input").check()
    expected = gallery.kernel("int((gallery.frame('all')['taken for'] == 'square').sum())")
    assert 0 < expected < rows
    counted(page, f"{expected:,} of {rows:,} shown")
    shows_what_the_kernel_has(gallery)
    page.locator(".wb-gallery-query").fill("unknown")
    page.wait_for_function(
        "(n) => !document.querySelector('.wb-gallery-count').textContent.startsWith(n)", arg=str(expected)
    )
    shows_what_the_kernel_has(gallery)
    assert {"unknown"} == set(gallery.kernel("list(gallery.frame()['shows'])"))
    page.locator(".wb-gallery-sort").select_option("id")
    page.locator(".wb-gallery-direction").click()
    page.wait_for_selector(".wb-gallery-tile[data-place='0'] >> text=0002.png")
    shows_what_the_kernel_has(gallery)
    ids = gallery.kernel("list(gallery.frame()['image_id'])")
    assert sorted(ids) == ids
    page.locator(".wb-gallery-tile[data-place='1']").click()
    page.locator(".wb-gallery-tile[data-place='3']").click(modifiers=["Shift"])
    page.locator(".wb-gallery-tile[data-place='5']").click(modifiers=["Control"])
    counted(page, "4 selected")
    assert [ids[place] for place in (1, 2, 3, 5)] == gallery.kernel("gallery.selected")
    page.locator(".wb-gallery-label").select_option(label="square")
    page.locator(".wb-gallery-said").fill("looks square, =1+1")
    page.locator(".wb-gallery-apply").click()
    counted(page, "4 labelled")
    page.wait_for_function("() => document.querySelectorAll('.wb-gallery-mark').length === 4")
    gallery.screenshot("gallery-labelled", ".wb-gallery")
    page.locator(".wb-gallery-undo").click()
    counted(page, "0 labelled")
    page.locator(".wb-gallery-redo").click()
    counted(page, "4 labelled")
    page.locator(".wb-gallery-path").fill("found.csv")
    page.locator(".wb-gallery-export").click()
    page.wait_for_function("() => document.querySelector('.wb-gallery-written').textContent.includes('found.csv')")
    with (gallery.root / "found.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [ids[place] for place in (1, 2, 3, 5)] == [row["image_id"] for row in written]
    assert {("square", "looks square, =1+1")} == {(row["gallery_label"], row["gallery_note"]) for row in written}
    (gallery.root / "other.csv").write_text("not ours")
    page.locator(".wb-gallery-path").fill("other.csv")
    page.locator(".wb-gallery-export").click()
    page.wait_for_function("() => document.querySelector('.wb-error').textContent.includes('is there already')")
    assert "not ours" == (gallery.root / "other.csv").read_text()
    assert cells == gallery.cells()


def test_keys_move_select_enlarge_and_take_back(gallery: Lab) -> None:
    page = gallery.page
    ids = gallery.kernel("list(gallery.frame()['image_id'])")
    grid = page.locator(".wb-gallery-scroll")
    grid.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    counted(page, "3 selected")
    assert ids[1:4] == gallery.kernel("gallery.selected")
    page.keyboard.press("End")
    page.wait_for_function(
        "(id) => [...document.querySelectorAll('.wb-gallery-tile')].some((tile) => tile.textContent.startsWith(id))",
        arg=ids[-1],
    )
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog.wb-enlarged[open] img[src]")
    assert ids[-1] in page.locator("dialog.wb-enlarged").inner_text()
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog.wb-enlarged", state="detached")
    assert page.evaluate("() => document.querySelector('.wb-gallery').contains(document.activeElement)")
    counted(page, "3 selected")
    page.locator(".wb-gallery-scroll").press("Control+a")
    counted(page, f"{len(ids):,} selected")
    page.keyboard.press("Escape")
    counted(page, "0 selected")


def test_no_key_changes_a_cell(gallery: Lab) -> None:
    page, before = gallery.page, gallery.cells()
    page.locator(".wb-gallery-panel summary").click()
    names = (
        "scroll",
        "query",
        "sort",
        "direction",
        "size",
        "panel summary",
        "panel input",
        "all",
        "label",
        "said",
        "path",
    )
    for where in (f".wb-gallery-{name}" for name in names):
        for key in KEYS:
            page.locator(where).first.press(key)
            if key not in {"Tab", "Escape"}:
                page.keyboard.press("a")  # wherever that key took the focus, the widget has it
            if page.locator("dialog.wb-enlarged").count():
                page.keyboard.press("Escape")
            if page.locator(".wb-gallery-panel:not([open])").count():
                page.locator(".wb-gallery-panel summary").click()
            if page.locator(".wb-gallery-scroll").is_hidden():  # what was typed filtered everything away
                page.locator(".wb-gallery-query").fill("")
                page.wait_for_selector(".wb-gallery-tile")
            assert before == gallery.cells(), (where, key)


def test_labels_are_text_and_both_themes_are_drawn(gallery: Lab) -> None:
    page = gallery.page
    assert 0 == page.locator(".wb-gallery img[src='x']").count()
    page.locator(".wb-gallery-panel summary").click()
    assert HOSTILE in page.locator(".wb-gallery-filters").inner_text()
    gallery.screenshot_themes("gallery", ".wb-gallery")


def test_only_what_is_seen_is_in_the_page_however_many_rows_there_are(lab: Lab) -> None:
    page = open_gallery(lab, MANY, "gallery-many")
    counted(page, "150,000 of 150,000 shown")
    most = 0
    for share in (0, 0.2, 0.5, 0.9, 1):
        page.locator(".wb-gallery-scroll").evaluate(
            "(grid, share) => { grid.scrollTop = share * grid.scrollHeight; }", share
        )
        page.wait_for_function(
            """(share) => { const tiles = [...document.querySelectorAll(".wb-gallery-tile")];
               const first = Math.min(...tiles.map((tile) => tile.dataset.place));
               return Math.abs(first / 150_000 - share) < 0.01; }""",
            arg=share,
        )
        most = max(most, page.locator(".wb-gallery-tile").count())
        shows_what_the_kernel_has(lab)
    assert 10 < most < 100
    page.locator(".wb-gallery-scroll").press("End")
    page.wait_for_selector(".wb-gallery-tile[data-place='149999'] .wb-gallery-cell")
    lab.screenshot("gallery-many", ".wb-gallery")


def test_sensitive_pictures_are_blurred_until_revealed(lab: Lab) -> None:
    page = open_gallery(lab, OPEN.replace("SENSITIVE", "True"), "gallery-sensitive")
    page.wait_for_selector(".wb-gallery-tile .wb-picture-blurred")
    lab.screenshot("gallery-blurred", ".wb-gallery")
    page.locator(".wb-gallery-tile[data-place='0']").dblclick()
    page.wait_for_selector("dialog.wb-enlarged[open] img[src]")
    assert "marked sensitive" in page.locator("dialog.wb-enlarged").inner_text()
    page.locator(".wb-reveal").click()
    page.wait_for_function("() => !document.querySelector('.wb-gallery-tile[data-place=\"0\"] .wb-picture-blurred')")
    page.keyboard.press("Escape")
    assert page.locator(".wb-gallery-tile .wb-picture-blurred").count() > 10
