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


# --- random scripts ---------------------------------------------------------------------------------------------------


class Script:
    """A conversation that is fed whatever a random number picks, and what must hold after each step."""

    def __init__(self, workflow: type[Workflow]) -> None:
        self.driven = Driven(workflow, None)
        self.cut: set[str] = set()
        self.sent: dict[tuple[str, int], tuple[bytes, ...]] = {}
        self.numbers = 0
        self.step(
            Started(self.driven.at, "run", ({"role": "user", "content": [text("Hello.")]},), limits={"turns": 12})
        )

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
            ((THINKING, text("Done.")), {}),
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


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda w: w.name)
def test_a_new_run_can_go_on_from_the_histories_of_any_other(workflow: type[Workflow]) -> None:
    """Rule of `after=`: open calls are answered, a paused tail is cut, so that something can be said."""
    sent = 0
    for seed in range(80):
        walk = random.Random(seed)
        script = Script(workflow)
        for _ in range(walk.randrange(20)):
            script.step(walk.choice(script.events())())
        carried = script.driven.conversation.carry()
        after = Driven(workflow, "And now something else.", carried=carried)
        assert snapshot(folded(after, through_json(after.records))) == snapshot(after.conversation)
        if isinstance(after.action, SendRequest):
            assert refused(after.bodies[-1]) == ()
            answered_in_order(after.sent())
            sent += 1
        assert after.state == workflow.graph.initial, (seed, after.path(), after.run.evidence)
    assert sent == 80


# --- one step at a time -----------------------------------------------------------------------------------------------


def test_a_repeated_start_is_refused() -> None:
    desk = Driven(Desk)
    with pytest.raises(RunError, match="begun already"):
        desk.feed(Started(1, "run", ({"role": "user", "content": [text("Hi")]},)))


