"""Cancelling: wherever a drive is stopped, its journal goes on, no tool runs twice, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any, Literal

import pytest
from _driving import MODEL, Clock, Loop, Plain, events_of, go_on, loop_of, settled

from fsm import (
    Approval,
    Claude,
    Code,
    Context,
    Facts,
    Final,
    MemoryStore,
    RunError,
    Tools,
    Workflow,
    aiterate,
    approve,
    aresume,
    arun,
    tool,
)
from fsm._conversation._fold import UNKNOWN_OUTCOME
from fsm.drivers._pump import Session
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply


class World:
    """What happened outside: how often each call was entered."""

    def __init__(self) -> None:
        self.entered: Counter[str] = Counter()
        self.names: dict[str, str] = {}

    def note(self, name: str, ctx: Context[Any]) -> None:
        call_id = ctx.tool_use_id or ""
        self.entered[call_id] += 1
        self.names[call_id] = name


@tool
async def charge(ctx: Context[World], number: str) -> str:
    """Charge a card; never twice."""
    ctx.deps.note("charge", ctx)
    await settled(3)
    return f"charged {number}"


@tool(idempotent=True)
async def look(ctx: Context[World], number: str) -> str:
    """Look, as often as you like."""
    ctx.deps.note("look", ctx)
    await settled(9)
    return f"seen {number}"


@tool(needs_approval=True)
async def book(ctx: Context[World], number: str) -> str:
    """Book it."""
    ctx.deps.note("book", ctx)
    await settled(2)
    return f"booked {number}"


async def weigh(facts: Facts) -> Literal["fine"]:
    """Take a few turns of the loop."""
    del facts
    await settled(10)
    return "fine"


class Everything(Workflow):
    """A turn through every kind of waiting: a reply, tools, a person, a back-off, a function."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[charge, look, book])
    calling = Tools()
    approving = Approval()
    weighing = Code(weigh)
    again = Final(ok=False)
    answered = Final()

    asking.on(tool_use=calling, end_turn=weighing)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking)
    weighing.on("fine", answered).on("raised", again)


def script() -> Callable[[dict[str, Any]], Reply]:
    """Calls, an overloaded API, another call, then the answer, whatever was sent before."""
    overloads = iter([True])

    def reply(body: dict[str, Any]) -> Reply:
        turns = sum(m["role"] == "assistant" for m in body["messages"])
        if turns == 0:
            return replies.tool_uses(("charge", {"number": "1"}), ("look", {"number": "2"}), ("book", {"number": "3"}))
        if turns == 1 and next(overloads, False):
            return replies.overloaded()
        return replies.tool_use("charge", {"number": "4"}) if turns == 1 else replies.text("done")

    return reply


def _stateless(body: dict[str, Any]) -> Reply:
    """The same for many runs at once: each request stands for itself."""
    return script()(body)


async def ask(question: Any) -> Any:
    del question
    await settled(2)
    return approve()


