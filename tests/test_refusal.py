"""S8: a refusal keeps what it says, stays out of the history, and is never sent again unchanged (D11, W7, S14)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from _workflows import MODEL, Driven, find, folded, refused, snapshot, text, through_json, use

from fsm import (
    Claude,
    DeclarationError,
    Facts,
    Final,
    Human,
    Limits,
    Tools,
    UsageError,
    Workflow,
    exits,
    guard,
    rounds_left,
    run,
    say,
    switch_model,
    untried,
)
from fsm._check import check
from fsm._conversation._replies import echoed
from fsm._events import Answered
from fsm.testing import Emulator, replies

DETAILS = {
    "type": "refusal",
    "category": "cyber",
    "explanation": "It could do harm.",
    "fallback_credit_token": "fct_secret",
    "fallback_has_prefill_claim": True,
    "recommended_model": "claude-opus-4-8",
}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
BINDS = "claude-opus-5-5"
OTHER = "claude-sonnet-5-5"


class Plain(Workflow):
    """One question, with a tool."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


class Chain(Workflow):
    """Three models, one after another, in one history."""

    asking = Claude(model="claude-opus-5", max_tokens=100, tools=[find])
    calling = Tools()
    answered = Final()

    asking.on(
        tool_use=calling,
        end_turn=answered,
        refusal=[
            asking.when(untried("claude-sonnet-5")).then(switch_model("claude-sonnet-5")),
            asking.when(untried("claude-haiku-4-5")).then(switch_model("claude-haiku-4-5")),
            exits.refused,
        ],
    )
    calling.on(tool_results=asking)


class HandedOver(Workflow):
    """The legal way where models bind their thinking: a history of its own that continues the other."""

    asking = Claude(model=BINDS, max_tokens=100, tools=[find])
    calling = Tools()
    helping = Claude(model=OTHER, max_tokens=100, tools=[find], history="other", continues="main")
    looking = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered, refusal=helping)
    calling.on(tool_results=asking)
    helping.on(tool_use=looking, end_turn=answered)
    looking.on(tool_results=helping)


def models(driven: Driven) -> list[str]:
    return [json.loads(body)["model"] for body in driven.bodies]


def lawful(driven: Driven) -> None:
    assert [refused(body) for body in driven.bodies] == [()] * len(driven.bodies)
    assert snapshot(folded(driven, through_json(driven.records))) == snapshot(driven.conversation)


def findings(workflow: type[Workflow]) -> list[str]:
    return [f.id for f in check(workflow.graph) if f.is_error]


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_s8_1_category_explanation_and_request_id_are_in_the_verdict() -> None:
    emulator = Emulator([replies.refusal("bio", explanation="No.")])
    result = run(Plain, "Make it.", client=emulator.client())
    evidence = result.verdict.evidence
    assert (result.state, result.verdict.reason) == ("refused", "refusal")
    assert (evidence["category"], evidence["explanation"], evidence["model"]) == ("bio", "No.", MODEL)
    assert evidence["request_id"] == emulator.requests[-1].request_id


def test_s8_1_guards_read_the_details_the_count_and_the_request_id() -> None:
    seen: list[Facts] = []

    @guard
    def looks(facts: Facts) -> bool:
        """Looks at the facts."""
        seen.append(facts)
        return False

    class Looking(Workflow):
        """Looks."""

        asking = Claude(model=MODEL, max_tokens=100)
        answered = Final()
        asking.on(end_turn=answered, refusal=[answered.when(looks), exits.refused])

    from _workflows import message, replied

    driven = Driven(Looking)
    driven.feed(replied(driven.now(), message(stop="refusal", stop_details=DETAILS), request_id="req_9"))
    (facts,) = seen
    assert facts.reply is not None
    assert facts.reply.stop_details is not None
    assert facts.reply.stop_details["recommended_model"] == "claude-opus-4-8"
    assert facts.reply.stop_details["fallback_credit_token"] == "fct_secret"
    assert facts.refusals == {MODEL: 1}
    assert facts.request_id == "req_9"


def test_x7_the_credit_token_is_in_no_record() -> None:
    driven = Driven(Plain)
    driven.reply(stop="refusal", stop_details=DETAILS)
    written = json.dumps([dict(r.data) for r in driven.records])
    assert "fct_secret" not in written
    assert "recommended_model" in written
    assert "fct_secret" not in json.dumps(dict(driven.conversation.verdict().evidence))
    assert driven.conversation.verdict().evidence["recommended_model"] == "claude-opus-4-8"


