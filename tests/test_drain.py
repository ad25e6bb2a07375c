"""Draining: SIGTERM stops each run at the boundary of a step; what takes too long is cut off, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from _drained import AT_ONCE as RUNS
from _drained import ENDED, STOPPED
from _driving import MODEL, Loop, Plain, go_on, loop_of
from _resources import nothing_left

from fsm import (
    Approval,
    Claude,
    Code,
    Facts,
    Final,
    MemoryStore,
    Tools,
    UsageError,
    Workflow,
    aiterate,
    approve,
    arun,
    draining,
    iterate,
    run,
    tool,
)
from fsm._conversation._fold import UNKNOWN_OUTCOME
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies
from fsm.testing.server import serve

ROUNDS = 15


# --- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_sigterm_at_random_moments_parks_every_run_at_a_step_boundary(kind: str, tmp_path: Path, root: Path) -> None:
    """Real processes: the reply and the tools that began are recorded, no outcome is unknown, no tool runs twice."""
    script = Path(__file__).with_name("_drained.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(ROUNDS), "5", kind],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(script.parent)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rounds) == ROUNDS
    for each in rounds:
        if each["stopped"]["ended"] < RUNS:
            assert each["code"] == STOPPED, done.stderr
        else:  # the signal came when there was nothing to stop any more
            assert each["code"] in {ENDED, STOPPED, -signal.SIGTERM}
        assert set(each["stopped"]["kinds"]) <= {"park", "close"}
        assert set(each["stopped"]["reasons"]) <= {"interrupted"}
        assert each["again"] == ENDED, done.stderr
        assert each["ended"]["ended"] == RUNS
        for seen in (each["stopped"], each["ended"]):
            assert (seen["unknown"], seen["twice"], seen["problems"]) == (0, 0, [])
    assert STOPPED in {each["code"] for each in rounds}, "some were stopped before their end"


# --- one process -----------------------------------------------------------------------------------------------------


def _signal_here(number: int = signal.SIGTERM) -> None:
    """As somebody else would send it."""
    os.kill(os.getpid(), number)


def _once(happened: threading.Event, then: Callable[[], None] = _signal_here) -> threading.Thread:
    """Do something as soon as something has happened."""

    def wait() -> None:
        assert happened.wait(10)
        time.sleep(0.02)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_the_running_step_ends_and_nothing_new_begins() -> None:
    """The call that began is answered; of the nine beside it, the ninth (past PARALLEL) is left for later."""
    begun, entered = threading.Event(), []

    @tool
    def slow(number: int) -> str:
        """Take a moment."""
        entered.append(number)
        begun.set()
        time.sleep(0.1)
        return f"did {number}"

    emulator = Emulator([replies.tool_uses(*(("slow", {"number": n}) for n in range(10)))])
    store, workflow = MemoryStore(), loop_of(slow)
    with nothing_left():
        thread = _once(begun)
        with draining(grace=30) as drain, emulator.client() as client:
            result = run(workflow, "Hi.", client=client, journal=store, run_id="r")
        thread.join()
    assert (drain.requested, drain.signal) == (True, signal.SIGTERM)
    assert (result.parked, result.verdict.reason) == (True, "interrupted")
    assert sorted(entered) == list(range(8))

    result = go_on(workflow, "r", [replies.text("done")], journal=store)
    assert result.ok
    assert sorted(entered) == list(range(10)), "each once"
    assert [b["content"] for b in result.messages[2]["content"]] == [f"did {n}" for n in range(10)]


def test_the_running_step_of_an_async_drive_ends_and_nothing_new_begins() -> None:
    begun, entered = threading.Event(), []

    @tool
    async def slow(number: int) -> str:
        """Take a moment."""
        entered.append(number)
        begun.set()
        await asyncio.sleep(0.1)
        return f"did {number}"

    emulator = Emulator([replies.tool_uses(*(("slow", {"number": n}) for n in range(10)))])
    store, workflow = MemoryStore(), loop_of(slow)

    async def main() -> Any:
        with draining(grace=30):
            async with emulator.async_client() as client:
                return await arun(workflow, "Hi.", client=client, journal=store, run_id="r")

    with nothing_left():
        thread = _once(begun)
        result = asyncio.run(main())
        thread.join()
    assert (result.parked, result.verdict.reason, sorted(entered)) == (True, "interrupted", list(range(8)))
    result = go_on(workflow, "r", [replies.text("done")], journal=store, is_async=True)
    assert result.ok
    assert sorted(entered) == list(range(10)), "each once"


@pytest.mark.parametrize("is_async", [False, True])
def test_what_outlives_the_grace_time_is_cut_off_and_of_unknown_outcome(*, is_async: bool) -> None:
    """Also a request that never comes back: the run is parked, and the process can end."""
    begun, release = threading.Event(), threading.Event()

    @tool(timeout=None)
    def hang() -> str:
        """Never end; with a sync drive in the thread of the driver."""
        begun.set()
        release.wait(20)
        return "too late"

    emulator, store, workflow = Emulator([replies.tool_use("hang", {})]), MemoryStore(), loop_of(hang)

    async def main() -> Any:
        async with emulator.async_client() as client:
            return await arun(workflow, "Hi.", client=client, journal=store, run_id="r")

    thread = _once(begun)
    with draining(grace=0.05):
        if is_async:
            result = asyncio.run(main())
        else:
            with emulator.client() as client:
                result = run(workflow, "Hi.", client=client, journal=store, run_id="r")
    thread.join()
    release.set()
    assert (result.parked, result.verdict.reason) == (True, "interrupted")
    result = go_on(workflow, "r", [replies.text("done")], journal=store)
    assert [b["content"] for b in result.messages[2]["content"]] == [UNKNOWN_OUTCOME]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_request_that_outlives_the_grace_time_is_cut_off_and_sent_again(*, is_async: bool) -> None:
    """B2: a request without a recorded reply is sent again."""
    begun = threading.Event()

    def reply(body: dict[str, Any]) -> Any:
        del body
        begun.set()
        return replies.text("too late")

    emulator, store = Emulator(reply, latency=20), MemoryStore()

    async def main() -> Any:
        async with emulator.async_client() as client:
            return await arun(Plain, "Hi.", client=client, journal=store, run_id="r")

    thread = _once(begun)
    with draining(grace=0.05):
        if is_async:
            result = asyncio.run(main())
        else:
            with emulator.client() as client:
                result = run(Plain, "Hi.", client=client, journal=store, run_id="r")
    thread.join()
    assert (result.parked, result.verdict.reason) == (True, "interrupted")
    assert go_on(Plain, "r", [replies.text("done")], journal=store).text == "done"


@tool(needs_approval=True)
def pay() -> str:
    """Pay."""
    return "paid"


class Asking(Workflow):
    """A person is asked."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[pay])
    calling = Tools()
    approving = Approval()
    answered = Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking)


