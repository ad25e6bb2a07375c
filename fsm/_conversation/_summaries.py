"""Compaction (S10): what is summarised, what stands in its place, and whether it was of any use.

On demand, `compact` makes the next request one for a summary, whose reply opens a new ledger: the compaction block
first and verbatim, then every message that the request did not hold. By itself, the API puts a compaction block into a
reply that is appended like any other, and ignores what stands before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from attrs import evolve

from fsm._events import Failed
from fsm._facts import count_of
from fsm._ledger import Ledger, Standing
from fsm._reading import Reading

from ._run_state import Compactions, PendingReply, RunState, without

USELESS = 2  # D10: so many compactions that did not help
_USEFUL = 0.9  # D10: of use is what takes away a tenth of the input at least
_GO_ON = ({"type": "text", "text": "Continue."},)


def covered(run: RunState, history: str) -> int:
    """How many sealed messages the next request of a history is to have summarised; 0: it is an ordinary request.

    S10.4: only finished turns. So it waits for the next finished reply, unless the context window is full (S9.2), where
    there will be none: then what the model has not answered yet is kept back, and follows the summary.
    """
    now = run.compacting.get(history)
    if now is None:
        return 0
    ledger = run.ledger(history)
    if ledger.can_compact:
        return ledger.count
    if not now or not ledger.may_speak or ledger.legality.open_calls or ledger.standing is not Standing.OWES:
        return 0
    messages = [json.loads(raw) for raw in ledger.encoded()]
    turns = [n for n, message in enumerate(messages) if n and _is_reply(messages[n - 1]) and _speaks(message)]
    if turns:
        return turns[-1]
    # One long turn of tool calls: it ends in their results, and is summarised whole.
    return ledger.count if any(_is_reply(message) for message in messages) else 0


def _is_reply(message: Mapping[str, Any]) -> bool:
    """A turn of the model's own, no summary."""
    return message["role"] == "assistant" and "compaction" not in _kinds(message)


def _speaks(message: Mapping[str, Any]) -> bool:
    return message["role"] == "user" and "tool_result" not in _kinds(message)


def _kinds(message: Mapping[str, Any]) -> set[Any]:
    content = message["content"]
    return {block.get("type") for block in content} if isinstance(content, list) else set()


def swapped(ledger: Ledger, pending: PendingReply) -> Ledger:
    """S10.2: the summary in place of exactly the messages that were sent; S10.3: without one the old history stays."""
    if not any(block.get("type") == "compaction" and block.get("content") for block in pending.content):
        return ledger
    rest, tail = ledger.encoded()[pending.summary :], ledger.tail
    if not rest and not tail and ledger.standing is Standing.OWES:
        tail = _GO_ON  # R25: a request does not end in the summary, and the model has not finished
    fresh = Ledger(ledger.generation + 1).append_reply(pending.content, pending.content_json, ledger.standing)
    for raw in rest:
        fresh = fresh.append_encoded(raw)
    return evolve(fresh, tail=tail, standing=ledger.standing)


# --- use ------------------------------------------------------------------------------------------------------------


def measure(run: RunState, history: str, reading: Reading, *, is_summary: bool) -> None:
    """D10: compare the input before a compaction with that of the first reply after it."""
    usage, known = reading.reply.usage, run.compactions
    size = count_of(usage, "input_tokens") + count_of(usage, "cache_read_input_tokens")
    size += count_of(usage, "cache_creation_input_tokens")
    if is_summary or reading.event == "compaction":
        if before := known.size.get(history) or size:
            run.compactions = evolve(known, before={**known.before, history: before})
        return
    if not size:
        return
    if history in known.before:
        times = 0 if size <= _USEFUL * known.before[history] else known.useless.get(history, 0) + 1
        known = evolve(known, before=without(known.before, history), useless={**known.useless, history: times})
    # Built by name: `evolve` costs more than the rest of it, and this is done at every reply.
    run.compactions = Compactions({**known.size, history: size}, known.before, known.useless)


def useless(run: RunState, history: str) -> dict[str, Any] | None:
    """S10.5: the evidence that compacting goes on for ever; None where it helps."""
    times = run.compactions.useless.get(history, 0)
    if times < USELESS:
        return None
    detail = f"{times} compactions of '{history}' took away less than a tenth of its input"
    return {
        "kind": "compaction",
        "rule": "D10",
        "times": times,
        "tokens": run.compactions.size.get(history),
        "detail": detail,
    }


def failed_summary(run: RunState, event: Failed) -> bool:
    """E28: the API cannot summarise this history; sending the request again cannot help, going on without can."""
    is_asked = run.request is not None and bool(run.request.get("compact"))
    return is_asked and event.event == "invalid_request_error" and str(event.code).startswith("compaction_")


# --- S5.7: a model whose cap is not known ---------------------------------------------------------------------------

_ABOVE_CAP = re.compile(r"max_tokens: \d+ > (\d+)")  # R46
_ABOVE_WINDOW = re.compile(r"exceed context limit: (\d+) \+ \d+ > (\d+)")  # R61
_ABOUT_TOKENS = re.compile(r"max(imum)?[_ ]tokens", re.IGNORECASE)


def cap_learned(run: RunState, event: Failed, before: int) -> int | None:
    """The cap of the model by the error that a grown request earned (R46, R61); None where it is about something else.

    Where the message names no number, `before` is the most that is known to be allowed.
    """
    if run.dropped is None or run.dropped.grown is None or event.event != "invalid_request_error":
        return None
    if found := _ABOVE_CAP.search(event.message):
        return max(before, int(found[1]))
    if found := _ABOVE_WINDOW.search(event.message):
        return max(before, int(found[2]) - int(found[1]))
    return before if _ABOUT_TOKENS.search(event.message) else None
