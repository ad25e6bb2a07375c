"""The grammar of streams: each rule accepted and refused, any cutting of the bytes, any damage, recorded traffic."""

import functools
import itertools
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm._errors import WireError
from fsm._reading import read
from fsm._wire import Delta, StreamError, StreamReader, Wire, _sse, iter_sse, message_from_events, split_streams

USAGE = {"input_tokens": 7, "output_tokens": 1}


def sse(*events, end="\n"):
    """The bytes of a stream; an event is a dict, or text that goes in as it is."""
    parts = []
    for event in events:
        if isinstance(event, str):
            parts.append(event)
        else:
            parts.append(f"event: {event['type']}{end}data: {json.dumps(event)}{end}{end}")
    return "".join(parts).encode()


def start(content=(), **fields):
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": list(content)}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": USAGE}
    return {"type": "message_start", "message": message | fields}


def begin(index, kind, **fields):
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind} | fields}


def delta(index, kind, **fields):
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind} | fields}


def text_delta(index, text):
    return delta(index, "text_delta", text=text)


def piece(index, partial):
    return delta(index, "input_json_delta", partial_json=partial)


def close(index):
    return {"type": "content_block_stop", "index": index}


def ends(stop_reason="end_turn", usage=None, **fields):
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage or {}} | fields


STOP = {"type": "message_stop"}
PING = {"type": "ping"}
NEWS = {"type": "model_mood", "mood": "fine"}  # an event type of the future
ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}
SUMMARY = delta(0, "compaction_delta", content="sum", encrypted_content="e")
TEXT = (begin(0, "text", text=""), text_delta(0, "Hel"), text_delta(0, "lo"), close(0))
END = (ends(), STOP)
CALL = (begin(0, "tool_use", id="toolu_1", name="f", input={}), piece(0, ""), piece(0, '{"a":'), piece(0, " 1e2}"))


def whole(data):
    reader = StreamReader()
    reader.feed(data)
    return reader.finish()


def content(*events):
    wire = whole(sse(*events))
    assert json.loads(wire.content_json) == wire.message["content"]
    return wire.message["content"]


# ── every rule, accepted ─────────────────────────────────────────────────────────────────────────────────────────────

