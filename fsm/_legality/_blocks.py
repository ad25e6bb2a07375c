"""What one content block may look like by itself, whatever stands around it (R4, R19a–R19d, R20, R23)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import _findings as findings

if TYPE_CHECKING:
    from ._findings import Violation

__all__ = [
    "check_block",
    "check_citations",
    "is_coded",
    "is_server_result",
    "is_thinking",
    "only_in_assistant",
    "only_text",
    "result_kind",
    "use_kind",
]

_CLIENT_ID = r"^[a-zA-Z0-9_-]+$"
_SERVER_ID = r"^srvtoolu_[a-zA-Z0-9_]+$"
# `$` also matches before a final newline, so the expressions are applied with `fullmatch`.
_ID_PATTERNS = {
    "tool_use": (re.compile(_CLIENT_ID), _CLIENT_ID),
    "server_tool_use": (re.compile(_SERVER_ID), _SERVER_ID),
}

_USES = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_THINKING = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}
_ASSISTANT_ONLY = _USES | _THINKING.keys()
_IN_RESULT = ("text", "image", "document", "search_result", "tool_reference", "browser_state")


def is_server_result(kind: str) -> bool:
    """Whether blocks of this type hold the result of a tool that ran on the server; new tools keep to this naming."""
    return kind.endswith("_tool_result")


def only_in_assistant(kind: str) -> bool:
    """Whether blocks of this type can only be in assistant messages (R19)."""
    return kind in _ASSISTANT_ONLY or is_server_result(kind)


def is_thinking(kind: str) -> bool:
    """Whether blocks of this type hold thinking."""
    return kind in _THINKING


def is_coded(use: Mapping[str, Any]) -> bool:
    """Whether code that runs on the server made this call, which then waits for its result (R18)."""
    caller = use.get("caller")
    kind = caller.get("type") if isinstance(caller, Mapping) else None
    return isinstance(kind, str) and kind.startswith("code_execution_")


def only_text(content: object) -> bool:
    """Whether the content of a tool result holds nothing but text; what cannot be read has a finding of its own."""
    if not isinstance(content, list | tuple):
        return True
    return all(isinstance(part, Mapping) and part.get("type") == "text" for part in content)


def check_citations(block: Mapping[str, Any], kind: str, at: str, found: list[Violation]) -> None:
    """Add to `found` each text of a user's block that cites; `citations` of a document only switch it on (R4a)."""
    if kind == "text":
        if block.get("citations"):
            found.append(findings.removed(f"{at}.text.citations"))
    elif kind in {"search_result", "tool_result"} and isinstance(content := block.get("content"), list | tuple):
        for index, part in enumerate(content):
            if isinstance(part, Mapping):
                check_citations(part, str(part.get("type")), f"{at}.{kind}.content.{index}", found)


def result_kind(use: Mapping[str, Any]) -> str:
    """Give the type of the block that answers a `server_tool_use` or `mcp_tool_use` block."""
    if use.get("type") == "mcp_tool_use":
        return "mcp_tool_result"
    name = str(use.get("name"))
    return "tool_search_tool_result" if name.startswith("tool_search_tool") else f"{name}_tool_result"


def use_kind(result: str) -> str:
    """Give the type of the block that a server tool's result answers."""
    return "mcp_tool_use" if result == "mcp_tool_result" else "server_tool_use"


def check_block(block: object, at: str, found: list[Violation]) -> str | None:
    """Add to `found` what is wrong with the block at `at`; return its type, or None if it has none."""
    if type(block) is not dict and not isinstance(block, Mapping):  # the first test is the cheap one
        found.append(findings.wrong_type(at, "an object"))
        return None
    kind = block.get("type")
    if not isinstance(kind, str):
        found.append(_not_a_string(block, "type", f"{at}.type"))
        return None
    if kind == "text":
        check_text(block, at, found)
    elif kind == "tool_result":
        _check_result(block, at, found)
    elif kind in _USES:
        _check_use(block, kind, at, found)
    elif kind in _THINKING:
        lacking = (key for key in _THINKING[kind] if not isinstance(block.get(key), str))
        found += [_not_a_string(block, key, f"{at}.{kind}.{key}") for key in lacking]
    elif is_server_result(kind) and not isinstance(block.get("tool_use_id"), str):
        found.append(_not_a_string(block, "tool_use_id", f"{at}.{kind}.tool_use_id", "R19d"))
    return kind


def check_text(block: Mapping[str, Any], at: str, found: list[Violation]) -> None:
    """Add to `found` what is wrong with a text block; `at` may also be an address below `system`."""
    text = block.get("text")
    if not isinstance(text, str):
        found.append(_not_a_string(block, "text", f"{at}.text.text"))
    elif not text:  # R21: a single space is accepted
        cached = block.get("cache_control") is not None
        found.append(findings.empty_text_cached(at) if cached else findings.empty_text(at))


def _not_a_string(block: Mapping[str, Any], key: str, at: str, rule: str = "R4") -> Violation:
    return findings.wrong_type(at, "a valid string", rule) if key in block else findings.missing(at, rule)


def _check_use(block: Mapping[str, Any], kind: str, at: str, found: list[Violation]) -> None:
    name, pattern = block.get("id"), _ID_PATTERNS.get(kind)
    if not isinstance(name, str):
        found.append(_not_a_string(block, "id", f"{at}.{kind}.id"))
    elif pattern is not None and pattern[0].fullmatch(name) is None:
        found.append(findings.wrong_pattern(f"{at}.{kind}.id", pattern[1], name))
    if not isinstance(block.get("name"), str):
        found.append(_not_a_string(block, "name", f"{at}.{kind}.name"))
    if "input" not in block:
        found.append(findings.missing(f"{at}.{kind}.input", "R19b"))
    elif type(block["input"]) is not dict and not isinstance(block["input"], Mapping):
        found.append(findings.wrong_type(f"{at}.{kind}.input", "a valid dictionary", "R19b"))


def _check_result(block: Mapping[str, Any], at: str, found: list[Violation]) -> None:
    call = block.get("tool_use_id")
    if type(call) is not str:
        found.append(_not_a_string(block, "tool_use_id", f"{at}.tool_result.tool_use_id", "R19d"))
    content = block.get("content")
    if content is None or isinstance(content, str):
        return
    path = f"{at}.tool_result.content"
    if not isinstance(content, list | tuple):
        found.append(findings.wrong_type(path, "a valid array", "R19c"))
        return
    only_text = True
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping):
            found.append(findings.wrong_type(f"{path}.{index}", "an object", "R19c"))
        elif not isinstance(kind, str):
            found.append(_not_a_string(part, "type", f"{path}.{index}.type", "R19c"))
        elif kind == "tool_result" or only_in_assistant(kind):  # a type that we do not know may be a new one
            found.append(findings.nested_kind(f"{path}.{index}", kind, _IN_RESULT))
        elif kind != "text":
            only_text = False
    if block.get("is_error") is True and not only_text:
        found.append(findings.error_not_text(at, str(call)))
