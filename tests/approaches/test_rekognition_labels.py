"""DetectLabels by the real client, over loopback: what is sent, how labels become scores, how versions are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawn import draw
from servers.aws_json import only_these, with_keys
from servers.base import Reply
from servers.rekognition import Known, Rekognition
from workbench.approaches.base import Service, Setting, run_fingerprint
from workbench.approaches.rekognition import MOST_BYTES
from workbench.approaches.rekognition_labels import RekognitionLabels
from workbench.canonical import binary32
from workbench.config.prices import Prices
from workbench.errors import ConfigError, ProviderError, ServiceBusyError
from workbench.prepare.decode import Prepared, prepare_bytes
from workbench.records import CENSORED, Mode, Taxonomy

KINDS = ("disc", "stripes", "checks")
LABELS = {"disc": ("Disc",), "stripes": ("alias:Bands",), "checks": ("checks", "Chess")}
FREE = Prices("2026-01-01", {}, {})


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Rekognition]:
    with_keys(monkeypatch, tmp_path)
    with Rekognition() as server:
        yield server


Build = Callable[..., RekognitionLabels]


@pytest.fixture
def build(service: Rekognition) -> Iterator[Build]:
    """Approaches for this service, closed again."""
    built: list[RekognitionLabels] = []

    def make(labels: Mapping[str, tuple[str, ...]] = LABELS, **options: Any) -> RekognitionLabels:
        built.append(RekognitionLabels.build(setting(labels, endpoint_url=service.url, **options)))
        return built[-1]

    yield make
    for approach in built:
        approach.close()


def setting(labels: Mapping[str, tuple[str, ...]] = LABELS, mode: Mode = "single-label", **options: Any) -> Setting:
    options = {"region": "eu-west-1"} | options
    return Setting(Taxonomy(KINDS, mode), labels, Path("unused"), options=options)


def file_of(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def prepared(approach: RekognitionLabels, data: bytes) -> Prepared:
    found = prepare_bytes(data, approach.preparation)
    assert isinstance(found, Prepared)
    return found


def shown(approach: RekognitionLabels, *kinds: str) -> Prepared:
    return prepared(approach, file_of(draw(kinds, 3)))


def scores(approach: RekognitionLabels, *kinds: str) -> Mapping[str, float]:
    return approach.parse(approach.ask(approach.request(shown(approach, *kinds))).raw)


def sees(service: Rekognition, **confidences: float) -> None:
    service.labels = lambda image: confidences


def test_is_a_service(build: Build) -> None:
    approach = build()
    assert isinstance(approach, Service)
    assert (1, 0.0, False) == (approach.parts, approach.hourly_usd, approach.complete)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_is_seen(build: Build, kind: str) -> None:
    found = scores(build(), kind)
    assert found[kind] > 0.8
    assert {CENSORED} == {found[other] for other in KINDS if other != kind}


def test_a_confidence_is_read_as_binary32_of_its_hundredth(service: Rekognition, build: Build) -> None:
    sees(service, Disc=98.7123456789, Stripes=100.0, Checks=0.0)
    assert {"disc": binary32(0.987123456789), "stripes": 1.0, "checks": 0.0} == scores(build())


def test_ancestors_aliases_and_categories_can_be_meant(service: Rekognition, build: Build) -> None:
    service.vocabulary = {
        "Dog": Known(("Animal", "Pet"), ("Hound",), ("Animals and Pets",)),
        "Cat": Known(("Animal", "Pet"), (), ("Animals and Pets",)),
    }
    sees(service, Dog=90.0, Cat=70.0)
    approach = build({"disc": ("parent:pet",), "stripes": ("Animal",), "checks": ("category:Food", "alias:hound")})
    answer = approach.ask(approach.request(shown(approach)))
    assert dict.fromkeys(KINDS, binary32(0.9)) == approach.parse(answer.raw)
    other = build({"disc": ("Cat",), "stripes": ("category:animals and pets",), "checks": ("Bird",)})
    assert {"disc": binary32(0.7), "stripes": binary32(0.9), "checks": CENSORED} == other.parse(answer.raw)
    assert other.question == approach.question  # the kept answer serves another label map too
    assert other.fingerprint != approach.fingerprint


def test_unknown_is_scored_where_it_is_mapped(service: Rekognition, build: Build) -> None:
    sees(service, Disc=60.0, Text=80.0)
    approach = build(LABELS | {"unknown": ("Text",)})
    assert approach.scores_unknown
    assert not build().scores_unknown
    expected = {"disc": binary32(0.6), "stripes": CENSORED, "checks": CENSORED, "unknown": binary32(0.8)}
    assert expected == scores(approach)


def test_below_the_least_confidence_is_censored(service: Rekognition, build: Build) -> None:
    sees(service, Disc=55.0, Stripes=54.99999)
    approach = build(min_confidence=55)
    assert dict.fromkeys(KINDS, 0.55) == approach.floors
    assert {"disc": binary32(0.55), "stripes": CENSORED, "checks": CENSORED} == scores(approach)
    assert dict.fromkeys(KINDS, 0.0) == build().floors


def test_all_that_is_seen_is_asked_for(service: Rekognition, build: Build) -> None:
    service.labels = lambda image: {f"label {number}": 0.01 * (number + 1) for number in range(1000)}
    approach = build()
    answer = approach.ask(approach.request(shown(approach)))
    assert 1000 == len(answer.raw["labels"])
    asked = service.seen[-1].json
    assert {"MaxLabels": 1000, "MinConfidence": 0.0, "Features": ["GENERAL_LABELS"]} == {
        name: value for name, value in asked.items() if name != "Image"
    }


def test_a_kept_answer_has_no_boxes(build: Build) -> None:
    approach = build()
    raw = approach.ask(approach.request(shown(approach, "disc"))).raw
    assert {"labels", "model_version"} == set(raw)
    assert {"name", "confidence", "parents", "aliases", "categories"} == set(raw["labels"][0])
    assert raw == json.loads(json.dumps(raw, allow_nan=False))


class TestVersion:
    def test_the_answer_tells_it(self, service: Rekognition, build: Build) -> None:
        approach = build()
        assert "" == approach.model_version
        request = approach.request(shown(approach))
        assert "3.0" == approach.ask(request).model_version
        service.label_model_version = "3.1"
        assert "3.1" == approach.ask(request).model_version

    def test_a_pinned_one_is_the_same_classifier(self, build: Build) -> None:
        free, pinned, newer = build(), build(model_version="3.0"), build(model_version="3.1")
        assert "3.0" == pinned.model_version
        assert run_fingerprint(free, "3.0") == run_fingerprint(pinned, "3.0") == pinned.fingerprint
        assert run_fingerprint(free, "3.1") == newer.fingerprint != pinned.fingerprint
        assert free.question == pinned.question

    def test_an_answer_without_one_cannot_be_used_and_costs(self, service: Rekognition, build: Build) -> None:
        service.faults.append(Reply(200, b'{"Labels": []}', {"Content-Type": "application/x-amz-json-1.1"}))
        approach = build()
        with pytest.raises(ProviderError, match="LabelModelVersion") as caught:
            approach.ask(approach.request(shown(approach)))
        assert ("malformed_answer", 0.001) == (caught.value.outcome, caught.value.cost_usd)


@pytest.mark.parametrize(
    "answer",
    [
        {"LabelModelVersion": "3.0"},
        {"LabelModelVersion": "3.0", "Labels": [None]},
        {"LabelModelVersion": "3.0", "Labels": [{"Confidence": 5}]},
        {"LabelModelVersion": "3.0", "Labels": [{"Name": "Disc"}]},
        {"LabelModelVersion": "3.0", "Labels": [{"Name": ["Disc"], "Confidence": 5}]},
        {"LabelModelVersion": "3.0", "Labels": [{"Name": "Disc", "Confidence": 5, "Parents": [{}]}]},
    ],
)
def test_an_answer_of_another_form_is_kept_with_its_cost_and_cannot_be_read(
    service: Rekognition, build: Build, answer: dict[str, Any]
) -> None:
    service.faults.append(Reply(200, json.dumps(answer).encode()))
    approach = build()
    kept = approach.ask(approach.request(shown(approach)))
    assert ("3.0", 0.001) == (kept.model_version, kept.cost_usd)
    assert kept.raw == json.loads(json.dumps(kept.raw, allow_nan=False))
    with pytest.raises(ProviderError) as caught:
        approach.parse(kept.raw)
    assert "malformed_answer" == caught.value.outcome


@pytest.mark.parametrize("version", [7, True, ["3.0"], {"a": 1}, "\ud800", " ", "3.0\0"])
def test_a_version_that_is_no_name_cannot_be_used_and_costs(service: Rekognition, build: Build, version: Any) -> None:
    service.faults.append(Reply(200, json.dumps({"LabelModelVersion": version, "Labels": []}).encode()))
    approach = build()
    with pytest.raises(ProviderError, match="names no LabelModelVersion") as caught:
        approach.ask(approach.request(shown(approach)))
    assert ("malformed_answer", 0.001) == (caught.value.outcome, caught.value.cost_usd)


@pytest.mark.parametrize(
    ("confidence", "kept"), [(170.0, 170.0), (float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")]
)
def test_a_confidence_out_of_range_is_kept_with_its_cost(
    service: Rekognition, build: Build, confidence: float, kept: Any
) -> None:
    row = {"Name": "Disc", "Confidence": confidence}
    service.faults.append(Reply(200, json.dumps({"LabelModelVersion": "3.0", "Labels": [row]}).encode()))
    approach = build()
    answer = approach.ask(approach.request(shown(approach)))
    assert (kept, 0.001) == (answer.raw["labels"][0]["confidence"], answer.cost_usd)
    assert answer.raw == json.loads(json.dumps(answer.raw, allow_nan=False))
    with pytest.raises(ProviderError) as caught:
        approach.parse(answer.raw)
    assert "bad_probability" == caught.value.outcome


class TestWhatArrives:
    """Within the limits that the client does not check."""

    def arrived(self, service: Rekognition, approach: RekognitionLabels, data: bytes) -> tuple[bytes, Image.Image]:
        approach.ask(approach.request(prepared(approach, data)))
        sent = service.arrived[-1]
        with Image.open(BytesIO(sent)) as image:
            image.load()
            return sent, image

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_upright_and_without_metadata(self, service: Rekognition, build: Build, orientation: int) -> None:
        upright = Image.new("RGB", (320, 200), "white")
        upright.paste("red", (0, 0, 160, 100))
        upright.paste("blue", (160, 100, 320, 200))
        turned = upright.transpose(_STORED[orientation]) if orientation > 1 else upright
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = orientation, "a description"
        data = file_of(turned, "JPEG", quality=95, exif=exif.tobytes(), comment=b"taken at home")
        sent, image = self.arrived(service, build(), data)
        assert (320, 200) == image.size
        for place, colour in (((40, 25), (254, 0, 0)), ((280, 175), (0, 0, 254)), ((280, 25), (255, 255, 255))):
            assert np.abs(np.subtract(image.getpixel(place), colour)).max() < 8
        assert {} == dict(image.getexif())
        assert not {"exif", "comment", "icc_profile", "Comment", "Description"} & image.info.keys()
        assert b"a description" not in sent
        assert b"taken at home" not in sent

    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            ((1, 1), (80, 80)),
            ((79, 300), (80, 300)),
            ((80, 80), (80, 80)),
            ((1, 10_001), (80, 2048)),
            ((12_000, 90), (2048, 80)),
            ((3000, 1500), (2048, 1024)),
        ],
    )
    def test_neither_too_small_nor_too_large(
        self, service: Rekognition, build: Build, size: tuple[int, int], expected: tuple[int, int]
    ) -> None:
        _, image = self.arrived(service, build(), file_of(Image.new("RGB", size, "grey")))
        assert expected == image.size

    def test_within_the_bytes_even_where_nothing_can_be_compressed(self, service: Rekognition, build: Build) -> None:
        service.labels = lambda image: {}
        noise = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), np.uint8)
        data, image = self.arrived(service, build(), file_of(Image.fromarray(noise), compress_level=0))
        assert len(data) <= MOST_BYTES
        assert ("JPEG", (2048, 2048)) == (image.format, image.size)

    @pytest.mark.parametrize("kind", ["JPEG", "GIF", "TIFF"])
    def test_as_png_or_jpeg_whatever_it_was(self, service: Rekognition, build: Build, kind: str) -> None:
        _, image = self.arrived(service, build(), file_of(draw(("disc",), 3).resize((500, 500)), kind))
        assert image.format in ("PNG", "JPEG")

    def test_what_the_request_says_is_what_arrives(self, service: Rekognition, build: Build) -> None:
        approach = build()
        request = approach.request(shown(approach, "checks"))
        assert request == approach.request(shown(approach, "checks"))
        approach.ask(request)
        assert [request["Image"]["Bytes"]] == service.arrived


_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""Orientation tag → what makes the stored picture of an upright one: the inverse of what the tag asks for."""


