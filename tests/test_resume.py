"""`resume` and `after=`: answers, clocks, crashes, strangers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from _driving import MODEL, Clock, Loop, Plain, both, events_of, find, go_on, loop_of, one_call

from fsm import (
    Approval,
    Claude,
    Code,
    ConcurrentWriter,
    Facts,
    Final,
    Human,
    MemoryStore,
    Record,
    RunError,
    Tools,
    UsageError,
    Workflow,
    approve,
    deny,
    edit,
    resume,
    run,
    said_is,
    tool,
)
from fsm._conversation import MAX_RESENDS
from fsm._conversation._fold import UNKNOWN_OUTCOME
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

VERBS = [pytest.param(False, id="resume"), pytest.param(True, id="aresume")]
paid: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    paid.clear()


@tool(needs_approval=True)
def refund(number: str) -> str:
    """Pay back."""
    paid.append(number)
    return f"paid {number}"


class Desk(Workflow):
    asking = Claude(model=MODEL, max_tokens=100, tools=[find, refund])
    calling = Tools()
    approving = Approval(within="1h")
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking, expired=asking)


class Chat(Workflow):
    chatting = Claude(model=MODEL, max_tokens=100)
    waiting = Human(within="1h")
    bye = Final()

    chatting.on(end_turn=waiting)
    waiting.on(said=[bye.when(said_is("/quit")), chatting], expired=bye)


REFUNDS = replies.tool_uses(("refund", {"number": "1"}), ("refund", {"number": "2"}), ("find", {"number": "3"}))
DONE = replies.text("done")


def parked(store: MemoryStore, clock: Clock | None = None) -> list[str]:
    """A run that waits for a decision; the ids of its calls."""
    clock = clock or Clock()
    result, _ = both(Desk, "Hi.", [REFUNDS], is_async=False, journal=store, run_id="r", clock=clock, sleep=clock.sleep)
    assert (result.state, result.verdict.reason) == ("approving", "waiting_person")
    assert result.verdict.resumable
    return list(result.verdict.pending_tool_ids)


def after_a_crash(store: MemoryStore, kind: str) -> MemoryStore:
    """The journal as a process left it that died right after the last record of this kind."""
    records = tuple(store.read("r"))
    last = max(n for n, record in enumerate(records) if record.kind == kind)
    return of_records(records[: last + 1])


def of_records(records: Sequence[Record]) -> MemoryStore:
    """A store with these records, as a file or a database would give them back: plain JSON."""
    store = MemoryStore()
    store.append("r", [Record(r.seq, r.kind, r.at, json.loads(json.dumps(dict(r.data)))) for r in records])
    return store


class Commits(MemoryStore):
    """A store that notes how long the journal was after each commit: a crash can cut it there and nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []

    def append(self, run_id: str, records: Sequence[Record]) -> None:
        super().append(run_id, records)
        self.lengths.append(records[-1].seq + 1)


# --- decisions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", VERBS)
def test_a_decision_for_all_calls(*, is_async: bool) -> None:
    store = MemoryStore()
    parked(store)
    result = go_on(Desk, "r", [DONE], is_async=is_async, journal=store, answer=approve())
    assert (result.text, sorted(paid)) == ("done", ["1", "2"])


@pytest.mark.parametrize("is_async", VERBS)
def test_a_decision_per_call(*, is_async: bool) -> None:
    store = MemoryStore()
    one, two, _ = parked(store)
    answer = {one: deny("not this one"), two: edit({"number": "22"})}
    result = go_on(Desk, "r", [DONE], is_async=is_async, journal=store, answer=answer)

    assert paid == ["22"]
    contents = [b["content"] for b in result.messages[2]["content"]]
    assert contents[0] == "Denied by a person: not this one"
    assert contents[1].endswith("paid 22")
    assert contents[2] == "order 3"


def test_what_is_not_decided_is_asked_again() -> None:
    store = MemoryStore()
    one, two, _ = parked(store)
    half = go_on(Desk, "r", [], journal=store, answer={one: approve()})
    assert (half.state, half.verdict.reason, paid) == ("approving", "waiting_person", [])

    asked: list[Any] = []

    def ask(question: Any) -> Any:
        asked.extend(call.id for call in question.calls)
        return deny()

    result = go_on(Desk, "r", [DONE], journal=store, ask=ask)
    assert (asked, result.text, paid) == ([two], "done", ["1"])


