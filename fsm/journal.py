"""The journal: all records of a run, in order. It is the only truth; a conversation is what it folds to.

What a store guarantees, and the drivers rely on:

 * `append` is one commit: all of its records are durable when it returns, or none is.
 * `(run_id, seq)` is unique. A second writer that appends a sequence number which exists has lost: it gets
   `ConcurrentWriter` and has written nothing. So order and fence are one thing.
 * `claim` keeps two drivers of one process from working at once on a run; it is a courtesy, the fence is `append`.
 * `read` gives the records as they were appended. Nothing is ever rewritten.

Records hold plain JSON only, never pickles. Bodies of messages are JSON text as it came (V-echo2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ._errors import ConcurrentWriter, RunError
from ._records import Record


@runtime_checkable
class Store(Protocol):
    """Where records are kept."""

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        """Add records in one commit.

        Raises:
            ConcurrentWriter: a sequence number exists already; nothing was written.
            JournalError: the storage failed; nothing was written.
        """

    def read(self, run_id: str) -> Sequence[Record]:
        """All records of a run, in order.

        Raises:
            RunError: no such run.
        """

    def claim(self, run_id: str) -> None:
        """Begin to drive a run.

        Raises:
            ConcurrentWriter: somebody else drives it.
        """

    def release(self, run_id: str) -> None:
        """Stop driving a run."""

    def runs(self) -> Sequence[str]:
        """The ids of all runs, oldest first."""


class MemoryStore:
    """A journal in memory: for tests, and for runs whose end is the end of the process."""

    def __init__(self) -> None:
        self._records: dict[str, list[Record]] = {}
        self._claimed: dict[str, object] = {}

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        """See `Store`."""
        kept = self._records.get(run_id, [])
        if records and records[0].seq != len(kept):
            msg = f"run '{run_id}' has {len(kept)} records, and the next one says it is number {records[0].seq}"
            raise ConcurrentWriter(msg)
        if kept:
            kept.extend(records)
        elif records:
            self._records[run_id] = list(records)  # at once: a run without records is none

    def read(self, run_id: str) -> Sequence[Record]:
        """See `Store`."""
        try:
            return tuple(self._records[run_id])
        except KeyError:
            known = ", ".join(self._records) or "none"
            msg = f"the journal has no run '{run_id}'; it has: {known}"
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

    def runs(self) -> Sequence[str]:
        """See `Store`."""
        return tuple(self._records)
