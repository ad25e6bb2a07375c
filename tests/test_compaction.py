"""S10: both forms of compaction; and the property of all endings: what leaves is lawful, what is folded is the same."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from _workflows import MODEL, Driven, find, folded, snapshot, text, through_json, use
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm import Claude, Final, Human, Tools, Workflow, attempts_left, compact, exits, rounds_left, run, said_is, say
from fsm._actions import AskHuman, Finish, RunTools, SendRequest, Wait
from fsm._check import check
from fsm._conversation._evidence import unlawful
from fsm._conversation._heads import COMPACT_BETA, THRESHOLD_BETA
from fsm._conversation._run_state import RunState
from fsm._events import Answered, Failed, TimePassed
from fsm._ledger import Ledger, Standing
from fsm._legality import profile_of, violations
from fsm.testing import Emulator, replies

EDIT = {"context_management": {"edits": [{"type": "compact_20260112", "pause_after_compaction": True}]}}
WEB = {"type": "web_search_20250305", "name": "web_search"}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}


def summary(words: str | None = "They greeted.") -> dict[str, Any]:
    return {
        "type": "compaction",
        "content": words,
        "encrypted_content": "b3Bh",
        "signature": "c2ln",
        "tool_changes": [],
    }


class Chat(Workflow):
    """A person and Claude; "/compact" has the history summarised before the words are answered."""

    chatting = Claude(
        model=MODEL,
        max_tokens=100,
        tools=[find],
        stop_sequences=["STOP"],
        tool_choice={"type": "any"},
        output_config={
            "effort": "low",
            "format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}},
        },
    )
    calling = Tools()
    waiting = Human()
    bye = Final()

    chatting.on(tool_use=calling, end_turn=waiting, stop_sequence=waiting)
    calling.on(tool_results=chatting)
    waiting.on(said=[bye.when(said_is("/quit")), chatting.when(said_is("/compact")).then(compact), chatting])


class Plain(Workflow):
    """The same without parameters."""

    chatting = Claude(model=MODEL, max_tokens=100)
    waiting = Human()
    bye = Final()

    chatting.on(end_turn=waiting)
    waiting.on(said=[bye.when(said_is("/quit")), chatting.when(said_is("/compact")).then(compact), chatting])


class Automatic(Workflow):
    """The API compacts by itself, and hands the turn back."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find], extra_body=EDIT)
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


class Crowded(Workflow):
    """A full window is made smaller, twice at most."""

    asking = Claude(model=MODEL, max_tokens=100, tools=[find])
    calling = Tools()
    waiting = Human()

    asking.on(
        tool_use=calling,
        end_turn=waiting,
        model_context_window_exceeded=[asking.when(attempts_left(2)).then(compact), exits.truncated],
    )
    calling.on(tool_results=asking)
    waiting.on(said=asking)


def lawful(driven: Driven, model: str = MODEL) -> None:
    """Every request is lawful for the model, and the journal alone gives the same run and the same bytes."""
    profile = profile_of(model, strict=True)
    for body in driven.bodies:
        assert violations(json.loads(body), profile) == ()
    other = folded(driven, through_json(driven.records))
    assert snapshot(other) == snapshot(driven.conversation)
    sent = [[a.body() for a in c.pending() if isinstance(a, SendRequest)] for c in (other, driven.conversation)]
    assert sent[0] == sent[1]


def told(words: str) -> dict[str, Any]:
    return {"role": "user", "content": [text(words)]}


def answer(words: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [text(words)]}


def says(driven: Driven, words: str) -> None:
    driven.feed(Answered(driven.now(), said=words))


def chat() -> Driven:
    driven = Driven(Chat)
    driven.reply(text("Hi."))
    says(driven, "/compact")
    return driven


def usage(tokens: int) -> dict[str, Any]:
    return {"usage": {"input_tokens": tokens, "output_tokens": 5}}


# --- on demand -------------------------------------------------------------------------------------------------------


def test_s10_2_the_request_leaves_out_what_a_summary_cannot_have_and_only_it() -> None:
    driven = chat()
    body = json.loads(driven.bodies[-1])
    assert body["compaction"] == {"type": "summarize"}
    assert body["messages"] == [told("Hello."), answer("Hi.")]
    assert not {"stop_sequences", "tool_choice", "context_management"} & set(body)
    assert body["output_config"] == {"effort": "low"}
    assert driven.action.betas == (COMPACT_BETA,)
    driven.reply(summary(), stop="compaction")
    body = json.loads(driven.bodies[-1])
    assert {"stop_sequences", "tool_choice"} <= set(body)
    assert "format" in body["output_config"]
    assert "compaction" not in body
    lawful(driven)