@pytest.mark.parametrize("partial", [(), (text("First you"),), (text("First"), use("find")), (SEARCH, FOUND)])
def test_s8_2_a_refused_turn_stays_out_of_the_history_and_runs_nothing(partial: tuple[Any, ...]) -> None:
    driven = Driven(Plain)
    driven.reply(*partial, stop="refusal", stop_details=DETAILS)
    assert driven.run.ledger("main").messages() == [{"role": "user", "content": [text("Hello.")]}]
    assert "tool.begin" not in driven.kinds()
    assert not driven.run.open


def test_s8_3_the_paused_part_of_a_refused_turn_goes_too() -> None:
    driven = Driven(Plain)
    driven.reply(text("First."), SEARCH, FOUND, stop="pause_turn")
    driven.reply(stop="refusal")
    assert driven.state == "refused"
    assert [m["role"] for m in driven.run.ledger("main").messages()] == ["user"]
    lawful(driven)


# --- other models ----------------------------------------------------------------------------------------------------


def test_s14_a_chain_of_fallback_models_asks_each_once() -> None:
    driven = Driven(Chain)
    for _ in range(3):
        driven.reply(stop="refusal", stop_details=DETAILS)
    assert models(driven) == ["claude-opus-5", "claude-sonnet-5", "claude-haiku-4-5"]
    assert driven.state == "refused"
    assert [len(driven.run.refusals[model]) for model in models(driven)] == [1, 1, 1]
    messages = [json.loads(body)["messages"] for body in driven.bodies]
    assert messages[0] == messages[1] == messages[2]
    lawful(driven)


def test_a_switched_model_stays_and_a_later_refusal_goes_on_down_the_chain() -> None:
    driven = Driven(Chain)
    driven.reply(stop="refusal")
    driven.reply(use("find"))
    driven.end()
    assert models(driven) == ["claude-opus-5", "claude-sonnet-5", "claude-sonnet-5"]
    driven.reply(stop="refusal")
    assert models(driven)[-1] == "claude-haiku-4-5"
    driven.reply(text("Here."))
    assert driven.state == "answered"
    lawful(driven)


def test_a_switch_end_to_end_with_the_strict_emulator() -> None:
    thought = replies.thinking("Hm.", then=replies.tool_use("find", {"number": "7"}))
    emulator = Emulator([thought, replies.refusal("cyber", partial="Fir"), "From another model."])
    result = run(Chain, "Order 7?", client=emulator.client())
    emulator.done()
    assert (result.state, result.text) == ("answered", "From another model.")
    assert [r.body["model"] for r in emulator.requests if r.body] == ["claude-opus-5"] * 2 + ["claude-sonnet-5"]


def test_r35_a_history_of_its_own_end_to_end_with_the_strict_emulator() -> None:
    thought = replies.thinking("Hm.", then=replies.tool_use("find", {"number": "7"}))
    emulator = Emulator([thought, replies.refusal("cyber", partial="Fir"), thought, "From another model."])
    result = run(HandedOver, "Order 7?", client=emulator.client())
    emulator.done()
    assert (result.state, result.text) == ("answered", "From another model.")
    bodies = [r.body for r in emulator.requests if r.body]
    assert [b["model"] for b in bodies] == [BINDS, BINDS, OTHER, OTHER]
    kinds = [block["type"] for m in bodies[2]["messages"] for block in m["content"] if isinstance(m["content"], list)]
    assert kinds == ["text", "tool_use", "tool_result"]
    assert bodies[2]["messages"][-1]["role"] == "user"


@pytest.mark.filterwarnings("ignore:W11")
def test_d11_the_same_request_is_not_sent_again_by_way_of_another_model() -> None:
    class Round(Workflow):
        """Asks one, the other, and the one again."""

        first = Claude(model="claude-opus-5", max_tokens=100)
        second = Claude(model="claude-sonnet-5", max_tokens=100)
        answered = Final()
        first.on(end_turn=answered, refusal=second)
        second.on(end_turn=answered, refusal=[first.when(rounds_left(3)), exits.refused])

    driven = Driven(Round)
    driven.reply(stop="refusal")
    driven.reply(stop="refusal")
    assert (driven.state, len(driven.bodies)) == ("stuck", 2)
    assert driven.conversation.verdict().evidence["rule"] == "D11"