def test_a_decided_call_cannot_be_decided_again() -> None:
    store = MemoryStore()
    one, two, _ = parked(store)
    go_on(Desk, "r", [], journal=store, answer={one: approve()})
    with pytest.raises(RunError, match=f"undecided: {two}"):
        go_on(Desk, "r", [], journal=store, answer={one: deny()})


WRONG: dict[str, Any] = {
    "text": "yes",
    "a number": 1,
    "true": True,
    "a wrong id": {"toolu_nobody": approve()},
    "a wrong id beside a right one": lambda ids: {ids[0]: approve(), "toolu_nobody": approve()},
    "a call that needs no approval": lambda ids: {ids[2]: approve()},
    "no decision": lambda ids: {ids[0]: "yes"},
    "nothing": {},
    "an edit against the schema": edit({"number": 7}),
    "an edit that is no JSON": edit({"number": {1, 2}}),
}


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("name", WRONG)
def test_an_answer_of_the_wrong_form_changes_nothing(name: str, *, is_async: bool) -> None:
    store = MemoryStore()
    ids = parked(store)
    before = tuple(store.read("r"))
    answer = WRONG[name](ids) if callable(WRONG[name]) else WRONG[name]

    with pytest.raises(RunError) as caught:
        go_on(Desk, "r", [], is_async=is_async, journal=store, answer=answer)
    assert "approving" in str(caught.value) or "decision" in str(caught.value) or "schema" in str(caught.value)
    assert tuple(store.read("r")) == before
    assert go_on(Desk, "r", [DONE], journal=store, answer=deny()).text == "done", "the right one is still taken"


# --- words -----------------------------------------------------------------------------------------------------------


def waiting(store: MemoryStore, clock: Clock | None = None) -> None:
    clock = clock or Clock()
    result, _ = both(
        Chat, "Hi.", [replies.text("Hello.")], is_async=False, journal=store, run_id="r", clock=clock, sleep=clock.sleep
    )
    assert (result.state, result.verdict.reason) == ("waiting", "waiting_person")


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("answer", ["And now?", [{"type": "text", "text": "And now?"}]])
def test_words_go_to_the_model(answer: Any, *, is_async: bool) -> None:
    store = MemoryStore()
    waiting(store)
    result = go_on(Chat, "r", [replies.text("Nothing.")], is_async=is_async, journal=store, answer=answer)
    assert (result.text, result.state) == ("Nothing.", "waiting")
    assert result.messages[2] == {"role": "user", "content": [{"type": "text", "text": "And now?"}]}


@pytest.mark.parametrize(
    "answer", ["", "  \n", [], ["words"], [{}, 7], 7, {"a": 1}, approve(), "half \ud83d", [{"n": {1}}]]
)
def test_words_of_the_wrong_form_change_nothing(answer: Any) -> None:
    store = MemoryStore()
    waiting(store)
    before = tuple(store.read("r"))
    with pytest.raises(RunError, match="answered with text or content blocks"):
        go_on(Chat, "r", [], journal=store, answer=answer)
    assert tuple(store.read("r")) == before


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": ""},
        {"text": "no type"},
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"},
    ],
)
def test_words_that_the_api_would_refuse_change_nothing(block: dict[str, Any]) -> None:
    store = MemoryStore()
    waiting(store)
    before = tuple(store.read("r"))
    with pytest.raises(RunError, match="the API would refuse it"):
        go_on(Chat, "r", [], journal=store, answer=[block])
    assert tuple(store.read("r")) == before


def test_an_answer_where_nothing_is_asked_is_refused() -> None:
    store, clock = MemoryStore(), Clock()
    both(Plain, "Hi.", [replies.overloaded()] * 7, is_async=False, journal=store, run_id="r", sleep=clock.sleep)
    before = tuple(store.read("r"))
    with pytest.raises(RunError, match="asks nobody in state 'asking': there is nothing to answer"):
        go_on(Plain, "r", [], journal=store, answer="Hello?")
    assert tuple(store.read("r")) == before


