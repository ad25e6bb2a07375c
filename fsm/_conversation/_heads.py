"""The head of a request: everything in the body but the messages, encoded once and hashed.

`system`, `tools` and the parameters are frozen for a run (R35), so a state has one head; only `grow`, a change of
model and `compact` make another.

Prompt caching is on unless the state says otherwise: `cache_control` at the top level lets the API put the mark on the
last block of each request, so that the next one reads all of it from the cache. `cache_control=None` in the state
switches it off, `{"type": "ephemeral", "ttl": "1h"}` keeps it longer. It is left out where it would be refused: beside
four marks of one's own (R48, R50), behind a last block that is marked already (R50), in a thread (R71).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from fsm._encoded import encode
from fsm._graph import Graph
from fsm._ledger import marks_in
from fsm._params import Schema
from fsm._states import Claude

COMPACT_BETA = "compact-2026-09-04"  # S10.2
THRESHOLD_BETA = "compact-2026-01-12"  # S10.1
AUTOMATIC_CACHE: Mapping[str, str] = {"type": "ephemeral"}
_MOST_MARKS = 4  # R48: those of one's own and the automatic one share the places
_PARTS = ("model", "system", "tools")


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
        self,
        state: str,
        systems: Mapping[str, Any],
        *,
        max_tokens: int,
        model: str,
        compact: bool = False,
        marks: tuple[int, int] = (0, 0),
        container: str | None = None,
    ) -> Head:
        """The head of a request of this state; `systems` holds the frozen results of `system=` functions.

        `marks` are those of the messages, `Ledger.marks`. A marked last block leaves no place for another one (R50).
        """
        system = systems.get(state)
        taken = _MOST_MARKS if marks[1] else min(marks[0], _MOST_MARKS)
        key = (state, max_tokens, model, compact, taken, container, system if isinstance(system, str) else id(system))
        head = self._made.get(key)
        if head is None:
            head = self._make(state, system, max_tokens, model, compact=compact, marks=taken, container=container)
            self._made[key] = head
        return head

    def takes_container(self, state: str) -> bool:
        """Whether requests of this state may name a container: R53, and a container of the user's own stays (S14)."""
        given = self._states[state].params.get("container")
        is_free = given is None or (isinstance(given, Mapping) and given.get("id") is None)
        return is_free and any(
            str(definition.get("type")).startswith("code_execution_") for definition in self._definitions.get(state, ())
        )

    def digests(self, systems: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """The digest of each part of each state's own head: a run that is resumed must find the same (R35)."""
        return {
            name: _digests(self.head(name, systems, max_tokens=state.max_tokens, model=state.model).params)
            for name, state in self._states.items()
        }

    def changed(self, begun: Mapping[str, Mapping[str, str]], systems: Mapping[str, Any]) -> dict[str, list[str]]:
        """By state, the parts that differ from those that a run began with."""
        differing = {
            name: [part for part in now if now[part] != begun.get(name, {}).get(part)]
            for name, now in self.digests(systems).items()
        }
        return {name: parts for name, parts in differing.items() if parts}

    def _make(
        self, name: str, system: Any, max_tokens: int, model: str, *, compact: bool, marks: int, container: str | None
    ) -> Head:
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
        _cache(params, marks)
        if compact:
            _make_summary(params)
        if container is not None:  # S6.8; skills that the user asked for stay beside it
            given = params.get("container")
            params["container"] = {**given, "id": container} if isinstance(given, Mapping) else container
        encoded = encode(params)
        betas = (COMPACT_BETA,) if compact else (THRESHOLD_BETA,) if state.compacts else ()
        return Head(params, encoded, hashlib.sha256(encoded).digest(), betas)


def _digests(params: Mapping[str, Any]) -> dict[str, str]:
    parts = {part: params.get(part) for part in _PARTS}
    parts["parameters"] = {name: value for name, value in params.items() if name not in _PARTS}
    return {part: hashlib.sha256(encode(value)).hexdigest()[:16] for part, value in parts.items()}


def _cache(params: dict[str, Any], marks: int) -> None:
    """Let the API cache what it was sent, unless the state decides itself or the API would refuse (R48, R50, R71)."""
    if "cache_control" in params:
        if params["cache_control"] is None:
            del params["cache_control"]
        return
    taken = marks + marks_in(params.get("system")) + marks_in(params.get("tools"))
    if taken < _MOST_MARKS and "thread" not in params:
        params["cache_control"] = dict(AUTOMATIC_CACHE)


def _make_summary(params: dict[str, Any]) -> None:
    """S10.2: what an on-demand compaction cannot be combined with is left out of that one request."""
    for name in ("stop_sequences", "context_management"):
        params.pop(name, None)
    if (params.get("tool_choice") or {}).get("type") in {"any", "tool"}:
        params.pop("tool_choice")
    _drop_format(params)
    if isinstance(params.get("fallbacks"), list):
        params["fallbacks"] = [dict(fallback) for fallback in params["fallbacks"]]
        for fallback in params["fallbacks"]:
            _drop_format(fallback)
    params["compaction"] = {"type": "summarize"}


def _drop_format(params: dict[str, Any]) -> None:
    config = params.get("output_config") or {}
    if "format" in config:
        params["output_config"] = {name: value for name, value in config.items() if name != "format"}
        if not params["output_config"]:
            del params["output_config"]
