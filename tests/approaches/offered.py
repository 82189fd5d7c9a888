"""How every approach of the dictionary is tried: what it is built from, who answers it, what is particular to it.

A service is asked by its real client at a stand-in on the loopback interface, with credentials that are planted here.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from drawn import KINDS
from servers import anthropic, aws_json, custom_labels, google, rekognition
from servers.base import Reply, Seen, StandIn
from servers.custom_world import storage_server

TOY = "brightness"
"""The approach that ARCHITECTURE.md shows; it stands in no dictionary."""
_BUCKET = "contract"

Build = Callable[..., Any]
"""A setting, in place of the usual one → the approach of a case, which is closed after the test."""


@dataclass(frozen=True)
class Service:
    """What tests have to know of a service."""

    stand_in: Callable[[], AbstractContextManager[StandIn]]
    options: Callable[[StandIn], Mapping[str, Any]]
    """Those that lead to it."""
    image: Callable[[Seen], bytes]
    """The image file within a request."""
    error: Callable[[str], Reply]
    """What the service sends about a faulty image (HTTP 400), with these words."""
    denied: Reply
    """What it sends to whom it does not let in."""
    most_bytes: int
    """Of an image file."""
    sides: tuple[int, int]
    """Pixels: of the shorter side at least, of the longer at most."""
    asked_otherwise: tuple[Mapping[str, Any], ...]
    """Options that make another question."""


@dataclass(frozen=True)
class Case:
    """One way to try one approach."""

    name: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    other_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """A label map that reads the same answers differently."""
    other_options: Mapping[str, Any] = field(default_factory=dict)
    """Options that do, where there is no label map."""
    categories: tuple[str, ...] = KINDS
    """Of the taxonomy it is built for."""
    service: Service | None = None


def _aws_image(seen: Seen) -> bytes:
    return base64.b64decode(json.loads(seen.body)["Image"]["Bytes"])


def _google_image(seen: Seen) -> bytes:
    return base64.b64decode(seen.json["requests"][0]["image"]["content"])


def _claude_image(seen: Seen) -> bytes:
    (image,) = [block for block in seen.json["messages"][0]["content"] if block["type"] == "image"]
    return base64.b64decode(image["source"]["data"])


_GOOGLE = Service(
    stand_in=google.GoogleVision,
    options=lambda server: {"endpoint": server.url},
    image=_google_image,
    error=lambda words: google.refused(400, words),
    denied=google.refused(403, "Cloud Vision API has not been enabled."),
    most_bytes=4 * 2**20,
    sides=(64, 1024),
    asked_otherwise=({"model": "builtin/latest"},),
)
_REKOGNITION = Service(
    stand_in=rekognition.Rekognition,
    options=lambda server: {"endpoint_url": server.url},
    image=_aws_image,
    error=lambda words: aws_json.failure("InvalidParameterException", words),
    denied=aws_json.failure("AccessDeniedException", "not authorized to perform this"),
    most_bytes=5_242_880,
    sides=(80, 10_000),
    asked_otherwise=({"min_confidence": 30.0}, {"max_side": 1000}),
)


@contextmanager
def _custom_labels() -> Iterator[custom_labels.CustomLabels]:
    """With S3 and a bucket beside it; its hours pass in no time."""
    with storage_server() as storage:
        storage.client.create_bucket(Bucket=_BUCKET)
        with custom_labels.CustomLabels(storage.client, speed=1e7) as server:
            yield server


def _custom_options(server: StandIn) -> Mapping[str, Any]:
    assert isinstance(server, custom_labels.CustomLabels)
    storage = server.s3.meta.endpoint_url
    return {"endpoint_url": server.url, "s3_endpoint_url": storage, "bucket": _BUCKET, "poll_seconds": 0.01}


_CUSTOM = replace(
    _REKOGNITION,
    stand_in=_custom_labels,
    options=_custom_options,
    most_bytes=4_000_000,
    sides=(64, 4096),
    asked_otherwise=(),
)
_CLAUDE = Service(
    stand_in=anthropic.Anthropic,
    options=lambda server: {"base_url": server.url},
    image=_claude_image,
    error=lambda words: anthropic.error(400, "invalid_request_error", words),
    denied=anthropic.error(401, "authentication_error", "invalid x-api-key"),
    most_bytes=7_500_000,
    sides=(1, 8000),
    asked_otherwise=({"model": "claude-sonnet-5-5"}, {"max_tokens": 500}, {"definitions": {"disc": "round"}}),
)

CASES: Mapping[str, Case] = {
    TOY: Case(TOY, categories=("day", "night")),
    "local-cnn": Case(
        "local-cnn",
        {"disc": ("ping-pong ball",), "stripes": ("window shade",), "checks": ("crossword puzzle", "532")},
        other_labels={"disc": ("golf ball",), "stripes": ("window shade",), "checks": ("532",)},
    ),
    "local-trained": Case("local-trained"),
    "local-moderation": Case(
        "local-moderation",
        {"disc": ("nsfw",), "stripes": ("sfw",), "checks": ("sfw",)},
        other_labels={"disc": ("sfw",), "stripes": ("sfw",), "checks": ("nsfw",)},
    ),
    "rekognition-labels": Case(
        "rekognition-labels",
        {"disc": ("disc",), "stripes": ("alias:bands",), "checks": ("Checks",)},
        other_labels={"disc": ("parent:shape",), "stripes": ("stripes",), "checks": ("category:textiles",)},
        service=_REKOGNITION,
    ),
    "rekognition-moderation": Case(
        "rekognition-moderation",
        {"disc": ("gambling",), "stripes": ("alcohol",), "checks": ("parent:products",)},
        other_labels={"disc": ("gambling",), "stripes": ("parent:alcohol",), "checks": ("pills",)},
        service=_REKOGNITION,
    ),
    "rekognition-custom": Case(
        "rekognition-custom",
        other_labels={"disc": ("stripes",), "stripes": ("disc",), "checks": ("checks",)},
        service=_CUSTOM,
    ),
    "claude": Case("claude", other_options={"samples": 2}, service=_CLAUDE),
    "google-vision": Case(
        "google-vision",
        {"disc": ("disc",), "stripes": ("stripes",), "checks": ("mid:/m/0ch3ck",)},
        other_labels={"disc": ("disc",), "stripes": ("stripes",), "checks": ("picture",)},
        service=_GOOGLE,
    ),
    "google-vision, safe search": Case(
        "google-vision",
        {"disc": ("adult",), "stripes": ("violence",), "checks": ("racy", "spoof")},
        {"feature": "safe-search"},
        other_labels={"disc": ("adult",), "stripes": ("racy",), "checks": ("violence",)},
        service=_GOOGLE,
    ),
}
"""By what a test's name shows."""

