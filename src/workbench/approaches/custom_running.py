"""A version of Custom Labels switched on, and off again: on record before it costs; only what this process began."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from workbench.approaches.aws import AwsOptions, Connection
from workbench.approaches.custom_calls import Calls, find_version
from workbench.approaches.running import (
    Running,
    forget,
    now_running,
    on_record,
    record,
    say_it_runs_on,
    stop_left_running,
)
from workbench.errors import PrerequisiteError, ProviderError, ServiceBusyError

Say = Callable[[str], None]

_ON = ("STARTING", "RUNNING", "STOPPING")
_STARTABLE = ("TRAINING_COMPLETED", "COPYING_COMPLETED", "STOPPED", "FAILED")
_GONE = "GONE"
_STOP_SECONDS = 900.0
_LEFT_POLL_SECONDS, _LEFT_SECONDS, _LEFT_ATTEMPTS = 4.0, 60.0, 3
"""A command that finds something left running has other work to do, and does not wait for its very end."""
_START_ATTEMPTS = 5


class Switch:
    """Switches one version on and off, for an approach that asks it."""

    def __init__(
        self,
        service: str,
        arn: str,
        calls: Calls,
        *,
        store: Path,
        profile: str,
        units: int,
        hourly_usd: float | None,
        start_seconds: float,
    ) -> None:
        self._service = service
        self._arn = arn
        self._calls = calls
        self._store = store
        self._profile = profile
        self._units = units
        self._hourly_usd = hourly_usd
        self._start_seconds = start_seconds
        self._running: Running | None = None
        self._joined = False
        """It uses what somebody else has switched on."""

    def start(self, say: Say) -> None:
        """Switch it on and wait until it runs. One that runs already is used, and left on.

        Raises PrerequisiteError where it cannot be started; it is off then, or `say` has heard that it is not.
        """
        stop_left_running(self._store, say)
        version = self._settled_if_stopping(say)
        if version in _ON:
            self._join(version, say)
            return
        if version not in _STARTABLE:
            raise PrerequisiteError(f"{self._arn} cannot be started: it is {version}")
        mine = self._mine()
        if not record(self._store, mine):
            self._join("being started", say)
            return
        self._running = mine
        atexit.register(self.stop, say)  # for notebooks, where a cell may start and none stop
        try:
            self._switch_on(say)
        except BaseException:
            self.stop(say)
            raise

    def stop(self, say: Say) -> None:
        """Switch off what `start` switched on, wait until it is off, take it off the record. Never raises for that.

        What another process switched on, and was killed since, is switched off, too.
        """
        running = self._running
        if running is None:
            if self._joined:
                self._joined = False
                stop_left_running(self._store, say)
            return
        atexit.unregister(self.stop)
        say(f"switching off {running.arn}")
        try:
            off = _switch_off(self._calls, running.arn, _STOP_SECONDS)
        except Exception as error:  # the results of the run are worth more than how it ends; the record stays
            say_it_runs_on(running, str(error), say)
            return
        except BaseException:  # whoever waits no longer has to know what stays behind
            say_it_runs_on(running, "it was not waited for", say)
            raise
        self._running = None
        if off:
            forget(self._store, running)
            say(f"{running.arn} is switched off: {running.cost(datetime.now(UTC))}")
        else:
            say(f"{running.arn} is being switched off and stays on record; the next command looks again")

    def _mine(self) -> Running:
        connection = self._calls.connection
        by_hand = f"aws rekognition stop-project-version --project-version-arn {self._arn} --region {connection.region}"
        by_hand += f" --profile {self._profile}" if self._profile else ""
        return now_running(
            self._service,
            self._arn,
            region=connection.region,
            profile=self._profile,
            endpoint=connection.endpoint,
            units=self._units,
            hourly_usd=self._hourly_usd,
            by_hand=by_hand,
        )

    def _switch_on(self, say: Say) -> None:
        price = "a price that is not known" if self._hourly_usd is None else f"${self._hourly_usd:.2f}"
        say(f"switching on {self._arn}: {self._units} inference units, {price} per hour until it is switched off")
        try:
            self._request_start()
        except ServiceBusyError as error:  # it may be starting all the same: that is looked at, and ended
            raise PrerequisiteError(f"{self._arn} could not be started ({error.detail}); try again") from None
        except PrerequisiteError:
            self._not_mine()
            raise
        except ProviderError as error:
            self._not_mine()  # a refusal is certain: nothing was switched on
            if error.detail.startswith("ResourceInUseException"):
                self._join("being started", say)
                return
            raise PrerequisiteError(f"{self._arn} cannot be started: {error.detail}") from None
        self._wait_until_running(say)
        say(f"{self._arn} is running")

    def _request_start(self) -> None:
        """Repeated only where it was certainly not heard: another time it would be refused for what the first began."""
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                self._calls.connection.call(
                    "start_project_version", ProjectVersionArn=self._arn, MinInferenceUnits=self._units
                )
            except ServiceBusyError as error:
                if not error.throttled or attempt == _START_ATTEMPTS:
                    raise
                time.sleep(max(self._calls.poll_seconds / _START_ATTEMPTS, error.retry_after or 0.0))
            else:
                return

    def _not_mine(self) -> None:
        if self._running is not None:
            forget(self._store, self._running)
            atexit.unregister(self.stop)
            self._running = None

    def _join(self, status: str, say: Say) -> None:
        """Use what somebody else has switched on."""
        self._joined = True
        say(f"{self._arn} is {status} already: {self._whose()}; it is used now and left on afterwards")
        self._wait_until_running(say)

    def _whose(self) -> str:
        other = on_record(self._store, self._arn, self._calls.connection.endpoint)
        return f"process {other.pid} switched it on at {other.started}" if other else "somebody else switched it on"

    def _wait_until_running(self, say: Say) -> None:
        def settled(version: Mapping[str, object]) -> bool:
            return version["Status"] in ("RUNNING", "FAILED", "STOPPING", "DELETING", _GONE)

        found = self._calls.wait_until(self._look, settled, self._start_seconds)
        if found["Status"] != "RUNNING":
            reason = (
                found.get("StatusMessage") or f"it is {found['Status']} after {self._start_seconds / 60:.0f} minutes"
            )
            raise PrerequisiteError(f"{self._arn} does not run: {reason}")

    def _settled_if_stopping(self, say: Say) -> str:
        found = self._look()
        if found["Status"] == "STOPPING":
            say(f"{self._arn} is being switched off; waiting for that first")
            found = self._calls.wait_until(self._look, lambda item: item["Status"] != "STOPPING", _STOP_SECONDS)
        return str(found["Status"])

    def _look(self) -> Mapping[str, object]:
        return find_version(self._calls, self._arn) or {"Status": _GONE}


def switch_off_left(running: Running) -> bool:
    """Switch off what a dead process left on; False where it is still about to be off."""
    options = AwsOptions(region=running.region, profile=running.profile, endpoint_url=running.endpoint)
    with Connection("rekognition", options) as connection:
        return _switch_off(Calls(connection, _LEFT_POLL_SECONDS, _LEFT_ATTEMPTS), running.arn, _LEFT_SECONDS)


def _switch_off(calls: Calls, arn: str, patience: float) -> bool:
    """A version that is just starting cannot be stopped: it is tried again until it runs."""

    def look() -> str:
        found = find_version(calls, arn)
        status = str(found["Status"]) if found else _GONE
        if status in ("STARTING", "RUNNING"):
            calls("stop_project_version", fine=("ResourceInUseException",), ProjectVersionArn=arn)
        return status

    return calls.wait_until(look, lambda status: status not in _ON, patience) not in _ON
