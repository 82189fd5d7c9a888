"""`demo`: the main job from end to end on the embedded data, with real images, a real network and a trained head."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.approaches.base import build_approach, learner_class
from workbench.cli.classify import setting_for
from workbench.cli.console import answers_path, interactive, note, show, show_table
from workbench.cli.release import show_release

if TYPE_CHECKING:
    from workbench.dataset.opening import Opened
    from workbench.evaluation.labelled import Labelled
    from workbench.evaluation.summary import Evaluation
    from workbench.predictions import PredictionTable
    from workbench.release.gate import Release

CHOSEN = "local-trained"
"""The approach that goes on to certification; the choice is made on tune, where it is plain."""


@dataclass(frozen=True, eq=False)
class _Story:
    """What the demonstration has made of one data set."""

    opened: Opened
    runs: Mapping[str, PredictionTable]
    evaluations: Mapping[str, Evaluation]
    release: Release


def run_demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for policy, report, tables.")] = Path("reports/demo"),
    datasets: Annotated[Path, typer.Option("--datasets", help="Folder for the embedded images.")] = Path("datasets"),
) -> None:
    """Classify, tune, certify, export, report: the main job on the embedded data. A second run asks nothing.

    Example: `workbench demo --out reports/demo`
    """
    start = time.perf_counter()
    fashion = _tell("fashion", ("local-cnn", CHOSEN), datasets, out)
    _show_approaches(fashion)
    show("")
    _show_promises(fashion)
    show("")
    mosaics = _tell("mosaics", (CHOSEN,), datasets, out)
    show("Multi-label, flag early and act alone:")
    _show_promises(mosaics)
    show("")
    for name in ("fashion", "mosaics"):
        folder = out / name
        show(f"{name}: report {folder / 'report.html'}, policy {folder / 'policy.json'}, tables in {folder}")
    note(f"{time.perf_counter() - start:.0f} s in all")
    raise typer.Exit(0 if fashion.release.policy and mosaics.release.policy else 1)


def _tell(name: str, approaches: tuple[str, ...], datasets: Path, out: Path) -> _Story:
    from workbench.dataset.opening import open_dataset
    from workbench.evaluation.labelled import join
    from workbench.report.page import write_report

    folder = out / name
    opened = open_dataset(name, datasets=datasets, progress=interactive())
    dataset = opened.dataset
    note(f"{name}: {len(dataset)} images, {len(dataset.taxonomy.categories)} categories, {dataset.taxonomy.mode}")
    runs = {approach: _classify(opened, approach, folder) for approach in approaches}
    joined = {approach: join(table, dataset) for approach, table in runs.items()}
    evaluations = {approach: _evaluate(labelled, folder / approach) for approach, labelled in joined.items()}
    release = _release(opened, runs[CHOSEN], joined[CHOSEN], folder)
    write_report(
        folder / "report.html",
        title=f"{name}: how far may these classifiers be trusted?",
        evaluations=evaluations,
        dataset=dataset,
        policy=release.policy,
        evidence=release.evidence,
        blocked=release.refusals,
    )
    return _Story(opened, runs, evaluations, release)


def _classify(opened: Opened, approach: str, folder: Path) -> PredictionTable:
    from workbench.predictions import write_predictions
    from workbench.runs.cache import AnswerCache
    from workbench.runs.runner import classify

    setting = setting_for(opened, approach)
    if approach == CHOSEN and not learner_class(approach).artefact(opened.dataset, setting).exists():
        learner_class(approach).fit(opened.dataset, setting, progress=interactive())
    with AnswerCache(answers_path()) as cache:
        built = build_approach(approach, opened.dataset, setting)
        table = classify(opened.dataset, built, cache, progress=interactive())
    write_predictions(table, folder / f"{approach}.parquet")
    note(f"{approach}: {len(table)} images, {int((~table.frame['cached']).sum())} asked now")
    return table


def _evaluate(labelled: Labelled, folder: Path) -> Evaluation:
    from workbench.evaluation.summary import evaluate

    evaluation = evaluate(labelled)
    evaluation.save(folder, figures_too=False)  # the report has them
    return evaluation


def _release(opened: Opened, table: PredictionTable, labelled: Labelled, folder: Path) -> Release:
    from workbench.evaluation.thresholds import draft_thresholds, write_draft
    from workbench.policy import write_policy
    from workbench.release.gate import release_draft
    from workbench.release.verification import verify_evidence, verify_vectors

    draft = draft_thresholds(labelled, opened.goals, len(labelled.on("certify")))
    write_draft(draft, folder / "draft.json")
    release = release_draft(draft, table, opened.dataset, made=opened.made(CHOSEN))
    if release.policy is not None:
        write_policy(release.policy, folder / "policy.json")
        differences = [*verify_vectors(release.policy), *verify_evidence(release.policy, table, opened.dataset)]
        note(f"policy verified: {len(differences)} differences")
    return release


def _show_approaches(story: _Story) -> None:
    show("Approaches on tune (optimistic; the choice between them is made here):")
    rows: list[dict[str, Any]] = []
    for approach, evaluation in story.evaluations.items():
        measured = evaluation.accuracy
        low, high = measured.interval
        rows.append(
            {
                "approach": approach,
                "model": story.runs[approach].info.origin.model_version,
                "accuracy": measured.accuracy,
                "95 % interval": f"{low:.3f} to {high:.3f}",
                "majority baseline": measured.baseline,
            }
        )
    show_table(rows)


def _show_promises(story: _Story) -> None:
    show(f"Promises of {CHOSEN}, tested on certify:")
    show_release(story.release)
    evidence = story.release.evidence
    if evidence is not None:
        found = evidence.summary
        share, baseline = found.correct / max(found.known, 1), found.majority / max(found.known, 1)
        show(
            f"On certify {found.correct} of {found.known} known images are told rightly: accuracy {share:.3f} "
            f"(majority baseline {baseline:.3f})."
        )
    for refusal in story.release.refusals:
        show(f"No policy: {refusal}")
