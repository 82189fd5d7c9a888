"""Which images train, which tune and which certify: a seeded hash of the group, or what the data set itself says.

Groups, not images, are split. The `group` column is the one place where images are tied together: what the data set
says of bursts and uploads stands there, and what finds near-duplicates writes there too.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise

import pandas as pd

from workbench.dataset.images import SPLITS
from workbench.dataset.problems import Problem

SHARES: Mapping[str, float] = {"train": 0.30, "tune": 0.25, "certify": 0.45}
"""Of the groups of each category. Certify is largest, since every promise is proved on it alone."""

SPLIT_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("tune", "val", "valid", "validation", "dev"), "tune"),
    **dict.fromkeys(("certify", "test", "testing"), "certify"),
}
"""What a folder or a cell may call a split, in lower case."""

_CARVED = {frozenset({"train", "certify"}): ("train", "tune"), frozenset({"train", "tune"}): ("tune", "certify")}
"""Official splits that lack one → which of them gives a part of itself, and what that part becomes."""

Shown = frozenset[str] | None
"""Every category that a group's images show; empty for unknown, None where none of them is labelled."""


def assign_splits(frame: pd.DataFrame, seed: int = 0, shares: Mapping[str, float] = SHARES) -> pd.Series:
    """One split per row of a frame with `group`, `labels` and, where the data set has its own splits, `split`.

    A row whose `split` is not "" keeps it, and so do the other rows of its group. If all rows have one and the third
    split is missing, it is carved by hash: *tune* from *train*, or *certify* from *tune*. Every other group is split by
    hash as follows; the order of the rows does not matter.

    Groups with the same set of labels are ordered by SHA-256 of seed and group, and that order is cut at the shares.
    So each set of labels gets its shares up to rounding, and a new image moves at most one other group over each cut.
    Plain thresholds on the hash would move none, but leave a category of twenty images with anything from two to ten
    in *train*. Images that must never move get a `split` of their own. Last, a category of at least as many groups as
    there are splits gets one in each, if that takes no other such category's only group there.

    Raises ValueError if the shares are negative or do not sum to one.
    """
    if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise ValueError(f"shares {dict(shares)} must not be negative and must sum to 1")
    groups, own = frame["group"].tolist(), _own_splits(frame)
    labels = _shown_by_group(groups, frame["labels"].tolist())
    carving = _carving(own)
    if carving is None:
        official = _official_by_group(groups, own)
        drawn = _draw({group: shown for group, shown in labels.items() if group not in official}, seed, shares)
        decided = [split or official.get(group) or drawn[group] for group, split in zip(groups, own, strict=True)]
    else:
        giver, _ = carving
        givers = {group for group, split in zip(groups, own, strict=True) if split == giver}
        drawn = _draw({group: labels[group] for group in givers}, seed, _renormalised(shares, carving))
        decided = [drawn[group] if split == giver else split for group, split in zip(groups, own, strict=True)]
    return pd.Series(decided, frame.index, dtype="str")


def split_problems(frame: pd.DataFrame, place: str) -> Iterable[Problem]:
    """What is to be said of the splits that the data set brings, in a frame as `assign_splits` takes it."""
    own = _own_splits(frame)
    named = set(own) - {""}
    pairs = pd.DataFrame({"group": frame["group"], "split": own}).drop_duplicates()
    pairs = pairs[pairs["split"] != ""]
    for group, splits in pairs[pairs["group"].duplicated(keep=False)].groupby("group", sort=False)["split"]:
        where = " and ".join(sorted(splits, key=SPLITS.index))
        told = f"group {group!r} has images in {where}; they are not independent"
        yield Problem(place, "group_crosses_splits", told, refused=False)
    carving = _carving(own)
    if carving is not None:
        told = f"the data set has no {carving[1]} split; a part of {carving[0]} was drawn for it by hash"
        yield Problem(place, "split_carved", told, refused=False)
    elif named and "" in own:
        told = f"{own.count('')} images without a split were given one by hash"
        yield Problem(place, "split_completed", told, refused=False)
    elif len(named) == 1:
        told = f"every image is in {named.pop()}; without a split in the data, all three are drawn by hash"
        yield Problem(place, "one_split", told, refused=False)


