"""The embedded journal: one SQLite file, write-ahead log, every commit synced to the disk (architecture §8).

    runs     one line a run, kept up to date in the commit that changes it, so that listing reads no journal
    records  what happened: run and seq are the primary key, which is order and fence in one
    bodies   what was said, apart from it, so that it can be erased or encrypted while the chain of hashes holds

A failed commit poisons the handle: after a failed sync nobody knows what the disk holds, so nothing more is written
through it; a new `SqliteStore` opens the file and sees what is there. A handle belongs to the process that opened it;
any number of its threads may use it at once, and their commits go to the disk together.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from operator import attrgetter
from pathlib import Path
from sys import getsizeof
from typing import Any, Self

from attrs import define, frozen

from fsm._errors import ConcurrentWriter, JournalError, RunError
from fsm._records import Record
from fsm._summary import Query, RunSummary
from fsm.journal import EVERY, DamagedRuns, check_next

from . import _tables as sql
from ._claims import Claims
from ._file import named, prepare
from ._group import Group, Job
from ._line import line_problem, listed
from ._rows import (
    COLUMNS,
    NO_HEAD,
    Damaged,
    Redact,
    Row,
    Seal,
    chained,
    checked,
    decoded,
    is_text,
    outline_of,
    record_of,
    summary_of,
    unchained,
    values_of,
)
from ._tables import PATIENCE

_CHANGING = tuple(name for name in COLUMNS if name not in {"run_id", "started", "tags"})
_changing = attrgetter(*_CHANGING)
_PAUSE = 0.01  # seconds
_PAGE = 500  # rows that are read at a time, …
_BYTES = 1 << 20  # … or about so many bytes, so that a long journal is never in memory as a whole
_CODES = {name: code for code, name in enumerate(sql.KINDS)}
_NAMES: dict[Any, str] = dict(enumerate(sql.KINDS))
_CLOSED = "it was closed"


@define
class _Head:
    """Where a run stands, as this handle last saw it."""

    id: int
    hash: bytes
    summary: RunSummary
    is_erased: bool = False


@frozen
class _Commit:
    """The records of one run, and their rows before they have a place in the chain."""

    run_id: str
    records: Sequence[Record]
    rows: list[Row]


_LIVE: dict[object, tuple[int, int]] = {}  # the files that this process has open, by handle
_GUARD = threading.RLock()  # held again by a handle that is collected while another is being opened
_INHERITED: list[sqlite3.Connection] = []  # a child must not close what its parent opened


class SqliteStore:
    """Runs in one SQLite file; see `Store` and `Keeper` for what each method promises.

    Args:
        path: the file; it is made where it is missing, for its owner only.
        encrypt: applied to each body before it is stored, bytes to bytes. Hashes are over what is stored.
        decrypt: its inverse. Without it the bodies of an encrypted journal cannot be read, all else can.
        redact: applied to each text in a body before it is stored. What it changed is marked; such a run can be shown
            and verified, but not resumed, because the API would be sent another conversation than Claude had.

    Raises:
        UsageError: such a name has no file (":memory:", "file:...").
        JournalError: the file is no journal, is newer than this version, damaged or open to others; it is untouched.
    """

    blocks = True
    """An `append` waits for the disk: call it in a thread where others must go on."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        encrypt: Seal | None = None,
        decrypt: Seal | None = None,
        redact: Redact | None = None,
    ) -> None:
        given = Path(named(path)).absolute()
        self.path = Path(os.path.realpath(given.parent)) / given.name  # one name, so one lock file
        self._encrypt, self._decrypt, self._redact = encrypt, decrypt, redact
        self._lock = threading.RLock()
        self._group = Group(self._lock, self._commit)
        self._heads: dict[str, _Head] = {}
        self._updates: dict[tuple[str, ...], str] = {}
        self._broken = ""
        self._pid = os.getpid()
        self._log = f"{self.path}-wal"
        self._claims = Claims(self.path)
        with _GUARD:
            self._file = prepare(self.path, lambda file: file in _LIVE.values())
            self._db = sql.connected(self.path)
            token = object()
            _LIVE[token] = self._file
            self._close = weakref.finalize(self, _close, self._db, token, self._pid)

    def close(self) -> None:
        """Close the file; what was committed stays."""
        if self._pid == os.getpid():
            with self._lock:
                self._broken = _CLOSED
                self._close()

    @property
    def redacts(self) -> bool:
        """Whether it changes texts before it keeps them: a run may then be one that cannot be resumed."""
        return self._redact is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SqliteStore({str(self.path)!r})"

    @property
    def is_usable(self) -> bool:
        """Whether this handle can still write: it is open, whole, of this process, and its file is still in place."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return not self._broken and self._pid == os.getpid() and (found.st_dev, found.st_ino) == self._file

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        """Add records in one commit; see `Store`."""
        if not records:
            return
        self._check()
        self._group.add(_Commit(run_id, records, unchained(records, self._encrypt, self._redact)))

    def _commit(self, jobs: Sequence[Job]) -> None:
        """One transaction for all that waits. A job that is refused has written nothing, and keeps no other back."""
        heads: dict[str, _Head] = {}

        def durable() -> None:
            for run_id, head in heads.items():
                self._heads[run_id] = head
                if head.summary.status != "running" or len(self._heads) > 10 * _PAGE:
                    del self._heads[run_id]  # most runs that stand still are not gone on with by this process
            for job in jobs:
                job.is_done = True

        with self._writing(durable) as db:
            for job in jobs:
                try:
                    run_id = job.what.run_id
                    heads[run_id] = self._written(db, job.what, heads.get(run_id) or self._heads.get(run_id))
                except (sqlite3.Error, MemoryError):
                    raise
                except Exception as error:  # noqa: BLE001 - of this job alone: it is raised in the thread that waits
                    job.error = error

    def _written(self, db: sqlite3.Connection, commit: _Commit, known: _Head | None) -> _Head:
        """Write one commit, or nothing. Nothing is written before all that could be refused was looked at."""
        first = commit.records[0].seq
        if known is not None and known.summary.records == first and (head := self._gone_on(db, commit, known)):
            return head
        known = self._found(commit.run_id)  # another process may have gone on
        check_next(commit.run_id, first, known.summary.records)
        if known.id:
            if self._fetch(sql.SELECT_HASH, (sql.key(known.id, known.summary.records - 1),)) != [(known.hash,)]:
                msg = f"{self._where(commit.run_id)} is damaged: {NO_HEAD}; restore the file from a backup"
                raise JournalError(msg)
            head = self._gone_on(db, commit, known)
            if head is None:
                msg = f"run '{commit.run_id}' changed inside a transaction: {self.path} is damaged"
                raise JournalError(msg)
            return head
        summary = RunSummary(commit.run_id)
        summary.add(commit.records)
        rows = chained(commit.rows, b"")
        digest = rows[-1].hash or b""
        try:
            run = db.execute(sql.INSERT_RUN, (*values_of(summary), digest)).lastrowid or 0
        except UnicodeEncodeError as error:
            msg = f"run {commit.run_id!r} cannot be stored: {error}; nothing was written"
            raise JournalError(msg) from error
        self._insert(db, run, rows)
        return _Head(run, digest, summary)

    def _gone_on(self, db: sqlite3.Connection, commit: _Commit, head: _Head) -> _Head | None:
        """Write one commit after this head; None, and nothing written, where the run stands elsewhere by now."""
        summary = head.summary.copy()
        summary.add(commit.records)
        rows = chained(commit.rows, head.hash)
        digest = rows[-1].hash or b""
        now, before = _changing(summary), _changing(head.summary)
        changed = tuple([name for name, new, old in zip(_CHANGING, now, before, strict=True) if new != old])
        query = self._updates.get(changed)
        if query is None:
            query = self._updates[changed] = sql.update_run(changed)
        values = [new for new, old in zip(now, before, strict=True) if new != old]
        if not db.execute(query, (*values, digest, head.id, head.hash)).rowcount:
            return None
        self._insert(db, head.id, rows)
        return _Head(head.id, digest, summary)

    def _insert(self, db: sqlite3.Connection, run: int, rows: Sequence[Row]) -> None:
        start, made = sql.key(run, 0), []
        for seq, kind, at, data, body, body_hash, digest in rows:
            number = None if body is None else db.execute(sql.INSERT_BODY, (body,)).lastrowid
            made.append((start + seq, _CODES.get(kind, kind), at, data, number, body_hash, digest))
        db.executemany(sql.INSERT_RECORD, made)

    @contextmanager
    def _writing(self, durable: Callable[[], None] | None = None) -> Iterator[sqlite3.Connection]:
        """One commit: all of it is on the disk when this ends, or none, and then the handle may be poisoned.

        `durable` is called once it is on the disk, also when an interruption comes just then.
        """
        self._check()
        with self._lock:
            self._check()
            db, is_ending = self._db, False
            try:
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:  # nothing was begun, so nothing is in doubt
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                    msg = f"{self.path}: another process has been writing for {PATIENCE:g} seconds: try again"
                    raise JournalError(msg) from error
                raise self._poisoned(error) from error
            self._check_there(db)
            try:
                yield db
                is_ending = True
                db.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._poisoned(error, in_doubt=is_ending) from error
            except BaseException:
                if durable is not None and is_ending and not db.in_transaction:
                    durable()
                self._heads.clear()
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
            if durable is not None:
                durable()

    def _check_there(self, db: sqlite3.Connection) -> None:
        """The system goes on writing to a file without a name, and nobody would ever read that."""
        try:
            found = os.stat(self.path)  # noqa: PTH116 - at every commit
            os.stat(self._log)  # noqa: PTH116
            if (found.st_dev, found.st_ino) == self._file:
                return
        except OSError:
            pass
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        self._heads.clear()
        self._broken = "the file or its log (-wal) was deleted or replaced while it was open"
        self._check()

    def _poisoned(self, error: sqlite3.Error, *, in_doubt: bool = False) -> JournalError:
        """What is known of a commit that failed; after a failed sync all of it may be on the disk, or none."""
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")
        self._heads.clear()
        self._broken = f"a commit failed ({error})"
        known = (
            "whether it counts is not known before the file is read again, and a resume goes on from what it holds then"
            if in_doubt
            else "nothing of it counts"
        )
        return JournalError(
            f"{self.path}: a commit failed: {error}; {known}. Look at the disk, then open the journal anew"
        )

    def _check(self) -> None:
        # Before any lock is waited for: the thread that held it may not be in this process.
        if self._pid != os.getpid():
            msg = f"{self.path} was opened before this process was forked: open it anew with SqliteStore(...) in here"
            raise JournalError(msg)
        if self._broken:
            msg = f"{self.path}: {self._broken}: open it anew with SqliteStore(...) before going on"
            raise JournalError(msg)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _fetch(self, query: str, values: Sequence[Any] = (), most: int = 1 << 62) -> list[Any]:
        """The rows that a query gives, up to about so many bytes in memory, and one at least."""
        self._check()
        with self._lock:
            self._check()
            found, size = [], 0
            try:
                cursor = self._db.execute(query, values)
                try:
                    for row in cursor:
                        found.append(row)
                        size += sum(map(getsizeof, row))
                        if size >= most:
                            break
                finally:
                    cursor.close()
            except sqlite3.Error as error:
                if self._db.text_factory is str and "decode" in str(error):
                    return self._undecoded(query, values, most)
                msg = f"{self.path} cannot be read: {error}; `fsm runs verify` says which runs are whole"
                raise JournalError(msg) from error
            return found

    def _undecoded(self, query: str, values: Sequence[Any], most: int) -> list[Any]:
        """The same rows, with bytes for what is no text: whoever looks at them says which row is damaged."""
        self._db.text_factory = decoded
        try:
            return self._fetch(query, values, most)
        finally:
            self._db.text_factory = str

    def _found(self, run_id: str) -> _Head:
        """Where a run stands on the disk; an empty head for one that is not there."""
        found = self._fetch(sql.SELECT_RUN, (run_id,)) if is_text(run_id) else ()
        if not found:
            return _Head(0, b"", RunSummary(run_id))
        number, digest, is_erased, *values = found[0]
        if not isinstance(digest, bytes):
            msg = f"{self._where(run_id)} is damaged: {NO_HEAD}; restore the file from a backup"
            raise Damaged(msg)
        return _Head(number, digest, summary_of(values), bool(is_erased))

    def _known(self, run_id: str) -> _Head:
        head = self._found(run_id)
        if not head.id:
            msg = f"{self.path} has no run '{run_id}': `fsm runs ls` lists what it has"
            raise RunError(msg)
        return head

    def _where(self, run_id: str) -> str:
        return f"run '{run_id}' in {self.path}"

    def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
        """The records of a run; see `Store`. From the first record on, the chain of hashes is checked on the way."""
        where = self._where(run_id)
        return (record_of(row, self._decrypt, where) for row in self._whole(self._known(run_id), start, where))

    def outline(self, run_id: str, start: int = 0) -> Iterator[Record]:
        """The records of a run without what was said in them; see `Keeper`."""
        where = self._where(run_id)
        return (outline_of(row, where) for row in self._whole(self._known(run_id), start, where))

    def _whole(self, head: _Head, start: int, where: str) -> Iterator[Row]:
        try:
            yield from checked(partial(self._rows, head.id), start, head.summary.records, head.hash)
        except Damaged as error:
            msg = f"{where} is damaged: {error}; restore the file from a backup"
            raise JournalError(msg) from error

    def _rows(self, run: int, start: int = 0) -> Iterator[Row]:
        while found := self._fetch(sql.SELECT_ROWS, (sql.key(run, start), sql.key(run + 1, 0), _PAGE), _BYTES):
            yield from (Row(seq, _NAMES.get(kind, kind), *rest) for seq, kind, *rest in found)
            start = found[-1][0] + 1

    def summary(self, run_id: str) -> RunSummary:
        """What one line says about a run; see `Store`."""
        return self._known(run_id).summary

    def runs(self, query: Query = EVERY) -> Iterator[RunSummary]:
        """The runs that the query means, oldest first; see `Store`."""
        return listed(self._lines(query), query)

    def _lines(self, query: Query) -> Iterator[Sequence[Any]]:
        text, values = sql.runs_meant(query)
        last = 0
        while found := self._fetch(text, (last, *values, _PAGE), _BYTES):
            yield from (row for _, *row in found)
            last = found[-1][0]

    def verify(self, run_id: str) -> str | None:
        """What is wrong with a run, or None: gaps, changed rows or bodies, a lost end, a line that its records deny.

        `_rows` says what the chain of hashes proves, and what not.
        """
        try:
            head = self._known(run_id)
        except (Damaged, DamagedRuns) as error:
            return str(error)
        rows = partial(self._rows, head.id)
        return line_problem(rows, head.hash, head.summary, is_erased=head.is_erased, decrypt=self._decrypt)

    def head(self, run_id: str) -> str:
        """The hash of the newest commit of a run, in hex. Kept elsewhere, it proves that nothing was written anew."""
        return self._known(run_id).hash.hex()

    # ── claims ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, run_id: str) -> None:
        """Begin to drive a run; see `Store`."""
        self._claims.claim(run_id)

    def release(self, run_id: str) -> None:
        """Stop driving a run; see `Store`."""
        self._heads.pop(run_id, None)
        self._claims.release(run_id)

    def is_claimed(self, run_id: str) -> bool:
        """Whether somebody drives a run now."""
        return self._claims.is_claimed(run_id)

    # ── retention ───────────────────────────────────────────────────────────────────────────────────────────────────

    def erase(self, run_id: str, *, unfinished: bool = False) -> None:
        """Take away for good what was said in a run; see `Keeper`. Then the file is made anew, see `compact`."""
        self._forget(run_id, unfinished=unfinished, erase=True)
        self.compact()

    def delete(self, run_id: str, *, unfinished: bool = False) -> None:
        """Take a run away for good; see `Keeper`. Then the file is made anew, see `compact`."""
        self._forget(run_id, unfinished=unfinished, erase=False)
        self.compact()

    def purge(self, query: Query, *, unfinished: bool = False, erase: bool = False) -> tuple[str, ...]:
        """Delete (or `erase`) the runs that a query means; see `Keeper`. Then the file is made anew, see `compact`."""
        gone = []
        with suppress(DamagedRuns):  # they stay
            for run in self.runs(query):
                if run.status == "ended" or unfinished:
                    with suppress(ConcurrentWriter, RunError):  # driven, or gone on with or deleted meanwhile
                        self._forget(run.run_id, unfinished=unfinished, erase=erase, meant=query)
                        gone.append(run.run_id)
        if gone:
            self.compact()
        return tuple(gone)

    def _forget(self, run_id: str, *, unfinished: bool, erase: bool, meant: Query = EVERY) -> None:
        self.claim(run_id)
        try:
            with self._writing() as db:
                head = self._known(run_id)
                if not meant.matches(head.summary):
                    msg = f"run '{run_id}' went on meanwhile: it stays"
                    raise RunError(msg)
                if head.summary.status != "ended" and not unfinished:
                    msg = (
                        f"run '{run_id}' has not ended ({head.summary.status}): cancel it first, or say unfinished=True"
                    )
                    raise RunError(msg)
                span = sql.key(head.id, 0), sql.key(head.id + 1, 0)
                db.execute(sql.FORGET_BODIES, span)
                if erase:
                    db.execute(sql.FORGET_NUMBERS, span)
                    db.execute("UPDATE runs SET erased = 1 WHERE id = ?", (head.id,))
                else:
                    db.execute(sql.FORGET_RECORDS, span)
                    db.execute("DELETE FROM runs WHERE id = ?", (head.id,))
                self._heads.pop(run_id, None)
        finally:
            self.release(run_id)

    def compact(self) -> None:
        """Make the file anew without what was erased or deleted, and empty its log.

        SQLite leaves copies of deleted rows behind where it moved them, so this is what takes them off the disk. It
        takes as long as copying the file, and other commits wait meanwhile.

        Raises:
            JournalError: no room for the copy, or another process still reads what was deleted. What was deleted is
                gone for every reader all the same: call this again.
        """
        self._check()
        with self._lock:
            self._check()
            try:
                self._db.execute("VACUUM")
                is_busy = self._empty_log()
            except sqlite3.Error as error:
                msg = (
                    f"{self.path} cannot be made anew: {error}. Deleted texts may still be on the disk: compact() again"
                )
                raise JournalError(msg) from error
        if is_busy:
            msg = f"another process still reads {self.path}: deleted texts are still in its log; compact() again"
            raise JournalError(msg)

    def _empty_log(self) -> bool:
        """Whether the log could not be emptied.

        SQLite waits for readers by itself, but not for a checkpoint that another handle makes: it is tried again.
        """
        until = time.monotonic() + sql.PATIENCE
        while self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() >= until:
                return True
            time.sleep(_PAUSE)
        return False


def _close(db: sqlite3.Connection, token: object, pid: int) -> None:
    if pid != os.getpid():
        _INHERITED.append(db)
        return
    with _GUARD:
        db.close()
        _LIVE.pop(token, None)


_SHARED: weakref.WeakValueDictionary[str, SqliteStore] = weakref.WeakValueDictionary()


def shared(path: str | os.PathLike[str]) -> SqliteStore:
    """The handle of this process on a file, opened where there is none: what `journal="runs.db"` means.

    It is closed when nobody holds it any more; a `Result` does, so that its records can be read.
    """
    name = os.path.realpath(named(path))
    with _GUARD:
        store = _SHARED.get(name)
        if store is None or not store.is_usable:
            store = _SHARED[name] = SqliteStore(path)
        return store
