from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from labelled_runs import make_labelled
from workbench.evaluation import figures
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.tradeoff import CertifiedRegion, trace_curves
from workbench.records import MISSING, Taxonomy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TAXONOMY = Taxonomy(("shoe", "_boot", "bag"))


def example() -> Labelled:
    labels: list[tuple[str, ...]] = [("shoe",), ("_boot",), ("shoe",), (), ("shoe",)]
    scores = [[0.9, 0.1, 0.0], [0.9, 0.2, 0.0], [0.4, 0.5, 0.1], [0.2, 0.2, 0.2], [0.9, MISSING, 0.0]]
    return make_labelled(labels, scores, taxonomy=TAXONOMY)


def test_each_category_is_traced_on_its_own_score() -> None:
    frame = trace_curves(example())["shoe"].frame()
    assert [0.9, 0.4, 0.2] == pytest.approx(frame["threshold"].tolist())
    assert [1, 2, 2] == frame["true_positives"].tolist()
    assert [2, 3, 4] == frame["predicted_positives"].tolist()
    assert [1 / 3, 2 / 3, 2 / 3] == frame["recall"].tolist()  # the image with a MISSING score is a miss
    assert ["shoe"] * 3 == frame["category"].tolist()


def test_the_whole_frame_has_every_category() -> None:
    frame = trace_curves(example()).frame()
    assert ["shoe", "_boot", "bag"] == frame["category"].unique().tolist()
    assert frame.loc[frame["category"] == "bag", "recall"].isna().all()
    assert {0} == set(frame.loc[frame["category"] == "bag", "positives"])


def test_an_unknown_category_is_refused() -> None:
    with pytest.raises(KeyError, match="no category is called 'hat'"):
        trace_curves(example())["hat"]


def test_marks_stand_on_the_curve_and_in_the_legend() -> None:
    ax = trace_curves(example())["shoe"].plot(figures.new_axes(), {"_accept": 0.5, "review": 0.3, "never": 0.95})
    legend = ax.get_legend()
    assert legend is not None
    assert ["_accept ≥ 0.5", "review ≥ 0.3"] == [text.get_text() for text in legend.get_texts()]
    points = [dots.get_offsets().tolist()[0] for dots in ax.collections if len(dots.get_offsets()) == 1]
    assert [1 / 3, 1 / 2] == pytest.approx(points[-2])
    assert [2 / 3, 2 / 3] == pytest.approx(points[-1])


def test_the_title_tells_category_average_precision_and_number() -> None:
    assert "_boot   AP 0.33, n 1" == trace_curves(example())["_boot"].plot().get_title(loc="left")
    ax = trace_curves(example())["bag"].plot()
    assert "bag   AP n/a, n 0" == ax.get_title(loc="left")
    assert "no image shows it" in [text.get_text() for text in ax.texts]


def test_small_multiples_share_a_title_that_names_the_split() -> None:
    axes = trace_curves(example()).plot()
    assert 3 == len(axes)
    figure = figures.figure_of(axes[0])
    assert "Precision and recall at every threshold, tune (optimistic: the tune split chose thresholds)" == (
        figure.get_suptitle()
    )


def words(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in [legend.get_title(), *legend.get_texts()]]


def floors(ax: Axes) -> list[tuple[float, float]]:
    """(how far it goes in recall, its height in precision) of each floor."""
    return [(patch.get_width(), patch.get_y() + patch.get_height()) for patch in ax.patches]


def test_a_certified_threshold_is_a_floor_at_its_promise_that_ends_at_its_recall() -> None:
    region = CertifiedRegion(0.4, 0.9, 0.95)
    ax = trace_curves(example())["shoe"].plot(figures.new_axes(), {"accept": 0.4}, region)
    assert [pytest.approx((2 / 3, 0.9))] == floors(ax)
    assert ["accept ≥ 0.4", "from 0.4 up at least 90 %,\ncertified at 95 %"] == words(ax)[1:]
    (edge,) = (line for line in ax.lines if line.get_xydata().shape == (3, 2) and line.get_xdata()[0] == 0)
    assert [0, 2 / 3, 2 / 3] == pytest.approx(list(edge.get_xdata()))


def test_several_floors_differ_in_hatch_and_not_in_colour_alone() -> None:
    regions = [CertifiedRegion(0.2, 0.05, 0.95), CertifiedRegion(0.4, 0.6, 0.9875), CertifiedRegion(0.9, 0.995, 0.9)]
    ax = trace_curves(example())["shoe"].plot(figures.new_axes(), certified=regions)
    assert 3 == len({patch.get_hatch() for patch in ax.patches})
    assert [(2 / 3, 0.05), (2 / 3, 0.6), (1 / 3, 0.995)] == [pytest.approx(floor) for floor in floors(ax)]
    assert all(patch.get_y() >= 0 for patch in ax.patches)
    assert "from 0.9 up at least 99.5 %,\ncertified at 90 %" == words(ax)[3]


@pytest.mark.parametrize(("category", "threshold"), [("shoe", 0.95), ("bag", 0.1)])
def test_a_floor_without_scores_or_images_is_told_and_has_no_width(category: str, threshold: float) -> None:
    ax = trace_curves(example())[category].plot(certified=CertifiedRegion(threshold, 0.9, 0.95))
    assert [pytest.approx((0, 0.9))] == floors(ax)
    assert f"from {threshold} up at least 90 %,\ncertified at 95 %" == words(ax)[1]


