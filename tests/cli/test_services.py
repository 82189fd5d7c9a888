"""`classify` with a paid service: the options that hold it, what it says, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from servers.base import Reply
from toy_service import PRICE, ToyServer, paint
from workbench.approaches import base
from workbench.cli.main import app
from workbench.predictions import read_predictions


@pytest.fixture
def server() -> Iterator[ToyServer]:
    with ToyServer() as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty pictures, and a project file that knows the toy."""
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.setitem(base.APPROACHES, "toy", "toy_service:ToyService")  # type: ignore[arg-type]
    paint(tmp_path / "images", 20)
    lines = "".join(f"{number:04}.png,dark\n" for number in range(20))
    (tmp_path / "images" / "manifest.csv").write_text("image,label\n" + lines)
    file = tmp_path / "workbench.toml"
    file.write_text(
        f"""
[dataset]
path = "images/manifest.csv"
[taxonomy]
categories = ["dark", "bright"]
unknown = "grey"
[approaches.toy]
url = "{server.url}"
"""
    )
    return file


def workbench(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ran(project: Path, *arguments: object) -> Result:
    out = project.parent / "run.parquet"
    return workbench("classify", project, "--approach", "toy", "-o", out, *arguments)


def test_the_summary_tells_what_was_asked_kept_and_spent(project: Path, server: ToyServer) -> None:
    first = ran(project)
    assert 0 == first.exit_code, first.stderr
    assert "20 images by toy (toy-1), 20 asked, 0 cached, 5.0000 USD spent" in first.stdout
    again = json.loads(ran(project, "--json").stdout)
    assert (20, 0, 20, 0.0) == (again["images"], again["asked"], again["cached"], again["spent_usd"])
    assert 20 == len(server.seen)


def test_a_plan_asks_nobody(project: Path, server: ToyServer) -> None:
    planned = ran(project, "--plan", "--max-rate", "2")
    assert 0 == planned.exit_code, planned.stderr
    assert "10 seconds" in planned.stdout
    charge = json.loads(ran(project, "--plan", "--json").stdout)["charge"]
    assert (20, 20 * PRICE) == (charge["calls"], charge["high_usd"])
    assert [] == server.seen


def test_a_budget_ends_with_exit_code_1_and_says_what_is_kept(project: Path, server: ToyServer) -> None:
    stopped = ran(project, "--budget", "1.00")
    assert 1 == stopped.exit_code
    assert "4 of 20 images are answered and kept" in stopped.stderr
    assert "$1.0000 spent" in stopped.stderr
    assert 4 == len(server.seen)
    assert not (project.parent / "run.parquet").exists()
    assert 0 == ran(project, "--budget", "4").exit_code
    assert 20 == len(server.seen)


def test_missing_credentials_end_with_exit_code_2_before_anything_is_asked(project: Path, server: ToyServer) -> None:
    project.write_text(project.read_text() + 'key = ""\n')
    missing = ran(project)
    assert 2 == missing.exit_code
    assert "toy: no key: write one in [approaches.toy]" in missing.stderr
    assert [] == server.seen


def test_wrong_credentials_end_with_exit_code_2(project: Path, server: ToyServer) -> None:
    server.fault = lambda seen: Reply(401, b"") if len(server.seen) > 3 else None
    ended = ran(project, "--max-in-flight", "1")
    assert 2 == ended.exit_code
    assert "the key is not taken" in ended.stderr
    assert "what was answered is kept, and running again asks only the rest" in ended.stderr


def test_a_model_version_says_which_answers_count(project: Path, server: ToyServer) -> None:
    assert 0 == ran(project).exit_code
    server.version = lambda _: "toy-2"
    pinned = ran(project, "--model-version", "toy-2")
    assert 0 == pinned.exit_code, pinned.stderr
    assert "toy-2" == read_predictions(project.parent / "run.parquet").info.origin.model_version
    assert 40 == len(server.seen)
    several = ran(project)
    assert 2 == several.exit_code
    assert "'toy-1', 'toy-2'" in several.stderr
    assert 0 == ran(project, "--model-version", "toy-1").exit_code
    assert 40 == len(server.seen)


@pytest.mark.parametrize("name", ["run.JSONL", "run.Ndjson"])
def test_lines_are_lines_however_their_ending_is_written(project: Path, name: str) -> None:
    out = project.parent / name
    assert 0 == ran(project, "-o", out).exit_code
    assert 20 == len([json.loads(line) for line in out.read_text().splitlines()])


def test_a_run_of_another_ending_is_refused_before_anything_is_asked(project: Path, server: ToyServer) -> None:
    refused = ran(project, "-o", project.parent / "run.csv")
    assert 2 == refused.exit_code
    assert "a run has to end in .parquet or .jsonl" in refused.stderr
    assert [] == server.seen


def test_a_trained_artefact_for_what_does_not_learn_is_refused(project: Path, server: ToyServer) -> None:
    refused = ran(project, "--model", "head.npz")
    assert 2 == refused.exit_code
    assert "toy does not learn; leave out `--model`" in refused.stderr
    assert [] == server.seen


def test_fields_of_an_approach_that_is_not_there_are_refused(project: Path, server: ToyServer) -> None:
    project.write_text(project.read_text() + '[approaches.claud]\nmodel = "claude-haiku-5-5"\n')
    refused = ran(project)
    assert 2 == refused.exit_code
    assert "approaches.claud: no approach is called so; did you mean 'claude'?" in refused.stderr
    assert [] == server.seen


def test_an_approach_of_this_machine_states_its_version(project: Path) -> None:
    refused = workbench("classify", project, "--approach", "local-trained", "--model-version", "x")
    assert 2 == refused.exit_code
    assert "local-trained states its model version itself; leave out `--model-version`" in refused.stderr


@pytest.mark.parametrize("option", [("--budget", "-1"), ("--max-rate", "0"), ("--max-in-flight", "0")])
def test_what_is_no_limit_is_refused(project: Path, server: ToyServer, option: tuple[str, str]) -> None:
    assert 2 == ran(project, *option).exit_code
    assert [] == server.seen
