"""Calls about projects, versions and objects: repeated where the service is busy, since each may be made twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

from workbench.approaches.aws import Connection
from workbench.errors import PrerequisiteError, ProviderError, ServiceBusyError

Found = TypeVar("Found")

_ATTEMPTS = 6
_FIRST_PAUSE = 16
"""Looks begin at this part of the usual interval, and pauses double from there."""
_TOKENS = ("NextToken", "ContinuationToken")


class Calls:
    """One service, asked about what stands there; never about an image."""

    def __init__(self, connection: Connection, poll_seconds: float, attempts: int = _ATTEMPTS) -> None:
        self.connection = connection
        self.poll_seconds = poll_seconds
        self.attempts = attempts

    def __call__(self, operation: str, /, *, fine: Collection[str] = (), **parameters: Any) -> dict[str, Any]:
        """The answer; empty where the service refuses with a code of `fine`.

        Raises CredentialsError, and PrerequisiteError where it refuses otherwise or stays busy.
        """
        pause = self.poll_seconds / _FIRST_PAUSE
        for attempt in range(1, self.attempts + 1):
            try:
                return self.connection.call(operation, **parameters)
            except ServiceBusyError as error:
                if attempt == self.attempts:
                    raise PrerequisiteError(f"AWS stays busy at {operation} ({error.detail}); try again") from None
                time.sleep(max(pause, error.retry_after or 0.0))
                pause *= 2
            except ProviderError as error:
                if code_of(error) in fine:
                    return {}
                raise PrerequisiteError(f"AWS refuses {operation}: {error.detail}") from None
        raise AssertionError

    def pages(self, operation: str, listed: str, **parameters: Any) -> Iterator[Any]:
        """Every item of `listed`, on all pages."""
        more: dict[str, Any] = {}
        while True:
            answer = self(operation, **parameters, **more)
            yield from answer.get(listed, ())
            # S3 has other names for the same
            following = {name: answer.get(f"Next{name.removeprefix('Next')}") for name in _TOKENS}
            more = {name: token for name, token in following.items() if token}
            if not more:
                return

    def wait_until(
        self, look: Callable[[], Found], settled: Callable[[Found], bool], patience: float | None = None
    ) -> Found:
        """What `look` finds once it has settled, or when patience (seconds; None: without end) is over.

        Looks at shorter intervals at first: what is nearly there is not waited for long.
        """
        ends = None if patience is None else time.monotonic() + patience
        pause = self.poll_seconds / _FIRST_PAUSE
        while not settled(found := look()):
            if ends is not None and time.monotonic() + pause > ends:
                return found
            time.sleep(pause)
            pause = min(2 * pause, self.poll_seconds)
        return found


def code_of(error: ProviderError) -> str:
    """The service's own code of a refusal."""
    return error.detail.partition(":")[0]


# ---------------------------------------------------------------- what stands at Custom Labels


def find_project(rekognition: Calls, name: str) -> Mapping[str, Any] | None:
    """The description of the project of this name; None if there is none."""
    rows = rekognition.pages("describe_projects", "ProjectDescriptions", ProjectNames=[name])
    return next((row for row in rows if project_name(row["ProjectArn"]) == name), None)


def find_versions(rekognition: Calls, project: str, name: str = "") -> list[Mapping[str, Any]]:
    """Descriptions of a project's (ARN) versions, or of the one of this name; empty where there is none."""
    named = {"VersionNames": [name]} if name else {}
    return list(
        rekognition.pages("describe_project_versions", "ProjectVersionDescriptions", ProjectArn=project, **named)
    )


def find_version(rekognition: Calls, arn: str) -> Mapping[str, Any] | None:
    """The description of the version with this ARN; None if there is none (any more).

    Asked for by its name: unnamed, every version of the project would have to be turned through.
    """
    project = find_project(rekognition, project_name(arn))
    rows = find_versions(rekognition, project["ProjectArn"], version_name(arn)) if project else []
    return next((row for row in rows if row["ProjectVersionArn"] == arn), None)


def project_name(arn: str) -> str:
    """The name of a project, from its ARN or from that of anything in it."""
    return arn.split("/")[1]


def version_name(arn: str) -> str:
    """The name of a version, from its ARN."""
    return arn.split("/")[3]
