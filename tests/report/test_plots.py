from __future__ import annotations

import base64
from dataclasses import replace

from matplotlib.collections import PathCollection

from labelled_runs import make_labelled
from samples import T, make_policy
from workbench.evaluation import figures
from workbench.evaluation.summary import evaluate
from workbench.evaluation.tradeoff import CertifiedRegion
from workbench.report import plots

POLICY = make_policy({"shoe": [T("review", 0.25, "any", "recall"), T("accept", 0.75)], "_boot": [T("accept", None)]},
                     categories=("shoe", "_boot"))  # fmt: skip
LOWERED = tuple(
    replace(promise, asked=0.5) if promise.certified == 0.75 else promise for promise in POLICY.evidence.promises
)


def places(ax: object) -> list[list[list[float]]]:
    return [part.get_offsets().tolist() for part in ax.collections if isinstance(part, PathCollection)]  # type: ignore[attr-defined]


def test_asked_and_certified_thresholds_stand_in_the_row_of_their_promise() -> None:
    ax = plots.plot_thresholds(LOWERED)
    asked, certified = places(ax)
    assert [[0.25, 0], [0.5, 1]] == asked
    assert [[0.25, 0], [0.75, 1]] == certified
    assert ["shoe · review", "shoe · accept", "_boot · accept"] == [label.get_text() for label in ax.get_yticklabels()]
    assert ["✕ refused"] == [text.get_text() for text in ax.texts]


def test_goal_bound_and_count_stand_in_the_row_of_their_promise() -> None:
    ax = plots.plot_bounds(LOWERED)
    goals, bounds, counted = places(ax)
    assert [[0.9, 0], [0.9, 1], [0.9, 2]] == goals
    assert [[0.91, 0], [0.91, 1]] == bounds
    assert [[0.97, 0], [0.97, 1]] == counted
    left, right = ax.get_xlim()
    assert left < 0.9
    assert right > 1


def test_no_promises_draw_an_empty_chart() -> None:
    ax = figures.new_axes()
    assert ax is plots.plot_bounds((), plots.plot_thresholds((), ax))


def test_the_marks_are_the_tiers_that_can_fire() -> None:
    assert {"shoe": {"review": 0.25, "accept": 0.75}, "_boot": {}} == plots.marks_of(POLICY)


def test_the_floors_are_what_is_certified_of_precision() -> None:
    assert {"shoe": [CertifiedRegion(0.75, 0.9, 0.999)]} == plots.regions_of(POLICY.evidence)


def test_curves_are_drawn_with_the_thresholds_of_the_policy() -> None:
    labelled = make_labelled([("shoe",), ("_boot",), ("shoe",)], [[0.9, 0.1], [0.3, 0.6], [0.8, 0.2]],
                             taxonomy=POLICY.taxonomy)  # fmt: skip
    with_marks, without = plots.plot_curves(evaluate(labelled), POLICY)
    legend = with_marks.get_legend()
    assert legend is not None
    floor = "from 0.75 up at least 90 %,\ncertified at 99.9 %"
    assert ["review ≥ 0.25", "accept ≥ 0.75", floor] == [text.get_text() for text in legend.get_texts()]
    assert without.get_legend() is None
    assert plots.plot_curves(evaluate(labelled))[0].get_legend() is None


def test_a_picture_is_drawn_for_a_light_and_a_dark_page() -> None:
    drawn = plots.picture(lambda ax: plots.plot_thresholds(LOWERED, ax), "what it shows")
    light, dark = (
        base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,")) for uri in (drawn.light, drawn.dark)
    )
    assert "what it shows" == drawn.alt
    assert light != dark
    assert figures.to_dark(light) == dark


def test_a_curve_picture_tells_its_numbers_in_words() -> None:
    labelled = make_labelled([("shoe",), ("_boot",)], [[0.9, 0.1], [0.3, 0.6]], taxonomy=POLICY.taxonomy)
    drawn = plots.curve_picture(evaluate(labelled).curves["shoe"], {})
    assert "Precision against recall for shoe: average precision 1.000 over 1 images" == drawn.alt


def test_a_curve_picture_draws_the_certified_floor() -> None:
    labelled = make_labelled([("shoe",), ("_boot",)], [[0.9, 0.1], [0.3, 0.6]], taxonomy=POLICY.taxonomy)
    drawn = plots.curve_picture(evaluate(labelled).curves["shoe"], {}, plots.regions_of(POLICY.evidence)["shoe"])
    svg = base64.b64decode(drawn.light.removeprefix("data:image/svg+xml;base64,")).decode()
    assert "from 0.75 up at least 90 %," in svg
    assert "certified at 99.9 %" in svg
