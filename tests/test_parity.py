"""One script gives one journal, however it is driven (architecture, rule 6.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import pytest
from _driving import MODEL, MODES, Loop, Plain, comparable, drive, events_of, find
from attrs import field, frozen

from fsm import (
    Approval,
    Claude,
    Code,
    Facts,
    Final,
    Human,
    Limits,
    Outcome,
    Question,
    Tools,
    Workflow,
    approve,
    deny,
    edit,
    rounds_left,
    said_is,
    say,
    tool,
)
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply


@tool
async def look(number: str) -> list[dict[str, str]]:
    """Look at an order."""
    await asyncio.sleep(0.01)
    return [{"type": "text", "text": f"seen {number}"}]


@tool
def broken(number: str) -> str:
    """Break."""
    msg = f"no {number}"
    raise LookupError(msg)


@tool(needs_approval=True)
def refund(number: str, euros: int) -> str:
    """Pay back."""
    return f"paid {euros} for {number}"


class Desk(Workflow):
    asking = Claude(model=MODEL, max_tokens=100, tools=[find, look, broken, refund])
    calling = Tools()
    approving = Approval(within="1d")
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking, expired=asking)


async def judge(facts: Facts) -> Outcome[Literal["good", "weak"]]:
    """Good answers are long. It waits, so that an event loop is needed."""
    await asyncio.sleep(0)
    return Outcome("good" if len(facts.text) > 5 else "weak", {"length": len(facts.text)})


def check(facts: Facts) -> Literal["fine"]:
    """Nothing is ever wrong, unless the text says so."""
    if "break" in facts.text:
        msg = "it said so"
        raise ValueError(msg)
    return "fine"


class Graded(Workflow):
    drafting = Claude(model=MODEL, max_tokens=100)
    judging = Code(judge)
    checking = Code(check)
    done = Final()

    drafting.on(end_turn=judging)
    judging.on("good", checking).on("weak", [drafting.when(rounds_left(3)).then(say("Longer.")), done])
    checking.on("fine", done)


class Chat(Workflow):
    chatting = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    waiting = Human()
    bye = Final()

    chatting.on(tool_use=calling, end_turn=waiting)
    calling.on(tool_results=chatting)
    waiting.on(said=[bye.when(said_is("/quit")), chatting])


SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number"}},
    "required": ["total"],
    "additionalProperties": False,
}


class Extraction(Workflow):
    reading = Claude(model=MODEL, max_tokens=100, output=SCHEMA)
    done = Final()

    reading.on(end_turn=done)


class Limited(Workflow, limits=Limits(turns=2)):
    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


def decide(question: Question) -> Any:
    """Approve the first call, edit the second, deny the third."""
    wanted = [approve(), edit({"number": "8", "euros": 1}), deny("not this one")]
    return {call.id: decision for call, decision in zip(question.calls, wanted, strict=False)}


def saying(*words: Any) -> Callable[[], Callable[[Question], Any]]:
    """A person who says this, one after the other, then nothing."""

    def make() -> Callable[[Question], Any]:
        left = list(words)
        return lambda question: left.pop(0) if left else None

    return make


def _call(n: int = 1) -> Reply:
    return replies.tool_uses(*(("find", {"number": str(i)}) for i in range(n)))


@frozen
class Script:
    workflow: type[Workflow]
    replies: Any
    events: str
    ask: Callable[[], Any] = field(default=lambda: None, kw_only=True)
    streams_alike: bool = field(default=True, kw_only=True)


REFUNDS = replies.tool_uses(
    ("refund", {"number": "7", "euros": 5}),
    ("refund", {"number": "8", "euros": 900}),
    ("refund", {"number": "9", "euros": 5}),
    ("find", {"number": "7"}),
)
HELLO = replies.text("Hello there.")

SCRIPTS = {
    "text": Script(Plain, [HELLO], "end_turn"),
    "one tool": Script(Loop, [_call(), HELLO], "tool_use tool_results end_turn"),
    "parallel tools": Script(
        Desk,
        [
            replies.tool_uses(
                ("look", {"number": "1"}),
                ("find", {"number": "2"}),
                ("broken", {"number": "3"}),
                ("nobody", {}),
                ("find", {"no": 1}),
            ),
            HELLO,
        ],
        "tool_use tool_results end_turn",
    ),
    "approval": Script(
        Desk,
        [REFUNDS, HELLO],
        "tool_use approval_needed approved tool_results end_turn",
        ask=lambda: decide,
    ),
    "denied": Script(
        Desk,
        [replies.tool_use("refund", {"number": "7", "euros": 5}), HELLO],
        "tool_use approval_needed denied end_turn",
        ask=saying(deny("no")),
    ),
    "parked": Script(Desk, [replies.tool_use("refund", {"number": "7", "euros": 5})], "tool_use approval_needed"),
    "retry": Script(
        Loop,
        [
            replies.overloaded(),
            replies.rate_limited(retry_after=7),
            _call(),
            replies.error(500, "api_error", "oh"),
            HELLO,
        ],
        "overloaded_error rate_limit_error tool_use tool_results api_error end_turn",
    ),
    "the API stays away": Script(Loop, [replies.overloaded()] * 7, " ".join(["overloaded_error"] * 7)),
    "truncated text": Script(Loop, [replies.max_tokens("Once upon"), replies.text(" a time.")], "max_tokens end_turn"),
    "truncated call": Script(
        Loop,
        [replies.max_tokens(tool=("find", {"number": "12345"})), _call(), HELLO],
        "max_tokens tool_use tool_results end_turn",
    ),
    "pause": Script(Loop, [replies.pause(), replies.pause(), HELLO], "pause_turn pause_turn end_turn"),
    "refusal": Script(Loop, [_call(), replies.refusal("cyber", partial="I")], "tool_use tool_results refusal"),
    "code": Script(Graded, [replies.text("weak"), replies.text("strong enough")], "end_turn weak end_turn good fine"),
    "code that raises": Script(Graded, [replies.text("break it all")], "end_turn good raised"),
    "human": Script(
        Chat,
        [HELLO, _call(), replies.text("It is there.")],
        "end_turn said tool_use tool_results end_turn said",
        ask=saying("And order 7?", "/quit"),
    ),
    "stuck": Script(
        Loop,
        lambda body: replies.tool_use("find", {"number": "7"}),
        " ".join(["tool_use tool_results"] * 5 + ["stuck"]),
    ),
    "lost result": Script(Loop, [_call(2), replies.repeat_id()], "tool_use tool_results stuck"),
    "over the limit": Script(Limited, [_call(), _call(2)], "tool_use tool_results tool_use tool_results over_limit"),
    "structured output": Script(Extraction, [replies.structured({"total": 3.5})], "end_turn"),
    "invalid output": Script(Extraction, [replies.text('{"total": "much"}')], "invalid_output"),
    "thinking": Script(Loop, [replies.thinking("Hm.", then=_call()), HELLO], "tool_use tool_results end_turn"),
    "unknown stop": Script(Loop, [replies.unknown_stop("bored")], "unknown_stop"),
    "cut": Script(Loop, [replies.cut(_call(), after=2), HELLO], "", streams_alike=False),
    "an error in the stream": Script(
        Loop, [replies.sse_error("overloaded_error", after=3), HELLO], "overloaded_error end_turn", streams_alike=False
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_way_of_driving_gives_the_same_journal(name: str) -> None:
    script = SCRIPTS[name]
    plain: list[Any] = []
    for stream in (False, True):
        journals = {}
        for mode in MODES:
            records = drive(mode, script.workflow, "Hi.", Emulator(script.replies), stream=stream, ask=script.ask())
            assert [r.seq for r in records] == list(range(len(records)))
            journals[mode] = comparable(records)
            if script.events:
                assert " ".join(events_of(records)) == script.events
        first = journals["run"]
        for mode in MODES[1:]:
            assert journals[mode] == first, f"{mode} differs from run (stream={stream})"
        across = comparable(records, across_streams=True)
        if stream and script.streams_alike:
            assert across == plain
        plain = across


def test_the_comparison_sees_a_difference() -> None:
    one, other = (
        drive("run", Loop, "Hi.", Emulator([_call(), replies.text(words)])) for words in ("Hello.", "Goodbye.")
    )
    assert comparable(one) != comparable(other)


def test_deltas_do_not_change_the_journal() -> None:
    """Asking for deltas streams, and nothing else."""
    streamed = drive("iterate", Loop, "Hi.", Emulator([_call(), HELLO]), stream=True)
    for mode in ("iterate", "aiterate"):
        assert comparable(drive(mode, Loop, "Hi.", Emulator([_call(), HELLO]), deltas=True)) == comparable(streamed)
