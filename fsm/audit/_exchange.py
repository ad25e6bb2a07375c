"""One recorded line becomes an exchange: the endpoint, the request, and what came back, as the wire reader sees it.

    request            the body that was sent, or null where a recording has replies only
    method, url        which endpoint; where there is no url, the bodies tell
    status, headers    of the answer; the status may be null
    response           the body: JSON, or text
    sse_events         or the events of a stream, possibly several streams glued together
    response_lines     or the results of a batch

A bare reply or error of the API, and a line of a batch's result file, are exchanges without a request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen

from fsm._alphabet import ERROR_TYPES
from fsm._encoded import encode
from fsm._errors import ApiError, WireError
from fsm._events import Failed
from fsm._wire import (
    StreamError,
    StreamReader,
    Wire,
    clean,
    failed_from_response,
    failed_from_stream,
    failed_malformed,
    message_from_events,
    read_message,
    split_streams,
)
from fsm._wire._rawjson import parse, raw_member

__all__ = ["COUNTING", "MESSAGES", "Exchange", "Unread", "exchange_of", "is_exchange"]

MESSAGES, COUNTING = "messages", "count_tokens"

_KEYS = frozenset({"response", "sse_events", "response_lines", "request"})
_COUNT = re.compile(r"/messages/count_tokens/?$|/count-tokens:rawPredict$")
_TALK = re.compile(r"/messages/?$|/invoke(-with-response-stream)?$|:(streamR|r)awPredict$")
_RESULTS = re.compile(r"/messages/batches/[^/]+/results/?$")
_IDS = re.compile(r"^[^/]*\d[^/]*$")
_OK = range(200, 300)
_BAD = range(400, 600)
_BATCH_ENDS = frozenset({"canceled", "expired"})


@frozen
class Unread:
    """Why something could not be read: `reason` is one of a few, `detail` says more."""

    reason: str
    detail: str = ""


@frozen
class Exchange:
    """What one line records.

    `endpoint` is `MESSAGES`, `COUNTING`, or for anything else what a person calls it. `request` is None where none was
    recorded. `came` holds each reply, failure, or what could not be read, in order; a batch result that was not made
    is its word (`canceled`, `expired`).
    """

    endpoint: str
    request: Mapping[str, Any] | None
    status: int | None
    came: tuple[Wire | Failed | Unread | str, ...]
    recorded: tuple[Any, ...] = field(default=(), kw_only=True)  # content of each reply, where it came as one value

    @property
    def is_accepted(self) -> bool:
        """Whether the API answered 2xx."""
        return self.status in _OK


def is_exchange(fields: Mapping[str, Any]) -> bool:
    """Whether the object of a line is one of the forms that `exchange_of` takes."""
    if not _KEYS.isdisjoint(fields):
        return True
    return fields.get("type") in ("message", "error") or ("custom_id" in fields and "result" in fields)


def exchange_of(text: str, fields: Mapping[str, Any]) -> Exchange | Unread:
    """Read a line; `text` is the whole of it, `fields` its object."""
    if _KEYS.isdisjoint(fields):
        return _bare(text, fields)
    status = fields.get("status")
    if status is not None and type(status) is not int:
        return Unread("the status is no number", clean(str(status), 40))
    request = fields.get("request")
    if isinstance(request, str):
        try:
            request = parse(request)
        except ValueError as error:
            return Unread("the request is text that is no JSON", str(error))
    if request is not None and not isinstance(request, Mapping):
        return Unread("the request is no JSON object", type(request).__name__)
    endpoint = _endpoint(fields, request)
    if endpoint not in {MESSAGES, COUNTING} and not fields.get("response_lines"):
        return Exchange(endpoint, request, status, ())
    if endpoint == COUNTING and status in _OK:
        return Exchange(endpoint, request, status, ())
    came = tuple(_came(text, fields, status))
    bodies = tuple(_bodies(fields)) if len(came) == 1 and isinstance(came[0], Wire) else ()
    return Exchange(MESSAGES if endpoint != COUNTING else endpoint, request, status, came, recorded=bodies)


def _bare(text: str, fields: Mapping[str, Any]) -> Exchange:
    """A reply or an error of the API by itself, or a line of a batch's results."""
    if "custom_id" in fields:
        return Exchange(MESSAGES, None, None, (_of_result(fields.get("result"), text),))
    came = _of_body(fields, text, None, {})
    content = (fields.get("content"),) if isinstance(came, Wire) else ()
    return Exchange(MESSAGES, None, None, (came,), recorded=content)


def _endpoint(fields: Mapping[str, Any], request: Mapping[str, Any] | None) -> str:
    url, method = fields.get("url"), fields.get("method")
    method = method if isinstance(method, str) else "POST"
    if isinstance(url, str) and url:
        try:
            path = urlsplit(url).path
        except ValueError:
            path = url
        if method == "POST" and _COUNT.search(path):
            return COUNTING
        if (method == "POST" and _TALK.search(path)) or _RESULTS.search(path):
            return MESSAGES
        if not _looks_like_talk(fields, request):
            parts = ["…" if _IDS.match(part) and part not in {"v1", "v2"} else part for part in path.split("/")]
            return clean(f"{method} {'/'.join(parts)}", 80)
        return MESSAGES
    if request is None or "messages" in request or _looks_like_talk(fields, request):
        return MESSAGES
    return clean(f"{method} with the keys {', '.join(sorted(map(str, request))[:5])}", 80)


