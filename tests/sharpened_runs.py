"""Runs whose right probabilities are known, and whose scores are those, sharpened."""

from __future__ import annotations

import numpy as np

from labelled_runs import make_labelled
from workbench.evaluation.labelled import Labelled
from workbench.records import Mode, Taxonomy

NAMES = ("shoe", "boot", "bag")


def drawn(
    n: int = 900,
    *,
    mode: Mode = "single-label",
    sharp: float = 2.5,
    complete: bool = True,
    seed: int = 4,
    splits: str | list[str] = "tune",
) -> Labelled:
    """Labels drawn from known probabilities; the scores are those, sharpened: p^sharp, brought back to sum one."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.4, (n, 3))
    right = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shown = (random.random((n, 1)) > right.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    scores = right**sharp / (right**sharp).sum(axis=1, keepdims=True)
    taxonomy = Taxonomy(NAMES, mode)
    return make_labelled([(NAMES[k],) for k in shown], scores, taxonomy=taxonomy, complete=complete, splits=splits)
