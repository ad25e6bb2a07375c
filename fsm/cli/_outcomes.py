"""Why a reply, a run of `claude -p` or a batch item stopped, as an outcome with an exit code.

The words are the alphabet's, the reading is that of the conversation (`_reading`, `_wire`); what `claude` says beyond
the API stands in `_OURS` below. Its result has the shape of the Agent SDK's ResultMessage (claude-agent-sdk-python,
`types.py`; Agent SDK reference, SDKResultMessage; CLI reference, `--output-format`):

    subtype          success, error_max_turns, error_max_budget_usd, error_max_structured_output_retries,
                     error_during_execution
    is_error         true beside `success` when a call of the API failed; its status is `api_error_status`
    stop_reason      that of the last reply; older versions leave it out, then the last `assistant` line has it
    terminal_reason  why the loop ended: completed, max_turns, aborted_streaming, prompt_too_long, …

Nothing is taken on trust: what contradicts success wins over the word "success", and a cut or refused reply is never
finished.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

from attrs import evolve, field, frozen

from fsm._alphabet import ALPHABET, STOP_REASONS, Group, advice_for
from fsm._events import Failed
from fsm._reading import read
from fsm._terminal import one_line
from fsm._wire import failed_from_response

FINISHED, UNREADABLE = 0, 3
_LONGEST = 4000  # characters of a text that is shown

CODES: Mapping[int, str] = {
    0: "finished: end_turn or stop_sequence",
    2: "the command line is wrong",
    3: "unreadable: no such file, none of the formats, or bad JSON",
    10: "tool_use: tools wait to be run",
    11: "max_tokens: the reply was cut",
    12: "pause_turn: send the reply back as it is",
    13: "refusal",
    14: "the context window is full, or the prompt too long for it",
    15: "compaction: send the history with the summary",
    16: "no usable reply: empty, malformed, unknown, not as asked for",
    17: "a limit of the run: max_turns or max_budget",
    18: "stopped from outside: aborted, cancelled, no result",
    20: "an error that may pass: the same request again, later",
    21: "an error that stays: change the request",
    22: "a person must act: key, permission, billing, spend limit",
}
"""What each exit code means; of several results the highest counts, and 3 before all."""

_BY_EVENT: Mapping[str, int] = {
    "end_turn": 0,
    "stop_sequence": 0,
    "tool_use": 10,
    "max_tokens": 11,
    "pause_turn": 12,
    "refusal": 13,
    "model_context_window_exceeded": 14,
    "compaction": 15,
    "authentication_error": 22,
    "billing_error": 22,
    "permission_error": 22,
}
_BY_GROUP = {Group.RETRYABLE: 20, Group.FATAL: 21, Group.EMPTY: 16, Group.ANOMALY: 16}
_BY_ERROR_CODE: Mapping[str, int] = {  # what no waiting and no other request mends (E11, E1a)
    "enforced_spend_limit_reached": 22,
    "contract_spend_limit_reached": 22,
    "usage_limit": 22,
    "low_credit": 22,
    "prompt_too_long": 14,
}

# What has no event of the alphabet: exit code, why, what to do.
_OURS: Mapping[str, tuple[int, str, str]] = {
    "max_turns": (17, "claude reached --max-turns.", "Raise it, or give claude a smaller task; --resume goes on."),
    "max_budget": (17, "claude reached --max-budget-usd.", "Raise it, or give claude a smaller task."),
    "aborted": (18, "claude was interrupted before it had finished.", "Run it again, or go on with --resume."),
    "hook_stopped": (18, "A hook of claude ended the run.", "Read what the hook says."),
    "no_result": (18, "The stream has no result line: claude was stopped.", "Raise the job's time limit, or resume."),
    "canceled": (18, "The batch was cancelled before this request was sent.", "Send it in a new batch."),
    "expired": (20, "The batch ended before this request was sent (24 h).", "Send it in a new batch."),
    "failed": (21, "claude failed and named no error of the API.", "Read the message."),
    "no_answer": (16, "claude ended without an answer.", "Run it again, and ask for an answer in words."),
    "subscription_limit": (
        22,
        "The limit of the claude subscription is reached.",
        "Wait until it resets by itself, as the message says, or use an API key.",
    ),
}

# Where the alphabet speaks to whoever declares a workflow, and here somebody writes a script.
_TODO: Mapping[str, str] = {
    "stop_sequence": "Use the text before it.",
    "refusal": "Change the prompt, or ask another model; the same request is refused again.",
    "unknown_stop": "Upgrade claude-fsm; run nothing of this reply.",
    "invalid_output": "Ask again, or relax the schema.",
    "authentication_error": "Set ANTHROPIC_API_KEY to a valid key, or log in where claude is used.",
}

_TERMINAL: Mapping[str, str] = {  # terminal_reason → outcome; those not here say nothing more than the other fields
    "max_turns": "max_turns",
    "aborted_streaming": "aborted",
    "aborted_tools": "aborted",
    "hook_stopped": "hook_stopped",
    "stop_hook_prevented": "hook_stopped",
    "prompt_too_long": "prompt_too_long",
    "blocking_limit": "prompt_too_long",
}
_SUBTYPES: Mapping[str, str] = {
    "error_max_turns": "max_turns",
    "error_max_budget_usd": "max_budget",
    "error_max_structured_output_retries": "invalid_output",
}
_LINE_ERRORS: Mapping[str, str] = {  # the `error` of an assistant line
    "authentication_failed": "authentication_error",
    "billing_error": "billing_error",
    "rate_limit": "rate_limit_error",
    "invalid_request": "invalid_request_error",
    "model_not_found": "not_found_error",
    "server_error": "api_error",
    "overloaded": "overloaded_error",
    "max_output_tokens": "max_tokens",
}
_SAID: tuple[tuple[str, str], ...] = (  # where claude says it in words only
    (r"invalid api key|please run /login|oauth token", "authentication_error"),
    (r"credit balance is too low", "billing_error"),
    (r"limit reached|hit your (\w+ )?limit", "subscription_limit"),
    (r"output token maximum", "max_tokens"),
    (r"request was aborted", "aborted"),
    (r"prompt is too long", "prompt_too_long"),
    (r"connection error|timed out", "connection_error"),
)
_API_ERROR = re.compile(r"API Error:?\s*(?:Repeated\s+)?\(?(\d{3})\b")


@frozen
class Outcome:
    """One result: what it is called, why it stopped, what to do, and the exit code for it."""

    name: str
    outcome: str
    code: int
    why: str
    todo: str
    details: Mapping[str, Any] = field(factory=dict)
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The same for machines."""
        said = {"name": self.name, "outcome": self.outcome, "exit": self.code, "why": self.why, "todo": self.todo}
        return {**said, **self.details, "notes": list(self.notes)}


