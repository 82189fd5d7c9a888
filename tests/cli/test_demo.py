"""`workbench demo`: the main job on the embedded data, judged by the files it leaves behind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from programs import run_workbench
from recomputed import check_evidence

RUNS = ("fashion/local-cnn", "fashion/local-trained", "mosaics/local-trained")


@dataclass(frozen=True)
class Demo:
    """What one run of the command left."""

    out: Path
    returncode: int
    stdout: str
    stderr: str

    def policy(self, name: str) -> dict[str, Any]:
        return json.loads((self.out / name / "policy.json").read_text())  # type: ignore[no-any-return]

    def promises(self, name: str) -> list[tuple[str, str, str]]:
        """(category, metric, verdict)"""
        return [(p["category"], p["metric"], p["verdict"]) for p in self.policy(name)["evidence"]["promises"]]


@pytest.fixture(scope="module")
def demos(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Demo, Demo]:
    """The command twice, each time into a folder of its own."""
    out = tmp_path_factory.mktemp("out")
    made = []
    for name in ("first", "second"):
        done = run_workbench("demo", "--out", out / name, "--datasets", datasets, cwd=out)
        made.append(Demo(out / name, done.returncode, done.stdout, done.stderr))
    return made[0], made[1]


@pytest.fixture(scope="module")
def demo(demos: tuple[Demo, Demo]) -> Demo:
    return demos[0]


def test_it_ends_well_and_says_where_everything_is(demo: Demo) -> None:
    assert 0 == demo.returncode, demo.stderr
    assert "Traceback" not in demo.stderr
    assert "\r" not in demo.stderr
    assert 2 == demo.stderr.count("policy verified: 0 differences")
    for name in ("fashion", "mosaics"):
        assert f"{name}: report {demo.out / name / 'report.html'}" in demo.stdout


def test_the_second_time_its_looks_are_free(demos: tuple[Demo, Demo]) -> None:
    assert [2, 2] == [demo.stdout.count("look 1 of 1 at these certify images") for demo in demos]
    assert 2 == demos[1].stdout.count("look 1 of 1 at these certify images (replayed: free)")


def test_the_trained_approach_is_right_on_images_that_chose_nothing(demo: Demo) -> None:
    summary = demo.policy("fashion")["evidence"]["summary"]
    assert (4500, 4000) == (summary["images"], summary["known"])
    assert 0.85 <= summary["correct"] / summary["known"]
    assert 0.125 == summary["majority"] / summary["known"]


def test_imagenet_labels_fall_far_behind_on_tune(demo: Demo) -> None:
    measured = {
        name: pd.read_parquet(demo.out / "fashion" / name / "accuracy.parquet").iloc[0]
        for name in ("local-cnn", "local-trained")
    }
    assert {"tune (optimistic: the tune split chose thresholds)"} == {row["measured_on"] for row in measured.values()}
    assert measured["local-cnn"]["accuracy_high"] + 0.2 < measured["local-trained"]["accuracy_low"]


def test_precision_and_recall_are_promised_with_the_stated_confidence(demo: Demo) -> None:
    policy = demo.policy("fashion")
    assert 0.95 == policy["evidence"]["draft"]["confidence"]
    certified = [p for p in policy["evidence"]["promises"] if p["verdict"] == "certified"]
    precise = {p["category"] for p in certified if p["metric"] == "precision" and p["at_least"] >= 0.90}
    assert 4 <= len(precise)
    assert any(p["metric"] == "recall" for p in certified)
    thresholds = {
        (rule["category"], tier["action"]): tier["threshold"]
        for rule in policy["categories"]
        for tier in rule["tiers"]
        if tier["threshold"] is not None
    }
    assert thresholds == {(p["category"], p["action"]): p["certified"] for p in certified}


def test_the_flag_before_the_act_is_certified_on_several_labels_at_once(demo: Demo) -> None:
    verdicts = demo.promises("mosaics")
    assert ("bag", "recall", "certified") in verdicts
    assert ("bag", "precision", "certified") in verdicts


def test_every_figure_is_what_pandas_scipy_and_sklearn_make_of_the_files(demo: Demo, datasets: Path) -> None:
    policy = demo.policy("fashion")
    manifest = pd.read_csv(datasets / "fashion" / "manifest.csv", dtype=str, keep_default_na=False)
    run = pd.read_parquet(demo.out / "fashion" / "local-trained.parquet")
    assert (len(manifest), ["ok"]) == (len(run), list(run["outcome"].unique()))
    rows = manifest[manifest["split"] == "certify"].merge(run, left_on="image", right_on="image_id")
    known = rows["label"].isin(policy["taxonomy"]["categories"])
    check_evidence(rows.assign(label=rows["label"].where(known, "unknown")), policy)


def test_a_second_demo_asks_nothing_and_promises_the_same(demos: tuple[Demo, Demo]) -> None:
    first, second = demos
    assert 0 == second.returncode
    for name in RUNS:
        one, other = (pd.read_parquet(demo.out / f"{name}.parquet") for demo in demos)
        assert other["cached"].all()
        pd.testing.assert_frame_equal(
            one.drop(columns=["cached", "cost_usd"]), other.drop(columns=["cached", "cost_usd"])
        )
    for name in ("fashion", "mosaics"):
        one, other = ({**demo.policy(name), "created": "", "digests": "", "digest": ""} for demo in (first, second))
        assert one == other


@pytest.mark.parametrize("name", ["fashion", "mosaics"])
def test_the_policy_verifies_with_the_run_that_lies_beside_it(demo: Demo, datasets: Path, name: str) -> None:
    folder = demo.out / name
    verified = run_workbench("verify", folder / "policy.json", folder / "local-trained.parquet", datasets / name)
    assert (0, "") == (verified.returncode, verified.stderr)
    assert verified.stdout.endswith("holds (schema, digests and cases, and every figure of the evidence)\n")


class Loads(HTMLParser):
    """What a page would fetch, and the words on it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.words = self.tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("link", "iframe", "object", "embed")
        self.tag = tag
        self.addresses += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "data", "poster")]

    def handle_data(self, data: str) -> None:
        if self.tag != "script":
            self.words += data


@pytest.mark.parametrize("name", ["fashion", "mosaics"])
def test_the_report_stands_alone_and_gives_the_verdict(demo: Demo, name: str) -> None:
    text = (demo.out / name / "report.html").read_text()
    page, verdicts = Loads(text), demo.promises(name)
    assert {"data:", "#"} == {"#" if address.startswith("#") else address[:5] for address in page.addresses}
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src 'none'" in text
    certified = sum(verdict == "certified" for _, _, verdict in verdicts)
    verdict = f"{certified} of {len(verdicts)} promises are certified, all at once with 95\u202f% confidence."
    assert verdict in page.words
    for category, _, _ in verdicts:
        assert category in page.words
    assert demo.policy(name)["digest"] in page.words
