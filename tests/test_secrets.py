"""A credential that is planted in the environment reaches nothing that is shown, logged or kept, whatever comes back.

The service is a stand-in that quotes all headers of the request in its errors, as a gateway that somebody debugs might.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from drawn import KINDS, draw
from servers import anthropic, aws_json, custom_labels, google, rekognition
from servers.base import Reply, Seen, StandIn
from workbench.approaches.base import (
    APPROACHES,
    Approach,
    Options,
    Service,
    Setting,
    approach_class,
    build_approach,
    read_options,
)
from workbench.cli.main import app
from workbench.dataset.images import COLUMNS, PROBLEM_COLUMNS, Dataset
from workbench.errors import ConfigError, WorkbenchError
from workbench.evaluation.labelled import join
from workbench.evaluation.summary import evaluate
from workbench.predictions import PredictionTable, write_predictions
from workbench.records import Taxonomy
from workbench.report.page import write_report
from workbench.runs.cache import AnswerCache
from workbench.runs.limits import Limits
from workbench.runs.plan import plan_run
from workbench.runs.realtime import Realtime
from workbench.runs.runner import classify

TAXONOMY = Taxonomy(KINDS)

AWS_KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIDPLANTED0000",
    "AWS_SECRET_ACCESS_KEY": "planted/aws+secret/Xq7",
    "AWS_SESSION_TOKEN": "planted//session+token/Zk2==",
    "AWS_DEFAULT_REGION": "us-east-1",
}
AWS_BEARER = {"AWS_BEARER_TOKEN_BEDROCK": "planted-bedrock-bearer-Pw5==", "AWS_DEFAULT_REGION": "us-east-1"}
API_KEY = {"ANTHROPIC_API_KEY": "planted.anthropic.key.Rv9"}
AUTH_TOKEN = {"ANTHROPIC_AUTH_TOKEN": "planted.gateway.token.Hn4"}
NO_SECRET = ("AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "GOOGLE_APPLICATION_CREDENTIALS")
CREDENTIAL_HEADERS = ("x-amz-security-token", "x-api-key", "authorization")

Words = Callable[[int, str], Reply]
"""Status and text → an error in the service's form."""


@dataclass(frozen=True)
class Case:
    """An approach, the credentials it finds, and who answers it."""

    approach: str
    stand_in: Callable[[], StandIn]
    environment: Callable[[Path], Mapping[str, str]]
    options: Callable[[StandIn], Mapping[str, Any]]
    refuse: Words
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asked_by: str = ""
    """What the target header of a question holds; other requests are answered. "": every request is a question."""


def aws_words(status: int, words: str) -> Reply:
    codes = {400: "InvalidParameterException", 401: "InvalidSignatureException", 403: "AccessDeniedException"}
    return aws_json.failure(codes.get(status, "InternalServerError"), words, status)


def claude_words(status: int, words: str) -> Reply:
    kinds = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 500: "api_error"}
    return anthropic.error(status, kinds.get(status, "api_error"), words)


def bedrock_words(status: int, words: str) -> Reply:
    return Reply(status, json.dumps({"message": words}).encode(), {"content-type": "application/json"})


def on_aws(name: str, labels: Mapping[str, tuple[str, ...]]) -> Case:
    def options(server: StandIn) -> Mapping[str, Any]:
        return {"endpoint_url": server.url}

    return Case(name, rekognition.Rekognition, lambda _: AWS_KEYS, options, aws_words, labels)


def in_a_profile(folder: Path) -> Mapping[str, str]:
    """The same credentials, in a file: no variable tells them."""
    keys = {name.lower(): value for name, value in AWS_KEYS.items() if name != "AWS_DEFAULT_REGION"}
    lines = ["[default]", *(f"{name} = {value}" for name, value in keys.items())]
    (folder / "aws-credentials").write_text("\n".join(lines) + "\n")
    return {"AWS_DEFAULT_REGION": AWS_KEYS["AWS_DEFAULT_REGION"]}


