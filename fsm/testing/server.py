"""The emulator behind real HTTP/1.1, on loopback only (V9, X3): what `fsm emulator` and `fsm demo` run."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import socketserver
import struct
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from fsm.testing import _serving
from fsm.testing._requests import MAX_BODY

if TYPE_CHECKING:
    from types import TracebackType

    import anthropic

    from fsm.testing._serving import Answer
    from fsm.testing.emulator import Emulator

_HOSTS = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "::1"}
# After the 413 so much of the body is read, and no longer than this, so that a client that is still sending reads the
# answer before the connection is reset.
_DRAINED, _PATIENCE = 2 * MAX_BODY, 1.0
_DIGITS = 18  # a longer Content-Length is too large whatever it says, and int() refuses to read very long ones
_PIECE = 65_536
_MISDIRECTED = 421
_LOOK = 0.05  # seconds between two looks whether a client that gets nothing has gone away
_LOG = logging.getLogger(__name__)


def serve(emulator: Emulator, host: str = "127.0.0.1", port: int = 0) -> Server:
    """Put an emulator behind HTTP on loopback.

    Params:
        emulator: what answers; several servers may share one.
        host: 127.0.0.1, localhost or ::1.
        port: 0 takes a free one.

    Returns:
        The running server: use it as a context manager, or call `close`.

    Raises:
        ValueError: the host is not loopback.
        OSError: the port is taken; choose another.
    """
    return Server(emulator, host, port)


class Server:
    """A running loopback server; `url` is what `anthropic.Anthropic(base_url=...)` takes."""

    def __init__(self, emulator: Emulator, host: str = "127.0.0.1", port: int = 0) -> None:
        if host not in _HOSTS:
            raise ValueError(f"the emulator binds loopback only, not {host!r}: use 127.0.0.1, localhost or ::1")
        family = socket.AF_INET6 if host == "::1" else socket.AF_INET
        self._http = _HTTPServer(emulator, _HOSTS[host], port, family)
        shown = "[::1]" if host == "::1" else "127.0.0.1"
        self.port: int = self._http.port
        self.url = f"http://{shown}:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="fsm-emulator")
        self._closed = threading.Event()
        self._thread.start()

    def client(self, **options: Any) -> anthropic.Anthropic:
        """A real SDK client that talks to this server over HTTP; close it, or use it with `with`.

        Proxies of the environment are not asked: they cannot reach loopback. `options` go to `anthropic.Anthropic`.
        """
        import anthropic
        import httpx2

        http = {} if "http_client" in options else {"http_client": httpx2.Client(trust_env=False)}
        given: dict[str, Any] = {"api_key": "test-key", "base_url": self.url, "max_retries": 0}
        return anthropic.Anthropic(**(given | http | options))

    def wait(self, seconds: float | None = None) -> bool:
        """Block until the server is closed, at most `seconds`; returns whether it is."""
        return self._closed.wait(seconds)

    def close(self) -> None:
        """Stop: no thread, connection or socket is left when this returns. Closing again does nothing."""
        if self._closed.is_set():
            return
        self._http.shutdown()
        self._thread.join()
        self._http.drop_connections()
        self._http.server_close()
        self._closed.set()

    def __enter__(self) -> Self:
        """The server itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True

    def __init__(self, emulator: Emulator, host: str, port: int, family: int) -> None:
        self.address_family = family
        self.emulator = emulator
        self.closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__((host, port), _Handler)
        self.port = int(self.server_address[1])
        self.allowed_hosts = frozenset(f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]"))

    def server_bind(self) -> None:
        # Not HTTPServer's own, which asks the resolver for the machine's name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", int(self.server_address[1])

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        try:
            if not self.closing.is_set():
                super().process_request_thread(request, client_address)
            else:
                self.shutdown_request(request)
        finally:
            with self._open_lock:
                self._open.discard(request)

    def drop_connections(self) -> None:
        """Wake the threads that wait on a kept-alive connection."""
        self.closing.set()
        with self._open_lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # the base class's signature
        """Say nothing of a client that went away; anything else is our own fault and must be seen."""
        if not isinstance(sys.exception(), OSError):
            _LOG.exception("the emulator could not answer %s", client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fsm-emulator"
    sys_version = ""
    disable_nagle_algorithm = True
    timeout = 120
    server: _HTTPServer

    def do_POST(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_PATCH(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def do_OPTIONS(self) -> None:
        self._handle()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What cannot be read as HTTP, and methods that nobody knows, in the API's envelope."""
        del explain
        self.request_version = "HTTP/1.1"  # else a line that is no HTTP is taken for HTTP/0.9, which has no headers
        is_unknown = code == HTTPStatus.NOT_IMPLEMENTED
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED if is_unknown else code, message or HTTPStatus(code).phrase)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the emulator keeps every request itself."""

    def _handle(self) -> None:
        # A rebound page is same-origin and sends no Origin, so Host is the only evidence (X3).
        hosts = self.headers.get_all("host") or []
        if len(hosts) != 1 or hosts[0].strip().lower() not in self.server.allowed_hosts:
            self._refuse(_MISDIRECTED, "The Host header does not name this server")
            return
        origins = self.headers.get_all("origin") or []
        if any(origin.strip().lower() != f"http://{hosts[0].strip().lower()}" for origin in origins):
            self._refuse(HTTPStatus.FORBIDDEN, "Requests from web pages of another origin are refused")
            return
        raw = self._read_body()
        if raw is None:
            return
        answer = self.server.emulator.answer(self.command, self.path, dict(self.headers.items()), raw)
        try:
            if answer.delay > 0 and self.server.closing.wait(answer.delay):
                self.close_connection = True
                return
            self._write(answer)
        finally:
            answer.ended()

    def _read_body(self) -> bytes | None:
        lengths = self.headers.get_all("content-length") or []
        if self.headers.get("transfer-encoding") is not None:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "Send the body with a Content-Length")
            return None
        if not lengths:
            return b""
        if len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
            self._refuse(HTTPStatus.BAD_REQUEST, "The Content-Length header is not a number")
            return None
        digits = lengths[0].lstrip("0") or "0"
        if len(digits) > _DIGITS or int(digits) > MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Request exceeds the maximum size")
            self._drain()
            return None
        length = int(digits)
        raw = self.rfile.read(length)
        if len(raw) < length:
            self.close_connection = True
            return None
        return raw

    def _drain(self) -> None:
        """Read on for a while and throw it away; the client has its answer."""
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_PATIENCE)
            left = _DRAINED
            while left > 0 and (piece := self.rfile.read1(_PIECE)):
                left -= len(piece)

    def _refuse(self, status: int, problem: str) -> None:
        """Answer before the emulator sees the request; the connection cannot be used again."""
        kind = "permission_error" if status == HTTPStatus.FORBIDDEN else _serving.error_type(status)
        answer = _serving.error_answer(status, {"type": kind, "message": problem}, "req_0100000000000000000000")
        self.close_connection = True
        self._write(answer)

    def _write(self, answer: Answer) -> None:
        if answer.silent:
            self.close_connection = True
            if answer.ending == "reset":
                self._reset()
            return
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.streamed:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(answer.length))
        if answer.ending != "end":
            self.close_connection = True
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        for number, chunk in enumerate(answer.chunks):
            if number and answer.pace > 0 and self.server.closing.wait(answer.pace):
                self.close_connection = True
                return
            self._send(chunk, streamed=answer.streamed)
        self._end(answer)

    def _send(self, chunk: bytes, *, streamed: bool) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk) if streamed else chunk)

    def _end(self, answer: Answer) -> None:
        """What comes after the last chunk."""
        if answer.ending == "end" and answer.streamed:
            self.wfile.write(b"0\r\n\r\n")
        elif answer.ending == "reset":
            self._reset()
        elif answer.ending in {"stall", "pings"}:
            while not self._is_left(_LOOK):
                if answer.ending == "pings":
                    self._send(_serving.PING, streamed=True)

    def _is_left(self, seconds: float) -> bool:
        """Wait; whether the client has gone away, or the server closes."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        return bool(readable) or self.server.closing.is_set()

    def _reset(self) -> None:
        """Close with RST: nothing lingers, and what the client has not read yet may be lost to it."""
        own = socket.socket(fileno=self.connection.detach())
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        own.close()
