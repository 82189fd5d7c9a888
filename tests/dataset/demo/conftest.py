"""Stand-ins for what is downloaded: small files of the official form, and an apt-get that has one package."""

from __future__ import annotations

import gzip
import hashlib
import stat
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from laid_out import lay_out
from workbench.dataset.demo import downloads, fashion, mosaics

PER_CLASS = 24


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """By name, gzip files of the official form with 24 pictures per class; the modules expect just these."""
    random = np.random.default_rng(7)
    contents = {}
    for part in ("train", "t10k"):
        labels = random.permutation(np.repeat(np.arange(10, dtype=np.uint8), PER_CLASS))
        pictures = random.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
        contents[f"{part}-images-idx3-ubyte"] = struct.pack(">4B3I", 0, 0, 8, 3, *pictures.shape) + pictures.tobytes()
        contents[f"{part}-labels-idx1-ubyte"] = struct.pack(">4BI", 0, 0, 8, 1, len(labels)) + labels.tobytes()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(fashion, "DIGESTS", digests)
    monkeypatch.setattr(fashion, "KNOWN_COUNTS", {"train": 3, "tune": 4, "certify": 5})
    monkeypatch.setattr(fashion, "UNKNOWN_COUNTS", {"train": 0, "tune": 2, "certify": 3})
    monkeypatch.setattr(mosaics, "RESERVED", 8)
    monkeypatch.setattr(mosaics, "COUNTS", {"train": 6, "tune": 5, "certify": 7})
    return {f"{name}.gz": gzip.compress(content) for name, content in contents.items()}


@pytest.fixture
def cache(small: Mapping[str, bytes], tmp_path: Path) -> Path:
    """A cache that holds these files."""
    lay_out(tmp_path / "cache", {f"fashion-mnist/{name}": content for name, content in small.items()})
    return tmp_path / "cache"


@pytest.fixture
def no_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without apt-get, on which nothing is installed."""
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    monkeypatch.setattr(downloads, "SYSTEM", tmp_path / "no-system")


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`packaged(name, files)`: from now on apt-get has that package; returns the file that logs its calls.

    With `lists=False` it does not find the package until it has been updated into lists of its own.
    """

    def offer(name: str, files: Mapping[str, str | bytes], lists: bool = True) -> Path:
        control = (
            f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: x\n"
        )
        tree = lay_out(tmp_path / "package", {"DEBIAN/control": control, **files})
        archive = tmp_path / f"{name}_1_all.deb"
        subprocess.run(
            ["dpkg-deb", "--build", "--root-owner-group", str(tree), str(archive)], check=True, capture_output=True
        )
        known = "true" if lists else 'case "$*" in *Dir::State::Lists=*) true;; *) false;; esac'
        script = (
            f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
            f"if ! {{ {known}; }}; then echo 'E: Unable to locate package {name}' >&2; exit 100; fi\n"
            f'case "$*" in *"download {name}") cp {archive} . ;; *update) ;; *) exit 3 ;; esac\n'
        )
        program = lay_out(tmp_path, {"programs/apt-get": script}) / "programs" / "apt-get"
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        monkeypatch.setattr(downloads, "SYSTEM", tmp_path / "no-system")
        return tmp_path / "calls"

    return offer
