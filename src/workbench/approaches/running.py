"""What is switched on and costs money until it is switched off.

It is on record (`store/running/*.json`) before it costs anything. A process that is killed leaves its record behind,
and the next command finds it: `stop_left_running` switches off what a dead process left and says what that has cost.
"""

from __future__ import annotations

import os
import platform
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, Protocol, cast

from workbench.canonical import canonical_json, digest
from workbench.documents import Text, from_document, parse_json, to_document
from workbench.errors import DocumentError
from workbench.records import Count, Name

FOLDER = "running"
"""Below the store."""

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_ENDED = ""
_STATE, _BEGUN = 0, 19  # fields of /proc/PID/stat, counted from the one after the name


@dataclass(frozen=True)
class Running:
    """A service that a process has switched on, or was about to."""

    schema_version: Annotated[str, Text(r"^1\.(0|[1-9][0-9]*)$")]
    service: Name
    """The approach; its class can switch it off."""
    arn: Name
    """Names what is switched on."""
    region: str
    profile: str
    """Name of the profile of credentials; never a credential."""
    endpoint: str
    """URL of the service; "" for its own of the region."""
    units: Count
    hourly_usd: float | None
    """Of all units together; None where the price is not known."""
    pid: Count
    host: str
    process: str
    """Tells the process from a later one with its pid; "" where the system does not say."""
    by_hand: Name
    """The command that switches it off without this package."""
    started: Annotated[str, Text(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
    """UTC."""

    def hours(self, now: datetime) -> float:
        """Since it was put on record."""
        began = datetime.strptime(self.started, _TIME).replace(tzinfo=UTC)
        return max(0.0, (now - began).total_seconds() / 3600)

    def cost(self, now: datetime) -> str:
        """For how long it has been on and what that comes to, in words."""
        hours = self.hours(now)
        if self.hourly_usd is None:
            return f"{hours:.2f} h at a price that is not known"
        return f"{hours:.2f} h at ${self.hourly_usd:.2f} per hour: ${hours * self.hourly_usd:.2f}"


class _SwitchesOff(Protocol):
    """The class of an approach whose service stands."""

    @classmethod
    def switch_off(cls, running: Running, say: Callable[[str], None]) -> bool:
        """Switch it off: True once it is off, False where it is still about to be."""
        ...


def now_running(
    service: str,
    arn: str,
    *,
    region: str,
    profile: str,
    endpoint: str,
    units: int,
    hourly_usd: float | None,
    by_hand: str,
) -> Running:
    """What this process switches on now."""
    pid = os.getpid()
    return Running(
        schema_version="1.0",
        service=service,
        arn=arn,
        region=region,
        profile=profile,
        endpoint=endpoint,
        units=units,
        hourly_usd=hourly_usd,
        pid=pid,
        host=platform.node(),
        process=_process(pid) or "",
        by_hand=by_hand,
        started=f"{datetime.now(UTC):{_TIME}}",
    )


def record(store: Path, running: Running) -> bool:
    """Put it on record, whole and on the disk when this returns. False, and nothing done, if it is on record already.

    Raises OSError where that cannot be written: then nothing may be switched on.
    """
    path = _path(store, running.arn, running.endpoint)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}-{secrets.token_hex(8)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(canonical_json(to_document(running)))
            file.flush()
            os.fsync(descriptor)
        os.link(part, path)  # unlike a rename, the first of two processes wins
    except FileExistsError:
        return False
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return True


def forget(store: Path, running: Running) -> None:
    """Take it off the record, if the record still is this one."""
    path = _path(store, running.arn, running.endpoint)
    if _read(path) == running:
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)


def on_record(store: Path, arn: str, endpoint: str) -> Running | None:
    """What the record says of this service; None if it says nothing that can be read."""
    found = _read(_path(store, arn, endpoint))
    return found if isinstance(found, Running) else None


def anything_on_record(store: Path) -> bool:
    """There is a record at all; cheap enough to ask before every command."""
    return any((store / FOLDER).glob("*.json"))


def left_running(store: Path) -> list[Running]:
    """What is on record and whose process has ended."""
    found = [_read(path) for path in sorted((store / FOLDER).glob("*.json"))]
    return [item for item in found if isinstance(item, Running) and _owner(item) == "dead"]


def stop_left_running(store: Path, say: Callable[[str], None]) -> None:
    """Say what was left running, switch it off where its process is dead, and take that off the record.

    What a living process runs is left alone. What cannot be switched off, or may belong to a process on another
    machine, stays on record, and `say` hears what to do. Never raises for that: the command goes on.
    """
    for path in sorted((store / FOLDER).glob("*.json")):
        found = _read(path)
        if isinstance(found, str):
            say(f"{path}: cannot be read ({found}); see at the service whether anything runs, then delete the file")
        elif isinstance(found, Running) and (owner := _owner(found)) != "alive":
            say(f"{found.service}: {found.arn} {_left_by(found, owner)}; {found.cost(datetime.now(UTC))} so far")
            if owner == "dead":
                _stop_one(store, found, say)
            else:
                say(f"it is left alone; if that process has ended: {found.by_hand}")
                say(f"and then delete {path}")


def _left_by(running: Running, owner: str) -> str:
    since = f"by process {running.pid} on {running.host or 'a machine without a name'} at {running.started}"
    if owner == "dead":
        return f"was left running: switched on {since}, which has ended"
    return f"was switched on {since}, of which nothing can be told from here"


def _stop_one(store: Path, running: Running, say: Callable[[str], None]) -> None:
    from workbench.approaches.base import approach_class

    try:
        off = cast("_SwitchesOff", approach_class(running.service)).switch_off(running, say)
    except Exception as error:  # whatever it is, the command that found it has other work to do
        say_it_runs_on(running, str(error), say)
        return
    if off:
        forget(store, running)
        say(f"it is off now; {running.cost(datetime.now(UTC))} in all")
    else:
        say("it is being switched off; the next command looks again")


def say_it_runs_on(running: Running, reason: str, say: Callable[[str], None]) -> None:
    """That it could not be switched off, why, and what to do."""
    say(f"{running.arn} COULD NOT BE SWITCHED OFF AND COSTS MONEY UNTIL IT IS: {reason}")
    say(f"do it by hand: {running.by_hand}")


def _path(store: Path, arn: str, endpoint: str) -> Path:
    return store / FOLDER / f"{digest([arn, endpoint])[:32]}.json"


def _read(path: Path) -> Running | str | None:
    """The record; why it cannot be read; or None where there is none (any more)."""
    try:
        return from_document(Running, parse_json(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, DocumentError, UnicodeDecodeError) as error:
        return str(error)


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # a system that opens no folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- is the process alive?


def _owner(running: Running) -> Literal["alive", "dead", "unknown"]:
    if running.host != platform.node():
        return "unknown"
    mark = _process(running.pid)
    if mark == _ENDED:
        return "dead"
    if mark is None or not running.process:
        return "unknown"
    return "alive" if mark == running.process else "dead"


def _process(pid: int) -> str | None:
    """Names the process with this pid among all that ever had it; "" if there is none, None if nothing can be told."""
    if Path("/proc/self/stat").exists():
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return None
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return _ENDED
        except OSError:
            return None
        return _ENDED if fields[_STATE] in "ZX" else f"{boot}:{fields[_BEGUN]}"
    try:
        listed = subprocess.run(
            ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    state, _, began = listed.stdout.strip().partition(" ")
    return _ENDED if not state or state.startswith("Z") else " ".join(began.split())


# ---------------------------------------------------------------- an end in order


@contextmanager
def ending_in_order() -> Iterator[None]:
    """While inside, SIGTERM and SIGHUP end the process as Ctrl-C does, so that what is switched on is switched off.

    Without effect outside the main thread, and on a signal that somebody already handles or ignores.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        earlier = {
            number: signal.signal(number, end) for number in wanted if signal.getsignal(number) == signal.SIG_DFL
        }
    try:
        yield
    finally:
        _restore(earlier)


def _restore(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
