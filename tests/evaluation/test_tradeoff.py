from __future__ import annotations

import numpy as np
import pytest

from labelled_runs import make_labelled
from workbench.evaluation import figures
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.tradeoff import trace_curves
from workbench.records import MISSING, Taxonomy

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
