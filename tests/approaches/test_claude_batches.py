"""Claude's batches, by the real SDK at a stand-in: what is sent, once; what comes back, in any order; what it costs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from drawn import KINDS, draw, draw_dataset, rows_of
from servers.anthropic import Ending, error, spend_limit
from servers.anthropic_batches import PATH, AnthropicBatches, BatchDesk
from servers.base import Reply, Seen
from workbench.approaches.base import Answer, Batched, Setting
from workbench.approaches.claude import Claude
from workbench.config.prices import Prices, packaged_prices
from workbench.dataset.images import Dataset
from workbench.errors import CredentialsError, PrerequisiteError, ProviderError, ServiceBusyError
from workbench.predictions import PredictionTable
from workbench.prepare.decode import Prepared, prepare_bytes
from workbench.records import Mode, Taxonomy
from workbench.runs.batches import classify_in_batches, plan_batches
from workbench.runs.cache import AnswerCache
from workbench.runs.handover import Clock
from workbench.runs.runner import classify

KEY = "sk-ant-a-secret-key"
TAXONOMY = Taxonomy(KINDS)
Build = Callable[..., Claude]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_BASE_URL", "ANTHROPIC_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture
def service() -> Iterator[AnthropicBatches]:
    with AnthropicBatches() as running:
        yield running


@pytest.fixture
def build(service: AnthropicBatches) -> Iterator[Build]:
    """Approaches that ask the stand-in, closed again."""
    built: list[Claude] = []

    def make(taxonomy: Taxonomy = TAXONOMY, prices: Prices | None = None, **options: Any) -> Claude:
        options = {"base_url": service.url, **options}
        setting = Setting(taxonomy, {}, Path("nowhere"), options=options, prices=prices or packaged_prices())
        built.append(Claude.build(setting))
        return built[-1]

    yield make
    for claude in built:
        claude.close()


def question(claude: Claude, seed: int = 3) -> dict[str, Any]:
    file = BytesIO()
    draw(("disc",), seed).save(file, "PNG")
    prepared = prepare_bytes(file.getvalue(), claude.preparation)
    assert isinstance(prepared, Prepared)
    return claude.request(prepared)


def posts(service: AnthropicBatches) -> list[Seen]:
    return [seen for seen in service.seen if (seen.method, seen.path) == ("POST", PATH)]


def in_batches(dataset: Dataset, claude: Claude, service: AnthropicBatches, store: Path) -> PredictionTable:
    """A run whose waiting moves the service's clock."""
    with AnswerCache(store / "answers.sqlite") as cache:
        clock = Clock(sleep=lambda seconds: service.desk.advance(600))
        table = classify_in_batches(dataset, claude, cache, store, clock=clock)
    assert isinstance(table, PredictionTable)
    return table


def live(dataset: Dataset, claude: Claude, store: Path) -> PredictionTable:
    with AnswerCache(store / "answers.sqlite") as cache:
        return classify(dataset, claude, cache)


@pytest.mark.parametrize("mode", ["single-label", "multi-label"])
@pytest.mark.parametrize("samples", [1, 2])
def test_live_and_batch_make_the_same_table_and_share_answers(
    build: Build, service: AnthropicBatches, tmp_path: Path, mode: Mode, samples: int
) -> None:
    taxonomy = replace(TAXONOMY, mode=mode)
    dataset = draw_dataset(tmp_path / "images", rows_of(mode)[::3], taxonomy)
    single, batched = build(taxonomy, samples=samples), build(taxonomy, samples=samples)
    one = live(dataset, single, tmp_path / "live")
    other = in_batches(dataset, batched, service, tmp_path / "batch")
    assert list(one.predictions()) == list(other.predictions())
    assert replace(one.info, created="") == replace(other.info, created="")
    assert one.frame["cached"].to_list() == other.frame["cached"].to_list()
    assert {"ok"} == set(one.frame["outcome"])
    asked = len(service.charges)
    assert 2 * len(dataset) * samples == asked
    again = live(dataset, batched, tmp_path / "batch")
    assert asked == len(service.charges)
    assert again.frame["cached"].all()


