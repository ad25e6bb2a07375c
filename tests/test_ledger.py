"""The ledger: each message is encoded once, and what was encoded is never touched again (R35)."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from _messages import assistant, body, result, search, system, text, use, user
from hypothesis import given
from hypothesis import strategies as st

from fsm._encoded import encode, plain
from fsm._errors import IllegalRequest
from fsm._ledger import Ledger, Standing, after_reply
from fsm._legality import violations

MODEL = "claude-sonnet-5"
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}


def reply(ledger: Ledger, *blocks: Any, standing: Standing = Standing.SPOKEN, raw: str | None = None) -> Ledger:
    return ledger.append_reply(list(blocks), raw or json.dumps(blocks), standing)


def asked() -> Ledger:
    return Ledger().say([text("Hi.")]).seal()


def test_r25_a_finished_reply_is_no_end_of_a_request_and_a_paused_one_is() -> None:
    """S7.2: it goes back as it is, also where a reply to it came that was not kept."""
    paused = asked().append_reply([text("So far")], json.dumps([text("So far")]), Standing.OWES, paused=True)
    paused.check(MODEL)
    paused.resumed().check(MODEL)
    finished = reply(asked(), text("Hello."))
    with pytest.raises(IllegalRequest) as caught:
        finished.check(MODEL)
    assert [each.rule for each in caught.value.violations] == ["R25"]
    finished.check("claude-haiku-4-5")


def test_what_is_said_waits_until_the_next_request_and_then_is_one_message() -> None:
    ledger = Ledger().say([text("One.")]).say([text("Two.")])
    assert (ledger.count, ledger.standing) == (0, Standing.OWES)
    sealed = ledger.seal()
    assert sealed.encoded() == (encode({"role": "user", "content": [text("One."), text("Two.")]}),)
    assert sealed.seal() is sealed


def test_results_stand_before_words_that_were_said_first() -> None:
    ledger = reply(asked(), use("toolu_1"), standing=Standing.CALLS).say([text("By the way.")])
    ledger = ledger.prepend([result("toolu_1")]).seal()
    assert [b["type"] for b in ledger.messages()[-1]["content"]] == ["tool_result", "text"]
    ledger.check(MODEL)


def test_a_reply_is_appended_as_it_came() -> None:
    raw = '[ {"type":"text", "text":"\\u00e9", "n":1e2} ]'
    ledger = reply(asked(), *json.loads(raw), raw=raw)
    assert ledger.encoded()[-1] == b'{"role":"assistant","content":' + raw.encode() + b"}"


def test_an_older_ledger_stays_as_it_was_when_two_go_on_from_it() -> None:
    start = asked()
    left, right = reply(start, text("Left.")), reply(start, text("Right."))
    assert start.count == 1
    assert len(start.encoded()) == 1
    assert left.messages()[-1]["content"] == [text("Left.")]
    assert right.messages()[-1]["content"] == [text("Right.")]
    assert left.encoded()[0] == right.encoded()[0]
    assert reply(left, text("More.")).messages()[1]["content"] == [text("Left.")]


WORDS = st.lists(st.sampled_from(["say", "reply", "call"]), max_size=20)


@given(WORDS, WORDS)
def test_history_n_is_a_prefix_of_history_n_plus_1(common: list[str], more: list[str]) -> None:
    def grown(ledger: Ledger, steps: list[str]) -> list[Ledger]:
        made = [ledger]
        for number, step in enumerate(steps):
            here = made[-1]
            if step == "say":
                here = here.say([text(f"Words {number}.")]).seal()
            elif step == "reply":
                here = reply(here.say([text("?")]).seal(), text(f"Answer {number}."))
            else:
                call = f"toolu_{here.count}_{number}"
                here = reply(here.say([text("?")]).seal(), THINKING, use(call), standing=Standing.CALLS)
                here = here.prepend([result(call)]).seal()
            made.append(here)
        return made

    base = grown(asked(), common)
    branches = (grown(base[-1], more), grown(base[-1], [*more, "say"]))
    for branch in branches:
        line = [*base, *branch]
        for before, after in itertools.pairwise(line):
            assert after.encoded()[: before.count] == before.encoded()
            assert after.count == len(after.encoded())
        if line[-1].messages()[-1]["role"] == "user":
            assert violations(body(*line[-1].messages())) == ()
    assert branches[0][-1].digest == grown(grown(asked(), common)[-1], more)[-1].digest


def test_the_digest_tells_any_two_histories_apart() -> None:
    one, other = reply(asked(), text("A")), reply(asked(), text("B"))
    assert len({asked().digest, one.digest, other.digest, Ledger().digest}) == 4
    assert one.digest == reply(asked(), text("A")).digest


def test_what_the_api_would_refuse_is_not_appended() -> None:
    owing = reply(asked(), use("toolu_1"), standing=Standing.CALLS)
    with pytest.raises(IllegalRequest) as caught:
        owing.say([text("And?")]).seal()
    assert [v.rule for v in caught.value.violations] == ["R10"]
    with pytest.raises(IllegalRequest):
        owing.check(MODEL)
    with pytest.raises(IllegalRequest):
        reply(owing.prepend([result("toolu_1")]).seal(), use("toolu_1"))  # R14
    assert owing.count == 2


def test_an_empty_ledger_may_not_be_sent() -> None:
    with pytest.raises(IllegalRequest):
        Ledger().check(MODEL)


def test_messages_of_a_caller_are_taken_over() -> None:
    ledger = Ledger()
    well = {"role": "user", "content": "Well?"}
    for message in (user(text("Hi.")), system(text("Be brief.")), assistant(text("Hello.")), well):
        ledger = ledger.append_message(message)
    assert [m["role"] for m in ledger.messages()] == ["user", "system", "assistant", "user"]
    assert ledger.standing is Standing.OWES
    ledger = Ledger().append_message(user(text("Hi."))).append_message(assistant(use("toolu_1")))
    assert ledger.standing is Standing.CALLS


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"a": {1}}])
def test_what_cannot_be_sent_is_not_encoded(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode({"x": value})
    with pytest.raises((ValueError, TypeError)):
        plain({"x": value})


def test_a_plain_copy_is_what_a_journal_gives_back() -> None:
    given_value = {"a": (1, 2), 3: None}
    assert plain(given_value) == {"a": [1, 2], "3": None}


# --- copies (continues=) ----------------------------------------------------------------------------------------------


def test_a_copy_drops_thinking_and_messages_left_empty() -> None:
    ledger = reply(asked(), THINKING, text("Hello."))
    ledger = reply(ledger.say([text("?")]).seal(), THINKING)
    ledger = ledger.say([text("Well?")]).seal()
    copied = ledger.for_another()
    assert copied.messages() == [user(text("Hi.")), assistant(text("Hello.")), user(text("?"), text("Well?"))]
    assert ledger.messages()[1] == assistant(THINKING, text("Hello."))


def test_a_copy_of_a_refused_history_owes_an_answer() -> None:
    assert asked().with_standing(Standing.REFUSED).for_another().standing is Standing.OWES
    assert reply(asked(), text("Hello.")).for_another().standing is Standing.SPOKEN


def test_a_copy_keeps_calls_whoever_goes_on_from_them() -> None:
    ledger = reply(asked(), use("toolu_1"), standing=Standing.CALLS).prepend([result("toolu_1")]).seal()
    assert ledger.for_another().messages() == ledger.messages()


# --- where a history stands -------------------------------------------------------------------------------------------


def test_nothing_may_be_said_while_a_server_tool_has_no_result() -> None:
    paused = reply(asked(), search("srvtoolu_1"), standing=Standing.OWES)
    assert not paused.may_speak
    mixed = reply(asked(), search("srvtoolu_1"), use("toolu_1"), standing=Standing.CALLS).prepend([result("toolu_1")])
    assert not mixed.may_speak
    assert not mixed.seal().may_speak
    assert asked().may_speak
    assert reply(asked(), text("Hello.")).may_speak


def test_only_a_finished_reply_is_summarised() -> None:
    finished = reply(asked(), text("Hello."))
    owing = reply(asked(), use("toolu_1"), standing=Standing.CALLS)
    assert finished.can_compact
    assert finished.say([text("More?")]).can_compact
    assert not asked().can_compact
    assert not Ledger().can_compact
    assert not owing.can_compact
    assert not owing.prepend([result("toolu_1")]).can_compact
    assert not reply(asked(), search("srvtoolu_1"), standing=Standing.OWES).can_compact


@pytest.mark.parametrize(
    ("event", "said", "discarded", "standing"),
    [
        ("end_turn", False, False, Standing.SPOKEN),
        ("end_turn", True, False, Standing.OWES),
        ("end_turn", False, True, Standing.OWES),
        ("tool_use", False, False, Standing.CALLS),
        ("tool_use", True, False, Standing.CALLS),
        ("tool_use", False, True, Standing.OWES),
        ("max_tokens", False, False, Standing.OWES),
        ("max_tokens", True, False, Standing.OWES),
        ("pause_turn", False, False, Standing.OWES),
        ("compaction", False, False, Standing.OWES),
        ("refusal", False, False, Standing.REFUSED),
        ("refusal", True, False, Standing.OWES),
        ("malformed", False, False, Standing.OWES),
        ("overloaded_error", False, False, Standing.OWES),
    ],
)
def test_where_a_history_stands_after_a_reply(event: str, said: bool, discarded: bool, standing: Standing) -> None:  # noqa: FBT001
    assert after_reply(event, Standing.OWES, said=said, discarded=discarded) is standing
