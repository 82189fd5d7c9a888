"""A small world that every approach can be tried in: pictures, a store that is shared, stand-ins with credentials."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from approaches.offered import CASES, TOY, Build, Case, credentials, nowhere, toy
from drawn import KINDS, draw_dataset, rows_of
from servers.base import StandIn
from workbench.approaches.base import APPROACHES, Approach, Setting, Standing, approach_class
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


# ---------------------------------------------------------------- every approach, as `offered` says


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Credentials of every service, and none but these; the toy of ARCHITECTURE.md has a name."""
    toy()
    with pytest.MonkeyPatch.context() as changed:
        for name, value in nowhere(tmp_path_factory.mktemp("home")).items():
            changed.setenv(name, value)
        for name, value in credentials(tmp_path_factory.mktemp("keys")).items():
            changed.setenv(name, value)
        changed.setitem(APPROACHES, TOY, "the_toy:Brightness")  # type: ignore[arg-type]
        yield


@pytest.fixture(scope="module")
def served(planted: None) -> Iterator[Callable[[Case], StandIn]]:
    """By case, who answers it; one stand-in for all tests of a module."""
    with ExitStack() as open_ones:

        @cache
        def serve(name: str) -> StandIn:
            service = CASES[name].service
            assert service is not None
            return open_ones.enter_context(service.stand_in())

        yield lambda case: serve(case.name)


@pytest.fixture(scope="module")
def settings(
    datasets: Callable[[Mode], Dataset], store: Path, served: Callable[[Case], StandIn]
) -> Callable[[str, Mode], Setting]:
    """By key of `CASES` and mode: what is ready to build from; what learns has learnt."""

    @cache
    def make(key: str, mode: Mode) -> Setting:
        case, dataset = CASES[key], datasets(mode)
        leading = case.service.options(served(case)) if case.service else {}
        taxonomy = replace(dataset.taxonomy, categories=case.categories)
        setting = Setting(taxonomy, case.labels, store, options={**case.options, **leading}, dataset=dataset)
        found = approach_class(case.name)
        return replace(setting, model=found.fit(dataset, setting)) if hasattr(found, "fit") else setting

    return make


@pytest.fixture(params=CASES)
def key(request: pytest.FixtureRequest) -> str:
    """One case after the other."""
    return str(request.param)


@pytest.fixture
def case(key: str) -> Case:
    return CASES[key]


@pytest.fixture
def name(case: Case) -> str:
    return case.name


@pytest.fixture
def setting(key: str, mode: Mode, settings: Callable[[str, Mode], Setting], quiet: None) -> Setting:
    return settings(key, mode)


@pytest.fixture
def build(name: str, setting: Setting) -> Iterator[Build]:
    with ExitStack() as built:

        def make(other: Setting | None = None) -> Approach:
            made = approach_class(name).build(other or setting)
            built.callback(getattr(made, "close", lambda: None))
            return made

        yield make


@pytest.fixture
def approach(build: Build) -> Iterator[Approach]:
    """Ready to be asked: switched on, if it must be."""
    made: Approach = build()
    if not isinstance(made, Standing):
        yield made
        return
    made.start(lambda text: None)
    yield made
    made.stop(lambda text: None)
