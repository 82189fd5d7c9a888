from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labelled_runs import make_labelled
from sharpened_runs import NAMES, drawn
from workbench.evaluation import figures
from workbench.evaluation.calibration import fit_calibrator
from workbench.evaluation.calibration_error import brier_score, rank_area, smooth_error
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.reliability import measure_calibration
from workbench.records import CENSORED, MISSING, Taxonomy


def one_category(n: int, seed: int) -> Labelled:
    """Scores that are right, drawn from Beta(2, 3)."""
    random = np.random.default_rng(seed)
    scores = random.beta(2, 3, (n, 1))
    labels: list[tuple[str, ...]] = [("shoe",) if shown else () for shown in random.random(n) < scores[:, 0]]
    return make_labelled(labels, scores, taxonomy=Taxonomy(("shoe",), "multi-label"))


def test_raw_censored_counts_as_zero_and_missing_leaves_the_image_out() -> None:
    labels: list[tuple[str, ...]] = [("shoe",), ("boot",), ("bag",), ("bag",)]
    scores = [[CENSORED, 0.6, CENSORED], [0.1, 0.9, 0.2], [0.2, MISSING, 0.7], [0.1, 0.1, 0.8]]
    labelled = make_labelled(labels, scores, taxonomy=Taxonomy(NAMES), outcomes=["ok", "ok", "ok", "corrupt"])
    found = measure_calibration(labelled, fit_calibrator(labelled))
    assert 2 == found.left_out
    assert (1 + 0.1**2) / 2 == pytest.approx(found.raw[0].brier.value)
    assert [2, 2, 2, 2] == [row.images for row in found.raw]
    assert [1, 1, 0, 1] == [row.positives for row in found.raw]


def test_the_top_label_is_measured_against_being_right() -> None:
    labelled = drawn(500)
    top = labelled.scores.argmax(axis=1)
    right = labelled.truth[np.arange(500), top]
    overall = measure_calibration(labelled, resamples=0).overall
    assert ("", "top label", "raw", 500, int(right.sum())) == (
        overall.category,
        overall.of,
        overall.scores,
        overall.images,
        overall.positives,
    )
    assert brier_score(labelled.scores.max(axis=1), right) == pytest.approx(overall.brier.value)
    assert rank_area(labelled.scores.max(axis=1), right) == pytest.approx(overall.auroc.value)


def test_multi_label_counts_every_pair() -> None:
    labelled = drawn(300, mode="multi-label")
    overall = measure_calibration(labelled, resamples=0).overall
    assert ("all categories", 900, 300) == (overall.of, overall.images, overall.positives)
    assert smooth_error(labelled.scores.ravel(), labelled.truth.ravel()) == pytest.approx(overall.smece.value, abs=1e-4)


def test_a_right_model_is_within_its_null_and_a_sharp_one_beyond() -> None:
    right, sharp = (measure_calibration(drawn(2_000, sharp=sharp)).overall for sharp in (1.0, 2.5))
    for name in ("ece", "ece_width", "smece"):
        assert getattr(right, name).value < 1.3 * getattr(right.null, name).high
        assert getattr(sharp, name).low > getattr(sharp.null, name).high
        assert getattr(sharp, name).low < getattr(sharp, name).value < getattr(sharp, name).high


def test_brier_intervals_cover_and_shrink_with_images() -> None:
    truth = 2 * 3 / (5 * 6)  # E[p (1 − p)] of Beta(2, 3)
    found = [measure_calibration(one_category(300, seed)).raw[0].brier for seed in range(30)]
    assert 25 <= sum(brier.low <= truth <= brier.high for brier in found)
    wide, narrow = np.mean([brier.high - brier.low for brier in found]), measure_calibration(one_category(4_800, 1))
    assert wide / 4 == pytest.approx(narrow.raw[0].brier.high - narrow.raw[0].brier.low, rel=0.25)


def test_bootstrap_resamples_groups() -> None:
    """Four copies of each image in one group tell no more than one copy."""
    single = one_category(150, 2)
    copied = single
    for name in ("scores", "truth", "answered", "unknown"):
        copied = replace(copied, **{name: np.repeat(getattr(single, name), 4, axis=0)})
    copied = replace(copied, frame=single.frame.loc[np.repeat(np.arange(150), 4)].reset_index(drop=True))
    together = measure_calibration(copied).overall.brier
    apart = measure_calibration(replace(copied, frame=copied.frame.assign(group=range(600)))).overall.brier
    alone = measure_calibration(single).overall.brier
    assert alone.value == pytest.approx(together.value)
    assert alone.high - alone.low == pytest.approx(together.high - together.low, rel=1e-6)
    assert apart.high - apart.low == pytest.approx((together.high - together.low) / 2, rel=0.2)


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, again, other = (measure_calibration(drawn(200), seed=seed).frame() for seed in (3, 3, 4))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_calibrator_of_other_categories_is_refused() -> None:
    other = make_labelled([("a",)], [[0.5, 0.5]], taxonomy=Taxonomy(("a", "b")))
    with pytest.raises(ValueError, match="the calibrator is for a, b, the run for shoe, boot, bag"):
        measure_calibration(drawn(20), fit_calibrator(other))
    with pytest.raises(ValueError, match="at least one bin, not 0"):
        measure_calibration(drawn(20), bins=0)


def test_the_frame_has_a_row_per_category_and_one_overall_for_each_series() -> None:
    labelled = drawn(120)
    frame = measure_calibration(labelled, fit_calibrator(labelled)).frame()
    assert [*NAMES, "", *NAMES, ""] == frame["category"].tolist()
    assert ["raw"] * 4 + ["temperature"] * 4 == frame["scores"].tolist()
    assert {"tune (optimistic: the tune split chose thresholds)"} == set(frame["measured_on"])
    assert "certify" == measure_calibration(drawn(20, splits="certify")).measured_on


def test_the_diagram_tells_its_series_apart_by_marker() -> None:
    labelled = drawn(300)
    ax = measure_calibration(labelled, fit_calibrator(labelled)).plot(figures.new_axes())
    legend = ax.get_legend()
    assert legend is not None
    assert ["raw", "platt"] == [text.get_text().partition(":")[0] for text in legend.get_texts()]
    markers = [dots for dots in ax.collections if len(dots.get_offsets()) == 15]
    assert 2 == len({dots.get_paths()[0].vertices.shape for dots in markers})
    assert "Reliability, boot" == measure_calibration(labelled).plot(category="boot").get_title(loc="left")
    with pytest.raises(KeyError, match="no category is called 'hat'"):
        measure_calibration(labelled).plot(category="hat")


def test_nothing_to_measure_is_shown_as_such() -> None:
    labelled = make_labelled([("shoe",)], [[MISSING] * 3], taxonomy=Taxonomy(NAMES))
    found = measure_calibration(labelled)
    assert 1 == found.left_out
    assert found.frame()["brier"].isna().all()
    assert ["no image with scores"] == [text.get_text() for text in found.plot().texts if "image" in text.get_text()]
