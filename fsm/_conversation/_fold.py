"""Folding: what a run's records add up to.

`RunState` is everything that is known of a run; `apply` adds one record to it. Nothing else changes a run, live or
replayed, and nothing here calls a guard, an effect, a prompt or a `Code` function: a record carries what they decided
(rule 8). `RunState` is copied before an event is decided and swapped in afterwards, so its values are never changed
in place: dicts and tuples are replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve

from fsm._alphabet import ALPHABET, Group
from fsm._events import Decision, ToolEnd
from fsm._facts import SUCCESS, Failure, Result
from fsm._graph import Graph
from fsm._ledger import Ledger, begins_anew, history_of
from fsm._models import model_facts
from fsm._records import Record
from fsm._states import Claude
from fsm._stuck import Detector

from ._evidence import unsent_for
from ._replies import keep, take
from ._run_state import OpenCallState, RunState, without

UNKNOWN_OUTCOME = (
    "The outcome of this call is unknown: the process stopped while it ran. It may or may not have taken effect; "
    "check before you call it again."
)
NOT_EXECUTED = "Not executed: an earlier action in this turn failed."
_TOO_LONG = frozenset({"model_context_window_exceeded", "invalid_request_error", "request_too_large"})
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
    run.state = data.get("state", run.state)  # where this version of the workflow begins is another question
    run.fingerprint, run.begun, run.trace = data.get("fingerprint", ""), data["heads"], data.get("trace", "")
    run.waiting = tuple(data["messages"])
    run.given = _words(run.waiting)
    for history, encoded in data["carried"].items():
        ledger = Ledger()
        for raw in encoded:
            ledger = ledger.append_encoded(raw.encode())
        run.with_ledger(history, ledger)
    first = graph.by_name[run.state].state
    if isinstance(first, Claude):
        _enter_ledger(run, first, None)


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
    run.requests, run.last_history, run.unsent = data["n"], history, ()
    run.request, run.void = data, run.void or bool(data.get("resent"))
    run.detector, _ = run.detector.requested(bytes.fromhex(data["hash"]))
    run.wait_until = None


def _error(run: RunState, record: Record, graph: Graph) -> None:
    data = record.data
    if data.get("no_summary") and run.request is not None:
        _without_summary(run, run.request["history"])
    if data.get("cap") is not None:
        _shrunk_to(run, data["cap"], graph)
    # G20, E23: it broke off in mid-stream, so a part of it may have been shown.
    run.void = run.void or data["event"] == "cut_stream" or data["status"] == 200  # noqa: PLR2004
    run.request, run.answered = None, ""
    run.elapsed += data["seconds"]
    if data.get("request_id"):
        run.request_ids = (data["request_id"], run.request_ids)
    run.failure = Failure(
        data["event"],
        data["message"],
        data["status"],
        data["code"],
        data["retry_after"],
        data["draw"],
        data.get("should_retry"),
    )


def _without_summary(run: RunState, history: str) -> None:
    """E28: the history cannot be summarised, and stays as it is; that counts as a compaction that did not help."""
    run.compacting = without(run.compacting, history)
    times = run.compactions.useless.get(history, 0) + 1
    run.compactions = evolve(run.compactions, useless={**run.compactions.useless, history: times})


def _shrunk_to(run: RunState, cap: int, graph: Graph) -> None:
    """S5.7: the cap of the model is known now, and the cut reply is what there is, as if it had just come."""
    state = graph.by_name[run.state].state
    if isinstance(state, Claude):
        run.caps = {**run.caps, run.models.get(run.state, state.model): cap}
    run.tokens = without(run.tokens, run.state)
    if run.dropped is None or run.dropped.grown is None:
        return
    if run.dropped.grown[1] is not None:
        run.tokens = {**run.tokens, run.state: run.dropped.grown[1]}
    run.pending, run.dropped = run.dropped.reply, None


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
    if run.evidence.get("not_sent"):
        run.unsent = unsent_for(source, run.evidence)
    said = bool(changes) and any("say" in change for change in changes)
    before = graph.by_name[source]
    is_claude, worked_for = before.kind == "Claude", history_of(before.kind, before.history, run.home)
    _count(run, source, event, is_claude=is_claude)
    if is_claude:
        keep(run, event, node, said=said, discarded=bool(changes) and any("discard" in c for c in changes))
    elif closes(event, before.kind) and run.open:
        _close_calls(run, event)
    elif event == "outcome_unknown":
        _unknown(run, node.kind, frozenset(data["evidence"]["ids"]))
    run.asked = run.code = run.request = run.wait_until = None  # a `cancel` can come while one of them is on
    run.state = dest
    if isinstance(node.state, Claude):
        _enter_ledger(run, node.state, worked_for)
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
        run.tokens = without(run.tokens, source)
    else:
        others = run.attempts if is_claude else {k: n for k, n in run.attempts.items() if k[0] != source}
        run.attempts = {**others, key: run.attempts.get(key, 0) + 1}
    if not is_claude:
        return
    if event in {"stuck", "over_limit"}:
        run.free = run.free | {event}
        run.detector, run.finding = run.detector.window_reset(), None
        run.compactions = evolve(run.compactions, useless={})
        run.recoveries = 0 if event == "stuck" else run.recoveries


def _close_calls(run: RunState, event: str) -> None:
    """Every open call is answered in one user message, in the order of the calls (R10, R17)."""
    run.results = results_of(run, event)
    blocks = [result_block(result) for result in run.results]
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
        call = open_call.call
        results.append(Result(end.call_id, call.name, end.content, end.is_error, call.toolset))
    return tuple(results)


def result_block(result: Result) -> dict[str, Any]:
    """A result as it is sent. S6.9: that of a toolset's member echoes the name of the toolset."""
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": result.id, "content": result.content}
    if result.toolset is not None:
        block["toolset_name"] = result.toolset
    if result.is_error:
        block["is_error"] = True
    return block


