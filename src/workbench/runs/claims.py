"""One process at a time asks a question: so two runs at once, or a run and a batch, do not pay for the same answers."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from workbench.errors import RunError
from workbench.runs.submissions import FILE, Place, Submissions, begin_exclusive

FOLDER = "asking"
"""Below the store; holds an empty file per question."""

_WAITING = 0.1
WAITS = "another run is asking the same at the moment; waiting for it, so that nothing is paid for twice"


class Claim:
    """The right to ask a question, until it is given up or the process ends, however it ends.

    store     the folder of the answer cache and of what was handed in in batches
    question  `Service.question`

    Every method raises RunError where its file cannot be used. Usable from several threads.
    """

    def __init__(self, store: Path, question: str) -> None:
        self._store = store
        self._question = question
        self._path = store / FOLDER / f"{question[:32]}.lock"
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self.under_way: frozenset[Place] = frozenset()
        """What a batch, handed in before, asks already."""

    def take(self) -> bool:
        """Whether nobody else has it; it is ours then."""
        with self._lock:
            if self._connection is None:
                self._connection = self._taken()
                if self._connection is not None:
                    self.under_way = self._handed_in()
            return self._connection is not None

    def wait(self, say: Callable[[str], None], pause: Callable[[float], None]) -> None:
        """Take it, as soon as nobody else has it."""
        told = False
        while not self.take():
            if not told:
                say(WAITS)
            told = True
            pause(_WAITING)

    def release(self) -> None:
        """Others may have it; harmless where it is not ours."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _taken(self) -> sqlite3.Connection | None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        ours = False
        try:
            ours = begin_exclusive(connection)
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        finally:
            if not ours:
                connection.close()
        return connection if ours else None

    def _handed_in(self) -> frozenset[Place]:
        path = self._store / FILE
        if not path.exists():
            return frozenset()
        with Submissions(path) as submissions:
            return frozenset(place for one in submissions.open_of(self._question) for place in submissions.places(one))

    def _unusable(self, error: Exception) -> RunError:
        return RunError(f"{self._path}: {error}; it keeps two runs from asking the same: the folder must be writable")
