"""`run` and its kin: a workflow, an input, and what came of it.

They put a `Session` together and hand it to a driver. Everything that is slow to import is imported inside.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from attrs import field, frozen

from ._actions import Question
from ._effects import as_blocks
from ._errors import ConcurrentWriter, DeclarationError, FsmError, RunError, UsageError
from ._events import Cancelled, Decision, Event, Resumed, Started, TimePassed
from ._facts import Reply
from ._params import Limits, unsendable
from ._records import Move, Record, Verdict
from ._states import Claude, State
from ._workflow import Workflow, WorkflowType
from .journal import MemoryStore, Store

if TYPE_CHECKING:
    from ._conversation import Conversation
    from ._wire import Delta
    from .diagram import Format
    from .drivers._pump import Session

Answer = str | Sequence[Mapping[str, Any]] | Decision | Mapping[str, Decision]
"""What a person answers: text or content blocks, one decision for all calls, or decisions by call id."""

Ask = Callable[[Question], Answer | Awaitable[Answer | None] | None]


class Options(TypedDict, total=False):
    """What `run`, `arun`, `iterate`, `aiterate`, `resume` and `aresume` take.

    deps: given to tools and `Code` as `Context.deps`; never recorded.
    client: an `anthropic` client; made from the environment when it is missing.
    journal: a `Store`; in memory when it is missing.
    tags: strings that go to tools, records and log lines.
    ask: called with a `Question` when a person must act; returns the answer, or None to park.
    stream: send every request as a stream.
    on_delta: called with each `Delta` as it comes (streams).
    on_move: called with each `Move` once it is recorded.
    limits: `Limits` of this run; they replace the workflow's where they are set.
    clock: seconds since the epoch. sleep: waits that many seconds. Both for tests.
    """

    deps: Any
    client: Any
    journal: Store | None
    tags: Mapping[str, str] | None
    ask: Ask | None
    stream: bool
    on_delta: Callable[[Delta], Any] | None
    on_move: Callable[[Move], Any] | None
    limits: Limits | None
    clock: Callable[[], float]
    sleep: Callable[[float], Any]


class RunOptions(Options, total=False):
    """What a new run takes besides.

    run_id: names the run in the journal; made when it is missing.
    after: a `Result` whose histories the new run goes on from.
    """

    run_id: str | None
    after: Result | None


def approve() -> Decision:
    """Let the call run as it is."""
    return Decision("approve")


def edit(new_input: Mapping[str, Any]) -> Decision:
    """Let the call run with this input instead; its result says that a person changed it."""
    return Decision("edit", input=dict(new_input))


def deny(reason: str | None = None) -> Decision:
    """Do not run the call; the model reads the reason."""
    return Decision("deny", reason=reason)


@frozen
class Result:
    """How a run ended, or where it is parked.

    `messages` is the history that the newest reply belongs to, `moves` every arrow that was taken.
    """

    workflow: WorkflowType = field(repr=False)
    run_id: str
    verdict: Verdict
    records: tuple[Record, ...] = field(repr=False)
    _conversation: Conversation = field(repr=False)

    @property
    def state(self) -> str:
        """The name of the final state, or of the state it is parked in."""
        return self.verdict.state

    def at(self, state: State) -> bool:
        """Whether it stands in this state: `result.at(Support.answered)`."""
        return state.name == self.state

    @property
    def ok(self) -> bool:
        """Whether it ended in a final state that counts as success."""
        node = self.workflow.graph.by_name[self.state]
        return node.is_final and node.ok

    @property
    def parked(self) -> bool:
        """Whether it stands still and `resume` goes on."""
        return not self.workflow.graph.by_name[self.state].is_final

    @property
    def reply(self) -> Reply | None:
        """The newest reply."""
        reading = self._conversation.run.reading
        return reading.reply if reading is not None else None

    @property
    def question(self) -> Question | None:
        """What a person is asked, where the run is parked for one: calls with their inputs, or words."""
        return self._conversation.question() if self.parked else None

    @property
    def text(self) -> str:
        """The text of the newest reply, with what it continues, a partial one included; empty before the first."""
        return self._conversation.run.continued + self.reply.text if self.reply is not None else ""

    @property
    def output(self) -> Any:
        """The structured output of the newest reply, or None."""
        return self._conversation.run.output

    @property
    def values(self) -> Mapping[str, Any]:
        """What the `Code` states and plain effects gave, by name."""
        return self._conversation.run.values

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of the history that the newest reply belongs to, as the API takes them."""
        return self.history(self._last_history())

    def history(self, name: str = "main") -> list[dict[str, Any]]:
        """The messages of a history."""
        return self._conversation.run.ledger(name).messages()

    def carried(self) -> dict[str, tuple[str, ...]]:
        """The histories as a new run takes them up (`after=`): open calls answered, a paused tail cut."""
        return self._conversation.carry()

    def _last_history(self) -> str:
        requests = [r.data["history"] for r in self.records if r.kind == "request"]
        return requests[-1] if requests else "main"

    @property
    def moves(self) -> tuple[Move, ...]:
        """Every arrow that was taken, in order."""
        from .drivers._pump import move_of

        taken = [record for record in self.records if record.kind == "move"]
        return tuple(move_of(record, number) for number, record in enumerate(taken, 1))

    def diagram(self, format: Format = "svg", **options: Any) -> str:
        """The picture of the workflow with the path numbered and the current state marked."""
        from .diagram import Overlay, render

        return render(self.workflow.graph, format, overlay=Overlay(self.moves, current=self.state), **options)


