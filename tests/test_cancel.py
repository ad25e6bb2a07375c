"""Cancelling at random (C4, I10): whatever is stopped goes on from its journal, and nothing is left behind.

FSM_NIGHTLY=1 cancels a thousand times in every way instead of 200 in all.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from typing import Any, Literal

import anthropic
import pytest
from _driving import MODEL, Clock
from _resources import nothing_left, pooled

from fsm import (
    Approval,
    Claude,
    Code,
    Context,
    Facts,
    Final,
    MemoryStore,
    Record,
    Store,
    Tools,
    Workflow,
    aiterate,
    approve,
    aresume,
    arun,
    deny,
    tool,
)
from fsm._conversation._fold import UNKNOWN_OUTCOME
from fsm.drivers._pump import PARALLEL
from fsm.drivers._threads import WRITERS
from fsm.journal import has_run
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply
from fsm.testing.server import serve

NIGHTLY = os.environ.get("FSM_NIGHTLY") == "1"
CANCELLATIONS = 1000 if NIGHTLY else 30
"""Of each way."""

AT_ONCE = 10
LONGEST = 0.03
"""Seconds that a run is let go on."""


class World:
    """What happened outside: how often each call was entered, by its id."""

    def __init__(self) -> None:
        self.entered: Counter[str] = Counter()

    def enter(self, ctx: Context[Any]) -> None:
        assert ctx.tool_use_id is not None
        self.entered[ctx.tool_use_id] += 1


@tool
async def charge(ctx: Context[World], number: int) -> str:
    """Charge a card; never twice."""
    ctx.deps.enter(ctx)
    await asyncio.sleep(0.001)
    return f"charged {number}"


@tool
def book(ctx: Context[World], number: int) -> str:
    """Book it, in a thread; never twice."""
    ctx.deps.enter(ctx)
    time.sleep(0.001)
    return f"booked {number}"


@tool(idempotent=True)
async def look(ctx: Context[World], number: int) -> str:
    """Look, as often as you like."""
    ctx.deps.enter(ctx)
    await asyncio.sleep(0.002)
    return f"seen {number}"


@tool(needs_approval=True)
def refund(ctx: Context[World], number: int) -> str:
    """Pay back, with a person's approval."""
    ctx.deps.enter(ctx)
    return f"paid {number}"


def weigh(facts: Facts) -> Literal["fine"]:
    """Take a moment, in a thread."""
    del facts
    time.sleep(0.001)
    return "fine"


class Everything(Workflow):
    """Every kind of waiting: a reply, tools of both kinds side by side, a person, a back-off, a function."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[charge, book, look, refund])
    calling = Tools()
    approving = Approval()
    weighing = Code(weigh)
    again = Final(ok=False)
    answered = Final()

    asking.on(tool_use=calling, end_turn=weighing)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking)
    weighing.on("fine", answered).on("raised", again)


SIDE_BY_SIDE = [("charge", {"number": 1}), ("book", {"number": 2}), ("look", {"number": 3}), ("charge", {"number": 4})]


def api() -> Emulator:
    """Answers many runs at once: calls, a person's call, an overload that passes, an answer."""
    overloaded: set[str] = set()

    def reply(body: dict[str, Any]) -> Reply:
        turns = sum(m["role"] == "assistant" for m in body["messages"])
        if turns == 0:
            return replies.tool_uses(*SIDE_BY_SIDE)
        if turns == 1:
            return replies.tool_uses(("refund", {"number": 5}), ("look", {"number": 6}))
        who = str(body["messages"][0]["content"])
        if who not in overloaded:
            overloaded.add(who)
            return replies.overloaded()
        return replies.text("done")

    rolls = random.Random(3)
    return Emulator(reply, chunk=200, latency=lambda: rolls.choice((0.0, 0.0005, 0.002)))


class WaitingStore(MemoryStore):
    """A journal whose commits take a moment, so that many runs are cancelled in the middle of one."""

    blocks = True

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        assert threading.current_thread() is not threading.main_thread(), "the event loop waits for a disk"
        time.sleep(0.001)
        super().append(run_id, records)


