"""What one process has open to a PostgreSQL server: a bounded pool for its work, and one connection for its claims.

All handles of a process on one URL share it, so that a thousand runs do not open a thousand connections. A connection
that is lost is replaced, and what was going on is done again: it has to be such that this does no harm. The password of
a URL stands in no message, no `repr` and no log line (X7).
"""

from __future__ import annotations

import atexit
import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import quote

from fsm._errors import ConcurrentWriter, JournalError, MissingExtra, UsageError

try:
    import psycopg
    import psycopg_pool
except ImportError as error:
    raise MissingExtra("postgres", "a journal in PostgreSQL") from error

Connection = psycopg.Connection[tuple[Any, ...]]
Refused = psycopg.Error  # by the server, or by the driver before anything was sent
Exists = psycopg.errors.UniqueViolation
NoSuchColumn = psycopg.errors.UndefinedColumn
T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that a lost connection is tried anew, or a free one is waited for."""
POOL = 8
"""Connections that a process has to one URL at most, besides that of its claims."""

# What the URL does not say otherwise: a peer that is gone is noticed, by the client and by the server.
_PARTS = {
    "connect_timeout": str(int(PATIENCE)), "keepalives_idle": "30", "keepalives_interval": "10",
    "keepalives_count": "3", "tcp_user_timeout": "30000", "fallback_application_name": "fsm", "client_encoding": "UTF8",
}  # fmt: skip
_SETTINGS = """
SELECT set_config(name, value, false)
FROM (VALUES ('statement_timeout', '30s', '0'), ('lock_timeout', '10s', '0'), ('synchronous_commit', 'on', 'off'),
    ('synchronous_commit', 'on', 'local'), ('idle_in_transaction_session_timeout', '60s', '0'))
    AS wanted (name, value, instead_of)
