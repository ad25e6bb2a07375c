"""The second form of a declaration, in the format of the `transitions` library, is equal to the first."""

from __future__ import annotations

import re
import types
from typing import Any

import pytest
from _workflows import MODEL, WORKFLOWS, find, yes
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm import (
    Approval,
    Claude,
    DeclarationError,
    Final,
    Human,
    Tools,
    Workflow,
    WorkflowError,
    exits,
    rounds_left,
    say,
)
from fsm._state import State


def again(workflow: type[Workflow]) -> type[Workflow]:
    return Workflow.from_transitions(
        name=workflow.name, states=workflow.states, transitions=workflow.table, limits=workflow.limits, check=False
    )


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda w: w.name)
def test_the_table_of_a_workflow_makes_an_equal_one(workflow: type[Workflow]) -> None:
    made = again(workflow)
    assert made.graph == workflow.graph
    assert made.table == workflow.table
    assert made.graph.initial == workflow.graph.initial
    assert list(made.states) == list(workflow.states)
    assert {n: s.kind for n, s in made.states.items()} == {n: s.kind for n, s in workflow.states.items()}


KINDS = {
    "Claude": lambda: Claude(model=MODEL, max_tokens=10, tools=[find], stop_sequences=["</a>"]),
    "Tools": Tools,
    "Approval": lambda: Approval(within=5),
    "Human": Human,
    "Final": Final,
}


@st.composite
def workflows(draw: st.DrawFn) -> type[Workflow]:
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=4))
    states: dict[str, State] = {f"s{i}": KINDS[kind]() for i, kind in enumerate(kinds)}
    if draw(st.booleans()):
        states[draw(st.sampled_from(list(states)))].initial = True
    targets = [*states.values(), exits.failed, exits.truncated]
    for state in states.values():
        names = () if state.kind == "Final" else state.alphabet()
        for event in draw(st.lists(st.sampled_from(names), max_size=4, unique=True)) if names else ():
            row = []
            for _ in range(draw(st.integers(1, 3))):
                target: Any = draw(st.sampled_from(targets))
                if draw(st.booleans()):
                    target = target.when(draw(st.sampled_from([yes, ~yes, rounds_left(2), yes & rounds_left(3)])))
                if draw(st.booleans()):
                    target = target.then(say("Go on."))
                row.append(target)
            state._on({event: row})
    return types.new_class("Drawn", (Workflow,), {"check": False}, lambda space: space.update(states))


@settings(max_examples=200)
@given(workflows())
def test_any_table_makes_an_equal_workflow(workflow: type[Workflow]) -> None:
    made = again(workflow)
    assert made.graph == workflow.graph
    assert made.table == workflow.table
    assert again(made).table == made.table


def states() -> dict[str, Any]:
    return {
        "asking": Claude(model=MODEL, max_tokens=10, tools=[find]),
        "calling": Tools(),
        "waiting": Human(),
        "done": Final(),
    }


ROWS: list[Any] = [
    ["tool_use", "asking", "calling"],
    ["end_turn", "asking", "waiting"],
    {"trigger": "tool_results", "source": "calling", "dest": "asking"},
    {"trigger": "said", "source": "waiting", "dest": "done", "conditions": "bye"},
    {"trigger": "said", "source": "waiting", "dest": "asking"},
]


def made(*rows: Any, **more: Any) -> type[Workflow]:
    options: dict[str, Any] = {"name": "W", "states": states(), "guards": {"bye": yes, "again": rounds_left(2)}, **more}
    return Workflow.from_transitions(transitions=rows, **options)


def arrows(workflow: type[Workflow]) -> set[tuple[str, str, str, str]]:
    return {(e.source, e.event, e.dest, str(e.guard or "")) for e in workflow.graph.edges if not e.implied}


def test_lists_and_dicts_are_rows() -> None:
    assert arrows(made(*ROWS)) == {
        ("asking", "tool_use", "calling", ""),
        ("asking", "end_turn", "waiting", ""),
        ("calling", "tool_results", "asking", ""),
        ("waiting", "said", "done", "always true"),
        ("waiting", "said", "asking", ""),
    }


def test_a_list_may_hold_conditions_and_unless() -> None:
    rows = [*ROWS[:3], ["said", "waiting", "done", "bye", "again"], ["said", "waiting", "asking"]]
    assert ("waiting", "said", "done", "always true & not rounds_left(2)") in arrows(made(*rows))


def test_conditions_and_unless_are_joined() -> None:
    row = {**ROWS[3], "conditions": ["bye", rounds_left(5)], "unless": ["again"]}
    workflow = made(*ROWS[:3], row, ROWS[4])
    assert ("waiting", "said", "done", "always true & rounds_left(5) & not rounds_left(2)") in arrows(workflow)


def test_a_star_is_every_state_that_is_not_final() -> None:
    workflow = made(*ROWS, ["cancel", "*", "done"])
    assert {a for a in arrows(workflow) if a[1] == "cancel"} == {
        (state, "cancel", "done", "") for state in ("asking", "calling", "waiting")
    }


