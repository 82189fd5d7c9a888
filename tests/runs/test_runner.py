"""A real small approach, real PNG files, a real cache. Run as a script, this file is a run that may be killed."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from workbench.approaches.base import Answer, Approach, Setting
from workbench.canonical import binary32, digest
from workbench.dataset.images import COLUMNS, PROBLEM_COLUMNS, Dataset
from workbench.errors import PrerequisiteError, ProviderError, RunError
from workbench.predictions import PredictionTable, read_predictions, write_predictions
from workbench.prepare.decode import Preparation, Prepared, Unprepared
from workbench.records import CENSORED, OK, Origin, Prediction, Taxonomy
from workbench.runs import pipeline
from workbench.runs.cache import AnswerCache, KeptAnswer
from workbench.runs.runner import classify, classify_one, plan_run

TAXONOMY = Taxonomy(("dark", "bright"), unknown="grey")
PREPARATION = Preparation(8, 8, "stretch")
SPENT = 0.25


@dataclass
class Toy:
    """How bright is it? Writes down every question before it is asked and after it was answered."""

    log: Path
    pause: float = 0.0
    answer: Callable[[float], Mapping[str, Any]] = lambda mean: {"mean": mean}
    read: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda raw: {
        "dark": binary32(1 - raw["mean"] / 255),
        "bright": binary32(raw["mean"] / 255),
    }
    observed: str = "toy-1"
    parallel: int = 3
    scores_unknown: bool = False
    floors: Mapping[str, float] = field(default_factory=dict)
    taxonomy: Taxonomy = TAXONOMY
    name: str = "toy"
    preparation: Preparation = PREPARATION
    model_version: str = "toy-1"
    complete: bool = True

    @property
    def fingerprint(self) -> str:
        return digest([self.name, self.model_version, self.preparation.id, self.taxonomy.digest])

    @classmethod
    def build(cls, setting: Setting) -> Toy:
        return cls(setting.store / "log.txt", taxonomy=setting.taxonomy)

    def request(self, prepared: Prepared) -> dict[str, Any]:
        return {"pixels": prepared.digest, "mean": float(prepared.pixels.mean())}

    def ask(self, request: dict[str, Any]) -> Answer:
        self._note("ask", request)
        time.sleep(self.pause)
        raw = self.answer(request["mean"])
        self._note("done", request)
        return Answer(raw, self.observed, SPENT)

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        return self.read(raw)

    def _note(self, what: str, request: dict[str, Any]) -> None:
        with self.log.open("a") as log:  # one short write: whole, whoever else writes, and still there after kill -9
            log.write(f"{what} {request['pixels']}\n")

    def noted(self, what: str) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split()[1] for line in lines if line.startswith(f"{what} ")]

    @property
    def asked(self) -> list[str]:
        return self.noted("ask")


def png(grey: int, **options: Any) -> bytes:
    data = BytesIO()
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(data, "PNG", **options)
    return data.getvalue()


def dataset_of(root: Path, names: Sequence[str]) -> Dataset:
    frame = pd.DataFrame(
        {
            "image_id": names,
            "path": names,
            "labels": [("dark",)] * len(names),
            "split": "tune",
            "group": names,
            "weight": 1.0,
            "source": "",
        },
        columns=list(COLUMNS),
    )
    return Dataset("toys", root, TAXONOMY, frame, pd.DataFrame(columns=list(PROBLEM_COLUMNS)))


def greys(root: Path, values: Sequence[int]) -> Dataset:
    """One PNG per value: 000.png, 001.png …"""
    root.mkdir(exist_ok=True)
    names = [f"{place:03}.png" for place in range(len(values))]
    for name, grey in zip(names, values, strict=True):
        (root / name).write_bytes(png(grey))
    return dataset_of(root, names)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store" / "answers.sqlite"


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path / "log.txt")


def scores(table: PredictionTable) -> list[list[float]]:
    return table.scores.astype(float).tolist()


def expected_scores(values: Sequence[int]) -> list[list[float]]:
    return [[binary32(1 - grey / 255), binary32(grey / 255)] for grey in values]


def test_the_toy_is_an_approach(toy: Toy) -> None:
    assert isinstance(toy, Approach)


def test_one_row_per_image_in_the_data_sets_order(tmp_path: Path, store: Path, toy: Toy) -> None:
    values = [(97 * place) % 256 for place in range(60)]
    dataset = greys(tmp_path / "images", values)
    with AnswerCache(store) as cache:
        table = classify(dataset, toy, cache)
    assert list(dataset.frame["image_id"]) == list(table.frame["image_id"])
    assert expected_scores(values) == scores(table)
    assert [OK] * 60 == list(table.frame["outcome"])
    assert not table.frame["cached"].any()
    assert [SPENT] * 60 == list(table.frame["cost_usd"])
    assert (table.frame["latency_ms"] > 0).all()


def test_a_second_run_asks_nothing_and_says_the_same(tmp_path: Path, store: Path, toy: Toy) -> None:
    dataset = greys(tmp_path / "images", range(20))
    with AnswerCache(store) as cache:
        first = classify(dataset, toy, cache)
    with AnswerCache(store) as cache:
        second = classify(dataset, toy, cache)
    assert 20 == len(toy.asked)
    assert first.scores.tobytes() == second.scores.tobytes()
    assert list(first.predictions()) == list(second.predictions())
    assert second.frame["cached"].all()
    assert 0 == second.frame["cost_usd"].sum()
    assert list(first.frame["latency_ms"]) == list(second.frame["latency_ms"])


def test_a_hit_decodes_nothing(tmp_path: Path, store: Path, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = greys(tmp_path / "images", range(5))
    (tmp_path / "images" / "004.png").write_bytes(png(4)[:50])
    with AnswerCache(store) as cache:
        first = classify(dataset, toy, cache)
        monkeypatch.delattr(pipeline, "prepare_bytes")
        second = classify(dataset, toy, cache)
    assert "truncated" == first.frame["outcome"][4]
    assert list(first.predictions()) == list(second.predictions())


def test_what_the_run_was_is_told(tmp_path: Path, store: Path, toy: Toy) -> None:
    dataset = greys(tmp_path / "images", range(3))
    toy = replace(toy, floors={"dark": 0.3}, scores_unknown=True, read=lambda _: {"dark": CENSORED, "grey": 0.5})
    before = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    with AnswerCache(store) as cache:
        table = classify(dataset, toy, cache)
    assert Origin("toy", "toy-1", toy.fingerprint, toy.preparation.id, TAXONOMY.digest) == table.info.origin
    assert (TAXONOMY, True, True) == (table.info.taxonomy, table.info.complete, table.info.scores_unknown)
    assert {"dark": binary32(0.3)} == table.info.floors
    assert (dataset.digest, "toys") == (table.info.dataset, table.info.dataset_name)
    assert (
        before <= datetime.strptime(table.info.created, "%Y-%m-%dT%H:%M:%SZ") <= datetime.now(UTC).replace(tzinfo=None)
    )
    assert [{"dark": CENSORED, "grey": 0.5}] * 3 == [row.scores for row in table.predictions()]
    write_predictions(table, tmp_path / "run.parquet")
    back = read_predictions(tmp_path / "run.parquet")
    pd.testing.assert_frame_equal(table.frame, back.frame)
    assert table.info == back.info


def test_no_images_make_an_empty_table(tmp_path: Path, store: Path, toy: Toy) -> None:
    with AnswerCache(store) as cache:
        table = classify(dataset_of(tmp_path, []), toy, cache)
        assert 0 == plan_run(dataset_of(tmp_path, []), toy, cache).images
    write_predictions(table, tmp_path / "run.parquet")
    assert 0 == len(read_predictions(tmp_path / "run.parquet"))


def test_the_same_picture_under_many_names_is_asked_once(tmp_path: Path, store: Path, toy: Toy) -> None:
    images = tmp_path / "images"
    dataset = greys(images, [7, 9] * 6)
    for level, name in enumerate(dataset.frame["path"][::2]):
        (images / name).write_bytes(png(7, compress_level=level))
    assert len(set(dataset.contents)) > 2
    with AnswerCache(store) as cache:
        table = classify(dataset, replace(toy, pause=0.05, parallel=6), cache)
    assert 2 == len(toy.asked) == len(set(toy.asked))
    assert 2 == (~table.frame["cached"]).sum()
    assert 2 * SPENT == table.frame["cost_usd"].sum()
    assert expected_scores([7, 9] * 6) == scores(table)
    assert 2 == table.frame["latency_ms"].nunique()


def test_faults_become_rows_and_the_rest_is_untouched(tmp_path: Path, store: Path, toy: Toy) -> None:
    images = tmp_path / "images"
    dataset = greys(images, range(6))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / "whole.jpg")
    (images / "cut.jpg").write_bytes((images / "whole.jpg").read_bytes()[:2000])
    (images / "empty.jpg").touch()
    (images / "text.jpg").write_text("this is no picture")
    (images / "a.png").mkdir()
    os.mkfifo(images / "pipe.png")
    (images / "dangling.png").symlink_to("nowhere.png")
    faults = {
        "cut.jpg": "truncated",
        "empty.jpg": "unreadable",
        "text.jpg": "unsupported_format",
        "a.png": "unreadable",
        "pipe.png": "unreadable",
        "dangling.png": "unreadable",
        "missing.png": "unreadable",
    }
    sound = list(dataset.frame["path"])
    names = [name for pair in zip(sound, faults, strict=False) for name in pair] + list(faults)[6:]
    with AnswerCache(store) as cache:
        table = classify(dataset_of(images, names), toy, cache)
        again = classify(dataset_of(images, names), toy, cache)
    rows = table.frame.set_index("image_id")
    assert names == list(table.frame["image_id"])
    assert faults == {name: rows["outcome"][name] for name in faults}
    assert all(rows["detail"][name] for name in faults)
    assert "a directory, not a file" == rows["detail"]["a.png"]
    assert rows.loc[list(faults), "latency_ms"].isna().all()
    assert rows.loc[list(faults), "cached"].all()
    assert dict.fromkeys(sound, OK) == {name: rows["outcome"][name] for name in sound}
    expected = [row for name, row in zip(names, scores(table), strict=True) if name in sound]
    assert expected_scores(range(6)) == expected
    assert np.isnan([row for name, row in zip(names, scores(table), strict=True) if name in faults]).all()
    assert list(table.predictions()) == list(again.predictions())
    assert 6 == len(toy.asked)


def test_provider_failures_are_rows_and_are_asked_again_next_time(tmp_path: Path, store: Path, toy: Toy) -> None:
    dataset = greys(tmp_path / "images", [1, 2, 2, 3])

    def sometimes(mean: float) -> Mapping[str, Any]:
        if mean == 2:
            raise ProviderError("refusal", "I would rather not \ud800")
        return {"mean": mean}

    with AnswerCache(store) as cache:
        table = classify(dataset, replace(toy, answer=sometimes), cache)
        assert [OK, "refusal", "refusal", OK] == list(table.frame["outcome"])
        assert "I would rather not \\ud800" == table.frame["detail"][1]
        assert np.isnan(table.scores[1]).all()
        assert math.isnan(table.frame["latency_ms"][1])
        assert 3 == len(toy.asked)  # the failing picture once, under its two names
        assert 3 == (~table.frame["cached"]).sum()

        table = classify(dataset, toy, cache)
        assert 4 == len(toy.asked)
        assert expected_scores([1, 2, 2, 3]) == scores(table)
        assert 1 == (~table.frame["cached"]).sum()
        assert SPENT == table.frame["cost_usd"].sum()


def test_a_picture_that_failed_is_not_asked_again_in_the_same_run(tmp_path: Path, store: Path, toy: Toy) -> None:
    def refuse_black(mean: float) -> Mapping[str, Any]:
        if mean == 0:
            raise ProviderError("refusal", "too dark")
        return {"mean": mean}

    dataset = greys(tmp_path / "images", [0, *range(1, 60), 0])
    with AnswerCache(store) as cache:
        table = classify(dataset, replace(toy, answer=refuse_black, parallel=1), cache)
    assert ["refusal", "refusal"] == list(table.frame["outcome"].iloc[[0, -1]])
    assert [False, True] == list(table.frame["cached"].iloc[[0, -1]])
    assert 60 == len(toy.asked)


def test_an_outcome_that_no_policy_knows_is_a_provider_error(tmp_path: Path, store: Path, toy: Toy) -> None:
    def odd(_: float) -> Mapping[str, Any]:
        raise ProviderError("bad_hair_day", "x" * 100_000)

    with AnswerCache(store) as cache:
        table = classify(greys(tmp_path / "images", [1]), replace(toy, answer=odd), cache)
    assert "provider_error" == table.frame["outcome"][0]
    assert table.frame["detail"][0].startswith("bad_hair_day: xxx")
    assert 1000 == len(table.frame["detail"][0])


def refuse(_: Mapping[str, Any]) -> Mapping[str, float]:
    raise ProviderError("label_outside", "'boot' is not on the list")


@pytest.mark.parametrize(
    ("read", "outcome", "detail"),
    [
        (refuse, "label_outside", "'boot' is not on the list"),
        (lambda raw: {"dark": raw["darkness"]}, "malformed_answer", "KeyError: 'darkness'"),
        (lambda _: {"dark": 0.1}, "malformed_answer", "score 0.1 of 'dark' is not a binary32 from 0 to 1"),
        (lambda _: {"dark": 1.5}, "malformed_answer", "score 1.5 of 'dark' is not a binary32 from 0 to 1"),
        (lambda _: {"dark": -0.5}, "malformed_answer", "score -0.5 of 'dark' is not"),
        (lambda _: {"dark": math.inf}, "malformed_answer", "score inf of 'dark' is not"),
        (lambda _: {"dark": math.nan}, "malformed_answer", "score nan of 'dark' is not"),
        (lambda _: {"dark": 1e300}, "malformed_answer", "score 1e+300 of 'dark' is not"),
        (lambda _: {"dark": True}, "malformed_answer", "score of 'dark' is True, not a number"),
        (lambda _: {"dark": "0.5"}, "malformed_answer", "score of 'dark' is '0.5', not a number"),
        (lambda _: {"dark": None}, "malformed_answer", "score of 'dark' is None, not a number"),
        (lambda _: {"bright": 0.125}, "malformed_answer", "score 0.125 of 'bright' is below its floor 0.25"),
        (lambda _: {"dark": 1.0, "boot": 0.5}, "malformed_answer", "a score for 'boot', which is not in the taxonomy"),
        (lambda _: {"grey": 0.5}, "malformed_answer", "a score for 'grey', which is not in the taxonomy"),
        (lambda _: None, "malformed_answer", "TypeError"),
    ],
)
def test_an_answer_that_cannot_be_read_is_a_row(
    tmp_path: Path, store: Path, toy: Toy, read: Any, outcome: str, detail: str
) -> None:
    dataset = greys(tmp_path / "images", [1, 2])
    toy = replace(toy, floors={"bright": 0.25})
    with AnswerCache(store) as cache:
        table = classify(dataset, replace(toy, read=read), cache)
        assert [outcome] * 2 == list(table.frame["outcome"])
        assert table.frame["detail"].str.startswith(detail).all()
        assert np.isnan(table.scores).all()
        assert [SPENT] * 2 == list(table.frame["cost_usd"])
        assert 2 == plan_run(dataset, toy, cache).to_ask  # not kept


@pytest.mark.parametrize("raw", [{"x": math.nan}, {"x": {1, 2}}, {"x": np.float32(1)}, {(1, 2): 3}])
def test_an_answer_that_is_not_json_is_a_row(tmp_path: Path, store: Path, toy: Toy, raw: Mapping[str, Any]) -> None:
    with AnswerCache(store) as cache:
        table = classify(greys(tmp_path / "images", [1]), replace(toy, answer=lambda _: raw), cache)
    assert ("malformed_answer", SPENT) == (table.frame["outcome"][0], table.frame["cost_usd"][0])
    assert table.frame["detail"][0].startswith("not JSON: ")


@pytest.mark.parametrize(
    "read",
    [
        lambda _: {"dark": 0, "bright": 1},
        lambda _: {"dark": np.float32(0.1), "bright": CENSORED},
        lambda _: {"bright": 0.25},
        lambda _: {},
    ],
)
def test_every_sound_score_is_taken(tmp_path: Path, store: Path, toy: Toy, read: Any) -> None:
    toy = replace(toy, read=read, floors={"bright": 0.25})
    with AnswerCache(store) as cache:
        (row,) = classify(greys(tmp_path / "images", [1]), toy, cache).predictions()
    assert OK == row.outcome
    assert {name: float(score) for name, score in read({}).items()} == row.scores


def test_an_answer_is_read_live_as_it_is_read_from_the_cache(tmp_path: Path, store: Path, toy: Toy) -> None:
    seen: list[Any] = []

    def read(raw: Mapping[str, Any]) -> Mapping[str, float]:
        seen.append(raw)
        return {"dark": 0.5}

    toy = replace(toy, answer=lambda _: {"pair": (1, 2), "by_number": {3: "x"}}, read=read)
    with AnswerCache(store) as cache:
        classify(greys(tmp_path / "images", [1]), toy, cache)
        classify(greys(tmp_path / "images", [1]), toy, cache)
    assert [{"pair": [1, 2], "by_number": {"3": "x"}}] * 2 == seen


def test_an_exception_in_ask_ends_the_run_and_keeps_the_answers(tmp_path: Path, store: Path, toy: Toy) -> None:
    dataset = greys(tmp_path / "images", range(200))

    def break_down(mean: float) -> Mapping[str, Any]:
        if mean == 20:
            raise PrerequisiteError("the key is missing: run `toy login`")
        return {"mean": mean}

    with AnswerCache(store) as cache:
        with pytest.raises(
            RunError, match=r"'020\.png' .*PrerequisiteError: .*`toy login`; what was answered is kept"
        ) as caught:
            classify(dataset, replace(toy, answer=break_down, pause=0.002), cache)
        assert isinstance(caught.value.__cause__, PrerequisiteError)
        answered = set(toy.noted("done"))
        assert 18 <= len(answered) < 60
        before = len(toy.asked)
        table = classify(dataset, toy, cache)
    assert answered.isdisjoint(toy.asked[before:])
    assert 200 - len(answered) == len(toy.asked) - before
    assert expected_scores(range(200)) == scores(table)


def test_waiting_for_a_picture_that_breaks_down_ends_too(tmp_path: Path, store: Path, toy: Toy) -> None:
    def break_down(_: float) -> Mapping[str, Any]:
        raise OSError("the line is dead")

    with AnswerCache(store) as cache, pytest.raises(RunError, match="OSError: the line is dead"):
        classify(greys(tmp_path / "images", [5] * 20), replace(toy, answer=break_down, pause=0.05), cache)
    assert 1 == len(toy.asked)


def test_a_live_answer_of_another_version_stops_the_run(tmp_path: Path, store: Path, toy: Toy) -> None:
    dataset = greys(tmp_path / "images", range(40))
    changed = replace(toy, observed="toy-2")
    with AnswerCache(store) as cache:
        with pytest.raises(RunError, match=r"a live answer .*'toy-2'.*'toy-1'.*does not mix versions"):
            classify(dataset, changed, cache)
        assert len(toy.asked) <= toy.parallel
        assert 40 == plan_run(dataset, toy, cache).to_ask
        classify(dataset, toy, cache)
        with pytest.raises(RunError, match="a live answer comes from model version 'toy-2'"):
            classify(greys(tmp_path / "images", [*range(39), 200]), changed, cache)


def test_a_kept_answer_of_another_version_stops_the_run(tmp_path: Path, store: Path, toy: Toy) -> None:
    dataset = greys(tmp_path / "images", [1])
    with AnswerCache(store) as cache:
        classify(dataset, toy, cache)
        (pixels,) = toy.asked
        cache.keep_answer(pixels, toy.fingerprint, KeptAnswer({"mean": 1.0}, "toy-0", 1.0, 0.0, "2026-11-23T17:00:00Z"))
        with pytest.raises(RunError, match=r"an answer in the cache .*'toy-0'.*'toy-1'"):
            classify(dataset, toy, cache)


def test_an_approach_for_another_taxonomy_is_refused_before_anything_is_asked(
    tmp_path: Path, store: Path, toy: Toy
) -> None:
    dataset = greys(tmp_path / "images", [1])
    other = replace(toy, taxonomy=Taxonomy(("dark", "light"), unknown="grey"))
    with AnswerCache(store) as cache:
        for run in (classify, plan_run):
            with pytest.raises(RunError, match=r"toy was built for .*'light'.*'toys' is .*'bright'"):
                run(dataset, other, cache)
    assert [] == toy.asked


def test_a_torn_record_is_asked_again_and_counted(tmp_path: Path, store: Path, toy: Toy) -> None:
    dataset = greys(tmp_path / "images", range(5))
    with AnswerCache(store) as cache:
        first = classify(dataset, toy, cache)
        with cache.file.writing() as connection:
            connection.execute("UPDATE answers SET raw = '{' WHERE pixels = ?", (toy.asked[0],))
        assert 1 == plan_run(dataset, toy, cache).to_ask
    with AnswerCache(store) as cache:
        second = classify(dataset, toy, cache)
        assert cache.discarded >= 1
    assert [toy.asked[0]] == toy.asked[5:]
    assert first.scores.tobytes() == second.scores.tobytes()
    with AnswerCache(store) as cache:
        assert classify(dataset, toy, cache).frame["cached"].all()
        assert 0 == cache.discarded


def test_a_corrupt_cache_stops_the_run_with_advice(tmp_path: Path, store: Path, toy: Toy) -> None:
    dataset = greys(tmp_path / "images", range(50))
    with AnswerCache(store) as cache:
        classify(dataset, toy, cache)
    content = bytearray(store.read_bytes())
    content[4096:] = b"\x5a" * (len(content) - 4096)
    store.write_bytes(content)
    with AnswerCache(store) as cache, pytest.raises(RunError, match=r"answers\.sqlite: .*move it aside"):
        classify(dataset, toy, cache)
    assert 50 == len(toy.asked)


def test_a_killed_decoder_is_tried_again(
    tmp_path: Path, store: Path, toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = greys(tmp_path / "images", [1])
    with AnswerCache(store) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "prepare_bytes", lambda *_: Unprepared("decoder_crash", "killed after 10 s"))
            assert ["decoder_crash"] == list(classify(dataset, toy, cache).frame["outcome"])
        assert [OK] == list(classify(dataset, toy, cache).frame["outcome"])


@pytest.mark.parametrize("with_cache", [False, True])
def test_one_image_is_told_as_in_the_run(tmp_path: Path, store: Path, toy: Toy, with_cache: bool) -> None:
    images = tmp_path / "images"
    names = list(greys(images, [0, 1, 77, 254, 255]).frame["path"])
    noise = np.random.default_rng(1).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / "noise.jpg")
    (images / "cut.jpg").write_bytes((images / "noise.jpg").read_bytes()[:5000])
    (images / "empty.png").touch()
    (images / "text.png").write_text("<svg/>")
    names += ["noise.jpg", "cut.jpg", "empty.png", "text.png"]
    third = replace(toy, read=lambda raw: {"dark": binary32(raw["mean"] / 3 / 255), "bright": CENSORED})
    with AnswerCache(store) as cache:
        one = [classify_one((images / name).read_bytes(), name, third, cache if with_cache else None) for name in names]
        table = classify(dataset_of(images, names), third, cache)
    assert list(table.predictions()) == one
    assert [["dark", "bright"]] * 6 == [list(row.scores) for row in one if row.outcome == OK]
    assert with_cache == (len(toy.asked) == 6)
    assert isinstance(one[0], Prediction)


def test_one_image_of_another_version_raises(toy: Toy) -> None:
    with pytest.raises(RunError, match="does not mix versions"):
        classify_one(png(1), "a", replace(toy, observed="toy-2"))


def test_the_plan_counts_what_the_run_then_asks(tmp_path: Path, store: Path, toy: Toy) -> None:
    images = tmp_path / "images"
    greys(images, [1, 2, 3, 3, 4])
    (images / "003.png").write_bytes(png(3, compress_level=1))
    (images / "text.png").write_text("nothing")
    (images / "a.png").mkdir()
    names = [*(f"{place:03}.png" for place in range(5)), "text.png", "a.png"]
    dataset = dataset_of(images, names)
    with AnswerCache(store) as cache:
        classify(dataset_of(images, names[:2]), toy, cache)
        plan = plan_run(dataset, toy, cache)
        assert 2 == len(toy.asked)
        assert (7, 2, 4, 2, 2) == (plan.images, plan.unreadable, plan.pictures, plan.cached, plan.to_ask)
        assert 4 == plan.decoded  # three images and the text file; the directory has no bytes
        assert plan.seconds > 0
        again = plan_run(dataset, toy, cache)
        assert 0 == again.decoded
        assert replace(plan, decoded=0, seconds=again.seconds) == again
        classify(dataset, toy, cache)
        assert 2 + plan.to_ask == len(toy.asked)
        assert 0 == plan_run(dataset, toy, cache).to_ask


def test_a_plan_shows_itself(tmp_path: Path, store: Path, toy: Toy) -> None:
    dataset = greys(tmp_path / "images", range(3))
    with AnswerCache(store) as cache:
        plan = plan_run(dataset, replace(toy, name="<toy>"), cache)
    told = dict(line.split("  ", maxsplit=1) for line in str(plan).splitlines())
    assert {"approach": "<toy>", "images": "3", "to ask": "3"}.items() <= {
        key.strip(): value.strip() for key, value in told.items()
    }.items()
    assert "<th>approach</th><td>&lt;toy&gt;</td>" in plan._repr_html_()
    assert "<th>to ask</th><td>3</td>" in plan._repr_html_()


@pytest.mark.parametrize("run", [classify, plan_run])
def test_progress_is_shown_only_if_wanted(
    tmp_path: Path, store: Path, toy: Toy, capsys: pytest.CaptureFixture[str], run: Any
) -> None:
    dataset = greys(tmp_path / "images", range(3))
    with AnswerCache(store) as cache:
        run(dataset, toy, cache)
        assert ("", "") == capsys.readouterr()
        run(dataset, toy, cache, progress=True)
        out, shown = capsys.readouterr()
    assert "" == out
    assert "3/3" in shown


def run_script(folder: Path, store: Path, log: Path, out: Path, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *map(str, (folder, store, log, out, pause))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_answers(process: subprocess.Popen[str], toy: Toy, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(toy.noted("done")) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kept_pixels(store: Path, toy: Toy, values: Sequence[int]) -> set[str]:
    with AnswerCache(store) as cache:
        return {pixels for pixels in map(pixels_of, values) if cache.answer(pixels, toy.fingerprint)}


def pixels_of(grey: int) -> str:
    pixels = np.full((8, 8, 3), grey, dtype=np.uint8)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def test_after_kill_9_only_what_was_not_answered_is_asked(tmp_path: Path, store: Path, toy: Toy) -> None:
    values = range(120)
    dataset = greys(tmp_path / "images", values)
    process = run_script(dataset.root, store, toy.log, tmp_path / "run.parquet", 0.02)
    wait_for_answers(process, toy, 30)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    answered, before = set(toy.noted("done")), len(toy.asked)
    kept = kept_pixels(store, toy, values)
    assert 30 <= len(answered) < 120
    assert len(answered - kept) <= toy.parallel  # in flight between the answer and the file
    assert not (tmp_path / "run.parquet").exists()

    with AnswerCache(store) as cache:
        assert 120 - len(kept) == plan_run(dataset, toy, cache).to_ask
        table = classify(dataset, toy, cache)
        assert 0 == cache.discarded
    assert expected_scores(values) == scores(table)
    assert kept.isdisjoint(toy.asked[before:])
    assert 120 - len(kept) == len(toy.asked) - before


def test_ctrl_c_keeps_every_answer_and_says_how_to_go_on(tmp_path: Path, store: Path, toy: Toy) -> None:
    values = range(120)
    dataset = greys(tmp_path / "images", values)
    process = run_script(dataset.root, store, toy.log, tmp_path / "run.parquet", 0.02)
    wait_for_answers(process, toy, 20)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate()
    assert "KeyboardInterrupt" in told
    assert "toy: stopped; what was answered is kept, and running again asks only the rest" in told
    answered = toy.noted("done")
    assert 20 <= len(answered) == len(toy.asked) < 120
    assert set(answered) == kept_pixels(store, toy, values)


def test_two_processes_share_a_cache(tmp_path: Path, store: Path, toy: Toy) -> None:
    values = range(60)
    dataset = greys(tmp_path / "images", values)
    runs = [tmp_path / "one.parquet", tmp_path / "other.parquet"]
    processes = [run_script(dataset.root, store, toy.log, run, 0.01) for run in runs]
    for process in processes:
        assert ("", "") == process.communicate()
        assert 0 == process.returncode
    for run in runs:
        assert expected_scores(values) == scores(read_predictions(run))
    assert max(Counter(toy.asked).values()) <= 2  # at once at most: a paid call is at-least-once, a row exactly once
    before = len(toy.asked)
    with AnswerCache(store) as cache:
        assert classify(dataset, toy, cache).frame["cached"].all()
    assert before == len(toy.asked)


def main(folder: str, store: str, log: str, out: str, pause: str) -> None:
    root = Path(folder)
    dataset = dataset_of(root, sorted(path.name for path in root.iterdir()))
    with AnswerCache(Path(store)) as cache:
        write_predictions(classify(dataset, Toy(Path(log), float(pause)), cache), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
