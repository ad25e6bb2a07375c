"""A world that does what a script says: it steps the pure conversation, without driver, clock or client.

The replies are made as the emulator makes them and read as the driver reads them, so that a path which is found here
can be played through the real client.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from attrs import field, frozen

from fsm._actions import Action, AskHuman, RunCode, RunTools, SendRequest, Wait
from fsm._conversation import Conversation
from fsm._conversation._heads import Heads
from fsm._conversation._run_state import RunState
from fsm._errors import FsmError, WireError
from fsm._events import (
    Answered,
    Cancelled,
    CodeEnded,
    Event,
    Failed,
    Parked,
    Replied,
    Resumed,
    Started,
    TimePassed,
    ToolEnd,
    ToolsEnded,
)
from fsm._states import Claude
from fsm._wire import failed_from_response, failed_malformed, read_message
from fsm._workflow import WorkflowType
from fsm.testing import _serving
from fsm.testing._caching import Account
from fsm.testing._reply import Reply
from fsm.testing._signing import Signer
from fsm.testing._steps import Script, Step

Key = tuple[str, str, int]
"""Source, event, place among the alternatives: what names a row."""

START = 1_767_225_600.0
"""When every path begins, in seconds since the epoch: the first of January 2026."""

DRAW = 0.5
"""The random number of every back-off."""

STREAM_ABOVE = 21_333  # E25: what the client streams by itself


class StepFailed(Exception):  # noqa: N818 - not an error of the user: the search goes on without this step
    """A step cannot be done; the text says why."""


@frozen(eq=False)
class Node:
    """Where a run stands after some steps. `taken` are the rows of the last step, `depth` counts steps."""

    conversation: Conversation
    now: float
    limits: Mapping[str, float]
    parent: Node | None = None
    step: Step | None = None
    taken: tuple[Key, ...] = ()
    depth: int = 0

    @property
    def run(self) -> RunState:
        """The facts."""
        return self.conversation.run

    @property
    def action(self) -> Action | None:
        """What the outside world has to do."""
        return next(iter(self.conversation.pending()), None)

    @property
    def is_over(self) -> bool:
        """Whether the run ended or is parked."""
        return self.run.closed is not None or self.run.parked is not None

    def line(self) -> list[Node]:
        """From the start to here."""
        found: list[Node] = []
        node: Node | None = self
        while node is not None:
            found.append(node)
            node = node.parent
        return found[::-1]


@frozen
class World:
    """A workflow and an input. `begin` gives the first node, `after` the one behind a step."""

    workflow: WorkflowType
    input: str
    _heads: Heads = field(init=False)

    @_heads.default
    def _make_heads(self) -> Heads:
        return Heads(self.workflow.graph, self.workflow.toolbox.definitions)

    def begin(self, limits: Mapping[str, float]) -> Node:
        """The run has started."""
        conversation = Conversation(self.workflow.plan, self._heads)
        records, _ = conversation.feed(started(self.workflow, self.input, limits, self._heads))
        return Node(conversation, START, limits, taken=_rows(records))

    def after(self, node: Node, step: Step) -> Node:
        """The run after one more step, and after the waits that it leads to.

        Raises:
            StepFailed: a guard, an effect or a prompt raised.
        """
        conversation = copy(node.conversation)
        now = node.now + 1.0
        if step.kind == "expire":
            now = max(now, (node.run.asked or {}).get("expires_at", now) + 1.0)
        try:
            records, actions = conversation.feed(self._event(node, step, now))
            taken = _rows(records)
            while actions and isinstance(wait := actions[0], Wait):
                now = max(now, wait.until)
                records, actions = conversation.feed(TimePassed(now))
                taken += _rows(records)
        except (FsmError, ValueError) as error:
            raise StepFailed(str(error)) from error
        return Node(conversation, now, node.limits, node, step, taken, node.depth + 1)

    def _event(self, node: Node, step: Step, now: float) -> Event:
        action = node.action
        if step.kind == "reply" and isinstance(action, SendRequest) and step.reply is not None:
            return _sent(action, step.reply, now, seed=node.depth)
        if step.kind == "tools" and isinstance(action, RunTools):
            ends = (ToolEnd(call_id, text) for call_id, text in results_of(node.run, action).items())
            return ToolsEnded(now, tuple(ends))
        if step.kind == "answer" and isinstance(action, AskHuman):
            if action.question.kind == "words":
                return Answered(now, said=step.answer)
            return Answered(now, decisions={call.id: step.answer for call in action.question.calls})
        if step.kind == "code" and isinstance(action, RunCode):
            error = None if step.outcome is not None else "RuntimeError: scripted"
            return CodeEnded(now, step.outcome, step.value, error=error)
        if step.kind == "park":
            return Parked(now, "waiting_person")
        if step.kind == "cancel":
            return Cancelled(now)
        return Resumed(now) if step.kind == "crash" else TimePassed(now)


def started(workflow: WorkflowType, text: str, limits: Mapping[str, float], heads: Heads) -> Started:
    """The first event. Functions of `deps` that give a system prompt are not called: there are no deps."""
    systems = {
        node.name: "A system prompt."
        for node in workflow.graph.nodes
        if isinstance(node.state, Claude) and callable(node.state.system)
    }
    message = {"role": "user", "content": [{"type": "text", "text": text}]}
    digests = heads.digests(systems)
    return Started(START, "path", (message,), systems=systems, heads=digests, limits=limits)


def results_of(run: RunState, action: RunTools) -> dict[str, str]:
    """A made-up result for each call. They differ: equal ones would be a loop without progress (D2)."""
    first = run.tool_calls - len(run.open) + 1
    return {call.id: f"Result {first + n} of {call.name}." for n, call in enumerate(action.calls)}


def _rows(records: Sequence[Any]) -> tuple[Key, ...]:
    moves = [record.data for record in records if record.kind == "move"]
    return tuple((data["source"], data["event"], data["index"]) for data in moves)


def _sent(action: SendRequest, reply: Reply, now: float, *, seed: int) -> Replied | Failed:
    """What comes of a request that is answered with this reply."""
    if reply.cut is not None:
        streams = reply.cut.clean or (action.params["max_tokens"] > STREAM_ABOVE and reply.cut.byte_count != 0)
        return Failed(now, "cut_stream" if streams else "connection_error", "The reply was lost on the way.", draw=DRAW)
    if reply.repeats:
        msg = "repeat_id() has no meaning here: write out the calls with replies.message([...])"
        raise StepFailed(msg)
    if reply.content is not None and reply.error is None:
        ids, signer = _serving.Ids(str(seed)), Signer(seed)
        account = Account(plain=action.history.size // 4)
        message = _serving.build_message(reply, action.params, (), ids=ids, signer=signer, known=b"", account=account)
        content = json.dumps(message["content"], ensure_ascii=False)
        return Replied(now, message, content, request_id=f"req_{seed}", price=0.0)
    body = (
        reply.body
        if reply.body is not None
        else json.dumps({"type": "error", "error": dict(reply.error or {})}).encode()
    )
    if reply.status != 200:  # noqa: PLR2004 - HTTP's own number
        return failed_from_response(reply.status, reply.headers, body, at=now, draw=DRAW)
    try:
        wire = read_message(body, reply.headers.get("content-type"))
    except WireError as error:
        return failed_malformed(error, at=now, draw=DRAW)
    return Replied(now, wire.message, wire.content_json, price=0.0)


def script_of(world: World, node: Node) -> Script:
    """What the outside world did on the way to a node."""
    steps = tuple(found.step for found in node.line() if found.step is not None)
    stream = any(s.reply is not None and s.reply.cut is not None and s.reply.cut.clean for s in steps)
    return Script(input=world.input, steps=steps, limits=node.limits, stream=stream)
