"""Evidence: why something was stopped, as plain JSON for the record and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from fsm._alphabet import ALPHABET, ERROR_CODES, Group, advice_for
from fsm._errors import IllegalRequest
from fsm._events import Replied
from fsm._facts import Facts
from fsm._ledger import Ledger, Standing
from fsm._reading import Reading

from ._run_state import RunState


def evidence_of(error: IllegalRequest) -> dict[str, Any]:
    """A request that was not sent, with rule, path and repair of each violation."""
    found = [{"rule": v.rule, "path": v.path, "message": v.message, "repair": v.repair} for v in error.violations]
    return {"detail": "; ".join(v["message"] for v in found), "not_sent": True, "violations": found}


# Where what the alphabet advises cannot help any more, or was done already: event, when, and what helps instead.
_CASES: tuple[tuple[str, Callable[[Mapping[str, Any]], bool], str], ...] = (
    (
        "max_tokens",
        lambda found: (found.get("max_tokens") or 0) >= (found.get("max_tokens_cap") or inf),
        "The model gives no more at once: ask for less, or in parts, or take a model with a larger limit.",
    ),
    ("max_tokens", lambda found: not found.get("calls"), "Raise max_tokens, or ask for less at once."),
    (
        "empty_turn",
        lambda found: found.get("times", 1) > 1,
        "It was asked to continue already: change what is asked, or take the silence for its answer.",
    ),
    (
        "pause_turn",
        lambda found: found.get("times", 1) > 1,
        "It was sent back that often already: give a smaller task, or allow more rounds with attempts_left(n).",
    ),
    (
        "compaction",
        lambda found: found.get("times", 1) > 1,
        "It was sent again already: begin a new conversation, or take a model with a larger context window.",
    ),
    (
        "rate_limit_error",
        lambda found: found.get("retry_after") is None,
        "Send the same request again after a pause; retry-after did not say how long.",
    ),
    (
        "refusal",
        lambda found: len(found.get("refused_by", ())) > 1,
        "Change the request: other models were asked already, and refused it too.",
    ),
)


def told(run: RunState, *, ended_well: bool = False) -> dict[str, Any]:
    """The evidence of the newest move, after why its event happens and what to do about it (E28).

    Where the run ended well nobody has to do anything about what a person said or a tool gave.
    """
    spec, found = ALPHABET.get(run.last_event), run.evidence
    if spec is None or (ended_well and spec.group in {Group.PERSON, Group.TOOLS}):
        return dict(found)
    why = "The reply was cut at max_tokens." if spec.name == "max_tokens" and not found.get("calls") else spec.why
    cases = () if found.get("code") in ERROR_CODES else _CASES
    todo = next((todo for event, is_so, todo in cases if event == spec.name and is_so(found)), None)
    return {"why": why, "todo": todo or advice_for(spec.name, found.get("code")), **found}


def unlawful(run: RunState, ledger: Ledger, digest: str, *, compact: bool) -> dict[str, Any] | None:
    """A request that asks nothing new, because what was to be said could not be said; None where it asks something.

    A server tool of the newest turn has no result, and nothing may be said before it has one (R16). What is left would
    be a request that ends in a finished reply (R25), or the one that was answered already (S3.4).
    """
    if compact:
        return None
    if run.last_event == "compaction" and ledger.standing is Standing.SPOKEN:
        detail = (
            "after the compaction there is nothing to answer, and a request does not end in a finished reply (R25): "
            "say something, or lead compaction to where somebody speaks"
        )
        return {"detail": detail, "not_sent": True, "violations": []}
    is_finished = ledger.standing is Standing.SPOKEN and not ledger.may_speak
    is_same = run.is_unsaid and digest == run.answered
    if not (is_finished or is_same):
        return None
    open_tools = ", ".join(ledger.legality.open_server_tools)
    waits = f"the server tool {open_tools} has no result (R16)" if open_tools else "the turn is paused (S7.2)"
    left = (
        "the request would end in a finished reply (R25)" if is_finished else "the same request would go again (S3.4)"
    )
    return {
        "detail": f"nothing can be said while {waits}, and without it {left}",
        "not_sent": True,
        "violations": [],
    }


def unsent_again(run: RunState, found: Mapping[str, Any]) -> dict[str, Any] | None:
    """D16: the state could not send its request for this very reason before, and no reply came since.

    A person may have answered in between: what they said waits, or does not mend it.
    """
    if run.unsent != unsent_for(run.state, found):
        return None
    rules = {"rules": broken} if (broken := [each["rule"] for each in found["violations"]]) else {}
    detail = f"twice in a row, with no reply in between, no request could be sent: {found['detail']}"
    todo = "after= starts a new run from the histories, without what cannot be sent"
    return {"kind": "not_sent", "rule": "D16", "fault": "harness", "detail": detail, **rules, "todo": todo}


def unsent_for(state: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a request was not sent and why: by the rules, since their texts name places that move."""
    rules = sorted({violation["rule"] for violation in found["violations"]})
    return (state, *(rules or (found["detail"],)))


