from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.approaches.local_cnn import resolve_label_map
from workbench.config.project import read_project
from workbench.dataset.demo import stamps
from workbench.dataset.demo.stamps import CATEGORIES, INSIDE, PACKAGE, write_stamps
from workbench.dataset.images import Dataset
from workbench.dataset.sources import load_dataset

FILES = (
    "animals/mammals/horse.png",
    "animals/mammals/deer/doe.png",
    "animals/mammals/bears/toys/edward_bear.png",
    "animals/birds/heron.png",
    "animals/birds/cartoon/tux.png",
    "household/tools/measuring_tape.png",
    "household/tools/measuring_tape_mirror.png",
    "plants/mushrooms/cep.png",
    "plants/mushrooms/cep-2.png",
    "plants/cep.png",
    "symbols/money/euro/coins/001.png",
    "symbols/money/00_symbols/euro.png",
    "animals/mammals/horse.txt",
    "space/moon.png",
)


@pytest.fixture
def folder(tmp_path: Path, packaged: Callable[..., Path]) -> Path:
    packaged(PACKAGE, {f"{INSIDE}/{name}": name for name in FILES})
    (tmp_path / "stamps").mkdir()
    root = write_stamps(tmp_path / "stamps", tmp_path / "cache", progress=False)
    assert (root / FILES[0]).is_file()
    return tmp_path / "stamps"


@pytest.fixture
def dataset(folder: Path) -> Dataset:
    project = read_project(folder / "workbench.toml")
    return load_dataset(project.dataset, project.taxonomy, project.root, project.name)


def test_the_pictures_stay_where_the_package_has_them(folder: Path, dataset: Dataset) -> None:
    assert ["manifest.csv", "workbench.toml"] == sorted(path.name for path in folder.rglob("*"))
    assert all(dataset.file(path).read_text() == path for path in dataset.frame["path"])


def test_folders_are_categories_and_drawings_are_left_out(dataset: Dataset) -> None:
    labels = dict(zip(dataset.frame["image_id"], dataset.frame["labels"], strict=True))

    assert {
        "animals/mammals/horse.png": ("mammal",),
        "animals/mammals/deer/doe.png": ("mammal",),
        "animals/birds/heron.png": ("bird",),
        "household/tools/measuring_tape.png": ("household",),
        "household/tools/measuring_tape_mirror.png": ("household",),
        "plants/mushrooms/cep.png": ("plant",),
        "plants/mushrooms/cep-2.png": ("plant",),
        "plants/cep.png": ("plant",),
        "symbols/money/euro/coins/001.png": (),
        "space/moon.png": (),
    } == labels
    assert {"stamp", "money", "space"} == set(dataset.frame["source"])


def test_variants_of_one_thing_are_one_group(dataset: Dataset) -> None:
    group = dict(zip(dataset.frame["image_id"], dataset.frame["group"], strict=True))

    assert group["household/tools/measuring_tape.png"] == group["household/tools/measuring_tape_mirror.png"]
    assert group["plants/mushrooms/cep.png"] == group["plants/mushrooms/cep-2.png"] != group["plants/cep.png"]


def test_every_category_has_imagenet_classes_of_its_own(folder: Path) -> None:
    project = read_project(folder / "workbench.toml")
    found = resolve_label_map(project.label_maps["local-cnn"], tuple(CATEGORIES))
    used = [index for indices in found.values() for index in indices]

    assert len(used) == len(set(used))
    assert 7 in found["bird"]  # rooster
    assert 340 in found["mammal"]  # zebra
    assert set(CATEGORIES) == {*stamps.IMAGENET_SPANS, *stamps.IMAGENET_NAMES}
