"""Declared states as a graph: the one view that the checker, the machine, the pictures, the tests and the audit read.

Nodes stand in the order of declaration, exits last; edges in the order of their source, then of the alphabet, then of
their alternatives. Two builds of one declaration give equal graphs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

from attrs import field, frozen

from ._alphabet import ALPHABET, FINAL_NAMES
from ._effects import Effect
from ._exits import EXIT_STATES, SELF, Standard, implied
from ._guards import Guard
from ._state import Alternative, State
from ._states import Claude, Code, Final
from ._toolspec import ToolSpec


@frozen
class Node:
    """A state of the graph. `is_exit` says that it is one of the standard exits.

    `group` is the path of the group that it stands in (`outer/inner`), empty at the top: a workflow inside of another
    is a group.
    """

    name: str
    kind: str
    initial: bool = False
    ok: bool = True
    history: str | None = None
    is_exit: bool = False
    group: str = ""
    where: str = field(default="", eq=False)
    state: State = field(default=None, eq=False, repr=False)

    @property
    def is_final(self) -> bool:
        """Whether nobody acts here."""
        return self.kind == "Final"


@frozen
class Edge:
    """One alternative of one event: `source --event [guard] / effects--> dest`; `index` is its place in the list."""

    source: str
    event: str
    dest: str
    index: int = 0
    guard: Guard | None = None
    effects: tuple[Effect, ...] = ()
    implied: bool = False
    where: str = field(default="", eq=False)

    @property
    def key(self) -> tuple[str, str, int]:
        """What names it: source, event, index."""
        return (self.source, self.event, self.index)

    @property
    def label(self) -> str:
        """UML: `event [guard] / effect, effect`."""
        guard = f" [{self.guard}]" if self.guard is not None else ""
        effects = f" / {', '.join(map(str, self.effects))}" if self.effects else ""
        return f"{self.event}{guard}{effects}"

    @property
    def says(self) -> bool:
        """Whether something is said in the target's history."""
        return any(e.says for e in self.effects)

    @property
    def discards(self) -> bool:
        """Whether the reply is dropped."""
        return any(e.change == "discard" for e in self.effects)

    def row(self) -> dict[str, object]:
        """The edge as a row of the `transitions` library, plus `effects` and `implied`."""
        return {
            "trigger": self.event,
            "source": self.source,
            "dest": self.dest,
            "conditions": [self.guard] if self.guard is not None else [],
            "effects": list(self.effects),
            "implied": self.implied,
        }


@frozen
class Loose:
    """A target that is no state of this workflow; the checks report it (W10)."""

    source: str
    event: str
    problem: str
    where: str


@frozen
class Graph:
    """The declaration as data: nodes, edges, and what could not be resolved."""

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    loose: tuple[Loose, ...] = field(default=(), eq=False)
    doc: str = field(default="", eq=False)
    strict: bool = False

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def _rows(self) -> Mapping[str, Mapping[str, tuple[Edge, ...]]]:
        rows: dict[str, dict[str, list[Edge]]] = {node.name: {} for node in self.nodes}
        for edge in self.edges:
            rows[edge.source].setdefault(edge.event, []).append(edge)
        return {source: {event: tuple(found) for event, found in events.items()} for source, events in rows.items()}

    @property
    def initial(self) -> str:
        """The name of the first state; empty where there is none."""
        return next((node.name for node in self.nodes if node.initial), "")

    def row(self, state: str, event: str) -> tuple[Edge, ...]:
        """The alternatives of an event in a state, in order; empty where it is not accepted."""
        return self._rows.get(state, {}).get(event, ())

    @cached_property
    def _plain(self) -> frozenset[tuple[str, str]]:
        return frozenset(
            (source, event)
            for source, events in self._rows.items()
            for event, row in events.items()
            if all(edge.guard is None and not edge.effects for edge in row)
        )

    def is_plain(self, state: str, event: str) -> bool:
        """Whether the row has neither guards nor effects."""
        return (state, event) in self._plain

    @cached_property
    def tools(self) -> Mapping[tuple[str, str], ToolSpec]:
        """The tools that our side runs, by history and name."""
        return {
            (node.history or "", spec.name): spec
            for node in reversed(self.nodes)
            if isinstance(node.state, Claude)
            for spec in node.state.client_tools
        }

    def outgoing(self, state: str) -> tuple[Edge, ...]:
        """All edges of a state."""
        return tuple(edge for found in self._rows.get(state, {}).values() for edge in found)

    def events(self, state: str) -> tuple[str, ...]:
        """The events that a state accepts."""
        return tuple(self._rows.get(state, {}))

    def used_exits(self) -> frozenset[str]:
        """The exits that a row of the workflow's own leads to."""
        return frozenset(e.dest for e in self.edges if not e.implied and self.by_name[e.dest].is_exit)

    def callers(self, state: str) -> tuple[Claude, ...]:
        """The `Claude` states whose calls can be open when this state is entered: backwards until a Claude state."""
        found: dict[str, Claude] = {}
        seen, todo = {state}, [state]
        while todo:
            here = todo.pop()
            for edge in self.edges:
                if edge.dest != here or edge.source in seen:
                    continue
                source = self.by_name[edge.source].state
                if isinstance(source, Claude):
                    if edge.event == "tool_use":
                        found[edge.source] = source
                elif edge.event not in {"tool_results", "denied"}:
                    seen.add(edge.source)
                    todo.append(edge.source)
        return tuple(found.values())


