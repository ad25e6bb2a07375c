"""Versions of a workflow (architecture §8, issue 4.5): fingerprints, stranded runs, renamed states, `fsm migrate`."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from _driving import MODEL, Clock, both, find, go_on
from attrs import evolve

from fsm import (
    Approval,
    Claude,
    Code,
    ConcurrentWriter,
    DeclarationError,
    Facts,
    Final,
    Human,
    Limits,
    MemoryStore,
    Record,
    RunError,
    Store,
    Tools,
    Workflow,
    approve,
    cancel,
    deny,
    fork,
    migrate,
    rounds_left,
    say,
    tool,
    verify,
)
from fsm._versions import Standing, fingerprint, records_of, standings
from fsm.cli import main
from fsm.journal import packed
from fsm.stores.sqlite import SqliteStore
from fsm.testing import replies
from fsm.testing.replies import Reply

paid: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    paid.clear()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    with SqliteStore(tmp_path / "runs.db") as made:
        yield made


@tool(needs_approval=True)
def refund(number: str) -> str:
    """Pay back."""
    paid.append(number)
    return f"paid {number}"


def desk(
    *,
    asking: str = "asking",
    approving: str = "approving",
    tools: Any = (find, refund),
    system: Any = None,
    max_tokens: int = 100,
    within: Any = "1h",
    history: str = "main",
    renamed: Any = None,
    extra: Any = None,
    greets: bool = False,
    limits: Limits | None = None,
) -> type[Workflow]:
    """A version of one workflow: every argument is something that a version changes."""
    states: dict[str, Any] = {
        asking: Claude(model=MODEL, max_tokens=max_tokens, tools=list(tools), system=system, history=history),
        "calling": Tools(),
        approving: Approval(within=within),
        "answered": Final(),
        **(extra or {}),
    }
    rows: list[Any] = [
        ["tool_use", asking, "calling"],
        ["end_turn", asking, "answered"],
        ["tool_results", "calling", asking],
        ["approval_needed", "calling", approving],
        ["approved", approving, "calling"],
        ["denied", approving, asking],
    ]
    if within is not None:
        rows.append(["expired", approving, asking])
    rows += [["end_turn", name, "answered"] for name in extra or {}]
    if greets:
        states["greeting"] = Claude(model=MODEL, max_tokens=10, history="greeting", prompt="Greet.", initial=True)
        rows.append({"trigger": "end_turn", "source": "greeting", "dest": asking, "effects": [say("Now help.")]})
    if extra:
        rows[1] = {"trigger": "end_turn", "source": asking, "dest": next(iter(extra)), "effects": [say("And now?")]}
    return Workflow.from_transitions(name="Desk", states=states, transitions=rows, renamed=renamed, limits=limits)


Desk = desk()
REFUND = replies.tool_use("refund", {"number": "7"})
AGAIN = replies.tool_use("refund", {"number": "8"})
THIRD = replies.tool_use("refund", {"number": "9"})
DONE = replies.text("done")


def waiting(store: Store, run_id: str = "r", workflow: type[Workflow] = Desk) -> None:
    """A run that waits for a person's approval."""
    clock = Clock()
    result, _ = both(workflow, "Hi.", [REFUND], is_async=False, journal=store, run_id=run_id, clock=clock)
    assert result.verdict.reason == "waiting_person"


def kinds(store: Store, run_id: str = "r") -> list[str]:
    return [record.kind for record in store.read(run_id)]


def standing(workflow: type[Workflow], store: Store) -> Standing:
    [found] = standings(workflow, store)
    return found


# --- fingerprints ----------------------------------------------------------------------------------------------------


def test_a_run_stores_the_fingerprint_of_its_workflow(store: Store) -> None:
    waiting(store)
    assert next(store.read("r")).data["fingerprint"] == store.summary("r").fingerprint == fingerprint(Desk)
    assert len(fingerprint(Desk)) == 16


def _other_guard(facts: Facts) -> Literal["good", "bad"]:
    """Judge."""
    return "good" if facts.text else "bad"


