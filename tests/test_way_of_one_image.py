"""The way of one image, as ARCHITECTURE.md tells it: a dress that looks like trousers passes every room."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from workbench.approaches.base import Setting, build_approach, learner_class
from workbench.canonical import shortest_binary32
from workbench.config.store import store_folder
from workbench.dataset.opening import open_dataset
from workbench.decision import decide
from workbench.evaluation.labelled import join
from workbench.evaluation.summary import evaluate
from workbench.evaluation.thresholds import draft_thresholds
from workbench.policy import read_policy, write_policy
from workbench.predictions import SCORE, read_predictions, write_predictions
from workbench.prepare.decode import Prepared, prepare_bytes, read_image_file
from workbench.records import Image, Prediction
from workbench.release.gate import release_draft
from workbench.report.page import write_report
from workbench.runs.cache import AnswerCache
from workbench.runs.runner import classify, classify_one

IMAGE = "images/tune/dress/train-32462.png"


def test_the_way_of_one_image(store: Path, datasets: Path, tmp_path: Path) -> None:
    # It stands in a manifest.
    with (datasets / "fashion" / "manifest.csv").open(newline="") as file:
        written = next(row for row in csv.DictReader(file) if row["image"] == IMAGE)
    assert {"image": IMAGE, "label": "dress", "split": "tune", "source": "catalogue"} == written

    # `dataset` makes it an image with labels, a group and a split.
    opened = open_dataset("fashion", datasets=datasets)
    dataset = opened.dataset
    place = list(dataset.frame["image_id"]).index(IMAGE)
    assert Image(IMAGE, ("dress",), IMAGE, "tune") == list(dataset)[place]

    # `prepare` turns its bytes into pixels: 28 × 28 grey becomes 224 × 224 sRGB.
    setting = Setting(dataset.taxonomy, opened.label_map("local-trained"), store_folder())
    trained = learner_class("local-trained").artefact(dataset, setting)
    if not trained.exists():
        assert trained == learner_class("local-trained").fit(dataset, setting)
    assert trained.is_relative_to(store)
    approach = build_approach("local-trained", dataset, setting)
    data = read_image_file(dataset.file(IMAGE))
    assert isinstance(data, bytes)
    prepared = prepare_bytes(data, approach.preparation)
    assert isinstance(prepared, Prepared)
    assert ((224, 224, 3), np.uint8) == (prepared.pixels.shape, prepared.pixels.dtype)

    # `runs` asks: request → cache miss → ask → kept → parse → prediction. The second time nothing is asked.
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        assert cache.answer(prepared.digest, approach.fingerprint) is None
        prediction = classify_one(data, IMAGE, approach, cache)
        kept = cache.answer(prepared.digest, approach.fingerprint)
        asked = approach.ask(approach.request(prepared))
        assert kept is not None
        assert (asked.raw, asked.model_version) == (kept.raw, kept.model_version)
        assert prediction.scores == approach.parse(kept.raw)
        assert prediction == classify_one(data, IMAGE, approach, cache)
    assert "ok" == prediction.outcome
    assert "trouser" == max(prediction.scores, key=lambda name: prediction.scores[name])

    # A row in `predictions`, whose run names approach, version and data set, holds the very same.
    with AnswerCache(store_folder() / "answers.sqlite") as cache:
        write_predictions(classify(dataset, approach, cache), tmp_path / "run.parquet")
    run = read_predictions(tmp_path / "run.parquet")
    assert ("local-trained", approach.model_version) == (run.info.origin.approach, run.info.origin.model_version)
    assert (dataset.digest, dataset.taxonomy) == (run.info.dataset, run.info.taxonomy)
    assert prediction == list(run.predictions())[place]
    assert np.float32(prediction.scores["trouser"]) == run.frame[SCORE + "trouser"][place]

    # `evaluation` drafts a threshold on tune, where it counts as one of the errors.
    labelled = join(run, dataset)
    draft = draft_thresholds(labelled, opened.goals, len(labelled.on("certify")))
    tier = next(tier for tier in draft.tiers if tier.category == "trouser")
    assert tier.asked is not None
    assert draft.rejection.threshold is not None
    assert tier.asked <= prediction.scores["trouser"] < draft.rejection.threshold

    # `release` walks the draft's grid on certify, where it has no part, and proves the threshold.
    release = release_draft(draft, run, dataset)
    assert release.policy is not None, release.refusals
    promise = next(promise for promise in release.policy.evidence.promises if promise.category == "trouser")
    assert [step.threshold for step in promise.walk] == list(tier.grid[: len(promise.walk)])
    assert ("certified", tier.asked) == (promise.verdict, promise.asked)
    assert promise.certified is not None
    assert promise.lower_bound is not None
    assert (tier.asked, 0.9) <= (promise.certified, promise.lower_bound)

    # `policy.json` carries threshold and evidence.
    write_policy(release.policy, tmp_path / "policy.json")
    document = json.loads((tmp_path / "policy.json").read_text())
    rule = next(rule for rule in document["categories"] if rule["category"] == "trouser")
    assert shortest_binary32(promise.certified) == rule["tiers"][0]["threshold"]
    stated = next(stated for stated in document["evidence"]["promises"] if stated["category"] == "trouser")
    assert (promise.successes, promise.trials) == (stated["successes"], stated["trials"])

    # In production `decide` sends it to a person: it reaches the threshold of trousers, but is rejected as unknown.
    policy = read_policy(tmp_path / "policy.json")
    decision = decide(prediction, policy)
    top = shortest_binary32(prediction.scores["trouser"])
    limit = shortest_binary32(draft.rejection.threshold)
    assert ("review", ("unknown",), "rejected") == (decision.action, decision.labels, decision.code)
    assert f"rejected: top {top:.9g} < {limit:.9g}" == decision.reason
    assert document["digest"] == decision.policy
    elsewhere = decide(Prediction(IMAGE, None, "ok", prediction.scores), policy)
    assert ("review", "origin") == (elsewhere.action, elsewhere.code)

    # `report` shows it among the most confident mistakes, and the promises.
    evaluations = {"local-trained": evaluate(labelled)}
    page = write_report(tmp_path / "report.html", title="way", evaluations=evaluations, dataset=dataset, policy=policy)
    text = page.read_text()
    assert f'alt="{IMAGE}"' in text
    assert document["digest"] in text
