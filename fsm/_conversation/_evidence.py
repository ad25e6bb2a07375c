"""Evidence: why something was stopped, as plain JSON for the record and the verdict."""

from __future__ import annotations

from typing import Any

from fsm._alphabet import ALPHABET, Group, advice_for
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


def told(run: RunState) -> dict[str, Any]:
    """The evidence of the newest move, after why its event happens and what to do about it (E28)."""
    spec = ALPHABET.get(run.last_event)
    if spec is None:
        return dict(run.evidence)
    return {"why": spec.why, "todo": advice_for(spec.name, run.evidence.get("code")), **run.evidence}


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
            return {"limit": name, "used": spent, "allowed": limit}
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
    if group is Group.COMPACTION:
        found |= {"kind": "compaction", "rule": "S10.5", "times": facts.attempts + 1}
    return found


def cut_evidence(facts: Facts, reading: Reading) -> dict[str, Any]:
    """S5, S9: where the reply was cut, and how much room there was; its text is the result's."""
    named = ", ".join(call.name for call in reading.reply.calls)
    what = f"inside a call of {named}" if named else "in its text" if reading.reply.text else "before any text"
    found: dict[str, Any] = {"detail": f"the reply was cut {what}"}
    if facts.event == "max_tokens":
        found |= {"max_tokens": facts.max_tokens, "max_tokens_cap": facts.max_tokens_cap}
    return found


def repeats_refused(run: RunState, digest: str) -> dict[str, Any] | None:
    """D11: the very request that was refused, also where other models were asked in between (S8.3)."""
    if not any(digest in digests for digests in run.refusals.values()):
        return None
    detail = "a request that was refused would be sent again unchanged"
    return {"kind": "unchanged_request", "rule": "D11", "fault": "harness", "detail": detail}
