"""The emulator as `httpx2` transports: the SDK runs unchanged, and no socket is opened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TypeAlias

import httpx2

from fsm.testing._serving import PING, Answer

Answering: TypeAlias = Callable[[str, str, Mapping[str, str], bytes], Answer]  # `Emulator.answer`

_SILENT = "Server disconnected without sending a response."
_RESET = "[Errno 104] Connection reset by peer"
_LATE = "The read operation timed out"
_PINGS = 64  # of a stream that has nothing else
_LOST = "peer closed connection without sending complete message body (incomplete chunked read)"


class _Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """The chunks of an answer, and then what it ends with. Time is virtual: what never comes has timed out at once."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        yield from self._answer.chunks
        yield from self._rest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._answer.chunks:
            yield chunk
        for chunk in self._rest():
            yield chunk

    def _rest(self) -> Iterator[bytes]:
        ending = self._answer.ending
        if ending == "lost":
            raise httpx2.RemoteProtocolError(_LOST)
        if ending == "reset":
            raise httpx2.ReadError(_RESET)
        if ending == "pings":
            yield from [PING] * _PINGS
        if ending in {"stall", "pings"}:
            raise httpx2.ReadTimeout(_LATE)

    def close(self) -> None:
        self._answer.ended()

    async def aclose(self) -> None:
        self._answer.ended()


def _response(answer: Answer) -> httpx2.Response:
    if answer.silent:
        answer.ended()
        raise httpx2.ReadError(_RESET) if answer.ending == "reset" else httpx2.RemoteProtocolError(_SILENT)
    headers = list(answer.headers)
    if not answer.streamed:
        headers.append(("content-length", str(answer.length)))
    return httpx2.Response(answer.status, headers=headers, stream=_Body(answer))


class EmulatorTransport(httpx2.BaseTransport):
    """Hands requests of a `httpx2.Client` to an emulator."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request, after the emulator's latency."""
        raw = request.read()
        answer = self._answering(request.method, request.url.raw_path.decode(), request.headers, raw)
        if answer.delay > 0:
            time.sleep(answer.delay)
        return _response(answer)


class AsyncEmulatorTransport(httpx2.AsyncBaseTransport):
    """Hands requests of a `httpx2.AsyncClient` to an emulator."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request, after the emulator's latency, without blocking other tasks."""
        raw = await request.aread()
        answer = self._answering(request.method, request.url.raw_path.decode(), request.headers, raw)
        if answer.delay > 0:
            await asyncio.sleep(answer.delay)
        return _response(answer)
