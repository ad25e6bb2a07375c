"""Answers: to the question that was shown and no other, in time or not, all at once or one by one (issue 4.3)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from _driving import MODEL, Clock

from fsm import (
    Approval,
    Claude,
    Final,
    Human,
    MemoryStore,
    RunError,
    Tools,
    UsageError,
    Workflow,
    approve,
    ask_on_terminal,
    deny,
    fork,
    resume,
    run,
    said_is,
    tool,
)
from fsm._running import aresume
from fsm._verify import verify
from fsm.testing import Emulator, replies

paid: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    paid.clear()


@tool(needs_approval=True)
def pay(n: int) -> str:
    """Pay."""
    paid.append(n)
    return "paid"


class Payments(Workflow):
    """Every payment needs a person."""

    asking = Claude(model=MODEL, max_tokens=1024, tools=[pay])
    calling = Tools()
    approving = Approval(within="1h")
    done = Final()

    asking.on(tool_use=calling, end_turn=done)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking, expired=asking)


class Talk(Workflow):
    """Asks back until it is told to stop."""

    asking = Claude(model=MODEL, max_tokens=1024)
    listening = Human(within="1h")
    done = Final()

    asking.on(end_turn=listening)
    listening.on(said=[done.when(said_is("/quit")), asking], expired=done)


def one_by_one(body: Any) -> Any:
    """Three payments, each in a reply of its own: 1, 10, 100."""
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    return replies.tool_use("pay", {"n": 10**turn}) if turn < 3 else replies.text("end")


def at_once(body: Any) -> Any:
    calls = [("pay", {"n": n}) for n in (1, 2, 3)]
    return replies.text("end") if len(body["messages"]) > 1 else replies.tool_uses(*calls)


def begun(workflow: type[Workflow], script: Any, store: MemoryStore, clock: Clock, run_id: str = "r") -> Any:
    return run(workflow, "x", run_id=run_id, journal=store, client=Emulator(script).client(), clock=clock)


def taken_up(workflow: type[Workflow], store: MemoryStore, script: Any, run_id: str = "r", **options: Any) -> Any:
    return resume(workflow, run_id, journal=store, client=Emulator(script).client(), **{"clock": Clock(), **options})


def events(result: Any) -> list[str]:
    return [move.event for move in result.moves]


# --- which question --------------------------------------------------------------------------------------------------


def test_a_question_is_numbered_by_its_record() -> None:
    store = MemoryStore()
    result = begun(Payments, one_by_one, store, Clock())
    number = result.question.number
    assert store.summary("r").question == number
    assert [r.seq for r in store.read("r") if r.kind == "asked"] == [number]
    again = taken_up(Payments, store, one_by_one, answer=approve(), question=number)
    assert again.question.number == store.summary("r").question > number
    taken_up(Payments, store, lambda body: replies.text("end"), answer=deny())
    assert store.summary("r").question is None


@pytest.mark.parametrize("is_async", [False, True])
def test_an_answer_that_is_delivered_twice_answers_one_question(*, is_async: bool) -> None:
    """A webhook is tried again, a button pressed twice: the next payment, which nobody saw, is not approved by it."""
    store = MemoryStore()
    first = begun(Payments, one_by_one, store, Clock()).question
    given: dict[str, Any] = {"answer": approve(), "question": first.number, "journal": store, "clock": Clock()}

    def deliver() -> Any:
        emulator = Emulator(one_by_one)
        if is_async:
            return asyncio.run(aresume(Payments, "r", client=emulator.async_client(), **given))
        return resume(Payments, "r", client=emulator.client(), **given)

    result = deliver()
    assert (result.state, paid) == ("approving", [1])
    before = tuple(store.read("r"))
    with pytest.raises(
        RunError,
        match=rf"question {first.number} of run 'r' was answered already.* asked now is question "
        rf"{result.question.number}, in state 'approving': pay; nothing was recorded",
    ):
        deliver()
    assert (tuple(store.read("r")), paid) == (before, [1])


def test_an_answer_to_a_part_answers_that_question_only() -> None:
    """What is left is another question: whoever decided on three calls did not see that two are left."""
    store = MemoryStore()
    question = begun(Payments, at_once, store, Clock()).question
    one = {question.calls[0].id: approve()}
    left = taken_up(Payments, store, at_once, answer=one, question=question.number).question
    assert left.number > question.number
    with pytest.raises(RunError, match="was answered already"):
        taken_up(Payments, store, at_once, answer=approve(), question=question.number)
    taken_up(Payments, store, at_once, answer=deny(), question=left.number)
    assert paid == [1]


def test_an_answer_says_what_became_of_its_question() -> None:
    store, clock = MemoryStore(), Clock()
    number = begun(Talk, lambda body: replies.text("Well?"), store, clock).question.number
    late = begun(Talk, lambda body: replies.text("Well?"), store, clock, "late").question.number
    with pytest.raises(RunError, match=rf"run 'r' has no question {number + 1}: asked now is question {number}, in"):
        taken_up(Talk, store, [], answer="x", question=number + 1)
    taken_up(Talk, store, [], answer="/quit", question=number)
    with pytest.raises(RunError, match=rf"question {number} of run 'r' was answered already, and it has ended in"):
        taken_up(Talk, store, [], answer="/quit", question=number)
    clock.now += 7200
    taken_up(Talk, store, [], "late", clock=clock)
    with pytest.raises(RunError, match=rf"the time to answer question {late} of run 'late' ran out, and it has ended"):
        taken_up(Talk, store, [], "late", answer="/quit", question=late)


@pytest.mark.parametrize(
    "options", [{"question": 3}, {"question": True, "answer": "x"}, {"question": "3", "answer": "x"}]
)
def test_a_question_is_named_by_its_number_with_an_answer(options: Any) -> None:
    store = MemoryStore()
    begun(Talk, lambda body: replies.text("Well?"), store, Clock())
    before = tuple(store.read("r"))
    with pytest.raises(UsageError, match="question= "):
        taken_up(Talk, store, [], **options)
    assert tuple(store.read("r")) == before


# --- in time or not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "is_late"), [(3599.0, False), (3600.0, True), (3601.0, True)])
@pytest.mark.parametrize("workflow", [Payments, Talk])
def test_at_the_instant_it_has_expired_whoever_comes(workflow: Any, after: float, *, is_late: bool) -> None:
    """One rule: an answer at that instant is as late as nobody's."""
    store, clock = MemoryStore(), Clock()
    is_talk = workflow is Talk
    begun(workflow, (lambda body: replies.text("Well?")) if is_talk else one_by_one, store, clock, "silent")
    fork(workflow, "silent", at=store.summary("silent").records, journal=store, new_id="answered", clock=clock)
    clock.now += after
    silent = taken_up(workflow, store, lambda body: replies.text("ok"), "silent", clock=clock)
    answer = "/quit" if is_talk else approve()
    answered = taken_up(workflow, store, lambda body: replies.text("ok"), "answered", clock=clock, answer=answer)
    assert ("expired" in events(silent)) == is_late
    assert ("expired" in events(answered)) == is_late
    assert bool(paid) == (not is_late and not is_talk)