def on_custom_labels(asked_by: str, status: str) -> Case:
    def options(server: StandIn) -> Mapping[str, Any]:
        assert isinstance(server, custom_labels.CustomLabels)
        version = server.add_version("planted", "one", KINDS, status)
        return {"endpoint_url": server.url, "version": version, "poll_seconds": 0.001}

    def stand_in() -> StandIn:
        return custom_labels.CustomLabels(speed=1e7)

    return Case("rekognition-custom", stand_in, lambda _: AWS_KEYS, options, aws_words, {}, asked_by)


def on_claude(environment: Mapping[str, str], refuse: Words = claude_words, **options: Any) -> Case:
    def all_options(server: StandIn) -> Mapping[str, Any]:
        return {"base_url": server.url, **options}

    return Case("claude", anthropic.Anthropic, lambda _: environment, all_options, refuse)


def on_google(labels: Mapping[str, tuple[str, ...]]) -> Case:
    def environment(folder: Path) -> Mapping[str, str]:
        return {"GOOGLE_APPLICATION_CREDENTIALS": str(google.key_file(folder))}

    def all_options(server: StandIn) -> Mapping[str, Any]:
        return {"endpoint": server.url}

    return Case("google-vision", google.GoogleVision, environment, all_options, google.refused, labels)


CASES: Mapping[str, Case] = {
    "rekognition-labels": on_aws(
        "rekognition-labels", {"disc": ("disc",), "stripes": ("stripes",), "checks": ("checks",)}
    ),
    "rekognition-labels, profile": replace(
        on_aws("rekognition-labels", {"disc": ("disc",), "stripes": ("stripes",), "checks": ("checks",)}),
        environment=in_a_profile,
    ),
    "rekognition-moderation": on_aws(
        "rekognition-moderation", {"disc": ("gambling",), "stripes": ("alcohol",), "checks": ("pills",)}
    ),
    "rekognition-custom": on_custom_labels("", "TRAINING_COMPLETED"),
    "rekognition-custom, running": on_custom_labels("Detect", "RUNNING"),
    "claude": on_claude(API_KEY),
    "claude, bearer": on_claude(AUTH_TOKEN),
    "claude, bedrock": on_claude(AWS_KEYS, bedrock_words, bedrock=True),
    "claude, bedrock, bearer": on_claude(AWS_BEARER, bedrock_words, bedrock=True),
    "google-vision": on_google({kind: (kind,) for kind in KINDS}),
}

FAULTS: Mapping[str, Callable[[Case, str], Reply] | None] = {
    "answered": None,
    "HTTP 400": lambda case, words: case.refuse(400, words),
    "HTTP 401": lambda case, words: case.refuse(401, words),
    "HTTP 403": lambda case, words: case.refuse(403, words),
    "HTTP 500": lambda case, words: case.refuse(500, words),
    "a page with HTTP 200": lambda _, words: Reply(200, f"<pre>{words}</pre>".encode(), {"content-type": "text/html"}),
    "JSON with HTTP 200": lambda _, words: Reply(
        200, json.dumps({"message": words, "model": words}).encode(), {"content-type": "application/json"}
    ),
}

LABELS_OF = {case.approach: case.labels for case in CASES.values()}
REPORTED = ("rekognition-labels", "claude", "google-vision")
"""Reports take their time; of these, one is written about a run in which everything failed."""