def test_s10_2_the_summary_stands_first_and_verbatim_and_keeps_its_beta() -> None:
    driven = chat()
    raw = '[{"type":"compaction", "content":"They\\u0020greeted.","signature":"c2ln","tool_changes":[]}]'
    driven.reply(*json.loads(raw), raw=raw, stop="compaction")
    assert f'"messages":[{{"role":"assistant","content":{raw}}},'.encode() in driven.bodies[-1]
    assert driven.sent()[1:] == [told("/compact")]
    assert driven.action.betas == (COMPACT_BETA,)
    driven.reply(text("Good."))
    says(driven, "And?")
    assert driven.sent()[0]["content"] == json.loads(raw)
    assert driven.action.betas == (COMPACT_BETA,)
    assert driven.run.ledger("main").generation == 2
    lawful(driven)


@pytest.mark.parametrize(
    ("content", "stop"),
    [
        ((summary(None),), "compaction"),
        ((text("A long time ago"),), "max_tokens"),
        ((text("No summary."),), "end_turn"),
        ((), "refusal"),
        ((use("find"),), "tool_use"),
        ((), "end_turn"),
        ((text("Full."),), "model_context_window_exceeded"),
    ],
)
def test_s10_3_without_a_summary_the_old_history_is_kept_and_the_run_goes_on(content: Any, stop: str) -> None:
    driven = chat()
    driven.reply(*content, stop=stop)
    assert driven.path()[-1] == "compaction"
    assert driven.sent() == [told("Hello."), answer("Hi."), told("/compact")]
    assert "compaction" not in json.loads(driven.bodies[-1])
    assert not driven.run.open
    driven.reply(text("Fine."))
    assert driven.state == "waiting"
    lawful(driven)


@pytest.mark.parametrize("code", ["nothing_to_summarize", "incomplete_turn", "too_many_tool_references"])
def test_e28_a_history_that_cannot_be_summarised_goes_on_as_it_is(code: str) -> None:
    driven = chat()
    driven.feed(
        Failed(driven.now(), "invalid_request_error", "No.", status=400, code=f"compaction_{code}", request_id="req_1")
    )
    assert driven.path()[-1] == "compaction"
    (move,) = (r for r in driven.records if r.kind == "move" and r.data["event"] == "compaction")
    assert move.data["evidence"]["code"] == f"compaction_{code}"
    assert driven.sent() == [told("Hello."), answer("Hi."), told("/compact")]
    assert sum("compaction" in json.loads(body) for body in driven.bodies) == 1
    lawful(driven)


def test_e16_a_summary_that_cannot_be_made_just_now_is_asked_for_again() -> None:
    driven = chat()
    driven.feed(Failed(driven.now(), "overloaded_error", "Busy.", status=529, code="compaction_unavailable"))
    driven.feed(TimePassed(driven.run.wait_until + 1))
    assert driven.bodies[-1] == driven.bodies[-2]
    driven.reply(summary(), stop="compaction")
    assert driven.sent() == [{"role": "assistant", "content": [summary()]}, told("/compact")]
    lawful(driven)


def test_any_other_error_of_the_request_for_a_summary_is_that_error() -> None:
    driven = chat()
    driven.fail("invalid_request_error", status=400)
    assert driven.state == "failed"


def test_s10_2_exactly_the_messages_that_were_sent_are_replaced() -> None:
    """The conversation went on meanwhile: what the request did not hold follows the summary."""
    driven = chat()
    ledger = driven.run.ledger("main")
    assert driven.run.request["compact"] == ledger.count == 2
    later = ledger.seal().append_reply([text("Later.")], json.dumps([text("Later.")]), Standing.SPOKEN)
    driven.run.with_ledger("main", later.say([text("More.")]))
    driven.reply(summary(), stop="compaction")
    assert driven.sent() == [
        {"role": "assistant", "content": [summary()]},
        told("/compact"),
        answer("Later."),
        told("More."),
    ]


