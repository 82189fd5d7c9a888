"""What every approach of the dictionary promises, whichever it is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeGuard

import pytest

from approaches.offered import CASES, TOY, Build, Case
from drawn import draw_dataset, rows_of
from workbench.approaches.base import APPROACHES, Answer, Approach, Learner, Service, Setting, approach_class
from workbench.canonical import binary32
from workbench.dataset.images import Dataset
from workbench.errors import ConfigError, PrerequisiteError, ProviderError
from workbench.prepare.decode import Prepared, prepare_bytes
from workbench.records import CENSORED, PROVIDER_OUTCOMES, Mode


@pytest.fixture
def pictures(approach: Approach, dataset: Dataset) -> list[Prepared]:
    files = [dataset.file(path) for path in dataset.on("tune").frame["path"][::3]]
    prepared = [prepare_bytes(file.read_bytes(), approach.preparation) for file in files]
    assert all(isinstance(item, Prepared) for item in prepared)
    return prepared  # type: ignore[return-value]


def is_learner(found: type[Approach] | type[Learner]) -> TypeGuard[type[Learner]]:
    return hasattr(found, "fit")


def columns(approach: Approach) -> set[str]:
    unknown = {approach.taxonomy.unknown} if approach.scores_unknown else set()
    return {*approach.taxonomy.categories, *unknown}


def ask(approach: Approach, picture: Prepared) -> Answer:
    return approach.ask(approach.request(picture))


def test_every_name_of_the_dictionary_is_tried() -> None:
    assert {*APPROACHES} - {TOY} == {case.name for case in CASES.values()} - {TOY}


def test_a_name_leads_to_a_class_of_that_name(name: str, planted: None) -> None:
    assert name == approach_class(name).name


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'nobody'; known: local-cnn"):
        approach_class("nobody")


def test_keeps_the_protocol(name: str, case: Case, approach: Approach) -> None:
    assert isinstance(approach, Approach)
    assert isinstance(approach, Service) == (case.service is not None)
    assert is_learner(approach_class(name)) == isinstance(approach, Learner)
    assert approach.floors.keys() <= columns(approach)
    assert approach.parallel >= 1


def test_is_identified_by_what_it_was_built_from(build: Build, approach: Approach, setting: Setting) -> None:
    again = build()
    assert (approach.model_version, approach.fingerprint) == (again.model_version, again.fingerprint)
    assert setting.taxonomy == approach.taxonomy
    assert approach.model_version or isinstance(approach, Service)  # some services tell it with their answers
    assert 32 == len(bytes.fromhex(approach.fingerprint))


def test_another_taxonomy_is_another_identity(
    name: str, build: Build, approach: Approach, setting: Setting, dataset: Dataset
) -> None:
    other = replace(setting, taxonomy=replace(setting.taxonomy, unknown="none of these"))
    found = approach_class(name)
    if is_learner(found):
        other = replace(other, model=found.fit(replace(dataset, taxonomy=other.taxonomy), other))
    assert approach.fingerprint != build(other).fingerprint


def test_an_answer_is_json_and_names_its_version(approach: Approach, pictures: list[Prepared]) -> None:
    answer = ask(approach, pictures[0])
    assert answer.model_version
    assert approach.model_version in ("", answer.model_version)
    assert answer.raw == json.loads(json.dumps(answer.raw, allow_nan=False))
    assert answer.cost_usd >= 0


def test_scores_are_binary32_in_range_or_censored(approach: Approach, pictures: list[Prepared]) -> None:
    for picture in pictures:
        scores = approach.parse(ask(approach, picture).raw)
        assert columns(approach) == set(scores)
        for column, score in scores.items():
            assert score == CENSORED or (0 <= score <= 1 and score == binary32(score))
            assert score == CENSORED or score >= approach.floors.get(column, 0)


def test_complete_scores_sum_to_one(approach: Approach, pictures: list[Prepared]) -> None:
    sums = [math.fsum(approach.parse(ask(approach, picture).raw).values()) for picture in pictures]
    whole = sums == pytest.approx([1] * len(sums), abs=1e-6)
    assert whole or not approach.complete
    assert approach.complete or not whole or isinstance(approach, Service)  # what a stand-in tells may sum to one


def test_pictures_are_told_apart(approach: Approach, pictures: list[Prepared]) -> None:
    assert 1 < len({json.dumps(ask(approach, picture).raw) for picture in pictures})


def test_an_old_answer_is_read_as_when_it_was_new(approach: Approach, pictures: list[Prepared]) -> None:
    raw = ask(approach, pictures[0]).raw
    kept = json.dumps(raw)
    assert approach.parse(raw) == approach.parse(json.loads(kept))
    assert kept == json.dumps(raw)


def test_asked_together_or_alone_the_answer_is_the_same(
    build: Build, setting: Setting, approach: Approach, pictures: list[Prepared], tmp_path: Path
) -> None:
    def told(answer: Answer) -> Mapping[str, Any]:
        """A service numbers its answers, so that only what they say is the same."""
        return approach.parse(answer.raw) if isinstance(approach, Service) else answer.raw

    alone = [told(ask(approach, picture)) for picture in pictures]
    afresh = build(replace(setting, store=tmp_path / "another store"))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda picture: told(ask(afresh, picture)), pictures))
    assert alone == together


def spoilt(value: Any, leaf: Any, deep: bool) -> Any:
    """The same shape with every leaf replaced; a list is a leaf, or `deep` is a shape of its own."""
    if isinstance(value, Mapping):
        return {key: spoilt(item, leaf, deep) for key, item in value.items()}
    if deep and isinstance(value, list) and value:
        return [spoilt(item, leaf, deep) for item in value]
    return leaf


def reading(approach: Approach, raw: Mapping[str, Any]) -> Mapping[str, float] | str:
    """The scores, or the outcome of an answer that cannot be read."""
    try:
        return approach.parse(raw)
    except ProviderError as error:
        return error.outcome


def test_an_answer_of_another_form_is_one_images_failure(approach: Approach, pictures: list[Prepared]) -> None:
    raw = ask(approach, pictures[0]).raw
    leaves: list[Any] = [None, "text", [], math.nan, {}]
    shapes = [(spoilt(raw, leaf, False), spoilt(raw, leaf, True), dict.fromkeys(raw, leaf)) for leaf in leaves]
    for wrong in (*chain.from_iterable(shapes), {}):
        found = reading(approach, wrong)
        if isinstance(found, Mapping):  # as if nothing was found, where what is not found is not told
            assert wrong
            assert isinstance(approach, Service)
            assert approach.floors
            assert {CENSORED} == set(found.values())
        else:
            assert found in PROVIDER_OUTCOMES


class TestLearners:
    @pytest.fixture(params=[key for key, case in CASES.items() if key != TOY and is_learner(approach_class(case.name))])
    def key(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def learner(self, name: str) -> type[Learner]:
        found = approach_class(name)
        assert is_learner(found)
        return found

    def test_must_be_trained_first(self, learner: type[Learner], setting: Setting) -> None:
        for model in (None, setting.store / "nowhere.npz"):
            with pytest.raises(PrerequisiteError, match="workbench train DATASET --approach"):
                learner.build(replace(setting, model=model))

    def test_the_artefact_is_found_again(self, learner: type[Learner], setting: Setting, dataset: Dataset) -> None:
        assert setting.model == learner.artefact(dataset, setting)
        assert setting.model is not None
        assert setting.model.is_relative_to(setting.store)
        assert setting.model.is_file()

    def test_the_train_split_alone_is_learnt_from(
        self, learner: type[Learner], setting: Setting, mode: Mode, tmp_path: Path
    ) -> None:
        before = learner.build(setting).fingerprint
        unlike = draw_dataset(tmp_path / "unlike", rows_of(mode), setting.taxonomy)
        judged = unlike.frame["split"] != "train"
        for path in unlike.frame["path"][judged]:
            unlike.file(path).write_bytes(b"no image")
        unlike.frame["labels"] = unlike.frame["labels"].mask(judged, None)
        assert setting.model == learner.artefact(unlike, setting) == learner.fit(unlike, setting)
        assert before == learner.build(setting).fingerprint

    def test_other_training_images_are_another_artefact(
        self, learner: type[Learner], setting: Setting, dataset: Dataset
    ) -> None:
        of_a_category = dataset.frame["labels"].map(bool) & (dataset.frame["split"] == "train")
        fewer = replace(dataset, frame=dataset.frame.drop(index=of_a_category.idxmax()).reset_index(drop=True))
        assert setting.model != learner.artefact(fewer, setting)
