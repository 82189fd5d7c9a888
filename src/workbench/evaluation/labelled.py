"""A run joined with the labels of its images: what every evaluation starts from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from workbench.dataset.images import COLUMNS, Dataset, truth_matrix
from workbench.errors import RunError
from workbench.predictions import PredictionTable, RunInfo
from workbench.records import CENSORED, OK, Taxonomy

_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled images and what one approach answered about them, row by row in the data set's order."""

    taxonomy: Taxonomy
    info: RunInfo
    """What the run was."""
    frame: pd.DataFrame
    """`image_id, outcome, split, group, weight, source, labels`, then the data set's further columns."""
    scores: np.ndarray
    """(n, K) float32, the known categories in taxonomy order; −inf is CENSORED, NaN is MISSING."""
    unknown_scores: np.ndarray | None
    """(n,) float32, or None where the approach does not score "none of these"."""
    truth: np.ndarray
    """(n, K) bool: the categories that each image shows."""
    answered: np.ndarray
    """(n,) bool: the outcome is `ok`."""
    unknown: np.ndarray
    """(n,) bool: labelled, and shows no known category."""

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the rows come from, sorted."""
        return tuple(sorted(self.frame["split"].unique()))

    def on(self, *splits: str) -> Labelled:
        """The images of these splits alone."""
        return self.rows(self.frame["split"].isin(splits).to_numpy(dtype=bool))

    def rows(self, kept: np.ndarray) -> Labelled:
        """The rows where `kept`, an (n,) bool array, is true."""
        return replace(
            self,
            frame=self.frame[kept].reset_index(drop=True),
            scores=self.scores[kept],
            unknown_scores=None if self.unknown_scores is None else self.unknown_scores[kept],
            truth=self.truth[kept],
            answered=self.answered[kept],
            unknown=self.unknown[kept],
        )

    @property
    def weights(self) -> np.ndarray | None:
        """(n,) float64: how many images of production each row stands for; None if they are all alike."""
        weights = self.frame["weight"].to_numpy(dtype=np.float64)
        return weights if len(weights) and (weights != weights[0]).any() else None

    @property
    def usable(self) -> np.ndarray:
        """(n,) bool: the outcome is `ok` and no score is MISSING."""
        usable = self.answered & ~np.isnan(self.scores).any(axis=1)
        return usable if self.unknown_scores is None else np.asarray(usable & ~np.isnan(self.unknown_scores))

    def top(self) -> np.ndarray:
        """(n,) int: the column of the single highest known score.

        −1 for an exact tie, where all are CENSORED, where any is MISSING, and where the outcome is not `ok`.
        """
        scores = self.usable_scores()
        highest = scores.max(axis=1, initial=CENSORED)
        single = (scores == highest[:, None]).sum(axis=1) == 1
        return np.where(single & (highest > CENSORED), scores.argmax(axis=1), -1)

    def usable_scores(self) -> np.ndarray:
        """(n, K) float32: the scores that may act; a row that is not `ok` or has a MISSING score is all CENSORED."""
        return np.where(self.usable[:, None], self.scores, np.float32(CENSORED))


def join(table: PredictionTable, dataset: Dataset) -> Labelled:
    """The labelled images of `dataset` with the answers of `table`; images without a label are left out.

    Raises RunError, with every difference, unless the run is of exactly this data set: same taxonomy, same images by
    id, same contents, labels and splits.
    """
    _refuse_differences(table, dataset)
    place = pd.Index(table.frame["image_id"]).get_indexer(dataset.frame["image_id"])
    labelled = np.array([shown is not None for shown in dataset.frame["labels"]], dtype=bool)
    images, place = dataset.frame[labelled].reset_index(drop=True), place[labelled]
    outcome = table.frame["outcome"].to_numpy(dtype=object)[place]
    truth = truth_matrix(images["labels"], dataset.taxonomy.categories)
    return Labelled(
        taxonomy=dataset.taxonomy,
        info=table.info,
        frame=_frame(images, outcome),
        scores=table.scores[place],
        unknown_scores=None if table.unknown_scores is None else table.unknown_scores[place],
        truth=truth,
        answered=outcome == OK,
        unknown=np.asarray(~truth.any(axis=1)),
    )


def _frame(images: pd.DataFrame, outcome: np.ndarray) -> pd.DataFrame:
    # A data set may bring a column of its own called "outcome"; the run's keeps the name.
    further = images.drop(columns=list(COLUMNS)).rename(columns={"outcome": "outcome (data set)"})
    own = images[["split", "group", "weight", "source", "labels"]]
    return pd.concat([images[["image_id"]].assign(outcome=outcome), own, further], axis=1)


def _refuse_differences(table: PredictionTable, dataset: Dataset) -> None:
    differences = [*_taxonomy_difference(table.info.taxonomy, dataset.taxonomy), *_image_differences(table, dataset)]
    if not differences and table.info.dataset != dataset.digest:
        differences = [_content_difference(table.info.dataset, dataset.digest)]
    if differences:
        raise RunError(
            f"this run of {table.info.origin.approach!r} does not belong to data set {dataset.name!r}: "
            + "; ".join(differences)
            + ". Classify the data set again: answers that still hold are taken from the cache."
        )


def _content_difference(then: str, now: str) -> str:
    return (
        "the images have the same ids, but their contents, labels, splits, groups, weights or sources are not those of "
        f"the run any more (data set {then[:12]}… then, {now[:12]}… now)"
    )


def _taxonomy_difference(run: Taxonomy, dataset: Taxonomy) -> list[str]:
    if run.digest == dataset.digest:
        return []
    there, here = set(run.categories), set(dataset.categories)
    found = [
        *_listed("categories only in the run", sorted(there - here)),
        *_listed("categories only in the data set", sorted(here - there)),
    ]
    if there == here and run.categories != dataset.categories:
        found.append("the categories stand in another order")
    if run.mode != dataset.mode:
        found.append(f"the run is {run.mode}, the data set {dataset.mode}")
    if run.unknown != dataset.unknown:
        found.append(f"the run calls unknown {run.unknown!r}, the data set {dataset.unknown!r}")
    return found


def _image_differences(table: PredictionTable, dataset: Dataset) -> list[str]:
    run, images = pd.Index(table.frame["image_id"]), pd.Index(dataset.frame["image_id"])
    return [
        *_listed("images only in the data set", images.difference(run)),
        *_listed("images only in the run", run.difference(images)),
    ]


def _listed(what: str, names: Iterable[str]) -> list[str]:
    found = list(names)
    if not found:
        return []
    shown = ", ".join(repr(name) for name in found[:_SHOWN])
    return [f"{what}: {shown}" + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")]
