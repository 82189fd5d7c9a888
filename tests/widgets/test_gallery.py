"""The gallery's rows, filters, order, selection, labels and exports, without a browser."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from PIL import Image

from labelled_runs import make_dataset, make_run
from panels import ask
from workbench.dataset.images import Dataset
from workbench.errors import InputError, RunError
from workbench.evaluation.comparison import compare_runs
from workbench.evaluation.labelled import join
from workbench.records import MISSING, OK, Taxonomy
from workbench.widgets.gallery import Gallery
from workbench.widgets.rows import LABEL, MOST_CHOICES, NOTE, Mark, Rows

TAXONOMY = Taxonomy(("shoe", "boot", "<b>bag"))
HOSTILE = ("=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "<script>", "a\0b", "'", "", "\ud800")

numbers = st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(allow_infinity=True, allow_nan=True))
words = st.one_of(st.none(), st.sampled_from(["shoe", "Boot", "", "=1"]), st.text(max_size=4))


def make_rows(**columns: Sequence[Any]) -> Rows:
    n = len(next(iter(columns.values())))
    ids = [f"{row}.png" for row in range(n)]
    return Rows(pd.DataFrame({"image_id": ids, **columns}), TAXONOMY)


def make_images(n: int = 6, **columns: Sequence[Any]) -> tuple[Dataset, pd.DataFrame]:
    dataset = make_dataset([("shoe",)] * n, TAXONOMY)
    return dataset, pd.DataFrame({"image_id": dataset.frame["image_id"], **columns})


# Filter and sort


@given(
    cells=st.lists(st.tuples(numbers, words), max_size=30),
    query=st.sampled_from(["", "o", "BOOT", "3.png"]),
    low=st.one_of(st.none(), st.floats(-2, 1)),
    high=st.one_of(st.none(), st.floats(1, 3)),
    picked=st.sets(st.sampled_from(["shoe", "Boot", ""])),
    by=st.sampled_from([None, "score", "word", "image_id"]),
    ascending=st.booleans(),
)
def test_what_is_shown_is_what_plain_python_filters_and_sorts(
    cells: list[tuple[float, str | None]],
    query: str,
    low: float | None,
    high: float | None,
    picked: set[str],
    by: str | None,
    ascending: bool,
) -> None:
    frame = pd.DataFrame(
        {
            "image_id": [f"{row}.png" for row in range(len(cells))],
            "score": pd.Series([score for score, _ in cells], dtype=np.float64),
            "word": pd.Series([word for _, word in cells], dtype=object),
        }
    )
    rows = Rows(frame, TAXONOMY)
    rows.sort(by, ascending=ascending)
    rows.filter(query, {"word": picked}, {"score": (low, high)})

    def passes(row: int) -> bool:
        score, word = cells[row][0], cells[row][1] or ""
        found = not query or any(query.casefold() in text.casefold() for text in (f"{row}.png", word))
        inside = (low is None or score >= low) and (high is None or score <= high)
        return found and inside and (not picked or word in picked)

    keys: dict[str | None, list[Any]] = {
        None: list(range(len(cells))),
        "score": [None if math.isnan(score) else score for score, _ in cells],
        "word": [word or None for _, word in cells],
        "image_id": [f"{row}.png" for row in range(len(cells))],
    }
    key = keys[by]
    there = [row for row in range(len(cells)) if key[row] is not None]
    order = sorted(there, key=lambda row: key[row], reverse=by is not None and not ascending)
    order += [row for row in range(len(cells)) if key[row] is None]
    assert [row for row in order if passes(row)] == rows.shown.tolist()


@given(st.lists(st.integers(0, 3), max_size=40), st.booleans())
def test_sorting_equals_that_of_pandas(values: list[int], ascending: bool) -> None:
    frame = pd.DataFrame({"image_id": [f"{row}.png" for row in range(len(values))], "n": np.array(values, dtype=int)})
    rows = Rows(frame, TAXONOMY)
    rows.sort("n", ascending=ascending)
    expected = frame.sort_values("n", ascending=ascending, kind="stable")["image_id"]
    assert list(expected) == list(rows.frame()["image_id"])


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([10, 9, None, 100], "number"),
        ([0.5, 1e-5, 0.00012], "number"),
        ([Decimal(10), Decimal(9)], "number"),
        (pd.to_timedelta(["10 days", "2 days"]), "choice"),
        (pd.Categorical(["mid", "high", "low"], ["low", "mid", "high"], ordered=True), "choice"),
        (pd.Categorical([10, 9, 1]), "number"),
        (pd.to_datetime(["2026-10-25T01:30Z", "2026-10-25T00:30Z"]).tz_convert("Europe/Berlin"), "choice"),
    ],
)
def test_what_has_an_order_is_sorted_by_it(cells: Any, kind: str) -> None:
    column = pd.Series(cells, dtype=object) if isinstance(cells, list) else pd.Series(cells)
    rows = Rows(pd.DataFrame({"image_id": [f"{row}.png" for row in range(len(column))], "cell": column}), TAXONOMY)
    rows.sort("cell")
    assert column.sort_values(kind="stable", na_position="last").index.tolist() == rows.shown.tolist()
    assert kind == rows.columns["cell"].kind


def test_a_binary32_is_its_shortest_decimal_in_filters_and_exports(tmp_path: Path) -> None:
    rows = make_rows(score=np.float32([0.7, 0.8, np.nan, 0.1]))
    rows.filter(ranges={"score": (0.7, 0.8)})
    assert [0, 1] == rows.shown.tolist()
    rows.export(tmp_path / "a.csv", "shown")
    rows.export(tmp_path / "a.jsonl", "shown")
    assert ["0.7", "0.8"] == [row["score"] for row in csv.DictReader((tmp_path / "a.csv").read_text().splitlines())]
    assert [0.7, 0.8] == [json.loads(line)["score"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]


def test_whole_numbers_beyond_float64_keep_their_order() -> None:
    rows = make_rows(n=[2**53 + 1, 2**53, 2**53 + 2])
    rows.sort("n")
    assert [1, 0, 2] == rows.shown.tolist()


def test_columns_are_numbers_choices_or_texts() -> None:
    n = MOST_CHOICES + 1
    rows = make_rows(
        score=[math.nan, math.inf, *range(n - 2)],
        maybe=pd.array([None, *range(n - 1)], dtype="Int64"),
        right=[True] * n,
        few=["a", None] + ["b"] * (n - 2),
        labels=[("a", "b")] * n,
        many=[str(row) for row in range(n)],
        long=["x" * 1000] * n,
    )
    kinds = {name: column.kind for name, column in rows.columns.items()}
    assert {
        "score": "number",
        "maybe": "number",
        "right": "choice",
        "few": "choice",
        "labels": "choice",
        "many": "text",
        "long": "text",
    } == kinds
    assert (0.0, float(n - 3)) == (rows.columns["score"].low, rows.columns["score"].high)
    assert {"": 1, "a": 1, "b": n - 2} == rows.columns["few"].choices
    assert {"a, b": n} == rows.columns["labels"].choices
    rows.filter(ranges={"maybe": (None, 3)})
    assert [1, 2, 3, 4] == rows.shown.tolist()


def test_a_query_does_not_match_across_cells() -> None:
    rows = make_rows(a=["x", "xy"], b=["y", "z"])
    rows.filter("xy")
    assert [1] == rows.shown.tolist()


def test_filters_that_mean_nothing_are_refused_and_change_nothing() -> None:
    rows = make_rows(score=[0.1, 0.2], word=["a", "b"])
    rows.filter("a", {"word": ["a"]}, {"score": (0, 1)})
    before = (rows.query, rows.choices, rows.ranges, rows.shown.tolist(), rows.view)
    for wrong in (
        {"choices": {"no": ["a"]}},
        {"ranges": {"no": (0, 1)}},
        {"ranges": {"word": (0, 1)}},
        {"ranges": {"score": (1, 0)}},
        {"ranges": {"score": (math.nan, None)}},
        {"ranges": {"score": ("1", None)}},
    ):
        with pytest.raises(InputError):
            rows.filter(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no column 'no'"):
        rows.sort("no")
    assert before == (rows.query, rows.choices, rows.ranges, rows.shown.tolist(), rows.view)


# Select and label


class Steps(RuleBasedStateMachine):
    """Undo and redo lead back and forth through every labelling, whatever is shown and selected meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = make_rows(score=[0.3, 0.1, math.nan, 0.1, 0.9], word=["a", "b", "a", None, "b"])
        self.given = self.rows.frame("all")
        self.states: list[dict[str, Mark]] = [{}]
        self.at = 0

    @rule(query=st.sampled_from(["", "a", "b", "3", "nothing"]), up=st.booleans(), by=st.sampled_from([None, "score"]))
    def look(self, query: str, up: bool, by: str | None) -> None:
        self.rows.filter(query)
        self.rows.sort(by, ascending=up)

    @rule()
    def inverting_twice_changes_nothing(self) -> None:
        before = self.rows.selected
        self.rows.invert()
        self.rows.invert()
        assert before == self.rows.selected

    @rule()
    def invert(self) -> None:
        hidden, shown = self.rows.hidden, int(self.rows.is_selected[self.rows.shown].sum())
        self.rows.invert()
        assert len(self.rows.shown) - shown + hidden == len(self.rows.selected)

    @precondition(lambda self: len(self.rows.shown))
    @rule(data=st.data())
    def click(self, data: st.DataObject) -> None:
        places = st.integers(0, len(self.rows.shown) - 1)
        first, last = data.draw(places), data.draw(places)
        self.rows.select_range(first, last)
        low, high = min(first, last), max(first, last)
        assert list(self.rows.ids[self.rows.shown[low : high + 1]]) == self.rows.selected
        self.rows.toggle_place(first)
        assert abs(first - last) == len(self.rows.selected)

    @precondition(lambda self: self.rows.is_selected.any())
    @rule(
        label=st.sampled_from([None, "", "shoe", "unknown"]),
        note=st.sampled_from([None, "", "=odd"]),
    )
    def label(self, label: str | None, note: str | None) -> None:
        expected = dict(self.states[self.at])
        for image_id in self.rows.selected:
            old = expected.pop(image_id, Mark())
            mark = Mark(old.label if label is None else label, old.note if note is None else note)
            if mark != Mark():
                expected[image_id] = mark
        changed = self.rows.label(label, note)
        assert (changed > 0) == (expected != self.states[self.at])
        if changed:
            self.states = [*self.states[: self.at + 1], expected]
            self.at += 1

    @rule()
    def undo(self) -> None:
        self.rows.undo()
        self.at = max(0, self.at - 1)

    @rule()
    def redo(self) -> None:
        self.rows.redo()
        self.at = min(len(self.states) - 1, self.at + 1)

    @invariant()
    def labels_are_those_of_the_step(self) -> None:
        assert self.states[self.at] == self.rows.labels
        assert (self.at > 0, self.at < len(self.states) - 1) == (self.rows.history.can_undo, self.rows.history.can_redo)

    @invariant()
    def rows_stay_as_they_came(self) -> None:
        own = ["image_id", "score", "word"]
        self.rows.sort(None)
        pd.testing.assert_frame_equal(self.given[own], self.rows.frame("all")[own])


