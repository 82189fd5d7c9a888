"""Images per second of `workbench classify` against a service that admits 100 calls per second, from process start.

The service is a stand-in in a process of its own on this machine (wire protocol and client are real): 80 ms for an
answer, and a bucket that saves up one second's worth of calls, so that a client that knows the rate could begin with a
hundred at once; this one saves up three quarters of a second's worth at most. The peer is what people write first, the
bare client in a thread pool: told the same rate by spreading its calls evenly, and told none. Everything is measured
from the start of the process to its end, with decoding, the cache and the table that is written. Then the same run
again, which asks nothing, and ten thousand pictures through the local network, twice. `runner.py service` leaves the
network out, `runner.py local` the service.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TESTS = Path(__file__).parents[1] / "tests"
WORKBENCH = Path(sysconfig.get_path("scripts")) / "workbench"
IMAGES, LOCAL_IMAGES = 2_000, 10_000
RATE, LATENCY, ERRORS = 100, 0.08, 0.03
KINDS = ("disc", "stripes", "checks")
PROJECT = """
[dataset]
path = "manifest.csv"
name = "bench"
[taxonomy]
categories = ["disc", "stripes", "checks"]
[approaches.local-cnn.labels]
disc = ["plate"]
stripes = ["zebra"]
checks = ["crossword puzzle"]
[approaches.rekognition-labels]
region = "us-east-1"
endpoint_url = "{url}"
[approaches.rekognition-labels.labels]
disc = ["Disc"]
stripes = ["Stripes"]
checks = ["Checks"]
"""
AWS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass
class Service:
    """A stand-in that runs, and, once it has ended, what it sent."""

    url: str
    replies: Mapping[str, int] = field(default_factory=dict)


def paint(root: Path, count: int, side: int) -> None:
    """So many different pictures, none like another."""
    root.mkdir()
    y, x = np.mgrid[:side, :side]
    lines = ["image,label"]
    for number in range(count):
        rng = np.random.default_rng(number)
        step = side // 8
        shape = (
            (x - side / 2) ** 2 + (y - side / 2) ** 2 < (side / 3) ** 2,
            x // step % 2 == 0,
            (x + y) // step % 2 == 0,
        )
        pixels = np.empty((side, side, 3), np.uint8)
        pixels[:] = rng.integers(200, 256, 3)
        pixels[shape[number % 3]] = rng.integers(0, 130, 3)
        pixels[0, :2] = (number % 256, number // 256, 0), (0, number // 256, number % 256)
        Image.fromarray(pixels).save(root / f"{number:05}.png", compress_level=1)
        lines.append(f"{number:05}.png,{KINDS[number % 3]}")
    (root / "manifest.csv").write_text("\n".join(lines))


@contextmanager
def service(errors: float = 0.0) -> Iterator[Service]:
    command = [sys.executable, __file__, "serve", "--latency", str(LATENCY), "--rate", str(RATE)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "BENCH_ERRORS": str(errors)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    running = Service(process.stdout.readline().strip())
    try:
        yield running
    finally:
        out, _ = process.communicate("")
        running.replies = json.loads(out)["replies"]


def serve() -> None:
    """The stand-in, with a share of 503s."""
    from servers.base import Reply, Seen
    from servers.base import serve as run
    from servers.rekognition import Rekognition

    errors = float(os.environ["BENCH_ERRORS"])
    lock = threading.Lock()
    seen = 0

    def fault(_: Seen) -> Reply | None:
        nonlocal seen
        with lock:
            seen += 1
            return Reply(503, b"{}") if errors and seen % round(1 / errors) == 0 else None

    def make(**options: Any) -> Rekognition:
        server = Rekognition(**options)
        server.fault = fault
        return server

    run(make)


def ask_bare(url: str, folder: str, rate: float) -> None:
    """The peer: the bare client in a thread pool; answers are kept in memory alone."""
    import boto3
    from botocore.config import Config

    client = boto3.client("rekognition", endpoint_url=url, config=Config(max_pool_connections=50))
    start = time.monotonic()

    def ask(place: int, path: Path) -> Any:
        if rate:
            time.sleep(max(0.0, start + place / rate - time.monotonic()))
        try:
            return client.detect_labels(Image={"Bytes": path.read_bytes()})["Labels"]
        except client.exceptions.ClientError as error:
            return str(error)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, *zip(*enumerate(sorted(Path(folder).glob("*.png"))), strict=True)))
    failed = sum(isinstance(answer, str) for answer in answers)
    sys.stdout.write(json.dumps({"answered": len(answers) - failed, "failed": failed}))


def timed(*command: object, store: Path) -> tuple[float, dict[str, Any]]:
    """Seconds from the start of a program to its end, and the JSON that it prints."""
    environment = {**os.environ, **AWS, "WORKBENCH_STORE": str(store)}
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr)
    return seconds, json.loads(done.stdout)


def classify(folder: Path, approach: str, store: Path, *options: object) -> tuple[float, dict[str, Any]]:
    out = store.parent / f"{store.name}.parquet"
    arguments = (folder / "workbench.toml", "--approach", approach, "-o", out, "--json", *options)
    return timed(WORKBENCH, "classify", *arguments, store=store)


def line(what: str, seconds: float, images: int, more: str = "") -> None:
    print(f"{what:<44} {seconds:8.2f} s {images / seconds:10.1f} images/s   {more}")


def measure_service(folder: Path, images: Path) -> None:
    def point(url: str) -> None:
        (images / "workbench.toml").write_text(PROJECT.format(url=url))

    with service() as running:
        point(running.url)
        first, told = classify(images, "rekognition-labels", folder / "one", "--max-rate", RATE)
    assert told["outcomes"] == {"ok": IMAGES}, told
    ours = running.replies
    line(f"workbench, told {RATE} calls/s", first, IMAGES, f"replies {ours}")
    again, told = classify(images, "rekognition-labels", folder / "one", "--max-rate", RATE)
    assert (told["asked"], told["cached"]) == (0, IMAGES), told
    line("the same again, all kept", again, IMAGES, f"{first / again:.1f} × as fast")
    with service(ERRORS) as running:
        point(running.url)
        seconds, told = classify(images, "rekognition-labels", folder / "two", "--max-rate", RATE)
    assert told["outcomes"] == {"ok": IMAGES}, told
    line(f"workbench, and {ERRORS:.0%} of the calls fail (503)", seconds, IMAGES, f"replies {running.replies}")
    for rate, what in (
        (RATE, f"bare client in 50 threads, told {RATE}/s"),
        (0, "bare client in 50 threads, told nothing"),
    ):
        with service() as running:
            peer, told = timed(sys.executable, __file__, "ask", running.url, images, rate, store=folder / "none")
        line(what, peer, IMAGES, f"{told['failed']} images without an answer, replies {running.replies}")
    throttled = ours.get("429", 0) + ours.get("400", 0)
    print(f"{IMAGES / first:.1f} of {RATE} calls/s used from process start, {throttled} of them throttled")


def measure_local(folder: Path) -> None:
    """A first run and a second in one process, as in a notebook; then the command, in a process of its own."""
    images, store = folder / "small", folder / "three"
    paint(images, LOCAL_IMAGES, 32)
    (images / "workbench.toml").write_text(PROJECT.format(url="http://127.0.0.1:9"))
    first, again = run_twice(images, store)
    command, told = classify(images, "local-cnn", store)
    assert told["cached"] == LOCAL_IMAGES, told
    line("local-cnn", first, LOCAL_IMAGES)
    for what, seconds in (
        ("a second run, all kept", again),
        ("a run of another process", told["seconds"]),
        ("the whole command, start and end included", command),
    ):
        line(what, seconds, LOCAL_IMAGES, f"{first / seconds:.0f} × as fast")


def run_twice(images: Path, store: Path) -> tuple[float, float]:
    from workbench.approaches.base import Setting, build_approach
    from workbench.dataset.opening import open_dataset
    from workbench.runs import runner
    from workbench.runs.cache import AnswerCache

    opened = open_dataset(images / "workbench.toml")
    approach = build_approach(
        "local-cnn", opened.dataset, Setting(opened.dataset.taxonomy, opened.label_map("local-cnn"), store)
    )
    seconds = []
    with AnswerCache(store / "answers.sqlite") as cache:
        for kept in (False, True):
            start = time.perf_counter()
            table = runner.classify(opened.dataset, approach, cache)
            seconds.append(time.perf_counter() - start)
            assert (table.frame["cached"] == kept).all()
    return seconds[0], seconds[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paint(folder / "images", IMAGES, 96)
        if "local" not in sys.argv:
            measure_service(folder, folder / "images")
        if "service" not in sys.argv:
            measure_local(folder)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", *rest]:
            sys.argv[1:] = rest
            serve()
        case ["ask", url, folder, rate]:
            ask_bare(url, folder, float(rate))
        case _:
            main()
