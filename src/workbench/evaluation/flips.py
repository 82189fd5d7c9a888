"""What words drawn into images change: flips of what is told and decided, and whether promises survive.

Works on one prediction table that holds each image and its copies, one image per group, so intervals are exact
binomial ones (Clopper and Pearson), each on its own; images count one each. The control is a copy without words. What
words change beyond it is due to words, be it that letters are in the way; what they move *towards what they say*, more
often than the control happens to, is due to reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from workbench.errors import RunError
from workbench.evaluation import figures
from workbench.evaluation.intervals import clopper_pearson, upper_tail
from workbench.evaluation.metrics import TOLD_AT
from workbench.evaluation.results import Result
from workbench.evaluation.simulate import Simulated, gate_scores, simulate
from workbench.predictions import PredictionTable
from workbench.records import OK, Policy, Rejection, Tier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLEAN, CONTROL = "clean", "blank"
"""In the column `attack`: the image itself, and its copy without words."""

Labels = frozenset[str]
Verdict = Literal["holds", "broken", "cannot tell"]

_SLICES = ("position", "size", "contrast", "category")


@dataclass(frozen=True)
class Flips:
    """What one attack did to the images, or to some of them. Images whose clean copy has no answer are left out."""

    attack: str
    by: str
    """"" for all images, else what they have in common: position, size, contrast, or the category that they show."""
    value: str
    images: int
    flipped: int
    """What is told of the copy is not what is told of the image; also where the copy has no answer."""
    lost: int
    """Of those, copies without an answer."""
    open_to: int
    """Images of which the target is not told anyway."""
    towards: int
    """Of those, copies of which the target is told."""
    towards_control: int
    """The same of the copies without words: how often the target comes up by chance."""
    towards_beyond: int
    """Towards, and not so the copy without words."""
    towards_undone: int
    """The copy without words towards, and not this one."""
    right: int
    """Images told rightly."""
    right_copies: int
    """Copies told rightly."""
    beyond: int
    """Flipped, and not so by the copy without words."""
    undone: int
    """Flipped by the copy without words, and not by this one."""
    actions: int | None
    """Copies for which the policy decides on another action than for the image; None without a policy."""
    automatic: int | None
    """Of those, copies that get an automatic action of a rank above 0, which does something."""
    wrongly: int | None
    """Of those, copies told to show what the image does not show."""
    dropped: int | None
    """Copies that the policy lets pass (rank 0), and not so the image."""


@dataclass(frozen=True)
class Survival:
    """One promise of a policy among the copies of one attack."""

    attack: str
    category: str
    action: str
    metric: str
    at_least: float
    trials: int
    """precision: copies on which the tier, or a higher one of its category, fires; recall: copies that show it."""
    successes: int
    low: float
    """Of the exact two-sided interval."""
    high: float
    verdict: Verdict
    """holds: the interval lies at or above the goal; broken: below it; cannot tell: it holds the goal."""


@dataclass(frozen=True, eq=False)
class StressMeasures(Result):
    """What each attack did."""

    flips: tuple[Flips, ...]
    """For each attack over all images, then by position, size, contrast and category."""
    survivals: tuple[Survival, ...]
    """For the clean images and each attack, every promise that has a threshold; empty without a policy."""
    left_out: int
    """Images whose clean copy has no answer."""
    confidence: float
    measured_on: str

    @property
    def overall(self) -> tuple[Flips, ...]:
        """Over all images, one for each attack."""
        return tuple(row for row in self.flips if not row.by)

    def frame(self) -> pd.DataFrame:
        """One row per attack and slice, with intervals on both shares and p-values of "no more than the control".

        p_words, p_reading: exact one-sided sign tests (McNemar 1947) of `beyond` against `undone`, and of
        `towards_beyond` against `towards_undone`; NaN for the control itself.
        """
        rows = pd.DataFrame([vars(row) for row in self.flips])
        shares: dict[str, Any] = {}
        for name, part, whole in (("flip_rate", "flipped", "images"), ("towards_rate", "towards", "open_to")):
            count, total = rows[part].to_numpy(dtype=np.int64), rows[whole].to_numpy(dtype=np.int64)
            low, high = clopper_pearson(count, total, self.confidence)
            rate = np.divide(count, total, out=np.full(len(rows), np.nan), where=total > 0)
            shares |= {name: rate, f"{name}_low": low, f"{name}_high": high}
        for name, more, less in (("p_words", "beyond", "undone"), ("p_reading", "towards_beyond", "towards_undone")):
            p_values = _sign_test(rows[more].to_numpy(dtype=np.int64), rows[less].to_numpy(dtype=np.int64))
            shares[name] = np.where(rows["attack"] == CONTROL, np.nan, p_values)
        return rows.assign(**shares, confidence=self.confidence, measured_on=self.measured_on)

    def promises_frame(self) -> pd.DataFrame:
        """One row per attack and promise."""
        columns = list(Survival.__dataclass_fields__)
        return pd.DataFrame([vars(row) for row in self.survivals], columns=columns).assign(measured_on=self.measured_on)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Flip rate of each attack, and the share that moved towards what the words say, with their intervals."""
        frame = self.frame()
        frame = frame[frame["by"] == ""]
        place = np.arange(len(frame))
        ax = ax or figures.new_axes(height=1.4 + 0.45 * len(frame))
        theme = figures.theme_of(ax)
        handles = []
        looks = (
            ("flip_rate", -0.14, "o", theme.first, theme.first),
            ("towards_rate", 0.14, "s", theme.second, theme.ground),
        )
        for name, shift, marker, colour, face in looks:
            ax.hlines(place + shift, frame[f"{name}_low"], frame[f"{name}_high"], color=colour, linewidth=1.2)
            handles.append(
                ax.scatter(frame[name], place + shift, marker=marker, s=28, color=colour, facecolor=face, zorder=3)
            )
        ax.set_yticks(place, [f"{figures.printable(row.attack)}  ({row.images})" for row in self.overall])
        ax.set(xlim=(-0.01, 1.01), ylim=(len(frame) - 0.4, -0.6))
        ax.set_xlabel(f"share of images, with {self.confidence:.0%} intervals (images in brackets)")
        figures.dress(ax, "What words on an image change", self.measured_on, grid="x")
        figures.add_legend(ax, handles, ["told otherwise", "told what the words say"], **figures.BELOW)
        return ax

    def draw(self, pictures: Mapping[str, Sequence[np.ndarray]]) -> Axes:
        """The same below a row of examples: by attack, (h, w, 3) uint8 pictures of one image or several."""
        from matplotlib.figure import Figure

        rows = max((len(shown) for shown in pictures.values()), default=0)
        if not rows:
            return self.plot()
        height = 1.7 * rows
        below = 1.7 + 0.45 * len(self.overall)
        figure = Figure(figsize=(8.4, height + below), layout="constrained", facecolor=figures.LIGHT.ground)
        grid = figure.add_gridspec(rows + 1, len(pictures), height_ratios=[*[1.7] * rows, below])
        for column, (attack, shown) in enumerate(pictures.items()):
            for row, pixels in enumerate(shown):
                ax = figure.add_subplot(grid[row, column])
                ax.imshow(pixels)
                ax.set_axis_off()
                if row == 0:
                    ax.set_title(figures.printable(attack), loc="left", color=figures.LIGHT.ink, fontsize=figures.TEXT)
        return self.plot(figure.add_subplot(grid[rows, :]))


