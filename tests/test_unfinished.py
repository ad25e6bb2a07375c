"""What is not over where a run goes on: paused turns, code that waits, caps of another model, questions left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import anthropic
import pytest

from fsm import (
    Claude,
    Code,
    Facts,
    Final,
    Human,
    Limits,
    MemoryStore,
    Record,
    Tools,
    Workflow,
    attempts_left,
    cancel,
    exits,
    profile_of,
    resume,
    rounds_left,
    run,
    say,
    switch_model,
    tool,
    untried,
    violations,
    watch,
)
from fsm._conversation import Conversation
from fsm._conversation._heads import Heads
from fsm._effects import park
from fsm._ledger import Standing, begins_anew, history_of
from fsm.testing import Emulator, assert_legal, faults, replies

WEB = {"type": "web_search_20250305", "name": "web_search"}
CODE = {"type": "code_execution_20260120", "name": "code_execution"}
GRADE = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
LIMITS = Limits(turns=9)


@tool
def find(number: str) -> str:
    """Find an order."""
    return f"order {number}"


def words(request: Any) -> list[str]:
    """The texts of the newest message of a request."""
    return [block["text"] for block in request.body["messages"][-1]["content"] if block["type"] == "text"]


def errors(emulator: Emulator) -> list[str]:
    return [request.error for request in emulator.requests if request.error]


# ── a paused turn goes back as it is ─────────────────────────────────────────────────────────────────────────────────


SEARCH = replies.server_tool("web_search", {"query": "a"}, [])
CALL = {"type": "tool_use", "name": "find", "input": {"number": "1"}}
LAST = {
    "text": {"type": "text", "text": "I will look further"},
    "blank": {"type": "text", "text": "looking "},
    "thinking": {"type": "thinking", "thinking": "hm"},
    "redacted": {"type": "redacted_thinking"},
    "unknown": {"type": "hologram", "depth": 3},
    "open": SEARCH[0],
}


@pytest.mark.parametrize("last", LAST)
@pytest.mark.parametrize("stream", [False, True])
def test_s7_2_a_paused_turn_is_continued_whatever_it_ends_with(last: str, *, stream: bool) -> None:
    """R24, R25, R38 and R57 are about words that the model is to go on with, and a pause is none of them."""
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("claude-opus-5-5", {}, "ok"),
        ("claude-opus-4-6", {"thinking": {"type": "adaptive"}}, "ok"),
        ("claude-sonnet-4-5", {}, "ok"),
        ("claude-haiku-4-5", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "ok"),
        ("claude-sonnet-4-5", {"output": GRADE}, '{"ok": true}'),
    ]
    for model, more, answer in cases:

        class Searching(Workflow, limits=LIMITS):
            asking = Claude(model=model, max_tokens=2000, tools=[WEB], **more)
            done = Final()
            asking.on(end_turn=done)

        emulator = Emulator([replies.pause(*SEARCH, LAST[last]), replies.pause(LAST[last]), answer])
        result = run(Searching, "hi", client=emulator.client(), stream=stream)
        assert (result.state, errors(emulator)) == ("done", []), (model, last)
        request = emulator.requests[-1].body
        assert request is not None
        broken = {found.rule for found in violations(request, profile_of(model), paused=True)}
        assert broken <= {"R33"}  # what the API sent so, it takes back; a body alone does not tell
        assert request["messages"][-1]["role"] == "assistant"
        if broken == set():
            assert_legal(emulator.requests[-1])
        emulator.done()


def test_r25_an_assistant_message_that_was_not_paused_is_still_refused() -> None:
    emulator = Emulator([replies.pause(*SEARCH, LAST["text"]), "ok", "never"])
    client = emulator.client()
    hi = {"role": "user", "content": "hi"}
    asked: dict[str, Any] = {"model": "claude-opus-5-5", "max_tokens": 100, "tools": [WEB]}
    first = client.messages.create(**asked, messages=[hi])
    paused = {"role": "assistant", "content": [block.to_dict() for block in first.content]}
    with pytest.raises(Exception, match="does not support assistant message prefill"):
        client.messages.create(**asked, messages=[hi, {**paused, "content": [LAST["text"]]}])
    assert client.messages.create(**asked, messages=[hi, paused]).stop_reason == "end_turn"


def test_r38_watch_knows_which_turn_was_paused() -> None:
    client = watch(Emulator([replies.pause(*SEARCH, LAST["text"]), "ok", "never"]).client())
    hi: Any = {"role": "user", "content": "hi"}
    asked: Any = {"model": "claude-opus-4-6", "max_tokens": 100, "tools": [WEB], "thinking": {"type": "adaptive"}}
    paused: Any = {"role": "assistant", "content": client.messages.create(**asked, messages=[hi]).to_dict()["content"]}
    assert client.messages.create(**asked, messages=[hi, paused]).stop_reason == "end_turn"
    assert not client.findings
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(**asked, messages=[hi, {"role": "assistant", "content": "so"}])
    assert [found.rule for found in client.findings] == ["R38"]


# ── thinking that does not come first ────────────────────────────────────────────────────────────────────────────────


MIXED = replies.message([LAST["text"], LAST["thinking"], CALL], stop_reason="tool_use")


class Finding(Workflow, limits=LIMITS):
    """A tool loop with a model that must start with thinking where that is on by hand."""

    asking = Claude(model="claude-haiku-4-5", max_tokens=2000, tools=[find])
    calling = Tools()
    done = Final()
    asking.on(tool_use=calling, end_turn=done)
    calling.on(tool_results=asking)


def test_r33_what_the_emulator_served_it_takes_back() -> None:
    class Thinking(Finding, limits=LIMITS):
        asking = Claude(
            model="claude-haiku-4-5", max_tokens=2000, tools=[find], thinking={"type": "enabled", "budget_tokens": 1024}
        )
        asking.on(tool_use=Finding.calling, end_turn=Finding.done)

    first = replies.message([LAST["thinking"], *MIXED.content[2:]], stop_reason="tool_use")
    for workflow, script in ((Finding, [MIXED, "ok"]), (Thinking, [first, MIXED, "ok"])):
        emulator = Emulator(script)
        assert (run(workflow, "hi", client=emulator.client()).state, errors(emulator)) == ("done", [])


def test_r33_thinking_not_first_is_a_rule_of_manual_thinking() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    turn = {"role": "assistant", "content": [LAST["text"], thinking]}
    hi = {"role": "user", "content": "hi"}
    body: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 2000, "messages": [hi, turn, hi]}
    profile = profile_of("claude-haiku-4-5")
    assert violations(body, profile) == ()
    manual = body | {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert [found.rule for found in violations(manual, profile)] == ["R33"]


def test_r33_an_unknown_block_comes_behind_the_thinking() -> None:
    change = faults.unknown_block().change
    assert change is not None
    changed = change(replies.message([LAST["thinking"], LAST["redacted"], LAST["text"]]))
    assert changed.content is not None
    assert [block["type"] for block in changed.content] == ["thinking", "redacted_thinking", "hologram", "text"]


# ── code on the server that waits ────────────────────────────────────────────────────────────────────────────────────


class Coding(Workflow, limits=LIMITS):
    """A refusal hands the conversation, results of code included, to another model."""

    asking = Claude(model="claude-opus-5-5", max_tokens=100, tools=[find, CODE])
    calling = Tools()
    other = Claude(model="claude-opus-4-8", max_tokens=100, tools=[find, CODE], history="other", continues="main")
    done = Final()
    asking.on(tool_use=calling, end_turn=done, refusal=other)
    calling.on(tool_results=asking)
    other.on(tool_use=exits.failed, end_turn=done)


def test_r18_a_copied_history_whose_code_waits_takes_its_container_along() -> None:
    emulator = Emulator([replies.programmatic("find", {"number": "7"}), replies.refusal("cyber"), "ok"])
    journal = MemoryStore()
    result = run(Coding, "hi", client=emulator.client(), journal=journal, run_id="r")
    assert (result.state, errors(emulator)) == ("done", [])
    bodies = [request.body or {} for request in emulator.requests]
    assert bodies[2]["model"] == "claude-opus-4-8"
    assert bodies[2]["container"] == bodies[1]["container"]


def test_b5_what_waits_for_its_container_does_not_leave_without_one() -> None:
    """The other state has no code execution tool, so it cannot name the container (R53), and the API refuses (R18)."""

    class Lacking(Coding, limits=LIMITS):
        other = Claude(model="claude-opus-4-8", max_tokens=100, tools=[find], history="other", continues="main")
        asking = Coding.asking.replace(refusal=other)
        other.on(tool_use=exits.failed, end_turn=Coding.done)
        Coding.calling.replace(tool_results=asking)

    emulator = Emulator([replies.programmatic("find", {"number": "7"}), replies.refusal("cyber"), "ok"])
    result = run(Lacking, "hi", client=emulator.client())
    assert (result.state, len(emulator.requests), errors(emulator)) == ("failed", 2, [])
    assert [found["rule"] for found in result.verdict.evidence["violations"]] == ["R18"]


def test_r13_results_are_copied_with_the_turn_that_they_belong_to() -> None:
    """A server tool beside the client's call is still open then: it goes on with the results (R16)."""

    class Mixed(Workflow, limits=LIMITS):
        asking = Claude(model="claude-opus-4-8", max_tokens=100, tools=[find, WEB])
        calling = Tools()
        other = Claude(model="claude-opus-5-5", max_tokens=100, tools=[find, WEB], history="other", continues="main")
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=other)
        other.on(tool_use=exits.failed, end_turn=done)

    emulator = Emulator([replies.message([SEARCH[0], CALL], stop_reason="tool_use"), "ok"])
    assert (run(Mixed, "hi", client=emulator.client()).state, errors(emulator)) == ("done", [])
    assert [m["role"] for m in (emulator.requests[-1].body or {})["messages"]] == ["user", "assistant", "user"]


