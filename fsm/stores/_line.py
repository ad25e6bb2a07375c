"""The line of a run, which is in no chain of hashes, held against the records of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fsm._records import Record
from fsm._spoken import CHANGED
from fsm._summary import Query, RunSummary
from fsm.journal import DamagedRuns

from ._rows import COLUMNS, Damaged, Row, Seal, facts_of, outline_of, problem_of, record_of, summary_of

_BY_EFFECT = frozenset({"status", "reason", "waits_for", "until"})  # what a move's effects may change
_WAIT = frozenset({"waits_for", "until"})
_SETTLED = {
    "move": _BY_EFFECT - {"status"}, "request": _WAIT, "asked": _WAIT, "answer": {"status"}, "resume": {"status"},
    "park": {"status", "reason"}, "close": _BY_EFFECT,
}  # fmt: skip
"""What is known again after a record of this kind, whatever an effect that cannot be read had done."""


def listed(lines: Iterable[Sequence[Any]], query: Query) -> Iterator[RunSummary]:
    """The runs of these lines that a query means.

    Raises:
        DamagedRuns: at the end, where some lines could not be read.
    """
    damaged: dict[str, str] = {}
    for line in lines:
        try:
            run = summary_of(line)
        except DamagedRuns as error:
            damaged.update(error.lines)
            continue
        if query.matches(run):
            yield run
    if damaged:
        raise DamagedRuns(damaged)


def line_problem(
    read: Callable[[int], Iterable[Row]], head: bytes, line: RunSummary, *, is_erased: bool, decrypt: Seal | None
) -> str | None:
    """What is wrong with a run, or None: what `problem_of` finds, and what its line says and its records do not.

    Effects of moves are bodies. Where those cannot be read, what they may have changed is not looked at.
    """
    again = _Again(line.run_id, decrypt, is_erased=is_erased)
    found = problem_of(read, head, count=line.records, is_erased=is_erased, take=again.take)
    return found or again.denied(line)


class _Again:
    """What the records of a run add up to."""

    def __init__(self, run_id: str, decrypt: Seal | None, *, is_erased: bool) -> None:
        self._sum = RunSummary(run_id)
        self._decrypt, self._is_erased = decrypt, is_erased
        self._unknown: frozenset[str] = frozenset()
        self._is_gone = self._is_behind = False  # whether a body was erased; whether it goes on behind those

    def take(self, row: Row) -> None:
        if self._is_erased and row.body_hash is not None:
            self._check_erased(row)
        try:
            record = self._known(row)
            self._sum.add([record])
            if row.seq == 0:
                self._sum.run_id = record.data.get("run_id", self._sum.run_id)
        except Exception as error:
            msg = f"record {row.seq} is no {row.kind!r} that was ever written ({type(error).__name__})"
            raise Damaged(msg) from error

    def _check_erased(self, row: Row) -> None:
        """Nothing of what was there when it was erased is left; what `cancel` said afterwards is."""
        if row.body is None and self._is_behind:
            raise Damaged(f"the body of record {row.seq} is missing")
        if row.body is not None and not self._is_gone:
            raise Damaged(f"its line says that it was erased, and the body of record {row.seq} is there")
        self._is_gone, self._is_behind = True, row.body is not None

    def _known(self, row: Row) -> Record:
        record = outline_of(row, "it")
        self._unknown -= _SETTLED.get(row.kind, frozenset())
        if row.kind != "move" or row.body_hash is None:
            return record
        told = None if CHANGED in record.data else self._told(row)
        if told is None:
            self._unknown = _BY_EFFECT
        return told or record

    def _told(self, row: Row) -> Record | None:
        try:
            record = record_of(row, self._decrypt, "it")
        except Exception:  # noqa: BLE001 - erased or encrypted; that it is what was stored is known by its hash
            return None
        return None if "content" in record.data else record  # what is encrypted may begin as a reply does

    def denied(self, line: RunSummary) -> str | None:
        """The first column in which the line says something else."""
        for name, given, due in zip(COLUMNS, facts_of(line), facts_of(self._sum), strict=True):
            is_end = name == "status" and given == "ended"  # which no effect makes
            if given != due and (is_end or name not in self._unknown):
                return f"its line says `{name}` is {given!r:.80}, and its records say {due!r:.80}"
        return None
