from __future__ import annotations

from pathlib import Path

from workbench.dataset.demo.writing import write_manifest
from workbench.dataset.tables import read_table


def test_a_manifest_reads_back(tmp_path: Path) -> None:
    rows = [("a\r=1+1.png", "=x"), ('"b", ;.png', ""), ("c\r\n.png", "d|e")]
    write_manifest(tmp_path, ("image", "label"), rows)
    table = read_table(tmp_path / "manifest.csv", "manifest.csv")
    assert ["image", "label"] == list(table.columns)
    assert rows == list(zip(*table.columns.values(), strict=True))
    assert b"\r\n" not in (tmp_path / "manifest.csv").read_bytes().replace(b"c\r\n", b"")
