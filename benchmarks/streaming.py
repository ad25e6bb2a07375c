"""What a streamed turn costs: CPU of the SDK's stream helper and of `fsm`, in one process, alternately.

    python benchmarks/streaming.py [--turns 10 100] [--rounds 5] [--audit]

Both hold the conversation of `turn_cost.py` with every reply streamed: the text in words, the tool input in pieces, one
chunk of bytes an event, as the API sends them. The helper's loop is `with client.messages.stream(...)` and
`get_final_message()`. Printed is the CPU of a turn of the helper in µs, and for `fsm` the ratio to the run next to it:
median (lowest-highest). `--audit` prints what the reader makes of recorded events instead, in MB/s of their JSON lines.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
from turn_cost import Canned, Loop, LoopHere, by_hand, cost

from fsm import run
from fsm._wire import message_from_events

TARGETS = {100: 0.6}
AUDIT_TARGET = 20
TEXT = "Let me look that up for you, it should be in the second of the two lists that I was given."


class Events(httpx2.SyncByteStream):
    """A body that comes in one chunk an event."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        """Each chunk."""
        yield from self.chunks


class Streamed(Canned):
    """The same replies as streams."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """One reply."""
        whole: dict[str, Any] = json.loads(super().handle_request(request).content)
        headers = {"content-type": "text/event-stream", "request-id": f"req_{self.number}"}
        return httpx2.Response(200, stream=Events([chunk(event) for event in events_of(whole)]), headers=headers)


def chunk(event: dict[str, Any]) -> bytes:
    """One event as it is sent."""
    return f"event: {event['type']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode()


def events_of(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A message as the events that stream it."""
    yield {"type": "message_start", "message": whole | {"content": [], "stop_reason": None}}
    for index, block in enumerate(whole["content"]):
        if block["type"] == "text":
            begun = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": word} for word in TEXT.split(" ")]
        else:
            begun = block | {"input": {}}
            text = json.dumps(block["input"])
            pieces = ["", *(text[at : at + 4] for at in range(0, len(text), 4))]
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        yield {"type": "content_block_start", "index": index, "content_block": begun}
        if not index:
            yield {"type": "ping"}
        yield from ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        yield {"type": "content_block_stop", "index": index}
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": whole["usage"]}
    yield {"type": "message_stop"}


TRANSPORT = Streamed()
CLIENT = anthropic.Anthropic(api_key="benchmark", max_retries=0, http_client=httpx2.Client(transport=TRANSPORT))


def helper() -> None:
    """A hand-written loop on the SDK's `messages.stream`."""
    by_hand(_streamed)


def _streamed(**request: Any) -> Any:
    with CLIENT.messages.stream(**request) as stream:
        return stream.get_final_message()


def fsm() -> None:
    """`fsm.run` with every request streamed."""
    _ended(run(Loop, "Look them all up.", client=CLIENT, stream=True))


def fsm_here() -> None:
    """The same without a hop to another thread for each tool."""
    _ended(run(LoopHere, "Look them all up.", client=CLIENT, stream=True))


def _ended(result: Any) -> None:
    if not result.ok:
        raise RuntimeError(str(result.verdict))


CONTENDERS = {"fsm": fsm, "fsm, timeout=None": fsm_here}


def made_of_nothing(turns: int, repeats: int) -> float:
    """CPU seconds a turn that the transport itself takes to make its streams; taken off both sides."""
    TRANSPORT.start(turns)
    request = httpx2.Request("POST", "http://benchmark.invalid", content=b"{}")
    begun = time.process_time()
    for _ in range(repeats * (turns + 1)):
        TRANSPORT.handle_request(request)
    return (time.process_time() - begun) / repeats / (turns + 1)


def compare(turns: int, rounds: int) -> None:
    """Print one row a contender."""
    repeats = max(1, 100 // turns)
    ratios: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    helpers = []
    for _ in range(rounds):
        for name, contender in CONTENDERS.items():
            nothing = made_of_nothing(turns, repeats)
            reference = cost(helper, turns, repeats, TRANSPORT) - nothing
            helpers.append(reference)
            ratios[name].append((cost(contender, turns, repeats, TRANSPORT) - nothing) / reference)
    print(f"N={turns:<4} SDK stream helper {statistics.median(helpers) * 1e6:8.0f} µs CPU a turn")
    for name, found in ratios.items():
        target = f"   target ≤ {TARGETS[turns]}" if turns in TARGETS else ""
        print(f"       {name:<18} {statistics.median(found):5.2f}  ({min(found):.2f}-{max(found):.2f}){target}")


def audit(rounds: int) -> None:
    """Print how fast recorded events become messages, the parsing of their JSON lines included."""
    TRANSPORT.start(1)
    request = httpx2.Request("POST", "http://benchmark.invalid", content=b"{}")
    whole = json.loads(Canned.handle_request(TRANSPORT, request).content)
    line = json.dumps([{"event": event["type"], "data": event} for event in events_of(whole)])
    found = []
    for _ in range(rounds):
        begun = time.process_time()
        for _ in range(300):
            message_from_events(json.loads(line))
        found.append(300 * len(line) / (time.process_time() - begun) / 1e6)
    spread = f"({min(found):.1f}-{max(found):.1f})"
    print(f"recorded events: {statistics.median(found):.1f} MB/s {spread}   target ≥ {AUDIT_TARGET}")


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--audit", action="store_true", help="only the reading of recorded events")
    given = parser.parse_args()
    if not given.audit:
        for contender in (helper, *CONTENDERS.values()):
            cost(contender, 10, 2, TRANSPORT)  # warm up
        for turns in given.turns:
            compare(turns, given.rounds)
    audit(given.rounds)


if __name__ == "__main__":
    main()
