from __future__ import annotations

import os
from pathlib import Path

import pytest

from laid_out import codes_of, labels_of, lay_out
from workbench.dataset.images import SPLITS, Dataset
from workbench.dataset.sources import load_dataset
from workbench.errors import DatasetError


def splits_of(dataset: Dataset) -> dict[str, str]:
    return dict(zip(dataset.frame["image_id"], dataset.frame["split"], strict=True))


def test_a_folder_per_category(tmp_path: Path) -> None:
    lay_out(
        tmp_path / "pets", ["dog/1.JPG", "cat/old/2.png", "cat/1.jpeg", "unknown/3.gif", ".cache/x.jpg", "cat/.4.jpg"]
    )
    dataset = load_dataset(tmp_path / "pets")

    assert {"cat/1.jpeg": ("cat",), "cat/old/2.png": ("cat",), "dog/1.JPG": ("dog",), "unknown/3.gif": ()} == labels_of(
        dataset
    )
    assert ("pets", ("cat", "dog"), "single-label") == (
        dataset.name,
        dataset.taxonomy.categories,
        dataset.taxonomy.mode,
    )
    assert (tmp_path / "pets").resolve() == dataset.root
    assert dataset.file("cat/1.jpeg").is_file()


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "val", "test"),
        ("Training", "validation", "testing"),
        ("train", "tune", "certify"),
        ("TRAIN", "dev", "test"),
    ],
)
def test_split_folders_stand_above_the_categories(tmp_path: Path, folders: tuple[str, str, str]) -> None:
    images = [f"{folder}/{category}/1.jpg" for folder in folders for category in ("cat", "dog")]
    dataset = load_dataset(lay_out(tmp_path, images))

    assert ("cat", "dog") == dataset.taxonomy.categories
    meant = dict(zip(folders, SPLITS, strict=True))
    assert {image: meant[image.split("/")[0]] for image in images} == splits_of(dataset)
    assert dataset.problems.empty


def test_folders_beside_the_splits_are_not_categories(tmp_path: Path) -> None:
    images = [
        f"{split}/{kind}/{n}.jpg" for split in ("train", "val", "test") for kind in ("cat", "dog") for n in range(3)
    ]
    dataset = load_dataset(lay_out(tmp_path, [*images, "docs/figure.png", "train/stray.jpg"]))

    assert ("cat", "dog") == dataset.taxonomy.categories
    assert [
        ("docs/figure.png", "outside_splits", True),
        ("train/stray.jpg", "outside_categories", False),
    ] == codes_of(dataset.problems)
    assert labels_of(dataset)["train/stray.jpg"] is None


def test_a_category_may_be_called_test(tmp_path: Path) -> None:
    dataset = load_dataset(lay_out(tmp_path, ["test/1.jpg", "exam/1.jpg"]))

    assert ("exam", "test") == dataset.taxonomy.categories


def test_a_heap_of_images_is_not_labelled(tmp_path: Path) -> None:
    dataset = load_dataset(lay_out(tmp_path, ["2.jpg", "1.jpg"]))

    assert {"1.jpg": None, "2.jpg": None} == labels_of(dataset)
    assert () == dataset.taxonomy.categories
    assert dataset.problems.empty


def test_split_folders_of_heaps(tmp_path: Path) -> None:
    dataset = load_dataset(lay_out(tmp_path, ["train/1.jpg", "val/2.jpg", "test/3.jpg"]))

    assert {"train/1.jpg": "train", "val/2.jpg": "tune", "test/3.jpg": "certify"} == splits_of(dataset)
    assert [None, None, None] == dataset.frame["labels"].tolist()


def test_whatever_is_named_like_an_image_is_a_row(tmp_path: Path) -> None:
    lay_out(tmp_path, {"cat/empty.jpg": b"", "cat/text.jpg": "hello", "cat/a.png/": b"", "cat/fine.jpg": b"x"})
    (tmp_path / "cat" / "dangling.jpg").symlink_to(tmp_path / "cat" / "nothing.jpg")
    lay_out(tmp_path, ["cat/a.png/inside.jpg"])
    dataset = load_dataset(tmp_path)

    assert ["cat/a.png", "cat/dangling.jpg", "cat/empty.jpg", "cat/fine.jpg", "cat/text.jpg"] == list(
        labels_of(dataset)
    )
    assert not [problem for problem in codes_of(dataset.problems) if problem[1] != "category_gap"]


def test_other_files_are_skipped_and_said(tmp_path: Path) -> None:
    lay_out(
        tmp_path, ["cat/1.jpg", "cat/2.jpg", "cat/3.jpg", "cat/notes.txt", "README.md", "workbench.toml", ".DS_Store"]
    )

    assert [("README.md", "not_an_image", True), ("cat/notes.txt", "not_an_image", True)] == codes_of(
        load_dataset(tmp_path).problems
    )


