"""`watch`: loops that others wrote, with the real SDK against the emulator."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest
from anthropic import beta_async_tool, beta_tool

from fsm._errors import LoopFinding, UsageError
from fsm._graph import build_graph
from fsm._states import Approval, Claude, Code, Final, Human, Tools
from fsm._stuck import Finding
from fsm._watch import ATTRIBUTES, _links, watch
from fsm.testing import Emulator, replies

MODEL = "claude-sonnet-5"
FIND: Any = {
    "name": "find",
    "description": "Find an order.",
    "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
}
CALL = replies.tool_use("find", {"n": 7})
DONE = replies.text("Found it.")
Messages = list[Any]


def ask(client: Any, messages: Messages, **more: Any) -> Any:
    return client.messages.create(model=MODEL, max_tokens=100, messages=messages, tools=[FIND], **more)


def results(message: Any, text: str = "found", **more: Any) -> dict[str, Any]:
    calls = [block for block in message.content if block.type == "tool_use"]
    blocks = [{"type": "tool_result", "tool_use_id": call.id, "content": text, **more} for call in calls]
    return {"role": "user", "content": blocks}


def loop(client: Any, words: str = "Order 7?", *, turns: int = 50, **more: Any) -> Any:
    """The loop that everybody writes."""
    messages: Messages = [{"role": "user", "content": words}]
    for _ in range(turns):
        message = ask(client, messages, **more)
        messages.append({"role": "assistant", "content": message.content})
        if message.stop_reason != "tool_use":
            return message
        messages.append(results(message))
    return message


def path(client: Any) -> list[str]:
    return [f"{move.source} --{move.event}--> {move.dest}" for move in client.moves]


def only(client: Any) -> Finding:
    assert len(client.findings) == 1, [str(found) for found in client.findings]
    found: Finding = client.findings[0]
    return found


# ── loops that are in order ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_good_loop_is_moves_of_the_machine():
    emulator = Emulator([CALL, CALL, DONE])
    seen: list[Any] = []
    client = watch(emulator.client(), on_move=seen.append)
    assert loop(client).content[0].text == "Found it."
    assert path(client) == [
        "asking --tool_use--> calling",
        "calling --tool_results--> asking",
        "asking --tool_use--> calling",
        "calling --tool_results--> asking",
        "asking --end_turn--> answered",
    ]
    assert seen == list(client.moves)
    assert [move.seq for move in seen] == [1, 2, 3, 4, 5]
    assert {move.conversation for move in seen} == {"conversation-1"}
    assert seen[0].request_id == emulator.requests[0].request_id
    assert not client.findings
    conversation = client.conversations["conversation-1"]
    assert (conversation.state, conversation.replies) == ("answered", 3)
    emulator.done()


def test_the_requests_that_leave_are_the_same_with_and_without_watching():
    plain, watched = Emulator([CALL, DONE]), Emulator([CALL, DONE])
    loop(plain.client())
    loop(watch(watched.client()))
    assert [r.raw for r in watched.requests] == [r.raw for r in plain.requests]


def test_the_given_client_is_not_changed():
    emulator = Emulator([DONE, DONE])
    client = emulator.client()
    watched = watch(client)
    loop(client)
    assert not watched.moves
    assert isinstance(watched, anthropic.Anthropic)
    for name in ATTRIBUTES:
        assert not hasattr(client, name), "the SDK has this name now: find another"


def test_a_client_derived_from_a_watched_one_is_watched_too():
    watched = watch(Emulator([DONE]).client())
    loop(watched.with_options(timeout=5))
    assert path(watched) == ["asking --end_turn--> answered"]


def test_watching_twice_is_refused():
    client = watch(Emulator([DONE]).client(), on_finding="raise")
    for again in (client, client.with_options(timeout=5)):
        with pytest.raises(UsageError, match="watched already"):
            watch(again)
    assert len(client.middleware) == 1


def test_a_conversation_that_goes_on_after_its_end():
    client = watch(Emulator([DONE, CALL, DONE]).client())
    messages: Messages = [{"role": "user", "content": "Hello"}]
    messages.append({"role": "assistant", "content": ask(client, messages).content})
    messages.append({"role": "user", "content": "Order 7?"})
    message = ask(client, messages)
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    ask(client, messages)
    assert list(client.conversations) == ["conversation-1"]
    assert [move.event for move in client.moves] == ["end_turn", "tool_use", "tool_results", "end_turn"]
    assert not client.findings


@pytest.mark.parametrize("options", [{}, {"thread": False}], ids=["threads", "no threads"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_tool_runner_of_the_sdk(options: dict[str, Any], stream: bool):  # noqa: FBT001
    @beta_tool
    def find(n: int) -> str:
        """Find an order."""
        return f"order {n}"

    emulator = Emulator([*[replies.tool_use("find", {"n": n}) for n in range(8)], DONE])
    client = watch(emulator.client())
    runner: Any = client.beta.messages.tool_runner(
        model=MODEL,
        max_tokens=100,
        tools=[find],
        messages=[{"role": "user", "content": "All"}],
        stream=stream,
        **options,
    )
    runner.until_done()
    assert not client.findings
    assert list(client.conversations) == ["conversation-1"]
    assert client.conversations["conversation-1"].replies == 9
    assert len(client.moves) == 17
    assert any("thread" in (r.body or {}) for r in emulator.requests) is (not options)
    emulator.done()


@pytest.mark.parametrize("options", [{}, {"thread": False}], ids=["threads", "no threads"])
def test_the_asynchronous_tool_runner(options: dict[str, Any]):
    @beta_async_tool
    async def find(n: int) -> str:
        """Find an order."""
        return f"order {n}"

    async def main() -> None:
        emulator = Emulator([*[replies.tool_use("find", {"n": n}) for n in range(8)], DONE])
        async with emulator.async_client() as given:
            client = watch(given)
            runner: Any = client.beta.messages.tool_runner(
                model=MODEL, max_tokens=100, tools=[find], messages=[{"role": "user", "content": "All"}], **options
            )
            await runner.until_done()
        assert not client.findings
        assert len(client.moves) == 17
        emulator.done()

    asyncio.run(main())


@pytest.mark.parametrize("options", [{}, {"thread": False}], ids=["threads", "no threads"])
def test_a_tool_runner_that_goes_round_is_caught(options: dict[str, Any]):
    @beta_tool
    def find(n: int) -> str:
        """Find an order."""
        return f"order {n}"

    emulator = Emulator([*[CALL] * 9])
    client = watch(emulator.client(), on_finding="raise")
    runner: Any = client.beta.messages.tool_runner(
        model=MODEL, max_tokens=100, tools=[find], messages=[{"role": "user", "content": "7?"}], **options
    )
    with pytest.raises(LoopFinding) as caught:
        runner.until_done()
    assert caught.value.finding.rule == "D2"
    assert caught.value.finding.turns == (1, 2, 3, 4, 5)
    assert len(emulator.requests) == 5


# ── loops with a fault ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_reply_and_its_result_are_forgotten(caplog: pytest.LogCaptureFixture):
    emulator = Emulator([CALL, CALL, CALL, DONE])
    client = watch(emulator.client())
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    with caplog.at_level(logging.WARNING, "fsm.watch"):
        while ask(client, messages).stop_reason == "tool_use":
            pass
    assert [found.rule for found in client.findings] == ["D1c"] * 3
    found = client.findings[0]
    assert (found.kind, found.fault, found.turns) == ("lost_result", "harness", (1,))
    assert found.call == {"name": "find", "input": {"n": 7}}
    assert json.loads(json.dumps(found.evidence())) == found.evidence()
    assert path(client)[:3] == [
        "asking --tool_use--> calling",
        "asking --stuck--> stuck",
        "asking --tool_use--> calling",
    ]
    assert [r.levelname for r in caplog.records] == ["WARNING"] * 3
    assert "D1c" in caplog.text
    emulator.done()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_raise_stops_before_the_bad_request_leaves(stream: bool):  # noqa: FBT001
    emulator = Emulator([CALL, DONE])
    client = watch(emulator.client(max_retries=2), on_finding="raise")
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    if stream:
        list(ask(client, messages, stream=True))
    else:
        ask(client, messages)
    for _ in range(2):  # a loop that swallows the exception is stopped again
        with pytest.raises(LoopFinding, match="D1c") as caught:
            ask(client, messages)
        assert caught.value.finding.kind == "lost_result"
    assert len(emulator.requests) == 1


def test_the_result_alone_is_forgotten():
    emulator = Emulator([CALL, DONE])
    client = watch(emulator.client(), on_finding="raise")
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    messages.append({"role": "assistant", "content": ask(client, messages).content})
    messages.append({"role": "user", "content": "Go on."})
    with pytest.raises(LoopFinding) as caught:
        ask(client, messages)
    found = caught.value.finding
    assert (found.kind, found.rule, found.fault) == ("lost_result", "R10", "harness")
    assert found.call == {"name": "find", "input": {"n": 7}}
    assert found.ids == (messages[1]["content"][0].id,)
    assert len(emulator.requests) == 1


def test_a_thread_that_goes_on_without_the_result():
    emulator = Emulator([CALL, DONE])
    client = watch(emulator.client(), on_finding="raise")
    common: Any = {"model": MODEL, "max_tokens": 100, "betas": ["message-threads-2026-08-12"]}
    first = client.beta.messages.create(
        messages=[{"role": "user", "content": "7?"}], tools=[FIND], thread={"type": "create"}, **common
    )
    with pytest.raises(LoopFinding, match="R10"):
        client.beta.messages.create(
            messages=[{"role": "user", "content": "Go on."}],
            thread={"type": "continue", "previous_message_id": first.id},
            **common,
        )
    assert len(emulator.requests) == 1


def test_a_request_that_the_api_would_refuse():
    client = watch(Emulator([]).client(), on_finding="raise")
    stray = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_x", "content": "?"}]}
    with pytest.raises(LoopFinding) as caught:
        ask(client, [stray])
    assert (caught.value.finding.kind, caught.value.finding.rule) == ("illegal_request", "R13")


def test_one_call_again_and_again_under_new_ids():
    emulator = Emulator([CALL] * 12)
    client = watch(emulator.client())
    loop(client, turns=12)
    assert [found.turns for found in client.findings] == [(1, 2, 3, 4, 5), (6, 7, 8, 9, 10)]
    found = client.findings[0]
    assert (found.kind, found.rule, found.fault) == ("no_progress", "D2", "model")
    assert len(set(found.ids)) == 5
    assert not any(request.refused for request in emulator.requests)


def test_a_loop_that_keeps_only_its_newest_turns_is_caught_too():
    emulator = Emulator([CALL] * 20)
    client = watch(emulator.client())
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    for _ in range(20):
        message = ask(client, messages)
        messages += [{"role": "assistant", "content": message.content}, results(message)]
        messages[1:-12] = []
    assert "D2" in {found.rule for found in client.findings}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_tool_that_is_run_for_a_cut_reply(stream: bool):  # noqa: FBT001
    emulator = Emulator([replies.max_tokens(tool=("find", {"n": 7, "why": "because"})), DONE])
    client = watch(emulator.client(), on_finding="raise")
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    if stream:
        with client.messages.stream(model=MODEL, max_tokens=100, messages=messages, tools=[FIND]) as events:
            message: Any = events.get_final_message()
    else:
        message = ask(client, messages)
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    with pytest.raises(LoopFinding) as caught:
        ask(client, messages)
    found = caught.value.finding
    assert (found.kind, found.rule, found.fault, found.turns) == ("truncated_call", "S5.2", "harness", (1,))
    assert found.call is not None
    assert found.call["name"] == "find"
    assert len(emulator.requests) == 1


def test_a_cut_reply_that_is_asked_for_again_is_in_order():
    emulator = Emulator([replies.max_tokens(tool=("find", {"n": 7})), replies.max_tokens("Half a"), CALL, DONE])
    client = watch(emulator.client())
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    ask(client, messages)
    ask(client, messages)
    message = client.messages.create(model=MODEL, max_tokens=999, messages=messages, tools=[FIND])
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    ask(client, messages)
    assert not client.findings
    assert client.conversations["conversation-1"].state == "answered"


def test_a_refusal_that_is_sent_again():
    emulator = Emulator([replies.refusal("cyber"), replies.refusal("cyber"), DONE])
    client = watch(emulator.client())
    messages: Messages = [{"role": "user", "content": "Something else."}]
    ask(client, messages)
    ask(client, messages)
    found = only(client)
    assert (found.kind, found.rule, found.fault) == ("unchanged_request", "D11", "harness")
    client.messages.create(model="claude-opus-4-8", max_tokens=100, messages=messages, tools=[FIND])
    only(client)


def test_a_backend_that_repeats_an_id():
    emulator = Emulator([CALL, replies.repeat_id(), DONE])
    client = watch(emulator.client(), on_finding="raise")
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    message = ask(client, messages)
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    with pytest.raises(LoopFinding) as caught:
        ask(client, messages)
    found = caught.value.finding
    assert (found.kind, found.rule, found.fault, found.turns) == ("repeated_id", "D1a", "backend", (1, 2))
    assert len(emulator.requests) == 2


def test_a_repeated_id_in_a_stream_is_raised_after_the_reply():
    emulator = Emulator([CALL, replies.repeat_id()])
    client = watch(emulator.client(), on_finding="raise")
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    message = ask(client, messages)
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    events = ask(client, messages, stream=True)
    seen: list[str] = []
    with pytest.raises(LoopFinding, match="D1a"):
        seen.extend(event.type for event in events)
    assert seen[-1] == "message_stop"


def test_findings_go_to_a_function_and_may_be_stopped_there():
    class StopError(Exception):
        pass

    got: list[Finding] = []

    def stop(found: Finding) -> None:
        got.append(found)
        raise StopError

    emulator = Emulator([CALL, DONE])
    client = watch(emulator.client(), on_finding=stop)
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    ask(client, messages)
    with pytest.raises(StopError):
        ask(client, messages)
    assert [found.rule for found in got] == ["D1c"]
    assert len(emulator.requests) == 1


# ── what is no fault ────────────────────────────────────────────────────────────────────────────────────────────────


def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between the SDK's retries."""
    monkeypatch.setattr(anthropic.Anthropic, "_calculate_retry_timeout", lambda *_: 0.0)


