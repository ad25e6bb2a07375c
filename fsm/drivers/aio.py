"""The async driver: performs each action on the event loop, sync tools in worker threads."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial
from typing import Any

from fsm._actions import Action, AskHuman, Finish, OpenCall, RunCode, RunTools, SendRequest, Wait
from fsm._events import CodeEnded, Event, Parked, TimePassed, ToolEnd, ToolsEnded
from fsm._records import Move
from fsm._sdk import Request, send_async
from fsm._wire import Delta
from fsm.tools import end_of, failed_end, timeout_end

from ._functions import call_function, code_ended
from ._pump import PARALLEL, PATIENCE, Session
from ._threads import THREADS


async def drive(session: Session, first: Sequence[Event], *, deltas: bool = False) -> AsyncGenerator[Move | Delta, None]:
    """Drive a run until it ends or parks, giving each move once it is recorded.

    Leaving the loop, or cancelling the task, parks the run as `interrupted`; a cancellation goes on to the caller.
    """
    pump = session.pump(first)
    calls = _Calls(session)
    try:
        turn = next(pump)
        while True:
            for move in turn.moves:
                yield move
            if isinstance(turn.action, Finish):
                return
            event: Event | None = None
            async for item in _perform(session, calls, turn.action):
                if isinstance(item, Delta):
                    if session.on_delta is not None:
                        await _maybe(session.on_delta(item))
                    if deltas:
                        yield item
                else:
                    event = item
            assert event is not None  # noqa: S101 - every action ends with an event
            turn = pump.send(event)
    except (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt):
        if not session.conversation.finished:
            calls.keep_finished()
            session.commit(Parked(session.clock(), "interrupted"))
        raise
    finally:
        calls.abandon()


async def _perform(session: Session, calls: _Calls, action: Action | None) -> AsyncIterator[Delta | Event]:
    if isinstance(action, SendRequest):
        wants = session.stream or session.on_delta is not None
        request = Request(session.client, action, stream=wants, clock=session.clock, draw=session.draw)
        async for item in send_async(request):
            yield item
    elif action is None or isinstance(action, RunTools):
        if action is not None:
            calls.start(action.calls)
        yield await calls.some_ended()
    elif isinstance(action, AskHuman):
        given = await _maybe(session.ask(action.question)) if session.ask is not None else None
        yield Parked(session.clock(), "waiting_person") if given is None else session.answer(action, given)
    elif isinstance(action, Wait):
        await _maybe(session.sleep(action.seconds))
        yield TimePassed(max(session.clock(), action.until))
    elif isinstance(action, RunCode):
        yield await _run_code(session, action)
    else:
        msg = f"no driver performs {action!r}"
        raise AssertionError(msg)


async def _maybe(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _run_code(session: Session, action: RunCode) -> CodeEnded:
    started = time.monotonic()
    try:
        if inspect.iscoroutinefunction(action.fn):
            value = await call_function(action.fn, action.facts, session.context(None))
        else:
            value = await _in_thread(partial(call_function, action.fn, action.facts, session.context(None)))
    except Exception as error:  # noqa: BLE001 - whatever the function raises is the event `raised`
        return code_ended(session.clock(), error, started)
    return code_ended(session.clock(), value, started)


async def _in_thread(job: Any) -> Any:
    """Run a blocking function in a worker thread, so that the event loop goes on."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def guarded() -> Any:
        try:
            return (True, job())
        except BaseException as error:  # noqa: BLE001 - it is raised again on the event loop
            return (False, error)

    def give(outcome: tuple[bool, Any]) -> None:
        if not future.done():
            future.set_result(outcome)

    def done(outcome: tuple[bool, Any]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(give, outcome)

    THREADS.run(guarded, done)
    is_value, value = await future
    if is_value:
        return value
    raise value


class _Calls:
    """The running calls of one reply."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.running: dict[asyncio.Task[ToolEnd], OpenCall] = {}
        self.ready: list[ToolEnd] = []

    def start(self, calls: Sequence[OpenCall]) -> None:
        """Validate each call and start it; at most `PARALLEL` at once."""
        gate = asyncio.Semaphore(PARALLEL)
        self.ready = []
        for call in calls:
            refusal = self.session.toolbox.refusal(call)
            if refusal is not None:
                self.ready.append(refusal)
            else:
                self.running[asyncio.ensure_future(_run_call(self.session, call, gate))] = call

    async def some_ended(self) -> ToolsEnded:
        """Wait for the next end, and a moment for its siblings."""
        ends, self.ready = self.ready, []
        if self.running and not ends:
            await asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)
        if any(not task.done() for task in self.running):
            await asyncio.wait(self.running, timeout=PATIENCE)
        return ToolsEnded(self.session.clock(), (*ends, *self._collect()))

    def _collect(self) -> list[ToolEnd]:
        done = [task for task in self.running if task.done() and not task.cancelled()]
        for task in done:
            del self.running[task]
        return [task.result() for task in done]

    def keep_finished(self) -> None:
        """On an interruption: record what had ended, so that only the others are of unknown outcome."""
        ends = (*self.ready, *self._collect())
        if ends:
            self.session.commit(ToolsEnded(self.session.clock(), ends))

    def abandon(self) -> None:
        """Cancel what still runs."""
        for task in self.running:
            task.cancel()
        self.running = {}


async def _run_call(session: Session, call: OpenCall, gate: asyncio.Semaphore) -> ToolEnd:
    assert call.spec is not None  # noqa: S101 - a call without a tool was refused before
    async with gate:
        started = time.monotonic()
        runnable = session.toolbox.of(call.spec)
        try:
            async with asyncio.timeout(call.spec.timeout):
                if runnable.is_async:
                    value = await runnable.call(call, session.context(call.id))
                else:
                    value = await _in_thread(partial(runnable.call, call, session.context(call.id)))
                    value = await _maybe(value)
            return end_of(call, value, started)
        except TimeoutError as error:
            late = time.monotonic() - started >= call.spec.timeout
            return timeout_end(call, call.spec.timeout) if late else failed_end(call, error, started)
        except asyncio.CancelledError as error:
            if asyncio.current_task() is not None and asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            return failed_end(call, error, started)
        except BaseException as error:  # noqa: BLE001 - SystemExit in a tool must not end the run either
            return failed_end(call, error, started)
