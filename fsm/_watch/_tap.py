"""What came of a request: read from the response, without taking a byte from the caller."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any

from fsm._errors import ApiError, WireError
from fsm._events import Failed
from fsm._wire import (
    StreamError,
    StreamReader,
    failed_from_response,
    failed_from_stream,
    failed_malformed,
    read_message,
)

from ._watcher import Pending, Watcher

__all__ = ["Tap", "received", "unanswered"]

_LAST = b"message_stop"
_LONGEST = 64 * 1024 * 1024  # bytes of a whole body that are read along
_ERROR_FROM = 400


def unanswered(watcher: Watcher, pending: Pending, error: Exception) -> None:
    """The attempt ended without a response. What is no failure of the connection is none of ours."""
    import anthropic

    if isinstance(error, anthropic.APIConnectionError):  # a timeout is one too (E19)
        watcher.failed(pending, Failed(time.time(), "connection_error", str(error)))


def received(watcher: Watcher, pending: Pending, response: Any) -> None:
    """A response came: read it now, or while the caller reads it.

    Raises:
        LoopFinding: the watcher was told to.
    """
    tap: Tap | None = None
    with watcher.safely():
        http = response.http_response
        content = _content_of(http)
        status, headers = http.status_code, http.headers
        tap = Tap(watcher, pending, str(headers.get("content-type", "")), headers.get("request-id"))
        if status >= _ERROR_FROM:  # the body of an error that is a stream is left to the SDK
            tap.outcome = failed_from_response(status, headers, content or b"", at=time.time(), draw=0.5)
        elif content is None:
            _along(http, tap)
        else:
            tap.feed(content)
            tap.end()
    if tap is not None:
        tap.tell()


def _content_of(http: Any) -> bytes | None:
    """The body, if it was read already."""
    import httpx2

    try:
        content: bytes = http.content
    except httpx2.ResponseNotRead:
        return None
    return content


def _along(http: Any, tap: Tap) -> None:
    """Let the tap see each piece of the decoded body that the caller takes; the SDK reads streams this way too."""
    pieces, async_pieces = http.iter_bytes, http.aiter_bytes
    close, aclose = http.close, http.aclose

    def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
        with closing(pieces(chunk_size)) as chunks:
            try:
                for chunk in chunks:
                    tap.see(chunk)
                    yield chunk
                    tap.tell_error()
            except Exception:
                tap.lost()
                raise
        tap.see_end()
        tap.tell_error()

    async def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        async with aclosing(async_pieces(chunk_size)) as chunks:
            try:
                async for chunk in chunks:
                    tap.see(chunk)
                    yield chunk
                    tap.tell_error()
            except Exception:
                tap.lost()
                raise
        tap.see_end()
        tap.tell_error()

    def closed() -> None:
        tap.watcher.given_up(tap.pending)
        close()

    async def aclosed() -> None:
        tap.watcher.given_up(tap.pending)
        await aclose()

    http.iter_bytes, http.aiter_bytes = iter_bytes, aiter_bytes
    http.close, http.aclose = closed, aclosed


class Tap:
    """Reads one body, in pieces, and tells the watcher once what it was."""

    def __init__(self, watcher: Watcher, pending: Pending, content_type: str, request_id: str | None) -> None:
        self.watcher, self.pending, self.content_type, self.request_id = watcher, pending, content_type, request_id
        self.outcome: dict[str, Any] | Failed | None = None
        self._stream = StreamReader() if content_type.lower().startswith("text/event-stream") else None
        self._parts: list[bytes] = []
        self._size = 0
        self._tail = b""
        self._is_told = False
        self._error: Exception | None = None

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the body."""
        if self.outcome is not None:
            return
        if self._stream is None:
            self._size += len(chunk)
            if self._size <= _LONGEST:
                self._parts.append(chunk)
            return
        try:
            self._stream.feed(chunk)
            # Many callers stop reading at message_stop, so the end of the body may never be seen.
            is_last, self._tail = _LAST in self._tail + chunk, chunk[-len(_LAST) :]
            if is_last:
                self._finish()
        except ApiError as error:
            self.outcome = self._failed(error)

    def end(self) -> None:
        """The body is complete."""
        if self.outcome is not None or self._size > _LONGEST:
            return
        try:
            if self._stream is None:
                self.outcome = read_message(b"".join(self._parts), self.content_type).message
            else:
                self.outcome = self._stream.finish().message
        except ApiError as error:
            self.outcome = self._failed(error)

    def _finish(self) -> None:
        if self._stream is None:
            return
        try:
            self.outcome = self._stream.finish().message
        except WireError as error:
            if error.rule != "G20":  # the words stood in a text; the message goes on
                raise

    def _failed(self, error: ApiError) -> Failed:
        now = time.time()
        if isinstance(error, StreamError):
            return failed_from_stream(error, at=now, draw=0.5, request_id=self.request_id)
        wire = error if isinstance(error, WireError) else WireError(str(error), rule="S11.3")
        return failed_malformed(wire, at=now, draw=0.5, request_id=self.request_id)

    # ── inside the caller's reading: nothing but what the user asked for may be raised ──────────────────────────────

    def see(self, chunk: bytes) -> None:
        """Take a piece; what it completes is told, an exception of the telling waits for `tell_error`."""
        self._safely(self.feed, chunk)

    def see_end(self) -> None:
        """The body is complete."""
        self._safely(self.end)

    def lost(self) -> None:
        """The connection broke while the caller read."""
        if self.outcome is None and not self._is_told:
            event = "connection_error" if self._stream is None else "cut_stream"
            lost = Failed(time.time(), event, "the connection was lost", request_id=self.request_id)
            self._safely(setattr, self, "outcome", lost)

    def _safely(self, step: Any, *given: Any) -> None:
        with self.watcher.safely():
            step(*given)
        try:
            self.tell()
        except Exception as error:  # noqa: BLE001  # raised to the caller when it has the piece
            self._error = error

    def tell(self) -> None:
        """Tell the watcher, once.

        Raises:
            LoopFinding: the watcher was told to.
        """
        if self._is_told or self.outcome is None:
            return
        self._is_told = True
        if isinstance(self.outcome, Failed):
            self.watcher.failed(self.pending, self.outcome)
        else:
            self.watcher.replied(self.pending, self.outcome, self.request_id)

    def tell_error(self) -> None:
        """Raise what telling raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error