TestSteps = Steps.TestCase


def test_what_cannot_be_selected_or_labelled_is_refused() -> None:
    rows = make_rows(word=["a", "b"])
    with pytest.raises(InputError, match="nothing is selected"):
        rows.label("shoe")
    with pytest.raises(InputError, match=r"'no\.png'"):
        rows.select(["0.png", "no.png"])
    assert [] == rows.selected
    for place in (-1, 2):
        with pytest.raises(InputError, match="no place"):
            rows.select_place(place)
    rows.select(["0.png"])
    with pytest.raises(InputError, match=r"'hat' is no label here; known: shoe, boot, <b>bag, unknown"):
        rows.label("hat")
    with pytest.raises(InputError, match="2000 characters, not 2001"):
        rows.label(note="x" * 2001)
    assert {} == rows.labels


# Export


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_exports_hold_what_is_selected_with_its_labels(tmp_path: Path, suffix: str) -> None:
    rows = make_rows(score=[0.25, math.nan, -math.inf], word=["ü", None, "-x"])
    rows.sort("image_id", ascending=False)
    rows.select(["0.png", "2.png"])
    rows.label("boot", "=cmd()")
    path = tmp_path / "new" / f"found{suffix}"
    assert rows.export(path)
    assert not rows.export(path)
    text = path.read_text(encoding="utf-8")
    if suffix == ".csv":
        assert [
            ["image_id", "score", "word", LABEL, NOTE],
            ["2.png", "-inf", "'-x", "boot", "'=cmd()"],
            ["0.png", "0.25", "ü", "boot", "'=cmd()"],
        ] == list(csv.reader(text.splitlines()))
    else:
        common = {LABEL: "boot", NOTE: "=cmd()"}
        assert [
            {"image_id": "2.png", "score": "-inf", "word": "-x", **common},
            {"image_id": "0.png", "score": 0.25, "word": "ü", **common},
        ] == [json.loads(line) for line in text.splitlines()]
    assert [path] == list(path.parent.iterdir())


