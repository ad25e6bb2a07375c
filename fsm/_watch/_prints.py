"""Fingerprints: which messages of two requests are the same, and which reply a message echoes.

Bodies are not kept, hashes are. What a loop may change from one request to the next without saying anything else must
not count: where a cache breakpoint stands, whether a text is a string or a block, and of a reply everything that is not
its words and ids (loops drop thinking, null fields, trailing spaces).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from fsm._facts import Call
from fsm._stuck import canonical

__all__ = ["Gist", "blocks_of", "calls_of", "chain", "digest_of", "gist_of", "results_of", "start_of", "tells"]

_NOT_HEAD = frozenset({"messages", "stream", "thread"})
_UNSTABLE = frozenset({"thinking", "redacted_thinking", "fallback"})
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=repr).encode


@frozen
class Gist:
    """What identifies a reply: its words, the ids of its blocks, and the types of blocks that have neither."""

    text: str
    marks: tuple[str, ...]


def blocks_of(content: Any) -> list[Mapping[str, Any]]:
    """The content of a message as blocks; what is none is left out."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [b for b in content if isinstance(b, Mapping)] if isinstance(content, list | tuple) else []


def gist_of(content: Any) -> Gist:
    """The gist of a reply, or of the assistant message that echoes it."""
    words: list[str] = []
    marks: list[str] = []
    for block in blocks_of(content):
        kind = str(block.get("type"))
        if kind == "text":
            words.append(str(block.get("text")))
        elif kind not in _UNSTABLE:
            marks.append(str(block.get("id") or block.get("tool_use_id") or kind))
    return Gist("".join(words).strip(), tuple(marks))


def calls_of(content: Any) -> tuple[Call, ...]:
    """The client tool calls of an assistant message."""
    found = []
    for block in blocks_of(content):
        if block.get("type") == "tool_use":
            given = block.get("input")
            found.append(
                Call(str(block.get("id")), str(block.get("name")), given if isinstance(given, Mapping) else {})
            )
    return tuple(found)


def results_of(content: Any) -> list[Mapping[str, Any]]:
    """The tool results of a user message."""
    return [b for b in blocks_of(content) if b.get("type") == "tool_result"]


def tells(message: Mapping[str, Any]) -> bool:
    """Whether somebody says something in a message, besides tool results."""
    return message.get("role") == "user" and any(
        b.get("type") != "tool_result" for b in blocks_of(message.get("content"))
    )


def start_of(conversation: str | None) -> bytes:
    """The hash before the first message; conversations that the user named share nothing with others."""
    return hashlib.sha256(b"" if conversation is None else b"\1" + conversation.encode("utf-8", "replace")).digest()


def chain(before: bytes, message: Any) -> bytes:
    """The hash after one more message."""
    role = message.get("role") if isinstance(message, Mapping) else None
    content = message.get("content") if isinstance(message, Mapping) else message
    what: Any
    if role == "assistant":
        gist = gist_of(content)
        what = [gist.text, gist.marks]
    else:
        what = [_plain(block) for block in blocks_of(content)]
    return hashlib.sha256(before + _bytes([role, what])).digest()


def digest_of(messages: bytes, body: Mapping[str, Any]) -> bytes:
    """What identifies a request: its messages (by their hash) and its head."""
    head = {key: value for key, value in body.items() if key not in _NOT_HEAD}
    return hashlib.sha256(messages + _bytes(head)).digest()


def _bytes(value: Any) -> bytes:
    try:
        return _encode(value).encode("utf-8", "surrogatepass")
    except (TypeError, RecursionError):  # keys of mixed types, or nested very deeply: the slow way takes anything
        return canonical(value)


def _plain(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """A block without its cache breakpoint; a tool result's content as blocks."""
    if "cache_control" in block:
        block = {key: value for key, value in block.items() if key != "cache_control"}
    if block.get("type") == "tool_result":
        inner: Iterable[Mapping[str, Any]] = blocks_of(block.get("content"))
        block = {**block, "content": [_plain(part) for part in inner], "is_error": bool(block.get("is_error"))}
    return block
