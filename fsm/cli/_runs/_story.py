"""What the records of a run say without its workflow: kinds of states, open calls, what a person is asked, usage.

Nothing is loaded or run for it, so any journal can be looked at anywhere. Where a run is driven, the question comes
from the conversation itself; this one is the same, read from the records.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import asdict, frozen

from fsm._actions import OpenCall, Question
from fsm._facts import Usage
from fsm._records import Move, Record, Verdict, move_of
from fsm.cli._telling import blocks_of
from fsm.diagram._page._said import words_of


class Story:
    """A run as far as its records were taken in, also without their bodies.

    Params: `keep` is how many of the newest moves and texts are kept; None for all.
    """

    def __init__(self, keep: int | None = None) -> None:
        self.kinds: dict[str, str] = {}
        self.moves: deque[Move] = deque(maxlen=keep)
        self.places: deque[int] = deque(maxlen=keep)  # the number of the record of each move
        self.texts: deque[tuple[str, str]] = deque(maxlen=keep)  # who, what
        self.count = 0  # of moves
        self.requests = 0
        self.usage = Usage()
        self.price: float | None = 0.0
        self.seconds = 0.0
        self.state = ""
        self.prompt = ""
        self.evidence: Mapping[str, Any] = {}
        self.calls: dict[str, tuple[str, Mapping[str, Any]]] = {}  # open ones, by id
        self.names: dict[str, str] = {}  # of all calls, by id
        self.numbers: dict[str, int] = {}  # of each call in its reply: the same, however many are decided already
        self.unknown: set[str] = set()
        self.decided: dict[str, tuple[str, Mapping[str, Any] | None, str | None]] = {}  # verb, new input, reason
        self.asked: Mapping[str, Any] | None = None
        self.number: int | None = None  # of the newest question
        self.forked: Mapping[str, Any] | None = None  # of which run, at which record
        self.forked_at: float | None = None  # when the fork itself began
        self._unheard = 0  # how many of the texts are the input, which nothing was sent of yet
        self._takes = {
            "open": self._open,
            "request": self._request,
            "reply": self._reply,
            "move": self._move,
            "tool.begin": self._tool_begin,
            "tool.end": self._tool_end,
            "asked": self._asked,
            "answer": self._answer,
            "say": self._say,
            "code.begin": self._code_begin,
            "close": self._close,
        }

    def take(self, record: Record) -> None:
        """Take one record in."""
        self.seconds += float(record.data.get("seconds") or 0.0)
        if self.forked is not None and self.forked_at is None and record.seq >= self.forked["at"]:
            self.forked_at = record.at
        step = self._takes.get(record.kind)
        if step is not None:
            step(record)

    def _open(self, record: Record) -> None:
        self.state = record.data["state"]
        forked = record.data.get("forked")
        self.forked = forked if isinstance(forked, Mapping) else None
        self.texts.extend(
            ("you" if each["role"] == "user" else "Claude", words_of(each["content"]))
            for each in record.data.get("messages", ())
            if each["role"] in {"user", "assistant"}
        )
        self._unheard = len(self.texts)

    def _say(self, record: Record) -> None:
        """What the workflow says stands beside its moves; what a fork says is what somebody said."""
        if not record.data.get("forked"):
            return
        if record.data.get("words"):  # in place of the input
            for _ in range(self._unheard):
                self.texts.pop()
        self._unheard = 0
        self.texts.extend(("you", words_of(each["content"])) for each in record.data.get("messages", ()))

    def _request(self, record: Record) -> None:
        self.requests += 1
        self._unheard = 0
        self.kinds[record.data["state"]] = "Claude"

    def _reply(self, record: Record) -> None:
        usage, price = record.data["message"].get("usage"), record.data.get("price")
        self.usage = self.usage.plus(usage) if isinstance(usage, dict) else self.usage
        self.price = None if price is None or self.price is None else self.price + price
        blocks = blocks_of(record) if "content" in record.data else []
        self.prompt = "".join(str(b.get("text") or "") for b in blocks if b.get("type") == "text")
        if self.prompt:
            self.texts.append(("Claude", self.prompt))
        if record.data["event"] == "tool_use":
            uses = [block for block in blocks if block.get("type") == "tool_use"]
            self.calls |= {block["id"]: (block["name"], block["input"]) for block in uses}
            self.names |= {block["id"]: block["name"] for block in uses}
            self.numbers |= {block["id"]: number for number, block in enumerate(uses, 1)}

    def _move(self, record: Record) -> None:
        self.count += 1
        self.moves.append(move_of(record, self.count))
        self.places.append(record.seq)
        self.state, self.asked = record.data["dest"], None
        self.evidence = record.data.get("evidence") or {}
        if record.data["event"] == "outcome_unknown":
            lost = set(self.evidence.get("ids") or ())
            self.unknown |= lost
            self.decided = {call_id: each for call_id, each in self.decided.items() if call_id not in lost}

    def _tool_begin(self, record: Record) -> None:
        self.kinds[self.state] = "Tools"
        del record

    def _tool_end(self, record: Record) -> None:
        self.seconds += max((end[3] for end in record.data.get("ends", ())), default=0.0)  # they ran beside each other
        for end in record.data.get("ends", ()):
            self.calls.pop(end[0], None)

    def _asked(self, record: Record) -> None:
        self.asked, self.number = record.data, record.seq
        self.kinds[self.state] = "Human" if record.data.get("calls") is None else "Approval"

    def _answer(self, record: Record) -> None:
        if "said" in record.data:
            self.texts.append(("you", words_of(record.data["said"])))
        self.decided |= {call_id: tuple(each) for call_id, each in record.data.get("decisions", {}).items()}

    def _code_begin(self, record: Record) -> None:
        self.kinds[record.data["state"]] = "Code"

    def _close(self, record: Record) -> None:
        self.asked = None
        self.evidence = record.data.get("evidence") or {}
        self.kinds[record.data["state"]] = "Final"

    def question(self) -> Question | None:
        """What a person is asked now, or None."""
        if self.asked is None:
            return None
        expires = self.asked.get("expires_at")
        if self.asked.get("calls") is None:
            return Question("words", (), self.prompt, "", self.state, expires, self.number)
        ids = [each for each in self.asked["calls"] if each in self.calls]
        unknown = [self.calls[each][0] for each in ids if each in self.unknown]
        why = f"the outcome of {', '.join(unknown)} is unknown after a restart" if unknown else "needs_approval"
        calls = tuple(OpenCall(each, *self.calls[each]) for each in ids)
        return Question("approval", calls, self.prompt, why, self.state, expires, self.number)

    def verdict(self, state: str, reason: str) -> Verdict:
        """How it ended, or stands, in the form that every command shows."""
        return Verdict(state, reason, self.evidence, self.usage, self.price, self.seconds)

    def decisions(self) -> list[Decided]:
        """What was decided already on calls of the reply that a person is asked about."""
        asked = set() if self.asked is None else set(self.asked.get("calls") or ())
        return [
            Decided(self.numbers[call_id], call_id, name, verb, given if new is None else new, reason)
            for call_id, (name, given) in self.calls.items()
            if call_id in self.decided and call_id not in asked
            for verb, new, reason in [self.decided[call_id]]
        ]


@frozen
class Decided:
    """A call that a person decided on, and that waits for the others: `input` is what it will be run with."""

    number: int
    id: str
    name: str
    decision: str
    input: Mapping[str, Any]
    reason: str | None


def story_of(records: Iterable[Record]) -> Story:
    """All that is known of what a person is asked."""
    story = Story(keep=1)
    for record in records:
        story.take(record)
    return story


def as_json(story: Story) -> dict[str, Any] | None:
    """A question for machines, with what was decided already."""
    question = story.question()
    if question is None:
        return None
    calls = [
        {"number": story.numbers[call.id], "id": call.id, "name": call.name, "input": plain(call.input)}
        for call in question.calls
    ]
    return {
        "number": question.number,
        "kind": question.kind,
        "state": question.state,
        "prompt": question.prompt,
        "why": question.why,
        "calls": calls,
        "decided": [plain(asdict(each)) for each in story.decisions()],
        "expires_at": question.expires_at,
    }


def in_short(record: Record) -> str:
    """What a record is about, in a few words; also of one whose body is not there."""
    data = record.data
    match record.kind:
        case "move":
            return str(move_of(record, 0))
        case "request":
            return f"in {data['state']}, attempt {data['attempt']}"
        case "tool.begin":
            return ", ".join(data["ids"])
        case "tool.end":
            return ", ".join(str(end[0]) for end in data.get("ends", ()))
        case "answer":
            verbs = {call_id: each[0] for call_id, each in data.get("decisions", {}).items()}
            return ", ".join(f"{verb} {call_id}" for call_id, verb in verbs.items()) or words_of(data.get("said", ""))
    return str(data.get("event") or data.get("state") or data.get("reason") or data.get("outcome") or "")


def plain(value: Any) -> Any:
    """A value as JSON holds it."""
    return json.loads(json.dumps(value, default=repr))
