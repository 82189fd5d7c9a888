"""How long the threshold tuner takes from an input event to changed pixels, in a real JupyterLab with a real kernel.

Peers, in the same run: the same drawing (every category's curve, one of them large with its marker, and its scores) by
matplotlib, moved by an ipywidgets slider: drawn anew and shown inline as a PNG, and as ipympl's live canvas with
`draw_idle`. Events are real ones of Debian's Chromium: the mouse drags the tuner's threshold and the sliders' handle;
the contenders take turns, a tenth of the events each. The clock starts where the page receives the event, and stops
after the first frame that shows other pixels; what looking at those pixels takes is taken off. Also first paint, what
travels to the browser, and 200 categories × 1,000,000 images opened in the browser. `tuner.py CATEGORIES IMAGES EVENTS`
measures smaller, and leaves out the large part.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from samples import ZEROS, make_origin
from workbench.config.goals import Goals, Limit, PrevalenceGoal, RejectionGoal, TierGoal
from workbench.dataset.images import PROBLEM_COLUMNS, Dataset
from workbench.evaluation.labelled import Labelled
from workbench.predictions import RunInfo
from workbench.records import Taxonomy
from workbench.widgets.tuner import BINS, ThresholdTuner

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from browser.lab import Lab

CATEGORIES, IMAGES, EVENTS = 50, 100_000, 60
MANY_CATEGORIES, MANY_IMAGES = 200, 1_000_000
ROUNDS = 10
FASTER, MEDIAN_MS, P95_MS, PAINT_S, MOST_MB = 6, 16, 33, 2, 30

OPEN = """
import sys
sys.path.insert(0, {here!r})
from tuner import *
import time
data = make_data({categories}, {images})
start = time.perf_counter()
tuner = ThresholdTuner(*data)
seconds = time.perf_counter() - start
"""
INLINE = """
import matplotlib
matplotlib.use("agg")
import io
import ipywidgets, IPython.display
import matplotlib.pyplot as plt
slider = ipywidgets.FloatSlider(value=0.5, min=0, max=1, step=0.01)
output = ipywidgets.Output()
def moved(change):
    figure = plt.figure(figsize=(12, 9))
    Drawing(figure, tuner).move(slider.value)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    plt.close(figure)
    with output:
        output.clear_output(wait=True)
        IPython.display.display(IPython.display.Image(png.getvalue()))
slider.observe(moved, "value")
moved(None)
"""
IPYMPL = """
%matplotlib widget
import ipywidgets
import matplotlib.pyplot as plt
slider = ipywidgets.FloatSlider(value=0.5, min=0, max=1, step=0.01)
with plt.ioff():
    figure = plt.figure(figsize=(12, 9))
drawing = Drawing(figure, tuner)
def moved(change):
    drawing.move(slider.value)
    figure.canvas.draw_idle()
