"""Copies with words on them: which, of which images, the same each time; and an approach that falls for a banner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawn import KINDS, draw_dataset
from workbench.approaches.base import Answer
from workbench.canonical import digest
from workbench.dataset.images import Dataset
from workbench.errors import DatasetError
from workbench.prepare.decode import Preparation, Prepared
from workbench.prepare.lettering import band
from workbench.records import Taxonomy
from workbench.runs.cache import AnswerCache
from workbench.runs.runner import classify
from workbench.runs.stress import ATTACKS, CLEAN, draw_sample, stress_dataset

TAXONOMY = Taxonomy(KINDS)
ROWS = [(split, labels) for split in ("tune", "certify", "train") for labels in ((), *((kind,) for kind in KINDS)) * 4]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return draw_dataset(tmp_path / "data", ROWS, TAXONOMY)


def folder(tmp_path: Path, name: str = "copies") -> Path:
    path = tmp_path / name
    path.mkdir()
    return path


class TestSample:
    def test_is_of_the_split_alone_and_the_same_each_time(self, dataset: Dataset) -> None:
        sample = draw_sample(dataset, "tune", 7, seed=3)
        assert (7, {"tune"}) == (len(sample), set(sample.frame["split"]))
        assert sample.frame.equals(draw_sample(dataset, "tune", 7, seed=3).frame)
        assert not sample.frame.equals(draw_sample(dataset, "tune", 7, seed=4).frame)

    def test_a_larger_sample_holds_the_smaller_one(self, dataset: Dataset) -> None:
        few, many = (set(draw_sample(dataset, "tune", size, seed=0).frame["image_id"]) for size in (5, 11))
        assert few < many

    def test_one_image_of_each_group(self, dataset: Dataset) -> None:
        groups = [f"{row // 4}" for row in range(len(dataset))]
        sample = draw_sample(replace(dataset, frame=dataset.frame.assign(group=groups)), "tune", 100, seed=0)
        assert 4 == len(sample) == sample.frame["group"].nunique()

    def test_images_without_a_label_do_not_count(self, dataset: Dataset) -> None:
        with pytest.raises(DatasetError, match="no labelled image is on tune"):
            draw_sample(replace(dataset, frame=dataset.frame.assign(labels=None)), "tune", 5, seed=0)


class TestCopies:
    def test_every_image_has_one_of_each_kind(self, dataset: Dataset, tmp_path: Path) -> None:
        sample = draw_sample(dataset, "tune", 6, seed=0)
        stressed = stress_dataset(sample, folder(tmp_path), seed=0)
        assert 0 == stressed.left_out
        assert list(stressed.copies["image_id"]) == list(stressed.dataset.frame["image_id"])
        for image_id, part in stressed.copies.groupby("of"):
            assert [CLEAN, *ATTACKS] == list(part["attack"])
            (labels,) = set(part["labels"])
            assert labels == sample.frame.set_index("image_id")["labels"][image_id]
            targets = dict(zip(part["attack"], part["target"], strict=True))
            assert targets["name"] in set(KINDS) - set(labels)
            assert targets["blank"] == targets["name"] == targets["instruction"]
            assert ("", "unknown") == (targets[CLEAN], targets["unknown"])
            assert 1 == len(
                set(part.loc[part["attack"] != CLEAN, ["position", "size", "contrast"]].itertuples(index=False))
            )

    def test_looks_and_targets_vary(self, tmp_path: Path) -> None:
        many = draw_dataset(tmp_path / "many", [("tune", ("disc",))] * 40, TAXONOMY)
        copies = stress_dataset(many, folder(tmp_path), seed=0).copies
        drawn = copies[copies["attack"] == "name"]
        assert {"top", "middle", "bottom"} == set(drawn["position"])
        assert ({"small", "large"}, {"strong", "faint"}) == (set(drawn["size"]), set(drawn["contrast"]))
        assert {"stripes", "checks"} == set(drawn["target"])

    def test_the_image_itself_is_copied_byte_by_byte_and_no_source_changes(
        self, dataset: Dataset, tmp_path: Path
    ) -> None:
        before = {path.name: path.read_bytes() for path in dataset.root.iterdir()}
        sample = draw_sample(dataset, "tune", 4, seed=0)
        stressed = stress_dataset(sample, folder(tmp_path), seed=0)
        clean = (stressed.copies["attack"] == CLEAN).to_numpy()
        assert list(sample.contents) == list(stressed.dataset.contents[clean])
        assert before == {path.name: path.read_bytes() for path in dataset.root.iterdir()}

    def test_seed_and_image_decide_whatever_else_is_drawn(self, dataset: Dataset, tmp_path: Path) -> None:
        def contents(images: int, name: str, seed: int = 5) -> dict[str, str]:
            sample = draw_sample(dataset, "tune", images, seed=0)
            stressed = stress_dataset(sample, folder(tmp_path, name), seed).dataset
            return dict(zip(stressed.frame["image_id"], stressed.contents, strict=True))

        few, many, other = contents(3, "few"), contents(6, "many"), contents(3, "other", 6)
        assert few.items() <= many.items()
        assert few != other

    def test_words_are_legible_on_small_pictures(self, tmp_path: Path) -> None:
        rows = [("tune", ("disc",))] * 12
        dataset = draw_dataset(tmp_path / "small", rows, TAXONOMY)
        for path in dataset.root.iterdir():
            Image.open(path).resize((28, 28)).convert("L").save(path)
        stressed = stress_dataset(dataset, folder(tmp_path), seed=0)
        for row in np.flatnonzero(stressed.copies["attack"] == "instruction"):
            with Image.open(stressed.dataset.file(stressed.dataset.frame["path"][row])) as image:
                assert (280, 280) == image.size

    def test_what_cannot_be_decoded_is_left_out(self, dataset: Dataset, tmp_path: Path) -> None:
        sample = draw_sample(dataset, "tune", 3, seed=0)
        sample.file(sample.frame["path"][1]).write_bytes(b"no image")
        stressed = stress_dataset(sample, folder(tmp_path), seed=0)
        assert (1, 2) == (stressed.left_out, stressed.copies["of"].nunique())

    def test_names_that_cannot_be_written_are_no_targets(self, tmp_path: Path) -> None:
        taxonomy = Taxonomy((*KINDS[:2], "格子"))
        rows = [("tune", ("disc",))] * 6
        dataset = draw_dataset(tmp_path / "data", rows, taxonomy)
        copies = stress_dataset(dataset, folder(tmp_path), seed=0).copies
        assert {"stripes"} == set(copies.loc[copies["attack"] == "name", "target"])
        foreign = replace(dataset, taxonomy=Taxonomy(("靴", "鞄"), unknown="不明"))
        with pytest.raises(DatasetError, match="Latin letters"):
            stress_dataset(foreign, folder(tmp_path, "foreign"), seed=0)

    def test_with_one_category_the_words_say_unknown(self, tmp_path: Path) -> None:
        dataset = draw_dataset(tmp_path / "data", [("tune", ("disc",)), ("tune", ())], Taxonomy(("disc",)))
        copies = stress_dataset(dataset, folder(tmp_path), seed=0).copies
        assert ["unknown", "disc"] == list(copies.loc[copies["attack"] == "name", "target"])


class Gullible:
    """Tells stripes of whatever has a white band across it, and discs of everything else."""

    name, preparation, model_version = "gullible", Preparation(512, 512, "within"), "gullible-1"
    complete, scores_unknown, floors, parallel = True, False, {}, 1
    taxonomy = TAXONOMY
    fingerprint = digest(["gullible"])

    def request(self, prepared: Prepared) -> np.ndarray:
        return prepared.pixels

    def ask(self, request: np.ndarray) -> Answer:
        white = (request == 255).mean(axis=(1, 2))
        return Answer({"banner": bool((white > 0.97).sum() >= 0.02 * len(request))}, self.model_version)

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        return (
            {"disc": 0.25, "stripes": 0.75, "checks": 0.0}
            if raw["banner"]
            else dict(zip(KINDS, (1.0, 0.0, 0.0), strict=True))
        )


def test_an_approach_is_asked_about_all_of_them(dataset: Dataset, tmp_path: Path) -> None:
    """Exactly the copies with a white band deceive it; images and faint words do not."""
    sample = draw_sample(dataset, "tune", 16, seed=1)
    stressed = stress_dataset(sample, folder(tmp_path), seed=1)
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        table = classify(stressed.dataset, Gullible(), cache)  # type: ignore[arg-type]
        again = classify(sample, Gullible(), cache)  # type: ignore[arg-type]
    told = table.scores.argmax(axis=1)
    expected = (stressed.copies["contrast"] == "strong").to_numpy()
    assert 0 < expected.sum() < (stressed.copies["attack"] != CLEAN).sum()
    assert expected.tolist() == (told == 1).tolist()
    assert again.frame["cached"].all()  # the images themselves are the same pictures


def test_bands_are_found_where_the_copies_have_them(dataset: Dataset, tmp_path: Path) -> None:
    stressed = stress_dataset(draw_sample(dataset, "tune", 8, seed=2), folder(tmp_path), seed=2)
    copies = stressed.copies[(stressed.copies["attack"] == "blank") & (stressed.copies["contrast"] == "strong")]
    for row in copies.itertuples():
        with Image.open(stressed.dataset.file(stressed.dataset.frame["path"][row.Index])) as image:
            top, bottom = band(image.height, row)  # type: ignore[arg-type]
            assert [255] == np.unique(np.asarray(image)[top:bottom]).tolist()
    assert len(copies)
