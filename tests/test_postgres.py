"""The journal in PostgreSQL, on a real server: its tables, the fence, claims, lost connections, crashes, size."""

from __future__ import annotations

import logging
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from _driving import Loop, loop_of
from _postgres import Cluster

from fsm import ConcurrentWriter, JournalError, Record, RunError, UsageError, resume, run, tool
from fsm._summary import Query
from fsm.journal import Keeper, Store
from fsm.stores import _server, open_store
from fsm.stores.postgres import PostgresStore
from fsm.testing import Emulator, replies

OPEN = {"workflow": "W", "state": "asking", "tags": {"tenant": "a"}, "messages": ["hi"]}
TABLES = "SELECT relname, relkind, oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace ORDER BY 1"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server that a test may crash."""
    made = Cluster()
    yield made
    made.do("remove")


@pytest.fixture(scope="module")
def base(request: pytest.FixtureRequest) -> str:
    """The URL of a server that runs."""
    named = os.environ.get("FSM_POSTGRES_URL")
    return named or str(request.getfixturevalue("cluster").url)


def in_schema(base: str, **settings: str) -> str:
    """The URL of an empty schema."""
    name = f"fsm_test_{secrets.token_hex(6)}"
    with psycopg.connect(base, autocommit=True) as db:
        db.execute(f'CREATE SCHEMA "{name}"')
    options = " ".join(f"-c{key}={value}" for key, value in {"search_path": name, **settings}.items())
    return f"{base}{'&' if '?' in base else '?'}options={quote(options)}"


def close_all() -> None:
    for server in _server._SERVERS.values():
        server.close()
    _server._SERVERS.clear()


@pytest.fixture
def url(base: str) -> Iterator[str]:
    """A schema of its own, removed afterwards."""
    made = in_schema(base)
    yield made
    close_all()
    with psycopg.connect(made, autocommit=True) as db:
        db.execute("DO $$ BEGIN EXECUTE 'DROP SCHEMA ' || current_schema() || ' CASCADE'; END $$")


@pytest.fixture
def crashing(cluster: Cluster) -> Iterator[str]:
    """A schema on the server that may be crashed."""
    yield in_schema(cluster.url)
    close_all()
    cluster.do("again")  # a test that failed may have left it down


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(url) as made:
        yield made


def says(first: int, count: int = 1, text: str = "x") -> list[Record]:
    """Records that may stand anywhere."""
    return [Record(first + n, "say", 100.5, {"history": "main", "messages": [f'"{text}"']}) for n in range(count)]


def begun(store: PostgresStore, run_id: str = "r") -> PostgresStore:
    store.append(run_id, [Record(0, "open", 100, OPEN)])
    return store


def other(url: str) -> PostgresStore:
    """A handle with connections of its own, as another process has."""
    return PostgresStore(f"{url}&application_name=other")


def end_backends(url: str) -> None:
    """Cut every connection of this test but the one that cuts."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fsm' "
            "AND pid <> pg_backend_pid()"
        )


def python(code: str, *args: str, **options: Any) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, *args], stdin=pipe, stdout=pipe, text=True, **options)


# ── opening ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_url_leads_to_the_store_and_without_psycopg_to_the_extra(url: str) -> None:
    with open_store(url) as store:
        assert isinstance(store, PostgresStore)
        assert isinstance(store, Store)
        assert isinstance(store, Keeper)
    with open_store(url.replace("postgresql://", "postgres://")) as store:
        assert isinstance(store, PostgresStore)
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from fsm import MissingExtra; from fsm.stores import open_store\n"
        "try: open_store('postgresql://x/y')\n"
        "except MissingExtra as error: print(error.extra, error)"
    )
    assert "claude-fsm[postgres]" in python(code).communicate()[0]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@127.0.0.1:1/journal",
        "postgresql://u:hunter2%zz@127.0.0.1:1/journal",
        "postgresql://u:hunter2@127.0.0.1:port/journal",
        "postgresql://u:p/hunter2@127.0.0.1:1/journal",
        "postgresql://u:p@hunter2@127.0.0.1:1/journal",
        "postgresql://u:hunter2",
        "postgresql://u@127.0.0.1:1/journal?password=hunter2&sslpassword=hunter2",
        "postgresql://u:hunter2@127.0.0.1:1/journal?hunter2=1",
    ],
)
def test_x7_a_server_that_is_not_there_is_named_without_the_password(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_server, "PATIENCE", 0.2)
    with caplog.at_level(logging.DEBUG), pytest.raises((JournalError, UsageError)) as caught:
        open_store(url)
    told = "".join(traceback.format_exception(caught.value)).replace(f'open_store("{url}")', "")
    assert "hunter2" not in told + caplog.text
    assert "postgresql://" in str(caught.value)
    if isinstance(caught.value, JournalError):
        assert "Connection refused" in str(caught.value)