def test_without_an_answer_it_waits_on() -> None:
    store = MemoryStore()
    waiting(store)
    for _ in range(3):
        assert go_on(Chat, "r", [], journal=store).verdict.reason == "waiting_person"


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", VERBS)
def test_an_approval_expires_by_the_clock(*, is_async: bool) -> None:
    store, clock = MemoryStore(), Clock()
    parked(store, clock)
    clock.now += 3600
    result = go_on(Desk, "r", [DONE], is_async=is_async, journal=store, clock=clock)

    assert events_of(result.records)[-2:] == ["expired", "end_turn"]
    assert {b["content"] for b in result.messages[2]["content"]} == {"Not run: nobody decided on this call in time."}
    assert all(b["is_error"] for b in result.messages[2]["content"])
    assert paid == []


@pytest.mark.parametrize("late", [-1.0, 0.0, 1.0])
def test_an_answer_that_comes_too_late_loses(late: float) -> None:
    """A second before the recorded time it counts; at that time and after it the time has won."""
    store, clock = MemoryStore(), Clock()
    parked(store, clock)
    clock.now += 3600 + late
    result = go_on(Desk, "r", [DONE], journal=store, clock=clock, answer=approve())
    assert ("expired" in events_of(result.records)) is (late >= 0)
    assert len(paid) == (0 if late >= 0 else 2)
    assert result.text == "done"


def test_a_person_who_says_nothing_in_time() -> None:
    store, clock = MemoryStore(), Clock()
    waiting(store, clock)
    clock.now += 7200
    assert go_on(Chat, "r", [], journal=store, clock=clock).state == "bye"


def test_a_back_off_waits_the_rest_after_a_restart() -> None:
    """The delay is recorded: a restart waits what is left of it, and never longer than it said."""
    store, clock = MemoryStore(), Clock()

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    both(
        Plain,
        "Hi.",
        [replies.overloaded(retry_after=40)],
        is_async=False,
        journal=store,
        run_id="r",
        clock=clock,
        sleep=stop,
    )
    records = tuple(store.read("r"))
    for passed, slept in ((15.0, [25.0]), (60.0, []), (-5000.0, [40.0])):
        later = Clock(clock.now + passed)
        result = go_on(
            Plain, "r", [replies.text("Hello.")], journal=of_records(records), clock=later, sleep=later.sleep
        )
        assert (result.text, later.slept) == ("Hello.", slept)


# --- whose run -------------------------------------------------------------------------------------------------------


def test_an_unknown_run_is_an_error_that_names_no_other_run() -> None:
    store = MemoryStore()
    waiting(store)
    with pytest.raises(RunError, match="the journal has no run 'x'") as caught:
        resume(Chat, "x", journal=store)
    assert [summary.run_id for summary in store.runs()] == ["r"]
    assert str(caught.value).endswith("no run 'x'")


def test_another_workflow_s_run_is_refused() -> None:
    store = MemoryStore()
    waiting(store)
    with pytest.raises(RunError, match="run 'r' is a run of 'Chat', not of 'Desk'"):
        resume(Desk, "r", journal=store)


def test_a_journal_is_needed() -> None:
    with pytest.raises(UsageError, match="needs journal="):
        resume(Chat, "r")


def _desk(**changes: Any) -> type[Workflow]:
    given = {"model": MODEL, "max_tokens": 100, "system": "Be brief.", "tools": [find], **changes}

    class Changing(Workflow):
        asking = Claude(**given)
        calling = Tools()
        waiting = Human()
        asking.on(tool_use=calling, end_turn=waiting)
        calling.on(tool_results=asking)
        waiting.on(said=asking)

    return Changing


@tool(name="find")
def find_otherwise(number: str, year: int = 2020) -> str:
    """Find an order."""
    return f"{number}/{year}"


