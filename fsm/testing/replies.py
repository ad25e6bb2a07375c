"""Scripted replies: one function per thing the Messages API can answer.

Each function returns one frozen `Reply`. It is a template: ids, the model's name and the token counts are filled in
when the emulator serves it, so that one `Reply` may be served many times and every served message has fresh ids (V3).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from attrs import evolve

from fsm.testing._reply import Block, Cut, Reply

Category = Literal["cyber", "bio", "frontier_llm", "reasoning_extraction", "general_harms"]

__all__ = [
    "Category",
    "Reply",
    "after",
    "body",
    "compaction",
    "context_window",
    "cut",
    "empty",
    "error",
    "fallback",
    "html",
    "max_tokens",
    "mcp_listing",
    "mcp_tool",
    "message",
    "overloaded",
    "pause",
    "programmatic",
    "rate_limited",
    "raw",
    "redacted_thinking",
    "refusal",
    "repeat_id",
    "server_tool",
    "sse_error",
    "starts_whole",
    "stop_sequence",
    "structured",
    "text",
    "thinking",
    "tool_use",
    "tool_uses",
    "toolset_use",
    "unknown_stop",
]

_NEEDED = {
    "text": ("text",),
    "thinking": ("thinking",),
    "tool_use": ("name", "input"),
    "server_tool_use": ("name", "input"),
}


def _copy(value: object, what: str) -> Any:
    """Copy a JSON value, so that a template cannot change after it was written."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        message = f"{what} must be a JSON value: {error}"
        raise ValueError(message) from error


def _text_block(text: str) -> Block:
    return {"type": "text", "text": text}


def _call_block(name: str, tool_input: Mapping[str, Any], tool_use_id: str | None = None) -> Block:
    block: Block = {"type": "tool_use"}
    if tool_use_id is not None:
        block["id"] = tool_use_id
    return block | {"name": name, "input": _copy(dict(tool_input), f"the input of {name!r}")}


def message(
    blocks: Sequence[Mapping[str, Any]],
    *,
    stop_reason: str = "end_turn",
    stop_sequence: str | None = None,
    stop_details: Mapping[str, Any] | None = None,
    usage: Mapping[str, Any] | None = None,
) -> Reply:
    """Any message, from its content blocks.

    Params:
        blocks: as the API spells them; an `id`, a thinking `signature` or a result's `tool_use_id` that is left out is
            filled in when served (a result belongs to the server call before it).
        stop_reason: any string; unknown ones are served too.
        stop_sequence: which of the request's own sequences was met.
        stop_details: of a refusal (S8.1).
        usage: overrides single counts, in tokens.

    Raises:
        ValueError: a block is no JSON object, or lacks a key.
    """
    content = tuple(_copy(dict(block), "a content block") for block in blocks)
    for block in content:
        missing = [key for key in ("type", *_NEEDED.get(str(block.get("type")), ())) if key not in block]
        if missing:
            raise ValueError(f"the content block {block!r} needs {', '.join(missing)}: spell it as the API does")
    return Reply(
        content=content,
        stop_reason=stop_reason,
        stop_sequence=stop_sequence,
        stop_details=None if stop_details is None else _copy(dict(stop_details), "stop_details"),
        usage=dict(usage or {}),
    )


def text(text: str, *, citations: Sequence[Mapping[str, Any]] = (), usage: Mapping[str, Any] | None = None) -> Reply:
    """Answer with one text block and `end_turn` (S3)."""
    block = _text_block(text) | ({"citations": list(citations)} if citations else {})
    return message([block], usage=usage)


def structured(value: Mapping[str, Any], *, usage: Mapping[str, Any] | None = None) -> Reply:
    """Answer with a JSON object as text, as `output_config.format` makes the model do."""
    return message([_text_block(json.dumps(_copy(dict(value), "the output"), ensure_ascii=False))], usage=usage)


