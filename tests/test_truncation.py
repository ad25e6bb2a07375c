"""S5, S9, S7, S11, S3.4: replies that are cut, paused, empty or unknown, and the exact next request (S14)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from _workflows import MODEL, Driven, find, folded, message, refused, replied, snapshot, text, through_json, use

from fsm import (
    Claude,
    Final,
    Human,
    Limits,
    Tools,
    Workflow,
    attempts_left,
    compact,
    effect,
    exits,
    grow,
    room_to_grow,
    run,
    say,
)
from fsm._actions import SendRequest
from fsm._events import Answered, Failed, TimePassed
from fsm.testing import Emulator, replies

SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
THINKING = {"type": "thinking", "thinking": "", "signature": "c2ln"}
UNKNOWN = "claude-of-tomorrow"


class Asking(Workflow):
    """One question, with a tool."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


class Unknown(Workflow):
    """The same with a model whose cap nobody knows."""

    asking = Claude(model=UNKNOWN, max_tokens=100, tools=[find])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


def limits(driven: Driven) -> list[int]:
    """The max_tokens of every request that was sent."""
    return [json.loads(body)["max_tokens"] for body in driven.bodies]


def words(driven: Driven) -> str:
    return driven.run.continued + driven.run.reading.reply.text


def lawful(driven: Driven) -> None:
    """Every request is lawful, and the journal alone gives the same run and the same bytes."""
    assert [refused(body) for body in driven.bodies] == [()] * len(driven.bodies)
    other = folded(driven, through_json(driven.records))
    assert snapshot(other) == snapshot(driven.conversation)
    sent = [[a.body() for a in c.pending() if isinstance(a, SendRequest)] for c in (other, driven.conversation)]
    assert sent[0] == sent[1]


def too_many(asked: int, cap: int, model: str = UNKNOWN) -> str:
    return f"max_tokens: {asked} > {cap}, which is the maximum allowed number of output tokens for {model}"


# --- S5: cut at max_tokens -------------------------------------------------------------------------------------------


def test_s5_2_a_cut_call_is_asked_for_again_with_more_tokens_and_nothing_else_changed() -> None:
    driven = Driven(Asking)
    for _ in range(3):
        driven.reply(text("Let me see."), use("find", {"numb": "7"}), stop="max_tokens")
    assert limits(driven) == [100, 200, 400]
    bodies = [{**json.loads(body), "max_tokens": 0} for body in driven.bodies]
    assert bodies[0] == bodies[1] == bodies[2]
    assert "tool.begin" not in driven.kinds()
    assert driven.state == "truncated"
    verdict = driven.conversation.verdict()
    assert verdict.reason == "max_tokens"
    assert verdict.evidence["detail"] == "the reply was cut inside a call of find"
    assert (verdict.evidence["max_tokens"], verdict.evidence["max_tokens_cap"]) == (400, 128_000)
    assert words(driven) == "Let me see."
    lawful(driven)


def test_s5_4_thinking_alone_grows() -> None:
    driven = Driven(Asking)
    driven.reply(THINKING, stop="max_tokens")
    assert limits(driven) == [100, 200]
    assert len(driven.sent()) == 1
    lawful(driven)


def test_s5_6_a_whole_call_before_the_cut_one_is_not_run_either() -> None:
    driven = Driven(Asking)
    driven.reply(use("find"), use("find", {}), stop="max_tokens")
    assert limits(driven) == [100, 200]
    assert not driven.run.open
    driven.reply(text("Done."))
    assert driven.state == "answered"
    lawful(driven)


def test_s5_7_at_the_cap_of_the_model_it_ends_at_once() -> None:
    class AtCap(Workflow):
        """As much as the model gives."""

        asking = Claude(model=MODEL, max_tokens=128_000, tools=[find])
        calling = Tools()
        answered = Final()
        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking)

    driven = Driven(AtCap)
    driven.reply(text("Part."), use("find", {}), stop="max_tokens")
    assert (driven.state, len(driven.bodies), words(driven)) == ("truncated", 1, "Part.")


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (too_many(200, 150), [100, 200, 150]),
        (too_many(200, 100), [100, 200]),
        ("input length and `max_tokens` exceed context limit: 880 + 200 > 1000, decrease", [100, 200, 120]),
        ("The maximum tokens you requested exceeds the model limit.", [100, 200]),
    ],
    ids=["R46 names more", "R46 names no more", "R61", "names nothing"],
)
def test_s5_7_an_unknown_cap_is_learned_from_the_error_that_growing_earned(error: str, sent: list[int]) -> None:
    driven = Driven(Unknown)
    driven.reply(text("Part."), use("find", {}), stop="max_tokens")
    driven.feed(Failed(driven.now(), "invalid_request_error", error, status=400, request_id="req_1"))
    lawful(driven)
    if len(sent) > 2:
        driven.reply(text("Part."), use("find", {}), stop="max_tokens")
    assert limits(driven) == sent
    assert driven.state == "truncated"
    assert words(driven) == "Part."
    assert driven.conversation.verdict().reason == "max_tokens"
    lawful(driven)


