"""Your Claude loop is a state machine. Declare it, see it, test it.

`from fsm import Claude, Final, Tools, Workflow, run, tool` is where to begin; the README has the first example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._actions import OpenCall, Question
from ._compare import Comparison, compare
from ._effects import Effect, back_off, compact, discard, effect, grow, park, say, switch_model
from ._errors import (
    ConcurrentWriter,
    ConversationEnded,
    DecisionError,
    DeclarationError,
    FsmError,
    IllegalMove,
    IllegalRequest,
    JournalError,
    LoopFinding,
    MissingExtra,
    MissingProgram,
    RunError,
    SealedMachine,
    UsageError,
    WireError,
    WorkflowError,
)
from ._exits import exits
from ._facts import Facts, Usage
from ._fork import fork
from ._guards import (
    Guard,
    attempts_left,
    calls,
    cut_in_call,
    guard,
    matched,
    output,
    room_to_grow,
    rounds_left,
    said_is,
    untried,
    value_is,
)
from ._legality import Profile, Violation, profile_of, repaired, violations
from ._params import Limits
from ._records import Move, Record, Verdict
from ._redact import SecretsFilter, redact_secrets
from ._result import Result, approve, deny, edit
from ._running import (
    aiterate,
    aresume,
    arun,
    ask_on_terminal,
    cancel,
    iterate,
    resume,
    run,
)
from ._states import Approval, Claude, Code, Final, Human, Outcome, Tools
from ._steps import steps
from ._toolspec import Context
from ._verify import verify
from ._version import __version__
from ._versions import migrate
from ._workflow import Workflow
from .drivers._draining import Drain, draining
from .journal import MemoryStore, Store
from .tools import tool

if TYPE_CHECKING:
    from ._watch import watch
    from ._wire import Delta

__all__ = [
    "Approval",
    "Claude",
    "Code",
    "Comparison",
    "ConcurrentWriter",
    "Context",
    "ConversationEnded",
    "DecisionError",
    "DeclarationError",
    "Delta",
    "Drain",
    "Effect",
    "Facts",
    "Final",
    "FsmError",
    "Guard",
    "Human",
    "IllegalMove",
    "IllegalRequest",
    "JournalError",
    "Limits",
    "LoopFinding",
    "MemoryStore",
    "MissingExtra",
    "MissingProgram",
    "Move",
    "OpenCall",
    "Outcome",
    "Profile",
    "Question",
    "Record",
    "Result",
    "RunError",
    "SealedMachine",
    "SecretsFilter",
    "Store",
    "Tools",
    "Usage",
    "UsageError",
    "Verdict",
    "Violation",
    "WireError",
    "Workflow",
    "WorkflowError",
    "__version__",
    "aiterate",
    "approve",
    "aresume",
    "arun",
    "ask_on_terminal",
    "attempts_left",
    "back_off",
    "calls",
    "cancel",
    "compact",
    "compare",
    "cut_in_call",
    "deny",
    "discard",
    "draining",
    "edit",
    "effect",
    "exits",
    "fork",
    "grow",
    "guard",
    "iterate",
    "matched",
    "migrate",
    "output",
    "park",
    "profile_of",
    "redact_secrets",
    "repaired",
    "resume",
    "room_to_grow",
    "rounds_left",
    "run",
    "said_is",
    "say",
    "steps",
    "switch_model",
    "tool",
    "untried",
    "value_is",
    "verify",
    "violations",
    "watch",
]


def __getattr__(name: str) -> Any:
    # `watch` works inside the SDK, whose import takes over a second: it is imported when it is first used.
    if name == "watch":
        from ._watch import watch

        return watch
    if name == "Delta":
        from ._wire import Delta

        return Delta
    msg = f"module 'fsm' has no attribute {name!r}"
    raise AttributeError(msg)