def tool_use(
    name: str,
    input: Mapping[str, Any],
    *,
    text: str | None = None,
    tool_use_id: str | None = None,
    usage: Mapping[str, Any] | None = None,
) -> Reply:
    """Call one tool (S6); `text` is said before it, `tool_use_id` is given only to make an id repeat."""
    said = [_text_block(text)] if text else []
    return message([*said, _call_block(name, input, tool_use_id)], stop_reason="tool_use", usage=usage)


def tool_uses(
    *calls: tuple[str, Mapping[str, Any]], text: str | None = None, usage: Mapping[str, Any] | None = None
) -> Reply:
    """Call several tools in parallel, each a pair of name and input (S6).

    With no calls it is the anomaly of S6.10: stop reason `tool_use` without a call.
    """
    said = [_text_block(text)] if text else []
    blocks = [_call_block(name, tool_input) for name, tool_input in calls]
    return message([*said, *blocks], stop_reason="tool_use", usage=usage)


def max_tokens(
    text: str = "", *, tool: tuple[str, Mapping[str, Any]] | None = None, usage: Mapping[str, Any] | None = None
) -> Reply:
    """End at the token limit: in the middle of `text`, or inside the call `tool` (S5).

    The call is cut inside the value of its last key; without streaming that key is missing from the input, as in the
    dict that the SDK makes of the same stream (S5.3). With neither, the content is empty (S5.5).
    """
    said = [_text_block(text)] if text else []
    if tool is None:
        return message(said, stop_reason="max_tokens", usage=usage)
    name, tool_input = tool
    kept = dict(tool_input)
    whole = json.dumps(_copy(kept, f"the input of {name!r}"), ensure_ascii=False)
    last = json.dumps(kept.popitem()[1], ensure_ascii=False) if kept else ""
    missing = (len(last) + 1) // 2 if last.startswith('"') else len(last)
    reply = message([*said, _call_block(name, kept)], stop_reason="max_tokens", usage=usage)
    return evolve(reply, cut_input=whole[: len(whole) - 1 - missing])


def refusal(category: Category | None = None, *, explanation: str | None = None, partial: str = "") -> Reply:
    """Refuse: before any output, or after the text `partial` (S8)."""
    details = {"type": "refusal", "category": category, "explanation": explanation}
    return message([_text_block(partial)] if partial else [], stop_reason="refusal", stop_details=details)


def pause(*blocks: Mapping[str, Any]) -> Reply:
    """Pause a server-tool loop (S7); with no blocks given, after a web search that has its result.

    A call that has none yet may be given: the request must then declare its tool (R16).
    """
    search = server_tool("web_search", {"query": "order status"}, [])
    return message(blocks or search, stop_reason="pause_turn")


def stop_sequence(text: str, *, sequence: str) -> Reply:
    """End at one of the request's own stop sequences (S4)."""
    return message([_text_block(text)] if text else [], stop_reason="stop_sequence", stop_sequence=sequence)


def empty() -> Reply:
    """End the turn with no content at all (S3.3)."""
    return message([])


def context_window(text: str) -> Reply:
    """End because the context window is full (S9)."""
    return message([_text_block(text)], stop_reason="model_context_window_exceeded")


def compaction(summary: str | None = "A summary of the conversation so far.") -> Reply:
    """Stop at a compaction block (beta, S10); `None` is a compaction that failed (S10.3)."""
    block: Block = {"type": "compaction", "content": summary}
    return message([block | ({"encrypted_content": None} if summary is None else {})], stop_reason="compaction")


def unknown_stop(reason: str, text: str = "Something new happened.") -> Reply:
    """End with a stop reason that no version of the API documents (S11.2)."""
    return message([_text_block(text)], stop_reason=reason)


def thinking(text: str, *, then: Reply) -> Reply:
    """Think first, then give the message `then`; the block is signed when served (S12)."""
    if then.content is None:
        raise ValueError(f"thinking(then=...) takes a message, not a reply of kind {then.kind!r}: use replies.text")
    return evolve(then, content=({"type": "thinking", "thinking": text}, *then.content))