HELLO = [{"type": "text", "text": "Hello"}]
ACCEPTED = {
    "G1-noise-before-message_start": ((PING, NEWS, start(), *TEXT, ends(), STOP), HELLO),
    "G2-blocks-in-order": (
        (start(), *TEXT, begin(1, "text", text="x"), close(1), ends(), STOP),
        [*HELLO, {"type": "text", "text": "x"}],
    ),
    "G3-citations_delta": (
        (start(), *TEXT[:-1], delta(0, "citations_delta", citation={"cited_text": "c"}), close(0), ends(), STOP),
        [{"type": "text", "text": "Hello", "citations": [{"cited_text": "c"}]}],
    ),
    "G3-thinking-then-signature": (
        (
            start(),
            begin(0, "thinking", thinking="", signature=""),
            delta(0, "thinking_delta", thinking="hm"),
            delta(0, "signature_delta", signature="c2ln"),
            close(0),
            ends(),
            STOP,
        ),
        [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}],
    ),
    "G3-thinking-with-signature-only-after-text": (
        (
            start(),
            *TEXT,
            begin(1, "thinking", thinking=""),
            delta(1, "signature_delta", signature="s"),
            close(1),
            ends(),
            STOP,
        ),
        [*HELLO, {"type": "thinking", "thinking": "", "signature": "s"}],
    ),
    "G3-compaction_delta": (
        (
            start(),
            begin(0, "compaction", content=None),
            delta(0, "compaction_delta", content="sum", encrypted_content="e"),
            close(0),
            ends("compaction"),
            STOP,
        ),
        [{"type": "compaction", "content": "sum", "encrypted_content": "e"}],
    ),
    "G3-whole-blocks": (
        (
            start(),
            begin(0, "redacted_thinking", data="d"),
            close(0),
            begin(1, "x_tool_result", content=[]),
            close(1),
            ends(),
            STOP,
        ),
        [{"type": "redacted_thinking", "data": "d"}, {"type": "x_tool_result", "content": []}],
    ),
    "G4-input-in-pieces": (
        (start(), *CALL, close(0), ends("tool_use"), STOP),
        [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 100.0}}],
    ),
    "G4-no-arguments-empty-piece": (
        (start(), *CALL[:2], close(0), ends("tool_use"), STOP),
        [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}],
    ),
    "G4-no-arguments-no-piece": (
        (start(), begin(0, "tool_use", id="t", name="f"), close(0), ends("tool_use"), STOP),
        [{"type": "tool_use", "id": "t", "name": "f", "input": {}}],
    ),
    "G4-invalid-json-is-kept-for-its-answer": (
        (start(), *CALL[:3], close(0), ends("tool_use"), STOP),
        [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"INVALID_JSON": '{"a":'}}],
    ),
    "G4-json-that-is-no-object": (
        (start(), *CALL[:2], piece(0, "[1]"), close(0), ends("tool_use"), STOP),
        [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"INVALID_JSON": "[1]"}}],
    ),
    "G4-input-that-came-whole": (
        (start(), begin(0, "tool_use", id="t", name="f", input={"a": 1}), piece(0, ""), close(0), *END),
        [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}],
    ),
    "G8-ping-anywhere": ((start(), PING, TEXT[0], PING, *TEXT[1:], PING, ends(), PING, STOP, PING), HELLO),
    "G9-unknown-event": ((start(), NEWS, TEXT[0], NEWS, *TEXT[1:], NEWS, ends(), NEWS, STOP), HELLO),
    "G9-unknown-delta": ((start(), *TEXT[:-1], delta(0, "mood_delta", mood=1), close(0), ends(), STOP), HELLO),
    "G9-unknown-block": (
        (start(), begin(0, "hologram", x=[1]), delta(0, "holo_delta"), text_delta(0, "a"), close(0), ends(), STOP),
        [{"type": "hologram", "x": [1], "text": "a"}],
    ),
    "G11-no-block": ((start(), ends(), STOP), []),
    "G12-refusal-closes-the-block": (
        (start(), *TEXT[:2], close(0), ends("refusal"), STOP),
        [{"type": "text", "text": "Hel"}],
    ),
    "G13-fallback-without-deltas": (
        (start(), begin(0, "fallback", to={"model": "m2"}), close(0), ends(), STOP),
        [{"type": "fallback", "to": {"model": "m2"}}],
    ),
    "§9-continuation": ((start(HELLO, stop_reason="end_turn"), STOP), HELLO),
    "§9-open-block-at-max_tokens": (
        (start(), *CALL[:3], ends("max_tokens"), STOP),
        [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}],
    ),
    "§9-open-text-at-the-context-window": (
        (start(), *TEXT[:2], ends("model_context_window_exceeded"), STOP),
        [{"type": "text", "text": "Hel"}],
    ),
}


