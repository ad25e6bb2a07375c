"""The journal: all records of a run, in order. It is the only truth; a conversation is what it folds to.

What a store guarantees, and the drivers rely on:

 * `append` is one commit: all of its records are durable when it returns, or none is.
 * `(run_id, seq)` is unique. A second writer that appends a sequence number which exists has lost: it gets
   `ConcurrentWriter` and has written nothing. So order and fence are one thing.
 * `claim` keeps two drivers from working at once on a run, and ends with the process that made it. It is a courtesy,
   the fence is `append`.
 * `read` gives the records as they were appended. Nothing is ever rewritten.

Records hold plain JSON only, never pickles. Bodies of messages are JSON text as it came (V-echo2).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from ._encoded import encode
from ._errors import ConcurrentWriter, JournalError, RunError
from ._records import Record
from ._summary import Query, RunSummary

EVERY = Query()
"""Every run."""


class DamagedRuns(JournalError):  # noqa: N818 - states a fact
    """Where runs stand cannot be read: `lines` says of each what is wrong with it."""

    def __init__(self, lines: Mapping[str, str]) -> None:
        self.lines = lines
        super().__init__("; ".join(lines.values()))


@runtime_checkable
class Store(Protocol):
    """Where records are kept. `fsm.testing.check_store` says whether a store keeps what this promises.

    A store whose `append` waits for a disk or a network has the attribute `blocks = True`: the async driver then calls
    it in a thread, so that other conversations go on meanwhile.
    """

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        """Add records in one commit.

        Raises:
            ConcurrentWriter: a sequence number exists already; nothing was written.
            JournalError: the storage failed. A store opened anew knows whether these records count: all or none.
        """

    def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
        """The records of a run from number `start` on, in order, without holding all of them in memory.

        At least those that are there when it is called.

        Raises:
            RunError: no such run.
            JournalError: the storage failed or is damaged, or a body was erased.
        """

    def claim(self, run_id: str) -> None:
        """Begin to drive a run.

        Raises:
            ConcurrentWriter: somebody else drives it.
        """

    def release(self, run_id: str) -> None:
        """Stop driving a run."""

    def summary(self, run_id: str) -> RunSummary:
        """What one line says about a run.

        Raises:
            RunError: no such run.
        """

    def runs(self, query: Query = EVERY) -> Iterator[RunSummary]:
        """The runs that the query means, oldest first, without holding all of them in memory.

        Raises:
            DamagedRuns: at the end, so after every run that could be read: some could not.
        """


@runtime_checkable
class Keeper(Protocol):
    """What a store can do besides that keeps runs for long: look after them, and forget them."""

    def is_claimed(self, run_id: str) -> bool:
        """Whether somebody drives a run now."""

    def outline(self, run_id: str, start: int = 0) -> Iterator[Record]:
        """The records of a run without what was said in them: also of one that was erased, or encrypted.

        Raises:
            RunError: no such run.
            JournalError: the storage failed or is damaged.
        """

    def verify(self, run_id: str) -> str | None:
        """What is wrong with the stored records of a run, or None.

        Raises:
            RunError: no such run.
        """

    def erase(self, run_id: str, *, unfinished: bool = False) -> None:
        """Take away for good what was said in a run; order, moves and hashes stay, so `verify` still holds.

        Raises:
            RunError: no such run, or one that has not ended and `unfinished` is not given.
            ConcurrentWriter: somebody drives it.
        """

    def delete(self, run_id: str, *, unfinished: bool = False) -> None:
        """Take a run away for good. Raises as `erase`."""

    def purge(self, query: Query, *, unfinished: bool = False, erase: bool = False) -> tuple[str, ...]:
        """Delete (or `erase`) the runs that a query means, but for those that somebody drives; gives their ids.

        Those that `runs` calls damaged stay. Runs that have not ended stay unless `unfinished` is given.
        """


def has_run(store: Store, run_id: str) -> bool:
    """Whether the journal has this run."""
    try:
        store.summary(run_id)
    except RunError:
        return False
    return True


def check_next(run_id: str, given: int, due: int) -> None:
    """Refuse records that do not follow those that are there.

    Raises:
        ConcurrentWriter: the number exists; somebody else went on with the run.
        JournalError: a number would be missing.
    """
    if given < due:
        msg = f"run '{run_id}' was gone on with elsewhere: record {given} exists already, and nothing was written"
        raise ConcurrentWriter(msg)
    if given > due:
        msg = f"run '{run_id}' has {due} records, and the next one says it is number {given}: nothing was written"
        raise JournalError(msg)


Packed = tuple[int, bytes]
"""A commit as it is kept in memory: how many records, and their JSON, which takes a quarter of the room of objects."""


def packed(records: Sequence[Record]) -> Packed:
    """The records of one commit, as text.

    Raises:
        JournalError: they are no JSON (R26).
    """
    try:
        return len(records), encode([(record.kind, record.at, record.data) for record in records])
    except (ValueError, TypeError) as error:
        msg = f"records {records[0].seq} to {records[-1].seq} cannot be stored: {error}; nothing was written"
        raise JournalError(msg) from error


class MemoryStore:
    """A journal in memory: for tests, and for runs whose end is the end of the process."""

    def __init__(self) -> None:
        self._commits: dict[str, dict[int, Packed]] = {}  # of each run, by the number of their first record
        self._summaries: dict[str, RunSummary] = {}
        self._claimed: dict[str, object] = {}

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        """See `Store`."""
        if not records:
            return  # a run without records is none
        first, kept = records[0].seq, packed(records)
        check_next(run_id, first, self._due(run_id))
        begun = {first: kept}
        commits = self._commits.setdefault(run_id, begun)
        # One step decides, here and above: of two threads one wins, and an interruption leaves all of it or nothing.
        if commits is not begun and commits.setdefault(first, kept) is not kept:
            msg = f"run '{run_id}' was gone on with by another thread: this one has written nothing"
            raise ConcurrentWriter(msg)

    def _due(self, run_id: str) -> int:
        commits = self._commits.get(run_id)
        if not commits:
            return 0
        newest = next(reversed(commits))
        return newest + commits[newest][0]

    def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
        """See `Store`."""
        return self._records(tuple(self._of(run_id).items()), start)

    def _records(self, commits: Sequence[tuple[int, Packed]], start: int) -> Iterator[Record]:
        return (
            Record(seq, kind, at, data)
            for first, (count, raw) in commits
            if first + count > start
            for seq, (kind, at, data) in enumerate(json.loads(raw), first)
            if seq >= start
        )

    def _of(self, run_id: str) -> dict[int, Packed]:
        try:
            return self._commits[run_id]
        except KeyError:
            msg = f"the journal has no run '{run_id}'"
            raise RunError(msg) from None

    def claim(self, run_id: str) -> None:
        """See `Store`."""
        mine = object()
        if self._claimed.setdefault(run_id, mine) is not mine:
            msg = f"run '{run_id}' is being driven already: wait for it, or stop the other one"
            raise ConcurrentWriter(msg)

    def release(self, run_id: str) -> None:
        """See `Store`."""
        self._claimed.pop(run_id, None)

    def summary(self, run_id: str) -> RunSummary:
        """See `Store`."""
        known = self._summaries.get(run_id) or RunSummary(run_id)
        commits = self._of(run_id)
        if known.records < self._due(run_id):
            known = known.copy()
            known.add(self._records(tuple(commits.items()), known.records))
            self._summaries[run_id] = known
        return known.copy()

    def runs(self, query: Query = EVERY) -> Iterator[RunSummary]:
        """See `Store`."""
        return filter(query.matches, map(self.summary, tuple(self._commits)))
