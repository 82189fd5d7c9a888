"""The installed command, in a process of its own."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

WORKBENCH = Path(sysconfig.get_path("scripts")) / "workbench"


def run_workbench(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`workbench ARGUMENTS`, whatever its exit code; the fixture `store` says which folders it uses."""
    command = [str(WORKBENCH), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
