"""A model that a killed command leaves switched on: the next command, whichever it is, says so and switches it off."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drawn import KINDS, draw
from programs import WORKBENCH, run_workbench
from servers.aws_json import failure, with_keys
from servers.base import Reply, Seen
from servers.custom_labels import CustomLabels

PROJECT = """
[taxonomy]
categories = ["disc", "stripes", "checks"]

[approaches.rekognition-custom]
version = "{version}"
endpoint_url = "{url}"
region = "us-east-1"
poll_seconds = 0.05
inference_units = 2
"""


@dataclass(frozen=True)
class Left:
    """A service with one version, a folder of images, and a store."""

    server: CustomLabels
    arn: str
    images: Path
    store: Path

    @property
    def status(self) -> str:
        return self.server.version().status

    @property
    def records(self) -> list[Path]:
        return list((self.store / "running").glob("*.json"))

    def classifying(self) -> subprocess.Popen[str]:
        """A command whose model is running and whose questions are never answered."""
        self.server.fault = _busy
        command = [
            str(WORKBENCH),
            "classify",
            str(self.images),
            "--approach",
            "rekognition-custom",
            "-o",
            "run.parquet",
        ]
        process = subprocess.Popen(
            command, cwd=self.store.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while not self.server.asked("DetectCustomLabels"):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        return process


def _busy(seen: Seen) -> Reply | None:
    asked = seen.headers.get("x-amz-target", "").endswith(".DetectCustomLabels")
    return failure("ProvisionedThroughputExceededException", "Provisioned Rate exceeded") if asked else None


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Left]:
    with_keys(monkeypatch, tmp_path)
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    images = tmp_path / "images"
    for number, kind in enumerate(KINDS):
        (images / kind).mkdir(parents=True)
        draw((kind,), number).save(images / kind / "0.png")
    with CustomLabels(speed=200_000.0) as server:
        arn = server.add_version("shapes", "v1", KINDS)
        (images / "workbench.toml").write_text(PROJECT.format(version=arn, url=server.url))
        yield Left(server, arn, images, tmp_path / "store")


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_killed_command_leaves_it_on_and_the_next_switches_it_off(left: Left) -> None:
    kill(left.classifying())
    assert ("RUNNING", 1) == (left.status, len(left.records))
    found = run_workbench("schema")
    assert 0 == found.returncode, found.stderr
    assert f"{left.arn} was left running: switched on by process" in found.stderr
    assert "at $8.00 per hour" in found.stderr
    assert "it is off now" in found.stderr
    assert json.loads(found.stdout)
    assert ("STOPPED", []) == (left.status, left.records)
    again = run_workbench("schema")
    assert ("", found.stdout) == (again.stderr, again.stdout)


def test_what_a_living_command_uses_is_left_alone(left: Left) -> None:
    process = left.classifying()
    try:
        found = run_workbench("schema")
        assert (0, "") == (found.returncode, found.stderr)
        assert ("RUNNING", 1) == (left.status, len(left.records))
    finally:
        kill(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_ended_switches_it_off(left: Left, number: signal.Signals) -> None:
    process = left.classifying()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert 130 == process.returncode, errors
    assert "is switched off" in errors
    assert ("STOPPED", []) == (left.status, left.records)


def test_without_credentials_it_is_told_what_to_do_and_the_command_goes_on(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(left.classifying())
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    found = run_workbench("schema")
    assert 0 == found.returncode, found.stderr
    assert json.loads(found.stdout)
    assert "COULD NOT BE SWITCHED OFF AND COSTS MONEY UNTIL IT IS" in found.stderr
    assert f"aws rekognition stop-project-version --project-version-arn {left.arn} --region us-east-1" in found.stderr
    assert ("RUNNING", 1) == (left.status, len(left.records))


def test_a_service_that_is_not_reached_is_no_reason_to_stop(left: Left) -> None:
    kill(left.classifying())
    left.server.close()
    found = run_workbench("schema")
    assert 0 == found.returncode, found.stderr
    assert "COULD NOT BE SWITCHED OFF" in found.stderr
    assert 1 == len(left.records)
