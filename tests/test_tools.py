"""Whatever a tool does, the model gets an answer it can act on, and the run goes on."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import functools
import gc
import itertools
import json
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from _driving import MODEL, Loop, both, drive, events_of, find, loop_of, one_call, results_of
from anthropic import beta_async_tool, beta_tool
from anthropic.lib.tools import ToolError
from attrs import define, field, frozen
from pydantic import BaseModel
from typing_extensions import TypedDict

from fsm import (
    Approval,
    Claude,
    Context,
    DeclarationError,
    Final,
    JournalError,
    MemoryStore,
    Move,
    Record,
    RunError,
    Tools,
    Workflow,
    approve,
    deny,
    edit,
    resume,
    run,
    tool,
)
from fsm.drivers import _pump
from fsm.testing import Emulator, replies

VERBS = [pytest.param(False, id="run"), pytest.param(True, id="arun")]
FORMS = (
    "function",
    "function without a limit",
    "async function",
    "async function without a limit",
    "sdk tool",
    "async sdk tool",
    "function that gives a coroutine",
)


def as_tool(form: str, body: Callable[[], Any], **options: Any) -> Any:
    """A tool without input that does this, in one of the forms a tool may have."""

    def act() -> Any:
        """Act."""
        return body()

    async def act_async() -> Any:
        """Act."""
        await asyncio.sleep(0)
        return body()

    def lazily() -> Any:
        """Act."""
        return act_async()

    if form.endswith("without a limit"):
        options = {"timeout": None, **options}
    if form.startswith("function with") or form == "function":
        return tool(name="act", **options)(act)
    if form.startswith("async function"):
        return tool(name="act", **options)(act_async)
    if form == "function that gives a coroutine":
        return tool(name="act", **options)(lazily)
    if form == "sdk tool":
        return beta_tool(act, name="act")
    return beta_async_tool(act_async, name="act")


def answer_to(body: Callable[[], Any], form: str, *, is_async: bool, **options: Any) -> dict[str, Any]:
    """The one result that the model reads. The run goes on to its end."""
    result, emulator = both(loop_of(as_tool(form, body, **options)), "Hi.", one_call("act"), is_async=is_async)
    assert result.state == "answered"
    assert [r.status for r in emulator.requests] == [200, 200], "nothing that the API refuses was sent"
    (block,) = results_of(result)
    return block


class Unspeakable(Exception):  # noqa: N818 - a test's own
    def __str__(self) -> str:
        msg = "not even its message can be read"
        raise RuntimeError(msg)


def raiser(error: BaseException) -> Callable[[], Any]:
    def body() -> Any:
        raise error

    return body


# --- what a tool raises ----------------------------------------------------------------------------------------------

RAISED: dict[str, tuple[BaseException, str]] = {
    "Exception": (ValueError("the order is gone"), "ValueError: the order is gone"),
    "SystemExit": (SystemExit(3), "SystemExit: 3"),
    "KeyboardInterrupt": (KeyboardInterrupt("stop"), "KeyboardInterrupt: stop"),
    "RecursionError": (RecursionError("too deep"), "RecursionError: too deep"),
    "MemoryError": (MemoryError("full"), "MemoryError: full"),
    "GeneratorExit": (GeneratorExit("closed"), "GeneratorExit: closed"),
    "CancelledError": (asyncio.CancelledError("by itself"), "CancelledError: by itself"),
    "TimeoutError": (TimeoutError("its own"), "TimeoutError: its own"),
    "a lone surrogate": (ValueError("half a \ud83d character"), "ValueError: half a ? character"),
    "no message": (Unspeakable(), "Unspeakable: its message cannot be read"),
    "ToolError": (ToolError("try with another number"), "try with another number"),
    "ToolError with a picture": (
        ToolError([{"type": "text", "text": "look"}, {"type": "image", "source": {"type": "url", "url": "http://x"}}]),
        "look\n[image]",
    ),
}


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", RAISED)
def test_what_a_tool_raises_is_a_text_for_the_model(name: str, form: str, *, is_async: bool) -> None:
    error, text = RAISED[name]
    if isinstance(error, KeyboardInterrupt) and form.endswith("without a limit"):
        pytest.skip("it may be Ctrl-C, see below")
    block = answer_to(raiser(error), form, is_async=is_async)

    assert block["is_error"] is True
    assert isinstance(block["content"], str), "R19c: beside is_error only text may stand"
    assert text in block["content"]


@pytest.mark.parametrize("form", ["function without a limit", "async function without a limit"])
def test_ctrl_c_in_a_tool_without_a_limit_parks(form: str) -> None:
    """It runs in the thread that gets the signal: nobody can tell its own `KeyboardInterrupt` from a person's."""
    store = MemoryStore()
    workflow = loop_of(as_tool(form, raiser(KeyboardInterrupt())))
    result, _ = both(workflow, "Hi.", one_call("act"), is_async=False, journal=store, run_id="r")
    assert (result.parked, result.verdict.reason) == (True, "interrupted")
    assert "untouched" not in tuple(store.read("r"))[-1].data, "it was entered"


