"""What `Workflow.diagram(runs=...)` takes, as the overlay that is drawn: results, records, a journal, or counts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from ._errors import JournalError, UsageError
from ._graph import Graph
from ._records import Record
from ._summary import Query
from .diagram import Counts, Overlay
from .journal import Keeper, Store


class Recorded(Protocol):
    """What has records: a `Result`."""

    @property
    def records(self) -> tuple[Record, ...]:
        """The journal of the run."""


Runs = Recorded | Iterable[Recorded] | Iterable[Record] | Store | str | os.PathLike[str] | Counts
"""A result, several, the records of a run, a journal (all its runs of the workflow), or a table of counts."""


def overlay_of(runs: Runs, graph: Graph, renamed: Mapping[str, str]) -> Overlay:
    """What runs of a workflow did.

    Args:
        runs: see `Runs`; the runs of a journal are read one after the other.
        graph: of the workflow.
        renamed: what states of older versions are called now.

    Raises:
        UsageError: it is nothing of that, names a file that is not there, or counts something that the graph lacks.
        JournalError: the journal cannot be read.
    """
    if isinstance(runs, Mapping):
        return Overlay.of_counts(runs, graph)
    if isinstance(runs, (str, os.PathLike)):
        runs = _opened(runs)
    if isinstance(runs, Store):
        return Overlay.of_runs(_stored(runs, graph.name), renamed=renamed)
    if hasattr(runs, "records"):
        return Overlay.of(runs.records, renamed=renamed)
    try:
        rest = iter(runs)
    except TypeError:
        raise UsageError(_WANTED.format(runs)) from None
    first = next(rest, None)
    if isinstance(first, Record):
        return Overlay.of(_all_records(chain((first,), rest)), renamed=renamed)
    results = chain(() if first is None else (first,), rest)
    return Overlay.of_runs(map(_records_of, results), renamed=renamed)


_WANTED = (
    "runs= takes a Result, several of them, the records of a run, a journal (a file, a URL or a Store), or a table of "
    "counts {{(state, event): n}}, not {0!r}"
)


def _records_of(result: Any) -> Iterable[Record]:
    records = getattr(result, "records", None)
    if records is None:
        raise UsageError(_WANTED.format(result))
    found: Iterable[Record] = records
    return found


def _all_records(records: Iterable[Any]) -> Iterator[Record]:
    for record in records:
        if not isinstance(record, Record):
            raise UsageError(_WANTED.format(record))
        yield record


def _opened(where: str | os.PathLike[str]) -> Store:
    from .stores import shared_store

    if "://" not in os.fspath(where) and not Path(where).exists():
        raise UsageError(f"runs={os.fspath(where)!r}: there is no such journal")  # and none is to be made
    return shared_store(where)


def _stored(store: Store, workflow: str) -> Iterator[Iterator[Record]]:
    for run in store.runs(Query(workflow=workflow)):
        yield readable(store, run.run_id)


def readable(store: Store, run_id: str) -> Iterator[Record]:
    """The records of a run; of one whose bodies are erased or encrypted, what happened."""
    due = 0
    try:
        for record in store.read(run_id):
            yield record
            due = record.seq + 1
    except JournalError:
        if not isinstance(store, Keeper):
            raise
        yield from store.outline(run_id, due)
