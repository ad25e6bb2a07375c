"""The async driver: performs each action on the event loop, sync tools in worker threads."""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from fsm._actions import Action, AskHuman, Finish, OpenCall, RunCode, RunTools, SendRequest, Wait
from fsm._errors import JournalError
from fsm._events import CodeEnded, Event, Parked, TimePassed, ToolEnd, ToolsEnded
from fsm._records import Move
from fsm._results import end_of, failed_end, timeout_end
from fsm._sdk import send_async
from fsm._wire import Delta

from ._async_steps import AsyncSteps
from ._draining import Drained
from ._functions import call_function, code_ended
from ._pump import PARALLEL, PATIENCE, Session, Turn, Write
from ._threads import THREADS, WRITERS, Threads


async def drive(
    session: Session, first: Sequence[Event], *, deltas: bool = False
) -> AsyncGenerator[Move | Delta, None]:
    """Drive a run until it ends or parks, giving each move once it is recorded.

    Leaving the loop, cancelling the task and a callback that raises park the run as `interrupted`, and go on to the
    caller. Where the process drains, the drive ends as if it had been parked.
    """
    steps = AsyncSteps()
    calls = _Calls(session, steps)
    try:
        async with aclosing(_go_on(session, calls, steps, first, deltas=deltas)) as items:
            async for item in items:
                yield item
    except JournalError:
        raise  # after a failure of the storage only reading is allowed
    except BaseException as stop:
        await _park(session, calls)
        if not isinstance(stop, Drained) or not session.durable:
            raise
    finally:
        session.stop_spans()
        steps.close()
        calls.abandon()
        for left in session.owed:
            if inspect.iscoroutine(left):
                left.close()
        client = session.own_client()
        if client is not None:
            await client.close()


async def _park(session: Session, calls: _Calls) -> None:
    """Park the run; a cancellation that comes meanwhile goes on afterwards."""
    stop: BaseException | None = None
    for write in session.parking(calls.finished()):
        try:
            await _write(session, write)
        except asyncio.CancelledError as error:
            stop = error
    if stop is not None:
        raise stop


async def _write(session: Session, write: Write) -> None:
    """Make records durable, in a thread where the store waits for a disk.

    It is settled when this ends, whatever cancels the task: what is half written nobody could park.
    """
    if getattr(session.store, "blocks", False):
        await _in_thread(write, WRITERS, settles=True)
    else:
        write()


async def _next_turn(session: Session, pump: Generator[Turn | Write, Any, None], event: Event | None) -> Turn:
    given = pump.send(event)
    while not isinstance(given, Turn):
        await _write(session, given)
        given = next(pump)
    return given


async def _go_on(
    session: Session, calls: _Calls, steps: AsyncSteps, first: Sequence[Event], *, deltas: bool
) -> AsyncGenerator[Move | Delta, None]:
    pump = session.pump(first)
    turn = await _next_turn(session, pump, None)
    while True:
        while session.owed:
            await session.owed.pop(0)
        for move in turn.moves:
            yield move
        if isinstance(turn.action, Finish):
            return
        if not calls.running:
            steps.check()
        with steps:
            if not isinstance(turn.action, SendRequest):
                event = await _performed(session, calls, steps, turn.action)
            else:
                request = session.request(turn.action)
                async with aclosing(send_async(request)) as items:  # leaving early gives the connection back at once
                    async for item in items:
                        if not isinstance(item, Delta):
                            event = item  # the last one
                            continue
                        session.shown = item is not request.restart
                        await _maybe(session.on_delta(item) if session.on_delta is not None else None)
                        if deltas:
                            with steps.outside():
                                yield item
        turn = await _next_turn(session, pump, event)


