"""A run record by record: what it was after each, and where it may be cut."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ._conversation import Conversation
from ._conversation._run_state import RunState
from ._conversation._view import verdict_of
from ._opening import store_of
from ._records import Record, Verdict
from ._versions import heads_of, records_of
from ._workflow import Workflow
from .journal import Store

_HALF = frozenset({"open", "reply", "error", "answer", "code.end", "wake"})  # what was decided on it comes next
_ABOUT_TO_ASK = frozenset({"open", "say", "move", "wake", "resume", "migrate"})


def steps(
    workflow: type[Workflow], run_id: str, *, journal: Store | str | os.PathLike[str]
) -> Iterator[tuple[Record, Verdict]]:
    """Fold a run one record at a time: each record, and how the run stood after it.

    The verdicts leave `request_ids` out: replies and errors among the records name theirs.

    Args:
        workflow: the class of the run.
        run_id: names it in the journal.
        journal: the store that holds it, its file or its URL; it is read while you iterate.

    Raises:
        RunError: no such run.
        JournalError: the journal cannot be read.
    """
    conversation = Conversation(workflow.plan, heads_of(workflow))
    for record in records_of(workflow, store_of(journal), run_id):
        conversation.fold((record,))
        yield record, verdict_of(conversation.run, names_requests=False)


def is_whole(run: RunState, kind: str, state: str) -> bool:
    """Whether an event was taken in to its end with a record of this kind; `state` is the kind of the state.

    Records are committed by the event, so a crash cuts nowhere else, and what is left to do follows from the state.
    """
    if run.closed is not None or run.parked is not None:
        return True
    if kind in _HALF:
        return False
    waits = {
        "Claude": run.request is not None or run.wait_until is not None,
        "Tools": any(call.begun and call.end is None for call in run.open.values()),
        "Code": run.code is not None,
    }
    return waits.get(state, run.asked is not None)


def may_end(run: RunState, kind: str, state: str) -> bool:
    """Whether a fork may end here: at the end of an event, or where a request is about to be sent.

    Never behind a request: the fork sends its own.
    """
    if run.request is not None:
        return False
    return is_whole(run, kind, state) or (state == "Claude" and kind in _ABOUT_TO_ASK)
