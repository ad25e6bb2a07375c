"""Which recorded reply a request goes on from, and what became of the calls of that reply.

A recording is not one conversation: titles, sub-agents, retries and tests lie in it side by side (§9). A request is
linked to a reply by the tool calls in the last assistant turn that it carries, for the API never gives an id twice.
Text alone links nothing: "OK" is said in many conversations, and leaves nothing to be answered.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from fsm._alphabet import ALPHABET, Group
from fsm._facts import Call, Result
from fsm._reading import Reading
from fsm._stuck import Detector, Finding

from ._report import Found

__all__ = ["CUT_RULES", "Link", "Turn", "Turns", "blocks_of", "of_finding", "run_though_cut"]

_WEIGHT = 32_000_000  # bytes of lines whose replies are remembered
_TURNS = 4096
_NEVER_SENT = frozenset({"malformed", "unknown_stop"})  # nothing of such a reply may be sent back
_CHAIN = 10_000  # replies after which a detector begins anew, since it keeps every id

CUT_RULES = {Group.CUT: "S5.2", Group.REFUSAL: "S8.5"}
"""Replies whose calls must not be run, and the rule."""


@frozen(eq=False)
class Turn:
    """One recorded reply with calls."""

    where: str
    event: str
    calls: tuple[Call, ...]
    detector: Detector
    depth: int
    weight: int


@frozen
class Link:
    """What is known before a request: the detector of its conversation, and what was found."""

    detector: Detector = field(factory=Detector.start)
    depth: int = 0
    turn: Turn | None = None
    found: tuple[Found, ...] = ()
    answered: bool = False  # every call of the turn has a result
    ids: frozenset[str] = frozenset()  # of all calls that the request carries


@define(eq=False)
class Turns:
    """The newest replies with calls, by source and id."""

    _by_id: dict[tuple[str, str], Turn] = field(factory=dict)
    _kept: OrderedDict[int, tuple[Turn, tuple[tuple[str, str], ...]]] = field(factory=OrderedDict)
    _paused: OrderedDict[tuple[str, tuple[str, ...]], None] = field(factory=OrderedDict)
    _weight: int = 0
    _serial: int = 0

    def paused(self, source: str, message: Mapping[str, Any]) -> None:
        """Remember a reply that stopped with `pause_turn`."""
        if marks := _marks([message]):
            self._paused[source, marks] = None
            if len(self._paused) > _TURNS:
                self._paused.popitem(last=False)

    def is_paused(self, source: str, messages: Any) -> bool:
        """Whether a request ends with a reply that is known to be paused: it goes back as it is (S7.2)."""
        if not self._paused or not isinstance(messages, list):
            return False
        marks = _marks(messages[_last_begin(messages, len(messages)) :])
        return any((source, marks[at:]) in self._paused for at in range(len(marks)))

    def link(self, source: str, messages: Any, where: str) -> Link:
        """What a request goes on from."""
        if not isinstance(messages, list):
            return Link()
        newest, results = _last_turn(messages)
        ids = frozenset(_call_ids(messages))
        turn = next((t for call in newest if (t := self._by_id.get((source, call))) is not None), None)
        if turn is None:
            return Link(ids=ids)
        if turn.event != "tool_use":
            found = _run_anyway(turn, results, where)
            return Link(turn.detector.discarded(), turn.depth, turn, found, ids=ids)
        names = {call.id: call.name for call in turn.calls}
        given = tuple(_result(block, names) for block in results if str(block.get("tool_use_id")) in names)
        detector, stuck = turn.detector.answered(given)
        found = () if stuck is None else (of_finding(stuck, where),)
        if open_calls := detector.open_calls:
            found = (*found, _lost(turn, open_calls, where))
        return Link(detector.discarded(), turn.depth, turn, found, not open_calls, ids)

    def replied(self, source: str, link: Link, reading: Reading, where: str, weight: int) -> Found | None:
        """A reply came to the request of `link`; remember it, and say if it repeats an id of its own conversation."""
        reply = reading.reply
        if not reply.calls or reading.event in _NEVER_SENT:
            return None
        detector = link.detector if link.depth < _CHAIN else Detector.start()
        detector, finding = detector.replied(reply)
        found = None if finding is None else of_finding(finding, where)
        if found is None and (again := [call.id for call in reply.calls if call.id in link.ids]):
            found = Found(
                "repeated_id",
                "D1a",
                where,
                "The reply has tool_use ids that its own request already carries; the API never gives one twice.",
                "Look at what stands between you and the API: a replaying proxy or cache, or another backend.",
                ids=tuple(again),
            )
        self._keep(source, Turn(where, reading.event, reply.calls, detector, link.depth + 1, weight))
        return found

    def _keep(self, source: str, turn: Turn) -> None:
        keys = tuple((source, call.id) for call in turn.calls)
        for key in keys:
            self._by_id[key] = turn
        self._serial += 1
        self._kept[self._serial] = turn, keys
        self._weight += turn.weight
        while len(self._kept) > 1 and (self._weight > _WEIGHT or len(self._kept) > _TURNS):
            _, (old, names) = self._kept.popitem(last=False)
            self._weight -= old.weight
            for key in names:
                if self._by_id.get(key) is old:
                    del self._by_id[key]


def blocks_of(message: Any) -> Iterator[Mapping[str, Any]]:
    """The content blocks of a message, as far as they are objects."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, list):
        yield from (block for block in content if isinstance(block, Mapping))


