"""DetectModerationLabels by the real client, over loopback: levels, adapters, versions. The rest is as for labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from drawn import draw
from servers.aws_json import with_keys
from servers.base import Reply
from servers.rekognition import Rekognition
from workbench.approaches.base import Service, Setting
from workbench.approaches.rekognition_moderation import RekognitionModeration
from workbench.canonical import binary32
from workbench.errors import ConfigError, PrerequisiteError, ProviderError
from workbench.prepare.decode import Prepared, prepare_bytes
from workbench.records import CENSORED, Taxonomy

TAXONOMY = Taxonomy(("adult", "drugs", "weapons"), "multi-label")
LABELS = {"adult": ("Explicit",), "drugs": ("Drugs & Tobacco", "Alcohol"), "weapons": ("Weapons",)}
ADAPTER = "arn:aws:rekognition:eu-west-1:123456789012:project/mine/version/mine.2026-01-31/1700000000000"
EXPIRED = ADAPTER.replace("mine/", "old/")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Rekognition]:
    with_keys(monkeypatch, tmp_path)
    with Rekognition() as server:
        yield server


Build = Callable[..., RekognitionModeration]


@pytest.fixture
def build(service: Rekognition) -> Iterator[Build]:
    """Approaches for this service, closed again."""
    built: list[RekognitionModeration] = []

    def make(labels: Mapping[str, tuple[str, ...]] = LABELS, **options: Any) -> RekognitionModeration:
        built.append(RekognitionModeration.build(setting(labels, endpoint_url=service.url, **options)))
        return built[-1]

    yield make
    for approach in built:
        approach.close()


def setting(labels: Mapping[str, tuple[str, ...]] = LABELS, **options: Any) -> Setting:
    return Setting(TAXONOMY, labels, Path("unused"), options={"region": "eu-west-1"} | options)


def shown(approach: RekognitionModeration, *kinds: str) -> Prepared:
    file = BytesIO()
    draw(kinds, 3).save(file, "PNG")
    found = prepare_bytes(file.getvalue(), approach.preparation)
    assert isinstance(found, Prepared)
    return found


def scores(approach: RekognitionModeration, *kinds: str) -> Mapping[str, float]:
    return approach.parse(approach.ask(approach.request(shown(approach, *kinds))).raw)


def sees(service: Rekognition, **confidences: float) -> None:
    service.moderation = lambda image: {name.replace("_", " "): value for name, value in confidences.items()}


def test_is_a_service(build: Build) -> None:
    approach = build()
    assert isinstance(approach, Service)
    assert (0.001, 0.001) == (approach.estimate(80, 80).low_usd, approach.estimate(80, 80).high_usd)


def test_what_is_drawn_is_seen(build: Build) -> None:
    found = scores(build(), "stripes", "checks")
    assert found["drugs"] > 0.8
    assert (CENSORED, CENSORED) == (found["adult"], found["weapons"])


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("Explicit", 0.75),  # level 1, as sure as what is below it
        ("Explicit Nudity", 0.75),
        ("exposed male genitalia", 0.75),
        ("parent:Explicit", 0.75),
        ("parent:Explicit Nudity", 0.75),
        ("parent:Exposed Male Genitalia", CENSORED),
        ("Violence", 0.5),
        ("parent:Violence", CENSORED),  # seen at level 1 alone
        ("Weapons", CENSORED),
    ],
)
def test_each_level_can_be_meant(service: Rekognition, build: Build, term: str, expected: float) -> None:
    sees(service, Exposed_Male_Genitalia=75.0, Violence=50.0)
    assert expected == scores(build(LABELS | {"adult": (term,)}))["adult"]


def test_aliases_and_categories_are_not_of_this_vocabulary() -> None:
    for term in ("alias:Explicit", "category:Explicit"):
        with pytest.raises(ConfigError, match="none of `name:`, `parent:`"):
            RekognitionModeration.build(setting(LABELS | {"adult": (term,)}))


def test_below_the_least_confidence_is_censored(service: Rekognition, build: Build) -> None:
    sees(service, Weapons=49.9, Explicit=50.0)
    assert {"adult": 0.5, "drugs": CENSORED, "weapons": CENSORED} == scores(build(min_confidence=50))
    assert {"adult": 0.5, "drugs": CENSORED, "weapons": binary32(0.499)} == scores(build())


def test_a_kept_answer_has_levels_and_kinds_of_content(service: Rekognition, build: Build) -> None:
    sees(service, Weapons=80.0)
    service.content_types = {"Illustrated": 97.5}
    approach = build()
    raw = approach.ask(approach.request(shown(approach))).raw
    assert raw == {
        "labels": [
            {"name": "Violence", "confidence": 80.0, "parent": "", "level": 1},
            {"name": "Weapons", "confidence": 80.0, "parent": "Violence", "level": 2},
        ],
        "content_types": [{"name": "Illustrated", "confidence": 97.5}],
        "model_version": "7.0",
        "adapter": "",
    }


def test_labels_that_name_each_other_as_parents_end(build: Build) -> None:
    rows = [{"name": "a", "parent": "b", "confidence": 1}, {"name": "b", "parent": "a", "confidence": 2}]
    raw = {"labels": rows, "content_types": [], "model_version": "7.0", "adapter": ""}
    assert binary32(0.02) == build(LABELS | {"adult": ("parent:a",)}).parse(raw)["adult"]


def test_only_the_least_confidence_goes_along(service: Rekognition, build: Build) -> None:
    scores(build(min_confidence=12.5))
    asked = service.seen[-1].json
    assert ({"Image", "MinConfidence"}, 12.5) == (set(asked), asked["MinConfidence"])


def test_an_answer_without_a_version_cannot_be_used_and_costs(service: Rekognition, build: Build) -> None:
    service.faults.append(Reply(200, json.dumps({"ModerationLabels": []}).encode()))
    with pytest.raises(ProviderError, match="ModerationModelVersion") as caught:
        scores(build())
    assert ("malformed_answer", 0.001) == (caught.value.outcome, caught.value.cost_usd)


@pytest.mark.parametrize(
    "rows",
    [
        [None],
        [{"Confidence": 5}],
        [{"Name": "Weapons"}],
        [{"Name": ["Weapons"], "Confidence": 5}],
        [{"Name": "Weapons", "Confidence": 5, "ParentName": ["Violence"]}],
    ],
)
def test_an_answer_of_another_form_is_kept_with_its_cost_and_cannot_be_read(
    service: Rekognition, build: Build, rows: Any
) -> None:
    service.faults.append(Reply(200, json.dumps({"ModerationModelVersion": "7.0", "ModerationLabels": rows}).encode()))
    approach = build()
    kept = approach.ask(approach.request(shown(approach)))
    assert ("7.0", 0.001) == (kept.model_version, kept.cost_usd)
    with pytest.raises(ProviderError) as caught:
        approach.parse(kept.raw)
    assert "malformed_answer" == caught.value.outcome


def test_numbers_that_are_none_are_kept_as_text(service: Rekognition, build: Build) -> None:
    nan = float("nan")
    told = {
        "ModerationModelVersion": "7.0",
        "ModerationLabels": [{"Name": "Weapons", "Confidence": nan}],
        "ContentTypes": [{"Name": "Animated", "Confidence": nan}],
    }
    service.faults.append(Reply(200, json.dumps(told).encode()))
    approach = build()
    raw = approach.ask(approach.request(shown(approach))).raw
    assert ["nan", "nan"] == [raw["labels"][0]["confidence"], raw["content_types"][0]["confidence"]]
    with pytest.raises(ProviderError) as caught:
        approach.parse(raw)
    assert "bad_probability" == caught.value.outcome


class TestAdapters:
    @pytest.fixture(autouse=True)
    def _trained(self, service: Rekognition) -> None:
        service.adapters = {ADAPTER: lambda image: {"Weapons": 90.0}, EXPIRED: None}

    def test_it_answers_instead_and_is_part_of_the_version(self, build: Build) -> None:
        approach = build(project_version=ADAPTER)
        answer = approach.ask(approach.request(shown(approach, "disc")))
        assert f"7.0 {ADAPTER}" == answer.model_version
        assert binary32(0.9) == approach.parse(answer.raw)["weapons"]

    def test_it_is_part_of_the_question(self, build: Build) -> None:
        assert build().question != build(project_version=ADAPTER).question

    def test_one_that_has_expired_ends_the_run(self, build: Build) -> None:
        with pytest.raises(PrerequisiteError, match=r"has expired: model 7\.0 answered without it") as caught:
            scores(build(project_version=EXPIRED))
        assert not isinstance(caught.value, ProviderError)
        assert EXPIRED in str(caught.value)

    def test_one_that_nobody_asked_for_is_no_answer(self, service: Rekognition, build: Build) -> None:
        told = {"ModerationModelVersion": "7.0", "ModerationLabels": [], "ProjectVersion": ADAPTER}
        service.faults.append(Reply(200, json.dumps(told).encode()))
        with pytest.raises(ProviderError, match="an adapter that was not asked for") as caught:
            scores(build())
        assert ("malformed_answer", 0.001) == (caught.value.outcome, caught.value.cost_usd)

    def test_one_that_does_not_exist_ends_the_run(self, service: Rekognition, build: Build) -> None:
        service.adapters = {}
        with pytest.raises(PrerequisiteError, match="ResourceNotFoundException"):
            scores(build(project_version=ADAPTER))

    @pytest.mark.parametrize("arn", ["mine", ADAPTER + "/", ADAPTER.replace("version", "dataset"), f"{ADAPTER}\n"])
    def test_what_is_no_adapter_is_refused(self, arn: str) -> None:
        with pytest.raises(ConfigError, match=r"approaches\.rekognition-moderation\.project_version"):
            RekognitionModeration.build(setting(project_version=arn))

    def test_one_of_another_region_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="an adapter of eu-west-1 cannot be asked in us-east-1"):
            RekognitionModeration.build(setting(project_version=ADAPTER, region="us-east-1"))
