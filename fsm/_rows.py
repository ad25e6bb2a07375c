"""Rows of the `transitions` library become states with `.on` rows: the second form of a declaration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._effects import Effect, as_effect
from ._errors import DeclarationError
from ._exits import EXIT_STATES, SELF
from ._guards import Guard, as_guard
from ._state import Alternative, State

_KEYS = ("trigger", "source", "dest", "conditions", "unless", "effects", "implied")
_REFUSED = {
    "before": "an effect on the row: effects=[...]",
    "after": "an effect on the row: effects=[...]",
    "prepare": "a guard: conditions=[...]",
    "on_enter": "prompt= of the entered Claude state, or an effect on the rows that lead to it",
    "on_exit": "an effect on the rows that leave the state",
}
ALL = "*"


def states_of_rows(
    name: str,
    states: Mapping[str, State],
    rows: Iterable[Mapping[str, Any] | Sequence[Any]],
    guards: Mapping[str, Any],
    initial: str | None,
) -> dict[str, State]:
    """Fresh states with these rows. The states given are not changed.

    Raises:
        DeclarationError: what has no place here, with the remedy.
    """
    built: dict[str, State] = {}
    _check_name(name, "name=")
    if not isinstance(states, Mapping):
        msg = f"'{name}': states= maps names to state objects such as Claude(...), not {states!r}"
        raise DeclarationError(msg)
    for state_name, state in states.items():
        _check_name(state_name, f"'{name}': states=")
        if not isinstance(state, State):
            msg = f"'{name}': states= maps names to state objects such as Claude(...), not {state!r}"
            raise DeclarationError(msg)
        if state.rows:
            msg = (
                f"'{name}.{state_name}' has .on rows of its own beside transitions=: "
                "give its rows in one of the two forms"
            )
            raise DeclarationError(msg)
        built[state_name] = state.bare()
        built[state_name].initial = state.initial if initial is None else state_name == initial
    if initial is not None and initial not in built:
        msg = f"'{name}': initial={initial!r} is no state; the states are {', '.join(built)}"
        raise DeclarationError(msg)
    found: dict[tuple[str, str], list[Alternative]] = {}
    for number, row in enumerate(rows):
        for source, event, alternative in _read(name, number, row, built, guards):
            found.setdefault((source, event), []).append(alternative)
    for (source, event), alternatives in found.items():
        try:
            built[source].lead(event, alternatives)
        except DeclarationError as error:
            msg = f"'{name}.{source}': {error}"
            raise DeclarationError(msg) from None
    return built


def _check_name(name: Any, where: str) -> None:
    """Names are written into records, pictures and a class of Python's, which take no NUL and no half characters."""
    if not isinstance(name, str) or not name or "\0" in name or name != name.encode(errors="replace").decode():
        msg = f"{where} takes names that can be written and printed, not {name!r}"
        raise DeclarationError(msg)


def _read(
    name: str, number: int, row: Any, states: Mapping[str, State], guards: Mapping[str, Any]
) -> list[tuple[str, str, Alternative]]:
    where = f"'{name}': transitions[{number}]"
    given = _as_dict(where, row)
    if given.get("implied"):
        return []  # the standard table makes these again
    if given["dest"] is None:
        msg = f"{where} has dest=None: an internal transition is written dest='=' with effects=[...]"
        raise DeclarationError(msg)
    guard = _guard(where, given, guards)
    effects = tuple(_effect(where, e) for e in _listed(given.get("effects")))
    made = []
    for source in _sources(where, given["source"], states):
        target = _target(where, source if given["dest"] == SELF else given["dest"], states)
        made.append((source, str(given["trigger"]), Alternative(target, guard, effects)))
    return made


def _as_dict(where: str, row: Any) -> dict[str, Any]:
    if isinstance(row, Mapping):
        for key in row:
            if key in _REFUSED:
                msg = f"{where} has {key!r}: write {_REFUSED[key]}"
                raise DeclarationError(msg)
            if key not in _KEYS:
                msg = f"{where} has the unknown key {key!r}; known: {', '.join(_KEYS)}"
                raise DeclarationError(msg)
        missing = [k for k in _KEYS[:3] if k not in row]
        if missing:
            msg = f"{where} lacks {', '.join(missing)}"
            raise DeclarationError(msg)
        return dict(row)
    if isinstance(row, Sequence) and not isinstance(row, str) and len(_KEYS[:3]) <= len(row) <= len(_KEYS[:5]):
        return dict(zip(_KEYS, row, strict=False))
    msg = f"{where} is a dict, or a list [trigger, source, dest, conditions, unless], not {row!r}"
    raise DeclarationError(msg)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _guard(where: str, row: Mapping[str, Any], guards: Mapping[str, Any]) -> Guard | None:
    found = [_named_guard(where, g, guards) for g in _listed(row.get("conditions"))]
    found += [~_named_guard(where, g, guards) for g in _listed(row.get("unless"))]
    result: Guard | None = None
    for guard in found:
        result = guard if result is None else result & guard
    return result


def _named_guard(where: str, given: Any, guards: Mapping[str, Any]) -> Guard:
    if isinstance(given, str):
        if given not in guards:
            known = ", ".join(guards) or "none were given"
            msg = f"{where} refers to the guard {given!r}, which guards= does not have ({known})"
            raise DeclarationError(msg)
        given = guards[given]
    try:
        return as_guard(given)
    except DeclarationError as error:
        msg = f"{where}: {error}"
        raise DeclarationError(msg) from None


def _effect(where: str, given: Any) -> Effect:
    if isinstance(given, str):
        msg = f"{where}: effects= takes effect objects such as say('...'), not the name {given!r}"
        raise DeclarationError(msg)
    try:
        return as_effect(given)
    except DeclarationError as error:
        msg = f"{where}: {error}"
        raise DeclarationError(msg) from None


def _sources(where: str, given: Any, states: Mapping[str, State]) -> list[str]:
    if given == ALL:
        return [name for name, state in states.items() if state.kind != "Final"]
    names = _listed(given)
    for source in names:
        if source not in states:
            msg = f"{where}: the source {source!r} is no state; the states are {', '.join(states)}"
            raise DeclarationError(msg)
    return names


def _target(where: str, dest: Any, states: Mapping[str, State]) -> State:
    target = states.get(dest) or EXIT_STATES.get(dest)
    if target is None:
        msg = f"{where}: the dest {dest!r} is no state; known: {', '.join([*states, *EXIT_STATES])}"
        raise DeclarationError(msg)
    return target