@pytest.mark.parametrize(("events", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepts(events, expected):
    assert content(*events) == expected


def test_g5_g6_message_delta_overwrites_usage_and_sets_the_rest():
    first = ends(None, {"output_tokens": 3, "server_tool_use": {"web_search_requests": 1}})
    last = ends(
        "stop_sequence", {"output_tokens": 9, "input_tokens": None, "iterations": []}, context_management={"x": 1}
    )
    last["delta"] |= {"stop_sequence": "###", "stop_details": None, "container": {"id": "c"}, "content": "not this"}
    message = whole(sse(start(), *TEXT, first, last, STOP)).message
    assert message["usage"] == {
        "input_tokens": 7,
        "output_tokens": 9,
        "server_tool_use": {"web_search_requests": 1},
        "iterations": [],
    }
    assert (message["stop_reason"], message["stop_sequence"], message["stop_details"]) == ("stop_sequence", "###", None)
    assert (message["container"], message["context_management"], message["content"]) == ({"id": "c"}, {"x": 1}, HELLO)


def test_g13_the_model_is_the_one_that_the_fallback_names():
    events = (start(), begin(0, "fallback", to={"model": "m2"}), close(0), ends(), STOP)
    assert whole(sse(*events)).message["model"] == "m2"


def test_deltas_are_what_a_display_needs():
    events = (start(), *TEXT, begin(1, "thinking"), delta(1, "thinking_delta", thinking="hm"), close(1))
    call = [event | {"index": 2} for event in CALL]
    found = StreamReader().feed(sse(*events, *call))
    assert found == [
        Delta("text", "Hel", 0),
        Delta("text", "lo", 0),
        Delta("thinking", "hm", 1),
        Delta("tool_input", "", 2, "toolu_1"),
        Delta("tool_input", '{"a":', 2, "toolu_1"),
        Delta("tool_input", " 1e2}", 2, "toolu_1"),
    ]


# ── every rule, refused ──────────────────────────────────────────────────────────────────────────────────────────────

THINKING = begin(0, "thinking", thinking="")
SIGNED = delta(0, "signature_delta", signature="s")
REFUSED = {
    "G1-no-message_start": (*TEXT, ends(), STOP),
    "G1-message_delta-first": (ends(), STOP),
    "G1-message_stop-first": (STOP,),
    "G1-stop-of-a-block-first": (close(0),),
    "G1-twice": (start(), start()),
    "G1-twice-in-a-block": (start(), TEXT[0], start()),
    "G1-no-message": ({"type": "message_start"},),
    "G1-no-content-list": (start() | {"message": {"content": None}},),
    "G1-content-without-stop_reason": (start(HELLO),),
    "G2-starts-at-one": (start(), begin(1, "text", text="")),
    "G2-gap": (start(), *TEXT, begin(2, "text", text="")),
    "G2-again": (start(), *TEXT, begin(0, "text", text="")),
    "G2-index-is-true": (start(), *TEXT, begin(*[True], "text", text="")),
    "G2-no-index": (start(), {"type": "content_block_start", "content_block": {"type": "text"}}),
    "G2-two-open": (start(), TEXT[0], begin(1, "text", text="")),
    "G2-delta-of-no-block": (start(), text_delta(0, "x")),
    "G2-delta-of-another-block": (start(), TEXT[0], text_delta(1, "x")),
    "G2-delta-of-a-closed-block": (start(), *TEXT, text_delta(0, "x")),
    "G2-stop-of-another-block": (start(), TEXT[0], close(1)),
    "G2-no-block": (start(), {"type": "content_block_start", "index": 0}),
    "G2-open-at-end_turn": (start(), *TEXT[:2], ends(), STOP),
    "G2-open-at-a-stop_reason-that-is-a-list": (start(), *TEXT[:2], ends(["max_tokens"]), STOP),
    "G2-open-at-message_stop": (start(), *TEXT[:2], STOP),
    "G2-block-after-a-whole-message_start": (start(HELLO, stop_reason="end_turn"), begin(0, "text", text="")),
    "G3-input-in-text": (start(), TEXT[0], piece(0, "{}")),
    "G3-text-in-a-call": (start(), CALL[0], text_delta(0, "x")),
    "G3-text-in-thinking": (start(), THINKING, text_delta(0, "x")),
    "G3-signature-in-text": (start(), TEXT[0], SIGNED),
    "G3-signature-twice": (start(), THINKING, SIGNED, SIGNED),
    "G3-thinking-after-signature": (start(), THINKING, SIGNED, delta(0, "thinking_delta", thinking="x")),
    "G3-compaction-twice": (start(), begin(0, "compaction"), *[delta(0, "compaction_delta", content="c")] * 2),
    "G3-delta-in-a-result": (start(), begin(0, "bash_code_execution_tool_result"), text_delta(0, "x")),
    "G3-delta-in-a-fallback": (start(), begin(0, "fallback"), text_delta(0, "x")),
    "G3-text-is-a-number": (start(), TEXT[0], text_delta(0, 1)),
    "G3-block-began-with-a-number": (start(), begin(0, "text", text=1), text_delta(0, "x")),
    "G3-unknown-block-began-with-a-list": (start(), begin(0, "hologram", text=[1]), text_delta(0, "x")),
    "G3-citation-is-no-object": (start(), TEXT[0], delta(0, "citations_delta", citation=1)),
    "G3-citations-began-as-text": (start(), begin(0, "text", citations="c"), delta(0, "citations_delta", citation={})),
    "G3-signature-is-null": (start(), THINKING, delta(0, "signature_delta", signature=None)),
    "G3-no-delta": (start(), TEXT[0], {"type": "content_block_delta", "index": 0}),
    "G3-delta-without-type": (start(), TEXT[0], delta(0, None)),
    "G4-piece-is-an-object": (start(), CALL[0], piece(0, {})),
    "G4-two-inputs": (start(), begin(0, "tool_use", id="t", name="f", input={"a": 1}), piece(0, "{}")),
    "G5-no-message_delta": (start(), *TEXT, STOP),
    "G5-no-stop_reason": (start(), *TEXT, ends(None), STOP),
    "G5-stop_reason-taken-back": (start(), *TEXT, ends(), ends(None), STOP),
    "G5-no-delta": (start(), {"type": "message_delta", "usage": {}}),
    "G5-usage-is-a-list": (start(), ends(usage=[1])),
    "G5-block-after-message_delta": (start(), ends(), begin(0, "text", text="")),
    "G5-delta-after-message_delta": (start(), *TEXT[:2], ends("max_tokens"), text_delta(0, "x")),
    "G7-message_start-after-stop": (start(), ends(), STOP, start()),
    "G7-stop-after-stop": (start(), ends(), STOP, STOP),
    "G7-unknown-after-stop": (start(), ends(), STOP, NEWS),
    "G7-error-after-stop": (start(), ends(), STOP, ERROR),
    "S11.3-no-json": (start(), "event: ping\ndata: {'a': 1}\n\n"),
    "S11.3-half-json": ('data: {"type": "ping"\n\n',),
    "S11.3-nan": (start(), 'data: {"type": "ping", "x": NaN}\n\n'),
    "S11.3-no-object": (start(), "data: [1]\n\n"),
    "S11.3-done-of-another-api": (start(), "data: [DONE]\n\n"),
    "S11.3-depth-bomb": ("data: " + "[" * 100_000 + "\n\n",),
    "S11.3-deep": ('data: {"type":"ping","x":' + "[" * 300 + "]" * 300 + "}\n\n",),
}


@pytest.mark.parametrize(("name", "events"), REFUSED.items(), ids=REFUSED)
def test_refuses(name, events):
    reader = StreamReader()
    with pytest.raises(WireError) as caught:
        reader.feed(sse(*events))
    assert caught.value.rule == name.split("-")[0]
    with pytest.raises(WireError) as again:  # what is broken stays broken
        reader.finish()
    assert again.value is caught.value
    with pytest.raises(WireError):
        reader.feed(sse(PING))
    with pytest.raises(WireError):
        reader.event("ping", "{}")


@pytest.mark.parametrize("before", [(), (PING,), (start(),), (start(), *TEXT[:2]), (start(), *TEXT, ends("tool_use"))])
def test_g10_an_error_event_voids_what_came_before(before):
    reader = StreamReader()
    with pytest.raises(StreamError) as caught:
        reader.feed(sse(*before, ERROR, STOP))
    error = caught.value
    assert (error.type, error.message, error.request_id, error.code) == (
        "overloaded_error",
        "Overloaded",
        "req_1",
        None,
    )
    with pytest.raises(StreamError):
        reader.finish()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"error": {"message": "m", "type": "api_error"}}', "m"),
        ('{"error": "m"}', "m"),
        ('{"message": "m"}', "m"),
        ("upstream timeout", "upstream timeout"),
        ("[1]", "[1]"),
    ],
)
def test_g10_error_events_in_the_forms_of_gateways(data, message):
    with pytest.raises(StreamError) as caught:
        StreamReader().feed(f"event: error\ndata: {data}\n\n".encode())
    assert caught.value.message == message


