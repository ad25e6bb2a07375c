"""Folding: what a run's records add up to.

`RunState` is everything that is known of a run; `apply` adds one record to it. Nothing else changes a run, live or
replayed, and nothing here calls a guard, an effect, a prompt or a `Code` function: a record carries what they decided
(rule 8). `RunState` is copied before an event is decided and swapped in afterwards, so its values are never changed
in place: dicts and tuples are replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve

from fsm._alphabet import ALPHABET, Group
from fsm._events import Decision, ToolEnd
from fsm._facts import SUCCESS, Failure, Result
from fsm._graph import Graph
from fsm._ledger import Ledger, Standing, after_reply, is_kept
from fsm._models import model_facts
from fsm._reading import Reading, read
from fsm._records import Record
from fsm._states import Claude

from ._run_state import OpenCallState, PendingReply, RunState

UNKNOWN_OUTCOME = (
    "The outcome of this call is unknown: the process stopped while it ran. It may or may not have taken effect; "
    "check before you call it again."
)
_CUT_GROUPS = frozenset({Group.CUT})
_CLOSING = frozenset({"tool_results", "denied", "expired"})
_CALL_KINDS = frozenset({"Tools", "Approval"})


def apply(run: RunState, record: Record, graph: Graph) -> None:
    """Add one record."""
    _APPLY[record.kind](run, record, graph)
    run.seq = record.seq + 1
    run.at = record.at


def _open(run: RunState, record: Record, graph: Graph) -> None:
    data = record.data
    run.run_id, run.tags, run.systems, run.limits = data["run_id"], data["tags"], data["systems"], data["limits"]
    run.waiting = tuple(data["messages"])
    run.given = _words(run.waiting)
    for history, encoded in data["carried"].items():
        ledger = Ledger()
        for raw in encoded:
            ledger = ledger.append_encoded(raw.encode())
        run.with_ledger(history, ledger)
    first = graph.by_name[run.state].state
    if isinstance(first, Claude):
        _enter_ledger(run, first)


def _words(messages: tuple[Mapping[str, Any], ...]) -> Any:
    """The input as guards see it: its text where it is one text, else the messages."""
    if len(messages) == 1 and isinstance(content := messages[0].get("content"), list):
        texts = [b.get("text") for b in content if b.get("type") == "text"]
        if len(texts) == len(content) == 1:
            return texts[0]
    return messages


def _request(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    data = record.data
    history = data["history"]
    if not data.get("compact"):
        run.with_ledger(history, run.ledger(history).seal())
    run.requests = data["n"]
    run.request = data
    run.detector, _ = run.detector.requested(bytes.fromhex(data["hash"]))
    run.wait_until = None


def _reply(run: RunState, record: Record, graph: Graph) -> None:
    data = record.data
    message, reading = record.parsed or _decoded(data)
    state = graph.by_name[run.state].state
    if isinstance(state, Claude) and state.output is not None:
        reading = evolve(reading, cut_in_call=True)  # half a JSON text cannot be continued either
    before = run.reading.reply.text if run.reading is not None else ""
    run.continued, run.is_continuing = (run.continued + before if run.is_continuing else ""), False
    run.reading, run.output = reading, data.get("output")
    history = run.request["history"] if run.request else graph.by_name[run.state].history or "main"
    content = message.get("content")
    run.answered = run.request["hash"] if run.request else ""
    run.pending = PendingReply(
        content if isinstance(content, list) else [],
        data["content"],
        history,
        summary=bool(run.request and run.request.get("compact")),
    )
    if run.pending.summary:  # a failed attempt is sent again as a summary
        run.compacting = run.compacting - {history}
    run.request = None
    run.free = frozenset()  # not with the request: a retry of it is the same request
    run.turns += 1
    run.elapsed += data["seconds"]
    run.usage = run.usage.plus(reading.reply.usage)
    price = data.get("price")
    run.price = None if price is None or run.price is None else run.price + price
    if data.get("request_id"):
        run.request_ids = (data["request_id"], run.request_ids)
    run.attempts = _without(run.attempts, (run.state, "retry"))
    run.waited = _without(run.waited, run.state)
    run.detector, run.finding = run.detector.replied(reading.reply)
    run.failure = None


def _decoded(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], Reading]:
    message = {**data["message"], "content": json.loads(data["content"])}
    return message, evolve(read(message), event=data["event"])


def _error(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    data = record.data
    run.request, run.answered = None, ""
    run.elapsed += data["seconds"]
    if data.get("request_id"):
        run.request_ids = (data["request_id"], run.request_ids)
    run.failure = Failure(
        data["event"], data["message"], data["status"], data["code"], data["retry_after"], data["draw"]
    )


def family(event: str) -> str:
    """Which counter an event counts in: retryable errors share one, the others have one each."""
    return "retry" if ALPHABET.get(event) and ALPHABET[event].group is Group.RETRYABLE else event


def _move(run: RunState, record: Record, graph: Graph) -> None:
    data = record.data
    source, event, dest = data["source"], data["event"], data["dest"]
    edge_key = (source, event, data["index"])
    run.rounds = {**run.rounds, edge_key: run.rounds.get(edge_key, 0) + 1}
    run.moves += 1
    node = graph.by_name[dest]
    changes = [change for _, change in data["effects"]]
    run.evidence = data.get("evidence") or {}
    run.last_event, run.is_unsaid = event, False
    said = any("say" in change for change in changes)
    is_claude = graph.by_name[source].kind == "Claude"
    _count(run, source, event, is_claude=is_claude)
    if is_claude:
        _keep_reply(run, event, node, said=said, discarded=any("discard" in c for c in changes))
    elif closes(event, graph.by_name[source].kind) and run.open:
        _close_calls(run, event)
    elif event == "outcome_unknown":
        _unknown(run, node.kind, frozenset(data["evidence"]["ids"]))
    run.asked = run.code = run.request = run.wait_until = None  # a `cancel` can come while one of them is on
    run.state = dest
    if isinstance(node.state, Claude):
        _enter_ledger(run, node.state)
    for change in changes:
        for name, value in change.items():
            _CHANGES[name](run, record.at, dest, node.history, value)


def _count(run: RunState, source: str, event: str, *, is_claude: bool) -> None:
    """Attempts by state and family.

    In a Claude state success resets all but the retries, which any reply has reset; elsewhere every other event resets.
    `idle` and `bounds` of `_guards` know this.
    """
    key = (source, family(event))
    if is_claude and event in SUCCESS:
        if run.attempts:
            run.attempts = {key: n for key, n in run.attempts.items() if key[0] != source}
        run.tokens = _without(run.tokens, source)
    else:
        others = run.attempts if is_claude else {k: n for k, n in run.attempts.items() if k[0] != source}
        run.attempts = {**others, key: run.attempts.get(key, 0) + 1}
    if not is_claude:
        return
    if event in {"stuck", "over_limit"}:
        run.free = run.free | {event}
        run.detector, run.finding = run.detector.window_reset(), None


def _keep_reply(run: RunState, event: str, node: Any, *, said: bool, discarded: bool) -> None:
    pending, run.pending = run.pending, None
    if pending is None or run.reading is None or event != run.reading.event:
        return
    ledger = run.ledger(pending.history)
    if pending.summary and event == "compaction":
        run.with_ledger(pending.history, _summarised(ledger, pending))
        return
    # S5.6: of a cut reply with a call, or without text, nothing can be kept. R22: an empty turn cannot be sent back.
    broken = (ALPHABET[event].group in _CUT_GROUPS and run.reading.cut_in_call) or not pending.content
    here = said and node.history == pending.history
    if here and event == "refusal" and not ledger.may_speak:
        ledger = ledger.without_open_turn()  # S8.3: the paused part belongs to the turn that was refused
    elif here and event != "tool_use":
        is_whole = not broken and is_kept(event, said=True, discarded=discarded)
        here = ledger.can_hear(pending.content if is_whole else ())
    standing = after_reply(event, ledger.standing, said=here, discarded=discarded)
    if is_kept(event, said=here, discarded=discarded) and not broken:
        run.with_ledger(pending.history, ledger.append_reply(pending.content, pending.content_json, standing))
        if ALPHABET[event].group in _CUT_GROUPS:
            run.is_continuing = True
        if standing is Standing.CALLS:
            if run.open:  # another history asked for tools while these were open: the newest are answered first
                run.shelved = (*run.shelved, (run.home, run.open))
            run.open = {call.id: OpenCallState(call) for call in run.reading.reply.calls}
            run.home = pending.history
            run.tool_calls += len(run.open)
    else:
        run.with_ledger(pending.history, ledger.with_standing(standing))
        if discarded or run.reading.reply.stop_reason == "tool_use":  # nobody has to answer what is not in the history
            run.detector = run.detector.discarded()


def _summarised(ledger: Ledger, pending: PendingReply) -> Ledger:
    """S10.2: the compaction block stands in place of what it summarised; S10.3: null content keeps the old history."""
    if not pending.content or any(b.get("type") == "compaction" and b.get("content") is None for b in pending.content):
        return ledger
    fresh = Ledger(generation=ledger.generation + 1)
    standing = Standing.OWES if ledger.tail else Standing.SPOKEN
    fresh = fresh.append_reply(pending.content, pending.content_json, standing)
    return evolve(fresh, tail=ledger.tail)


def _close_calls(run: RunState, event: str) -> None:
    """Every open call is answered in one user message, in the order of the calls (R10, R17)."""
    blocks = []
    run.results = results_of(run, event)
    for result in run.results:
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": result.id, "content": result.content}
        if result.is_error:
            block["is_error"] = True
        blocks.append(block)
    home = run.home or "main"
    ledger = run.ledger(home)
    run.with_ledger(home, ledger.prepend(blocks))
    run.detector, run.finding = run.detector.answered(run.results)
    if event != "tool_results":
        run.detector = run.detector.window_reset()
    run.open, run.home = {}, None
    if run.shelved:
        *older, (run.home, run.open) = run.shelved
        run.shelved = tuple(older)


def results_of(run: RunState, event: str) -> tuple[Result, ...]:
    """What the open calls are answered with if this event closes them; guards and effects of the event read it too."""
    results = []
    for open_call in run.open.values():
        end = open_call.end or ToolEnd(open_call.call.id, reason_of(event, open_call), is_error=True)
        results.append(Result(end.call_id, open_call.call.name, end.content, end.is_error))
    return tuple(results)


def closes(event: str, kind: str) -> bool:
    """Whether this event in a state of this kind answers the open calls."""
    return event in _CLOSING and kind in _CALL_KINDS


def reason_of(event: str, open_call: OpenCallState) -> str:
    """What the model reads about a call that was not run."""
    if event == "expired":
        return "Not run: nobody decided on this call in time."
    decision = open_call.decision
    if decision is not None and decision.verb == "deny":
        return f"Denied by a person: {decision.reason}" if decision.reason else "Denied by a person."
    return "Not run: the person denied the calls of this turn."


def _unknown(run: RunState, kind: str, lost: frozenset[str]) -> None:
    """Calls that had begun before a crash: put to a person, or answered as unknown; never run again silently (B3)."""
    made = {}
    for call_id, call in run.open.items():
        if call_id in lost:
            if kind == "Approval":
                made[call_id] = evolve(call, begun=False, unknown=True, decision=None)
            else:
                made[call_id] = evolve(call, end=ToolEnd(call_id, UNKNOWN_OUTCOME, is_error=True))
        else:
            made[call_id] = call
    run.open = made


_STARTS_ANEW = frozenset({Standing.EMPTY, Standing.SPOKEN, Standing.REFUSED})


def _enter_ledger(run: RunState, state: Claude) -> None:
    """`fresh` and `continues` begin a new ledger, except after a retry, a continuation or tool results."""
    history = state.history or "main"
    ledger = run.ledger(history)
    if not (state.fresh or state.continues) or ledger.standing not in _STARTS_ANEW:
        return
    if state.continues is not None:
        copied = run.ledger(state.continues).for_another()
        run.with_ledger(history, evolve(copied, generation=ledger.generation + 1))
    else:
        run.with_ledger(history, Ledger(generation=ledger.generation + 1))


def _change_say(run: RunState, at: float, dest: str, history: str | None, blocks: Any) -> None:
    del at, dest
    if history is None:
        return
    ledger = run.ledger(history)
    if ledger.legality.open_server_tools:  # R16: only their results may follow, so the words wait
        run.waiting = (*run.waiting, {"role": "user", "content": blocks})
        run.is_unsaid = True
    else:
        run.with_ledger(history, ledger.say(blocks))


def _change_tokens(run: RunState, at: float, dest: str, history: str | None, value: Any) -> None:
    del at, history
    run.tokens = {**run.tokens, dest: value}


def _change_model(run: RunState, at: float, dest: str, history: str | None, value: Any) -> None:
    del at, history
    run.models = {**run.models, dest: value}


def _change_wait(run: RunState, at: float, dest: str, history: str | None, value: Any) -> None:
    if history is None:  # only before a request can be waited
        return
    run.wait_until, run.wait_seconds = at + value, value
    run.waited = {**run.waited, dest: run.waited.get(dest, 0.0) + value}


def _change_park(run: RunState, at: float, dest: str, history: str | None, value: Any) -> None:
    if history is None:  # what is asked of others does not go to the API that stays away
        return
    asked = run.failure.retry_after if run.failure else None
    run.parked = {"reason": value, "until": at + (asked or 60.0)}
    run.attempts = _without(run.attempts, (dest, "retry"))
    run.waited = _without(run.waited, dest)


def _change_discard(run: RunState, at: float, dest: str, history: str | None, value: Any) -> None:
    del run, at, dest, history, value  # read by _keep_reply


def _change_compact(run: RunState, at: float, dest: str, history: str | None, value: Any) -> None:
    del at, dest, value
    run.compacting = run.compacting | {history or "main"}


def _change_value(run: RunState, at: float, dest: str, history: str | None, value: Any) -> None:
    del at, dest, history
    run.values = {**run.values, **value}


_CHANGES: Mapping[str, Callable[[RunState, float, str, str | None, Any], None]] = {
    "say": _change_say,
    "max_tokens": _change_tokens,
    "model": _change_model,
    "wait": _change_wait,
    "park": _change_park,
    "discard": _change_discard,
    "compact": _change_compact,
    "value": _change_value,
}


def _say(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    ledger = run.ledger(record.data["history"])
    for message in record.data["messages"]:
        ledger = ledger.append_message(message)
    run.with_ledger(record.data["history"], ledger)
    if record.data["words"]:
        run.waiting, run.is_unsaid = (), False


def _tool_begin(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    made = dict(run.open)
    for call_id in record.data["ids"]:
        call = made[call_id]
        made[call_id] = OpenCallState(call.call, begun=True, unknown=call.unknown, decision=call.decision)
    run.open = made


def _tool_end(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    made = dict(run.open)
    slowest = 0.0
    for call_id, content, is_error, seconds in record.data["ends"]:
        call, end = made[call_id], ToolEnd(call_id, content, is_error=is_error, seconds=seconds)
        made[call_id] = OpenCallState(call.call, call.begun, call.unknown, call.decision, end)
        slowest = max(slowest, seconds)
    run.open = made
    run.elapsed += slowest


def _asked(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    run.asked = record.data


def _answer(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    data = record.data
    run.parked = None
    if "said" in data:
        run.said = data["said"]
        content = [{"type": "text", "text": run.said}] if isinstance(run.said, str) else run.said
        run.waiting = (*run.waiting, {"role": "user", "content": content})
        run.detector = run.detector.window_reset()
        return
    made = dict(run.open)
    for call_id, (verb, given, reason) in data["decisions"].items():
        made[call_id] = evolve(made[call_id], decision=Decision(verb, given, reason))
    run.open = made


def _code_begin(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    run.code = record.data


def _code_end(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    data = record.data
    run.code = None
    run.elapsed += data["seconds"]
    if data["error"] is None:
        run.values = {**run.values, run.state: data["value"]}


def _wake(run: RunState, record: Record, graph: Graph) -> None:
    del record, graph
    run.wait_until = None


def _park(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    run.parked = data = record.data
    untouched = data.get("untouched", ())
    if run.code is not None and untouched:
        run.code = None
    elif untouched:
        run.open = {i: evolve(c, begun=False) if i in untouched else c for i, c in run.open.items()}


def _resume(run: RunState, record: Record, graph: Graph) -> None:
    del record, graph
    run.parked = None


def _close(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    run.closed = record.data


def _without(mapping: Mapping[Any, Any], key: Any) -> Mapping[Any, Any]:
    return {k: v for k, v in mapping.items() if k != key} if key in mapping else mapping


_APPLY: Mapping[str, Callable[[RunState, Record, Graph], None]] = {
    "open": _open, "request": _request, "reply": _reply, "error": _error, "move": _move, "say": _say,
    "tool.begin": _tool_begin, "tool.end": _tool_end, "asked": _asked, "answer": _answer, "code.begin": _code_begin,
    "code.end": _code_end, "wake": _wake, "park": _park, "resume": _resume, "close": _close,
}  # fmt: skip


def cap_of(model: str) -> int | None:
    """The most tokens one reply of this model may have (None: unknown)."""
    return model_facts(model).max_output