def test_retries_of_the_sdk(monkeypatch: pytest.MonkeyPatch):
    quiet(monkeypatch)
    emulator = Emulator([replies.overloaded(), CALL, replies.overloaded(), replies.overloaded(), DONE])
    client = watch(emulator.client(max_retries=2))
    loop(client)
    assert not client.findings
    assert [move.event for move in client.moves] == [
        "overloaded_error", "tool_use", "tool_results", "overloaded_error", "overloaded_error", "end_turn",
    ]  # fmt: skip
    assert list(client.conversations) == ["conversation-1"]
    # The SDK waits and sends again, not fsm: a label must not say that fsm does.
    assert path(client)[0] == str(client.moves[0]) == "asking --overloaded_error--> asking"
    emulator.done()


def test_retries_by_hand():
    emulator = Emulator([replies.overloaded(), replies.rate_limited(), CALL, DONE])
    client = watch(emulator.client())
    for _ in range(2):
        with pytest.raises(anthropic.APIStatusError):
            loop(client)
    loop(client)
    assert not client.findings
    assert list(client.conversations) == ["conversation-1"]
    assert client.conversations["conversation-1"].state == "answered"


def test_a_lost_connection_is_sent_again():
    emulator = Emulator([replies.cut(CALL, after_bytes=20, clean=False), CALL, DONE])
    client = watch(emulator.client())
    with pytest.raises(anthropic.APIConnectionError):
        loop(client)
    loop(client)
    assert not client.findings
    assert client.moves[0].event == "connection_error"


