"""What a page tells about a state that is clicked: who acts, its tools, and its rows with their guards explained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fsm._graph import Edge, Graph, Node
from fsm._params import shown_params
from fsm._states import Approval, Claude, Code, Human
from fsm.diagram._model import Box, Picture
from fsm.diagram._overlay import Key

from ._said import json_of, readable


def cards_of(graph: Graph, picture: Picture, *, bodies: bool = True) -> list[dict[str, Any]]:
    """A card for each state, in the order of the graph, as plain JSON.

    Args:
        graph: the declared workflow.
        picture: where its states and rows are drawn.
        bodies: False leaves out what the states say: system prompts and prompts.
    """
    boxes = {name: box for box in picture.boxes for name in box.states}
    lines = places_of(picture)
    return [
        _filled(
            name=readable(node.name),
            box=boxes[node.name].id if node.name in boxes else "",
            kind=shape_of(node, boxes),
            caption=boxes[node.name].caption if node.name in boxes else node.kind,
            initial=node.initial,
            where=readable(node.where),
            facts=[[label, readable(text)] for label, text in _facts(node, bodies=bodies)],
            tools=[_tool(tool) for tool in _tools(graph, node)],
            rows=[_row(edge, lines.get(edge.key)) for edge in graph.outgoing(node.name)],
        )
        for node in graph.nodes
    ]


def places_of(picture: Picture) -> Mapping[Key, tuple[str, int]]:
    """The arrow of each row that is drawn, and which of its lines it is."""
    return {
        line.key: (arrow.id, place)
        for arrow in picture.arrows
        for place, line in enumerate(arrow.lines)
        if line.key is not None
    }


def shape_of(node: Node, boxes: Mapping[str, Box]) -> str:
    """What its colours go by: the kind, with two sorts of finals."""
    if node.name in boxes:
        return boxes[node.name].shape
    return "Failed" if node.is_final and not node.ok else node.kind


def _facts(node: Node, *, bodies: bool) -> Iterable[tuple[str, str]]:
    state = node.state
    if isinstance(state, Claude):
        yield "model", state.model
        yield "max_tokens", f"{state.max_tokens:,}"
        yield "history", f"{state.history} (begun afresh)" if state.fresh else str(state.history)
        if state.continues is not None:
            yield "continues", state.continues
        if state.output is not None:
            yield "answers", "as JSON"
        shown = shown_params(state.params)
        yield from ((name, _said(value)) for name, value in shown.items())
        if others := ", ".join(name for name in state.params if name not in {*shown, "cache_control"}):
            yield "also sent", others  # by name alone: their values are nobody's here (X7)
        for name, value in (("system", state.system), ("prompt", state.prompt)):
            if value is not None and bodies:
                yield name, _said(value)
    elif isinstance(state, (Approval, Human)):
        yield "waits", "for a person" if state.within is None else f"for a person, {state.within:g} s at most"
    elif isinstance(state, Code):
        yield "function", f"{getattr(state.fn, '__name__', 'function')}()"
        if doc := _first(getattr(state.fn, "__doc__", None)):
            yield "", doc


def _said(value: Any) -> str:
    if callable(value):
        return f"{getattr(value, '__name__', 'function')}()"
    return value if isinstance(value, str) else json_of(value)


def _tools(graph: Graph, node: Node) -> Iterable[Any]:
    if isinstance(node.state, Claude):
        return node.state.tools
    if node.kind == "Tools":
        return {tool.name: tool for caller in graph.callers(node.name) for tool in caller.client_tools}.values()
    return ()


def _tool(tool: Any) -> dict[str, Any]:
    notes = [
        *([] if tool.is_client else ["run by the API"]),
        *(["asks a person first"] if tool.may_ask else []),
        *(["may run twice"] if tool.idempotent else []),
    ]
    return _filled(
        name=readable(tool.name), text=readable(_first(tool.description)), note=", ".join(notes), where=tool.where
    )


def _row(edge: Edge, place: tuple[str, int] | None) -> dict[str, Any]:
    guard = "" if edge.guard is None else readable(edge.guard)
    return _filled(
        event=readable(edge.event),
        guard=guard or ("else" if edge.index else ""),
        doc="" if edge.guard is None else readable(edge.guard.doc),
        effects=readable(", ".join(map(str, edge.effects))),
        dest=readable(edge.dest),
        implied=edge.implied,
        where=readable(edge.where),
        arrow=list(place or ()),
    )


def _first(doc: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((doc or "").strip().split("\n\n")[0].split())


def _filled(**values: Any) -> dict[str, Any]:
    """Without what is empty: a page reads that as empty, too."""
    return {name: value for name, value in values.items() if value not in ("", [], False, None)}