class Drive:
    """One run that is interrupted again and again, always with the same journal and the same API."""

    def __init__(self, *, stream: bool = False) -> None:
        self.world, self.store, self.emulator = World(), MemoryStore(), Emulator(script(), chunk=200)
        self.stream = stream
        self.clock = Clock()

    def task(self, client: Any) -> asyncio.Task[Any]:
        options: dict[str, Any] = {
            "client": client,
            "journal": self.store,
            "deps": self.world,
            "ask": ask,
            "stream": self.stream,
            "clock": self.clock,
            "sleep": self._sleep,
        }
        begun = "r" in tuple(run.run_id for run in self.store.runs())
        drive = aresume(Everything, "r", **options) if begun else arun(Everything, "Hi.", run_id="r", **options)
        return asyncio.create_task(drive)

    async def _sleep(self, seconds: float) -> None:
        await settled(3)
        self.clock.sleep(seconds)

    async def cancel_after(self, turns: int) -> bool:
        """Drive, and cancel after so many turns of the loop; returns whether it was still running."""
        async with self.emulator.async_client() as client:
            task = self.task(client)
            for _ in range(turns):
                await asyncio.sleep(0)
                if task.done():
                    break
            running = not task.done()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await settled()
            assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"
            return running

    async def finish(self) -> Any:
        async with self.emulator.async_client() as client:
            return await self.task(client)

    def check(self, result: Any) -> None:
        """Invariants I2, I4, I5 and I7, over whatever happened."""
        records = tuple(self.store.read("r"))
        assert [r.seq for r in records] == list(range(len(records)))
        assert {r.status for r in self.emulator.requests} <= {200, 529}, "an illegal request left"
        answered: dict[str, Any] = {}
        for message in result.messages:
            for block in message["content"]:
                if block["type"] == "tool_result":
                    assert block["tool_use_id"] not in answered
                    answered[block["tool_use_id"]] = block["content"]
        asked = [
            b for m in result.messages if m["role"] == "assistant" for b in m["content"] if b["type"] == "tool_use"
        ]
        assert sorted(answered) == sorted(b["id"] for b in asked)
        for block in asked:
            times, content = self.world.entered[block["id"]], answered[block["id"]]
            if block["name"] != "look":
                assert times <= 1, f"{block['name']} ran {times} times"
            if content == UNKNOWN_OUTCOME:
                assert times == 1, "only a call that was entered is of unknown outcome"
                assert block["name"] != "look", "an idempotent call runs again"
            else:
                assert times >= 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_run_that_is_cancelled_anywhere_goes_on(*, stream: bool) -> None:
    unknown = raised = 0
    for turns in itertools.count():
        drive = Drive(stream=stream)

        async def main(drive: Drive = drive, turns: int = turns) -> tuple[bool, Any]:
            running = await drive.cancel_after(turns)
            begun = "r" in tuple(run.run_id for run in drive.store.runs())
            if running and begun:
                last = tuple(drive.store.read("r"))[-1]
                assert (last.kind, last.data["reason"]) in {("park", "interrupted"), ("close", "fine")}
            return running, await drive.finish()

        running, result = asyncio.run(main())
        raised += result.state == "again"
        assert result.state == "answered" or "raised" in events_of(result.records)
        drive.check(result)
        unknown += any(b.get("content") == UNKNOWN_OUTCOME for m in result.messages for b in m["content"])
        if not running:
            break
    places = 30 if sys.version_info >= (3, 12) else 35  # tools begin at once there
    assert turns > places, "the script has that many places to be cancelled at"
    assert unknown > 1, "some calls had been entered"
    assert raised > 0, "the function had been entered"


def test_a_run_that_is_cancelled_again_and_again_goes_on() -> None:
    """Up to six interruptions, each somewhere else."""
    rolls = random.Random(11)
    for _ in range(60):
        drive = Drive(stream=rolls.random() < 0.5)

        async def main(drive: Drive = drive) -> Any:
            for _ in range(rolls.randrange(2, 7)):
                if not await drive.cancel_after(rolls.randrange(1, 40)):
                    break
            return await drive.finish()

        drive.check(asyncio.run(main()))


def test_many_runs_cancelled_at_random_leave_nothing_behind() -> None:
    """C4, I10: 150 runs on one loop and one client."""
    rolls = random.Random(5)
    store, world = MemoryStore(), World()

    async def main() -> None:
        async with Emulator(_stateless).async_client() as client:
            tasks = [
                asyncio.create_task(
                    arun(Everything, "Hi.", client=client, journal=store, run_id=f"r{n}", deps=world, ask=ask)
                )
                for n in range(150)
            ]
            while not all(task.done() for task in tasks):
                await asyncio.sleep(0)
                rolls.choice(tasks).cancel()
            await settled()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    for run_id in tuple(run.run_id for run in store.runs()):
        store.claim(run_id)  # nobody holds it any more
        assert tuple(store.read(run_id))[-1].kind in {"park", "close"}
    assert all(times == 1 for call_id, times in world.entered.items() if world.names[call_id] != "look")


