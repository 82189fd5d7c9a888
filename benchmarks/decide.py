"""Decisions per second: the rule one image at a time, and the same rule over a table at once.

The peer is what people write first: a pandas lookup of each row's top category against a dictionary of thresholds. It
knows neither ties, nor missing scores, nor rejection, nor reasons.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from samples import T, make_policy, make_table
from workbench.decision import decide
from workbench.evaluation.simulate import simulate
from workbench.records import Rejection

CATEGORIES = tuple(f"category {number}" for number in range(10))
ONE_AT_A_TIME, AT_ONCE = 20_000, 1_000_000


def best_of(repeats: int, work: Callable[[], object]) -> float:
    """Seconds of the quickest run: the one that was least disturbed."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    tiers = [T("review", 0.3, "any", "recall"), T("accept", 0.7)]
    rejection = Rejection("top", 0.25, unknown_label=False)
    policy = make_policy(dict.fromkeys(CATEGORIES, tiers), categories=CATEGORIES, rejection=rejection)
    rng = np.random.default_rng(1)
    many = make_table(policy, rng.dirichlet([0.3] * len(CATEGORIES), AT_ONCE))
    few = make_table(policy, many.scores[:ONE_AT_A_TIME])
    predictions = list(few.predictions())
    thresholds = dict.fromkeys(CATEGORIES, np.float32(0.7))
    scores = few.frame[[f"score:{name}" for name in CATEGORIES]].set_axis(CATEGORIES, axis=1)

    def lookup() -> list[bool]:
        return [row.max() >= thresholds[row.idxmax()] for _, row in scores.iterrows()]

    single = best_of(3, lambda: [decide(prediction, policy) for prediction in predictions])
    peer = best_of(1, lookup)
    together = best_of(3, lambda: simulate(many, policy))
    equal = [decide(p, policy).action for p in predictions] == list(simulate(few, policy).action)
    print(f"{len(CATEGORIES)} categories, 2 tiers each, rejection by top score")
    print(f"one at a time   {ONE_AT_A_TIME / single:>12,.0f} decisions/s   {peer / single:5.1f} × pandas row lookup")
    print(f"pandas lookup   {ONE_AT_A_TIME / peer:>12,.0f} decisions/s")
    at_once = AT_ONCE / together
    print(f"a million rows  {at_once:>12,.0f} decisions/s   {at_once * single / ONE_AT_A_TIME:5.0f} × one at a time")
    print(f"equal on the first {ONE_AT_A_TIME:,} rows: {equal}")


if __name__ == "__main__":
    main()