@pytest.mark.parametrize("size", [10, _sse.MAX_EVENT + 1])
def test_a_line_has_a_limit(monkeypatch, size):
    monkeypatch.setattr(_sse, "MAX_EVENT", 1000)
    line = b"data: " + b" " * size
    if size < 1000:
        assert StreamReader().feed(line) == []
        return
    with pytest.raises(WireError) as caught:
        StreamReader().feed(line)
    assert caught.value.rule == "S11.3"


def test_the_data_of_one_event_has_the_same_limit(monkeypatch):
    monkeypatch.setattr(_sse, "MAX_EVENT", 1000)
    with pytest.raises(WireError, match="larger"):
        StreamReader().feed(b"data: 1234567\n" * 200)


# ── framing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_iter_sse_reads_what_the_standard_says():
    stream = (
        b"\xef\xbb\xbfevent: a\n: comment\nid: 7\nretry: 9\nfoo\ndata:1\ndata:  2\r\n\r\n"
        b"data: x\r\rdata\n\nevent: lost\n\ndata: y\n\nevent: cut\ndata: z\n"
    )
    assert list(iter_sse([stream])) == [("a", "1\n 2"), ("message", "x"), ("message", ""), ("message", "y")]


def test_the_type_may_stand_in_the_event_line_alone():
    lone = "event: message_start\ndata: " + json.dumps({"message": start()["message"]}) + "\n\n"
    assert content(lone, *TEXT, ends(), STOP) == HELLO


