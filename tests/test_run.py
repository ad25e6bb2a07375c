"""`run`, `iterate` and `cancel`: results, stopping by hand at any line, ending a run."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pytest
from _driving import MODEL, Clock, Loop, Plain, both, events_of, find, go_on, loop_of, one_call

import fsm
from fsm import (
    Approval,
    Claude,
    Code,
    ConcurrentWriter,
    Context,
    Facts,
    Final,
    Human,
    Limits,
    MemoryStore,
    Move,
    RunError,
    Tools,
    UsageError,
    Workflow,
    approve,
    cancel,
    iterate,
    journal,
    resume,
    run,
    say,
    tool,
)
from fsm._conversation._fold import UNKNOWN_OUTCOME
from fsm.drivers import _pump, _threads, sync
from fsm.testing import Emulator, replies

# --- the result ------------------------------------------------------------------------------------------------------


def test_the_result_says_how_it_ended() -> None:
    result, emulator = both(Loop, "Hi.", one_call("find", {"number": "7"}), is_async=False, run_id="r-1")

    assert (result.state, result.ok, result.parked, result.run_id) == ("answered", True, False, "r-1")
    assert result.at(Loop.answered)
    assert not result.at(Loop.asking)
    assert result.text == "done"
    assert [m["role"] for m in result.messages] == ["user", "assistant", "user", "assistant"]
    verdict = result.verdict
    assert (verdict.state, verdict.reason, verdict.resumable) == ("answered", "end_turn", False)
    assert verdict.pending_tool_ids == ()
    assert verdict.request_ids == tuple(r.request_id for r in emulator.requests)
    assert verdict.usage.input_tokens > 0
    assert verdict.price is not None
    assert verdict.price > 0
    assert verdict.evidence["why"]
    assert [str(move) for move in result.moves] == [
        "asking --tool_use--> calling",
        "calling --tool_results--> asking",
        "asking --end_turn--> answered",
    ]
    assert [move.seq for move in result.moves] == [1, 2, 3]
    assert result.moves[0].request_id == emulator.requests[0].request_id


def test_a_state_of_another_workflow_is_not_where_it_is() -> None:
    """`at` tells states by name, so that a subclass can be asked with the base's state."""

    class Other(Loop):
        """The same states."""

    result, _ = both(Other, "Hi.", [replies.text("Hello.")], is_async=False)
    assert result.at(Loop.answered)


def test_the_text_of_a_cut_reply_is_there() -> None:
    result, _ = both(Plain, "Hi.", [replies.context_window("as far as it")], is_async=False)
    assert (result.state, result.text, result.ok) == ("truncated", "as far as it", False)


def test_the_picture_of_a_run_marks_where_it_is() -> None:
    result, _ = both(Loop, "Hi.", one_call("find", {"number": "7"}), is_async=False)
    assert "answered" in result.diagram("mermaid")
    assert result.diagram("mermaid") != Loop.diagram("mermaid")


def test_values_and_output_are_at_hand() -> None:
    def grade(facts: Facts) -> fsm.Outcome[Literal["good"]]:
        """Grade it."""
        return fsm.Outcome("good", {"length": len(facts.text)})

    class Graded(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, output={"type": "object", "properties": {}})
        grading = Code(grade)
        done = Final()
        asking.on(end_turn=grading)
        grading.on("good", done)

    result, _ = both(Graded, "Hi.", [replies.structured({"a": 1})], is_async=False)
    assert result.output == {"a": 1}
    assert result.values == {"grading": {"length": 8}}


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ("Hi.", [{"role": "user", "content": [{"type": "text", "text": "Hi."}]}]),
        ([{"type": "text", "text": "a"}], [{"role": "user", "content": [{"type": "text", "text": "a"}]}]),
        (
            [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": [{"type": "text", "text": "c"}]},
            ],
            [
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": [{"type": "text", "text": "c"}]},
            ],
        ),
    ],
)
def test_the_input_is_text_blocks_or_messages(given: Any, messages: list[Any]) -> None:
    _, emulator = both(Plain, given, [replies.text("Hello.")], is_async=False)
    assert (emulator.requests[0].body or {})["messages"] == messages


def test_limits_of_a_run_replace_the_workflow_s() -> None:
    script = [replies.tool_use("find", {"number": str(n)}) for n in range(9)]
    result, emulator = both(Loop, "Hi.", script, is_async=False, limits=Limits(turns=2))
    assert (result.state, len(emulator.requests)) == ("over_limit", 2)


