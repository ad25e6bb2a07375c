"""Every scripted reply is what the SDK's own types say it is, streamed or not."""

from __future__ import annotations

import json

import anthropic
import attrs
import pydantic
import pytest
from anthropic.types import Message
from anthropic.types.beta import BetaMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm.testing import Emulator, Reply, replies

CITATION = {
    "type": "char_location",
    "cited_text": "a week",
    "document_index": 0,
    "document_title": None,
    "file_id": None,
    "start_char_index": 0,
    "end_char_index": 6,
}
STABLE = {
    "text": replies.text("It arrives in a week, ünïcödé 🚚 included."),
    "text with usage": replies.text("Short.", usage={"output_tokens": 77}),
    "citations": replies.text("In a week.", citations=[CITATION]),
    "structured": replies.structured({"grade": "good", "notes": ["ä"]}),
    "tool_use": replies.tool_use(
        "find_order", {"number": "7", "deep": {"a": [1, 2.5, None, True]}}, text="One moment."
    ),
    "tool without arguments": replies.tool_use("now", {}),
    "tool_uses": replies.tool_uses(
        ("find_order", {"number": "7"}), ("refund", {"number": "7", "euros": 3.5}), text="Two."
    ),
    "tool_use without a call": replies.tool_uses(text="Let me call that."),
    "max_tokens text": replies.max_tokens("It arrives in"),
    "max_tokens tool": replies.max_tokens("Wait.", tool=("write", {"path": "/a", "body": "a long body"})),
    "max_tokens tool without arguments": replies.max_tokens(tool=("now", {})),
    "max_tokens nothing": replies.max_tokens(),
    "refusal": replies.refusal(),
    "refusal midway": replies.refusal("cyber", explanation="No.", partial="First you"),
    "pause": replies.pause(),
    "pause resolved": replies.pause(
        {"type": "server_tool_use", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "content": []},
    ),
    "stop_sequence": replies.stop_sequence("The answer is", sequence="</stop>"),
    "empty": replies.empty(),
    "context_window": replies.context_window("It goes on and"),
    "thinking": replies.thinking("Which order is it?", then=replies.tool_use("find_order", {"number": "7"})),
    "thinking without text": replies.thinking("", then=replies.text("Done.")),
    "redacted thinking": replies.message([{"type": "redacted_thinking"}, {"type": "text", "text": "Done."}]),
    "message": replies.message([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
}
TOOL = {"name": "find", "description": None, "input_schema": {"type": "object"}}
SEARCH = replies.server_tool("web_search", {"query": "x"}, [])
STABLE |= {
    "redacted thinking first": replies.redacted_thinking(then=replies.text("Done.")),
    "server tool pair": replies.after(SEARCH, then=replies.text("Found.")),
    "code execution": replies.message(
        replies.server_tool(
            "code_execution",
            {"code": "1"},
            {"type": "code_execution_result", "stdout": "1", "stderr": "", "return_code": 0, "content": []},
        )
    ),
    "interleaved thinking": replies.thinking(
        "a", then=replies.after([{"type": "text", "text": "b"}], then=replies.thinking("c", then=replies.text("d")))
    ),
    "programmatic call": replies.programmatic("find_order", {"number": "7"}),
}
BETA = STABLE | {
    "mcp tool": replies.after(
        replies.mcp_tool("shop", "find", {"number": "7"}, "shipped"), then=replies.text("Found.")
    ),
    "mcp listing": replies.after(replies.mcp_listing("shop", TOOL), then=replies.text("Found.")),
    "fallback": replies.fallback("claude-opus-4-8", asked="claude-sonnet-5", before="I", then=replies.text("Yes.")),
    "toolset member": replies.toolset_use("shell", ("run", {"command": "ls"}), ("run", {"command": "pwd"})),
}
BETA |= {"compaction": replies.compaction(), "compaction failed": replies.compaction(None)}
HEADERS = {"x-api-key": "k", "anthropic-version": "2026-10-21", "content-type": "application/json"}
UNKNOWN = replies.unknown_stop("new_reason")
EXPECTED_STOP = {
    "tool_use": "tool_use",
    "tool_uses": "tool_use",
    "tool_use without a call": "tool_use",
    "max_tokens text": "max_tokens",
    "refusal": "refusal",
    "pause": "pause_turn",
    "stop_sequence": "stop_sequence",
    "empty": "end_turn",
    "context_window": "model_context_window_exceeded",
    "compaction": "compaction",
}


def request(**more):
    return {"model": "claude-sonnet-5", "max_tokens": 500, "messages": [{"role": "user", "content": "Hello"}]} | more


def served(reply: Reply) -> dict:
    answer = Emulator([reply]).answer("POST", "/v1/messages", HEADERS, json.dumps(request()).encode())
    assert answer.status == 200
    return json.loads(b"".join(answer.chunks))


def raw_events(reply: Reply, **options) -> list[dict]:
    emulator = Emulator([reply], **options)
    with emulator.client().messages.with_streaming_response.create(**request(stream=True)) as response:
        body = response.read().decode()
    found = []
    for record in body.removesuffix("\n\n").split("\n\n"):
        name, data = record.split("\n", 1)
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def unknown_fields(model: pydantic.BaseModel, path: str = "") -> list[str]:
    found = [f"{path}.{name}" for name in model.model_extra or {}]
    for name in type(model).model_fields:
        value = getattr(model, name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, pydantic.BaseModel):
                found += unknown_fields(item, f"{path}.{name}")
    return found


@pytest.mark.parametrize("name", STABLE)
def test_message_is_valid_against_the_stable_types(name):
    message = Message.model_validate_json(json.dumps(served(STABLE[name])), strict=True)
    assert unknown_fields(message) == []
    assert message.model == "claude-sonnet-5"
    assert message.usage.input_tokens > 0


@pytest.mark.parametrize("name", BETA)
def test_message_is_valid_against_the_beta_types(name):
    message = BetaMessage.model_validate_json(json.dumps(served(BETA[name])), strict=True)
    assert unknown_fields(message) == []
    assert message.stop_reason == EXPECTED_STOP.get(name, message.stop_reason)
    assert (message.stop_details is not None) == (message.stop_reason == "refusal")  # S1
    assert (message.stop_sequence is not None) == (message.stop_reason == "stop_sequence")  # S1


def grammar(events: list[dict]) -> str:
    """Walk the state machine of section 4, with what section 9 adds for a call cut by max_tokens."""
    fits = {
        "text": {"text_delta", "citations_delta"},
        "tool_use": {"input_json_delta"},
        "server_tool_use": {"input_json_delta"},
        "mcp_tool_use": {"input_json_delta"},
        "thinking": {"thinking_delta", "signature_delta"},
        "compaction": {"compaction_delta"},
    }
    state, index, deltas = "wait", 0, []
    for event in events:
        kind = event["type"]
        if kind == "ping":
            continue
        if state == "wait":
            assert kind == "message_start"
            assert event["message"]["content"] == []
            assert event["message"]["stop_reason"] is None
            state = "idle"
        elif kind == "content_block_start":
            assert (state, event["index"]) == ("idle", index)
            state, block, deltas = "block", event["content_block"], []
            assert block.get("input", {}) == {}
        elif kind == "content_block_delta":
            assert (state, event["index"]) == ("block", index)
            assert event["delta"]["type"] in fits.get(block["type"], set())
            deltas.append(event["delta"])
        elif kind == "content_block_stop":
            assert (state, event["index"]) == ("block", index)
            if "input" in block:
                assert isinstance(json.loads("".join(each["partial_json"] for each in deltas) or "{}"), dict)
            if block["type"] == "thinking":
                assert [each["type"] for each in deltas].index("signature_delta") == len(deltas) - 1
            state, index = "idle", index + 1
        elif kind == "message_delta":
            assert state == "idle" or (state == "block" and event["delta"]["stop_reason"] == "max_tokens")
            state = "ended"
        else:
            assert (state, kind) == ("ended", "message_stop")
            state = "final"
    return state


@pytest.mark.parametrize("name", BETA)
def test_stream_follows_the_grammar(name):
    events = raw_events(BETA[name])
    assert grammar(events) == "final"
    assert any(event["type"] == "ping" for event in events)


@pytest.mark.parametrize("name", BETA)
def test_streamed_message_equals_the_plain_one(name):
    emulator = Emulator([BETA[name]])
    with emulator.client().beta.messages.stream(**request()) as stream:
        streamed = stream.get_final_message().to_dict()
    plain = BetaMessage.model_validate(served(BETA[name])).to_dict()
    for block in streamed["content"]:
        block.pop("parsed_output", None)
    if plain.get("container"):
        streamed["container"]["expires_at"] = plain["container"]["expires_at"]
    assert {key: streamed[key] for key in plain} == plain


@pytest.mark.parametrize("name", BETA)
def test_a_stream_may_start_whole(name):
    """Section 9, G: `message_start` holds the message with its stop reason, and `message_stop` follows."""
    events = raw_events(replies.starts_whole(BETA[name]))
    assert [event["type"] for event in events] == ["message_start", "message_stop"]
    message = events[0]["message"]
    assert {key: message[key] for key in ("content", "stop_reason")} == {
        key: served(BETA[name])[key] for key in ("content", "stop_reason")
    }


def test_a_fallback_is_answered_by_the_other_model():
    message = served(BETA["fallback"])
    assert message["model"] == message["content"][1]["to"]["model"] == "claude-opus-4-8"


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=40),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=4,
    ),
    st.booleans(),
)
def test_tool_input_streams_whole_and_cut_as_it_is_without_streaming(tool_input, is_cut):
    reply = replies.max_tokens(tool=("t", tool_input)) if is_cut else replies.tool_use("t", tool_input)
    with Emulator([reply]).client().messages.stream(**request()) as stream:
        streamed = stream.get_final_message().content[0].input
    assert streamed == served(reply)["content"][0]["input"]
    if not is_cut:
        assert streamed == tool_input


