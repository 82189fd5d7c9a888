from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from laid_out import codes_of, labels_of, lay_out
from workbench.dataset.images import COLUMNS, PROBLEM_COLUMNS
from workbench.dataset.sources import load_dataset
from workbench.errors import DatasetError
from workbench.records import Image, Taxonomy

GOOD = [f"{number:02d}.jpg" for number in range(20)]


def with_good(rows: str, header: str = "image,label", good: str = ",cat") -> str:
    """A CSV of twenty good rows on lines 2 to 21, then `rows`."""
    return f"{header}\n" + "".join(f"{name}{good}\n" for name in GOOD) + rows


def refused(problems: pd.DataFrame) -> list[tuple[str, str]]:
    return [(place, code) for place, code, gone in codes_of(problems) if gone]


def test_a_csv_with_all_columns(tmp_path: Path) -> None:
    text = (
        "image,label,split,group,weight,source,colour\n"
        "a.jpg,cat,train,burst, 2.5 , shop ,red\n"
        "b.jpg,unknown,Validation,burst2,,,\n"
        "sub/c.jpg,,TEST,,0.5,,blue\n"
    )
    dataset = load_dataset(
        lay_out(tmp_path / "pets", {"manifest.csv": text, "a.jpg": "x", "b.jpg": "x", "sub/c.jpg": "x"})
    )

    assert [*COLUMNS, "colour"] == list(dataset.frame)
    assert list(PROBLEM_COLUMNS) == list(dataset.problems)
    assert [
        ("a.jpg", "a.jpg", ("cat",), "train", "burst", 2.5, "shop", "red"),
        ("b.jpg", "b.jpg", (), "tune", "burst2", 1.0, "", ""),
        ("sub/c.jpg", "sub/c.jpg", None, "certify", "sub/c.jpg", 0.5, "", "blue"),
    ] == list(dataset.frame.itertuples(index=False, name=None))
    assert Image("a.jpg", ("cat",), "burst", "train") == next(iter(dataset))
    assert ("pets", "float64") == (dataset.name, str(dataset.frame["weight"].dtype))


def test_a_parquet_file_and_json_lines_say_the_same(tmp_path: Path) -> None:
    rows = {"file_name": GOOD, "labels": [["cat"], ["dog", "cat"]] * 10, "split": ["train", "test"] * 10}
    lay_out(tmp_path, GOOD)
    pd.DataFrame(rows).to_parquet(tmp_path / "m.parquet")
    pd.DataFrame(rows).to_json(tmp_path / "m.jsonl", orient="records", lines=True)
    text = "image,label,split\n" + "".join(
        f"{name},{'dog|cat,test' if n % 2 else 'cat,train'}\n" for n, name in enumerate(GOOD)
    )
    lay_out(tmp_path, {"m.csv": text, "m.tsv": text.replace(",", "\t")})
    one, *others = (load_dataset(tmp_path / name) for name in ("m.parquet", "m.jsonl", "m.csv", "m.tsv"))

    assert Taxonomy(("cat", "dog"), "multi-label") == one.taxonomy
    assert ("cat", "dog") == labels_of(one)["01.jpg"]
    for other in others:
        pd.testing.assert_frame_equal(one.frame, other.frame)
        assert (one.taxonomy, one.digest) == (other.taxonomy, other.digest)


