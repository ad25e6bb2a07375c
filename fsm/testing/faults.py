"""What can go wrong between a client and the API: one function per fault, for a `FaultPlan` (V7).

    plan = FaultPlan({1: faults.row("E16"), 3: faults.cut(events=4, ends="reset")})
    Emulator(script, faults=plan)

`ROWS` are the rows of the API's error table, `KINDS` what `FaultPlan.random` draws from, `RETRYABLE` those of them
after which trying again helps, `RETRY_AFTER` the values that the header was seen with or may have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import takewhile
from random import Random

from attrs import evolve

from fsm.testing import replies
from fsm.testing._faults import Ends, Fault
from fsm.testing._prefix import THINKING
from fsm.testing._reply import Reply

__all__ = [
    "KINDS",
    "RETRYABLE",
    "RETRY_AFTER",
    "ROWS",
    "Fault",
    "body",
    "cut",
    "headers_only",
    "html",
    "pings",
    "refused",
    "repeat_id",
    "row",
    "silent",
    "slow",
    "stall",
    "stream_error",
    "thread",
    "unknown_block",
    "unknown_event",
    "unknown_stop",
]

_OWN_LIMIT = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
_LOW_CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade."
_LIMITED = "This request would exceed your rate limit. Please try again later."
_PLAIN = {"content-type": "text/plain"}


def _coded(status: int, kind: str, message: str, code: str) -> Reply:
    return replies.error(status, kind, message, details={"error_code": code})


ROWS: Mapping[str, Reply] = {
    "E1": replies.error(400, "invalid_request_error", "messages: Field required"),
    "E1a own limit": replies.error(400, "invalid_request_error", _OWN_LIMIT),
    "E1a low credit": replies.error(400, "invalid_request_error", _LOW_CREDIT),
    "E2": replies.error(401, "authentication_error", "invalid x-api-key"),
    "E3": replies.error(402, "billing_error", "There is an issue with your billing or payment information."),
    "E4": replies.error(403, "permission_error", "Your API key does not have permission to use this resource."),
    "E5": replies.error(404, "not_found_error", "model: claude-unknown"),
    "E6": replies.raw(408, b"Request Timeout", _PLAIN),
    "E7": replies.error(409, "conflict_error", "The resource was changed by another request."),
    "E8": replies.error(413, "request_too_large", "Request exceeds the maximum size"),
    "E9": replies.raw(422, b"Unprocessable Entity", _PLAIN),
    "E10": replies.error(429, "rate_limit_error", _LIMITED),
    "E11 enforced": _coded(429, "rate_limit_error", "Monthly spend limit reached.", "enforced_spend_limit_reached"),
    "E11 contract": _coded(429, "rate_limit_error", "Contract spend limit reached.", "contract_spend_limit_reached"),
    "E12": _coded(429, "rate_limit_error", "Your usage grows too fast.", "ramp_limit_exceeded"),
    "E13": replies.error(500, "api_error", "Internal server error"),
    "E14": replies.error(503, "api_error", "Service unavailable"),
    "E15": replies.error(504, "timeout_error", "The request took too long. Use streaming for long requests."),
    "E16": replies.error(529, "overloaded_error", "Overloaded"),
    "E16 compaction": _coded(529, "overloaded_error", "Compaction is not available.", "compaction_unavailable"),
    "E17": replies.raw(418, b"I'm a teapot", _PLAIN),
    "E17 closed": replies.raw(499, b"Client Closed Request", _PLAIN),
    "E18": replies.html(status=520),
}

RETRY_AFTER: tuple[str | None, ...] = (
    None,
    "0",
    "-3",
    "7",
    "3600",
    "inf",
    "nan",
    "Wed, 21 Oct 2015 07:28:00 GMT",
    "Fri, 31 Dec 2100 23:59:59 GMT",
    "soon",
)
_SHORT = ("0", "-3", "7", "nan", "Wed, 21 Oct 2015 07:28:00 GMT", "soon")

_ENVELOPE = {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}
_THREAD_CODES = {
    "thread_already_continued": 400,
    "thread_continue_in_flight": 400,
    "thread_fingerprint_mismatch": 400,
    "thread_unsupported_request": 400,
    "thread_not_found": 404,
}


def row(
    name: str,
    *,
    retry_after: float | str | None = None,
    retry_after_ms: float | str | None = None,
    should_retry: bool | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Any row of the error table, such as `E10`, with the headers that the SDK reads.

    Params:
        name: a key of `ROWS`.
        retry_after: in seconds, or any text.
        retry_after_ms: in milliseconds, or any text.
        should_retry: `x-should-retry`, which overrides the status (E20).
        headers: more of them.

    Raises:
        ValueError: there is no such row.
    """
    if name not in ROWS:
        raise ValueError(f"there is no row {name!r}: choose from {', '.join(ROWS)}")
    given = {"retry-after": retry_after, "retry-after-ms": retry_after_ms}
    sent = {key: value if isinstance(value, str) else f"{value:g}" for key, value in given.items() if value is not None}
    if should_retry is not None:
        sent["x-should-retry"] = "true" if should_retry else "false"
    return evolve(ROWS[name], headers={**ROWS[name].headers, **sent, **(headers or {})})


