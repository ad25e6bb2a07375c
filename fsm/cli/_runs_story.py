"""What the records of a run say without its workflow: kinds of states, open calls, what a person is asked, usage.

Nothing is loaded or run for it, so any journal can be looked at anywhere. Where a run is driven, the question comes
from the conversation itself; this one is the same, read from the records.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from fsm._actions import OpenCall, Question
from fsm._facts import Usage
from fsm._records import Move, Record, Verdict
from fsm.drivers._pump import move_of

from ._telling import blocks_of, words_of


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
        self.asked: Mapping[str, Any] | None = None
        self._takes = {
            "open": self._open,
            "request": self._request,
            "reply": self._reply,
            "move": self._move,
            "tool.begin": self._tool_begin,
            "tool.end": self._tool_end,
            "asked": self._asked,
            "answer": self._answer,
            "code.begin": self._code_begin,
            "close": self._close,
        }

    def take(self, record: Record) -> None:
        """Take one record in."""
        self.seconds += float(record.data.get("seconds") or 0.0)
        step = self._takes.get(record.kind)
        if step is not None:
            step(record)

    def _open(self, record: Record) -> None:
        self.state = record.data["state"]
        self.texts.extend(
            ("you" if each["role"] == "user" else "Claude", words_of(each["content"]))
            for each in record.data.get("messages", ())
            if each["role"] in {"user", "assistant"}
        )

    def _request(self, record: Record) -> None:
        self.requests += 1
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
            self.unknown |= set(self.evidence.get("ids") or ())

    def _tool_begin(self, record: Record) -> None:
        self.kinds[self.state] = "Tools"
        del record

    def _tool_end(self, record: Record) -> None:
        self.seconds += max((end[3] for end in record.data.get("ends", ())), default=0.0)  # they ran beside each other
        for end in record.data.get("ends", ()):
            self.calls.pop(end[0], None)

    def _asked(self, record: Record) -> None:
        self.asked = record.data
        self.kinds[self.state] = "Human" if record.data.get("calls") is None else "Approval"

    def _answer(self, record: Record) -> None:
        if "said" in record.data:
            self.texts.append(("you", words_of(record.data["said"])))

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
            return Question("words", (), self.prompt, "", self.state, expires)
        ids = [each for each in self.asked["calls"] if each in self.calls]
        unknown = [self.calls[each][0] for each in ids if each in self.unknown]
        why = f"the outcome of {', '.join(unknown)} is unknown after a restart" if unknown else "needs_approval"
        calls = tuple(OpenCall(each, *self.calls[each]) for each in ids)
        return Question("approval", calls, self.prompt, why, self.state, expires)

    def verdict(self, state: str, reason: str) -> Verdict:
        """How it ended, or stands, in the form that every command shows."""
        return Verdict(state, reason, self.evidence, self.usage, self.price, self.seconds)


def numbers_of(records: Iterable[Record]) -> dict[str, int]:
    """What number each call has, by id."""
    story = Story(keep=1)
    for record in records:
        if record.kind == "reply":
            story.take(record)
    return story.numbers


def as_json(question: Question | None, numbers: Mapping[str, int]) -> dict[str, Any] | None:
    """A question for machines."""
    if question is None:
        return None
    calls = [
        {"number": numbers[call.id], "id": call.id, "name": call.name, "input": plain(call.input)}
        for call in question.calls
    ]
    return {
        "kind": question.kind,
        "state": question.state,
        "prompt": question.prompt,
        "why": question.why,
        "calls": calls,
        "expires_at": question.expires_at,
    }


def plain(value: Any) -> Any:
    """A value as JSON holds it."""
    return json.loads(json.dumps(value, default=repr))
