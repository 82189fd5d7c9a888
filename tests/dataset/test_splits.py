from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.dataset.images import SPLITS
from workbench.dataset.splits import SHARES, _fill_gaps, assign_splits, split_problems

CATEGORIES = ("a", "b", "c")
LABELS = st.one_of(
    st.none(), st.lists(st.sampled_from(CATEGORIES), unique=True).map(lambda names: tuple(sorted(names)))
)
GROUPS = st.lists(st.tuples(LABELS, st.integers(1, 3)), max_size=40)
"""Labels of a group, and how many images it has."""


def frame_of(groups: list[tuple[tuple[str, ...] | None, int]]) -> pd.DataFrame:
    rows = [(f"g{number}", labels) for number, (labels, size) in enumerate(groups) for _ in range(size)]
    return frame(rows)


def frame(rows: list[tuple[str, tuple[str, ...] | None]], split: list[str] | None = None) -> pd.DataFrame:
    groups, labels = [group for group, _ in rows], [labels for _, labels in rows]
    columns = {"group": pd.Series(groups, dtype="str"), "labels": pd.Series(labels, dtype=object)}
    return pd.DataFrame(columns if split is None else {**columns, "split": pd.Series(split, dtype="str")})


def single(count: int, label: str = "a", start: int = 0) -> list[tuple[str, tuple[str, ...]]]:
    return [(f"{label}{number}", (label,)) for number in range(start, start + count)]


def by_group(data: pd.DataFrame, seed: int = 0) -> dict[str, str]:
    return dict(zip(data["group"], assign_splits(data, seed), strict=True))


@given(GROUPS, st.integers(0, 2**32))
def test_no_group_is_split(groups: list[tuple[tuple[str, ...] | None, int]], seed: int) -> None:
    data = frame_of(groups)
    splits = assign_splits(data, seed)

    assert set(splits) <= set(SPLITS)
    found = defaultdict(set)
    for group, split in zip(data["group"], splits, strict=True):
        found[group].add(split)
    assert all(len(splits) == 1 for splits in found.values())


@given(GROUPS, st.integers(0, 9), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    groups: list[tuple[tuple[str, ...] | None, int]], seed: int, random: object
) -> None:
    data = frame_of(groups)
    order = list(range(len(data)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = data.iloc[order]

    expected = assign_splits(data, seed)

    pd.testing.assert_series_equal(expected, assign_splits(data, seed))
    pd.testing.assert_series_equal(expected.iloc[order], assign_splits(shuffled, seed))


def test_another_seed_splits_otherwise() -> None:
    data = frame(single(50))

    assert list(assign_splits(data, 1)) != list(assign_splits(data, 2))


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 99))
def test_each_category_gets_its_shares(of_a: int, of_b: int, seed: int) -> None:
    data = frame(single(of_a, "a") + single(of_b, "b"))
    counts = Counter(zip(data["labels"].str[0], assign_splits(data, seed), strict=True))

    for label, total in (("a", of_a), ("b", of_b)):
        for split, share in SHARES.items():
            assert abs(counts[label, split] - share * total) < (1 if total > 5 else 2)


@given(st.integers(3, 60), st.integers(0, 99))
def test_a_category_of_three_groups_is_in_every_split(count: int, seed: int) -> None:
    assert set(SPLITS) == set(assign_splits(frame(single(count)), seed))


def test_a_category_that_is_only_in_rare_label_sets_reaches_every_split() -> None:
    """Six groups show x, each beside others: no label set has enough of them to be cut in three."""
    rare = [("a",), ("b",), ("c",), ("a", "b"), ("b", "c"), ("a", "b", "c")]
    rows = [row for name in CATEGORIES for row in single(10, name)]
    rows += [(f"r{number}", (*labels, "x")) for number, labels in enumerate(rare)]

    for seed in range(40):
        data = frame(rows)
        splits = assign_splits(data, seed)
        for category in (*CATEGORIES, "x"):
            shown = [category in labels for labels in data["labels"]]
            assert set(SPLITS) == set(splits[shown]), (seed, category)


@pytest.mark.parametrize(
    ("groups", "moved"),
    [
        ("p train xy; q train x; r tune x; s tune y; t certify y", "q"),
        ("p train x; q train x; r tune x; s tune x; t tune x", "r"),
        ("p train x; q tune xy; r tune xz; s train y; t certify y; u train z; v certify z", ""),
    ],
)
def test_a_gap_is_filled_from_the_fullest_split_and_opens_no_other(groups: str, moved: str) -> None:
    """Groups with their split and categories; x has none in certify, and hashes are in the order of the alphabet."""
    given = [group.split() for group in groups.split("; ")]
    drawn = {group: split for group, split, _ in given}
    _fill_gaps(drawn, {group: frozenset(shown) for group, _, shown in given}, {group: group for group in drawn}, SPLITS)

    assert {group: "certify" if group == moved else split for group, split, _ in given} == drawn


