"""Versions of a workflow: which one a run began under, and whether another one can go on with it.

A run outlives deployments. Its first record holds the fingerprint of the workflow it began under; where the class has
another one, the run is looked at before it goes on: every state that its records name must be there and act alike, its
histories must be sent under the heads they began with (R35), and what it waits for must have a row. If so, it goes on
and a record `migrate` says since when; if not, nothing is changed and the run is stranded. Old records are never
rewritten: where states were renamed, their names are translated as they are read.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

from attrs import evolve, frozen

from ._conversation import Conversation
from ._conversation._heads import Heads
from ._encoded import encode
from ._errors import ConcurrentWriter, FsmError, JournalError, RunError
from ._events import Migrated
from ._records import Record
from ._spoken import CHANGED, NEEDED, TextsGone
from ._state import State
from ._states import Claude, Code
from ._strands import Strand, fold_checked
from ._workflow import Workflow
from .journal import Store

_FINGERPRINT = 16  # hex digits: 64 bits, and only versions of one workflow are told apart by it
_known: WeakKeyDictionary[type, str] = WeakKeyDictionary()


@frozen
class Standing:
    """A run that has not ended, seen from a version of its workflow.

    `is_current` says that it goes on under this version already; `strands` is empty where it can. `problem` says why it
    could not be moved although nothing strands it.
    """

    run_id: str
    state: str
    waits_for: str | None = None
    is_current: bool = False
    strands: tuple[Strand, ...] = ()
    problem: str = ""


# ── the fingerprint ─────────────────────────────────────────────────────────────────────────────────────────────────


def fingerprint(workflow: type[Workflow]) -> str:
    """What tells versions of a workflow apart: the same in every process, made once a class.

    It covers states, rows, the names of guards, effects and functions, limits, and what requests begin with; neither
    the order of declarations nor what a function does.
    """
    known = _known.get(workflow)
    if known is None:
        text = encode(_described(workflow))
        known = _known[workflow] = hashlib.sha256(text).hexdigest()[:_FINGERPRINT]
    return known


def _described(workflow: type[Workflow]) -> dict[str, Any]:
    graph = workflow.graph
    return {
        "states": sorted([n.name, n.kind, n.initial, n.ok, *_traits(n.state)] for n in graph.nodes),
        "rows": sorted(
            [*e.key, e.dest, str(e.guard or ""), [[x.name, x.change, _constant(x)] for x in e.effects], e.implied]
            for e in graph.edges
        ),
        "heads": dict(sorted(heads_of(workflow).digests({}).items())),
        "limits": dict(sorted(workflow.limits.given().items())),
    }


def _traits(state: State) -> list[Any]:
    if isinstance(state, Claude):
        tools = sorted([t.name, _named(t.needs_approval), t.idempotent] for t in state.client_tools)
        says = [_named(state.system) if callable(state.system) else "", _named(state.prompt)]
        return [state.history, state.fresh, state.continues or "", *says, tools]
    if isinstance(state, Code):
        return [sorted(state.outcomes), bool(getattr(state, "idempotent", False))]
    return [getattr(state, "within", None) or 0]


def _named(thing: Any) -> str:
    return getattr(thing, "__name__", type(thing).__name__) if callable(thing) else str(thing or "")


def _constant(effect: Any) -> Any:
    value = getattr(effect.decide, "value", None)
    return value if isinstance(value, (str, int, float)) else None


def heads_of(workflow: type[Workflow]) -> Heads:
    """What the requests of its states begin with."""
    return Heads(workflow.graph, workflow.toolbox.definitions)


# ── reading records of older versions ───────────────────────────────────────────────────────────────────────────────


def records_of(workflow: type[Workflow], store: Store, run_id: str) -> Iterator[Record]:
    """The records of a run, with the names that the states have in this version.

    Raises:
        RunError: no such run.
        JournalError: they cannot be read.
    """
    records = iter(store.read(run_id))
    first = next(records)
    summary = store.summary(run_id)
    version = summary.fingerprint
    moved: list[tuple[int, Mapping[str, str]]] = []
    if summary.migrations:  # not told by the fingerprint: a version that was rolled back has the first one's
        moved = [(r.seq, r.data["renamed"]) for r in store.read(run_id) if r.kind == "migrate" and r.data["renamed"]]
    names = {} if version == fingerprint(workflow) else dict(workflow.renamed)
    records = chain((first,), records)
    return translated(records, moved, names) if moved or names else records


def as_said(records: Iterable[Record], run_id: str) -> Iterator[Record]:
    """The same records, if the next request may be made of them.

    Raises:
        TextsGone: a store changed what was said before it kept it (`redact=`).
    """
    for record in records:
        if record.kind in NEEDED and record.data.get(CHANGED):
            msg = (
                f"run '{run_id}' cannot be gone on with: redact= changed record {record.seq} ({record.kind}) before it "
                "was stored, so Claude would be sent another conversation than it had. Show or verify it, or run anew"
            )
            raise TextsGone(msg)
        yield record


def why_lost(store: Store, run_id: str) -> JournalError | None:
    """Why no version of a workflow can go on with a run: it cannot be read, or is not what was said. None otherwise.

    Raises:
        RunError: no such run.
    """
    try:
        deque(as_said(store.read(run_id), run_id), maxlen=0)
    except JournalError as error:
        return error
    return None


def translated(
    records: Iterable[Record],
    moved: Sequence[tuple[int, Mapping[str, str]]],
    names: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Record]:
    """The records with the names of now: each was written with those of its time, and takes part in later migrations.

    Params:
        moved: number and renames of the migrations that count, in order.
        names: what is renamed besides, by a version that the run was not moved to yet.
    """
    stages: list[tuple[float, Mapping[str, str]]] = [(float("inf"), names)]
    for seq, renamed in reversed(moved):
        _, after = stages[0]
        stages.insert(0, (seq, {**after, **{old: after.get(new, new) for old, new in renamed.items()}}))
    stage = iter(stages)
    until, current = next(stage)
    for record in records:
        while record.seq > until:
            until, current = next(stage)
        yield _with_names(record, current)


def _with_names(record: Record, names: Mapping[str, str]) -> Record:
    data = dict(record.data)
    for field in ("state", "source", "dest"):
        if data.get(field) in names:
            data[field] = names[data[field]]
    for field in ("systems", "heads") if record.kind == "open" else ():
        data[field] = {names.get(name, name): value for name, value in data[field].items()}
    if data.get("untouched"):
        data["untouched"] = [names.get(name, name) for name in data["untouched"]]
    return evolve(record, data=data)


# ── folding them ─────────────────────────────────────────────────────────────────────────────────────────────────────


def fold_run(workflow: type[Workflow], conversation: Conversation, store: Store, run_id: str) -> tuple[Strand, ...]:
    """Fold a run and say what strands it; nothing is folded where it cannot be.

    Raises:
        RunError: no such run.
        JournalError: its records cannot be read, or are not what was said.
    """
    records, summary = records_of(workflow, store, run_id), store.summary(run_id)
    if summary.status != "ended":
        records = as_said(records, run_id)
    if summary.fingerprint == fingerprint(workflow):
        conversation.fold(records)
        return ()
    return fold_checked(workflow, conversation, records)


# ── moving runs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def migration(workflow: type[Workflow], conversation: Conversation, clock: Callable[[], float]) -> tuple[Migrated, ...]:
    """What says that a folded run goes on under this version; nothing where it does already."""
    run, version = conversation.run, fingerprint(workflow)
    if run.fingerprint == version or conversation.finished:
        return ()
    now = conversation.heads.digests(run.systems)
    new = {name: head for name, head in now.items() if name not in run.begun}
    return (Migrated(clock(), version, renamed=workflow.renamed, heads=new),)


def standings(workflow: type[Workflow], store: Store) -> Iterator[Standing]:
    """How every run of this workflow that has not ended stands to this version of it; nothing is written."""
    for run in store.runs():
        if run.status == "ended" or run.workflow != workflow.name:
            continue
        is_current = run.fingerprint == fingerprint(workflow)
        strands = _strands(workflow, store, run.run_id)  # a current one may be damaged, erased or redacted
        yield Standing(run.run_id, run.state, run.waits_for, is_current, strands)


_LOST = "No version can go on with it: end it with `fsm runs cancel`, or delete it with `fsm runs rm`"


def _strands(workflow: type[Workflow], store: Store, run_id: str) -> tuple[Strand, ...]:
    conversation = Conversation(workflow.plan, heads_of(workflow))
    try:
        return fold_run(workflow, conversation, store, run_id)
    except Exception as error:  # noqa: BLE001 - one damaged run must not hide how the others stand
        why = str(error) if isinstance(error, FsmError) else f"its records are not of their form: {error!r}"
        remedy = _LOST if isinstance(error, TextsGone) else "No version can go on with it as it is"
        return (Strand("unreadable", "", why, remedy),)


def migrate(
    workflow: type[Workflow], *, journal: Store, clock: Callable[[], float] = time.time
) -> tuple[Standing, ...]:
    """Move every waiting run of older versions to this one: a record says so, and nothing else is written.

    `resume` does the same for the run that it takes up, so this is for doing it at a deployment, for all.

    Args:
        workflow: the new version; its `renamed=` says what states were called before.
        journal: the store that holds the runs.
        clock: seconds since the epoch.

    Returns:
        How each run stood before: `is_current` ones were left alone, those with `strands` or a `problem` too.
    """
    return tuple(
        standing if standing.is_current or standing.strands else _moved(workflow, journal, standing, clock)
        for standing in tuple(standings(workflow, journal))
    )


def _moved(workflow: type[Workflow], store: Store, standing: Standing, clock: Callable[[], float]) -> Standing:
    try:
        store.claim(standing.run_id)
    except ConcurrentWriter as error:
        return evolve(standing, problem=str(error))
    try:
        conversation = Conversation(workflow.plan, heads_of(workflow))
        strands = fold_run(workflow, conversation, store, standing.run_id)  # it may have gone on meanwhile
        if strands:
            return evolve(standing, strands=strands)
        for event in migration(workflow, conversation, clock):
            records, _ = conversation.feed(event)
            store.append(standing.run_id, records)
    except RunError as error:
        return evolve(standing, problem=str(error))
    finally:
        store.release(standing.run_id)
    return standing
