"""Bodies become messages, failures become events: echo fidelity, hostile bodies, the error table, waits."""

import json
from collections import Counter
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm._alphabet import ALPHABET, ERROR_TYPES
from fsm._errors import WireError
from fsm._reading import read
from fsm._wire import (
    LONGEST_MESSAGE,
    LONGEST_WAIT,
    StreamError,
    StreamReader,
    failed_from_response,
    failed_from_stream,
    failed_malformed,
    read_message,
)
from fsm._wire._rawjson import MAX_DEPTH, members, replaced

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Grüße"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
NOW = 1_790_000_000.0


# ── whole bodies ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("indent", [None, 0, 2, "\t"])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("pad", [(b"", b""), (b" \r\n\t", b"\n "), (b"\xef\xbb\xbf", b"")])
def test_a_message_is_read_however_it_is_laid_out(indent, ascii_only, pad):
    body = pad[0] + json.dumps(MESSAGE, indent=indent, ensure_ascii=ascii_only).encode() + pad[1]
    wire = read_message(body, "application/json; charset=utf-8")
    assert wire.message == MESSAGE
    assert list(wire.message) == list(MESSAGE)
    assert json.loads(wire.content_json) == MESSAGE["content"]
    assert wire.content_json.encode() in body


def test_the_echo_is_a_slice_of_the_body():
    content = (
        '[ {"type":"thinking","thinking":"","signature":"Zm9v\\/YmFy=="},\n {"type":"tool_use","id":"t","name":"f",'
        '"input":{"x":1e2,"y":1.10,"big":123456789012345678901234567890,"x":2,"s":"\\u00e9\\ud83d"},"new_field":null} ]'
    )
    body = '{"type":"message","content" :\t' + content + ' , "usage":{}}'
    wire = read_message(body.encode())
    assert wire.content_json == content
    assert wire.message == json.loads(body)


def test_of_two_contents_the_last_one_counts_in_both_forms():
    wire = read_message(b'{"content":[1],"a":0,"c\\u006fntent":[2, 3]}')
    assert (wire.message["content"], wire.content_json) == ([2, 3], "[2, 3]")
    assert read_message(b'{"content":[1],"content":null}').content_json == "[]"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{}", "not a message"),
        (b'{"type":"error","error":{"type":"api_error","message":"Boom"}}', "Boom"),
        (b'{"type":"message","role":"assistant","content":"text","stop_reason":"end_turn"}', "no content list"),
        (b'{"type":"message","role":"assistant","content":null}', "no content list"),
        (b'{"content":{"a":[1]}}', "not a message"),
    ],
)
def test_s11_3_an_object_that_is_no_message_is_read_and_called_malformed(body, problem):
    wire = read_message(body)
    assert wire.content_json == "[]"
    reading = read(wire.message)
    assert reading.event == "malformed"
    assert problem in str(reading.problem)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"  <html>Bad Gateway", "HTML"),
        (b"event: message_start\ndata: {}\n\n", "event stream"),
        (b"Service Unavailable", "no JSON object"),
        (b"[]", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b"null", "no JSON object"),
        (b"{", "no JSON object"),
        (b'{"a"', "no JSON object"),
        (b'{"a":', "no JSON object"),
        (b'{"a":1', "no JSON object"),
        (b'{"a":1,', "no JSON object"),
        (b'{"a":1,}', "no JSON object"),
        (b'{"a" 1}', "no JSON object"),
        (b'{"a":1 "b":2}', "no JSON object"),
        (b"{1:2}", "no JSON object"),
        (b"{'a':1}", "no JSON object"),
        (b'{"a":tru}', "no JSON object"),
        (b'{"a":"x\n"}', "no JSON object"),
        (b'{"a":1}}', "no JSON object"),
        (b'{"a":1} {}', "no JSON object"),
        (b'{"a":"\xff"}', "no JSON object"),
        ('{"a":1}'.encode("utf-16"), "no JSON object"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":[-Infinity]}', "Infinity"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":' + b"9" * 10_000 + b"}", "no JSON object"),
        (b'{"a":' + b"[" * 1_000_000, "nested"),
        (b'{"content":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, "nested"),
        (b'{"content":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "nested"),
    ],
)
def test_s11_3_what_is_no_object_is_one_clear_error(body, said):
    with pytest.raises(WireError, match="base URL") as caught:
        read_message(body)
    assert caught.value.rule == "S11.3"
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_s11_3_html_by_its_content_type():
    with pytest.raises(WireError, match="HTML"):
        read_message(json.dumps(MESSAGE).encode(), "text/html; charset=utf-8")


def test_braces_in_a_text_are_not_depth():
    text = "[{" * 5000
    wire = read_message(json.dumps(MESSAGE | {"content": [{"type": "text", "text": text}] * 300}).encode())
    assert len(wire.message["content"]) == 300


@given(st.binary(max_size=60) | st.text('{}[]":,\\ aen1.-\n').map(str.encode))
def test_any_body_is_a_message_or_a_wire_error(body):
    try:
        wire = read_message(body)
    except WireError as error:
        assert error.rule == "S11.3"  # noqa: PT017 - either outcome is right, no third one
        return
    assert wire.message == json.loads(body)
    assert read(wire.message).event == "malformed"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.dictionaries(st.text(), json_values), st.sampled_from([None, 1]), st.booleans())