def closes(event: str, kind: str) -> bool:
    """Whether this event in a state of this kind answers the open calls."""
    return event in _CLOSING and kind in _CALL_KINDS


def reason_of(event: str, open_call: OpenCallState) -> str:
    """What the model reads about a call that was not run, or of which nobody knows (B3)."""
    decision = open_call.decision
    if open_call.unknown and decision is not None and decision.verb == "deny":
        return unknown_denied(decision.reason)
    if open_call.begun or open_call.unknown:
        return UNKNOWN_OUTCOME
    if event == "expired":
        return "Not run: nobody decided on this call in time."
    if decision is not None and decision.verb == "deny":
        return f"Denied by a person: {decision.reason}" if decision.reason else "Denied by a person."
    return "Not run: the person denied the calls of this turn."


def unknown_denied(reason: str | None) -> str:
    """What the model reads of a call of unknown outcome that a person does not let run again (B3)."""
    said = f" A person looked into it: {reason}" if reason else ""
    return f"Not run again: the process stopped while this call ran, so its outcome is unknown.{said}"


def next_calls(run: RunState) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The calls to begin now, and those that will not be run.

    All at once, but the members of one toolset one after another, and none after the first that failed (S6.9).
    """
    busy: set[str] = set()
    failed: set[str] = set()
    fresh, halted = [], []
    for call_id, call in run.open.items():
        toolset = call.call.toolset
        if call.end is not None:
            if toolset is not None and call.end.is_error:
                failed.add(toolset)
        elif toolset in failed:
            halted.append(call_id)
        else:
            if not call.begun and toolset not in busy:
                fresh.append(call_id)
            if toolset is not None:
                busy.add(toolset)
    return tuple(fresh), tuple(halted)


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


def _enter_ledger(run: RunState, state: Claude, worked_for: str | None) -> None:
    """`fresh` and `continues` begin a new ledger, except after a retry, a continuation or tool results."""
    history = state.history or "main"
    ledger = run.ledger(history)
    if not (state.fresh or state.continues) or not begins_anew(ledger.standing, history, worked_for):
        return
    run.containers = without(run.containers, history)
    if state.continues is not None:
        copied = run.ledger(state.continues).for_another()
        container = run.containers.get(state.continues)
        if container is not None and copied.legality.is_coded:  # R18: it waits for the results that were copied
            run.containers = {**run.containers, history: container}
        run.with_ledger(history, evolve(copied, generation=ledger.generation + 1))
    else:
        run.with_ledger(history, Ledger(generation=ledger.generation + 1))


def _change_say(run: RunState, at: float, dest: str, history: str | None, blocks: Any) -> None:
    del at, dest
    if history is None:
        return
    ledger = run.ledger(history)
    if not ledger.may_speak:  # S7.2, R16: the turn goes on first, so the words wait
        waiting = (*run.unsaid.get(history, ()), {"role": "user", "content": blocks})
        run.unsaid, run.is_unsaid = {**run.unsaid, history: waiting}, True
    else:
        run.with_ledger(history, ledger.say(blocks))


def _change_tokens(run: RunState, at: float, dest: str, history: str | None, value: Any) -> None:
    del at, history
    if run.last_event == "max_tokens" and run.dropped is not None:
        run.dropped = evolve(run.dropped, grown=(dest, run.tokens.get(dest)))
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
    # E11: when a spend cap is lifted nobody knows, so no time is named.
    is_known = asked is not None or run.failure is None or not run.failure.is_spend_cap
    run.parked = {"reason": value, "until": at + (asked or 60.0)} if is_known else {"reason": value}
    run.attempts = without(run.attempts, (dest, "retry"))
    run.waited = without(run.waited, dest)


def _change_discard(run: RunState, at: float, dest: str, history: str | None, value: Any) -> None:
    del run, at, dest, history, value  # read by _keep_reply


def _change_compact(run: RunState, at: float, dest: str, history: str | None, value: Any) -> None:
    del at, dest, value
    # S9.2, S9.3: a conversation that is too long has to be made smaller before it can go on.
    run.compacting = {**run.compacting, history or "main": run.last_event in _TOO_LONG}


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
    if record.data["words"]:  # something new is asked: the question that was refused goes with its answer
        ledger = ledger.without_refused_turn()
    for message in record.data["messages"]:
        ledger = ledger.append_message(message)
    run.with_ledger(record.data["history"], ledger)
    if record.data["words"]:
        run.waiting, run.is_unsaid = (), False
    elif record.data.get("unsaid"):
        run.unsaid, run.is_unsaid = without(run.unsaid, record.data["history"]), False


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
    run.asked = {**record.data, "number": record.seq}


def _answer(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    data = record.data
    run.parked, run.trace = None, data.get("trace", run.trace)
    if "said" in data:
        run.said = data["said"]
        content = [{"type": "text", "text": run.said}] if isinstance(run.said, str) else run.said
        run.waiting = (*run.waiting, {"role": "user", "content": content})
        run.detector = run.detector.window_reset()
        run.compactions = evolve(run.compactions, useless={})
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
    del graph
    run.recoveries += run.parked is None
    run.parked, run.trace = None, record.data.get("trace", run.trace)


def _migrate(run: RunState, record: Record, graph: Graph) -> None:
    del graph  # names of states are translated before they are folded
    run.fingerprint, run.begun = record.data["to"], {**run.begun, **record.data["heads"]}


def _close(run: RunState, record: Record, graph: Graph) -> None:
    del graph
    run.closed = record.data
    run.detector = Detector.start()  # a run that ended is often kept, and has no loop any more


_APPLY: Mapping[str, Callable[[RunState, Record, Graph], None]] = {
    "open": _open, "request": _request, "reply": take, "error": _error, "move": _move, "say": _say,
    "tool.begin": _tool_begin, "tool.end": _tool_end, "asked": _asked, "answer": _answer, "code.begin": _code_begin,
    "code.end": _code_end, "wake": _wake, "park": _park, "resume": _resume, "migrate": _migrate, "close": _close,
}  # fmt: skip


def cap_of(model: str) -> int | None:
    """The most tokens one reply of this model may have (None: unknown)."""
    return model_facts(model).max_output
