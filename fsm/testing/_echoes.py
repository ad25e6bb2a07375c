"""Which replies of an emulator come back to it: what only the server knows of a turn, its content does not tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from fsm.testing._prefix import THINKING, block_of, blocks, chain

_NOTHING = b""


class Echoes:
    """The assistant turns that an emulator served where a rule would take them for something else."""

    def __init__(self) -> None:
        self._paused: set[bytes] = set()
        self._mixed: set[bytes] = set()

    def remember(self, messages: object, reply: Mapping[str, Any]) -> None:
        """Take note of a reply to these messages."""
        content = reply["content"]
        kinds = [block.get("type") in THINKING for block in content]
        is_paused, is_mixed = reply["stop_reason"] == "pause_turn", any(kinds) and not kinds[0]
        if not (is_paused or is_mixed):
            return
        turns = _turns(messages)
        newest = turns[-1][1] if turns and turns[-1][0] == "assistant" else []
        digest = _digests([*newest, *content])[-1] if newest or content else _NOTHING
        (self._paused if is_paused else self._mixed).add(digest)
        if is_paused and is_mixed:
            self._mixed.add(digest)

    def is_paused(self, messages: object) -> bool:
        """Whether the messages end in a turn that was paused here, unchanged (S7.2)."""
        if not self._paused:
            return False
        turns = _turns(messages)
        return bool(turns) and turns[-1][0] == "assistant" and _last(_digests(turns[-1][1])) in self._paused

    def began_so(self, messages: object, turn: int) -> bool:
        """Whether this turn begins with a reply of this emulator whose thinking did not come first."""
        if not self._mixed:
            return False
        turns = _turns(messages)
        return turn < len(turns) and not self._mixed.isdisjoint(_digests(turns[turn][1]))


def _turns(messages: object) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Role and blocks of each turn (R6), whatever else may be wrong with the messages."""
    if not isinstance(messages, list):
        return []
    found: list[tuple[str, list[Mapping[str, Any]]]] = []
    for number, role, _, block in blocks([each for each in messages if isinstance(each, Mapping)]):
        found += [(role, []) for _ in range(len(found), number + 1)]
        found[number][1].append(block)
    return found


def _digests(content: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """The digest after each block, cache marks and nulls left out."""
    encoded = (block_of("assistant", block).encoded for block in content)
    return list(accumulate(encoded, chain, initial=_NOTHING))[1:]


def _last(digests: list[bytes]) -> bytes:
    return digests[-1] if digests else _NOTHING
