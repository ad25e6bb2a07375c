"""What the outside world can do next: every reply, answer and outcome that is worth a try where a run waits."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from attrs import evolve, field, fields, frozen, has

from fsm._actions import Action, AskHuman, Question, RunCode, RunTools, SendRequest
from fsm._alphabet import ALPHABET, Group
from fsm._events import Decision
from fsm._graph import Graph
from fsm._guards import Guard, calls, matched, output, said_is, value_is
from fsm._params import Schema
from fsm._states import Claude, Code, Outcome
from fsm.testing import replies
from fsm.testing._reply import STATUS_OF_ERROR, Reply
from fsm.testing._samples import samples
from fsm.tools import Toolbox

Kind = Literal["reply", "tools", "answer", "code", "park", "expire", "crash", "cancel"]

GO_ON = "Please go on."
"""What a person says where nothing else is asked for."""

_FAR = "3600"  # seconds in retry-after that no run waits for, so that it parks at once
_FEW = 6  # inputs tried for a tool whose approval depends on them
_PROPER = frozenset({Group.TURN})


@frozen(kw_only=True)
class Step:
    """One thing that the outside world does.

    `kind`: a scripted `reply`; `tools` run (their results are made up); an `answer` of a person, or none (`park`), or
    none in time (`expire`); a `code` function with `outcome` and `value` (no outcome: it raises); a `crash` of the
    process and its restart; the user's `cancel`. `event` is what it should come to, `is_proper` whether it is part of a
    run in which nothing goes wrong.
    """

    kind: Kind
    event: str = ""
    is_proper: bool = False
    reply: Reply | None = None
    answer: Any = None
    outcome: str | None = None
    value: Any = None


@frozen(kw_only=True)
class Script:
    """A whole run: the input, what the outside world does step by step, the limits, and whether replies stream."""

    input: str
    steps: tuple[Step, ...]
    limits: Mapping[str, float] = field(factory=dict)
    stream: bool = False

    @property
    def replies(self) -> list[Reply]:
        """What the emulator answers, in order."""
        return [step.reply for step in self.steps if step.reply is not None]


@frozen(kw_only=True)
class Hints:
    """What the workflow's own guards ask for: those that are built in say it."""

    outputs: tuple[tuple[tuple[str, ...], Any], ...] = ()
    said: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    values: tuple[tuple[str, Any], ...] = ()


# The classes of the built-in predicates, which are private to their file.
_OUTPUT: Any = type(output("a", 0).holds)
_SAID: Any = type(said_is("a").holds)
_MATCHED: Any = type(matched("a").holds)
_CALLS: Any = type(calls("a").holds)
_VALUE: Any = type(value_is("a", 0).holds)


def hints_of(graph: Graph) -> Hints:
    """Read the guards of a workflow."""
    found = [p for edge in graph.edges if edge.guard is not None for p in _predicates(edge.guard)]
    return Hints(
        outputs=tuple((p.path, p.value) for p in found if isinstance(p, _OUTPUT)),
        said=tuple(dict.fromkeys(p.text for p in found if isinstance(p, _SAID))),
        sequences=tuple(dict.fromkeys(p.sequence for p in found if isinstance(p, _MATCHED))),
        tools=tuple(dict.fromkeys(name for p in found if isinstance(p, _CALLS) for name in sorted(p.tools))),
        values=tuple((p.state, p.value) for p in found if isinstance(p, _VALUE)),
    )


def _predicates(thing: Any) -> Iterator[Any]:
    """A guard's predicate and those it is composed of (`&`, `|`, `~`)."""
    yield thing
    if isinstance(thing, Guard):
        yield from _predicates(thing.holds)
    elif has(type(thing)):
        for attribute in fields(type(thing)):
            inner = getattr(thing, attribute.name)
            if isinstance(inner, Guard) or (callable(inner) and has(type(inner))):
                yield from _predicates(inner)