def of_finding(finding: Finding, where: str) -> Found:
    """A finding of the detector."""
    return Found(finding.kind, finding.rule, where, finding.why, finding.todo, ids=finding.ids)


def run_though_cut(call: str, event: str, came: str, where: str) -> Found:
    """A call of a cut or refused reply has a result that is no error."""
    return Found(
        "truncated_call",
        CUT_RULES[ALPHABET[event].group],
        where,
        f"A tool was run for a reply that ended with {event} ({came}); its input may look complete and is not.",
        "Run tools only when stop_reason is tool_use.",
        ids=(call,),
    )


def _last_turn(messages: Sequence[Any]) -> tuple[list[str], list[Mapping[str, Any]]]:
    """The ids of the calls in the last assistant turn, and the results that follow it."""
    at = len(messages)
    while at and not _is_from(messages[at - 1], "assistant"):
        at -= 1
    results = [b for message in messages[at:] for b in blocks_of(message) if b.get("type") == "tool_result"]
    return list(_call_ids(messages[_last_begin(messages, at) : at])), results


def _last_begin(messages: Sequence[Any], end: int) -> int:
    """Where the assistant turn begins that ends before message `end`: neighbours are one turn (R6)."""
    while end and _is_from(messages[end - 1], "assistant"):
        end -= 1
    return end


def _marks(messages: Iterable[Any]) -> tuple[str, ...]:
    """What identifies each block of a turn: its type, and its id, or a hash of its words."""
    return tuple(_mark(block) for message in messages for block in blocks_of(message))


def _mark(block: Mapping[str, Any]) -> str:
    said = block.get("id") or block.get("tool_use_id")
    if not said:
        words = str(block.get("text") or block.get("thinking") or block.get("data"))
        said = hashlib.sha256(words.encode("utf-8", "replace")).hexdigest()[:16]
    return f"{block.get('type')} {said}"


def _is_from(message: Any, role: str) -> bool:
    return isinstance(message, Mapping) and message.get("role") == role


def _call_ids(messages: Iterable[Any]) -> Iterator[str]:
    for message in messages:
        if _is_from(message, "assistant"):
            for block in blocks_of(message):
                if block.get("type") == "tool_use" and isinstance(call := block.get("id"), str):
                    yield call


def _result(block: Mapping[str, Any], names: Mapping[str, str]) -> Result:
    call = str(block.get("tool_use_id"))
    return Result(call, names.get(call, ""), block.get("content"), block.get("is_error") is True)


def _run_anyway(turn: Turn, results: Iterable[Mapping[str, Any]], where: str) -> tuple[Found, ...]:
    if ALPHABET[turn.event].group not in CUT_RULES:
        return ()
    calls = {call.id for call in turn.calls}
    run = [str(block.get("tool_use_id")) for block in results if block.get("is_error") is not True]
    return tuple(run_though_cut(call, turn.event, turn.where, where) for call in run if call in calls)


def _lost(turn: Turn, calls: tuple[str, ...], where: str) -> Found:
    return Found(
        "lost_result",
        "D1c",
        where,
        f"The request goes on from the reply at {turn.where}, and has no tool_result for calls of it.",
        "Send a tool_result for every call of a reply in the next message.",
        ids=calls,
    )
