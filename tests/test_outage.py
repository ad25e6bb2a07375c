"""The API is away for a quarter of an hour: no run is lost, no tool runs twice, and nothing is sent that differs.

Time is virtual. While the outage lasts, every other request finds nobody and the rest are answered 529.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest
from _driving import MODEL, NOW, Clock, events_of

from fsm import Claude, Context, Final, MemoryStore, Record, Tools, Workflow, aresume, arun, resume, run, tool
from fsm._conversation import Conversation
from fsm._conversation._heads import Heads
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

OUTAGE = 900.0
"""Seconds that it lasts, a quarter of an hour."""

NOBODY = replies.cut(replies.empty(), after_bytes=0, clean=False)
BUSY = replies.overloaded()
STEPS = ("1", "2", "3")


@tool
def charge(ctx: Context[Counter[str]], number: str) -> str:
    """Charge an order, which must happen once."""
    ctx.deps[number] += 1
    return f"charged {number}"


class Shop(Workflow):
    """Charges three orders, one after the other."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[charge])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


class Commits(MemoryStore):
    """Knows how many records the journal held after each commit: a process can die there, and nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[int] = []

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        super().append(run_id, records)
        self.ends.append(records[-1].seq + 1)


class Api:
    """Answers by how far the conversation is; away from `begins` for `OUTAGE` seconds of the caller's clock."""

    def __init__(self, clock_of: Callable[[str], Clock], *, after: int = 0, busy: Reply = BUSY) -> None:
        self.clock_of, self.after, self.busy = clock_of, after, busy
        self.began: dict[str, float] = {}
        self.asked: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.emulator = Emulator(self.reply)

    def reply(self, body: dict[str, Any]) -> Reply:
        """Three calls and an answer, each with the name that the conversation began with."""
        name = body["messages"][0]["content"][0]["text"]
        turns = sum(message["role"] == "assistant" for message in body["messages"])
        now = self.clock_of(name).now
        self.asked[name] += 1
        if turns >= self.after and now < self.began.setdefault(name, now) + OUTAGE:
            self.failures[name] += 1
            return NOBODY if self.asked[name] % 2 else self.busy
        if turns < len(STEPS):
            return replies.tool_use("charge", {"number": f"{name}-{STEPS[turns]}"})
        return replies.text(f"{name} is done")


def refolded(workflow: type[Workflow], records: tuple[Record, ...]) -> Conversation:
    """A conversation that knows the journal only, as JSON gave it back."""
    plain = [Record(r.seq, r.kind, r.at, json.loads(json.dumps(dict(r.data)))) for r in records]
    fresh = Conversation(workflow.plan, Heads(workflow.graph, workflow.toolbox.definitions))
    fresh.fold(plain)
    return fresh


def check_whole(result: Any, api: Api, name: str, charged: Counter[str]) -> None:
    """The run came to its end as if nothing had happened."""
    assert (result.state, result.text) == ("answered", f"{name} is done")
    assert {key: n for key, n in charged.items() if key.startswith(f"{name}-")} == {f"{name}-{n}": 1 for n in STEPS}
    sent = [r.raw for r in api.emulator.requests if f'"{name}"'.encode() in r.raw]
    assert len(set(sent)) == len(STEPS) + 1, "each of the four requests had one form of bytes, however often it went"
    assert len(sent) == api.failures[name] + len(STEPS) + 1
    assert refolded(Shop, result.records).verdict() == result.verdict
    assert [record.seq for record in result.records] == list(range(len(result.records)))


