"""Streams over real sockets through the real client: cut in four ways, stalled, dribbled, left early (N3, N5)."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing, suppress
from typing import Any

import pytest
from _driving import MODEL, Clock, Plain, events_of, settled
from _sockets import (
    CALL,
    DONE,
    HEAD,
    LAST,
    PING,
    WHOLE,
    WHOLE_HEAD,
    Halves,
    Server,
    async_client_of,
    chunk,
    client_of,
    serving,
    stream_of,
    text_block,
    until_gone,
)

from fsm import Claude, Context, Final, MemoryStore, Move, Result, Tools, Workflow, aiterate, arun, iterate, run, tool
from fsm._wire import Delta

# ── cut ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@tool
def note(ctx: Context[list[str]], number: str) -> str:
    """Note it."""
    ctx.deps.append(number)
    return "noted"


class Noting(Workflow):
    """The shortest tool loop, whose tool leaves a trace."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[note])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


def end(connection: socket.socket, way: str) -> None:
    """The four ways of N3."""
    if way == "clean EOF":
        connection.sendall(LAST)
    elif way == "TCP RST":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif way == "stall":
        until_gone(connection)
    else:
        assert way == "no terminator"


AT_ONCE = 6  # as many cuts as the standard row retries
WAYS = {
    "clean EOF": 13,
    "TCP RST": 13,
    "no terminator": 13,
    "stall": 11,
}  # conversations of six cuts each, sync + async


class Cutting:
    """Cuts one reply six times, each time elsewhere, then sends it whole, then answers."""

    def __init__(self, way: str, cuts: list[int]) -> None:
        self.way, self.cuts = way, cuts

    def __call__(self, connection: socket.socket, number: int) -> None:
        if number < len(self.cuts):
            connection.sendall(HEAD + chunk(CALL[: self.cuts[number]]))
            end(connection, self.way)
        else:
            connection.sendall(HEAD + chunk(CALL if number == len(self.cuts) else DONE) + LAST)


def check_cut(result: Result, server: Server, ran: list[str]) -> int:
    """Nothing of the cut replies was run or kept, and the same bytes were sent again."""
    assert events_of(result.records) == ["cut_stream"] * AT_ONCE + ["tool_use", "tool_results", "end_turn"]
    assert len(set(server.bodies[: AT_ONCE + 1])) == 1
    assert ran == ["7"]
    assert [message["role"] for message in result.messages] == ["user", "assistant", "user", "assistant"]
    assert result.text == "done"
    return AT_ONCE


def cut_positions() -> Iterator[list[int]]:
    """Every event boundary first, then bytes at random; the last is one byte before the end."""
    bounds = [at + 2 for at in range(len(CALL) - 2) if CALL[at : at + 2] == b"\n\n"]
    rng = random.Random(3)
    places = [*bounds, 0, 1, len(CALL) - 1]
    while True:
        while len(places) < AT_ONCE:
            places.append(rng.randrange(len(CALL)))
        yield places[:AT_ONCE]
        places = places[AT_ONCE:]


def test_n3_three_hundred_cuts_are_cut_streams_and_leave_nothing_behind() -> None:
    """G20, G10, E24: whatever came before the cut, `message_delta` with its stop_reason included."""
    positions = cut_positions()
    jobs = [(way, number, next(positions)) for way, count in WAYS.items() for number in range(count)]

    def one(job: tuple[str, int, list[int]]) -> int:
        way, number, cuts = job
        ran: list[str] = []
        clock, read = Clock(), 0.5 if way == "stall" else 20.0
        options: Any = {"deps": ran, "stream": True, "clock": clock}

        async def sleep(seconds: float) -> None:
            clock.sleep(seconds)

        async def main(server: Server) -> Result:
            async with async_client_of(server, read) as client:
                return await arun(Noting, "Hi.", client=client, sleep=sleep, **options)

        with serving(Cutting(way, cuts)) as server:
            if number % 2:
                result = asyncio.run(main(server))
            else:
                with client_of(server, read) as client:
                    result = run(Noting, "Hi.", client=client, sleep=clock.sleep, **options)
            return check_cut(result, server, ran)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, jobs)) == 300


# ── no progress ──────────────────────────────────────────────────────────────────────────────────────────────────────


def pinging(connection: socket.socket, number: int) -> None:
    """Begins a reply, then nothing but pings and comments, for ever."""
    connection.sendall(HEAD + chunk(CALL[: CALL.index(b"event: content_block_delta")]))
    ping_on(connection)


