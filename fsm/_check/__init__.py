"""What is checked before anything runs: all findings on the graph, W1-W12 and W14, at once, sorted.

Here are the checks of single rows and names (W1, W2, W8, W10). What states share is `_histories` (W11), where arrows
lead `_paths` (W3, W4, W5), what Claude is owed on the way `_flow` (W6, W7, W9, W12), what the API would refuse of a
state `_lawful` (W14). W13 compares the alphabet with the SDK and lives beside it.

One fault gives one finding: what has one is not walked again. Beyond the one word that each check is called by:

    W2   also (a warning) a guard that can never hold: `calls` of a tool that is misspelt, `value_is` of a name that
         nothing gives, `said_is` where no person speaks, `output` where the reply has none
    W5   also a guard that counts nothing where it stands: `attempts_left` on a success, which begins the count anew,
         `room_to_grow` in a state that sends no request
    W11  also a switch of the model within one history that binds its thinking
    W12  also an effect with nothing to act on: words for, or a change of the request of, a state that is no Claude
         state; `grow` on the way to another state; `discard` where the event brings no reply
"""

from __future__ import annotations

import difflib
import keyword
from collections.abc import Iterator

from attrs import evolve

from fsm._alphabet import ALPHABET, FINAL_NAMES, Group, accepted_by
from fsm._effects import Effect
from fsm._graph import Edge, Graph, Node
from fsm._guards import Guard, idle, leaves, reads, required_of
from fsm._states import Approval, Claude, Code, Human, Tools

from ._findings import TITLES, Finding
from ._flow import explore
from ._histories import check_histories, misbegun
from ._lawful import check_heads
from ._paths import check_paths

__all__ = ["TITLES", "Finding", "check", "required"]

_PUBLIC = (
    "name",
    "states",
    "machine",
    "table",
    "graph",
    "check",
    "diagram",
    "from_transitions",
    "limits",
    "plan",
    "move",
)
RESERVED = frozenset(
    {
        *_PUBLIC,
        "declared",
        "toolbox",
        "renamed",
        "_name",
        "_states",
        "_graph",
        "_repr_mimebundle_",
        "_plan",
        "_toolbox",
        "_checked",
        "_renamed",
    }
)
"""What a workflow class has already, so that no state can be called so (W10)."""


def check(graph: Graph) -> tuple[Finding, ...]:
    """Every finding on a workflow, in the order W1, W2, …, then of declaration.

    Args:
        graph: the declaration, as `build_graph` made it.

    Returns:
        Errors and warnings together; `Finding.is_error` tells them apart. Empty: nothing is wrong.
    """
    if not graph.initial:
        remedy = "Declare at least one state in its class body, e.g. asking = Claude(model=..., max_tokens=...)."
        return (Finding("W3", graph.name, "", None, "", f"'{graph.name}' declares no states", remedy),)
    found = [
        *(finding for node in graph.nodes if not node.is_exit for finding in _rows(graph, node)),
        *_names(graph),
        *check_histories(graph),
        *check_heads(graph),
    ]
    stopped = {f.edge for f in found if f.edge is not None and f.id in {"W8", "W12"}}
    found.extend(explore(graph, stopped=stopped, lenient=misbegun(graph)).findings)
    incomplete = {f.state for f in found if f.id == "W1"} | {loose.source for loose in graph.loose}
    blamed = {f.edge for f in found if f.edge is not None and f.id != "W2"}
    misnamed = {name for names in _same(graph) for name in names}  # arrows lead to one of their names only
    found.extend(f for f in check_paths(graph, incomplete, blamed) if f.state not in misnamed)
    return tuple(sorted(found, key=_Order(graph)))


class _Order:
    """By check, then in the order of declaration."""

    def __init__(self, graph: Graph) -> None:
        self.states = {node.name: i for i, node in enumerate(graph.nodes)}
        self.events = {event: i for i, event in enumerate(ALPHABET)}

    def __call__(self, finding: Finding) -> tuple[int, int, int, str]:
        return (
            int(finding.id[1:]),
            self.states.get(finding.state, -1),
            self.events.get(finding.event or "", -1),
            finding.problem,
        )


# --- W1, W2, W8: the rows of one state ---------------------------------------------------------------------------


def required(graph: Graph, node: Node) -> tuple[str, ...]:
    """The events that need a row of the workflow's own: never implied, or all that can happen where it is strict."""
    never = _never_implied(graph, node)
    if not graph.strict:
        return never
    cannot = {
        "tool_use",
        "stop_sequence",
        "approval_needed",
        "expired",
        *(["invalid_output"] if isinstance(node.state, Claude) and node.state.output is None else []),
    }
    return (*never, *(e for e in accepted_by(node.kind) if e not in never and e not in cannot))