def test_pixels_that_fit_at_no_quality_are_one_images_failure(build: Build) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (512, 512, 3), np.uint8) * np.uint8(255)
    with pytest.raises(ProviderError, match="lower `max_side`") as caught:
        build(max_side=4096).request(Prepared(np.tile(noise, (8, 8, 1)), ""))
    assert "provider_error" == caught.value.outcome


class TestCost:
    def test_every_image_costs_the_same(self, build: Build) -> None:
        low_high = build().estimate(80, 80)
        assert (0.001, 0.001, 0) == (low_high.low_usd, low_high.high_usd, low_high.input_tokens)
        assert low_high == build().estimate(2048, 2048)
        assert "" == build().price_note

    def test_what_is_answered_is_billed_once(self, service: Rekognition, build: Build) -> None:
        approach = build()
        spent = sum(approach.ask(approach.request(shown(approach, kind))).cost_usd for kind in KINDS)
        service.faults.append(service.throttled(service.seen[-1]))
        with pytest.raises(ServiceBusyError):
            approach.ask(approach.request(shown(approach)))
        assert service.bill_usd == spent == pytest.approx(0.003)

    def test_a_missing_price_is_noted_and_never_guessed(self, service: Rekognition) -> None:
        approach = RekognitionLabels.build(replace(setting(endpoint_url=service.url), prices=FREE))
        assert "no price for 'rekognition/detect-labels'" in approach.price_note
        assert (None, None) == (approach.estimate(80, 80).low_usd, approach.estimate(80, 80).high_usd)
        with approach.connection:
            assert 0.0 == approach.ask(approach.request(shown(approach))).cost_usd

    def test_a_tie_by_the_label_map_is_noted(self, service: Rekognition) -> None:
        tied = LABELS | {"disc": ("Disc", "Chess")}
        assert "'name:chess' for disc and checks" in RekognitionLabels.build(setting(tied)).price_note
        assert "" == RekognitionLabels.build(setting(tied, "multi-label")).price_note


