"""`cache`: what is kept of the answers, what it cost, and how to let go of some of it or write it out."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.console import (
    Commands,
    JsonOption,
    answers_path,
    check_target,
    finite,
    note,
    show,
    show_json,
    show_table,
)
from workbench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.runs.cache import AnswerCache
    from workbench.runs.upkeep import Holding

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="See, write out or let go of kept answers. Safe while a run is going on.",
)
Out = Annotated[Path, typer.Option("-o", "--out", help="FILE.jsonl to write.", dir_okay=False)]


@app.command("stats")
def show_stats(as_json: JsonOption = False) -> None:
    """Say what is kept, by approach, model version and outcome, what it cost to get, and how many records are damaged.

    Example: `workbench cache stats`
    """
    from workbench.runs.upkeep import take_stock

    with _opened() as cache:
        stock = take_stock(cache)
    if as_json:
        show_json({**asdict(stock), "cost_usd": stock.cost_usd})
        return
    show(f"{stock.path}: {stock.size:,} bytes")
    show_table(_table(stock.holdings))
    total = sum(holding.answers for holding in stock.holdings)
    show(f"{_counted(total, 'answer')}, which cost {_usd(stock.cost_usd)}; {_counted(stock.files, 'preparation')}.")
    if stock.damaged:
        show(f"{_counted(stock.damaged, 'record')} damaged: each counts as absent, and the next run asks again.")


@app.command("prune")
def prune_answers(
    approach: Annotated[
        str | None, typer.Option("--approach", help="Only answers of this approach, as `cache stats` names it.")
    ] = None,
    model_version: Annotated[
        str | None, typer.Option("--model-version", help="Only answers that named this model version.")
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", metavar="DAYS", min=0, help="Only answers older than this many days."),
    ] = None,
    unusable: Annotated[
        bool, typer.Option("--unusable", help="Only answers that could not be used (refusals, cut-off ones).")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them. Without it, nothing is deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show which answers would go and what they cost to get; with --yes, delete them and shrink the file.

    Several options narrow it down together. Answers were paid for: a run that needs them again pays again.

    Examples: `workbench cache prune --approach claude --older-than 90`, `workbench cache prune --unusable --yes`
    """
    from workbench.runs.upkeep import Selection, drop_answers, select_answers

    selection = Selection(approach, model_version, finite(older_than), unusable)
    if not selection:
        raise typer.BadParameter("say which answers: --approach, --model-version, --older-than or --unusable")
    with _opened() as cache:
        found = drop_answers(cache, selection) if yes else select_answers(cache, selection)
    answers, cost = sum(holding.answers for holding in found), sum(holding.cost_usd for holding in found)
    if as_json:
        show_json(
            {"deleted": yes, "answers": answers, "cost_usd": cost, "holdings": [asdict(holding) for holding in found]}
        )
        return
    if not answers:
        show("No kept answer is like that; `workbench cache stats` lists what there is.")
        return
    show_table(_table(found))
    told = f"{_counted(answers, 'answer')}, which cost {_usd(cost)}"
    show(f"Deleted: {told}." if yes else f"Would go: {told}. Nothing was deleted; --yes does it.")


@app.command("export")
def export_kept(out: Out, as_json: JsonOption = False) -> None:
    """Write every kept answer, as it came, as a line of JSON: pixels' digest, approach, version, raw, cost, time.

    Example: `workbench cache export -o answers.jsonl`
    """
    from workbench.runs.upkeep import export_answers

    check_target(out, answers_path(), suffixes=(".jsonl", ".ndjson"))
    with _opened() as cache:
        written, damaged = export_answers(cache, out)
    if as_json:
        show_json({"out": str(out), "answers": written, "damaged": damaged})
        return
    show(f"{out}: {_counted(written, 'answer')}")
    if damaged:
        note(f"{_counted(damaged, 'damaged record')} left out")


@app.command("forget", no_args_is_help=True)
def forget_picture(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image file, or the SHA-256 of its bytes or pixels.")],
    as_json: JsonOption = False,
) -> None:
    """Delete all that is kept about one image: its preparations, every answer about its pixels, its features.

    Other files of the very same picture share its answers and lose them, too. The bytes are overwritten on disk. What
    the ledger of looks and the record of batches hold stays: digests alone, and the answer of a batch that is yet to
    be collected will be kept again.

    Example: `workbench cache forget photos/0007.png`
    """
    from workbench.runs.upkeep import forget_image

    digest = _digest(image)
    with _opened() as cache:
        gone = forget_image(cache, digest)
    features = _forget_features(gone.pixels)
    if as_json:
        show_json({"image": image, **gone._asdict(), "features": features})
        return
    if not (gone.preparations or gone.answers or gone.unusable or features):
        show(f"{image}: nothing was kept about it.")
        return
    cost = _usd(gone.cost_usd)
    parts = (
        _counted(gone.preparations, "preparation"),
        f"{_counted(gone.answers + gone.unusable, 'answer')} ({gone.unusable} unusable), which cost {cost}",
        f"features of {_counted(features, 'network')}",
    )
    show(f"{image}: forgotten: {'; '.join(parts)}.")


def _opened() -> AnswerCache:
    from workbench.runs.cache import AnswerCache

    path = answers_path()
    if not path.exists():
        raise InputError(f"{path}: no answers are kept there; WORKBENCH_STORE says where else to look")
    return AnswerCache(path)


def _digest(image: str) -> str:
    path = Path(image)
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if re.fullmatch("[0-9a-fA-F]{64}", image):
        return image.lower()
    raise InputError(f"{image}: neither an image file nor a SHA-256 of 64 hexadecimal digits")


def _forget_features(pixels: Sequence[str]) -> int:
    from workbench.features.store import FeatureStore

    path = answers_path().with_name("features.sqlite")
    if not path.exists():
        return 0
    try:
        return FeatureStore(path).forget(pixels)
    except sqlite3.Error as error:
        raise InputError(f"{path}: answers are forgotten, features are not: {error}; do the same again") from None


def _table(holdings: Sequence[Holding]) -> list[dict[str, Any]]:
    return [
        {
            "approach": holding.approach,
            "model version": holding.model_version,
            "outcome": holding.outcome,
            "answers": holding.answers,
            "cost": _usd(holding.cost_usd),
            "first": holding.first,
            "last": holding.last,
        }
        for holding in holdings
    ]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _usd(amount: float) -> str:
    return f"${amount:,.4f}" if amount < 1 else f"${amount:,.2f}"