STREAMS = {
    "text": sse(start(), PING, *TEXT, ends(), STOP),
    "unicode": sse(start(), begin(0, "text", text=""), "data: ")
    + json.dumps(text_delta(0, "Grüße 😀 日本"), ensure_ascii=False).encode()
    + b"\n\n"
    + sse(close(0), ends(), STOP),
    "crlf": sse(start(), *TEXT, ends(), STOP, end="\r\n"),
    "cr": sse(start(), *TEXT, ends(), STOP, end="\r"),
    "mixed": b"\xef\xbb\xbf" + sse(start(), *TEXT[:2], end="\r\n") + sse(*TEXT[2:], end="\r") + sse(ends(), STOP),
    "many-lines": (
        ": hello\nevent: message_start\n"
        + "".join(f"data: {line}\n" for line in json.dumps(start(), indent=2).splitlines())
        + "\n:\n"
    ).encode()
    + sse(*CALL, close(0), ends("tool_use"), 'data: {"type": "message_stop"          }    \n\n'),
    "many-lines-crlf": sse(start(), *TEXT, ends(), "event: message_stop\r\ndata: {\r\ndata:  }\r\n\r\n"),
    "halves": sse(start(), TEXT[0], text_delta(0, "\ud83d"), text_delta(0, "\ude00 \ud83d"), close(0), ends(), STOP),
    "error": sse(start(), *TEXT, ERROR),
    "violation": sse(start(), *TEXT, *TEXT),
    "not-utf-8": sse(start()) + b'data: {"type": "ping\xff"}\n\n',
    "cut": sse(start(), *TEXT),
}


def outcome(chunks):
    """What a stream gives, without the deltas where it gives no message."""
    reader, deltas = StreamReader(), []
    try:
        for chunk in chunks:
            deltas += reader.feed(chunk)
        wire = reader.finish()
    except (WireError, StreamError) as error:
        return type(error).__name__, str(error), getattr(error, "rule", None)
    assert json.loads(wire.content_json) == wire.message["content"]
    wire.content_json.encode()
    return wire, deltas


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_one_byte_at_a_time_is_the_same(stream):
    assert outcome([stream[at : at + 1] for at in range(len(stream))]) == outcome([stream])


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 2000), max_size=30))
def test_any_chunking_is_the_same(name, cuts):
    stream = STREAMS[name]
    at = sorted({0, *(cut % len(stream) for cut in cuts), len(stream)})
    chunks = [stream[a:b] for a, b in itertools.pairwise(at)]
    assert outcome([b"", *chunks, b""]) == outcome([stream])


