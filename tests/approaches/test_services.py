"""What every approach promises that asks a service, held against its real client and a stand-in on loopback."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from approaches.offered import CASES, SECRETS, Build, Case, nowhere
from approaches.offered import Service as Facts
from servers.base import Reply, Seen, StandIn
from workbench.approaches.base import Service, Setting, approach_class, run_fingerprint
from workbench.config.prices import Prices
from workbench.errors import CredentialsError, PrerequisiteError, ProviderError, ServiceBusyError
from workbench.prepare.decode import Prepared, prepare_bytes
from workbench.records import Mode

UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation → what an upright picture is turned by, so that this tag makes it upright again."""
_ORIENTATION, _DESCRIPTION = 274, 270


@pytest.fixture(params=[key for key, case in CASES.items() if case.service])
def key(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def mode() -> Mode:
    """The way to a service is the same in both."""
    return "single-label"


@pytest.fixture
def facts(case: Case) -> Facts:
    assert case.service is not None
    return case.service


@pytest.fixture
def service(approach: Service) -> Service:
    return approach


@pytest.fixture
def server(case: Case, served: Callable[[Case], StandIn], service: Service) -> Iterator[StandIn]:
    """As if it had not been asked before; in order again afterwards."""
    found = served(case)
    usual = found.fault
    found.seen.clear()
    yield found
    found.faults.clear()
    found.fault = usual


@pytest.fixture
def picture(service: Service) -> Prepared:
    return prepared(service, saved(Image.new("RGB", (120, 90), (240, 240, 240)), "PNG"))


def prepared(service: Service, file: bytes) -> Prepared:
    found = prepare_bytes(file, service.preparation)
    assert isinstance(found, Prepared)
    return found


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


class TestIdentity:
    def test_it_says_what_a_service_says(self, service: Service) -> None:
        assert isinstance(service, Service)
        assert service.parts >= 1
        assert service.rate >= 0
        assert service.hourly_usd is None or service.hourly_usd >= 0
        assert 32 == len(bytes.fromhex(service.question))

    def test_how_an_answer_is_read_changes_the_reading_alone(
        self, case: Case, service: Service, setting: Setting, build: Build
    ) -> None:
        assert case.other_labels or case.other_options
        options = {**setting.options, **case.other_options}
        other = build(replace(setting, label_map=case.other_labels, options=options))
        assert service.question == other.question
        assert service.fingerprint != other.fingerprint

    def test_what_shapes_an_answer_changes_both(
        self, facts: Facts, service: Service, setting: Setting, build: Build
    ) -> None:
        others = [build(replace(setting, options={**setting.options, **more})) for more in facts.asked_otherwise]
        everything = [service, *others]
        assert len(everything) == len({item.question for item in everything})
        assert len(everything) == len({item.fingerprint for item in everything})

    def test_another_endpoint_is_another_question(
        self, facts: Facts, service: Service, setting: Setting, build: Build
    ) -> None:
        (address,) = [
            name for name, value in setting.options.items() if name in ("endpoint", "endpoint_url", "base_url")
        ]
        other = build(replace(setting, options={**setting.options, address: "http://127.0.0.1:9"}))
        assert service.question != other.question
        assert service.fingerprint != other.fingerprint

    def test_a_pinned_version_is_the_classifier_that_was_observed(
        self, server: StandIn, service: Service, setting: Setting, build: Build, picture: Prepared
    ) -> None:
        observed = service.ask(service.request(picture)).model_version
        if service.model_version:
            assert run_fingerprint(service, observed) == service.fingerprint
            return
        pinned = build(replace(setting, options={**setting.options, "model_version": observed}))
        assert observed == (pinned.model_version or pinned.expects)
        assert service.question == pinned.question
        assert run_fingerprint(service, observed) == run_fingerprint(pinned, observed)


class TestMoney:
    def test_an_estimate_is_a_range_or_unknown_with_the_reason(self, service: Service) -> None:
        for width, height in ((1, 1), (640, 480), (4000, 3000)):
            estimate = service.estimate(*service.preparation.size(width, height))
            assert (estimate.low_usd is None) == (estimate.high_usd is None)
            if estimate.low_usd is None or estimate.high_usd is None:
                assert service.price_note
            else:
                assert 0 <= estimate.low_usd <= estimate.high_usd

    def test_an_answer_costs_no_more_than_was_estimated(
        self, server: StandIn, service: Service, picture: Prepared
    ) -> None:
        height, width = picture.pixels.shape[:2]
        high = service.estimate(width, height).high_usd
        assert service.ask(service.request(picture)).cost_usd <= (high or 0)

    def test_without_prices_nothing_is_guessed(
        self, server: StandIn, setting: Setting, build: Build, picture: Prepared
    ) -> None:
        free = build(replace(setting, prices=Prices("2026-01-01", {}, {})))
        estimate = free.estimate(100, 100)
        assert free.price_note
        assert free.hourly_usd is None or estimate.high_usd is None
        assert 0 == free.ask(free.request(picture)).cost_usd


class TestRequests:
    def test_they_are_pure_and_the_same_each_time(self, server: StandIn, service: Service, picture: Prepared) -> None:
        before = picture.pixels.copy()
        for part in range(service.parts):
            assert service.request(picture, part) == service.request(picture, part)
        assert service.request(picture) == service.request(picture, 0)
        assert np.array_equal(before, picture.pixels)
        assert [] == server.seen

    def test_one_question_is_one_request_with_one_image(
        self, facts: Facts, server: StandIn, service: Service, picture: Prepared
    ) -> None:
        service.ask(service.request(picture))
        assert 1 == len(server.seen)
        assert np.array_equal(picture.pixels, np.asarray(Image.open(BytesIO(facts.image(server.seen[0])))))

    def test_pixels_arrive_upright_and_without_metadata(self, facts: Facts, server: StandIn, service: Service) -> None:
        for orientation in UPRIGHT:
            service.ask(service.request(prepared(service, turned(orientation))))
            data = facts.image(server.seen[-1])
            arrived = Image.open(BytesIO(data))
            assert {} == dict(arrived.getexif())
            assert not {"exif", "icc_profile", "comment", "xmp"} & arrived.info.keys()
            assert b"planted" not in data
            assert (120, 90) == arrived.size
            corners = [np.asarray(arrived.convert("RGB"), float)[y, x] for y in (10, 80) for x in (10, 110)]
            expected = ((200, 30, 30), (30, 160, 30), (30, 30, 200), (230, 230, 230))
            assert np.abs(np.array(expected) - np.array(corners)).max() < 12

    @pytest.mark.parametrize("shape", ["1 × 1", "1 × 10000", "8001 × 40", "noise"])
    def test_odd_pictures_arrive_within_the_limits_of_the_service(
        self, facts: Facts, server: StandIn, service: Service, shape: str
    ) -> None:
        answer = service.ask(service.request(prepared(service, odd(shape))))
        data = facts.image(server.seen[0])
        size = Image.open(BytesIO(data)).size
        assert len(data) <= facts.most_bytes
        assert facts.sides[0] <= min(size)
        assert max(size) <= facts.sides[1]
        assert answer.model_version
        service.parse(answer.raw)


@cache
def turned(orientation: int) -> bytes:
    """A JPEG with a red, a green, a blue and a light corner (upright, in reading order) and planted metadata."""
    pixels = np.zeros((90, 120, 3), np.uint8)
    pixels[:45, :60], pixels[:45, 60:] = (200, 30, 30), (30, 160, 30)
    pixels[45:, :60], pixels[45:, 60:] = (30, 30, 200), (230, 230, 230)
    image, turn = Image.fromarray(pixels), UPRIGHT[orientation]
    exif = Image.Exif()
    exif[_ORIENTATION], exif[_DESCRIPTION] = orientation, "planted description"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return saved(
        image.transpose(turn) if turn is not None else image,
        "JPEG", quality=95, subsampling=0, exif=exif, icc_profile=profile, comment=b"planted comment",
    )  # fmt: skip


@cache
def odd(shape: str) -> bytes:
    if shape == "noise":
        noise = np.random.default_rng(0).integers(0, 256, (1600, 2600, 3), np.uint8)
        return saved(Image.fromarray(noise), "BMP")
    width, height = map(int, shape.split(" × "))
    return saved(Image.new("RGB", (width, height), (20, 90, 20)), "PNG")


class TestFailures:
    """Whoever runs an approach decides when to ask again: `ask` sends one request, whatever comes back."""

    def failure(self, server: StandIn, service: Service, picture: Prepared, reply: Reply) -> Exception:
        request = service.request(picture)
        server.faults.append(reply)
        with pytest.raises((ProviderError, PrerequisiteError)) as caught:
            service.ask(request)
        assert 1 == len(server.seen)
        assert not server.faults
        return caught.value

    def test_too_fast(self, server: StandIn, service: Service, picture: Prepared) -> None:
        throttled = server.throttled(Seen("POST", "/", {}, b"", 0.0))
        error = self.failure(server, service, picture, throttled)
        assert isinstance(error, ServiceBusyError)
        assert (True, False) == (error.throttled, error.billed)

    @pytest.mark.parametrize(("status", "body"), [(500, b""), (502, b"<html>"), (503, b'"text"'), (500, b"[]")])
    def test_out_of_order(self, server: StandIn, service: Service, picture: Prepared, status: int, body: bytes) -> None:
        error = self.failure(server, service, picture, Reply(status, body))
        assert isinstance(error, ServiceBusyError)
        assert not error.throttled

    @pytest.mark.parametrize("body", [b"", b'{"half": "an answer", "that": "breaks off"}'])
    def test_broken_off(self, server: StandIn, service: Service, picture: Prepared, body: bytes) -> None:
        error = self.failure(server, service, picture, Reply(200, body, dropped=True))
        assert isinstance(error, ServiceBusyError)
        assert (False, True) == (error.throttled, error.billed)

    def test_not_let_in(self, facts: Facts, server: StandIn, service: Service, picture: Prepared) -> None:
        error = self.failure(server, service, picture, facts.denied)
        assert isinstance(error, CredentialsError)

    def test_a_faulty_image(self, facts: Facts, server: StandIn, service: Service, picture: Prepared) -> None:
        error = self.failure(server, service, picture, facts.error("this image is faulty"))
        assert isinstance(error, ProviderError)
        assert not isinstance(error, ServiceBusyError)
        assert "this image is faulty" in error.detail

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b"\xff\xfe"])
    def test_an_answer_of_another_form_is_this_images_and_may_have_cost(
        self, server: StandIn, service: Service, picture: Prepared, body: bytes
    ) -> None:
        server.faults.append(Reply(200, body, {"Content-Type": "application/json"}))
        request = service.request(picture)
        with pytest.raises(ProviderError) as caught:
            service.parse(service.ask(request).raw)
        assert not isinstance(caught.value, ServiceBusyError) or caught.value.billed
        assert 1 == len(server.seen)

    def test_after_a_failure_it_answers_again(self, server: StandIn, service: Service, picture: Prepared) -> None:
        self.failure(server, service, picture, Reply(200, b"", dropped=True))
        answer = service.ask(service.request(picture))
        assert answer.raw == json.loads(json.dumps(answer.raw, allow_nan=False))


