"""Whether the API would take what a state sends with every request (W14): the rules of `_legality` on its head.

No rule stands here: the head with a word to answer is judged as any request is, by what its model is known to refuse.
The schemas of tool functions are made with the SDK when a run begins, so an empty one stands for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fsm._graph import Graph
from fsm._legality import profile_of, violations
from fsm._states import Claude

from ._findings import Finding

_WORD = {"role": "user", "content": "Hi."}
_EMPTY: Mapping[str, Any] = {"type": "object", "properties": {}}


def check_heads(graph: Graph) -> Iterator[Finding]:
    """W14, in the order of declaration: one finding for each rule that a state's head breaks."""
    for node in graph.nodes:
        if not isinstance(node.state, Claude):
            continue
        for found in violations(_request(node.state), profile_of(node.state.model)):
            problem = f"the API refuses every request of '{graph.name}.{node.name}' ({found.rule}): {found.message}"
            yield Finding("W14", graph.name, node.name, None, node.where, problem, found.repair)


def _request(state: Claude) -> dict[str, Any]:
    request: dict[str, Any] = {"model": state.model, "max_tokens": state.max_tokens, **state.params}
    if isinstance(state.system, (str, list, tuple)):
        request["system"] = state.system
    if state.tools:
        request["tools"] = [
            {"name": tool.name, "input_schema": _EMPTY} if tool.is_client else dict(tool.run) for tool in state.tools
        ]
    if state.output is not None:
        form = {"type": "json_schema", "schema": {**_EMPTY, "additionalProperties": False}}
        request["output_config"] = {**request.get("output_config", {}), "format": form}
    return {**{name: value for name, value in request.items() if value is not None}, "messages": [_WORD]}
