"""The way to a trained version, by the real clients: what is sent, found again after a crash, and never paid twice."""

from __future__ import annotations

import json
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from drawn import KINDS, Row, draw, draw_dataset
from servers.aws_json import failure, with_keys
from servers.base import Reply, Seen
from servers.custom_labels import labels_of
from servers.custom_world import Storage, World, custom_world, storage_server, with_prices
from workbench.approaches.custom_artefact import Trained, read_trained
from workbench.approaches.rekognition_custom import RekognitionCustom
from workbench.cli.main import app
from workbench.dataset.images import Dataset
from workbench.errors import ConfigError, CredentialsError, DatasetError, PrerequisiteError
from workbench.records import Taxonomy

pytestmark = pytest.mark.usefixtures("quiet")
SINGLE = Taxonomy(KINDS)


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    with storage_server() as server:
        yield server


@pytest.fixture
def world(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with_keys(monkeypatch, tmp_path)
    with custom_world(storage, tmp_path / "store") as made:
        yield made


def rows(count: int = 5) -> list[Row]:
    """So many of each kind on train, and images of all sorts that are none of the service's business."""
    learnt: list[Row] = [("train", (kind,)) for kind in KINDS for _ in range(count)]
    return [*learnt, ("train", ()), ("train", None), ("tune", ("disc",)), ("certify", ("disc",)), ("certify", ())]


def make(folder: Path, listed: list[Row] | None = None, taxonomy: Taxonomy = SINGLE) -> Dataset:
    return draw_dataset(folder / "images", listed or rows(), taxonomy)


def fit(world: World, dataset: Dataset, **options: Any) -> Path:
    return RekognitionCustom.fit(dataset, world.setting(dataset.taxonomy, **options))


def ended_by(world: World, operation: str, after: int = 0) -> None:
    """The process dies (as far as it can here) when it asks this for the time after so many."""

    def fault(seen: Seen) -> Reply | None:
        calls = len(world.server.asked(operation))
        if seen.headers.get("x-amz-target", "").endswith(f".{operation}") and calls > after:
            world.server.fault = lambda seen: None
            return failure("AccessDeniedException", "no longer")
        return None

    world.server.fault = fault


def counts(world: World) -> dict[str, int]:
    """How many there are, and how often training was begun."""
    projects = world.server.projects.values()
    return {
        "projects": len(projects),
        "data sets": sum(len(project.sets) for project in projects),
        "versions": sum(len(project.versions) for project in projects),
        "trainings": world.server.trainings,
    }


ONE_OF_EACH = {"projects": 1, "data sets": 2, "versions": 1, "trainings": 1}


@dataclass(frozen=True)
class Learnt:
    """What a training leaves behind that has met images of all sorts; nobody may change it."""

    world: World
    dataset: Dataset
    path: Path

    @property
    def trained(self) -> Trained:
        return read_trained(self.path)

    @property
    def lines(self) -> list[dict[str, Any]]:
        (manifest,) = self.world.manifests()
        return [json.loads(line) for line in manifest.splitlines()]


@pytest.fixture(scope="module")
def learnt(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learnt]:
    folder = tmp_path_factory.mktemp("learnt")
    dataset = make(folder)
    turned = Image.Exif()
    turned[0x0112], turned[0x010E] = 6, "where I live"
    picture = draw(("disc", "stripes", "checks"), 1)  # 180 × 60 as stored, 60 × 180 upright
    picture.save(dataset.root / "000.png", "JPEG", exif=turned, comment=b"secret")
    Image.new("RGB", (5000, 100), "red").save(dataset.root / "001.png")
    Image.new("RGB", (10, 400), "red").save(dataset.root / "002.png")
    dataset.file("005.png").write_bytes(b"no image")
    whole = dataset.file("010.png").read_bytes()
    dataset.file("010.png").write_bytes(whole[: len(whole) // 2])
    with pytest.MonkeyPatch.context() as environment, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*expect poor scores")
        with_keys(environment, folder)
        with custom_world(storage, folder / "store") as world:
            yield Learnt(world, dataset, fit(world, dataset))


class TestWhatIsSent:
    def test_the_train_split_alone_and_of_it_what_has_a_label(self, learnt: Learnt) -> None:
        shown = pd.Series([tuple(labels_of(line)) for line in learnt.lines]).value_counts()
        assert {("disc",): 5, ("stripes",): 4, ("checks",): 4} == shown.to_dict()
        assert (13, 13) == (len(learnt.world.images()), learnt.trained.images)
        assert {"disc": 5, "stripes": 4, "checks": 4} == learnt.trained.by_label

    def test_what_was_left_out_is_counted(self, learnt: Learnt) -> None:
        reasons = ("unknown", "unlabelled", "unsupported_format", "truncated")
        assert dict.fromkeys(reasons, 1) == learnt.trained.left_out

    def test_images_are_upright_without_metadata_and_within_limits(self, learnt: Learnt) -> None:
        images = learnt.world.images()
        for image in images:
            assert image.format in ("JPEG", "PNG")
            assert not image.getexif()
            assert not {"comment", "exif", "icc_profile"} & image.info.keys()
            assert 64 <= min(image.size) <= max(image.size) <= 4096
            assert max(image.size) <= 20 * min(image.size)
        assert {(64, 180), (4096, 205), (64, 400)} <= {image.size for image in images}

    def test_nothing_tells_where_they_come_from(self, learnt: Learnt) -> None:
        objects = learnt.world.objects()
        everything = b"".join(
            [*map(str.encode, objects), *objects.values(), *(s.body for s in learnt.world.server.seen)]
        )
        told = [*learnt.dataset.frame["image_id"], str(learnt.dataset.root), "secret", "where I live"]
        assert [] == [text for text in told if text.encode() in everything]

    def test_the_service_tests_with_a_fifth_of_what_it_was_given(self, learnt: Learnt) -> None:
        (project,) = learnt.world.server.projects.values()
        assert {"TRAIN": 10, "TEST": 3} == {kind: len(data.entries) for kind, data in project.sets.items()}
        (asked,) = learnt.world.server.asked("CreateProjectVersion")
        assert not {"TrainingData", "TestingData"} & asked.keys()

    def test_several_labels_of_an_image_are_several_attributes(self, world: World, tmp_path: Path) -> None:
        listed: list[Row] = [("train", kinds) for kinds in (KINDS[:2], KINDS[1:], KINDS) for _ in range(5)]
        fit(world, make(tmp_path, listed, Taxonomy(KINDS, "multi-label")))
        (manifest,) = world.manifests()
        shown = pd.Series([tuple(labels_of(json.loads(line))) for line in manifest.splitlines()])
        assert {KINDS[:2]: 5, KINDS[1:]: 5, KINDS: 5} == shown.value_counts().to_dict()

    def test_unknown_images_may_be_a_label_of_their_own(self, world: World, tmp_path: Path) -> None:
        dataset = make(tmp_path, [*rows(), *[("train", ())] * 4])
        trained = read_trained(fit(world, dataset, learn_unknown=True))
        assert (*KINDS, "unknown") == trained.labels
        assert 5 == trained.by_label["unknown"]
        assert {"unlabelled": 1} == trained.left_out

    def test_twins_are_sent_once_and_left_out_where_they_disagree(self, world: World, tmp_path: Path) -> None:
        dataset = make(tmp_path, rows(6))
        for name, twin in (("001.png", "000.png"), ("006.png", "005.png")):
            dataset.file(name).write_bytes(dataset.file(twin).read_bytes())
        trained = read_trained(fit(world, dataset))
        assert (15, 2) == (trained.images, trained.left_out["conflicting"])
        assert {"disc": 4, "stripes": 5, "checks": 6} == trained.by_label


class TestAgain:
    def test_what_is_trained_is_not_trained_again(self, learnt: Learnt) -> None:
        calls = len(learnt.world.server.seen)
        assert learnt.path == fit(learnt.world, learnt.dataset)
        assert calls == len(learnt.world.server.seen)

    def test_an_artefact_that_was_lost_is_made_again_for_nothing(self, learnt: Learnt, tmp_path: Path) -> None:
        elsewhere = replace(learnt.world, store=tmp_path)
        before = learnt.world.objects().keys()
        assert learnt.path.read_bytes() == fit(elsewhere, learnt.dataset).read_bytes()
        assert ONE_OF_EACH == counts(learnt.world)
        assert before == learnt.world.objects().keys()

    @pytest.mark.parametrize(
        ("operation", "after"),
        [
            ("DescribeProjects", 1),
            ("CreateDataset", 0),
            ("CreateDataset", 1),
            ("DistributeDatasetEntries", 0),
            ("DescribeDataset", 3),
            ("CreateProjectVersion", 0),
            ("DescribeProjectVersions", 1),
        ],
    )
    def test_goes_on_where_it_ended(self, world: World, tmp_path: Path, operation: str, after: int) -> None:
        dataset = make(tmp_path)
        ended_by(world, operation, after)
        with pytest.raises(CredentialsError, match="no longer"):
            fit(world, dataset)
        sent = len([key for key in world.objects() if "/images/" in key])
        fit(world, dataset)
        assert ONE_OF_EACH == counts(world)
        assert sent == len([key for key in world.objects() if "/images/" in key])

    def test_while_a_version_is_being_trained_it_is_waited_for(self, world: World, tmp_path: Path) -> None:
        dataset = make(tmp_path)
        ended_by(world, "DescribeProjectVersions", 2)
        world.server.lasts["training"] = 1e7
        with pytest.raises(CredentialsError):
            fit(world, dataset)
        assert "TRAINING_IN_PROGRESS" == world.server.version().status
        world.server.move(1e7)
        fit(world, dataset)
        assert ONE_OF_EACH == counts(world)

    def test_other_images_or_labels_are_another_training(self, world: World, tmp_path: Path) -> None:
        dataset = make(tmp_path)
        fewer = replace(dataset, frame=dataset.frame.iloc[1:].reset_index(drop=True))
        relabelled = replace(dataset, frame=dataset.frame.assign(labels=dataset.frame["labels"].shift(-1)))
        relabelled.frame.at[0, "labels"] = ("stripes",)
        paths = {fit(world, item) for item in (dataset, fewer, relabelled)}
        assert 3 == len(paths)
        assert {"projects": 3, "data sets": 6, "versions": 3, "trainings": 3} == counts(world)

    def test_images_that_moved_are_the_same(self, world: World, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        here, there = make(tmp_path), make(tmp_path / "elsewhere")
        for index in there.frame.index[there.frame["split"] != "train"]:
            there.file(there.frame.at[index, "path"]).write_bytes(b"no image")
        assert fit(world, here) == fit(world, there)
        assert ONE_OF_EACH == counts(world)

    def test_another_version_of_the_project_in_another_state_is_not_waited_for(
        self, world: World, tmp_path: Path
    ) -> None:
        dataset = make(tmp_path)
        ended_by(world, "CreateProjectVersion")
        with pytest.raises(CredentialsError):
            fit(world, dataset)
        (project,) = world.server.projects
        for number, status in enumerate(("TRAINING_FAILED", "STOPPED", "TRAINING_IN_PROGRESS", "FAILED")):
            world.server.add_version(project, f"other-{number}", KINDS, status)
        trained = read_trained(fit(world, dataset))
        assert 1 == world.server.trainings
        assert "/other-" not in trained.version
        asked = world.server.asked("DescribeProjectVersions")
        assert trained.version.split("/")[3] == asked[-1]["VersionNames"][0]


class TestWhatGoesWrong:
    def test_a_failed_training_says_why_and_the_next_is_a_new_attempt(self, world: World, tmp_path: Path) -> None:
        dataset = make(tmp_path)
        world.server.training_fails = "The manifest file contains too few images."
        with pytest.raises(PrerequisiteError, match=r"too few images.*see s3://.*manifest_summary.json"):
            fit(world, dataset)
        with pytest.warns(UserWarning, match="one failed before: The manifest file contains too few images"):
            path = fit(world, dataset)
        assert read_trained(path).version.split("/")[3].endswith("-2")
        assert (2, 1) == (world.server.trainings, len(world.server.projects))

    def test_images_that_the_service_refuses_are_told_by_name(self, world: World, tmp_path: Path) -> None:
        dataset = make(tmp_path)
        refused = {"000.png", "007.png"}
        keys = {key_in_bucket(dataset, name) for name in refused}

        def only_others(bucket: str, key: str) -> bytes | None:
            return b"damaged on the way" if key.rpartition("/")[2] in keys else found(bucket, key)

        found = world.server._object
        world.server._object = only_others  # type: ignore[method-assign]
        with pytest.warns(UserWarning, match="does not take 2 training images") as warned:
            fit(world, dataset)
        text = "\n".join(str(item.message) for item in warned)
        assert [] == [name for name in refused if f"{name} (ERROR_INVALID_IMAGE)" not in text]

    def test_a_manifest_that_the_service_refuses_ends_it_before_anything_is_paid(
        self, world: World, tmp_path: Path
    ) -> None:
        world.server._object = lambda bucket, key: None if "/images/" in key else b"{}"  # type: ignore[method-assign]
        with pytest.raises(DatasetError, match=r"refuses the TRAIN data set .*TOO_MANY_INVALID"):
            fit(world, make(tmp_path))
        assert 0 == world.server.trainings

    def test_too_little_to_learn_from_asks_nobody(self, world: World, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"at least 2 images of each label .* checks 0"):
            fit(world, make(tmp_path, [("train", ("disc",))] * 3 + [("train", ("stripes",))] * 3))
        assert [] == world.server.seen

    def test_one_label_is_nothing_to_learn(self, world: World, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="2 to 250 labels, here 1"):
            fit(world, make(tmp_path, [("train", ("disc",))] * 3, Taxonomy(("disc",))))

    def test_data_sets_that_somebody_changed_are_not_trained_on(self, world: World, tmp_path: Path) -> None:
        dataset = make(tmp_path)
        ended_by(world, "CreateProjectVersion")
        with pytest.raises(CredentialsError):
            fit(world, dataset)
        (project,) = world.server.projects.values()
        project.sets["TRAIN"].entries.pop()
        with pytest.raises(DatasetError, match="hold 14 images, the train split has 15"):
            fit(world, dataset)
        assert 0 == world.server.trainings

    def test_a_busy_service_is_asked_again(self, world: World, tmp_path: Path) -> None:
        world.server.faults.extend(
            [failure("ThrottlingException", "Slow down"), failure("InternalServerError", "", 500)]
        )
        fit(world, make(tmp_path))
        assert ONE_OF_EACH == counts(world)

    def test_a_bucket_that_is_not_there(self, world: World, tmp_path: Path) -> None:
        with pytest.raises(PrerequisiteError, match="NoSuchBucket"):
            fit(world, make(tmp_path), bucket="no-such-bucket-anywhere")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"bucket": ""}, "needs a bucket"),
            ({"version": "v1"}, "leave it out to train"),
            ({"inference_units": 6}, "inference_units"),
            ({"bucket": "Not A Bucket"}, "bucket"),
            ({"colour": "red"}, "no such field"),
        ],
    )
    def test_settings_that_cannot_be(self, world: World, tmp_path: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            fit(world, make(tmp_path), **options)

    def test_without_credentials_nothing_is_sent(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(CredentialsError, match="no AWS credentials"):
            fit(world, make(tmp_path))
        assert [] == world.server.seen


class TestWhatIsKept:
    def test_how_the_service_rates_it(self, learnt: Learnt) -> None:
        rating = learnt.trained.ratings["disc"]
        assert set(KINDS) == learnt.trained.ratings.keys()
        assert (0.875, 0.5, 3) == (learnt.trained.f1, rating.assumed_threshold, rating.images)
        assert 0o600 == stat.S_IMODE(learnt.path.stat().st_mode)
        assert learnt.path.parent == learnt.world.store / "models"

    def test_a_price_that_nobody_knows_is_no_zero(self, learnt: Learnt) -> None:
        assert (3600, None) == (learnt.trained.billable_seconds, learnt.trained.usd)
        assert (
            "1.00 hours of training at a price that is not known; F1 0.875" in RekognitionCustom.remarks(learnt.path)[0]
        )
        assert "1 unknown, 1 unlabelled" in RekognitionCustom.remarks(learnt.path)[1]

    def test_progress_and_price_are_shown_where_that_is_wanted(
        self, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = RekognitionCustom.fit(make(tmp_path), with_prices(world.setting(SINGLE), training=2.0), progress=True)
        assert 2.0 == read_trained(path).usd
        shown = capsys.readouterr()
        assert "" == shown.out
        assert "Its price: $2.00 per hour" in shown.err
        assert "images 15 of 15" in shown.err

    def test_an_evaluation_that_cannot_be_read_is_no_reason_to_lose_the_version(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(world.server, "_write_summary", lambda version: None)
        with pytest.warns(UserWarning, match="evaluation cannot be read .*NoSuchKey"):
            path = fit(world, make(tmp_path))
        assert {} == read_trained(path).ratings

    def test_the_command_says_what_came_of_it(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        images = tmp_path / "images"
        for number, kind in enumerate(KINDS * 12):
            (images / kind).mkdir(parents=True, exist_ok=True)
            draw((kind,), number).save(images / kind / f"{number}.png")
        options = world.setting(SINGLE, project="by-command").options
        listed = "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())
        (images / "workbench.toml").write_text(
            f"[taxonomy]\ncategories = {json.dumps(KINDS)}\n[approaches.rekognition-custom]\n{listed}"
        )
        monkeypatch.setenv("WORKBENCH_STORE", str(world.store))
        found = CliRunner().invoke(app, ["train", str(images), "--approach", "rekognition-custom"])
        assert 0 == found.exit_code, found.output
        assert "trained arn:aws:rekognition:us-east-1:123456789012:project/by-command-" in found.stdout
        assert "1.00 hours of training at a price that is not known" in found.stderr

    def test_a_damaged_file_is_told(self, learnt: Learnt, tmp_path: Path) -> None:
        path = RekognitionCustom.artefact(learnt.dataset, replace(learnt.world, store=tmp_path).setting(SINGLE))
        path.parent.mkdir()
        path.write_bytes(learnt.path.read_bytes()[:-20])
        with pytest.raises(ConfigError, match="not a sound Custom Labels artefact"):
            fit(replace(learnt.world, store=tmp_path), learnt.dataset)


def key_in_bucket(dataset: Dataset, name: str) -> str:
    from workbench.approaches.custom_manifest import encode_image, key_of
    from workbench.prepare.encode import Encoded

    encoded = encode_image(dataset.file(name))
    assert isinstance(encoded, Encoded)
    return key_of(encoded)
