"""`train` and `classify`: put the images to an approach."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.approaches.base import (
    APPROACHES,
    Approach,
    Service,
    Setting,
    approach_class,
    build_approach,
    learner_class,
)
from workbench.cli.console import (
    ConfigOption,
    DatasetArgument,
    JsonOption,
    answers_path,
    check_target,
    files_of,
    finite,
    interactive,
    note,
    show,
    show_json,
    show_table,
)
from workbench.errors import ConfigError, InputError
from workbench.runs.limits import USUAL, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.dataset.opening import Opened
    from workbench.predictions import PredictionTable
    from workbench.runs.cache import AnswerCache
    from workbench.runs.plan import Plan

_LINES = (".jsonl", ".ndjson")

ApproachOption = Annotated[str, typer.Option("--approach", help=f"One of: {', '.join(APPROACHES)}.")]
ModelOption = Annotated[
    Path | None, typer.Option("--model", help="Trained artefact; by default the one trained on this data set.")
]
BudgetOption = Annotated[
    float | None,
    typer.Option("--budget", min=0, callback=finite, metavar="USD", help="Stop before this could be exceeded."),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--max-rate",
        callback=finite,
        metavar="CALLS",
        help="Calls per second; by default what the service is known to admit.",
    ),
]
VersionOption = Annotated[
    str,
    typer.Option(
        "--model-version",
        metavar="VERSION",
        help="The model version that a service's answers must name, where it is known or several are kept.",
        show_default=False,
    ),
]


def train_approach(
    dataset: DatasetArgument,
    approach: ApproachOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit an approach that learns, on the *train* split only, and store what it learned.

    Example: `workbench train fashion --approach local-trained`
    """
    from workbench.dataset.opening import open_dataset

    opened = open_dataset(dataset, config, progress=interactive())
    learner = learner_class(approach)
    setting = setting_for(opened, approach)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always", UserWarning)
        path = learner.fit(opened.dataset, setting, progress=interactive())
    for remark in remarks:
        note(str(remark.message))
    for text in getattr(learner, "remarks", lambda artefact: ())(path):
        note(text)
    built = build_approach(approach, opened.dataset, setting_for(opened, approach, path))
    if as_json:
        show_json({"model": str(path), "model_version": built.model_version, "fingerprint": built.fingerprint})
        return
    show(f"{path}: trained {built.model_version} on {len(opened.dataset.on('train'))} images")
    show(f"fingerprint {built.fingerprint}")


