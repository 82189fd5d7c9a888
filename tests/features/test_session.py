"""One picture, one pass, the same bits every time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.features import session
from workbench.features.converter import extractor_version
from workbench.features.session import FeatureExtractor
from workbench.prepare.decode import Preparation, Prepared, prepare_bytes


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def picture(seed: int, preparation: Preparation = session.PREPARATION) -> Prepared:
    blocks = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(np.kron(blocks, np.ones((20, 30, 1), np.uint8))).save(buffer, "PNG")
    prepared = prepare_bytes(buffer.getvalue(), preparation)
    assert isinstance(prepared, Prepared)
    return prepared


def test_says_what_it_is_and_takes(store: Path) -> None:
    extractor = FeatureExtractor(store)
    assert extractor_version() == extractor.version
    assert "pixels-1:224x224:pad:ffffff" == extractor.preparation.id


def test_gives_features_and_probabilities(store: Path) -> None:
    extractor, asked = FeatureExtractor(store), picture(0)
    features, probabilities = extractor.features(asked), extractor.probabilities(asked)
    assert ((1280,), np.dtype("float32")) == (features.shape, features.dtype)
    assert ((1000,), np.dtype("float32")) == (probabilities.shape, probabilities.dtype)
    assert 1 == pytest.approx(probabilities.sum(), abs=1e-5)
    assert not np.array_equal(features, extractor.features(picture(1)))


def test_nothing_is_computed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[None] = []
    run_network = session.run_network

    def counted(*arguments: object) -> object:
        passes.append(None)
        return run_network(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "run_network", counted)
    extractor = FeatureExtractor(tmp_path)
    first = extractor.features(picture(0)), extractor.probabilities(picture(0))
    assert 1 == len(passes)
    second = FeatureExtractor(tmp_path)
    assert all(map(np.array_equal, first, (second.features(picture(0)), second.probabilities(picture(0)))))
    assert 1 == len(passes)


def test_what_is_known_needs_no_network(tmp_path: Path) -> None:
    first = FeatureExtractor(tmp_path).features(picture(0))
    for model in tmp_path.glob("*.onnx"):
        model.unlink()
    assert np.array_equal(first, FeatureExtractor(tmp_path).features(picture(0)))
    assert [] == list(tmp_path.glob("*.onnx"))


def test_threads_get_the_same_bits_as_one(tmp_path: Path) -> None:
    pictures = [picture(seed) for seed in range(6)]
    alone = [FeatureExtractor(tmp_path / "alone").features(item) for item in pictures]
    together = FeatureExtractor(tmp_path / "together")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(together.features, pictures * 2))
    assert all(map(np.array_equal, alone * 2, answers))


def test_other_pixels_are_refused(store: Path) -> None:
    with pytest.raises(ValueError, match=r"\(64, 64, 3\); the network takes \(224, 224, 3\)"):
        FeatureExtractor(store).features(picture(0, Preparation(64, 64, "pad")))
