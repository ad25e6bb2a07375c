"""What `fsm classify` is given: its format is seen by its first bytes, and it is read line by line.

A Messages reply or an error body, plain or pretty-printed; a recorded SSE stream; the result of `claude -p` as `json`
or `stream-json`; the results of a Message Batch. Several of them may stand in one file, one on each line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from attrs import define, field

from fsm._errors import WireError
from fsm._terminal import one_line
from fsm._wire import MAX_REPLY, StreamError, StreamReader, failed_from_stream, failed_malformed

from ._errors import CommandError
from ._outcomes import Outcome, of_batch_item, of_claude, of_error, of_failure, of_message, outcome_of

FORMATS = ("auto", "message", "sse", "claude", "stream-json", "batch")

_LONGEST = 64 * 1024 * 1024  # bytes of one line
_BOM = b"\xef\xbb\xbf"
_SSE = (b"event:", b"data:", b":", b"id:", b"retry:")
_LINES = frozenset({"system", "assistant", "user", "stream_event", "rate_limit_event", "tool_progress"})


class UnreadableError(CommandError):
    """It is none of the formats, or not to its end; the message names the line and is fit to be shown."""


def outcomes(stream: IO[bytes], wanted: str = "auto") -> Iterator[Outcome]:
    """The outcomes in a file, one after the other as they are read.

    Raises:
        UnreadableError: what could be read before it has been yielded.
    """
    lines = _numbered(stream)
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        msg = "it is empty: claude, curl or the SDK wrote nothing"
        raise UnreadableError(msg)
    is_stream = first[1].lstrip().startswith(_SSE)
    if wanted == "sse" and not is_stream:
        msg = f"line {first[0]}: no server-sent events begin like this"
        raise UnreadableError(msg)
    if is_stream and wanted in {"auto", "sse"}:
        yield from _streams(_chain(first, lines))
    else:
        yield from _values(_chain(first, lines), wanted)


def _chain(first: tuple[int, bytes], rest: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    yield first
    yield from rest


def _numbered(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := stream.readline(_LONGEST + 1):
        number += 1
        if len(line) > _LONGEST:
            msg = f"line {number} is longer than {_LONGEST >> 20} MB"
            raise UnreadableError(msg)
        yield number, line.removeprefix(_BOM) if number == 1 else line


# --- server-sent events --------------------------------------------------------------------------------------------


def _streams(lines: Iterator[tuple[int, bytes]]) -> Iterator[Outcome]:
    """One outcome for each stream: a recording may glue several together, each begins with its `message_start`."""
    reader, count, begun, is_void = StreamReader(), 1, False, False
    for _, line in lines:
        if line.split(b":", 1)[-1].strip() == b"message_start" and line.startswith(b"event:"):
            if begun:
                yield _of_stream(count, reader)
                reader, count, is_void = StreamReader(), count + 1, False
            begun = True
        try:
            if not is_void:
                reader.feed(line)
        except (WireError, StreamError):
            is_void = True  # to the next stream; `finish` says again what it was
    yield _of_stream(count, reader)


def _of_stream(count: int, reader: StreamReader) -> Outcome:
    name = f"stream {count}"
    try:
        reader.feed(b"\n\n")  # the last event of a recording may lack its blank line
        return of_message(name, reader.finish().message)
    except StreamError as error:
        return of_failure(name, failed_from_stream(error, at=0.0, draw=0.0))
    except WireError as error:
        return of_failure(name, failed_malformed(error, at=0.0, draw=0.0))


# --- JSON ----------------------------------------------------------------------------------------------------------


def _values(lines: Iterator[tuple[int, bytes]], wanted: str) -> Iterator[Outcome]:
    number, line = next(lines)
    session = _Session()
    try:
        value = _parsed(line, number)
    except UnreadableError as error:
        if not line.lstrip().startswith((b"{", b"[")):
            raise UnreadableError(f"{error}; {_WANTED}") from None
        value = _whole(line, lines)  # pretty-printed over several lines
    yield from _of_value(value, number, wanted, session)
    for number, line in lines:
        if line.strip():
            yield from _of_value(_parsed(line, number), number, wanted, session)
    yield from session.end()


def _whole(line: bytes, lines: Iterator[tuple[int, bytes]]) -> Any:
    parts, size = [line], len(line)
    for _, more in lines:
        parts.append(more)
        size += len(more)
        if size > MAX_REPLY:
            msg = f"one JSON value of more than {MAX_REPLY >> 20} MB"
            raise UnreadableError(msg)
    return _parsed(b"".join(parts), 1)


def _parsed(text: bytes, number: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        msg = f"line {number + error.lineno - 1}, column {error.colno}: no JSON ({error.msg})"
        raise UnreadableError(msg) from None
    except (ValueError, RecursionError) as error:
        msg = f"line {number}: no JSON ({one_line(error, 100)})"
        raise UnreadableError(msg) from None


_WANTED = "it takes a Messages response, an SSE stream, claude -p --output-format json or stream-json, or batch results"


def _of_value(value: Any, number: int, wanted: str, session: _Session) -> Iterator[Outcome]:
    if isinstance(value, list):  # claude -p --output-format json --verbose writes all its lines as one array
        for item in value:
            yield from _of_value(item, number, wanted, session)
        return
    shape = _shape(value)
    if shape is None or (wanted not in {"auto", shape} and not (wanted == "claude" and shape == "stream-json")):
        what = f"has the type {one_line(repr(value.get('type')), 60)}" if isinstance(value, dict) else "is no object"
        asked = _WANTED if wanted == "auto" else f"--format {wanted} was asked for"
        msg = f"line {number}: the JSON value {what}, which cannot be judged; {asked}"
        raise UnreadableError(msg)
    name = f"line {number}"
    if shape == "batch":
        yield of_batch_item(value)
    elif shape == "message":
        yield of_message(name, value) if value.get("type") == "message" else of_error(name, value)
    elif shape == "claude":
        yield session.result(value)
    else:
        session.hear(value)


def _shape(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    kind = value.get("type")
    if "custom_id" in value and "result" in value:
        return "batch"
    if kind in {"message", "error"} or (kind is None and isinstance(value.get("error"), dict)):
        return "message"
    if kind == "result":
        return "claude"
    return "stream-json" if kind in _LINES or "session_id" in value or "sessionId" in value else None


@define
class _Session:
    """The lines of one run of `claude`, up to its results. Those of sub-agents say nothing of how it ends."""

    heard: bool = False
    results: int = 0
    seen: dict[str, Any] = field(factory=dict)

    def hear(self, line: Mapping[str, Any]) -> None:
        self.heard = True
        if line.get("type") != "assistant" or line.get("parent_tool_use_id") is not None or line.get("isSidechain"):
            return
        message = line.get("message")
        stop = message.get("stop_reason") if isinstance(message, dict) else None
        found = {
            "stop_reason": stop,
            "error": line.get("error"),
            "request_id": line.get("request_id", line.get("requestId")),
        }
        self.seen = {key: value for key, value in found.items() if isinstance(value, str)}

    def result(self, value: Mapping[str, Any]) -> Outcome:
        self.results += 1
        seen, self.seen = self.seen, {}
        return of_claude("claude" if self.results == 1 else f"claude, turn {self.results}", value, seen)

    def end(self) -> Iterator[Outcome]:
        if self.heard and not self.results:
            yield outcome_of("claude", "no_result", stop_reason=self.seen.get("stop_reason"))
