from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelled_runs import make_dataset, make_labelled, make_run
from workbench.errors import RunError
from workbench.evaluation.labelled import join
from workbench.predictions import PredictionTable
from workbench.records import CENSORED, MISSING, Taxonomy

TAXONOMY = Taxonomy(("shoe", "boot", "bag"))
LABELS: list[tuple[str, ...] | None] = [("shoe",), (), None, ("bag",)]
SCORES = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.9, 0.1, 0.0], [0.1, 0.2, 0.7]], dtype=np.float32)


def test_rows_follow_the_data_set_and_images_without_label_are_left_out() -> None:
    dataset = make_dataset(LABELS, TAXONOMY, splits=["tune", "tune", "tune", "certify"])
    run = make_run(dataset, SCORES, unknown=[0.1, 0.2, 0.3, 0.4], outcomes=["ok", "ok", "ok", "corrupt"])
    shuffled = PredictionTable(run.frame.iloc[[2, 0, 3, 1]].reset_index(drop=True), run.info)
    labelled = join(shuffled, dataset)
    assert ["0.png", "1.png", "3.png"] == labelled.frame["image_id"].tolist()
    assert SCORES[[0, 1, 3]].tolist() == labelled.scores.tolist()
    assert labelled.unknown_scores is not None
    assert [0.1, 0.2, 0.4] == pytest.approx(labelled.unknown_scores.tolist())
    assert [[True, False, False], [False] * 3, [False, False, True]] == labelled.truth.tolist()
    assert [True, True, False] == labelled.answered.tolist()
    assert [False, True, False] == labelled.unknown.tolist()
    assert ("certify", "tune") == labelled.splits


def test_the_frame_has_the_columns_of_the_run_then_those_of_the_data_set() -> None:
    columns = {"camera": ["x", "y", "z", "x"], "outcome": ["brought", "by", "the", "data"]}
    dataset = make_dataset(LABELS, TAXONOMY, columns=columns)
    frame = join(make_run(dataset, SCORES), dataset).frame
    fixed = ["image_id", "outcome", "split", "group", "weight", "source", "labels"]
    assert [*fixed, "camera", "outcome (data set)"] == list(frame.columns)
    assert ["ok", "ok", "ok"] == frame["outcome"].tolist()
    assert ["brought", "by", "data"] == frame["outcome (data set)"].tolist()


def test_on_keeps_every_part_in_step() -> None:
    dataset = make_dataset(LABELS, TAXONOMY, splits=["tune", "certify", "tune", "tune"])
    tune = join(make_run(dataset, SCORES), dataset).on("tune")
    assert ["0.png", "3.png"] == tune.frame["image_id"].tolist()
    assert [0, 1] == tune.frame.index.tolist()
    assert (2, 2, 2, 2) == (len(tune.scores), len(tune.truth), len(tune.answered), len(tune.unknown))
    assert SCORES[[0, 3]].tolist() == tune.scores.tolist()


def test_images_that_differ_are_named() -> None:
    dataset = make_dataset(LABELS, TAXONOMY)
    other = make_dataset(LABELS, TAXONOMY, ids=["0.png", "1.png", "2.png", "x.png"])
    with pytest.raises(RunError) as refused:
        join(make_run(dataset, SCORES), other)
    assert "images only in the data set: 'x.png'" in str(refused.value)
    assert "images only in the run: '3.png'" in str(refused.value)


def test_many_images_that_differ_are_counted() -> None:
    run, larger = make_run(make_dataset(LABELS, TAXONOMY), SCORES), make_dataset([("bag",)] * 9, TAXONOMY)
    with pytest.raises(RunError, match=r"only in the data set: '4\.png', '5\.png', '6\.png' and 2 more"):
        join(run, larger)


@pytest.mark.parametrize(
    ("taxonomy", "message"),
    [
        (
            Taxonomy(("shoe", "boot", "hat")),
            "categories only in the run: 'bag'; categories only in the data set: 'hat'",
        ),
        (Taxonomy(("shoe", "bag", "boot")), "the categories stand in another order"),
        (Taxonomy(TAXONOMY.categories, "multi-label"), "the run is single-label, the data set multi-label"),
        (Taxonomy(TAXONOMY.categories, unknown="other"), "the run calls unknown 'unknown', the data set 'other'"),
    ],
)
def test_taxonomies_that_differ_are_told_apart(taxonomy: Taxonomy, message: str) -> None:
    labels = [shown and ("shoe",) for shown in LABELS]
    run = make_run(make_dataset(labels, TAXONOMY), SCORES)
    with pytest.raises(RunError, match=message):
        join(run, make_dataset(labels, taxonomy))


def test_how_outside_labels_are_read_makes_no_difference() -> None:
    dataset = make_dataset(LABELS, TAXONOMY)
    lenient = make_dataset(LABELS, Taxonomy(TAXONOMY.categories, outside="unknown"))
    assert 3 == len(join(make_run(dataset, SCORES), lenient))


def test_changed_contents_are_refused(tmp_path: Path) -> None:
    for name in ("0.png", "1.png", "2.png", "3.png"):
        (tmp_path / name).write_bytes(name.encode())
    run = make_run(make_dataset(LABELS, TAXONOMY, root=tmp_path), SCORES)
    assert 3 == len(join(run, make_dataset(LABELS, TAXONOMY, root=tmp_path)))
    (tmp_path / "2.png").write_bytes(b"another picture")
    with pytest.raises(RunError, match="contents, labels, splits, groups, weights or sources are not those of the run"):
        join(run, make_dataset(LABELS, TAXONOMY, root=tmp_path))


@pytest.mark.parametrize(
    ("scores", "top"),
    [
        ([0.2, 0.5, 0.3], 1),
        ([0.0, CENSORED, CENSORED], 0),
        ([0.4, 0.4, 0.2], -1),
        ([CENSORED, CENSORED, CENSORED], -1),
        ([0.9, MISSING, 0.1], -1),
        ([MISSING, MISSING, MISSING], -1),
    ],
)
def test_top_is_the_single_highest_score(scores: list[float], top: int) -> None:
    assert [top] == make_labelled([("shoe",)], [scores], taxonomy=TAXONOMY).top().tolist()


def test_the_only_category_is_not_the_top_where_it_is_censored() -> None:
    labelled = make_labelled([("shoe",)] * 2, [[CENSORED], [0.0]], taxonomy=Taxonomy(("shoe",)))
    assert [-1, 0] == labelled.top().tolist()


def test_a_failed_image_and_a_missing_score_of_unknown_have_no_top() -> None:
    labelled = make_labelled(
        [("shoe",)] * 3,
        [[0.9, 0.1, 0.0]] * 3,
        taxonomy=TAXONOMY,
        unknown=[0.1, MISSING, 0.1],
        outcomes=["ok", "ok", "truncated"],
    )
    assert [0, -1, -1] == labelled.top().tolist()
    assert [True, False, False] == labelled.usable.tolist()
    assert [[CENSORED] * 3] * 2 == labelled.usable_scores()[1:].tolist()
