"""What every command shares: options, where things are kept, how results and errors are shown."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from workbench.approaches.running import anything_on_record, ending_in_order, stop_left_running
from workbench.config.store import store_folder
from workbench.errors import BudgetError, InputError, WorkbenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.dataset.opening import Opened

DatasetArgument = Annotated[
    str, typer.Argument(metavar="DATASET", help="Folder, manifest, workbench.toml, or fashion, mosaics, stamps.")
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="Prediction table written by `workbench classify`.", dir_okay=False)
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Project file; by default the workbench.toml of the data set.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for a program to read.")]


class Commands(TyperGroup):
    """Turns the package's own errors, and those of the file system, into one message and exit code 2 (1: no budget)."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # the base names a private class
        """Run the command; see the class."""
        try:
            with ending_in_order():
                _stop_left_running()
                return super().invoke(ctx)
        except WorkbenchError as error:
            typer.secho(f"Error: {error}", fg="red", err=True)
            raise typer.Exit(1 if isinstance(error, BudgetError) else 2) from None
        except BrokenPipeError:  # whoever read the output has seen enough
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115,PTH123  what is left to flush goes there
            raise typer.Exit(1) from None
        except OSError as error:
            typer.secho(f"Error: {error}", fg="red", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt as stop:
            typer.secho("\n".join(["Stopped.", *getattr(stop, "__notes__", [])]), err=True)
            raise typer.Exit(130) from None


def _stop_left_running() -> None:
    store = store_folder()
    if anything_on_record(store):
        stop_left_running(store, lambda text: typer.secho(text, err=True, fg="red"))


def interactive() -> bool:
    """Progress bars are shown: standard error is a terminal."""
    return sys.stderr.isatty()


def answers_path() -> Path:
    """The cache of answers."""
    return store_folder() / "answers.sqlite"


def check_target(out: Path, *inputs: Path, suffixes: tuple[str, ...]) -> None:
    """InputError if writing `out` would destroy an input, or a file that is not of the kind (`suffixes`) of the new."""
    if out.exists() and not out.is_file():
        raise InputError(f"{out}: is no ordinary file; name another one to write")
    for path in inputs:
        same = out.samefile(path) if out.exists() and path.exists() else out.resolve() == path.resolve()
        if same:
            raise InputError(f"{out}: is what the command reads; name another file to write")
    if out.exists() and out.suffix.lower() not in suffixes:
        kinds = " or ".join(suffixes)
        raise InputError(f"{out}: is there already and does not end in {kinds}; name another file to write")


def check_results(out: Path, *inputs: Path) -> None:
    """InputError if `out` is no JSON file to write, or if it or the figure beside it would destroy anything."""
    check_target(out, *inputs, suffixes=(".json",))
    if out.suffix.lower() != ".json":
        raise InputError(f"{out}: the file of results has to end in .json")
    check_target(out.with_suffix(".png"), *inputs, suffixes=(".png",))


def write_results(out: Path, document: Any, figure: Figure) -> None:
    """The results as JSON, and their figure beside it."""
    from workbench.evaluation.figures import to_png

    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json_text(document) + "\n", encoding="utf-8")
    out.with_suffix(".png").write_bytes(to_png(figure))


def files_of(opened: Opened, where: str | Path, config: Path | None) -> tuple[Path, ...]:
    """What no command may write over: manifest, project file and ledgers of a data set that was opened as `where`."""
    from workbench.dataset.images import LEDGER_FILE
    from workbench.dataset.sources import MANIFESTS

    named = Path(where)
    folders = {opened.dataset.root, named, *([opened.project.dataset] if opened.project else [])}
    projects = [*([opened.project.path] if opened.project else []), *([config] if config else [])]
    manifests = [folder / name for folder in folders for name in MANIFESTS]
    ledgers = (opened.dataset.root / LEDGER_FILE, store_folder() / "ledger.sqlite")
    return (named, *folders, *projects, *manifests, *ledgers)


def finite(value: float | None) -> float | None:
    """The value of an option; a usage error if it is no number."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no number that can be used")
    return value


def show(text: str) -> None:
    """One line or table of a result."""
    typer.echo(text)


def note(text: str) -> None:
    """A remark beside the result."""
    typer.secho(text, err=True, dim=True)


def show_json(value: Any) -> None:
    """The result as one JSON object; what is not a finite number becomes null."""
    typer.echo(json_text(value))


def json_text(value: Any) -> str:
    """One JSON object as text; what is not a finite number becomes null."""
    return json.dumps(_finite(value), ensure_ascii=False, indent=1, default=str)


def show_table(rows: list[dict[str, Any]]) -> None:
    """Rows of equal keys, as a table that fits the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        numeric = all(isinstance(row[name], int | float) or row[name] in (None, "") for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console.width = 160
    console.print(table)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