@given(cells=st.lists(st.one_of(st.sampled_from(HOSTILE[:-1]), st.text(st.characters(codec="utf-8"))), min_size=1))
def test_no_text_of_a_csv_begins_like_a_formula(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> None:
    rows = make_rows(**{"=name": cells})
    path = tmp_path_factory.mktemp("formulas") / "all.csv"
    rows.export(path, "all")
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.reader(file))
    assert len(cells) + 1 == len(found)
    assert "'=name" == found[0][1]
    for cell, (_, written, *_) in zip(cells, found[1:], strict=True):
        assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        assert cell in (written, written[1:])


def test_an_export_replaces_nothing_but_its_own(tmp_path: Path) -> None:
    rows = make_rows(word=["a", "b"])
    path = tmp_path / "rows.csv"
    rows.export(path, "all")
    rows.select(["0.png"])
    assert rows.export(path)  # its own, unchanged since
    assert 2 == len(path.read_text(encoding="utf-8").splitlines())
    path.write_text("image_id\nsomebody else's\n", encoding="utf-8")
    with pytest.raises(InputError, match="not as this gallery wrote it"):
        rows.export(path)
    assert "image_id\nsomebody else's\n" == path.read_text(encoding="utf-8")
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    for wrong, words in (
        (tmp_path / "rows.txt", r"ends in \.csv or \.jsonl"),
        (link, "no ordinary file"),
        (path / "below.csv", "cannot be written"),
    ):
        with pytest.raises(InputError, match=words):
            rows.export(wrong)
    rows.clear()
    with pytest.raises(InputError, match="no row is selected"):
        rows.export(tmp_path / "none.csv")
    assert [link, path] == sorted(tmp_path.iterdir())