def test_counting_tokens_is_no_request():
    client = watch(Emulator([CALL, DONE]).client())
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    message = ask(client, messages)
    for _ in range(2):
        client.messages.count_tokens(model=MODEL, messages=messages, tools=[FIND])
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    client.messages.count_tokens(model=MODEL, messages=messages, tools=[FIND])
    ask(client, messages)
    assert not client.findings
    assert len(client.moves) == 3


def test_other_paths_are_let_through():
    client = watch(Emulator([]).client(), on_finding="raise")
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.create(requests=[])
    assert not client.conversations


def test_samples_at_once_in_tasks():
    async def main() -> None:
        emulator = Emulator([CALL] * 3 + [DONE] * 3, latency=0.01)
        async with emulator.async_client() as given:
            client = watch(given, on_finding="raise")
            messages: Messages = [{"role": "user", "content": "Order 7?"}]

            async def sample() -> None:
                mine = list(messages)
                message = await ask(client, mine)
                mine += [{"role": "assistant", "content": message.content}, results(message)]
                await ask(client, mine)

            await asyncio.gather(*[sample() for _ in range(3)])
        assert not client.findings
        assert {c.state for c in client.conversations.values()} == {"answered"}
        assert len(client.conversations) == 3

    asyncio.run(main())


SAME: Messages = [{"role": "user", "content": "Order 7?"}]


