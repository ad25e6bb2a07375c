"""What the checks of a request body share: under which rules it is asked for, and a walk over its blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from ._findings import Violation
    from ._profile import Profile

__all__ = ["Asked", "Block", "Check", "all_blocks", "named", "tags"]

# R62: null means absence for these; the beta fields are optional by their types.
_NULLABLE = frozenset({
    "metadata", "inference_geo", "stop_sequences", "cache_control", "container", "diagnostics", "speed",
    "billing_policy", "compaction", "context_management", "fallback_credit_token", "fallbacks", "thread",
})  # fmt: skip


@frozen
class Block:
    """A content block of a message, with the address that the API gives it: same-role neighbours count as one (R6)."""

    turn: int
    index: int
    role: str
    kind: str
    value: Mapping[str, Any]

    @property
    def at(self) -> str:
        """The address, such as `messages.3.content.1`."""
        return f"messages.{self.turn}.content.{self.index}"


@frozen
class Asked:
    """The rules that a request is judged by: those of the profile, and the beta features named beside it.

    `betas` is None where the headers are not known; then no field is refused for the lack of one. `blocks` are those of
    the messages that are not plain, see `all_blocks`.
    """

    profile: Profile
    betas: frozenset[str] | None
    blocks: tuple[Block, ...]

    @property
    def strict(self) -> bool:
        """Whether what is doubtful is refused too."""
        return self.profile.strict

    def has(self, *features: str) -> bool | None:
        """Whether a beta header begins like one of `features`; None where the headers are not known."""
        return None if self.betas is None else any(name.startswith(features) for name in self.betas)

    def given(self, request: Mapping[str, Any], name: str) -> bool:
        """Whether a field is there to be judged: null is absence where the API says so, and in doubt (R62)."""
        return name in request and (request[name] is not None or (self.strict and name not in _NULLABLE))


Check = Callable[[Mapping[str, Any], Asked], "Iterator[Violation]"]
"""One check of a request body: it gives a finding for each rule that is broken."""


_PLAIN = ("text", "tool_use", "tool_result")


def all_blocks(request: Mapping[str, Any], *, plain: bool = True) -> Iterator[Block]:
    """Give each block of the messages that can be read; those inside tool results are not given.

    Without `plain`, words, calls and results of words are left out unless they are marked: most blocks of a
    conversation are such, and no rule around the messages is about them.
    """
    messages = request.get("messages")
    turn, before, base = -1, "", 0
    for message in messages if isinstance(messages, (list, tuple)) else ():
        role = message.get("role") if isinstance(message, Mapping) else None
        role = role if isinstance(role, str) else ""
        if role != before or not role:
            turn, before, base = turn + 1, role, 0
        content = message.get("content") if role else None
        if isinstance(content, str):
            base += bool(content)
            continue
        for index, block in enumerate(content if isinstance(content, (list, tuple)) else (), base):
            base = index + 1
            if type(block) is not dict and not isinstance(block, Mapping):
                continue
            kind = block.get("type")
            if (
                plain
                or kind not in _PLAIN
                or "cache_control" in block
                or isinstance(block.get("content"), (list, tuple))
            ):
                yield Block(turn, index, role, str(kind), block)


def named(value: object) -> list[str]:
    """The names of the tools in `tools`."""
    tools = value if isinstance(value, list | tuple) else ()
    return [tool["name"] for tool in tools if isinstance(tool, Mapping) and isinstance(tool.get("name"), str)]


def tags(values: tuple[str, ...]) -> str:
    """The values as the API lists them: `'a', 'b'`."""
    return ", ".join(f"'{value}'" for value in values)