OTHERS: dict[str, Callable[[], type[Workflow]]] = {
    "a name": lambda: desk(asking="drafting"),
    "tools": lambda: desk(tools=[refund]),
    "system": lambda: desk(system="Be brief."),
    "a function for system": lambda: desk(system=_system),
    "max_tokens": lambda: desk(max_tokens=200),
    "within": lambda: desk(within="2h"),
    "a history": lambda: desk(history="desk"),
    "a state": lambda: desk(extra={"closing": closing()}),
    "limits": lambda: desk(limits=Limits(turns=3)),
}


def closing(max_tokens: int = 10) -> Claude:
    return Claude(model=MODEL, max_tokens=max_tokens, tools=[find, refund], tool_choice={"type": "none"})


def _system(deps: Any) -> str:
    del deps
    return "Be brief."


@pytest.mark.parametrize("what", OTHERS)
def test_whatever_a_version_changes_changes_the_fingerprint(what: str) -> None:
    other = OTHERS[what]()
    assert fingerprint(other) != fingerprint(Desk)
    assert fingerprint(other) == fingerprint(OTHERS[what]())


def test_the_order_of_declarations_and_renames_do_not_change_the_fingerprint() -> None:
    class One(Workflow):
        asking = Claude(model=MODEL, max_tokens=10)
        hearing = Human()
        bye = Final()
        asking.on(end_turn=hearing)
        hearing.on(said=[asking.when(rounds_left(2)), bye])

    class Other(Workflow, renamed={"listening": "hearing"}):
        bye = Final()
        hearing = Human()
        asking = Claude(model=MODEL, max_tokens=10, initial=True)
        hearing.on(said=[asking.when(rounds_left(2)), bye])
        asking.on(end_turn=hearing)

    assert fingerprint(One) == fingerprint(Other)


def test_the_fingerprint_is_the_same_in_every_process(root: Path) -> None:
    program = "from test_versions import Desk, fingerprint; print(fingerprint(Desk))"
    paths = os.pathsep.join([str(root), str(root / "tests")])
    world = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=world, check=True, capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == fingerprint(Desk)


# --- going on under another version ----------------------------------------------------------------------------------


def test_a_version_that_fits_goes_on_and_says_since_when(store: Store) -> None:
    waiting(store)
    newer = desk(within="2h")
    result = go_on(newer, "r", [DONE], journal=store, answer=approve(), clock=Clock())
    assert result.state == "answered"
    assert paid == ["7"]
    [moved] = [record for record in store.read("r") if record.kind == "migrate"]
    assert moved.data == {"from": fingerprint(Desk), "to": fingerprint(newer), "renamed": {}, "heads": {}}
    assert store.summary("r").fingerprint == fingerprint(newer)
    assert verify(newer, "r", journal=store) == ()
    [difference] = verify(desk(within="3h"), "r", journal=store)
    assert "asked.expires_at was recorded as 1800003600.0, now 1800010800.0" in difference


def test_the_same_version_writes_nothing_of_it(store: Store) -> None:
    waiting(store)
    go_on(desk(), "r", [DONE], journal=store, answer=approve(), clock=Clock())
    assert "migrate" not in kinds(store)


def test_states_that_are_new_are_bound_from_then_on(store: Store) -> None:
    """R35: the head of a state that a version added counts once the run goes on under that version."""
    waiting(store)
    newer = desk(extra={"closing": closing()})
    parked = go_on(newer, "r", [replies.overloaded()] * 9, journal=store, answer=approve(), **_still())
    assert parked.parked
    strands = standing(desk(extra={"closing": closing(11)}), store).strands
    assert [(strand.what, strand.state) for strand in strands] == [("head", "closing")]


def _still() -> dict[str, Any]:
    clock = Clock()
    return {"clock": clock, "sleep": clock.sleep}


def test_a_run_that_began_elsewhere_is_folded_from_where_it_began(store: Store) -> None:
    """Where a new version begins is no matter of the runs that are there."""
    waiting(store)
    newer = desk(greets=True)
    assert newer.graph.initial == "greeting"
    result = go_on(newer, "r", [DONE], journal=store, answer=approve(), clock=Clock())
    assert result.moves[0].source == "asking"
    assert result.ok