def test_a_tool_without_a_limit_runs_in_the_thread_of_run() -> None:
    """What is bound to its thread, as a connection of `sqlite3` is, can be used there."""
    threads: list[threading.Thread] = []
    made = as_tool("function without a limit", lambda: threads.append(threading.current_thread()))
    both(loop_of(made), "Hi.", one_call("act"), is_async=False)
    assert threads == [threading.current_thread()]


def test_a_real_recursion_ends_as_text() -> None:
    def forever() -> Any:
        return forever()

    assert "RecursionError" in answer_to(forever, "function", is_async=False)["content"]


def test_a_very_long_message_is_cut() -> None:
    block = answer_to(raiser(ValueError("x" * 100_000)), "function", is_async=False)
    assert len(block["content"]) <= 2000


# --- what a tool returns ---------------------------------------------------------------------------------------------

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
CYCLE: list[Any] = []
CYCLE.append(CYCLE)

RETURNED: dict[str, tuple[Any, Any]] = {
    "text": ("seven", "seven"),
    "None": (None, "(no output)"),
    "nothing": ("", "(no output)"),
    "zero": (0, "0"),
    "false": (False, "false"),
    "float": (2.5, "2.5"),
    "a dict": ({"ä": [1, None]}, '{"ä": [1, null]}'),
    "an empty list": ([], "[]"),
    "a tuple": ((1, 2), "[1, 2]"),
    "text with a control character": ("a\x00b\x1b[31m", "a\x00b\x1b[31m"),
    "blocks": ([{"type": "text", "text": "seen"}, IMAGE], [{"type": "text", "text": "seen"}, IMAGE]),
    "an empty text block": ([{"type": "text", "text": ""}, IMAGE], [IMAGE]),  # R20
    "only an empty text block": ([{"type": "text", "text": ""}], "(no output)"),
    "data that looks like blocks": ([{"type": "dog", "name": "Rex"}], '[{"type": "dog", "name": "Rex"}]'),
    "data with a known type": ([{"type": "text", "size": 3}], '[{"type": "text", "size": 3}]'),
    "data of a type that is no text": ([{"type": ["text"]}], '[{"type": ["text"]}]'),
    "blocks and data": ([{"type": "text", "text": "a"}, 7], '[{"type": "text", "text": "a"}, 7]'),
    "a result of another call": (
        [{"type": "tool_result", "tool_use_id": "toolu_9", "content": "x"}],
        '[{"type": "tool_result", "tool_use_id": "toolu_9", "content": "x"}]',
    ),
}


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", RETURNED)
def test_what_a_tool_returns_is_text_or_blocks(name: str, form: str, *, is_async: bool) -> None:
    value, content = RETURNED[name]
    block = answer_to(lambda: value, form, is_async=is_async)

    assert block["content"] == content
    assert "is_error" not in block


NOT_SENDABLE: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"\x00",
    "a set": lambda: {1},
    "NaN": lambda: float("nan"),
    "infinity": lambda: {"a": [float("inf")]},
    "a lone surrogate": lambda: "\ud83d",
    "a lone surrogate inside": lambda: {"a": "\ud83d"},
    "a lone surrogate in a block": lambda: [{"type": "text", "text": "\ud83d"}],
    "a cycle": lambda: CYCLE,
    "an object": object,
    "a generator": lambda: (n for n in range(3)),
    "a deep list": lambda: functools.reduce(lambda inner, _: [inner], range(100_000), 0),
    "an object whose repr raises": Unspeakable,
}


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("name", NOT_SENDABLE)
def test_what_cannot_be_sent_is_said_to_the_model(name: str, *, is_async: bool) -> None:
    block = answer_to(NOT_SENDABLE[name], "function", is_async=is_async)

    assert block["is_error"] is True
    assert "returned something that is not text or JSON" in block["content"]
    block["content"].encode()


def test_a_huge_result_is_cut_and_says_so() -> None:
    block = answer_to(lambda: "x" * 50_000_000, "function", is_async=False)
    assert len(block["content"]) < 300 * 1024
    assert block["content"].endswith("[cut: the result has 50000000 characters, 262144 are shown]")


def test_the_limit_is_the_tool_s_own() -> None:
    assert answer_to(lambda: "abcdef", "function", is_async=False, max_result=3)["content"].startswith("abc\n[cut: ")
    assert answer_to(lambda: "abc", "function", is_async=False, max_result=3)["content"] == "abc"


def test_blocks_that_are_too_large_are_left_out() -> None:
    big = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 2000}}]
    block = answer_to(lambda: big, "function", is_async=False, max_result=1000)
    assert isinstance(block["content"], str)
    assert "was left out: at most 1000 are sent" in block["content"]


def test_what_a_tool_changes_later_is_not_in_its_result() -> None:
    kept: list[dict[str, Any]] = [{"type": "text", "text": "as it was"}]

    def act() -> Any:
        """Act."""
        return kept

    def change() -> str:
        """Change what the other one returned."""
        kept[0]["text"] = "changed"
        return "ok"

    script = [replies.tool_use("act", {}), replies.tool_use("change", {}), replies.text("done")]
    result, _ = both(loop_of(act, change), "Hi.", script, is_async=False)
    assert results_of(result)[0]["content"] == [{"type": "text", "text": "as it was"}]


