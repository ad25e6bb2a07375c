"""Putting a `Session` together: options are checked, a run is begun anew or folded from its journal.

Everything that is slow to import is imported inside.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING, Any, TypedDict

from attrs import evolve

from ._actions import Question
from ._effects import as_blocks
from ._errors import ConcurrentWriter, DeclarationError, FsmError, JournalError, RunError, UsageError
from ._events import Event, Resumed, Started, TimePassed
from ._notes import model_notes
from ._params import Limits, unsendable
from ._records import Move
from ._result import Answer, Result
from ._states import Claude
from ._strands import listed, refusal, thinking_unbound
from ._summary import RunSummary
from ._versions import fingerprint, fold_run, migration, records_of, why_lost
from ._workflow import Workflow, WorkflowType
from .journal import MemoryStore, Store, has_run

if TYPE_CHECKING:
    from ._wire import Delta
    from .drivers._pump import Session

Ask = Callable[[Question], Answer | Awaitable[Answer | None] | None]


class Options(TypedDict, total=False):
    """What `run`, `arun`, `iterate`, `aiterate`, `resume` and `aresume` take.

    deps: given to tools and `Code` as `Context.deps`; never recorded.
    client: an `anthropic` client; made from the environment when it is missing.
    journal: a file, the URL of a database, or a `Store`; in memory when it is missing.
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
    journal: Store | str | os.PathLike[str] | None
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