def test_the_streams_above_are_what_they_are_called():
    kinds = {name: outcome([stream])[0] for name, stream in STREAMS.items()}
    failed = {name: kind for name, kind in kinds.items() if not isinstance(kind, Wire)}
    assert failed == {
        "error": "StreamError",
        "violation": "WireError",
        "not-utf-8": "WireError",
        "cut": "WireError",
    }
    assert kinds["unicode"].message["content"][0]["text"] == "Grüße 😀 日本"
    assert kinds["halves"].message["content"][0]["text"] == "😀 \ud83d"


@pytest.mark.parametrize("name", ["text", "unicode", "many-lines"])
def test_g20_a_stream_cut_anywhere_is_no_message(name):
    stream = STREAMS[name]
    for at in range(len(stream)):
        kind, _, rule = outcome([stream[:at]])
        assert (kind, rule) == ("WireError", "G20"), stream[:at]


def test_g20_a_stop_reason_that_was_seen_does_not_count():
    with pytest.raises(WireError) as caught:
        whole(sse(start(), *CALL, close(0), ends("tool_use")))
    assert caught.value.rule == "G20"


def damaged(rng, stream):
    """A stream with a few faults: bytes changed, pieces lost, doubled or swapped."""
    parts = stream.split(b"\n\n")
    for _ in range(rng.randint(1, 3)):
        a, b = rng.randrange(len(parts)), rng.randrange(len(parts))
        fault = rng.randrange(5)
        if fault == 0:
            parts[a], parts[b] = parts[b], parts[a]
        elif fault == 1:
            parts.insert(a, parts[b])
        elif fault == 2 and len(parts) > 1:
            del parts[a]
        elif parts[a]:
            at = rng.randrange(len(parts[a]))
            new = rng.choice([b"", b"{", b"}", b"[", b'"', b"\\", b"0", b"null", b"\n", b"\r", b"\xff", b"1e999", b":"])
            parts[a] = parts[a][:at] + new + parts[a][at + rng.randrange(4) :]
    return b"\n\n".join(parts)


VALUES = [None, True, 0, -1, 1.5, "", "x", "max_tokens", [], [1], {}, {"type": "text"}, {"type": "x", "input": 1}]


