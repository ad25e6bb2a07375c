"""Many conversations in one process: nobody sees another's data, and one run has one driver (C1, C3, C5)."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _driving import MODEL, loop_of
from _exhausted import AT_ONCE
from _resources import nothing_left

from fsm import (
    Claude,
    ConcurrentWriter,
    Context,
    Final,
    MemoryStore,
    Result,
    RunError,
    Store,
    Tools,
    Workflow,
    arun,
    run,
    tool,
)
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply
from fsm.testing.server import serve

CONVERSATIONS = 200
TURNS = 8
THREADS = 64


def _nonce(number: int) -> str:
    return f"nonce-{number:04d}"


@tool
async def echo(ctx: Context[str], word: str) -> str:
    """Say it again."""
    assert word.split(maxsplit=1)[0] == ctx.deps, "a call of another conversation"
    return f"{word} / {ctx.deps}"


@tool
def shout(ctx: Context[str], word: str) -> str:
    """Say it again, in a thread."""
    assert word.split(maxsplit=1)[0] == ctx.deps, "a call of another conversation"
    return f"{word} / {ctx.deps}"


class Echo(Workflow):
    """Says a word again and again."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[echo, shout])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


def _api(turns: int, latency: Callable[[], float] | float = 0.0) -> Emulator:
    """Answers each with its own nonce: calls, then a text."""

    def reply(body: dict[str, Any]) -> Reply:
        nonce = body["messages"][0]["content"][0]["text"].split()[-1]
        turn = sum(m["role"] == "assistant" for m in body["messages"])
        if turn >= turns:
            return replies.text(f"done, {nonce}")
        return replies.tool_use(("echo", "shout")[turn % 10 == 3], {"word": f"{nonce} {turn}"})

    return Emulator(reply, latency=latency)


