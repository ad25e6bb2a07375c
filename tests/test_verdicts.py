"""A verdict in words: why a run ended, and what helps now, given what was tried already."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from _driving import MODEL, Clock, Loop, Plain, both

from fsm import (
    Claude,
    Final,
    Human,
    Limits,
    Result,
    Workflow,
    aresume,
    arun,
    exits,
    iterate,
    resume,
    run,
    said_is,
    switch_model,
    untried,
)
from fsm._facts import Usage
from fsm._records import Verdict
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

CUT_CALL = replies.max_tokens(tool=("find", {"number": "7"}))


class Capped(Workflow):
    """Asks for all that its model gives."""

    asking = Claude(model="claude-haiku-4-5", max_tokens=64_000)
    answered = Final()
    asking.on(end_turn=answered)


class Switching(Workflow):
    """Another model is asked what the first one refuses."""

    asking = Claude(model=MODEL, max_tokens=100)
    answered = Final()
    asking.on(
        end_turn=answered,
        refusal=[asking.when(untried("claude-opus-4-8")).then(switch_model("claude-opus-4-8")), exits.refused],
    )


class Chat(Workflow):
    """Ends when somebody says so."""

    asking = Claude(model=MODEL, max_tokens=100)
    listening = Human()
    over = Final()
    asking.on(end_turn=listening)
    listening.on(said=[over.when(said_is("/quit")), asking])


CASES: Mapping[str, tuple[type[Workflow], list[Reply], str, str]] = {
    "cut at the cap": (Capped, [replies.max_tokens("x")] * 4, "gives no more at once", "Raise max_tokens"),
    "cut in text": (Plain, [replies.max_tokens("x")] * 4, "Raise max_tokens, or ask for less", "call"),
    "cut in a call": (Loop, [CUT_CALL] * 3, "never run its calls", "ask for less"),
    "empty again": (Plain, [replies.empty()] * 2, "asked to continue already", "Ask once"),
    "paused for ever": (Plain, [replies.pause()] * 6, "sent back that often", "Send the reply back unchanged"),
    "no retry-after": (Plain, [replies.rate_limited()] * 7, "did not say how long", "as long as retry-after says"),
    "retry-after": (Plain, [replies.rate_limited(retry_after=3)] * 7, "as long as retry-after says", "did not say"),
    "refused": (Plain, [replies.refusal()], "another model", "refused it too"),
    "refused twice": (Switching, [replies.refusal()] * 2, "refused it too", "declare a row"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_advice_is_about_what_happened(name: str) -> None:
    workflow, script, helps, useless = CASES[name]
    clock = Clock()
    result, emulator = both(workflow, "Hi.", script, is_async=False, clock=clock, sleep=clock.sleep)
    told = str(result.verdict)
    assert not result.ok
    assert helps in told
    assert useless not in told
    emulator.done()


def test_the_input_counts_what_was_read_from_the_cache() -> None:
    usage = Usage(7, 50, 900, 100)
    assert "\n1007 tokens in (900 cached), 50 out, " in str(Verdict("over", "end_turn", usage=usage))
    assert "\n7 tokens in, 50 out, " in str(Verdict("over", "end_turn", usage=Usage(7, 50)))


def test_a_limit_is_named_with_what_was_used_of_it() -> None:
    emulator = Emulator([replies.tool_use("find", {"number": "7"})])
    result = run(Loop, "Hi.", client=emulator.client(), limits=Limits(turns=1, tokens=10**6))
    assert "because: the limit of turns is reached: 1 of 1 used" in str(result.verdict)


def test_a_refusal_is_told_with_category_and_request() -> None:
    """S8.1: whoever asks the support needs both."""
    result, emulator = both(Plain, "Hi.", [replies.refusal("cyber", explanation="It could do harm.")], is_async=False)
    told = str(result.verdict)
    assert "because: It could do harm.\n" in told
    assert f"\ncategory: cyber, request: {emulator.requests[0].request_id}\n" in told


def test_nothing_is_to_be_done_about_the_words_that_end_a_chat() -> None:
    result = run(Chat, "Hi.", client=Emulator([replies.text("Hello.")]).client(), ask=lambda _: "/quit")
    assert result.state == "over"
    assert str(result.verdict).splitlines()[0] == "over: said"
    assert "what to do" not in str(result.verdict)


@pytest.mark.parametrize("is_async", [False, True])
def test_every_run_can_be_resumed_from_its_result(*, is_async: bool) -> None:
    """The verdict says how, and that is all there is to it: no journal was given."""
    clock = Clock()
    script = [*[replies.overloaded()] * 7, replies.text("Done.")]
    emulator = Emulator(script)

    async def twice() -> tuple[Result, Result]:
        async def sleep(seconds: float) -> None:
            clock.sleep(seconds)

        async with emulator.async_client() as client:
            options: Any = {"client": client, "clock": clock, "sleep": sleep}
            parked = await arun(Plain, "Hi.", **options)
            return parked, await aresume(Plain, parked.run_id, journal=parked.journal, **options)

    if is_async:
        parked, result = asyncio.run(twice())
    else:
        options: Any = {"client": emulator.client(), "clock": clock, "sleep": clock.sleep}
        parked = run(Plain, "Hi.", **options)
        result = resume(Plain, parked.run_id, journal=parked.journal, **options)
    assert "resumable: resume(workflow, result.run_id, journal=result.journal) goes on" in str(parked.verdict)
    assert (parked.verdict.reason, result.text) == ("waiting_api", "Done.")


def test_a_result_stays_as_it_was_when_the_run_goes_on() -> None:
    script = [replies.tool_use("find", {"number": "7"}), replies.text("Done.")]
    with Emulator(script).client() as client:
        moves = iterate(Loop, "Hi.", client=client)
        next(moves)
        before = moves.result
        assert [item.event for item in moves] == ["tool_results", "end_turn"]  # type: ignore[union-attr]
    assert (before.state, before.text, len(before.messages)) == ("calling", "", 2)
    assert (moves.result.state, moves.result.text, moves.result.ok) == ("answered", "Done.", True)