def test_what_is_asked_again_has_the_time_of_the_first_asking() -> None:
    """A decision on one call gives nobody longer for the others."""
    store, clock = MemoryStore(), Clock()
    question = begun(Payments, at_once, store, clock).question
    ids = [call.id for call in question.calls]
    for call_id in ids[:2]:
        clock.now += 1500
        question = taken_up(Payments, store, at_once, clock=clock, answer={call_id: approve()}).question
        assert question.expires_at == Clock().now + 3600
    assert [r.data["expires_at"] for r in store.read("r") if r.kind == "asked"] == [Clock().now + 3600] * 3
    assert store.summary("r").until == Clock().now + 3600
    assert verify(Payments, "r", journal=store) == ()
    clock.now = question.expires_at
    result = taken_up(Payments, store, at_once, clock=clock, answer={ids[2]: approve()})
    assert events(result)[-2:] == ["expired", "end_turn"]
    assert paid == []


# --- on the terminal -------------------------------------------------------------------------------------------------


def test_what_was_decided_is_kept_where_another_call_is_left(monkeypatch: Any, capsys: Any) -> None:
    """Enter leaves one call for later, not what was decided before it."""
    import io
    import sys

    store = MemoryStore()
    question = begun(Payments, at_once, store, Clock()).question
    for typed, verbs in (("a\n\nd\nno\n", ["approve", None, "deny"]), ("a\n", ["approve", None, None]), ("\n\n\n", [])):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        given: Any = ask_on_terminal(question)
        out = capsys.readouterr().out
        assert [given[c.id].verb if c.id in given else None for c in question.calls] == verbs if given else not verbs
        if verbs:
            left = verbs.count(None)
            assert f"{3 - left} of 3 decided; what is left is asked again" in out
