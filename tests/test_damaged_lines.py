"""The line that says how a run stands is held against its records, and one that is damaged hides no other run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from test_postgres import base, cluster, url
from test_retention import Paying, ended, parked

from fsm import JournalError, Record, approve, resume
from fsm._summary import Query, RunSummary
from fsm.cli import main
from fsm.journal import DamagedRuns
from fsm.stores._rows import COLUMNS
from fsm.stores.postgres import PostgresStore
from fsm.stores.sqlite import SqliteStore
from fsm.testing._place import move, opened, whole

__all__ = ["base", "cluster", "url"]  # the fixtures of a PostgreSQL server

Change = Callable[[str], None]
FALSE = {  # what is put into each column; into others a number
    "run_id": "'q'", "workflow": "'Other'", "fingerprint": "'0'", "state": "'answered'", "status": "'ended'",
    "ok": "(1 = 1)", "reason": "'end_turn'", "waits_for": "NULL", "until": "5", "tags": "'{}'", "started": "7",
    "updated": "1e9", "price": "1.5",
}  # fmt: skip


def sealed(body: bytes) -> bytes:
    """Its own inverse."""
    return bytes(byte ^ 0x5A for byte in body)


def waiting(run_id: str) -> list[Record]:
    """Records that touch every column, of a run that waits for a person."""
    first, *rest = whole(tags={"t": "x"})[:9]
    return [Record(0, "open", first.at, {**first.data, "run_id": run_id}), *rest]


def change_file(path: Path, text: str) -> None:
    """What somebody does to a journal with another program."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(text)


# --- a line that says something else ----------------------------------------------------------------------------------


def check_lines(store: SqliteStore | PostgresStore, change: Change) -> None:
    """Each column in turn is changed, and found."""
    for name in set(COLUMNS) - {"records"}:
        value = FALSE.get(name, "77")
        store.append("p", waiting("p"))
        assert store.verify("p") is None
        before = store.summary("p")
        change(f"UPDATE fsm_runs SET {name} = {value} WHERE run_id = 'p'")  # noqa: S608
        run_id = "q" if name == "run_id" else "p"
        problem, after = store.verify(run_id) or "", store.summary(run_id)
        for part in (f"`{name}`", repr(getattr(before, name)), repr(getattr(after, name))):
            assert part in problem, (name, problem)
        store.delete(run_id, unfinished=True)


def test_a_line_that_says_something_else_than_the_records_of_a_file(tmp_path: Path) -> None:
    """It decides what is listed, answered and purged, and is in no chain of hashes."""
    path = tmp_path / "runs.db"
    with SqliteStore(path) as store:
        check_lines(store, lambda text: change_file(path, text.replace("fsm_runs", "runs")))


def test_a_line_that_says_something_else_than_the_records_of_a_database(url: str) -> None:
    with PostgresStore(url) as store, psycopg.connect(url, autocommit=True) as db:
        check_lines(store, lambda text: db.execute(text.encode()) and None)


@pytest.mark.parametrize("way", ["sealed", "sealed, no key", "redacted", "erased"])
@pytest.mark.parametrize("effect", [None, ["wait", {"wait": 60}], ["park", {"park": "waiting_api"}]])
def test_what_cannot_be_read_is_no_finding_and_hides_none(tmp_path: Path, way: str, effect: Any) -> None:
    """Why a run waits is said in a body; what bodies cannot change, a false end above all, is found without them."""
    path = tmp_path / "runs.db"
    options: dict[str, Any] = {"encrypt": sealed} if "sealed" in way else {}
    if way == "redacted":
        options = {"redact": str.upper}
    key: dict[str, Any] = {"decrypt": sealed} if way == "sealed" else {}
    with SqliteStore(path, **options) as store:
        for number in range(300):  # of so many sealed bodies some begin as JSON does
            effects = [effect, ["say", {"say": number}]] if effect else []
            store.append(f"r{number}", [opened(at=float(number)), move(1, effects)])
        if way == "erased":
            store.erase("r0", unfinished=True)
    with SqliteStore(path, **key) as store:
        assert {store.verify(run.run_id) for run in store.runs()} == {None}
    for name, value in {"status": "'ended'", "state": "'x'", "moves": "3", "fingerprint": "''"}.items():
        with SqliteStore(path, **key) as store:
            change_file(path, f"UPDATE runs SET {name} = {value} WHERE run_id = 'r0'")  # noqa: S608
            assert f"`{name}`" in (store.verify("r0") or "")
            store.delete("r0", unfinished=True)
        with SqliteStore(path, **options) as store:
            store.append("r0", [opened(), move(1, [effect] if effect else [])])
            if way == "erased":
                store.erase("r0", unfinished=True)