def _never_implied(graph: Graph, node: Node) -> tuple[str, ...]:
    state = node.state
    if isinstance(state, Claude):
        tools = ["tool_use"] if state.client_tools and not state.forbids_tools else []
        sequence = ["stop_sequence"] if state.params.get("stop_sequences") else []
        return ("end_turn", *tools, *sequence)
    if isinstance(state, Tools):
        asks = any(tool.may_ask for caller in graph.callers(node.name) for tool in caller.client_tools)
        return ("tool_results", *(["approval_needed"] if asks else []))
    expires = ["expired"] if isinstance(state, (Approval, Human)) and state.within is not None else []
    if isinstance(state, Approval):
        return ("approved", "denied", *expires)
    if isinstance(state, Human):
        return ("said", *expires)
    return state.outcomes if isinstance(state, Code) else ()


_BECAUSE = {
    "tool_use": ", though it has tools",
    "stop_sequence": ", though it has stop_sequences",
    "approval_needed": ", though a tool that can be called there needs approval",
    "expired": ", though it waits only so long (within=)",
}


def _rows(graph: Graph, node: Node) -> Iterator[Finding]:
    full, state = f"'{graph.name}.{node.name}'", node.state
    loose = {(item.source, item.event) for item in graph.loose}
    events = required(graph, node)
    missing = [e for e in events if not graph.row(node.name, e) and (node.name, e) not in loose]
    if missing:
        yield _missing(graph, node, missing)
    if isinstance(state, Code):
        yield from _outcomes(graph, node, state)
    for event in graph.events(node.name):
        row = graph.row(node.name, event)
        if row[0].implied:
            continue  # the standard rows are complete; an implied stop_sequence is what end_turn is
        if row[-1].guard is not None and (node.name, event) not in loose:
            problem = f"{full} may find no way out of {event}: its last alternative is guarded [{row[-1].guard}]"
            remedy = f"End the list with an unconditional one: {node.name}.on({event}=[..., exits.failed])."
            yield _of_edge("W1", graph, row[-1], problem, remedy)
        first = next((i for i, edge in enumerate(row) if edge.guard is None), len(row))
        if first + 1 < len(row):
            dead = row[first + 1]
            problem = (
                f"{full} never takes alternative {dead.index + 1} of {event} (to '{dead.dest}'): "
                f"the one before it (to '{row[first].dest}') is unconditional"
            )
            yield _of_edge("W2", graph, dead, problem, f"Guard '{row[first].dest}' with .when(...), or move it last.")
        for edge in row:
            yield from _counts(graph, edge)
            yield from _never(graph, edge)
            yield from _effects(graph, edge)
    yield from _pause(graph, node)


def _missing(graph: Graph, node: Node, events: list[str]) -> Finding:
    """All events that one state has no row for, as one finding; `event` is the first of them."""
    state = node.state
    named = [e for e in events if isinstance(state, Code) and e in state.outcomes]  # may be no identifiers
    calls = [f'.on("{e}", ...)' for e in named]
    if others := [e for e in events if e not in named]:
        calls.append(f".on({', '.join(f'{e}=...' for e in others)})")
    if len(events) == 1:
        listed = f"{events[0]}{_BECAUSE.get(events[0], '')}"
    else:
        listed = ", ".join(f"{e} ({_BECAUSE[e].lstrip(', ')})" if e in _BECAUSE else e for e in events)
    problem = f"'{graph.name}.{node.name}' has no row for {listed}"
    return Finding("W1", graph.name, node.name, events[0], node.where, problem, f"Add {node.name}{''.join(calls)}.")