@pytest.mark.parametrize("way", ["await", "create_task", "wait_for", "to_thread"])
def test_a_loop_that_forgets_the_reply_is_caught_however_it_sends(way: str):
    async def main() -> None:
        emulator = Emulator([CALL] * 3)
        client: Any = watch(emulator.client() if way == "to_thread" else emulator.async_client(), on_finding="raise")

        # The pool of `to_thread` may take a second thread, which cannot be told from a second worker.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))

        async def send() -> None:
            if way == "await":
                await ask(client, SAME)
            elif way == "create_task":
                await asyncio.create_task(ask(client, SAME))
            elif way == "wait_for":
                await asyncio.wait_for(ask(client, SAME), 30)
            else:
                await asyncio.to_thread(ask, client, SAME)

        await send()
        with pytest.raises(LoopFinding, match=r"D1c.*client\.conversation\(name\)"):
            await send()
        assert len(emulator.requests) == 1
        assert only(client).kind == "lost_result"

    asyncio.run(main())


def test_threads_of_their_own_one_after_another_are_a_loop():
    client = watch(Emulator([CALL] * 2).client(), on_finding=lambda _: None)
    for _ in range(2):
        thread = threading.Thread(target=ask, args=(client, SAME))
        thread.start()
        thread.join()
    assert only(client).rule == "D1c"


def test_samples_of_a_pool_of_threads():
    emulator = Emulator([CALL] * 9, latency=0.02)
    client = watch(emulator.client(), on_finding="raise")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: ask(client, SAME), range(8)))
    ask(client, SAME)  # and one more, alone
    assert not client.findings


def test_samples_of_workers_on_a_queue():
    async def main() -> None:
        async with Emulator([CALL] * 8, latency=0.01).async_client() as given:
            client = watch(given, on_finding="raise")
            left = list(range(8))

            async def worker() -> None:
                while left:
                    left.pop()
                    await ask(client, SAME)

            await asyncio.gather(worker(), worker())
        assert not client.findings

    asyncio.run(main())


def test_samples_that_never_overlap_while_their_tasks_go_on():
    async def main() -> None:
        async with Emulator([CALL] * 3 + [DONE] * 3).async_client() as given:
            client = watch(given, on_finding="raise")
            gate = asyncio.Semaphore(1)

            async def sample() -> None:
                async with gate:
                    message = await ask(client, SAME)
                await asyncio.sleep(0.05)  # the tool
                await ask(client, [*SAME, {"role": "assistant", "content": message.content}, results(message)])

            await asyncio.gather(*[sample() for _ in range(3)])
        assert not client.findings

    asyncio.run(main())


def test_a_first_reply_that_is_gone_on_from_shows_samples():
    client = watch(Emulator([CALL, CALL, DONE, CALL, CALL]).client(), on_finding=lambda _: None)
    first = ask(client, SAME)
    ask(client, SAME)  # cannot be told from a lost result yet
    ask(client, [*SAME, {"role": "assistant", "content": first.content}, results(first)])
    ask(client, SAME)
    ask(client, SAME)
    assert only(client).rule == "D1c"


def test_a_request_that_was_cancelled_overlaps_with_none():
    async def main() -> None:
        latency = iter([5.0, 0.0, 0.0])
        async with Emulator([CALL] * 3, latency=lambda: next(latency)).async_client() as given:
            client = watch(given, on_finding="raise")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask(client, SAME), 0.05)
            await asyncio.wait_for(ask(client, SAME), 30)
            with pytest.raises(LoopFinding, match="D1c"):
                await asyncio.wait_for(ask(client, SAME), 30)

    asyncio.run(main())


def test_samples_that_call_no_tools_one_after_another():
    client = watch(Emulator([DONE] * 3).client(), on_finding="raise")
    for _ in range(3):
        ask(client, [{"role": "user", "content": "Say something."}])
    assert not client.findings


