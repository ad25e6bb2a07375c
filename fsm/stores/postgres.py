"""The journal in PostgreSQL: the tables and the chain of hashes of the embedded one, for many machines.

A commit is one statement, so it costs one round trip, and all of it is there or none. Each carries a token: where the
connection breaks before the answer, the statement is sent again, and when its records are there already the token
tells ours from those of somebody else. Only where no connection can be had again is it unknown whether the commit
counted; then nothing is appended to that run until it was read anew.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, Self

from attrs import define

from fsm._errors import ConcurrentWriter, JournalError, RunError
from fsm._records import Record
from fsm._summary import Query, RunSummary
from fsm.journal import EVERY, DamagedRuns, check_next

from ._line import line_problem, listed
from ._rows import (
    Damaged,
    Redact,
    Row,
    Seal,
    checked,
    is_text,
    outline_of,
    record_of,
    rows_of,
    summary_of,
    values_of,
)
from ._server import Connection, Exists, Lost, Refused, Server, closed, one_line, opened
from ._statements import ADD, BEGIN, BYTES, DELETE, ERASE, FIND, GO_ON, PAGE, READ, listing, prepared


@define
class _Head:
    """Where a run stands, as this handle last saw it; `id` is 0 for one that is not there."""

    id: int
    hash: bytes
    summary: RunSummary
    is_erased: bool = False


class PostgresStore:
    """Runs in a PostgreSQL database; see `Store` for what each method promises.

    The tables lie in the first schema of the search path: `?options=-csearch_path%3Dtenant` in the URL names another
    one. A pooler between must keep sessions apart ("session mode"), because claims are locks of a session.

    Args:
        url: `postgresql://user:password@host:5432/database`, or what else libpq takes; the tables are made where they
            are missing. All handles of a process on one URL share at most `POOL` connections, and one for claims.
        encrypt: applied to each body before it is stored, bytes to bytes. Hashes are over what is stored.
        decrypt: its inverse. Without it the bodies of an encrypted journal cannot be read, all else can.
        redact: applied to each text in a body before it is stored.

    Raises:
        UsageError: it is no URL.
        MissingExtra: psycopg is not installed.
        JournalError: the server cannot be reached, or the database holds a newer journal, or tables of these names
            that are none; nothing was changed.
    """

    blocks = True
    """A commit waits for a network and a disk."""

    def __init__(
        self, url: str, *, encrypt: Seal | None = None, decrypt: Seal | None = None, redact: Redact | None = None
    ) -> None:
        self._encrypt, self._decrypt, self._redact = encrypt, decrypt, redact
        self._url = url
        self._lock = threading.Lock()
        self._heads: dict[str, _Head] = {}  # of the runs that are claimed here, so there are not many
        self._unknown: set[str] = set()
        self._connections: Server | None = opened(url, prepared)
        self.where = self._connections.where

    def close(self) -> None:
        """Give the connections back; what was committed stays."""
        with self._lock:
            server, self._connections = self._connections, None
        if server is not None:
            closed(server)

    @property
    def redacts(self) -> bool:
        """Whether it changes texts before it keeps them: a run may then be one that cannot be resumed."""
        return self._redact is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PostgresStore({self.where!r})"

    @property
    def _server(self) -> Server:
        with self._lock:
            server = self._connections
            if server is None:
                msg = f"{self.where}: this handle was closed: open it anew with PostgresStore(...)"
                raise JournalError(msg)
            if server.pid != os.getpid():  # after a fork: the connections are the parent's
                self._heads.clear()
                server = self._connections = opened(self._url, prepared)
            return server

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        """Add records in one commit; see `Store`.

        Raises:
            JournalError: the server refused, and nothing counts; or the connection was lost, and it is not known
                whether the commit counted: `read` the run, which says so, before more is appended to it.
        """
        if not records:
            return
        server = self._server
        if run_id in self._unknown:
            msg = f"{self.where}: it is not known whether the last commit of run '{run_id}' counted: read the run first"
            raise JournalError(msg)
        head = self._heads.pop(run_id, None)  # gone unless this commit counts
        if head is None or head.summary.records != records[0].seq:
            head = self._found(run_id)
        check_next(run_id, records[0].seq, head.summary.records)
        summary = head.summary.copy()
        summary.add(records)
        rows = rows_of(records, head.hash, self._encrypt, self._redact)
        run = self._commit(server, run_id, head.id, rows, summary)
        if server.holds(run_id):
            self._heads[run_id] = _Head(run, rows[-1].hash or b"", summary)

    def _commit(self, server: Server, run_id: str, run: int, rows: Sequence[Row], summary: RunSummary) -> int:
        token, tries = os.urandom(8), 0
        query = (GO_ON if run else BEGIN) + ADD
        values = (*values_of(summary), rows[-1].hash, token, *([run] if run else []), *_columns_of(rows))

        def write(db: Connection) -> int:
            nonlocal tries
            tries += 1
            try:
                written = db.execute(query, values).fetchone()
            except Exists:
                stands = db.execute("SELECT id, token FROM fsm_runs WHERE run_id = %s", (run_id,)).fetchone()
                if stands is None or stands[1] != token:
                    raise
                return int(stands[0])  # the first try had counted, its answer was lost
            return int(written[0]) if written else 0

        try:
            done = server.work(write)
        except Exists as error:
            msg = f"run '{run_id}' was gone on with by another process: this one has written nothing"
            raise ConcurrentWriter(msg) from error
        except (Refused, Lost, UnicodeEncodeError) as error:
            if tries > (not isinstance(error, Lost)):  # an attempt was cut off, if not the last one
                self._unknown.add(run_id)
                msg = (
                    f"{self.where}: the connection was lost during a commit of run '{run_id}', and it is not known "
                    f"whether it counted ({one_line(error)}): resume the run, which reads what is there"
                )
                raise JournalError(msg) from error
            msg = f"{self.where}: a commit failed and nothing of it counts: {one_line(error)}"
            raise JournalError(msg) from error
        except BaseException:  # interrupted while the server worked
            self._unknown.add(run_id)
            raise
        if not done:
            msg = f"run '{run_id}' was deleted by another process: this one has written nothing"
            raise ConcurrentWriter(msg)
        return done

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _fetch(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return self._server.work(lambda db: db.execute(query.encode(), values).fetchall())
        except (Refused, Lost, UnicodeEncodeError) as error:
            self._refuse("be read", error)

    def _refuse(self, what: str, error: Exception) -> NoReturn:
        msg = f"{self.where} cannot {what}: {one_line(error)}"
        raise JournalError(msg) from error

    def _found(self, run_id: str) -> _Head:
        found = self._fetch(FIND, (run_id,)) if is_text(run_id) and "\0" not in run_id else ()
        if not found:
            return _Head(0, b"", RunSummary(run_id))
        number, digest, is_erased, *values = found[0]
        return _Head(number, digest, summary_of(values), is_erased)

    def _known(self, run_id: str) -> _Head:
        head = self._found(run_id)
        if not head.id:
            msg = f"{self.where} has no run '{run_id}': `fsm runs ls` lists what it has"
            raise RunError(msg)
        return head

    def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
        """The records of a run; see `Store`."""
        self._unknown.discard(run_id)  # what a commit in doubt came to is seen now, or hits the primary key
        return self._told(run_id, start, lambda row, where: record_of(row, self._decrypt, where))

    def outline(self, run_id: str, start: int = 0) -> Iterator[Record]:
        """The records of a run without what was said in them; see `Keeper`."""
        return self._told(run_id, start, outline_of)

    def _told(self, run_id: str, start: int, tell: Callable[[Row, str], Record]) -> Iterator[Record]:
        head, where = self._known(run_id), f"run '{run_id}' in {self.where}"

        def told() -> Iterator[Record]:
            try:
                for row in checked(partial(self._rows, head.id), start, head.summary.records, head.hash):
                    yield tell(row, where)
            except Damaged as error:
                msg = f"{where} is damaged: {error}; restore the database from a backup"
                raise JournalError(msg) from error

        return told()

    def _rows(self, run: int, start: int = 0) -> Iterator[Row]:
        while found := self._fetch(READ, (run, start, PAGE, BYTES)):
            yield from (Row(*values) for values in found)
            start = found[-1][0] + 1

    def summary(self, run_id: str) -> RunSummary:
        """What one line says about a run; see `Store`."""
        return self._known(run_id).summary

    def runs(self, query: Query = EVERY) -> Iterator[RunSummary]:
        """The runs that the query means, oldest first; see `Store`."""
        return listed(self._lines(query), query)

    def _lines(self, query: Query) -> Iterator[Sequence[Any]]:
        statement, given = listing(query)
        last = 0
        while found := self._fetch(statement, (*given, last, PAGE)):
            yield from (values for _, *values in found)
            last = found[-1][0]

    def verify(self, run_id: str) -> str | None:
        """What is wrong with a run, or None: gaps, changed rows or bodies, a lost end, a line that its records deny."""
        try:
            head = self._known(run_id)
        except DamagedRuns as error:
            return str(error)
        rows = partial(self._rows, head.id)
        return line_problem(rows, head.hash, head.summary, is_erased=head.is_erased, decrypt=self._decrypt)

    # ── claims ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, run_id: str) -> None:
        """Begin to drive a run; see `Store`. The claim ends with the process, and with the connection that holds it."""
        self._server.claim(run_id)

    def release(self, run_id: str) -> None:
        """Stop driving a run; see `Store`."""
        self._heads.pop(run_id, None)
        server = self._connections
        if server is not None and server.pid == os.getpid():
            server.release(run_id)

    def is_claimed(self, run_id: str) -> bool:
        """Whether somebody drives a run now."""
        try:
            return self._server.is_claimed(run_id)
        except (Refused, Lost) as error:
            self._refuse("be read", error)

    # ── retention ───────────────────────────────────────────────────────────────────────────────────────────────────

    def erase(self, run_id: str, *, unfinished: bool = False) -> None:
        """Take away what was said in a run; see `Keeper`.

        Its place on the disk is used again after the next (auto)vacuum; what backups hold is not touched.
        """
        self._change(run_id, ERASE, unfinished=unfinished)

    def delete(self, run_id: str, *, unfinished: bool = False) -> None:
        """Take a run away for good; see `Keeper`."""
        self._change(run_id, DELETE, unfinished=unfinished)

    def purge(self, query: Query, *, unfinished: bool = False, erase: bool = False) -> tuple[str, ...]:
        """Delete (or `erase`) the runs that a query means; see `Keeper`."""
        gone = []
        with suppress(DamagedRuns):  # they stay
            for run in self.runs(query):
                if run.status == "ended" or unfinished:
                    with suppress(ConcurrentWriter, RunError):  # somebody drives it, or took it away or up meanwhile
                        self._change(run.run_id, ERASE if erase else DELETE, unfinished=unfinished, meant=query)
                        gone.append(run.run_id)
        return tuple(gone)

    def _change(self, run_id: str, statements: Sequence[str], *, unfinished: bool, meant: Query = EVERY) -> None:
        self.claim(run_id)
        try:
            head = self._known(run_id)
            if not meant.matches(head.summary):
                msg = f"run '{run_id}' went on meanwhile: it stays"
                raise RunError(msg)
            if head.summary.status != "ended" and not unfinished:
                msg = f"run '{run_id}' has not ended: it would be lost; say unfinished=True if that is meant"
                raise RunError(msg)
            self._server.work(lambda db: _done(db, head.id, statements))
        except (Refused, Lost) as error:
            self._refuse("be changed", error)
        finally:
            self.release(run_id)


def _done(db: Connection, run: int, statements: Sequence[str]) -> None:
    with db.transaction():
        for statement in statements:
            db.execute(statement.encode(), (run,))


def _columns_of(rows: Sequence[Row]) -> tuple[list[Any], ...]:
    """What `ADD` takes: bodies by number, then the records, each column as a list."""
    said = [(row.seq, row.body) for row in rows if row.body is not None]
    return (
        [seq for seq, _ in said],
        [body for _, body in said],
        [row.seq for row in rows],
        [row.kind for row in rows],
        [float(row.at) for row in rows],
        [row.data for row in rows],
        [row.body_hash for row in rows],
        [row.hash for row in rows],
    )
