"""What was done, to be undone and done again."""

from __future__ import annotations

from typing import Generic, TypeVar

MOST_STEPS = 500
"""That are remembered."""

Step = TypeVar("Step")


class History(Generic[Step]):
    """Steps, each of which says by itself how to go back and forth, such as (before, after)."""

    def __init__(self) -> None:
        self._past: list[Step] = []
        self._future: list[Step] = []

    @property
    def can_undo(self) -> bool:
        """There is a step to take back."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """There is a step that was taken back."""
        return bool(self._future)

    def did(self, step: Step) -> None:
        """A new step; what was taken back before it is gone."""
        self._past = [*self._past[-MOST_STEPS + 1 :], step]
        self._future.clear()

    def undo(self) -> Step | None:
        """The step to take back; None where there is none."""
        return _shift(self._past, self._future)

    def redo(self) -> Step | None:
        """The step to do again; None where there is none."""
        return _shift(self._future, self._past)


def _shift(source: list[Step], target: list[Step]) -> Step | None:
    if not source:
        return None
    target.append(source.pop())
    return target[-1]
