"""`feed` and `fold` are one step function: what was recorded adds up to what was lived through, byte for byte."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from _workflows import (
    MODEL,
    WORKFLOWS,
    Chat,
    Desk,
    Driven,
    HandOver,
    Optimiser,
    find,
    folded,
    heads_of,
    message,
    refused,
    replied,
    snapshot,
    text,
    through_json,
    use,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import fsm
from fsm import Claude, DecisionError, Facts, Final, FsmError, RunError, Tools, Workflow, effect, exits, guard, say
from fsm._actions import AskHuman, Finish, RunCode, RunTools, SendRequest, Wait
from fsm._conversation import Conversation
from fsm._events import (
    Answered,
    Cancelled,
    CodeEnded,
    Decision,
    Failed,
    Parked,
    Resumed,
    Started,
    TimePassed,
    ToolEnd,
    ToolsEnded,
)

SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrzLoky3dl1pk=="}


def compaction(summary: str | None) -> dict[str, Any]:
    return {"type": "compaction", "content": summary, "encrypted_content": summary and "b3Bh"}


# --- random scripts ----------------------------------------------------------------------------------------------------


class Script:
    """A conversation that is fed whatever a random number picks, and what must hold after each step."""

    def __init__(self, workflow: type[Workflow]) -> None:
        self.driven = Driven(workflow, None)
        self.cut: set[str] = set()
        self.sent: dict[tuple[str, int], tuple[bytes, ...]] = {}
        self.numbers = 0
        self.step(Started(self.driven.at, "run", ({"role": "user", "content": [text("Hello.")]},), limits={"turns": 12}))

    def id(self, prefix: str) -> str:
        self.numbers += 1
        return f"{prefix}_{self.numbers}"

    def call(self, name: str) -> dict[str, Any]:
        return use(name, call_id=self.id("toolu"))

    def search(self) -> tuple[dict[str, Any], dict[str, Any]]:
        call_id = self.id("srvtoolu")
        return {**SEARCH, "id": call_id}, {**FOUND, "tool_use_id": call_id}

    def events(self) -> list[Callable[[], Any]]:
        """What could happen now, several times, and what could not."""
        at = self.driven.now()
        rare = [
            lambda: Cancelled(at),
            lambda: Parked(at),
            lambda: Resumed(at),
            lambda: TimePassed(at + 200),
            lambda: replied(at, message(text("late"))),
            lambda: ToolsEnded(at, (ToolEnd("toolu_nobody", "x"),)),
            lambda: Answered(at, said="hello?"),
            lambda: CodeEnded(at, "good"),
        ]
        action = next(iter(self.driven.conversation.pending()), None)
        if isinstance(action, SendRequest):
            usual, odd = self.replies(at)
            return [*usual * 6, *self.failures(at) * 2, *odd * 2, *rare]
        if isinstance(action, RunTools):
            first, *_ = ids = [call.id for call in action.calls]
            last = ids[-1]
            likely = [
                lambda: ToolsEnded(at, tuple(ToolEnd(i, "found", seconds=0.5) for i in ids)),
                lambda: ToolsEnded(at, tuple(ToolEnd(i, f"found {i}", seconds=0.5) for i in reversed(ids))),
                lambda: ToolsEnded(at, (ToolEnd(last, "boom", is_error=True),)),
                lambda: ToolsEnded(at, (ToolEnd(first, [text("found")]),)),
            ]
        elif isinstance(action, AskHuman):
            ids = [call.id for call in action.question.calls]
            likely = [
                lambda: Answered(at, said="Go on."),
                lambda: Answered(at, said=[text("Go"), text("on.")]),
                lambda: Answered(at, said="/compact"),
                lambda: Answered(at, decisions={i: Decision("approve") for i in ids}),
                lambda: Answered(at, decisions={i: Decision("edit", {"number": "8"}) for i in ids[:1]}),
                lambda: Answered(at, decisions={i: Decision("deny", reason="too much") for i in ids[-1:]}),
            ]
            rare.append(lambda: Answered(at, said="/quit"))
        elif isinstance(action, RunCode):
            likely = [lambda: CodeEnded(at, "good", {"n": 1}), lambda: CodeEnded(at, "weak")]
            rare.append(lambda: CodeEnded(at, "odd"))
        elif isinstance(action, Wait):
            likely = [lambda: TimePassed(action.until), lambda: TimePassed(at)]
        else:
            likely = [lambda: Resumed(at)]
        return [*likely * 8, *rare]

    def replies(self, at: float) -> tuple[list[Callable[[], Any]], list[Callable[[], Any]]]:
        """Those of a model that does its work, and those that loops break at."""
        server, result = self.search()
        run = self.driven.run
        last = run.ledger(run.request["history"]).messages()[-1]
        open_ids = [b["id"] for b in last["content"] if b.get("type") == "server_tool_use"]
        result = {**result, "tool_use_id": open_ids[-1]} if last["role"] == "assistant" and open_ids else result
        cut = self.call("find")
        self.cut.add(cut["id"])
        first, second = self.call("find"), self.call("refund")
        known = [i for r in self.driven.records if r.kind == "reply" for i in _ids(r.data["content"])]
        usual: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            ((text("An answer of some length."),), {}),
            ((THINKING, text("Done."),), {}),
            ((first,), {}),
            ((THINKING, text("Looking."), first, second), {}),
            ((first, second, self.call("unknown_tool")), {}),
            ((self.call("transfer"), first), {}),
            ((text("Half an ans"),), {"stop": "max_tokens"}),
            ((text("Half"), cut), {"stop": "max_tokens"}),
            ((server,), {"stop": "pause_turn"}),
            ((result, text("more")), {"stop": "pause_turn"}),
            ((server, result, first), {}),
            ((compaction("A summary."),), {"stop": "compaction"}),
        ]
        odd: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            ((), {"stop": "max_tokens"}),
            ((server, first), {}),
            ((compaction(None),), {"stop": "compaction"}),
            ((text("no"),), {"stop": "refusal", "stop_details": {"type": "refusal", "category": "cyber"}}),
            ((), {}),
            ((text("x"),), {"stop": "stop_sequence", "stop_sequence": "</stop>"}),
            ((text("long"),), {"stop": "model_context_window_exceeded"}),
            ((text("new"),), {"stop": "brand_new_reason"}),
            ((text("no call"),), {"stop": "tool_use"}),
            ((first,), {"stop": "end_turn"}),
            ((text("x"),), {"type": "error", "error": {"message": "proxy"}}),
            ((use("find", call_id=known[-1] if known else "toolu_0"),), {}),
        ]
        return self._made(at, usual), self._made(at, odd)

    def _made(self, at: float, given: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> list[Callable[[], Any]]:
        bodies = [message(*content, **more) for content, more in given]
        return [*(lambda body=body: replied(at, body, price=0.01, seconds=1.0) for body in bodies)]

    def failures(self, at: float) -> list[Callable[[], Any]]:
        return [
            lambda: Failed(at, "overloaded_error", "Overloaded", status=529, draw=0.3),
            lambda: Failed(at, "rate_limit_error", "Slow down", status=429, retry_after=7.0),
            lambda: Failed(at, "rate_limit_error", "Spent", status=429, code="enforced_spend_limit_reached"),
            lambda: Failed(at, "invalid_request_error", "bad", status=400),
            lambda: Failed(at, "cut_stream", "cut"),
            lambda: Failed(at, "no_such_event", "?"),
        ]

    def step(self, event: Any) -> None:
        conversation = self.driven.conversation
        before, count = snapshot(conversation), len(self.driven.records)
        try:
            actions = self.driven.feed(event)
        except FsmError:
            assert snapshot(conversation) == before, f"{type(event).__name__} was rejected and changed something"
            assert len(self.driven.records) == count
            return
        assert [r.seq for r in self.driven.records] == list(range(len(self.driven.records)))
        self.same_when_folded()
        for action in actions:
            if isinstance(action, RunTools):
                assert not {c.id for c in action.calls} & self.cut, "a truncated call is run"
            if isinstance(action, SendRequest):
                self.lawful(action)

    def same_when_folded(self) -> None:
        live = self.driven.conversation
        other = folded(self.driven, through_json(self.driven.records))
        assert snapshot(other) == snapshot(live)
        assert other.pending() == live.pending()
        assert other.verdict() == live.verdict()

    def lawful(self, action: SendRequest) -> None:
        body = action.body()
        assert refused(body) == ()
        messages = json.loads(body)["messages"]
        assert all(m["content"] for m in messages), "an empty turn was appended"
        answered_in_order(messages)
        run = self.driven.run
        history = run.request["history"]
        key = (history, run.ledger(history).generation)
        before = self.sent.get(key, ())
        assert action.encoded[: len(before)] == before, "something that was sent has changed"
        self.sent[key] = action.encoded


def _ids(content: str) -> list[str]:
    blocks = json.loads(content)
    return [b["id"] for b in blocks or [] if b.get("type") == "tool_use"]


def answered_in_order(messages: list[dict[str, Any]]) -> None:
    """Every call is answered exactly once, in the order of the calls, in the next message (R10, R15, R17)."""
    answers = [b["tool_use_id"] for m in messages for b in m["content"] if b["type"] == "tool_result"]
    calls = [b["id"] for m in messages for b in m["content"] if b["type"] == "tool_use"]
    assert answers == calls
    for number, said in enumerate(messages):
        ids = [b["id"] for b in said["content"] if b["type"] == "tool_use"]
        if ids:
            after = messages[number + 1]
            assert after["role"] == "user"
            assert [b.get("tool_use_id") for b in after["content"]][: len(ids)] == ids


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda w: w.name)
def test_whatever_happens_the_journal_adds_up_to_the_run(workflow: type[Workflow]) -> None:
    kinds: set[str] = set()

    @settings(max_examples=60)
    @given(st.lists(st.integers(0, 2**20), max_size=30))
    def scripts(numbers: list[int]) -> None:
        script = Script(workflow)
        for number in numbers:
            events = script.events()
            script.step(events[number % len(events)]())
            if script.driven.conversation.finished:
                break
        kinds.update(script.driven.kinds())

    scripts()
    for seed in range(60):  # longer walks than hypothesis likes to draw
        walk = random.Random(seed)
        script = Script(workflow)
        for _ in range(40):
            script.step(walk.choice(script.events())())
            if script.driven.conversation.finished:
                break
        kinds.update(script.driven.kinds())
    assert {"open", "request", "reply", "error", "move", "park", "resume", "close"} <= kinds


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda w: w.name)
def test_two_halves_of_a_journal_add_up_to_the_whole(workflow: type[Workflow]) -> None:
    script = Script(workflow)
    walk = random.Random(7)
    for _ in range(30):
        script.step(walk.choice(script.events())())
    records = through_json(script.driven.records)
    for cut in range(len(records)):
        other = Conversation(workflow.plan, heads_of(workflow))
        other.fold(records[:cut])
        other.fold(records[cut:])
        assert snapshot(other) == snapshot(script.driven.conversation)
