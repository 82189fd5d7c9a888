from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from labelled_runs import make_labelled
from workbench.errors import DocumentError, RunError
from workbench.evaluation import figures
from workbench.evaluation.calibration import (
    METHODS,
    Calibrator,
    Method,
    binned_error,
    brier_score,
    choose_method,
    classwise_error,
    fit_calibrator,
    log_loss,
    measure_calibration,
    null_errors,
    rank_area,
    smooth_error,
)
from workbench.evaluation.labelled import Labelled
from workbench.records import CENSORED, MISSING, Mode, Taxonomy

NAMES = ("shoe", "boot", "bag")
STAIRS, SEVEN_OF_TEN = np.arange(100) / 100 + 0.005, np.arange(100) % 10 < 7
unit = st.floats(0, 1, width=32)
pairs = st.lists(st.tuples(unit, st.booleans()), min_size=1, max_size=40)


def drawn(
    n: int = 900,
    *,
    mode: Mode = "single-label",
    sharp: float = 2.5,
    complete: bool = True,
    seed: int = 4,
    splits: str | list[str] = "tune",
) -> Labelled:
    """Labels drawn from known probabilities; the scores are those, sharpened: p^sharp, brought back to sum one."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.4, (n, 3))
    right = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shown = (random.random((n, 1)) > right.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    scores = right**sharp / (right**sharp).sum(axis=1, keepdims=True)
    taxonomy = Taxonomy(NAMES, mode)
    return make_labelled([(NAMES[k],) for k in shown], scores, taxonomy=taxonomy, complete=complete, splits=splits)


def one_category(n: int, seed: int) -> Labelled:
    """Scores that are right, drawn from Beta(2, 3)."""
    random = np.random.default_rng(seed)
    scores = random.beta(2, 3, (n, 1))
    labels: list[tuple[str, ...]] = [("shoe",) if shown else () for shown in random.random(n) < scores[:, 0]]
    return make_labelled(labels, scores, taxonomy=Taxonomy(("shoe",), "multi-label"))


def test_published_check_numbers() -> None:
    assert 0.29 == pytest.approx(binned_error(STAIRS, SEVEN_OF_TEN, 10), abs=1e-12)
    assert 0.29 == pytest.approx(binned_error(STAIRS, SEVEN_OF_TEN, 10, "width"), abs=1e-12)
    random = np.random.default_rng(0)
    null = np.mean([null_errors(random.beta(8, 2, 200), 15, 50, seed).ece_width.mean for seed in range(40)])
    assert 0.0612 == pytest.approx(null, abs=0.003)


def test_the_smooth_error_of_the_stairs() -> None:
    """What relplot 1.0.3 gives; it is not installed here."""
    assert 0.25873 == pytest.approx(smooth_error(STAIRS, SEVEN_OF_TEN), abs=5e-6)


@pytest.mark.parametrize(
    ("images", "power", "truly", "expected"),
    [
        (20, 1, 1, 0.13056),
        (50, 1, 2, 0.1794),
        (100, 0.5, 1.5, 0.08733),
        (100, 2, 0.4, 0.23914),
        (200, 1, 0.2, 0.33753),
        (200, 3, 1, 0.03802),
        (400, 0.3, 3, 0.23769),
        (500, 0.7, 0.7, 0.08408),
        (1000, 1, 1.1, 0.02741),
        (1000, 2, 2, 0.13319),
        (2000, 0.2, 8, 0.4489),
        (3000, 4, 0.3, 0.271),
    ],
)
def test_the_smooth_error_is_that_of_relplot(images: int, power: float, truly: float, expected: float) -> None:
    place = np.arange(1, images + 1)
    p = (place * 0.618034 % 1) ** power
    assert expected == pytest.approx(smooth_error(p, place * 0.414214 % 1 < p**truly), abs=1e-4)


def smooth_by_definition(p: np.ndarray, y: np.ndarray, width: float) -> float:
    """The two sums over the mesh, image by image: each score, and its reflections at 0 and 1, within 0.5 of a point."""
    t = np.linspace(0, 1, max(200, round(10 / width)))
    away = np.abs(t[:, None, None] - np.stack([p, -p, 2 - p]))
    kernel = np.where(away <= 0.5, np.exp(-((away / width) ** 2) / 2), 0).sum(axis=1)
    return float(np.abs(kernel @ (y - p)).sum() / kernel.sum())


@pytest.mark.parametrize("case", range(5))
def test_the_smooth_error_has_the_least_bandwidth_that_it_does_not_exceed(case: int) -> None:
    random = np.random.default_rng(case)
    p = STAIRS if case == 0 else random.beta(2, 2 + 2 * case, 60)
    y = SEVEN_OF_TEN if case == 0 else random.random(60) < p**1.5
    steps = np.arange(2, 1025) / 1024
    width = next(step for step in steps if smooth_by_definition(p, y, step) <= step)
    assert smooth_by_definition(p, y, width) == pytest.approx(smooth_error(p, y), rel=1e-3)


def test_the_smooth_error_of_sure_scores_is_none_or_all() -> None:
    assert 0.0 == smooth_error(np.array([0.0, 1.0, 1.0]), np.array([False, True, True]))
    assert 1.0 == pytest.approx(smooth_error(np.ones(3), np.zeros(3)))


@given(pairs)
def test_measures_stay_in_their_range(rows: list[tuple[float, bool]]) -> None:
    p, y = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    mean_gap = abs(float((y - p).mean()))
    assert 0 <= brier_score(p, y) <= 1
    assert 0 <= log_loss(p, y) <= -math.log(1e-6) + 1e-9
    for edges in ("mass", "width"):
        assert mean_gap - 1e-9 <= binned_error(p, y, edges=edges) <= 1 + 1e-9  # type: ignore[arg-type]
    assert 0 <= smooth_error(p, y) <= float(np.abs(y - p).max()) + 1e-9
    if 0 < y.sum() < len(y):
        assert rank_area(p, y) == pytest.approx(roc_auc_score(y, p))
    assert brier_score(p, y) == pytest.approx(brier_score_loss(y, p))


@given(pairs)
def test_the_brier_score_decomposes_where_scores_are_few(rows: list[tuple[float, bool]]) -> None:
    """Murphy 1973: reliability − resolution + uncertainty, by distinct score."""
    p, y = np.round([row[0] for row in rows], 1), np.array([row[1] for row in rows], dtype=float)
    levels, place, counts = np.unique(p, return_inverse=True, return_counts=True)
    rates = np.bincount(place, y) / counts
    share = counts / len(p)
    reliability = (share * (levels - rates) ** 2).sum()
    resolution = (share * (rates - y.mean()) ** 2).sum()
    assert brier_score(p, y) == pytest.approx(reliability - resolution + y.mean() * (1 - y.mean()))


@given(pairs, st.randoms(use_true_random=False))
def test_equal_mass_bins_do_not_depend_on_the_order_of_ties(rows: list[tuple[float, bool]], shuffle: object) -> None:
    rounded = [(round(p, 1), y) for p, y in rows]
    other = list(rounded)
    shuffle.shuffle(other)  # type: ignore[attr-defined]
    found = [binned_error(np.array([p for p, _ in part]), np.array([y for _, y in part])) for part in (rounded, other)]
    assert found[0] == pytest.approx(found[1])


def test_classwise_is_the_mean_over_columns() -> None:
    labelled = drawn(200)
    p = labelled.scores.astype(float)
    expected = np.mean([binned_error(p[:, k], labelled.truth[:, k]) for k in range(3)])
    assert expected == pytest.approx(classwise_error(p, labelled.truth))
    assert expected == pytest.approx(measure_calibration(labelled, resamples=0).frame()["classwise_ece"].iloc[-1])


@pytest.mark.parametrize(
    ("p", "y", "fault"),
    [
        ([0.5, 1.5], [0, 1], r"lie in \[0, 1\]"),
        ([0.5, CENSORED], [0, 1], "what CENSORED and MISSING mean"),
        ([0.5, MISSING], [0, 1], "what CENSORED and MISSING mean"),
        ([0.5, 0.5], [0, 2], "true or false"),
        ([0.5], [0, 1], "one shape"),
        ([[0.5]], [[1]], "one shape"),
    ],
)
def test_measures_refuse_what_is_no_probability(p: list[float], y: list[int], fault: str) -> None:
    for measure in (brier_score, log_loss, binned_error, smooth_error, rank_area):
        with pytest.raises(ValueError, match=fault):
            measure(np.array(p), np.array(y))


def test_no_images_give_no_number() -> None:
    nothing = np.zeros(0)
    for measure in (brier_score, log_loss, binned_error, smooth_error, rank_area):
        assert math.isnan(measure(nothing, nothing))


any_score = st.one_of(unit, st.just(CENSORED))


@st.composite
def small_runs(draw: st.DrawFn) -> Labelled:
    n = draw(st.integers(1, 25))
    rows = draw(st.lists(st.lists(any_score, min_size=3, max_size=3), min_size=n, max_size=n))
    shown = draw(st.lists(st.sampled_from([(), ("shoe",), ("boot",)]), min_size=n, max_size=n))
    mode: Mode = draw(st.sampled_from(["single-label", "multi-label"]))
    return make_labelled(shown, rows, taxonomy=Taxonomy(NAMES, mode), complete=draw(st.booleans()))


@settings(max_examples=60)
@given(small_runs(), st.sampled_from([name for name in METHODS if name != "isotonic"]), st.lists(any_score, min_size=2))
def test_order_is_preserved_and_nothing_is_nan(labelled: Labelled, method: Method, scores: list[float]) -> None:
    calibrator = fit_calibrator(labelled, method)
    if calibrator.whole:
        rows = np.array([[first, second, 0.5] for first, second in pairwise(scores)])
        found = calibrator.apply(rows)
        assert ((rows[:, 0] <= rows[:, 1]) <= (found[:, 0] <= found[:, 1])).all()
        assert found.sum(axis=1) == pytest.approx(np.ones(len(rows)))
    else:
        rising = np.sort(np.array(scores))
        found = calibrator.apply(np.tile(rising[:, None], 3))
        assert (np.diff(found, axis=0) >= 0).all()
    missing = calibrator.apply(np.full((1, 3), MISSING))
    assert ((found >= 0) & (found <= 1)).all()
    assert ((missing > 0) & (missing < 1)).all()


@given(st.lists(any_score, min_size=2, max_size=60))
def test_isotonic_preserves_order(scores: list[float]) -> None:
    rising = np.sort(np.array(scores))
    assert (np.diff(ISOTONIC.apply(np.tile(rising[:, None], 3)), axis=0) >= 0).all()


ISOTONIC = fit_calibrator(drawn(12_000), "isotonic")


@pytest.mark.parametrize("method", ["temperature", "platt", "beta", "isotonic"])
@pytest.mark.parametrize("mode", ["single-label", "multi-label"])
def test_every_method_takes_most_of_the_error_away_on_fresh_images(method: Method, mode: Mode) -> None:
    calibrator = fit_calibrator(drawn(12_000, mode=mode), method)
    fresh = measure_calibration(drawn(4_000, mode=mode, seed=8, splits="certify"), calibrator, resamples=0)
    raw, calibrated = fresh.raw[-1], fresh.calibrated[-1]
    assert 0.05 < raw.smece.value
    assert calibrated.smece.value < raw.smece.value / 2
    assert calibrated.brier.value < raw.brier.value
    assert calibrated.log_loss.value < raw.log_loss.value


def test_the_temperature_of_a_sharpened_distribution_is_found_again() -> None:
    calibrator = fit_calibrator(drawn(20_000, sharp=2.5), "temperature")
    assert calibrator.whole
    assert 2.5 == pytest.approx(calibrator.parameters[0][0], rel=0.03)


def test_a_rare_category_borrows_from_the_others() -> None:
    labelled = drawn(2_000, mode="multi-label")
    truth = labelled.truth.copy()
    truth[:, 2] = np.arange(2_000) < 2
    pooled = fit_calibrator(replace(labelled, truth=truth), "platt")
    assert 0 < pooled.parameters[2][0] < math.inf
    assert pooled.parameters[2][1] < pooled.parameters[0][1]


def test_parted_classes_give_finite_parameters() -> None:
    labelled = make_labelled([("shoe",), ("boot",)], [[0.9, 0.1, 0], [0.1, 0.9, 0]], taxonomy=Taxonomy(NAMES))
    for method in METHODS[:-1]:
        calibrator = fit_calibrator(labelled, method)
        assert np.isfinite([number for row in calibrator.parameters for number in row]).all()


def test_auto_goes_by_images_per_category() -> None:
    truth = np.zeros((9_000, 3), dtype=bool)
    for shown, expected in ((49, "temperature"), (50, "platt"), (999, "platt"), (1_000, "beta")):
        truth[:shown] = True
        assert expected == choose_method(truth)
    assert "platt" == fit_calibrator(drawn(900)).method


def test_only_tune_teaches() -> None:
    labelled = drawn(900, splits=["tune", "certify", "train"] * 300)
    assert fit_calibrator(labelled.on("tune"), "beta") == fit_calibrator(labelled, "beta")
    assert 300 == fit_calibrator(labelled).images
    with pytest.raises(RunError, match="fitted on tune, and no labelled image there"):
        fit_calibrator(labelled.on("certify"))


def test_isotonic_is_refused_where_labels_are_few() -> None:
    with pytest.raises(RunError, match=r"needs about 10,000 labelled images on tune, not 9,999; take platt or beta"):
        fit_calibrator(drawn(9_999), "isotonic")


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="no calibration method is called 'magic'"):
        fit_calibrator(drawn(50), "magic")  # type: ignore[arg-type]


def test_censored_scores_share_one_probability() -> None:
    labelled = drawn(3_000, mode="multi-label")
    low = labelled.scores[:, 0] < 0.2
    share = float(labelled.truth[low, 0].mean())
    scores = labelled.scores.copy()
    scores[low, 0] = CENSORED
    calibrator = fit_calibrator(replace(labelled, scores=scores), "platt")
    found = calibrator.apply(np.array([[CENSORED, 0.5, 0.5], [0.0, 0.5, 0.5], [0.2, 0.5, 0.5]]))[:, 0]
    assert share == pytest.approx(found[0], abs=0.002)
    assert found[0] == found[1] < found[2]


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


def test_a_calibrator_survives_its_document() -> None:
    for calibrator in (fit_calibrator(drawn(300)), fit_calibrator(drawn(300), "none"), ISOTONIC):
        text = json.dumps(calibrator.document(), allow_nan=False)
        assert calibrator == Calibrator.from_document(json.loads(text))
    with pytest.raises(DocumentError, match="/censored/0"):
        Calibrator.from_document({**ISOTONIC.document(), "censored": [2.0, 0.0, 0.0]})


def test_one_category_takes_a_plain_array() -> None:
    labelled = make_labelled([("shoe",), ()], [[0.9], [0.2]], taxonomy=Taxonomy(("shoe",), "multi-label"))
    calibrator = fit_calibrator(labelled, "platt")
    assert (2,) == calibrator.apply(np.array([0.9, 0.2])).shape
    assert calibrator.apply(np.array([0.9, 0.2])).tolist() == calibrator.apply(np.array([[0.9], [0.2]]))[:, 0].tolist()


def test_apply_refuses_what_are_no_scores() -> None:
    calibrator = fit_calibrator(drawn(300))
    with pytest.raises(ValueError, match=r"\(2,\) must have one column for each of 3 categories"):
        calibrator.apply(np.array([0.1, 0.2]))
    for wrong in (-0.1, 1.1, math.inf):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\], or be −inf"):
            calibrator.apply(np.full((1, 3), wrong))


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