def code_calls_again(body: dict[str, Any]) -> replies.Reply:
    """The code that runs goes on and calls the tool once more."""
    blocks = [block for message in body["messages"] if message["role"] == "assistant" for block in message["content"]]
    code = next(block["id"] for block in blocks if block["type"] == "server_tool_use")
    caller = {"type": "code_execution_20260120", "tool_id": code}
    call = {"type": "tool_use", "name": "find", "input": {"number": "8"}, "caller": caller}
    return replies.message([call], stop_reason="tool_use")


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_r16_after_cuts_all_turns_that_the_code_still_ran_in(turns: int) -> None:
    def script(body: dict[str, Any]) -> Any:
        number = len(emulator.requests)
        if number == 0:
            return replies.programmatic("find", {"number": "7"})
        return code_calls_again(body) if number < turns else "hello"

    emulator = Emulator(script)
    first = run(Coding, "hi", client=emulator.client(), limits=Limits(turns=turns))
    assert first.state == "over_limit"
    second = run(Coding, "And now?", client=emulator.client(), after=first)
    assert (second.state, errors(emulator)) == ("done", [])
    assert "And now?" in words(emulator.requests[-1])
    assert "hi" in json.dumps(emulator.requests[-1].body)


# ── another model's cap ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("declared", [64_000, 128_000])
def test_r46_a_switched_model_is_asked_for_no_more_than_its_cap(declared: int) -> None:
    class Switching(Workflow, limits=LIMITS):
        asking = Claude(model="claude-sonnet-5", max_tokens=declared)
        done = Final()
        asking.on(
            end_turn=done,
            refusal=[
                asking.when(untried("claude-haiku-4-5")).then(switch_model("claude-haiku-4-5")),
                exits.refused,
            ],
        )

    script = [replies.max_tokens("")] * (declared < 128_000)
    emulator = Emulator([*script, replies.refusal("cyber"), "ok"])
    result = run(Switching, "hi", client=emulator.client())
    assert (result.state, errors(emulator)) == ("done", [])
    asked = [((body := request.body or {})["model"], body["max_tokens"]) for request in emulator.requests]
    assert asked[-2:] == [("claude-sonnet-5", 128_000), ("claude-haiku-4-5", 64_000)]


