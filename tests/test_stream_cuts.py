"""Streams of the emulator, cut, re-cut, damaged and without end (N3-N7): a message or one error, and never in part."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from _driving import MODEL, Clock, Loop, Plain, both, events_of

from fsm import (
    Claude,
    Delta,
    Final,
    Human,
    MemoryStore,
    Move,
    Workflow,
    _bodies,
    aresume,
    compact,
    exits,
    iterate,
    resume,
    rounds_left,
    run,
    said_is,
    say,
)
from fsm._encoded import encode
from fsm._errors import WireError
from fsm._reading import read
from fsm._wire import StreamError, StreamReader, Wire, _sse, _stream, failed_from_stream, iter_sse, split_streams
from fsm.testing import Emulator, replies
from fsm.testing.replies import Reply

# ── six streams of the emulator ──────────────────────────────────────────────────────────────────────────────────────

CITED = [{"type": "char_location", "cited_text": f"line {n}", "document_index": 0} for n in range(7)]
LONG = "Der Fluß trägt 🚢 Güter; 日本の川も。 " * 9
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "tide " * 20}}
FOUND = {"type": "web_search_tool_result", "content": [{"type": "web_search_result", "title": "T" * 300, "url": "u"}]}
SUMMARY = {"type": "compaction", "content": "What was said. " * 120, "encrypted_content": "b3BhcXVl"}
FALLBACK = {"type": "fallback", "from": {"model": "a"}, "to": {"model": "claude-haiku-4-5"}}
CALL = {"type": "tool_use", "name": "find", "input": {"number": "7", "note": 'é😀\\"' * 12, "deep": [[{"a": 1e2}]]}}
REPLIES: dict[str, Reply] = {
    "text and citations": replies.text(LONG, citations=CITED),
    "thinking and a call": replies.thinking(LONG[:90], then=replies.message([CALL], stop_reason="tool_use")),
    "server tools": replies.message([SEARCH, FOUND, {"type": "text", "text": LONG[:80]}]),
    "compaction": replies.message([SUMMARY, {"type": "text", "text": "Gut. " * 28}]),
    "fallback": replies.message([FALLBACK, {"type": "text", "text": LONG}, {"type": "text", "text": "x" * 70}]),
    "two calls": replies.message(
        [{"type": "text", "text": LONG[:60]}, CALL, CALL | {"input": {}}], stop_reason="tool_use"
    ),
}


def streamed(reply: Reply) -> bytes:
    """The bytes of a reply, as the emulator streams it."""
    body = {"model": MODEL, "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "Hi."}]}
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01", "content-type": "application/json"}
    return b"".join(Emulator([reply]).answer("POST", "/v1/messages", headers, json.dumps(body).encode()).chunks)


def stream_of(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


START = {
    "type": "message_start",
    "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [], "usage": {}}
    | {"stop_reason": None},
}
BEGIN = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
CLOSE = {"type": "content_block_stop", "index": 0}
ENDS = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
STOP = {"type": "message_stop"}


def delta(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


STREAMS = {name: streamed(reply) for name, reply in REPLIES.items()}


def events_in(stream: bytes) -> list[bytes]:
    return [part + b"\n\n" for part in stream.split(b"\n\n") if part]


def outcome(*chunks: bytes) -> Any:
    """The message and its deltas, or the error: anything else is raised and fails the test."""
    reader, deltas = StreamReader(), []
    try:
        for chunk in chunks:
            deltas += reader.feed(chunk)
        return reader.finish(), deltas
    except (WireError, StreamError) as error:
        return type(error).__name__, getattr(error, "rule", None), str(error)


def test_the_streams_are_as_long_as_n3_asks() -> None:
    assert all(3000 < len(stream) <= 7168 for stream in STREAMS.values()), {k: len(s) for k, s in STREAMS.items()}
    assert sum(map(len, STREAMS.values())) >= 30_000
    assert all(isinstance(outcome(stream)[0], Wire) for stream in STREAMS.values())


# ── cut ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def cut_everywhere(stream: bytes) -> int:
    """Ends a stream at each of its bytes, but the last: a reader goes on after `finish`, so one pass is enough."""
    reader = StreamReader()
    for at in range(len(stream) - 1):
        with pytest.raises(WireError) as caught:
            reader.finish()
        assert caught.value.rule == "G20", stream[:at][-80:]
        reader.feed(stream[at : at + 1])
    return len(stream) - 1


def test_n3_g20_every_cut_is_a_cut_stream() -> None:
    """Every byte and so every event boundary, `message_delta` with its stop_reason included: nothing counts."""
    assert sum(map(cut_everywhere, STREAMS.values())) >= 30_000
    for stream in STREAMS.values():
        bounds = itertools.accumulate(map(len, events_in(stream)[:-1]), initial=0)
        for at in {0, *range(0, len(stream), 37), *(bound + by for bound in bounds for by in (0, 1, 2))}:
            assert outcome(stream[:at])[:2] == ("WireError", "G20"), stream[:at][-80:]


def test_g20_recorded_streams_cut_anywhere(exchanges: list[Path]) -> None:
    """The same of real traffic."""
    cuts = 0
    for file in exchanges:
        for line in file.read_text("utf-8").splitlines():
            for events in split_streams(json.loads(line).get("sse_events", [])):
                stream = stream_of(*(event["data"] for event in events))
                if cuts < 60_000 and len(stream) <= 6144 and isinstance(outcome(stream)[0], Wire):
                    cuts += cut_everywhere(stream)
    assert cuts > 20_000


# ── cut elsewhere ────────────────────────────────────────────────────────────────────────────────────────────────────


def spelled_differently(stream: bytes) -> Iterator[tuple[str, bytes]]:
    """The same events as other senders write them (N7)."""
    yield "as it is", stream
    yield "CRLF", stream.replace(b"\n", b"\r\n")
    yield "lone CR", stream.replace(b"\n", b"\r")
    yield "BOM", b"\xef\xbb\xbf" + stream
    yield "comments", stream.replace(b"data:", b": keep-alive\nid: 1\nretry: 5\ndata:")
    yield "no space", stream.replace(b"data: ", b"data:").replace(b"event: ", b"event:")
    yield "padded", stream.replace(b"}\n\n", b"}" + b" " * 9 + b"\n\n")
    yield "data in lines", stream.replace(b',"', b',\ndata: "')
    yield "data only", b"".join(part[part.index(b"data:") :] for part in events_in(stream))


def call(index: int, *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a block that is thought or called."""
    kind = "thinking" if "signature" in deltas[-1] else "tool_use"
    begun = {"type": "thinking", "thinking": ""} if kind == "thinking" else {"type": kind, "id": "t", "name": "f"}
    events = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [BEGIN | {"index": index, "content_block": begun}, *events, CLOSE | {"index": index}]


