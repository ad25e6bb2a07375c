"""What happened: the frozen values that `Conversation.feed` takes.

Time, randomness and the results of I/O arrive inside them, so that the core needs neither a clock nor a socket. `at`
is seconds since the epoch, `seconds` a duration, `draw` a number in [0, 1) for the jitter of a back-off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen


@frozen
class Started:
    """A run begins. `messages` is the input as Messages API messages; `systems` holds what `system=` functions gave."""

    at: float
    run_id: str
    messages: tuple[Mapping[str, Any], ...]
    tags: Mapping[str, str] = field(factory=dict, kw_only=True)
    systems: Mapping[str, Any] = field(factory=dict, kw_only=True)
    # state -> the digests of the parts of its request head (R35)
    heads: Mapping[str, Mapping[str, str]] = field(factory=dict, kw_only=True)
    carried: Mapping[str, tuple[str, ...]] = field(factory=dict, kw_only=True)  # history -> encoded messages (after=)
    limits: Mapping[str, float] = field(factory=dict, kw_only=True)
    fingerprint: str = field(default="", kw_only=True)  # of the workflow, which tells its versions apart
    trace: str = field(default="", kw_only=True)  # the span of this drive, as a `traceparent`


@frozen
class Replied:
    """A complete Messages reply. `content_json` is the raw text of its `content`, echoed byte for byte (V-echo2)."""

    at: float
    message: Mapping[str, Any]
    content_json: str = field(repr=False)
    request_id: str | None = field(default=None, kw_only=True)
    seconds: float = field(default=0.0, kw_only=True)
    price: float | None = field(default=None, kw_only=True)


@frozen
class Failed:
    """A request that gave no reply. `event` is the event of the alphabet; `type`, `status`, `code` stay raw."""

    at: float
    event: str
    message: str
    status: int | None = field(default=None, kw_only=True)
    type: str | None = field(default=None, kw_only=True)
    code: str | None = field(default=None, kw_only=True)
    retry_after: float | None = field(default=None, kw_only=True)
    should_retry: bool | None = field(default=None, kw_only=True)  # E20: what the server says of sending it again
    request_id: str | None = field(default=None, kw_only=True)
    draw: float = field(default=0.5, kw_only=True)
    seconds: float = field(default=0.0, kw_only=True)


@frozen
class ToolEnd:
    """The result of one call: text or content blocks for the model."""

    call_id: str
    content: Any
    is_error: bool = field(default=False, kw_only=True)
    seconds: float = field(default=0.0, kw_only=True)


@frozen
class ToolsEnded:
    """Some of the running calls have ended."""

    at: float
    ends: tuple[ToolEnd, ...]


@frozen
class Decision:
    """What a person decided on one call. `input` is set for an edit, `reason` for a denial."""

    verb: Literal["approve", "edit", "deny"]
    input: Mapping[str, Any] | None = None
    reason: str | None = None


@frozen
class Answered:
    """A person answered: text (or content blocks) in a `Human` state, decisions by call id in an `Approval` state."""

    at: float
    said: Any = field(default=None, kw_only=True)
    decisions: Mapping[str, Decision] = field(factory=dict, kw_only=True)
    trace: str = field(default="", kw_only=True)  # the span of this drive, as a `traceparent`


@frozen
class CodeEnded:
    """A `Code` function returned an outcome with a value, or raised (`error` holds the text)."""

    at: float
    outcome: str | None
    value: Any = None
    error: str | None = field(default=None, kw_only=True)
    seconds: float = field(default=0.0, kw_only=True)


@frozen
class TimePassed:
    """The clock moved: a wait or an approval may be over."""

    at: float


@frozen
class Cancelled:
    """The user ends the run."""

    at: float
    reason: str = "cancelled by the user"


@frozen
class Parked:
    """The run stands still, resumable: nobody answers (`waiting_person`), or the task was cancelled (`interrupted`).

    `untouched` names what was recorded as begun and was never entered: ids of calls, or the `Code` state. It is begun
    anew when the run goes on.
    """

    at: float
    reason: str = "interrupted"
    untouched: tuple[str, ...] = field(default=(), kw_only=True)


@frozen
class Resumed:
    """A parked or crashed run is taken up again."""

    at: float
    trace: str = field(default="", kw_only=True)  # the span of this drive, as a `traceparent`


@frozen
class Migrated:
    """A run goes on under another version of its workflow.

    `fingerprint` names that version, `renamed` its names of states that were called otherwise before, `heads` what its
    new states send (R35).
    """

    at: float
    fingerprint: str
    renamed: Mapping[str, str] = field(factory=dict, kw_only=True)
    heads: Mapping[str, Mapping[str, str]] = field(factory=dict, kw_only=True)


Event = (
    Started
    | Replied
    | Failed
    | ToolsEnded
    | Answered
    | CodeEnded
    | TimePassed
    | Cancelled
    | Parked
    | Resumed
    | Migrated
)
