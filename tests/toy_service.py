"""A toy service on a real socket: how bright is it? And the approach that asks it, with what services are made of.

Run as a program, this file is the stand-in (`serve`), or, with `classify` first, a run against one.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from PIL import Image

from servers.base import Reply, Seen, StandIn, serve
from workbench.approaches.base import Answer, Estimate, Options, Setting, read_options
from workbench.canonical import binary32, digest
from workbench.dataset.images import COLUMNS, PROBLEM_COLUMNS, Dataset
from workbench.errors import CredentialsError, ProviderError, ServiceBusyError
from workbench.prepare.decode import Preparation, Prepared
from workbench.records import Taxonomy
from workbench.runs.cache import AnswerCache
from workbench.runs.limits import Limits
from workbench.runs.runner import classify

TAXONOMY = Taxonomy(("dark", "bright"), unknown="grey")
PRICE = 0.25
PREPARATION = Preparation(8, 8, "stretch")


class ToyServer(StandIn):
    """Answers with the brightness it was sent."""

    def __init__(self, *, latency: float = 0.0, rate: float | None = None) -> None:
        super().__init__(latency=latency, rate=rate)
        self.version: Callable[[Mapping[str, Any]], str] = lambda _: "toy-1"
        self.cost: Callable[[Mapping[str, Any]], float] = lambda _: PRICE
        self.retry_after: float | None = None
        self.charged = 0.0
        """For everything that was answered."""
        self.most_at_once = 0
        self._at_once = 0

    def reply(self, seen: Seen) -> Reply:
        with self.lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return super().reply(seen)
        finally:
            with self.lock:
                self._at_once -= 1

    def answer(self, seen: Seen) -> Reply:
        asked = seen.json
        cost = self.cost(asked)
        with self.lock:
            self.charged += cost
        content = {"mean": asked["mean"], "version": self.version(asked), "cost": cost}
        return Reply(200, json.dumps(content).encode())

    def throttled(self, seen: Seen) -> Reply:
        return Reply(429, b"{}", {} if self.retry_after is None else {"Retry-After": str(self.retry_after)})

    @property
    def asked(self) -> list[tuple[str, int]]:
        """Pixels and part of everything that arrived, in order."""
        return [(seen.json["pixels"], seen.json["part"]) for seen in self.seen]


class ToyOptions(Options):
    url: str = ""
    key: str = "right"
    model_version: str = ""


def _read(raw: Mapping[str, Any]) -> Mapping[str, float]:
    answers = raw.get("parts", [raw])
    bright = binary32(sum(one["mean"] for one in answers) / len(answers) / 255)
    return {"dark": binary32(1 - bright), "bright": bright}


@dataclass
class ToyService:
    """Asks a `ToyServer`."""

    url: str
    read: Callable[[Mapping[str, Any]], Mapping[str, float]] = _read
    key: str = "right"
    model: str = "toy"
    parts: int = 1
    rate: float = 0.0
    low_usd: float | None = PRICE
    high_usd: float | None = PRICE
    hourly_usd: float | None = 0.0
    price_note: str = ""
    model_version: str = ""
    parallel: int = 4
    preparation: Preparation = PREPARATION
    taxonomy: Taxonomy = TAXONOMY
    name: str = "toy"
    complete: bool = True
    scores_unknown: bool = False
    floors: Mapping[str, float] = field(default_factory=dict)

    @property
    def question(self) -> str:
        return digest([self.model, self.preparation.id])

    @property
    def fingerprint(self) -> str:
        whole = digest([self.question, self.taxonomy.digest, self.parts])
        pinned = digest({"fingerprint": whole, "model_version": self.model_version})
        return pinned if self.model_version else whole

    @classmethod
    def build(cls, setting: Setting) -> ToyService:
        options = read_options(ToyOptions, "toy", setting)
        return cls(options.url, key=options.key, model_version=options.model_version, taxonomy=setting.taxonomy)

    @classmethod
    def lacks(cls, setting: Setting) -> str:
        return "" if read_options(ToyOptions, "toy", setting).key else "no key: write one in [approaches.toy]"

    def estimate(self, width: int, height: int) -> Estimate:
        return Estimate(self.low_usd, self.high_usd, width * height, (1, 10))

    def request(self, prepared: Prepared, part: int = 0) -> dict[str, Any]:
        return {"pixels": prepared.digest, "mean": float(prepared.pixels.mean()), "part": part}

    def ask(self, request: dict[str, Any]) -> Answer:
        line = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            line.request("POST", "/", json.dumps(request), {"Authorization": self.key})
            answer = line.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServiceBusyError(f"no answer: {type(error).__name__}", billed=True) from None
        finally:
            line.close()
        return self._answer(answer.status, answer.headers, body)

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
        wait = headers.get("Retry-After")
        if status == 429:
            raise ServiceBusyError("too fast", throttled=True, retry_after=None if wait is None else float(wait))
        if status >= 500:
            raise ServiceBusyError(f"status {status}", retry_after=None if wait is None else float(wait))
        if status == 401:
            raise CredentialsError("the key is not taken; write the right one in [approaches.toy]")
        if status != 200:
            raise ProviderError("provider_error", f"status {status}")
        content = json.loads(body)
        return Answer({"mean": content["mean"]}, content["version"], content["cost"])

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        return self.read(raw)


@dataclass
class ToyStanding(ToyService):
    """One that has to be switched on."""

    start_seconds: float = 1200.0
    on: bool = False
    said: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)
    journal: Path | None = None
    """Where starts and stops are written down, for a process that will be killed."""
    broken: bool = False

    def start(self, say: Callable[[str], None]) -> None:
        self._note("start")
        say("toy: switching on")
        if self.broken:
            raise ProviderError("provider_error", "it does not start")
        self.on = True

    def stop(self, say: Callable[[str], None]) -> None:
        self._note("stop")
        self.on = False

    def ask(self, request: dict[str, Any]) -> Answer:
        assert self.on, "asked while it is off"
        return super().ask(request)

    def _note(self, what: str) -> None:
        with self.lock:
            self.said.append(what)
            if self.journal:
                with self.journal.open("a") as journal:
                    journal.write(what + "\n")


def paint(root: Path, count: int, first: int = 0) -> Dataset:
    """So many different pictures below `root`: 8 × 8, each of a brightness of its own."""
    root.mkdir(exist_ok=True)
    names = [f"{number:04}.png" for number in range(first, first + count)]
    for number, name in enumerate(names, start=first):
        pixels = np.full((8, 8, 3), number % 251, dtype=np.uint8)
        pixels[0, 0] = (number % 256, number // 256, 7)
        Image.fromarray(pixels).save(root / name)
    return dataset_of(root, names)


def dataset_of(root: Path, names: list[str]) -> Dataset:
    columns = {
        "image_id": names,
        "path": names,
        "labels": [("dark",)] * len(names),
        "split": "tune",
        "group": names,
        "weight": 1.0,
        "source": "",
    }
    frame = pd.DataFrame(columns, columns=list(COLUMNS))
    return Dataset("toys", root, TAXONOMY, frame, pd.DataFrame(columns=list(PROBLEM_COLUMNS)))


def run(url: str, folder: str, store: str, journal: str, in_flight: str) -> None:
    """`classify` as a process of its own, for a test that ends it."""
    root = Path(folder)
    dataset = dataset_of(root, sorted(path.name for path in root.iterdir()))
    toy = ToyStanding(url, hourly_usd=1.0, journal=Path(journal)) if journal != "-" else ToyService(url)
    with AnswerCache(Path(store)) as cache:
        classify(dataset, toy, cache, limits=Limits(max_in_flight=int(in_flight)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["classify"]:
        run(*sys.argv[2:])
    else:
        serve(ToyServer)
