"""What every journal promises (`Store`, `Keeper`), asked of each of ours, and of broken ones that must be found out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_postgres import base, cluster, url

from fsm import MemoryStore, Record
from fsm._summary import Query, RunSummary
from fsm.journal import EVERY, Keeper, Store, has_run
from fsm.stores.postgres import PostgresStore
from fsm.stores.sqlite import SqliteStore
from fsm.testing import check_store

__all__ = ["base", "cluster", "url"]  # the fixtures of a PostgreSQL server


def sealed(body: bytes) -> bytes:
    """Its own inverse."""
    return bytes(byte ^ 0x5A for byte in body)


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "encrypted": {"encrypt": sealed, "decrypt": sealed},
    "redacting": {"redact": str},
}


def test_a_store_in_memory_keeps_the_promises() -> None:
    store = MemoryStore()
    assert isinstance(store, Store)
    check_store(lambda: store)


@pytest.mark.parametrize("way", WAYS)
def test_a_store_in_a_file_keeps_the_promises(tmp_path: Path, way: str) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        assert isinstance(store, Store)
        assert isinstance(store, Keeper)
    check_store(lambda: SqliteStore(tmp_path / "runs.db", **WAYS[way]))


@pytest.mark.parametrize("way", WAYS)
def test_a_store_in_a_database_keeps_the_promises(url: str, way: str) -> None:
    check_store(lambda: PostgresStore(url, **WAYS[way]))


class NoFence(MemoryStore):
    """Whoever comes last is believed."""

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        due = self.summary(run_id).records if has_run(self, run_id) else 0
        if records and records[0].seq < due:
            kept = [record for record in super().read(run_id) if record.seq < records[0].seq]
            self.__init__()  # type: ignore[misc]
            super().append(run_id, kept)
        super().append(run_id, records)


class NoGapSeen(MemoryStore):
    def append(self, run_id: str, records: Sequence[Record]) -> None:
        due = self.summary(run_id).records if has_run(self, run_id) else 0
        if not records or records[0].seq <= due:
            super().append(run_id, records)


class LosesTheLast(MemoryStore):
    def append(self, run_id: str, records: Sequence[Record]) -> None:
        super().append(run_id, records[:-1] if len(records) > 1 else records)


class HalfACommit(MemoryStore):
    """Records that do not exist are written before those that do are found."""

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        due = self.summary(run_id).records if has_run(self, run_id) else 0
        try:
            super().append(run_id, records)
        finally:
            if records and records[0].seq < due:
                super().append(run_id, [record for record in records if record.seq >= due])


class Rewrites(MemoryStore):
    def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
        for record in super().read(run_id, start):
            content = record.data.get("content")
            data = {**record.data, "content": content.replace("  ", " ")} if content else record.data
            yield Record(record.seq, record.kind, record.at, data)


class IgnoresStart(MemoryStore):
    def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
        del start
        return super().read(run_id)


class NoClaims(MemoryStore):
    def claim(self, run_id: str) -> None:
        pass


class ClaimsForEver(MemoryStore):
    def release(self, run_id: str) -> None:
        pass


class SharesItsSummary(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, RunSummary] = {}

    def summary(self, run_id: str) -> RunSummary:
        now = super().summary(run_id)
        known = self.given.setdefault(run_id, now)
        if known.records < now.records:
            self.given[run_id] = known = now
        return known


class NewestFirst(MemoryStore):
    def runs(self, query: Query = EVERY) -> Iterator[RunSummary]:
        return iter([*super().runs(query)][::-1])


class KnowsNoTags(MemoryStore):
    def runs(self, query: Query = EVERY) -> Iterator[RunSummary]:
        rest = Query(state=query.state, status=query.status, waits_for=query.waits_for, workflow=query.workflow)
        return (run for run in super().runs(rest) if query.before is None or run.updated < query.before)


class InventsRuns(MemoryStore):
    def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
        return super().read(run_id, start) if has_run(self, run_id) else iter(())


BROKEN: dict[type[MemoryStore], str] = {
    NoFence: "all of it or nothing",
    NoGapSeen: "a gap JournalError",
    LosesTheLast: "gives back what was appended",
    HalfACommit: "all of it or nothing",
    Rewrites: "gives back what was appended",
    IgnoresStart: "from any number on",
    NoClaims: "one claim at a time",
    ClaimsForEver: "until it is released",
    SharesItsSummary: "what the records add up to",
    NewestFirst: "oldest first",
    KnowsNoTags: "that a query means",
    InventsRuns: "not there is RunError",
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: str(kind.__name__))
def test_a_broken_store_is_found_out_and_the_promise_is_named(kind: Callable[[], MemoryStore]) -> None:
    store = kind()
    with pytest.raises(AssertionError, match=BROKEN[kind]) as caught:  # type: ignore[index]
        check_store(lambda: store)
    assert type(store).__name__ in str(caught.value)


class KeepsNothing(SqliteStore):
    def erase(self, run_id: str, *, unfinished: bool = False) -> None:
        self._known(run_id)


class DeletesTheDriven(SqliteStore):
    def claim(self, run_id: str) -> None:
        pass


@pytest.mark.parametrize(("kind", "promise"), [(KeepsNothing, "`erase` takes away"), (DeletesTheDriven, "one claim")])
def test_a_broken_keeper_is_found_out(tmp_path: Path, kind: type[SqliteStore], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_store(lambda: kind(tmp_path / "runs.db"))
