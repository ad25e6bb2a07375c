"""What is between here and the API, over real sockets: N6 garbage, N8 broken connections, and where the key may go.

Every case ends in an event of the alphabet, with words that say what to do; no other exception comes out, sync or
async, streamed or not. The servers are on loopback and answer one request a connection with the bytes they are given.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
from collections.abc import Callable
from itertools import product
from typing import Any, Self

import anthropic
import pytest
from _driving import MODEL, Clock, Plain, events_of

from fsm import Workflow, arun, run
from fsm._alphabet import ALPHABET, ERROR_CODES, Group
from fsm.testing import Emulator, replies

MODES = tuple(product((False, True), (False, True)))  # async?, streamed?
KEY = "canary-key-9a8b7c6d"


class Wire:
    """A loopback server that answers each connection with the same bytes, and keeps what was sent to it."""

    def __init__(self, answer: bytes | Callable[[bytes], bytes]) -> None:
        self.answer = answer
        self.received: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, name="wire")
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5.0)
                try:
                    request = _request(connection)
                    self.received.append(request)
                    connection.sendall(self.answer(request) if callable(self.answer) else self.answer)
                except OSError:
                    continue

    def close(self) -> None:
        """Stop; the thread has ended when this returns."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _request(connection: socket.socket) -> bytes:
    """One request, its body as long as its header says; of what is no HTTP, the first piece."""
    data = connection.recv(65_536)
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return data
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65_536)
    return head + found + body


def http(status: str, body: bytes = b"", kind: str = "application/json", **headers: str) -> bytes:
    """An answer, byte for byte."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def client_of(base_url: str, *, is_async: bool, proxy: str | None = None, **options: Any) -> Any:
    """A real client with the SDK's own transport, which follows redirects; it asks no proxy of the environment."""
    given: dict[str, Any] = {"api_key": KEY, "base_url": base_url, **options}
    if is_async:
        return anthropic.AsyncAnthropic(
            http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False, proxy=proxy), **given
        )
    return anthropic.Anthropic(http_client=anthropic.DefaultHttpxClient(trust_env=False, proxy=proxy), **given)


def ran(client: Any, *, is_async: bool, workflow: type[Workflow] = Plain, **options: Any) -> tuple[Any, Clock]:
    """Run with this client on a virtual clock."""
    clock = Clock()
    options = {"clock": clock, "sleep": clock.sleep, **options}
    if not is_async:
        with client:
            return run(workflow, "Hi.", client=client, **options), clock

    async def main() -> Any:
        async with client:
            return await arun(workflow, "Hi.", client=client, **options)

    return asyncio.run(main()), clock


def assert_told(result: Any, event: str, *words: str) -> None:
    """It ended in this event, or stands still because of it, and the verdict says what happened and what to do."""
    assert set(events_of(result.records)) == {event}, result.verdict
    if ALPHABET[event].group is Group.RETRYABLE:
        assert (result.state, result.verdict.reason) == ("asking", "waiting_api")
        assert result.verdict.evidence["retry_at"]
    else:
        assert (result.state, result.verdict.reason) == ("failed", event)
    told = str(result.verdict)
    assert "what to do: " in told
    for word in words:
        assert word in told, told
    left = told + repr(result.verdict) + repr(result.records) + json.dumps([dict(r.data) for r in result.records])
    assert KEY not in left


# ── N6: garbage with status 200 ──────────────────────────────────────────────────────────────────────────────────────

PAGE = b"<!doctype html><html><title>Sign in</title><body>Please sign in to the network.</body></html>"
ERROR = json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}).encode()
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn",
    "stop_sequence": None, "content": [{"type": "text", "text": "Hello."}],
    "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip
WHOLE = json.dumps(MESSAGE).encode()

