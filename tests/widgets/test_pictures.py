"""Pictures for widgets: small and enlarged ones, what is blurred, and what is written down."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelled_runs import make_dataset
from panels import ask, ask_for_bytes
from workbench.dataset.images import Dataset
from workbench.errors import InputError, PrerequisiteError
from workbench.records import Taxonomy
from workbench.widgets import pictures as module
from workbench.widgets.gallery import Gallery
from workbench.widgets.pictures import REVEALS, Pictures

NAMES = ["wide.png", "tall.jpg", "broken.png", "missing.png", "tiny.png"]


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Noise, so that a blur shows; one file that is no picture, one that is not there."""
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    rng = np.random.default_rng(3)
    for name, shape in (("wide.png", (90, 400)), ("tall.jpg", (700, 300)), ("tiny.png", (5, 4))):
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return make_dataset([("shoe",)] * 4 + [()], Taxonomy(("shoe", "boot")), root=tmp_path, ids=NAMES)


def shown(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"), dtype=float)


def asked(dataset: Dataset, name: str, **content: Any) -> tuple[dict[str, Any], list[bytes]]:
    return ask_for_bytes(Gallery(dataset.frame[["image_id"]], dataset), name, **content)


def test_small_pictures_keep_their_shape_and_say_why_there_is_none(dataset: Dataset) -> None:
    told, made = asked(dataset, "pictures", ids=[*NAMES, "stranger.png"], size=80)
    assert [*NAMES, "stranger.png"] == [picture["id"] for picture in told["pictures"]]
    assert [(18, 80, 3), (80, 34, 3)] == [shown(data).shape for data in made[:2]]
    assert max(shown(made[4]).shape) <= 80
    reasons = [picture["reason"] for picture in told["pictures"]]
    assert [None, None, None] == [reasons[place] for place in (0, 1, 4)]
    assert "truncated" in reasons[2]
    assert "no such file" in reasons[3]
    assert "not an image of the data set" == reasons[5]
    assert [b"", b"", b""] == [made[place] for place in (2, 3, 5)]
    assert not any(picture["blurred"] for picture in told["pictures"])


@pytest.mark.parametrize("content", [{"ids": "wide.png"}, {"ids": ["a"] * 241}, {}, {"ids": [], "size": 1000}])
def test_questions_that_ask_too_much_are_refused(dataset: Dataset, content: dict[str, Any]) -> None:
    panel = Gallery(dataset.frame[["image_id"]], dataset)
    assert ask(panel, "pictures", **content)["error"]


def test_an_enlarged_picture_comes_with_what_is_known_of_it(dataset: Dataset) -> None:
    told, (data,) = asked(dataset, "enlarge", id="tall.jpg")
    assert (640, 274, 3) == shown(data).shape
    assert ["label", "shoe"] in told["facts"]
    assert ["as stored", "300 × 700, JPEG"] in told["facts"]
    told, (data,) = asked(dataset, "enlarge", id="missing.png")
    assert b"" == data
    assert "no such file" in told["reason"]
    told, _ = asked(dataset, "enlarge", id="tiny.png")
    assert ["label", "unknown"] in told["facts"]


def test_what_is_sensitive_is_blurred_until_it_is_written_down_who_reveals_it(dataset: Dataset, tmp_path: Path) -> None:
    panel = Gallery(dataset.frame[["image_id"]], replace(dataset, sensitive=True))
    plain = Pictures(dataset).picture("wide.png", 200)
    assert isinstance(plain, bytes)
    for name, content in (("pictures", {"ids": ["wide.png"], "size": 200}), ("enlarge", {"id": "wide.png"})):
        told, (data,) = ask_for_bytes(panel, name, **content)
        assert told.get("blurred", told.get("pictures", [{}])[0].get("blurred"))
        assert roughness(shown(data)) < 0.1 * roughness(shown(plain))
    assert not (tmp_path / "store" / REVEALS).exists()
    ask(panel, "reveal", ids=["wide.png", "wide.png"])
    told, (data,) = ask_for_bytes(panel, "pictures", ids=["wide.png"], size=200)
    assert plain == data
    (line,) = (tmp_path / "store" / REVEALS).read_text().splitlines()
    written = json.loads(line)
    assert {"time", "user", "dataset", "folder", "image_id"} == set(written)
    assert ("wide.png", str(tmp_path)) == (written["image_id"], written["folder"])
    assert 0o600 == (tmp_path / "store" / REVEALS).stat().st_mode & 0o777
    told, _ = ask_for_bytes(panel, "pictures", ids=["tall.jpg"], size=200)
    assert told["pictures"][0]["blurred"]


def roughness(pixels: np.ndarray) -> float:
    """Mean difference of neighbours: what a blur takes away."""
    return float(np.abs(np.diff(pixels, axis=1)).mean())


def test_nothing_is_revealed_that_cannot_be_written_down(dataset: Dataset, tmp_path: Path) -> None:
    pictures = Pictures(replace(dataset, sensitive=True))
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(PrerequisiteError, match="nothing is revealed"):
        pictures.reveal(["wide.png"])
    assert pictures.is_blurred("wide.png")
    with pytest.raises(InputError, match=r"'stranger.png' is not an image"):
        pictures.reveal(["wide.png", "stranger.png"])
    assert pictures.is_blurred("wide.png")


def test_what_is_kept_is_bounded_by_bytes_and_the_latest_stays(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    whole = Pictures._made

    def counted(self: Pictures, image_id: str, size: int, blurred: bool) -> bytes | str:
        made.append(image_id)
        return whole(self, image_id, size, blurred)

    monkeypatch.setattr(Pictures, "_made", counted)
    pictures = Pictures(dataset)
    one = len(pictures.picture("wide.png", 96))
    monkeypatch.setattr(module, "_MOST_KEPT", 2 * (one + 1000))
    for size in range(80, 97):
        pictures.picture("wide.png", size)
    assert pictures._bytes <= 2 * (one + 1000)
    before = len(made)
    pictures.picture("wide.png", 96)
    assert before == len(made)
    pictures.picture("wide.png", 80)
    assert before + 1 == len(made)
