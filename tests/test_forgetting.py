"""Runs that are erased and deleted, again and again, among others: nobody else loses a word."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from test_postgres import base, cluster, url

from fsm import JournalError, Record, RunError
from fsm.stores.postgres import PostgresStore
from fsm.stores.sqlite import SqliteStore
from fsm.testing._place import opened, said, whole

__all__ = ["base", "cluster", "url"]  # the fixtures of a PostgreSQL server

STEPS = 150
NAMES = [f"r{number}" for number in range(5)]


class Book:
    """What a journal should hold: the records of each run, and which were erased."""

    def __init__(self, store: SqliteStore | PostgresStore, seed: int) -> None:
        self.store, self.chance = store, random.Random(seed)
        self.runs: dict[str, list[Record]] = {}
        self.erased: set[str] = set()

    def step(self) -> str:
        name = self.chance.choice(NAMES)
        known = self.runs.get(name)
        act = self.chance.choice(["append", "append", "append", "erase", "delete"])
        if act == "append" and name not in self.erased:
            records = [opened()] if known is None else [said(len(known), f"{name} says {self.chance.random()}")]
            if known is None and self.chance.random() < 0.3:
                records = whole()
            self.store.append(name, records)
            self.runs[name] = [*(known or []), *records]
        elif act != "append" and known is not None:
            (self.store.erase if act == "erase" else self.store.delete)(name, unfinished=True)
            if act == "erase":
                self.erased.add(name)
            else:
                del self.runs[name]
                self.erased.discard(name)
        return f"{act} {name}"

    def check(self, what: str) -> None:
        for name in NAMES:
            if name not in self.runs:
                with pytest.raises(RunError):
                    self.store.verify(name)
                continue
            assert self.store.verify(name) is None, what
            if name not in self.erased:
                assert list(self.store.read(name)) == self.runs[name], what
            elif any(record.kind != "wake" for record in self.runs[name]):
                with pytest.raises(JournalError, match="erased"):
                    list(self.store.read(name))


def test_erasing_and_deleting_touches_no_other_run_in_a_file(tmp_path: Path) -> None:
    """Also where a run is erased or deleted that was erased before, and its numbers were handed out again."""
    path = tmp_path / "runs.db"
    for seed in range(3):
        path.unlink(missing_ok=True)
        with SqliteStore(path) as store, closing(sqlite3.connect(path)) as db:
            store._db.execute("PRAGMA synchronous = OFF")  # hundreds of syncs show nothing here
            book = Book(store, seed)
            for number in range(STEPS):
                what = f"seed {seed}, step {number}: {book.step()}"
                book.check(what)
                dangling = "SELECT count(*) FROM records WHERE body NOT NULL AND body NOT IN (SELECT id FROM bodies)"
                shared = "SELECT count(body) - count(DISTINCT body) FROM records"
                lost = "SELECT count(*) FROM bodies WHERE id NOT IN (SELECT body FROM records WHERE body NOT NULL)"
                assert [db.execute(query).fetchone()[0] for query in (dangling, shared, lost)] == [0, 0, 0], what


def test_erasing_and_deleting_touches_no_other_run_in_a_database(url: str) -> None:
    with PostgresStore(url) as store, psycopg.connect(url, autocommit=True) as db:
        book = Book(store, 0)
        for number in range(STEPS):
            what = f"step {number}: {book.step()}"
            book.check(what)
            lost = "SELECT count(*) FROM fsm_bodies LEFT JOIN fsm_records r USING (run, seq) WHERE r.run IS NULL"
            assert db.execute(lost).fetchone() == (0,), what
