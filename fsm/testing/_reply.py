"""`Reply`: the value that the builders of `fsm.testing.replies` make and the emulator serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import Attribute, field, frozen

Block = dict[str, Any]

# E1-E16: the status that belongs to an error type.
STATUS_OF_ERROR: dict[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


@frozen(kw_only=True)
class Cut:
    """Where the body of a reply ends early: after so many SSE events or bytes; `clean` as a proper EOF."""

    events: int | None = None
    byte_count: int | None = None
    clean: bool = True


def _check_headers(_reply: object, _attribute: Attribute[Any], headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if any(character in "\r\n\0" for character in name + value):
            raise ValueError(f"the header {name!r} of a scripted reply holds a line break: remove it")


@frozen(kw_only=True)
class Reply:
    """One scripted reply; build it with the functions of this module.

    A reply is one of: a message (`content` is set), an error (`error` is set), bytes as they are (`body` is set), or
    the repetition of an earlier message of the same conversation (`repeats` counts back). Of a message, `model` says
    who answered where it is not the one that was asked, `container` is the id of where its code runs, and
    `starts_whole` means that its stream is a `message_start` that holds everything (section 9, G).
    """

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict, validator=_check_headers)
    content: tuple[Block, ...] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] = field(factory=dict)
    cut_input: str | None = None
    error: Mapping[str, Any] | None = None
    error_after: int | None = None
    body: bytes | None = None
    repeats: int = 0
    cut: Cut | None = None
    model: str | None = None
    container: str | None = None
    starts_whole: bool = False

    @property
    def kind(self) -> Literal["message", "error", "sse_error", "body", "repeat"]:
        """Which of the things a reply can be this one is."""
        if self.error_after is not None:
            return "sse_error"
        if self.error is not None:
            return "error"
        if self.body is not None:
            return "body"
        return "repeat" if self.repeats else "message"
