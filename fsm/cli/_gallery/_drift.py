"""What differs between a picture that is committed and the code: rows and states, not only files.

The JSON of a picture is the graph that was drawn, so it is read back and compared. Where it is the same, the text
itself was edited (or is drawn otherwise now), and its lines are told, with the names of the states for their ids.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from fsm._errors import UsageError
from fsm._terminal import one_line

_WIDE = 100  # characters
_LONGEST = 1_000
_MOST = 12  # lines that are shown of each picture


def what_differs(path: Path, there: str, now: str, graph: str | None) -> list[str]:
    """Lines about one file: what is in it, what it should be, and the JSON that should lie beside it."""
    if path.suffix == ".json":
        return _at_most(_changes(there, now))
    beside = path.with_suffix(".json")
    if graph is None or (beside.is_file() and beside.read_text("utf-8") != graph):
        return []  # the rows that differ are told of the JSON
    return _at_most(_edits(there, now, graph))


def _changes(there: str, now: str) -> list[str]:
    """The rows and states that differ between two graphs as JSON; where none does, what else does."""
    from fsm._difference import difference
    from fsm.diagram import from_json

    try:
        found = difference(from_json(there), from_json(now))
    except UsageError as error:
        return [str(error)]
    before, after = json.loads(there), json.loads(now)
    named = {each.name for each in found.states}
    lines = list(found.lines)
    states = {state["name"]: state for state in before["states"]}
    for state in after["states"]:
        was = states.get(state["name"])
        if was is not None and state["name"] not in named:
            lines += [
                f"{state['name']}: {what} was {_value(was.get(what))}, is {_value(state.get(what))}"
                for what in dict.fromkeys((*was, *state))
                if what != "where" and was.get(what) != state.get(what)
            ]
    lines += [f"another {what}" for what in ("name", "doc", "strict") if before.get(what) != after.get(what)]
    return lines or ["no row differs: only the lines of the declarations, or words about guards"]


def _value(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _edits(there: str, now: str, graph: str) -> list[str]:
    """The lines that differ, with the names of the states instead of the ids."""
    names = {f"s{place}": state["name"] for place, state in enumerate(json.loads(graph)["states"], 1)}
    changed = list(difflib.unified_diff(there.splitlines(), now.splitlines(), lineterm="", n=0))
    return [_named(line, names) for line in changed[2:] if line[0] in "+-"]  # after the names of the files


def _named(line: str, names: Mapping[str, str]) -> str:
    """An arrow as `source --label--> dest`; any other line as it is."""
    arrow = re.fullmatch(r'([+-]) +(s\d+) -[-.]*> ?(?:\|"(.*?)"\| )?(s\d+)(?: \[label="(.*?)" .*)?', line)
    if arrow is None:
        return " ".join(line.split())[:_WIDE]
    mark, source, label, dest, other = arrow.groups()
    words = (label or other or "").replace("<br/>", ", ").replace(" \\l ", ", ").removesuffix("\\l").strip()
    return f"{mark} {names.get(source, source)} --{words}--> {names.get(dest, dest)}"


def _at_most(lines: list[str]) -> list[str]:
    shown = [one_line(line, _LONGEST) for line in lines[:_MOST]]  # the file is anybody's (X8)
    return shown if len(lines) <= _MOST else [*shown, f"and {len(lines) - _MOST} more"]
