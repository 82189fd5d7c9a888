"""Where a listed image lies: below the root, or refused. Nothing outside the root is listed or opened."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

_IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .gif .heic .heif .jfif .jpe .jpeg .jpg .png .tif .tiff .webp".split()  # noqa: SIM905, one line reads best
)
_SUSPECT = re.compile(r"[\x00\\\ud800-\udfff]|^\s*$|^[a-z]:|^(?:file|data):|://|(?:^|/)\.{0,2}(?:/|$)", re.IGNORECASE)
_ADDRESS = re.compile(r"^(?:[a-z][a-z0-9+.-]*://|file:|data:)", re.IGNORECASE)


@dataclass(frozen=True)
class Refusal:
    """Why a path is not followed."""

    code: str
    message: str


@dataclass(frozen=True)
class _Folder:
    """One directory, listed once."""

    names: dict[str, bool]
    """File name → it is a symbolic link."""
    spellings: dict[str, str]
    """NFC of each name that is not in NFC → the name."""


def looks_like_image(name: str) -> bool:
    """The file name ends as image files do, in upper or lower case. What is in the file is another question."""
    return os.path.splitext(name)[1].lower() in _IMAGE_SUFFIXES  # noqa: PTH122, a million calls


def relative_path(text: str) -> str | Refusal:
    """`text` as a plain path below a root, or why it is none. Looks at the text only."""
    if not _SUSPECT.search(text):
        return text
    if not text.strip():
        return Refusal("no_path", "no image path in this row")
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return Refusal("path_not_text", f"the path {text!r} holds a NUL or is not Unicode; rename the file")
    if _ADDRESS.match(text):
        return Refusal(
            "path_is_address", f"{text!r} is an address; addresses are not fetched, copy the image below the root"
        )
    if text[0] in "/\\" or re.match(r"[A-Za-z]:", text):
        return Refusal("outside_root", f"the path {text!r} is absolute; write it relative to the root")
    if ".." in re.split(r"[/\\]", text):
        return Refusal(
            "outside_root", f"the path {text!r} goes up by '..'; write it relative to the root, or set another root"
        )
    plain = "/".join(part for part in text.split("/") if part not in ("", "."))
    return plain or Refusal("no_path", f"the path {text!r} names no file")


@dataclass(frozen=True)
class Tree:
    """The files below one root. Each directory is listed once, when first asked about; no file is opened."""

    root: Path
    """Resolved."""
    _folders: dict[str, tuple[str, _Folder | Refusal | None]] = field(default_factory=dict)
    """Directory as asked for → as the file system spells it, and what it holds."""

    def locate(self, path: str) -> str | Refusal | None:
        """The relative path as the file system spells it; None if there is no such entry.

        Names are compared exactly, then in Unicode NFC. Refused if a symbolic link leads out of the root.
        """
        parent, _, name = path.rpartition("/")
        if parent not in self._folders:
            self._folders[parent] = self._list(parent)
        spelled, folder = self._folders[parent]
        if not isinstance(folder, _Folder):
            return folder
        if name not in folder.names:
            composed = unicodedata.normalize("NFC", name)
            name = folder.spellings.get(composed, composed)
        if name not in folder.names:
            return None
        found = f"{spelled}/{name}" if spelled else name
        return self._inside(found) if folder.names[name] else found

    def _list(self, path: str) -> tuple[str, _Folder | Refusal | None]:
        spelled = self.locate(path) if path else ""
        if not isinstance(spelled, str):
            return path, spelled
        try:
            with os.scandir(self.root / spelled) as entries:
                names = {entry.name: entry.is_symlink() for entry in entries}
        except OSError:
            return spelled, None
        plain = unicodedata.is_normalized
        return spelled, _Folder(names, {unicodedata.normalize("NFC", n): n for n in names if not plain("NFC", n)})

    def _inside(self, path: str) -> str | Refusal:
        try:
            target = (self.root / path).resolve()
        except (OSError, RuntimeError):  # a loop of links leads nowhere, and so not outside
            return path
        if target.is_relative_to(self.root):
            return path
        return Refusal("outside_root", f"{path!r} is a symbolic link that leads out of the root")