CITATION = {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {"a": "é"}}}
THOUGHT = {"type": "thinking_delta", "thinking": "hm 😀"}, {"type": "signature_delta", "signature": "c2ln"}
CALLED = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", '{"n": ', '"ß\\""}')]
SHORT = {
    "text": stream_of(START, BEGIN, delta("Grüße 😀"), delta(" 日本"), CITATION, CLOSE, ENDS, STOP),
    "call": stream_of(
        START, *call(0, *THOUGHT), *call(1, *CALLED), ENDS | {"delta": {"stop_reason": "tool_use"}}, STOP
    ),
}


def test_n7_every_single_cut_position_gives_the_same() -> None:
    tried = 0
    for name, short in SHORT.items():
        plain = outcome(short)
        assert isinstance(plain[0], Wire)
        for spelling, stream in spelled_differently(short):
            whole = outcome(stream)
            assert whole[0].message == plain[0].message, (name, spelling)
            assert json.loads(whole[0].content_json) == json.loads(plain[0].content_json)
            assert [delta for delta in whole[1] if delta.kind != "other"] == [d for d in plain[1] if d.kind != "other"]
            assert outcome(*(stream[at : at + 1] for at in range(len(stream)))) == whole
            for at in range(1, len(stream)):
                assert outcome(stream[:at], stream[at:]) == whole, (name, spelling, at)
            tried += len(stream)
    assert tried > 12_000


