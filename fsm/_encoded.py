"""JSON as it goes on the wire, and messages encoded into one growing buffer: a body is copied together once.

Successors share the buffer and its list of ends, which are only ever added to: a value sees the first `count` messages.
A second successor of one value finds them longer than its own count and copies what it knows.
"""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable
from typing import Any, Self

from attrs import field, frozen


def encode(value: Any) -> bytes:
    """JSON as it goes on the wire: UTF-8, no insignificant space. Lone surrogates and NaN are refused (R26).

    Raises:
        ValueError, TypeError: it is no JSON, or is nested too deeply, as what holds itself is.
    """
    try:
        return _dumps(value).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply, or holds itself") from None


def plain(value: Any) -> Any:
    """A copy as plain JSON, as a journal gives it back: tuples are lists, keys are strings.

    Raises:
        ValueError, TypeError: it is no JSON, or holds NaN or a lone surrogate (R26).
    """
    return json.loads(encode(value))


def _refuse(value: Any) -> Any:
    raise TypeError(f"a value of type {type(value).__name__} is no JSON")


def encoder(*, default: Callable[[Any], Any], sort_keys: bool, allow_nan: bool) -> Callable[[Any], str]:
    """Compact JSON as text; the parameters are those of `json.dumps`. What holds itself is a RecursionError.

    `JSONEncoder.encode` makes its C encoder anew for every value, which costs more than most of ours.
    """
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # not CPython
        return json.JSONEncoder(
            ensure_ascii=False, separators=(",", ":"), default=default, sort_keys=sort_keys, allow_nan=allow_nan
        ).encode
    parts = make(None, default, json.encoder.encode_basestring, None, ":", ",", sort_keys, False, allow_nan)  # noqa: FBT003
    return lambda value: "".join(parts(value, 0))


_dumps = encoder(default=_refuse, sort_keys=False, allow_nan=False)


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