def build_graph(
    name: str,
    states: Mapping[str, State],
    *,
    families: Collection[object] = (),
    strict: bool = False,
    doc: str = "",
) -> Graph:
    """Resolve the targets of declared states by name and add the standard rows.

    `families` are the classes whose states may be targets by name: the workflow and its bases.
    """
    first = next((n for n, s in states.items() if s.initial), next(iter(states), ""))
    nodes = [_node(n, s, initial=n == first) for n, s in states.items()]
    nodes += [_node(n, EXIT_STATES[n], is_exit=True) for n in FINAL_NAMES if n not in states]
    resolver = _Resolver(states, families)
    for source, state in states.items():
        resolver.own(source, state)
        if not strict:
            resolver.standard(source, state)
    places = {node.name: i for i, node in enumerate(nodes)}
    edges = sorted(resolver.edges, key=lambda e: (places[e.source], *_event_place(states[e.source], e.event), e.index))
    return Graph(name, tuple(nodes), tuple(edges), tuple(resolver.loose), doc, strict)


def _node(name: str, state: State, *, initial: bool = False, is_exit: bool = False) -> Node:
    return Node(
        name,
        state.kind,
        initial=initial,
        ok=state.ok if isinstance(state, Final) else True,
        history=state.history,
        is_exit=is_exit,
        where="" if is_exit else state.where,
        state=state,
    )


_PLACES = {event: place for place, event in enumerate(ALPHABET)}


def _event_place(state: State, event: str) -> tuple[int, str]:
    if isinstance(state, Code) and event in state.outcomes:
        return (state.outcomes.index(event) - len(state.outcomes), "")
    return (_PLACES.get(event, len(_PLACES)), event)


class _Resolver:
    """Targets to names. A target is the object itself, an exit, or a state of the same name in a base class."""

    def __init__(self, states: Mapping[str, State], families: Collection[object]) -> None:
        self.states = states
        self.names = {id(state): name for name, state in states.items()}
        self.exits = {id(state): name for name, state in EXIT_STATES.items()}
        self.families = families
        self.edges: list[Edge] = []
        self.loose: list[Loose] = []

    def own(self, source: str, state: State) -> None:
        for event, alternatives in state.rows.items():
            where = state.row_lines.get(event, state.where)
            self._add(source, event, alternatives, where, is_implied=False)

    def standard(self, source: str, state: State) -> None:
        for event, alternatives in implied(state).items():
            self._add(source, event, alternatives, "", is_implied=True)

    def _add(
        self, source: str, event: str, row: Sequence[Alternative | Standard], where: str, *, is_implied: bool
    ) -> None:
        for index, alternative in enumerate(row):
            dest = self._dest(source, event, alternative, where)
            if dest is not None:
                self.edges.append(
                    Edge(source, event, dest, index, alternative.guard, alternative.effects, is_implied, where)
                )

    def _dest(self, source: str, event: str, alternative: Alternative | Standard, where: str) -> str | None:
        if isinstance(alternative, Standard):
            return source if alternative.target == SELF else alternative.target
        target = alternative.target
        name = self.names.get(id(target)) or self.exits.get(id(target))
        if name is not None:
            return name
        if target.name in self.states and target.family in self.families:
            return target.name
        if target.name is None:
            problem = f"the target {target.kind} has no name: assign it in the class body"
        else:
            problem = (
                f"the target '{target.name}' belongs to the workflow '{target.owner}': declare a state here, "
                "or subclass that workflow"
            )
        self.loose.append(Loose(source, event, problem, where))
        return None