def test_s8_3_a_rephrased_turn_is_another_request() -> None:
    class Rephrasing(Workflow):
        """A person says it otherwise."""

        asking = Claude(model=MODEL, max_tokens=100)
        waiting = Human()
        asking.on(end_turn=waiting, refusal=waiting)
        waiting.on(said=asking)

    driven = Driven(Rephrasing)
    for words in ("Once.", "Twice.", "Thrice."):
        driven.reply(stop="refusal")
        driven.feed(Answered(driven.now(), said=words))
    assert (driven.state, len(driven.bodies)) == ("asking", 4)
    assert [len(json.loads(body)["messages"]) for body in driven.bodies] == [1] * 4  # what was refused is gone
    lawful(driven)


class Chatting(Workflow):
    """A chat whose refused turns another model answers, in a history of its own."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    helping = Claude(model=OTHER, max_tokens=100, tools=[find], history="other", continues="main")
    looking = Tools()
    waiting = Human()

    asking.on(end_turn=waiting, tool_use=calling, refusal=helping)
    calling.on(tool_results=asking)
    helping.on(tool_use=looking, end_turn=waiting)
    looking.on(tool_results=helping)
    waiting.on(said=asking)


def said(body: bytes) -> list[str]:
    """The texts of a request, and the types of what is none."""
    messages = json.loads(body)["messages"]
    return [block.get("text", block["type"]) for message in messages for block in message["content"]]


def test_s8_3_new_words_take_the_place_of_the_question_that_was_refused() -> None:
    driven = Driven(Chatting, given="First?")
    driven.reply(text("One."), stop="end_turn")
    driven.feed(Answered(driven.now(), said="Second?"))
    driven.reply(stop="refusal")
    assert said(driven.bodies[-1]) == ["First?", "One.", "Second?"]  # the other model is asked it
    driven.reply(text("Two."), stop="end_turn")
    driven.feed(Answered(driven.now(), said="Third?"))
    assert said(driven.bodies[-1]) == ["First?", "One.", "Third?"]
    lawful(driven)


def test_s8_3_results_of_a_refused_turn_stay_since_their_calls_do() -> None:
    driven = Driven(Chatting, given="First?")
    driven.reply(use("find", {"number": "7"}), stop="tool_use")
    driven.end()
    driven.reply(stop="refusal")
    driven.reply(text("Two."), stop="end_turn")
    driven.feed(Answered(driven.now(), said="Third?"))
    assert said(driven.bodies[-1]) == ["First?", "tool_use", "tool_result", "Third?"]
    lawful(driven)


def test_s8_3_a_run_that_goes_on_from_a_refusal_leaves_the_question_out() -> None:
    emulator = Emulator([replies.text("One."), replies.refusal(), replies.text("Three.")])
    result = run(Plain, "First?", client=emulator.client())
    result = run(Plain, "Second?", client=emulator.client(), after=result)
    assert result.state == "refused"
    run(Plain, "Third?", client=emulator.client(), after=result)
    assert said(emulator.requests[-1].raw) == ["First?", "One.", "Third?"]
    emulator.done()


def test_s8_2_the_partial_text_of_a_refusal_is_no_text_of_the_result() -> None:
    emulator = Emulator([replies.refusal(partial="Take two")])
    result = run(Plain, "Make it.", client=emulator.client())
    assert result.text == ""
    assert result.reply is not None
    assert result.reply.text == "Take two"


# --- the checks ------------------------------------------------------------------------------------------------------


def switching(model: str, *alternatives: Any) -> type[Workflow]:
    state = Claude(model=model, max_tokens=100)
    row = [*(make(state) for make in alternatives), exits.refused]

    class Made(Workflow, check=False):
        """One state; what follows a refusal is given."""

        asking = state
        answered = Final()
        asking.on(end_turn=answered, refusal=row)

    return Made


def to(model: str, *, when: Any = None, also: Any = None) -> Any:
    effects = [switch_model(model), *([also] if also else [])]
    return lambda state: (state.when(when) if when is not None else state).then(*effects)


@pytest.mark.parametrize(
    ("model", "alternatives", "expected"),
    [
        ("claude-opus-5", (to("claude-sonnet-5", when=untried("claude-sonnet-5")),), []),
        ("claude-opus-5", (to("claude-sonnet-5", when=untried("claude-haiku-4-5")),), ["W5"]),
        ("claude-opus-5", (to("claude-opus-5", when=untried("claude-opus-5")),), ["W7"]),
        ("claude-opus-5", (to("claude-opus-5-5", when=untried("claude-opus-5-5")),), ["W11"]),
        ("claude-opus-5-5", (to("claude-opus-5", when=untried("claude-opus-5")),), ["W11"]),
        ("claude-of-tomorrow", (to("claude-opus-5", when=untried("claude-opus-5")),), ["W11"]),
    ],
)
def test_a_switch_is_checked(model: str, alternatives: tuple[Any, ...], expected: list[str]) -> None:
    assert findings(switching(model, *alternatives)) == expected


def test_w11_names_the_legal_way() -> None:
    (finding,) = check(switching(BINDS, to(OTHER, when=untried(OTHER))).graph)
    assert "R35" in finding.problem
    assert 'continues="main"' in finding.remedy
    assert findings(HandedOver) == []
    assert findings(Chain) == []


def test_w5_a_cycle_of_models_is_refused() -> None:
    class Cycle(Workflow, check=False):
        """Two states that hand a refusal to and fro, rephrased each time."""

        first = Claude(model="claude-opus-5", max_tokens=100)
        second = Claude(model="claude-opus-5", max_tokens=100)
        answered = Final()
        first.on(end_turn=answered, refusal=second.then(say("Please.")))
        second.on(end_turn=answered, refusal=first.then(say("Please.")))

    assert findings(Cycle) == ["W5"]


@pytest.mark.parametrize("model", ["", "  ", None, 7])
def test_a_switch_names_a_model(model: Any) -> None:
    with pytest.raises(DeclarationError, match="name of a model"):
        switch_model(model)


def test_a_limit_of_money_refuses_a_switch_to_a_model_of_unknown_price() -> None:
    class Priced(Workflow, limits=Limits(money=1.0)):
        """Switches to a model that no list knows."""

        asking = Claude(model="claude-opus-5", max_tokens=100)
        helping = Claude(model="claude-opus-5", max_tokens=100, history="other", continues="main")
        answered = Final()
        asking.on(end_turn=answered, refusal=helping.then(switch_model("claude-of-tomorrow")))
        helping.on(end_turn=answered)

    with pytest.raises(UsageError, match="price of 'claude-of-tomorrow'"):
        run(Priced, "Hi.", client=Emulator(["Hi."]).client())


# --- S8.7: several models in one reply -------------------------------------------------------------------------------

FALLBACK = {
    "type": "fallback",
    "from": {"model": "claude-opus-5"},
    "to": {"model": "claude-sonnet-5"},
    "trigger": {"type": "refusal"},
}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}


def test_s8_7_what_a_model_that_declined_thought_and_called_is_not_sent_back() -> None:
    driven = Driven(Plain)
    declined, wanted = use("find"), use("find")
    lost = {**SEARCH, "id": "srvtoolu_2"}
    content = [THOUGHT, text("I will"), declined, SEARCH, FOUND, lost, FALLBACK, THOUGHT, text("Looking."), wanted]
    driven.reply(*content)
    assert list(driven.run.open) == [wanted["id"]]
    driven.end()
    assert driven.sent()[1]["content"] == [text("I will"), SEARCH, FOUND, FALLBACK, THOUGHT, text("Looking."), wanted]
    assert [b["tool_use_id"] for b in driven.sent()[2]["content"]] == [wanted["id"]]
    driven.reply(text("Done."))
    assert driven.state == "answered"
    lawful(driven)


def test_s8_7_only_the_last_hand_over_counts() -> None:
    content = [text("a"), FALLBACK, THOUGHT, {"type": "connector_text"}, text("b"), FALLBACK, THOUGHT, text("c")]
    kept, raw = echoed(content, json.dumps(content))
    assert [b["type"] for b in kept] == ["text", "fallback", "text", "fallback", "thinking", "text"]
    assert json.loads(raw) == kept


def test_s12_without_a_hand_over_a_reply_goes_back_verbatim() -> None:
    raw = '[{"text": "Hi\\u0021", "type": "text"}]'
    content = json.loads(raw)
    assert echoed(content, raw) == (content, raw)
    whole = [text("Hi."), FALLBACK, text("there")]
    assert echoed(whole, json.dumps(whole)) == (whole, json.dumps(whole))


def test_s8_7_calls_of_the_declining_model_alone_run_nothing() -> None:
    driven = Driven(Plain)
    driven.reply(use("find"), FALLBACK, text("No."), stop="tool_use")
    assert (driven.state, driven.conversation.verdict().reason) == ("failed", "malformed")
    assert "tool.begin" not in driven.kinds()
