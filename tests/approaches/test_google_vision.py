"""Google Vision by its real client, over loopback: how labels and grades are read, what is sent, what errors mean."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.cloud import vision
from PIL import Image

from drawn import KINDS as DRAWN
from drawn import draw
from servers.base import Reply, Seen, StandIn
from servers.google import KINDS, GoogleVision, annotated, key_file, refused
from workbench.approaches import google_vision
from workbench.approaches.base import Setting
from workbench.approaches.google_client import lacking
from workbench.canonical import binary32
from workbench.config.prices import packaged_prices
from workbench.errors import ConfigError, CredentialsError, ProviderError, ServiceBusyError
from workbench.prepare.decode import Prepared, prepare_bytes
from workbench.records import CENSORED, Taxonomy

LABELS = {"disc": ("disc",), "stripes": ("  STRIPES",), "checks": (f"mid:{KINDS['checks'][0]}", "chess board")}
NAMELESS = {"labels": [{"mid": "", "description": "", "score": 0.9}]}
GRADES = {"disc": ("adult", "spoof"), "stripes": ("violence",), "checks": ("Racy",)}


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = key_file(tmp_path)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    return file


@pytest.fixture
def service(keys: Path) -> Iterator[GoogleVision]:
    with GoogleVision() as server:
        yield server


Build = Callable[..., google_vision.GoogleVision]


@pytest.fixture
def build(service: GoogleVision) -> Iterator[Build]:
    """Approaches for this service, closed again."""
    built: list[google_vision.GoogleVision] = []

    def make(labels: Mapping[str, tuple[str, ...]] = LABELS, **options: Any) -> google_vision.GoogleVision:
        built.append(google_vision.GoogleVision.build(setting(labels, endpoint=service.url, **options)))
        return built[-1]

    yield make
    for approach in built:
        approach.close()


def setting(labels: Mapping[str, tuple[str, ...]] = LABELS, **options: Any) -> Setting:
    return Setting(Taxonomy(DRAWN, "multi-label"), labels, Path("unused"), options=options)


def shown(*kinds: str) -> Prepared:
    file = BytesIO()
    draw(kinds, 3).save(file, "PNG")
    prepared = prepare_bytes(file.getvalue(), google_vision.GoogleVision.preparation)
    assert isinstance(prepared, Prepared)
    return prepared


def label(mid: str, description: str, score: float) -> dict[str, Any]:
    return {"mid": mid, "description": description, "score": score}


class TestLabels:
    def test_a_score_is_the_labels_own(self, build: Build) -> None:
        approach = build()
        answer = approach.ask(approach.request(shown("stripes", "checks")))
        told = {item["description"]: item["score"] for item in answer.raw["labels"]}
        assert {
            "disc": CENSORED,
            "stripes": told["Stripes"],
            "checks": told["Check pattern"],
        } == approach.parse(answer.raw)
        assert "Picture" in told  # no category means it today; another label map may

    def test_terms_are_descriptions_in_any_case_or_ids_and_the_best_counts(self, build: Build) -> None:
        raw = {
            "labels": [label("/m/1", "Chess  Board", 0.7), label(KINDS["checks"][0], "?", 0.9), label("", "disc", 1)]
        }
        assert {"disc": 1.0, "stripes": CENSORED, "checks": binary32(0.9)} == build().parse(raw)

    def test_below_the_floor_is_censored_and_the_floor_is_stated(self, build: Build) -> None:
        raw = {"labels": [label("", "disc", 0.59), label("", "stripes", 0.6)]}
        approach = build(floor=0.6)
        assert dict.fromkeys(DRAWN, binary32(0.6)) == approach.floors
        assert {"disc": CENSORED, "stripes": binary32(0.6), "checks": CENSORED} == approach.parse(raw)

    def test_a_list_that_was_cut_above_the_floor_leaves_the_rest_open(self, build: Build) -> None:
        raw = {"labels": [label("", "disc", 0.9), label("", "cloud", 0.8)]}
        assert {"disc": binary32(0.9)} == build(max_results=2).parse(raw)
        assert {"disc": binary32(0.9), "stripes": CENSORED, "checks": CENSORED} == build(max_results=3).parse(raw)
        low = {"labels": [label("", "disc", 0.9), label("", "cloud", 0.5)]}
        assert {"disc": binary32(0.9), "stripes": CENSORED, "checks": CENSORED} == build(max_results=2).parse(low)

    def test_max_results_and_model_are_sent(self, build: Build, service: GoogleVision) -> None:
        approach = build(max_results=7, model="builtin/latest")
        approach.ask(approach.request(shown("disc")))
        sent = service.seen[0].json["requests"]
        assert [{"type": 4, "maxResults": 7, "model": "builtin/latest"}] == sent[0]["features"]

    @pytest.mark.parametrize("score", [1.5, -0.1, "NaN", "Infinity"])
    def test_no_score_is_outside_its_range(self, build: Build, service: GoogleVision, score: Any) -> None:
        service.faults.append(annotated({"labelAnnotations": [label("", "disc", score)]}))
        approach = build()
        raw = approach.ask(approach.request(shown())).raw
        assert raw == json.loads(json.dumps(raw, allow_nan=False))
        with pytest.raises(ProviderError, match="bad_probability: label 'disc' has the score"):
            approach.parse(raw)

    @pytest.mark.parametrize("raw", [{}, {"labels": {}}, {"labels": [1]}, {"labels": [{"mid": "x"}]}, NAMELESS])
    def test_another_form_is_refused(self, build: Build, raw: Mapping[str, Any]) -> None:
        with pytest.raises(ProviderError, match="malformed_answer"):
            build().parse(raw)

    def test_labels_that_are_no_labels_are_no_answer(self, build: Build, service: GoogleVision) -> None:
        service.faults.append(Reply(200, b'{"responses": [{"labelAnnotations": ["disc"]}]}'))
        approach = build()
        with pytest.raises(ProviderError, match="malformed_answer: a label without description and id"):
            approach.parse(approach.ask(approach.request(shown())).raw)


class TestSafeSearch:
    def test_grades_are_an_order_from_0_to_1(self, build: Build) -> None:
        approach = build(GRADES, feature="safe-search")
        grades = [grade.name for grade in vision.Likelihood if grade]
        told = [
            approach.parse({"safe_search": {**dict.fromkeys(google_vision._TERMS, "UNKNOWN"), "violence": grade}})
            for grade in grades
        ]
        assert [{"stripes": score} for score in (0.0, 0.25, 0.5, 0.75, 1.0)] == told
        assert ({}, False) == (approach.floors, approach.complete)

    def test_a_category_has_the_highest_grade_of_its_terms_and_none_if_one_is_unknown(self, build: Build) -> None:
        approach = build({**GRADES, "checks": ("racy", "medical")}, feature="safe-search")
        raw = approach.ask(approach.request(shown("disc"))).raw
        assert {"adult": "VERY_LIKELY", "spoof": "VERY_UNLIKELY", "medical": "UNKNOWN"}.items() <= raw[
            "safe_search"
        ].items()
        assert {"disc": 1.0, "stripes": 0.0} == approach.parse(raw)

    @pytest.mark.parametrize("grade", ["CERTAIN", "6", 5, None])
    def test_a_grade_that_nobody_knows_is_refused(self, build: Build, grade: object) -> None:
        with pytest.raises(ProviderError, match="is no grade of safe search"):
            build(GRADES, feature="safe-search").parse({"safe_search": dict.fromkeys(google_vision._TERMS, grade)})

    def test_a_grade_that_the_client_does_not_know_is_kept_and_refused(
        self, build: Build, service: GoogleVision
    ) -> None:
        approach = build(GRADES, feature="safe-search")
        service.faults.append(annotated({"safeSearchAnnotation": dict.fromkeys(google_vision._TERMS, 9)}))
        raw = approach.ask(approach.request(shown())).raw
        assert {"safe_search": dict.fromkeys(google_vision._TERMS, 9)} == raw
        with pytest.raises(ProviderError, match="'9' is no grade"):
            approach.parse(raw)

    def test_an_answer_without_it_is_refused(self, build: Build, service: GoogleVision) -> None:
        approach = build(GRADES, feature="safe-search")
        service.faults.append(annotated({}))
        with pytest.raises(ProviderError, match="no safe search"):
            approach.parse(approach.ask(approach.request(shown())).raw)


class TestLabelMap:
    @pytest.mark.parametrize(
        ("labels", "feature", "message"),
        [
            ({"disc": ("x",)}, "labels", r"no terms for 'stripes', 'checks'; list labels of the service"),
            ({**LABELS, "disc": ("midi:/m/0bt9lr",)}, "labels", r"none of `name:`, `mid:`; did you mean 'mid'"),
            ({**GRADES, "disc": ("mid:/m/0bt9lr",)}, "safe-search", r"begins with 'mid':"),
            ({**LABELS, "disk": ("x",)}, "labels", r"'disk' is no category of the taxonomy; did you mean 'disc'"),
            ({**LABELS, "disc": ("mid: ",)}, "labels", r"'disc': 'mid: ' names no label"),
            (
                {**GRADES, "disc": ("disc",)},
                "safe-search",
                r"'disc': 'disc' is no term of safe search; it grades adult, spoof",
            ),
        ],
    )
    def test_what_cannot_be_meant_is_refused(
        self, labels: Mapping[str, tuple[str, ...]], feature: str, message: str
    ) -> None:
        with pytest.raises(ConfigError, match=r"label map \[approaches\.google-vision\.labels\].*" + message):
            google_vision.GoogleVision.build(setting(labels, feature=feature))

    def test_the_word_for_unknown_may_be_mapped_too(self, build: Build) -> None:
        approach = build({**LABELS, "unknown": ("cloud",)})
        assert approach.scores_unknown
        scores = approach.parse({"labels": [label("", "cloud", 0.75)]})
        assert {"disc": CENSORED, "stripes": CENSORED, "checks": CENSORED, "unknown": 0.75} == scores
        assert not build().scores_unknown

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("vision.googleapis.com", "an address like https"),
            ("https://me:s3cret@vision.googleapis.com", "without user, password and query"),
            ("https://vision.googleapis.com?key=s3cret", "without user, password and query"),
        ],
    )
    def test_an_address_is_checked_and_a_secret_in_it_not_repeated(self, address: str, message: str) -> None:
        with pytest.raises(ConfigError, match=rf"approaches\.google-vision\.endpoint: .*{message}") as caught:
            google_vision.GoogleVision.build(setting(endpoint=address))
        assert "s3cret" not in str(caught.value)


class TestIdentity:
    def test_the_service_tells_no_version_so_the_model_and_a_name_stand_for_it(self, build: Build) -> None:
        assert "builtin/stable" == build().model_version
        stated = build(model="builtin/latest", model_version="autumn 2026")
        assert "builtin/latest autumn 2026" == stated.model_version
        assert stated.model_version == stated.ask(stated.request(shown())).model_version

    def test_what_shapes_an_answer_and_what_only_how_it_is_read(self, build: Build) -> None:
        plain = build()
        for options in ({"max_results": 5}, {"model": "builtin/latest"}):
            assert plain.question != build(**options).question
        assert plain.question != build(GRADES, feature="safe-search").question
        for read in (build(floor=0.7), build({**LABELS, "disc": ("circle",)}), build(model_version="autumn 2026")):
            assert plain.question == read.question
            assert plain.fingerprint != read.fingerprint

    def test_money_is_the_users_to_state(self, service: GoogleVision, build: Build) -> None:
        unknown = build()
        assert (None, None) == (unknown.estimate(10, 10).low_usd, unknown.estimate(10, 10).high_usd)
        assert "'google/vision/label-detection' (USD per image)" in unknown.price_note
        prices = packaged_prices().override({"google/vision/label-detection": 0.002}, "here")
        known = google_vision.GoogleVision.build(replace(setting(endpoint=service.url), prices=prices))
        assert (0.002, 0.002, "") == (known.estimate(1, 1).low_usd, known.estimate(9, 9).high_usd, known.price_note)
        assert 0.002 == known.ask(known.request(shown())).cost_usd
        known.close()
        assert "safe-search-detection" in build(GRADES, feature="safe-search").price_note


class TestErrors:
    @pytest.mark.parametrize("feature", ["labels", "safe-search"])
    @pytest.mark.parametrize(
        "body", [b"<html>", b'{"responses": 5}', b"[]", b'{"responses": []}', b"{", b'"a"', b"\xff"]
    )
    def test_an_answer_in_another_form_is_one_images_failure_and_paid(
        self, build: Build, service: GoogleVision, body: bytes, feature: str
    ) -> None:
        approach = build(LABELS if feature == "labels" else GRADES, feature=feature)
        service.faults.append(Reply(200, body))
        answer = approach.ask(approach.request(shown()))
        assert {"unreadable": True} == answer.raw
        with pytest.raises(ProviderError, match="malformed_answer"):
            approach.parse(answer.raw)

    @pytest.mark.parametrize(("code", "busy", "throttled"), [(8, True, True), (14, True, False), (3, False, False)])
    def test_an_error_about_the_image_within_an_answer(
        self, build: Build, service: GoogleVision, code: int, busy: bool, throttled: bool
    ) -> None:
        service.faults.append(annotated({"error": {"code": code, "message": "told so"}}))
        approach = build()
        with pytest.raises(ProviderError, match=rf"code {code}\): told so") as caught:
            approach.ask(approach.request(shown()))
        assert (busy, throttled) == (
            isinstance(caught.value, ServiceBusyError),
            getattr(caught.value, "throttled", False),
        )

    @pytest.mark.parametrize(
        ("reply", "after"),
        [
            (refused(429, "slow"), None),
            (refused(429, "slow", {"Retry-After": "3"}), 3.0),
            (refused(429, "slow", {"Retry-After": "3"}, delay="0.5s"), 0.5),
            (refused(429, "slow", {"Retry-After": "Thu, 26 Nov 2026 02:39:24 GMT"}), None),
            (refused(429, "slow", {"Retry-After": "nan"}), None),
        ],
    )
    def test_too_fast_and_when_to_come_back(
        self, build: Build, service: GoogleVision, reply: Reply, after: float | None
    ) -> None:
        service.faults.append(reply)
        approach = build()
        with pytest.raises(ServiceBusyError, match=r"HTTP 429: slow$") as caught:
            approach.ask(approach.request(shown()))
        assert (True, after, False) == (caught.value.throttled, caught.value.retry_after, caught.value.billed)

    @pytest.mark.parametrize(
        ("reply", "billed"),
        [
            (refused(500, "no"), False),
            (refused(503, "no"), False),
            (refused(504, "no"), True),
            (Reply(503, b"<html>"), False),
            (Reply(200, b"", dropped=True), True),
            (Reply(200, b'{"responses": [{}]}', dropped=True), True),
        ],
    )
    def test_it_may_answer_later(self, build: Build, service: GoogleVision, reply: Reply, billed: bool) -> None:
        service.faults.append(reply)
        approach = build()
        with pytest.raises(ServiceBusyError) as caught:
            approach.ask(approach.request(shown()))
        assert (False, billed) == (caught.value.throttled, caught.value.billed)
        assert 1 == len(service.seen)

    def test_a_service_that_takes_too_long_may_have_billed(
        self, build: Build, service: GoogleVision, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workbench.approaches.google_client._PATIENCE_SECONDS", 0.05)
        service.faults.append(Reply(200, b"{}", delay=0.3))
        approach = build()
        with pytest.raises(ServiceBusyError, match="ReadTimeout") as caught:
            approach.ask(approach.request(shown()))
        assert caught.value.billed

    def test_a_service_that_nobody_reaches_bills_nothing(self, build: Build, service: GoogleVision) -> None:
        approach = build()
        service.close()
        with pytest.raises(ServiceBusyError, match="cannot be reached") as caught:
            approach.ask(approach.request(shown()))
        assert not caught.value.billed

    @pytest.mark.parametrize(("code", "words"), [(401, "who?"), (403, "Vision API has not been enabled in project 7")])
    def test_who_is_not_let_in_is_told_once(self, build: Build, service: GoogleVision, code: int, words: str) -> None:
        service.faults.append(refused(code, words))
        approach = build()
        with pytest.raises(CredentialsError, match=rf"HTTP {code}\): {words}"):
            approach.ask(approach.request(shown()))
        assert 1 == len(service.seen)

    @pytest.mark.parametrize("reply", [refused(400, "Bad"), refused(404, "Bad"), Reply(400, b"Bad")])
    def test_anything_else_is_this_images(self, build: Build, service: GoogleVision, reply: Reply) -> None:
        service.faults.append(reply)
        approach = build()
        with pytest.raises(ProviderError, match="provider_error") as caught:
            approach.ask(approach.request(shown()))
        assert not isinstance(caught.value, ServiceBusyError)

    def test_a_token_that_the_service_quotes_goes_no_further(self, build: Build, service: GoogleVision) -> None:
        service.fault = lambda seen: refused(400, f"strange: {seen.headers['authorization']}")
        approach = build()
        with pytest.raises(ProviderError) as caught:
            approach.ask(approach.request(shown()))
        assert "provider_error: HTTP 400: strange: Bearer …" == str(caught.value)


class Machine(StandIn):
    """The metadata server of a machine of Google's, with one account."""

    def answer(self, seen: Seen) -> Reply:
        token = {"access_token": "of-the-machine", "expires_in": 3600, "token_type": "Bearer"}
        account = {"email": "default", "scopes": [], "aliases": ["default"]}
        asked = seen.path.partition("?")[0].rpartition("/")[2]
        found = {"": account, "token": token}[asked]
        return Reply(200, json.dumps(found).encode(), {"Metadata-Flavor": "Google", "Content-Type": "application/json"})