@pytest.mark.parametrize("form", ["function", "sdk"])
def test_a_tool_that_changes_its_input_changes_nothing_else(form: str) -> None:
    def act(order: dict[str, Any]) -> str:
        """Act."""
        order["number"] = "stolen"
        order["lines"].append(9)
        return "ok"

    made: Any = beta_tool(act) if form == "sdk" else act
    given = {"order": {"number": "7", "lines": [1]}}
    result, emulator = both(loop_of(made), "Hi.", one_call("act", given), is_async=False)

    assert result.messages[1]["content"][0]["input"] == given
    assert b"stolen" not in emulator.requests[1].raw


def test_the_note_of_an_edit_shows_what_the_person_gave() -> None:
    """Also where the tool changed what it was given."""

    @tool(needs_approval=True)
    def act(lines: list[Any]) -> str:
        """Act."""
        lines.append("sneaked in")
        lines[0].clear()
        return "ok"

    class Acting(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, tools=[act])
        calling = Tools()
        approving = Approval()
        answered = Final()
        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking, approval_needed=approving)
        approving.on(approved=calling, denied=asking)

    given = {"lines": [{"a": 1}]}
    result, _ = both(Acting, "Hi.", one_call("act", {"lines": []}), is_async=False, ask=lambda q: edit(given))
    assert '{"lines": [{"a": 1}]}.' in results_of(result)[0]["content"]
    assert given == {"lines": [{"a": 1}]}


def test_what_a_tool_prints_stays_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> str:
        print("noise")  # noqa: T201 - the point
        return "quiet"

    assert answer_to(body, "function", is_async=False)["content"] == "quiet"
    assert capsys.readouterr().out == "noise\n"


@pytest.mark.parametrize("is_async", VERBS)
def test_a_tool_may_run_a_workflow(*, is_async: bool) -> None:
    def body() -> str:
        text: str = both(Loop, "Inner.", [replies.text("from inside")], is_async=False)[0].text
        return text

    assert answer_to(body, "function", is_async=is_async)["content"] == "from inside"


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("form", ["function", "async function"])
def test_a_tool_that_hangs_is_given_up(form: str, *, is_async: bool) -> None:
    """The siblings' results stay, and the late result of the one that hung is dropped."""
    released, late = threading.Event(), threading.Event()

    def wait() -> Any:
        if form == "function":
            released.wait(5)
            late.set()
            return "too late"
        return _hang()

    async def _hang() -> str:
        await asyncio.sleep(5)
        return "too late"

    act: Any = tool(name="act", timeout=0.1)(_doc(wait))
    script = [replies.tool_uses(("act", {}), ("find", {"number": "1"})), replies.text("done")]
    started = time.monotonic()
    result, _ = both(loop_of(act, find), "Hi.", script, is_async=is_async)
    assert time.monotonic() - started < 2
    released.set()

    one, other = results_of(result)
    assert one["content"] == "The tool 'act' gave no result within 0.1 seconds; it may still take effect."
    assert one["is_error"] is True
    assert other["content"] == "order 1"
    if form == "function":
        assert late.wait(2)
        assert result.records == tuple(result.records), "nothing was added"


def _doc(fn: Any) -> Any:
    fn.__doc__ = "Act."
    return fn


@pytest.mark.parametrize("is_async", VERBS)
def test_a_late_result_beside_a_sibling_that_still_runs_is_dropped(*, is_async: bool) -> None:
    """The given-up call ends while another one still runs: only the timeout counts."""

    @tool(timeout=0.05)
    def late() -> str:
        """End after the limit."""
        time.sleep(0.15)
        return "too late"

    @tool
    def slow() -> str:
        """Take longer still."""
        time.sleep(0.35)
        return "slow"

    script = [replies.tool_uses(("late", {}), ("slow", {})), replies.text("done")]
    result, _ = both(loop_of(late, slow), "Hi.", script, is_async=is_async)

    one, other = results_of(result)
    assert "gave no result within 0.05 seconds" in one["content"]
    assert other["content"] == "slow"
    assert [e[0] for r in result.records if r.kind == "tool.end" for e in r.data["ends"]] == [
        b["tool_use_id"] for b in (one, other)
    ]


def test_an_async_tool_that_will_not_be_cancelled_is_given_up() -> None:
    @tool(timeout=0.05)
    async def stubborn() -> str:
        """Go on whatever happens."""
        for _ in range(10):
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
        return "too late"

    started = time.monotonic()
    emulator = Emulator(one_call("stubborn"))

    async def main() -> Any:
        from fsm import arun

        async with emulator.async_client() as client:
            result = await arun(loop_of(stubborn), "Hi.", client=client)
            return result, time.monotonic() - started

    result, took = asyncio.run(main())
    assert took < 0.4
    assert "gave no result within 0.05 seconds" in results_of(result)[0]["content"]


