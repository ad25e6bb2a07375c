"""`Violation`, and one function for each refusal, with the text that the API prints.

`at` is always the address of a message (`messages.3`) or of a block (`messages.3.content.1`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Violation"]


@frozen
class Violation:
    """One reason for which the API answers a request with HTTP 400.

    Params:
        rule: the rule that is broken, such as `R10`.
        path: where, such as `messages.3.content.1`; consecutive messages of one role count as one (R6).
        message: the API's own text, complete with the address as the API prints it.
        repair: one sentence that says what to change in the request.
        ids: the ids of the tool calls concerned.
    """

    rule: str
    path: str
    message: str
    repair: str
    ids: tuple[str, ...] = field(default=(), kw_only=True)


def _at(rule: str, at: str, text: str, repair: str, *ids: str) -> Violation:
    return Violation(rule, at, f"{at}: {text}", repair, ids=ids)


# ── shapes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def missing(at: str, rule: str = "R4") -> Violation:
    return _at(rule, at, "Field required", f"Add `{at.rpartition('.')[2]}`.")


def wrong_type(at: str, wanted: str, rule: str = "R4") -> Violation:
    return _at(rule, at, f"Input should be {wanted}", f"Send {wanted} here.")


def wrong_shape(at: str) -> Violation:
    return _at("R4", at, "Input does not match the expected shape.", "Send an object with `role` and `content` here.")


def wrong_pattern(at: str, pattern: str, value: str) -> Violation:
    text = f"String should match pattern '{pattern}'"
    return _at("R19a", at, text, "Echo the id exactly as the API returned it.", value)


def extra_key(at: str) -> Violation:
    return _at("R3", at, "Extra inputs are not permitted", "Keep your own bookkeeping outside of the message objects.")


def no_messages() -> Violation:
    return _at("R4", "messages", "at least one message is required", "Add a user message.")


def unexpected_role(at: str, role: object) -> Violation:
    text = f'messages: Unexpected role "{role}". Allowed roles are "user" or "assistant"'
    return Violation("R7", at, text, "Use the role user or assistant; the system prompt goes into `system`.")


def no_system_role(at: str) -> Violation:
    text = "role 'system' is not supported on this model"
    return Violation("R8", at, text, "Put the text into the top-level `system`, or use a model that knows the role.")


# ── contents ────────────────────────────────────────────────────────────────────────────────────────────────────────


def empty_text(at: str) -> Violation:
    text = f"{at.partition('.')[0]}: text content blocks must be non-empty"
    return Violation("R20", at, text, "Leave the empty text block out.")


def empty_text_cached(at: str) -> Violation:
    # The address ends in the block's kind below `messages`, and does not below `system`.
    path = f"{at}.text" if at.startswith("messages") else at
    text = f"{path}: cache_control cannot be set for empty text blocks"
    return Violation("R23", at, text, "Leave the empty text block out and mark the block before it.")


def empty_message(at: str) -> Violation:
    text = "all messages must have non-empty content except for the optional final assistant message"
    return _at("R22", at, text, "Leave the message out, or give it content; never store an empty assistant turn.")


def nested_kind(at: str, kind: str, allowed: Sequence[str]) -> Violation:
    tags = ", ".join(f"'{tag}'" for tag in allowed)
    text = f"Input tag '{kind}' found using 'type' does not match any of the expected tags: {tags}"
    return _at("R19c", at, text, "Put only text, images, documents and references into a tool result.")


def error_not_text(at: str, call: str) -> Violation:
    text = f"{at}.tool_result: all content must be type `text` if `is_error` is true"
    return Violation("R19c", at, text, "Describe the error in text blocks only.", ids=(call,))


def wrong_role(message: str, at: str, kind: str, role: str) -> Violation:
    text = f"{message}: `{kind}` blocks can only be in `{role}` messages"
    return Violation("R19", at, text, f"Move the block into a message of role {role}.")


# ── calls and results ───────────────────────────────────────────────────────────────────────────────────────────────


def unanswered(at: str, calls: Sequence[str], *, late: bool) -> Violation:
    text = (
        f"`tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(calls)}. "
        "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )
    if late:  # R11: the API has no text of its own for it
        return _at("R11", at, text, "Put all tool_result blocks before anything else in the user message.", *calls)
    repair = "Answer every tool_use in one user message directly after it, with is_error if it was not run."
    return _at("R10", at, text, repair, *calls)


def stray_result(at: str, call: str) -> Violation:
    text = (
        f"unexpected `tool_use_id` found in `tool_result` blocks: {call}. "
        "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
    )
    repair = "Send the assistant message with this tool_use directly before its result, or leave the result out."
    return _at("R13", at, text, repair, call)


def stray_server_result(at: str, call: str, result: str, use: str) -> Violation:
    text = (
        f"unexpected `tool_use_id` found in `{result}` blocks: {call}. "
        f"Each `{result}` block must have a corresponding `{use}` block before it."
    )
    return _at("R13", at, text, f"Echo assistant messages whole: the {use} block of this result is missing.", call)


def repeated_call(at: str, call: str) -> Violation:
    repair = "Append each assistant reply once; an id is repeated when one is replayed or copied."
    return _at("R14", at, "`tool_use` ids must be unique", repair, call)


def repeated_result(at: str, call: str) -> Violation:
    text = f"each tool_use must have a single result. Found multiple `tool_result` blocks with id: {call}"
    return _at("R15", at, text, "Keep one tool_result for this id.", call)


def unpaired_server_use(at: str, call: str, tool: str, result: str) -> Violation:
    text = f"`{tool}` tool use with id `{call}` was found without a corresponding `{result}` block"
    repair = "While a server tool is open, end with that message or send only the results of the client tools."
    return _at("R16", at, text, repair, call)


# ── the end of the request ──────────────────────────────────────────────────────────────────────────────────────────


def final_whitespace(at: str) -> Violation:
    text = "messages: final assistant content cannot end with trailing whitespace"
    return Violation("R24", at, text, "Strip the end of the last assistant text.")


def prefill(at: str) -> Violation:
    text = "This model does not support assistant message prefill. The conversation must end with a user message."
    return Violation("R25", at, text, "End the request with a user message.")
