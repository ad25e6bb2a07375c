"""`verify`: decide a run again, and say what differs from its records.

Records decide, folding applies (rule 8); so nobody notices when a guard decides otherwise than it did. Here the facts
that were recorded (replies, errors, what tools and functions gave, answers, the clock) are fed once more, event by
event, into a conversation of this version, and what it decides is compared with what was recorded: moves, guards,
effects, prompts, requests by their hash. After a difference the record counts, so that one fault is told once.

Tools and `Code` functions are not run: what came of them is a fact. Whether the stored bytes are what was written is
another question, which the store answers (`verify` of a store).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from attrs import evolve

from ._conversation import Conversation
from ._encoded import plain
from ._errors import FsmError
from ._events import (
    Answered,
    Cancelled,
    CodeEnded,
    Decision,
    Event,
    Failed,
    Migrated,
    Parked,
    Replied,
    Resumed,
    Started,
    TimePassed,
    ToolEnd,
    ToolsEnded,
)
from ._opening import store_of
from ._records import Record
from ._steps import is_whole
from ._strands import fold_checked
from ._versions import fingerprint, heads_of, records_of
from ._workflow import Workflow
from .journal import Store

_FOLLOWS = frozenset({"request", "say", "tool.begin", "code.begin", "asked", "close"})  # no event begins with these
_SHOWN = 120


def verify(workflow: type[Workflow], run_id: str, *, journal: Store | str | os.PathLike[str]) -> tuple[str, ...]:
    """Decide a run again from its recorded facts, without any I/O, and report what differs.

    Args:
        workflow: the class that decides. What a run did under versions before this one is not judged by it; a run that
            was never under it is, to see what it would do.
        run_id: names the run in the journal.
        journal: the store that holds it, its file or its URL.

    Returns:
        A line for each difference: the record's number, what was recorded, what would be decided now. Empty where
        nothing differs. A guard, effect or prompt that is not pure, code that changed and a record that was changed
        show here.

    Raises:
        RunError: no such run.
        JournalError: the journal cannot be read.
    """
    records = list(records_of(workflow, store_of(journal), run_id))
    return tuple(_Verifier(workflow, records).differences())


class _Verifier:
    def __init__(self, workflow: type[Workflow], records: Sequence[Record]) -> None:
        self.workflow, self.records = workflow, records
        self.conversation = Conversation(workflow.plan, heads_of(workflow))
        forked = records[0].data.get("forked")
        given = forked if isinstance(forked, Mapping) else {}
        self.cut: int | None = given.get("at")  # a fork may begin in the middle of what an event led to
        self.starts = _starts(workflow, records, given)

    def differences(self) -> Iterator[str]:
        """Go through the records event by event."""
        done = 0
        while done < len(self.records):
            record = self.records[done]
            count, found = (1, []) if self.starts > done else self._decided(done)
            yield from found
            if self.conversation.run.seq <= record.seq:  # where nothing differs, it stands behind the event already
                problem = _folded(self.workflow, self.conversation, self.records[done : done + count])
                if problem:
                    yield f"record {record.seq}: from here on it cannot be folded: {problem}"
                    return
            done += count

    def _decided(self, done: int) -> tuple[int, list[str]]:
        """How many records the event accounts for that one begins, and what differs."""
        record = self.records[done]
        try:
            event = _event(self.records, done)
            if event is None:  # said by whoever forked the run, or left over after a difference
                return 1, [] if record.data.get("forked") else [
                    f"record {record.seq}: {_shown(record)} came of nothing"
                ]
            if isinstance(event, Started):  # what requests begin with was decided, too (R35)
                event = evolve(event, heads=self.conversation.heads.digests(event.systems))
            return self._compared(event, done)
        except Exception as error:  # noqa: BLE001 - a record that was changed may be of any form
            why = str(error) if isinstance(error, FsmError) else f"it is not of its form ({type(error).__name__})"
            return self._extent(done), [f"record {record.seq}: {_shown(record)} was recorded, now: {why}"]

    def _compared(self, event: Event, done: int) -> tuple[int, list[str]]:
        """Feed the event; where nothing differs, stand behind it."""
        probe = self._probe()
        made, _ = probe.feed(event)
        until = len(self.records) if self.cut is None or done >= self.cut else self.cut
        there = self.records[done:until]
        for record, again in zip_longest(there[: len(made) or 1], made[: len(there) + (self.cut != until)]):
            if found := list(_differing(record, again)):
                return self._extent(done), found
        if len(made) > len(there):  # the fork was cut in the middle
            self.conversation.fold(there)
            return len(there), []
        self.conversation = probe
        return len(made), []

    def _probe(self) -> Conversation:
        made = Conversation(self.conversation.plan, self.conversation.heads)
        made.adopt(self.conversation)
        return made

    def _extent(self, start: int) -> int:
        """How many records the recorded event accounts for."""
        probe, graph = self._probe(), self.workflow.graph
        for number in range(start, len(self.records)):
            record = self.records[number]
            if number > start and number == self.cut:
                return number - start
            if _folded(self.workflow, probe, (record,)):
                return number - start + 1
            after = self.records[number + 1].kind if number + 1 < len(self.records) else ""
            if after not in _FOLLOWS and is_whole(probe.run, record.kind, graph.by_name[probe.run.state].kind):
                return number - start + 1
        return len(self.records) - start


def _starts(workflow: type[Workflow], records: Sequence[Record], forked: Mapping[str, Any]) -> int:
    """Where the part begins that this version decided; 0 where it decided none, to see what it would decide."""
    version = fingerprint(workflow)
    stretches = [(0, forked.get("fingerprint", records[0].data.get("fingerprint")))]
    if forked:
        stretches.append((forked["at"], records[0].data.get("fingerprint")))
    stretches += [(r.seq, r.data.get("to")) for r in records if r.kind == "migrate" and r.seq >= stretches[-1][0]]
    return next((start for start, by in stretches if by == version), 0)


def _folded(workflow: type[Workflow], conversation: Conversation, records: Sequence[Record]) -> str:
    """Fold what was recorded; why that cannot be done, or nothing."""
    try:
        strands = fold_checked(workflow, conversation, records, is_partial=True)
    except Exception as error:  # noqa: BLE001 - a record that was changed may be of any form
        return f"it is not of its form ({type(error).__name__})"
    return next((str(strand) for strand in strands if strand.what != "outcome"), "")


def _differing(record: Record | None, again: Record | None) -> Iterator[str]:
    if record is None or again is None or record.kind != again.kind:
        seq = record.seq if record is not None else again.seq if again is not None else 0
        yield f"record {seq}: {_shown(record)} was recorded, now {_shown(again)}"
        return
    was, now = (_plain(each) for each in (record, again))
    for name in sorted({*was, *now}):
        if was.get(name) != now.get(name):
            yield (
                f"record {record.seq}: {record.kind}.{name} was recorded as {_short(was.get(name))}, "
                f"now {_short(now.get(name))}"
            )


def _plain(record: Record) -> dict[str, Any]:
    data: dict[str, Any] = plain({name: value for name, value in record.data.items() if name != "forked"})
    return data


def _shown(record: Record | None) -> str:
    if record is None:
        return "nothing"
    data = record.data
    if record.kind == "move":
        guard = f" [{data['guard']}]" if data.get("guard") else ""
        return f"the move {data.get('source')} --{data.get('event')}{guard}--> {data.get('dest')}"
    return f"a {record.kind}" + (f" in '{data['state']}'" if "state" in data else "")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


# ── facts as events ─────────────────────────────────────────────────────────────────────────────────────────────────


def _event(records: Sequence[Record], number: int) -> Event | None:
    """The event that a record begins to record; None where no event begins with one of this kind."""
    record = records[number]
    if record.kind in {"resume", "move"}:
        return _moved(records, number)
    make = _EVENTS.get(record.kind)
    return None if make is None else make(record.at, record.data)


def _moved(records: Sequence[Record], number: int) -> Event | None:
    """A `resume`, or a move that no recorded fact led to: the clock, a late answer, or a person who cancels."""
    record = records[number]
    is_resumed = record.kind == "resume"
    after = records[number + 1] if is_resumed and number + 1 < len(records) else record
    event = after.data.get("event") if after.kind == "move" else None
    evidence: Mapping[str, Any] = after.data.get("evidence") or {} if event else {}
    if event == "cancel":
        return Cancelled(record.at, evidence.get("message", ""))
    if event == "expired" and "detail" in evidence:
        return Answered(record.at)
    if is_resumed:
        return Resumed(record.at, trace=record.data.get("trace", ""))
    return TimePassed(record.at) if event == "expired" else None


def _started(at: float, data: Mapping[str, Any]) -> Started:
    return Started(
        at,
        data["run_id"],
        tuple(data["messages"]),
        tags=data["tags"],
        systems=data["systems"],
        heads=data["heads"],
        carried={name: tuple(messages) for name, messages in data["carried"].items()},
        limits=data["limits"],
        fingerprint=data.get("fingerprint", ""),
        trace=data.get("trace", ""),
    )


def _replied(at: float, data: Mapping[str, Any]) -> Replied:
    message = {**data["message"], "content": json.loads(data["content"])}
    return Replied(
        at,
        message,
        data["content"],
        request_id=data.get("request_id"),
        seconds=data["seconds"],
        price=data.get("price"),
    )


def _failed(at: float, data: Mapping[str, Any]) -> Failed:
    return Failed(
        at,
        data["event"],
        data["message"],
        status=data["status"],
        type=data["type"],
        code=data["code"],
        retry_after=data["retry_after"],
        should_retry=data.get("should_retry"),
        request_id=data["request_id"],
        draw=data["draw"],
        seconds=data["seconds"],
    )


def _ended(at: float, data: Mapping[str, Any]) -> ToolsEnded:
    return ToolsEnded(
        at, tuple(ToolEnd(i, content, is_error=error, seconds=seconds) for i, content, error, seconds in data["ends"])
    )


def _answered(at: float, data: Mapping[str, Any]) -> Answered:
    if "said" in data:
        return Answered(at, said=data["said"], trace=data.get("trace", ""))
    decisions = {i: Decision(verb, given, why) for i, (verb, given, why) in data["decisions"].items()}
    return Answered(at, decisions=decisions, trace=data.get("trace", ""))


def _code_ended(at: float, data: Mapping[str, Any]) -> CodeEnded:
    return CodeEnded(at, data["outcome"], data["value"], error=data["error"], seconds=data["seconds"])


_EVENTS: Mapping[str, Callable[[float, Mapping[str, Any]], Event]] = {
    "open": _started,
    "reply": _replied,
    "error": _failed,
    "tool.end": _ended,
    "answer": _answered,
    "code.end": _code_ended,
    "wake": lambda at, data: TimePassed(at),  # noqa: ARG005 - every kind is called alike
    "park": lambda at, data: Parked(at, data["reason"], untouched=tuple(data.get("untouched", ()))),
    "migrate": lambda at, data: Migrated(at, data["to"], renamed=data["renamed"], heads=data["heads"]),
}
