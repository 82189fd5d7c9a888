from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelled_runs import make_labelled
from workbench.evaluation import selective
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.left_out import leave_one_category_out
from workbench.evaluation.rejection import acceptance_signals, told_rightly
from workbench.records import CENSORED, MISSING, Taxonomy

NAMES = ("shoe", "boot", "bag", "$hat")


def example(seed: int, categories: int = 4, unknown: bool = True) -> Labelled:
    random = np.random.default_rng(seed)
    names = NAMES[:categories]
    scores = np.round(random.random((30, categories)), 1)
    scores[random.random(scores.shape) < 0.2] = CENSORED
    scores[3, 0] = MISSING
    labels = [(names[place],) if place < categories else () for place in random.integers(0, categories + 1, 30)]
    more: dict[str, Any] = {"unknown": np.round(random.random(30), 1)} if unknown else {}
    return make_labelled(labels, scores, taxonomy=Taxonomy(names), **more)


def without(labelled: Labelled, category: str) -> tuple[Labelled, np.ndarray]:
    """The same run as an approach that never had the category, and which of its rows show it."""
    part = labelled.rows(labelled.usable & ~labelled.unknown)
    column = labelled.taxonomy.categories.index(category)
    left = tuple(name for name in labelled.taxonomy.categories if name != category)
    labels = [tuple(np.array(left)[row]) for row in np.delete(part.truth, column, axis=1)]
    scores = np.delete(part.scores, column, axis=1)
    return make_labelled(labels, scores, taxonomy=Taxonomy(left), unknown=part.unknown_scores), part.truth[:, column]


@given(st.integers(0, 10_000), st.sampled_from([3, 4]), st.booleans())
def test_equal_to_a_run_without_the_category(seed: int, categories: int, unknown: bool) -> None:
    labelled = example(seed, categories, unknown)
    found = leave_one_category_out(labelled)
    for column, category in enumerate(labelled.taxonomy.categories):
        reduced, played = without(labelled, category)
        assert (played.sum(), (~played).sum()) == (found.unknown[column], found.known[column])
        for row, values in enumerate(acceptance_signals(reduced)[name] for name in found.signals):
            right = told_rightly(reduced)[~played]
            expected = [
                selective.auroc(values[~played], values[played]),
                selective.fpr_at_95_tpr(values[~played], values[played]),
                selective.oscr(values[~played], right, values[played]),
            ]
            measured = [part[row, column] for part in (found.auroc, found.fpr_at_95_tpr, found.oscr)]
            np.testing.assert_array_equal(expected, measured)


def test_signals_that_make_sense_without_the_category() -> None:
    assert ("top", "margin", "unknown_label") == leave_one_category_out(example(1)).signals
    assert ("top", "margin") == leave_one_category_out(example(1, unknown=False)).signals


def test_the_category_that_passes_for_another_is_found() -> None:
    shown = np.arange(40) % 4
    scores = np.full((40, 4), 0.05) + np.random.default_rng(2).random((40, 4)) * 0.01
    scores[np.arange(40), shown] = np.linspace(0.8, 0.95, 40)
    scores[shown == 3, 2] = np.linspace(0.78, 0.82, 10)
    labels = [(NAMES[place],) for place in shown]
    frame = leave_one_category_out(make_labelled(labels, scores, taxonomy=Taxonomy(NAMES))).frame()
    top = frame[frame["signal"] == "top"].set_index("plays_unknown")
    assert {1.0} == set(top["auroc"][list(NAMES[:3])])
    assert "$hat" == top["fpr_at_95_tpr"].idxmax() == top["auroc"].idxmin()
    assert {10} == set(top["unknown"])
    assert {30} == set(top["known"])


def test_it_says_that_it_is_no_promise() -> None:
    found = leave_one_category_out(example(1))
    assert "tune (optimistic: the tune split chose thresholds); a stress test, no promise" in found.measured_on
    assert {found.measured_on} == set(found.frame()["measured_on"])


def test_a_category_without_images_has_no_figures() -> None:
    labelled = make_labelled([("shoe",), ("boot",)], [[0.9, 0.1, 0], [0.2, 0.7, 0]], taxonomy=Taxonomy(NAMES[:3]))
    found = leave_one_category_out(labelled)
    assert [1, 1, 0] == found.unknown.tolist()
    assert [[False, False, True]] * 2 == np.isnan(found.auroc).tolist()
    assert len(found.plot().get_yticklabels()) == 3


def test_what_cannot_be_left_out_is_said() -> None:
    with pytest.raises(ValueError, match="this taxonomy is multi-label"):
        leave_one_category_out(make_labelled([()], [[0.1] * 3], taxonomy=Taxonomy(NAMES[:3], "multi-label")))
    with pytest.raises(ValueError, match="at least 3 categories"):
        leave_one_category_out(make_labelled([()], [[0.1] * 2], taxonomy=Taxonomy(NAMES[:2])))


def test_the_plot_names_categories_and_signals() -> None:
    found = leave_one_category_out(example(1))
    ax = found.plot()
    legend = ax.get_legend()
    assert legend is not None
    assert list(found.signals) == [text.get_text() for text in legend.get_texts()]
    assert f"shoe  ({found.unknown[0]})" == ax.get_yticklabels()[0].get_text()