def redacted_thinking(*, then: Reply) -> Reply:
    """Think what is shown to nobody, then give the message `then`; the data is signed when served (S12)."""
    if then.content is None:
        raise ValueError(f"redacted_thinking(then=...) takes a message, not a reply of kind {then.kind!r}")
    return evolve(then, content=({"type": "redacted_thinking"}, *then.content))


def server_tool(name: str, input: Mapping[str, Any], result: object) -> list[Block]:  # the API's word
    """A call that the API answers itself and its result, for `message([...])`, `pause(...)` or `after(...)` (S6.7).

    Params: the tool, such as `web_search`; its input; the `content` of its result block. Ids are filled in when served.
    """
    call = {"type": "server_tool_use", "name": name, "input": _copy(dict(input), f"the input of {name!r}")}
    kind = "tool_search" if name.startswith("tool_search_tool") else name
    return [call, {"type": f"{kind}_tool_result", "content": _copy(result, f"the result of {name!r}")}]


def mcp_tool(
    server: str,
    name: str,
    input: Mapping[str, Any],  # the API's own word
    result: str | Sequence[Mapping[str, Any]],
    *,
    is_error: bool = False,
) -> list[Block]:
    """A call that the API makes itself to an MCP server, and its result, for `message([...])` or `after(...)`."""
    call = {"type": "mcp_tool_use", "server_name": server, "name": name, "input": _copy(dict(input), "the input")}
    content = [_text_block(result)] if isinstance(result, str) else _copy(list(result), "the result")
    return [call, {"type": "mcp_tool_result", "is_error": is_error, "content": content}]


def mcp_listing(server: str, *tools: Mapping[str, Any]) -> list[Block]:
    """The list of tools that the API got from an MCP server, for `after(...)`; it is echoed like any other block."""
    return [{"type": "mcp_tool_listing", "mcp_server_name": server, "tools": _copy(list(tools), "the tools")}]


def after(blocks: Sequence[Mapping[str, Any]], *, then: Reply) -> Reply:
    """Give some blocks first, then the message `then`: server tools with their results, listings, more thinking."""
    if then.content is None:
        raise ValueError(f"after(then=...) takes a message, not a reply of kind {then.kind!r}: use replies.text")
    return evolve(then, content=(*(message(blocks).content or ()), *then.content))


def fallback(to: str, *, asked: str, before: str = "", then: Reply) -> Reply:
    """Hand over to another model in the middle of an answer (S8.7): `before` is what the model `asked` had said."""
    if then.content is None:
        raise ValueError(f"fallback(then=...) takes a message, not a reply of kind {then.kind!r}: use replies.text")
    trigger = {"type": "refusal", "category": None}
    block = {"type": "fallback", "from": {"model": asked}, "to": {"model": to}, "trigger": trigger}
    said = [_text_block(before)] if before else []
    return evolve(then, content=(*said, block, *then.content), model=to)


def programmatic(
    name: str,
    input: Mapping[str, Any],  # the API's own word
    *,
    code: str = "print(await find_order('7'))",
    container: str = "container_011CZ0000000000000000000",
    caller: str = "code_execution_20260120",
) -> Reply:
    """Call one tool from code that runs on the server (S6.8): the next request must name the `container`."""
    run = {"type": "server_tool_use", "name": "code_execution", "input": {"code": code}}
    call = _call_block(name, input) | {"caller": {"type": caller}}
    return evolve(message([run, call], stop_reason="tool_use"), container=container)


def toolset_use(toolset: str, *calls: tuple[str, Mapping[str, Any]]) -> Reply:
    """Call members of a toolset, such as `browser` (S6.9): their results carry the same `toolset_name`."""
    blocks = [_call_block(name, tool_input) | {"toolset_name": toolset} for name, tool_input in calls]
    return message(blocks, stop_reason="tool_use")


def starts_whole(reply: Reply) -> Reply:
    """Stream a message as one `message_start` that holds all of it, and `message_stop` (section 9 of the grammar)."""
    if reply.content is None:
        raise ValueError(f"starts_whole() takes a message, not a reply of kind {reply.kind!r}: use replies.text")
    return evolve(reply, starts_whole=True)