MAX_RECOVERIES = 100
"""D12: after so many crashes with no new reply in between, a run is stuck."""


def recovered_too_often(run: RunState) -> dict[str, Any] | None:
    """D12: whatever it does next ends the process again and again; None where that is not so."""
    if run.recoveries < MAX_RECOVERIES or "stuck" in run.free:
        return None
    detail = f"the process died {run.recoveries} times with no new reply in between"
    todo = "find what ends the process, a tool most likely, and mend it; after= starts a new run from the histories"
    return {
        "kind": "recovery",
        "rule": "D12",
        "fault": "harness",
        "times": run.recoveries,
        "detail": detail,
        "todo": todo,
    }


def limit_reached(run: RunState) -> dict[str, Any] | None:
    """The first limit that the run has reached, or None (D14)."""
    if not run.limits:
        return None
    used = {
        "turns": run.turns,
        "tool_calls": run.tool_calls,
        "tokens": run.usage.total,
        "money": run.price,
        "seconds": run.elapsed,
    }
    for name, limit in run.limits.items():
        spent = used[name]
        if spent is None:
            detail = "what a reply cost is not known, so the limit of money cannot be kept: limit tokens instead"
            return {"limit": name, "used": None, "allowed": limit, "detail": detail}
        if spent >= limit:
            detail = f"the limit of {name} is reached: {spent:g} of {limit:g} used"
            return {"limit": name, "used": spent, "allowed": limit, "detail": detail}
    return None


def reply_evidence(facts: Facts, reading: Reading, event: Replied, problem: str | None) -> dict[str, Any]:
    """What a verdict should show of a reply that was no ordinary turn; `facts` are those of its event."""
    group = ALPHABET[facts.event].group
    found: dict[str, Any] = {"detail": problem} if problem else {}
    details = reading.reply.stop_details
    if reading.reply.stop_reason == "refusal":  # S8.1
        found |= {key: (details or {}).get(key) for key in ("category", "explanation")}
        recommended = (details or {}).get("recommended_model")
        found |= {"model": reading.reply.model, "request_id": event.request_id}
        found |= {"recommended_model": recommended} if recommended else {}
        found |= {"refused_by": list(facts.refusals)} if len(facts.refusals) > 1 else {}
    if facts.event == "unknown_stop":
        found["stop_reason"] = event.message.get("stop_reason")
    if group is Group.CUT:
        found |= cut_evidence(facts, reading)
    if group is Group.PAUSE:  # D8
        times = facts.attempts + 1
        found |= {
            "kind": "pause",
            "rule": "S7.3",
            "times": times,
            "detail": f"the turn was paused {times} times in a row",
        }
    if group is Group.EMPTY:
        found["times"] = facts.attempts + 1
    if group is Group.COMPACTION:
        found |= {"kind": "compaction", "rule": "S10.5", "times": facts.attempts + 1}
    return found


def cut_evidence(facts: Facts, reading: Reading) -> dict[str, Any]:
    """S5, S9: where the reply was cut, and how much room there was; its text is the result's."""
    named = ", ".join(call.name for call in reading.reply.calls)
    what = f"inside a call of {named}" if named else "in its text" if reading.reply.text else "before any text"
    found: dict[str, Any] = {"detail": f"the reply was cut {what}"}
    found |= {"calls": [call.name for call in reading.reply.calls]} if named else {}
    if facts.event == "max_tokens":
        found |= {"max_tokens": facts.max_tokens, "max_tokens_cap": facts.max_tokens_cap}
    return found


def repeats_refused(run: RunState, digest: str) -> dict[str, Any] | None:
    """D11: the very request that was refused, also where other models were asked in between (S8.3)."""
    if not run.refusals or not any(digest in digests for digests in run.refusals.values()):
        return None
    detail = "a request that was refused would be sent again unchanged"
    return {"kind": "unchanged_request", "rule": "D11", "fault": "harness", "detail": detail}
