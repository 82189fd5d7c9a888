"""Protocols against a stand-in whose accuracy and confidences the test decides: the ranking comes out rightly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from drawn import KINDS, draw
from servers.anthropic import Anthropic, Ending, fill
from servers.eyes import kinds_in
from workbench.cli.main import app

PER_KIND = 15
LABELS = 'disc = ["ping-pong ball"]\nstripes = ["zebra"]\nchecks = ["crossword"]\n'
PROJECT = f"""
[dataset]
path = "pictures.csv"

[taxonomy]
categories = {list(KINDS)}
"""


def chance_of(image: Image.Image) -> float:
    """A number in [0, 1) that only the picture decides."""
    grey = np.asarray(image.convert("L"))
    return hashlib.sha256(grey.tobytes()).digest()[0] / 256


def sight(image: Image.Image) -> Mapping[str, float]:
    """Two pictures of three are seen rightly, with 0.97; of the others every second one, with 0.55."""
    seen = kinds_in(image)
    kind = max(seen, key=lambda name: seen[name])
    chance = chance_of(image)
    if chance < 2 / 3:
        return {kind: 0.97}
    other = KINDS[(KINDS.index(kind) + 1) % len(KINDS)]
    return {kind if chance < 5 / 6 else other: 0.55}


def boastful(schema: Mapping[str, Any], seen: Mapping[str, float]) -> str:
    """One label is always given with 0.99; several as they are seen."""
    told = json.loads(fill(schema, seen))
    return json.dumps({**told, "confidence": 0.99} if "confidence" in told else told)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """45 pictures on tune and 9 on certify, and a store of their own."""
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-stand-in")
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = ["path,label,split"]
    for number in range(PER_KIND * len(KINDS) + 9):
        kind = KINDS[number % len(KINDS)]
        draw((kind,), number).save(folder / f"{number:03}.png")
        lines.append(f"{number:03}.png,{kind},{'tune' if number < PER_KIND * len(KINDS) else 'certify'}")
    (folder / "pictures.csv").write_text("\n".join(lines) + "\n")
    (folder / "workbench.toml").write_text(PROJECT)
    return folder


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Anthropic]:
    with Anthropic(sight) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        yield server


def bench(project: Path, *options: str, code: int = 0) -> str:
    out = str(project.parent / "bench.json")
    result = CliRunner().invoke(app, ["bench-llm", str(project), "-o", out, *options])
    assert code == result.exit_code, result.output
    return result.output


def found(project: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((project.parent / "bench.json").read_text())
    document["protocols"] = {row["name"]: row for row in document["protocols"]}
    return document


def test_a_way_that_knows_beats_one_that_boasts(project: Path, service: Anthropic) -> None:
    service.write = boastful
    output = bench(project, "--protocols", "single,top-k")
    document = found(project)
    single, several = document["protocols"]["single"], document["protocols"]["top-k"]
    truth = [KINDS[number % 3] for number in range(45)]
    told = [max(sight(draw((kind,), number)), key=str) for number, kind in enumerate(truth)]
    accuracy = sum(kind == name for kind, name in zip(truth, told, strict=True)) / 45
    assert accuracy == pytest.approx(single["accuracy"]) == pytest.approx(several["accuracy"])
    assert 0.5 == single["auroc"] < 0.75 < several["auroc"]
    assert (1, 2) == (single["points"], several["points"])
    assert abs(accuracy - 0.99) == pytest.approx(single["ece"], abs=1e-6)
    assert "top-k" == document["winner"]
    assert (2, 1) == (single["rank_augrc"], several["rank_augrc"])
    assert (1, 1) == (single["rank_accuracy"], several["rank_accuracy"])
    assert "best by AUGRC, beyond chance: top-k" in output
    assert (project.parent / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_only_tune_is_asked_and_every_cost_is_told(project: Path, service: Anthropic) -> None:
    bench(project)
    document = found(project)
    # single, top-k, and shuffled ask once; `samples` asks twice more: its first answer is that of top-k
    assert 45 * (3 + 2) == len(service.charges)
    assert service.bill == pytest.approx(document["spent_usd"])
    costs = {name: 45 * row["cost_per_image"] for name, row in document["protocols"].items()}
    assert service.bill + costs["top-k"] == pytest.approx(sum(costs.values()))
    assert costs["samples"] == pytest.approx(3 * costs["top-k"], rel=0.05)
    bench(project, "--json")
    assert 45 * 5 == len(service.charges)
    again = found(project)
    assert 0 == again["spent_usd"]
    assert costs == {name: pytest.approx(45 * row["cost_per_image"]) for name, row in again["protocols"].items()}


def test_equal_ways_have_no_winner(project: Path, service: Anthropic) -> None:
    output = bench(project, "--protocols", "single,top-k,shuffled")
    document = found(project)
    assert document["winner"] is None
    assert {1} == {
        row[f"rank_{name}"] for row in document["protocols"].values() for name in ("augrc", "auroc", "accuracy")
    }
    assert "equal ranks are ties" in output


def test_refusals_and_nonsense_are_counted_apart(project: Path, service: Anthropic) -> None:
    service.endings.extend([Ending("", "refusal", "bio")] * 2 + [Ending("a disc, I think")] * 3)
    bench(project, "--protocols", "top-k")
    row = found(project)["protocols"]["top-k"]
    assert (45, 2, 3) == (row["images"], row["refused"], row["invalid"])


def test_a_plan_asks_nobody(project: Path, service: Anthropic) -> None:
    output = bench(project, "--plan")
    assert [] == service.seen
    assert "shuffled" in output
    assert "together" in output
    plans = json.loads(
        CliRunner().invoke(app, ["bench-llm", str(project), "--plan", "--json", "--samples", "4"]).stdout
    )
    assert {"single": 45, "top-k": 45, "samples": 180, "shuffled": 45} == {
        name: plan["charge"]["calls"] for name, plan in plans.items()
    }
    assert not (project.parent / "bench.json").exists()


def test_the_budget_is_for_all_of_them_together(project: Path, service: Anthropic) -> None:
    bench(project, "--protocols", "single")
    one = service.bill
    output = bench(project, "--budget", str(2.2 * one), code=1)
    assert one < service.bill <= 3.2 * one
    assert "answered and kept" in output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--protocols", "single,guess"], "guess is not among single, top-k, samples, shuffled"),
        (["--protocols", ","], "nothing is not among"),
        (["--approach", "local-cnn"], "local-cnn"),
    ],
)
def test_what_cannot_be_compared_is_refused(project: Path, options: list[str], told: str) -> None:
    assert told in bench(project, *options, code=2)


def test_multi_label_sets_are_refused(project: Path) -> None:
    (project / "workbench.toml").write_text(PROJECT + 'mode = "multi-label"\n')
    assert "multi-label" in bench(project, code=2)


def test_an_approach_that_knows_no_protocols_is_refused(project: Path) -> None:
    (project / "workbench.toml").write_text(PROJECT + "[approaches.local-cnn.labels]\n" + LABELS)
    result = CliRunner().invoke(app, ["bench-llm", str(project), "--approach", "local-cnn"])
    assert 2 == result.exit_code
    assert "local-cnn cannot be asked in these ways (single, top-k, samples, shuffled)" in result.stderr