class Steps:
    """The steps to try, by where a conversation waits.

    Params:
        graph: the workflow; toolbox: its tools.
        more: replies by state, texts a person says, values by `Code` state, which are tried besides what is made up.
    """

    def __init__(
        self,
        graph: Graph,
        toolbox: Toolbox,
        *,
        replies: Mapping[str, Sequence[Reply]],
        said: Sequence[str],
        values: Mapping[str, Sequence[Any]],
    ) -> None:
        self._graph, self._toolbox = graph, toolbox
        self._hints = hints_of(graph)
        self._more, self._said, self._values = replies, said, values
        self._made: dict[str, tuple[Step, ...]] = {}

    def of(self, action: Action | None) -> tuple[Step, ...]:
        """What can be done about an action, proper steps first."""
        cancel = Step(kind="cancel", event="cancel")
        crash = Step(kind="crash", event="outcome_unknown")
        if isinstance(action, SendRequest):
            return (*self.replies_to(action.state), cancel)
        if isinstance(action, RunTools):
            return (Step(kind="tools", event="tool_results", is_proper=True), crash, cancel)
        if isinstance(action, AskHuman):
            return (*self._answers(action.question), cancel)
        if isinstance(action, RunCode):
            return (*self._outcomes(action.state), cancel)
        return ()

    def events(self, state: str) -> set[str]:
        """The events of a `Claude` state that some reply comes to."""
        return {step.event for step in self.replies_to(state)}

    def replies_to(self, name: str) -> tuple[Step, ...]:
        """The replies to a request of a `Claude` state."""
        if name not in self._made:
            state = self._graph.by_name[name].state
            assert isinstance(state, Claude)  # noqa: S101 - only Claude states send
            found = [*self._given(name), *self._turns(name, state), *_cuts(state), *_anomalies(state), *_failures()]
            self._made[name] = tuple(sorted(found, key=lambda step: not step.is_proper))
        return self._made[name]

    def _given(self, name: str) -> Iterator[Step]:
        for reply in self._more.get(name, ()):
            event = reply.stop_reason if reply.kind == "message" else (reply.error or {}).get("type")
            yield _reply(str(event or ""), reply)

    def _turns(self, name: str, state: Claude) -> Iterator[Step]:
        """Replies that end as they should: an answer, or calls."""
        texts = [f"This is the answer in '{name}'."]
        if state.output is not None:
            texts = [json.dumps(value, ensure_ascii=False) for value in samples(state.output, self._hints.outputs)]
        sequences = dict.fromkeys([*state.params.get("stop_sequences", ()), *self._hints.sequences]) or ("STOP",)
        for text in texts:
            yield _reply("end_turn", replies.text(text))
        for text in texts:
            for sequence in sequences:
                yield _reply("stop_sequence", replies.stop_sequence(text, sequence=sequence))
        yield from self._calls(state)

    def _calls(self, state: Claude) -> Iterator[Step]:
        plain: dict[str, Any] = {}
        for spec in state.client_tools:
            schema = Schema(self._toolbox.of(spec).definition.get("input_schema") or {"type": "object"})
            found = samples(schema)[: _FEW if callable(spec.needs_approval) else 1] or [{}]
            plain[spec.name] = found[0]
            for given in found:
                yield _reply("tool_use", replies.tool_use(spec.name, given))
        if len(plain) > 1:
            yield _reply("tool_use", replies.tool_uses(*plain.items()))
        unheard = [name for name in self._hints.tools if name not in plain]
        for name in unheard or ([] if plain else ["no_such_tool"]):
            yield evolve(_reply("tool_use", replies.tool_use(name, {})), is_proper=False)

    def _answers(self, question: Question) -> Iterator[Step]:
        if question.kind == "words":
            for text in dict.fromkeys([GO_ON, *self._said, *self._hints.said]):
                yield Step(kind="answer", event="said", is_proper=True, answer=text)
        else:
            yield Step(kind="answer", event="approved", is_proper=True, answer=Decision("approve"))
            yield Step(kind="answer", event="denied", answer=Decision("deny", reason="Not this time."))
        if question.expires_at is not None:
            yield Step(kind="expire", event="expired")
        yield Step(kind="park")

    def _outcomes(self, name: str) -> Iterator[Step]:
        state = self._graph.by_name[name].state
        assert isinstance(state, Code)  # noqa: S101 - only Code states run functions
        asked = [value for where, value in self._hints.values if where == name]
        for outcome in state.outcomes:
            values = [*self._values.get(name, ()), *asked] or [None if _has_value(state) else outcome]
            for value in values:
                yield Step(kind="code", event=outcome, is_proper=True, outcome=outcome, value=value)
        yield Step(kind="code", event="raised")


def _has_value(state: Code[Any]) -> bool:
    """Whether the function returns `Outcome`: then its value is its own and cannot be known, else it is the name."""
    return typing.get_origin(typing.get_type_hints(state.fn).get("return")) is Outcome


def _reply(event: str, reply: Reply) -> Step:
    spec = ALPHABET.get(event)
    return Step(kind="reply", event=event, is_proper=spec is not None and spec.group in _PROPER, reply=reply)


def _cuts(state: Claude) -> Iterator[Step]:
    """Replies that are not complete, or not the model's last word."""
    for spec in state.client_tools[:1]:
        yield _reply("max_tokens", replies.max_tokens(tool=(spec.name, {"cut": "here"})))
    yield _reply("max_tokens", replies.max_tokens("The beginning of an ans"))
    yield _reply("max_tokens", replies.max_tokens())
    yield _reply("pause_turn", replies.pause())
    yield _reply("refusal", replies.refusal(explanation="This is not something to help with."))
    yield _reply("model_context_window_exceeded", replies.context_window("The beginning of an ans"))
    yield _reply("compaction", replies.compaction())


def _anomalies(state: Claude) -> Iterator[Step]:
    yield _reply("empty_turn", replies.empty())
    yield _reply("unknown_stop", replies.unknown_stop("new_reason"))
    yield _reply("malformed", replies.tool_uses())  # first: it is malformed in a stream, too
    yield _reply("malformed", replies.html())
    if state.output is not None:
        yield _reply("invalid_output", replies.text("This is no JSON."))
    # D1: one id for two calls. The API gives each id once, so that what sends this is a replaying proxy.
    call = {"type": "tool_use", "id": "toolu_twice", "name": "no_such_tool", "input": {}}
    yield _reply("stuck", replies.message([call, call], stop_reason="tool_use"))


def _failures() -> Iterator[Step]:
    for event, status in STATUS_OF_ERROR.items():
        failure = replies.error(status, event, ALPHABET[event].why)
        yield _reply(event, failure)
        if ALPHABET[event].group is Group.RETRYABLE:
            yield _reply(event, evolve(failure, headers={"retry-after": _FAR}))
    # Lost before its first byte: in the middle of a stream it would be a cut stream (G20).
    yield _reply("connection_error", replies.cut(replies.text("An answer that is lost."), after_bytes=0, clean=False))
    yield _reply("cut_stream", replies.cut(replies.text("An answer that is lost."), after=2))


def proper(steps: Iterable[Step]) -> Iterator[Step]:
    """Those that are part of a run in which nothing goes wrong."""
    return (step for step in steps if step.is_proper)
