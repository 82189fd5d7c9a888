from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from labelled_runs import make_labelled
from workbench.evaluation.certify import Certificate, certify_precision
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.promises import LEAST_PICKED, compare_picks
from workbench.records import CENSORED, Taxonomy

NAMES = ("shoe", "$boot", "bag")
DRAWS = 200


def population(seed: int = 0, count: int = 600) -> Labelled:
    """Shoes are told well, boots badly, and bags are never the highest."""
    random = np.random.default_rng(seed)
    shown = random.integers(0, 3, count)
    scores = np.zeros((count, 3))
    scores[:, 0] = np.round(np.where(shown == 0, 0.9, 0.3) + random.normal(0, 0.15, count), 3)
    scores[:, 1] = 0.45 + np.round(np.where(shown == 1, 0.05, 0.0) + random.normal(0, 0.05, count), 3)
    labels = [(NAMES[place],) if place < 2 or row % 2 else () for row, place in enumerate(shown)]
    return make_labelled(labels, scores.clip(0, 1), taxonomy=Taxonomy(NAMES))


def reach(labelled: Labelled, column: int) -> np.ndarray:
    return np.where(labelled.top() == column, labelled.scores[:, column], np.float32(CENSORED))


def test_equal_to_each_set_by_itself() -> None:
    labelled = population()
    found = compare_picks(labelled, 0.8, 0.9, images=150, draws=5, seed=3)
    rows = np.random.default_rng(3).integers(0, len(labelled), (5, 150))
    for drawn, naive, certified in zip(rows, found.naive, found.certified, strict=True):
        for column in range(3):
            scores, truth = reach(labelled, column)[drawn], labelled.truth[drawn, column]
            picks = [
                point
                for point in np.unique(scores[scores > CENSORED])
                if (scores >= point).sum() >= LEAST_PICKED and truth[scores >= point].mean() >= 0.8
            ]
            np.testing.assert_array_equal(min(picks, default=np.nan), naive[column])
            alone = certify_precision(scores, truth, 0.8, 0.9)
            expected = alone.threshold if isinstance(alone, Certificate) else np.nan
            np.testing.assert_array_equal(expected, certified[column])


def test_what_is_kept_is_counted_in_the_population() -> None:
    labelled = population()
    found = compare_picks(labelled, 0.8, 0.9, images=150, draws=20)
    for picked, kept, recall in (
        (found.naive, found.naive_kept, found.naive_recall),
        (found.certified, found.certified_kept, found.certified_recall),
    ):
        for draw, column in np.ndindex(picked.shape):
            fires = reach(labelled, column) >= picked[draw, column]
            right = int((fires & labelled.truth[:, column]).sum())
            expected = right / fires.sum() if fires.any() else np.nan
            np.testing.assert_array_equal(expected, kept[draw, column])
            assert right / labelled.truth[:, column].sum() == recall[draw, column]


def test_naive_promises_break_and_certified_ones_keep_to_their_error_probability() -> None:
    found = compare_picks(population(1), 0.8, 0.95, images=300, draws=DRAWS)
    naive, certified = found.broken(found.naive_kept), found.broken(found.certified_kept)
    assert naive.max() > 0.3
    assert 1e-4 < binom.sf(certified.max() * DRAWS - 1, DRAWS, 0.05)
    assert not np.isnan(found.certified[:, 0]).any()
    assert np.isnan(found.certified[:, 2]).all()


def test_the_table_has_both_picks_of_every_category() -> None:
    found = compare_picks(population(), 0.8, images=150, draws=20)
    frame = found.frame()
    assert [name for name in NAMES for _ in range(2)] == frame["category"].tolist()
    assert ["naive", "certified"] * 3 == frame["pick"].tolist()
    bag = frame[frame["category"] == "bag"]
    assert [0, 0] == bag["promised"].tolist() == bag["broken"].tolist() == bag["recall"].tolist()
    assert bag["worst"].isna().all()
    assert {"tune, taken for the whole population"} == set(frame["measured_on"])
    assert (frame["broken"] <= frame["promised"]).all()


def test_a_seed_repeats_it() -> None:
    labelled = population()
    one, same, other = (compare_picks(labelled, images=100, draws=3, seed=seed).naive for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other, equal_nan=True)


def test_multi_label_tiers_fire_wherever_their_score_is() -> None:
    taxonomy = Taxonomy(NAMES, "multi-label")
    scores = np.tile(np.linspace(0, 1, 40)[:, None], (1, 3))
    labels = [NAMES if row >= 20 else () for row in range(40)]
    found = compare_picks(make_labelled(labels, scores, taxonomy=taxonomy), 0.9, draws=3)
    assert (~np.isnan(found.naive)).all()


def test_what_cannot_be_drawn_is_said() -> None:
    labelled = population()
    with pytest.raises(ValueError, match="0 sets of 600 images cannot be drawn from 600"):
        compare_picks(labelled, draws=0)
    with pytest.raises(ValueError, match="sets of 0 images"):
        compare_picks(labelled, images=0)
    with pytest.raises(ValueError, match="from 0 labelled ones"):
        compare_picks(labelled.rows(np.zeros(len(labelled), dtype=bool)))


def test_the_plot_names_categories_and_what_its_marks_are() -> None:
    ax = compare_picks(population(), images=100, draws=3).plot()
    assert ["shoe", r"\$boot", "bag"] == [label.get_text() for label in ax.get_yticklabels()]
    legend = ax.get_legend()
    assert legend is not None
    assert ["naive, broken", "certified, broken", "certified at all"] == [
        text.get_text() for text in legend.get_texts()
    ]