def assert_parked(result: Any, clock: Clock) -> float:
    """It stands still, resumable, with a time that lies ahead and no further than the cap of a wait; gives the time."""
    assert (result.state, result.verdict.reason) == ("asking", "waiting_api")
    assert result.parked
    assert result.verdict.resumable
    again: float = result.verdict.evidence["retry_at"]
    assert 0 < again - clock.now <= 60
    assert result.verdict.evidence["todo"]
    return again


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after", [0, 2])
def test_a_quarter_of_an_hour_loses_no_run(*, after: int, stream: bool) -> None:
    """From the first request, and in the middle of a tool loop: parked with a time, resumed then, until it is over."""
    random.seed(11)
    clock, store, charged = Clock(), MemoryStore(), Counter[str]()
    api = Api(lambda _: clock, after=after)
    options: Any = {"deps": charged, "journal": store, "clock": clock, "sleep": clock.sleep, "stream": stream}
    with api.emulator.client() as client:
        result = run(Shop, "run", client=client, run_id="r", **options)
        parks = 0
        while result.parked:
            assert charged.total() == after
            clock.now = assert_parked(result, clock)
            assert refolded(Shop, result.records).verdict() == result.verdict
            parks += 1
            result = resume(Shop, "r", client=client, **options)

    check_whole(result, api, "run", charged)
    assert parks >= 3
    assert clock.now >= NOW + OUTAGE
    assert max(clock.slept) <= 60
    assert {"connection_error", "overloaded_error"} <= set(events_of(result.records))


def test_resumed_too_early_it_parks_again_and_nothing_is_lost() -> None:
    """`resume` is an act of the user: it sends at once, and if nobody is there, the run waits as before."""
    random.seed(5)
    clock, store, charged = Clock(), MemoryStore(), Counter[str]()
    api = Api(lambda _: clock, after=1)
    options: Any = {"deps": charged, "journal": store, "clock": clock, "sleep": clock.sleep}
    with api.emulator.client() as client:
        result = run(Shop, "run", client=client, run_id="r", **options)
        for _ in range(3):
            assert_parked(result, clock)
            clock.now += 1.0
            before = len(api.emulator.requests)
            result = resume(Shop, "r", client=client, **options)
            assert len(api.emulator.requests) - before == 7, "an attempt and six retries, as ever"
        clock.now += OUTAGE
        result = resume(Shop, "r", client=client, **options)
    check_whole(result, api, "run", charged)


def test_a_long_retry_after_is_kept_over_a_resume_that_comes_too_early() -> None:
    """Parked by `retry-after: 3600`; the server says it again to whoever comes early, and the time stays the same."""
    until = NOW + 3600.0
    clock, store = Clock(), MemoryStore()

    def answer(body: dict[str, Any]) -> Reply:
        return replies.rate_limited(retry_after=until - clock.now) if clock.now < until else replies.text("Hello.")

    emulator = Emulator(answer)
    options: Any = {"deps": Counter(), "journal": store, "clock": clock, "sleep": clock.sleep}
    with emulator.client() as client:
        result = run(Shop, "run", client=client, run_id="r", **options)
        for late in (10.0, 500.0, 3000.0):
            assert result.verdict.evidence["retry_at"] == until
            clock.now = NOW + late
            result = resume(Shop, "r", client=client, **options)
        assert (len(emulator.requests), clock.slept) == (4, [])
        clock.now = until
        result = resume(Shop, "r", client=client, **options)
    assert result.text == "Hello."


