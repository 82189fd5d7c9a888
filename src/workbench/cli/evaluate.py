"""`evaluate`: how good is a run, on images that no promise is made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.console import ConfigOption, DatasetArgument, JsonOption, RunArgument, show, show_json, show_table
from workbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def evaluate_run(
    run: RunArgument,
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for tables (CSV, Parquet) and figures (PNG).")],
    split: Annotated[str, typer.Option("--split", help="train or tune. Certify is kept for `release`.")] = "tune",
    confidence: Annotated[float, typer.Option("--confidence", min=0.5, max=0.9999, help="Of the intervals.")] = 0.95,
    spreadsheet_safe: Annotated[
        bool, typer.Option("--spreadsheet-safe", help="Defuse CSV cells that a spreadsheet would run.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Curves, tables and confusion of one run, as figures and as tables.

    The figures are optimistic where thresholds are chosen on the same split; promises are tested by `release`.

    Example: `workbench evaluate local-cnn.parquet fashion -o reports/local-cnn`
    """
    from workbench.dataset.opening import open_dataset
    from workbench.evaluation.labelled import join
    from workbench.evaluation.summary import evaluate
    from workbench.predictions import read_predictions

    if split not in ("train", "tune"):
        raise InputError(
            f"--split {split}: evaluate shows train or tune; certify images are kept for `workbench release`"
        )
    opened = open_dataset(dataset, config)
    evaluation = evaluate(join(read_predictions(run), opened.dataset), (split,), confidence)
    files = evaluation.save(out, spreadsheet_safe=spreadsheet_safe)
    categories, accuracy = evaluation.categories.frame(), evaluation.accuracy.frame()
    if as_json:
        show_json(
            {
                "measured_on": evaluation.measured_on,
                "accuracy": accuracy.to_dict("records"),
                "categories": categories.to_dict("records"),
                "files": [str(file) for file in files],
            }
        )
        return
    show(f"{evaluation.approach}, {evaluation.measured_on}")
    show_table(_rows(accuracy))
    show("")
    show_table(_rows(categories))
    for text in evaluation.notes:
        show(f"note: {text}")
    show(f"{len(files)} files in {out}")


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """For the terminal: an interval in one column, and not what the line above says already."""
    rows = []
    for row in table.to_dict("records"):
        shown: dict[str, Any] = {}
        for key, value in ((str(key), value) for key, value in row.items()):
            if key.endswith("_low"):
                shown[f"{key[:-4]} interval"] = f"{value:.3f} to {row[key[:-4] + '_high']:.3f}"
            elif not key.endswith("_high") and key != "measured_on":
                shown[key] = value
        rows.append(shown)
    return rows
