"""What the commands say about looks: which one it was, who came before, what is left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from workbench.cli.main import app
from workbench.dataset.images import LEDGER_FILE
from workbench.dataset.opening import open_dataset
from workbench.predictions import write_predictions
from worlds import CATEGORIES, make_run

PROJECT = """
[dataset]
sampling = "random"
collected = 2026-01-31

[taxonomy]
categories = ["shoe", "boot", "bag"]

[approaches.test-approach]
made = "2026-03-01"
"""


@dataclass(frozen=True)
class Files:
    """A folder of images, a run of it, and where the rest goes."""

    folder: Path

    @property
    def images(self) -> Path:
        return self.folder / "images"

    def release(self, looks: int, at_least: float, *more: str) -> Result:
        """Tune and release with these goals."""
        goals, draft, run = (self.folder / name for name in ("goals.toml", "draft.json", "run.parquet"))
        tier = f'{{ action = "accept", metric = "precision", at_least = {at_least} }}'
        goals.write_text(f'below = "pass"\nlooks = {looks}\ntiers = [{tier}]\nrejection = {{ signal = "none" }}\n')
        tuned = workbench("tune", run, self.images, "--goals", goals, "-o", draft)
        assert 0 == tuned.exit_code, tuned.output
        return workbench("release", draft, run, self.images, "-o", self.folder / "policy.json", *more)


def workbench(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    rng = np.random.default_rng(1)
    for name in CATEGORIES:
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(250):
            (tmp_path / "images" / name / f"{number}.png").write_bytes(f"{name} {number}".encode())
    (tmp_path / "images" / "workbench.toml").write_text(PROJECT)
    dataset = open_dataset(tmp_path / "images").dataset
    logits = rng.normal(size=(len(dataset), 3)) + 5 * dataset.truth
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    write_predictions(make_run(dataset, scores), tmp_path / "run.parquet")
    return Files(tmp_path)


def test_a_release_says_which_look_it_was(files: Files) -> None:
    first, again = files.release(2, 0.9), files.release(2, 0.9)
    assert (0, True) == (first.exit_code, "\nlook 1 of 2 at these certify images\n" in first.stdout)
    assert (0, True) == (again.exit_code, "\nlook 1 of 2 at these certify images (replayed: free)\n" in again.stdout)
    other = json.loads(files.release(2, 0.91, "--json").stdout)["look"]
    assert (2, 2, False) == (other["number"], other["planned"], other["replayed"])


def test_a_look_that_is_not_allowed_ends_with_1_and_says_what_would_help(files: Files) -> None:
    assert 0 == files.release(1, 0.9).exit_code
    (files.folder / "policy.json").unlink()
    refused = files.release(1, 0.91)
    assert (1, False) == (refused.exit_code, (files.folder / "policy.json").exists())
    assert "No policy was written:\n  ledger: " in refused.stdout
    assert "say `looks = m` in the goals before the first look" in refused.stdout
    listed = files.release(1, 0.91, "--json")
    assert (1, 0) == (listed.exit_code, json.loads(listed.stdout)["look"]["number"])


def test_looks_are_listed_with_attempts_and_what_is_left(files: Files) -> None:
    empty = workbench("looks", files.images)
    assert (0, "No look has counted any of the ") == (empty.exit_code, empty.stdout[:31])
    assert not (files.images / LEDGER_FILE).exists()
    files.release(4, 0.9)
    files.release(1, 0.91)
    found = json.loads(workbench("looks", files.images, "--json").stdout)
    assert (0.75, 0) == (found["left"], found["fresh"])
    (look,), (attempt,) = found["looks"], found["attempts"]
    assert (1, 4, found["images"]) == (look["number"], look["planned"], look["images"])
    assert json.loads((files.folder / "policy.json").read_text())["digest"] == look["verdict"]
    assert (0, "not allowed") == (attempt["number"], attempt["verdict"])
    shown = workbench("looks", files.images).stdout
    assert "look 1 of 4" in shown
    assert "0 are fresh; left of the error budget of all of them: 3/4" in shown


def test_verify_needs_no_ledger_where_every_image_counted(files: Files) -> None:
    assert 0 == files.release(1, 0.9).exit_code
    (files.images / LEDGER_FILE).unlink()
    (files.folder / "store" / "ledger.sqlite").unlink()
    verified = workbench("verify", files.folder / "policy.json", files.folder / "run.parquet", files.images)
    assert 0 == verified.exit_code, verified.output


def test_a_damaged_ledger_ends_with_2(files: Files) -> None:
    files.release(1, 0.9)
    (files.images / LEDGER_FILE).write_bytes(b"")
    for result in (files.release(1, 0.9), workbench("looks", files.images)):
        assert 2 == result.exit_code
        assert f"{LEDGER_FILE}: the ledger of looks is damaged" in result.stderr


def test_a_set_that_is_older_than_the_model_is_told(files: Files) -> None:
    shown = files.release(1, 0.9).stdout
    assert "note: age: the certify images end on 2026-01-31, the model was made on 2026-03-01" in shown


def test_nothing_is_written_over_but_a_file_of_its_kind(files: Files) -> None:
    assert 0 == files.release(1, 0.9).exit_code
    folder, images = files.folder, files.images
    draft, run, goals, policy = (folder / name for name in ("draft.json", "run.parquet", "goals.toml", "policy.json"))
    picture, project, ledger = images / "bag" / "0.png", images / "workbench.toml", images / LEDGER_FILE
    kept = {path: path.read_bytes() for path in (picture, project, ledger, draft, run, policy)}
    writers = (
        ("tune", run, images, "--goals", goals),
        ("release", draft, run, images),
        ("report", run, "--dataset", images, "--policy", policy),
        ("classify", images, "--approach", "local-cnn"),
        ("second-labels", policy, run, images),
        ("decide", policy, run),
    )
    for writer in writers:
        for target in (picture, project, ledger):
            result = workbench(*writer, "-o", target)
            assert (2, "Error: ") == (result.exit_code, result.stderr[:7]), writer
    for path, content in kept.items():
        assert content == path.read_bytes()


def test_a_manifest_and_a_ledger_that_is_not_made_yet_are_no_targets(files: Files) -> None:
    manifest = files.folder / "manifest.csv"
    rows = [f"images/{name}/{number}.png,{name}" for name in CATEGORIES for number in range(250)]
    manifest.write_text("\n".join(["image,label", *rows]))
    (files.folder / "workbench.toml").write_text(PROJECT)
    write_predictions(make_run(open_dataset(manifest).dataset, np.full((750, 3), 0.5)), files.folder / "run.parquet")
    (files.folder / "goals.toml").write_text('below = "pass"\ntiers = []\n')
    run, goals = files.folder / "run.parquet", files.folder / "goals.toml"
    for target in (manifest, files.folder / LEDGER_FILE, files.folder / "workbench.toml"):
        result = workbench("tune", run, manifest, "--goals", goals, "-o", target)
        assert (2, True) == (result.exit_code, "name another file to write" in result.stderr), result.stderr
    assert manifest.read_text().startswith("image,label")


def test_a_policy_that_is_not_there_cannot_be_verified(files: Files) -> None:
    result = workbench("verify", files.folder / "none.json")
    assert (2, True) == (result.exit_code, "none.json: there is no file that can be read" in result.stderr)
