"""`Finding`: what was found in a loop, whose fault it is and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

__all__ = ["Fault", "Finding", "Kind", "shown"]

# The last three are found in the loops of others only (`watch`): our own loop cannot do that.
Kind = Literal[
    "repeated_id",
    "lost_result",
    "unchanged_request",
    "no_progress",
    "illegal_request",
    "truncated_call",
    "illegal_move",
]
Fault = Literal["harness", "backend", "model"]

_SHOWN = 200  # characters of foreign text that a message quotes


@frozen
class Finding:
    """What was found, whose fault it is and what to do.

    Params:
        kind: what was found.
        rule: the rule of the specification, such as `D1a`.
        fault: `harness` (the loop's own code), `backend` (the API, a proxy or a replay) or `model`.
        ids: the ids of the tool calls concerned.
        turns: the numbers of the replies concerned, from 1.
        call: the call that is repeated, `{"name": …, "input": …}`.
        why: one sentence for a person.
        todo: one sentence that says what to do.
    """

    kind: Kind
    rule: str
    fault: Fault
    ids: tuple[str, ...] = field(default=(), kw_only=True)
    turns: tuple[int, ...] = field(default=(), kw_only=True)
    call: Mapping[str, Any] | None = field(default=None, kw_only=True)
    why: str = field(kw_only=True)
    todo: str = field(kw_only=True)

    def evidence(self) -> dict[str, Any]:
        """The finding as plain JSON, as it stands in a record."""
        return {
            "kind": self.kind,
            "rule": self.rule,
            "fault": self.fault,
            "ids": list(self.ids),
            "turns": list(self.turns),
            "call": None if self.call is None else dict(self.call),
            "why": self.why,
            "todo": self.todo,
        }

    def __str__(self) -> str:
        parts = [f"{self.kind} ({self.rule}, fault of the {self.fault}): {self.why}"]
        if self.call is not None:
            given = json.dumps(self.call.get("input"), ensure_ascii=False, default=repr)
            parts.append(f"Call: {shown(str(self.call.get('name')))}({shown(given)}).")
        if self.ids:
            parts.append(f"Ids: {shown(', '.join(self.ids))}.")
        if self.turns:
            parts.append(f"Replies: {', '.join(map(str, self.turns))}.")
        return " ".join([*parts, self.todo])


def shown(text: str, limit: int = _SHOWN) -> str:
    """Foreign text made fit for one line of a log: nothing unprintable, not longer than `limit` characters."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in cut)
