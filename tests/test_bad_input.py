"""What cannot work ends in a named state or in one clear error, and nothing that existed is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from _driving import MODEL, Clock, Loop, Plain, both, events_of, go_on, loop_of

from fsm import (
    Claude,
    DeclarationError,
    Final,
    IllegalRequest,
    Limits,
    MemoryStore,
    Tools,
    UsageError,
    Workflow,
    WorkflowError,
    aiterate,
    iterate,
    run,
    tool,
)
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

WAYS = [
    pytest.param((a, s), id=f"{'arun' if a else 'run'}{' streamed' * s}") for a in (False, True) for s in (False, True)
]


class Thing:
    """Something that nobody expects."""

    def __repr__(self) -> str:
        return "a thing"


# --- declarations ----------------------------------------------------------------------------------------------------


def test_a_workflow_without_states() -> None:
    with pytest.raises(WorkflowError, match=r"'Empty'.*no state") as caught:

        class Empty(Workflow):
            """Nothing here."""

    assert len(caught.value.findings) == 1


def test_a_workflow_that_was_never_declared() -> None:
    with pytest.raises((UsageError, WorkflowError), match="state"):
        run(Workflow, "Hi.")


def test_a_foreign_target() -> None:
    with pytest.raises(WorkflowError, match=r"'Other\.answered'|answered.*another workflow|belongs to") as caught:

        class Other(Workflow):
            asking = Claude(model=MODEL, max_tokens=100)
            mine = Final()
            asking.on(end_turn=[Loop.asking], refusal=mine)

    assert "test_bad_input.py:" in str(caught.value)


def test_a_tool_without_a_docstring() -> None:
    with pytest.raises(DeclarationError, match=r"tool 'act' \(test_bad_input\.py:\d+\) has no docstring: .* write one"):

        @tool
        def act(number: str) -> str:
            return number


def test_a_plain_function_without_a_docstring() -> None:
    def act(number: str) -> str:
        return number

    with pytest.raises(DeclarationError, match="has no docstring"):
        loop_of(act)


def _unannotated(number) -> str:  # type: ignore[no-untyped-def] # the point
    """Act."""
    return str(number)


def _starred(*numbers: int) -> str:
    """Act."""
    return str(numbers)


class Opaque:
    """No schema can be made of this."""


def _opaque(thing: Opaque) -> str:
    """Act."""
    return str(thing)


def _missing(thing: Nowhere) -> str:  # type: ignore[name-defined] # noqa: F821 - the point
    """Act."""
    return str(thing)


IMPOSSIBLE: dict[str, tuple[Callable[..., Any], str]] = {
    "no annotation": (_unannotated, "'number' has no annotation"),
    "starred": (_starred, r"takes \*numbers"),
    "a class": (_opaque, "no JSON schema can be made of its parameters"),
    "an unknown name": (_missing, "an annotation cannot be read: name 'Nowhere' is not defined"),
}


@pytest.mark.parametrize("form", ["plain", "decorated"])
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_tool_with_an_impossible_schema(name: str, form: str) -> None:
    """Found when the tool is made, or at the latest before anything is sent."""
    function, problem = IMPOSSIBLE[name]
    store = MemoryStore()
    emulator = Emulator([replies.text("Hello.")])
    with pytest.raises(DeclarationError, match=problem) as caught:  # noqa: PT012 - where it is found differs
        workflow = loop_of(tool(function) if form == "decorated" else function)
        with emulator.client() as client:
            run(workflow, "Hi.", client=client, journal=store)
    assert "test_bad_input.py:" in str(caught.value)
    assert (emulator.requests, store.runs()) == ((), ())


def test_a_given_schema_that_is_none() -> None:
    @tool(input_schema={"type": "no such type"})
    def act(**given: Any) -> str:
        """Act."""
        return str(given)

    emulator = Emulator([replies.text("Hello.")])
    with emulator.client() as client, pytest.raises(DeclarationError, match="schema"):
        run(loop_of(act), "Hi.", client=client)
    assert emulator.requests == ()


@pytest.mark.parametrize(
    "thing", [7, None, "find", {"name": "find"}, {"name": "x", "input_schema": {}}, Thing()], ids=repr
)
def test_what_is_no_tool(thing: Any) -> None:
    with pytest.raises(DeclarationError, match="tool"):
        loop_of(thing)


# --- inputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["", "   \n"])
def test_an_empty_input(given: str) -> None:
    store = MemoryStore()
    with pytest.raises(UsageError, match="the input is empty: give text, content blocks or a list of messages"):
        run(Plain, given, journal=store)
    assert store.runs() == ()


@pytest.mark.parametrize(
    "given",
    [None, 7, b"Hi.", [], [7], ["Hi."], {"role": "user", "content": "Hi."}, {"type": "text"}, Thing(), {1}],
    ids=repr,
)
def test_an_input_of_the_wrong_type(given: Any) -> None:
    store = MemoryStore()
    with pytest.raises(UsageError, match="the input is text, content blocks or a list of messages, not"):
        run(Plain, given, journal=store)
    assert store.runs() == ()


@pytest.mark.parametrize(
    "given",
    [
        "half a \ud83d character",
        [{"type": "text", "text": "\ud83d"}],
        [{"type": "image", "source": {"data": b"bytes"}}],
        [{"role": "user", "content": [{"type": "text", "text": float("nan")}]}],
        [{"role": "user", "content": [Thing()]}],
    ],
    ids=ascii,
)
def test_an_input_that_is_no_json(given: Any) -> None:
    """R26."""
    store = MemoryStore()
    emulator = Emulator([replies.text("Hello.")])
    with emulator.client() as client, pytest.raises(UsageError, match=r"plain JSON|is text, content blocks"):
        run(Plain, given, client=client, journal=store)
    assert (store.runs(), emulator.requests) == ((), ())


ILLEGAL: dict[str, list[Mapping[str, Any]]] = {
    "an unknown role": [{"role": "robot", "content": "a"}],
    "a call without an answer": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "find", "input": {}}]},
        {"role": "user", "content": "b"},
    ],
    "a stray result": [
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}]}
    ],
    "an empty text": [{"role": "user", "content": [{"type": "text", "text": ""}]}],
    "blocks that are none": [{"role": "user", "content": ["a"]}],
}


@pytest.mark.parametrize("content", [None, 7, {"type": "text", "text": "a"}])
def test_a_message_without_content(content: Any) -> None:
    given = [{"role": "user", "content": "a"}, {"role": "user", "content": content}]
    with pytest.raises(UsageError, match="message 1 of the input has no content"):
        run(Plain, given)


@pytest.mark.parametrize("name", ILLEGAL)
def test_a_history_that_the_api_would_refuse_is_not_sent(name: str) -> None:
    """Rule 5: one error with every violation and its repair, before anything is recorded or sent."""
    store = MemoryStore()
    emulator = Emulator([replies.text("Hello.")])
    with emulator.client() as client, pytest.raises(IllegalRequest, match="the API would answer 400") as caught:
        run(Loop, ILLEGAL[name], client=client, journal=store)
    assert caught.value.violations
    assert (emulator.requests, store.runs()) == ((), ())


# --- options ---------------------------------------------------------------------------------------------------------

BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"jurnal": MemoryStore()}, "unknown option 'jurnal'; known: "),
    "journal": ({"journal": "runs.db"}, "journal= takes a Store"),
    "limits": ({"limits": 7}, r"limits= takes Limits\(\.\.\.\), not 7"),
    "tags": ({"tags": {"n": 7}}, "tags= takes a dict of strings"),
    "tags as a list": ({"tags": ["a"]}, "tags= takes a dict of strings"),
    "run_id": ({"run_id": ""}, "run_id= takes a name"),
    "ask": ({"ask": "yes"}, "ask= takes a function"),
    "clock": ({"clock": 7}, "clock= takes a function"),
    "client": ({"client": Thing()}, "needs a client of the kind anthropic.Anthropic, not Thing"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_an_option_that_cannot_be(name: str) -> None:
    options, problem = BAD_OPTIONS[name]
    with pytest.raises(UsageError, match=problem):
        run(Plain, "Hi.", **options)
    with pytest.raises(UsageError, match=problem):
        list(iterate(Plain, "Hi.", **options))


@pytest.mark.parametrize("name", ["ask", "on_move", "on_delta", "sleep"])
def test_an_async_callback_that_nobody_would_await(name: str) -> None:
    async def callback(*_: Any) -> None:
        """Do nothing."""

    with pytest.raises(UsageError, match=rf"{name}= is an async function, which run\(\) does not await: use arun\(\)"):
        run(Plain, "Hi.", **{name: callback})  # type: ignore[arg-type] # the point


@pytest.mark.parametrize("what", [Plain.asking, "Plain", None, 7, dict, Loop.name], ids=repr)
def test_what_is_no_workflow(what: Any) -> None:
    with pytest.raises(UsageError, match="takes a Workflow class"):
        run(what, "Hi.")


def test_limits_that_are_none() -> None:
    for given in ({"turns": 0}, {"money": -1}, {"tokens": True}):
        with pytest.raises(DeclarationError, match="is a positive number"):
            Limits(**given)  # type: ignore[arg-type] # the point


def test_deltas_are_an_option_of_iterate_only() -> None:
    with pytest.raises(UsageError, match="unknown option 'deltas'"):
        run(Plain, "Hi.", deltas=True)  # type: ignore[call-arg] # the point
    assert aiterate.__kwdefaults__ == iterate.__kwdefaults__ == {"deltas": False}


# --- replies ---------------------------------------------------------------------------------------------------------

ERROR_BODY = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}
OK = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"number": "1"}}


def _json(text: str) -> Reply:
    return replies.raw(200, text.encode(), {"content-type": "application/json"})


STRANGE: dict[str, tuple[Reply, str]] = {
    "HTML": (replies.html(), "malformed"),
    "HTML that says it is JSON": (_json("<!doctype html><p>Hello"), "malformed"),
    "{}": (replies.body({}), "malformed"),
    "null": (replies.body(None), "malformed"),
    "a list": (replies.body([OK]), "malformed"),
    "nothing": (_json(""), "malformed"),
    "not UTF-8": (replies.raw(200, b'{"id": "\xff"}', {"content-type": "application/json"}), "malformed"),
    "half of it": (_json(json.dumps(OK)[:90]), "malformed"),
    "NaN": (_json(json.dumps({**OK, "x": float("nan")})), "malformed"),
    "an error body with status 200": (replies.body(ERROR_BODY), "malformed"),
    "no stop reason": (replies.body({**OK, "stop_reason": None}), "malformed"),
    "a stop reason that is no text": (replies.body({**OK, "stop_reason": {"a": 1}}), "malformed"),
    "an unknown stop reason": (replies.body({**OK, "stop_reason": "bored"}), "unknown_stop"),
    "tool_use without a call": (replies.body({**OK, "stop_reason": "tool_use"}), "malformed"),
    "end_turn with a call": (replies.body({**OK, "content": [CALL]}), "malformed"),
    "another role": (replies.body({**OK, "role": "user"}), "malformed"),
    "content that is text": (replies.body({**OK, "content": "Hello."}), "malformed"),
    "blocks without a type": (replies.body({**OK, "content": [{}]}), "malformed"),
    "a call without an id": (
        replies.body({**OK, "stop_reason": "tool_use", "content": [{**CALL, "id": None}]}),
        "malformed",
    ),
    "a call whose input is text": (
        replies.body({**OK, "stop_reason": "tool_use", "content": [{**CALL, "input": "1"}]}),
        "malformed",
    ),
    "a call whose id the API would refuse": (
        replies.body({**OK, "stop_reason": "tool_use", "content": [{**CALL, "id": "a b"}]}),
        "malformed",
    ),
    "two calls with one id": (replies.body({**OK, "stop_reason": "tool_use", "content": [CALL, CALL]}), "stuck"),  # D1
    "a deep body": (_json('{"a":' * 3000 + "1" + "}" * 3000), "malformed"),
    "half a character": (_json(json.dumps({**OK, "content": [{"type": "text", "text": "\ud83d"}]})), ""),
}


def _entered(store: list[str]) -> type[Workflow]:
    def find(number: str) -> str:
        """Find it."""
        store.append(number)
        return "found"

    return loop_of(find)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_reply_ends_in_a_named_state(name: str, way: tuple[bool, bool]) -> None:
    """S11: nothing is run, nothing is appended, what it was is told, and the conversation before it is there."""
    is_async, stream = way
    reply, event = STRANGE[name]
    entered: list[str] = []
    workflow = _entered(entered)
    store, clock = MemoryStore(), Clock()
    script = [replies.tool_use("find", {"number": "before"}), reply]
    result, emulator = both(
        workflow,
        "Hi.",
        script,
        is_async=is_async,
        stream=stream,
        journal=store,
        run_id="r",
        clock=clock,
        sleep=clock.sleep,
    )
    assert entered == ["before"]
    assert [m["role"] for m in result.messages[:3]] == ["user", "assistant", "user"]
    if stream:  # what came is no stream: it is told as malformed, or tried again as one that was cut
        assert result.state in {"failed", "asking"}
        assert events_of(result.records)[2] in {"malformed", "cut_stream"}
        return
    if not event:
        assert result.state in {"answered", "failed"}
        return
    assert (result.state, result.verdict.reason) == ("stuck" if event == "stuck" else "failed", event)
    assert len(emulator.requests) == 2, "it is not asked for again"
    assert result.verdict.evidence["detail" if event == "malformed" and "detail" in result.verdict.evidence else "why"]
    assert len(result.messages) == 3
    assert go_on(workflow, "r", [], journal=store).records == result.records


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_s_page_is_retried(status: int, way: tuple[bool, bool]) -> None:
    """N8: what a proxy answers with an error status is an error of the API."""
    is_async, stream = way
    clock = Clock()
    script = [replies.html(status=status), replies.text("Hello.")]
    result, _ = both(Plain, "Hi.", script, is_async=is_async, stream=stream, clock=clock, sleep=clock.sleep)
    assert result.text == "Hello."
    assert len(clock.slept) == 1


USAGES: tuple[Any, ...] = (
    None,
    {},
    [],
    "many",
    {"input_tokens": "12", "output_tokens": None},
    {"input_tokens": -5, "output_tokens": 1.5},
    {"input_tokens": True, "output_tokens": [1]},
    {"input_tokens": 3, "output_tokens": 1, "cache_creation": "x", "cache_creation_input_tokens": 1},
    {"input_tokens": 3, "output_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 900}},
)


@pytest.mark.parametrize("usage", USAGES, ids=repr)
def test_a_usage_that_is_none_costs_nothing_but_its_count(usage: Any) -> None:
    result, _ = both(Plain, "Hi.", [replies.body({**OK, "usage": usage})], is_async=False)
    assert result.text == "Hello."
    assert result.verdict.usage.input_tokens in {0, 3}


@pytest.mark.parametrize("model", [None, "", "gpt-99", ["claude"], "claude-unheard-of"], ids=repr)
def test_a_model_of_unknown_price_has_no_price(model: Any) -> None:
    """Unknown is None, never 0."""
    result, _ = both(Plain, "Hi.", [replies.body({**OK, "model": model})], is_async=False)
    assert result.text == "Hello."
    assert result.verdict.price is None
    assert "price unknown" in str(result.verdict)


def test_a_tool_that_fails_in_the_middle_of_a_strange_answer_is_not_run() -> None:
    """A cut call can look whole: only the stop reason says (rule 4)."""
    entered: list[str] = []
    cut = replies.max_tokens(tool=("find", {"number": "12345", "more": "abc"}))
    result, _ = both(_entered(entered), "Hi.", [cut, cut, cut], is_async=False)
    assert (result.state, entered) == ("truncated", [])


def test_a_workflow_class_that_is_instantiated() -> None:
    with pytest.raises(DeclarationError, match=r"is not instantiated: run\(Plain, \.\.\.\) runs it"):
        Plain()


def test_a_broken_workflow_can_be_drawn_and_not_run() -> None:
    class Broken(Workflow, check=False):
        asking = Claude(model=MODEL, max_tokens=100)
        calling = Tools()
        asking.on(end_turn=calling)

    assert "asking" in Broken.diagram("mermaid")
    with pytest.raises(WorkflowError, match="'Broken' is refused"):
        run(Broken, "Hi.")
