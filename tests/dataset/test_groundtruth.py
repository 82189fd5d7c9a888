from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from laid_out import labels_of, lay_out
from workbench.dataset.groundtruth import bucket_of, is_groundtruth, plain_record
from workbench.dataset.paths import Refusal, Tree
from workbench.dataset.sources import load_dataset

METADATA = {
    "confidence": 1,
    "job-name": "labeling-job/pets",
    "human-annotated": "yes",
    "creation-date": "2020-03-06T17:46:39.176",
    "type": "groundtruth/image-classification",
}


def line(reference: str, *names: str, **more: Any) -> dict[str, Any]:
    """A line as Rekognition Custom Labels writes it: an attribute and its metadata for each label."""
    record: dict[str, Any] = {"source-ref": reference}
    for number, name in enumerate(names):
        record |= {f"pets{number}": 1, f"pets{number}-metadata": {**METADATA, "class-name": name}}
    return record | more


def manifest(folder: Path, *records: dict[str, Any], images: tuple[str, ...]) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    return lay_out(folder, {**dict.fromkeys(images, b"x"), "pets.manifest": text}) / "pets.manifest"


def test_single_label_lines_with_objects_that_lie_below_the_root(tmp_path: Path) -> None:
    file = manifest(
        tmp_path,
        line("s3://shop/images/a+b c.jpg", "cat"),
        line("s3://shop/deep/down/images/b.jpg", "dog"),
        line("s3://shop/flat/c.jpg", "cat", camera="k1"),
        line("images/d.jpg", "unknown"),
        line("images/e.jpg"),
        images=("images/a+b c.jpg", "images/b.jpg", "c.jpg", "images/d.jpg", "images/e.jpg"),
    )
    dataset = load_dataset(file)

    assert {
        "images/a+b c.jpg": ("cat",),
        "images/b.jpg": ("dog",),
        "c.jpg": ("cat",),
        "images/d.jpg": (),
        "images/e.jpg": None,
    } == labels_of(dataset)
    assert ("single-label", ["", "", "k1", "", ""]) == (dataset.taxonomy.mode, dataset.frame["camera"].tolist())
    assert ["image_id", "path", "labels", "split", "group", "weight", "source", "camera"] == list(dataset.frame)


def test_several_attributes_are_several_labels(tmp_path: Path) -> None:
    file = manifest(tmp_path, line("a.jpg", "dog", "cat"), line("b.jpg", "cat"), images=("a.jpg", "b.jpg"))
    dataset = load_dataset(file)

    assert "multi-label" == dataset.taxonomy.mode
    assert {"a.jpg": ("cat", "dog"), "b.jpg": ("cat",)} == labels_of(dataset)


def test_the_class_map_of_a_multi_label_job(tmp_path: Path) -> None:
    kind = "groundtruth/image-classification-multilabel"
    several = {"pets": [0, 2], "pets-metadata": {**METADATA, "type": kind, "class-map": {"0": "cat", "2": "dog"}}}
    none = {"pets": [], "pets-metadata": {**METADATA, "type": kind, "class-map": {}}}
    file = manifest(
        tmp_path, {"source-ref": "a.jpg", **several}, {"source-ref": "b.jpg", **none}, images=("a.jpg", "b.jpg")
    )

    assert {"a.jpg": ("cat", "dog"), "b.jpg": ()} == labels_of(load_dataset(file))


def test_boxes_beside_a_classification_are_left_alone(tmp_path: Path) -> None:
    boxes = {"boxes": {"annotations": []}, "boxes-metadata": {"type": "groundtruth/object-detection"}}
    found = plain_record(line("a.jpg", "cat", **boxes), Tree(tmp_path), "")

    assert {"image": "a.jpg", "labels": ["cat"]} == found


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"pets": 1}, "no_path"),
        ({"source-ref": 3}, "no_path"),
        (line("s3://shop/nowhere.jpg", "cat"), "not_fetched"),
        (line("s3://shop/../secret.jpg", "cat"), "outside_root"),
        (line("s3://shop/", "cat"), "no_path"),
        (line("s3://other/a.jpg", "cat"), "other_bucket"),
        ({"source-ref": "a.jpg", "pets-metadata": {"type": "groundtruth/object-detection"}}, "not_classification"),
        ({"source-ref": "a.jpg", "pets-metadata": {**METADATA, "failure-reason": "timeout"}}, "job_failed"),
        ({"source-ref": "a.jpg", "pets": 1, "pets-metadata": METADATA}, "no_class_name"),
        ({"source-ref": "a.jpg", "pets": 1, "pets-metadata": {**METADATA, "class-name": 4}}, "no_class_name"),
    ],
)
def test_a_line_that_cannot_be_used_is_refused(tmp_path: Path, record: dict[str, Any], code: str) -> None:
    lay_out(tmp_path, ["root/a.jpg", "secret.jpg"])
    found = plain_record(record, Tree(tmp_path / "root"), "shop")

    assert isinstance(found, Refusal)
    assert code == found.code


def test_an_object_behind_a_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, ["root/", "secret/a.jpg"])
    (tmp_path / "root" / "images").symlink_to(tmp_path / "secret")
    found = plain_record(line("s3://shop/images/a.jpg", "cat"), Tree((tmp_path / "root").resolve()), "shop")

    assert isinstance(found, Refusal)
    assert "outside_root" == found.code


def test_the_bucket_is_that_of_the_first_object() -> None:
    assert "shop" == bucket_of([{}, {"source-ref": "a.jpg"}, {"source-ref": "s3://shop/a"}, {"source-ref": "s3://b/a"}])
    assert "" == bucket_of([{"source-ref": "a.jpg"}])


def test_other_json_lines_are_no_such_manifest() -> None:
    assert is_groundtruth([{}, {"source-ref": "a.jpg"}])
    assert not is_groundtruth([{"image": "a.jpg"}, {"source-ref": "a.jpg"}])
    assert not is_groundtruth([])
