"""`stress` from end to end: a local approach, a policy, and a service that obeys what it reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from drawn import KINDS, draw
from samples import T, make_policy
from servers.anthropic import Anthropic
from servers.eyes import kinds_in
from workbench.cli.main import app
from workbench.policy import write_policy
from workbench.predictions import read_predictions
from workbench.records import Evidence, Policy

PROJECT = f"""
[dataset]
path = "pictures.csv"
sensitive = SENSITIVE

[taxonomy]
categories = {list(KINDS)}

[approaches.local-cnn.labels]
disc = ["ping-pong ball", "golf ball"]
stripes = ["zebra", "window shade"]
checks = ["crossword", "dishcloth"]
"""


@pytest.fixture
def project(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12 pictures on tune, 6 on certify; the answers are this test's own, the network is everybody's."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-stand-in")
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = ["path,label,split"]
    for number in range(18):
        kind = KINDS[number % 3]
        draw((kind,), number).save(folder / f"{number:02}.png")
        lines.append(f"{number:02}.png,{kind},{'tune' if number < 12 else 'certify'}")
    (folder / "pictures.csv").write_text("\n".join(lines) + "\n")
    (folder / "workbench.toml").write_text(PROJECT.replace("SENSITIVE", "false"))
    return folder


def stress(project: Path, *options: str, code: int = 0) -> str:
    out = project.parent / "stress.json"
    result = CliRunner().invoke(app, ["stress", str(project), "-o", str(out), *options])
    assert code == result.exit_code, result.output
    return result.output


def found(project: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((project.parent / "stress.json").read_text())
    document["overall"] = {row["attack"]: row for row in document["attacks"] if not row["by"]}
    return document


def folders(project: Path) -> set[Path]:
    return {path for path in Path(project.parent).rglob("*") if path.is_dir()}


def test_a_local_approach_is_stressed_and_the_same_again(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = {path: path.read_bytes() for path in project.iterdir()}
    output = stress(project, "--approach", "local-cnn", "--images", "4")
    document = found(project)
    assert (4, 0, "tune") == (document["images"], document["not_decoded"], document["measured_on"])
    assert ["blank", "name", "instruction", "unknown"] == list(document["overall"])
    assert {"4"} <= {word for line in output.splitlines() for word in line.split()}
    assert 16 == len(document["copies"])
    assert [] == document["promises"]
    assert [] == list(scratch.iterdir())
    assert before == {path: path.read_bytes() for path in project.iterdir()}
    assert (project.parent / "stress.png").read_bytes().startswith(b"\x89PNG")
    again = stress(project, "--approach", "local-cnn", "--images", "4")
    assert "0 questions asked" in again
    assert document == found(project)


def test_a_service_that_heeds_banners_is_deceived_by_each(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in says unknown of whatever has a white band across it."""

    def obeys(image: Image.Image) -> Mapping[str, float]:
        pixels = np.asarray(image.convert("RGB"))
        banner = ((pixels > 250).mean(axis=(1, 2)) > 0.75).mean() > 0.1
        return {"unknown": 1.0} if banner else sees(image)

    def sees(image: Image.Image) -> Mapping[str, float]:
        shown = kinds_in(image)
        return {max(shown, key=lambda name: shown[name]): 1.0}

    with Anthropic(obeys) as service:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", service.url)
        stress(project, "--approach", "claude", "--images", "12", "--seed", "1")
        spent = service.bill
        assert 12 * 5 == len(service.charges)
        document = found(project)
        strong = {row["of"] for row in document["copies"] if row["contrast"] == "strong"}
        deceived = document["overall"]["unknown"]
        assert 0 < len(strong) < 12
        assert (12, 12) == (deceived["images"], deceived["open_to"])
        assert len(strong) <= deceived["towards"]
        assert len(strong) == deceived["towards_control"]
        by = {row["value"]: row for row in document["attacks"] if (row["attack"], row["by"]) == ("unknown", "contrast")}
        assert 1 == by["strong"]["flip_rate"]
        stress(project, "--approach", "claude", "--images", "12", "--seed", "1")
        assert spent == service.bill


def test_the_clean_answers_are_those_of_classify(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Anthropic() as service:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", service.url)
        run = str(tmp_path / "run.parquet")
        assert 0 == CliRunner().invoke(app, ["classify", str(project), "--approach", "claude", "-o", run]).exit_code
        asked = len(service.charges)
        plan = json.loads(stress(project, "--approach", "claude", "--images", "5", "--plan", "--json"))
        assert (25, 5, 20) == (plan["images"], plan["cached"], plan["to_ask"])
        output = stress(project, "--approach", "claude", "--images", "5", "--budget", "0.000001", code=1)
        assert asked == len(service.charges)
        assert "budget" in output
        stress(project, "--approach", "claude", "--images", "5")
        assert asked + 20 >= len(service.charges) > asked + 10  # faint blank copies may be the picture itself


def policy_for(project: Path, run: Path) -> Policy:
    """Sends everything that looks like a category to an automatic action, and promises that this is right."""
    table = read_predictions(run)
    made = make_policy({kind: [T("accept", 0.05)] for kind in KINDS}, categories=KINDS)
    draft = replace(made.evidence.draft, origin=table.info.origin, complete=table.info.complete)
    evidence: Evidence = replace(made.evidence, draft=draft)
    return replace(made, origin=table.info.origin, complete=table.info.complete, evidence=evidence)


def test_promises_are_tested_under_stress(project: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.parquet"
    assert 0 == CliRunner().invoke(app, ["classify", str(project), "--approach", "local-cnn", "-o", str(run)]).exit_code
    write_policy(policy_for(project, run), tmp_path / "policy.json")
    output = stress(project, "--approach", "local-cnn", "--images", "6", "--policy", str(tmp_path / "policy.json"))
    document = found(project)
    assert {"clean", "blank", "name", "instruction", "unknown"} == {row["attack"] for row in document["promises"]}
    assert {"holds", "broken", "cannot tell"} >= {row["verdict"] for row in document["promises"]}
    assert "verdict" in output
    assert all(row["actions"] is not None for row in document["attacks"])


def test_certify_images_are_never_looked_at(project: Path) -> None:
    assert "a look at it, too" in stress(project, "--approach", "local-cnn", "--split", "certify", code=2)
    for number in range(12, 18):
        (project / f"{number:02}.png").write_bytes(b"nobody may read this")
    stress(project, "--approach", "local-cnn", "--images", "100")
    assert (12, 0) == (found(project)["images"], found(project)["not_decoded"])


def test_no_picture_of_a_sensitive_set_is_shown(project: Path) -> None:
    stress(project, "--approach", "local-cnn", "--images", "2")
    with Image.open(project.parent / "stress.png") as shown:
        height = shown.height
    (project / "workbench.toml").write_text(PROJECT.replace("SENSITIVE", "true"))
    stress(project, "--approach", "local-cnn", "--images", "2")
    with Image.open(project.parent / "stress.png") as shown:
        assert shown.height < 0.75 * height


@pytest.mark.parametrize("name", ["stress.txt", "pictures/workbench.toml"])
def test_nothing_else_is_written_over(project: Path, name: str) -> None:
    target = project.parent / name
    target.touch()
    result = CliRunner().invoke(app, ["stress", str(project), "--approach", "local-cnn", "-o", str(target)])
    assert 2 == result.exit_code