def test_the_bill_is_half_and_lies_within_the_plan(build: Build, service: AnthropicBatches, tmp_path: Path) -> None:
    dataset = draw_dataset(tmp_path / "images", rows_of("single-label")[::2], TAXONOMY)
    claude = build()
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        charge = plan_batches(dataset, claude, cache, tmp_path).charge
    table = in_batches(dataset, claude, service, tmp_path / "batch")
    bill = service.bill
    assert {"batch"} == {charge.tier for charge in service.charges}
    assert bill == pytest.approx(table.frame["cost_usd"].sum(), rel=1e-12)
    live(dataset, build(), tmp_path / "live")
    assert service.bill - bill == pytest.approx(2 * bill, rel=1e-12)
    assert charge is not None
    assert charge.low_usd is not None
    assert charge.high_usd is not None
    assert 0 < charge.low_usd <= bill <= charge.high_usd < 10 * bill


def test_what_is_sent_in_a_batch_is_what_is_sent_alone(build: Build, service: AnthropicBatches) -> None:
    claude = build()
    assert isinstance(claude, Batched)
    request = question(claude)
    claude.ask(request)
    batch = claude.submit({"a_1-Z": request})
    alone, together = service.seen
    assert {"requests": [{"custom_id": "a_1-Z", "params": alone.json}]} == together.json
    assert (1, False, 0.0, False) == (batch.questions, batch.ended, batch.seconds, batch.gone)
    assert f"{service.desk.held[batch.id].created:%Y-%m-%dT%H:%M:%S.%fZ}" == batch.created


def test_a_question_weighs_no_less_than_it_takes(build: Build, service: AnthropicBatches) -> None:
    claude = build(Taxonomy(("Überraschung", "猫", "🐈")))
    requests = {f"{seed:064}": question(claude, seed) for seed in range(4)}
    claude.submit(requests)
    (seen,) = posts(service)
    weights = sum(map(claude.weight, requests.values()))
    assert len(seen.body) <= weights + len('{"requests":[]}')
    assert weights < 1.1 * len(seen.body)


def test_a_batch_grows_old(build: Build, service: AnthropicBatches) -> None:
    claude = build()
    begun = claude.submit({"a": question(claude)})
    service.desk.advance(7200)
    ended = claude.poll(begun.id)
    assert ended == replace(begun, ended=True, seconds=3600.0)
    service.desk.advance(30 * 86_400)
    assert replace(begun, ended=True, seconds=3600.0, gone=True) == claude.poll(begun.id)
    assert None is claude.poll("msgbatch_0")
    assert BatchDesk.kept.days == claude.kept_days
    with pytest.raises(ServiceBusyError, match="the batch has no results"):
        next(claude.collect(begun.id))


def test_batches_come_newest_first_page_by_page(build: Build, service: AnthropicBatches) -> None:
    claude = build()
    request = question(claude)
    ids = []
    for number in range(103):
        service.desk.advance(1)
        ids.append(claude.submit({f"q{number}": request}).id)
    before = len(service.seen)
    assert ids[-1] == next(claude.batches()).id
    assert 1 == len(service.seen) - before
    assert ids[::-1] == [batch.id for batch in claude.batches()]


def test_answers_and_reasons_come_back_by_id_in_any_order(build: Build, service: AnthropicBatches) -> None:
    claude = build()
    requests = {f"id-{number}": question(claude, number) for number in range(12)}
    fates = ["answered", "errored", "canceled", "expired"]
    order = [request["messages"] for request in requests.values()]
    service.desk.fate = lambda params: fates[order.index(params["messages"]) % 4]
    service.ending = lambda params: Ending("", "refusal", "bio") if order.index(params["messages"]) == 8 else None
    batch = claude.submit(requests)
    service.desk.advance(3600)
    found = list(claude.collect(batch.id))
    assert list(requests) != [name for name, _ in found]
    results = dict(found)
    assert set(requests) == set(results)
    told = [results[f"id-{number}"] for number in range(12)]
    assert [Answer, ProviderError, ProviderError, ProviderError] * 3 == [type(one) for one in told]
    assert [
        "Claude: invalid_request_error: the question could not be processed",
        "Claude: canceled; its batch was canceled before it was answered",
        "Claude: expired; the service did not come to it within a day",
    ] == [one.detail for one in told[1:4] if isinstance(one, ProviderError)]
    first, refused = told[0], told[8]
    assert isinstance(first, Answer)
    assert isinstance(refused, Answer)
    assert "batch" == first.raw["service_tier"]
    assert "disc" == max(scores := dict(claude.parse(first.raw)), key=lambda name: scores[name])
    with pytest.raises(ProviderError, match=r"refusal: declined \(bio\)"):
        claude.parse(refused.raw)
    assert 0 == refused.cost_usd < first.cost_usd


