"""`run` and its kin: a workflow, an input, and what came of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from ._actions import Question
from ._errors import RunError
from ._events import Cancelled, Event
from ._opening import Claim, Options, RunOptions, begin, reopened, result_of, take_up
from ._records import Move
from ._result import Answer, Result
from ._workflow import Workflow

if TYPE_CHECKING:
    from ._wire import Delta
    from .drivers._pump import Session


def run(workflow: type[Workflow], input: Any, **options: Unpack[RunOptions]) -> Result:
    """Run a workflow until it ends or parks. `input` is text, content blocks, or a list of messages.

    Raises:
        UsageError: no key, an async client, options that cannot be.
        JournalError: the journal could not be written; nothing was sent that it does not hold, and tools that run are
            not waited for. `resume` with a store that was opened anew goes on.
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


class _Iterated:
    """A run that somebody iterates over."""

    def __init__(
        self, workflow: type[Workflow], given: Any, options: RunOptions, verb: str, *, deltas: bool = False
    ) -> None:
        self._workflow = workflow
        self._session, self._first = begin(workflow, given, options, verb, deltas=deltas)
        self._session.listens = True

    @property
    def result(self) -> Result:
        """The run as it stands now, or where it ended; what comes after is not in it.

        Raises:
            RunError: nothing has happened yet; take a move first.
        """
        if not self._session.durable:
            msg = f"run '{self._session.run_id}' has not begun: there is a result once the first move was taken"
            raise RunError(msg)
        return result_of(self._workflow, self._session)


class Iteration(_Iterated, Iterator["Move | Delta"]):
    """What `iterate` gives: the moves one by one, and `result`. `close` parks the run, as leaving the loop does."""

    def __init__(
        self, workflow: type[Workflow], given: Any, options: RunOptions, verb: str, *, deltas: bool = False
    ) -> None:
        super().__init__(workflow, given, options, verb, deltas=deltas)
        self._items = _driven(self._session, self._first, deltas=deltas)

    def __next__(self) -> Move | Delta:
        """The next move, once it is recorded, or delta."""
        return next(self._items)

    def close(self) -> None:
        """Park the run, if it has not ended."""
        self._items.close()


class AsyncIteration(_Iterated, AsyncIterator["Move | Delta"]):
    """What `aiterate` gives: the async twin of `Iteration`."""

    def __init__(
        self, workflow: type[Workflow], given: Any, options: RunOptions, verb: str, *, deltas: bool = False
    ) -> None:
        super().__init__(workflow, given, options, verb, deltas=deltas)
        self._items = _driven_async(self._session, self._first, deltas=deltas)

    def __anext__(self) -> Coroutine[Any, Any, Move | Delta]:
        """The next move, once it is recorded, or delta."""
        return self._items.__anext__()

    async def aclose(self) -> None:
        """Park the run, if it has not ended."""
        await self._items.aclose()


def _driven(session: Session, first: Sequence[Event], *, deltas: bool) -> Generator[Move | Delta, None, None]:
    from .drivers import sync

    with Claim(session):
        yield from sync.drive(session, first, deltas=deltas)


async def _driven_async(
    session: Session, first: Sequence[Event], *, deltas: bool
) -> AsyncGenerator[Move | Delta, None]:
    from contextlib import aclosing

    from .drivers import aio

    with Claim(session):
        async with aclosing(aio.drive(session, first, deltas=deltas)) as items:
            async for item in items:
                yield item


def iterate(workflow: type[Workflow], input: Any, *, deltas: bool = False, **options: Unpack[RunOptions]) -> Iteration:
    """Run a workflow and give each `Move` once it is recorded; with `deltas` also each `Delta` of a stream.

    Leaving the loop parks the run; `resume` goes on from its journal. `result` of what is returned is how the run
    stands; to read it after leaving a loop early, close it first, as `contextlib.closing` does.

    Raises:
        UsageError: as `run`, at once.
    """
    return Iteration(workflow, input, options, "iterate", deltas=deltas)


def aiterate(
    workflow: type[Workflow], input: Any, *, deltas: bool = False, **options: Unpack[RunOptions]
) -> AsyncIteration:
    """The async twin of `iterate`; `contextlib.aclosing` closes it."""
    return AsyncIteration(workflow, input, options, "aiterate", deltas=deltas)


def resume(
    workflow: type[Workflow],
    run_id: str,
    *,
    answer: Answer | None = None,
    question: int | None = None,
    **options: Unpack[Options],
) -> Result:
    """Go on with a run that is parked, or whose process died. `journal=` is the store that holds it.

    What was recorded is not done again; an unanswered request is sent again (B2); a tool that had begun is run again
    only if it is `idempotent`, else its outcome is unknown (B3). Where a person is asked, `ask=` is asked again, and
    without an answer nothing is recorded. After `JournalError` pass a store that was opened anew.

    Args:
        workflow: the class that the run began with, or a newer version of it.
        run_id: names the run in the journal.
        answer: what a person decided or said, for a run that is parked for one.
        question: `result.question.number` of the question that the answer is for. An answer that may be delivered twice
            needs it: a later question is never answered by it.
        options: `journal` (needed) and whatever else `Options` names.

    Raises:
        RunError: no such run, another workflow's run, an answer where nothing is asked, for another question than the
            one that is open, or of the wrong form; `system` or `tools` that changed since it began (R35).
        ConcurrentWriter: somebody else drives it; an answer was not recorded: give it again when that one has parked.
        JournalError: the journal could not be written; nothing was done that it does not hold.
    """
    from .drivers import sync

    with reopened(workflow, run_id, options, "resume") as session:
        first = take_up(session, answer, "resume", question)
        if not session.conversation.finished:
            for _ in sync.drive(session, first):
                pass
    return result_of(workflow, session)


async def aresume(
    workflow: type[Workflow],
    run_id: str,
    *,
    answer: Answer | None = None,
    question: int | None = None,
    **options: Unpack[Options],
) -> Result:
    """The same, awaited."""
    from .drivers import aio

    with reopened(workflow, run_id, options, "aresume") as session:
        first = take_up(session, answer, "aresume", question)
        if not session.conversation.finished:
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

    with reopened(workflow, run_id, options, "cancel") as session:
        if session.conversation.finished:
            msg = f"run '{run_id}' has ended in '{session.conversation.run.state}': there is nothing to cancel"
            raise RunError(msg)
        for _ in sync.drive(session, [*session.upgrade, Cancelled(session.clock(), reason)]):
            pass
    return result_of(workflow, session)


def ask_on_terminal(question: Question) -> Answer | None:
    """A ready-made `ask=`: asks on the terminal. An empty answer, or end of input, parks the run."""
    from ._terminal import ask

    return ask(question)
