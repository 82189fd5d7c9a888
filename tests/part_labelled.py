"""Runs of which only a part of the certify images is labelled, released, and what labelling next would take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.config.goals import Goals, Limit, RejectionGoal, TierGoal
from workbench.dataset.images import Dataset
from workbench.predictions import PredictionTable
from workbench.release.gate import Release, release_draft
from workbench.release.labelling import LabelPlan, plan_labels
from workbench.release.ledger import Ledger
from worlds import FLAG, make_draft, make_run, make_world

STRICT = TierGoal(action="accept", metric="precision", at_least=0.98)
GOALS = Goals(
    below="pass",
    tiers=(STRICT,),
    category={"shoe": (STRICT, FLAG)},
    rejection=RejectionGoal(signal="top", unknown_accepted=Limit(at_most=0.1), known_rejected=Limit(at_most=0.2)),
)

ONE_PRECISION = Goals(
    below="pass",
    tiers=(TierGoal(action="accept", metric="precision", at_least=0.95),),
    rejection=RejectionGoal(signal="none"),
)


def make_part(
    folder: Path, labelled: float = 0.15, n: int = 2400, skill: float = 4.0, seed: int = 1, group_size: int = 1
) -> tuple[Dataset, PredictionTable]:
    """A world in which only this part of the certify images is labelled, at random."""
    folder.mkdir(exist_ok=True)
    groups = [f"group {row // group_size}" for row in range(n)] if group_size > 1 else None
    dataset, table = make_world(folder, n, seed, skill, groups)
    blank = (dataset.frame["split"] == "certify").to_numpy() & (np.random.default_rng(seed).random(n) >= labelled)
    labels = pd.Series(
        [None if b else own for b, own in zip(blank, dataset.frame["labels"], strict=True)], dtype=object
    )
    dataset = replace(dataset, frame=dataset.frame.assign(labels=labels))
    return dataset, make_run(dataset, table.scores)


def released(dataset: Dataset, table: PredictionTable, goals: Goals = GOALS) -> tuple[Release, Ledger]:
    ledger = Ledger.in_memory()
    return release_draft(make_draft(dataset, table, goals), table, dataset, ledger=ledger), ledger


def planned(dataset: Dataset, table: PredictionTable, goals: Goals = GOALS, **options: object) -> LabelPlan:
    release, ledger = released(dataset, table, goals)
    assert release.evidence is not None, release.refusals
    return plan_labels(release, table, dataset, ledger=ledger, **options)  # type: ignore[arg-type]
