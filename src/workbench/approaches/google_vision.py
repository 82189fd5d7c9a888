"""`google-vision`: Google Cloud Vision's labels, or its safe search, mapped onto categories by a label map.

`feature = "labels"`: what the service sees in the picture, each with a score. It has no setting for the least score and
tells only what lies above a cut-off of its own that it does not document: `floor` says from where on scores are taken
as told.

`feature = "safe-search"`: five fixed terms, each graded from very unlikely to very likely. The five grades become
0, 0.25, 0.5, 0.75 and 1: an order, not probabilities. A grade that the service calls unknown is no grade, so the
category has no score and the image goes to a person.

The service does not say which version answered, so that a change of its models cannot be seen here. Whoever learns of
one (release notes) writes a `model_version`, and everything is asked again under that name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from workbench.approaches.base import Answer, Estimate, Options, Setting, check_address, read_options
from workbench.approaches.google_client import ENDPOINT, VisionClient, image_error, lacking
from workbench.approaches.vocabulary import Label, LabelMap, read_label_map
from workbench.canonical import binary32, digest
from workbench.errors import ConfigError, ProviderError
from workbench.prepare.decode import Preparation, Prepared
from workbench.prepare.encode import ENCODING, encode_pixels
from workbench.records import CENSORED

_MOST_BYTES = 4 * 2**20
"""Of the file that is sent, before base64. Our choice, as is the size of the pixels."""
_CODES = {"labels": 4, "safe-search": 6}
"""google.cloud.vision.v1.Feature.Type: LABEL_DETECTION, SAFE_SEARCH_DETECTION."""
_PRICES = {"labels": "google/vision/label-detection", "safe-search": "google/vision/safe-search-detection"}
_TERMS = ("adult", "spoof", "medical", "violence", "racy")
_LIKELIHOODS = ("UNKNOWN", "VERY_UNLIKELY", "UNLIKELY", "POSSIBLE", "LIKELY", "VERY_LIKELY")
"""google.cloud.vision.v1.Likelihood, by number."""
_GRADES = dict(zip(_LIKELIHOODS[1:], (0.0, 0.25, 0.5, 0.75, 1.0), strict=True))
_PRICE_NOTE = "the price table has no {name!r} (USD per image): put your own into [prices] of workbench.toml"


class VisionOptions(Options):
    """What `[approaches.google-vision]` may say."""

    feature: Literal["labels", "safe-search"] = "labels"
    model: Literal["builtin/stable", "builtin/latest"] = "builtin/stable"
    """The service's own names: what it has used for a while, or its newest."""
    model_version: str = ""
    """A name for the version that answers now, by whoever asks; the service tells none."""
    max_results: Annotated[int, Field(ge=1, le=1000)] = 50
    """Labels per picture."""
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Labels only: what is below it, or not told at all, is CENSORED."""
    endpoint: str = ENDPOINT
    """Another region of the service, or what stands before it."""
    quota_project: str = ""
    """The project that is billed, where the credentials do not say."""
    metadata_server: bool = False
    """Take the credentials of the machine of Google's that this runs on; otherwise only files are looked at."""

    @field_validator("endpoint")
    @classmethod
    def _an_address(cls, address: str) -> str:
        check_address(address)
        if urlsplit(address).path.strip("/"):
            raise ValueError("an address like https://eu-vision.googleapis.com is wanted, without a path")
        return address.rstrip("/")


