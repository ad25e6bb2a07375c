"""Groups of states: where they come from, frames around them, and folding one to a single box.

A group is a path (`outer/inner`), so that groups stand in groups, as workflows inside of workflows will.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from typing import Literal

from attrs import evolve

from fsm._errors import UsageError
from fsm._graph import Graph
from fsm._states import Claude

from ._model import Arrow, Box, Frame, Line, Picture
from ._overlay import Tally
from ._phrases import spent_words
from ._text import amount, clean, short

Groups = Mapping[str, Iterable[str]] | Literal["history", "prefix"]
Folded = bool | Collection[str]

_NAME = 40  # characters
_EVENTS = 2  # that the arrow of a folded group names
_STATES = 30  # that show when the mouse rests on it
_KINDS = ("Claude", "Tools", "Approval", "Human", "Code", "Child")


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
    else:
        paths = _by_name(graph, groups)
    return evolve(graph, nodes=tuple(evolve(node, group=paths.get(node.name, "")) for node in graph.nodes))


def _by_name(graph: Graph, groups: Mapping[str, Iterable[str]]) -> Mapping[str, str]:
    paths: dict[str, str] = {}
    for path, states in groups.items():
        if not all(path.split("/")):
            raise UsageError(f"groups: {path!r} is no name of a group: give `name` or `outer/inner`")
        if isinstance(states, str):
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
    for path in groups.values():
        parts = path.split("/") if path else []
        for depth in range(1, len(parts) + 1):
            here, around = "/".join(parts[:depth]), "/".join(parts[: depth - 1])
            if here not in idents:
                idents[here] = f"g{len(idents) + 1}"
                name = short(clean(parts[depth - 1]), _NAME) or "(no name)"
                frames.append(Frame(idents[here], name, parent=idents.get(around, "")))
    if not frames:
        return picture
    boxes = tuple(evolve(box, group=idents.get(groups.get(box.id, ""), "")) for box in picture.boxes)
    return evolve(picture, boxes=boxes, frames=tuple(frames))


# --- folding ---------------------------------------------------------------------------------------------------------


def fold(picture: Picture, which: Folded) -> Picture:
    """The picture with these groups drawn as one box each; True folds all.

    Raises:
        UsageError: a name that no group has.
    """
    chosen = _chosen(picture, which)
    if not chosen:
        return picture
    frames = {frame.id: frame for frame in picture.frames}
    outer = {ident: _outermost(ident, frames, chosen) for ident in frames}
    homes = {box.id: outer.get(box.group, "") or box.id for box in picture.boxes}
    inside: dict[str, list[Box]] = {}
    for box in picture.boxes:
        inside.setdefault(homes[box.id], []).append(box)
    boxes = tuple(_folded_box(frames[home], found) if home in frames else found[0] for home, found in inside.items())
    names = {box.id: box.name for box in picture.boxes}
    merged: dict[tuple[str, str, bool], list[Arrow]] = {}
    for arrow in picture.arrows:
        ends = (homes[arrow.source], homes[arrow.dest])
        if ends[0] != ends[1] or ends[0] not in frames:
            merged.setdefault((*ends, arrow.standard), []).append(arrow)
    arrows = tuple(
        _folded_arrow(source, dest, found, names) if source in frames or dest in frames else found[0]
        for (source, dest, _), found in merged.items()
    )
    return evolve(
        picture,
        boxes=boxes,
        arrows=arrows,
        frames=tuple(frame for frame in picture.frames if not outer[frame.id]),
        legend=_legend(picture.legend, boxes),
    )


def _chosen(picture: Picture, which: Folded) -> frozenset[str]:
    if isinstance(which, bool):
        return frozenset(frame.id for frame in picture.frames) if which else frozenset()
    names = {which} if isinstance(which, str) else {*which}
    known = {frame.name for frame in picture.frames}
    if unknown := sorted(names - known):
        there = f"the groups are {', '.join(sorted(known))}" if known else "there are no groups: give groups= too"
        raise UsageError(f"folded names {unknown[0]!r}, but {there}")
    return frozenset(frame.id for frame in picture.frames if frame.name in names)


def _outermost(ident: str, frames: Mapping[str, Frame], chosen: Collection[str]) -> str:
    """The outermost folded group around a frame, itself included."""
    found = ""
    while ident:
        found = ident if ident in chosen else found
        ident = frames[ident].parent
    return found


def _folded_box(frame: Frame, inside: Sequence[Box]) -> Box:
    kinds = {box.kind for box in inside}
    names = [box.name for box in inside]
    more = [f"and {len(names) - _STATES} more"] if len(names) > _STATES else []
    acting = [kind for kind in _KINDS if kind in kinds]
    per_row = 3
    rows = [", ".join(acting[place : place + per_row]) for place in range(0, len(acting), per_row)]
    ends = ["it can end here"] if "Final" in kinds else []
    changes = {box.change for box in inside}
    tally = _sum(box.tally for box in inside)
    return Box(
        frame.id,
        frame.name,
        "Group",
        details=(f"{len(inside)} state{'s' if len(inside) != 1 else ''}", *rows, *ends),
        initial=any(box.initial for box in inside),
        current=any(box.current for box in inside),
        faded=all(box.faded for box in inside),
        findings=tuple(dict.fromkeys(found for box in inside for found in box.findings)),
        title="\n".join([f"{frame.name}:", *names[:_STATES], *more]),
        group=frame.parent,
        states=tuple(state for box in inside for state in box.states),
        tally=tally,
        heat=max((box.heat for box in inside if box.heat is not None), default=None),
        change=changes.pop() if len(changes) == 1 else "changed",
        facts=_facts(tally),
    )


def _facts(tally: Tally | None) -> tuple[str, ...]:
    return (", ".join([f"{amount(tally.count)}×", *spent_words(tally)]),) if tally is not None and tally.count else ()


def _folded_arrow(source: str, dest: str, found: Sequence[Arrow], names: Mapping[str, str]) -> Arrow:
    lines = [line for arrow in found for line in arrow.lines]
    changes = {line.change for line in lines}
    tally = _sum(line.tally for line in lines)
    line = Line(
        _events(lines),
        seqs=tuple(sorted(seq for line in lines for seq in line.seqs)),
        findings=tuple(dict.fromkeys(each for line in lines for each in line.findings)),
        tally=tally,
        stuck=any(line.stuck for line in lines),
        change=changes.pop() if len(changes) == 1 else "changed",
        facts=_facts(tally),
    )
    said = [
        f"{names[arrow.source]} to {names[arrow.dest]}: {row}" for arrow in found for row in arrow.title.split("\n")
    ]
    more = [f"and {len(said) - _STATES} more"] if len(said) > _STATES else []
    return Arrow(
        found[0].id,
        source,
        dest,
        (line,),
        standard=found[0].standard,
        taken=any(arrow.taken for arrow in found),
        faded=all(arrow.faded for arrow in found),
        is_summary=all(arrow.is_summary for arrow in found),
        title="\n".join([*said[:_STATES], *more]),
        heat=max((arrow.heat for arrow in found if arrow.heat is not None), default=None),
    )


def _events(lines: Iterable[Line]) -> str:
    """`tool_use, end_turn +3`."""
    events = list(dict.fromkeys(line.event for line in lines))
    more = f" +{len(events) - _EVENTS}" if len(events) > _EVENTS else ""
    return ", ".join(events[:_EVENTS]) + more


def _sum(tallies: Iterable[Tally | None]) -> Tally | None:
    known = [tally for tally in tallies if tally is not None]
    if not known:
        return None
    return reduce(Tally.plus, known)


def _legend(legend: Iterable[tuple[str, str]], boxes: Iterable[Box]) -> tuple[tuple[str, str], ...]:
    shapes = {box.shape for box in boxes}
    kinds = {*_KINDS, "Final", "Failed"}
    return (
        ("Group", "Group: several states, folded"),
        *((key, words) for key, words in legend if key not in kinds or key in shapes),
    )