def run(workflow: type[Workflow], input: Any, **options: Unpack[RunOptions]) -> Result:
    """Run a workflow until it ends or parks. `input` is text, content blocks, or a list of messages.

    Raises:
        UsageError: no key, an async client, options that cannot be.
        JournalError: the journal could not be written; nothing was sent that it does not hold.
    """
    from .drivers import sync

    session, first = _begin(workflow, input, options, "run")
    with _Claim(session):
        for _ in sync.drive(session, first):
            pass
    return _result(workflow, session)


async def arun(workflow: type[Workflow], input: Any, **options: Unpack[RunOptions]) -> Result:
    """The same, awaited. A cancelled task parks the run and the cancellation goes on."""
    from .drivers import aio

    session, first = _begin(workflow, input, options, "arun")
    with _Claim(session):
        async for _ in aio.drive(session, first):
            pass
    return _result(workflow, session)


def iterate(
    workflow: type[Workflow], input: Any, *, deltas: bool = False, **options: Unpack[RunOptions]
) -> Iterator[Move | Delta]:
    """Run a workflow and give each `Move` once it is recorded; with `deltas` also each `Delta` of a stream.

    Leaving the loop parks the run; `resume` goes on from its journal.
    """
    from .drivers import sync

    session, first = _begin(workflow, input, options, "iterate", deltas=deltas)
    session.listens = True
    with _Claim(session):
        yield from sync.drive(session, first, deltas=deltas)


async def aiterate(
    workflow: type[Workflow], input: Any, *, deltas: bool = False, **options: Unpack[RunOptions]
) -> AsyncGenerator[Move | Delta, None]:
    """The async twin of `iterate`."""
    from contextlib import aclosing

    from .drivers import aio

    session, first = _begin(workflow, input, options, "aiterate", deltas=deltas)
    session.listens = True
    with _Claim(session):
        async with aclosing(aio.drive(session, first, deltas=deltas)) as items:
            async for item in items:
                yield item


def resume(
    workflow: type[Workflow], run_id: str, *, answer: Answer | None = None, **options: Unpack[Options]
) -> Result:
    """Go on with a run that is parked, or whose process died. `journal=` is the store that holds it.

    Raises:
        RunError: no such run, another workflow's run, an answer where nothing is asked or of the wrong form; `system`
            or `tools` that changed since it began (R35).
        ConcurrentWriter: somebody else drives it.
    """
    from .drivers import sync

    session = _reopen(workflow, run_id, options, "resume")
    with _Claim(session):
        if first := _take_up(session, answer, "resume"):
            for _ in sync.drive(session, first):
                pass
    return _result(workflow, session)