def test_a_system_function_is_called_once_with_the_deps() -> None:
    seen: list[Any] = []

    def system(deps: Any) -> str:
        seen.append(deps)
        return f"You serve {deps}."

    class Served(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, system=system, tools=[find])
        calling = Tools()
        answered = Final()
        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking)

    result, emulator = both(Served, "Hi.", one_call("find", {"number": "1"}), is_async=False, deps="Ada")
    assert seen == ["Ada"]
    assert [(r.body or {})["system"] for r in emulator.requests] == ["You serve Ada."] * 2
    assert result.records[0].data["systems"] == {"asking": "You serve Ada."}


# --- moves as they happen --------------------------------------------------------------------------------------------


def test_a_move_is_given_once_it_is_recorded() -> None:
    store = MemoryStore()
    with Emulator(one_call("find", {"number": "7"})).client() as client:
        for item in iterate(Loop, "Hi.", client=client, journal=store, run_id="r"):
            assert isinstance(item, Move)
            assert events_of(tuple(store.read("r")))[item.seq - 1] == item.event


def test_on_move_gets_every_move_in_order() -> None:
    seen: list[Move] = []
    result, _ = both(Loop, "Hi.", one_call("find", {"number": "7"}), is_async=False, on_move=seen.append)
    assert tuple(seen) == result.moves


def test_moves_are_counted_on_after_a_resume() -> None:
    store, seen = MemoryStore(), []
    both(Loop, "Hi.", [replies.overloaded()] * 7, is_async=False, journal=store, run_id="r", sleep=lambda s: None)
    result = go_on(Loop, "r", [replies.text("done")], journal=store, on_move=seen.append)
    assert [move.seq for move in seen] == [8]
    assert result.moves[-1] == seen[0]


@pytest.mark.parametrize("after", [1, 2])
def test_leaving_iterate_parks_and_resume_goes_on(after: int) -> None:
    """A call that was recorded as begun and never entered begins anew."""
    store, entered = MemoryStore(), []

    def act() -> str:
        """Act."""
        entered.append(1)
        return "ok"

    workflow = loop_of(act)
    with Emulator(one_call("act")).client() as client:
        for move in iterate(workflow, "Hi.", client=client, journal=store, run_id="r"):
            if move.seq == after:  # type: ignore[union-attr] # no deltas were asked for
                break
        last = tuple(store.read("r"))[-1]
        assert (last.kind, last.data["reason"]) == ("park", "interrupted")
        result = resume(workflow, "r", client=client, journal=store)
    assert result.text == "done"
    assert entered == [1]
    assert result.messages[2]["content"][0]["content"] == "ok"


def test_what_iterate_gives_has_a_result_and_can_be_closed() -> None:
    with (
        Emulator(one_call("find", {"number": "7"})).client() as client,
        closing(iterate(Loop, "Hi.", client=client)) as moves,
    ):
        with pytest.raises(RunError, match="has not begun"):
            _ = moves.result
        for move in moves:
            assert isinstance(move, Move)
            assert moves.result.moves[-1] == move
            if move.event == "tool_results":
                break
        moves.close()
        result = moves.result
        assert (result.state, result.verdict.reason, result.parked) == ("asking", "interrupted", True)
        assert resume(Loop, result.run_id, client=client, journal=result.journal).text == "done"
    assert list(moves) == []


def test_options_that_cannot_be_are_refused_before_the_first_move() -> None:
    with pytest.raises(UsageError, match="unknown option 'zzz'"):
        iterate(Loop, "Hi.", zzz=1)  # type: ignore[call-arg]


def test_leaving_iterate_before_a_function_is_entered_lets_it_begin_anew() -> None:
    store, entered = MemoryStore(), []

    def grade(facts: Facts) -> Literal["fine"]:
        """Grade it."""
        entered.append(facts.text)
        return "fine"

    class Graded(Workflow):
        asking = Claude(model=MODEL, max_tokens=100)
        grading = Code(grade)
        done = Final()
        asking.on(end_turn=grading)
        grading.on("fine", done)

    with Emulator([replies.text("Hello.")]).client() as client:
        for _ in iterate(Graded, "Hi.", client=client, journal=store, run_id="r"):
            break
    assert entered == []
    assert go_on(Graded, "r", [], journal=store).state == "done"
    assert entered == ["Hello."]


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def _main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")


class Every(Workflow):
    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    waiting = Human()
    asking.on(tool_use=calling, end_turn=waiting)
    calling.on(tool_results=asking)
    waiting.on(said=asking)


