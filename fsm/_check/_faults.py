"""The faults that the data-flow can meet on entering a state, and their texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from attrs import frozen

from fsm._graph import Edge, Graph, Node

from ._findings import Finding


@frozen
class _Reason:
    """A fault of entering a state. The problem follows "'W.source' leads event to 'dest', "."""

    id: str
    problem: str
    remedy: str


_ASK = "Give '{dest}' a prompt=, or say something on the way: {source}.on({event}={dest}.then(say(...)))."
_REASONS: Mapping[str, _Reason] = {
    "open": _Reason(
        "W6",
        "while calls in its history '{history}' are unanswered",
        "Answer them first: lead tool_use to a Tools state, and its tool_results here.",
    ),
    "said": _Reason(
        "W6",
        "and says something there while calls in history '{history}' are unanswered",
        "Answer them first: lead tool_use to a Tools state, and say it on its tool_results.",
    ),
    "copied": _Reason(
        "W6",
        "which continues '{origin}', whose calls are unanswered",
        "Hand over after answering: on the Tools state write tool_results=[{dest}.when(calls(...)), ...].",
    ),
    "refused": _Reason(
        "W7",
        "which sends the request that was just refused again: same model, system, tools and parameters",
        "Lead refusal to exits.refused or to a state with another model=, switch_model(...), or rephrase: "
        "{dest}.then(say(...)).",
    ),
    "no call": _Reason(
        "W9",
        "when no call can be open",
        "Only tool_use leaves calls to run or to decide on; a cut or refused call never runs (S5.3). Enter '{dest}' "
        "from there.",
    ),
    "empty": _Reason("W12", "which has nothing to answer: its history '{history}' is empty", _ASK),
    "spoken": _Reason("W12", "which has nothing to answer: its history '{history}' ends in a finished reply", _ASK),
    "no tools": _Reason(
        "W11",
        "which continues '{origin}', a history that can hold tool calls, and has no tools (R19e)",
        'Give it the same tools=, with tool_choice={{"type": "none"}} if it is not to call them.',
    ),
}


@frozen
class Fault:
    """A state is entered by an edge (None: at the start) as it may not be. `walked` leads to the edge's source.

    `reason` is one of "open", "said", "copied" (W6), "refused" (W7), "no call" (W9), "no tools" (W11), "empty",
    "spoken" (W12).
    """

    reason: str
    edge: Edge | None
    dest: Node
    origin: str
    walked: tuple[Edge, ...]

    @property
    def place(self) -> tuple[str, str, str]:
        """Arrows from one state into another that are at fault by one check are one fault."""
        return (_REASONS[self.reason].id, self.edge.source if self.edge else "", self.dest.name)


def first_ones(faults: Iterable[Fault]) -> Iterator[Fault]:
    """The faults, nearest first, without those behind another: the walk of one history passes the faults of others."""
    taken: set[tuple[str, str, str]] = set()
    blamed: set[tuple[str, str, int]] = set()
    for fault in sorted(faults, key=lambda f: len(f.walked)):
        if fault.place in taken or any(edge.key in blamed for edge in fault.walked):
            continue
        taken.add(fault.place)
        if fault.edge is not None:
            blamed.add(fault.edge.key)
        yield fault


def fault_finding(graph: Graph, fault: Fault) -> Finding:
    """The finding that says so, with the states walked as evidence."""
    reason, edge, dest = _REASONS[fault.reason], fault.edge, fault.dest
    if edge is None:
        head, source, event = f"'{graph.name}' starts in '{dest.name}'", dest, None
    else:
        head = f"'{graph.name}.{edge.source}' leads {edge.event} to '{dest.name}'"
        source, event = graph.by_name[edge.source], edge.event
    names = {
        "dest": dest.name,
        "source": source.name,
        "event": event,
        "history": dest.history,
        "origin": fault.origin,
    }
    return Finding(
        reason.id,
        graph.name,
        source.name,
        event,
        (edge.where if edge is not None else "") or source.where,
        f"{head}, {reason.problem.format(**names)}",
        reason.remedy.format(**names),
        path=(graph.initial, *(e.dest for e in fault.walked), *([dest.name] if edge is not None else [])),
        edge=edge.key if edge is not None else None,
    )
