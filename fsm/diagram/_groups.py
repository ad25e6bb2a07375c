"""Groups of states: where they come from, and the frames around them.

A group is a path (`outer/inner`), so that groups stand in groups, as workflows inside of workflows will.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from attrs import evolve

from fsm._errors import UsageError
from fsm._graph import Graph
from fsm._states import Claude

from ._model import Frame, Picture
from ._text import clean, short, unlike

Groups = Mapping[str, Iterable[str]] | Literal["history", "prefix"]

NAME = 40  # characters
_DEEP = 20  # groups in each other


# --- where groups come from ------------------------------------------------------------------------------------------


def grouped(graph: Graph, groups: Groups | None) -> Graph:
    """The graph with its nodes in these groups; None leaves them in those that the workflow has.

    Raises:
        UsageError: a state that is not there or stands in two groups; another word than `history` and `prefix`.
    """
    if groups is None:
        return graph
    if isinstance(groups, str):
        ways = {"history": _by_history, "prefix": _by_prefix}
        if groups not in ways:
            raise UsageError(f"groups={groups!r} is neither 'history' nor 'prefix' nor a table of names and states")
        paths = ways[groups](graph)
    elif isinstance(groups, Mapping):
        paths = _by_name(graph, groups)
    else:
        raise UsageError(f"groups= takes a table of names and states, 'history' or 'prefix', not {groups!r}")
    return evolve(graph, nodes=tuple(evolve(node, group=paths.get(node.name, "")) for node in graph.nodes))


def _by_name(graph: Graph, groups: Mapping[str, Iterable[str]]) -> Mapping[str, str]:
    paths: dict[str, str] = {}
    for path, states in groups.items():
        if not isinstance(path, str) or not all(path.split("/")):
            raise UsageError(f"groups: {path!r} is no name of a group: give `name` or `outer/inner`")
        if path.count("/") >= _DEEP:
            raise UsageError(
                f"groups: {short(clean(path), NAME)!r} is a path of more than {_DEEP} groups in each other"
            )
        if isinstance(states, str) or not isinstance(states, Iterable):
            raise UsageError(f"groups: {path!r} needs a list of states, not {states!r}")
        for state in states:
            if state not in graph.by_name:
                known = ", ".join(graph.by_name)
                raise UsageError(f"groups: {path!r} names {state!r}, which is no state of {graph.name}: {known}")
            if state in paths:
                raise UsageError(f"groups: {state!r} stands in {paths[state]!r} and in {path!r}: keep it in one")
            paths[state] = path
    return paths


def _by_prefix(graph: Graph) -> Mapping[str, str]:
    """The name up to the first `_`, where at least two states share it."""
    found: dict[str, list[str]] = {}
    for node in graph.nodes:
        if not node.is_exit:
            found.setdefault(node.name.split("_", maxsplit=1)[0], []).append(node.name)
    return {name: prefix for prefix, names in found.items() if len(names) > 1 and prefix for name in names}


def _by_history(graph: Graph) -> Mapping[str, str]:
    """A history's Claude states, and the states that lie between these alone."""
    histories = {node.name: clean(node.history) for node in graph.nodes if isinstance(node.state, Claude)}
    onward: dict[str, set[str]] = {node.name: set() for node in graph.nodes}
    back: dict[str, set[str]] = {node.name: set() for node in graph.nodes}
    for edge in graph.edges:
        if not edge.implied:
            onward[edge.source].add(edge.dest)
            back[edge.dest].add(edge.source)
    paths = dict(histories)
    for node in graph.nodes:
        if node.name not in histories and not node.is_final:
            served = _nearest(node.name, back, histories) | _nearest(node.name, onward, histories)
            if len(served) == 1:
                paths[node.name] = served.pop()
    return {name: path.replace("/", " ") for name, path in paths.items() if path}


def _nearest(state: str, ways: Mapping[str, Iterable[str]], histories: Mapping[str, str]) -> set[str]:
    """The histories that are reached first, going only through states that have none."""
    found, seen, todo = set(), {state}, [state]
    while todo:
        for other in ways[todo.pop()]:
            if other in histories:
                found.add(histories[other])
            elif other not in seen:
                seen.add(other)
                todo.append(other)
    return found


# --- frames ----------------------------------------------------------------------------------------------------------


def framed(picture: Picture, graph: Graph) -> Picture:
    """The picture with a frame for each group that has a box in it, outer ones first."""
    nodes = graph.by_name
    groups = {box.id: nodes[box.states[0]].group for box in picture.boxes if box.states}
    idents: dict[str, str] = {}
    frames: list[Frame] = []
    names = _frame_names(groups.values())
    for path in groups.values():
        parts = path.split("/") if path else []
        for depth in range(1, len(parts) + 1):
            here, around = "/".join(parts[:depth]), "/".join(parts[: depth - 1])
            if here not in idents:
                idents[here] = f"g{len(idents) + 1}"
                frames.append(Frame(idents[here], names[here], parent=idents.get(around, ""), path=here))
    if not frames:
        return picture
    boxes = tuple(evolve(box, group=idents.get(groups.get(box.id, ""), "")) for box in picture.boxes)
    return evolve(picture, boxes=boxes, frames=tuple(frames))


def _frame_names(paths: Iterable[str]) -> Mapping[str, str]:
    """What the groups are called in the picture, no two alike within one."""
    inside: dict[str, dict[str, str]] = {}
    for path in paths:
        around = ""
        for part in path.split("/") if path else ():
            here = f"{around}/{part}" if around else part
            inside.setdefault(around, {})[here] = clean(part)
            around = here
    return {
        path: name
        for parts in inside.values()
        for path, name in zip(parts, unlike([*parts.values()], NAME), strict=True)
    }