@pytest.mark.parametrize(
    "factory", [None, lambda loop, coroutine, **given: asyncio.Task(coroutine, loop=loop, **given)]
)
def test_an_async_tool_has_a_task_of_its_own_that_begins_at_once(factory: Any) -> None:
    """At once where Python can (3.12), and where the loop's tasks are not made by somebody else."""
    order: list[str] = []

    async def act() -> str:
        """Act."""
        order.append(asyncio.current_task().get_coro().__qualname__)  # type: ignore[union-attr] # there is one
        return "ok"

    async def main() -> Any:
        from fsm import arun

        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)

        def moved(move: Move) -> None:
            if move.dest == "calling":
                loop.call_soon(order.append, "next round")

        async with Emulator(one_call("act")).async_client() as client:
            return await arun(loop_of(act), "Hi.", client=client, on_move=moved)

    assert results_of(asyncio.run(main()))[0]["content"] == "ok"
    begins_at_once = factory is None and sys.version_info >= (3, 12)
    mine, other = ("_Calls._run", "next round")
    assert order == ([mine, other] if begins_at_once else [other, mine])


def test_a_workflow_does_not_hold_who_ran_it_first() -> None:
    """Its tools are prepared in the first run, and kept. Python 3.13 keeps frames where 3.12 kept copies of names."""

    class Caller:
        pass

    def ran() -> weakref.ref[Caller]:
        caller = Caller()
        both(loop_of(find), "Hi.", one_call("find", {"number": "1"}), is_async=False)
        return weakref.ref(caller)

    assert ran()() is None


def test_a_workflow_made_for_one_request_goes_away_with_what_its_tools_hold() -> None:
    class Database:
        pass

    def answered() -> tuple[weakref.ref[Any], ...]:
        database = Database()

        @tool
        def look(number: str) -> str:
            """Look."""
            return f"{number} in {database}"

        workflow = loop_of(look)
        both(workflow, "Hi.", one_call("look", {"number": "1"}), is_async=False)
        return weakref.ref(database), weakref.ref(workflow)

    refs = answered()
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_a_loop_that_knows_no_task_factories_makes_the_tasks_of_tools() -> None:
    class Own(asyncio.SelectorEventLoop):
        def get_task_factory(self) -> Any:
            raise NotImplementedError

    async def act() -> str:
        """Act."""
        return "ok"

    async def main() -> Any:
        from fsm import arun

        async with Emulator(one_call("act")).async_client() as client:
            return await arun(loop_of(act), "Hi.", client=client)

    with asyncio.Runner(loop_factory=Own) as runner:
        assert results_of(runner.run(main()))[0]["content"] == "ok"


def test_a_sync_tool_does_not_hold_the_event_loop_up() -> None:
    beats: list[float] = []

    def nap() -> str:
        """Sleep."""
        time.sleep(0.3)
        return "rested"

    async def main() -> Any:
        from fsm import arun

        async def heart() -> None:
            while True:
                beats.append(time.monotonic())
                await asyncio.sleep(0.01)

        beating = asyncio.create_task(heart())
        async with Emulator(one_call("nap")).async_client() as client:
            result = await arun(loop_of(nap), "Hi.", client=client)
        beating.cancel()
        return result

    result = asyncio.run(main())
    assert results_of(result)[0]["content"] == "rested"
    gaps = [after - before for before, after in itertools.pairwise(beats)]
    assert len(beats) > 10
    assert max(gaps) < 0.25, "the loop stood still while the tool slept"


# --- many calls ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_results_stand_in_the_order_of_the_calls(order: tuple[int, ...], *, is_async: bool) -> None:
    """All 24 orders in which four parallel calls can end: one user message, results as they were asked for."""
    turns = [threading.Event() for _ in order]
    turns[0].set()
    ended: list[int] = []

    def act(n: int) -> str:
        """Wait for my turn to end."""
        assert turns[order.index(n)].wait(5)
        ended.append(n)
        if order.index(n) + 1 < len(turns):
            turns[order.index(n) + 1].set()
        return f"result {n}"

    script = [replies.tool_uses(*(("act", {"n": n}) for n in range(4))), replies.text("done")]
    result, _ = both(loop_of(act), "Hi.", script, is_async=is_async)

    assert tuple(ended) == order
    assert result.messages[2]["role"] == "user"
    asked = [b["id"] for b in result.messages[1]["content"]]
    assert [(b["tool_use_id"], b["content"]) for b in result.messages[2]["content"]] == [
        (call_id, f"result {n}") for n, call_id in enumerate(asked)
    ]


@pytest.mark.parametrize("is_async", VERBS)
def test_two_equal_calls_both_run(*, is_async: bool) -> None:
    ran = itertools.count(1)

    def act(n: int) -> int:
        """Act."""
        del n
        return next(ran)

    script = [replies.tool_uses(("act", {"n": 1}), ("act", {"n": 1})), replies.text("done")]
    result, _ = both(loop_of(act), "Hi.", script, is_async=is_async)
    assert sorted(b["content"] for b in results_of(result)) == ["1", "2"]


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("form", ["function", "async function"])
def test_at_most_so_many_run_at_once(form: str, *, is_async: bool) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def enter(by: int) -> None:
        nonlocal inside, most
        with lock:
            inside += by
            most = max(most, inside)

    def act(n: int) -> int:
        """Act."""
        enter(1)
        time.sleep(0.02)
        enter(-1)
        return n

    async def act_async(n: int) -> int:
        """Act."""
        enter(1)
        await asyncio.sleep(0.02)
        enter(-1)
        return n

    made = tool(name="act")(act if form == "function" else act_async)
    script = [replies.tool_uses(*(("act", {"n": n}) for n in range(30))), replies.text("done")]
    result, _ = both(loop_of(made), "Hi.", script, is_async=is_async)

    assert most == _pump.PARALLEL
    assert [b["content"] for b in results_of(result)] == [str(n) for n in range(30)]


