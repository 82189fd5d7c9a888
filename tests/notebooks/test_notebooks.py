"""The notebooks, run in their order by a real kernel, on the embedded data and with the session's store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from browser.lab import Lab, open_chromium, serve_jupyterlab

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
FIGURES = {"01_dataset": 1, "02_approaches": 0, "03_evaluation": 10, "04_thresholds": 2, "07_release": 1}
"""How many pictures each notebook shows."""


@pytest.fixture(scope="module")
def project(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `datasets` and `notebooks`."""
    root = tmp_path_factory.mktemp("project")
    (root / "notebooks").mkdir()
    (root / "datasets").symlink_to(datasets, target_is_directory=True)
    return root


@pytest.fixture(scope="module")
def executed(store: Path, project: Path) -> Mapping[str, Any]:
    """By name, every notebook after it was run beside the others; a cell that fails ends it."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            environment.setenv(name, str(project / name))  # neither the user's kernels nor his settings
        return {path.stem: run_notebook(path, project / "notebooks") for path in NOTEBOOKS}


def run_notebook(path: Path, folder: Path) -> Any:
    """A copy of the notebook, run in `folder`."""
    notebook = nbformat.read(shutil.copy(path, folder), as_version=4)
    return NotebookClient(notebook, timeout=500, kernel_name="python3").execute(cwd=str(folder))


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_every_notebook_is_known_here() -> None:
    assert list(FIGURES) == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_has_no_output(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len(cells) == len({cell["id"] for cell in cells})


@pytest.mark.parametrize("name", FIGURES)
def test_a_notebook_runs_quietly_and_shows_its_figures(executed: Mapping[str, Any], name: str) -> None:
    shown = outputs(executed[name])
    assert not [output["text"] for output in shown if output["output_type"] == "stream"]
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    assert FIGURES[name] == len(pictures)


def results(notebook: Any) -> list[str]:
    return [output["data"]["text/plain"] for output in outputs(notebook) if output["output_type"] == "execute_result"]


def test_a_refusal_says_what_it_would_take(executed: Mapping[str, Any]) -> None:
    wanted = "images of other kinds, in the mix that production sees"
    assert any(wanted in result for result in results(executed["04_thresholds"]))


def test_the_last_notebook_leaves_the_policy_and_decides_with_it(executed: Mapping[str, Any]) -> None:
    shown = results(executed["07_release"])
    assert any(result.startswith("('look 1 of 1', ") for result in shown)
    assert any(result.startswith("Decision(image_id='images/train/t-shirt/") for result in shown)
    assert any("accept" in result and "review" in result for result in shown)


def test_thresholds_are_tuned_in_jupyterlab_where_the_notebook_ends(executed: Mapping[str, Any], project: Path) -> None:
    with serve_jupyterlab(project) as (address, folder), open_chromium() as browser:
        lab = Lab(address, folder, browser)
        page = lab.show("04_thresholds")
        lab.run_all()
        page.wait_for_selector(".wb-tuner .wb-picture img[src]")
        page.locator(".wb-tuner-small[title='coat']").click()
        page.wait_for_function("() => document.querySelector('.wb-tuner-title').textContent === 'coat'")
        before = lab.kernel("tuner.thresholds['coat', 'accept']")
        page.locator(".wb-tuner-curve").press("Shift+ArrowLeft")
        page.wait_for_function("() => document.querySelector('.wb-tuner-undo').ariaDisabled === 'false'")
        page.wait_for_selector(".wb-tuner-stale", state="detached")
        assert before != lab.kernel("tuner.thresholds['coat', 'accept']")
        page.wait_for_timeout(1000)  # pictures follow a moment later
        lab.screenshot("notebook-tuner", ".wb-tuner")
        lab.close()
