"""`init` and `dataset`: bring images and say what they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.console import (
    ConfigOption,
    DatasetArgument,
    JsonOption,
    interactive,
    note,
    show,
    show_json,
    show_table,
)
from workbench.errors import ConfigError, InputError

if TYPE_CHECKING:
    from workbench.dataset.images import Dataset

_SHOWN = 20

TEMPLATE = """\
# What this data set is, and what a policy made from it must promise. datasets/README.md explains every field.

[dataset]
path = "{path}"              # folder per category, or a manifest (.csv, .jsonl, .parquet, .manifest), from this file
# root = "images"            # folder that no image path may leave; by default the folder of the manifest
name = "{name}"
sensitive = false            # true: reports leave the pictures out

[taxonomy]
categories = [{categories}]
mode = "single-label"        # or "multi-label": an image may show several categories
unknown = "unknown"          # the word for "none of these"
outside = "{outside}"        # a label that is not listed above: "refuse" the row, or count it as "unknown"

# The approach's own labels that mean each category; local-cnn knows the 1,000 classes of ImageNet.
# [approaches.local-cnn.labels]
# shoe = ["running shoe", "loafer"]

[goals]
confidence = 0.95            # that every certified promise of the policy holds at once
below = "review"             # what happens where no tier fires: a human action, or the one of rank 0
# looks = 2                  # drafts that may be tested on the same certify images, each with half of the error budget;
                             # say it before the first one is tested: raising it afterwards does not help
# budget = "category"        # the confidence is about each category by itself; "policy": about all promises together
actions = [
    {{ name = "pass", rank = 0, kind = "automatic" }},    # rank 0 does nothing
    {{ name = "review", rank = 1, kind = "human" }},      # always declared: doubt goes there
    {{ name = "accept", rank = 2, kind = "automatic" }},
]

[[goals.tiers]]              # for every category that [goals.category] does not name
action = "accept"
metric = "precision"         # of the images this tier fires on, at least 90 % show the category
at_least = 0.90

# [[goals.category.shoe]]    # tiers of one category; they replace those above
# action = "review"
# metric = "recall"          # of the images that show the category, at least 90 % are flagged
# at_least = 0.90
# ask = "cost"               # the threshold is the cheapest one by [goals.costs]; at_least is promised all the same

# What arrives in production, as shares of all images: precision is promised for this mix, not for the labelled one.
# Name every category and unknown. Or give [goals.prevalence.counts]: images of each in a labelled random sample.
# [goals.prevalence.shares]
# shoe = 0.10
# sock = 0.70
# unknown = 0.20

# What mistakes cost, for tiers that say ask = "cost".
# [goals.costs]
# false_positive = 5.0       # an automatic action on an image that does not show the category
# false_negative = 1.0       # an image of the category on which nothing fires
# review = 0.2               # an image that a person looks at

[goals.rejection]
signal = "{signal}"              # "top", "margin", "entropy", or "none": nothing is rejected for its scores
{limits}known_rejected = {{ at_most = 0.20 }}    # of known images, how many may be sent away as unknown
{limits}unknown_accepted = {{ at_most = 0.20 }}  # of unknown images, how many may be told as a category
"""


def write_project(
    dataset: Annotated[str, typer.Argument(metavar="[DATASET]", help="Folder or manifest to describe.")] = ".",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="By default workbench.toml beside it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented `workbench.toml` to start from; categories are read from the data set if there is one.

    Example: `workbench init my-images`
    """
    from workbench.config.project import FILE

    folder = Path(dataset)
    file = out or (folder if folder.is_dir() else folder.parent) / FILE
    if file.exists() and not force:
        raise ConfigError(f"{file} is there already; --force replaces it")
    categories, labelled_unknown = _categories(folder)
    path = "." if folder.is_dir() and file.parent == folder else _relative(folder, file.parent)
    text = TEMPLATE.format(
        path=_toml(path),
        name=_toml((folder if folder.is_dir() else folder.with_suffix("")).resolve().name),
        categories=", ".join(f'"{_toml(name)}"' for name in categories) or '"cat", "dog"',
        outside="unknown" if labelled_unknown else "refuse",
        signal="top" if labelled_unknown else "none",
        limits="" if labelled_unknown else "# ",
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    found = f"{len(categories)} categories found" if categories else "no categories found; fill them in"
    show(f"{file}: written, {found}")


def describe_dataset(
    dataset: DatasetArgument,
    config: ConfigOption = None,
    problems: Annotated[Path | None, typer.Option("--problems", help="Write every problem to this CSV file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Load a data set and describe it: counts per category and split, formats, sizes, problems by row.

    Example: `workbench dataset fashion`
    """
    from workbench.dataset.opening import open_dataset
    from workbench.spreadsheets import as_csv

    found = open_dataset(dataset, config, progress=interactive()).dataset
    if problems is not None:
        rows = found.problems.itertuples(index=False)
        problems.write_bytes(as_csv([found.problems.columns, *rows], defused=True).encode())
    summary = _describe(found)
    if as_json:
        show_json(summary)
        return
    show(f"{found.name}: {len(found)} images, {found.taxonomy.mode}, digest {found.digest[:12]}")
    show_table(summary["counts"])
    show("")
    show_table(summary["files"])
    _show_problems(summary["problems"])


def _describe(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "digest": dataset.digest,
        "images": len(dataset),
        "mode": dataset.taxonomy.mode,
        "counts": dataset.counts().reset_index().to_dict("records"),
        "files": _files(dataset),
        "problems": dataset.problems.to_dict("records"),
    }


def _files(dataset: Dataset) -> list[dict[str, Any]]:
    import pandas as pd

    found = pd.DataFrame([_file(dataset.file(path)) for path in dataset.frame["path"]], columns=["format", "size"])
    counts = found.value_counts().rename("images").reset_index()
    rows = [{str(key): value for key, value in row.items()} for row in counts.head(_SHOWN).to_dict("records")]
    rest = int(counts["images"][_SHOWN:].sum())
    return rows + ([{"format": "others", "size": f"{len(counts) - _SHOWN} more", "images": rest}] if rest else [])


def _file(path: Path) -> tuple[str, str]:
    from workbench.prepare.decode import Unprepared, describe_bytes, read_image_file

    data = read_image_file(path)
    found = data if isinstance(data, Unprepared) else describe_bytes(data)
    if isinstance(found, Unprepared):
        return f"({found.outcome})", found.detail
    image_format, width, height = found
    return image_format, f"{width}×{height}"


def _show_problems(problems: list[dict[str, Any]]) -> None:
    if not problems:
        return
    show("")
    for problem in problems[:_SHOWN]:
        show(f"{'refused' if problem['refused'] else 'note'}  {problem['place']}: {problem['message']}")
    if len(problems) > _SHOWN:
        note(f"… and {len(problems) - _SHOWN} more; --problems FILE.csv writes them all")


def _categories(folder: Path) -> tuple[list[str], bool]:
    from workbench.dataset.sources import load_dataset

    try:
        dataset = load_dataset(folder)
    except InputError as error:
        note(f"The data set cannot be read yet: {error}")
        return [], False
    unknown = dataset.frame["labels"].map(lambda labels: labels == ()).any()
    return list(dataset.taxonomy.categories), bool(unknown)


def _relative(path: Path, start: Path) -> str:
    return Path(os.path.relpath(path, start)).as_posix()


def _toml(text: str) -> str:
    """The inside of a basic string of TOML."""
    return json.dumps(text, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f")
