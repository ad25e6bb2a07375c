"""`run` and its kin: a workflow, an input, and what came of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Any, Unpack

from ._actions import Question
from ._errors import RunError
from ._events import Cancelled
from ._opening import Claim, Options, RunOptions, begin, reopen, result_of, take_up
from ._records import Move
from ._result import Answer, Result
from ._workflow import Workflow

if TYPE_CHECKING:
    from ._wire import Delta


def run(workflow: type[Workflow], input: Any, **options: Unpack[RunOptions]) -> Result:
    """Run a workflow until it ends or parks. `input` is text, content blocks, or a list of messages.

    Raises:
        UsageError: no key, an async client, options that cannot be.
        JournalError: the journal could not be written; nothing was sent that it does not hold.
    """
    from .drivers import sync

    session, first = begin(workflow, input, options, "run")
    with Claim(session):
        for _ in sync.drive(session, first):
            pass
    return result_of(workflow, session)


async def arun(workflow: type[Workflow], input: Any, **options: Unpack[RunOptions]) -> Result:
    """The same, awaited. A cancelled task parks the run and the cancellation goes on."""
    from .drivers import aio

    session, first = begin(workflow, input, options, "arun")
    with Claim(session):
        async for _ in aio.drive(session, first):
            pass
    return result_of(workflow, session)


def iterate(
    workflow: type[Workflow], input: Any, *, deltas: bool = False, **options: Unpack[RunOptions]
) -> Iterator[Move | Delta]:
    """Run a workflow and give each `Move` once it is recorded; with `deltas` also each `Delta` of a stream.

    Leaving the loop parks the run; `resume` goes on from its journal.
    """
    from .drivers import sync

    session, first = begin(workflow, input, options, "iterate", deltas=deltas)
    session.listens = True
    with Claim(session):
        yield from sync.drive(session, first, deltas=deltas)


async def aiterate(
    workflow: type[Workflow], input: Any, *, deltas: bool = False, **options: Unpack[RunOptions]
) -> AsyncGenerator[Move | Delta, None]:
    """The async twin of `iterate`."""
    from contextlib import aclosing

    from .drivers import aio

    session, first = begin(workflow, input, options, "aiterate", deltas=deltas)
    session.listens = True
    with Claim(session):
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

    session = reopen(workflow, run_id, options, "resume")
    with Claim(session):
        if first := take_up(session, answer, "resume"):
            for _ in sync.drive(session, first):
                pass
    return result_of(workflow, session)


async def aresume(
    workflow: type[Workflow], run_id: str, *, answer: Answer | None = None, **options: Unpack[Options]
) -> Result:
    """The same, awaited."""
    from .drivers import aio

    session = reopen(workflow, run_id, options, "aresume")
    with Claim(session):
        if first := take_up(session, answer, "aresume"):
            async for _ in aio.drive(session, first):
                pass
    return result_of(workflow, session)


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

    session = reopen(workflow, run_id, options, "cancel")
    if session.conversation.finished:
        msg = f"run '{run_id}' has ended in '{session.conversation.run.state}': there is nothing to cancel"
        raise RunError(msg)
    with Claim(session):
        for _ in sync.drive(session, [Cancelled(session.clock(), reason)]):
            pass
    return result_of(workflow, session)


def ask_on_terminal(question: Question) -> Answer | None:
    """A ready-made `ask=`: asks on the terminal. An empty answer, or end of input, parks the run."""
    from ._terminal import ask

    return ask(question)
