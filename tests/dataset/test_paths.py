from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laid_out import lay_out
from workbench.dataset.paths import Refusal, Tree, looks_like_image, relative_path

COMPOSED = "caf\u00e9.jpg"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("../a.jpg", "outside_root"),
        ("a/../../b.jpg", "outside_root"),
        ("a/../b.jpg", "outside_root"),
        ("..\\a.jpg", "outside_root"),
        ("..", "outside_root"),
        ("/etc/passwd", "outside_root"),
        ("\\\\server\\share\\a.jpg", "outside_root"),
        ("C:\\a.jpg", "outside_root"),
        ("c:/a.jpg", "outside_root"),
        ("file:///etc/passwd", "path_is_address"),
        ("FILE:/etc/passwd", "path_is_address"),
        ("http://169.254.169.254/a.jpg", "path_is_address"),
        ("https://example.org/a.jpg", "path_is_address"),
        ("s3://other-bucket/a.jpg", "path_is_address"),
        ("data:image/png;base64,AAAA", "path_is_address"),
        ("a\x00.jpg", "path_not_text"),
        ("a\ud800.jpg", "path_not_text"),
        ("", "no_path"),
        ("  ", "no_path"),
        ("./.", "no_path"),
    ],
)
def test_a_path_that_leaves_the_root_or_is_none_is_refused(text: str, code: str) -> None:
    found = relative_path(text)

    assert isinstance(found, Refusal)
    assert code == found.code


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a.jpg", "a.jpg"),
        ("./a//b/./c.jpg", "a/b/c.jpg"),
        ("cat: black.jpg", "cat: black.jpg"),
        ("a..b/..c/d...jpg", "a..b/..c/d...jpg"),
        (".hidden/a.jpg", ".hidden/a.jpg"),
        ("a b/+ä.JPG", "a b/+ä.JPG"),
        ("a\\b.jpg", "a\\b.jpg"),
    ],
)
def test_a_plain_path_is_followed(text: str, plain: str) -> None:
    assert plain == relative_path(text)


@given(st.lists(st.sampled_from(["..", ".", "a", "b.jpg", "", "C:", "\\", "~"]), max_size=6).map("/".join))
def test_no_accepted_path_ever_leaves_the_root(text: str) -> None:
    found = relative_path(text)

    if isinstance(found, str):
        root = Path("/some/root")
        assert Path(os.path.normpath(root / found)).is_relative_to(root)
        assert not Path(found).is_absolute()


def test_files_are_found_by_their_exact_name_first(tmp_path: Path) -> None:
    lay_out(tmp_path, [f"a/{DECOMPOSED}", f"b/{COMPOSED}", f"c/{COMPOSED}", f"c/{DECOMPOSED}"])
    tree = Tree(tmp_path.resolve())

    assert f"a/{DECOMPOSED}" == tree.locate(f"a/{COMPOSED}")
    assert f"b/{COMPOSED}" == tree.locate(f"b/{DECOMPOSED}")
    assert f"c/{DECOMPOSED}" == tree.locate(f"c/{DECOMPOSED}")
    assert tree.locate("a/other.jpg") is None
    assert tree.locate("nowhere/a.jpg") is None


def test_folders_are_found_by_their_normal_form(tmp_path: Path) -> None:
    folder = unicodedata.normalize("NFD", "été")
    lay_out(tmp_path, [f"{folder}/a.jpg", f"{folder}/b.jpg"])
    tree = Tree(tmp_path.resolve())

    assert [f"{folder}/a.jpg", f"{folder}/b.jpg"] == [tree.locate("été/a.jpg"), tree.locate("été/b.jpg")]


def test_links_are_followed_within_the_root_alone(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "root", ["real/a.jpg"]).resolve()
    lay_out(tmp_path / "elsewhere", ["secret.jpg"])
    (root / "in.jpg").symlink_to(root / "real" / "a.jpg")
    (root / "in").symlink_to(root / "real")
    (root / "out.jpg").symlink_to(tmp_path / "elsewhere" / "secret.jpg")
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / "dangling.jpg").symlink_to(root / "nothing.jpg")
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    tree = Tree(root)

    assert ["in.jpg", "in/a.jpg"] == [tree.locate("in.jpg"), tree.locate("in/a.jpg")]
    assert ["dangling.jpg", "loop.jpg"] == [tree.locate("dangling.jpg"), tree.locate("loop.jpg")]
    for path in ("out.jpg", "out", "out/secret.jpg", "out/nothing.jpg"):
        found = tree.locate(path)
        assert isinstance(found, Refusal)
        assert "outside_root" == found.code


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("a.jpg", True), ("A.JPEG", True), ("a.b.Png", True), ("a.txt", False), ("jpg", False), (".jpg", False)],
)
def test_image_names_are_told_by_their_ending(name: str, is_one: bool) -> None:
    assert is_one == looks_like_image(name)