WHERE current_setting(name) = instead_of
"""
_LOCK = "SELECT pg_try_advisory_lock(key) FROM unnest(%s::bigint[]) AS key"
_IS_LOCKED = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND classid = %s AND objid = %s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""

_SERVERS: dict[
    tuple[int, str], Server
] = {}  # those of a parent process stay, untouched: their sockets are the parent's
_GUARD = threading.Lock()


class Lost(JournalError):  # noqa: N818 - states a fact
    """No connection could be had, or the last one broke; the text says why."""


class Server:
    """The connections of this process to the database of one URL.

    Args:
        url: as libpq takes it.
        prepare: called with the first connection before anything else; returns a number that is the journal's own.

    Raises:
        JournalError: the server cannot be reached; the message says why.
    """

    def __init__(self, parts: dict[str, Any], prepare: Callable[[Connection, str], int]) -> None:
        self.pid, self.users, self.where = os.getpid(), 0, _shown(parts)
        self._parts = parts
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}
        self._claims: Connection | None = None
        try:
            with self._connected() as db:
                self._number = prepare(db, self.where)
        except psycopg.Error as error:
            msg = f"the journal {self.where} cannot be opened: {one_line(error)}"
            raise JournalError(msg) from error
        self._pool = psycopg_pool.ConnectionPool(
            kwargs={**parts, "autocommit": True}, min_size=0, max_size=POOL, num_workers=2, configure=_configure,
            timeout=PATIENCE, reconnect_timeout=PATIENCE, name="fsm", open=True,
        )  # fmt: skip

    def close(self) -> None:
        """Close all connections; the claims end with theirs."""
        with self._lock:
            self._held.clear()
            if self._claims is not None:
                self._claims.close()
            self._claims = None
        self._pool.close()

    def work(self, todo: Callable[[Connection], T]) -> T:
        """Do something on a connection, and once more on another one where it was lost, so it must bear repetition.

        Raises:
            Lost: there was no connection for `PATIENCE` seconds.
            psycopg.Error: the server refused; what was asked for did not happen.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                db = self._pool.getconn(max(deadline - time.monotonic(), 0.01))
            except psycopg.OperationalError as error:
                msg = f"no connection was free or could be made within {PATIENCE:g} seconds"
                raise Lost(msg) from error
            try:
                return todo(db)
            except psycopg.Error as error:
                if not db.closed:
                    raise
                if time.monotonic() > deadline:
                    raise Lost(one_line(error)) from error
            finally:
                self._pool.putconn(db)
            self._take_again()
            time.sleep(0.05)

    # ── claims ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, run_id: str) -> None:
        """Take a run, or say who has it; see `Store`."""
        with self._lock:
            if run_id in self._held:
                msg = f"run '{run_id}' is being driven in this process already: wait for it, or stop it first"
                raise ConcurrentWriter(msg)
            key = self._key(run_id)
            try:
                is_mine = self._claiming(_LOCK, [key])[0][0]
            except psycopg.Error as error:
                msg = f"run '{run_id}' cannot be claimed in {self.where}: {one_line(error)}"
                raise JournalError(msg) from error
            if not is_mine:
                msg = f"run '{run_id}' is being driven by another process: wait for it, or stop that one first"
                raise ConcurrentWriter(msg)
            self._held[run_id] = key

    def release(self, run_id: str) -> None:
        """Give a run back; nothing happens where it is not held."""
        with self._lock:
            key = self._held.pop(run_id, None)
            if key is not None and self._claims is not None:
                with suppress(psycopg.Error):  # a lost connection has no locks
                    self._claims.execute("SELECT pg_advisory_unlock(%s)", (key,))

    def holds(self, run_id: str) -> bool:
        """Whether this process has claimed a run."""
        return run_id in self._held

    def is_claimed(self, run_id: str) -> bool:
        """Whether somebody drives a run now."""
        high, low = divmod(self._key(run_id) % (1 << 64), 1 << 32)
        return bool(self.work(lambda db: db.execute(_IS_LOCKED, (high, low)).fetchall())[0][0])

    def _key(self, run_id: str) -> int:
        """The number of a run's lock; locks belong to the database, so it depends on the journal too."""
        digest = hashlib.sha256(f"fsm {self._number} {run_id}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], signed=True)

    def _claiming(self, query: str, keys: Sequence[int]) -> list[tuple[Any, ...]]:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if self._claims is None or self._claims.closed:
                    self._claims = self._connected()
                    self._claims.execute(_LOCK, (list(self._held.values()),))  # where another took it, `append` decides
                return self._claims.execute(query, (keys,)).fetchall()
            except psycopg.OperationalError:
                is_alive = self._claims is not None and not self._claims.closed
                if is_alive or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _take_again(self) -> None:
        """Where a connection was lost, that of the claims may be lost too."""
        with self._lock, suppress(psycopg.Error):
            if self._held:
                self._claiming(_LOCK, [])

    def _connected(self) -> Connection:
        db = psycopg.connect(**self._parts, autocommit=True)
        try:
            _configure(db)
        except BaseException:
            db.close()
            raise
        return db


def opened(url: str, prepare: Callable[[Connection, str], int]) -> Server:
    """The connections of this process to a URL, made where there are none yet; to be given back with `closed`.

    Raises:
        UsageError: it is no such URL.
        JournalError: see `Server`.
    """
    parts = {**_PARTS, **_parts_of(url)}
    key = os.getpid(), psycopg.conninfo.make_conninfo(**parts)
    with _GUARD:
        server = _SERVERS.get(key)
        if server is None:
            server = _SERVERS[key] = Server(parts, prepare)
        server.users += 1
        return server


def closed(server: Server) -> None:
    """Give connections back; with the last user they are closed."""
    with _GUARD:
        server.users -= 1
        if not server.users and server.pid == os.getpid():
            for key in [key for key, known in _SERVERS.items() if known is server]:
                del _SERVERS[key]
            server.close()


def _parts_of(url: str) -> dict[str, Any]:
    """What a URL says.

    Raises:
        UsageError: it is none, or reads as nobody can have meant it; then a part of the password would be in messages.
    """
    _, is_url, rest = url.partition("://")
    rest = rest.partition("?")[0] if is_url else ""
    in_password = rest.count("@") != ("@" in rest.partition("/")[0])
    try:
        parts: dict[str, Any] = dict(psycopg.conninfo.conninfo_to_dict(url))
    except psycopg.Error:  # its text may quote a part of the password
        parts = {"port": "none"}
    if in_password or not str(parts.get("port") or 0).replace(",", "").isdecimal():
        msg = (
            "the URL of the journal is none: it looks like postgresql://user:password@host:5432/database, and what is "
            "special in a part of it is written with %: %40 for @, %2F for /"
        )
        raise UsageError(msg)
    return parts


@atexit.register
def _close_all() -> None:
    for server in [server for (pid, _), server in _SERVERS.items() if pid == os.getpid()]:
        server.close()


def one_line(error: BaseException) -> str:
    """What the server said, without line breaks and hints."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _configure(db: Connection) -> None:
    db.execute(_SETTINGS)


def _shown(parts: dict[str, Any]) -> str:
    """A URL for messages: who, where and which database, never the password."""
    user, host, port, name = (
        quote(str(parts.get(part) or ""), safe=",/") for part in ("user", "host", "port", "dbname")
    )
    if host.startswith("/"):  # the folder of a socket
        host, name = "", f"{name}?host={host}"
    return f"postgresql://{user}{user and '@'}{host}{port and ':'}{port}/{name}"
