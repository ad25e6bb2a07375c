"""One line a move, with what one needs to find the run again, and nothing that is secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from _driving import MODEL, Clock, Loop, Plain, both, one_call

from fsm import Claude, Context, Final, Limits, MemoryStore, Tools, Workflow, tool
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

VERBS = [pytest.param(False, id="run"), pytest.param(True, id="arun")]
CANARY = "sk-ant-canary-Zx81"


@pytest.fixture(autouse=True)
def _levels(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, logger="fsm"):
        yield


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "fsm" and r.getMessage().startswith("run=")]


@pytest.mark.parametrize("is_async", VERBS)
def test_one_line_a_move(caplog: pytest.LogCaptureFixture, *, is_async: bool) -> None:
    script = [replies.tool_use("find", {"number": "1"}), replies.overloaded(), replies.text("done")]
    clock = Clock()
    result, _ = both(
        Loop,
        "Hi.",
        script,
        is_async=is_async,
        run_id="run-7",
        tags={"user": "u1", "team": "blue"},
        sleep=clock.sleep,
    )
    ids = [move.request_id for move in result.moves]
    assert lines(caplog) == [
        f"run=run-7 asking --tool_use--> calling request_id={ids[0]} user=u1 team=blue",
        "run=run-7 calling --tool_results--> asking request_id=None user=u1 team=blue",
        (
            "run=run-7 asking --overloaded_error [attempts_left(6)] / back_off--> asking "
            f"request_id={ids[2]} user=u1 team=blue"
        ),
        f"run=run-7 asking --end_turn--> answered request_id={ids[3]} user=u1 team=blue",
    ]
    assert all(r.levelno == logging.INFO for r in caplog.records if r.name == "fsm")


def test_a_line_stays_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A name or a tag cannot break the line, or pretend to be another entry of it."""
    both(
        Plain,
        "Hi.",
        [replies.text("Hello.")],
        is_async=False,
        run_id="r\n2026 ERROR fake",
        tags={"a": "b\nrun=other x", "c": "\x1b[31m", "d": "\u202ee", "two words": "f=g h"},
    )
    (line,) = lines(caplog)
    assert line.isprintable()
    assert "\n" not in line
    assert line.startswith('run="r\\n2026 ERROR fake" asking')
    assert ' a="b\\nrun=other x"' in line
    assert ' "two words"="f=g h"' in line


def test_without_tags_the_line_ends_with_the_request(caplog: pytest.LogCaptureFixture) -> None:
    result, _ = both(Plain, "Hi.", [replies.text("Hello.")], is_async=False, run_id="r")
    assert lines(caplog) == [f"run=r asking --end_turn--> answered request_id={result.moves[0].request_id}"]


def test_nothing_is_said_below_the_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="fsm")
    both(Loop, "Hi.", one_call("find", {"number": "1"}), is_async=False)
    assert not [r for r in caplog.records if r.name.startswith("fsm")]


def test_that_nothing_limits_the_runs_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsm import _opening

    monkeypatch.setattr(_opening, "_said_once", [])
    both(Plain, "Hi.", [replies.text("Hello.")], is_async=False, limits=Limits(turns=5))
    assert "limit" not in caplog.text
    for _ in range(3):
        both(Plain, "Hi.", [replies.text("Hello.")], is_async=False)
    assert [r.getMessage() for r in caplog.records].count(
        "runs have no limits; pass limits=Limits(turns=...) to bound what a run may use"
    ) == 1


class Vault:
    """Dependencies that hold a secret, also in their repr."""

    def __repr__(self) -> str:
        return f"Vault({CANARY})"


@tool
def fails(ctx: Context[Vault], number: str) -> str:
    """Fail."""
    del ctx
    msg = f"no {number}"
    raise LookupError(msg)


class Guarded(Workflow):
    asking = Claude(model=MODEL, max_tokens=100, tools=[fails])
    calling = Tools()
    answered = Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("stream", [False, True])
def test_no_secret_reaches_log_journal_or_verdict(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], *, is_async: bool, stream: bool
) -> None:
    """X7, I9: a key in the client, in headers and in the dependencies is found in no artefact, at no level of ours."""
    script: list[Reply] = [
        replies.tool_use("fails", {"number": "1"}),
        replies.overloaded(),
        replies.error(401, "authentication_error", "invalid x-api-key"),
    ]
    emulator = Emulator(script)
    store, clock = MemoryStore(), Clock()
    given: dict[str, Any] = {"api_key": CANARY, "default_headers": {"X-Secret": CANARY}}
    options: dict[str, Any] = {"journal": store, "run_id": "r", "deps": Vault(), "stream": stream, "sleep": clock.sleep}
    with caplog.at_level(logging.DEBUG, logger="fsm"):
        if is_async:
            import asyncio

            from fsm import arun

            async def main() -> Any:
                async with emulator.async_client(**given) as client:
                    return await arun(Guarded, "Hi.", client=client, **options)

            result = asyncio.run(main())
        else:
            from fsm import run

            with emulator.client(**given) as client:
                result = run(Guarded, "Hi.", client=client, **options)
    assert result.state == "failed"
    assert all("[redacted]" in r.headers.values() for r in emulator.requests), "the secret did go out"
    journal = json.dumps([[r.kind, r.at, dict(r.data)] for r in tuple(store.read("r"))])
    shown = [journal, repr(result), str(result.verdict), repr(result.records), caplog.text, *capfd.readouterr()]
    shown += [str(vars(record)) for record in caplog.records]
    shown += [result.diagram("mermaid"), result.diagram("dot")]
    assert not [text for text in shown if CANARY in text]


def test_what_a_tool_raised_is_logged_for_its_author(caplog: pytest.LogCaptureFixture) -> None:
    """The model reads a short text; whoever wrote the tool needs the traceback, at debug level."""
    with caplog.at_level(logging.DEBUG, logger="fsm.tools"):
        both(Guarded, "Hi.", one_call("fails", {"number": "1"}), is_async=False, deps=object())
    (record,) = [r for r in caplog.records if r.name == "fsm.tools"]
    assert record.exc_info is not None
    assert "LookupError: no 1" in caplog.text