def test_traps_of_text(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    text = (
        f"\ufeffimage,label\na.jpg,NA\nb.jpg,null\nc.jpg,001\nd.jpg,True\ne.jpg, cat\nf.jpg,{decomposed}\ng.jpg,café\n"
    )
    dataset = load_dataset(lay_out(tmp_path, {"m.csv": text, **{f"{name}.jpg": b"" for name in "abcdefg"}}) / "m.csv")

    assert ("001", "NA", "True", "café", "cat", "null") == dataset.taxonomy.categories
    assert [("m.csv:6", "label_trimmed", False), ("m.csv:7", "label_unicode", False)] == [
        problem for problem in codes_of(dataset.problems) if problem[1] != "category_gap"
    ]


def test_image_paths_do_not_leave_the_root(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    root = lay_out(tmp_path / "root", GOOD)
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    lines = ["../secret.jpg", "/etc/passwd", "file:///etc/passwd", "s3://bucket/a.jpg", "link.jpg"]
    lay_out(root, {"m.csv": with_good("".join(f"{line},cat\n" for line in lines))})
    dataset = load_dataset(root / "m.csv")

    codes = ["outside_root", "outside_root", "path_is_address", "path_is_address", "outside_root"]
    assert [(f"m.csv:{line}", code) for line, code in enumerate(codes, start=22)] == refused(dataset.problems)
    assert GOOD == dataset.frame["path"].tolist()
    assert b"secret" not in dataset.contents.tolist()


def test_another_root_is_where_paths_start(tmp_path: Path) -> None:
    lay_out(tmp_path, {"images/a.jpg": b"x", "lists/pets.csv": "image,label\na.jpg,cat\n"})
    dataset = load_dataset(tmp_path / "lists" / "pets.csv", root=tmp_path / "images", name="mine")

    assert ("mine", tmp_path.resolve() / "images", True) == (
        dataset.name,
        dataset.root,
        dataset.file("a.jpg").is_file(),
    )
    with pytest.raises(DatasetError, match="no folder"):
        load_dataset(tmp_path / "lists" / "pets.csv", root=tmp_path / "nothing")


def test_a_file_that_is_missing_keeps_its_row(tmp_path: Path) -> None:
    lay_out(tmp_path, {**dict.fromkeys(GOOD, b""), "m.csv": with_good("gone.jpg,cat\nsub\\x.jpg,cat\n")})
    dataset = load_dataset(tmp_path / "m.csv")

    assert [("m.csv:22", "missing_file", False), ("m.csv:23", "missing_file", False)] == codes_of(dataset.problems)
    assert "write / instead" in dataset.problems["message"].iloc[1]
    assert ["gone.jpg", "sub\\x.jpg"] == dataset.frame["path"].tolist()[20:]


def test_the_path_is_as_the_file_system_spells_it(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é.jpg")
    dataset = load_dataset(lay_out(tmp_path, {decomposed: b"", "m.csv": "image,label\né.jpg,cat\n"}) / "m.csv")

    assert (("é.jpg", decomposed), True) == (tuple(dataset.frame.iloc[0, :2]), dataset.file(decomposed).is_file())
    assert ("m.csv:2", "path_unicode", False) in codes_of(dataset.problems)


def test_repeated_rows_in_single_label(tmp_path: Path) -> None:
    rows = "twice.jpg,cat\ntwice.jpg,cat\nboth.jpg,cat\n./both.jpg,dog\nhalf.jpg,dog\nhalf.jpg,\n"
    images = [*GOOD, "twice.jpg", "both.jpg", "half.jpg", "more.jpg"]
    more = "".join(f"{number}.png,cat\n" for number in range(10))
    lay_out(tmp_path, [*images, *(f"{number}.png" for number in range(10))])
    dataset = load_dataset(lay_out(tmp_path, {"m.csv": with_good(rows + more)}) / "m.csv", Taxonomy(("cat", "dog")))

    assert [
        ("m.csv:23", "duplicate"),
        ("m.csv:24", "conflict"),
        ("m.csv:25", "conflict"),
        ("m.csv:26", "conflict"),
        ("m.csv:27", "conflict"),
    ] == refused(dataset.problems)
    assert ("cat",) == labels_of(dataset)["twice.jpg"]
    assert not {"both.jpg", "half.jpg"} & set(labels_of(dataset))
    assert "m.csv:24, m.csv:25 with labels 'cat' and 'dog'" in dataset.problems["message"].str.cat()


def test_repeated_rows_in_multi_label_are_one_image(tmp_path: Path) -> None:
    rows = "a.jpg,dog\na.jpg,cat\na.jpg,\nb.jpg,cat\nb.jpg,unknown\n"
    lay_out(tmp_path, {**dict.fromkeys([*GOOD, "a.jpg", "b.jpg"], b""), "m.csv": with_good(rows)})
    dataset = load_dataset(tmp_path / "m.csv", Taxonomy(("cat", "dog"), "multi-label"))

    assert 21 == len(dataset)
    assert ("cat", "dog") == labels_of(dataset)["a.jpg"]
    assert [("m.csv:25", "conflict"), ("m.csv:26", "conflict")] == refused(dataset.problems)


def test_an_image_in_two_splits_is_a_conflict(tmp_path: Path) -> None:
    text = with_good("a.jpg,cat,train\na.jpg,cat,test\n", "image,label,split", ",cat,test")
    dataset = load_dataset(lay_out(tmp_path, {**dict.fromkeys([*GOOD, "a.jpg"], b""), "m.csv": text}) / "m.csv")

    assert [("m.csv:22", "conflict"), ("m.csv:23", "conflict")] == refused(dataset.problems)
    assert "split 'train' and 'certify'" in dataset.problems["message"].iloc[0]


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("weight", "-1", "weight_not_read"),
        ("weight", "nan", "weight_not_read"),
        ("weight", "inf", "weight_not_read"),
        ("weight", "much", "weight_not_read"),
        ("split", "fold1", "split_not_read"),
        ("inclusion_probability", "0", "inclusion_probability_not_read"),
        ("inclusion", "1.01", "inclusion_probability_not_read"),
        ("inclusion", "nan", "inclusion_probability_not_read"),
        ("inclusion", "1e-320", "inclusion_probability_not_read"),
        ("inclusion", "often", "inclusion_probability_not_read"),
    ],
)
def test_a_field_that_cannot_be_read_refuses_its_row(tmp_path: Path, column: str, value: str, code: str) -> None:
    text = with_good(f"a.jpg,cat,{value}\n", f"image,label,{column}", ",cat,")
    dataset = load_dataset(lay_out(tmp_path, {**dict.fromkeys([*GOOD, "a.jpg"], b""), "m.csv": text}) / "m.csv")

    assert [("m.csv:22", code)] == refused(dataset.problems)
    assert repr(value) in dataset.problems["message"].iloc[0]


def test_a_weight_is_one_over_the_inclusion_probability(tmp_path: Path) -> None:
    rows = {
        "a.jpg": ",0.25",
        "b.jpg": "4,0.25",
        "c.jpg": "3.33, 0.3 ",
        "d.jpg": "2.5,",
        "e.jpg": ",",
        "f.jpg": "2,0.25",
    }
    text = "".join(f"{name},cat,{given}\n" for name, given in rows.items())
    text = with_good(text, "image,label,weight,Inclusion Probability", ",cat,,1")
    dataset = load_dataset(lay_out(tmp_path, {**dict.fromkeys([*GOOD, *rows], b""), "m.csv": text}) / "m.csv")

    weights = dict(zip(dataset.frame["image_id"], dataset.frame["weight"], strict=True))
    assert list(COLUMNS) == list(dataset.frame)
    assert [4.0, 4.0, 1 / 0.3, 2.5, 1.0, 1.0] == [weights[name] for name in [*rows][:5] + GOOD[:1]]
    assert [("m.csv:27", "weight_contradicted")] == refused(dataset.problems)
    assert "weight '2' is not 1 / inclusion_probability '0.25'" in dataset.problems["message"].iloc[0]


@pytest.mark.parametrize(("bad", "stops"), [(5, False), (6, True)])
def test_more_than_a_fifth_of_bad_rows_stops(tmp_path: Path, bad: int, stops: bool) -> None:
    """Of 20 good and 5 bad rows a fifth is bad; a row that is bad in two ways counts once."""
    rows = "".join(f"gone{number}.jpg,{'lion' if number else 'cat'}\n" for number in range(bad))
    text = with_good(rows)
    lay_out(tmp_path, {**dict.fromkeys(GOOD, b""), "m.csv": text})
    if not stops:
        assert 21 == len(load_dataset(tmp_path / "m.csv", Taxonomy(("cat", "dog"))))
        return
    with pytest.raises(DatasetError) as caught:
        load_dataset(tmp_path / "m.csv", Taxonomy(("cat", "dog")))
    copy = tmp_path / "m.errors.csv"
    assert f"6 of 26 rows cannot be used, more than 20%; each is marked in {copy}" in str(caught.value)
    assert "6 × missing_file, first m.csv:22: no file 'gone0.jpg' below the root" in str(caught.value)
    lines = copy.read_text().splitlines()
    assert ['image,label,"workbench_error"', *(f"{name},cat," for name in GOOD)] == lines[:21]
    assert lines[21] == "gone0.jpg,cat,\"missing_file: no file 'gone0.jpg' below the root\""
    assert re.search("missing_file: .*; label_outside: ", lines[22])
    assert text == (tmp_path / "m.csv").read_text()


def test_the_annotated_copy_of_a_groundtruth_manifest_goes_where_it_is_wanted(tmp_path: Path) -> None:
    lay_out(tmp_path, {"a.manifest": '{"source-ref": "s3://shop/a.jpg"}\n', "out/": b""})

    with pytest.raises(DatasetError, match="not_fetched"):
        load_dataset(tmp_path / "a.manifest", annotated=tmp_path / "out")
    assert '"workbench_error": "not_fetched: ' in (tmp_path / "out" / "a.errors.manifest").read_text()


def test_every_metadata_file_with_bad_rows_gets_its_copy(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"{split}/metadata.csv": "file_name,label\n1.jpg,cat\n2.jpg,cat\n" for split in ("train", "test")
    }
    with pytest.raises(DatasetError, match="2 of 4 rows") as caught:
        load_dataset(lay_out(tmp_path, {**files, "train/1.jpg": b"", "train/2.jpg": b""}))

    assert [tmp_path / "test" / "metadata.errors.csv"] == list(tmp_path.rglob("*.errors.csv"))
    assert str(tmp_path / "test" / "metadata.errors.csv") in str(caught.value)


def test_a_folder_of_labels_outside_the_taxonomy_stops_without_a_copy(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"1 × label_outside, first Cat/2\.jpg: label 'Cat' .* is 'cat' meant"):
        load_dataset(lay_out(tmp_path, ["cat/1.jpg", "Cat/2.jpg"]), Taxonomy(("cat",)))


def test_labels_outside_the_taxonomy_as_unknown(tmp_path: Path) -> None:
    lay_out(tmp_path, ["cat/1.jpg", "bird/1.jpg"])
    dataset = load_dataset(tmp_path, Taxonomy(("cat",), outside="unknown"))

    assert {"bird/1.jpg": (), "cat/1.jpg": ("cat",)} == labels_of(dataset)


def test_gaps_are_told(tmp_path: Path) -> None:
    lay_out(tmp_path, ["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg", "test/cat/1.jpg"])
    problems = load_dataset(tmp_path, Taxonomy(("cat", "dog", "lion"))).problems

    assert [
        "category 'dog': of its 1 images none is in tune or certify",
        "category 'lion': no image shows it",
    ] == problems["message"].tolist()
    assert not problems["refused"].any()


def test_splits_are_drawn_with_the_seed(tmp_path: Path) -> None:
    lay_out(tmp_path, [f"{kind}/{number}.jpg" for kind in ("cat", "dog") for number in range(20)])
    first, again, other = (load_dataset(tmp_path, seed=seed).frame["split"].tolist() for seed in (1, 1, 2))

    assert first == again
    assert first != other
    assert {"train": 12, "tune": 10, "certify": 18} == pd.Series(first).value_counts().to_dict()


def test_a_crossing_group_is_told(tmp_path: Path) -> None:
    text = "image,label,split,group\na.jpg,cat,train,g\nb.jpg,cat,test,g\nc.jpg,cat,val,h\n"
    dataset = load_dataset(lay_out(tmp_path, {"pets.csv": text, "a.jpg": b"", "b.jpg": b"", "c.jpg": b""}) / "pets.csv")

    assert [("pets", "group_crosses_splits", False)] == codes_of(dataset.problems)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"manifest.csv": "image,label\n", "manifest.jsonl": ""}, "name the one to read"),
        ({"manifest.csv": "image,label\n"}, "no images found"),
        ({"output.manifest": "\n"}, "no column for the image"),
    ],
)
def test_a_folder_with_no_clear_manifest_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_dataset(lay_out(tmp_path, files))


def test_nothing_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nothing: no such file or folder"):
        load_dataset(tmp_path / "nothing")


def test_names_of_any_kind_are_only_text(tmp_path: Path) -> None:
    odd = [
        "<img onerror=x>.jpg",
        "=HYPERLINK().jpg",
        "_x.jpg",
        "שלום.jpg",
        "🐈.jpg",
        "new\nline.jpg",
        "a" * 200 + ".jpg",
    ]
    dataset = load_dataset(lay_out(tmp_path, [f"{'b' * 200}/{name}" for name in odd]))

    assert sorted(f"{'b' * 200}/{name}" for name in odd) == dataset.frame["image_id"].tolist()