def test_s5_7_what_is_learned_holds_for_the_rest_of_the_run_and_across_a_retry() -> None:
    driven = Driven(Unknown)
    driven.reply(use("find", {}), stop="max_tokens")
    driven.fail("api_error")
    driven.feed(TimePassed(driven.run.wait_until + 1))
    driven.feed(Failed(driven.now(100), "invalid_request_error", too_many(200, 150), status=400))
    driven.reply(use("find"))
    driven.end()
    driven.reply(use("find", {}), stop="max_tokens")
    assert limits(driven)[-1] == 150
    lawful(driven)


def test_an_error_about_max_tokens_that_no_growing_earned_fails() -> None:
    driven = Driven(Unknown)
    driven.feed(Failed(driven.now(), "invalid_request_error", too_many(100, 50), status=400))
    assert driven.state == "failed"


def test_s5_7_words_are_kept_where_a_row_grows_for_text_too() -> None:
    class Growing(Workflow):
        """Grows first, then goes on."""

        asking = Claude(model=UNKNOWN, max_tokens=100)
        answered = Final()
        asking.on(
            end_turn=answered,
            max_tokens=[
                asking.when(room_to_grow).then(grow),
                asking.when(attempts_left(3)).then(say("Continue.")),
                exits.truncated,
            ],
        )

    driven = Driven(Growing)
    driven.reply(text("One"), stop="max_tokens")
    driven.feed(Failed(driven.now(), "invalid_request_error", too_many(200, 100), status=400))
    assert [m["role"] for m in driven.sent()] == ["user", "assistant", "user"]
    driven.reply(text(" two."))
    assert words(driven) == "One two."
    lawful(driven)


def test_s5_1_cut_text_is_continued_and_the_text_is_the_whole() -> None:
    driven = Driven(Asking)
    for part in ("One", " two", " three"):
        driven.reply(text(part), stop="max_tokens")
    assert driven.state == "asking"
    driven.reply(text(" four."))
    assert (driven.state, words(driven)) == ("answered", "One two three four.")
    assert limits(driven) == [100] * 4
    lawful(driven)


def test_s5_1_after_three_continuations_it_is_truncated_with_all_of_the_text() -> None:
    driven = Driven(Asking)
    for part in "abcd":
        driven.reply(text(part), stop="max_tokens")
    assert (driven.state, words(driven)) == ("truncated", "abcd")
    assert driven.conversation.verdict().evidence["detail"] == "the reply was cut in its text"


def test_a_continuation_survives_a_grown_call_and_an_empty_turn() -> None:
    driven = Driven(Asking)
    driven.reply(text("One"), stop="max_tokens")
    driven.reply(text("?"), use("find", {}), stop="max_tokens")
    driven.reply()
    driven.reply(text(" two."))
    assert (driven.state, words(driven)) == ("answered", "One two.")
    lawful(driven)


def test_half_a_structured_output_is_never_continued() -> None:
    class Graded(Workflow):
        """An answer as JSON."""

        asking = Claude(model=MODEL, max_tokens=100, output={"type": "object"})
        answered = Final()
        asking.on(end_turn=answered)

    driven = Driven(Graded)
    driven.reply(text('{"a": '), stop="max_tokens")
    assert limits(driven) == [100, 200]
    assert len(driven.sent()) == 1


# --- S9: the context window is full ----------------------------------------------------------------------------------


def test_s9_2_a_full_window_does_not_grow_and_ends_truncated_with_the_text() -> None:
    driven = Driven(Asking)
    driven.reply(text("Part."), stop="model_context_window_exceeded")
    assert (driven.state, limits(driven), words(driven)) == ("truncated", [100], "Part.")
    assert driven.conversation.verdict().reason == "model_context_window_exceeded"
    assert [m["role"] for m in driven.run.ledger("main").messages()] == ["user"]


def test_s9_1_a_cut_call_is_not_kept_where_a_row_goes_on() -> None:
    class Told(Workflow):
        """Says something after it."""

        asking = Claude(model=MODEL, max_tokens=100, tools=[find])
        calling = Tools()
        answered = Final()
        asking.on(
            tool_use=calling,
            end_turn=answered,
            model_context_window_exceeded=[asking.when(attempts_left(2)).then(say("Be brief.")), exits.truncated],
        )
        calling.on(tool_results=asking)

    driven = Driven(Told)
    driven.reply(text("Part."), use("find", {}), stop="model_context_window_exceeded")
    assert [m["role"] for m in driven.sent()] == ["user", "user"]
    driven.reply(text("Part."), stop="model_context_window_exceeded")
    assert [m["role"] for m in driven.sent()] == ["user", "user", "assistant", "user"]
    lawful(driven)


