"""The data-flow over the declared arrows: what Claude is owed, and by which history (W6, W7, W9, W12).

A run is walked symbolically from its start. What is known of a history is its `Standing`; `after_reply`, which the
running ledger calls too, says what a reply makes of it. Guards are opaque: every alternative is taken, up to the
first unconditional one. A path ends at its first fault, so that one fault gives one finding.

Histories influence each other only where one copies another (`continues=`) and through what is shared: the words that
wait to be said, and which history has open calls, newest last. So each history is walked on its own, together with
those it copies; the others appear only as "somebody else's open calls". That keeps the walk linear in the histories.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping

from attrs import frozen

from fsm._graph import Edge, Graph, Node
from fsm._ledger import Standing, after_reply, begins_anew, history_of, is_kept
from fsm._states import Claude

from ._faults import Fault, fault_finding, first_ones
from ._findings import Finding

BUDGET = 20_000
"""Moves tried for one history. Beyond it the walk ends; the running ledger refuses what is left (rule 5)."""

_DEEPEST = 4  # open calls of more histories at once are not followed
_ELSEWHERE = -1  # calls of a history that this walk does not follow

# standing, the state whose request was refused, whether the ledger holds calls (R19e)
_Fact = tuple[Standing, str, bool]
# state, whether words wait, a fact for each history that is followed, whose calls are open
_Situation = tuple[str, bool, tuple[_Fact, ...], tuple[int, ...]]

_START: _Fact = (Standing.EMPTY, "", False)


@frozen
class Flow:
    """What the walk found. `steps` counts the moves tried; `complete` is False when the budget ended it."""

    findings: tuple[Finding, ...]
    steps: int
    complete: bool


@frozen
class _Arrow:
    """An edge as the walk sees it. Edges that do the same are walked once."""

    edge: Edge
    after: Standing | None  # of the source's history, where a Claude state is left
    says: bool
    calls: bool  # the reply is kept and can hold calls, of ours or of the API's own tools
    rewrites: bool  # the target's next request differs in its head or its past
    compacts: bool
    summarised: bool
    closes: bool
    hears: bool

    @property
    def key(self) -> tuple[object, ...]:
        """What it does, whichever edge it is."""
        return (
            self.edge.dest,
            self.after,
            self.says,
            self.calls,
            self.rewrites,
            self.compacts,
            self.summarised,
            self.closes,
            self.hears,
        )


def live_edges(graph: Graph, state: str) -> Iterator[Edge]:
    """The alternatives that can be taken: none after an unconditional one."""
    for event in graph.events(state):
        for edge in graph.row(state, event):
            yield edge
            if edge.guard is None:
                break


def _arrow(graph: Graph, edge: Edge) -> _Arrow:
    source, dest = graph.by_name[edge.source], graph.by_name[edge.dest]
    after, holds_calls = None, False
    if isinstance(source.state, Claude):
        said = edge.says and isinstance(dest.state, Claude) and dest.history == source.history
        # A Claude state is entered only when the model owes an answer, so that is how it is left.
        after = after_reply(edge.event, Standing.OWES, said=said, discarded=edge.discards)
        has_server_tools = len(source.state.client_tools) < len(source.state.tools)
        holds_calls = after is Standing.CALLS or (
            has_server_tools and is_kept(edge.event, said=said, discarded=edge.discards)
        )
    changes = {effect.change for effect in edge.effects}
    return _Arrow(
        edge,
        after,
        edge.says,
        holds_calls,
        _is_other_model(edge, source),
        "compact" in changes,
        edge.event == "compaction",
        edge.event in {"tool_results", "denied"} or (edge.event == "expired" and source.kind == "Approval"),
        edge.event == "said",
    )


def _is_other_model(edge: Edge, source: Node) -> bool:
    """Whether the arrow leads to another model: a switch to the model that was asked changes nothing (S8.3)."""
    asked = source.state.model if isinstance(source.state, Claude) else None
    return any(e.change == "model" and (e.model is None or e.model != asked) for e in edge.effects)


def _arrows(graph: Graph, stopped: Collection[tuple[str, str, int]]) -> dict[str, tuple[_Arrow, ...]]:
    found: dict[str, tuple[_Arrow, ...]] = {}
    for node in graph.nodes:
        distinct: dict[tuple[object, ...], _Arrow] = {}
        for edge in live_edges(graph, node.name):
            if edge.key not in stopped and not graph.by_name[edge.dest].is_final:
                arrow = _arrow(graph, edge)
                distinct.setdefault(arrow.key, arrow)
        found[node.name] = tuple(distinct.values())
    return found


def same_request(one: Claude, other: Claude) -> bool:
    """Whether two states send the same request for the same messages. `max_tokens` does not count (S8.3)."""
    return (
        one.model == other.model
        and one.system == other.system
        and [(t.name, t.form, t.run) for t in one.tools] == [(t.name, t.form, t.run) for t in other.tools]
        and one.params == other.params
        and getattr(one.output, "source", None) == getattr(other.output, "source", None)
    )


class _Walk:
    """All situations that a run can be in, as far as the followed histories are concerned."""

    def __init__(
        self,
        graph: Graph,
        arrows: Mapping[str, tuple[_Arrow, ...]],
        histories: tuple[str, ...],
        lenient: Collection[str],
    ) -> None:
        self.graph, self.arrows, self.lenient = graph, arrows, lenient
        self.histories, self.index = histories, {history: place for place, history in enumerate(histories)}
        self.faults: dict[tuple[str, str, str], Fault] = {}
        self.steps = 0
        self.came: dict[_Situation, tuple[_Situation, Edge] | None] = {}

    def run(self, budget: int) -> bool:
        """Breadth first, so that the first path to a fault is a shortest one. False when the budget ended it."""
        start: _Situation = (self.graph.initial, True, (_START,) * len(self.index), ())
        first = self._enter(start, self.graph.by_name[self.graph.initial], None, None)
        if not isinstance(first, tuple):
            self._blame(first, start, None)
            return True
        self.came[first] = None
        todo = deque([first])
        while todo:
            here = todo.popleft()
            worked_for = self._worked_for(here)
            for arrow in self.arrows[here[0]]:
                self.steps += 1
                if self.steps > budget:
                    return False
                left = self._leave(here, arrow)
                there = self._enter(left, self.graph.by_name[arrow.edge.dest], arrow, worked_for)
                if not isinstance(there, tuple):
                    self._blame(there, here, arrow.edge)
                elif there not in self.came and len(there[3]) <= _DEEPEST:
                    self.came[there] = (here, arrow.edge)
                    todo.append(there)
        return True

    def _worked_for(self, here: _Situation) -> str | None:
        node, calls = self.graph.by_name[here[0]], here[3]
        home = self.histories[calls[-1]] if calls and calls[-1] != _ELSEWHERE else None
        return history_of(node.kind, node.history, home)

    def _leave(self, here: _Situation, arrow: _Arrow) -> _Situation:
        name, waiting, facts, calls = here
        if arrow.after is not None:
            place = self.index.get(self.graph.by_name[name].history or "", _ELSEWHERE)
            if arrow.after is Standing.CALLS:
                calls = (*calls, place)
            if place != _ELSEWHERE:
                # S10.2: after a summary that nothing but itself was asked for, there is nothing to answer.
                is_done = arrow.summarised and facts[place][0] is Standing.SPOKEN
                after = Standing.SPOKEN if is_done else arrow.after
                refused = name if after is Standing.REFUSED else ""
                facts = _with(facts, place, (after, refused, facts[place][2] or arrow.calls))
        elif arrow.closes and calls:
            *rest, place = calls
            calls = tuple(rest)
            if place != _ELSEWHERE:
                facts = _with(facts, place, (Standing.OWES, "", facts[place][2]))
        return (name, waiting or arrow.hears, facts, calls)

    def _enter(self, left: _Situation, node: Node, arrow: _Arrow | None, worked_for: str | None) -> _Situation | str:
        """The situation in the state, or the reason why it may not be entered."""
        _, waiting, facts, calls = left
        state = node.state
        if node.kind in {"Tools", "Approval"} and not calls:
            return "no call"
        if not isinstance(state, Claude):
            return (node.name, waiting, facts, calls)
        hears = waiting and state.prompt is None
        place = self.index.get(state.history or "", _ELSEWHERE)
        if place != _ELSEWHERE:
            begun = self._begun(state, facts, worked_for)
            entered = begun if isinstance(begun, str) else self._asked(state, node.name, begun, arrow, hears=hears)
            if isinstance(entered, str):
                return entered
            facts = _with(facts, place, entered)
        return (node.name, waiting and not hears, facts, calls)

    def _asked(self, state: Claude, name: str, fact: _Fact, arrow: _Arrow | None, *, hears: bool) -> _Fact | str:
        standing, refused, called = fact
        if standing is Standing.CALLS:
            return "said" if arrow is not None and arrow.says else "open"
        owes: _Fact = (Standing.OWES, "", called)
        if hears or standing is Standing.OWES or (arrow is not None and arrow.says):
            return owes
        if standing is Standing.REFUSED:
            by = self.graph.by_name[refused].state
            is_same = isinstance(by, Claude) and same_request(by, state) and not (arrow is not None and arrow.rewrites)
            return "refused" if is_same else owes
        if state.prompt is not None or name in self.lenient:
            return owes
        if standing is Standing.EMPTY:
            return "empty"
        return (Standing.SPOKEN, "", called) if arrow is not None and arrow.compacts else "spoken"

    def _begun(self, state: Claude, facts: tuple[_Fact, ...], worked_for: str | None) -> _Fact | str:
        """The ledger in which the state speaks: its own, or a new one that it begins."""
        history = state.history or ""
        fact = facts[self.index[history]]
        if not begins_anew(fact[0], history, worked_for):
            return fact
        if state.fresh:
            return _START
        if state.continues is None or state.continues not in self.index:
            return fact
        origin = facts[self.index[state.continues]]
        if origin[0] is Standing.CALLS:
            return "copied"
        if origin[2] and not state.tools:
            return "no tools"
        return origin

    def _blame(self, reason: str, here: _Situation, edge: Edge | None) -> None:
        dest = self.graph.by_name[edge.dest if edge is not None else self.graph.initial]
        origin = dest.state.continues if isinstance(dest.state, Claude) else None
        fault = Fault(reason, edge, dest, origin or "", self._walked(here) if edge is not None else ())
        self.faults.setdefault(fault.place, fault)

    def _walked(self, here: _Situation) -> tuple[Edge, ...]:
        edges: list[Edge] = []
        step = self.came[here]
        while step is not None:
            edges.append(step[1])
            step = self.came[step[0]]
        return tuple(reversed(edges))


def _with(facts: tuple[_Fact, ...], place: int, fact: _Fact) -> tuple[_Fact, ...]:
    return (*facts[:place], fact, *facts[place + 1 :])


def _families(graph: Graph) -> list[tuple[str, ...]]:
    """Each history with those it copies, directly or not; none that another family holds already."""
    copies: dict[str, set[str]] = {}
    for node in graph.nodes:
        if isinstance(node.state, Claude):
            known = copies.setdefault(node.state.history or "", set())
            known |= {node.state.continues} if node.state.continues else set()
    families: list[set[str]] = []
    for history in copies:
        family, todo = {history}, [history]
        while todo:
            new = (copies[todo.pop()] & copies.keys()) - family
            family |= new
            todo.extend(new)
        families.append(family)
    largest = [f for f in families if not any(f < other for other in families)]
    return sorted({tuple(sorted(f)) for f in largest}) or [()]


def explore(
    graph: Graph,
    *,
    stopped: Collection[tuple[str, str, int]] = frozenset(),
    lenient: Collection[str] = frozenset(),
    budget: int = BUDGET,
) -> Flow:
    """Walk a workflow and report where Claude, a tool or a person would be asked what cannot be asked.

    Args:
        graph: the declaration; it has an initial state.
        stopped: keys of edges that have a finding already; they are not walked.
        lenient: states whose declaration has a finding already (W11); an empty ledger is accepted there.
        budget: moves tried for one history at most.
    """
    arrows = _arrows(graph, stopped)
    faults: list[Fault] = []
    steps, complete = 0, True
    for histories in _families(graph):
        walk = _Walk(graph, arrows, histories, lenient)
        complete = walk.run(budget) and complete
        steps += walk.steps
        faults.extend(walk.faults.values())
    return Flow(tuple(fault_finding(graph, fault) for fault in first_ones(faults)), steps, complete)