def test_parameters_that_the_service_does_not_take_come_back_as_reasons(
    build: Build, service: AnthropicBatches
) -> None:
    claude = build()
    good = question(claude)
    bad = {"a": {**good, "stream": True}, "b": {**good, "max_tokens": 0}, "c": {**good, "model": "claude-3"}}
    batch = claude.submit({**bad, "d": good})
    service.desk.advance(3600)
    results = dict(claude.collect(batch.id))
    assert {
        "a": "Claude: invalid_request_error: stream: not supported in batches",
        "b": "Claude: invalid_request_error: max_tokens: Field required, at least 1 and at most 128000",
        "c": "Claude: not_found_error: model: claude-3",
    } == {name: one.detail for name, one in results.items() if isinstance(one, ProviderError)}
    assert isinstance(results["d"], Answer)


@pytest.mark.parametrize(
    ("reply", "throttled", "billed"),
    [
        (error(429, "rate_limit_error", retry_after="7"), True, False),
        (error(500, "api_error"), False, True),
        (error(504, "timeout_error"), False, True),
        (error(529, "overloaded_error"), False, True),
        (Reply(200, b"", dropped=True), False, True),
        (Reply(200, b'{"id": "msg', dropped=True), False, True),
        (Reply(200, b"<html>a proxy</html>", {"content-type": "text/html"}), False, True),
        (Reply(200, b"{}", {"content-type": "application/json"}), False, True),
    ],
)
def test_handing_in_is_never_repeated_and_says_whether_it_may_have_worked(
    build: Build, service: AnthropicBatches, reply: Reply, throttled: bool, billed: bool
) -> None:
    claude = build()
    service.faults.append(reply)
    with pytest.raises(ServiceBusyError) as busy:
        claude.submit({"a": question(claude)})
    assert (throttled, billed) == (busy.value.throttled, busy.value.billed)
    assert 1 == len(service.seen)
    assert (7.0 if throttled else None) == busy.value.retry_after


def test_a_service_that_is_not_there_has_taken_nothing(build: Build) -> None:
    claude = build(base_url="http://127.0.0.1:9")
    with pytest.raises(ServiceBusyError) as busy:
        claude.submit({"a": question(claude)})
    assert not busy.value.billed


def test_what_is_refused_as_a_whole_is_no_answer(build: Build, service: AnthropicBatches) -> None:
    claude = build()
    with pytest.raises(ProviderError, match=r"requests\.0\.custom_id: String should match pattern"):
        claude.submit({"a b": question(claude)})
    service.desk.most_bytes = 1000
    with pytest.raises(ProviderError, match=r"HTTP 413 request_too_large"):
        claude.submit({"a": question(claude)})
    service.faults.append(spend_limit())
    with pytest.raises(PrerequisiteError, match="raise the spend limit"):
        claude.submit({"a": question(claude)})
    service.keys = ("another",)
    for ask in (lambda: next(claude.batches()), lambda: claude.poll("b"), lambda: next(claude.collect("b"))):
        with pytest.raises(CredentialsError) as refused:
            ask()
        assert KEY not in "".join(traceback.format_exception(refused.value))
    assert {} == service.desk.held


def test_results_that_break_off_say_so(build: Build, service: AnthropicBatches) -> None:
    claude = build()
    batch = claude.submit({f"q{number}": question(claude, number) for number in range(3)})
    service.desk.advance(3600)
    service.fault = lambda seen: replace(service.answer(seen), dropped=True) if "results" in seen.path else None
    with pytest.raises(ServiceBusyError, match="the connection broke"):
        list(claude.collect(batch.id))
    service.fault = lambda seen: None
    assert 3 == len(list(claude.collect(batch.id)))


def test_bedrock_takes_no_batches(build: Build) -> None:
    claude = build(bedrock=True)
    for ask in (
        lambda: claude.batch_estimate(100, 100),
        lambda: claude.submit({}),
        lambda: next(claude.batches()),
        lambda: claude.poll("b"),
        lambda: next(claude.collect("b")),
    ):
        with pytest.raises(PrerequisiteError, match="Amazon Bedrock takes no message batches"):
            ask()


def test_without_a_price_for_batches_the_cost_is_not_known(build: Build) -> None:
    packaged = packaged_prices()
    alone = replace(packaged, usd={name: usd for name, usd in packaged.usd.items() if "batch" not in name})
    claude = build(prices=alone)
    assert claude.estimate(100, 100).high_usd is not None
    assert (None, None) == (claude.batch_estimate(100, 100).low_usd, claude.batch_estimate(100, 100).high_usd)
