"""The prompt cache: what of a request is read from it, what is written to it, what is paid in full.

An entry is a prefix of tools, system and messages, in that order, that ended at a breakpoint. From each breakpoint a
request looks back for the longest prefix that an earlier one wrote. So whatever changes loses all that comes after it;
beside the content these are the model (everything), the output format (system and messages), and `tool_choice` and the
thinking mode (messages).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from fsm.testing._prefix import THINKING, Piece, chain
from fsm.testing._sse import to_json

_SECONDS = {"5m": 300.0, "1h": 3600.0}
_LOOK_BACK = 20  # blocks, the breakpoint included
_LEAST = 1024
# The smallest prefix that is cached, in tokens, where the prompt caching page names another for a model.
_LEAST_OF = {
    "claude-mythos-preview": 4096,
    "claude-opus-4-6": 4096,
    "claude-opus-4-5": 4096,
    "claude-haiku-4-5": 4096,
    "claude-sonnet-4-6": 2048,
    "claude-opus-5": 512,
}
_PRUNED = 4096  # entries, from which on those that are over are thrown away


@frozen
class Breakpoint:
    """A prefix that the request asks to cache: where it ends, its digest, its tokens, how long it is to live."""

    at: int
    ttl: str
    tokens: int


@frozen(kw_only=True)
class Account:
    """The input tokens of one request, by what they cost."""

    plain: int
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def total(self) -> int:
        """All of them, as `count_tokens` answers."""
        return self.plain + self.read + self.written_5m + self.written_1h

    @property
    def usage(self) -> dict[str, Any]:
        """The part of the reply's `usage` that is about the input."""
        return {
            "input_tokens": self.plain,
            "cache_creation_input_tokens": self.written_5m + self.written_1h,
            "cache_read_input_tokens": self.read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.written_5m,
                "ephemeral_1h_input_tokens": self.written_1h,
            },
        }


class Cache:
    """The entries of one emulator; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[bytes, tuple[float, float]] = {}  # digest → when it ends, how long a use prolongs it

    def account(self, body: Mapping[str, Any], pieces: Sequence[Piece], *, least: int, keep: bool = True) -> Account:
        """Account for a request.

        Params:
            body: the request.
            pieces: what the model reads of it.
            least: the smallest prefix that is cached, in tokens.
            keep: false leaves the cache as it is, for an answer that will not arrive.
        """
        total = sum(piece.tokens for piece in pieces)
        wanted = [each for each in _breakpoints(body, pieces) if each.tokens >= least]
        if not wanted:
            return Account(plain=total)
        digests, now = _digests(body, pieces), self._clock()
        read = 0
        for each in wanted:
            read = max(read, self._find(each, digests, pieces, now, keep=keep))
        if keep:
            for each in wanted:
                self._write(digests[each.at], each.ttl, now)
        hour = max([each.tokens for each in wanted if each.ttl == "1h"], default=0)
        until = max(each.tokens for each in wanted)
        written_1h = max(0, hour - read)
        written_5m = max(0, until - max(hour, read))
        plain = total - read - written_1h - written_5m
        return Account(plain=plain, read=read, written_1h=written_1h, written_5m=written_5m)

    def _find(
        self, wanted: Breakpoint, digests: Sequence[bytes], pieces: Sequence[Piece], now: float, *, keep: bool
    ) -> int:
        """The tokens of the longest entry near a breakpoint; a use prolongs its life."""
        tokens = wanted.tokens
        for at in range(wanted.at, max(-1, wanted.at - _LOOK_BACK), -1):
            ends, lasts = self._entries.get(digests[at], (now, 0.0))
            if ends > now:
                if keep:
                    self._entries[digests[at]] = (now + lasts, lasts)
                return tokens
            tokens -= pieces[at].tokens
        return 0

    def _write(self, digest: bytes, ttl: str, now: float) -> None:
        if len(self._entries) >= _PRUNED:
            self._entries = {key: entry for key, entry in self._entries.items() if entry[0] > now}
        ends, lasts = self._entries.get(digest, (now, 0.0))
        lasts = max(_SECONDS[ttl], lasts if ends > now else 0.0)
        self._entries[digest] = (now + lasts, lasts)


def least_of(model: str) -> int:
    """The smallest prefix that a model caches, in tokens, by the name without its date."""
    return _LEAST_OF.get(model, _LEAST)


def _breakpoints(body: Mapping[str, Any], pieces: Sequence[Piece]) -> list[Breakpoint]:
    """Where the request asks to cache: its marks, and with a top-level `cache_control` its last cacheable block."""
    automatic = body.get("cache_control")
    last = -1
    if isinstance(automatic, Mapping):
        last = next((at for at in range(len(pieces) - 1, -1, -1) if _is_cacheable(pieces[at])), -1)
    found, tokens = [], 0
    for at, piece in enumerate(pieces):
        tokens += piece.tokens
        mark = _mark(piece.block) or (automatic if at == last else None)
        if mark is not None:
            ttl = mark.get("ttl") or "5m"
            found.append(Breakpoint(at, ttl if ttl in _SECONDS else "5m", tokens))
    return found


def _is_cacheable(piece: Piece) -> bool:
    return piece.kind not in THINKING and piece.block.get("text") != ""


def _mark(block: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The mark on a block, or on a block inside it, as in the content of a tool result."""
    mark = block.get("cache_control")
    if isinstance(mark, Mapping):
        return mark
    inner = block.get("content")
    inside = [_mark(part) for part in inner if isinstance(part, Mapping)] if isinstance(inner, list) else []
    return next((each for each in reversed(inside) if each is not None), None)


def _digests(body: Mapping[str, Any], pieces: Sequence[Piece]) -> list[bytes]:
    """For each piece the digest of all up to it."""
    now = chain(b"", to_json(body.get("model")))
    thinking = body.get("thinking")
    mode = {key: thinking[key] for key in thinking if key in _MODE} if isinstance(thinking, Mapping) else None
    output = body.get("output_config")
    layers = {
        "tools": b"",
        "system": to_json([output.get("format") if isinstance(output, Mapping) else None, body.get("speed")]),
        "messages": to_json([body.get("tool_choice"), mode]),
    }
    entered: list[str] = []
    found = []
    for piece in pieces:
        for section in ("tools", "system", "messages"):
            if section not in entered:
                now = chain(now, layers[section])
                entered.append(section)
            if section == piece.section:
                break
        now = chain(now, piece.role.encode(), piece.encoded)
        found.append(now)
    return found


_MODE = frozenset({"type", "budget_tokens"})
