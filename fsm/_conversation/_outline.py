"""What is known of a run without what was said in it: enough to end it."""

from __future__ import annotations

from collections.abc import Iterable

from fsm._records import Record

from ._run_state import RunState


def outlined(records: Iterable[Record], state: str, parked: str | None) -> RunState:
    """Where a run stands, by records without their bodies.

    Params:
        state: the one that it is in, as this version of the workflow calls it.
        parked: why it stands still, None where it does not: an arrow may have parked it, which only its body says.
    """
    run = RunState(state)
    for record in records:
        run.seq, run.at, data = record.seq + 1, record.at, record.data
        run.elapsed += float(data.get("seconds") or 0.0)
        if record.kind == "open":
            run.run_id, run.tags, run.fingerprint = data["run_id"], data["tags"], data.get("fingerprint", "")
        elif record.kind == "migrate":
            run.fingerprint = data["to"]
        elif record.kind == "request":
            run.requests = data["n"]
        elif record.kind == "reply":
            price = data.get("price")
            run.price = None if price is None or run.price is None else run.price + price
            usage = data["message"].get("usage")
            run.usage = run.usage.plus(usage) if isinstance(usage, dict) else run.usage
            run.turns += 1
        elif record.kind == "move":
            run.moves += 1
        elif record.kind == "close":
            run.closed = data
        if data.get("request_id"):
            run.request_ids = (data["request_id"], run.request_ids)
    run.parked = None if parked is None else {"reason": parked}
    return run
