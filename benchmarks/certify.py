"""What certification costs beside sorting the same scores: precision and recall of 80 categories, 100,000 images each.

The peer is `numpy.sort` of each category's scores, on one core, in the same run. Both ways of `certify_precision` are
timed: along a grid, as a draft has one, and without, where it looks for its own place to test.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from workbench.evaluation.certify import DEFAULT_GRID, Certificate, certify_precision, certify_recall

CATEGORIES, IMAGES, REPEATS = 80, 100_000, 7
MOST = 5.0
"""Times the sort."""


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores of one category and its labels: most low, some high, calibrated up to a factor."""
    scores = rng.beta(0.3, 4, IMAGES).astype(np.float32)
    return scores, rng.random(IMAGES) < np.minimum(1, scores * rng.uniform(0.8, 1.3))


def main() -> None:
    rng = np.random.default_rng(1)
    tables = [draw(rng) for _ in range(CATEGORIES)]
    works: dict[str, Callable[[], object]] = {
        "sort": lambda: [np.sort(scores) for scores, _ in tables],
        "precision, no grid": lambda: [certify_precision(*table, 0.9, 0.95) for table in tables],
        "precision, a grid": lambda: [certify_precision(*table, 0.9, 0.95, grid=DEFAULT_GRID) for table in tables],
        "recall": lambda: [certify_recall(*table, 0.9, 0.95) for table in tables],
    }
    seconds = dict.fromkeys(works, float("inf"))
    for _ in range(REPEATS):
        for name, work in works.items():
            start = time.process_time()
            work()
            seconds[name] = min(seconds[name], time.process_time() - start)
    certified = sum(isinstance(certify_precision(*table, 0.9, 0.95), Certificate) for table in tables)
    print(f"{CATEGORIES} categories × {IMAGES:,} images, {certified} certified; load {os.getloadavg()[0]:.1f}")
    for name, spent in seconds.items():
        each = 1000 * spent / CATEGORIES
        print(f"{name:<20} {each:7.2f} ms per category {spent / seconds['sort']:6.2f} × sort")
    for name in ("precision, no grid", "precision, a grid"):
        ratio = (seconds[name] + seconds["recall"]) / seconds["sort"]
        holds = "holds" if ratio <= MOST else "FAILS"
        print(f"{name} and recall: {ratio:.2f} × sort (at most {MOST:g}: {holds})")


if __name__ == "__main__":
    main()
