"""What notebooks of browser tests open: drawn pictures with labels, and runs whose scores tell some of the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from labelled_runs import make_dataset, make_run
from samples import make_origin
from workbench.config.goals import CostGoal, Goals, Limit, PrevalenceGoal, RejectionGoal, TierGoal
from workbench.dataset.images import Dataset
from workbench.predictions import PredictionTable
from workbench.records import Taxonomy

HOSTILE = "<img src=x onerror=alert(1)>"
CATEGORIES = ("disc", "square", "cross", HOSTILE)
TAXONOMY = Taxonomy(CATEGORIES)
PLAIN = Taxonomy((*CATEGORIES[:3], "triangle"))
"""The same without a hostile name, for pictures that are kept."""


def goals_for(taxonomy: Taxonomy) -> Goals:
    """Two tiers, a rejection rule, what production sends and what mistakes cost."""
    shares = dict(zip((*taxonomy.categories, taxonomy.unknown), (0.2, 0.2, 0.1, 0.1, 0.4), strict=True))
    return Goals(
        below="pass",
        tiers=(
            TierGoal(action="review", metric="recall", at_least=0.9),
            TierGoal(action="accept", metric="precision", at_least=0.85),
        ),
        rejection=RejectionGoal(signal="top", known_rejected=Limit(at_most=0.3), unknown_accepted=Limit(at_most=0.5)),
        prevalence=PrevalenceGoal(shares=shares),
        costs=CostGoal(false_positive=5, false_negative=1, review=0.2),
    )


GOALS = goals_for(TAXONOMY)


def things(root: Path, n: int = 1500, *, sensitive: bool = False, taxonomy: Taxonomy = TAXONOMY) -> Dataset:
    """`n` labelled images below `root`, a fifth of them unknown, from two sources."""
    rng = np.random.default_rng(4)
    kind = rng.integers(0, 5, n)
    names = [f"{row:04}.png" for row in range(n)]
    root.mkdir(parents=True, exist_ok=True)
    for row, (place, seed) in enumerate(zip(kind, rng.integers(0, 9, n), strict=True)):
        if not (root / names[row]).exists():
            image = _draw(int(place), int(seed))
            image.putpixel((0, 0), (255, row // 256, row % 256))  # no two have the same bytes
            image.save(root / names[row])
    labels = [(taxonomy.categories[place],) if place < 4 else () for place in kind]
    sources = ["stars" if place == 4 and row % 2 else "" for row, place in enumerate(kind)]
    splits = ["certify" if row % 4 == 0 else "tune" for row in range(n)]
    made = make_dataset(labels, taxonomy, root=root, ids=names, splits=splits, columns={"source": sources})
    return Dataset(made.name, root, taxonomy, made.frame, made.problems, sensitive=sensitive)


def run_of(dataset: Dataset, strength: float = 2.0, seed: int = 5, approach: str = "test-approach") -> PredictionTable:
    """Scores that sum to one; the stronger, the better."""
    rng = np.random.default_rng(seed)
    truth = dataset.truth
    logits = rng.normal(size=truth.shape) + strength * truth
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    origin = replace(make_origin(dataset.taxonomy), approach=approach)
    return make_run(dataset, scores, complete=True, origin=origin)


def _draw(kind: int, seed: int) -> Image.Image:
    image = Image.new("RGB", (64, 64), "white")
    pen, low = ImageDraw.Draw(image), 8 + seed
    box, colour = (low, low, 56, 56), ("#205080", "#703020", "#306030")[seed % 3]
    if kind == 0:
        pen.ellipse(box, fill=colour)
    elif kind == 1:
        pen.rectangle(box, fill=colour)
    elif kind == 2:
        pen.line(box, fill=colour, width=7)
        pen.line((low, 56, 56, low), fill=colour, width=7)
    elif kind == 3:
        pen.polygon([(32, low), (56, 56), (low, 56)], fill=colour)
    else:
        pen.regular_polygon((32, 32, 24), 5, rotation=seed * 9, outline=colour, width=3)
    return image