@pytest.mark.usefixtures("_main_thread")
def test_ctrl_c_while_a_tool_runs_parks() -> None:
    """The result of the call that had ended is kept; the other one is of unknown outcome."""
    store, release = MemoryStore(), threading.Event()

    def quick() -> str:
        """Be quick."""
        return "quick"

    def slow() -> str:
        """Be slow."""
        time.sleep(0.02)
        _interrupt()
        release.wait(5)
        return "too late"

    workflow = loop_of(quick, slow)
    script = [replies.tool_uses(("quick", {}), ("slow", {}))]
    result, _ = both(workflow, "Hi.", script, is_async=False, journal=store, run_id="r")
    release.set()

    assert (result.parked, result.verdict.reason, result.verdict.resumable) == (True, "interrupted", True)
    assert len(result.verdict.pending_tool_ids) == 2
    resumed = go_on(workflow, "r", [replies.text("done")], journal=store)
    assert [b["content"] for b in resumed.messages[2]["content"]] == ["quick", UNKNOWN_OUTCOME]


@pytest.mark.usefixtures("_main_thread")
def test_calls_that_wait_for_a_free_place_begin_anew_after_ctrl_c() -> None:
    """Of twelve calls eight ran: the four that were not entered are run after the resume, and only these."""
    store, lock, entered = MemoryStore(), threading.Lock(), []
    release = threading.Event()

    def act(n: int) -> str:
        """Act."""
        with lock:
            entered.append(n)
            last = len(entered) == _pump.PARALLEL
        if last:
            time.sleep(0.02)
            _interrupt()
        if len(entered) <= _pump.PARALLEL:
            release.wait(5)
        return f"result {n}"

    workflow = loop_of(act)
    script = [replies.tool_uses(*(("act", {"n": n}) for n in range(12)))]
    result, _ = both(workflow, "Hi.", script, is_async=False, journal=store, run_id="r")
    assert result.verdict.reason == "interrupted"
    assert sorted(entered) == list(range(8))
    first = tuple(store.read("r"))[-1]
    assert len(first.data["untouched"]) == 4

    resumed = go_on(workflow, "r", [replies.text("done")], journal=store)
    release.set()
    assert sorted(entered) == list(range(12))
    contents = [b["content"] for b in resumed.messages[2]["content"]]
    assert contents == [UNKNOWN_OUTCOME] * 8 + [f"result {n}" for n in range(8, 12)]


@pytest.mark.usefixtures("_main_thread")
@pytest.mark.parametrize("where", ["ask", "sleep", "on_move", "on_delta"])
def test_ctrl_c_in_a_callback_parks(where: str) -> None:
    store = MemoryStore()

    def pressed(*_: Any) -> None:
        _interrupt()
        time.sleep(1)

    script = {"sleep": [replies.overloaded()]}.get(where, [replies.text("Hello there.")])
    options: dict[str, Any] = {where: pressed}
    result, _ = both(Every, "Hi.", script, is_async=False, journal=store, run_id="r", **options)
    assert (result.parked, result.verdict.reason) == (True, "interrupted")

    resumed = go_on(
        Every, "r", [replies.text("Hello again.")], journal=store, clock=lambda: time.time() + 60, sleep=lambda s: None
    )
    assert (resumed.state, resumed.verdict.reason) == ("waiting", "waiting_person")


@pytest.mark.usefixtures("_main_thread")
def test_ctrl_c_while_a_reply_comes_parks_and_the_request_is_sent_again() -> None:
    store = MemoryStore()

    def reply(body: dict[str, Any]) -> replies.Reply:
        if not tuple(run.run_id for run in store.runs()) or len(tuple(store.read("r"))) == 3:
            _interrupt()
            time.sleep(0.01)
        return replies.text("Hello.")

    result, emulator = both(Plain, "Hi.", reply, is_async=False, journal=store, run_id="r")
    assert result.verdict.reason == "interrupted"
    emulator_after = Emulator([replies.text("Hello.")])
    with emulator_after.client() as client:
        assert resume(Plain, "r", client=client, journal=store).text == "Hello."
    assert emulator_after.requests[0].raw == emulator.requests[0].raw if emulator.requests else True


class Deps:
    def __init__(self) -> None:
        self.entered: dict[str, int] = {}


@tool
def charge(ctx: Context[Deps], number: str) -> str:
    """Charge a card; never twice."""
    ctx.deps.entered[str(ctx.tool_use_id)] = ctx.deps.entered.get(str(ctx.tool_use_id), 0) + 1
    return f"charged {number}"


