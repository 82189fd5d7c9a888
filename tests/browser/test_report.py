"""The report in a browser without a network: curves are explored by pointer and keys, and seen without script too."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from browser.lab import SCREENSHOTS
from browser.things import CATEGORIES, HOSTILE, run_of, things
from workbench.canonical import shortest_binary32
from workbench.evaluation.labelled import join
from workbench.evaluation.summary import Evaluation, evaluate
from workbench.report.page import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    evaluation = evaluated(folder)
    return write_report(
        folder / "report.html", title=HOSTILE, evaluations={HOSTILE: evaluation}, dataset=things(folder / "things")
    )


@cache
def evaluated(folder: Path) -> Evaluation:
    dataset = things(folder / "things")
    return evaluate(join(run_of(dataset), dataset).on("tune"))


@pytest.fixture
def page(report: Path, chromium: Browser) -> Iterator[Page]:
    """The report over file://, offline; it asks for nothing, and no script of it fails."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    page, faults, asked = context.new_page(), list[str](), list[str]()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    for part in page.locator("details").all():
        part.evaluate("(part) => { part.open = true; }")
    yield page
    context.close()
    assert [] == faults
    assert [report.as_uri()] == [url for url in asked if not url.startswith("data:")]


def test_every_point_shows_what_evaluation_counted(page: Page, report: Path) -> None:
    for number, category in enumerate(CATEGORIES):
        curve = evaluated(report.parent).curves[category]
        points = curve.points(120).to_dict("records")
        slider = page.locator(".explored").nth(number)
        slider.press("Home")
        for place in (0, 1, 2):
            assert shown(points[place], curve.curve.positives) == words(page, number)
            assert str(shortest_binary32(points[place]["threshold"])) == slider.get_attribute("aria-valuenow")
            slider.press("ArrowRight")
        slider.press("End")
        slider.press("PageDown")
        slider.press("Shift+ArrowDown")
        assert shown(points[-21], curve.curve.positives) == words(page, number)
        assert words(page, number) == slider.get_attribute("aria-valuetext")


def words(page: Page, number: int) -> str:
    return page.locator(".there").nth(number).inner_text()


def shown(point: dict[str, float], positives: float) -> str:
    precision, recall = (
        f"{100 * point[name]:.1f} % ({100 * point[f'{name}_low']:.1f} to {100 * point[f'{name}_high']:.1f} %)"
        for name in ("precision", "recall")
    )
    right, told = (f"{int(point[name]):,}" for name in ("true_positives", "predicted_positives"))
    return (
        f"from {shortest_binary32(point['threshold'])} up: precision {precision}, recall {recall}; "
        f"{right} of {told} right, {int(positives):,} of 1,125 images show it"
    )


def test_the_mark_lies_on_the_drawn_curve_and_follows_the_pointer(page: Page) -> None:
    slider = page.locator(".explored").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"])
    before = words(page, 0)
    assert "precision" in before
    on_the_line(page)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.locator(".multiples").first.screenshot(path=SCREENSHOTS / "report-light.png")
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.7 * box["height"])
    assert before != words(page, 0)
    for key in ("Home", "PageUp", "PageUp", "PageUp"):
        slider.press(key)
        on_the_line(page)
    page.emulate_media(color_scheme="dark")
    page.locator(".multiples").first.screenshot(path=SCREENSHOTS / "report-dark.png")


def on_the_line(page: Page) -> None:
    """Under the middle of the mark the picture has the blue of the curve, and not the white of the paper."""
    image, mark = (page.locator(place).first.bounding_box() for place in (".explored img", ".at"))
    assert image is not None
    assert mark is not None
    x, y = mark["x"] + mark["width"] / 2 - image["x"], mark["y"] + mark["height"] / 2 - image["y"]
    found = page.evaluate(
        """([x, y, width, height]) => {
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [Math.round(width), Math.round(height)];
          const context = canvas.getContext("2d");
          context.fillStyle = "white";
          context.fillRect(0, 0, canvas.width, canvas.height);
          context.drawImage(document.querySelector(".explored img"), 0, 0, canvas.width, canvas.height);
          return [...context.getImageData(Math.round(x) - 1, Math.round(y) - 1, 3, 3).data];
        }""",
        [x, y, image["width"], image["height"]],
    )
    assert np.array(found).reshape(-1, 4)[:, 0].min() < 120, (x, y)


def test_labels_are_text(page: Page) -> None:
    assert HOSTILE in page.locator("h1").inner_text()
    assert 0 == page.locator("img[src='x']").count()
    assert f"Threshold on the curve of {HOSTILE}" == page.locator(".explored").nth(3).get_attribute("aria-label")


def test_without_script_the_pictures_stand(report: Path, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(report.as_uri())
    assert 4 == page.locator(".multiples picture img").count()
    assert 0 == page.locator(".explored").count()
    context.close()
