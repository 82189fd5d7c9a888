"""The real-time face against the batch face, with a real approach, real files of all kinds, and a real cache."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from drawn import KINDS, draw
from samples import T, make_policy
from workbench.approaches.base import Answer, Estimate, Setting, run_fingerprint
from workbench.canonical import binary32, digest
from workbench.dataset.images import COLUMNS, PROBLEM_COLUMNS, Dataset
from workbench.decision import decide
from workbench.errors import (
    BudgetError,
    ConfigError,
    CredentialsError,
    IdentityError,
    ProviderError,
    RunError,
    ServiceBusyError,
)
from workbench.predictions import read_predictions, write_predictions
from workbench.prepare.decode import Preparation, Prepared
from workbench.records import CENSORED, Decision, Origin, Policy, Prediction, Routing, Taxonomy
from workbench.runs.cache import AnswerCache
from workbench.runs.limits import Limits
from workbench.runs.realtime import Realtime
from workbench.runs.runner import classify

PREPARATION = Preparation(8, 8, "pad")
TAXONOMY = Taxonomy(("shoe", "boot", "bag"), unknown="other")
COST = 0.25


@dataclass
class Colours:
    """How red, green and blue is it? A service whose version only answers tell."""

    problem: Callable[[str], Exception | None] = lambda pixels: None
    """What asking about some pixels raises."""
    observed: str = "colours-1"
    before: Callable[[], Any] = lambda: None
    """Called while a question is under way."""
    asked: list[str] = field(default_factory=list)
    taxonomy: Taxonomy = TAXONOMY
    name: str = "colours"
    preparation: Preparation = PREPARATION
    model_version: str = ""
    fingerprint: str = digest("colours")
    question: str = digest("which colours?")
    complete: bool = False
    scores_unknown: bool = False
    floors: Mapping[str, float] = field(default_factory=lambda: {"bag": 0.25})
    parallel: int = 4
    parts: int = 1
    rate: float = 0.0
    hourly_usd: float | None = 0.0
    price_note: str = ""

    @classmethod
    def build(cls, setting: Setting) -> Colours:
        return cls(taxonomy=setting.taxonomy)

    @classmethod
    def lacks(cls, setting: Setting) -> str:
        return ""

    def estimate(self, width: int, height: int) -> Estimate:
        return Estimate(COST, COST)

    def request(self, prepared: Prepared, part: int = 0) -> Any:
        return prepared.digest, [float(value) for value in prepared.pixels.mean(axis=(0, 1)) / 255]

    def ask(self, request: Any) -> Answer:
        pixels, means = request
        self.asked.append(pixels)
        self.before()
        problem = self.problem(pixels)
        if problem is not None:
            raise problem
        return Answer({"means": means}, self.observed, COST)

    def parse(self, raw: Mapping[str, Any]) -> Mapping[str, float]:
        means = dict(zip(TAXONOMY.categories, map(binary32, raw["means"]), strict=True))
        if means["shoe"] > 0.95 and means["boot"] > 0.95:
            raise ProviderError("refusal", "too bright to look at")
        return means | ({"bag": CENSORED} if means["bag"] < 0.25 else {})

    @property
    def origin(self) -> Origin:
        version = self.observed
        return Origin(self.name, version, run_fingerprint(self, version), self.preparation.id, self.taxonomy.digest)


def policy_for(approach: Colours) -> Policy:
    tiers = {
        "shoe": [T("review", 0.4, "any"), T("accept", 0.6)],
        "boot": [T("accept", 0.55)],
        "bag": [T("escalate", 0.5)],
    }
    routing = Routing("pass", on_outcome={"truncated": "escalate", "refusal": "escalate"})
    policy = make_policy(tiers, routing=routing)
    return replace(policy, taxonomy=TAXONOMY, origin=approach.origin)


def plain(red: int, green: int, blue: int, kind: str = "PNG") -> bytes:
    data = BytesIO()
    Image.new("RGB", (10, 10), (red, green, blue)).save(data, kind)
    return data.getvalue()


def drawn(kind: str, seed: int) -> bytes:
    data = BytesIO()
    draw((kind,), seed).save(data, "JPEG")
    return data.getvalue()


CUT = drawn("disc", 0)[:1000]
channel = st.integers(0, 255)
sound = st.builds(plain, channel, channel, channel) | st.builds(drawn, st.sampled_from(KINDS), st.integers(0, 5))
cut = st.builds(lambda data, share: data[: int(len(data) * share)], sound, st.floats(0, 1))
files = st.lists(sound | cut | st.binary(max_size=30) | st.just(b"") | st.just(plain(255, 255, 0)), max_size=12)


def fails_sometimes(pixels: str) -> Exception | None:
    return ProviderError("incomplete_answer", "cut off", COST) if int(pixels[:2], 16) < 40 else None


def dataset_of(root: Path, contents: list[bytes]) -> Dataset:
    root.mkdir(exist_ok=True)
    names = [f"{number:03}.png" for number in range(len(contents))]
    for name, data in zip(names, contents, strict=True):
        (root / name).write_bytes(data)
    rows = {"image_id": names, "path": names, "labels": [("shoe",)] * len(names), "split": "tune", "group": names}
    frame = pd.DataFrame({**rows, "weight": 1.0, "source": ""}, columns=list(COLUMNS))
    return Dataset("images", root, TAXONOMY, frame, pd.DataFrame(columns=list(PROBLEM_COLUMNS)))


def in_a_run(root: Path, contents: list[bytes], approach: Colours, policy: Policy) -> list[Decision]:
    """The decisions of the batch face: a run, written and read again, and the policy over it."""
    with AnswerCache(root / "batch.sqlite") as cache:
        table = classify(dataset_of(root / "images", contents), approach, cache)
    write_predictions(table, root / "run.parquet")
    return [decide(prediction, policy) for prediction in read_predictions(root / "run.parquet").predictions()]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=files, cached=st.booleans(), warm=st.booleans(), order=st.randoms(use_true_random=False))
def test_both_faces_decide_alike(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], cached: bool, warm: bool, order: random.Random
) -> None:
    root = tmp_path_factory.mktemp("faces")
    approach = Colours(problem=fails_sometimes)
    policy = policy_for(approach)
    contents = [*contents, plain(200, 100, 50)]  # at least one that is answered, so that the run has a version
    expected = in_a_run(root, contents, approach, policy)
    places = list(range(len(contents)))
    order.shuffle(places)
    cache = AnswerCache(root / ("batch.sqlite" if warm else "own.sqlite")) if cached else None
    with Realtime(approach, cache, policy) as realtime, ThreadPoolExecutor(4) as pool:
        found = dict(
            zip(
                places, pool.map(lambda place: realtime.decide(contents[place], f"{place:03}.png"), places), strict=True
            )
        )
    if cache:
        cache.close()
    assert expected == [found[place] for place in range(len(contents))]
    assert len(contents) == realtime.latencies().overall.count


@pytest.fixture
def cache(tmp_path: Path) -> Any:
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        yield cache


def test_a_prediction_names_the_version_that_answered(cache: AnswerCache) -> None:
    approach = Colours()
    with Realtime(approach, cache) as realtime:
        prediction = realtime.classify(plain(200, 100, 50), "a.png")
    scores = {"shoe": binary32(200 / 255), "boot": binary32(100 / 255), "bag": CENSORED}
    assert Prediction("a.png", approach.origin, "ok", scores, "") == prediction


def test_a_broken_image_before_the_first_answer_is_no_other_version(cache: AnswerCache) -> None:
    approach = Colours()
    policy = policy_for(approach)
    with Realtime(approach, cache, policy) as realtime:
        assert ("escalate", "outcome") == action_of(realtime.decide(CUT, "cut.png"))
    with Realtime(approach, cache, replace(policy, origin=replace(policy.origin, fingerprint="0" * 64))) as realtime:
        assert ("review", "origin") == action_of(realtime.decide(CUT, "cut.png"))


def action_of(decision: Decision) -> tuple[str, str]:
    kind = "origin" if "fingerprint" in decision.reason else "outcome" if decision.reason else ""
    return decision.action, kind


def test_an_answer_of_another_version_goes_to_review_or_raises(cache: AnswerCache) -> None:
    policy = policy_for(Colours())
    with Realtime(Colours(observed="colours-2"), cache, policy) as realtime:
        assert "review" == realtime.decide(plain(200, 0, 0), "a.png").action
    with (
        Realtime(Colours(observed="colours-2"), cache, policy, strict=True) as strict,
        pytest.raises(IdentityError, match=r"a\.png"),
    ):
        strict.decide(plain(200, 0, 0), "a.png")


def test_without_a_policy_nothing_decides(cache: AnswerCache) -> None:
    approach = Colours()
    with Realtime(approach, cache) as realtime, pytest.raises(ConfigError, match="read_policy"):
        realtime.decide(plain(1, 2, 3), "a.png")
    assert [] == approach.asked


def test_a_picture_that_many_bring_at_once_is_paid_for_once(cache: AnswerCache) -> None:
    everyone = threading.Barrier(5, timeout=20)
    approach = Colours()
    started = threading.Event()

    def bring(number: int) -> Prediction:
        everyone.wait()
        return realtime.classify(plain(200, 100, 50), f"{number}.png")

    approach.before = lambda: started.wait(0.05)
    with Realtime(approach, None) as realtime, ThreadPoolExecutor(5) as pool:
        predictions = list(pool.map(bring, range(5)))
    assert 1 == len({tuple(prediction.scores.items()) for prediction in predictions})
    assert 5 - realtime.latencies().overall.cached == len(approach.asked)
    with Realtime(approach, cache) as realtime, ThreadPoolExecutor(5) as pool:
        approach.asked.clear()
        everyone.reset()
        list(pool.map(bring, range(5)))
    assert 1 == len(approach.asked)
    assert 4 == realtime.latencies().overall.cached


def test_what_failed_is_asked_again_when_it_comes_again(cache: AnswerCache) -> None:
    problems: list[Exception | None] = [
        ProviderError("provider_error", "down"),
        CredentialsError("the token has expired"),
        RuntimeError("a bug"),
        None,
    ]
    approach = Colours(problem=lambda _: problems.pop(0))
    data = plain(200, 100, 50)
    with Realtime(approach, cache) as realtime:
        assert "provider_error" == realtime.classify(data, "a.png").outcome
        with pytest.raises(CredentialsError, match="expired"):
            realtime.classify(data, "a.png")
        with pytest.raises(RunError, match="a bug"):
            realtime.classify(data, "a.png")
        assert "ok" == realtime.classify(data, "a.png").outcome
        assert "ok" == realtime.classify(data, "a.png").outcome
        assert {} == realtime._pipeline._asked
        assert {"ok": 2, "provider_error": 1} == {
            name: latency.count for name, latency in realtime.latencies().outcomes.items()
        }
    assert 4 == len(approach.asked)


def test_a_budget_is_kept_over_all_images(cache: AnswerCache) -> None:
    approach = Colours()
    with Realtime(approach, cache, limits=Limits(budget_usd=2 * COST)) as realtime:
        for number in (100, 120):
            realtime.classify(plain(number, 0, 0), "a.png")
        with pytest.raises(BudgetError, match=r"\$0\.5000 spent"):
            realtime.classify(plain(140, 0, 0), "b.png")
        assert "ok" == realtime.classify(plain(100, 0, 0), "again.png").outcome
        assert "$0.5000" in realtime.remark()
    assert 2 == len(approach.asked)


def test_the_time_for_one_image_is_kept(cache: AnswerCache) -> None:
    approach = Colours(problem=lambda _: ServiceBusyError("busy", throttled=True))
    with Realtime(approach, cache, limits=Limits(seconds_per_image=0.01)) as realtime:
        prediction = realtime.classify(plain(1, 2, 3), "a.png")
    assert ("provider_error", 1) == (prediction.outcome, len(approach.asked))
    assert "given up after 1 attempt" in prediction.detail


def test_what_is_missing_is_told_before_the_first_question(cache: AnswerCache) -> None:
    approach = Colours()
    with Realtime(approach, cache, lacks=lambda: "no credentials") as realtime:
        assert "unreadable" == realtime.classify(b"", "empty.png").outcome
        with pytest.raises(Exception, match="no credentials"):
            realtime.classify(plain(1, 2, 3), "a.png")
    assert [] == approach.asked


def test_closing_wakes_who_waits_and_ends_it(cache: AnswerCache) -> None:
    under_way, go_on = threading.Event(), threading.Event()
    approach = Colours(before=lambda: (under_way.set(), go_on.wait(20)))
    realtime = Realtime(approach, cache, limits=Limits(max_in_flight=1))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(realtime.classify, plain(1, 2, 3), "a.png")
        under_way.wait(20)
        second = pool.submit(realtime.classify, plain(4, 5, 6), "b.png")
        realtime.close()
        go_on.set()
        assert "ok" == first.result(20).outcome
        with pytest.raises(RunError, match=r"closed; nothing was asked about 'b\.png'"):
            second.result(20)
    realtime.close()
    with pytest.raises(RunError, match="closed"):
        realtime.classify(plain(1, 2, 3), "a.png")
    assert 1 == len(approach.asked)


def test_it_shows_its_latencies(cache: AnswerCache) -> None:
    with Realtime(Colours(), cache) as realtime:
        for data in (plain(1, 2, 3), plain(1, 2, 3), b"no image"):
            realtime.classify(data, "a.png")
        text = str(realtime)
        assert "colours" == text.splitlines()[0]
        assert ["all", "3", "66.7%"] == text.splitlines()[3].split()[:3]
        assert "<th>unsupported_format</th><td>1</td>" in realtime._repr_html_()
