"""JSON as it goes on the wire, and messages encoded into one growing buffer: a body is copied together once.

Successors share the buffer and its list of ends, which are only ever added to: a value sees the first `count` messages.
A second successor of one value finds them longer than its own count and copies what it knows.
"""

from __future__ import annotations

import json
from typing import Any, Self

from attrs import field, frozen


def encode(value: Any) -> bytes:
    """JSON as it goes on the wire: UTF-8, no insignificant space. Lone surrogates and NaN are refused (R26)."""
    return _dumps(value).encode()


def plain(value: Any) -> Any:
    """A copy as plain JSON, as a journal gives it back: tuples are lists, keys are strings.

    Raises:
        ValueError, TypeError: it is no JSON, or holds NaN or a lone surrogate (R26).
    """
    return json.loads(encode(value))


_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


@frozen(eq=False)
class Encoded:
    """The JSON texts of some messages, joined by commas."""

    count: int = 0
    _buffer: bytearray = field(factory=bytearray, repr=False)
    _ends: list[int] = field(factory=list, repr=False)

    @property
    def size(self) -> int:
        """Bytes of the joined text."""
        return self._ends[self.count - 1] if self.count else 0

    def added(self, raw: bytes) -> Self:
        """The same messages and one more."""
        buffer, ends = self._buffer, self._ends
        if len(ends) != self.count:
            buffer, ends = buffer[: self.size], ends[: self.count]
        if ends:
            buffer += b","
        buffer += raw
        ends.append(len(buffer))
        return type(self)(self.count + 1, buffer, ends)

    def first(self, count: int) -> Self:
        """The first so many messages."""
        return type(self)(min(count, self.count), self._buffer, self._ends)

    def between(self, opening: bytes, closing: bytes) -> bytes:
        """The joined text between two others."""
        with memoryview(self._buffer) as view, view[: self.size] as text:
            return b"".join((opening, text, closing))

    def each(self) -> tuple[bytes, ...]:
        """Every message by itself."""
        starts = (0, *(end + 1 for end in self._ends[: self.count]))
        return tuple(
            bytes(self._buffer[start:end]) for start, end in zip(starts, self._ends[: self.count], strict=False)
        )

    def last_starts_with(self, prefix: bytes) -> bool:
        """Whether there is a last message and it starts like this."""
        if not self.count:
            return False
        start = self._ends[self.count - 2] + 1 if self.count > 1 else 0
        return self._buffer.startswith(prefix, start)

    def __eq__(self, other: object) -> bool:
        return self.between(b"", b"") == other.between(b"", b"") if isinstance(other, Encoded) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.between(b"", b""))
