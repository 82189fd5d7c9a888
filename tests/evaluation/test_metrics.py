from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.collections import PathCollection
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from labelled_runs import make_labelled
from workbench.evaluation import figures
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.metrics import measure_accuracy, measure_categories, slice_by, told
from workbench.records import CENSORED, MISSING, Taxonomy

TAXONOMY = Taxonomy(("shoe", "boot", "bag"))
MULTI = Taxonomy(("nudity", "weapon"), "multi-label")
NONE = [MISSING] * 3


def example() -> Labelled:
    """Two shoes (one told as a boot), three boots (one failed, one a tie), one unknown told as a shoe; no bag."""
    rows: list[tuple[tuple[str, ...], list[float], str]] = [
        (("shoe",), [0.8, 0.1, 0.1], "ok"),
        (("shoe",), [0.2, 0.7, 0.1], "ok"),
        (("boot",), [0.1, 0.9, 0.0], "ok"),
        (("boot",), NONE, "truncated"),
        (("boot",), [0.5, 0.5, 0.0], "ok"),
        ((), [0.6, 0.2, 0.2], "ok"),
    ]
    labels, scores, outcomes = zip(*rows, strict=True)
    return make_labelled(labels, scores, taxonomy=TAXONOMY, outcomes=outcomes)


def test_categories_by_hand() -> None:
    found = measure_categories(example())
    assert [2, 3, 0] == found.support.tolist()
    assert [2, 2, 0] == found.answered.tolist()
    assert [2, 2, 0] == found.predicted.tolist()
    assert [1, 1, 0] == found.correct.tolist()
    frame = found.frame().set_index("category")
    assert [0.5, 1 / 3] == frame.loc[["shoe", "boot"], "recall"].tolist()
    assert 0.5 == frame.loc["boot", "recall_of_answered"]
    assert [0.5, 2 * 1 / (2 + 3)] == frame.loc[["shoe", "boot"], "f1"].tolist()
    assert clopper_pearson(1, 3) == tuple(frame.loc["boot", ["recall_low", "recall_high"]])
    assert clopper_pearson(1, 2) == tuple(frame.loc["shoe", ["precision_low", "precision_high"]])