def test_w12_a_summary_with_nothing_to_answer_after_it_is_found_and_never_sent() -> None:
    state = Claude(model=MODEL, max_tokens=100)
    done = Final()
    state.on(end_turn=[state.when(rounds_left(1)).then(compact), done])

    class Tidy(Workflow, check=False):
        """Compacts after its answer, and says nothing."""

        asking = state
        answered = done

    assert [f.id for f in check(Tidy.graph)] == ["W12"]


def test_r25_a_request_that_would_end_in_a_summary_is_not_sent() -> None:
    """No declaration that the checks let pass comes here; the run does not rely on it."""
    run_state = RunState("asking")
    run_state.last_event = "compaction"
    ledger = Ledger().append_reply([summary()], json.dumps([summary()]), Standing.SPOKEN)
    found = unlawful(run_state, ledger, "", compact=False)
    assert found is not None
    assert "nothing to answer" in found["detail"]
    asked = ledger.say([text("And?")]).seal()
    assert unlawful(run_state, asked, "", compact=False) is None


def test_w12_the_effect_beside_the_edit_is_found() -> None:
    state = Claude(model=MODEL, max_tokens=100, extra_body=EDIT)
    person = Human()
    state.on(end_turn=person)
    person.on(said=state.then(compact))

    class Both(Workflow, check=False):
        """Compacts in both ways."""

        asking = state
        waiting = person

    (finding,) = check(Both.graph)
    assert finding.id == "W12"
    assert "context_management" in finding.problem


def test_a_summary_with_nothing_after_it_waits_for_the_next_words() -> None:
    class Tidy(Workflow):
        """Compacts after each answer, then a person speaks."""

        asking = Claude(model=MODEL, max_tokens=100)
        waiting = Human()
        asking.on(end_turn=[asking.when(rounds_left(1)).then(compact), waiting], compaction=waiting)
        waiting.on(said=asking)

    driven = Driven(Tidy)
    driven.reply(text("Hi."))
    assert "compaction" in json.loads(driven.bodies[-1])
    driven.reply(summary(), stop="compaction")
    assert (driven.state, len(driven.bodies)) == ("waiting", 2)
    says(driven, "And?")
    assert driven.sent() == [{"role": "assistant", "content": [summary()]}, told("And?")]
    lawful(driven)


def test_a_new_run_goes_on_from_a_summary_with_its_beta() -> None:
    driven = chat()
    driven.reply(summary(), stop="compaction")
    driven.reply(text("Good."))
    other = Driven(Chat, "And?", carried=driven.conversation.carry())
    assert other.action.betas == (COMPACT_BETA,)
    assert other.sent()[0]["content"] == [summary()]
    lawful(other)


# --- D10 -------------------------------------------------------------------------------------------------------------


class Rounds(Workflow):
    """Compacts before each of its rounds."""

    asking = Claude(model=MODEL, max_tokens=100)
    answered = Final()
    asking.on(end_turn=[asking.when(rounds_left(9)).then(compact, say("Next.")), answered])


@pytest.mark.parametrize(("after", "state"), [(900, "asking"), (901, "stuck")])
def test_d10_two_compactions_that_do_not_help_are_stuck(after: int, state: str) -> None:
    driven = Driven(Rounds)
    size = 1000
    driven.reply(text("One."), **usage(size))
    for _ in range(2):
        driven.reply(summary(), stop="compaction", **usage(size))
        size = after if size == 1000 else size * after // 1000 + (after == 901)
        driven.reply(text("More."), **usage(size))
    assert driven.state == state
    if state == "stuck":
        evidence = driven.conversation.verdict().evidence
        assert (evidence["kind"], evidence["rule"], evidence["times"]) == ("compaction", "D10", 2)
    lawful(driven)


def test_d10_a_failed_one_counts_and_a_helpful_one_begins_anew() -> None:
    driven = Driven(Rounds)
    driven.reply(text("One."), **usage(1000))
    for helps in (False, True, False):
        if helps:
            driven.reply(summary(), stop="compaction", **usage(1000))
            driven.reply(text("More."), **usage(200))
        else:
            driven.feed(Failed(driven.now(), "invalid_request_error", "No.", code="compaction_incomplete_turn"))
            driven.reply(text("More."), **usage(1000))
    assert driven.state == "asking"
    driven.feed(Failed(driven.now(), "invalid_request_error", "No.", code="compaction_incomplete_turn"))
    assert driven.state == "stuck"
    lawful(driven)