def test_a_sync_tool_goes_on_in_its_thread_and_its_result_is_dropped() -> None:
    """It cannot be stopped: the model is told that the outcome is unknown, and the thread is used again."""
    store, entered, release, ended = MemoryStore(), threading.Event(), threading.Event(), threading.Event()

    def act() -> str:
        """Act."""
        entered.set()
        release.wait(5)
        ended.set()
        return "too late"

    workflow = loop_of(act)

    async def main() -> None:
        async with Emulator([replies.tool_use("act", {})]).async_client() as client:
            task = asyncio.create_task(arun(workflow, "Hi.", client=client, journal=store, run_id="r"))
            await asyncio.to_thread(entered.wait, 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    result = go_on(workflow, "r", [replies.text("done")], journal=store)
    release.set()
    assert ended.wait(2)
    assert [b["content"] for b in result.messages[2]["content"]] == [UNKNOWN_OUTCOME]
    assert tuple(store.read("r")) == result.records, "the late result is nowhere"


def test_threads_of_a_hundred_cancelled_runs_are_used_again() -> None:
    def act() -> str:
        """Act."""
        time.sleep(0.002)
        return "ok"

    workflow = loop_of(act)

    async def main() -> None:
        async with Emulator(lambda body: replies.tool_use("act", {})).async_client() as client:
            for _ in range(100):
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.003):
                        await arun(workflow, "Hi.", client=client)

    before = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() <= before + 8


def test_a_time_limit_around_a_run_parks_it() -> None:
    """`asyncio.timeout` cancels; what had ended by then is kept."""
    store = MemoryStore()

    @tool
    async def quick() -> str:
        """Be quick."""
        return "quick"

    @tool
    async def slow() -> str:
        """Be slow."""
        await asyncio.sleep(5)
        return "slow"

    class Both(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, tools=[quick, slow])
        calling = Tools()
        answered = Final()
        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking)

    async def main() -> None:
        async with Emulator([replies.tool_uses(("quick", {}), ("slow", {}))]).async_client() as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await arun(Both, "Hi.", client=client, journal=store, run_id="r")

    asyncio.run(main())
    result = go_on(Both, "r", [replies.text("done")], journal=store)
    assert [b["content"] for b in result.messages[2]["content"]] == ["quick", UNKNOWN_OUTCOME]


def test_what_had_ended_when_the_task_was_cancelled_is_kept() -> None:
    """The result was there, and not recorded yet: its siblings still ran."""
    store = MemoryStore()
    go = asyncio.Event

    async def main() -> None:
        both_run = go()

        @tool
        async def quick() -> str:
            """Be quick."""
            both_run.set()
            return "quick"

        @tool
        async def slow() -> str:
            """Be slow."""
            await asyncio.sleep(5)
            return "slow"

        class Both(Workflow):
            asking = Claude(model=MODEL, max_tokens=100, tools=[quick, slow])
            calling = Tools()
            answered = Final()
            asking.on(tool_use=calling, end_turn=answered)
            calling.on(tool_results=asking)

        async with Emulator([replies.tool_uses(("quick", {}), ("slow", {}))]).async_client() as client:
            task = asyncio.create_task(arun(Both, "Hi.", client=client, journal=store, run_id="r"))
            await both_run.wait()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    kinds = [r.kind for r in tuple(store.read("r"))]
    assert kinds[-2:] == ["tool.end", "park"]


# --- leaving a loop --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", range(1, 7))
def test_leaving_aiterate_parks_and_resume_goes_on(after: int) -> None:
    """A call that was recorded as begun and never entered begins anew."""
    drive = Drive()

    async def main() -> Any:
        async with drive.emulator.async_client() as client:
            items = aiterate(
                Everything, "Hi.", client=client, journal=drive.store, run_id="r", deps=drive.world, ask=ask,
                sleep=drive._sleep,
            )  # fmt: skip
            count = 0
            async for _ in items:
                count += 1
                if count == after:
                    break
            await items.aclose()
            last = tuple(drive.store.read("r"))[-1]
            assert (last.kind, last.data["reason"]) == ("park", "interrupted")
            return await aresume(
                Everything, "r", client=client, journal=drive.store, deps=drive.world, ask=ask, sleep=drive._sleep
            )

    result = asyncio.run(main())
    assert result.state == "answered"
    drive.check(result)
    assert not any(b.get("content") == UNKNOWN_OUTCOME for m in result.messages for b in m["content"])
    assert set(drive.world.entered.values()) == {1}


