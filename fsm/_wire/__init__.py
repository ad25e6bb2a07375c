"""Bytes of the API become events of the machine: a reply, or a failure by its type (E0-E28).

Pure functions over what the transport gave; no socket and no clock. A whole body is read here, a stream in `_stream`.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping
from math import isnan
from typing import NoReturn

from fsm._alphabet import ERROR_TYPES, SPEND_CAPS, event_of_status
from fsm._errors import WireError
from fsm._events import Failed

from ._blocks import Delta
from ._rawjson import members, parse
from ._sse import iter_sse
from ._stream import (
    ErrorBody,
    StreamError,
    StreamReader,
    Wire,
    error_body,
    message_from_events,
    split_streams,
)

__all__ = [
    "Delta",
    "StreamError",
    "StreamReader",
    "Wire",
    "failed_from_response",
    "failed_from_stream",
    "failed_malformed",
    "iter_sse",
    "message_from_events",
    "read_message",
    "split_streams",
]

LONGEST_WAIT = 4_294_967.0
"""Seconds, 49.7 days: what a longer `retry-after` is cut to, as the SDK does (E21); the caps of a run are far below."""

LONGEST_MESSAGE = 2000
"""Characters of an error's message that are kept."""

_BOM = b"\xef\xbb\xbf"
_OK_BELOW = 400

# What a terminal or a log would act upon: control characters, line and direction marks, halves of surrogate pairs.
_BREAKS = re.compile(r"[\t\n\r\x0b\x0c\x85\u2028\u2029]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")

# E1a: a 400 that no change of the request can mend, known by how its text begins.
_ACCOUNT = (
    ("You have reached your specified API usage limits", "usage_limit"),
    ("Your credit balance is too low to access the Anthropic API", "low_credit"),
)


def read_message(body: bytes, content_type: str | None = None) -> Wire:
    """Read the whole body of a 2xx answer, parsing it once.

    Params: `body` as it came, decompressed; `content_type` the header of that name.
    Returns the message. An object that is no message is returned too, for `_reading.read` to say what it is.

    Raises:
        WireError: S11.3, HTML, nothing, or no JSON object. Make it an event with `failed_malformed`.
    """
    if content_type is not None and "html" in content_type.lower():
        _not_a_message("HTML")
    body = body.removeprefix(_BOM)
    try:
        text = body.decode()
        found = members(text)
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are two of them
        return _not_a_message(_kind_of(body, error))
    message, content = {}, "[]"
    for key, value, start, end in found:
        message[key] = value
        if key == "content":  # of two, the last one counts, as it does in `message`
            content = text[start:end] if type(value) is list else "[]"
    return Wire(message, content)


def _not_a_message(found: str) -> NoReturn:
    """Raise the error for a body that is no message (S11.3), with what to look at."""
    raise WireError(
        f"the answer is {found}, not a message: a proxy or gateway may have answered, look at the base URL",
        rule="S11.3",
    )


def _kind_of(body: bytes, error: ValueError) -> str:
    begin = body[:200].strip().lower()
    if not body.strip():
        return "empty"
    if begin.startswith(b"<"):
        return "HTML or XML"
    if begin.startswith((b"event:", b"data:", b":")):
        return "an event stream, which was not asked for"
    return f"no JSON object ({clean(str(error), 200)})"


