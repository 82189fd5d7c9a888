"""A real JupyterLab with real kernels, looked at through a real Chromium. Both are started once per worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from browser.lab import Lab, open_chromium, serve_jupyterlab


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """By module, since its driver's event loop suffers no other one."""
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(address, folder of notebooks)."""
    with serve_jupyterlab(tmp_path_factory.mktemp("lab")) as served:
        yield served


@pytest.fixture
def lab(server: tuple[str, Path], chromium: Browser) -> Iterator[Lab]:
    """A JupyterLab for one test; its page is closed afterwards, and no script on it may have failed."""
    address, folder = server
    opened = Lab(address, folder, chromium)
    yield opened
    opened.close()
