"""`violations`: the rules over a whole request body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve

from . import _findings as findings
from ._blocks import check_block
from ._profile import LENIENT, Profile
from ._turns import Legality

if TYPE_CHECKING:
    from collections.abc import Collection

    from ._findings import Violation

__all__ = ["REQUIRED", "violations"]

REQUIRED = ("model", "messages", "max_tokens")
"""The fields that a request to `/v1/messages` must have; `/v1/messages/count_tokens` needs no `max_tokens`."""

# R2: the shapes of all messages are judged before the rest of the envelope, and how turns fit together comes last.
_SHAPES = frozenset({"R4", "R7", "R19a", "R19b", "R19c", "R19d"})


def violations(
    request: Mapping[str, Any], profile: Profile | None = None, *, required: Collection[str] = REQUIRED
) -> tuple[Violation, ...]:
    """Return all that is wrong with a request body, in the order in which the API looks; it would name the first.

    Params:
        request: the JSON body; anything else gives a finding, never an error.
        profile: what is refused beyond the rules that hold for all; None refuses nothing that is doubtful.
        required: the fields that must be there. A body that has `anthropic_version` needs no model, since Bedrock and
            Vertex have it in the address.

    Returns:
        The findings of `Legality.step` for each message and of `finish`, and those of the envelope.
    """
    if not isinstance(request, Mapping):
        return (findings.Violation("R4", "", "Input should be an object", "Send a JSON object as the body."),)
    found: list[Violation] = []
    if "model" in required and "model" not in request and "anthropic_version" not in request:
        found.append(findings.missing("model"))
    turns = _messages(request, LENIENT if profile is None else profile, required)
    found += [each for each in turns if each.rule in _SHAPES]
    found += _system(request)
    if "max_tokens" in required and "max_tokens" not in request:
        found.append(findings.missing("max_tokens"))
    found += [each for each in turns if each.rule == "R3"]
    found += [each for each in turns if each.rule not in _SHAPES and each.rule != "R3"]
    return tuple(found)


def _messages(request: Mapping[str, Any], profile: Profile, required: Collection[str]) -> list[Violation]:
    if "messages" not in request:
        return [findings.missing("messages")] if "messages" in required else []
    messages = request["messages"]
    if not isinstance(messages, list | tuple):
        return [findings.wrong_type("messages", "a valid array")]
    if request.get("fallback_credit_token") is not None:  # R25: such a request may end with the partial reply
        profile = evolve(profile, prefill_allowed=None)
    thread = request.get("thread")
    state = Legality.start(profile, continued=isinstance(thread, Mapping) and thread.get("type") == "continue")
    found: list[Violation] = []
    for message in messages:
        state, new = state.step(message)
        found += new
    return [*found, *state.finish()]


def _system(request: Mapping[str, Any]) -> list[Violation]:
    system = request.get("system")
    found: list[Violation] = []
    if isinstance(system, list | tuple):
        for index, block in enumerate(system):
            check_block(block, f"system.{index}", found)
    elif system is not None and not isinstance(system, str):
        found.append(findings.wrong_type("system", "a valid array"))
    return found