def test_what_aiterate_gives_has_a_result_and_can_be_closed() -> None:
    emulator = Emulator([replies.tool_use("find", {"number": "1"}), replies.text("Done.")])

    async def main() -> None:
        async with emulator.async_client() as client, aclosing(aiterate(Loop, "Hi.", client=client)) as moves:
            with pytest.raises(RunError, match="has not begun"):
                _ = moves.result
            async for _ in moves:
                break
            await moves.aclose()
            parked = moves.result
            assert (parked.verdict.reason, parked.parked) == ("interrupted", True)
            result = await aresume(Loop, parked.run_id, client=client, journal=parked.journal)
            assert result.text == "Done."

    asyncio.run(main())


def test_a_loop_left_without_closing_is_parked_by_the_event_loop() -> None:
    drive = Drive()

    async def main() -> None:
        async with drive.emulator.async_client() as client:
            async for _ in aiterate(
                Everything, "Hi.", client=client, journal=drive.store, run_id="r", deps=drive.world, ask=ask
            ):
                break
            gc.collect()
            await settled(10)
            assert tuple(drive.store.read("r"))[-1].kind == "park"

    asyncio.run(main())


def test_a_generator_that_was_never_begun_does_nothing() -> None:
    store = MemoryStore()

    async def main() -> None:
        items = aiterate(Plain, "Hi.", journal=store, run_id="r")
        await items.aclose()

    asyncio.run(main())
    assert tuple(run.run_id for run in store.runs()) == ()


# --- callbacks -------------------------------------------------------------------------------------------------------


def test_async_callbacks_are_awaited() -> None:
    seen: list[str] = []

    async def on_move(move: Any) -> None:
        await asyncio.sleep(0)
        seen.append(move.event)

    async def sleep(seconds: float) -> None:
        del seconds
        await asyncio.sleep(0)
        seen.append("slept")

    async def main() -> Any:
        emulator = Emulator([replies.overloaded(), replies.tool_use("find", {"number": "1"}), replies.text("done")])
        async with emulator.async_client() as client:
            return await arun(Loop, "Hi.", client=client, on_move=on_move, sleep=sleep)

    result = asyncio.run(main())
    assert seen == ["overloaded_error", "slept", "tool_use", "tool_results", "end_turn"]
    assert [m.event for m in result.moves] == [s for s in seen if s != "slept"]


@pytest.mark.parametrize("where", ["on_move", "ask", "on_delta", "sleep"])
def test_a_callback_that_raises_parks_the_run_and_its_error_comes_out(where: str) -> None:
    drive = Drive(stream=where == "on_delta")

    async def fails(*_: Any) -> None:
        await asyncio.sleep(0)
        msg = "the callback is broken"
        raise ZeroDivisionError(msg)

    async def main() -> None:
        async with drive.emulator.async_client() as client:
            options: dict[str, Any] = {"ask": ask, "sleep": drive._sleep, where: fails}
            with pytest.raises(ZeroDivisionError, match="the callback is broken"):
                await arun(
                    Everything, "Hi.", client=client, journal=drive.store, run_id="r", deps=drive.world, **options
                )

    asyncio.run(main())
    assert tuple(drive.store.read("r"))[-1].kind == "park"
    result = asyncio.run(drive.finish())
    assert result.state == "answered"
    drive.check(result)
    assert not any(b.get("content") == UNKNOWN_OUTCOME for m in result.messages for b in m["content"])


def test_an_async_callback_that_nobody_awaited_leaves_no_warning() -> None:
    async def on_move(move: Any) -> None:
        del move

    async def main() -> None:
        store = MemoryStore()
        async with Emulator([replies.tool_use("find", {"number": "1"})] * 3).async_client() as client:
            items = aiterate(Loop, "Hi.", client=client, journal=store, run_id="r", on_move=on_move)
            async for _ in items:
                break
            await items.aclose()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
        gc.collect()


