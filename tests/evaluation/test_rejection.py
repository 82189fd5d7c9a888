from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelled_runs import make_labelled
from workbench.evaluation import selective
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.rejection import RejectionMeasures, measure_rejection, measure_signals
from workbench.records import CENSORED, MISSING, Rejection, Taxonomy

TAXONOMY = Taxonomy(("shoe", "boot", "bag"), unknown="_other")
SCORES = [[0.8, 0.1, 0.1], [0.3, 0.45, 0.25], [0.4, 0.4, 0.2], [0.5, 0.3, 0.2], [0.36, 0.34, 0.3], [MISSING, 0.9, 0.1]]
LABELS: list[tuple[str, ...]] = [("shoe",), ("shoe",), ("bag",), (), (), ()]


def small(**more: Any) -> Labelled:
    sources = {"source": ["", "", "", "near", "far", "far"]}
    return make_labelled(LABELS, SCORES, taxonomy=TAXONOMY, complete=True, columns=sources, **more)


def large(images: int = 400, seed: int = 0, decimals: int = 7) -> Labelled:
    """Known images, and unknown ones of which the near third is hard to tell and the rest easy."""
    random = np.random.default_rng(seed)
    shown = random.integers(0, 4, images)
    near = (shown == 3) & (np.arange(images) % 3 == 0)
    sharp = np.where(shown < 3, 4.0, np.where(near, 3.0, 0.5))
    logits = random.normal(size=(images, 3))
    logits[np.arange(images), shown % 3] += sharp
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = scores.round(decimals)
    labels = [(TAXONOMY.categories[place],) if place < 3 else () for place in shown]
    columns = {"source": np.where(near, "near", np.where(shown == 3, "far", "")).tolist()}
    return make_labelled(labels, scores, taxonomy=TAXONOMY, complete=True, columns=columns)


def value(found: RejectionMeasures, signal: str, measure: str, source: str = "", population: str = "") -> float:
    rows = [
        estimate.value
        for estimate in found.estimates
        if (estimate.signal, estimate.measure, estimate.source) == (signal, measure, source)
        and population in ("", estimate.population)
    ]
    assert 1 == len(rows)
    return rows[0]


def test_measures_are_those_of_the_plain_arrays() -> None:
    found = measure_rejection(small())
    assert 1 == found.left_out
    assert ("far", "near") == found.sources
    # The tie of the third row is never accepted, whatever its highest score.
    top, right = np.float32([0.8, 0.45, -np.inf]), [True, False, False]
    near, far = np.float32([0.5]), np.float32([0.36])
    assert selective.auroc(top, near) == value(found, "top", "AUROC", "near")
    assert selective.auroc(top, far) == value(found, "top", "AUROC", "far")
    assert selective.oscr(top, right, [*near, *far]) == value(found, "top", "OSCR")
    assert selective.fpr_at_95_tpr(top, [*near, *far]) == value(found, "top", "FPR@95TPR")
    assert selective.aurc(top, np.invert(right)) == value(found, "top", "AURC", population="known")
    everything, error = [*top, *near], [False, True, True, True]
    assert selective.augrc(everything, error) == value(found, "top", "AUGRC", "near", "known + unknown")
    assert selective.aurc(everything, error) == pytest.approx(value(found, "top", "AURC", "near", "known + unknown"))


def test_every_signal_that_fits_and_every_source_has_its_rows() -> None:
    frame = measure_rejection(large()).frame()
    assert ["top", "margin", "entropy"] == frame["signal"].unique().tolist()
    assert 3 * (2 + 3 * 5) == len(frame)
    of_top = frame[(frame["signal"] == "top") & (frame["measure"] == "AUROC")].set_index("source")
    assert ["every source", "one source", "one source"] == of_top["unknown_from"].tolist()
    assert of_top["value"]["near"] < of_top["value"][""] < of_top["value"]["far"]
    assert of_top["unknown"][""] == of_top["unknown"]["near"] + of_top["unknown"]["far"]
    assert ["known", "known + unknown"] == frame["population"][frame["measure"] == "AURC"].unique().tolist()
    assert {"tune (optimistic: the tune split chose thresholds)"} == set(frame["measured_on"])
    assert ["top", "margin"] == list(measure_rejection(without_distribution(large())).signals)


