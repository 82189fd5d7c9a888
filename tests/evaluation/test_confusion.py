from __future__ import annotations

import numpy as np
import pytest

from labelled_runs import make_labelled
from workbench.evaluation import figures
from workbench.evaluation.confusion import count_confusions
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.metrics import measure_accuracy
from workbench.records import CENSORED, MISSING, Taxonomy

TAXONOMY = Taxonomy(("shoe", "boot"))


def example(unknown: list[float] | None = None) -> Labelled:
    labels: list[tuple[str, ...]] = [("shoe",), ("shoe",), ("boot",), ("boot",), (), ()]
    scores = [[0.8, 0.1], [0.2, 0.7], [0.4, 0.4], [0.3, 0.9], [0.6, 0.2], [CENSORED, CENSORED]]
    return make_labelled(labels, scores, taxonomy=TAXONOMY, unknown=unknown)


def test_every_image_is_in_one_cell() -> None:
    found = count_confusions(example())
    assert ("shoe", "boot", "unknown") == found.shown
    assert ("shoe", "boot", "no answer") == found.told
    assert [[1, 1, 0], [0, 1, 1], [1, 0, 1]] == found.counts.tolist()
    assert measure_accuracy(example()).correct == np.trace(found.counts[:2, :2])


def test_none_of_these_is_told_where_its_score_reaches_the_highest() -> None:
    found = count_confusions(example(unknown=[0.8, 0.1, 0.4, 0.1, MISSING, 0.1]))
    assert ("shoe", "boot", "unknown", "no answer") == found.told
    assert [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 2]] == found.counts.tolist()


def test_the_frame_has_a_row_per_shown_category() -> None:
    frame = count_confusions(example()).frame()
    columns = ["shown", "told: shoe", "told: boot", "no answer", "images", "measured_on"]
    assert columns == list(frame.columns)
    assert [2, 2, 2] == frame["images"].tolist()


def test_a_category_called_no_answer_keeps_its_own_column() -> None:
    taxonomy = Taxonomy(("no answer", "boot"))
    frame = count_confusions(make_labelled([("boot",)], [[0.9, 0.1]], taxonomy=taxonomy)).frame()
    assert [0, 1, 0] == frame["told: no answer"].tolist()
    assert [0, 0, 0] == frame["no answer"].tolist()


def test_multi_label_is_refused() -> None:
    labelled = make_labelled([("shoe",)], [[0.9, 0.1]], taxonomy=Taxonomy(("shoe", "boot"), "multi-label"))
    with pytest.raises(ValueError, match="this taxonomy is multi-label"):
        count_confusions(labelled)


def test_the_plot_writes_the_counts_while_they_fit() -> None:
    ax = count_confusions(example()).plot(figures.new_axes())
    assert ["1"] * 6 == [text.get_text() for text in ax.texts if text.get_text().isdigit()]
    assert ["shoe", "boot", "no answer"] == [label.get_text() for label in ax.get_xticklabels()]
    many = Taxonomy(tuple(f"c{number}" for number in range(40)))
    ax = count_confusions(make_labelled([("c7",)], [np.linspace(0, 1, 40)], taxonomy=many)).plot()
    assert [] == [text.get_text() for text in ax.texts if text.get_text().isdigit()]
