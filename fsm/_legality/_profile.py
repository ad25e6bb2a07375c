"""What a model or an endpoint refuses beyond the rules that hold for all."""

from __future__ import annotations

from functools import lru_cache

from attrs import field, frozen

from fsm._models import model_facts

__all__ = ["LENIENT", "STRICT", "VERSION", "Profile", "profile_of"]

_ONE_SAMPLING = ("-4-5", "-4-6")  # newer ones take no sampling at all, older ones both
_NOT_ABOVE_HIGH = frozenset({"low", "medium", "high"})
VERSION = "2026-10-21"
"""The newest `anthropic-version`, which the SDK sends and a strict profile takes where none is named (R4a)."""


@frozen
class Profile:  # one field for each question; the sources are in docs/rules.md
    """Answers to the questions on which models and sources differ; `None` means not known, and then nothing is refused.

    Params:
        name: shown to people; the model's name in the texts that print it (R46).
        strict: whether what is doubtful is refused too: unknown keys (R3), tool blocks without `tools` (R19e), limits
            that only the documentation names. Right for an emulator, wrong for requests that somebody else wrote.
        split_results_merge: whether tool results spread over consecutive user messages count as one message (R17).
        prefill_allowed: whether the request may end with an assistant message (R25).
        final_whitespace_allowed: whether a final assistant text may end in whitespace (R24).
        system_role: whether messages of role `system` are known to the model (R8).
        extra_keys_allowed: whether objects may have keys that the API does not know (R3).
        thinking: the values of `thinking.type` that the model takes (R34).
        forced_choice: whether `tool_choice` may force a tool while thinking is adaptive (R36).
        sampling: whether the model takes `temperature`, `top_p` and `top_k` other than the default ones (R4a).
        sampling_pair: whether it takes `temperature` and `top_p` together (R4a).
        disabled_efforts: the efforts at which thinking may be switched off (R34).
        starts_with_thinking: whether a tool loop must start with a thinking block under manual thinking (R33).
        max_output: the most tokens that `max_tokens` may ask for (R46).
        max_images: the most images of one request (R55).
        version: the `anthropic-version` of the request, which decides R4a; None where it is not known.
        binds: whether thinking is bound to all before it (R35). It is not judged from the body: whoever signs the
            blocks, as the emulator does, reads it here.
    """

    name: str
    strict: bool = field(default=False, kw_only=True)
    split_results_merge: bool = field(default=True, kw_only=True)
    prefill_allowed: bool | None = field(default=None, kw_only=True)
    final_whitespace_allowed: bool | None = field(default=None, kw_only=True)
    system_role: bool | None = field(default=None, kw_only=True)
    extra_keys_allowed: bool = field(default=True, kw_only=True)
    thinking: frozenset[str] | None = field(default=None, kw_only=True)
    forced_choice: bool | None = field(default=None, kw_only=True)
    sampling: bool | None = field(default=None, kw_only=True)
    sampling_pair: bool | None = field(default=None, kw_only=True)
    disabled_efforts: frozenset[str] | None = field(default=None, kw_only=True)
    starts_with_thinking: bool | None = field(default=None, kw_only=True)
    max_output: int | None = field(default=None, kw_only=True)
    max_images: int | None = field(default=None, kw_only=True)
    version: str | None = field(default=None, kw_only=True)
    binds: bool | None = field(default=None, kw_only=True)

    @property
    def is_trimmed(self) -> bool:
        """Whether the version is one that took sampling, documents of the model and citations of users away (R4a)."""
        return self.version is not None and self.version[:1].isdigit() and self.version >= VERSION


LENIENT = Profile("lenient")
"""Refuses only what the API surely refuses; right for requests that somebody else wrote."""

STRICT = Profile("strict", strict=True, split_results_merge=False, extra_keys_allowed=False, version=VERSION)
"""Refuses also what is doubtful for every model; right for the emulator, where a doubtful request should be noticed."""


@lru_cache(maxsize=256)
def profile_of(model: str, *, strict: bool = False) -> Profile:
    """What a model refuses, by its id; what is not known of it is not refused.

    Params:
        model: the id, dated or not, also as Bedrock and Vertex spell it.
        strict: also refuse what is doubtful, as `STRICT` does.

    Returns:
        The profile for `violations` and `Legality.start`; for an unknown model that of no model in particular.
    """
    facts = model_facts(model)
    newer = facts.prefill is False  # 4.6 and later: the models that gave up prefill
    return Profile(
        model,
        strict=strict,
        split_results_merge=not strict,
        extra_keys_allowed=not strict,
        prefill_allowed=facts.prefill,
        final_whitespace_allowed=False if facts.prefill is not None else None,
        system_role=facts.system_role,
        thinking=facts.thinking,
        forced_choice=facts.forced_choice,
        sampling=None if facts.thinking is None or "enabled" in facts.thinking else False,
        sampling_pair=False if facts.name.endswith(_ONE_SAMPLING) else None,
        disabled_efforts=_NOT_ABOVE_HIGH if facts.name == "claude-opus-5" else None,
        starts_with_thinking=facts.prefill,
        max_output=facts.max_output,
        max_images=600 if newer else 100 if facts.is_known else None,
        version=VERSION if strict else None,
        binds=facts.binds,
    )
