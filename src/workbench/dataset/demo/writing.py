"""What every embedded data set writes the same way: its manifest, and values in its `workbench.toml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.spreadsheets import as_csv


def write_manifest(folder: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """`manifest.csv`, with line ends that are the same everywhere."""
    (folder / "manifest.csv").write_bytes(as_csv([header, *rows], defused=False).encode())


def toml_table(mapping: Mapping[str, Sequence[str]]) -> str:
    """One `key = [texts]` line per entry."""
    return "\n".join(f"{toml_text(key)} = {toml_list(values)}" for key, values in mapping.items())


def toml_list(values: Sequence[str]) -> str:
    """A list of texts."""
    return f"[{', '.join(map(toml_text, values))}]"


def toml_text(text: str) -> str:
    """A text in quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
