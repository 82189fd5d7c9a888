"""Second labels: the arithmetic of label noise, a bound that holds whatever the noise, a file that is read strictly."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from workbench.errors import InputError
from workbench.evaluation.intervals import lower_bound, upper_bound
from workbench.evaluation.noise import (
    Answer,
    LabelNoise,
    Question,
    agreements_needed,
    answer_question,
    choose_rows,
    measure_agreement,
    name_items,
    noise_adjusted_bound,
    observed_precision,
    read_second_labels,
    true_precision,
)
from workbench.records import Taxonomy

SINGLE = Taxonomy(("shoe", "NA", "001"))
MULTI = Taxonomy(("shoe", "boot"), mode="multi-label")
shares = st.floats(0, 1)


# Arithmetic


def test_a_little_noise_costs_what_is_stated() -> None:
    assert 0.951 == pytest.approx(observed_precision(0.98, missed=0.03, spurious=0.02))


@given(shares, st.floats(0, 0.45), st.floats(0, 0.45))
def test_true_precision_is_the_inverse(true: float, missed: float, spurious: float) -> None:
    shown = observed_precision(true, missed, spurious)
    assert true == pytest.approx(true_precision(shown, missed, spurious), abs=1e-9)


@pytest.mark.parametrize(
    ("observed", "missed", "spurious", "told"),
    [(0.99, 0.03, 0.02, "between 0.02 and 0.97"), (0.01, 0.03, 0.02, "not 0.01"), (0.5, 0.5, 0.5, "tell nothing")],
)
def test_what_no_precision_shows_has_no_inverse(observed: float, missed: float, spurious: float, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        true_precision(observed, missed, spurious)


def test_shares_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"missed must lie between 0 and 1: -0\.1"):
        observed_precision(0.9, -0.1, 0.0)


# The bound


def draw_counts(
    rng: np.random.Generator, draws: int, trials: int, checked: int, world: tuple[float, float, float], part: float
) -> tuple[np.ndarray, ...]:
    """Counts of many certify sets: successes, agreements looked at, overturned, restored.

    `part` of the errors is looked at. With the true precision P and noise η, ν, an agreement is overturned with
    probability (1 − P)ν / o, an error restored with probability Pη / (1 − o).
    """
    true, missed, spurious = world
    shown = observed_precision(true, missed, spurious)
    successes = rng.binomial(trials, shown, draws)
    agreements = np.minimum(checked, successes)
    overturned = rng.binomial(agreements, min(1.0, (1 - true) * spurious / shown) if shown else 0.0)
    errors = np.ceil((trials - successes) * part).astype(np.int64)
    restored = rng.binomial(errors, min(1.0, true * missed / (1 - shown)) if shown < 1 else 0.0)
    return successes, agreements, overturned, restored


@settings(max_examples=60)
@given(
    st.integers(20, 600),
    st.integers(5, 300),
    st.tuples(st.floats(0.5, 1), st.floats(0, 0.5), st.floats(0, 0.9)),
    st.floats(0, 1),
    st.sampled_from([0.2, 0.1, 0.05]),
    st.integers(0, 2**32),
)
def test_the_bound_lies_above_the_truth_no_more_often_than_delta(
    trials: int, checked: int, world: tuple[float, float, float], part: float, delta: float, seed: int
) -> None:
    draws = 3000
    counts = draw_counts(np.random.default_rng(seed), draws, trials, checked, world, part)
    wrong = (noise_adjusted_bound(counts[0], trials, *counts[1:], delta) > world[0] + 1e-12).mean()
    assert wrong <= delta + 4 * math.sqrt(delta * (1 - delta) / draws)


@pytest.mark.parametrize("world", [(0.9, 0.0, 0.0), (0.9, 0.05, 0.3), (0.8, 0.1, 0.1), (0.6, 0.3, 0.6)])
def test_the_bound_is_not_idle(world: tuple[float, float, float]) -> None:
    counts = draw_counts(np.random.default_rng(5), 2000, 4000, 2000, world, 1.0)
    bounds = noise_adjusted_bound(counts[0], 4000, *counts[1:], 0.1)
    assert world[0] - 0.05 < bounds.mean() < world[0]


def test_correcting_only_the_errors_flatters() -> None:
    rng, world = np.random.default_rng(2), (0.9, 0.02, 0.3)
    trials, delta = 2000, 0.05
    successes, agreements, overturned, restored = draw_counts(rng, 2000, trials, 500, world, 1.0)
    corrected = successes + restored
    assert 0.02 < (corrected / trials).mean() - world[0]
    assert 0.95 < (lower_bound(corrected, trials, delta) > world[0]).mean()
    both = noise_adjusted_bound(successes, trials, agreements, overturned, restored, delta)
    assert (both > world[0]).mean() <= delta


def test_the_bound_is_put_together_from_a_third_of_delta_each() -> None:
    # 96 of 100 right; 1 of 40 agreements overturned; 2 of 4 errors restored.
    o, kept, back = lower_bound(96, 100, 0.02), 1 - upper_bound(1, 40, 0.02), lower_bound(2, 4, 0.02)
    assert o * kept + (1 - o) * back == pytest.approx(noise_adjusted_bound(96, 100, 40, 1, 2, 0.06))


counted = st.integers(1, 200).flatmap(
    lambda k: st.integers(1, k).flatmap(
        lambda x: st.tuples(st.just(x), st.just(k), st.integers(1, x), st.integers(0, k - x))
    )
)


@given(counted, st.data())
def test_a_worse_count_never_raises_the_bound(count: tuple[int, int, int, int], data: st.DataObject) -> None:
    x, k, m, restored = count
    overturned = data.draw(st.integers(0, m))
    bound = noise_adjusted_bound(x, k, m, overturned, restored, 0.1)
    observed = lower_bound(x, k, 0.1 / 3)
    assert 0 <= bound <= observed + (1 - observed) * restored / max(k - x, 1) + 1e-12
    if overturned < m:
        assert noise_adjusted_bound(x, k, m, overturned + 1, restored, 0.1) <= bound
    if restored:
        assert noise_adjusted_bound(x, k, m, overturned, restored - 1, 0.1) <= bound
    if x > m:
        assert noise_adjusted_bound(x - 1, k, m, overturned, restored, 0.1) <= bound + 1e-12
    assert noise_adjusted_bound(x, k, m, overturned, restored, 0.05) <= bound


@given(st.integers(1, 400), st.integers(0, 20), st.sampled_from([0.7, 0.8, 0.9]))
def test_the_agreements_needed_are_the_fewest(successes: int, errors: int, at_least: float) -> None:
    trials, needed = successes + errors, agreements_needed(successes, successes + errors, at_least, 0.1)
    if needed is None:
        assert noise_adjusted_bound(successes, trials, successes, 0, 0, 0.1) < at_least
    else:
        assert noise_adjusted_bound(successes, trials, needed, 0, 0, 0.1) >= at_least
        assert noise_adjusted_bound(successes, trials, needed - 1, 0, 0, 0.1) < at_least


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="of 5 successes 6 cannot"):
        noise_adjusted_bound(5, 8, 6, 0, 0, 0.1)
    with pytest.raises(ValueError, match="of 3 errors 4 be restored"):
        noise_adjusted_bound(5, 8, 5, 0, 4, 0.1)
    with pytest.raises(ValueError, match="between 0 and trials"):
        noise_adjusted_bound(5, 8, 4, 5, 0, 0.1)


# Choosing


def chosen(
    seed: int = 0, each: int | None = None, n: int = 600
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    reach, truth = rng.random(n).astype(np.float32), rng.random(n) < 0.95
    contents = [f"{row:064x}" for row in range(n)]
    return (*choose_rows(reach, truth, 0.3, 0.88, 0.1, contents, each, seed), reach, truth)


def test_the_errors_nearest_above_the_threshold_are_chosen() -> None:
    agreements, errors, reach, truth = chosen(each=5)
    fires = reach >= np.float32(0.3)
    assert np.sort(reach[fires & ~truth])[:5].tolist() == reach[errors].tolist()
    assert 5 == len(agreements)
    assert (fires & truth)[agreements].all()


def test_by_default_all_errors_go_along_and_the_agreements_that_are_needed() -> None:
    agreements, errors, reach, truth = chosen()
    fires = reach >= np.float32(0.3)
    right, wrong = int((fires & truth).sum()), int((fires & ~truth).sum())
    assert (wrong, wrong) == (len(errors), len(set(errors)))
    assert agreements_needed(right, right + wrong, 0.88, 0.1) == len(agreements) == len(set(agreements))
    assert len(agreements) > max(wrong, 20)


def test_agreements_are_drawn_from_all_scores_alike() -> None:
    hits = np.zeros(600)
    for seed in range(300):
        agreements, _, reach, truth = chosen(seed, each=20)
        hits[agreements] += 1
    able = (reach >= np.float32(0.3)) & truth
    expected = 300 * 20 / able.sum()
    spread = ((hits[able] - expected) ** 2).sum() / (expected * (1 - 20 / able.sum()))
    assert abs(spread - able.sum()) < 4 * math.sqrt(2 * able.sum())
    assert abs(np.corrcoef(hits[able], reach[able])[0, 1]) < 4 / math.sqrt(able.sum())
    assert 0 == hits[~able].sum()


def test_names_and_their_order_come_from_the_pictures_and_the_draw_alone() -> None:
    contents = [f"{row:064x}" for row in range(50)]
    one, other = name_items([7, 3, 30], contents, "policy", 0), name_items([30, 7, 3], contents, "policy", 0)
    assert list(one.items()) == list(other.items()) == sorted(one.items())
    assert {3, 7, 30} == set(one.values())
    assert not set(one) & set(name_items([7, 3, 30], contents, "policy", 1))


# Answers

QUESTION = Question("shoe", "accept", 0.8, 0.1, 200, 194, np.arange(60), np.arange(100, 106))


def answered(overturned: int = 0, restored: int = 0, missing: int = 0) -> Answer:
    shows = {row: row >= overturned for row in range(60 - missing)} | {
        row: row < 100 + restored for row in range(100, 106)
    }
    return answer_question(QUESTION, shows)


def test_a_promise_holds_if_its_bound_still_reaches_the_goal() -> None:
    found = answered(overturned=2, restored=3)
    assert ("holds", "", 2, 3, 0) == (found.verdict, found.reason, found.overturned, found.restored, found.missing)
    assert noise_adjusted_bound(194, 200, 60, 2, 3, 0.1) == found.bound
    assert lower_bound(194, 200, 0.1) == found.observed_bound > found.bound > 0.8


def test_a_promise_fails_if_too_much_is_overturned() -> None:
    found = answered(overturned=12)
    assert ("fails", "12 of 60 agreements were overturned") == (found.verdict, found.reason)
    assert found.bound < 0.8


def test_missing_second_labels_count_against_the_promise_but_do_not_break_it() -> None:
    found = answered(missing=20)
    assert ("inconclusive", "20 second labels are missing", 20) == (found.verdict, found.reason, found.missing)
    assert noise_adjusted_bound(194, 200, 60, 20, 0, 0.1) == found.bound
    assert "holds" == answered(missing=1).verdict
    assert "fails" == answered(missing=5, overturned=20).verdict


def test_too_few_agreements_are_inconclusive_whatever_they_say() -> None:
    few = replace(QUESTION, agreements=np.arange(6))
    needed = agreements_needed(194, 200, 0.8, 0.1)
    for overturned in (0, 3):
        found = answer_question(
            few, {row: row >= overturned for row in range(6)} | dict.fromkeys(range(100, 106), False)
        )
        assert ("inconclusive", f"6 agreements are too few; {needed} would do if none is overturned") == (
            found.verdict,
            found.reason,
        )


def test_counts_without_room_are_inconclusive_and_say_so() -> None:
    tight = replace(QUESTION, at_least=0.945)
    found = answer_question(tight, dict.fromkeys(range(60), True) | dict.fromkeys(range(100, 106), False))
    assert found.observed_bound > 0.945
    assert "inconclusive" == found.verdict
    assert found.reason.startswith("194 of 200 right leaves no room for label noise")


def test_one_failure_outweighs_what_is_open() -> None:
    agreement = measure_agreement(["a"], ["a"])
    kinds = {"holds": answered(), "fails": answered(overturned=12), "inconclusive": answered(missing=20)}
    for names, verdict in (
        (["holds"], "holds"),
        (["holds", "inconclusive"], "inconclusive"),
        (["inconclusive", "fails", "holds"], "fails"),
    ):
        noise = LabelNoise(tuple(kinds[name] for name in names), agreement)
        assert verdict == noise.verdict
        assert names == noise.frame()["verdict"].tolist()
    labels = [text.get_text() for text in noise.plot().get_yticklabels()]
    assert ["shoe: accept"] * 3 == labels


# Agreement


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=40))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    found = measure_agreement(first, second)
    assert sum(a == b for a, b in pairs) == found.agreed
    if len({*first, *second}) > 1:
        assert cohen_kappa_score(first, second) == pytest.approx(found.kappa, abs=1e-9)
        assert math.isnan(found.kappa_low) or found.kappa_low < found.kappa < found.kappa_high
    else:
        assert math.isnan(found.kappa)


def test_kappa_has_the_published_interval() -> None:
    # The standard example of two readers and 50 proposals: κ = 0.4, ASE 0.1270.
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    found = measure_agreement([one for one, _ in pairs], [other for _, other in pairs])
    figures = (found.kappa, found.kappa_low, found.kappa_high)
    assert (0.4, 0.1511, 0.6489) == tuple(round(figure, 4) for figure in figures)


def test_agreement_has_an_exact_interval() -> None:
    found = measure_agreement(["a"] * 10, ["a"] * 10)
    assert (0.6915, 1.0) == tuple(round(end, 4) for end in found.interval)
    assert 1.0 == found.frame()["agreement"][0]
    assert math.isnan(measure_agreement([], []).frame()["agreement"][0])
    with pytest.raises(ValueError, match="1 first labels and 2 second ones"):
        measure_agreement(["a"], ["a", "b"])


# The file


def read(folder: Path, text: str, taxonomy: Taxonomy = SINGLE) -> dict[str, tuple[str, ...]]:
    file = folder / "second.csv"
    file.write_text(text, encoding="utf-8")
    return read_second_labels(file, taxonomy, {"a1", "b2", "c3", "d4", "e5", "f6"})


def test_text_is_read_as_text(tmp_path: Path) -> None:
    found = read(tmp_path, "item,image,label\nb2,x.png,NA\na1,y.png, 001 \nc3,z.png,unknown\n")
    assert {"b2": ("NA",), "a1": ("001",), "c3": ()} == found


def test_a_spreadsheet_may_have_written_it(tmp_path: Path) -> None:
    assert {"a1": ("shoe",)} == read(tmp_path, '\ufeffitem;image;label\r\n"a1";"x.png";"shoe"\r\n')


def test_several_labels_stand_between_bars(tmp_path: Path) -> None:
    found = read(tmp_path, "item,image,label\na1,x,boot|shoe\nb2,y,boot\nc3,z,unknown\n", MULTI)
    assert {"a1": ("shoe", "boot"), "b2": ("boot",), "c3": ()} == found


def test_each_bad_row_is_named_with_its_line(tmp_path: Path) -> None:
    text = "item,image,label\na1,x,shoe\nzz,x,shoe\nb2,x,shoes\n\nc3,x,\na1,x,shoe\nd4,x,shoe|NA\ne5,x\nf6,x,NA\n"
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    file = tmp_path / "second.csv"
    assert [
        f"{file}:3: no item is called 'zz' here",
        f"{file}:4: label 'shoes' is not in the taxonomy; is 'shoe' meant?",
        f"{file}:6: the label is empty; write 'unknown' for none, or take the row out",
        f"{file}:7: item 'a1' stands in line 2 already",
        f"{file}:8: labels 'shoe', 'NA', but the taxonomy is single-label",
        f"{file}:9: 2 fields where the header has 3",
    ] == str(caught.value).split("\n")


def test_a_label_outside_is_an_error_even_where_data_may_have_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"second\.csv:2: label 'hat' is not in the taxonomy"):
        read(tmp_path, "item,image,label\na1,x,hat\n", replace(SINGLE, outside="unknown"))


def test_many_bad_rows_are_cut_short(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"and 5 more$"):
        read(tmp_path, "item,image,label\n" + "zz,x,shoe\n" * 25)


@pytest.mark.parametrize("header", ["item,image,labels", "number,image,label"])
def test_a_column_that_lacks_is_named(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match=r"second\.csv:1: there is no column '(item|label)'; the header is item,image"):
        read(tmp_path, f"{header}\na1,x,shoe\n")


def test_a_few_overturned_labels_are_inconclusive_and_many_are_not() -> None:
    few, many = answered(overturned=8), answered(overturned=20)
    assert few.bound < QUESTION.at_least <= 194 / 200 * (1 - 8 / 60)
    assert ("inconclusive", "fails") == (few.verdict, many.verdict)
    assert "more of them" in few.reason