def test_threads_are_kept_for_the_next_call() -> None:
    """Two hundred runs do not leave two hundred threads."""
    for _ in range(200):
        both(Loop, "Hi.", one_call("find", {"number": "1"}), is_async=False)
    assert sum(t.name == "fsm-tool" for t in threading.enumerate()) < 60
    assert all(t.daemon for t in threading.enumerate() if t.name == "fsm-tool"), "a hung tool would hold up the exit"


@pytest.mark.parametrize("is_async", VERBS)
def test_a_call_that_ended_long_before_its_siblings_is_recorded_alone(*, is_async: bool) -> None:
    def quick() -> str:
        """Be quick."""
        return "quick"

    def slow() -> str:
        """Be slow."""
        time.sleep(4 * _pump.PATIENCE)
        return "slow"

    script = [replies.tool_uses(("quick", {}), ("quick", {}), ("slow", {})), replies.text("done")]
    result, _ = both(loop_of(quick, slow), "Hi.", script, is_async=is_async)

    ends = [[e[1] for e in r.data["ends"]] for r in result.records if r.kind == "tool.end"]
    assert ends == [["quick", "quick"], ["slow"]]


@pytest.mark.parametrize("is_async", VERBS)
def test_siblings_that_end_one_after_the_other_do_not_hold_the_first_back(*, is_async: bool) -> None:
    """The patience is counted from the first end, not anew from each."""

    def act(n: int) -> int:
        """End n steps later."""
        time.sleep(n * 0.6 * _pump.PATIENCE)
        return n

    script = [replies.tool_uses(*(("act", {"n": n}) for n in range(6))), replies.text("done")]
    result, _ = both(loop_of(act), "Hi.", script, is_async=is_async)
    ends = [[e[1] for e in r.data["ends"]] for r in result.records if r.kind == "tool.end"]
    assert len(ends) > 1
    assert sorted(itertools.chain(*ends)) == [str(n) for n in range(6)]


# --- calls that cannot be run ----------------------------------------------------------------------------------------


class Address(TypedDict):
    street: str
    number: int


def send(to: Address, copies: int = 1) -> str:
    """Send it."""
    del to, copies
    msg = "must not be entered"
    raise AssertionError(msg)


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(depth):
        inner = {"a": inner}
    return inner


BAD_INPUTS: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({}, '"to" is a required property'),
    "missing inside": ({"to": {"street": "x"}}, '"number" is a required property'),
    "extra": ({"to": {"street": "x", "number": 1}, "fast": True}, "'fast' was unexpected"),
    "wrong type": ({"to": "Main Street 1"}, 'to: "Main Street 1" is not of type "object"'),
    "wrong type inside": ({"to": {"street": "x", "number": "1"}}, 'to.number: "1" is not of type "integer"'),
    "null": ({"to": None}, 'to: null is not of type "object"'),
    "deep": ({"to": {"street": nested(90), "number": 1}}, 'is not of type "string"'),
    "__proto__": ({"__proto__": {"x": 1}, "to": {"street": "x", "number": 1}}, "'__proto__' was unexpected"),
}


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_an_input_against_the_schema_is_answered_and_nothing_is_run(name: str, *, is_async: bool) -> None:
    """S6.4: the model corrects itself."""
    given, problem = BAD_INPUTS[name]
    result, _ = both(loop_of(send), "Hi.", one_call("send", given), is_async=is_async)

    (block,) = results_of(result)
    assert block["is_error"] is True
    assert block["content"].startswith("The input does not fit the schema of 'send': ")
    assert problem in block["content"]
    assert block["content"].endswith("Nothing was run; call it again.") or len(block["content"]) == 2000


HOSTILE_NAMES = ['"><script>alert(1)</script>', "a\nb", "\x1b[31m", "\u202etxt", "../../etc", "__proto__", "x" * 10_000]


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_an_unknown_tool_is_answered_with_the_known_ones(name: str, *, is_async: bool) -> None:
    script = [replies.tool_uses((name, {}), ("find", {"number": "1"})), replies.text("done")]
    result, _ = both(Loop, "Hi.", script, is_async=is_async)

    one, other = results_of(result)
    assert one["is_error"] is True
    assert one["content"].startswith(f"There is no tool '{name[:200]}")
    assert one["content"].endswith("The tools are: find.")
    assert len(one["content"]) < 300
    assert other["content"] == "order 1"


@pytest.mark.parametrize("is_async", VERBS)
def test_one_of_three_that_fails_leaves_the_others(*, is_async: bool) -> None:
    def act(n: int) -> str:
        """Act."""
        if n == 1:
            raise SystemExit(1)
        return f"ok {n}"

    script = [replies.tool_uses(*(("act", {"n": n}) for n in range(3))), replies.text("done")]
    result, _ = both(loop_of(act), "Hi.", script, is_async=is_async)
    assert [(b["content"], b.get("is_error", False)) for b in results_of(result)] == [
        ("ok 0", False),
        ("The tool 'act' failed: SystemExit: 1", True),
        ("ok 2", False),
    ]


