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

    def __str__(self) -> str:
        return f"{self.rule} {self.message}\n    {self.repair}"


def said(rule: str, at: str, text: str, repair: str, *ids: str) -> Violation:
    """A finding whose text begins with its address, as most of the API's do."""
    return Violation(rule, at, f"{at}: {text}", repair, ids=ids)


# ── shapes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def missing(at: str, rule: str = "R4") -> Violation:
    return said(rule, at, "Field required", f"Add `{at.rpartition('.')[2]}`.")


def wrong_type(at: str, wanted: str, rule: str = "R4") -> Violation:
    return said(rule, at, f"Input should be {wanted}", f"Send {wanted} here.")


def too_small(at: str, least: int, rule: str = "R4") -> Violation:
    return said(rule, at, f"Input should be greater than or equal to {least}", f"Send {least} or more here.")


def wrong_shape(at: str) -> Violation:
    return said("R4", at, "Input does not match the expected shape.", "Send an object with `role` and `content` here.")


def wrong_pattern(at: str, pattern: str, value: str) -> Violation:
    text = f"String should match pattern '{pattern}'"
    return said("R19a", at, text, "Echo the id exactly as the API returned it.", value)


def extra_key(at: str) -> Violation:
    return said("R3", at, "Extra inputs are not permitted", "Keep your own bookkeeping outside of the message objects.")


def no_messages() -> Violation:
    return said("R4", "messages", "at least one message is required", "Add a user message.")


def too_many_messages(count: int, most: int) -> Violation:
    text = f"at most {most} messages may be provided. Found {count}"
    return said("R9", "messages", text, "Summarise the older turns, or compact the conversation.")


def unsendable(what: str) -> Violation:
    text = f"The request body is not valid JSON: {what}"
    return Violation("R26", "", text, "Replace the value before you send it.")


def unexpected_role(at: str, role: object) -> Violation:
    text = f'messages: Unexpected role "{role}". Allowed roles are "user" or "assistant"'
    return Violation("R7", at, text, "Use the role user or assistant; the system prompt goes into `system`.")


def no_system_role(at: str) -> Violation:
    text = "role 'system' is not supported on this model"
    return Violation("R8", at, text, "Put the text into the top-level `system`, or use a model that knows the role.")


def system_first(at: str) -> Violation:
    text = (
        "use the top-level 'system' parameter for the initial system prompt; the directive-only form "
        "(content: [] with output_config) is accepted at any position"
    )
    return said("R8", at, text, "Move the text of the first message into the top-level `system`.")


def system_follows(at: str) -> Violation:
    text = "role 'system' must follow a 'user' message or an 'assistant' message ending in a server tool result"
    return said("R8", at, text, "Move the system message behind the next user message.")


def system_precedes(at: str) -> Violation:
    text = "role 'system' must precede an 'assistant' message or end the array"
    return Violation("R8", at, text, "Move the system message behind the user message that follows it.")


def system_kind(at: str, kind: str) -> Violation:
    text = f"`{kind}` blocks are not allowed in `system` messages; use `text`, `tool_addition` or `tool_removal`"
    return said("R8", at, text, "Put only text and tool changes into a system message.")


def system_blank(at: str) -> Violation:
    text = "text content blocks in `system` messages must contain non-whitespace text"
    return said("R8", at, text, "Leave the blank text out.")


def system_empty(at: str) -> Violation:
    text = "role 'system' needs non-empty content or an output_config with at least one field"
    return said("R8", at, text, "Leave the message out, or give it content.")


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
    return said("R22", at, text, "Leave the message out, or give it content; never store an empty assistant turn.")


def nested_kind(at: str, kind: str, allowed: Sequence[str]) -> Violation:
    tags = ", ".join(f"'{tag}'" for tag in allowed)
    text = f"Input tag '{kind}' found using 'type' does not match any of the expected tags: {tags}"
    return said("R19c", at, text, "Put only text, images, documents and references into a tool result.")


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
        return said("R11", at, text, "Put all tool_result blocks before anything else in the user message.", *calls)
    repair = "Answer every tool_use in one user message directly after it, with is_error if it was not run."
    return said("R10", at, text, repair, *calls)