class Storm:
    """Runs over one store and one client, each cancelled at a random moment, then driven to its end."""

    def __init__(self, store: Store, *, stream: bool, iterates: bool, seed: int) -> None:
        self.store, self.stream, self.iterates = store, stream, iterates
        self.world, self.rolls = World(), random.Random(seed)
        self.cancelled = 0

    async def ask(self, question: Any) -> Any:
        del question
        await asyncio.sleep(self.rolls.choice((0.0, 0.001)))
        return approve() if self.rolls.random() < 0.8 else deny("no")

    async def drive(self, client: Any, run_id: str) -> Any:
        clock = Clock(time.time())

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(0.001)
            clock.sleep(seconds)

        options: dict[str, Any] = {"client": client, "journal": self.store, "deps": self.world, "ask": self.ask}
        options |= {"stream": self.stream, "clock": clock, "sleep": sleep}
        if has_run(self.store, run_id):
            return await aresume(Everything, run_id, **options)
        if not self.iterates:
            return await arun(Everything, f"I am {run_id}.", run_id=run_id, **options)
        items = aiterate(Everything, f"I am {run_id}.", run_id=run_id, deltas=self.stream, **options)
        async with aclosing(items):
            async for _ in items:
                pass
        return items.result

    async def interrupted(self, client: Any, run_id: str) -> None:
        """Begin it or go on, and cancel it: after a moment, or after some turns of the loop."""
        task = asyncio.create_task(self.drive(client, run_id))
        if self.rolls.random() < 0.5:
            await asyncio.sleep(self.rolls.random() * LONGEST)
        else:
            for _ in range(self.rolls.randrange(80)):
                await asyncio.sleep(0)
        self.cancelled += not task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def check_stopped(self, run_id: str) -> None:
        """What a cancelled run leaves: it ended, or it is parked; and nobody holds it."""
        if has_run(self.store, run_id):
            last = tuple(self.store.read(run_id))[-1]
            assert last.kind in {"park", "close"}, last
            self.store.claim(run_id)
            self.store.release(run_id)

    async def round(self, client: Any, number: int) -> None:
        for run_id in [f"r{number}.{n}" for n in range(AT_ONCE)]:
            await self.interrupted(client, run_id)  # one alone …
        again = [f"r{number}.{n}" for n in range(AT_ONCE) if self.rolls.random() < 0.7]
        await asyncio.gather(*(self.interrupted(client, run_id) for run_id in again))  # … and many at once
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task is left"
        for n in range(AT_ONCE):
            self.check_stopped(f"r{number}.{n}")
        for result in await asyncio.gather(*(self.drive(client, f"r{number}.{n}") for n in range(AT_ONCE))):
            self.check(result)

    def check(self, result: Any) -> None:
        """I2, I4, I7 and I8, over whatever happened."""
        assert result.state in {"answered", "again"}, result.verdict  # again: the function's outcome is unknown
        assert [r.seq for r in result.records] == list(range(len(result.records)))
        blocks = [b for m in result.messages for b in m["content"] if isinstance(b, dict)]
        asked = {b["id"]: b["name"] for b in blocks if b["type"] == "tool_use"}
        answers = [(b["tool_use_id"], b["content"]) for b in blocks if b["type"] == "tool_result"]
        assert sorted(asked) == sorted(call_id for call_id, _ in answers)
        for call_id, content in answers:
            times, name = self.world.entered[call_id], asked[call_id]
            assert times <= 1 or name == "look", f"{name} ran {times} times"
            assert content != UNKNOWN_OUTCOME or (times == 1 and name != "look")


async def _storm(storm: Storm, clients: Any, emulator: Emulator, cancellations: int = CANCELLATIONS) -> None:
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(clients())
        number = 0
        while storm.cancelled < cancellations:
            await storm.round(client, number)
            number += 1
    assert not problems
    assert {r.status for r in emulator.requests} <= {200, 529}, "an illegal request left"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", ["memory", "waiting", "sqlite"])
def test_cancelled_at_random_moments_every_run_goes_on_and_nothing_is_left(
    kind: str, tmp_path: Path, *, stream: bool
) -> None:
    """C4, I4, I10: in waits, in tools of both kinds, in the middle of a commit."""
    emulator = api()
    kinds: dict[str, Any] = {"memory": MemoryStore, "waiting": WaitingStore}
    warm_up = Storm(MemoryStore(), stream=stream, iterates=False, seed=1)
    asyncio.run(_storm(warm_up, emulator.async_client, emulator, cancellations=1))
    with nothing_left():
        store = SqliteStore(tmp_path / "runs.db") if kind == "sqlite" else kinds[kind]()
        storm = Storm(store, stream=stream, iterates=kind != "sqlite", seed=7 + stream)
        asyncio.run(_storm(storm, emulator.async_client, emulator))
        if kind == "sqlite":
            assert {store.verify(run.run_id) for run in store.runs()} == {None}
            store.close()
    assert storm.cancelled >= CANCELLATIONS
    assert pooled() <= AT_ONCE * PARALLEL + (WRITERS._limit or 0), "threads are used again"


def test_cancelled_over_real_sockets_no_connection_is_left() -> None:
    """C4, I10: cut off while a request is on its way, over sockets."""
    emulator = api()
    storm = Storm(MemoryStore(), stream=True, iterates=True, seed=5)
    with nothing_left(), serve(emulator) as server:
        made = lambda: anthropic.AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0)  # noqa: E731
        asyncio.run(_storm(storm, made, emulator))
    assert storm.cancelled >= CANCELLATIONS
