"""The tables of a journal in PostgreSQL: how they are made, and the statements on them.

fsm_runs     one line a run, kept up to date in the commit that changes it
fsm_records  what happened: (run, seq) is the primary key, which is order and fence in one
fsm_bodies   what was said, apart from it; bytes, because they may be encrypted
fsm_schema   the version of these tables
"""

from __future__ import annotations

from typing import Any

from fsm._errors import JournalError
from fsm._summary import Query

from ._rows import COLUMNS
from ._server import Connection, NoSuchColumn

SCHEMA = 1

_TYPES = {"ok": "BOOLEAN"} | dict.fromkeys(("started", "updated", "until", "price"), "DOUBLE PRECISION")
_TYPES |= dict.fromkeys(("question", "records", "migrations", "moves", "turns", "tokens"), "BIGINT")
# The names of the columns are those of our own class, so putting these texts together lets nothing in (S608).
_NAMES = ", ".join(COLUMNS)
_TABLES = f"""
CREATE TABLE fsm_schema (version INTEGER NOT NULL);
INSERT INTO fsm_schema VALUES ({SCHEMA});
CREATE TABLE fsm_runs (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    {", ".join(f"{name} {_TYPES.get(name, 'TEXT')}" for name in COLUMNS)}, hash BYTEA NOT NULL, token BYTEA NOT NULL,
    erased BOOLEAN NOT NULL DEFAULT false, UNIQUE (run_id)) WITH (fillfactor = 50);
CREATE TABLE fsm_records (run BIGINT NOT NULL, seq BIGINT NOT NULL, kind TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
    data TEXT NOT NULL, body_hash BYTEA, hash BYTEA, PRIMARY KEY (run, seq));
CREATE TABLE fsm_bodies (run BIGINT NOT NULL, seq BIGINT NOT NULL, body BYTEA NOT NULL, PRIMARY KEY (run, seq))
"""  # noqa: S608
_OURS = ["fsm_bodies", "fsm_records", "fsm_runs", "fsm_schema"]
_CREATING = 0x66736D6A  # the lock of whoever makes the tables; the number is that of the embedded journal's header

ADD = """
, said AS (
    INSERT INTO fsm_bodies (run, seq, body)
    SELECT changed.id, added.* FROM changed, unnest(%b::bigint[], %b::bytea[]) AS added (seq, body))
INSERT INTO fsm_records (run, seq, kind, at, data, body_hash, hash)
SELECT changed.id, added.* FROM changed,
    unnest(%b::bigint[], %b::text[], %b::float8[], %b::text[], %b::bytea[], %b::bytea[]) AS added
RETURNING run
"""
BEGIN = (
    f"WITH changed AS (INSERT INTO fsm_runs ({_NAMES}, hash, token) "  # noqa: S608
    f"VALUES ({', '.join(['%s'] * (len(COLUMNS) + 2))}) RETURNING id)"
)
GO_ON = (
    f"WITH changed AS (UPDATE fsm_runs SET {', '.join(f'{name} = %s' for name in (*COLUMNS, 'hash', 'token'))} "  # noqa: S608
    "WHERE id = %s RETURNING id)"
)
FIND = f"SELECT id, hash, erased, {_NAMES} FROM fsm_runs WHERE run_id = %s"  # noqa: S608
PAGE = 500  # rows that are read at a time, …
BYTES = 1 << 20  # … of so many bytes and one row: a long journal is never in memory as a whole
READ = """
SELECT seq, kind, at, data, body, body_hash, hash
FROM (SELECT records.*, bodies.body, sum(coalesce(octet_length(bodies.body), 0)) OVER (ORDER BY seq
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM (SELECT * FROM fsm_records WHERE run = %s AND seq >= %s ORDER BY seq LIMIT %s) AS records
    LEFT JOIN fsm_bodies AS bodies USING (run, seq)) AS page
WHERE coalesce(before, 0) < %s ORDER BY seq
"""
# The line of the run first, so that what is being appended is there, or is refused.
ERASE = ("UPDATE fsm_runs SET erased = true WHERE id = %s", "DELETE FROM fsm_bodies WHERE run = %s")
DELETE = (
    "DELETE FROM fsm_runs WHERE id = %s",
    "DELETE FROM fsm_bodies WHERE run = %s",
    "DELETE FROM fsm_records WHERE run = %s",
)

_EQUAL = ("state", "status", "waits_for", "workflow")


def listing(query: Query) -> tuple[str, list[Any]]:
    """The statement that lists the runs a query means, tags left aside, and its values: then come id and number."""
    wanted = [(f"{name} = %s", getattr(query, name)) for name in _EQUAL]
    wanted += [("updated < %s", query.before), ("updated >= %s", query.after)]
    wanted += [("run_id = ANY(%s)", None if query.only is None else [*query.only])]
    given = [(condition, value) for condition, value in wanted if value is not None]
    conditions = " AND ".join([*(condition for condition, _ in given), "id > %s"])
    return f"SELECT id, {_NAMES} FROM fsm_runs WHERE {conditions} ORDER BY id LIMIT %s", [v for _, v in given]  # noqa: S608


def prepared(db: Connection, where: str) -> int:
    """Look at the database, and make the tables where there are none; gives the number of the journal in it.

    Raises:
        JournalError: it holds a newer journal, or none and tables of these names; nothing was changed.
    """
    encoding = db.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        msg = f"{where} is encoded as {encoding}: a journal needs a database made with ENCODING 'UTF8'"
        raise JournalError(msg)
    with db.transaction():  # all tables are made, or none
        db.execute("SELECT pg_advisory_xact_lock(%s)", (_CREATING,))  # two processes may begin at once
        found = db.execute("SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NOT NULL", (_OURS,))
        names = sorted(name for (name,) in found)
        if not names:
            db.execute(_TABLES.encode())
        elif names != _OURS:
            msg = f"{where} has {', '.join(names)}, but no whole journal: name another database or schema"
            raise JournalError(msg)
        else:
            _check_version(db, where)
        made = db.execute("SELECT 'fsm_runs'::regclass::oid::bigint").fetchone()
    return int(made[0]) if made else 0


def _check_version(db: Connection, where: str) -> None:
    try:
        versions = [version for (version,) in db.execute("SELECT version FROM fsm_schema").fetchall()]
    except NoSuchColumn:
        versions = []
    if len(versions) != 1:
        msg = f"{where} has a table fsm_schema that is not ours: name another database or schema; it was not touched"
        raise JournalError(msg)
    if versions[0] > SCHEMA:
        msg = (
            f"{where} was written by a newer version of fsm (schema {versions[0]}, this one knows {SCHEMA}): "
            "upgrade claude-fsm; it was not touched"
        )
        raise JournalError(msg)
