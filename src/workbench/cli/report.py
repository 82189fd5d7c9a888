"""`report`: everything on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.console import ConfigOption, check_target, files_of, show
from workbench.errors import InputError


def report_runs(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Prediction tables, one per approach.")],
    dataset: Annotated[str, typer.Option("--dataset", help="The data set that the runs are of.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="report.html to write.")],
    policy: Annotated[Path | None, typer.Option("--policy", help="Policy file whose promises are shown.")] = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Show pictures of errors.")] = True,
    title: Annotated[str | None, typer.Option("--title", help="By default the data set's name.")] = None,
    config: ConfigOption = None,
) -> None:
    """Write one self-contained HTML file: approaches, promises, refusals, errors with pictures, identity.

    Pictures are left out of a data set marked `sensitive`, and with `--no-images`.

    Example: `workbench report local-cnn.parquet local-trained.parquet --dataset fashion -o report.html`
    """
    from workbench.dataset.opening import open_dataset
    from workbench.evaluation.labelled import join
    from workbench.evaluation.summary import evaluate
    from workbench.policy import read_policy
    from workbench.predictions import read_predictions
    from workbench.report.page import write_report

    opened = open_dataset(dataset, config)
    inputs = (*runs, *([policy] if policy else []), *files_of(opened, dataset, config))
    check_target(out, *inputs, suffixes=(".html", ".htm"))
    released = None if policy is None else read_policy(policy)
    if released is not None and released.evidence.draft.dataset != opened.dataset.digest:
        raise InputError(f"{policy}: was tested on another data set than {opened.dataset.name!r}")
    evaluations = {}
    for path in runs:
        evaluation = evaluate(join(read_predictions(path), opened.dataset))
        if evaluation.approach in evaluations:
            raise InputError(
                f"{path}: a second run of {evaluation.approach!r}; a report shows one run of each approach"
            )
        evaluations[evaluation.approach] = evaluation
    if released is not None and released.origin.approach not in evaluations:
        raise InputError(f"{policy}: was tested for {released.origin.approach!r}; give its run, too")
    write_report(
        out,
        title=title or opened.dataset.name,
        evaluations=evaluations,
        dataset=opened.dataset,
        policy=released,
        images=images,
    )
    show(f"{out}: written")
