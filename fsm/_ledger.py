"""One history with Claude: append-only messages and their bytes.

Each message is encoded once. What is to be said waits in `tail` until the next request seals it into one user
message, so that tool results and words that follow them travel together, results first (R11, R12, R17). A sealed
message is never rewritten (R35): the bytes of request n are a prefix of those of request n+1.

`standing` is the one fact that the data-flow check (W6, W7, W9, W12) knows about a history; `after_reply` is its
transition function, and both the check and the running ledger call it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import takewhile
from typing import Any

from attrs import evolve, field, frozen

from ._alphabet import ALPHABET, Group, Keep
from ._encoded import Encoded, encode
from ._errors import IllegalRequest
from ._legality import Legality, profile_of


class Standing(Enum):
    """Where a history stands."""

    EMPTY = "empty"
    OWES = "owes"  # the model must answer
    CALLS = "calls"  # calls of the newest reply are unanswered
    SPOKEN = "spoken"  # ends in a finished reply
    REFUSED = "refused"  # the newest request was refused; the refused turn is not in the history


_UNFINISHED = frozenset({Group.PAUSE, Group.COMPACTION})


def after_reply(event: str, before: Standing, *, said: bool, discarded: bool) -> Standing:
    """Where a history stands after a reply that was this event.

    `said` is whether the arrow says something into this history, `discarded` whether it drops the reply.
    """
    spec = ALPHABET[event]
    kept = not discarded and (spec.keep is Keep.ALWAYS or (spec.keep is Keep.IF_SAID and said))
    if spec.group is Group.REFUSAL:
        return Standing.OWES if said else Standing.REFUSED
    if said and event != "tool_use":
        return Standing.OWES
    if not kept:
        return before
    if event == "tool_use":
        return Standing.CALLS
    return Standing.OWES if spec.group in _UNFINISHED else Standing.SPOKEN


def is_kept(event: str, *, said: bool, discarded: bool) -> bool:
    """Whether the reply is appended to the history."""
    keep = ALPHABET[event].keep
    return not discarded and (keep is Keep.ALWAYS or (keep is Keep.IF_SAID and said))


_STARTS_ANEW = frozenset({Standing.EMPTY, Standing.SPOKEN, Standing.REFUSED})


def history_of(kind: str, own: str | None, home: str | None) -> str | None:
    """Which history a state of this kind works for: `Tools` and `Approval` for that of the open calls, `home`."""
    return own if kind == "Claude" else home if kind in {"Tools", "Approval"} else None


def begins_anew(standing: Standing, history: str, worked_for: str | None) -> bool:
    """Whether a state with `fresh` or `continues` begins a new ledger where it is entered.

    `worked_for` is the `history_of` the state before it. A retry, a continuation and tool results go on in the ledger
    as it is; what was left unanswered for something else is not taken up again. Open calls are for W6 to find.
    """
    return standing in _STARTS_ANEW or (standing is Standing.OWES and worked_for != history)


_REPLY = b'{"role":"assistant"'
_SUMMARY = b'"compaction"'


def _has_summary(raw: bytes) -> bool:
    """Whether a reply holds a compaction block (S10)."""
    if _SUMMARY not in raw or not raw.startswith(_REPLY):
        return False
    content = json.loads(raw)["content"]
    return isinstance(content, list) and any(block.get("type") == "compaction" for block in content)


def _is_question(message: Mapping[str, Any]) -> bool:
    """Whether a message is words of a person's alone."""
    content = message["content"]
    return message["role"] == "user" and not any(
        block.get("type") == "tool_result" for block in content if isinstance(block, Mapping)
    )


_MARK = b'"cache_control":'


def marks_in(content: Any) -> int:
    """How many blocks bear a cache mark of one's own, those in tool results included (R48)."""
    if not isinstance(content, (list, tuple)):
        return 0
    blocks = [block for block in content if isinstance(block, Mapping)]
    return sum((block.get("cache_control") is not None) + marks_in(block.get("content")) for block in blocks)