def test_an_equals_sign_is_the_source_and_sources_may_be_many() -> None:
    row = {"trigger": "cancel", "source": ["asking", "waiting"], "dest": "=", "conditions": "again"}
    workflow = made(*ROWS, row, ["cancel", ["asking", "waiting"], "cancelled"])
    assert {a for a in arrows(workflow) if a[1] == "cancel"} == {
        ("asking", "cancel", "asking", "rounds_left(2)"),
        ("asking", "cancel", "cancelled", ""),
        ("waiting", "cancel", "waiting", "rounds_left(2)"),
        ("waiting", "cancel", "cancelled", ""),
    }


def test_effects_and_exits_are_taken() -> None:
    row = {"trigger": "refusal", "source": "asking", "dest": "asking", "conditions": "again", "effects": [say("Else.")]}
    workflow = made(*ROWS, row, ["refusal", "asking", "refused"])
    first, second = workflow.graph.row("asking", "refusal")
    assert ([str(e) for e in first.effects], second.dest) == (["say('Else.')"], "refused")


def test_the_states_given_are_not_changed_and_serve_twice() -> None:
    given_states = states()
    first = made(*ROWS, states=given_states)
    second = made(*ROWS, states=given_states)
    assert all(not s.rows and s.name is None and not s.sealed for s in given_states.values())
    assert first.graph == second.graph


def test_initial_is_the_first_state_unless_another_is_named() -> None:
    assert made(*ROWS).graph.initial == "asking"
    assert made(*ROWS, initial="waiting").graph.initial == "waiting"
    with pytest.raises(DeclarationError, match="initial='nowhere' is no state; the states are asking, calling"):
        made(*ROWS, initial="nowhere")


def boom(*args: Any) -> None:
    raise AssertionError(args)


BASE = {"trigger": "end_turn", "source": "asking", "dest": "waiting"}
REFUSED = {
    "before": ({**BASE, "before": boom}, r"'before'.*effects=\[\.\.\.\]"),
    "after": ({**BASE, "after": boom}, r"'after'.*effects=\[\.\.\.\]"),
    "prepare": ({**BASE, "prepare": boom}, r"'prepare'.*conditions=\[\.\.\.\]"),
    "on_enter": ({**BASE, "on_enter": boom}, "'on_enter'.*prompt="),
    "on_exit": ({**BASE, "on_exit": boom}, "'on_exit'.*an effect on the rows that leave"),
    "no dest": ({**BASE, "dest": None}, r"dest='=' with effects="),
    "no dest in a list": (["end_turn", "asking", None], r"dest='=' with effects="),
    "unknown key": ({**BASE, "condition": "bye"}, "unknown key 'condition'; known: trigger, source, dest, conditions"),
    "missing key": ({"trigger": "end_turn", "source": "asking"}, "lacks dest"),
    "unknown source": ({**BASE, "source": "nowhere"}, "source 'nowhere' is no state; the states are asking, calling"),
    "unknown dest": ({**BASE, "dest": "nowhere"}, "dest 'nowhere' is no state; known: asking, .*failed"),
    "unknown guard": ({**BASE, "conditions": "maybe"}, r"guard 'maybe', which guards= does not have \(bye, again\)"),
    "unknown guard in unless": ({**BASE, "unless": ["maybe"]}, "guard 'maybe'"),
    "bare lambda": ({**BASE, "conditions": lambda facts: True}, "@guard"),
    "named effect": ({**BASE, "effects": ["say"]}, r"effect objects such as say\('...'\), not the name 'say'"),
    "bare effect": ({**BASE, "effects": [boom]}, "@effect"),
    "unknown event": ({**BASE, "trigger": "end_trun"}, "did you mean end_turn"),
    "an event of another kind": ({**BASE, "trigger": "said"}, "a Claude state has no event 'said'"),
    "a final source": ({**BASE, "source": "done"}, "Final state has no event"),
    "neither list nor dict": ("end_turn", "is a dict, or a list"),
    "short list": (["end_turn", "asking"], "is a dict, or a list"),
    "a callback in a list": (["end_turn", "asking", "waiting", None, None, boom], "is a dict, or a list"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_place_here_is_refused_with_the_remedy(what: str) -> None:
    row, words = REFUSED[what]
    with pytest.raises(DeclarationError, match=words) as caught:
        made(*ROWS, row)
    assert re.match(r"'W(\.\w+)?': ", str(caught.value)), caught.value


def test_an_error_names_the_row() -> None:
    with pytest.raises(DeclarationError, match=r"'W': transitions\[5\]"):
        made(*ROWS, {**BASE, "dest": "nowhere"})


def test_states_with_rows_of_their_own_are_refused() -> None:
    given_states = states()
    given_states["asking"].on(end_turn=given_states["done"])
    with pytest.raises(DeclarationError, match=r"'W.asking' has .on rows of its own .* one of the two forms"):
        made(*ROWS, states=given_states)


def test_what_is_no_state_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"state objects such as Claude\(...\), not 'asking'"):
        made(*ROWS, states={**states(), "asking": "asking"})


def test_the_checks_apply_as_to_a_class() -> None:
    with pytest.raises(WorkflowError) as caught:
        made(*ROWS[1:])
    assert [f.id for f in caught.value.findings if f.event == "tool_use"] == ["W1"]
    assert made(*ROWS[1:], check=False).check()
