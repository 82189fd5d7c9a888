"""One HTML file that says what was certified, what was refused, and how good each approach is.

It needs no network: figures and thumbnails are data URIs, and its own content policy forbids everything else but one
script, by its digest, that shows the points of the curves. All text from data is escaped by the template engine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from workbench.canonical import shortest_binary32
from workbench.dataset.images import SPLITS, Dataset
from workbench.documents import write_whole
from workbench.evaluation.figures import shorten
from workbench.evaluation.left_out import LeftOut
from workbench.evaluation.production import bounds_by_share
from workbench.evaluation.rejection import UNKNOWN_LABEL, RejectionMeasures
from workbench.evaluation.summary import Evaluation
from workbench.evaluation.tradeoff import CategoryCurve
from workbench.records import Draft, Evidence, Policy, Promise, Rejection
from workbench.report import plots, verdict
from workbench.report.mistakes import Mistake, find_mistakes

_MOST_PICTURES = 120
_MOST_CURVES = 60
_MOST_POINTS = 120
_MOST_SOURCES = 12
_FACTORS = (1 / 3, 1, 3)
_WIDE = 5.2
"""Inches: two figures side by side fill the page."""


def write_report(
    path: Path,
    *,
    title: str,
    evaluations: Mapping[str, Evaluation],
    dataset: Dataset,
    policy: Policy | None = None,
    evidence: Evidence | None = None,
    blocked: Sequence[str] = (),
    images: bool = True,
    created: str | None = None,
) -> Path:
    """Write the report, whole or not at all, and return its path.

    evaluations  by the name that the page gives each approach; the one of the policy's origin comes first
    dataset      all of it: counts by split, and where thumbnails are read
    policy       what was exported, if anything was; its evidence is shown
    evidence     of a draft that was tested and not exported
    blocked      why nothing was exported, in sentences
    images       False leaves every picture of the data set out, and so does a data set that is marked sensitive
    created      UTC time, as `2026-11-23T16:32:00Z`; now if not given
    """
    proof = policy.evidence if policy is not None else evidence
    images = images and not dataset.sensitive
    environment = _environment()
    context = {
        "title": title,
        "created": created or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "headline": verdict.headline(policy, proof, blocked),
        "sentences": verdict.sentences(policy, proof),
        "blocked": blocked,
        "policy": policy,
        "evidence": proof,
        "rejection_rule": verdict.rejection_rule(proof.draft.rejection) if proof else "",
        "charts": _promise_charts(proof),
        "shares": _bounds_by_share(proof),
        "approaches": (approaches := _approaches(evaluations, dataset if images else None, policy, proof)),
        "tested": next((approach for approach in approaches if approach["tested"]), None),
        "images": images,
        "dataset": dataset,
        "counts": _counts(dataset),
        "points": _script_data(
            [_points(curve, marks) for approach in approaches for _, curve, _, marks in approach["curves"]]
        ),
        **_script(environment),
    }
    page = environment.get_template("report.html.j2").render(context)
    write_whole(page.encode(errors="replace"), path)
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("workbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": verdict.percent,
        "percent_down": verdict.percent_down,
        "percent_up": verdict.percent_up,
        "goal": verdict.in_percent,
        "score": _score,
        "decimal": _decimal,
        "price": verdict.price,
        "share": verdict.share_in_words,
        "share_source": verdict.prevalence_source,
        "budget": verdict.budget_in_words,
        "sentence": _sentence,
        "shorten": shorten,
    }
    return environment


def _script(environment: Environment) -> dict[str, str]:
    """The one script, and the digest by which the page's content policy allows it."""
    text = environment.get_template("curves.js").render()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return {"script": text, "script_digest": f"sha256-{digest}"}


