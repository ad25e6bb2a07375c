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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import zip_longest
from operator import itemgetter
from typing import Any

from attrs import evolve, frozen

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
from ._spoken import BODIES, CHANGED, NEEDED
from ._steps import is_whole
from ._strands import fold_checked
from ._versions import fingerprint, heads_of, records_of, translated
from ._workflow import Workflow
from .journal import Store

_FOLLOWS = frozenset({"request", "say", "tool.begin", "code.begin", "asked", "close"})  # no event begins with these
_HASHES = ("hash",)  # of what would be sent
_SHOWN = 120


def verify(workflow: type[Workflow], run_id: str, *, journal: Store | str | os.PathLike[str]) -> tuple[str, ...]:
    """Decide a run again from its recorded facts, without any I/O, and report what differs.

    Args:
        workflow: the class that decides. What a run did under other versions is not judged by it; a run that was never
            under it is, to see what it would do.
        run_id: names the run in the journal.
        journal: the store that holds it, its file or its URL.

    Returns:
        A line for each difference, in order: the record's number, what was recorded, what would be decided now. Empty
        where nothing differs. A guard, effect or prompt that is not pure, code that changed and a record that was
        changed show here. Where `redact=` changed what was said, texts and the hashes of requests are not compared, and
        a line says what may be due to that.

    Raises:
        RunError: no such run.
        JournalError: the journal cannot be read.
    """
    return tuple(_Verifier(workflow, _part_of(workflow, store_of(journal), run_id)).differences())


Found = tuple[int, str]  # the number of a record, and what is different there


@frozen
class _Part:
    """The records that are gone through, with the names of the version that judges them, and as they were recorded.

    `judged` are the stretches that it decided, each from a record to before another. `cut` is where a fork begins: it
    may be in the middle of what an event led to.
    """

    records: Sequence[Record]
    recorded: Sequence[Record]
    judged: Sequence[tuple[int, int]]
    cut: int | None


def _part_of(workflow: type[Workflow], store: Store, run_id: str) -> _Part:
    recorded = list(store.read(run_id))
    forked = recorded[0].data.get("forked")
    given: Mapping[str, Any] = forked if isinstance(forked, Mapping) else {}
    own = _own(fingerprint(workflow), recorded, given)
    if not own:  # to see what it would decide
        records = list(records_of(workflow, store, run_id))
        return _Part(records, recorded[: len(records)], ((0, len(records)),), given.get("at"))
    begin, end = own[-1]
    moved = [(r.seq, r.data["renamed"]) for r in recorded[: begin + 1] if r.kind == "migrate" and r.data["renamed"]]
    records = list(translated(recorded[:end], moved)) if moved else recorded[:end]
    return _Part(records, recorded[:end], own, given.get("at"))


