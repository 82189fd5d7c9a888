"""The commands as people chain them, on a few hundred real pictures and with the real network."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from programs import WORKBENCH, run_workbench
from workbench.canonical import digest
from workbench.cli.main import app
from workbench.dataset.images import LEDGER_FILE
from workbench.jsonlines import write_prediction
from workbench.predictions import SCORE, read_predictions

COUNTS = {"ankle boot": 180, "sandal": 180, "trouser": 180, "unknown": 60}
LABELS = """
[approaches.local-cnn.labels]
trouser = ["jeans"]
"ankle boot" = ["cowboy boot"]
sandal = ["sandal", "clogs"]
"""
FLAG = """
[[goals.category.sandal]]
action = "review"
metric = "recall"
at_least = 0.6

[[goals.category.sandal]]
action = "accept"
metric = "precision"
at_least = 0.6
"""
FIRST = get_command(app).commands  # type: ignore[attr-defined]
COMMANDS = {
    f"{name} {part}".strip(): command
    for name, first in FIRST.items()
    for part, command in getattr(first, "commands", {"": first}).items()
}
"""By the words that lead to it: `tune`, `cache stats`."""


def workbench(*arguments: object, stdin: str | None = None) -> Result:
    """The command, in this process; it may end with any exit code, but not with an exception."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def answer(*arguments: object) -> Any:
    """The JSON that a command prints; it has to end well."""
    result = workbench(*arguments, "--json")
    assert 0 == result.exit_code, result.output
    return json.loads(result.stdout)


def copy_pictures(datasets: Path, folder: Path, counts: Mapping[str, int]) -> Path:
    """A folder per category with the first pictures of it; bags are of no category.

    They are pictures of *tune*: the looks at the certify images of `fashion` are for the tests of that set.
    """
    images = datasets / "fashion" / "images"
    for name, count in counts.items():
        inside = "bag" if name == "unknown" else name.replace(" ", "-")
        found = sorted((images / "tune" / inside).glob("*.png"))[:count]
        assert count == len(found)
        (folder / name).mkdir(parents=True)
        for path in found:
            shutil.copyfile(path, folder / name / path.name)
    return folder


def write_goals(project: Path) -> None:
    """Put the label map, a recall tier and looser numbers into a project file that `init` wrote."""
    text = (
        project.read_text()
        .replace("confidence = 0.95", "confidence = 0.8")
        .replace("at_least = 0.90", "at_least = 0.6")
    )
    project.write_text(text + LABELS + FLAG)


@dataclass(frozen=True)
class Journey:
    """What was made on the way from a folder to a policy, and what the commands answered."""

    folder: Path
    answers: Mapping[str, Any]

    @property
    def images(self) -> Path:
        return self.folder / "shoes"

    @property
    def run(self) -> Path:
        return self.folder / "trained.parquet"

    @property
    def policy(self) -> Path:
        return self.folder / "policy.json"