def failed_from_response(
    status: int, headers: Mapping[str, str], body: bytes, *, at: float, draw: float, seconds: float = 0.0
) -> Failed:
    """The event of an answer that is no 2xx.

    Params: `at` seconds since the epoch, `draw` in [0, 1) for the jitter of a back-off, `seconds` how long it took.
    Returns the failure, classified by `error.type` and `error_code` first, then by status (E0-E18); any bytes give one.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        parsed = parse(body.decode("utf-8-sig"))
    except ValueError:
        parsed = None
    found = error_body(parsed)
    said = found.message or _unnamed(status, body)
    return Failed(
        at,
        _event_of(found, status),
        clean(said),
        status=status,
        type=_short(found.type),
        code=_short(found.code) or _account(status, found),
        retry_after=retry_after(lower, at) if status >= _OK_BELOW else None,
        request_id=_short(lower.get("request-id") or found.request_id),
        draw=draw,
        seconds=seconds,
    )


def failed_from_stream(
    error: StreamError, *, at: float, draw: float, seconds: float = 0.0, request_id: str | None = None
) -> Failed:
    """The event of an `error` event in a stream: its status was 200, so only its type counts (E23).

    Params: as in `failed_from_response`; `request_id` from the header, which wins over that of the event.
    """
    found = ErrorBody(error.type, error.message, error.code)
    return Failed(
        at,
        _event_of(found, 500),  # an unknown type in mid-stream is the server's fault, and may pass
        clean(error.message),
        status=200,
        type=_short(error.type),
        code=_short(error.code),
        request_id=_short(request_id or error.request_id),
        draw=draw,
        seconds=seconds,
    )


def failed_malformed(
    error: WireError,
    *,
    at: float,
    draw: float,
    seconds: float = 0.0,
    status: int | None = 200,
    request_id: str | None = None,
) -> Failed:
    """The event of bytes that are no message: `cut_stream` if the stream only ended too early (G20), else `malformed`.

    Params: as in `failed_from_response`; `status` of the answer, None if there was none.
    """
    return Failed(
        at,
        "cut_stream" if error.rule == "G20" else "malformed",
        clean(f"{error} ({error.rule})"),
        status=status,
        request_id=_short(request_id),
        draw=draw,
        seconds=seconds,
    )


def retry_after(headers: Mapping[str, str], at: float) -> float | None:
    """Seconds that the answer asks to wait, None where it says nothing usable (E21, E26).

    Params: `headers` with lower-case names, of an error: answers with status 200 carry the header too, and mean nothing
    by it; `at` is now, in seconds since the epoch, for the form with a date.
    """
    wait = _number(headers.get("retry-after-ms"))
    if wait is not None:
        wait /= 1000
    else:
        given = headers.get("retry-after")
        wait = _number(given)
        if wait is None and given is not None:
            date = _date(given)
            wait = None if date is None else date - at
    return min(wait, LONGEST_WAIT) if wait is not None and wait > 0 else None


def clean(text: str, limit: int = LONGEST_MESSAGE) -> str:
    """The text without what a terminal would act upon, on one line, shortened to `limit` characters."""
    flat = _CONTROL.sub("", _BREAKS.sub(" ", text[: 2 * limit])).strip()
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def _short(text: str | None) -> str | None:
    return clean(text, 200) or None if text else None


def _event_of(found: ErrorBody, status: int) -> str:
    if found.type in ERROR_TYPES:
        return str(found.type)
    return "rate_limit_error" if found.code in SPEND_CAPS else event_of_status(status)


def _account(status: int, found: ErrorBody) -> str | None:
    bad_request = 400
    if status == bad_request and found.message:
        for begin, code in _ACCOUNT:
            if found.message.startswith(begin):
                return code
    return None


def _unnamed(status: int, body: bytes) -> str:
    """A message for an answer that is no error of the API: a gateway's page, or nothing."""
    text = body[: 4 * LONGEST_MESSAGE].decode("utf-8", "replace").strip()
    if not text:
        return f"HTTP {status} with an empty body"
    text = re.sub(r"<(script|style)\b.*?</\1\s*>|<[^<>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    return f"HTTP {status}, and the body is no error of the API: {' '.join(text.split())[:500]}"


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text and "_" not in text else None
    except ValueError:
        return None
    return None if value is None or isnan(value) else value


def _date(text: str) -> float | None:
    """An HTTP date as seconds since the epoch."""
    from email.utils import parsedate_tz  # a slow import, for a rare form of a rare header

    try:
        parts = parsedate_tz(text)
        return None if parts is None else timegm((*parts[:8], 0)) - (parts[9] or 0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
