"""The emulator, through the real SDK: in process, over a socket, sync and async, with and without threads."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time

import anthropic
import pytest
from anthropic import beta_async_tool, beta_tool

from fsm.testing import Emulator, replies, serve
from fsm.testing._threads import THREADS_BETA

KEY = "sk-ant-canary-0123456789"
TOOLS = [{"name": "find_order", "input_schema": {"type": "object", "properties": {"number": {"type": "string"}}}}]
USER = {"role": "user", "content": "Where is order 7?"}
BASE = {"model": "claude-sonnet-5", "max_tokens": 100}


def request(*messages, **more):
    return {"model": "claude-sonnet-5", "max_tokens": 500, "messages": list(messages) or [USER]} | more


def call(call_id, name="find_order"):
    return {"type": "tool_use", "id": call_id, "name": name, "input": {"number": "7"}}


def result(call_id, text="shipped"):
    return {"type": "tool_result", "tool_use_id": call_id, "content": text}


def said(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def answered(*blocks):
    return {"role": "user", "content": list(blocks)}


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


# ── scripts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_replies_come_in_order_and_done_accepts():
    emulator = Emulator([replies.text("one"), replies.text("two")])
    client = emulator.client()
    assert [client.messages.create(**request()).content[0].text for _ in range(2)] == ["one", "two"]
    emulator.done()
    assert not emulator.exhausted
    assert emulator.unconsumed == ()


def test_a_script_that_has_run_out_says_so():
    emulator = Emulator([replies.text("one")])
    client = emulator.client()
    client.messages.create(**request())
    with pytest.raises(anthropic.BadRequestError, match="the script has 1 replies and this is request 2"):
        client.messages.create(**request())
    assert emulator.exhausted
    with pytest.raises(AssertionError, match="1 request"):
        emulator.done()


def test_done_names_what_nobody_asked_for():
    emulator = Emulator([replies.text("one"), replies.refusal(), replies.overloaded()])
    emulator.client().messages.create(**request())
    assert len(emulator.unconsumed) == 2
    with pytest.raises(AssertionError, match="2 of 3 replies were not asked for: refusal, error"):
        emulator.done()


def test_a_function_sees_the_request():
    emulator = Emulator(lambda body: replies.text(body["messages"][-1]["content"].upper()))
    assert emulator.client().messages.create(**request()).content[0].text == "WHERE IS ORDER 7?"
    emulator.done()


@pytest.mark.parametrize(
    ("function", "words"),
    [(lambda body: body["nothing"], "raised KeyError: 'nothing'"), (lambda body: 5, "returned int")],
)
def test_a_function_that_fails_is_named_and_done_fails(function, words):
    emulator = Emulator(function)
    with pytest.raises(anthropic.BadRequestError, match=words):
        emulator.client().messages.create(**request())
    with pytest.raises(AssertionError, match=words):
        emulator.done()


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: Emulator([replies.text("a"), 5]), TypeError, "reply 2 of the script is a int"),
        (lambda: Emulator("Hello."), TypeError, "put it in a list"),
        (lambda: Emulator([], chunk=0), ValueError, "use 1 or more"),
    ],
)
def test_a_wrong_script_is_refused_at_once(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_a_plain_string_is_a_text():
    in_order = Emulator(["one", replies.text("two")])
    client = in_order.client()
    assert [client.messages.create(**request()).content[0].text for _ in range(2)] == ["one", "two"]
    in_order.done()
    function = Emulator(lambda body: str(len(body["messages"])))
    assert function.client().messages.create(**request()).content[0].text == "1"


def test_ids_are_fresh_and_the_same_for_the_same_seed():
    script = [replies.tool_uses(("a", {}), ("b", {}))] * 40

    def ids(seed):
        client = Emulator(script, seed=seed).client()
        made = [client.messages.create(**request()) for _ in script]
        return [name for message in made for name in (message.id, *(block.id for block in message.content))]

    first = ids(0)
    assert len(set(first)) == len(first) == 120
    assert first == ids(0)
    assert not set(first) & set(ids(1))
    assert {name.split("_")[0] for name in first} == {"msg", "toolu"}


def test_an_id_that_another_emulator_gave_is_not_given_again():
    first = Emulator([replies.tool_use("find_order", {"number": "7"})]).client().messages.create(**request())
    used = first.content[0].id
    history = [USER, first.to_param(), answered(result(used))]
    second = Emulator([replies.tool_use("find_order", {"number": "7"})])
    reply = second.client().messages.create(**request(*history, tools=TOOLS))
    assert reply.content[0].id != used


def test_repeat_id_repeats_the_calls_of_the_same_conversation():
    other = {"role": "user", "content": "Another conversation"}
    emulator = Emulator(
        [
            replies.tool_use("find_order", {"number": "7"}),
            replies.tool_use("find_order", {"number": "8"}),
            replies.repeat_id(),
        ]
    )
    client = emulator.client()
    first = client.messages.create(**request())
    client.messages.create(**request(other))
    again = client.messages.create(**request())
    assert again.content == first.content
    assert again.id != first.id
    assert again.stop_reason == "tool_use"


def test_repeat_id_without_an_earlier_call_is_a_fault_of_the_script():
    emulator = Emulator([replies.text("a"), replies.repeat_id()])
    client = emulator.client()
    client.messages.create(**request())
    with pytest.raises(anthropic.BadRequestError, match="0 replies with calls"):
        client.messages.create(**request())
    with pytest.raises(AssertionError, match="repeat_id"):
        emulator.done()


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────────

UNANSWERED = "`tool_use` ids were found without `tool_result` blocks immediately after: toolu_1"
REFUSED = {
    "R10 unanswered at the end": ([USER, said(call("toolu_1"))], UNANSWERED),
    "R10 unanswered in the middle": ([USER, said(call("toolu_1")), USER], UNANSWERED),
    "R11 text first": (
        [USER, said(call("toolu_1")), answered({"type": "text", "text": "x"}, result("toolu_1"))],
        UNANSWERED,
    ),
    "R13 stray result": (
        [USER, said({"type": "text", "text": "x"}), answered(result("toolu_9"))],
        "unexpected `tool_use_id`",
    ),
    "R14 repeated id": (
        [USER, said(call("toolu_1")), answered(result("toolu_1")), said(call("toolu_1")), answered(result("toolu_1"))],
        "`tool_use` ids must be unique",
    ),
    "R15 two results": (
        [USER, said(call("toolu_1")), answered(result("toolu_1"), result("toolu_1"))],
        "each tool_use must have a single result",
    ),
    "R17 split results": (
        [USER, said(call("toolu_1"), call("toolu_2")), answered(result("toolu_2")), answered(result("toolu_1"))],
        UNANSWERED,
    ),
    "R20 empty text": ([answered({"type": "text", "text": ""})], "text content blocks must be non-empty"),
    "R22 empty content": ([USER, said(), USER], "non-empty content"),
    "R4 no messages": ([], "at least one message is required"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_illegal_requests_get_the_texts_of_the_api_and_no_reply(name):
    messages, words = REFUSED[name]
    emulator = Emulator([replies.text("after all")])
    client = emulator.client()
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**BASE, messages=messages, tools=TOOLS)
    assert words in caught.value.message
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert client.messages.create(**request()).content[0].text == "after all"
    assert [each.status for each in emulator.requests] == [400, 200]
    assert words in emulator.requests[0].error


def test_not_strict_merges_split_results():
    messages, _ = REFUSED["R17 split results"]
    assert (
        Emulator([replies.text("fine")], strict=False).client().messages.create(**BASE, messages=messages, tools=TOOLS)
    )


def post(emulator, body=None, *, path="/v1/messages", method="POST", raw=None, **headers):
    sent = {"x-api-key": "k", "anthropic-version": "2026-10-21", "content-type": "application/json"} | headers
    sent = {name.replace("_", "-"): value for name, value in sent.items() if value is not None}
    data = raw if raw is not None else json.dumps(request() if body is None else body).encode()
    answer = emulator.answer(method, path, sent, data)
    return answer.status, json.loads(b"".join(answer.chunks))


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"x-api-key": None}, 401, "invalid x-api-key"),
        ({"x-api-key": None, "authorization": "Bearer "}, 401, "invalid x-api-key"),
        ({"anthropic-version": None}, 400, "anthropic-version: header is required"),
        ({"anthropic-version": "2024-01-01"}, 400, "is not a valid version"),
        ({"content-type": "text/plain"}, 400, "application/json"),
        ({"path": "/v1/complete"}, 404, "Not found"),
        ({"method": "GET"}, 405, "Method Not Allowed"),
        ({"raw": b"<html>"}, 400, "not valid JSON"),
        ({"raw": b"[" * 100_000}, 400, "not valid JSON"),
        ({"raw": b"[]"}, 400, "must be a JSON object"),
        ({"body": {}}, 400, "model: Field required"),
        ({"body": {"model": "m", "max_tokens": 1}}, 400, "messages: Field required"),
        ({"body": {"model": "m", "messages": [USER]}}, 400, "max_tokens: Field required"),
        ({"body": request(model=7)}, 400, "model: Input should be a valid string"),
        ({"body": request(messages="x")}, 400, "messages: Input should be a valid array"),
        ({"body": request(messages=["x"])}, 400, "messages.0"),
        ({"body": request(max_tokens="x")}, 400, "max_tokens: Input should be a valid integer"),
        ({"body": request(max_tokens=-1)}, 400, "max_tokens: Input should be greater than or equal to"),
        ({"body": request(max_tokens=0, stream=True)}, 400, "max_tokens: "),
        ({"body": request(stream="x")}, 400, "stream: Input should be a valid boolean"),
        ({"body": request(temperature=1.0)}, 400, "temperature"),
        ({"body": request(USER, said({"type": "document"}), USER)}, 400, "document"),
        ({"body": request(answered({"type": "text", "text": "x", "citations": [{}]}))}, 400, "citations"),
        ({"body": request(thread={"type": "create"})}, 400, "thread: Extra inputs are not permitted"),
    ],
)
def test_envelope(options, status, words):
    emulator = Emulator([replies.text("never")])
    got, body = post(emulator, options.pop("body", None), **options)
    assert (got, words in body["error"]["message"]) == (status, True)
    assert body["request_id"].startswith("req_")
    assert len(emulator.unconsumed) == 1
    assert emulator.requests[0].refused


def test_the_older_version_takes_sampling_parameters_and_the_other_header():
    emulator = Emulator([replies.text("fine")])
    status, _ = post(emulator, request(temperature=1.0), **{"anthropic-version": "2023-06-01"})
    assert status == 200


def test_thinking_must_come_back_as_it_was():
    emulator = Emulator([replies.thinking("Which order?", then=replies.text("Order 7.")), replies.text("Yes.")])
    client = emulator.client()
    reply = client.messages.create(**request())
    altered = [block.to_dict() for block in reply.content]
    altered[0]["thinking"] += " Hm."
    with pytest.raises(anthropic.BadRequestError, match="Invalid `signature` in `thinking` block"):
        client.messages.create(**request(USER, said(*altered), USER))
    assert client.messages.create(**request(USER, reply.to_param(), USER)).content[0].text == "Yes."


def test_requests_are_kept_without_secrets():
    emulator = Emulator([replies.text("a")])
    emulator.client(api_key=KEY).messages.create(**request())
    post(emulator, x_api_key=KEY)
    kept = emulator.requests
    assert [each.path for each in kept] == ["/v1/messages", "/v1/messages"]
    assert kept[0].body == json.loads(kept[0].raw) == request()
    assert kept[0].headers["authorization"] == kept[1].headers["x-api-key"] == "[redacted]"
    assert kept[0].headers["anthropic-version"] == "2026-10-21"
    assert KEY not in repr(kept)


@pytest.mark.parametrize("name", ["api-key", "x-goog-api-key", "anthropic-auth", "x-my-secret", "set-cookie", "cookie"])
def test_a_header_that_may_hold_a_secret_is_not_kept_whatever_its_name(name):
    emulator = Emulator(["a"])
    emulator.client(default_headers={name: KEY}).messages.create(**request())
    kept = emulator.requests[0].headers
    assert kept[name] == "[redacted]"
    assert kept["content-type"] == "application/json"
    assert kept["x-stainless-lang"] == "python"
    assert KEY not in str(kept)


# ── the SDK, unchanged ──────────────────────────────────────────────────────────────────────────────────────────────


def tool_script():
    return Emulator(
        [
            replies.tool_uses(("find_order", {"number": "7"}), ("find_order", {"number": "8"}), text="Looking."),
            replies.tool_use("find_order", {"number": "9"}),
            replies.text("All are shipped."),
        ]
    )


@pytest.mark.parametrize("threading_option", [{}, {"thread": False}], ids=["threads", "no threads"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_tool_runner_runs(threading_option, stream):
    emulator = tool_script()
    runner = emulator.client().beta.messages.tool_runner(
        **BASE, system="Be kind.", messages=[USER], tools=[find_order], stream=stream, **threading_option
    )
    last = None
    for item in runner:
        last = item.get_final_message() if stream else item
    assert last.content[0].text == "All are shipped."
    emulator.done()
    sent = emulator.requests
    assert [each.status for each in sent] == [200, 200, 200]
    assert [len(each.conversation["messages"]) for each in sent] == [1, 3, 5]
    if threading_option:
        assert [len(each.body["messages"]) for each in sent] == [1, 3, 5]
        return
    assert [each.body["thread"]["type"] for each in sent] == ["create", "continue", "continue"]
    assert [len(each.body["messages"]) for each in sent] == [1, 1, 1]
    assert "tools" not in sent[1].body
    assert sent[1].conversation["tools"] == sent[0].body["tools"]
    assert sent[1].conversation["system"] == "Be kind."


@pytest.mark.parametrize("threading_option", [{}, {"thread": False}], ids=["threads", "no threads"])
def test_the_async_tool_runner_runs(threading_option):
    emulator = tool_script()

    async def go():
        async with emulator.async_client() as client:
            runner = client.beta.messages.tool_runner(
                **BASE, messages=[USER], tools=[find_order_async], **threading_option
            )
            return await runner.until_done()

    assert asyncio.run(go()).content[0].text == "All are shipped."
    emulator.done()


def test_a_pause_goes_on_in_a_thread():
    emulator = Emulator([replies.pause(), replies.text("Found.")])
    tools = [find_order, {"type": "web_search_20250305", "name": "web_search"}]  # R16: or the pause cannot go on
    runner = emulator.client().beta.messages.tool_runner(**BASE, messages=[USER], tools=tools)
    assert runner.until_done().content[0].text == "Found."
    assert emulator.requests[1].body["messages"] == []
    emulator.done()


def test_streams_and_counts_run_in_both_clients():
    emulator = Emulator([replies.text("One two three four five."), replies.text("One two three four five.")], chunk=1)
    with emulator.client().messages.stream(**request()) as stream:
        assert "".join(stream.text_stream) == "One two three four five."

    async def go():
        async with emulator.async_client() as client:
            async with client.messages.stream(**request()) as stream:
                text = "".join([piece async for piece in stream.text_stream])
            counted = await client.messages.count_tokens(model="claude-sonnet-5", messages=[USER])
            return text, counted.input_tokens

    text, counted = asyncio.run(go())
    assert text == "One two three four five."
    assert counted == emulator.client().messages.count_tokens(model="claude-sonnet-5", messages=[USER]).input_tokens > 0
    emulator.done()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_streams_survive_every_chunk_size(size):
    text = "Grüße 🚚 — ünïcödé, split in the middle of a character."
    with Emulator([replies.text(text)], chunk=size).client().messages.stream(**request()) as stream:
        assert stream.get_final_text() == text


def test_the_retries_of_the_sdk_are_off_unless_asked_for():
    emulator = Emulator([replies.overloaded(), replies.text("fine")])
    with pytest.raises(anthropic.OverloadedError):
        emulator.client().messages.create(**request())
    again = Emulator([replies.rate_limited(retry_after=0.001), replies.text("fine")])
    assert again.client(max_retries=1).messages.create(**request()).content[0].text == "fine"
    assert len(again.requests) == 2


def test_latency_is_waited_and_does_not_block_other_tasks():
    emulator = Emulator([replies.text("a")] * 8, latency=0.1)

    async def go():
        async with emulator.async_client() as client:
            await asyncio.gather(*(client.messages.create(**request()) for _ in range(8)))

    begun = time.monotonic()
    asyncio.run(go())
    assert 0.1 <= time.monotonic() - begun < 0.75
    emulator.done()


def test_many_threads_share_one_emulator():
    emulator = Emulator(lambda body: replies.tool_use("echo", {"said": body["messages"][0]["content"]}))
    seen = {}

    def talk(number):
        message = {"role": "user", "content": f"nonce {number}"}
        seen[number] = emulator.client().messages.create(**request(message)).content[0]

    workers = [threading.Thread(target=talk, args=(number,)) for number in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {number: block.input["said"] for number, block in seen.items()} == {n: f"nonce {n}" for n in range(16)}
    assert len({block.id for block in seen.values()}) == len(emulator.requests) == 16


def test_the_sdk_talks_over_loopback():
    emulator = tool_script()
    with serve(emulator) as server, anthropic.Anthropic(api_key=KEY, base_url=server.url, max_retries=0) as client:
        assert server.url == f"http://127.0.0.1:{server.port}"
        runner = client.beta.messages.tool_runner(**BASE, messages=[USER], tools=[find_order], stream=True)
        texts = [stream.get_final_message().stop_reason for stream in runner]
        assert texts == ["tool_use", "tool_use", "end_turn"]
    emulator.done()


# ── threads ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def turn(client, thread, *messages, **more):
    return client.beta.messages.create(**request(*messages, thread=thread, betas=[THREADS_BETA], **more))


def after(message):
    return {"type": "continue", "previous_message_id": message.id}


def test_a_reply_is_continued_once():
    emulator = Emulator([replies.text("a"), replies.text("b"), replies.text("c")])
    client = emulator.client()
    first = turn(client, {"type": "create"}, system="s")
    turn(client, after(first))
    with pytest.raises(anthropic.BadRequestError) as caught:
        turn(client, after(first))
    assert caught.value.error_code == "thread_already_continued"
    assert len(emulator.unconsumed) == 1


def test_an_unknown_thread_is_not_found():
    with pytest.raises(anthropic.NotFoundError) as caught:
        turn(Emulator([]).client(), {"type": "continue", "previous_message_id": "msg_unknown"})
    assert caught.value.error_code == "thread_not_found"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"system": "again"}, None),
        ({"tools": TOOLS}, None),
        ({"output_config": {"effort": "low"}}, "thread_fingerprint_mismatch"),
        ({"thinking": {"type": "adaptive"}}, "thread_unsupported_request"),
    ],
)
def test_what_a_continuation_may_not_carry(more, code):
    client = Emulator([replies.text("a"), replies.text("b")]).client()
    first = turn(client, {"type": "create"})
    with pytest.raises(anthropic.BadRequestError) as caught:
        turn(client, after(first), **more)
    assert (caught.value.body["error"].get("details") or {}).get("error_code") == code
    assert turn(client, after(first)).content[0].text == "b"  # a refused request continues nothing


def test_legality_is_judged_over_the_joined_conversation():
    client = Emulator([replies.tool_use("find_order", {"number": "7"}), replies.text("b")]).client()
    first = turn(client, {"type": "create"}, tools=TOOLS)
    with pytest.raises(anthropic.BadRequestError, match="without `tool_result` blocks"):
        turn(client, after(first))
    with pytest.raises(anthropic.BadRequestError, match="unexpected `tool_use_id`"):
        turn(client, after(first), answered(result(first.content[0].id), result("toolu_other")))
    assert turn(client, after(first), answered(result(first.content[0].id))).content[0].text == "b"


def test_an_error_leaves_the_thread_where_it_was():
    client = Emulator([replies.text("a"), replies.overloaded(), replies.text("b")]).client()
    first = turn(client, {"type": "create"})
    with pytest.raises(anthropic.OverloadedError):
        turn(client, after(first))
    assert turn(client, after(first)).content[0].text == "b"


def test_the_test_kit_is_light():
    code = "import sys, fsm.testing; print([name for name in ('anthropic', 'httpx2', 'anyio') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