@pytest.mark.parametrize("prompt", [None, "Go."])
def test_an_input_that_could_never_be_sent_is_refused_before_it_is_recorded(prompt: str | None) -> None:
    class Plain(Workflow):
        """With a prompt the input waits, and would surface much later."""

        asking = Claude(model=MODEL, max_tokens=10, prompt=prompt)
        done = Final()
        asking.on(end_turn=done)

    unanswered = {"role": "assistant", "content": [use("find")]}
    hello = {"role": "user", "content": [text("Hi")]}
    for messages, rule in (
        ((hello, unanswered, hello), "R10"),
        (({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_x", "content": "?"}]},), "R13"),
        (({"role": "user", "content": [text("")]},), "R20"),
    ):
        driven = Driven(Plain, None)
        with pytest.raises(fsm.IllegalRequest, match=rule):
            driven.feed(Started(1, "run", messages))
        assert driven.records == []


ODD = (
    '[{"type":"thinking","thinking":"","signature":"ab+/=="},'
    '{"type":"text","text":"caf\\u00e9 \\ud83d\\ude00 \\/","citations":[{"start_char_index":1e2,"x":1.0,"y":-0.0}]},'
    ' {"type":"server_tool_use","id":"srvtoolu_a","name":"web_search","input":{"q":  12345678901234567890}},'
    '{"type":"web_search_tool_result","tool_use_id":"srvtoolu_a","content":[],"caller":{"type":"direct"}},'
    '{"type":"brand_new_block","data":{"z":1,"a":2,"n":null},"more":1E-7},'
    '{"type":"tool_use","id":"toolu_odd","name":"find","input":{"number":"7","f":1.50},"caller":{"type":"direct"}}]'
)


def test_a_reply_is_echoed_byte_for_byte_whatever_is_in_it() -> None:
    desk = Driven(Desk)
    desk.feed(replied(desk.now(), message(*json.loads(ODD)), raw=ODD))
    desk.end()
    assert f'{{"role":"assistant","content":{ODD}}}'.encode() in desk.bodies[-1]
    other = folded(desk, through_json(desk.records))
    (again,) = other.pending()
    assert isinstance(again, SendRequest)
    assert again.body() == desk.bodies[-1]


def test_a_truncated_call_is_asked_for_again_with_more_room_and_never_run() -> None:
    desk = Driven(Desk)
    (action,) = desk.reply(text("Looking."), use("find"), stop="max_tokens")
    assert isinstance(action, SendRequest)
    assert action.params["max_tokens"] == 200
    assert desk.sent() == desk.sent(0)  # nothing of it was kept
    desk.reply(use("find"), stop="max_tokens")
    desk.reply(use("find"), stop="max_tokens")
    assert desk.state == "truncated"
    assert "tool.begin" not in desk.kinds()


def test_max_tokens_goes_back_after_a_success() -> None:
    desk = Driven(Desk)
    desk.reply(use("find"), stop="max_tokens")
    desk.reply(use("find"))
    (action,) = desk.end()
    assert isinstance(action, SendRequest)
    assert action.params["max_tokens"] == 100


def test_text_that_was_cut_is_kept_and_continued() -> None:
    desk = Driven(Desk)
    desk.reply(text("Once upon"), stop="max_tokens")
    assert desk.sent()[1:] == [
        {"role": "assistant", "content": [text("Once upon")]},
        {"role": "user", "content": [text("Continue.")]},
    ]


def test_a_refusal_stays_out_of_the_ledger() -> None:
    desk = Driven(Desk)
    desk.reply(text("I will not"), stop="refusal", stop_details={"type": "refusal", "category": "cyber"})
    assert desk.state == "refused"
    assert [m["role"] for m in desk.run.ledger("main").messages()] == ["user"]
    assert desk.conversation.verdict().evidence["category"] == "cyber"


def test_an_empty_turn_is_not_appended_and_asked_about_once() -> None:
    desk = Driven(Desk)
    desk.reply()
    assert desk.sent() == [
        {"role": "user", "content": [text("Hello.")]},
        {"role": "user", "content": [text("Please continue.")]},
    ]
    desk.reply()
    assert (desk.state, desk.path()) == ("failed", ["empty_turn", "empty_turn"])


def test_a_pause_is_appended_unchanged_and_nothing_is_said_after_it() -> None:
    raw = json.dumps([SEARCH], indent=1)
    desk = Driven(Desk)
    desk.feed(replied(desk.now(), message(SEARCH, stop="pause_turn"), raw=raw))
    assert desk.bodies[-1].endswith(b'{"role":"assistant","content":' + raw.encode() + b"}]}")
    desk.reply(FOUND, text("Found it."))
    assert desk.state == "answered"


def test_six_pauses_are_stuck() -> None:
    desk = Driven(Desk)
    for number in range(6):
        server = {**SEARCH, "id": f"srvtoolu_{number}"}
        desk.reply(server, {**FOUND, "tool_use_id": server["id"]}, stop="pause_turn")
    assert (desk.state, desk.path()) == ("stuck", ["pause_turn"] * 6)


def test_calls_are_answered_in_their_order_in_one_message_however_they_end() -> None:
    desk = Driven(Desk)
    first, second, third = use("find"), use("find"), use("nobody_has_this_tool")
    (action,) = desk.reply(first, second, third)
    assert isinstance(action, RunTools)
    assert [c.spec and c.spec.name for c in action.calls] == ["find", "find", None]
    assert desk.end((third["id"], "unknown"), is_error=True) == ()
    assert desk.end((second["id"], "two")) == ()
    desk.end((first["id"], "one"))
    assert desk.sent()[-1] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": first["id"], "content": "one"},
            {"type": "tool_result", "tool_use_id": second["id"], "content": "two"},
            {"type": "tool_result", "tool_use_id": third["id"], "content": "unknown", "is_error": True},
        ],
    }


def test_a_call_ends_once() -> None:
    desk = Driven(Desk)
    first, second = use("find"), use("find")
    desk.reply(first, second)
    desk.end(first["id"])
    before = snapshot(desk.conversation)
    with pytest.raises(RunError, match=f"no running call has the id {first['id']}"):
        desk.end(first["id"])
    assert snapshot(desk.conversation) == before


@pytest.mark.parametrize(
    ("content", "stop"),
    [((), "tool_use"), ((use("find"),), "end_turn"), ((use("find", call_id="no id!"),), "tool_use")],
)
def test_a_reply_that_contradicts_itself_is_malformed_and_nothing_is_run(content: Any, stop: str) -> None:
    desk = Driven(Desk)
    desk.reply(*content, stop=stop)
    assert (desk.state, desk.path()) == ("failed", ["malformed"])
    assert [m["role"] for m in desk.run.ledger("main").messages()] == ["user"]
    assert desk.conversation.verdict().evidence["detail"]


@pytest.mark.parametrize(
    "body", [{}, {"type": "error", "error": {"message": "no"}}, {"type": "message", "role": "user"}]
)
def test_an_answer_that_is_no_message_is_malformed(body: dict[str, Any]) -> None:
    desk = Driven(Desk)
    desk.feed(replied(desk.now(), body))
    assert (desk.state, desk.path()) == ("failed", ["malformed"])
    assert snapshot(folded(desk, through_json(desk.records))) == snapshot(desk.conversation)


def test_an_unknown_stop_reason_keeps_what_was_said_in_the_journal() -> None:
    desk = Driven(Desk)
    desk.reply(text("Something."), stop="a_new_one")
    assert desk.state == "failed"
    verdict = desk.conversation.verdict()
    assert (verdict.reason, verdict.evidence["stop_reason"]) == ("unknown_stop", "a_new_one")
    (reply,) = [r for r in desk.records if r.kind == "reply"]
    assert json.loads(reply.data["content"]) == [text("Something.")]


def test_a_repeated_id_is_stuck_and_the_reply_is_not_appended() -> None:
    desk = Driven(Desk)
    call = use("find")
    desk.reply(call)
    desk.end()
    desk.reply(call)
    assert (desk.state, desk.path()[-1]) == ("stuck", "stuck")
    evidence = desk.conversation.verdict().evidence
    assert (evidence["rule"], evidence["fault"], evidence["ids"]) == ("D1a", "backend", [call["id"]])
    assert len(desk.run.ledger("main").messages()) == 3


def test_the_same_call_with_the_same_result_is_stuck_at_the_fifth() -> None:
    desk = Driven(Desk)
    for _ in range(5):
        assert desk.state == "asking"
        desk.reply(use("find"))
        desk.end()
    assert desk.state == "stuck"
    evidence = desk.conversation.verdict().evidence
    assert (evidence["rule"], evidence["call"]) == ("D2", {"name": "find", "input": {"number": "7"}})


def test_a_reply_that_is_dropped_on_purpose_is_no_lost_result() -> None:
    class Picky(Workflow):
        """Does not like the first call."""

        asking = Claude(model=MODEL, max_tokens=10, tools=[find])
        calling = Tools()
        done = Final()
        asking.on(tool_use=[asking.when(fsm.rounds_left(1)).then(fsm.discard), calling], end_turn=done)
        calling.on(tool_results=asking)

    picky = Driven(Picky)
    picky.reply(use("find"))
    assert picky.path() == ["tool_use"]
    assert picky.bodies[0] == picky.bodies[1]
    picky.reply(use("find"))
    assert picky.state == "calling"


def test_a_malformed_reply_may_be_asked_for_again() -> None:
    class Patient(Workflow):
        """Gives a gateway a second chance."""

        asking = Claude(model=MODEL, max_tokens=10, tools=[find])
        calling = Tools()
        done = Final()
        asking.on(tool_use=calling, end_turn=done, malformed=[asking.when(fsm.rounds_left(1)), exits.failed])
        calling.on(tool_results=asking)

    patient = Driven(Patient)
    patient.reply(use("find", call_id="no id!"))
    assert patient.path() == ["malformed"]
    assert patient.bodies[0] == patient.bodies[1]
    patient.reply(text("Better."))
    assert patient.state == "done"


# --- errors, waits, parking -------------------------------------------------------------------------------------------


def test_a_retryable_error_waits_and_sends_the_same_bytes_again() -> None:
    desk = Driven(Desk)
    (wait,) = desk.fail(draw=0.5)
    assert isinstance(wait, Wait)
    assert (wait.seconds, wait.until) == (0.5, desk.at + 0.5)
    (still,) = desk.feed(TimePassed(desk.at + 0.1))
    assert isinstance(still, Wait)
    assert (still.until, still.seconds) == (wait.until, pytest.approx(0.4))
    (again,) = desk.feed(TimePassed(wait.until))
    assert isinstance(again, SendRequest)
    assert (again.attempt, desk.bodies[-1]) == (2, desk.bodies[0])


def test_retry_after_is_honoured_and_a_long_one_parks() -> None:
    desk = Driven(Desk)
    (wait,) = desk.fail("rate_limit_error", retry_after=7.0)
    assert isinstance(wait, Wait)
    assert wait.seconds == 7.0
    other = Driven(Desk)
    (finish,) = other.fail("rate_limit_error", retry_after=3600.0)
    assert isinstance(finish, Finish)
    assert finish.parked
    assert (finish.verdict.reason, finish.verdict.resumable) == ("waiting_api", True)
    assert finish.verdict.evidence["retry_at"] == other.at + 3600


def test_seven_errors_park_and_a_resumed_run_has_its_attempts_again() -> None:
    desk = Driven(Desk)
    for number in range(6):
        (wait,) = desk.fail("cut_stream" if number % 2 else "overloaded_error", draw=1.0)
        assert isinstance(wait, Wait)
        assert wait.seconds == min(60.0, 2.0**number)
        desk.at = wait.until
        desk.feed(TimePassed(desk.at))
    (finish,) = desk.fail()
    assert isinstance(finish, Finish)
    assert finish.verdict.reason == "waiting_api"
    (again,) = desk.feed(Resumed(desk.now(100)))
    assert isinstance(again, SendRequest)
    assert set(desk.bodies) == {desk.bodies[0]}
    assert isinstance(desk.fail()[0], Wait)


def test_a_spend_cap_parks_at_once() -> None:
    desk = Driven(Desk)
    (finish,) = desk.fail("rate_limit_error", code="enforced_spend_limit_reached", retry_after=1.0)
    assert isinstance(finish, Finish)
    assert finish.verdict.reason == "waiting_api"


def test_a_reply_resets_the_count_of_retries() -> None:
    desk = Driven(Desk)
    for _ in range(5):
        (wait,) = desk.fail(draw=0.0)
        desk.feed(TimePassed(wait.until))
    desk.reply(use("find"))
    (request,) = desk.end()
    assert isinstance(request, SendRequest)
    assert request.attempt == 1
    assert all(isinstance(desk.fail(draw=0.0)[0], Wait) and desk.feed(TimePassed(desk.at)) for _ in range(6))


def test_any_reply_resets_the_count_of_retries_and_the_time_they_waited() -> None:
    desk = Driven(Desk)
    for _ in range(5):
        (wait,) = desk.fail("rate_limit_error", retry_after=60.0)
        desk.feed(TimePassed(wait.until))
    desk.reply(text("Once up"), stop="max_tokens")  # no success, and yet the API is there again
    for _ in range(6):
        (wait,) = desk.fail("rate_limit_error", retry_after=60.0)
        assert isinstance(wait, Wait)
        desk.feed(TimePassed(wait.until))


@pytest.mark.parametrize("event", ["invalid_request_error", "authentication_error", "request_too_large"])
def test_a_fatal_error_fails_and_says_why(event: str) -> None:
    desk = Driven(Desk)
    desk.fail(event, status=400, type=event, request_id="req_1")
    verdict = desk.conversation.verdict()
    assert (desk.state, verdict.reason) == ("failed", event)
    assert verdict.evidence["message"] == "failed"
    assert verdict.evidence["todo"]
    assert verdict.request_ids == ("req_1",)


def test_a_cancelled_wait_that_leads_on_does_not_wait_in_the_next_state() -> None:
    optimiser = Driven(Optimiser, "ants")
    optimiser.reply(text("A good long text."))
    optimiser.feed(CodeEnded(optimiser.now(), "good", {"n": 1}))
    assert optimiser.state == "polishing"
    optimiser.fail()
    (action,) = optimiser.feed(Cancelled(optimiser.now()))
    assert isinstance(action, SendRequest)
    assert action.state == "drafting"


def test_a_parked_person_is_asked_again_and_may_answer_late_or_too_late() -> None:
    chat = Driven(Chat)
    (ask,) = chat.reply(text("Hi."))
    assert isinstance(ask, AskHuman)
    assert (ask.question.kind, ask.question.prompt) == ("words", "Hi.")
    expires = ask.question.expires_at
    assert expires == chat.at + 100
    chat.feed(Parked(chat.now(), "waiting_person"))
    other = folded(chat, through_json(chat.records))
    assert other.verdict().reason == "waiting_person"
    other.feed(Resumed(expires - 1))
    other.feed(Answered(expires - 0.5, said="In time."))
    assert other.run.state == "chatting"
    late = folded(chat, through_json(chat.records))
    late.feed(Resumed(expires - 1))
    late.feed(Answered(expires, said="Too late."))
    assert late.run.state == "bye"
    assert late.run.said is None


def test_a_crash_between_request_and_reply_sends_the_same_bytes_three_times_at_most() -> None:
    desk = Driven(Desk)
    desk.fail(draw=0.0)
    desk.feed(TimePassed(desk.at))
    for _ in range(3):
        (again,) = desk.feed(Resumed(desk.now()))
        assert isinstance(again, SendRequest)
        assert again.body() == desk.bodies[0]
    (wait,) = desk.feed(Resumed(desk.now()))
    assert isinstance(wait, Wait)
    assert desk.path()[-1] == "connection_error"


def test_a_call_whose_outcome_is_unknown_is_put_to_a_person_and_one_that_may_be_repeated_is() -> None:
    desk = Driven(Desk)
    first, second = use("find"), use("find")
    desk.reply(first, second)
    desk.end((first["id"], "done"))
    (ask,) = desk.feed(Resumed(desk.now()))
    assert isinstance(ask, AskHuman)
    assert [c.id for c in ask.question.calls] == [second["id"]]
    assert "unknown after a restart" in ask.question.why
    (run,) = desk.feed(Answered(desk.now(), decisions={second["id"]: Decision("approve")}))
    assert isinstance(run, RunTools)
    assert [c.id for c in run.calls] == [second["id"]]
    hand = Driven(HandOver)
    repeatable = use("transfer", {"team": "billing"})
    hand.reply(repeatable)
    (again,) = hand.feed(Resumed(hand.now()))
    assert isinstance(again, RunTools)
    assert [c.id for c in again.calls] == [repeatable["id"]]


def test_by_the_standard_table_an_unknown_outcome_is_answered_as_such() -> None:
    chat = Driven(Chat)
    call = use("find")
    chat.reply(call)
    chat.feed(Resumed(chat.now()))
    (block,) = chat.sent()[-1]["content"]
    assert (block["tool_use_id"], block["is_error"]) == (call["id"], True)
    assert "unknown" in block["content"]


def test_code_that_was_running_when_the_process_stopped_raised() -> None:
    optimiser = Driven(Optimiser, "ants")
    optimiser.reply(text("A good long text."))
    assert isinstance(optimiser.action, RunCode)
    optimiser.feed(Resumed(optimiser.now()))
    assert (optimiser.state, optimiser.path()[-1]) == ("failed", "raised")


def test_an_outcome_that_the_function_does_not_have_is_raised() -> None:
    optimiser = Driven(Optimiser, "ants")
    optimiser.reply(text("A good long text."))
    optimiser.feed(CodeEnded(optimiser.now(), "excellent"))
    assert optimiser.path()[-1] == "raised"
    assert "good, weak" in optimiser.conversation.verdict().evidence["message"]


# --- approvals --------------------------------------------------------------------------------------------------------


def test_no_call_runs_before_every_call_that_asks_is_decided() -> None:
    desk = Driven(Desk)
    free, first, second = use("find"), use("refund"), use("refund")
    (ask,) = desk.reply(free, first, second)
    assert isinstance(ask, AskHuman)
    assert [c.id for c in ask.question.calls] == [first["id"], second["id"]]
    (ask,) = desk.feed(Answered(desk.now(), decisions={first["id"]: Decision("edit", {"number": "8"})}))
    assert isinstance(ask, AskHuman)
    assert [c.id for c in ask.question.calls] == [second["id"]]
    assert "tool.begin" not in desk.kinds()
    (run,) = desk.feed(Answered(desk.now(), decisions={second["id"]: Decision("deny", reason="too much")}))
    assert isinstance(run, RunTools)
    assert [(c.id, c.input["number"], c.edited) for c in run.calls] == [
        (free["id"], "7", False),
        (first["id"], "8", True),
    ]
    desk.end()
    results = desk.sent()[-1]["content"]
    assert [b["tool_use_id"] for b in results] == [free["id"], first["id"], second["id"]]
    assert "too much" in results[2]["content"]
    assert results[2]["is_error"]
    kept = [b for b in desk.sent()[1]["content"] if b["id"] == first["id"]]
    assert kept[0]["input"] == {"number": "7"}  # the ledger keeps what the model said


def test_an_approved_call_runs_with_the_input_of_the_model() -> None:
    desk = Driven(Desk)
    call = use("refund")
    desk.reply(call)
    (run,) = desk.feed(Answered(desk.now(), decisions={call["id"]: Decision("approve")}))
    assert isinstance(run, RunTools)
    assert [(c.input, c.edited) for c in run.calls] == [({"number": "7"}, False)]


def test_denied_and_expired_answer_every_open_call() -> None:
    desk = Driven(Desk)
    free, asks = use("find"), use("refund")
    desk.reply(free, asks)
    desk.feed(Answered(desk.now(), decisions={asks["id"]: Decision("deny", reason="no")}))
    assert (desk.state, desk.path()[-1]) == ("asking", "denied")
    assert [(b["tool_use_id"], b["is_error"]) for b in desk.sent()[-1]["content"]] == [
        (free["id"], True),
        (asks["id"], True),
    ]
    asks = use("refund")
    desk.reply(asks)
    desk.feed(TimePassed(desk.at + 100))
    assert (desk.state, desk.path()[-1]) == ("asking", "expired")
    assert "in time" in desk.sent()[-1]["content"][0]["content"]


@pytest.mark.parametrize("decisions", [{}, {"toolu_nobody": Decision("approve")}])
def test_an_answer_of_the_wrong_form_changes_nothing(decisions: Any) -> None:
    desk = Driven(Desk)
    desk.reply(use("refund"))
    before = snapshot(desk.conversation)
    for wrong in (Answered(desk.now(), decisions=decisions), Answered(desk.now(), said="yes")):
        with pytest.raises(RunError, match="a decision for each call id"):
            desk.feed(wrong)
    assert snapshot(desk.conversation) == before


# --- what raises changes nothing --------------------------------------------------------------------------------------


def _raise(facts: Facts) -> Any:
    raise LookupError(facts.event)


RAISING: dict[str, tuple[str, Callable[[Final, Claude], Any]]] = {
    "guard": ("guard '_raise'", lambda done, again: [done.when(guard(_raise)), done]),
    "effect": ("effect '_raise'", lambda done, again: done.then(effect(_raise))),
    "words": ("effect 'say(_raise)'", lambda done, again: [again.when(fsm.rounds_left(9)).then(say(_raise)), done]),
    "nothing said": (
        "effect 'say(nothing)'",
        lambda done, again: [again.when(fsm.rounds_left(9)).then(say(lambda f: "", name="nothing")), done],
    ),
    "surrogate": (
        "effect 'say(broken)'",
        lambda done, again: [again.when(fsm.rounds_left(9)).then(say(lambda f: "\ud800", name="broken")), done],
    ),
    "no JSON": ("effect 'a set'", lambda done, again: done.then(effect(name="a set")(lambda f: {1, 2}))),
    "max_tokens": (
        "effect 'much'",
        lambda done, again: [
            again.when(fsm.rounds_left(9)).then(effect(name="much", changes="max_tokens")(lambda f: "100"), say("go")),
            done,
        ],
    ),
}


@pytest.mark.parametrize("what", RAISING)
def test_a_guard_or_effect_that_raises_changes_nothing(what: str) -> None:
    named, row = RAISING[what]

    class Raising(Workflow):
        """Its row raises."""

        asking = Claude(model=MODEL, max_tokens=10)
        done = Final()
        asking.on(end_turn=row(done, asking))

    driven = Driven(Raising)
    before, count = snapshot(driven.conversation), len(driven.records)
    reply = replied(driven.now(), message(text("Hi.")))
    with pytest.raises(DecisionError) as caught:
        driven.feed(reply)
    assert named in str(caught.value)
    assert "'Raising'" in str(caught.value)
    assert caught.value.__cause__ is not None
    assert snapshot(driven.conversation) == before
    assert len(driven.records) == count
    driven.fail("overloaded_error")  # it goes on from where it was
    assert driven.path() == ["overloaded_error"]


def test_a_prompt_that_raises_changes_nothing() -> None:
    class Prompted(Workflow):
        """Its second prompt raises."""

        asking = Claude(model=MODEL, max_tokens=10)
        second = Claude(model=MODEL, max_tokens=10, prompt=_raise)
        done = Final()
        asking.on(end_turn=second)
        second.on(end_turn=done)

    driven = Driven(Prompted)
    before = snapshot(driven.conversation)
    with pytest.raises(DecisionError, match="prompt '_raise' of 'Prompted' raised LookupError in state 'second'"):
        driven.reply(text("Hi."))
    assert snapshot(driven.conversation) == before
    assert isinstance(driven.action, SendRequest)


def test_a_function_that_asks_for_approval_and_raises_changes_nothing() -> None:
    @fsm.tool(needs_approval=lambda given: given["euros"] > 10)
    def pay(euros: float) -> str:
        """Pay."""
        return f"{euros}"

    class Paying(Workflow):
        """Approval depends on the input."""

        asking = Claude(model=MODEL, max_tokens=10, tools=[pay])
        calling = Tools()
        approving = fsm.Approval()
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=asking, approval_needed=approving)
        approving.on(approved=calling, denied=asking)

    driven = Driven(Paying)
    before = snapshot(driven.conversation)
    with pytest.raises(DecisionError, match="needs_approval"):
        driven.reply(use("pay", {}))
    assert snapshot(driven.conversation) == before
    (run,) = driven.reply(use("pay", {"euros": 5}))
    assert isinstance(run, RunTools)


