"""Progress on standard error, and remarks above it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Result = TypeVar("Result")

_EVERY_SECONDS = 0.5


def shown(
    results: Iterable[Result], total: int, progress: bool, remark: Callable[[], str] = lambda: ""
) -> Iterable[Result]:
    """The results, while a bar on standard error counts them (if wanted); `remark` is asked what stands beside it."""
    return _with_bar(results, total, remark) if progress else results


def _with_bar(results: Iterable[Result], total: int, remark: Callable[[], str]) -> Iterator[Result]:
    from tqdm.auto import tqdm

    last = -_EVERY_SECONDS
    with tqdm(results, total=total, unit="image", file=sys.stderr) as bar:
        for result in bar:
            if (now := time.monotonic()) >= last + _EVERY_SECONDS:
                last = now
                bar.set_postfix_str(remark(), refresh=False)
            yield result
        bar.set_postfix_str(remark())


def say(remark: str) -> None:
    """A remark for whoever waits, above the bar where there is one."""
    if "tqdm" in sys.modules:
        from tqdm.auto import tqdm

        tqdm.write(remark, file=sys.stderr)
    else:
        sys.stderr.write(remark + "\n")
