"""The machine of every tool loop: ask, call tools, until the model has finished its turn.

It has a single Claude state. `watch` and the audit follow loops with it whose own states they do not know.
"""

from __future__ import annotations

from functools import cache

from attrs import evolve

from ._compile import Plan, compile_graph
from ._graph import build_graph
from ._states import Claude, Final, Tools

__all__ = ["single_plan"]


@cache
def single_plan(name: str = "watched") -> Plan:
    """The compiled machine; `name` is what its messages call it."""
    asking, calling, answered = Claude(model="any", max_tokens=1), Tools(), Final()
    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)
    graph = build_graph(name, {"asking": asking, "calling": calling, "answered": answered})
    # Nobody declared it: messages must not point at a line of this file.
    return compile_graph(evolve(graph, nodes=tuple(evolve(node, where="") for node in graph.nodes)))