def test_the_same_question_again_after_its_conversation_went_on():
    client = watch(Emulator([CALL, DONE] * 3).client(), on_finding="raise")
    for _ in range(3):
        loop(client)
    assert not client.findings
    assert len(client.moves) == 9


def test_samples_that_cannot_be_told_apart_are_given_names():
    client = watch(Emulator([CALL] * 3).client(), on_finding="raise")
    for n in range(3):
        with client.conversation(f"sample {n}"):
            ask(client, [{"role": "user", "content": "Order 7?"}])
    assert list(client.conversations) == ["sample 0", "sample 1", "sample 2"]
    with client.conversation("sample 1"), pytest.raises(LoopFinding, match="D1c"):
        ask(client, [{"role": "user", "content": "Order 7?"}])


def test_a_name_holds_across_tasks():
    async def main() -> None:
        async with Emulator([CALL, CALL]).async_client() as given:
            client = watch(given, on_finding="raise")
            with client.conversation("mine"):
                await asyncio.create_task(ask(client, [{"role": "user", "content": "Order 7?"}]))
                with pytest.raises(LoopFinding, match="D1c"):
                    await asyncio.create_task(ask(client, [{"role": "user", "content": "Order 7?"}]))

    asyncio.run(main())


def test_forks_of_one_prefix():
    client = watch(Emulator([CALL, DONE, DONE, DONE]).client(), on_finding="raise")
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    message = ask(client, messages)
    messages += [{"role": "assistant", "content": message.content}]
    ask(client, [*messages, results(message, "in stock")])
    ask(client, [*messages, results(message, "sold out")])
    ask(client, [messages[0], {"role": "user", "content": "No, order 8."}])
    assert not client.findings
    assert len(client.conversations) == 3


def test_a_fork_before_the_reply_is_gone_on_from():
    client = watch(Emulator([CALL, DONE, DONE]).client(), on_finding="raise")
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    message = ask(client, messages)
    ask(client, [messages[0], {"role": "user", "content": "No, order 8."}])
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    ask(client, messages)
    assert not client.findings


def test_two_conversations_on_one_client():
    def script(body: dict[str, Any]) -> Any:
        who = body["messages"][0]["content"]
        return replies.tool_use("find", {"n": len(body["messages"]), "who": who}) if len(body["messages"]) < 9 else DONE

    client = watch(Emulator(script).client(), on_finding="raise")
    talks: list[Messages] = [[{"role": "user", "content": who}] for who in ("Ann", "Bob")]
    for _ in range(5):
        for messages in talks:
            message = ask(client, messages)
            messages.append({"role": "assistant", "content": message.content})
            if message.stop_reason == "tool_use":
                messages.append(results(message))
    assert not client.findings
    assert [(c.replies, c.state) for c in client.conversations.values()] == [(5, "answered")] * 2


