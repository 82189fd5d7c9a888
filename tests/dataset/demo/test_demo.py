from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workbench.dataset import demo
from workbench.dataset.demo import EMBEDDED, embedded, fashion
from workbench.dataset.demo.stamps import INSIDE, PACKAGE
from workbench.dataset.sources import load_dataset
from workbench.errors import DatasetError, PrerequisiteError


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """By path, inode and time of the last change of everything below a folder."""
    entries = [folder, *folder.rglob("*")]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in entries}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "datasets"


@pytest.mark.parametrize("name", ["fashion", "mosaics"])
def test_a_second_call_does_nothing(name: str, folder: Path, cache: Path) -> None:
    target = embedded(name, folder, cache)
    before = state(folder)
    shutil.rmtree(cache)

    assert folder / name == target == embedded(name, folder, cache)
    assert before == state(folder)
    assert [target] == list(folder.iterdir())
    assert len(load_dataset(target)) > 10


def test_the_names_are_known(folder: Path, cache: Path) -> None:
    assert ("fashion", "mosaics", "stamps") == EMBEDDED
    with pytest.raises(DatasetError, match="'pets'; there are fashion, mosaics, stamps"):
        embedded("pets", folder, cache)


def test_what_breaks_off_leaves_nothing_and_is_done_again(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = fashion._chosen

    def breaking(originals: fashion.Originals) -> Iterator[tuple[str, int, int]]:
        yield from list(chosen(originals))[:5]
        raise KeyboardInterrupt

    monkeypatch.setattr(fashion, "_chosen", breaking)
    with pytest.raises(KeyboardInterrupt):
        embedded("fashion", folder, cache)
    assert [] == list(folder.iterdir())

    monkeypatch.setattr(fashion, "_chosen", chosen)
    assert 106 == len(load_dataset(embedded("fashion", folder, cache)))


def test_what_a_killed_process_left_is_cleared_away_in_time(folder: Path, cache: Path) -> None:
    old, young = folder / ".fashion-1.part", folder / ".fashion-2.part"
    for part in (old, young):
        (part / "images").mkdir(parents=True)
    os.utime(old, (time.time() - 7200,) * 2)
    embedded("fashion", folder, cache)

    assert {".fashion-2.part", "fashion"} == {path.name for path in folder.iterdir()}


def test_a_folder_of_someone_else_is_not_touched(folder: Path, cache: Path) -> None:
    (folder / "fashion" / "images").mkdir(parents=True)
    (folder / "fashion" / "manifest.csv").write_text("image,label\n")
    before = state(folder)

    with pytest.raises(DatasetError, match="was not made by the workbench"):
        embedded("fashion", folder, cache)
    assert before == state(folder)


@pytest.mark.parametrize("edited", [True, False])
def test_another_recipe_makes_it_again_and_keeps_an_edited_project(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, edited: bool
) -> None:
    target = embedded("fashion", folder, cache)
    if edited:
        (target / "workbench.toml").write_text("# mine")
    monkeypatch.setattr(fashion, "KNOWN_COUNTS", {"train": 1, "tune": 1, "certify": 1})
    embedded("fashion", folder, cache)

    assert 8 * 3 + 2 * 5 == len(load_dataset(target))
    assert edited == (target / "workbench.previous.toml").is_file()
    assert not edited or (target / "workbench.previous.toml").read_text() == "# mine"
    assert "# mine" != (target / "workbench.toml").read_text()


def test_an_edited_project_alone_is_left_as_it_is(folder: Path, cache: Path) -> None:
    target = embedded("fashion", folder, cache)
    (target / "workbench.toml").write_text("# mine")

    assert "# mine" == (embedded("fashion", folder, cache) / "workbench.toml").read_text()


def test_of_two_processes_the_quicker_one_wins(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = demo._remove_abandoned
    quicker: list[dict[str, tuple[int, int]]] = []

    def overtaken(name: str, where: Path) -> None:
        remove(name, where)
        monkeypatch.setattr(demo, "_remove_abandoned", remove)
        quicker.append(state(embedded("fashion", folder, cache)))

    monkeypatch.setattr(demo, "_remove_abandoned", overtaken)

    slower = embedded("fashion", folder, cache)

    assert [state(slower)] == quicker
    assert ["fashion"] == [path.name for path in folder.iterdir()]
    assert 106 == len(load_dataset(folder / "fashion"))


@pytest.mark.usefixtures("no_packages")
def test_what_cannot_be_had_leaves_no_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match=f"sudo apt-get install {PACKAGE}"):
        embedded("stamps", folder, tmp_path / "cache")
    assert [] == list(folder.iterdir())


def test_stamps_whose_pictures_are_gone_are_made_again(
    folder: Path, tmp_path: Path, packaged: Callable[..., Path]
) -> None:
    packaged(PACKAGE, {f"{INSIDE}/animals/birds/owl.png": b"x"})
    target = embedded("stamps", folder, tmp_path / "cache")
    before = state(folder)
    assert before == state(embedded("stamps", folder, tmp_path / "cache").parent)

    shutil.rmtree(tmp_path / "cache")
    embedded("stamps", folder, tmp_path / "elsewhere")
    assert str(tmp_path / "elsewhere") in (target / "workbench.toml").read_text()
