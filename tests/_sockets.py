"""Servers on real sockets that answer as they are told: what the tests of streams share."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anthropic
import httpx2
from _driving import MODEL

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_1\r\n"
    b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
)
Handler = Callable[[socket.socket, int], None]


def _received(connection: socket.socket, is_enough: Callable[[bytes], bool]) -> bytes:
    got = b""
    while not is_enough(got):
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionError  # the client went away before it had asked
        got += piece
    return got


class Server:
    """One thread a connection; `handler(connection, number)` answers the request of this number, then it is closed."""

    def __init__(self, handler: Handler) -> None:
        self.handler, self.closing = handler, threading.Event()
        self.bodies: list[bytes] = []
        self.lock = threading.Lock()
        self.threads: list[threading.Thread] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.accepting = threading.Thread(target=self._accept)
        self.accepting.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            if self.closing.is_set():
                connection.close()
                return
            connection.settimeout(20)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionError):
            head, _, body = _received(connection, lambda got: b"\r\n\r\n" in got).partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body += _received(connection, lambda got: len(body) + len(got) >= length)
            with self.lock:
                self.bodies.append(body)
                number = len(self.bodies) - 1
            self.handler(connection, number)

    def close(self) -> None:
        self.closing.set()
        with suppress(OSError):
            socket.create_connection(self.listener.getsockname()).close()
        self.accepting.join(20)
        for thread in self.threads:
            thread.join(20)
        self.listener.close()


@contextmanager
def serving(handler: Handler) -> Iterator[Server]:
    server = Server(handler)
    try:
        yield server
    finally:
        server.close()


def client_of(server: Server, read: float | None = 20.0) -> anthropic.Anthropic:
    options: Any = {"api_key": "k", "base_url": server.url, "timeout": httpx2.Timeout(20, read=read)}
    return anthropic.Anthropic(**options, http_client=httpx2.Client(trust_env=False))


def async_client_of(server: Server, read: float | None = 20.0) -> anthropic.AsyncAnthropic:
    options: Any = {"api_key": "k", "base_url": server.url, "timeout": httpx2.Timeout(20, read=read)}
    return anthropic.AsyncAnthropic(**options, http_client=httpx2.AsyncClient(trust_env=False))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST = b"0\r\n\r\n"


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind} | fields, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def stream_of(stop_reason: str, *blocks: tuple[dict[str, Any], list[dict[str, Any]]]) -> list[bytes]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [], "usage": {}}
    events = [event("message_start", message=message | {"stop_reason": None, "stop_sequence": None})]
    for index, (block, deltas) in enumerate(blocks):
        events.append(event("content_block_start", index=index, content_block=block))
        events += [event("content_block_delta", index=index, delta=delta) for delta in deltas]
        events.append(event("content_block_stop", index=index))
    events.append(event("message_delta", delta={"stop_reason": stop_reason}, usage={"output_tokens": 9}))
    return [*events, event("message_stop")]


def text_block(*pieces: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]


def call_block(number: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    pieces = ["", '{"number":', f' "{number}"}}']
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return {"type": "tool_use", "id": "toolu_1", "name": "note", "input": {}}, deltas


CALL = b"".join(stream_of("tool_use", text_block("Ich sehe ", "nach 😀."), call_block("7")))
DONE = b"".join(stream_of("end_turn", text_block("do", "ne")))
PING = event("ping")
WHOLE_HEAD = HEAD.replace(b"text/event-stream", b"application/json")
WHOLE = json.dumps(
    {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "usage": {}, "stop_reason": "end_turn"}
    | {"content": [{"type": "text", "text": "done"}]}
).encode()


def until_gone(connection: socket.socket) -> None:
    with suppress(OSError):
        while connection.recv(4096):
            pass


class Halves:
    """Sends all up to the first text, and the rest only when the consumer has seen that."""

    def __init__(self) -> None:
        self.seen = threading.Event()
        self.gone = threading.Event()

    def __call__(self, connection: socket.socket, number: int) -> None:
        at = DONE.index(b"event: content_block_delta", DONE.index(b"event: content_block_delta") + 1)
        connection.sendall(HEAD + chunk(DONE[:at]))
        if self.seen.wait(15):
            connection.sendall(chunk(DONE[at:]) + LAST)
        until_gone(connection)
        self.gone.set()
