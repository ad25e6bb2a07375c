"""Every stop reason with every shape of content (S0-S12, reliability §4.4): what is sent next, and where it ends.

`TABLE` is S14 and the standard table (architecture §3) cell by cell; `MEANS` says what each word in it asks for. Both
are checked against requests as they left, through the SDK and the emulator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import pytest
from _driving import MODEL
from attrs import evolve, frozen

from fsm import Claude, Final, Tools, Workflow, arun, matched, run, tool
from fsm._errors import DeclarationError
from fsm.testing import Emulator, Reply, replies

CAP = 100

ran: list[str] = []


@tool
def find(number: str, place: str) -> str:
    """Find an order."""
    ran.append(number)
    return f"order {number} at {place}"


WEB_SEARCH = {"type": "web_search_20250305", "name": "web_search"}


def desk(model: str) -> type[Workflow]:
    """A tool loop with a server tool and a stop sequence; everything else is the standard table."""

    class Desk(Workflow):
        asking = Claude(
            model=model,
            max_tokens=CAP,
            system="Be brief.",
            tools=[find, WEB_SEARCH],
            stop_sequences=["</stop>"],
            extra_body={"context_management": {"edits": [{"type": "compact_20260112"}]}},  # S10.1
        )
        calling = Tools()
        answered = Final()

        asking.on(tool_use=calling, end_turn=answered, stop_sequence=answered)
        calling.on(tool_results=asking)

    return Desk


DESK = desk(MODEL)
# The emulator tells a paused turn from a prefill (R25) by the server tool that it ends with; shapes without one are
# played with a model that takes prefills.
OLDER_DESK = desk("claude-sonnet-4-5")


TEXT = {"type": "text", "text": "Order 7 is"}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "order 7"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"number": "7", "place": "hall"}}

SHAPES: Mapping[str, list[dict[str, Any]]] = {
    "empty": [],
    "text": [TEXT],
    "thinking": [{"type": "thinking", "thinking": "", "signature": "c2ln"}],
    "redacted": [{"type": "redacted_thinking", "data": "b3BhcXVl"}],
    "call": [TEXT, CALL],
    "cut call": [TEXT, {**CALL, "input": {"number": "7"}}],  # S5.3: valid JSON, the unfinished key is gone
    "server": [SEARCH, FOUND],
    "server open": [TEXT, SEARCH],
    "fallback": [{"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}}, TEXT],
    "summary": [{"type": "compaction", "content": "Order 7 is wanted.", "encrypted_content": "b3BhcXVl"}],
    "no summary": [{"type": "compaction", "content": None, "encrypted_content": None}],  # S10.3
    "unknown": [{"type": "hologram", "depth": 1e2}],
}

TABLE = """
            | end_turn stop_sequence tool_use max_tokens pause_turn refusal window    compaction new_reason null