@pytest.fixture(scope="module")
def journey(store: Path, datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """init → dataset → train → classify → evaluate → tune → release, each once."""
    folder = tmp_path_factory.mktemp("journey")
    images = copy_pictures(datasets, folder / "shoes", COUNTS)
    run, draft, answers = folder / "trained.parquet", folder / "draft.json", {}
    init = workbench("init", images)
    assert f"{images / 'workbench.toml'}: written, 3 categories found\n" == init.stdout
    write_goals(images / "workbench.toml")
    answers["dataset"] = answer("dataset", images)
    answers["train"] = answer("train", images, "--approach", "local-trained")
    answers["plan"] = answer("classify", images, "--approach", "local-trained", "--plan")
    answers["classify"] = answer("classify", images, "--approach", "local-trained", "-o", run)
    answers["again"] = answer("classify", images, "--approach", "local-trained", "-o", folder / "again.parquet")
    answers["local-cnn"] = answer("classify", images, "--approach", "local-cnn", "-o", folder / "local-cnn.parquet")
    answers["evaluate"] = answer("evaluate", run, images, "-o", folder / "evaluation")
    answers["tune"] = answer("tune", run, images, "-o", draft)
    answers["release"] = answer("release", draft, run, images, "-o", folder / "policy.json")
    return Journey(folder, answers)


# One after the other


def test_a_data_set_is_described(journey: Journey) -> None:
    described = journey.answers["dataset"]
    assert (600, "single-label", []) == (described["images"], described["mode"], described["problems"])
    assert COUNTS == {row["category"]: row["all"] for row in described["counts"]}
    assert [{"format": "PNG", "size": "28×28", "images": 600}] == described["files"]


def test_training_names_what_it_learnt(journey: Journey) -> None:
    trained = journey.answers["train"]
    assert Path(trained["model"]).is_relative_to(os.environ["WORKBENCH_STORE"])
    info = read_predictions(journey.run).info
    assert (trained["model_version"], trained["fingerprint"]) == (info.origin.model_version, info.origin.fingerprint)


def test_a_second_run_asks_nothing_and_answers_the_same(journey: Journey) -> None:
    plan, first, again = (journey.answers[name] for name in ("plan", "classify", "again"))
    assert (600, 600, 0, 600) == tuple(plan[name] for name in ("images", "pictures", "cached", "to_ask"))
    assert (600, {"ok": 600}) == (first["asked"], first["outcomes"])
    assert 0 == again["asked"]
    one, other = (read_predictions(journey.folder / name) for name in ("trained.parquet", "again.parquet"))
    assert not one.frame["cached"].any()
    assert other.frame["cached"].all()
    np.testing.assert_array_equal(one.scores, other.scores)


def test_a_plan_after_the_run_has_nothing_to_ask(journey: Journey) -> None:
    plan = workbench("classify", journey.images, "--approach", "local-trained", "--plan")
    assert re.search(r"^answered before +600$", plan.stdout, re.MULTILINE)
    assert re.search(r"^to ask +0$", plan.stdout, re.MULTILINE)


def test_an_evaluation_tells_its_split_and_writes_tables_and_figures(journey: Journey) -> None:
    evaluation = journey.answers["evaluate"]
    assert evaluation["measured_on"].startswith("tune (optimistic")
    (accuracy,) = evaluation["accuracy"]
    assert accuracy["majority_baseline"] == pytest.approx(1 / 3)
    assert 0.9 < accuracy["accuracy_of_answered"]
    files = [Path(file) for file in evaluation["files"]]
    assert {".csv", ".parquet", ".png"} == {file.suffix for file in files}
    assert all(file.stat().st_size > 0 and file.parent == journey.folder / "evaluation" for file in files)


def test_what_was_drafted_on_tune_is_tested_on_certify(journey: Journey) -> None:
    draft, release = journey.answers["tune"], journey.answers["release"]
    assert 4 == len(draft["tiers"])
    assert release["policy"]["file"] == str(journey.policy)
    verdicts = {(row["category"], row["action"]): row["verdict"] for row in release["promises"]}
    assert "certified" == verdicts["trouser", "accept"]
    assert "certified" == verdicts["sandal", "review"]


def test_a_policy_holds_against_its_run_and_data_set(journey: Journey) -> None:
    assert 0 == workbench("verify", journey.policy).exit_code
    full = workbench("verify", journey.policy, journey.run, journey.images)
    assert f"{journey.policy}: holds (schema, digests and cases, and every figure of the evidence)\n" == full.stdout
    assert 0 == full.exit_code


def test_a_report_is_one_page_about_both_approaches(journey: Journey) -> None:
    page = journey.folder / "report.html"
    runs = (journey.folder / "local-cnn.parquet", journey.run)
    made = workbench("report", *runs, "--dataset", journey.images, "--policy", journey.policy, "-o", page)
    assert (0, f"{page}: written\n") == (made.exit_code, made.stdout)
    text = page.read_text()
    assert json.loads(journey.policy.read_text())["digest"] in text
    assert "are certified, all at once with 80" in text
    assert text.index(">local-trained<") < text.index(">local-cnn<")


def test_a_process_of_its_own_says_the_same_without_bars_or_traceback(journey: Journey) -> None:
    asked = run_workbench("classify", journey.images, "--approach", "local-trained", "--json", cwd=journey.folder)
    assert (0, "") == (asked.returncode, asked.stderr)
    assert 0 == json.loads(asked.stdout)["asked"]
    assert (journey.folder / "shoes-local-trained.parquet").is_file()
    refused = run_workbench(
        "evaluate", journey.run, journey.images, "--split", "certify", "-o", "x", cwd=journey.folder
    )
    assert (2, "") == (refused.returncode, refused.stdout)
    assert 1 == len(refused.stderr.splitlines())
    assert refused.stderr.startswith("Error: --split certify")


# A file that says something else


def document_of(journey: Journey) -> dict[str, Any]:
    return json.loads(journey.policy.read_text())  # type: ignore[no-any-return]


def change_digit(document: dict[str, Any], place: str) -> None:
    """Another digit in the middle of the number or text at a JSON pointer."""
    *above, last = [int(part) if part.isdigit() else part for part in place.split("/")[1:]]
    inner: Any = document
    for part in above:
        inner = inner[part]
    text = json.dumps(inner[last])
    digits = list(re.finditer(r"[0-9]", text))
    found = digits[len(digits) // 2]
    inner[last] = json.loads(text[: found.start()] + str((int(found[0]) + 1) % 10) + text[found.end() :])


def seal(document: dict[str, Any]) -> None:
    """What a forger can do: digests that fit the changed content."""
    parts = {name: part for name, part in document.items() if name not in ("digests", "digest")}
    document |= {"digests": {name: digest(part) for name, part in parts.items()}, "digest": digest(parts)}


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("/created", "/created"),
        ("/origin/fingerprint", "/origin"),
        ("/rejection/threshold", "/rejection"),
        ("/categories/2/tiers/0/threshold", "/categories"),
        ("/evidence/promises/0/successes", "/evidence"),
        ("/evidence/summary/correct", "/evidence"),
        ("/vectors/8/scores/ankle boot", "/vectors"),
        ("/digests/evidence", "/digests/evidence"),
        ("/digest", "/digest"),
    ],
)
def test_one_changed_digit_is_found_and_its_place_is_named(
    journey: Journey, tmp_path: Path, place: str, named: str
) -> None:
    document = document_of(journey)
    change_digit(document, place)
    changed = tmp_path / "policy.json"
    changed.write_text(json.dumps(document))
    result = workbench("verify", changed)
    assert 1 == result.exit_code
    assert result.stdout.startswith(f"does not hold  {named}")
    listed = workbench("verify", changed, "--json")
    assert (1, False) == (listed.exit_code, json.loads(listed.stdout)["valid"])


