"""Evidence: why something was stopped, as plain JSON for the record and the verdict."""

from __future__ import annotations

from typing import Any

from fsm._errors import IllegalRequest
from fsm._ledger import Ledger, Standing

from ._run_state import RunState


def evidence_of(error: IllegalRequest) -> dict[str, Any]:
    """A request that was not sent, with rule, path and repair of each violation."""
    found = [{"rule": v.rule, "path": v.path, "message": v.message, "repair": v.repair} for v in error.violations]
    return {"detail": "; ".join(v["message"] for v in found), "not_sent": True, "violations": found}


def unlawful(run: RunState, ledger: Ledger, digest: str, *, compact: bool) -> dict[str, Any] | None:
    """A request that asks nothing new, because what was to be said could not be said; None where it asks something.

    A server tool of the newest turn has no result, and nothing may be said before it has one (R16). What is left would
    be a request that ends in a finished reply (R25), or the one that was answered already (S3.4).
    """
    if compact:
        return None
    is_finished = ledger.standing is Standing.SPOKEN and not ledger.may_speak
    is_same = run.is_unsaid and digest == run.answered
    if not (is_finished or is_same):
        return None
    open_tools = ", ".join(ledger.legality.open_server_tools)
    left = (
        "the request would end in a finished reply (R25)" if is_finished else "the same request would go again (S3.4)"
    )
    return {
        "detail": f"nothing can be said while the server tool {open_tools} has no result (R16), and without it {left}",
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
        if spent is not None and spent >= limit:
            return {"limit": name, "used": spent, "allowed": limit}
    return None
