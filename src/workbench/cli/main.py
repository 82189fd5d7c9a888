"""`workbench`: the steps of the notebooks as commands.

Exit codes: 0 done or pass, 1 refused or fail, 2 usage or bad input, 3 inconclusive.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from workbench.cli import asking, bringing, deciding, demonstration, measuring, promising, reporting
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
    (demonstration.run_demo, "demo"),
    (bringing.write_project, "init"),
    (bringing.describe_dataset, "dataset"),
    (asking.train_approach, "train"),
    (asking.classify_dataset, "classify"),
    (measuring.evaluate_run, "evaluate"),
    (promising.tune_thresholds, "tune"),
    (promising.release_policy, "release"),
    (promising.verify_policy, "verify"),
    (deciding.apply_policy, "decide"),
    (reporting.report_runs, "report"),
    (deciding.print_schema, "schema"),
):
    app.command(name, no_args_is_help=name not in ("demo", "schema", "init"))(function)


@app.callback(invoke_without_command=True)
def _main(show_version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if show_version:
        typer.echo(f"workbench {version('workbench')}")
        raise typer.Exit
