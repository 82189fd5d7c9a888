"""A stand-in for Amazon Rekognition: two operations, and the limits that clients do not check."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image, ImageOps

from servers.aws_json import AwsJson, RefusedError
from servers.base import serve
from servers.eyes import kinds_in
from workbench.config.prices import packaged_prices

Sight = Callable[[Image.Image], Mapping[str, float]]
"""Upright RGB image → confidence (0 to 100) by name of label."""


@dataclass(frozen=True)
class ImageLimits:
    """What an operation takes."""

    most_bytes: int = 5_242_880
    most_stored_bytes: int = 15 * 2**20
    """Of an object in S3."""
    least_side: int = 80
    most_side: int = 10_000
    slimmest: float = 0.0
    """Longer side over shorter; 0: any."""


@dataclass(frozen=True)
class Known:
    """What the label vocabulary says of a label."""

    parents: tuple[str, ...] = ()
    """All ancestors."""
    aliases: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


VOCABULARY: Mapping[str, Known] = {
    "Shape": Known(categories=("Patterns and Shapes",)),
    "Pattern": Known(categories=("Patterns and Shapes",)),
    "Disc": Known(("Shape",), ("Circle",), ("Patterns and Shapes",)),
    "Stripes": Known(("Pattern",), ("Bands",), ("Patterns and Shapes", "Textiles")),
    "Checks": Known(("Pattern",), ("Chessboard", "Squares"), ("Patterns and Shapes",)),
}
MODERATION: Mapping[str, str] = {
    "Explicit": "",
    "Explicit Nudity": "Explicit",
    "Exposed Male Genitalia": "Explicit Nudity",
    "Violence": "",
    "Weapons": "Violence",
    "Drugs & Tobacco": "",
    "Products": "Drugs & Tobacco",
    "Pills": "Products",
    "Alcohol": "",
    "Alcoholic Beverages": "Alcohol",
    "Gambling": "",
}
"""Label → its parent, "" at level 1. A part of the vocabulary."""

_PRICES = {
    "DetectLabels": "rekognition/detect-labels",
    "DetectModerationLabels": "rekognition/detect-moderation-labels",
}
_MOST_LABELS = 1000
_USUAL_CONFIDENCE = {"DetectLabels": 55.0, "DetectModerationLabels": 50.0}


def labels_seen(image: Image.Image) -> Mapping[str, float]:
    """Disc, Stripes and Checks, where they are."""
    return {name.capitalize(): 100 * value for name, value in kinds_in(image).items() if value}


def moderation_seen(image: Image.Image) -> Mapping[str, float]:
    """A label of each level: discs gamble, stripes drink, checks are pills."""
    means = {"disc": "Gambling", "stripes": "Alcoholic Beverages", "checks": "Pills"}
    return {means[name]: 100 * value for name, value in kinds_in(image).items() if value}


class Rekognition(AwsJson):
    """Sees what `labels` and `moderation` say; a label's ancestors are labels too, as sure as their surest child."""

    service = "rekognition"

    def __init__(
        self,
        labels: Sight = labels_seen,
        moderation: Sight = moderation_seen,
        *,
        latency: float = 0.0,
        rate: float | None = None,
    ) -> None:
        super().__init__(latency=latency, rate=rate)
        self.labels = labels
        self.moderation = moderation
        self.vocabulary = dict(VOCABULARY)
        self.label_model_version = "3.0"
        """May be changed while it runs, as the ones below."""
        self.moderation_model_version = "7.0"
        self.content_types: Mapping[str, float] = {}
        self.adapters: dict[str, Sight | None] = {}
        """ARN of a moderation adapter → what it sees; None once it has expired: then the base model answers."""
        self.objects: dict[tuple[str, str], bytes] = {}
        """Bucket and name → what is stored in S3."""
        self.billed: Counter[str] = Counter()
        """By operation: images that were answered; a failed call is not billed."""
        self.operations |= {"DetectLabels": self.detect_labels, "DetectModerationLabels": self.detect_moderation_labels}

    @property
    def arrived(self) -> list[bytes]:
        """The image files that requests carried, in order."""
        images = [json.loads(seen.body).get("Image", {}) for seen in self.seen if seen.body]
        return [b64decode(image["Bytes"]) for image in images if "Bytes" in image]

    @property
    def bill_usd(self) -> float:
        """What was charged per image so far."""
        prices = packaged_prices()
        return sum(count * (prices.of(_PRICES[name]) or 0.0) for name, count in self.billed.items() if name in _PRICES)

    def detect_labels(self, given: dict[str, Any]) -> dict[str, Any]:
        features = given.get("Features") or ["GENERAL_LABELS"]
        if "GENERAL_LABELS" not in features and {"MinConfidence", "MaxLabels"} & given.keys():
            raise RefusedError("InvalidParameterException", "MaxLabels and MinConfidence need GENERAL_LABELS")
        image = self.picture(given["Image"], ImageLimits())
        self.bill("DetectLabels")
        answer: dict[str, Any] = {"LabelModelVersion": self.label_model_version}
        if "GENERAL_LABELS" in features:
            lowest = given.get("MinConfidence", _USUAL_CONFIDENCE["DetectLabels"])
            most = min(given.get("MaxLabels", _MOST_LABELS), _MOST_LABELS)
            chosen = _chosen(given.get("Settings", {}).get("GeneralLabels", {}))
            sure = _with_ancestors(self.labels(image), lambda name: self._known(name).parents)
            rows = [self._label(name, value) for name, value in _ranked(sure) if value >= lowest]
            answer["Labels"] = [row for row in rows if chosen(row)][:most]
        if "IMAGE_PROPERTIES" in features:
            grey = image.convert("L").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
            answer["ImageProperties"] = {"Quality": {"Brightness": float(grey) / 2.55}}
        return answer

    def detect_moderation_labels(self, given: dict[str, Any]) -> dict[str, Any]:
        image = self.picture(given["Image"], ImageLimits())
        adapter = given.get("ProjectVersion")
        if adapter is not None and adapter not in self.adapters:
            raise RefusedError("ResourceNotFoundException", f"The adapter {adapter} cannot be found.")
        self.bill("DetectModerationLabels")
        adapted = self.adapters.get(adapter) if adapter else None
        lowest = given.get("MinConfidence", _USUAL_CONFIDENCE["DetectModerationLabels"])
        sure = _with_ancestors((adapted or self.moderation)(image), _moderation_ancestors)
        rows = [
            {
                "Name": name,
                "Confidence": value,
                "ParentName": MODERATION.get(name, ""),
                "TaxonomyLevel": 1 + len(_moderation_ancestors(name)),
            }
            for name, value in _ranked(sure)
            if value >= lowest
        ]
        types = [{"Name": name, "Confidence": value} for name, value in self.content_types.items()]
        answer = {
            "ModerationLabels": rows,
            "ModerationModelVersion": self.moderation_model_version,
            "ContentTypes": types,
        }
        return answer | ({"ProjectVersion": adapter} if adapted else {})

    def picture(self, source: dict[str, Any], limits: ImageLimits) -> Image.Image:
        """The image of a request, upright and in RGB; refused as the service refuses it."""
        if len(source) != 1:
            raise RefusedError("InvalidParameterException", "Request has invalid parameters: one of Bytes and S3Object")
        data, most = source.get("Bytes"), limits.most_bytes
        if data is None:
            where = source["S3Object"].get("Bucket", ""), source["S3Object"].get("Name", "")
            data, most = self.objects.get(where), limits.most_stored_bytes
            if data is None:
                said = "Unable to get object metadata from S3. Check object key, region and/or access permissions."
                raise RefusedError("InvalidS3ObjectException", said)
        if not data:
            raise RefusedError("InvalidParameterException", "Request has invalid parameters: an image of no bytes")
        if len(data) > most:
            raise RefusedError("ImageTooLargeException", "Image size is too large.")
        return _decoded(data, limits)

    def bill(self, operation: str) -> None:
        with self.lock:
            self.billed[operation] += 1

    def _known(self, name: str) -> Known:
        return self.vocabulary.get(name, Known())

    def _label(self, name: str, value: float) -> dict[str, Any]:
        known = self._known(name)
        box = {"BoundingBox": {"Width": 1.0, "Height": 1.0, "Left": 0.0, "Top": 0.0}, "Confidence": value}
        return {
            "Name": name,
            "Confidence": value,
            "Instances": [{**box, "DominantColors": []}] if known.parents else [],
            "Parents": [{"Name": parent} for parent in known.parents],
            "Aliases": [{"Name": alias} for alias in known.aliases],
            "Categories": [{"Name": category} for category in known.categories],
        }