def error(
    status: int,
    type: str,  # noqa: A002  # the API's own word
    message: str,
    *,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Fail with any row of the API's error table (E1-E18), in its envelope (E0)."""
    inner = {"type": type, "message": message} | ({"details": _copy(dict(details), "details")} if details else {})
    return Reply(status=status, error=inner, headers=dict(headers or {}))


def overloaded(*, retry_after: float | str | None = None) -> Reply:
    """Fail with 529 (E16)."""
    return error(529, "overloaded_error", "Overloaded", headers=_retry_after(retry_after))


def rate_limited(*, retry_after: float | str | None = None, error_code: str | None = None) -> Reply:
    """Fail with 429 (E10-E12); `retry_after` in seconds, or any text to put on the wire."""
    details = None if error_code is None else {"error_code": error_code}
    text = "This request would exceed your rate limit. Please try again later."
    return error(429, "rate_limit_error", text, details=details, headers=_retry_after(retry_after))


def _retry_after(value: float | str | None) -> dict[str, str]:
    return {} if value is None else {"retry-after": value if isinstance(value, str) else f"{value:g}"}


def sse_error(
    type: str,  # noqa: A002  # the API's own word
    *,
    after: int = 3,
    message: str | None = None,
    reply: Reply | None = None,
) -> Reply:
    """Break a stream off with an SSE `error` event after `after` events of `reply` (E23).

    A request that does not stream gets the same error as a plain one.
    """
    if after < 0:
        raise ValueError(f"sse_error(after={after}) counts events: use 0 or more")
    base = reply or text("An answer that will not be finished.")
    if base.content is None:
        raise ValueError("sse_error(reply=...) takes a message: build one with replies.text")
    inner = {"type": type, "message": message or type.removesuffix("_error").replace("_", " ").capitalize()}
    return evolve(base, error=inner, error_after=after)


def repeat_id(n_back: int = 1) -> Reply:
    """Send the calls of an earlier reply again, with the ids they had: a fault, which the API itself never makes.

    Params: `n_back` counts back over this conversation's replies that hold calls (a conversation is told by its first
    message). Source: reliability.md D1.
    """
    if n_back < 1:
        raise ValueError(f"repeat_id({n_back}) counts back: use 1 for the newest reply that holds calls")
    return Reply(repeats=n_back)


def raw(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
    """Send these bytes as they are, with this status."""
    return Reply(status=status, body=body, headers=dict(headers or {}))


def body(value: object, *, status: int = 200) -> Reply:
    """Send any JSON value, by default with status 200: `{}`, or an error envelope that claims success (S11.3)."""
    return raw(status, json.dumps(value).encode(), {"content-type": "application/json"})


def html(text: str = "<html><body><h1>Bad gateway</h1></body></html>", *, status: int = 200) -> Reply:
    """Send a page, as a proxy in between does (S11.3)."""
    return raw(status, text.encode(), {"content-type": "text/html; charset=utf-8"})


def cut(reply: Reply, *, after: int | None = None, after_bytes: int | None = None, clean: bool = True) -> Reply:
    """End the body of `reply` early: `after` so many SSE events, or `after_bytes` (G20).

    Params:
        reply: any reply that is sent as a body.
        after: number of SSE events; a body that is no stream is cut in the middle instead.
        after_bytes: number of bytes.
        clean: true for a proper end of a body that is too short; false for a connection lost on the way (over HTTP, the
            chunk terminator or the announced rest never comes; with `after_bytes=0` no answer comes at all).

    Raises:
        ValueError: not exactly one of `after` and `after_bytes` was given, or a negative one.
    """
    given = [number for number in (after, after_bytes) if number is not None]
    if len(given) != 1 or given[0] < 0:
        raise ValueError("cut() needs exactly one of after= (events) and after_bytes=, 0 or more")
    return evolve(reply, cut=Cut(events=after, byte_count=after_bytes, clean=clean))