SECRETS = ("planted/aws/secret", "planted-aws-session", "sk-ant-planted")


def credentials(folder: Path) -> dict[str, str]:
    """Environment variables under which every service finds credentials; `folder` gets the files."""
    return {
        "AWS_ACCESS_KEY_ID": "AKIAPLANTED",
        "AWS_SECRET_ACCESS_KEY": SECRETS[0],
        "AWS_SESSION_TOKEN": SECRETS[1],
        "AWS_DEFAULT_REGION": "us-east-1",
        "ANTHROPIC_API_KEY": SECRETS[2],
        "GOOGLE_APPLICATION_CREDENTIALS": str(google.key_file(folder)),
    }


def nowhere(folder: Path) -> dict[str, str]:
    """Environment variables under which clients look for credentials in an empty folder."""
    return {
        "HOME": str(folder),
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "XDG_CONFIG_HOME": str(folder),
    }


def toy() -> ModuleType:
    """The class that ARCHITECTURE.md shows, as it stands there, in a module of its own."""
    text = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    shown = re.search(r"\*\*An approach\.\*\*.*?```python\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    module = ModuleType("the_toy")
    sys.modules[module.__name__] = module
    exec(_IMPORTS + shown[1], vars(module))  # noqa: S102  the page's own code is what is tried
    return module


_IMPORTS = """
from __future__ import annotations
from collections.abc import Mapping
from typing import Any
import numpy as np
from workbench.approaches.base import Answer, Setting
from workbench.canonical import binary32, digest
from workbench.errors import ProviderError
from workbench.prepare.decode import Preparation, Prepared
from workbench.records import Taxonomy
"""