def test_every_service_of_the_dictionary_is_tried() -> None:
    services = {name for name in APPROACHES if hasattr(approach_class(name), "lacks")}
    assert services == {case.approach for case in CASES.values()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("drawn")
    names = [f"{kind}.png" for kind in KINDS[:2]]
    for kind, name in zip(KINDS, names, strict=False):
        draw((kind,), 3).resize((96, 96)).save(root / name)
    labels = [(kind,) for kind in KINDS[:2]]
    rows = {"image_id": names, "path": names, "labels": labels, "split": "tune", "group": names}
    frame = pd.DataFrame({**rows, "weight": 1.0, "source": ""}, columns=list(COLUMNS))
    return Dataset("drawn", root, TAXONOMY, frame, pd.DataFrame(columns=list(PROBLEM_COLUMNS)))


class Log(logging.Handler):
    """All that anybody logs, as it would be formatted and with whatever else a record carries."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {self.format(record)} {vars(record)}")


@pytest.fixture
def log() -> Iterator[Log]:
    """Of everything, from DEBUG on, as `logging.basicConfig(level="DEBUG")` does it."""
    handler, root = Log(), logging.getLogger()
    named = [logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    before = {logger: logger.level for logger in (root, *named)}
    for logger in named:  # as they are in a new process
        logger.setLevel(logging.NOTSET)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    for logger, level in before.items():
        logger.setLevel(level)


@dataclass
class Trial:
    """One case against one fault, and everything that could be seen of it."""

    case: Case
    dataset: Dataset
    folder: Path
    reported: bool
    """A report is written, too."""
    seen: dict[str, str] = field(default_factory=dict)
    """By place."""

    def run(self, server: StandIn, fault: Callable[[Case, str], Reply] | None) -> None:
        if fault is not None:
            make = fault
            server.fault = lambda seen: make(self.case, quoted(seen)) if self._is_question(seen) else None
        setting = Setting(TAXONOMY, self.case.labels, self.folder / "store", options=dict(self.case.options(server)))
        self._show("setting", setting)
        with AnswerCache(self.folder / "store" / "answers.sqlite") as cache:
            try:
                approach = build_approach(self.case.approach, self.dataset, setting)
            except WorkbenchError as error:
                self._tell("building", error)
                return
            with closing(approach):  # type: ignore[type-var]
                self._ask(approach, cache, setting)
            self._read_files("while it is open")
        self._read_files("afterwards")

    def _is_question(self, seen: Seen) -> bool:
        return self.case.asked_by in seen.headers.get("x-amz-target", "")

    def _ask(self, approach: Approach, cache: AnswerCache, setting: Setting) -> None:
        self._show("approach", approach)
        self.seen["what the approach holds"] = repr(vars(approach))
        self._show("plan", plan_run(self.dataset, approach, cache))
        limits = Limits(seconds_per_image=0.01)
        lacks = approach.lacks(setting) if isinstance(approach, Service) else ""
        assert "" == lacks
        try:
            self._keep(classify(self.dataset, approach, cache, limits=limits))
        except WorkbenchError as error:
            self._tell("run", error)
        with Realtime(approach, cache, limits=limits) as realtime:
            data = (self.dataset.root / "disc.png").read_bytes()
            try:
                self._show("prediction", realtime.classify(data, "disc.png"))
            except WorkbenchError as error:
                self._tell("one image", error)
            self._show("realtime", realtime)

    def _keep(self, table: PredictionTable) -> None:
        self._show("table", table)
        self.seen["rows"] = table.frame.to_string(max_colwidth=None)
        write_predictions(table, self.folder / "store" / "run.parquet")
        if self.reported:
            evaluations = {"run": evaluate(join(table, self.dataset))}
            self._show("evaluation", evaluations["run"])
            write_report(self.folder / "store" / "report.html", title="", evaluations=evaluations, dataset=self.dataset)

    def _show(self, place: str, thing: Any) -> None:
        """As Python and a notebook show it."""
        self.seen[place] = f"{thing!r} {thing}"
        if hasattr(thing, "_repr_html_"):
            self.seen[f"{place} in a notebook"] = thing._repr_html_()

    def _tell(self, place: str, error: BaseException) -> None:
        """As it is told to users, and as a traceback with all that the frames hold, of all that led to it."""
        self.seen[f"error of {place}"] = f"{error!r} {error} {vars(error)}"
        whole = traceback.TracebackException.from_exception(error, capture_locals=True)
        self.seen[f"traceback of {place}"] = "".join(whole.format())
        behind = error.__cause__ or error.__context__
        if behind is not None:
            self._tell(f"{place}, behind it", behind)

    def _read_files(self, when: str) -> None:
        for path in sorted((self.folder / "store").rglob("*")):
            if path.is_file():
                self.seen[f"{path.name} {when}"] = path.read_bytes().decode("latin-1")


def quoted(seen: Seen) -> str:
    """The headers that hold credentials, as they came, by value and by name."""
    sent = [(name, seen.headers[name]) for name in CREDENTIAL_HEADERS if name in seen.headers]
    return f"denied: {', '.join(value for _, value in sent)}; {' '.join(f'{name}: {value}' for name, value in sent)}"


def secrets_of(server: StandIn, environment: Mapping[str, str]) -> set[str]:
    """What was planted, and what was made of it and sent."""
    planted = {value for name, value in environment.items() if name not in NO_SECRET}
    sent = [seen.headers[name] for seen in server.seen for name in CREDENTIAL_HEADERS if name in seen.headers]
    planted |= {value.split()[-1].removeprefix("Signature=") for value in sent}
    if path := environment.get("GOOGLE_APPLICATION_CREDENTIALS"):
        key = json.loads(Path(path).read_text())["private_key"]
        planted |= {line for line in key.splitlines() if not line.startswith("-")}
    return planted


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", CASES)
def test_no_credential_is_shown_logged_or_kept(
    name: str,
    fault: str,
    dataset: Dataset,
    log: Log,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    case = CASES[name]
    environment = case.environment(tmp_path)
    aws_json.only_these(monkeypatch, tmp_path, **environment)
    trial = Trial(case, dataset, tmp_path, reported=name in REPORTED and fault == "HTTP 400")
    with case.stand_in() as server:
        trial.run(server, FAULTS[fault])
    trial.seen["log"] = "\n".join(log.lines)
    trial.seen["standard output"], trial.seen["standard error"] = capfd.readouterr()
    secrets = secrets_of(server, environment)
    assert secrets
    assert any(secret in quoted(seen) for secret in secrets for seen in server.seen)  # it was sent, and quoted back
    assert not trial.reported or "report.html afterwards" in trial.seen
    leaks = {place for place, text in trial.seen.items() for secret in secrets if secret in text}
    assert set() == leaks
    assert "rows" in trial.seen or any(place.startswith("error of") for place in trial.seen)


ADDRESSES = {"claude": "base_url", "google-vision": "endpoint"}
MISPLACED = "planted.in.the.project.file.Gm2"
SERVICES = sorted(LABELS_OF)


@pytest.mark.parametrize(
    ("approach", "field_name"),
    [*((name, "api_key") for name in (*SERVICES, "local-cnn")), ("claude", "password"), ("claude", "token")],
)
def test_a_secret_in_the_project_file_is_refused_without_being_shown(
    approach: str, field_name: str, tmp_path: Path
) -> None:
    taxonomy = '[taxonomy]\ncategories = ["disc", "stripes", "checks"]\n'
    own = f'[approaches.{approach}]\n{field_name} = "{MISPLACED}"\n'
    (tmp_path / "workbench.toml").write_text(taxonomy + own)
    (tmp_path / "disc").mkdir()
    draw(("disc",), 1).save(tmp_path / "disc" / "1.png")
    told = CliRunner().invoke(app, ["classify", str(tmp_path), "--approach", approach, "--plan"])
    assert 2 == told.exit_code
    assert f"approaches.{approach}.{field_name}: there is no such field" in told.stderr
    assert MISPLACED not in told.output + told.stderr


@pytest.mark.parametrize(
    "address", [f"https://{MISPLACED}@host", f"https://user:{MISPLACED}@host", f"https://host?key={MISPLACED}"]
)
@pytest.mark.parametrize("approach", SERVICES)
def test_a_secret_in_an_address_is_refused_without_being_shown(approach: str, address: str, tmp_path: Path) -> None:
    options = {ADDRESSES.get(approach, "endpoint_url"): address}
    setting = Setting(TAXONOMY, LABELS_OF[approach], tmp_path, options=options)
    with pytest.raises(ConfigError, match=f"approaches.{approach}") as caught:
        approach_class(approach).build(setting)
    whole = traceback.TracebackException.from_exception(caught.value)
    assert MISPLACED not in "".join(whole.format()) + repr(caught.value)


def test_a_value_of_the_wrong_type_is_refused_without_being_shown() -> None:
    class Fields(Options):
        seed: int = 0

    with pytest.raises(ConfigError, match=r"approaches\.claude\.seed: .*integer") as caught:
        read_options(Fields, "claude", Setting(TAXONOMY, {}, Path(), options={"seed": MISPLACED}))
    assert MISPLACED not in "".join(traceback.TracebackException.from_exception(caught.value).format())