def _outcomes(graph: Graph, node: Node, state: Code[str]) -> Iterator[Finding]:
    if state.outcomes_problem is not None:
        problem = f"the outcomes of '{graph.name}.{node.name}' are unreadable: {state.outcomes_problem}"
        remedy = "Annotate the function with the names of its outcomes."
        yield Finding("W1", graph.name, node.name, None, node.where, problem, remedy)
        return
    for event in graph.events(node.name):
        if event in state.outcomes and event in accepted_by("Code"):
            problem = f"'{graph.name}.{node.name}' has an outcome named {event}, which is an event of every Code state"
            yield Finding("W10", graph.name, node.name, event, node.where, problem, "Give the outcome another name.")
        elif event not in state.alphabet():
            near = difflib.get_close_matches(event, state.alphabet(), 1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            problem = f"'{graph.name}.{node.name}' has a row for {event!r}, which its function never returns"
            remedy = f"{hint}Its outcomes are: {', '.join(state.outcomes)}."
            yield _of_edge("W1", graph, graph.row(node.name, event)[0], problem, remedy)


def _of_edge(check_id: str, graph: Graph, edge: Edge, problem: str, remedy: str) -> Finding:
    where = edge.where or graph.by_name[edge.source].where
    return Finding(check_id, graph.name, edge.source, edge.event, where, problem, remedy, edge=edge.key)


def _counts(graph: Graph, edge: Edge) -> Iterator[Finding]:
    kind = graph.by_name[edge.source].kind
    for leaf in leaves(edge.guard) if edge.guard is not None else ():
        if not idle(leaf, kind, edge.event):
            continue
        why = (
            f"{edge.event} is a success, which begins that count anew"
            if kind == "Claude"
            else f"a {kind} state sends no request that could grow"
        )
        problem = f"'{graph.name}.{edge.source}' guards {edge.event} by {leaf}, which bounds nothing there: {why}"
        remedy = f"Count how often the arrow is taken: '{edge.dest}'.when(rounds_left(n))."
        yield _of_edge("W5", graph, edge, problem, remedy)
        return


def _never(graph: Graph, edge: Edge) -> Iterator[Finding]:
    """A warning for a guard that can never hold."""
    for leaf in required_of(edge.guard) if edge.guard is not None else ():
        why = _why_never(graph, edge, leaf)
        if why:
            problem = f"'{graph.name}.{edge.source}' guards {edge.event} by {leaf}, which can never hold: {why}"
            remedy = "Mend the name, or remove the alternative."
            yield evolve(_of_edge("W2", graph, edge, problem, remedy), severity="warning")
            return


def _why_never(graph: Graph, edge: Edge, leaf: Guard) -> str:
    looked_for = reads(leaf)
    states = [node.state for node in graph.nodes]
    asked = [state for state in states if isinstance(state, Claude)]
    if looked_for.tools:
        known = {tool.name for state in asked for tool in state.tools}
        is_open = any({"mcp_servers", "extra_body"} & set(state.params) for state in asked)  # tools that are not named
        if is_open or known & looked_for.tools:
            return ""
        near = {name for tool in looked_for.tools for name in difflib.get_close_matches(tool, known, 1)}
        # A model may call what it was not offered, and a row may say what to do then; a near name is a slip.
        return f"did you mean {', '.join(sorted(near))}?" if near else "" if known else "no state has tools"
    if looked_for.value:
        given = {n.name for n in graph.nodes if isinstance(n.state, Code)}
        given |= {effect.name for e in graph.edges for effect in e.effects if effect.change == "value"}
        return "" if looked_for.value in given else f"values are given by {', '.join(sorted(given)) or 'nothing'}"
    if looked_for.words:
        return "" if any(isinstance(state, Human) for state in states) else "there is no Human state"
    if looked_for.output:
        here = graph.by_name[edge.source].state
        if isinstance(here, Claude) and ALPHABET[edge.event].group not in _NO_REPLY:
            return "" if here.output is not None else f"'{edge.source}' has no output="
        return "" if any(state.output is not None for state in asked) else "no state has output="
    return ""


def _effects(graph: Graph, edge: Edge) -> Iterator[Finding]:
    """The first effect of an arrow that has nothing to act on."""
    for effect in edge.effects:
        problem, remedy = _misplaced(graph, edge, effect)
        if problem:
            problem = f"'{graph.name}.{edge.source}' leads {edge.event} to '{edge.dest}' with {effect}, {problem}"
            yield _of_edge("W12", graph, edge, problem, remedy)
            return


_NO_REPLY = frozenset({Group.RETRYABLE, Group.FATAL, Group.LOOP, Group.CANCEL})


def _misplaced(graph: Graph, edge: Edge, effect: Effect) -> tuple[str, str]:
    """Why an effect means nothing on this arrow, and what to do; empty where it means something."""
    source, dest = graph.by_name[edge.source], graph.by_name[edge.dest]
    if effect.asks and dest.kind != "Claude":
        if effect.says:
            why = f"and nobody hears it: say() speaks into the history of its target, and '{edge.dest}' is no Claude"
            return f"{why} state", "Say it on the arrow that leads to a Claude state."
        why = f"which acts on the requests of its target, and '{edge.dest}' is no Claude state"
        return why, f"Move {effect} to an arrow that leads to a Claude state."
    if effect.grows and edge.dest != edge.source:
        why = f"which doubles the max_tokens of the state that is left, and '{edge.dest}' is another one"
        remedy = f"Give '{edge.dest}' the max_tokens= that it needs, or write an @effect(changes=\"max_tokens\")."
        return why, remedy
    if effect.change == "compact" and isinstance(dest.state, Claude) and dest.state.compacts:
        why = f"whose block the API refuses beside the edit in context_management of '{edge.dest}' (S10.2)"
        return why, "Let the edit compact, or remove it."
    brings_reply = source.kind == "Claude" and ALPHABET[edge.event].group not in _NO_REPLY
    if effect.change == "discard" and not brings_reply:
        why = f"which drops a reply, and {edge.event} brings none"
        return why, "Put discard on the arrow that the reply itself takes, such as end_turn."
    return "", ""


def _pause(graph: Graph, node: Node) -> Iterator[Finding]:
    remedy = (
        f"Send the paused reply back as it is: "
        f"{node.name}.on(pause_turn=[{node.name}.when(attempts_left(5)), exits.stuck]) (S7.2)."
    )
    for edge in graph.row(node.name, "pause_turn"):
        changing = [str(e) for e in edge.effects if e.changes_request or e.change == "discard"]
        if edge.dest != node.name and not graph.by_name[edge.dest].is_final:
            problem = f"'{graph.name}.{node.name}' leads pause_turn to '{edge.dest}', though the turn is not over"
            yield _of_edge("W8", graph, edge, problem, remedy)
        elif changing and edge.dest == node.name:
            problem = f"'{graph.name}.{node.name}' changes the request after pause_turn: {', '.join(changing)}"
            yield _of_edge("W8", graph, edge, problem, remedy)


# --- W10: names and finals ---------------------------------------------------------------------------------------


def _names(graph: Graph) -> Iterator[Finding]:
    declared = [node for node in graph.nodes if not node.is_exit]
    for node in declared:
        problem, remedy = _name_problem(node.name)
        if problem:
            problem = f"'{graph.name}.{node.name}' {problem}"
            yield Finding("W10", graph.name, node.name, None, node.where, problem, remedy)
        if node.is_final and graph.outgoing(node.name):
            events = ", ".join(graph.events(node.name))
            problem = f"'{graph.name}.{node.name}' is final and has rows ({events}): a final state takes no event"
            remedy = "Remove the rows, or make it another kind of state."
            yield Finding("W10", graph.name, node.name, graph.events(node.name)[0], node.where, problem, remedy)
    for first, *others in _same(graph):
        problem = f"'{graph.name}' has one state under the names {', '.join(map(repr, (first, *others)))}"
        remedy = f"Make a state for each name, or use the name {first!r} only."
        yield Finding("W10", graph.name, first, None, graph.by_name[first].where, problem, remedy)
    starts = [node for node in declared if node.state.initial]
    if len(starts) > 1:
        names = ", ".join(repr(n.name) for n in starts)
        problem = f"'{graph.name}' starts in more than one state: {names} all say initial=True"
        remedy = "Leave initial=True on one of them."
        yield Finding("W2", graph.name, starts[1].name, None, starts[1].where, problem, remedy)
    for item in graph.loose:
        if not item.where:
            continue  # an implied row that repeats a declared one (stop_sequence is what end_turn is)
        problem, _, remedy = item.problem.partition(": ")
        problem = f"'{graph.name}.{item.source}' leads {item.event} to no state of its own: {problem}"
        remedy = f"{remedy[:1].upper()}{remedy[1:]}." if remedy else "Declare that state here."
        yield Finding("W10", graph.name, item.source, item.event, item.where, problem, remedy)


def _same(graph: Graph) -> list[tuple[str, ...]]:
    """The names of each state that has several."""
    names: dict[int, list[str]] = {}
    for node in graph.nodes:
        names.setdefault(id(node.state), []).append(node.name)
    return [tuple(found) for found in names.values() if len(found) > 1]


def _name_problem(name: str) -> tuple[str, str]:
    if name in FINAL_NAMES:
        return "is named like an exit that every workflow has", f"Use exits.{name}, or choose another name."
    if name in RESERVED:
        return f"hides {name} of the workflow itself", "Choose another name."
    if not name.isidentifier() or keyword.iskeyword(name):
        remedy = "Use a Python identifier: letters, digits and _, no keyword."
        return "has a name that cannot be written as an attribute", remedy
    return "", ""