# --- stranded --------------------------------------------------------------------------------------------------------


def renamed_tool(name: str) -> Any:
    @tool(name=name, needs_approval=True)
    def other(number: str) -> str:
        """Pay back."""
        return number

    return other


def with_schema() -> Any:
    @tool(name="refund", needs_approval=True)
    def other(order: int) -> str:
        """Pay back."""
        return str(order)

    return other


STRANDING: dict[str, tuple[Callable[[], type[Workflow]], list[tuple[str, str]]]] = {
    "a state is gone": (lambda: desk(approving="deciding"), [("state", "approving")]),
    "a state is another kind": (
        lambda: Workflow.from_transitions(
            name="Desk",
            states={
                "asking": Claude(model=MODEL, max_tokens=100, tools=[find, refund]),
                "calling": Tools(),
                "approving": Human(),
                "checking": Approval(),
            },
            transitions=[
                ["tool_use", "asking", "calling"],
                ["end_turn", "asking", "approving"],
                ["tool_results", "calling", "asking"],
                ["approval_needed", "calling", "checking"],
                ["approved", "checking", "calling"],
                ["denied", "checking", "asking"],
                ["said", "approving", "asking"],
            ],
        ),
        [("kind", "approving")],
    ),
    "what it waits for has no row": (lambda: desk(within=None), [("row", "approving")]),
    "the system changed": (lambda: desk(system="Be brief."), [("head", "asking")]),
    "the parameters changed": (lambda: desk(max_tokens=101), [("head", "asking")]),
    "the history changed": (lambda: desk(history="desk"), [("history", "asking")]),
    "the tool of an open call is gone": (
        lambda: desk(tools=[find, renamed_tool("pay_back")]),
        [("head", "asking"), ("tool", "approving")],
    ),
    "its schema takes the input no more": (
        lambda: desk(tools=[find, with_schema()]),
        [("head", "asking"), ("tool", "approving")],
    ),
    "a new state's system= was never called": (
        lambda: desk(extra={"closing": Claude(model=MODEL, max_tokens=9, system=_system, history="x", prompt="?")}),
        [("system", "closing")],
    ),
}


@pytest.mark.parametrize("what", STRANDING)
def test_what_strands_a_run_is_named_and_nothing_is_written(what: str) -> None:
    """Issue 4.5: which waiting runs a version would strand, and where; `resume` refuses them, untouched."""
    store = MemoryStore()
    waiting(store)
    before = list(store.read("r"))
    make, expected = STRANDING[what]
    newer = make()
    found = standing(newer, store).strands
    assert [(strand.what, strand.state) for strand in found] == expected
    assert all(strand.detail and strand.remedy for strand in found)
    assert migrate(newer, journal=store, clock=Clock())[0].strands == found
    with pytest.raises(RunError, match="fsm migrate --check"):
        go_on(newer, "r", [], journal=store, answer=approve(), clock=Clock())
    assert list(store.read("r")) == before
    assert paid == []


def judged(outcome: str) -> type[Workflow]:
    def weigh(facts: Facts) -> str:
        """Judge."""
        del facts
        return outcome

    weigh.__annotations__["return"] = Literal["good", "bad"] if outcome in {"good", "bad"} else Literal["ok"]
    rows: list[Any] = [["end_turn", "asking", "judging"], ["said", "hearing", "asking"]]
    names = ["good", "bad"] if outcome in {"good", "bad"} else ["ok"]
    return Workflow.from_transitions(
        name="Judged",
        states={"asking": Claude(model=MODEL, max_tokens=9), "judging": Code(weigh), "hearing": Human()},
        transitions=[*rows, *([name, "judging", "hearing"] for name in names)],
    )


def test_an_outcome_that_vanished_strands_the_runs_that_had_it() -> None:
    store = MemoryStore()
    both(judged("good"), "Hi.", [DONE], is_async=False, journal=store, run_id="r", clock=Clock())
    [strand] = standing(judged("ok"), store).strands
    assert (strand.what, strand.state) == ("outcome", "judging")
    assert standing(judged("bad"), store).strands == ()


