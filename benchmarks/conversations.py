"""What many conversations cost in one process and one event loop: CPU, wall clock, memory, ratio to bare loops.

    python benchmarks/conversations.py [--conversations 1000] [--turns 10] [--rounds 3] [--journal]

Every conversation has a nonce in its first message, in every tool input and every tool result, and ends only if all it
was sent holds its own. The transport is in-process and answers after 1 to 50 ms; bare asyncio loops on
`AsyncAnthropic.messages.create` do the same next to it. `--journal` adds runs on one SQLite file, with a sync to the
disk for every commit, and how many conversations shared one. Memory is the growth of the resident set a conversation:
`waiting`, all of them in the middle of their last request, the task and the request of the SDK included; `at rest`,
each ended and its result held, a few at a time, because an allocator does not give back what many took at once. `fsm`
has its journal in memory, too, so all that was ever recorded counts.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anthropic
import httpx2
from attrs import define

from fsm import Claude, Final, MemoryStore, Tools, Workflow, arun, tool
from fsm.stores.sqlite import SqliteStore

MODEL = "claude-sonnet-5"
RESULT = "x" * 150
CPU_TARGET, MEMORY_TARGET = 450, 40
"""µs a turn, KB a conversation at rest."""
AT_ONCE = 20
"""Conversations that are driven together where those are measured that rest."""


@tool
async def look_up(text: str) -> str:
    """Look something up."""
    return f"{text}: {RESULT}"


class Loop(Workflow):
    """The loop that everybody writes."""

    asking = Claude(model=MODEL, max_tokens=1000, tools=[look_up])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


class Canned(httpx2.AsyncBaseTransport):
    """Answers with ready bytes: `turns` calls with the nonce of whoever asks, then a text with it."""

    def __init__(self, turns: int) -> None:
        self.turns, self.number = turns, 0
        self.holds: asyncio.Event | None = None
        self.held: asyncio.Semaphore = asyncio.Semaphore(0)  # one for each that is held
        self.crossed = 0
        self._rolls = random.Random(1)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One reply, after a while."""
        sent = await request.aread()
        at = sent.index(b"nonce-")
        nonce = sent[at : at + 12]
        self.crossed += sent.count(b"nonce-") != sent.count(nonce)
        turn = sent.count(b'"tool_result"')
        self.number += 1
        number = self.number
        if turn >= self.turns and self.holds is not None:
            self.held.release()
            await self.holds.wait()
        else:
            await asyncio.sleep(self._rolls.uniform(0.001, 0.05))
        content, stop = b'[{"type":"text","text":"Done, %b."}]' % nonce, b"end_turn"
        if turn < self.turns:
            call = b'{"type":"tool_use","id":"toolu_%08d","name":"look_up","input":{"text":"%b %d"}}' % (
                number,
                nonce,
                turn,
            )
            content, stop = b'[{"type":"text","text":"Let me look that up."},%b]' % call, b"tool_use"
        body = (
            b'{"id":"msg_%08d","type":"message","role":"assistant","model":"%b","content":%b,"stop_reason":"%b",'
            b'"stop_sequence":null,"stop_details":null,"usage":{"input_tokens":100,"output_tokens":20,'
            b'"cache_creation_input_tokens":0,"cache_read_input_tokens":0}}'
        ) % (number, MODEL.encode(), content, stop)
        headers = {"content-type": "application/json", "request-id": f"req_{number}"}
        return httpx2.Response(200, content=body, headers=headers)


Conversation = Callable[[anthropic.AsyncAnthropic, str], Awaitable[Any]]


async def bare(client: anthropic.AsyncAnthropic, nonce: str) -> Any:
    """A hand-written loop."""
    definitions: Any = Loop.toolbox.definitions["asking"]
    messages: list[Any] = [{"role": "user", "content": f"I am {nonce}."}]
    while True:
        reply = await client.messages.create(model=MODEL, max_tokens=1000, messages=messages, tools=definitions)
        messages.append({"role": "assistant", "content": reply.content})
        if reply.stop_reason != "tool_use":
            return messages
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": await look_up(**block.input)}
            for block in reply.content
            if block.type == "tool_use"
        ]
        messages.append({"role": "user", "content": results})


async def fsm(client: anthropic.AsyncAnthropic, nonce: str) -> Any:
    """`fsm.arun`, its journal in memory."""
    return await _driven(client, nonce, MemoryStore())


def _on(store: Any) -> Conversation:
    return lambda client, nonce: _driven(client, nonce, store)


async def _driven(client: anthropic.AsyncAnthropic, nonce: str, store: Any) -> Any:
    result = await arun(Loop, f"I am {nonce}.", client=client, journal=store)
    if not result.ok or nonce not in result.text:
        raise RuntimeError(str(result.verdict))
    return result


@define
class Cost:
    """What some conversations cost: seconds, and bytes a conversation."""

    cpu: float
    wall: float
    waiting: float = 0.0


