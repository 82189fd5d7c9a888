from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelled_runs import make_labelled
from sharpened_runs import NAMES, drawn
from workbench.errors import DocumentError, RunError
from workbench.evaluation.calibration import METHODS, Calibrator, Method, choose_method, fit_calibrator
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.reliability import measure_calibration
from workbench.records import CENSORED, MISSING, Mode, Taxonomy

any_score = st.one_of(st.floats(0, 1, width=32), st.just(CENSORED))


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
