"""What a golden journal folds to: the final state, and the bytes that would be sent next."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsm import MemoryStore, Record, Workflow
from fsm._actions import SendRequest
from fsm._conversation import Conversation
from fsm._versions import fold_run, heads_of

HERE = Path(__file__).resolve().parent


def records_in(file: Path) -> list[Record]:
    """The records of a journal, one a line."""
    return [Record(**json.loads(line)) for line in file.read_text("utf-8").splitlines()]


def standing(workflow: type[Workflow], records: Sequence[Record]) -> dict[str, Any]:
    """Fold the records with this version of the library: where the run stands, and hashes of what it would send."""
    store = MemoryStore()
    store.append("run", records)
    conversation = Conversation(workflow.plan, heads_of(workflow))
    strands = fold_run(workflow, conversation, store, "run")
    verdict, run = conversation.verdict(), conversation.run
    sends = [action for action in conversation.pending() if isinstance(action, SendRequest)]
    return {
        "state": verdict.state,
        "reason": verdict.reason,
        "strands": [str(strand) for strand in strands],
        "tokens": verdict.usage.total,
        "price": verdict.price,
        "duration": verdict.duration,
        "pending_tool_ids": list(verdict.pending_tool_ids),
        "moves": run.moves,
        "values": run.values,
        "next": [hashlib.sha256(action.body()).hexdigest() for action in sends],
        "histories": {
            name: hashlib.sha256(ledger.seal().sealed.between(b"[", b"]")).hexdigest()
            for name, ledger in sorted(run.ledgers.items())
        },
    }


def digest(file: Path) -> str:
    """The hash of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
