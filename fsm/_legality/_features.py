"""Fields of features, most of them beta: who knows them, and what does not go together (R3, R18, R53, R57, R70–R72)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _findings as findings
from ._asked import all_blocks, named
from ._findings import Violation, said
from ._tools import forced

if TYPE_CHECKING:
    from ._asked import Asked
    from ._turns import Legality

__all__ = ["check_features", "check_turns", "unknown_keys", "without_code"]

_STABLE = frozenset({
    "model", "messages", "max_tokens", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control",
    "metadata", "stop_sequences", "temperature", "service_tier", "top_k", "top_p", "stream", "container",
    "inference_geo", "diagnostics", "speed", "anthropic_version", "anthropic_beta",
})  # fmt: skip
_BETA = {
    "billing_policy": ("user-profiles-",),
    "compaction": ("compact-2026-09-04",),
    "context_management": ("context-management-", "compact-2026-01-12"),
    "fallback_credit_token": ("fallback-credit-",),
    "fallbacks": ("server-side-fallback-",),
    "mcp_servers": ("mcp-client-",),
    "output_format": ("structured-outputs-",),
    "thread": ("message-threads-",),
}
_NOT_IN_THREADS = ("cache_control", "context_management", "fallbacks", "thinking")
_MOST_FALLBACKS = 3
# Server tools of these families run code on the server by themselves from this version on.
_CODE_SINCE = "20260209"


def unknown_keys(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    """R3: fields that the API does not know, or not without their beta header."""
    if asked.profile.extra_keys_allowed:
        return
    for key in request:
        features = _BETA.get(key) if isinstance(key, str) else None
        if key in _STABLE or (features is not None and asked.has(*features) is not False):
            continue
        text = "Extra inputs are not permitted"
        wanted = f"Send the anthropic-beta header for `{key}`." if features else f"Leave `{key}` out."
        yield said("R3", str(key), text, wanted)


def check_features(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    """R70–R72: compaction, threads and fallbacks beside what they exclude."""
    thread = request.get("thread")
    if thread is not None and (wrong := [name for name in _NOT_IN_THREADS if request.get(name) is not None]):
        text = f"not supported together with {', '.join(wrong)}"
        yield said("R71", "thread", text, f"Leave out: {', '.join(wrong)}; or send the whole conversation instead.")
    if request.get("fallbacks") is not None:
        yield from _fallbacks(request["fallbacks"], asked)
    if request.get("compaction") is not None:
        config = request.get("output_config")
        excluded = {
            "context_management": request.get("context_management") is not None,
            "stop_sequences": bool(request.get("stop_sequences")),
            "output_config.format": isinstance(config, Mapping) and config.get("format") is not None,
            "a forced tool_choice": forced(request),
        }
        if wrong := [name for name, is_so in excluded.items() if is_so]:
            text = f"cannot be combined with {', '.join(wrong)}"
            yield said("R70", "compaction", text, "Leave these out of the request that compacts.")


def _fallbacks(fallbacks: object, asked: Asked) -> Iterator[Violation]:
    if fallbacks == "default":
        if asked.has("server-side-fallback-2026-07-01") is False and asked.has("server-side-fallback-"):
            text = "the form 'default' requires the beta server-side-fallback-2026-07-01"
            yield said("R72", "fallbacks", text, "Send that beta header, or list the models.")
        return
    if not isinstance(fallbacks, list | tuple):
        yield findings.wrong_type("fallbacks", "a valid array or 'default'", "R72")
        return
    models = []
    for index, each in enumerate(fallbacks):
        model = each.get("model") if isinstance(each, Mapping) else None
        if not isinstance(each, Mapping):
            yield findings.wrong_type(f"fallbacks.{index}", "an object", "R72")
        elif not isinstance(model, str):
            yield findings.missing(f"fallbacks.{index}.model", "R72")
        models.append(model)
    if len(fallbacks) > _MOST_FALLBACKS:
        text = f"at most {_MOST_FALLBACKS} fallback models may be provided. Found {len(fallbacks)}"
        yield said("R72", "fallbacks", text, f"Name at most {_MOST_FALLBACKS} models.")
    if len(set(map(str, models))) < len(models):
        yield said("R72", "fallbacks", "fallback models must be distinct", "Name each model once.")


def check_turns(request: Mapping[str, Any], asked: Asked, end: Legality) -> Iterator[Violation]:
    """R16, R18, R19e, R57, R70: what the conversation needs of the rest of the request; `end` is its last state."""
    whole = "thread" not in request  # a thread keeps tools and history on the server
    if whole:
        yield from _undeclared(request, asked, end)
    if whole and asked.strict and not request.get("tools") and request.get("compaction") is None:
        yield from _without_tools(request)
    if end.coded_calls and request.get("container") is None:
        yield findings.no_container(end.coded_calls)
    config = request.get("output_config")
    if isinstance(config, Mapping) and config.get("format") is not None:
        yield from _formatted(asked, end)
    yield from _compactions(request, asked, end)


def _without_tools(request: Mapping[str, Any]) -> Iterator[Violation]:
    if any(block.kind in {"tool_use", "tool_result"} for block in all_blocks(request)):
        text = "Requests which include `tool_use` or `tool_result` blocks must define tools."
        yield Violation("R19e", "tools", text, "Send the same `tools` with every request of a conversation.")


def _undeclared(request: Mapping[str, Any], asked: Asked, end: Legality) -> Iterator[Violation]:
    """R16: a paused turn goes on only where its tool is still there."""
    if not (asked.strict and request.get("tools")):
        return
    names = set(named(request.get("tools")))
    for use in end.pending:
        # What code on the server runs under other names, and MCP tools are declared by their server.
        if use.tool in names or use.tool.endswith("code_execution") or use.result == "mcp_tool_result":
            continue
        yield findings.pending_server_tool(f"messages.{use.turn}", use.id, use.tool, use.result)


def _formatted(asked: Asked, end: Legality) -> Iterator[Violation]:
    for block in asked.blocks:
        citations = block.value.get("citations")
        if block.kind in {"document", "search_result"} and isinstance(citations, Mapping) and citations.get("enabled"):
            text = "`output_config.format` cannot be combined with citations"
            yield Violation("R57", f"{block.at}.{block.kind}.citations", text, "Switch citations off, or the format.")
            break
    if end.is_prefilled:
        text = "`output_config.format` cannot be combined with an assistant message at the end"
        yield Violation("R57", end.at, text, "End the request with a user message.")


def _compactions(request: Mapping[str, Any], asked: Asked, end: Legality) -> Iterator[Violation]:
    if request.get("compaction") is not None and end.pending:
        text = "the last turn is not complete: a server tool has no result yet"
        yield said("R70", "compaction", text, "Let the model finish the turn before you compact.")
    if not asked.strict or request.get("context_management") is not None:
        return
    # Only the blocks of the form on demand are signed; those of the automatic form may stand anywhere (S10).
    found = [
        each
        for each in asked.blocks
        if each.kind == "compaction" and each.value.get("content") is not None and each.value.get("signature")
    ]
    if len(found) > 1:
        text = "only one `compaction` block with content may be provided"
        yield said("R70", found[1].at, text, "Keep the newest compaction block.")
    elif found and (found[0].turn, found[0].index) != (0, 0):
        text = "`compaction` blocks must come first, in place of the messages that they summarise"
        yield said("R70", found[0].at, text, "Put the block at the beginning and leave out what it summarises.")


def without_code(request: Mapping[str, Any]) -> Iterator[Violation]:
    """R53, which the API looks at last: a container is for code that runs on the server."""
    if request.get("container") is None or "thread" in request:
        return
    tools = request.get("tools")
    kinds = [str(tool.get("type")) for tool in tools or () if isinstance(tool, Mapping)] if _is_list(tools) else []
    if any(kind.startswith("code_execution_") for kind in kinds):
        return
    if any(kind.startswith(("web_search_", "web_fetch_")) and kind[-8:] >= _CODE_SINCE for kind in kinds):
        return
    text = "Container identifier can only be provided when using the code execution tool"
    yield said("R53", "container", text, "Declare the code execution tool, or leave `container` out.")


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)