# ── questions that were left behind ──────────────────────────────────────────────────────────────────────────────────


def judge(facts: Facts) -> str:
    return f"Is this good? {facts.text}"


def test_a_fresh_state_that_was_left_owing_an_answer_is_asked_anew() -> None:
    """Words, results and retries go on in a ledger; another history in between is no retry."""
    again = rounds_left(1)

    class Reviewing(Workflow, limits=LIMITS):
        drafting = Claude(model="claude-sonnet-5", max_tokens=100)
        judging = Claude(model="claude-haiku-4-5", max_tokens=100, history="judge", fresh=True, prompt=judge)
        done = Final()
        drafting.on(end_turn=judging)
        judging.on(
            end_turn=done,
            malformed=[drafting.when(again).then(say("Again.")), exits.failed],
            max_tokens=[drafting.when(again).then(say("Again.")), exits.failed],
            overloaded_error=[drafting.when(again).then(say("Again.")), exits.failed],
        )

    assert Reviewing.check() == ()
    for bad in (replies.html(), replies.max_tokens("half"), replies.overloaded()):
        emulator = Emulator(["ONE", bad, "TWO", "good"])
        result = run(Reviewing, "write", client=emulator.client())
        assert result.state == "done"
        judged = [r for r in emulator.requests if (r.body or {})["model"] == "claude-haiku-4-5"]
        assert [words(request) for request in judged] == [["Is this good? ONE"], ["Is this good? TWO"]]
        assert len((judged[-1].body or {})["messages"]) == 1