def test_many_threads_at_once():
    def script(body: dict[str, Any]) -> Any:
        length = len(body["messages"])
        return replies.tool_use("find", {"n": length}) if length < 11 else DONE

    client = watch(Emulator(script).client(), on_finding="raise")
    threads = [threading.Thread(target=loop, args=(client, "Order 7?")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not client.findings
    assert len(client.moves) == 8 * 11
    assert sorted(c.replies for c in client.conversations.values()) == [6] * 8


def test_what_a_loop_may_change_in_its_history():
    """Cache breakpoints that wander, texts as strings, echoes without thinking."""
    emulator = Emulator([replies.thinking("Well.", then=CALL), CALL, DONE], strict=False)
    client = watch(emulator.client(), on_finding="raise")
    cached = {"type": "text", "text": "Order 7?", "cache_control": {"type": "ephemeral"}}
    first = ask(client, [{"role": "user", "content": [cached]}])
    echo = [block for block in first.content if block.type != "thinking"]
    messages: Messages = [{"role": "user", "content": "Order 7?"}, {"role": "assistant", "content": echo}]
    answer = results(first, cache_control={"type": "ephemeral"})
    second = ask(client, [*messages, answer])
    messages += [results(first), {"role": "assistant", "content": second.content}, results(second)]
    ask(client, messages)
    assert len(client.moves) == 5
    assert list(client.conversations) == ["conversation-1"]


def test_a_loop_that_changes_the_words_of_a_reply_is_the_same_conversation():
    spoken = replies.tool_use("find", {"n": 7}, text="Let me see.")
    client = watch(Emulator([spoken, replies.thinking("Well.", then=DONE), DONE], strict=False).client())
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    message = ask(client, messages)
    messages += [{"role": "assistant", "content": message.content[1:]}, results(message)]
    messages.append({"role": "assistant", "content": ask(client, messages).content[1].text + "  "})
    ask(client, [*messages, {"role": "user", "content": "Thanks."}])
    assert not client.findings
    assert list(client.conversations) == ["conversation-1"]
    assert client.conversations["conversation-1"].replies == 3


def test_reminders_of_the_loop_are_not_a_person_who_speaks():
    client = watch(Emulator([CALL] * 5).client(), on_finding="raise")
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    for _ in range(4):
        message = ask(client, messages)
        messages += [{"role": "assistant", "content": message.content}, results(message)]
        messages.append({"role": "user", "content": "Remember to be brief."})
    message = ask(client, messages)
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    with pytest.raises(LoopFinding, match="D2"):
        ask(client, messages)


def test_a_person_who_asks_the_same_again_is_no_loop():
    client = watch(Emulator([CALL, DONE] * 9).client(), on_finding="raise")
    messages: Messages = []
    for _ in range(9):
        messages.append({"role": "user", "content": "Order 7?"})
        message = ask(client, messages)
        messages += [{"role": "assistant", "content": message.content}, results(message)]
        messages.append({"role": "assistant", "content": ask(client, messages).content})
    assert list(client.conversations) == ["conversation-1"]


def test_a_process_that_takes_a_conversation_up():
    """History that was made elsewhere is learnt, not judged; what comes of it now counts."""
    first = watch(Emulator([CALL] * 4, seed=1).client())
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    for _ in range(4):
        message = ask(first, messages)
        messages += [{"role": "assistant", "content": message.content}, results(message)]
    second = watch(Emulator([CALL] * 4, seed=2).client())
    message = ask(second, messages)
    assert not second.findings
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    ask(second, messages)
    assert only(second).turns == (1, 2, 3, 4, 5)


def test_the_same_messages_with_another_head_are_another_question():
    client = watch(Emulator([CALL, CALL, CALL, DONE]).client(), on_finding="raise")
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    ask(client, messages)
    ask(client, messages, tool_choice={"type": "any"})
    message = ask(client, messages, system="Be brief.")
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    ask(client, messages)
    assert not client.findings
    assert client.conversations["conversation-1"].state == "answered"


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_thread_of_the_sdk_that_begins_anew(is_forgotten: bool):  # noqa: FBT001
    """After a refusal, or when the server lost it, the SDK sends the whole history again."""
    emulator = Emulator([CALL, replies.refusal("cyber"), replies.tool_use("find", {"n": 8}), DONE, DONE])
    client = watch(emulator.client(), on_finding="raise")
    thread = client.beta.messages.thread(model=MODEL, max_tokens=100, tools=[FIND], messages=[])
    first = thread.send({"role": "user", "content": "Order 7?"})
    thread.send(results(first))
    second = thread.send(results(first))
    if is_forgotten:
        emulator._threads._turns.clear()
    thread.send(results(second))
    thread.send({"role": "user", "content": "Thanks."})
    assert not client.findings
    assert list(client.conversations) == ["conversation-1"]
    assert client.conversations["conversation-1"].replies == 5
    kinds = [request.body["thread"]["type"] for request in emulator.requests if request.body]
    assert kinds.count("create") == (3 if is_forgotten else 2)
    emulator.done()


def test_a_refusal_that_the_sdk_takes_to_another_model():
    emulator = Emulator([replies.refusal("cyber"), CALL, DONE])
    fallback = anthropic.BetaRefusalFallbackMiddleware([{"model": "claude-opus-4-8"}])
    client = watch(emulator.client(middleware=[fallback]), on_finding="raise")
    state = anthropic.BetaFallbackState()
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    with state:
        for _ in range(2):
            message = client.beta.messages.create(model=MODEL, max_tokens=100, messages=messages, tools=[FIND])
            messages += [{"role": "assistant", "content": message.content}, results(message)]
    assert [move.event for move in client.moves] == ["refusal", "tool_use", "tool_results", "end_turn"]
    emulator.done()


def test_calls_that_are_told_without_being_run():
    """An error for a cut call says that it was not run: nothing is wrong with that."""
    client = watch(Emulator([replies.max_tokens(tool=("find", {"n": 7})), DONE]).client(), on_finding="raise")
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    message = ask(client, messages)
    messages += [{"role": "assistant", "content": message.content}, results(message, "Cut, not run.", is_error=True)]
    ask(client, messages)
    assert not client.findings


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("chunk", [None, 1, 7, 100_000])
def test_a_stream_is_passed_on_byte_by_byte(chunk: int | None):
    def lines(client: Any) -> bytes:
        with client.messages.with_streaming_response.create(
            model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "7?"}], tools=[FIND], stream=True
        ) as response:
            return b"".join(response.iter_bytes())

    plain = Emulator([CALL], chunk=chunk)
    emulator = Emulator([CALL], chunk=chunk)
    client = watch(emulator.client())
    assert lines(client) == lines(plain.client())
    assert path(client) == ["asking --tool_use--> calling"]


def test_every_way_to_stream():
    client = watch(Emulator([CALL] * 5).client(), on_finding="raise")
    common: Any = {"model": MODEL, "max_tokens": 100, "tools": [FIND]}

    def said(n: int) -> Any:
        return [{"role": "user", "content": f"Order {n}?"}]

    list(client.messages.create(**common, messages=said(1), stream=True))
    with client.messages.stream(**common, messages=said(2)) as stream:
        stream.get_final_message()
    with client.messages.create(**common, messages=said(3), stream=True) as events:
        for event in events:
            if event.type == "message_stop":
                break
    raw = client.messages.with_raw_response.create(**common, messages=said(4), stream=True)
    list(raw.parse())
    with client.messages.with_streaming_response.create(**common, messages=said(5)) as response:
        response.parse()
    assert path(client) == ["asking --tool_use--> calling"] * 5