def client_of(transport: Canned) -> anthropic.AsyncAnthropic:
    """The SDK's client on this transport, with as many connections as are asked for."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    http = httpx2.AsyncClient(transport=transport, limits=limits, timeout=600)
    return anthropic.AsyncAnthropic(api_key="benchmark", max_retries=0, http_client=http)


async def cost(contender: Conversation, conversations: int, turns: int, *, holds: bool = False) -> Cost:
    """Drive many at once; with `holds` each is stopped in its last request, to see what it takes."""
    transport = Canned(turns)
    async with client_of(transport) as client:
        await contender(client, "nonce-999999")
        gc.collect()
        transport.holds = asyncio.Event() if holds else None
        before, begun, cpu = resident(), time.perf_counter(), time.process_time()
        tasks = [asyncio.create_task(_named(contender, client, n)) for n in range(conversations)]
        waiting = 0.0
        if transport.holds is not None:
            for _ in range(conversations):
                await transport.held.acquire()
            gc.collect()
            waiting = (resident() - before) / conversations
            transport.holds.set()
        ended = await asyncio.gather(*tasks)
        found = Cost(time.process_time() - cpu, time.perf_counter() - begun, waiting)
    if transport.crossed or len(ended) != conversations:
        raise RuntimeError(f"{transport.crossed} requests held the nonce of another conversation")
    return found


async def at_rest(contender: Conversation, conversations: int, turns: int) -> float:
    """Bytes of a conversation that has ended and is held."""
    async with client_of(Canned(turns)) as client:

        async def some(first: int, count: int) -> list[Any]:
            named = [_named(contender, client, first + n) for n in range(count)]
            return await asyncio.gather(*named)

        await some(conversations, AT_ONCE)
        gc.collect()
        before = resident()
        held = [await some(first, AT_ONCE) for first in range(0, conversations, AT_ONCE)]
        gc.collect()
        return (resident() - before) / (len(held) * AT_ONCE)


def _named(contender: Conversation, client: anthropic.AsyncAnthropic, number: int) -> Any:
    return contender(client, f"nonce-{number:06d}")


def resident() -> float:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def compare(conversations: int, turns: int, rounds: int) -> None:
    """Print CPU a turn and wall clock."""
    each = (turns + 1) * conversations
    bares, costs = [], []
    for _ in range(rounds):
        bares.append(asyncio.run(cost(bare, conversations, turns)))
        costs.append(asyncio.run(cost(fsm, conversations, turns)))
    print(f"{conversations} conversations, {turns} turns each, latency 1-50 ms, nobody saw another's nonce")
    for name, found in (("bare loops", bares), ("fsm", costs)):
        cpu, wall = statistics.median(c.cpu for c in found), statistics.median(c.wall for c in found)
        target = f"   target ≤ {CPU_TARGET}" if name == "fsm" else ""
        print(f"  {name:<12} {cpu / each * 1e6:6.0f} µs CPU a turn   {wall:5.1f} s wall{target}")
    ratios = [mine.cpu / reference.cpu for mine, reference in zip(costs, bares, strict=True)]
    print(f"  ratio        {statistics.median(ratios):6.2f} ({min(ratios):.2f}-{max(ratios):.2f})")


def memory(conversations: int, turns: int) -> None:
    """Print what a conversation takes."""
    for name in ("bare", "fsm", "fsm, SQLite"):
        waiting, rests = (alone(name, which, conversations, turns) for which in ("waiting", "rests"))
        target = f"   target ≤ {MEMORY_TARGET}" if name != "bare" else ""
        print(f"  {name:<12} {waiting / 1000:6.1f} KB waiting for a reply, {rests / 1000:6.1f} KB at rest{target}")


def alone(name: str, which: str, conversations: int, turns: int) -> float:
    """What a conversation of this contender takes, measured in a process of its own."""
    arguments = [sys.executable, __file__, "--only", name, which]
    arguments += ["--conversations", str(conversations), "--turns", str(turns)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)  # noqa: S603 - this file
    return float(done.stdout)


def journal(conversations: int, turns: int, rounds: int) -> None:
    """Print what the same costs on one SQLite file."""
    each = (turns + 1) * conversations
    costs = []
    for _ in range(rounds):
        with TemporaryDirectory() as folder, SqliteStore(Path(folder) / "runs.db") as store:
            costs.append(asyncio.run(cost(_on(store), conversations, turns)))
    cpu, wall = statistics.median(c.cpu for c in costs), statistics.median(c.wall for c in costs)
    commits = 2 * each / wall
    print(f"  on SQLite    {cpu / each * 1e6:6.0f} µs CPU a turn   {wall:5.1f} s wall, {commits:.0f} commits a second")


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--journal", action="store_true", help="also on one SQLite file")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        name, which = given.only
        with TemporaryDirectory() as folder, SqliteStore(Path(folder) / "runs.db") as store:
            contender = {"bare": bare, "fsm": fsm}.get(name) or _on(store)
            if which == "rests":
                print(asyncio.run(at_rest(contender, given.conversations, given.turns)))
            else:
                print(asyncio.run(cost(contender, given.conversations, given.turns, holds=True)).waiting)
        return
    compare(given.conversations, given.turns, given.rounds)
    memory(given.conversations, given.turns)
    if given.journal:
        journal(given.conversations, given.turns, given.rounds)


if __name__ == "__main__":
    main()