def _check(result: Result, number: int, turns: int) -> None:
    """All that a conversation was told, said and called holds its own nonce and no other."""
    assert result.text == f"done, {_nonce(number)}"
    said = json.dumps(result.messages)
    assert said.count("nonce-") == said.count(_nonce(number)) == 1 + 3 * turns + 1
    kept = json.dumps([dict(record.data) for record in result.records], default=str)
    assert kept.count("nonce-") == kept.count(_nonce(number))


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_no_conversation_sees_another(kind: str, tmp_path: Path) -> None:
    """C1, C6: many turns each, with a latency that mixes them; asyncio's debug mode is silent, and nothing is left."""
    rolls = random.Random(3)
    count, turns = (CONVERSATIONS, TURNS) if kind == "memory" else (CONVERSATIONS // 4, TURNS // 4)
    emulator = _api(turns, lambda: rolls.uniform(0.0, 0.002))

    async def one(client: Any, store: Store, number: int) -> None:
        name = _nonce(number)
        _check(await arun(Echo, f"I am {name}", client=client, deps=name, journal=store, run_id=name), number, turns)

    async def main(store: Store) -> None:
        async with emulator.async_client() as client:
            await asyncio.gather(*(one(client, store, number) for number in range(count)))
        assert len(list(store.runs())) == count

    with nothing_left():
        if kind == "memory":
            asyncio.run(main(MemoryStore()))
        else:
            with SqliteStore(tmp_path / "runs.db") as store:
                asyncio.run(main(store), debug=True)
    for request in emulator.requests:
        assert request.raw.count(b"nonce-") == request.raw.count(request.raw[request.raw.index(b"nonce-") :][:10])
    assert len(emulator.requests) == count * (turns + 1)


def test_threads_each_with_a_run_of_its_own(tmp_path: Path) -> None:
    """C3: 64 threads, one SQLite file."""
    emulator, results, failed = _api(3), {}, []
    start = threading.Barrier(THREADS)

    def drive(number: int, store: SqliteStore) -> None:
        try:
            with emulator.client() as client:
                start.wait(30)
                name = _nonce(number)
                results[number] = run(Echo, f"I am {name}", client=client, deps=name, journal=store, run_id=name)
        except BaseException as error:  # noqa: BLE001 - told to the test
            failed.append(error)

    with SqliteStore(tmp_path / "runs.db") as store:
        threads = [threading.Thread(target=drive, args=(n, store)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failed
        for number, result in results.items():
            _check(result, number, 3)
            assert store.verify(_nonce(number)) is None
        assert len(list(store.runs())) == THREADS


class _Unclaimed:
    """A store that lets two drive one run, so that the fence of `append` has to hold alone."""

    def __init__(self, store: Any) -> None:
        self.append, self.read, self.summary, self.runs = store.append, store.read, store.summary, store.runs

    def claim(self, run_id: str) -> None:
        """Everybody may."""

    def release(self, run_id: str) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("fence", ["claim", "append"])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_one_run_driven_from_many_threads_has_one_winner(kind: str, fence: str, tmp_path: Path) -> None:
    """C3, K7: the losers get `ConcurrentWriter` and have written nothing; the journal is whole."""
    kept: Any = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "runs.db")
    store: Store = kept if fence == "claim" else _Unclaimed(kept)
    for turn in range(10):
        name, outcomes = _nonce(turn), []
        start = threading.Barrier(8)

        def drive(name: str = name, outcomes: list[Any] = outcomes, start: threading.Barrier = start) -> None:
            with _api(3).client() as client:
                start.wait(30)
                try:
                    outcomes.append(run(Echo, f"I am {name}", client=client, deps=name, journal=store, run_id=name))
                except Exception as error:  # noqa: BLE001 - looked at below
                    outcomes.append(error)

        threads = [threading.Thread(target=drive) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        won = [each for each in outcomes if isinstance(each, Result)]
        lost = [each for each in outcomes if not isinstance(each, Result)]
        assert len(won) == 1, outcomes
        # RunError: it came when the winner's first record was there, so there was a run of that name.
        assert {type(each) for each in lost} <= {ConcurrentWriter, RunError}, lost
        _check(won[0], turn, 3)
        records = list(store.read(name))
        assert [r.seq for r in records] == list(range(len(records)))
        if kind == "sqlite":
            assert kept.verify(name) is None
    getattr(kept, "close", lambda: None)()


def test_one_run_driven_from_two_tasks_has_one_winner(tmp_path: Path) -> None:
    """C3: within one loop, too, also while the other one waits for its commit."""

    async def main(store: SqliteStore, number: int) -> list[Any]:
        name = _nonce(number)
        async with _api(3).async_client() as client:
            options: dict[str, Any] = {"client": client, "deps": name, "journal": store, "run_id": name}
            drives = [arun(Echo, f"I am {name}", **options) for _ in range(4)]
            return await asyncio.gather(*drives, return_exceptions=True)

    with SqliteStore(tmp_path / "runs.db") as store:
        for number in range(10):
            outcomes = asyncio.run(main(store, number))
            won = [each for each in outcomes if isinstance(each, Result)]
            assert len(won) == 1
            assert {type(each) for each in outcomes if not isinstance(each, Result)} <= {ConcurrentWriter, RunError}
            _check(won[0], number, 3)
            assert store.verify(_nonce(number)) is None


def test_without_descriptors_failures_have_names_and_nothing_is_lost(tmp_path: Path, root: Path) -> None:
    """C5: 100 runs in a process that may open 64 files; what could not connect waited, was parked, and went on."""
    script = Path(__file__).with_name("_exhausted.py")

    def reply(body: dict[str, Any]) -> Reply:
        asked = len(body["messages"]) == 1
        return replies.tool_use("charge", {"number": 1}) if asked else replies.text("done")

    emulator = Emulator(reply, latency=0.05)
    with serve(emulator) as server:
        done = subprocess.run(
            [sys.executable, str(script), server.url, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(script.parent)])},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["reasons"]) <= {"end_turn", "waiting_api"}, told
    assert "connection_error" in told["events"], "there were too few descriptors"
    assert told["ends"] == ["answered"]
    assert (told["calls"], told["different"], told["problems"]) == (AT_ONCE, AT_ONCE, [])
    assert "cannot be made" in told["refused"] or "cannot open" in told["refused"], told["refused"]


def test_a_slow_disk_does_not_stop_the_event_loop() -> None:
    """A store that says `blocks` commits in a thread: others go on meanwhile, and the order of the writes holds."""
    entered, release = threading.Event(), threading.Event()

    class Stuck(MemoryStore):
        blocks = True

        def append(self, run_id: str, records: Any) -> None:
            if run_id == "slow":
                entered.set()
                assert release.wait(10), "the loop stood still"
            super().append(run_id, records)

    store, emulator = Stuck(), Emulator(lambda body: replies.text("done"))

    async def main() -> None:
        async with emulator.async_client() as client:
            workflow = loop_of(echo)
            slow = asyncio.create_task(arun(workflow, "Hi.", client=client, deps="", journal=store, run_id="slow"))
            while not entered.is_set():  # noqa: ASYNC110 - set by a thread
                await asyncio.sleep(0)
            result = await arun(workflow, "Hi.", client=client, deps="", journal=store, run_id="quick")
            assert result.ok
            assert not emulator_has_heard(slow)
            release.set()
            assert (await slow).ok

    def emulator_has_heard(slow: asyncio.Task[Any]) -> bool:
        return slow.done() or len(emulator.requests) > 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
