from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

from workbench.evaluation.selective import (
    augrc,
    aupr,
    aurc,
    aurc_trapezoid,
    auroc,
    e_augrc,
    e_aurc,
    fpr_at_95_tpr,
    oscr,
)

Pairs = list[tuple[float, bool]]

CONFIDENCE, ERRORS = [0.9, 0.8, 0.7, 0.6, 0.5], [False, False, True, False, True]
level = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
signal = st.one_of(level, st.floats(0, 1))
signals = st.lists(signal, min_size=1, max_size=25)
pairs: st.SearchStrategy[Pairs] = st.lists(st.tuples(signal, st.booleans()), min_size=1, max_size=25)


def split(found: Pairs) -> tuple[list[float], list[bool]]:
    return [value for value, _ in found], [flag for _, flag in found]


def unknown_positive(known: list[float], unknown: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """What scikit-learn takes: truth, and scores that are high where the image is unknown."""
    return np.repeat([False, True], [len(known), len(unknown)]), -np.array(known + unknown)


@pytest.mark.parametrize(
    ("measure", "published"), [(aurc_trapezoid, 156.667), (e_aurc, 63.162), (augrc, 120.0), (e_augrc, 40.0)]
)
def test_published_figures_of_fd_shifts(measure: Callable[..., float], published: float) -> None:
    assert published == pytest.approx(1000 * measure(CONFIDENCE, ERRORS), abs=5e-4)


def test_published_figures_of_mean_aurc_and_oscr() -> None:
    assert 0.19667 == pytest.approx(aurc(CONFIDENCE, ERRORS), abs=5e-6)
    # Softmax (.9, .1) of the first category; (.2, .8), (.65, .35), (.45, .55) of the second.
    assert 0.58333 == pytest.approx(oscr([0.9, 0.8, 0.65, 0.55], [1, 1, 0, 1], [0.7, 0.6, 0.52]), abs=5e-6)


def test_published_figures_of_ood_metrics() -> None:
    known, unknown = [-0.1, -0.3, -0.6, -1.3], [-0.9]
    assert (0.75, 0.25, 0.25) == (auroc(known, unknown), aupr(known, unknown), fpr_at_95_tpr(known, unknown))


@given(signals, signals)
def test_equal_to_scikit_learn(known: list[float], unknown: list[float]) -> None:
    truth, scores = unknown_positive(known, unknown)
    assert roc_auc_score(truth, scores) == pytest.approx(auroc(known, unknown), abs=1e-12)
    precision, recall, _ = precision_recall_curve(truth, scores)
    assert auc(recall, precision) == pytest.approx(aupr(known, unknown), abs=1e-12)
    false_rate, true_rate, _ = roc_curve(truth, scores, drop_intermediate=False)
    first = np.flatnonzero(20 * np.round(true_rate * len(unknown)) >= 19 * len(unknown))[0]
    assert false_rate[first] == fpr_at_95_tpr(known, unknown)


def test_unknown_is_the_positive_class_at_95_percent() -> None:
    known, unknown = np.arange(100) / 100, np.append(np.full(19, 0.105), 0.995)
    assert 0.11 == fpr_at_95_tpr(known, unknown)
    assert 1.0 == fpr_at_95_tpr(known, unknown[1:])


@given(pairs, signals)
def test_oscr_is_the_mean_over_all_pairs(known: Pairs, unknown: list[float]) -> None:
    values, correct = split(known)
    won = [right * ((high > low) + (high == low) / 2) for high, right in known for low in unknown]
    assert np.mean(won) == pytest.approx(oscr(values, correct, unknown), abs=1e-12)
    assert oscr(values, correct, unknown) <= min(np.mean(correct), auroc(values, unknown)) + 1e-12


@given(st.lists(st.tuples(level, st.booleans()), min_size=1, max_size=5))
def test_ties_are_averaged_over_every_order(found: Pairs) -> None:
    ranked = [sorted(order, key=lambda pair: -pair[0]) for order in permutations(found)]
    errors = np.array([[error for _, error in order] for order in ranked])
    count = np.arange(1, len(found) + 1)
    assert (errors.cumsum(axis=1) / count).mean() == pytest.approx(aurc(*split(found)), abs=1e-12)
    rejected_later = (errors * (count[::-1] - 0.5)).sum(axis=1).mean() / len(found) ** 2
    assert rejected_later == pytest.approx(augrc(*split(found)), abs=1e-12)


@given(pairs)
def test_augrc_follows_from_accuracy_and_auroc(found: Pairs) -> None:
    values, errors = split(found)
    right = [value for value, error in found if not error]
    wrong = [value for value, error in found if error]
    accuracy = len(right) / len(found)
    apart = auroc(right, wrong) if right and wrong else 0.5
    expected = (1 - apart) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert expected == pytest.approx(augrc(values, errors), abs=1e-12)


@given(pairs, signals, st.randoms())
def test_the_order_of_rows_changes_nothing(found: Pairs, unknown: list[float], random: object) -> None:
    mixed = found.copy()
    random.shuffle(mixed)  # type: ignore[attr-defined]
    for measure in (aurc, aurc_trapezoid, e_aurc, augrc, e_augrc):
        assert measure(*split(found)) == pytest.approx(measure(*split(mixed)), abs=1e-12)
    assert oscr(*split(found), unknown) == pytest.approx(oscr(*split(mixed), unknown[::-1]), abs=1e-12)


def test_the_order_within_ties_would_decide_a_great_deal() -> None:
    random = np.random.default_rng(5)
    right = random.beta(5, 1.5, 1000)
    errors = random.random(1000) > right
    values = np.round(right * 20) / 20
    best, worst = (
        np.mean(np.cumsum(errors[np.lexsort((sign * errors, -values))]) / np.arange(1, 1001)) for sign in (1, -1)
    )
    assert worst - best > 0.03
    assert best < aurc(values, errors) < worst
    tiny = random.random(1000) * 1e-9
    assert aurc(values, errors) == pytest.approx(aurc(values + tiny, errors), abs=0.01)


def test_a_perfect_ranking_has_no_excess() -> None:
    values, errors = np.linspace(1, 0, 5000), np.arange(5000) >= 4000
    assert e_augrc(values, errors) == pytest.approx(0, abs=1e-12)
    assert e_aurc(values, errors) == pytest.approx(0, abs=1e-3)
    assert (0.5, 1.0) == (augrc([0.3, 0.2], [True, True]), aurc([0.3, 0.2], [True, True]))


def test_infinite_signals_are_accepted_always_or_never() -> None:
    assert 1.0 == auroc([0.5, math.inf], [-math.inf])
    assert (1 + 1 / 2 + 1 / 3) / 3 == pytest.approx(aurc([math.inf, -math.inf, -math.inf], [True, False, False]))
    assert (1 / 3) ** 2 / 2 == pytest.approx(augrc([math.inf, math.inf, -math.inf], [False, False, True]))


def test_without_images_there_is_no_figure() -> None:
    found = [measure([], []) for measure in (auroc, aupr, fpr_at_95_tpr, aurc, aurc_trapezoid, e_aurc, augrc, e_augrc)]
    found += [measure([0.5], []) for measure in (auroc, aupr, fpr_at_95_tpr)]
    found += [measure([], [0.5]) for measure in (auroc, aupr, fpr_at_95_tpr)]
    found += [oscr([], [], [0.5]), oscr([0.5], [True], [])]
    assert all(map(math.isnan, found))


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="a signal is NaN"):
        auroc([math.nan], [0.5])
    with pytest.raises(ValueError, match="one number per image, not an array of shape"):
        auroc([[0.5]], [0.5])
    with pytest.raises(ValueError, match="there must be one for each image"):
        aurc([0.5, 0.6], [True])
    with pytest.raises(ValueError, match="error must be true or false"):
        augrc([0.5], [0.5])
    with pytest.raises(ValueError, match="'correct'"):
        oscr([0.5], [True, False], [0.1])
