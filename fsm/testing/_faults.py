"""`Fault`: what goes wrong with the answer to one request (V7). The builders are in `fsm.testing.faults`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from attrs import evolve, field, frozen

from fsm.testing._reply import Reply
from fsm.testing._serving import Answer, Ending

Change: TypeAlias = Callable[[Reply], Reply]
Ends: TypeAlias = Literal["eof", "lost", "reset", "stall", "pings"]
_RECORD = b"\n\n"
_ENDINGS: Mapping[str, Ending] = {"eof": "end", "lost": "lost", "reset": "reset", "stall": "stall", "pings": "pings"}


@frozen(kw_only=True)
class Fault:
    """One thing that goes wrong with the answer to one request; build it with the functions of `fsm.testing.faults`.

    `answer` is sent in place of the script's reply; else that reply is served, after `change`, and cut after `events`
    SSE events or `byte_count` bytes, where it ends as `ends` says. `insert` is put before the event of that number.
    `piece` and `pace` send it in small pieces, so many seconds apart over a server. `arrives` means that the client
    gets the script's reply after all: only then is it used up.
    """

    name: str
    answer: Reply | None = None
    change: Change | None = None
    events: int | None = None
    byte_count: int | None = None
    ends: Ends | None = None
    before_answer: bool = False
    insert: tuple[int, bytes] | None = field(default=None, repr=False)
    piece: int | None = None
    pace: float = 0.0
    arrives: bool = False

    def apply(self, answer: Answer) -> Answer:
        """Do it to the bytes of an answer."""
        if self.before_answer:
            return evolve(answer, silent=True, ending=_ENDINGS[self.ends or "lost"])
        body = b"".join(answer.chunks)
        if self.insert is not None and answer.streamed:
            at, extra = self.insert
            records = _records(body)
            body = b"".join([*records[:at], extra, *records[at:]])
        ending = answer.ending
        if self.ends is not None:
            body, ending = self._cut(body, streamed=answer.streamed), _ENDINGS[self.ends]
            if not answer.streamed and ending in {"end", "pings"}:
                # A body that announced its length cannot end early in a clean way, nor have pings in it.
                ending = "lost" if ending == "end" else "stall"
        size = self.piece or (len(body) or 1)
        chunks = tuple(body[at : at + size] for at in range(0, len(body), size))
        if self.piece is None and self.ends is None and self.insert is None:
            chunks = answer.chunks
        length = answer.length if self.ends is None else max(answer.length, len(body) + 1)
        return evolve(answer, chunks=chunks, ending=ending, length=length, pace=self.pace)

    def _cut(self, body: bytes, *, streamed: bool) -> bytes:
        if self.byte_count is not None:
            return body[: self.byte_count]
        if self.events is None or not streamed:
            return body[: len(body) // 2] if self.events else b""
        records = _records(body)
        return b"".join(records[: min(self.events, len(records) - 1)])


def _records(body: bytes) -> list[bytes]:
    return [record + _RECORD for record in body.split(_RECORD) if record]
