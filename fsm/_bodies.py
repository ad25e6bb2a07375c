"""The body of one answer while it is read: with a limit, and with progress (N5, N6).

An answer must make progress within the client's read timeout. The transport's own timer begins anew with every byte, so
it never ends a server that sends pings only, or a byte now and then. Time is looked at whenever bytes come and between
two of them the transport looks, so no thread is needed; a body is given up after twice the timeout at the latest.
"""

from __future__ import annotations

import time

import httpx2

from ._errors import WireError
from ._wire import MAX_REPLY, Delta, StreamReader, Wire, read_message, too_long


class Standstill(httpx2.ReadTimeout):
    """Bytes came, and no progress. It is what the transport's own timeout means, so it is treated as one."""


class Body:
    """A reply in one piece. It comes at once when it is ready, so its progress is its end."""

    def __init__(self, content_type: str, patience: float | None) -> None:
        self.content_type, self.patience = content_type, patience
        self.since = time.monotonic()
        self.parts: list[bytes] = []
        self.size = 0

    def feed(self, chunk: bytes) -> list[Delta]:
        """Take a piece, as it came from the transport.

        Raises:
            WireError, StreamError: this is no reply; read no further.
        """
        self.size += len(chunk)
        if self.size > MAX_REPLY:
            raise too_long()
        self.parts.append(chunk)
        return []

    def check(self) -> None:
        """Look at the time, when the consumer has had what the piece gave.

        Raises:
            Standstill: no progress for too long.
        """
        if self.is_overdue():
            raise Standstill(f"the body did not end within {self.patience:g} s of its headers")

    def is_overdue(self) -> bool:
        """Whether there was no progress for as long as the client waits."""
        return self.patience is not None and time.monotonic() - self.since > self.patience

    def wire(self) -> Wire:
        """The message, when the body has ended.

        Raises:
            WireError, StreamError: it is none.
        """
        return read_message(b"".join(self.parts), self.content_type)

    def after(self, error: Exception) -> Wire:
        """What there is after `feed`, `check` or the transport failed with `error`.

        Raises:
            Exception: the failure, as what it means.
        """
        raise error


class StreamBody(Body):
    """A streamed reply. Progress is an event that came whole and is no ping."""

    def __init__(self, content_type: str, patience: float | None) -> None:
        super().__init__(content_type, patience)
        self.reader, self.events = StreamReader(), 0

    def feed(self, chunk: bytes) -> list[Delta]:
        """Take a piece; returns the deltas that it completes."""
        return self.reader.feed(chunk)

    def check(self) -> None:
        """Look at the time."""
        if self.reader.events != self.events:
            self.events, self.since = self.reader.events, time.monotonic()
        elif self.is_overdue():
            raise Standstill(f"no event but pings for {self.patience:g} s")

    def wire(self) -> Wire:
        """The message, when the stream has ended."""
        return self.reader.finish()

    def after(self, error: Exception) -> Wire:
        """The message, where the transport failed after `message_stop`; else a cut stream, whatever its class (G20)."""
        if not isinstance(error, httpx2.HTTPError):
            raise error
        if self.reader.is_complete:
            return self.reader.finish()
        if isinstance(error, Standstill):
            raise WireError(f"the stream stood still: {error}", rule="G20")
        if isinstance(error, httpx2.ReadTimeout) and self.patience is not None:
            raise WireError(f"the stream stood still: nothing came for {self.patience:g} s", rule="G20")
        raise WireError(f"the stream broke: {type(error).__name__}: {error}", rule="G20")


class BinaryBody(Body):
    """A stream in a binary form of its own, as Bedrock sends it."""

    def feed(self, chunk: bytes) -> list[Delta]:  # noqa: ARG002 - the base class's signature
        """Refuse it."""
        raise WireError(
            "the stream is in Amazon's binary form, which is not read: leave out stream=, deltas= and on_delta=, and "
            "ask for at most 21,333 max_tokens",
            rule="S11.3",
        )


def body_of(response: httpx2.Response, *, is_streamed: bool, patience: float | None) -> Body:
    """What reads an answer with status 2xx; a gateway may give a whole reply where a stream was asked.

    Params: `is_streamed` whether one was asked; `patience` in seconds, None for no limit.
    """
    content_type = response.headers.get("content-type", "")
    if "amazon.eventstream" in content_type:
        return BinaryBody(content_type, patience)
    is_whole = not is_streamed or any(kind in content_type.lower() for kind in ("json", "html"))
    return (Body if is_whole else StreamBody)(content_type, patience)
