"""A plan asks nobody, and what the run then asks and costs lies within it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toy_service import TAXONOMY, ToyServer, ToyService, dataset_of, paint
from workbench.approaches.base import Estimate
from workbench.config.prices import packaged_prices
from workbench.dataset.images import Dataset
from workbench.errors import RunError
from workbench.prepare.decode import Preparation, Prepared, Unprepared, prepare_bytes
from workbench.records import Taxonomy
from workbench.runs import pipeline
from workbench.runs.cache import AnswerCache
from workbench.runs.limits import Limits
from workbench.runs.plan import plan_run
from workbench.runs.runner import classify

NOWHERE = "http://127.0.0.1:9"


@dataclass
class BySize(ToyService):
    """Charges by the pixel, for the prepared size."""

    def estimate(self, width: int, height: int) -> Estimate:
        usd = (width + 3 * height) / 1000
        return Estimate(usd, 2 * usd, width * height, (5, 50))


@pytest.fixture
def server() -> Iterator[ToyServer]:
    with ToyServer() as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[AnswerCache]:
    with AnswerCache(tmp_path / "store" / "answers.sqlite") as cache:
        yield cache


def photos(root: Path) -> Dataset:
    """Sizes and orientations of all kinds; number 6 shows what number 0 does."""
    root.mkdir()
    rng = np.random.default_rng(0)
    names = []
    for number, (width, height, orientation) in enumerate(
        [(300, 200, 1), (200, 300, 6), (640, 100, 8), (40, 30, 1), (500, 500, 3), (120, 480, 5)]
    ):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(root / f"{number}.jpg", exif=exif, quality=80)
        names.append(f"{number}.jpg")
    (root / "6.jpg").write_bytes((root / "0.jpg").read_bytes())
    (root / "7.jpg").write_bytes((root / "1.jpg").read_bytes()[:900])
    return dataset_of(root, [*names, "6.jpg", "7.jpg"])


def test_the_plan_of_a_service_counts_what_the_run_asks(tmp_path: Path, server: ToyServer, cache: AnswerCache) -> None:
    dataset = paint(tmp_path / "images", 20)
    toy = ToyService(server.url, parts=3, rate=5.0, low_usd=0.01, high_usd=0.04)
    classify(dataset_of(dataset.root, list(dataset.frame["path"][:4])), toy, cache, limits=Limits(max_rate=1000))
    asked = len(server.seen)
    plan = plan_run(dataset, toy, cache)
    assert asked == len(server.seen)
    assert (20, 0, 20, 4, 16) == (plan.images, plan.unreadable, plan.pictures, plan.cached, plan.to_ask)
    assert plan.charge is not None
    assert 48 == plan.charge.calls
    assert 48 * 64 == plan.charge.input_tokens
    assert (48, 480) == plan.charge.output_tokens
    assert (0.48, 1.92) == (pytest.approx(plan.charge.low_usd), pytest.approx(plan.charge.high_usd))
    assert 48 / 5 / 60 == plan.charge.minutes
    faster = plan_run(dataset, toy, cache, limits=Limits(max_rate=100)).charge
    assert faster is not None
    assert 48 / 100 / 60 == faster.minutes
    classify(dataset, toy, cache, limits=Limits(max_rate=1000))
    assert 48 == len(server.seen) - asked
    done = plan_run(dataset, toy, cache).charge
    assert done is not None
    assert (0, 0.0, 0.0) == (done.calls, done.low_usd, done.high_usd)


def test_more_parts_cost_only_what_is_new(tmp_path: Path, server: ToyServer, cache: AnswerCache) -> None:
    dataset, toy = paint(tmp_path / "images", 5), ToyService(server.url, parts=2)
    classify(dataset, toy, cache)
    charge = plan_run(dataset, replace(toy, parts=5), cache).charge
    assert charge is not None
    assert 15 == charge.calls


def test_the_plan_needs_nobody(tmp_path: Path, cache: AnswerCache) -> None:
    plan = plan_run(paint(tmp_path / "images", 3), ToyService(NOWHERE, key=""), cache)
    assert 3 == plan.to_ask


def test_what_a_stand_in_charges_lies_within_the_plan(tmp_path: Path, server: ToyServer, cache: AnswerCache) -> None:
    dataset = photos(tmp_path / "images")
    preparation = Preparation(256, 128, "within", least=16)
    toy = BySize(server.url, preparation=preparation)
    prepared = [prepare_bytes(dataset.file(name).read_bytes(), preparation) for name in dataset.frame["path"]]
    costs = {
        item.digest: 1.5 * (item.pixels.shape[1] + 3 * item.pixels.shape[0]) / 1000
        for item in prepared
        if isinstance(item, Prepared)
    }
    server.cost = lambda asked: costs[asked["pixels"]]
    fresh = plan_run(dataset, toy, cache)
    again = plan_run(dataset, toy, cache)
    assert (7, 0) == (fresh.decoded, again.decoded) or (8, 0) == (fresh.decoded, again.decoded)
    assert (1, 6) == (fresh.unreadable, fresh.pictures)
    spent = classify(dataset, toy, cache).frame["cost_usd"].sum()
    assert sum(costs.values()) == pytest.approx(spent)
    for plan in (fresh, again):
        assert plan.charge is not None
        assert plan.charge.low_usd is not None
        assert plan.charge.high_usd is not None
        assert plan.charge.low_usd <= spent <= plan.charge.high_usd
        assert 1 == plan.charge.saved_calls
    assert fresh.charge is not None
    assert sum(costs.values()) / 1.5 == pytest.approx(fresh.charge.low_usd)


def test_a_second_plan_reads_headers_alone(tmp_path: Path, cache: AnswerCache, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = photos(tmp_path / "images")
    toy = BySize(NOWHERE, preparation=Preparation(256, 256, "within"))
    first = plan_run(dataset, toy, cache)
    monkeypatch.delattr(pipeline, "prepare_bytes")
    second = plan_run(dataset, toy, cache)
    assert first.charge is not None
    assert second.charge is not None
    assert first.charge.calls == second.charge.calls == 6
    assert first.charge.input_tokens == second.charge.input_tokens


def test_what_is_set_aside_for_its_quality_is_told_with_what_that_spares(
    tmp_path: Path, cache: AnswerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = paint(tmp_path / "images", 4)
    sound = prepare_bytes

    def gate(data: bytes, preparation: Preparation) -> Prepared | Unprepared:
        found = sound(data, preparation)
        with Image.open(BytesIO(data)) as image:
            blank = image.getpixel((0, 0)) == (2, 0, 7)
        return Unprepared("low_information", "blank") if blank else found

    monkeypatch.setattr(pipeline, "prepare_bytes", gate)
    plan = plan_run(dataset, ToyService(NOWHERE, parts=2), cache)
    assert (1, 0, 3) == (plan.set_aside, plan.unreadable, plan.to_ask)
    assert plan.charge is not None
    assert (6, 2) == (plan.charge.calls, plan.charge.saved_calls)
    assert "set aside for quality   1" in str(plan)
    assert "calls spared            2" in str(plan)


def test_a_price_that_is_not_known_is_none_and_named(tmp_path: Path, cache: AnswerCache) -> None:
    toy = ToyService(NOWHERE, low_usd=None, high_usd=None, price_note="no price for toy/call", hourly_usd=None)
    plan = plan_run(paint(tmp_path / "images", 2), toy, cache)
    assert plan.charge is not None
    assert (None, None, None) == (plan.charge.low_usd, plan.charge.high_usd, plan.charge.minutes)
    told = str(plan)
    assert "not known: [prices] in workbench.toml sets what is missing" in told
    assert "no price for toy/call" in told
    assert "nobody says how fast" in told
    assert "per hour that is not known" in told


def test_a_plan_shows_itself(tmp_path: Path, cache: AnswerCache) -> None:
    toy = ToyService(NOWHERE, name="<toy>", rate=5, low_usd=0.01, high_usd=12.5, hourly_usd=4.0)
    plan = plan_run(paint(tmp_path / "images", 200), toy, cache)
    told = {line[:24].strip(): line[24:].strip() for line in str(plan).splitlines()}
    expected = {
        "approach": "<toy>",
        "answered before": "0 (0%)",
        "calls": "200",
        "input tokens": "about 12,800",
        "output tokens": "200 as usual, 2,000 at most",
        "cost of calls": f"2.00 USD to 2,500.00 USD (prices of {packaged_prices().dated})",
        "while switched on": "4.00 USD per hour, 0.0444 USD at the rate limit",
        "time at the rate limit": "40 seconds",
    }
    assert expected == {name: told[name] for name in expected}
    assert "<td>&lt;toy&gt;</td>" in plan._repr_html_()
    assert "<th>calls</th><td>200</td>" in plan._repr_html_()


def test_several_kept_versions_are_told_by_the_plan_too(tmp_path: Path, cache: AnswerCache) -> None:
    toy = ToyService(NOWHERE)
    cache.note_version(toy.question, "toy-1", "toy")
    cache.note_version(toy.question, "toy-2", "toy")
    with pytest.raises(RunError, match="'toy-1', 'toy-2'"):
        plan_run(paint(tmp_path / "images", 1), toy, cache)
    assert 1 == plan_run(paint(tmp_path / "images", 1), replace(toy, model_version="toy-1"), cache).to_ask


def test_another_taxonomy_is_refused(tmp_path: Path, cache: AnswerCache) -> None:
    other = Taxonomy((*TAXONOMY.categories, "dim"), unknown="grey")
    with pytest.raises(RunError, match="'dim'"):
        plan_run(paint(tmp_path / "images", 1), ToyService(NOWHERE, taxonomy=other), cache)
