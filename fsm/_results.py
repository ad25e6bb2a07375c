"""What a tool did as the result the model reads: a value, an exception, a time-out, each as text or blocks to send."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ._actions import OpenCall
from ._errors import FsmError
from ._events import ToolEnd
from ._redact import SecretsFilter, redact_secrets

log = logging.getLogger("fsm.tools")
log.addFilter(SecretsFilter())  # what a tool raises may quote a key (X7)


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
    seconds = _seconds(call, started)
    try:
        content = _content(value)
    except Exception as error:  # noqa: BLE001 - a value's own method, such as `model_dump`, may raise anything
        text = f"The tool '{call.name}' returned something that is not text or JSON: {error}"
        return ToolEnd(call.id, sendable(text), is_error=True, seconds=seconds)
    limit = call.spec.max_result if call.spec else _SHORT
    content = _bounded(content, limit)
    if call.is_programmatic and not isinstance(content, str):
        content = _for_code(content)
    if call.edited:
        shown = json.dumps(dict(call.input), ensure_ascii=False)
        note = f"Note: a person changed the input of this call to {shown[:_SHORT]}."
        content = f"{note}\n{content}" if isinstance(content, str) else [{"type": "text", "text": note}, *content]
    return ToolEnd(call.id, content, seconds=seconds)


_SHORT = 2000

PATIENCE_OF_CODE = 240.0
"""Seconds, about: after that the API gives up a call that code in a container waits for (S6.8)."""


def _seconds(call: OpenCall, started: float) -> float:
    seconds = round(time.monotonic() - started, 6)  # nobody needs more, and it is recorded
    warn_if_late(call, seconds)
    return seconds


def warn_if_late(call: OpenCall, seconds: float) -> None:
    """S6.8: say in the log that the next request will fail, and why, where the code that called no longer waits."""
    if call.is_programmatic and seconds > PATIENCE_OF_CODE:
        log.warning(
            "the programmatic call %s of the tool %s took %.0f s: the code that made it waits about %.0f s, so the API "
            "may refuse its result (S6.8). Give the tool a shorter timeout=.",
            json.dumps(call.id),
            json.dumps(call.name[:_NAME]),
            seconds,
            PATIENCE_OF_CODE,
        )


def warn_if_asked(calls: Sequence[OpenCall]) -> None:
    """S6.8: say in the log that code in a container waits while a person is asked."""
    names = sorted({call.name[:_NAME] for call in calls if call.is_programmatic})
    if names:
        log.warning(
            "a person is asked about programmatic calls of %s: the code that made them waits about %.0f s, then the "
            "API refuses the results (S6.8). Leave such tools out of allowed_callers, or need no approval for them.",
            json.dumps(names),
            PATIENCE_OF_CODE,
        )


_NAME = 200  # characters of a name, which comes from a model, that go into the log

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
    seconds = _seconds(call, started)
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
    text = f"The tool '{call.name}' failed: {type(error).__name__}: {redact_secrets(why[:_SHORT])}"  # X7
    return ToolEnd(call.id, sendable(text), is_error=True, seconds=seconds)


def _said(content: Any) -> str:
    """The words of a `ToolError`. R19c: beside `is_error` only text may stand, so other blocks are named."""
    if isinstance(content, str):
        return content
    return _as_text(content) if isinstance(content, (list, tuple)) else ""


def _as_text(blocks: Sequence[Any]) -> str:
    """Blocks as text, where only text may stand (R18, R19c): what cannot be text is named, so that nobody misses it."""
    return "\n".join(_text_of(block) for block in blocks if isinstance(block, Mapping))


def _for_code(blocks: Sequence[Mapping[str, Any]]) -> str:
    """R18: the code that called reads text only; a note tells the model what is missing."""
    left_out = any(block.get("type") != "text" for block in blocks)
    note = ["[Note: code reads text only; what stands in brackets was left out.]"] if left_out else []
    return "\n".join([_as_text(blocks), *note])


def _text_of(block: Mapping[str, Any]) -> str:
    if block.get("type") == "text":
        return str(block.get("text") or "")
    source = block.get("source")
    if block.get("type") == "document" and isinstance(source, Mapping) and source.get("type") == "text":
        return str(source.get("data") or "")
    return f"[{str(block.get('type'))[:_NAME]}]"


def timeout_end(call: OpenCall, seconds: float) -> ToolEnd:
    """A call that took too long. Whether it still runs is unknown, so its late result is ignored."""
    warn_if_late(call, seconds)
    text = f"The tool '{call.name}' gave no result within {seconds:g} seconds; it may still take effect."
    return ToolEnd(call.id, text, is_error=True, seconds=seconds)