@pytest.mark.parametrize("given", ["bad \ud800", [text("\ud800")], [{"type": "text", "text": float("nan")}]])
def test_words_that_cannot_be_sent_are_refused_before_they_are_recorded(given: Any) -> None:
    content = [text(given)] if isinstance(given, str) else given
    with pytest.raises(fsm.UsageError, match="R26"):
        Driven(Desk, ({"role": "user", "content": content},))
    chat = Driven(Chat)
    chat.reply(text("Hi."))
    before = snapshot(chat.conversation)
    with pytest.raises(fsm.UsageError, match="R26"):
        chat.feed(Answered(chat.now(), said=given))
    assert snapshot(chat.conversation) == before


# --- structured output ------------------------------------------------------------------------------------------------

GRADE = {"type": "object", "properties": {"grade": {"enum": ["good", "weak"]}}, "required": ["grade"]}


class Judge(Workflow):
    """Gives a grade."""

    judging = Claude(model=MODEL, max_tokens=10, output=GRADE)
    good = Final()
    weak = Final()
    judging.on(
        end_turn=[good.when(fsm.output("grade", "good")), weak],
        invalid_output=[judging.when(fsm.attempts_left(1)).then(say("Only JSON, please.")), exits.failed],
    )


@pytest.mark.parametrize("grade", ["good", "weak"])
def test_an_output_is_parsed_against_its_schema_and_guards_read_it(grade: str) -> None:
    judge = Driven(Judge)
    assert judge.action.params["output_config"]["format"] == {"type": "json_schema", "schema": GRADE}
    judge.reply(text(json.dumps({"grade": grade})))
    assert judge.state == grade
    assert judge.run.output == {"grade": grade}