@tool(needs_approval=True)
def book(ctx: Context[Deps], number: str) -> str:
    """Book it."""
    ctx.deps.entered[str(ctx.tool_use_id)] = ctx.deps.entered.get(str(ctx.tool_use_id), 0) + 1
    return f"booked {number}"


def fine(facts: Facts) -> Literal["fine"]:
    """All is well."""
    del facts
    return "fine"


class Whole(Workflow):
    asking = Claude(model=MODEL, max_tokens=100, tools=[charge, book])
    calling = Tools()
    approving = Approval()
    grading = Code(fine)
    answered = Final()
    asking.on(tool_use=calling, end_turn=grading)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking)
    grading.on("fine", answered).on("raised", answered)


def _script() -> Callable[[dict[str, Any]], replies.Reply]:
    overloads = iter([True])

    def reply(body: dict[str, Any]) -> replies.Reply:
        if any(m["role"] == "assistant" for m in body["messages"]):
            return replies.overloaded() if next(overloads, False) else replies.text("done")
        return replies.tool_uses(("charge", {"number": "1"}), ("book", {"number": "2"}))

    return reply


class _Pressed:
    """Ctrl-C at the n-th line that runs in the files of the drivers: `sys.settrace` raises it there."""

    FILES = frozenset(str(Path(inspect.getfile(module)).resolve()) for module in (sync, _pump, _threads, journal))

    def __init__(self, line: int) -> None:
        self.left = line

    def __enter__(self) -> None:
        self.before = sys.gettrace()
        sys.settrace(self._calls)

    def __exit__(self, *exc: object) -> None:
        sys.settrace(self.before)

    def _calls(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._lines if frame.f_code.co_filename in self.FILES else None

    def _lines(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            self.left -= 1
            if self.left == 0:
                sys.settrace(self.before)
                raise KeyboardInterrupt
        return self._lines


@pytest.mark.parametrize("part", range(4))
def test_ctrl_c_at_any_line_of_the_drivers_loses_nothing(part: int) -> None:
    """I2, I4, I7: stopped at every line in turn, the journal goes on, and no tool runs twice."""
    unknown = 0
    for line in range(1 + part, 10_000, 4):
        store, deps, emulator = MemoryStore(), Deps(), Emulator(_script())
        options: dict[str, Any] = {"journal": store, "deps": deps, "ask": lambda q: approve(), "sleep": lambda s: None}
        pressed = _Pressed(line)
        with emulator.client() as client:
            with suppress(KeyboardInterrupt), pressed:
                run(Whole, "Hi.", client=client, run_id="r", **options)
            store._claimed.clear()  # pressed between the claim and the drive: the claim dies with the process
            if "r" in tuple(run.run_id for run in store.runs()):
                result = resume(Whole, "r", client=client, **options)
            else:
                result = run(Whole, "Hi.", client=client, run_id="r", **options)
        assert result.state == "answered", f"stopped at line {line}"
        assert {r.status for r in emulator.requests} <= {200, 529}
        assert [r.seq for r in result.records] == list(range(len(result.records)))
        assert all(times == 1 for times in deps.entered.values())
        for block in result.messages[2]["content"]:
            known = block["content"] != UNKNOWN_OUTCOME
            assert deps.entered.get(block["tool_use_id"], 0) == 1 or not known
            unknown += not known
        if pressed.left > 0:
            break
    assert line > 150, "the drivers have that many lines to be stopped at"
    assert unknown > 0


# --- ending a run ----------------------------------------------------------------------------------------------------


def _parked(store: MemoryStore) -> Any:
    """A run that waits for a person."""
    return both(Every, "Hi.", [replies.text("What then?")], is_async=False, journal=store, run_id="r")[0]


def test_cancel_ends_a_parked_run() -> None:
    store = MemoryStore()
    assert _parked(store).parked
    result = cancel(Every, "r", journal=store, reason="not needed any more")

    assert (result.state, result.parked, result.ok) == ("cancelled", False, False)
    assert (result.verdict.reason, result.verdict.resumable) == ("cancel", False)
    assert result.verdict.evidence["message"] == "not needed any more"
    assert result.records[-1].kind == "close"
    assert resume(Every, "r", journal=store).records == result.records, "an ended run stays as it ended"


@pytest.mark.parametrize("script", [[replies.overloaded()] * 7, [replies.overloaded(retry_after=3600)]])
def test_cancel_ends_a_run_that_waits_for_the_api(script: list[Any]) -> None:
    store, clock = MemoryStore(), Clock()
    both(Plain, "Hi.", script, is_async=False, journal=store, run_id="r", clock=clock, sleep=clock.sleep)
    assert cancel(Plain, "r", journal=store).state == "cancelled"


def test_cancel_ends_a_run_with_open_calls_and_after_goes_on_from_it() -> None:
    class Paying(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, tools=[book])
        calling = Tools()
        approving = Approval()
        answered = Final()
        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking, approval_needed=approving)
        approving.on(approved=calling, denied=asking)

    store = MemoryStore()
    both(
        Paying,
        "Hi.",
        [replies.tool_use("book", {"number": "1"})],
        is_async=False,
        journal=store,
        run_id="r",
        deps=object(),
    )
    ended = cancel(Paying, "r", journal=store)
    assert ended.state == "cancelled"
    result, emulator = both(Paying, "And now?", [replies.text("Hello.")], is_async=False, after=ended, deps=object())
    assert result.text == "Hello."
    sent = (emulator.requests[0].body or {})["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "user"] or sent[-1]["role"] == "user"
    (block,) = [b for m in sent for b in m["content"] if b["type"] == "tool_result"]
    assert block["is_error"] is True


def test_a_workflow_may_lead_cancel_elsewhere_and_is_driven_on() -> None:
    class Polite(Workflow):
        asking = Claude(model=MODEL, max_tokens=100)
        waiting = Human()
        leaving = Claude(model=MODEL, max_tokens=100, prompt="Say goodbye.")
        gone = Final()
        asking.on(end_turn=waiting)
        waiting.on(said=asking, cancel=leaving)
        leaving.on(end_turn=gone)

    store = MemoryStore()
    both(Polite, "Hi.", [replies.text("Yes?")], is_async=False, journal=store, run_id="r")
    with Emulator([replies.text("Goodbye.")]).client() as client:
        result = cancel(Polite, "r", journal=store, client=client)
    assert (result.state, result.text) == ("gone", "Goodbye.")


def test_cancel_leads_out_of_a_back_off() -> None:
    """The wait that was on is not waited for in another state."""

    class Polite(Workflow):
        asking = Claude(model=MODEL, max_tokens=100)
        leaving = Claude(model=MODEL, max_tokens=100)
        gone = Final()
        asking.on(end_turn=gone, cancel=leaving.then(say("Never mind.")))
        leaving.on(end_turn=gone)

    store, clock = MemoryStore(), Clock()

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    result, _ = both(
        Polite,
        "Hi.",
        [replies.overloaded(retry_after=50)],
        is_async=False,
        journal=store,
        run_id="r",
        clock=clock,
        sleep=stop,
    )
    assert result.verdict.reason == "interrupted"
    with Emulator([replies.text("Goodbye.")]).client() as client:
        result = cancel(Polite, "r", journal=store, client=client, clock=clock, sleep=clock.sleep)
    assert (result.text, clock.slept) == ("Goodbye.", [])


def test_cancel_of_what_cannot_be_cancelled() -> None:
    store = MemoryStore()
    with pytest.raises(RunError, match="no run 'r'"):
        cancel(Plain, "r", journal=store)
    both(Plain, "Hi.", [replies.text("Hello.")], is_async=False, journal=store, run_id="r")
    with pytest.raises(RunError, match="has ended in 'answered': there is nothing to cancel"):
        cancel(Plain, "r", journal=store)


def test_cancel_of_a_run_that_somebody_drives_is_refused() -> None:
    store = MemoryStore()

    def reply(body: dict[str, Any]) -> replies.Reply:
        with pytest.raises(ConcurrentWriter):
            cancel(Plain, "r", journal=store)
        return replies.text("Hello.")

    result, _ = both(Plain, "Hi.", reply, is_async=False, journal=store, run_id="r")
    assert result.state == "answered"


# --- where it is driven ----------------------------------------------------------------------------------------------


def test_two_runs_under_one_name_are_refused() -> None:
    store = MemoryStore()
    both(Plain, "Hi.", [replies.text("Hello.")], is_async=False, journal=store, run_id="r")
    before = tuple(store.read("r"))
    with pytest.raises(RunError, match="already, which has ended in 'answered': choose another run_id; resume"):
        both(Plain, "Hi.", [replies.text("Hello.")], is_async=False, journal=store, run_id="r")
    assert tuple(store.read("r")) == before
    assert go_on(Plain, "r", [], journal=store).text == "Hello.", "the claim was given back"


@pytest.fixture(autouse=True)
def _no_emulator_threads() -> Iterator[None]:
    yield
    assert not [t for t in threading.enumerate() if t.name == "fsm-emulator"]