@pytest.mark.parametrize(
    "change",
    [{"system": "Be long."}, {"tools": [find_otherwise]}, {"tools": [find, refund]}, {"model": "claude-opus-5"}],
    ids=str,
)
def test_a_workflow_that_changed_cannot_take_the_run_up(change: dict[str, Any]) -> None:
    """R35: thinking is bound to everything before it."""
    if "refund" in str(change):
        change = {"tools": [find, find_otherwise.__class__("other", "function", find_otherwise.run, description="x")]}
    store = MemoryStore()
    both(_desk(), "Hi.", [replies.text("Hello.")], is_async=False, journal=store, run_id="r")
    before = tuple(store.read("r"))
    (part,) = change
    with pytest.raises(RunError, match=rf"another {part} in 'asking': its history is bound to what was .* \(R35\)"):
        go_on(_desk(**change), "r", [], journal=store, answer="And now?")
    assert tuple(store.read("r")) == before
    assert go_on(_desk(), "r", [replies.text("Now.")], journal=store, answer="And now?").text == "Now."


def test_a_run_is_driven_by_one_at_a_time() -> None:
    store = MemoryStore()
    waiting(store)

    def reply(body: dict[str, Any]) -> Reply:
        with pytest.raises(ConcurrentWriter, match="being driven already"):
            resume(Chat, "r", journal=store)
        return replies.text("Nothing.")

    with Emulator(reply).client() as client:
        assert resume(Chat, "r", client=client, journal=store, answer="And now?").text == "Nothing."


def test_a_zombie_loses_at_its_next_write_and_runs_nothing() -> None:
    """Another process took the run over: the one that slept notices when it writes, before a tool is entered."""
    store, entered = MemoryStore(), []

    def act() -> str:
        """Act."""
        entered.append("zombie")
        return "ok"

    workflow = loop_of(act)

    def reply(body: dict[str, Any]) -> Reply:
        if not entered:
            entered.append("other")
            store.release("r")
            with Emulator([replies.text("I took over.")]).client() as other:
                assert resume(workflow, "r", client=other, journal=store).text == "I took over."
        return replies.tool_use("act", {})

    with pytest.raises(ConcurrentWriter):
        both(workflow, "Hi.", reply, is_async=False, journal=store, run_id="r")
    assert entered == ["other"]
    assert go_on(workflow, "r", [], journal=store).text == "I took over."


def test_an_ended_run_gives_its_recorded_result() -> None:
    store = MemoryStore()
    first, _ = both(Loop, "Hi.", one_call("find", {"number": "1"}), is_async=False, journal=store, run_id="r")
    again = go_on(Loop, "r", [], journal=store)
    assert again.records == first.records
    assert (again.state, again.text, again.verdict, again.moves) == (first.state, "done", first.verdict, first.moves)
    with pytest.raises(RunError, match="has ended in 'answered': there is nothing to answer"):
        go_on(Loop, "r", [], journal=store, answer="More?")
    assert tuple(store.read("r")) == first.records


# --- after a crash ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("count", range(1, 4))
def test_a_process_that_died_after_any_commit_goes_on(count: int, *, is_async: bool) -> None:
    """§2.3: whichever commit is the last one, the run ends as it would have, and no tool runs twice."""
    entered: list[str] = []

    @tool
    def act(n: int) -> str:
        """Act."""
        entered.append(str(n))
        return f"ok {n}"

    workflow = loop_of(act)
    store = Commits()
    script = [replies.tool_uses(("act", {"n": 1}), ("act", {"n": 2})), DONE]
    both(workflow, "Hi.", script, is_async=False, journal=store, run_id="r")
    assert len(store.lengths) == 4
    cut = tuple(store.read("r"))[: store.lengths[count - 1]]
    entered.clear()

    def reply(body: dict[str, Any]) -> Reply:
        return DONE if len(body["messages"]) > 1 else script[0]

    result = go_on(workflow, "r", reply, is_async=is_async, journal=of_records(cut))
    assert result.text == "done"
    begun = any(r.kind == "tool.begin" for r in cut)
    ended = any(r.kind == "tool.end" for r in cut)
    assert sorted(entered) == ([] if begun else ["1", "2"])
    contents = [b["content"] for b in result.messages[2]["content"]]
    assert contents == ([UNKNOWN_OUTCOME] * 2 if begun and not ended else ["ok 1", "ok 2"])


