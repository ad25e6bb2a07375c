"""One generator for all drivers: feed, record, then act, in that order.

`pump` owns the write-ahead order (rule 7): what `feed` decided is durable before its action is handed out, so a reply
is recorded before a tool of it starts, and the intent to run a tool before it is entered. A driver sends in events
and gets `Turn`s: the moves that were just recorded, and the one action to perform. Sync, async and batch drivers
differ only in how they perform it, so they cannot drift apart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from fsm._actions import Action, AskHuman, Finish, OpenCall, Question
from fsm._conversation import Conversation
from fsm._errors import RunError
from fsm._events import Answered, Decision, Event
from fsm._records import Move, Record
from fsm._toolspec import Context
from fsm.journal import Store
from fsm.tools import Toolbox

log = logging.getLogger("fsm")

PATIENCE = 0.05
"""Seconds that a finished call waits for its siblings before it is committed alone (rule 7)."""

PARALLEL = 8
"""Calls of one reply that run at the same time."""


@frozen
class Turn:
    """What was recorded, and what is to be done now (None: the calls that run already)."""

    moves: tuple[Move, ...]
    action: Action | None


@define
class Session:
    """One run being driven: the conversation, its journal, and the outside world it may touch."""

    conversation: Conversation
    store: Store
    run_id: str
    toolbox: Toolbox
    make_client: Callable[[], Any]
    deps: Any
    tags: Mapping[str, str]
    clock: Callable[[], float]
    draw: Callable[[], float]
    sleep: Callable[[float], Any]
    ask: Callable[[Question], Any] | None = None
    stream: bool = False
    on_move: Callable[[Move], Any] | None = None
    on_delta: Callable[[Any], Any] | None = None
    moves: int = 0
    _client: Any = field(default=None, init=False)

    @property
    def client(self) -> Any:
        """The SDK client, made when the first request leaves, with the SDK's own retries off (rule 9)."""
        if self._client is None:
            client = self.make_client()
            self._client = client if client.max_retries == 0 else client.with_options(max_retries=0)
        return self._client

    def context(self, call_id: str | None) -> Context[Any]:
        """What a tool or a function gets besides its input."""
        return Context(self.deps, self.run_id, self.tags, call_id)

    def commit(self, event: Event) -> Turn:
        """Take an event in: decide, record, then say what to do."""
        records, actions = self.conversation.feed(event)
        self.store.append(self.run_id, records)
        return Turn(tuple(self._observed(records)), actions[0] if actions else None)

    def _observed(self, records: Sequence[Record]) -> list[Move]:
        moves = []
        for record in records:
            if record.kind == "move":
                self.moves += 1
                moves.append(move_of(record, self.moves))
        for move in moves:
            if log.isEnabledFor(logging.INFO):
                tags = "".join(f" {k}={v}" for k, v in self.tags.items())
                log.info("run=%s %s request_id=%s%s", self.run_id, move, move.request_id, tags)
            if self.on_move is not None:
                self.on_move(move)
        return moves

    def pump(self, first: Sequence[Event]) -> Generator[Turn, Event, None]:
        """Feed the first events, then whatever the driver sends in, until the run ends or is parked."""
        moves: tuple[Move, ...] = ()
        action: Action | None = None
        for event in first:
            turn = self.commit(event)
            moves, action = moves + turn.moves, turn.action
        turn = Turn(moves, action)
        while not isinstance(turn.action, Finish):
            turn = self.commit((yield turn))
        yield turn

    def answer(self, action: AskHuman, given: Any) -> Answered:
        """What `ask` returned, as an event.

        Raises:
            RunError: of the wrong form, or an edited input against the tool's schema; nothing was recorded.
        """
        return answer_event(self.clock(), action.question, given, self.toolbox)


def answer_event(at: float, question: Question, given: Any, toolbox: Toolbox) -> Answered:
    """A person's answer as an event: text or blocks for words, decisions by call id for an approval."""
    if question.kind == "words":
        if not isinstance(given, (str, list)) or not given:
            msg = f"state '{question.state}' is answered with text or content blocks, not {given!r}"
            raise RunError(msg)
        return Answered(at, said=given)
    if isinstance(given, Decision):
        given = {call.id: given for call in question.calls}
    if not isinstance(given, Mapping) or not all(isinstance(d, Decision) for d in given.values()):
        msg = (
            f"state '{question.state}' is answered with approve(), deny(reason), edit(input), "
            f"or a dict of these by call id, not {given!r}"
        )
        raise RunError(msg)
    calls = {call.id: call for call in question.calls}
    for call_id, decision in given.items():
        if decision.verb == "edit" and call_id in calls:
            _check_edit(calls[call_id], decision, toolbox)
    return Answered(at, decisions=dict(given))


def _check_edit(call: OpenCall, decision: Decision, toolbox: Toolbox) -> None:
    if call.spec is None:
        return
    problem = toolbox.of(call.spec).problem(dict(decision.input or {}))
    if problem is not None:
        msg = f"the edited input does not fit the schema of '{call.name}': {problem}"
        raise RunError(msg)


def move_of(record: Record, seq: int) -> Move:
    """The move that a record holds."""
    data = record.data
    return Move(
        seq,
        record.at,
        data["source"],
        data["event"],
        data["dest"],
        data["guard"],
        tuple(name for name, _ in data["effects"]),
        data["index"],
        data["implied"],
        data.get("request_id"),
    )
