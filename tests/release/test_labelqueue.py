"""The queue as a file, filled in by hand, and the manifest that it becomes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from part_labelled import make_part, planned
from workbench.dataset.images import Dataset
from workbench.dataset.opening import open_dataset
from workbench.dataset.tables import read_table
from workbench.errors import InputError
from workbench.release.labelling import QUEUE_COLUMNS, LabelPlan
from workbench.release.labelqueue import next_steps, read_queue, write_manifest, write_queue


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelPlan:
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    return planned(*make_part(tmp_path / "images"))


def fill(path: Path, labels: dict[str, str]) -> None:
    """As a person does in a spreadsheet."""
    if path.suffix == ".csv":
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        frame["label"] = [labels.get(name, "") for name in frame["image_id"]]
        frame.to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        filled = [{**row, "label": labels.get(row["image_id"], "")} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in filled))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_filled_queue_becomes_a_manifest_in_which_nothing_else_changed(
    plan: LabelPlan, tmp_path: Path, suffix: str
) -> None:
    queue, dataset = tmp_path / f"queue{suffix}", plan.dataset
    assert write_queue(plan, queue)
    assert not write_queue(plan, queue)
    labels = dict(zip(plan.queue["image_id"][:3], ("boot", "unknown", "shoe"), strict=True))
    fill(queue, labels)
    told = read_queue(queue, dataset)
    assert [("boot",), (), ("shoe",)] == [told[name] for name in labels]
    manifest = dataset.root / f"manifest{suffix}"
    assert 3 == write_manifest(dataset, told, manifest)
    (dataset.root / "workbench.toml").write_text(
        f'[taxonomy]\ncategories = ["shoe", "boot", "bag"]\n[dataset]\npath = "{manifest.name}"\n'
    )
    again = open_dataset(dataset.root).dataset.frame.set_index("image_id")
    before = dataset.frame.set_index("image_id")
    assert list(before.index) == list(again.index)
    for column in ("split", "group", "source", "weight"):
        assert before[column].tolist() == again[column].tolist(), column
    for name, own in before["labels"].items():
        assert told.get(name, own) == again["labels"][name]


@pytest.mark.parametrize("name", ["a\r=1+1.png", "=1+1\r\n.png", '"\r", ;.png', "'-.png"])
def test_hostile_file_names_stay_what_they_are(plan: LabelPlan, tmp_path: Path, name: str) -> None:
    first = plan.queue["image_id"][0]
    (plan.dataset.root / first).rename(plan.dataset.root / name)
    dataset = replace(plan.dataset, frame=plan.dataset.frame.replace(first, name).assign(note=name))
    hostile = replace(plan, dataset=dataset, pool=plan.pool.replace(first, name))
    queue = tmp_path / "queue.csv"
    write_queue(hostile, queue)
    with queue.open(encoding="utf-8") as file:
        assert len(hostile.queue) + 1 == len(list(csv.reader(file, strict=True)))
    fill(queue, {name: "boot"})
    told = read_queue(queue, dataset)
    assert {name: ("boot",)} == told
    write_manifest(dataset, told, dataset.root / "manifest.csv")
    table = read_table(dataset.root / "manifest.csv", "manifest.csv")
    assert [] == table.problems
    for column in ("path", "group", "note"):
        assert dataset.frame[column].tolist() == table.columns[column], column


def test_the_file_shows_neither_scores_nor_guesses(plan: LabelPlan, tmp_path: Path) -> None:
    write_queue(plan, tmp_path / "queue.csv")
    shown = pd.read_csv(tmp_path / "queue.csv", dtype=str, keep_default_na=False)
    assert list(QUEUE_COLUMNS) == list(shown)
    assert {""} == set(shown["label"])
    assert {"certify"} == set(shown["split"])
    assert "shoe, boot, bag, unknown" in next_steps(plan, "queue.csv")


def test_labels_that_somebody_filled_in_are_never_written_over(plan: LabelPlan, tmp_path: Path) -> None:
    queue = tmp_path / "queue.csv"
    write_queue(plan, queue)
    fill(queue, {plan.queue["image_id"][0]: "boot"})
    filled = queue.read_bytes()
    with pytest.raises(InputError, match="labels are filled in; name another file"):
        write_queue(plan.at(0.99), queue)
    assert filled == queue.read_bytes()
    noted = pd.read_csv(tmp_path / "queue.csv", dtype=str, keep_default_na=False).assign(label="", remark="ask Ann")
    noted.to_csv(tmp_path / "noted.csv", index=False)
    with pytest.raises(InputError, match="columns were added; name another file"):
        write_queue(plan.at(0.99), tmp_path / "noted.csv")
    (tmp_path / "notes.csv").write_text("my,notes\n1,2\n")
    with pytest.raises(InputError, match=r"notes.csv: is no queue .* no column 'image_id'"):
        write_queue(plan, tmp_path / "notes.csv")
    with pytest.raises(InputError, match=r"a queue ends in \.csv or \.jsonl"):
        write_queue(plan, tmp_path / "queue.xlsx")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is no ordinary file"):
        write_queue(plan, tmp_path / "folder.csv")


def other_row(dataset: Dataset, *, labelled: bool, split: str) -> str:
    frame = dataset.frame
    return str(frame["image_id"][(frame["labels"].notna() == labelled) & (frame["split"] == split)].iloc[0])


def test_what_does_not_fit_is_refused_with_its_row(plan: LabelPlan, tmp_path: Path) -> None:
    first, second = plan.queue["image_id"][:2]
    labelled = other_row(plan.dataset, labelled=True, split="certify")
    cases = {
        f"{first},shoe\n{first},boot\n": f"queue.csv:3: '{first}' stands twice \\(queue.csv:2\\)",
        "nobody.png,shoe\n": "queue.csv:2: data set 'world' has no image 'nobody.png'",
        f"{labelled},shoe\n": f"queue.csv:2: '{labelled}' is labelled already",
        f"{first},\n{second},shoe|boot\n": "queue.csv:3: ",
    }
    for rows, message in cases.items():
        text = "image_id,label,sampling_probability,stratum\n" + rows.replace("\n", ",1,all\n")
        (tmp_path / "queue.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            read_queue(tmp_path / "queue.csv", plan.dataset)
    (tmp_path / "queue.jsonl").write_text(
        json.dumps({"image_id": first, "label": 3, "sampling_probability": 1, "stratum": "all"}) + "\n"
    )
    with pytest.raises(InputError, match=r"queue\.jsonl:1: label must be text or a list of texts, not 3"):
        read_queue(tmp_path / "queue.jsonl", plan.dataset)


def test_a_manifest_stands_beside_its_images_and_replaces_nothing(plan: LabelPlan, tmp_path: Path) -> None:
    dataset = plan.dataset
    labels = {plan.queue["image_id"][0]: ("boot",)}
    with pytest.raises(InputError, match="so it has to stand in"):
        write_manifest(dataset, labels, tmp_path / "manifest.csv")
    (dataset.root / "manifest.csv").write_text("here\n")
    with pytest.raises(InputError, match="is there already"):
        write_manifest(dataset, labels, dataset.root / "manifest.csv")
    assert "here\n" == (dataset.root / "manifest.csv").read_text()
