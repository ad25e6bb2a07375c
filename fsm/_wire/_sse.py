"""Server-sent events: bytes in any pieces become (name, data) pairs.

The framing of the WHATWG standard: lines end with LF, CR LF or CR, a blank line ends an event, `data` lines are
joined by newlines, a line that starts with a colon is a comment. What a cut leaves without its blank line is no
event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fsm._errors import WireError

MAX_EVENT = 16 * 1024 * 1024
"""Bytes of one line, and of the data of one event. More is no reply but an attack or a fault."""

_BOM = b"\xef\xbb\xbf"


class SseDecoder:
    """Takes bytes as they come and gives whole events. Where the pieces are cut makes no difference."""

    def __init__(self) -> None:
        self._begun = bytearray()  # the line that has no end yet
        self._after_cr = False  # an LF that comes next belongs to the CR before it
        self._is_first = True  # the first line may begin with a byte order mark
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str]]:
        """Yields name and data of each event that the chunk completes; without a name it is "message".

        Raises:
            WireError: an event is larger than 16 MiB or not UTF-8 (S11.3). The stream cannot be read any further.
        """
        if not chunk:
            return
        if self._after_cr:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        for piece in chunk.splitlines(keepends=True):  # of bytes: splits at LF, CR LF and CR only
            line = piece.rstrip(b"\r\n")
            if len(self._begun) + len(line) > MAX_EVENT:
                raise _too_large()
            if len(line) == len(piece):
                self._begun += piece
                return
            if self._begun:
                line = bytes(self._begun) + line
                self._begun.clear()
            if event := self._take(line):
                yield event
        self._after_cr = chunk.endswith(b"\r")

    def _take(self, line: bytes) -> tuple[str, str] | None:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._end()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._size += len(value) + 1
            if self._size > MAX_EVENT:
                raise _too_large()
            self._data.append(value)
        elif field == b"event":
            self._name = value
        return None  # `id`, `retry`, comments and unknown fields mean nothing here

    def _end(self) -> tuple[str, str] | None:
        name, data = self._name, self._data
        self._name, self._data, self._size = b"", [], 0
        if not data:
            return None
        try:
            return name.decode() or "message", b"\n".join(data).decode()
        except UnicodeDecodeError as error:
            raise WireError(f"the stream is not UTF-8: {error.reason}", rule="S11.3") from None


def iter_sse(chunks: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Yields name and data of each event of a whole recorded stream; see `SseDecoder.feed`."""
    decoder = SseDecoder()
    for chunk in chunks:
        yield from decoder.feed(chunk)


def _too_large() -> WireError:
    return WireError(f"an event of the stream is larger than {MAX_EVENT} bytes", rule="S11.3")
