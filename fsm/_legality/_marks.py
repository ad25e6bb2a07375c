"""Cache marks: how many, with which lifetimes, and where none may be (R48–R50)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _findings as findings
from ._blocks import is_thinking
from ._findings import Violation, said

if TYPE_CHECKING:
    from ._asked import Asked

__all__ = ["check_cache_control"]

_MOST = 4
_TTLS = ("5m", "1h")


def check_cache_control(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    """R48–R50, in the order in which the API caches: tools, system, messages."""
    marks = list(_marks(request, asked))
    for at, mark in marks:
        yield from _shape(at, mark)
    for block in asked.blocks:
        if is_thinking(block.kind) and block.value.get("cache_control") is not None:
            text = "Extra inputs are not permitted"
            yield said("R50", f"{block.at}.{block.kind}.cache_control", text, "Mark the block before or after it.")
    short = False
    for at, mark in marks:
        ttl = mark.get("ttl", _TTLS[0]) if isinstance(mark, Mapping) else None
        if ttl == _TTLS[1] and short:
            text = (
                "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. Note that blocks "
                "are processed in the following order: `tools`, `system`, `messages`."
            )
            yield said("R49", f"{at}.ttl", text, "Put the marks that last longer first.")
            break
        short = short or ttl == _TTLS[0]
    own = request.get("cache_control")
    if own is not None:
        yield from _shape("cache_control", own)
        yield from _automatic(request, own, marks)
    elif len(marks) > _MOST:
        yield _too_many("R48", len(marks))


def _too_many(rule: str, count: int) -> Violation:
    text = f"A maximum of {_MOST} blocks with cache_control may be provided. Found {count}."
    return Violation(rule, "cache_control", text, "Keep the last marks; one covers everything before it.")


def _automatic(request: Mapping[str, Any], own: object, marks: list[tuple[str, Any]]) -> Iterator[Violation]:
    """R50: the mark that the API sets by itself on the last block counts as one more, and agrees with one there."""
    if len(marks) >= _MOST:
        yield _too_many("R50", len(marks) + 1)
        return
    messages = request.get("messages")
    last = messages[-1] if isinstance(messages, list | tuple) and messages else None
    content = last.get("content") if isinstance(last, Mapping) else None
    block = content[-1] if isinstance(content, list | tuple) and content else None
    mark = block.get("cache_control") if isinstance(block, Mapping) else None
    if isinstance(own, Mapping) and isinstance(mark, Mapping) and own.get("ttl", "5m") != mark.get("ttl", "5m"):
        text = "the ttl of the automatic breakpoint must be that of the cache_control on the last block"
        yield said("R50", "cache_control.ttl", text, "Give both the same ttl, or leave one of them out.")


def _marks(request: Mapping[str, Any], asked: Asked) -> Iterator[tuple[str, Any]]:
    tools, system = request.get("tools"), request.get("system")
    for index, tool in enumerate(tools if isinstance(tools, list | tuple) else ()):
        if isinstance(tool, Mapping) and tool.get("cache_control") is not None:
            kind = tool.get("type") or "custom"
            yield f"tools.{index}.{kind}.cache_control", tool["cache_control"]
    for index, block in enumerate(system if isinstance(system, list | tuple) else ()):
        if isinstance(block, Mapping) and block.get("cache_control") is not None:
            yield f"system.{index}.cache_control", block["cache_control"]
    for each in asked.blocks:
        at = f"{each.at}.{each.kind}"
        inner = each.value.get("content") if each.kind == "tool_result" else None
        for index, part in enumerate(inner if isinstance(inner, list | tuple) else ()):
            if isinstance(part, Mapping) and part.get("cache_control") is not None:
                yield f"{at}.content.{index}.{part.get('type')}.cache_control", part["cache_control"]
        if each.value.get("cache_control") is not None and not is_thinking(each.kind):
            yield f"{at}.cache_control", each.value["cache_control"]


def _shape(at: str, mark: object) -> Iterator[Violation]:
    if not isinstance(mark, Mapping):
        yield findings.wrong_type(at, "an object")
    elif "type" not in mark:
        yield findings.missing(f"{at}.type")
    elif mark["type"] != "ephemeral":
        yield findings.wrong_type(f"{at}.type", "'ephemeral'")
    elif mark.get("ttl", "5m") not in _TTLS:
        yield findings.wrong_type(f"{at}.ttl", "'5m' or '1h'")