# --- a person decides ------------------------------------------------------------------------------------------------


@define
class Till:
    paid: list[tuple[str, int]] = field(factory=list)
    asked: list[Any] = field(factory=list)


@tool(needs_approval=lambda given: given["euros"] > 100)
def pay(ctx: Context[Till], number: str, euros: int) -> str:
    """Pay back."""
    ctx.deps.paid.append((number, euros))
    return f"paid {euros}"


class Paying(Workflow):
    asking = Claude(model=MODEL, max_tokens=100, tools=[pay, find])
    calling = Tools()
    approving = Approval()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking)


def _pays(*euros: Any) -> list[replies.Reply]:
    return [replies.tool_uses(*(("pay", {"number": "7", "euros": e}) for e in euros)), replies.text("done")]


@pytest.mark.parametrize("is_async", VERBS)
def test_only_calls_that_need_it_are_put_to_a_person(*, is_async: bool) -> None:
    till = Till()

    def ask(question: Any) -> Any:
        till.asked.append([dict(call.input) for call in question.calls])
        assert till.paid == [], "none of its siblings has run"
        return approve()

    result, _ = both(Paying, "Hi.", _pays(50, 500), is_async=is_async, deps=till, ask=ask)
    assert till.asked == [[{"number": "7", "euros": 500}]]
    assert sorted(till.paid) == [("7", 50), ("7", 500)]
    assert events_of(result.records) == ["tool_use", "approval_needed", "approved", "tool_results", "end_turn"]


@pytest.mark.parametrize("is_async", VERBS)
def test_nobody_is_asked_about_an_input_that_cannot_be_run(*, is_async: bool) -> None:
    """A policy that reads the input never sees one against the schema."""
    till = Till()
    script = [replies.tool_uses(("pay", {"number": "7"}), ("pay", {"number": "7", "euros": 500})), replies.text("done")]

    def ask(question: Any) -> Any:
        till.asked.append(len(question.calls))
        return approve()

    result, _ = both(Paying, "Hi.", script, is_async=is_async, deps=till, ask=ask)
    assert till.asked == [1]
    wrong, right = results_of(result)
    assert '"euros" is a required property' in wrong["content"]
    assert right["content"] == "paid 500"


@pytest.mark.parametrize("is_async", VERBS)
def test_a_denial_reaches_the_model_with_its_reason(*, is_async: bool) -> None:
    till = Till()

    def ask(question: Any) -> Any:
        first, second = question.calls
        return {first.id: deny("too much"), second.id: approve()}

    result, _ = both(Paying, "Hi.", _pays(900, 500), is_async=is_async, deps=till, ask=ask)
    one, other = results_of(result)
    assert (one["content"], one["is_error"]) == ("Denied by a person: too much", True)
    assert other["content"] == "paid 500"
    assert till.paid == [("7", 500)]


@pytest.mark.parametrize("reason", [None, "no more today"])
def test_all_denied_is_the_event_denied(reason: str | None) -> None:
    till = Till()
    result, _ = both(Paying, "Hi.", _pays(900, 500), is_async=False, deps=till, ask=lambda q: deny(reason))
    assert events_of(result.records)[-2:] == ["denied", "end_turn"]
    assert till.paid == []
    for block in results_of(result):
        assert block["content"] == ("Denied by a person." if reason is None else f"Denied by a person: {reason}")
        assert block["is_error"] is True


@pytest.mark.parametrize("is_async", VERBS)
def test_an_edited_input_is_run_and_noted_and_the_ledger_keeps_the_original(*, is_async: bool) -> None:
    till = Till()
    result, emulator = both(
        Paying,
        "Hi.",
        _pays(900),
        is_async=is_async,
        deps=till,
        ask=lambda q: {q.calls[0].id: edit({"number": "7", "euros": 90})},
    )
    assert till.paid == [("7", 90)]
    (block,) = results_of(result)
    assert block["content"] == (
        'Note: a person changed the input of this call to {"number": "7", "euros": 90}.\npaid 90'
    )
    assert result.messages[1]["content"][0]["input"] == {"number": "7", "euros": 900}
    assert emulator.requests[1].status == 200


@pytest.mark.parametrize(
    "wrong",
    [{}, {"number": "7", "euros": "many"}, {"number": "7", "euros": 1, "x": 2}, {"number": "\ud83d", "euros": 1}],
)
def test_an_edit_against_the_schema_is_refused_and_can_be_made_again(wrong: dict[str, Any]) -> None:
    store, till = MemoryStore(), Till()
    with Emulator(_pays(900)).client() as client:
        with pytest.raises(RunError, match="the edited input does not fit the schema of 'pay'"):
            run(Paying, "Hi.", client=client, deps=till, ask=lambda q: edit(wrong), journal=store, run_id="r")
        assert till.paid == []
        resumed = resume(
            Paying, "r", client=client, deps=till, journal=store, answer=edit({"number": "7", "euros": 90})
        )
    assert resumed.text == "done"
    assert till.paid == [("7", 90)]