def test_d10_where_a_person_asks_for_it_each_time_nothing_is_stuck() -> None:
    driven = Driven(Chat)
    for _ in range(4):
        driven.reply(text("Hi."), **usage(1000))
        says(driven, "/compact")
        driven.reply(summary(None), stop="compaction", **usage(1000))
    assert driven.state == "chatting"


# --- automatic -------------------------------------------------------------------------------------------------------


def test_s10_1_the_edit_brings_its_beta_and_the_block_is_appended_and_resumed() -> None:
    driven = Driven(Automatic)
    assert driven.action.betas == (THRESHOLD_BETA,)
    assert json.loads(driven.bodies[-1])["context_management"] == EDIT["context_management"]
    call = use("find")
    driven.reply(call, **usage(1000))
    driven.end()
    driven.reply(summary(), stop="compaction", **usage(1000))
    assert driven.sent()[-1] == {"role": "assistant", "content": [summary()]}
    assert driven.bodies[-1].startswith(driven.bodies[-2][:-2])
    assert driven.action.betas == (THRESHOLD_BETA,)
    driven.reply(use("find"), **usage(100))
    driven.end()
    driven.reply(text("Done."), **usage(120))
    assert driven.state == "answered"
    lawful(driven)


def test_s10_1_a_block_within_a_reply_is_one_of_its_blocks() -> None:
    driven = Driven(Automatic)
    call = use("find")
    driven.reply(summary(), text("Let me look."), call)
    driven.end()
    assert [b["type"] for b in driven.sent()[1]["content"]] == ["compaction", "text", "tool_use"]
    driven.reply(text("Done."))
    assert driven.state == "answered"
    lawful(driven)


def test_s10_3_an_automatic_summary_that_failed_is_not_kept() -> None:
    driven = Driven(Automatic)
    driven.reply(summary(None), stop="compaction")
    assert driven.bodies[-1] == driven.bodies[-2]
    lawful(driven)


def test_s10_5_an_automatic_compaction_again_and_again_is_stuck() -> None:
    driven = Driven(Automatic)
    for _ in range(3):
        driven.reply(summary(), stop="compaction")
    assert (driven.state, len(driven.bodies)) == ("stuck", 3)
    assert driven.conversation.verdict().evidence["kind"] == "compaction"


def test_s8_3_a_refusal_after_an_automatic_summary_keeps_the_summary() -> None:
    driven = Driven(Automatic)
    driven.reply(summary(), stop="compaction")
    driven.reply(SEARCH, FOUND, stop="pause_turn")
    driven.reply(stop="refusal")
    assert [m["role"] for m in driven.run.ledger("main").messages()] == ["user", "assistant"]
    lawful(driven)


# --- a full window ---------------------------------------------------------------------------------------------------


def test_s9_2_a_full_window_is_compacted_first_and_then_the_turn_goes_again() -> None:
    driven = Driven(Crowded)
    driven.reply(text("Hi."))
    says(driven, "Tell me all.")
    driven.reply(text("It be"), stop="model_context_window_exceeded")
    body = json.loads(driven.bodies[-1])
    assert "compaction" in body
    assert body["messages"] == [told("Hello."), answer("Hi.")]
    driven.reply(summary(), stop="compaction")
    assert driven.sent() == [{"role": "assistant", "content": [summary()]}, told("Tell me all.")]
    driven.reply(text("It began."))
    assert (driven.state, driven.run.continued) == ("waiting", "")
    lawful(driven)


def test_s9_2_one_long_turn_of_calls_is_summarised_whole_and_goes_on() -> None:
    driven = Driven(Crowded)
    for _ in range(2):
        driven.reply(use("find"))
        driven.end()
    driven.reply(text("It"), stop="model_context_window_exceeded")
    assert len(driven.sent()) == 5
    driven.reply(summary(), stop="compaction")
    assert driven.sent() == [{"role": "assistant", "content": [summary()]}, told("Continue.")]
    lawful(driven)


def test_s9_2_with_nothing_to_summarise_it_ends_truncated_with_its_text() -> None:
    driven = Driven(Crowded)
    for _ in range(3):
        driven.reply(text("It"), stop="model_context_window_exceeded")
    assert driven.state == "truncated"
    assert not any("compaction" in json.loads(body) for body in driven.bodies)
    assert driven.run.reading.reply.text == "It"
    lawful(driven)


