"""People: a run waits for them in no process at all, hears them in another, and does nothing twice (K2, B3, D12)."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from _crash import JOURNAL, MODEL, SCENARIOS, Chat, Desk, World, Zygote, charge, effects, look
from _driving import Clock, both, go_on

from fsm import (
    Approval,
    Claude,
    Final,
    MemoryStore,
    Record,
    Tools,
    Workflow,
    approve,
    ask_on_terminal,
    deny,
    edit,
    resume,
)
from fsm._conversation import Conversation
from fsm._conversation._fold import UNKNOWN_OUTCOME
from fsm._conversation._heads import Heads
from fsm.stores.sqlite import SqliteStore
from fsm.testing import Emulator, replies, serve

VERBS = [pytest.param(False, id="resume"), pytest.param(True, id="aresume")]
REFUNDS = SCENARIOS["approval"].script({"messages": []})
DONE = replies.text("done")


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


def folded(workflow: type[Workflow], records: Sequence[Record]) -> Conversation:
    conversation = Conversation(workflow.plan, Heads(workflow.graph, workflow.toolbox.definitions))
    conversation.fold(records)
    return conversation


def parked(folder: Path, store: MemoryStore, clock: Clock | None = None) -> dict[int, str]:
    """A run that waits for three decisions: the id of each call, by the number it is about."""
    clock = clock or Clock()
    result, _ = both(Desk, "Hi.", [REFUNDS], is_async=False, journal=store, run_id="r", deps=World(folder), clock=clock)
    assert (result.state, result.verdict.reason) == ("approving", "waiting_person")
    question = result.question
    assert question is not None
    return {call.input["number"]: call.id for call in question.calls}


# --- in other processes ----------------------------------------------------------------------------------------------


def test_decisions_that_were_given_survive_the_process(tmp_path: Path, zygote: Zygote) -> None:
    """B4: approve one, edit another, and die; a third process is asked for the rest only, and each call runs once."""
    emulator = Emulator(SCENARIOS["approval"].script)
    with serve(emulator) as server:
        given = {"name": "approval", "folder": str(tmp_path), "url": server.url}
        # The commits: the request; its reply; parked; and the two decisions, after which this process is gone.
        code, _ = zygote.done("drive", **given, number=4, phase="committed")
        assert code == -signal.SIGKILL
        with SqliteStore(tmp_path / JOURNAL) as store:
            conversation = folded(Desk, list(store.read("r")))
            question = conversation.question()
            assert question is not None
            assert [(call.name, call.input) for call in question.calls] == [("refund", {"number": 3})]
            decided = [r.data["decisions"] for r in store.read("r") if r.kind == "answer"]
            assert [verb for answer in decided for verb, _, _ in answer.values()] == ["approve", "edit"]
        assert effects(tmp_path) == [], "as long as one is undecided, none runs"

        code, heard = zygote.done("drive", **given)
    assert (code, heard["state"]) == (0, "answered")
    with SqliteStore(tmp_path / JOURNAL) as store:
        records = list(store.read("r"))
        assert store.verify("r") is None
    one, two, three, four = folded(Desk, records).run.results
    assert (one.content, one.is_error) == ("paid 1", False)
    assert str(two.content).endswith("paid 22")
    assert "a person changed the input" in str(two.content)
    assert (three.content, three.is_error) == ("Denied by a person: it was paid already", True)
    assert (four.content, four.is_error) == ("looked 4", False)
    ran = sorted(key for _, key, _ in effects(tmp_path))
    assert ran == sorted([one.id, two.id, four.id]), "once each, and the denied one not at all"
    (reply,) = (r for r in records if r.kind == "reply" and r.data["event"] == "tool_use")
    assert '"number":2}' in reply.data["content"].replace(" ", ""), "the ledger keeps what the model asked for"


# --- looking whether there is an answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("asks", [True, False])
def test_looking_for_an_answer_makes_the_journal_no_longer(tmp_path: Path, *, asks: bool, is_async: bool) -> None:
    """D12: `resume` without an answer is parked again, as often as one likes, and records nothing."""
    store, asked = MemoryStore(), []

    def ask(question: Any) -> None:
        asked.append([call.id for call in question.calls])

    ids = parked(tmp_path, store)
    before = tuple(store.read("r"))
    options: dict[str, Any] = {"journal": store, "deps": World(tmp_path), "clock": Clock()}
    for _ in range(20):
        result = go_on(Desk, "r", [], is_async=is_async, ask=ask if asks else None, **options)
        assert (result.state, result.verdict.reason) == ("approving", "waiting_person")
        assert result.verdict.resumable
    assert tuple(store.read("r")) == before
    assert asked == [list(ids.values())] * (20 if asks else 0)
    assert go_on(Desk, "r", [DONE], is_async=is_async, ask=lambda question: deny(), **options).text == "done"


@pytest.mark.parametrize("is_async", VERBS)
def test_a_process_that_died_while_it_asked_asks_again(tmp_path: Path, *, is_async: bool) -> None:
    """D12: also where the process died before it was recorded that the run is parked; that is recorded once."""
    store = MemoryStore()
    parked(tmp_path, store)
    records = tuple(store.read("r"))
    assert [r.kind for r in records[-2:]] == ["asked", "park"]
    store = MemoryStore()
    store.append("r", records[:-1])
    for _ in range(3):
        result = go_on(Desk, "r", [], is_async=is_async, journal=store, deps=World(tmp_path), clock=Clock())
        assert result.verdict.reason == "waiting_person"
    assert [r.kind for r in store.read("r")] == [r.kind for r in records]


@pytest.mark.parametrize("is_async", VERBS)
def test_ctrl_c_while_a_person_is_asked_again(tmp_path: Path, *, is_async: bool) -> None:
    """An interruption of the asking changes nothing: it waits for a person still."""
    store = MemoryStore()
    parked(tmp_path, store)
    before = tuple(store.read("r"))

    def ask(question: Any) -> None:
        raise KeyboardInterrupt

    options: dict[str, Any] = {"journal": store, "deps": World(tmp_path), "clock": Clock()}
    if is_async:
        with pytest.raises(KeyboardInterrupt):
            go_on(Desk, "r", [], is_async=True, ask=ask, **options)
    else:
        assert go_on(Desk, "r", [], ask=ask, **options).verdict.reason == "waiting_person"
    assert tuple(store.read("r")) == before
    assert go_on(Desk, "r", [DONE], answer=deny(), **options).text == "done"


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", VERBS)
@pytest.mark.parametrize("answers", [True, False])
def test_after_the_recorded_time_an_answer_loses(tmp_path: Path, *, answers: bool, is_async: bool) -> None:
    """K8: the recorded `expires_at` decides, in whichever process; nothing runs."""
    store, clock = MemoryStore(), Clock()
    parked(tmp_path, store, clock)
    expires = next(r.data["expires_at"] for r in store.read("r") if r.kind == "asked")
    assert expires == clock.now + 86_400
    later = Clock(expires + 1)
    given = {"answer": approve()} if answers else {}
    result = go_on(Desk, "r", [DONE], is_async=is_async, journal=store, deps=World(tmp_path), clock=later, **given)
    assert result.text == "done"
    assert [r.data["event"] for r in result.records if r.kind == "move"][-2:] == ["expired", "end_turn"]
    assert not [r for r in result.records if r.kind == "answer"]
    assert effects(tmp_path) == []


def test_an_answer_given_in_time_and_never_twice(tmp_path: Path) -> None:
    """B3: the same answer given again finds nothing to answer, and nothing runs twice."""
    store = MemoryStore()
    ids = parked(tmp_path, store)
    options: dict[str, Any] = {"journal": store, "deps": World(tmp_path), "clock": Clock()}
    answer = {ids[1]: approve(), ids[2]: edit({"number": 22}), ids[3]: deny("paid already")}
    assert go_on(Desk, "r", [DONE], answer=answer, **options).text == "done"
    before, ran = tuple(store.read("r")), effects(tmp_path)
    with pytest.raises(Exception, match="has ended in 'answered': there is nothing to answer"):
        go_on(Desk, "r", [DONE], answer=answer, **options)
    assert (tuple(store.read("r")), effects(tmp_path)) == (before, ran)
    assert len(ran) == 3


# --- what is unknown is said to be -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (deny("it went through"), "Not run again: the process stopped while this call ran, so its outcome is unknown."),
        (deny(), "Not run again: the process stopped while this call ran, so its outcome is unknown."),
        (None, UNKNOWN_OUTCOME),
    ],
    ids=["denied", "denied without a word", "nobody looked"],
)
def test_a_call_of_unknown_outcome_is_never_said_not_to_have_run(tmp_path: Path, answer: Any, expected: str) -> None:
    """B3: it may have had its effect; what the model reads says so, also after a person or the clock decided."""

    class Careful(Workflow):
        asking = Claude(model=MODEL, max_tokens=100, tools=[charge, look])
        calling = Tools()
        checking = Approval(within="1h")
        answered = Final()
        asking.on(tool_use=calling, end_turn=answered)
        calling.on(tool_results=asking, outcome_unknown=checking)
        checking.on(approved=calling, denied=asking, expired=asking)

    store, clock = MemoryStore(), Clock()
    script = [replies.tool_uses(("charge", {"number": 1}), ("look", {"number": 2})), DONE]
    options: dict[str, Any] = {"deps": World(tmp_path), "clock": clock}
    both(Careful, "Hi.", script, is_async=False, journal=store, run_id="r", **options)
    died = MemoryStore()
    records = tuple(store.read("r"))
    died.append("r", records[: next(r.seq for r in records if r.kind == "tool.end")])
    ran = effects(tmp_path)

    waits = go_on(Careful, "r", [], journal=died, **options)
    assert waits.question is not None
    assert waits.question.why == "the outcome of charge is unknown after a restart"
    assert [call.input for call in waits.question.calls] == [{"number": 1}]
    clock.now += 0 if answer is not None else 7200
    result = go_on(Careful, "r", [DONE], journal=died, answer=answer, **options)
    first, second = (block["content"] for block in result.messages[2]["content"])
    assert first.startswith(expected)
    assert ("it went through" in first) == (answer == deny("it went through"))
    assert second == UNKNOWN_OUTCOME, "it had begun too, and nobody decided on it"
    assert effects(tmp_path) == ran


# --- what a person is shown ------------------------------------------------------------------------------------------


def test_a_person_is_shown_all_of_it_and_nothing_that_the_terminal_acts_upon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """X8: words of the model, tool, each input; a person's own words come back escaped in what the model is told."""
    store = MemoryStore()
    hostile = "7\x1b]0;owned\x07\u202e\x1b[2J"
    script = [replies.text(f"Shall I? {hostile}")]
    result, _ = both(Chat, "Hi.", script, is_async=False, journal=store, run_id="r")
    assert result.question is not None
    assert result.question.prompt == f"Shall I? {hostile}"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"yes {hostile}\n"))
    answered = resume(
        Chat, "r", journal=store, ask=ask_on_terminal, client=Emulator([replies.text("Fine.")] * 2).client()
    )
    shown = capsys.readouterr().out
    assert "Shall I? 7" in shown
    assert not set(shown) & set("\x1b\x07\u202e")
    assert answered.question is not None
    assert answered.messages[2]["content"][0]["text"] == f"yes {hostile}", "recorded as it was said"