@pytest.mark.parametrize(
    ("files", "place"),
    [(["cat/1.jpg", "dog/", "cat/2.jpg", "cat/3.jpg"], "dog"), (["train/cat/1.jpg", "train/dog/"], "train/dog")],
)
def test_an_empty_category_is_named(tmp_path: Path, files: list[str], place: str) -> None:
    problems = load_dataset(lay_out(tmp_path, files)).problems
    found = problems[problems["code"] == "empty_category"]

    assert [place] == found["place"].tolist()
    assert "category 'dog'" in found["message"].iloc[0]


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "root", [f"cat/{number}.jpg" for number in range(8)])
    lay_out(tmp_path / "elsewhere", ["secret.jpg"])
    (root / "cat" / "9.jpg").symlink_to(tmp_path / "elsewhere" / "secret.jpg")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    dataset = load_dataset(root)

    assert 8 == len(dataset)
    assert [("cat/9.jpg", "outside_root", True), ("dog", "linked_folder", True)] == codes_of(dataset.problems)


def test_a_name_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, [f"cat/{number}.jpg" for number in range(8)])
    with open(os.fsencode(tmp_path) + b"/cat/\xff.jpg", "wb"):  # noqa: PTH123, a path of bytes
        pass
    dataset = load_dataset(tmp_path)

    assert 8 == len(dataset)
    assert [("cat/\\xff.jpg", "path_not_text", True)] == codes_of(dataset.problems)


def test_a_part_of_a_root_keeps_the_paths_of_the_root(tmp_path: Path) -> None:
    lay_out(tmp_path, ["train/cat/1.jpg", "train/dog/1.jpg"])
    dataset = load_dataset(tmp_path / "train", root=tmp_path)

    assert {"train/cat/1.jpg": ("cat",), "train/dog/1.jpg": ("dog",)} == labels_of(dataset)
    with pytest.raises(DatasetError, match="does not lie below the root"):
        load_dataset(tmp_path / "train", root=tmp_path / "train" / "cat")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("metadata.csv", ["file_name,label,camera", "1.jpg,cat,k1", "sub/2.jpg,dog,k2"]),
        (
            "metadata.jsonl",
            [
                '{"file_name": "1.jpg", "label": "cat", "camera": "k1"}',
                '{"file_name": "sub/2.jpg", "label": "dog", "camera": "k2"}',
            ],
        ),
    ],
)
def test_imagefolder_takes_labels_from_its_metadata(tmp_path: Path, name: str, lines: list[str]) -> None:
    dataset = load_dataset(lay_out(tmp_path, {"1.jpg": b"x", "sub/2.jpg": b"x", name: "\n".join(lines)}))

    assert {"1.jpg": ("cat",), "sub/2.jpg": ("dog",)} == labels_of(dataset)
    assert ["k1", "k2"] == dataset.frame["camera"].tolist()


def test_imagefolder_with_split_folders_takes_the_rest_from_the_folders(tmp_path: Path) -> None:
    files = {f"{split}/{kind}/1.jpg": b"x" for split in ("train", "validation", "test") for kind in ("cat", "dog")}
    metadata = {
        f"{split}/metadata.csv": "file_name,camera\n./cat/1.jpg,k1\ndog/1.jpg,k2\n" for split in ("train", "validation")
    }
    metadata["test/cat/metadata.csv"] = "file_name,label,camera\n1.jpg,lion,k3\n"
    dataset = load_dataset(lay_out(tmp_path, {**files, **metadata}))

    assert {
        "train/cat/1.jpg": ("cat",),
        "train/dog/1.jpg": ("dog",),
        "validation/cat/1.jpg": ("cat",),
        "validation/dog/1.jpg": ("dog",),
        "test/cat/1.jpg": ("lion",),
    } == labels_of(dataset)
    assert "tune" == splits_of(dataset)["validation/cat/1.jpg"]
    assert ("test/dog/1.jpg", "not_listed", True) in codes_of(dataset.problems)


def test_rows_of_several_metadata_files_are_told_apart(tmp_path: Path) -> None:
    listed = "".join(f"{number}.jpg,cat\n" for number in range(5))
    files: dict[str, str | bytes] = {f"{split}/{n}.jpg": b"x" for split in ("train", "val", "test") for n in range(5)}
    for split in ("train", "val", "test"):
        files[f"{split}/metadata.csv"] = f"file_name,label\nbroken\n{listed}"
    dataset = load_dataset(lay_out(tmp_path, files))

    assert 15 == len(dataset)
    assert [(f"{split}/metadata.csv:2", "row_unreadable", True) for split in ("test", "train", "val")] == codes_of(
        dataset.problems
    )


def test_imagefolder_paths_may_not_leave_the_root(tmp_path: Path) -> None:
    good = "".join(f"{number}.jpg,cat\n" for number in range(10))
    files: dict[str, str | bytes] = {f"root/train/{number}.jpg": b"x" for number in range(10)}
    files["root/train/metadata.csv"] = f"file_name,label\n{good}/etc/passwd,cat\n../../secret.jpg,cat\n"
    dataset = load_dataset(lay_out(tmp_path, {**files, "secret.jpg": b"x"}) / "root")

    assert 10 == len(dataset)
    assert [
        ("train/metadata.csv:12", "outside_root", True),
        ("train/metadata.csv:13", "outside_root", True),
    ] == [problem for problem in codes_of(dataset.problems) if problem[2]]


@pytest.mark.parametrize("files", [[], ["notes.txt"], ["cat/"]])
def test_a_folder_without_images_is_refused(tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(DatasetError, match="no images found"):
        load_dataset(lay_out(tmp_path, files))