def _script_data(value: object) -> str:
    """JSON that no text in it can break out of: it holds neither < nor &, in any encoding."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("&", "\\u0026")


def _points(curve: CategoryCurve, marks: Mapping[str, float]) -> dict[str, Any] | None:
    """What the script shows of a curve: its points with figures in percent, as the page writes them; None: no point.

    The policy's thresholds, in `marks` by action, are among the points, and named.
    """
    table = curve.points(_MOST_POINTS, list(marks.values()))
    if table.empty:
        return None
    columns: dict[str, list[Any]] = {
        "threshold": [shortest_binary32(float(threshold)) for threshold in table["threshold"]],
        "right": [_count(count) for count in table["true_positives"]],
        "told": [_count(count) for count in table["predicted_positives"]],
    }
    for rate in ("precision", "recall"):
        shares = table[[rate, f"{rate}_low", f"{rate}_high"]].to_numpy()
        columns[rate] = [[float(f"{100 * share:.1f}") for share in row] for row in shares]
    points = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for action, limit in marks.items():
        place = int(np.searchsorted(table["threshold"].to_numpy(), np.float32(limit)))
        if place < len(points):
            points[place].setdefault("tiers", []).append(f"{action} ≥ {_score(limit)}")
    return {
        "frame": plots.unit_square(),
        "positives": _count(curve.curve.positives),
        "images": _count(curve.curve.images),
        "points": points,
    }


def _count(value: float) -> float:
    """A number of images; a sum of weights with one decimal."""
    return int(value) if float(value).is_integer() else round(float(value), 1)


def _score(value: float | None) -> str:
    """A threshold or score, in the digits that the policy file has."""
    return "–" if value is None else f"{shortest_binary32(value)}"


def _decimal(value: float) -> str:
    """A measure with three decimals, "n/a" for NaN."""
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def _sentence(text: str) -> str:
    """A reason as a sentence; empty stays empty."""
    line = shorten(text, 400)
    return f"{line[:1].upper()}{line[1:].rstrip('.')}." if line else ""


def _approaches(
    evaluations: Mapping[str, Evaluation], dataset: Dataset | None, policy: Policy | None, evidence: Evidence | None
) -> list[dict[str, Any]]:
    """What the template shows of each approach, the one that was tested first."""
    tested = evidence.draft.origin if evidence else None
    ordered = sorted(evaluations.items(), key=lambda item: item[1].labelled.info.origin != tested)
    shown = []
    for name, evaluation in ordered:
        own = evaluation.labelled.info.origin == tested
        shown.append(
            {
                "name": name,
                "tested": own,
                "evaluation": evaluation,
                "categories": evaluation.categories.frame().to_dict("records"),
                "mean_precision": float(evaluation.categories.frame()["average_precision"].mean()),
                "curves": _curves(
                    evaluation, policy if own else None, evidence if own else None, _MOST_CURVES // len(evaluations)
                ),
                "rejection": _rejection(evaluation, evidence.draft.rejection if own and evidence else None),
                "reliability": _reliability(evaluation),
                "pictures": _pictures(evaluation),
                "mistakes": _mistakes(evaluation, dataset, _MOST_PICTURES // len(evaluations)),
            }
        )
    return shown


def _curves(
    evaluation: Evaluation, policy: Policy | None, evidence: Evidence | None, most: int
) -> list[tuple[str, CategoryCurve, plots.Picture, Mapping[str, float]]]:
    """(category, curve, drawn, policy thresholds by action) for the categories with most images, in taxonomy order."""
    marks = plots.marks_of(policy) if policy else {}
    certified = plots.regions_of(evidence) if evidence else {}
    support = pd.Series(evaluation.categories.support)
    kept = support.sort_values(ascending=False, kind="stable").index[:most]
    names = [evaluation.categories.categories[column] for column in sorted(kept)]
    return [
        (name, curve, plots.curve_picture(curve, own, certified.get(name, ())), own)
        for name in names
        for curve, own in [(evaluation.curves[name], marks.get(name, {}))]
    ]


def _rejection(evaluation: Evaluation, rule: Rejection | None) -> dict[str, Any] | None:
    """How well unknown is told from known by the signal of the frozen rule, by the highest score if there is none."""
    measures = evaluation.rejection
    if measures is None:
        return None
    signal = _signal(measures, rule)
    alt = f"Share of unknown images accepted against the share of known images rejected by {signal}, by source"
    alone, *columns = _measure_columns(measures, signal)
    return {
        "signal": signal,
        "measured_on": measures.measured_on,
        "confidence": measures.confidence,
        "picture": plots.picture(lambda ax: measures.plot(ax, signal, rule), alt, 4.6, 3.3),
        "alone": alone["measures"],
        "columns": columns[: _MOST_SOURCES + 1],
        "hidden": max(0, len(columns) - _MOST_SOURCES - 1),
        "left_out": None if evaluation.left_out is None else _left_out_rows(evaluation.left_out, signal),
    }


def _signal(measures: RejectionMeasures, rule: Rejection | None) -> str:
    wanted = "top" if rule is None else UNKNOWN_LABEL if rule.signal == "none" and rule.unknown_label else rule.signal
    return wanted if wanted in measures.signals else "top"


def _measure_columns(measures: RejectionMeasures, signal: str) -> list[dict[str, Any]]:
    """Known images alone, every source together if there are several, then each source, the worst first."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for estimate in measures.estimates:
        if estimate.signal == signal:
            head = {"from": estimate.unknown_from, "source": estimate.source, "images": estimate.unknown}
            column = found.setdefault((estimate.unknown_from, estimate.source), {**head, "measures": {}})
            column["measures"][estimate.measure] = estimate
    alone, together, *each = found.values()
    each.sort(key=lambda column: column["measures"]["AUROC"].value)
    return [alone, *([together] if len(each) > 1 else []), *each]


