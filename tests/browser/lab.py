"""A page of a real JupyterLab, and what tests do with it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, Page, sync_playwright

TESTS = Path(__file__).parents[1]
SCREENSHOTS = Path(os.environ.get("WORKBENCH_SCREENSHOTS", TESTS.parent / "reports" / "browser"))
"""Where pictures of what was tested are left, to be looked at."""

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
KEYS = [*"abcdefghijklmnopqrstuvwxyz0123456789", "Enter", "Escape", "Delete", "Backspace", "Tab", "Space"]
KEYS += [
    "ArrowUp",
    "ArrowDown",
    "ArrowLeft",
    "ArrowRight",
    "Home",
    "End",
    "PageUp",
    "PageDown",
    "Control+z",
    "Control+y",
]
KEYS += ["Shift+ArrowLeft", "Shift+ArrowRight", "Control+Shift+z", "Shift+M", "Shift+Enter", "Control+Enter"]
"""Each is tried on every part of a widget."""

_WAIT_MS = 90_000
_READY = """() => {
  const panel = window.jupyterapp?.shell?.currentWidget;
  return panel?.sessionContext?.isReady && panel.sessionContext.session?.kernel?.connectionStatus === "connected";
}"""
_CELLS = """() => {
  const { content } = window.jupyterapp.shell.currentWidget;
  return content.widgets.map((cell) => ({ type: cell.model.type, source: cell.model.sharedModel.getSource() }));
}"""
_FINISHED = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const code = panel.content.widgets.filter((cell) => cell.model.type === "code");
  const done = code.every(({ model }) => model.executionCount !== null && model.executionState === "idle");
  const failed = code.some((cell) => cell.model.outputs.toJSON().some((output) => output.output_type === "error"));
  return failed || (done && panel.sessionContext.session.kernel.status === "idle");
}"""
_OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
  .filter((cell) => cell.model.type === "code").map((cell) => cell.model.outputs.toJSON())"""
_ASK_KERNEL = """async (code) => {
  const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
  let found = null;
  const future = kernel.requestExecute({ code, silent: false, store_history: false });
  future.onIOPub = ({ header, content }) => {
    if (header.msg_type === "execute_result") found = content.data["application/json"];
    if (header.msg_type === "error") found = { failed: content.traceback.join("\\n") };
  };
  await future.done;
  return found;
}"""


class Lab:
    """One JupyterLab server, and a page on one notebook of it."""

    def __init__(self, address: str, root: Path, browser: Browser) -> None:
        self.address, self.root, self.browser = address, root, browser
        self.faults: list[str] = []
        self._page: Page | None = None

    @property
    def page(self) -> Page:
        """The page that `open` opened."""
        assert self._page is not None
        return self._page

    def open(self, name: str, cells: Sequence[str]) -> Page:
        """A new notebook of these code cells, opened, its kernel connected."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.root / f"{name}.ipynb")
        return self.show(name)

    def show(self, name: str) -> Page:
        """A notebook that is there already."""
        self.close()
        self._page = page = self.browser.new_page(viewport={"width": 1500, "height": 1300})
        page.set_default_timeout(_WAIT_MS)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.goto(f"{self.address}/lab/workspaces/{name}/tree/{name}.ipynb?reset")
        page.wait_for_function(_READY)
        page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
        return page

    def run_all(self) -> None:
        """Run every cell; a cell that fails fails the test with its traceback."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.wait_for_function(_FINISHED)
        for outputs in self.page.evaluate(_OUTPUTS):
            for output in outputs:
                assert output["output_type"] != "error", "\n".join(output["traceback"])

    def kernel(self, expression: str) -> Any:
        """The value of an expression in the notebook's own kernel, by way of JSON."""
        code = f"import json as _j\nfrom IPython.display import JSON as _J\n_J(_j.loads(_j.dumps([{expression}])))"
        found = self.page.evaluate(_ASK_KERNEL, code)
        assert isinstance(found, list), found
        return found[0]

    def cells(self) -> list[dict[str, str]]:
        """Type and source of each cell, as the page has them."""
        return list(self.page.evaluate(_CELLS))

    def theme(self, name: str) -> None:
        """ "light" or "dark"."""
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
            f"JupyterLab {name.capitalize()}",
        )
        self.page.wait_for_function(f"() => document.body.dataset.jpThemeLight === '{str(name == 'light').lower()}'")

    def screenshot(self, name: str, selector: str | None = None) -> Path:
        """A picture of the page, or of one part of it, among the artefacts."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        if selector is None:
            self.page.screenshot(path=path)
        else:
            self.page.locator(selector).first.screenshot(path=path)
        return path

    def screenshot_themes(self, name: str, selector: str) -> None:
        """Pictures of one part in the light and in the dark theme, which must look different."""
        pictures = set()
        for theme in ("light", "dark"):
            self.theme(theme)
            self.page.wait_for_timeout(400)
            pictures.add(self.screenshot(f"{name}-{theme}", selector).read_bytes())
        self.theme("light")
        assert 2 == len(pictures)

    def close(self) -> None:
        """Close the page; no script of it may have failed."""
        if self._page is not None:
            self._page.close()
            self._page = None
        faults, self.faults = self.faults, []
        assert [] == faults


def drag(page: Page, canvas: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Between two places of a canvas, each in shares of its width and height."""
    box = page.locator(canvas).bounding_box()
    assert box is not None
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=12)
    page.mouse.up()


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """Debian's Chromium, which `./run test` and `./run bench` install."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert program, "Chromium is missing: on Debian, apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def serve_jupyterlab(folder: Path) -> Iterator[tuple[str, Path]]:
    """(address, folder of notebooks) of a JupyterLab in `folder` that knows neither the user's settings nor kernels."""
    notebooks = folder / "notebooks"
    notebooks.mkdir(exist_ok=True)
    quiet = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false"}')
    own = {
        name: str(folder / name)
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "IdentityProvider.token": "",
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "ServerApp.root_dir": str(notebooks),
        "ServerApp.iopub_data_rate_limit": 1e12,
        "LabApp.expose_app_in_browser": True,
        "LabApp.check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
        "LabApp.user_settings_dir": folder / "settings",
        "LabApp.extension_manager": "readonly",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *flags],
            cwd=notebooks,
            env={**os.environ, **own, "PYTHONPATH": str(TESTS)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(f"{address}/api/status", process, folder / "log")
            yield address, notebooks
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 -- loopback, written above
                json.load(answer)
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(log.read_text(errors="replace"))