def worst(codes: list[int]) -> int:
    """The exit code of several results: the highest, but 3 before all."""
    return UNREADABLE if not codes or UNREADABLE in codes else max(codes)


def outcome_of(name: str, event: str, code: str | None = None, **details: Any) -> Outcome:
    """The outcome of an event or of one of our own names; `code` is the error code that came with it."""
    known = {key: _bounded(value) for key, value in details.items() if value not in (None, "", [], {})}
    if code is not None:
        known["error_code"] = code
    if event in _OURS:
        number, why, todo = _OURS[event]
        return Outcome(name, event, number, why, todo, known)
    if event == "prompt_too_long":
        event, code = "invalid_request_error", event
        known["error_code"] = code
    spec = ALPHABET[event]
    number = _BY_ERROR_CODE.get(code or "", _BY_EVENT.get(event, _BY_GROUP.get(spec.group, 16)))
    ours = _TODO.get(event) if code is None else None
    return Outcome(name, event, number, spec.why, ours or advice_for(event, code), known)


def _bounded(value: Any) -> Any:
    """What somebody else wrote, as plain and short JSON: a number, a text, a list of texts."""
    if isinstance(value, list):
        return [str(entry)[:_LONGEST] for entry in value[:_LONGEST]]
    is_number = isinstance(value, int) or (isinstance(value, float) and isfinite(value))
    return value if is_number else str(value)[:_LONGEST]


def of_message(name: str, message: Mapping[str, Any]) -> Outcome:
    """The outcome of a Messages reply (S0-S11)."""
    reading = read(message)
    reply = reading.reply
    stop = reply.stop_details or {}
    found = outcome_of(
        name,
        reading.event,
        detail=reading.problem,
        stop_sequence=reply.stop_sequence if reading.event == "stop_sequence" else None,
        category=stop.get("category"),
        explanation=stop.get("explanation"),
        calls=[call.name for call in reply.calls],
        model=reply.model,
        id=reply.id,
        request_id=message.get("_request_id"),
    )
    if reply.calls and reading.event != "tool_use":  # S2a, S5.3
        named = ", ".join(call.name for call in reply.calls)
        found = evolve(found, notes=(f"never run its calls ({named}): the last one may look whole and is not",))
    return found


def of_error(name: str, body: Mapping[str, Any], status: int | None = None) -> Outcome:
    """The outcome of an error envelope (E0); without a status only its type counts."""
    return of_failure(
        name, failed_from_response(status or 400, {}, json.dumps(body).encode(), at=0.0, draw=0.0), status
    )


def of_failure(name: str, failed: Failed, status: int | None = None) -> Outcome:
    """The outcome of a request that gave no reply."""
    return outcome_of(
        name, failed.event, failed.code, message=failed.message, status=status, request_id=failed.request_id
    )