def test_a_fresh_state_is_asked_anew_by_a_person_and_in_a_run_that_follows() -> None:
    class Searching(Workflow):
        drafting = Claude(model="claude-sonnet-5", max_tokens=100)
        judging = Claude(
            model="claude-haiku-4-5", max_tokens=100, history="judge", fresh=True, tools=[find], prompt=judge
        )
        calling = Tools()
        person = Human()
        done = Final()
        drafting.on(end_turn=judging)
        judging.on(end_turn=done, tool_use=calling, overloaded_error=person)
        calling.on(tool_results=judging)
        person.on(said=judging)

    call = replies.tool_use("find", {"number": "1"})
    emulator = Emulator(["ONE", call, "TWO", call, "good"])
    first = run(Searching, "write", client=emulator.client(), limits=Limits(turns=2))
    second = run(Searching, "again", client=emulator.client(), after=first, limits=LIMITS)
    assert second.state == "done"
    roles = [[m["role"] for m in (r.body or {})["messages"]] for r in emulator.requests]
    # anew after the run that ended; results go on
    assert roles[-2:] == [["user"], ["user", "assistant", "user"]]
    assert (emulator.requests[-1].body or {})["messages"][0]["content"][0]["text"] == "Is this good? TWO"

    emulator = Emulator(["ONE", call, replies.overloaded(), "good"])
    result = run(Searching, "write", client=emulator.client(), ask=lambda _: "Ask again.", limits=LIMITS)
    assert result.state == "done"
    assert [m["role"] for m in (emulator.requests[-1].body or {})["messages"]] == ["user"]


def test_when_a_ledger_begins_anew_is_said_once_for_the_run_and_for_the_check() -> None:
    kinds = {"Claude": "j", "Tools": "home", "Approval": "home", "Human": None, "Code": None, "": None}
    assert {kind: history_of(kind, "j", "home") for kind in kinds} == kinds
    table = {s.value: (begins_anew(s, "j", "j"), begins_anew(s, "j", "main"), begins_anew(s, "j", None))
             for s in Standing}  # fmt: skip
    assert table == {
        "empty": (True, True, True),
        "owes": (False, True, True),
        "calls": (False, False, False),
        "spoken": (True, True, True),
        "refused": (True, True, True),
    }


def test_w12_the_check_knows_that_a_ledger_left_behind_begins_anew() -> None:
    """By way of the function the copy is made again, without what the person said: nothing is asked."""

    def look(facts: Facts) -> Literal["again"]:
        del facts
        return "again"

    class Looking(Workflow, check=False):
        asking = Claude(model="claude-sonnet-5", max_tokens=100)
        person = Human()
        other = Claude(model="claude-haiku-4-5", max_tokens=100, history="other", continues="main")
        looking = Code(look)
        done = Final()
        asking.on(end_turn=person)
        person.on(said=other)
        other.on(end_turn=done, malformed=[looking.when(rounds_left(1)), exits.failed])
        looking.on("again", other)

    assert [(found.id, found.state, found.event) for found in Looking.check()] == [("W12", "looking", "again")]


# ── runs that stop again ─────────────────────────────────────────────────────────────────────────────────────────────


OPEN = replies.message([{"type": "text", "text": "x"}, {"type": "server_tool_use", "name": "web_search", "input": {}}])