def _own_splits(frame: pd.DataFrame) -> list[str]:
    return frame["split"].tolist() if "split" in frame else [""] * len(frame)


def _carving(own: Sequence[str]) -> tuple[str, str] | None:
    """The split that gives a part of itself and the one that this makes; None if nothing is carved."""
    return _CARVED.get(frozenset(own))


def _renormalised(shares: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    total = sum(shares[name] for name in names)
    return {name: shares[name] / total if total else 1 / len(names) for name in names}


def _official_by_group(groups: Sequence[str], own: Sequence[str]) -> dict[str, str]:
    """The split of each group that has one; of several, the first in order."""
    found: dict[str, str] = {}
    for group, split in zip(groups, own, strict=True):
        if split and (group not in found or SPLITS.index(split) < SPLITS.index(found[group])):
            found[group] = split
    return found


def _shown_by_group(groups: Sequence[str], labels: Sequence[tuple[str, ...] | None]) -> dict[str, Shown]:
    shown: dict[str, Shown] = {}
    for group, row in zip(groups, labels, strict=True):
        before = shown.get(group)
        shown[group] = before if row is None else (before or frozenset()).union(row)
    return shown


def _draw(shown: Mapping[str, Shown], seed: int, shares: Mapping[str, float]) -> dict[str, str]:
    strata: dict[Shown, list[str]] = defaultdict(list)
    for group, categories in shown.items():
        strata[categories].append(group)
    rank = {group: _hash(f"{seed}\0{group}") for group in shown}
    drawn: dict[str, str] = {}
    for categories, members in strata.items():
        members.sort(key=lambda group: (rank[group], group))
        name = "unlabelled" if categories is None else "\0".join(sorted(categories))
        cuts = _cuts(len(members), list(shares.values()), int(_hash(f"{seed}\0stratum\0{name}")[:12], 16) / 16**12)
        for split, (low, high) in zip(shares, pairwise([0, *cuts, len(members)]), strict=True):
            drawn |= dict.fromkeys(members[low:high], split)
    _fill_gaps(drawn, shown, rank, [split for split, share in shares.items() if share > 0])
    return drawn


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _cuts(count: int, shares: Sequence[float], offset: float) -> list[int]:
    """Where an order of `count` groups is cut; `offset` in [0, 1) decides how shares are rounded.

    Each cut rises by 0 or 1 when `count` rises by one. From as many groups as splits on, no split is empty.
    """
    wanted = [int(share > 0) if count >= sum(share > 0 for share in shares) else 0 for share in shares]
    cuts: list[int] = []
    for place, share in enumerate(accumulate(shares[:-1])):
        cut = int(round(share, 12) * count + offset)
        lowest = (cuts[-1] if cuts else 0) + wanted[place]
        cuts.append(min(max(cut, lowest), count - sum(wanted[place + 1 :])))
    return cuts


def _fill_gaps(
    drawn: dict[str, str], shown: Mapping[str, Shown], rank: Mapping[str, str], splits: Sequence[str]
) -> None:
    """Give every category a group in each split, where a label set too rare to be cut left one without."""
    members: dict[str, list[str]] = defaultdict(list)
    for group, categories in shown.items():
        for category in categories or ():
            members[category].append(group)
    owed = {category for category, groups in members.items() if len(groups) >= len(splits)}
    counts = Counter((category, drawn[group]) for category in owed for group in members[category])
    for category in sorted(owed, key=lambda name: (len(members[name]), name)):
        for split in (split for split in splits if not counts[category, split]):
            movable = [
                group
                for group in members[category]
                if all(counts[other, drawn[group]] > 1 for other in owed & (shown[group] or frozenset()))
            ]
            if not movable:
                continue
            group = min(movable, key=lambda name: (-counts[category, drawn[name]], rank[name], name))
            for other in owed & (shown[group] or frozenset()):
                counts[other, drawn[group]] -= 1
                counts[other, split] += 1
            drawn[group] = split