def _decoded(data: bytes, limits: ImageLimits) -> Image.Image:
    try:
        with Image.open(BytesIO(data), formats=["PNG", "JPEG"]) as image:
            width, height = image.size
            if max(width, height) > limits.most_side:
                said = f"Input image dimensions {width} x {height} exceed maximum dimension size of"
                raise RefusedError("ImageTooLargeException", f"{said} {limits.most_side} pixels")
            slim = limits.slimmest and max(width, height) > limits.slimmest * min(width, height)
            if min(width, height) < limits.least_side or slim:
                raise RefusedError("InvalidParameterException", "Request has invalid parameters")
            image.load()
            upright = ImageOps.exif_transpose(image) if image.format == "JPEG" else image
            return upright.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise RefusedError("InvalidImageFormatException", "Request has invalid image format") from None


def _with_ancestors(seen: Mapping[str, float], ancestors: Callable[[str], tuple[str, ...]]) -> dict[str, float]:
    sure = dict(seen)
    for name, value in seen.items():
        for parent in ancestors(name):
            sure[parent] = max(value, sure.get(parent, 0.0))
    return sure


def _moderation_ancestors(name: str) -> tuple[str, ...]:
    parent = MODERATION.get(name, "")
    return (*_moderation_ancestors(parent), parent) if parent else ()


def _ranked(sure: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(sure.items(), key=lambda item: (-item[1], item[0]))


def _chosen(settings: Mapping[str, list[str]]) -> Callable[[Mapping[str, Any]], bool]:
    """The inclusion and exclusion filters of a request."""

    def names(row: Mapping[str, Any], kind: str) -> set[str]:
        return {row["Name"]} if kind == "Label" else {item["Name"] for item in row["Categories"]}

    def chosen(row: Mapping[str, Any]) -> bool:
        kinds = ("Label", "LabelCategory")
        wanted = [kind for kind in kinds if settings.get(f"{kind}InclusionFilters")]
        included = any(names(row, kind) & set(settings[f"{kind}InclusionFilters"]) for kind in wanted)
        excluded = any(names(row, kind) & set(settings.get(f"{kind}ExclusionFilters", ())) for kind in kinds)
        return (included or not wanted) and not excluded

    return chosen


if __name__ == "__main__":
    serve(Rekognition)
