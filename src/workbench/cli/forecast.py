"""`forecast`: what a policy will mean for the images that arrive and for the people who review them."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli.console import JsonOption, RunArgument, finite, show, show_json, show_table
from workbench.cli.release import PolicyArgument

_MOST = 1e12


def forecast_policy(
    policy: PolicyArgument,
    run: RunArgument,
    per_day: Annotated[
        float | None,
        typer.Option(
            "--per-day", min=0, max=_MOST, callback=finite, help="Images that arrive each day; adds counts and hours."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", min=0, max=_MOST, callback=finite, help="A person's time for one image that goes to review."
        ),
    ] = None,
    confidence: Annotated[
        float, typer.Option("--confidence", min=0.5, max=0.9999, callback=finite, help="Of the intervals.")
    ] = 0.95,
    as_json: JsonOption = False,
) -> None:
    """Forecast the load of a policy from a run over arriving images; no labels are needed.

    The run's images are taken to be a random sample of what arrives. Wrong automatic actions are bounded by the
    policy's own certificates, which hold for images of the mix that was certified.

    Example: `workbench forecast policy.json arriving.parquet --per-day 20000 --seconds 8`
    """
    from workbench.evaluation.forecast import forecast_load
    from workbench.policy import read_policy
    from workbench.predictions import read_predictions

    forecast = forecast_load(read_policy(policy), read_predictions(run), per_day, seconds, confidence)
    actions, automatic = forecast.frame(), forecast.automatic_frame()
    if as_json:
        low, expected, high = forecast.hours
        show_json(
            {
                "measured_on": forecast.measured_on,
                "images": forecast.images,
                "per_day": per_day,
                "seconds": seconds,
                "confidence": confidence,
                "actions": actions.drop(columns="measured_on").to_dict("records"),
                "hours_per_day": {"low": low, "expected": expected, "high": high},
                "automatic": automatic.to_dict("records"),
                "wrong_per_day_at_most": forecast.wrong_per_day,
            }
        )
        return
    show(f"measured on {forecast.measured_on}, with {confidence:.0%} intervals")
    show_table(
        [
            {
                "action": row["action"],
                "by": "a person" if row["kind"] == "human" else "automatic",
                "images": row["images"],
                "share": f"{row['share']:.2%}",
                "interval": f"{row['share_low']:.2%} to {row['share_high']:.2%}",
                **({} if per_day is None else {"each day": f"{row['per_day']:,.0f}"}),
            }
            for row in actions.to_dict("records")
        ]
    )
    if per_day is not None and seconds is not None:
        low, expected, high = forecast.hours
        show(f"people: {expected:,.1f} hours each day ({low:,.1f} to {high:,.1f})")
    for row in automatic.to_dict("records"):
        wrong = "" if per_day is None else f", at most {row['wrong_per_day_high']:,.1f} wrong ones expected each day"
        show(
            f"{row['category']} {row['action']}: {row['share']:.2%} of images, "
            f"precision at least {row['precision_at_least']:.3f}{wrong}"
        )
