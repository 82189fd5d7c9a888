"""Claude, asked by the real SDK at a stand-in: what is sent, what it costs, what its answers and errors become."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawn import KINDS, draw, draw_dataset, rows_of
from samples import T, make_origin, make_policy
from servers.anthropic import Anthropic, Ending, error, spend_limit
from servers.base import Reply
from workbench.approaches.base import Batched, Service, Setting
from workbench.approaches.claude import Claude
from workbench.approaches.claude_cost import Span, Tariff, estimate_cost, text_tokens
from workbench.config.prices import packaged_prices
from workbench.dataset.images import Dataset
from workbench.decision import decide
from workbench.errors import (
    ConfigError,
    CredentialsError,
    PrerequisiteError,
    ProviderError,
    ServiceBusyError,
)
from workbench.prepare.decode import Prepared, prepare_bytes
from workbench.records import CENSORED, Mode, Prediction, Taxonomy

KEY = "sk-ant-a-secret-key"
TAXONOMY = Taxonomy(KINDS)
Build = Callable[..., Claude]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_BASE_URL", "ANTHROPIC_BEDROCK_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.delenv("ANTHROPIC_CONFIG_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def service() -> Iterator[Anthropic]:
    with Anthropic() as server:
        yield server


@pytest.fixture
def build(service: Anthropic) -> Iterator[Build]:
    """Approaches that ask the stand-in, closed again."""
    built: list[Claude] = []

    def make(taxonomy: Taxonomy = TAXONOMY, dataset: Dataset | None = None, **options: Any) -> Claude:
        options = {"base_url": service.url, **options}
        built.append(Claude.build(setting(taxonomy, dataset, **options)))
        return built[-1]

    yield make
    for claude in built:
        claude.close()


def setting(taxonomy: Taxonomy = TAXONOMY, dataset: Dataset | None = None, **options: Any) -> Setting:
    return Setting(taxonomy, {}, Path("nowhere"), options=options, dataset=dataset)


def prepared(claude: Claude, image: Image.Image | None = None) -> Prepared:
    file = BytesIO()
    (image or draw(("disc",), 3)).save(file, "PNG")
    ready = prepare_bytes(file.getvalue(), claude.preparation)
    assert isinstance(ready, Prepared)
    return ready


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


def sent_images(request: Mapping[str, Any]) -> list[Image.Image]:
    blocks = request["messages"][0]["content"]
    sources = [block["source"] for block in blocks if block["type"] == "image"]
    return [Image.open(BytesIO(base64.b64decode(source["data"]))) for source in sources]


def ask(claude: Claude, image: Image.Image | None = None) -> Mapping[str, float]:
    picture = prepared(claude, image)
    raws = [claude.ask(claude.request(picture, part)).raw for part in range(claude.parts)]
    return claude.parse(raws[0] if claude.parts == 1 else {"parts": raws})


def top(scores: Mapping[str, float]) -> str:
    return max(scores, key=lambda name: scores[name])


class TestAnswers:
    def test_keeps_the_protocols(self, build: Build) -> None:
        claude = build()
        assert isinstance(claude, Service)
        assert isinstance(claude, Batched)
        assert "" == claude.model_version
        assert {*KINDS, "unknown"} == set(claude.floors)

    @pytest.mark.parametrize("mode", ["single-label", "multi-label"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_the_model_says_is_the_score(self, build: Build, mode: Mode, kind: str) -> None:
        scores = ask(build(Taxonomy(KINDS, mode)), draw((kind,), 3))
        assert {*KINDS, "unknown"} == set(scores)
        assert kind == top(scores)
        assert CENSORED in scores.values()

    def test_the_single_protocol(self, build: Build) -> None:
        scores = ask(build(protocol="single"))
        assert [CENSORED] * 3 == [scores[name] for name in ("stripes", "checks", "unknown")]
        assert scores["disc"] >= 0.5

    def test_the_answer_names_its_version_and_cost(self, build: Build, service: Anthropic) -> None:
        claude = build()
        answer = claude.ask(claude.request(prepared(claude)))
        assert "claude-haiku-5-5" == answer.model_version
        assert 0 < answer.cost_usd == pytest.approx(service.bill)
        assert "data" not in json.dumps(answer.raw)

    @pytest.mark.parametrize(
        ("ending", "outcome"),
        [
            (Ending('{"guess_1":{"label":"SAFE","probability":1},"x":1}'), "malformed_answer"),
            (Ending("SAFE"), "unstructured_answer"),
            (Ending("I see a disc, clearly."), "unstructured_answer"),
            (Ending('{"guess_1":{"label":"dis'), "incomplete_answer"),
            (Ending("", "refusal", "cyber"), "refusal"),
        ],
    )
    @pytest.mark.parametrize("below", ["pass", "review"])
    def test_no_odd_answer_leads_to_an_automatic_action(
        self, build: Build, service: Anthropic, ending: Ending, outcome: str, below: str
    ) -> None:
        claude = build()
        service.endings.append(ending)
        answer = claude.ask(claude.request(prepared(claude)))
        with pytest.raises(ProviderError) as caught:
            claude.parse(answer.raw)
        assert outcome == caught.value.outcome
        policy = make_policy({"disc": (T("accept", 0.5),)}, categories=KINDS)
        decision = decide(Prediction("1", make_origin(TAXONOMY), outcome), policy)
        assert "review" == decision.action

    @pytest.mark.parametrize(
        ("labels", "probability", "outcome"),
        [
            (("SAFE", "disc", "stripes", "checks"), 0.25, "label_outside"),
            (("stripes", "disc", "checks", "unknown"), 1.7, "bad_probability"),
        ],
    )
    def test_what_a_text_in_the_image_brings_the_model_to_say_stays_outside(
        self, build: Build, service: Anthropic, labels: tuple[str, ...], probability: float, outcome: str
    ) -> None:
        claude = build()
        named = {f"guess_{n}": {"label": label, "probability": probability} for n, label in enumerate(labels, 1)}
        service.endings.append(Ending(json.dumps(named)))
        with pytest.raises(ProviderError) as caught:
            ask(claude)
        assert outcome == caught.value.outcome

    def test_thoughts_come_first_and_are_paid_for(self, build: Build, service: Anthropic) -> None:
        claude = build(model="claude-opus-5-5")
        service.endings.append(Ending(thinking=500))
        answer = claude.ask(claude.request(prepared(claude)))
        assert 0.9 < claude.parse(answer.raw)["disc"] <= 1
        assert answer.cost_usd == pytest.approx(service.bill)
        assert answer.raw["usage"]["output_tokens_details"] == {"thinking_tokens": 500}

    def test_an_answer_that_is_cut_off(self, build: Build) -> None:
        with pytest.raises(ProviderError) as caught:
            ask(build(max_tokens=5))
        assert "incomplete_answer" == caught.value.outcome

    def test_many_threads_share_a_client(self, build: Build, service: Anthropic) -> None:
        claude = build()
        picture = prepared(claude)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: claude.ask(claude.request(picture)).raw["text"], range(24)))
        assert 1 == len(set(answers))
        assert [200] * 24 == service.replies


class TestQuestions:
    def test_the_image_comes_before_the_text_and_nothing_is_sent_that_is_refused(self, build: Build) -> None:
        request = build(effort="low").request(prepared(build()))
        assert ["image", "text"] == [block["type"] for block in request["messages"][0]["content"]]
        assert {"type": "disabled"} == request["thinking"]
        assert "low" == request["output_config"]["effort"]
        assert {"model", "max_tokens", "system", "messages", "output_config", "thinking"} == set(request)

    @pytest.mark.parametrize(
        ("model", "thinking"),
        [
            ("claude-haiku-5-5", {"type": "disabled"}),
            ("claude-sonnet-5-5", {"type": "between_tools"}),
            ("claude-opus-5-5", None),
            ("claude-haiku-4-5", None),
        ],
    )
    def test_models_are_asked_to_think_as_little_as_they_can(self, build: Build, model: str, thinking: object) -> None:
        claude = build(model=model)
        request = claude.request(prepared(claude))
        assert thinking == request.get("thinking")
        assert (model == "claude-opus-5-5") == (request["max_tokens"] > 4096)
        claude.ask(request)

    @pytest.mark.parametrize(
        ("model", "size", "arrives"),
        [
            ("claude-haiku-5-5", (60, 40), (60, 40)),
            ("claude-haiku-5-5", (1920, 1080), (1920, 1080)),
            ("claude-haiku-5-5", (3840, 2160), (2576, 1449)),
            ("claude-haiku-4-5", (1920, 1080), (1456, 819)),
            ("claude-haiku-4-5-20251001", (1000, 1000), (1000, 1000)),
            ("claude-of-tomorrow", (3840, 2160), (1456, 819)),
        ],
    )
    def test_images_are_sent_at_the_size_that_the_model_uses(
        self, build: Build, model: str, size: tuple[int, int], arrives: tuple[int, int]
    ) -> None:
        claude = build(model=model)
        (image,) = sent_images(claude.request(prepared(claude, Image.new("RGB", size, "red"))))
        assert arrives == image.size == claude.preparation.size(*size)

    @pytest.mark.parametrize(("bedrock", "most"), [(False, 10_000_000), (True, 5 * 2**20)])
    def test_images_keep_the_limit_of_bytes(self, build: Build, bedrock: bool, most: int) -> None:
        claude = build(bedrock=bedrock, region="us-east-1")
        (block, _) = claude.request(prepared(claude, noise(2576, 1449)))["messages"][0]["content"]
        assert most / 4 < len(block["source"]["data"]) <= most

    def test_further_samples_list_the_labels_in_another_order(self, build: Build, service: Anthropic) -> None:
        one, three = build(), build(samples=3)
        picture = prepared(one)
        assert one.question == three.question
        assert one.fingerprint != three.fingerprint
        assert one.request(picture, 0) == three.request(picture, 0)
        assert [build(samples=20).request(picture, part) for part in range(3)] == [
            three.request(picture, part) for part in range(3)
        ]
        assert 3 == len({json.dumps(three.request(picture, part)["system"]) for part in range(3)})
        assert build(seed=1).request(picture, 1) != three.request(picture, 1)
        assert "disc" == top(ask(three))
        assert 3 == len(service.seen)

    def test_what_shapes_an_answer_is_in_the_question(self, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
        same = [build(), build(), build(timeout=5.0), build(samples=2), build(cache_prompt=True)]
        changes: list[dict[str, Any]] = [
            {"model": "claude-sonnet-5"}, {"protocol": "single"}, {"guesses": 2}, {"seed": 1}, {"shuffle": True},
            {"effort": "high"}, {"max_tokens": 300}, {"definitions": {"disc": "a round thing"}},
            {"taxonomy": Taxonomy(KINDS, unknown="none of these")}, {"taxonomy": Taxonomy(KINDS, "multi-label")},
            {"thinking": "adaptive"}, {"bedrock": True}, {"base_url": "https://gateway.example"}, {"base_url": ""},
        ]  # fmt: skip
        others = [build(**change) for change in changes]
        assert 1 == len({claude.question for claude in same})
        assert 1 + len(changes) == len({claude.question for claude in [same[0], *others]})
        monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
        assert build(base_url="").question not in {claude.question for claude in others}

    def test_a_pin_is_what_answers_are_held_against(self, build: Build) -> None:
        assert "claude-haiku-5-5" == build(model_version="claude-haiku-5-5").expects
        assert build().fingerprint == build(model_version="claude-haiku-5-5").fingerprint

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"definitions": {"dics": "round"}}, r"definitions: 'dics' is no category"),
            ({"definitions": {"disc": " "}}, "write a sentence"),
            ({"protocol": "best"}, r"approaches\.claude\.protocol"),
            ({"temperature": 0.0}, r"approaches\.claude\.temperature: there is no such field"),
            ({"thinking": "between_tools"}, "claude-haiku-5-5 takes adaptive or disabled"),
            ({"samples": 0}, r"approaches\.claude\.samples"),
            ({"base_url": "https://me:secret@gateway.example"}, "without user, password and query"),
            ({"base_url": "https://gateway.example:secret"}, "https://… is wanted"),
            ({"model": "sk-ant-secret-secret"}, r"approaches\.claude\.model: .* looks like a credential"),
            ({"definitions": {"disc": "AKIASECRETSECRET"}}, r"approaches\.claude\.definitions\.disc: .* credential"),
            ({"guesses": 1}, "guesses: of one guess alone"),
            ({"timeout": float("inf")}, r"approaches\.claude\.timeout"),
            ({"max_tokens": 128_001}, r"approaches\.claude\.max_tokens"),
            ({"prompt": "nowhere.md"}, r"nowhere\.md: No such file"),
        ],
    )
    def test_faulty_options_are_named(self, build: Build, options: dict[str, Any], words: str) -> None:
        with pytest.raises(ConfigError, match=words) as caught:
            build(**options)
        assert "secret" not in str(caught.value).lower()

    def test_what_cannot_go_together_is_refused(self, build: Build) -> None:
        with pytest.raises(ConfigError, match="names one label"):
            build(Taxonomy(KINDS, "multi-label"), protocol="single")
        with pytest.raises(ConfigError, match="use definitions"):
            Claude.build(Setting(TAXONOMY, {"disc": ("round",)}, Path("nowhere")))


class TestExamples:
    @pytest.fixture
    def dataset(self, tmp_path: Path) -> Dataset:
        return draw_dataset(tmp_path / "data", rows_of("single-label"), TAXONOMY)

    def test_come_from_train_alone(self, build: Build, dataset: Dataset) -> None:
        claude = build(dataset=dataset, examples=2)
        question = claude.question
        request = claude.request(prepared(claude))
        *examples, asked = sent_images(request)
        texts = [block["text"] for block in request["messages"][0]["content"] if block["type"] == "text"]
        train = dataset.on("train").frame
        labels = {
            np.asarray(Image.open(dataset.file(path))).tobytes(): names
            for path, names in zip(train["path"], train["labels"], strict=True)
        }
        shown = [labels[np.asarray(image).tobytes()] for image in examples]
        assert [f'An image of "{(names or ("unknown",))[0]}".' for names in shown] == texts[:-1]
        assert sorted([(), *((kind,) for kind in KINDS)] * 2) == sorted(shown)
        assert np.asarray(asked).tobytes() == np.asarray(draw(("disc",), 3)).tobytes()
        for path in dataset.on("tune").frame["path"]:
            dataset.file(path).write_bytes(b"no image")
        assert question == build(dataset=dataset, examples=2).question
        assert question != build(dataset=dataset, examples=2, seed=5).question
        assert question != build(dataset=dataset, examples=1).question
        assert "disc" == top(ask(claude))

    def test_one_that_cannot_be_read_gives_way_to_the_next(self, build: Build, dataset: Dataset) -> None:
        train = dataset.on("train").frame
        discs = [path for path, labels in zip(train["path"], train["labels"], strict=True) if labels == ("disc",)]
        for path in discs[1:]:
            dataset.file(path).write_bytes(b"no image")
        claude = build(dataset=dataset, examples=3)
        assert 3 + 3 + 3 + 1 + 1 == len(sent_images(claude.request(prepared(claude))))
        dataset.file(discs[0]).unlink()
        with pytest.raises(PrerequisiteError, match="no readable image of 'disc' on train"):
            build(dataset=dataset, examples=3)

    def test_without_a_data_set_there_are_none(self, build: Build) -> None:
        with pytest.raises(PrerequisiteError, match="name the data set"):
            build(examples=1)

    def test_more_than_twenty_images_are_kept_below_2000_pixels(self, build: Build, dataset: Dataset) -> None:
        few, many = build(dataset=dataset, examples=4), build(dataset=dataset, examples=5)
        picture = Image.new("RGB", (4000, 1000), "red")
        assert (2576, 644) == few.preparation.size(*picture.size)
        request = many.request(prepared(many, picture))
        assert 21 == len(sent_images(request))
        assert max(max(image.size) for image in sent_images(request)) <= 2000
        many.ask(request)

    def test_more_images_than_a_question_holds_are_refused(self, build: Build, tmp_path: Path) -> None:
        rows = [("train", (kind,)) for kind in KINDS for _ in range(34)]
        dataset = draw_dataset(tmp_path / "many", rows, TAXONOMY)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="103 images in one question; the limit is 100"):
            build(dataset=dataset, examples=34)


class TestCosts:
    CLOTHES = ("ankle boot", "bag", "coat", "dress", "pullover", "sandal", "t-shirt/top", "trousers")

    @pytest.mark.parametrize("mode", ["single-label", "multi-label"])
    @pytest.mark.parametrize("categories", [KINDS, CLOTHES, ("猫", "Hund", "Xylocopa_v2", "ß-Größe")])
    @pytest.mark.parametrize("size", [(28, 28), (320, 240), (1200, 900)])
    def test_low_and_high_bracket_the_bill_within_a_factor_of_two(
        self, build: Build, service: Anthropic, mode: Mode, categories: tuple[str, ...], size: tuple[int, int]
    ) -> None:
        claude = build(Taxonomy(categories, mode))
        picture = prepared(claude, Image.new("RGB", size, "red"))
        claude.ask(claude.request(picture))
        estimate = claude.estimate(*claude.preparation.size(*size))
        assert estimate.low_usd is not None
        assert estimate.high_usd is not None
        assert estimate.low_usd <= service.bill <= estimate.high_usd
        usual = categories != ("猫", "Hund", "Xylocopa_v2", "ß-Größe")
        assert estimate.high_usd < (2 if usual else 3) * estimate.low_usd

    @pytest.mark.parametrize(
        "options",
        [
            {"protocol": "single"},
            {"samples": 3},
            {"effort": "high", "thinking": "adaptive"},
            {"model": "claude-opus-5-5"},
            {"definitions": {"disc": "ein runder Gegenstand, auch ein Teller"}},
            {"cache_prompt": True},
            {"model": "claude-haiku-4-5"},
        ],
    )
    def test_every_call_lies_within_its_estimate(
        self, build: Build, service: Anthropic, options: dict[str, Any]
    ) -> None:
        claude = build(**options)
        picture = prepared(claude)
        service.ending = lambda params: Ending(thinking=300 if params["max_tokens"] > 4096 else 0)
        for part in range(claude.parts):
            claude.ask(claude.request(picture, part))
        estimate = claude.estimate(60, 60)
        for charge in service.charges:
            assert estimate.low_usd is not None
            assert estimate.high_usd is not None
            assert estimate.low_usd <= charge.usd <= estimate.high_usd

    def test_a_prompt_that_is_kept_is_cheaper_the_second_time(
        self, build: Build, service: Anthropic, tmp_path: Path
    ) -> None:
        dataset = draw_dataset(tmp_path / "data", rows_of("single-label"), TAXONOMY)
        claude = build(dataset=dataset, examples=3, cache_prompt=True, definitions={"disc": "round " * 300})
        for _ in range(2):
            claude.ask(claude.request(prepared(claude)))
        written, read = service.charges
        assert 0 < written.usage["cache_creation_input_tokens"] == read.usage["cache_read_input_tokens"]
        estimate = claude.estimate(60, 60)
        assert estimate.low_usd is not None
        assert estimate.high_usd is not None
        assert estimate.low_usd <= read.usd < written.usd <= estimate.high_usd

    def test_batches_cost_half(self, build: Build) -> None:
        claude = build()
        single, batch = claude.estimate(60, 60), claude.batch_estimate(60, 60)
        assert single.high_usd is not None
        assert pytest.approx(single.high_usd / 2) == batch.high_usd

    def test_above_100k_tokens_every_token_costs_more(self) -> None:
        tariff = Tariff(packaged_prices(), "anthropic/claude-haiku-5-5")
        at = estimate_cost(tariff, prefix=Span(0, 0), asked=Span(100_000, 100_001), told=Span(10, 10))
        assert pytest.approx((100_000 * 0.1 + 10 * 0.5) / 1e6) == at.low_usd
        assert pytest.approx((100_001 * 0.5 + 10 * 2.5) / 1e6) == at.high_usd

    def test_a_price_that_is_not_known_is_no_price(self, build: Build) -> None:
        claude = build(model="claude-of-tomorrow")
        assert (None, None) == (claude.estimate(60, 60).low_usd, claude.estimate(60, 60).high_usd)
        assert claude.price_note.startswith("no price for anthropic/claude-of-tomorrow/input")
        assert "" == build(cache_prompt=True).price_note

    @pytest.mark.parametrize(
        "text",
        ["", "The cat sat on the mat.", '{"guess_1":{"label":"a"}}', "猫" * 9, "äöü", "a\n\n\nb", "12345", " " * 9],
    )
    def test_bounds_on_text_are_bounds(self, text: str) -> None:
        low, high = text_tokens(text, names=(text,))
        assert low <= high <= len(text.encode())


class TestErrors:
    @pytest.mark.parametrize(
        ("fault", "kind", "words"),
        [
            (error(401, "authentication_error", f"invalid key {KEY}"), CredentialsError, "HTTP 401"),
            (error(402, "billing_error"), CredentialsError, "pay the bill"),
            (error(403, "permission_error"), CredentialsError, "HTTP 403"),
            (error(404, "not_found_error", "model: x"), ConfigError, r"approaches\.claude\.model: 'claude-haiku-5-5'"),
            (error(413, "request_too_large"), ProviderError, "HTTP 413"),
            (error(400, "invalid_request_error", "no"), ProviderError, "HTTP 400 invalid_request_error: no"),
            (error(422, "unprocessable"), ProviderError, "HTTP 422"),
            (spend_limit(), PrerequisiteError, "raise the spend limit"),
            (spend_limit("contract_spend_limit_reached"), PrerequisiteError, "raise the spend limit"),
        ],
    )
    def test_what_waiting_does_not_mend(
        self, build: Build, service: Anthropic, fault: Reply, kind: type[Exception], words: str
    ) -> None:
        claude = build()
        service.faults.append(fault)
        with pytest.raises(kind, match=words) as caught:
            ask(claude)
        assert not isinstance(caught.value, ServiceBusyError)
        assert KEY not in "".join(traceback.format_exception(caught.value))
        assert 1 == len(service.seen)

    @pytest.mark.parametrize(
        ("fault", "throttled", "retry_after", "billed"),
        [
            (error(429, "rate_limit_error", retry_after="7"), True, 7.0, False),
            (error(429, "rate_limit_error", retry_after_ms="250"), True, 0.25, False),
            (error(429, "rate_limit_error", retry_after="soon"), True, None, False),
            (error(429, "rate_limit_error", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), True, None, False),
            (error(429, "rate_limit_error"), True, None, False),
            (error(500, "api_error"), False, None, False),
            (error(503, "api_error", retry_after="2"), False, 2.0, False),
            (error(504, "timeout_error"), False, None, True),
            (error(529, "overloaded_error"), False, None, False),
            (Reply(200, b"", dropped=True), False, None, True),
            (Reply(200, b'{"half": 1}', {"content-type": "application/json"}, dropped=True), False, None, True),
            (Reply(200, b"{}", {"content-type": "application/json"}, delay=0.4), False, None, True),
            (Reply(200, b"{", {"content-type": "application/json"}), False, None, True),
            (Reply(200, b"<html>", {"content-type": "text/html"}), False, None, True),
            (Reply(200, b"[]", {"content-type": "application/json"}), False, None, True),
            (Reply(200, b'{"type":"message"}', {"content-type": "application/json"}), False, None, True),
        ],
    )
    def test_what_may_pass(
        self,
        build: Build,
        service: Anthropic,
        fault: Reply,
        throttled: bool,
        retry_after: float | None,
        billed: bool,
    ) -> None:
        claude = build(timeout=0.2)
        service.faults.append(fault)
        with pytest.raises(ServiceBusyError) as caught:
            ask(claude)
        busy = caught.value
        assert (throttled, retry_after, billed) == (busy.throttled, busy.retry_after, busy.billed)
        assert 1 == len(service.seen)

    def test_a_key_that_cannot_be_sent_ends_the_run_and_costs_nothing(
        self, build: Build, service: Anthropic, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-s3same-s3same\n")
        with pytest.raises(CredentialsError, match="such as a line break") as caught:
            ask(build())
        assert "s3same" not in str(caught.value)
        assert [] == service.seen

    @pytest.mark.parametrize("address", ["s3same", "http://host:s3same/"])
    def test_an_address_of_the_environment_that_is_none_ends_the_run(
        self, build: Build, monkeypatch: pytest.MonkeyPatch, address: str
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        claude = build(base_url="")
        with pytest.raises(ConfigError, match="look at ANTHROPIC_BASE_URL") as caught:
            ask(claude)
        assert "s3same" not in str(caught.value) + claude.lacks(Setting(TAXONOMY, {}, Path("nowhere")))

    def test_nobody_listens(self, build: Build) -> None:
        with pytest.raises(ServiceBusyError) as caught:
            ask(build(base_url="http://127.0.0.1:9"))
        assert not caught.value.billed

    def test_an_image_that_is_too_large_names_the_limit(self, build: Build) -> None:
        claude = build()
        request = claude.request(prepared(claude))
        file = BytesIO()
        Image.new("1", (8001, 8)).save(file, "PNG")
        source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(file.getvalue()).decode()}
        request["messages"][0]["content"][0]["source"] = source
        with pytest.raises(ProviderError, match="the limit is 8000 pixels a side"):
            claude.ask(request)


class TestCredentials:
    def test_none_are_named_with_what_to_do_and_nobody_is_asked(
        self, build: Build, service: Anthropic, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert "" == Claude.lacks(setting())
        monkeypatch.delenv("ANTHROPIC_API_KEY")
        assert "set ANTHROPIC_API_KEY" in Claude.lacks(setting())
        with pytest.raises(CredentialsError, match="set ANTHROPIC_API_KEY"):
            ask(build())
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token")
        assert "" == Claude.lacks(setting())
        assert [] == service.seen

    def test_a_profile_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ANTHROPIC_API_KEY")
        monkeypatch.setenv("ANTHROPIC_PROFILE", "nobody")
        assert "" != Claude.lacks(setting())

    def test_no_secret_shows(self, build: Build) -> None:
        claude = build()
        answer = claude.ask(claude.request(prepared(claude)))
        shown = [repr(claude), str(vars(claude)), repr(claude.client), json.dumps(answer.raw), repr(answer)]
        assert all(KEY not in text for text in shown)


class TestBedrock:
    @pytest.fixture
    def keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "an-aws-secret")
        monkeypatch.delenv("ANTHROPIC_API_KEY")

    def test_asks_by_its_own_way(self, build: Build, service: Anthropic, keys: None) -> None:
        claude = build(bedrock=True, region="eu-west-1")
        answer = claude.ask(claude.request(prepared(claude)))
        (seen,) = service.seen
        assert "/model/global.anthropic.claude-haiku-5-5/invoke" == seen.path
        assert "/eu-west-1/bedrock/aws4_request" in seen.headers["authorization"]
        assert "disc" == top(claude.parse(answer.raw))
        assert 0 < answer.cost_usd == pytest.approx(service.bill)
        estimate = claude.estimate(60, 60)
        assert estimate.low_usd is not None
        assert estimate.high_usd is not None
        assert estimate.low_usd <= answer.cost_usd <= estimate.high_usd

    def test_its_errors(self, build: Build, service: Anthropic, keys: None) -> None:
        claude = build(bedrock=True, region="eu-west-1")
        headers = {"content-type": "application/json"}
        service.faults += [
            Reply(403, b'{"message":"The security token an-aws-secret is expired"}', headers),
            Reply(429, b'{"message":"Too many requests"}', headers),
        ]
        with pytest.raises(CredentialsError, match=r"HTTP 403: The security token \*\*\* is expired"):
            ask(claude)
        with pytest.raises(ServiceBusyError, match="Too many requests") as caught:
            ask(claude)
        assert caught.value.throttled

    def test_what_is_missing(
        self, build: Build, service: Anthropic, keys: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        there = setting(bedrock=True, region="eu-west-1")
        assert "" == Claude.lacks(there)
        with pytest.raises(ConfigError, match="no AWS region"):
            ask(build(bedrock=True))
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "no AWS credentials" in Claude.lacks(there)
        with pytest.raises(CredentialsError):  # the SDK keeps credentials that it found, by region
            ask(build(bedrock=True, region="eu-north-1"))
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "a-token")
        assert "" == Claude.lacks(there)
        ask(build(bedrock=True, region="eu-west-1"))
        assert ["Bearer a-token"] == [seen.headers["authorization"] for seen in service.seen]
