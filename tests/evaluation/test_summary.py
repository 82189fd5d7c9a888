from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labelled_runs import make_labelled
from workbench.errors import RunError
from workbench.evaluation.labelled import Labelled
from workbench.evaluation.summary import evaluate
from workbench.records import MISSING, Taxonomy

HOSTILE = Taxonomy(("<img src=x onerror=alert(1)>", '=HYPERLINK("http://x")', "_x", "L" * 500, "مرحبا", "a\nb 😀"))


def example(taxonomy: Taxonomy = HOSTILE, splits: list[str] | str = "tune") -> Labelled:
    random = np.random.default_rng(3)
    size = len(taxonomy.categories)
    labels = [(taxonomy.categories[row % (size - 1)],) if row % 7 else () for row in range(60)]
    scores = random.random((60, size))
    scores[7] = MISSING
    columns = {"note": ["@cmd", "+1", "plain"] * 20, "width": list(range(60)), "only": ["one"] * 60}
    outcomes = ["ok"] * 7 + ["corrupt"] + ["ok"] * 52
    return make_labelled(labels, scores, taxonomy=taxonomy, outcomes=outcomes, splits=splits, columns=columns)


def test_certify_is_not_looked_at_unless_asked_for() -> None:
    labelled = example(splits=["tune", "certify"] * 30)
    assert ("tune",) == evaluate(labelled).splits
    assert 30 == len(evaluate(labelled).labelled)
    assert ("certify",) == evaluate(labelled, splits=["certify"]).splits
    assert "certify" == evaluate(labelled, splits=["certify"]).measured_on


def test_a_split_without_images_is_refused() -> None:
    with pytest.raises(RunError, match="no labelled image on tune; the run has certify"):
        evaluate(example(splits="certify"))


def test_notes_say_what_a_reader_must_know() -> None:
    labelled = example()
    labelled.frame.loc[0, "weight"] = 3.0
    notes = evaluate(labelled).notes
    assert "Measured on 60 labelled images of tune (optimistic: the tune split chose thresholds)." == notes[0]
    assert "Without an answer, counted as misses: corrupt 1." == notes[1]
    assert "No image here shows a\nb 😀: recall and average precision are n/a." == notes[2]
    assert "The data set weighs its images: the curves honour that, the tables count each image once." == notes[3]


def test_slices_are_made_of_columns_that_tell_something() -> None:
    assert ["note", "width"] == list(evaluate(example()).slices)


def test_multi_label_has_no_confusion() -> None:
    taxonomy = Taxonomy(HOSTILE.categories, "multi-label")
    assert evaluate(example(taxonomy)).confusion is None
    assert "confusion" not in evaluate(example(taxonomy)).tables()


def test_multi_label_leaves_no_category_out() -> None:
    tables = evaluate(example(Taxonomy(HOSTILE.categories, "multi-label"))).tables()
    assert "left_out" not in tables
    assert {"rejection", "rejection_curves"} < set(tables)
    assert {"rejection", "rejection_curves", "left_out"} < set(evaluate(example()).tables())


def test_rejection_needs_known_and_unknown_images_with_scores() -> None:
    labelled = example()
    for kept in (labelled.unknown, ~labelled.unknown, ~labelled.unknown | ~labelled.usable):
        assert evaluate(labelled.rows(kept)).rejection is None
    two = make_labelled([("a",), ("b",), ()], [[0.9, 0.1], [0.2, 0.8], [0.4, 0.3]], taxonomy=Taxonomy(("a", "b")))
    evaluation = evaluate(two)
    assert evaluation.left_out is None
    assert evaluation.rejection is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the evaluation was saved twice: in `plain`, and in `safe` for spreadsheets."""
    folder = tmp_path_factory.mktemp("evaluation")
    evaluation = evaluate(example())
    written = evaluation.save(folder / "plain")
    evaluation.save(folder / "safe", spreadsheet_safe=True)
    assert sorted(written) == sorted((folder / "plain").iterdir())
    return folder


def texts(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def test_every_table_reads_back(folder: Path) -> None:
    for name, table in evaluate(example()).tables().items():
        kept = pd.read_parquet(folder / "plain" / f"{name}.parquet")
        pd.testing.assert_frame_equal(table, kept, check_dtype=False)
        text = texts(folder / "plain" / f"{name}.csv")
        assert list(table.columns) == list(text.columns)
        assert len(table) == len(text)


def test_every_figure_is_a_picture(folder: Path) -> None:
    scores = ("scores-top", "scores-margin", "rejection", "calibration")
    names = ("categories", "curves", "confusion", *scores, "slices-1", "slices-2")
    assert sorted(names) == sorted(path.stem for path in (folder / "plain").glob("*.png"))
    for name in names:
        assert (folder / "plain" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_without_images_is_written_as_not_available(folder: Path) -> None:
    row = texts(folder / "plain" / "categories.csv").iloc[-1]
    assert ("0", "n/a", "n/a") == (row["support"], row["recall"], row["average_precision"])


def test_formulas_are_defused_only_when_asked_for(folder: Path) -> None:
    plain, safe = (texts(folder / kind / "categories.csv") for kind in ("plain", "safe"))
    assert '=HYPERLINK("http://x")' == plain["category"][1]
    assert '\'=HYPERLINK("http://x")' == safe["category"][1]
    assert plain["support"].tolist() == safe["support"].tolist()
    assert ["'+1", "'@cmd", "plain"] == texts(folder / "safe" / "slices.csv")["value"][:3].tolist()
    assert ["+1", "@cmd", "plain"] == texts(folder / "plain" / "slices.csv")["value"][:3].tolist()
    kept = pd.read_parquet(folder / "safe" / "categories.parquet")
    assert '=HYPERLINK("http://x")' == kept["category"][1]


def test_no_text_leaves_its_cell(tmp_path: Path) -> None:
    labelled = make_labelled(
        [("a\r=1+1",), ("b",)] * 2,
        [[0.9, 0.1], [0.2, 0.8]] * 2,
        taxonomy=Taxonomy(("a\r=1+1", "b")),
        columns={"note": ["x\r=1+1", None, "x\r=1+1", "'"]},
    )
    evaluation = evaluate(labelled)
    for defused in (False, True):
        evaluation.save(tmp_path, figures_too=False, spreadsheet_safe=defused)
        for name, table in evaluation.tables().items():
            with (tmp_path / f"{name}.csv").open(encoding="utf-8") as file:
                rows = list(csv.reader(file, strict=True))
            assert len(table) + 1 == len(rows), name
            assert not (defused and any(cell.startswith(("=", "\n")) for row in rows for cell in row)), name


def test_scores_are_written_with_the_digits_they_have(tmp_path: Path) -> None:
    evaluation = evaluate(make_labelled([("a",), ()], [[0.1, 0.7], [0.3, 0.2]], taxonomy=Taxonomy(("a", "b"))))
    evaluation.save(tmp_path, figures_too=False)
    assert ["0.7", "0.3"] == texts(tmp_path / "scores.csv")["top"].tolist()


def test_it_shows_itself_with_every_text_escaped() -> None:
    page = evaluate(example())._repr_html_()
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "optimistic: the tune split chose thresholds" in page
    for table in evaluate(example()).tables().values():
        assert table.size
