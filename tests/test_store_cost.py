"""What is stored, how much of it, and by how many: rows that come back as records, size a turn, shared handles."""

from __future__ import annotations

import gc
import sqlite3
import threading
import tracemalloc
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from _driving import Loop
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm import ConcurrentWriter, JournalError, MemoryStore, Record, resume, run
from fsm._encoded import encode
from fsm._spoken import BODIES, joined, split
from fsm._summary import Query
from fsm.stores import shared_store
from fsm.stores._group import Group, Job
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies

BEYOND = 700  # bytes a turn beyond the content, as issue and README promise
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4) | st.just("ab" * 32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "event", "message", "content", "request_id", "price", "output", "n", "state", "history", "hash", "attempt",
    "guard", "effects", "implied", "index", "source", "dest", "evidence", "ends", "messages", "tags", "type", "role",
    "stop_reason", "stop_details", "h", "s", "r", "m", "stop_sequence", "usage", "id",
)  # fmt: skip
MESSAGE = st.dictionaries(st.sampled_from(FIELDS), JSON | st.sampled_from(["message", "assistant", "end_turn"]))
DATA = st.dictionaries(
    st.sampled_from(FIELDS), JSON | MESSAGE | st.sampled_from(["main", 1, [], False, 0, 0.0, True, None, "end_turn"])
)


def begin(run_id: str, tags: dict[str, str] | None = None, at: float = 1.8e9, workflow: str = "W") -> Record:
    data = {"workflow": workflow, "state": "asking", "run_id": run_id, "messages": ["hello"], "tags": tags or {}}
    return Record(0, "open", at, {**data, "systems": {}, "heads": {}, "carried": {}, "limits": {}})


def test_whatever_a_record_holds_its_parts_make_it_again() -> None:
    @settings(max_examples=600, deadline=None)
    @given(st.sampled_from([*BODIES, "request", "park", "wake"]), DATA)
    def holds(kind: str, data: dict[str, Any]) -> None:
        rest, body = split(Record(0, kind, 0.0, data))
        again = joined(kind, rest, body)
        assert again == data
        assert encode(sorted(again)) == encode(sorted(data))
        assert {name: type(value) for name, value in again.items()} == {n: type(v) for n, v in data.items()}
        assert not (set(BODIES.get(kind, ())) - {"message"}) & set(rest)

    holds()


def _content(records: tuple[Record, ...]) -> int:
    """Bytes that models and tools said, with the API's own message fields."""
    size = 0
    for record in records:
        if record.kind == "reply":
            size += len(encode(record.data["message"])) + len(record.data["content"].encode())
            size += len(record.data["request_id"] or "")
        elif record.kind == "tool.end":
            size += sum(len(encode(content)) for _, content, *_ in record.data["ends"])
    return size


def test_a_turn_takes_at_most_700_bytes_beyond_what_was_said(tmp_path: Path) -> None:
    """After a checkpoint, over 200 turns, with ids as long as the API's; so a journal grows by the turn, no faster."""
    sizes, contents = [], []
    for turns in (20, 220):
        path = tmp_path / f"{turns}.db"
        script = [replies.tool_use("find", {"number": f"{n}"}) for n in range(turns)] + [replies.text("done")]
        with Emulator(script).client() as client, SqliteStore(path) as store:
            contents.append(_content(run(Loop, "go", client=client, journal=store).records))
        sizes.append(path.stat().st_size)  # closing the last handle empties the log into the file
    beyond = ((sizes[1] - sizes[0]) - (contents[1] - contents[0])) / 200
    assert beyond <= BEYOND, f"{beyond:.0f} bytes a turn beyond the content"
    with closing(sqlite3.connect(path)) as db:
        commits, rows = db.execute("SELECT count(hash), count(*) FROM records").fetchone()
    assert commits == 2 * 220 + 2, "two commits a turn, one before the first and one for the end"
    assert rows <= 6 * 220 + 6


def test_runs_are_filtered_in_a_file_as_in_memory(tmp_path: Path) -> None:
    names = st.sampled_from(["a", 'b"c', "d.e$[0]", "", "é%'_", "nul\0"])
    tags = st.dictionaries(names, names, max_size=2)
    steps = st.sampled_from(["open", "asked", "park", "close"])
    number = iter(range(10**6))
    wanted = st.builds(
        Query,
        state=st.sampled_from([None, "asking", "answered"]),
        status=st.sampled_from([None, "running", "parked", "ended"]),
        waits_for=st.sampled_from([None, "person", "api"]),
        workflow=st.sampled_from([None, "V", "W"]),
        before=st.sampled_from([None, 2.0, 3.0]),
        after=st.sampled_from([None, 1.0, 3.0]),
        tags=tags,
    )
    more: dict[str, dict[str, Any]] = {
        "asked": {"kind": "words", "prompt": "?", "why": "", "expires_at": 9.0},
        "park": {"reason": "waiting_person"},
        "close": {"state": "answered", "ok": True, "reason": "end_turn", "evidence": {}},
    }

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(st.tuples(steps, tags, st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from(["V", "W"])), max_size=6),
        st.lists(wanted, min_size=1, max_size=8),
    )
    def same(runs: list[tuple[str, dict[str, str], float, str]], queries: list[Query]) -> None:
        memory = MemoryStore()
        with SqliteStore(tmp_path / f"{next(number)}.db") as file:
            for place, (step, tagged, at, workflow) in enumerate(runs):
                records = [begin(f"r{place}", tagged, at, workflow)]
                records += [Record(1, step, at, more[step])] if step in more else []
                for store in (memory, file):
                    store.append(f"r{place}", records)
            for query in queries:
                assert list(file.runs(query)) == list(memory.runs(query)), query

    same()