def test_half_a_surrogate_pair_is_shown_and_exported_as_json_alone(tmp_path: Path) -> None:
    rows = make_rows(word=pd.Series(["\ud800"], dtype=object))
    assert ["?"] == rows.texts("word")
    rows.export(tmp_path / "rows.jsonl", "all")
    assert "\ud800" == json.loads((tmp_path / "rows.jsonl").read_text(encoding="utf-8"))["word"]
    with pytest.raises(InputError, match=r"write \.jsonl"):
        rows.export(tmp_path / "rows.csv", "all")
    assert [tmp_path / "rows.jsonl"] == list(tmp_path.iterdir())


# Rows that are refused, and hostile ones that are not


def test_rows_that_cannot_be_shown_are_refused_by_name() -> None:
    dataset, _ = make_images(2)
    columns = pd.DataFrame([["0.png", 1, 2]], columns=["image_id", "a", "a"])
    for rows, words in (
        (pd.DataFrame({"path": ["0.png"]}), "no column 'image_id'; theirs are 'path'"),
        (pd.DataFrame({"image_id": ["0.png", "0.png"]}), "row 2: image '0.png' stands twice, first in row 1"),
        (pd.DataFrame({"image_id": ["0.png", None]}), "row 2: image_id must be text"),
        (pd.DataFrame({"image_id": [math.nan]}), "row 1: image_id must be text, not nan"),
        (pd.DataFrame({"image_id": ["\ud800"]}, dtype=object), "no Unicode"),
        (pd.DataFrame({"image_id": ["0.png", "9.png"]}), "data set 'things' does not have: '9.png'"),
        (pd.DataFrame({"image_id": ["0.png"], NOTE: ["x"]}), "the gallery itself adds"),
        (columns, "more than one column called 'a'"),
        (["0.png"], "must be a pandas DataFrame, not list"),
    ):
        with pytest.raises(InputError, match=words):
            Gallery(rows, dataset)  # type: ignore[arg-type]