def test_members_agree_with_the_json_module(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    found = members(text)
    assert {key: held for key, held, _, _ in found} == value
    assert all(json.loads(text[start:end]) == held for _, held, start, end in found)


@given(st.dictionaries(st.text(max_size=2), json_values), st.dictionaries(st.text(max_size=2), json_values))
def test_replaced_changes_the_named_values_only(value, new):
    text = json.dumps(value, indent=1)
    done = replaced(text, {key: json.dumps(held) for key, held in new.items()})
    assert list(json.loads(done).items()) == list((value | new).items())


def test_every_recorded_json_answer_is_read(exchanges: list[Path]):
    told, events, count = Counter(), Counter(), 0
    for file in exchanges:
        for line in file.read_text("utf-8").splitlines():
            exchange = json.loads(line)
            if "response" not in exchange:
                continue
            count += 1
            body = json.dumps(exchange["response"]).encode()
            wire = read_message(body)
            assert wire.message == exchange["response"]
            reading = read(wire.message)
            events[reading.event] += 1
            if reading.event == "malformed":
                told[str(reading.problem).split(":")[0]] += 1
            else:
                assert json.loads(wire.content_json) == exchange["response"]["content"]
                assert reading.event == exchange["response"]["stop_reason"]
            status = exchange["status"] or 200
            if status >= 400:
                failed = failed_from_response(status, exchange["headers"], body, at=NOW, draw=0.5)
                assert failed.event == exchange["response"]["error"]["type"]
                assert failed.message
    # Answers of other endpoints (token counts, files, models, batches), of the old completions API, error bodies, and
    # one fixture that joins several replies into one.
    assert set(told) <= {
        "an error body came with status 200",
        "the answer is not a message",
        "stop_reason is end_turn beside a tool_use block (§9)",
    }, told
    assert sum(told.values()) <= count // 8, told
    assert events["tool_use"] > 40
    assert events["end_turn"] > 80


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def failed(status, body=b"", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return failed_from_response(status, named, data, at=NOW, draw=0.25, seconds=1.5)


def error(kind, message="m", code=None):
    found = {"type": kind, "message": message}
    return {
        "type": "error",
        "error": found | ({"details": {"error_code": code}} if code else {}),
        "request_id": "req_b",
    }


@pytest.mark.parametrize("kind", ERROR_TYPES)
@pytest.mark.parametrize("status", [400, 500, 529])
def test_e0_the_type_comes_first(kind, status):
    assert failed(status, error(kind)).event == kind


@pytest.mark.parametrize(
    ("status", "event"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (408, "timeout_error"),
        (409, "conflict_error"),
        (413, "request_too_large"),
        (418, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (499, "invalid_request_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (524, "api_error"),
        (529, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html><h1>x</h1>", error("a_type_of_the_future"), b"[" * 5000])
def test_e6_to_e18_then_the_status(status, event, body):
    found = failed(status, body)
    assert (found.event, found.status) == (event, status)
    assert found.message
    assert found.type == (body["error"]["type"] if isinstance(body, dict) else None)


def test_e0_everything_of_an_envelope_is_kept():
    found = failed(
        429, error("rate_limit_error", "Slow\tdown", "ramp_limit_exceeded"), request_id="req_h", Retry_After="7"
    )
    assert (found.at, found.draw, found.seconds) == (NOW, 0.25, 1.5)
    assert (found.type, found.code, found.message) == ("rate_limit_error", "ramp_limit_exceeded", "Slow down")
    assert (found.request_id, found.retry_after) == ("req_h", 7.0)
    assert failed(429, error("rate_limit_error")).request_id == "req_b"


@pytest.mark.parametrize("code", ["enforced_spend_limit_reached", "contract_spend_limit_reached"])
def test_e11_a_spend_cap_is_known_by_its_code(code):
    for kind in ("rate_limit_error", "a_type_of_the_future"):
        found = failed(429, error(kind, code=code))
        assert (found.event, found.code) == ("rate_limit_error", code)
    assert failed(400, error("a_type_of_the_future", code=code)).event == "rate_limit_error"
    streamed = failed_from_stream(StreamError("m", type="a_type_of_the_future", code=code), at=NOW, draw=0.5)
    assert streamed.event == "rate_limit_error"


def test_e1a_a_400_about_the_account_is_marked():
    limit = "You have reached your specified API usage limits. You will regain access on 2026-12-01."
    credit = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
    for message, code in ((limit, "usage_limit"), (credit, "low_credit"), ("max_tokens: 0", None)):
        found = failed(400, error("invalid_request_error", message))
        assert (found.event, found.code) == ("invalid_request_error", code)
    assert failed(400, error("invalid_request_error", limit, "theirs")).code == "theirs"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": " 0.5 "}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "nan", "retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after-ms": "-3", "retry-after": "7"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, LONGEST_WAIT),
        ({"retry-after": "1e300"}, LONGEST_WAIT),
        ({"retry-after": "-inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "1_000"}, None),
        ({"retry-after": "a while"}, None),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90.0),
        ({"retry-after": formatdate(NOW + 90).replace("-0000", "+0100")}, None),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, None),
        ({"retry-after": "Fri, 99 Foo 99999999999 99:99:99 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, LONGEST_WAIT),
    ],
)
def test_e26_retry_after(headers, expected):
    assert failed_from_response(529, headers, b"", at=NOW, draw=0.5).retry_after == expected


def test_e26_retry_after_counts_on_errors_only():
    assert failed_from_response(304, {"retry-after": "7"}, b"", at=NOW, draw=0.5).retry_after is None


@given(st.text())
def test_e26_any_retry_after_is_a_wait_or_nothing(value):
    wait = failed_from_response(429, {"retry-after": value}, b"", at=NOW, draw=0.5).retry_after
    assert wait is None or 0 < wait <= LONGEST_WAIT


@given(st.integers(300, 999), st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_answer_becomes_an_event_that_can_be_recorded(status, body):
    found = failed_from_response(status, {}, body, at=NOW, draw=0.5)
    assert found.event in ALPHABET
    assert found.message
    json.dumps([found.message, found.type, found.code, found.request_id], ensure_ascii=False).encode()


def test_a_message_is_shortened_and_cannot_steer_a_terminal():
    found = failed(
        400, error("invalid_request_error", "\x1b[31mred\x1b]0;x\x07\r\n\u202eevil\ud800" + "x" * 9000, "c\x1b" * 300)
    )
    assert found.message.startswith("[31mred]0;x evilxxx")
    assert len(found.message) == LONGEST_MESSAGE
    assert found.message.endswith("…")
    assert "\x1b" not in str(found.code)
    assert len(str(found.code)) <= 200


def test_a_page_of_a_gateway_is_told_without_its_markup():
    page = b"<html><style>p{}</style><title>502 Bad Gateway</title><script>alert(1)</script><p>nginx\n</p></html>"
    assert failed(502, page).message == "HTTP 502, and the body is no error of the API: 502 Bad Gateway nginx"
    assert failed(502).message == "HTTP 502 with an empty body"
    assert failed(502, {"error": "upstream"}).message == "upstream"


@pytest.mark.parametrize("kind", [*ERROR_TYPES, "a_type_of_the_future", None])
def test_e23_an_error_in_a_stream_is_classified_by_its_type(kind):
    reader = StreamReader()
    with pytest.raises(StreamError) as caught:
        reader.feed(f"event: error\ndata: {json.dumps(error(kind, code='c'))}\n\n".encode())
    found = failed_from_stream(caught.value, at=NOW, draw=0.25, seconds=2.0)
    assert found.event == (kind if kind in ERROR_TYPES else "api_error")
    assert (found.status, found.type, found.code, found.message) == (200, kind, "c", "m")
    assert (found.at, found.draw, found.seconds, found.request_id) == (NOW, 0.25, 2.0, "req_b")
    assert failed_from_stream(caught.value, at=NOW, draw=0.25, request_id="req_h").request_id == "req_h"


def test_g20_and_s11_3_are_two_events():
    with pytest.raises(WireError) as cut:
        StreamReader().finish()
    with pytest.raises(WireError) as html:
        read_message(b"<html>")
    one = failed_malformed(cut.value, at=NOW, draw=0.25, seconds=3.0, request_id="req_1")
    two = failed_malformed(html.value, at=NOW, draw=0.25, status=None)
    assert (one.event, two.event, one.status, two.status) == ("cut_stream", "malformed", 200, None)
    assert (one.request_id, one.seconds) == ("req_1", 3.0)
    assert "G20" in one.message
    assert "HTML" in two.message