def measure_flips(
    table: PredictionTable,
    copies: pd.DataFrame,
    policy: Policy | None = None,
    *,
    confidence: float = 0.95,
    measured_on: str = "tune",
) -> StressMeasures:
    """Compare each copy with its image.

    table   one row for each image and copy
    copies  `image_id` (of the copy), `of` (id of its image), `attack` (`clean` for the image itself), `target` (what
            the words mean to bring about), `position`, `size`, `contrast`, `labels` (tuple of the categories shown)

    What is told: single-label, the one highest category, or unknown where there is none or "none of these" is at least
    as high; multi-label, every category at 0.5 or above, else unknown. Raises RunError if rows are missing, no image
    has an answer as it is, or the policy is of another run.
    """
    place = pd.Index(table.frame["image_id"]).get_indexer(copies["image_id"])
    if (place < 0).any() or not copies["image_id"].is_unique:
        raise RunError("the run has no row, or more than one, for some image or copy; classify them together")
    if policy is not None and policy.origin != table.info.origin:
        raise RunError("the policy was made for another approach, version or preparation than this run")
    decided = None if policy is None else simulate(table, policy)
    rows = _told(table, decided).iloc[place].reset_index(drop=True)
    rows = pd.concat([copies.reset_index(drop=True), rows], axis=1)
    rows["shown"] = [frozenset(labels) or frozenset({table.info.taxonomy.unknown}) for labels in rows["labels"]]
    clean = rows["attack"] == CLEAN
    answered = set(rows.loc[clean & rows["answered"], "of"])
    if not answered:
        outcomes = ", ".join(table.frame["outcome"].iloc[place[clean.to_numpy()]].value_counts().index.map(str))
        raise RunError(f"none of the {int(clean.sum())} images has an answer as it is: {outcomes}")
    kept = rows[rows["of"].isin(answered)]
    attacks = [name for name in dict.fromkeys(kept["attack"]) if name != CLEAN]
    return StressMeasures(
        flips=tuple(row for attack in attacks for row in _flips(kept, attack, policy)),
        survivals=() if decided is None else tuple(_survivals(rows, decided, place, confidence)),
        left_out=int((rows["attack"] == CLEAN).sum() - len(answered)),
        confidence=confidence,
        measured_on=measured_on,
    )


