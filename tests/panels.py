"""Asking a widget what its browser part would ask."""

from __future__ import annotations

import json
from typing import Any

from workbench.widgets.panel import Panel


def ask(panel: Panel, name: str, **content: Any) -> dict[str, Any]:
    """What the browser is told."""
    return ask_for_bytes(panel, name, **content)[0]


def ask_for_bytes(panel: Panel, name: str, **content: Any) -> tuple[dict[str, Any], list[bytes]]:
    """What the browser is told, and the bytes beside it; all of it, and the widget's state, can travel as JSON."""
    sent: list[tuple[dict[str, Any], list[bytes]]] = []
    panel.send = lambda content, buffers=None: sent.append((content, list(buffers or [])))
    panel._receive(None, {"ask": name, "number": 1, **content}, [])
    ((told, buffers),) = sent
    json.dumps([told, panel.get_state(panel.keys), panel._error], allow_nan=False, default=len)
    return told, buffers