def test_only_the_calls_that_did_not_end_are_of_unknown_outcome_and_idempotent_ones_run_again() -> None:
    entered: list[str] = []

    def note(name: str) -> str:
        entered.append(name)
        return name

    @tool
    def charge() -> str:
        """Charge."""
        return note("charge")

    @tool(idempotent=True)
    def look() -> str:
        """Look."""
        return note("look")

    workflow = loop_of(charge, look)
    store = MemoryStore()
    script = [replies.tool_uses(("charge", {}), ("charge", {}), ("look", {}), ("look", {})), DONE]
    both(workflow, "Hi.", script, is_async=False, journal=store, run_id="r")
    entered.clear()
    cut = list(after_a_crash(store, "tool.begin").read("r"))
    (whole,) = [r for r in tuple(store.read("r")) if r.kind == "tool.end"]
    ends = {end[0]: end for end in whole.data["ends"]}  # as they ended, which is any order
    asked = cut[-1].data["ids"]
    two = [ends[asked[0]], ends[asked[2]]]
    cut.append(Record(len(cut), "tool.end", cut[-1].at, {"ends": two}))

    result = go_on(workflow, "r", [DONE], journal=of_records(cut))
    assert [b["content"] for b in result.messages[2]["content"]] == ["charge", UNKNOWN_OUTCOME, "look", "look"]
    assert entered == ["look"]
    assert events_of(result.records) == ["tool_use", "outcome_unknown", "tool_results", "end_turn"]


def test_an_unknown_outcome_can_be_put_to_a_person() -> None:
    entered: list[str] = []

    @tool
    def charge(number: str) -> str:
        """Charge."""
        entered.append(number)
        return "charged"

    class Careful(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, tools=[charge])
        calling = Tools()
        checking = Approval()
        answered = Final()
        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking, outcome_unknown=checking)
        checking.on(approved=calling, denied=asking)

    store = MemoryStore()
    both(Careful, "Hi.", one_call("charge", {"number": "7"}), is_async=False, journal=store, run_id="r")
    entered.clear()
    for answer, runs in ((approve(), ["7"]), (deny("it did happen"), [])):
        entered.clear()
        questions: list[Any] = []

        def ask(question: Any, answer: Any = answer, questions: list[Any] = questions) -> Any:
            questions.append(question)
            return answer

        result = go_on(Careful, "r", [DONE], journal=after_a_crash(store, "tool.begin"), ask=ask)
        assert (result.text, entered) == ("done", runs)
        assert "the outcome of charge is unknown" in questions[0].why


def test_a_function_that_had_begun_is_of_unknown_outcome() -> None:
    entered: list[str] = []

    def grade(facts: Facts) -> Literal["fine"]:
        """Grade it."""
        entered.append(facts.text)
        return "fine"

    class Graded(Workflow):
        asking = Claude(model=MODEL, max_tokens=100)
        grading = Code(grade)
        done = Final()
        asking.on(end_turn=grading)
        grading.on("fine", done)

    store = MemoryStore()
    both(Graded, "Hi.", [replies.text("Hello.")], is_async=False, journal=store, run_id="r")
    result = go_on(Graded, "r", [], journal=after_a_crash(store, "code.begin"))
    assert (result.state, result.verdict.reason) == ("failed", "raised")
    assert "its outcome is unknown" in result.verdict.evidence["message"]
    assert entered == ["Hello."], "once, before the crash"


def test_a_request_without_a_reply_is_sent_again_at_most_so_often() -> None:
    """J3: the same bytes; then it is an error of the connection like any other, so that it cannot go on for ever."""
    store = MemoryStore()
    _, first = both(Plain, "Hi.", [replies.text("Hello.")], is_async=False, journal=store, run_id="r")
    store = after_a_crash(store, "request")

    def dies(body: dict[str, Any]) -> Reply:
        raise KeyboardInterrupt

    for _ in range(MAX_RESENDS):
        emulator = Emulator(dies)
        with emulator.client() as client:
            assert resume(Plain, "r", client=client, journal=store).verdict.reason == "interrupted"
    clock = Clock()
    emulator = Emulator([replies.text("Hello.")])
    with emulator.client() as client:
        result = resume(Plain, "r", client=client, journal=store, clock=clock, sleep=clock.sleep)
    assert emulator.requests[0].raw == first.requests[0].raw
    assert events_of(result.records) == ["connection_error", "end_turn"]
    assert len(clock.slept) == 1


