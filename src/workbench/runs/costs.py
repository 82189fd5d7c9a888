"""What the answers about each image cost, whenever they were paid for."""

from __future__ import annotations

import numpy as np

from workbench.approaches.base import Approach
from workbench.dataset.images import Dataset
from workbench.predictions import PredictionTable
from workbench.prepare.decode import Unprepared
from workbench.runs.cache import AnswerCache
from workbench.runs.pipeline import Pipeline


def answer_costs(dataset: Dataset, approach: Approach, cache: AnswerCache, table: PredictionTable) -> np.ndarray:
    """(n,) float64: USD of all answers about each image of the data set; `table` is the run that has just been made.

    A kept answer tells what it cost then. Where none is kept, none could be used, and what the run spent on it counts.
    An image that was not asked about costs nothing. Raises RunError as `classify` does.
    """
    pipeline = Pipeline(approach, cache)
    spent = table.frame["cost_usd"].to_numpy(dtype=np.float64)
    costs = np.zeros(len(dataset))
    for row, path in enumerate(dataset.frame["path"]):
        look = pipeline.look(dataset.file(path))
        if isinstance(look.found, Unprepared):
            continue
        found = pipeline.answers.find(look.found)
        costs[row] = spent[row] if found.missing else sum(kept.cost_usd for kept in found.kept.values())
    return costs
