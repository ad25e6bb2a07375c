"""The exits that every workflow has, and THE standard table: where the events lead that a state does not mention.

`fsm check` prints this table, pictures draw its rows in a lighter stroke, a workflow replaces any row with one of its
own, and `class W(Workflow, strict=True)` implies none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final as Const

from attrs import field, frozen

from ._alphabet import ALPHABET, FINAL_NAMES, Group, accepted_by
from ._effects import Effect, back_off, grow, park, say
from ._guards import Guard, attempts_left, cut_in_call, room_to_grow
from ._state import Alternative, State
from ._states import Claude, Final

SELF: Const = "="


class Exits:
    """The final states that are there without being declared: `from fsm import exits`."""

    refused = Final(ok=False)
    truncated = Final(ok=False)
    stuck = Final(ok=False)
    over_limit = Final(ok=False)
    failed = Final(ok=False)
    cancelled = Final(ok=False)


exits = Exits()
EXIT_STATES: dict[str, Final] = {name: getattr(Exits, name) for name in FINAL_NAMES}
for _exit in EXIT_STATES.values():
    _exit.sealed = True


@frozen
class Standard:
    """One alternative of a standard row: the target (`=` is the state itself), guard and effects."""

    target: str
    guard: Guard | None = None
    effects: tuple[Effect, ...] = ()


def _always(state: State) -> bool:
    del state
    return True


def _calls_no_tools(state: State) -> bool:
    return isinstance(state, Claude) and (not state.client_tools or state.forbids_tools)


def _gives_output(state: State) -> bool:
    return isinstance(state, Claude) and state.output is not None


def _gives_text(state: State) -> bool:
    return isinstance(state, Claude) and state.output is None


@frozen
class StandardRow:
    """The standard targets of an event in a kind of state, where `applies` says so."""

    kind: str
    event: str
    alternatives: tuple[Standard, ...]
    applies: Callable[[State], bool] = field(default=_always)


def _to(target: str) -> tuple[Standard, ...]:
    return (Standard(target),)


_RETRY = (Standard(SELF, attempts_left(6), (back_off,)), Standard(SELF, None, (park,)))

# S5.2, S5.6: a cut call cannot be continued, only asked for again with more room; S5.1: text can be continued.
_CUT = (
    Standard(SELF, cut_in_call & room_to_grow, (grow,)),
    Standard("truncated", cut_in_call),
    Standard(SELF, attempts_left(3), (say("Continue."),)),
    Standard("truncated"),
)
_CUT_OUTPUT = (Standard(SELF, room_to_grow, (grow,)), Standard("truncated"))  # half a JSON text cannot be continued

_CLAUDE: dict[str, tuple[Standard, ...]] = {
    "pause_turn": (Standard(SELF, attempts_left(5)), Standard("stuck")),  # S7.2, S7.3
    "refusal": _to("refused"),  # S8.3
    "model_context_window_exceeded": _to("truncated"),  # S9.2
    "compaction": (Standard(SELF, attempts_left(2)), Standard("stuck")),  # S10.5
    "empty_turn": (Standard(SELF, attempts_left(1), (say("Please continue."),)), Standard("failed")),  # S3.4
    "unknown_stop": _to("failed"),  # S11.2
    "malformed": _to("failed"),
    "stuck": _to("stuck"),
    "over_limit": _to("over_limit"),
}


def _claude_row(event: str) -> tuple[Standard, ...] | None:
    group = ALPHABET[event].group
    if group is Group.RETRYABLE:
        return _RETRY
    return _to("failed") if group is Group.FATAL else _CLAUDE.get(event)


STANDARD: tuple[StandardRow, ...] = (
    *(StandardRow("Claude", event, row) for event in accepted_by("Claude") if (row := _claude_row(event)) is not None),
    StandardRow("Claude", "max_tokens", _CUT, _gives_text),
    StandardRow("Claude", "max_tokens", _CUT_OUTPUT, _gives_output),
    StandardRow("Claude", "tool_use", _to("failed"), _calls_no_tools),
    StandardRow("Claude", "invalid_output", _to("failed"), _gives_output),
    StandardRow("Tools", "outcome_unknown", _to(SELF)),  # B3: answered is_error, never run again
    StandardRow("Code", "raised", _to("failed")),
    *(StandardRow(kind, "cancel", _to("cancelled")) for kind in ALPHABET["cancel"].kinds),
)


def implied(state: State) -> dict[str, tuple[Alternative | Standard, ...]]:
    """The rows of the standard table for the events that the state does not mention."""
    rows: dict[str, tuple[Alternative | Standard, ...]] = {
        row.event: row.alternatives
        for row in STANDARD
        if row.kind == state.kind and row.event not in state.rows and row.applies(state)
    }
    if isinstance(state, Claude) and "stop_sequence" not in state.rows and not state.params.get("stop_sequences"):
        # Nobody asked for stop sequences: a gateway that answers with one anyway finished the turn.
        rows["stop_sequence"] = state.rows.get("end_turn", ())
    return {event: row for event, row in rows.items() if row}
