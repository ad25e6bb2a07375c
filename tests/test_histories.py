"""Lines of talk: what a state inherits, what it is told on entry, and what a limit or a loop leaves it."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from _workflows import (
    MODEL,
    Chat,
    Desk,
    Driven,
    HandOver,
    Optimiser,
    Stages,
    find,
    folded,
    overloaded,
    refund,
    snapshot,
    text,
    through_json,
    transfer,
    use,
)

from fsm import (
    Approval,
    Claude,
    Code,
    Final,
    Human,
    Tools,
    Workflow,
    attempts_left,
    calls,
    exits,
    rounds_left,
    say,
)
from fsm._actions import SendRequest
from fsm._events import Answered, Cancelled, CodeEnded, Decision, Resumed, TimePassed
from fsm._facts import Facts

THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}


def said(driven: Driven, index: int = -1) -> list[tuple[str, list[str]]]:
    """The messages that were sent: role, and the text (or the type) of each block."""
    return [(m["role"], [b.get("text") or b["type"] for b in m["content"]]) for m in driven.sent(index)]


def same(driven: Driven) -> None:
    """What the journal adds up to is what was lived through."""
    assert snapshot(folded(driven, through_json(driven.records))) == snapshot(driven.conversation)


# --- prompts and waiting words ----------------------------------------------------------------------------------------


class Chain(Workflow):
    """Two prompted states on one history, and one that hears what waits."""

    drafting = Claude(model=MODEL, max_tokens=10, prompt="Draft.")
    checking = Claude(model=MODEL, max_tokens=10, prompt=lambda facts: f"Check: {facts.text}")
    talking = Claude(model=MODEL, max_tokens=10)
    done = Final()

    drafting.on(end_turn=checking)
    checking.on(end_turn=talking)
    talking.on(end_turn=done)


def test_a_prompt_is_said_when_there_is_nothing_to_answer_and_the_input_waits() -> None:
    chain = Driven(Chain, "The input.")
    assert said(chain) == [("user", ["Draft."])]
    chain.reply(text("A draft."))
    assert said(chain) == [("user", ["Draft."]), ("assistant", ["A draft."]), ("user", ["Check: A draft."])]
    chain.reply(text("Fine."))
    assert said(chain)[-1] == ("user", ["The input."])
    assert chain.run.waiting == ()
    same(chain)


def test_a_prompt_is_not_said_again_after_an_error_or_a_continuation() -> None:
    chain = Driven(Chain)
    (wait,) = chain.fail(draw=0.0)
    chain.feed(TimePassed(wait.until))
    assert chain.bodies[-1] == chain.bodies[0]
    chain.reply(text("A dra"), stop="max_tokens")
    assert said(chain) == [("user", ["Draft."]), ("assistant", ["A dra"]), ("user", ["Continue."])]


class Prompted(Workflow):
    """A prompted state with a tool, and a loop that says something instead."""

    asking = Claude(model=MODEL, max_tokens=10, tools=[find], prompt="Go.")
    calling = Tools()
    done = Final()

    asking.on(tool_use=calling, end_turn=[asking.when(rounds_left(1)).then(say("Once more.")), done])
    calling.on(tool_results=asking)


def test_a_prompt_is_not_said_after_tool_results_nor_where_the_arrow_says_something() -> None:
    driven = Driven(Prompted)
    driven.reply(use("find"))
    driven.end()
    assert said(driven)[-1] == ("user", ["tool_result"])
    driven.reply(text("So."))
    assert said(driven)[-1] == ("user", ["Once more."])


def test_what_a_person_said_waits_for_the_next_state_without_a_prompt() -> None:
    class Interview(Workflow):
        """A person between two states."""

        opening = Claude(model=MODEL, max_tokens=10, prompt="Ask something.")
        person = Human()
        summing = Claude(model=MODEL, max_tokens=10, prompt="Sum up.", history="other")
        closing = Claude(model=MODEL, max_tokens=10)
        done = Final()
        opening.on(end_turn=person)
        person.on(said=summing)
        summing.on(end_turn=closing)
        closing.on(end_turn=done)

    driven = Driven(Interview, "The input.")
    driven.reply(text("Who are you?"))
    driven.feed(Answered(driven.now(), said="Nobody."))
    assert said(driven) == [("user", ["Sum up."])]
    driven.reply(text("Summed."))
    assert said(driven) == [
        ("user", ["Ask something."]),
        ("assistant", ["Who are you?"]),
        ("user", ["The input.", "Nobody."]),
    ]
    same(driven)


def test_say_speaks_into_the_ledger_of_its_target() -> None:
    driven = Driven(Optimiser, "ants")
    assert said(driven) == [("user", ["Write about ants."])]
    driven.reply(text("Ants."))
    driven.feed(CodeEnded(driven.now(), "weak"))
    assert said(driven)[1:] == [("assistant", ["Ants."]), ("user", ["Too short: 'Ants.'."])]
    driven.reply(text("Ants are small."))
    driven.feed(CodeEnded(driven.now(), "good", {"length": 15}))
    assert (driven.state, said(driven)) == ("polishing", [("user", ["Polish it."])])
    assert driven.run.values["grading"] == {"length": 15}
    assert driven.run.values["remembered"] == ["Ants are small."]
    driven.feed(Cancelled(driven.now()))  # its row says something to drafting
    assert said(driven)[-1] == ("user", ["Never mind the polish."])
    same(driven)


# --- words that may not be said yet (R16) -----------------------------------------------------------------------------


class Interrupted(Workflow):
    """A person can speak while calls are open, and something is said with each result."""

    asking = Claude(model=MODEL, max_tokens=10, tools=[find], history="desk")
    person = Human()
    calling = Tools()
    done = Final()

    asking.on(tool_use=person, end_turn=[asking.when(rounds_left(1)).then(say("Anything else?")), done])
    person.on(said=calling)
    calling.on(tool_results=asking.then(say("Mind the budget.")))


def test_words_follow_the_results_where_only_our_own_tools_were_called() -> None:
    driven = Driven(Interrupted)
    driven.reply(use("find"))
    driven.feed(Answered(driven.now(), said="And hurry."))
    driven.end()
    assert said(driven)[-1] == ("user", ["tool_result", "Mind the budget.", "And hurry."])


def test_words_wait_while_a_server_tool_has_no_result() -> None:
    driven = Driven(Interrupted)
    driven.reply(SEARCH, use("find"))
    driven.feed(Answered(driven.now(), said="And hurry."))
    driven.end()
    assert said(driven)[-1] == ("user", ["tool_result"])
    assert len(driven.run.waiting) == 1
    assert [len(late) for late in driven.run.unsaid.values()] == [1]
    driven.reply(FOUND, text("Found."))
    assert said(driven)[-1] == ("user", ["Anything else?", "Mind the budget.", "And hurry."])
    assert (driven.run.waiting, driven.run.unsaid) == ((), {})
    same(driven)


def test_words_wait_while_a_turn_is_paused() -> None:
    class Chatty(Workflow):
        """A person speaks when it is cancelled."""

        chatting = Claude(model=MODEL, max_tokens=10)
        person = Human()
        done = Final()
        chatting.on(end_turn=person, cancel=person)
        person.on(said=[done.when(attempts_left(9) & ~attempts_left(9)), chatting])

    driven = Driven(Chatty)
    driven.reply(SEARCH, FOUND, stop="pause_turn")
    driven.feed(Cancelled(driven.now()))
    driven.feed(Answered(driven.now(), said="Stop that."))
    assert said(driven)[-1][0] == "assistant"
    driven.reply(text("Stopped."))
    driven.feed(Answered(driven.now(), said="Good."))
    assert said(driven)[-1] == ("user", ["Stop that.", "Good."])


# --- fresh and continues ----------------------------------------------------------------------------------------------


class Evaluator(Workflow):
    """Each judgement begins an empty ledger; the writer goes on in its own."""

    writing = Claude(model=MODEL, max_tokens=10)
    judging = Claude(
        model=MODEL, max_tokens=10, history="judge", fresh=True, prompt=lambda facts: f"Judge: {facts.text}"
    )
    done = Final()

    writing.on(end_turn=judging)
    judging.on(end_turn=[writing.when(rounds_left(2)).then(say(lambda facts: facts.text, name="verdict")), done])


def test_fresh_begins_an_empty_ledger_when_its_own_is_finished() -> None:
    driven = Driven(Evaluator, "Write.")
    for number in (1, 2):
        driven.reply(text(f"Text {number}."))
        assert said(driven) == [("user", [f"Judge: Text {number}."])]
        assert driven.run.ledger("judge").generation == number + 1
        driven.reply(text(f"Weak {number}."))
        assert said(driven)[-1] == ("user", [f"Weak {number}."])
    assert len(driven.sent()) == 5
    same(driven)


def test_fresh_goes_on_after_a_retry_and_a_continuation() -> None:
    driven = Driven(Evaluator, "Write.")
    driven.reply(text("Text."))
    (wait,) = driven.fail(draw=0.0)
    driven.feed(TimePassed(wait.until))
    assert said(driven) == [("user", ["Judge: Text."])]
    driven.reply(text("I th"), stop="max_tokens")
    assert [role for role, _ in said(driven)] == ["user", "assistant", "user"]


def test_fresh_begins_anew_after_a_refusal() -> None:
    with pytest.warns(UserWarning, match="W11"):

        class Twice(Workflow):
            """A refused judge is asked again, differently."""

            judging = Claude(model=MODEL, max_tokens=10, history="judge", fresh=True, prompt="Judge.")
            gently = Claude(model="claude-opus-5", max_tokens=10, history="judge", fresh=True, prompt="Gently.")
            done = Final()
            judging.on(end_turn=done, refusal=gently)
            gently.on(end_turn=done)

    driven = Driven(Twice)
    driven.reply(stop="refusal")
    assert said(driven) == [("user", ["Gently."])]


def test_a_hand_over_by_a_tool_call_answers_it_and_copies_without_thinking() -> None:
    driven = Driven(HandOver)
    driven.reply(THINKING, text("One moment."), use("transfer", {"team": "billing"}))
    driven.end()
    assert driven.state == "billing"
    assert said(driven) == [("user", ["Hello."]), ("assistant", ["One moment.", "tool_use"]), ("user", ["tool_result"])]
    (action,) = driven.conversation.pending()
    assert isinstance(action, SendRequest)
    assert (action.params["system"], action.params["model"]) == ("You do bills.", "claude-opus-5")
    assert driven.run.ledger("main").messages()[1]["content"][0] == THINKING  # main keeps it
    driven.reply(use("find"))
    driven.end()
    assert driven.state == "billing"
    assert len(driven.run.ledger("billing").messages()) == 5
    assert len(driven.run.ledger("main").messages()) == 3  # main learns nothing of it
    same(driven)


def test_another_tool_does_not_hand_over() -> None:
    driven = Driven(HandOver)
    driven.reply(use("find"))
    driven.end()
    assert driven.state == "asking"


def test_a_refused_hand_over_comes_back_with_what_the_arrow_says() -> None:
    driven = Driven(HandOver)
    driven.reply(use("transfer"))
    driven.end()
    driven.reply(text("No."), stop="refusal")
    assert driven.state == "asking"
    assert said(driven)[-1] == ("user", ["tool_result", "Billing declined. Answer yourself."])


def test_a_refused_history_that_is_continued_owes_an_answer() -> None:
    class Fallback(Workflow):
        """Another model answers what the first one refused."""

        asking = Claude(model=MODEL, max_tokens=10)
        other = Claude(model="claude-opus-5", max_tokens=10, history="other", continues="main", prompt="Unused.")
        done = Final()
        asking.on(end_turn=done, refusal=other)
        other.on(end_turn=done)

    driven = Driven(Fallback, "Difficult.")
    driven.reply(text("I won't"), stop="refusal")
    assert (driven.state, said(driven)) == ("other", [("user", ["Difficult."])])
    same(driven)


def test_a_copy_with_calls_into_a_state_without_tools_is_refused_at_declaration() -> None:
    asking = Claude(model=MODEL, max_tokens=10, tools=[transfer])
    calling, done = Tools(), Final()
    billing = Claude(model=MODEL, max_tokens=10, history="billing", continues="main")
    asking.on(tool_use=calling, end_turn=done)
    calling.on(tool_results=[billing.when(calls("transfer")), asking])
    billing.on(end_turn=done)
    with pytest.raises(Exception, match=r"R19e"):
        type(Workflow)("W", (Workflow,), {"asking": asking, "calling": calling, "billing": billing, "done": done})


@pytest.mark.parametrize(("fresh", "expected"), [(True, 1), (False, 3)])
def test_a_first_state_that_is_fresh_does_not_go_on_from_carried_histories(fresh: bool, expected: int) -> None:  # noqa: FBT001
    class First(Workflow):
        """Begins anew, or goes on."""

        asking = Claude(model=MODEL, max_tokens=10, fresh=fresh, prompt="Go.")
        done = Final()
        asking.on(end_turn=done)

    before = Driven(First)
    before.reply(text("Gone."))
    after = Driven(First, "Again.", carried=before.conversation.carry())
    assert len(after.sent()) == expected
    same(after)


# --- approvals on two histories ---------------------------------------------------------------------------------------


def test_a_tool_is_asked_about_by_the_policy_of_its_own_history() -> None:
    class Two(Workflow):
        """`find` is free in one history; the other has a refund."""

        asking = Claude(model=MODEL, max_tokens=10, tools=[find, refund])
        calling = Tools()
        approving = Approval()
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=asking, approval_needed=approving)
        approving.on(approved=calling, denied=asking)

    driven = Driven(Two)
    call = use("refund")
    driven.reply(call)
    assert driven.state == "approving"
    driven.feed(Answered(driven.now(), decisions={call["id"]: Decision("approve")}))
    assert driven.state == "calling"
    driven.end()
    driven.reply(use("refund"))  # an approval is for one call
    assert driven.state == "approving"


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "name", "used"),
    [
        ({"turns": 1}, "turns", 1),
        ({"tool_calls": 1}, "tool_calls", 1),
        ({"tokens": 15}, "tokens", 15),
        ({"money": 0.5}, "money", 0.5),
        ({"seconds": 2.0}, "seconds", 2.0),
    ],
)
def test_a_limit_is_met_only_about_to_send_and_its_target_gets_one_request(
    limits: dict[str, Any], name: str, used: float
) -> None:
    driven = Driven(Stages, limits=limits)
    _priced(driven, use("find"))
    assert driven.state == "calling"  # not with a call open
    driven.end()
    assert (driven.state, driven.path()[-1]) == ("wrapping", "over_limit")
    move = [r for r in driven.records if r.kind == "move"][-1]
    assert (move.data["evidence"]["limit"], move.data["evidence"]["used"]) == (name, used)
    assert said(driven)[-1] == ("user", ["tool_result", "Wrap up now."])
    assert driven.action.params["tool_choice"] == {"type": "none"}
    _priced(driven, text("In short: 7."))
    assert (driven.state, driven.conversation.verdict().reason) == ("partial", "end_turn")
    same(driven)


def _priced(driven: Driven, *content: Any) -> None:
    from _workflows import message, replied

    driven.feed(replied(driven.now(), message(*content), price=0.5, seconds=2.0))


def test_the_free_request_is_free_until_it_is_answered_and_no_longer() -> None:
    driven = Driven(Stages, limits={"turns": 1})
    driven.reply(use("find"))
    driven.end()
    (wait,) = driven.feed(overloaded(driven.now(), draw=0.0))
    (again,) = driven.feed(TimePassed(wait.until))
    assert isinstance(again, SendRequest)
    assert driven.state == "wrapping"
    driven.reply(text("In sh"), stop="max_tokens")  # a second request is over the limit again
    assert (driven.state, driven.path()[-1]) == ("over_limit", "over_limit")
    assert driven.conversation.verdict().evidence["limit"] == "turns"


def test_a_price_that_is_unknown_reaches_a_limit_of_money_and_is_never_zero() -> None:
    driven = Driven(Desk, limits={"money": 0.01})
    driven.reply(use("find"))
    driven.end()
    assert driven.state == "over_limit"
    verdict = driven.conversation.verdict()
    assert verdict.price is None
    assert verdict.evidence["used"] is None
    assert "limit tokens instead" in verdict.evidence["detail"]


def test_without_a_row_a_limit_ends_in_its_exit() -> None:
    driven = Driven(Desk, limits={"turns": 1})
    driven.reply(use("find"))
    driven.end()
    assert driven.state == "over_limit"
    assert driven.conversation.verdict().evidence["allowed"] == 1


def test_a_finished_turn_is_not_over_its_limit() -> None:
    driven = Driven(Desk, limits={"turns": 1})
    driven.reply(text("Done."))
    assert driven.state == "answered"


def test_parked_time_is_no_work() -> None:
    driven = Driven(Chat, limits={"seconds": 5})
    driven.reply(text("Hi."))
    driven.feed(Answered(driven.now(90), said="Well?"))
    assert driven.state == "chatting"
    assert driven.conversation.verdict().duration == 0


def test_rounds_are_counted_per_arrow() -> None:
    class Two(Workflow):
        """Two arrows with a limit of their own."""

        asking = Claude(model=MODEL, max_tokens=10)
        done = Final()
        asking.on(
            end_turn=[asking.when(rounds_left(2)).then(say("A")), asking.when(rounds_left(1)).then(say("B")), done]
        )

    driven = Driven(Two)
    for _ in range(4):
        driven.reply(text("Hm."))
    assert [r.data["index"] for r in driven.records if r.kind == "move"] == [0, 0, 1, 2]
    assert driven.state == "done"


# --- stuck ------------------------------------------------------------------------------------------------------------


def _stuck_by_repeating(driven: Driven) -> None:
    for _ in range(5):
        driven.reply(use("find"))
        driven.end()


def _stuck_by_an_old_id(driven: Driven) -> None:
    call = use("find")
    driven.reply(call)
    driven.end()
    driven.reply(call)


@pytest.mark.parametrize(("how", "rule"), [(_stuck_by_repeating, "D2"), (_stuck_by_an_old_id, "D1a")])
def test_the_target_of_stuck_gets_one_request_and_a_new_window(how: Any, rule: str) -> None:
    driven = Driven(Stages)
    how(driven)
    assert (driven.state, driven.path()[-1]) == ("wrapping", "stuck")
    move = [r for r in driven.records if r.kind == "move"][-1]
    assert move.data["evidence"]["rule"] == rule
    assert said(driven)[-1][1][-1] == "You go round. Wrap up."
    driven.reply(text("In short: 7."))
    assert driven.state == "partial"
    same(driven)


def test_a_window_begins_anew_after_stuck() -> None:
    class Patient(Workflow):
        """May go round twice."""

        asking = Claude(model=MODEL, max_tokens=10, tools=[find])
        calling = Tools()
        done = Final()
        asking.on(
            tool_use=calling,
            end_turn=done,
            stuck=[asking.when(rounds_left(1)).then(say("You repeat yourself.")), exits.stuck],
        )
        calling.on(tool_results=asking)

    driven = Driven(Patient)
    _stuck_by_repeating(driven)
    assert driven.state == "asking"
    for _ in range(4):
        driven.reply(use("find"))
        driven.end()
        assert driven.state == "asking"
    driven.reply(use("find"))
    driven.end()
    assert driven.state == "stuck"


def test_the_free_request_may_be_the_same_as_the_one_before() -> None:
    class Again(Workflow):
        """Asks once more after a repeated id."""

        asking = Claude(model=MODEL, max_tokens=10, tools=[find])
        calling = Tools()
        done = Final()
        asking.on(tool_use=calling, end_turn=done, stuck=[asking.when(rounds_left(1)), exits.stuck])
        calling.on(tool_results=asking)

    driven = Driven(Again)
    _stuck_by_an_old_id(driven)
    assert (driven.state, driven.path().count("stuck")) == ("asking", 1)
    assert driven.bodies[-1] == driven.bodies[-2]
    driven.reply(text("Sorry."))
    assert driven.state == "done"


def test_a_person_who_denies_the_same_call_again_and_again_is_no_loop() -> None:
    driven = Driven(Desk)
    for _ in range(7):
        call = use("refund")
        driven.reply(call)
        driven.feed(Answered(driven.now(), decisions={call["id"]: Decision("deny")}))
    assert driven.state == "asking"


def test_other_results_and_a_person_are_progress() -> None:
    driven = Driven(Desk)
    for number in range(12):
        call = use("find")
        driven.reply(call)
        driven.end((call["id"], f"result {number}"))
    assert driven.state == "asking"
    chat = Driven(Chat)
    for _ in range(3):
        for _ in range(3):
            chat.reply(use("find"))
            chat.end()
        chat.reply(text("Hm."))
        chat.feed(Answered(chat.now(), said="Again."))
    assert chat.state == "chatting"


def test_a_refused_request_is_not_sent_again_after_a_restart_either() -> None:
    driven = Driven(Desk)
    driven.reply(stop="refusal")
    assert driven.state == "refused"
    other = folded(driven, through_json(driven.records))
    assert other.finished
    with pytest.raises(Exception, match="ended in 'refused'"):
        other.feed(Resumed(driven.now()))


# --- compaction -------------------------------------------------------------------------------------------------------


def test_a_summary_stands_in_place_of_what_it_summarises_and_later_words_are_kept() -> None:
    from _workflows import Stubborn

    driven = Driven(Stubborn)
    driven.reply(text("Hi."))
    (action,) = driven.feed(Answered(driven.now(), said="/compact"))
    assert isinstance(action, SendRequest)
    assert action.params["compaction"] == {"type": "summarize"}
    assert action.betas
    assert said(driven) == [("user", ["Hello."]), ("assistant", ["Hi."])]
    summary = {"type": "compaction", "content": "They greeted.", "encrypted_content": "b3Bh", "signature": "x"}
    driven.reply(summary, stop="compaction")
    assert driven.sent() == [
        {"role": "assistant", "content": [summary]},
        {"role": "user", "content": [text("/compact")]},
    ]
    assert "compaction" not in driven.action.params
    same(driven)


def test_a_failed_summary_keeps_the_history() -> None:
    from _workflows import Stubborn

    driven = Driven(Stubborn)
    driven.reply(text("Hi."))
    driven.feed(Answered(driven.now(), said="/compact"))
    driven.reply({"type": "compaction", "content": None, "encrypted_content": None}, stop="compaction")
    assert said(driven) == [("user", ["Hello."]), ("assistant", ["Hi."]), ("user", ["/compact"])]


def test_a_summary_waits_for_a_finished_reply() -> None:
    """S10.4: results that were not sent yet are no finished turn."""
    from _workflows import Stubborn

    driven = Driven(Stubborn)
    call = use("find")
    driven.reply(call)
    driven.end()
    driven.feed(Cancelled(driven.now()))
    (action,) = driven.feed(Answered(driven.now(), said="/compact"))
    assert isinstance(action, SendRequest)
    assert "compaction" not in action.params
    driven.reply(text("Found."))
    (action,) = driven.feed(Answered(driven.now(), said="Thanks."))
    assert isinstance(action, SendRequest)
    assert action.params["compaction"] == {"type": "summarize"}


def test_facts_show_the_input_the_words_and_the_newest_reply() -> None:
    seen: list[Facts] = []

    def look(facts: Facts) -> str:
        seen.append(facts)
        return "Go on."

    class Looking(Workflow):
        """Looks at the facts."""

        asking = Claude(model=MODEL, max_tokens=10, tools=[find])
        calling = Tools()
        person = Human()
        done = Final()
        asking.on(tool_use=calling, end_turn=person)
        calling.on(tool_results=asking.then(say(look)))
        person.on(said=[asking.when(rounds_left(1)).then(say(look)), done])

    driven = Driven(Looking, "The input.", tags={"team": "x"})
    driven.reply(text("Looking."), use("find"))
    driven.end()
    first = seen[0]
    assert (first.state, first.event, first.input, first.said) == ("calling", "tool_results", "The input.", None)
    assert (first.text, [c.name for c in first.calls], [r.content for r in first.results]) == (
        "Looking.", ["find"], ["found"],
    )  # fmt: skip
    assert (first.turns, first.tool_calls, first.usage.total, dict(first.tags)) == (1, 1, 15, {"team": "x"})
    driven.reply(text("So?"))
    driven.feed(Answered(driven.now(), said="More."))
    assert (seen[1].said, seen[1].text, seen[1].state, seen[1].turns) == ("More.", "So?", "person", 2)


# --- words that cannot be said, replies without content --------------------------------------------------------------


def probe(facts: Facts) -> Literal["again", "other", "ok"]:
    """Never called: the tests feed what came of it."""
    raise AssertionError(facts)


class Probing(Workflow):
    """Code that tries again, at most three times in a row."""

    asking = Claude(model=MODEL, max_tokens=100)
    checking = Code(probe)
    done = Final()
    asking.on(end_turn=checking)
    checking.on("again", [checking.when(attempts_left(3)), exits.over_limit]).on("ok", done)
    checking.on("other", [checking.when(rounds_left(1)), exits.failed])


def probed(driven: Driven, *outcomes: str) -> str:
    for outcome in outcomes:
        driven.feed(CodeEnded(driven.now(), outcome))
    return driven.state


def test_attempts_are_counted_in_code_too_and_another_event_begins_anew() -> None:
    driven = Driven(Probing)
    driven.reply(text("Hi."))
    assert probed(driven, "again", "again", "again") == "checking"
    assert probed(driven, "again") == "over_limit"
    driven = Driven(Probing)
    driven.reply(text("Hi."))
    assert probed(driven, "again", "again", "other", "again", "again", "again") == "checking"
    assert probed(driven, "again") == "over_limit"
    same(driven)


def test_attempts_are_counted_for_tool_results() -> None:
    class Thrice(Workflow):
        """Tools run three times at most."""

        asking = Claude(model=MODEL, max_tokens=100, tools=[find])
        calling = Tools()
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=[asking.when(attempts_left(3)), exits.over_limit])

    driven = Driven(Thrice)
    for number in range(4):
        assert driven.state == "asking"
        driven.reply(use("find", {"number": str(number)}))
        driven.end()
    assert driven.state == "over_limit"


class Searching(Workflow):
    """The standard rows, with words after a refusal."""

    asking = Claude(model=MODEL, max_tokens=100, stop_sequences=["STOP"])
    person = Human()
    asking.on(
        end_turn=person,
        stop_sequence=person,
        refusal=[asking.when(rounds_left(1)).then(say("Only the harmless part.")), exits.refused],
    )
    person.on(said=asking)


def paused() -> Driven:
    driven = Driven(Searching)
    driven.reply(SEARCH, stop="pause_turn")
    return driven


@pytest.mark.parametrize(
    ("reply", "rule"),
    [(([text("A part.")], "max_tokens"), "S3.4"), (([], "end_turn"), "S3.4"), (([text("Done.")], "end_turn"), "R25")],
)
def test_what_cannot_be_said_after_a_pause_is_no_reason_to_send_nothing_new(
    reply: tuple[list[Any], str], rule: str
) -> None:
    driven = paused()
    count = len(driven.bodies)
    driven.reply(*reply[0], stop=reply[1])
    if driven.state == "person":
        driven.feed(Answered(driven.now(), said="And?"))
    assert (driven.state, len(driven.bodies)) == ("failed", count)
    verdict = driven.conversation.verdict()
    assert verdict.reason == "invalid_request_error"
    assert "srvtoolu_1" in verdict.evidence["detail"]
    assert rule in verdict.evidence["detail"]
    same(driven)


def test_text_after_the_result_of_a_server_tool_is_continued() -> None:
    driven = paused()
    driven.reply(FOUND, text("A part."), stop="max_tokens")
    assert said(driven)[-1] == ("user", ["Continue."])
    same(driven)


def test_a_refused_turn_takes_its_paused_part_with_it_where_something_is_said() -> None:
    driven = paused()
    driven.reply(stop="refusal")
    assert said(driven) == [("user", ["Hello."]), ("user", ["Only the harmless part."])]
    assert driven.state == "asking"
    driven.reply(text("Done."))
    assert driven.state == "person"
    same(driven)


def test_a_retry_after_an_error_may_send_the_same_though_words_wait() -> None:
    class Patient(Workflow):
        """Words on the way back from an error."""

        asking = Claude(model=MODEL, max_tokens=100)
        done = Final()
        asking.on(end_turn=done, overloaded_error=[asking.when(attempts_left(2)).then(say("Hurry.")), exits.failed])

    driven = Driven(Patient)
    driven.reply(SEARCH, stop="pause_turn")
    driven.fail()
    assert driven.state == "asking"
    assert driven.bodies[-1] == driven.bodies[-2]


@pytest.mark.parametrize("stop", ["stop_sequence", "pause_turn", "compaction"])
def test_a_kept_reply_without_content_is_not_appended(stop: str) -> None:
    driven = Driven(Searching)
    driven.reply(stop=stop)
    assert driven.path() == [stop]
    assert not any(m["role"] == "assistant" for m in driven.run.ledger("main").messages())
    if stop == "stop_sequence":
        driven.feed(Answered(driven.now(), said="And?"))
        assert said(driven) == [("user", ["Hello."]), ("user", ["And?"])]
    same(driven)


def test_a_history_with_calls_is_handed_to_a_state_without_tools_at_run_time() -> None:
    class Handed(Workflow):
        """The checks cannot see what the input holds."""

        asking = Claude(model=MODEL, max_tokens=100)
        summing = Claude(model="claude-haiku-4-5", max_tokens=100, history="sum", continues="main", prompt="Sum up.")
        done = Final()
        asking.on(end_turn=summing)
        summing.on(end_turn=done)

    call = use("find")
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "found"}
    driven = Driven(
        Handed,
        (
            {"role": "user", "content": [text("Hi.")]},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
        ),
    )
    driven.reply(text("Found."))
    assert said(driven)[1] == ("assistant", ["tool_use"])
    driven.reply(text("All found."))
    assert driven.state == "done"