def test_a_category_without_images_is_not_a_number_beside_its_count() -> None:
    bag = measure_categories(example()).frame().set_index("category").loc["bag"]
    assert (0, 0) == (bag["support"], bag["predicted"])
    assert bag[["precision", "recall", "f1", "average_precision", "recall_of_answered"]].isna().all()
    assert "n/a" in measure_categories(example())._repr_html_()


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_categories_agree_with_scikit_learn(seed: int, images: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.random((images, 3), dtype=np.float32)
    answers = random.integers(0, 3, images)
    labels = [(TAXONOMY.categories[answer],) for answer in answers]
    found = measure_categories(make_labelled(labels, scores, taxonomy=TAXONOMY))
    precision, recall, f1, support = precision_recall_fscore_support(
        answers, scores.argmax(axis=1), labels=[0, 1, 2], zero_division=np.nan
    )
    assert support.tolist() == found.support.tolist()
    np.testing.assert_allclose(found.precision, precision)
    np.testing.assert_allclose(found.recall, recall)
    np.testing.assert_allclose(found.f1[support > 0], f1[support > 0])
    for column in np.flatnonzero(support):
        expected = average_precision_score(answers == column, scores[:, column])
        assert expected == pytest.approx(found.average_precision[column])


def test_accuracy_counts_known_images_and_stands_beside_the_majority() -> None:
    found = measure_accuracy(example())
    assert (5, 4, 2) == (found.images, found.answered, found.correct)
    assert (3, "boot") == (found.majority, found.majority_answer)
    assert (0.4, 0.6, 0.8) == (found.accuracy, found.baseline, found.answered_share)
    assert clopper_pearson(2, 5) == found.interval
    row = found.frame().iloc[0]
    assert (0.4, 0.6, 0.5) == (row["accuracy"], row["majority_baseline"], row["accuracy_of_answered"])


def test_accuracy_without_known_images_is_not_a_number() -> None:
    found = measure_accuracy(make_labelled([()], [[0.1, 0.2, 0.3]], taxonomy=TAXONOMY))
    assert (0, 0) == (found.images, found.majority)
    assert all(math.isnan(value) for value in (found.accuracy, found.baseline, found.answered_share))
    assert (0.0, 1.0) == found.interval


def test_the_first_category_wins_where_two_are_most_common() -> None:
    labelled = make_labelled([("bag",), ("boot",)], [[0.1, 0.2, 0.3]] * 2, taxonomy=TAXONOMY)
    assert "boot" == measure_accuracy(labelled).majority_answer


def moderated() -> Labelled:
    labels: list[tuple[str, ...]] = [("nudity",), ("nudity", "weapon"), ("nudity", "weapon"), ("weapon",), ()]
    scores = [[0.5, 0.1], [0.9, 0.49], [0.9, 0.8], [CENSORED, MISSING], [0.6, 0.2]]
    return make_labelled(labels, scores, taxonomy=MULTI)


def test_multi_label_tells_every_category_from_one_half_on() -> None:
    assert [[True, False], [True, False], [True, True], [False, False], [True, False]] == told(moderated()).tolist()
    found = measure_categories(moderated())
    assert [3, 3] == found.support.tolist()
    assert [4, 1] == found.predicted.tolist()
    assert [3, 1] == found.correct.tolist()


def test_multi_label_accuracy_is_exact_match() -> None:
    found = measure_accuracy(moderated())
    assert (4, 2) == (found.images, found.correct)
    assert (2, "nudity + weapon") == (found.majority, found.majority_answer)


def test_every_figure_says_its_split() -> None:
    optimistic = "tune (optimistic: the tune split chose thresholds)"
    assert optimistic == measure_accuracy(example()).measured_on
    assert [optimistic] * 3 == measure_categories(example()).frame()["measured_on"].tolist()
    notes = [text.get_text() for text in measure_categories(example()).plot().texts]
    assert optimistic in notes
    certify = make_labelled([("shoe",)], [[0.9, 0.1, 0.0]], taxonomy=TAXONOMY, splits="certify")
    assert "certify" == measure_accuracy(certify).measured_on


def sliced(**columns: list[object]) -> Labelled:
    return make_labelled([("shoe",)] * 3 + [("boot",)], [[0.9, 0.1, 0.0]] * 4, taxonomy=TAXONOMY, columns=columns)


def test_slices_are_accuracies_within_each_value() -> None:
    frame = slice_by(sliced(camera=["b", "a", "a", "b"]), "camera").frame()
    assert ["a", "b"] == frame["value"].tolist()
    assert [2, 2] == frame["images"].tolist()
    assert [1.0, 0.5] == frame["accuracy"].tolist()
    assert ["camera", "camera"] == frame["column"].tolist()


def test_slices_of_numbers_stand_by_size_and_missing_values_have_their_own() -> None:
    assert ("2", "10", "100") == slice_by(sliced(width=[10, 2, 100, 10]), "width").values
    assert ("2.0", "10.0", "") == slice_by(sliced(width=[10, 2, math.nan, 10]), "width").values
    assert ("", "a") == slice_by(sliced(camera=["a", None, "a", "a"]), "camera").values
    assert ("boot", "shoe") == slice_by(sliced(), "labels").values


def test_many_numbers_are_cut_into_fifths() -> None:
    images = 100
    labels, scores = [("shoe",)] * images, [[0.9, 0.1, 0.0]] * images
    labelled = make_labelled(labels, scores, taxonomy=TAXONOMY, columns={"width": list(range(images))})
    found = slice_by(labelled, "width")
    assert ("0 to 19.8", "19.8 to 39.6", "39.6 to 59.4", "59.4 to 79.2", "79.2 to 99") == found.values
    assert [20] * 5 == [accuracy.images for accuracy in found.accuracies]


def test_numbers_that_lie_close_are_told_apart() -> None:
    numbers: list[float] = [1e9 + step for step in range(40)]
    labels, scores = [("shoe",)] * 41, [[0.9, 0.1, 0.0]] * 41
    labelled = make_labelled(labels, scores, taxonomy=TAXONOMY, columns={"time": [*numbers, math.nan]})
    found = slice_by(labelled, "time")
    assert "1000000000 to 1000000008" == found.values[0]
    assert "" == found.values[-1]
    assert [8, 8, 8, 8, 8, 1] == [accuracy.images for accuracy in found.accuracies]


def test_an_unknown_column_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(KeyError, match="no column 'colour'; there are image_id"):
        slice_by(sliced(), "colour")


def test_plots_draw_on_what_they_are_given_and_leave_no_figure_open() -> None:
    ax = figures.new_axes()
    assert ax is measure_categories(example()).plot(ax)
    assert ax is not slice_by(sliced(camera=["b", "a", "a", "b"]), "camera").plot()
    assert [] == plt.get_fignums()


def test_a_category_without_images_has_no_dot() -> None:
    ax = measure_categories(example()).plot()
    dots = [part.get_offsets() for part in ax.collections if isinstance(part, PathCollection)]
    assert [[0.5, 0.5], [0.5, 1 / 3]] == [offsets[:, 0].tolist() for offsets in dots]
    assert ["shoe  (2)", "boot  (3)", "bag  (0)"] == [label.get_text() for label in ax.get_yticklabels()]


def test_frames_are_tables_of_numbers() -> None:
    for result in (measure_categories(example()), measure_accuracy(example()), slice_by(example(), "source")):
        assert isinstance(result.frame(), pd.DataFrame)
        assert "<table" in result._repr_html_()
