"""`fork`, `steps`, `compare`, `verify` (issue 4.4): another answer, prompt or workflow from any point of a run."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from _driving import MODEL, Clock, both, events_of, find, go_on, loop_of
from _workflows import Chat, Desk, HandOver, Optimiser, Stages, Stubborn
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm import (
    Claude,
    Code,
    Facts,
    Final,
    Human,
    MemoryStore,
    Question,
    Record,
    RunError,
    Tools,
    UsageError,
    Workflow,
    approve,
    compare,
    deny,
    fork,
    guard,
    resume,
    steps,
    tool,
    verify,
)
from fsm._conversation._fold import UNKNOWN_OUTCOME
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies
from fsm.testing.paths import paths

DONE = replies.text("done")
REFUND = replies.tool_use("refund", {"number": "7"})
WORKFLOWS = (Chat, Desk, HandOver, Optimiser, Stages, Stubborn)


def ran(workflow: type[Workflow], script: Sequence[Any], run_id: str = "r", **options: Any) -> MemoryStore:
    store = MemoryStore()
    clock = Clock()
    both(
        workflow, "Hi.", script, is_async=False, journal=store, run_id=run_id, clock=clock, sleep=clock.sleep, **options
    )
    return store


def records(store: Any, run_id: str = "r") -> list[Record]:
    return list(store.read(run_id))


def number_of(store: Any, kind: str, nth: int = 0) -> int:
    """The number of the nth record of this kind."""
    return [record.seq for record in records(store) if record.kind == kind][nth]


def as_json(found: Sequence[Record]) -> list[Any]:
    return json.loads(json.dumps([[r.seq, r.kind, r.at, dict(r.data)] for r in found]))


# --- another answer, another prompt, another workflow ----------------------------------------------------------------


def test_another_answer() -> None:
    store = ran(Desk, [REFUND, DONE], ask=lambda question: approve())
    before = as_json(records(store))
    made = fork(Desk, "r", at=number_of(store, "answer"), journal=store, new_id="other", clock=Clock())
    assert made == "other"
    assert store.summary("other").waits_for == "person"
    result = go_on(Desk, "other", [DONE], journal=store, answer=deny("No."), clock=Clock())
    assert "denied" in [move.event for move in result.moves]
    assert "approved" in events_of(records(store))
    assert as_json(records(store)) == before, "the origin stays as it is"
    assert verify(Desk, "other", journal=store) == ()


def test_the_first_record_names_the_origin_and_the_prefix_is_copied() -> None:
    store = ran(Desk, [REFUND, DONE], ask=lambda question: approve(), tags={"tenant": "a"})
    cut = number_of(store, "answer")
    fork(Desk, "r", at=cut, journal=store, new_id="f", tags={"tenant": "b"}, clock=Clock())
    first, *rest = records(store, "f")
    assert first.data["forked"] == {"run_id": "r", "at": cut, "fingerprint": first.data["fingerprint"]}
    assert (first.data["run_id"], first.data["tags"]) == ("f", {"tenant": "b"})
    assert as_json(rest[: cut - 1]) == as_json(records(store)[1:cut])
    assert store.summary("f").tags == {"tenant": "b"}
    assert [record.kind for record in rest[cut - 1 :]] == ["park"]


def test_the_cut_goes_back_to_the_end_of_an_event() -> None:
    """A reply without the move that was decided on it is half an event: the model is asked again."""
    store = ran(Desk, [REFUND, DONE], ask=lambda question: approve())
    reply = number_of(store, "reply")
    for at in (reply, reply + 1, reply + 2):
        made = fork(Desk, "r", at=at, journal=store, clock=Clock())
        assert next(store.read(made)).data["forked"]["at"] == number_of(store, "request")
        assert go_on(Desk, made, [DONE], journal=store, clock=Clock()).state == "answered"


def test_say_stands_for_what_the_workflow_would_say() -> None:
    store = ran(Desk, [DONE])
    first = fork(Desk, "r", at=1, journal=store, say="Something else.", clock=Clock())
    result = go_on(Desk, first, [DONE], journal=store, clock=Clock())
    assert result.messages[0]["content"] == [{"type": "text", "text": "Something else."}]
    after = fork(Desk, "r", at=number_of(store, "request"), journal=store, say="And be brief.", clock=Clock())
    result = go_on(Desk, after, [DONE], journal=store, clock=Clock())
    assert [block["text"] for block in result.messages[0]["content"]] == ["And be brief."]
    assert verify(Desk, first, journal=store) == verify(Desk, after, journal=store) == ()


def test_say_replaces_a_prompt() -> None:
    store = ran(Optimiser, [replies.text("A good long draft."), DONE])
    cut = number_of(store, "say", 1)
    made = fork(Optimiser, "r", at=cut, journal=store, say="Shorten it.", clock=Clock())
    result = go_on(Optimiser, made, [DONE], journal=store, clock=Clock())
    assert result.history("polish")[0]["content"][0]["text"] == "Shorten it."
    assert verify(Optimiser, made, journal=store) == ()


@pytest.mark.parametrize(
    ("at", "say", "match"),
    [
        (99, None, "has .* records: at= is the number of the first one not to copy, 1 to"),
        (0, None, "1 to"),
        (True, None, "1 to"),
        ("end", "More.", "had ended"),
        ("asked", "More.", "is in 'approving', where no request is about to be sent: give resume"),
        (1, "", "say= is text"),
        (1, 7, "say= is text"),
        (1, [{"type": "text", "text": ""}], "say= cannot be sent"),
    ],
)
def test_where_nothing_can_be_forked_or_said_the_error_says_what_to_do(at: Any, say: Any, match: str) -> None:
    store = ran(Desk, [REFUND, DONE], ask=lambda question: approve())
    at = {"end": len(records(store)), "asked": number_of(store, "answer")}.get(at, at)
    with pytest.raises(RunError, match=match):
        fork(Desk, "r", at=at, journal=store, say=say, new_id="f")
    assert [run.run_id for run in store.runs()] == ["r"]


def test_nothing_is_said_while_the_model_must_go_on() -> None:
    """S7.2: a paused turn goes back unchanged."""
    store = ran(Desk, [replies.pause(), DONE])
    with pytest.raises(RunError, match="the model must go on there first"):
        fork(Desk, "r", at=number_of(store, "request", 1), journal=store, say="Hello?")


class Asked(Workflow):
    hearing = Human(within=60)
    answering = Claude(model=MODEL, max_tokens=100)
    over = Final()

    hearing.on(said=answering, expired=over)
    answering.on(end_turn=over)


def test_below_the_first_event_there_is_nothing_to_go_on_from() -> None:
    store = ran(Asked, [])
    with pytest.raises(RunError, match="has nothing to go on from below record 1: begin a new one"):
        fork(Asked, "r", at=1, journal=store)
    made = fork(Asked, "r", at=2, journal=store, clock=Clock())
    assert go_on(Asked, made, [DONE], journal=store, answer="Hello?", clock=Clock()).state == "over"


def test_an_answer_that_came_too_late_verifies() -> None:
    store = ran(Asked, [])
    result = go_on(Asked, "r", [], journal=store, answer="Hello?", clock=Clock(Clock().now + 61))
    assert [move.event for move in result.moves] == ["expired"]
    assert verify(Asked, "r", journal=store) == ()


def test_what_is_no_workflow_and_ids_that_are_taken_are_refused() -> None:
    store = ran(Desk, [DONE])
    with pytest.raises(UsageError, match="takes a Workflow class"):
        fork("Desk", "r", at=1, journal=store)  # type: ignore[arg-type]  # a user's mistake
    with pytest.raises(UsageError, match="new_id= takes a name"):
        fork(Desk, "r", at=1, journal=store, new_id="")
    with pytest.raises(UsageError, match="tags= takes a dict of strings"):
        fork(Desk, "r", at=1, journal=store, tags={"n": 1})  # type: ignore[dict-item]  # a user's mistake
    with pytest.raises(RunError, match="has a run 'r' already"):
        fork(Desk, "r", at=1, journal=store, new_id="r")
    with pytest.raises(RunError, match="no run 'x'"):
        fork(Desk, "x", at=1, journal=store)


# --- calls -----------------------------------------------------------------------------------------------------------

done: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


@tool
def act(what: str) -> str:
    """Act."""
    done.append(what)
    return f"did {what}"


def test_results_are_kept_and_calls_that_had_begun_are_not_run_again() -> None:
    """B3: at the cut they had begun and not ended, so their outcome is unknown to the fork."""
    both_acts = replies.tool_uses(("act", {"what": "a"}), ("act", {"what": "b"}))
    store = ran(loop_of(act), [both_acts, DONE])
    begun = fork(loop_of(act), "r", at=number_of(store, "tool.end"), journal=store, clock=Clock())
    result = go_on(loop_of(act), begun, [DONE], journal=store, clock=Clock())
    assert sorted(done) == ["a", "b"], "each ran in the first run only"
    assert [block["content"] for block in result.messages[2]["content"]] == [UNKNOWN_OUTCOME] * 2
    ended = fork(loop_of(act), "r", at=number_of(store, "request", 1), journal=store, clock=Clock())
    result = go_on(loop_of(act), ended, [DONE], journal=store, clock=Clock())
    assert [block["content"] for block in result.messages[2]["content"]] == ["did a", "did b"]
    assert sorted(done) == ["a", "b"]


# --- R35 -------------------------------------------------------------------------------------------------------------


def other(**changes: Any) -> type[Workflow]:
    given: dict[str, Any] = {"model": "claude-opus-5-5", "max_tokens": 100, "tools": [find], **changes}
    states: dict[str, Any] = {"asking": Claude(**given), "calling": Tools(), "answered": Final()}
    rows = [
        ["tool_use", "asking", "calling"],
        ["tool_results", "calling", "asking"],
        ["end_turn", "asking", "answered"],
    ]
    return Workflow.from_transitions(name=changes.pop("name", "Other"), states=states, transitions=rows)


THOUGHT = replies.thinking("Let me look.", then=replies.tool_use("find", {"number": "1"}))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"system": "Be brief."}, "system in 'asking'"),
        ({"tools": [find, refund_free := act]}, "tools in 'asking'"),
        ({"model": "claude-sonnet-5-5"}, "model in 'asking'"),
    ],
)
def test_thinking_is_not_sent_back_under_another_head(changes: Any, part: str) -> None:
    """R35: the error names what differs; before the first reply there is nothing that is bound."""
    store = ran(other(), [THOUGHT, DONE])
    with pytest.raises(RunError, match=f"(?s){part}.*R35"):
        fork(other(**changes), "r", at=number_of(store, "request", 1), journal=store)
    made = fork(other(**changes), "r", at=number_of(store, "request"), journal=store, clock=Clock())
    assert go_on(other(**changes), made, [DONE], journal=store, clock=Clock()).ok


def test_without_thinking_another_workflow_goes_on_with_the_history() -> None:
    store = ran(other(), [replies.tool_use("find", {"number": "1"}), DONE])
    changed = other(system="Be brief.", max_tokens=50)
    made = fork(changed, "r", at=number_of(store, "request", 1), journal=store, clock=Clock())
    result = go_on(changed, made, [DONE], journal=store, clock=Clock())
    assert result.ok
    assert len(result.messages) == 4
    assert verify(changed, made, journal=store) == ()


def test_a_workflow_of_another_name_takes_over_what_it_has_states_for() -> None:
    store = ran(loop_of(find), [replies.tool_use("find", {"number": "1"}), DONE])

    class Successor(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, tools=[find], system=lambda deps: f"You serve {deps}.")
        calling = Tools()
        closing = Claude(model=MODEL, max_tokens=100, history="closing", prompt="Sum it up.")
        answered = Final()

        asking.on(tool_use=calling, end_turn=closing)
        calling.on(tool_results=asking)
        closing.on(end_turn=answered)

    cut = number_of(store, "request", 1)
    made = fork(Successor, "r", at=cut, journal=store, deps="Ann", clock=Clock())
    emulator = Emulator([DONE, DONE])
    with emulator.client() as client:
        result = resume(Successor, made, journal=store, client=client, clock=Clock())
    assert result.ok
    assert emulator.requests[0].body["system"] == "You serve Ann."
    with pytest.raises(RunError, match="cannot go on as 'Plain': the state 'calling' is gone"):
        fork(plain(), "r", at=cut, journal=store)


def plain() -> type[Workflow]:
    class Plain(Workflow):
        asking = Claude(model=MODEL, max_tokens=100)
        answered = Final()

        asking.on(end_turn=answered)

    return Plain


# --- every seq of many runs ------------------------------------------------------------------------------------------


def anything(question: Question) -> Any:
    return "/quit" if question.kind == "words" else approve()


def played(workflow: type[Workflow]) -> list[tuple[str, MemoryStore]]:
    """A run for every row of a workflow; the id of each, and its journal."""
    made = []
    for path in paths(workflow):
        result = path.run()
        store = MemoryStore()
        store.append(result.run_id, result.records)
        made.append((result.run_id, store))
    return made


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_a_fork_at_every_record_goes_on_and_verifies(workflow: type[Workflow]) -> None:
    """Whatever the cut, the copy folds, decides as its origin did, and `resume` drives it to an end or to a person."""
    rng = random.Random(workflow.name)
    runs = played(workflow)
    for run_id, store in rng.sample(runs, min(12, len(runs))):
        assert verify(workflow, run_id, journal=store) == ()
        for at in range(2, len(records(store, run_id)) + 1):
            made = fork(workflow, run_id, at=at, journal=store, clock=Clock())
            clock = Clock()
            emulator = Emulator(lambda body: replies.text("a long enough answer"))
            with emulator.client() as client:
                result = resume(
                    workflow, made, journal=store, client=client, ask=anything, clock=clock, sleep=clock.sleep
                )
            assert not result.parked
            assert [r.error for r in emulator.requests if r.error] == []
            assert verify(workflow, made, journal=store) == ()
            assert next(store.read(made)).data["forked"]["at"] <= at


def test_forks_in_a_file(tmp_path: Any) -> None:
    origin = ran(Desk, [REFUND, DONE], ask=lambda question: approve())
    with SqliteStore(tmp_path / "runs.db") as store:
        store.append("r", records(origin))
        for at in range(2, len(records(origin)) + 1):
            made = fork(Desk, "r", at=at, journal=store, clock=Clock())
            assert store.verify(made) is None
            assert verify(Desk, made, journal=store) == ()


# --- steps -----------------------------------------------------------------------------------------------------------


def test_steps_fold_one_record_at_a_time() -> None:
    store = ran(Desk, [REFUND, DONE], ask=lambda question: approve())
    found = list(steps(Desk, "r", journal=store))
    assert [record for record, _ in found] == records(store)
    states = [verdict.state for record, verdict in found if record.kind == "move"]
    assert states == ["calling", "approving", "calling", "asking", "answered"]
    pending = [len(verdict.pending_tool_ids) for _, verdict in found]
    assert max(pending) == 1
    assert pending[-1] == 0
    assert found[-1][1].reason == "end_turn"
    tokens = [verdict.usage.total for _, verdict in found]
    assert tokens == sorted(tokens)


# --- compare ---------------------------------------------------------------------------------------------------------


def test_compare_says_where_two_runs_part_and_what_each_came_to() -> None:
    store = ran(Desk, [REFUND, DONE], ask=lambda question: approve())
    made = fork(Desk, "r", at=number_of(store, "answer"), journal=store, new_id="f", clock=Clock())
    mine = go_on(Desk, made, [DONE], journal=store, answer=deny("No."), clock=Clock())
    found = compare(store.read("r"), mine)
    assert found
    cut = number_of(store, "answer")
    assert found.record == (cut, cut + 1), "the fork was parked in between"
    assert found.move == 2
    assert [pair[0].event if pair[0] else None for pair in found.moves][:4] == [
        "tool_use", "approval_needed", "approved", "tool_results",
    ]  # fmt: skip
    assert found.moves[2][1] is not None
    assert found.moves[2][1].event == "denied"
    assert found.moves[4][1] is None
    assert found.state == ("answered", "answered")
    said = str(found)
    assert said.startswith(f"r and f part at record {cut} and record {cut + 1}")
    assert re.search(r"≠ approving --approved--> calling +approving --denied--> asking", said)
    assert "tokens" in said


def test_a_run_is_like_itself_and_like_its_fork_up_to_the_cut() -> None:
    for run_id, store in played(Chat)[:20]:
        found = compare(store.read(run_id), store.read(run_id))
        assert not found
        assert found.record is found.move is None
        assert "do not differ" in str(found)
        length = len(records(store, run_id))
        made = fork(Chat, run_id, at=length, journal=store, clock=Clock())
        mine = compare(store.read(made), store.read(run_id)).record
        assert mine is None or mine[0] is None, "the fork only ends earlier"


def test_compare_with_one_that_is_longer() -> None:
    store = ran(Desk, [REFUND, DONE], ask=lambda question: approve())
    found = compare(records(store), records(store)[:-3])
    assert found.record == (len(records(store)) - 3, None)
    assert "its end" in str(found)


# --- verify ----------------------------------------------------------------------------------------------------------


class Tampered(MemoryStore):
    """A journal in which somebody changed a record."""

    def __init__(self, found: Sequence[Record], seq: int, **changes: Any) -> None:
        super().__init__()
        self.append("r", found)
        self.seq, self.changes = seq, changes

    def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
        for record in super().read(run_id, start):
            yield Record(
                record.seq,
                record.kind,
                record.at,
                {**json.loads(json.dumps(dict(record.data))), **(self.changes if record.seq == self.seq else {})},
            )


DECIDED = {
    "move": {"dest": "answered"},
    "request": {"hash": "00" * 32},
    "asked": {"calls": ["x"]},
    "tool.begin": {"ids": []},
    "close": {"reason": "max_tokens"},
}


@pytest.mark.parametrize("kind", DECIDED)
def test_a_decision_that_was_changed_is_reported(kind: str) -> None:
    """Rule 8: `verify` re-decides and reports differences, with the number of the record."""
    store = ran(Desk, [REFUND, DONE], ask=lambda question: approve())
    seq = number_of(store, kind)
    found = verify(Desk, "r", journal=Tampered(records(store), seq, **DECIDED[kind]))
    assert found
    assert found[0].startswith(f"record {seq}: ")
    assert "now" in found[0]


FACTS = {
    "reply": {"event": "end_turn"},
    "tool.end": {"ends": [["nobody", "x", False, 0.0]]},
    "answer": {"decisions": {}},
}


@pytest.mark.parametrize("kind", FACTS)
def test_a_fact_that_was_changed_shows_in_what_follows(kind: str) -> None:
    store = ran(Desk, [REFUND, DONE], ask=lambda question: approve())
    seq = number_of(store, kind)
    found = verify(Desk, "r", journal=Tampered(records(store), seq, **FACTS[kind]))
    assert found
    assert int(found[0].split(":")[0].removeprefix("record ")) >= seq


@settings(max_examples=150)
@given(st.data())
def test_no_change_of_a_record_makes_verify_fail_or_pass_in_silence(data: st.DataObject) -> None:
    """Any field of any record, replaced by another value of JSON: it is reported, and never raised."""
    seq = data.draw(st.integers(0, len(approved()) - 1))
    was = dict(approved()[seq].data)
    fields = sorted(set(was) - _FREE)
    if not fields:
        return
    name = data.draw(st.sampled_from(fields))
    value = data.draw(st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.just([]) | st.just({}))
    if was[name] != value:
        store = Tampered(approved(), seq, **{name: value})
        assert verify(Desk, "r", journal=store), f"{approved()[seq].kind}.{name} = {value!r}"


# Facts that nothing is decided on, or whose consequence is in no record of this run.
_FREE = frozenset({"seconds", "request_id", "price", "tags", "run_id", "limits", "draw", "fingerprint"})


@cache
def approved() -> tuple[Record, ...]:
    return tuple(records(ran(Desk, [REFUND, DONE], ask=lambda question: approve())))


moods: list[bool] = [True]


@guard
def in_the_mood(facts: Facts) -> bool:
    """Not pure: it looks at the weather."""
    del facts
    return moods[0]


class Moody(Workflow):
    asking = Claude(model=MODEL, max_tokens=100)
    glad = Final()
    sad = Final()

    asking.on(end_turn=[glad.when(in_the_mood), sad])


def test_a_guard_that_is_not_pure_shows() -> None:
    moods[0] = True
    store = ran(Moody, [DONE])
    assert verify(Moody, "r", journal=store) == ()
    moods[0] = False
    found = verify(Moody, "r", journal=store)
    assert found[0] == 'record 4: move.dest was recorded as "glad", now "sad"'
    assert {line.partition(":")[0] for line in found} == {"record 4"}


ran_code: list[str] = []


def weigh(facts: Facts) -> Any:
    """Judge."""
    ran_code.append(facts.text)
    return "ok"


weigh.__annotations__["return"] = __import__("typing").Literal["ok"]


def test_verify_runs_neither_tools_nor_code() -> None:
    class Weighed(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, tools=[act])
        calling = Tools()
        weighing = Code(weigh)
        answered = Final()

        asking.on(tool_use=calling, end_turn=weighing)
        calling.on(tool_results=asking)
        weighing.on("ok", answered)

    ran_code.clear()
    store = ran(Weighed, [replies.tool_use("act", {"what": "a"}), DONE])
    assert (done, ran_code) == (["a"], ["done"])
    assert verify(Weighed, "r", journal=store) == ()
    assert (done, ran_code) == (["a"], ["done"])


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_every_untouched_run_verifies(workflow: type[Workflow]) -> None:
    for run_id, store in played(workflow):
        assert verify(workflow, run_id, journal=store) == ()
