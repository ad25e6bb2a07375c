"""What is recorded: the entries of a journal, and the values that are read out of them.

A record is `Record(seq, kind, at, data)`; `data` is plain JSON. It carries decisions (the row that was taken, the
results of its effects), never the functions that decided, so folding a journal runs no user code.

    kind        data
    open        workflow, state, run_id, messages, tags, systems, heads, carried, limits, fingerprint?,
                trace?, forked?: {run_id, at, fingerprint} (a copy of the records of that run below that number)
    request     n, state, history, hash, attempt, resent?, compact? (so many messages are to be summarised),
                container? (that of the history is named)
    reply       event, message (without content), content (raw JSON text), request_id, seconds, price, output?
    error       event, message, status, type, code, retry_after, request_id, draw, seconds, should_retry?,
                no_summary? (E28), cap? (max_tokens of the model, S5.7)
    move        source, event, dest, index, guard, effects: [[name, {change: value}], ...], implied,
                evidence?, request_id?
    say         history, messages, words, unsaid?   said on entry: a prompt, or (words) the input and what a person said
                forked?: true where it was said by whoever forked the run
    tool.begin  ids
    tool.end    ends: [[id, content, is_error, seconds], ...]
    asked       state, calls? (ids that a person decides on; none where words are asked for), expires_at?
    answer      said | decisions: {id: [verb, input, reason]}; trace?: the span of the drive (also of open, resume)
    code.begin  state
    code.end    outcome, value, error, seconds
    wake        -
    park        reason, untouched?: what had begun in the records only (ids of calls, or the Code state)
    resume      trace?
    migrate     from, to (fingerprints), renamed: {state before: state now}, heads (of states that are new)
    close       state, ok (as its `Final` says), reason, evidence
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from attrs import field, frozen

from ._facts import SUCCESS, Usage


@frozen
class Record:
    """One entry of a journal. `seq` counts from 0 without gaps; `at` is seconds since the epoch."""

    seq: int
    kind: str
    at: float
    data: Mapping[str, Any]
    parsed: Any = field(default=None, eq=False, repr=False)  # what `data` decodes to, kept to decode once


@frozen
class Move:
    """An arrow that was taken.

    `seq` counts moves from 1, `at` is seconds since the epoch; `guard` is the name of the guard that let it pass.
    """

    seq: int
    at: float
    source: str
    event: str
    dest: str
    guard: str | None = None
    effects: tuple[str, ...] = ()
    index: int = 0
    implied: bool = False
    request_id: str | None = None

    def __str__(self) -> str:
        guard = f" [{self.guard}]" if self.guard else ""
        effects = f" / {', '.join(self.effects)}" if self.effects else ""
        return f"{self.source} --{self.event}{guard}{effects}--> {self.dest}"


def move_of(record: Record, seq: int) -> Move:
    """The move that a record holds; `seq` is its number, from 1."""
    data = record.data
    return Move(
        seq,
        record.at,
        data["source"],
        data["event"],
        data["dest"],
        data["guard"],
        tuple(name for name, _ in data.get("effects") or ()),  # an outline has none
        data["index"],
        data["implied"],
        data.get("request_id"),
    )


def parting(a: Sequence[Move], b: Sequence[Move]) -> int | None:
    """The index of the first move in which two paths differ, None where they do not."""
    pairs = enumerate(zip_longest(a, b))
    return next((n for n, (one, other) in pairs if one is None or other is None or str(one) != str(other)), None)


@frozen
class Verdict:
    """Why a run ended or stands still.

    `state` is the final state, or the state it is parked in; `reason` is an event of the alphabet or `waiting_person`,
    `waiting_api`, `interrupted`. `price` is in US dollars, None where a price is unknown (never 0). `duration` is
    recorded work in seconds. `resumable` says that `resume` goes on from here.
    """

    state: str
    reason: str
    evidence: Mapping[str, Any] = field(factory=dict)
    usage: Usage = field(factory=Usage)
    price: float | None = None
    duration: float = 0.0
    pending_tool_ids: tuple[str, ...] = ()
    resumable: bool = False
    request_ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        price = "price unknown" if self.price is None else f"${self.price:.4f}"
        why = self.evidence.get("why")
        cause = self.evidence.get("detail") or self.evidence.get("message") or self.evidence.get("explanation")
        todo = None if self.reason in SUCCESS else self.evidence.get("todo")
        named = [(name, self.evidence.get(key)) for name, key in (("category", "category"), ("request", "request_id"))]
        read = self.usage.cache_read_input_tokens
        cached = f" ({read} cached)" if read else ""
        given = self.usage.total - self.usage.output_tokens
        lines = [
            f"{self.state}: {self.reason}" + (f" - {why}" if why else ""),
            *([f"because: {cause}"] if cause else []),
            *([", ".join(f"{name}: {value}" for name, value in named if value)] if any(v for _, v in named) else []),
            *([f"what to do: {todo}"] if todo else []),
            f"{given} tokens in{cached}, {self.usage.output_tokens} out, {price}, {self.duration:.1f} s",
        ]
        if self.pending_tool_ids:
            lines.append(f"unanswered calls: {', '.join(self.pending_tool_ids)}")
        if self.evidence.get("not_resumable"):
            lines.append(f"not resumable: {self.evidence['not_resumable']}")
        if self.resumable:
            when = moment(self.evidence.get("retry_at"))
            best = f", best after {when}" if when else ""
            lines.append(f"resumable: resume(workflow, result.run_id, journal=result.journal) goes on from here{best}")
        return "\n".join(lines)


def is_over(until: float | None, at: float) -> bool:
    """Whether a time to do something in has run out: at its last instant it has, for whoever looks."""
    return until is not None and at >= until


def moment(at: Any) -> str:
    """Seconds since the epoch as a date and a time in UTC; empty where that is none, or one that no calendar has."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
