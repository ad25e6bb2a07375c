"""Finding a shortest way to every row of a workflow.

Guards are opaque, so nothing is computed from them: the real conversation is fed, step by step, and what it does is
looked at. Three kinds of search take turns until nothing new is found:

 1. Breadth first over situations in which counters do not count. It finds most rows, each by a shortest way.
 2. For a row that is still missing, from its source: only its event, again and again, and ways back to the source.
    Here attempts and rounds make situations differ, so that `attempts_left(6)` runs out.
 3. The same again under `Limits(turns=1)`, `2`, ... for what only `over_limit` leads to.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Hashable, Iterator

from fsm._conversation._fold import family
from fsm._conversation._run_state import RunState
from fsm._graph import Edge
from fsm.testing._steps import Step, Steps
from fsm.testing._world import Key, Node, StepFailed, World

MOST_SITUATIONS = 3000
"""Situations looked at in one breadth-first search."""

MOST_TRIED = 400
"""Situations looked at for one way to an end."""

MOST_STEPS = 1500
"""Steps tried for one row, in each of the two ways."""

MOST_TURNS = 6
"""The largest `Limits(turns=)` tried for rows that `over_limit` leads to."""

_LENGTHENING = frozenset({"max_tokens", "pause_turn"})  # they make a state send again without ending its turn

Filter = Callable[[Node, Step], bool]
Wanted = Callable[[Node], bool]


def anything(node: Node, step: Step) -> bool:
    """Every step."""
    del node, step
    return True


def nothing_wrong(node: Node, step: Step) -> bool:
    """Only what happens in a run in which nothing goes wrong."""
    del node
    return step.is_proper


def or_parks(node: Node, step: Step) -> bool:
    """The same, and a person may stay away."""
    return nothing_wrong(node, step) or step.kind == "park"


def is_over(node: Node) -> bool:
    """Whether the run ended or is parked."""
    return node.is_over


def situation(run: RunState) -> Hashable:
    """What a guard may look at and rules depend on, counters apart."""
    reply = run.reading.reply if run.reading is not None else None
    return (
        run.state,
        run.parked is not None,
        tuple((name, ledger.standing, bool(ledger.tail)) for name, ledger in run.ledgers.items()),
        tuple((call.call.name, call.decision and call.decision.verb) for call in run.open.values()),
        tuple(call.name for call in reply.calls) if reply is not None else (),
        reply.stop_sequence if reply is not None else None,
        json.dumps([run.output, dict(run.values)], sort_keys=True, default=str),
        bool(run.waiting),
        run.free,
    )


class Search:
    """What was found in one workflow so far. `found` maps each covered row to the node behind it."""

    def __init__(self, world: World, steps: Steps) -> None:
        self.world, self.steps = world, steps
        self.graph = world.workflow.graph
        self.found: dict[Key, Node] = {}
        self.problems: dict[str, str] = {}  # state -> why a step there failed
        self.entered: dict[str, list[Node]] = {}  # state -> some nodes that stand there

    def run(self) -> None:
        """Look for every row."""
        limits = self.world.workflow.limits.given()
        self._spread(self.world.begin(limits), anything)
        for turns in range(1, MOST_TURNS + 1):
            if not any(edge.event == "over_limit" for edge in self.missing()):
                return
            self.entered = {}
            self._spread(self.world.begin({**limits, "turns": turns}), self._uses_turns)

    def missing(self) -> list[Edge]:
        """The rows that no way was found to."""
        return [edge for edge in self.graph.edges if edge.key not in self.found]

    def _uses_turns(self, node: Node, step: Step) -> bool:
        """What makes turns: proper steps, replies that are continued, and what the workflow has rows of its own for."""
        rows = self.graph.row(node.run.state, step.event)
        return step.is_proper or step.event in _LENGTHENING or any(not row.implied for row in rows)

    def _spread(self, start: Node, allowed: Filter) -> None:
        seen: set[Hashable] = set()
        given_up: dict[Key, int] = {}  # row -> how much was known when it was last looked for in vain
        self._note(start)
        todo = deque([start])
        while todo:
            self._breadth_first(todo, seen, allowed)
            for edge in self.missing():
                known = len(seen)
                if given_up.get(edge.key) != known and self._may_happen(edge, start):
                    node = self._toward(edge)
                    given_up[edge.key] = known
                    todo.extend([node] if node is not None else [])

    def _may_happen(self, edge: Edge, start: Node) -> bool:
        """Whether a search for this row can find anything."""
        if edge.source not in self.entered:
            return False
        if edge.event == "over_limit":
            return bool(start.limits)
        is_claude = self.graph.by_name[edge.source].kind == "Claude"
        return not is_claude or edge.event in self.steps.events(edge.source)

    def _breadth_first(self, todo: deque[Node], seen: set[Hashable], allowed: Filter) -> None:
        while todo and len(seen) < MOST_SITUATIONS:
            node = todo.popleft()
            key = situation(node.run)
            if node.is_over or key in seen:
                continue
            seen.add(key)
            self.entered.setdefault(node.run.state, []).append(node)
            todo.extend(self._onward(node, allowed))
        todo.clear()

    def _onward(self, node: Node, allowed: Filter, *, note: bool = True) -> Iterator[Node]:
        """The nodes behind one step more; the rows that they cover are noted."""
        for step in self.steps.of(node.action):
            if not allowed(node, step):
                continue
            try:
                after = self.world.after(node, step)
            except StepFailed as failed:
                self.problems.setdefault(node.run.state, str(failed))
                continue
            if note:
                self._note(after)
            yield after

    def _note(self, node: Node) -> None:
        for key in node.taken:
            self.found.setdefault(key, node)

    # --- one row -----------------------------------------------------------------------------------------------------

    def _toward(self, edge: Edge) -> Node | None:
        """A node behind this row, from nodes that stand in its source."""
        back = self._leading_to(edge.source)

        def repeats(node: Node, step: Step) -> bool:
            here = node.run.state == edge.source
            return step.event == edge.event if here else step.is_proper and node.run.state in back

        def wanders(node: Node, step: Step) -> bool:
            here = node.run.state == edge.source
            return node.run.state in back and (step.is_proper or not here or step.event == edge.event)

        for allowed in (wanders,) if edge.event == "over_limit" else (repeats, wanders):
            if (node := self._count_up(edge, allowed)) is not None:
                return node
        return None

    def _count_up(self, edge: Edge, allowed: Filter) -> Node | None:
        def counted(run: RunState) -> Hashable:
            rounds = tuple(n for key, n in sorted(run.rounds.items()) if key[:2] == (edge.source, edge.event))
            attempts = run.attempts.get((edge.source, family(edge.event)), 0)
            return (situation(run), rounds, attempts, run.tokens.get(edge.source), min(run.turns, 2 * MOST_TURNS))

        todo = deque(self.entered[edge.source][:3])
        seen = {counted(node.run) for node in todo}
        tried = 0
        while todo and tried < MOST_STEPS:
            for after in self._onward(todo.popleft(), allowed):
                tried += 1
                if edge.key in after.taken:
                    return after
                key = counted(after.run)
                if not after.is_over and key not in seen:
                    seen.add(key)
                    todo.append(after)
        return None

    def _leading_to(self, state: str) -> frozenset[str]:
        """The states from which this one can be reached, itself included."""
        found, todo = {state}, [state]
        while todo:
            here = todo.pop()
            new = {edge.source for edge in self.graph.edges if edge.dest == here} - found
            found |= new
            todo.extend(new)
        return frozenset(found)

    # --- an end ------------------------------------------------------------------------------------------------------

    def to_an_end(self, node: Node) -> Node:
        """From a node on to where the run ends, best in success; the node itself where nothing ends it."""
        if node.is_over:
            return node
        return (
            self.first_of(node, self.is_success, nothing_wrong)
            or self.first_of(node, is_over, or_parks)
            or self.first_of(node, is_over, anything)
            or node
        )

    def is_success(self, node: Node) -> bool:
        """Whether the run ended in a final state that counts as success."""
        state = self.graph.by_name[node.run.state]
        return node.run.closed is not None and state.ok and not state.is_exit

    def first_of(self, start: Node, wanted: Wanted, allowed: Filter, *, within: int = MOST_TRIED) -> Node | None:
        """Breadth first, at most `within` steps, to the first node that is wanted. Rounds count: loops end."""
        if wanted(start):
            return start
        todo = deque([start])
        seen: set[Hashable] = set()
        while todo and len(seen) < MOST_TRIED:
            for after in self._onward(todo.popleft(), allowed, note=False):
                if wanted(after):
                    return after
                key = (situation(after.run), tuple(sorted(after.run.rounds.items())))
                if not after.is_over and key not in seen and after.depth < start.depth + within:
                    seen.add(key)
                    todo.append(after)
        return None
