from __future__ import annotations

import unicodedata

import pytest

from workbench.dataset.labels import Reading, read_labels
from workbench.dataset.rows import RawLabels
from workbench.records import Taxonomy

PETS = Taxonomy(("cat", "dog"))


def read(raw: list[RawLabels], taxonomy: Taxonomy | None = None) -> Reading:
    return read_labels(raw, [f"m.csv:{line}" for line in range(2, len(raw) + 2)], taxonomy)


def codes(reading: Reading) -> list[tuple[str, str, int | None]]:
    return [(problem.place, problem.code, problem.row) for problem in reading.problems]


def test_text_that_looks_like_something_else_stays_text() -> None:
    names = ["NA", "null", "001", "True", "1e3", "nan"]

    reading = read([(name,) for name in names])

    assert tuple(sorted(names)) == reading.taxonomy.categories
    assert [(name,) for name in names] == reading.labels
    assert [] == reading.problems


def test_blanks_are_cut_and_composed_and_decomposed_are_one_label() -> None:
    decomposed = unicodedata.normalize("NFD", "café")

    reading = read([("café",), (decomposed,), (" cat",), ("cat",), (" cat",)])

    assert ("café", "cat") == reading.taxonomy.categories
    assert [("café",), ("café",), ("cat",), ("cat",), ("cat",)] == reading.labels
    assert [("m.csv:3", "label_unicode", None), ("m.csv:4", "label_trimmed", None)] == codes(reading)
    assert "' cat' (2 rows)" in reading.problems[1].message
    assert [False, False] == [problem.refused for problem in reading.problems]


def test_the_taxonomy_is_what_occurs_but_unknown() -> None:
    assert Taxonomy(("a", "b")) == read([("b",), ("a",), ("unknown",), None, ()]).taxonomy
    assert Taxonomy(("a", "b"), "multi-label") == read([("b", "a"), ("a",)]).taxonomy
    assert Taxonomy(()) == read([None, None]).taxonomy


def test_labels_stand_in_the_order_of_the_taxonomy() -> None:
    reading = read([("dog", "cat", "dog"), ("unknown",), (), None], Taxonomy(("cat", "dog"), "multi-label"))

    assert [("cat", "dog"), (), (), None] == reading.labels


def test_a_label_outside_is_refused_row_by_row_and_a_near_one_is_named() -> None:
    reading = read([("cat",), ("Cat",), ("bird",), ("Cat",)], PETS)

    assert [("cat",), None, None, None] == reading.labels
    assert [("m.csv:3", "label_outside", 1), ("m.csv:4", "label_outside", 2), ("m.csv:5", "label_outside", 3)] == codes(
        reading
    )
    assert "label 'Cat' is not in the taxonomy; is 'cat' meant?" == reading.problems[0].message
    assert "label 'bird' is not in the taxonomy" == reading.problems[1].message
    assert all(problem.refused for problem in reading.problems)


def test_a_label_outside_is_unknown_only_if_the_taxonomy_says_so() -> None:
    reading = read([("cat",), ("bird",), ("Cat",), ("bird",)], Taxonomy(("cat", "dog"), outside="unknown"))

    assert [("cat",), (), (), ()] == reading.labels
    assert [("m.csv:3", "label_unknown", None), ("m.csv:4", "label_unknown", None)] == codes(reading)
    assert "'bird' (2 rows)" in reading.problems[0].message
    assert "is 'cat' meant?" in reading.problems[1].message


def test_in_multi_label_only_the_outside_label_drops_out() -> None:
    taxonomy = Taxonomy(("cat", "dog"), "multi-label", outside="unknown")

    assert [("cat",), ()] == read([("bird", "cat"), ("bird",)], taxonomy).labels


def test_the_word_for_unknown_is_always_a_label() -> None:
    assert [(), ("cat",)] == read([("none of these",), ("cat",)], Taxonomy(("cat",), unknown="none of these")).labels


@pytest.mark.parametrize(
    ("raw", "taxonomy", "code"),
    [
        (("cat", "dog"), PETS, "several_labels"),
        (("cat", "unknown"), Taxonomy(("cat", "dog"), "multi-label"), "unknown_and_known"),
        (("cat", "bird"), Taxonomy(("cat", "dog"), "multi-label"), "label_outside"),
    ],
)
def test_labels_that_contradict_the_taxonomy_are_refused(raw: RawLabels, taxonomy: Taxonomy, code: str) -> None:
    reading = read([raw], taxonomy)

    assert [None] == reading.labels
    assert [code] == [problem.code for problem in reading.problems]


def test_a_category_in_another_normal_form_is_the_same() -> None:
    decomposed = unicodedata.normalize("NFD", "café")

    assert [(decomposed,)] == read([("café",)], Taxonomy((decomposed,))).labels


def test_blank_labels_are_no_label() -> None:
    assert [None, ("cat",)] == read([("  ",), ("cat", " ")], PETS).labels


def test_categories_that_differ_by_spelling_are_pointed_out() -> None:
    reading = read([("ankle boot",), ("Ankle-Boot",), ("cat",)])

    assert ["categories_alike"] == [problem.code for problem in reading.problems]
    assert "'Ankle-Boot', 'ankle boot'" in reading.problems[0].message
