"""`tune`, `release` and `verify`: from goals to a policy whose promises were tested."""

from __future__ import annotations

import json
import os
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
from workbench.errors import DocumentError, InputError
from workbench.records import Draft

if TYPE_CHECKING:
    from workbench.release.gate import Release

DraftArgument = Annotated[Path, typer.Argument(metavar="DRAFT", help="Draft written by `workbench tune`.")]
PolicyArgument = Annotated[Path, typer.Argument(metavar="POLICY", help="Policy file.")]


def tune_thresholds(
    run: RunArgument,
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="DRAFT.json to write.")],
    goals: Annotated[Path | None, typer.Option("--goals", help="Goals file; by default those of the project.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draft thresholds, and the grids that lead to them, on the *tune* split.

    Example: `workbench tune local-trained.parquet fashion --goals datasets/fashion/workbench.toml -o draft.json`
    """
    from workbench.config.goals import check_goals
    from workbench.config.project import read_goals
    from workbench.dataset.opening import open_dataset
    from workbench.documents import to_document
    from workbench.evaluation.labelled import join
    from workbench.evaluation.thresholds import draft_thresholds, out_of_reach, write_draft
    from workbench.predictions import read_predictions

    opened = open_dataset(dataset, config)
    check_target(out, run, *([goals] if goals else []), *files_of(opened, dataset, config), suffixes=(".json",))
    wanted = opened.goals if goals is None else read_goals(goals)
    check_goals(wanted, opened.dataset.taxonomy, str(goals or "goals"))
    labelled = join(read_predictions(run), opened.dataset)
    certify, tune = len(labelled.on("certify")), len(labelled.on("tune"))
    draft = draft_thresholds(labelled, wanted, certify)
    write_draft(draft, out)
    for remark in (remarks := out_of_reach(draft, certify / tune)):
        note(remark)
    if remarks:
        note("`release` spends a look at the certify images all the same: label more of them first, or promise less.")
    if as_json:
        show_json({"draft": str(out), **to_document(draft)})
        return
    _show_draft(draft)
    show(f"{out}: written. Nothing is promised yet; `workbench release` tests it on the certify split.")


def release_policy(
    draft: DraftArgument,
    run: RunArgument,
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="policy.json to write.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test a draft on the *certify* split; write the policy with its evidence, or refuse with reasons (exit code 1).

    Example: `workbench release draft.json local-trained.parquet fashion -o policy.json`
    """
    from workbench.dataset.opening import open_dataset
    from workbench.evaluation.thresholds import read_draft
    from workbench.policy import write_policy
    from workbench.predictions import read_predictions
    from workbench.release.gate import release_draft

    opened = open_dataset(dataset, config)
    check_target(out, draft, run, *files_of(opened, dataset, config), suffixes=(".json",))
    table = read_predictions(run)
    release = release_draft(read_draft(draft), table, opened.dataset, made=opened.made(table.info.origin.approach))
    if release.policy is not None:
        write_policy(release.policy, out)
    if as_json:
        show_json(_release_document(release, out))
    else:
        show_release(release)
        show(f"{out}: written, digest {release.policy.digest}" if release.policy else "No policy was written:")
        for refusal in release.refusals:
            show(f"  {refusal}")
    raise typer.Exit(0 if release.policy else 1)


def verify_policy(
    policy: PolicyArgument,
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Prediction table that was released.")] = None,
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="Data set that was released.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check schema, digests and conformance cases; given the run and the data set, recompute every figure.

    Exit code 1 names each place that does not hold. A recount is a look at the *certify* images: it is free where the
    policy's look is on file, and is recorded, or not allowed, where it is not.

    Example: `workbench verify policy.json local-trained.parquet fashion`
    """
    from workbench.dataset.opening import open_dataset
    from workbench.policy import read_policy
    from workbench.predictions import read_predictions
    from workbench.release.verification import verify_counts, verify_evidence, verify_vectors

    if (run is None) != (dataset is None):
        raise InputError("RUN and DATASET go together: give both, or neither")
    if policy.is_dir() or not os.access(policy, os.R_OK):
        raise InputError(f"{policy}: there is no file that can be read")
    try:
        found = read_policy(policy)
    except DocumentError as error:
        if as_json:
            show_json({"valid": False, "differences": [{"pointer": error.pointer, "message": error.message}]})
        else:
            show(f"does not hold  {error}")
        raise typer.Exit(1) from None
    differences = [*verify_vectors(found), *verify_counts(found)]
    if run is not None and dataset is not None:
        differences += verify_evidence(found, read_predictions(run), open_dataset(dataset, config).dataset)
    if as_json:
        listed = [{"pointer": d.pointer, "stated": d.stated, "found": d.found} for d in differences]
        show_json({"valid": not differences, "digest": found.digest, "differences": listed})
    else:
        for difference in differences:
            show(f"does not hold  {difference}")
        unseen = ("/origin", "/evidence/draft", "/evidence/look/")
        whole = run is not None and not any(f"{d.pointer}/".startswith(unseen) for d in differences)
        checked = "schema, digests and cases" + (", and every figure of the evidence" if whole else "")
        show(f"{policy}: {'FAILS' if differences else 'holds'} ({checked})")
    raise typer.Exit(1 if differences else 0)


def show_release(release: Release) -> None:
    """The promises of a release, which look it was, and what the gate noted."""
    show_table([{str(key): value for key, value in row.items()} for row in release.frame().to_dict("records")])
    if release.look is not None and release.look.number:
        show(f"{release.look.place} at these certify images{' (replayed: free)' if release.replayed else ''}")
    for check in release.checks:
        if check.passed is None:
            show(f"note: {check.name}: {check.text}")


def _release_document(release: Release, out: Path) -> dict[str, object]:
    from workbench.release.gate import promise_frame

    checks = [{"name": check.name, "passed": check.passed, "text": check.text} for check in release.checks]
    promises = json.loads(promise_frame(release.evidence).to_json(orient="records"))
    released = None if release.policy is None else {"file": str(out), "digest": release.policy.digest}
    return {"policy": released, "look": _look_document(release), "checks": checks, "promises": promises}


def _look_document(release: Release) -> dict[str, object] | None:
    look = release.look
    if look is None:
        return None
    return {"digest": look.digest, "number": look.number, "planned": look.planned, "replayed": release.replayed}


def _show_draft(draft: Draft) -> None:
    show_table(
        [
            {
                "category": tier.category,
                "action": tier.action,
                "goal": f"{tier.metric} ≥ {tier.at_least:g}",
                "asked": tier.asked,
                "on tune (optimistic)": f"{tier.tune_successes} of {tier.tune_trials}",
                "grid points": len(tier.grid),
                "note": tier.reason,
            }
            for tier in draft.tiers
        ]
    )
    if draft.rejection.threshold is not None:
        sign = ">" if draft.rejection.signal == "entropy" else "<"
        show(f"rejected where {draft.rejection.signal} {sign} {draft.rejection.threshold:.4g}")
