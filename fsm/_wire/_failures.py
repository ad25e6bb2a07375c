"""A request that gave no reply, as an event: by its error type, its code, its status, in this order (E0-E28).

Pure functions over what the transport gave. What goes into an event goes into the journal, the log and the verdict, so
it is made fit to be shown here: on one line, shortened, without what steers a terminal, without keys (X7, X8).
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterable, Mapping
from math import isnan
from typing import Any

from attrs import evolve

from fsm._alphabet import ERROR_TYPES, SPEND_CAPS, event_of_status
from fsm._errors import WireError
from fsm._events import Failed
from fsm._redact import HIDDEN, redact_secrets

from ._rawjson import parse
from ._stream import ErrorBody, StreamError, error_body

LONGEST_WAIT = 4_294_967.0
"""Seconds, 49.7 days: what a longer `retry-after` is cut to, as the SDK does (E21); the caps of a run are far below."""

LONGEST_MESSAGE = 2000
"""Characters of an error's message that are kept."""

_REFUSED = 400
_SHOULD_RETRY = {"true": True, "false": False}

# What a terminal or a log would act upon: control characters, line and direction marks, halves of surrogate pairs.
_BREAKS = re.compile(r"[\t\n\r\x0b\x0c\x85\u2028\u2029]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")

# `redact_secrets` knows keys by their form; `without` takes the client's own out by their value.
_SHORTEST_SECRET = 6  # what is shorter is no key, and stands in ordinary words

# E1a, and a prompt that is too long: a 400 without an error code, known by how its text begins. Limits come as 429 too.
_SAID_IN_WORDS = frozenset({"invalid_request_error", "rate_limit_error"})
_BY_TEXT = (
    ("You have reached your specified API usage limits", "usage_limit"),
    ("Your credit balance is too low to access the Anthropic API", "low_credit"),
    ("prompt is too long", "prompt_too_long"),
    ("input length and `max_tokens` exceed context limit", "prompt_too_long"),
)


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
    event = _event_of(found, status)
    is_error = status >= _REFUSED
    if not is_error and event == "malformed":
        found = ErrorBody(message=_redirected(status, lower.get("location")), code="redirect")
    return Failed(
        at,
        event,
        clean(found.message or _unnamed(status, body)),
        status=status,
        type=_short(found.type),
        code=_code(event, found),
        retry_after=retry_after(lower, at) if is_error else None,
        should_retry=_SHOULD_RETRY.get(lower.get("x-should-retry", "")) if is_error else None,
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
    event = _event_of(found, 500)  # an unknown type in mid-stream is the server's fault, and may pass
    return Failed(
        at,
        event,
        clean(error.message),
        status=200,
        type=_short(error.type),
        code=_code(event, found),
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
    """The text on one line, without keys and what a terminal would act upon, shortened to `limit` characters."""
    flat = _CONTROL.sub("", _BREAKS.sub(" ", text[: 2 * limit])).strip()
    flat = redact_secrets(flat)
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def without(failed: Failed, secrets: Iterable[str]) -> Failed:
    """The same failure without these texts: a gateway may echo the key, an exception may quote the header (X7).

    Params: `secrets` the keys, tokens and header values of the client; those under 6 characters are passed over.
    """
    known = sorted({s.strip() for s in secrets if len(s.strip()) >= _SHORTEST_SECRET}, key=len, reverse=True)

    def hidden(text: str | None) -> str | None:
        for secret in known:
            text = text.replace(secret, HIDDEN) if text else text
        return text

    fields = {"message": failed.message, "type": failed.type, "code": failed.code, "request_id": failed.request_id}
    changed: dict[str, Any] = {name: now for name, text in fields.items() if (now := hidden(text)) != text}
    return evolve(failed, **changed) if changed else failed


def _short(text: str | None) -> str | None:
    return clean(text, 200) or None if text else None


def _event_of(found: ErrorBody, status: int) -> str:
    if found.type in ERROR_TYPES:
        return str(found.type)
    return "rate_limit_error" if found.code in SPEND_CAPS else event_of_status(status)


def _code(event: str, found: ErrorBody) -> str | None:
    """The code of the API, or ours for a text that says the same (E1a)."""
    if found.code:
        return _short(found.code)
    if event in _SAID_IN_WORDS and found.message:
        for begin, code in _BY_TEXT:
            if found.message.startswith(begin):
                return code
    return None


def _redirected(status: int, location: str | None) -> str:
    """Where a redirect pointed, without what stands before and after the host: either may hold a secret."""
    found = re.match(r"(https?)://(?:[^/?#@]*@)?([^/?#@]+)", location or "", re.IGNORECASE)
    to = f" to {found[1].lower()}://{found[2]}" if found else ""
    return f"HTTP {status}, a redirect{to}, which is not followed: nothing goes to another address than the base URL"


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
