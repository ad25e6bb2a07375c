"""What cannot work ends in a named state or in one clear error, and nothing that existed is lost."""

from __future__ import annotations

import datetime as dt
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytest
from _driving import MODEL, Clock, Loop, Plain, both, events_of, go_on, loop_of
from pydantic import BaseModel

from fsm import (
    Claude,
    Code,
    DeclarationError,
    Final,
    IllegalRequest,
    Limits,
    MemoryStore,
    Outcome,
    Tools,
    UsageError,
    Workflow,
    WorkflowError,
    aiterate,
    cancel,
    iterate,
    resume,
    run,
    tool,
)
from fsm._params import Schema
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply
from fsm.tools import Toolbox

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
    assert (emulator.requests, tuple(run.run_id for run in store.runs())) == ((), ())


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
    assert tuple(run.run_id for run in store.runs()) == ()


@pytest.mark.parametrize(
    "given",
    [None, 7, b"Hi.", [], [7], ["Hi."], {"role": "user", "content": "Hi."}, {"type": "text"}, Thing(), {1}],
    ids=repr,
)
def test_an_input_of_the_wrong_type(given: Any) -> None:
    store = MemoryStore()
    with pytest.raises(UsageError, match="the input is text, content blocks or a list of messages, not"):
        run(Plain, given, journal=store)
    assert tuple(run.run_id for run in store.runs()) == ()


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
    with emulator.client() as client, pytest.raises(UsageError, match=r"plain JSON|cannot be sent: "):
        run(Plain, given, client=client, journal=store)
    assert (tuple(run.run_id for run in store.runs()), emulator.requests) == ((), ())


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
    assert (emulator.requests, tuple(run.run_id for run in store.runs())) == ((), ())


# --- options ---------------------------------------------------------------------------------------------------------

BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"jurnal": MemoryStore()}, "unknown option 'jurnal'; known: "),
    "journal": ({"journal": 7}, "journal= takes a file such as"),
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
    if stream and events_of(result.records)[2] == "cut_stream":  # no event of a stream came, and nothing else
        assert result.parked
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


# --- parameters that cannot be sent ----------------------------------------------------------------------------------


NAN = float("nan")
HALF = "\ud800"


