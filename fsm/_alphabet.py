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

from attrs import field, frozen


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
    """One row of the alphabet: why the event happens, and what to do about it."""

    name: str
    origin: Origin
    kinds: tuple[str, ...]  # the state kinds that accept it
    group: Group
    rule: str = ""
    why: str = field(kw_only=True)
    todo: str = field(kw_only=True)
    keep: Keep = field(default=Keep.NEVER, kw_only=True)


_CLAUDE = ("Claude",)
_PEOPLE = ("Approval", "Human")
_ACTIVE = ("Claude", "Tools", "Approval", "Human", "Code", "Child")
_W, _O = Origin.WIRE, Origin.OURS

# fmt: off
_ROWS: tuple[EventSpec, ...] = (
    EventSpec("end_turn", _W, _CLAUDE, Group.TURN, "S3", keep=Keep.ALWAYS,
              why="Claude finished its turn.",
              todo="Read the answer, or go on with the next message."),
    EventSpec("tool_use", _W, _CLAUDE, Group.TURN, "S6", keep=Keep.ALWAYS,
              why="Claude asks for tools to be run.",
              todo="Run every call and send all results in one user message."),
    EventSpec("stop_sequence", _W, _CLAUDE, Group.TURN, "S4", keep=Keep.ALWAYS,
              why="The text reached one of your stop_sequences.",
              todo="Use the text before it; `matched()` tells which one."),
    EventSpec("max_tokens", _W, _CLAUDE, Group.CUT, "S5", keep=Keep.IF_SAID,
              why="The reply was cut at max_tokens; a tool call in it may look complete and is not.",
              todo="Raise max_tokens and send the request again; never run its calls."),
    EventSpec("pause_turn", _W, _CLAUDE, Group.PAUSE, "S7", keep=Keep.ALWAYS,
              why="A server tool reached its iteration limit and the turn is not over.",
              todo="Send the reply back unchanged, add nothing."),
    EventSpec("refusal", _W, _CLAUDE, Group.REFUSAL, "S8",
              why="Claude declined; the refused turn is kept out of the history.",
              todo="Change the request or declare a row to another model; the same request is refused again."),
    EventSpec("model_context_window_exceeded", _W, _CLAUDE, Group.CUT, "S9", keep=Keep.IF_SAID,
              why="The context window was full before the reply was complete.",
              todo="Make the conversation smaller; more max_tokens cannot help."),
    EventSpec("compaction", _W, _CLAUDE, Group.COMPACTION, "S10", keep=Keep.ALWAYS,
              why="The API summarised the conversation and hands the turn back.",
              todo="Send the history with the summary again."),
    EventSpec("rate_limit_error", _W, _CLAUDE, Group.RETRYABLE, "E10",
              why="The account sent more than its rate limit allows.",
              todo="Wait as long as retry-after says, then send the same request again."),
    EventSpec("timeout_error", _W, _CLAUDE, Group.RETRYABLE, "E15",
              why="The API took too long.",
              todo="Send the same request again, or stream it."),
    EventSpec("api_error", _W, _CLAUDE, Group.RETRYABLE, "E13",
              why="Something failed inside the API, or in a gateway before it.",
              todo="Send the same request again after a pause."),
    EventSpec("overloaded_error", _W, _CLAUDE, Group.RETRYABLE, "E16",
              why="The API is overloaded.",
              todo="Send the same request again after a pause."),
    EventSpec("conflict_error", _W, _CLAUDE, Group.RETRYABLE, "E7",
              why="A resource of the request was changed at the same moment.",
              todo="Send the same request again."),
    EventSpec("invalid_request_error", _W, _CLAUDE, Group.FATAL, "E1",
              why="The request was refused as it stands.",
              todo="Read the message, change the request; the same bytes fail again."),
    EventSpec("authentication_error", _W, _CLAUDE, Group.FATAL, "E2",
              why="The API key is missing or wrong.",
              todo="Set ANTHROPIC_API_KEY to a valid key, or pass client=anthropic.Anthropic(api_key=...)."),
    EventSpec("billing_error", _W, _CLAUDE, Group.FATAL, "E3",
              why="The account cannot be billed.",
              todo="Settle the payment in the console."),
    EventSpec("permission_error", _W, _CLAUDE, Group.FATAL, "E4",
              why="The key may not use this resource.",
              todo="Use a key with that permission, or another model."),
    EventSpec("not_found_error", _W, _CLAUDE, Group.FATAL, "E5",
              why="The model, file or endpoint does not exist.",
              todo="Check the model's name, the ids of files, and the base URL."),
    EventSpec("request_too_large", _W, _CLAUDE, Group.FATAL, "E8",
              why="The request body is larger than the API takes (32 MB).",
              todo="Send less: fewer or smaller documents."),
    EventSpec("connection_error", _O, _CLAUDE, Group.RETRYABLE, "E19",
              why="No response came: connecting, writing or reading failed.",
              todo="Check the network, the base URL and the proxy, then send the same request again."),
    EventSpec("cut_stream", _O, _CLAUDE, Group.RETRYABLE, "G20",
              why="The stream ended without message_stop, so nothing in it counts.",
              todo="Send the same bytes again."),
    EventSpec("empty_turn", _O, _CLAUDE, Group.EMPTY, "S3.3",
              why="Claude ended its turn without any content.",
              todo="Ask once to continue; never append the empty turn."),
    EventSpec("unknown_stop", _O, _CLAUDE, Group.ANOMALY, "S11.2",
              why="The stop_reason is not one this version knows.",
              todo="Upgrade, or declare a row for unknown_stop; nothing was run."),
    EventSpec("malformed", _O, _CLAUDE, Group.ANOMALY, "S11.3",
              why="The answer is not a message, or contradicts itself.",
              todo="Check the base URL and the proxy: a gateway or another backend may have answered."),
    EventSpec("invalid_output", _O, _CLAUDE, Group.ANOMALY, "SO",
              why="The text does not match the declared output schema.",
              todo="Declare a row that asks again, or relax the schema."),
    EventSpec("stuck", _O, _CLAUDE, Group.LOOP, "D1",
              why="The conversation goes round without progress.",
              todo="Read the evidence: it names the calls and whose fault it is."),
    EventSpec("over_limit", _O, _CLAUDE, Group.LOOP, "D14",
              why="A limit of the workflow was reached before the work was done.",
              todo="Raise the limit, or declare a row that wraps up."),
    EventSpec("tool_results", _O, ("Tools",), Group.TOOLS, "S6.2",
              why="Every call of the reply has its result.",
              todo="Send them back to Claude."),
    EventSpec("approval_needed", _O, ("Tools",), Group.TOOLS,
              why="A call may run only after a person approved it; none has run.",
              todo="Ask a person: lead it to an Approval state."),
    EventSpec("outcome_unknown", _O, ("Tools",), Group.TOOLS, "B3",
              why="A tool had begun when the process died; whether it acted is unknown.",
              todo="Answer it as unknown, or put it to a person."),
    EventSpec("approved", _O, ("Approval",), Group.PERSON,
              why="A person approved at least one call.",
              todo="Run the approved calls."),
    EventSpec("denied", _O, ("Approval",), Group.PERSON,
              why="A person approved none of the calls; each is answered with the reason.",
              todo="Let Claude read the reasons."),
    EventSpec("said", _O, ("Human",), Group.PERSON,
              why="A person said something.",
              todo="Let Claude answer."),
    EventSpec("expired", _O, _PEOPLE, Group.PERSON,
              why="Nobody answered in time.",
              todo="Go on without the person, or end."),
    EventSpec("raised", _O, ("Code", "Child"), Group.CODE,
              why="The function of a Code state raised an exception.",
              todo="Read the evidence; mend the function."),
    EventSpec("cancel", _O, _ACTIVE, Group.CANCEL,
              why="The user ended the conversation.",
              todo="Nothing; `after=` goes on from its history."),
)
# fmt: on

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