def thread(code: str) -> Reply:
    """A thread cannot be continued (R71): `code` such as `thread_continue_in_flight`."""
    if code not in _THREAD_CODES:
        raise ValueError(f"there is no thread code {code!r}: choose from {', '.join(_THREAD_CODES)}")
    status = _THREAD_CODES[code]
    kind = "not_found_error" if status == 404 else "invalid_request_error"  # noqa: PLR2004
    details: dict[str, object] = {"error_code": code}
    if code == "thread_unsupported_request":
        details["unsupported"] = ["thinking"]
    text = code.removeprefix("thread_").replace("_", " ")
    return replies.error(status, kind, f"thread: {text}", details=details)


def cut(*, events: int | None = None, after_bytes: int | None = None, ends: Ends = "eof") -> Fault:
    """The answer ends early: `events` SSE events or `after_bytes` bytes of it come.

    Params:
        events: a body that is no stream is cut in the middle instead. The last event never comes.
        after_bytes: of the body.
        ends: `eof`, a clean end of the stream; `lost`, a close without the chunk terminator; `reset`, an RST; `stall`,
            nothing more while the socket stays open; `pings`, only those. A body with a length is never clean.

    Raises:
        ValueError: not exactly one place was given, or a negative one.
    """
    given = [number for number in (events, after_bytes) if number is not None]
    if len(given) != 1 or given[0] < 0:
        raise ValueError("cut() needs exactly one of events= and after_bytes=, 0 or more")
    where = f"{events} events" if events is not None else f"{after_bytes} bytes"
    return Fault(name=f"cut after {where}, {ends}", events=events, byte_count=after_bytes, ends=ends)


def stall(*, events: int = 3) -> Fault:
    """After so many events nothing comes, and the socket stays open. Without a server the read times out at once."""
    return evolve(cut(events=events, ends="stall"), name=f"stall after {events} events")


def headers_only() -> Fault:
    """The headers come, and nothing after them."""
    return evolve(cut(events=0, ends="stall"), name="headers only")


def pings(*, events: int = 1) -> Fault:
    """After so many events only pings come, for ever; without a server the read times out after some."""
    return evolve(cut(events=events, ends="pings"), name=f"only pings after {events} events")


def silent() -> Fault:
    """The connection is closed before the first byte of an answer (E19): whether it was served is not known."""
    return Fault(name="silent", before_answer=True)


def refused() -> Fault:
    """The connection is reset before the first byte of an answer (E19)."""
    return Fault(name="refused", before_answer=True, ends="reset")


def slow(*, piece: int = 1, pace: float = 0.001) -> Fault:
    """The whole reply comes in pieces of so many bytes, over a server so many seconds apart."""
    return Fault(name="slow", piece=piece, pace=pace, arrives=True)


def stream_error(type: str = "overloaded_error", *, after: int = 3) -> Fault:  # noqa: A002  # the API's own word
    """The stream breaks off with an SSE `error` event; without streaming it is a plain error (E23)."""

    def change(reply: Reply) -> Reply:
        return replies.sse_error(type, after=after, reply=reply if reply.content is not None else None)

    return Fault(name=f"stream error {type}", change=change)


