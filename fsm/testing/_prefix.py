"""A request in the order in which the model reads it: tools, system, messages.

What a request costs, what of it is cached and what thinking is bound to are all said of its beginning, so they share
this one walk. The tokens of a request are the sum of those of its pieces.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Literal

from attrs import frozen

Section = Literal["tools", "system", "messages"]

THINKING = frozenset({"thinking", "redacted_thinking"})
DIGEST = 12  # bytes
_CHARACTERS_PER_TOKEN = 4
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_IMAGE_TOKENS = 1600  # what the largest image costs (vision page); the emulator decodes none


@frozen
class Piece:
    """One tool, one block of the system prompt, or one block of a message.

    `path` is where the API says it is, with messages of one role counted as one (R6); `encoded` is the same for
    whatever the model reads as the same: the order of keys, nulls and `cache_control` do not count.
    """

    section: Section
    role: str
    turn: int
    path: str
    block: Mapping[str, Any]
    encoded: bytes
    tokens: int

    @property
    def kind(self) -> str:
        """The type of the block."""
        return str(self.block.get("type"))


def chain(before: bytes, *parts: bytes) -> bytes:
    """The digest of everything up to and including `parts`."""
    made = blake2b(before, digest_size=DIGEST)
    for part in parts:
        made.update(len(part).to_bytes(4))
        made.update(part)
    return made.digest()


def pieces(body: Mapping[str, Any]) -> list[Piece]:
    """Split a request that `_legality` lets pass."""
    found: list[Piece] = []
    tools = body.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, Sequence) else ()):
        if isinstance(tool, Mapping):
            found.append(_piece("tools", "", -1, f"tools.{index}", tool))
    for index, block in enumerate(_parts(body.get("system"))):
        found.append(_piece("system", "", -1, f"system.{index}", block))
    for turn, role, path, block in blocks(body["messages"]):
        found.append(_piece("messages", role, turn, path, block))
    return found


def blocks(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, str, str, Mapping[str, Any]]]:
    """Every content block as (turn, role, path, block); neighbours of one role are one turn (R6)."""
    turn, before, index = -1, "", 0
    for message in messages:
        role = str(message.get("role"))
        if role != before:
            turn, before, index = turn + 1, role, 0
        for block in _parts(message.get("content")):
            yield turn, role, f"messages.{turn}.content.{index}", block
            index += 1


def block_of(role: str, block: Mapping[str, Any]) -> Piece:
    """A block that is about to be served, as the piece that it will be in the next request."""
    return _piece("messages", role, -1, "", block)


def _parts(content: object) -> list[Mapping[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [block for block in content if isinstance(block, Mapping)] if isinstance(content, list | tuple) else []


def _piece(section: Section, role: str, turn: int, path: str, block: Mapping[str, Any]) -> Piece:
    kept = {key: value for key, value in block.items() if value is not None and key != "cache_control"}
    encoded = _ENCODER.encode(kept).encode()
    return Piece(section, role, turn, path, block, encoded, 1 + _size(kept, encoded) // _CHARACTERS_PER_TOKEN)


def _size(block: Mapping[str, Any], encoded: bytes) -> int:
    """The characters that the tokens of a block are estimated from."""
    source = block.get("source")
    if block.get("type") == "image" and isinstance(source, Mapping):
        return _IMAGE_TOKENS * _CHARACTERS_PER_TOKEN
    return len(encoded)