def stray_result(at: str, call: str) -> Violation:
    text = (
        f"unexpected `tool_use_id` found in `tool_result` blocks: {call}. "
        "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
    )
    repair = "Send the assistant message with this tool_use directly before its result, or leave the result out."
    return said("R13", at, text, repair, call)


def stray_server_result(at: str, call: str, result: str, use: str) -> Violation:
    text = (
        f"unexpected `tool_use_id` found in `{result}` blocks: {call}. "
        f"Each `{result}` block must have a corresponding `{use}` block before it."
    )
    return said("R13", at, text, f"Echo assistant messages whole: the {use} block of this result is missing.", call)


def repeated_call(at: str, call: str) -> Violation:
    repair = "Append each assistant reply once; an id is repeated when one is replayed or copied."
    return said("R14", at, "`tool_use` ids must be unique", repair, call)


def repeated_result(at: str, call: str) -> Violation:
    text = f"each tool_use must have a single result. Found multiple `tool_result` blocks with id: {call}"
    return said("R15", at, text, "Keep one tool_result for this id.", call)


def unpaired_server_use(at: str, call: str, tool: str, result: str) -> Violation:
    text = f"`{tool}` tool use with id `{call}` was found without a corresponding `{result}` block"
    repair = "While a server tool is open, end with that message or send only the results of the client tools."
    return said("R16", at, text, repair, call)


def pending_server_tool(at: str, call: str, tool: str, result: str) -> Violation:
    text = (
        f"`{tool}` tool use with id `{call}` was found without a corresponding `{result}` block, "
        f"but no `{tool}` tool was provided"
    )
    return said("R16", at, text, "Send the same `tools` when you continue a paused turn.", call)


def coded_not_alone(at: str, calls: Sequence[str]) -> Violation:
    text = (
        "only `tool_result` blocks may answer tool uses generated by code execution with tools; "
        f"other content follows the results of: {', '.join(calls)}"
    )
    return said("R18", at, text, "Send the results alone, and the words with a later message.", *calls)


def coded_not_text(at: str, call: str) -> Violation:
    text = "the result of a tool use generated by code execution with tools must be a string or `text` blocks"
    return said("R18", at, text, "Send the result as text.", call)


def no_container(calls: Sequence[str]) -> Violation:
    text = "container_id is required when there are pending tool uses generated by code execution with tools."
    return Violation("R18", "container", text, "Send the `container` id of the last response.", ids=tuple(calls))


# ── thinking in messages ────────────────────────────────────────────────────────────────────────────────────────────


def no_thinking_first(at: str, kind: str) -> Violation:
    text = (
        f"Expected `thinking` or `redacted_thinking`, but found `{kind}`. When `thinking` is enabled, a final "
        "`assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and "
        "`tool_result` blocks). We recommend you include thinking blocks from previous turns. To avoid this "
        "requirement, disable `thinking`. Please consult our documentation at "
        "https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking"
    )
    return said("R33", f"{at}.type", text, "Echo the assistant message whole, with its thinking blocks.")


def thinking_not_first(at: str, kind: str) -> Violation:
    text = (
        "If an assistant message contains any thinking blocks, the first block must be `thinking` or "
        f"`redacted_thinking`. Found `{kind}`."
    )
    return said("R33", at, text, "Echo the blocks of an assistant message in the order in which they came.")


def thinking_prefill(at: str) -> Violation:
    text = "messages: the final message cannot be an assistant message when thinking is enabled"
    return Violation("R38", at, text, "End the request with a user message, or switch thinking off.")


# ── what a version of the API took away ─────────────────────────────────────────────────────────────────────────────


def removed(at: str) -> Violation:
    return said("R4a", at, "Extra inputs are not permitted", f"Leave `{at.rpartition('.')[2]}` out.")


def document_in_assistant(at: str) -> Violation:
    text = "`document` blocks can only be in `user` messages"
    return said("R4a", at, text, "Send the document in a user message.")


# ── the end of the request ──────────────────────────────────────────────────────────────────────────────────────────


def final_whitespace(at: str) -> Violation:
    text = "messages: final assistant content cannot end with trailing whitespace"
    return Violation("R24", at, text, "Strip the end of the last assistant text.")


def prefill(at: str) -> Violation:
    text = "This model does not support assistant message prefill. The conversation must end with a user message."
    return Violation("R25", at, text, "End the request with a user message.")
