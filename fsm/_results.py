"""What a tool did as the result the model reads: a value, an exception, a time-out, each as text or blocks to send."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from ._actions import OpenCall
from ._errors import FsmError
from ._events import ToolEnd

log = logging.getLogger("fsm.tools")


class Misfit(FsmError):  # noqa: N818 - no fault of the program: the model reads it and calls again
    """An input that passes the schema and still cannot become the parameters: the function was not entered."""


def reasons_of(error: BaseException) -> str:
    """What pydantic found, where the SDK hides it behind "Invalid arguments"; else nothing."""
    listed = getattr(error.__cause__, "errors", None)
    if type(error.__cause__).__name__ != "ValidationError" or not callable(listed):
        return ""
    found = listed(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(str(p) for p in one['loc'])}: {one['msg']}" for one in found)


def end_of(call: OpenCall, value: Any, started: float) -> ToolEnd:
    """A tool's return value as the result the model reads."""
    seconds = time.monotonic() - started
    try:
        content = _content(value)
    except Exception as error:  # noqa: BLE001 - a value's own method, such as `model_dump`, may raise anything
        text = f"The tool '{call.name}' returned something that is not text or JSON: {error}"
        return ToolEnd(call.id, sendable(text), is_error=True, seconds=seconds)
    limit = call.spec.max_result if call.spec else _SHORT
    content = _bounded(content, limit)
    if call.edited:
        shown = json.dumps(dict(call.input), ensure_ascii=False)
        note = f"Note: a person changed the input of this call to {shown[:_SHORT]}."
        content = f"{note}\n{content}" if isinstance(content, str) else [{"type": "text", "text": note}, *content]
    return ToolEnd(call.id, content, seconds=seconds)


_SHORT = 2000

_BLOCKS = frozenset({"text", "image", "document", "search_result", "tool_reference", "browser_state"})  # R19c


def sendable(text: str) -> str:
    """A text for the model that can always be sent: short, and without halves of characters (R26)."""
    return text[:_SHORT].encode(errors="replace").decode()


def _content(value: Any) -> Any:
    if isinstance(value, str):
        value.encode()  # R26: lone surrogates cannot be sent
        return value or "(no output)"
    if value is None:
        return "(no output)"
    # A copy: what the tool changes afterwards is not in the result.
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_as_json)
    text.encode()
    if not _are_blocks(value):
        return text
    blocks = json.loads(text)
    for block in blocks:
        source = block.get("source")
        if block["type"] in _SOURCED and not (isinstance(source, dict) and isinstance(source.get("type"), str)):
            msg = f"a block of type '{block['type']}' needs a source, as in the API: {{'type': 'base64', ...}}"
            raise ValueError(msg)
    return [b for b in blocks if _says_something(b)] or "(no output)"


_SOURCED = frozenset({"image", "document"})


def _as_json(value: Any) -> Any:
    """A pydantic model, a dataclass or an attrs instance as JSON; `json.dumps` goes on with what is in it."""
    if not isinstance(value, type):
        if hasattr(value, "model_dump"):
            return value.model_dump(mode="json")
        fields = getattr(value, "__dataclass_fields__", None) or [a.name for a in getattr(value, "__attrs_attrs__", ())]
        if fields:
            return {name: getattr(value, name) for name in fields}
    msg = f"a value of type {type(value).__name__} is no JSON"
    raise TypeError(msg)


def _are_blocks(value: Any) -> bool:
    """Content blocks of the API; a list of other objects, also ones that have a `type`, is data."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    return all(isinstance(b, Mapping) and str(b.get("type")) in _BLOCKS and _is_whole(b) for b in value)


def _is_whole(block: Mapping[str, Any]) -> bool:
    return isinstance(block.get("text"), str) if block["type"] == "text" else len(block) > 1


def _says_something(block: Mapping[str, Any]) -> bool:
    return block["type"] != "text" or bool(block["text"])  # R20


def _bounded(content: Any, limit: int) -> Any:
    if isinstance(content, str):
        if len(content) <= limit:
            return content
        return f"{content[:limit]}\n[cut: the result has {len(content)} characters, {limit} are shown]"
    size = len(json.dumps(content))
    if size <= limit:
        return content
    return f"[the result has {size} characters and was left out: at most {limit} are sent. Ask for less.]"


def failed_end(call: OpenCall, error: BaseException, started: float) -> ToolEnd:
    """An exception as the result the model reads. A `ToolError` of the SDK carries its own content."""
    seconds = time.monotonic() - started
    if type(error).__name__ == "ToolError" and (said := _said(getattr(error, "content", None))):
        limit = call.spec.max_result if call.spec else _SHORT
        said = _bounded(said.encode(errors="replace").decode(), limit)
        return ToolEnd(call.id, said, is_error=True, seconds=seconds)
    log.debug("tool %s failed", call.name, exc_info=error)
    try:
        why = str(error)
        if isinstance(error, Misfit):
            text = f"The input does not fit the parameters of '{call.name}': {why}. Nothing was run; call it again."
            return ToolEnd(call.id, sendable(text), is_error=True, seconds=seconds)
        if isinstance(error, ValueError) and (reasons := reasons_of(error)):
            why = f"{why}: {reasons}"
    except Exception:  # noqa: BLE001 - an exception that cannot even say what it is
        why = "its message cannot be read"
    text = f"The tool '{call.name}' failed: {type(error).__name__}: {why}"
    return ToolEnd(call.id, sendable(text), is_error=True, seconds=seconds)


def _said(content: Any) -> str:
    """The words of a `ToolError`. R19c: beside `is_error` only text may stand, so other blocks are named."""
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        return ""
    blocks = [b for b in content if isinstance(b, Mapping)]
    return "\n".join(str(b.get("text") or "") if b.get("type") == "text" else f"[{b.get('type')}]" for b in blocks)


def timeout_end(call: OpenCall, seconds: float) -> ToolEnd:
    """A call that took too long. Whether it still runs is unknown, so its late result is ignored."""
    text = f"The tool '{call.name}' gave no result within {seconds:g} seconds; it may still take effect."
    return ToolEnd(call.id, text, is_error=True, seconds=seconds)