class TestCredentials:
    @pytest.fixture
    def dialled(self, monkeypatch: pytest.MonkeyPatch) -> list[object]:
        """Addresses that somebody tried to reach."""
        dialled: list[object] = []

        def connect(self: socket.socket, address: object) -> None:
            dialled.append(address)
            raise ConnectionRefusedError

        monkeypatch.setattr(socket.socket, "connect", connect)
        monkeypatch.setattr(socket.socket, "connect_ex", connect)
        return dialled

    def test_nothing_is_lacking_where_they_are(self, case: Case, setting: Setting, dialled: list[object]) -> None:
        found = approach_class(case.name)
        assert issubclass(found, object)
        assert "" == found.lacks(setting)  # type: ignore[attr-defined]
        assert [] == dialled

    def test_what_is_lacking_is_said_in_words_and_nobody_is_asked(
        self,
        case: Case,
        setting: Setting,
        dialled: list[object],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        without(monkeypatch, tmp_path)
        words = approach_class(case.name).lacks(setting)  # type: ignore[attr-defined]
        assert len(words.split()) > 3
        assert [] == dialled

    def test_it_is_built_and_estimated_without(
        self, setting: Setting, build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with_them = build()
        without(monkeypatch, tmp_path)
        bare = build()
        assert (with_them.question, with_them.fingerprint) == (bare.question, bare.fingerprint)
        assert with_them.estimate(300, 200) == bare.estimate(300, 200)

    def test_none_goes_into_a_message_even_if_the_service_quotes_it(
        self, facts: Facts, server: StandIn, service: Service, picture: Prepared
    ) -> None:
        sent: list[str] = []

        def quote(seen: Seen) -> Reply:
            sent.append(seen.headers["authorization"].split()[-1].removeprefix("Signature="))
            return facts.error(f"strange headers: {dict(seen.headers)}")

        server.fault = quote
        request = service.request(picture)
        with pytest.raises(ProviderError) as caught:
            service.ask(request)
        told = f"{caught.value} {caught.value!r} {caught.value.__cause__!r} {service!r} {vars(service)}"
        for secret in (*SECRETS, *sent):
            assert secret not in told
        assert caught.value.__context__ is None


def without(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No credentials anywhere."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    for name, value in nowhere(folder).items():
        monkeypatch.setenv(name, value)
