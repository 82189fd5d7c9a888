"""The way of one image: read → prepare → cache → ask → parse, and a row whatever happens."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.approaches.base import Approach, Service
from workbench.errors import ProviderError, RunError
from workbench.prepare.decode import Prepared, Unprepared, describe_bytes, prepare_bytes, read_image_file
from workbench.records import OK, Origin
from workbench.runs.answers import Answers, describe_origin
from workbench.runs.asking import RESUMES, Asked, Asker, DirectAsker
from workbench.runs.cache import AnswerCache
from workbench.runs.rows import Row, failed, unprepared

__all__ = ["RESUMES", "Look", "Pipeline", "Row", "describe_origin"]


@dataclass(frozen=True)
class Look:
    """What is known of an image before anything is asked."""

    found: str | Unprepared
    """The digest of its pixels, or why it has none."""
    missing: tuple[int, ...]
    """The parts that would have to be asked; empty where the cache settles it, or there is nothing to ask about."""
    sizes: tuple[tuple[int, int], ...]
    """Width and height of the prepared pixels where something is missing: as they are, or, told by the header alone,
    both ways that they may lie."""
    decoded: bool
    """The file had to be decoded to tell."""


@dataclass(frozen=True)
class _Question:
    """What is to be asked about one picture."""

    pixels: str
    size: tuple[int, int]
    request: Callable[[int], Any]
    """What is sent, by part."""


class Pipeline:
    """The way of one image, for one approach and one run; usable from several threads.

    `asker` asks a service; a pipeline without one asks as it is, which is right for an approach of this machine, and
    for looking and keeping alone. `remembers`: a picture that failed is not asked about again, as is right for a run.

    Raises RunError where answers of several model versions are kept and nothing says which one counts.
    """

    def __init__(
        self, approach: Approach, cache: AnswerCache | None, asker: Asker | None = None, remembers: bool = True
    ) -> None:
        self.approach = approach
        self.cache = cache
        self.answers = Answers(approach, cache)
        self.answered = 0
        """Images with scores so far."""
        self._asker = asker or DirectAsker(approach)
        self._service = approach if isinstance(approach, Service) else None
        self._preparation_id = approach.preparation.id
        self._ahead = threading.BoundedSemaphore(self._asker.ahead)
        self._remembers = remembers
        self._lock = threading.Lock()
        self._asked: dict[str, Future[Row] | Row] = {}
        """By pixels: what is being asked, and what failed in this run; what succeeded is in the cache."""

    @property
    def origin(self) -> Origin:
        """Which classifier the rows so far come from."""
        return self.answers.origin

    def look(self, path: Path) -> Look:
        """What is known of the image in a file; nothing is asked."""
        data = read_image_file(path)
        if isinstance(data, Unprepared):
            return Look(data, (), (), decoded=False)
        file = _digest(data)
        known = self._known(file)
        if known is None:
            prepared = self._prepare(file, data)
            if isinstance(prepared, Unprepared):
                return Look(prepared, (), (), decoded=True)
            missing = self.answers.find(prepared.digest).missing
            return Look(prepared.digest, missing, (_size(prepared),) if missing else (), decoded=True)
        missing = () if isinstance(known, Unprepared) else self.answers.find(known).missing
        return Look(known, missing, self._sizes(data) if missing else (), decoded=False)

    def prepared(self, path: Path) -> Prepared | Unprepared:
        """The pixels of the image in a file, decoded whether or not they are known; or why it has none."""
        data = read_image_file(path)
        return data if isinstance(data, Unprepared) else self._prepare(_digest(data), data)

    def request(self, prepared: Prepared, part: int) -> Any:
        """What is asked about these pixels in this part. Raises what the approach raises."""
        return self._service.request(prepared, part) if self._service else self.approach.request(prepared)

    def settled(self, image: tuple[str, Path]) -> Row | None:
        """The row of an image, given its id and its file, where nothing has to be decoded or asked for it."""
        _, path = image
        data = read_image_file(path)
        if isinstance(data, Unprepared):
            return unprepared(data)
        known = self._known(_digest(data))
        if isinstance(known, Unprepared):
            return unprepared(known)
        row = self.answers.find(known).row if known else None
        return row and self._counted(row)

    def classify_file(self, image: tuple[str, Path]) -> Row:
        """The row of an image, given its id and its file."""
        image_id, path = image
        with self._place_ahead() as leave:
            return self._counted(self._row(image_id, self._question(read_image_file(path)), leave))

    def classify_bytes(self, image_id: str, data: bytes) -> Row:
        """The row of an image, given its id and the bytes of its file. Raises RunError where the run must end."""
        with self._place_ahead() as leave:
            return self._counted(self._row(image_id, self._question(data), leave))

    @contextmanager
    def _place_ahead(self) -> Iterator[Callable[[], None]]:
        """One of the few places for images that are on their way to the service; given up at the latest at the end."""
        self._ahead.acquire()
        held = [True]

        def leave() -> None:
            if held:
                held.clear()
                self._ahead.release()

        try:
            yield leave
        finally:
            leave()

    def _counted(self, row: Row) -> Row:
        if row.outcome == OK:
            with self._lock:
                self.answered += 1
        return row

    def _known(self, file: str) -> str | Unprepared | None:
        return self.cache.preparation(file, self._preparation_id) if self.cache else None

    def _prepare(self, file: str, data: bytes) -> Prepared | Unprepared:
        prepared = prepare_bytes(data, self.approach.preparation)
        found = prepared if isinstance(prepared, Unprepared) else prepared.digest
        # a decoder that was killed may have been short of time or memory: that is no property of the file
        crashed = isinstance(found, Unprepared) and found.outcome == "decoder_crash"
        if self.cache and not crashed:
            self.cache.keep_preparation(file, self._preparation_id, found)
        return prepared

    def _sizes(self, data: bytes) -> tuple[tuple[int, int], ...]:
        """What the header says of the prepared size; an orientation tag may turn it."""
        described = describe_bytes(data)
        if isinstance(described, Unprepared):  # it was decoded once
            return ((self.approach.preparation.width, self.approach.preparation.height),)
        size = self.approach.preparation.size
        width, height = described.width, described.height
        return tuple(dict.fromkeys((size(width, height), size(height, width))))

    def _question(self, data: bytes | Unprepared) -> _Question | Row:
        """What is to be asked about the image in these bytes; its row where there is nothing to ask.

        The pixels live no longer than it takes to say what will be sent, where one request says it all.
        """
        if isinstance(data, Unprepared):
            return unprepared(data)
        file = _digest(data)
        known = self._known(file)
        if isinstance(known, Unprepared):
            return unprepared(known)
        row = self.answers.find(known).row if known else None
        if row is not None:
            return row
        prepared = self._prepare(file, data)
        if isinstance(prepared, Unprepared):
            return unprepared(prepared)
        if self.answers.parts > 1:
            return _Question(prepared.digest, _size(prepared), lambda part: self.request(prepared, part))
        return self._sole_question(prepared)

    def _sole_question(self, prepared: Prepared) -> _Question:
        try:
            request = self.request(prepared, 0)
        except Exception as error:
            problem = error
            return _Question(prepared.digest, _size(prepared), lambda _: _raise(problem))
        return _Question(prepared.digest, _size(prepared), lambda _: request)

    def _row(self, image_id: str, question: _Question | Row, leave: Callable[[], None]) -> Row:
        """The row of a picture. The same picture in several threads at once is asked by one, the others wait."""
        if isinstance(question, Row):
            return question
        with self._lock:
            earlier = self._asked.get(question.pixels)
            if earlier is None:
                mine = self._asked[question.pixels] = Future()
        if earlier is not None:
            leave()
            row = earlier if isinstance(earlier, Row) else earlier.result()
            return replace(row, cost_usd=0.0, cached=True)
        try:
            row = self._ask(image_id, question, leave)
        except BaseException as error:
            if not self._remembers:
                with self._lock:
                    del self._asked[question.pixels]
            mine.set_exception(error)
            raise
        with self._lock:
            if self._remembers and row.outcome != OK:
                self._asked[question.pixels] = row
            else:
                del self._asked[question.pixels]
        mine.set_result(row)
        return row

    def _ask(self, image_id: str, question: _Question, leave: Callable[[], None]) -> Row:
        """Ask what is missing, part by part; each answer is on file before the next is asked."""
        found = self.answers.find(question.pixels)
        if found.row is None and self._service:
            with self._broken_down(image_id):
                self._asker.open()
            found = self.answers.find(question.pixels)  # another run, which was waited for, may have asked
        if found.row is not None:
            return found.row
        if any(self._asker.is_under_way(question.pixels, part) for part in found.missing):
            raise RunError(
                f"{self.approach.name}: what is to be asked about {image_id!r} has been handed in in a batch; asking"
                " it now would pay for it twice. `classify --batch` collects the answers as soon as they are there"
            )
        kept, spent = dict(found.kept), 0.0
        row: Row | None = None
        for part in found.missing:
            try:
                with self._asker.place(leave):
                    asked = self._ask_part(image_id, question, part)
                    spent += asked.cost_usd
                    kept[part], row = self.answers.keep(question.pixels, part, asked.answer, asked.latency_ms)
            except ProviderError as error:
                return replace(failed(error), cost_usd=spent + error.cost_usd, cached=False)
        whole = row if row is not None and self.answers.parts == 1 else self.answers.read(kept)
        return replace(whole, cost_usd=spent, cached=False)

    def _ask_part(self, image_id: str, question: _Question, part: int) -> Asked:
        if self.cache is not None:
            self.cache.check_there()
        with self._broken_down(image_id):
            asked = self._asker.ask(question.request(part), question.size)
        return asked  # noqa: RET504  types do not say that the context swallows nothing

    @contextmanager
    def _broken_down(self, image_id: str) -> Iterator[None]:
        """Whatever is neither this image's failure nor an end that explains itself is told as what it is."""
        try:
            yield
        except ProviderError:
            raise
        except self._asker.ends_run:
            raise
        except Exception as error:
            reason = f"asking about {image_id!r} broke down: {type(error).__name__}: {error}"
            raise RunError(f"{self.approach.name}: {reason}; {RESUMES}") from error


def _raise(error: Exception) -> Any:
    raise error


def _size(prepared: Prepared) -> tuple[int, int]:
    height, width = prepared.pixels.shape[:2]
    return width, height


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
