"""From a policy to a blinded list and back: what the second annotator sees, and what comes of the answers."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from labelled_runs import make_run
from workbench.cli.main import app
from workbench.dataset.images import LEDGER_FILE
from workbench.dataset.opening import open_dataset
from workbench.predictions import write_predictions

GOALS = """
confidence = 0.9
below = "review"
tiers = [{action = "accept", metric = "precision", at_least = 0.8}]
"""
CATEGORIES = ("kitten", "puppy")


def workbench(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


@dataclass(frozen=True)
class World:
    """A folder of labelled files, a run of it, and the policy that was released for both."""

    images: Path
    run: Path
    policy: Path
    shows: Mapping[bytes, str]
    """Bytes of a file → its first label."""

    @property
    def three(self) -> tuple[Path, Path, Path]:
        return self.policy, self.run, self.images


def make_world(folder: Path, each: int, goals_text: str = GOALS) -> World:
    """So many files of each category; three in a hundred are told wrongly."""
    images, rng, shows = folder / "pets", np.random.default_rng(4), {}
    for category in CATEGORIES:
        (images / category).mkdir(parents=True)
        for number in range(each):
            content = f"{folder.name} {category} {number}".encode()
            (images / category / f"{number}.png").write_bytes(content)
            shows[content] = category
    dataset = open_dataset(images).dataset
    truth = np.array([labels == ("puppy",) for labels in dataset.frame["labels"]])
    told = truth ^ (rng.random(len(truth)) < 0.03)
    high = rng.uniform(0.6, 0.98, len(truth))
    scores = np.where(told[:, None] == np.array([False, True]), high[:, None], 1 - high[:, None])
    run, goals, draft, policy = (folder / name for name in ("run.parquet", "goals.toml", "draft.json", "policy.json"))
    write_predictions(make_run(dataset, scores), run)
    goals.write_text(goals_text)
    assert 0 == workbench("tune", run, images, "--goals", goals, "-o", draft).exit_code
    released = workbench("release", draft, run, images, "-o", policy)
    assert 0 == released.exit_code, released.output
    return World(images, run, policy, shows)


@pytest.fixture(scope="module")
def world(store: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("noise"), each=900)


@dataclass(frozen=True)
class Sheet:
    """The file that an annotator gets."""

    file: Path

    @property
    def rows(self) -> list[dict[str, str]]:
        with self.file.open(newline="") as file:
            return list(csv.DictReader(file))

    def content(self, row: Mapping[str, str]) -> bytes:
        return (self.file.parent / row["image"]).read_bytes()

    def fill(self, label: Callable[[bytes], str]) -> None:
        """Write what `label` says of each picture's bytes; rows for which it says nothing are taken out."""
        rows = [{**row, "label": label(self.content(row))} for row in self.rows]
        with self.file.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["item", "image", "label"])
            writer.writeheader()
            writer.writerows(row for row in rows if row["label"])


def make_sheet(world: World, folder: Path, *options: object) -> Sheet:
    made = workbench("second-labels", *world.three, "-o", folder / "second.csv", *options)
    assert 0 == made.exit_code, made.output
    return Sheet(folder / "second.csv")


def promises(world: World) -> list[dict[str, Any]]:
    return json.loads(world.policy.read_text())["evidence"]["promises"]  # type: ignore[no-any-return]


def judged(world: World, sheet: Sheet, code: int, *options: object) -> dict[str, Any]:
    result = workbench("label-noise", *world.three, sheet.file, "--json", *options)
    assert code == result.exit_code, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def swap(label: str) -> str:
    return {"kitten": "puppy", "puppy": "kitten"}[label]


# What the annotator sees


def test_the_list_tells_nothing_but_the_pictures(world: World, tmp_path: Path) -> None:
    sheet = make_sheet(world, tmp_path)
    text = sheet.file.read_text()
    assert text.startswith('"item","image","label"\n')
    assert {""} == {row["label"] for row in sheet.rows}
    for word in (*CATEGORIES, "accept", "score", "precision", "certify"):
        assert word not in text
    for row in sheet.rows:
        assert f"second-images/{row['item']}.png" == row["image"]
        assert sheet.content(row) in world.shows
    files = {path.name for path in (tmp_path / "second-images").iterdir()}
    assert {f"{row['item']}.png" for row in sheet.rows} == files
    assert {sheet.file, tmp_path / "second-images"} == set(tmp_path.iterdir())


