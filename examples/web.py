"""A chat behind HTTP: an async web app sends moves and text as they come, one JSON object a line.

Use it to put a workflow before a browser or another program. A reader who goes away parks the run; /resume goes on from
the journal, with what the reader says, or with null where nothing was asked. It needs `pip install 'claude-fsm[web]'`;
without a key the emulator answers. After `python examples/web.py`:

    curl -Ni -H content-type:application/json -d '{"text": "What is a logarithm?"}' http://127.0.0.1:8000/runs
    curl -H content-type:application/json -d '{"text": "Go on."}' http://127.0.0.1:8000/runs/THE-X-RUN-ID/resume
"""

import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import uvicorn
from anthropic import AsyncAnthropic
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from fsm import Claude, Final, FsmError, Human, MemoryStore, Move, Result, Workflow, aiterate, aresume, said_is
from fsm.testing import Emulator


class Tutor(Workflow):
    """Explains, then waits for the reader, who asks on or says /quit."""

    explaining = Claude(model="claude-sonnet-5", max_tokens=2048, system="You are a patient tutor. Be brief.")
    listening = Human(within="1d")
    over = Final()

    explaining.on(end_turn=listening)
    listening.on(said=[over.when(said_is("/quit")), explaining], expired=over)


async def words(request: Request) -> Any:
    """What the body says. It must be JSON: a page of another site cannot send that without asking first."""
    is_json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    try:
        text = json.loads(await request.body() if is_json else b"")["text"]
        json.dumps(text, ensure_ascii=False).encode()  # half a character is legal JSON, and no text
    except (LookupError, ValueError, TypeError, RecursionError):
        raise HTTPException(400, 'send {"text": "..."} as application/json') from None
    return text


def explained(result: Result) -> dict[str, str]:
    """Why a run ended or stands still, where that is not what the reader expects."""
    is_expected = result.ok or result.verdict.reason == "waiting_person"
    return {} if is_expected else {"verdict": str(result.verdict)}


async def begin(request: Request) -> StreamingResponse:
    """A run of its own, streamed until it parks or ends."""
    app, text, run_id = request.app.state, await words(request), secrets.token_hex(8)
    if not isinstance(text, str) or not text.strip():
        raise HTTPException(400, "say something")

    async def lines() -> AsyncIterator[str]:
        run = aiterate(Tutor, text, deltas=True, run_id=run_id, client=app.client, journal=app.journal)
        async with aclosing(run) as items:  # whoever goes away ends the loop, which parks the run
            async for item in items:  # JSON escapes what a model wrote
                yield json.dumps({"move": str(item)} if isinstance(item, Move) else {item.kind: item.text}) + "\n"
        if why := explained(run.result):
            yield json.dumps(why) + "\n"

    headers = {"x-run-id": run_id, "x-content-type-options": "nosniff", "cache-control": "no-store"}
    return StreamingResponse(lines(), headers=headers, media_type="application/x-ndjson")


async def go_on(request: Request) -> JSONResponse:
    """The run where it ends or parks next."""
    app, answer, run_id = request.app.state, await words(request), request.path_params["run_id"]
    try:
        result = await aresume(Tutor, run_id, answer=answer, client=app.client, journal=app.journal)
    except FsmError as error:  # nothing was asked, no such run, or somebody drives it: nothing was changed
        raise HTTPException(409, str(error)) from error
    return JSONResponse({"state": result.state, "text": result.text, **explained(result)})


def app_of(client: AsyncAnthropic) -> Starlette:
    """The app, for this machine only. Its journal lasts as long as it does."""
    routes = [Route("/runs", begin, methods=["POST"]), Route("/runs/{run_id}/resume", go_on, methods=["POST"])]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    app = Starlette(routes=routes, middleware=[hosts, Middleware(RequestBodyLimitMiddleware, max_body_size=100_000)])
    app.state.client, app.state.journal = client, MemoryStore()
    return app


if __name__ == "__main__":
    stand_in = Emulator(lambda _: "A logarithm counts how often one divides by ten.")
    uvicorn.run(app_of(AsyncAnthropic() if "ANTHROPIC_API_KEY" in os.environ else stand_in.async_client()))
