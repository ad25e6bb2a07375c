"""A served message as the server-sent events that stream it (the grammar G1-G13)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Event = dict[str, Any]

_PIECES = 24  # A long text is cut into about so many deltas, a short one into pieces of at least MIN_PIECE characters.
_MIN_PIECE = 7
_PADDING = 5  # a delta has up to four spaces after it
_TAKES_INPUT = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


def to_json(value: object) -> bytes:
    """Encode a JSON value as UTF-8; lone surrogates, which UTF-8 cannot hold, stay escaped."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def encode(event: Event) -> bytes:
    """One event on the wire: its name equals the type in its data.

    As the API does, a ping has a space in its JSON and a delta may have spaces after it (section 4): parse, never
    compare.
    """
    if event["type"] == "ping":
        return b'event: ping\ndata: {"type": "ping"}\n\n'
    data = to_json(event)
    padding = b" " * (len(data) % _PADDING) if event["type"] == "content_block_delta" else b""
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + data + padding + b"\n\n"


def error_event(error: dict[str, Any], request_id: str) -> Event:
    """The event that ends a stream with an error (G10)."""
    return {"type": "error", "error": error, "request_id": request_id}


def events(message: dict[str, Any], *, cut_input: str | None = None, starts_whole: bool = False) -> Iterator[Event]:
    """Stream a message.

    Params:
        message: as it is answered without streaming.
        cut_input: the JSON text of the last block's input as far as it was generated, of a call that the limit cut.
        starts_whole: the first event holds the whole message, as recorded continuations of code execution do.

    Returns:
        The events, in order, pings included.
    """
    if starts_whole:
        yield {"type": "message_start", "message": message}
        yield {"type": "message_stop"}
        return
    start = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
    yield {"type": "message_start", "message": start | {"usage": {**message["usage"], "output_tokens": 1}}}
    content: list[dict[str, Any]] = message["content"]
    for index, block in enumerate(content):
        is_cut = cut_input is not None and index == len(content) - 1
        begun, deltas = _deltas(block, cut_input if is_cut else None)
        yield {"type": "content_block_start", "index": index, "content_block": begun}
        if index == 0:
            yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        if not is_cut:  # Recorded streams leave a call that `max_tokens` cut without its stop event (section 9, G).
            yield {"type": "content_block_stop", "index": index}
    if not content:
        yield {"type": "ping"}
    ended = {key: message[key] for key in ("stop_reason", "stop_sequence", "stop_details")}
    if "container" in message:  # G6
        ended["container"] = message["container"]
    yield {"type": "message_delta", "delta": ended, "usage": message["usage"]}
    yield {"type": "message_stop"}


def _deltas(block: dict[str, Any], cut_input: str | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as its start and the deltas that fill it; kinds that are sent whole have none (G3)."""
    kind = block["type"]
    if kind == "text":
        begun = {**block, "text": ""} | ({"citations": []} if block.get("citations") else {})
        texts = [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
        cited = [{"type": "citations_delta", "citation": citation} for citation in block.get("citations") or ()]
        return begun, texts + cited
    if kind == "thinking":
        thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
        signature = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*thoughts, signature]
    if kind in _TAKES_INPUT:
        whole = cut_input if cut_input is not None else json.dumps(block["input"], ensure_ascii=False)
        # G4: the first fragment is empty, and the only one of a call without arguments (section 9).
        fragments = ["", *(_pieces(whole) if block["input"] or cut_input is not None else ())]
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in fragments]
    if kind == "compaction":
        filled: dict[str, Any] = {key: block[key] for key in ("content", "encrypted_content") if key in block}
        return {**block, "content": None}, [{"type": "compaction_delta", **filled}]
    return block, []


def _pieces(text: str) -> list[str]:
    size = max(_MIN_PIECE, -(-len(text) // _PIECES))
    return [text[at : at + size] for at in range(0, len(text), size)]