@frozen
class Ledger:
    """The messages of one history, and what waits to be said."""

    generation: int = 1
    digest: bytes = b""
    standing: Standing = Standing.EMPTY
    tail: tuple[Mapping[str, Any], ...] = ()
    legality: Legality = field(factory=Legality.start, repr=False)
    sealed: Encoded = field(factory=Encoded, repr=False, eq=False)
    marks: tuple[int, int] = (0, 0)  # cache marks: in all sealed messages, and on the last block (R48, R50)
    paused: bool = False  # ends in a paused reply, which goes back unchanged (S7.2)
    summary: bool = False  # holds a compaction block, which later requests need a beta header for (S10.2)

    @property
    def count(self) -> int:
        """How many messages are sealed."""
        return self.sealed.count

    def say(self, blocks: Iterable[Mapping[str, Any]]) -> Ledger:
        """Something to be said with the next request. The order is kept, results stay first."""
        return self._with((*self.tail, *blocks), Standing.OWES)

    def prepend(self, blocks: Iterable[Mapping[str, Any]]) -> Ledger:
        """Tool results: they stand before whatever waits to be said (R11)."""
        return self._with((*blocks, *self.tail), Standing.OWES)

    def _with(self, tail: tuple[Mapping[str, Any], ...], standing: Standing) -> Ledger:
        # Built by name, here and in `_append`: `evolve` costs more than all the rest of a turn.
        return Ledger(
            self.generation,
            self.digest,
            standing,
            tail,
            self.legality,
            self.sealed,
            self.marks,
            self.paused,
            self.summary,
        )

    def with_standing(self, standing: Standing) -> Ledger:
        """The same messages, standing elsewhere (a refusal that was not appended)."""
        return self if standing is self.standing else self._with(self.tail, standing)

    def resumed(self) -> Ledger:
        """The same messages, where a reply came to the paused turn that they end in: something may be said now."""
        return evolve(self, paused=False) if self.paused else self

    def append_reply(
        self, content: list[Any], content_json: str, standing: Standing, *, paused: bool = False
    ) -> Ledger:
        """A reply of the model, echoed byte for byte (S6.2, S12.1). `paused`: its turn goes on (S7.2)."""
        raw = b'{"role":"assistant","content":%b}' % content_json.encode()
        return self._append({"role": "assistant", "content": content}, raw, standing, paused=paused)

    def append_message(self, message: Mapping[str, Any]) -> Ledger:
        """A message that a caller gave (input as a list of messages)."""
        if message.get("role") == "user":
            content = message.get("content")
            return self.say([{"type": "text", "text": content}] if isinstance(content, str) else content or [])
        sealed = self.seal()
        return sealed._append(message, encode(message), Standing.SPOKEN)._settled()  # noqa: SLF001 - the same class

    def append_encoded(self, raw: bytes) -> Ledger:
        """A message of another run or ledger, already encoded."""
        message = json.loads(raw)
        standing = Standing.OWES if message.get("role") != "assistant" else Standing.SPOKEN
        return self._append(message, raw, standing)._settled()  # noqa: SLF001 - the same class

    def seal(self) -> Ledger:
        """What waits becomes one user message."""
        if not self.tail:
            return self
        message = {"role": "user", "content": list(self.tail)}
        return self._append(message, encode(message), self.standing, tail=())

    @property
    def can_compact(self) -> bool:
        """Whether the sealed messages end in a finished reply, which is all that may be summarised (S10.4)."""
        is_finished = bool(self.tail) or self.standing is Standing.SPOKEN
        is_open = self.legality.open_calls or self.legality.open_server_tools
        return self._ends_in_reply and is_finished and not is_open

    @property
    def may_speak(self) -> bool:
        """Whether something may be said next: not while the model must go on where it stopped (S7.2, R16)."""
        return not self.paused and not self.legality.open_server_tools

    def can_hear(self, content: Sequence[Any]) -> bool:
        """Whether something may be said after a reply with this content: every server tool has its result (R16)."""
        after = self.legality.step({"role": "assistant", "content": content})[0] if content else self.legality
        return not after.open_server_tools

    def without_open_turn(self) -> Ledger:
        """The history before the newest turn of the model, where that is paused (S7); else the same.

        Nothing can be said after it (S7.2, R16), so what is to be said instead needs it gone. A summary stays, and so
        does a turn whose calls have their results: those belong to it (R13).
        """
        if not (self._ends_in_reply and (self.paused or self.legality.open_server_tools)):
            return self
        if any(block.get("type") == "tool_result" for block in self.tail):
            return self
        encoded = list(self.encoded())
        while encoded and encoded[-1].startswith(_REPLY) and not _has_summary(encoded[-1]):
            encoded.pop()
        before = Ledger(self.generation + 1)
        for raw in encoded:
            before = before.append_encoded(raw)
        return before._with(self.tail, Standing.OWES)  # noqa: SLF001 - the same class

    def without_refused_turn(self) -> Ledger:
        """The history before the question that was refused (S8.3); the same where it stands elsewhere.

        Results stay, since their calls do (R10), and so do words of the operator.
        """
        if self.standing is not Standing.REFUSED or self.tail:
            return self
        messages = self.messages()
        refused = list(takewhile(lambda message: message["role"] != "assistant", reversed(messages)))
        if not refused or not all(map(_is_question, refused)):
            return self
        before = Ledger(self.generation + 1)
        for raw in self.encoded()[: len(messages) - len(refused)]:
            before = before.append_encoded(raw)
        return before

    def first(self, count: int) -> Ledger:
        """The first so many sealed messages alone: what a summary is made of (S10.2)."""
        if count >= self.count:
            return self if not self.tail else evolve(self, tail=())
        part = Ledger(self.generation)
        for raw in self.encoded()[:count]:
            part = part.append_encoded(raw)
        return part

    @property
    def _ends_in_reply(self) -> bool:
        return self.sealed.last_starts_with(_REPLY)

    def check(self, model: str, *, contained: bool = True) -> None:
        """Refuse what the API would refuse, if the request to this model ended here.

        Params:
            model: whom it goes to.
            contained: whether it names a container.

        Raises:
            IllegalRequest: with every violation (rule 5).
        """
        # R25: only how a request may end depends on the model, and that only after words of the assistant.
        legality = self.legality
        if self._ends_in_reply:
            # S7.2: a turn that is not finished stays paused also where a reply to it came that was not kept.
            is_paused = self.paused or self.standing is not Standing.SPOKEN
            legality = evolve(legality, profile=profile_of(model), paused=is_paused)
        found = legality.finish(contained=contained)
        if found:
            raise IllegalRequest(found)

    def encoded(self) -> tuple[bytes, ...]:
        """Each sealed message as it goes on the wire."""
        return self.sealed.each()

    def messages(self) -> list[dict[str, Any]]:
        """The messages, decoded, with what waits as the last one."""
        decoded: list[dict[str, Any]] = json.loads(self.sealed.between(b"[", b"]"))
        if self.tail:
            decoded.append({"role": "user", "content": [dict(block) for block in self.tail]})
        return decoded

    def for_another(self) -> Ledger:
        """A new ledger that starts with a copy of this one: no thinking, no messages left empty (R35, R22).

        Tool blocks stay: whether a state without tools may go on from them (R19e) is for the checks (W11) to say, and
        for the API.
        """
        fresh = Ledger(generation=self.generation)
        for message in self.without_open_turn().messages():  # a paused turn is sent back unchanged or not at all (S7.2)
            content = message["content"]
            if isinstance(content, list) and message.get("role") == "assistant":
                kept = [b for b in content if b.get("type") not in {"thinking", "redacted_thinking"}]
                if not kept:
                    continue
                message = {**message, "content": kept}  # noqa: PLW2901 - the copy replaces what it was made from
            fresh = fresh.append_message(message)
        return evolve(fresh, standing=Standing.OWES if self.standing is Standing.REFUSED else self.standing)

    def _append(
        self,
        message: Mapping[str, Any],
        raw: bytes,
        standing: Standing,
        tail: tuple[Mapping[str, Any], ...] | None = None,
        *,
        paused: bool = False,
    ) -> Ledger:
        legality, found = self.legality.step(message)
        if found:
            raise IllegalRequest(found)
        digest = hashlib.sha256(self.digest + raw).digest()
        kept = self.tail if tail is None else tail
        marks = (self.marks[0], 0)
        if _MARK in raw:
            content = message.get("content")
            marks = (self.marks[0] + marks_in(content), marks_in(content[-1:]) if isinstance(content, list) else 0)
        summary = self.summary or _has_summary(raw)
        return Ledger(self.generation, digest, standing, kept, legality, self.sealed.added(raw), marks, paused, summary)

    def _settled(self) -> Ledger:
        return evolve(self, standing=Standing.CALLS) if self.legality.open_calls else self
