"""`watch`: looks at a loop that somebody else wrote, as moves of a machine.

prints    fingerprints of messages: hashes instead of bodies
course    where one conversation stands: machine, detector, counters; a value
links     which conversation a request belongs to
watcher   requests and what came of them; reports moves and findings
tap       reads a response while the caller reads it
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from fsm._compile import Plan, compile_graph
from fsm._errors import UsageError
from fsm._graph import Graph
from fsm._records import Move
from fsm._single import single_plan
from fsm._stuck import Finding

from ._links import WatchedConversation
from ._tap import received, unanswered
from ._watcher import OnFinding, WatchedMove, Watcher

if TYPE_CHECKING:
    import anthropic

    class WatchedClient(anthropic.Anthropic):
        """What `watch` returns for `Anthropic`, to a type checker: the same client with four attributes more."""

        findings: deque[Finding]
        moves: deque[WatchedMove]
        conversations: Mapping[str, WatchedConversation]

        def conversation(self, name: str) -> AbstractContextManager[None]: ...

    class WatchedAsyncClient(anthropic.AsyncAnthropic):
        """The same for `AsyncAnthropic`."""

        findings: deque[Finding]
        moves: deque[WatchedMove]
        conversations: Mapping[str, WatchedConversation]

        def conversation(self, name: str) -> AbstractContextManager[None]: ...


__all__ = ["OnFinding", "WatchedConversation", "WatchedMove", "watch"]

ATTRIBUTES = ("conversation", "conversations", "findings", "moves")
"""What the returned client has besides the client's own attributes."""

C = TypeVar("C")
OnMove = Callable[[Move], object]


@overload
def watch(
    client: anthropic.Anthropic,
    workflow: Any = ...,
    *,
    on_move: OnMove | None = ...,
    on_finding: OnFinding = ...,
) -> WatchedClient: ...
@overload
def watch(
    client: anthropic.AsyncAnthropic,
    workflow: Any = ...,
    *,
    on_move: OnMove | None = ...,
    on_finding: OnFinding = ...,
) -> WatchedAsyncClient: ...
@overload
def watch(client: C, workflow: Any = ..., *, on_move: OnMove | None = ..., on_finding: OnFinding = ...) -> C: ...
def watch(
    client: Any,
    workflow: Any = None,
    *,
    on_move: OnMove | None = None,
    on_finding: OnFinding = "warn",
) -> Any:
    """Look at every conversation that is held through a client, without changing the program that holds it.

    Each request and each reply is a move of the machine. What breaks a rule is found: a request that the API refuses, a
    tool_use id that is unanswered or comes twice, a tool that was run for a reply that was cut, a refusal that is sent
    again unchanged, the same call again and again without progress (D1, D2, D11, R10, R14, S5.2).

    The same request again after a reply that asked for tools is a lost result (D1c) when it is sent strictly after that
    reply, by the same task or thread or by another one. It is a sample, and so are all that are the same from then on,
    once two of them were on their way at once, the task or thread that got the reply still runs while another one
    sends, or an earlier reply is gone on from after a later one. A loop whose requests go to changing threads of a pool
    is missed for that reason. Samples that are drawn one after another look like the fault and are reported as one: put
    each inside `with client.conversation(name):`. What is seen late is told late: a pool with one worker, or a first
    sample that was answered before the second left, may be reported once.

    With `on_finding="warn"` a bad request leaves nevertheless: the machine goes to `stuck`, and what the API answers is
    one more move, such as `asking → failed` for its 400.

    Params:
        client: an `anthropic` client, synchronous or not. It stays as it is.
        workflow: the workflow whose machine the conversations are held against; it has one history and no `Code` or
            `Child`. None: one state that asks, one that calls tools, one that is the end.
        on_move: called with each `WatchedMove`; what it raises is logged and goes no further.
        on_finding: `"warn"` logs a warning to the logger `fsm.watch`; `"raise"` raises `LoopFinding`, before the bad
            request leaves or after the bad reply; a function is called with each `Finding`, and may raise.

    Returns:
        A client made by `client.with_options`, to be used in place of it. Besides, it has `findings` and `moves`, the
        newest of each; `conversations`, by name; and `conversation(name)`, to be entered with `with` around requests
        that cannot be told apart by their messages, such as samples drawn one after another.

    Raises:
        UsageError: this is no client that takes middleware, it is watched already, or this is no workflow that can be
            watched; the message says why.
    """
    if not (callable(on_finding) or on_finding in {"warn", "raise"}):
        raise UsageError(f"on_finding={on_finding!r} is neither 'warn' nor 'raise' nor a function of the finding")
    if not (callable(getattr(client, "with_options", None)) and isinstance(getattr(client, "middleware", None), tuple)):
        raise UsageError(f"watch() takes a client of the anthropic package that has middleware, not {client!r}")
    watcher = Watcher(single_plan() if workflow is None else _plan_of(workflow), on_move, on_finding)
    if any(isinstance(getattr(each, "fsm_watcher", None), Watcher) for each in client.middleware):
        raise UsageError(
            "this client is watched already, and a second watch() would count and report everything twice: "
            "use it as it is, or watch the client that it was made from"
        )
    ours = _async_middleware(watcher) if inspect.iscoroutinefunction(type(client).request) else _middleware(watcher)
    derived = client.with_options(middleware=[*client.middleware, ours])  # innermost: it sees what really leaves
    for name in ATTRIBUTES:
        setattr(derived, name, getattr(watcher, name))
    return derived


def _middleware(watcher: Watcher) -> Any:
    def fsm_watch(request: Any, call_next: Any) -> Any:
        pending = watcher.begin(request)
        if pending is None:
            return call_next(request)
        try:
            response = call_next(request)
        except Exception as error:
            unanswered(watcher, pending, error)
            raise
        except BaseException:  # cancelled, interrupted: no answer, and nothing on its way
            watcher.given_up(pending)
            raise
        received(watcher, pending, response)
        return response

    fsm_watch.fsm_watcher = watcher  # type: ignore[attr-defined]  # how a second watch() knows it
    return fsm_watch


def _async_middleware(watcher: Watcher) -> Any:
    async def fsm_watch(request: Any, call_next: Any) -> Any:
        pending = watcher.begin(request)
        if pending is None:
            return await call_next(request)
        try:
            response = await call_next(request)
        except Exception as error:
            unanswered(watcher, pending, error)
            raise
        except BaseException:  # cancelled, interrupted: no answer, and nothing on its way
            watcher.given_up(pending)
            raise
        received(watcher, pending, response)
        return response

    fsm_watch.fsm_watcher = watcher  # type: ignore[attr-defined]  # how a second watch() knows it
    return fsm_watch


def _plan_of(workflow: Any) -> Plan:
    graph = workflow if isinstance(workflow, Graph) else getattr(workflow, "graph", None)
    if not isinstance(graph, Graph):
        raise UsageError(f"{workflow!r} is no workflow: pass a subclass of fsm.Workflow, or nothing")
    odd = [f"'{node.name}' is {node.kind}" for node in graph.nodes if node.kind in {"Code", "Child"}]
    histories = sorted({str(node.history) for node in graph.nodes if node.kind == "Claude"})
    if len(histories) > 1:
        odd.append(f"it has the histories {', '.join(histories)}")
    if odd:
        raise UsageError(
            f"'{graph.name}' cannot be watched, {'; '.join(odd)}: from outside only requests and replies are seen. "
            "Watch with a workflow of Claude, Tools, Approval and Human states and one history, or with none."
        )
    return compile_graph(graph)
