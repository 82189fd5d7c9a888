"""What certified precision is worth where labels themselves are wrong, from blinded second labels.

A first label may call right what is wrong and the other way round, and the counts behind a promise inherit that. Some
of the counted images therefore get a second label by somebody who does not know the first one. The second labels are
taken for the truth: they are worth the care that goes into them.

Looking again at errors only would be easy and wrong. It can turn errors into successes and never the reverse, so it
raises precision whatever the labels are. So a random sample of the agreements goes along, at least as large.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from workbench.dataset.labels import read_labels
from workbench.dataset.tables import read_table
from workbench.errors import InputError
from workbench.evaluation import figures
from workbench.evaluation.intervals import Bound, clopper_pearson, lower_bound, upper_bound
from workbench.evaluation.results import Result
from workbench.records import Taxonomy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("item", "image", "label")
"""Of a file of second labels: an opaque name, a copy of the picture under that name, and what the annotator writes."""

Verdict = Literal["holds", "fails", "inconclusive"]

_LEAST_AGREEMENTS = 20
_SHOWN = 20
_WIDTH = 60


@dataclass(frozen=True, eq=False)
class Question:
    """A certified precision promise, and whose labels are looked at again for it."""

    category: str
    action: str
    at_least: float
    delta: float
    """The error probability of the promise alone."""
    trials: int
    """Certify images on which the tier fires."""
    successes: int
    """Of those, images that show the category by their first label."""
    agreements: np.ndarray
    """Rows of the successes that were drawn at random."""
    errors: np.ndarray
    """Rows of the others that were chosen, the scores nearest above the threshold first."""


@dataclass(frozen=True)
class Answer(Result):
    """What the second labels make of one promise."""

    category: str
    action: str
    at_least: float
    confidence: float
    trials: int
    successes: int
    observed_bound: float
    """Lower bound on precision if every first label is right, at the promise's confidence."""
    agreements: int
    """Drawn for a second label; one that has none counts as overturned."""
    overturned: int
    """Of those, second labels without the category."""
    errors: int
    """Chosen for a second label; one that has none counts as an error still."""
    restored: int
    """Of those, second labels with the category."""
    missing: int
    """Agreements and errors that came back without a second label."""
    bound: float
    """Lower bound on true precision, at the promise's confidence."""
    verdict: Verdict
    reason: str
    """Empty where the promise holds."""

    def frame(self) -> pd.DataFrame:
        """One row."""
        row = {
            "category": self.category,
            "action": self.action,
            "goal": self.at_least,
            "confidence": self.confidence,
            "counted": self.trials,
            "right": self.successes,
            "observed_bound": self.observed_bound,
            "agreements": self.agreements,
            "overturned": self.overturned,
            "errors": self.errors,
            "restored": self.restored,
            "missing": self.missing,
            "adjusted_bound": self.bound,
            "verdict": self.verdict,
            "reason": self.reason,
        }
        return pd.DataFrame([row])


@dataclass(frozen=True)
class Agreement(Result):
    """How far two annotators agree on the images that both labelled."""

    images: int
    agreed: int
    kappa: float
    """Cohen's: 1 is full agreement, 0 what chance gives; NaN where both always say the same one thing."""
    kappa_low: float
    """Of its asymptotic interval (Fleiss, Cohen and Everitt 1969); NaN where it has no width, as at full agreement."""
    kappa_high: float
    confidence: float

    @property
    def interval(self) -> tuple[float, float]:
        """Exact interval on the share of images on which they agree."""
        low, high = clopper_pearson(self.agreed, self.images, self.confidence)
        return float(low), float(high)

    def frame(self) -> pd.DataFrame:
        """One row."""
        low, high = self.interval
        row = {
            "images": self.images,
            "agreed": self.agreed,
            "agreement": self.agreed / self.images if self.images else math.nan,
            "agreement_low": low,
            "agreement_high": high,
            "kappa": self.kappa,
            "kappa_low": self.kappa_low,
            "kappa_high": self.kappa_high,
        }
        return pd.DataFrame([row])