def test_an_edited_call_that_gives_blocks_notes_it_in_a_block() -> None:
    @tool(needs_approval=True)
    def look(number: str) -> list[dict[str, Any]]:
        """Look."""
        return [{"type": "text", "text": f"seen {number}"}]

    class Looking(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, tools=[look])
        calling = Tools()
        approving = Approval()
        answered = Final()
        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking, approval_needed=approving)
        approving.on(approved=calling, denied=asking)

    result, _ = both(
        Looking, "Hi.", one_call("look", {"number": "1"}), is_async=False, ask=lambda q: edit({"number": "2"})
    )
    first, second = results_of(result)[0]["content"]
    assert first["text"].startswith("Note: a person changed the input")
    assert second["text"] == "seen 2"


# --- what reaches a tool ---------------------------------------------------------------------------------------------

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("form", FORMS)
def test_context_variables_reach_a_tool(form: str, *, is_async: bool) -> None:
    token = WHO.set("alice")
    try:
        assert answer_to(WHO.get, form, is_async=is_async)["content"] == "alice"
    finally:
        WHO.reset(token)
    assert answer_to(WHO.get, form, is_async=is_async)["content"] == "nobody", "the next run has its own"


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("form", ["function", "async function"])
def test_the_context_holds_deps_run_tags_and_the_call(form: str, *, is_async: bool) -> None:
    seen: list[Context[Till]] = []

    @tool
    def act(number: str, ctx: Context[Till], *, again: bool = False) -> str:
        """Act."""
        del again
        seen.append(ctx)
        return number

    @tool(name="act")
    async def act_async(ctx: Context[Till], number: str) -> str:
        """Act."""
        seen.append(ctx)
        return number

    till = Till()
    made = act if form == "function" else act_async
    result, emulator = both(
        loop_of(made),
        "Hi.",
        one_call("act", {"number": "7"}),
        is_async=is_async,
        deps=till,
        run_id="run-9",
        tags={"user": "u1"},
    )
    (ctx,) = seen
    assert ctx.deps is till
    assert (ctx.run_id, dict(ctx.tags)) == ("run-9", {"user": "u1"})
    assert ctx.tool_use_id == result.messages[1]["content"][0]["id"]
    schema = (emulator.requests[0].body or {})["tools"][0]["input_schema"]
    assert "ctx" not in json.dumps(schema), "the model does not see it"
    assert "Till" not in repr([dict(r.data) for r in result.records]), "deps are never recorded"


def test_the_definition_is_the_sdk_s_own() -> None:
    """A plain function and the SDK's tool of it look alike to the model."""

    def act(number: str, copies: int = 1) -> str:
        """Act on an order.

        Args:
            number: the order's number
            copies: how many
        """
        return f"{number}{copies}"

    sent = []
    for made in (act, tool(act), beta_tool(act)):
        _, emulator = both(loop_of(made), "Hi.", [replies.text("done")], is_async=False)
        sent.append((emulator.requests[0].body or {})["tools"])
    assert sent[0] == sent[1] == sent[2]
    assert sent[0][0]["input_schema"]["properties"]["number"]["description"] == "the order's number"


