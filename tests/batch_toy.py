"""A small approach that takes batches, over HTTP. Run as a script: a run in batches that may be killed."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from PIL import Image

from workbench.approaches.base import Answer, Batch, Estimate, Setting
from workbench.canonical import binary32, digest
from workbench.dataset.images import COLUMNS, PROBLEM_COLUMNS, Dataset
from workbench.errors import CredentialsError, ProviderError, ServiceBusyError
from workbench.predictions import PredictionTable, write_predictions
from workbench.prepare.decode import Preparation, Prepared
from workbench.records import Taxonomy
from workbench.runs.batches import classify_in_batches
from workbench.runs.cache import AnswerCache
from workbench.runs.handover import Clock

TAXONOMY = Taxonomy(("dark", "bright"), unknown="grey")
PREPARATION = Preparation(8, 8, "stretch")
LIVE, BULK, WORST = 1.0, 0.5, 0.75
"""USD for a question asked by itself, in a batch, and in a batch at most."""
PATH = "/v1/messages/batches"


@dataclass
class Toy:
    """How bright is it? Asked by itself or in batches."""

    url: str
    parts: int = 1
    expects: str = ""
    most_questions: int = 100_000
    most_bytes: int = 256_000_000
    kept_days: int = 29
    worst: float | None = WORST
    name: str = "toy"
    taxonomy: Taxonomy = TAXONOMY
    preparation: Preparation = PREPARATION
    model_version: str = ""
    complete: bool = True
    scores_unknown: bool = False
    floors: Mapping[str, float] = field(default_factory=dict)
    parallel: int = 3
    rate: float = 0.0
    hourly_usd: float | None = 0.0
    price_note: str = ""

    @property
    def question(self) -> str:
        return digest([self.name, self.preparation.id])

    @property
    def fingerprint(self) -> str:
        return digest([self.question, self.taxonomy.digest])

    @classmethod
    def build(cls, setting: Setting) -> Toy:
        return cls("")

    @classmethod
    def lacks(cls, setting: Setting) -> str:
        return ""

    def estimate(self, width: int, height: int) -> Estimate:
        return Estimate(LIVE, LIVE)

    def batch_estimate(self, width: int, height: int) -> Estimate:
        return Estimate(BULK, self.worst)

    def request(self, prepared: Prepared, part: int = 0) -> dict[str, Any]:
        mean = float(prepared.pixels.mean())
        if mean == 13:
            raise ProviderError("provider_error", "13 cannot be put into words")
        return {"mean": mean, "part": part}

    def ask(self, request: Mapping[str, Any]) -> Answer:
        return self._read(self._call("POST", "/ask", request), LIVE)

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        means = [json.loads(one["text"])["mean"] for one in raw.get("parts", [raw])]
        if 99 in means:
            raise ProviderError("refusal", "99 is not talked about")
        return {"dark": binary32(1 - np.mean(means) / 255), "bright": binary32(np.mean(means) / 255)}

    def weight(self, request: Mapping[str, Any]) -> int:
        return len(json.dumps(request)) + 100

    def submit(self, requests: Mapping[str, Any]) -> Batch:
        body = {"requests": [{"custom_id": name, "params": params} for name, params in requests.items()]}
        return self._batch(self._call("POST", PATH, body))

    def batches(self) -> Iterator[Batch]:
        after = ""
        while True:
            page = self._call("GET", f"{PATH}?limit=2{after}")
            yield from map(self._batch, page["data"])
            if not page["has_more"]:
                return
            after = f"&after_id={page['last_id']}"

    def poll(self, batch: str) -> Batch | None:
        try:
            return self._batch(self._call("GET", f"{PATH}/{batch}"))
        except KeyError:
            return None

    def collect(self, batch: str) -> Iterator[tuple[str, Answer | ProviderError]]:
        for line in self._call("GET", f"{PATH}/{batch}/results"):
            result = line["result"]
            if result["type"] == "succeeded":
                yield line["custom_id"], self._read(result["message"], BULK)
            else:
                yield line["custom_id"], ProviderError("provider_error", result["type"])

    def _read(self, message: Any, cost: float) -> Answer:
        return Answer({"text": message["content"][0]["text"]}, message["model"], cost)

    def _batch(self, shown: Any) -> Batch:
        ended = shown["processing_status"] == "ended"
        seconds = pd.Timedelta(pd.Timestamp(shown["ended_at"]) - pd.Timestamp(shown["created_at"])) if ended else None
        return Batch(
            shown["id"],
            shown["created_at"],
            sum(shown["request_counts"].values()),
            ended,
            seconds.total_seconds() if seconds is not None else 0.0,
            ended and shown["archived_at"] is not None,
        )

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        where = urlsplit(self.url)
        with closing(http.client.HTTPConnection(str(where.hostname), where.port, timeout=60)) as connection:
            try:
                connection.request(method, path, None if body is None else json.dumps(body))
                reply = connection.getresponse()
                data = reply.read()
            except ConnectionRefusedError:
                raise ServiceBusyError("nobody is there") from None
            except (OSError, http.client.HTTPException) as error:
                raise ServiceBusyError(type(error).__name__, billed=True) from None
        match reply.status:
            case 200:
                return [json.loads(line) for line in data.splitlines()] if "results" in path else json.loads(data)
            case 401:
                raise CredentialsError("who are you?")
            case 404:
                raise KeyError(path)
            case 429:
                raise ServiceBusyError("too fast", throttled=True)
            case status if status >= 500:
                raise ServiceBusyError(str(status), billed=True)
        raise ProviderError("provider_error", json.loads(data)["error"]["message"])


def greys(root: Path, values: Sequence[int]) -> Dataset:
    """One PNG per value: 000.png, 001.png …"""
    root.mkdir(exist_ok=True)
    names = [f"{place:03}.png" for place in range(len(values))]
    for name, grey in zip(names, values, strict=True):
        Image.new("RGB", (8, 8), (grey, grey, grey)).save(root / name)
    return dataset_of(root, names)


def dataset_of(root: Path, names: Sequence[str]) -> Dataset:
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


def main(folder: str, store: str, url: str, out: str) -> None:
    root = Path(folder)
    dataset = dataset_of(root, sorted(path.name for path in root.iterdir()))
    clock = Clock(sleep=lambda seconds: time.sleep(min(seconds, 0.02)))
    with AnswerCache(Path(store) / "answers.sqlite") as cache:
        table = classify_in_batches(dataset, Toy(url), cache, Path(store), clock=clock)
    assert isinstance(table, PredictionTable)
    write_predictions(table, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
