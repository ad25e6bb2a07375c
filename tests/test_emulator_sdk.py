"""The SDK's own helpers, unchanged, against the strict emulator: in process and over HTTP, sync and async (V4).

The replies think, and the model is one that binds thinking to the conversation: each helper must echo it exactly.
"""

from __future__ import annotations

import asyncio

import anthropic
import pytest
from anthropic import beta_async_tool, beta_tool
from pydantic import BaseModel

from fsm.testing import Emulator, assert_legal, replies, serve

BINDS = "claude-opus-5-5"
USER = {"role": "user", "content": "Where are my orders?"}
SYSTEM = "You look orders up. " * 400
FIXED = {"model": BINDS, "max_tokens": 1000, "system": SYSTEM, "messages": [USER]}
CACHED = {"cache_control": {"type": "ephemeral"}}


@beta_tool
def find_order(number: str) -> str:
    """Look an order up.

    Args:
        number: the number of the order
    """
    return f"order {number}: shipped"


@beta_async_tool(name="find_order")
async def find_order_async(number: str) -> str:
    """Look an order up.

    Args:
        number: the number of the order
    """
    await asyncio.sleep(0)
    return f"order {number}: shipped"


def script():
    two = replies.tool_uses(("find_order", {"number": "7"}), ("find_order", {"number": "8"}), text="Looking.")
    again = replies.after([{"type": "text", "text": "Hm."}], then=replies.tool_use("find_order", {"number": "9"}))
    return [
        replies.thinking("Two of them.", then=two),
        replies.thinking("One more.", then=replies.after([{"type": "redacted_thinking"}], then=again)),
        replies.thinking("", then=replies.text("All are shipped. Grüße 🚚")),
    ]


def checked(emulator, threading):
    """The requests of a runner: all answered, legal as a whole, and the thinking in them as it was served."""
    emulator.done()
    sent = emulator.requests
    assert [each.status for each in sent] == [200, 200, 200]
    for each in sent:
        assert_legal(each)
    whole = [len(each.conversation["messages"]) for each in sent]
    assert whole == [1, 3, 5]
    assert [len(each.body["messages"]) for each in sent] == (whole if threading else [1, 1, 1])
    kinds = [block["type"] for block in sent[2].conversation["messages"][3]["content"]]
    assert kinds == ["thinking", "redacted_thinking", "text", "tool_use"]