def test_a_run_that_says_it_was_erased_and_was_not(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with SqliteStore(path) as store:
        store.append("r", whole())
        change_file(path, "UPDATE runs SET erased = 1")
        assert "the body of record 0 is there" in (store.verify("r") or "")


# --- rows that are something else -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE records SET kind = kind + 1 WHERE seq = 3",
        "UPDATE records SET kind = 99 WHERE seq = 3",
        "UPDATE records SET at = 'x' WHERE seq = 3",
        "UPDATE records SET data = x'ff' WHERE seq = 3",
        "UPDATE records SET data = CAST(x'7bff7d' AS TEXT) WHERE seq = 3",
        "UPDATE records SET data = '[]' WHERE seq = 3",
        "UPDATE records SET hash = 5 WHERE seq = 3",
        "UPDATE bodies SET body = 7 WHERE id = (SELECT body FROM records WHERE seq > 2 AND body NOT NULL LIMIT 1)",
        "UPDATE bodies SET body = 'x' WHERE id = (SELECT body FROM records WHERE seq > 2 AND body NOT NULL LIMIT 1)",
        "UPDATE runs SET hash = 5",
    ],
)
def test_a_changed_row_is_called_damaged_before_anybody_works_with_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "runs.db"
    with SqliteStore(path) as store:
        parked(store, "r")
        records = list(store.read("r"))
        commits = [0, *(seq + 1 for (seq,) in store._fetch("SELECT seq FROM records WHERE hash NOT NULL ORDER BY seq"))]
    change_file(path, text)
    with SqliteStore(path) as store:
        for act in (
            lambda: resume(Paying, "r", journal=store, answer=approve()),
            lambda: list(store.outline("r")),
            lambda: store.append("r", [Record(len(records), "wake", 1.0, {})]) or list(store.read("r")),
        ):
            with pytest.raises(JournalError, match=r"damaged: .*(record \d|hash|newest).*restore"):
                act()
        given: list[Record] = []
        with pytest.raises(JournalError):
            given.extend(store.read("r"))
        assert given == records[: len(given)]
        assert len(given) in commits, "never a part of a commit"
        assert store.verify("r") is not None


def test_a_changed_row_is_found_from_the_middle_on(tmp_path: Path) -> None:
    """Who follows a run reads it from where he was."""
    path = tmp_path / "runs.db"
    with SqliteStore(path) as store:
        store.append("r", [opened()])
        for seq in range(1, 5):
            store.append("r", [Record(seq, "wake", 1.0, {})])
    change_file(path, "UPDATE records SET at = 9 WHERE seq = 3")
    with SqliteStore(path) as store, pytest.raises(JournalError, match="record 3 was changed"):
        list(store.read("r", 2))


# --- one line that hides the others -----------------------------------------------------------------------------------


def check_listing(store: SqliteStore | PostgresStore, change: Change) -> None:
    for run_id in "abc":
        store.append(run_id, waiting(run_id))
    for text in ("records = 0", "updated = NULL", "tags = 'x'"):
        change(f"UPDATE fsm_runs SET {text} WHERE run_id = 'b'")  # noqa: S608
        seen: list[RunSummary] = []
        with pytest.raises(DamagedRuns, match=r"damaged.*restore") as caught:
            seen.extend(store.runs())
        assert [run.run_id for run in seen] == ["a", "c"]
        assert list(caught.value.lines) == ["b"]
        assert "damaged" in (store.verify("b") or "")
        assert store.verify("c") is None


def test_a_damaged_line_of_a_file_hides_no_other_run(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with SqliteStore(path) as store:
        check_listing(store, lambda text: change_file(path, text.replace("fsm_runs", "runs")))
        change_file(path, "UPDATE runs SET run_id = x'62', state = CAST(x'ff' AS TEXT) WHERE id = 2")
        assert store.purge(Query(workflow="W"), unfinished=True) == ("a", "c")
        with pytest.raises(DamagedRuns):
            list(store.runs())


def test_a_damaged_line_of_a_database_hides_no_other_run(url: str) -> None:
    with PostgresStore(url) as store, psycopg.connect(url, autocommit=True) as db:
        check_listing(store, lambda text: db.execute(text.encode()) and None)
        assert store.purge(Query(), unfinished=True) == ("a", "c")


def test_commands_name_what_is_damaged_and_show_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FSM_JOURNAL", str(tmp_path / "runs.db"))
    with SqliteStore(tmp_path / "runs.db") as store:
        for run_id in ("apple", "berry", "cherry"):
            ended(store, run_id)
    change_file(tmp_path / "runs.db", "UPDATE runs SET records = 0 WHERE run_id = 'berry'")

    def said(*words: str) -> tuple[int, str]:
        code = main(["runs", *words])
        out, err = capsys.readouterr()
        return code, out + err

    for words in (["ls"], ["verify"]):
        code, text = said(*words)
        assert code == 1
        assert "the line of run 'berry' is damaged: `records` holds 0" in text
    code, text = said("ls")
    assert [name in text for name in ("apple", "cherry")] == [True, True]
    code, text = said("verify")
    assert "3 runs: 1 is not as written" in text
    code, text = said("ls", "--json")
    assert code == 1
    listed = json.loads(text)
    assert [(run["run_id"], run["status"]) for run in listed][-1] == ("berry", "damaged")
    assert len(listed) == 3
    code, text = said("verify", "--json")
    assert code == 1
    assert {each["run_id"]: bool(each["problem"]) for each in json.loads(text)} == {
        "apple": False, "berry": True, "cherry": False,
    }  # fmt: skip
    for name in ("berry", "ber"):
        code, text = said("verify", name)
        assert (code, "is damaged" in text) == (1, True), text
        assert said("show", name)[0] == 2
    assert said("show", "che")[0] == 0
    code, text = said("resume", "--stopped")
    assert (code, "no run waits for that" in text, "'berry' is damaged" in text) == (1, True, True), text
    code, text = said("purge", "--workflow", "Loop", "-y")
    assert (code, "deleted: 2 runs" in text, "'berry' is damaged" in text) == (1, True, True), text


def test_verify_goes_on_after_a_run_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A false line is a finding with exit code 1, so that a purge is not done by it."""
    path = tmp_path / "runs.db"
    monkeypatch.setenv("FSM_JOURNAL", str(path))
    with SqliteStore(path) as store:
        parked(store, "waits")
        ended(store, "other")
    change_file(path, "UPDATE runs SET status = 'ended' WHERE run_id = 'waits'")
    assert main(["runs", "verify"]) == 1
    out = capsys.readouterr().out
    assert "its line says `status` is 'ended', and its records say 'parked'" in out
