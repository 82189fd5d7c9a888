"""`second-labels` and `label-noise`: do the precision promises of a policy survive a second annotator?"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
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
    note,
    show,
    show_json,
    show_table,
)
from workbench.errors import InputError
from workbench.records import Promise

if TYPE_CHECKING:
    from workbench.evaluation.noise import LabelNoise, Question
    from workbench.release.examination import Certify

PolicyArgument = Annotated[Path, typer.Argument(metavar="POLICY", help="Policy file.")]
EachOption = Annotated[
    int | None,
    typer.Option(
        "--each",
        min=1,
        max=1_000_000,
        help="Per promise: so many errors, nearest above the threshold, and so many agreements, at random. By default "
        "all errors, and the agreements that the promise needs if none is overturned.",
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of the draw and of the order of the items.")
]

_CODES = {"holds": 0, "fails": 1, "inconclusive": 3}


def write_second_labels(
    policy: PolicyArgument,
    run: RunArgument,
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="second.csv to write; pictures go to second-images/.")],
    each: EachOption = None,
    seed: SeedOption = 0,
    config: ConfigOption = None,
) -> None:
    """Write a blinded list of *certify* images for a second annotator, who fills in the column `label`.

    For each certified precision promise: its errors with scores nearest above the threshold, and a random sample of its
    agreements. Pictures are copied under opaque names, in an order that tells nothing.

    Example: `workbench second-labels policy.json local-trained.parquet fashion -o second.csv`
    """
    from workbench.dataset.labels import list_labels
    from workbench.evaluation.noise import COLUMNS
    from workbench.spreadsheets import as_csv

    images = out.with_name(f"{out.stem}-images")
    check_target(out, policy, run, suffixes=(".csv",))
    if out.suffix.lower() != ".csv":
        raise InputError(f"{out}: the file of second labels has to end in .csv")
    if images.exists():
        raise InputError(f"{images}: is there already; take it away or name another file to write")
    draw = _draw(policy, run, dataset, config, each, seed, out)
    images.mkdir(parents=True)
    rows = []
    for item, path in draw.files.items():
        shutil.copyfile(path, images / f"{item}{path.suffix.lower()}")
        rows.append((item, f"{images.name}/{item}{path.suffix.lower()}", ""))
    out.write_bytes(as_csv([COLUMNS, *rows], defused=False).encode())
    show(f"{out}: written, {len(rows)} images for {len(draw.questions)} promises")
    show(f"Labels to write{list_labels(draw.certify.rows.taxonomy)}")
    chosen = "".join([f" --each {each}" if each else "", f" --seed {seed}" if seed else ""])
    show(f"Then: workbench label-noise {policy} {run} {dataset} {out}{chosen}")


def judge_label_noise(
    policy: PolicyArgument,
    run: RunArgument,
    dataset: DatasetArgument,
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="The filled file of `workbench second-labels`.")],
    each: EachOption = None,
    seed: SeedOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say for each precision promise whether it holds under second labels: exit code 0 yes, 1 no, 3 inconclusive.

    `--each` and `--seed` are those with which the file was written.

    Example: `workbench label-noise policy.json local-trained.parquet fashion second.csv`
    """
    from workbench.evaluation.noise import LabelNoise, answer_question, measure_agreement, read_second_labels

    if second.suffix.lower() != ".csv":
        raise InputError(f"{second}: the file of second labels has to end in .csv")
    draw = _draw(policy, run, dataset, config, each, seed)
    rows = draw.certify.rows
    told = read_second_labels(second, rows.taxonomy, draw.items)
    labels = {draw.items[item]: shown for item, shown in told.items()}
    answers = tuple(
        answer_question(question, {row: question.category in shown for row, shown in labels.items()})
        for question in draw.questions
    )
    first = [rows.frame["labels"].iloc[row] for row in labels]
    noise = LabelNoise(answers, measure_agreement(first, list(labels.values())))
    if as_json:
        show_json(_document(noise))
    else:
        _show(noise)
    raise typer.Exit(_CODES[noise.verdict])


@dataclass(frozen=True, eq=False)
class _Draw:
    """What a policy, its run, `--each` and `--seed` choose."""

    certify: Certify
    questions: tuple[Question, ...]
    items: dict[str, int]
    """Opaque name → certify row, in the order in which they are written."""
    files: dict[str, Path]
    """Opaque name → the picture, in the same order."""


