"""What models are known for: output caps, and whether thinking is bound to the history (R35). One table with sources.

Output caps are those of the models overview page of the API documentation; binding is R35's list (the preserved
thinking page). An unknown model works: no cap is assumed, and it is treated as one that binds.
"""

from __future__ import annotations

import re

from attrs import frozen

_DATED = re.compile(r"-(\d{8}|latest)$")


@frozen
class ModelFacts:
    """`max_output` in tokens (None: unknown); `binds` whether R35 is enforced (None: unknown)."""

    name: str
    max_output: int | None = None
    binds: bool | None = None


_K = 1000
_KNOWN: dict[str, ModelFacts] = {
    m.name: m
    for m in (
        ModelFacts("claude-fable-5-2", 128 * _K, binds=True),
        ModelFacts("claude-fable-5-1", 128 * _K, binds=True),
        ModelFacts("claude-fable-5", 128 * _K, binds=False),
        ModelFacts("claude-mythos-5-2", 128 * _K, binds=True),
        ModelFacts("claude-mythos-5-1", 128 * _K, binds=True),
        ModelFacts("claude-mythos-5", 128 * _K, binds=False),
        ModelFacts("claude-opus-5-5", 128 * _K, binds=True),
        ModelFacts("claude-sonnet-5-5", 128 * _K, binds=True),
        ModelFacts("claude-haiku-5-5", 64 * _K, binds=True),
        ModelFacts("claude-opus-5", 128 * _K, binds=False),
        ModelFacts("claude-sonnet-5", 128 * _K, binds=False),
        ModelFacts("claude-opus-4-8", 128 * _K, binds=False),
        ModelFacts("claude-opus-4-7", 128 * _K, binds=False),
        ModelFacts("claude-opus-4-6", 128 * _K, binds=False),
        ModelFacts("claude-sonnet-4-6", 64 * _K, binds=False),
        ModelFacts("claude-haiku-4-5", 64 * _K, binds=False),
        ModelFacts("claude-opus-4-5", 64 * _K, binds=False),
        ModelFacts("claude-sonnet-4-5", 64 * _K, binds=False),
    )
}


def model_facts(model: str) -> ModelFacts:
    """The facts of a model by its id, dated or not; unknown ones have None."""
    return _KNOWN.get(_DATED.sub("", model)) or ModelFacts(model)