def _told(table: PredictionTable, decided: Simulated | None) -> pd.DataFrame:
    """By row of the table: `answered`, `told` (a set of names, empty without an answer), `action`, `acted` (labels)."""
    taxonomy, unknown_scores = table.info.taxonomy, table.unknown_scores
    answered = (table.frame["outcome"] == OK).to_numpy(dtype=bool)
    rule = Rejection("none", None, unknown_label=unknown_scores is not None)
    gated = gate_scores(table.scores, unknown_scores, answered, rule, taxonomy)
    if taxonomy.mode == "multi-label":
        shown = gated.usable[:, None] & ~gated.rejected[:, None] & (gated.scores >= TOLD_AT)
    else:
        shown = ~gated.rejected[:, None] & (gated.top[:, None] == np.arange(len(taxonomy.categories)))
    names = np.array(taxonomy.categories, dtype=object)
    unknown = frozenset({taxonomy.unknown})
    told = [
        (frozenset(names[row]) or unknown) if usable else frozenset()
        for row, usable in zip(shown, gated.usable, strict=True)
    ]
    frame = pd.DataFrame({"answered": gated.usable, "told": pd.Series(told, dtype=object)})
    if decided is not None:
        frame["action"] = decided.action
        frame["acted"] = pd.Series([frozenset(labels) for labels in decided.labels()], dtype=object)
    return frame


def _flips(rows: pd.DataFrame, attack: str, policy: Policy | None) -> Iterator[Flips]:
    by_image = {name: part.set_index("of") for name, part in rows.groupby("attack", sort=False)}
    copies = by_image[attack]
    clean = by_image[CLEAN].loc[copies.index]
    control = by_image[CONTROL].loc[copies.index] if CONTROL in by_image else clean
    marks = _marks(copies, clean, control, policy)
    yield _counted(marks, attack, "", "")
    category = copies["shown"].map(lambda shown: " | ".join(sorted(shown)))
    for name in _SLICES:
        values = category if name == "category" else copies[name]
        for value in sorted(set(values)):
            yield _counted(marks[(values == value).to_numpy()], attack, name, str(value))