def test_x7_neither_repr_nor_errors_of_an_open_store_hold_the_password(url: str) -> None:
    secret = url.replace("?", "?password=hunter2&", 1)
    with PostgresStore(secret) as store:
        with pytest.raises(RunError) as caught:
            store.summary("nobody")
        assert "hunter2" not in f"{store!r}{caught.value}{store._server!r}{store._server._pool!r}"


def test_many_that_begin_at_once_make_the_tables_once(url: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(lambda n: PostgresStore(f"{url}&application_name=begin{n}"), range(8)))
    begun(stores[0])
    assert [each.summary("r").records for each in stores] == [1] * 8
    for each in stores:
        each.close()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("CREATE TABLE fsm_runs (number INTEGER)", "no whole journal"),
        ("CREATE TABLE fsm_schema (version INTEGER)", "no whole journal"),
        ("DROP TABLE fsm_bodies", "no whole journal"),
        ("UPDATE fsm_schema SET version = 99", "newer version"),
        ("ALTER TABLE fsm_schema RENAME version TO release", "not ours"),
        ("DELETE FROM fsm_schema", "not ours"),
    ],
)
def test_what_is_no_journal_or_newer_is_refused_untouched(url: str, given: str, problem: str) -> None:
    if not given.startswith("CREATE"):
        begun(PostgresStore(url)).close()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(given.encode())
        before = db.execute(TABLES).fetchall()
        with pytest.raises(JournalError, match=problem):
            PostgresStore(url)
        assert db.execute(TABLES).fetchall() == before


