"""The alphabet: every event of a conversation, what it means and what to do about it.

This is THE table of events. The states accept what it says, the standard table routes it, verdicts, `fsm check` and
the docs print its two columns, and a test compares it with the literals of the installed SDK (W13).

An event is spelled as on the wire where the wire has a name: stop reasons (S0) and error types (E0). The others are
facts that only the client can see: a cut stream, an answer without content, a limit reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from attrs import frozen


class Origin(Enum):
    """Who made the event."""

    WIRE = "wire"  # the API's own word
    OURS = "ours"  # seen by the client only


class Group(Enum):
    """Events that are treated alike."""

    TURN = "turn"  # the model finished its turn or asks for tools
    CUT = "cut"  # the reply is incomplete
    PAUSE = "pause"
    REFUSAL = "refusal"
    COMPACTION = "compaction"
    RETRYABLE = "retryable"  # the same bytes may be sent again
    FATAL = "fatal"  # sending again cannot help
    EMPTY = "empty"
    ANOMALY = "anomaly"  # a reply that is not to be trusted
    LOOP = "loop"  # raised by our own watching: stuck, over_limit
    TOOLS = "tools"
    PERSON = "person"
    CODE = "code"
    CANCEL = "cancel"


class Keep(Enum):
    """What becomes of the reply: is it appended to the history?"""

    ALWAYS = "always"
    IF_SAID = "if something is said after it"  # else R25, or the same request again
    NEVER = "never"


@frozen
class EventSpec:
    """One row of the alphabet."""

    name: str
    origin: Origin
    kinds: tuple[str, ...]  # the state kinds that accept it
    group: Group
    why: str
    todo: str
    rule: str = ""
    keep: Keep = Keep.NEVER


_CLAUDE = ("Claude",)
_PEOPLE = ("Approval", "Human")
_ACTIVE = ("Claude", "Tools", "Approval", "Human", "Code", "Child")
_W, _O = Origin.WIRE, Origin.OURS

_ROWS: tuple[EventSpec, ...] = (
    EventSpec(
        "end_turn",
        _W,
        _CLAUDE,
        Group.TURN,
        "Claude finished its turn.",
        "Read the answer, or go on with the next message.",
        "S3",
        Keep.ALWAYS,
    ),
    EventSpec(
        "tool_use",
        _W,
        _CLAUDE,
        Group.TURN,
        "Claude asks for tools to be run.",
        "Run every call and send all results in one user message.",
        "S6",
        Keep.ALWAYS,
    ),
    EventSpec(
        "stop_sequence",
        _W,
        _CLAUDE,
        Group.TURN,
        "The text reached one of your stop_sequences.",
        "Use the text before it; `matched()` tells which one.",
        "S4",
        Keep.ALWAYS,
    ),
    EventSpec(
        "max_tokens",
        _W,
        _CLAUDE,
        Group.CUT,
        "The reply was cut at max_tokens; a tool call in it may look complete and is not.",
        "Raise max_tokens and send the request again; never run its calls.",
        "S5",
        Keep.IF_SAID,
    ),
    EventSpec(
        "pause_turn",
        _W,
        _CLAUDE,
        Group.PAUSE,
        "A server tool reached its iteration limit and the turn is not over.",
        "Send the reply back unchanged, add nothing.",
        "S7",
        Keep.ALWAYS,
    ),
    EventSpec(
        "refusal",
        _W,
        _CLAUDE,
        Group.REFUSAL,
        "Claude declined; the refused turn is kept out of the history.",
        "Change the request or declare a row to another model; the same request is refused again.",
        "S8",
    ),
    EventSpec(
        "model_context_window_exceeded",
        _W,
        _CLAUDE,
        Group.CUT,
        "The context window was full before the reply was complete.",
        "Make the conversation smaller; more max_tokens cannot help.",
        "S9",
        Keep.IF_SAID,
    ),
    EventSpec(
        "compaction",
        _W,
        _CLAUDE,
        Group.COMPACTION,
        "The API summarised the conversation and hands the turn back.",
        "Send the history with the summary again.",
        "S10",
        Keep.ALWAYS,
    ),
    EventSpec(
        "rate_limit_error",
        _W,
        _CLAUDE,
        Group.RETRYABLE,
        "The account sent more than its rate limit allows.",
        "Wait for retry-after and send the same request; a spend cap needs a person.",
        "E10",
    ),
    EventSpec(
        "timeout_error",
        _W,
        _CLAUDE,
        Group.RETRYABLE,
        "The API took too long.",
        "Send the same request again, or stream it.",
        "E15",
    ),
    EventSpec(
        "api_error",
        _W,
        _CLAUDE,
        Group.RETRYABLE,
        "Something failed inside the API.",
        "Send the same request again after a pause.",
        "E13",
    ),
    EventSpec(
        "overloaded_error",
        _W,
        _CLAUDE,
        Group.RETRYABLE,
        "The API is overloaded.",
        "Send the same request again after a pause.",
        "E16",
    ),
    EventSpec(
        "conflict_error",
        _W,
        _CLAUDE,
        Group.RETRYABLE,
        "A resource of the request was changed at the same moment.",
        "Send the same request again.",
        "E7",
    ),
    EventSpec(
        "invalid_request_error",
        _W,
        _CLAUDE,
        Group.FATAL,
        "The API refused the request as malformed.",
        "Read the message, change the request; the same bytes fail again.",
        "E1",
    ),
    EventSpec(
        "authentication_error",
        _W,
        _CLAUDE,
        Group.FATAL,
        "The API key is missing or wrong.",
        "Set ANTHROPIC_API_KEY to a valid key.",
        "E2",
    ),
    EventSpec(
        "billing_error",
        _W,
        _CLAUDE,
        Group.FATAL,
        "The account cannot be billed.",
        "Settle the payment in the console.",
        "E3",
    ),
    EventSpec(
        "permission_error",
        _W,
        _CLAUDE,
        Group.FATAL,
        "The key may not use this resource.",
        "Use a key with that permission, or another model.",
        "E4",
    ),
    EventSpec(
        "not_found_error",
        _W,
        _CLAUDE,
        Group.FATAL,
        "The model, file or endpoint does not exist.",
        "Check the model name.",
        "E5",
    ),
    EventSpec(
        "request_too_large",
        _W,
        _CLAUDE,
        Group.FATAL,
        "The request body is larger than the API takes (32 MB).",
        "Send less: fewer or smaller documents.",
        "E8",
    ),
    EventSpec(
        "connection_error",
        _O,
        _CLAUDE,
        Group.RETRYABLE,
        "No response came: connecting, writing or reading failed.",
        "Send the same bytes again; whether the first ones were processed is unknown.",
        "E19",
    ),
    EventSpec(
        "cut_stream",
        _O,
        _CLAUDE,
        Group.RETRYABLE,
        "The stream ended without message_stop, so nothing in it counts.",
        "Send the same bytes again.",
        "G20",
    ),
    EventSpec(
        "empty_turn",
        _O,
        _CLAUDE,
        Group.EMPTY,
        "Claude ended its turn without any content.",
        "Ask once to continue; never append the empty turn.",
        "S3.3",
    ),
    EventSpec(
        "unknown_stop",
        _O,
        _CLAUDE,
        Group.ANOMALY,
        "The stop_reason is not one this version knows.",
        "Upgrade, or declare a row for unknown_stop; nothing was run.",
        "S11.2",
    ),
    EventSpec(
        "malformed",
        _O,
        _CLAUDE,
        Group.ANOMALY,
        "The answer is not a message, or contradicts itself.",
        "Look at the evidence: a proxy, a gateway or another backend may have answered.",
        "S11.3",
    ),
    EventSpec(
        "invalid_output",
        _O,
        _CLAUDE,
        Group.ANOMALY,
        "The text does not match the declared output schema.",
        "Declare a row that asks again, or relax the schema.",
        "SO",
    ),
    EventSpec(
        "stuck",
        _O,
        _CLAUDE,
        Group.LOOP,
        "The conversation goes round without progress.",
        "Read the evidence: it names the calls and whose fault it is.",
        "D1",
    ),
    EventSpec(
        "over_limit",
        _O,
        _CLAUDE,
        Group.LOOP,
        "A limit of the workflow was reached before the work was done.",
        "Raise the limit, or declare a row that wraps up.",
        "D14",
    ),
    EventSpec(
        "tool_results",
        _O,
        ("Tools",),
        Group.TOOLS,
        "Every call of the reply has its result.",
        "Send them back to Claude.",
        "S6.2",
    ),
    EventSpec(
        "approval_needed",
        _O,
        ("Tools",),
        Group.TOOLS,
        "A call may run only after a person approved it; none has run.",
        "Ask a person: lead it to an Approval state.",
    ),
    EventSpec(
        "outcome_unknown",
        _O,
        ("Tools",),
        Group.TOOLS,
        "A tool had begun when the process died; whether it acted is unknown.",
        "Answer it as unknown, or put it to a person.",
        "B3",
    ),
    EventSpec(
        "approved",
        _O,
        ("Approval",),
        Group.PERSON,
        "A person approved at least one call.",
        "Run the approved calls.",
    ),
    EventSpec(
        "denied",
        _O,
        ("Approval",),
        Group.PERSON,
        "A person approved none of the calls; each is answered with the reason.",
        "Let Claude read the reasons.",
    ),
    EventSpec("said", _O, ("Human",), Group.PERSON, "A person said something.", "Let Claude answer."),
    EventSpec(
        "expired",
        _O,
        _PEOPLE,
        Group.PERSON,
        "Nobody answered in time.",
        "Go on without the person, or end.",
    ),
    EventSpec(
        "raised",
        _O,
        ("Code", "Child"),
        Group.CODE,
        "The function of a Code state raised an exception.",
        "Read the evidence; mend the function.",
    ),
    EventSpec(
        "cancel",
        _O,
        _ACTIVE,
        Group.CANCEL,
        "The user ended the conversation.",
        "Nothing; `after=` goes on from its history.",
    ),
)

ALPHABET: Mapping[str, EventSpec] = MappingProxyType({row.name: row for row in _ROWS})

STOP_REASONS: tuple[str, ...] = (
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "compaction",
    "refusal",
    "model_context_window_exceeded",
)
"""S0: the stop reasons that the Messages API documents, stable and beta."""

ERROR_TYPES: tuple[str, ...] = tuple(
    r.name for r in _ROWS if r.origin is _W and r.group in {Group.RETRYABLE, Group.FATAL}
)
"""E0: the error types that are events."""

FOREIGN_ERROR_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "memory_precondition_failed_error": "belongs to the memory API, no Messages request earns it",
        "memory_path_conflict_error": "belongs to the memory API, no Messages request earns it",
    }
)
"""Error types the SDK knows that a Messages request cannot earn, with the reason (W13 reads it)."""

SPEND_CAPS: frozenset[str] = frozenset({"enforced_spend_limit_reached", "contract_spend_limit_reached"})
"""E11: error codes of a 429 that waiting cannot mend."""

FINAL_NAMES: tuple[str, ...] = ("refused", "truncated", "stuck", "over_limit", "failed", "cancelled")
"""The exits that every workflow has."""


def accepted_by(kind: str) -> tuple[str, ...]:
    """The events that a state of this kind accepts, in the order of the table."""
    return tuple(row.name for row in _ROWS if kind in row.kinds)


def event_of_status(status: int) -> str:
    """The event of an HTTP status whose body names no known error type (E6-E18)."""
    named = {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        408: "timeout_error",
        409: "conflict_error",
        413: "request_too_large",
        429: "rate_limit_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
    server_error = 500
    return named.get(status, "api_error" if status >= server_error else "invalid_request_error")
