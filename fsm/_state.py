"""A state as data: its name, and where each event leads. The kinds are in `_states`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar, Self

from attrs import evolve, frozen

from ._alphabet import accepted_by
from ._effects import Effect, as_effect
from ._errors import DeclarationError
from ._facts import Facts
from ._guards import Guard, as_guard


@frozen
class Alternative:
    """One target of an event: the state, the guard that lets it pass, the effects of taking it."""

    target: State
    guard: Guard | None = None
    effects: tuple[Effect, ...] = ()

    def when(self, guard: Guard | Callable[[Facts], bool]) -> Alternative:
        """Take it only when the guard holds (both, where it has one already)."""
        with self.target.named():
            new = as_guard(guard)
        return evolve(self, guard=new if self.guard is None else self.guard & new)

    def then(self, *effects: Effect) -> Alternative:
        """Do this when it is taken, in this order."""
        with self.target.named():
            return evolve(self, effects=(*self.effects, *map(as_effect, effects)))


class State:
    """A place in the conversation. Use one of the kinds below."""

    kind: ClassVar[str] = ""
    history: str | None = None

    def __init__(self, *, initial: bool = False) -> None:
        if not isinstance(initial, bool):
            msg = f"initial= is True or False, not {initial!r}"
            raise DeclarationError(msg)
        self.name: str | None = None
        self.owner: str | None = None
        self.family: object = None  # the class it was declared in; targets resolve by name along the bases
        self.initial = initial
        self.rows: dict[str, tuple[Alternative, ...]] = {}
        self.row_lines: dict[str, str] = {}
        self.where = _declared_at()
        self.sealed = False

    def __set_name__(self, owner: type, name: str) -> None:
        if self.name is None:
            self.name, self.owner = name, owner.__name__
            self.family = owner

    def when(self, guard: Guard | Callable[[Facts], bool]) -> Alternative:
        """This state as a target that is taken only when the guard holds."""
        return Alternative(self).when(guard)

    def then(self, *effects: Effect) -> Alternative:
        """This state as a target, with effects."""
        return Alternative(self).then(*effects)

    def _on(self, rows: Mapping[str, Any], misplaced: Sequence[Any] = ()) -> Self:
        with self.named():
            return self._lead_all(rows, misplaced)

    def _lead_all(self, rows: Mapping[str, Any], misplaced: Sequence[Any]) -> Self:
        if misplaced:
            event = misplaced[0] if isinstance(misplaced[0], str) and misplaced[0].isidentifier() else "event"
            msg = f"a {self.kind} state takes its rows by name: write .on({event}=...)"
            raise DeclarationError(msg)
        if self.sealed:
            msg = (
                f"'{self.owner}.{self.name}' belongs to a finished workflow and takes no more rows: "
                f"subclass it and write {self.name} = {self.owner}.{self.name}.replace({next(iter(rows), 'event')}=...)"
            )
            raise DeclarationError(msg)
        for event, target in rows.items():
            if event in self.rows:
                msg = f"{self.kind} state: {event} has a row already; give its alternatives as one list"
                raise DeclarationError(msg)
            self.lead(event, target)
        return self

    def lead(self, event: str, target: Any) -> None:
        """Add one row; `.on` is the typed way to say it."""
        if not self.accepts(event):
            near = difflib.get_close_matches(event, self.alphabet(), 1)
            hint = f"did you mean {near[0]}?" if near else f"it accepts {', '.join(self.alphabet())}"
            msg = f"a {self.kind} state has no event {event!r}: {hint}"
            raise DeclarationError(msg)
        self.rows[event] = _alternatives(event, target)
        self.row_lines[event] = _declared_at()

    def replace(self, **rows: Any) -> Self:
        """A copy with these rows instead, for a subclass; the other rows stay."""
        copy = self.bare()
        copy.rows, copy.row_lines = dict(self.rows), dict(self.row_lines)
        with self.named():
            for event, target in rows.items():
                copy.lead(event, target)
        copy.where = _declared_at()
        return copy

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let a refused declaration say which state it is of."""
        try:
            yield
        except DeclarationError as error:
            name = self.name or _variable_of(self)
            if name is None:
                raise
            msg = f"'{name}': {error}"
            raise DeclarationError(msg) from error.__cause__

    def as_later(self) -> Self:
        """The same state, not the first one: a subclass begins elsewhere."""
        if not self.initial:
            return self
        copy = self.replace()
        copy.name, copy.owner, copy.family, copy.where = self.name, self.owner, self.family, self.where
        copy.initial = False
        return copy

    def bare(self) -> Self:
        """A copy without rows, without owner."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.name = copy.owner = copy.family = None
        copy.rows, copy.row_lines, copy.sealed = {}, {}, False
        return copy

    def alphabet(self) -> tuple[str, ...]:
        """The events that it accepts."""
        return accepted_by(self.kind)

    def accepts(self, event: str) -> bool:
        """Whether the event belongs to this kind of state."""
        return event in self.alphabet()

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name or '(unnamed)'} at {self.where}>"


Target = State | Alternative | Sequence[State | Alternative]


def _alternatives(event: str, target: Any) -> tuple[Alternative, ...]:
    given = list(target) if isinstance(target, (list, tuple)) else [target]
    if not given:
        msg = f"{event}=[] leads nowhere: give a state"
        raise DeclarationError(msg)
    for item in given:
        if not isinstance(item, (State, Alternative)):
            msg = f"{event}= leads to a state, state.when(...), state.then(...) or a list of these, not {item!r}"
            raise DeclarationError(msg)
    return tuple(item if isinstance(item, Alternative) else Alternative(item) for item in given)


def _caller() -> FrameType:
    """The frame outside this package that is being executed."""
    frame = sys._getframe(1)  # noqa: SLF001 - documented, and the only cheap way to know the caller's line
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("fsm.", "contextlib")):
        frame = frame.f_back
    return frame


def _variable_of(state: State) -> str | None:
    """The name that a state has in the class body being executed: Python tells it to the state only at its end."""
    return next((name for name, value in _caller().f_locals.items() if value is state), None)


def _declared_at() -> str:
    """file:line of the statement outside this package that is being executed."""
    frame = _caller()
    return f"{frame.f_code.co_filename.replace(chr(92), '/').rsplit('/', 1)[-1]}:{frame.f_lineno}"