@pytest.mark.parametrize(
    ("what", "mode"), [("sleep", "run"), ("sleep", "arun"), ("sleep", "thread"), ("ask", "run"), ("ask", "arun")]
)
def test_who_sleeps_or_asks_stops_at_once(what: str, mode: str) -> None:
    """The grace time is for work: a back-off of half a minute, and a person at lunch, are none."""
    waits, store = threading.Event(), MemoryStore()
    script: list[Any] = [replies.rate_limited(retry_after=30)] if what == "sleep" else [replies.tool_use("pay", {})]
    workflow: Any = Plain if what == "sleep" else Asking
    emulator = Emulator(script)

    def ask(question: Any) -> Any:
        waits.set()
        time.sleep(30)

    async def ask_async(question: Any) -> Any:
        waits.set()
        await asyncio.sleep(30)

    def on_move(move: Any) -> None:
        if what == "sleep":
            waits.set()

    options: dict[str, Any] = {"journal": store, "run_id": "r", "on_move": on_move}

    async def main() -> Any:
        async with emulator.async_client() as client:
            return await arun(workflow, "Hi.", client=client, ask=ask_async, **options)

    def drive() -> Any:
        if mode == "arun":
            return asyncio.run(main())
        with emulator.client() as client:
            return run(workflow, "Hi.", client=client, ask=ask, **options)

    results: list[Any] = []
    with nothing_left():
        thread = _once(waits)
        with draining(grace=25):
            if mode == "thread":
                driving = threading.Thread(target=lambda: results.append(drive()))
                driving.start()
                driving.join(20)
            else:
                results.append(drive())
        thread.join()
    assert (results[0].parked, results[0].verdict.reason) == (True, "interrupted")
    rest = [replies.text("done")]
    result = go_on(workflow, "r", rest, journal=store, ask=lambda q: approve(), sleep=lambda s: None)
    assert result.ok


def test_a_run_that_is_begun_meanwhile_is_recorded_and_parked() -> None:
    store = MemoryStore()
    with draining(signals=()) as drain, Emulator([]).client() as client:
        assert not drain.requested
        drain.stop()
        result = run(Loop, "Hi.", client=client, journal=store, run_id="r")
        assert (drain.requested, drain.signal) == (True, None)
    assert (result.parked, result.verdict.reason) == (True, "interrupted")
    assert go_on(Loop, "r", [replies.text("done")], journal=store).text == "done"