def without_distribution(labelled: Labelled) -> Labelled:
    return replace(labelled, info=replace(labelled.info, complete=False))


def test_intervals_hold_the_figure_and_say_how_they_were_made() -> None:
    frame = measure_rejection(large()).frame()
    assert ((frame["low"] <= frame["value"]) & (frame["value"] <= frame["high"])).all()
    assert (frame["low"] < frame["high"]).all()
    assert {500} == set(frame["resamples"])
    narrow = measure_rejection(large(), confidence=0.5).frame()
    assert (narrow["high"] - narrow["low"] < frame["high"] - frame["low"]).all()
    assert measure_rejection(large(), resamples=20).frame().equals(measure_rejection(large(), resamples=20).frame())


def test_the_interval_of_auroc_is_about_that_of_hanley_and_mcneil() -> None:
    frame = measure_rejection(large(2000)).frame()
    row = frame[(frame["measure"] == "AUROC") & (frame["signal"] == "top")].iloc[0]
    area, known, unknown = row["value"], row["known"], row["unknown"]
    both = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    error = np.sqrt((area * (1 - area) + (unknown - 1) * both[0] + (known - 1) * both[1]) / known / unknown)
    assert 2 * 1.96 * error == pytest.approx(row["high"] - row["low"], rel=0.35)


def test_a_handful_of_groups_has_no_interval() -> None:
    frame = measure_rejection(small()).frame()
    assert frame[["low", "high"]].isna().all(axis=None)
    few = large()
    few.frame.loc[few.frame["source"] == "near", "group"] = "one upload"
    frame = measure_rejection(few).frame()
    assert (frame["low"].isna() == (frame["source"] == "near")).all()


def test_none_of_these_is_a_signal_where_the_approach_scores_it() -> None:
    unknown = [0.1, 0.2, 0.3, 0.6, CENSORED, 0.5]
    found = measure_rejection(small(unknown=unknown))
    lead = [float(np.float32(0.8)) - float(np.float32(0.1)), float(np.float32(0.45)) - float(np.float32(0.2)), -np.inf]
    expected = [*lead, float(np.float32(0.5)) - float(np.float32(0.6)), np.inf]
    assert expected == found.signals["unknown_label"].tolist()
    point = found.at(Rejection("none", None, True))
    assert (1, [1, 0]) == (point.known_rejected, point.unknown_accepted.tolist())


@given(st.integers(0, 1000), st.sampled_from(["top", "margin", "entropy"]), st.integers(0, 20))
def test_a_curve_passes_through_every_rule(seed: int, signal: Any, place: int) -> None:
    found = measure_rejection(large(60, seed, decimals=1), resamples=1)
    curve = found.curve(signal)
    limit = float(curve.thresholds[min(place, len(curve.thresholds) - 1)])
    if signal == "entropy":  # where the rule's own logarithm may differ in the last digits
        limit += 1e-5
        place = int(np.argmax(curve.thresholds <= limit))
    else:
        place = int(np.argmax(curve.thresholds >= limit))
    point = found.at(Rejection(signal, limit, False))
    assert point.known_rejected == curve.known_rejected[place]
    assert point.unknown_accepted.tolist() == curve.unknown_accepted[:, place].tolist()
    assert (np.diff(curve.known_rejected) >= 0).all()
    assert (np.diff(curve.unknown_accepted) <= 0).all()


def test_curves_are_a_table_of_counts() -> None:
    frame = measure_rejection(small()).curves_frame()
    top = frame[frame["signal"] == "top"]
    assert np.float32([0.36, 0.45, 0.5, 0.8]).tolist() == top["threshold"].tolist()
    assert [1, 1, 2, 2] == top["known_rejected"].tolist()
    assert [2, 1, 1, 0] == top["unknown_accepted"].tolist()
    assert [1, 0, 0, 0] == top["unknown accepted: far"].tolist()
    assert [1, 1, 1, 0] == top["unknown accepted: near"].tolist()
    with pytest.raises(KeyError, match="no signal 'energy'; there are top, margin, entropy"):
        measure_rejection(small()).curve("energy")


