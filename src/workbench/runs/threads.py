"""Work in threads: results as they are done, never far ahead of who takes them, and a clean end whatever happens."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_WAITING_PER_THREAD = 16
_MOST_WAITING = 512


def work_through(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    halt: Callable[[], None] = lambda: None,
    at_once: Callable[[Item], Result | None] = lambda item: None,
) -> Generator[tuple[int, Result]]:
    """Place and result of every item, as they are done, in so many threads; what `at_once` settles needs no thread.

    The first exception ends it: nothing new is begun, `halt` is called so that who waits wakes up, and what is under
    way is finished.
    """
    failures: list[BaseException] = []

    def attempt(item: Item) -> Result:
        if failures:
            raise CancelledError
        try:
            return work(item)
        except BaseException as error:
            failures.append(error)
            halt()
            raise

    pool = ThreadPoolExecutor(threads, thread_name_prefix="classify")
    places: dict[Future[Result], int] = {}
    done: SimpleQueue[Future[Result]] = SimpleQueue()

    def take() -> tuple[int, Result]:
        future = done.get()
        place = places.pop(future)
        try:
            return place, future.result()
        except BaseException:  # the first failure tells why; the others follow from it
            raise failures[0] from failures[0].__cause__

    most = min(threads * _WAITING_PER_THREAD, threads + _MOST_WAITING)
    try:
        for place, item in enumerate(items):
            if (result := at_once(item)) is not None:
                yield place, result
                continue
            future = pool.submit(attempt, item)
            places[future] = place
            future.add_done_callback(done.put)
            if len(places) >= most:
                yield take()
        while places:
            yield take()
    finally:
        failures.append(CancelledError())  # nothing that is left begins
        halt()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def ended_politely() -> Iterator[None]:
    """A termination signal ends what runs within as Ctrl-C does, so that everything is put back; else as it is."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not ours:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> Any:
    raise SystemExit(128 + number)
