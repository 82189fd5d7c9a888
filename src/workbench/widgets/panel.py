"""What every widget shares: one module for the browser, questions from it, errors that are seen, a still picture.

The browser asks, `Panel` answers: a question is `{"ask": name, "number": n, ...}`, the answer `{"answer": n, ...}` with
binary buffers beside it. A question that fails is answered with its error in words, which also stands in the widget.
"""

from __future__ import annotations

import base64
import html
import json
import math
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.display import display
from matplotlib.figure import Figure

from workbench.canonical import shortest_binary32
from workbench.errors import InputError, WorkbenchError
from workbench.evaluation import figures
from workbench.evaluation.results import NO_MATHEMATICS

Answer = tuple[Mapping[str, Any], Sequence[bytes]]
"""What the browser is told: JSON, and binary buffers."""

Handler = Callable[[Mapping[str, Any]], Answer | Mapping[str, Any] | None]
"""Takes a question, gives its answer."""


_MOST_WORDS = 1000
_LARGE = 1e30
"""No score, share or threshold comes near; some way above it binary32 ends."""


def asset(*names: str) -> str:
    """The text of files of `assets/`, one after the other."""
    folder = files("workbench.widgets") / "assets"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def json_number(value: float | None) -> float | None:
    """JSON has no NaN and no infinity, which become None; a binary32 is in the fewest digits that say the same one."""
    if value is None or not math.isfinite(value):
        return None
    is_single = abs(value) < _LARGE and value == np.float32(value)
    return shortest_binary32(value) if is_single else float(value)


def read_threshold(content: Mapping[str, Any]) -> float | None:
    """The threshold that a question names; None is "never". Raises InputError for what is no number."""
    if "threshold" not in content:
        raise InputError("the threshold is missing")
    limit = content["threshold"]
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or abs(limit) > _LARGE:
        raise InputError(f"{limit!r} is no threshold")
    return float(limit)


class Panel(anywidget.AnyWidget):
    """A widget that answers questions of its browser part, and shows something where there is no browser.

    Subclasses set `_esm` and `_css` from `asset`, register handlers with `answer`, and give `describe`, `figure` and
    `_mirror`, which tells the browser how things stand. Questions come in a thread of their own, beside the cell that
    runs: what changes or reads several things does so under `lock`.
    """

    _css = asset("shared.css")
    _error = traitlets.Unicode("").tag(sync=True)
    """What went wrong last, in words; the widget shows it until the next thing goes well."""

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.lock = threading.RLock()
        self._handlers: dict[str, Handler] = {}
        self.on_msg(self._receive)

    def answer(self, **handlers: Handler) -> None:
        """Register what answers the questions of these names."""
        self._handlers.update(handlers)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Around what changes the state: nobody else does so meanwhile, and the browser is told, unless it fails."""
        with self.lock:
            yield
            self._mirror()

    def _mirror(self) -> None:
        raise NotImplementedError

    def describe(self) -> str:
        """What the widget shows, in plain words."""
        raise NotImplementedError

    def table(self) -> str:
        """What it shows as an HTML table, escaped; "" where a picture is enough."""
        return ""

    def figure(self) -> Figure:
        """What it shows now, as a figure to keep."""
        raise NotImplementedError

    def _receive(self, _: object, content: Mapping[str, Any], buffers: object) -> None:
        number = content.get("number") if isinstance(content, Mapping) else None
        try:
            name = content.get("ask") if isinstance(content, Mapping) else None
            if not isinstance(name, str) or name not in self._handlers:
                raise InputError("that is no question of this widget")
            with self.lock:
                found = self._handlers[name](content) or {}
            told, binary = found if isinstance(found, tuple) else (found, ())
            json.dumps(told, allow_nan=False, ensure_ascii=False).encode()  # else sending would fail, without an answer
            self._error = ""
        except Exception as error:
            self._error = _in_words(error)
            told, binary = {"error": self._error}, ()
        self.send({**told, "answer": number}, buffers=list(binary))

    def _ipython_display_(self) -> None:
        """The living widget, then its still, which JupyterLab hides while the widget lives.

        Apart, because in a notebook that is opened again JupyterLab shows no other form of an output that was a widget.
        """
        data, _ = super()._repr_mimebundle_() or ({}, {})
        display(data, raw=True)  # type: ignore[no-untyped-call]
        display(self._still(), raw=True)  # type: ignore[no-untyped-call]

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The living widget, and for a saved notebook, a page or a terminal its picture, table and words."""
        live = super()._repr_mimebundle_(**options)
        data, metadata = live if isinstance(live, tuple) else (live or {}, {})
        return {**data, **self._still()}, metadata

    def _still(self) -> dict[str, str]:
        told = figures.shorten(self.describe(), _MOST_WORDS)
        words = html.escape(told)
        picture = base64.b64encode(figures.to_png(self.figure(), dpi=110)).decode("ascii")
        shown = f'<img alt="{words}" src="data:image/png;base64,{picture}">'
        return {
            "text/plain": told,
            "text/html": f'<div class="wb-still {NO_MATHEMATICS}"><p>{words}</p>{shown}{self.table()}</div>',
            "image/png": picture,
        }


def _in_words(error: Exception) -> str:
    if isinstance(error, WorkbenchError):
        return _unicode(str(error))
    place = traceback.extract_tb(error.__traceback__)[-1]
    return _unicode(f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})")


def _unicode(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
