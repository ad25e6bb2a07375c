"""A graph from its JSON (`_json` says the form). Anybody may have written it, so each member is looked at first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from fsm._effects import Effect
from fsm._errors import UsageError
from fsm._facts import Facts
from fsm._graph import Edge, Graph, Node
from fsm._guards import Guard

from ._json import FORMAT

_TEXT, _NAME, _FLAG, _COUNT = "a text", "a text that is not empty", "true or false", "a number from 0"
_TEXT_OR_NULL, _KIND, _NAMES, _ROWS = "a text or null", "a kind of state", "a list of texts", "a list of objects"
_LONGEST = 60  # characters of a value in a message
_KINDS = ("Claude", "Tools", "Approval", "Human", "Code", "Child", "Final")
_IS = {
    _TEXT: lambda value: isinstance(value, str),
    _NAME: lambda value: isinstance(value, str) and value != "",
    _FLAG: lambda value: isinstance(value, bool),
    _COUNT: lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    _TEXT_OR_NULL: lambda value: value is None or isinstance(value, str),
    _KIND: lambda value: value in _KINDS,
    _NAMES: lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    _ROWS: lambda value: isinstance(value, list) and all(isinstance(each, dict) for each in value),
}
_WHOLE = {"name": _NAME, "doc": _TEXT, "strict": _FLAG, "states": _ROWS, "transitions": _ROWS}
_STATE = {"name": _NAME, "kind": _KIND, "initial": _FLAG, "ok": _FLAG, "history": _TEXT_OR_NULL, "exit": _FLAG}
_STATE |= {"group": _TEXT, "where": _TEXT}
_TRANSITION = {"source": _NAME, "event": _NAME, "index": _COUNT, "guard": _TEXT_OR_NULL, "guard_doc": _TEXT_OR_NULL}
_TRANSITION |= {"effects": _NAMES, "dest": _NAME, "implied": _FLAG, "where": _TEXT}


def from_json(text: str) -> Graph:
    """A graph of names only, to be compared with another one: its guards and effects cannot be called.

    Raises:
        UsageError: no JSON of this form; the message names the member. Draw it anew.
    """
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"this is no graph as JSON ({FORMAT}): {why}. Draw it anew with `--format json`") from None
    if not isinstance(whole, dict):
        _wrong("", "an object", whole)
    if whole.get("format") != FORMAT:
        raise UsageError(f"this is {_short(whole.get('format'))}, not {FORMAT!r}: draw it anew with `--format json`")
    _check(whole, _WHOLE, "")
    nodes = tuple(_read_node(row, f"states[{place}]") for place, row in enumerate(whole["states"]))
    edges = tuple(_read_edge(row, f"transitions[{place}]") for place, row in enumerate(whole["transitions"]))
    _check_names(nodes, edges)
    return Graph(whole["name"], nodes, edges, doc=whole["doc"], strict=whole["strict"])


def _read_node(row: Mapping[str, Any], place: str) -> Node:
    _check(row, _STATE, place)
    return Node(
        row["name"],
        row["kind"],
        initial=row["initial"],
        ok=row["ok"],
        history=row["history"],
        is_exit=row["exit"],
        group=row["group"],
        where=row["where"],
    )


def _read_edge(row: Mapping[str, Any], place: str) -> Edge:
    _check(row, _TRANSITION, place)
    return Edge(
        row["source"],
        row["event"],
        row["dest"],
        row["index"],
        None if row["guard"] is None else Guard(row["guard"], _unknown, doc=row["guard_doc"] or ""),
        tuple(Effect(name, "say", _unknown) for name in row["effects"]),
        row["implied"],
        row["where"],
    )


def _unknown(facts: Facts) -> Any:
    msg = f"read from JSON, this cannot be decided: {facts}"
    raise UsageError(msg)


# --- what it must be -------------------------------------------------------------------------------------------------


def _check(row: Mapping[str, Any], members: Mapping[str, str], place: str) -> None:
    for name, what in members.items():
        path = f"{place}.{name}".lstrip(".")
        if name not in row:
            raise UsageError(f"this is no graph as JSON ({FORMAT}): {path} is missing")
        if not _IS[what](row[name]):
            _wrong(path, f"{what} ({', '.join(_KINDS)})" if what == _KIND else what, row[name])


def _check_names(nodes: Sequence[Node], edges: Sequence[Edge]) -> None:
    """Each state is there once, each row is there once, and leads from one to another."""
    places: dict[Any, str] = {}
    for number, node in enumerate(nodes):
        if node.name in places:
            _wrong(f"states[{number}].name", f"another one than in {places[node.name]}", node.name)
        places[node.name] = f"states[{number}]"
    if sum(node.initial for node in nodes) > 1:
        raise UsageError(f"this is no graph as JSON ({FORMAT}): more than one state has initial: true")
    for number, edge in enumerate(edges):
        for end, name in (("source", edge.source), ("dest", edge.dest)):
            if name not in places:
                _wrong(f"transitions[{number}].{end}", "the name of one of its states", name)
        if edge.key in places:
            _wrong(f"transitions[{number}]", f"another row than {places[edge.key]}", " ".join(map(str, edge.key)))
        places[edge.key] = f"transitions[{number}]"


def _wrong(path: str, wanted: str, value: Any) -> NoReturn:
    where = f"{path} is to be" if path else "it is to be"
    raise UsageError(f"this is no graph as JSON ({FORMAT}): {where} {wanted}, not {_short(value)}")


def _short(value: Any) -> str:
    """In ASCII and short: whoever reads the message may sit at a terminal (X8)."""
    said = json.dumps(value) if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"
