from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.approaches.local_cnn import resolve_label_map
from workbench.config.project import read_project
from workbench.dataset.demo import fashion
from workbench.dataset.demo.fashion import CLASSES, OFFICIAL, UNKNOWN, load_originals, write_fashion
from workbench.dataset.sources import load_dataset
from workbench.errors import PrerequisiteError


def manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def position(path: str) -> tuple[str, int]:
    part, number = Path(path).stem.split("-")
    return part, int(number)


@pytest.fixture
def written(cache: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "fashion"
    folder.mkdir()
    write_fashion(folder, cache, progress=False)
    return folder


def test_the_data_set_loads_as_any_other(written: Path) -> None:
    project = read_project(written / "workbench.toml")
    dataset = load_dataset(project.dataset, project.taxonomy, project.root, project.name)

    assert ("fashion", 8 * 12 + 2 * 5) == (dataset.name, len(dataset))
    assert tuple(name for name in CLASSES if name not in UNKNOWN) == dataset.taxonomy.categories
    assert {"label_unknown"} == set(dataset.problems["code"])
    counts = Counter(zip(dataset.frame["split"], dataset.frame["labels"].map(bool), strict=True))
    assert {
        ("train", True): 24, ("tune", True): 32, ("certify", True): 40, ("tune", False): 4, ("certify", False): 6,
    } == counts  # fmt: skip
    unknown = dataset.frame[~dataset.frame["labels"].map(bool)]
    assert set(UNKNOWN) == set(unknown["source"])
    assert {"catalogue"} == set(dataset.frame["source"]) - set(UNKNOWN)


def test_every_picture_is_the_official_one_on_white(written: Path, cache: Path) -> None:
    originals = load_originals(cache)
    for row in manifest(written):
        part, number = position(row["image"])
        assert OFFICIAL[row["split"]] == part
        assert CLASSES[originals.labels[part][number]] == row["label"]
        with Image.open(written / row["image"]) as picture:
            assert np.array_equal(originals.pictures[part][number], np.asarray(picture))
    black = fashion._array(fashion._read_files(cache / "fashion-mnist")["t10k-images-idx3-ubyte"])  # type: ignore[index]
    assert np.array_equal(255 - black, originals.pictures["t10k"])


def test_no_picture_is_used_twice_and_not_the_first_ones_are(written: Path, cache: Path) -> None:
    used = [position(row["image"]) for row in manifest(written)]

    assert len(used) == len(set(used))
    labels = load_originals(cache).labels["t10k"]
    first = {("t10k", number) for label in range(10) for number in np.flatnonzero(labels == label)[:5].tolist()}
    assert first - set(used)


def test_it_comes_out_the_same_every_time(written: Path, cache: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    write_fashion(again, cache, progress=False)

    for file in (path.relative_to(written) for path in written.rglob("*") if path.is_file()):
        assert (written / file).read_bytes() == (again / file).read_bytes()


def test_the_project_states_goals_and_a_label_map(written: Path) -> None:
    project = read_project(written / "workbench.toml")
    assert project.taxonomy is not None
    assert project.goals is not None

    found = resolve_label_map(project.label_maps["local-cnn"], project.taxonomy.categories)
    assert set(project.taxonomy.categories) == set(found)
    used = [index for indices in found.values() for index in indices]
    assert len(used) == len(set(used))
    assert [("review", "recall"), ("accept", "precision")] == [
        (tier.action, tier.metric) for tier in project.goals.tiers_of(fashion.EARLY)
    ]
    assert project.goals.rejection.unknown_accepted is not None


def test_any_two_classes_can_be_the_unknown_ones(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "UNKNOWN", ("coat", "dress"))
    write_fashion(tmp_path, cache, progress=False)
    project = read_project(tmp_path / "workbench.toml")

    assert project.taxonomy is not None
    assert {"sandal", "bag"} < set(project.taxonomy.categories)
    assert not {"coat", "dress"} & set(project.taxonomy.categories)


def test_the_debian_package_serves_where_the_cache_is_empty(
    small: Mapping[str, bytes], tmp_path: Path, packaged: Callable[..., Path]
) -> None:
    packaged(fashion.PACKAGE, {f"{fashion.INSIDE}/{name}": content for name, content in small.items()})

    assert (240, 28, 28) == load_originals(tmp_path / "empty").pictures["train"].shape


@pytest.mark.usefixtures("small", "no_packages")
def test_where_nothing_can_be_had_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "ADDRESS", "http://127.0.0.1:9/")  # the discard port: refused at once

    with pytest.raises(PrerequisiteError) as caught:
        load_originals(tmp_path / "empty")
    for said in (
        "sudo apt-get install dataset-fashion-mnist",
        "http://127.0.0.1:9/",
        str(tmp_path / "empty/fashion-mnist"),
    ):
        assert said in str(caught.value)


@pytest.mark.usefixtures("no_packages")
def test_a_damaged_file_in_the_cache_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = cache / "fashion-mnist" / "train-labels-idx1-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-4])
    monkeypatch.setattr(fashion, "ADDRESS", "http://127.0.0.1:9/")

    with pytest.raises(PrerequisiteError):
        load_originals(cache)


@pytest.mark.parametrize("counts", [fashion.KNOWN_COUNTS, fashion.UNKNOWN_COUNTS])
def test_no_class_takes_more_pictures_than_are_kept_for_this_set(counts: Mapping[str, int]) -> None:
    for part in set(OFFICIAL.values()):
        assert sum(count for split, count in counts.items() if OFFICIAL[split] == part) <= fashion.RESERVED
