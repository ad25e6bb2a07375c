"""What guards, effects, prompts and `Code` functions read: a frozen view of the conversation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

from ._alphabet import SPEND_CAPS
from ._events import Failed

SUCCESS = frozenset({"end_turn", "stop_sequence", "tool_use"})
"""What begins the count of attempts of a `Claude` state anew."""

_NONE: Mapping[str, Any] = MappingProxyType({})


@frozen
class Call:
    """One tool call of a reply. `input` is the model's own; `id` is its idempotency key.

    `toolset` is the family that a toolset's member belongs to (S6.9); `caller` the type of who makes the call where
    that is not the model itself (S6.8).
    """

    id: str
    name: str
    input: Mapping[str, Any]
    toolset: str | None = None
    caller: str | None = None

    @property
    def is_programmatic(self) -> bool:
        """Whether code in a container makes the call, and waits for its result (S6.8)."""
        return self.caller is not None and self.caller.startswith("code_execution_")


@frozen
class Result:
    """One tool result that was sent back."""

    id: str
    name: str
    content: Any
    is_error: bool = False
    toolset: str | None = None


@frozen
class Usage:
    """Tokens used, summed over the replies of a run."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0

    @property
    def total(self) -> int:
        """All tokens, cached ones included."""
        return self.input_tokens + self.output_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens

    def plus(self, usage: Mapping[str, Any]) -> Usage:
        """The sum with the `usage` object of one reply; absent or null counters are zero."""
        return Usage(
            self.input_tokens + count_of(usage, "input_tokens"),
            self.output_tokens + count_of(usage, "output_tokens"),
            self.cache_read_input_tokens + count_of(usage, "cache_read_input_tokens"),
            self.cache_creation_input_tokens + count_of(usage, "cache_creation_input_tokens"),
        )


def count_of(usage: Any, name: str) -> int:
    """A counter of a `usage` object. A gateway may have written anything there: what is no count is zero."""
    value = usage.get(name) if isinstance(usage, (dict, Mapping)) else None  # a dict is known at once, a Mapping is not
    return value if type(value) is int and value > 0 else 0


@frozen
class Reply:
    """The newest reply of the model, complete or cut."""

    id: str
    model: str
    stop_reason: str
    text: str
    calls: tuple[Call, ...] = ()
    stop_sequence: str | None = None
    output: Any = None
    usage: Mapping[str, Any] = field(default=_NONE, repr=False)
    stop_details: Mapping[str, Any] | None = None


@frozen
class Failure:
    """The newest failed attempt."""

    event: str
    message: str
    status: int | None = None
    code: str | None = None
    retry_after: float | None = None
    draw: float = 0.5
    should_retry: bool | None = None  # E20: what the server said; None: nothing

    @classmethod
    def of(cls, failed: Failed) -> Failure:
        """What guards read of a request that gave no reply."""
        return cls(
            failed.event,
            failed.message,
            failed.status,
            failed.code,
            failed.retry_after,
            failed.draw,
            failed.should_retry,
        )

    @property
    def is_spend_cap(self) -> bool:
        """Whether waiting cannot help because a spend limit was reached (E11, E1a)."""
        return self.code in SPEND_CAPS or self.code == "usage_limit"


@frozen
class Facts:
    """What is so at the moment an event is decided.

    Counters: `attempts` is how often this kind of event came in this state since the last success (in a state that is
    no `Claude` state: since another event came), not counting the present one; `rounds` is how often the arrow in
    question was taken in this run. `elapsed` is recorded work in seconds, without parked time. `max_tokens` is what
    the next request of this state would ask for, `max_tokens_cap` what its model allows (None: unknown). `refusals` is
    how often each model refused in this run, `request_id` that of the newest answer of the API.
    """

    state: str
    event: str
    reply: Reply | None = None
    failure: Failure | None = None
    results: tuple[Result, ...] = ()
    values: Mapping[str, Any] = field(default=_NONE)
    usage: Usage = field(factory=Usage)
    turns: int = 0
    tool_calls: int = 0
    elapsed: float = 0.0
    input: Any = None
    said: Any = None
    attempts: int = 0
    waited: float = 0.0
    rounds: int = 0
    max_tokens: int = 0
    max_tokens_cap: int | None = None
    tags: Mapping[str, str] = field(default=_NONE)
    continued: str = ""  # the text of the cut replies that the newest one goes on from
    cut_in_call: bool = False  # the newest reply was cut so that nothing of it can be continued
    refusals: Mapping[str, int] = field(default=_NONE)
    request_id: str | None = None

    @property
    def text(self) -> str:
        """The text of the newest reply, with what it continues; empty before the first."""
        return self.continued + self.reply.text if self.reply else ""

    @property
    def output(self) -> Any:
        """The structured output of the newest reply, or None."""
        return self.reply.output if self.reply else None

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls of the newest reply."""
        return self.reply.calls if self.reply else ()
