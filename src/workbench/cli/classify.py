"""`train` and `classify`: put the images to an approach."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.approaches.base import APPROACHES, Setting, build_approach, learner_class
from workbench.cli.console import (
    ConfigOption,
    DatasetArgument,
    JsonOption,
    answers_path,
    check_target,
    files_of,
    interactive,
    note,
    show,
    show_json,
    show_table,
)

if TYPE_CHECKING:
    from workbench.dataset.opening import Opened
    from workbench.predictions import PredictionTable

_LINES = (".jsonl", ".ndjson")

ApproachOption = Annotated[str, typer.Option("--approach", help=f"One of: {', '.join(APPROACHES)}.")]
ModelOption = Annotated[
    Path | None, typer.Option("--model", help="Trained artefact; by default the one trained on this data set.")
]


def train_approach(
    dataset: DatasetArgument,
    approach: ApproachOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit an approach that learns, on the *train* split only, and store what it learned.

    Example: `workbench train fashion --approach local-trained`
    """
    from workbench.dataset.opening import open_dataset

    opened = open_dataset(dataset, config, progress=interactive())
    learner = learner_class(approach)
    setting = setting_for(opened, approach)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always", UserWarning)
        path = learner.fit(opened.dataset, setting, progress=interactive())
    for remark in remarks:
        note(str(remark.message))
    built = build_approach(approach, opened.dataset, setting_for(opened, approach, path))
    if as_json:
        show_json({"model": str(path), "model_version": built.model_version, "fingerprint": built.fingerprint})
        return
    show(f"{path}: trained {built.model_version} on {len(opened.dataset.on('train'))} images")
    show(f"fingerprint {built.fingerprint}")


def classify_dataset(
    dataset: DatasetArgument,
    approach: ApproachOption,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="RUN.parquet to write (or .jsonl, for `decide` alone).",
            show_default="DATASET-APPROACH.parquet",
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be asked and what is cached, and stop.")] = False,
    model: ModelOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one approach over every image. What was answered before is not asked again, also after a crash.

    Example: `workbench classify fashion --approach local-cnn -o local-cnn.parquet`
    """
    from workbench.dataset.opening import open_dataset
    from workbench.jsonlines import write_prediction
    from workbench.predictions import write_predictions
    from workbench.runs.cache import AnswerCache
    from workbench.runs.runner import classify, plan_run

    opened = open_dataset(dataset, config, progress=interactive())
    path = out or Path(f"{opened.dataset.name}-{approach}.parquet")
    inputs = (*files_of(opened, dataset, config), *([model] if model else []))
    check_target(path, *inputs, suffixes=(".parquet", *_LINES))
    built = build_approach(approach, opened.dataset, setting_for(opened, approach, model))
    with AnswerCache(answers_path()) as cache:
        if plan:
            planned = plan_run(opened.dataset, built, cache, progress=interactive())
            show_json(asdict(planned)) if as_json else show(str(planned))
            return
        table = classify(opened.dataset, built, cache, progress=interactive())
    if path.suffix in _LINES:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(write_prediction(row) + "\n" for row in table.predictions()), encoding="utf-8")
    else:
        write_predictions(table, path)
    _show_run(table, path, as_json)


def setting_for(opened: Opened, approach: str, model: Path | None = None) -> Setting:
    """What an approach is built from, for this data set and this user."""
    from workbench.config.store import store_folder

    return Setting(
        opened.dataset.taxonomy,
        opened.label_map(approach),
        store_folder(),
        model,
        opened.options(approach),
        opened.prices,
    )


def _show_run(table: PredictionTable, path: Path, as_json: bool) -> None:
    outcomes = table.frame["outcome"].value_counts()
    asked = int((~table.frame["cached"] & (table.frame["outcome"] == "ok")).sum())
    if as_json:
        counts = {str(name): int(count) for name, count in outcomes.items()}
        show_json({"run": str(path), "images": len(table), "asked": asked, "outcomes": counts})
        return
    origin = table.info.origin
    show(f"{path}: {len(table)} images by {origin.approach} ({origin.model_version}), {asked} asked")
    show_table([{"outcome": str(name), "images": int(count)} for name, count in outcomes.items()])
