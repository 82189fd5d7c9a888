"""Where this user's answers, features, models and downloads are kept."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir, user_data_dir


def store_folder() -> Path:
    """Answers that were paid for, features, models: `WORKBENCH_STORE`, or the user's data folder."""
    return Path(os.environ.get("WORKBENCH_STORE") or user_data_dir("workbench"))


def cache_folder() -> Path:
    """Downloads, which can be fetched again: `WORKBENCH_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("WORKBENCH_CACHE") or user_cache_dir("workbench"))
