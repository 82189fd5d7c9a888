"""From a refused release to a queue, filled in by hand, to a manifest that is released again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from workbench.cli.main import app
from workbench.dataset.opening import open_dataset
from workbench.predictions import write_predictions
from worlds import CATEGORIES, make_run

GOALS = """
below = "pass"
looks = 2
tiers = [{ action = "accept", metric = "precision", at_least = 0.95 }]
rejection = { signal = "none" }
"""


def workbench(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`images/` with a manifest in which a part of certify is labelled, its run, goals, and who knows the labels."""
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    images, rng, n = tmp_path / "images", np.random.default_rng(3), 2000
    images.mkdir()
    kind = rng.integers(0, 3, n)
    for row in range(n):
        (images / f"{row}.png").write_bytes(f"picture {row}".encode())
    truth = [CATEGORIES[place] for place in kind]
    split = ["tune" if row % 3 == 0 else "certify" for row in range(n)]
    shown = [
        label if part == "tune" or drawn < 0.2 else ""
        for label, part, drawn in zip(truth, split, rng.random(n), strict=True)
    ]
    paths = [f"{row}.png" for row in range(n)]
    pd.DataFrame({"path": paths, "label": shown, "split": split}).to_csv(images / "manifest.csv", index=False)
    pd.DataFrame({"path": paths, "label": truth}).to_csv(tmp_path / "truth.csv", index=False)
    (images / "workbench.toml").write_text(
        '[dataset]\npath = "manifest.csv"\nsampling = "random"\ncollected = 2026-01-31\n'
        '[taxonomy]\ncategories = ["shoe", "boot", "bag"]\n[approaches.test-approach]\nmade = "2026-03-01"\n'
    )
    (tmp_path / "goals.toml").write_text(GOALS)
    dataset = open_dataset(images).dataset
    sure = np.eye(3)[[int(kind[int(name[:-4])]) for name in dataset.frame["image_id"]]]
    logits = rng.normal(size=(n, 3)) + 4.5 * sure
    write_predictions(
        make_run(dataset, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)), tmp_path / "run.parquet"
    )
    return tmp_path


def test_refused_promises_become_a_queue_and_the_queue_a_manifest(folder: Path) -> None:
    images, run, draft = folder / "images", folder / "run.parquet", folder / "draft.json"
    assert 0 == workbench("tune", run, images, "--goals", folder / "goals.toml", "-o", draft).exit_code
    untested = workbench("label-next", draft, run, images, "-o", folder / "queue.csv")
    assert (2, True) == (untested.exit_code, "run `workbench release` first" in untested.output), untested.output
    released = workbench("release", draft, run, images, "-o", folder / "policy.json")
    assert released.exit_code in (0, 1), released.output
    looks = workbench("looks", images, "--json").stdout
    planned = workbench("label-next", draft, run, images, "-o", folder / "queue.csv", "--json")
    told = json.loads(planned.stdout)
    assert told["promises"], planned.output
    assert told["queue"] is not None, planned.output
    assert (3 if told["missing"] else 0) == planned.exit_code
    assert looks == workbench("looks", images, "--json").stdout  # a plan is no look
    queue = pd.read_csv(folder / "queue.csv", dtype=str, keep_default_na=False)
    assert told["queue"]["images"] == len(queue)
    truth = pd.read_csv(folder / "truth.csv").set_index("path")["label"]
    queue.assign(label=[truth[name] for name in queue["path"]]).to_csv(folder / "queue.csv", index=False)
    added = workbench("add-labels", folder / "queue.csv", images, "-o", images / "labelled.csv")
    assert 0 == added.exit_code, added.output
    assert f"{len(queue)} of them newly labelled" in added.stdout
    grown = pd.read_csv(images / "labelled.csv", dtype=str, keep_default_na=False)
    before = pd.read_csv(images / "manifest.csv", dtype=str, keep_default_na=False)
    assert (before["label"] != "").sum() + len(queue) == (grown["label"] != "").sum()
    assert before.set_index("path")["split"].to_dict() == grown.set_index("path")["split"].to_dict()


def test_an_empty_queue_is_told_and_no_file_is_made(folder: Path) -> None:
    (folder / "queue.csv").write_text("image_id,label,sampling_probability,stratum\n1.png,,1,all\n")
    result = workbench("add-labels", folder / "queue.csv", folder / "images", "-o", folder / "images" / "new.csv")
    assert (2, True) == (result.exit_code, "no label is filled in" in result.output)
    assert not (folder / "images" / "new.csv").exists()