def classify_dataset(
    dataset: DatasetArgument,
    approach: ApproachOption,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="RUN.parquet to write (or .jsonl, for `decide` alone).",
            show_default="DATASET-APPROACH.parquet",
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be asked, what is cached, what it would cost, and stop.")
    ] = False,
    model: ModelOption = None,
    budget: BudgetOption = None,
    max_rate: RateOption = None,
    max_in_flight: Annotated[int, typer.Option(min=1, help="Calls under way at once, at most.")] = USUAL.max_in_flight,
    seconds_per_image: Annotated[
        float, typer.Option(min=0, callback=finite, help="For all attempts at one image together.")
    ] = USUAL.seconds_per_image,
    batch: Annotated[
        bool, typer.Option("--batch", help="Hand the questions in all together: cheaper, answered within a day.")
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait",
            help="With --batch: stay until the answers are there; else exit code 3 says that some are still to come.",
        ),
    ] = True,
    model_version: VersionOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one approach over every image. What was answered before is not asked again, also after a crash.

    A service is asked as fast as it takes it; `--plan` says what that would cost, without asking anybody.

    Example: `workbench classify fashion --approach local-cnn -o local-cnn.parquet`
    """
    from workbench.dataset.opening import open_dataset
    from workbench.jsonlines import write_prediction
    from workbench.predictions import write_predictions
    from workbench.runs.cache import AnswerCache
    from workbench.runs.runner import classify, plan_run

    if not wait and not batch:
        raise typer.BadParameter("--no-wait goes with --batch")
    opened = open_dataset(dataset, config, progress=interactive())
    path = out or Path(f"{opened.dataset.name}-{approach}.parquet")
    inputs = (*files_of(opened, dataset, config), *([model] if model else []))
    check_target(path, *inputs, suffixes=(".parquet", *_LINES))
    if path.suffix.lower() not in (".parquet", *_LINES):
        raise InputError(f"{path}: a run has to end in .parquet or .jsonl")
    limits = Limits(max_rate, max_in_flight, budget, seconds_per_image)
    setting = setting_for(opened, approach, model, model_version)
    built = build_approach(approach, opened.dataset, setting)
    lacks = partial(missing_to_ask, built, setting)
    started = time.perf_counter()
    with AnswerCache(answers_path()) as cache:
        if batch:
            table = _in_batches(opened, built, cache, limits, lacks, plan, wait, as_json)
        elif plan:
            _show_plan(plan_run(opened.dataset, built, cache, interactive(), limits), as_json)
            return
        else:
            table = classify(opened.dataset, built, cache, interactive(), limits, lacks)
    seconds = time.perf_counter() - started
    if path.suffix.lower() in _LINES:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(write_prediction(row) + "\n" for row in table.predictions()), encoding="utf-8")
    else:
        write_predictions(table, path)
    _show_run(table, path, seconds, as_json)


def _in_batches(
    opened: Opened,
    built: Approach,
    cache: AnswerCache,
    limits: Limits,
    lacks: Callable[[], str],
    plan: bool,
    wait: bool,
    as_json: bool,
) -> PredictionTable:
    """The run in batches. Ends the command after a plan, and where answers are still to come and nobody waits."""
    from workbench.config.store import store_folder
    from workbench.runs.batches import classify_in_batches, plan_batches
    from workbench.runs.batchrun import Waiting

    if plan:
        _show_plan(plan_batches(opened.dataset, built, cache, store_folder(), interactive()), as_json)
        raise typer.Exit
    found = classify_in_batches(opened.dataset, built, cache, store_folder(), interactive(), limits, wait, lacks)
    if isinstance(found, Waiting):
        show_json({"waiting": asdict(found)}) if as_json else show(str(found))
        raise typer.Exit(3)
    return found


def _show_plan(plan: Plan, as_json: bool) -> None:
    show_json(asdict(plan)) if as_json else show(str(plan))


def setting_for(opened: Opened, approach: str, model: Path | None = None, model_version: str = "") -> Setting:
    """What an approach is built from, for this data set and this user.

    Raises ConfigError for a model version of an approach that is no service (it states its own), an artefact for one
    that does not learn, and where the project has fields of an approach that is not there.
    """
    from workbench.config.store import store_folder

    _check_names(opened)
    if model is not None and not hasattr(approach_class(approach), "fit"):
        raise ConfigError(f"{approach} does not learn; leave out `--model`")
    options = dict(opened.options(approach))
    if model_version:
        if not hasattr(approach_class(approach), "lacks"):
            raise ConfigError(f"{approach} states its model version itself; leave out `--model-version`")
        options["model_version"] = model_version
    return Setting(
        opened.dataset.taxonomy,
        opened.label_map(approach),
        store_folder(),
        model,
        options,
        opened.prices,
    )


def _check_names(opened: Opened) -> None:
    """What stands in the table of a misspelt approach would silently not count."""
    if opened.project is None:
        return
    for name in opened.project.options:
        if name not in APPROACHES:
            close = get_close_matches(name, list(APPROACHES), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(APPROACHES)}"
            raise ConfigError(f"{opened.project.path}: approaches.{name}: no approach is called so; {hint}")


def missing_to_ask(approach: Approach, setting: Setting) -> str:
    """What is missing to ask; "" for an approach of this machine."""
    return approach.lacks(setting) if isinstance(approach, Service) else ""


def _show_run(table: PredictionTable, path: Path, seconds: float, as_json: bool) -> None:
    from workbench.runs.runner import spent_usd

    outcomes = table.frame["outcome"].value_counts()
    asked = int((~table.frame["cached"]).sum())
    cached = int((table.frame["cached"] & (table.frame["outcome"] == "ok")).sum())
    spent = spent_usd(table)
    reasons = {str(name): _commonest_detail(table, str(name)) for name in outcomes.index}
    if as_json:
        counts = {str(name): int(count) for name, count in outcomes.items()}
        facts = {"images": len(table), "asked": asked, "cached": cached, "spent_usd": spent, "outcomes": counts}
        facts["seconds"] = round(seconds, 3)
        show_json({"run": str(path), **facts, "reasons": {name: reason for name, reason in reasons.items() if reason}})
    else:
        origin = table.info.origin
        told = f"{len(table)} images by {origin.approach} ({origin.model_version})"
        show(f"{path}: {told}, {asked} asked, {cached} cached, {spent:.4f} USD spent, {seconds:.1f} s")
        rows = [
            {"outcome": name, "images": int(outcomes[name]), "most often because": reasons[name]} for name in reasons
        ]
        show_table(rows if any(reasons.values()) else [{"outcome": "ok", "images": len(table)}] if rows else [])
    if asked and "ok" not in outcomes:
        note("No image was answered; the run says why, image by image.")
        raise typer.Exit(1)


def _commonest_detail(table: PredictionTable, outcome: str) -> str:
    details = table.frame["detail"][table.frame["outcome"] == outcome]
    return str(details.mode().iloc[0]) if outcome != "ok" and len(details) else ""
