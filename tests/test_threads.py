"""The threads that run tools and write journals: as many as work at once, and gone when nothing is left to do."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from _driving import loop_of

from fsm import arun, tool
from fsm.drivers import _threads
from fsm.drivers._threads import Threads
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies

LONG = 60.0


def alive(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def at_once(threads: Threads, count: int) -> list[int]:
    """So many jobs, each of which waits until all are begun, or as many as there may be."""
    done, gate, lock = [], threading.Event(), threading.Semaphore(0)

    def job() -> None:
        gate.wait(LONG)

    def finish(_: Any) -> None:
        done.append(1)
        lock.release()

    for _ in range(count):
        threads.run(job, finish)
    gate.set()
    for _ in range(count):
        assert lock.acquire(timeout=LONG)
    return done


@pytest.mark.parametrize("limit", [None, 8])
def test_threads_that_have_nothing_to_do_end_and_are_made_again(limit: int | None) -> None:
    threads = Threads(name := f"test {limit}", limit=limit, idle=0.01)
    for _ in range(3):
        assert len(at_once(threads, 20)) == 20
        assert len(alive(name)) <= (limit or 20)
        for thread in alive(name):
            thread.join(LONG)
        assert alive(name) == []
    assert threads._made == 0


def test_threads_that_end_lose_no_job() -> None:
    """A job is given to a thread in the moment in which it would end."""
    threads = Threads("test race", limit=2, idle=0.0)
    for _ in range(300):
        assert len(at_once(threads, 3)) == 3


@pytest.mark.parametrize("limit", [None, 1])
def test_a_thread_that_cannot_be_made_is_not_counted(monkeypatch: pytest.MonkeyPatch, limit: int | None) -> None:
    """Or else jobs would wait for ever for threads that never were."""
    threads = Threads("test none", limit=limit)

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError):
            threads.run(lambda: None, lambda _: None)
    assert len(at_once(threads, 1)) == 1


def test_a_storm_of_cancellations_leaves_no_thread(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads.THREADS, "_idle_for", 0.01)
    monkeypatch.setattr(_threads.WRITERS, "_idle_for", 0.01)
    before = set(threading.enumerate())  # those of other tests wait longer
    begun = threading.Semaphore(0)

    @tool
    def look(number: int) -> str:
        """Look."""
        begun.release()
        return f"looked {number}"

    workflow: Any = loop_of(look)

    async def storm(store: SqliteStore) -> None:
        def script(body: Any) -> Any:
            return replies.tool_use("look", {"number": 1})

        async with Emulator(script).async_client() as client:
            tasks = [asyncio.create_task(arun(workflow, "Hi.", client=client, journal=store)) for _ in range(30)]
            assert await asyncio.to_thread(begun.acquire, timeout=LONG)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with SqliteStore(tmp_path / "runs.db") as store:
        for _ in range(2):
            asyncio.run(storm(store))
            for thread in {*alive("fsm-tool"), *alive("fsm-writer")} - before:
                thread.join(LONG)
            assert {*alive("fsm-tool"), *alive("fsm-writer")} <= before
        assert {store.verify(run.run_id) for run in store.runs()} == {None}
