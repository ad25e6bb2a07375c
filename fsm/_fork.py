"""`fork`: a new run that begins with a copy of another one's records."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from ._conversation import Conversation
from ._conversation._run_state import RunState
from ._effects import as_blocks
from ._errors import DeclarationError, RunError, UsageError
from ._ledger import Standing
from ._legality import Legality
from ._opening import is_name, store_of, systems_of
from ._records import Record
from ._states import Claude
from ._steps import may_end
from ._strands import fold_checked, listed, thinking_unbound
from ._versions import as_said, fingerprint, heads_of, records_of
from ._workflow import Workflow, WorkflowType
from .journal import Store, has_run

_BOUND = ("model", "system", "tools")  # R35


@frozen
class _Prefix:
    """The records that a fork begins with, and what they fold to."""

    records: tuple[Record, ...]
    run: RunState


def fork(
    workflow: type[Workflow],
    run_id: str,
    *,
    at: int,
    journal: Store | str | os.PathLike[str],
    new_id: str | None = None,
    say: Any = None,
    tags: Mapping[str, str] | None = None,
    deps: Any = None,
    clock: Callable[[], float] = time.time,
) -> str:
    """Begin a new run with a copy of another one's records below number `at`; `resume` goes on with it.

    The copy is cut back to the end of an event, or to where a request is about to be sent; the first record of the new
    run says where, `forked: {run_id, at, ...}`. Nothing of the other run changes. What tools gave is kept; calls that
    had begun and not ended by then are of unknown outcome, and not run again silently (B3). A tool that hands
    `ctx.tool_use_id` to somebody as idempotency key gets the first run's effect back; with `ctx.run_id` in the key, a
    fork acts anew.

    Args:
        workflow: what the new run goes on with: the same class, another version, or another workflow that has the
            states which the records name.
        run_id: the run that is copied; it may go on meanwhile.
        at: the first record that is not copied. At an `asked` record's successor, give `resume` another answer.
        journal: the store that holds both, its file or its URL.
        new_id: names the new run; made when it is missing.
        say: text or content blocks, said in place of the words (the input, a prompt, what a person said) that no copied
            request has sent yet; results of tools stay before it. The cut must lie where a request is about to be sent.
        tags: those of the new run; the same when they are missing.
        deps: for the `system=` functions of another workflow or version, which are called anew.
        clock: seconds since the epoch.

    Returns:
        The id of the new run.

    Raises:
        RunError: no such run or record, a workflow that cannot take the records up, a model, `system` or `tools` that
            the thinking in a history is not bound to (R35), nothing to be said there; nothing was written.
        JournalError: the journal could not be read or written.
    """
    if not isinstance(workflow, WorkflowType):
        msg = f"fork() takes a Workflow class, not {workflow!r}"
        raise UsageError(msg)
    if new_id is not None and not is_name(new_id):
        msg = f"new_id= takes a name, not {new_id!r}"
        raise UsageError(msg)
    if tags is not None and not all(isinstance(text, str) for pair in tags.items() for text in pair):
        msg = f"tags= takes a dict of strings, not {tags!r}"
        raise UsageError(msg)
    store = store_of(journal)
    made_id = new_id or os.urandom(8).hex()
    if has_run(store, made_id):
        msg = f"the journal has a run '{made_id}' already: choose another new_id"
        raise RunError(msg)
    prefix = _prefix(workflow, store, run_id, at, replaces=say is not None)
    first = prefix.records[0].data
    is_same = prefix.run.fingerprint == fingerprint(workflow) and first["workflow"] == workflow.name
    systems = prefix.run.systems if is_same else systems_of(workflow, deps)
    heads = heads_of(workflow).digests(systems)
    if not is_same:
        _check_bound(workflow, run_id, prefix, heads)
    opened = {
        **first,
        "workflow": workflow.name,
        "run_id": made_id,
        "tags": dict(first["tags"] if tags is None else tags),
        "systems": systems,
        "heads": heads,
        "fingerprint": fingerprint(workflow),
        "forked": {"run_id": run_id, "at": len(prefix.records), "fingerprint": prefix.run.fingerprint},
    }
    ending = [] if say is None else [_said(workflow, run_id, prefix, say, clock)]
    if prefix.run.closed is None and prefix.run.parked is None:
        reason = "interrupted" if prefix.run.asked is None else "waiting_person"
        ending.append(Record(len(prefix.records) + len(ending), "park", clock(), {"reason": reason}))
    copied = [_in_version(record, fingerprint(workflow)) for record in prefix.records[1:]]
    store.append(made_id, [evolve(prefix.records[0], data=opened), *copied, *ending])
    return made_id


def _in_version(record: Record, version: str) -> Record:
    """The names in a copy are those of now, so a migration that is copied renames nothing any more."""
    if record.kind != "migrate":
        return record
    return evolve(record, data={**record.data, "from": version, "to": version, "renamed": {}})


def _prefix(workflow: type[Workflow], store: Store, run_id: str, at: int, *, replaces: bool) -> _Prefix:
    """The longest part of the records below `at` that a run may end with; without words that others stand for."""
    there = store.summary(run_id).records
    if isinstance(at, bool) or not isinstance(at, int) or not 0 < at <= there:
        msg = f"run '{run_id}' has {there} records: at= is the number of the first one not to copy, 1 to {there}"
        raise RunError(msg)
    graph = workflow.graph
    conversation = Conversation(workflow.plan, heads_of(workflow))
    copied: list[Record] = []
    cut, run = 0, conversation.run
    for record in as_said(records_of(workflow, store, run_id), run_id):
        if record.seq >= at:
            break
        unfit = [s for s in fold_checked(workflow, conversation, (record,), is_partial=True) if s.what != "outcome"]
        if unfit:
            msg = f"run '{run_id}' cannot go on as '{workflow.name}': {unfit[0]}"
            raise RunError(msg)
        copied.append(record)
        is_said = replaces and record.kind == "say"
        if not is_said and may_end(conversation.run, record.kind, graph.by_name[conversation.run.state].kind):
            cut, run = len(copied), conversation.run
    if not cut:
        msg = f"run '{run_id}' has nothing to go on from below record {at}: begin a new one with run()"
        raise RunError(msg)
    return _Prefix(tuple(copied[:cut]), run)


def _check_bound(
    workflow: type[Workflow], run_id: str, prefix: _Prefix, heads: Mapping[str, Mapping[str, str]]
) -> None:
    """R35: thinking goes back only under the model, system and tools that it was thought under."""
    begun = prefix.run.begun
    sent: dict[str, list[Mapping[str, str]]] = {}
    for record in prefix.records:
        if record.kind == "request":
            sent.setdefault(record.data["history"], []).append(begun.get(record.data["state"], {}))
    changed = thinking_unbound(
        workflow,
        heads,
        _BOUND,
        sent=lambda history, state: sent.get(history) or [begun[state]] * (state in begun),
        said=lambda history: (raw.decode() for raw in prefix.run.ledger(history).encoded()),
    )
    if changed:
        msg = (
            f"the fork would go on from run '{run_id}', which was sent another {listed(changed)}: its thinking is "
            "bound to that, and the API refuses the next request (R35). Keep these as they were, fork before the first "
            'reply, or give the state a history= of its own with continues="main": such a copy drops the thinking'
        )
        raise RunError(msg)


def _said(workflow: type[Workflow], run_id: str, prefix: _Prefix, say: Any, clock: Callable[[], float]) -> Record:
    """The words as a record; they stand for what waited to be said there."""
    run, cut = prefix.run, len(prefix.records)
    state = workflow.graph.by_name[run.state].state
    if run.closed is not None or not isinstance(state, Claude):
        where = "had ended" if run.closed is not None else f"is in '{run.state}', where no request is about to be sent"
        asked = ": give resume() the answer" if run.asked is not None else ", choose another at="
        msg = f"nothing can be said at record {cut} of run '{run_id}', which {where}{asked}"
        raise RunError(msg)
    history = state.history or "main"
    ledger = run.ledger(history)
    if not ledger.may_speak or ledger.standing is Standing.CALLS:
        msg = f"nothing can be said at record {cut} of run '{run_id}': the model must go on there first (S7.2, R10)"
        raise RunError(msg)
    message = {"role": "user", "content": _blocks(say)}
    words = bool(run.waiting) and state.prompt is None
    data = {"history": history, "messages": [message], "words": words, "forked": True}
    return Record(cut, "say", clock(), data)


def _blocks(say: Any) -> Sequence[Mapping[str, Any]]:
    try:
        blocks = as_blocks(say)
    except DeclarationError as error:
        msg = f"say= is text or content blocks: {error}"
        raise RunError(msg) from error
    _, found = Legality.start().step({"role": "user", "content": blocks})
    if found:
        msg = f"say= cannot be sent, the API would refuse it: {found[0].message}"
        raise RunError(msg)
    return blocks
