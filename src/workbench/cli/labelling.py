"""`label-next` and `add-labels`: from refused promises to the images to label, and back into the data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.console import (
    ConfigOption,
    DatasetArgument,
    JsonOption,
    RunArgument,
    check_target,
    files_of,
    finite,
    note,
    show,
    show_json,
    show_table,
)
from workbench.errors import InputError

if TYPE_CHECKING:
    from workbench.dataset.opening import Opened
    from workbench.predictions import PredictionTable
    from workbench.records import Policy
    from workbench.release.gate import Release
    from workbench.release.labelling import LabelPlan

TestedArgument = Annotated[
    Path, typer.Argument(metavar="TESTED", help="Draft that `workbench release` has tested, or the policy it wrote.")
]


def list_next_labels(
    tested: TestedArgument,
    run: RunArgument,
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="queue.csv or queue.jsonl to write.")],
    power: Annotated[
        float, typer.Option("--power", min=0.5, max=0.99, help="Chance that each promise shall have.")
    ] = 0.8,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of the draw.")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what each refused promise would take, and queue the images to label for it, drawn at random.

    Exit code 0: the queue gives every promise that labels can help its chance, or none was refused; 1: labels help
    none; 3: the run holds too few images, or nothing may be drawn.

    Example: `workbench label-next draft.json local-trained.parquet fashion -o queue.csv`
    """
    from workbench.dataset.opening import open_dataset
    from workbench.predictions import read_predictions
    from workbench.release.labelling import plan_labels
    from workbench.release.labelqueue import QUEUE_SUFFIXES, next_steps, write_queue

    opened = open_dataset(dataset, config)
    check_target(out, tested, run, *files_of(opened, dataset, config), suffixes=QUEUE_SUFFIXES)
    table = read_predictions(run)
    release = _tested(tested, table, opened)
    plan = plan_labels(release, table, opened.dataset, finite(power) or 0.8, seed=seed)
    code = 0 if not plan.promises else 1 if not plan.hopeful else 3 if plan.no_queue or plan.missing else 0
    written = len(plan.queue) > 0
    if written:
        write_queue(plan, out)
    if as_json:
        show_json(_document(plan, out if written else None))
    else:
        _show(plan)
        if written:
            show(f"{out}: written, {len(plan.queue)} images of {len(plan.pool)} that may be drawn")
            show(next_steps(plan, out))
    raise typer.Exit(code)


def add_labels(
    queue: Annotated[Path, typer.Argument(metavar="QUEUE", help="The filled file of `workbench label-next`.")],
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="Manifest to write, .csv or .jsonl, beside the images.")],
    config: ConfigOption = None,
) -> None:
    """Write a manifest of the data set with the labels of a filled queue; every image keeps its split.

    Example: `workbench add-labels queue.csv photos -o photos/manifest.csv`
    """
    from workbench.dataset.opening import open_dataset
    from workbench.release.labelqueue import read_queue, write_manifest

    opened = open_dataset(dataset, config)
    labels = read_queue(queue, opened.dataset)
    if not labels:
        raise InputError(f"{queue}: no label is filled in")
    write_manifest(opened.dataset, labels, out)
    show(f"{out}: written, {len(opened.dataset)} images, {len(labels)} of them newly labelled, all splits as before")
    note(f"Classify, tune and release with {out}: answers come from the cache, and the release is a new look.")


def _tested(path: Path, table: PredictionTable, opened: Opened) -> Release | Policy:
    """A policy, or the release of a draft, replayed; the look must be on file, so that none is spent here."""
    from workbench.documents import parse_json
    from workbench.evaluation.thresholds import read_draft
    from workbench.policy import read_policy
    from workbench.release.examination import certify_rows
    from workbench.release.gate import release_draft
    from workbench.release.ledger import Ledger, find_replay

    try:
        document = parse_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text") from None
    if isinstance(document, dict) and "evidence" in document:
        return read_policy(path)
    draft, seed = read_draft(path), 0
    if draft.dataset != opened.dataset.digest:
        raise InputError(
            f"{path}: images, labels or splits have changed since the draft was made; run `workbench tune`"
        )
    certify = certify_rows(draft, table, opened.dataset, seed)
    looks = [look for look in Ledger.of(opened.dataset).looks() if look.number]
    if find_replay(looks, draft, certify, seed) is None:
        raise InputError(f"{path}: this draft was not tested on these images yet; run `workbench release` first")
    return release_draft(draft, table, opened.dataset, made=opened.made(table.info.origin.approach))


def _show(plan: LabelPlan) -> None:
    if plan.promises:
        show(f"Further random images for a chance of {plan.power:.0%}, and for others:")
    show_table([{str(key): value for key, value in row.items()} for row in plan.frame().to_dict("records")])
    for promise in plan.promises:
        show(f"{promise.name}: {promise.reason}" + (f"; {promise.remark}" if promise.remark else ""))
    for remark in plan.remarks():
        show(f"note: {remark}")


def _document(plan: LabelPlan, out: Path | None) -> dict[str, object]:
    return {
        "queue": None if out is None else {"file": str(out), "images": len(plan.queue)},
        "power": plan.power,
        "images": plan.images,
        "may_be_drawn": len(plan.pool),
        "missing": plan.missing,
        "promises": [
            {
                "promise": p.name,
                "reason": p.reason,
                "outlook": p.outlook,
                "remark": p.remark,
                "successes": p.successes,
                "trials": p.trials,
                "threshold": p.threshold,
                "needed": p.needed,
                "expected": dict(p.expected),
            }
            for p in plan.promises
        ],
        "remarks": list(plan.remarks()),
    }