def twisted(rng, value):
    """A JSON value with one part of it replaced by something else."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.8:
        copy = value.copy()
        key = rng.choice(sorted(copy)) if isinstance(copy, dict) else rng.randrange(len(copy))
        copy[key] = twisted(rng, copy[key])
        return copy
    return rng.choice(VALUES)


def test_damaged_bytes_give_a_message_or_one_of_two_errors():
    rng, seen = random.Random(7), Counter()
    streams = sorted(STREAMS.values())
    for _ in range(3000):
        result = outcome([damaged(rng, rng.choice(streams))])
        seen[result[0] if isinstance(result[0], str) else "message"] += 1
    assert set(seen) == {"message", "WireError", "StreamError"}, seen


def test_twisted_events_give_a_message_or_one_of_two_errors():
    rng, seen = random.Random(8), Counter()
    streams = [[event for event in events if isinstance(event, dict)] for events, _ in ACCEPTED.values()]
    for _ in range(4000):
        events = list(rng.choice(streams))
        at = rng.randrange(len(events))
        events[at] = twisted(rng, events[at])
        data = "".join(f"event: {rng.choice(['ping', 'message'])}\ndata: {json.dumps(e)}\n\n" for e in events)
        result = outcome([data.encode()])
        if isinstance(result[0], Wire):
            read(result[0].message)  # what is a message can be read
        seen[result[0] if isinstance(result[0], str) else "message"] += 1
    assert {"message", "WireError"} <= set(seen), seen


# ── the model's own spelling ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_echo_keeps_what_the_model_wrote():
    raw = '{"a": 1e2, "b":1.10, "big": 123456789012345678901234567890, "a": 2, "u": "\\u00e9\\n"}'
    block = '{"type": "tool_use",  "id":"t","name":"f","input":{},"caller":{"x":1.0,"x":1E0}}'
    cited = '{"q":1.50,"q":2}'
    stream = sse(
        start(),
        f'data: {{"type":"content_block_start","index":0,"content_block":{block}}}\n\n',
        *(piece(0, raw[at : at + 7]) for at in range(0, len(raw), 7)),
        close(0),
        begin(1, "text", text=""),
        f'data: {{"type":"content_block_delta","index":1,"delta":{{"type":"citations_delta","citation":{cited}}}}}\n\n',
        close(1),
        ends("tool_use"),
        STOP,
    )
    wire = whole(stream)
    assert wire.content_json == (
        "["
        + block.replace('"input":{}', f'"input":{raw}')
        + ',{"type": "text", "text": "","citations":['
        + cited
        + "]}]"
    )
    assert json.loads(wire.content_json) == wire.message["content"]
    assert wire.message["content"][0]["input"]["a"] == 2


def test_of_two_citations_in_one_delta_the_last_one_counts():
    twice = '{"type":"citations_delta","citation":{"n":1},"citation":{"n":2}}'
    data = f'data: {{"type":"content_block_delta","index":0,"delta":{twice}}}\n\n'
    assert content(start(), TEXT[0], data, close(0), *END)[0]["citations"] == [{"n": 2}]


def test_halves_of_a_pair_in_a_tool_input_are_joined_or_escaped():
    pieces = (piece(0, '{"a": "\ud83d'), piece(0, "\ude00"), piece(0, ' \ud83d"}'))
    wire = whole(sse(start(), CALL[0], *pieces, close(0), ends("tool_use"), STOP))
    assert wire.message["content"][0]["input"] == {"a": "😀 \ud83d"}
    assert '{"a": "😀 \\ud83d"}' in wire.content_json


def test_citations_are_appended_to_those_a_block_began_with():
    events = (start(), begin(0, "text", text="x", citations=[{"n": 1}]), delta(0, "citations_delta", citation={"n": 2}))
    assert content(*events, close(0), ends(), STOP)[0]["citations"] == [{"n": 1}, {"n": 2}]


def test_a_continuation_keeps_its_spelling():
    given_content = '[ {"type":"text", "text":"x", "n":1e2, "n":1.0} ]'
    data = json.dumps(start(stop_reason="end_turn")).replace('"content": []', f'"content": {given_content}')
    assert whole(sse(f"data: {data}\n\n", STOP)).content_json == given_content


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
any_text = st.text(st.characters() | st.sampled_from("\ud83d\ude00"))  # halves of pairs too
blocks = st.lists(
    st.one_of(
        st.tuples(st.just("text"), any_text),
        st.tuples(st.just("thinking"), any_text),
        st.tuples(st.just("tool_use"), st.dictionaries(any_text, json_values, max_size=4)),
    ),
    max_size=4,
)


def pieces_of(text, sizes):
    at = 0
    while at < len(text):
        size = sizes.draw(st.integers(1, 9))
        yield text[at : at + size]
        at += size


@given(blocks, st.data())
def test_a_message_that_is_streamed_comes_out_as_it_went_in(written, data):
    events, expected = [start()], []
    for index, (kind, value) in enumerate(written):
        if kind == "tool_use":
            raw = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
            events.append(begin(index, kind, id=f"t{index}", name="f", input={}))
            events += [piece(index, part) for part in pieces_of(raw, data)]
            expected.append({"type": kind, "id": f"t{index}", "name": "f", "input": json.loads(raw)})
        else:
            events.append(begin(index, kind, **{kind: ""}))
            events += [delta(index, f"{kind}_delta", **{kind: part}) for part in pieces_of(value, data)]
            expected.append({"type": kind, kind: value})
        events.append(close(index))
    wire = whole(sse(*events, ends("tool_use"), STOP))
    # Python keeps the two halves of a pair apart where JSON joins them; so both sides go through JSON once.
    assert json.dumps(wire.message["content"]) == json.dumps(json.loads(json.dumps(expected)))
    assert json.loads(wire.content_json) == wire.message["content"]
    wire.content_json.encode()


# ── recorded traffic ─────────────────────────────────────────────────────────────────────────────────────────────────

MIXED_ON_PURPOSE = {"duplicate-message-start.chunks.txt", "spliced-message-start.chunks.txt"}


def test_every_recorded_stream_is_read_with_its_stop_reason(exchanges: list[Path]):
    unread, reasons = [], Counter()
    for file in exchanges:
        for line in file.read_text("utf-8").splitlines():
            exchange = json.loads(line)
            for events in split_streams(exchange.get("sse_events", [])):
                name = Path(exchange["path"]).name
                try:
                    wire = message_from_events(events)
                except WireError as error:
                    unread.append((name, error.rule))
                    continue
                data = [event["data"] for event in events]
                recorded = [event["delta"]["stop_reason"] for event in data if event["type"] == "message_delta"]
                recorded = recorded or [data[0]["message"]["stop_reason"]]
                text = "".join(
                    event["delta"].get("text", "") for event in data if event["type"] == "content_block_delta"
                )
                assert wire.message["stop_reason"] == recorded[-1]
                assert json.loads(wire.content_json) == wire.message["content"]
                reading = read(wire.message)
                assert reading.event == recorded[-1], (name, reading.problem)
                if text:
                    assert text == reading.reply.text
                reasons[recorded[-1]] += 1
    # Two fixtures mix the streams of two replies into one, to try a client; each rule of theirs is G1.
    assert {name for name, _ in unread} <= MIXED_ON_PURPOSE, unread
    assert {rule for _, rule in unread} <= {"G1"}, unread
    assert len(unread) <= 2
    assert reasons.keys() >= {"end_turn", "tool_use", "max_tokens", "refusal"}, reasons


def test_recorded_streams_are_the_same_as_bytes(exchanges: list[Path]):
    count = 0
    for file in exchanges:
        for line in file.read_text("utf-8").splitlines():
            for events in split_streams(json.loads(line).get("sse_events", [])):
                data = [event["data"] for event in events]
                expected = outcome([sse(*data)])
                if isinstance(expected[0], Wire):
                    assert message_from_events(data) == expected[0]
                    stream = sse(*data, end="\r\n")
                    assert outcome([stream[at : at + 11] for at in range(0, len(stream), 11)]) == expected
                    count += 1
    assert count > 100


def test_a_recording_may_be_glued_cut_or_no_json_at_all():
    one = [start(), *TEXT, ends(), STOP]
    framed = [{"event": event["type"], "data": event} for event in one]
    assert [len(stream) for stream in split_streams([*one, *framed, *one[:3]])] == [7, 7, 3]
    text = [{"event": "message", "data": json.dumps(event)} for event in one]
    assert message_from_events(one) == message_from_events(framed) == message_from_events(text)
    with pytest.raises(WireError) as cut:
        message_from_events(one[:3])
    assert cut.value.rule == "G20"
    with pytest.raises(WireError) as strange:
        message_from_events([start(usage={"input_tokens": object()}), *one[1:]])
    assert strange.value.rule == "S11.3"


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}, functools.reduce(lambda v, _: [v], range(300), [])])
def test_a_recording_that_is_no_json_is_one_error_wherever_it_holds_it(value):
    """What goes into the message is checked; the recording itself stays as it was."""
    for broken in (
        [start(usage={"input_tokens": value}), *TEXT, *END],
        [start(), begin(0, "tool_use", id="t", name="f", input={"a": value}), close(0), *END],
        [start(), *TEXT[:-1], delta(0, "citations_delta", citation={"a": value}), close(0), *END],
        [start(), begin(0, "compaction"), delta(0, "compaction_delta", content=value), close(0), *END],
        [start([{"type": "x", "a": value}], stop_reason="end_turn"), STOP],
        [start(), *TEXT, ends(container={"id": value}), STOP],
    ):
        with pytest.raises(WireError) as caught:
            message_from_events(broken)
        assert caught.value.rule == "S11.3", broken
    kept = [start(), *TEXT, ends(container={"id": "c"}), STOP]
    message_from_events(kept)
    assert kept == [start(), *TEXT, ends(container={"id": "c"}), STOP]