def test_every_way_to_stream_asynchronously():
    async def main() -> None:
        async with Emulator([CALL] * 3).async_client() as given:
            client = watch(given, on_finding="raise")
            common: Any = {"model": MODEL, "max_tokens": 100, "tools": [FIND]}
            async for _ in await client.messages.create(
                **common, messages=[{"role": "user", "content": "1"}], stream=True
            ):
                pass
            async with client.messages.stream(**common, messages=[{"role": "user", "content": "2"}]) as stream:
                await stream.get_final_message()
            with pytest.raises(LoopFinding):
                await client.messages.create(**common, messages=[{"role": "user", "content": "2"}])
        assert path(client)[:2] == ["asking --tool_use--> calling"] * 2

    asyncio.run(main())


def test_a_stream_that_is_left_early_brought_no_reply():
    client = watch(Emulator([CALL, CALL]).client(), on_finding="raise")
    with ask(client, [{"role": "user", "content": "Order 7?"}], stream=True) as events:
        next(iter(events))
    ask(client, [{"role": "user", "content": "Order 7?"}])
    assert len(client.moves) == 1


def attempt(step: Callable[[], Any]) -> None:
    """Make a request whose answer the SDK may not like; only what `watch` raises counts here."""
    try:
        step()
    except LoopFinding:
        raise
    except Exception:  # noqa: BLE001, S110  # what the SDK makes of the answer is its own affair
        pass


@pytest.mark.parametrize(
    ("reply", "event"),
    [
        (replies.cut(CALL, after=3), "cut_stream"),
        (replies.cut(CALL, after=3, clean=False), "cut_stream"),
        (replies.sse_error("overloaded_error"), "overloaded_error"),
        (replies.html(), "malformed"),
    ],
    ids=["cut", "lost", "error event", "page"],
)
def test_a_stream_that_fails(reply: Any, event: str):
    client = watch(Emulator([reply, CALL]).client(), on_finding="raise")
    attempt(lambda: list(ask(client, [{"role": "user", "content": "Order 7?"}], stream=True)))
    assert [move.event for move in client.moves] == [event]
    list(ask(client, [{"role": "user", "content": "Order 7?"}], stream=True))
    assert client.moves[-1].event == "tool_use"


@pytest.mark.parametrize(
    ("reply", "event"),
    [
        (replies.html(), "malformed"),
        (replies.body({}), "malformed"),
        (replies.body([1]), "malformed"),
        (replies.body({"type": "error", "error": {"type": "api_error", "message": "x"}}), "malformed"),
        (replies.unknown_stop("new_thing"), "unknown_stop"),
        (replies.empty(), "empty_turn"),
        (replies.pause(), "pause_turn"),
        (replies.error(400, "invalid_request_error", "No."), "invalid_request_error"),
        (replies.raw(502, b"<html>"), "api_error"),
    ],
)
def test_answers_of_every_form(reply: Any, event: str):
    client = watch(Emulator([reply]).client(), on_finding="raise")
    said: Messages = [{"role": "user", "content": "Hi"}]
    attempt(lambda: client.messages.create(model=MODEL, max_tokens=100, messages=said))
    assert [move.event for move in client.moves] == [event]


# ── the machine of a workflow ───────────────────────────────────────────────────────────────────────────────────────


def workflow(build: Callable[[], dict[str, Any]]) -> Any:
    return build_graph("Support", build())


def test_a_workflow_with_approval_and_a_person():
    def build() -> dict[str, Any]:
        asking, calling, approving = Claude(model=MODEL, max_tokens=100), Tools(), Approval()
        waiting, ended = Human(), Final()
        asking.on(tool_use=approving, end_turn=waiting)
        approving.on(approved=calling, denied=asking)
        calling.on(tool_results=asking)
        waiting.on(said=asking, expired=ended)
        return {"asking": asking, "calling": calling, "approving": approving, "waiting": waiting, "ended": ended}

    client = watch(Emulator([CALL, CALL, DONE, DONE]).client(), workflow(build), on_finding="raise")
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    for is_error in (False, True):
        message = ask(client, messages)
        messages += [{"role": "assistant", "content": message.content}, results(message, is_error=is_error)]
    messages.append({"role": "assistant", "content": ask(client, messages).content})
    ask(client, [*messages, {"role": "user", "content": "Thanks."}])
    assert [move.event for move in client.moves] == [
        "tool_use", "approved", "tool_results", "tool_use", "denied", "end_turn", "said", "end_turn",
    ]  # fmt: skip
    assert client.conversations["conversation-1"].state == "waiting"


def test_after_its_end_a_conversation_begins_at_the_first_state_again():
    def build() -> dict[str, Any]:
        drafting, judging, ended = Claude(model=MODEL, max_tokens=9), Claude(model=MODEL, max_tokens=9), Final()
        drafting.on(end_turn=judging)
        judging.on(end_turn=ended)
        return {"drafting": drafting, "judging": judging, "ended": ended}

    client = watch(Emulator([DONE] * 3).client(), workflow(build), on_finding="raise")
    messages: Messages = []
    for words in ("Draft.", "Judge.", "Draft again."):
        messages.append({"role": "user", "content": words})
        messages.append({"role": "assistant", "content": ask(client, messages).content})
    assert [(move.source, move.dest) for move in client.moves] == [
        ("drafting", "judging"), ("judging", "ended"), ("drafting", "judging"),
    ]  # fmt: skip


