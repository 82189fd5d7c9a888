"""A small world that every approach can be tried in, and a store that is shared."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from drawn import KINDS, draw_dataset, rows_of
from workbench.dataset.images import Dataset
from workbench.records import Mode, Taxonomy


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of these pictures are computed once per run of the tests."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mode], Dataset]:
    """By mode, a data set that no test may change."""

    @cache
    def make(mode: Mode) -> Dataset:
        return draw_dataset(tmp_path_factory.mktemp("data") / mode, rows_of(mode), Taxonomy(KINDS, mode))

    return make


@pytest.fixture(params=["single-label", "multi-label"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """Both modes, one after the other."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def dataset(mode: Mode, datasets: Callable[[Mode], Dataset]) -> Dataset:
    """The data set of the mode; not to be changed."""
    return datasets(mode)


@pytest.fixture
def quiet() -> Iterator[None]:
    """The sets here are far below the advised size; the warning has a test of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*expect poor scores")
        yield
