"""The alphabet against the installed SDK, the typed rows and the standard table: none of them may know more."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest
from anthropic.resources.messages import Messages
from anthropic.types import StopReason
from anthropic.types.beta import BetaStopReason
from anthropic.types.shared import ErrorType
from anthropic.types.shared.error_details import ErrorDetails

from fsm._alphabet import (
    ALPHABET,
    ERROR_TYPES,
    FINAL_NAMES,
    FOREIGN_ERROR_TYPES,
    SPEND_CAPS,
    STOP_REASONS,
    Group,
    Keep,
    Origin,
    accepted_by,
    event_of_status,
)
from fsm._exits import EXIT_STATES, SELF, STANDARD
from fsm._params import MessageParams
from fsm._sdk import alphabet_gaps
from fsm._state import State
from fsm._states import (
    ActiveRows,
    Approval,
    ApprovalRows,
    Claude,
    ClaudeRows,
    Code,
    CodeRows,
    Final,
    Human,
    HumanRows,
    Tools,
    ToolsRows,
)

# E8: the type of a 413; the literal of the SDK leaves it out.
NOT_IN_THE_LITERAL = {"request_too_large"}
# Where a reply, a tool, a person or a function leads is what a workflow is about (architecture: "Never implied").
NEVER_IMPLIED = {
    "end_turn",
    "stop_sequence",
    "tool_results",
    "approval_needed",
    "approved",
    "denied",
    "said",
    "expired",
}


def literals(union: Any) -> set[str]:
    """The strings of a Literal, or of a union of them."""
    return {word for part in get_args(union) for word in (literals(part) if get_args(part) else {part})}


def test_the_alphabet_has_every_stop_reason_of_the_sdk() -> None:
    assert set(STOP_REASONS) == literals(StopReason) | literals(BetaStopReason)
    assert set(STOP_REASONS) <= set(ALPHABET)


def test_the_alphabet_has_every_error_type_of_the_sdk() -> None:
    assert set(ERROR_TYPES) | set(FOREIGN_ERROR_TYPES) == literals(ErrorType) | NOT_IN_THE_LITERAL
    assert not set(ERROR_TYPES) & set(FOREIGN_ERROR_TYPES)
    assert set(ERROR_TYPES) <= set(ALPHABET)
    assert all(len(reason) > 20 for reason in FOREIGN_ERROR_TYPES.values())


def test_the_spend_caps_are_error_codes_of_the_sdk() -> None:
    union, _ = get_args(ErrorDetails)  # Annotated[Union[...], discriminator]
    codes = {code for details in get_args(union) for code in literals(details.model_fields["error_code"].annotation)}
    assert codes >= SPEND_CAPS


def test_there_is_no_gap_to_report() -> None:
    assert alphabet_gaps() == ()


def test_a_gap_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsm._sdk.STOP_REASONS", tuple(r for r in STOP_REASONS if r != "pause_turn"))
    assert any("pause_turn" in gap for gap in alphabet_gaps())


def test_the_wire_has_its_own_words_only() -> None:
    on_the_wire = {name for name, spec in ALPHABET.items() if spec.origin is Origin.WIRE}
    assert on_the_wire == {*STOP_REASONS, *ERROR_TYPES}


@pytest.mark.parametrize("name", ALPHABET)
def test_every_event_says_why_and_what_to_do(name: str) -> None:
    spec = ALPHABET[name]
    assert spec.name == name
    assert spec.kinds
    for text in (spec.why, spec.todo):
        assert text.endswith(".")
        assert len(text) > 6
        assert text[0].isupper() or text[0] == "`"
    assert spec.why != spec.todo


@pytest.mark.parametrize(
    ("kind", "rows"),
    [(Claude, ClaudeRows), (Tools, ToolsRows), (Approval, ApprovalRows), (Human, HumanRows), (Code, CodeRows)],
    ids=lambda thing: thing.__name__,
)
def test_the_typed_rows_are_the_accepted_events(kind: type[State], rows: type) -> None:
    assert set(rows.__annotations__) == set(accepted_by(kind.kind))
    assert set(ActiveRows.__annotations__) <= set(rows.__annotations__)


def test_a_final_state_accepts_nothing() -> None:
    assert accepted_by("Final") == Final().alphabet() == ()


def test_every_event_has_a_standard_row_or_is_never_implied() -> None:
    for kind in ("Claude", "Tools", "Approval", "Human", "Code"):
        standard = {row.event for row in STANDARD if row.kind == kind}
        assert standard <= set(accepted_by(kind))
        assert set(accepted_by(kind)) - standard == set(accepted_by(kind)) & NEVER_IMPLIED, kind


def test_the_standard_rows_end_unconditionally_in_an_exit_or_in_the_state_itself() -> None:
    for row in STANDARD:
        *guarded, last = row.alternatives
        assert last.guard is None
        assert all(alternative.guard is not None for alternative in guarded)
        assert {a.target for a in row.alternatives} <= {SELF, *FINAL_NAMES}


def test_the_standard_row_of_every_error_follows_its_group() -> None:
    rows = {row.event: row for row in STANDARD if row.kind == "Claude"}
    for name, spec in ALPHABET.items():
        targets = [a.target for a in rows[name].alternatives] if name in rows else []
        if spec.group is Group.FATAL:
            assert targets == ["failed"], name
        if spec.group is Group.RETRYABLE:
            assert targets == [SELF, SELF], name
            assert [str(e) for a in rows[name].alternatives for e in a.effects] == ["back_off", "park"]


def test_only_replies_that_can_be_echoed_are_kept() -> None:
    kept = {name for name, spec in ALPHABET.items() if spec.keep is not Keep.NEVER}
    assert kept <= set(STOP_REASONS)
    assert set(STOP_REASONS) - kept == {"refusal"}


def test_the_exits_are_final_and_none_is_a_success() -> None:
    assert tuple(EXIT_STATES) == FINAL_NAMES
    assert all(isinstance(state, Final) and not state.ok for state in EXIT_STATES.values())


@pytest.mark.parametrize(
    ("status", "event"),
    [(408, "timeout_error"), (409, "conflict_error"), (413, "request_too_large"), (418, "invalid_request_error"),
     (429, "rate_limit_error"), (500, "api_error"), (503, "api_error"), (529, "overloaded_error")],
)  # fmt: skip
def test_a_status_alone_has_an_event(status: int, event: str) -> None:
    assert event_of_status(status) == event


def test_the_parameters_are_those_of_the_sdk() -> None:
    ours = {"self", "messages", "model", "max_tokens", "system", "tools", "stream"}
    per_request = {"extra_headers", "extra_query", "extra_body", "timeout"}
    theirs = set(inspect.signature(Messages.create).parameters) - ours - per_request
    assert set(MessageParams.__annotations__) == theirs