@pytest.mark.parametrize("place", ["/evidence/summary/majority", "/evidence/look"])
def test_a_figure_that_was_sealed_anew_does_not_stand_the_recount(journey: Journey, tmp_path: Path, place: str) -> None:
    document = document_of(journey)
    change_digit(document, place)
    seal(document)
    forged = tmp_path / "policy.json"
    forged.write_text(json.dumps(document))
    assert 0 == workbench("verify", forged).exit_code
    result = run_workbench("verify", forged, journey.run, journey.images)
    assert (1, "") == (result.returncode, result.stderr)
    assert result.stdout.startswith(f"does not hold  {place}: states ")
    assert 2 == len(result.stdout.splitlines())


# Decisions


def lines_of(journey: Journey) -> list[str]:
    return [write_prediction(prediction) for prediction in read_predictions(journey.run).predictions()]


def test_a_table_and_its_lines_are_decided_alike(journey: Journey, tmp_path: Path) -> None:
    lines, table = tmp_path / "decisions.jsonl", tmp_path / "decisions.parquet"
    (tmp_path / "predictions.jsonl").write_text("".join(f"{line}\n" for line in lines_of(journey)))
    assert 0 == workbench("decide", journey.policy, journey.run, "-o", table).exit_code
    assert 0 == workbench("decide", journey.policy, tmp_path / "predictions.jsonl", "-o", lines).exit_code
    one = pd.read_parquet(table).to_dict("records")
    other = [json.loads(line) for line in lines.read_text().splitlines()]
    assert 600 == len(one) == len(other)
    assert {"accept", "review", "pass"} >= {row["action"] for row in one} >= {"accept", "review"}
    for row, same in zip(one, other, strict=True):
        assert list(row["labels"]) == same["labels"]
        assert [with_binary32(mark) for mark in row["marks"]] == [with_binary32(mark) for mark in same["marks"]]
        rest = ("image_id", "action", "code", "reason", "policy")
        assert [row[name] for name in rest] == [same[name] for name in rest]


def with_binary32(mark: Mapping[str, Any]) -> dict[str, Any]:
    return {**mark, "score": np.float32(mark["score"]), "threshold": np.float32(mark["threshold"])}


def test_a_broken_line_goes_to_review_and_the_others_are_untouched(journey: Journey) -> None:
    lines = lines_of(journey)[:3]
    broken = [lines[0], '{"image_id": "a.png", "scores": {"trouser": "high"}}', "{", *lines[1:]]
    whole = workbench("decide", journey.policy, "-", stdin="\n".join(lines))
    result = workbench("decide", journey.policy, "-", stdin="\n".join(broken))
    assert 0 == result.exit_code
    decisions = [json.loads(line) for line in result.stdout.splitlines()]
    assert [("a.png", "review"), ("line 3", "review")] == [(d["image_id"], d["action"]) for d in decisions[1:3]]
    assert "/scores/trouser" in decisions[1]["reason"]
    assert [json.loads(line) for line in whole.stdout.splitlines()] == [decisions[0], *decisions[3:]]


