"""Asking a person on the terminal, and making foreign text fit to be printed there.

Everything a model or a tool wrote is hostile here: it may move the cursor, set the title, open a link or turn the
text around (X8). `clean` takes that out; nothing else in the package prints foreign text without it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ._actions import OpenCall, Question
from ._events import Decision

_WHOLE = 100_000  # characters: a person decides on all of it

Check = Callable[[OpenCall, Mapping[str, Any]], str | None]
"""Says what is wrong with an edited input, or None."""

# CSI, OSC and the other strings as a whole where they end on the same line, so that no debris such as "[31m" stays; the
# introducers alone are control characters and go with them.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-Z\\^-~]"
)
_BREAKS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f"  # C0, DEL, C1; tab and line feed stay
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they turn text around
    "\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # they hide text
    "\ud800-\udfff]"  # halves of characters, which no terminal can show
)

_INVISIBLE = re.compile(
    f"{_BREAKS.pattern}|{_HIDDEN.pattern}|[\\t\\n\\u00a0\\u00ad\\u180e\\u2000-\\u200d\\u202f\\u3164\\ufe00-\\ufe0f]"
)


def clean(text: object) -> str:
    """Foreign text without anything that a terminal would act upon; line breaks stay, tabs become spaces (X8)."""
    without = _SEQUENCES.sub("", str(text))
    return _HIDDEN.sub("", _BREAKS.sub("\n", without)).expandtabs(4)


def one_line(text: object, limit: int = 200) -> str:
    """The same on one line of at most `limit` characters, with … where something is left out."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"


def visible(value: Any) -> str:
    """A JSON value on one line, nothing left out: what cannot be seen stands there as an escape (X8).

    For what a person decides on, where a character that is taken out would show another value than the one that runs.
    """
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return _INVISIBLE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def shown_call(name: str, given: Mapping[str, Any], limit: int = 200) -> str:
    """A tool call as one line: `refund(number="7", euros=249.0)`."""
    inside = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False, default=repr)}" for key, value in given.items())
    return one_line(f"{name}({inside})", limit)


def shown_input(given: Mapping[str, Any]) -> list[str]:
    """The input of a call, complete, one line for each of its fields: what a person decides on."""
    names = {name: visible(name)[1:-1] for name in given}
    width = min(max(map(len, names.values()), default=0), 30)
    return [f"{names[name]:{width}}  {visible(value)}" for name, value in given.items()]


def ask(question: Question, *, check: Check | None = None) -> str | dict[str, Decision] | None:
    """Ask a person on the terminal.

    Params:
        question: what is asked.
        check: says what is wrong with an edited input; the person is asked again.

    Returns:
        What was said, or a decision for each call that was not left for later; None (the run parks) for nothing at all.
    """
    if question.kind == "approval":
        return _decisions(question, check or _anything)
    try:
        return _words(question)
    except EOFError:
        print()  # noqa: T201 - the terminal is where it asks
        return None


def _anything(call: OpenCall, given: Mapping[str, Any]) -> str | None:
    del call, given
    return None


def _words(question: Question) -> str | None:
    if question.prompt:
        print(f"\nClaude: {clean(question.prompt)}\n")  # noqa: T201 - as above
    return input("you: ").strip() or None


def _decisions(question: Question, check: Check) -> dict[str, Decision] | None:
    decisions: dict[str, Decision] = {}
    count = len(question.calls)
    for number, call in enumerate(question.calls, 1):
        place = f" ({number} of {count})" if count > 1 else ""
        print(f"\n  Claude wants to call {one_line(call.name, _WHOLE)}{place}:")  # noqa: T201 - as above
        for row in shown_input(call.input):
            print(f"    {row}")  # noqa: T201 - as above
        if question.why and question.why != "needs_approval":
            print(f"  {one_line(question.why)}")  # noqa: T201 - as above
        try:
            decision = _decision(call, check)
        except EOFError:
            print()  # noqa: T201 - as above
            break
        if decision is not None:
            decisions[call.id] = decision
    if decisions and len(decisions) < count:
        print(f"\n  {len(decisions)} of {count} decided; what is left is asked again.")  # noqa: T201 - as above
    return decisions or None


def _decision(call: OpenCall, check: Check) -> Decision | None:
    while True:
        answer = input("  [a]pprove, [d]eny or [e]dit it? Enter alone leaves it for later: ").strip().lower()
        if not answer:
            return None
        if answer in {"a", "approve", "y", "yes"}:
            return Decision("approve")
        if answer in {"d", "deny", "n", "no"}:
            return Decision("deny", reason=input("  Why? Claude reads it (may be empty): ").strip() or None)
        if answer in {"e", "edit"}:
            given = _edited(call, check)
            if given is not None:
                return Decision("edit", input=given)
        else:
            print("  Please answer a, d or e.")  # noqa: T201 - as above


def _edited(call: OpenCall, check: Check) -> dict[str, Any] | None:
    print(f"  It is:  {visible(call.input)}")  # noqa: T201 - as above
    line = input("  The whole new input as JSON on one line: ").strip()
    try:
        given = json.loads(line)
    except ValueError as error:
        print(f"  That is no JSON: {error}")  # noqa: T201 - as above
        return None
    if not isinstance(given, dict):
        print("  The input of a tool is a JSON object, in braces.")  # noqa: T201 - as above
        return None
    problem = check(call, given)
    if problem is not None:
        print(f"  That does not fit the tool: {one_line(problem)}")  # noqa: T201 - as above
        return None
    if left := left_out(call, given):
        print(f"  Without {left}, which it had.")  # noqa: T201 - as above
    return given


def left_out(call: OpenCall, given: Mapping[str, Any]) -> str:
    """The fields that an edit takes away, for it replaces the whole input; empty where it takes none."""
    return ", ".join(visible(name)[1:-1] for name in call.input if name not in given)