def test_cut_call_loses_its_last_key_only():
    whole = {"path": "/a", "body": "text"}
    assert served(replies.max_tokens(tool=("write", whole)))["content"][0]["input"] == {"path": "/a"}


def test_unknown_stop_reason_passes_the_sdk():
    message = Emulator([UNKNOWN]).client().messages.create(**request())
    assert message.stop_reason == "new_reason"


@pytest.mark.parametrize(
    ("reply", "error_class", "status"),
    [
        (replies.overloaded(), anthropic.OverloadedError, 529),
        (replies.rate_limited(retry_after=7), anthropic.RateLimitError, 429),
        (replies.error(400, "invalid_request_error", "No."), anthropic.BadRequestError, 400),
        (replies.error(402, "billing_error", "Pay."), anthropic.PaymentRequiredError, 402),
        (replies.error(409, "conflict_error", "Again."), anthropic.ConflictError, 409),
        (replies.error(500, "api_error", "Oops."), anthropic.InternalServerError, 500),
        (replies.error(504, "timeout_error", "Slow."), anthropic.GatewayTimeoutError, 504),
    ],
)
def test_error_has_the_envelope_and_the_sdk_class(reply, error_class, status):
    emulator = Emulator([reply])
    with pytest.raises(error_class) as caught:
        emulator.client().messages.create(**request())
    error = caught.value
    assert error.status_code == status
    assert set(error.body) == {"type", "error", "request_id"}
    assert error.body["request_id"] == error.request_id == emulator.requests[0].request_id
    assert error.request_id.startswith("req_")
    may_retry = status in {409, 429} or status >= 500
    assert error.response.headers.get("x-should-retry") == (None if may_retry else "false")


