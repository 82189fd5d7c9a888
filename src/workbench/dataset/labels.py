"""Labels as written become known categories, unknown, or a refusal. Nothing is guessed; near misses are named."""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from workbench.dataset.paths import Refusal
from workbench.dataset.problems import Problem
from workbench.dataset.rows import RawLabels
from workbench.records import Taxonomy

Labels = tuple[str, ...] | None


@dataclass(frozen=True)
class Reading:
    """The labels of a data set, read against one taxonomy."""

    labels: list[Labels]
    """Known categories in taxonomy order, () for unknown, None for not labelled; None also where a row is refused."""
    taxonomy: Taxonomy
    problems: list[Problem]


@dataclass(frozen=True)
class _Use:
    """Where one way of writing labels occurs."""

    first: str
    """Place of the first row."""
    rows: int


def read_labels(raw: Sequence[RawLabels], places: Sequence[str], taxonomy: Taxonomy | None = None) -> Reading:
    """Read every row's labels.

    Text is compared trimmed and in Unicode NFC, and where that changed it, it is reported once per spelling. Without a
    taxonomy, the categories are the sorted distinct labels but "unknown", and the mode is multi-label if any row has
    several. A label that the taxonomy does not list means unknown or refuses the row, as `taxonomy.outside` says.
    """
    uses = _uses(raw, places)
    clean = {written: _clean(written) for written in uses}
    taxonomy = taxonomy or _infer(clean.values())
    verdicts = {written: _judge(names, taxonomy) for written, names in clean.items()}
    problems = [*_spelling_problems(uses), *_near_problems(taxonomy), *_outside_problems(clean, uses, taxonomy)]
    refused = {written: verdict for written, verdict in verdicts.items() if isinstance(verdict, Refusal)}
    problems += [
        Problem(places[row], refused[written].code, refused[written].message, row=row)
        for row, written in enumerate(raw)
        if written in refused
    ]
    read = {written: None if isinstance(verdict, Refusal) else verdict for written, verdict in verdicts.items()}
    return Reading([read[written] for written in raw], taxonomy, problems)


def list_labels(taxonomy: Taxonomy) -> str:
    """What a person who labels may write, after a few words: ": shoe, boot, unknown", and how several are written."""
    several = " (| between several)" if taxonomy.mode == "multi-label" else ""
    return f"{several}: {', '.join((*taxonomy.categories, taxonomy.unknown))}"


def _uses(raw: Sequence[RawLabels], places: Sequence[str]) -> dict[RawLabels, _Use]:
    first = dict(zip(reversed(raw), reversed(places), strict=True))
    return {written: _Use(first[written], count) for written, count in Counter(raw).items()}


def _clean(written: RawLabels) -> Labels:
    if written is None:
        return None
    names = tuple(dict.fromkeys(name for name in map(_plain, written) if name))
    return names if names or not written else None


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _infer(clean: Iterable[Labels]) -> Taxonomy:
    shown = [names for names in clean if names]
    categories = sorted({name for names in shown for name in names} - {"unknown"})
    several = any(len(names) > 1 for names in shown)
    return Taxonomy(tuple(categories), mode="multi-label" if several else "single-label")


def _judge(names: Labels, taxonomy: Taxonomy) -> Labels | Refusal:
    if not names:
        return names
    if taxonomy.mode == "single-label" and len(names) > 1:
        return Refusal("several_labels", f"labels {_listed(names)}, but the taxonomy is single-label")
    place = {_plain(category): position for position, category in enumerate(taxonomy.categories)}
    unknown = _plain(taxonomy.unknown)
    known = sorted(place[name] for name in names if name in place)
    outside = [name for name in names if name not in place and name != unknown]
    if outside and taxonomy.outside == "refuse":
        return Refusal("label_outside", f"label {outside[0]!r} is not in the taxonomy{_nearest(outside[0], taxonomy)}")
    if known and unknown in names:
        return Refusal(
            "unknown_and_known", f"labels {_listed(names)}: an image cannot be {unknown!r} and show a category"
        )
    return tuple(taxonomy.categories[position] for position in known)


def _nearest(name: str, taxonomy: Taxonomy) -> str:
    spellings = {_plain(category).casefold(): category for category in (*taxonomy.categories, taxonomy.unknown)}
    near = difflib.get_close_matches(name.casefold(), spellings, n=1, cutoff=0.8)
    return f"; is {spellings[near[0]]!r} meant?" if near else ""


def _spelling_problems(uses: Mapping[RawLabels, _Use]) -> Iterable[Problem]:
    counts: Counter[str] = Counter()
    places: dict[str, str] = {}
    for written, use in uses.items():
        for name in written or ():
            counts[name] += use.rows
            places.setdefault(name, use.first)
    for name in (name for name in counts if _plain(name) and name != _plain(name)):
        code = "label_trimmed" if name != name.strip() else "label_unicode"
        told = "blanks around it were cut" if code == "label_trimmed" else "read in Unicode NFC"
        yield Problem(places[name], code, f"label {name!r} ({counts[name]} rows): {told}", refused=False)


def _near_problems(taxonomy: Taxonomy) -> Iterable[Problem]:
    alike = defaultdict(list)
    for category in taxonomy.categories:
        alike["".join(filter(str.isalnum, category.casefold()))].append(category)
    for names in (names for key, names in alike.items() if key and len(names) > 1):
        yield Problem(
            "taxonomy", "categories_alike", f"{_listed(names)} are different categories; is one meant?", refused=False
        )


def _outside_problems(
    clean: Mapping[RawLabels, Labels], uses: Mapping[RawLabels, _Use], taxonomy: Taxonomy
) -> Iterable[Problem]:
    """Under `outside = "unknown"`: one line per label that is read so."""
    if taxonomy.outside == "refuse":
        return
    listed = {_plain(name) for name in (*taxonomy.categories, taxonomy.unknown)}
    counts: Counter[str] = Counter()
    places: dict[str, str] = {}
    for written, names in clean.items():
        for name in (name for name in names or () if name not in listed):
            counts[name] += uses[written].rows
            places.setdefault(name, uses[written].first)
    for name, count in counts.items():
        told = f"label {name!r} ({count} rows) is not in the taxonomy and counts as {taxonomy.unknown}"
        yield Problem(places[name], "label_unknown", told + _nearest(name, taxonomy), refused=False)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
