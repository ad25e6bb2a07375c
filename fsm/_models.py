"""What models are known for: output caps, what they refuse, and whether they bind thinking to the history.

One table with sources; `STRICT` profiles, the emulator, W11, W14, `grow` and `fsm check` read it.

    max_output     each model's own page (Max output); 64K up to the 4.5 generation, 128K from 4.6 on
    binds          R35, preserved thinking page: from Fable 5.1 on
    prefill        R25, errors page: refused from 4.6 on
    system_role    R8, mid-conversation system messages page
    thinking       R34, thinking page and each model's migration guide: which `thinking.type` a model takes. Opus 5.5
                   cannot turn thinking off, Sonnet 5.5 takes `between_tools` instead of `disabled`
    forced_choice  R36, define-tools page and migration guides: whether `tool_choice` may force a tool while the model
                   thinks by itself

Context windows and prices are not here: the price list that `fsm._prices` reads has them. Dates of retirement are
not here: the SDK has them. A test compares the names with the SDK's own list of models. An unknown model works: no
cap is assumed, and it is treated as one that binds.
"""

from __future__ import annotations

import re

from attrs import evolve, frozen

_DATED = re.compile(r"[-@](\d{8}|latest|default|0)$")
# As Bedrock spells it: `us.anthropic.claude-opus-4-6-v1`, also at the end of the ARN of an inference profile.
_HOSTED = re.compile(r"^(?:arn:[^/]*/)?(?:[a-z-]+\.)?anthropic\.(?P<name>.+?)(?:-v\d+(?::\d+)?)?$")

_ANY = frozenset({"enabled", "adaptive", "disabled"})
_MANUAL = frozenset({"enabled", "disabled"})
_ADAPTIVE = frozenset({"adaptive", "disabled"})
_BETWEEN = frozenset({"adaptive", "between_tools"})
_ALWAYS = frozenset({"adaptive"})


@frozen(kw_only=True)
class ModelFacts:
    """One model. None means not known; whoever asks decides what is careful then."""

    name: str
    max_output: int | None = None  # tokens
    binds: bool | None = None
    prefill: bool | None = None
    system_role: bool | None = None
    thinking: frozenset[str] | None = None
    forced_choice: bool | None = None

    @property
    def is_known(self) -> bool:
        """Whether the table has this model."""
        return self.name in _KNOWN


_K = 1000
_V4 = ModelFacts(
    name="4", max_output=32 * _K, binds=False, prefill=True, system_role=False, thinking=_MANUAL, forced_choice=True
)
_V45 = evolve(_V4, max_output=64 * _K)
_V46 = evolve(_V45, max_output=128 * _K, prefill=False, thinking=_ANY)
_V47 = evolve(_V46, thinking=_ADAPTIVE)
_V5 = evolve(_V47, system_role=True)
_BOUND = evolve(_V5, binds=True, forced_choice=None)

_KNOWN: dict[str, ModelFacts] = {
    m.name: m
    for m in (
        evolve(_BOUND, name="claude-fable-5-2", thinking=_ALWAYS),
        evolve(_BOUND, name="claude-fable-5-1", thinking=_ALWAYS, forced_choice=False),
        evolve(_V5, name="claude-fable-5", thinking=_ALWAYS),
        evolve(_BOUND, name="claude-mythos-5-2", thinking=_ALWAYS, system_role=None),
        evolve(_BOUND, name="claude-mythos-5-1", thinking=_ALWAYS, forced_choice=False),
        evolve(_V5, name="claude-mythos-5", thinking=_ALWAYS),
        evolve(
            _V5,
            name="claude-mythos-preview",
            thinking=frozenset({"enabled", "adaptive"}),
            forced_choice=False,
            system_role=None,
        ),
        evolve(_BOUND, name="claude-opus-5-5", thinking=_ALWAYS, forced_choice=False),
        evolve(_BOUND, name="claude-sonnet-5-5", thinking=_BETWEEN, forced_choice=False),
        evolve(_BOUND, name="claude-haiku-5-5"),
        evolve(_V5, name="claude-opus-5"),
        evolve(_V5, name="claude-sonnet-5", system_role=False),
        evolve(_V47, name="claude-opus-4-8", system_role=True),
        evolve(_V47, name="claude-opus-4-7"),
        evolve(_V46, name="claude-opus-4-6"),
        evolve(_V46, name="claude-sonnet-4-6"),
        evolve(_V45, name="claude-haiku-4-5"),
        evolve(_V45, name="claude-opus-4-5"),
        evolve(_V45, name="claude-sonnet-4-5"),
        # Retired on the Claude API, still served by Bedrock or Google Cloud.
        evolve(_V4, name="claude-opus-4-1"),
        evolve(_V4, name="claude-opus-4"),
        evolve(_V45, name="claude-sonnet-4"),
    )
}


def model_facts(model: str) -> ModelFacts:
    """The facts of a model by its id: dated or not, also as Bedrock and Vertex spell it. Unknown ones have None."""
    hosted = _HOSTED.match(model)
    name = _DATED.sub("", hosted["name"] if hosted else model)
    return _KNOWN.get(name) or ModelFacts(name=model)