def test_hostile_names_and_cells_are_shown_as_text() -> None:
    n = len(HOSTILE)
    names = ("<img src=x onerror=alert(1)>", "__proto__", "$x$", "\ud800", "")
    dataset, rows = make_images(n)
    cells = pd.DataFrame([[cell] * len(names) for cell in HOSTILE], dtype=object)
    rows = pd.concat([rows, cells], axis=1)
    rows.columns = pd.Index(["image_id", *names], dtype=object)
    gallery = Gallery(rows, dataset, title="<b>title$")
    answer = ask(gallery, "rows", start=0, count=n)
    json.dumps(gallery._spec, allow_nan=False)
    json.dumps(answer).encode()
    assert n == len(answer["items"])
    assert all(len(names) == len(item["cells"]) for item in answer["items"])
    assert "<script>" not in gallery.table()
    assert "<img" not in gallery.table()
    bundle = gallery._repr_mimebundle_()[0]
    assert "<b>title" not in bundle["text/html"]
    assert bundle["image/png"]


def test_without_rows_it_says_so() -> None:
    dataset, rows = make_images(1, score=[1.0])
    gallery = Gallery(rows.iloc[:0], dataset)
    assert "Gallery: 0 of 0 images shown, 0 selected, 0 labelled here" == gallery.describe()
    assert 0 == gallery._state["rows"]
    assert {"text/plain", "text/html", "image/png"} <= set(gallery._repr_mimebundle_()[0])
    assert [] == ask(gallery, "rows", start=0, count=60)["items"]


def test_neither_the_rows_given_nor_the_data_set_change() -> None:
    dataset, rows = make_images(3, score=[1.0, 2.0, 3.0])
    before, images = rows.copy(), dataset.frame.copy()
    gallery = Gallery(rows, dataset)
    gallery.select(["1.png"])
    gallery.label("boot")
    gallery.sort("score", ascending=False)
    assert {"1.png": Mark("boot", "")} == gallery.labels
    assert ["", "boot", ""] == list(gallery.frame()[LABEL])
    pd.testing.assert_frame_equal(before, rows)
    pd.testing.assert_frame_equal(images, dataset.frame)


# The browser's questions


