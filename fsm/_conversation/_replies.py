"""What becomes of a reply: what is known after it, what of it is kept, and which text it goes on from.

A reply is recorded first (`take`); the move that it causes says whether it is kept (`keep`). Which replies are kept is
`_ledger.is_kept` to say; here stands what that means for the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import evolve

from fsm._alphabet import ALPHABET, Group
from fsm._encoded import encode
from fsm._graph import Graph
from fsm._ledger import Standing, after_reply, is_kept
from fsm._reading import Reading, read
from fsm._records import Record
from fsm._states import Claude

from ._run_state import Container, DroppedReply, OpenCallState, PendingReply, RunState, without
from ._summaries import measure, swapped

_CUT = frozenset({Group.CUT})
_GOES_ON = frozenset({Group.CUT, Group.PAUSE, Group.COMPACTION, Group.EMPTY})  # the turn is not over


def take(run: RunState, record: Record, graph: Graph) -> None:
    """Add a reply; what is kept of it is decided by the move that follows."""
    data = record.data
    message, reading = record.parsed or _decoded(data)
    state = graph.by_name[run.state].state
    if isinstance(state, Claude) and state.output is not None:
        reading = evolve(reading, cut_in_call=True)  # half a JSON text cannot be continued either
    run.continued, run.goes_on = run.goes_on, ""
    run.reading, run.output = reading, data.get("output")
    history = run.request["history"] if run.request else graph.by_name[run.state].history or "main"
    content = message.get("content")
    run.answered = run.request["hash"] if run.request else ""
    covers = run.request.get("compact", 0) if run.request else 0
    run.pending = PendingReply(
        content if isinstance(content, list) else [],
        data["content"],
        history,
        summary=run.ledger(history).count if covers is True else covers,
        container=Container.of(message.get("container")),
    )
    run.dropped, run.void = None, True  # until it is kept
    if run.pending.summary:  # a failed attempt is sent again as a summary
        run.compacting = without(run.compacting, history)
    measure(run, history, reading, is_summary=bool(run.pending.summary))
    if reading.event == "refusal" and isinstance(state, Claude):
        model = run.models.get(run.state, state.model)
        run.refusals = {**run.refusals, model: (*run.refusals.get(model, ()), run.answered)}
    run.request = None
    run.recoveries = 0
    run.free = frozenset()  # not with the request: a retry of it is the same request
    run.turns += 1
    run.elapsed += data["seconds"]
    run.usage = run.usage.plus(reading.reply.usage)
    price = data.get("price")
    run.price = None if price is None or run.price is None else run.price + price
    if data.get("request_id"):
        run.request_ids = (data["request_id"], run.request_ids)
    run.attempts = without(run.attempts, (run.state, "retry"))
    run.waited = without(run.waited, run.state)
    run.detector, run.finding = run.detector.replied(reading.reply)
    run.failure = None


def _decoded(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], Reading]:
    message = {**data["message"], "content": json.loads(data["content"])}
    reading = read(message)
    return message, reading if reading.event == data["event"] else evolve(reading, event=data["event"])


def recorded(message: Mapping[str, Any]) -> dict[str, Any]:
    """A reply as it is recorded beside its content. X7: the token that pays for a retry is a secret (S8.1)."""
    data = {key: value for key, value in message.items() if key != "content"}
    if _has_token(data.get("stop_details")):
        data["stop_details"] = without(data["stop_details"], _TOKEN)
    return data


_TOKEN = "fallback_credit_token"  # noqa: S105 - the name of a field


def _has_token(details: Any) -> bool:
    return isinstance(details, Mapping) and _TOKEN in details


def keep(run: RunState, event: str, node: Any, *, said: bool, discarded: bool) -> None:
    """Append the newest reply to its history, or say where that stands without it. `node` is the state that is next."""
    pending, run.pending = run.pending, None
    if pending is None or run.reading is None or event != run.reading.event:
        return
    _forget_token(run)
    ledger = run.ledger(pending.history)
    if pending.summary:  # whatever else came instead of a summary is no part of the conversation (S10.2)
        run.goes_on = run.continued
        if event == "compaction":
            run.with_ledger(pending.history, swapped(ledger, pending))
        run.detector = run.detector.discarded()
        return
    group = ALPHABET[event].group
    # S5.6: of a cut reply with a call, or without text, nothing can be kept. R22: an empty turn cannot be sent back.
    # S10.3: nor is there a use for a summary that failed.
    broken = (group in _CUT and run.reading.cut_in_call) or not pending.content or _is_failed_summary(event, pending)
    here = said and node.history == pending.history
    if group is Group.REFUSAL:
        ledger = ledger.without_open_turn()  # S8.3: the paused part belongs to the turn that was refused
    elif here and event != "tool_use":
        is_whole = not broken and is_kept(event, said=True, discarded=discarded)
        here = ledger.can_hear(pending.content if is_whole else ())
    standing = after_reply(event, ledger.standing, said=here, discarded=discarded)
    kept = is_kept(event, said=here, discarded=discarded) and not broken
    if kept:
        run.void = False
        content, raw = echoed(pending.content, pending.content_json)
        is_paused = group is Group.PAUSE and not here
        run.with_ledger(pending.history, ledger.append_reply(content, raw, standing, paused=is_paused))
        _keep_container(run, pending)
        if standing is Standing.CALLS:
            _open_calls(run, pending.history)
    else:
        run.with_ledger(pending.history, ledger.with_standing(standing).resumed())
        if discarded or run.reading.reply.stop_reason == "tool_use":  # nobody has to answer what is not in the history
            run.detector = run.detector.discarded()
    if group in _GOES_ON and node.history == pending.history:
        run.goes_on = run.continued + (run.reading.reply.text if kept else "")
    run.dropped = DroppedReply(pending) if group in _CUT and not kept else None


def _forget_token(run: RunState) -> None:
    """The guards and effects of this move have read it; after it the run is the one that its records give (X7)."""
    reading = run.reading
    if reading is not None and _has_token(details := reading.reply.stop_details):
        run.reading = evolve(reading, reply=evolve(reading.reply, stop_details=without(details or {}, _TOKEN)))


def _open_calls(run: RunState, history: str) -> None:
    if run.open:  # another history asked for tools while these were open: the newest are answered first
        run.shelved = (*run.shelved, (run.home, run.open))
    run.open = {call.id: OpenCallState(call) for call in run.reading.reply.calls} if run.reading is not None else {}
    run.home = history
    run.tool_calls += len(run.open)


def _is_failed_summary(event: str, pending: PendingReply) -> bool:
    return event == "compaction" and not any(
        block.get("type") == "compaction" and block.get("content") for block in pending.content
    )


def _keep_container(run: RunState, pending: PendingReply) -> None:
    """S6.8: where the code of a kept reply runs. A reply that is dropped changes nothing: S5.2 sends the same again."""
    if pending.container is not None:
        run.containers = {**run.containers, pending.history: pending.container}


# --- S8.7: a reply that several models wrote ------------------------------------------------------------------------

_DECLINED = frozenset({"thinking", "redacted_thinking", "connector_text", "tool_use"})


def echoed(content: list[Any], raw: str) -> tuple[list[Any], str]:
    """A reply as it is sent back: verbatim, unless a model that declined wrote a part of it.

    S8.7: before the last `fallback` block its thinking and calls are left out, and server tools without their result.
    """
    if '"fallback"' not in raw:
        return content, raw
    last = max((i for i, block in enumerate(content) if block.get("type") == "fallback"), default=-1)
    if last < 0:
        return content, raw
    uses = {str(block.get("id")) for block in content if str(block.get("type")).endswith("_tool_use")}
    results = {str(block.get("tool_use_id")) for block in content if str(block.get("type")).endswith("_tool_result")}

    def stays(block: Mapping[str, Any]) -> bool:
        kind = str(block.get("type"))
        if kind in _DECLINED:
            return False
        if kind.endswith("_tool_use"):
            return str(block.get("id")) in results
        return str(block.get("tool_use_id")) in uses if kind.endswith("_tool_result") else True

    kept = [*(block for block in content[:last] if stays(block)), *content[last:]]
    return (content, raw) if len(kept) == len(content) else (kept, encode(kept).decode())