slider.observe(moved, "value")
moved(None)
"""
CONTENDERS = {
    "tuner": (["", "tuner"], ".wb-tuner-curve", ".wb-tuner-curve"),
    "matplotlib inline": ([INLINE, "ipywidgets.VBox([slider, output])"], ".jp-OutputArea img", ".noUi-base"),
    "ipympl": (
        [IPYMPL, "ipywidgets.VBox([slider, figure.canvas])"],
        ".jupyter-matplotlib-canvas-div canvas",
        ".noUi-base",
    ),
}
"""Cells, what is looked at, and what the mouse drags on."""

WATCH = """(selector) => {
  const copy = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const look = () => {
    const shown = document.querySelector(selector);
    if (!shown) return null;
    if (shown.tagName === "IMG") return shown.complete && shown.naturalWidth ? shown.src : null;
    if (!shown.width || !shown.height) return null;
    // A quarter of the size still shows a mark that moved, and its pixels do not busy the garbage collector.
    const [width, height] = [Math.ceil(shown.width / 4), Math.ceil(shown.height / 4)];
    if (copy.canvas.width !== width) copy.canvas.width = width;
    if (copy.canvas.height !== height) copy.canvas.height = height;
    copy.clearRect(0, 0, width, height);
    copy.drawImage(shown, 0, 0, width, height);
    return new Uint32Array(copy.getImageData(0, 0, width, height).data.buffer);
  };
  const same = (one, other) => one === other || (one !== null && other !== null && typeof one !== "string"
    && one.length === other.length && one.every((pixel, place) => pixel === other[place]));
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const painted = () => new Promise((done) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => done(performance.now());
    channel.port2.postMessage(0);
  });
  const still = async () => {
    let [before, since] = [look(), performance.now()];
    while (before === null || performance.now() - since < 250) {
      await frame();
      const now = look();
      if (!same(before, now)) [before, since] = [now, performance.now()];
    }
    return before;
  };
  let spent = 0;
  const isSame = (before) => {
    const start = performance.now();
    const now = look();
    const found = now === null || same(before, now);
    spent = performance.now() - start;
    return found;
  };
  window.watched = {
    async arm(kind) {
      const before = await still();
      this.found = new Promise((done) => window.addEventListener(kind, async () => {
        const start = performance.now();
        while (performance.now() - start < 20000) {
          await frame();
          if (!isSame(before)) return done((await painted()) - start - spent);
        }
        done(null);
      }, { capture: true, once: true }));
    },
    async firstPaint() {
      const { content } = window.jupyterapp.shell.currentWidget;
      content.activeCellIndex = content.widgets.length - 1;
      const start = performance.now();
      window.jupyterapp.commands.execute("notebook:run-cell");
      const empty = (seen) => seen === null || (typeof seen !== "string" && !seen.some((pixel) => pixel));
      while (empty(look())) await frame();
      return (await painted()) - start;
    },
  };
}"""
RUN_FIRST = """async () => {
  const { content } = window.jupyterapp.shell.currentWidget;
  content.activeCellIndex = 0;
  await window.jupyterapp.commands.execute("notebook:run-cell");
}"""


def make_data(categories: int, images: int) -> tuple[Labelled, Dataset, Goals]:
    """Scores that sum to one and tell some of the truth; a share of the images is unknown."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, categories + 1, images)
    names = tuple(f"category {number}" for number in range(categories))
    taxonomy = Taxonomy(names)
    scores = rng.random((images, categories), dtype=np.float32) ** 8
    known = np.flatnonzero(kind < categories)
    scores[known, kind[known]] += rng.random(len(known), dtype=np.float32) * 2
    scores /= scores.sum(axis=1, keepdims=True)
    truth = np.zeros(scores.shape, bool)
    truth[known, kind[known]] = True
    ids = np.array([f"{row}.png" for row in range(images)], dtype=object)
    labels, sets = np.empty(images, dtype=object), [*((name,) for name in names), ()]
    for row, place in enumerate(kind):
        labels[row] = sets[place]
    splits = np.where(np.arange(images) % 10 == 0, "certify", "tune")
    columns = {
        "image_id": ids,
        "path": ids,
        "labels": labels,
        "split": splits,
        "group": ids,
        "weight": 1.0,
        "source": "",
    }
    frame = pd.DataFrame(columns)
    origin = make_origin(taxonomy)
    info = RunInfo("1.0", origin, taxonomy, True, False, {}, ZEROS, "made", "2026-01-01T00:00:00Z")
    rows = frame.drop(columns="path").assign(outcome="ok")
    labelled = Labelled(taxonomy, info, rows, scores, None, truth, np.ones(images, bool), kind == categories)
    dataset = Dataset("made", Path("nowhere"), taxonomy, frame, pd.DataFrame(columns=PROBLEM_COLUMNS))
    tiers = (
        TierGoal(action="review", metric="recall", at_least=0.9),
        TierGoal(action="accept", metric="precision", at_least=0.9),
    )
    goals = Goals(
        below="pass",
        tiers=tiers,
        rejection=RejectionGoal(signal="top", known_rejected=Limit(at_most=0.3)),
        prevalence=PrevalenceGoal(shares={**dict.fromkeys(names, 0.5 / categories), "unknown": 0.5}),
    )
    return labelled, dataset, goals


def travels(tuner: ThresholdTuner) -> int:
    """Bytes that the browser is sent: buffers as they are, all else as JSON."""
    state = tuner.get_state().values()
    return sum(len(value) if isinstance(value, bytes) else len(json.dumps(value, default=str)) for value in state)