class TestCredentials:
    @pytest.fixture
    def nowhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
        return tmp_path

    def test_none_are_named_with_what_to_do_and_nobody_is_asked(self, nowhere: Path) -> None:
        words = google_vision.GoogleVision.lacks(setting())
        assert "set GOOGLE_APPLICATION_CREDENTIALS to a key file" in words
        assert "gcloud auth application-default login" in words
        approach = google_vision.GoogleVision.build(setting())
        with pytest.raises(CredentialsError, match="no Google credentials"):
            approach.ask(approach.request(shown()))

    def test_they_are_found_where_google_looks(self, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (nowhere / "gcloud").mkdir()
        key_file(nowhere).rename(nowhere / "gcloud" / "application_default_credentials.json")
        assert "" == google_vision.GoogleVision.lacks(setting())
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(nowhere / "gone.json"))
        assert "GOOGLE_APPLICATION_CREDENTIALS names a file that does not exist" == lacking(False)

    def test_those_of_the_machine_are_taken_only_if_told(self, nowhere: Path) -> None:
        assert "" == google_vision.GoogleVision.lacks(setting(metadata_server=True))

    def test_and_then_the_machine_is_asked_for_them(
        self, service: GoogleVision, build: Build, nowhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Machine() as machine:
            monkeypatch.setenv("GCE_METADATA_HOST", machine.url.removeprefix("http://"))
            approach = build(metadata_server=True, quota_project="who-pays")
            service.fault = lambda seen: annotated({})
            approach.ask(approach.request(shown()))
        assert "Bearer of-the-machine" == service.seen[0].headers["authorization"]
        assert "who-pays" == service.seen[0].headers["x-goog-user-project"]
        assert any(seen.path.startswith("/computeMetadata/v1/instance/service-accounts/") for seen in machine.seen)

    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"type": "service_account", "private_key": "s3cret-key"}'])
    def test_a_damaged_key_file_is_refused_without_a_word_of_it(
        self, nowhere: Path, monkeypatch: pytest.MonkeyPatch, content: str
    ) -> None:
        (nowhere / "key.json").write_text(content, encoding="utf-8")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(nowhere / "key.json"))
        approach = google_vision.GoogleVision.build(setting())
        with pytest.raises(CredentialsError, match="cannot be used") as caught:
            approach.ask(approach.request(shown()))
        assert "s3cret" not in f"{caught.value!r}{caught.value.__cause__!r}"

    def test_without_the_package_it_is_named(self) -> None:
        """A program of its own, in which Google's packages cannot be found."""
        program = """
import sys
sys.modules["google"] = None
from pathlib import Path
from workbench.approaches.base import Setting, approach_class
from workbench.records import Taxonomy
setting = Setting(Taxonomy(("a",), "multi-label"), {"a": ("cat",)}, Path("unused"))
found = approach_class("google-vision")
print(found.lacks(setting), found.build(setting).model_version)
"""
        shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert "the Google Vision client is not installed: pip install google-cloud-vision builtin/stable\n" == shown


def test_a_large_picture_is_sent_small_and_still_within_our_limit(build: Build, service: GoogleVision) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1100, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    approach = build()
    prepared = prepare_bytes(file.getvalue(), approach.preparation)
    assert isinstance(prepared, Prepared)
    content = approach.request(prepared)["requests"][0]["image"]["content"]
    assert len(content) <= 4 * 2**20
    assert (1024, 1024) == Image.open(BytesIO(content)).size