def test_a_schema_of_one_s_own() -> None:
    seen: list[Any] = []

    @tool(input_schema={"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]})
    def act(**given: Any) -> str:
        """Act."""
        seen.append(given)
        return "ok"

    script = [replies.tool_use("act", {"n": 2}), replies.tool_use("act", {"n": 3}), replies.text("done")]
    result, _ = both(loop_of(act), "Hi.", script, is_async=False)
    assert "less than the minimum of 3" in results_of(result)[0]["content"]
    assert seen == [{"n": 3}]


def test_a_tool_can_be_called_as_the_function_it_was() -> None:
    assert find("7") == "order 7"


@pytest.mark.parametrize("given", [{"timeout": 0}, {"timeout": -1}, {"name": "no spaces"}, {"name": "x" * 65}])
def test_a_policy_that_cannot_be_is_refused_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match=r"test_tools\.py:\d+"):

        @tool(**given)
        def act() -> str:
            """Act."""
            return "ok"


# --- the order of writing --------------------------------------------------------------------------------------------


class Diary(MemoryStore):
    """A store that notes what was written when, beside what the tools note."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.fail_at = fail_at
        self.appends = 0

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        self.appends += 1
        if self.appends == self.fail_at:
            msg = "the disk is full"
            raise JournalError(msg)
        super().append(run_id, records)
        self.lines += [record.kind for record in records]


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("form", FORMS)
def test_reply_and_intent_are_durable_before_a_tool_is_entered(form: str, *, is_async: bool) -> None:
    """Rule 7, J4 and J5."""
    diary = Diary()

    def body() -> str:
        diary.lines.append("entered")
        return "ok"

    both(loop_of(as_tool(form, body)), "Hi.", one_call("act"), is_async=is_async, journal=diary)

    assert [line for line in diary.lines if line in {"request", "reply", "tool.begin", "entered", "tool.end"}] == [
        "request", "reply", "tool.begin", "entered", "tool.end", "request", "reply",
    ]  # fmt: skip


def test_two_commits_a_turn() -> None:
    diary = Diary()
    both(Loop, "Hi.", one_call("find", {"number": "1"}), is_async=False, journal=diary)
    assert diary.appends == 4, "open and request; reply and begin; end and request; reply and close"


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("fail_at", [1, 2, 3, 4])
def test_a_journal_that_fails_stops_everything_and_loses_nothing(fail_at: int, *, is_async: bool) -> None:
    """Fail the n-th write: the error is raised, no tool is entered that the journal does not know, `resume` goes on."""
    diary = Diary(fail_at)
    entered: list[str] = []

    def act() -> str:
        """Act."""
        entered.append("entered")
        return "ok"

    workflow = loop_of(act)
    with pytest.raises(JournalError, match="the disk is full"):
        both(workflow, "Hi.", one_call("act"), is_async=is_async, journal=diary, run_id="r")

    assert "close" not in diary.lines
    assert len(entered) == (1 if fail_at > 2 else 0)
    assert "park" not in diary.lines, "after a failure of the storage only reading is allowed"
    if fail_at == 1:
        assert tuple(run.run_id for run in diary.runs()) == ()
        return
    left = {2: one_call("act"), 3: [replies.text("done")], 4: [replies.text("done")]}[fail_at]
    with Emulator(left).client() as client:
        result = resume(workflow, "r", client=client, journal=diary)
    assert result.text == "done"
    assert len(entered) == 1, "a call runs at most once"


@pytest.fixture(autouse=True)
def _no_thread_hangs() -> Iterator[None]:
    """The threads that a test's tools hang in are given up, not waited for."""
    yield
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and any(t.name == "fsm-emulator" for t in threading.enumerate()):
        time.sleep(0.01)


def test_a_journal_is_equal_whatever_the_form_of_the_tool() -> None:
    texts = set()
    for form in FORMS:
        workflow = loop_of(as_tool(form, lambda: "ok"))
        records = drive("run", workflow, "Hi.", Emulator(one_call("act")))
        texts.add(tuple(r.kind for r in records))
    assert len(texts) == 1


# --- inputs that cannot become the parameters, results that are no plain JSON ----------------------------------------


class Person(BaseModel):
    name: str
    born: dt.date


@dataclass
class Pair:
    left: Person
    right: int


@frozen
class Held:
    pairs: tuple[Pair, ...]


ADA = Person(name="Ada", born=dt.date(1815, 12, 10))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (ADA, {"name": "Ada", "born": "1815-12-10"}),
        ([ADA], [{"name": "Ada", "born": "1815-12-10"}]),
        (Pair(ADA, 1), {"left": {"name": "Ada", "born": "1815-12-10"}, "right": 1}),
        (Held((Pair(ADA, 1),)), {"pairs": [{"left": {"name": "Ada", "born": "1815-12-10"}, "right": 1}]}),
    ],
    ids=["model", "list of models", "dataclass", "attrs"],
)
def test_models_and_records_are_given_as_json(value: Any, shown: Any) -> None:
    answer = answer_to(lambda: value, "function", is_async=False)
    assert json.loads(answer["content"]) == shown
    assert not answer.get("is_error")


@pytest.mark.parametrize(
    "block", [{"type": "image", "foo": 1}, {"type": "document", "source": 123}, {"type": "image", "source": {}}]
)
def test_a_block_without_its_source_is_told_to_the_model(block: dict[str, Any]) -> None:
    answer = answer_to(lambda: [block], "function", is_async=False)
    assert answer["is_error"]
    assert f"a block of type '{block['type']}' needs a source" in answer["content"]


def test_a_record_whose_method_raises_is_told_to_the_model() -> None:
    class Broken:
        def model_dump(self, **how: Any) -> Any:
            raise KeyError(*how)

    answer = answer_to(lambda: Broken(), "function", is_async=False)  # noqa: PLW0108 - a value of its own each time
    assert answer["is_error"]


@tool
def meet(person: Person) -> str:
    """Meet a person."""
    raise AssertionError(person)


@pytest.mark.parametrize("is_async", VERBS)
def test_what_pydantic_finds_is_read_by_the_model(*, is_async: bool) -> None:
    call = one_call("meet", {"person": {"name": "Ada", "born": "1815-13-99"}})
    result, _ = both(loop_of(meet), "Hi.", call, is_async=is_async)
    answer = results_of(result)[0]
    assert answer["is_error"]
    assert "person.born: Input should be a valid date" in answer["content"]
    assert "Nothing was run; call it again." in answer["content"]


def test_what_pydantic_finds_in_an_input_of_an_sdk_tool_is_read_by_the_model() -> None:
    @beta_tool
    def greet(person: Person) -> str:
        """Greet a person."""
        raise AssertionError(person)

    call = one_call("greet", {"person": {"name": "Ada", "born": "1815-13-99"}})
    result, _ = both(loop_of(greet), "Hi.", call, is_async=False)
    assert "person.born: Input should be a valid date" in results_of(result)[0]["content"]


def test_a_positional_only_parameter_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"'add'.*'left' is positional-only"):

        @tool
        def add(left: int, /, right: int) -> str:
            """Add."""
            return str(left + right)
