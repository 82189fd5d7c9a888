"""`classify --batch` with Claude: what it says, how it ends, and processes that are stopped in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from drawn import KINDS, draw
from programs import WORKBENCH
from servers.anthropic_batches import PATH, AnthropicBatches
from workbench.cli.main import app
from workbench.predictions import read_predictions

KEY = "sk-ant-a-secret-key"
IMAGES = 9


@pytest.fixture
def service() -> Iterator[AnthropicBatches]:
    with AnthropicBatches() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, service: AnthropicBatches, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine drawn pictures, and a project file that has Claude at the stand-in."""
    for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_BASE_URL", "ANTHROPIC_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for number in range(IMAGES):
        kind = KINDS[number % 3]
        folder = tmp_path / "images" / kind
        folder.mkdir(parents=True, exist_ok=True)
        draw((kind,), number).save(folder / f"{number}.png")
    file = tmp_path / "workbench.toml"
    file.write_text(f'[dataset]\npath = "images"\n[approaches.claude]\nbase_url = "{service.url}"\n')
    return file


def arguments(project: Path, *more: object) -> list[str]:
    out = project.parent / "run.parquet"
    return ["classify", str(project), "--approach", "claude", "-o", str(out), *map(str, more)]


def ran(project: Path, *more: object) -> Result:
    result = CliRunner().invoke(app, arguments(project, *more))
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def told(project: Path, *more: object) -> Any:
    return json.loads(ran(project, *more, "--json").stdout)


def test_a_plan_asks_nobody_and_halves_the_price(project: Path, service: AnthropicBatches) -> None:
    shown = ran(project, "--plan", "--batch")
    assert 0 == shown.exit_code, shown.stderr
    assert "9 in batches" in shown.stdout
    assert "within a day" in shown.stdout
    single, batched = (told(project, "--plan", *more)["charge"] for more in ((), ("--batch",)))
    assert single["high_usd"] == pytest.approx(2 * batched["high_usd"])
    assert [] == service.seen


def test_who_does_not_wait_is_told_to_come_back(project: Path, service: AnthropicBatches) -> None:
    first = ran(project, "--batch", "--no-wait")
    assert 3 == first.exit_code, first.stderr
    assert "claude: 9 questions are with the service in 1 batch, for $" in first.stdout
    assert "run the same command again to collect the answers" in first.stdout
    (batch,) = service.desk.held
    waiting = told(project, "--batch", "--no-wait")["waiting"]
    assert ([batch], 9) == (waiting["batches"], waiting["questions"])
    assert not (project.parent / "run.parquet").exists()
    service.desk.advance(3600)
    last = told(project, "--batch", "--no-wait")
    assert (9, 0, {"ok": 9}) == (last["asked"], last["cached"], last["outcomes"])
    assert service.bill == pytest.approx(last["spent_usd"])
    assert (0, 9) == ((again := told(project))["asked"], again["cached"])
    assert {1} == set(service.desk.asked.values())


def test_who_waits_gets_the_run(project: Path, service: AnthropicBatches) -> None:
    service.desk.takes = 0.0
    done = ran(project, "--batch")
    assert 0 == done.exit_code, done.stderr
    assert "9 images by claude (claude-haiku-5-5), 9 asked, 0 cached" in done.stdout
    assert ["ok"] * 9 == list(read_predictions(project.parent / "run.parquet").frame["outcome"])


def test_a_budget_that_is_too_small_hands_nothing_in(project: Path, service: AnthropicBatches) -> None:
    stopped = ran(project, "--batch", "--budget", "0.0001")
    assert 1 == stopped.exit_code
    assert "claude: the budget of $0.0001 does not hold the next batch" in stopped.stderr
    assert {} == service.desk.held


def test_what_does_not_go_together_is_refused(project: Path, service: AnthropicBatches) -> None:
    alone = ran(project, "--no-wait")
    assert 2 == alone.exit_code
    assert "--no-wait goes with --batch" in alone.stderr
    labels = 'disc = ["nsfw"]\nstripes = ["sfw"]\nchecks = ["sfw"]\n'
    project.write_text(f"{project.read_text()}[approaches.local-moderation.labels]\n{labels}")
    local = CliRunner().invoke(app, ["classify", str(project), "--approach", "local-moderation", "--batch"])
    assert 2 == local.exit_code
    assert "local-moderation: takes no batches; ask it without `--batch`" in local.stderr
    text = project.read_text().replace("base_url", "bedrock = true\nregion = 'us-east-1'\nbase_url")
    project.write_text(text)
    bedrock = ran(project, "--batch")
    assert 2 == bedrock.exit_code
    assert "Amazon Bedrock takes no message batches" in bedrock.stderr
    assert [] == service.seen


def start(project: Path) -> subprocess.Popen[str]:
    command = [str(WORKBENCH), *arguments(project, "--batch")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_after_kill_9_between_taken_and_told_nothing_is_handed_in_again(
    project: Path, service: AnthropicBatches
) -> None:
    service.desk.answer_delay = 30
    process = start(project)
    until(lambda: service.desk.held, process)
    process.kill()
    process.communicate()
    assert -signal.SIGKILL == process.returncode
    service.desk.answer_delay = 0
    assert 9 == told(project, "--batch", "--no-wait")["waiting"]["questions"]
    service.desk.advance(3600)
    assert (9, {"ok": 9}) == ((last := told(project, "--batch", "--no-wait"))["asked"], last["outcomes"])
    assert (1, {1}) == (len(service.desk.held), set(service.desk.asked.values()))
    assert 9 == len(service.charges)


def test_ctrl_c_says_what_stays_with_the_service(project: Path, service: AnthropicBatches) -> None:
    process = start(project)
    until(lambda: any(seen.path.startswith(f"{PATH}/msgbatch") for seen in list(service.seen)), process)
    os.kill(process.pid, signal.SIGINT)
    out, said = process.communicate()
    assert (130, "") == (process.returncode, out)
    assert "Stopped." in said
    assert "claude: 9 questions are with the service in 1 batch" in said
    assert KEY not in said
    service.desk.advance(3600)
    assert 9 == told(project, "--batch", "--no-wait")["asked"]
    assert 9 == len(service.charges)