async def aresume(
    workflow: type[Workflow], run_id: str, *, answer: Answer | None = None, **options: Unpack[Options]
) -> Result:
    """The same, awaited."""
    from .drivers import aio

    session = _reopen(workflow, run_id, options, "aresume")
    with _Claim(session):
        if first := _take_up(session, answer, "aresume"):
            async for _ in aio.drive(session, first):
                pass
    return _result(workflow, session)


def cancel(
    workflow: type[Workflow], run_id: str, *, reason: str = "cancelled by the user", **options: Unpack[Options]
) -> Result:
    """End a run that is parked, or whose process died: the event `cancel`. `journal=` is the store that holds it.

    The standard row leads to `cancelled`. Where the workflow leads `cancel` elsewhere, the run is driven on from there,
    which is what the other options are for, with a sync client. A run that somebody drives is stopped first: cancel its
    task, or press Ctrl-C.

    Args:
        workflow: the class that the run began with.
        run_id: names the run in the journal.
        reason: why, in words; it is recorded and stands in the verdict's evidence.
        options: `journal` (needed) and whatever else `Options` names.

    Returns:
        The run where it ended. Open calls are not run; `after=` starts a new run from its histories.

    Raises:
        UsageError: no `journal=`, options that cannot be; nothing was recorded.
        RunError: no such run, another workflow's run, a run that has ended, `system` or `tools` that changed since it
            began (R35); nothing was recorded.
        ConcurrentWriter: somebody drives it; stop that first, then cancel again.
    """
    from .drivers import sync

    session = _reopen(workflow, run_id, options, "cancel")
    if session.conversation.finished:
        msg = f"run '{run_id}' has ended in '{session.conversation.run.state}': there is nothing to cancel"
        raise RunError(msg)
    with _Claim(session):
        for _ in sync.drive(session, [Cancelled(session.clock(), reason)]):
            pass
    return _result(workflow, session)


