"""`looks`: who looked at the certify images of a data set, and what is left."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from workbench.cli.console import ConfigOption, DatasetArgument, JsonOption, interactive, show, show_json, show_table

if TYPE_CHECKING:
    from workbench.release.ledger import Budget


def list_looks(dataset: DatasetArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the recorded looks at the *certify* images of a data set, refused attempts too, and what is left.

    Looking costs nothing; nothing is recorded.

    Example: `workbench looks fashion`
    """
    from workbench.dataset.opening import open_dataset
    from workbench.release.ledger import Ledger, read_budget

    found = open_dataset(dataset, config, progress=interactive()).dataset
    budget = read_budget(Ledger.of(found), found)
    if as_json:
        show_json(_document(budget))
        return
    show_table([{str(key): value for key, value in row.items()} for row in budget.frame().to_dict("records")])
    show(_told(budget))


def _told(budget: Budget) -> str:
    seen = budget.images - budget.fresh
    if not seen:
        return f"No look has counted any of the {budget.images} certify images of this data set."
    return (
        f"{seen} of {budget.images} certify images were counted, {budget.fresh} are fresh; left of the error budget of "
        f"all of them: {budget.left} (a draft whose goals planned `looks = m` takes 1/m)."
    )


def _document(budget: Budget) -> dict[str, object]:
    looks = [
        {**{name: value for name, value in asdict(look).items() if name != "contents"}, "images": len(look.contents)}
        for look in budget.looks
    ]
    return {
        "images": budget.images,
        "fresh": budget.fresh,
        "left": float(budget.left),
        "looks": [look for look in looks if look["number"]],
        "attempts": [look for look in looks if not look["number"]],
    }