def _own(version: str, records: Sequence[Record], forked: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """The stretches of a run that this version decided."""
    begun = [(0, forked.get("fingerprint", records[0].data.get("fingerprint")))]
    if forked:
        begun.append((forked["at"], records[0].data.get("fingerprint")))
    begun += [(r.seq, r.data.get("to")) for r in records if r.kind == "migrate" and r.seq >= begun[-1][0]]
    ends = [start for start, _ in begun[1:]] + [len(records)]
    return tuple((start, end) for (start, by), end in zip(begun, ends, strict=True) if by == version and start < end)


class _Verifier:
    def __init__(self, workflow: type[Workflow], part: _Part) -> None:
        self.workflow, self.records, self.recorded = workflow, part.records, part.recorded
        self.judged, self.cut = part.judged, part.cut
        self.conversation = Conversation(workflow.plan, heads_of(workflow))
        self.is_redacted = False  # whether anything that is decided on was changed so far

    def differences(self) -> Iterator[str]:
        """Go through the records event by event."""
        done = 0
        while done < len(self.records):
            is_judged = any(start <= done < end for start, end in self.judged)
            count, found = self._decided(done) if is_judged else (1, [])
            event = self.records[done : done + count]
            problem = None
            if self.conversation.run.seq <= event[0].seq:  # where nothing differs, it stands behind the event already
                problem = _folded(self.workflow, self.conversation, event)
            if problem is not None:
                found = [*found, (problem[0], f"from here on it cannot be folded: {problem[1]}")]
            for seq, what in sorted(found, key=itemgetter(0)):
                yield f"record {seq}: {what}{_REDACTED if self.is_redacted else ''}"
            if problem is not None:
                return
            self._note(event)
            done += count

    def _note(self, event: Sequence[Record]) -> None:
        self.is_redacted |= any(record.kind in NEEDED and record.data.get(CHANGED) for record in event)

    def _decided(self, done: int) -> tuple[int, list[Found]]:
        """How many records the event accounts for that one begins, and what differs."""
        record = self.records[done]
        self._note((record,))  # the event is made of it
        try:
            event = _event(self.records, done)
            if event is None:  # said by whoever forked the run, or left over after a difference
                return 1, [] if record.data.get("forked") else [(record.seq, f"{self._shown(record)} came of nothing")]
            if isinstance(event, Started):  # what requests begin with was decided, too (R35)
                event = evolve(event, heads=self.conversation.heads.digests(event.systems))
            return self._compared(event, done)
        except Exception as error:  # noqa: BLE001 - a record that was changed may be of any form
            why = str(error) if isinstance(error, FsmError) else f"it is not of its form ({type(error).__name__})"
            return self._extent(done), [(record.seq, f"{self._shown(record)} was recorded, now: {why}")]

    def _compared(self, event: Event, done: int) -> tuple[int, list[Found]]:
        """Feed the event; where nothing differs, stand behind it."""
        probe = self._probe()
        made, _ = probe.feed(event)
        until = len(self.records) if self.cut is None or done >= self.cut else self.cut
        there = self.records[done:until]
        for record, again in zip_longest(there[: len(made) or 1], made[: len(there) + (self.cut != until)]):
            if found := list(self._differing(record, again)):
                return self._extent(done), found
        if len(made) > len(there):  # the fork was cut in the middle
            self.conversation.fold(there)
            return len(there), []
        self.conversation = probe
        return len(made), []

    def _differing(self, record: Record | None, again: Record | None) -> Iterator[Found]:
        if record is None or again is None or record.kind != again.kind:
            seq = record.seq if record is not None else again.seq if again is not None else 0
            yield seq, f"{self._shown(record)} was recorded, now {_shown(again)}"
            return
        hidden = {*(BODIES.get(record.kind, ()) if record.data.get(CHANGED) else ()), *_HASHES * self.is_redacted}
        was, now = (_plain(each, hidden) for each in (record, again))
        quoted = _plain(self.recorded[record.seq])
        for name in sorted({*was, *now}):
            if was.get(name) != now.get(name):
                told = f"was recorded as {_short(quoted.get(name))}, now {_short(now.get(name))}"
                yield record.seq, f"{record.kind}.{name} {told}"

    def _shown(self, record: Record | None) -> str:
        """A record in the words that it was recorded in."""
        return _shown(None if record is None else self.recorded[record.seq])

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


_REDACTED = " (redact= changed what it was decided on)"


def _folded(workflow: type[Workflow], conversation: Conversation, records: Sequence[Record]) -> Found | None:
    """Fold what was recorded; where and why that cannot be done, or nothing."""
    for record in records:
        try:
            strands = fold_checked(workflow, conversation, (record,), is_partial=True)
        except Exception as error:  # noqa: BLE001 - a record that was changed may be of any form
            return record.seq, f"it is not of its form ({type(error).__name__})"
        for strand in strands:
            if strand.what != "outcome":
                return record.seq, str(strand)
    return None


def _plain(record: Record, hidden: Collection[str] = ()) -> dict[str, Any]:
    data: dict[str, Any] = plain({n: v for n, v in record.data.items() if n not in {"forked", CHANGED, *hidden}})
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