def test_neither_category_nor_first_error_can_be_told_from_the_order(world: World, tmp_path: Path) -> None:
    sheet = make_sheet(world, tmp_path)
    contents = [sheet.content(row) for row in sheet.rows]
    kittens = np.array([world.shows[content] == "kitten" for content in contents])
    place = np.arange(len(kittens))
    assert abs(np.corrcoef(place, kittens)[0, 1]) < 4 / np.sqrt(len(kittens))
    assert [row["item"] for row in sheet.rows] == sorted(row["item"] for row in sheet.rows)


def test_the_errors_and_at_least_as_many_agreements_are_sent(world: World, tmp_path: Path) -> None:
    sheet = make_sheet(world, tmp_path)
    sheet.fill(lambda content: world.shows[content])
    for promise, answer in zip(promises(world), judged(world, sheet, 0)["promises"], strict=True):
        assert promise["trials"] - promise["successes"] == answer["errors"]
        assert max(20, answer["errors"]) <= answer["agreements"] <= promise["successes"]


def test_each_bounds_both_kinds(world: World, tmp_path: Path) -> None:
    sheet = make_sheet(world, tmp_path, "--each", 3, "--seed", 5)
    sheet.fill(lambda content: world.shows[content])
    found = judged(world, sheet, 3, "--each", 3, "--seed", 5)
    assert [(3, 3), (3, 3)] == [(answer["agreements"], answer["errors"]) for answer in found["promises"]]
    assert 6 < len(sheet.rows) <= 12


