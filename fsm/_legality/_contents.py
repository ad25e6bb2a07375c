"""Reading the blocks of one message, block by block, for the turn that it belongs to.

`Reply` reads what the assistant says, `Answers` what the user does. Both begin with what the turn holds so far, change
while they read, and are dropped when the next state of `Legality` has been made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from . import _findings as findings
from ._blocks import (
    check_block,
    check_citations,
    is_coded,
    is_server_result,
    is_thinking,
    only_in_assistant,
    only_text,
    result_kind,
    use_kind,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._findings import Violation
    from ._profile import Profile
    from ._seen import Seen

__all__ = ["Answers", "Reply", "ServerUse", "blocks_of", "check_system", "ends_blank"]

_IN_SYSTEM = frozenset({"text", "tool_addition", "tool_removal"})


@frozen
class ServerUse:
    """A server tool use without a result so far: its id, the tool, the type of its result, the turn that it is in."""

    id: str
    tool: str
    result: str
    turn: int


def blocks_of(message: Mapping[str, Any], turn: int, found: list[Violation]) -> Sequence[Any] | None:
    """Return the content as blocks, or None, with the finding, if it cannot be read."""
    content = message.get("content")
    if isinstance(content, (list, tuple)):
        return content
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    if "content" in message:
        found.append(findings.wrong_type(f"messages.{turn}.content", "a valid array"))
    elif message.get("role") == "system":  # R8: the form that only gives directives has no content
        return []
    else:
        found.append(findings.missing(f"messages.{turn}.content"))
    return None


def ends_blank(block: object) -> bool:
    """Whether a block is text that ends in whitespace (R24)."""
    text = block.get("text") if type(block) is dict or isinstance(block, Mapping) else None
    return isinstance(text, str) and text[-1:].isspace()


def where(turn: int, index: int) -> str:
    """The address of a block."""
    return f"messages.{turn}.content.{index}"


def _checked(block: object, turn: int, index: int, flaws: list[Violation], found: list[Violation]) -> str | None:
    """Judge a block by itself and return its type; its address is written only where something is wrong."""
    kind = check_block(block, "", flaws)
    if flaws:
        flaws.clear()
        check_block(block, where(turn, index), found)
    return kind


@define
class Reply:
    """What the blocks of an assistant turn hold, up to the block that was read last."""

    profile: Profile
    seen: Seen
    continued: bool  # whether something stood before that is not known
    turn: int
    calls: dict[str, None]
    coded: frozenset[str]
    server: tuple[ServerUse, ...]
    opening: tuple[int, str] | None
    head: str  # type of the turn's first block as far as it matters; empty before that (R33)
    kind: str | None = None
    fresh: dict[str, None] = field(factory=dict)  # ids that come for the first time

    def read(self, blocks: Sequence[Any], base: int, found: list[Violation]) -> None:
        """Read blocks, the first of which is number `base` of its turn."""
        flaws: list[Violation] = []
        for index, block in enumerate(blocks, base):
            kind = self.kind = _checked(block, self.turn, index, flaws, found)
            if self.opening is None:
                self.opening = (self.turn, kind or "")
            if not self.head:
                self.head = kind or "nothing"
            if kind == "tool_use":
                self._call(block, index, found)
            elif kind != "text" and kind is not None:
                self._other(block, kind, index, found)

    def _call(self, block: Mapping[str, Any], index: int, found: list[Violation]) -> None:
        if type(call := block.get("id")) is str:
            if call in self.fresh or call in self.seen:
                found.append(findings.repeated_call(where(self.turn, index), call))
            self.fresh[call] = self.calls[call] = None
            if is_coded(block):
                self.coded |= {call}

    def _other(self, block: Mapping[str, Any], kind: str, index: int, found: list[Violation]) -> None:
        if kind == "tool_result":
            found.append(findings.wrong_role(f"messages.{self.turn}", where(self.turn, index), kind, "user"))
        elif is_thinking(kind):
            if self.profile.starts_with_thinking and not is_thinking(self.head):
                found.append(findings.thinking_not_first(where(self.turn, 0), self.head))
        elif is_server_result(kind):
            self._serve(block, kind, index, found)
        elif only_in_assistant(kind):
            if isinstance(call := block.get("id"), str):
                self.fresh[server_key(call)] = None
                use = ServerUse(call, str(block.get("name")), result_kind(block), self.turn)
                self.server = (*(each for each in self.server if each.id != call), use)
        elif kind == "document" and self.profile.is_trimmed:
            found.append(findings.document_in_assistant(where(self.turn, index)))

    def _serve(self, block: Mapping[str, Any], kind: str, index: int, found: list[Violation]) -> None:
        if not isinstance(call := block.get("tool_use_id"), str):
            return
        rest = tuple(use for use in self.server if use.id != call)
        if len(rest) == len(self.server) and not self.continued:
            key = server_key(call)
            if not (key in self.fresh or key in self.seen):
                found.append(findings.stray_server_result(where(self.turn, index), call, kind, use_kind(kind)))
        self.server = rest


def server_key(call: str) -> str:
    """The name of a server tool use in the set of ids: no client tool has such an id (R19a), so one set holds both."""
    return f"server:{call}"


@define
class Answers:
    """What the blocks of a user turn answer, up to the block that was read last."""

    turn: int
    calls: tuple[str, ...] | None  # None: it is not known what may be answered
    coded: frozenset[str]
    answered: set[str]
    late: set[str]
    spoken: bool

    def read(self, blocks: Sequence[Any], base: int, found: list[Violation], *, trimmed: bool) -> None:
        """Read blocks, the first of which is number `base` of its turn; `trimmed` is that of the profile (R4a)."""
        flaws: list[Violation] = []
        for index, block in enumerate(blocks, base):
            kind = _checked(block, self.turn, index, flaws, found)
            if kind == "tool_result":
                self._result(block, index, found)
            else:
                self.spoken = True
                if kind is not None and only_in_assistant(kind):
                    message = f"messages.{self.turn}"
                    found.append(findings.wrong_role(message, where(self.turn, index), kind, "assistant"))
            if trimmed and kind is not None:
                check_citations(block, kind, where(self.turn, index), found)

    def _result(self, block: Mapping[str, Any], index: int, found: list[Violation]) -> None:
        if type(call := block.get("tool_use_id")) is not str:
            return
        if call in self.answered or call in self.late:
            found.append(findings.repeated_result(where(self.turn, index), call))
        elif self.calls is not None and call not in self.calls:
            found.append(findings.stray_result(where(self.turn, index), call))
        else:
            (self.late if self.spoken else self.answered).add(call)
            if call in self.coded and not only_text(block.get("content")):
                found.append(findings.coded_not_text(where(self.turn, index), call))

    def lost(self, *, merging: bool, found: list[Violation]) -> bool:
        """Say which calls can have no result any more; return whether there are any (R10, R11, R17)."""
        if not self.calls or len(self.answered) >= len(self.calls) or not (self.spoken or not merging):
            return False
        # After other content, or in another message where those do not merge, no result counts any more.
        unanswered = [call for call in self.calls if call not in self.answered]
        before = f"messages.{self.turn - 1}"
        found.append(findings.unanswered(before, unanswered, late=self.late.issuperset(unanswered)))
        return True


def check_system(blocks: Sequence[Any], turn: int, base: int, found: list[Violation]) -> None:
    """R8, R19: what a system message may hold."""
    flaws: list[Violation] = []
    for index, block in enumerate(blocks, base):
        kind, at = _checked(block, turn, index, flaws, found), where(turn, index)
        if kind == "tool_result":
            found.append(findings.wrong_role(f"messages.{turn}", at, kind, "user"))
        elif kind is not None and only_in_assistant(kind):
            found.append(findings.wrong_role(f"messages.{turn}", at, kind, "assistant"))
        elif kind is not None and kind not in _IN_SYSTEM:
            found.append(findings.system_kind(at, kind))
        elif kind == "text" and isinstance(words := block.get("text"), str) and words and not words.strip():
            found.append(findings.system_blank(at))
