"""What states of one history share, and how a history begins (W11)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from fsm._graph import Graph, Node
from fsm._models import model_facts
from fsm._states import Claude

from ._findings import Finding, Severity


def _members(graph: Graph) -> dict[str, list[tuple[Node, Claude]]]:
    by_history: dict[str, list[tuple[Node, Claude]]] = {}
    for node in graph.nodes:
        if isinstance(node.state, Claude):
            by_history.setdefault(node.state.history or "", []).append((node, node.state))
    return by_history


def misbegun(graph: Graph) -> set[str]:
    """States that begin their history wrongly and are reported for it; the walk asks no more of them."""
    histories = _members(graph)
    return {node.name for group in histories.values() for node, state in group if _beginning(node, state, histories)[0]}


def check_histories(graph: Graph) -> Iterator[Finding]:
    """W11, in the order of declaration."""
    by_history = _members(graph)
    for history, members in by_history.items():
        yield from _shared(graph, history, members)
        for node, state in members:
            problem, remedy = _beginning(node, state, by_history)
            if problem:
                problem = f"'{graph.name}.{node.name}' {problem}"
                yield Finding("W11", graph.name, node.name, None, node.where, problem, remedy)
    yield from _switches(graph)


def _switches(graph: Graph) -> Iterator[Finding]:
    """R35: a switch of the model within one history, where one of the two binds its thinking to what came before."""
    for edge in graph.edges:
        source, dest = graph.by_name[edge.source], graph.by_name[edge.dest]
        switch = next((effect for effect in edge.effects if effect.change == "model"), None)
        if switch is None or not isinstance(dest.state, Claude) or dest.state.fresh or dest.state.continues:
            continue
        models = [dest.state.model, *([source.state.model] if isinstance(source.state, Claude) else [])]
        binding = next((m for m in models if model_facts(m).binds), None)
        if binding is None and switch.model is not None:
            binding = next((m for m in (*models, switch.model) if model_facts(m).binds is not False), None)
        if binding is None:
            continue
        binds = "binds" if model_facts(binding).binds else "may bind"
        problem = (
            f"'{graph.name}.{edge.source}' leads {edge.event} to '{edge.dest}' with {switch}, within the history "
            f"'{dest.history}': {binding} {binds} its thinking to it, so the API refuses the next request (R35)"
        )
        remedy = (
            f'Lead {edge.event} to a state of that model: other = Claude(model=..., history="other", '
            f'continues="{dest.history}").'
        )
        where = edge.where or source.where
        yield Finding("W11", graph.name, edge.source, edge.event, where, problem, remedy, edge=edge.key)


def _beginning(node: Node, state: Claude, by_history: dict[str, list[tuple[Node, Claude]]]) -> tuple[str, str]:
    if state.fresh and state.continues is not None:
        return "is both fresh and continues another history", "Keep fresh=True, or continues=, not both."
    if state.fresh and state.prompt is None:
        remedy = f"Give '{node.name}' a prompt=: text, or a function of Facts."
        return "begins an empty history (fresh=True) and has no prompt= to begin with", remedy
    if state.continues is not None and state.continues not in by_history:
        near = difflib.get_close_matches(state.continues, by_history, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        remedy = f"{hint}The histories are: {', '.join(by_history)}."
        return f"continues {state.continues!r}, a history that no state has", remedy
    return "", ""


def _shared(graph: Graph, history: str, members: list[tuple[Node, Claude]]) -> Iterator[Finding]:
    """One finding for each state that differs from the first of its history (R35; and a cache that is lost)."""
    (first, lead), *others = members
    for node, state in others:
        differing = [
            name
            for name, differs in (
                ("model", state.model != lead.model),
                ("system", state.system != lead.system),
                ("tools", _offered(state) != _offered(lead)),
            )
            if differs
        ]
        if not differing:
            continue
        binding = [m for m in (lead.model, state.model) if model_facts(m).binds is not False]
        severity: Severity = "error" if binding else "warning"
        why = (
            f"{binding[0]} {'binds' if model_facts(binding[0]).binds else 'may bind'} its thinking to both, so the API "
            "refuses the next request (R35)"
            if binding
            else "each change of state loses the cached prefix"
        )
        problem = (
            f"'{graph.name}.{node.name}' and '{first.name}' share the history '{history}' and differ in "
            f"{' and '.join(differing)}: {why}"
        )
        remedy = f'Write {node.name} = Claude(..., history="{node.name}", continues="{history}"), or make them equal.'
        yield Finding("W11", graph.name, node.name, None, node.where, problem, remedy, severity=severity)


def _offered(state: Claude) -> list[tuple[str, str, object]]:
    return [(tool.name, tool.form, tool.run) for tool in state.tools]