class GoogleVision:
    """The score of a category is the highest among its terms: descriptions of labels, `mid:` and a label's id, or terms
    of safe search.

    Labels: 0 to 1, CENSORED where no term of the category was told at or above the floor, and MISSING where the list
    was cut at `max_results` above the floor, so that more might have been told. Safe search: one of five grades,
    MISSING where a term of the category is not graded.
    """

    name = "google-vision"
    preparation = Preparation(1024, 1024, "within", least=64, slimmest=16)
    complete = False
    parallel = 8
    parts = 1
    rate = 0.0
    hourly_usd: float | None = 0.0

    def __init__(self, setting: Setting, options: VisionOptions) -> None:
        self.taxonomy = setting.taxonomy
        self._options = options
        labels = options.feature == "labels"
        self._map = read_label_map(setting.label_map, setting.taxonomy, self.name, ("mid",) if labels else ())
        if not labels:
            _check_terms(self._map)
        self.scores_unknown = setting.taxonomy.unknown in self._map.terms
        self._client = VisionClient(options.endpoint, options.quota_project, options.metadata_server)
        self._usd = setting.prices.of(_PRICES[options.feature])
        floor = binary32(options.floor)
        self.floors: Mapping[str, float] = dict.fromkeys(self._map.terms, floor) if labels else {}
        self.price_note = "" if self._usd is not None else _PRICE_NOTE.format(name=_PRICES[options.feature])
        self.model_version = f"{options.model} {options.model_version}".strip()
        self.question = digest(
            {
                "approach": self.name,
                "endpoint": options.endpoint,
                "feature": self._feature(),
                "preparation": self.preparation.id,
                "encoding": [ENCODING, _MOST_BYTES],
            }
        )
        self.fingerprint = digest(
            {
                "question": self.question,
                "model_version": self.model_version,
                "labels": self._map.document,
                "floors": self.floors,
                "taxonomy": setting.taxonomy.digest,
            }
        )

    @classmethod
    def build(cls, setting: Setting) -> GoogleVision:
        """Raises ConfigError for options or a label map that do not fit. Asks for no credentials yet."""
        return cls(setting, read_options(VisionOptions, cls.name, setting))

    @classmethod
    def lacks(cls, setting: Setting) -> str:
        """What is missing to ask: the client's package, or credentials in files; "" if nothing. Asks nobody."""
        return lacking(read_options(VisionOptions, cls.name, setting).metadata_server)

    def estimate(self, width: int, height: int) -> Estimate:
        """The price of one feature of one image, whatever its size."""
        return Estimate(self._usd, self._usd)

    def request(self, prepared: Prepared, part: int = 0) -> Mapping[str, Any]:
        """A `BatchAnnotateImagesRequest` about one image, its content still bytes."""
        encoded = encode_pixels(prepared.pixels, _MOST_BYTES)
        return {"requests": [{"image": {"content": encoded.data}, "features": [self._feature()]}]}

    def ask(self, request: Mapping[str, Any]) -> Answer:
        """Send one request. The answer keeps labels that no category means, for other label maps."""
        found = self._client.annotate(request)
        if found is not None and found.error.code:
            raise image_error(found.error.code, found.error.message)
        read = _labels_of if self._options.feature == "labels" else _grades_of
        raw = {"unreadable": True} if found is None else read(found)
        return Answer(raw, self.model_version, self._usd or 0.0)

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        """Scores by category. Raises ProviderError for an answer of another form or a score outside [0, 1]."""
        if self._options.feature == "labels":
            return self._label_scores(raw.get("labels"))
        return self._grade_scores(raw.get("safe_search"))

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def _feature(self) -> dict[str, Any]:
        options = self._options
        most = {"max_results": options.max_results} if options.feature == "labels" else {}
        return {"type_": _CODES[options.feature], "model": options.model, **most}

    def _label_scores(self, answer: Any) -> dict[str, float]:
        labels = _read_labels(answer)
        cut = len(labels) >= self._options.max_results
        lowest = min((label.score for label in labels), default=0.0)
        scores = {}
        for column, score in self._map.scores(labels).items():
            if score >= self.floors[column]:
                scores[column] = score
            elif not (cut and lowest > self.floors[column]):
                scores[column] = CENSORED
        return scores

    def _grade_scores(self, answer: Any) -> dict[str, float]:
        if not isinstance(answer, Mapping):
            raise ProviderError("malformed_answer", "no safe search in the answer")
        grades = {term: _read_grade(answer.get(term)) for term in _TERMS}
        scores = self._map.scores(Label(term, grade) for term, grade in grades.items() if grade is not None)
        graded = {term for term, grade in grades.items() if grade is not None}
        return {
            column: score
            for column, score in scores.items()
            if all(term.text in graded for term in self._map.terms[column])
        }


def _check_terms(label_map: LabelMap) -> None:
    """Safe search has five terms, and other words are not graded."""
    for column, terms in label_map.terms.items():
        for term in terms:
            if term.text not in _TERMS:
                raise ConfigError(
                    f"label map [approaches.google-vision.labels], {column!r}: {term.text!r} is no term of safe "
                    f"search; it grades {', '.join(_TERMS)}"
                )


def _labels_of(found: Any) -> dict[str, Any]:
    """Scores as the doubles of their binary32; one that is no finite number as text, so that JSON can hold it."""
    return {
        "labels": [
            {
                "mid": label.mid,
                "description": label.description,
                "score": label.score if math.isfinite(label.score) else str(label.score),
            }
            for label in found.label_annotations
        ]
    }


def _grades_of(found: Any) -> dict[str, Any]:
    """The names of the grades; a number where there is no name for one."""
    if "safe_search_annotation" not in found:
        return {"unreadable": True}
    grades = type(found).pb(found).safe_search_annotation  # plain numbers, which the wrapper would warn about
    told = {term: int(getattr(grades, term)) for term in _TERMS}
    known = range(len(_LIKELIHOODS))
    return {"safe_search": {term: _LIKELIHOODS[grade] if grade in known else grade for term, grade in told.items()}}


def _read_labels(answer: Any) -> list[Label]:
    if not isinstance(answer, list):
        raise ProviderError("malformed_answer", "no list of labels in the answer")
    try:
        told = [(str(label["description"]), str(label["mid"]), label["score"]) for label in answer]
    except (KeyError, TypeError) as error:
        raise ProviderError("malformed_answer", f"a label without its parts: {error}") from None
    for name, mid, score in told:
        if not name and not mid:
            raise ProviderError("malformed_answer", "a label without description and id")
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise ProviderError("bad_probability", f"label {name[:100]!r} has the score {str(score)[:40]!r}")
    return [Label(name, binary32(score), {"mid": (mid,)}) for name, mid, score in told]


def _read_grade(grade: Any) -> float | None:
    """None is UNKNOWN."""
    if grade == "UNKNOWN":
        return None
    if not isinstance(grade, str) or grade not in _GRADES:
        raise ProviderError("malformed_answer", f"{str(grade)[:40]!r} is no grade of safe search")
    return _GRADES[grade]