def test_a_path_is_opened_once_and_closed_with_its_last_result(tmp_path: Path) -> None:
    """`journal="runs.db"`: one handle a process, also for a relative name; what a `Result` holds stays readable."""
    path = tmp_path / "runs.db"
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with Emulator([replies.text("done")] * 3).client() as client:
            first = run(Loop, "go", client=client, journal=path)
            second = run(Loop, "go", client=client, journal=str(path))
        store = shared_store(path)
        assert first._store is second._store is store
        assert [record.seq for record in first.records] == list(range(6))
        assert resume(Loop, second.run_id, journal=path).state == "answered"
        del first, second, store
        gc.collect()
        assert not path.with_name("runs.db-wal").exists(), "the last handle was closed: its log is in the file"
        assert len(list(shared_store(path).runs())) == 2


def test_a_file_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    old = shared_store(path)
    for each in tmp_path.iterdir():
        each.unlink()
    new = shared_store(path)
    assert new is not old
    new.append("r", [begin("r")])
    with pytest.raises(JournalError, match="open it anew"):
        old.append("r", [begin("r")])


def test_commits_that_wait_go_to_the_disk_together_and_a_refused_one_alone_fails(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        store.append("late", [begin("late")])
        sizes: list[int] = []
        commit = store._commit
        store._group._commit = lambda jobs: (sizes.append(len(jobs)), commit(jobs))[1]  # what really goes together
        outcomes: Counter[str] = Counter()

        def write(run_id: str) -> None:
            try:
                store.append(run_id, [begin(run_id)])
                outcomes["written"] += 1
            except ConcurrentWriter:
                outcomes["refused"] += 1

        names = [f"r{n}" for n in range(8)] + ["late"]
        threads = [threading.Thread(target=write, args=(name,)) for name in names]
        with store._lock:  # a commit that takes long
            for thread in threads:
                thread.start()
            while len(store._group._queue) < len(names):
                pass
        for thread in threads:
            thread.join()
        assert outcomes == {"written": 8, "refused": 1}
        assert sizes == [9], "one transaction for all that waited"
        assert {each.run_id for each in store.runs()} == set(names)


def test_an_interrupted_commit_leaves_nothing_that_another_thread_writes_later() -> None:
    """Ctrl-C while it waits, or while it leads: its own job is gone, those of the others are not."""
    lock, done = threading.RLock(), []

    def interrupted(jobs: list[Job]) -> None:
        if len(done) == 0 and jobs[0].what == "first":
            raise KeyboardInterrupt
        for job in jobs:
            done.append(job.what)
            job.is_done = True

    group = Group(lock, interrupted)
    waiting = Job("second")
    group._queue.append(waiting)  # another thread waits for the lock
    group._queue.appendleft(mine := Job("first"))
    with pytest.raises(KeyboardInterrupt):
        group._lead(mine)
    group._queue.remove(mine)
    with pytest.raises(KeyboardInterrupt):
        group.add("first") if not group._queue.remove(waiting) else None
    assert not group._queue
    group._queue.append(waiting)
    group.add("third")
    assert done == ["second", "third"]
    assert waiting.is_done


def test_a_long_journal_is_read_and_listed_a_part_at_a_time(tmp_path: Path) -> None:
    """K10: 12 MB of records and 3,000 runs within a few megabytes of memory."""
    with SqliteStore(tmp_path / "runs.db") as store:
        store.append("long", [begin("long")])
        for first in range(1, 601, 100):
            said = {"history": "main", "messages": ["x" * 20_000], "words": False}
            store.append("long", [Record(seq, "say", 1.0, said) for seq in range(first, first + 100)])
        store._db.execute("PRAGMA synchronous = OFF")  # 3,000 syncs show nothing here
        for number in range(3000):
            store.append(f"r{number}", [begin(f"r{number}")])
        gc.collect()
        tracemalloc.start()
        try:
            assert sum(1 for _ in store.read("long")) == 601
            assert sum(1 for _ in store.runs()) == 3001
            assert store.verify("long") is None
            assert tracemalloc.get_traced_memory()[1] < 6 << 20
        finally:
            tracemalloc.stop()