@pytest.mark.parametrize("words", ["good", '{"grade": "odd"}', '{"grade": NaN}', "", "[1, 2"])
def test_an_output_that_does_not_fit_is_not_appended(words: str) -> None:
    judge = Driven(Judge)
    judge.reply(text(words or " "))
    assert judge.path() == ["invalid_output"]
    assert [m["role"] for m in judge.sent()] == ["user", "user"]
    assert snapshot(folded(judge, through_json(judge.records))) == snapshot(judge.conversation)
    judge.reply(text(words or " "))
    assert judge.state == "failed"
    assert judge.conversation.verdict().evidence["detail"]


def test_folding_calls_no_function_of_the_user() -> None:
    calls: list[str] = []

    def seen(name: str) -> Callable[[Facts], Any]:
        def function(facts: Facts) -> Any:
            calls.append(name)
            return f"{name} {facts.turns}"

        function.__name__ = name
        return function

    class Busy(Workflow):
        """Functions everywhere."""

        asking = Claude(model=MODEL, max_tokens=10, prompt=seen("prompt"))
        second = Claude(model=MODEL, max_tokens=10)
        done = Final()
        asking.on(end_turn=[second.when(guard(seen("guard"))).then(say(seen("words")), effect(seen("effect"))), done])
        second.on(end_turn=done)

    busy = Driven(Busy)
    busy.reply(text("One."))
    busy.reply(text("Two."))
    assert calls == ["prompt", "guard", "words", "effect"]
    assert busy.run.values == {"effect": "effect 1"}
    calls.clear()
    assert snapshot(folded(busy, through_json(busy.records))) == snapshot(busy.conversation)
    assert calls == []