@pytest.mark.parametrize(
    "numbers",
    [(1.5, 0.9, 0.95), (-0.1, 0.9, 0.95), (0.5, 0, 0.95), (0.5, 1.1, 0.95), (0.5, 0.9, 1), (0.5, math.nan, 0.9)],
)
def test_what_is_no_promise_is_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="is no promise"):
        CertifiedRegion(*numbers)


def test_small_multiples_get_their_own_promises_and_marks() -> None:
    promises = {"shoe": CertifiedRegion(0.4, 0.9, 0.95), "_boot": [CertifiedRegion(0.5, 0.3, 0.95)]}
    axes = trace_curves(example()).plot(marks={"_boot": {"accept": 0.5}}, certified=promises)
    assert [1, 1, 0] == [len(floors(ax)) for ax in axes]
    assert "accept ≥ 0.5" in words(axes[1])


@pytest.mark.parametrize(
    ("split", "remark"), [("tune", "tune, optimistic"), ("train", "train, optimistic"), ("certify", "")]
)
def test_figures_that_flatter_say_so_wherever_they_are_drawn(split: str, remark: str) -> None:
    scores = [[0.9, 0.1, 0.0], [0.4, 0.6, 0.0]]
    curves = trace_curves(make_labelled([("shoe",), ("_boot",)], scores, taxonomy=TAXONOMY, splits=split))
    alone = curves["shoe"].plot()
    assert [split] == [text.get_text().split(" (")[0] for text in alone.texts]
    assert bool(remark) == ("(optimistic: " in alone.texts[0].get_text())
    for ax in (curves["shoe"].plot(titled=False), *curves.plot()[:2]):
        assert ([remark] if remark else []) == [text.get_text() for text in ax.texts]
    for ax in (
        curves["shoe"].plot(marks={"accept": 0.4}, titled=False),
        *curves.plot(marks={"shoe": {"accept": 0.4}})[:1],
    ):
        assert [remark, "accept ≥ 0.4"] == words(ax)


def test_dark_axes_get_light_floors() -> None:
    ax = figures.new_axes()
    ax.set_facecolor(figures.DARK.ground)
    trace_curves(example())["shoe"].plot(ax, certified=CertifiedRegion(0.4, 0.9, 0.95), titled=False)
    assert figures.DARK.ink in {line.get_color() for line in ax.lines}
    legend = ax.get_legend()
    assert legend is not None
    assert figures.DARK.soft == legend.get_title().get_color()


def test_many_points_are_thinned_and_keep_both_ends() -> None:
    random = np.random.default_rng(0)
    scores = random.random((5000, 3), dtype=np.float32)
    labels = [("shoe",) if score > random.random() else () for score in scores[:, 0]]
    curve = trace_curves(make_labelled(labels, scores, taxonomy=TAXONOMY))["shoe"]
    (line,) = (line for line in curve.plot().lines if len(line.get_xdata()) > 2)
    recall, precision = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert "steps-post" == line.get_drawstyle()  # the precision at a recall holds down to the next lower one
    assert len(recall) <= 241
    assert (1.0, 0.0) == (recall[0], recall[-1])
    assert curve.curve.precision[0] == precision[0]
    assert np.diff(recall).min() >= -0.03


@pytest.mark.parametrize("most", [5, 60, 100_000])
def test_points_are_rows_of_the_frame_with_exact_intervals(most: int) -> None:
    random = np.random.default_rng(1)
    scores = random.random((800, 3), dtype=np.float32)
    labels = [("shoe",) if score > random.random() else () for score in scores[:, 0]]
    curve = trace_curves(make_labelled(labels, scores, taxonomy=TAXONOMY))["shoe"]
    points, frame = curve.points(most), curve.frame()[::-1].reset_index(drop=True)
    assert len(points) <= most
    same = frame.set_index("threshold").loc[points["threshold"]].reset_index()
    assert same[["true_positives", "precision", "recall"]].equals(points[["true_positives", "precision", "recall"]])
    low, high = clopper_pearson(points["true_positives"], points["predicted_positives"])
    assert (low.tolist(), high.tolist()) == (points["precision_low"].tolist(), points["precision_high"].tolist())
    low, high = clopper_pearson(points["true_positives"], np.full(len(points), curve.curve.positives))
    assert (low.tolist(), high.tolist()) == (points["recall_low"].tolist(), points["recall_high"].tolist())
    assert trace_curves(example())["bag"].points().empty
    limits = [0.1234, 0.5, 2.0]
    kept = curve.points(5, limits)
    for limit in limits[:2]:
        (row,) = kept[kept["threshold"] >= np.float32(limit)].head(1).to_dict("records")
        at = curve.curve.at(limit)
        assert (at.precision, at.recall) == (row["precision"], row["recall"])
    assert curve.points(5).columns.equals(kept.columns)


def test_weighted_images_count_for_what_they_stand_for() -> None:
    labelled = example()
    weights = np.where(np.arange(len(labelled)) % 2, 1.0, 4.0)
    weighted = replace(labelled, frame=labelled.frame.assign(weight=weights))
    plain, traced = trace_curves(labelled), trace_curves(weighted)
    assert 1.0 == plain.worth
    assert weights.sum() / (weights**2).sum() == traced.worth
    category = labelled.taxonomy.categories[0]
    own, shows = labelled.usable_scores()[:, 0], labelled.truth[:, 0]
    point = traced[category].curve.at(0.5)
    above = own >= np.float32(0.5)
    assert (weights[above].sum(), weights[above & shows].sum()) == (point.predicted_positives, point.true_positives)
    assert plain[category].curve.at(0.5).precision != point.precision
    traced[category].plot()
