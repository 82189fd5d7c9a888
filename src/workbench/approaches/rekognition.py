"""What Amazon Rekognition's detections share: one image per call, labels with confidences in the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field

from workbench.approaches.aws import AwsOptions, Connection, lacks_aws
from workbench.approaches.base import Answer, Estimate, Setting, read_options
from workbench.approaches.vocabulary import Label, read_label_map
from workbench.canonical import digest
from workbench.errors import ProviderError
from workbench.prepare.decode import Preparation, Prepared
from workbench.prepare.encode import ENCODING, encode_pixels

MOST_BYTES = 5_242_880
"""Of an image that travels within the request."""
LEAST_SIDE = 80
"""Pixels; a smaller image stands on a ground of this size."""

_FAST_REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
_FAST, _SLOW = 50.0, 5.0
"""Calls per second that an account is admitted without asking for more."""


class DetectionOptions(AwsOptions):
    """What a detection may be told in `[approaches.NAME]`."""

    max_side: int = Field(2048, ge=LEAST_SIDE, le=4096)
    """Pixels; larger images are shrunk to it."""
    min_confidence: float = Field(0.0, ge=0, le=100)
    """Percent; what is below is not answered, and becomes CENSORED."""


class Detection:
    """A detection, whose `operation` answers with labels. A subclass reads the answer."""

    name: ClassVar[str]
    operation: ClassVar[str]
    """As boto3 names it."""
    price: ClassVar[str]
    """Its name in the table of prices."""
    relations: ClassVar[tuple[str, ...]]
    """Prefixes that its label map may use."""
    options: ClassVar[type[DetectionOptions]] = DetectionOptions

    complete = False
    parts = 1
    hourly_usd: float | None = 0.0

    def __init__(self, setting: Setting, options: DetectionOptions, parameters: Mapping[str, Any]) -> None:
        """`parameters` go along with every image."""
        self.taxonomy = setting.taxonomy
        self.preparation = Preparation(options.max_side, options.max_side, "within", least=LEAST_SIDE)
        self.connection = Connection("rekognition", options)
        self._parameters = dict(parameters)
        self._map = read_label_map(setting.label_map, setting.taxonomy, self.name, self.relations)
        self._usd = setting.prices.of(self.price)
        self.scores_unknown = setting.taxonomy.unknown in self._map.terms
        self.floors = dict.fromkeys(self._map.terms, options.min_confidence / 100)
        self.rate = _FAST if self.connection.region in _FAST_REGIONS else _SLOW
        self.parallel = 50 if self.rate == _FAST else 10
        self.price_note = self._note()
        self.question = digest(
            {
                "service": "rekognition",
                "operation": self.operation,
                "endpoint": self.connection.endpoint,
                "parameters": self._parameters,
                "preparation": self.preparation.id,
                "encoding": [ENCODING, MOST_BYTES],
            }
        )
        reading = {"question": self.question, "labels": self._map.document, "taxonomy": setting.taxonomy.digest}
        self.model_version = options.model_version
        # as `run_fingerprint` has it where nothing is pinned: the same answers are the same classifier either way
        unpinned = digest(reading)
        pinned = digest({"fingerprint": unpinned, "model_version": options.model_version})
        self.fingerprint = pinned if options.model_version else unpinned

    @classmethod
    def build(cls, setting: Setting) -> Self:
        """Raises ConfigError for options or a label map that cannot be used. Needs no credentials."""
        raise NotImplementedError

    @classmethod
    def lacks(cls, setting: Setting) -> str:
        """The region or the credentials, if they are not set up."""
        return lacks_aws(read_options(cls.options, cls.name, setting), cls.name)

    def estimate(self, width: int, height: int) -> Estimate:
        """The price of an image, whatever its size."""
        return Estimate(self._usd, self._usd)

    def request(self, prepared: Prepared, part: int = 0) -> dict[str, Any]:
        """The parameters of the call. Raises ProviderError where no encoding of the pixels is small enough."""
        return {"Image": {"Bytes": _encoded(prepared.pixels)}, **self._parameters}

    def ask(self, request: Mapping[str, Any]) -> Answer:
        """One call, charged if it is answered. The boxes and colours of the answer are not kept."""
        answer = self.connection.call(self.operation, price_usd=self._usd or 0.0, **request)
        raw, version = self.kept(answer)
        return Answer(raw, version, self._usd or 0.0)

    def kept(self, answer: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """What is kept of an answer, and its model version."""
        raise NotImplementedError

    def labels(self, raw: Mapping[str, Any]) -> list[Label]:
        """The labels of a kept answer, which may be of any form."""
        raise NotImplementedError

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        """Per category, the highest confidence of a label that means it; CENSORED where there is none."""
        try:
            if not isinstance(raw["model_version"], str) or not isinstance(raw["labels"], list):
                raise TypeError("labels and model_version are wanted")
            return self._map.scores(self.labels(raw))
        except (AttributeError, KeyError, TypeError) as error:
            raise ProviderError("malformed_answer", f"not a list of labels: {type(error).__name__}: {error}") from None

    def close(self) -> None:
        """Let go of the connections that are open."""
        self.connection.close()

    def malformed(self, detail: str) -> ProviderError:
        """An answer that was paid for and cannot be used."""
        return ProviderError("malformed_answer", detail, self._usd or 0.0)

    def version_of(self, answer: Mapping[str, Any], name: str) -> str:
        """The model version in this field of an answer; an answer without one can neither be used nor be kept."""
        version = answer.get(name)
        if not (isinstance(version, str) and version.strip() and version.isprintable()):
            raise self.malformed(f"the answer names no {name}")
        return version

    def _note(self) -> str:
        notes = (
            [] if self._usd is not None else [f"no price for {self.price!r}; [prices] of workbench.toml can name it"]
        )
        if self.taxonomy.mode == "single-label":
            notes += [
                f"the label map has {term!r} for {' and '.join(columns)}: where it is the surest label, they tie"
                for term, columns in self._map.shared.items()
            ]
        return "; ".join(notes)


def objects(items: list[dict[str, Any] | None] | None) -> list[dict[str, Any]]:
    """A list of an answer, as the client reads it, in which an entry may be null; that one has no field then."""
    return [item or {} for item in items or []]


def _encoded(pixels: np.ndarray) -> bytes:
    try:
        return encode_pixels(pixels, MOST_BYTES).data
    except ValueError as error:
        raise ProviderError("provider_error", f"too large for the service: {error}; lower `max_side`") from None