@pytest.mark.parametrize("full", [{}, {"thread": False}], ids=["threads", "full history"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("over_http", [False, True], ids=["in process", "http"])
def test_the_tool_runner(full, stream, over_http):
    emulator = Emulator(script(), chunk=7)

    def go(client):
        runner = client.beta.messages.tool_runner(**FIXED, tools=[find_order], stream=stream, **full)
        found = [item.get_final_message() if stream else item for item in runner]
        assert found[-1].content[-1].text == "All are shipped. Grüße 🚚"

    if over_http:
        with serve(emulator) as server, server.client() as client:
            go(client)
    else:
        go(emulator.client())
    checked(emulator, full)


@pytest.mark.parametrize("full", [{}, {"thread": False}], ids=["threads", "full history"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("over_http", [False, True], ids=["in process", "http"])
def test_the_async_tool_runner(full, stream, over_http):
    emulator = Emulator(script())

    async def go(client):
        async with client:
            runner = client.beta.messages.tool_runner(**FIXED, tools=[find_order_async], stream=stream, **full)
            found = [await item.get_final_message() if stream else item async for item in runner]
            assert found[-1].content[-1].text == "All are shipped. Grüße 🚚"

    if over_http:
        with serve(emulator) as server:
            asyncio.run(go(anthropic.AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0)))
    else:
        asyncio.run(go(emulator.async_client()))
    checked(emulator, full)


def test_the_tool_runner_reads_its_history_from_the_cache():
    """Full history with the top-level mark: every request after the first reads all that the one before wrote."""
    emulator = Emulator(script())
    runner = emulator.client().beta.messages.tool_runner(**FIXED, **CACHED, tools=[find_order], thread=False)
    used = [message.usage for message in runner]
    assert [usage.input_tokens for usage in used] == [0, 0, 0]
    read, written = 0, 0
    for usage in used:
        assert usage.cache_read_input_tokens == read + written
        read, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    checked(emulator, {"thread": False})


def test_a_pause_and_a_mixed_turn_go_on_with_thinking():
    """S6.7, S7, R16: the runner echoes a paused turn and an open server tool, whose result opens the next reply."""
    search = {"type": "server_tool_use", "name": "web_search", "input": {"query": "x"}}
    call = {"type": "tool_use", "name": "find_order", "input": {"number": "7"}}
    mixed = replies.message([search, call], stop_reason="tool_use")
    found = [{"type": "web_search_tool_result", "content": []}, {"type": "text", "text": "Done."}]
    script = [replies.thinking("a", then=replies.pause()), replies.thinking("b", then=mixed), replies.message(found)]
    emulator = Emulator([*script, "Fine."])
    tools = [find_order, {"type": "web_search_20250305", "name": "web_search"}]
    client = emulator.client()
    runner = client.beta.messages.tool_runner(**FIXED, tools=tools, thread=False)
    last = runner.until_done()
    assert last.content[-1].text == "Done."
    history = emulator.requests[-1].conversation["messages"]
    assert last.content[0].tool_use_id == history[2]["content"][1]["id"]
    more = [*history, {"role": "assistant", "content": last.to_dict()["content"]}, USER]
    sent = emulator.requests[-1].body["tools"]
    assert client.beta.messages.create(**FIXED | {"messages": more}, tools=sent).content[0].text == "Fine."


def test_a_changed_system_prompt_is_refused_by_name():
    """R35 through the SDK: what a program that rebuilds its prompt each turn runs into."""
    emulator = Emulator([replies.thinking("a", then=replies.text("x")), "never"])
    client = emulator.client()
    first = client.messages.create(**FIXED)
    history = [USER, first.to_param(), USER]
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**FIXED | {"messages": history, "system": "Today is Monday."})
    assert caught.value.body["error"]["message"].endswith(
        "`system` prompt differs from the one this block was created with."
    )
    assert caught.value.body["request_id"] == caught.value.response.headers["request-id"]
    assert caught.value.response.headers["x-should-retry"] == "false"


class Grade(BaseModel):
    """What the model is asked for."""

    grade: str


def test_the_stream_helper_parses_and_gives_the_final_message():
    emulator = Emulator([replies.thinking("a", then=replies.structured({"grade": "good"}))], chunk=3)
    with emulator.client().messages.stream(**FIXED, output_format=Grade) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert {"text", "thinking", "signature", "message_stop"} <= kinds
    assert final.parsed_output == Grade(grade="good")
    again = [USER, final.to_param(), USER]
    follow = Emulator(["Fine."])
    assert follow.client().messages.create(**FIXED | {"messages": again}).content[0].text == "Fine."


@pytest.mark.parametrize("over_http", [False, True], ids=["in process", "http"])
def test_count_tokens_is_what_the_request_then_uses(over_http):
    emulator = Emulator(["Fine."] * 2)

    def go(client):
        counted = client.messages.count_tokens(**{k: v for k, v in FIXED.items() if k != "max_tokens"}).input_tokens
        for more in ({}, CACHED):
            usage = client.messages.create(**FIXED, **more).usage
            used = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
            assert counted == used

    if over_http:
        with serve(emulator) as server, server.client() as client:
            go(client)
    else:
        go(emulator.client())


def test_programmatic_calls_need_their_container():
    """S6.8, R18: the reply names the container, and the next request must."""
    emulator = Emulator([replies.programmatic("find_order", {"number": "7"}), "Done."])
    client = emulator.client()
    tools = [
        {"type": "code_execution_20260120", "name": "code_execution"},
        {**find_order.to_dict(), "allowed_callers": ["code_execution_20260120"]},
    ]
    first = client.messages.create(**FIXED, tools=tools)
    call = first.content[-1]
    assert call.caller.tool_id == first.content[0].id
    answer = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "shipped"}]}
    body = FIXED | {"messages": [USER, first.to_param(), answer], "tools": tools}
    with pytest.raises(anthropic.BadRequestError, match="container_id is required"):
        client.messages.create(**body)
    assert client.messages.create(**body, container=first.container.id).content[0].text == "Done."