@pytest.mark.parametrize("value", [0, -3, 7, "garbage", "inf", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_retry_after_reaches_the_wire(value):
    with pytest.raises(anthropic.RateLimitError) as caught:
        Emulator([replies.rate_limited(retry_after=value)]).client().messages.create(**request())
    assert caught.value.response.headers["retry-after"] == str(value)


def test_error_code_reaches_the_sdk():
    reply = replies.rate_limited(error_code="enforced_spend_limit_reached")
    with pytest.raises(anthropic.RateLimitError) as caught:
        Emulator([reply]).client().messages.create(**request())
    assert caught.value.body["error"]["details"] == {"error_code": "enforced_spend_limit_reached"}
    assert "retry-after" not in caught.value.response.headers


def test_bodies_that_are_no_message_pass_unchanged():
    emulator = Emulator(
        [replies.html(), replies.body({}), replies.raw(502, b"\xff\x00", {"content-type": "text/plain"})]
    )
    client = emulator.client()
    assert "<html>" in client.messages.create(**request())
    assert client.messages.create(**request()).to_dict() == {}
    with pytest.raises(anthropic.InternalServerError) as caught:
        client.messages.create(**request())
    assert caught.value.response.content == b"\xff\x00"


@pytest.mark.parametrize("after", [0, 1, 3, 1000])
def test_sse_error_ends_the_stream(after):
    events = raw_events(replies.sse_error("overloaded_error", after=after))
    assert events[-1]["type"] == "error"
    assert all(event["type"] not in {"error", "message_stop"} for event in events[:-1])
    assert after == 1000 or len(events) == after + 1


def test_sse_error_is_a_plain_error_where_nothing_streams():
    with pytest.raises(anthropic.OverloadedError):
        Emulator([replies.sse_error("overloaded_error")]).client().messages.create(**request())


def test_sse_error_raises_in_the_sdk_stream():
    with (
        Emulator([replies.sse_error("overloaded_error", after=4)]).client().messages.stream(**request()) as stream,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        stream.get_final_message()
    assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")  # E23


@pytest.mark.parametrize("after", range(9))
def test_cut_leaves_so_many_events(after):
    reply = replies.cut(replies.text("Some words that take several deltas."), after=after)
    body = b"".join(
        Emulator([reply]).answer("POST", "/v1/messages", HEADERS, json.dumps(request(stream=True)).encode()).chunks
    )
    assert body.count(b"\n\n") == after


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: replies.cut(replies.text("a")), "exactly one"),
        (lambda: replies.cut(replies.text("a"), after=1, after_bytes=2), "exactly one"),
        (lambda: replies.cut(replies.text("a"), after=-1), "exactly one"),
        (lambda: replies.repeat_id(0), "use 1"),
        (lambda: replies.thinking("a", then=replies.overloaded()), "takes a message"),
        (lambda: replies.sse_error("api_error", after=-1), "0 or more"),
        (lambda: replies.sse_error("api_error", reply=replies.html()), "takes a message"),
        (lambda: replies.tool_use("t", {"a": float("nan")}), "JSON"),
        (lambda: replies.tool_use("t", {"a": object()}), "the input of 't'"),
        (lambda: replies.message([{"text": "a"}]), "needs type"),
        (lambda: replies.message([{"type": "tool_use", "name": "t"}]), "needs input"),
        (lambda: replies.raw(200, b"", {"x": "a\r\nset-cookie: b"}), "line break"),
    ],
)
def test_bad_input_says_what_to_do(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_a_reply_cannot_change_after_it_was_written():
    given_input = {"number": "7"}
    reply = replies.tool_use("find_order", given_input)
    given_input["number"] = "8"
    first = served(reply)
    assert first["content"][0]["input"] == {"number": "7"}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        reply.status = 500
