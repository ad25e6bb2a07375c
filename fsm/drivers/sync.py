"""The sync driver: performs each action in the calling thread, tools in worker threads."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from fsm._actions import Action, AskHuman, Finish, OpenCall, RunCode, RunTools, SendRequest, Wait
from fsm._errors import JournalError
from fsm._events import CodeEnded, Event, Parked, TimePassed, ToolEnd, ToolsEnded
from fsm._records import Move
from fsm._results import end_of, failed_end, timeout_end
from fsm._sdk import send
from fsm._wire import Delta

from ._draining import Steps
from ._functions import call_function, code_ended
from ._pump import PARALLEL, PATIENCE, Session, Turn, Write
from ._threads import THREADS


def drive(session: Session, first: Sequence[Event], *, deltas: bool = False) -> Iterator[Move | Delta]:
    """Drive a run until it ends or parks, giving each move once it is recorded.

    Leaving the loop, Ctrl-C and a callback that raises park the run as `interrupted`; what had begun is known, and
    nothing is lost. After Ctrl-C, and where the process drains, the drive ends as if it had been parked; everything
    else is raised.
    """
    pump = session.pump(first)
    steps = Steps()
    calls = _Calls(session, steps)
    try:
        turn = _next_turn(pump, None)
        while True:
            yield from turn.moves
            if isinstance(turn.action, Finish):
                return
            if not calls.running:
                steps.check()
            with steps:
                event = yield from _perform(session, calls, steps, turn.action, deltas=deltas)
            turn = _next_turn(pump, event)
    except JournalError:
        raise  # after a failure of the storage only reading is allowed
    except BaseException as stop:
        session.park(calls.finished())
        if not isinstance(stop, KeyboardInterrupt) or not session.durable:
            raise
    finally:
        session.stop_spans()
        steps.close()
        client = session.own_client()
        if client is not None:
            client.close()


def _next_turn(pump: Generator[Turn | Write, Any, None], event: Event | None) -> Turn:
    given = pump.send(event)
    while not isinstance(given, Turn):
        given()
        given = next(pump)
    return given


def _perform(
    session: Session, calls: _Calls, steps: Steps, action: Action | None, *, deltas: bool
) -> Generator[Delta, None, Event]:
    if isinstance(action, SendRequest):
        return (yield from _send(session, steps, action, deltas=deltas))
    if isinstance(action, RunTools):
        calls.start(action.calls)
    if action is None or isinstance(action, RunTools):
        return calls.some_ended()
    if isinstance(action, AskHuman):
        with steps.waiting(), session.scope():
            given = session.ask(action.question) if session.ask is not None else None
        return Parked(session.clock(), "waiting_person") if given is None else session.answer(action, given)
    if isinstance(action, Wait):
        steps.sleep(session.sleep, action.seconds)
        return TimePassed(max(session.clock(), action.until))
    if isinstance(action, RunCode):
        return _run_code(session, action)
    msg = f"no driver performs {action!r}"
    raise AssertionError(msg)


def _send(session: Session, steps: Steps, action: SendRequest, *, deltas: bool) -> Generator[Delta, None, Event]:
    request = session.request(action)
    outcome: Event | None = None
    with closing(send(request)) as items:  # a callback that raises gives the connection back at once
        for item in items:
            if not isinstance(item, Delta):
                outcome = item
                continue
            session.shown = item is not request.restart
            if session.on_delta is not None:
                session.on_delta(item)
            if deltas:
                with steps.outside():
                    yield item
    assert outcome is not None  # noqa: S101 - send() always ends with an outcome
    return outcome


def _run_code(session: Session, action: RunCode) -> CodeEnded:
    started = time.monotonic()
    session.entered.add(action.state)
    try:
        with session.scope():
            value = call_function(action.fn, action.facts, session.context(None))
            if inspect.isawaitable(value):
                value = asyncio.run(_awaited(value))
    except Exception as error:  # noqa: BLE001 - whatever the function raises is the event `raised`
        return code_ended(session.clock(), error, started)
    return code_ended(session.clock(), value, started)


async def _awaited(value: Awaitable[Any], seconds: float | None = None) -> Any:
    return await asyncio.wait_for(value, seconds)


class _Calls:
    """The running calls of one reply."""

    def __init__(self, session: Session, steps: Steps) -> None:
        self.session, self.steps = session, steps
        self.waiting: list[OpenCall] = []
        self.mine: list[OpenCall] = []  # without a time limit: run in this thread
        self.running: dict[str, tuple[OpenCall, float]] = {}
        self.ready: list[ToolEnd] = []
        self.given = 0  # how many of `ready` were handed out; they stay until the next are, so that none can be lost
        self.done: SimpleQueue[ToolEnd] = SimpleQueue()

    def start(self, calls: Sequence[OpenCall]) -> None:
        """Validate each call and start it; at most `PARALLEL` at once."""
        self.done = SimpleQueue()  # what an abandoned call of an earlier reply still puts into the old one is ignored
        self.running, self.waiting, self.mine, self.ready, self.given = {}, [], [], [], 0
        for call in calls:
            refusal = self.session.toolbox.refusal(call)
            if refusal is not None:
                self.ready.append(refusal)
            elif call.spec is not None and call.spec.timeout is None:
                self.mine.append(call)
            else:
                self.waiting.append(call)

    def _fill(self) -> None:
        while self.waiting and len(self.running) < PARALLEL and not self.steps.is_last:
            call = self.waiting.pop(0)
            started = time.monotonic()
            self.running[call.id] = (call, started)
            self.session.entered.add(call.id)
            THREADS.run(partial(_run_call, self.session, call, started), self.done.put)

    def some_ended(self) -> ToolsEnded:
        """Wait for the next end, and a moment for its siblings."""
        del self.ready[: self.given]
        # Started here and not in `start`, so that this thread waits at once: a worker that wakes while it still holds
        # the interpreter goes to sleep again, which costs more than the tool.
        self._fill()
        while self.mine and not self.steps.is_last:
            self.ready.append(self._run_here(self.mine.pop(0)))
        patient_until: float | None = None
        while self.running:
            now = time.monotonic()
            if self.ready and patient_until is None:
                patient_until = now + PATIENCE
            if patient_until is not None and now >= patient_until:
                break
            until = min(started + _timeout(call) for call, started in self.running.values())
            until = until if patient_until is None else min(until, patient_until)
            try:
                self._take(self.done.get(timeout=max(0.0, until - now)))
            except Empty:
                self._give_up_overdue()
        self.given = len(self.ready)
        if not self.ready:
            self.steps.check()  # the calls that are left were not begun
        return self.session.ended(self.ready)

    def _run_here(self, call: OpenCall) -> ToolEnd:
        self.session.entered.add(call.id)
        return _run_call(self.session, call, time.monotonic(), passes=KeyboardInterrupt)  # Ctrl-C parks the run

    def _take(self, end: ToolEnd) -> None:
        if self.running.pop(end.call_id, None) is not None:  # else it was given up: its late result is ignored
            self.ready.append(end)
            self._fill()

    def _give_up_overdue(self) -> None:
        now = time.monotonic()
        for call, started in tuple(self.running.values()):
            if now - started >= _timeout(call):
                del self.running[call.id]
                self.ready.append(timeout_end(call, _timeout(call)))
        self._fill()

    def finished(self) -> tuple[ToolEnd, ...]:
        """On an interruption: what had ended by now, so that only the others are of unknown outcome."""
        while not self.done.empty():
            end = self.done.get()
            if self.running.pop(end.call_id, None) is not None:
                self.ready.append(end)
        return tuple(self.ready)


def _timeout(call: OpenCall) -> float:
    limit = call.spec.timeout if call.spec is not None else 0.0
    assert limit is not None  # noqa: S101 - calls without a limit run in the driver's own thread
    return limit


def _run_call(
    session: Session,
    call: OpenCall,
    started: float,
    *,
    passes: tuple[type[BaseException], ...] | type[BaseException] = (),
) -> ToolEnd:
    with session.tool_scope(call) as ended:
        return ended(_called(session, call, started, passes))


def _called(
    session: Session, call: OpenCall, started: float, passes: tuple[type[BaseException], ...] | type[BaseException]
) -> ToolEnd:
    assert call.spec is not None  # noqa: S101 - a call without a tool was refused before
    try:
        value: Any = session.toolbox.of(call.spec).call(call, session.context(call.id))
        if inspect.isawaitable(value):
            # The limit here ends the thread of a call that was given up; the result was answered by then.
            limit = call.spec.timeout
            value = asyncio.run(_awaited(value, None if limit is None else limit + PATIENCE))
        return end_of(call, value, started)
    except passes:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit in a tool must not end the run either
        return failed_end(call, error, started)
