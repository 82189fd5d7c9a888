"""Precision, recall and counts at every threshold of 20 categories over a million images.

Peers, in the same run and taking turns: scikit-learn's `precision_recall_curve`, category by category, and the bare
`np.sort` of the same score matrix, column by column on one core, which is the least that any exact method does. Each
lets go of a category's rates; a further figure tells what keeping them all costs. Two kinds of scores: continuous ones,
nearly all distinct, the hard case; and steps of 0.05, as a language model gives them. Memory is the growth of the
resident set in a process of its own (from /proc, so on Linux only), against the input: the scores (float32) and the
truth (bool) together.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from workbench.evaluation.curves import precision_recall_curves

IMAGES, CATEGORIES = 1_000_000, 20
TURNS, TURNS_OF_SCIKIT_LEARN = 7, 2
FASTER, SORTS, INPUTS = 20, 2.5, 4


def make_data(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(scores, truth): the higher the score, the likelier the category."""
    rng = np.random.default_rng(1)
    scores = rng.random((IMAGES, CATEGORIES), dtype=np.float32)
    if kind == "steps of 0.05":
        np.divide(np.rint(scores * 20), 20, out=scores)
    return scores, rng.random(scores.shape, dtype=np.float32) < scores**3


def trace(scores: np.ndarray, truth: np.ndarray) -> None:
    for curve in precision_recall_curves(scores, truth):
        for rate in ("precision", "recall"):
            getattr(curve, rate)


def trace_and_keep(scores: np.ndarray, truth: np.ndarray) -> list[tuple[object, ...]]:
    return [(curve, curve.precision, curve.recall) for curve in precision_recall_curves(scores, truth)]


def trace_by_scikit_learn(scores: np.ndarray, truth: np.ndarray) -> None:
    from sklearn.metrics import precision_recall_curve

    for column in range(CATEGORIES):
        precision_recall_curve(truth[:, column], scores[:, column])


def sort_only(scores: np.ndarray, truth: np.ndarray) -> None:
    del truth
    for column in range(CATEGORIES):
        np.sort(scores[:, column])


def equal_to_scikit_learn(scores: np.ndarray, truth: np.ndarray) -> bool:
    from sklearn.metrics import precision_recall_curve

    def equal(column: int) -> bool:
        precision, recall, thresholds = precision_recall_curve(truth[:, column], scores[:, column])
        curve = curves[column]
        pairs = (precision[:-1], curve.precision), (recall[:-1], curve.recall), (thresholds, curve.thresholds)
        return all(np.array_equal(expected, actual) for expected, actual in pairs)

    curves = precision_recall_curves(scores, truth)
    return all(map(equal, range(CATEGORIES)))


class Seconds(NamedTuple):
    passed: float
    busy: float
    """On all cores together: what other load on the machine changes least."""


def take_turns(works: dict[Callable[..., object], int], data: tuple[np.ndarray, np.ndarray]) -> list[Seconds]:
    """Each one's quickest turn: the one that was least disturbed. The values say how many turns it gets."""
    best = dict.fromkeys(works, Seconds(float("inf"), float("inf")))
    for turn in range(max(works.values())):
        for work in [work for work, turns in works.items() if turn < turns]:
            start = Seconds(time.perf_counter(), time.process_time())
            work(*data)
            best[work] = min(best[work], Seconds(time.perf_counter() - start.passed, time.process_time() - start.busy))
    return list(best.values())


def peak_growth(work: Callable[..., object], folder: Path) -> float:
    """The resident set's growth while `work` runs, as a multiple of its input."""
    command = [sys.executable, __file__, work.__name__, str(folder)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_growth(name: str, folder: Path) -> float:
    work = {"trace": trace, "trace_and_keep": trace_and_keep}[name]
    work(np.zeros((2, CATEGORIES), np.float32), np.ones((2, CATEGORIES), bool))
    data = np.load(folder / "scores.npy"), np.load(folder / "truth.npy")
    before = resident("VmRSS")
    work(*data)
    return (resident("VmHWM") - before) / sum(array.nbytes for array in data)


def resident(field: str) -> int:
    """Bytes: VmRSS is resident now, VmHWM is the most that ever was."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def tell(what: str, ratio: float, holds: bool, bound: str) -> None:
    print(f"  {what:<58} {ratio:6.2f} ×   {bound}: {'holds' if holds else 'DOES NOT HOLD'}")


def main() -> None:
    print(f"{IMAGES:,} images, {CATEGORIES} categories; rates, counts and thresholds at every distinct score")
    print(f"{os.cpu_count()} cores, {os.getloadavg()[0]:.1f} busy in the minute before")
    for kind in ("continuous", "steps of 0.05"):
        data = scores, truth = make_data(kind)
        turns = {sort_only: TURNS, trace: TURNS, trace_and_keep: TURNS, trace_by_scikit_learn: TURNS_OF_SCIKIT_LEARN}
        bare, ours, kept, peer = take_turns(turns, data)
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder, "scores.npy"), scores)
            np.save(Path(folder, "truth.npy"), truth)
            growth, growth_kept = (peak_growth(work, Path(folder)) for work in (trace, trace_and_keep))
        size = (scores.nbytes + truth.nbytes) / 1e6
        print(f"{kind}: {len(np.unique(scores[:, 0])):,} distinct scores in the first category, input {size:.0f} MB")
        timed = {"curves": ours, "all rates kept": kept, "bare sort": bare, "scikit-learn": peer}
        print("  seconds (of processors): " + ", ".join(f"{k} {v.passed:.3f} ({v.busy:.3f})" for k, v in timed.items()))
        faster, sorts = peer.passed / ours.passed, ours.passed / bare.passed
        tell("faster than scikit-learn", faster, faster >= FASTER, f"at least {FASTER}")
        tell("the bare sort on one core", sorts, sorts <= SORTS, f"at most {SORTS}")
        tell("the input in memory, rates of one category at a time", growth, growth <= INPUTS, f"at most {INPUTS}")
        print(f"  {'the input in memory, all rates kept':<58} {growth_kept:6.2f} ×")
        print(f"  equal to scikit-learn at every threshold: {equal_to_scikit_learn(*data)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure_growth(sys.argv[1], Path(sys.argv[2])))
    else:
        main()
