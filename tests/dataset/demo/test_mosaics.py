from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.approaches.local_cnn import resolve_label_map
from workbench.config.project import read_project
from workbench.dataset.demo import mosaics
from workbench.dataset.demo.fashion import OFFICIAL, load_originals, write_fashion
from workbench.dataset.demo.mosaics import CANVAS, CATEGORIES, FLAGGED, write_mosaics
from workbench.dataset.sources import load_dataset


@pytest.fixture
def written(cache: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "mosaics"
    folder.mkdir()
    write_mosaics(folder, cache, progress=False)
    return folder


def test_the_data_set_loads_as_multi_label(written: Path) -> None:
    project = read_project(written / "workbench.toml")
    dataset = load_dataset(project.dataset, project.taxonomy, project.root, project.name)

    assert ("multi-label", CATEGORIES) == (dataset.taxonomy.mode, dataset.taxonomy.categories)
    assert {"train": 6, "tune": 5, "certify": 7} == dataset.frame["split"].value_counts().to_dict()
    assert len(dataset) == dataset.frame["group"].nunique()
    shown = dataset.frame["labels"].map(len)
    assert (shown <= dataset.frame["garments"].astype(int)).all()
    assert {"1", "2", "3"} >= set(dataset.frame["garments"])


def test_each_picture_is_used_once_and_not_by_the_other_set(cache: Path, tmp_path: Path) -> None:
    originals = load_originals(cache)
    used = [
        (OFFICIAL[split], garment.position) for split, _, garments in mosaics._chosen(originals) for garment in garments
    ]
    write_fashion(tmp_path, cache, progress=False)
    others = {tuple(path.stem.split("-")) for path in tmp_path.rglob("*.png")}

    assert len(used) == len(set(used))
    assert not others & {(part, f"{position:05d}") for part, position in used}


def test_a_canvas_shows_what_its_labels_say(written: Path, cache: Path) -> None:
    originals = load_originals(cache)
    for split, number, garments in mosaics._chosen(originals):
        with Image.open(written / "images" / split / f"{number:04d}.png") as picture:
            canvas = np.asarray(picture)
        assert (CANVAS, CANVAS) == canvas.shape
        covered = np.zeros_like(canvas, dtype=bool)
        for garment in garments:
            here = np.s_[garment.top : garment.top + garment.size, garment.left : garment.left + garment.size]
            assert not covered[here].any()
            covered[here] = True
            original = Image.fromarray(originals.pictures[OFFICIAL[split]][garment.position])
            shrunk = Image.fromarray(canvas[here]).resize((28, 28), Image.Resampling.BOX)
            assert np.corrcoef(np.asarray(original).ravel(), np.asarray(shrunk).ravel())[0, 1] > 0.9
        assert (canvas[~covered] == 255).all()


def test_the_project_flags_early_and_acts_alone(written: Path) -> None:
    project = read_project(written / "workbench.toml")
    assert project.goals is not None

    assert [("review", "recall"), ("block", "precision")] == [
        (tier.action, tier.metric) for tier in project.goals.tiers_of(FLAGGED)
    ]
    assert set(CATEGORIES) == set(resolve_label_map(project.label_maps["local-cnn"], CATEGORIES))
