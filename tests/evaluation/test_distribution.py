from __future__ import annotations

import numpy as np
import pytest

from labelled_runs import make_labelled
from workbench.decision import signal_value
from workbench.evaluation.distribution import describe_scores
from workbench.evaluation.labelled import Labelled
from workbench.records import CENSORED, MISSING, Taxonomy

TAXONOMY = Taxonomy(("shoe", "boot", "bag"), unknown="_other")
SCORES = [[0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [CENSORED, 0.6, CENSORED], [CENSORED] * 3, [0.9, MISSING, 0.1]]


def example(complete: bool) -> Labelled:
    labels: list[tuple[str, ...]] = [("shoe",), (), ("boot",), ("bag",), ("bag",)]
    return make_labelled(labels, SCORES, taxonomy=TAXONOMY, complete=complete)


def test_signals_are_those_of_the_decision_rule() -> None:
    found = describe_scores(example(complete=True))
    for name, values in found.signals.items():
        expected = [signal_value(list(np.float32(row).astype(float)), name) for row in SCORES[:3]]  # type: ignore[arg-type]
        assert expected == pytest.approx(values.tolist(), rel=1e-6)
    assert ["0.png", "1.png", "2.png"] == found.image_ids.tolist()
    assert [False, True, False] == found.unknown.tolist()


def test_images_without_a_score_to_speak_of_are_counted() -> None:
    assert 2 == describe_scores(example(complete=True)).left_out


def test_entropy_needs_a_whole_distribution() -> None:
    assert ["top", "margin", "entropy"] == list(describe_scores(example(complete=True)).signals)
    assert ["top", "margin"] == list(describe_scores(example(complete=False)).signals)


def test_the_legend_names_both_groups_with_their_numbers() -> None:
    for signal in ("top", "margin", "entropy"):
        legend = describe_scores(example(complete=True)).plot(signal=signal).get_legend()  # type: ignore[arg-type]
        assert legend is not None
        assert ["known (2)", "_other (1)"] == [text.get_text() for text in legend.get_texts()]


def test_no_images_draw_an_empty_plot() -> None:
    empty = make_labelled([("shoe",)], [[MISSING] * 3], taxonomy=TAXONOMY)
    assert describe_scores(empty).plot().get_legend() is None
    assert 0 == len(describe_scores(empty).frame())
