"""Rule 2: `transitions` enforces the machine, and every way around it is closed. One test a hole."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import _workflows
import pytest
from _workflows import MODEL, Chat, Desk, Driven, message, no, replied, snapshot, text, yes
from transitions import Machine

import fsm
from fsm import Claude, ConversationEnded, DecisionError, Final, IllegalMove, SealedMachine, Workflow, WorkflowError
from fsm._compile import Cursor, Plan
from fsm._events import Answered, Cancelled, Failed, Resumed, TimePassed, ToolEnd, ToolsEnded
from fsm._facts import Facts

PLAN = Desk.plan
MACHINE = Desk.machine
FACTS = Facts("asking", "end_turn")


def everything(plan: Plan) -> Any:
    """All that a machine decides by: to compare before and after an attempt."""
    machine = plan.machine
    return (
        {
            name: {
                source: [(m.source, m.dest, m.edge, m.before, m.after, m.prepare, m.conditions) for m in rows]
                for source, rows in event.transitions.items()
            }
            for name, event in machine.events.items()
        },
        {
            name: (s.name, s.final, s.on_enter, s.on_exit, s.ignore_invalid_triggers)
            for name, s in machine.states.items()
        },
        machine.models,
        machine.initial,
        [machine.before_state_change, machine.after_state_change, machine.prepare_event, machine.finalize_event],
    )


def boom(*args: Any) -> None:
    raise AssertionError(f"a callback ran: {args}")


def test_a_false_guard_is_an_illegal_move_and_not_false() -> None:
    class Guarded(Workflow, check=False):
        """One row, which may not be taken."""

        asking = Claude(model=MODEL, max_tokens=10, prompt="Hi.")
        done = Final()
        asking.on(end_turn=done.when(no))

    plan = Plan(Guarded.graph, type(MACHINE)(Guarded.graph))
    assert (
        plan.machine.events["end_turn"].trigger(Cursor("asking"), facts=FACTS, rounds={}) is False
    )  # the library's way
    with pytest.raises(IllegalMove, match="cannot take end_turn"):
        plan.move("asking", "end_turn", FACTS)


def test_a_guard_that_raises_names_itself_and_chains_its_cause() -> None:
    @fsm.guard
    def broken(facts: Facts) -> bool:
        raise ZeroDivisionError(facts.state)

    class Guarded(Workflow):
        """One row whose guard cannot decide."""

        asking = Claude(model=MODEL, max_tokens=10, prompt="Hi.")
        done = Final()
        asking.on(end_turn=[done.when(broken), done])

    with pytest.raises(
        DecisionError, match="guard 'broken' of 'Guarded' raised ZeroDivisionError in state 'asking'"
    ) as e:
        Guarded.plan.move("asking", "end_turn", FACTS)
    assert isinstance(e.value.__cause__, ZeroDivisionError)
    assert (e.value.kind, e.value.name, e.value.state, e.value.event) == ("guard", "broken", "asking", "end_turn")


def test_an_illegal_move_says_where_what_and_what_else_as_text_and_as_attributes() -> None:
    with pytest.raises(IllegalMove) as caught:
        PLAN.move("calling", "end_turn", FACTS)
    error = caught.value
    assert (error.workflow, error.state, error.event) == ("Desk", "calling", "end_turn")
    assert error.accepted == ("tool_results", "approval_needed", "outcome_unknown", "cancel")
    source = Path(str(_workflows.__file__)).read_text(encoding="utf-8").splitlines()
    line = next(n for n, words in enumerate(source, 1) if "calling = Tools()" in words)
    assert error.where == f"_workflows.py:{line}"
    for part in ("'Desk'", "'calling'", "end_turn", ", ".join(error.accepted), error.where):
        assert part in str(error)


@pytest.mark.parametrize("state", ["asking", "calling", "approving"])
def test_an_event_that_no_state_has_is_an_illegal_move(state: str) -> None:
    with pytest.raises(IllegalMove):
        PLAN.move(state, "to_answered", FACTS)


def test_a_state_that_does_not_exist_is_an_illegal_move() -> None:
    with pytest.raises(IllegalMove, match="'nowhere'"):
        PLAN.move("nowhere", "end_turn", FACTS)


@pytest.mark.parametrize("final", ["answered", "failed", "cancelled"])
@pytest.mark.parametrize("event", ["end_turn", "cancel", "tool_results", "nonsense"])
def test_a_final_state_takes_no_event(final: str, event: str) -> None:
    with pytest.raises(ConversationEnded, match=f"'Desk' ended in '{final}'"):
        PLAN.move(final, event, FACTS)


def test_a_conversation_that_ended_takes_no_late_event() -> None:
    ended = Driven(Desk)
    ended.reply(text("Done."))
    assert ended.state == "answered"
    before = snapshot(ended.conversation)
    late = (
        replied(5, message(text("late"))),
        Failed(5, "overloaded_error", "late"),
        ToolsEnded(5, (ToolEnd("toolu_1", "late"),)),
        Answered(5, said="late"),
        Cancelled(5),
        TimePassed(5),
        Resumed(5),
    )
    for event in late:
        with pytest.raises(ConversationEnded, match="ended in 'answered'"):
            ended.conversation.feed(event)
    assert snapshot(ended.conversation) == before


# --- the cursor -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state", "edge", "_state", "anything"])
def test_the_state_cannot_be_assigned(name: str) -> None:
    cursor = Cursor("asking")
    with pytest.raises(SealedMachine, match="feed the conversation"):
        setattr(cursor, name, "answered")
    with pytest.raises(SealedMachine):
        delattr(cursor, name)
    assert (cursor.state, cursor.edge) == ("asking", None)


def test_set_state_cannot_move_a_cursor() -> None:
    cursor = Cursor("asking")
    with pytest.raises(SealedMachine):
        MACHINE.set_state("answered", cursor)
    with pytest.raises(SealedMachine):
        Machine.set_state(MACHINE, "answered", cursor)
    assert cursor.state == "asking"


# --- the machine ------------------------------------------------------------------------------------------------------

A_MOVE = MACHINE.events["end_turn"].transitions["asking"][0]
AN_EVENT = MACHINE.events["end_turn"]
A_STATE = MACHINE.states["asking"]


class Model:
    """Something that the library would put methods on."""


HOLES = {
    "add_model": lambda: MACHINE.add_model(Model()),
    "add_model of the library": lambda: Machine.add_model(MACHINE, Model()),
    "remove_model": lambda: MACHINE.remove_model(Model()),
    "set_state": lambda: MACHINE.set_state("answered"),
    "add_state": lambda: MACHINE.add_state("new"),
    "add_states": lambda: MACHINE.add_states(["new"]),
    "add_transition": lambda: MACHINE.add_transition("end_turn", "calling", "answered"),
    "add_transition of the library": lambda: Machine.add_transition(
        MACHINE, "end_turn", "calling", "answered", edge=A_MOVE.edge
    ),
    "add_transitions": lambda: MACHINE.add_transitions([["end_turn", "calling", "answered"]]),
    "add_ordered_transitions": MACHINE.add_ordered_transitions,
    "remove_transition": lambda: MACHINE.remove_transition("end_turn"),
    "dispatch": lambda: MACHINE.dispatch("end_turn"),
    "on_enter_x": lambda: MACHINE.on_enter_asking(boom),
    "on_exit_x": lambda: MACHINE.on_exit_asking(boom),
    "before_x": lambda: MACHINE.before_end_turn(boom),
    "after_x": lambda: MACHINE.after_end_turn(boom),
    "prepare_x": lambda: MACHINE.prepare_end_turn(boom),
    "state.add_callback": lambda: A_STATE.add_callback("enter", boom),
    "del state.add_callback": lambda: delattr(A_STATE, "add_callback"),
    "transition.add_callback": lambda: A_MOVE.add_callback("after", boom),
    "event.add_callback": lambda: AN_EVENT.add_callback("after", boom),
    "event.add_transition": lambda: AN_EVENT.add_transition(A_MOVE),
    "transition.dest": lambda: setattr(A_MOVE, "dest", "failed"),
    "transition.edge": lambda: setattr(A_MOVE, "edge", None),
    "transition.after": lambda: setattr(A_MOVE, "after", [boom]),
    "transition.execute": lambda: setattr(A_MOVE, "execute", boom),
    "del transition.dest": lambda: delattr(A_MOVE, "dest"),
    "event.transitions": lambda: setattr(AN_EVENT, "transitions", {}),
    "event.trigger": lambda: setattr(AN_EVENT, "trigger", boom),
    "state.final": lambda: setattr(A_STATE, "final", True),
    "state.ignore_invalid_triggers": lambda: setattr(A_STATE, "ignore_invalid_triggers", True),
    "state.on_enter": lambda: setattr(A_STATE, "on_enter", [boom]),
    "machine.states": lambda: setattr(MACHINE, "states", {}),
    "machine.events": lambda: setattr(MACHINE, "events", {}),
    "machine.models": lambda: setattr(MACHINE, "models", [Model()]),
    "machine.initial": lambda: setattr(MACHINE, "initial", "answered"),
    "machine.sealed": lambda: setattr(MACHINE, "_sealed", False),
    "del machine.sealed": lambda: delattr(MACHINE, "_sealed"),
    "machine.ignore_invalid_triggers": lambda: setattr(MACHINE, "ignore_invalid_triggers", True),
    "machine.before_state_change": lambda: setattr(MACHINE, "before_state_change", [boom]),
    "machine.after_state_change": lambda: setattr(MACHINE, "after_state_change", [boom]),
    "machine.prepare_event": lambda: setattr(MACHINE, "prepare_event", [boom]),
    "machine.finalize_event": lambda: setattr(MACHINE, "finalize_event", [boom]),
    "machine.on_exception": lambda: setattr(MACHINE, "on_exception", [boom]),
    "machine.on_final": lambda: setattr(MACHINE, "on_final", [boom]),
    "machine.get_model_state": lambda: setattr(MACHINE, "get_model_state", boom),
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_sealed_machine_refuses(hole: str) -> None:
    before = everything(PLAN)
    with pytest.raises(SealedMachine) as caught:
        HOLES[hole]()
    assert "declare" in str(caught.value)  # the remedy
    assert everything(PLAN) == before
    assert PLAN.move("asking", "end_turn", FACTS).dest == "answered"


READ_ONLY = {
    "machine.events[x] = y": lambda: MACHINE.events.__setitem__("new", AN_EVENT),
    "del machine.events[x]": lambda: MACHINE.events.__delitem__("end_turn"),
    "machine.events.update": lambda: MACHINE.events.update(new=AN_EVENT),
    "machine.states[x] = y": lambda: MACHINE.states.__setitem__("new", A_STATE),
    "machine.states.pop": lambda: MACHINE.states.pop("asking"),
    "machine.models.append": lambda: MACHINE.models.append(Model()),
    "event.transitions[x] = y": lambda: AN_EVENT.transitions.__setitem__("calling", [A_MOVE]),
    "event.transitions[x].append": lambda: AN_EVENT.transitions["asking"].append(A_MOVE),
    "event.transitions[x][0] = y": lambda: AN_EVENT.transitions["asking"].__setitem__(0, A_MOVE),
    "transition.before.append": lambda: A_MOVE.before.append(boom),
    "transition.after.append": lambda: A_MOVE.after.append(boom),
    "transition.prepare.append": lambda: A_MOVE.prepare.append(boom),
    "transition.conditions.append": lambda: A_MOVE.conditions.append(boom),
    "state.on_enter.append": lambda: A_STATE.on_enter.append(boom),
    "state.on_exit.append": lambda: A_STATE.on_exit.append(boom),
    "machine.before_state_change.append": lambda: MACHINE.before_state_change.append(boom),
    "machine.after_state_change.append": lambda: MACHINE.after_state_change.append(boom),
    "machine.prepare_event.append": lambda: MACHINE.prepare_event.append(boom),
    "machine.finalize_event.append": lambda: MACHINE.finalize_event.append(boom),
    "machine.on_exception.append": lambda: MACHINE.on_exception.append(boom),
    "machine._transition_queue.append": lambda: MACHINE._transition_queue.append(boom),
    "vars(machine)[x] = y": lambda: vars(MACHINE).__setitem__("events", {}),
    "vars(transition)[x] = y": lambda: vars(A_MOVE).__setitem__("dest", "failed"),
    "transition.__dict__.update": lambda: A_MOVE.__dict__.update(dest="failed"),
    "vars(event)[x] = y": lambda: vars(AN_EVENT).__setitem__("transitions", {}),
    "vars(state)[x] = y": lambda: vars(A_STATE).__setitem__("final", "yes"),
}


@pytest.mark.parametrize("hole", READ_ONLY)
def test_what_a_sealed_machine_holds_is_read_only(hole: str) -> None:
    before = everything(PLAN)
    with pytest.raises((TypeError, AttributeError)):
        READ_ONLY[hole]()
    assert everything(PLAN) == before


def test_a_model_that_was_to_be_added_gets_no_state() -> None:
    model = Model()
    with pytest.raises(SealedMachine):
        Machine.add_model(MACHINE, model)
    assert not hasattr(model, "state")
    assert MACHINE.models == ()


def test_there_is_no_way_to_jump() -> None:
    assert not [name for name in MACHINE.events if name.startswith("to_")]
    assert not any(hasattr(MACHINE, f"to_{state}") for state in MACHINE.states)
    assert set(MACHINE.events) == {edge.event for edge in Desk.graph.edges}


def test_a_row_has_no_callbacks_that_could_fail_after_the_state_changed() -> None:
    moves = [m for e in MACHINE.events.values() for rows in e.transitions.values() for m in rows]
    assert len(moves) == len(Desk.graph.edges)
    assert all((m.before, m.after, m.prepare) == ((), (), ()) for m in moves)
    assert all((s.on_enter, s.on_exit) == ((), ()) for s in MACHINE.states.values())


def test_a_copy_of_a_machine_is_sealed_too() -> None:
    with pytest.raises((SealedMachine, AttributeError)):
        copy.copy(MACHINE).add_transition("end_turn", "calling", "answered", edge=A_MOVE.edge)


def test_the_library_reads_the_machine_as_its_own() -> None:
    assert isinstance(MACHINE, Machine)
    assert set(MACHINE.get_triggers("calling")) == {"tool_results", "approval_needed", "outcome_unknown", "cancel"}
    assert {(t.source, t.dest) for t in MACHINE.get_transitions("tool_use")} == {("asking", "calling")}
    assert MACHINE.get_state("answered").final
    assert not MACHINE.get_state("asking").final


def test_the_row_after_a_false_guard_is_taken() -> None:
    class Guarded(Workflow):
        """Alternatives are tried in order."""

        asking = Claude(model=MODEL, max_tokens=10, prompt="Hi.")
        first = Final()
        second = Final()
        third = Final()
        asking.on(end_turn=[first.when(no), second.when(yes), third])

    assert Guarded.plan.move("asking", "end_turn", FACTS).key == ("asking", "end_turn", 1)


# --- refused at declaration -------------------------------------------------------------------------------------------


def finding_of(check: str, problem: str, **body: Any) -> None:
    """The declaration is refused with exactly this finding."""
    with pytest.raises(WorkflowError) as caught:
        type(Workflow)("Broken", (Workflow,), body)
    assert [f.id for f in caught.value.findings] == [check], str(caught.value)
    assert problem in str(caught.value)


def asking(**rows: Any) -> Claude:
    state = Claude(model=MODEL, max_tokens=10, prompt="Hi.")
    return state.on(**rows) if rows else state


def test_an_unknown_destination_is_refused_at_declaration() -> None:
    finding_of("W10", "has no name", first=asking(end_turn=Final()))


def test_a_destination_in_another_workflow_is_refused_at_declaration() -> None:
    finding_of("W10", "belongs to the workflow 'Desk'", first=asking(end_turn=Desk.answered))


def test_an_unreachable_state_is_refused_at_declaration() -> None:
    done = Final()
    finding_of("W3", "lonely", first=asking(end_turn=done), done=done, lonely=asking(end_turn=done))


def test_a_second_unguarded_row_is_refused_at_declaration() -> None:
    done = Final()
    finding_of("W2", "unconditional", first=asking(end_turn=[done, done]), done=done)


def test_leaving_a_final_state_is_refused_at_declaration() -> None:
    done = Final()
    with pytest.raises((AttributeError, fsm.DeclarationError)):
        done.on(cancel=done)
    done.rows["cancel"] = (done.when(yes),)
    with pytest.raises(WorkflowError, match="is final and has rows"):
        type(Workflow)("Broken", (Workflow,), {"first": asking(end_turn=done), "done": done})


def test_an_after_callback_cannot_be_declared() -> None:
    rows = [{"trigger": "end_turn", "source": "first", "dest": "done", "after": boom}]
    with pytest.raises(fsm.DeclarationError, match="'after'"):
        Workflow.from_transitions(name="W", states={"first": asking(), "done": Final()}, transitions=rows)
    assert not hasattr(Final().when(yes), "after")


# --- a rejected event changes nothing ---------------------------------------------------------------------------------


def test_a_rejected_event_leaves_a_conversation_as_it_was() -> None:
    chat = Driven(Chat)
    chat.reply(text("Hi."))
    before, count = snapshot(chat.conversation), len(chat.records)
    pending = chat.conversation.pending()
    for event in (
        replied(chat.now(), message(text("nobody asked"))),
        Failed(chat.now(), "overloaded_error", "nobody asked"),
        ToolsEnded(chat.now(), (ToolEnd("toolu_9", "nobody called"),)),
        Answered(chat.now(), said=""),
    ):
        with pytest.raises(fsm.UsageError):
            chat.conversation.feed(event)
    assert snapshot(chat.conversation) == before
    assert chat.conversation.pending() == pending
    assert len(chat.records) == count
    chat.feed(Answered(chat.now(-3), said="And now?"))
    assert chat.state == "chatting"