# What is refused


def test_a_release_that_is_refused_says_why_and_writes_nothing(
    journey: Journey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = shutil.copytree(journey.images, tmp_path / "shoes", ignore=shutil.ignore_patterns(LEDGER_FILE))
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))  # of someone who never looked at these images
    goals = tmp_path / "goals.toml"
    goals.write_text(
        'confidence = 0.99\nbelow = "pass"\ntiers = [{action = "accept", metric = "precision", at_least = 0.999}]'
    )
    draft, policy = tmp_path / "draft.json", tmp_path / "policy.json"
    assert 0 == workbench("tune", journey.run, images, "--goals", goals, "-o", draft).exit_code
    refused = workbench("release", draft, journey.run, images, "-o", policy)
    assert 1 == refused.exit_code
    assert "No policy was written:\n  promises: 0 of 3 thresholds certified\n" in refused.stdout
    listed = workbench("release", draft, journey.run, images, "-o", policy, "--json")
    assert (1, None) == (listed.exit_code, json.loads(listed.stdout)["policy"])
    assert not policy.exists()


@pytest.fixture
def others(journey: Journey, tmp_path: Path) -> Path:
    """A second data set, of two categories, that nothing was trained on."""
    others = tmp_path / "others"
    for name in ("sandal", "trouser"):
        shutil.copytree(journey.images / name, others / name)
    return others


def test_a_run_of_another_data_set_is_refused(journey: Journey, others: Path, tmp_path: Path) -> None:
    check_refused(
        workbench("evaluate", journey.run, others, "-o", tmp_path),
        "this run of 'local-trained' does not belong to data set 'others'",
        "categories only in the run: 'ankle boot'",
        "Classify the data set again",
    )


def test_what_was_not_trained_says_how_to_train_it(others: Path) -> None:
    check_refused(
        workbench("classify", others, "--approach", "local-trained"),
        "run `workbench train DATASET --approach local-trained`",
    )


