"""`repaired`: what can be mended in a request without touching what is there.

A history is append-only (R35), so a repair that is safe appends messages. What else a finding needs, such as an empty
block left out or two messages made one, is named in its `repair` and left to whoever wrote the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve

from ._profile import LENIENT
from ._request import violations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._findings import Violation
    from ._profile import Profile

__all__ = ["repaired"]

_NOT_RUN = "This call was not run: the conversation went on without its result."
_GO_ON = "Please continue."
_PREFILL = frozenset({"R25", "R38", "R57"})


def repaired(
    request: Mapping[str, Any], profile: Profile | None = None, **more: Any
) -> tuple[dict[str, Any], tuple[Violation, ...]]:
    """Return a copy of a request with what can be mended by appending messages, and the findings that this mends.

    Calls of the last turn without a result are answered with `is_error` results that say so (R10); a request that ends
    with words of the assistant is ended with a user message, where the model takes none (R25, R38, R57). Nothing else
    is changed, and the request that is given never is: its messages are the first ones of the copy. What a strict
    profile would refuse is no repair: where some calls of a turn are answered, the others cannot be any more (R17).

    Params:
        request: the JSON body.
        profile: as for `violations`, which is asked before and after; so are the other keyword arguments.

    Returns:
        The copy, and the findings that it has no more. Both together are what a person should see before the copy is
        sent; look at `violations` of the copy for what is left.
    """
    before = violations(request, profile, **more)
    copy = dict(request) if isinstance(request, Mapping) else {}
    messages = copy.get("messages")
    if not isinstance(messages, list | tuple) or not messages:
        return copy, ()
    mended: tuple[Violation, ...] = ()
    for appended in (_results(before), _words(messages, before)):
        if appended is None:
            continue
        tried = {**copy, "messages": [*messages, appended]}
        gone = _gone(copy, tried, profile, more)
        # R17: what mends it for a lenient reader only, such as results in a second message, mends nothing.
        surely = {each.rule for each in _gone(copy, tried, _strict(profile), more)}
        if gone and surely.issuperset(each.rule for each in gone):
            copy, mended = tried, gone
            break
    return copy, mended


def _gone(
    before: Mapping[str, Any], after: Mapping[str, Any], profile: Profile | None, more: Mapping[str, Any]
) -> tuple[Violation, ...]:
    """The findings that a change takes away; none where it brings new ones."""
    old, new = violations(before, profile, **more), violations(after, profile, **more)
    return () if any(each not in old for each in new) else tuple(each for each in old if each not in new)


def _strict(profile: Profile | None) -> Profile:
    return evolve(profile or LENIENT, strict=True, split_results_merge=False, extra_keys_allowed=False)


def _results(found: Sequence[Violation]) -> dict[str, Any] | None:
    """The results that the last turn lacks. Those of an earlier one cannot be appended any more."""
    calls = next((each.ids for each in reversed(found) if each.rule == "R10"), ())
    if not calls:
        return None
    content = [{"type": "tool_result", "tool_use_id": call, "is_error": True, "content": _NOT_RUN} for call in calls]
    return {"role": "user", "content": content}


def _words(messages: Sequence[Any], found: Sequence[Violation]) -> dict[str, Any] | None:
    """Words of the user behind those of the assistant."""
    last = messages[-1]
    ends_in_reply = isinstance(last, Mapping) and last.get("role") == "assistant"
    if not ends_in_reply or not any(each.rule in _PREFILL for each in found):
        return None
    return {"role": "user", "content": [{"type": "text", "text": _GO_ON}]}