def test_d16_a_history_that_can_send_nothing_is_stuck_although_a_person_speaks() -> None:
    """R16: a server tool without its result lets nobody speak, so what the person says never reaches the model."""

    class Wedged(Workflow, limits=LIMITS):
        asking = Claude(model="claude-sonnet-5", max_tokens=100, tools=[WEB])
        person = Human()
        asking.on(end_turn=person, invalid_request_error=person)
        person.on(said=asking)

    asked: list[str] = []

    def ask(question: Any) -> str | None:
        asked.append(question.kind)
        return "Go on." if len(asked) < 20 else None

    emulator, journal = Emulator([OPEN]), MemoryStore()
    result = run(Wedged, "hi", client=emulator.client(), ask=ask, journal=journal, run_id="r")
    assert (result.state, len(asked), len(emulator.requests)) == ("stuck", 2, 1)
    evidence = result.verdict.evidence
    assert (evidence["kind"], evidence["rule"]) == ("not_sent", "D16")
    assert "R16" in evidence["detail"]
    folded = Conversation(Wedged.plan, Heads(Wedged.graph, Wedged.toolbox.definitions))
    folded.fold(journal.read("r"))
    assert folded.verdict() == result.verdict


def test_d16_a_reply_in_between_begins_the_count_again() -> None:
    """Not stuck: each time something was sent, and answered, before the next request could not be."""

    class Wedged(Workflow, limits=LIMITS):
        asking = Claude(model="claude-sonnet-5", max_tokens=100, tools=[WEB])
        other = Claude(model="claude-sonnet-5", max_tokens=100, history="other", fresh=True, prompt="Hello.")
        person = Human()
        asking.on(end_turn=person, invalid_request_error=other)
        other.on(end_turn=person)
        person.on(said=asking)

    emulator = Emulator([OPEN, "one", "two", "three"])
    result = run(Wedged, "hi", client=emulator.client(), ask=lambda q: "Go on." if len(emulator.requests) < 4 else None)
    assert (result.state, result.verdict.reason) == ("person", "waiting_person")
    emulator.done()


class Parking(Workflow, limits=LIMITS):
    """What can never be sent is parked each time."""

    asking = Claude(model="claude-sonnet-5", max_tokens=100, tools=[WEB])
    done = Final()
    asking.on(
        end_turn=[asking.when(rounds_left(1)).then(say("More.")), done],
        invalid_request_error=[asking.when(attempts_left(3)).then(park), exits.failed],
        stuck=[asking.when(attempts_left(3)).then(park), exits.failed],
    )


def test_a_run_that_parks_again_as_it_is_resumed_is_parked() -> None:
    journal, emulator = MemoryStore(), Emulator([OPEN])
    result = run(Parking, "hi", client=emulator.client(), journal=journal, run_id="r")
    assert (result.state, result.verdict.reason) == ("asking", "waiting_api")
    again = resume(Parking, "r", client=emulator.client(), journal=journal)
    assert (again.state, again.verdict.reason) == ("asking", "waiting_api")
    assert cancel(Parking, "r", journal=journal).state == "cancelled"


# ── small things ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("call", [[], {}, 7, None])
def test_r19d_a_servers_result_names_its_call_with_a_string(call: Any) -> None:
    use = {"type": "server_tool_use", "name": "web_search", "input": {}, "id": "srvtoolu_1"}
    result = {"type": "web_search_tool_result", "content": [], "tool_use_id": call}
    hi, turn = {"role": "user", "content": "hi"}, {"role": "assistant", "content": [use, result]}
    body = {"model": "claude-sonnet-5", "max_tokens": 9, "tools": [WEB], "messages": [hi, turn]}
    assert [found.rule for found in violations(body)] == ["R19d"]
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21", "content-type": "application/json"}
    for strict in (True, False):
        answer = Emulator(["x"], strict=strict).answer("POST", "/v1/messages", headers, json.dumps(body).encode())
        assert answer.status == 400


def test_a_store_may_read_into_a_list() -> None:
    class Listed(MemoryStore):
        def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
            return list(super().read(run_id, start))  # type: ignore[return-value]

    class Talking(Workflow, limits=LIMITS):
        asking = Claude(model="claude-sonnet-5", max_tokens=100)
        person = Human()
        done = Final()
        asking.on(end_turn=[person.when(rounds_left(1)), done])
        person.on(said=asking)

    emulator, journal = Emulator(["one", "two"]), Listed()
    run(Talking, "hi", client=emulator.client(), journal=journal, run_id="r")
    assert resume(Talking, "r", answer="more", client=emulator.client(), journal=journal).state == "done"
