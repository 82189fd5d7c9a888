from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from laid_out import lay_out
from workbench.dataset.demo import downloads
from workbench.dataset.demo.downloads import debian_files, fetch_file, read_pinned
from workbench.errors import PrerequisiteError

CONTENT = b"pictures"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of a server on this machine that has one file."""
    folder = lay_out(tmp_path / "site", {"a.gz": gzip.compress(CONTENT), "cut.gz": gzip.compress(CONTENT)[:-9]})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_an_installed_package_is_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path / "system", ["usr/share/pets/a.png"])
    monkeypatch.setattr(downloads, "SYSTEM", tmp_path / "system")
    monkeypatch.setenv("PATH", "")

    assert tmp_path / "system/usr/share/pets" == debian_files("pets", "usr/share/pets", tmp_path / "cache")


def test_a_package_is_unpacked_once(tmp_path: Path, packaged: Callable[..., Path]) -> None:
    calls = packaged("pets", {"usr/share/pets/a.png": b"x"})
    found = [debian_files("pets", "usr/share/pets", tmp_path / "cache") for _ in range(2)]

    assert [tmp_path / "cache/debian/pets/usr/share/pets"] * 2 == found
    assert b"x" == (found[0] / "a.png").read_bytes()
    assert ["-qq -o APT::Sandbox::User=root download pets"] == calls.read_text().splitlines()
    assert ["pets"] == [entry.name for entry in (tmp_path / "cache/debian").iterdir()]


def test_without_package_lists_they_are_fetched_aside(tmp_path: Path, packaged: Callable[..., Path]) -> None:
    calls = packaged("pets", {"usr/share/pets/a.png": b"x"}, lists=False)

    assert (debian_files("pets", "usr/share/pets", tmp_path / "cache") / "a.png").is_file()
    assert ["pets", "update", "pets"] == [line.split()[-1] for line in calls.read_text().splitlines()]


@pytest.mark.usefixtures("no_packages")
def test_where_there_is_no_apt_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match=r"apt-get is not installed.*sudo apt-get install pets"):
        debian_files("pets", "usr/share/pets", tmp_path / "cache")


def test_what_apt_says_is_passed_on(tmp_path: Path, packaged: Callable[..., Path]) -> None:
    packaged("dogs", {"usr/share/dogs/a.png": b"x"})

    with pytest.raises(PrerequisiteError, match="pets could not be fetched"):
        debian_files("pets", "usr/share/pets", tmp_path / "cache")
    assert [] == list((tmp_path / "cache/debian").iterdir())


def test_a_download_appears_whole(tmp_path: Path, site: str) -> None:
    fetch_file(f"{site}a.gz", tmp_path / "cache/a.gz", DIGEST)

    assert CONTENT == read_pinned(tmp_path / "cache/a.gz", DIGEST)
    assert ["a.gz"] == [entry.name for entry in (tmp_path / "cache").iterdir()]


@pytest.mark.parametrize(
    ("name", "sha256", "message"),
    [("a.gz", "0" * 64, "not the expected file"), ("cut.gz", DIGEST, "not the expected file"), ("b.gz", DIGEST, "404")],
)
def test_a_download_that_is_another_does_not_appear(
    tmp_path: Path, site: str, name: str, sha256: str, message: str
) -> None:
    with pytest.raises(PrerequisiteError, match=message):
        fetch_file(f"{site}{name}", tmp_path / "cache/a.gz", sha256)
    assert [] == list((tmp_path / "cache").iterdir())


def test_only_the_pinned_content_is_read(tmp_path: Path) -> None:
    lay_out(tmp_path, {"a.gz": gzip.compress(CONTENT), "b.gz": gzip.compress(b"other"), "c.gz": CONTENT})

    assert [CONTENT, None, None, None] == [read_pinned(tmp_path / f"{name}.gz", DIGEST) for name in "abcd"]
