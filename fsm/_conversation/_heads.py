"""The head of a request: everything in the body but the messages, encoded once and hashed.

`system`, `tools` and the parameters are frozen for a run (R35), so a state has one head; only `grow`, a change of
model and `compact` make another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from fsm._encoded import encode
from fsm._graph import Graph
from fsm._params import Schema
from fsm._states import Claude

COMPACT_BETA = "compact-2026-09-04"  # S10.2


@frozen
class Head:
    """`params` as sent, their encoding as an open JSON object, and its digest."""

    params: Mapping[str, Any]
    encoded: bytes = field(repr=False)
    digest: bytes
    betas: tuple[str, ...] = ()


class Heads:
    """The heads of a workflow's `Claude` states.

    Args:
        graph: the workflow.
        definitions: tool definitions by state, as the API takes them.
    """

    def __init__(self, graph: Graph, definitions: Mapping[str, Sequence[Mapping[str, Any]]] | None = None) -> None:
        self._definitions = definitions or {}
        self._states = {n.name: n.state for n in graph.nodes if isinstance(n.state, Claude)}
        self._made: dict[tuple[Any, ...], Head] = {}
        self._inputs: dict[tuple[str, str], Schema | None] = {}

    def fits(self, history: str, tool: str, given: Mapping[str, Any]) -> bool:
        """Whether an input fits the schema of the tool of this name; nobody is asked about one that does not (S6.4)."""
        key = (history, tool)
        if key not in self._inputs:
            found = (
                definition.get("input_schema")
                for name, state in self._states.items()
                if (state.history or "main") == history
                for definition in self._definitions.get(name, ())
                if definition.get("name") == tool
            )
            schema = next(found, None)
            self._inputs[key] = Schema(schema) if schema else None
        schema = self._inputs[key]
        return schema is None or schema.problem(dict(given)) is None

    def head(
        self, state: str, systems: Mapping[str, Any], *, max_tokens: int, model: str, compact: bool = False
    ) -> Head:
        """The head of a request of this state; `systems` holds the frozen results of `system=` functions."""
        system = systems.get(state)
        key = (state, max_tokens, model, compact, system if isinstance(system, str) else id(system))
        head = self._made.get(key)
        if head is None:
            head = self._made[key] = self._make(state, system, max_tokens, model, compact=compact)
        return head

    def digests(self, systems: Mapping[str, Any]) -> dict[str, str]:
        """The digest of each state's own head: a run that is resumed must find the same (R35)."""
        return {
            name: self.head(name, systems, max_tokens=state.max_tokens, model=state.model).digest.hex()
            for name, state in self._states.items()
        }

    def _make(self, name: str, system: Any, max_tokens: int, model: str, *, compact: bool) -> Head:
        state = self._states[name]
        params: dict[str, Any] = {"model": model, "max_tokens": max_tokens}
        if system is None and not callable(state.system):
            system = state.system
        if system:
            params["system"] = system
        if definitions := self._definitions.get(name):
            params["tools"] = list(definitions)
        params.update(state.params)
        if state.output is not None:
            form = {"type": "json_schema", "schema": state.output.json}
            params["output_config"] = {**params.get("output_config", {}), "format": form}
        if compact:
            _make_summary(params)
        encoded = encode(params)
        betas = (COMPACT_BETA,) if compact else ()
        return Head(params, encoded, hashlib.sha256(encoded).digest(), betas)


def _make_summary(params: dict[str, Any]) -> None:
    """S10.2: what an on-demand compaction cannot be combined with is left out of that one request."""
    for name in ("stop_sequences", "context_management"):
        params.pop(name, None)
    if (params.get("tool_choice") or {}).get("type") in {"any", "tool"}:
        params.pop("tool_choice")
    if "format" in (params.get("output_config") or {}):
        params["output_config"] = {k: v for k, v in params["output_config"].items() if k != "format"}
    params["compaction"] = {"type": "summarize"}