@tool
def fine() -> str:
    """Do nothing."""
    return "done"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"system": HALF}, "system= cannot be sent as JSON.*half a character"),
        ({"system": 3}, "system= is text, a list of text blocks or a function of deps"),
        ({"system": [{"type": "text", "text": "a", "x": NAN}]}, "system= cannot be sent as JSON"),
        ({"system": [{"type": "text", "text": b"a"}]}, "system= cannot be sent as JSON"),
        ({"system": lambda: "x"}, "system= function '<lambda>' must take one argument"),
        ({"metadata": {"user_id": HALF}}, "metadata= cannot be sent as JSON"),
        ({"container": object()}, "container= cannot be sent as JSON"),
        ({"thinking": "x"}, "thinking= is a dict"),
        ({"stop_sequences": "abc"}, "stop_sequences= is a list of texts"),
        ({"stop_sequences": [3]}, "stop_sequences= is a list of texts"),
        ({"tool_choice": {"type": "any"}}, "needs tools="),
        ({"tools": [fine], "tool_choice": {"type": "tool", "name": "nope"}}, "'nope'; the tools are: fine"),
        ({"extra_body": 3}, "extra_body= is a dict"),
        ({"extra_body": {"x": object()}}, "extra_body= cannot be sent as JSON"),
        ({"extra_body": {"max_tokens": 3}}, "'max_tokens'.*reserved: write max_tokens="),
        ({"extra_body": {"model": "x"}}, "'model'.*reserved: write model="),
        ({"extra_body": {"messages": []}}, "'messages'.*reserved"),
        ({"extra_body": {"stream": True}}, "'stream'.*reserved: pass stream=True"),
        ({"extra_body": {"thinking": "x"}}, "'thinking'.*reserved: write thinking="),
        ({"tools": 3}, "tools= is a list"),
        ({"tools": "abc"}, "tools= is a list"),
        ({"tools": [{"type": "x", "name": "y", "z": NAN}]}, "tool 'y' cannot be sent as JSON"),
        ({"history": 3}, "history= is a name"),
        ({"initial": "x"}, "initial= is True or False"),
        ({"model": None}, "model= is a name"),
        ({"model": HALF}, "model= cannot be sent as JSON"),
        ({"prompt": 3}, "prompt= is text or a function"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",  # the values print addresses
)
def test_a_parameter_that_cannot_be_is_refused_when_it_is_declared(given: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        Claude(**{"model": MODEL, "max_tokens": 100, **given})


def test_an_async_system_function_is_refused() -> None:
    async def system(deps: Any) -> str:
        return str(deps)

    with pytest.raises(DeclarationError, match="'system' is async"):
        Claude(model=MODEL, max_tokens=100, system=system)  # type: ignore[arg-type] # the point


def test_no_tools_may_be_written_as_none() -> None:
    assert Claude(model=MODEL, max_tokens=100, tools=None).tools == ()


def test_a_system_function_that_raises_names_its_state_and_its_cause() -> None:
    with pytest.raises(UsageError, match=r"system= function of 'asking' failed: ZeroDivisionError") as caught:
        run(_with_system(lambda deps: str(1 / 0)), "Hi.", client=Emulator([]).client())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_system_function_that_gives_half_a_character() -> None:
    with pytest.raises(UsageError, match=r"system= function of 'asking' returned"):
        run(_with_system(lambda deps: HALF), "Hi.", client=Emulator([]).client())


def _with_system(system: Callable[[Any], str]) -> type[Workflow]:
    class Told(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, system=system)
        answered = Final()
        asking.on(end_turn=answered)

    return Told


@pytest.mark.parametrize("name", [HALF, "a\0b", "", 3])
def test_a_name_that_cannot_be_written(name: Any) -> None:
    states = {"asking": Claude(model=MODEL, max_tokens=100), "answered": Final()}
    rows = [["end_turn", "asking", "answered"]]
    with pytest.raises(DeclarationError, match="names that can be written"):
        Workflow.from_transitions(name=name, states=states, transitions=rows)
    with pytest.raises(DeclarationError, match="'W': states= takes names"):
        Workflow.from_transitions(name="W", states={**states, name: Final()}, transitions=rows)


@pytest.mark.parametrize("told", [None, "now", NAN, float("inf"), True])
def test_a_clock_that_does_not_tell_the_time(told: Any) -> None:
    with pytest.raises(UsageError, match=r"clock= returned .*: it returns seconds since the epoch"):
        run(Plain, "Hi.", clock=lambda: told, client=Emulator([replies.text("x")]).client())


async def _nothing(*given: Any) -> None:
    del given


@pytest.mark.parametrize(
    ("verb", "words"),
    [(run, r"run\(\).*use arun\(\)"), (resume, r"resume\(\).*use aresume\(\)"), (cancel, r"cancel\(\) does not await")],
)
def test_a_refused_option_names_the_function_that_was_called(verb: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        verb(Plain, "r", journal=MemoryStore(), on_move=_nothing)
    with pytest.raises(UsageError, match=rf"{verb.__name__}\(\): unknown option 'zzz'"):
        verb(Plain, "r", journal=MemoryStore(), zzz=1)
    with pytest.raises(UsageError, match=rf"{verb.__name__}\(\) needs a client"):
        verb(Plain, "r", journal=MemoryStore(), client=Emulator([]).async_client())


# --- texts of the model that no validator takes ----------------------------------------------------------------------


class Shaped(Workflow):
    """Asks for an object."""

    asking = Claude(model=MODEL, max_tokens=100, output={"type": "object"})
    answered = Final()
    asking.on(end_turn=answered)


@pytest.mark.parametrize(
    "text",
    ['"\\ud800"', '{"a":"\\ud800"}', '{"a":1e999}', '{"a":' + "[" * 3000 + "]" * 3000 + "}", "[" * 700 + "]" * 700],
    ids=["half a character", "half in an object", "infinite", "3000 levels", "700 levels"],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_an_output_that_cannot_be_recorded_is_invalid(text: str, *, is_async: bool) -> None:
    result, _ = both(Shaped, "Hi.", [replies.text(text)], is_async=is_async)
    assert (result.state, result.verdict.reason, result.output) == ("failed", "invalid_output", None)


def test_an_output_that_breaks_the_schema_is_none() -> None:
    """SO: what came is the text; a value that was refused is no output."""
    result, _ = both(Shaped, "Hi.", [replies.text("[1]")], is_async=False)
    assert (result.verdict.reason, result.output, result.text) == ("invalid_output", None, "[1]")


@pytest.mark.parametrize("is_async", [False, True])
def test_r25_an_input_that_ends_in_words_of_the_assistant_does_not_leave(*, is_async: bool) -> None:
    """Where the model takes none: others continue them."""
    given = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hel"}]
    result, emulator = both(Plain, given, [], is_async=is_async)
    assert (result.state, result.verdict.evidence["violations"][0]["rule"]) == ("failed", "R25")
    assert emulator.requests == ()

    class Older(Workflow):
        asking = Claude(model="claude-haiku-4-5", max_tokens=100)
        answered = Final()
        asking.on(end_turn=answered)

    result, emulator = both(Older, given, [replies.text("lo.")], is_async=is_async)
    assert (result.state, len(emulator.requests)) == ("answered", 1)


@pytest.mark.parametrize("value", [HALF, {"a": [HALF]}, NAN, {"a": {"b": float("inf")}}], ids=ascii)
@pytest.mark.parametrize("schema", [{"type": "integer"}, {}, {"type": "object"}], ids=str)
def test_a_schema_says_what_is_wrong_with_any_value(schema: dict[str, Any], value: Any) -> None:
    assert isinstance(Schema(schema).problem(value), str)


def test_a_recursive_schema_takes_no_value_without_bottom() -> None:
    schema = Schema({"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"})
    shallow: list[Any] = [[[]]]
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert schema.problem(shallow) is None
    assert "levels deep" in str(schema.problem(deep))


def test_half_a_character_in_an_input_is_said_to_the_model() -> None:
    @tool
    def count(number: int) -> str:
        """Count."""
        raise AssertionError(number)

    assert "half a character" in str(Toolbox({"asking": (count,)}).of(count).problem({"number": HALF}))


# --- schemas of structured outputs -----------------------------------------------------------------------------------


class Stamped(BaseModel):
    at: dt.datetime
    tags: dict[str, int]


class Other(BaseModel):
    type: str


def _output(output: Any) -> type[Workflow]:
    class Put(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, output=output)
        answered = Final()
        asking.on(end_turn=answered)

    return Put


@pytest.mark.parametrize(
    ("output", "text", "reason"),
    [
        (Stamped, '{"at":"2020-01-01T00:00:00Z","tags":{"k":1}}', "end_turn"),
        (Stamped, '{"at":"garbage","tags":{}}', "invalid_output"),
        (Stamped, '{"at":"2020-01-01T00:00:00Z","tags":{},"more":1}', "invalid_output"),
        (Stamped | Other, '{"type":"x"}', "end_turn"),
        (Stamped | Other, '{"type":3}', "invalid_output"),
    ],
)
def test_an_output_is_checked_as_pydantic_means_it(output: Any, text: str, reason: str) -> None:
    result, _ = both(_output(output), "Hi.", [replies.text(text)], is_async=False)
    assert result.verdict.reason == reason


def test_only_objects_with_properties_are_closed() -> None:
    class Open(BaseModel):
        model_config = {"extra": "allow"}
        default: dict[str, Any] = {"type": "object", "properties": {}}

    made = Schema(Open).json
    assert made["additionalProperties"] is True
    assert made["properties"]["default"]["default"] == {"type": "object", "properties": {}}
    assert Schema(Other).json["additionalProperties"] is False


@pytest.mark.parametrize("schema", [{"type": "nosuch"}, {"$ref": "#/$defs/none"}, {"enum": [NAN]}, Thing])
def test_an_impossible_output_is_found_before_anything_is_sent(schema: Any) -> None:
    emulator = Emulator([])
    with pytest.raises(DeclarationError, match=r"'asking': .*cannot be used|'asking'"):
        run(_output(schema), "Hi.", client=emulator.client())
    assert not emulator.requests


def test_a_schema_fetches_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        with pytest.raises(DeclarationError, match=f"127.0.0.1:{port}"):
            run(_output({"$ref": f"http://127.0.0.1:{port}/x"}), "Hi.", client=Emulator([]).client())
        with pytest.raises(TimeoutError):
            server.accept()


# --- rows ------------------------------------------------------------------------------------------------------------


def _decide(facts: Any) -> Literal["x"]:
    del facts
    return "x"


ROWS: list[tuple[str, Callable[[Any, Any, Any], Any], str]] = [
    ("outcome without target", lambda c, k, d: k.on("x"), r"'k': the outcome 'x' leads nowhere"),
    ("target without outcome", lambda c, k, d: k.on(d), r"'k': a Code state is led by outcome"),
    ("event by place", lambda c, k, d: c.on("end_turn", d), r"'c': a Claude state takes its rows by name.*end_turn="),
    ("rows of a final state", lambda c, k, d: d.on(end_turn=c), r"'d': a Final state has no rows"),
    ("unknown event", lambda c, k, d: c.on(end_turns=d), r"'c': .*did you mean end_turn"),
    ("no target", lambda c, k, d: c.on(end_turn=3), r"'c': end_turn= leads to"),
    ("bare guard", lambda c, k, d: d.when(3), r"'d': "),
    ("bare effect", lambda c, k, d: d.then(3), r"'d': "),
    ("bare guard of an alternative", lambda c, k, d: d.then().when(3), r"'d': "),
]


@pytest.mark.parametrize(("wrong", "words"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_a_refused_row_says_what_to_write_and_of_which_state(wrong: Callable[..., Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):

        class Wrong(Workflow):
            c = Claude(model=MODEL, max_tokens=100)
            k = Code(_decide)
            d = Final()
            wrong(c, k, d)


def test_a_model_as_the_value_of_an_outcome_is_told_to_be_dumped() -> None:
    def decide(facts: Any) -> Outcome[Literal["x"]]:
        del facts
        return Outcome("x", Other(type="a"))

    class Coded(Workflow):
        deciding = Code(decide)
        done = Final()
        deciding.on("x", done)

    result, _ = both(Coded, "Hi.", [], is_async=False)
    assert "model_dump" in json.dumps(dict(result.verdict.evidence))


def test_an_exception_of_a_function_that_cannot_be_recorded_is_still_raised() -> None:
    def decide(facts: Any) -> Literal["x"]:
        del facts
        raise ValueError(HALF)

    class Coded(Workflow):
        deciding = Code(decide)
        done = Final()
        deciding.on("x", done)

    result, _ = both(Coded, "Hi.", [], is_async=False)
    assert result.verdict.reason == "raised"
