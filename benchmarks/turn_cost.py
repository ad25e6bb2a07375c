"""What a turn costs: CPU of the bare loop, of the SDK's tool runner and of `fsm`, in one process, alternately.

    python benchmarks/turn_cost.py [--turns 10 100 500] [--rounds 5] [--growth]

Every contender talks to the same in-process transport, which answers with ready bytes: N replies that call one tool
(about 430 bytes of history a turn), then an answer. Printed is the CPU of a turn of the bare loop in µs, and for the
others the ratio to the bare run next to it: median (lowest-highest). Absolute times drift from machine to machine; the
ratios of one run are what counts. `--growth` compares turns near 1000 with turns near 10.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2

from fsm import Claude, Final, Tools, Workflow, run, tool

MODEL = "claude-sonnet-5"
RESULT = "x" * 150
TARGETS = {10: 0.75, 100: 0.28, 500: 0.09}
GROWTH_TARGET = 1.2


@tool
def look_up(text: str) -> str:
    """Look something up."""
    return f"{text}: {RESULT}"


@tool(name="look_up", timeout=None)
def look_up_here(text: str) -> str:
    """Look something up."""
    return f"{text}: {RESULT}"


class Loop(Workflow):
    """The loop that everybody writes. Its tool has a time limit, so it runs in a thread of its own."""

    asking = Claude(model=MODEL, max_tokens=1000, tools=[look_up])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


class LoopHere(Loop):
    """The same with a tool without a time limit, which runs in the thread of the driver."""

    asking = Claude(model=MODEL, max_tokens=1000, tools=[look_up_here])
    asking.on(tool_use=Loop.calling, end_turn=Loop.answered)


class Canned(httpx2.BaseTransport):
    """Answers with ready bytes: `turns` tool calls, then a text. Ids are fresh, contents are not."""

    def __init__(self) -> None:
        self.turns, self.left, self.number = 0, 0, 0
        self.marks: list[float] = []  # CPU time at each request

    def start(self, turns: int) -> None:
        """Begin a conversation."""
        self.turns = self.left = turns
        self.marks = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """One reply."""
        request.read()
        self.number += 1
        self.marks.append(time.process_time())
        if self.left:
            call = b'{"type":"tool_use","id":"toolu_%08d","name":"look_up","input":{"text":"item %d"}}'
            content = b'[{"type":"text","text":"Let me look that up."},%b]' % (call % (self.number, self.number))
            stop = b"tool_use"
        else:
            content, stop = b'[{"type":"text","text":"Done."}]', b"end_turn"
        self.left -= 1
        body = (
            b'{"id":"msg_%08d","type":"message","role":"assistant","model":"%b","content":%b,"stop_reason":"%b",'
            b'"stop_sequence":null,"stop_details":null,"usage":{"input_tokens":100,"output_tokens":20,'
            b'"cache_creation_input_tokens":0,"cache_read_input_tokens":0}}'
        ) % (self.number, MODEL.encode(), content, stop)
        headers = {"content-type": "application/json", "request-id": f"req_{self.number}"}
        return httpx2.Response(200, content=body, headers=headers)


TRANSPORT = Canned()
CLIENT = anthropic.Anthropic(api_key="benchmark", max_retries=0, http_client=httpx2.Client(transport=TRANSPORT))
DEFINITIONS: Any = Loop.toolbox.definitions["asking"]


def by_hand(ask: Callable[..., Any]) -> None:
    """A hand-written loop; `ask` takes the parameters of a request and gives the SDK's message."""
    messages: list[Any] = [{"role": "user", "content": "Look them all up."}]
    while True:
        reply = ask(model=MODEL, max_tokens=1000, messages=messages, tools=DEFINITIONS)
        messages.append({"role": "assistant", "content": reply.content})
        if reply.stop_reason != "tool_use":
            return
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": look_up(**block.input)}
            for block in reply.content
            if block.type == "tool_use"
        ]
        messages.append({"role": "user", "content": results})


def bare() -> None:
    """A hand-written loop on `messages.create`."""
    by_hand(CLIENT.messages.create)


def runner() -> None:
    """The SDK's tool runner with the full history."""
    made = anthropic.beta_tool(look_up.run)
    messages: Any = [{"role": "user", "content": "Look them all up."}]
    arguments: Any = {"model": MODEL, "max_tokens": 1000, "tools": [made], "messages": messages, "thread": False}
    for _ in CLIENT.beta.messages.tool_runner(**arguments):
        pass


def fsm() -> None:
    """`fsm.run` with the journal in memory."""
    result = run(Loop, "Look them all up.", client=CLIENT)
    if not result.ok:
        raise RuntimeError(str(result.verdict))


def fsm_here() -> None:
    """The same without a hop to another thread for each tool."""
    result = run(LoopHere, "Look them all up.", client=CLIENT)
    if not result.ok:
        raise RuntimeError(str(result.verdict))


CONTENDERS: dict[str, Callable[[], None]] = {"fsm": fsm, "fsm, timeout=None": fsm_here, "SDK tool runner": runner}


def cost(contender: Callable[[], None], turns: int, repeats: int, transport: Canned = TRANSPORT) -> float:
    """CPU seconds a turn."""
    gc.collect()
    begun = time.process_time()
    for _ in range(repeats):
        transport.start(turns)
        contender()
    return (time.process_time() - begun) / repeats / (turns + 1)


def compare(turns: int, rounds: int) -> None:
    """Print one row a contender."""
    repeats = max(1, 200 // turns)
    ratios: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    bares = []
    for _ in range(rounds):
        for name, contender in CONTENDERS.items():
            reference = cost(bare, turns, repeats)
            bares.append(reference)
            ratios[name].append(cost(contender, turns, repeats) / reference)
    print(f"N={turns:<4} bare loop {statistics.median(bares) * 1e6:8.0f} µs CPU a turn")
    for name, found in ratios.items():
        target = f"   target ≤ {TARGETS[turns]}" if name.startswith("fsm") and turns in TARGETS else ""
        print(f"       {name:<18} {statistics.median(found):5.2f}  ({min(found):.2f}-{max(found):.2f}){target}")


def growth(rounds: int) -> None:
    """Print what turn 1000 costs against turn 10."""
    found = []
    for _ in range(rounds):
        gc.collect()
        TRANSPORT.start(1100)
        fsm()
        marks = TRANSPORT.marks
        early = statistics.median(b - a for a, b in itertools.pairwise(marks[5:56]))
        late = statistics.median(b - a for a, b in itertools.pairwise(marks[1000:1051]))
        found.append(late / early)
    spread = f"({min(found):.2f}-{max(found):.2f})"
    print(f"growth: turn 1000 costs {statistics.median(found):.2f} × turn 10 {spread}   target ≤ {GROWTH_TARGET}")


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, nargs="+", default=list(TARGETS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--growth", action="store_true", help="only the growth of a turn's cost")
    parser.add_argument("--json", action="store_true", help="print the versions measured, as JSON")
    given = parser.parse_args()
    if given.json:
        print(json.dumps({"anthropic": anthropic.__version__}))
    for contender in (bare, *CONTENDERS.values()):
        cost(contender, 10, 2)  # warm up
    if not given.growth:
        for turns in given.turns:
            compare(turns, given.rounds)
    growth(given.rounds)


if __name__ == "__main__":
    main()
