"""What to label next in a real JupyterLab: power by keys, the queue by one click, and pictures of it."""

from __future__ import annotations

import csv

import pytest

from browser.lab import Lab

OPEN = """
from dataclasses import replace
from pathlib import Path
import pandas as pd
from browser.things import GOALS, TAXONOMY, run_of, things
from labelled_runs import make_run
from samples import make_origin
from workbench.evaluation.labelled import join
from workbench.evaluation.thresholds import draft_thresholds
from workbench.release.gate import release_draft
from workbench.release.ledger import Ledger
from workbench.widgets.labelling import LabelNext

full = things(Path("things"))
blank = (full.frame["split"] == "certify") & (pd.Series(range(len(full))) % 3 > 0)
labels = pd.Series([None if b else own for b, own in zip(blank, full.frame["labels"])], dtype=object)
dataset = replace(full, frame=full.frame.assign(labels=labels), sensitive=SENSITIVE)
goals = GOALS.model_copy(update={"prevalence": None})
scores, ledger = run_of(full, 5.0).scores, Ledger.in_memory()
run = make_run(dataset, scores, complete=True, origin=make_origin(TAXONOMY))
draft = draft_thresholds(join(run, dataset), goals, int((dataset.frame["split"] == "certify").sum()))
release = release_draft(draft, run, dataset, ledger=ledger)
label = LabelNext(release, run, dataset, ledger=ledger, out="queue.csv")
label
"""
REVEALS = """(lambda file: len(file.read_text().splitlines()) if file.exists() else 0)(
    __import__("workbench.config.store").config.store.store_folder() / "reveals.jsonl"
)"""
"""How many pictures were revealed so far."""


@pytest.mark.parametrize("sensitive", [False, True])
def test_a_power_is_chosen_and_one_click_makes_the_queue(lab: Lab, sensitive: bool) -> None:
    lab.open(f"label-{sensitive}", [OPEN.replace("SENSITIVE", str(sensitive)), "x = 1"])
    lab.run_all()
    page = lab.page
    page.wait_for_selector(".wb-label .wb-picture img[src]")
    cells = lab.cells()
    assert 0.8 == lab.kernel("label.plan.power")
    slider = page.locator(".wb-label-power")
    slider.focus()
    for _ in range(5):
        slider.press("ArrowLeft")
    for key in ("a", "b", "x", "Enter", "Shift+M"):
        slider.press(key)
    page.wait_for_function("() => document.querySelector('.wb-label-count').textContent.includes('75 %')")
    assert 0.75 == lab.kernel("label.plan.power")
    needed = lab.kernel("[p.needed for p in label.plan.promises]")
    shown = page.locator(".wb-label-needed").all_inner_texts()
    assert sorted("–" if n is None else f"{n:,} images" for n in needed) == sorted(shown)
    assert (page.locator(".wb-label .wb-blurred").count() > 0) == sensitive
    path = f"queue-{sensitive}.csv"
    page.locator(".wb-label-path").fill(path)
    page.locator(".wb-label-write").click()
    page.wait_for_function("() => document.querySelector('.wb-label-written').textContent.includes('images in')")
    with (lab.root / path).open() as file:
        written = [row["image_id"] for row in csv.DictReader(file)]
    assert lab.kernel("list(label.plan.queue['image_id'])") == written
    assert written[:12] == page.eval_on_selector_all(".wb-label .wb-picture", "found => found.map((x) => x.dataset.id)")
    lab.screenshot(f"label-next-{'blurred' if sensitive else 'light'}", ".wb-label")
    page.locator(".wb-label-path").fill("notes.txt")
    page.locator(".wb-label-write").click()
    page.wait_for_function("() => document.querySelector('.wb-label').textContent.includes('a queue ends in')")
    assert cells == lab.cells()
    if sensitive:
        reveals = lab.kernel(REVEALS)
        page.locator(".wb-label .wb-picture-frame").first.click()
        page.wait_for_selector(".wb-enlarged img[src]")
        assert "marked sensitive" in page.locator(".wb-enlarged").inner_text()
        blurred = page.locator(".wb-label .wb-blurred").count()
        page.locator(".wb-reveal").click()
        page.wait_for_function(f"() => document.querySelectorAll('.wb-label .wb-blurred').length === {blurred - 1}")
        page.keyboard.press("Escape")
        assert reveals + 1 == lab.kernel(REVEALS)
