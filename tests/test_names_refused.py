"""Names of journals and runs that none can have: refused with what to write instead, before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from _driving import Loop, Plain
from test_postgres import base, cluster, url

from fsm import JournalError, MemoryStore, RunError, UsageError, fork, resume, run
from fsm.stores import open_store
from fsm.stores.postgres import PostgresStore
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies
from fsm.testing._place import opened

__all__ = ["base", "cluster", "url"]  # the fixtures of a PostgreSQL server


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("a\0b.db", "NUL"),
        (Path("a\0b.db"), "NUL"),
        (":memory:", r"MemoryStore\(\)"),
        (Path(":memory:"), r"MemoryStore\(\)"),
        ("file:runs.db", r'"runs\.db"'),
        ("file:///tmp/runs.db?mode=ro", r'"/tmp/runs\.db"'),
        ("file::memory:?cache=shared", r"MemoryStore\(\)"),
    ],
)
def test_a_name_that_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any, instead: str) -> None:
    monkeypatch.chdir(tmp_path)
    with Emulator([replies.text("done")]).client() as client:
        for act in (
            lambda: run(Plain, "Hi.", journal=name, client=client),
            lambda: open_store(name),
            lambda: SqliteStore(name),
        ):
            with pytest.raises(UsageError, match=instead):
                act()
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_that_name_can_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("./:memory:").close()
    assert (tmp_path / ":memory:").is_file()


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_run_whose_name_is_no_text(tmp_path: Path, kind: str) -> None:
    """Half of a surrogate pair is no character that UTF-8 knows, so no database can keep it."""
    store: Any = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "runs.db")
    emulator = Emulator([replies.text("done")] * 2)
    with emulator.client() as client:
        run(Loop, "Hi.", journal=store, client=client, run_id="whole")
        for act in (
            lambda: run(Loop, "Hi.", journal=store, client=client, run_id="\ud800"),
            lambda: resume(Loop, "\ud800", journal=store, client=client),
            lambda: fork(Loop, "whole", at=2, journal=store, new_id="\ud800"),
        ):
            with pytest.raises(UsageError, match=r"takes a name.*'\\ud800'"):
                act()
    assert len(emulator.requests) == 1
    assert [each.run_id for each in store.runs()] == ["whole"]


def check_store_refuses(store: Any) -> None:
    name = "\ud800"
    for act in (store.summary, store.verify, store.erase, store.delete, lambda each: list(store.read(each))):
        with pytest.raises(RunError, match="has no run"):
            act(name)
    with pytest.raises(JournalError, match="nothing"):
        store.append(name, [opened()])
    store.append("next", [opened()])
    assert [each.run_id for each in store.runs()] == ["next"]


def test_a_file_refuses_such_a_name_itself(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        check_store_refuses(store)


def test_a_database_refuses_such_a_name_itself(url: str) -> None:
    with PostgresStore(url) as store:
        check_store_refuses(store)
        with pytest.raises(JournalError, match="nothing"):
            store.append("a\0b", [opened()])
        with pytest.raises(RunError, match="has no run"):
            store.summary("a\0b")