def of_batch_item(item: Mapping[str, Any]) -> Outcome:
    """The outcome of one line of the results of a Message Batch (S13)."""
    name, given = str(item.get("custom_id")), item.get("result")
    result: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    kind, message, error = (result.get(key) for key in ("type", "message", "error"))
    if kind == "succeeded" and isinstance(message, Mapping):
        return of_message(name, message)
    if kind == "errored" and isinstance(error, Mapping):
        return of_error(name, error)
    if kind in {"canceled", "expired"}:
        return outcome_of(name, str(kind))
    return outcome_of(name, "malformed", detail=f"a batch result of the type {one_line(repr(kind), 60)}")


def of_claude(name: str, result: Mapping[str, Any], seen: Mapping[str, Any] | None = None) -> Outcome:
    """The outcome of a result of `claude -p`; `seen` are stop_reason, error and request_id before it."""
    seen = seen or {}
    ended = _ended(result, seen)
    event = ended.event
    denied = result.get("permission_denials")
    denials = [d.get("tool_name") for d in denied if isinstance(d, Mapping)] if isinstance(denied, list) else []
    said = {
        "message": ended.message,
        "status": result.get("api_error_status"),
        "subtype": result.get("subtype"),
        "stop_reason": result.get("stop_reason", seen.get("stop_reason")),
        "terminal_reason": result.get("terminal_reason"),
        "session_id": result.get("session_id"),
        "request_id": ended.request_id or seen.get("request_id"),
        "turns": result.get("num_turns"),
        "cost_usd": result.get("total_cost_usd"),
        "permission_denials": denials,
    }
    found = outcome_of(name, event, ended.code, **said)
    if event == "max_tokens":
        found = evolve(found, todo="Raise CLAUDE_CODE_MAX_OUTPUT_TOKENS, or ask for less at once.")
    if denials:
        names = ", ".join(dict.fromkeys(map(str, denials)))
        found = evolve(found, notes=(f"claude was denied the use of: {names} (--allowedTools grants it)",))
    return found


@frozen
class _Ended:
    """What a result of `claude -p` comes to, before it is put into words."""

    event: str
    message: str | None = None
    code: str | None = None
    request_id: str | None = None


def _ended(result: Mapping[str, Any], seen: Mapping[str, Any]) -> _Ended:
    """What speaks against success is looked at first."""
    stop = result.get("stop_reason") or seen.get("stop_reason")
    subtype, terminal = str(result.get("subtype") or "success"), str(result.get("terminal_reason"))
    text = _text(result)
    if stop == "refusal":
        return _Ended("refusal", text)
    if subtype in _SUBTYPES:
        return _Ended(_SUBTYPES[subtype], text)
    if terminal in _TERMINAL:
        return _Ended(_TERMINAL[terminal], text)
    if result.get("is_error") or subtype != "success":
        return _of_failed_run(result, seen, text or "")
    if isinstance(result.get("deferred_tool_use"), Mapping):
        return _Ended("tool_use")
    if stop == "tool_use" and result.get("structured_output") is not None:
        return _Ended("end_turn")  # the structured answer is itself the input of a tool
    event = stop or "end_turn"  # older versions say no more
    if not (isinstance(event, str) and event in STOP_REASONS):
        return _Ended("unknown_stop", f"stop_reason {stop!r}")
    has_answer = bool(str(result.get("result") or "").strip()) or result.get("structured_output") is not None
    return _Ended(event) if has_answer or _BY_EVENT[event] != FINISHED else _Ended("no_answer")


def _of_failed_run(result: Mapping[str, Any], seen: Mapping[str, Any], text: str) -> _Ended:
    status, quoted = result.get("api_error_status"), _API_ERROR.search(text)
    if not isinstance(status, int) or isinstance(status, bool):
        status = int(quoted[1]) if quoted else None
    if status is not None:
        # The envelope may stand in the text, with words before it; it says more than the status.
        body = text[text.find("{") :] if "{" in text else json.dumps({"error": {"message": text}})
        failed = failed_from_response(status, {}, body.encode("utf-8", "replace"), at=0.0, draw=0.0)
        return _Ended(failed.event, failed.message, failed.code, failed.request_id)
    named = _LINE_ERRORS.get(str(seen.get("error"))) or next(
        (event for pattern, event in _SAID if re.search(pattern, text, re.IGNORECASE)), None
    )
    return _Ended(named or ("max_tokens" if seen.get("stop_reason") == "max_tokens" else "failed"), text)


def _text(result: Mapping[str, Any]) -> str | None:
    """What an error says: the result's text, or its list of errors."""
    errors = result.get("errors")
    parts = [str(e) for e in errors] if isinstance(errors, list) else []
    text = result.get("result")
    joined = "; ".join([*([text] if isinstance(text, str) else []), *parts])
    return joined or None
