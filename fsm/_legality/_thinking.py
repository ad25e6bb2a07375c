"""Thinking: its mode, its budget, and what does not go together with it (R30, R33, R34, R36–R38)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _findings as findings
from ._asked import tags
from ._blocks import is_thinking
from ._findings import Violation, said
from ._tools import forced

if TYPE_CHECKING:
    from ._asked import Asked
    from ._turns import Legality

__all__ = ["check_history", "check_thinking", "mode"]

_MODES = ("adaptive", "between_tools", "disabled", "enabled")
_LEAST = 1024
_INSTEAD = {
    "enabled": (
        '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
        '"output_config.effort" to control thinking behavior.'
    ),
    "adaptive": "adaptive thinking is not supported on this model",
    "disabled": '"thinking.type.disabled" is not supported for this model.',
}


def mode(request: Mapping[str, Any]) -> str:
    """The mode of thinking, empty where none is given or it cannot be read."""
    thinking = request.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, Mapping) else None
    return kind if isinstance(kind, str) else ""


def check_thinking(request: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    """R30, R34, R36: the mode that the model takes, its budget, and no forced tool beside it."""
    if forced(request) and (asked.profile.forced_choice is False or mode(request) == "enabled"):
        # A model of which this is known thinks unasked, so it does not matter whether `thinking` is given.
        text = "Thinking may not be enabled when tool_choice forces tool use."
        yield Violation("R36", "thinking", text, "Use the tool_choice auto, or switch thinking off.")
    if not asked.given(request, "thinking"):
        return
    thinking = request["thinking"]
    if not isinstance(thinking, Mapping):
        yield findings.wrong_type("thinking", "an object")
        return
    kind = thinking.get("type")
    if "type" not in thinking:
        yield findings.missing("thinking.type")
        return
    if not isinstance(kind, str) or (asked.strict and kind not in _MODES):
        text = f"Input tag '{kind}' found using 'type' does not match any of the expected tags: {tags(_MODES)}"
        yield said("R34", "thinking", text, "Choose one of the expected tags.")
        return
    if kind == "enabled":
        yield from _budget(request, thinking, asked)
    known = asked.profile.thinking
    if known is not None and kind not in known and (kind in _INSTEAD or asked.strict):
        text = _INSTEAD.get(kind, f'"thinking.type.{kind}" is not supported for this model.')
        yield Violation("R34", "thinking.type", text, f"Use one of: {', '.join(sorted(known))}.")
    efforts, config = asked.profile.disabled_efforts, request.get("output_config")
    effort = config.get("effort") if isinstance(config, Mapping) else None
    if kind == "disabled" and efforts is not None and isinstance(effort, str) and effort not in efforts:
        text = f'"thinking.type.disabled" is not supported at effort "{effort}" for this model.'
        yield Violation("R34", "thinking.type", text, "Lower the effort to high, or let the model think.")


def _budget(request: Mapping[str, Any], thinking: Mapping[str, Any], asked: Asked) -> Iterator[Violation]:
    at, budget, limit = "thinking.enabled.budget_tokens", thinking.get("budget_tokens"), request.get("max_tokens")
    if "budget_tokens" not in thinking:
        yield findings.missing(at, "R30")
    elif not isinstance(budget, int) or isinstance(budget, bool):
        yield findings.wrong_type(at, "a valid integer", "R30")
    elif budget < _LEAST:
        yield findings.too_small(at, _LEAST, "R30")
    elif isinstance(limit, int) and limit and limit <= budget:  # R47 judges a limit of 0
        # Thinking between tool calls has its budget from the whole turn; without headers that is possible with tools.
        between = asked.has("interleaved-thinking")
        if not (between or (between is None and request.get("tools") and not asked.strict)):
            text = "max_tokens must be greater than thinking.budget_tokens"
            yield Violation("R30", "max_tokens", text, "Raise max_tokens, or lower the budget.")


def check_history(request: Mapping[str, Any], asked: Asked, end: Legality) -> Iterator[Violation]:
    """R33, R38: how a conversation may end while thinking is on; `end` is the state after its last message."""
    kind = mode(request)
    if kind == "enabled" and asked.profile.starts_with_thinking and end.opening is not None:
        turn, first = end.opening
        if not is_thinking(first):
            yield findings.no_thinking_first(f"messages.{turn}.content.0", first)
    is_exempt = request.get("fallback_credit_token") is not None or request.get("compaction") is not None
    is_said = asked.profile.prefill_allowed is False  # by R25
    if kind in {"enabled", "adaptive"} and end.is_prefilled and not (is_exempt or is_said):
        yield findings.thinking_prefill(end.at)
