from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.runs.latencies import STEP, Latencies, LatencyCounts


def counted(*answers: tuple[str, bool, float]) -> Latencies:
    counts = LatencyCounts()
    for answer in answers:
        counts.add(*answer)
    return counts.read()


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200))
def test_percentiles_are_within_one_percent_of_those_of_the_whole_list(latencies: list[float]) -> None:
    overall = counted(*(("ok", False, latency) for latency in latencies)).overall
    for share, found in ((50, overall.p50_ms), (90, overall.p90_ms), (95, overall.p95_ms), (99, overall.p99_ms)):
        exact = float(np.percentile(latencies, share, method="inverted_cdf"))
        assert exact / STEP**0.51 <= found <= exact * STEP**0.51
    assert max(latencies) == overall.most_ms
    assert len(latencies) == overall.count


def test_groups_are_counted_apart() -> None:
    found = counted(("ok", False, 100.0), ("ok", True, 1.0), ("ok", True, 1.0), ("corrupt", True, 2.0))
    assert (4, 3, 0.75) == (found.overall.count, found.overall.cached, found.overall.cached_share)
    assert (1, 0, 100.0) == (found.asked.count, found.asked.cached, found.asked.most_ms)
    assert ["ok", "corrupt"] == list(found.outcomes)
    assert (3, 2) == (found.outcomes["ok"].count, found.outcomes["ok"].cached)
    assert 100.0 == found.outcomes["ok"].p99_ms


def test_nothing_counted_is_told_as_nothing() -> None:
    found = counted()
    assert 0 == found.overall.count
    assert math.isnan(found.overall.p50_ms)
    assert math.isnan(found.overall.cached_share)
    assert "–" in str(found)


def test_what_was_read_does_not_change() -> None:
    counts = LatencyCounts()
    counts.add("ok", False, 1.0)
    before = counts.read()
    counts.add("ok", False, 5.0)
    assert 1 == before.overall.count
    assert 2 == counts.read().overall.count


@pytest.mark.parametrize("latency", [0.0, -1.0, 1e-9, 1e12])
def test_a_clock_that_jumps_breaks_nothing(latency: float) -> None:
    assert 1 == counted(("ok", False, latency)).overall.count


def test_memory_does_not_grow_with_the_answers() -> None:
    counts = LatencyCounts()
    for number in range(20_000):
        counts.add("ok", False, 10 + number % 100)
    assert 20_000 == counts.read().overall.count
    assert len(counts._classes["ok", False]) < 150


def test_several_threads_lose_no_answer() -> None:
    counts = LatencyCounts()
    threads = [
        threading.Thread(target=lambda: [counts.add("ok", True, float(n)) for n in range(1, 500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 4 * 499 == counts.read().overall.cached


def test_it_shows_as_a_table_of_text_and_of_html() -> None:
    found = counted(("ok", False, 120.0), ("<refusal>", False, 30.0))
    lines = str(found).splitlines()
    assert ["answers", "count", "cached", "p50", "ms", "p90", "ms", "p95", "ms", "p99", "ms", "most", "ms"] == (
        lines[0].split()
    )
    assert ["all", "2", "0.0%"] == lines[1].split()[:3]
    assert ["ok", "1", "0.0%", "120", "120", "120", "120", "120"] == lines[4].split()
    assert "&lt;refusal&gt;" in found._repr_html_()
    assert "<refusal>" not in found._repr_html_()
    assert "<th>p99 ms</th>" in found._repr_html_()
