"""Bytes of the API become events of the machine: a reply, or a failure by its type (E0-E28).

Pure functions over what the transport gave; no socket and no clock. A whole body is read here, a stream in `_stream`.
"""

from __future__ import annotations

from typing import NoReturn

from fsm._errors import WireError

from ._blocks import Delta
from ._failures import (
    LONGEST_MESSAGE,
    LONGEST_WAIT,
    clean,
    failed_from_response,
    failed_from_stream,
    failed_malformed,
    retry_after,
    without,
)
from ._rawjson import members
from ._sse import iter_sse
from ._stream import (
    MAX_REPLY,
    StreamError,
    StreamReader,
    Wire,
    message_from_events,
    split_streams,
    too_long,
)

__all__ = [
    "LONGEST_MESSAGE",
    "LONGEST_WAIT",
    "MAX_REPLY",
    "Delta",
    "StreamError",
    "StreamReader",
    "Wire",
    "clean",
    "failed_from_response",
    "failed_from_stream",
    "failed_malformed",
    "iter_sse",
    "message_from_events",
    "read_message",
    "retry_after",
    "split_streams",
    "too_long",
    "without",
]

_BOM = b"\xef\xbb\xbf"


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