def test_s9_3_an_input_that_is_too_long_is_compacted_by_a_row_of_its_own() -> None:
    class Long(Workflow):
        """Compacts where the API says that the prompt is too long."""

        asking = Claude(model=MODEL, max_tokens=100)
        waiting = Human()
        asking.on(
            end_turn=waiting,
            invalid_request_error=[asking.when(attempts_left(1)).then(compact), exits.failed],
        )
        waiting.on(said=asking)

    driven = Driven(Long)
    driven.reply(text("Hi."))
    says(driven, "Tell me all.")
    driven.fail("invalid_request_error", code="prompt_too_long")
    assert json.loads(driven.bodies[-1])["messages"] == [told("Hello."), answer("Hi.")]
    driven.reply(summary(), stop="compaction")
    assert driven.sent() == [{"role": "assistant", "content": [summary()]}, told("Tell me all.")]
    driven.fail("invalid_request_error", code="prompt_too_long")
    assert driven.state == "failed"
    lawful(driven)


# --- through the SDK -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [MODEL, "claude-opus-5-5"])
def test_r35_a_summary_is_a_legal_change_of_a_history_that_binds_its_thinking(model: str) -> None:
    state = Claude(model=model, max_tokens=100, tools=[find])
    tools, person, done = Tools(), Human(), Final()
    state.on(tool_use=tools, end_turn=person)
    tools.on(tool_results=state)
    person.on(said=[done.when(said_is("/quit")), state.when(said_is("/compact")).then(compact), state])

    class Bound(Workflow):
        """A chat whose history is summarised."""

        chatting = state
        calling = tools
        waiting = person
        bye = done

    thought = replies.thinking("Hm.", then=replies.tool_use("find", {"number": "7"}))
    emulator = Emulator([thought, "Found.", replies.compaction(), thought, "Again.", "Bye."])
    words = iter(["/compact", "More.", "/quit"])
    result = run(Bound, "Order 7?", client=emulator.client(), ask=lambda _: next(words))
    emulator.done()
    assert result.state == "bye"
    bodies = [r.body for r in emulator.requests if r.body]
    assert [("compaction" in b) for b in bodies] == [False, False, True, False, False, False]
    assert bodies[3]["messages"][0]["content"][0]["type"] == "compaction"
    betas = [
        {name.lower(): value for name, value in r.headers.items()}.get("anthropic-beta") for r in emulator.requests
    ]
    assert betas == [None, None, *[COMPACT_BETA] * 4]


def test_e28_through_the_sdk() -> None:
    code = {"error_code": "compaction_nothing_to_summarize"}
    error = replies.error(400, "invalid_request_error", "There is nothing to summarize.", details=code)
    emulator = Emulator([replies.structured({}), error, replies.structured({}), replies.structured({})])
    words = iter(["/compact", "Go on.", "/quit"])
    result = run(Plain, "Hello.", client=emulator.client(), ask=lambda _: next(words))
    emulator.done()
    assert result.state == "bye"
    assert [m.event for m in result.moves if m.event == "compaction"] == ["compaction"]
    assert [len(r.body["messages"]) for r in emulator.requests if r.body] == [1, 2, 3, 5]


def test_s10_1_through_the_sdk_with_its_beta() -> None:
    emulator = Emulator([replies.compaction(), replies.tool_use("find", {"number": "7"}), "Done."])
    result = run(Automatic, "Order 7?", client=emulator.client())
    emulator.done()
    assert (result.state, result.text) == ("answered", "Done.")
    assert [m["role"] for m in result.messages] == ["user", "assistant", "assistant", "user", "assistant"]


# --- every ending, at random -----------------------------------------------------------------------------------------


class Everything(Workflow):
    """Each ending has a row that goes on, as far as it may."""

    asking = Claude(model="claude-opus-5", max_tokens=100, tools=[find, WEB], extra_body=EDIT)
    calling = Tools()
    helping = Claude(model="claude-sonnet-5", max_tokens=100, tools=[find, WEB], history="other", continues="main")
    looking = Tools()
    waiting = Human()
    bye = Final()

    asking.on(
        tool_use=calling,
        end_turn=waiting,
        refusal=helping,
        unknown_stop=waiting,
        malformed=waiting,
        model_context_window_exceeded=[asking.when(attempts_left(2)).then(say("Be brief.")), waiting],
        invalid_request_error=waiting,
        stuck=waiting,
        cancel=exits.cancelled,
    )
    calling.on(tool_results=asking)
    helping.on(
        tool_use=looking,
        end_turn=waiting,
        refusal=waiting,
        unknown_stop=waiting,
        malformed=waiting,
        model_context_window_exceeded=[helping.when(attempts_left(2)).then(compact), waiting],
        invalid_request_error=waiting,
        stuck=waiting,
    )
    looking.on(tool_results=helping)
    waiting.on(
        said=[
            bye.when(said_is("/quit")),
            helping.when(said_is("/help")),
            helping.when(said_is("/compact")).then(compact),
            asking,
        ],
    )


