"""`decide` and `schema`: what production does with a policy file."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from workbench.cli.console import check_target, interactive, note, show
from workbench.cli.release import PolicyArgument
from workbench.errors import DocumentError, InputError
from workbench.records import Decision, Policy, Prediction

_LINES = (".jsonl", ".ndjson")


def apply_policy(
    policy: PolicyArgument,
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="RUN.parquet, or predictions as .jsonl; - reads lines.", allow_dash=True),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="decisions .parquet or .jsonl; - writes lines.")] = Path("-"),
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at a prediction of another approach or version.")
    ] = False,
) -> None:
    """Apply a policy to a run, or to predictions as JSON lines. Every image gets exactly one decision.

    A line that cannot be read goes to review under its line number.

    Examples: `workbench decide policy.json run.parquet -o decisions.parquet`,
    `cat predictions.jsonl | workbench decide policy.json -`
    """
    from workbench.decision import decide
    from workbench.policy import read_policy

    if str(out) != "-" and out.suffix.lower() not in (".parquet", *_LINES):
        raise InputError(f"{out}: decisions are written as .parquet or .jsonl")
    if str(out) != "-":
        check_target(out, policy, run, suffixes=(".parquet", *_LINES))
    found = read_policy(policy)
    counts: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    with ExitStack() as stack:
        predictions = _with_progress(_predictions(run, found, stack))
        decisions = _counted((decide(prediction, found, strict=strict) for prediction in predictions), counts, seen)
        _write(decisions, out)
    repeated = [image_id for image_id, times in seen.items() if times > 1]
    if repeated:
        note(f"{len(repeated)} image ids stand more than once, each with its own decisions: {repeated[0]!r} …")
    summary = ", ".join(f"{count} {action}" for action, count in counts.most_common())
    (note if str(out) == "-" else show)(f"{out}: {counts.total()} decisions: {summary or 'none'}")


def print_schema() -> None:
    """Print the JSON Schema of a policy file.

    Example: `workbench schema > policy.schema.json`
    """
    from workbench.policy import policy_schema

    show(json.dumps(policy_schema(), indent=1, ensure_ascii=False))


def _predictions(run: Path, policy: Policy, stack: ExitStack) -> Iterable[Prediction]:
    if str(run) == "-":
        return _read_lines(sys.stdin.buffer, policy)
    if run.suffix.lower() in _LINES:
        try:
            return _read_lines(stack.enter_context(run.open("rb")), policy)
        except OSError as error:
            raise InputError(f"{run}: cannot be read: {error.strerror or error}") from None
    from workbench.decision import origin_difference
    from workbench.evaluation.simulate import check_floors
    from workbench.predictions import read_predictions

    table = read_predictions(run)
    difference = origin_difference(table.info.origin, policy.origin)
    if difference:
        note(f"{run}: {difference}; every image goes to review")
    else:
        check_floors(policy, table.info)
    return table.predictions()


def _read_lines(lines: BinaryIO, policy: Policy) -> Iterator[Prediction]:
    from workbench.jsonlines import broken_prediction, image_id_of, read_prediction

    for number, raw in enumerate(lines, start=1):
        line = raw.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace")
        if not line.strip():
            continue
        try:
            raw.decode("utf-8")
            yield read_prediction(line)
        except (DocumentError, UnicodeDecodeError) as error:
            note(f"line {number}: {error}")
            yield broken_prediction(image_id_of(line) or f"line {number}", policy.origin, str(error))


def _counted(decisions: Iterable[Decision], counts: Counter[str], seen: Counter[str]) -> Iterator[Decision]:
    for decision in decisions:
        counts[decision.action] += 1
        seen[decision.image_id] += 1
        yield decision


def _with_progress(predictions: Iterable[Prediction]) -> Iterable[Prediction]:
    from tqdm import tqdm

    shown: Iterable[Prediction] = tqdm(predictions, desc="decide", unit="image", disable=not interactive(), delay=1)
    return shown


def _write(decisions: Iterable[Decision], out: Path) -> None:
    from workbench.jsonlines import write_decision

    if str(out) == "-":
        for decision in decisions:
            typer.echo(write_decision(decision))
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    if out.suffix.lower() in _LINES:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(write_decision(decision) + "\n" for decision in decisions)
    else:
        _write_parquet(decisions, part)
    part.replace(out)


def _write_parquet(decisions: Iterable[Decision], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float32()
    mark = pa.struct(
        [
            ("category", text),
            ("action", text),
            ("rank", pa.int64()),
            ("scope", text),
            ("score", number),
            ("threshold", number),
        ]
    )
    schema = pa.schema(
        [
            ("image_id", text),
            ("action", text),
            ("labels", pa.list_(text)),
            ("marks", pa.list_(mark)),
            ("code", text),
            ("reason", text),
            ("policy", text),
        ]
    )
    pq.write_table(pa.Table.from_pylist([asdict(decision) for decision in decisions], schema=schema), path)
