"""The exceptions, by whose fault it is.

FsmError
├── DeclarationError          the author of the workflow, its guards or its tools
│   ├── WorkflowError             findings W1-W14, all at once
│   ├── DecisionError             a guard, effect or prompt raised
│   └── SealedMachine             somebody tried to change a compiled machine
├── UsageError                the caller of the library
│   ├── IllegalMove               the event is not accepted in this state
│   ├── ConversationEnded         a final state takes no event
│   ├── RunError                  unknown run id, nothing to answer, answer of the wrong form
│   ├── MissingExtra              an optional dependency is not installed
│   └── MissingProgram            a program that is no Python package is not on PATH
├── ApiError                  the API, or something between
│   └── WireError                 bytes that are not a message
├── IllegalRequest            a request the API would refuse was about to leave
├── LoopFinding               `watch(..., on_finding="raise")` found something in a foreign loop
└── JournalError              the storage
    └── ConcurrentWriter          another process drives this run
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class FsmError(Exception):
    """Everything that this library raises on purpose."""


class DeclarationError(FsmError):
    """The declaration of a workflow, guard, effect or tool is wrong; the message names the remedy."""


class WorkflowError(DeclarationError):
    """A workflow was refused. `findings` holds every finding, `workflow` the name."""

    def __init__(self, workflow: str, findings: Iterable[Any]) -> None:
        self.workflow = workflow
        self.findings = tuple(findings)
        count = len(self.findings)
        head = f"'{workflow}' is refused, {count} finding{'s' if count != 1 else ''}:"
        super().__init__("\n".join([head, *(f"  {finding}" for finding in self.findings)]))


class DecisionError(DeclarationError):
    """A guard, effect or prompt raised; the event that asked for it changed nothing. The cause is chained."""

    def __init__(self, kind: str, name: str, *, workflow: str, state: str, event: str, cause: BaseException) -> None:
        self.kind, self.name, self.workflow, self.state, self.event = kind, name, workflow, state, event
        super().__init__(
            f"{kind} '{name}' of '{workflow}' raised {type(cause).__name__} in state '{state}' on {event}: {cause}. "
            "Nothing was changed."
        )


class SealedMachine(DeclarationError):  # noqa: N818 - named for what it says, like IllegalMove
    """A compiled machine cannot be changed: declare the rows on the workflow instead."""


class UsageError(FsmError):
    """The library was called in a way that cannot work; the message says what to do."""


class IllegalMove(UsageError):  # noqa: N818 - the name users catch reads as the fact it states
    """An event that the current state does not accept; nothing was changed.

    Attributes: `workflow`, `state`, `event`, `accepted` (event names), `where` (file:line of the state).
    """

    def __init__(self, workflow: str, state: str, event: str, accepted: Iterable[str], where: str) -> None:
        self.workflow, self.state, self.event, self.where = workflow, state, event, where
        self.accepted = tuple(accepted)
        near = difflib.get_close_matches(event, self.accepted, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        super().__init__(
            f"'{workflow}' is in state '{state}' and cannot take {event}.{hint} "
            f"It accepts: {', '.join(self.accepted) or 'nothing'}. Declared at {where}."
        )


class ConversationEnded(UsageError):  # noqa: N818 - states a fact
    """The run is over: a final state takes no event. `after=` starts a new run from its history."""


class RunError(UsageError):
    """An unknown run id, nothing to answer, or an answer of the wrong form."""


class MissingExtra(UsageError):  # noqa: N818 - states a fact
    """An optional dependency is needed. `extra` names it."""

    def __init__(self, extra: str, need: str) -> None:
        self.extra = extra
        super().__init__(f"{need} needs the extra '{extra}': pip install 'claude-fsm[{extra}]'")


class MissingProgram(UsageError):  # noqa: N818 - states a fact
    """A program is needed that is not on PATH, or cannot do this. `program` names it."""

    def __init__(self, program: str, need: str, package: str, instead: str, *, failed: str = "") -> None:
        self.program = program
        lacks = f"'{program}' is on PATH and failed ({failed}); another one can be had with"
        needs = f"{need}: {lacks}" if failed else f"{need} needs the program '{program}' on PATH:"
        super().__init__(f"{needs} apt install {package}, brew install {package} or conda install {package}. {instead}")


class ApiError(FsmError):
    """The API answered with something that cannot be worked with."""


class WireError(ApiError):
    """Bytes that are not a Messages reply. `rule` names the broken rule of the grammar (G1-G20, S11.3)."""

    def __init__(self, message: str, *, rule: str) -> None:
        self.rule = rule
        super().__init__(message)


class IllegalRequest(FsmError):  # noqa: N818 - states a fact
    """A request that the API would refuse was about to leave and did not. `violations` holds rule, path, repair."""

    def __init__(self, violations: Iterable[Any]) -> None:
        self.violations = tuple(violations)
        lines = [f"  {v.rule} {v.message}\n     {v.repair}" for v in self.violations]
        super().__init__("\n".join(["the request was not sent, the API would answer 400:", *lines]))


class LoopFinding(FsmError):  # noqa: N818 - what watch() found, not an error of ours
    """`watch(..., on_finding="raise")` found a fault in the loop it watches. `finding` holds the evidence."""

    def __init__(self, finding: Any) -> None:
        self.finding = finding
        super().__init__(str(finding))


class JournalError(FsmError):
    """The journal cannot be read or written; nothing that it held was changed."""


class ConcurrentWriter(JournalError):  # noqa: N818 - states a fact
    """Another process or task drives this run. This one has written nothing."""
