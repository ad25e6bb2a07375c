"""`violations`: the rules over a whole request body, in the order in which the API looks (R2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve

from . import _findings as findings
from ._asked import Asked, all_blocks
from ._envelope import AFTER_MESSAGES, BEFORE_MESSAGES, max_tokens
from ._features import check_turns, unknown_keys, without_code
from ._media import check_media
from ._profile import LENIENT, Profile
from ._thinking import check_history, mode
from ._turns import Legality

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ._findings import Violation

__all__ = ["REQUIRED", "violations"]

REQUIRED = ("model", "messages", "max_tokens")
"""The fields that a request to `/v1/messages` must have; `/v1/messages/count_tokens` needs no `max_tokens`."""

# R2: the shapes of all messages are judged before the rest of the envelope, and how turns fit together comes last.
_SHAPES = frozenset({"R4", "R7", "R19a", "R19b", "R19c", "R19d"})
_MOST_MESSAGES = 100_000


def violations(
    request: Mapping[str, Any],
    profile: Profile | None = None,
    *,
    required: Collection[str] = REQUIRED,
    version: str | None = None,
    betas: Collection[str] | None = None,
    paused: bool = False,
) -> tuple[Violation, ...]:
    """Return all that is wrong with a request body, in the order in which the API looks; it would name the first.

    Params:
        request: the JSON body; anything else gives a finding, never an error.
        profile: what is refused beyond the rules that hold for all, see `profile_of`; None refuses nothing that is
            doubtful.
        required: the fields that must be there. A body that has `anthropic_version` needs no model, since Bedrock and
            Vertex have it in the address.
        version: the `anthropic-version` header, which decides R4a; None takes that of the profile.
        betas: the values of the `anthropic-beta` header, which make fields known (R3); None where it is not known, and
            then no field is refused for the lack of one.
        paused: whether the last message is a reply that stopped with `pause_turn`. It goes back as it is, whatever it
            ends with (S7.2), so R24, R25, R38 and R57 do not hold; a body alone does not tell.

    Returns:
        The findings, empty for a request that may be sent. Rules that need more than the body are not among them:
        docs/rules.md names them.
    """
    if not isinstance(request, Mapping):
        return (findings.Violation("R4", "", "Input should be an object", "Send a JSON object as the body."),)
    profile = LENIENT if profile is None else profile
    if version is not None and version != profile.version:
        profile = evolve(profile, version=version)
    blocks = tuple(all_blocks(request, plain=False))
    asked = Asked(profile, None if betas is None else frozenset(betas), blocks)
    return tuple(_all(request, asked, frozenset(required), paused=paused))


def _all(request: Mapping[str, Any], asked: Asked, required: frozenset[str], *, paused: bool) -> Iterator[Violation]:
    if asked.strict and (unsent := _unsendable(request)):
        yield unsent
    if "model" in required and "model" not in request and "anthropic_version" not in request:
        yield findings.missing("model")
    for check in BEFORE_MESSAGES:
        yield from check(request, asked)
    turns, end = _messages(request, asked, required, paused=paused)
    yield from (each for each in turns if each.rule in _SHAPES)
    yield from check_media(asked)
    for check in AFTER_MESSAGES:
        yield from check(request, asked)
        if check is max_tokens and "max_tokens" in required and "max_tokens" not in request:
            yield findings.missing("max_tokens")
    yield from unknown_keys(request, asked)
    yield from (each for each in turns if each.rule == "R3")
    yield from (each for each in turns if each.rule not in _SHAPES and each.rule != "R3")
    if end is not None:
        yield from check_history(request, asked, end)
        yield from check_turns(request, asked, end)
    yield from without_code(request)


def _messages(
    request: Mapping[str, Any], asked: Asked, required: frozenset[str], *, paused: bool
) -> tuple[list[Violation], Legality | None]:
    """The findings of the fold over the messages, and the state after the last one."""
    if "messages" not in request:
        return ([findings.missing("messages")] if "messages" in required else []), None
    messages, profile = request["messages"], asked.profile
    if not isinstance(messages, list | tuple):
        return [findings.wrong_type("messages", "a valid array")], None
    if len(messages) > _MOST_MESSAGES:
        return [findings.too_many_messages(len(messages), _MOST_MESSAGES)], None
    # R25: a fallback credit pays for one more partial reply, and what is compacted may end in a finished reply.
    if request.get("fallback_credit_token") is not None or request.get("compaction") is not None:
        profile = evolve(profile, prefill_allowed=None, final_whitespace_allowed=None)
    if profile.starts_with_thinking and mode(request) != "enabled":  # R33 is a rule of manual thinking
        profile = evolve(profile, starts_with_thinking=None)
    thread = request.get("thread")
    state = Legality.start(profile, continued=isinstance(thread, Mapping) and thread.get("type") == "continue")
    found: list[Violation] = []
    for message in messages:
        state, new = state.step(message)
        found += new
    if paused:
        state = state.as_paused()
    return [*found, *state.finish()], state


def _unsendable(request: Mapping[str, Any]) -> Violation | None:
    """R26: what JSON in UTF-8 cannot say; clients fail before they send it, so only the strict profile looks."""
    try:
        json.dumps(request, ensure_ascii=False, allow_nan=False, default=lambda value: str(type(value))).encode()
    except UnicodeEncodeError:
        return findings.unsendable("strings must not contain lone surrogates")
    except (ValueError, TypeError, RecursionError):
        return findings.unsendable("numbers must be finite, and keys strings")
    return None