def test_questions_of_the_browser_do_what_python_does(tmp_path: Path) -> None:
    dataset, rows = make_images(6, score=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], word=list("aabbcc"))
    gallery = Gallery(rows, dataset, out=tmp_path / "out.csv")
    view = {"query": "", "choices": [["word", ["a", "b"]]], "ranges": [["score", [0.2, None]]]}
    ask(gallery, "view", **view, sorted_by=["score", False])
    assert ["3.png", "2.png", "1.png"] == list(gallery.frame()["image_id"])
    now = gallery._state["view"]
    ask(gallery, "select", how="range", first=2, place=1, view=now)
    assert ["2.png", "1.png"] == gallery.selected
    ask(gallery, "label", label="shoe", note=None)
    ask(gallery, "export", which="selected", path="")
    assert (str(tmp_path / "out.csv"), 2) == (gallery._state["written"]["path"], gallery._state["written"]["images"])
    ask(gallery, "view", query="3.png", choices=[], ranges=[], sorted_by=None)
    assert (1, 2, 2) == tuple(gallery._state[name] for name in ("shown", "selected", "hidden"))
    assert {"stale": True, "answer": 1} == ask(gallery, "select", how="one", place=0, view=now)
    assert ["1.png", "2.png"] == gallery.selected
    refused = ask(gallery, "export", which="shown", path=str(tmp_path / "shown.csv"), view=now)
    assert "changed meanwhile" in refused["error"]
    ask(gallery, "export", which="shown", path=str(tmp_path / "shown.csv"), view=gallery._state["view"])
    assert "3.png" in (tmp_path / "shown.csv").read_text()
    ask(gallery, "undo")
    assert {} == gallery.labels


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows", {"start": 0, "count": 61}),
        ("rows", {"start": -1, "count": 1}),
        ("rows", {"start": 0.5, "count": 1}),
        ("view", {"choices": {}, "ranges": []}),
        ("view", {"choices": [], "ranges": [["score", [1]]]}),
        ("view", {"choices": [], "ranges": [], "sorted_by": "score"}),
        ("view", {"choices": [["score"]], "ranges": []}),
        ("view", {"choices": [], "ranges": [], "query": "1.png", "sorted_by": ["nope", True]}),
        ("view", {"choices": [], "ranges": [], "query": None}),
        ("select", {"how": "one", "place": 9, "view": 0}),
        ("select", {"how": "none of these", "view": 0}),
        ("label", {"label": 1}),
        ("export", {"which": "all"}),
    ],
)
def test_a_question_that_makes_no_sense_is_answered_in_words(name: str, content: dict[str, Any]) -> None:
    dataset, rows = make_images(2, score=[0.1, 0.2])
    gallery = Gallery(rows, dataset)
    answer = ask(gallery, name, **content)
    assert answer["error"]
    assert "line" not in answer["error"]  # not a crash
    assert (0, 2) == (gallery.rows.view, len(gallery.rows.shown))


def test_half_a_letter_is_looked_for_and_nothing_breaks() -> None:
    dataset, rows = make_images(2)
    gallery = Gallery(rows, dataset)
    assert "error" not in ask(gallery, "view", query="\ud800", choices=[], ranges=[], sorted_by=None)
    assert 0 == gallery._state["shown"]


def test_pictures_of_a_sensitive_data_set_are_blurred_in_the_still_picture_even_when_revealed(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "0.png")
    dataset = replace(make_dataset([("shoe",)], TAXONOMY, root=tmp_path), sensitive=True)
    gallery = Gallery(pd.DataFrame({"image_id": ["0.png"]}), dataset)
    shown = gallery.figure().axes[0].images[0].get_array()
    assert ask(gallery, "pictures", ids=["0.png"], size=96)["pictures"][0]["blurred"]
    ask(gallery, "reveal", ids=["0.png"])
    assert not ask(gallery, "pictures", ids=["0.png"], size=96)["pictures"][0]["blurred"]
    assert np.array_equal(np.asarray(shown), np.asarray(gallery.figure().axes[0].images[0].get_array()))


# Rows of runs


LABELS = [("shoe",), ("boot",), ("<b>bag",), (), ("shoe",), None, ("boot",)]
SPLITS = ["tune", "tune", "tune", "tune", "certify", "tune", "tune"]
BEFORE = [[0.9, 0.1, 0], [0.8, 0.2, 0], [0.1, 0.2, 0.7], [0, 0.6, 0.4], [0, 1, 0], [1, 0, 0], [0.1, 0.1, 0]]
AFTER = [[0.1, 0.9, 0], [0.2, 0.8, 0], [0.1, 0.2, 0.7], [0.6, 0, 0.4], [1, 0, 0], [1, 0, 0], [0, 0, 0.1]]


