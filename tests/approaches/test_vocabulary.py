"""The language of label maps, and how confidences become scores."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.approaches.vocabulary import Label, LabelMap, percent, read_label_map
from workbench.canonical import binary32
from workbench.errors import ConfigError, ProviderError
from workbench.records import CENSORED, Taxonomy

RELATIONS = ("parent", "alias", "category")
TAXONOMY = Taxonomy(("pet", "food"))


def read(written: Mapping[str, tuple[str, ...]], taxonomy: Taxonomy = TAXONOMY) -> LabelMap:
    return read_label_map(written, taxonomy, "x", RELATIONS)


def one(*terms: str) -> LabelMap:
    return read({"pet": terms}, Taxonomy(("pet",)))


DOG = Label("Dog", 0.75, {"parent": ("Animal", "Canine"), "alias": ("Hound",), "category": ("Animals and Pets",)})
CAT = Label("Cat", 0.5, {"parent": ("Animal",), "alias": (), "category": ("Animals and Pets",)})


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (("Dog",), 0.75),
        (("  dOg ",), 0.75),
        (("name:Dog",), 0.75),
        (("Cat", "Dog"), 0.75),
        (("Cat",), 0.5),
        (("parent:Animal",), 0.75),
        (("parent: canine", "Cat"), 0.75),
        (("alias:hound",), 0.75),
        (("category:Animals  and pets",), 0.75),
        (("Animal",), CENSORED),
        (("Hound",), CENSORED),
        (("parent:Dog",), CENSORED),
        (("alias:Animal",), CENSORED),
        (("D*g",), CENSORED),
        (("Do",), CENSORED),
    ],
)
def test_a_category_is_as_sure_as_its_surest_label(terms: tuple[str, ...], expected: float) -> None:
    assert {"pet": expected} == one(*terms).scores([CAT, DOG])


def test_no_label_censors_every_category() -> None:
    assert {"pet": CENSORED, "food": CENSORED} == read({"pet": ("Dog",), "food": ("Food",)}).scores([])


def test_a_name_with_a_colon_can_be_written() -> None:
    assert {"pet": 0.25} == one("name:Sign: Stop").scores([Label("sign: stop", 0.25)])


def test_two_labels_of_one_name_count_as_the_surer() -> None:
    assert {"pet": 0.75} == one("dog").scores([Label("DOG", 0.25), DOG, Label("dog", 0.5)])


def test_unknown_is_scored_where_it_is_mapped() -> None:
    mapped = read({"pet": ("Dog",), "food": ("Food",), "unknown": ("category:Animals and Pets",)})
    assert {"pet": 0.75, "food": CENSORED, "unknown": 0.75} == mapped.scores([DOG])
    assert {"pet", "food"} == set(read({"pet": ("Dog",), "food": ("Food",), "unknown": ()}).terms)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({}, "no terms for 'pet', 'food'"),
        ({"pet": ("Dog",)}, "no terms for 'food'"),
        ({"pet": ("Dog",), "food": ()}, "no terms for 'food'"),
        ({"pet": ("Dog",), "food": ("Food",), "pets": ("Cat",)}, "'pets' is no category of the taxonomy; did you mean"),
        ({"pet": ("parents:Animal",), "food": ("Food",)}, "did you mean 'parent'?"),
        ({"pet": ("Sign: Stop",), "food": ("Food",)}, "which is none of `name:`, `parent:`, `alias:`, `category:`"),
        ({"pet": (" ",), "food": ("Food",)}, "'pet': ' ' names no label"),
        ({"pet": ("parent:",), "food": ("Food",)}, "'pet': 'parent:' names no label"),
    ],
)
def test_a_faulty_map_is_refused(written: Mapping[str, tuple[str, ...]], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(written)
    assert str(caught.value).startswith("label map [approaches.x.labels]")
    assert expected in str(caught.value)


def test_a_service_without_relations_knows_names_alone() -> None:
    with pytest.raises(ConfigError, match="none of `name:`"):
        read_label_map({"pet": ("parent:Animal",)}, Taxonomy(("pet",)), "x", ())


def test_a_term_of_two_categories_is_noted() -> None:
    mapped = read({"pet": ("Dog", "parent:Animal"), "food": ("DOG", "Animal", "dog")})
    assert {"name:dog": ["pet", "food"]} == mapped.shared
    assert {} == read({"pet": ("Dog", "dog"), "food": ("Food",)}).shared


def test_order_and_spelling_do_not_matter() -> None:
    one_way = read({"food": ("Food", "parent:Meal"), "pet": ("Dog",)})
    another = read({"pet": (" dog",), "food": ("parent: meal", "name:FOOD")})
    assert one_way.document == another.document
    assert one_way.document != read({"pet": ("Dog",), "food": ("Food", "alias:Meal")}).document


NAMES = st.sampled_from(["a", "b", "c", "d"])
LABELS = st.lists(
    st.builds(
        lambda name, score, parents: Label(name, binary32(score), {"parent": tuple(parents)}),
        NAMES,
        st.floats(0, 1),
        st.lists(NAMES, max_size=2),
    ),
    max_size=5,
)


@given(LABELS, st.lists(st.tuples(st.sampled_from(["name", "parent"]), NAMES), min_size=1, max_size=3))
def test_scores_are_the_maximum_over_matches(labels: list[Label], terms: list[tuple[str, str]]) -> None:
    matches = [
        label.score
        for label in labels
        if ("name", label.name) in terms or any(("parent", text) in terms for text in label.relations["parent"])
    ]
    mapped = one(*(f"{relation}:{text.upper()}" for relation, text in terms))
    assert {"pet": max(matches, default=CENSORED)} == mapped.scores(labels)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0.0), (100, 1.0), (98.7, binary32(0.987)), (100.00000762939453, 1.0), (1e-30, binary32(1e-32))],
)
def test_percent_becomes_binary32(value: float, expected: float) -> None:
    assert expected == percent(value, "a label")


@given(st.floats(0, 100), st.floats(0, 100))
def test_percent_keeps_the_order(one: float, another: float) -> None:
    low, high = sorted([one, another])
    assert percent(low, "") <= percent(high, "")


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (-0.1, "bad_probability"),
        (100.1, "bad_probability"),
        (170, "bad_probability"),
        (math.nan, "bad_probability"),
        (math.inf, "bad_probability"),
        ("nan", "bad_probability"),
        ("-inf", "bad_probability"),
        ("high", "malformed_answer"),
        ("98", "malformed_answer"),
        (None, "malformed_answer"),
        (True, "malformed_answer"),
        ([], "malformed_answer"),
    ],
)
def test_what_is_no_percentage_is_refused(value: object, outcome: str) -> None:
    with pytest.raises(ProviderError, match="label 'Dog'") as caught:
        percent(value, "label 'Dog'")
    assert outcome == caught.value.outcome
