"""The grammar of a streamed reply (G1-G13, G20): events in, deltas for display and one whole message out.

    W wait     message_start → I
    I idle     content_block_start(n) → B(n); message_delta → D
    B block    content_block_delta(n) → B(n); content_block_stop(n) → I
    D delta    message_delta → D; message_stop → F
    F final    nothing but ping

`ping` and unknown events change nothing (G8, G9), an `error` event ends everything (G10), what is not in the table is
a `WireError`. Recorded traffic allows two things more: a `message_start` that is already the whole message and is
followed by `message_stop` (a continuation), and a block that the token limit left open. The SDK checks none of this.

A stream is a message only if it ended with `message_stop` (G20). What the model wrote is kept as it was written: tool
inputs, citations and unknown fields go as raw text into `content_json`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

from attrs import field, frozen

from fsm._errors import ApiError, WireError

from ._blocks import Block, Delta, spelled
from ._rawjson import parse
from ._sse import SseDecoder

_CUT = frozenset({"max_tokens", "model_context_window_exceeded"})  # S5, S9.2: a block may be left open

MAX_REPLY = 128 * 1024 * 1024
"""Bytes of one stream, or of one whole body, decompressed (N6): a reply of 128,000 tokens takes about 25 MB."""

_FIXED = frozenset({"type", "id", "role", "content", "usage", "delta"})  # no message_delta changes these


@frozen
class Wire:
    """One complete reply.

    `message` is the whole message, parsed; `content_json` the JSON text of its `content` as it was written, for the
    echo in the next request (V-echo2). It is "[]" where the answer has no content list: `_reading.read` calls that
    malformed.
    """

    message: dict[str, Any]
    content_json: str = field(repr=False)


class StreamError(ApiError):
    """An `error` event came in a stream that had begun with status 200 (E23). Only `type` says what it was."""

    def __init__(
        self,
        message: str,
        *,
        type: str | None = None,  # noqa: A002 - the API's own word
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.type, self.message, self.code, self.request_id = type, message, code, request_id
        super().__init__(f"the stream ended with an error event, {type or 'of no type'}: {message}")


@frozen
class ErrorBody:
    """The fields of an error envelope (E0), each as far as it is there."""

    type: str | None = None
    message: str | None = None
    code: str | None = None
    request_id: str | None = None


def error_body(body: Any) -> ErrorBody:
    """What an error envelope says; any JSON value gives an answer."""
    if not isinstance(body, dict):
        return ErrorBody()
    error = body.get("error")
    if isinstance(error, str):  # a gateway's form
        error = {"message": error}
    if not isinstance(error, dict):
        error = body
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    kind = error.get("type")
    return ErrorBody(
        _text(kind) if kind != "error" else None,
        _text(error.get("message")),
        _text(code),
        _text(body.get("request_id")),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


class StreamReader:
    """Reads one streamed reply. After an exception it takes nothing more and raises the same again.

    `events` counts those that came whole, pings aside: while it stands still, the stream makes no progress (N5).
    """

    def __init__(self) -> None:
        self.events = 0
        self._size = 0
        self._decoder = SseDecoder()
        self._state: Literal["W", "I", "B", "D", "F"] = "W"
        self._message: dict[str, Any] = {}
        self._given: str | None = None  # JSON text of a content that came whole in message_start
        self._blocks: list[Block] = []
        self._failure: ApiError | None = None

    def feed(self, chunk: bytes) -> list[Delta]:
        """Take bytes as they come from the socket, cut anywhere.

        Returns the deltas that they complete.

        Raises:
            WireError: the grammar is broken (`rule`), or this is no event stream, or one without end (S11.3): see
                `failed_malformed`.
            StreamError: an `error` event came: see `failed_from_stream`.
        """
        if self._failure:
            raise self._failure
        deltas = []
        self._size += len(chunk)
        try:
            if self._size > MAX_REPLY:
                raise too_long()
            for name, data in self._decoder.feed(chunk):
                if delta := self._take(name, _parsed(name, data), data):
                    deltas.append(delta)
        except ApiError as failure:
            self._failure = failure
            raise
        return deltas

    def event(self, name: str, data: str | Mapping[str, Any]) -> Delta | None:
        """Take one event that is already framed: its name and its data, as text or parsed. Otherwise like `feed`."""
        if self._failure:
            raise self._failure
        try:
            if isinstance(data, str):
                return self._take(name, _parsed(name, data), data)
            return self._take(name, data, None)
        except ApiError as failure:
            self._failure = failure
            raise

    @property
    def is_complete(self) -> bool:
        """Whether `message_stop` was seen: nothing but the end may follow."""
        return self._state == "F" and self._failure is None

    def finish(self) -> Wire:
        """The message, when the bytes have ended.

        Raises:
            WireError: G20, the stream was cut: nothing in it counts, whatever stop_reason it named. Send the same
                request again. Or what `feed` raised.
            StreamError: what `feed` raised.
        """
        if self._failure:
            raise self._failure
        if self._state != "F":
            seen = "no event" if self._state == "W" else "no message_stop"
            raise WireError(
                f"the stream ended with {seen}, so nothing in it counts: send the request again", rule="G20"
            )
        if self._given is not None:
            return Wire(self._message, self._given)
        stop_reason = str(self._message["stop_reason"])
        done = [block.finished(stop_reason) for block in self._blocks]
        message = self._message | {"content": [value for value, _ in done]}
        return Wire(message, f"[{','.join(raw for _, raw in done)}]")

    # ── one event ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, name: str, event: Any, data: str | None) -> Delta | None:
        kind = event.get("type", name) if isinstance(event, dict) else name
        if kind != "ping":
            self.events += 1
        if self._state == "F":
            if kind != "ping":
                raise WireError(f"{str(kind)[:40]!r} came after message_stop", rule="G7")
            return None
        if name == "error" or kind == "error":  # a gateway may leave the type out, or send plain text
            found = error_body(event)
            raise StreamError(
                found.message or (data or "")[:2000], type=found.type, code=found.code, request_id=found.request_id
            )
        if not isinstance(event, dict):
            raise WireError(f"the data of the event {name[:40]!r} is no JSON object", rule="S11.3")
        step = self._STEPS.get(kind) if isinstance(kind, str) else None
        return step(self, event, data) if step else None  # G8, G9

    def _start(self, event: dict[str, Any], data: str | None) -> None:
        if self._state != "W":
            raise WireError("message_start came twice: are these two replies mixed into one stream?", rule="G1")
        message = event.get("message")
        if not isinstance(message, dict) or not isinstance(message.get("content"), list):
            raise WireError("message_start holds no message with a content list", rule="G1")
        if message["content"]:
            if not isinstance(message.get("stop_reason"), str):
                raise WireError("message_start has content but no stop_reason", rule="G1")
            self._given = spelled(data, message["content"], "message", "content")
        self._message = dict(message)  # what changes in it must not change in the recording
        self._state = "I"

    def _block_start(self, event: dict[str, Any], data: str | None) -> None:
        self._expect("I", "content_block_start", event)
        block = event.get("content_block")
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise WireError("content_block_start holds no block with a type", rule="G2")
        to = block.get("to") if block["type"] == "fallback" else None
        if isinstance(to, dict) and isinstance(to.get("model"), str):
            self._message["model"] = to["model"]  # G13
        self._blocks.append(Block(block["type"], block, spelled(data, block, "content_block")))
        self._state = "B"

    def _block_delta(self, event: dict[str, Any], data: str | None) -> Delta | None:
        self._expect("B", "content_block_delta", event)
        block, index, delta = self._blocks[-1], len(self._blocks) - 1, event.get("delta")
        kind = delta.get("type") if isinstance(delta, dict) else None
        if not isinstance(delta, dict) or not isinstance(kind, str):
            raise WireError("content_block_delta holds no delta with a type", rule="G3")
        return block.add(index, delta, data)

    def _block_stop(self, event: dict[str, Any], _data: str | None) -> None:
        self._expect("B", "content_block_stop", event)
        self._state = "I"

    def _message_delta(self, event: dict[str, Any], _data: str | None) -> None:
        delta, usage = event.get("delta"), event.get("usage")
        if not isinstance(delta, dict) or not isinstance(usage, dict | None):
            raise WireError("message_delta holds no delta object, or a usage that is none", rule="G5")
        if self._state == "W":
            raise WireError("message_delta came before message_start", rule="G1")
        if self._state == "B" and str(delta.get("stop_reason")) not in _CUT:
            raise WireError("message_delta came while a content block was open", rule="G2")
        ends = {name: delta[name] for name in ("stop_reason", "stop_sequence", "stop_details") if name in delta}
        others = {name: value for name, value in (event | delta).items() if name not in _FIXED and name not in ends}
        self._message |= {name: value for name, value in others.items() if value is not None} | ends  # G6
        if usage:  # G5: cumulative, so it overwrites; a null says nothing
            known = self._message.get("usage")
            known = known if isinstance(known, dict) else {}
            self._message["usage"] = known | {
                name: value for name, value in usage.items() if value is not None or name not in known
            }
        self._state = "D"

    def _stop(self, _event: dict[str, Any], _data: str | None) -> None:
        if self._state == "W":
            raise WireError("message_stop came before message_start", rule="G1")
        if self._state == "B":
            raise WireError("message_stop came while a content block was open", rule="G2")
        if not isinstance(self._message.get("stop_reason"), str):
            raise WireError("message_stop came, but no message_delta named a stop_reason", rule="G5")
        self._state = "F"

    def _expect(self, state: Literal["I", "B"], kind: str, event: Mapping[str, Any]) -> None:
        """The event of a block is due in this state, and its index is the next, or that of the open block."""
        if self._state == "W":
            raise WireError(f"{kind} came before message_start", rule="G1")
        if self._state == "D":
            raise WireError(f"{kind} came after message_delta", rule="G5")
        if self._given is not None:
            raise WireError(f"{kind} came after a message_start that was already the whole message", rule="G2")
        if self._state != state:
            raise WireError(f"{kind} came while {'a' if self._state == 'B' else 'no'} block was open", rule="G2")
        due, index = len(self._blocks) - (state == "B"), event.get("index")
        if index != due or isinstance(index, bool):
            raise WireError(f"{kind} has the index {str(index)[:40]}, due is {due}", rule="G2")

    _STEPS: ClassVar[Mapping[str, Callable[[StreamReader, dict[str, Any], str | None], Delta | None]]] = {
        "message_start": _start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _stop,
    }


def _parsed(name: str, data: str) -> Any:
    """The data of an event; an `error` event of a gateway may hold plain text."""
    try:
        return parse(data)
    except ValueError as error:
        if name != "error":
            raise WireError(f"the data of the event {name[:40]!r} is no JSON: {error}", rule="S11.3") from None
        return None


def too_long() -> WireError:
    """The error for a body that does not end: no reply is so long, so this is an attack or a fault."""
    return WireError(f"the answer is larger than {MAX_REPLY} bytes", rule="S11.3")


# ── recordings ───────────────────────────────────────────────────────────────────────────────────────────────────────


def message_from_events(events: Iterable[Mapping[str, Any]]) -> Wire:
    """The message of recorded events: each the event itself, or `{"event": name, "data": object or JSON text}`.

    Raises:
        WireError: as `StreamReader`; number spelling and duplicate keys are lost where the recording was parsed.
        StreamError: as `StreamReader`.
    """
    reader = StreamReader()
    for event in events:
        framed = "data" in event and "type" not in event
        data = event["data"] if framed else event
        reader.event(str(event.get("event") or "message") if framed else "message", data)
    wire = reader.finish()
    spelled(None, {name: value for name, value in wire.message.items() if name != "content"})
    return wire


def split_streams(events: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Yields the streams of a recording that glued several together: each ends with its `message_stop`."""
    stream: list[Mapping[str, Any]] = []
    for event in events:
        stream.append(event)
        data = event.get("data", event)
        if isinstance(data, Mapping) and data.get("type") == "message_stop":
            yield stream
            stream = []
    if stream:
        yield stream