# What comes, and what it says where no stream was asked for, and where one was.
GARBAGE: dict[str, tuple[bytes, str, str]] = {
    "not UTF-8": (http("200 OK", b'{"type":"\xff\xfe"}'), "malformed", "malformed"),
    "invalid JSON": (http("200 OK", b'{"type": "message",'), "malformed", "malformed"),
    "HTML as JSON": (http("200 OK", PAGE), "malformed", "malformed"),
    "HTML": (http("200 OK", PAGE, "text/html; charset=utf-8"), "malformed", "malformed"),
    "HTML as a stream": (http("200 OK", PAGE, "text/event-stream"), "malformed", "cut_stream"),
    "nothing": (http("200 OK"), "malformed", "malformed"),
    "204": (b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", "malformed", "cut_stream"),
    "an empty object": (http("200 OK", b"{}"), "malformed", "malformed"),
    "an array": (http("200 OK", b"[1, 2]"), "malformed", "malformed"),
    "an error body": (http("200 OK", ERROR), "malformed", "malformed"),
    "plain text": (http("200 OK", b"OK", "text/plain"), "malformed", "cut_stream"),
    "binary": (http("200 OK", bytes(range(256)) * 8, "application/octet-stream"), "malformed", "cut_stream"),
    "not what its encoding says": (
        http("200 OK", WHOLE, content_encoding="gzip"),
        "connection_error",
        "connection_error",
    ),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_n6_garbage_is_a_named_event(name: str) -> None:
    answer, plain, streamed = GARBAGE[name]
    with Wire(answer) as wire:
        for is_async, stream in MODES:
            result, _ = ran(client_of(wire.url, is_async=is_async), is_async=is_async, stream=stream)
            assert_told(result, streamed if stream else plain)
            assert result.verdict.evidence["message"]


def test_n6_a_message_of_the_wrong_content_type_is_a_message() -> None:
    """The bytes count: only a page calls itself HTML."""
    for kind in ("text/plain", "application/octet-stream", "application/vnd.api+json"):
        with Wire(http("200 OK", WHOLE, kind)) as wire:
            for is_async in (False, True):
                result, _ = ran(client_of(wire.url, is_async=is_async), is_async=is_async)
                assert result.text == "Hello."


def test_n6_what_is_packed_is_unpacked() -> None:
    with Wire(http("200 OK", gzip.compress(WHOLE), content_encoding="gzip")) as wire:
        for is_async in (False, True):
            result, _ = ran(client_of(wire.url, is_async=is_async), is_async=is_async)
            assert result.text == "Hello."


def test_n6_a_gzip_bomb_is_not_unpacked() -> None:
    """X9: 200 kB that would be 200 MB. It is given up on the way, and its event says why."""
    import tracemalloc

    bomb = gzip.compress(b'{"type":"message","x":"' + b"0" * 200_000_000)
    assert len(bomb) < 250_000
    with Wire(http("200 OK", bomb, content_encoding="gzip")) as wire:
        for is_async, stream in MODES:
            client = client_of(wire.url, is_async=is_async)
            tracemalloc.start()
            try:
                result, _ = ran(client, is_async=is_async, stream=stream)
                _, most = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert_told(result, "malformed", "larger" if stream else "")
            assert most < 150_000_000


def test_n6_a_packed_error_page_is_shortened() -> None:
    """The SDK unpacks the body of an error by itself, whole; what is kept of it is short."""
    page = gzip.compress(b"<h1>busy</h1>" + b"x" * 10_000_000)
    with Wire(http("503 Service Unavailable", page, "text/html", content_encoding="gzip")) as wire:
        for is_async, stream in MODES:
            result, _ = ran(client_of(wire.url, is_async=is_async), is_async=is_async, stream=stream)
            assert_told(result, "api_error", "HTTP 503", "busy")
            assert len(result.verdict.evidence["message"]) < 1000


# ── N6: redirects ────────────────────────────────────────────────────────────────────────────────────────────────────


def _passes(request: Any, call_next: Any) -> Any:
    return call_next(request)


async def _passes_async(request: Any, call_next: Any) -> Any:
    return await call_next(request)


class Own(anthropic.Anthropic):
    """A user's subclass."""


class AsyncOwn(anthropic.AsyncAnthropic):
    """A user's async subclass."""


@pytest.mark.parametrize(
    "status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]
)
def test_n6_a_redirect_is_not_followed_so_the_key_goes_nowhere_else(status: str) -> None:
    """The SDK's own transport follows it, with `x-api-key` in its hand."""
    credentials: tuple[dict[str, Any], ...] = ({}, {"api_key": None, "auth_token": KEY})
    with Wire(http("200 OK", WHOLE)) as thief:
        there = thief.url.replace("127.0.0.1", "localhost") + "/v1/messages?secret=1"
        with Wire(http(status, location=there)) as wire:
            for (is_async, stream), given in product(MODES, credentials):
                passes = _passes_async if is_async else _passes
                for extra in ({}, {"middleware": [passes]}):
                    client = client_of(wire.url, is_async=is_async, **given, **extra)
                    result, clock = ran(client, is_async=is_async, stream=stream)
                    assert_told(result, "malformed", "base_url", f"localhost:{thief.port}", status[:3])
                    assert "secret=1" not in str(result.verdict)
                    assert clock.slept == []
            own: Any = {"api_key": KEY, "base_url": wire.url, "max_retries": 0}
            result, _ = ran(Own(http_client=anthropic.DefaultHttpxClient(trust_env=False), **own), is_async=False)
            assert_told(result, "malformed", "base_url")
            client = AsyncOwn(http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False), **own)
            result, _ = ran(client, is_async=True)
            assert_told(result, "malformed", "base_url")
            assert len(wire.received) == 18
        assert thief.received == []


def test_n6_the_sdk_alone_would_have_sent_the_conversation_and_the_headers() -> None:
    """Why it is switched off: if this fails, the SDK has changed, and the guard can go."""
    with Wire(http("200 OK", WHOLE)) as thief, Wire(http("307 Temporary Redirect", location=thief.url)) as wire:
        client = client_of(wire.url, is_async=False, max_retries=0, default_headers={"X-Gateway": KEY})
        with client:
            client.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Our secret."}])
    assert b"Our secret." in thief.received[0]
    assert f"X-Gateway: {KEY}".encode() in thief.received[0]


# ── N8: no connection ────────────────────────────────────────────────────────────────────────────────────────────────


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that knows no name, as on a machine without a network."""
    known = socket.getaddrinfo

    def lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host in {"nobody.invalid", b"nobody.invalid"}:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


@pytest.mark.usefixtures("no_names")
def test_n8_a_name_that_is_not_found() -> None:
    for is_async, stream in MODES:
        client = client_of("http://nobody.invalid", is_async=is_async)
        result, clock = ran(client, is_async=is_async, stream=stream)
        assert_told(result, "connection_error", "nobody.invalid", ERROR_CODES["dns_failure"])
        assert len(clock.slept) == 6


def test_n8_a_port_where_nobody_listens() -> None:
    port = closed_port()
    for is_async, stream in MODES:
        result, clock = ran(client_of(f"http://127.0.0.1:{port}", is_async=is_async), is_async=is_async, stream=stream)
        assert_told(result, "connection_error", f"127.0.0.1:{port}", ERROR_CODES["connection_refused"])
        assert len(clock.slept) == 6


def test_n8_a_server_that_speaks_no_tls() -> None:
    """The base URL says https, and plain HTTP answers."""
    with Wire(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n") as wire:
        for is_async, stream in MODES:
            client = client_of(wire.url.replace("http:", "https:"), is_async=is_async)
            result, clock = ran(client, is_async=is_async, stream=stream)
            assert_told(result, "connection_error", "SSL", ERROR_CODES["tls_error"])
            assert len(clock.slept) == 6
        assert not any(KEY.encode() in data for data in wire.received)


def test_n8_a_server_that_closes_without_a_word() -> None:
    for answer in (b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"\x00\x01garbage\r\n\r\n"):
        with Wire(answer) as wire:
            for is_async, stream in MODES:
                result, _ = ran(client_of(wire.url, is_async=is_async), is_async=is_async, stream=stream)
                assert_told(result, "connection_error", "RemoteProtocolError")


@pytest.mark.parametrize(
    ("status", "event"), [("502 Bad Gateway", "api_error"), ("504 Gateway Time-out", "timeout_error")]
)
def test_n8_a_proxy_that_answers_with_a_page(status: str, event: str) -> None:
    page = f"<html><head><title>{status}</title></head><body><center>nginx {KEY}</center></body></html>".encode()
    with Wire(http(status, page, "text/html")) as proxy:
        for is_async, stream in MODES:
            client = client_of("http://api.invalid", is_async=is_async, proxy=proxy.url)
            result, clock = ran(client, is_async=is_async, stream=stream)
            assert_told(result, event, f"HTTP {status[:3]}", "nginx [redacted]")
            assert len(clock.slept) == 6
            # the same proxy in front of https answers CONNECT, and the request itself is never sent
            client = client_of("https://api.invalid", is_async=is_async, proxy=proxy.url)
            result, _ = ran(client, is_async=is_async, stream=stream)
            assert_told(result, "connection_error", "ProxyError", status[:3])
        assert not any(KEY.encode() in data for data in proxy.received if data.startswith(b"CONNECT"))


@pytest.mark.parametrize("url", ["api.example.com", "ftp://127.0.0.1"])
def test_n8_an_address_that_is_none_is_not_tried_again(url: str) -> None:
    for is_async, stream in MODES:
        result, clock = ran(client_of(url, is_async=is_async), is_async=is_async, stream=stream)
        assert_told(result, "invalid_request_error", ERROR_CODES["bad_url"])
        assert clock.slept == []


@pytest.mark.parametrize("host", ["a" * 80 + ".invalid", "a..b"])
def test_n8_a_host_that_cannot_be_one_is_a_named_event(host: str) -> None:
    """Sync and async resolvers disagree about who says so: one raises a bare `UnicodeError`."""
    for is_async, stream in MODES:
        result, _ = ran(client_of(f"http://{host}", is_async=is_async), is_async=is_async, stream=stream)
        assert result.verdict.reason in {"invalid_request_error", "waiting_api"}
        assert result.verdict.evidence["code"] in {"bad_url", "dns_failure"}
        assert result.verdict.evidence["todo"]


def test_x7_a_key_with_a_line_break_is_one_clear_message_without_the_key() -> None:
    """The commonest broken key: read from a file, with its line break. Nothing leaves, nothing is sent again."""
    with Wire(http("200 OK", WHOLE)) as wire:
        for (is_async, stream), end in product(MODES, ("\n", "\r\n")):
            client = client_of(wire.url, is_async=is_async, api_key=KEY + end)
            result, clock = ran(client, is_async=is_async, stream=stream)
            assert_told(result, "invalid_request_error", ERROR_CODES["bad_header"])
            assert clock.slept == []
        assert not any(wire.received)


def test_a_connection_that_comes_back_is_used() -> None:
    """Two refusals by the machine itself, then the real thing: one run, its end reached, the same bytes."""
    emulator = Emulator([replies.text("Hello.")])

    def answer(request: bytes) -> bytes:
        if len(wire.received) < 3:
            return b""
        head, _, body = request.partition(b"\r\n\r\n")
        lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
        given = emulator.answer("POST", "/v1/messages", {name: value for name, _, value in lines}, body)
        return http("200 OK", b"".join(given.chunks))

    with Wire(answer) as wire:
        result, clock = ran(client_of(wire.url, is_async=False), is_async=False)
    assert events_of(result.records) == ["connection_error", "connection_error", "end_turn"]
    assert len(clock.slept) == 2
    assert len({data.partition(b"\r\n\r\n")[2] for data in wire.received}) == 1
