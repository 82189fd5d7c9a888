"""Files that are fetched once into the user's cache: Debian packages, unpacked without root, and pinned downloads."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from workbench.errors import PrerequisiteError

SYSTEM = Path("/")
"""Where a package that is installed has its files."""

_PATIENCE_SECONDS = 900
_APT = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root")  # as root: the download folder is ours, not that of _apt


def debian_files(package: str, inside: str, cache: Path) -> Path:
    """The folder `inside` of a Debian package: of the installed one, or of one that is unpacked into the cache.

    Raises PrerequisiteError, with the command that helps, if there is neither and none can be fetched.
    """
    unpacked = cache / "debian" / package
    for root in (unpacked, SYSTEM):
        if (root / inside).is_dir():
            return root / inside
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=unpacked.parent, prefix=f".{package}-") as scratch:
        try:
            archive = _download_package(package, Path(scratch))
            _run(["dpkg-deb", "-x", str(archive), str(Path(scratch) / "root")], Path(scratch))
            (Path(scratch) / "root").replace(unpacked)
        except (OSError, subprocess.SubprocessError, LookupError) as error:
            raise PrerequisiteError(
                f"Debian's package {package} could not be fetched ({_reason(error)}); "
                f"where there is apt: sudo apt-get install {package}"
            ) from None
    return unpacked / inside


def fetch_file(address: str, target: Path, sha256: str) -> None:
    """Download a gzip file whose uncompressed content has this SHA-256; it appears at `target` whole or not at all.

    Raises PrerequisiteError if it cannot be had or is not the expected one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        part = Path(scratch) / target.name
        try:
            with urllib.request.urlopen(address, timeout=60) as answer, part.open("wb") as file:  # noqa: S310, a constant
                shutil.copyfileobj(answer, file)
        except OSError as error:
            raise PrerequisiteError(f"{address} could not be fetched: {error}") from None
        if read_pinned(part, sha256) is None:
            raise PrerequisiteError(f"{address} is not the expected file; its content differs from the pinned SHA-256")
        part.replace(target)


def read_pinned(file: Path, sha256: str) -> bytes | None:
    """The uncompressed content of a gzip file, or None if it is absent, damaged or another one."""
    try:
        content = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, ValueError):
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None


def _download_package(package: str, folder: Path) -> Path:
    """The package's file. Where apt has no package lists, they are fetched into `folder`, so that no root is needed."""
    try:
        _run([*_APT, "download", package], folder)
    except subprocess.CalledProcessError:
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        own = [*_APT, "-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
        _run([*own, "update"], folder)
        _run([*own, "download", package], folder)
    found = next(folder.glob("*.deb"), None)
    if found is None:
        raise LookupError("apt-get downloaded nothing")
    return found


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_PATIENCE_SECONDS)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said: list[str] = error.stderr.strip().splitlines()
        return said[-1] if said else str(error)
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} is not installed"
    return str(error)
