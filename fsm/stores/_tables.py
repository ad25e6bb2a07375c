"""The tables of the embedded journal: made, opened, and asked for runs."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from fsm._errors import JournalError
from fsm._summary import Query

from ._file import APPLICATION, SCHEMA
from ._rows import COLUMNS

PATIENCE = 30.0
"""Seconds that a commit waits for another process that writes, or purges."""

_TYPES = {"started": "REAL", "updated": "REAL", "until": "REAL", "price": "REAL"} | dict.fromkeys(
    ("question", "records", "migrations", "moves", "turns", "tokens", "ok"), "INTEGER"
)
# `AUTOINCREMENT`: the number of a deleted run is never given again, so a handle that still knows it changes no other.
# The key of a record is run and seq in one number, which takes a tenth less room than two columns: the rows of a run
# stand together and in order, and a key that exists cannot be written again. `run` and `seq` are for people to ask for.
_TABLES = f"""
CREATE TABLE runs (id INTEGER PRIMARY KEY AUTOINCREMENT,
    {", ".join(f"{name} {_TYPES.get(name, 'TEXT')}" for name in COLUMNS)},
    hash BLOB NOT NULL, erased INTEGER NOT NULL DEFAULT 0, UNIQUE (run_id));
CREATE TABLE records (id INTEGER PRIMARY KEY, kind NOT NULL, at REAL NOT NULL, data TEXT NOT NULL,
    body INTEGER, body_hash BLOB, hash BLOB, run AS (id >> 32), seq AS (id & 4294967295));
CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {SCHEMA}
"""
KINDS = (
    "request", "move", "reply", "tool.begin", "tool.end", "say", "open", "close", "error", "asked", "answer",
    "code.begin", "code.end", "wake", "park", "resume", "migrate",
)  # fmt: skip
"""A kind of record is stored as its place in here, any other by its name. New ones come last: files rely on it."""

# The names of the columns are those of our own class, so putting these texts together lets nothing in (S608).
INSERT_RUN = f"INSERT INTO runs ({', '.join(COLUMNS)}, hash) VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"  # noqa: S608
INSERT_BODY = "INSERT INTO bodies (body) VALUES (?)"
INSERT_RECORD = "INSERT INTO records (id, kind, at, data, body, body_hash, hash) VALUES (?, ?, ?, ?, ?, ?, ?)"
SELECT_RUN = f"SELECT id, hash, erased, {', '.join(COLUMNS)} FROM runs WHERE run_id = ?"  # noqa: S608
SELECT_ROWS = (
    "SELECT seq, kind, at, data, bodies.body, body_hash, hash "
    "FROM records LEFT JOIN bodies ON bodies.id = records.body "
    "WHERE records.id >= ? AND records.id < ? ORDER BY records.id LIMIT ?"
)
SELECT_HASH = "SELECT hash FROM records WHERE id = ?"
FORGET_BODIES = "DELETE FROM bodies WHERE id IN (SELECT body FROM records WHERE id >= ? AND id < ?)"
# No row may go on naming a body that is gone: SQLite gives the number to the next body, of whatever run.
FORGET_NUMBERS = "UPDATE records SET body = NULL WHERE id >= ? AND id < ? AND body IS NOT NULL"
FORGET_RECORDS = "DELETE FROM records WHERE id >= ? AND id < ?"


def key(run: int, seq: int) -> int:
    """Where a record stands; those of a run lie from `key(run, 0)` to before `key(run + 1, 0)`."""
    return (run << 32) + seq


def connected(path: Path) -> sqlite3.Connection:
    """A connection to a journal that `prepare` has looked at; its tables are made where there are none.

    Raises:
        JournalError: SQLite refuses it, or its log says that it is no journal of this version.
    """
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
    except sqlite3.Error as error:
        raise _refused(path, error) from error
    try:
        _set_up(db)
    except sqlite3.Error as error:
        db.close()
        raise _refused(path, error) from error
    except JournalError as error:
        db.close()
        msg = f"{path} {error}; no run in it was touched"
        raise JournalError(msg) from None
    return db


_ADVICE = {
    sqlite3.SQLITE_FULL: "make room on the disk, then open it again",
    sqlite3.SQLITE_IOERR: "look at the disk, then open it again",
    sqlite3.SQLITE_READONLY: "SQLite keeps a log beside it, so its folder must be one that you may write in",
    sqlite3.SQLITE_CANTOPEN: "SQLite keeps a log beside it, so its folder must be one that you may write in",
}


def _refused(path: Path, error: sqlite3.Error) -> JournalError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    advice = _ADVICE.get(code, "if it is damaged, restore it from a backup")
    return JournalError(f"{path}: SQLite cannot open it as a journal: {error}; {advice}")


def _set_up(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA synchronous = FULL")
    # A short log: writing over its beginning is cheaper than making it longer, where the system has to note the length.
    db.execute("PRAGMA wal_autocheckpoint = 256")
    if not _is_journal(db):
        # In a rollback journal, before the log is switched on: so a journal that was begun has our id in its header.
        db.execute("BEGIN EXCLUSIVE")
        if not _is_journal(db):
            for statement in _TABLES.split(";"):
                db.execute(statement)
        db.execute("COMMIT")
    if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]  # a failure is no error there: it stays as it was
        if mode != "wal":
            msg = "cannot keep a write-ahead log: look at the disk, keep the journal on a local one, open it anew"
            raise JournalError(msg)


def _is_journal(db: sqlite3.Connection) -> bool:
    version, application = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id"))
    if application == APPLICATION and version <= SCHEMA:
        return True
    if application == APPLICATION:
        msg = f"was written by a newer version of fsm (schema {version}, this one knows {SCHEMA}): upgrade claude-fsm"
        raise JournalError(msg)
    if version or application or db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
        raise JournalError("is no journal: it is an SQLite file of another program. Name another file")
    return False


def runs_meant(query: Query) -> tuple[str, list[Any]]:
    """What SQL asks for, after the number of the last run that was given and before how many are wanted."""
    asked = {
        "state = ?": query.state,
        "status = ?": query.status,
        "waits_for = ?": query.waits_for,
        "workflow = ?": query.workflow,
        "updated < ?": query.before,
        "updated >= ?": query.after,
        "run_id IN (SELECT value FROM json_each(?))": None if query.only is None else json.dumps([*query.only]),
    }
    wanted = {text: value for text, value in asked.items() if value is not None}
    has_tag = "EXISTS (SELECT 1 FROM json_each(tags) AS tag WHERE tag.key = ? AND tag.value = ?)"
    tags = [pair for pair in query.tags.items() if "\0" not in "".join(pair)]  # there SQL's texts end; others look
    where = " AND ".join(["id > ?", *wanted, *[has_tag] * len(tags)])
    values = [*wanted.values(), *(part for pair in tags for part in pair)]
    return f"SELECT id, {', '.join(COLUMNS)} FROM runs WHERE {where} ORDER BY id LIMIT ?", values  # noqa: S608


def update_run(names: tuple[str, ...]) -> str:
    """Write the columns that changed, if the run still stands where this handle saw it."""
    return f"UPDATE runs SET {', '.join(f'{name} = ?' for name in (*names, 'hash'))} WHERE id = ? AND hash = ?"  # noqa: S608