# --- S7: pauses ------------------------------------------------------------------------------------------------------


class Weather(Workflow):
    """A question for the web."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    answered = Final()
    asking.on(end_turn=answered)


class Searching(Workflow):
    """A server tool that pauses."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    waiting = Human()
    asking.on(end_turn=waiting, overloaded_error=[asking.when(attempts_left(2)).then(say("Hurry.")), exits.failed])
    waiting.on(said=asking)


def test_s7_2_a_paused_reply_goes_back_byte_for_byte_under_the_same_head() -> None:
    driven = Driven(Searching)
    search = '{"input":{"query":1e2},"type":"server_tool_use","id":"srvtoolu_1","name":"web_search"}'
    raw = f'[{{"type":"text","text":"Looking\\u0021"}}, {search}]'
    driven.reply(*json.loads(raw), raw=raw, stop="pause_turn")
    assert raw.encode() in driven.bodies[-1]
    assert driven.bodies[-1].endswith(raw.encode() + b"}]}")
    heads = [{k: v for k, v in json.loads(body).items() if k != "messages"} for body in driven.bodies]
    assert heads[0] == heads[1]
    lawful(driven)


def test_s7_2_nothing_is_said_into_a_paused_turn_even_where_no_server_tool_is_open() -> None:
    driven = Driven(Searching)
    driven.reply(text("First."), SEARCH, FOUND, stop="pause_turn")
    driven.fail()
    assert driven.bodies[-1] == driven.bodies[-2]
    driven.reply(text(" Then."))
    assert words(driven) == "First. Then."
    driven.feed(Answered(driven.now(), said="And?"))
    assert [m["role"] for m in driven.sent()][-1] == "user"
    lawful(driven)


def test_s7_2_a_paused_turn_that_ended_empty_is_over_and_may_be_spoken_to() -> None:
    driven = Driven(Searching)
    driven.reply(text("First."), SEARCH, FOUND, stop="pause_turn")
    driven.reply()
    assert driven.sent()[-1] == {"role": "user", "content": [text("Please continue.")]}
    driven.reply(text(" Then."))
    assert words(driven) == "First. Then."
    lawful(driven)


def test_s7_3_after_five_continuations_it_is_stuck_and_says_so() -> None:
    driven = Driven(Searching)
    for n in range(6):
        use_, result = {**SEARCH, "id": f"srvtoolu_{n}"}, {**FOUND, "tool_use_id": f"srvtoolu_{n}"}
        driven.reply(use_, result, stop="pause_turn")
    assert (driven.state, len(driven.bodies)) == ("stuck", 6)
    evidence = driven.conversation.verdict().evidence
    assert (evidence["kind"], evidence["times"]) == ("pause", 6)
    lawful(driven)


def test_s7_4_a_paused_turn_is_not_compacted() -> None:
    class Compacting(Workflow):
        """Compacts on an error."""

        asking = Claude(model=MODEL, max_tokens=100)
        done = Final()
        asking.on(end_turn=done, overloaded_error=[asking.when(attempts_left(2)).then(compact), exits.failed])

    driven = Driven(Compacting)
    driven.reply(text("First."), SEARCH, FOUND, stop="pause_turn")
    driven.fail()
    assert "compaction" not in json.loads(driven.bodies[-1])
    assert driven.bodies[-1] == driven.bodies[-2]


# --- S11, S3.4, S1 ---------------------------------------------------------------------------------------------------


def test_s11_2_an_unknown_stop_is_journaled_verbatim_and_runs_nothing() -> None:
    driven = Driven(Asking)
    raw = '[{"type":"tool_use","id":"toolu_1","name":"find","input":{"number":"7"}},{"type":"hologram","x":1e2}]'
    driven.reply(*json.loads(raw), raw=raw, stop="handed_over")
    (record,) = (r for r in driven.records if r.kind == "reply")
    assert record.data["content"] == raw
    assert record.data["message"]["stop_reason"] == "handed_over"
    assert (driven.state, driven.conversation.verdict().evidence["stop_reason"]) == ("failed", "handed_over")
    assert "tool.begin" not in driven.kinds()


def test_s11_2_a_declared_row_for_it_works() -> None:
    class Curious(Workflow):
        """Asks a person what to do."""

        asking = Claude(model=MODEL, max_tokens=100)
        waiting = Human()
        asking.on(end_turn=waiting, unknown_stop=waiting)
        waiting.on(said=asking)

    driven = Driven(Curious)
    driven.reply(text("Hm."), stop="handed_over")
    driven.feed(Answered(driven.now(), said="Go on."))
    assert [m["role"] for m in driven.sent()] == ["user", "user"]
    lawful(driven)


