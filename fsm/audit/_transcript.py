"""Transcripts as Claude Code writes them, judged by their blocks.

Each event has a `type`; those of a user or the assistant hold a `message`. One reply of the API is spread over several
events that share `message.id`, with events of other replies between them, and sub-agents (`isSidechain`) lie between
those of their parent (§9). In some versions no reply has a stop reason. So nothing is concluded from the order of
neighbours: a call belongs to the reply with its `message.id`, and a result to the call with its id.

What is remembered of one conversation is bounded, and so is the number of conversations.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen

from fsm._alphabet import ALPHABET, STOP_REASONS
from fsm._facts import Call, Reply, Result
from fsm._stuck import Detector
from fsm._wire import clean

from ._report import Found
from ._tally import Tally
from ._turns import CUT_RULES, blocks_of, of_finding, run_though_cut

__all__ = ["UNRECORDED", "Heard", "Transcript", "is_event"]

UNRECORDED = "stop reason not recorded"

_KNOWN_BY = frozenset({"uuid", "sessionId", "session_id", "leafUuid", "parentUuid", "total_cost_usd"})
_CHAINS = 256
_IDS = 10_000  # of calls, in one conversation
_REPLIES = 10_000  # after which a detector begins anew


@frozen
class Heard:
    """What one event is: `outcome` for the table, and whether it begins a reply. None of both: it could not be read."""

    outcome: str
    begins: bool = False


@frozen(eq=False)
class _Open:
    """A call without a result so far."""

    call: Call
    reply: str
    stop: str | None
    where: str


@define(eq=False)
class _Chain:
    """One line of talk: a session, or a sub-agent of it."""

    newest: str = ""
    replies: OrderedDict[str, None] = field(factory=OrderedDict)
    ids: OrderedDict[str, str] = field(factory=OrderedDict)  # of calls → of replies
    open: OrderedDict[str, _Open] = field(factory=OrderedDict)
    given: OrderedDict[str, list[tuple[Call, Result]]] = field(factory=OrderedDict)  # by reply
    detector: Detector = field(factory=Detector.start)
    steps: int = 0


def is_event(value: Mapping[str, Any]) -> bool:
    """Whether an object is an event of such a transcript."""
    kind = value.get("type")
    if not isinstance(kind, str):
        return False
    return (kind in {"user", "assistant"} and "message" in value) or not _KNOWN_BY.isdisjoint(value)


@define(eq=False)
class Transcript:
    """One transcript, event by event; call `end` after the last one."""

    tally: Tally
    _chains: OrderedDict[tuple[str, str], _Chain] = field(factory=OrderedDict)
    _unnamed: int = 0
    _session: str = ""

    def event(self, event: Any, where: str) -> Heard | None:
        """Take one event; None if it cannot be read."""
        if not isinstance(event, Mapping) or not isinstance(kind := event.get("type"), str):
            return None
        if kind not in {"user", "assistant"}:
            return Heard("no message")
        message = event.get("message")
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str | list):
            return None
        chain = self._chain(event)
        if kind == "user":
            self._user(chain, event, message, where)
            return Heard("user message")
        return self._assistant(chain, message, where)

    def end(self) -> None:
        """Nothing more comes."""
        while self._chains:
            self._close(self._chains.popitem(last=False)[1])

    def _chain(self, event: Mapping[str, Any]) -> _Chain:
        session = str(event.get("sessionId") or event.get("session_id") or self._session)
        self._session = session  # some versions name it on some events only
        agent = event.get("agentId") or event.get("parent_tool_use_id") or ("side" if event.get("isSidechain") else "")
        key = (session, str(agent))
        if key not in self._chains:
            self._chains[key] = _Chain()
            if len(self._chains) > _CHAINS:
                self._close(self._chains.popitem(last=False)[1])
        self._chains.move_to_end(key)
        return self._chains[key]

    # ── one event ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _assistant(self, chain: _Chain, message: Mapping[str, Any], where: str) -> Heard:
        stop = message.get("stop_reason")
        stop = stop if isinstance(stop, str) and stop else None
        name = message.get("id")
        if not isinstance(name, str) or not name:
            self._unnamed += 1
            name = f"#{self._unnamed}"
        begins = name not in chain.replies
        if begins:
            chain.newest = name
            self.tally.replies += 1
            _remember(chain.replies, name, None)
        calls = [call for block in blocks_of(message) if (call := _call(block)) is not None]
        if stop == "end_turn" and calls:
            why = "The stop reason is end_turn beside a tool_use block."
            self.tally.found(Found("contradiction", "§9", where, why, "", ids=tuple(call.id for call in calls)))
        for call in calls:
            self._called(chain, call, name, stop, where)
        known = stop is None or stop in STOP_REASONS
        return Heard((stop or UNRECORDED) if known else clean(f"unknown_stop ({stop})", 60), begins)

    def _called(self, chain: _Chain, call: Call, reply: str, stop: str | None, where: str) -> None:
        first = chain.ids.get(call.id)
        if first == reply:  # the same block again: a line that was written twice
            return
        if first is not None:
            why = f"The tool_use id came in {first} and again in {reply}; the API itself never gives one twice."
            todo = "Look for a replaying proxy or another backend, or for a transcript that was put together by hand."
            self.tally.found(Found("repeated_id", "D1a", where, why, todo, ids=(call.id,)))
        _remember(chain.ids, call.id, reply)
        _remember(chain.open, call.id, _Open(call, reply, stop, where))

    def _user(self, chain: _Chain, event: Mapping[str, Any], message: Mapping[str, Any], where: str) -> None:
        if event.get("isCompactSummary"):  # what was before is gone
            chain.open.clear()
            chain.given.clear()
        results = [block for block in blocks_of(message) if block.get("type") == "tool_result"]
        if not results and not event.get("isMeta"):
            chain.detector = chain.detector.window_reset()
        for block in results:
            call = str(block.get("tool_use_id"))
            owner = chain if call in chain.open else self._owner(call)
            if owner is None:  # the call stands in another file, or was forgotten
                continue
            waiting = owner.open.pop(call)
            result = Result(waiting.call.id, waiting.call.name, block.get("content"), block.get("is_error") is True)
            stop = waiting.stop
            if stop in STOP_REASONS and not result.is_error and ALPHABET[stop].group in CUT_RULES:
                self.tally.found(run_though_cut(call, stop, waiting.where, where))
            owner.given.setdefault(waiting.reply, []).append((waiting.call, result))
            if not any(other.reply == waiting.reply for other in owner.open.values()):
                self._answered(owner, owner.given.pop(waiting.reply), where)
            while len(owner.given) > _IDS:
                owner.given.popitem(last=False)

    def _owner(self, call: str) -> _Chain | None:
        """The chain in which a call is open: its result may be written in that of another agent."""
        return next((chain for chain in self._chains.values() if call in chain.open), None)

    def _answered(self, chain: _Chain, given: list[tuple[Call, Result]], where: str) -> None:
        """Every call of a reply has its result: one step for the detector."""
        chain.steps += 1
        if chain.steps % _REPLIES == 0:  # it keeps every id
            chain.detector = Detector.start()
        reply = Reply("", "", "tool_use", "", tuple(call for call, _ in given))
        detector, _ = chain.detector.replied(reply)  # repeated ids were reported where they came
        chain.detector, stuck = detector.answered([result for _, result in given])
        if stuck is not None:
            self.tally.found(of_finding(stuck, where))

    def _close(self, chain: _Chain) -> None:
        for waiting in chain.open.values():
            if waiting.reply == chain.newest or waiting.stop not in {None, "tool_use"}:
                continue  # the transcript ends there, or the call was rightly not run
            why = "No result was recorded for this call, and the conversation went on after it"
            unsure = "; its stop reason was not recorded" if waiting.stop is None else ""
            todo, ids = "Send a tool_result for every call of a reply in the next message.", (waiting.call.id,)
            self.tally.found(Found("lost_result", "D1b", waiting.where, f"{why}{unsure}.", todo, ids=ids))


def _call(block: Mapping[str, Any]) -> Call | None:
    given = block.get("input")
    if block.get("type") != "tool_use" or not isinstance(call := block.get("id"), str):
        return None
    return Call(call, str(block.get("name")), given if isinstance(given, Mapping) else {})


def _remember(known: OrderedDict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    while len(known) > _IDS:
        known.popitem(last=False)