def test_another_seed_is_another_draw_under_other_names(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, again, other = (
        make_sheet(world, tmp_path),
        workbench("second-labels", *world.three, "-o", tmp_path / "again.csv"),
        make_sheet(world, tmp_path / "other", "--seed", 1),
    )
    assert 0 == again.exit_code
    names = [row["item"] for row in one.rows]
    assert names == [row["item"] for row in Sheet(tmp_path / "again.csv").rows]
    assert not set(names) & {row["item"] for row in other.rows}
    result = workbench("label-noise", *world.three, other.file)
    assert (2, "") == (result.exit_code, result.stdout)
    assert f"Error: {other.file}:2: no item is called" in result.stderr


# What comes of the answers


def test_an_annotator_who_agrees_keeps_every_promise(world: World, tmp_path: Path) -> None:
    sheet = make_sheet(world, tmp_path)
    sheet.fill(lambda content: world.shows[content])
    found = judged(world, sheet, 0)
    assert ("holds", 1.0) == (found["verdict"], found["agreement"]["kappa"])
    for promise, answer in zip(promises(world), found["promises"], strict=True):
        assert (promise["trials"], promise["successes"]) == (answer["trials"], answer["successes"])
        assert promise["lower_bound"] == pytest.approx(answer["observed_bound"])
        assert 0.8 <= answer["bound"] < answer["observed_bound"]
    shown = workbench("label-noise", *world.three, sheet.file)
    assert 0 == shown.exit_code
    assert "under second labels" in shown.stdout
    assert "kappa 1.000, where errors are over-represented" in shown.stdout


def test_an_annotator_who_contradicts_breaks_them(world: World, tmp_path: Path) -> None:
    sheet = make_sheet(world, tmp_path)
    sheet.fill(lambda content: swap(world.shows[content]))
    found = judged(world, sheet, 1)
    assert "fails" == found["verdict"]
    assert 0 == found["agreement"]["agreed"]
    for answer in found["promises"]:
        assert (answer["agreements"], answer["errors"]) == (answer["overturned"], answer["restored"])


def test_images_of_nothing_overturn_agreements_and_restore_no_error(world: World, tmp_path: Path) -> None:
    sheet = make_sheet(world, tmp_path)
    sheet.fill(lambda _: "unknown")
    found = judged(world, sheet, 1)
    assert {0} == {answer["restored"] for answer in found["promises"]}


def test_rows_that_were_taken_out_leave_it_open(world: World, tmp_path: Path) -> None:
    sheet = make_sheet(world, tmp_path)
    sheet.fill(lambda content: world.shows[content] if content[-1:] in b"012" else "")
    found = judged(world, sheet, 3)
    assert "inconclusive" == found["verdict"]
    assert all("second labels are missing" in answer["reason"] for answer in found["promises"])


# What is refused


def test_a_row_that_was_not_filled_in_is_named(world: World, tmp_path: Path) -> None:
    sheet = make_sheet(world, tmp_path, "--each", 2)
    result = workbench("label-noise", *world.three, sheet.file, "--each", 2)
    assert 2 == result.exit_code
    assert f"{sheet.file}:2: the label is empty; write 'unknown' for none, or take the row out" in result.stderr


def test_nothing_is_written_over(world: World, tmp_path: Path) -> None:
    make_sheet(world, tmp_path)
    again = workbench("second-labels", *world.three, "-o", tmp_path / "second.csv")
    assert 2 == again.exit_code
    assert "second-images: is there already; take it away or name another file to write" in again.stderr
    other = workbench("second-labels", *world.three, "-o", tmp_path / "second.txt")
    assert (2, True) == (other.exit_code, "has to end in .csv" in other.stderr)
    assert not (tmp_path / "second.txt").exists()


def test_a_run_or_data_set_that_the_policy_is_not_of_is_refused(world: World, tmp_path: Path) -> None:
    dataset = open_dataset(world.images).dataset
    fewer = tmp_path / "pets"
    for category in CATEGORIES:
        (fewer / category).mkdir(parents=True)
        (fewer / category / "1.png").write_bytes(category.encode())
    other = tmp_path / "run.parquet"
    run = make_run(open_dataset(fewer).dataset, np.eye(2))
    write_predictions(run, other)
    result = workbench("second-labels", world.policy, other, fewer, "-o", tmp_path / "second.csv")
    assert (2, True) == (result.exit_code, "was tested on another data set than 'pets'" in result.stderr)
    origin = make_run(dataset, np.ones((len(dataset), 2))).info.origin
    changed = type(origin)(origin.approach, "v2", origin.fingerprint, origin.preparation, origin.taxonomy)
    write_predictions(make_run(dataset, np.ones((len(dataset), 2)), origin=changed), other)
    result = workbench("second-labels", world.policy, other, world.images, "-o", tmp_path / "second.csv")
    assert (2, True) == (result.exit_code, "model version is v2, the policy is for v1" in result.stderr)
    assert not (tmp_path / "second-images").exists()


def test_a_policy_without_a_precision_promise_has_nothing_to_ask(store: Path, tmp_path: Path) -> None:
    recall = (
        GOALS.replace("accept", "review").replace("precision", "recall").replace('below = "review"', 'below = "pass"')
    )
    found = make_world(tmp_path, each=150, goals_text=recall)
    result = workbench("second-labels", *found.three, "-o", tmp_path / "second.csv")
    assert (2, True) == (result.exit_code, "no precision promise is certified" in result.stderr)


def test_a_look_that_is_not_on_file_is_not_told(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = make_sheet(world, tmp_path, "--each", 2)
    images = shutil.copytree(world.images, tmp_path / "pets", ignore=shutil.ignore_patterns(LEDGER_FILE))
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    three = (world.policy, world.run, images)
    for arguments in (("second-labels", *three, "-o", tmp_path / "new.csv"), ("label-noise", *three, sheet.file)):
        result = workbench(*arguments)
        assert (2, True) == (result.exit_code, "run `workbench verify` first" in result.stderr)
    assert 0 == workbench("verify", *three).exit_code
    assert 0 == workbench("second-labels", *three, "-o", tmp_path / "new.csv").exit_code


def test_a_long_cell_is_not_told_whole(world: World, tmp_path: Path) -> None:
    sheet = make_sheet(world, tmp_path, "--each", 2)
    lines = sheet.file.read_text().splitlines()
    item = lines[1].split(",")[0]
    for row in (f"{'9' * 100_000},x,kitten", f"{item},x,{'9' * 100_000}"):
        sheet.file.write_text(f"{lines[0]}\n{row}\n")
        result = workbench("label-noise", *world.three, sheet.file, "--each", 2)
        assert (2, True) == (result.exit_code, len(result.stderr) < 500)


@pytest.mark.parametrize("option", [("--each", 10**30), ("--seed", -1), ("--seed", 10**30)])
def test_numbers_that_cannot_be_are_a_usage_error(world: World, tmp_path: Path, option: tuple[str, int]) -> None:
    assert 2 == workbench("second-labels", *world.three, "-o", tmp_path / "second.csv", *option).exit_code
