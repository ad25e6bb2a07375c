"""What a durable turn costs: a whole run on one SQLite file, every commit synced to the disk, against the bare loop.

    python benchmarks/durable.py [--turns 10 100 500] [--rounds 5]

The contenders and the transport are those of `turn_cost.py`; the bare loop keeps nothing. Two commits a turn: the reply
with the calls that it asks for, then their results with the next request. Printed is the ratio of CPU a turn, median
(lowest-highest), the ratio of wall clock, which is mostly the disk, and the bytes of the file: a turn, and beyond the
content itself, which is what the messages of the run are as JSON. A new file has a few pages that are hardly filled, so
the bytes of one more turn are what it grows by.

`two syncs a turn` is no journal: the run is kept in memory, and at each commit one page of a file is written over and
synced. What a machine takes for that, no journal with two synced commits a turn can do without.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from turn_cost import CLIENT, TRANSPORT, Loop, LoopHere, bare

from fsm import MemoryStore, Record, Result, Store, run
from fsm.stores.sqlite import SqliteStore

TARGETS = {10: 1.9, 100: 0.60, 500: 0.13}
BEYOND_TARGET = 700
"""Bytes a turn beyond the content."""
PAGES = 64

_NUMBERS = itertools.count()


@contextmanager
def opened() -> Iterator[SqliteStore]:
    """A new journal."""
    with TemporaryDirectory() as folder, SqliteStore(Path(folder) / "runs.db") as store:
        yield store


class Syncing(MemoryStore):
    """In memory, with a sync of one page at each commit."""

    def __init__(self, file: int) -> None:
        super().__init__()
        self.file, self.number = file, 0
        os.pwrite(file, b"x" * (PAGES << 12), 0)
        os.fsync(file)

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        """Keep them, and sync."""
        super().append(run_id, records)
        self.number += 1
        os.pwrite(self.file, b"y" * (1 << 12), self.number % PAGES << 12)
        os.fdatasync(self.file)


@contextmanager
def syncing() -> Iterator[Syncing]:
    """A journal in memory that syncs."""
    with TemporaryDirectory() as folder, (Path(folder) / "page").open("w+b") as file:
        yield Syncing(file.fileno())


def fsm(store: Store, workflow: Any = Loop) -> Result:
    """`fsm.run` with its journal on the disk."""
    result = run(workflow, "Look them all up.", client=CLIENT, journal=store, run_id=f"run-{next(_NUMBERS)}")
    if not result.ok:
        raise RuntimeError(str(result.verdict))
    return result


FLOOR = "two syncs a turn"
CONTENDERS: dict[str, tuple[Any, Any]] = {
    "fsm": (Loop, opened),
    "fsm, timeout=None": (LoopHere, opened),
    FLOOR: (LoopHere, syncing),
}


def cost(contender: Callable[[], Any], turns: int, repeats: int) -> tuple[float, float]:
    """CPU and wall seconds a turn."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        TRANSPORT.start(turns)
        contender()
    each = repeats * (turns + 1)
    return (time.process_time() - cpu) / each, (time.perf_counter() - wall) / each


def compare(turns: int, rounds: int) -> None:
    """Print one row a contender."""
    repeats = max(1, 200 // turns)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    bares = []
    for _ in range(rounds):
        for name, (workflow, journal) in CONTENDERS.items():
            reference = cost(bare, turns, repeats)
            with journal() as store:
                mine = cost(lambda w=workflow, s=store: fsm(s, w), turns, repeats)  # type: ignore[misc]
            bares.append(reference)
            found[name].append((mine[0] / reference[0], mine[1] / reference[1]))
    cpu, wall = (statistics.median(b[k] for b in bares) * 1e6 for k in (0, 1))
    print(f"N={turns:<4} bare loop {cpu:8.0f} µs CPU a turn, {wall:.0f} µs wall")
    for name, ratios in found.items():
        target = f"   target ≤ {TARGETS[turns]}" if turns in TARGETS and name != FLOOR else ""
        cpus, walls = ([pair[k] for pair in ratios] for k in (0, 1))
        spread = f"{statistics.median(cpus):5.2f}  ({min(cpus):.2f}-{max(cpus):.2f}){target}"
        print(f"       {name:<18} {spread}   wall {statistics.median(walls):.2f} ({min(walls):.2f}-{max(walls):.2f})")


def size(turns: int) -> tuple[int, int, int]:
    """Print the bytes a turn; gives turns, bytes of the file, and of the content."""
    with opened() as store:
        TRANSPORT.start(turns)
        result = fsm(store)
        content = sum(len(json.dumps(m, separators=(",", ":"), ensure_ascii=False)) for m in result.messages)
        rows = sum(1 for _ in store.read(result.run_id))
        store.close()
        file = store.path.stat().st_size
    each = turns + 1
    print(
        f"N={turns:<4} {file / each:5.0f} bytes a turn, content {content / each:.0f}, beyond it "
        f"{(file - content) / each:.0f};  {rows / each:.1f} rows a turn"
    )
    return turns, file, content


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, nargs="+", default=list(TARGETS))
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    cost(bare, 10, 2)
    for workflow, journal in CONTENDERS.values():
        with journal() as store:
            cost(lambda w=workflow, s=store: fsm(s, w), 10, 2)  # type: ignore[misc]  # warm up
    for turns in given.turns:
        compare(turns, given.rounds)
    found = [size(turns) for turns in given.turns]
    for (n, file, content), (more, larger, longer) in itertools.pairwise(found):
        beyond = (larger - longer - file + content) / (more - n)
        print(f"one more turn after {n}: {beyond:.0f} bytes beyond the content   target ≤ {BEYOND_TARGET}")


if __name__ == "__main__":
    main()