@pytest.mark.parametrize(
    ("region", "rate", "parallel"), [("us-east-1", 50, 50), ("us-west-2", 50, 50), ("eu-central-1", 5, 10), ("", 5, 10)]
)
def test_the_rate_is_that_of_the_region(service: Rekognition, region: str, rate: int, parallel: int) -> None:
    approach = RekognitionLabels.build(setting(region=region))
    assert (rate, parallel) == (approach.rate, approach.parallel)


@pytest.mark.parametrize(
    ("change", "asks_anew"),
    [
        ({"region": "us-east-1"}, True),
        ({"endpoint_url": "http://elsewhere"}, True),
        ({"max_side": 1024}, True),
        ({"min_confidence": 1}, True),
        ({"profile": "work"}, False),
        ({"model_version": "3.0"}, False),
    ],
)
def test_the_question_is_all_that_shapes_an_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: dict[str, Any], asks_anew: bool
) -> None:
    only_these(monkeypatch, tmp_path, "[profile work]\n")  # no credentials: a plan is made without
    before, after = RekognitionLabels.build(setting()), RekognitionLabels.build(setting(**change))
    assert asks_anew == (before.question != after.question)


def test_the_taxonomy_shapes_the_reading_alone(service: Rekognition) -> None:
    before, after = RekognitionLabels.build(setting()), RekognitionLabels.build(setting(mode="multi-label"))
    assert before.question == after.question
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_side": 79}, r"approaches\.rekognition-labels\.max_side"),
        ({"max_side": 10_000}, "max_side"),
        ({"max_side": 99.5}, "max_side"),
        ({"min_confidence": 101}, "min_confidence"),
        ({"min_confidence": -1}, "min_confidence"),
        ({"min_confidence": "high"}, "min_confidence"),
        ({"aws_secret_access_key": "s3same"}, "aws_secret_access_key: there is no such field"),
    ],
)
def test_options_are_checked(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        RekognitionLabels.build(setting(**options))
    assert "s3same" not in str(caught.value)


def test_a_label_map_is_wanted() -> None:
    with pytest.raises(ConfigError, match=r"\[approaches\.rekognition-labels\.labels\]: no terms for 'disc'"):
        RekognitionLabels.build(setting({}))


def test_what_is_missing_is_told_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only_these(monkeypatch, tmp_path)
    assert "[approaches.rekognition-labels]" in RekognitionLabels.lacks(setting(region=""))
    assert "no AWS credentials" in RekognitionLabels.lacks(setting())
    with_keys(monkeypatch, tmp_path)
    assert "" == RekognitionLabels.lacks(setting())


def test_throttled_calls_are_told_from_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_keys(monkeypatch, tmp_path)
    with Rekognition(rate=3) as slow:
        approach = RekognitionLabels.build(setting(endpoint_url=slow.url))
        request = approach.request(shown(approach))

        def ask(_: int) -> object:
            try:
                return approach.ask(request).model_version
            except ServiceBusyError as error:
                return error.throttled, error.billed

        with ThreadPoolExecutor(50) as pool, approach.connection:
            said = list(pool.map(ask, range(50)))
        assert {"3.0", (True, False)} == set(said)
        assert slow.billed["DetectLabels"] == said.count("3.0") < 50
        assert 50 == len(slow.seen)


def test_fifty_threads_get_each_their_own_answer(service: Rekognition, build: Build) -> None:
    approach = build()
    expected = {kind: scores(approach, kind) for kind in KINDS}
    kinds = KINDS * 20
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda kind: scores(approach, kind), kinds))
    assert [expected[kind] for kind in kinds] == found
