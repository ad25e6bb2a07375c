"""A process with 64 descriptors that wants more: `python _exhausted.py URL FOLDER` prints what came of it as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import anthropic

from fsm import Claude, Context, Final, JournalError, Tools, Workflow, aresume, arun, tool
from fsm.stores.sqlite import SqliteStore

MODEL = "claude-sonnet-5"
LIMIT = 64
AT_ONCE = 100


@tool
async def charge(ctx: Context[list[str]], number: int) -> str:
    """Charge."""
    ctx.deps.append(f"{ctx.run_id} {ctx.tool_use_id}")
    return f"charged {number}"


class Loop(Workflow):
    asking = Claude(model=MODEL, max_tokens=100, tools=[charge])
    calling = Tools()
    answered = Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


async def driven(url: str, store: SqliteStore, effects: list[str]) -> dict[str, Any]:
    """More runs at once than there are descriptors, then those that parked one after the other."""

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))

    options: dict[str, Any] = {"journal": store, "deps": effects, "sleep": sleep}
    async with anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0) as client:
        tasks = [arun(Loop, "Hi.", run_id=f"r{n}", client=client, **options) for n in range(AT_ONCE)]
        given = await asyncio.gather(*tasks, return_exceptions=True)
    reasons = [repr(each) if isinstance(each, BaseException) else each.verdict.reason for each in given]
    events = {e for each in given if not isinstance(each, BaseException) for e in (m.event for m in each.moves)}
    few = asyncio.Semaphore(8)

    async def go_on(run_id: str, client: Any) -> str:
        async with few:
            return (await aresume(Loop, run_id, client=client, **options)).state

    async with anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0) as client:
        ends = await asyncio.gather(*(go_on(f"r{n}", client) for n in range(AT_ONCE)))
    return {"reasons": sorted(set(reasons)), "events": sorted(events), "ends": sorted(set(ends))}


def refused(folder: Path) -> str:
    """What a journal says that cannot be opened for want of a descriptor."""
    taken = []
    with suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    try:
        SqliteStore(folder / "another.db")
    except JournalError as error:
        return str(error)
    finally:
        for descriptor in taken:
            os.close(descriptor)
    return ""


def main(url: str, folder: Path) -> None:
    """Say what came of it."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    effects: list[str] = []
    with SqliteStore(folder / "runs.db") as store:
        told = asyncio.run(driven(url, store, effects))
        told["problems"] = [p for p in (store.verify(run.run_id) for run in store.runs()) if p]
    told |= {"calls": len(effects), "different": len(set(effects)), "refused": refused(folder)}
    print(json.dumps(told))  # noqa: T201 - this is the answer


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