def unknown_event(*, before: int = 1) -> Fault:
    """An event that no version documents, in a stream that is otherwise as scripted: legal, to be ignored (G9)."""
    record = b'event: weather_report\ndata: {"type":"weather_report","index":0}\n\n'
    return Fault(name="unknown event", insert=(before, record), arrives=True)


def unknown_block(type: str = "hologram") -> Fault:  # noqa: A002  # the API's own word
    """The reply has one more block, of a type that no version documents: legal, to be kept (G9).

    It comes behind the thinking that the reply begins with, which would have to stand first (R33).
    """

    def change(reply: Reply) -> Reply:
        if reply.content is None:
            return reply
        thinking = tuple(takewhile(lambda block: block.get("type") in THINKING, reply.content))
        return evolve(reply, content=(*thinking, {"type": type, "depth": 3}, *reply.content[len(thinking) :]))

    return Fault(name=f"unknown block {type}", change=change, arrives=True)


def unknown_stop(reason: str = "daydreaming") -> Fault:
    """The reply ends with a stop reason that no version documents (S11.2)."""
    return Fault(name=f"unknown stop {reason}", change=lambda reply: evolve(reply, stop_reason=reason))


def repeat_id(n_back: int = 1) -> Reply:
    """The calls of an earlier reply come again, with their ids: what the API never does (D1)."""
    return replies.repeat_id(n_back)


def body(value: object) -> Reply:
    """Status 200 with any JSON, such as `{}` or an error envelope (S11.3)."""
    return replies.body(value)


def html(*, status: int = 200) -> Reply:
    """A page of a proxy in between (S11.3)."""
    return replies.html(status=status)


def _limited(chance: Random) -> Reply:
    return row("E10", retry_after=chance.choice((None, *_SHORT)), should_retry=chance.choice((None, True)))


def _server_error(chance: Random) -> Reply:
    return row(chance.choice(("E13", "E14", "E15", "E18")), retry_after=chance.choice((None, *_SHORT)))


def _cut(chance: Random) -> Fault:
    return cut(events=chance.randrange(12), ends=chance.choice(("eof", "lost", "reset")))


KINDS: Mapping[str, Callable[[Random], Fault | Reply]] = {
    "overloaded": lambda chance: row("E16", retry_after=chance.choice((None, *_SHORT))),
    "rate_limited": _limited,
    "server_error": _server_error,
    "conflict": lambda _: row("E7"),
    "request_timeout": lambda _: row("E6"),
    "retry_in_ms": lambda chance: row("E16", retry_after_ms=chance.choice((0, 7, 700))),
    "cut": _cut,
    "cut_bytes": lambda chance: cut(after_bytes=chance.randrange(400), ends=chance.choice(("lost", "reset"))),
    "stream_error": lambda chance: stream_error(
        chance.choice(("overloaded_error", "api_error", "rate_limit_error")), after=chance.randrange(8)
    ),
    "stall": lambda chance: stall(events=chance.randrange(6)),
    "headers_only": lambda _: headers_only(),
    "pings": lambda chance: pings(events=chance.randrange(4)),
    "silent": lambda _: silent(),
    "refused": lambda _: refused(),
    "slow": lambda chance: slow(piece=chance.choice((1, 2, 5)), pace=0.0),
    "unknown_event": lambda chance: unknown_event(before=chance.randrange(6)),
    "unknown_block": lambda _: unknown_block(),
    "unknown_stop": lambda _: unknown_stop(),
    "spend_limit": lambda chance: row(chance.choice(("E11 enforced", "E11 contract", "E1a own limit"))),
    "bad_key": lambda _: row("E2"),
    "html": lambda _: html(),
    "error_as_success": lambda _: body(_ENVELOPE),
    "empty_object": lambda _: body({}),
}

RETRYABLE: tuple[str, ...] = (
    "overloaded",
    "rate_limited",
    "server_error",
    "conflict",
    "request_timeout",
    "retry_in_ms",
    "cut",
    "cut_bytes",
    "stream_error",
    "stall",
    "headers_only",
    "pings",
    "silent",
    "refused",
    "slow",
    "unknown_event",
)