_RESEND_CREATE = 'Send the whole conversation again with thread: {"type": "create"}.'
_OLD_SUMMARY = "Send the compaction block back exactly as the API returned it, or drop it and send the old messages."

ERROR_CODES: Mapping[str, str] = MappingProxyType(
    {
        # E11, E12: limits that a 429 names
        "enforced_spend_limit_reached": (
            "The monthly limit of the account's tier is reached: raise it in the console, or wait for the next month; "
            "then send the same request again."
        ),
        "contract_spend_limit_reached": "The contract's spend limit is reached: have it raised, then send again.",
        "ramp_limit_exceeded": "Use grew too fast: wait for retry-after, then raise the load in smaller steps.",
        # E1a: codes of ours, for a 400 that no change of the request can mend
        "usage_limit": (
            "The spend limit set in the console is reached: raise it there, or wait until the date in the message; "
            "no change of the request helps."
        ),
        "low_credit": "Buy credit in the console (Plans & Billing); no change of the request helps.",
        # ours, for what has no code on the wire
        "prompt_too_long": (
            "The conversation and max_tokens together are more than the model's context window: send fewer or smaller "
            "documents, compact the history, or take a model with a larger window."
        ),
        "redirect": "Nothing was sent there: set base_url to the address that answers the API itself.",
        "bad_header": (
            "The key or a header of the client holds a character that no header may hold, often a line break at its "
            "end: strip it."
        ),
        "bad_url": "The base URL of the client is no address to send to: begin it with https://.",
        "dns_failure": "The host name was not found: check the base URL and the network.",
        "connection_refused": "Nothing listens at the base URL: check its port, and whether a gateway runs there.",
        "tls_error": (
            "The encrypted connection failed: check that the base URL speaks https, and the certificates of the "
            "machine and the proxy."
        ),
        # E28: the codes of the API that a Messages request can earn
        "compaction_block_ambiguous": "Keep one compaction block only, the newest.",
        "compaction_block_misplaced": "Make the compaction block the first block of the conversation.",
        "compaction_content_mismatch": _OLD_SUMMARY,
        "compaction_incomplete_turn": "Finish the model's turn, tool results included, before you compact.",
        "compaction_nothing_to_summarize": "There is nothing to compact yet: send the conversation as it is.",
        "compaction_signature_invalid": _OLD_SUMMARY,
        "compaction_too_many_tool_references": "Compact earlier, or use fewer different tools in one conversation.",
        "compaction_tool_changes_mismatch": _OLD_SUMMARY,
        "compaction_unavailable": "The summary could not be made just now: send the same request again.",
        "image_dimensions_too_large": "Scale down the images that the message names, or leave them out.",
        "available_tools_limit_exceeded": "Declare fewer tools, or shorter descriptions and schemas.",
        "tool_name_conflict": "Two tools have one name: rename one of them.",
        "tool_reference_unresolved": "A tool is named that is not declared there: add it to tools, or remove the name.",
        "thread_already_continued": "Continue from the newest reply of the thread; this one was continued already.",
        "thread_continue_in_flight": "Wait for the other request of this thread, then continue from its reply.",
        "thread_fingerprint_mismatch": f"What a thread binds has changed; the message names it. {_RESEND_CREATE}",
        "thread_unsupported_request": "Send the conversation whole without thread, or drop what the message names.",
        "thread_not_found": f"The thread is gone. {_RESEND_CREATE}",
        "file_expired": "The file is past its expires_at: upload it again and use the new id.",
        "request_body_encoding_invalid": "The body is not what its Content-Encoding says: send it uncompressed.",
        "request_body_encoding_unsupported": "Send the body uncompressed.",
        "request_body_timeout": "The body came too slowly: send a smaller one, or from a faster connection.",
        "request_body_too_large_after_decoding": "Send less: the body is too large once it is decompressed.",
    }
)
"""E28: what to do about an `error_code` (`error.details.error_code`), and about the codes that we give where the API
gives none. A code that is not here means no more than its event."""

FINAL_NAMES: tuple[str, ...] = ("refused", "truncated", "stuck", "over_limit", "failed", "cancelled")
"""The exits that every workflow has."""


def accepted_by(kind: str) -> tuple[str, ...]:
    """The events that a state of this kind accepts, in the order of the table."""
    return tuple(row.name for row in _ROWS if kind in row.kinds)


def advice_for(event: str, code: str | None = None) -> str:
    """What to do about an event.

    Params: `event` of the alphabet, or any other name; `code` the `error_code` that came with it.
    Returns a sentence for a person; empty where neither is known.
    """
    if code is not None and code in ERROR_CODES:
        return ERROR_CODES[code]
    spec = ALPHABET.get(event)
    return spec.todo if spec is not None else ""


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
    redirect, refused, server_error = 300, 400, 500
    if redirect <= status < refused:
        return "malformed"  # N6: whoever redirects is not the API
    return named.get(status, "api_error" if status >= server_error else "invalid_request_error")
