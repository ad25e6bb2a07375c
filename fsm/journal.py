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

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Protocol, runtime_checkable

from ._errors import ConcurrentWriter, JournalError, RunError
from ._records import Record
from ._summary import Query, RunSummary

EVERY = Query()
"""Every run."""


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
            JournalError: the storage failed; nothing of these records counts.
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
        """The runs that the query means, oldest first, without holding all of them in memory."""


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

        Runs that have not ended stay unless `unfinished` is given.
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


class MemoryStore:
    """A journal in memory: for tests, and for runs whose end is the end of the process."""

    def __init__(self) -> None:
        self._commits: dict[str, dict[int, tuple[Record, ...]]] = {}  # of each run, by the number of their first record
        self._summaries: dict[str, RunSummary] = {}
        self._claimed: dict[str, object] = {}

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        """See `Store`."""
        if not records:
            return  # a run without records is none
        first, kept = records[0].seq, tuple(records)
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
        return newest + len(commits[newest])

    def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
        """See `Store`."""
        commits = tuple(self._of(run_id).items())
        return (
            record
            for first, records in commits
            if first + len(records) > start
            for record in records[max(0, start - first) :]
        )

    def _of(self, run_id: str) -> dict[int, tuple[Record, ...]]:
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
            known.add(chain.from_iterable(each for first, each in tuple(commits.items()) if first >= known.records))
            self._summaries[run_id] = known
        return known.copy()

    def runs(self, query: Query = EVERY) -> Iterator[RunSummary]:
        """See `Store`."""
        return filter(query.matches, map(self.summary, tuple(self._commits)))
