"""A reply as an event: which one it is, and what it says.

The one place that reads `stop_reason`. The conversation, `watch`, the audit and the emulator's tests all ask here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from ._alphabet import STOP_REASONS
from ._facts import Call, Reply


@frozen
class Reading:
    """The event of a reply, the reply as facts, and for `malformed` and `unknown_stop` what is wrong with it."""

    event: str
    reply: Reply
    problem: str | None = None
    cut_in_call: bool = False


def read(message: Mapping[str, Any]) -> Reading:
    """Classify one Messages reply (S0-S11). Any JSON object gives a reading, never an exception."""
    content = message.get("content")
    stop = message.get("stop_reason")
    problem = _problem(message, content, stop)
    blocks = [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []
    calls = tuple(_call(b) for b in blocks if b.get("type") == "tool_use")
    reply = Reply(
        id=str(message.get("id") or ""),
        model=str(message.get("model") or ""),
        stop_reason=str(stop),
        text="".join(str(b.get("text") or "") for b in blocks if b.get("type") == "text"),
        calls=calls,
        stop_sequence=message.get("stop_sequence"),
        usage=message["usage"] if isinstance(message.get("usage"), dict) else {},
        stop_details=message["stop_details"] if isinstance(message.get("stop_details"), dict) else None,
    )
    if problem:
        return Reading("malformed", reply, problem)
    if stop not in STOP_REASONS:
        return Reading("unknown_stop", reply, f"stop_reason {stop!r} is not known to this version")
    if stop == "tool_use" and not calls:
        return Reading("malformed", reply, "stop_reason is tool_use but no block is a tool_use (S6.10)")
    if stop == "end_turn":
        if calls:
            return Reading("malformed", reply, "stop_reason is end_turn beside a tool_use block (§9)")
        if not blocks:
            return Reading("empty_turn", reply)
    return Reading(str(stop), reply, cut_in_call=bool(calls) or not reply.text)


def _problem(message: Mapping[str, Any], content: Any, stop: Any) -> str | None:
    """S11.3: an answer with status 200 need not be a message."""
    if message.get("type") == "error":
        error = message.get("error")
        detail = error.get("message") if isinstance(error, dict) else None
        return f"an error body came with status 200: {detail or 'no message'}"
    if message.get("type") != "message":
        return f"the answer is not a message: type is {message.get('type')!r}"
    if message.get("role") != "assistant":
        return f"the message has the role {message.get('role')!r}, not assistant"
    if not isinstance(content, list):
        return "the message has no content list"
    if any(not isinstance(b, dict) or not isinstance(b.get("type"), str) for b in content):
        return "a content block is not an object with a type"
    for block in content:
        if block["type"] == "tool_use" and not _is_call(block):
            return "a tool_use block has no id, no name or no input object"
    return None if isinstance(stop, str) else f"the message has no stop_reason ({stop!r})"


def _is_call(block: Mapping[str, Any]) -> bool:
    return (
        isinstance(block.get("id"), str) and isinstance(block.get("name"), str) and isinstance(block.get("input"), dict)
    )


def _call(block: Mapping[str, Any]) -> Call:
    given = block.get("input")
    return Call(str(block.get("id")), str(block.get("name")), given if isinstance(given, dict) else {})