def test_many_label_sets_of_one_group_each_get_the_shares_together() -> None:
    pairs = combinations([f"c{number:02d}" for number in range(30)], 2)
    counts = assign_splits(frame([("+".join(pair), pair) for pair in pairs])).value_counts()

    for split, share in SHARES.items():
        assert abs(counts[split] / 435 - share) < 0.1


@given(st.integers(0, 80), st.integers(0, 99))
def test_a_new_group_moves_at_most_one_other_over_each_cut(count: int, seed: int) -> None:
    before = by_group(frame(single(count)), seed)
    after = by_group(frame(single(count + 1)), seed)

    assert sum(after[group] != split for group, split in before.items()) <= 2


def test_growth_by_a_tenth_moves_few() -> None:
    before, after = by_group(frame(single(1000))), by_group(frame(single(1100)))

    assert sum(after[group] != split for group, split in before.items()) < 50


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_other_categories_do_not_matter(of_a: int, of_b: int, seed: int) -> None:
    alone = by_group(frame(single(of_a)), seed)
    beside = by_group(frame(single(of_a) + single(of_b, "b")), seed)

    assert alone == {group: beside[group] for group in alone}


def test_other_shares() -> None:
    halves = {"train": 0.0, "tune": 0.5, "certify": 0.5}
    counts = Counter(assign_splits(frame(single(101)), 0, halves))

    assert {50, 51} == {counts["tune"], counts["certify"]}
    assert 0 == counts["train"]


@pytest.mark.parametrize("shares", [{"train": 0.5, "certify": 0.4}, {"train": 1.5, "tune": -0.5}])
def test_shares_must_be_a_whole(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        assign_splits(frame(single(3)), 0, shares)


def test_an_official_split_is_kept() -> None:
    official = ["train", "tune", "certify"] * 3
    data = frame(single(9), official)

    assert official == list(assign_splits(data))
    assert [] == list(split_problems(data, "pets"))


def test_rows_without_a_split_are_drawn_and_follow_their_group() -> None:
    rows = [("x", ("a",)), ("x", ("a",)), *single(100)]
    data = frame(rows, ["certify", *[""] * 101])
    splits = assign_splits(data)

    assert ["certify", "certify"] == list(splits[:2])
    assert by_group(frame(single(100))) == dict(zip(data["group"][2:], splits[2:], strict=True))
    crossing = frame([("x", ("a",))] * 3, ["certify", "train", ""])
    assert ["train", "train"] == [assign_splits(data)[2] for data in (crossing, crossing.iloc[[1, 0, 2]])]
    assert ["split_completed"] == [problem.code for problem in split_problems(data, "pets")]


@pytest.mark.parametrize(
    ("official", "giver", "taker"), [(("train", "certify"), "train", "tune"), (("train", "tune"), "tune", "certify")]
)
def test_a_missing_split_is_carved_by_hash(official: tuple[str, str], giver: str, taker: str) -> None:
    data = frame(single(200), [official[number % 2] for number in range(200)])
    splits = assign_splits(data)
    moved = splits[splits != data["split"]]

    assert set(SPLITS) == set(splits)
    assert {giver} == set(data["split"][moved.index])
    assert {taker} == set(moved)
    wanted = SHARES[taker] / (SHARES[giver] + SHARES[taker])
    assert abs(len(moved) - 100 * wanted) < 1
    assert ["split_carved"] == [problem.code for problem in split_problems(data, "pets")]


def test_one_split_alone_is_kept_and_said() -> None:
    data = frame(single(5), ["train"] * 5)

    assert ["train"] * 5 == list(assign_splits(data))
    (problem,) = split_problems(data, "pets")
    assert ("pets", "one_split", False) == (problem.place, problem.code, problem.refused)


def test_a_group_that_crosses_official_splits_is_named() -> None:
    rows = [("burst", ("a",)), ("burst", ("a",)), ("alone", ("a",)), ("burst", ("a",))]
    data = frame(rows, ["certify", "train", "tune", "certify"])

    assert ["certify", "train", "tune", "certify"] == list(assign_splits(data))
    (problem,) = split_problems(data, "pets")
    assert "group_crosses_splits" == problem.code
    assert "group 'burst' has images in train and certify" in problem.message
