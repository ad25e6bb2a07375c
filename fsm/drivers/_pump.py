"""One generator for all drivers: feed, record, then act, in that order.

`pump` owns the write-ahead order (rule 7): what `feed` decided is durable before its action is handed out, so a reply
is recorded before a tool of it starts, and the intent to run a tool before it is entered. A driver sends in events
and gets `Turn`s: the moves that were just recorded, and the one action to perform; before each, a `Write` that it
calls wherever it may wait for a disk. Sync, async and batch drivers differ only in how they perform these, so they
cannot drift apart.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field, frozen

from fsm._actions import Action, AskHuman, Finish, OpenCall, Question, RunCode, RunTools, SendRequest
from fsm._conversation import Conversation
from fsm._effects import as_blocks
from fsm._errors import DecisionError, DeclarationError, RunError
from fsm._events import Answered, CodeEnded, Decision, Event, Parked, ToolEnd, ToolsEnded
from fsm._legality import Legality
from fsm._records import Move, Record, move_of
from fsm._results import warn_if_asked
from fsm._telemetry import Spans, spans_of
from fsm._toolspec import Context
from fsm._wire import Delta
from fsm.journal import Store
from fsm.tools import Toolbox

if TYPE_CHECKING:
    from fsm._sdk import Request

log = logging.getLogger("fsm")
T = TypeVar("T")

PATIENCE = 0.05
"""Seconds that a finished call waits for its siblings before it is committed alone (rule 7)."""

PARALLEL = 8
"""Calls of one reply that run at the same time."""


@frozen
class Turn:
    """What was recorded, and what is to be done now (None: the calls that run already)."""

    moves: tuple[Move, ...]
    action: Action | None


Write = Callable[[], None]
"""Makes records durable. The driver calls it where it may wait for a disk, and goes on when it has returned."""


def written(steps: Generator[Write, None, T]) -> T:
    """Write in this thread whatever is to be written."""
    while True:
        try:
            write = next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
        write()


def _unseen(end: ToolEnd) -> ToolEnd:
    return end


_NOWHERE = nullcontext()
_UNSEEN = nullcontext(_unseen)


@define
class Session:
    """One run being driven: the conversation, its journal, and the outside world it may touch."""

    conversation: Conversation
    store: Store
    run_id: str
    recorded: Callable[[], Iterable[Record]]
    """Reads the run from the journal, with the names that the states have in this version of the workflow."""
    toolbox: Toolbox
    make_client: Callable[[], Any]
    deps: Any = field(repr=False)  # X7: often holds clients and keys
    tags: Mapping[str, str]
    clock: Callable[[], float]
    draw: Callable[[], float]
    sleep: Callable[[float], Any]
    ask: Callable[[Question], Any] | None = None
    stream: bool = False
    on_move: Callable[[Move], Any] | None = None
    on_delta: Callable[[Any], Any] | None = None
    owns_client: bool = False
    listens: bool = False  # whether somebody iterates over the moves
    moves: int = 0
    durable: int = 0
    """How many records the journal holds for certain."""
    entered: set[str] = field(factory=set, init=False)
    """Ids of the calls, and the `Code` state, whose function was entered since it began in the records."""
    owed: list[Any] = field(factory=list, init=False)
    """What an async `on_move` still has to be awaited for."""
    shown: bool = field(default=False, init=False)
    """Whether deltas were given since the last restart; of a run that is taken up again they may have been."""
    upgrade: tuple[Event, ...] = field(default=(), init=False)
    """What is fed before all else where a run goes on under another version of its workflow."""
    spans: Spans | None = field(default=None, init=False)
    """What tells OpenTelemetry of this drive; None where nobody listens."""
    _client: Any = field(default=None, init=False)

    @property
    def client(self) -> Any:
        """The SDK client, made when the first request leaves, prepared for a run (rule 9)."""
        if self._client is None:
            from fsm._clients import prepared  # slow to import, and a run without a request does without

            self._client = prepared(self.make_client())
        return self._client

    def own_client(self) -> Any:
        """The client that was made for this run, to be closed with it; None where one was given, or none was needed."""
        made, self._client = (self._client, None) if self.owns_client else (None, self._client)
        return made

    def _restart(self) -> Delta | None:
        """What a consumer of deltas is told before a request where what it was shown is void.

        The conversation says so: what came was kept in no history (G20, G10, S5.2, S8.2, S10.2).
        """
        again, self.shown = self.shown and self.conversation.run.void, False
        return Delta("restart", "", 0) if again else None

    def context(self, call_id: str | None) -> Context[Any]:
        """What a tool or a function gets besides its input."""
        return Context(self.deps, self.run_id, self.tags, call_id)

    def request(self, action: SendRequest) -> Request:
        """One attempt."""
        from fsm._sdk import Request  # slow to import, as above

        scope = None if self.spans is None else self.spans.scope
        return Request(
            self.client,
            action,
            stream=self.stream,
            clock=self.clock,
            draw=self.draw,
            scope=scope,
            restart=self._restart(),
        )

    def scope(self) -> AbstractContextManager[None]:
        """What is traced inside is below the state's span. It stands around what acts, never around a `yield`."""
        return _NOWHERE if self.spans is None else self.spans.scope()

    def tool_scope(self, call: OpenCall) -> AbstractContextManager[Callable[[ToolEnd], ToolEnd]]:
        """The span of a call around its tool; gives what looks at how the call ended."""
        return _UNSEEN if self.spans is None else self.spans.tool(call.name, call.id)

    def stop_spans(self) -> None:
        """The drive is over."""
        if self.spans is not None:
            self.spans.end()
            self.spans = None

    def ended(self, ends: Sequence[ToolEnd]) -> ToolsEnded:
        """Calls that ended, as an event: one at least, or the drive would go round for ever."""
        if not ends:
            msg = f"run '{self.run_id}' waits for calls that nobody runs"
            raise AssertionError(msg)
        return ToolsEnded(self.clock(), tuple(ends))

    def commit(self, event: Event) -> Turn:
        """Take an event in: decide, record, then say what to do."""
        return written(self._commit(event))

    def _commit(self, event: Event) -> Generator[Write, None, Turn]:
        records, actions = self.conversation.feed(event)
        if actions and isinstance(actions[0], AskHuman):
            warn_if_asked(actions[0].question.calls)
        yield partial(self._append, event, records)
        return Turn(tuple(self._observed(records)), actions[0] if actions else None)

    def _append(self, event: Event, records: Sequence[Record]) -> None:
        if records:
            self.store.append(self.run_id, records)
            self.durable += len(records)
        if isinstance(event, ToolsEnded):
            self.entered.difference_update(end.call_id for end in event.ends)
        elif isinstance(event, CodeEnded):
            self.entered.clear()

    def _observed(self, records: Sequence[Record]) -> list[Move]:
        if self.spans is not None:
            self.spans.observe(records)
        taken = [record for record in records if record.kind == "move"]
        first, self.moves = self.moves + 1, self.moves + len(taken)
        is_logged = log.isEnabledFor(logging.INFO)
        if not (self.listens or is_logged or self.on_move is not None):
            return []
        moves = [move_of(record, number) for number, record in enumerate(taken, first)]
        for move in moves:
            if is_logged:
                tags = "".join(f" {one_line(k)}={one_line(v)}" for k, v in self.tags.items())
                log.info("run=%s %s request_id=%s%s", one_line(self.run_id), move, move.request_id, tags)
            if self.on_move is not None:
                given = self.on_move(move)
                if inspect.isawaitable(given):
                    self.owed.append(given)
        return moves

    def park(self, ends: Sequence[ToolEnd] = ()) -> None:
        """See `parking`; everything is written at once."""
        written(self.parking(ends))

    def parking(self, ends: Sequence[ToolEnd] = ()) -> Generator[Write, None, None]:
        """Stand still as `interrupted`, wherever the drive was; `ends` are of calls that had ended by then.

        What had begun in the records only is said to be untouched, so that it begins anew; the outcome of the rest is
        unknown.
        """
        if self.conversation.run.seq != self.durable:  # interrupted between deciding and recording: the journal counts
            fresh = Conversation(self.conversation.plan, self.conversation.heads)
            with suppress(RunError):  # the journal does not know the run: nothing was recorded
                fresh.fold(self.recorded())
            self.conversation, self.durable = fresh, fresh.run.seq
        if not self.durable:
            return
        run = self.conversation.run
        kept = tuple(end for end in ends if end.call_id in run.open and run.open[end.call_id].end is None)
        if kept and not self.conversation.finished:
            with suppress(DecisionError):  # a guard that raises: the results are lost, the interruption is not
                yield from self._commit(ToolsEnded(self.clock(), kept))
        if not self.conversation.finished and self.conversation.run.parked is None:
            yield from self._commit(Parked(self.clock(), "interrupted", untouched=self._untouched()))

    def _untouched(self) -> tuple[str, ...]:
        for action in self.conversation.pending():
            if isinstance(action, RunTools):
                return tuple(call.id for call in action.calls if call.id not in self.entered)
            if isinstance(action, RunCode):
                return (action.state,) if action.state not in self.entered else ()
        return ()

    def pump(self, first: Sequence[Event]) -> Generator[Turn | Write, Any, None]:
        """Feed the first events, then whatever the driver sends in, until the run ends or is parked.

        Without first events a person is asked what the run asks already.
        """
        self.spans = spans_of(self.conversation, None if self.owns_client else self.make_client())
        if self.spans is not None:
            first = self.spans.begin(self.run_id, first)
        moves: tuple[Move, ...] = ()
        question = None if first else self.conversation.question()
        action: Action | None = None if question is None else AskHuman(question)
        for event in first:
            if isinstance(action, Finish):
                break  # the event before this one ended it, or parked it
            turn = yield from self._commit(event)
            moves, action = moves + turn.moves, turn.action
        turn = Turn(moves, action)
        while not isinstance(turn.action, Finish):
            turn = yield from self._commit((yield turn))
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
        return Answered(at, said=_words(question, given))
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


def _words(question: Question, given: Any) -> Any:
    try:
        blocks = as_blocks(given.strip() if isinstance(given, str) else given)
        json.dumps(blocks, ensure_ascii=False, allow_nan=False).encode()  # R26
    except (DeclarationError, TypeError, ValueError, RecursionError):
        msg = f"state '{question.state}' is answered with text or content blocks, not {given!r}"
        raise RunError(msg) from None
    _, found = Legality.start().step({"role": "user", "content": blocks})
    if found:
        msg = f"state '{question.state}' cannot be answered so, the API would refuse it: {found[0].message}"
        raise RunError(msg)
    return given if isinstance(given, str) else blocks


def _check_edit(call: OpenCall, decision: Decision, toolbox: Toolbox) -> None:
    if call.spec is None:
        return
    given = dict(decision.input or {})
    try:
        json.dumps(given, ensure_ascii=False, allow_nan=False).encode()
        problem = toolbox.of(call.spec).problem(given)
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"it is not JSON: {error}"
    if problem is not None:
        msg = f"the edited input does not fit the schema of '{call.name}': {problem}"
        raise RunError(msg)


def one_line(value: object) -> str:
    """A tag as it stands in a line of the log: quoted where it would break the line, or pretend to be another."""
    text = str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text)