def _marks(copies: pd.DataFrame, clean: pd.DataFrame, control: pd.DataFrame, policy: Policy | None) -> pd.DataFrame:
    """By image, bool: what `Flips` counts."""
    told, before, blank = copies["told"], clean["told"], control["told"]
    flipped, by_control = _differ(told, before), _differ(blank, before)
    target = copies["target"]
    open_to = ~_holds(before, target)
    towards, by_chance = open_to & _holds(told, target), open_to & _holds(blank, target)
    marks = {
        "flipped": flipped,
        "lost": flipped & ~copies["answered"].to_numpy(dtype=bool),
        "open_to": open_to,
        "towards": towards,
        "towards_control": by_chance,
        "towards_beyond": towards & ~by_chance,
        "towards_undone": by_chance & ~towards,
        "right": ~_differ(before, clean["shown"]),
        "right_copies": ~_differ(told, copies["shown"]),
        "beyond": flipped & ~by_control,
        "undone": by_control & ~flipped,
    }
    if policy is not None:
        changed = (copies["action"] != clean["action"]).to_numpy(dtype=bool)
        acting = [name for name in policy.automatic if policy.rank[name]]
        automatic = changed & copies["action"].isin(acting).to_numpy(dtype=bool)
        passing = copies["action"].map(policy.rank).to_numpy() == 0
        false = np.array([bool(told - shown) for told, shown in zip(copies["acted"], copies["shown"], strict=True)])
        marks |= {
            "actions": changed,
            "automatic": automatic,
            "wrongly": automatic & false.astype(bool),
            "dropped": changed & passing,
        }
    return pd.DataFrame(marks, index=copies.index)


def _counted(marks: pd.DataFrame, attack: str, by: str, value: str) -> Flips:
    counts: dict[str, Any] = dict.fromkeys(("actions", "automatic", "wrongly", "dropped"))
    counts |= {str(name): int(marks[name].sum()) for name in marks.columns}
    return Flips(attack=attack, by=by, value=value, images=len(marks), **counts)


def _differ(first: pd.Series, second: pd.Series) -> np.ndarray:
    return np.array([one != other for one, other in zip(first, second, strict=True)], dtype=bool)


def _holds(told: pd.Series, target: pd.Series) -> np.ndarray:
    return np.array([name in names for names, name in zip(told, target, strict=True)], dtype=bool)


def _survivals(rows: pd.DataFrame, decided: Simulated, place: np.ndarray, confidence: float) -> Iterator[Survival]:
    fired = decided.fired[place]
    for attack in dict.fromkeys(rows["attack"]):
        here = (rows["attack"] == attack).to_numpy(dtype=bool)
        shown = rows["shown"].to_numpy(dtype=object)[here]
        for category, tier in decided.tiers:
            if tier.threshold is not None:
                event = fired[here][:, _cumulative(decided, category, tier)].any(axis=1)
                truth = np.array([category in labels for labels in shown], dtype=bool)
                yield _survival(attack, category, tier, event, truth, confidence)


def _cumulative(decided: Simulated, category: str, tier: Tier) -> list[int]:
    """The tiers of a category that are at least of this one's rank."""
    rank = decided.policy.rank
    return [
        number
        for number, (name, other) in enumerate(decided.tiers)
        if name == category and rank[other.action] >= rank[tier.action]
    ]


def _survival(
    attack: str, category: str, tier: Tier, event: np.ndarray, truth: np.ndarray, confidence: float
) -> Survival:
    trials = int((event if tier.metric == "precision" else truth).sum())
    successes = int((event & truth).sum())
    low, high = map(float, clopper_pearson(successes, trials, confidence))
    verdict: Verdict = "holds" if low >= tier.at_least else "broken" if high < tier.at_least else "cannot tell"
    return Survival(attack, category, tier.action, tier.metric, tier.at_least, trials, successes, low, high, verdict)


def _sign_test(more: np.ndarray, less: np.ndarray) -> np.ndarray:
    """P[Bin(more + less, 1/2) >= more]."""
    return upper_tail(more, more + less, 0.5)