def ping_on(connection: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(chunk(PING) + chunk(b": still here\n\n"))
            threading.Event().wait(0.02)


def dribbling(connection: socket.socket, number: int) -> None:
    """One byte after the other of an event that never ends."""
    connection.sendall(HEAD + chunk(b"event: content_block_delta\ndata: "))
    with suppress(OSError):
        while True:
            connection.sendall(chunk(b"x"))
            threading.Event().wait(0.02)


def dribbling_whole(connection: socket.socket, number: int) -> None:
    """The same of a reply that was not streamed."""
    connection.sendall(WHOLE_HEAD)
    with suppress(OSError):
        while True:
            connection.sendall(chunk(b" "))
            threading.Event().wait(0.02)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("handler", "event", "said"),
    [
        (pinging, "cut_stream", "no event but pings for 0.4 s"),
        (dribbling, "cut_stream", "no event but pings for 0.4 s"),
        (dribbling_whole, "connection_error", "did not end within 0.4 s"),
        (lambda connection, number: (connection.sendall(HEAD), until_gone(connection)), "cut_stream", "for 0.4 s"),
    ],
    ids=["pings", "bytes of one event", "bytes of a body", "headers only"],
)
def test_n5_an_answer_without_progress_is_given_up(handler: Any, event: str, said: str, *, is_async: bool) -> None:
    """The client's read timeout counts progress; pings and single bytes are none. The same bytes are sent again."""
    clock = Clock()

    def once(connection: socket.socket, number: int) -> None:
        if number == 0:
            handler(connection, number)
        elif stream:
            connection.sendall(HEAD + chunk(DONE) + LAST)
        else:
            connection.sendall(WHOLE_HEAD + chunk(WHOLE) + LAST)

    def sleep(seconds: float) -> Any:
        clock.sleep(seconds)
        return asyncio.sleep(0) if is_async else None

    async def main(server: Server) -> Result:
        async with async_client_of(server, 0.4) as client:
            return await arun(Plain, "Hi.", client=client, stream=stream, clock=clock, sleep=sleep)

    stream = handler is not dribbling_whole
    with serving(once) as server:
        if is_async:
            result = asyncio.run(main(server))
        else:
            with client_of(server, 0.4) as client:
                result = run(Plain, "Hi.", client=client, stream=stream, clock=clock, sleep=sleep)
        assert events_of(result.records) == [event, "end_turn"]
        assert result.text == "done"
        assert server.bodies[0] == server.bodies[1]
    (failure,) = [record.data for record in result.records if record.kind == "error"]
    assert said in failure["message"]
    assert failure["request_id"] == "req_1"


@pytest.mark.parametrize("is_async", [False, True])
def test_n5_a_slow_stream_that_moves_on_may_take_longer_than_the_timeout(*, is_async: bool) -> None:
    """Each event begins the time anew, however many pings come between."""

    def slowly(connection: socket.socket, number: int) -> None:
        connection.sendall(HEAD)
        for part in stream_of("end_turn", text_block(*"slowly")):
            connection.sendall(chunk(part))
            for _ in range(4):
                threading.Event().wait(0.03)
                connection.sendall(chunk(PING))
        connection.sendall(LAST)

    async def main(server: Server) -> Result:
        async with async_client_of(server, 1.0) as client:
            return await arun(Plain, "Hi.", client=client, stream=True)

    with serving(slowly) as server:
        if is_async:
            result = asyncio.run(main(server))
        else:
            with client_of(server, 1.0) as client:
                result = run(Plain, "Hi.", client=client, stream=True)
    assert (result.text, events_of(result.records)) == ("slowly", ["end_turn"])
    assert result.verdict.duration > 1.0


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("way", ["TCP RST", "no terminator", "stall", "pings"])
def test_g7_what_the_connection_does_after_message_stop_does_not_matter(way: str, *, is_async: bool) -> None:
    """The message was whole: it is not asked for, and paid, a second time."""

    def whole(connection: socket.socket, number: int) -> None:
        connection.sendall(HEAD + chunk(DONE))
        if way == "pings":
            ping_on(connection)
        else:
            end(connection, way)

    async def main(server: Server) -> Result:
        async with async_client_of(server, 0.4) as client:
            return await arun(Plain, "Hi.", client=client, stream=True)

    with serving(whole) as server:
        if is_async:
            result = asyncio.run(main(server))
        else:
            with client_of(server, 0.4) as client:
                result = run(Plain, "Hi.", client=client, stream=True)
        assert len(server.bodies) == 1
    assert (result.text, events_of(result.records)) == ("done", ["end_turn"])


def test_n5_without_a_read_timeout_there_is_no_limit() -> None:
    def pause(connection: socket.socket, number: int) -> None:
        connection.sendall(HEAD + chunk(PING))
        threading.Event().wait(0.1)
        connection.sendall(chunk(PING) + chunk(DONE) + LAST)

    with serving(pause) as server, client_of(server, None) as client:
        assert run(Plain, "Hi.", client=client, stream=True).text == "done"