def test_an_iteration_ends_at_the_next_step() -> None:
    store = MemoryStore()
    emulator = Emulator([replies.tool_use("find", {"number": "1"}), replies.tool_use("find", {"number": "2"})])
    with draining(signals=()) as drain, emulator.client() as client:
        moves = iterate(Loop, "Hi.", client=client, journal=store, run_id="r", deltas=True)
        seen = []
        for move in moves:
            seen.append(move)
            drain.stop()
    assert moves.result.verdict.reason == "interrupted"
    assert len(emulator.requests) == 1


def test_an_async_iteration_ends_at_the_next_step() -> None:
    emulator = Emulator([replies.tool_use("find", {"number": "1"}), replies.text("done")])

    async def main() -> Any:
        with draining(signals=()) as drain:
            async with emulator.async_client() as client:
                moves = aiterate(Loop, "Hi.", client=client, run_id="r", deltas=True)
                async for _ in moves:
                    drain.stop()
                return moves.result

    assert asyncio.run(main()).verdict.reason == "interrupted"
    assert len(emulator.requests) == 1


def test_a_function_that_began_ends_and_is_recorded() -> None:
    """A `Code` function is a step: what it gave is not lost."""
    began, calls = threading.Event(), []

    def weigh(facts: Facts) -> Literal["fine"]:
        calls.append(facts.state)
        began.set()
        time.sleep(0.1)
        return "fine"

    class Weighed(Workflow):
        weighing = Code(weigh, initial=True)
        asking = Claude(model=MODEL, max_tokens=100)
        answered = Final()
        weighing.on("fine", asking)
        asking.on(end_turn=answered)

    store, thread = MemoryStore(), _once(began)
    with draining(), Emulator([]).client() as client:
        result = run(Weighed, "Hi.", client=client, journal=store, run_id="r")
    thread.join()
    assert (result.state, result.verdict.reason) == ("asking", "interrupted")
    assert go_on(Weighed, "r", [replies.text("done")], journal=store).ok
    assert len(calls) == 1


def test_a_second_signal_does_what_it_did_before() -> None:
    """So a second Ctrl-C stops at once, here as `KeyboardInterrupt` in the drive, which parks the run."""
    begun, store = threading.Event(), MemoryStore()

    @tool(timeout=None)
    def hang() -> str:
        """Never end."""
        begun.set()
        time.sleep(30)
        return "too late"

    def twice() -> None:
        _signal_here(signal.SIGINT)
        time.sleep(0.1)
        _signal_here(signal.SIGINT)

    thread = _once(begun, twice)
    with draining(grace=25), Emulator([replies.tool_use("hang", {})]).client() as client:
        result = run(loop_of(hang), "Hi.", client=client, journal=store, run_id="r")
    thread.join()
    assert result.verdict.reason == "interrupted"


def test_handlers_are_put_back_and_it_is_entered_once() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with nothing_left(), draining(), pytest.raises(UsageError, match="entered already"), draining():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_signals_are_taken_in_the_main_thread_only() -> None:
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            with draining():
                pass
        except UsageError as error:
            failed.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert "pass signals=()" in str(failed[0])


WORKFLOW = '''
import time
from fsm import Claude, Final, Tools, Workflow, tool

@tool
def slow(number: int) -> str:
    """Take a moment."""
    open("begun", "w").close()
    time.sleep(0.5)
    return f"did {number}"

class Slow(Workflow):
    asking = Claude(model="claude-sonnet-5", max_tokens=100, tools=[slow])
    calling = Tools()
    answered = Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)
'''


def test_the_command_line_stops_at_a_step_boundary(tmp_path: Path, root: Path) -> None:
    """`fsm run` under SIGTERM: the call ends and is recorded, the run is parked, `fsm runs resume` ends it."""
    (tmp_path / "slow.py").write_text(WORKFLOW)
    script = [replies.tool_use("slow", {"number": 1}), replies.text("done")]
    emulator = Emulator(script)
    with serve(emulator) as server:
        more = {"PYTHONPATH": str(root), "ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": server.url}
        options: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, **more}, "stdout": subprocess.PIPE}
        command = [sys.executable, "-m", "fsm.cli"]
        started = subprocess.Popen([*command, "run", "slow.py:Slow", "Hi.", "-j", "runs.db"], **options)
        while not (tmp_path / "begun").exists():
            assert started.poll() is None
            time.sleep(0.01)
        started.send_signal(signal.SIGTERM)
        told = started.communicate(timeout=30)[0].decode()
        assert started.returncode == 130, told
        assert len(emulator.requests) == 1
        with SqliteStore(tmp_path / "runs.db") as store:
            run_id = next(store.runs()).run_id
            kinds = [record.kind for record in store.read(run_id)]
        assert ("tool.end" in kinds, kinds[-1]) == (True, "park")
        done = subprocess.run(
            [*command, "runs", "resume", run_id, "-j", "runs.db", "--workflow", "slow.py:Slow"], check=False, **options
        )
        assert done.returncode == 0, done.stdout.decode()