class Claim:
    """One driver a run; the claim ends with the drive, however it ends."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __enter__(self) -> None:
        self.session.store.claim(self.session.run_id)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.session.store.release(self.session.run_id)
        if isinstance(error, FsmError) and not isinstance(error, ConcurrentWriter):
            error.add_note(f"run_id: {self.session.run_id}")


def begin(
    workflow: type[Workflow], given: Any, options: RunOptions, verb: str, *, deltas: bool = False
) -> tuple[Session, list[Event]]:
    messages = input_messages(given)
    run_id = options.get("run_id") or os.urandom(8).hex()
    session = _session(workflow, run_id, options, verb, deltas=deltas)
    session.toolbox.check_deps(session.deps, verb)
    systems = systems_of(workflow, options.get("deps"))
    heads = session.conversation.heads.digests(systems)
    limits = {**workflow.limits.given(), **(options.get("limits") or Limits()).given()}
    if not limits:
        _say_once_that_nothing_limits()
    _say_once_of_models(workflow)
    if "money" in limits:
        _check_prices(workflow)
    if options.get("run_id") is not None and has_run(session.store, run_id):
        raise RunError(_there_already(session.store.summary(run_id)))
    after = options.get("after")
    carried = after.carried() if after is not None else {}
    if after is not None:
        _check_prefix(workflow, after, carried, heads)
    started = Started(
        session.clock(),
        run_id,
        messages,
        tags=dict(session.tags),
        systems=systems,
        heads=heads,
        carried=carried,
        limits=limits,
        fingerprint=fingerprint(workflow),
    )
    return session, [started]


def _there_already(run: RunSummary) -> str:
    """What can be done instead of beginning a run that is there."""
    there = f"the journal has a run '{run.run_id}' already"
    if run.status == "ended":
        return (
            f"{there}, which has ended in '{run.state}': choose another run_id; resume() gives its result, and after= "
            "that goes on from its history"
        )
    how = "resume(answer=...) answers it" if run.waits_for == "person" else "resume() goes on with it"
    return f"{there}, which has not ended (it is in '{run.state}'): {how}, or choose another run_id"


def _check_prefix(
    workflow: type[Workflow],
    after: Result,
    carried: Mapping[str, tuple[str, ...]],
    heads: Mapping[str, Mapping[str, str]],
) -> None:
    """Thinking is bound to the system and the tools that it was thought under: others are refused (R35).

    Raises:
        RunError: a history with thinking would go on with another system or other tools, to a model that binds it or
            is not known; the message names the states and the parts.
    """
    before: dict[str, list[Mapping[str, str]]] = {}
    for node in after.workflow.graph.nodes:
        if isinstance(node.state, Claude):
            sent = before.setdefault(node.state.history or "main", [])
            sent.append(after.records[0].data["heads"].get(node.name, {}))
    changed = thinking_unbound(
        workflow,
        heads,
        ("system", "tools"),
        sent=lambda history, _: before.get(history, ()),
        said=lambda history: carried.get(history, ()),
    )
    if changed:
        msg = (
            f"after= goes on from run '{after.run_id}', which was sent another {listed(changed)}: its thinking is "
            "bound to that, and the API refuses the next request (R35). Keep both as they were, or give the state a "
            'history= of its own with continues="main": such a copy drops the thinking'
        )
        raise RunError(msg)


def _session(
    workflow: type[Workflow], run_id: str, options: Options | RunOptions, verb: str, *, deltas: bool = False
) -> Session:
    from random import random

    from ._conversation import Conversation
    from ._conversation._heads import Heads
    from .drivers._pump import Session

    if not isinstance(workflow, WorkflowType):
        msg = f"{verb}() takes a Workflow class, not {workflow!r}"
        raise UsageError(msg)
    is_async = verb in _ASYNC
    _check_options(options, verb)
    if not is_name(run_id):
        msg = f"run_id= takes a name, not {run_id!r}"
        raise UsageError(msg)
    _check_client(options.get("client"), verb)
    store = store_of(options.get("journal"))
    toolbox = workflow.toolbox
    return Session(
        conversation=Conversation(workflow.plan, Heads(workflow.graph, toolbox.definitions)),
        store=store,
        run_id=run_id,
        recorded=lambda: records_of(workflow, store, run_id),
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


def store_of(given: Store | str | os.PathLike[str] | None) -> Store:
    """The store that `journal=` names; one in memory where it names none."""
    if given is None:
        return MemoryStore()
    if isinstance(given, (str, os.PathLike)):
        from .stores import shared_store

        return shared_store(given)
    return given


def is_name(given: Any) -> bool:
    """Whether a run can be named so: text, which half of a surrogate pair is not."""
    return isinstance(given, str) and bool(given) and unsendable(given) is None


_TAKES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "journal": (
        lambda given: isinstance(given, (str, os.PathLike, Store)),
        'a file such as "runs.db", "postgresql://...", or a Store',
    ),
    "limits": (lambda given: isinstance(given, Limits), "Limits(...)"),
    "after": (lambda given: isinstance(given, Result), "the Result of a run that ended"),
    "run_id": (is_name, "a name"),
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


def systems_of(workflow: type[Workflow], deps: Any) -> dict[str, Any]:
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
    if isinstance(given, (str, list, tuple)) and (why := unsendable(given)) is not None:
        msg = f"the input cannot be sent: {why} (R26)"
        raise UsageError(msg)
    try:
        return ({"role": "user", "content": as_blocks(given)},)
    except DeclarationError:
        msg = f"the input is text, content blocks or a list of messages, not {given!r}"
        raise UsageError(msg) from None


def _check_prices(workflow: type[Workflow]) -> None:
    from ._prices import price_of

    models = [(n.name, n.state.model) for n in workflow.graph.nodes if isinstance(n.state, Claude)]
    models += [(edge.source, e.model) for edge in workflow.graph.edges for e in edge.effects if e.model is not None]
    for name, model in models:
        if price_of(model, {}) is None:
            msg = (
                f"the price of '{model}' ('{name}') is unknown, so Limits(money=) cannot be kept: limit tokens= instead"
            )
            raise UsageError(msg)


_said_once: list[bool] = []


def _say_once_that_nothing_limits() -> None:
    if not _said_once:
        from .drivers._pump import log

        _said_once.append(True)
        log.info("runs have no limits; pass limits=Limits(turns=...) to bound what a run may use")


_models_said: set[str] = set()


def _say_once_of_models(workflow: type[Workflow]) -> None:
    from .drivers._pump import log

    models = [n.state.model for n in workflow.graph.nodes if isinstance(n.state, Claude)]
    for note in model_notes(m for m in models if m not in _models_said):
        log.warning(note)
    _models_said.update(models)


@contextmanager
def reopened(workflow: type[Workflow], run_id: str, options: Options, verb: str) -> Iterator[Session]:
    """The session of a run that is there. It is claimed before it is read, so that nobody goes on with it between."""
    if options.get("journal") is None:
        msg = f"{verb}() needs journal=: the store that holds the run"
        raise UsageError(msg)
    session = _session(workflow, run_id, options, verb)
    with Claim(session):
        try:
            _fold_journal(workflow, session)
        except JournalError:
            if verb != "cancel" or not _stands_by_outline(workflow, session):
                raise
        yield session


def _stands_by_outline(workflow: type[Workflow], session: Session) -> bool:
    """Whether a run whose texts cannot be read, or were changed, can be ended without them; then it stands so.

    Raises:
        RunError: the arrow of `cancel` does not end it.
        JournalError: it is damaged.
    """
    outline = getattr(session.store, "outline", None)
    if outline is None:
        return False
    summary = session.store.summary(session.run_id)
    state = workflow.renamed.get(summary.state, summary.state)
    row = workflow.graph.row(state, "cancel")
    if summary.status != "ended":
        for edge in row:
            if edge.guard is not None or edge.effects or not workflow.graph.by_name[edge.dest].is_final:
                msg = (
                    f"run '{session.run_id}' cannot be ended without what was said in it, which is erased, redacted or "
                    f"sealed: in '{state}' cancel leads to '{edge.dest}', which needs that. Delete it: fsm runs rm"
                )
                raise RunError(msg)
    parked = summary.reason if summary.status == "parked" else None
    session.conversation.stand_by(outline(session.run_id), state, parked=parked)
    session.durable, session.moves, session.tags = summary.records, summary.moves, summary.tags
    return True


def _fold_journal(workflow: type[Workflow], session: Session) -> None:
    run_id, conversation = session.run_id, session.conversation
    begun = session.store.summary(run_id).workflow
    if begun != workflow.name:
        msg = (
            f"run '{run_id}' is a run of '{begun}', not of '{workflow.name}'; a class that was renamed keeps the name "
            f"of its runs: class {workflow.__name__}(Workflow, name={begun!r})"
        )
        raise RunError(msg)
    if strands := fold_run(workflow, conversation, session.store, run_id):
        raise RunError(refusal(run_id, workflow, strands))
    session.upgrade = migration(workflow, conversation, session.clock)
    session.durable, session.shown = conversation.run.seq, True
    session.moves = conversation.run.moves
    session.tags = conversation.run.tags


def take_up(session: Session, answer: Answer | None, verb: str, number: int | None = None) -> list[Event]:
    """What is fed first: nothing where a person is asked still, as only an answer makes that journal longer (D12).

    Params: `number` of the question that the answer is for; without one it is for whatever is asked.
    """
    from .drivers._pump import answer_event

    conversation = session.conversation
    if number is not None:
        check_question(session, number, answer)
    if conversation.finished:
        if answer is not None:
            msg = f"run '{session.run_id}' has ended in '{conversation.run.state}': there is nothing to answer"
            raise RunError(msg)
        return []
    session.toolbox.check_deps(session.deps, verb)
    now = session.clock()
    question = conversation.question()
    if answer is None:
        if question is not None and not conversation.run.is_expired(now) and not session.upgrade:
            return []
        _warn_of_recoveries(session)
        return [*session.upgrade, Resumed(now), TimePassed(now)]
    if question is None:
        msg = f"run '{session.run_id}' asks nobody in state '{conversation.run.state}': there is nothing to answer"
        raise RunError(msg)
    return [*session.upgrade, answer_event(now, question, answer, session.toolbox)]


def check_question(session: Session, number: int, answer: Any) -> None:
    """Refuse an answer to another question than the one that is open: whoever gave it did not see that one.

    Raises:
        UsageError: `number` is none, or there is no answer.
        RunError: the question was answered already, its time ran out, or there never was one; nothing was recorded.
    """
    if isinstance(number, bool) or not isinstance(number, int):
        msg = f"question= takes the number of a question (result.question.number), not {number!r}"
        raise UsageError(msg)
    if answer is None:
        msg = "question= says which question answer= is for: give both, or neither"
        raise UsageError(msg)
    conversation = session.conversation
    question = conversation.question()
    if question is not None and question.number == number:
        return
    now = f"it asks nobody in state '{conversation.run.state}'"
    if question is not None:
        names = ", ".join(call.name for call in question.calls)
        now = f"asked now is question {question.number}, in state '{question.state}'{names and f': {names}'}"
    elif conversation.finished:
        now = f"it has ended in '{conversation.run.state}'"
    msg = f"{_became_of(session, number)} {now}; nothing was recorded"
    raise RunError(msg)


def _became_of(session: Session, number: int) -> str:
    """What happened to a question that is not open."""
    question, is_asked = f"question {number} of run '{session.run_id}'", False
    for record in session.recorded():
        if record.seq == number:
            is_asked = record.kind == "asked"
        elif is_asked and record.kind == "answer":
            return f"{question} was answered already, and"
        elif is_asked and record.kind == "move":
            is_late = record.data["event"] == "expired"
            return f"the time to answer {question} ran out, and" if is_late else f"{question} is asked no more:"
    return f"run '{session.run_id}' has no question {number}:"


WORRYING_RECOVERIES = 10
"""D12: so many recoveries without a new reply are worth a warning."""


def _warn_of_recoveries(session: Session) -> None:
    from ._conversation._evidence import MAX_RECOVERIES
    from .drivers._pump import log, one_line

    run = session.conversation.run
    times = run.recoveries + 1
    if run.parked is None and times >= WORRYING_RECOVERIES:
        log.warning(
            "run=%s was taken up %d times after its process died in state '%s', with no new reply in between; after "
            "%d times it is stuck (D12)",
            one_line(session.run_id), times, run.state, MAX_RECOVERIES,
        )  # fmt: skip


def result_of(workflow: type[Workflow], session: Session) -> Result:
    conversation = session.conversation.as_it_stands()
    verdict = conversation.verdict()
    if (
        verdict.resumable
        and getattr(session.store, "redacts", False)
        and (why := why_lost(session.store, session.run_id))
    ):
        verdict = evolve(verdict, resumable=False, evidence={**verdict.evidence, "not_resumable": str(why)})
    return Result(workflow, session.run_id, verdict, session.store, conversation)