@pytest.mark.parametrize("stop", [None, 7, ["end_turn"]])
def test_s11_1_without_a_stop_reason_nothing_counts(stop: Any) -> None:
    driven = Driven(Asking)
    driven.feed(replied(driven.now(), {**message(use("find")), "stop_reason": stop}))
    assert (driven.state, driven.conversation.verdict().reason) == ("failed", "malformed")
    assert "tool.begin" not in driven.kinds()


@pytest.mark.parametrize(
    "answer",
    [
        replies.body({}),
        replies.body({"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}}),
        replies.body({**message(text("Hi.")), "role": "user"}),
        replies.body({**message(text("Hi.")), "content": "Hi."}),
        replies.html(status=200),
    ],
    ids=["nothing", "an error", "a role", "content", "a page"],
)
def test_s11_3_what_is_no_message_is_not_taken_for_one(answer: replies.Reply) -> None:
    emulator = Emulator([answer])
    result = run(Asking, "Order 7?", client=emulator.client())
    assert (result.state, result.verdict.reason, len(emulator.requests)) == ("failed", "malformed", 1)
    assert result.messages == [{"role": "user", "content": [text("Order 7?")]}]


def test_s3_4_an_empty_turn_is_asked_once_behind_the_results_and_never_kept() -> None:
    driven = Driven(Asking)
    call = use("find")
    driven.reply(call)
    driven.end()
    driven.reply()
    assert driven.sent()[-2:] == [
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": "found"}]},
        {"role": "user", "content": [text("Please continue.")]},
    ]
    lawful(driven)
    driven.reply()
    assert (driven.state, len(driven.bodies)) == ("failed", 3)
    assert driven.conversation.verdict().reason == "empty_turn"


def test_s1_stop_details_beside_another_stop_reason_are_tolerated() -> None:
    driven = Driven(Asking)
    driven.reply(text("Hi."), stop_details={"type": "refusal", "category": "bio"}, stop_sequence="x")
    assert driven.state == "answered"


# --- through the SDK -------------------------------------------------------------------------------------------------


def test_a_cut_call_through_the_sdk_is_truncated_with_its_text_saved() -> None:
    cut = replies.max_tokens("Let me write it.", tool=("find", {"number": "12345678"}))
    emulator = Emulator([cut] * 3)
    result = run(Asking, "Order 7?", client=emulator.client())
    emulator.done()
    assert (result.state, result.text) == ("truncated", "Let me write it.")
    assert [r.body["max_tokens"] for r in emulator.requests if r.body] == [100, 200, 400]


def test_s7_2_a_pause_through_the_sdk_goes_back_unchanged() -> None:
    def script(body: dict[str, Any]) -> Any:
        last = body["messages"][-1]
        if last["role"] == "user":
            return replies.pause()
        found = {**FOUND, "tool_use_id": last["content"][0]["id"]}
        return replies.message([found, {"type": "text", "text": "Sunny."}])

    emulator = Emulator(script)
    result = run(Weather, "How is the weather?", client=emulator.client())
    first, second = (request.raw for request in emulator.requests)
    assert (result.state, result.text) == ("answered", "Sunny.")
    assert second.startswith(first[:-2])
    emulator.done()


def test_an_unknown_cap_through_the_sdk_ends_in_truncated() -> None:
    error = replies.error(400, "invalid_request_error", too_many(200, 100))
    emulator = Emulator([replies.max_tokens("Part.", tool=("find", {"number": "1"})), error])
    result = run(Unknown, "Order 7?", client=emulator.client())
    emulator.done()
    assert (result.state, result.text, result.verdict.reason) == ("truncated", "Part.", "max_tokens")


def test_money_is_not_spent_blindly_on_a_model_of_unknown_price() -> None:
    @effect(changes="model")
    def unpriced(facts: Any) -> str:
        """A model that no list knows."""
        return "claude-of-tomorrow"

    class Switching(Workflow, limits=Limits(money=1.0)):
        """Asks another model for the tool results."""

        asking = Claude(model=MODEL, max_tokens=100, tools=[find])
        calling = Tools()
        answered = Final()
        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking.then(unpriced))

    emulator = Emulator([replies.tool_use("find", {"number": "7"})] * 2)
    result = run(Switching, "Order 7?", client=emulator.client())
    emulator.done()
    assert result.state == "over_limit"
    assert result.verdict.price is None
    assert result.verdict.evidence["limit"] == "money"
    assert "limit tokens instead" in result.verdict.evidence["detail"]
