"""A head learnt from the train split, kept without pickle, and evaluated without scikit-learn."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from drawn import KINDS, Row, draw_dataset
from workbench.approaches import local_trained
from workbench.approaches.base import Setting
from workbench.approaches.local_trained import LocalTrained, read_artefact, write_artefact
from workbench.canonical import binary32
from workbench.dataset.images import Dataset
from workbench.errors import ConfigError, DatasetError, PrerequisiteError, ProviderError
from workbench.features.session import FeatureExtractor
from workbench.prepare.decode import Prepared, prepare_bytes
from workbench.records import Mode, Taxonomy

pytestmark = pytest.mark.usefixtures("quiet")
SINGLE = Taxonomy(KINDS)


@pytest.fixture
def setting(dataset: Dataset, store: Path) -> Setting:
    setting = Setting(dataset.taxonomy, {}, store)
    return replace(setting, model=LocalTrained.artefact(dataset, setting))


@pytest.fixture
def approach(dataset: Dataset, setting: Setting) -> LocalTrained:
    if not setting.model.exists():  # type: ignore[union-attr]
        LocalTrained.fit(dataset, setting)
    return LocalTrained.build(setting)


def pictures(dataset: Dataset, *splits: str) -> list[Prepared]:
    found = [dataset.file(path).read_bytes() for path in dataset.on(*splits).frame["path"]]
    return [prepare_bytes(data, local_trained.PREPARATION) for data in found]  # type: ignore[misc]


def features_of(dataset: Dataset, setting: Setting, split: str) -> np.ndarray:
    """(n, 1280) float64"""
    extractor = FeatureExtractor(setting.store)
    return np.array([extractor.features(picture) for picture in pictures(dataset, split)], float)


def scores_of(approach: LocalTrained, dataset: Dataset, *splits: str) -> np.ndarray:
    """(n, K), in taxonomy order."""
    answers = [approach.parse(approach.ask(picture).raw) for picture in pictures(dataset, *splits)]
    return np.array([[answer[name] for name in dataset.taxonomy.categories] for answer in answers])


def trained(dataset: Dataset, store: Path) -> local_trained.Training:
    return read_artefact(LocalTrained.fit(dataset, Setting(dataset.taxonomy, {}, store)))[1]


def few(*rows: Row) -> list[Row]:
    """Three images of each kind on train, and these."""
    return [("train", (kind,)) for kind in KINDS for _ in range(3)] + list(rows)


class TestWhatIsLearnt:
    def test_new_pictures_are_told_apart(self, approach: LocalTrained, dataset: Dataset) -> None:
        tune = dataset.on("tune")
        known = tune.truth.any(axis=1)
        scores = scores_of(approach, dataset, "tune")
        if dataset.taxonomy.mode == "single-label":
            right = (scores.argmax(axis=1) == tune.truth.argmax(axis=1))[known]
        else:
            right = (scores >= 0.5) == tune.truth
        assert right.mean() > 0.85

    def test_scores_are_those_of_scikit_learn(self, approach: LocalTrained, dataset: Dataset, setting: Setting) -> None:
        """Learnt again by the library alone, in another order."""
        single = dataset.taxonomy.mode == "single-label"
        features, asked = (features_of(dataset, setting, split) for split in ("train", "tune"))
        truth = dataset.on("train").truth
        used = truth.any(axis=1) | (not single)
        strength = read_artefact(setting.model)[1].regularisation  # type: ignore[arg-type]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000, tol=1e-8))
        if single:
            expected = model.fit(features[used], truth[used].argmax(axis=1)).predict_proba(asked)
        else:
            expected = np.column_stack([model.fit(features, shown).predict_proba(asked)[:, 1] for shown in truth.T])
        assert expected == pytest.approx(scores_of(approach, dataset, "tune"), abs=1e-3)

    def test_two_categories_are_a_distribution_too(self, tmp_path: Path, store: Path) -> None:
        taxonomy = Taxonomy(KINDS[:2])
        rows: list[Row] = [(split, (kind,)) for split in ("train", "tune") for kind in KINDS[:2] for _ in range(5)]
        dataset = draw_dataset(tmp_path / "two", rows, taxonomy)
        setting = Setting(taxonomy, {}, store)
        approach = LocalTrained.build(replace(setting, model=LocalTrained.fit(dataset, setting)))
        scores = scores_of(approach, dataset, "tune")
        assert [1] * 10 == pytest.approx(scores.sum(axis=1).tolist(), abs=1e-6)
        assert (scores.argmax(axis=1) == dataset.on("tune").truth.argmax(axis=1)).mean() > 0.85

    def test_the_same_images_give_the_same_head_wherever_they_lie(self, tmp_path: Path, store: Path) -> None:
        setting = Setting(SINGLE, {}, store)
        rows = few(*few())
        here, there = (draw_dataset(tmp_path / name, rows, SINGLE) for name in ("here", "there"))
        names = [f"x{999 - number}.png" for number in range(len(there))]
        for old, new in zip(there.frame["path"], names, strict=True):
            there.file(old).rename(there.file(new))
        moved = there.frame.assign(path=names, image_id=names, group=names)[::-1].reset_index(drop=True)
        path = LocalTrained.fit(here, setting)
        expected = read_artefact(path)[2]
        for again in (here, replace(there, frame=moved)):
            path.unlink()
            assert path == LocalTrained.fit(again, setting)
            assert expected == read_artefact(path)[2]

    def test_what_it_is_says_how_it_was_learnt(
        self, approach: LocalTrained, dataset: Dataset, setting: Setting
    ) -> None:
        _, training, content = read_artefact(setting.model)  # type: ignore[arg-type]
        single = dataset.taxonomy.mode == "single-label"
        assert f"local-trained-{content[:12]}" == approach.model_version
        assert dataset.taxonomy == training.taxonomy
        assert FeatureExtractor(setting.store).version == training.extractor
        assert "pixels-1:224x224:pad:ffffff" == training.preparation
        assert (24 if single else 56) == training.images
        assert dict.fromkeys(KINDS, 8) == training.by_category or not single
        assert ({"unknown": 8} if single else {}) == training.left_out
        assert training.regularisation == float(min(training.losses, key=lambda value: training.losses[value]))
        assert 3 == training.folds

    def test_completeness_follows_the_mode(self, approach: LocalTrained, mode: Mode) -> None:
        assert (mode == "single-label", False) == (approach.complete, approach.scores_unknown)


class TestWhatIsLeftOut:
    def test_what_cannot_be_prepared_or_has_no_label_is_counted(self, tmp_path: Path, store: Path) -> None:
        rows = few(*[("train", (kind,)) for kind in KINDS], ("train", None), ("train", ()), ("tune", ()))
        dataset = draw_dataset(tmp_path / "odd", rows, SINGLE)
        paths = dataset.frame["path"]
        dataset.file(paths[9]).write_bytes(dataset.file(paths[9]).read_bytes()[:90])
        dataset.file(paths[10]).unlink()
        dataset.file(paths[11]).write_bytes(b"plain text")
        expected = {"truncated": 1, "unreadable": 1, "unsupported_format": 1, "unlabelled": 1, "unknown": 1}
        training = trained(dataset, store)
        assert expected == training.left_out
        assert 9 == training.images

    def test_unknown_images_are_negatives_of_every_category_in_multi_label_mode(
        self, tmp_path: Path, store: Path
    ) -> None:
        taxonomy = Taxonomy(KINDS, "multi-label")
        rows = few(("train", ()), ("train", ()), ("train", None))
        training = trained(draw_dataset(tmp_path / "odd", rows, taxonomy), store)
        assert (11, {"unlabelled": 1}) == (training.images, training.left_out)


class TestGroups:
    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=12, max_size=40), st.booleans())
    def test_none_is_on_both_sides_of_a_fold(self, images: list[tuple[int, int]], single: bool) -> None:
        kinds, groups = np.array(images).T
        truth = np.eye(3, dtype=bool)[kinds]
        examples = local_trained._Examples(np.zeros((len(images), 1)), truth, groups, {})
        for learn, judge in local_trained._folds(examples, "single-label" if single else "multi-label"):
            assert not set(groups[learn]) & set(groups[judge])
            assert truth[learn].any(axis=0).all()
            assert len(images) == len(learn) + len(judge)

    def test_of_one_group_each_there_is_nothing_to_compare(self, tmp_path: Path, store: Path) -> None:
        dataset = draw_dataset(tmp_path / "bursts", few(), SINGLE)
        bursts = replace(dataset, frame=dataset.frame.assign(group=[shown[0] for shown in dataset.frame["labels"]]))
        training = trained(bursts, store)
        assert (0, {}, 0.01) == (training.folds, training.losses, training.regularisation)
        assert training.train != trained(dataset, store).train


class TestRefusals:
    def test_one_image_of_a_category_is_too_few(self, tmp_path: Path, store: Path) -> None:
        rows: list[Row] = [("train", ("disc",))] * 3 + [("train", ("stripes",)), ("tune", ("stripes",))]
        dataset = draw_dataset(tmp_path / "few", rows, SINGLE)
        with pytest.raises(DatasetError, match=r"drawn: .*at least 2 .* too few of 'stripes' \(1\), 'checks' \(0\)"):
            LocalTrained.fit(dataset, Setting(SINGLE, {}, store))

    def test_images_that_cannot_be_prepared_do_not_count(self, tmp_path: Path, store: Path) -> None:
        dataset = draw_dataset(tmp_path / "few", few(), SINGLE)
        for path in dataset.frame["path"][:2]:
            dataset.file(path).write_bytes(b"no image")
        with pytest.raises(DatasetError, match=r"too few of 'disc' \(1\)$"):
            LocalTrained.fit(dataset, Setting(SINGLE, {}, store))

    def test_few_images_are_warned_of(self, tmp_path: Path, store: Path) -> None:
        dataset = draw_dataset(tmp_path / "few", few(), SINGLE)
        with pytest.warns(UserWarning, match=r"fewer than 50 training images of 'disc' \(3\), 'stripes' \(3\)"):
            LocalTrained.fit(dataset, Setting(SINGLE, {}, store))

    def test_a_category_on_every_image_cannot_be_learnt(self, tmp_path: Path, store: Path) -> None:
        taxonomy = Taxonomy(("disc",), "multi-label")
        dataset = draw_dataset(tmp_path / "same", [("train", ("disc",))] * 3, taxonomy)
        with pytest.raises(DatasetError, match="every training image shows 'disc'"):
            LocalTrained.fit(dataset, Setting(taxonomy, {}, store))

    def test_one_category_needs_multi_label_mode(self, tmp_path: Path, store: Path) -> None:
        taxonomy = Taxonomy(("disc",))
        dataset = draw_dataset(tmp_path / "one", [("train", ("disc",))] * 3, taxonomy)
        with pytest.raises(DatasetError, match="use multi-label"):
            LocalTrained.fit(dataset, Setting(taxonomy, {}, store))

    def test_a_data_set_of_another_taxonomy(self, dataset: Dataset, store: Path) -> None:
        with pytest.raises(DatasetError, match="another taxonomy"):
            LocalTrained.fit(dataset, Setting(Taxonomy(("disc", "cube")), {}, store))

    def test_a_model_of_another_taxonomy(self, approach: LocalTrained, setting: Setting) -> None:
        other = replace(setting, taxonomy=Taxonomy((*KINDS, "spots")))
        with pytest.raises(PrerequisiteError, match=r"trained for \['disc', .*'spots'\].*workbench train DATASET"):
            LocalTrained.build(other)

    def test_a_model_of_another_network(
        self, approach: LocalTrained, setting: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workbench.features.session.extractor_version", lambda: "efficientnet-lite0-ffffffffffff")
        with pytest.raises(PrerequisiteError, match=r"not efficientnet-lite0-f+: run `workbench train"):
            LocalTrained.build(setting)


def rewritten(data: bytes, change: Callable[[dict[str, np.ndarray]], None]) -> bytes:
    """The same archive with other arrays."""
    with np.load(io.BytesIO(data)) as stored:
        arrays = dict(stored)
    change(arrays)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def nudge(arrays: dict[str, np.ndarray]) -> None:
    arrays["weights"][0, 0] = np.nextafter(arrays["weights"][0, 0], 1)


def tell_another_story(arrays: dict[str, np.ndarray]) -> None:
    training = json.loads(arrays["training"].tobytes())
    training["images"] += 1
    arrays["training"] = np.frombuffer(json.dumps(training).encode(), np.uint8)


def hide_an_object(arrays: dict[str, np.ndarray]) -> None:
    arrays["mean"] = np.array([{"a": 1}], dtype=object)


class TestArtefact:
    @pytest.fixture
    def sound(self, approach: LocalTrained, setting: Setting) -> bytes:
        return setting.model.read_bytes()  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: data[: len(data) // 2],
            lambda data: data[:3000] + b"\xff" + data[3001:],
            lambda _: b"",
            lambda _: b"not an archive",
            lambda data: rewritten(data, nudge),
            lambda data: rewritten(data, tell_another_story),
            lambda data: rewritten(data, hide_an_object),
            lambda data: rewritten(data, lambda arrays: arrays.pop("intercept")),
            lambda data: rewritten(data, lambda arrays: arrays.pop("content")),
        ],
        ids=["cut", "one byte", "empty", "text", "one bit", "training", "object", "missing", "no digest"],
    )  # fmt: skip
    def test_a_damaged_one_is_refused(
        self, damage: Callable[[bytes], bytes], sound: bytes, setting: Setting, tmp_path: Path
    ) -> None:
        path = tmp_path / "model.npz"
        path.write_bytes(damage(sound))
        with pytest.raises(ConfigError, match=r"model\.npz: not a sound local-trained model: .*; delete it and run"):
            LocalTrained.build(replace(setting, model=path))

    def test_numbers_of_impossible_form_are_refused(
        self, approach: LocalTrained, setting: Setting, tmp_path: Path
    ) -> None:
        head, training, _ = read_artefact(setting.model)  # type: ignore[arg-type]
        for wrong in (
            replace(head, scale=-head.scale),
            replace(head, mean=head.mean * math.nan),
            replace(head, weights=head.weights[:, 1:]),
            replace(head, intercept=head.intercept[1:]),
        ):
            write_artefact(tmp_path / "wrong.npz", wrong, training)
            with pytest.raises(ConfigError, match="not a sound local-trained model"):
                read_artefact(tmp_path / "wrong.npz")

    def test_writing_and_reading_change_nothing(self, approach: LocalTrained, setting: Setting, tmp_path: Path) -> None:
        head, training, content = read_artefact(setting.model)  # type: ignore[arg-type]
        write_artefact(tmp_path / "deep" / "copy.npz", head, training)
        again, same, digest = read_artefact(tmp_path / "deep" / "copy.npz")
        assert (training, content) == (same, digest)
        assert all(np.array_equal(value, getattr(again, name)) for name, value in vars(head).items())
        assert ["copy.npz"] == [path.name for path in (tmp_path / "deep").iterdir()]

    def test_it_holds_plain_numbers_only(self, sound: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(sound)) as archive:
            headers = [archive.read(name)[:128] for name in archive.namelist()]
        assert 6 == len(headers)
        assert all(b"'descr': '<f8'" in header or b"'descr': '|u1'" in header for header in headers)


class TestAnswers:
    @given(st.lists(st.floats(-800, 800), min_size=3, max_size=3), st.sampled_from(["single-label", "multi-label"]))
    def test_scores_follow_the_logits(self, logits: list[float], mode: Mode) -> None:
        scores = list(parser(mode).parse({"logits": dict(zip(KINDS, logits, strict=True))}).values())
        assert all(0 <= score <= 1 and score == binary32(score) for score in scores)
        if mode == "single-label":
            assert 1 == pytest.approx(math.fsum(scores), abs=1e-6)
            order = sorted(range(3), key=logits.__getitem__)
            assert sorted(scores) == [scores[place] for place in order]
        else:
            expected = [1 / (1 + math.exp(-logit)) if logit > -700 else 0 for logit in logits]
            assert expected == pytest.approx(scores, abs=1e-7)

    @pytest.mark.parametrize("logit", [math.nan, math.inf, None, "high", {}])
    def test_what_is_no_logit_is_refused(self, logit: object) -> None:
        with pytest.raises(ProviderError, match="malformed_answer"):
            parser("single-label").parse({"logits": {"disc": 0.0, "stripes": 0.0, "checks": logit}})


class _Parser(LocalTrained):
    """What `parse` needs, without a model."""

    def __init__(self, mode: Mode) -> None:
        self.taxonomy = Taxonomy(KINDS, mode)


def parser(mode: Mode) -> LocalTrained:
    return _Parser(mode)


def test_progress_is_shown_if_asked_for(
    datasets: Callable[[Mode], Dataset], store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = datasets("single-label")
    LocalTrained.fit(dataset, Setting(dataset.taxonomy, {}, store))
    assert "" == capsys.readouterr().err
    LocalTrained.fit(dataset, Setting(dataset.taxonomy, {}, store), progress=True)
    shown = capsys.readouterr().err
    assert "features: 100%" in shown
    assert "regularisation: 100%" in shown
