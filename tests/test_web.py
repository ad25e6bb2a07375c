"""`examples/web.py` over real HTTP: the app on uvicorn, a browser, and behind it an API that waits when told to."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
import uvicorn
from _driving import settled
from _sockets import DONE, HEAD, LAST, WHOLE, WHOLE_HEAD, Server, async_client_of, chunk, serving, until_gone
from anthropic import AsyncAnthropic

from examples.web import app_of
from fsm import MemoryStore
from fsm.testing import Emulator, replies


@asynccontextmanager
async def web(client: AsyncAnthropic) -> AsyncIterator[tuple[httpx2.AsyncClient, MemoryStore]]:
    """The app on a free port, a client that talks to it, and its journal. Nothing is left when it ends."""
    app = app_of(client)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=5)
    )
    serving_it = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        async with client, httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20) as browser:
            yield browser, app.state.journal
    finally:
        server.should_exit = True
        await serving_it


def test_a_chat_over_http() -> None:
    """Deltas and moves come as lines; the run parks at the reader, who goes on with it and ends it."""

    async def main() -> None:
        emulator = Emulator([replies.text('"</script>\n😀'), replies.text("More.")])
        async with web(emulator.async_client()) as (browser, journal):
            begun = await browser.post("/runs", json={"text": "Logarithms?"})
            lines = [json.loads(line) for line in begun.text.splitlines()]
            assert "".join(line.get("text", "") for line in lines) == '"</script>\n😀'
            assert lines[-1]["move"] == "explaining --end_turn--> listening"
            assert begun.headers["content-type"].startswith("application/x-ndjson")
            assert begun.headers["x-content-type-options"] == "nosniff"
            run_id = begun.headers["x-run-id"]
            on = f"/runs/{run_id}/resume"
            assert (await browser.post(on, json={"text": "Go on."})).json() == {"state": "listening", "text": "More."}
            assert (await browser.post(on, json={"text": "/quit"})).json() == {"state": "over", "text": "More."}
            assert (await browser.post(on, json={"text": "Hello?"})).status_code == 409
            assert [run.run_id for run in journal.runs()] == [run_id]
        emulator.done()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (replies.refusal("cyber", explanation="It could do harm."), ("refused: refusal", "It could do harm.", "cyber")),
        (replies.error(401, "authentication_error", "invalid x-api-key"), ("failed", "ANTHROPIC_API_KEY")),
    ],
)
def test_a_run_that_did_not_end_well_says_why(reply: replies.Reply, words: tuple[str, ...]) -> None:
    async def main() -> None:
        emulator = Emulator([reply, replies.text("Hm."), reply])
        async with web(emulator.async_client()) as (browser, _):
            kind = {"content-type": "application/json; charset=utf-8"}
            first, begun = [await browser.post("/runs", content=b'{"text": "Hi."}', headers=kind) for _ in range(2)]
            resumed = await browser.post(f"/runs/{begun.headers['x-run-id']}/resume", json={"text": "Go on."})
        for told in (json.loads(first.text.splitlines()[-1]), resumed.json()):
            assert all(word in told["verdict"] for word in words)
        assert "verdict" not in begun.text
        emulator.done()

    asyncio.run(main())


def test_nobody_learns_of_the_runs_of_others() -> None:
    async def main() -> None:
        async with web(Emulator([replies.text("Hm.")]).async_client()) as (browser, _):
            begun = await browser.post("/runs", json={"text": "Hi."})
            other = await browser.post("/runs/nope/resume", json={"text": "Hi."})
        assert other.status_code == 409
        assert begun.headers["x-run-id"] not in other.text

    asyncio.run(main())


def test_a_reader_who_goes_away_parks_the_run_and_comes_back_to_it() -> None:
    """The API still writes when the reader leaves: its connection is closed, and /resume asks it again."""
    gone = threading.Event()

    def half(connection: socket.socket, number: int) -> None:
        if number == 0:
            connection.sendall(HEAD + chunk(DONE[: DONE.index(b"content_block_delta", DONE.index(b"text_delta"))]))
            until_gone(connection)
            gone.set()
        else:
            connection.sendall(WHOLE_HEAD + chunk(WHOLE) + LAST)

    async def main(api: Server) -> None:
        async with web(async_client_of(api)) as (browser, journal):
            async with browser.stream("POST", "/runs", json={"text": "Logarithms?"}) as answer:
                assert json.loads(await anext(answer.aiter_lines())) == {"text": "do"}  # the rest was not sent yet
                run_id = answer.headers["x-run-id"]
            assert await asyncio.to_thread(gone.wait, 15)
            on, said = f"/runs/{run_id}/resume", {"text": None}
            while (resumed := await browser.post(on, json=said)).status_code == 409:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.01)
            assert resumed.json() == {"state": "listening", "text": "done"}
            kinds = [record.kind for record in tuple(journal.read(run_id))]
            assert kinds.count("park") == 2  # once left, once waiting for the reader
            assert kinds.index("park") < kinds.index("resume")
        first, second = (json.loads(body) for body in api.bodies)
        assert first == second | {"stream": True}
        await settled()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with serving(half) as api:
        asyncio.run(main(api))


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/runs", {"host": "evil.example"}, b'{"text": "Hi."}', 400),
        ("/runs", {"content-type": "text/plain"}, b'{"text": "Hi."}', 400),
        ("/runs", {}, b"{", 400),
        ("/runs", {}, b"[" * 100_001, 413),
        ("/runs", {}, b"[" * 90_000, 400),
        ("/runs", {}, b'"text"', 400),
        ("/runs", {}, b"{}", 400),
        ("/runs", {}, b'{"text": " "}', 400),
        ("/runs", {}, b'{"text": ["Hi."]}', 400),
        ("/runs", {}, b'{"text": "\\ud800"}', 400),
        ("/runs/none/resume", {}, b'{"text": "\\ud800"}', 400),
        ("/runs", {}, b'{"text": "' + b"x" * 200_000 + b'"}', 413),
        ("/runs/none/resume", {}, b'{"text": "Hi."}', 409),
        ("/runs/none/resume", {"host": "localhost.evil.example"}, b'{"text": "Hi."}', 400),
        ("/runs/../x", {}, b'{"text": "Hi."}', 404),
    ],
)
def test_what_the_app_refuses(path: str, headers: dict[str, str], body: bytes, status: int) -> None:
    """Hosts that are not this machine, forms of other sites, and bodies that are too large or none: no run begins."""

    async def main() -> None:
        emulator = Emulator([])
        async with web(emulator.async_client()) as (browser, journal):
            answer = await browser.post(path, headers={"content-type": "application/json"} | headers, content=body)
            assert answer.status_code == status
            assert [run.run_id for run in journal.runs()] == []
        assert emulator.requests == ()

    asyncio.run(main())