async def _performed(session: Session, calls: _Calls, steps: AsyncSteps, action: Action | None) -> Event:
    """Whatever is not a request, and so gives nothing before its outcome."""
    if action is None or isinstance(action, RunTools):
        if action is not None:
            calls.start(action.calls)
        return await calls.some_ended()
    if isinstance(action, AskHuman):
        with steps.waiting(), session.scope():
            given = await _maybe(session.ask(action.question)) if session.ask is not None else None
        return Parked(session.clock(), "waiting_person") if given is None else session.answer(action, given)
    if isinstance(action, Wait):
        with steps.waiting():
            await _maybe(session.sleep(action.seconds))
        return TimePassed(max(session.clock(), action.until))
    if isinstance(action, RunCode):
        return await _run_code(session, action)
    msg = f"no driver performs {action!r}"
    raise AssertionError(msg)


async def _maybe(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _run_code(session: Session, action: RunCode) -> CodeEnded:
    started = time.monotonic()
    session.entered.add(action.state)
    try:
        with session.scope():
            if inspect.iscoroutinefunction(action.fn):
                value = await call_function(action.fn, action.facts, session.context(None))
            else:
                value = await _in_thread(partial(call_function, action.fn, action.facts, session.context(None)))
    except Exception as error:  # noqa: BLE001 - whatever the function raises is the event `raised`
        return code_ended(session.clock(), error, started)
    return code_ended(session.clock(), value, started)


async def _in_thread(job: Any, threads: Threads = THREADS, *, settles: bool = False) -> Any:
    """Run a blocking function in a worker thread, so that the event loop goes on.

    With `settles` a cancellation waits until the function has returned, and is raised then.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    given: list[tuple[bool, Any]] = []

    def give(outcome: tuple[bool, Any]) -> None:
        given.append(outcome)
        if not future.done():
            future.set_result(None)

    def done(outcome: tuple[bool, Any]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for it any more
            loop.call_soon_threadsafe(give, outcome)

    threads.run(partial(_guarded, job), done)
    stop: BaseException | None = None
    while not given:
        try:
            await future
        except asyncio.CancelledError as error:
            if not settles:
                raise
            stop, future = error, loop.create_future()
    is_value, value = given[0]
    if not is_value:
        raise value
    if stop is not None:
        raise stop
    return value


def _guarded(job: Any) -> tuple[bool, Any]:
    try:
        return (True, job())
    except BaseException as error:  # noqa: BLE001 - it is raised again on the event loop
        return (False, error)


class _Calls:
    """The running calls of one reply."""

    def __init__(self, session: Session, steps: AsyncSteps) -> None:
        self.session, self.steps = session, steps
        self.running: dict[asyncio.Task[ToolEnd | None], OpenCall] = {}
        self.entered_at: dict[str, float] = {}
        self.given_up: list[asyncio.Task[ToolEnd | None]] = []
        self.ready: list[ToolEnd] = []
        self.given = 0  # how many of `ready` were handed out; they stay until the next are, so that none can be lost

    def start(self, calls: Sequence[OpenCall]) -> None:
        """Validate each call and start it; at most `PARALLEL` at once."""
        gate = asyncio.Semaphore(PARALLEL)
        self.running, self.entered_at, self.ready, self.given = {}, {}, [], 0
        for call in calls:
            refusal = self.session.toolbox.refusal(call)
            if refusal is not None:
                self.ready.append(refusal)
            else:
                self.running[_begun(self._run(call, gate))] = call

    async def _run(self, call: OpenCall, gate: asyncio.Semaphore) -> ToolEnd | None:
        async with gate:
            if self.steps.is_last:
                return None
            self.session.entered.add(call.id)
            self.entered_at[call.id] = time.monotonic()
            return await _run_call(self.session, call)

    async def some_ended(self) -> ToolsEnded:
        """Wait for the next end, and a moment for its siblings."""
        del self.ready[: self.given]
        patient_until: float | None = None
        self._collect()  # what had nothing to wait for has ended
        while self.running:
            now = time.monotonic()
            if self.ready and patient_until is None:
                patient_until = now + PATIENCE
            if patient_until is not None and now >= patient_until:
                break
            until = min(self._deadlines(), default=now + PATIENCE)  # none has been entered: look again
            until = until if patient_until is None else min(until, patient_until)
            await asyncio.wait(self.running, timeout=max(0.0, until - now), return_when=asyncio.FIRST_COMPLETED)
            self._collect()
            self._give_up_overdue()
        self.given = len(self.ready)
        if not self.ready:
            self.steps.check()  # the calls that are left were not begun
        return self.session.ended(self.ready)

    def _deadlines(self) -> list[float]:
        return [self._deadline(call) for call in self.running.values() if call.id in self.entered_at]

    def _deadline(self, call: OpenCall) -> float:
        """When a call is given up that does not even end when it is cancelled."""
        assert call.spec is not None  # noqa: S101 - a call without a tool was refused before
        limit = call.spec.timeout
        return float("inf") if limit is None else self.entered_at[call.id] + limit + PATIENCE

    def _collect(self, *, interrupted: bool = False) -> None:
        """Take what has ended. Every call is answered, also one that was cancelled, as a tool can do with its own task.

        On an interruption whoever cancelled the run may have cancelled the calls too: their outcome is unknown.
        """
        for task, call in [(task, call) for task, call in self.running.items() if task.done()]:
            del self.running[task]
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is None:
                end = task.result()
                self.ready += [] if end is None else [end]  # None: it was not begun, the process drains
            elif not (interrupted and task.cancelled()):
                self.ready.append(failed_end(call, error, self.entered_at.get(call.id, time.monotonic())))

    def _give_up_overdue(self) -> None:
        now = time.monotonic()
        for task, call in tuple(self.running.items()):
            if call.id in self.entered_at and now >= self._deadline(call):
                del self.running[task]
                self.given_up.append(task)
                self.ready.append(timeout_end(call, (call.spec.timeout if call.spec else None) or 0.0))

    def finished(self) -> tuple[ToolEnd, ...]:
        """On an interruption: what had ended by now, so that only the others are of unknown outcome."""
        self._collect(interrupted=True)
        return tuple(self.ready)

    def abandon(self) -> None:
        """Cancel what still runs."""
        for task in (*self.running, *self.given_up):
            task.cancel()
        self.running, self.given_up = {}, []


def _begun(call: Coroutine[Any, Any, ToolEnd | None]) -> asyncio.Task[ToolEnd | None]:
    """A task of its own, so that a tool that hangs can be left behind.

    Where Python can, it runs at once as far as it goes without waiting: going round the loop costs more than a tool
    that does little. A loop with a task factory of its own decides for itself.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12) and _has_plain_tasks(loop):
        return asyncio.eager_task_factory(loop, call)
    return loop.create_task(call)


def _has_plain_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return loop.get_task_factory() is None
    except NotImplementedError:  # a loop need not know factories
        return False


async def _run_call(session: Session, call: OpenCall) -> ToolEnd:
    with session.tool_scope(call) as ended:
        return ended(await _called(session, call))


async def _called(session: Session, call: OpenCall) -> ToolEnd:
    assert call.spec is not None  # noqa: S101 - a call without a tool was refused before
    started = time.monotonic()
    runnable = session.toolbox.of(call.spec)
    try:
        async with asyncio.timeout(call.spec.timeout) as limit:
            if runnable.is_async:
                value = await runnable.call(call, session.context(call.id))
            else:
                value = await _in_thread(partial(runnable.call, call, session.context(call.id)))
                value = await _maybe(value)
        return end_of(call, value, started)
    except TimeoutError as error:
        return timeout_end(call, call.spec.timeout or 0.0) if limit.expired() else failed_end(call, error, started)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # by the driver, or by the tool itself: `_collect` knows
        return failed_end(call, error, started)
    except BaseException as error:  # noqa: BLE001 - SystemExit in a tool must not end the run either
        return failed_end(call, error, started)
