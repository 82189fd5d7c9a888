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

from pydantic import Field

from workbench.approaches.base import Answer, Estimate, Options, Setting, read_options
from workbench.approaches.google_client import ENDPOINT, VisionClient, image_error, lacking
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
_PLACE = "label map [approaches.google-vision.labels]"
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


class GoogleVision:
    """The score of a category is the highest among its terms.

    Labels: 0 to 1, CENSORED where no term of the category was told at or above the floor, and MISSING where the list
    was cut at `max_results` above the floor, so that more might have been told. Safe search: one of five grades,
    MISSING where a term of the category is not graded.
    """

    name = "google-vision"
    preparation = Preparation(1024, 1024, "within", least=64, slimmest=16)
    complete = False
    scores_unknown = False
    parallel = 8
    parts = 1
    rate = 0.0
    hourly_usd: float | None = 0.0

    def __init__(self, setting: Setting, options: VisionOptions) -> None:
        self.taxonomy = setting.taxonomy
        self._options = options
        self._terms = read_terms(setting.label_map, setting.taxonomy.categories, options.feature)
        self._client = VisionClient(options.endpoint, options.quota_project, options.metadata_server)
        self._usd = setting.prices.of(_PRICES[options.feature])
        labels = options.feature == "labels"
        self.floors: Mapping[str, float] = (
            dict.fromkeys(setting.taxonomy.categories, binary32(options.floor)) if labels else {}
        )
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
                "terms": self._terms,
                "floor": options.floor if labels else None,
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

    def _label_scores(self, labels: Any) -> dict[str, float]:
        told = _read_labels(labels)
        lowest = min((score for _, _, score in told), default=0.0)
        cut = len(told) >= self._options.max_results
        scores = {}
        for category, terms in self._terms.items():
            score = max((score for mid, name, score in told if mid in terms or name in terms), default=CENSORED)
            if score >= self.floors[category]:
                scores[category] = score
            elif not (cut and lowest > self.floors[category]):
                scores[category] = CENSORED
        return scores

    def _grade_scores(self, grades: Any) -> dict[str, float]:
        if not isinstance(grades, Mapping):
            raise ProviderError("malformed_answer", "no safe search in the answer")
        told = {term: _read_grade(grades.get(term)) for term in _TERMS}
        wanted = {category: [told[term] for term in terms] for category, terms in self._terms.items()}
        return {
            category: max(found for found in grades if found is not None)
            for category, grades in wanted.items()
            if None not in grades
        }


def read_terms(
    label_map: Mapping[str, tuple[str, ...]], categories: tuple[str, ...], feature: str
) -> dict[str, tuple[str, ...]]:
    """Category → its terms as they are looked for, sorted, in the order of `categories`.

    Labels: a description (case and spacing do not matter), or `mid:` and the service's id of it. Safe search: one
    of its five terms. Raises ConfigError for a category without terms, one the taxonomy does not have, and a term
    that cannot be meant.
    """
    for name in label_map:
        if name not in categories:
            raise ConfigError(f"{_PLACE}: {name!r} is no category of the taxonomy")
    missing = [name for name in categories if not label_map.get(name)]
    if missing:
        wanted = "descriptions of labels, or mid:/m/…" if feature == "labels" else ", ".join(_TERMS)
        raise ConfigError(f"{_PLACE}: no term for {', '.join(map(repr, missing))}; list some ({wanted})")
    return {name: tuple(sorted({_term(name, label, feature) for label in label_map[name]})) for name in categories}


def _term(category: str, written: str, feature: str) -> str:
    term, place = _plain(written), f"{_PLACE}, {category!r}: {written!r}"
    if feature == "safe-search":
        if term not in _TERMS:
            raise ConfigError(f"{place} is no term of safe search; it grades {', '.join(_TERMS)}")
        return term
    mid = written.strip().removeprefix("mid:").strip()
    if written.strip().startswith("mid:"):
        if not mid.startswith("/"):
            raise ConfigError(f"{place}: an id looks like mid:/m/0bt9lr")
        return f"mid:{mid}"
    if not term:
        raise ConfigError(f"{place} is empty")
    return term


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


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


def _read_labels(labels: Any) -> list[tuple[str, str, float]]:
    """(`mid:` and id, plain description, score) of each label."""
    if not isinstance(labels, list):
        raise ProviderError("malformed_answer", "no list of labels in the answer")
    try:
        told = [(f"mid:{label['mid']}", _plain(label["description"]), label["score"]) for label in labels]
    except (KeyError, TypeError, AttributeError) as error:
        raise ProviderError("malformed_answer", f"a label without its parts: {error}") from None
    for _, name, score in told:
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise ProviderError("bad_probability", f"label {name[:100]!r} has the score {str(score)[:40]!r}")
    return [(mid, name, binary32(score)) for mid, name, score in told]


def _read_grade(grade: Any) -> float | None:
    """None is UNKNOWN."""
    if grade == "UNKNOWN":
        return None
    if not isinstance(grade, str) or grade not in _GRADES:
        raise ProviderError("malformed_answer", f"{str(grade)[:40]!r} is no grade of safe search")
    return _GRADES[grade]
