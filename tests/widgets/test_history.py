from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workbench.widgets.history import MOST_STEPS, History


@given(st.lists(st.sampled_from(["step", "undo", "redo"]), max_size=60))
def test_it_leads_back_and_forth_as_a_list_with_a_place_in_it_does(commands: list[str]) -> None:
    history, steps, place = History[int](), list[int](), 0
    for number, command in enumerate(commands):
        if command == "step":
            history.did(number)
            steps, place = [*steps[:place], number], place + 1
        elif command == "undo":
            assert (steps[place - 1] if place else None) == history.undo()
            place = max(0, place - 1)
        else:
            assert (steps[place] if place < len(steps) else None) == history.redo()
            place = min(len(steps), place + 1)
        assert (place > 0, place < len(steps)) == (history.can_undo, history.can_redo)


def test_the_oldest_steps_are_forgotten() -> None:
    history = History[int]()
    for step in range(MOST_STEPS + 10):
        history.did(step)
    undone = []
    while (step_back := history.undo()) is not None:
        undone.append(step_back)
    assert list(range(MOST_STEPS + 9, 9, -1)) == undone
