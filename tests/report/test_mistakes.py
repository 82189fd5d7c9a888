from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelled_runs import make_dataset, make_run
from workbench.dataset.images import Dataset
from workbench.evaluation.labelled import join
from workbench.evaluation.summary import Evaluation, evaluate
from workbench.records import Taxonomy
from workbench.report.mistakes import encode_thumbnail, find_mistakes

TAXONOMY = Taxonomy(("shoe", "boot"))


def picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def save(path: Path, size: tuple[int, int]) -> Path:
    Image.new("RGB", size, (200, 30, 30)).save(path)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A right shoe, then images told as a shoe that are not: at 0.6, 0.9, 0.9 and 0.7; the one at 0.7 is no image."""
    for row in range(4):
        save(tmp_path / f"{row}.png", (28, 20))
    (tmp_path / "4.png").write_text("not a picture")
    return make_dataset([("shoe",), ("boot",), ("boot",), (), ()], TAXONOMY, root=tmp_path)


@pytest.fixture
def evaluation(dataset: Dataset) -> Evaluation:
    scores = [[0.8, 0.2], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1], [0.7, 0.3]]
    return evaluate(join(make_run(dataset, scores), dataset))


def test_the_most_confident_come_first_and_ties_by_name(evaluation: Evaluation, dataset: Dataset) -> None:
    found = find_mistakes(evaluation, dataset, most=3)
    assert ["shoe"] == list(found)
    assert ["2.png", "3.png", "4.png"] == [mistake.image_id for mistake in found["shoe"]]
    assert [("boot",), (), ()] == [mistake.shown for mistake in found["shoe"]]
    assert [0.9, 0.9, 0.7] == pytest.approx([mistake.score for mistake in found["shoe"]])


def test_a_file_that_cannot_be_decoded_has_no_thumbnail(evaluation: Evaluation, dataset: Dataset) -> None:
    found = find_mistakes(evaluation, dataset)["shoe"]
    assert [True, True, False, True] == [bool(mistake.thumbnail) for mistake in found]


def test_without_a_data_set_there_are_no_pictures(evaluation: Evaluation) -> None:
    assert {""} == {mistake.thumbnail for mistake in find_mistakes(evaluation, None)["shoe"]}


def test_a_small_picture_keeps_its_own_pixels(tmp_path: Path) -> None:
    uri, small = encode_thumbnail(save(tmp_path / "a.png", (28, 20)))
    assert small
    assert uri.startswith("data:image/png;base64,")
    assert (28, 28) == picture(uri).size
    assert [200, 30, 30] == np.asarray(picture(uri))[14, 14].tolist()


def test_a_large_picture_is_made_small(tmp_path: Path) -> None:
    uri, small = encode_thumbnail(save(tmp_path / "a.png", (1200, 900)))
    assert not small
    assert uri.startswith("data:image/jpeg;base64,")
    assert (224, 224) == picture(uri).size
    assert len(uri) < 20_000


def test_a_missing_file_gives_nothing(tmp_path: Path) -> None:
    assert ("", False) == encode_thumbnail(tmp_path / "gone.png")
