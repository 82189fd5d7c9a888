"""`bench-llm`: which way of asking a model gives confidences that tell right from wrong, and what does each cost?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.approaches.base import Approach, Setting, build_approach
from workbench.cli.classify import (
    ApproachOption,
    BudgetOption,
    RateOption,
    VersionOption,
    missing_to_ask,
    setting_for,
)
from workbench.cli.console import (
    ConfigOption,
    DatasetArgument,
    JsonOption,
    answers_path,
    check_results,
    files_of,
    interactive,
    note,
    show,
    show_json,
    show_table,
    write_results,
)
from workbench.errors import ConfigError, InputError
from workbench.runs.limits import Limits

if TYPE_CHECKING:
    from workbench.dataset.images import Dataset
    from workbench.evaluation.elicitation import ProtocolMeasures, Trial
    from workbench.runs.cache import AnswerCache
    from workbench.runs.plan import Plan

PROTOCOLS = ("single", "top-k", "samples", "shuffled")


def bench_protocols(
    dataset: DatasetArgument,
    approach: ApproachOption = "claude",
    protocols: Annotated[
        str, typer.Option("--protocols", metavar="LIST", help=f"Some of {', '.join(PROTOCOLS)}, with commas.")
    ] = ",".join(PROTOCOLS),
    samples: Annotated[int, typer.Option("--samples", min=2, max=20, help="How often `samples` asks.")] = 3,
    images: Annotated[int, typer.Option("--images", min=1, help="How many, at random, one of each group.")] = 200,
    goal: Annotated[float, typer.Option("--goal", min=0.5, max=0.9999, help="Precision to certify.")] = 0.9,
    confidence: Annotated[float, typer.Option("--confidence", min=0.5, max=0.9999, help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of images and resamples.")] = 0,
    budget: BudgetOption = None,
    max_rate: RateOption = None,
    model_version: VersionOption = "",
    plan: Annotated[bool, typer.Option("--plan", help="Say what each protocol would ask and cost, and stop.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="BENCH.json to write, and a figure beside it (.png).",
            show_default="reports/bench-DATASET-APPROACH.json",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a model about the same *tune* images in several ways, and compare them on your labels.

    single: one label and a confidence. top-k: the likeliest labels with probabilities. samples: top-k several times,
    averaged. shuffled: top-k with the labels in a drawn order. The budget is for all of them together; answers that are
    kept cost nothing. One way is ranked before another only where a paired bootstrap tells them apart.

    Example: `workbench bench-llm my-images --images 200 --budget 5`
    """
    from workbench.dataset.opening import open_dataset
    from workbench.evaluation.elicitation import measure_protocols
    from workbench.evaluation.figures import figure_of
    from workbench.runs.cache import AnswerCache
    from workbench.runs.stress import draw_sample

    ways = _ways(protocols, samples)
    opened = open_dataset(dataset, config, progress=interactive())
    if opened.dataset.taxonomy.mode == "multi-label":
        raise InputError(
            f"{dataset}: is multi-label; protocols are compared where there is one answer and one confidence"
        )
    path = out or Path("reports") / f"bench-{opened.dataset.name}-{approach}.json"
    check_results(path, *files_of(opened, dataset, config))
    setting = setting_for(opened, approach, None, model_version)
    settings = {name: replace(setting, options={**setting.options, **way}) for name, way in ways.items()}
    build_approach(approach, opened.dataset, setting)  # what is wrong in workbench.toml is told as that
    try:
        built = {name: build_approach(approach, opened.dataset, chosen) for name, chosen in settings.items()}
    except ConfigError as error:
        raise InputError(f"{approach} cannot be asked in these ways ({', '.join(ways)}): {error}") from None
    sample = draw_sample(opened.dataset, "tune", images, seed)
    with AnswerCache(answers_path()) as cache:
        if plan:
            _show_plans(sample, built, cache, Limits(max_rate=max_rate), as_json)
            return
        trials, spent = _ask_all(sample, built, settings, cache, Limits(max_rate=max_rate, budget_usd=budget))
    measures = measure_protocols(trials, at_least=goal, confidence=confidence, seed=seed)
    document = _document(measures, approach, built, ways, spent, seed)
    write_results(path, document, figure_of(measures.plot()[0]))
    if as_json:
        show_json(document)
        return
    show(f"{approach}, {len(sample)} images of {measures.measured_on}; {spent:.4f} USD spent now")
    _show(measures)
    show(f"{path} and {path.with_suffix('.png').name}: written")