empty       | please    done      malformed  grow        again      refused truncated again      unknown    malformed
text        | done      done      malformed  continue    resume     refused truncated again      unknown    malformed
thinking    | done      done      malformed  grow        resume     refused truncated again      unknown    malformed
redacted    | done      done      malformed  grow        resume     refused truncated again      unknown    malformed
call        | malformed malformed results    grow        malformed  refused truncated malformed  unknown    malformed
cut call    | malformed malformed invalid    grow        malformed  refused truncated malformed  unknown    malformed
server      | done      done      malformed  grow        resume     refused truncated again      unknown    malformed
server open | done      done      malformed  grow        resume     refused truncated again      unknown    malformed
fallback    | done      done      malformed  continue    resume     refused truncated again      unknown    malformed
summary     | done      done      malformed  grow        resume     refused truncated resume     unknown    malformed
no summary  | done      done      malformed  grow        resume     refused truncated again      unknown    malformed
unknown     | done      done      malformed  grow        resume     refused truncated again      unknown    malformed
"""

REPLY = "the reply, byte for byte"  # S6.2, S12.1


@frozen
class Next:
    """The next request: what stands after the messages of the first one, what else differs; None: there is none."""

    appended: tuple[Any, ...] | None
    max_tokens: int = CAP
    ran: tuple[str, ...] = ()
    event: str | None = None  # of the first move, where it is not the stop reason
    state: str = "answered"  # where the run ends; a next request is answered with text
    repeated: tuple[str, int] | None = None  # where it ends, after how many requests, if every reply is like this


def said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def result(text: str, **more: Any) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": "toolu_1", "content": text, **more}
    return {"role": "user", "content": [block]}


MISFIT = (
    "The input does not fit the schema of 'find': \"place\" is a required property. Nothing was run; call it again."
)

MEANS: Mapping[str, Next] = {
    # S3.2, S4.1: the turn is over.
    "done": Next(None),
    # S3.4: the empty turn is not appended, and the same request is not sent again.
    "please": Next((said("Please continue."),), event="empty_turn", repeated=("failed", 2)),
    # S6.2: the only stop reason that runs tools (S2a).
    "results": Next((REPLY, result("order 7 at hall")), ran=("7",)),
    # S6.4: what does not fit the schema is answered, nothing is run.
    "invalid": Next((REPLY, result(MISFIT, is_error=True))),
    # S5.2, S5.4, S5.6: the same messages with more room; nothing of the reply is appended.
    "grow": Next((), max_tokens=2 * CAP, repeated=("truncated", 3)),
    # S5.1: cut text goes on.
    "continue": Next((REPLY, said("Continue.")), repeated=("truncated", 4)),
    # S7.2, S10.1: the reply goes back as the last message, nothing is said.
    "resume": Next((REPLY,), repeated=("stuck", 6)),
    # S10.3, R22: there is nothing to append, so the old history is asked again.
    "again": Next((), repeated=("stuck", 3)),
    # S8.3, S8.5: not appended, not sent again, nothing run.
    "refused": Next(None, state="refused"),
    # S9.2: more room cannot help.
    "truncated": Next(None, state="truncated"),
    # S6.10, S11.1, S11.3, §9: a reply that contradicts itself is not trusted.
    "malformed": Next(None, event="malformed", state="failed"),
    # S11.2: journaled as it is, nothing run.
    "unknown": Next(None, event="unknown_stop", state="failed"),
}

WIRE_NAMES = {"window": "model_context_window_exceeded", "null": None}


def cells() -> dict[tuple[str, str], str]:
    """The table: (stop reason, shape) -> word."""
    head, *rows = TABLE.strip("\n").splitlines()
    reasons = head.partition("|")[2].split()
    return {
        (reason, row.partition("|")[0].strip()): word
        for row in rows
        for reason, word in zip(reasons, row.partition("|")[2].split(), strict=True)
    }


def reply_of(reason: str, shape: str) -> Reply:
    wire = WIRE_NAMES.get(reason, reason)
    made = replies.message(
        SHAPES[shape],
        stop_reason=str(wire),
        stop_sequence="</stop>" if wire == "stop_sequence" else None,
        stop_details={"type": "refusal", "category": None, "explanation": None} if wire == "refusal" else None,
    )
    is_cut = shape == "cut call" and reason in {"max_tokens", "window"}  # a stream ends inside the input
    return evolve(made, stop_reason=wire, cut_input='{"number": "7", "pla' if is_cut else None)


BETAS = {"anthropic-beta": "compact-2026-01-12"}


def play(flow: type[Workflow], script: Any, *, is_async: bool = False, **options: Any) -> tuple[Any, Emulator]:
    """Run it with replies from the emulator."""
    emulator = Emulator(script)
    if not is_async:
        with emulator.client(default_headers=BETAS) as client:
            return run(flow, "Where is order 7?", client=client, **options), emulator

    async def main() -> Any:
        async with emulator.async_client(default_headers=BETAS) as client:
            return await arun(flow, "Where is order 7?", client=client, **options)

    return asyncio.run(main()), emulator


def judge(reason: str, shape: str, *, is_async: bool = False, **options: Any) -> None:
    """Play one cell and compare what left."""
    cell, word = f"{reason} with {shape}", cells()[reason, shape]
    expected = MEANS[word]
    ran.clear()
    flow = OLDER_DESK if reason == "pause_turn" else DESK
    script = [reply_of(reason, shape), replies.text("done")]
    result, emulator = play(flow, script, is_async=is_async, **options)
    bodies = [request.body or {} for request in emulator.requests]
    assert not [r.error for r in emulator.requests if r.status != HTTPStatus.OK], cell
    assert result.state == expected.state, cell
    assert result.moves[0].event == (expected.event or WIRE_NAMES.get(reason, reason)), cell
    assert tuple(ran) == expected.ran, f"{cell}: S2a"
    if expected.appended is None:
        assert len(bodies) == 1, cell
        return
    first, second = bodies
    reply = {"role": "assistant", "content": SHAPES[shape]}
    appended = [reply if message is REPLY else message for message in expected.appended]
    assert second["messages"] == [*first["messages"], *appended], cell
    assert second["max_tokens"] == expected.max_tokens, cell
    others = set(first) - {"messages", "max_tokens"}
    assert {n: second[n] for n in set(second) - {"messages", "max_tokens"}} == {n: first[n] for n in others}, cell
    before, after = (request.raw.partition(b'"messages":[')[2][:-2] for request in emulator.requests)
    assert after.startswith(before), f"{cell}: R35, what was sent stays byte for byte"


def test_the_table_has_a_word_for_every_combination() -> None:
    """S0: eight stop reasons, an unknown one and null, with the content shapes of reliability §4.4."""
    assert len(cells()) == len(SHAPES) * 10 >= 90
    assert set(cells().values()) == set(MEANS)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_next_request_is_that_of_the_table(shape: str) -> None:
    """S14, every stop reason with this shape."""
    for reason, known in cells():
        if known == shape:
            judge(reason, shape)


def test_the_table_holds_for_async_and_streamed_runs() -> None:
    """S14: the same table, whoever drives. Streamed, null is a cut stream; a cut call is cut in the stream (S5.3)."""
    for number, (reason, shape) in enumerate(cells()):
        if number % 7 == 0:
            judge(reason, shape, is_async=True)
        if (number % 5 == 0 or shape == "cut call") and reason != "null":
            judge(reason, shape, stream=True, is_async=number % 2 == 0)


REPEATED = {"please": "end_turn", "grow": "max_tokens", "continue": "max_tokens", "resume": "pause_turn"}


@pytest.mark.parametrize(("word", "reason"), [*REPEATED.items(), ("again", "compaction")])
def test_what_goes_on_like_this_ends(word: str, reason: str) -> None:
    """S14, the column of caps: the requests of one history, then where it ends (S3.4, S5.1, S5.7, S7.3, S10.5)."""
    expected = MEANS[word].repeated
    assert expected is not None
    shape = next(shape for (r, shape), known in cells().items() if (r, known) == (reason, word))
    result, emulator = play(OLDER_DESK, lambda _: reply_of(reason, shape))
    assert (result.state, len(emulator.requests)) == expected


def test_a_call_is_run_only_for_tool_use() -> None:
    """S2a, S5.3, S8.5: a whole call beside every other stop reason is never run, streamed or not."""
    for reason in dict.fromkeys(reason for reason, _ in cells()):
        for stream in (False, True):
            ran.clear()
            script = [reply_of(reason, "call"), replies.text("done"), replies.text("done")]
            play(DESK, script, stream=stream, sleep=lambda _: None)
            assert ran == (["7"] if reason == "tool_use" else []), reason


def test_a_stop_sequence_without_text_still_says_which_one() -> None:
    """S4.1, §9 (20 recorded): `matched` tells the sequence of an empty reply, and the empty reply is not appended."""

    class Marked(Workflow):
        asking = Claude(model=MODEL, max_tokens=CAP, stop_sequences=["</a>", "</b>"])
        first = Final()
        second = Final()

        asking.on(end_turn=second, stop_sequence=[first.when(matched("</a>")), second])

    for sequence, state in (("</a>", "first"), ("</b>", "second")):
        for text in ("", "Some words"):
            result, _ = play(Marked, [replies.stop_sequence(text, sequence=sequence)])
            assert (result.state, result.text) == (state, text)
            assert [m["role"] for m in result.messages] == (["user", "assistant"] if text else ["user"])


def test_no_tokens_are_refused_where_they_are_declared() -> None:
    """S5.5, R47: a request with `max_tokens: 0` answers nothing; the message says what it is for."""
    with pytest.raises(DeclarationError, match=r"positive number of tokens.*warms the cache"):
        Claude(model=MODEL, max_tokens=0)