class _Claim:
    """One driver a run; the claim ends with the drive, however it ends."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __enter__(self) -> None:
        self.session.store.claim(self.session.run_id)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.session.store.release(self.session.run_id)
        if isinstance(error, FsmError) and not isinstance(error, ConcurrentWriter):
            error.add_note(f"run_id: {self.session.run_id}")


def _begin(
    workflow: type[Workflow], given: Any, options: RunOptions, verb: str, *, deltas: bool = False
) -> tuple[Session, list[Event]]:
    messages = input_messages(given)
    run_id = options.get("run_id") or os.urandom(8).hex()
    session = _session(workflow, run_id, options, verb, deltas=deltas)
    session.toolbox.check_deps(session.deps, verb)
    heads = session.conversation.heads
    systems = _systems(workflow, options.get("deps"))
    limits = {**workflow.limits.given(), **(options.get("limits") or Limits()).given()}
    if not limits:
        _say_once_that_nothing_limits()
    if "money" in limits:
        _check_prices(workflow)
    if options.get("run_id") is not None and run_id in session.store.runs():
        msg = f"the journal has a run '{run_id}' already: resume() it, or choose another run_id"
        raise RunError(msg)
    after = options.get("after")
    started = Started(
        session.clock(),
        run_id,
        messages,
        tags=dict(session.tags),
        systems=systems,
        heads=heads.digests(systems),
        carried=after.carried() if after is not None else {},
        limits=limits,
    )
    return session, [started]


def _session(
    workflow: type[Workflow], run_id: str, options: Options | RunOptions, verb: str, *, deltas: bool = False
) -> Session:
    from random import random

    from ._conversation import Conversation
    from ._heads import Heads
    from .drivers._pump import Session

    if not isinstance(workflow, WorkflowType):
        msg = f"{verb}() takes a Workflow class, not {workflow!r}"
        raise UsageError(msg)
    is_async = verb in _ASYNC
    _check_options(options, verb)
    _check_client(options.get("client"), verb)
    store = options.get("journal")
    toolbox = workflow.toolbox
    return Session(
        conversation=Conversation(workflow.plan, Heads(workflow.graph, toolbox.definitions)),
        store=store if store is not None else MemoryStore(),
        run_id=run_id,
        toolbox=toolbox,
        make_client=lambda: options.get("client") or _default_client(is_async=is_async),
        deps=options.get("deps"),
        tags=options.get("tags") or {},
        clock=_checked_clock(options.get("clock")),
        draw=random,
        sleep=options.get("sleep") or _sleeper(is_async=is_async),
        ask=options.get("ask"),
        stream=bool(options.get("stream") or deltas or options.get("on_delta")),
        on_move=options.get("on_move"),
        on_delta=options.get("on_delta"),
        owns_client=options.get("client") is None,
    )


_TAKES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "journal": (lambda given: isinstance(given, Store), "a Store such as MemoryStore()"),
    "limits": (lambda given: isinstance(given, Limits), "Limits(...)"),
    "after": (lambda given: isinstance(given, Result), "the Result of a run that ended"),
    "run_id": (lambda given: isinstance(given, str) and bool(given), "a name"),
    "tags": (
        lambda given: isinstance(given, Mapping) and all(isinstance(t, str) for pair in given.items() for t in pair),
        "a dict of strings",
    ),
    **dict.fromkeys(("ask", "on_delta", "on_move", "clock", "sleep"), (callable, "a function")),
}


_TWINS = {"run": "arun", "iterate": "aiterate", "resume": "aresume"}
_ASYNC = {twin: verb for verb, twin in _TWINS.items()}
_BEGINS = frozenset({"run", "arun", "iterate", "aiterate"})


def _checked_clock(clock: Callable[[], float] | None) -> Callable[[], float]:
    """The clock, refusing what is no time before it is recorded."""
    if clock is None:
        return time.time
    told = clock

    def now() -> float:
        at: Any = told()
        if isinstance(at, bool) or not isinstance(at, (int, float)) or not isfinite(at):
            msg = f"clock= returned {at!r}: it returns seconds since the epoch"
            raise UsageError(msg)
        return at

    return now


def _check_options(options: Options | RunOptions, verb: str) -> None:
    """Refuse an option that is unknown or of the wrong type, and an async function where nothing awaits it.

    Raises:
        UsageError: the message names the option.
    """
    known = (RunOptions if verb in _BEGINS else Options).__annotations__
    unknown = set(options) - set(known)
    if unknown:
        msg = f"{verb}(): unknown option {min(unknown)!r}; known: {', '.join(known)}"
        raise UsageError(msg)
    for name, given in options.items():
        fits, form = _TAKES.get(name, (None, ""))
        if given is not None and fits is not None and not fits(given):
            msg = f"{name}= takes {form}, not {given!r}"
            raise UsageError(msg)
        if verb not in _ASYNC and inspect.iscoroutinefunction(given):
            instead = f"use {_TWINS[verb]}()" if verb in _TWINS else "give a plain function"
            msg = f"{name}= is an async function, which {verb}() does not await: {instead}"
            raise UsageError(msg)


def _sleeper(*, is_async: bool) -> Callable[[float], Any]:
    if not is_async:
        return time.sleep
    import asyncio

    return asyncio.sleep


def _check_client(given: Any, verb: str) -> None:
    if given is None:
        return
    is_async = verb in _ASYNC
    post = getattr(given, "post", None)
    if post is None or inspect.iscoroutinefunction(post) != is_async:
        kind = "AsyncAnthropic" if is_async else "Anthropic"
        twin = {**_TWINS, **_ASYNC}.get(verb)
        fitting = "" if post is None or twin is None else f"; {twin}() takes this one"
        msg = f"{verb}() needs a client of the kind anthropic.{kind}, not {type(given).__name__}{fitting}"
        raise UsageError(msg)


def _default_client(*, is_async: bool) -> Any:
    from . import _sdk

    return _sdk.default_async_client() if is_async else _sdk.default_client()


def _systems(workflow: type[Workflow], deps: Any) -> dict[str, Any]:
    """What the `system=` functions give, once a run: frozen from here on (R35)."""
    made = {}
    for node in workflow.graph.nodes:
        if isinstance(node.state, Claude) and callable(node.state.system):
            try:
                text = node.state.system(deps)
            except Exception as error:
                msg = f"the system= function of '{node.name}' failed: {type(error).__name__}: {error}"
                raise UsageError(msg) from error
            if not isinstance(text, str) or unsendable(text) is not None:
                msg = f"the system= function of '{node.name}' returned {text!r}: it returns text"
                raise UsageError(msg)
            made[node.name] = text
    return made


def input_messages(given: Any) -> tuple[Mapping[str, Any], ...]:
    """The input of a run as messages.

    Raises:
        UsageError: nothing, or nothing that can be said.
    """
    if isinstance(given, (list, tuple)) and given and all(isinstance(m, Mapping) and "role" in m for m in given):
        for number, message in enumerate(given):
            if not isinstance(message.get("content"), (str, list, tuple)) and message["role"] != "system":  # R8
                msg = f"message {number} of the input has no content: give text or a list of content blocks"
                raise UsageError(msg)
        return tuple(given)
    if isinstance(given, str) and not given.strip():
        msg = "the input is empty: give text, content blocks or a list of messages"
        raise UsageError(msg)
    try:
        return ({"role": "user", "content": as_blocks(given)},)
    except DeclarationError:
        msg = f"the input is text, content blocks or a list of messages, not {given!r}"
        raise UsageError(msg) from None


def _check_prices(workflow: type[Workflow]) -> None:
    from ._prices import price_of

    for node in workflow.graph.nodes:
        if isinstance(node.state, Claude) and price_of(node.state.model, {}) is None:
            msg = (
                f"the price of '{node.state.model}' ('{node.name}') is unknown, so Limits(money=) cannot be kept: "
                "limit tokens= instead"
            )
            raise UsageError(msg)


_said_once: list[bool] = []


def _say_once_that_nothing_limits() -> None:
    if not _said_once:
        from .drivers._pump import log

        _said_once.append(True)
        log.info("runs have no limits; pass limits=Limits(turns=...) to bound what a run may use")


def _reopen(workflow: type[Workflow], run_id: str, options: Options, verb: str) -> Session:
    if options.get("journal") is None:
        msg = f"{verb}() needs journal=: the store that holds the run"
        raise UsageError(msg)
    session = _session(workflow, run_id, options, verb)
    records = session.store.read(run_id)
    begun = records[0].data
    if begun["workflow"] != workflow.name:
        msg = f"run '{run_id}' is a run of '{begun['workflow']}', not of '{workflow.name}'"
        raise RunError(msg)
    changed = [s for s, d in session.conversation.heads.digests(begun["systems"]).items() if begun["heads"].get(s) != d]
    if changed:
        msg = (
            f"run '{run_id}' began with another model, system, tools or parameters in {', '.join(changed)}: its "
            "history is bound to them (R35). Resume it with the workflow it began with, or start a new run with after="
        )
        raise RunError(msg)
    session.conversation.fold(records)
    session.durable = session.conversation.run.seq
    session.moves = session.conversation.run.moves
    session.tags = begun["tags"]
    return session


def _take_up(session: Session, answer: Answer | None, verb: str) -> list[Event]:
    from .drivers._pump import answer_event

    conversation = session.conversation
    if conversation.finished:
        if answer is not None:
            msg = f"run '{session.run_id}' has ended in '{conversation.run.state}': there is nothing to answer"
            raise RunError(msg)
        return []
    session.toolbox.check_deps(session.deps, verb)
    now = session.clock()
    if answer is None:
        return [Resumed(now), TimePassed(now)]
    question = conversation.question()
    if question is None:
        msg = f"run '{session.run_id}' asks nobody in state '{conversation.run.state}': there is nothing to answer"
        raise RunError(msg)
    return [answer_event(now, question, answer, session.toolbox)]


def _result(workflow: type[Workflow], session: Session) -> Result:
    conversation = session.conversation
    records = tuple(session.store.read(session.run_id))
    return Result(workflow, session.run_id, conversation.verdict(), records, conversation)


def ask_on_terminal(question: Question) -> Answer | None:
    """A ready-made `ask=`: asks on the terminal. An empty answer, or end of input, parks the run."""
    from ._terminal import ask

    return ask(question)