def _draw(
    policy_file: Path,
    run: Path,
    where: str,
    config: Path | None,
    each: int | None,
    seed: int,
    out: Path | None = None,
) -> _Draw:
    from workbench.dataset.opening import open_dataset
    from workbench.decision import origin_difference
    from workbench.evaluation.noise import name_items
    from workbench.policy import read_policy
    from workbench.predictions import read_predictions
    from workbench.release.examination import certify_rows, look_digest
    from workbench.release.ledger import Ledger
    from workbench.release.verification import counted_then

    policy, table = read_policy(policy_file), read_predictions(run)
    opened = open_dataset(where, config)
    if out is not None:
        check_target(out, *files_of(opened, where, config), suffixes=(".csv",))
    dataset, evidence = opened.dataset, policy.evidence
    difference = origin_difference(table.info.origin, policy.origin, "the policy is for")
    if difference:
        raise InputError(f"{run}: {difference}")
    if evidence.draft.dataset != dataset.digest:
        raise InputError(f"{policy_file}: was tested on another data set than {dataset.name!r}")
    whole = certify_rows(evidence.draft, table, dataset, evidence.seed)
    look = Ledger.of(dataset).find(evidence.look)
    certify = counted_then(policy, whole, look)
    if look is None or look_digest(evidence.draft, certify, evidence.seed) != evidence.look:
        raise InputError(
            f"{policy_file}: its look at these images is not on file, or is another one; run `workbench verify` first"
        )
    if evidence.draft.prevalence is not None:
        note("the bounds are for the certify images as they come, not for the mix that the policy states")
    if certify.rows.weights is not None:
        raise InputError(
            f"{dataset.name}: the certify images differ in weight; label noise is judged on even samples alone"
        )
    certified = [p for p in evidence.promises if p.metric == "precision" and p.verdict == "certified"]
    if not certified:
        raise InputError(f"{policy_file}: no precision promise is certified")
    contents = certify.contents.tolist()
    questions = tuple(_ask(promise, certify, promise.action in policy.automatic, each, seed) for promise in certified)
    for promise, question in zip(certified, questions, strict=True):
        if (question.successes, question.trials) != (promise.successes, promise.trials):
            raise InputError(
                f"{policy_file}: states {promise.successes} of {promise.trials} for {promise.action!r} of "
                f"{promise.category!r}, found {question.successes} of {question.trials}; see `workbench verify`"
            )
    rows = sorted({int(row) for question in questions for row in (*question.agreements, *question.errors)})
    items = name_items(rows, contents, policy.digest, each, seed)
    paths = dict(zip(dataset.frame["image_id"], dataset.frame["path"], strict=True))
    ids = certify.rows.frame["image_id"]
    files = {item: dataset.file(paths[ids.iloc[row]]) for item, row in items.items()}
    return _Draw(certify, questions, items, files)


def _ask(promise: Promise, certify: Certify, automatic: bool, each: int | None, seed: int) -> Question:
    import numpy as np

    from workbench.evaluation.noise import Question, choose_rows

    assert promise.certified is not None and promise.confidence is not None  # noqa: S101, PT018 -- it is certified
    column = certify.rows.taxonomy.categories.index(promise.category)
    reach, truth = certify.gated.reach(column, promise.scope, automatic=automatic), certify.rows.truth[:, column]
    fires, delta = reach >= np.float32(promise.certified), 1 - promise.confidence
    contents = certify.contents.tolist()
    agreements, errors = choose_rows(reach, truth, promise.certified, promise.at_least, delta, contents, each, seed)
    return Question(
        category=promise.category,
        action=promise.action,
        at_least=promise.at_least,
        delta=delta,
        trials=int(fires.sum()),
        successes=int((fires & truth).sum()),
        agreements=agreements,
        errors=errors,
    )


def _show(noise: LabelNoise) -> None:
    show_table(
        [
            {
                "category": answer.category,
                "action": answer.action,
                "goal": f"precision ≥ {answer.at_least:g}",
                "counted": f"{answer.successes} of {answer.trials}",
                "bound": answer.observed_bound,
                "overturned": f"{answer.overturned} of {answer.agreements}",
                "restored": f"{answer.restored} of {answer.errors}",
                "under second labels": answer.bound,
                "verdict": answer.verdict,
                "note": answer.reason,
            }
            for answer in noise.answers
        ]
    )
    agreement = noise.agreement
    low, high = agreement.interval
    show(
        f"First and second labels agree on {agreement.agreed} of {agreement.images} images ({low:.3f} to {high:.3f}), "
        f"kappa {agreement.kappa:.3f}, where errors are over-represented"
    )


def _document(noise: LabelNoise) -> dict[str, object]:
    return {
        "verdict": noise.verdict,
        "promises": [asdict(answer) for answer in noise.answers],
        "agreement": asdict(noise.agreement),
    }
