"""What every widget has in common."""

from __future__ import annotations

import io
import math
import threading
import time
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from panels import ask, ask_for_bytes
from workbench.errors import InputError
from workbench.evaluation import figures
from workbench.widgets.panel import Panel, json_number

HOSTILE = "<img src=x onerror=alert(1)> & more"
TERMINAL = "\x1b[31m"
"""What turns a terminal red."""


class Counter(Panel):
    """Counts; what it says is hostile."""

    _esm = "export default { render() {} }"

    def __init__(self) -> None:
        super().__init__()
        self.count = self.mirrored = 0
        self.answer(
            add=self._add,
            crash=self._crash,
            spoil=self._spoil,
            tell=lambda content: {"text": content["text"]},
            read=lambda _: ({"count": self.count}, [b"one", b"two"]),
        )

    def _mirror(self) -> None:
        self.mirrored = self.count

    def _add(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        if content["by"] < 0:
            raise InputError("only more, never less")
        with self.changing():
            before = self.count
            time.sleep(content.get("slow", 0))
            self.count = before + content["by"]
        return {"now": self.count}

    def _crash(self, _: Mapping[str, Any]) -> None:
        raise ZeroDivisionError("by zero")

    def _spoil(self, _: Mapping[str, Any]) -> None:
        with self.changing():
            self.count = 5
            raise InputError("no")

    def describe(self) -> str:
        return TERMINAL + HOSTILE

    def figure(self) -> Figure:
        return figures.figure_of(figures.new_axes())


def test_a_question_is_answered_by_its_number_with_bytes_beside_it() -> None:
    panel = Counter()
    assert {"now": 3, "answer": 1} == ask(panel, "add", by=3)
    assert ({"count": 3, "answer": 1}, [b"one", b"two"]) == ask_for_bytes(panel, "read")
    assert 3 == panel.mirrored


def test_what_goes_wrong_stands_in_words_until_the_next_thing_goes_well() -> None:
    panel = Counter()
    assert {"error": "only more, never less", "answer": 1} == ask(panel, "add", by=-1)
    assert "only more, never less" == panel._error
    assert "ZeroDivisionError: by zero (_crash, line " in ask(panel, "crash")["error"]
    assert "that is no question of this widget" == ask(panel, "no such thing")["error"]
    for content in (None, 5, "x", [], {}, {"ask": ["add"]}):
        sent: list[dict[str, Any]] = []
        panel.send = lambda content, buffers=None, sent=sent: sent.append(content)
        panel._receive(None, content, [])  # type: ignore[arg-type]
        assert "that is no question of this widget" == sent[0]["error"]
    assert "cannot be told" in ask(panel, "tell", text="\ud800")["error"] or "surrogates" in panel._error
    assert "KeyError" in ask(panel, "add")["error"]
    assert (0, 0) == (panel.count, panel.mirrored)
    ask(panel, "read")
    assert "" == panel._error


def test_what_fails_while_it_changes_is_not_told_to_the_browser() -> None:
    panel = Counter()
    assert "error" in ask(panel, "spoil")
    assert 5 == panel.count
    assert 0 == panel.mirrored


def test_questions_and_cells_wait_for_each_other() -> None:
    panel = Counter()
    panel.send = lambda content, buffers=None: None

    def receive() -> None:
        panel._receive(None, {"ask": "add", "number": 1, "by": 1, "slow": 0.01}, [])

    threads = [threading.Thread(target=receive) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        panel._add({"by": 1, "slow": 0.01})
    for thread in threads:
        thread.join()
    assert 16 == panel.count == panel.mirrored


def test_a_saved_notebook_has_words_a_table_and_a_picture() -> None:
    data, _ = Counter()._repr_mimebundle_()
    assert 'class="wb-still tex2jax_ignore mathjax_ignore"' in data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == "[31m" + HOSTILE
    assert "<img src=x" not in data["text/html"]
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; more" in data["text/html"]
    with Image.open(io.BytesIO(b64decode(data["image/png"]))) as picture:
        assert min(picture.size) > 100


@given(st.none() | st.floats(width=32) | st.floats())
def test_a_number_for_json_is_the_same_number(value: float | None) -> None:
    found = json_number(value)
    if value is None or not math.isfinite(value):
        assert found is None
    elif abs(value) < 1e30 and value == np.float32(value):
        assert np.float32(found) == np.float32(value)
        assert len(repr(found)) <= len(repr(value))
    else:
        assert value == found
