"""Named predicates over `Facts`: when an arrow may be taken.

A guard has a name, because pictures and records print it; it is pure, because the same facts must decide the same
way. `bound` says that it stops being true after finitely many takings, which the halting check (W5) needs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, overload

from attrs import field, frozen

from ._errors import DeclarationError
from ._facts import SUCCESS, Facts

Predicate = Callable[[Facts], bool]


@frozen
class Guard:
    """A named predicate. Compose with `&`, `|`, `~`; the name is composed alike."""

    name: str
    holds: Predicate = field(repr=False)
    bound: bool = field(default=False, kw_only=True)
    doc: str = field(default="", kw_only=True, repr=False, eq=False)

    def __call__(self, facts: Facts) -> bool:
        """Whether it holds. A `transitions` EventData is accepted too, so that a guard is a condition there."""
        kwargs = getattr(facts, "kwargs", None)
        return bool(self.holds(kwargs["facts"] if kwargs is not None else facts))

    def __and__(self, other: Guard) -> Guard:
        return Guard(
            f"{self._inner('|')} & {other._inner('|')}",
            _Both(self, other),
            bound=self.bound or other.bound,
        )

    def __or__(self, other: Guard) -> Guard:
        return Guard(
            f"{self._inner('&')} | {other._inner('&')}",
            _Either(self, other),
            bound=self.bound and other.bound,
        )

    def __invert__(self) -> Guard:
        name = f"({self.name})" if " " in self.name else self.name
        return Guard(f"not {name}", _Not(self))

    def __str__(self) -> str:
        return self.name

    @property
    def __name__(self) -> str:
        return self.name

    def _inner(self, operator: str) -> str:
        return f"({self.name})" if f" {operator} " in self.name else self.name


@frozen
class _Both:
    """Values, not closures, so that two guards composed alike are equal."""

    left: Guard
    right: Guard

    def __call__(self, facts: Facts) -> bool:
        return self.left(facts) and self.right(facts)


@frozen
class _Either:
    left: Guard
    right: Guard

    def __call__(self, facts: Facts) -> bool:
        return self.left(facts) or self.right(facts)


@frozen
class _Not:
    inner: Guard

    def __call__(self, facts: Facts) -> bool:
        return not self.inner(facts)


def leaves(guard: Guard) -> tuple[Guard, ...]:
    """The guards that one is composed of; itself where it is not composed."""
    match guard.holds:
        case _Both(left, right) | _Either(left, right):
            return (*leaves(left), *leaves(right))
        case _Not(inner):
            return leaves(inner)
    return (guard,)


def idle(leaf: Guard, kind: str, event: str) -> bool:
    """Whether a guard counts nothing on this event in a state of this kind, so that it bounds nothing there.

    The one place that says so. A success resets the attempts of its `Claude` state, and what was grown; nothing but a
    `Claude` state has a `max_tokens` to grow.
    """
    is_success = kind == "Claude" and event in SUCCESS
    if leaf is room_to_grow or leaf == room_to_grow:
        return kind != "Claude" or is_success
    return isinstance(leaf.holds, _AttemptsLeft) and is_success


def bounds(guard: Guard, kind: str, event: str, *, but_attempts: bool = False) -> bool:
    """Whether a guard stops being true after finitely many takings of this event in a state of this kind (W5).

    `but_attempts` leaves those out whose counter another event of the same state sets back (states that are no
    `Claude` state).
    """
    match guard.holds:
        case _Both(left, right):
            return any(bounds(g, kind, event, but_attempts=but_attempts) for g in (left, right))
        case _Either(left, right):
            return all(bounds(g, kind, event, but_attempts=but_attempts) for g in (left, right))
        case _Not():
            return False
    counts = but_attempts and kind != "Claude" and isinstance(guard.holds, _AttemptsLeft)
    return guard.bound and not counts and not idle(guard, kind, event)


@overload
def guard(fn: Predicate) -> Guard: ...
@overload
def guard(*, name: str | None = None, bound: bool = False) -> Callable[[Predicate], Guard]: ...
def guard(
    fn: Predicate | None = None, *, name: str | None = None, bound: bool = False
) -> Guard | Callable[[Predicate], Guard]:
    """Make a function of `Facts` a guard: `@guard`, `@guard(bound=True)`, `@guard(name="...")`.

    `bound=True` promises that it stops being true after finitely many takings of its arrow (W5).
    """

    def make(predicate: Predicate) -> Guard:
        pure_function(predicate, "guard")
        known = str(name or getattr(predicate, "__name__", ""))
        return Guard(named(known, "guard"), predicate, bound=bound, doc=(predicate.__doc__ or "").strip())

    return make(fn) if fn is not None else make


def as_guard(thing: Any) -> Guard:
    """A guard, or a named function as one.

    Raises:
        DeclarationError: a bare lambda, or nothing callable.
    """
    if isinstance(thing, Guard):
        return thing
    if not callable(thing):
        msg = f".when() takes a guard, not {thing!r}: decorate a function of Facts with @guard"
        raise DeclarationError(msg)
    pure_function(thing, "guard")
    return Guard(named(getattr(thing, "__name__", ""), "guard"), thing, doc=(thing.__doc__ or "").strip())


def named(name: str, what: str) -> str:
    """The name of a guard or effect.

    Raises:
        DeclarationError: there is none; pictures and records print it.
    """
    if not name or name == "<lambda>":
        msg = f"a {what} needs a name, since pictures and records print it: use @{what} on a def, or @{what}(name=...)"
        raise DeclarationError(msg)
    return name


def pure_function(fn: Any, what: str, argument: str = "Facts") -> None:
    """Refuse a function that could not decide: an async one (its coroutine is always true), one without a parameter.

    Raises:
        DeclarationError: with the remedy.
    """
    name = getattr(fn, "__name__", "") or type(fn).__name__
    if inspect.iscoroutinefunction(fn):
        msg = f"the {what} '{name}' is async: it must decide at once from {argument}; do I/O in a tool or a Code state"
        raise DeclarationError(msg)
    try:
        inspect.signature(fn).bind(None)
    except TypeError:
        msg = f"the {what} '{name}' must take one argument, the {argument}"
        raise DeclarationError(msg) from None
    except ValueError:  # a builtin without a signature
        return


def _at_most_once_less(name: str, limit: float) -> float:
    if not limit > 0:
        msg = f"{name} must be more than 0, not {limit!r}"
        raise DeclarationError(msg)
    return limit


# --- built in ------------------------------------------------------------------------------------------------------


@frozen
class _AttemptsLeft:
    limit: int
    seconds_each: float
    seconds_all: float

    def __call__(self, facts: Facts) -> bool:
        if facts.attempts >= self.limit or facts.waited >= self.seconds_all:
            return False
        failure = facts.failure
        if failure is None or failure.event != facts.event:
            return True
        # E21: an hour in retry-after would sleep for an hour; park instead, with the time at which to try again.
        asked = failure.retry_after or 0.0
        is_final = failure.is_spend_cap or failure.should_retry is False  # E11, E20
        return not is_final and asked <= self.seconds_each and facts.waited + asked <= self.seconds_all


def attempts_left(limit: int = 6, *, seconds_each: float = 60.0, seconds_all: float = 600.0) -> Guard:
    """Fewer than `limit` events of this kind came in this state since the last success.

    In a `Claude` state a success is `end_turn`, `stop_sequence` or `tool_use`; on these themselves it would always hold
    and is refused (W5): `rounds_left(n)` bounds them. In every other state any other event begins the count anew.
    For errors also: what the API asks to wait is at most `seconds_each`, all waits together at most `seconds_all`
    seconds, no spend cap was reached, and the server did not say `x-should-retry: false` (E11, E20, E21).
    """
    _at_most_once_less("attempts_left", limit)
    return Guard(
        f"attempts_left({limit})",
        _AttemptsLeft(limit, seconds_each, seconds_all),
        bound=True,
        doc="Fewer attempts than allowed since the last success.",
    )


@frozen
class _RoundsLeft:
    limit: int

    def __call__(self, facts: Facts) -> bool:
        return facts.rounds < self.limit


def rounds_left(limit: int) -> Guard:
    """The arrow that carries it was taken fewer than `limit` times in this run."""
    _at_most_once_less("rounds_left", limit)
    return Guard(f"rounds_left({limit})", _RoundsLeft(limit), bound=True, doc="The arrow was taken fewer times.")


def _has_room(facts: Facts) -> bool:
    below = facts.max_tokens_cap is None or facts.max_tokens < facts.max_tokens_cap
    return below and facts.attempts < _GROW_LIMIT


_GROW_LIMIT = 2  # S14: two larger requests, then the partial reply is what there is
room_to_grow = Guard(
    "room_to_grow", _has_room, bound=True, doc="max_tokens is below the model's cap and was raised fewer than 2 times."
)


def _is_cut_in_call(facts: Facts) -> bool:
    return facts.cut_in_call


cut_in_call = Guard(
    "cut_in_call",
    _is_cut_in_call,
    doc="The cut reply holds a tool call, structured output, or no text: nothing of it can be continued.",
)


@frozen
class _Untried:
    model: str

    def __call__(self, facts: Facts) -> bool:
        return not facts.refusals.get(self.model)


def untried(model: str) -> Guard:
    """This model has refused nothing in this run: `refusal=[asking.when(untried(m)).then(switch_model(m)), ...]` (S14).

    It bounds the arrow that switches to the same model: one refusal of each model is enough.
    """
    return Guard(f"untried({model})", _Untried(model), doc="This model has refused nothing in this run.")


def untried_model(leaf: Guard) -> str | None:
    """The model that an `untried` guard asks about; None for every other guard."""
    return leaf.holds.model if isinstance(leaf.holds, _Untried) else None


@frozen
class _Calls:
    tools: frozenset[str]

    def __call__(self, facts: Facts) -> bool:
        return any(call.name in self.tools for call in facts.calls)


def calls(*tools: str) -> Guard:
    """The newest reply calls one of these tools."""
    return Guard(f"calls({', '.join(tools)})", _Calls(frozenset(tools)), doc="The newest reply calls this tool.")


@frozen
class _Matched:
    sequence: str

    def __call__(self, facts: Facts) -> bool:
        return facts.reply is not None and facts.reply.stop_sequence == self.sequence


def matched(sequence: str) -> Guard:
    """The stop sequence that ended the reply is this one."""
    return Guard(f"matched({sequence!r})", _Matched(sequence), doc="This stop sequence ended the reply.")


@frozen
class _Output:
    path: tuple[str, ...]
    value: Any

    def __call__(self, facts: Facts) -> bool:
        found = facts.output
        for key in self.path:
            if not isinstance(found, dict) or key not in found:
                return False
            found = found[key]
        return bool(found == self.value)


def output(path: str, value: Any) -> Guard:
    """The structured output has this value at this path ("grade", or "address.city")."""
    return Guard(f"output({path} = {value!r})", _Output(tuple(path.split(".")), value), doc="The output says so.")


@frozen
class _Said:
    text: str

    def __call__(self, facts: Facts) -> bool:
        return isinstance(facts.said, str) and facts.said.strip() == self.text


def said_is(text: str) -> Guard:
    """The person said exactly this (surrounding space apart)."""
    return Guard(f"said_is({text!r})", _Said(text), doc="The person said exactly this.")


@frozen
class _Value:
    state: str
    value: Any

    def __call__(self, facts: Facts) -> bool:
        return bool(facts.values.get(self.state) == self.value)


def value_is(state: str, value: Any) -> Guard:
    """The `Code` state of this name gave this value."""
    return Guard(f"{state} = {value!r}", _Value(state, value), doc="The Code state gave this value.")


def required_of(guard: Guard) -> tuple[Guard, ...]:
    """The guards that must all hold for this one to hold: what `&` composes; itself where nothing does."""
    if isinstance(guard.holds, _Both):
        return (*required_of(guard.holds.left), *required_of(guard.holds.right))
    return (guard,)


@frozen
class Reads:
    """What a built-in guard looks for: tools, the name of a value, a field of the output, or words of a person."""

    tools: frozenset[str] = frozenset()
    value: str = ""
    output: str = ""
    words: bool = False


def reads(leaf: Guard) -> Reads:
    """What a guard that is not composed looks for; nothing where that cannot be known."""
    match leaf.holds:
        case _Calls(tools):
            return Reads(tools)
        case _Value(state, _):
            return Reads(value=state)
        case _Output(path, _):
            return Reads(output=".".join(path))
        case _Said():
            return Reads(words=True)
    return Reads()
