"""Pictures for widgets: small ones, one enlarged; blurred ones where a data set is sensitive, until they are revealed.

What travels to the browser for a picture that was not revealed is blurred here already: nothing recognisable ever
reaches the page. Each reveal is written to a file in the user's store before the picture is shown.
"""

from __future__ import annotations

import getpass
import json
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from workbench.config.store import store_folder
from workbench.dataset.images import Dataset
from workbench.errors import InputError, PrerequisiteError
from workbench.prepare.decode import Preparation, Prepared, Unprepared, describe_bytes, prepare_bytes, read_image_file
from workbench.prepare.encode import encode_pixels
from workbench.report.contact import blur
from workbench.widgets.panel import Answer, Handler

REVEALS = "reveals.jsonl"
"""In the user's store: one JSON line per picture that was revealed."""

LARGE = 640
"""Pixels of the longer side of an enlarged picture."""

_SMALLEST, _LARGEST = 24, 256
_MOST_AT_ONCE = 240
_MOST_KEPT = 64 * 2**20
"""Bytes of all pictures that are kept."""
_MOST_BYTES_SMALL, _MOST_BYTES = 48_000, 400_000
"""Of one picture. The poorest JPEG of noise alone, the worst there is, fits at 256 and at 640 pixels per side."""
_OVERHEAD = 200
"""Bytes that an entry takes at least, so that reasons count as well."""


class Pictures:
    """Answers what widgets ask about the pictures of one data set.

    "pictures"  {ids, size}: small ones, at most 240 at once, each with whether it is blurred or why there is none
    "enlarge"   {id}: one of at most 640 pixels, with what is known of it: size, format, split, labels
    "reveal"    {ids}: these may be seen from now on; raises PrerequisiteError where that cannot be written down
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._revealed: set[str] = set()
        self._kept: OrderedDict[tuple[str, int, bool], bytes | str] = OrderedDict()
        self._bytes = 0

    def handlers(self) -> dict[str, Handler]:
        """For `Panel.answer`."""
        return {"pictures": self._pictures, "enlarge": self._enlarge, "reveal": self._reveal}

    def is_blurred(self, image_id: str) -> bool:
        """The data set is sensitive, and this picture was not revealed."""
        return self.dataset.sensitive and image_id not in self._revealed

    def picture(self, image_id: str, size: int) -> bytes | str:
        """An image file whose longer side is at most `size`, blurred where it must be; or why there is none."""
        key = (image_id, size, self.is_blurred(image_id))
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        found = self._kept[key] = self._made(*key)
        self._bytes += len(found) + _OVERHEAD
        while self._bytes > _MOST_KEPT and len(self._kept) > 1:
            self._bytes -= len(self._kept.popitem(last=False)[1]) + _OVERHEAD
        return found

    def reveal(self, image_ids: Sequence[str]) -> None:
        """From now on these pictures are shown as they are; first it is written down who wanted to see them.

        Raises InputError for an id that is not one of the data set's, PrerequisiteError where nothing can be written;
        then none of them is revealed.
        """
        for image_id in image_ids:
            if image_id not in self._places:
                raise InputError(f"{image_id!r} is not an image of data set {self.dataset.name!r}")
        fresh = [image_id for image_id in dict.fromkeys(image_ids) if self.is_blurred(image_id)]
        if fresh:
            _write_down(self.dataset, fresh)
            self._revealed.update(fresh)

    def facts(self, image_id: str) -> list[tuple[str, str]]:
        """What is known of one image, as (name, text): labels, split, source, size and format as stored."""
        place = self._places.get(image_id)
        if place is None:
            return []
        row, taxonomy = self.dataset.frame.iloc[place], self.dataset.taxonomy
        shown = row["labels"]
        told = "not labelled" if shown is None else ", ".join(shown) or taxonomy.unknown
        data = read_image_file(self.dataset.file(row["path"]))
        size = data if isinstance(data, Unprepared) else describe_bytes(data)
        rest = [] if isinstance(size, Unprepared) else [("as stored", f"{size.width} × {size.height}, {size.format}")]
        source = [("source", row["source"])] if row["source"] else []
        return [("label", told), ("split", row["split"]), *source, *rest]

    def _made(self, image_id: str, size: int, blurred: bool) -> bytes | str:
        place = self._places.get(image_id)
        if place is None:
            return "not an image of the data set"
        data = read_image_file(self.dataset.file(self.dataset.frame["path"].iloc[place]))
        prepared = data if isinstance(data, Unprepared) else prepare_bytes(data, Preparation(size, size, "within"))
        if not isinstance(prepared, Prepared):
            return f"{prepared.outcome}: {prepared.detail}"
        most = _MOST_BYTES_SMALL if size <= _LARGEST else _MOST_BYTES
        return encode_pixels(blur(prepared.pixels) if blurred else prepared.pixels, most).data

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {image_id: place for place, image_id in enumerate(self.dataset.frame["image_id"])}

    def _pictures(self, content: Mapping[str, Any]) -> Answer:
        ids, size = _ids(content), int(content.get("size", 96))
        if not _SMALLEST <= size <= _LARGEST:
            raise InputError(f"a small picture has {_SMALLEST} to {_LARGEST} pixels per side, not {size}")
        made = [self.picture(image_id, size) for image_id in ids]
        told = [
            {
                "id": image_id,
                "blurred": self.is_blurred(image_id),
                "reason": found if isinstance(found, str) else None,
            }
            for image_id, found in zip(ids, made, strict=True)
        ]
        return {"pictures": told}, [b"" if isinstance(found, str) else found for found in made]

    def _enlarge(self, content: Mapping[str, Any]) -> Answer:
        image_id = str(content["id"])
        found, blurred = self.picture(image_id, LARGE), self.is_blurred(image_id)
        told = {"blurred": blurred, "reason": found if isinstance(found, str) else None}
        facts = [list(fact) for fact in self.facts(image_id)]
        return {**told, "facts": facts}, [b"" if isinstance(found, str) else found]

    def _reveal(self, content: Mapping[str, Any]) -> None:
        self.reveal(_ids(content))


def _ids(content: Mapping[str, Any]) -> list[str]:
    ids = content.get("ids")
    if not isinstance(ids, list) or len(ids) > _MOST_AT_ONCE:
        raise InputError(f"ids must be a list of at most {_MOST_AT_ONCE} image ids")
    return [str(image_id) for image_id in ids]


def _write_down(dataset: Dataset, image_ids: Sequence[str]) -> None:
    file = store_folder() / REVEALS
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name for this user id
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    who = {"time": when, "user": user, "dataset": dataset.name, "folder": str(dataset.root.absolute())}
    lines = [{**who, "image_id": image_id} for image_id in image_ids]
    try:
        _append(file, "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines))
    except OSError as error:
        raise PrerequisiteError(
            f"nothing is revealed, because it cannot be written down who saw it: {file}: {error.strerror or error}"
        ) from None


def _append(file: Path, text: str) -> None:
    """One write to a file opened for appending, which its owner alone may read: lines of two processes do not mix."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        data = text.encode()
        written = os.write(handle, data)
        if written < len(data):  # the disk is full
            raise OSError(f"{written} of {len(data)} bytes were written")
    finally:
        os.close(handle)
