"""A reply as an event: which one it is, and what it says.

The one place that reads `stop_reason`. The conversation, `watch`, the audit and the emulator's tests all ask here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    kinds = [b.get("type") for b in blocks]
    calls = tuple([_call(b) for b in _after_fallback(blocks, kinds) if b.get("type") == "tool_use"])
    reply = Reply(
        id=str(message.get("id") or ""),
        model=str(message.get("model") or ""),
        stop_reason=str(stop),
        text="".join([str(b.get("text") or "") for b in blocks if b.get("type") == "text"]),
        calls=calls,
        stop_sequence=message.get("stop_sequence"),
        usage=message["usage"] if isinstance(message.get("usage"), dict) else {},
        stop_details=message["stop_details"] if isinstance(message.get("stop_details"), dict) else None,
    )
    if problem:
        return Reading("malformed", reply, problem)
    if stop not in STOP_REASONS:
        return Reading("unknown_stop", reply, f"stop_reason {stop!r} is not known to this version")
    if contradiction := _contradiction(str(stop), has_calls=bool(calls)):
        return Reading("malformed", reply, contradiction)
    if stop == "end_turn" and not any(b.get("type") != "text" or b.get("text") for b in blocks):
        return Reading("empty_turn", reply)  # S3.3; empty text blocks cannot be sent back either (R20)
    # S5.2, S9.2: a call may look whole and is not (S5.3). S5.4: without text nothing can be continued. R16: nor may
    # anything be said after a server tool that has no result yet.
    return Reading(str(stop), reply, cut_in_call=bool(calls) or not reply.text or _has_open_server_tool(blocks))


def _after_fallback(blocks: Sequence[Mapping[str, Any]], kinds: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
    """What the model that gave the answer wrote: the calls of one that declined before it are not for us (S8.7)."""
    return blocks[len(kinds) - kinds[::-1].index("fallback") :] if "fallback" in kinds else blocks


# Stop reasons that finish a turn, or hand it back, and so leave no call to the client.
_WITHOUT_CALLS: Mapping[str, str] = {
    "end_turn": "§9",
    "stop_sequence": "S4.2",  # whether it can cut a call in the middle is not known, so none of it is kept
    "pause_turn": "S7.1",
    "compaction": "S10.4",
}


def _contradiction(stop: str, *, has_calls: bool) -> str | None:
    """Where the stop reason and the content cannot both be true. S2a: nothing of such a reply is run."""
    if stop == "tool_use" and not has_calls:
        return "stop_reason is tool_use but no block is a tool_use (S6.10)"
    if has_calls and stop in _WITHOUT_CALLS:
        return f"stop_reason is {stop} beside a tool_use block ({_WITHOUT_CALLS[stop]})"
    return None


def _has_open_server_tool(blocks: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a server tool has no result in the same reply; there is no flag, only the pairing by id (S6.7)."""
    answered = {str(b.get("tool_use_id")) for b in blocks if str(b.get("type")).endswith("_tool_result")}
    return any(b.get("type") in _SERVER_USES and str(b.get("id")) not in answered for b in blocks)


_SERVER_USES = frozenset({"server_tool_use", "mcp_tool_use"})


def invalid_json(given: Mapping[str, Any]) -> str | None:
    """S6.5: the text of an input that was no JSON when it was streamed (`_wire` keeps it so); None for every other."""
    raw = given.get("INVALID_JSON")
    return raw if len(given) == 1 and isinstance(raw, str) else None


def unechoable(content_json: str) -> str | None:
    """Why a reply's content cannot be sent back as it came: half a character, which only an escape can hold (R26)."""
    if "\\ud" not in content_json and "\\uD" not in content_json:
        return None
    try:
        json.dumps(json.loads(content_json), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "a text in the content holds half a character, which cannot be sent back (R26)"
    return None


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
    for block in content:
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
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
    given, caller, toolset = block.get("input"), block.get("caller"), block.get("toolset_name")
    kind = caller.get("type") if isinstance(caller, dict) else None
    return Call(
        str(block.get("id")),
        str(block.get("name")),
        given if isinstance(given, dict) else {},
        toolset if isinstance(toolset, str) else None,
        kind if isinstance(kind, str) and kind != "direct" else None,
    )
