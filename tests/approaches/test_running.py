"""What is switched on is on record before it costs, and is found by whoever comes next."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from workbench.approaches.running import (
    FOLDER,
    Running,
    anything_on_record,
    ending_in_order,
    forget,
    left_running,
    now_running,
    on_record,
    record,
    stop_left_running,
)

ARN = "arn:aws:rekognition:eu-west-1:123456789012:project/shoes/version/v1/1700000000000"
PUT_ON_RECORD = """
import sys
from pathlib import Path
from workbench.approaches.running import now_running, record

where = {"region": "eu-west-1", "profile": "", "endpoint": ""}
mine = now_running("rekognition-custom", sys.argv[2], **where, units=2, hourly_usd=8.0, by_hand="pull the plug")
record(Path(sys.argv[1]), mine)
print("on record", flush=True)
sys.stdin.read()
"""


def running_now(arn: str = ARN) -> Running:
    where = {"region": "eu-west-1", "profile": "", "endpoint": ""}
    return now_running("rekognition-custom", arn, **where, units=2, hourly_usd=8.0, by_hand="pull the plug")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has put something on record, and lives."""
    command = [sys.executable, "-c", PUT_ON_RECORD, str(tmp_path), ARN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "on record" == process.stdout.readline().strip()
        yield process
        process.kill()


class TestTheRecord:
    def test_is_read_as_it_was_written_by_its_owner_alone(self, tmp_path: Path) -> None:
        mine = running_now()
        assert not anything_on_record(tmp_path)
        assert record(tmp_path, mine)
        assert anything_on_record(tmp_path)
        assert mine == on_record(tmp_path, ARN, "")
        (path,) = (tmp_path / FOLDER).iterdir()
        assert (0o600, 0o700) == (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode))
        assert (os.getpid(), 2, 8.0) == (mine.pid, mine.units, mine.hourly_usd)

    def test_what_is_on_record_is_not_put_there_again(self, tmp_path: Path) -> None:
        first, second = running_now(), replace(running_now(), pid=1)
        assert (True, False) == (record(tmp_path, first), record(tmp_path, second))
        assert first == on_record(tmp_path, ARN, "")
        assert 1 == len(list((tmp_path / FOLDER).iterdir()))

    def test_of_many_at_once_one_wins(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda pid: record(tmp_path, replace(running_now(), pid=pid)), range(1, 9)))
        found = on_record(tmp_path, ARN, "")
        assert found is not None
        assert [found.pid == pid for pid in range(1, 9)] == won

    def test_only_its_own_is_forgotten(self, tmp_path: Path) -> None:
        mine = running_now()
        record(tmp_path, mine)
        forget(tmp_path, replace(mine, pid=1))
        assert mine == on_record(tmp_path, ARN, "")
        forget(tmp_path, mine)
        forget(tmp_path, mine)
        assert not anything_on_record(tmp_path)

    def test_two_endpoints_are_two_services(self, tmp_path: Path) -> None:
        assert record(tmp_path, running_now())
        assert record(tmp_path, replace(running_now(), endpoint="http://127.0.0.1:1"))
        assert 2 == len(list((tmp_path / FOLDER).glob("*.json")))

    def test_where_it_cannot_be_written_nothing_may_be_switched_on(self, tmp_path: Path) -> None:
        (tmp_path / FOLDER).write_text("a file where the folder should be")
        with pytest.raises(OSError, match="exists"):
            record(tmp_path, running_now())

    @pytest.mark.parametrize(
        ("hourly", "words"), [(8.0, "1.50 h at $8.00 per hour: $12.00"), (None, "1.50 h at a price")]
    )
    def test_says_what_it_has_cost(self, hourly: float | None, words: str) -> None:
        mine = replace(running_now(), hourly_usd=hourly, started="2026-11-23T12:00:00Z")
        now = datetime(2026, 11, 23, 13, 30, tzinfo=UTC)
        assert words in mine.cost(now)
        assert 0.0 == mine.hours(now - timedelta(days=1))  # a clock that was set back


class TestWhoseIsIt:
    def test_a_living_process_keeps_what_it_runs(self, tmp_path: Path, other: subprocess.Popen[str]) -> None:
        said: list[str] = []
        record(tmp_path, running_now(ARN + "1"))
        stop_left_running(tmp_path, said.append)
        assert ([], []) == (left_running(tmp_path), said)
        assert 2 == len(list((tmp_path / FOLDER).iterdir()))
        assert other.pid == on_record(tmp_path, ARN, "").pid  # type: ignore[union-attr]

    def test_what_a_killed_process_leaves_is_found(self, tmp_path: Path, other: subprocess.Popen[str]) -> None:
        other.kill()
        other.wait()
        assert [ARN] == [item.arn for item in left_running(tmp_path)]

    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs a process that nobody waits for")
    def test_a_process_that_nobody_has_waited_for_is_dead(self, tmp_path: Path, other: subprocess.Popen[str]) -> None:
        other.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert "Z" == Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert [ARN] == [item.arn for item in left_running(tmp_path)]

    def test_a_later_process_with_the_same_pid_is_another(self, tmp_path: Path) -> None:
        record(tmp_path, replace(running_now(), process="another start"))
        assert [ARN] == [item.arn for item in left_running(tmp_path)]

    def test_of_a_process_on_another_machine_nothing_is_known(self, tmp_path: Path) -> None:
        said: list[str] = []
        record(tmp_path, replace(running_now(), host="elsewhere", pid=2**22 + 1))
        stop_left_running(tmp_path, said.append)
        text = "\n".join(said)
        assert [] == left_running(tmp_path)
        assert anything_on_record(tmp_path)
        assert "on elsewhere" in text
        assert "if that process has ended: pull the plug" in text

    def test_a_damaged_record_is_told_and_kept(self, tmp_path: Path) -> None:
        said: list[str] = []
        record(tmp_path, running_now())
        (path,) = (tmp_path / FOLDER).iterdir()
        path.write_bytes(path.read_bytes()[:50])
        stop_left_running(tmp_path, said.append)
        assert str(path) in said[0]
        assert path.exists()


def get(number: signal.Signals) -> None:
    """Be sent a signal, and wait for what it does."""
    os.kill(os.getpid(), number)
    signal.pause()


class TestAnEndInOrder:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_ends_as_ctrl_c_does(self, number: signal.Signals) -> None:
        before = signal.getsignal(number)
        with pytest.raises(KeyboardInterrupt), ending_in_order():
            get(number)
        assert before == signal.getsignal(number)

    def test_whoever_ignores_a_signal_goes_on_to(self) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with ending_in_order():
                os.kill(os.getpid(), signal.SIGHUP)
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_other_threads_change_nothing(self) -> None:
        def inside() -> object:
            with ending_in_order():
                return signal.getsignal(signal.SIGTERM)

        with ThreadPoolExecutor(1) as pool:
            assert signal.getsignal(signal.SIGTERM) == pool.submit(inside).result()