def test_n7_long_streams_in_pieces_of_any_size() -> None:
    for stream in STREAMS.values():
        whole = outcome(stream)
        for size in (1, 2, 3, 5, 7, 11, 13, 64, 997, 4096):
            assert outcome(*(stream[at : at + size] for at in range(0, len(stream), size))) == whole


# ── damaged ──────────────────────────────────────────────────────────────────────────────────────────────────────────

NEW_EVENTS = (
    b'event: model_mood\ndata: {"type": "model_mood", "mood": [1]}\n\n',
    b'event: ping\ndata: {"type": "ping"}\n\n',
    b'event: message_stop\ndata: {"type": "message_stop"}\n\n',
    b'event: error\ndata: {"type": "error", "error": {"type": "api_error", "message": "m"}}\n\n',
    b"data: " + b"[" * 3000 + b"\n\n",
    b'data: {"type": "content_block_delta", "index": 0, "delta": ' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"}\n\n",
    b'event: content_block_start\ndata: {"index": 99999999999999999999, "content_block": {"type": "text"}}\n\n',
    b'event: content_block_stop\ndata: {"type": "content_block_stop", "index": -1}\n\n',
    b"data: null\n\n",
    b"data: 1e999\n\n",
    b"event: \xff\xfe\ndata: {}\n\n",
)
BYTES = (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0", b"\n\n", b"\\")
INDEXES = (b"-1", b"0", b"1", b"7", b"true", b"null", b"1.0", b'"0"', b"1e400", b"9" * 5000)


def damaged(rng: random.Random, stream: bytes) -> bytes:
    """The stream with one to three faults of every kind that N5 and N6 name."""
    for _ in range(rng.randint(1, 3)):
        parts = events_in(stream)
        a, b = rng.randrange(len(parts)), rng.randrange(len(parts))
        fault = rng.randrange(9)
        if fault == 0:
            parts[a], parts[b] = parts[b], parts[a]
        elif fault == 1:
            parts.insert(a, parts[b])
        elif fault == 2 and len(parts) > 1:
            del parts[a]
        elif fault == 3:
            parts.insert(a, rng.choice(NEW_EVENTS))
        elif fault == 4:
            parts[a] = parts[a].replace(b'"index":', b'"index":' + rng.choice(INDEXES) + b',"was":', 1)
        elif fault == 5:
            parts[a] = parts[a].replace(rng.choice((b":", b"{", b"}", b'"', b"text", b"type")), b"", 1)
        else:
            at, part = rng.randrange(len(parts[a])), parts[a]
            if fault == 6:
                parts[a] = part[:at] + bytes([part[at] ^ 1 << rng.randrange(8)]) + part[at + 1 :]
            elif fault == 7:
                parts[a] = part[:at] + part[at + rng.randrange(1, 9) :]
            else:
                parts[a] = part[:at] + rng.choice(BYTES) + part[at:]
        stream = b"".join(parts) or b"\n\n"
    return stream


def test_50_000_damaged_streams_give_a_message_or_one_error() -> None:
    """Whatever came: never another exception, and what is a message can be read, echoed and kept (S11.3)."""
    rng, seen = random.Random(20_260), Counter[str]()
    streams = list(SHORT.values())
    for number in range(50_000):
        stream = damaged(rng, streams[number % 2])
        at = rng.randrange(len(stream))
        result = outcome(stream[:at], stream[at:])
        if number % 10 == 0:  # broken streams are cut elsewhere too
            assert outcome(stream) == result, stream
        if isinstance(result[0], str):
            seen[f"{result[0]} {result[1]}"] += 1
            continue
        wire = result[0]
        seen["message"] += 1
        assert json.loads(wire.content_json) == wire.message["content"]
        wire.content_json.encode()
        encode(json.loads(json.dumps(wire.message, allow_nan=False).replace("\\ud", "\\u00")))
        read(wire.message)
    assert seen.keys() >= {
        "message",
        "StreamError None",
        *(f"WireError {r}" for r in ("G1", "G2", "G20", "S11.3", "G7")),
    }
    assert seen["message"] > 1000, seen


# ── an error in mid-stream ───────────────────────────────────────────────────────────────────────────────────────────

MAY_PASS = ("overloaded_error", "api_error", "rate_limit_error", "timeout_error")
SIX = (*MAY_PASS, "invalid_request_error", "permission_error")


def test_n4_an_error_event_at_each_position_of_each_stream() -> None:
    """E23: its type says what it was, and what came before is void (G10)."""
    for stream, kind in itertools.product(STREAMS.values(), SIX):
        parts = events_in(stream)
        error = {"type": "error", "error": {"type": kind, "message": "m"}, "request_id": "req_1"}
        bad = b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n"
        for at in range(len(parts)):
            reader = StreamReader()
            with pytest.raises(StreamError) as caught:
                reader.feed(b"".join([*parts[:at], bad, *parts[at:]]))
            failed = failed_from_stream(caught.value, at=0.0, draw=0.5)
            assert (failed.event, failed.status, failed.request_id) == (kind, 200, "req_1")
            with pytest.raises(StreamError):
                reader.finish()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("kind", SIX)
def test_n4_what_may_pass_is_sent_again_with_the_same_bytes(kind: str, *, is_async: bool) -> None:
    """At every position of a call: the tool runs once, after the reply that came whole."""
    call = replies.tool_use("find", {"number": "7"})
    retries = kind in MAY_PASS
    for at in range(len(events_in(streamed(call)))):
        clock = Clock()
        script = [replies.sse_error(kind, after=at, reply=call), *([call, replies.text("done")] if retries else ())]
        result, emulator = both(
            Loop, "Hi.", script, is_async=is_async, stream=True, clock=clock, sleep=_sleep(clock, is_async=is_async)
        )
        if retries:
            assert events_of(result.records) == [kind, "tool_use", "tool_results", "end_turn"]
            assert emulator.requests[0].raw == emulator.requests[1].raw
        else:
            assert (result.state, result.verdict.reason) == ("failed", kind)
        emulator.done()


def _sleep(clock: Clock, *, is_async: bool) -> Any:
    async def sleep(seconds: float) -> None:
        clock.sleep(seconds)

    return sleep if is_async else clock.sleep


# ── too much, too late, and nothing that was asked for ───────────────────────────────────────────────────────────────


def test_n5_a_line_of_ten_megabytes_and_a_hundred_thousand_tiny_events() -> None:
    big = stream_of(START, BEGIN, delta("é" * 1_700_000), CLOSE, ENDS, STOP)
    assert len(big) > 10_000_000
    reader = StreamReader()
    for at in range(0, len(big), 1400):
        reader.feed(big[at : at + 1400])
    assert len(reader.finish().message["content"][0]["text"]) == 1_700_000
    tiny = stream_of(START, BEGIN) + b"".join([stream_of(delta("x"))] * 100_000) + stream_of(CLOSE, ENDS, STOP)
    assert len(outcome(tiny)[0].message["content"][0]["text"]) == 100_000
    assert list(iter_sse([b":\n\n" * 100_000])) == []


def feed_all(reader: StreamReader, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        reader.feed(chunk)


def test_n5_a_line_that_does_not_end_is_given_up_before_it_has_come_whole() -> None:
    reader, piece = StreamReader(), b"x" * 65_536
    with pytest.raises(WireError) as caught:
        feed_all(reader, [b"data: ", *[piece] * 400])
    assert caught.value.rule == "S11.3"
    assert len(reader._decoder._begun) <= _sse.MAX_EVENT


def test_n6_a_stream_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings count too: each of them takes nothing, all of them take for ever."""
    monkeypatch.setattr(_stream, "MAX_REPLY", 100_000)
    for piece in (stream_of({"type": "ping"}), b": comment\n", b"\n"):
        with pytest.raises(WireError) as caught:
            feed_all(StreamReader(), [piece * 100] * (200_000 // len(piece) // 100 + 1))
        assert caught.value.rule == "S11.3"


class Bomb(httpx2.SyncByteStream):
    """A gzip body of a few hundred kilobytes that is a gigabyte when it is unpacked; `taken` counts its pieces."""

    def __init__(self, piece: bytes) -> None:
        packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        first = packer.compress(piece * ((1 << 20) // len(piece))) + packer.flush(zlib.Z_FULL_FLUSH)
        again = packer.compress(piece * ((8 << 20) // len(piece))) + packer.flush(zlib.Z_FULL_FLUSH)
        self.pieces, self.taken = [first, *[again] * 128], 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.taken += 1
            yield piece


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
def test_n6_a_gzip_bomb_is_given_up_early(content_type: str, *, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the size unpacked; the transport unpacks a megabyte at a time."""
    monkeypatch.setattr(_bodies, "MAX_REPLY", 20 << 20)
    monkeypatch.setattr(_stream, "MAX_REPLY", 20 << 20)
    bombs: list[Bomb] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        bombs.append(Bomb(b": 0123456789abc\n"))
        headers = {"content-type": content_type, "content-encoding": "gzip"}
        return httpx2.Response(200, headers=headers, stream=bombs[-1])

    http = httpx2.Client(transport=httpx2.MockTransport(handle))
    with anthropic.Anthropic(api_key="k", max_retries=0, http_client=http) as client:
        result = run(Plain, "Hi.", client=client, stream=stream)
    assert (result.state, result.verdict.reason) == ("failed", "malformed")
    assert "larger than" in str(result.verdict.evidence)
    assert len(bombs) == 1
    assert bombs[0].taken <= 6


def test_a_packed_stream_is_read_like_any_other() -> None:
    packed = gzip.compress(stream_of(START, BEGIN, delta("Hello."), CLOSE, ENDS, STOP))

    def handle(request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
        return httpx2.Response(200, headers=headers, content=packed)

    http = httpx2.Client(transport=httpx2.MockTransport(handle))
    with anthropic.Anthropic(api_key="k", max_retries=0, http_client=http) as client:
        assert run(Plain, "Hi.", client=client, stream=True).text == "Hello."


WHOLE = START["message"] | {"content": [{"type": "text", "text": "Hello."}], "stop_reason": "end_turn"}
BODIES: dict[str, tuple[bytes, str, str]] = {
    "a whole message": (json.dumps(WHOLE).encode(), "application/json", "end_turn"),
    "HTML": (b"<html><h1>Welcome</h1></html>", "text/html", "malformed"),
    "HTML that says it is JSON": (b"<html></html>", "application/json", "malformed"),
    "an error body": (b'{"type":"error","error":{"type":"api_error","message":"m"}}', "application/json", "malformed"),
    "{}": (b"{}", "application/json", "malformed"),
    "not UTF-8": (b'data: "\xff"\n\n', "text/event-stream", "malformed"),
    "no JSON": (b"data: {\n\n", "text/event-stream", "malformed"),
    "two message_start": (stream_of(START, START), "text/event-stream", "malformed"),
    "no message_start": (stream_of(BEGIN), "text/event-stream", "malformed"),
    "an index gap": (stream_of(START, BEGIN | {"index": 1}), "text/event-stream", "malformed"),
    "a late event": (stream_of(START, ENDS, STOP, BEGIN), "text/event-stream", "malformed"),
    "two message_stop": (stream_of(START, ENDS, STOP, STOP), "text/event-stream", "malformed"),
    "an unknown stop_reason": (
        stream_of(START, BEGIN, CLOSE, ENDS | {"delta": {"stop_reason": "tired"}}, STOP),
        "text/event-stream",
        "unknown_stop",
    ),
    "unknown everything": (
        stream_of(
            START,
            {"type": "news", "x": 1},
            BEGIN | {"content_block": {"type": "hologram", "x": [1]}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "holo_delta", "y": {}}},
            CLOSE,
            ENDS,
            STOP,
        ),
        "application/octet-stream",
        "end_turn",
    ),
    "Amazon's binary form": (b"\0\0\0\x7f", "application/vnd.amazon.eventstream", "malformed"),
    "an empty body": (b"", "text/event-stream", "cut_stream"),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("is_async", [False, True])
def test_n6_what_answers_a_streamed_request(name: str, *, is_async: bool) -> None:
    body, content_type, expected = BODIES[name]
    clock = Clock()
    answer = replies.raw(200, body, {"content-type": content_type})
    script = [answer, *([replies.text("Hello.")] if expected == "cut_stream" else ())]
    result, emulator = both(
        Plain, "Hi.", script, is_async=is_async, stream=True, clock=clock, sleep=_sleep(clock, is_async=is_async)
    )
    assert events_of(result.records)[0] == expected
    assert result.ok == (expected in {"end_turn", "cut_stream"})
    emulator.done()


# ── a reply that begins anew, and those that do not ──────────────────────────────────────────────────────────────────

CUT_CALL = replies.max_tokens(tool=("find", {"number": "7"}))
CALL_7 = replies.tool_use("find", {"number": "7"})
DONE = replies.text("Done.")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([DONE], "end_turn"),
        ([CALL_7, DONE], "tool_use tool_results end_turn"),
        ([replies.pause(), DONE], "pause_turn end_turn"),
        ([replies.max_tokens("Half of"), DONE], "max_tokens end_turn"),  # the text is kept and continued
        ([CUT_CALL, CALL_7, DONE], "max_tokens RESTART tool_use tool_results end_turn"),  # S5.3: it is asked again
        ([replies.sse_error("api_error", after=4), DONE], "api_error RESTART end_turn"),
        ([replies.overloaded(), DONE], "overloaded_error end_turn"),  # nothing was shown
        ([replies.cut(DONE, after=1), DONE], "cut_stream end_turn"),
        ([replies.cut(DONE, after=4), replies.overloaded(), DONE], "cut_stream RESTART overloaded_error end_turn"),
        (
            [replies.cut(DONE, after=4), replies.cut(DONE, after=4), DONE],
            "cut_stream RESTART cut_stream RESTART end_turn",
        ),
    ],
)
def test_a_restart_is_said_where_what_was_shown_is_asked_again(script: list[Reply], expected: str) -> None:
    """Once, when the same is asked again; `iterate` gives it after the move that led there."""
    clock, emulator = Clock(), Emulator(script)
    with emulator.client() as client:
        items = list(iterate(Loop, "Hi.", client=client, deltas=True, clock=clock, sleep=clock.sleep))
    said = [item.event if isinstance(item, Move) else item.kind.upper() for item in items]
    assert " ".join(word for word in said if word not in {"TEXT", "TOOL_INPUT", "OTHER"}) == expected
    emulator.done()


def test_two_histories_that_read_the_same_are_no_restart() -> None:
    """The second state asks with the same words in a history of its own: what the first one said stands."""

    class Two(Workflow):
        first = Claude(model=MODEL, max_tokens=100, prompt="Hi.")
        second = Claude(model=MODEL, max_tokens=100, prompt="Hi.", history="other", fresh=True)
        over = Final()

        first.on(end_turn=second)
        second.on(end_turn=over)

    emulator = Emulator([replies.text("One."), replies.text("Two.")])
    with emulator.client() as client:
        items = list(iterate(Two, "Hi.", client=client, deltas=True))
    assert emulator.requests[0].raw == emulator.requests[1].raw
    assert not [item for item in items if not isinstance(item, Move) and item.kind == "restart"]


class Talk(Workflow):
    """A chat: what is refused is asked otherwise, what does not fit is asked again, what is too long is summarised."""

    asking = Claude(model=MODEL, max_tokens=100)
    listening = Human()
    over = Final()

    asking.on(
        end_turn=listening,
        refusal=[asking.when(rounds_left(1)).then(say("Say it otherwise.")), exits.refused],
        model_context_window_exceeded=[asking.when(rounds_left(1)).then(compact), exits.truncated],
    )
    listening.on(said=[over.when(said_is("/quit")), asking])


class Graded(Workflow):
    """A grade as JSON, asked again where it does not fit."""

    asking = Claude(model=MODEL, max_tokens=100, output={"type": "integer"})
    over = Final()

    asking.on(end_turn=over, invalid_output=[asking.when(rounds_left(1)).then(say("A number.")), exits.failed])


class Helped(Workflow):
    """What is refused goes to another model, in a history of its own."""

    asking = Claude(model=MODEL, max_tokens=100)
    helping = Claude(model="claude-opus-4-8", max_tokens=100, history="other", continues="main")
    over = Final()

    asking.on(end_turn=over, refusal=helping)
    helping.on(end_turn=over)


FULL = replies.context_window("Half of")


@pytest.mark.parametrize(
    ("workflow", "script", "expected"),
    [
        (Talk, [replies.refusal(partial="Take"), DONE], "refusal RESTART end_turn said"),
        (Talk, [replies.refusal(), DONE], "refusal end_turn said"),  # nothing was shown
        (Graded, [replies.text("one"), replies.text("1")], "invalid_output RESTART end_turn"),
        (Helped, [replies.refusal(partial="Take"), DONE], "refusal RESTART end_turn"),
    ],
)
def test_a_restart_is_said_where_what_was_shown_is_in_no_history(
    workflow: type[Workflow], script: list[Reply], expected: str
) -> None:
    """S8.2, S5.2: also where something was said since, or another history answers."""
    emulator = Emulator(script)
    with emulator.client() as client:
        items = list(iterate(workflow, "Hi.", client=client, deltas=True, ask=lambda _: "/quit"))
    assert events_and_restarts(items) == expected
    emulator.done()


def events_and_restarts(items: Iterable[Any]) -> str:
    kinds = (item.event if isinstance(item, Move) else item.kind.upper() for item in items)
    return " ".join(kind for kind in kinds if kind.islower() or kind == "RESTART")


def test_s10_2_neither_the_cut_reply_nor_the_summary_is_what_stands() -> None:
    """The second turn: the history has a finished reply, so it can be summarised."""
    answers = iter(("Go on.", "/quit"))
    script = [replies.text("One."), FULL, replies.compaction("A summary."), replies.text("Two.")]
    emulator = Emulator(script)
    with emulator.client() as client:
        items = list(iterate(Talk, "Hi.", client=client, deltas=True, ask=lambda _: next(answers)))
    expected = "end_turn said model_context_window_exceeded RESTART compaction RESTART end_turn said"
    assert events_and_restarts(items) == expected
    emulator.done()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_that_is_taken_up_again_after_a_cut_begins_with_a_restart(*, is_async: bool) -> None:
    """G20: what was shown before the run was parked is void; after a reply that was kept there is no restart."""
    clock, journal, seen = Clock(), MemoryStore(), list[str]()
    options: dict[str, Any] = {"journal": journal, "stream": True, "clock": clock, "on_delta": heard(seen)}

    def away(seconds: float) -> None:
        raise KeyboardInterrupt

    emulator = Emulator([replies.text("One."), replies.cut(DONE, after=4), DONE])
    with emulator.client() as client:
        first = run(Talk, "Hi.", client=client, ask=lambda _: None, **options)
        assert seen.pop() == "text"
        assert not seen
        cut = resume(Talk, first.run_id, client=client, sleep=away, answer="Go on.", **options)
    assert (cut.verdict.reason, seen) == ("interrupted", ["text"])
    seen.clear()
    if is_async:
        asyncio.run(_taken_up(emulator, first.run_id, {**options, "sleep": nothing}))
    else:
        with emulator.client() as client:
            resume(Talk, first.run_id, client=client, sleep=clock.sleep, **options)
    assert seen == ["restart", "text"]
    emulator.done()


def test_a_run_that_stopped_in_mid_reply_begins_with_a_restart() -> None:
    """B2: the request is sent again, and what was shown of its first answer is void."""
    journal, seen = MemoryStore(), list[str]()

    def left(delta: Delta) -> None:
        if delta.kind == "text":
            raise KeyboardInterrupt

    emulator = Emulator([DONE, DONE])
    with emulator.client() as client:
        cut = run(Plain, "Hi.", client=client, journal=journal, on_delta=left)
        result = resume(Plain, cut.run_id, client=client, journal=journal, on_delta=heard(seen))
    assert (cut.verdict.reason, result.text, seen) == ("interrupted", "Done.", ["restart", "text"])
    emulator.done()


async def nothing(_: float) -> None:
    """Wait no time."""


async def _taken_up(emulator: Emulator, run_id: str, options: dict[str, Any]) -> None:
    async with emulator.async_client() as client:
        await aresume(Talk, run_id, client=client, **options)


def heard(kinds: list[str]) -> Callable[[Delta], None]:
    """Note each kind once in a row."""

    def note(delta: Delta) -> None:
        if kinds[-1:] != [delta.kind] and delta.kind != "other":
            kinds.append(delta.kind)

    return note