def _left_out_rows(left_out: LeftOut, signal: str) -> dict[str, Any]:
    shown = signal if signal in left_out.signals else "top"
    frame = left_out.frame()
    rows = frame[frame["signal"] == shown].sort_values("auroc", kind="stable")
    return {"signal": shown, "rows": rows.to_dict("records")}


def _reliability(evaluation: Evaluation) -> plots.Picture:
    found = evaluation.calibration
    alt = (
        f"Reliability diagram of the raw scores over {found.overall.images} images: expected calibration error "
        f"{_decimal(found.overall.ece.value)}, by chance alone {_decimal(found.overall.null.ece.mean)}"
    )
    return plots.picture(found.plot, alt, 4.2, 3.8)


def _bounds_by_share(evidence: Evidence | None) -> list[dict[str, Any]]:
    """Of each promise at a prevalence: its share, where it was tested, and its bound at a third, once and thrice it."""
    if evidence is None:
        return []
    return [_share_row(evidence.draft, promise) for promise in evidence.promises if promise.method == "prevalence"]


def _share_row(draft: Draft, promise: Promise) -> dict[str, Any]:
    return {
        "promise": promise,
        "threshold": promise.certified if promise.certified is not None else _first_tested(promise),
        "bounds": bounds_by_share(draft, promise, _FACTORS),
    }


def _first_tested(promise: Promise) -> float | None:
    return promise.walk[0].threshold if promise.walk else None


def _pictures(evaluation: Evaluation) -> list[tuple[str, plots.Picture]]:
    """(caption, figure) of the confusion matrix, the score distributions and the slices."""
    found = []
    if evaluation.confusion is not None:
        confusion = evaluation.confusion
        size = (max(_WIDE, 1.2 + 0.4 * len(confusion.told)), 1.8 + 0.3 * len(confusion.shown))
        alt = "Heat map of shown against told categories; the same counts are in the table that follows"
        found.append(("Confusion", plots.picture(confusion.plot, alt, *size)))
    scores = evaluation.scores
    alt = f"Histogram of the highest score, known images against {scores.unknown_word}"
    found.append(("Scores", plots.picture(scores.plot, alt, _WIDE, 2.9)))
    for column, part in evaluation.slices.items():
        alt = f"Accuracy by {column}, with intervals, beside the majority baseline"
        found.append((f"By {column}", plots.picture(part.plot, alt, _WIDE, 1.5 + 0.3 * len(part.values))))
    return found


def _mistakes(evaluation: Evaluation, dataset: Dataset | None, most: int) -> dict[str, list[Mistake]]:
    each = max(1, min(4, most // len(evaluation.categories.categories)))
    found = find_mistakes(evaluation, dataset, each)
    return dict(list(found.items())[:most])


def _promise_charts(evidence: Evidence | None) -> list[plots.Picture]:
    if evidence is None or not evidence.promises:
        return []
    promises = evidence.promises
    height = plots.height_of(promises)
    alts = (
        "For each promise, the threshold asked for on tune and the one certified; the same figures are in the table",
        "For each promise, its goal, the share counted on certify and the promised bound; also in the table",
    )
    return [
        plots.picture(lambda ax: plots.plot_thresholds(promises, ax), alts[0], _WIDE, height),
        plots.picture(lambda ax: plots.plot_bounds(promises, ax), alts[1], _WIDE, height),
    ]


def _counts(dataset: Dataset) -> dict[str, Any]:
    """Labelled images by category and split, the unknown ones last."""
    frame = dataset.frame
    splits = [split for split in SPLITS if (frame["split"] == split).any()]
    shown = Counter(
        (name, split)
        for labels, split in zip(frame["labels"], frame["split"], strict=True)
        if labels is not None
        for name in labels or (dataset.taxonomy.unknown,)
    )
    names = (*dataset.taxonomy.categories, dataset.taxonomy.unknown)
    rows = [(name, [shown[name, split] for split in splits]) for name in names]
    return {
        "splits": splits,
        "rows": rows,
        "images": [int((frame["split"] == split).sum()) for split in splits],
        "unlabelled": int(frame["labels"].isna().sum()),
    }