def test_a_database_that_cannot_hold_every_text_is_refused(base: str) -> None:
    name = f"fsm_test_{secrets.token_hex(6)}"
    with psycopg.connect(base, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'".encode())
        try:
            with pytest.raises(JournalError, match="ENCODING 'UTF8'"):
                PostgresStore(psycopg.conninfo.make_conninfo(base, dbname=name))
        finally:
            db.execute(f"DROP DATABASE {name}".encode())


def test_a_schema_named_in_the_url_is_a_journal_of_its_own(base: str) -> None:
    here, there = in_schema(base), in_schema(base)
    with PostgresStore(here) as one, PostgresStore(there) as two:
        begun(one)
        begun(two)
        one.append("r", says(1))
        assert (one.summary("r").records, two.summary("r").records) == (2, 1)
        one.claim("r")
        two.claim("r")
        assert one.is_claimed("r")
        two.release("r")
        assert (one.is_claimed("r"), two.is_claimed("r")) == (True, False)


def test_a_commit_is_durable_whatever_the_role_or_url_says(base: str) -> None:
    with PostgresStore(in_schema(base, synchronous_commit="off", statement_timeout="7s")) as store:
        show = "SELECT current_setting('synchronous_commit'), current_setting('statement_timeout')"
        assert store._server.work(lambda db: db.execute(show).fetchone()) == ("on", "7s")


# ── order, fence, claims ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_zombie_fails_on_the_primary_key_and_has_written_nothing(url: str, store: PostgresStore) -> None:
    begun(store)
    store.claim("r")
    store.append("r", says(1))  # from here on this handle knows where the run stands without asking
    with other(url) as winner:
        winner.append("r", says(2, 2, "winner"))
        with pytest.raises(ConcurrentWriter):
            store.append("r", says(2, 3, "zombie"))
    assert [r.data["messages"] for r in store.read("r")][2:] == [['"winner"']] * 2
    assert store.verify("r") is None
    store.append("r", says(4))
    assert store.summary("r").records == 5


def test_a_run_that_was_deleted_meanwhile_is_not_gone_on_with(url: str, store: PostgresStore) -> None:
    begun(store)
    store.claim("r")
    store.append("r", says(1))
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("DELETE FROM fsm_runs")
        with pytest.raises(ConcurrentWriter, match="deleted"):
            store.append("r", says(2))
        assert db.execute("SELECT count(*) FROM fsm_records").fetchone() == (2,)


CONTEST = """
import sys
from fsm import ConcurrentWriter, Record
from fsm.stores import open_store
store = open_store(sys.argv[1])
for line in sys.stdin:
    n = int(line)
    record = Record(n, "say", 1.0, {"history": "main", "messages": ['"%s"' % sys.argv[2]]})
    won = claimed = True
    try:
        store.append("r", [record])
    except ConcurrentWriter:
        won = False
    try:
        store.claim("claim %d" % n)
    except ConcurrentWriter:
        claimed = False
    print(int(won), int(claimed), flush=True)
"""


def test_k7_two_processes_on_one_run_one_wins_each_round(url: str, store: PostgresStore) -> None:
    begun(store)
    both = [python(CONTEST, url, name) for name in "ab"]
    winners = []
    for n in range(1, 51):
        for each in both:
            each.stdin.write(f"{n}\n")
            each.stdin.flush()
        told = [each.stdout.readline().split() for each in both]
        assert sorted(won for won, _ in told) == ["0", "1"]
        assert sorted(claimed for _, claimed in told) == ["0", "1"]
        winners.append(["a", "b"][told[1][0] == "1"])
    for each in both:
        each.communicate()
    assert [r.data["messages"] for r in store.read("r", 1)] == [[f'"{name}"'] for name in winners]
    assert store.verify("r") is None


def test_kill_9_of_a_process_ends_its_claims(url: str, store: PostgresStore) -> None:
    code = "import sys; from fsm.stores import open_store; open_store(sys.argv[1]).claim('r'); print(1, flush=True)\n"
    child = python(code + "sys.stdin.read()", url)
    assert child.stdout.readline() == "1\n"
    assert store.is_claimed("r")
    with pytest.raises(ConcurrentWriter, match="another process"):
        store.claim("r")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    deadline = time.monotonic() + 30
    while store.is_claimed("r") and time.monotonic() < deadline:
        time.sleep(0.01)
    store.claim("r")


def test_a_fork_has_connections_and_claims_of_its_own(url: str) -> None:
    code = """
import os, sys, time, warnings
warnings.simplefilter("ignore")
from fsm import ConcurrentWriter, Record
from fsm.stores import open_store
say = lambda n: [Record(n, "say", 1.0, {"history": "main", "messages": []})]
store = open_store(sys.argv[1])
store.append("r", [Record(0, "open", 1.0, {"workflow": "W", "state": "s", "tags": {}, "messages": []})])
store.claim("r")
child = os.fork()
if not child:
    try:
        store.claim("r")
    except ConcurrentWriter:
        store.claim("child")
        store.append("r", say(1))
        sys.exit(7)
status = os.waitpid(child, 0)[1]
store.append("r", say(2))
while store.is_claimed("child"):  # it ends with the connection of the child
    time.sleep(0.01)
print(os.waitstatus_to_exitcode(status), store.is_claimed("r"), len(list(store.read("r"))))
"""
    assert python(code, url).communicate(timeout=60)[0].split() == ["7", "True", "3"]


# ── lost connections and crashes ────────────────────────────────────────────────────────────────────────────────────


def turns(count: int) -> list[Any]:
    return [replies.tool_use("find", {"number": str(n)}) for n in range(count)] + [replies.text("done")]


def kinds(store: Any, run_id: str) -> list[str]:
    return [record.kind for record in store.read(run_id)]


def test_a_run_goes_on_through_cut_connections(url: str, store: PostgresStore) -> None:
    """Backends are ended all the time, also inside commits: each commit counts once, and no run notices."""
    with Emulator(turns(3)).client() as client:
        expected = kinds(run(Loop, "Hi.", client=client, journal=store, run_id="calm")._store, "calm")
    stop = threading.Event()

    def cut() -> None:
        chance = random.Random(7)
        while not stop.wait(chance.uniform(0, 0.3)):
            end_backends(url)

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        for n in range(6):
            with Emulator(turns(3)).client() as client:
                result = run(Loop, "Hi.", client=client, journal=url, run_id=f"cut {n}")
            assert result.ok
    finally:
        stop.set()
        cutter.join()
    for n in range(6):
        assert kinds(store, f"cut {n}") == expected
        assert store.verify(f"cut {n}") is None


def test_claims_are_taken_again_after_the_connections_were_cut(url: str, store: PostgresStore) -> None:
    begun(store)
    store.claim("r")
    end_backends(url)
    store.append("r", says(1))
    with other(url) as second, pytest.raises(ConcurrentWriter, match="another process"):
        second.claim("r")


def test_a_commit_whose_answer_was_lost_is_found_to_have_counted(cluster: Cluster, crashing: str) -> None:
    """The backend is ended after the commit and before the answer: while it waits for a replica that is not there."""
    with PostgresStore(crashing) as store, psycopg.connect(cluster.url, autocommit=True) as db:

        def cuts(run_id: str, records: list[Record]) -> int:
            waits = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            count, deadline = 0, time.monotonic() + 30
            with ThreadPoolExecutor(1) as threads:
                doing = threads.submit(store.append, run_id, records)
                while not doing.done() and time.monotonic() < deadline:
                    count += len(db.execute(waits).fetchall())
                doing.result(1)
            return count

        begun(store)
        db.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        db.execute("SELECT pg_reload_conf()")
        try:
            last = 1
            while not cuts("r", says(last)) and last < 1000:  # the server takes it up some time after
                last += 1
            assert cuts("r", says(last + 1, 2))
            assert cuts("new", [Record(0, "open", 100, OPEN)])
        finally:
            db.execute("ALTER SYSTEM RESET synchronous_standby_names")
            db.execute("SELECT pg_reload_conf()")
        assert (len(list(store.read("r"))), len(list(store.read("new")))) == (last + 3, 1)
        store.append("r", says(last + 3))
        assert store.verify("r") is None


def test_a_run_outlives_a_crash_of_the_server(cluster: Cluster, crashing: str) -> None:
    begins = threading.Thread(target=cluster.do, args=("again",))

    @tool
    def find(number: str) -> str:
        """Find."""
        if number == "1":
            cluster.do("crash")
            begins.start()
        return number

    with Emulator(turns(3)).client() as client:
        result = run(loop_of(find), "Hi.", client=client, journal=crashing, run_id="r")
    begins.join()
    assert result.ok
    with other(crashing) as store:
        assert store.verify("r") is None
        assert kinds(store, "r").count("tool.end") == 3


def test_a_run_is_resumed_after_a_server_that_stayed_away(
    cluster: Cluster, crashing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B3, B4: nothing that was committed is lost, and no tool runs twice."""
    monkeypatch.setattr(_server, "PATIENCE", 0.3)
    ran: list[str] = []
    is_up = True

    @tool
    def find(number: str) -> str:
        """Find."""
        nonlocal is_up
        ran.append(number)
        if number == "1" and is_up:
            cluster.do("crash")
            is_up = False
        return number

    workflow = loop_of(find)
    emulator = Emulator(turns(3))
    with emulator.client() as client:
        with pytest.raises(JournalError):
            run(workflow, "Hi.", client=client, journal=crashing, run_id="r")
        monkeypatch.setattr(_server, "PATIENCE", 10.0)
        cluster.do("again")
        result = resume(workflow, "r", client=client, journal=crashing)
    assert result.ok
    assert ran == ["0", "1", "2"]
    with other(crashing) as store:
        assert store.verify("r") is None
        assert [n for n, r in enumerate(store.read("r")) if r.seq != n] == []


def test_a_commit_in_doubt_stops_the_run_until_it_is_read(
    cluster: Cluster, crashing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_server, "PATIENCE", 0.3)
    with PostgresStore(crashing) as store:
        begun(store)
        begun(store, "calm")
        with closing(psycopg.connect(crashing, autocommit=True)) as db, ThreadPoolExecutor(1) as threads:
            db.execute("BEGIN; LOCK TABLE fsm_records")
            doing = threads.submit(store.append, "r", says(1))
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            deadline = time.monotonic() + 30
            while db.execute(waits).fetchone() == (0,) and time.monotonic() < deadline:
                time.sleep(0.01)
            cluster.do("crash")
            with pytest.raises(JournalError, match="not known whether it counted"):
                doing.result(60)
        with pytest.raises(JournalError, match=r"nothing of it counts|cannot be read"):  # nothing was sent
            store.append("calm", says(1))
        cluster.do("again")
        with pytest.raises(JournalError, match="read the run first"):
            store.append("r", says(1))
        monkeypatch.setattr(_server, "PATIENCE", 10.0)
        assert len(list(store.read("r"))) == 1
        store.append("r", says(1))
        store.append("calm", says(1))
        assert store.summary("r").records == store.summary("calm").records == 2


def test_what_the_server_refuses_does_not_count_and_does_not_poison(store: PostgresStore, url: str) -> None:
    begun(store)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("ALTER TABLE fsm_bodies ADD CHECK (octet_length(body) < 1000)")
        with pytest.raises(JournalError, match="nothing of it counts"):
            store.append("r", says(1, 2, "x" * 2000))
    store.append("r", says(1))
    assert (len(list(store.read("r"))), store.verify("r")) == (2, None)
    for name in ("nul \0", "lone \ud800"):
        with pytest.raises(JournalError):
            begun(store, name)


# ── what is kept ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_said_is_given_back_as_it_was(store: PostgresStore) -> None:
    text = 'nul \\u0000 quote \\" é 🎈 \\\\x00 {NULL}'
    begun(store)
    store.append("r", says(1, 3, text))
    assert [r.data["messages"][0] for r in store.read("r", 1)] == [f'"{text}"'] * 3


def test_a_body_that_was_changed_in_the_database_is_found(url: str, store: PostgresStore) -> None:
    begun(store).append("r", says(1, 2))
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("UPDATE fsm_bodies SET body = 'x' WHERE seq = 1")
        assert store.verify("r") == "the body of record 1 was changed"
        with pytest.raises(JournalError, match="damaged"):
            list(store.read("r"))
        db.execute("DELETE FROM fsm_records WHERE seq = 2")
        assert store.verify("r") is not None


def test_erased_runs_verify_and_deleted_ones_are_gone(url: str, store: PostgresStore) -> None:
    begun(store).append("r", says(1))
    with pytest.raises(RunError, match="not ended"):
        store.erase("r")
    store.erase("r", unfinished=True)
    assert store.verify("r") is None
    assert [record.kind for record in store.outline("r")] == ["open", "say"]
    with pytest.raises(JournalError, match="erased"):
        list(store.read("r"))
    store.claim("r")
    with pytest.raises(ConcurrentWriter):
        store.delete("r", unfinished=True)
    store.release("r")
    assert store.purge(Query(tags={"tenant": "b"}), unfinished=True) == ()
    assert store.purge(Query(tags={"tenant": "a"})) == ()
    assert store.purge(Query(tags={"tenant": "a"}, before=200.0), unfinished=True) == ("r",)
    with psycopg.connect(url) as db:
        assert db.execute("SELECT count(*) FROM fsm_records, fsm_bodies").fetchone() == (0,)


# ── many, and much ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_thousand_runs_in_threads_do_not_mix(store: PostgresStore) -> None:
    def one(n: int) -> None:
        name = f"run {n}"
        store.claim(name)
        begun(store, name)
        for turn in range(5):
            store.append(name, says(1 + turn * 3, 3, f"{name}.{turn}"))
        store.release(name)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(one, range(1000)))
    assert len(list(store.runs())) == 1000
    for n in range(0, 1000, 7):
        said = [record.data["messages"][0] for record in store.read(f"run {n}", 1)]
        assert said == [f'"run {n}.{turn}"' for turn in range(5) for _ in range(3)]
        assert store.verify(f"run {n}") is None
    with store._server._pool.connection() as db:
        counted = db.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert counted == (0,)
    assert store._server._pool.get_stats()["pool_size"] <= _server.POOL


def test_whole_runs_in_threads_do_not_mix(url: str) -> None:
    def one(n: int) -> Any:
        script = [replies.tool_use("find", {"number": f"{n}.{turn}"}) for turn in range(5)] + [
            replies.text(f"done {n}")
        ]
        with Emulator(script).client() as client:
            return run(Loop, f"Hi {n}.", client=client, journal=url, run_id=f"run {n}")

    with ThreadPoolExecutor(16) as threads:
        results = list(threads.map(one, range(64)))
    with PostgresStore(url) as store:
        for n, result in enumerate(results):
            assert (result.ok, result.text) == (True, f"done {n}")
            said = str(list(store.read(f"run {n}")))
            assert all(f"order {n}.{turn}" in said for turn in range(5))
            assert store.summary(f"run {n}").turns == 6


def test_a_hundred_thousand_records_are_read_with_bounded_memory(store: PostgresStore) -> None:
    begun(store)
    for first in range(1, 100_000, 10_000):
        store.append("r", says(first, 10_000, "x" * 100))
    store.append("r", says(100_001, 40, "y" * 1_000_000))  # a page ends with a megabyte too
    assert sum(1 for _ in store.read("r")) == 100_041
    tracemalloc.start()  # which takes its time: the last tenth, and 40 MB
    try:
        assert sum(1 for _ in store.read("r", 90_001)) == 10_040
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()
    assert next(store.read("r", 99_999)).seq == 99_999