def test_fifty_runs_at_once_come_through() -> None:
    """Each with a clock of its own, on one client and one journal; none gets what belongs to another."""
    random.seed(3)
    names = [f"order-{n:02}" for n in range(50)]
    clocks = {name: Clock() for name in names}
    store, charged = MemoryStore(), Counter[str]()
    api = Api(clocks.__getitem__, after=1, busy=replies.overloaded(retry_after=55))

    async def one(client: Any, name: str) -> Any:
        clock = clocks[name]

        async def sleep(seconds: float) -> None:
            clock.sleep(seconds)
            await asyncio.sleep(0)

        options: Any = {"deps": charged, "journal": store, "clock": clock, "sleep": sleep, "client": client}
        result = await arun(Shop, name, run_id=name, **options)
        while result.parked:
            clock.now = assert_parked(result, clock)
            result = await aresume(Shop, name, **options)
        return result

    async def main() -> list[Any]:
        async with api.emulator.async_client() as client:
            return await asyncio.gather(*(one(client, name) for name in names))

    for name, result in zip(names, asyncio.run(main()), strict=True):
        check_whole(result, api, name, charged)
        assert clocks[name].now >= NOW + OUTAGE
    assert {run.run_id for run in store.runs()} == set(names)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_process_that_dies_while_it_waits_is_gone_on_with_from_the_journal(*, is_async: bool) -> None:
    """After every commit of the run: a new process folds what was written, and no tool runs twice."""
    random.seed(9)
    clock, charged = Clock(), Counter[str]()
    api = Api(lambda _: clock, after=1)
    whole = Commits()
    options: Any = {"deps": charged, "clock": clock, "sleep": clock.sleep}
    with api.emulator.client() as client:
        result = run(Shop, "run", client=client, run_id="r", journal=whole, **options)
    assert_parked(result, clock)
    records = tuple(whole.read("r"))
    begun_at = next(r.seq for r in records if r.kind == "tool.begin")
    ended_at = next(r.seq for r in records if r.kind == "tool.end")

    assert len(whole.ends) > 10
    for cut in whole.ends:
        part = MemoryStore()
        part.append("r", records[:cut])
        again, ran = Clock(records[cut - 1].at + OUTAGE), Counter[str]()
        if cut > ended_at:
            ran.update(["run-1"])  # the first call ran before the process died
        other = Api(lambda _, again=again: again, after=len(STEPS) + 1)
        given: Any = {"deps": ran, "journal": part, "clock": again, "sleep": again.sleep}
        if is_async:

            async def main(other: Api = other, given: Any = given) -> Any:
                async with other.emulator.async_client() as client:
                    return await aresume(Shop, "r", client=client, **given)

            gone_on = asyncio.run(main())
        else:
            with other.emulator.client() as client:
                gone_on = resume(Shop, "r", client=client, **given)
        assert gone_on.text == "run is done", cut
        lost = begun_at < cut <= ended_at  # begun, and the outcome unknown: answered so, never run again (B3)
        assert ran == Counter({f"run-{n}": 1 for n in (STEPS[1:] if lost else STEPS)}), cut
        assert refolded(Shop, gone_on.records).verdict() == gone_on.verdict


def test_a_resumed_wait_never_exceeds_its_recorded_delay() -> None:
    """Whatever the clock says by then: earlier than when it was recorded, in the middle, long after (K8)."""
    random.seed(2)
    clock, store = Clock(), MemoryStore()
    emulator = Emulator([replies.rate_limited(retry_after=40), replies.text("Hello.")])
    options: Any = {"deps": Counter(), "clock": clock}

    class DiedError(Exception):
        pass

    def die(seconds: float) -> None:
        raise DiedError

    with emulator.client() as client, pytest.raises(DiedError):
        run(Shop, "run", client=client, run_id="r", journal=store, sleep=die, **options)
    records = tuple(store.read("r"))
    waiting = next(r.seq for r in records if r.kind == "move") + 1
    cases = {-3600.0: 40.0, -1.0: 40.0, 0.0: 40.0, 15.0: 25.0, 39.5: 0.5, 40.0: None, 86_400.0: None}
    for (offset, expected), parked in product(cases.items(), (False, True)):
        part = MemoryStore()
        part.append("r", records if parked else records[:waiting])
        again = Clock(NOW + offset)
        other = Emulator([replies.text("Hello.")])
        with other.client() as client:
            result = resume(Shop, "r", client=client, journal=part, deps=Counter(), clock=again, sleep=again.sleep)
        assert result.text == "Hello."
        assert again.slept == ([] if expected is None else [expected]), (offset, parked)
        assert other.requests[0].raw == emulator.requests[0].raw, "the same bytes"