def _looks_like_talk(fields: Mapping[str, Any], request: Mapping[str, Any] | None) -> bool:
    """An address that we do not know: a gateway has its own."""
    body = fields.get("response")
    is_reply = isinstance(body, Mapping) and body.get("type") == "message"
    asks = request is not None and isinstance(request.get("messages"), list)
    return asks and (is_reply or isinstance(fields.get("sse_events"), list))


# ── what came back ───────────────────────────────────────────────────────────────────────────────────────────────────


def _came(text: str, fields: Mapping[str, Any], status: int | None) -> Iterator[Any]:
    headers = _headers(fields.get("headers"))
    events = fields.get("sse_events")
    if isinstance(events, list):
        yield from _of_events(events)
        return
    if isinstance(lines := fields.get("response_lines"), list):
        yield from (_of_result(line, None) for line in lines) if lines else [Unread("the batch has no results")]
        return
    body = fields.get("response")
    yield _of_body(body, raw_member(text, "response") if isinstance(body, Mapping) else "", status, headers)


def _bodies(fields: Mapping[str, Any]) -> Iterator[Any]:
    body = fields.get("response")
    if isinstance(body, Mapping) and not isinstance(fields.get("sse_events"), list):
        yield body.get("content")


def _headers(found: Any) -> dict[str, str]:
    """Header values as text; some recordings keep lists."""
    if not isinstance(found, Mapping):
        return {}
    first = ((name, value[0] if isinstance(value, list) and value else value) for name, value in found.items())
    return {str(name).lower(): value for name, value in first if isinstance(value, str)}


def _of_body(body: Any, raw: str, status: int | None, headers: Mapping[str, str]) -> Wire | Failed | Unread:
    """The answer of a request that was not streamed, or whose stream was kept as text."""
    data = body.encode("utf-8", "replace") if isinstance(body, str) else raw.encode()
    if status is not None and status in _BAD:
        return failed_from_response(status, headers, data, at=0.0, draw=0.5)
    if status is not None and status not in _OK:
        return Unread("the status is neither 2xx nor an error", str(status))
    if body is None:
        return Unread("no response was recorded")
    if isinstance(body, str) and _is_stream(headers, body):
        return _of_text(data)
    if status is None and isinstance(body, Mapping) and body.get("type") != "message":
        return _without_status(body, data)
    try:
        return read_message(data, headers.get("content-type") if isinstance(body, str) else None)
    except WireError as error:
        return _unread(error)


def _without_status(body: Mapping[str, Any], data: bytes) -> Failed | Unread:
    error = body.get("error")
    kind = error.get("type") if isinstance(error, Mapping) else None
    if body.get("type") == "error" and isinstance(kind, str) and kind in ERROR_TYPES:
        return failed_from_response(0, {}, data, at=0.0, draw=0.5)  # its type alone says which one
    if "completion" in body:
        return Unread("a reply of the old Text Completions API")
    return Unread("the response is no Messages reply", f"type is {clean(repr(body.get('type')), 40)}")


def _is_stream(headers: Mapping[str, str], body: str) -> bool:
    return "event-stream" in headers.get("content-type", "") or body.startswith(("event:", "data:"))


def _of_text(data: bytes) -> Wire | Failed | Unread:
    reader = StreamReader()
    try:
        reader.feed(data)
        return reader.finish()
    except ApiError as error:
        return _failed(error)


def _of_events(events: Sequence[Any]) -> Iterator[Wire | Failed | Unread]:
    if not all(isinstance(event, Mapping) for event in events):
        yield Unread("a recorded event is no JSON object")
        return
    for stream in list(split_streams(events)) or [[]]:
        try:
            yield message_from_events(stream)
        except ApiError as error:
            yield _failed(error)


def _of_result(result: Any, line: str | None) -> Wire | Failed | Unread | str:
    """One result of a batch (S13); `line` is the text of the line where the result stands by itself."""
    kind = result.get("type") if isinstance(result, Mapping) else None
    if isinstance(kind, str) and kind in _BATCH_ENDS:
        return kind
    if kind == "succeeded" and isinstance(message := result.get("message"), Mapping):
        try:
            return read_message(encode(message) if line is None else raw_member(line, "result", "message").encode())
        except (ValueError, WireError) as error:
            return Unread("a batch result is no message", str(error))
    if kind == "errored" and isinstance(refusal := result.get("error"), Mapping):
        try:
            body = encode(refusal if "error" in refusal else {"type": "error", "error": refusal})
        except ValueError as broken:
            return Unread("a batch result is no message", str(broken))
        return failed_from_response(0, {}, body, at=0.0, draw=0.5)
    return Unread("a batch result of an unknown type", clean(str(kind), 40))


def _failed(error: ApiError) -> Failed | Unread:
    if isinstance(error, StreamError):
        return failed_from_stream(error, at=0.0, draw=0.5)
    if isinstance(error, WireError) and error.rule == "G20":
        return failed_malformed(error, at=0.0, draw=0.5)
    return _unread(error)


def _unread(error: ApiError) -> Unread:
    rule = error.rule if isinstance(error, WireError) else ""
    return Unread("the stream breaks the grammar" if rule.startswith("G") else "no message came", f"{error} ({rule})")
