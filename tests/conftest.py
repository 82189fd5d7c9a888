"""What all tests share: hypothesis without a clock, and one store for everything that runs from end to end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

# Machines are shared: an example that takes long is no failure.
settings.register_profile("shared", deadline=None)
# ./run mutate asks whether a test fails, some thousand times: few examples, the same ones each time, none made smaller.
settings.register_profile(
    "mutation", deadline=None, max_examples=20, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile(os.environ.get("WORKBENCH_HYPOTHESIS", "shared"))

_MAKE = """
import sys
from pathlib import Path
from workbench.config.store import cache_folder
from workbench.dataset.demo import embedded

embedded(sys.argv[1], Path(sys.argv[2]), cache_folder())
"""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where workers share the tests, a module stays together; so do tests on embedded data and those with a browser."""
    here = Path(__file__).parent
    for item in items:
        whole = any(definition.func is store.__wrapped__ for definition in _definitions(item, "store")[-1:])
        path = item.path.relative_to(here)
        group = "from end to end" if whole else "browser" if path.parts[0] == "browser" else str(path)
        item.add_marker(pytest.mark.xdist_group(group))


def _definitions(item: pytest.Item, name: str) -> Sequence[pytest.FixtureDef[Any]]:
    return item._fixtureinfo.name2fixturedefs.get(name, ()) if isinstance(item, pytest.Function) else ()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--live", action="store_true", help="Ask the services themselves, for a cent each at most.")


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test writes into the home of who runs it, whether it asks for `store` or not."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WORKBENCH_STORE", str(tmp_path_factory.mktemp("elsewhere")))
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's folders, here and in every program that is started: no picture is computed twice in one session."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WORKBENCH_STORE", str(folder / "store"))
        environment.setenv("WORKBENCH_CACHE", str(folder / "cache"))
        yield folder / "store"


@pytest.fixture(scope="session")
def datasets(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `datasets` with the embedded `fashion` in it; not to be changed.

    A program of its own makes it, because it may have to fetch the pictures, and tests reach no network.
    """
    assert os.environ["WORKBENCH_STORE"] == str(store)
    folder = tmp_path_factory.mktemp("work") / "datasets"
    made = subprocess.run(
        [sys.executable, "-c", _MAKE, "fashion", str(folder)], capture_output=True, text=True, check=False
    )
    assert 0 == made.returncode, made.stderr
    return folder
