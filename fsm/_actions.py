"""What to do: what the core asks the outside world for. Data, not calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from ._encoded import Encoded
from ._facts import Facts
from ._records import Verdict
from ._toolspec import ToolSpec


@frozen
class SendRequest:
    """Send this request. `head` and `history` are the two halves of the body, the messages last (rule 3)."""

    state: str
    number: int
    attempt: int
    params: Mapping[str, Any]  # everything but messages
    head: bytes = field(repr=False)  # the params, encoded as an object
    history: Encoded = field(repr=False)
    betas: tuple[str, ...] = ()

    def body(self, *, stream: bool = False) -> bytes:
        """The whole body, copied together once."""
        opening = self.head[:-1] + (b',"stream":true,"messages":[' if stream else b',"messages":[')
        return self.history.between(opening, b"]}")

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages, decoded."""
        decoded: list[dict[str, Any]] = json.loads(self.history.between(b"[", b"]"))
        return decoded

    @property
    def encoded(self) -> tuple[bytes, ...]:
        """Each message as it is sent."""
        return self.history.each()


@frozen
class OpenCall:
    """A call to run. `input` is what to run it with, `edited` whether a person changed it."""

    id: str
    name: str
    input: Mapping[str, Any]
    spec: ToolSpec | None = None  # None: the workflow has no such tool
    edited: bool = False
    toolset: str | None = None  # S6.9: the family of a toolset's member
    is_programmatic: bool = False  # S6.8: code in a container waits for the result


@frozen
class RunTools:
    """Run these calls, in parallel; each began (its intent is recorded)."""

    calls: tuple[OpenCall, ...]


@frozen
class RunCode:
    """Run the function of a `Code` state."""

    state: str
    fn: Any = field(repr=False)
    facts: Facts = field(repr=False)


@frozen
class Question:
    """What a person is asked.

    `kind` is "approval" (then `calls` holds each open call) or "words"; `prompt` is what the model said last, `why`
    says why a person is asked. Everything in it comes from a model: escape it wherever it is shown. `number` tells it
    from every other question of the run: `resume(..., answer=, question=number)` answers this one or none.
    """

    kind: Literal["approval", "words"]
    calls: tuple[OpenCall, ...] = ()
    prompt: str = ""
    why: str = ""
    state: str = ""
    expires_at: float | None = None
    number: int | None = None


@frozen
class AskHuman:
    """Ask a person; where nobody answers, park."""

    question: Question


@frozen
class Wait:
    """Wait until this time (seconds since the epoch), then feed `TimePassed`."""

    until: float
    seconds: float
    reason: str


@frozen
class Finish:
    """Nothing is left to do: the run ended, or is parked."""

    verdict: Verdict
    parked: bool = False


Action = SendRequest | RunTools | RunCode | AskHuman | Wait | Finish
