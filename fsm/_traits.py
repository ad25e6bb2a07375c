"""What a state is made of, in words that can be compared and printed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from ._graph import Node
from ._params import Schema, lasting, shown_params
from ._states import Claude, Code

_LONGEST = 30  # characters of a trait that is printed


def traits_of(node: Node) -> Iterator[tuple[str, str]]:
    """What a state is made of, each in a word that can be compared and printed."""
    yield "kind", node.kind
    yield "initial", "yes" if node.initial else "no"
    if node.is_final:
        yield "ok", "yes" if node.ok else "no"
    if node.history is not None:
        yield "history", node.history
    state = node.state
    if isinstance(state, Claude):
        for name in ("model", "max_tokens", "continues", "fresh"):
            yield name, shown(getattr(state, name))
        yield "system", shown(state.system)
        yield "prompt", shown(state.prompt)
        yield "tools", ", ".join(tool.name for tool in state.tools)
        yield from _tools(state)
        yield "output", "" if state.output is None else _schema(state.output)
        yield from ((name, shown(value)) for name, value in state.params.items())
    elif isinstance(state, Code):
        yield "function", shown(state.fn)
        yield "outcomes", ", ".join(state.outcomes)
        yield "idempotent", "yes" if getattr(state, "idempotent", False) else "no"
    if within := getattr(state, "within", None):
        yield "within", lasting(within)


def told_of(node: Node) -> dict[str, str]:
    """What is told of the parameters of its requests; of what may be a credential that it is there (X7)."""
    params = node.state.params if isinstance(node.state, Claude) else {}
    known = shown_params(params)
    return {name: shown(known[name]) if name in known else "(not shown)" for name in params}


def _tools(state: Claude) -> Iterator[tuple[str, str]]:
    """What a call of each tool needs, and what the model is told of it: its signature and its description."""
    for tool in state.client_tools:
        asks = f"if {shown(tool.needs_approval)}" if callable(tool.needs_approval) else yes(tool.needs_approval)
        yield f"needs_approval of {tool.name}", asks
        yield f"idempotent of {tool.name}", yes(tool.idempotent)
        yield f"description of {tool.name}", tool.description or "none"
        yield f"parameters of {tool.name}", _parameters(tool.run)


def yes(value: object) -> str:
    return "yes" if value else "no"


def _parameters(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):  # it is none, or is written in another language
        return type(function).__name__


def _schema(output: Schema) -> str:
    """Its name, and its content where that is known without making a schema of a type."""
    source = output.source
    if isinstance(source, type):
        fields = getattr(source, "__annotations__", {})
        return f"{source.__name__}({', '.join(f'{name}: {_type(kind)}' for name, kind in fields.items())})"
    return shown(source)


def _type(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def shown(value: Any) -> str:
    if callable(value):
        return f"{getattr(value, '__name__', type(value).__name__)}()"
    return "" if value is None else str(value)


def trait_words(what: str, was: str, now: str) -> str:
    """A trait in few words; long ones are only said to differ."""
    if what == "name":
        return f"renamed, was {was}"
    if what == "tools":
        left, right = ([] if not names else names.split(", ") for names in (was, now))
        parts = [f"+{name}" for name in right if name not in left] + [f"-{name}" for name in left if name not in right]
        return f"tools {' '.join(parts)}" if parts else "tools in another order"
    if was == now:
        return f"another {what}"  # it differs in what is not shown
    if max(len(was), len(now)) > _LONGEST:
        return f"another {what}" if was and now else f"{what} {'added' if now else 'removed'}"
    return f"{what} was {was or 'none'}, is {now or 'none'}"
