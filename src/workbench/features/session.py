"""Ask the network about prepared pixels, once per picture."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from workbench.features.converter import (
    PREPARATION,
    NetworkAnswer,
    extractor_version,
    run_network,
    start_network,
    stored_network,
)
from workbench.features.store import FeatureStore
from workbench.prepare.decode import Prepared


class FeatureExtractor:
    """EfficientNet-Lite0 with everything it ever answered. May be asked from several threads at once.

    One picture goes through at a time, on one thread, so that an answer is the same to the bit whether it is asked
    alone or in a batch. The network is converted on first use and loaded when the first picture is not yet known;
    that raises InputError if the installed checkpoint is not the expected one.
    """

    def __init__(self, store: Path) -> None:
        self.version = extractor_version()
        """Exact: names the weights and the converter."""
        self.preparation = PREPARATION
        """How pixels have to be prepared."""
        self._folder = store
        self._kept = FeatureStore(store / "features.sqlite")
        self._lock = threading.Lock()
        self._session: Any = None

    def features(self, prepared: Prepared) -> np.ndarray:
        """(1280,) float32: the layer before the classifier; not negative."""
        return self._answer(prepared).features

    def probabilities(self, prepared: Prepared) -> np.ndarray:
        """(1000,) float32: of the ImageNet-1k classes, by index; they sum to one."""
        return self._answer(prepared).probabilities

    def _answer(self, prepared: Prepared) -> NetworkAnswer:
        shape = (self.preparation.height, self.preparation.width, 3)
        if prepared.pixels.shape != shape:
            raise ValueError(f"pixels of shape {prepared.pixels.shape}; the network takes {shape}")
        answer = self._kept.read(prepared.digest, self.version)
        if answer is None:
            answer = run_network(self._network(), prepared.pixels)
            self._kept.write(prepared.digest, self.version, answer)
        return answer

    def _network(self) -> Any:
        with self._lock:
            if self._session is None:
                self._session = start_network(stored_network(self._folder))
            return self._session
