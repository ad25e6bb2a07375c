"""Processes that are told to stop: each drives runs and is sent SIGTERM at a random moment; forked for the tests.

`python _drained.py FOLDER ROUNDS SEED sync|async` prints one line of JSON a round. It has one thread of its own, so
forking is safe.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import frozen

from fsm import Claude, Context, Final, Tools, Workflow, aresume, arun, draining, resume, run, tool
from fsm._conversation._fold import UNKNOWN_OUTCOME
from fsm._prices import price_of
from fsm.journal import has_run
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

MODEL = "claude-sonnet-5"
TURNS = 12
AT_ONCE = 2
MOMENTS = 0.2  # seconds in which the signal comes
ENDED, STOPPED, BROKEN = 0, 75, 1


@frozen
class Effects:
    """A file that keeps every effect, whatever happens to the process."""

    file: Path

    def add(self, ctx: Context[Any], what: str) -> None:
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, f"{what} {ctx.run_id} {ctx.tool_use_id}\n".encode())
        os.close(descriptor)


@tool
def charge(ctx: Context[Effects], number: int) -> str:
    """Charge, in a thread."""
    ctx.deps.add(ctx, "charge")
    time.sleep(0.003)
    return f"charged {number}"


@tool
async def book(ctx: Context[Effects], number: int) -> str:
    """Book."""
    ctx.deps.add(ctx, "book")
    await asyncio.sleep(0.004)
    return f"booked {number}"


class Plain(Workflow):
    """One question."""

    asking = Claude(model=MODEL, max_tokens=100)
    answered = Final()
    asking.on(end_turn=answered)


class Worker(Workflow):
    """Many turns of two tools side by side."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[charge, book])
    calling = Tools()
    answered = Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


def api() -> Emulator:
    def reply(body: dict[str, Any]) -> Reply:
        turns = sum(m["role"] == "assistant" for m in body["messages"])
        if turns >= TURNS:
            return replies.text("done")
        return replies.tool_uses(("charge", {"number": turns}), ("book", {"number": turns}))

    return Emulator(reply, latency=0.004, seed=os.getpid())  # its ids are those of this process


def _driven(folder: Path, begun: Callable[[], None]) -> int:
    """One run after the other, as a worker does, until there is nothing to do or the process is told to stop."""
    deps = Effects(folder / "effects")
    with SqliteStore(folder / "runs.db") as store, api().client() as client, draining(grace=10) as drain:
        begun()
        for number in range(AT_ONCE):
            if drain.requested:
                break
            run_id = f"r{number}"
            if not has_run(store, run_id):
                result = run(Worker, "Hi.", client=client, journal=store, deps=deps, run_id=run_id)
            else:
                result = resume(Worker, run_id, client=client, journal=store, deps=deps)
            assert result.ok or (result.parked and drain.requested), result.verdict
        return STOPPED if drain.requested else ENDED


async def _driven_async(folder: Path, begun: Callable[[], None]) -> int:
    """Some runs at once, with the signals taken inside the loop."""
    deps = Effects(folder / "effects")
    with SqliteStore(folder / "runs.db") as store, draining(grace=10) as drain:
        async with api().async_client() as client:

            async def one(run_id: str) -> Any:
                options: dict[str, Any] = {"client": client, "journal": store, "deps": deps}
                if has_run(store, run_id):
                    return await aresume(Worker, run_id, **options)
                return await arun(Worker, "Hi.", run_id=run_id, **options)

            begun()
            results = await asyncio.gather(*(one(f"r{number}") for number in range(AT_ONCE)))
        assert all(r.ok or (r.parked and drain.requested) for r in results), [r.verdict for r in results]
        return ENDED if all(r.ok for r in results) else STOPPED


def _forked(work: Callable[[Callable[[], None]], int], seconds: float | None) -> int:
    """Do it in a fork and give its exit code; it is sent SIGTERM so long after it has begun."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = BROKEN
        try:
            code = work(lambda: os.close(writing))
        except BaseException:  # noqa: BLE001 - it is told to whoever reads
            traceback.print_exc()
        os._exit(code)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _looked_at(folder: Path) -> dict[str, Any]:
    """The runs as they stand, and the effects there were."""
    with SqliteStore(folder / "runs.db") as store:
        runs = {run.run_id: run for run in store.runs()}
        records = {run_id: list(store.read(run_id)) for run_id in runs}
        return {
            "kinds": sorted({kept[-1].kind for kept in records.values()}),
            "reasons": sorted({kept[-1].data["reason"] for kept in records.values() if kept[-1].kind == "park"}),
            "unknown": sum(UNKNOWN_OUTCOME in json.dumps(r.data) for kept in records.values() for r in kept),
            "ended": sum(run.status == "ended" for run in runs.values()),
            "problems": [store.verify(run_id) for run_id in runs if store.verify(run_id)],
            "twice": _twice(folder),
        }


def _twice(folder: Path) -> int:
    file = folder / "effects"
    lines = file.read_text().splitlines() if file.exists() else []
    return len(lines) - len(set(lines))


def _warm_up() -> None:
    """What is imported late is there before the first fork. No thread is left by this."""
    assert Worker.plan
    assert Worker.toolbox
    price_of(MODEL, {"input_tokens": 1, "output_tokens": 1})
    with Emulator(["Hi."]).client() as client:
        run(Plain, "Hi.", client=client)

    async def once() -> None:
        async with Emulator(["Hi."]).async_client() as client:
            await arun(Plain, "Hi.", client=client)

    asyncio.run(once())


def main(folder: Path, rounds: int, seed: int, kind: str) -> None:
    """Each round: stop it at a random moment, look, and let it go on to its end."""
    _warm_up()
    rolls = random.Random(seed)
    for number in range(rounds):
        place = folder / str(number)
        place.mkdir()

        def work(begun: Callable[[], None], place: Path = place) -> int:
            return _driven(place, begun) if kind == "sync" else asyncio.run(_driven_async(place, begun))

        code = _forked(work, rolls.random() * MOMENTS)
        stopped = _looked_at(place)
        again = _forked(work, None)
        print(json.dumps({"code": code, "stopped": stopped, "again": again, "ended": _looked_at(place)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
