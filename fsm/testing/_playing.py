"""Playing a script: the real driver, the real SDK and the emulator; only tools, functions and people are scripted."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from attrs import define, evolve, field

from fsm._actions import Action, AskHuman, Finish, OpenCall, Question, RunCode, RunTools, SendRequest, Wait
from fsm._conversation import Conversation
from fsm._conversation._heads import Heads
from fsm._events import Cancelled, Event, Resumed, TimePassed
from fsm._facts import Facts
from fsm._records import Move
from fsm._result import Result
from fsm._states import Outcome
from fsm._toolspec import Context, ToolSpec
from fsm._versions import records_of
from fsm._workflow import Workflow
from fsm.drivers import sync
from fsm.drivers._pump import Session, Turn, Write
from fsm.journal import MemoryStore
from fsm.testing._steps import Kind, Script, Step
from fsm.testing._world import DRAW, START, results_of, started
from fsm.testing.emulator import Emulator

_FITS: Mapping[type[Any], frozenset[Kind]] = {
    SendRequest: frozenset({"reply", "cancel"}),
    RunTools: frozenset({"tools", "crash", "cancel"}),
    AskHuman: frozenset({"answer", "park", "expire", "cancel"}),
    RunCode: frozenset({"code", "cancel"}),
}


@define
class Clock:
    """A clock that only sleeping moves."""

    now: float = START

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass without waiting."""
        self.now += seconds


@define
class Stubs:
    """Stands in for the toolbox: every call gives the result that the script has for it, and nothing is run."""

    definitions: Mapping[str, Any]
    results: dict[str, str] = field(factory=dict)

    def of(self, spec: ToolSpec) -> Stubs:
        """What the driver calls instead of the tool."""
        del spec
        return self

    def refusal(self, call: OpenCall) -> None:
        """No call is refused."""

    def problem(self, given: Any) -> None:
        """Every input fits."""

    def call(self, call: OpenCall, context: Context[Any]) -> str:
        """The scripted result."""
        del context
        return self.results[call.id]


@define(kw_only=True)
class Scripted(Session):
    """A session whose outside world follows the script, except for the requests, which really leave."""

    script: list[Step] = field(factory=list)
    stubs: Stubs
    timer: Clock
    answering: Any = None
    hint: str = ""

    def _commit(self, event: Event) -> Generator[Write, None, Turn]:
        """Take an event in, then do what the script does about the next action, or prepare it."""
        turn = yield from super()._commit(event)
        action = turn.action
        if action is None or isinstance(action, (Finish, Wait)):
            return turn
        step = self._next(action)
        if step.kind in {"cancel", "crash", "expire"}:
            more = yield from self._commit(self._happens(step, action))
            return Turn(turn.moves + more.moves, more.action)
        if isinstance(action, RunTools):
            self.stubs.results.update(results_of(self.conversation.run, action))
        elif isinstance(action, RunCode):
            return evolve(turn, action=evolve(action, fn=_function(step)))
        self.answering = step.answer
        return turn

    def _next(self, action: Action) -> Step:
        where = f"'{self.conversation.run.state}'"
        if not self.script:
            there = type(action).__name__
            msg = f"the run left its path: the script is at its end, and in {where} there is still {there}{self.hint}"
            raise AssertionError(msg)
        step = self.script.pop(0)
        if step.kind not in _FITS[type(action)]:
            what, there = f"{step.kind} {step.event}".rstrip(), type(action).__name__
            msg = f"the run left its path: in {where} the script has '{what}', but there is {there}{self.hint}"
            raise AssertionError(msg)
        return step

    def _happens(self, step: Step, action: Action) -> Event:
        if step.kind == "crash":  # as `resume` does it: everything anew from the journal
            conversation = Conversation(self.conversation.plan, self.conversation.heads)
            conversation.fold(self.recorded())
            self.conversation = conversation
            return Resumed(self.clock())
        if step.kind == "expire" and isinstance(action, AskHuman) and action.question.expires_at is not None:
            self.timer.now = max(self.timer.now, action.question.expires_at + 1.0)
            return TimePassed(self.clock())
        return Cancelled(self.clock())

    def asked(self, question: Question) -> Any:
        """The scripted answer, None to park."""
        del question
        return self.answering


def _function(step: Step) -> Callable[[Facts], Outcome[Any]]:
    def scripted(facts: Facts) -> Outcome[Any]:
        del facts
        if step.outcome is None:
            msg = "scripted"
            raise RuntimeError(msg)
        return Outcome(step.outcome, step.value)

    return scripted


def play(
    script: Script,
    workflow: type[Workflow],
    *,
    client: Any = None,
    on_move: Callable[[Move], Any] | None = None,
    stream: bool = False,
) -> Result:
    """Run a workflow as the script says; see `Path.run`."""
    emulator = Emulator(script.replies)
    hint = "; the path was found without streaming: leave stream=True out" if stream and not script.stream else ""
    definitions = workflow.toolbox.definitions
    stubs, timer, store = Stubs(definitions), Clock(), MemoryStore()
    heads = Heads(workflow.graph, definitions)
    session = Scripted(
        conversation=Conversation(workflow.plan, heads),
        store=store,
        run_id="path",
        recorded=lambda: records_of(workflow, store, "path"),
        toolbox=stubs,  # type: ignore[arg-type] # a stand-in for what the driver uses of it
        make_client=lambda: client if client is not None else emulator.client(),
        deps=None,
        tags={},
        clock=timer,
        draw=lambda: DRAW,
        sleep=timer.sleep,
        stream=stream or script.stream,
        on_move=on_move,
        script=list(script.steps),
        stubs=stubs,
        timer=timer,
        hint=hint,
    )
    session.ask = session.asked
    first = started(workflow, script.input, script.limits, heads)
    for _ in sync.drive(session, [first]):
        pass
    if session.script:
        left = ", ".join(f"{step.kind} {step.event}" for step in session.script)
        where = f"'{session.conversation.run.state}'"
        msg = f"the run left its path: it stopped in {where} and the script goes on: {left}{hint}"
        raise AssertionError(msg)
    if client is None:
        emulator.done()
    conversation = session.conversation
    return Result(workflow, "path", conversation.verdict(), store, conversation)
