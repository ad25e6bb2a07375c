"""Short ways to write the messages of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Message = Mapping[str, Any]


def user(*blocks: Any) -> Message:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> Message:
    return {"role": "assistant", "content": list(blocks)}


def system(*blocks: Any) -> Message:
    return {"role": "system", "content": list(blocks)}


def text(words: str = "words", **more: Any) -> Message:
    return {"type": "text", "text": words, **more}


def use(call: str = "toolu_1", **more: Any) -> Message:
    return {"type": "tool_use", "id": call, "name": "find", "input": {}, **more}


def result(call: str = "toolu_1", **more: Any) -> Message:
    return {"type": "tool_result", "tool_use_id": call, "content": "found", **more}


def search(call: str = "srvtoolu_1", name: str = "web_search", **more: Any) -> Message:
    return {"type": "server_tool_use", "id": call, "name": name, "input": {}, **more}


def searched(call: str = "srvtoolu_1", kind: str = "web_search_tool_result") -> Message:
    return {"type": kind, "tool_use_id": call, "content": []}


def mcp(call: str = "mcptoolu_1") -> Message:
    return {"type": "mcp_tool_use", "id": call, "name": "look", "server_name": "docs", "input": {}}


def body(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "claude-sonnet-5", "max_tokens": 64, "messages": list(messages), **more}


HI = user(text())
THINKING = {"type": "thinking", "thinking": "", "signature": "c2ln"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