@dataclass(frozen=True, eq=False)
class LabelNoise(Result):
    """Every precision promise of a policy under second labels."""

    answers: tuple[Answer, ...]
    agreement: Agreement
    """On the images that were sent, in which errors are far more frequent than among all."""

    @property
    def verdict(self) -> Verdict:
        """`fails` if any promise does, else `inconclusive` if any is."""
        verdicts = {answer.verdict for answer in self.answers}
        return "fails" if "fails" in verdicts else "inconclusive" if "inconclusive" in verdicts else "holds"

    def frame(self) -> pd.DataFrame:
        """One row per promise."""
        return pd.concat([answer.frame() for answer in self.answers], ignore_index=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """For each promise its goal, the bound if first labels are right, and the bound under second labels."""
        rows = len(self.answers)
        ax = ax or figures.new_axes(height=1.5 + 0.3 * rows)
        theme, place, frame = figures.theme_of(ax), np.arange(rows), self.frame()
        ax.hlines(place, frame["adjusted_bound"], frame["observed_bound"], color=theme.line, linewidth=1.4)
        drawn = [
            ax.scatter(frame["observed_bound"], place, s=26, color=theme.first, facecolor=theme.ground, zorder=3),
            ax.scatter(frame["adjusted_bound"], place, s=26, color=theme.first, zorder=3),
            ax.scatter(frame["goal"], place, marker="|", s=90, color=theme.second, zorder=3),
        ]
        names = [f"{category}: {action}" for category, action in zip(frame["category"], frame["action"], strict=True)]
        ax.set_yticks(place, [figures.printable(name, 32) for name in names])
        ax.set(ylim=(rows - 0.4, -0.6), xlabel="lower bound on precision")
        note = f"certify, {self.agreement.images} second labels"
        figures.dress(ax, "Precision promises under second labels", note, grid="x")
        words = ["if first labels are right", "under second labels", "goal"]
        figures.add_legend(ax, drawn, words, **figures.BELOW)
        return ax


def observed_precision(true: float, missed: float, spurious: float) -> float:
    """The precision that noisy labels show: P(1 − η) + (1 − P)ν.

    `missed` η: share of the true positives that the label denies; `spurious` ν: share of the others that it calls
    positive. All in [0, 1], else ValueError.
    """
    for name, value in (("true", true), ("missed", missed), ("spurious", spurious)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie between 0 and 1: {value}")
    return true * (1 - missed) + (1 - true) * spurious


def true_precision(observed: float, missed: float, spurious: float) -> float:
    """The precision that shows as `observed`: the inverse of `observed_precision`.

    Raises ValueError where labels say less than nothing (η + ν ≥ 1) and where no precision in [0, 1] shows so.
    """
    if missed + spurious >= 1:
        raise ValueError(f"labels with {missed} missed and {spurious} spurious tell nothing about precision")
    low, high = observed_precision(0, missed, spurious), observed_precision(1, missed, spurious)
    if not low <= observed <= high:
        raise ValueError(f"such labels show a precision between {low:.4g} and {high:.4g}, not {observed:.4g}")
    return min(1.0, max(0.0, (observed - spurious) / (1 - missed - spurious)))


def noise_adjusted_bound(
    successes: ArrayLike,
    trials: ArrayLike,
    agreements: ArrayLike,
    overturned: ArrayLike,
    restored: ArrayLike,
    delta: float,
) -> Bound:
    """Lower bound on true precision that fails with probability at most `delta`, from counts that broadcast.

    `successes` of `trials` images show the category by their first label. Of `agreements` successes, drawn at random,
    the second label overturned `overturned`; of the other images it gave the category to `restored`, however those that
    were looked at again were chosen.

    With o the observed precision, ρ₊ the share of successes that are none and ρ₋ the share of errors that are none,
    true precision is P = o(1 − ρ₊) + (1 − o)ρ₋. Three exact bounds, each wrong with probability at most delta / 3, hold
    together with probability 1 − delta at least, dependent or not: o ≥ o′ from (successes, trials), ρ₊ ≤ ρ₊′ from
    (overturned, agreements), and ρ₋ ≥ ρ₋′ from (restored, all errors). The last holds although only some errors were
    looked at: an error that was not counts as not restored, which can only lower a count whose bound rises with it.

    P falls with ρ₊ and rises with ρ₋ at every o, so P ≥ f(o) = o(1 − ρ₊′) + (1 − o)ρ₋′. That is linear in o, and o lies
    in [o′, 1], so f(o) ≥ min(f(o′), f(1)), which is what is returned; f(1) is the smaller only where labels are wrong
    more often than right. The bound never falls with a success or a restored error more, nor rises with an overturned
    agreement more.

    The threshold has to be given. That of a promise was chosen by first labels on these images; how much that flatters
    its count is bounded by its own test, not here. Raises ValueError for impossible counts.
    """
    x, k, m, back = (np.asarray(count) for count in (successes, trials, agreements, restored))
    if (m > x).any() or (back > k - x).any():
        raise ValueError(f"of {x} successes {m} cannot be looked at again, or of {k - x} errors {back} be restored")
    observed = lower_bound(x, k, delta / 3)
    wrong = upper_bound(overturned, m, delta / 3)
    regained = lower_bound(back, k - x, delta / 3)
    return np.minimum(observed * (1 - wrong) + (1 - observed) * regained, 1 - wrong)[()]


def agreements_needed(successes: int, trials: int, at_least: float, delta: float, restored: int = 0) -> int | None:
    """The fewest agreements that, none being overturned, leave the bound at `at_least`; None if all of them do not."""

    def suffice(agreements: int) -> bool:
        return bool(noise_adjusted_bound(successes, trials, agreements, 0, restored, delta) >= at_least)

    if not suffice(successes):
        return None
    fewest, most = 0, successes
    while fewest < most:
        middle = (fewest + most) // 2
        fewest, most = (fewest, middle) if suffice(middle) else (middle + 1, most)
    return most


def choose_rows(
    reach: np.ndarray,
    truth: np.ndarray,
    threshold: float,
    at_least: float,
    delta: float,
    contents: Sequence[str],
    each: int | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """(agreements, errors): rows to be labelled again, of those on which the tier fires (`reach >= threshold`).

    `reach` (n,) float32, `truth` (n,) bool, `contents` (n,) digests of the pictures. With `each` = N: the N errors
    whose scores are nearest above the threshold and N agreements; by default all errors, and as many agreements as can
    bear the goal if none of them is overturned, but as many as errors and 20 at least. Agreements are drawn from all of
    them by a seeded hash of the picture, so that they stand for all of them.
    """
    # "second": the image that counts of each group was drawn by a hash too, which must not be this one.
    fires = reach >= np.float32(threshold)
    right, wrong = np.flatnonzero(fires & truth).tolist(), np.flatnonzero(fires & ~truth).tolist()
    draw = {row: hashlib.sha256(f"second:{seed}:{contents[row]}".encode()).digest() for row in (*right, *wrong)}
    wanted = each
    if wanted is None:
        needed = agreements_needed(len(right), len(right) + len(wrong), at_least, delta)
        wanted = max(_LEAST_AGREEMENTS, len(wrong), needed or 0)
    nearest = sorted(wrong, key=lambda row: (float(reach[row]), draw[row]))[:each]
    drawn = sorted(right, key=draw.__getitem__)[:wanted]
    return np.array(drawn, dtype=np.int64), np.array(nearest, dtype=np.int64)


def name_items(rows: Collection[int], contents: Sequence[str], *about: object) -> dict[str, int]:
    """Opaque name → row, in the order of the names, which tells nothing: they are hashes of the pictures.

    `about` (seed, policy, …) goes into the hash: an item of another draw has another name.
    """
    named = {
        hashlib.sha256(":".join(map(str, (*about, contents[row]))).encode()).hexdigest()[:12]: int(row) for row in rows
    }
    return dict(sorted(named.items()))


def _corrected(question: Question, overturned: int, restored: int) -> float:
    """The share of right ones, as the second labels would have it; no bound."""
    right = question.successes / max(question.trials, 1)
    upheld = 1 - overturned / max(len(question.agreements), 1)
    return right * upheld + (1 - right) * restored / max(len(question.errors), 1)


def answer_question(question: Question, shows: Mapping[int, bool]) -> Answer:
    """The promise in the light of second labels; `shows`: row → the second label has the category.

    An agreement without a second label counts as overturned, an error without one as an error. The verdict is `holds`
    if the bound still reaches the goal; `fails` if the share of right ones, corrected by what was overturned and
    restored, lies below the goal itself; else `inconclusive`: labels are missing, or too few were asked for.
    """
    again = [shows[row] for row in question.agreements.tolist() if row in shows]
    others = [shows[row] for row in question.errors.tolist() if row in shows]
    overturned, restored = again.count(False), others.count(True)
    left, open_errors = len(question.agreements) - len(again), len(question.errors) - len(others)
    x, k, m, delta = question.successes, question.trials, len(question.agreements), question.delta
    bound = float(noise_adjusted_bound(x, k, m, overturned + left, restored, delta))
    best = float(noise_adjusted_bound(x, k, m, overturned, restored + open_errors, delta))
    clean = float(noise_adjusted_bound(x, k, m, 0, restored + open_errors, delta))
    verdict: Verdict = "fails"
    reason = f"{overturned} of {m} agreements were overturned"
    if bound >= question.at_least:
        verdict, reason = "holds", ""
    elif best >= question.at_least:
        verdict, reason = "inconclusive", f"{left + open_errors} second labels are missing"
    elif clean < question.at_least:
        verdict, reason = "inconclusive", _shortage(question, restored)
    elif _corrected(question, overturned, restored) >= question.at_least:
        verdict, reason = "inconclusive", f"{reason}; too few second labels tell whether that is chance: more of them"
    return Answer(
        category=question.category,
        action=question.action,
        at_least=question.at_least,
        confidence=1 - delta,
        trials=k,
        successes=x,
        observed_bound=float(lower_bound(x, k, delta)),
        agreements=m,
        overturned=overturned,
        errors=len(question.errors),
        restored=restored,
        missing=left + open_errors,
        bound=bound,
        verdict=verdict,
        reason=reason,
    )


def measure_agreement(first: Sequence[Hashable], second: Sequence[Hashable], confidence: float = 0.95) -> Agreement:
    """What two annotators called the same images, one value per image each. Raises ValueError for unequal numbers."""
    from scipy.special import ndtri
    from statsmodels.stats.inter_rater import cohens_kappa

    if len(first) != len(second):
        raise ValueError(f"{len(first)} first labels and {len(second)} second ones must be of the same images")
    place = {value: number for number, value in enumerate(dict.fromkeys([*first, *second]))}
    counts = np.zeros((len(place), len(place)))
    for one, other in zip(first, second, strict=True):
        counts[place[one], place[other]] += 1
    agreed = int(np.trace(counts))
    kappa = half = math.nan
    if len(place) > 1:
        with np.errstate(divide="ignore", invalid="ignore"):  # its z value, which is not used, may be 0 / 0
            found = cohens_kappa(counts)
        kappa, half = float(found.kappa), float(ndtri((1 + confidence) / 2) * found.std_kappa) or math.nan
    return Agreement(len(first), agreed, kappa, kappa - half, kappa + half, confidence)


def read_second_labels(file: Path, taxonomy: Taxonomy, items: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Item → the categories of its second label, () for unknown; rows of `items` may be left out.

    A CSV file as `workbench second-labels` writes it, in any order, with `|` between several labels. Text stays text:
    `NA` and `001` are labels like others. Raises InputError that names, with file and line, each row that cannot be
    read, has an item that is not among `items` or stands twice, or a label that is empty or not of the taxonomy.
    """
    table = read_table(file, str(file))
    for name in ("item", "label"):
        if name not in table.columns:
            raise InputError(f"{file}:1: there is no column {name!r}; the header is {','.join(COLUMNS)}")
    places = [f"{file}:{line}" for line in table.lines]
    unreadable = {problem.row for problem in table.problems}
    faults = {problem.row or 0: f"{problem.place}: {problem.message}" for problem in table.problems}
    cells = [str(cell) if cell is not None else "" for cell in table.columns["label"]]
    raw = [tuple(cell.split("|")) if cell.strip() else None for cell in cells]
    reading = read_labels(raw, places, replace(taxonomy, outside="refuse"))
    refused = {problem.row: problem.message for problem in reading.problems if problem.refused}
    first: dict[str, int] = {}
    found: dict[str, tuple[str, ...]] = {}
    for row, (item, labels) in enumerate(zip(table.columns["item"], reading.labels, strict=True)):
        if row in unreadable:
            continue
        earlier = first.setdefault(item, row)
        if item not in items:
            faults[row] = f"{places[row]}: no item is called {figures.shorten(item, _WIDTH)!r} here"
        elif earlier != row:
            faults[row] = (
                f"{places[row]}: item {figures.shorten(item, _WIDTH)!r} stands in line {table.lines[earlier]} already"
            )
        elif row in refused:
            faults[row] = f"{places[row]}: {figures.shorten(refused[row], 3 * _WIDTH)}"
        elif labels is None:
            faults[row] = f"{places[row]}: the label is empty; write {taxonomy.unknown!r} for none, or take the row out"
        else:
            found[item] = labels
    if faults:
        told = [faults[row] for row in sorted(faults)]
        more = [f"and {len(told) - _SHOWN} more"] if len(told) > _SHOWN else []
        raise InputError("\n".join([*told[:_SHOWN], *more]))
    return found


def _shortage(question: Question, restored: int) -> str:
    """Why no answer to the second labels that were asked for could have reached the goal."""
    needed = agreements_needed(question.successes, question.trials, question.at_least, question.delta, restored)
    if needed is None:
        counts = f"{question.successes} of {question.trials} right"
        return f"{counts} leaves no room for label noise, whatever second labels say; it takes more certify images"
    return f"{len(question.agreements)} agreements are too few; {needed} would do if none is overturned"