# --- asyncio's own tools ---------------------------------------------------------------------------------------------


def test_debug_mode_finds_nothing() -> None:
    """C6: no coroutine unawaited, nothing called from the wrong thread."""
    drive = Drive()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = asyncio.run(drive.finish(), debug=True)
        gc.collect()
    assert result.state == "answered"


def test_hundred_runs_at_once_do_not_mix() -> None:
    """C1: each carries its own word through a message and a tool."""

    @tool
    def echo(ctx: Context[str], word: str) -> str:
        """Say it again."""
        return f"{word}/{ctx.deps}"

    class Echo(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, tools=[echo])
        calling = Tools()
        answered = Final()
        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking)

    def reply(body: dict[str, Any]) -> Reply:
        word = body["messages"][0]["content"][0]["text"]
        if len(body["messages"]) == 1:
            return replies.tool_use("echo", {"word": word})
        return replies.text(body["messages"][2]["content"][0]["content"])

    async def main() -> list[Any]:
        async with Emulator(reply).async_client() as client:
            return await asyncio.gather(*(arun(Echo, f"w{n}", client=client, deps=f"d{n}") for n in range(100)))

    assert [r.text for r in asyncio.run(main())] == [f"w{n}/d{n}" for n in range(100)]


# --- calls that are cancelled by somebody else -----------------------------------------------------------------------


@tool
async def give_up(number: str) -> str:
    """Cancel the task that runs it."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    return number


@tool
async def spread(number: str) -> str:
    """Cancel the calls beside it."""
    await asyncio.sleep(0.01)
    for task in asyncio.all_tasks():
        if "_Calls._run" in repr(task.get_coro()) and task is not asyncio.current_task():
            task.cancel()
    return number


@tool
async def linger(number: str) -> str:
    """Take long."""
    await asyncio.sleep(30)
    return number


def _two(first: str, second: str) -> list[Any]:
    return [replies.tool_uses((first, {"number": "1"}), (second, {"number": "2"})), replies.text("Done.")]


@pytest.mark.parametrize(
    ("names", "failed"),
    [
        (("give_up", "plain"), [True, False]),
        (("give_up", "give_up"), [True, True]),
        (("spread", "linger"), [False, True]),
    ],
)
def test_a_call_whose_task_is_cancelled_is_answered(names: tuple[str, str], failed: list[bool]) -> None:
    @tool
    async def plain(number: str) -> str:
        """Look."""
        return number

    async def main() -> Any:
        workflow = loop_of(give_up, spread, linger, plain)
        async with asyncio.timeout(10):
            return await arun(workflow, "Hi.", client=Emulator(_two(*names)).async_client())

    result = asyncio.run(main())
    answers = result.messages[2]["content"]
    assert result.state == "answered"
    assert [bool(a.get("is_error")) for a in answers] == failed
    assert all("CancelledError" in a["content"] for a in answers if a.get("is_error"))


def test_a_call_cancelled_together_with_its_run_is_of_unknown_outcome() -> None:
    store = MemoryStore()
    begun = asyncio.Event()

    @tool
    async def hold(number: str) -> str:
        """Hold on."""
        begun.set()
        await asyncio.sleep(30)
        return number

    async def main() -> None:
        client = Emulator(_two("hold", "hold")).async_client()
        driving = asyncio.ensure_future(arun(loop_of(hold), "Hi.", client=client, journal=store, run_id="r"))
        await begun.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await driving

    asyncio.run(main())
    assert [r.kind for r in tuple(store.read("r"))][-1] == "park"
    assert "tool.end" not in [r.kind for r in tuple(store.read("r"))]


def test_a_drive_never_goes_round_without_an_end() -> None:
    session = Session.__new__(Session)
    session.run_id = "r"
    with pytest.raises(AssertionError, match="calls that nobody runs"):
        session.ended(())
