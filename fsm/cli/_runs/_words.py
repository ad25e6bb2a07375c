"""What a person decided, as words of the command line → decisions.

    approve                          every open call
    approve 1 3 deny 2 because "…"   some of them, another with a reason that Claude reads
    edit refund '{"euros": 5}'       with another input, the whole of it
    say "the kettle"                 where words are asked for

A call is named by its number, its tool or its id, each of them exactly: these are decisions, and every id begins alike.
A call that is not named stays undecided and is asked about again.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from fsm import approve, deny, edit
from fsm._actions import OpenCall, Question
from fsm._events import Decision
from fsm._terminal import one_line, visible
from fsm.cli._errors import CommandError

VERBS = ("approve", "deny", "edit", "say")
_BECAUSE = "because"
_DECIDING = "approve [CALL ...], deny [CALL ...] [because REASON], edit [CALL] JSON"
FORMS = f"{_DECIDING}, say TEXT"

Check = Callable[[OpenCall, Mapping[str, Any]], str | None]


@frozen
class _Asked:
    """The question, with the numbers of its calls and what an edited input is checked by."""

    question: Question
    numbers: Mapping[str, int]
    check: Check

    def fitting(self, name: str) -> list[OpenCall]:
        """The open calls of this number, id or tool."""
        calls = self.question.calls
        for fits in (
            [call for call in calls if name == str(self.numbers[call.id])],
            [call for call in calls if call.id == name],
            [call for call in calls if call.name == name],
        ):
            if fits:
                return fits
        return []

    def call(self, name: str, hint: str = "") -> OpenCall:
        """The one open call that is meant; `hint` is said where there is none."""
        fits = self.fitting(name)
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise CommandError(f"{len(fits)} open calls are meant by {name!r}: name one by its number. {self.open}")
        is_what = "a call is its number, its tool's name or its whole id"
        raise CommandError(f"no open call is meant by {name!r}: {is_what}{hint}. {self.open}")

    def meant(self, names: Sequence[str]) -> list[OpenCall]:
        """The calls of these names; all, where there are none."""
        return [self.call(name) for name in names] if names else list(self.question.calls)

    @property
    def open(self) -> str:
        """The open calls, for an error."""
        return f"Open: {', '.join(f'{self.numbers[call.id]} {named(call)}' for call in self.question.calls)}"


def answer_of(
    words: Sequence[str], question: Question, numbers: Mapping[str, int], *, reason: str | None, check: Check
) -> str | dict[str, Decision]:
    """The answer that these words give to a question.

    Params:
        words: beginning with a verb.
        numbers: of the calls, by id.
        reason: for denials that have none of their own.
        check: says what is wrong with an edited input.

    Raises:
        CommandError: the words are none of the forms, name no open call, or edit against the tool's schema.
    """
    if words[0] not in VERBS:
        raise CommandError(f"an answer begins with a verb, not {words[0]!r}: {FORMS}")
    if question.kind == "words":
        return _said(words, question)
    asked = _Asked(question, numbers, check)
    if words[0] == "say":
        raise CommandError(f"a decision is asked for, not words: {_DECIDING}. {asked.open}")
    decisions: dict[str, Decision] = {}
    for verb, given in _clauses(words):
        for call, decision in _decided(verb, given, asked, reason):
            if call.id in decisions:
                raise CommandError(f"{named(call)} is decided on twice: name each call once")
            decisions[call.id] = decision
    if reason is not None and not any(each.verb == "deny" for each in decisions.values()):
        raise CommandError("--reason is for what is denied, and nothing is")
    return decisions


def _said(words: Sequence[str], question: Question) -> str:
    if words[0] != "say":
        raise CommandError(f"state '{one_line(question.state, 64)}' asks for words, no call is open: say TEXT")
    text = " ".join(words[1:]).strip()
    if not text:
        raise CommandError("nothing is said: say TEXT")
    return text


def _clauses(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each verb with what follows it; a word after `because` is a reason, whatever it reads."""
    clauses: list[tuple[str, list[str]]] = []
    before = ""
    for word in words:
        if word in VERBS and before != _BECAUSE:
            clauses.append((word, []))
        else:
            clauses[-1][1].append(word)
        before = word
    return clauses


def _decided(verb: str, given: list[str], asked: _Asked, reason: str | None) -> list[tuple[OpenCall, Decision]]:
    match verb:
        case "approve":
            return [(call, approve()) for call in asked.meant(given)]
        case "deny":
            names, why = _with_reason(given, asked)
            return [(call, deny(why or reason)) for call in asked.meant(names)]
        case "edit":
            return _edited(given, asked)
    raise CommandError(f"'say' does not go together with decisions: {_DECIDING}")


def _with_reason(given: list[str], asked: _Asked) -> tuple[list[str], str | None]:
    at = given.index(_BECAUSE) if _BECAUSE in given else len(given)
    calls = next((n for n, word in enumerate(given[:at]) if not asked.fitting(word)), at)
    reason = " ".join([*given[calls:at], *given[at + 1 :]])
    hint = f"; a reason follows because:  {shlex.join(['deny', *given[:calls], _BECAUSE, reason or 'too much'])}"
    if calls < at and not given[calls].isdecimal():
        asked.call(given[calls], hint)
    if at < len(given) and len(given) != at + 2:
        raise CommandError(f"because takes one text, in quotes{hint}")
    return given[:at], given[at + 1] if at < len(given) else None


def _edited(given: list[str], asked: _Asked) -> list[tuple[OpenCall, Decision]]:
    pairs = given
    if len(given) == 1 and len(asked.question.calls) == 1:
        pairs = [asked.question.calls[0].id, given[0]]
    if not pairs or len(pairs) % 2:
        raise CommandError(f"edit takes a call and its whole new input as JSON: edit 1 '{{...}}'. {asked.open}")
    made = []
    for name, text in zip(pairs[::2], pairs[1::2], strict=True):
        call = asked.call(name)
        try:
            new_input = json.loads(text)
        except ValueError as error:
            raise CommandError(f"the new input of {named(call)} is no JSON: {error}. {_present(call)}") from error
        if not isinstance(new_input, dict):
            raise CommandError(f"the new input of {named(call)} is a JSON object, in braces. {_present(call)}")
        problem = asked.check(call, new_input)
        if problem is not None:
            raise CommandError(f"the new input does not fit {named(call)}: {one_line(problem, 400)}. {_present(call)}")
        made.append((call, edit(new_input)))
    return made


def _present(call: OpenCall) -> str:
    """The input that an edit replaces, to copy, as the shell takes it."""
    return f"edit takes the whole new input; the present one is  {shlex.quote(visible(call.input))}"


def named(call: OpenCall) -> str:
    """A call as it is named in messages."""
    return f"{one_line(call.name, 64)} ({one_line(call.id, 64)})"