class Drawing:
    """What the tuner draws, by matplotlib, from the tuner's own points; the first category is the large one."""

    def __init__(self, figure: Any, tuner: ThresholdTuner) -> None:
        tuning = tuner.tuning
        last = {name: number for number, (name, _) in enumerate(tuning.curves.tiers)}
        curves = [tuning.traced[tuning.curve_of[number]] for number in last.values()]
        self.curve = curves[0]
        lines = -(-len(curves) // 10)
        grid = figure.add_gridspec(lines + 4, 10)
        large, scores = figure.add_subplot(grid[:4, :5]), figure.add_subplot(grid[:4, 5:])
        small = [figure.add_subplot(grid[4 + place // 10, place % 10]) for place in range(len(curves))]
        for ax, curve in zip([large, *small], [self.curve, *curves], strict=True):
            ax.step(curve.recall, curve.precision, where="post")
            ax.set(xlim=(0, 1.01), ylim=(0, 1.03))
        for ax in small:
            ax.set(xticks=[], yticks=[])
        bottom = np.zeros(BINS)
        for row in tuning.curves.histogram(next(iter(last.values())), BINS):
            scores.bar(np.arange(BINS) / BINS, row, 1 / BINS, bottom, align="edge")
            bottom += row
        scores.set(xlim=(0, 1), yscale="symlog")
        self.marks = [ax.plot([], [], "o")[0] for ax in (large, small[0])]
        self.limit = scores.axvline(0.5, color="black")

    def move(self, threshold: float) -> None:
        place = int(np.abs(self.curve.thresholds - threshold).argmin())
        for mark in self.marks:
            mark.set_data([self.curve.recall[place]], [self.curve.precision[place]])
        self.limit.set_xdata([threshold, threshold])


def opened(lab: Lab, name: str, size: tuple[int, int], cells: list[str], selector: str) -> float:
    """Opens a notebook, runs all of it, the last cell by itself; seconds until `selector` has pixels."""
    categories, images = size
    first = OPEN.format(here=str(Path(__file__).parent), categories=categories, images=images)
    page = lab.open(name, [first + cells[0], cells[-1]])
    page.set_default_timeout(600_000)
    page.evaluate(RUN_FIRST)
    assert lab.kernel("seconds") > 0
    page.evaluate(WATCH, selector)
    seconds: float = page.evaluate("() => watched.firstPaint()") / 1000
    page.locator(selector).first.scroll_into_view_if_needed()
    return seconds


def drag(page: Page, track: str, events: int) -> list[float]:
    """Milliseconds from each of so many moves of the mouse along `track` to the frame with changed pixels."""
    page.bring_to_front()
    box = page.locator(track).first.bounding_box()
    assert box is not None

    def place(number: int) -> tuple[float, float]:
        return box["x"] + box["width"] * (0.3 + 0.4 * (number * 7 % 20) / 20), box["y"] + box["height"] * 0.4

    handle = page.locator(".noUi-handle")
    if handle.count():
        handle.first.hover()
    else:
        page.mouse.move(*place(19))
    page.mouse.down()
    page.mouse.move(*place(19))
    spent = []
    for number in range(events):
        page.evaluate("() => watched.arm('pointermove')")
        page.mouse.move(*place(number))
        found = page.evaluate("() => watched.found")
        if found is None:
            sys.exit(f"{track}: event {number} changed no pixel in 20 s")
        spent.append(found)
    page.mouse.up()
    return spent


def report(name: str, spent: np.ndarray) -> None:
    median, p95 = np.percentile(spent, [50, 95])
    print(f"  {name:<32} {median:9.1f} {p95:9.1f}", flush=True)


def tell(what: str, value: float, unit: str, holds: bool, bound: str) -> None:
    print(f"  {what:<44} {value:9.2f} {unit:<3} {bound}: {'holds' if holds else 'DOES NOT HOLD'}", flush=True)


def main() -> None:
    from browser.lab import Lab, open_chromium, serve_jupyterlab

    asked = [int(word) for word in sys.argv[1:]]
    categories, images, events = asked or (CATEGORIES, IMAGES, EVENTS)
    print(f"{categories} categories × {images:,} images, {events} events each")
    print(f"{os.cpu_count()} cores, {os.getloadavg()[0]:.1f} busy in the minute before", flush=True)
    size = (categories, images)
    with (
        tempfile.TemporaryDirectory() as folder,
        serve_jupyterlab(Path(folder)) as (address, notebooks),
        open_chromium() as browser,
    ):
        labs = {name: Lab(address, notebooks, browser) for name in CONTENDERS}
        paint = {name: opened(lab, name.replace(" ", "-"), size, *CONTENDERS[name][:2]) for name, lab in labs.items()}
        lab = labs["tuner"]
        construction, sent = lab.kernel("seconds"), lab.kernel("travels(tuner)")
        spent: dict[str, list[float]] = {name: [] for name in labs}
        for _ in range(ROUNDS):
            for name, own in labs.items():
                spent[name] += drag(own.page, CONTENDERS[name][2], max(1, events // ROUNDS))
        for own in labs.values():
            own.close()
        print("event to changed pixels, ms            median       p95", flush=True)
        for name, found in spent.items():
            report(name, np.array(found))
        ranks = {name: np.percentile(found, [50, 95]) for name, found in spent.items()}
        for name in ("matplotlib inline", "ipympl"):
            for word, ratio in zip(("median", "p95"), ranks[name] / ranks["tuner"], strict=True):
                tell(f"faster than {name}, {word}", ratio, "×", ratio >= FASTER, f"at least {FASTER}")
        for word, value, most in zip(("median", "p95"), ranks["tuner"], (MEDIAN_MS, P95_MS), strict=True):
            tell(f"tuner, {word}", value, "ms", value <= most, f"about {most}")
        tell("first paint", paint["tuner"], "s", paint["tuner"] <= PAINT_S, f"at most {PAINT_S}")
        print(f"  construction {construction:.2f} s, {sent / 1e6:.2f} MB to the browser", flush=True)
        if not asked:
            print(f"{MANY_CATEGORIES} categories × {MANY_IMAGES:,} images", flush=True)
            cells, selector, track = CONTENDERS["tuner"]
            seconds = opened(lab, "many", (MANY_CATEGORIES, MANY_IMAGES), cells, selector)
            construction, sent = lab.kernel("seconds"), lab.kernel("travels(tuner)")
            tell("to the browser", sent / 1e6, "MB", sent / 1e6 < MOST_MB, f"less than {MOST_MB}")
            report("tuner, event to changed pixels", np.array(drag(lab.page, track, max(1, events // ROUNDS))))
            print(f"  construction {construction:.2f} s, first paint {seconds:.2f} s")
            lab.close()


if __name__ == "__main__":
    main()