def test_mistakes_are_what_is_told_falsely_on_tune_highest_scores_first() -> None:
    dataset = make_dataset(LABELS, TAXONOMY, splits=SPLITS)
    run = make_run(dataset, BEFORE)
    gallery = Gallery.mistakes(run, dataset)
    found = gallery.frame()
    assert ["1.png", "3.png", "6.png"] == list(found["image_id"])
    assert ["boot", "unknown", "boot"] == list(found["shows"])
    assert ["shoe", "boot", None] == list(found["taken for"])
    assert np.allclose([0.8, 0.6, math.nan], found["score"], equal_nan=True)
    assert "optimistic" in gallery.describe()
    assert list(found["image_id"]) == list(Gallery.mistakes(join(run, dataset), dataset).frame()["image_id"])
    with pytest.raises(InputError, match="certify"):
        Gallery.mistakes(run, dataset, splits=("tune", "certify"))
    with pytest.raises(RunError, match="no labelled image on train"):
        Gallery.mistakes(run, dataset, splits=("train",))


def test_a_multi_label_mistake_names_every_category_told_falsely() -> None:
    taxonomy = Taxonomy(("shoe", "boot", "bag"), "multi-label")
    dataset = make_dataset([("shoe",), ("shoe", "boot"), ("bag",)], taxonomy)
    run = make_run(dataset, [[0.9, 0.8, 0.6], [0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])
    found = Gallery.mistakes(run, dataset).frame()
    assert ["boot, bag", None] == list(found["taken for"])
    assert ["shoe", "shoe, boot"] == list(found["shows"])
    assert np.allclose([0.8, math.nan], found["score"], equal_nan=True)


def test_outcomes_are_the_rows_without_an_answer_of_every_split() -> None:
    dataset = make_dataset(LABELS, TAXONOMY, splits=SPLITS)
    outcomes = [OK, "unreadable", OK, OK, "refusal", OK, OK]
    scores = np.array(BEFORE)
    scores[[1, 4]] = MISSING
    scores[2, 0] = MISSING
    run = make_run(dataset, scores, outcomes=outcomes)
    run.frame["detail"] = ["", "no such file", "", "", "<b>no", "", ""]
    found = Gallery.outcomes(run, dataset).frame()
    assert ["1.png", "2.png", "4.png"] == list(found["image_id"])
    assert ["unreadable", OK, "refusal"] == list(found["outcome"])
    assert ["no such file", "a score is missing", "<b>no"] == list(found["reason"])
    assert ["tune", "tune", "certify"] == list(found["split"])
    with pytest.raises(RunError, match="does not belong"):
        Gallery.outcomes(run, make_dataset(LABELS[:3], TAXONOMY))


def test_flips_are_those_that_comparing_the_runs_counts() -> None:
    dataset = make_dataset(LABELS, TAXONOMY, splits=SPLITS)
    before, after = make_run(dataset, BEFORE), make_run(dataset, AFTER)
    found = Gallery.flips(before, after, dataset).frame()
    assert ["0.png", "1.png", "3.png", "6.png"] == list(found["image_id"])
    changes = ["became wrong", "became right", "wrong in another way", "wrong in another way"]
    assert changes == list(found["change"])
    assert ["shoe", "shoe", "boot", None] == list(found["before"])
    assert ["boot", "boot", "shoe", "<b>bag"] == list(found["after"])
    flips = compare_runs(join(before, dataset).on("tune"), join(after, dataset).on("tune")).flips
    assert flips is not None
    known = found["change"][found["shows"] != TAXONOMY.unknown]
    assert (flips.negative, flips.positive) == ((known == "became wrong").sum(), (known == "became right").sum())
    assert 0 == len(Gallery.flips(before, before, dataset).frame())
