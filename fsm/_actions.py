"""What to do: what the core asks the outside world for. Data, not calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from ._facts import Facts
from ._records import Verdict
from ._toolspec import ToolSpec


@frozen
class SendRequest:
    """Send this request. `head` and `messages` are the two halves of the body, `messages` last (rule 3)."""

    state: str
    number: int
    attempt: int
    params: Mapping[str, Any]  # everything but messages
    head: bytes = field(repr=False)  # the params, encoded: '{"model":...,'  without the closing brace
    messages: bytes = field(repr=False)  # the encoded messages, joined: no brackets
    betas: tuple[str, ...] = ()

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b'%b,"messages":[%b]}' % (self.head[:-1], self.messages)


@frozen
class OpenCall:
    """A call to run. `input` is what to run it with, `edited` whether a person changed it."""

    id: str
    name: str
    input: Mapping[str, Any]
    spec: ToolSpec | None = None  # None: the workflow has no such tool
    edited: bool = False


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
    says why a person is asked. Everything in it comes from a model: escape it wherever it is shown.
    """

    kind: Literal["approval", "words"]
    calls: tuple[OpenCall, ...] = ()
    prompt: str = ""
    why: str = ""
    state: str = ""
    expires_at: float | None = None


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