def test_a_move_that_the_workflow_does_not_have():
    def build() -> dict[str, Any]:
        asking, waiting = Claude(model=MODEL, max_tokens=100), Human()
        asking.on(tool_use=waiting, end_turn=waiting)
        waiting.on(said=asking)
        return {"asking": asking, "waiting": waiting}

    emulator = Emulator([CALL, DONE])
    client = watch(emulator.client(), workflow(build), on_finding="raise")
    messages: Messages = [{"role": "user", "content": "Order 7?"}]
    message = ask(client, messages)
    messages += [{"role": "assistant", "content": message.content}, results(message)]
    with pytest.raises(LoopFinding, match="'Support' is in 'waiting', where a person speaks") as caught:
        ask(client, messages)
    assert caught.value.finding.kind == "illegal_move"
    assert len(emulator.requests) == 1


def test_a_reply_that_the_workflow_does_not_expect():
    def build() -> dict[str, Any]:
        asking, ended = Claude(model=MODEL, max_tokens=100), Final()
        asking.on(end_turn=ended)
        return {"asking": asking, "ended": ended}

    strict = build_graph("Support", build(), strict=True)
    client = watch(Emulator([CALL]).client(), strict)
    ask(client, [{"role": "user", "content": "Order 7?"}])
    found = only(client)
    assert found.kind == "illegal_move"
    assert "cannot take tool_use" in found.why


def test_workflows_and_clients_that_cannot_be_watched():
    def build() -> dict[str, Any]:
        asking, other, ended = (
            Claude(model=MODEL, max_tokens=1),
            Claude(model=MODEL, max_tokens=1, history="b"),
            Final(),
        )
        coding: Any = Code(decide)
        asking.on(end_turn=coding)
        coding.on("ok", other)
        other.on(end_turn=ended)
        return {"asking": asking, "coding": coding, "other": other, "ended": ended}

    client = Emulator([]).client()
    with pytest.raises(UsageError, match=r"'coding' is Code; it has the histories b, main"):
        watch(client, workflow(build))
    with pytest.raises(UsageError, match="is no workflow"):
        watch(client, 7)
    with pytest.raises(UsageError, match="takes a client"):
        watch(object())
    wrong: Any = "shout"
    with pytest.raises(UsageError, match="on_finding='shout'"):
        watch(client, on_finding=wrong)


def decide(facts: Any) -> Any:
    return "ok"


decide.__annotations__["return"] = "__import__('typing').Literal['ok']"


# ── it never gets in the way ────────────────────────────────────────────────────────────────────────────────────────


def test_an_error_of_ours_is_logged_once_and_the_program_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(_links.Links, "find", broken)
    client = watch(Emulator([CALL, DONE]).client())
    assert loop(client).stop_reason == "end_turn"
    assert [r.levelname for r in caplog.records if r.name == "fsm.watch"].count("ERROR") == 1
    assert not client.moves


def test_an_error_of_ours_while_a_stream_is_read(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    client = watch(Emulator([CALL]).client())
    monkeypatch.setattr("fsm._wire._stream.StreamReader.feed", broken)
    events = list(ask(client, [{"role": "user", "content": "7?"}], stream=True))
    assert events[-1].type == "message_stop"


def test_an_on_move_that_raises_does_not_stop_the_program():
    def bad(_: object) -> None:
        raise RuntimeError("the user's own")

    client = watch(Emulator([CALL, DONE]).client(), on_move=bad)
    assert loop(client).stop_reason == "end_turn"


def test_odd_bodies_are_the_apis_affair():
    odd: list[Any] = [
        [],
        [7],
        [{"role": "user"}],
        [{"role": "robot", "content": "x"}],
        [{"role": "user", "content": [7]}],
    ]
    for messages in odd:
        client = watch(Emulator([DONE]).client())
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(model=MODEL, max_tokens=100, messages=messages)
        assert [found.fault for found in client.findings] == ["harness"]


def test_a_body_that_is_posted_as_bytes():
    client = watch(Emulator([CALL]).client(), on_finding="raise")
    body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "7?"}], "tools": [FIND]}
    for _ in range(1):
        client.post("/v1/messages", content=json.dumps(body).encode(), cast_to=object)
    with pytest.raises(LoopFinding, match="D1c"):
        client.post("/v1/messages", content=json.dumps(body).encode(), cast_to=object)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_links, "CONVERSATIONS", 5)
    client = watch(Emulator(lambda body: CALL if len(body["messages"]) < 12 else DONE).client())
    for n in range(20):
        loop(client, f"Order {n}?")
    assert list(client.conversations) == [f"conversation-{n}" for n in range(16, 21)]
    links = client.middleware[-1].fsm_watcher._links  # type: ignore[union-attr]
    assert len(links.points) <= 5 * _links.KEPT
    assert all(len(point.trying) == 0 for point in links.points.values())


def test_one_line_for_each_move_in_the_log(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "fsm.watch"):
        emulator = Emulator([CALL, DONE])
        loop(watch(emulator.client()))
    lines = [record.getMessage() for record in caplog.records if record.name == "fsm.watch"]
    assert lines[0] == f"conversation-1: asking --tool_use--> calling request_id={emulator.requests[0].request_id}"
    assert len(lines) == 3