# ── deltas ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_deltas_come_while_the_reply_is_written() -> None:
    """The server sends the second piece only after the consumer had the first: run, iterate, arun, aiterate."""

    def by_callback(client: Any, halves: Halves) -> str:
        return run(Plain, "Hi.", client=client, on_delta=lambda delta: halves.seen.set()).text

    def piece_of(item: Any, halves: Halves) -> str:
        halves.seen.set()
        return item.text if isinstance(item, Delta) else "|"

    def by_loop(client: Any, halves: Halves) -> str:
        return "".join(piece_of(item, halves) for item in iterate(Plain, "Hi.", client=client, deltas=True))

    async def awaited(client: Any, halves: Halves) -> str:
        async def saw(delta: Delta) -> None:
            halves.seen.set()

        return (await arun(Plain, "Hi.", client=client, on_delta=saw)).text

    async def by_async_loop(client: Any, halves: Halves) -> str:
        items = aiterate(Plain, "Hi.", client=client, deltas=True)
        return "".join([piece_of(item, halves) async for item in items])

    async def with_client(way: Any, server: Server, halves: Halves) -> str:
        async with async_client_of(server) as client:
            return str(await way(client, halves))

    for way, expected in ((by_callback, "done"), (by_loop, "done|")):
        halves = Halves()
        with serving(halves) as server:
            with client_of(server) as client:
                assert way(client, halves) == expected
            assert halves.gone.wait(15)
    for async_way, expected in ((awaited, "done"), (by_async_loop, "done|")):
        halves = Halves()
        with serving(halves) as server:
            assert asyncio.run(with_client(async_way, server, halves)) == expected
            assert halves.gone.wait(15)


def test_leaving_a_stream_gives_the_connection_back_and_parks_the_run() -> None:
    """A break, a callback that raises: the server sees the end at once, while the client lives on."""

    def leave(client: Any, store: MemoryStore) -> None:
        with closing(iterate(Plain, "Hi.", client=client, deltas=True, journal=store, run_id="r")) as items:
            for item in items:
                assert isinstance(item, Delta)
                break

    def fail(client: Any, store: MemoryStore) -> None:
        def boom(delta: Delta) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            run(Plain, "Hi.", client=client, on_delta=boom, journal=store, run_id="r")

    for way in (leave, fail):
        before = threading.active_count()
        store, halves = MemoryStore(), Halves()
        with serving(halves) as server, client_of(server) as client:
            way(client, store)
            halves.seen.set()
            assert halves.gone.wait(15)
            assert tuple(store.read("r"))[-1].kind == "park"
        assert threading.active_count() == before


def test_leaving_an_async_stream_gives_the_connection_back_and_parks_the_run() -> None:
    """A break with `aclose`, a cancelled task, a callback that raises; no task is left."""

    async def leave(client: Any, store: MemoryStore, halves: Halves) -> None:
        async with aclosing(aiterate(Plain, "Hi.", client=client, deltas=True, journal=store, run_id="r")) as items:
            async for item in items:
                assert isinstance(item, Delta)
                break

    async def cancel(client: Any, store: MemoryStore, halves: Halves) -> None:
        begun = asyncio.Event()
        given: Any = {"client": client, "journal": store, "run_id": "r", "on_delta": lambda delta: begun.set()}
        task = asyncio.create_task(arun(Plain, "Hi.", **given))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def fail(client: Any, store: MemoryStore, halves: Halves) -> None:
        async def boom(delta: Delta) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await arun(Plain, "Hi.", client=client, on_delta=boom, journal=store, run_id="r")

    async def main(way: Any, server: Server, halves: Halves) -> None:
        store = MemoryStore()
        async with async_client_of(server) as client:
            await way(client, store, halves)
            halves.seen.set()
            assert await asyncio.to_thread(halves.gone.wait, 15)
            assert tuple(store.read("r"))[-1].kind == "park"
            await settled()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    for way in (leave, cancel, fail):
        halves = Halves()
        with serving(halves) as server:
            asyncio.run(main(way, server, halves))


# ── a reply that begins anew ─────────────────────────────────────────────────────────────────────────────────────────


def shown(items: list[Any]) -> list[str]:
    """What a page would do with it: text is added, a restart empties it, a move is noted."""
    page: list[str] = [""]
    for item in items:
        if isinstance(item, Move):
            page += [str(item.event), ""]
        elif item.kind == "restart":
            page += ["restart", ""]
        elif item.kind == "text":
            page[-1] += item.text
    return [part for part in page if part]


@pytest.mark.parametrize("is_async", [False, True])
def test_g20_a_reply_that_begins_anew_says_so(*, is_async: bool) -> None:
    """Between a cut and the text that stands in its place come the move and a `restart`; never elsewhere."""
    at = CALL.index(b"event: content_block_delta", CALL.index(b"event: content_block_delta") + 1)
    clock, seen = Clock(), []

    def sleep(seconds: float) -> Any:
        clock.sleep(seconds)
        return asyncio.sleep(0) if is_async else None

    async def main(server: Server) -> list[Any]:
        async with async_client_of(server) as client:
            return [item async for item in aiterate(Noting, "Hi.", client=client, **options)]

    options: Any = {"deltas": True, "deps": [], "clock": clock, "sleep": sleep, "on_delta": seen.append}
    with serving(Cutting("no terminator", [at, 0, at])) as server:
        if is_async:
            items = asyncio.run(main(server))
        else:
            with client_of(server) as client:
                items = list(iterate(Noting, "Hi.", client=client, **options))
    cut, anew = ["Ich sehe ", "cut_stream", "restart"], "Ich sehe nach 😀."
    assert shown(items) == [*cut, "cut_stream", *cut, anew, "tool_use", "tool_results", "done", "end_turn"]
    assert seen == [item for item in items if isinstance(item, Delta)]
