"""`RunState`: everything that is known of a run, as values that are replaced and never changed in place."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from attrs import field, frozen

from fsm._events import Decision, ToolEnd
from fsm._facts import Call, Failure, Result, Usage
from fsm._ledger import Ledger
from fsm._reading import Reading
from fsm._records import is_over
from fsm._stuck import Detector


@frozen
class OpenCallState:
    """A call of the newest reply that is not answered yet."""

    call: Call
    begun: bool = False
    unknown: bool = False
    decision: Decision | None = None
    end: ToolEnd | None = None

    @property
    def input(self) -> Mapping[str, Any]:
        """What to run it with: the person's edit, else the model's input."""
        edited = self.decision.input if self.decision and self.decision.verb == "edit" else None
        return self.call.input if edited is None else edited


@frozen
class Container:
    """Where the code of a history runs, and until when it lives, in seconds since the epoch (None: not known)."""

    id: str
    expires_at: float | None = None

    @classmethod
    def of(cls, given: Any) -> Container | None:
        """The `container` of a reply, None where it has none (G6)."""
        if not isinstance(given, Mapping) or not isinstance(given.get("id"), str):
            return None
        try:
            return cls(given["id"], datetime.fromisoformat(str(given.get("expires_at"))).timestamp())
        except (ValueError, OverflowError, OSError):
            return cls(given["id"])


@frozen
class PendingReply:
    """A recorded reply whose move is not taken yet."""

    content: list[Any]
    content_json: str
    history: str
    summary: int = 0  # how many messages it was to summarise (S10.2); 0: it is no summary
    container: Container | None = None


@frozen
class DroppedReply:
    """A cut reply that is asked for again with more tokens (S5.2). `grown`: the state, and its tokens before."""

    reply: PendingReply
    grown: tuple[str, int | None] | None = None


@frozen
class Compactions:
    """What compaction did to each history (D10)."""

    size: Mapping[str, int] = field(factory=dict)  # input tokens of the newest reply
    before: Mapping[str, int] = field(factory=dict)  # those before the newest compaction, until the next reply
    useless: Mapping[str, int] = field(factory=dict)  # how many did not help


class RunState:
    """What is known of a run. `copy` is shallow, because values are replaced and never changed in place."""

    def __init__(self, state: str) -> None:  # noqa: PLR0915 - one line a fact
        self.state = state
        self.seq = self.moves = self.turns = self.tool_calls = self.requests = 0
        self.at = self.elapsed = 0.0
        self.run_id = ""
        self.tags: Mapping[str, str] = {}
        self.systems: Mapping[str, Any] = {}
        self.limits: Mapping[str, float] = {}
        self.fingerprint = ""  # of the version of the workflow that it goes on under
        self.trace = ""  # the span of the newest drive that had one, as a `traceparent`
        self.begun: Mapping[str, Mapping[str, str]] = {}  # by state: the digests of its head, as it began (R35)
        self.ledgers: Mapping[str, Ledger] = {}
        self.waiting: tuple[Mapping[str, Any], ...] = ()  # messages for the next Claude state without a prompt
        self.given: Any = None  # the run's input, as guards see it
        self.said: Any = None
        self.open: Mapping[str, OpenCallState] = {}
        self.home: str | None = None  # the history whose newest reply has open calls
        self.shelved: tuple[tuple[str | None, Mapping[str, OpenCallState]], ...] = ()  # calls that wait for those
        self.pending: PendingReply | None = None
        self.reading: Reading | None = None
        self.output: Any = None
        self.continued = self.goes_on = ""  # the text that the newest reply goes on from, and that the next one will
        self.dropped: DroppedReply | None = None  # the newest reply, where it was cut and not kept
        self.failure: Failure | None = None
        self.results: tuple[Result, ...] = ()
        self.values: Mapping[str, Any] = {}
        self.usage = Usage()
        self.price: float | None = 0.0
        self.attempts: Mapping[tuple[str, str], int] = {}
        self.waited: Mapping[str, float] = {}
        self.rounds: Mapping[tuple[str, str, int], int] = {}
        self.tokens: Mapping[str, int] = {}
        self.models: Mapping[str, str] = {}
        self.caps: Mapping[str, int] = {}  # by model, as its errors told (S5.7)
        self.refusals: Mapping[str, tuple[str, ...]] = {}  # by model: hashes of the refused requests (S8.4, D11)
        self.compacting: Mapping[str, bool] = {}  # histories to be summarised; whether at once (S9.2)
        self.compactions = Compactions()
        self.containers: Mapping[str, Container] = {}  # by history (S6.8)
        self.void = False  # what may have been shown of the newest answer is in no history (G10, S5.2, S8.2)
        self.last_history = "main"  # that of the newest request
        self.request: Mapping[str, Any] | None = None  # sent, not answered
        self.unsent: tuple[str, ...] = ()  # where the newest request was not sent, and why (D16); none was sent since
        self.answered = ""  # the hash of the newest request, once a reply came
        self.unsaid: Mapping[
            str, tuple[Mapping[str, Any], ...]
        ] = {}  # by history: what an arrow could not say yet (R16)
        self.is_unsaid = False  # the newest move had words that could not be said (R16)
        self.request_ids: Any = None  # a linked list: (newest, (older, ...)), so that adding costs the same every turn
        self.wait_until: float | None = None
        self.wait_seconds = 0.0
        self.asked: Mapping[str, Any] | None = None
        self.code: Mapping[str, Any] | None = None
        self.parked: Mapping[str, Any] | None = None
        self.closed: Mapping[str, Any] | None = None
        self.last_event = ""
        self.evidence: Mapping[str, Any] = {}
        self.detector = Detector.start()
        self.finding: Any = None
        self.recoveries = 0  # crashes that it was taken up after, since the newest reply (D12)
        self.free: frozenset[str] = frozenset()  # what the next request is exempt from: stuck, over_limit

    def copy(self) -> Self:
        """The same facts in a new object."""
        new = object.__new__(type(self))
        new.__dict__ = self.__dict__.copy()
        return new

    def is_expired(self, at: float) -> bool:
        """Whether the time to answer what is asked has run out."""
        return self.asked is not None and is_over(self.asked.get("expires_at"), at)

    def ledger(self, history: str) -> Ledger:
        """The ledger of a history, empty at first."""
        return self.ledgers.get(history) or Ledger()

    def with_ledger(self, history: str, ledger: Ledger) -> None:
        """Put a ledger in its place."""
        self.ledgers = {**self.ledgers, history: ledger}


def without(mapping: Mapping[Any, Any], key: Any) -> Mapping[Any, Any]:
    """The mapping without a key."""
    return {k: v for k, v in mapping.items() if k != key} if key in mapping else mapping