def _ways(listed: str, samples: int) -> dict[str, Mapping[str, Any]]:
    """Protocol → the options that make it."""
    options: dict[str, Mapping[str, Any]] = {
        "single": {"protocol": "single", "samples": 1, "shuffle": False},
        "top-k": {"protocol": "top-k", "samples": 1, "shuffle": False},
        "samples": {"protocol": "top-k", "samples": samples, "shuffle": False},
        "shuffled": {"protocol": "top-k", "samples": 1, "shuffle": True},
    }
    names = list(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    wrong = [name for name in names if name not in options]
    if wrong or not names:
        raise InputError(f"--protocols: {', '.join(wrong) or 'nothing'} is not among {', '.join(options)}")
    return {name: options[name] for name in names}


def _ask_all(
    sample: Dataset, built: Mapping[str, Approach], settings: Mapping[str, Setting], cache: AnswerCache, limits: Limits
) -> tuple[list[Trial], float]:
    """Every protocol's run, one after the other, within one budget; and what was spent."""
    from workbench.evaluation.elicitation import Trial
    from workbench.evaluation.labelled import join
    from workbench.runs.costs import answer_costs
    from workbench.runs.runner import classify, spent_usd

    trials, spent = [], 0.0
    for name, approach in built.items():
        left = None if limits.budget_usd is None else max(0.0, limits.budget_usd - spent)
        if interactive():
            note(name)
        lacks = partial(missing_to_ask, approach, settings[name])
        table = classify(sample, approach, cache, interactive(), replace(limits, budget_usd=left), lacks)
        spent += spent_usd(table)
        trials.append(Trial(name, join(table, sample), answer_costs(sample, approach, cache, table)))
    return trials, spent


def _show_plans(
    sample: Dataset, built: Mapping[str, Approach], cache: AnswerCache, limits: Limits, as_json: bool
) -> None:
    from workbench.runs.plan import plan_run

    plans = {name: plan_run(sample, approach, cache, interactive(), limits) for name, approach in built.items()}
    if as_json:
        show_json({name: asdict(planned) for name, planned in plans.items()})
        return
    rows = [_plan_row(name, planned) for name, planned in plans.items()]
    show_table(rows)
    if all(isinstance(row[key], float) for row in rows for key in ("low USD", "high USD")):
        low, high = (sum(row[key] for row in rows) for key in ("low USD", "high USD"))
        show(f"together {low:.4f} to {high:.4f} USD; answers that two protocols share are paid once")
    notes = {planned.charge.note for planned in plans.values() if planned.charge and planned.charge.note}
    for text in sorted(notes):
        note(text)


def _plan_row(name: str, planned: Plan) -> dict[str, Any]:
    charge = planned.charge
    return {
        "protocol": name,
        "images": planned.images,
        "answered before": planned.cached,
        "calls": planned.to_ask if charge is None else charge.calls,
        "low USD": 0.0 if charge is None else charge.low_usd,
        "high USD": 0.0 if charge is None else charge.high_usd,
    }


def _document(
    measures: ProtocolMeasures,
    approach: str,
    built: Mapping[str, Approach],
    ways: Mapping[str, Mapping[str, Any]],
    spent: float,
    seed: int,
) -> dict[str, Any]:
    return {
        "approach": approach,
        "measured_on": measures.measured_on,
        "confidence": measures.confidence,
        "at_least": measures.at_least,
        "certified_at": measures.certified_at,
        "seed": seed,
        "spent_usd": spent,
        "winner": measures.winner or None,
        "options": {name: dict(way) for name, way in ways.items()},
        "fingerprints": {name: one.fingerprint for name, one in built.items()},
        "protocols": measures.frame().to_dict("records"),
        "pairs": measures.pairs_frame().to_dict("records"),
    }


def _show(measures: ProtocolMeasures) -> None:
    rows = measures.frame().to_dict("records")
    show_table([_row({str(key): value for key, value in row.items()}) for row in rows])
    show(
        f"certified recall: mean over categories, in %, at precision ≥ {measures.at_least:g} proven at"
        f" {measures.certified_at:.0%} on these images; a yardstick, no promise"
    )
    if measures.winner:
        show(f"best by AUGRC, beyond chance: {measures.winner}")
    elif len(measures.protocols) > 1:
        show("no protocol is better than all others by AUGRC, beyond chance: equal ranks are ties")


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    def told(name: str, digits: int = 3) -> str:
        if row[name] != row[name]:
            return "–"
        return f"{row[name]:.{digits}f} ({row[f'{name}_low']:.{digits}f} to {row[f'{name}_high']:.{digits}f})"

    failed = row["refused"] + row["invalid"]
    return {
        "rank": row["rank_augrc"],
        "protocol": row["name"],
        "AUGRC": told("augrc"),
        "AUROC": told("auroc"),
        "accuracy": told("accuracy"),
        "smECE (null)": "–" if row["smece"] != row["smece"] else f"{row['smece']:.3f} ({row['smece_null']:.3f})",
        "points": row["points"],
        "refused, invalid": f"{row['refused']}, {row['invalid']} ({failed / row['images']:.1%})",
        "USD per image": row["cost_per_image"],
        "certified recall": told("certified_recall", 1),
        "USD per 1,000 and point": row["cost_per_point"],
    }