def test_multi_label_needs_one_of_the_labels() -> None:
    taxonomy = Taxonomy(TAXONOMY.categories, "multi-label")
    labels: list[tuple[str, ...]] = [("shoe", "bag"), ("boot",), ()]
    found = measure_rejection(
        make_labelled(labels, [[0.1, 0.2, 0.9], [0.8, 0.7, 0.1], [0.6, 0.6, 0]], taxonomy=taxonomy)
    )
    assert np.float32([0.9, 0.8, 0.6]).tolist() == found.signals["top"].tolist()
    assert {0.5} == {row.value for row in found.estimates if (row.signal, row.measure) == ("top", "OSCR")}


def test_both_known_and_unknown_images_are_needed() -> None:
    for kept in ([0, 1, 2], [3, 4], [0, 1, 5]):
        part = small().rows(np.isin(np.arange(6), kept))
        with pytest.raises(ValueError, match="labelled images of both that have scores"):
            measure_rejection(part)


def test_the_worst_source_is_drawn_first_and_the_working_point_is_named() -> None:
    found = measure_rejection(large())
    rule = Rejection("top", 0.75, False)
    ax = found.plot(working_point=rule)
    legend = ax.get_legend()
    assert legend is not None
    near, far = (int(part.sum()) for part in found.unknown_of_source[::-1])
    expected = [f"near ({near})", f"far ({far})", f"all unknown ({near + far})", "frozen rule: top < 0.75"]
    assert expected == [text.get_text() for text in legend.get_texts()]
    point = found.at(rule)
    marks = np.asarray(ax.collections[0].get_offsets())
    assert (point.known_rejected / point.known == marks[:, 0]).all()
    assert (point.unknown_accepted / point.unknown).tolist() == marks[:, 1].tolist()
    assert 3 == len(ax.lines)
    assert "unknown images accepted" == ax.get_ylabel()


def test_one_source_is_one_line_under_the_word_for_unknown() -> None:
    labelled = large()
    labelled.frame["source"] = ""
    found = measure_rejection(labelled)
    for signal in found.signals:
        ax = found.plot(signal=signal)
        legend = ax.get_legend()
        assert legend is not None
        assert [f"_other ({int(labelled.unknown.sum())})"] == [text.get_text() for text in legend.get_texts()]
    assert not [name for name in found.curves_frame().columns if name.startswith("unknown accepted:")]


def test_many_sources_leave_most_lines_unnamed_and_small_ones_without_interval() -> None:
    labelled = large(1200)
    rows = np.flatnonzero(labelled.unknown)
    labelled.frame.loc[rows, "source"] = [f"site {number % 24:02d}" for number in range(len(rows))]
    found = measure_rejection(labelled, resamples=20)
    legend = found.plot().get_legend()
    assert legend is not None
    assert 6 == len(legend.get_texts())
    frame = found.frame()
    assert 20 == int((frame[(frame["signal"] == "top") & (frame["measure"] == "OSCR")]["low"].notna()).sum()) - 1


def test_signals_alone_are_those_of_the_whole_measurement() -> None:
    whole, alone = measure_rejection(large(), resamples=10), measure_signals(large())
    assert () == alone.estimates
    assert 0 == alone.resamples
    assert (whole.sources, whole.left_out, whole.measured_on) == (alone.sources, alone.left_out, alone.measured_on)
    assert list(whole.signals) == list(alone.signals)
    for signal, expected in whole.signals.items():
        assert expected.tolist() == alone.signals[signal].tolist()
    rule = Rejection("top", 0.6, False)
    assert whole.at(rule).frame().equals(alone.at(rule).frame())
    assert whole.curves_frame().equals(alone.curves_frame())


def test_signals_alone_need_known_and_unknown_images() -> None:
    rows = small()
    with pytest.raises(ValueError, match="needs labelled images of both"):
        measure_signals(rows.rows(rows.unknown))
    with pytest.raises(ValueError, match="needs labelled images of both"):
        measure_signals(rows.rows(~rows.unknown))
