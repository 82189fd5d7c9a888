"""`workbench dataset`: every problem in a file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from laid_out import lay_out
from workbench.cli.main import app
from workbench.dataset.sources import load_dataset


def test_every_problem_stands_in_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    folder = lay_out(tmp_path / "photos", [f"{label}/{n:02d}.jpg" for label in ("cat", "dog") for n in range(20)])
    (folder / "cat" / "a\r=1+1.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    out = tmp_path / "problems.csv"
    result = CliRunner().invoke(app, ["dataset", str(folder), "--problems", str(out)])
    assert 0 == result.exit_code, result.output
    problems = load_dataset(folder).problems
    assert problems["place"].str.contains("\r").any()
    with out.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    assert list(problems) == header
    assert [[str(cell) for cell in row] for row in problems.itertuples(index=False)] == rows
