"""What a model or an endpoint refuses beyond the rules that hold for all."""

from __future__ import annotations

from attrs import field, frozen

__all__ = ["LENIENT", "STRICT", "Profile"]


@frozen
class Profile:
    """Answers to the questions on which models and sources differ; `None` means not known, and then nothing is refused.

    Params:
        name: shown to people only.
        split_results_merge: whether tool results spread over consecutive user messages count as one message (R17).
        prefill_allowed: whether the request may end with an assistant message (R25).
        system_role: whether messages of role `system` are known to the model (R8).
        final_whitespace_allowed: whether a final assistant text may end in whitespace (R24).
        extra_keys_allowed: whether a message object may have keys that the API does not know (R3).
    """

    name: str
    split_results_merge: bool = field(default=True, kw_only=True)
    prefill_allowed: bool | None = field(default=None, kw_only=True)
    system_role: bool | None = field(default=None, kw_only=True)
    final_whitespace_allowed: bool | None = field(default=None, kw_only=True)
    extra_keys_allowed: bool = field(default=True, kw_only=True)


LENIENT = Profile("lenient")
"""Refuses only what the API surely refuses; right for requests that somebody else wrote."""

STRICT = Profile("strict", split_results_merge=False, extra_keys_allowed=False)
"""Refuses also what is doubtful for every model; right for the emulator, where a doubtful request should be noticed."""
