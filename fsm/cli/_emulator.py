"""`fsm emulator`: the Messages API on loopback, from a script."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm._terminal import one_line

from ._errors import CommandError
from ._load import load_workflow
from ._show import BAD, DIM, GOOD, HEAD, Screen

if TYPE_CHECKING:
    from fsm.testing import RecordedRequest, Reply

_LOOK = 0.1  # seconds between two looks for new requests
_ERROR_FROM = 400


def emulator(
    *,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 0,
    script: Annotated[
        str | None,
        typer.Option(
            "--script",
            metavar="FILE.json|TARGET",
            help="What it answers: a list of replies, or a workflow, whose happy path it plays. Default: an echo.",
        ),
    ] = None,
    faults: Annotated[
        int | None,
        typer.Option("--faults", metavar="SEED", help="Let requests go wrong by chance; the same seed does the same."),
    ] = None,
) -> int:
    """Serve the Messages API on loopback: no key, no network; illegal requests get the API's own 400.

    A script is a JSON list, played in order. Each entry is a text, or the name of a builder in fsm.testing.replies with
    its arguments: ["Hello", {"tool_use": {"name": "find", "input": {}}}, {"overloaded": {}}, {"max_tokens": "An ans"}]
    """
    from fsm.testing import Emulator, FaultPlan, serve

    replies = _echo if script is None else _script(script)
    screen = Screen()
    played = Emulator(replies, faults=None if faults is None else FaultPlan.random(faults))
    try:
        server = serve(played, port=port)
    except OSError as error:
        raise CommandError(f"port {port} cannot be used: {error.strerror}. Choose another, or --port 0") from error
    with server:
        screen.line("The Messages API, emulated: ", (server.url, HEAD), ("   Ctrl-C ends it", DIM), indent=2)
        if not callable(replies):
            screen.line((f"{len(replies)} replies are scripted; requests beyond them get an error.", DIM), indent=2)
        screen.line()
        for line in _EXAMPLE.format(url=server.url).splitlines():
            screen.line((line, DIM), indent=4)
        screen.line()
        seen = 0
        try:
            while not server.wait(_LOOK):
                requests = played.requests
                for request in requests[seen:]:
                    _show(screen, request)
                seen = len(requests)
        except KeyboardInterrupt:
            screen.line(f"\n{len(played.requests)} requests were answered.", indent=2)
    return 0


_EXAMPLE = r"""
export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY=any
curl -s {url}/v1/messages \
  -H 'x-api-key: any' -H 'anthropic-version: 2023-06-01' \
  -H 'content-type: application/json' -d '{{"model": "claude-sonnet-5",
  "max_tokens": 100, "messages": [{{"role": "user", "content": "Hello"}}]}}'
""".strip()


def _show(screen: Screen, request: RecordedRequest) -> None:
    bad = request.status >= _ERROR_FROM
    body = request.conversation or {}
    count = len(body.get("messages", ()))
    what = f"{count} message{'s' if count != 1 else ''}" if count else ""
    words = one_line(request.error, 300) if request.error else what
    words += f"  (fault: {one_line(request.fault, 60)})" if request.fault else ""
    now = time.strftime("%H:%M:%S")
    line = f"{one_line(request.method, 10)} {one_line(request.path, 80)}  "
    screen.line((f"{now}  ", DIM), line, (str(request.status), BAD if bad else GOOD), f"  {words}", indent=2, hang=12)


def _echo(body: dict[str, Any]) -> Reply:
    """Answers with what was said last."""
    from fsm.diagram._page._said import words_of
    from fsm.testing import replies

    said = [words_of(m.get("content")) for m in body["messages"] if m.get("role") == "user"]
    return replies.text(f"You said: {said[-1]}" if said and said[-1].strip() else "Hello.")


def _script(given: str) -> Sequence[Reply] | Callable[[dict[str, Any]], Reply]:
    if not given.endswith(".json"):
        from fsm.testing.paths import happy_path

        return happy_path(load_workflow(given)).replies
    from ._script import read_script

    return read_script(Path(given))
