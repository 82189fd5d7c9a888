"""What the network answered, kept in one SQLite file, so that no picture is computed twice.

A row is found by the digest of the pixels and the version of the network; it carries a checksum, and a row that does
not match it is thrown away and computed again. Two processes may share the file.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import warnings
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from workbench.features.converter import CLASSES, FEATURES, NetworkAnswer

_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    pixels TEXT NOT NULL, network TEXT NOT NULL,
    probabilities BLOB NOT NULL, features BLOB NOT NULL, checksum BLOB NOT NULL,
    PRIMARY KEY (pixels, network)
)
"""
_NUMBERS = np.dtype("<f4")


class FeatureStore:
    """Answers by (pixels digest, network version). Nothing here fails a run: at worst an answer is computed again."""

    def __init__(self, path: Path) -> None:
        self.discarded = 0
        """Damaged rows that were found and thrown away."""
        self._path = path
        self._lock = threading.Lock()
        self._connection = _open_database(path)
        self._complained = False
        weakref.finalize(self, self._connection.close)

    def read(self, pixels: str, network: str) -> NetworkAnswer | None:
        """The kept answer, or None. A damaged one is deleted and counted."""
        with self._lock:
            try:
                row = self._connection.execute(
                    "SELECT probabilities, features, checksum FROM answers WHERE pixels = ? AND network = ?",
                    (pixels, network),
                ).fetchone()
                if row is None:
                    return None
                if _is_sound(pixels, network, *row):
                    return NetworkAnswer(*(np.frombuffer(blob, _NUMBERS) for blob in row[:2]))
                self.discarded += 1
                self._connection.execute("DELETE FROM answers WHERE pixels = ? AND network = ?", (pixels, network))
            except sqlite3.DatabaseError as error:
                self._complain(error)
            return None

    def write(self, pixels: str, network: str, answer: NetworkAnswer) -> None:
        """Keep an answer; the last one wins."""
        blobs = [np.asarray(values, _NUMBERS).tobytes() for values in answer]
        row = (pixels, network, *blobs, _checksum(pixels, network, *blobs))
        with self._lock:
            try:
                self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)
            except sqlite3.DatabaseError as error:
                self._complain(error)

    def forget(self, pixels: Iterable[str]) -> int:
        """Delete what is kept about these pixels under every network, and overwrite it on disk; how many rows went.

        Raises sqlite3.Error where that cannot be done.
        """
        with self._lock:
            self._connection.execute("PRAGMA secure_delete = ON")
            gone = sum(
                self._connection.execute("DELETE FROM answers WHERE pixels = ?", (digest,)).rowcount
                for digest in pixels
            )
            if gone:
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return gone

    def _complain(self, error: sqlite3.DatabaseError) -> None:
        if not self._complained:
            self._complained = True
            warnings.warn(f"{self._path}: features are not kept, so they cost time again: {error}", stacklevel=3)


def _open_database(path: Path) -> sqlite3.Connection:
    """The database, with the file readable by its owner only. One that is no database at all is put aside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise
    path.replace(path.with_name(path.name + ".damaged"))
    return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT, 0o600))
    path.chmod(0o600)
    connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_TABLE)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _checksum(pixels: str, network: str, probabilities: bytes, features: bytes) -> bytes:
    return hashlib.blake2b(
        b"\0".join((pixels.encode(), network.encode(), probabilities, features)), digest_size=16
    ).digest()


def _is_sound(pixels: str, network: str, probabilities: bytes, features: bytes, checksum: bytes) -> bool:
    blobs = (probabilities, features)
    sizes = [len(blob) if isinstance(blob, bytes) else -1 for blob in blobs]
    right = [count * _NUMBERS.itemsize for count in (CLASSES, FEATURES)]
    return sizes == right and checksum == _checksum(pixels, network, *blobs)
