"""What strands a run: why a version of a workflow cannot go on with records that another version wrote.

Every state that the records name must be there and act alike; the histories must be sent under the heads that they
began with (R35); what the run waits for must have a row, and an open call its tool.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from attrs import frozen

from ._alphabet import accepted_by
from ._conversation import Conversation
from ._graph import Graph, Node
from ._models import model_facts
from ._records import Record
from ._states import Claude, Code
from ._toolspec import ToolSpec
from ._workflow import Workflow

Fault = Literal["unreadable", "state", "kind", "history", "head", "system", "row", "tool", "outcome"]


@frozen
class Strand:
    """Why a run cannot go on under this version: `what` changed, in which state, seen at which record."""

    what: Fault
    state: str
    detail: str
    remedy: str
    seq: int | None = None
    parts: tuple[str, ...] = ()  # of the head, where that changed

    def __str__(self) -> str:
        where = "" if self.seq is None else f" (record {self.seq})"
        return f"{self.detail}{where}. {self.remedy}"


class _UnfoldableError(Exception):
    """A record that this version cannot fold."""

    def __init__(self, strand: Strand) -> None:
        super().__init__(str(strand))
        self.strand = strand


def fold_checked(
    workflow: type[Workflow], conversation: Conversation, records: Iterable[Record], *, is_partial: bool = False
) -> tuple[Strand, ...]:
    """Fold records that another version wrote, and say what strands the run; a part of it cannot be waiting."""
    found: list[Strand] = []
    try:
        conversation.fold(_checked(records, workflow.graph, found))
    except _UnfoldableError as error:
        return (*found, error.strand)
    if conversation.finished or is_partial:
        return tuple(found) if is_partial else ()
    return (*found, *_heads_changed(workflow, conversation), *_waits_in_vain(workflow, conversation))


def _checked(records: Iterable[Record], graph: Graph, found: list[Strand]) -> Iterator[Record]:
    for record in records:
        data = record.data
        for name in (data.get("state"), data.get("source"), data.get("dest")):
            if name is not None and name not in graph.by_name:
                raise _UnfoldableError(_gone(name, record.seq))
        strand = _acts_otherwise(record, graph)
        if strand is not None:
            if strand.what != "outcome":  # what came of the function is recorded, so it can be folded
                raise _UnfoldableError(strand)
            if strand not in found:
                found.append(strand)
        yield record


def _gone(name: str, seq: int) -> Strand:
    remedy = f"Declare it again, or say what it is called now: renamed={{'{name}': ...}}"
    return Strand("state", name, f"the state '{name}' is gone", remedy, seq)


_KINDS = {"request": ("Claude",), "code.begin": ("Code",), "asked": ("Approval", "Human")}


def _acts_otherwise(record: Record, graph: Graph) -> Strand | None:
    data = record.data
    if record.kind == "move":
        return _takes_no_more(graph.by_name[data["source"]], data["event"], record.seq)
    kinds = _KINDS.get(record.kind)
    if kinds is None:
        return None
    node = graph.by_name[data["state"]]
    if node.kind not in kinds or (record.kind == "asked" and node.kind == "Human" and data.get("calls")):
        return _is_another_kind(node, record.seq)
    if record.kind == "request" and (node.history or "main") != data["history"]:
        detail = f"'{node.name}' speaks in the history '{node.history}' now, and spoke in '{data['history']}'"
        return Strand("history", node.name, detail, "Let it keep its history=", record.seq)
    return None


def _takes_no_more(node: Node, event: str, seq: int) -> Strand | None:
    if isinstance(node.state, Code):
        if event in node.state.outcomes or event in accepted_by("Code"):
            return None
        detail = f"'{node.name}' gave the outcome '{event}', which its function does not have any more"
        return Strand("outcome", node.name, detail, "Keep the outcome and its row until these runs have ended", seq)
    return None if node.state.accepts(event) else _is_another_kind(node, seq)


def _is_another_kind(node: Node, seq: int | None) -> Strand:
    detail = f"'{node.name}' is of the kind {node.kind} now, and acted as another"
    return Strand("kind", node.name, detail, "Give the new state a name of its own", seq)


def heads_changed(conversation: Conversation) -> dict[str, list[str]]:
    """By state, the parts of its head that differ from those it began with; states that are new differ in nothing."""
    run = conversation.run
    changed = conversation.heads.changed(run.begun, run.systems)
    return {name: parts for name, parts in changed.items() if name in run.begun}


def thinking_unbound(
    workflow: type[Workflow],
    heads: Mapping[str, Mapping[str, str]],
    parts: Iterable[str],
    *,
    sent: Callable[[str, str], Sequence[Mapping[str, str]]],
    said: Callable[[str], Iterable[str]],
) -> dict[str, list[str]]:
    """By state, the parts of its head under which no thinking of its history was thought (R35).

    Params:
        heads: by state, the digests of the parts of what its requests would begin with.
        parts: the ones that thinking is bound to here.
        sent: gives those of the requests that were sent, by history and state; none says that nothing is bound.
        said: gives the encoded messages of a history.
    """
    changed: dict[str, list[str]] = {}
    for node in workflow.graph.nodes:
        state = node.state
        if not isinstance(state, Claude) or model_facts(state.model).binds is False:
            continue
        history = state.history or "main"
        before = sent(history, node.name)
        if before and any(map(_has_thinking, said(history))):
            others = [part for part in parts if all(heads[node.name][part] != head.get(part) for head in before)]
            if others:
                changed[node.name] = others
    return changed


def _has_thinking(raw: str) -> bool:
    """Whether an encoded message holds thinking, which is bound to what came before it (R35)."""
    content = json.loads(raw).get("content") if "thinking" in raw else None
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") in {"thinking", "redacted_thinking"} for block in content
    )


def _heads_changed(workflow: type[Workflow], conversation: Conversation) -> Iterator[Strand]:
    remedy = "Finish the run with the version it began under, or fork it: its histories are bound to these (R35)"
    for name, parts in heads_changed(conversation).items():
        yield Strand("head", name, f"{' and '.join(parts)} of '{name}' changed", remedy, parts=tuple(parts))
    run = conversation.run
    for node in workflow.graph.nodes:
        state = node.state
        is_new = isinstance(state, Claude) and callable(state.system) and node.name not in run.systems
        if is_new and node.name not in run.begun:
            detail = f"the system= function of '{node.name}' is called when a run begins, which was before it was there"
            yield Strand("system", node.name, detail, "Give it a text, or let these runs end first")


def _waits_in_vain(workflow: type[Workflow], conversation: Conversation) -> Iterator[Strand]:
    run, graph = conversation.run, workflow.graph
    node = graph.by_name[run.state]
    runs = [call for call in run.open.values() if call.begun and call.end is None]
    if runs and node.kind != "Tools":
        yield _is_another_kind(node, run.seq - 1)
        return
    for event in _awaited(node, expires=bool(run.asked and run.asked.get("expires_at") is not None)):
        if not graph.row(node.name, event):
            remedy = f"Give it a row: {node.name}.on({event}=...)"
            yield Strand("row", node.name, f"'{node.name}' has no row for {event}, which may come", remedy, run.seq - 1)
    for home, calls in ((run.home, run.open), *run.shelved):
        for call in calls.values():
            if call.end is None and (run.asked is not None or call.begun):
                spec = graph.tools.get((home or "main", call.call.toolset or call.call.name))
                yield from _call_misfits(workflow, node.name, call.call.name, spec, call.input)


def _awaited(node: Node, *, expires: bool) -> tuple[str, ...]:
    if isinstance(node.state, Code):
        return (*node.state.outcomes, "raised")
    late = ("expired",) if expires else ()
    return {"Approval": ("approved", "denied", *late), "Human": ("said", *late), "Tools": ("tool_results",)}.get(
        node.kind, ()
    )


def _call_misfits(
    workflow: type[Workflow], state: str, name: str, spec: ToolSpec | None, given: Mapping[str, Any]
) -> Iterator[Strand]:
    if spec is None:
        yield Strand("tool", state, f"the tool '{name}' of an open call is gone", "Keep it until these runs have ended")
    elif spec.form == "function" and (problem := workflow.toolbox.of(spec).problem(dict(given))) is not None:
        detail = f"the input of an open call does not fit the schema of '{name}' any more: {problem}"
        yield Strand("tool", state, detail, "Let the schema take what it took before")


def refusal(run_id: str, workflow: type[Workflow], strands: tuple[Strand, ...]) -> str:
    """Why a run is not taken up, in one message."""
    every = "; `fsm migrate --check` lists every run that this version strands"
    if all(strand.what == "head" for strand in strands):
        changed = listed({strand.state: strand.parts for strand in strands})
        return (
            f"run '{run_id}' began with another {changed}: its history is bound to what was sent "
            f"with it (R35). Resume it with the workflow it began with, or start a new run with after={every}"
        )
    why = "; ".join(strand.detail for strand in strands)
    return f"run '{run_id}' cannot go on under this version of '{workflow.name}': {why}. {strands[0].remedy}{every}"


def listed(changed: Mapping[str, Iterable[str]]) -> str:
    """By part: `system in 'asking' and 'judging', tools in 'asking'`."""
    states: dict[str, list[str]] = {}
    for state, parts in changed.items():
        for part in parts:
            states.setdefault(part, []).append(f"'{state}'")
    return ", ".join(f"{part} in {' and '.join(names)}" for part, names in states.items())