def test_runs_that_have_ended_and_those_of_others_are_not_looked_at() -> None:
    store = MemoryStore()
    both(Desk, "Hi.", [DONE], is_async=False, journal=store, run_id="over", clock=Clock())
    both(judged("good"), "Hi.", [DONE], is_async=False, journal=store, run_id="other", clock=Clock())
    assert list(standings(desk(system="New."), store)) == []


def test_a_run_that_cannot_be_read_is_named_too(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        waiting(store)
        store.erase("r", unfinished=True)
        [strand] = standing(desk(within="2h"), store).strands
        assert strand.what == "unreadable"


# --- renamed states --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("renamed", "match"),
    [
        ({"asking": "calling"}, "'asking' is called 'calling' now, but it is a state still"),
        ({"before": "nowhere"}, "'nowhere', which is no state; the states are asking"),
        ({"a": "b", "b": "a"}, "which is no state"),
        (["asking"], "maps former names"),
        ({"a": 1}, "maps former names"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_when_the_class_is_made(renamed: Any, match: str) -> None:
    """Like W10: names collide, or a target is no state."""
    with pytest.raises(DeclarationError, match=match):
        desk(renamed=renamed)


def test_a_declared_mapping_moves_a_run(store: Store) -> None:
    waiting(store)
    newer = desk(asking="drafting", approving="deciding", renamed={"asking": "drafting", "approving": "deciding"})
    assert standing(newer, store).strands == ()
    before = list(store.read("r"))
    [moved] = migrate(newer, journal=store, clock=Clock())
    assert not moved.is_current
    assert list(store.read("r"))[: len(before)] == before, "old records are never rewritten"
    assert store.summary("r").state == "deciding"
    assert standing(newer, store).is_current
    result = go_on(newer, "r", [DONE], journal=store, answer=approve(), clock=Clock())
    assert [result.moves[0].source, result.state] == ["asking", "answered"]
    assert kinds(store).count("migrate") == 1
    assert verify(newer, "r", journal=store) == ()


def test_resume_moves_a_run_by_itself(store: Store) -> None:
    waiting(store)
    newer = desk(asking="drafting", renamed={"asking": "drafting"})
    result = go_on(newer, "r", [DONE], journal=store, answer=approve(), clock=Clock())
    assert result.ok
    assert kinds(store).count("migrate") == 1


def test_once_moved_the_mapping_need_not_be_declared_any_more_and_names_may_come_back(store: Store) -> None:
    """Each migration renames what stands before it, so a name may mean another state later."""
    waiting(store)
    second = desk(asking="drafting", renamed={"asking": "drafting"})
    migrate(second, journal=store, clock=Clock())
    again = {"asking": closing(77)}
    third = desk(asking="writing", extra=again, renamed={"drafting": "writing"})
    migrate(third, journal=store, clock=Clock())
    plain = desk(asking="writing", extra=again)
    assert fingerprint(plain) == fingerprint(third)
    result = go_on(plain, "r", [DONE, DONE], journal=store, answer=approve(), clock=Clock())
    assert result.ok
    assert verify(plain, "r", journal=store) == ()
    assert [move.dest for move in result.moves][-2:] == ["asking", "answered"]


def named(asking: str, approving: str, before: tuple[str, str]) -> type[Workflow]:
    """A version that differs from the one before it in names only; one may have the other's name."""
    now = (asking, approving)
    return desk(
        asking=asking,
        approving=approving,
        renamed={old: new for old, new in zip(before, now, strict=True) if old != new} or None,
    )


def test_a_rename_that_is_rolled_back_moves_runs_back(store: Store) -> None:
    """Then the newest version has the fingerprint of the first one, and the records the names of both."""
    waiting(store)
    second = named("drafting", "approving", ("asking", "approving"))
    back = named("asking", "approving", ("drafting", "approving"))
    assert fingerprint(back) == fingerprint(Desk)
    go_on(second, "r", [AGAIN], journal=store, answer=deny(), clock=Clock())
    go_on(back, "r", [THIRD], journal=store, answer=deny(), clock=Clock())
    assert store.summary("r").migrations == 2
    for _ in range(2):
        assert go_on(back, "r", [], journal=store, clock=Clock()).state == "approving"
    assert standing(back, store).is_current
    result = go_on(Desk, "r", [DONE], journal=store, answer=approve(), clock=Clock())
    assert result.ok
    assert {r.data["source"] for r in records_of(Desk, store, "r") if r.kind == "move"} == {
        "asking",
        "calling",
        "approving",
    }
    assert verify(Desk, "r", journal=store) == ()


def test_any_chain_of_renames_can_be_gone_on_with() -> None:
    """Names are given, swapped, taken back; runs begin, stand and are moved anywhere on the way."""
    for seed in range(40):
        draw, store = random.Random(seed), MemoryStore()
        names = ("asking", "approving")
        version, runs = named(*names, names), 0
        for _ in range(draw.randint(2, 6)):
            if draw.random() < 0.7:
                waiting(store, f"r{runs}", version)
                runs += 1
            before = names
            while any(old in names and old != new for old, new in zip(before, names, strict=True)) or names == before:
                names = tuple(draw.sample(["asking", "approving", "drafting", "writing"], 2))
            version = named(names[0], names[1], before)
            migrate(version, journal=store, clock=Clock())
            for run_id in [each.run_id for each in store.runs()]:
                if draw.random() < 0.5:  # it speaks under these names, too
                    said = replies.tool_use("refund", {"number": str(draw.random())})
                    go_on(version, run_id, [said], journal=store, answer=deny(), clock=Clock())
        for run_id in [each.run_id for each in store.runs()]:
            assert store.summary(run_id).state == names[1]
            result = go_on(version, run_id, [DONE], journal=store, answer=approve(), clock=Clock())
            assert result.ok, (seed, run_id)
            now = [r.data["source"] for r in records_of(version, store, run_id) if r.kind == "move"]
            asks = [names[0], "calling", names[1]]
            assert now == [*asks * (len(now) // 3), "calling", names[0]], (seed, run_id)
            assert verify(version, run_id, journal=store) == (), (seed, run_id)


def test_what_was_untouched_when_it_parked_is_found_under_its_new_name() -> None:
    """A `Code` function that was never entered is begun anew, whatever its state is called now."""

    def weigh(facts: Facts) -> Literal["ok"]:
        """Judge."""
        del facts
        return "ok"

    def version(name: str, **options: Any) -> type[Workflow]:
        states = {"asking": Claude(model=MODEL, max_tokens=9), name: Code(weigh), "answered": Final()}
        rows = [["end_turn", "asking", name], ["ok", name, "answered"]]
        return Workflow.from_transitions(name="Judge", states=states, transitions=rows, **options)

    store, clock = MemoryStore(), Clock()

    def stop(move: Any) -> None:
        raise KeyboardInterrupt

    both(version("judging"), "Hi.", [DONE], is_async=False, journal=store, run_id="r", clock=clock, on_move=stop)
    assert list(store.read("r"))[-1].data == {"reason": "interrupted", "untouched": ["judging"]}
    newer = version("weighing", renamed={"judging": "weighing"})
    assert go_on(newer, "r", [], journal=store, clock=clock).state == "answered"
    assert verify(newer, "r", journal=store) == ()


class Stopping(MemoryStore):
    """A store in which somebody presses Ctrl-C, or a task is cancelled, just before a commit."""

    def __init__(self, error: type[BaseException], at: int) -> None:
        super().__init__()
        self.error, self.left = error, -1
        self.at = at

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error
        super().append(run_id, records)

    def armed(self) -> Stopping:
        """From now on so many commits are left."""
        self.left = self.at
        return self


def stopped_once(
    workflow: type[Workflow], script: Sequence[Reply], store: Stopping, *, is_async: bool, **options: Any
) -> bool:
    """Go on with a run until the commit where it is stopped; says whether it was."""
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        go_on(workflow, "r", script, is_async=is_async, journal=store.armed(), **options)
    return store.left <= 0


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_that_was_moved_is_stopped_before_any_commit_and_goes_on(*, is_async: bool) -> None:
    """What was decided and not recorded is void then, and the journal is read under the names of this version."""
    newer = desk(asking="drafting", approving="deciding", renamed={"asking": "drafting", "approving": "deciding"})
    error = asyncio.CancelledError if is_async else KeyboardInterrupt
    is_stopped, at = True, 0
    while is_stopped:
        paid.clear()
        store, clock = Stopping(error, at := at + 1), Clock()
        waiting(store)
        script = [replies.overloaded(), DONE]
        still: dict[str, Any] = _still() if not is_async else {"clock": clock, "sleep": _asleep}
        is_stopped = stopped_once(newer, script, store, is_async=is_async, answer=approve(), **still)
        if store.summary("r").status != "ended":
            answer = approve() if store.summary("r").waits_for == "person" else None
            assert go_on(newer, "r", [DONE], is_async=is_async, journal=store, answer=answer, **still).ok
        assert (store.summary("r").state, paid) == ("answered", ["7"]), f"stopped before commit {at}"
        assert kinds(store).count("migrate") == 1
        assert verify(newer, "r", journal=store) == ()
    assert at > 6


async def _asleep(seconds: float) -> None:
    del seconds


def test_what_is_untouched_when_it_is_stopped_before_it_was_moved_is_begun_anew() -> None:
    """Its process died before a function was entered, and the next one is stopped before it has recorded anything."""

    def weigh(facts: Facts) -> Literal["ok"]:
        """Judge."""
        del facts
        return "ok"

    def version(name: str, **options: Any) -> type[Workflow]:
        states = {"asking": Claude(model=MODEL, max_tokens=9), name: Code(weigh), "answered": Final()}
        rows = [["end_turn", "asking", name], ["ok", name, "answered"]]
        return Workflow.from_transitions(name="Judge", states=states, transitions=rows, **options)

    whole, newer = MemoryStore(), version("weighing", renamed={"judging": "weighing"})
    both(version("judging"), "Hi.", [DONE], is_async=False, journal=whole, run_id="r", clock=Clock())
    begun = next(record.seq for record in whole.read("r") if record.kind == "code.begin")
    store = Stopping(KeyboardInterrupt, 1)
    store.append("r", list(whole.read("r"))[: begun + 1])
    assert stopped_once(newer, [], store, is_async=False, clock=Clock())
    result = go_on(newer, "r", [], journal=store, clock=Clock())
    assert [move.event for move in result.moves] == ["end_turn", "ok"]
    assert verify(newer, "r", journal=store) == ()


def test_a_run_is_cancelled_under_another_version_too(store: Store) -> None:
    waiting(store)
    newer = desk(within="2h")
    result = cancel(newer, "r", journal=store, clock=Clock())
    assert result.state == "cancelled"
    assert kinds(store)[-4:] == ["migrate", "resume", "move", "close"]
    assert verify(newer, "r", journal=store) == ()


def test_a_fork_of_a_run_that_was_moved_goes_on(store: Store) -> None:
    waiting(store)
    newer = desk(asking="drafting", renamed={"asking": "drafting"})
    go_on(newer, "r", [DONE], journal=store, answer=approve(), clock=Clock())
    length = len(list(store.read("r")))
    for at in range(5, length + 1):
        made = fork(newer, "r", at=at, journal=store, clock=Clock())
        plain = desk(asking="drafting")
        answer = approve() if store.summary(made).waits_for == "person" else None
        assert not go_on(plain, made, [REFUND, DONE], journal=store, answer=answer, clock=Clock(), ask=_yes).parked
        assert verify(plain, made, journal=store) == ()


def _yes(question: Any) -> Any:
    return approve()


def test_a_damaged_run_does_not_hide_the_others() -> None:
    store = MemoryStore()
    waiting(store, "a")
    waiting(store, "b")
    damaged = list(store.read("a"))
    store._commits["a"] = {0: packed([evolve(damaged[0], data={**damaged[0].data, "carried": 7}), *damaged[1:]])}
    found = {each.run_id: each.strands for each in standings(desk(within="2h"), store)}
    assert [strand.what for strand in found["a"]] == ["unreadable"]
    assert found["b"] == ()


def test_a_run_that_is_driven_is_left_alone() -> None:
    store = MemoryStore()
    waiting(store)
    store.claim("r")
    [left] = migrate(desk(within="2h"), journal=store, clock=Clock())
    assert "is being driven" in left.problem
    assert "migrate" not in kinds(store)
    with pytest.raises(ConcurrentWriter):
        store.claim("r")


# --- the command -----------------------------------------------------------------------------------------------------

SOURCE = """
from fsm import Approval, Claude, Final, Tools, Workflow, tool

@tool
def find(number: str) -> str:
    "Find an order."
    return number

@tool(needs_approval=True)
def refund(number: str) -> str:
    "Pay back."
    return number

class Desk(Workflow{options}):
    {asking} = Claude(model="claude-sonnet-5", max_tokens={max_tokens}, tools=[find, refund])
    calling = Tools()
    approving = Approval()
    answered = Final()

    {asking}.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results={asking}, approval_needed=approving)
    approving.on(approved=calling, denied={asking})
"""


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    """A folder with a journal that holds one waiting run, and with versions of its workflow."""
    versions = {
        "old": {},
        "renamed": {"asking": "drafting", "options": ', renamed={"asking": "drafting"}'},
        "gone": {"asking": "drafting"},
        "grown": {"max_tokens": "200"},
    }
    for name, change in versions.items():
        given = {"options": "", "asking": "asking", "max_tokens": "100", **change}
        text = SOURCE
        for field, value in given.items():
            text = text.replace("{" + field + "}", value)
        (tmp_path / f"v_{name}_{tmp_path.name}.py").write_text(text, "utf-8")
    space: dict[str, Any] = {"__name__": "old"}
    exec((tmp_path / f"v_old_{tmp_path.name}.py").read_text("utf-8"), space)  # noqa: S102 - what was just written
    with SqliteStore(tmp_path / "runs.db") as store:
        waiting(store, "r1", space["Desk"])
    return tmp_path


def command(folder: Path, version: str, *options: str) -> int:
    target = folder / f"v_{version}_{folder.name}.py"
    return main(["migrate", *options, str(folder / "runs.db"), f"{target}:Desk"])


def test_check_says_which_runs_are_stranded_and_where(deployed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(deployed, "gone", "--check") == 1
    said = capsys.readouterr().out
    assert "1 waiting run, 1 stranded" in said
    assert "r1" in said
    assert "the state 'asking' is gone (record 0)" in said
    assert "renamed={'asking': ...}" in said
    assert command(deployed, "grown", "--check", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["stranded"] == 1
    assert [strand["what"] for strand in found["runs"][0]["strands"]] == ["head"]
    assert (found["runs"][0]["run_id"], found["runs"][0]["waits_for"]) == ("r1", "person")
    with SqliteStore(deployed / "runs.db") as store:
        assert "migrate" not in kinds(store, "r1")


def test_without_check_the_runs_are_moved(deployed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(deployed, "renamed", "--check") == 0
    assert "fits" in capsys.readouterr().out
    assert command(deployed, "renamed") == 0
    assert "moved" in capsys.readouterr().out
    assert command(deployed, "renamed", "--check") == 0
    assert "this version" in capsys.readouterr().out
    with SqliteStore(deployed / "runs.db") as store:
        assert kinds(store, "r1")[-1] == "migrate"


def test_a_journal_that_is_not_there_is_not_made(deployed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = deployed / "other.db"
    target = deployed / f"v_old_{deployed.name}.py"
    assert main(["migrate", "--check", str(missing), f"{target}:Desk"]) == 2
    assert "there is no journal" in capsys.readouterr().err
    assert not missing.exists()