class Endings:
    """Feeds what a number picks, and keeps the run going."""

    def __init__(self, draw: random.Random) -> None:
        self.draw, self.driven, self.numbers = draw, Driven(Everything), 0

    def id(self, prefix: str) -> str:
        self.numbers += 1
        return f"{prefix}_{self.numbers}"

    def reply(self) -> None:
        search = {**SEARCH, "id": self.id("srvtoolu")}
        found = {**FOUND, "tool_use_id": search["id"]}
        call = use("find", call_id=self.id("toolu"))
        fallback = {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}, "trigger": {"type": "refusal"}}
        block = summary()
        if not (self.driven.run.request or {}).get("compact"):  # only what was asked for is signed
            del block["signature"]
        content, stop = self.draw.choice(
            [
                ((text("Done."),), "end_turn"),
                ((), "end_turn"),
                ((call,), "tool_use"),
                ((text("Look."), call, use("find", call_id=self.id("toolu"))), "tool_use"),
                ((text("I"), use("find", call_id=self.id("toolu")), fallback, call), "tool_use"),
                ((text("I"), search, fallback, text("Done.")), "end_turn"),
                ((text("Part"),), "max_tokens"),
                ((text("Part"), call), "max_tokens"),
                ((), "max_tokens"),
                ((search,), "pause_turn"),
                ((text("First."), search, found), "pause_turn"),
                ((), "refusal"),
                ((text("I"), call), "refusal"),
                ((text("Full"),), "model_context_window_exceeded"),
                ((text("Full"), call), "model_context_window_exceeded"),
                ((block,), "compaction"),
                (({**block, "content": None},), "compaction"),
                ((text("?"),), "handed_over"),
                ((text("?"),), None),
            ]
        )
        details = {"stop_details": {"type": "refusal", "fallback_credit_token": "fct"}} if stop == "refusal" else {}
        body = {"stop_reason": stop, **usage(self.draw.choice([0, 100, 1000])), **details}
        self.driven.reply(*content, stop=stop or "x", **{k: v for k, v in body.items() if k != "stop_reason"})

    def step(self) -> bool:
        driven, action = self.driven, self.driven.conversation.pending()
        if not action or isinstance(action[0], Finish):
            return False
        match action[0]:
            case SendRequest():
                if self.draw.random() < 0.2:
                    event, message, code = self.draw.choice(
                        [
                            ("overloaded_error", "Busy.", None),
                            ("invalid_request_error", "max_tokens: 200 > 150, which is the maximum", None),
                            ("invalid_request_error", "No.", "compaction_nothing_to_summarize"),
                        ]
                    )
                    driven.feed(Failed(driven.now(), event, message, code=code))
                else:
                    self.reply()
            case RunTools():
                driven.end()
            case Wait(until=until):
                driven.at = max(driven.at, until)
                driven.feed(TimePassed(driven.now()))
            case AskHuman():
                says(driven, self.draw.choice(["Go on.", "/help", "/compact", "Go on."]))
        return True


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 10**9))
def test_whatever_ends_a_reply_what_leaves_is_lawful_and_what_is_folded_is_the_same(seed: int) -> None:
    script = Endings(random.Random(seed))
    for _ in range(25):
        if not script.step():
            break
        driven = script.driven
        other = folded(driven, through_json(driven.records))
        assert snapshot(other) == snapshot(driven.conversation)
        sent = [[a.body() for a in c.pending() if isinstance(a, SendRequest)] for c in (other, driven.conversation)]
        assert sent[0] == sent[1]
    written = json.dumps([dict(r.data) for r in script.driven.records])
    assert '"fct"' not in written
    for body in script.driven.bodies:
        decoded = json.loads(body)
        assert violations(decoded, profile_of(decoded["model"], strict=True)) == ()
