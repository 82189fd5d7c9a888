"""`workbench`: the steps of the notebooks as commands.

Exit codes: 0 done or pass, 1 refused or fail, 2 usage or bad input, 3 inconclusive.
"""

from __future__ import annotations

import atexit
import gc
from importlib.metadata import version
from typing import Annotated

import typer

from workbench.cli import (
    bench_llm,
    cache,
    classify,
    dataset,
    decide,
    demo,
    evaluate,
    forecast,
    labelling,
    looks,
    noise,
    release,
    report,
    stress,
)
from workbench.cli.console import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Decide how far an image classifier may be trusted, and leave with one validated policy file.",
    epilog="Exit codes: 0 done or pass, 1 refused or fail, 2 usage or bad input, 3 inconclusive.",
)

for function, name in (
    (demo.run_demo, "demo"),
    (dataset.write_project, "init"),
    (dataset.describe_dataset, "dataset"),
    (classify.train_approach, "train"),
    (classify.classify_dataset, "classify"),
    (evaluate.evaluate_run, "evaluate"),
    (release.tune_thresholds, "tune"),
    (release.release_policy, "release"),
    (release.verify_policy, "verify"),
    (looks.list_looks, "looks"),
    (labelling.list_next_labels, "label-next"),
    (labelling.add_labels, "add-labels"),
    (noise.write_second_labels, "second-labels"),
    (noise.judge_label_noise, "label-noise"),
    (decide.apply_policy, "decide"),
    (forecast.forecast_policy, "forecast"),
    (report.report_runs, "report"),
    (stress.stress_approach, "stress"),
    (bench_llm.bench_protocols, "bench-llm"),
    (decide.print_schema, "schema"),
):
    app.command(name, no_args_is_help=name not in ("demo", "schema", "init"))(function)

app.add_typer(cache.app, name="cache")


@app.callback(invoke_without_command=True)
def _main(show_version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if show_version:
        typer.echo(f"workbench {version('workbench')}")
        raise typer.Exit


def run() -> None:
    """The program. It lives so shortly that it looks for garbage seldom, and not at all when it ends: 0.1 s less."""
    gc.set_threshold(100_000, 20, 20)
    atexit.register(gc.freeze)
    app()
