"""One script, driven in every way there is: what the tests of driving share."""

from __future__ import annotations

import asyncio
import inspect
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

from fsm import Claude, Final, MemoryStore, Record, Tools, Workflow, aiterate, aresume, arun, iterate, resume, run, tool
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

MODEL = "claude-sonnet-5"
MODES = ("run", "iterate", "arun", "aiterate")
NOW = 1_800_000_000.0


class Clock:
    """Seconds since the epoch that pass only when somebody sleeps. `slept` holds every sleep."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@tool
def find(number: str) -> str:
    """Find an order."""
    return f"order {number}"


class Loop(Workflow):
    """The shortest tool loop."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


class Plain(Workflow):
    """One question, one answer."""

    asking = Claude(model=MODEL, max_tokens=100)
    answered = Final()

    asking.on(end_turn=answered)


def loop_of(*tools: Any, **options: Any) -> type[Workflow]:
    """A tool loop over these tools."""

    class Made(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, tools=tools, **options)
        calling = Tools()
        answered = Final()

        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking)

    return Made


def drive(mode: str, workflow: type[Workflow], given: Any, emulator: Emulator, **options: Any) -> tuple[Record, ...]:
    """Run a script in one way, and give the journal. What is random is the same each time."""
    random.seed(7)
    clock = Clock()
    store = options.setdefault("journal", MemoryStore())
    options = {"run_id": "run-1", "clock": clock, "sleep": clock.sleep, **options}
    if mode in {"run", "iterate"}:
        with emulator.client() as client:
            if mode == "run":
                run(workflow, given, client=client, **options)
            else:
                for _ in iterate(workflow, given, client=client, **options):
                    pass
    else:
        asyncio.run(_drive_async(mode, workflow, given, emulator, options))
    return tuple(store.read("run-1"))


async def _drive_async(mode: str, workflow: type[Workflow], given: Any, emulator: Emulator, options: Any) -> None:
    async with emulator.async_client() as client:
        if mode == "arun":
            await arun(workflow, given, client=client, **options)
        else:
            async with aclosing(aiterate(workflow, given, client=client, **options)) as items:
                async for _ in items:
                    pass


def both(
    workflow: type[Workflow],
    given: Any,
    script: Sequence[Reply] | Callable[[Any], Reply],
    *,
    is_async: bool,
    **options: Any,
) -> tuple[Any, Emulator]:
    """`run` or `arun`: the result, and the emulator that answered."""
    emulator = Emulator(script)
    if not is_async:
        with emulator.client() as client:
            return run(workflow, given, client=client, **options), emulator

    async def main() -> Any:
        async with emulator.async_client() as client:
            return await arun(workflow, given, client=client, **options)

    return asyncio.run(main()), emulator


def go_on(workflow: type[Workflow], run_id: str, script: Any, *, is_async: bool = False, **options: Any) -> Any:
    """`resume` or `aresume` with a new client over these replies."""
    emulator = Emulator(script)

    async def main() -> Any:
        async with emulator.async_client() as client:
            return await aresume(workflow, run_id, client=client, **options)

    if is_async:
        result = asyncio.run(main())
    else:
        with emulator.client() as client:
            result = resume(workflow, run_id, client=client, **options)
    assert not [r.error for r in emulator.requests if r.status == HTTPStatus.BAD_REQUEST], "an illegal request left"
    return result


def one_call(name: str, given: Any = None) -> list[Reply]:
    """The tool is called once, then Claude answers."""
    return [replies.tool_use(name, {} if given is None else given), replies.text("done")]


def results_of(result: Any, index: int = 2) -> list[dict[str, Any]]:
    """The tool results that were sent with the message of this index."""
    blocks: list[dict[str, Any]] = [b for b in result.messages[index]["content"] if b["type"] == "tool_result"]
    return blocks


def events_of(records: Sequence[Record]) -> list[str]:
    """The events of the moves."""
    return [r.data["event"] for r in records if r.kind == "move"]


_NOT_COMPARED = ("seconds", "request_id")
_NOT_ACROSS_STREAMS = ("hash", "price")


def comparable(records: Sequence[Record], *, across_streams: bool = False) -> list[Any]:
    """A journal as architecture rule 6.1 compares it: no times, no request ids; `tool.*` ordered by call.

    `across_streams` drops what a streamed request cannot have in common with a plain one: token counts of a body that
    says `"stream": true`, and the white space of a content that was put together from deltas.
    """
    made: list[Any] = []
    for record in records:
        data = json.loads(json.dumps(dict(record.data)))
        for name in (*_NOT_COMPARED, *(_NOT_ACROSS_STREAMS if across_streams else ())):
            data.pop(name, None)
        _drop(data.get("evidence"), _NOT_COMPARED)
        if across_streams and record.kind == "reply":
            data["content"] = json.loads(data["content"])
            data["message"].pop("usage")
        if record.kind == "tool.end":
            made += [("tool.end", end[:3]) for end in data["ends"]]
        elif record.kind == "tool.begin":
            made += [("tool.begin", call_id) for call_id in data["ids"]]
        else:
            made.append((record.kind, data))
    return list(_ordered(made))


def _drop(value: Any, names: Sequence[str]) -> None:
    if isinstance(value, dict):
        for name in (*names, "request_ids"):
            value.pop(name, None)


def _ordered(made: list[Any]) -> Iterator[Any]:
    """Neighbouring `tool.*` records, by kind and call."""
    group: list[Any] = []
    for entry in made:
        if entry[0].startswith("tool."):
            group.append(entry)
            continue
        yield from sorted(group, key=str)
        group = []
        yield entry
    yield from sorted(group, key=str)


async def settled(turns: int = 5) -> None:
    """Let the event loop go round a few times."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
