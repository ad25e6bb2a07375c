"""Taking a run up again: bounded (D12), at most once (B3), streamed (K10), and after a storage that failed (§2.3)."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from _driving import MODEL, Clock, Loop, Plain, both, events_of, go_on, loop_of

from fsm import (
    Claude,
    Code,
    Facts,
    Final,
    JournalError,
    MemoryStore,
    Record,
    Workflow,
    attempts_left,
    exits,
    resume,
    run,
    tool,
)
from fsm._conversation import MAX_RESENDS
from fsm._conversation._evidence import MAX_RECOVERIES
from fsm._conversation._fold import UNKNOWN_OUTCOME
from fsm._opening import WORRYING_RECOVERIES
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

VERBS = [pytest.param(False, id="resume"), pytest.param(True, id="aresume")]
DONE = replies.text("done")


class Dying(MemoryStore):
    """The disk fails before a record of this kind is there: for the run it is as if the process had died."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind: str | None = kind

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        if any(record.kind == self.kind for record in records):
            msg = "the disk is full"
            raise JournalError(msg)
        super().append(run_id, records)


class FailsAt(MemoryStore):
    """The n-th commit fails, once."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        self.left -= 1
        if self.left == 0:
            msg = "the disk is full"
            raise JournalError(msg)
        super().append(run_id, records)


def crashes(workflow: type[Workflow], store: MemoryStore, script: Any, *, most: int = 500) -> tuple[Any, int]:
    """Begin a run and take it up until it ends or has died so often; how often it died on the way."""
    clock = Clock()
    result: Any = None
    with Emulator(script).client() as client:
        options: dict[str, Any] = {"journal": store, "clock": clock, "sleep": clock.sleep}
        with pytest.raises(JournalError, match="the disk is full"):
            both(workflow, "Hi.", script, is_async=False, run_id="r", **options)
        died = 1
        while died < most and (result is None or result.verdict.resumable):
            try:
                result = resume(workflow, "r", client=client, **options)
            except JournalError:
                died += 1
    return result, died


# --- D12: bounded ----------------------------------------------------------------------------------------------------


def test_a_tool_that_ends_the_process_each_time_is_not_run_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """D12, B3: an idempotent call is run again 100 times; then it is answered as unknown, and the run is stuck."""
    entered: list[str] = []

    @tool(idempotent=True)
    def crash() -> str:
        """Crash."""
        entered.append("crash")
        return "ok"

    workflow = loop_of(crash)
    store = Dying("tool.end")
    with caplog.at_level(logging.WARNING, logger="fsm"):
        result, died = crashes(workflow, store, lambda body: replies.tool_use("crash", {}))

    assert (result.state, result.verdict.reason) == ("stuck", "stuck")
    assert result.verdict.evidence["kind"] == "recovery"
    assert result.verdict.evidence["rule"] == "D12"
    assert result.verdict.evidence["times"] == MAX_RECOVERIES == died
    assert len(entered) == MAX_RECOVERIES
    assert events_of(result.records) == ["tool_use", "outcome_unknown", "tool_results", "stuck"]
    assert result.messages[-1]["content"][0]["content"] == UNKNOWN_OUTCOME
    warned = [r.getMessage() for r in caplog.records if "D12" in r.getMessage()]
    assert len(warned) == MAX_RECOVERIES - WORRYING_RECOVERIES + 1
    assert "run=r was taken up 10 times" in warned[0]
    assert "'calling'" in warned[0]


def test_a_request_that_never_gets_its_reply_recorded_ends_stuck() -> None:
    """D12, J3: the same bytes at most three times more, then an error of the connection; 100 crashes are the end."""
    store = Dying("reply")
    result, died = crashes(Plain, store, lambda body: DONE)
    assert (result.state, result.verdict.evidence["kind"]) == ("stuck", "recovery")
    assert died == MAX_RECOVERIES
    resent = [r.data.get("resent", 0) for r in result.records if r.kind == "request"]
    assert max(resent) == MAX_RESENDS
    assert "connection_error" in events_of(result.records)


def test_a_new_reply_begins_the_count_anew() -> None:
    """D12 counts crashes with no new reply in between."""

    @tool(idempotent=True)
    def crash() -> str:
        """Crash."""
        return "ok"

    workflow, store = loop_of(crash), Dying("tool.end")
    turns = 3

    def reply(body: dict[str, Any]) -> Reply:
        return DONE if len(body["messages"]) > 2 * turns else replies.tool_use("crash", {})

    def dies(times: int) -> None:
        for _ in range(times):
            with pytest.raises(JournalError):
                resume(workflow, "r", client=client, journal=store)

    with Emulator(reply).client() as client:
        with pytest.raises(JournalError):
            run(workflow, "Hi.", client=client, run_id="r", journal=store)
        for turn in range(turns):
            dies(MAX_RECOVERIES - 3)
            store.kind = "reply" if turn < turns - 1 else None
            if store.kind:
                dies(1)
                store.kind = "tool.end"
                dies(1)  # the reply is there: from here it is counted anew
        result = resume(workflow, "r", client=client, journal=store)
    assert (result.text, result.state) == ("done", "answered")
    assert "outcome_unknown" not in events_of(result.records)


def test_stuck_can_lead_elsewhere_and_that_state_may_ask_once() -> None:
    """D12: `stuck` is a row like any other; its target gets a request of its own."""

    class Wrapping(Workflow):
        asking = Claude(model=MODEL, max_tokens=100)
        wrapping = Claude(model=MODEL, max_tokens=200, prompt="Sum up.")
        answered = Final()
        asking.on(end_turn=answered, stuck=wrapping)
        wrapping.on(end_turn=answered)

    store = Dying("reply")
    crashes(Wrapping, store, lambda body: DONE, most=MAX_RECOVERIES)
    store.kind = None
    result = go_on(Wrapping, "r", [DONE], journal=store)
    assert result.state == "answered"
    assert events_of(result.records)[-2:] == ["stuck", "end_turn"]


# --- Code ------------------------------------------------------------------------------------------------------------


def _graded(entered: list[str], *, idempotent: bool, is_declared: bool = False) -> type[Workflow]:
    def grade(facts: Facts) -> Literal["fine"]:
        """Grade it."""
        entered.append(facts.text)
        return "fine"

    class Graded(Workflow):
        asking = Claude(model=MODEL, max_tokens=100)
        grading = Code(grade, idempotent=idempotent)
        done = Final()
        asking.on(end_turn=grading)
        grading.on("fine", done)
        if is_declared:
            grading.on(raised=[grading.when(attempts_left(2)), exits.failed])

    return Graded


@pytest.mark.parametrize("is_async", VERBS)
def test_a_function_that_had_begun_is_not_run_again(*, is_async: bool) -> None:
    """B3: what it did is unknown; the event is `raised`, whose standard row leads to `failed`."""
    entered: list[str] = []
    workflow, store = _graded(entered, idempotent=False), Dying("code.end")
    with pytest.raises(JournalError):
        both(workflow, "Hi.", [DONE], is_async=is_async, run_id="r", journal=store)
    store.kind = None
    result = go_on(workflow, "r", [], is_async=is_async, journal=store)
    assert (result.state, result.verdict.reason, entered) == ("failed", "raised", ["done"])
    assert "its outcome is unknown" in result.verdict.evidence["message"]


@pytest.mark.parametrize("is_async", VERBS)
def test_an_idempotent_function_is_run_again(*, is_async: bool) -> None:
    """B3: as an idempotent tool is."""
    entered: list[str] = []
    workflow, store = _graded(entered, idempotent=True), Dying("code.end")
    with pytest.raises(JournalError):
        both(workflow, "Hi.", [DONE], is_async=is_async, run_id="r", journal=store)
    store.kind = None
    result = go_on(workflow, "r", [], is_async=is_async, journal=store)
    assert (result.state, entered) == ("done", ["done", "done"])
    assert [r.kind for r in result.records].count("code.begin") == 1


def test_a_row_may_have_the_function_run_again() -> None:
    """B3: a declared row decides instead, with a bound."""
    entered: list[str] = []
    workflow, store = _graded(entered, idempotent=False, is_declared=True), Dying("code.end")
    with pytest.raises(JournalError):
        both(workflow, "Hi.", [DONE], is_async=False, run_id="r", journal=store)
    with pytest.raises(JournalError):
        go_on(workflow, "r", [], journal=store)
    store.kind = None
    result = go_on(workflow, "r", [], journal=store)
    assert (result.state, len(entered)) == ("done", 3)
    assert events_of(result.records) == ["end_turn", "raised", "raised", "fine"]


def test_an_idempotent_function_that_ends_the_process_each_time_is_given_up() -> None:
    """D12."""
    entered: list[str] = []
    result, died = crashes(_graded(entered, idempotent=True), Dying("code.end"), lambda body: DONE)
    assert (result.state, result.verdict.reason) == ("failed", "raised")
    assert len(entered) == died == MAX_RECOVERIES


# --- a commit that failed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", VERBS)
def test_after_a_failed_commit_nothing_is_done_and_a_fresh_handle_goes_on(*, is_async: bool) -> None:
    """§2.3, J3, J5: whichever commit fails, nothing was sent and nothing entered that the journal does not hold."""
    entered: list[int] = []

    @tool(idempotent=True)
    def act(n: int) -> str:
        """Act."""
        entered.append(n)
        return f"ok {n}"

    workflow = loop_of(act)

    def reply(body: dict[str, Any]) -> Reply:
        sent.append(len(body["messages"]))
        return replies.tool_uses(("act", {"n": 1}), ("act", {"n": 2})) if len(body["messages"]) == 1 else DONE

    for number in range(1, 5):
        entered.clear()
        sent: list[int] = []
        store = FailsAt(number)
        with pytest.raises(JournalError, match="the disk is full"):
            both(workflow, "Hi.", reply, is_async=is_async, run_id="r", journal=store)
        kinds = [r.kind for r in store.read("r")] if number > 1 else []
        assert "park" not in kinds, "after a failure of the storage it is only read"
        assert len(sent) == kinds.count("request")
        assert bool(entered) == ("tool.begin" in kinds)
        fresh = MemoryStore()
        if not kinds:
            continue  # it has not begun
        fresh.append("r", tuple(store.read("r")))
        result = go_on(workflow, "r", reply, is_async=is_async, journal=fresh)
        assert (result.text, result.state) == ("done", "answered")
        again = 2 if kinds[-1] == "tool.begin" else 1
        assert sorted(entered) == sorted([1, 2] * again)


@pytest.mark.parametrize("is_async", VERBS)
def test_after_a_failed_commit_the_run_is_free_for_the_next_driver(tmp_path: Path, *, is_async: bool) -> None:
    """K6: the handle that failed stays shut, a new one goes on in the same process."""
    path = tmp_path / "runs.db"
    store = SqliteStore(path)

    def reply(body: dict[str, Any]) -> Reply:
        store._db.execute("PRAGMA query_only = ON")  # from here on the disk takes nothing
        return DONE

    with pytest.raises(JournalError) as caught:
        both(Plain, "Hi.", reply, is_async=is_async, run_id="r", journal=store)
    assert "run_id: r" in caught.value.__notes__
    with pytest.raises(JournalError, match="open it anew"):
        go_on(Plain, "r", [DONE], is_async=is_async, journal=store)
    store.close()
    with SqliteStore(path) as fresh:
        assert go_on(Plain, "r", [DONE], is_async=is_async, journal=fresh).text == "done"
        assert fresh.verify("r") is None


@pytest.mark.parametrize("is_async", VERBS)
def test_after_a_failed_commit_running_tools_are_left_behind(*, is_async: bool) -> None:
    """§2.3: nobody waits for a call whose sibling could not be recorded; what it did is unknown, and not done again."""
    entered: list[str] = []
    may_end = threading.Event()

    @tool
    def fast() -> str:
        """Ends at once."""
        entered.append("fast")
        return "ok"

    @tool
    def slow() -> str:
        """Ends when it is told to."""
        entered.append("slow")
        may_end.wait(20)
        entered.append("slow ended")
        return "ok"

    workflow, store = loop_of(fast, slow), FailsAt(3)  # the commit of the call that ended alone
    with pytest.raises(JournalError, match="the disk is full"):
        both(
            workflow,
            "Hi.",
            [replies.tool_uses(("fast", {}), ("slow", {})), DONE],
            is_async=is_async,
            run_id="r",
            journal=store,
        )
    assert sorted(entered) == ["fast", "slow"], "the caller knows while the other one still runs"
    may_end.set()
    result = go_on(workflow, "r", [DONE], is_async=is_async, journal=store)
    assert [block["content"] for block in result.messages[2]["content"]] == [UNKNOWN_OUTCOME] * 2
    assert [name for name in entered if name != "slow ended"].count("slow") == 1


# --- long journals ---------------------------------------------------------------------------------------------------


class Counting(MemoryStore):
    """Gives each record anew, as a database does, and counts how many of them are alive at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: weakref.WeakSet[Record] = weakref.WeakSet()
        self.most = 0
        self.log: list[str] = []

    def claim(self, run_id: str) -> None:
        self.log.append("claim")
        super().claim(run_id)

    def read(self, run_id: str, start: int = 0) -> Iterator[Record]:
        self.log.append("read")
        for record in super().read(run_id, start):
            made = _Counted(record.seq, record.kind, record.at, record.data)
            self.alive.add(made)
            self.most = max(self.most, len(self.alive))
            yield made


class _Counted(Record):
    """A record that is equal to itself only, so that a set can count it."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def test_a_long_journal_is_claimed_and_then_read_record_by_record() -> None:
    """K10: folding holds a few records at a time, however long the journal is; nobody goes on with it in between."""
    store = Counting()
    turns = iter(range(40))
    script: Callable[[Any], Reply] = lambda body: (  # noqa: E731
        DONE if (n := next(turns, None)) is None else replies.tool_use("find", {"number": str(n)})
    )
    both(Loop, "Hi.", script, is_async=False, run_id="r", journal=store)
    store.log.clear()
    result = resume(Loop, "r", journal=store)
    assert result.state == "answered"
    assert store.log[:2] == ["claim", "read"]
    assert result.verdict.usage.output_tokens > 0
    assert store.most <= 4
    assert sum(1 for _ in store.read("r")) > 200