def test_goals_with_faults_are_refused_with_every_field(journey: Journey, tmp_path: Path) -> None:
    goals = tmp_path / "goals.toml"
    goals.write_text('below = "nothing"\ntiers = [{action = "act", metric = "precision", at_least = 0.9}]')
    result = workbench("tune", journey.run, journey.images, "--goals", goals, "-o", tmp_path / "draft.json")
    check_refused(
        result, f"{goals}: below: no action is called 'nothing'", f"{goals}: tiers: no action is called 'act'"
    )
    goals.write_text('below = "pass"\nconfidence = 95')
    result = workbench("tune", journey.run, journey.images, "--goals", goals, "-o", tmp_path / "draft.json")
    check_refused(result, f"{goals}: confidence: Input should be less than ", ", found 95")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("dataset nowhere", "nowhere: there is no such file or folder; embedded data sets: fashion, mosaics, stamps"),
        ("classify nowhere --approach local-cnn", "nowhere: there is no such file or folder"),
        ("classify {images} --approach magic", "no approach is called 'magic'; known: local-cnn, local-trained"),
        ("train {images} --approach local-cnn", "local-cnn does not learn"),
        ("evaluate {run} {images} --split certify -o x", "certify images are kept for `workbench release`"),
        ("evaluate nowhere.parquet {images} -o x", "nowhere.parquet: there is no such file"),
        ("evaluate {policy} {images} -o x", "policy.json: cannot be read as a prediction table"),
        ("release {policy} {run} {images} -o x", "policy.json"),
        ("verify {policy} {run}", "RUN and DATASET go together"),
        ("decide {run} {run}", "trained.parquet"),
        ("decide {policy} nowhere.jsonl", "nowhere.jsonl: cannot be read"),
        ("report {run} {run} --dataset {images} -o x", "a second run of 'local-trained'"),
        ("init {images}", "workbench.toml is there already; --force replaces it"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_message(journey: Journey, line: str, told: str) -> None:
    places = {"images": journey.images, "run": journey.run, "policy": journey.policy}
    check_refused(workbench(*shlex.split(line.format(**places))), told)


def check_refused(result: Result, *told: str) -> None:
    assert (2, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith("Error: ")
    assert 1 == result.stderr.count("Error: ")
    for words in told:
        assert words in result.stderr


# Help


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_that_the_command_takes(name: str) -> None:
    shown = workbench(*name.split(), "--help")
    assert 0 == shown.exit_code
    assert re.search(r"Examples?: ", shown.stdout)
    examples = re.findall(r"`workbench ([^`]*)`", COMMANDS[name].help)
    assert examples
    for example in examples:
        words = shlex.split(example.partition(" > ")[0])
        depth = len(name.split())
        assert name.split() == words[:depth]
        COMMANDS[name].make_context(name, words[depth:])


def test_output_that_nobody_reads_any_more_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run([WORKBENCH, "schema"], stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (1, "") == (done.returncode, done.stderr)


def test_help_lists_every_command() -> None:
    shown = workbench("--help").stdout
    steps = [
        "demo",
        "init",
        "dataset",
        "train",
        "classify",
        "evaluate",
        "tune",
        "release",
        "verify",
        "looks",
        "label-next",
        "add-labels",
        "second-labels",
        "label-noise",
        "decide",
        "forecast",
        "report",
        "stress",
        "bench-llm",
    ]
    assert [*steps, "schema", "cache"] == list(FIRST)
    for name in FIRST:
        assert re.search(rf"^\W*{name} ", shown, re.MULTILINE)


# Files that are no images, and processes that die


def test_each_broken_file_is_a_row_with_its_reason_and_the_others_are_untouched(
    store: Path, datasets: Path, tmp_path: Path
) -> None:
    images = copy_pictures(datasets, tmp_path / "shoes", {"ankle boot": 12, "sandal": 12, "trouser": 12})
    workbench("init", images)
    write_goals(images / "workbench.toml")
    whole, broken = tmp_path / "whole.parquet", tmp_path / "broken.parquet"
    answer("classify", images, "--approach", "local-cnn", "-o", whole)
    photo = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(photo, "JPEG")
    (images / "sandal" / "cut.jpg").write_bytes(photo.getvalue()[:700])
    (images / "sandal" / "empty.jpg").touch()
    (images / "trouser" / "text.jpg").write_text("these are not the trousers you are looking for\n")
    (images / "trouser" / "a.png").mkdir()
    told = answer("classify", images, "--approach", "local-cnn", "-o", broken)
    assert {"ok": 36, "unreadable": 2, "truncated": 1, "unsupported_format": 1} == told["outcomes"]
    frame, before = (read_predictions(path).frame.set_index("image_id") for path in (broken, whole))
    reasons = frame[frame["outcome"] != "ok"][["outcome", "detail"]].agg(": ".join, axis=1)
    assert {
        "sandal/empty.jpg": "unreadable: an empty file (0 bytes)",
        "trouser/a.png": "unreadable: a directory, not a file",
        "trouser/text.jpg": "unsupported_format: text, not one of JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF",
    } == reasons.drop("sandal/cut.jpg").to_dict()
    assert reasons["sandal/cut.jpg"].startswith("truncated: a JPEG that stops early")
    scores = [SCORE + name for name in ("ankle boot", "sandal", "trouser")]
    pd.testing.assert_frame_equal(before[scores], frame.loc[before.index, scores])
    assert frame.loc[reasons.index, scores].isna().all(axis=None)


def test_a_run_that_was_killed_goes_on_where_it_stopped(
    journey: Journey, datasets: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = copy_pictures(datasets, tmp_path / "shoes", {"ankle boot": 80, "sandal": 80, "trouser": 80})
    shutil.copyfile(journey.images / "workbench.toml", images / "workbench.toml")
    empty, run = tmp_path / "store", tmp_path / "run.parquet"
    empty.mkdir()
    for network in store.glob("*.onnx"):
        shutil.copyfile(network, empty / network.name)
    monkeypatch.setenv("WORKBENCH_STORE", str(empty))
    command = [str(WORKBENCH), "classify", str(images), "--approach", "local-cnn", "-o", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None and count_answers(empty) < 25:
            time.sleep(0.01)
        process.kill()
    assert -signal.SIGKILL == process.returncode
    stored = count_answers(empty)
    assert 25 <= stored < 240
    assert not run.exists()
    resumed = answer("classify", images, "--approach", "local-cnn", "-o", run)
    assert 240 - stored == resumed["asked"]
    assert {"ok": 240} == resumed["outcomes"]
    found, undisturbed = (
        read_predictions(path).frame.set_index("image_id").filter(like=SCORE)
        for path in (run, journey.folder / "local-cnn.parquet")
    )
    pd.testing.assert_frame_equal(undisturbed.loc[found.index], found)


def count_answers(store: Path) -> int:
    """How many answers are on file, seen from another process."""
    if not (store / "answers.sqlite").exists():
        return 0
    with closing(sqlite3.connect(f"file:{store / 'answers.sqlite'}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
        except sqlite3.OperationalError:  # the tables are not there yet
            return 0
