"""Evidence: why something was stopped, as plain JSON for the record and the verdict."""

from __future__ import annotations

from typing import Any

from ._errors import IllegalRequest
from ._fold import RunState


def evidence_of(error: IllegalRequest) -> dict[str, Any]:
    """A request that was not sent, with rule, path and repair of each violation."""
    found = [{"rule": v.rule, "path": v.path, "message": v.message, "repair": v.repair} for v in error.violations]
    return {"detail": "; ".join(v["message"] for v in found), "not_sent": True, "violations": found}


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
