"""What a process holds: threads, descriptors, tasks, objects of the drivers. Compared before and after."""

from __future__ import annotations

import gc
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsm.drivers import aio, sync
from fsm.drivers._draining import Steps
from fsm.drivers._pump import Session

POOLED = ("fsm-tool", "fsm-writer")
"""Worker threads that stay for the next job."""

_KEPT = (Session, Steps, aio._Calls, sync._Calls)


def descriptors() -> Counter[str]:
    """The open files of this process, by what they are; without the one that lists them."""
    found: list[str] = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()).split(":")[0])
        except FileNotFoundError:
            continue
    return Counter(found)


def threads() -> Counter[str]:
    """The threads of this process but the pooled ones, by name."""
    return Counter(thread.name for thread in threading.enumerate() if thread.name not in POOLED)


def pooled() -> int:
    return sum(thread.name in POOLED for thread in threading.enumerate())


def kept() -> int:
    """How many objects of drives are alive."""
    gc.collect()
    return sum(isinstance(thing, _KEPT) for thing in gc.get_objects())


def settles(check: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether it comes true; worker threads need a moment to let go of what they held."""
    until = time.monotonic() + seconds
    while not check():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


@contextmanager
def nothing_left() -> Iterator[None]:
    """I10: as many threads, descriptors and drives afterwards as before, and not a warning between."""
    unraisable: list[Any] = []
    previous = sys.unraisablehook
    before = kept(), threads(), descriptors()
    sys.unraisablehook = unraisable.append
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = previous
    assert not unraisable
    assert settles(lambda: not threads() - before[1]), f"threads are left: {threads() - before[1]}"
    assert settles(lambda: kept() <= before[0]), "drives are kept alive"
    assert not descriptors() - before[2], f"files are left open: {descriptors() - before[2]}"


def size_of(path: Path) -> int:
    """Bytes of a journal with what stands beside it."""
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))
