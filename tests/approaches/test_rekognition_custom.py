"""A version of Custom Labels: switched on when it is needed, off whatever happens, and read strictly."""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawn import KINDS, draw, draw_dataset
from servers.aws_json import failure, with_keys
from servers.base import Reply, Seen
from servers.custom_world import Storage, World, custom_world, storage_server, with_prices
from workbench.approaches.base import Service, Setting, Standing
from workbench.approaches.rekognition_custom import RekognitionCustom
from workbench.approaches.running import (
    Running,
    anything_on_record,
    forget,
    left_running,
    now_running,
    on_record,
    record,
)
from workbench.canonical import binary32
from workbench.errors import ConfigError, PrerequisiteError, ProviderError, ServiceBusyError
from workbench.prepare.decode import Prepared, prepare_bytes
from workbench.records import Mode, Taxonomy
from workbench.runs.cache import AnswerCache
from workbench.runs.runner import classify

SINGLE = Taxonomy(KINDS)
Build = Callable[..., RekognitionCustom]


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    with storage_server() as server:
        yield server


@pytest.fixture
def world(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with_keys(monkeypatch, tmp_path)
    with custom_world(storage, tmp_path / "store") as made:
        yield made


@pytest.fixture
def arn(world: World) -> str:
    return world.server.add_version("shapes", "v1", KINDS)


@pytest.fixture
def build(world: World, arn: str) -> Iterator[Build]:
    with ExitStack() as opened:

        def make(
            taxonomy: Taxonomy = SINGLE, labels: Mapping[str, tuple[str, ...]] | None = None, **options: Any
        ) -> Any:
            setting = replace(world.setting(taxonomy, **{"version": arn, **options}), label_map=labels or {})
            built = RekognitionCustom.build(setting)
            opened.callback(built.close)
            return built

        yield make


@pytest.fixture
def said() -> list[str]:
    return []


def status(world: World, arn: str) -> str:
    return world.server.version(arn.split("/")[3]).status


def picture(*kinds: str, seed: int = 1) -> Prepared:
    file = BytesIO()
    draw(kinds, seed).save(file, "PNG")
    prepared = prepare_bytes(file.getvalue(), RekognitionCustom.preparation)
    assert isinstance(prepared, Prepared)
    return prepared


def answer(confidences: Mapping[str, Any]) -> dict[str, Any]:
    return {"CustomLabels": [{"Name": name, "Confidence": value} for name, value in confidences.items()]}


class TestTheWholeLife:
    @pytest.mark.usefixtures("quiet")
    def test_train_classify_and_leave_nothing_on(self, world: World, mode: Mode, tmp_path: Path) -> None:
        taxonomy = Taxonomy(KINDS, mode)
        rows = [
            (split, (kind,)) for split, count in (("train", 5), ("tune", 2)) for kind in KINDS for _ in range(count)
        ]
        dataset = draw_dataset(tmp_path / "images", rows, taxonomy)
        setting = world.setting(taxonomy, inference_units=2)
        approach = RekognitionCustom.build(replace(setting, model=RekognitionCustom.fit(dataset, setting)))
        assert isinstance(approach, Service)
        assert isinstance(approach, Standing)
        with AnswerCache(tmp_path / "answers.sqlite") as cache:
            table = classify(dataset.on("tune"), approach, cache)
            starts = len(world.server.asked("StartProjectVersion"))
            again = classify(dataset.on("tune"), approach, cache)
        approach.close()
        scores = table.frame[[f"score:{kind}" for kind in KINDS]].to_numpy()
        assert {"ok"} == set(table.frame["outcome"])
        assert [KINDS.index(labels[0]) for labels in dataset.on("tune").frame["labels"]] == scores.argmax(
            axis=1
        ).tolist()
        assert approach.model_version == world.server.version().arn == table.info.origin.model_version
        assert "STOPPED" == world.server.version().status
        assert [2] == [asked["MinInferenceUnits"] for asked in world.server.asked("StartProjectVersion")]
        assert (1, True) == (starts, bool(again.frame["cached"].all()))
        assert not anything_on_record(world.store)

    def test_an_exception_in_the_run_leaves_nothing_on(
        self, world: World, build: Build, arn: str, tmp_path: Path
    ) -> None:
        dataset = draw_dataset(tmp_path / "images", [("tune", ("disc",))] * 3, SINGLE)
        denied = failure("AccessDeniedException", "not any more")
        world.server.fault = lambda seen: denied if _is(seen, "DetectCustomLabels") else None
        with AnswerCache(tmp_path / "answers.sqlite") as cache, pytest.raises(PrerequisiteError, match="not any more"):
            classify(dataset, build(), cache)
        assert "STOPPED" == status(world, arn)
        assert not anything_on_record(world.store)


def _is(seen: Seen, operation: str) -> bool:
    return seen.headers.get("x-amz-target", "").endswith(f".{operation}")


class TestStart:
    def test_is_on_record_before_it_costs(self, world: World, build: Build, arn: str, said: list[str]) -> None:
        on_file: list[Running | None] = []

        def look(seen: Seen) -> Reply | None:
            if _is(seen, "StartProjectVersion"):
                on_file.append(on_record(world.store, arn, world.server.url))
            return None

        world.server.fault = look
        approach = build(inference_units=3)
        approach.start(said.append)
        (found,) = on_file
        assert found is not None
        assert (arn, 3, 12.0, "us-east-1") == (found.arn, found.units, found.hourly_usd, found.region)
        assert found.by_hand.startswith(
            f"aws rekognition stop-project-version --project-version-arn {arn} --region us-east-1"
        )
        assert "RUNNING" == status(world, arn)
        assert "3 inference units, $12.00 per hour" in said[0]
        assert found == on_record(world.store, arn, world.server.url)
        approach.stop(said.append)
        assert "STOPPED" == status(world, arn)
        assert "at $12.00 per hour" in said[-1]
        assert not anything_on_record(world.store)

    def test_a_record_that_cannot_be_written_starts_nothing(self, world: World, build: Build, arn: str) -> None:
        world.store.mkdir()
        (world.store / "running").write_text("")
        with pytest.raises(OSError, match="exists"):
            build().start(lambda text: None)
        assert [] == world.server.asked("StartProjectVersion")

    def test_what_runs_already_is_used_and_left_on(self, world: World, build: Build, arn: str, said: list[str]) -> None:
        world.server.version("v1").status = "RUNNING"
        approach = build()
        approach.start(said.append)
        assert "somebody else switched it on; it is used now and left on afterwards" in said[0]
        assert not anything_on_record(world.store)
        approach.stop(said.append)
        assert "RUNNING" == status(world, arn)
        assert [] == [*world.server.asked("StartProjectVersion"), *world.server.asked("StopProjectVersion")]

    def test_of_two_that_start_it_one_switches_it_off(
        self, world: World, build: Build, arn: str, said: list[str]
    ) -> None:
        first, second = build(), build()
        first.start(said.append)
        second.start(said.append)
        assert "switched it on at" in said[-1]
        second.stop(said.append)
        assert "RUNNING" == status(world, arn)
        first.stop(said.append)
        assert "STOPPED" == status(world, arn)

    def test_one_that_is_being_switched_off_is_waited_for(
        self, world: World, build: Build, arn: str, said: list[str]
    ) -> None:
        version = world.server.version("v1")
        version.status, version.becomes, version.until = "STOPPING", "STOPPED", world.server.now() + 40_000
        approach = build()
        approach.start(said.append)
        assert "being switched off" in said[0]
        assert "RUNNING" == status(world, arn)
        approach.stop(said.append)

    def test_other_versions_in_other_states_play_no_part(self, world: World, build: Build, arn: str) -> None:
        for number, state in enumerate(("FAILED", "STOPPED", "TRAINING_IN_PROGRESS", "TRAINING_FAILED")):
            world.server.add_version("shapes", f"other-{number}", KINDS, state)
        approach = build()
        approach.start(lambda text: None)
        assert "RUNNING" == status(world, arn)
        approach.stop(lambda text: None)
        assert {("v1",)} == {tuple(asked["VersionNames"]) for asked in world.server.asked("DescribeProjectVersions")}

    def test_one_that_fails_says_why_and_is_off_the_record(self, world: World, build: Build, arn: str) -> None:
        world.server.starting_fails = "The model could not be deployed."
        with pytest.raises(PrerequisiteError, match="does not run: The model could not be deployed"):
            build().start(lambda text: None)
        assert not anything_on_record(world.store)

    def test_the_third_of_an_account_is_refused(self, world: World, build: Build, arn: str) -> None:
        for name in ("a", "b"):
            world.server.add_version("shapes", name, KINDS, "RUNNING")
        with pytest.raises(PrerequisiteError, match="cannot be started: LimitExceededException"):
            build().start(lambda text: None)
        assert not anything_on_record(world.store)
        assert [] == world.server.asked("StopProjectVersion")

    def test_one_that_takes_too_long_is_switched_off(
        self, world: World, build: Build, arn: str, said: list[str]
    ) -> None:
        world.server.lasts["starting"] = 100_000  # half a second here
        with pytest.raises(PrerequisiteError, match="it is STARTING after 0 minutes"):
            build(start_minutes=0.002).start(said.append)
        assert "STOPPED" == status(world, arn)
        assert not anything_on_record(world.store)

    def test_ctrl_c_while_it_starts_switches_it_off(self, world: World, build: Build, arn: str) -> None:
        class Stopped(KeyboardInterrupt):
            pass

        def say(text: str) -> None:
            if text.endswith("is running"):
                raise Stopped

        with pytest.raises(Stopped):
            build().start(say)
        assert "STOPPED" == status(world, arn)
        assert not anything_on_record(world.store)

    @pytest.mark.parametrize("taken", [True, False])
    def test_an_answer_that_never_came_is_looked_into(self, world: World, build: Build, arn: str, taken: bool) -> None:
        def lose(seen: Seen) -> Reply | None:
            if not _is(seen, "StartProjectVersion"):
                return None
            if taken:
                world.server.operations["StartProjectVersion"](json.loads(seen.body))
            return Reply(200, b"", dropped=True)

        world.server.fault = lose
        with pytest.raises(PrerequisiteError, match="could not be started"):
            build().start(lambda text: None)
        assert ("STOPPED" if taken else "TRAINING_COMPLETED") == status(world, arn)
        assert not anything_on_record(world.store)

    def test_a_throttled_start_is_repeated(self, world: World, build: Build, arn: str) -> None:
        busy = [failure("ThrottlingException", "Slow down")] * 2
        world.server.fault = lambda seen: busy.pop() if busy and _is(seen, "StartProjectVersion") else None
        approach = build()
        approach.start(lambda text: None)
        assert 3 == len(world.server.asked("StartProjectVersion"))
        approach.stop(lambda text: None)

    def test_one_that_was_deleted_is_told(self, world: World, build: Build, arn: str) -> None:
        approach = build()
        world.server.projects.clear()
        with pytest.raises(PrerequisiteError, match="cannot be started: it is GONE"):
            approach.start(lambda text: None)


class TestStop:
    def test_without_a_start_nothing_is_asked(self, world: World, build: Build) -> None:
        build().stop(lambda text: None)
        assert [] == world.server.seen

    def test_one_that_cannot_be_switched_off_is_told_loudly_and_stays_on_record(
        self, world: World, build: Build, arn: str, said: list[str]
    ) -> None:
        approach = build()
        approach.start(said.append)
        world.server.denied.add("StopProjectVersion")
        approach.stop(said.append)
        text = "\n".join(said)
        assert "COULD NOT BE SWITCHED OFF AND COSTS MONEY UNTIL IT IS" in text
        assert f"aws rekognition stop-project-version --project-version-arn {arn}" in text
        assert anything_on_record(world.store)
        world.server.denied.clear()
        approach.stop(said.append)
        assert "STOPPED" == status(world, arn)
        assert not anything_on_record(world.store)

    def test_what_it_came_to_is_what_the_service_bills(self, world: World, build: Build, arn: str) -> None:
        approach = build(inference_units=2)
        approach.start(lambda text: None)
        world.server.move(3600)
        approach.stop(lambda text: None)
        version = world.server.version("v1")
        assert 2 * 3600 <= version.unit_seconds

    def test_what_a_dead_process_left_is_switched_off_before_anything_starts(
        self, world: World, build: Build, arn: str, said: list[str]
    ) -> None:
        other = world.server.add_version("shapes", "v0", KINDS, "RUNNING")
        dead = replace(_running(other, world), process="another start of this pid")
        record(world.store, dead)
        approach = build()
        approach.start(said.append)
        assert "was left running" in said[0]
        assert ("STOPPED", "RUNNING") == (status(world, other), status(world, arn))
        assert [] == left_running(world.store)
        approach.stop(said.append)

    def test_a_model_that_is_still_starting_is_switched_off_as_soon_as_it_can_be(self, world: World, arn: str) -> None:
        version = world.server.version("v1")
        version.status, version.becomes, version.until = "STARTING", "RUNNING", world.server.now() + 20_000
        assert RekognitionCustom.switch_off(_running(arn, world), lambda text: None)
        assert "STOPPED" == status(world, arn)

    def test_the_last_of_two_switches_off_what_the_killed_first_one_started(
        self, world: World, build: Build, arn: str, said: list[str]
    ) -> None:
        world.server.version("v1").status = "RUNNING"
        first = _running(arn, world)
        record(world.store, first)
        approach = build()
        approach.start(said.append)
        forget(world.store, first)
        record(world.store, replace(first, process="another start of this pid"))
        approach.stop(said.append)
        assert "STOPPED" == status(world, arn)
        assert not anything_on_record(world.store)
        assert "was left running" in said[-2]

    def test_who_does_not_wait_for_its_end_is_told_what_that_costs(
        self, world: World, build: Build, arn: str, said: list[str]
    ) -> None:
        approach = build()
        approach.start(said.append)
        world.server.lasts["stopping"] = math.inf
        threading.Timer(0.1, lambda: signal.raise_signal(signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            approach.stop(said.append)
        assert f"switching off {arn}" in said[-3]
        assert "COULD NOT BE SWITCHED OFF AND COSTS MONEY UNTIL IT IS" in said[-2]
        assert "aws rekognition stop-project-version" in said[-1]
        assert anything_on_record(world.store)
        world.server.version("v1").until = 0.0
        approach.stop(said.append)
        assert "STOPPED" == status(world, arn)


def _running(arn: str, world: World) -> Running:
    where = {"region": "us-east-1", "profile": "", "endpoint": world.server.url}
    return now_running("rekognition-custom", arn, **where, units=1, hourly_usd=4.0, by_hand="aws …")


class TestAsking:
    @pytest.fixture
    def approach(self, world: World, build: Build, arn: str) -> RekognitionCustom:
        world.server.version("v1").status = "RUNNING"
        return build()

    def test_every_label_is_asked_for(self, world: World, approach: RekognitionCustom, arn: str) -> None:
        scores = approach.parse(approach.ask(approach.request(picture("disc"))).raw)
        (asked,) = world.server.asked("DetectCustomLabels")
        assert (arn, 0.0, False) == (asked["ProjectVersionArn"], asked["MinConfidence"], "MaxResults" in asked)
        assert set(KINDS) == scores.keys()
        assert "disc" == max(scores, key=scores.__getitem__)

    def test_the_version_is_the_one_that_was_asked(self, approach: RekognitionCustom, arn: str) -> None:
        answered = approach.ask(approach.request(picture("disc")))
        assert (arn, arn, 0.0) == (approach.model_version, answered.model_version, answered.cost_usd)

    @pytest.mark.parametrize("size", [(2600, 2400), (1, 1), (3000, 10)])
    def test_an_image_fits_the_limits(self, world: World, approach: RekognitionCustom, size: tuple[int, int]) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), np.uint8)
        file = BytesIO()
        Image.fromarray(noise).save(file, "PNG", compress_level=0)
        prepared = prepare_bytes(file.getvalue(), approach.preparation)
        assert isinstance(prepared, Prepared)
        approach.ask(approach.request(prepared))
        (sent,) = world.server.arrived
        assert len(sent) <= 4_000_000

    def test_above_the_rate_of_the_units_it_is_busy(
        self, storage: Storage, world: World, approach: RekognitionCustom
    ) -> None:
        world.server.fault = lambda seen: failure("ProvisionedThroughputExceededException", "Provisioned Rate exceeded")
        with pytest.raises(ServiceBusyError) as caught:
            approach.ask(approach.request(picture("disc")))
        assert caught.value.throttled

    def test_one_that_is_not_on_ends_the_run(self, world: World, approach: RekognitionCustom) -> None:
        world.server.version("v1").status = "STOPPED"
        with pytest.raises(PrerequisiteError, match=r"is not running .* run again: what was answered is kept"):
            approach.ask(approach.request(picture("disc")))

    def test_from_many_threads_at_once(self, approach: RekognitionCustom) -> None:
        found: dict[str, str] = {}

        def one(kind: str) -> None:
            scores = approach.parse(approach.ask(approach.request(picture(kind))).raw)
            found[kind] = max(scores, key=scores.__getitem__)

        threads = [threading.Thread(target=one, args=(kind,)) for kind in KINDS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {kind: kind for kind in KINDS} == found


class TestReading:
    def test_confidences_are_shares(self, build: Build) -> None:
        raw = answer({"disc": 98.7, "stripes": 0.0, "checks": 100.0})
        assert {"disc": binary32(0.987), "stripes": 0.0, "checks": 1.0} == build().parse(raw)

    def test_the_best_of_a_categorys_labels_counts(self, build: Build) -> None:
        labels = {"disc": ("round", "circle"), "stripes": ("bars",)}
        raw = answer({"round": 20.0, "circle": 70.0, "bars": 5.0, "checks": 1.0, "background": 60.0})
        scores = build(labels=labels).parse(raw)
        assert {"disc": binary32(0.7), "stripes": binary32(0.05), "checks": binary32(0.01)} == scores

    def test_a_label_may_stand_for_the_unknown(self, build: Build) -> None:
        approach = build(labels={"unknown": ("background",)})
        assert approach.scores_unknown
        scores = approach.parse(answer({**dict.fromkeys(KINDS, 10.0), "background": 90.0}))
        assert binary32(0.9) == scores["unknown"]

    @pytest.mark.parametrize(
        ("raw", "outcome"),
        [
            (answer({"disc": 1.0, "stripes": 2.0}), "malformed_answer"),
            (answer({}), "malformed_answer"),
            ({}, "malformed_answer"),
            ({"CustomLabels": {}}, "malformed_answer"),
            ({"CustomLabels": [{"Confidence": 1.0}]}, "malformed_answer"),
            (answer({**dict.fromkeys(KINDS, 1.0), "disc": "high"}), "malformed_answer"),
            (answer({**dict.fromkeys(KINDS, 1.0), "disc": None}), "malformed_answer"),
            (answer({**dict.fromkeys(KINDS, 1.0), "disc": True}), "malformed_answer"),
            (answer({**dict.fromkeys(KINDS, 1.0), "disc": 170.0}), "bad_probability"),
            (answer({**dict.fromkeys(KINDS, 1.0), "disc": -1.0}), "bad_probability"),
            (answer({**dict.fromkeys(KINDS, 1.0), "disc": float("nan")}), "bad_probability"),
            ({"CustomLabels": answer(dict.fromkeys(KINDS, 1.0))["CustomLabels"] * 2}, "malformed_answer"),
            (
                {"CustomLabels": [{"Name": "disc", "Confidence": 1.0, "Geometry": {"BoundingBox": {}}}]},
                "malformed_answer",
            ),
        ],
    )
    def test_what_cannot_be_read_says_so(self, build: Build, raw: dict[str, Any], outcome: str) -> None:
        with pytest.raises(ProviderError) as caught:
            build().parse(raw)
        assert outcome == caught.value.outcome

    def test_a_missing_label_is_named(self, build: Build) -> None:
        with pytest.raises(ProviderError, match="no confidence for checks"):
            build().parse(answer({"disc": 1.0, "stripes": 2.0}))


class TestSettings:
    def test_what_shapes_an_answer_is_in_the_question(self, world: World, build: Build) -> None:
        other = world.server.add_version("shapes", "v2", KINDS)
        usual = build()
        assert usual.question == build(inference_units=5).question == build(labels={"disc": ("round",)}).question
        assert usual.fingerprint != build(labels={"disc": ("round",)}).fingerprint
        assert usual.question != build(version=other).question
        assert usual.question != build(endpoint_url="http://127.0.0.1:1").question

    def test_building_asks_nobody(self, world: World, build: Build) -> None:
        build()
        assert [] == world.server.seen

    def test_a_version_may_be_named(self, world: World, build: Build, arn: str) -> None:
        assert arn == build(version="v1", project="shapes").model_version
        with pytest.raises(ConfigError, match="there is no version 'v9' in project 'shapes'"):
            build(version="v9", project="shapes")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"version": "arn:aws:rekognition:us-east-1:1:project/shapes/5"}, "is not the ARN of a project version"),
            ({"region": "eu-west-1"}, "the version is in us-east-1"),
            ({"model_version": "another"}, "another is pinned"),
            ({"inference_units": 0}, "inference_units"),
            ({"poll_seconds": 0}, "poll_seconds"),
            ({"endpoint_url": "ftp://x"}, "endpoint_url"),
        ],
    )
    def test_that_cannot_be(self, build: Build, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            build(**options)

    @pytest.mark.usefixtures("quiet")
    def test_a_label_that_was_not_learnt_is_refused(self, world: World, tmp_path: Path) -> None:
        rows = [("train", (kind,)) for kind in KINDS for _ in range(5)]
        dataset = draw_dataset(tmp_path / "images", rows, SINGLE)
        setting = world.setting(SINGLE)
        setting = replace(setting, model=RekognitionCustom.fit(dataset, setting), label_map={"disc": ("round",)})
        with pytest.raises(ConfigError, match="was not trained on 'round'; it knows disc, stripes, checks"):
            RekognitionCustom.build(setting)
        with pytest.raises(ConfigError, match=r"labels\.unknown: no category that this version scores"):
            RekognitionCustom.build(replace(setting, label_map={"unknown": ("disc",)}))

    def test_prices_are_the_users(self, world: World, arn: str) -> None:
        def priced(setting: Setting) -> float | None:
            with_it = RekognitionCustom.build(setting)
            with_it.close()
            return with_it.hourly_usd

        setting = world.setting(SINGLE, version=arn, inference_units=2)
        assert (8.0, 3.0) == (priced(setting), priced(with_prices(setting, hour=1.5)))
        assert None is priced(replace(setting, prices=replace(setting.prices, usd={})))

    def test_what_is_missing_is_said_without_asking(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        setting = world.setting(SINGLE)
        assert "" == RekognitionCustom.lacks(setting)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "no AWS credentials" in RekognitionCustom.lacks(setting)
        assert [] == world.server.seen

    def test_a_version_says_its_region(self, world: World, arn: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
        assert "" == RekognitionCustom.lacks(world.setting(SINGLE, region="", version=arn))
        assert "no AWS region" in RekognitionCustom.lacks(world.setting(SINGLE, region="", version="v1"))