def test_retries_of_the_api_s_errors_do_not_count_as_crashes() -> None:
    """Four retries and one crash are one crash."""
    store, clock = MemoryStore(), Clock()
    seen = iter([replies.overloaded()] * 4)

    def reply(body: dict[str, Any]) -> Reply:
        found = next(seen, None)
        if found is None:
            raise KeyboardInterrupt
        return found

    result, _ = both(Plain, "Hi.", reply, is_async=False, journal=store, run_id="r", clock=clock, sleep=clock.sleep)
    assert result.verdict.reason == "interrupted"
    resumed = go_on(Plain, "r", [replies.text("Hello.")], journal=store, clock=clock, sleep=clock.sleep)
    assert events_of(resumed.records) == ["overloaded_error"] * 4 + ["end_turn"]


# --- after= ----------------------------------------------------------------------------------------------------------


def next_run(workflow: type[Workflow], ended: Any, words: str = "And now?") -> list[dict[str, Any]]:
    """The messages that a new run sends which goes on from an ended one."""
    result, emulator = both(workflow, words, [replies.text("Here I am.")], is_async=False, after=ended)
    assert result.text == "Here I am.", result.verdict
    assert result.run_id != ended.run_id
    messages: list[dict[str, Any]] = (emulator.requests[0].body or {})["messages"]
    return messages


def test_a_new_run_goes_on_from_an_ended_one() -> None:
    ended, emulator = both(Loop, "Hi.", one_call("find", {"number": "1"}), is_async=False)
    messages = next_run(Loop, ended)
    assert messages[:4] == ended.messages
    assert messages[4]["content"] == [{"type": "text", "text": "And now?"}]
    assert emulator.exhausted is False


def test_open_calls_are_answered_before_the_new_words() -> None:
    ended, _ = both(Loop, "Hi.", lambda body: replies.tool_use("find", {"number": "7"}), is_async=False)
    assert ended.state == "stuck"
    store = MemoryStore()
    parked(store)
    waits = go_on(Desk, "r", [], journal=store)
    messages = next_run(Desk, waits)
    blocks = [b for m in messages[2:] for b in m["content"]]
    assert [b["type"] for b in blocks] == ["tool_result"] * 3 + ["text"]
    assert all(b["is_error"] for b in blocks[:3])
    assert next_run(Loop, ended)[-1]["role"] == "user"


def test_a_paused_tail_is_cut() -> None:
    ended, _ = both(Loop, "Hi.", [replies.pause()] * 6, is_async=False)
    assert ended.state == "stuck"
    messages = next_run(Loop, ended)
    assert messages[-1]["role"] == "user"
    assert "server_tool_use" not in json.dumps(messages)


def test_after_a_refusal_something_new_is_said() -> None:
    ended, _ = both(Plain, "Hi.", [replies.refusal("cyber")], is_async=False)
    assert ended.state == "refused"
    messages = next_run(Plain, ended, "Something else.")
    assert [m["role"] for m in messages] in (["user"], ["user", "user"])
    assert "Something else." in json.dumps(messages)


@pytest.mark.parametrize(
    "script",
    [
        [replies.max_tokens(tool=("find", {"number": "12345"}))] * 5,
        [replies.context_window("so far")],
        [replies.unknown_stop("bored")],
        [replies.error(400, "invalid_request_error", "no")],
        [replies.tool_uses(("find", {"number": "1"}), ("find", {"number": "2"})), replies.repeat_id()],
        [replies.empty(), replies.empty()],
    ],
)
def test_a_new_run_goes_on_whatever_the_old_one_ended_with(script: list[Reply]) -> None:
    ended, _ = both(Loop, "Hi.", script, is_async=False)
    assert not ended.ok
    next_run(Loop, ended)


def test_a_chain_of_runs() -> None:
    result, _ = both(Plain, "0", [replies.text("0!")], is_async=False)
    for n in range(1, 4):
        result, emulator = both(Plain, str(n), [replies.text(f"{n}!")], is_async=False, after=result)
    assert [m["content"][0]["text"] for m in result.messages] == ["0", "0!", "1", "1!", "2", "2!", "3", "3!"]
    assert len(emulator.requests) == 1


def test_after_takes_a_result() -> None:
    with pytest.raises(UsageError, match="after= takes the Result of a run"):
        run(Plain, "Hi.", after="r")  # type: ignore[arg-type] # the point
