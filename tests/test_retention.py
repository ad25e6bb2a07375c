"""Runs that are forgotten: what was said goes off the disk, what happened stays provable, others are not disturbed."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from _driving import NOW, Clock, Loop, one_call
from test_store_cost import begin

from fsm import Approval, Claude, Final, JournalError, MemoryStore, Record, RunError, Tools, Workflow, resume, run, tool
from fsm._summary import Query
from fsm.journal import Keeper
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator

CANARY = "Erika Mustermann, IBAN DE02"
DAY = 86400.0


@tool(needs_approval=True)
def pay(iban: str) -> str:
    """Pay."""
    return f"paid to {iban}"


class Paying(Workflow):
    """A tool that a person decides on."""

    asking = Claude(model="claude-sonnet-5", max_tokens=100, tools=[pay])
    calling = Tools()
    approving = Approval()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking)


def ended(store: SqliteStore, run_id: str, *, days_ago: float = 0, tenant: str = "a") -> None:
    """A run that ended, with the canary in its input, a tool's input and its result."""
    clock = Clock(NOW - days_ago * DAY)
    with Emulator(one_call("find", {"number": CANARY})).client() as client:
        result = run(
            Loop, CANARY, client=client, journal=store, run_id=run_id, tags={"tenant": tenant}, clock=clock,
            sleep=clock.sleep,
        )  # fmt: skip
    assert result.state == "answered"


def parked(store: SqliteStore, run_id: str) -> None:
    """A run that waits for a person."""
    with Emulator(one_call("pay", {"iban": CANARY})).client() as client:
        assert run(Paying, CANARY, client=client, journal=store, run_id=run_id).parked


def on_disk(folder: Path) -> bytes:
    """All bytes of all files."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def test_an_erased_run_is_shown_and_verified_and_never_gone_on_with(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        ended(store, "r")
        before, head = store.summary("r"), store.head("r")
        moves = [record.data for record in store.outline("r") if record.kind == "move"]
        assert CANARY.encode() in on_disk(tmp_path)
        store.erase("r")
        assert CANARY.encode() not in on_disk(tmp_path)
        assert store.verify("r") is None
        assert (store.summary("r"), store.head("r")) == (before, head)
        assert [record.data for record in store.outline("r") if record.kind == "move"] == moves
        with pytest.raises(JournalError, match="was erased, so the run can be shown and verified, not resumed"):
            resume(Loop, "r", journal=store)
        assert store.verify("r") is None, "and nothing was written"


def test_a_body_that_is_missing_without_having_been_erased_is_damage(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        ended(store, "r")
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db, db:
        db.execute("DELETE FROM bodies WHERE id = 3")
    with SqliteStore(tmp_path / "runs.db") as store:
        assert "the body of record" in (store.verify("r") or "")


def test_purge_takes_what_is_old_and_of_that_tenant_and_has_ended(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        for days, tenant in ((40, "a"), (31, "b"), (31, "a"), (29, "a")):
            ended(store, f"{tenant}{days}", days_ago=days, tenant=tenant)
        parked(store, "waits")
        assert isinstance(store, Keeper)
        gone = store.purge(Query(before=NOW - 30 * DAY, tags={"tenant": "a"}))
        assert gone == ("a40", "a31")
        assert [each.run_id for each in store.runs()] == ["b31", "a29", "waits"]
        assert {store.verify(each.run_id) for each in store.runs()} == {None}
        assert store.purge(Query(), erase=True) == ("b31", "a29")
        assert [record.kind for record in store.read("waits")][-1] == "park", "it can still be answered"
        assert store.purge(Query(status="parked")) == ()
        assert store.purge(Query(status="parked"), unfinished=True) == ("waits",)
        assert CANARY.encode() not in on_disk(tmp_path)


def test_a_run_that_has_not_ended_is_not_forgotten_by_mistake(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        parked(store, "waits")
        records = list(store.read("waits"))
        for forget in (store.erase, store.delete):
            with pytest.raises(RunError, match=r"has not ended \(parked\): cancel it first, or say unfinished=True"):
                forget("waits")
        assert list(store.read("waits")) == records


def test_others_go_on_while_a_journal_is_made_anew(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store, SqliteStore(tmp_path / "runs.db") as other:
        for number in range(10):
            ended(store, f"old{number}")
        other.append("live", [begin("live")])
        stop, errors = threading.Event(), []

        def go_on() -> None:
            seq = 1
            try:
                while not stop.is_set() or seq < 20:
                    other.append("live", [Record(seq, "wake", 1.0, {})])
                    seq += 1
            except JournalError as error:
                errors.append(error)

        thread = threading.Thread(target=go_on)
        thread.start()
        gone = store.purge(Query(workflow="Loop"))
        stop.set()
        thread.join()
        assert not errors
        assert len(gone) == 10
        assert store.verify("live") is None
        assert CANARY.encode() not in on_disk(tmp_path)


def test_a_reader_that_still_looks_is_named_and_the_next_time_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsm.stores._tables.PATIENCE", 0.05)
    path = tmp_path / "runs.db"
    with SqliteStore(path) as store:
        ended(store, "r")
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM bodies").fetchone()
            with pytest.raises(JournalError, match=r"still reads .*compact\(\) again"):
                store.delete("r")
            with pytest.raises(RunError):
                store.summary("r")
            reader.execute("COMMIT")
        store.compact()
        assert CANARY.encode() not in on_disk(tmp_path)


def test_a_store_in_memory_is_no_keeper_and_says_nothing_it_cannot_do() -> None:
    assert not isinstance(MemoryStore(), Keeper)
