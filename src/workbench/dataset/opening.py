"""Open a data set by what people call it: a folder, a manifest, a project file, or the name of an embedded one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.config.goals import Goals
from workbench.config.prices import Prices, packaged_prices
from workbench.config.project import LabelMap, Project, find_project, read_project
from workbench.config.store import cache_folder
from workbench.dataset.demo import EMBEDDED, embedded
from workbench.dataset.images import Dataset
from workbench.dataset.sources import load_dataset
from workbench.errors import ConfigError, DatasetError


@dataclass(frozen=True, eq=False)
class Opened:
    """A data set and the project file that belongs to it."""

    dataset: Dataset
    project: Project | None
    """None where there is no `workbench.toml`; the taxonomy is then what the labels say."""

    @property
    def goals(self) -> Goals:
        """The project's goals; ConfigError if it states none."""
        if self.project is None or self.project.goals is None:
            raise ConfigError(
                f"no goals are stated for data set {self.dataset.name!r}; "
                "`workbench init` writes a workbench.toml to start from, or give --goals FILE"
            )
        return self.project.goals

    def label_map(self, approach: str) -> LabelMap:
        """The project's label map for an approach; empty if it has none."""
        return {} if self.project is None else self.project.label_maps.get(approach, {})

    def options(self, approach: str) -> Mapping[str, Any]:
        """The approach's own fields in the project file; empty if it has none."""
        return {} if self.project is None else self.project.options.get(approach, {})

    @property
    def prices(self) -> Prices:
        """The packaged prices, with the project's own in their place."""
        if self.project is None:
            return packaged_prices()
        return packaged_prices().override(self.project.prices, f"{self.project.path}: prices")

    def made(self, approach: str) -> str:
        """The day (ISO 8601) on which the project says that an approach's model was made; "" if it does not."""
        return "" if self.project is None else self.project.made.get(approach, "")


def open_dataset(
    where: str | Path, config: Path | None = None, datasets: Path = Path("datasets"), progress: bool = False
) -> Opened:
    """Open a folder, manifest, `workbench.toml`, or one of the embedded data sets (made below `datasets` if need be).

    `config` names a project file that lies elsewhere. Raises DatasetError or ConfigError, naming file and row.
    """
    path = Path(where)
    if str(where) in EMBEDDED and not path.exists():
        path = embedded(str(where), datasets, cache_folder(), progress)
    elif not path.exists():
        raise DatasetError(f"{where}: there is no such file or folder; embedded data sets: {', '.join(EMBEDDED)}")
    file = config or find_project(path)
    if file is None:
        return Opened(load_dataset(path), None)
    project = read_project(file)
    source = project.dataset if path in (file, file.parent) else path
    dataset = load_dataset(source, project.taxonomy, project.root, project.name)
    sampling, collected, sensitive = project.sampling, project.collected, project.sensitive
    return Opened(replace(dataset, sampling=sampling, collected=collected, sensitive=sensitive), project)
