"""The machine against a plain look-up: the same edge or the same error, for any workflow and any events."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import pytest
from _workflows import MODEL, WORKFLOWS, Desk, find, no, yes
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm import (
    Approval,
    Claude,
    Code,
    ConversationEnded,
    DecisionError,
    Facts,
    Final,
    FsmError,
    Human,
    IllegalMove,
    Tools,
    guard,
    rounds_left,
)
from fsm._alphabet import ALPHABET
from fsm._compile import Plan, compile_graph
from fsm._exits import exits
from fsm._graph import Edge, Graph, build_graph
from fsm._guards import Guard
from fsm._state import State

Rounds = Mapping[tuple[str, str, int], int]


@guard(name="broken")
def broken(facts: Facts) -> bool:
    raise ZeroDivisionError(facts.event)


def outcome(facts: Facts) -> Literal["ok", "thin"]:
    del facts
    return "ok"


GUARDS = (None, None, yes, no, ~yes, yes & no, yes | no, rounds_left(1), rounds_left(2), broken)
KINDS = {
    "Claude": lambda: Claude(model=MODEL, max_tokens=10, tools=[find]),
    "Tools": Tools,
    "Approval": Approval,
    "Human": Human,
    "Code": lambda: Code(outcome),
    "Final": Final,
}
EVENTS = (*ALPHABET, "ok", "thin", "nonsense")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """States of all kinds with random rows. What the checks would refuse is in it: the machine must not care."""
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=5))
    states: dict[str, State] = {f"s{i}": KINDS[kind]() for i, kind in enumerate(kinds)}
    targets = [*states.values(), exits.failed, exits.stuck]
    for state in states.values():
        names = state.alphabet() if state.kind != "Final" else ()
        for event in draw(st.lists(st.sampled_from(names), max_size=4, unique=True)) if names else ():
            row = draw(st.lists(st.tuples(st.sampled_from(targets), st.sampled_from(GUARDS)), min_size=1, max_size=3))
            state._on({event: [target if g is None else target.when(g) for target, g in row]})
    return build_graph("Random", states, strict=draw(st.integers(0, 3)) > 0)


def truth(condition: Guard | None, facts: Facts, rounds: int) -> bool:
    """What a guard says, by its name alone where it counts rounds: independent of how the machine calls it."""
    if condition is None:
        return True
    if condition.name.startswith("rounds_left"):
        return rounds < int(condition.name[len("rounds_left(") : -1])
    return condition(facts)


def looked_up(graph: Graph, state: str, event: str, facts: Facts, rounds: Rounds) -> Edge | type[FsmError]:
    """The edge that is to be taken, or the kind of error."""
    if next(n for n in graph.nodes if n.name == state).kind == "Final":
        return ConversationEnded
    for edge in graph.edges:
        if (edge.source, edge.event) == (state, event):
            try:
                if truth(edge.guard, facts, rounds.get((state, event, edge.index), 0)):
                    return edge
            except ZeroDivisionError:
                return DecisionError
    return IllegalMove


def moved(plan: Plan, state: str, event: str, facts: Facts, rounds: Rounds) -> Edge | type[FsmError]:
    try:
        return plan.move(state, event, facts, rounds)
    except FsmError as error:
        return type(error)


SEQUENCES = 5
seen: dict[str, int] = {}


@settings(max_examples=500)
@given(graphs(), st.lists(st.lists(st.sampled_from(EVENTS), max_size=12), min_size=SEQUENCES, max_size=SEQUENCES))
def compare(graph: Graph, sequences: list[list[str]]) -> None:
    plan = compile_graph(graph)
    for events in sequences:
        seen["sequences"] = seen.get("sequences", 0) + 1
        state, rounds = graph.initial, dict[tuple[str, str, int], int]()
        # Half of the events are ones that the state has a row for, else hardly any walk would leave its first state.
        for number, event in enumerate(events):
            known = graph.events(state)
            if number % 2 and known:
                event = known[EVENTS.index(event) % len(known)]  # noqa: PLW2901 - drawn, then mapped onto the row
            facts = Facts(state, event)
            expected = looked_up(graph, state, event, facts, rounds)
            got = moved(plan, state, event, facts, rounds)
            assert got == expected, f"{state} on {event}"
            name = "edge" if isinstance(got, Edge) else got.__name__
            seen[name] = seen.get(name, 0) + 1
            if isinstance(got, Edge):
                rounds[got.key] = rounds.get(got.key, 0) + 1
                state = got.dest


def test_the_machine_decides_as_a_look_up_does() -> None:
    compare()
    assert seen.pop("sequences") >= 2000
    assert set(seen) == {"edge", "IllegalMove", "DecisionError", "ConversationEnded"}
    assert min(seen.values()) > 50, seen


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda w: w.name)
def test_each_state_and_event_of_a_real_workflow(workflow: Any) -> None:
    graph, plan = workflow.graph, workflow.plan
    for node in graph.nodes:
        for event in EVENTS:
            facts = Facts(node.name, event, max_tokens=10, max_tokens_cap=100)
            expected = looked_up(graph, node.name, event, facts, {})
            assert moved(plan, node.name, event, facts, {}) == expected, (node.name, event)


def test_a_guard_sees_how_often_its_own_arrow_was_taken() -> None:
    states: dict[str, State] = {"a": Human(), "b": Final()}
    states["a"]._on({"said": [states["a"].when(rounds_left(2)), states["b"]]})
    plan = compile_graph(build_graph("Counting", states))
    rounds: dict[tuple[str, str, int], int] = {}
    path = []
    for _ in range(3):
        edge = plan.move("a", "said", Facts("a", "said", rounds=99), rounds)  # the facts' own count is not believed
        rounds[edge.key] = rounds.get(edge.key, 0) + 1
        path.append(edge.dest)
    assert path == ["a", "a", "b"]


def test_one_machine_serves_every_run_and_keeps_nothing_of_them() -> None:
    before = sum(len(rows) for e in Desk.machine.events.values() for rows in e.transitions.values())
    for _ in range(1000):
        assert Desk.plan.move("asking", "tool_use", Facts("asking", "tool_use")).dest == "calling"
    assert Desk.machine.models == ()
    assert sum(len(rows) for e in Desk.machine.events.values() for rows in e.transitions.values()) == before
    assert Desk.machine is Desk.plan.machine


def test_a_move_is_quick() -> None:
    facts = Facts("asking", "tool_use")
    best = min(_timed(facts) for _ in range(5))
    assert best < 100e-6, f"a move took {best * 1e6:.0f} µs; `add_model` per run would cost more than that"


def _timed(facts: Facts) -> float:
    started = time.perf_counter()
    for _ in range(500):
        Desk.plan.move("asking", "tool_use", facts)
    return (time.perf_counter() - started) / 500
